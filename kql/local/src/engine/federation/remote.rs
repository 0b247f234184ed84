//! The way to other servers: Kusto's query protocol over HTTP, to loopback addresses only, and a short memory of remote columns. Asynchronous; the legs
//! call it through the planner's runtime.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kql::types::ScalarType;
use serde_json::{Value, json};

use crate::{
    engine::{Limits, execute::check_caps},
    error::{KustoError, KustoErrorKind, TABLE_UNRESOLVED},
    rows::{Column, Rows, RowsBuilder, Schema},
};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the columns of a leg are remembered. A new column on another server shows after this time at the latest.
const SCHEMA_LIFE: Duration = Duration::from_secs(10);
/// Kusto's default time-out of a query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(240);
/// JSON is longer than the data it carries, by less than this factor for any data we send.
const JSON_OVERHEAD: u64 = 8;

/// The HTTP client and the memory of remote columns; one per server, cheap to clone.
#[derive(Debug, Clone)]
pub struct RemoteClusters {
    client: Option<reqwest::Client>,
    schemas: Arc<Mutex<Schemas>>,
    refused: bool,
}

/// Columns by cluster, database and leg text, with the time they were asked for.
type Schemas = BTreeMap<(String, String, String), (Instant, Schema)>;

impl Default for RemoteClusters {
    fn default() -> Self {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .ok();
        Self { client, schemas: Arc::default(), refused: false }
    }
}

impl RemoteClusters {
    /// The same memory, but every remote entity is refused: for requests with `request_remote_entities_disabled`.
    #[must_use]
    pub fn disabled(&self) -> Self {
        Self { refused: true, ..self.clone() }
    }

    /// Forgets the columns of a remote database. `cluster` is an endpoint in any spelling.
    pub fn clear(&self, cluster: &str, database: &str) {
        let cluster = canonical(cluster);
        self.lock().retain(|(known, name, _), _| *known != cluster || !name.eq_ignore_ascii_case(database));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Schemas> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known_schema(&self, cluster: &str, database: &str, leg: &str) -> Option<Schema> {
        let key = (canonical(cluster), database.to_owned(), leg.to_owned());
        self.lock().get(&key).filter(|(asked, _)| asked.elapsed() < SCHEMA_LIFE).map(|(_, schema)| schema.clone())
    }

    pub(super) fn remember_schema(&self, cluster: &str, database: &str, leg: &str, schema: &Schema) {
        let mut schemas = self.lock();
        schemas.retain(|_, (asked, _)| asked.elapsed() < SCHEMA_LIFE);
        schemas.insert((canonical(cluster), database.to_owned(), leg.to_owned()), (Instant::now(), schema.clone()));
    }

    /// Runs a query text on another server. Its first result table, within the caps.
    pub(super) async fn query(
        &self,
        cluster: &str,
        database: &str,
        text: &str,
        deadline: Option<Instant>,
        limits: Limits,
    ) -> Result<Rows, KustoError> {
        if self.refused {
            return Err(KustoError::bad_request(format!(
                "The query reaches the cluster '{cluster}', and the request does not allow remote entities (request_remote_entities_disabled)."
            )));
        }
        let endpoint = kql::endpoint::ClusterEndpoint::parse(cluster).map_err(|error| {
            KustoError::remote_failed(format!("The cluster '{cluster}' cannot be reached: {error}."))
        })?;
        if !endpoint.is_loopback() {
            return Err(KustoError::remote_failed(format!(
                "The cluster '{cluster}' cannot be reached: this server talks to servers on this machine only."
            )));
        }
        let client = self.client.as_ref().ok_or_else(|| KustoError::internal("No HTTP client could be made."))?;
        // A leg gives up a little earlier than the query, so that best_effort can still answer without it.
        let left =
            deadline.map_or(QUERY_TIMEOUT, |deadline| deadline.saturating_duration_since(Instant::now()) / 10 * 9);
        let body = json!({
            "db": database,
            "csl": text,
            "properties": { "Options": {
                "servertimeout": kql::literal::timespan(i64::try_from(left.as_millis()).unwrap_or(i64::MAX / 10_000) * 10_000),
                "request_readonly": true,
                // No hub of hubs: a leg that reaches further servers is refused there.
                "request_remote_entities_disabled": true,
            } },
        });
        let away = |error: &reqwest::Error| {
            KustoError::remote_failed(format!("The cluster '{cluster}' could not be reached: {}.", innermost(error)))
        };
        let response = client
            .post(format!("{}/v2/rest/query", endpoint.as_str()))
            .header("accept", "application/json")
            .header("x-ms-app", "kusto-local")
            .header("x-ms-client-request-id", format!("kusto-local;{}", uuid::Uuid::new_v4()))
            .timeout(left)
            .json(&body)
            .send()
            .await
            .map_err(|error| away(&error))?;
        let status = response.status();
        let most = limits.bytes.saturating_mul(JSON_OVERHEAD);
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| away(&error))?);
            check_caps(0, u64::try_from(bytes.len()).unwrap_or(u64::MAX), Limits { bytes: most, ..limits })?;
        }
        let answer: Value = serde_json::from_slice(&bytes).map_err(|error| {
            KustoError::remote_failed(format!(
                "The cluster '{cluster}' answered with {status} and a body that is no JSON: {error}."
            ))
        })?;
        if !status.is_success() {
            return Err(reported(cluster, &answer));
        }
        primary_result(cluster, &answer, limits)
    }
}

/// An endpoint in one spelling; what is no endpoint stays as it is.
pub(super) fn canonical(cluster: &str) -> String {
    kql::endpoint::ClusterEndpoint::parse(cluster)
        .map_or_else(|_| cluster.to_owned(), |endpoint| endpoint.as_str().to_owned())
}

fn innermost(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

/// The error that another server reports, in its own class where that matters here.
fn reported(cluster: &str, answer: &Value) -> KustoError {
    let outer = &answer["error"];
    let error = if outer["innererror"]["code"].is_string() { &outer["innererror"] } else { outer };
    let message = error["@message"].as_str().or_else(|| error["message"].as_str()).unwrap_or("it gave no reason");
    let kind = match error["code"].as_str().unwrap_or_default() {
        "SEM0056" => KustoErrorKind::Unresolved { code: "SEM0056" },
        "SEM0260" if message.contains(TABLE_UNRESOLVED) => KustoErrorKind::Unresolved { code: "SEM0260" },
        "SEM0100" if message.contains(TABLE_UNRESOLVED) => KustoErrorKind::Unresolved { code: "SEM0100" },
        "SEM0260" => KustoErrorKind::Semantic { code: "SEM0260" },
        "SEM0100" => KustoErrorKind::Semantic { code: "SEM0100" },
        code if code.starts_with("SEM") => KustoErrorKind::Semantic { code: "SEM0001" },
        code if code.contains("DatabaseNotExist") => KustoErrorKind::DatabaseNotFound,
        code if code.contains("EntityNotFound") => KustoErrorKind::NotFound,
        code if code.contains("NotSupported") => KustoErrorKind::Unsupported,
        "LimitsExceeded" => KustoErrorKind::LimitExceeded,
        "Timeout" => KustoErrorKind::TimedOut,
        "TooManyRequests" => KustoErrorKind::Throttled,
        _ => KustoErrorKind::RemoteFailed,
    };
    let message = message.trim_end_matches('.');
    KustoError::new(kind, format!("The cluster '{cluster}' refused its part of the query: {message}"))
}

/// The rows of the first primary result. An error anywhere in the frames discards all of them: a part would look like the whole.
fn primary_result(cluster: &str, answer: &Value, limits: Limits) -> Result<Rows, KustoError> {
    let malformed =
        || KustoError::remote_failed(format!("The cluster '{cluster}' answered in a form that is not Kusto's."));
    let frames = answer.as_array().ok_or_else(malformed)?;
    for frame in frames {
        if frame["HasErrors"] == true {
            let errors = &frame["OneApiErrors"];
            return Err(reported(cluster, errors.get(0).unwrap_or(&Value::Null)));
        }
    }
    let table = frames
        .iter()
        .find(|frame| frame["FrameType"] == "DataTable" && frame["TableKind"] == "PrimaryResult")
        .ok_or_else(malformed)?;
    let mut columns = Vec::new();
    for column in table["Columns"].as_array().ok_or_else(malformed)? {
        let name = column["ColumnName"].as_str().ok_or_else(malformed)?;
        let scalar_type: ScalarType =
            column["ColumnType"].as_str().and_then(|name| name.parse().ok()).ok_or_else(malformed)?;
        columns.push(Column::new(name, scalar_type));
    }
    let mut builder = RowsBuilder::new(Schema::new(columns));
    for row in table["Rows"].as_array().ok_or_else(malformed)? {
        let Some(cells) = row.as_array() else {
            return Err(reported(cluster, row["OneApiErrors"].get(0).unwrap_or(row)));
        };
        builder.push_json(cells);
    }
    let rows = builder.finish("PrimaryResult");
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let bytes = rows.batches.iter().map(crate::engine::execute::size_of).sum();
    check_caps(count, bytes, limits)?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(rows: &Value, has_errors: bool) -> Value {
        json!([
            { "FrameType": "DataSetHeader" },
            {
                "FrameType": "DataTable", "TableKind": "PrimaryResult",
                "Columns": [{ "ColumnName": "a", "ColumnType": "long" }], "Rows": rows,
            },
            { "FrameType": "DataSetCompletion", "HasErrors": has_errors },
        ])
    }

    #[test]
    fn an_error_anywhere_in_the_answer_discards_all_rows() {
        let whole = primary_result("c", &frames(&json!([[1], [2]]), false), Limits::default()).expect("two rows");
        assert_eq!(whole.len(), 2);
        assert!(primary_result("c", &frames(&json!([[1], [2]]), true), Limits::default()).is_err());
        let row = json!([[1], { "OneApiErrors": [{ "error": { "code": "LimitsExceeded", "@message": "too much" } }] }]);
        let error = primary_result("c", &frames(&row, false), Limits::default()).expect_err("a partial answer");
        assert_eq!(error.kind, KustoErrorKind::LimitExceeded);
    }

    #[test]
    fn the_caps_hold_for_every_leg() {
        let error = primary_result("c", &frames(&json!([[1], [2]]), false), Limits { rows: 1, bytes: 1_000 });
        assert_eq!(error.expect_err("too many rows").kind, KustoErrorKind::LimitExceeded);
    }
}
