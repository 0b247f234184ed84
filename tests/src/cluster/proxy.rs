//! A proxy in front of the API server, for one operator: notes every request, spoils answers, cuts watches, and stops at a given write. Plain HTTP on this side, so
//! that it needs no certificate; the operator's token passes through. I/O: loopback HTTP and HTTPS.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::Response,
};
use futures::StreamExt as _;
use tokio::{net::TcpListener, sync::watch};

use super::control_plane::ControlPlane;

/// One request that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// GET, PATCH, ...
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The answer's status; 0 while there is none.
    pub status: u16,
}

impl Seen {
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }

    /// Whether it is about a lease.
    pub fn is_lease(&self) -> bool {
        self.path.contains("/leases")
    }
}

/// Answers requests in place of the API server.
#[derive(Debug, Clone)]
struct Rule {
    method: String,
    containing: String,
    status: u16,
    times: usize,
}

#[derive(Debug, Default)]
struct Notes {
    seen: Vec<Seen>,
    rule: Option<Rule>,
    /// After this many writes, leases not counted, nothing passes any more.
    writes_left: Option<usize>,
    /// Writes that passed and have no answer yet.
    in_flight: usize,
}

/// The running proxy.
#[derive(Debug)]
pub struct ApiProxy {
    /// Its address, in place of the API server's.
    pub url: String,
    notes: Arc<Mutex<Notes>>,
    cut: watch::Sender<u64>,
    stopped: Arc<watch::Sender<bool>>,
}

#[derive(Clone)]
struct World {
    upstream: String,
    client: reqwest::Client,
    notes: Arc<Mutex<Notes>>,
    cut: watch::Receiver<u64>,
    stopped: Arc<watch::Sender<bool>>,
}

impl ApiProxy {
    /// Starts.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start(plane: &ControlPlane) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
        let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
        let (cut, cuts) = watch::channel(0);
        let stopped = Arc::new(watch::Sender::new(false));
        let notes = Arc::default();
        let world = World {
            upstream: plane.url(),
            client: plane.http_client(),
            notes: Arc::clone(&notes),
            cut: cuts,
            stopped: Arc::clone(&stopped),
        };
        let router = Router::new().fallback(forward).with_state(world);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, notes, cut, stopped }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that has passed since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.notes().seen)
    }

    /// The next `times` requests of this method whose path holds `containing` are answered with `status`; with 0, never. A watch is told 410 in its stream.
    pub fn answer(&self, method: &str, containing: &str, status: u16, times: usize) {
        self.notes().rule = Some(Rule { method: method.to_owned(), containing: containing.to_owned(), status, times });
    }

    /// How often the rule is still to be met.
    pub fn still_to_meet(&self) -> usize {
        self.notes().rule.as_ref().map_or(0, |rule| rule.times)
    }

    /// Breaks every watch that is open.
    pub fn cut_watches(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Lets `writes` more writes pass and then nothing; waits until it has come to that.
    pub async fn stop_after(&self, writes: usize) {
        self.stopped.send_replace(false);
        self.notes().writes_left = Some(writes);
        // The proxy lives as long as this.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Everything passes again.
    pub fn go_on(&self) {
        self.notes().writes_left = None;
    }
}

async fn forward(State(world): State<World>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let seen = Seen { method: method.to_string(), path: path.clone(), status: 0 };
    let counts = seen.is_write() && !seen.is_lease();
    let Some((index, spoilt)) = begin(&world, seen, counts) else {
        // As if the network were gone.
        return std::future::pending().await;
    };
    let note = |status: u16| {
        let mut notes = world.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // `take` may have emptied the list.
        if let Some(seen) = notes.seen.get_mut(index) {
            seen.status = status;
        }
    };
    if spoilt == Some(0) {
        // No answer at all.
        return std::future::pending().await;
    }
    let is_watch = path.contains("watch=true") || path.contains("watch=1");
    if let Some(status) = spoilt {
        note(status);
        let reason = match status {
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            429 => "TooManyRequests",
            _ => "InternalError",
        };
        let mut body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": "spoilt by the story", "code": status});
        if is_watch && status == 410 {
            // The API server takes every watch, and tells in its first event that the version is too old.
            body["message"] = "too old resource version: 1 (2)".into();
            let event = serde_json::json!({"type": "ERROR", "object": body});
            return answer(StatusCode::OK, "application/json", Body::from(format!("{event}\n")));
        }
        return answer(
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "application/json",
            Body::from(body.to_string()),
        );
    }
    let mut request = world.client.request(method, format!("{}{path}", world.upstream)).body(body);
    for (name, value) in
        headers.iter().filter(|(name, _)| !matches!(name.as_str(), "host" | "content-length" | "accept-encoding"))
    {
        request = request.header(name, value);
    }
    // What passes arrives, whatever becomes of who sent it.
    let notes = Arc::clone(&world.notes);
    let stopped = Arc::clone(&world.stopped);
    let sent = tokio::spawn(async move {
        let upstream = request.send().await;
        if counts {
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.in_flight -= 1;
            if notes.writes_left == Some(0) && notes.in_flight == 0 {
                stopped.send_replace(true);
            }
        }
        upstream
    });
    let Ok(Ok(upstream)) = sent.await else {
        return answer(StatusCode::BAD_GATEWAY, "text/plain", Body::from("no upstream"));
    };
    let status = upstream.status();
    note(status.as_u16());
    let kind = upstream
        .headers()
        .get("content-type")
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("application/json")
        .to_owned();
    if !is_watch {
        let bytes = upstream.bytes().await.unwrap_or_default();
        return answer(status, &kind, Body::from(bytes));
    }
    let mut cut = world.cut.clone();
    let current = *cut.borrow_and_update();
    let until_cut = async move { drop(cut.wait_for(|count| *count != current).await) };
    answer(status, &kind, Body::from_stream(upstream.bytes_stream().take_until(Box::pin(until_cut))))
}

/// Notes a request; `None` if nothing passes any more. Its place in the notes, and the status that it is spoilt with.
fn begin(world: &World, seen: Seen, counts: bool) -> Option<(usize, Option<u16>)> {
    let mut notes = world.notes.lock().unwrap_or_else(PoisonError::into_inner);
    if notes.writes_left == Some(0) {
        if notes.in_flight == 0 {
            world.stopped.send_replace(true);
        }
        return None;
    }
    if counts {
        notes.writes_left = notes.writes_left.map(|left| left - 1);
    }
    let rule = notes.rule.as_mut();
    let rule = rule.filter(|rule| rule.times > 0 && rule.method == seen.method && seen.path.contains(&rule.containing));
    let spoilt = rule.map(|rule| {
        rule.times -= 1;
        rule.status
    });
    notes.in_flight += usize::from(counts && spoilt.is_none());
    notes.seen.push(seen);
    Some((notes.seen.len() - 1, spoilt))
}

fn answer(status: StatusCode, kind: &str, body: Body) -> Response {
    Response::builder().status(status).header("content-type", kind).body(body).expect("the parts are valid")
}
