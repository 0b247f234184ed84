//! An API server in memory, in this process: it takes no time, so that with the clock stopped whatever waits for a timer shows. One namespace; no admission, no
//! defaults, no garbage collection. I/O: none.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, Uri},
    response::Response,
};
use futures::{StreamExt as _, channel::mpsc};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::kubernetes::child::FIELD_MANAGER;

/// The namespace of everything that has one.
pub(super) const NAMESPACE: &str = "monitoring";

/// An object by its plural and its name.
pub(super) type Key = (String, String);

#[derive(Clone, Default)]
pub(super) struct Server {
    stored: Arc<Mutex<Stored>>,
    written: Arc<Notify>,
}

#[derive(Default)]
struct Stored {
    objects: BTreeMap<Key, Value>,
    watches: Vec<(String, mpsc::UnboundedSender<Value>)>,
    version: u64,
    /// How often each object itself was written by somebody who asked, its status not counted.
    writes: BTreeMap<Key, usize>,
    /// The Events that were made, not those that were counted once more.
    events: Vec<Value>,
}

impl Stored {
    /// Stores, and tells whoever watches.
    fn put(&mut self, key: &Key, mut object: Value) -> Value {
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = self.version.to_string().into();
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("uid-{}", self.version).into();
        }
        let is_new = self.objects.insert(key.clone(), object.clone()).is_none();
        self.tell(key, if is_new { "ADDED" } else { "MODIFIED" }, &object);
        object
    }

    fn tell(&mut self, (plural, _): &Key, event: &str, object: &Value) {
        let event = json!({"type": event, "object": object});
        self.watches.retain(|(watched, watch)| watched != plural || watch.unbounded_send(event.clone()).is_ok());
    }
}

impl Server {
    pub(super) fn client(&self) -> Client {
        Client::new(Router::new().fallback(answer).with_state(self.clone()), NAMESPACE)
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().expect("no holder of this lock panics")
    }

    /// Everything that there is of kinds that are not ours.
    pub(super) fn children(&self) -> Vec<Key> {
        let ours = ["adxclusters", "ingestors", "collectors", "alerters"];
        self.stored().objects.keys().filter(|(plural, _)| !ours.contains(&plural.as_str())).cloned().collect()
    }

    pub(super) fn get(&self, key: &Key) -> Option<Value> {
        self.stored().objects.get(key).cloned()
    }

    /// What somebody else writes.
    pub(super) fn put(&self, key: &Key, object: Value) {
        self.stored().put(key, object);
    }

    /// What somebody else removes.
    pub(super) fn remove(&self, key: &Key) {
        let mut stored = self.stored();
        if let Some(object) = stored.objects.remove(key) {
            stored.tell(key, "DELETED", &object);
        }
    }

    /// How often an object was written by request.
    pub(super) fn writes(&self, key: &Key) -> usize {
        self.stored().writes.get(key).copied().unwrap_or_default()
    }

    /// The notes of Events that were made for a reason.
    pub(super) fn told(&self, reason: &str) -> Vec<String> {
        let stored = self.stored();
        let events = stored.events.iter().filter(|event| event["reason"] == reason);
        events.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits for one more write than `writes`.
    pub(super) async fn until_written(&self, key: &Key, writes: usize) {
        while self.writes(key) <= writes {
            self.written.notified().await;
        }
    }

    fn apply(&self, key: &Key, is_status: bool, content: &Value) -> Value {
        let mut stored = self.stored();
        let mut object = stored.objects.get(key).cloned().unwrap_or_else(|| json!({}));
        merge(&mut object, content);
        object["metadata"]["managedFields"] =
            json!([{"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": content["apiVersion"]}]);
        if !is_status {
            *stored.writes.entry(key.clone()).or_default() += 1;
            self.written.notify_waiters();
        }
        stored.put(key, object)
    }
}

/// As server-side apply does where nobody else has fields; lists are replaced.
fn merge(object: &mut Value, content: &Value) {
    match (object, content) {
        (Value::Object(object), Value::Object(content)) => {
            for (name, value) in content {
                merge(object.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (object, content) => *object = content.clone(),
    }
}

/// `/api/v1/...` or `/apis/GROUP/VERSION/...`, in a namespace or not: the plural, the name and the subresource.
fn place(path: &str) -> (String, Option<String>, bool) {
    let mut steps: Vec<String> = path.trim_matches('/').split('/').map(|step| step.replace("%3A", ":")).collect();
    steps.drain(..if steps[0] == "api" { 2 } else { 3 });
    if steps.len() > 2 && steps[0] == "namespaces" {
        steps.drain(..2);
    }
    let mut steps = steps.into_iter();
    (steps.next().unwrap_or_default(), steps.next(), steps.next().is_some_and(|step| step == "status"))
}

async fn answer(State(server): State<Server>, method: Method, uri: Uri, body: Bytes) -> Response {
    let (plural, name, is_status) = place(uri.path());
    let content = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let Some(name) = name else {
        // An Event that is made.
        if method == Method::POST {
            server.stored().events.push(content.clone());
            return json_answer(201, &content);
        }
        let is_watch = uri.query().is_some_and(|query| query.contains("watch=true"));
        return if is_watch { watch(&server, plural) } else { list(&server, &plural) };
    };
    let key = (plural, name);
    match method {
        Method::GET => match server.get(&key) {
            Some(object) => json_answer(200, &object),
            None => not_found(),
        },
        Method::PATCH => json_answer(200, &server.apply(&key, is_status, &content)),
        Method::DELETE => {
            server.remove(&key);
            json_answer(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        _ => not_found(),
    }
}

fn list(server: &Server, plural: &str) -> Response {
    let stored = server.stored();
    let items: Vec<_> =
        stored.objects.iter().filter(|((kind, _), _)| kind == plural).map(|(_, object)| object).collect();
    let metadata = json!({"resourceVersion": stored.version.to_string()});
    json_answer(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

/// Begins at once after the list: nothing is written in between by whom it could be missed.
fn watch(server: &Server, plural: String) -> Response {
    let (events, lines) = mpsc::unbounded();
    server.stored().watches.push((plural, events));
    Response::new(Body::from_stream(lines.map(|event: Value| Ok::<_, Infallible>(format!("{event}\n")))))
}

fn not_found() -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404});
    json_answer(404, &status)
}

fn json_answer(status: u16, value: &Value) -> Response {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Body::from(value.to_string())).expect("the parts are valid")
}
