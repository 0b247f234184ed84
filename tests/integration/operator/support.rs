//! What the operator's stories share.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
pub(crate) use tests::{cluster::CLUSTER, timing::for_the_most_part};
use tests::{
    cluster::{PATIENCE, SEEMING_AGENT, TestNamespace, is_observed},
    fleet::Fleet,
    oracle::{Names, Oracle},
};
use tokio::time;

/// All three components over that cluster.
pub(crate) const COMPONENTS: &str = "
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: i}
spec: {replicas: 2, adxClusterSelector: {matchLabels: {app: adx-mon}}}
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata: {name: c}
spec: {}
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {name: a}
spec: {notificationEndpoint: 'https://alerts.example.com', adxClusterSelector: {matchLabels: {app: adx-mon}}}
";

/// A partition that is not reachable: its agent's objects are made all the same.
pub(crate) const PARTITION: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: part}
spec:
  clusterName: part
  endpoint: https://part.kusto.windows.net
  federation:
    federatedClusters:
      - {endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats}
    partitioning: {geo: EU}
";

/// A partition of this name, whose agent only seems to run.
pub(crate) fn seeming_partition(name: &str) -> String {
    let renamed = [
        ("{name: part}", format!("{{name: {name}}}")),
        ("clusterName: part", format!("clusterName: {name}")),
        ("//part.", format!("//{name}.")),
        ("  federation:", format!("  federation:\n    image: {SEEMING_AGENT}")),
    ];
    renamed.iter().fold(PARTITION.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A partition's text without its part in a federation.
pub(crate) fn without_federation(text: &str) -> &str {
    text.split_once("  federation:").expect("the text has that section").0
}

/// A hub, whose agents only seem to run.
pub(crate) const HUB: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: hub}
spec:
  clusterName: hub
  endpoint: https://hub.kusto.windows.net
  role: Federated
  federation: {image: 'x/agent:1', heartbeatDatabase: D, heartbeatTable: T}
";

/// Waits until all components are ready.
pub(crate) async fn until_ready(test: &TestNamespace) {
    for (kind, name) in [("ADXCluster", "eu"), ("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a")] {
        test.until_condition(kind, name, "Ready", "True", "Ready").await;
    }
}

/// Longer without a write, by what an operator may wait for a processor, than the ten seconds after which pods that are not ready are looked at again.
pub(crate) const REST: Duration = Duration::from_secs(16);

/// Waits until each of these objects tells of what it is now to be, and that it is so.
pub(crate) async fn until_told(test: &TestNamespace, objects: &[(&str, &str)]) {
    for (kind, name) in objects {
        let object = test.until(kind, name, is_observed).await;
        // Nobody tells of passes where agents only seem to run.
        let condition = if object["spec"]["federation"].is_null() { "Ready" } else { "AgentReady" };
        test.until_condition(kind, name, condition, "True", "Ready").await;
    }
}

/// Tells what the agent of a partition would.
pub(crate) async fn tell_as_agent(test: &TestNamespace, name: &str) {
    let hubs = json!([{"endpoint": "https://hub.kusto.windows.net", "outcome": "accepted"}]);
    let told = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": name}, "status": {"federation": {"hubs": hubs}}});
    let params = PatchParams::apply("adx-federation-agent").force();
    let told = test.api("ADXCluster").patch_status(name, &params, &Patch::Apply(&told)).await;
    told.expect("the API server takes the status");
}

/// What an operator makes which nothing disturbs.
pub(crate) async fn undisturbed() -> Vec<(String, Value)> {
    let test = TestNamespace::new("undisturbed").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    test.apply(PARTITION).await;
    until_ready(&test).await;
    until_agent(&test).await;
    made(&test).await
}

/// All of an agent is there when its workload is, which comes last.
pub(crate) async fn until_agent(test: &TestNamespace) {
    test.until("apps/v1 Deployment", "part-agent", |object| !object.is_null()).await;
}

/// Waits for an Event: it is written after the status that it tells of.
pub(crate) async fn until_event(test: &TestNamespace, reason: &str, note: &str) {
    let started = Instant::now();
    loop {
        let events = test.events().await;
        if events.iter().any(|(told, text)| told == reason && text.contains(note)) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{reason} {note} in {events:#?}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// How often the agents' logs hold a text.
pub(crate) fn logged(test: &TestNamespace, text: &str) -> usize {
    test.kubelet.output().matches(text).count()
}

/// Waits until the agents' logs hold a text more often than so many times.
pub(crate) async fn until_logged(test: &TestNamespace, text: &str, times: usize) {
    let started = Instant::now();
    while logged(test, text) <= times {
        assert!(started.elapsed() < PATIENCE, "no agent logs {text:?}:\n{}", test.kubelet.output());
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits for many Events of one reason: a note for each of these.
pub(crate) async fn until_all_told(test: &TestNamespace, reason: &str, notes: &[String]) {
    let started = Instant::now();
    loop {
        let events = test.events().await;
        let is_told = |note: &String| events.iter().any(|(told, text)| told == reason && text == note);
        let untold: Vec<&String> = notes.iter().filter(|note| !is_told(note)).collect();
        if untold.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "no {reason} tells {untold:#?}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// Everything that carries our mark, with its kind.
pub(crate) async fn children(test: &TestNamespace) -> Vec<(&'static str, Value)> {
    test.children().await
}

/// All that is made for a namespace's objects, without what differs between two equal ones.
pub(crate) async fn made(test: &TestNamespace) -> Vec<(String, Value)> {
    let mut made = Vec::new();
    for (kind, object) in children(test).await {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let labels = &object["metadata"]["labels"];
        let mut plain = object.clone();
        for field in ["status", "apiVersion", "kind"] {
            plain[field] = Value::Null;
        }
        let owners = object["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len);
        let mut annotations = object["metadata"]["annotations"].clone();
        for own in [
            "deprecated.daemonset.template.generation",
            "deployment.kubernetes.io/revision",
            "adx-mon.azure.com/applied",
        ] {
            annotations.as_object_mut().map(|annotations| annotations.remove(own));
        }
        plain["metadata"] = json!({"labels": labels, "annotations": annotations, "owners": owners, "finalizers": object["metadata"]["finalizers"]});
        for field in ["clusterIP", "clusterIPs"] {
            plain["spec"].as_object_mut().map(|spec| spec.remove(field));
        }
        // Chosen by the API server for a load balancer.
        for port in plain["spec"]["ports"].as_array_mut().into_iter().flatten() {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        }
        // A hash of a configuration that names the namespace.
        if let Some(annotations) =
            plain.pointer_mut("/spec/template/metadata/annotations").and_then(Value::as_object_mut)
        {
            annotations.remove("adx-mon.azure.com/config");
        }
        if kind == "v1 ServiceAccount" {
            plain["secrets"] = Value::Null;
        }
        let text = plain.to_string().replace(&test.name, "NAMESPACE");
        made.push((
            format!("{kind} {}", name.replace(&test.name, "NAMESPACE")),
            serde_json::from_str(&text).expect("it was JSON"),
        ));
    }
    made
}

/// What an object tells, but for when.
pub(crate) fn told(object: &Value) -> Value {
    let mut told = json!({"finalizers": object["metadata"]["finalizers"], "status": object["status"]});
    for condition in told["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition.as_object_mut().map(|condition| condition.remove("lastTransitionTime"));
    }
    told
}

/// What is made, and what these objects tell, without what differs between two equal lives.
pub(crate) async fn state(test: &TestNamespace, objects: &[(&str, &str)]) -> Vec<(String, Value)> {
    let mut state = made(test).await;
    for (kind, name) in objects {
        let text = told(&test.get(kind, name).await).to_string().replace(&test.name, "NAMESPACE");
        state.push((format!("{kind} {name}"), serde_json::from_str(&text).expect("it was JSON")));
    }
    state
}

/// Fails with the first object that differs.
pub(crate) fn assert_same(made: &[(String, Value)], expected: &[(String, Value)]) {
    let names = |objects: &[(String, Value)]| objects.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(made), names(expected));
    for ((name, made), (_, expected)) in made.iter().zip(expected) {
        assert_eq!(difference(made, expected), None, "{name}: the path, what is there, and what should be");
    }
}

/// Where two values differ first.
pub(crate) fn difference(made: &Value, expected: &Value) -> Option<String> {
    match (made, expected) {
        (Value::Object(made), Value::Object(expected)) => {
            let keys: std::collections::BTreeSet<_> = made.keys().chain(expected.keys()).collect();
            keys.into_iter().find_map(|key| {
                let of = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                difference(&of(made), &of(expected)).map(|rest| format!(".{key}{rest}"))
            })
        }
        (Value::Array(made), Value::Array(expected)) if made.len() == expected.len() => {
            let mut pairs = made.iter().zip(expected).enumerate();
            pairs
                .find_map(|(index, (made, expected))| difference(made, expected).map(|rest| format!("[{index}]{rest}")))
        }
        _ => (made != expected).then(|| format!(" {made} {expected}")),
    }
}

/// The fleet's documents as objects of the cluster.
pub(crate) async fn apply_documents(test: &TestNamespace, fleet: &Fleet) {
    for document in fleet.documents() {
        let text = fs::read_to_string(document).expect("the document was just written");
        test.apply(&text).await;
    }
}

/// Ends a story with Kusto servers: Microsoft's parser reads every text that they were sent.
pub(crate) async fn end(test: TestNamespace, fleet: Fleet) {
    // Its pods' processes end with it.
    drop(test);
    judge(fleet.stop().await.path());
}

/// Microsoft's parser accepts every text in the recordings of a folder.
pub(crate) fn judge(folder: &Path) {
    let mut oracle = Oracle::start().expect("node runs");
    oracle.judge_recordings(folder, Names::MustBeKnown).expect("the recordings can be read").assert_accepted();
}
