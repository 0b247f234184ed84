//! Writes what an agent sees into the status of its ADXCluster, as a field manager of its own. I/O: one patch, only where something differs.

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    Api, Client, Resource as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    document::{ADXCluster, Schedule, status::FederationStatus},
    runtime::chain,
};

/// The field manager of what an agent tells.
pub const AGENT_FIELD_MANAGER: &str = "adx-federation-agent";

/// The longest wait: heartbeats and passes do not depend on the API server.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where only times went on, a status is written at most this often: passes may be seconds apart, and everyone who watches is sent every write.
const REST: Duration = Duration::from_secs(5 * 60);

/// How long a word may be overdue: passes take their time, a lease changes hands, and clocks differ.
const LATENESS: Duration = Duration::from_secs(30 * 60);

/// From when on an agent is silent that last told of a pass at `told`, and has this schedule. It tells of each pass; of one that differs from the last word in times
/// only, once in five minutes; and half an hour more alarms nobody. `None`: never, as the schedule has no pass any more.
pub fn silent_from(schedule: &Schedule, told: Timestamp) -> Option<Timestamp> {
    let rested = told.checked_add(REST).ok()?;
    let next = schedule.delay_after(rested, 0.0)?;
    rested.checked_add(next).and_then(|due| due.checked_add(LATENESS)).ok()
}

/// The status of one ADXCluster.
#[derive(Clone)]
pub struct StatusWriter {
    object: Api<DynamicObject>,
    name: String,
    document: String,
    written: Option<(FederationStatus, Instant)>,
    /// Whether the object says so; unknown until it has been read once.
    suspended: Option<bool>,
    /// The time of the pass that the object told of when it was last looked at, until that was compared with ours.
    found: Option<Value>,
}

impl std::fmt::Debug for StatusWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusWriter").field("name", &self.name).finish_non_exhaustive()
    }
}

impl StatusWriter {
    /// Writes nothing yet. `document`: the fingerprint of the one that the agent works from.
    pub fn new(client: Client, namespace: &str, name: &str, document: String) -> Self {
        let object = Api::namespaced_with(client, namespace, &ApiResource::erase::<ADXCluster>(&()));
        Self { object, name: name.to_owned(), document, written: None, suspended: None, found: None }
    }

    /// Whether the ADXCluster says `suspend` now: the operator hands no new document to an object that does. Where it cannot be asked, the last answer counts; before there
    /// is one it may be suspended, and whoever was started anew must not write what a person has stopped.
    pub async fn is_suspended(&mut self) -> bool {
        self.look().await;
        self.suspended.unwrap_or(true)
    }

    /// Whether the ADXCluster has said yet whether it is suspended.
    pub const fn knows_whether_suspended(&self) -> bool {
        self.suspended.is_some()
    }

    async fn look(&mut self) {
        match timeout(PATIENCE, self.object.get(&self.name)).await {
            Ok(Ok(object)) => {
                self.suspended = Some(object.data["spec"]["suspend"] == true);
                self.found = Some(time_of_pass(&object.data["status"]["federation"]));
            }
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "the ADXCluster could not be read"),
            Err(_) => tracing::warn!("the ADXCluster could not be read in time"),
        }
    }

    /// Whether the object still tells what was written last, as far as is known: the operator takes back what an agent of another role told, and a person or a restored
    /// backup may have done so.
    async fn is_still_there(&mut self, written: &FederationStatus) -> bool {
        if self.found.is_none() {
            self.look().await;
        }
        let written = time_of_pass(&json!(written));
        self.found.take().is_none_or(|found| found == written)
    }

    /// Writes the status within its bounds, unless it equals what was written last, or differs from what was written a while ago in times only, and that is still there.
    /// A failure is logged and tried again with the next pass: nothing depends on it.
    pub async fn write(&mut self, status: FederationStatus) {
        let status = FederationStatus { document: Some(self.document.clone()), ..status.bounded() };
        if let Some((written, at)) = self.written.clone()
            && (written == status || (at.elapsed() < REST && written.timeless() == status.timeless()))
            && self.is_still_there(&written).await
        {
            return;
        }
        self.found = None;
        match timeout(PATIENCE, self.tell(&json!(status))).await {
            Ok(Ok(())) => self.written = Some((status, Instant::now())),
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "the ADXCluster's status could not be written"),
            Err(_) => tracing::warn!("the ADXCluster's status could not be written in time"),
        }
    }

    /// What is not told any more goes by itself while it is ours alone. Somebody else may have it too: the API server forgets whose everything is where it stores an
    /// object whose types do not fit its definition. Then all of it is taken out, and told as if for the first time.
    async fn tell(&self, federation: &Value) -> Result<(), kube::Error> {
        let told = self.apply(federation).await?;
        if !has_more(&told.data["status"]["federation"], federation) {
            return Ok(());
        }
        let metadata = json!({"resourceVersion": told.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": {"federation": null}}));
        let params = PatchParams { field_manager: Some(AGENT_FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.object.patch_status(&self.name, &params, &patch).await?;
        self.apply(federation).await.map(drop)
    }

    async fn apply(&self, federation: &Value) -> Result<DynamicObject, kube::Error> {
        let patch = Patch::Apply(json!({
            "apiVersion": ADXCluster::api_version(&()),
            "kind": ADXCluster::kind(&()),
            "metadata": {"name": self.name},
            "status": {"federation": federation},
        }));
        self.object.patch_status(&self.name, &PatchParams::apply(AGENT_FIELD_MANAGER).force(), &patch).await
    }
}

/// Whether there is a field that was not told. Lists are told as a whole.
fn has_more(there: &Value, told: &Value) -> bool {
    match (there, told) {
        (Value::Object(there), Value::Object(told)) => {
            there.iter().any(|(name, there)| told.get(name).map_or(!there.is_null(), |told| has_more(there, told)))
        }
        _ => false,
    }
}

fn time_of_pass(federation: &Value) -> Value {
    federation["lastPass"]["time"].clone()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use axum::{
        Json, Router,
        body::Bytes,
        http::{Method, StatusCode},
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::document::status::{DatabaseStatus, HubStatus, PartitionStatus, PassStatus, PlanStatus};

    /// What a partition's agent sees some seconds after the beginning.
    fn seen(second: u64, outcome: &str) -> FederationStatus {
        let time = Time(Timestamp::from_second(i64::try_from(second).unwrap()).unwrap());
        let pass = PassStatus {
            time: time.clone(),
            outcome: outcome.to_owned(),
            message: None,
            problems: Vec::new(),
            repairs: Vec::new(),
        };
        let hub = HubStatus {
            endpoint: "https://hub.kusto.windows.net".to_owned(),
            last_success: Some(time),
            outcome: Some("accepted".to_owned()),
            message: None,
        };
        FederationStatus { last_pass: Some(pass), hubs: vec![hub], ..FederationStatus::default() }
    }

    fn writer(server: Router) -> StatusWriter {
        StatusWriter::new(Client::new(server, "monitoring"), "monitoring", "europe", "0123456789abcdef".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn times_alone_are_written_once_in_five_minutes_and_all_else_at_once() {
        let (writes, is_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let object = Arc::new(Mutex::new(json!({"metadata": {"name": "europe"}})));
        let (counted, answers, kept) = (Arc::clone(&writes), Arc::clone(&is_up), Arc::clone(&object));
        let server = Router::new().fallback(move |method: Method, body: Bytes| {
            let is_write = method == Method::PATCH;
            counted.fetch_add(usize::from(is_write), Ordering::Relaxed);
            let is_up = answers.load(Ordering::Relaxed);
            let mut object = kept.lock().expect("no holder of this lock panics");
            if is_write && is_up {
                *object = serde_json::from_slice(&body).expect("it is JSON");
            }
            let status = if is_up { StatusCode::OK } else { StatusCode::FORBIDDEN };
            let answer = (status, Json(object.clone()));
            async move { answer }
        });
        let mut writer = writer(server);
        // A pass each ten seconds, for a quarter of an hour: the first, and then one in five minutes.
        for pass in 0..90 {
            writer.write(seen(pass * 10, "done")).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            let expected = 1 + usize::try_from(pass / 30).unwrap();
            assert_eq!(writes.load(Ordering::Relaxed), expected, "after {pass} passes");
        }
        let written = async |writer: &mut StatusWriter, second, outcome| {
            let before = writes.load(Ordering::Relaxed);
            writer.write(seen(second, outcome)).await;
            writes.load(Ordering::Relaxed) - before
        };
        assert_eq!(written(&mut writer, 900, "done").await, 1);
        assert_eq!(written(&mut writer, 900, "done").await, 0, "nothing changed at all");
        assert_eq!(written(&mut writer, 901, "failed").await, 1, "something happened");
        // What was refused was not written.
        is_up.store(false, Ordering::Relaxed);
        assert_eq!(written(&mut writer, 902, "done").await, 1);
        is_up.store(true, Ordering::Relaxed);
        assert_eq!(written(&mut writer, 903, "done").await, 1);
        assert_eq!(written(&mut writer, 904, "done").await, 0);
        // What somebody took back is told again, with what the hub's agent sees before its pass or without.
        let taken_back = || object.lock().expect("no holder of this lock panics")["status"] = json!({});
        taken_back();
        assert_eq!(written(&mut writer, 905, "done").await, 1);
        assert_eq!(written(&mut writer, 906, "done").await, 0);
        taken_back();
        assert!(!writer.is_suspended().await);
        assert_eq!(written(&mut writer, 907, "done").await, 1);
        assert!(!writer.is_suspended().await);
        assert_eq!(written(&mut writer, 908, "done").await, 0);
        // Nothing is known of what is there.
        is_up.store(false, Ordering::Relaxed);
        assert_eq!(written(&mut writer, 909, "done").await, 0);
    }

    #[tokio::test]
    async fn who_has_not_been_told_yet_counts_as_suspended_and_then_the_last_answer_counts() {
        let answer = Arc::new(Mutex::new(None));
        let given = Arc::clone(&answer);
        let server = Router::new().fallback(move || {
            let suspend: Option<bool> = *given.lock().expect("no holder of this lock panics");
            let status = if suspend.is_some() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            let object = json!({"metadata": {"name": "europe"}, "spec": {"suspend": suspend}});
            async move { (status, Json(object)) }
        });
        let mut writer = writer(server);
        let mut seen = Vec::new();
        for suspend in [None, Some(false), None, Some(true), None] {
            *answer.lock().expect("no holder of this lock panics") = suspend;
            seen.push((writer.is_suspended().await, writer.knows_whether_suspended()));
        }
        assert_eq!(seen, [(true, false), (false, true), (false, true), (true, true), (true, true)]);
    }

    #[tokio::test]
    async fn what_is_not_told_any_more_goes_also_where_somebody_else_has_it_too() {
        let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&sent);
        let server = Router::new().fallback(move |body: Bytes| {
            let mut sent = kept.lock().expect("no holder of this lock panics");
            sent.push(serde_json::from_slice(&body).expect("it is JSON"));
            let mut object = sent.last().cloned().expect("it was just put there");
            object["metadata"]["resourceVersion"] = "7".into();
            if sent.len() == 1 {
                object["status"]["federation"]["guard"] = "mass_expiry".into();
            }
            async move { Json(object) }
        });
        let mut writer = writer(server);
        writer.write(seen(0, "done")).await;
        // Of what was told alone, one more word is enough.
        writer.write(seen(1, "failed")).await;
        let sent = sent.lock().expect("no holder of this lock panics");
        let [first, emptied, again, last] = &sent[..] else { panic!("{sent:#?}") };
        assert_eq!(*emptied, json!({"metadata": {"resourceVersion": "7"}, "status": {"federation": null}}));
        assert_eq!(first, again);
        assert_eq!(last["status"]["federation"]["lastPass"]["outcome"], "failed");
    }

    #[test]
    fn an_agent_is_silent_half_an_hour_after_the_word_that_its_schedule_has_next() {
        let from = |schedule: &Schedule, told: &str| {
            silent_from(schedule, told.parse().unwrap()).map(|time| time.to_string()).unwrap_or_default()
        };
        let every = |seconds| Schedule::Interval { every: Duration::from_secs(seconds) };
        let noon = "2026-03-01T12:00:00Z";
        assert_eq!(from(&every(1), noon), "2026-03-01T12:35:01Z");
        assert_eq!(from(&every(600), noon), "2026-03-01T12:45:00Z");
        assert_eq!(from(&every(86_400), noon), "2026-03-02T12:35:00Z");
        let cron = |text: &str| Schedule::Cron(text.parse().unwrap());
        // The pass five minutes later may come just before the rest is over, and is not told of then.
        assert_eq!(from(&cron("*/5 * * * *"), noon), "2026-03-01T12:40:00Z");
        assert_eq!(from(&cron("0 3 * * 1"), noon), "2026-03-02T03:30:00Z");
    }

    /// A fleet of two thousand, in which everything that can be told is told, and at length.
    fn everything() -> FederationStatus {
        let sentences = |count| -> Vec<String> { (0..count).map(|n| format!("{n} {}", "x".repeat(5000))).collect() };
        let mut status = seen(0, "partial");
        let pass = status.last_pass.as_mut().expect("it was seen");
        (pass.message, pass.problems, pass.repairs) = (sentences(1).pop(), sentences(500), sentences(400));
        let time = pass.time.clone();
        let partition = |number| PartitionStatus {
            endpoint: format!("https://partition-{number}.southeastasia.kusto.windows.net"),
            state: "suspect".to_owned(),
            last_beat: Some(time.clone()),
            reason: sentences(1).pop(),
            problems: sentences(3),
        };
        let hub = |number| HubStatus {
            endpoint: format!("https://hub-{number}.kusto.windows.net"),
            message: sentences(1).pop(),
            ..status.hubs[0].clone()
        };
        let database = |number| DatabaseStatus { name: format!("Database{number}"), entity_groups: 9, functions: 9 };
        FederationStatus {
            live: Some("1000/2000".to_owned()),
            guard: Some("mass_expiry,removal_budget".to_owned()),
            plan: Some(PlanStatus { hash: "0123456789ab".to_owned(), changes: sentences(300), changes_omitted: 0 }),
            partitions: (0..2000).map(partition).collect(),
            databases: (0..3000).map(database).collect(),
            missing_databases: (0..2000).map(|number| format!("Missing{number}")).collect(),
            hubs: (0..64).map(hub).collect(),
            ..status
        }
    }

    #[tokio::test]
    async fn what_is_written_for_a_fleet_of_two_thousand_is_below_200_kb_and_says_what_is_left_out() {
        let sent: Arc<Mutex<Vec<(Method, Bytes)>>> = Arc::default();
        let kept = Arc::clone(&sent);
        let server = Router::new().fallback(move |method: Method, body: Bytes| {
            kept.lock().expect("no holder of this lock panics").push((method, body));
            async { Json(json!({"metadata": {"name": "europe"}})) }
        });
        let mut writer = writer(server);
        writer.write(everything()).await;
        let sent = sent.lock().expect("no holder of this lock panics");
        let [(method, body)] = &sent[..] else { panic!("{} requests", sent.len()) };
        assert_eq!(method, Method::PATCH);
        assert!(body.len() < 200_000, "{}", body.len());
        let patch: Value = serde_json::from_slice(body).expect("it is JSON");
        let told = &patch["status"]["federation"];
        assert_eq!(told["document"], "0123456789abcdef");
        for (list, omitted, all) in [
            ("partitions", "partitionsOmitted", 2000),
            ("databases", "databasesOmitted", 3000),
            ("missingDatabases", "missingDatabasesOmitted", 2000),
            ("hubs", "hubsOmitted", 64),
        ] {
            let kept = told[list].as_array().expect("there is room for some").len();
            assert!(kept > 0, "{list}");
            assert_eq!(told[omitted].as_u64(), Some(all - u64::try_from(kept).unwrap()), "{list}");
        }
        let changes = told["plan"]["changes"].as_array().expect("there is room for some").len();
        assert!(changes > 0);
        assert_eq!(told["plan"]["changesOmitted"].as_u64(), Some(300 - u64::try_from(changes).unwrap()));
        for (list, all) in [("problems", 500), ("repairs", 400)] {
            let sentences = told["lastPass"][list].as_array().expect("there is room for some");
            assert!(sentences.len() > 1, "{list}");
            assert_eq!(sentences.last().unwrap(), &json!(format!("and {} more", all + 1 - sentences.len())), "{list}");
        }
    }
}
