//! Answers whole, cut and wrong.

use serde_json::json;

use super::*;
use crate::kusto::stream::{AnswerReader, Form};

fn read(form: Form, body: &[u8]) -> Result<ResultTable, Failure> {
    let mut table = ResultTable::default();
    let mut arriving = AnswerReader::new(form, &mut table);
    arriving.push(body)?;
    arriving.finish().map(|()| table)
}

fn v1(body: &[u8]) -> Result<ResultTable, Failure> {
    read(Form::V1 { may_be_empty: false }, body)
}

fn v2(body: &[u8]) -> Result<ResultTable, Failure> {
    read(Form::V2, body)
}

fn frames() -> Vec<Value> {
    vec![
        json!({"FrameType": "DataSetHeader", "IsProgressive": false, "Version": "v2.0"}),
        json!({"FrameType": "DataTable", "TableId": 0, "TableKind": "QueryProperties", "TableName": "@ExtendedProperties",
               "Columns": [{"ColumnName": "TableId", "ColumnType": "int"}], "Rows": [[1]]}),
        json!({"FrameType": "DataTable", "TableId": 1, "TableKind": "PrimaryResult", "TableName": "PrimaryResult",
               "Columns": [{"ColumnName": "Name", "ColumnType": "string"}, {"ColumnName": "Level", "ColumnType": "long"}],
               "Rows": [["a", 1], ["b", 2]]}),
        json!({"FrameType": "DataTable", "TableId": 2, "TableKind": "QueryCompletionInformation", "TableName": "QueryCompletionInformation",
               "Columns": [{"ColumnName": "Level", "ColumnType": "int"}, {"ColumnName": "StatusCode", "ColumnType": "int"},
                           {"ColumnName": "Payload", "ColumnType": "string"}],
               "Rows": [[4, 0, "{}"], [6, 0, "{}"]]}),
        json!({"FrameType": "DataSetCompletion", "HasErrors": false, "Cancelled": false}),
    ]
}

fn failure(frames: &[Value]) -> String {
    v2(Value::from(frames.to_vec()).to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_complete_answer_gives_its_primary_result() {
    let table = v2(Value::from(frames()).to_string().as_bytes()).unwrap();
    let rows: Vec<_> = table.rows().map(|row| (row.string("Name").unwrap(), row.long("Level").unwrap())).collect();
    assert_eq!(rows, [("a", Some(1)), ("b", Some(2))]);
}

#[test]
fn an_answer_cut_anywhere_is_incomplete() {
    let body = Value::from(frames()).to_string();
    for end in 1..body.len() {
        assert!(matches!(v2(&body.as_bytes()[..end]), Err(Failure::Incomplete { .. })), "{end}");
    }
    for missing in 0..frames().len() {
        let mut frames = frames();
        frames.remove(missing);
        // The frames that tell of the query are not needed.
        let told = [1, 3].contains(&missing);
        assert_eq!(v2(Value::from(frames).to_string().as_bytes()).is_ok(), told, "{missing}");
    }
}

#[test]
fn errors_inside_an_answer_discard_it_whole() {
    let error = json!({"OneApiErrors": [{"error": {"code": "LimitsExceeded", "message": "short", "@message": "Query result set has exceeded\nthe limit", "@permanent": false}}]});
    let mut row = frames();
    row[2]["Rows"].as_array_mut().unwrap().push(error.clone());
    assert_eq!(failure(&row), "LimitsExceeded (status 200): Query result set has exceeded the limit");
    let mut completion = frames();
    completion[4]["OneApiErrors"] = error["OneApiErrors"].clone();
    completion[4]["HasErrors"] = true.into();
    assert_eq!(failure(&completion), "LimitsExceeded (status 200): Query result set has exceeded the limit");
    let mut silent = frames();
    silent[4]["HasErrors"] = true.into();
    assert_eq!(failure(&silent), "the answer is incomplete: DataSetCompletion does not say that there were no errors");
    let mut cancelled = frames();
    cancelled[4]["Cancelled"] = true.into();
    assert_eq!(failure(&cancelled), "the answer is incomplete: the query was cancelled");
    let mut status = frames();
    status[3]["Rows"][0] = json!([2, 1, "{\"Text\":\"partial\"}"]);
    assert_eq!(failure(&status), "the answer is incomplete: the status table reports an error: {\"Text\":\"partial\"}");
    let mut short = frames();
    short[2]["Rows"][0] = json!(["a"]);
    assert_eq!(failure(&short), "the answer is incomplete: a row has not 2 values");
    let whole = v2(error.to_string().as_bytes()).unwrap_err();
    assert!(matches!(whole, Failure::Rejected { status: 200, permanent: false, .. }), "{whole:?}");
}

#[test]
fn other_servers_answers_are_not_kustos() {
    for body in ["<html><body>Sign in</body></html>", "", "null", "7", "[1]", "{}", r#"{"status":"ok"}"#] {
        let failure = v2(body.as_bytes()).unwrap_err();
        assert!(matches!(failure, Failure::NotKusto { .. }), "{body}: {failure:?}");
        assert!(matches!(v1(body.as_bytes()), Err(Failure::NotKusto { .. })), "{body}");
    }
    let failure = v2(b"<html>").unwrap_err().to_string();
    assert_eq!(failure, "the answer is not Kusto's (status 200): <html>");
}

#[test]
fn management_answers_give_their_first_table() {
    let answer = |rows: Value, more: Value| {
        let mut tables = vec![json!({"TableName": "Table_0", "Columns": [
            {"ColumnName": "Name", "DataType": "String"}, {"ColumnName": "Count", "DataType": "Int64", "ColumnType": "long"},
            {"ColumnName": "When", "DataType": "System.DateTime"}, {"ColumnName": "On", "DataType": "SByte"},
            {"ColumnName": "More", "DataType": "Object"}, {"ColumnName": "New", "DataType": "Quaternion"}], "Rows": rows})];
        tables.extend(more.as_array().unwrap().clone());
        v1(json!({"Tables": tables}).to_string().as_bytes())
    };
    let row = json!([["a", 7, "2026-03-01T12:00:00.1234567Z", 1, "{\"x\":[1]}", null]]);
    let status = json!([{"TableName": "QueryStatus", "Columns": [{"ColumnName": "Severity", "DataType": "Int32"},
        {"ColumnName": "StatusCode", "DataType": "Int32"}, {"ColumnName": "StatusDescription", "DataType": "String"}],
        "Rows": [[4, 0, "Query completed successfully"]]}]);
    let table = answer(row.clone(), status.clone()).unwrap();
    let types: Vec<&str> = table.columns().iter().map(|column| column.scalar_type.name()).collect();
    assert_eq!(types, ["string", "long", "datetime", "bool", "dynamic", "dynamic"]);
    let first = table.rows().next().unwrap();
    assert_eq!(first.string("Name"), Ok("a"));
    assert_eq!(first.long("Count"), Ok(Some(7)));
    assert_eq!(first.datetime("When").unwrap().unwrap().to_string(), "2026-03-01T12:00:00.1234567Z");
    assert_eq!(first.bool("On"), Ok(Some(true)));
    assert_eq!(first.dynamic("More"), Ok(json!({"x": [1]})));
    assert_eq!(first.long("New"), Ok(None));
    assert_eq!(
        first.string("Count").unwrap_err().to_string(),
        "row 0 of the answer has a number in column 'Count' where a text is expected"
    );
    assert_eq!(
        first.string("Nme").unwrap_err().to_string(),
        "the answer has no column 'Nme'; it has Name, Count, When, On, More, New"
    );
    let mut failed = status;
    failed[0]["Rows"][0] = json!([2, 1, "out of memory"]);
    let failed = answer(row, failed).unwrap_err().to_string();
    assert_eq!(failed, "the answer is incomplete: the status table reports an error: out of memory");
    let exception =
        answer(json!([["a", 1, null, null, null, null], {"Exceptions": ["Query execution failed"]}]), json!([]));
    assert_eq!(exception.unwrap_err().to_string(), "Exception (status 200): Query execution failed");
    assert_eq!(v1(br#"{"Tables":[]}"#).unwrap_err().to_string(), "the answer is incomplete: it has no table");
}

#[test]
fn an_error_status_gives_kustos_own_words() {
    let body = json!({"error": {"code": "General_BadRequest", "message": "Request is invalid", "@type": "Kusto.X",
        "@message": "Syntax error", "@permanent": true}});
    let rejected = rejection(400, body.to_string().as_bytes());
    assert!(
        matches!(&rejected, Failure::Rejected { status: 400, code, message, permanent: true }
        if code == "General_BadRequest" && message == "Syntax error"),
        "{rejected:?}"
    );
    let is_permanent = |status, said: &str| {
        let body = format!(r#"{{"error":{{"code":"x"{said}}}}}"#);
        matches!(rejection(status, body.as_bytes()), Failure::Rejected { permanent: true, .. })
    };
    // The status counts only where the body does not say.
    for (status, said, expected) in [
        (503, r#","@permanent":false"#, false),
        (503, r#","@permanent":true"#, true),
        (400, r#","@permanent":false"#, false),
        (400, "", true),
        (500, "", false),
        (520, "", false),
    ] {
        assert_eq!(is_permanent(status, said), expected, "{status}{said}");
    }
    assert!(matches!(rejection(502, b"<html>Bad gateway"), Failure::NotKusto { status: 502, .. }));
    assert_eq!(message(body.to_string().as_bytes()), "Syntax error");
    assert_eq!(message(b""), "an empty body");
}

#[test]
fn a_servers_words_are_told_without_secrets_however_they_are_cut() {
    let address = "https://x.blob.core.windows.net/c?sv=2024&sig=hunter2";
    let body = |message: &str| json!({"error": {"code": "x", "@message": message}}).to_string();
    assert_eq!(
        rejection(400, body(&format!("cannot read '{address}'")).as_bytes()).to_string(),
        "x (status 400): cannot read 'https://x.blob.core.windows.net/c?…'"
    );
    // The '@' that shows what a password is comes after the cut.
    for before in [HEAD_CHARS - 16, 4 * HEAD_CHARS - 16, MESSAGE_CHARS - 16] {
        let text = format!("{} https://me:hunter2@x.example/", "a".repeat(before));
        for told in [message(body(&text).as_bytes()), message(text.as_bytes())] {
            assert!(!told.contains("hunter2") && told.chars().count() <= MESSAGE_CHARS, "{told}");
        }
    }
    for answer in [json!([address]), json!([{"FrameType": "x", "HasErrors": address}]), json!(address)] {
        let told = v2(answer.to_string().as_bytes()).unwrap_err().to_string();
        assert!(told.contains("x.blob.core.windows.net") && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn an_ingestion_by_command_is_done_where_each_row_says_so() {
    let answer = |columns: [&str; 2], rows: Value| {
        let columns = columns.map(|name| json!({"ColumnName": name, "DataType": "Object"}));
        let body = json!({"Tables": [{"TableName": "Table_0", "Columns": columns, "Rows": rows}]});
        ingested(&v1(body.to_string().as_bytes()).unwrap()).map_err(|failure| failure.to_string())
    };
    let told = |rows: Value| answer(["HasErrors", "OperationId"], rows);
    for row in [json!([false, "7f"]), json!([0, "7f"]), json!([0, null])] {
        assert_eq!(told(json!([row])), Ok(()), "{row}");
    }
    assert_eq!(told(json!([[false, "7f"], [0, "8e"]])), Ok(()));
    // As it is documented.
    let (made, none) = ("7e0f4d6a-0000-4000-8000-000000000000", "00000000-0000-0000-0000-000000000000");
    let extents = |rows: Value| answer(["ExtentId", "OperationId"], rows);
    assert_eq!(extents(json!([[made, "7f"]])), Ok(()));
    let both = |extent: &str| answer(["ExtentId", "HasErrors"], json!([[extent, false]]));
    assert_eq!(both(made), Ok(()));
    assert_eq!(both(""), Ok(()));
    let unknown = "NotStored (status 200): the records were not stored, or not all; operation unknown";
    assert_eq!(both(none), Err(unknown.to_owned()));
    let failed = "NotStored (status 200): the records were not stored, or not all; operation 7f";
    assert_eq!(extents(json!([[made, "8e"], [none, "7f"]])), Err(failed.to_owned()));
    for rows in [json!([[true, "7f"]]), json!([[1, "7f"]]), json!([[false, "8e"], [true, "7f"]])] {
        assert_eq!(told(rows.clone()), Err(failed.to_owned()), "{rows}");
    }
    for (silent, why) in [
        (told(json!([])), "it has no row that says whether the records were stored"),
        (told(json!([[null, "7f"]])), "a row does not say whether the records were stored"),
        (
            told(json!([["no", "7f"]])),
            "row 0 of the answer has a text in column 'HasErrors' where a boolean is expected",
        ),
        (answer(["Name", "OperationId"], json!([["8e", "7f"]])), "a row does not say whether the records were stored"),
    ] {
        assert_eq!(silent, Err(format!("the answer is incomplete: {why}")));
    }
}

#[test]
fn a_streaming_ingestion_may_be_answered_with_nothing() {
    for (body, is_done) in [
        ("", true),
        (" \r\n", true),
        (r#"{"Tables":[{"TableName":"T","Columns":[],"Rows":[]}]}"#, true),
        ("<html>", false),
        (r#"{"Tables":["#, false),
    ] {
        assert_eq!(read(Form::V1 { may_be_empty: true }, body.as_bytes()).is_ok(), is_done, "{body}");
    }
}
