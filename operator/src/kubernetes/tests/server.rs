//! An API server in memory, in this process: it takes no time, so that with the clock stopped whatever waits for a timer shows. One namespace; no admission but [`Server::overrule`], no
//! defaults, no garbage collection. Writes can meet a [`Fault`]. I/O: none.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{Method, Uri},
    response::Response,
};
use futures::{StreamExt as _, channel::mpsc, stream};
use kube::Client;
use serde_json::{Value, json};
use shared::kubernetes::AGENT_FIELD_MANAGER;
use tokio::sync::Notify;

use crate::kubernetes::child::{FIELD_MANAGER, INSTANCE};

/// The namespace of everything that has one.
pub(super) const NAMESPACE: &str = "monitoring";

/// An object by its plural and its name.
pub(super) type Key = (String, String);

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is refused with this status.
    Refused(u16),
    /// The connection breaks before anybody has read it.
    Unheard,
    /// It is done, and the connection breaks before the answer.
    Unanswered,
    /// Just before it, somebody takes the object's `spec` away.
    Overtaken,
}

/// A write that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// The name of the object of ours for which it is.
    pub(super) owner: String,
    /// `PATCH ingestors/status`; with the field manager, where that is not the one of nearly all.
    pub(super) kind: String,
    /// The name of what is written; of an Event, its reason.
    pub(super) name: String,
    /// How many of that kind and name there were before.
    pub(super) before: usize,
}

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
    /// All that was asked for, in its order, whatever became of it.
    asked: Vec<Write>,
    faults: Vec<(Write, Fault)>,
    /// A plural of which nobody is told, and what is to be told.
    held: Option<(String, Vec<Value>)>,
    /// A plural that nobody may watch, nor list.
    refused: Option<String>,
    /// What admission makes of an object that is written: where, and what; without it, something else each time.
    admission: Vec<(Key, &'static str, Option<Value>)>,
    /// How often each plural was listed.
    listed: BTreeMap<String, usize>,
    /// How often each object was read by itself.
    read: BTreeMap<Key, usize>,
}

/// So often something else is made of an object: who writes it again and again comes to an end, and can be counted.
const MOST_ANSWERS: usize = 100;

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

    fn remove(&mut self, key: &Key, object: &Value) {
        self.objects.remove(key);
        self.tell(key, "DELETED", object);
    }

    fn tell(&mut self, (plural, _): &Key, event: &str, object: &Value) {
        let event = json!({"type": event, "object": object});
        match &mut self.held {
            Some((held, events)) if held == plural => events.push(event),
            _ => self.send(plural, &event),
        }
    }

    fn send(&mut self, plural: &str, event: &Value) {
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

    /// A condition of an object; null where it is not told.
    pub(super) fn condition(&self, key: &Key, kind: &str) -> Value {
        let object = self.get(key).expect("it is there");
        let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        conditions.find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
    }

    /// What somebody else writes.
    pub(super) fn put(&self, key: &Key, object: Value) {
        self.stored().put(key, object);
    }

    /// What somebody else removes; while finalizers keep it, it is only marked.
    pub(super) fn remove(&self, key: &Key) {
        let mut stored = self.stored();
        let Some(mut object) = stored.objects.get(key).cloned() else { return };
        if is_kept(&object) {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            stored.put(key, object);
        } else {
            stored.remove(key, &object);
        }
    }

    /// These writes are spoilt.
    pub(super) fn spoil(&self, faults: &[(Write, Fault)]) {
        self.stored().faults = faults.to_vec();
    }

    fn take_spec(&self, uri: &Uri) {
        let (plural, name, _) = place(uri.path());
        let key = (plural, name.unwrap_or_default());
        if let Some(mut object) = self.get(&key) {
            object.as_object_mut().expect("it is an object").remove("spec");
            self.put(&key, object);
        }
    }

    /// From now on, a field of an object has this value, whatever is written.
    pub(super) fn overrule(&self, key: &Key, path: &'static str, value: Value) {
        self.stored().admission.push((key.clone(), path, Some(value)));
    }

    /// From now on, a field of an object has another value with each write.
    pub(super) fn overrule_each_time(&self, key: &Key, path: &'static str) {
        self.stored().admission.push((key.clone(), path, None));
    }

    /// From now on, an object is stored as it is written.
    pub(super) fn let_pass(&self, key: &Key) {
        self.stored().admission.retain(|(overruled, ..)| overruled != key);
    }

    /// How often a plural was listed.
    pub(super) fn listed(&self, plural: &str) -> usize {
        self.stored().listed.get(plural).copied().unwrap_or_default()
    }

    /// How often an object was read by itself.
    pub(super) fn read(&self, key: &Key) -> usize {
        self.stored().read.get(key).copied().unwrap_or_default()
    }

    /// From now on the watches of a plural are behind.
    pub(super) fn hold_watches(&self, plural: &str) {
        self.stored().held = Some((plural.to_owned(), Vec::new()));
    }

    /// From now on the watches of a plural are refused, and those that there are end.
    pub(super) fn refuse_watches(&self, plural: &str) {
        let mut stored = self.stored();
        stored.watches.retain(|(watched, _)| watched != plural);
        stored.refused = Some(plural.to_owned());
    }

    /// They are not any more.
    pub(super) fn allow_watches(&self) {
        self.stored().refused = None;
    }

    /// They catch up.
    pub(super) fn release_watches(&self) {
        let mut stored = self.stored();
        let (plural, events) = stored.held.take().unwrap_or_default();
        events.iter().for_each(|event| stored.send(&plural, event));
    }

    /// All writes that were asked for.
    pub(super) fn asked(&self) -> Vec<Write> {
        self.stored().asked.clone()
    }

    /// Everything that there is, without what differs between equal histories: identities, versions and times.
    pub(super) fn state(&self) -> BTreeMap<Key, Value> {
        let mut objects = self.stored().objects.clone();
        objects.retain(|(plural, _), _| plural != EVENTS);
        for object in objects.values_mut() {
            let leave_out = |value: Option<&mut Value>, fields: &[&str]| {
                if let Some(value) = value.and_then(Value::as_object_mut) {
                    value.retain(|name, _| !fields.contains(&name.as_str()));
                }
            };
            leave_out(object.get_mut("metadata"), &["uid", "resourceVersion"]);
            let conditions = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
            conditions.into_iter().flatten().for_each(|condition| leave_out(Some(condition), &["lastTransitionTime"]));
        }
        objects
    }

    /// Notes that a write is asked for, and says what is to become of it.
    fn note(&self, method: &Method, uri: &Uri, content: &Value) -> Option<Fault> {
        let (plural, name, is_status) = place(uri.path());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut stored = self.stored();
        let (owner, name) = if plural == EVENTS {
            (text(&content["regarding"]["name"]), text(&content["reason"]).unwrap_or_default())
        } else {
            let name = name.unwrap_or_default();
            let live = stored.objects.get(&(plural.clone(), name.clone()));
            let of = |object: &Value| text(&object["metadata"]["labels"][INSTANCE]);
            (of(content).or_else(|| live.and_then(of)).or_else(|| Some(name.clone())), name)
        };
        let (subresource, manager) = (if is_status { "/status" } else { "" }, manager(uri));
        let by = if ["", FIELD_MANAGER].contains(&manager) { String::new() } else { format!(" by {manager}") };
        let (owner, kind) = (owner.unwrap_or_default(), format!("{method} {plural}{subresource}{by}"));
        let same = |write: &&Write| (&write.owner, &write.kind, &write.name) == (&owner, &kind, &name);
        let before = stored.asked.iter().filter(same).count();
        let write = Write { owner, kind, name, before };
        let fault = stored.faults.iter().find(|(spoilt, _)| *spoilt == write).map(|(_, fault)| *fault);
        stored.asked.push(write);
        fault
    }

    /// How often an object was written by request.
    pub(super) fn writes(&self, key: &Key) -> usize {
        self.stored().writes.get(key).copied().unwrap_or_default()
    }

    /// The notes of Events that were made for a reason.
    pub(super) fn told(&self, reason: &str) -> Vec<String> {
        self.told_where(|event| event["reason"] == reason)
    }

    /// Those about objects of a kind.
    pub(super) fn told_of(&self, kind: &str, reason: &str) -> Vec<String> {
        self.told_where(|event| event["reason"] == reason && event["regarding"]["kind"] == kind)
    }

    fn told_where(&self, fits: impl Fn(&Value) -> bool) -> Vec<String> {
        let stored = self.stored();
        let events = stored.events.iter().filter(|event| fits(event));
        events.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits for one more write than `writes`.
    pub(super) async fn until_written(&self, key: &Key, writes: usize) {
        while self.writes(key) <= writes {
            self.written.notified().await;
        }
    }

    fn apply(&self, key: &Key, is_status: bool, manager: &str, content: &Value) -> Value {
        let mut stored = self.stored();
        let mut object = stored.objects.get(key).cloned().unwrap_or_else(|| json!({}));
        if manager == AGENT_FIELD_MANAGER
            && let Some(told) = object.get_mut("status").and_then(Value::as_object_mut)
        {
            // All that this manager ever tells: what it does not say again goes.
            told.remove("federation");
        }
        merge(&mut object, content);
        object["metadata"]["managedFields"] =
            json!([{"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": content["apiVersion"]}]);
        let answers = stored.writes.get(key).copied().unwrap_or_default().min(MOST_ANSWERS);
        for (_, path, value) in stored.admission.iter().filter(|(overruled, ..)| overruled == key) {
            if let Some(field) = object.pointer_mut(path) {
                *field = value.clone().unwrap_or_else(|| format!("answer-{answers}").into());
            }
        }
        if !is_status {
            *stored.writes.entry(key.clone()).or_default() += 1;
            self.written.notify_waiters();
        }
        if !object["metadata"]["deletionTimestamp"].is_null() && !is_kept(&object) {
            stored.remove(key, &object);
            return object;
        }
        // Nobody is told of a write that changes nothing.
        let is_changed = stored.objects.get(key) != Some(&object);
        if is_changed { stored.put(key, object) } else { object }
    }
}

/// The plural of Events.
const EVENTS: &str = "events";

/// Whether finalizers keep an object that is deleted.
fn is_kept(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// Whether what is written is meant for the object that there is. Where none is, a version counts for nothing, and an identity is a conflict.
fn is_for(object: Option<&Value>, wanted: &Value) -> bool {
    let Some(object) = object else { return wanted["uid"].is_null() };
    let fits = |field: &str| wanted[field].is_null() || wanted[field] == object["metadata"][field];
    fits("uid") && fits("resourceVersion")
}

/// Whether a write changes what nobody can.
fn is_fixed(plural: &str, object: Option<&Value>, content: &Value) -> bool {
    let paths: &[&str] = match plural {
        "deployments" | "daemonsets" => &["/spec/selector"],
        "statefulsets" => &["/spec/selector", "/spec/serviceName"],
        "rolebindings" | "clusterrolebindings" => &["/roleRef"],
        "configmaps" if object.is_some_and(|object| object["immutable"] == true) => &["/data"],
        _ => &[],
    };
    paths.iter().any(|path| {
        let there = object.and_then(|object| object.pointer(path));
        content.pointer(path).is_some_and(|wanted| there.is_some_and(|there| there != wanted))
    })
}

/// The field manager that a request names.
fn manager(uri: &Uri) -> &str {
    let mut parameters = uri.query().into_iter().flat_map(|query| query.split('&'));
    parameters.find_map(|parameter| parameter.strip_prefix("fieldManager=")).unwrap_or_default()
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
    if method == Method::GET {
        return read(&server, &uri);
    }
    let content = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let fault = server.note(&method, &uri, &content);
    match fault {
        Some(Fault::Refused(status)) => return failure(status),
        Some(Fault::Unheard) => return broken_off(),
        Some(Fault::Overtaken) => server.take_spec(&uri),
        Some(Fault::Unanswered) | None => {}
    }
    let answer = write(&server, &method, &uri, &content);
    if fault == Some(Fault::Unanswered) { broken_off() } else { answer }
}

fn read(server: &Server, uri: &Uri) -> Response {
    let (plural, name, _) = place(uri.path());
    let Some(name) = name else {
        if server.stored().refused.as_ref() == Some(&plural) {
            return failure(403);
        }
        let is_watch = uri.query().is_some_and(|query| query.contains("watch=true"));
        return if is_watch { watch(server, plural) } else { list(server, &plural, uri) };
    };
    let key = (plural, name);
    *server.stored().read.entry(key.clone()).or_default() += 1;
    match server.get(&key) {
        Some(object) => json_answer(200, &object),
        None => failure(404),
    }
}

fn write(server: &Server, method: &Method, uri: &Uri, content: &Value) -> Response {
    let (plural, name, is_status) = place(uri.path());
    let Some(name) = name else {
        // An Event that is made.
        server.stored().events.push(content.clone());
        return json_answer(201, content);
    };
    let key = (plural, name);
    let object = server.get(&key);
    let wanted = if *method == Method::DELETE { &content["preconditions"] } else { &content["metadata"] };
    match *method {
        Method::PATCH if uri.query().is_some_and(|query| query.contains("dryRun=All")) => json_answer(200, content),
        Method::PATCH if is_status && object.is_none() => failure(404),
        Method::DELETE if object.is_none() => failure(404),
        Method::PATCH | Method::DELETE if !is_for(object.as_ref(), wanted) => failure(409),
        Method::PATCH if !is_status && is_fixed(&key.0, object.as_ref(), content) => failure(422),
        Method::PATCH => json_answer(200, &server.apply(&key, is_status, manager(uri), content)),
        Method::DELETE => {
            server.remove(&key);
            json_answer(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        _ => failure(404),
    }
}

fn list(server: &Server, plural: &str, uri: &Uri) -> Response {
    let asked = Query::<BTreeMap<String, String>>::try_from_uri(uri).map(|Query(asked)| asked).unwrap_or_default();
    let text = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    let (labels, fields) = (text("labelSelector"), text("fieldSelector"));
    let is_selected = |object: &Value| {
        let mut wanted = labels.split(',').filter_map(|label| label.split_once('='));
        wanted.all(|(label, value)| object["metadata"]["labels"][label] == value)
            && fields.split(',').filter(|field| !field.is_empty()).all(|field| has_field(object, field))
    };
    let mut stored = server.stored();
    *stored.listed.entry(plural.to_owned()).or_default() += 1;
    let objects = stored.objects.iter().filter(|((kind, _), _)| kind == plural).map(|(_, object)| object);
    let items: Vec<&Value> = objects.filter(|object| is_selected(object)).collect();
    let metadata = json!({"resourceVersion": stored.version.to_string()});
    json_answer(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

/// Whether a field is as a selector says: `status.phase!=Running`, or with `=`.
fn has_field(object: &Value, field: &str) -> bool {
    let (path, value) = field.split_once('=').unwrap_or((field, ""));
    let (path, is_wanted) = path.strip_suffix('!').map_or((path, true), |path| (path, false));
    let there = path.split('.').fold(object, |there, name| &there[name]);
    (there == value) == is_wanted
}

/// Begins at once after the list: nothing is written in between by whom it could be missed.
fn watch(server: &Server, plural: String) -> Response {
    let (events, lines) = mpsc::unbounded();
    server.stored().watches.push((plural, events));
    Response::new(Body::from_stream(lines.map(|event: Value| Ok::<_, Infallible>(format!("{event}\n")))))
}

fn failure(status: u16) -> Response {
    let reason = match status {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let told = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": status});
    json_answer(status, &told)
}

/// An answer that never comes to its end.
fn broken_off() -> Response {
    let broken = stream::iter([Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))]);
    Response::new(Body::from_stream(broken))
}

fn json_answer(status: u16, value: &Value) -> Response {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Body::from(value.to_string())).expect("the parts are valid")
}
