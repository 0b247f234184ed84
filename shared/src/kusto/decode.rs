//! Decodes answers. HTTP 200 is not success: an answer counts only if it says that it is complete and nothing in it is an error. Pure.

use std::{fmt, str::FromStr as _};

use kql::{
    secrets::{LOOKED_AT, line},
    types::ScalarType,
};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
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
    rows: Rows,
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
    rows: Rows,
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
    pub(super) rows: Rows,
}

/// The rows of a table. Each one that was handed over has left an empty list: of those, only how many there are.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) empty: usize,
    pub(super) others: Vec<Value>,
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Rows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rows")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rows, A::Error> {
                let mut rows = Rows::default();
                while let Some(row) = seq.next_element::<Value>()? {
                    if row.as_array().is_some_and(Vec::is_empty) {
                        rows.empty += 1;
                    } else {
                        rows.others.push(row);
                    }
                }
                Ok(rows)
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}

impl Frame {
    fn is_primary(&self) -> bool {
        self.frame_type == "DataTable" && self.table_kind.as_deref() == Some("PrimaryResult")
    }
}

/// The columns of the primary result of an answer to a query, if that is the last table, has null in the place of its rows, and is not one that tells of the query, whose rows are looked at.
pub(super) fn columns_of_v2(so_far: &[u8]) -> Option<Vec<ColumnInfo>> {
    let mut frames: Vec<Frame> = serde_json::from_slice(so_far).ok()?;
    let last = frames.pop().filter(Frame::is_primary)?;
    if frames.iter().any(Frame::is_primary) { None } else { columns_of_data(last.columns, &last.rows) }
}

/// As [`columns_of_v2`], of the answer to a command.
pub(super) fn columns_of_v1(so_far: &[u8]) -> Option<Vec<ColumnInfo>> {
    let V1 { tables, .. } = serde_json::from_slice(so_far).ok()?;
    let [table] = <[V1Table; 1]>::try_from(tables).ok()?;
    columns_of_data(table.columns, &table.rows)
}

fn columns_of_data(columns: Vec<Column>, rows: &Rows) -> Option<Vec<ColumnInfo>> {
    let is_next = rows.empty == 0 && rows.others == [Value::Null];
    let is_data = status(&columns).is_none() && !columns.is_empty();
    (is_next && is_data).then(|| infos(columns))
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
fn check_rows(columns: &[Column], rows: &Rows) -> Result<(), Failure> {
    if let Some(failure) = rows.others.iter().filter(|row| !row.is_array()).find_map(in_band) {
        return Err(failure);
    }
    if let Some(row) = rows.others.iter().find(|row| !row.is_array()) {
        return Err(Failure::Incomplete { why: format!("a row is no array: {}", server_words(&row.to_string())) });
    }
    let Some((level, words)) = status(columns) else { return Ok(()) };
    for row in &rows.others {
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
mod tests;
