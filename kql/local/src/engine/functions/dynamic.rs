//! Values of type `dynamic`: paths, arrays and property bags. Pure; paths and `in (dynamic([..]))` come from the expression binder, the rest by name.

use std::borrow::Cow;

use kql::types::ScalarType;
use serde_json::{Map, Value};

use super::{
    Call,
    conversion::{as_dynamic, to_string},
};
use crate::{
    engine::{
        expression::Binder,
        json::{self, Step},
        kernel::{self, Cells},
        scalar::Scalar,
    },
    error::KustoError,
};

pub(crate) const NAMES: &[&str] = &[
    "array_concat",
    "array_index_of",
    "array_length",
    "array_reverse",
    "array_slice",
    "array_strcat",
    "array_sum",
    "bag_has_key",
    "bag_keys",
    "bag_merge",
    "bag_pack",
    "bag_remove_keys",
    "dynamic_to_json",
    "pack",
    "pack_array",
    "pack_dictionary",
    "range",
    "set_difference",
    "set_equals",
    "set_has_element",
    "set_intersect",
    "set_union",
    "strcat_array",
];

/// The value at the end of a path.
pub(crate) fn follow(binder: &Binder<'_>, base: &Scalar, steps: Vec<Step>) -> Result<Scalar, KustoError> {
    if steps.is_empty() {
        return Ok(base.clone());
    }
    if base.scalar_type != ScalarType::Dynamic {
        return Err(KustoError::semantic(
            "SEM0100",
            format!("A value of type {} has no members; only a dynamic value has", base.scalar_type),
        ));
    }
    let followed = kernel::text(format!("path {steps:?}"), ScalarType::Dynamic, &[base], move |cells, row| {
        json::follow(cells.json(0, row)?, &steps).map(Cow::Borrowed)
    });
    binder.planner.fold(followed)
}

/// The step of a constant index; `None` if it is not constant.
pub(crate) fn constant_step(index: &Scalar) -> Option<Step> {
    match index.scalar_type {
        ScalarType::String => Some(Step::Member(index.constant_text()?.to_owned())),
        ScalarType::Int | ScalarType::Long => index.constant_long().map(Step::Index),
        _ => None,
    }
}

/// `target[index]` with an index that is computed.
pub(crate) fn index(target: &Scalar, index: &Scalar) -> Result<Scalar, KustoError> {
    if target.scalar_type != ScalarType::Dynamic {
        return Err(KustoError::semantic(
            "SEM0100",
            format!("A value of type {} has no elements; only a dynamic value has", target.scalar_type),
        ));
    }
    match index.scalar_type {
        ScalarType::String => Ok(kernel::text("member", ScalarType::Dynamic, &[target, index], |cells, row| {
            json::follow(cells.json(0, row)?, &[Step::Member(cells.text(1, row).to_owned())]).map(Cow::Borrowed)
        })),
        ScalarType::Int | ScalarType::Long => {
            Ok(kernel::text("element", ScalarType::Dynamic, &[target, index], |cells, row| {
                json::follow(cells.json(0, row)?, &[Step::Index(cells.long(1, row)?)]).map(Cow::Borrowed)
            }))
        }
        ScalarType::Dynamic => {
            Ok(kernel::text("dynamic_index", ScalarType::Dynamic, &[target, index], |cells, row| {
                let key = cells.json(1, row)?;
                let step = match key.parse() {
                    Ok(position) => Step::Index(position),
                    Err(_) => Step::Member(json::to_text(key).into_owned()),
                };
                json::follow(cells.json(0, row)?, &[step]).map(Cow::Borrowed)
            }))
        }
        other => Err(KustoError::semantic("SEM0025", format!("A value of type {other} cannot be an index"))),
    }
}

/// The elements of a constant dynamic array, each with the type that its JSON shows; `None` for anything else.
pub(crate) fn constant_elements(value: &Scalar) -> Option<Vec<Scalar>> {
    if value.scalar_type != ScalarType::Dynamic {
        return None;
    }
    let elements = json::elements(value.constant_text()?)?;
    Some(
        elements
            .into_iter()
            .map(|element| match serde_json::from_str::<Value>(element) {
                Ok(Value::String(text)) => Scalar::string(text),
                Ok(Value::Bool(value)) => Scalar::boolean(value),
                Ok(Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
                    (Some(whole), _) => Scalar::long(whole),
                    (None, Some(real)) => Scalar::real(real),
                    (None, None) => Scalar::null(ScalarType::Dynamic),
                },
                Ok(Value::Null) | Err(_) => Scalar::null(ScalarType::Dynamic),
                Ok(_) => Scalar::string(element),
            })
            .collect(),
    )
}

pub(crate) fn call(call: &Call<'_>) -> Result<Scalar, KustoError> {
    match call.name {
        "array_length" => {
            call.arity(1, 1)?;
            Ok(kernel::long(call.name, ScalarType::Long, &[&call.dynamic(0)?], |cells, row| {
                i64::try_from(json::elements(cells.json(0, row)?)?.len()).ok()
            }))
        }
        "array_concat" | "set_union" | "set_intersect" | "set_difference" => {
            call.arity(if call.name == "array_concat" { 1 } else { 2 }, 64)?;
            sets(call)
        }
        "set_equals" => {
            call.arity(2, 2)?;
            Ok(kernel::boolean(call.name, &[&call.dynamic(0)?, &call.dynamic(1)?], |cells, row| {
                let (left, right) = (array(cells, 0, row)?, array(cells, 1, row)?);
                Some(left.iter().all(|item| right.contains(item)) && right.iter().all(|item| left.contains(item)))
            }))
        }
        "set_has_element" | "array_index_of" => {
            call.arity(2, 2)?;
            element_search(call)
        }
        "array_slice" => {
            call.arity(3, 3)?;
            slice(call)
        }
        "array_reverse" => {
            call.arity(1, 1)?;
            Ok(made(call.name, &[&call.dynamic(0)?], |cells, row| {
                let mut items = array(cells, 0, row)?;
                items.reverse();
                Some(Value::Array(items))
            }))
        }
        "array_sum" => {
            call.arity(1, 1)?;
            Ok(kernel::real(call.name, &[&call.dynamic(0)?], |cells, row| {
                array(cells, 0, row)?.iter().try_fold(0.0, |sum, item| Some(sum + item.as_f64()?))
            }))
        }
        "array_strcat" | "strcat_array" => {
            call.arity(2, 2)?;
            Ok(kernel::text(call.name, ScalarType::String, &[&call.dynamic(0)?, &call.any_text(1)?], |cells, row| {
                let items = json::elements(cells.json(0, row)?)?;
                let texts: Vec<Cow<'_, str>> = items
                    .into_iter()
                    .map(|item| if item == "null" { "".into() } else { json::to_text(item) })
                    .collect();
                Some(Cow::Owned(texts.join(cells.text(1, row))))
            }))
        }
        "bag_keys" => {
            call.arity(1, 1)?;
            Ok(made(call.name, &[&call.dynamic(0)?], |cells, row| {
                Some(bag(cells, 0, row)?.keys().map(|key| Value::from(key.as_str())).collect())
            }))
        }
        "bag_has_key" => {
            call.arity(2, 2)?;
            Ok(kernel::boolean(call.name, &[&call.dynamic(0)?, &call.text(1)?], |cells, row| {
                let (bag, key) = (bag(cells, 0, row)?, cells.text(1, row));
                Some(has_key(&bag, &json::members(key).unwrap_or_else(|| vec![key])))
            }))
        }
        "bag_merge" => {
            call.arity(2, 64)?;
            bag_merge(call)
        }
        "bag_remove_keys" => {
            call.arity(2, 2)?;
            Ok(made(call.name, &[&call.dynamic(0)?, &call.dynamic(1)?], |cells, row| {
                let mut bag = bag(cells, 0, row)?;
                for key in array(cells, 1, row)? {
                    if let Some(key) = key.as_str() {
                        remove_key(&mut bag, &json::members(key).unwrap_or_else(|| vec![key]));
                    }
                }
                Some(Value::Object(bag))
            }))
        }
        "dynamic_to_json" => {
            call.arity(1, 1)?;
            let argument = call.argument(0)?;
            if argument.scalar_type != ScalarType::Dynamic {
                return Ok(to_string(argument));
            }
            Ok(kernel::text(call.name, ScalarType::String, &[argument], |cells, row| {
                // Keys in order, so that equal values have equal texts.
                let mut value: Value = serde_json::from_str(cells.json(0, row)?).ok()?;
                value.sort_all_objects();
                Some(Cow::Owned(value.to_string()))
            }))
        }
        "pack_array" => {
            call.arity(1, usize::MAX)?;
            let items: Vec<Scalar> = call.arguments.iter().map(as_dynamic).collect();
            let references: Vec<&Scalar> = items.iter().collect();
            Ok(kernel::text(call.name, ScalarType::Dynamic, &references, |cells, row| {
                let items: Vec<&str> =
                    (0..cells.arguments()).map(|item| cells.json(item, row).unwrap_or("null")).collect();
                Some(Cow::Owned(format!("[{}]", items.join(","))))
            }))
        }
        "range" => {
            call.arity(2, 3)?;
            range(call)
        }
        _ => pack(call),
    }
}

/// A function that gives a JSON value.
fn made(
    name: &str,
    arguments: &[&Scalar],
    body: impl Fn(&Cells, usize) -> Option<Value> + Send + Sync + 'static,
) -> Scalar {
    kernel::text(name, ScalarType::Dynamic, arguments, move |cells, row| {
        body(cells, row).map(|value| Cow::Owned(value.to_string()))
    })
}

fn array(cells: &Cells, argument: usize, row: usize) -> Option<Vec<Value>> {
    match serde_json::from_str(cells.json(argument, row)?).ok()? {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn bag(cells: &Cells, argument: usize, row: usize) -> Option<Map<String, Value>> {
    match serde_json::from_str(cells.json(argument, row)?).ok()? {
        Value::Object(bag) => Some(bag),
        _ => None,
    }
}

/// Whether the bag has the key that lies at the end of these members.
fn has_key(mut bag: &Map<String, Value>, members: &[&str]) -> bool {
    for (at, member) in members.iter().enumerate() {
        match bag.get(*member) {
            Some(_) if at + 1 == members.len() => return true,
            Some(Value::Object(inner)) => bag = inner,
            _ => return false,
        }
    }
    false
}

/// Takes out the key that lies at the end of these members.
fn remove_key(mut bag: &mut Map<String, Value>, members: &[&str]) {
    let Some((last, outer)) = members.split_last() else { return };
    for member in outer {
        match bag.get_mut(*member) {
            Some(Value::Object(inner)) => bag = inner,
            _ => return,
        }
    }
    bag.shift_remove(*last);
}

fn dynamics(call: &Call<'_>) -> Result<Vec<Scalar>, KustoError> {
    (0..call.count()).map(|index| call.dynamic(index)).collect()
}

fn sets(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let arrays = dynamics(call)?;
    let references: Vec<&Scalar> = arrays.iter().collect();
    let name = call.name.to_owned();
    Ok(made(call.name, &references, move |cells, row| {
        let mut items = array(cells, 0, row)?;
        if name != "array_concat" {
            items = distinct(items);
        }
        for argument in 1..cells.arguments() {
            let other = array(cells, argument, row)?;
            match name.as_str() {
                "set_intersect" => items.retain(|item| other.contains(item)),
                "set_difference" => items.retain(|item| !other.contains(item)),
                "set_union" => {
                    items.extend(other);
                    items = distinct(items);
                }
                _ => items.extend(other),
            }
        }
        Some(Value::Array(items))
    }))
}

fn distinct(items: Vec<Value>) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    items.into_iter().filter(|item| seen.insert(item.to_string())).collect()
}

fn element_search(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let (items, sought) = (call.dynamic(0)?, as_dynamic(call.argument(1)?));
    let position = |cells: &Cells, row: usize| {
        let items = array(cells, 0, row)?;
        let sought: Value = serde_json::from_str(cells.json(1, row).unwrap_or("null")).ok()?;
        Some(items.iter().position(|item| *item == sought))
    };
    Ok(if call.name == "set_has_element" {
        kernel::boolean(call.name, &[&items, &sought], move |cells, row| Some(position(cells, row)?.is_some()))
    } else {
        kernel::long(call.name, ScalarType::Long, &[&items, &sought], move |cells, row| {
            position(cells, row)?.map_or(Some(-1), |at| i64::try_from(at).ok())
        })
    })
}

fn slice(call: &Call<'_>) -> Result<Scalar, KustoError> {
    Ok(made(call.name, &[&call.dynamic(0)?, &call.long(1)?, &call.long(2)?], |cells, row| {
        let items = array(cells, 0, row)?;
        let length = i64::try_from(items.len()).ok()?;
        // Negative positions count from the end; the end is included.
        let from = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
        let (start, end) = (from(cells.long(1, row)?).max(0), from(cells.long(2, row)?).min(length - 1));
        if start > end {
            return Some(Value::Array(Vec::new()));
        }
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        Some(items.get(start..=end)?.iter().cloned().collect())
    }))
}

/// The first value of a key wins, as in Kusto.
fn bag_merge(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let bags = dynamics(call)?;
    let references: Vec<&Scalar> = bags.iter().collect();
    Ok(made(call.name, &references, |cells, row| {
        let mut merged = Map::new();
        let mut any = false;
        for argument in 0..cells.arguments() {
            let Some(bag) = bag(cells, argument, row) else { continue };
            any = true;
            for (key, value) in bag {
                merged.entry(key).or_insert(value);
            }
        }
        any.then_some(Value::Object(merged))
    }))
}

fn pack(call: &Call<'_>) -> Result<Scalar, KustoError> {
    if call.count() == 0 || !call.count().is_multiple_of(2) {
        return Err(KustoError::semantic("SEM0219", format!("{}() takes pairs of key and value", call.name)));
    }
    let mut parts = Vec::with_capacity(call.count());
    for index in 0..call.count() {
        parts.push(if index.is_multiple_of(2) { call.any_text(index)? } else { as_dynamic(call.argument(index)?) });
    }
    let references: Vec<&Scalar> = parts.iter().collect();
    Ok(kernel::text("pack", ScalarType::Dynamic, &references, |cells, row| {
        let mut text = String::from("{");
        let mut keys: Vec<&str> = Vec::with_capacity(cells.arguments() / 2);
        for pair in (0..cells.arguments()).step_by(2) {
            let key = cells.text(pair, row);
            if keys.contains(&key) {
                continue;
            }
            if !keys.is_empty() {
                text.push(',');
            }
            keys.push(key);
            text.push_str(&json::quote(key));
            text.push(':');
            text.push_str(cells.json(pair + 1, row).unwrap_or("null"));
        }
        text.push('}');
        Some(Cow::Owned(text))
    }))
}

/// Kusto makes arrays of at most 1,048,576 elements with range().
const MAX_RANGE: i64 = 1_048_576;

fn range(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let step = if call.count() > 2 { call.long(2)? } else { Scalar::long(1) };
    Ok(made(call.name, &[&call.long(0)?, &call.long(1)?, &step], |cells, row| {
        let (from, to, step) = (cells.long(0, row)?, cells.long(1, row)?, cells.long(2, row)?);
        if step == 0 {
            return None;
        }
        let count = to.checked_sub(from)?.checked_div(step)?;
        if (step > 0 && to < from) || (step < 0 && to > from) {
            return Some(Value::Array(Vec::new()));
        }
        Some((0..=count.min(MAX_RANGE - 1)).map(|index| Value::from(from + index * step)).collect())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Map<String, Value> {
        serde_json::from_str(r#"{"key1": 123, "key2": {"prop1": "abc", "prop2": null}, "key3": [100]}"#).expect("a bag")
    }

    #[test]
    fn a_nested_key_is_there_even_if_its_value_is_null() {
        let has = |members: &[&str]| has_key(&example(), members);
        assert!(has(&["key1"]) && has(&["key2", "prop1"]) && has(&["key2", "prop2"]));
        assert!(!has(&["prop1"]) && !has(&["key1", "prop1"]) && !has(&["key2", "prop3"]) && !has(&["key3", "0"]));
    }

    #[test]
    fn removing_a_nested_key_leaves_its_neighbours() {
        let mut bag = example();
        for members in [&["key2", "prop1"][..], &["key3"], &["key1", "x"], &["nosuch", "x"]] {
            remove_key(&mut bag, members);
        }
        assert_eq!(Value::Object(bag).to_string(), r#"{"key1":123,"key2":{"prop2":null}}"#);
    }
}
