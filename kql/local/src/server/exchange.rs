//! One request from its arrival to its answer: wait, admit, read, do, record, answer. Called by the routes.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{extract::Request, http::HeaderMap, response::Response};
use bytes::Bytes;
use kql::{literal, types::ScalarType};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::{App, DEFAULT_DATABASE, body, faults::Fault};
use crate::{
    commands,
    commands::CommandContext,
    engine::{self, Limits, QueryContext},
    error::{KustoError, KustoErrorKind},
    ingest::{self, Format, Gate, MAX_STREAMING_BYTES, Payload},
    record::Line,
    rows::{Column, RowsBuilder},
    wire::{
        APPLICATION, CLIENT_REQUEST_ID, Exchange, ExchangeKind, fault,
        options::{DEFAULT_COMMAND_TIMEOUT, DEFAULT_QUERY_TIMEOUT},
        request::{RawBody, RequestBody},
        v1, v2,
    },
};

/// The most bytes of a query's or command's body, before and after decompression. Kusto's own bound is not documented; this one holds any `.ingest inline` that makes
/// sense.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// What is at a path.
#[derive(Debug, Clone)]
pub(super) enum Endpoint {
    Command,
    QueryV1,
    QueryV2,
    Ingest(Streaming),
    Metadata,
    /// A URL that makes no sense, and why.
    Malformed(String),
    Unknown,
}

/// What the URL of a streaming ingestion says.
#[derive(Debug, Clone)]
pub(super) struct Streaming {
    pub(super) database: String,
    pub(super) table: String,
    pub(super) format: Option<String>,
    pub(super) mapping: Option<String>,
    pub(super) source_kind: Option<String>,
}

impl Endpoint {
    const fn kind(&self) -> ExchangeKind {
        match self {
            Self::Command => ExchangeKind::Command,
            Self::QueryV1 | Self::QueryV2 => ExchangeKind::Query,
            Self::Ingest(_) => ExchangeKind::Ingest,
            Self::Metadata | Self::Malformed(_) | Self::Unknown => ExchangeKind::Other,
        }
    }

    /// What a request says of itself, as far as it can be read: in its body, or in the path of an ingestion, whose body is data.
    fn said(&self, body: &[u8]) -> RawBody {
        match self {
            Self::Ingest(streaming) => RawBody { database: streaming.database.as_str().into(), ..RawBody::default() },
            Self::Command | Self::QueryV1 | Self::QueryV2 | Self::Metadata | Self::Malformed(_) | Self::Unknown => {
                RawBody::read(body).unwrap_or_default()
            }
        }
    }

    const fn max_body_bytes(&self) -> usize {
        match self {
            Self::Ingest(_) => MAX_STREAMING_BYTES,
            Self::Command | Self::QueryV1 | Self::QueryV2 | Self::Metadata | Self::Malformed(_) | Self::Unknown => {
                MAX_BODY_BYTES
            }
        }
    }
}

/// Answers one request. Never fails: an error is an answer too.
pub(super) async fn exchange(app: Arc<App>, endpoint: Endpoint, request: Request) -> Response {
    let (parts, request_body) = request.into_parts();
    let exchange = begin(&app, endpoint.kind(), &parts.headers);
    let mut line = Line {
        time: literal::datetime(exchange.received),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        db: Value::Null,
        csl: Value::Null,
        properties: Value::Null,
        status: 0,
        request_bytes: 0,
        response_bytes: 0,
        client_request_id: exchange.client_request_id.clone(),
        application: header(&parts.headers, APPLICATION),
        fault: None,
    };
    if app.delay > Duration::ZERO {
        tokio::time::sleep(app.delay).await;
    }
    let mut fault = None;
    let answered = async {
        let _permit = app.permits.try_acquire().map_err(|_| {
            KustoError::new(
                KustoErrorKind::Throttled,
                "The request is denied due to throttling: too many requests are under way.",
            )
        })?;
        let max = endpoint.max_body_bytes();
        let sent = body::read(&parts.headers, request_body, max).await?;
        line.request_bytes = sent.len();
        let sent = ingest::inflate(sent, max)?;
        if let Some(faults) = &app.faults {
            let said = endpoint.said(&sent);
            fault = faults.next(&line.path, &said, &sent);
            if let Some(fault) = &fault {
                // Told when it arrives: what is never answered is never recorded.
                tracing::warn!(path = line.path, ?fault, "a fault on purpose");
                // What is not done is recorded all the same.
                RawBody { database: line.db, csl: line.csl, properties: line.properties } = said;
            }
        }
        match &fault {
            Some(Fault::Status(status)) => {
                return Err(KustoError::new(KustoErrorKind::OnPurpose { status: *status }, "a fault on purpose"));
            }
            Some(Fault::Delay(millis)) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Some(Fault::Reset | Fault::Html | Fault::Redirect(_)) => return Ok(Vec::new()),
            Some(Fault::HalfScript) => {
                let mut body: Value = serde_json::from_slice(&sent).unwrap_or_default();
                if let Some(half) = body["csl"].as_str().and_then(commands::halved_script) {
                    body["csl"] = half.into();
                    answer(&app, &endpoint, &exchange, body.to_string().into(), &mut line).await?;
                    std::future::pending::<()>().await;
                }
            }
            _ => {}
        }
        if let Some(rows) = fault.as_ref().zip(line.csl.as_str()).and_then(|(fault, csl)| fault.undone(csl)) {
            return Ok(v1::command_body(&[rows], &exchange));
        }
        let answer = answer(&app, &endpoint, &exchange, sent, &mut line).await?;
        Ok(match &fault {
            Some(fault) => fault.spoil(answer),
            None => answer,
        })
    };
    let answered: Result<Vec<u8>, KustoError> = answered.await;
    let (status, json) = match answered {
        Ok(json) => (200, json),
        Err(error) => {
            tracing::debug!(path = line.path, %error, "a request failed");
            (error.kind.status(), fault::body(&error, &exchange).to_string().into_bytes())
        }
    };
    line.status = status;
    line.response_bytes = json.len();
    line.fault.clone_from(&fault);
    if let Some(recorder) = &app.recorder {
        recorder.write(&line).await;
    }
    match fault {
        Some(Fault::Reset | Fault::Lost) => body::lost(),
        Some(Fault::Cut) => body::cut(&json[..json.len() / 2]),
        Some(Fault::Html) => body::page(),
        Some(Fault::Redirect(url)) => body::redirect(&url),
        _ => body::respond(&parts.headers, &exchange, status, json),
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn begin(app: &App, kind: ExchangeKind, headers: &HeaderMap) -> Exchange {
    let activity_id = uuid::Uuid::new_v4().to_string();
    let client_request_id = header(headers, CLIENT_REQUEST_ID);
    Exchange {
        client_request_id: client_request_id.unwrap_or_else(|| format!("unspecified;{activity_id}")),
        activity_id,
        received: app.clock.now_ticks(),
        kind,
        service_alias: app.catalog.own_endpoint().to_owned(),
    }
}

async fn answer(
    app: &Arc<App>,
    endpoint: &Endpoint,
    exchange: &Exchange,
    sent: Bytes,
    line: &mut Line,
) -> Result<Vec<u8>, KustoError> {
    match endpoint {
        Endpoint::Metadata => Ok(metadata().to_string().into_bytes()),
        Endpoint::Malformed(why) => Err(KustoError::bad_request(why.clone())),
        Endpoint::Unknown => Err(KustoError::new(
            KustoErrorKind::UnknownPath,
            format!("There is nothing at {} for this method.", line.path),
        )),
        Endpoint::Ingest(streaming) => {
            line.db = streaming.database.as_str().into();
            let (app, streaming, exchange) = (Arc::clone(app), streaming.clone(), exchange.clone());
            isolated(async move { stream(&app, &streaming, &sent, &exchange) }).await
        }
        Endpoint::Command | Endpoint::QueryV1 | Endpoint::QueryV2 => {
            let raw = RawBody::read(&sent)?;
            let body = raw.validate();
            RawBody { database: line.db, csl: line.csl, properties: line.properties } = raw;
            let mut body = body?;
            if exchange.kind == ExchangeKind::Query {
                body.options.read_statements(&body.csl)?;
            }
            let timeout = body.options.timeout(match exchange.kind {
                ExchangeKind::Command => DEFAULT_COMMAND_TIMEOUT,
                ExchangeKind::Query | ExchangeKind::Ingest | ExchangeKind::Other => DEFAULT_QUERY_TIMEOUT,
            });
            let work = isolated(run(Arc::clone(app), endpoint.clone(), body, timeout, exchange.clone()));
            tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(timed_out(timeout)))
        }
    }
}

/// Runs the work as a task of its own: a bug in it becomes an answer, and a client that goes away stops it.
async fn isolated(
    work: impl Future<Output = Result<Vec<u8>, KustoError>> + Send + 'static,
) -> Result<Vec<u8>, KustoError> {
    match AbortOnDropHandle::new(tokio::spawn(work)).await {
        Ok(answered) => answered,
        Err(error) => {
            tracing::error!(%error, "a request ended without an answer");
            Err(KustoError::internal("The request ended without an answer; this is a bug of kusto-local."))
        }
    }
}

fn timed_out(timeout: Duration) -> KustoError {
    KustoError::timed_out(format!(
        "Request execution timed out: it took longer than {} seconds.",
        timeout.as_secs_f64()
    ))
}

/// What the engine may hold for one result. The caps of the request are applied where the answer is written: there, what fits is sent with the error behind it, as
/// Kusto does; the engine can only fail.
const ENGINE_LIMITS: Limits = Limits { rows: u64::MAX, bytes: 1 << 30 };

async fn run(
    app: Arc<App>,
    endpoint: Endpoint,
    body: RequestBody,
    timeout: Duration,
    exchange: Exchange,
) -> Result<Vec<u8>, KustoError> {
    let RequestBody { database, csl, options, parameters } = body;
    let context = QueryContext {
        catalog: Arc::clone(&app.catalog),
        database: database.unwrap_or_else(|| DEFAULT_DATABASE.to_owned()),
        now: exchange.received,
        parameters,
        limits: ENGINE_LIMITS,
        deadline: Instant::now().checked_add(timeout),
        remote: if options.remote_entities_disabled { app.remote.disabled() } else { app.remote.clone() },
    };
    if exchange.kind == ExchangeKind::Command {
        let context = CommandContext { query: context, read_only: options.read_only };
        let tables = commands::run(&context, &csl).await?;
        return Ok(v1::command_body(&tables, &exchange));
    }
    let Some(database) = context.catalog.database(&context.database) else {
        return Err(KustoError::database_not_found(&context.database));
    };
    // The request may spell it in another case.
    let context = QueryContext { database: database.name().to_owned(), ..context };
    let (tables, failure) = match engine::run_query(&context, &csl).await {
        Ok(tables) => (tables, None),
        // The service notices when rows are on their way already, so its status is 200; here no row is left to send.
        Err(error) if error.kind == KustoErrorKind::LimitExceeded => (Vec::new(), Some(error)),
        Err(error) => return Err(error),
    };
    Ok(match endpoint {
        Endpoint::QueryV2 => v2::body(&tables, failure, options.caps(), &exchange),
        _ => v1::query_body(&tables, failure, options.caps(), &exchange),
    })
}

fn stream(app: &App, streaming: &Streaming, bytes: &[u8], exchange: &Exchange) -> Result<Vec<u8>, KustoError> {
    let Streaming { database, table, format, mapping, source_kind } = streaming;
    if let Some(kind) = source_kind.as_deref().filter(|kind| !kind.eq_ignore_ascii_case("stream")) {
        return Err(KustoError::unsupported(format!(
            "the source kind '{kind}' is not supported: send the data itself"
        )));
    }
    let database = app.catalog.database(database).ok_or_else(|| KustoError::database_not_found(database))?;
    let payload = Payload {
        bytes,
        format: Format::of_name(format.as_deref())?,
        mapping: mapping.as_deref(),
        ignore_first_record: false,
    };
    let count = ingest::ingest(&database, table, payload, Gate::Streaming, exchange.received)?;
    let columns = vec![
        Column::new("ConsumedRecordsCount", ScalarType::Long),
        Column::new("UpdatePolicyStatus", ScalarType::String),
        Column::new("UpdatePolicyFailureCode", ScalarType::String),
        Column::new("UpdatePolicyFailureReason", ScalarType::String),
    ];
    let mut builder = RowsBuilder::new(columns.into());
    builder.push_json(&[count.into(), "Inactive".into(), "Unknown".into(), Value::Null]);
    Ok(v1::command_body(&[builder.finish("Table_0")], exchange))
}

/// Where a client would get a token for the public cloud; nobody needs one here.
fn metadata() -> Value {
    json!({
        "AzureAD": {
            "LoginEndpoint": "https://login.microsoftonline.com",
            "LoginMfaRequired": false,
            "KustoClientAppId": "db662dc1-0cfe-4e1c-a843-19a68e65be58",
            "KustoClientRedirectUri": "https://microsoft/kustoclient",
            "KustoServiceResourceId": "https://kusto.kusto.windows.net",
            "FirstPartyAuthorityUrl": "https://login.microsoftonline.com/f8cdef31-a31e-4b4a-93e4-5f571e91255a",
        },
    })
}
