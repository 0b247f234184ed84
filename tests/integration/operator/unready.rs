//! Components that run while what they need is not ready, or not there any more: they are looked after, and say what they wait for.

use serde_json::{Value, json};
use tests::cluster::{OperatorOptions, TestNamespace, message_of};

use crate::{
    drift::{change, reverted},
    support::{CLUSTER, COMPONENTS, until_ready},
};

/// A cluster that the components select and that has no endpoint: nobody makes it.
const TO_BE_MADE: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: new, labels: {app: adx-mon}}
spec: {clusterName: newcluster, databases: [{databaseName: Fresh, telemetryType: Logs}]}
";

/// Spoils what is there and waits until it is reverted: image, replicas, and a child that is deleted.
async fn is_defended(test: &TestNamespace) {
    let image = |name: &str, image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": name, "image": image}]}}}});
    for (kind, name, container) in [
        ("apps/v1 StatefulSet", "i", "ingestor"),
        ("apps/v1 Deployment", "a", "alerter"),
        ("apps/v1 DaemonSet", "c", "collector"),
    ] {
        let place = "/spec/template/spec/containers/0/image";
        let before = test.get(kind, name).await;
        let patch = kube::api::Patch::Strategic(image(container, "evil/image:1"));
        test.api(kind).patch(name, &kube::api::PatchParams::default(), &patch).await.expect("the API server takes it");
        reverted(test, kind, name, |object| object.pointer(place) == before.pointer(place)).await;
        let now = test.get(kind, name).await;
        let place = "/spec/template/spec/containers/0/args";
        assert_eq!(now.pointer(place), before.pointer(place), "{kind} {name} keeps its arguments");
    }
    change(test, "apps/v1 StatefulSet", "i", json!({"spec": {"replicas": 7}})).await;
    reverted(test, "apps/v1 StatefulSet", "i", |object| object["spec"]["replicas"] == 2).await;
    for (kind, name) in [
        ("v1 Service", "i"),
        ("v1 ServiceAccount", "a-alerter"),
        ("rbac.authorization.k8s.io/v1 Role", "i-ingestor"),
        ("v1 ConfigMap", "c-config"),
    ] {
        let uid = test.get(kind, name).await["metadata"]["uid"].clone();
        test.delete(kind, name).await;
        reverted(test, kind, name, |object| !object.is_null() && object["metadata"]["uid"] != uid).await;
    }
}

/// Adds an argument, and puts one in the place of all: both are reverted where a cluster is ready, by which right ones are told from others.
async fn arguments_are_defended(test: &TestNamespace) {
    for (kind, name, container, flag) in [
        ("apps/v1 StatefulSet", "i", "ingestor", "--logs-kusto-endpoints"),
        ("apps/v1 Deployment", "a", "alerter", "--kusto-endpoint"),
    ] {
        let place = "/spec/template/spec/containers/0/args";
        let right = test.get(kind, name).await.pointer(place).cloned().expect("it has arguments");
        let evil = json!(format!("{flag}=X=https://evil.kusto.windows.net"));
        let mut one_more = right.clone();
        one_more.as_array_mut().expect("arguments are a list").push(evil.clone());
        for wrong in [one_more, json!([evil])] {
            let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": container, "args": wrong}]}}}});
            let patch = kube::api::Patch::Strategic(patch);
            let params = kube::api::PatchParams::default();
            test.api(kind).patch(name, &params, &patch).await.expect("the API server takes it");
            reverted(test, kind, name, |object| object.pointer(place) == Some(&right)).await;
        }
    }
}

#[tokio::test]
async fn what_runs_is_looked_after_while_a_cluster_or_an_ingestor_is_not_ready() {
    let test = TestNamespace::new("unready").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    // One more cluster that is being made, and one more Ingestor, which is one too many to choose from.
    test.apply(TO_BE_MADE).await;
    let other = COMPONENTS.split("---").next().expect("the first document").replace("{name: i}", "{name: other}");
    test.apply(&other).await;
    for (kind, name) in [("Ingestor", "i"), ("Alerter", "a")] {
        let waits = test.until_condition(kind, name, "Ready", "False", "WaitingForCluster").await;
        let told = message_of(&waits, "ClusterReady");
        assert!(told.contains("ADXCluster 'new'") && told.contains("ADXCluster eu"), "{told}");
    }
    test.until_condition("Collector", "c", "Ready", "False", "AmbiguousIngestor").await;
    is_defended(&test).await;
    arguments_are_defended(&test).await;
    // The first time all clusters are waited for.
    test.until_condition("Ingestor", "other", "Ready", "False", "WaitingForCluster").await;
    assert_eq!(test.ours("apps/v1 StatefulSet").await, ["i"]);
    // Edits of the object are followed.
    test.apply(&COMPONENTS.replace("replicas: 2", "replicas: 2, image: 'x/ingestor:2'")).await;
    let follows = |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["image"] == "x/ingestor:2";
    test.until("apps/v1 StatefulSet", "i", follows).await;
    // And without any cluster.
    test.delete("ADXCluster", "new").await;
    test.delete("Ingestor", "other").await;
    until_ready(&test).await;
    test.delete("ADXCluster", "eu").await;
    test.until_condition("Ingestor", "i", "Ready", "False", "WaitingForCluster").await;
    test.until_condition("Alerter", "a", "Ready", "False", "WaitingForCluster").await;
    is_defended(&test).await;
    test.apply(CLUSTER).await;
    until_ready(&test).await;
    // A selector that is empty by a slip.
    test.apply(&COMPONENTS.replace("adxClusterSelector: {matchLabels: {app: adx-mon}}", "adxClusterSelector: {}"))
        .await;
    for (kind, name) in [("Ingestor", "i"), ("Alerter", "a")] {
        test.until_condition(kind, name, "Stalled", "True", "SelectsNothing").await;
    }
    is_defended(&test).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
}

#[tokio::test]
async fn what_is_another_operators_is_not_waited_for() {
    let test = TestNamespace::new("elsewhere").await;
    let options =
        OperatorOptions { arguments: vec!["--cluster-labels=region=eu".to_owned()], ..OperatorOptions::default() };
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    let in_us = |text: &str| text.replace("spec: {", "spec: {criteriaExpression: \"region == 'us'\", ");
    test.apply(&in_us(TO_BE_MADE)).await;
    let other = COMPONENTS.split("---").next().expect("the first document").replace("{name: i}", "{name: other}");
    test.apply(&in_us(&other)).await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
}
