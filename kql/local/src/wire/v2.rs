//! Answers of `/v2/rest/query`: an array of frames. No I/O.
//!
//! Always whole tables (`IsProgressive` false), which every client must read. An error after the header is an `OneApiErrors` object in place of a row, and again in
//! the completion frame with `HasErrors`.

use kql::literal;
use serde_json::{Value, json};

use super::table::{NO_VISUALIZATION, write, write_rows};
use crate::{
    error::KustoError,
    rows::Rows,
    wire::{Exchange, fault, options::Caps},
};

/// The frames of a query's result tables, or of the failure that came before the first row.
pub fn body(tables: &[Rows], failure: Option<KustoError>, caps: Caps, exchange: &Exchange) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.push(b'[');
    frame(
        &mut out,
        &json!({ "FrameType": "DataSetHeader", "IsProgressive": false, "Version": "v2.0", "IsFragmented": false, "ErrorReportingPlacement": "InData" }),
    );
    let properties: Vec<Value> =
        (0..tables.len()).map(|table| json!([table + 1, "Visualization", NO_VISUALIZATION])).collect();
    frame(
        &mut out,
        &json!({
            "FrameType": "DataTable", "TableId": 0, "TableKind": "QueryProperties", "TableName": "@ExtendedProperties",
            "Columns": columns(&[("TableId", "int"), ("Key", "string"), ("Value", "dynamic")]),
            "Rows": properties,
        }),
    );
    let mut errors: Vec<KustoError> = Vec::new();
    if let Some(failure) = failure {
        frame(
            &mut out,
            &json!({
                "FrameType": "DataTable", "TableId": tables.len() + 1, "TableKind": "PrimaryResult", "TableName": "PrimaryResult", "Columns": [],
                "Rows": [{ "OneApiErrors": [fault::body(&failure, exchange)] }],
            }),
        );
        errors.push(failure);
    }
    for (index, rows) in tables.iter().enumerate() {
        if let Err(error) = primary_result(&mut out, index + 1, rows, caps, exchange) {
            errors.push(error);
        }
    }
    frame(&mut out, &completion_information(tables, &errors, exchange));
    let mut completion =
        json!({ "FrameType": "DataSetCompletion", "HasErrors": !errors.is_empty(), "Cancelled": false });
    if !errors.is_empty() {
        completion["OneApiErrors"] = errors.iter().map(|error| fault::body(error, exchange)).collect();
    }
    write(&mut out, &completion);
    out.push(b']');
    out
}

fn frame(out: &mut Vec<u8>, frame: &Value) {
    write(out, frame);
    // Frames on lines of their own: harmless to every reader, and friendly to people.
    out.extend_from_slice(b",\n");
}

fn primary_result(
    out: &mut Vec<u8>,
    table_id: usize,
    rows: &Rows,
    caps: Caps,
    exchange: &Exchange,
) -> Result<(), KustoError> {
    let columns: Vec<Value> = rows
        .schema
        .columns()
        .iter()
        .map(|column| json!({ "ColumnName": column.name, "ColumnType": column.scalar_type.name() }))
        .collect();
    // The rows are the one part that can be large, so they are written as text and never held as values.
    let head = json!({
        "FrameType": "DataTable", "TableId": table_id, "TableKind": "PrimaryResult", "TableName": "PrimaryResult", "Columns": columns,
    });
    write(out, &head);
    out.truncate(out.len() - 1);
    out.extend_from_slice(b",\"Rows\":");
    let result = write_rows(out, rows, caps, |error| fault::body(error, exchange));
    out.extend_from_slice(b"},\n");
    result
}

fn completion_information(tables: &[Rows], errors: &[KustoError], exchange: &Exchange) -> Value {
    let now = literal::datetime(exchange.received);
    let id = &exchange.activity_id;
    let row = |level: i32, level_name: &str, status: (i32, &str), event: (i32, &str), payload: &Value| {
        json!([
            now,
            exchange.client_request_id,
            id,
            id,
            id,
            level,
            level_name,
            status.0,
            status.1,
            event.0,
            event.1,
            payload.to_string()
        ])
    };
    let ok = (0, "S_OK (0)");
    let mut rows = Vec::new();
    // Level 4 is information. A warning is level 3, as the service gives for clusters that a fuzzy query left out; clients count levels below 4 as errors to look at.
    for warning in tables.iter().flat_map(|table| &table.warnings) {
        rows.push(row(3, "Warning", ok, (4, "QueryInfo"), &json!({ "Count": 1, "Text": warning })));
    }
    for error in errors {
        rows.push(row(
            2,
            "Error",
            (-2_133_196_797, "E_QUERY_RESULT_SET_TOO_LARGE (0x80DA0003)"),
            (4, "QueryInfo"),
            &json!({ "Count": 1, "Text": error.to_string() }),
        ));
    }
    if errors.is_empty() {
        rows.push(row(4, "Info", ok, (4, "QueryInfo"), &json!({ "Count": 1, "Text": "Query completed successfully" })));
    }
    let statistics: Vec<Value> =
        tables.iter().map(|table| json!({ "table_count": 1, "row_count": table.len() })).collect();
    rows.push(row(
        6,
        "Stats",
        ok,
        (0, "QueryResourceConsumption"),
        &json!({ "QueryHash": null, "dataset_statistics": statistics }),
    ));
    json!({
        "FrameType": "DataTable", "TableId": tables.len().max(1) + 1, "TableKind": "QueryCompletionInformation",
        "TableName": "QueryCompletionInformation",
        "Columns": columns(&[
            ("Timestamp", "datetime"), ("ClientRequestId", "string"), ("ActivityId", "guid"), ("SubActivityId", "guid"),
            ("ParentActivityId", "guid"), ("Level", "int"), ("LevelName", "string"), ("StatusCode", "int"), ("StatusCodeName", "string"),
            ("EventType", "int"), ("EventTypeName", "string"), ("Payload", "string"),
        ]),
        "Rows": rows,
    })
}

fn columns(columns: &[(&str, &str)]) -> Value {
    columns.iter().map(|(name, kind)| json!({ "ColumnName": name, "ColumnType": kind })).collect()
}

#[cfg(test)]
mod tests {
    use kql::types::ScalarType;

    use super::*;
    use crate::rows::{Column, RowsBuilder};
    use crate::wire::ExchangeKind;

    fn exchange() -> Exchange {
        Exchange::example(ExchangeKind::Query)
    }

    fn one_row(warning: Option<&str>) -> Rows {
        let mut builder =
            RowsBuilder::new(vec![Column::new("a", ScalarType::Long), Column::new("b", ScalarType::Dynamic)].into());
        builder.push_json(&[json!(1), json!({ "k": [1] })]);
        let mut rows = builder.finish("PrimaryResult");
        rows.warnings.extend(warning.map(str::to_owned));
        rows
    }

    fn frames(tables: &[Rows], records: usize) -> Vec<Value> {
        serde_json::from_slice(&body(tables, None, Caps { records, bytes: 1000 }, &exchange())).unwrap()
    }

    #[test]
    fn an_answer_has_the_five_frames_of_a_result_that_is_not_progressive() {
        let frames = frames(&[one_row(None)], 10);
        let kinds: Vec<_> =
            frames.iter().map(|frame| (frame["FrameType"].as_str().unwrap(), frame["TableKind"].as_str())).collect();
        assert_eq!(
            kinds,
            [
                ("DataSetHeader", None),
                ("DataTable", Some("QueryProperties")),
                ("DataTable", Some("PrimaryResult")),
                ("DataTable", Some("QueryCompletionInformation")),
                ("DataSetCompletion", None),
            ]
        );
        assert_eq!(frames[2]["Columns"][1], json!({ "ColumnName": "b", "ColumnType": "dynamic" }));
        assert_eq!(frames[2]["Rows"], json!([[1, { "k": [1] }]]));
        assert_eq!(frames[4], json!({ "FrameType": "DataSetCompletion", "HasErrors": false, "Cancelled": false }));
    }

    #[test]
    fn a_result_past_the_caps_says_so_in_the_rows_and_in_the_completion() {
        let frames = frames(&[one_row(None)], 0);
        assert_eq!(frames[2]["Rows"][0]["OneApiErrors"][0]["error"]["code"], "LimitsExceeded");
        assert_eq!(frames[4]["HasErrors"], true);
        assert_eq!(frames[4]["OneApiErrors"][0]["error"]["code"], "LimitsExceeded");
        assert_eq!(frames[3]["Rows"][0][5], 2);
    }

    #[test]
    fn a_failure_before_the_first_row_is_a_result_with_nothing_but_the_error() {
        let failure = KustoError::limit_exceeded("too much");
        let body = body(&[], Some(failure), Caps { records: 1, bytes: 1 }, &exchange());
        let frames: Vec<Value> = serde_json::from_slice(&body).unwrap();
        assert_eq!(frames[2]["TableKind"], "PrimaryResult");
        assert_eq!(frames[2]["Rows"][0]["OneApiErrors"][0]["error"]["@message"], "too much");
        assert_eq!(frames[4]["HasErrors"], true);
    }

    #[test]
    fn a_warning_is_a_row_of_the_completion_information() {
        let frames = frames(&[one_row(Some("left out: c"))], 10);
        assert_eq!(frames[3]["Rows"][0][6], "Warning");
        assert_eq!(frames[3]["Rows"][0][11], r#"{"Count":1,"Text":"left out: c"}"#);
        assert_eq!(frames[4]["HasErrors"], false);
    }
}
