//! Answers of `/v1/rest/mgmt` and `/v1/rest/query`: `{"Tables": [...]}`. No I/O.
//!
//! A command's answer is its tables. A query's answer is its tables, then the visualization, the status and, last, a table of contents; clients know the two apart by
//! the number of tables.

use kql::{literal, types::ScalarType};
use serde_json::{Value, json};

use super::table::{NO_VISUALIZATION, write, write_rows};
use crate::{
    error::KustoError,
    rows::{Column, Rows, RowsBuilder},
    wire::{Exchange, fault, options::Caps},
};

/// No caps: commands' answers and the tables about an answer.
const WHOLE: Caps = Caps { records: usize::MAX, bytes: usize::MAX };

/// The answer to a command.
pub fn command_body(tables: &[Rows], exchange: &Exchange) -> Vec<u8> {
    let mut document = Document::new(exchange);
    for table in tables {
        document.push(table, WHOLE);
    }
    document.finish()
}

/// The answer to a query: its result tables, or the failure that came before the first row.
pub fn query_body(tables: &[Rows], failure: Option<KustoError>, caps: Caps, exchange: &Exchange) -> Vec<u8> {
    let mut document = Document::new(exchange);
    document.failure = failure;
    for table in tables {
        document.push(table, caps);
    }
    document.push(&extended_properties(), WHOLE);
    let status = status(tables, document.failure.as_ref(), exchange);
    document.push(&status, WHOLE);
    document.push(&contents(tables.len()), WHOLE);
    document.finish()
}

/// An answer that grows by whole tables.
struct Document<'a> {
    exchange: &'a Exchange,
    out: Vec<u8>,
    tables: usize,
    /// The first error that cut a table.
    failure: Option<KustoError>,
}

impl<'a> Document<'a> {
    fn new(exchange: &'a Exchange) -> Self {
        Self { exchange, out: b"{\"Tables\":[".to_vec(), tables: 0, failure: None }
    }

    fn push(&mut self, rows: &Rows, caps: Caps) {
        if self.tables > 0 {
            self.out.push(b',');
        }
        let columns: Vec<Value> = rows.schema.columns().iter().map(column).collect();
        write(&mut self.out, &json!({ "TableName": format!("Table_{}", self.tables), "Columns": columns }));
        self.out.truncate(self.out.len() - 1);
        self.out.extend_from_slice(b",\"Rows\":");
        if let Err(error) = write_rows(&mut self.out, rows, caps, |error| fault::body(error, self.exchange)) {
            self.failure.get_or_insert(error);
        }
        self.out.push(b'}');
        self.tables += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        self.out.push(b']');
        if let Some(error) = &self.failure {
            // What clients that know V1 only look for.
            self.out.extend_from_slice(b",\"Exceptions\":");
            write(&mut self.out, &json!([error.to_string()]));
        }
        self.out.push(b'}');
        self.out
    }
}

/// V1 gives the .NET type without its namespace: `Int64`, `SByte`, `SqlDecimal`.
fn column(column: &Column) -> Value {
    let dotnet = column.scalar_type.dotnet_name();
    let data_type = dotnet.rsplit('.').next().unwrap_or(dotnet);
    json!({ "ColumnName": column.name, "DataType": data_type, "ColumnType": column.scalar_type.name() })
}

fn extended_properties() -> Rows {
    let mut builder = RowsBuilder::new(vec![Column::new("Value", ScalarType::String)].into());
    builder.push_text(&[NO_VISUALIZATION]);
    builder.finish("@ExtendedProperties")
}

fn status(tables: &[Rows], failure: Option<&KustoError>, exchange: &Exchange) -> Rows {
    let schema = vec![
        Column::new("Timestamp", ScalarType::DateTime),
        Column::new("Severity", ScalarType::Int),
        Column::new("SeverityName", ScalarType::String),
        Column::new("StatusCode", ScalarType::Int),
        Column::new("StatusDescription", ScalarType::String),
        Column::new("Count", ScalarType::Int),
        Column::new("RequestId", ScalarType::Guid),
        Column::new("ActivityId", ScalarType::Guid),
        Column::new("SubActivityId", ScalarType::Guid),
        Column::new("ClientActivityId", ScalarType::String),
    ];
    let mut builder = RowsBuilder::new(schema.into());
    let mut push = |severity: i32, name: &str, status: i32, description: &str| {
        builder.push_json(&[
            literal::datetime(exchange.received).into(),
            severity.into(),
            name.into(),
            status.into(),
            description.into(),
            1.into(),
            exchange.activity_id.as_str().into(),
            exchange.activity_id.as_str().into(),
            exchange.activity_id.as_str().into(),
            exchange.client_request_id.as_str().into(),
        ]);
    };
    for warning in tables.iter().flat_map(|table| &table.warnings) {
        push(3, "Warning", 0, warning);
    }
    match failure {
        Some(error) => push(2, "Error", -2_133_196_797, &error.to_string()),
        None => push(4, "Info", 0, "Query completed successfully"),
    }
    builder.finish("QueryStatus")
}

fn contents(results: usize) -> Rows {
    let schema = vec![
        Column::new("Ordinal", ScalarType::Long),
        Column::new("Kind", ScalarType::String),
        Column::new("Name", ScalarType::String),
        Column::new("Id", ScalarType::String),
        Column::new("PrettyName", ScalarType::String),
    ];
    let mut builder = RowsBuilder::new(schema.into());
    let kinds = std::iter::repeat_n(("QueryResult", "PrimaryResult"), results)
        .chain([("QueryProperties", "@ExtendedProperties"), ("QueryStatus", "QueryStatus")]);
    for (ordinal, (kind, name)) in kinds.enumerate() {
        let id = uuid::Uuid::new_v4().to_string();
        builder.push_json(&[ordinal.into(), kind.into(), name.into(), id.into(), "".into()]);
    }
    builder.finish("TableOfContents")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ExchangeKind;

    fn exchange() -> Exchange {
        Exchange::example(ExchangeKind::Query)
    }

    fn one_row() -> Rows {
        let mut builder =
            RowsBuilder::new(vec![Column::new("a", ScalarType::Long), Column::new("b", ScalarType::Bool)].into());
        builder.push_json(&[json!(1), json!(true)]);
        builder.finish("anything")
    }

    #[test]
    fn a_commands_answer_is_its_table_with_both_names_of_each_type() {
        let body: Value = serde_json::from_slice(&command_body(&[one_row()], &exchange())).unwrap();
        assert_eq!(
            body,
            json!({ "Tables": [{
                "TableName": "Table_0",
                "Columns": [
                    { "ColumnName": "a", "DataType": "Int64", "ColumnType": "long" },
                    { "ColumnName": "b", "DataType": "SByte", "ColumnType": "bool" },
                ],
                "Rows": [[1, true]],
            }] })
        );
    }

    #[test]
    fn a_querys_answer_ends_with_a_table_of_contents() {
        let caps = Caps { records: 5, bytes: 1000 };
        let body: Value = serde_json::from_slice(&query_body(&[one_row()], None, caps, &exchange())).unwrap();
        let tables = body["Tables"].as_array().unwrap();
        assert_eq!(tables.len(), 4);
        let kinds: Vec<_> = tables[3]["Rows"].as_array().unwrap().iter().map(|row| row[1].as_str().unwrap()).collect();
        assert_eq!(kinds, ["QueryResult", "QueryProperties", "QueryStatus"]);
        assert_eq!(tables[2]["Rows"][0][1], 4);
        assert!(body.get("Exceptions").is_none());
    }

    #[test]
    fn a_result_past_the_caps_is_an_error_in_the_rows_the_status_and_the_exceptions() {
        let caps = Caps { records: 0, bytes: 1000 };
        let body: Value = serde_json::from_slice(&query_body(&[one_row()], None, caps, &exchange())).unwrap();
        assert_eq!(body["Tables"][0]["Rows"][0]["OneApiErrors"][0]["error"]["code"], "LimitsExceeded");
        assert_eq!(body["Tables"][2]["Rows"][0][1], 2);
        assert!(body["Exceptions"][0].as_str().unwrap().contains("E_QUERY_RESULT_SET_TOO_LARGE"));
    }
}
