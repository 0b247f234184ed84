//! One request to one cluster. I/O: HTTP. The host was found trustworthy before the client existed.
//!
//! Tokens come from azure_identity, the sending is reqwest's own: azure_core's pipeline buffers whole bodies unless asked otherwise, repeats POSTs by
//! default, and its token policy refuses plain http, which local servers speak. What it would add is three headers.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use futures::StreamExt as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use kql::{
    endpoint::ClusterEndpoint,
    literal,
    names::{DatabaseName, TableName},
    request::{Request, RequestKind},
    statements::IngestInline,
};
use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    decode,
    error::{ClientError, Failure, KustoError},
    retry,
    stream::{AnswerReader, Form},
    table::{DecodeError, Fold, ResultTable, Row, RowSink},
    trust::HostTrust,
};
use crate::{
    credential::{CredentialConfig, TokenSource},
    runtime::Metrics,
};

/// How a client behaves; the same for all clusters of a process.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Whom to trust with a token, and the tokens' audience.
    pub trust: HostTrust,
    /// Who asks, for the cluster's own logs (`x-ms-app`).
    pub application: String,
    /// To make a connection.
    pub connect_timeout: Duration,
    /// The server's time-out of queries and `.show` commands.
    pub query_timeout: Duration,
    /// The server's time-out of other commands, and of ingestion.
    pub command_timeout: Duration,
    /// How much longer than the server's time-out the client waits, so that the server's error arrives rather than ours.
    pub margin: Duration,
    /// The most bytes of an answer, after decompression. Kusto's own limit of a result is 64 MiB of data.
    pub max_answer_bytes: usize,
    /// The most requests in a second, and at once.
    pub requests_per_second: NonZeroU32,
    /// Before a request is sent again for the first time; doubles with each repeat.
    pub first_pause: Duration,
    /// Where refused identities are counted; nowhere in a client that no metrics watch.
    pub metrics: Option<Metrics>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            trust: HostTrust::default(),
            application: "adx-federation".to_owned(),
            connect_timeout: Duration::from_secs(10),
            query_timeout: Duration::from_secs(2 * 60),
            command_timeout: Duration::from_secs(5 * 60),
            margin: Duration::from_secs(15),
            max_answer_bytes: 80 * 1024 * 1024,
            requests_per_second: const { NonZeroU32::new(20).expect("20 is not zero") },
            first_pause: Duration::from_secs(1),
            metrics: None,
        }
    }
}

/// The client of one cluster; cheap to clone.
#[derive(Clone)]
pub struct KustoClient(Arc<Inner>);

struct Inner {
    endpoint: ClusterEndpoint,
    base: Url,
    http: reqwest::Client,
    token: Option<TokenSource>,
    limiter: DefaultDirectRateLimiter,
    options: ClientOptions,
}

/// One HTTP request, ready to be sent as often as the retry rule allows.
struct Call {
    name: &'static str,
    url: Url,
    content_type: &'static str,
    body: bytes::Bytes,
    repeatable: bool,
    timeout: Duration,
    form: Form,
}

impl std::fmt::Debug for KustoClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KustoClient").field("endpoint", &self.0.endpoint).finish_non_exhaustive()
    }
}

impl KustoClient {
    /// A client for one cluster. Trust is decided here: nothing is ever sent to a host that is not Kusto's. Sends nothing itself.
    ///
    /// # Errors
    /// If the host is neither a Kusto host of the configured cloud nor loopback, if it needs a credential and there is none, or if HTTP cannot be set up.
    pub fn new(
        endpoint: ClusterEndpoint,
        credential: &CredentialConfig,
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let token = if endpoint.is_loopback() {
            None
        } else if !options.trust.trusts(&endpoint) {
            return Err(ClientError::Untrusted { endpoint, cloud: options.trust.cloud });
        } else if *credential == CredentialConfig::None {
            return Err(ClientError::NoCredential { endpoint });
        } else {
            Some(TokenSource::new(credential.clone(), options.trust.cloud.audience()))
        };
        let mut http = reqwest::Client::builder()
            .redirect(Policy::none())
            .connect_timeout(options.connect_timeout)
            .https_only(!endpoint.is_loopback())
            .user_agent(concat!("adx-federation/", env!("CARGO_PKG_VERSION")));
        if endpoint.is_loopback() {
            // A proxy of the environment is for other machines.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|source| ClientError::Http { endpoint: endpoint.clone(), source })?;
        let base = Url::parse(endpoint.as_str()).expect("a ClusterEndpoint is scheme and host");
        if let Some(metrics) = &options.metrics {
            metrics.cluster(&endpoint);
        }
        let limiter = RateLimiter::direct(Quota::per_second(options.requests_per_second));
        Ok(Self(Arc::new(Inner { endpoint, base, http, token, limiter, options })))
    }

    /// The cluster.
    pub fn endpoint(&self) -> &ClusterEndpoint {
        &self.0.endpoint
    }

    /// Sends a query or command and gives its primary result, complete or not at all. Requests that may be repeated are, at most twice; each try has its
    /// own time-out.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn send(&self, request: &Request) -> Result<ResultTable, KustoError> {
        let mut table = ResultTable::default();
        self.ask(request, &mut table).await?;
        Ok(table)
    }

    /// As [`Self::send`], for answers that may be long: `take` makes something of each row when it arrives, and no row is kept. What was made is given back if the answer is complete, or
    /// why a row could not be read; `take` must decide nothing before.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn fold<S: Default + Send>(
        &self,
        request: &Request,
        take: impl FnMut(&mut S, Row<'_>) -> Result<(), DecodeError> + Send,
    ) -> Result<Result<S, DecodeError>, KustoError> {
        let mut fold = Fold::new(take);
        self.ask(request, &mut fold).await?;
        Ok(fold.finish())
    }

    async fn ask(&self, request: &Request, sink: &mut dyn RowSink) -> Result<(), KustoError> {
        let options = &self.0.options;
        let (path, form) = match request.kind() {
            RequestKind::Query | RequestKind::RemoteQuery => ("/v2/rest/query", Form::V2),
            RequestKind::Show | RequestKind::IdempotentControl | RequestKind::Control => {
                ("/v1/rest/mgmt", Form::V1 { may_be_empty: false })
            }
        };
        let server_timeout =
            if request.kind().is_read_only() { options.query_timeout } else { options.command_timeout };
        let mut url = self.0.base.clone();
        url.set_path(path);
        let call = Call {
            name: request.name(),
            url,
            content_type: "application/json; charset=utf-8",
            body: body(request, server_timeout).to_string().into(),
            repeatable: request.kind().is_repeatable(),
            timeout: server_timeout + options.margin,
            form,
        };
        self.call(call, sink).await
    }

    /// Streams rows of CSV into a table. Sent again when the answer is lost: readers of heartbeats take the newest row of each partition, so a double is
    /// harmless. Not for tables where it is not.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ingest_csv(&self, database: &DatabaseName, table: &TableName, rows: &str) -> Result<(), KustoError> {
        let mut url = self.0.base.clone();
        url.path_segments_mut().expect("https and http addresses have a path").extend([
            "v1",
            "rest",
            "ingest",
            database.as_str(),
            table.as_str(),
        ]);
        url.query_pairs_mut().append_pair("streamFormat", "Csv");
        let call = Call {
            name: "ingest_csv",
            url,
            content_type: "text/csv; charset=utf-8",
            body: rows.to_owned().into(),
            repeatable: true,
            timeout: self.0.options.command_timeout + self.0.options.margin,
            form: Form::V1 { may_be_empty: true },
        };
        self.call(call, &mut ResultTable::default()).await
    }

    /// Appends records by command: by several, one after the other, where they are too many for one. The first that fails ends it, and what was appended before stays;
    /// none is sent again that may have been received. Readers must survive a part of the records, and a double of them, as those do who take the newest row of each name.
    ///
    /// # Errors
    /// See [`Failure`]; also [`Failure::Rejected`] where the answer says that the records were not stored, and [`Failure::Incomplete`] where it does not say.
    pub async fn ingest_inline(&self, ingestion: &IngestInline<'_>) -> Result<(), KustoError> {
        for request in ingestion.requests() {
            let answer = self.send(&request).await?;
            decode::ingested(&answer).map_err(|failure| KustoError {
                endpoint: self.0.endpoint.clone(),
                request: request.name(),
                failure,
            })?;
        }
        Ok(())
    }

    async fn call(&self, call: Call, sink: &mut dyn RowSink) -> Result<(), KustoError> {
        let mut repeats = 0;
        loop {
            self.0.limiter.until_ready().await;
            let outcome = match timeout(call.timeout, self.once(&call, sink)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::TimedOut { after: call.timeout }),
            };
            let failure = match outcome {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let pause = retry::pause(&failure, call.repeatable, repeats, self.0.options.first_pause, rand::random());
            let Some(pause) = pause else {
                let error = KustoError { endpoint: self.0.endpoint.clone(), request: call.name, failure };
                if let Some(metrics) = self.0.options.metrics.as_ref().filter(|_| error.is_auth()) {
                    metrics.auth_failure(&self.0.endpoint);
                }
                return Err(error);
            };
            tracing::debug!(endpoint = %self.0.endpoint, request = call.name, %failure, ?pause, "request is sent again");
            sleep(pause).await;
            repeats += 1;
        }
    }

    async fn once(&self, call: &Call, sink: &mut dyn RowSink) -> Result<(), Failure> {
        let Inner { http, token, options, .. } = &*self.0;
        let mut request = http
            .post(call.url.clone())
            .header(CONTENT_TYPE, call.content_type)
            .header(ACCEPT, "application/json")
            .header("x-ms-client-request-id", format!("adx-federation.{};{}", call.name, Uuid::new_v4()))
            .header("x-ms-app", &options.application)
            .header("x-ms-client-version", concat!("adx-federation:", env!("CARGO_PKG_VERSION")))
            .body(call.body.clone());
        let mut signed = None;
        if let Some(token) = token {
            let header = token.header().await.map_err(Failure::Credential)?;
            request = request.header(AUTHORIZATION, header.clone());
            signed = Some((token, header));
        }
        let response = request
            .send()
            .await
            .map_err(|error| Failure::Transport { maybe_received: !error.is_connect(), source: error.without_url() })?;
        let status = response.status();
        let retry_after = retry_after(&response);
        if status.is_redirection() {
            return Err(Failure::Redirected { status: status.as_u16() });
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::Throttled { retry_after });
        }
        if let Some((token, header)) = signed.filter(|_| status == StatusCode::UNAUTHORIZED) {
            token.forget(&header).await;
        }
        if status.is_success() {
            return read(response, options.max_answer_bytes, AnswerReader::new(call.form, sink)).await;
        }
        let body = beginning(response, options.max_answer_bytes).await?;
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::Unauthorized { status: status.as_u16(), message: decode::message(&body) }
            }
            status => decode::rejection(status.as_u16(), &body),
        })
    }
}

/// The body of a request. Options bind the server to what the request is: a query cannot change anything, nor reach beyond its cluster.
fn body(request: &Request, server_timeout: Duration) -> Value {
    let ticks = i64::try_from(server_timeout.as_nanos() / 100).unwrap_or(i64::MAX);
    let mut options = Map::new();
    options.insert("servertimeout".to_owned(), literal::timespan(ticks).into());
    if request.kind().is_read_only() {
        options.insert("request_readonly".to_owned(), true.into());
    }
    let forbidden: &[&str] = match request.kind() {
        RequestKind::Query => {
            &["request_remote_entities_disabled", "request_external_data_disabled", "request_callout_disabled"]
        }
        RequestKind::RemoteQuery => &["request_external_data_disabled"],
        RequestKind::Show | RequestKind::IdempotentControl | RequestKind::Control => &[],
    };
    options.extend(forbidden.iter().map(|option| ((*option).to_owned(), true.into())));
    let mut body = json!({"csl": request.text(), "properties": {"Options": options}});
    if !request.parameters().is_empty() {
        body["properties"]["Parameters"] = json!(request.parameters());
    }
    if let Some(database) = request.database() {
        body["db"] = database.as_str().into();
    }
    body
}

/// Takes an answer as it arrives, until its end or until it is longer than `limit`.
async fn read(response: Response, limit: usize, mut answer: AnswerReader<'_>) -> Result<(), Failure> {
    let mut bytes = 0;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broke_off(bytes, error))?;
        bytes += chunk.len();
        if bytes > limit {
            return Err(Failure::TooLarge { limit });
        }
        answer.push(&chunk)?;
    }
    answer.finish()
}

/// The body of an answer whose status is an error, which says enough: no more than `limit` of it.
async fn beginning(response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broke_off(body.len(), error))?;
        body.extend_from_slice(&chunk[..chunk.len().min(limit - body.len())]);
        if body.len() == limit {
            break;
        }
    }
    Ok(body)
}

fn broke_off(bytes: usize, error: reqwest::Error) -> Failure {
    Failure::Incomplete { why: format!("it broke off after {bytes} bytes: {}", error.without_url()) }
}

/// `Retry-After` in seconds; its other form, a date, is not used by Kusto.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds: u64 = response.headers().get(RETRY_AFTER).map(HeaderValue::to_str)?.ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
