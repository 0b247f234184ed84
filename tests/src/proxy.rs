//! A proxy in front of a local Kusto that can spoil answers: faults at the wire, where nothing real makes them on command. I/O: loopback HTTP.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::Response,
};
use tokio::net::TcpListener;

use crate::loopback;

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is refused service: 503 with no Kusto body.
    Unavailable,
    /// The answer ends in the middle.
    Cut,
    /// 200 with an error in place of a row.
    ErrorInside,
    /// A login page of some gateway, 200.
    Html,
    /// Elsewhere.
    Redirect,
    /// Kusto's throttling.
    Throttled,
    /// 401: not who we must be.
    Unauthorized,
}

/// Requests whose text holds `containing` meet `fault`.
#[derive(Debug, Clone)]
struct Rule {
    containing: String,
    fault: Fault,
    met: usize,
}

/// The running proxy.
#[derive(Debug)]
pub struct FaultProxy {
    /// Its address, in place of the server's.
    pub url: String,
    rule: Arc<Mutex<Option<Rule>>>,
}

#[derive(Clone)]
struct World {
    upstream: String,
    rule: Arc<Mutex<Option<Rule>>>,
}

impl FaultProxy {
    /// Starts in front of a server, without a fault.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
        let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
        let rule = Arc::default();
        let world = World { upstream: upstream.to_owned(), rule: Arc::clone(&rule) };
        let router = Router::new().fallback(forward).with_state(world);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, rule }
    }

    /// From now on requests whose text holds `containing` meet the fault.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn spoil(&self, containing: &str, fault: Fault) {
        let rule = Rule { containing: containing.to_owned(), fault, met: 0 };
        *self.rule.lock().expect("no holder of this lock panics") = Some(rule);
    }

    /// From now on everything passes. Returns how many requests met the fault.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn heal(&self) -> usize {
        self.rule.lock().expect("no holder of this lock panics").take().map_or(0, |rule| rule.met)
    }

    /// How many requests have met the fault so far.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn met(&self) -> usize {
        self.rule.lock().expect("no holder of this lock panics").as_ref().map_or(0, |rule| rule.met)
    }
}

async fn forward(State(world): State<World>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let fault = {
        let mut rule = world.rule.lock().expect("no holder of this lock panics");
        rule.as_mut().filter(|rule| String::from_utf8_lossy(&body).contains(&rule.containing)).map(|rule| {
            rule.met += 1;
            rule.fault
        })
    };
    let answer = |status: StatusCode, kind: &str, body: Vec<u8>| {
        Response::builder()
            .status(status)
            .header(CONTENT_TYPE, kind)
            .body(Body::from(body))
            .expect("the parts are valid")
    };
    match fault {
        Some(Fault::Unavailable) => return answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", b"down".to_vec()),
        Some(Fault::Html) => return answer(StatusCode::OK, "text/html", b"<html>please sign in</html>".to_vec()),
        Some(Fault::Throttled) => return answer(StatusCode::TOO_MANY_REQUESTS, "application/json", b"{}".to_vec()),
        Some(Fault::Unauthorized) => {
            return answer(StatusCode::UNAUTHORIZED, "application/json", b"{}".to_vec());
        }
        Some(Fault::Redirect) => {
            let mut response = answer(StatusCode::TEMPORARY_REDIRECT, "text/plain", Vec::new());
            response.headers_mut().insert("location", "http://127.0.0.1:9/elsewhere".parse().expect("a valid value"));
            return response;
        }
        Some(Fault::Cut | Fault::ErrorInside) | None => {}
    }
    let mut request = loopback::client().request(method, format!("{}{uri}", world.upstream)).body(body);
    for (name, value) in
        headers.iter().filter(|(name, _)| !matches!(name.as_str(), "host" | "content-length" | "accept-encoding"))
    {
        request = request.header(name, value);
    }
    let Ok(upstream) = request.send().await else {
        return answer(StatusCode::BAD_GATEWAY, "text/plain", b"no upstream".to_vec());
    };
    let (status, kind) = (upstream.status(), upstream.headers().get(CONTENT_TYPE).cloned());
    let kind = kind.as_ref().and_then(|kind| kind.to_str().ok()).unwrap_or("application/json").to_owned();
    let bytes = upstream.bytes().await.unwrap_or_default().to_vec();
    match fault {
        Some(Fault::Cut) => answer(status, &kind, bytes[..bytes.len() / 2].to_vec()),
        Some(Fault::ErrorInside) => answer(status, &kind, with_error_inside(&bytes)),
        _ => answer(status, &kind, bytes),
    }
}

/// The same answer with its rows replaced by an error, as Kusto does when a query fails after its rows began.
fn with_error_inside(answer: &[u8]) -> Vec<u8> {
    let error = serde_json::json!({"OneApiErrors": [{"error": {
        "code": "LimitsExceeded", "message": "Request is invalid and cannot be executed.", "@type": "Kusto.Data.Exceptions.KustoServicePartialQueryFailureLimitsExceededException",
        "@message": "Query execution has exceeded the allowed limits", "@permanent": false}}]});
    let mut body: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let tables = match &mut body {
        serde_json::Value::Array(frames) => frames.iter_mut().collect::<Vec<_>>(),
        other => other["Tables"].as_array_mut().map(|tables| tables.iter_mut().collect()).unwrap_or_default(),
    };
    for table in
        tables.into_iter().filter(|table| table["TableKind"].is_null() || table["TableKind"] == "PrimaryResult")
    {
        if let Some(rows) = table["Rows"].as_array_mut() {
            rows.truncate(1);
            rows.push(error.clone());
        }
    }
    body.to_string().into_bytes()
}
