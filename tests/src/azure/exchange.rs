//! One exchange with Azure Resource Manager: is it allowed, does something go wrong on the way, who answers it, and does it keep to the specification. I/O: the
//! recording's file, and the Kusto servers that stand for clusters; called by the port's router and by the double itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, Uri};
use serde_json::{Map, Value, json};
use tokio::time;
use uuid::Uuid;

use super::{
    answer::{Answer, Call, Settings},
    assignment::{self, Scope},
    cluster, database,
    fault::{self, Fault, FaultKind},
    metadata::Imds,
    operation::Failure,
    region,
    route::Route,
    specification, subscription,
    tokens::Tokens,
    world::World,
};
use crate::loopback;

/// A request to Azure Resource Manager.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// GET, PUT, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// If there is one and it is JSON.
    pub body: Option<Value>,
    /// The header If-Match.
    pub if_match: Option<String>,
    /// The header If-None-Match.
    pub if_none_match: Option<String>,
    /// The header x-ms-client-request-id.
    pub client_request_id: Option<String>,
    /// The answer's; 0 while there is none, or if the connection was cut.
    pub status: u16,
    /// When it came, by the double's clock.
    pub at: Duration,
    /// The cluster that it is about.
    pub cluster: Option<String>,
}

impl Seen {
    /// Whether it is to change something.
    pub fn is_write(&self) -> bool {
        let asks = self.path.to_lowercase().ends_with("/checknameavailability");
        !matches!(self.method.as_str(), "GET" | "HEAD") && !asks
    }
}

/// What the double's parts share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: Settings,
    started: Instant,
    state: Mutex<State>,
    /// Exchanges take place one after the other, and what they show of databases is on the Kusto servers before.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) tokens: Tokens,
    pub(super) imds: Imds,
    pub(super) faults: Vec<Fault>,
    pub(super) violations: Vec<String>,
    pub(super) advanced: Duration,
    seen: Vec<(Uuid, Seen)>,
    /// Writes whose answers did not say whether they were taken, by the cluster's key: until somebody looks, nobody knows.
    unsure: BTreeMap<String, String>,
    /// Databases that the Kusto servers have been told of.
    created: BTreeSet<(String, String)>,
    record: Option<File>,
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What goes back.
#[derive(Debug)]
pub(super) enum Reply {
    Answer(Answer),
    Html(u16),
    Cut,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Core {
    pub(super) fn new(settings: Settings, tokens: Tokens, record: Option<File>) -> Self {
        let state = State {
            world: World::default(),
            tokens,
            imds: Imds::default(),
            faults: Vec::new(),
            violations: Vec::new(),
            advanced: Duration::ZERO,
            seen: Vec::new(),
            unsure: BTreeMap::new(),
            created: BTreeSet::new(),
            record,
        };
        Self { settings, started: Instant::now(), state: Mutex::new(state), turn: tokio::sync::Mutex::default() }
    }

    /// The state, with everything that is due.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.started.elapsed() + state.advanced;
        state.world.settle(now);
        state
    }

    /// Has the Kusto servers create the databases that there are by now.
    pub(super) async fn serve_databases(&self) {
        let turn = self.turn.lock().await;
        self.create_databases().await;
        drop(turn);
    }

    async fn create_databases(&self) {
        let uncreated = self.state().uncreated();
        for (key, name, url) in uncreated {
            let body = json!({"db": "NetDefaultDB", "csl": format!(".create database ['{}'] ifnotexists", name.replace('\'', "\\'"))});
            let answer = loopback::client().post(format!("{url}/v1/rest/mgmt")).json(&body).send().await;
            let refused = match answer {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(answer.text().await.unwrap_or_default()),
                Err(error) => Some(error.to_string()),
            };
            let mut state = self.state();
            state
                .violations
                .extend(refused.map(|refused| format!("{url} did not create the database {name}: {refused}")));
            state.created.insert((key, name.to_lowercase()));
        }
    }

    /// Everything that happens to a request.
    pub(super) async fn exchange(&self, request: Request) -> Reply {
        let id = Uuid::new_v4();
        let body = serde_json::from_slice::<Value>(&request.body).ok();
        let path_and_query = format!("{}?{}", request.path, request.query);
        let (fault, place) = {
            let mut state = self.state();
            let seen = seen(&request, body.clone(), state.world.now);
            state.seen.push((id, seen));
            let met = fault::meet(&mut state.faults, &request.method, &path_and_query);
            met.map_or((None, 0), |(place, fault)| (Some(fault), place))
        };
        if let Some(FaultKind::Delay(duration)) = &fault {
            time::sleep(*duration).await;
        }
        let turn = self.turn.lock().await;
        self.create_databases().await;
        let reply = self.reply(&request, body.as_ref(), fault, place);
        drop(turn);
        let mut state = self.state();
        if let (Some((_, seen)), Some(status)) =
            (state.seen.iter_mut().find(|(other, _)| *other == id), reply_status(&reply))
        {
            seen.status = status;
        }
        if let Reply::Answer(answer) = &reply {
            state.record(&self.settings.base, &request, body.as_ref(), answer);
        }
        reply
    }

    fn reply(&self, request: &Request, body: Option<&Value>, fault: Option<FaultKind>, place: usize) -> Reply {
        let mut state = self.state();
        let Request { method, path, .. } = request;
        let query = query_of(&request.query);
        let body = if request.body.is_empty() { Some(&Value::Null) } else { body };
        let judged = state.judge(request, &query, body);
        if let Ok((_, route)) = &judged {
            state.follow(method, path, route, fault.as_ref().is_some_and(FaultKind::leaves_unsure));
        }
        let before_effect = match &fault {
            Some(FaultKind::Answer { status, code, message, retry_after }) => {
                let mut answer = Answer::error(*status, code, message);
                answer.headers.extend(retry_after.map(|seconds| ("retry-after", seconds.to_string())));
                Some(Reply::Answer(answer))
            }
            Some(FaultKind::Reset) => Some(Reply::Cut),
            Some(FaultKind::Html { status }) => Some(Reply::Html(*status)),
            _ => None,
        };
        let reply = before_effect.unwrap_or_else(|| {
            let answer = match judged {
                Err(refused) => refused,
                Ok((subscription, route)) => {
                    let call = Call {
                        method,
                        subscription: &subscription,
                        path,
                        query: &query,
                        body: body.unwrap_or(&Value::Null),
                        if_match: request.header("if-match"),
                        if_none_match: request.header("if-none-match"),
                        settings: &self.settings,
                    };
                    dispatch(&mut state.world, &call, &route)
                }
            };
            state.after_effect(answer, fault, place)
        });
        let Reply::Answer(mut answer) = reply else { return reply };
        if method == "HEAD" {
            answer.body = None;
        }
        let wrong = specification::check_response(method, path, &query, answer.status, answer.body.as_deref());
        let status = answer.status;
        state
            .violations
            .extend(wrong.into_iter().map(|wrong| format!("our own answer {status} to {method} {path}: {wrong}")));
        answer.headers.push(("x-ms-request-id", Uuid::new_v4().to_string()));
        Reply::Answer(answer)
    }
}

impl State {
    /// Everything seen so far, without what is still to be answered if it is taken away.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.iter().map(|(_, seen)| seen.clone()).collect()
    }

    pub(super) fn forget_seen(&mut self) {
        self.seen.clear();
    }

    /// Databases that are ready on clusters for which a Kusto server stands: cluster's key, name, address.
    fn uncreated(&self) -> Vec<(String, String, String)> {
        let mut uncreated = Vec::new();
        for (key, cluster) in &self.world.clusters {
            let Some(url) = self.world.served.get(key).filter(|_| cluster.state == "Running") else { continue };
            for (database, found) in &cluster.databases {
                if found.provisioning_state == "Succeeded" && !self.created.contains(&(key.clone(), database.clone())) {
                    uncreated.push((key.clone(), found.name.clone(), url.clone()));
                }
            }
        }
        uncreated
    }

    /// Who could know what of a cluster. After an answer that did not say whether a write was taken, somebody has to look before the next one.
    fn follow(&mut self, method: &str, path: &str, route: &Route, is_unsure: bool) {
        let Some(cluster) = route.cluster().map(|cluster| cluster.name.to_lowercase()) else { return };
        match (route.is_write(method), is_unsure) {
            (false, true) => {}
            (false, false) => {
                self.unsure.remove(&cluster);
                self.world.show(route);
            }
            (true, _) => {
                if let Some(before) = self.unsure.remove(&cluster) {
                    let violation =
                        format!("{method} {path} without a look, though nobody knows what became of {before}");
                    self.violations.push(violation);
                }
                if is_unsure {
                    self.unsure.insert(cluster, format!("{method} {path}"));
                }
            }
        }
    }

    /// The answer, or what becomes of it on its way back.
    fn after_effect(&mut self, mut answer: Answer, fault: Option<FaultKind>, place: usize) -> Reply {
        self.violations.extend(answer.violation.take());
        let began = answer.began.as_ref().and_then(|id| self.world.operations.get_mut(id));
        match (fault, began) {
            (Some(FaultKind::OperationFails { code, message }), Some(operation)) => {
                // Another request that met the same fault may have been quicker.
                if fault::use_up(&mut self.faults, place) {
                    operation.failure = Some(Failure { code, message });
                }
                Reply::Answer(answer)
            }
            (Some(FaultKind::AnswerAfterEffect { status }), began) => {
                if let Some(operation) = began {
                    operation.excused = true;
                }
                let message =
                    "The gateway did not receive a response from 'Microsoft.Kusto' within the specified time period.";
                Reply::Answer(Answer::error(status, "GatewayTimeout", message))
            }
            (Some(FaultKind::ResetAfterEffect), began) => {
                if let Some(operation) = began {
                    operation.excused = true;
                }
                Reply::Cut
            }
            _ => Reply::Answer(answer),
        }
    }

    /// A line as Microsoft's LiveValidator reads it; no token is in it.
    fn record(&mut self, base: &str, request: &Request, body: Option<&Value>, answer: &Answer) {
        let Some(record) = self.record.as_mut() else { return };
        let headers = request.headers.iter().filter(|(name, _)| name.as_str() != "authorization");
        let headers: Map<String, Value> =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().into())).collect();
        let mut answered: Map<String, Value> =
            answer.headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        if answer.body.is_some() {
            answered.insert("content-type".to_owned(), "application/json; charset=utf-8".into());
        }
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let line = json!({
            "request": {"method": request.method, "url": format!("{base}{}{query}", request.path), "headers": headers, "body": body},
            "response": {"statusCode": answer.status.to_string(), "headers": answered, "body": answer.body},
        });
        let written = record.write_all(format!("{line}\n").as_bytes()).and_then(|()| record.flush());
        if let Err(error) = written {
            self.violations.push(format!("the recording cannot be written: {error}"));
        }
    }
}

fn dispatch(world: &mut World, call: &Call<'_>, route: &Route) -> Answer {
    match route {
        Route::Subscription => subscription::subscription(call),
        Route::Provider { namespace } | Route::Register { namespace } => subscription::provider(world, call, namespace),
        Route::Group { group } => subscription::group(world, call, group),
        Route::Skus { location } => region::skus(world, call, location),
        Route::CheckName { .. } => region::check_name(world, call),
        Route::Operation { location, id } => region::operation(world, call, location, id),
        Route::Clusters { group } => cluster::list(world, call, group.as_deref()),
        Route::Cluster(path) => cluster::answer(world, call, &path.group, &path.name),
        Route::Start(path) => cluster::power(world, call, &path.group, &path.name, true),
        Route::Stop(path) => cluster::power(world, call, &path.group, &path.name, false),
        Route::Databases(path) => database::list(world, call, &path.group, &path.name),
        Route::Database(path, name) => database::answer(world, call, &path.group, &path.name, name),
        Route::Assignments(path, database) => {
            let scope = Scope { group: &path.group, cluster: &path.name, database: database.as_deref() };
            assignment::list(world, call, scope)
        }
        Route::Assignment(path, database, name) => {
            let scope = Scope { group: &path.group, cluster: &path.name, database: database.as_deref() };
            assignment::answer(world, call, scope, name)
        }
    }
}

fn seen(request: &Request, body: Option<Value>, at: Duration) -> Seen {
    let header = |name: &str| request.header(name).map(str::to_owned);
    let route = Route::parse(&request.path);
    Seen {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        body,
        if_match: header("if-match"),
        if_none_match: header("if-none-match"),
        client_request_id: header("x-ms-client-request-id"),
        status: 0,
        at,
        cluster: route.and_then(|(_, route)| route.cluster().map(|cluster| cluster.name.clone())),
    }
}

const fn reply_status(reply: &Reply) -> Option<u16> {
    match reply {
        Reply::Answer(answer) => Some(answer.status),
        Reply::Html(status) => Some(*status),
        Reply::Cut => None,
    }
}

/// The fields of a query or a form. A field without a value is empty; of two with one name the last counts.
pub(super) fn query_of(text: &str) -> BTreeMap<String, String> {
    let uri = format!("/?{text}").parse::<Uri>().unwrap_or_default();
    let fields = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
    fields.map(|fields| fields.0.into_iter().collect()).unwrap_or_default()
}
