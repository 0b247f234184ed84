//! What others change or make: reverted where it is ours, left alone where it is theirs.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tests::cluster::{KINDS, PATIENCE, TestNamespace, condition_of, is_observed, message_of};
use tokio::time;

use crate::support::{
    CLUSTER, COMPONENTS, PARTITION, assert_same, for_the_most_part, made, seeming_partition, until_all_told,
    until_event, until_ready, without_federation,
};

/// Drift is undone within this, as README.md promises.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// Of how many reverts the greater part must be in time. A revert takes a tenth of a second where nobody else works; of five, others' work may hold up two.
const TRIES: usize = 5;

/// Changes an object as somebody would. A field that the API server does not know is refused: it would be left out, and the object be right again at once.
pub(crate) async fn try_to_change(
    test: &TestNamespace,
    kind: &str,
    name: &str,
    patch: &Value,
) -> Result<(), kube::Error> {
    let params = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    test.api(kind).patch(name, &params.validation_strict(), &Patch::Merge(patch)).await.map(drop)
}

pub(crate) async fn change(test: &TestNamespace, kind: &str, name: &str, patch: Value) {
    try_to_change(test, kind, name, &patch).await.expect("the API server takes the change");
}

/// Waits until the object fits again, and says how long that took.
pub(crate) async fn reverted(test: &TestNamespace, kind: &str, name: &str, fits: impl Fn(&Value) -> bool) -> Duration {
    let started = Instant::now();
    loop {
        let object = test.api(kind).get_opt(name).await.expect("the API server answers");
        let object = object.map_or(Value::Null, |object| serde_json::to_value(object).expect("an object is JSON"));
        if fits(&object) {
            return started.elapsed();
        }
        assert!(started.elapsed() < PATIENCE, "{kind} {name} is still {object:#}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// Most tries come back within a second, and all of them come back. `attempt` spoils, and says how long the revert took.
pub(crate) async fn within_a_second(what: &str, attempt: impl AsyncFn() -> Duration) {
    for_the_most_part(TRIES, async |_| {
        let took = attempt().await;
        if took < SOON { Ok(()) } else { Err(format!("{what} came back after {took:?}")) }
    })
    .await;
}

/// `leaves` changes every place that the operator applied. Here are what that cannot, since an autoscaler or the API server forbids it, and what people are told.
#[tokio::test]
async fn what_comes_back_is_told_with_its_place_and_counted() {
    let test = TestNamespace::new("drift").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    let container = |changes: Value| {
        let mut container = json!({"name": "ingestor"});
        for (field, value) in changes.as_object().expect("changes are an object") {
            container[field] = value.clone();
        }
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    };
    let sts = "apps/v1 StatefulSet";
    let before = test.get(sts, "i").await;
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        (sts, "i", json!({"spec": {"replicas": 7}}), "/spec/replicas"),
        (sts, "i", json!({"metadata": {"labels": {"app.kubernetes.io/instance": "x"}}}), "/metadata/labels"),
        (
            sts,
            "i",
            json!({"spec": {"template": {"metadata": {"annotations": {"adx-mon/port": "1"}}}}}),
            "/spec/template/metadata/annotations",
        ),
        ("v1 ConfigMap", "c-config", json!({"data": {"config.toml": "x"}}), "/data"),
        // What is in it is there, and means something else.
        (
            "rbac.authorization.k8s.io/v1 Role",
            "i-ingestor",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"], "verbs": ["get", "list", "watch", "patch"]}]}),
            "/rules",
        ),
    ];
    for (kind, name, patch, pointer) in cases {
        let right = test.get(kind, name).await.pointer(pointer).cloned();
        within_a_second(&format!("{kind} {name} {pointer}"), async || {
            change(&test, kind, name, patch.clone()).await;
            reverted(&test, kind, name, |object| object.pointer(pointer).cloned() == right).await
        })
        .await;
    }
    // Lists of containers are replaced by a merge patch, so image and arguments go by a strategic one.
    for (changes, pointer) in [
        (json!({"image": "evil/ingestor:1"}), "/spec/template/spec/containers/0/image"),
        (json!({"args": ["--storage-dir=/tmp"]}), "/spec/template/spec/containers/0/args"),
        (
            json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": true}}),
            "/spec/template/spec/containers/0/securityContext",
        ),
    ] {
        let patch = Patch::Strategic(container(changes));
        within_a_second(pointer, async || {
            test.api(sts).patch("i", &PatchParams::default(), &patch).await.expect("the API server takes the change");
            reverted(&test, sts, "i", |object| object.pointer(pointer) == before.pointer(pointer)).await
        })
        .await;
    }
    // Of one object all, too: those of one path are counted, and keep their words.
    let pod = "spec.template.spec.containers[ingestor]";
    for told in [
        "StatefulSet 'i' was changed at spec.replicas",
        "StatefulSet 'i' was changed at metadata.labels.app.kubernetes.io/instance",
        "StatefulSet 'i' was changed at spec.template.metadata.annotations.adx-mon/port",
        &format!("StatefulSet 'i' was changed at {pod}.image"),
        &format!("StatefulSet 'i' was changed at {pod}.args"),
        &format!("StatefulSet 'i' was changed at {pod}.securityContext.allowPrivilegeEscalation"),
        "ConfigMap 'c-config' was changed at data.config.toml",
        "Role 'i-ingestor' was changed at rules[0]",
    ] {
        until_event(&test, "DriftReverted", told).await;
    }
    assert!(operator.metrics().await.contains("adx_federation_drift_reverted_total{kind=\"Ingestor\"}"));
}

/// Nothing else happens meanwhile that would draw the operator's look: labels are what it finds its objects by.
#[tokio::test]
async fn labels_and_owners_that_somebody_takes_away_come_back() {
    let test = TestNamespace::new("labels").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    let role = format!("adx-mon:{}:alerter:a", test.name);
    let cases = [
        ("v1 ServiceAccount", "i-ingestor", json!({"app.kubernetes.io/instance": "x"})),
        ("v1 ServiceAccount", "i-ingestor", json!({"app.kubernetes.io/name": "unknown"})),
        ("v1 ServiceAccount", "i-ingestor", json!({"app.kubernetes.io/managed-by": null})),
        ("rbac.authorization.k8s.io/v1 ClusterRole", &role, json!({"adx-mon.azure.com/namespace": "elsewhere"})),
        ("rbac.authorization.k8s.io/v1 ClusterRole", &role, json!({"app.kubernetes.io/managed-by": null})),
    ];
    for (kind, name, labels) in cases {
        time::sleep(Duration::from_secs(1)).await;
        let right = test.get(kind, name).await["metadata"]["labels"].clone();
        within_a_second(&format!("{kind} {name} {labels}"), async || {
            change(&test, kind, name, json!({"metadata": {"labels": labels}})).await;
            reverted(&test, kind, name, |object| object["metadata"]["labels"] == right).await
        })
        .await;
    }
    change(&test, "v1 ServiceAccount", "i-ingestor", json!({"metadata": {"ownerReferences": null}})).await;
    reverted(&test, "v1 ServiceAccount", "i-ingestor", |object| object["metadata"]["ownerReferences"].is_array()).await;
    // A role without its labels goes with its owner all the same: nobody keeps its rights.
    change(&test, "rbac.authorization.k8s.io/v1 ClusterRole", &role, json!({"metadata": {"labels": null}})).await;
    test.delete("Alerter", "a").await;
    reverted(&test, "rbac.authorization.k8s.io/v1 ClusterRole", &role, Value::is_null).await;
}

#[tokio::test]
async fn every_deleted_child_is_made_again_within_a_second() {
    let test = TestNamespace::new("deleted").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    // An agent that only seems to run. All pods are ready before the first object goes, so that each is known to have been there.
    test.apply(&seeming_partition("part")).await;
    until_ready(&test).await;
    test.until_condition("ADXCluster", "part", "AgentReady", "True", "Ready").await;
    let before = made(&test).await;
    assert!(!test.events().await.iter().any(|(reason, _)| reason == "DriftReverted"), "what is new was not deleted");
    assert_eq!(before.len(), 23, "{:#?}", before.iter().map(|(name, _)| name).collect::<Vec<_>>());
    let mut told = Vec::new();
    for kind in KINDS {
        for name in test.ours(kind).await {
            // Cluster-scoped objects of other stories come and go.
            if name.starts_with("adx-mon:") && !name.contains(&test.name) {
                continue;
            }
            within_a_second(&format!("{kind} {name}"), async || {
                let uid = test.get(kind, &name).await["metadata"]["uid"].clone();
                let orphan = DeleteParams::background();
                test.api(kind).delete(&name, &orphan).await.expect("the API server deletes");
                let fits = |object: &Value| !object.is_null() && object["metadata"]["uid"] != uid;
                reverted(&test, kind, &name, fits).await
            })
            .await;
            let (_, plain) = kind.split_once(' ').expect("a version and a kind");
            told.push(format!("{plain} '{name}' was deleted"));
        }
    }
    assert_same(&made(&test).await, &before);
    assert_eq!(told.len(), before.len(), "{told:#?}");
    until_all_told(&test, "DriftReverted", &told).await;
}

#[tokio::test]
async fn what_belongs_to_others_is_left_alone() {
    let test = TestNamespace::new("others").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    let sidecar = json!({"spec": {"template": {
        "metadata": {"annotations": {"sidecar.example.com/injected": "true"}},
        "spec": {"containers": [{"name": "sidecar", "image": "x/sidecar:1"}]}}}, "metadata": {"labels": {"team": "blue"}}});
    test.api("apps/v1 Deployment")
        .patch("a", &PatchParams::default(), &Patch::Strategic(&sidecar))
        .await
        .expect("the API server takes the change");
    time::sleep(Duration::from_secs(2)).await;
    let deployment = test.get("apps/v1 Deployment", "a").await;
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len),
        Some(2),
        "{deployment:#}"
    );
    assert_eq!(deployment["metadata"]["labels"]["team"], "blue");
    let injected = |deployment: &Value| {
        deployment["spec"]["template"]["metadata"]["annotations"]["sidecar.example.com/injected"].clone()
    };
    assert_eq!(injected(&deployment), "true");
    // Also when ours changes.
    test.apply(&COMPONENTS.replace("alerts.example.com", "other.example.com")).await;
    let follows = |object: &Value| object.to_string().contains("--alerter-address=https://other.example.com");
    let deployment = test.until("apps/v1 Deployment", "a", follows).await;
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len), Some(2));
    assert_eq!(injected(&deployment), "true");
}

#[tokio::test]
async fn an_object_of_somebody_elses_under_our_name_is_a_conflict_and_never_taken_over() {
    let test = TestNamespace::new("conflict").await;
    let _operator = test.operator().await;
    test.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c-config}\ndata: {mine: 'yes'}\n").await;
    let role = format!("adx-mon:{}:alerter:a", test.name);
    test.apply(&format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: '{role}'}}\nrules: []\n"
    ))
    .await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    for (kind, name, child) in [("Collector", "c", "ConfigMap 'c-config'"), ("Alerter", "a", "ClusterRole 'adx-mon:")] {
        let object = test.until_condition(kind, name, "Ready", "False", "Conflict").await;
        let message = message_of(&object, "Ready");
        assert!(message.contains(child) && message.contains("was not made by this operator"), "{message}");
    }
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(test.get("v1 ConfigMap", "c-config").await["data"], json!({"mine": "yes"}));
    assert_eq!(test.get("rbac.authorization.k8s.io/v1 ClusterRole", &role).await["rules"], Value::Null);
    assert!(test.ours("apps/v1 DaemonSet").await.is_empty(), "nothing is half made");
    until_event(&test, "Conflict", "").await;
    // An edit is no way out.
    change(&test, "Collector", "c", json!({"spec": {"image": "x/c:2"}})).await;
    let edited = test.until("Collector", "c", is_observed).await;
    assert_eq!(condition_of(&edited, "Ready").expect("it is told")["reason"], "Conflict", "{edited:#}");
    assert_eq!(test.get("v1 ConfigMap", "c-config").await["data"], json!({"mine": "yes"}));
    // The way out, by which what was edited meanwhile is made, too.
    test.delete("v1 ConfigMap", "c-config").await;
    test.until_condition("Collector", "c", "Ready", "True", "Ready").await;
    let set = test.get("apps/v1 DaemonSet", "c").await;
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], "x/c:2");
    // What is not ours stays when the owner goes.
    test.delete("Alerter", "a").await;
    test.until("Alerter", "a", Value::is_null).await;
    assert!(
        test.api("rbac.authorization.k8s.io/v1 ClusterRole")
            .get_opt(&role)
            .await
            .expect("the API server answers")
            .is_some()
    );
    test.delete("rbac.authorization.k8s.io/v1 ClusterRole", &role).await;
}

#[tokio::test]
async fn deletion_takes_along_all_that_was_made() {
    let test = TestNamespace::new("deletion").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    test.apply(PARTITION).await;
    until_ready(&test).await;
    test.until("apps/v1 Deployment", "part-agent", |object| !object.is_null()).await;
    let tells = |object: &Value| !object["status"]["federation"]["lastPass"].is_null();
    test.until("ADXCluster", "part", tells).await;
    test.until_condition("ADXCluster", "part", "Federated", "False", "Failed").await;
    // A part in the federation that ends takes its agent along, and what it told.
    test.apply(without_federation(PARTITION)).await;
    test.until("apps/v1 Deployment", "part-agent", Value::is_null).await;
    test.until("v1 ServiceAccount", "part-agent", Value::is_null).await;
    test.until_condition("ADXCluster", "part", "Ready", "True", "Ready").await;
    let is_alone = |object: &Value| {
        let of_agent = ["AgentReady", "Federated", "Guarded"];
        object["status"]["federation"].is_null() && of_agent.iter().all(|phase| condition_of(object, phase).is_none())
    };
    test.until("ADXCluster", "part", is_alone).await;
    for (kind, name) in
        [("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a"), ("ADXCluster", "eu"), ("ADXCluster", "part")]
    {
        test.delete(kind, name).await;
        test.until(kind, name, Value::is_null).await;
    }
    let started = Instant::now();
    loop {
        let left = made(&test).await;
        if left.is_empty() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "left behind: {left:#?}");
        time::sleep(Duration::from_millis(100)).await;
    }
}
