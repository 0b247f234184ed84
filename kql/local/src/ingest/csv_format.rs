//! CSV as Kusto reads it: RFC 4180, no header unless told, fields by position or by a mapping. Pure.
//!
//! Missing fields are null, surplus ones are left out, and a field that cannot be read as its column's type is null; a quote that never ends is an error.

use datafusion::arrow::array::RecordBatch;

use super::Target;
use crate::{catalog::MappedSource, error::KustoError, rows::RowsBuilder};

/// The rows of a CSV text.
pub(super) fn read(bytes: &[u8], target: &Target, ignore_first_record: bool) -> Result<RecordBatch, KustoError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    check_quotes(bytes)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(ignore_first_record).flexible(true).from_reader(bytes);
    let mut builder = RowsBuilder::new(target.schema.clone());
    for record in reader.records() {
        let record = record.map_err(|error| KustoError::bad_request(format!("the payload is no CSV: {error}")))?;
        match &target.mapping {
            None => builder.push_text(&record.iter().collect::<Vec<_>>()),
            Some(mapping) => {
                let mut fields = vec![""; target.schema.len()];
                for mapped in &mapping.columns {
                    let Some(column) = target.schema.index_of(&mapped.column) else { continue };
                    fields[column] = match &mapped.source {
                        MappedSource::Ordinal(ordinal) => record.get(*ordinal).unwrap_or(""),
                        MappedSource::Constant(text) => text,
                        MappedSource::Path(_) => "",
                    };
                }
                builder.push_text(&fields);
            }
        }
    }
    Ok(builder.finish("").batches.remove(0))
}

/// The reader takes the end of the text for the end of a quoted field. Kusto does not: such a text was cut off.
fn check_quotes(bytes: &[u8]) -> Result<(), KustoError> {
    let (mut quoted, mut at_field_start) = (false, true);
    let mut rest = bytes.iter().peekable();
    while let Some(byte) = rest.next() {
        if quoted {
            if *byte == b'"' {
                if rest.peek() == Some(&&b'"') {
                    rest.next();
                } else {
                    quoted = false;
                }
            }
        } else if *byte == b'"' && at_field_start {
            quoted = true;
        }
        at_field_start = !quoted && matches!(byte, b',' | b'\n' | b'\r');
    }
    if quoted {
        return Err(KustoError::bad_request("the payload is no CSV: a quoted field does not end"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kql::types::ScalarType;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        catalog::{MappedColumn, Mapping},
        rows::{Column, Rows},
    };

    fn rows(text: &str, mapping: Option<Vec<MappedColumn>>) -> Result<Vec<Vec<Value>>, KustoError> {
        let schema = vec![
            Column::new("n", ScalarType::Long),
            Column::new("s", ScalarType::String),
            Column::new("d", ScalarType::Dynamic),
        ];
        let mapping = mapping.map(|columns| Mapping { text: String::new(), updated: 0, columns });
        let target = Target { schema: schema.into(), mapping };
        let batch = read(text.as_bytes(), &target, false)?;
        Ok(Rows::new("", target.schema, vec![batch]).json())
    }

    #[test]
    fn fields_are_read_by_position_and_json_in_doubled_quotes() {
        let rows = rows("1,a,\"{\"\"k\"\":[1]}\"\r\n2,\"b\nc,\",\n3\n\nx,d,e,surplus\n", None).unwrap();
        assert_eq!(json!(rows), json!([[1, "a", { "k": [1] }], [2, "b\nc,", null], [3, "", null], [null, "d", "e"]]));
    }

    #[test]
    fn a_mapping_takes_fields_by_ordinal_and_constants() {
        let mapping = vec![
            MappedColumn { column: "s".into(), source: MappedSource::Ordinal(0) },
            MappedColumn { column: "n".into(), source: MappedSource::Constant("7".into()) },
        ];
        assert_eq!(json!(rows("a,b\n", Some(mapping)).unwrap()), json!([[7, "a", null]]));
    }

    #[test]
    fn a_quote_that_never_ends_is_an_error() {
        assert!(rows("1,\"a\n", None).unwrap_err().to_string().contains("does not end"));
        assert_eq!(json!(rows("1,a\"b,\n", None).unwrap()), json!([[1, "a\"b", null]]));
    }
}
