//! Choices, tests for null, and what asks about a value or the server: `iff`, `case`, `coalesce`, `isnull`, `gettype`, `current_database`. Pure.

use std::borrow::Cow;

use datafusion::logical_expr::{Expr, conditional_expressions::CaseBuilder};
use kql::types::ScalarType;

use super::{
    Call, as_common, common,
    conversion::{convert, to_string},
};
use crate::{
    engine::{kernel, operators::condition, scalar::Scalar},
    error::KustoError,
};

pub(crate) const NAMES: &[&str] = &[
    "case",
    "coalesce",
    "current_cluster_endpoint",
    "current_database",
    "estimate_data_size",
    "gettype",
    "hash_sha256",
    "iff",
    "iif",
    "isempty",
    "isnotempty",
    "isnotnull",
    "isnull",
    "not",
    "notempty",
    "notnull",
    "tobool",
    "toboolean",
    "todatetime",
    "todecimal",
    "todouble",
    "todynamic",
    "toguid",
    "toint",
    "tolong",
    "toobject",
    "toreal",
    "tostring",
    "totime",
    "totimespan",
    "parse_json",
    "parsejson",
];

pub(crate) fn call(call: &Call<'_>) -> Result<Scalar, KustoError> {
    match call.name {
        "iff" | "iif" => {
            call.arity(3, 3)?;
            cases(call)
        }
        "case" => {
            call.arity(3, usize::MAX)?;
            if call.count().is_multiple_of(2) {
                return Err(KustoError::semantic(
                    "SEM0219",
                    "case() takes pairs of condition and value, then the value otherwise",
                ));
            }
            cases(call)
        }
        "coalesce" => {
            call.arity(2, 64)?;
            coalesce(call)
        }
        "not" => {
            call.arity(1, 1)?;
            let negated = Expr::Not(Box::new(condition(call.argument(0)?, "not()")?));
            Ok(Scalar::new(negated, ScalarType::Bool))
        }
        "isnull" | "isnotnull" | "notnull" => {
            call.arity(1, 1)?;
            Ok(nullness(call.argument(0)?, call.name == "isnull"))
        }
        "isempty" | "isnotempty" | "notempty" => {
            call.arity(1, 1)?;
            let empty = call.name == "isempty";
            let argument = call.argument(0)?;
            if !matches!(argument.scalar_type, ScalarType::String | ScalarType::Dynamic) {
                return Ok(nullness(argument, empty));
            }
            let text = to_string(argument);
            Ok(kernel::boolean(format!("isempty_{empty}"), &[&text], move |cells, row| {
                Some(cells.text(0, row).is_empty() == empty)
            }))
        }
        "gettype" => {
            call.arity(1, 1)?;
            Ok(get_type(call.argument(0)?))
        }
        "hash_sha256" => {
            call.arity(1, 1)?;
            Ok(kernel::text("hash_sha256", ScalarType::String, &[&call.any_text(0)?], |cells, row| {
                use sha2::{Digest as _, Sha256};
                use std::fmt::Write as _;
                let digest = Sha256::digest(cells.text(0, row).as_bytes());
                let mut text = String::with_capacity(64);
                for byte in digest {
                    write!(text, "{byte:02x}").expect("writing to a String cannot fail");
                }
                Some(Cow::Owned(text))
            }))
        }
        "estimate_data_size" => data_size(call),
        "current_database" => {
            call.arity(0, 0)?;
            Ok(Scalar::string(&*call.planner.context.database))
        }
        "current_cluster_endpoint" => {
            call.arity(0, 0)?;
            Ok(Scalar::string(call.planner.context.catalog.own_endpoint()))
        }
        _ => {
            call.arity(1, 1)?;
            let to = match call.name {
                "tobool" | "toboolean" => ScalarType::Bool,
                "todatetime" => ScalarType::DateTime,
                "todecimal" => ScalarType::Decimal,
                "todouble" | "toreal" => ScalarType::Real,
                "toguid" => ScalarType::Guid,
                "toint" => ScalarType::Int,
                "tolong" => ScalarType::Long,
                "tostring" => ScalarType::String,
                "totime" | "totimespan" => ScalarType::Timespan,
                _ => ScalarType::Dynamic,
            };
            let argument = call.argument(0)?;
            if to == ScalarType::Dynamic && !matches!(argument.scalar_type, ScalarType::String | ScalarType::Dynamic) {
                return Err(call.wrong_type(0, "string or dynamic", argument.scalar_type));
            }
            Ok(convert(argument, to))
        }
    }
}

fn cases(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let (otherwise, pairs) =
        call.arguments.split_last().ok_or_else(|| KustoError::internal("A case without values."))?;
    let mut values: Vec<&Scalar> = pairs.iter().skip(1).step_by(2).collect();
    values.push(otherwise);
    // A dynamic value is taken as the type of the others.
    let typed: Vec<&Scalar> = values.iter().copied().filter(|value| value.scalar_type != ScalarType::Dynamic).collect();
    let scalar_type = common(&typed);
    let place = format!("{}()", call.name);
    let mut conditions = Vec::with_capacity(pairs.len() / 2);
    let mut results = Vec::with_capacity(pairs.len() / 2);
    for pair in pairs.chunks_exact(2) {
        conditions.push(condition(&pair[0], &place)?);
        results.push(as_common(&pair[1], scalar_type).expr);
    }
    let otherwise = as_common(otherwise, scalar_type).expr;
    let expr = CaseBuilder::new(None, conditions, results, Some(Box::new(otherwise)))
        .end()
        .map_err(|error| KustoError::internal(format!("{place} could not be planned: {error}")))?;
    Ok(Scalar::new(expr, scalar_type))
}

fn coalesce(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let values: Vec<&Scalar> = call.arguments.iter().collect();
    let scalar_type = common(&values);
    let values: Vec<Scalar> = values.into_iter().map(|value| as_common(value, scalar_type)).collect();
    if scalar_type == ScalarType::String {
        // A string is never null: coalesce() takes the first that is not empty.
        let references: Vec<&Scalar> = values.iter().collect();
        return Ok(kernel::text("coalesce_text", ScalarType::String, &references, |cells, row| {
            (0..cells.arguments())
                .map(|argument| cells.text(argument, row))
                .find(|text| !text.is_empty())
                .map(Cow::Borrowed)
        }));
    }
    let expr = datafusion::functions::expr_fn::coalesce(values.into_iter().map(|value| value.expr).collect());
    Ok(Scalar::new(expr, scalar_type))
}

fn nullness(value: &Scalar, null: bool) -> Scalar {
    if value.scalar_type == ScalarType::String {
        return Scalar::boolean(!null);
    }
    let expr = value.expr.clone();
    Scalar::new(if null { expr.is_null() } else { expr.is_not_null() }, ScalarType::Bool)
}

fn get_type(value: &Scalar) -> Scalar {
    if value.scalar_type != ScalarType::Dynamic {
        let name = if value.scalar_type == ScalarType::Real { "real" } else { value.scalar_type.name() };
        return Scalar::string(name);
    }
    kernel::text("gettype", ScalarType::String, &[value], |cells, row| {
        Some(Cow::Borrowed(match cells.json(0, row) {
            None => "null",
            Some(text) => match text.as_bytes().first() {
                Some(b'{') => "dictionary",
                Some(b'[') => "array",
                Some(b'"') => "string",
                Some(b't' | b'f') => "bool",
                _ if text.parse::<i64>().is_ok() => "long",
                _ => "double",
            },
        }))
    })
}

/// The sum of the sizes of the values: fixed for numbers, the length in bytes for texts.
fn data_size(call: &Call<'_>) -> Result<Scalar, KustoError> {
    call.arity(1, usize::MAX)?;
    let mut fixed = 0;
    let mut texts = Vec::new();
    for argument in &call.arguments {
        match argument.scalar_type {
            ScalarType::Bool => fixed += 1,
            ScalarType::Int => fixed += 4,
            ScalarType::Long | ScalarType::Real | ScalarType::DateTime | ScalarType::Timespan => fixed += 8,
            ScalarType::Guid => fixed += 16,
            ScalarType::Decimal => fixed += 34,
            ScalarType::String | ScalarType::Dynamic => texts.push(argument),
        }
    }
    if texts.is_empty() {
        return Ok(Scalar::long(fixed));
    }
    Ok(kernel::long(format!("estimate_data_size_{fixed}"), ScalarType::Long, &texts, move |cells, row| {
        let texts: usize = (0..cells.arguments()).map(|argument| cells.text(argument, row).len()).sum();
        i64::try_from(texts).ok()?.checked_add(fixed)
    }))
}
