//! What an operator of an earlier build really left of what people apply (`tests/recorded`), as the present one comes upon it: under the present definitions, and
//! under those of that build until a person applies the present ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kube::api::ListParams;
use serde_json::{Value, json};
use tests::{
    cluster::{
        AGENT_IMAGE, ControlPlane, EARLIER_DEFINITIONS, Kubectl, Left, Operator, OperatorOptions, PATIENCE,
        SEEMING_AGENT, TestNamespace, condition_of, is_peoples, kind_of, message_of, name_of,
    },
    docs::{deploying, read, root},
};
use tokio::time;

use crate::{
    support::{assert_same, made, told, until_event, until_logged},
    upgrade::{another_writes_nothing, applied_by},
};

/// As it was when the earlier one was recorded.
fn options() -> OperatorOptions {
    OperatorOptions { arguments: vec![format!("--agent-image={SEEMING_AGENT}")], ..OperatorOptions::default() }
}

async fn started(test: &TestNamespace) -> Operator {
    let operator = test.operator_with(&options()).await;
    operator.until_leading().await;
    operator
}

/// An object among those of its namespace.
fn named(object: &Value) -> String {
    format!("{} {}", kind_of(object), name_of(object))
}

/// Whose each field is. What Kubernetes' own controllers write depends on when they looked.
fn owners(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let others = entries.filter(|entry| entry["manager"] != "kube-controller-manager");
    let fields = others.map(|entry| {
        let part = |name: &str| entry[name].as_str().unwrap_or_default();
        (format!("{} {} {}", part("manager"), part("operation"), part("subresource")), entry["fieldsV1"].clone())
    });
    fields.collect()
}

/// Which pods there are: as whom they run, and what.
async fn pods(test: &TestNamespace) -> Value {
    let list = test.api("v1 Pod").list(&ListParams::default()).await.expect("the API server lists");
    let pods = list.items.iter().map(|pod| {
        let spec = &pod.data["spec"];
        let container = &spec["containers"][0];
        format!("{} {} {}", spec["serviceAccountName"], container["image"], container["args"])
    });
    let mut pods: Vec<String> = pods.collect();
    pods.sort();
    json!(pods)
}

/// All that is told of a namespace's objects and made for them, and whose it is: without what differs between two equal namespaces.
async fn state(test: &TestNamespace) -> Vec<(String, Value)> {
    let mut state = made(test).await;
    let objects = Left::of(test).await.objects;
    for object in objects.iter().filter(|object| object["kind"] != "Lease") {
        state.push((format!("owners of {}", named(object)), owners(object)));
        if is_peoples(object) {
            state.push((named(object), told(object)));
        }
    }
    state.push(("pods".to_owned(), pods(test).await));
    let identity = |object: &Value| object["metadata"]["uid"].as_str().map(|uid| (uid.to_owned(), named(object)));
    let identities: Vec<_> = objects.iter().filter(|object| is_peoples(object)).filter_map(identity).collect();
    let plain = |text: &str| {
        let renamed = identities.iter().fold(text.to_owned(), |text, (uid, name)| text.replace(uid, name));
        renamed.replace(&test.name, "NAMESPACE")
    };
    let renamed = state.iter().map(|(name, value)| {
        let value = serde_json::from_str(&plain(&value.to_string())).expect("it was JSON");
        (plain(name), value)
    });
    renamed.collect()
}

/// Waits until two namespaces are in one state.
async fn until_same(upgraded: &TestNamespace, fresh: &TestNamespace) {
    let started = Instant::now();
    loop {
        let (is, should_be) = (state(upgraded).await, state(fresh).await);
        if is == should_be {
            return;
        }
        if started.elapsed() > PATIENCE {
            assert_same(&is, &should_be);
        }
        time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether all pods of a workload are ready.
fn runs(workload: &Value) -> bool {
    let (spec, status) = (&workload["spec"], &workload["status"]);
    let (wanted, ready) = match spec["replicas"].is_null() {
        true => (&status["desiredNumberScheduled"], &status["numberReady"]),
        false => (&spec["replicas"], &status["readyReplicas"]),
    };
    status["observedGeneration"] == workload["metadata"]["generation"] && *wanted != 0 && wanted == ready
}

/// How many templates each workload has had, by its name.
async fn templates(test: &TestNamespace) -> BTreeMap<String, usize> {
    let mut templates = BTreeMap::new();
    for kind in ["apps/v1 ReplicaSet", "apps/v1 ControllerRevision"] {
        let list = test.api(kind).list(&ListParams::default()).await.expect("the API server lists");
        for owner in list.items.iter().flat_map(|object| object.metadata.owner_references.iter().flatten()) {
            *templates.entry(format!("{} {} {}", owner.api_version, owner.kind, owner.name)).or_default() += 1;
        }
    }
    templates
}

/// Puts back what was left in the namespace whose name begins so, and waits until its pods run.
async fn put_back(name: &str, upgraded: &TestNamespace) -> Vec<Value> {
    let left = Left::recorded(name).put_back(upgraded).await.objects;
    for object in &left {
        let there = upgraded.get(&kind_of(object), name_of(object)).await;
        assert_eq!(owners(&there), owners(object), "{} is not as it was left", named(object));
    }
    until_all_run(upgraded, &left).await;
    left
}

async fn until_all_run(test: &TestNamespace, objects: &[Value]) {
    for workload in objects.iter().filter(|object| object["apiVersion"] == "apps/v1") {
        test.until(&kind_of(workload), name_of(workload), runs).await;
    }
}

/// What there is of children, by their names.
async fn children(test: &TestNamespace) -> BTreeMap<String, Value> {
    test.children().await.into_iter().map(|(_, child)| (named(&child), child)).collect()
}

/// Applies in a new namespace what people had applied, and waits until it is as ready as it was.
async fn installed_anew(fresh: &TestNamespace, left: &[Value]) -> Operator {
    let operator = started(fresh).await;
    for object in left.iter().filter(|object| is_peoples(object)) {
        fresh.apply(&applied_by("kubectl", object).to_string()).await;
    }
    // What was ready then is not told of by anybody else's word.
    let ready = |object: &&Value| condition_of(object, "Ready").is_some_and(|ready| ready["status"] == "True");
    for object in left.iter().filter(|object| is_peoples(object)).filter(ready) {
        fresh.until_condition(&kind_of(object), name_of(object), "Ready", "True", "Ready").await;
    }
    operator
}

/// What is still there is what was there, and its pods were replaced once where they had to be.
async fn assert_went_on(upgraded: &TestNamespace, before: &BTreeMap<String, Value>) {
    let templates = templates(upgraded).await;
    let template = |workload: &Value| workload["spec"]["template"].clone();
    for (name, child) in children(upgraded).await {
        let Some(earlier) = before.get(&name) else { continue };
        assert_eq!(child["metadata"]["uid"], earlier["metadata"]["uid"], "{name} was made anew");
        let had = templates.get(&name).copied().unwrap_or_default();
        let has_pods = !template(&child).is_null();
        let expected = usize::from(has_pods) + usize::from(template(&child) != template(earlier));
        assert_eq!(had, expected, "{name}: its templates");
    }
    // Nobody is told that somebody else had done it.
    let events = upgraded.events().await;
    let is_wrong = |(reason, _): &(String, String)| ["DriftReverted", "Replaced"].contains(&reason.as_str());
    assert!(!events.iter().any(is_wrong), "{events:#?}");
}

/// Another operator finds nothing to write for whoever had children.
async fn another_finds_nothing_to_write(
    upgraded: &TestNamespace,
    operator: Operator,
    before: &BTreeMap<String, Value>,
) {
    let owner = |child: &Value| child["metadata"]["ownerReferences"][0]["kind"].as_str().map(str::to_owned);
    let kinds: BTreeSet<String> = before.values().filter_map(owner).collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    another_writes_nothing(upgraded, operator, options(), &kinds).await;
}

/// Puts back what was left in the namespace whose name begins so, and lets the present operator go on with it.
async fn ends_as_a_fresh_install(name: &str) {
    let (upgraded, fresh) = (TestNamespace::new("taken-over").await, TestNamespace::new("fresh").await);
    let left = put_back(name, &upgraded).await;
    let before = children(&upgraded).await;
    let _operator_of_fresh = installed_anew(&fresh, &left).await;
    let operator = started(&upgraded).await;
    until_same(&upgraded, &fresh).await;
    assert_went_on(&upgraded, &before).await;
    another_finds_nothing_to_write(&upgraded, operator, &before).await;
}

#[tokio::test]
async fn an_earlier_builds_components_a_hub_and_its_partition_end_as_a_fresh_install_does() {
    ends_as_a_fresh_install("production").await;
}

#[tokio::test]
async fn an_earlier_builds_minimal_example_ends_as_a_fresh_install_does() {
    ends_as_a_fresh_install("minimal").await;
}

#[tokio::test]
async fn what_waited_for_a_cluster_in_an_earlier_build_ends_as_a_fresh_install_does() {
    ends_as_a_fresh_install("provisioned").await;
}

#[tokio::test]
async fn an_earlier_builds_scaled_and_exposed_ingestor_ends_as_a_fresh_install_does() {
    ends_as_a_fresh_install("scaled").await;
}

/// A hub whose agents really run, and cannot reach it, of which they tell.
fn hub_that_tells() -> String {
    format!(
        "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {{name: tells}}
spec:
  clusterName: tells
  endpoint: http://127.0.0.1:9
  role: Federated
  federation: {{image: '{AGENT_IMAGE}', heartbeatDatabase: D, heartbeatTable: T, reconcileInterval: 1s}}
"
    )
}

/// What README.md tells people to do for an upgrade.
fn upgrade(kubectl: &Kubectl) {
    let readme = read("README.md");
    let [deploy, ..] = deploying(&readme).kubectl;
    assert!(readme.contains(&format!("**Upgrading**: `kubectl {}`", deploy.join(" "))), "{deploy:?}");
    let absolute = |word: &String| {
        let path = root().join(word);
        if path.exists() { path.display().to_string() } else { word.clone() }
    };
    let words: Vec<String> = deploy.iter().map(absolute).collect();
    kubectl.run(&words.iter().map(String::as_str).collect::<Vec<_>>(), "");
}

/// On a control plane of its own, whose definitions nobody else needs.
#[tokio::test]
async fn under_an_earlier_builds_definitions_what_runs_goes_on_until_they_are_applied_anew() {
    let Some(kubectl) = Kubectl::find() else { return };
    if !ControlPlane::can_start() {
        return;
    }
    let plane = ControlPlane::with_definitions(&read(EARLIER_DEFINITIONS)).await;
    let upgraded = TestNamespace::on(plane, "old-definitions").await;
    let left = put_back("production", &upgraded).await;
    let before = children(&upgraded).await;

    // What it makes is as it should be; what it would tell in a field that is newer is refused, whole.
    let operator = started(&upgraded).await;
    upgraded.apply(&hub_that_tells()).await;
    until_event(&upgraded, "ReconcileFailed", ".status.replicas: field not declared in schema").await;
    until_logged(&upgraded, ".status.federation.document: field not declared in schema", 0).await;
    until_all_run(&upgraded, &left).await;
    for object in left.iter().filter(|object| is_peoples(object)) {
        let now = upgraded.get(&kind_of(object), name_of(object)).await;
        match object["kind"].as_str() {
            // As the earlier build told of it.
            Some("Ingestor") => assert_eq!(now["status"], object["status"], "{}", named(object)),
            Some("Alerter" | "Collector") => {
                upgraded.until_condition(&kind_of(object), name_of(object), "Ready", "True", "Ready").await;
            }
            _ => {}
        }
    }
    for hub in ["tells", "federated"] {
        upgraded.until_condition("ADXCluster", hub, "Federated", "Unknown", "WaitingForAgent").await;
    }

    upgrade(&kubectl.on(plane));
    let told = upgraded.until_condition("ADXCluster", "tells", "Federated", "False", "Failed").await;
    assert!(message_of(&told, "Federated").contains("http://127.0.0.1:9"), "{told:#}");
    upgraded.until("Ingestor", "prod-ingestor", |ingestor| ingestor["status"]["replicas"].is_number()).await;
    upgraded.delete("ADXCluster", "tells").await;

    let fresh = TestNamespace::on(plane, "fresh").await;
    let _operator_of_fresh = installed_anew(&fresh, &left).await;
    until_same(&upgraded, &fresh).await;
    assert_went_on(&upgraded, &before).await;
    another_finds_nothing_to_write(&upgraded, operator, &before).await;
}
