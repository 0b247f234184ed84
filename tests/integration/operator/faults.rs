//! Every write of whole lives meets an error of the API server, or of the way there, and the end is that of a life without one: children that are made, changed and
//! pruned, statuses, finalizers, Events, the lease.
//!
//! A proxy has each write meet the fault the first time that it is sent, so that no write is forgotten, and one life of seconds is enough for a kind of fault; a life for
//! each write would be a hundred of them. All at once is one after the other here: the first write that fails ends its object's reconcile, and the success of the one
//! before brings the next, so that the growing wait after failures counts for little. Only the first fault of an object coincides with that of its status. What a single
//! fault alone does, with a status that was written before and after, is proven for each write in memory with the clock stopped:
//! `operator/src/kubernetes/tests/faults.rs`. Here is what that has not: connections, the client's own retries, leases, pods, and a real API server to disagree with.

use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::cluster::{ApiProxy, PATIENCE, Seen, Spoilt, TestNamespace, WriteFault};
use tokio::time;

use crate::{
    deleting::until_no_roles,
    drift::change,
    resilience::through,
    support::{
        CLUSTER, COMPONENTS, HUB, REST, assert_same, children, made, seeming_partition, state, tell_as_agent,
        until_told, without_federation,
    },
    unions::managers_of,
};

/// The faults, and how often a patch meets each.
const FAULTS: [(&str, WriteFault, usize); 6] = [
    // A child that somebody has changed since it was looked at is looked at again, and that is all.
    ("conflict", WriteFault::Refused(409), 1),
    // And again since then, which is a failure.
    ("conflicts", WriteFault::Refused(409), 2),
    ("throttled", WriteFault::Refused(429), 1),
    ("failing", WriteFault::Refused(500), 1),
    ("reset", WriteFault::Reset, 1),
    ("lost", WriteFault::Lost, 1),
];

/// All objects of a life.
const OBJECTS: [(&str, &str); 7] = [
    ("ADXCluster", "eu"),
    ("ADXCluster", "part"),
    ("ADXCluster", "hub"),
    ("ADXCluster", "left"),
    ("Ingestor", "i"),
    ("Collector", "c"),
    ("Alerter", "a"),
];

/// Longer without a write than an operator may wait for a processor: reconciles that are under way are done.
const QUIET: Duration = Duration::from_secs(6);
/// What the API server asks for with 429.
const RETRY_AFTER: Duration = Duration::from_secs(1);

fn components() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    OBJECTS.iter().filter(|(kind, _)| *kind != "ADXCluster")
}

/// Objects with everything that can be taken away from them.
fn before() -> String {
    let scaled =
        COMPONENTS.replace("replicas: 2", "autoscaling: {minReplicas: 2, maxReplicas: 4}, exposeExternally: true");
    [CLUSTER, &scaled, &seeming_partition("part"), HUB, &seeming_partition("left")].join("---")
}

/// The same without that; with another role, and every other object edited.
fn after() -> String {
    let cluster = CLUSTER.replace("https://eu.kusto", "https://moved.kusto").replace(
        "Spans, telemetryType: Traces}",
        "Spans, telemetryType: Traces}\n    - {databaseName: More, telemetryType: Logs}",
    );
    let components = COMPONENTS
        .replace("replicas: 2", "replicas: 3, image: 'x/i:2', managedIdentityClientId: id")
        .replace("name: c}\nspec: {}", "name: c}\nspec: {image: 'x/c:2'}")
        .replace("alerts.example.com", "other.example.com");
    let federated = "  role: Federated\n  federation: {image: 'x/agent:1', heartbeatDatabase: D, heartbeatTable: T}\n";
    let part = without_federation(&seeming_partition("part")).to_owned() + federated;
    let hub = HUB.replace("heartbeatTable: T", "heartbeatTable: Other");
    [cluster.as_str(), &components, &part, &hub, without_federation(&seeming_partition("left"))].join("---")
}

/// One life, and what its writes are to meet.
struct Life {
    test: TestNamespace,
    proxy: ApiProxy,
    fault: Option<(WriteFault, usize)>,
}

/// What is made, and what the objects tell.
type State = Vec<(String, Value)>;

impl Life {
    async fn new(name: &str, fault: Option<(WriteFault, usize)>) -> Self {
        let test = TestNamespace::new(&format!("faults-{name}")).await;
        let proxy = ApiProxy::start(test.plane).await;
        Self { test, proxy, fault }
    }

    /// From now on every write meets the fault, also those that have met it before.
    fn begin(&self) {
        if let Some((fault, times)) = self.fault {
            self.proxy.spoil_each_write(fault, times);
        }
    }

    /// What has met the fault since; nothing is known of a life without one.
    fn end(&self) -> Option<Met> {
        let (fault, _) = self.fault?;
        let met = Met(self.proxy.heal());
        if fault == WriteFault::Refused(429) {
            let soonest = met.0.soonest;
            assert!(soonest.is_some_and(|soonest| soonest >= RETRY_AFTER), "asked again after {soonest:?}");
        }
        Some(met)
    }

    /// Waits until the operator writes nothing for so long.
    async fn until_quiet(&self, quiet: Duration) {
        let started = Instant::now();
        loop {
            self.proxy.take();
            time::sleep(quiet).await;
            let written: Vec<Seen> =
                self.proxy.take().into_iter().filter(|seen| seen.is_write() && !seen.is_lease()).collect();
            if written.is_empty() {
                return;
            }
            assert!(started.elapsed() < PATIENCE * 2, "it does not rest: {written:#?}");
        }
    }

    async fn until_told(&self) {
        until_told(&self.test, &OBJECTS).await;
    }

    async fn state(&self) -> State {
        state(&self.test, &OBJECTS).await
    }

    /// Everything is made, and the agents of the two partitions tell something.
    async fn make(&self) -> State {
        self.test.apply(&before()).await;
        self.until_told().await;
        for name in ["part", "left"] {
            tell_as_agent(&self.test, name).await;
        }
        self.until_quiet(QUIET).await;
        if let Some(met) = self.end() {
            for (kind, child) in children(&self.test).await {
                met.assert("PATCH", &[&place(kind, &child)]);
            }
            for (kind, name) in OBJECTS {
                met.assert("PATCH", &[&format!("{}/status?", path(kind, name))]);
            }
            for (kind, name) in components() {
                met.assert("PATCH", &[&format!("{}?", path(kind, name)), "=adx-federation-operator-finalizer"]);
            }
            met.assert("POST", &["/leases"]);
            met.assert("PATCH", &["/leases/"]);
        }
        self.state().await
    }

    /// A child goes, and another is left no room in.
    async fn disturb(&self) -> State {
        let (service, map) = (("v1 Service", "i"), ("v1 ConfigMap", "c-config"));
        let uid = |object: &Value| object["metadata"]["uid"].clone();
        let before = (uid(&self.test.get(service.0, service.1).await), self.test.get(map.0, map.1).await);
        self.begin();
        self.test.delete(service.0, service.1).await;
        change(&self.test, map.0, map.1, json!({"data": null, "binaryData": {"config.toml": "eA=="}})).await;
        let is_anew = |object: &Value| !object.is_null() && uid(object) != before.0;
        self.test.until(service.0, service.1, is_anew).await;
        let is_put_back = |object: &Value| {
            (object["data"] == before.1["data"] && object["binaryData"].is_null())
                && managers_of(object).iter().all(|manager| !manager.ends_with("reclaiming"))
        };
        self.test.until(map.0, map.1, is_put_back).await;
        self.until_told().await;
        self.until_quiet(QUIET).await;
        if let Some(met) = self.end() {
            met.assert("PATCH", &["/services/i?"]);
            met.assert("PATCH", &["/configmaps/c-config?", "fieldValidation=Strict"]);
            met.assert("POST", &["/events"]);
            // Room is made, and what made it is given up.
            let reclaiming = met.0.writes.iter().filter(|seen| seen.path.contains("-operator-reclaiming")).count();
            assert!(reclaiming >= 2, "{:#?}", met.0.writes);
        }
        self.state().await
    }

    /// Autoscaling, an address for everybody, a role and a whole federation go; the rest is changed.
    async fn edit(&self) -> State {
        let before = children(&self.test).await;
        let content = made(&self.test).await;
        self.begin();
        self.test.apply(&after()).await;
        let moved = |object: &Value| object.to_string().contains("More=https://moved.kusto.windows.net");
        self.test.until("apps/v1 StatefulSet", "i", |set| moved(set) && set["spec"]["replicas"] == 3).await;
        self.test.until("apps/v1 Deployment", "a", moved).await;
        self.test.until("autoscaling/v2 HorizontalPodAutoscaler", "i", Value::is_null).await;
        self.test.until("v1 Service", "i", |service| service["spec"]["type"] == "ClusterIP").await;
        let is_hub = |object: &Value| object["spec"]["replicas"] == 2 && object.to_string().contains("/agent-hub");
        self.test.until("apps/v1 Deployment", "part-agent", is_hub).await;
        // The last that is pruned.
        self.test.until("v1 ServiceAccount", "left-agent", Value::is_null).await;
        for name in ["part", "left"] {
            self.test.until("ADXCluster", name, |object| object["status"]["federation"].is_null()).await;
        }
        for (kind, child) in children(&self.test).await.iter().filter(|(kind, _)| kind.starts_with("apps/")) {
            self.test.until(kind, child["metadata"]["name"].as_str().unwrap_or_default(), is_rolled_out).await;
        }
        self.until_told().await;
        self.until_quiet(REST).await;
        let state = self.state().await;
        if let Some(met) = self.end() {
            let stays = |name: &str| state.iter().any(|(known, _)| known == name);
            for ((kind, child), (name, content)) in before.iter().zip(&content) {
                if !stays(name) {
                    met.assert("DELETE", &[&place(kind, child)]);
                } else if !state.iter().any(|(known, now)| known == name && now == content) {
                    met.assert("PATCH", &[&place(kind, child)]);
                }
            }
            for (kind, name) in OBJECTS {
                met.assert("PATCH", &[&format!("{}/status?", path(kind, name)), "=adx-federation-operator"]);
            }
            for name in ["part", "left"] {
                met.assert("PATCH", &[&format!("/adxclusters/{name}/status?"), "=adx-federation-agent"]);
            }
        }
        state
    }

    /// Whatever has children in the whole cluster goes.
    async fn delete(&self) {
        let before = children(&self.test).await;
        self.begin();
        for (kind, name) in components() {
            self.test.delete(kind, name).await;
        }
        for (kind, name) in components() {
            self.test.until(kind, name, Value::is_null).await;
        }
        until_no_roles(&self.test).await;
        self.until_quiet(QUIET).await;
        if let Some(met) = self.end() {
            for (kind, child) in before.iter().filter(|(_, child)| child["metadata"]["namespace"].is_null()) {
                met.assert("DELETE", &[&place(kind, child)]);
            }
            for (kind, name) in components() {
                met.assert("PATCH", &[&format!("{}?", path(kind, name)), "=adx-federation-operator-finalizer"]);
            }
        }
    }
}

/// What has met the fault.
struct Met(Spoilt);

impl Met {
    /// There is a write of this method whose path holds all these texts.
    fn assert(&self, method: &str, texts: &[&str]) {
        let fits = |seen: &Seen| {
            let path = seen.path.replace("%3A", ":");
            seen.method == method && texts.iter().all(|text| path.contains(text))
        };
        assert!(self.0.writes.iter().any(fits), "{method} {texts:?} is not among {:#?}", self.0.writes);
    }
}

/// The end of an object's path.
fn path(kind: &str, name: &str) -> String {
    let plain = kind.split_once(' ').map_or(kind, |(_, plain)| plain);
    format!("/{}s/{name}", plain.to_lowercase())
}

/// A child's own path to its end, where the parameters begin.
fn place(kind: &str, child: &Value) -> String {
    path(kind, child["metadata"]["name"].as_str().unwrap_or_default()) + "?"
}

/// Whether all pods of a workload are of its present template, and ready.
fn is_rolled_out(object: &Value) -> bool {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let (wanted, counts) = if object["kind"] == "DaemonSet" {
        ("/status/desiredNumberScheduled", ["/status/updatedNumberScheduled", "/status/numberReady"])
    } else {
        ("/spec/replicas", ["/status/updatedReplicas", "/status/readyReplicas"])
    };
    number("/status/observedGeneration") == number("/metadata/generation")
        && counts.iter().all(|count| number(count) == number(wanted))
}

/// A life from the operator's start to its end; what there is after each step.
async fn live(name: &str, fault: Option<(WriteFault, usize)>) -> Vec<(&'static str, State)> {
    let life = Life::new(name, fault).await;
    // The lease is the first that is written.
    life.begin();
    let mut operator = through(&life.test, &life.proxy, "faults").await;
    operator.until_leading().await;
    let states = vec![("made", life.make().await), ("disturbed", life.disturb().await), ("edited", life.edit().await)];
    life.delete().await;
    // The lease that cannot be given back is no reason to stay.
    life.begin();
    operator.process.signal(Signal::SIGTERM);
    assert_eq!(operator.process.exited_within(PATIENCE).await.code(), Some(0));
    if fault.is_some() {
        Met(life.proxy.heal()).assert("PATCH", &["/leases/"]);
    }
    states
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_each_write_meets_the_end_is_the_same() {
    let lives = [("undisturbed", None)].into_iter();
    let lives = lives.chain(FAULTS.map(|(name, fault, times)| (name, Some((fault, times)))));
    // Side by side: most of a life is waiting, above all where the API server asks for it.
    let mut ends = join_all(lives.map(|(name, fault)| Box::pin(live(name, fault)))).await.into_iter();
    let expected = ends.next().expect("the first is the undisturbed one");
    for (states, (name, ..)) in ends.zip(FAULTS) {
        for ((step, state), (_, expected)) in states.iter().zip(&expected) {
            println!("{name}: {step}");
            assert_same(state, expected);
        }
    }
}
