//! Holds a document to the schema of the CRD, as the API server does: what it refuses in Kubernetes must not pass in a file. Types are checked where a file is
//! read, before YAML makes a text of a number; lengths and counts by the validation. Pure.

use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;

use super::{spec::ADXClusterSpec, validate::Violation};

/// The schema of a whole document, as far as it is asked here. `make generate` writes it: to make it of the types was three fifths of what an agent computed for its first
/// pass, and needs all that makes definitions.
static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("schema.json")).expect("the schema is JSON"));

/// Values of another type than a document's schema has.
pub(super) fn wrong_types_of_document(document: &Value) -> Vec<Violation> {
    wrong_types_where(&DOCUMENT, document, |_| true)
}

/// Values of an object that have another type than its schema has; unknown fields are for others to refuse. Null is none of them: whoever writes it means that there is
/// nothing, and is understood so.
pub fn wrong_types(schema: &Value, object: &Value) -> Vec<Violation> {
    wrong_types_where(schema, object, |value| !value.is_null())
}

fn wrong_types_where(schema: &Value, object: &Value, counts: impl Fn(&Value) -> bool) -> Vec<Violation> {
    let mut violations = Vec::new();
    walk(schema, object, "", &mut |schema, value, path| {
        if let Some(rule) = broken_type(schema, value).filter(|_| counts(value)) {
            violations.push(Violation::new(path, value, rule));
        }
    });
    violations
}

/// What a document breaks of the lengths, counts and numbers that its schema bounds.
pub(super) fn exceeded_limits_of_document(spec: &ADXClusterSpec) -> Vec<Violation> {
    exceeded_limits(&DOCUMENT["properties"]["spec"], spec)
}

/// Texts and lists that are longer or shorter, and numbers that are higher or lower, than the schema of a kind's spec allows.
pub fn exceeded_limits(schema: &Value, spec: &impl Serialize) -> Vec<Violation> {
    let spec = serde_json::to_value(spec).expect("a spec is JSON");
    let mut violations = Vec::new();
    walk(schema, &spec, "spec", &mut |schema, value, path| {
        violations.extend(exceeded_limit(schema, value).map(|(value, rule)| Violation::new(path, value, rule)));
    });
    violations
}

/// Visits every value that the schema knows, with its part of the schema and its path.
fn walk<'v>(schema: &Value, value: &'v Value, path: &str, visit: &mut impl FnMut(&Value, &'v Value, &str)) {
    if !path.is_empty() {
        visit(schema, value, path);
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if let Some(known) = known {
                    walk(known, field, &path, visit);
                }
            }
        }
        Value::Array(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                walk(&schema["items"], entry, &format!("{path}[{index}]"), visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The rule that a value's type breaks.
fn broken_type(schema: &Value, value: &Value) -> Option<&'static str> {
    if value.is_null() && schema["nullable"] == true {
        return None;
    }
    let (fits, rule) = match schema["type"].as_str()? {
        "string" if value.is_number() || value.is_boolean() => (false, "must be a text: write it in quotes"),
        "string" => (value.is_string(), "must be a text"),
        "boolean" => (value.is_boolean(), "must be a boolean: true or false, without quotes"),
        "integer" => (value.is_i64(), "must be a whole number, without quotes"),
        "number" => (value.is_number(), "must be a number, without quotes"),
        "array" => (value.is_array(), "must be a list"),
        "object" => (value.is_object(), "must be a map of fields"),
        _ => return None,
    };
    (!fits).then_some(rule)
}

/// The limit that a value breaks, and the value as a message shows it.
fn exceeded_limit(schema: &Value, value: &Value) -> Option<(String, String)> {
    let (shown, size, unit, least, most) = match value {
        Value::String(text) => (text.clone(), text.chars().count(), " characters", "minLength", "maxLength"),
        Value::Array(entries) => {
            (format!("{} entries", entries.len()), entries.len(), " entries", "minItems", "maxItems")
        }
        Value::Number(number) => {
            let least = schema["minimum"].as_f64().filter(|least| number.as_f64() < Some(*least));
            let most = schema["maximum"].as_f64().filter(|most| number.as_f64() > Some(*most));
            let rule = least.map(|least| format!("must be at least {least}"));
            return rule.or_else(|| Some(format!("must be at most {}", most?))).map(|rule| (number.to_string(), rule));
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => return None,
    };
    let limit = |name: &str| schema[name].as_u64().and_then(|limit| usize::try_from(limit).ok());
    // A list is shown by its count; a long text is cut.
    let counted = if value.is_string() { format!("; it has {size}") } else { String::new() };
    let rule = match (limit(least), limit(most)) {
        (Some(least), _) if size < least => format!("must have at least {least}{unit}"),
        (_, Some(most)) if size > most => format!("must have at most {most}{unit}{counted}"),
        _ => return None,
    };
    Some((shown, rule))
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use kube::CustomResourceExt as _;
    use serde_json::{Map, json};

    use super::*;
    use crate::document::spec::ADXCluster;

    /// Schemas by the names of fields.
    const BY_NAME: &str = "properties";
    /// Schemas.
    const INNER: [&str; 2] = ["additionalProperties", "items"];
    const ASKED: [&str; 8] =
        ["maxItems", "maxLength", "maximum", "minItems", "minLength", "minimum", "nullable", "type"];

    /// A schema with nothing but what is asked of it.
    fn asked(schema: &Value) -> Value {
        let mut left = Map::new();
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            let value = match keyword.as_str() {
                BY_NAME => {
                    let fields = value.as_object().into_iter().flatten();
                    fields.map(|(name, schema)| (name.clone(), asked(schema))).collect::<Map<_, _>>().into()
                }
                inner if INNER.contains(&inner) => asked(value),
                own if ASKED.contains(&own) => value.clone(),
                _ => continue,
            };
            left.insert(keyword.clone(), value);
        }
        left.into()
    }

    fn of_the_definition() -> Value {
        let crd = serde_json::to_value(ADXCluster::crd()).unwrap();
        let mut schema = asked(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
        // A CRD leaves metadata to Kubernetes.
        let texts = json!({"type": "object", "nullable": true, "additionalProperties": {"type": "string"}});
        let text = json!({"type": "string", "nullable": true});
        schema["properties"]["metadata"] = json!({"type": "object", "properties": {
            "name": {"type": "string"},
            "namespace": &text,
            "labels": &texts,
            "annotations": &texts,
            "generation": {"type": "integer", "nullable": true},
            "uid": &text,
            "resourceVersion": &text,
        }});
        schema
    }

    /// With `ADX_FEDERATION_GENERATE` it is written instead, as `make generate` does.
    #[test]
    fn the_schema_is_that_of_the_definition() {
        let schema = of_the_definition();
        if env::var_os("ADX_FEDERATION_GENERATE").is_some() {
            fs::write("src/document/schema.json", format!("{schema}\n")).unwrap();
        } else {
            assert_eq!(*DOCUMENT, schema, "run `make generate` and commit what it writes");
        }
    }
}
