//! One request to ARM. I/O: HTTPS, through azure_core's pipeline with azure_core's retries off.
//!
//! azure_core would send a PUT again whose answer was lost, and that begins a second operation beside the first. So only GETs are repeated here; after a lost
//! answer to anything else the caller looks before it writes again. An answer 429 silences the whole client for as long as Azure asks: the limit is the
//! subscription's, and other clusters' requests would only prolong it.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use azure_core::{
    Bytes,
    error::ErrorKind,
    http::{
        ClientOptions, Context, Method, Pipeline, PipelineStreamOptions, Request, RetryOptions, StatusCode, Transport,
        Url,
        headers::{HeaderName, Headers},
        policies::{Policy, PolicyResult},
    },
};
use futures::StreamExt as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use serde::{Serialize, de::DeserializeOwned};
use shared::credential::{CredentialError, TokenSource};
use tokio::time;

use super::{
    error::{ArmError, Refusal},
    settings::AzureSettings,
    types::{ErrorBody, Page},
};

/// The most bytes of an answer: the longest, the SKUs of all regions, has 2 MB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// How long one request may take. ARM answers within seconds, or with an operation to be looked at later.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a GET is sent at most.
const TRIES: u32 = 3;
/// Before a GET is sent again for the first time; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The wait after an answer 429 that does not say how long.
const DEFAULT_PAUSE: Duration = Duration::from_secs(30);
/// The longest that is waited because an answer says so.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
/// So many seconds' requests may be sent at once after a rest.
const BURST: NonZeroU32 = NonZeroU32::new(4).expect("4 is not zero");
/// The most pages of a list: a next link that leads in a circle ends.
const MAX_PAGES: usize = 200;

/// How many requests were sent, by how they were answered.
pub type ArmRequests = Family<RequestLabels, Counter>;

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// GET, PUT, ...
    method: String,
    /// `ok`, `refused`, `throttled`, `failed` (5xx), or `lost` where no answer came.
    outcome: &'static str,
}

/// The client; cheap to clone.
#[derive(Clone)]
pub struct ArmClient(Arc<Inner>);

struct Inner {
    pipeline: Pipeline,
    base: Url,
    limiter: DefaultDirectRateLimiter,
    counted: ArmRequests,
    silent_until: Mutex<Option<Instant>>,
}

/// A request.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// In the words of an error: `the cluster 'x'`.
    pub what: &'static str,
    pub method: Method,
    /// The segments of the path, each to be escaped.
    pub path: &'a [&'a str],
    pub api_version: &'static str,
    /// `If-None-Match: *`: only if it is not there yet.
    pub only_new: bool,
}

/// What goes out, each time that it does.
#[derive(Debug)]
struct Sent {
    what: &'static str,
    method: Method,
    url: Url,
    only_new: bool,
    body: Option<Bytes>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Bytes,
    /// Where the operation that it began can be looked at.
    pub operation: Option<String>,
    pub retry_after: Option<Duration>,
}

impl std::fmt::Debug for ArmClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArmClient").field("base", &self.0.base.as_str()).finish_non_exhaustive()
    }
}

/// Puts the token on each request. azure_core's own policy gives a token up five minutes before its end when its issuer does not answer.
#[derive(Debug)]
struct SignIn(TokenSource);

#[async_trait]
impl Policy for SignIn {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let header = self.0.header().await.map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
        let value = header.to_str().map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?.to_owned();
        request.insert_header("authorization", value);
        let answer = next[0].send(context, request, &next[1..]).await;
        if answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::Unauthorized) {
            self.0.forget(&header).await;
        }
        answer
    }
}

impl ArmClient {
    /// A client. Sends nothing yet.
    ///
    /// # Errors
    /// If HTTP cannot be set up.
    pub fn new(settings: &AzureSettings, counted: ArmRequests) -> Result<Self, reqwest::Error> {
        let base = settings.endpoint.base.clone();
        let http = reqwest::Client::builder()
            // A redirect would take the token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(PATIENCE)
            .https_only(base.scheme() == "https")
            .build()?;
        let options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(http))),
            ..ClientOptions::default()
        };
        let token = TokenSource::new(settings.credential.clone(), &settings.endpoint.audience);
        let pipeline = Pipeline::new(
            Some("adx-federation"),
            Some(env!("CARGO_PKG_VERSION")),
            options,
            Vec::new(),
            vec![Arc::new(SignIn(token))],
            None,
        );
        let per_second = settings.requests_per_second;
        let limiter = RateLimiter::direct(Quota::per_second(per_second).allow_burst(per_second.saturating_mul(BURST)));
        Ok(Self(Arc::new(Inner { pipeline, base, limiter, counted, silent_until: Mutex::default() })))
    }

    /// Whether an address is ARM's own: only there may a token go.
    pub fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.0.base.origin() && url.username().is_empty() && url.password().is_none()
    }

    /// Asks, and gives what was answered if it is a success.
    pub(super) async fn ask<B: Serialize>(&self, ask: Ask<'_>, body: Option<&B>) -> Result<Answer, ArmError> {
        let mut url = self.0.base.clone();
        url.path_segments_mut().expect("https addresses have a path").pop_if_empty().extend(ask.path);
        url.query_pairs_mut().append_pair("api-version", ask.api_version);
        let body = body.map(|body| serde_json::to_vec(body).expect("a body is JSON").into());
        self.send(&Sent { what: ask.what, method: ask.method, url, only_new: ask.only_new, body }).await
    }

    /// GETs an address that ARM gave, such as an operation's.
    ///
    /// # Errors
    /// Also if it is not ARM's own.
    pub(super) async fn get_link(&self, what: &'static str, link: &str) -> Result<Answer, ArmError> {
        let url = Url::parse(link).ok().filter(|url| self.is_own(url));
        let Some(url) = url else {
            let why = "it names an address that is not Azure's own, which gets no token".to_owned();
            return Err(ArmError::Unreadable { what, why });
        };
        self.send(&Sent { what, method: Method::Get, url, only_new: false, body: None }).await
    }

    /// All pages of a list.
    pub(super) async fn list<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<Vec<T>, ArmError> {
        let what = ask.what;
        let mut page: Page<T> = read(what, &self.ask::<()>(ask, None).await?)?;
        let mut all = page.value;
        for _ in 0..MAX_PAGES {
            let Some(link) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(all) };
            page = read(what, &self.get_link(what, &link).await?)?;
            all.append(&mut page.value);
        }
        Err(ArmError::Unreadable { what, why: format!("the list has no end after {MAX_PAGES} pages") })
    }

    async fn send(&self, sent: &Sent) -> Result<Answer, ArmError> {
        let mut tried = 0;
        loop {
            self.0.limiter.until_ready().await;
            // After the wait, in which another request may have been told to.
            if let Some(after) = self.silence() {
                return Err(ArmError::Throttled { after });
            }
            let answer = self.once(sent).await;
            let outcome = outcome_of(&answer);
            self.0.counted.get_or_create_owned(&RequestLabels { method: sent.method.to_string(), outcome }).inc();
            tried += 1;
            // A token that was not taken is another one next time.
            let is_lost = answer.as_ref().is_err_and(|error| {
                matches!(error, ArmError::Transport { .. })
                    || error.refusal().is_some_and(|refusal| refusal.status >= 500 || refusal.status == 401)
            });
            if !is_lost || sent.method != Method::Get || tried == TRIES {
                return answer;
            }
            time::sleep(FIRST_PAUSE * 2_u32.pow(tried - 1)).await;
        }
    }

    async fn once(&self, sent: &Sent) -> Result<Answer, ArmError> {
        let Sent { what, method, url, only_new, body } = sent;
        let what = *what;
        let mut request = Request::new(url.clone(), *method);
        request.insert_header("accept", "application/json");
        if *only_new {
            request.insert_header("if-none-match", "*");
        }
        if let Some(body) = body {
            request.insert_header("content-type", "application/json");
            request.set_body(body.clone());
        }
        let options = PipelineStreamOptions { skip_checks: true, ..PipelineStreamOptions::default() };
        let response = self.0.pipeline.stream(&Context::new(), &mut request, Some(options)).await;
        let (status, headers, mut stream) = response.map_err(|error| failed(what, error))?.deconstruct();
        let mut body = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|source| ArmError::Transport { what, maybe_accepted: true, source })?;
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(ArmError::Unreadable { what, why: format!("it is longer than {MAX_ANSWER_BYTES} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        let retry_after = header(&headers, "retry-after").and_then(|value| value.trim().parse().ok());
        let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
        if status == StatusCode::TooManyRequests {
            let after = retry_after.unwrap_or(DEFAULT_PAUSE);
            let mut until = self.0.silent_until.lock().expect("no holder of this lock panics");
            *until = (*until).max(Some(Instant::now() + after));
            return Err(ArmError::Throttled { after });
        }
        if !status.is_success() {
            #[derive(serde::Deserialize)]
            struct Envelope {
                error: ErrorBody,
            }
            let error = serde_json::from_slice::<Envelope>(&body).ok().map(|envelope| envelope.error);
            let refusal = Refusal::new(status.into(), error.as_ref(), &String::from_utf8_lossy(&body));
            return Err(ArmError::Refused { what, refusal });
        }
        let operation = header(&headers, "azure-asyncoperation").or_else(|| header(&headers, "location"));
        let operation = operation.map(str::to_owned);
        Ok(Answer { status: status.into(), body: body.into(), operation, retry_after })
    }

    /// For how long no request may be sent.
    fn silence(&self) -> Option<Duration> {
        let until = (*self.0.silent_until.lock().expect("no holder of this lock panics"))?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

const fn outcome_of(answer: &Result<Answer, ArmError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(ArmError::Throttled { .. }) => "throttled",
        Err(ArmError::Refused { refusal, .. }) if refusal.status < 500 => "refused",
        Err(ArmError::Refused { .. } | ArmError::Unreadable { .. }) => "failed",
        Err(ArmError::Credential(_) | ArmError::Transport { .. }) => "lost",
    }
}

/// The JSON of an answer.
pub(super) fn read<T: DeserializeOwned>(what: &'static str, answer: &Answer) -> Result<T, ArmError> {
    serde_json::from_slice(&answer.body).map_err(|error| ArmError::Unreadable { what, why: error.to_string() })
}

fn header<'a>(headers: &'a Headers, name: &'static str) -> Option<&'a str> {
    headers.get_optional_str(&HeaderName::from_static(name))
}

/// Why no answer came. A connection that was never made has carried nothing; of any other end nobody knows.
fn failed(what: &'static str, error: azure_core::Error) -> ArmError {
    let maybe_accepted = !matches!(error.kind(), ErrorKind::Connection | ErrorKind::Credential);
    match error.into_downcast::<CredentialError>() {
        Ok(credential) => ArmError::Credential(credential),
        Err(source) => ArmError::Transport { what, maybe_accepted, source },
    }
}

#[cfg(test)]
mod tests {
    use shared::{credential::CredentialConfig, kusto::Cloud};

    use super::*;
    use crate::azure::{ArmEndpoint, Place};

    #[tokio::test]
    async fn no_token_follows_an_address_that_is_not_azures_own() {
        let client = ArmClient::new(
            &AzureSettings {
                endpoint: ArmEndpoint::of(Cloud::Public).unwrap(),
                // Whatever is sent ends here.
                credential: CredentialConfig::None,
                place: Place::default(),
                imds: Url::parse("http://169.254.169.254").unwrap(),
                requests_per_second: NonZeroU32::MIN,
                interval: Duration::from_secs(1),
            },
            ArmRequests::default(),
        )
        .unwrap();
        for link in [
            "https://management.azure.com.evil.example.com/operations/1",
            "https://evil.example.com/operations/1",
            "http://management.azure.com/operations/1",
            "https://management.azure.com:8443/operations/1",
            "https://user@management.azure.com/operations/1",
            "//evil.example.com/operations/1",
            "operations/1",
        ] {
            let error = client.get_link("the operation", link).await.unwrap_err();
            assert!(error.to_string().contains("not Azure's own, which gets no token"), "{link}: {error}");
        }
        let own = client.get_link("the operation", "https://management.azure.com/operations/1?api-version=1").await;
        assert!(matches!(own.unwrap_err(), ArmError::Credential(_)), "its own is asked, with a token");
    }
}
