//! A server for one test, and short ways to talk to it.

use std::{
    env, fs,
    io::Write,
    path::PathBuf,
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use flate2::{Compression, write::GzEncoder};
use kusto_local::{Server, ServerOptions};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

pub(crate) struct Local {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

/// An answer: its status and its body.
pub(crate) type Answer = (StatusCode, Value);

impl Local {
    /// A server with the databases `Logs` and `Metrics`.
    pub(crate) async fn start() -> Self {
        Self::with(ServerOptions::default()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        let databases = vec!["Logs".to_owned(), "Metrics".to_owned()];
        let record = options.record.clone().or_else(recording);
        let server = Server::start(ServerOptions { databases, record, ..options }).await.unwrap();
        Self { server, client: Client::new() }
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.server.url()))
    }

    pub(crate) async fn send(&self, path: &str, body: Value) -> Answer {
        answer(self.post(path).json(&body)).await
    }

    /// A command in `Logs`, with whatever it answers.
    pub(crate) async fn try_command(&self, csl: &str) -> Answer {
        self.send("/v1/rest/mgmt", json!({ "db": "Logs", "csl": csl })).await
    }

    /// A command in `Logs` that must succeed: the rows of its table.
    pub(crate) async fn command(&self, csl: &str) -> Vec<Value> {
        let (status, body) = self.try_command(csl).await;
        assert_eq!(status, StatusCode::OK, "{csl}: {body}");
        body["Tables"][0]["Rows"].as_array().unwrap().clone()
    }

    /// A command in `Logs` that must succeed: its rows as objects by column.
    pub(crate) async fn records(&self, csl: &str) -> Vec<Value> {
        let (status, body) = self.try_command(csl).await;
        assert_eq!(status, StatusCode::OK, "{csl}: {body}");
        let table = &body["Tables"][0];
        let names: Vec<_> = table["Columns"].as_array().unwrap().iter().map(|c| c["ColumnName"].clone()).collect();
        let record = |row: &Value| -> Value {
            names
                .iter()
                .zip(row.as_array().unwrap())
                .map(|(name, cell)| (name.as_str().unwrap(), cell.clone()))
                .collect()
        };
        table["Rows"].as_array().unwrap().iter().map(record).collect()
    }

    /// A command in `Logs` that must fail: its status, its code and its message.
    pub(crate) async fn refusal(&self, csl: &str) -> (u16, String, String) {
        let (status, body) = self.try_command(csl).await;
        assert_ne!(status, StatusCode::OK, "{csl}: {body}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (status.as_u16(), text(&body["error"]["code"]), text(&body["error"]["@message"]))
    }

    /// A query in `Logs` that must succeed: the rows of its result.
    pub(crate) async fn query(&self, csl: &str) -> Vec<Value> {
        let (status, body) = self.send("/v2/rest/query", json!({ "db": "Logs", "csl": csl })).await;
        assert_eq!(status, StatusCode::OK, "{csl}: {body}");
        body[2]["Rows"].as_array().unwrap().clone()
    }

    /// A streaming ingestion into `Logs`; `table` may carry a query string.
    pub(crate) async fn stream(&self, table: &str, body: impl Into<Vec<u8>>) -> Answer {
        answer(self.post(&format!("/v1/rest/ingest/Logs/{table}")).body(body.into())).await
    }
}

/// A file that a server reads again when it changes; it goes with the test.
pub(crate) struct Reread {
    pub(crate) path: PathBuf,
}

impl Reread {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let file = Self { path: env::temp_dir().join(format!("kusto-local-{name}-{}.txt", process::id())) };
        file.write(text);
        file
    }

    /// Renamed into place: the server never reads half of it.
    pub(crate) fn write(&self, text: &str) {
        let half = self.path.with_extension("half");
        fs::write(&half, text).unwrap();
        fs::rename(&half, &self.path).unwrap();
    }
}

impl Drop for Reread {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Where `make stories` wants to have what was sent, for Microsoft's parser to read it: a file for each server, whose name ends with a number of its own.
pub(crate) fn recording() -> Option<PathBuf> {
    static SERVERS: AtomicUsize = AtomicUsize::new(0);
    let folder = env::var_os("ADX_FEDERATION_RECORDINGS")?;
    let server = SERVERS.fetch_add(1, Ordering::Relaxed);
    Some(PathBuf::from(folder).join(format!("kusto-local-{}-{server}.jsonl", process::id())))
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status} {text:?}: {error}")))
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}
