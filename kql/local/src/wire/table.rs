//! The rows of one table as JSON text, up to the caps. No I/O; used by both versions of the protocol.

use serde_json::{Value, json};

use crate::{error::KustoError, rows::Rows, wire::options::Caps};

/// Kusto's description of the visualization when the query asks for none.
pub(super) const NO_VISUALIZATION: &str = r#"{"Visualization":null,"Title":null,"XColumn":null,"Series":null,"YColumns":null,"AnomalyColumns":null,"XTitle":null,"YTitle":null,"XAxis":null,"YAxis":null,"Legend":null,"YSplit":null,"Accumulate":false,"IsQuerySorted":false,"Kind":null,"Ymin":"NaN","Ymax":"NaN","Xmin":null,"Xmax":null}"#;

/// Appends a JSON value.
pub(super) fn write(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("writing JSON to memory cannot fail");
}

/// Appends the rows as a JSON array. A result past the caps is cut there, and the array ends with the error in place of a row.
///
/// # Errors
/// The error that was written into the array, for the frames that follow.
pub(super) fn write_rows(
    out: &mut Vec<u8>,
    rows: &Rows,
    caps: Caps,
    fault: impl FnOnce(&KustoError) -> Value,
) -> Result<(), KustoError> {
    out.push(b'[');
    let start = out.len();
    let mut written = 0;
    for (batch, records) in rows.batches.iter().enumerate() {
        for row in 0..records.num_rows() {
            let before = out.len();
            if written > 0 {
                out.push(b',');
            }
            let exceeded = if written == caps.records {
                Some(format!("{} records", caps.records))
            } else {
                out.push(b'[');
                for column in 0..rows.schema.len() {
                    if column > 0 {
                        out.push(b',');
                    }
                    write(out, &rows.cell_json(batch, row, column));
                }
                out.push(b']');
                (out.len() - start > caps.bytes).then(|| format!("{} bytes", caps.bytes))
            };
            if let Some(limit) = exceeded {
                let error = KustoError::limit_exceeded(format!(
                    "Query execution has exceeded the allowed limits (80DA0003): The results of this query exceed the set limit of {limit}, so not all \
                     records were returned (E_QUERY_RESULT_SET_TOO_LARGE, 0x80DA0003). See https://aka.ms/kustoquerylimits for more information and \
                     possible solutions.."
                ));
                out.truncate(before);
                if written > 0 {
                    out.push(b',');
                }
                write(out, &json!({ "OneApiErrors": [fault(&error)] }));
                out.push(b']');
                return Err(error);
            }
            written += 1;
        }
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use kql::types::ScalarType;

    use super::*;
    use crate::rows::{Column, RowsBuilder};

    fn numbers(count: i64) -> Rows {
        let mut builder = RowsBuilder::new(vec![Column::new("x", ScalarType::Long)].into());
        for value in 0..count {
            builder.push_json(&[json!(value)]);
        }
        builder.finish("t")
    }

    fn text(rows: &Rows, records: usize, bytes: usize) -> (String, bool) {
        let mut out = Vec::new();
        let result = write_rows(&mut out, rows, Caps { records, bytes }, |_| json!("error"));
        (String::from_utf8(out).unwrap(), result.is_ok())
    }

    #[test]
    fn a_result_at_the_cap_is_whole_and_one_row_more_is_an_error_in_place_of_a_row() {
        assert_eq!(text(&numbers(2), 2, 100), ("[[0],[1]]".to_owned(), true));
        assert_eq!(text(&numbers(3), 2, 100), (r#"[[0],[1],{"OneApiErrors":["error"]}]"#.to_owned(), false));
        assert_eq!(text(&numbers(1), 0, 100), (r#"[{"OneApiErrors":["error"]}]"#.to_owned(), false));
    }

    #[test]
    fn a_result_past_the_cap_on_bytes_is_cut_between_rows() {
        assert_eq!(text(&numbers(3), 100, 7), (r#"[[0],[1],{"OneApiErrors":["error"]}]"#.to_owned(), false));
        assert_eq!(text(&numbers(0), 0, 0), ("[]".to_owned(), true));
    }
}
