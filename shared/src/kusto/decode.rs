//! Decodes answers. HTTP 200 is not success: an answer counts only if it says that it is complete and nothing in it is an error. Pure.

use std::str::FromStr as _;

use kql::{
    secrets::{LOOKED_AT, line},
    types::ScalarType,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    error::Failure,
    table::{ColumnInfo, DecodeError, ResultTable},
};

/// The longest piece of a server's words that is kept.
const MESSAGE_CHARS: usize = 512;

/// The longest piece of a body that is not Kusto's.
const HEAD_CHARS: usize = 200;

/// The status table's levels of failure: critical and error; 3 is a warning.
const ERROR_LEVEL: i64 = 2;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Frame {
    frame_type: String,
    #[serde(default)]
    table_kind: Option<String>,
    #[serde(default)]
    columns: Vec<Column>,
    #[serde(default)]
    rows: Vec<Value>,
    #[serde(default)]
    has_errors: Option<bool>,
    #[serde(default)]
    cancelled: Option<bool>,
    #[serde(default)]
    one_api_errors: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct V1 {
    tables: Vec<V1Table>,
    #[serde(default)]
    exceptions: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct V1Table {
    #[serde(default)]
    columns: Vec<Column>,
    #[serde(default)]
    rows: Vec<Value>,
    #[serde(default)]
    exceptions: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Column {
    column_name: String,
    #[serde(default)]
    column_type: Option<String>,
    #[serde(default)]
    data_type: Option<String>,
}

/// The primary result of an answer that is complete.
pub(super) struct Primary {
    pub(super) columns: Vec<ColumnInfo>,
    /// Lists, of whatever length.
    pub(super) rows: Vec<Value>,
}

impl Frame {
    fn is_primary(&self) -> bool {
        self.frame_type == "DataTable" && self.table_kind.as_deref() == Some("PrimaryResult")
    }
}

/// The columns of the table that ends this answer to a query, if it is the primary result.
pub(super) fn columns_of_v2(so_far: &[u8]) -> Option<Vec<ColumnInfo>> {
    let mut frames: Vec<Frame> = serde_json::from_slice(so_far).ok()?;
    let last = frames.pop().filter(Frame::is_primary)?;
    if frames.iter().any(Frame::is_primary) { None } else { columns_of_data(last.columns) }
}

/// As [`columns_of_v2`], of the answer to a command.
pub(super) fn columns_of_v1(so_far: &[u8]) -> Option<Vec<ColumnInfo>> {
    let V1 { tables, .. } = serde_json::from_slice(so_far).ok()?;
    let [table] = <[V1Table; 1]>::try_from(tables).ok()?;
    columns_of_data(table.columns)
}

/// None of a table that tells of the query, whose rows are looked at; nor of one whose columns come after its rows.
fn columns_of_data(columns: Vec<Column>) -> Option<Vec<ColumnInfo>> {
    if status(&columns).is_some() || columns.is_empty() { None } else { Some(infos(columns)) }
}

/// One row of a table.
pub(super) fn row(text: &[u8]) -> Result<Vec<Value>, Failure> {
    serde_json::from_slice(text).map_err(|error| broken(&error))
}

/// The primary result of `/v2/rest/query`.
pub(super) fn v2(body: &[u8]) -> Result<Primary, Failure> {
    let frames: Vec<Frame> = parse(body)?;
    let incomplete = |why: &str| Err(Failure::Incomplete { why: why.to_owned() });
    for frame in &frames {
        if let Some(failure) = frame.one_api_errors.as_ref().and_then(in_band) {
            return Err(failure);
        }
        check_rows(&frame.columns, &frame.rows)?;
    }
    if frames.first().is_none_or(|frame| frame.frame_type != "DataSetHeader") {
        return incomplete("it does not begin with DataSetHeader");
    }
    let Some(completion) = frames.last().filter(|frame| frame.frame_type == "DataSetCompletion") else {
        return incomplete("it does not end with DataSetCompletion");
    };
    if completion.cancelled == Some(true) {
        return incomplete("the query was cancelled");
    }
    if completion.has_errors != Some(false) {
        return incomplete("DataSetCompletion does not say that there were no errors");
    }
    match frames.into_iter().find(Frame::is_primary) {
        Some(Frame { columns, rows, .. }) => Ok(Primary { columns: infos(columns), rows }),
        None => incomplete("it has no primary result"),
    }
}

/// The primary result of `/v1/rest/mgmt`: the first table. The others, where a command has them, tell of its status.
pub(super) fn v1(body: &[u8]) -> Result<Primary, Failure> {
    let V1 { tables, exceptions } = parse(body)?;
    if let Some(failure) = exceptions.as_ref().and_then(in_band) {
        return Err(failure);
    }
    for table in &tables {
        if let Some(failure) = table.exceptions.as_ref().and_then(in_band) {
            return Err(failure);
        }
        check_rows(&table.columns, &table.rows)?;
    }
    match tables.into_iter().next() {
        Some(V1Table { columns, rows, .. }) => Ok(Primary { columns: infos(columns), rows }),
        None => Err(Failure::Incomplete { why: "it has no table".to_owned() }),
    }
}

/// Whether the answer to an ingestion by command says, in each of its rows, that the records were stored. It comes with status 200 in any case. Microsoft's page names one column,
/// the extent that was made, which is all zeros where none was; servers give the columns of `.ingest into`, with `HasErrors`.
pub(super) fn ingested(answer: &ResultTable) -> Result<(), Failure> {
    let incomplete = |why: &str| Failure::Incomplete { why: server_words(why) };
    if answer.is_empty() {
        return Err(incomplete("it has no row that says whether the records were stored"));
    }
    let has = |name: &str| answer.columns().iter().any(|column| column.name == name);
    let (has_extent, has_errors) = (has("ExtentId"), has("HasErrors"));
    for row in answer.rows() {
        let read = |error: DecodeError| incomplete(&error.to_string());
        let extent = if has_extent { Some(row.string("ExtentId").map_err(read)?) } else { None };
        let extent = extent.filter(|extent| !extent.is_empty());
        let errors = if has_errors { row.bool("HasErrors").map_err(read)? } else { extent.map(|_| false) };
        let Some(errors) = errors else { return Err(incomplete("a row does not say whether the records were stored")) };
        let is_stored = extent.is_none_or(|extent| extent.chars().any(|digit| !matches!(digit, '0' | '-')));
        if errors || !is_stored {
            let operation = row.string("OperationId").unwrap_or("unknown");
            return Err(Failure::Rejected {
                status: 200,
                code: "NotStored".to_owned(),
                message: server_words(&format!("the records were not stored, or not all; operation {operation}")),
                permanent: false,
            });
        }
    }
    Ok(())
}

/// The server's words in the body of a refusal.
pub(super) fn message(body: &[u8]) -> String {
    match rejection(0, body) {
        Failure::Rejected { message, .. } => message,
        _ => head(body),
    }
}

/// The error in the body of an answer whose status is one.
pub(super) fn rejection(status: u16, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if value.get("error").is_some_and(Value::is_object) => rejected(status, &value),
        _ => Failure::NotKusto { status, why: head(body) },
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let json = body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'[' | b'{'));
        match error.classify() {
            serde_json::error::Category::Eof if json => Failure::Incomplete { why: format!("it is cut off: {error}") },
            // An error in the place of the whole answer.
            _ if json => match serde_json::from_slice::<Value>(body) {
                Ok(value) => in_band(&value).unwrap_or_else(|| Failure::NotKusto {
                    status: 200,
                    why: server_words(&format!("unexpected JSON: {error}")),
                }),
                Err(_) => broken(&error),
            },
            _ => Failure::NotKusto { status: 200, why: head(body) },
        }
    })
}

fn broken(error: &serde_json::Error) -> Failure {
    Failure::Incomplete { why: format!("it is broken JSON: {error}") }
}

/// Where a table tells of the query, as QueryCompletionInformation (V2: Level, Payload) and QueryStatus (V1: Severity, StatusDescription) do: how bad it is, and in which words. Both have
/// StatusCode, which tables of our own making do not.
fn status(columns: &[Column]) -> Option<(usize, Option<usize>)> {
    let position = |name: &str| columns.iter().position(|column| column.column_name == name);
    let level = position("Severity").or_else(|| position("Level"))?;
    position("StatusCode")?;
    Some((level, position("StatusDescription").or_else(|| position("Payload"))))
}

/// Errors come in place of a row, and as rows of the status table.
fn check_rows(columns: &[Column], rows: &[Value]) -> Result<(), Failure> {
    if let Some(failure) = rows.iter().filter(|row| !row.is_array()).find_map(in_band) {
        return Err(failure);
    }
    if let Some(row) = rows.iter().find(|row| !row.is_array()) {
        return Err(Failure::Incomplete { why: format!("a row is no array: {}", server_words(&row.to_string())) });
    }
    let Some((level, words)) = status(columns) else { return Ok(()) };
    for row in rows {
        if row.get(level).and_then(Value::as_i64).is_some_and(|level| level <= ERROR_LEVEL) {
            let words =
                words.and_then(|words| row.get(words)).map_or_else(String::new, |words| server_words(&text(words)));
            return Err(Failure::Incomplete { why: format!("the status table reports an error: {words}") });
        }
    }
    Ok(())
}

/// The first error of `{"OneApiErrors":[{"error":{...}}]}`, `{"Exceptions":["..."]}`, a list of either, or `{"error":{...}}`; `None` if there is none.
fn in_band(value: &Value) -> Option<Failure> {
    match value {
        Value::Array(errors) => errors.iter().find_map(in_band),
        Value::String(message) => Some(Failure::Rejected {
            status: 200,
            code: "Exception".to_owned(),
            message: server_words(message),
            permanent: true,
        }),
        Value::Object(object) => {
            if object.get("error").is_some_and(Value::is_object) {
                return Some(rejected(200, value));
            }
            ["OneApiErrors", "Exceptions"].iter().filter_map(|key| object.get(*key)).find_map(in_band)
        }
        _ => None,
    }
}

fn rejected(status: u16, value: &Value) -> Failure {
    let error = &value["error"];
    let message = ["@message", "message"].iter().find_map(|key| error[*key].as_str()).unwrap_or("no message");
    Failure::Rejected {
        status,
        code: server_words(error["code"].as_str().unwrap_or("unknown")),
        message: server_words(message),
        permanent: error["@permanent"].as_bool().unwrap_or(status < 500),
    }
}

fn infos(columns: Vec<Column>) -> Vec<ColumnInfo> {
    let info = |Column { column_name: name, column_type, data_type }| ColumnInfo {
        name,
        scalar_type: scalar_type(column_type.as_deref(), data_type.as_deref()),
    };
    columns.into_iter().map(info).collect()
}

/// Servers differ in which of the two names they give; a type they invent later reads as `dynamic`, which every value fits.
fn scalar_type(column_type: Option<&str>, data_type: Option<&str>) -> ScalarType {
    let by_name = column_type.and_then(|name| ScalarType::from_str(name).ok());
    let by_dotnet = || {
        let name = data_type?;
        ScalarType::from_str(name).or_else(|_| ScalarType::from_str(&format!("System.{name}"))).ok()
    };
    by_name.or_else(by_dotnet).unwrap_or(ScalarType::Dynamic)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A server's words in a message.
pub fn server_words(text: &str) -> String {
    line(text, MESSAGE_CHARS)
}

fn head(body: &[u8]) -> String {
    if body.is_empty() {
        "an empty body".to_owned()
    } else {
        // One character more than is looked at, of four bytes each: else it would not show that the body goes on.
        let most = 4 * (LOOKED_AT * HEAD_CHARS + 1);
        line(&String::from_utf8_lossy(&body[..body.len().min(most)]), HEAD_CHARS)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kusto::stream::{Arriving, Form};

    fn read(form: Form, body: &[u8]) -> Result<ResultTable, Failure> {
        let mut table = ResultTable::default();
        let mut arriving = Arriving::new(form, &mut table);
        arriving.push(body)?;
        arriving.finish().map(|()| table)
    }

    fn v1(body: &[u8]) -> Result<ResultTable, Failure> {
        read(Form::V1, body)
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
        assert_eq!(
            failure(&silent),
            "the answer is incomplete: DataSetCompletion does not say that there were no errors"
        );
        let mut cancelled = frames();
        cancelled[4]["Cancelled"] = true.into();
        assert_eq!(failure(&cancelled), "the answer is incomplete: the query was cancelled");
        let mut status = frames();
        status[3]["Rows"][0] = json!([2, 1, "{\"Text\":\"partial\"}"]);
        assert_eq!(
            failure(&status),
            "the answer is incomplete: the status table reports an error: {\"Text\":\"partial\"}"
        );
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
            (
                answer(["Name", "OperationId"], json!([["8e", "7f"]])),
                "a row does not say whether the records were stored",
            ),
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
            assert_eq!(read(Form::Ingestion, body.as_bytes()).is_ok(), is_done, "{body}");
        }
    }
}
