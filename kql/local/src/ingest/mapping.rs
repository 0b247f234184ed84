//! Ingestion mappings: their JSON, as `.create table ... ingestion mapping` takes it. Pure.
//!
//! Both spellings of the service are read: `{"column", "Properties": {"Path" | "Ordinal" | "ConstValue"}}` and the older `{"column", "path" | "ordinal", "datatype"}`.

use serde_json::{Map, Value};

use crate::{
    catalog::{MappedColumn, MappedSource, Mapping, MappingKind, PathStep},
    error::KustoError,
};

/// Reads a mapping.
///
/// # Errors
/// `General_BadRequest` names what makes no sense; `BadRequest_NotSupported` a transformation.
pub(crate) fn parse(kind: MappingKind, text: &str, now: i64) -> Result<Mapping, KustoError> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| KustoError::bad_request(format!("the mapping is no JSON: {error}")))?;
    let Value::Array(entries) = value else {
        return Err(KustoError::bad_request("the mapping is no JSON array"));
    };
    if entries.is_empty() {
        return Err(KustoError::bad_request("the mapping fills no column"));
    }
    let columns = entries.iter().map(|entry| column(kind, entry)).collect::<Result<_, _>>()?;
    Ok(Mapping { text: text.to_owned(), updated: now, columns })
}

fn column(kind: MappingKind, entry: &Value) -> Result<MappedColumn, KustoError> {
    let Value::Object(entry) = entry else {
        return Err(KustoError::bad_request("the mapping holds a JSON value that is no object"));
    };
    let column = match get(entry, "column").or_else(|| get(entry, "name")) {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        _ => return Err(KustoError::bad_request("an entry of the mapping has no 'column'")),
    };
    let empty = Map::new();
    let properties = match get(entry, "properties") {
        Some(Value::Object(properties)) => properties,
        _ => &empty,
    };
    let property = |name: &str| get(properties, name).or_else(|| get(entry, name)).filter(|value| !value.is_null());
    if let Some(transform) = property("transform").and_then(Value::as_str).filter(|name| *name != "None") {
        return Err(KustoError::unsupported(format!(
            "the mapping of column '{column}' uses the transformation '{transform}', which is not supported"
        )));
    }
    let constant = property("constvalue").or_else(|| property("constantvalue"));
    let source = match (constant, kind) {
        (Some(Value::String(text)), _) => MappedSource::Constant(text.clone()),
        (Some(other), _) => MappedSource::Constant(other.to_string()),
        (None, MappingKind::Csv) => {
            let ordinal = property("ordinal").and_then(|value| match value {
                Value::String(text) => text.parse().ok(),
                value => value.as_u64(),
            });
            let ordinal = ordinal.and_then(|ordinal| usize::try_from(ordinal).ok());
            MappedSource::Ordinal(ordinal.ok_or_else(|| missing(&column, "Ordinal"))?)
        }
        (None, MappingKind::Json) => {
            let text = property("path").and_then(Value::as_str).ok_or_else(|| missing(&column, "Path"))?;
            MappedSource::Path(path(text).ok_or_else(|| {
                KustoError::bad_request(format!(
                    "the mapping of column '{column}' has the path '{text}': expected a form such as $.name, $['a name'] or $.list[0]"
                ))
            })?)
        }
    };
    Ok(MappedColumn { column, source })
}

fn missing(column: &str, property: &str) -> KustoError {
    KustoError::bad_request(format!("the mapping of column '{column}' has no {property}"))
}

/// The service reads the names of properties without regard to case.
fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// `$`, `$.a.b`, `$['a b']`, `$.a[0]`; a path without the root's `$` starts at it.
fn path(text: &str) -> Option<Vec<PathStep>> {
    let text = text.trim();
    let mut steps = Vec::new();
    let mut rest = match text.strip_prefix('$') {
        Some(rest) => rest,
        None => {
            let end = text.find(['.', '[']).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            if name.is_empty() {
                return None;
            }
            steps.push(PathStep::Member(name.to_owned()));
            rest
        }
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            if name.is_empty() {
                return None;
            }
            steps.push(PathStep::Member(name.to_owned()));
            rest = tail;
        } else {
            let after = rest.strip_prefix('[')?;
            let quoted =
                after.strip_prefix('\'').map(|t| (t, "']")).or_else(|| after.strip_prefix('"').map(|t| (t, "\"]")));
            let (step, tail) = match quoted {
                Some((inner, close)) => {
                    let (name, tail) = inner.split_once(close)?;
                    (PathStep::Member(name.to_owned()), tail)
                }
                None => {
                    let (index, tail) = after.split_once(']')?;
                    (PathStep::Index(index.parse().ok()?), tail)
                }
            };
            steps.push(step);
            rest = tail;
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_the_root() {
        let member = |name: &str| PathStep::Member(name.into());
        assert_eq!(path("$"), Some(vec![]));
        assert_eq!(path("$.a.b"), Some(vec![member("a"), member("b")]));
        assert_eq!(path("a['b.c'][2]"), Some(vec![member("a"), member("b.c"), PathStep::Index(2)]));
        for text in ["", "$.", "$..a", "$[", "$[x]", "$.a[0", "$a"] {
            assert_eq!(path(text), None, "{text:?}");
        }
    }

    #[test]
    fn both_spellings_of_the_service_are_read_and_transformations_refused() {
        let new = parse(MappingKind::Csv, r#"[{"Column":"a","Properties":{"Ordinal":"1"}}]"#, 0).unwrap();
        let old = parse(MappingKind::Csv, r#"[{"column":"a","ordinal":1,"datatype":"long"}]"#, 0).unwrap();
        assert_eq!(new.columns, old.columns);
        let transform = r#"[{"column":"a","path":"$.t","transform":"DateTimeFromUnixSeconds"}]"#;
        assert!(parse(MappingKind::Json, transform, 0).unwrap_err().to_string().contains("DateTimeFromUnixSeconds"));
        for text in ["", "{}", "[]", "[1]", r#"[{"path":"$.a"}]"#, r#"[{"column":"a"}]"#] {
            assert!(parse(MappingKind::Json, text, 0).is_err(), "{text}");
        }
    }
}
