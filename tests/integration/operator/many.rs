//! Many objects, and components that select many: all of them become ready, and then nobody writes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tests::cluster::{ApiProxy, PATIENCE, TestNamespace, is_observed};
use tokio::time;

use crate::{
    components::arguments,
    drift::change,
    resilience::through,
    support::{COMPONENTS, seeming_partition},
};

const OBJECTS: usize = 200;

/// How many Ingestors there are among them, and Alerters: each selects all partitions, and is looked at whenever one of these changes.
const EACH: usize = 20;
const PARTITIONS: usize = OBJECTS - 2 * EACH;

/// What is said of a partition of an existing cluster.
const PHASES: [&str; 5] = ["ClusterReady", "DatabasesReady", "AgentReady", "Federated", "Ready"];

/// Rest: twice the ten seconds after which an object is looked at again whose pods are not ready.
const QUIET: Duration = Duration::from_secs(20);

/// A partition that components select, whose agent only seems to run. Its database is its own: Alerters ask one cluster for each name.
fn partition(number: usize) -> String {
    let name = format!("part-{number}");
    let text = seeming_partition(&name);
    let labelled = text.replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, labels: {{app: adx-mon}}}}"));
    let databases = format!("  databases: [{{databaseName: Logs{number}, telemetryType: Logs}}]\n  federation:");
    labelled.replace("  federation:", &databases)
}

/// A component of this kind in the words that all stories use.
fn component(kind: &str, name: &str) -> String {
    let is_its = |text: &&str| text.contains(&format!("kind: {kind}\n"));
    let text = COMPONENTS.split("---").find(is_its).expect("there is one of each kind");
    let named = |text: &str, own: &str| text.replace(&format!("{{name: {own}}}"), &format!("{{name: {name}}}"));
    named(&named(text, "i"), "a")
        .replace("replicas: 2", "image: 'x/i:1'")
        .replace("spec: {n", "spec: {image: 'x/a:1', n")
}

/// What a workload's pods are told of all partitions, in order.
fn told_of_all(flag: &str) -> Vec<String> {
    let told = |number: usize| format!("{flag}=Logs{number}=https://part-{number}.kusto.windows.net");
    let mut all: Vec<String> = (0..PARTITIONS).map(told).collect();
    all.sort();
    all
}

/// Waits until an object is ready and tells just these phases, all of its present spec.
async fn until_all_is_told(test: &TestNamespace, kind: &str, name: &str, phases: &[&str]) {
    let object = test.until_condition(kind, name, "Ready", "True", "Ready").await;
    assert!(is_observed(&object), "{object:#}");
    let conditions = object["status"]["conditions"].as_array().expect("it has some");
    let told: BTreeSet<_> = conditions.iter().filter_map(|condition| condition["type"].as_str()).collect();
    let expected: BTreeSet<_> = phases.iter().copied().collect();
    assert_eq!(told, expected, "{object:#}");
    for condition in conditions {
        assert_eq!(condition["observedGeneration"], object["metadata"]["generation"], "{object:#}");
    }
}

/// Every agent tells of a pass with the document that it was given.
async fn each_agent_tells(test: &TestNamespace) {
    let now = Timestamp::from_second(Timestamp::now().as_second()).expect("now is a time").to_string();
    let marked = ListParams::default().labels("app.kubernetes.io/name=federation-agent");
    let agents = test.api("apps/v1 Deployment").list(&marked).await.expect("the API server lists");
    let params = PatchParams::apply("adx-federation-agent").force();
    for agent in agents.items {
        let name = &agent.labels()["app.kubernetes.io/instance"];
        let document = agent.data.pointer("/spec/template/metadata/annotations/adx-mon.azure.com~1config");
        let hub = json!({"endpoint": "https://hub.kusto.windows.net", "outcome": "accepted", "lastSuccess": now});
        let federation = json!({"document": document, "hubs": [hub], "lastPass": {"time": now, "outcome": "done"}});
        let told = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": name}, "status": {"federation": federation}});
        let told = test.api("ADXCluster").patch_status(name, &params, &Patch::Apply(&told)).await;
        told.expect("the API server takes the status");
    }
}

/// Beside the story and its kubelet, all that the operator says and hears passes through this program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_objects_become_ready_and_come_to_rest() {
    let test = TestNamespace::new("many").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "many").await;
    operator.until_leading().await;
    let names =
        |kind: &str, count: usize| -> Vec<String> { (0..count).map(|number| format!("{kind}-{number}")).collect() };
    let (partitions, ingestors, alerters) = (names("part", PARTITIONS), names("in", EACH), names("al", EACH));
    let all: Vec<String> = (0..PARTITIONS)
        .map(partition)
        .chain(ingestors.iter().map(|name| component("Ingestor", name)))
        .chain(alerters.iter().map(|name| component("Alerter", name)))
        .collect();
    let started = Instant::now();
    test.apply(&all.join("---")).await;
    let applied = started.elapsed();
    loop {
        let workloads = ["apps/v1 Deployment", "apps/v1 StatefulSet"];
        let made = test.ours(workloads[0]).await.len() + test.ours(workloads[1]).await.len();
        if made == OBJECTS {
            break;
        }
        assert!(started.elapsed() < PATIENCE * 3, "{made} of {OBJECTS} after {:?}", started.elapsed());
        time::sleep(Duration::from_millis(200)).await;
    }
    println!("{OBJECTS} objects applied in {applied:?}, all workloads made after {:?}", started.elapsed());
    each_agent_tells(&test).await;
    for name in &partitions {
        until_all_is_told(&test, "ADXCluster", name, &PHASES).await;
    }
    for (kind, names, workload, flag) in [
        ("Ingestor", &ingestors, "apps/v1 StatefulSet", "--logs-kusto-endpoints"),
        ("Alerter", &alerters, "apps/v1 Deployment", "--kusto-endpoint"),
    ] {
        let (expected, flag) = (told_of_all(flag), format!("{flag}="));
        let of_clusters = |workload: &Value| -> Vec<String> {
            arguments(workload).into_iter().filter(|argument| argument.starts_with(&flag)).collect()
        };
        for name in names {
            test.until(workload, name, |workload| of_clusters(workload) == expected).await;
            until_all_is_told(&test, kind, name, &["ClusterReady", "WorkloadReady", "Ready"]).await;
        }
    }
    println!("all of them ready after {:?}", started.elapsed());
    let rested = test.until_rest(Duration::from_secs(6)).await;
    // A partition has seven children, an Ingestor as many, an Alerter four; beside what controllers make of these.
    assert!(rested.count() > PARTITIONS * 8 + EACH * (8 + 5), "{} objects", rested.count());
    // Whoever selects a partition that changes is looked at, and finds that nothing is to be done.
    proxy.take();
    change(&test, "ADXCluster", &partitions[0], json!({"metadata": {"labels": {"story": "many"}}})).await;
    let before = test.versions().await;
    time::sleep(QUIET).await;
    let seen = proxy.take();
    for (names, plural) in [(&ingestors, "statefulsets"), (&alerters, "deployments")] {
        for name in names {
            let place = format!("/{plural}/{name}");
            let is_asked =
                seen.iter().any(|seen| seen.path.split('?').next().is_some_and(|path| path.ends_with(&place)));
            assert!(is_asked, "{place} is not looked at");
        }
    }
    let written: Vec<_> = seen.into_iter().filter(|seen| seen.is_write() && !seen.is_lease()).collect();
    let moved = before.moved(&test.versions().await);
    assert!(written.is_empty() && moved.is_empty(), "the operator wrote {written:#?}\nothers too: {moved:#?}");
    drop(operator);
}
