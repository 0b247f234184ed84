//! JSON as Kusto reads it: objects, whose properties go to the columns of the same name or where a mapping's paths say. Pure.

use datafusion::arrow::array::RecordBatch;
use serde_json::{Map, Value};

use super::Target;
use crate::{
    catalog::{MappedSource, PathStep},
    error::KustoError,
    rows::RowsBuilder,
};

/// One object per line (`Json`).
pub(super) fn read_lines(bytes: &[u8], target: &Target) -> Result<RecordBatch, KustoError> {
    let mut builder = RowsBuilder::new(target.schema.clone());
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = without_mark(line, index).trim_ascii();
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Value::Object(record)) => push(&mut builder, &record, target),
            Ok(_) => {
                return Err(KustoError::bad_request(format!(
                    "line {} of the payload is no JSON object: the format Json has one object on each line",
                    index + 1
                )));
            }
            Err(error) => {
                return Err(KustoError::bad_request(format!("line {} of the payload is no JSON: {error}", index + 1)));
            }
        }
    }
    Ok(builder.finish("").batches.remove(0))
}

/// Objects one after the other, or in arrays (`MultiJson`).
pub(super) fn read_stream(bytes: &[u8], target: &Target) -> Result<RecordBatch, KustoError> {
    let mut builder = RowsBuilder::new(target.schema.clone());
    for value in serde_json::Deserializer::from_slice(without_mark(bytes, 0)).into_iter::<Value>() {
        let value = value.map_err(|error| KustoError::bad_request(format!("the payload is no JSON: {error}")))?;
        let records = match value {
            Value::Array(records) => records,
            record => vec![record],
        };
        for record in records {
            let Value::Object(record) = record else {
                return Err(KustoError::bad_request("the payload holds a JSON value that is no object"));
            };
            push(&mut builder, &record, target);
        }
    }
    Ok(builder.finish("").batches.remove(0))
}

fn without_mark(bytes: &[u8], index: usize) -> &[u8] {
    if index == 0 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes }
}

fn push(builder: &mut RowsBuilder, record: &Map<String, Value>, target: &Target) {
    let columns = target.schema.columns();
    let values: Vec<Value> = match &target.mapping {
        None => columns.iter().map(|column| record.get(&column.name).cloned().unwrap_or(Value::Null)).collect(),
        Some(mapping) => {
            let value = |name: &str| {
                let mapped = mapping.columns.iter().find(|mapped| mapped.column == name)?;
                match &mapped.source {
                    MappedSource::Path(path) => follow(record, path),
                    MappedSource::Constant(text) => Some(Value::from(text.as_str())),
                    MappedSource::Ordinal(_) => None,
                }
            };
            columns.iter().map(|column| value(&column.name).unwrap_or(Value::Null)).collect()
        }
    };
    builder.push_json(&values);
}

fn follow(record: &Map<String, Value>, path: &[PathStep]) -> Option<Value> {
    let Some((first, rest)) = path.split_first() else {
        return Some(Value::Object(record.clone()));
    };
    let mut value = match first {
        PathStep::Member(name) => record.get(name)?,
        PathStep::Index(_) => return None,
    };
    for step in rest {
        value = match step {
            PathStep::Member(name) => value.get(name)?,
            PathStep::Index(index) => value.get(index)?,
        };
    }
    Some(value.clone())
}

#[cfg(test)]
mod tests {
    use kql::types::ScalarType;
    use serde_json::json;

    use super::*;
    use crate::{
        catalog::MappingKind,
        ingest::mapping,
        rows::{Column, Rows},
    };

    fn target(mapping: Option<&str>) -> Target {
        let schema = vec![Column::new("n", ScalarType::Long), Column::new("d", ScalarType::Dynamic)];
        Target {
            schema: schema.into(),
            mapping: mapping.map(|text| mapping::parse(MappingKind::Json, text, 0).unwrap()),
        }
    }

    fn rows(batch: RecordBatch, target: Target) -> Value {
        json!(Rows::new("", target.schema, vec![batch]).json())
    }

    #[test]
    fn properties_go_to_the_columns_of_the_same_name() {
        let target = target(None);
        let batch = read_lines(b"{\"n\":1,\"d\":{\"a\":[1]},\"other\":2}\r\n\n{\"N\":1}", &target).unwrap();
        assert_eq!(rows(batch, target), json!([[1, { "a": [1] }], [null, null]]));
    }

    #[test]
    fn a_mapping_follows_paths() {
        let target = target(Some(
            r#"[{"column":"n","path":"$.a['b c'][1]","datatype":"long"},{"column":"d","Properties":{"Path":"$"}}]"#,
        ));
        let batch = read_lines(br#"{"a":{"b c":[5,6]}}"#, &target).unwrap();
        assert_eq!(rows(batch, target), json!([[6, { "a": { "b c": [5, 6] } }]]));
    }

    #[test]
    fn multi_json_takes_arrays_and_line_ends_inside_objects_and_json_does_not() {
        let text = b"[{\"n\":1},\n{\"n\":\n2}] {\"n\":3}";
        let target = target(None);
        let batch = read_stream(text, &target).unwrap();
        assert_eq!(rows(batch, target), json!([[1, null], [2, null], [3, null]]));
        assert!(read_lines(text, &self::target(None)).is_err());
    }
}
