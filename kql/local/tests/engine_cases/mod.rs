//! A server in this process with two small tables, and the ways the engine's tests ask it.

#![allow(clippy::panic)] // A failed expectation is what a test is for.

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use kusto_local::{
    DEFAULT_DATABASE, Server, ServerOptions,
    engine::{Limits, QueryContext, RemoteClusters, run_query},
    error::{KustoError, KustoErrorKind},
    rows::Rows,
};
use serde_json::{Value, json};

/// Where `make stories` wants to have what was sent, for Microsoft's parser to read it: a file for each server, whose name ends with a number of its own.
pub(crate) fn recording() -> Option<PathBuf> {
    static SERVERS: AtomicUsize = AtomicUsize::new(0);
    let folder = env::var_os("ADX_FEDERATION_RECORDINGS")?;
    let server = SERVERS.fetch_add(1, Ordering::Relaxed);
    Some(PathBuf::from(folder).join(format!("engine-{}-{server}.jsonl", process::id())))
}

/// A server and what queries on it run in.
#[allow(dead_code)] // Each test file uses a part.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) context: QueryContext,
}

#[allow(dead_code)] // Each test file uses a part.
impl World {
    /// `Requests(id, url, duration)` with three rows and `Errors(id, code)` with two.
    pub(crate) async fn new() -> Self {
        let world = Self::empty().await;
        world.command(".create table Requests (id:long, url:string, duration:long)").await;
        world.command(".create table Errors (id:long, code:long)").await;
        world.command(".ingest inline into table Requests <| 1,/a,50\n2,/b,150\n3,/a,250").await;
        world.command(".ingest inline into table Errors <| 1,1\n2,2").await;
        world
    }

    /// Without tables.
    pub(crate) async fn empty() -> Self {
        Self::started(ServerOptions::default()).await
    }

    /// A server of these options, without tables.
    pub(crate) async fn started(mut options: ServerOptions) -> Self {
        options.record = options.record.or_else(recording);
        let server = Server::start(options).await.unwrap();
        let context = QueryContext {
            catalog: Arc::clone(server.catalog()),
            database: DEFAULT_DATABASE.to_owned(),
            now: kusto_local::clock::now_ticks() + 10_000_000,
            parameters: BTreeMap::new(),
            limits: Limits::default(),
            deadline: None,
            remote: RemoteClusters::default(),
        };
        Self { server, context }
    }

    /// Runs a management command over the wire; it must succeed.
    pub(crate) async fn command(&self, text: &str) {
        let response = reqwest::Client::new()
            .post(format!("{}/v1/rest/mgmt", self.server.url()))
            .json(&json!({ "db": DEFAULT_DATABASE, "csl": text }))
            .send()
            .await
            .unwrap();
        let ok = response.status().is_success();
        let body = response.text().await.unwrap();
        assert!(ok, "{text}: {body}");
    }

    /// Runs a query text.
    pub(crate) async fn run(&self, text: &str) -> Result<Vec<Rows>, KustoError> {
        run_query(&self.context, text).await
    }

    /// The one result of a query that must succeed.
    pub(crate) async fn one(&self, text: &str) -> Rows {
        match self.run(text).await {
            Ok(mut tables) if tables.len() == 1 => tables.remove(0),
            Ok(tables) => panic!("{text}: {} results", tables.len()),
            Err(error) => panic!("{text}: {error}"),
        }
    }

    /// Exactly these rows in this order.
    pub(crate) async fn values(&self, text: &str, expected: Value) {
        let rows = self.one(text).await;
        assert_eq!(json!(rows.json()), expected, "{text}");
    }

    /// Exactly these columns and rows.
    pub(crate) async fn table(&self, text: &str, columns: &[&str], expected: Value) {
        let rows = self.one(text).await;
        let found: Vec<String> =
            rows.schema.columns().iter().map(|column| format!("{}:{}", column.name, column.scalar_type)).collect();
        assert_eq!(found, columns, "{text}");
        assert_eq!(json!(rows.json()), expected, "{text}");
    }

    /// A semantic error with this code, whose message says this.
    pub(crate) async fn fails(&self, text: &str, code: &str, part: &str) {
        match self.run(text).await {
            Ok(_) => panic!("{text} succeeded"),
            Err(error) => {
                let found = match error.kind {
                    KustoErrorKind::Semantic { code } | KustoErrorKind::Unresolved { code } => code,
                    _ => "",
                };
                assert!(found == code && error.message.contains(part), "{text}: {error}");
            }
        }
    }
}
