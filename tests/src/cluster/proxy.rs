//! A proxy in front of the API server, for one operator: notes every request, spoils answers, has every write meet a fault, holds a request up, cuts watches, and
//! stops at a given write. Plain HTTP on this side, so that it needs no certificate; the operator's token passes through. I/O: loopback HTTP and HTTPS.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri},
    response::Response,
};
use futures::StreamExt as _;
use tokio::{sync::watch, time};

use super::{
    control_plane::ControlPlane,
    faults::{Faults, Spoilt, WriteFault},
    namespace::PATIENCE,
};
use crate::listener::{Cut, Port};

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

/// What becomes of a request that does not simply pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// This status is its answer.
    Answered(u16),
    /// It never has one.
    Silence,
    Fault(WriteFault),
}

/// Whether a request is held up.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// The next one of a method whose path holds a text.
    Next(String, String),
    /// It is there, and waits.
    Waits,
}

#[derive(Debug, Default)]
struct Notes {
    seen: Vec<Seen>,
    rule: Option<Rule>,
    faults: Option<Faults>,
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
    hold: Arc<watch::Sender<Hold>>,
}

#[derive(Clone)]
struct World {
    upstream: String,
    client: reqwest::Client,
    notes: Arc<Mutex<Notes>>,
    cut: watch::Receiver<u64>,
    stopped: Arc<watch::Sender<bool>>,
    hold: Arc<watch::Sender<Hold>>,
}

impl ApiProxy {
    /// Starts.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start(plane: &ControlPlane) -> Self {
        let port = Port::open(0, None).await.expect("a loopback port can be bound");
        let url = format!("http://{}", port.address());
        let (cut, cuts) = watch::channel(0);
        let stopped = Arc::new(watch::Sender::new(false));
        let hold = Arc::new(watch::Sender::new(Hold::Nothing));
        let notes = Arc::default();
        let world = World {
            upstream: plane.url(),
            client: plane.http_client(),
            notes: Arc::clone(&notes),
            cut: cuts,
            stopped: Arc::clone(&stopped),
            hold: Arc::clone(&hold),
        };
        let router = Router::new().fallback(forward).with_state(world);
        let service = router.into_make_service_with_connect_info::<Cut>();
        tokio::spawn(async move { axum::serve(port, service).await });
        Self { url, notes, cut, stopped, hold }
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

    /// From now on every write, leases too, meets this fault the first time that it is sent; applies and other patches the first `times` times. What a write is is told
    /// by its method and path, field manager included, and by which fields it is about.
    pub fn spoil_each_write(&self, fault: WriteFault, times: usize) {
        self.notes().faults = Some(Faults::new(fault, times));
    }

    /// Ends that: what has met the fault.
    pub fn heal(&self) -> Spoilt {
        self.notes().faults.take().map_or_else(Spoilt::default, Faults::end)
    }

    /// The next request of this method whose path holds `containing` is not passed on before [`let_go`](Self::let_go).
    pub fn hold(&self, method: &str, containing: &str) {
        self.hold.send_replace(Hold::Next(method.to_owned(), containing.to_owned()));
    }

    /// Waits until that request is there.
    ///
    /// # Panics
    /// If it does not come.
    pub async fn until_held(&self) {
        let mut hold = self.hold.subscribe();
        let held = time::timeout(PATIENCE, hold.wait_for(|hold| *hold == Hold::Waits)).await;
        // The proxy lives as long as this.
        assert!(held.is_ok(), "no such request: {:?}", self.hold.borrow());
    }

    /// The request that is held up goes on.
    pub fn let_go(&self) {
        self.hold.send_replace(Hold::Nothing);
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

async fn forward(
    State(world): State<World>,
    ConnectInfo(connection): ConnectInfo<Cut>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let seen = Seen { method: method.to_string(), path: path.clone(), status: 0 };
    let counts = seen.is_write() && !seen.is_lease();
    held_up(&world, &seen).await;
    let Some((index, fate)) = begin(&world, seen, counts, &body) else {
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
    let is_watch = path.contains("watch=true") || path.contains("watch=1");
    match fate {
        Some(Fate::Silence) => return std::future::pending().await,
        Some(Fate::Answered(status)) => {
            note(status);
            return refusal(status, is_watch);
        }
        Some(Fate::Fault(WriteFault::Refused(status))) => {
            note(status);
            let mut answer = refusal(status, false);
            if status == 429 {
                // As the API server says it.
                answer.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
            }
            return answer;
        }
        Some(Fate::Fault(WriteFault::Reset)) => {
            connection.now();
            return answer(StatusCode::OK, "text/plain", Body::empty());
        }
        Some(Fate::Fault(WriteFault::Lost)) | None => {}
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
    if fate.is_some() {
        connection.now();
    }
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

/// Waits while this request is to be held up.
async fn held_up(world: &World, seen: &Seen) {
    let is_meant = world.hold.send_if_modified(|hold| {
        let is_meant =
            matches!(&*hold, Hold::Next(method, text) if *method == seen.method && seen.path.contains(text.as_str()));
        if is_meant {
            *hold = Hold::Waits;
        }
        is_meant
    });
    if is_meant {
        // The proxy has the sender.
        let _ = world.hold.subscribe().wait_for(|hold| *hold != Hold::Waits).await;
    }
}

/// Notes a request; `None` if nothing passes any more. Its place in the notes, and what becomes of it.
fn begin(world: &World, seen: Seen, counts: bool, body: &[u8]) -> Option<(usize, Option<Fate>)> {
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
    let ruled = rule.map(|rule| {
        rule.times -= 1;
        if rule.status == 0 { Fate::Silence } else { Fate::Answered(rule.status) }
    });
    let fate = ruled.or_else(|| notes.faults.as_mut()?.meet(&seen, body).map(Fate::Fault));
    let passes = matches!(fate, None | Some(Fate::Fault(WriteFault::Lost)));
    notes.in_flight += usize::from(counts && passes);
    notes.seen.push(seen);
    Some((notes.seen.len() - 1, fate))
}

/// The API server's way to say no.
fn refusal(status: u16, is_watch: bool) -> Response {
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
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer(status, "application/json", Body::from(body.to_string()))
}

fn answer(status: StatusCode, kind: &str, body: Body) -> Response {
    Response::builder().status(status).header("content-type", kind).body(body).expect("the parts are valid")
}
