//! What was not there when the operator looked, and is when it writes.

use serde_json::{Value, json};
use tests::cluster::{ApiProxy, TestNamespace, condition_of, is_observed, message_of};

use crate::{
    drift::change,
    resilience::through,
    support::{CLUSTER, COMPONENTS, until_ready},
};

/// Objects of somebody else's that have no field of ours with another value, so that ours could be put beside theirs: the kind and its plural, the name, the rest, and
/// for whom the operator makes one of that name.
const STRANGERS: [(&str, &str, &str, &str, &str, &str); 4] = [
    (
        "v1 ServiceAccount",
        "serviceaccounts",
        "account-ingestor",
        "imagePullSecrets: [{name: theirs}]",
        "Ingestor",
        "account",
    ),
    ("v1 ConfigMap", "configmaps", "map-config", "data: {mine: 'yes'}", "Collector", "map"),
    ("v1 Service", "services", "service", "spec: {ports: [{name: theirs, port: 7}]}", "Ingestor", "service"),
    // Whom they have bound to it would get our rights.
    ("rbac.authorization.k8s.io/v1 Role", "roles", "role-ingestor", "", "Ingestor", "role"),
];

#[tokio::test]
async fn what_somebody_makes_between_our_look_and_our_write_is_a_conflict_and_stays_as_it_is() {
    let test = TestNamespace::new("meanwhile").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "meanwhile").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    test.until_condition("ADXCluster", "eu", "Ready", "True", "Ready").await;
    for (kind, plural, name, content, owner_kind, owner) in STRANGERS {
        let (version, plain) = kind.split_once(' ').expect("a version and a kind");
        test.apply(&format!("apiVersion: {version}\nkind: {plain}\nmetadata: {{name: {name}}}\n{content}\n")).await;
        let theirs = test.get(kind, name).await;
        // As if it had been made just after that look.
        proxy.answer("GET", &format!("/{plural}/{name}"), 404, 1);
        let spec = match owner_kind {
            "Collector" => "{ingestorEndpoint: 'https://i.example.com'}",
            _ => "{adxClusterSelector: {matchLabels: {app: adx-mon}}}",
        };
        test.apply(&format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: {owner_kind}\nmetadata: {{name: {owner}}}\nspec: {spec}\n"
        ))
        .await;
        let told = test.until_condition(owner_kind, owner, "Ready", "False", "Conflict").await;
        let message = message_of(&told, "Ready");
        assert!(
            message.contains(&format!("the {plain} '{name}' exists and was not made by this operator")),
            "{message}"
        );
        assert_eq!(proxy.still_to_meet(), 0, "{kind}: it was not looked at");
        assert_eq!(test.get(kind, name).await, theirs, "{kind}: not even a label");
    }
    drop(operator);
}

/// As where the answer to the request that made it was lost, and the client asked once more.
#[tokio::test]
async fn what_is_ours_all_the_same_is_gone_on_with() {
    let test = TestNamespace::new("already").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "already").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    let uid = |service: &Value| service["metadata"]["uid"].clone();
    let before = uid(&test.get("v1 Service", "i").await);
    proxy.answer("GET", "/services/i", 404, 1);
    test.apply(&COMPONENTS.replace("replicas: 2", "replicas: 2, exposeExternally: true")).await;
    let service = test.until("v1 Service", "i", |service| service["spec"]["type"] == "LoadBalancer").await;
    assert_eq!(proxy.still_to_meet(), 0, "it was not looked at");
    assert_eq!(uid(&service), before);
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    let events = test.events().await;
    assert!(!events.iter().any(|(reason, _)| reason == "ApplyFailed"), "{events:#?}");
    drop(operator);
}

/// As where the StatefulSet's controller writes its status between the operator's look and its write, which is for the very version that it saw: the autoscaler's number is in it.
#[tokio::test]
async fn what_is_not_as_it_was_is_looked_at_again_and_no_failure() {
    let test = TestNamespace::new("again").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "again").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    let scaled = COMPONENTS.replace("replicas: 2", "autoscaling: {minReplicas: 2, maxReplicas: 4}");
    test.apply(&scaled).await;
    until_ready(&test).await;
    proxy.answer("PATCH", "/statefulsets/i", 409, 1);
    test.apply(&scaled.replace("autoscaling:", "image: 'x/ingestor:7', autoscaling:")).await;
    let set = test.until("apps/v1 StatefulSet", "i", |set| set.to_string().contains("x/ingestor:7")).await;
    assert_eq!(proxy.still_to_meet(), 0, "it was not written to");
    assert_eq!(set["spec"]["replicas"], 2);
    // An Event of the first try would be there before a later one.
    let events = test.events().await;
    assert!(!events.iter().any(|(reason, _)| reason == "ApplyFailed"), "{events:#?}");
    drop(operator);
}

/// While a request of the operator's is on its way: somebody deletes the child that it is about, and makes an object of their own under its name. Gives that object.
async fn replaced(test: &TestNamespace, proxy: &ApiProxy, kind: &str, name: &str, content: &str) -> Value {
    proxy.until_held().await;
    test.delete(kind, name).await;
    test.until(kind, name, Value::is_null).await;
    let (version, plain) = kind.split_once(' ').expect("a version and a kind");
    test.apply(&format!("apiVersion: {version}\nkind: {plain}\nmetadata: {{name: '{name}'}}\n{content}\n")).await;
    let theirs = test.get(kind, name).await;
    proxy.let_go();
    theirs
}

/// Whether a request was refused because it was meant for another object than is there. The API server calls an apply for another identity invalid.
fn is_refused(proxy: &ApiProxy, method: &str, containing: &str) -> bool {
    let refused = |code| matches!(code, 409 | 422);
    proxy.take().iter().any(|seen| seen.method == method && seen.path.contains(containing) && refused(seen.status))
}

#[tokio::test]
async fn what_takes_a_childs_place_between_our_look_and_our_write_is_not_written_over() {
    let test = TestNamespace::new("replaced").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "replaced").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    let role = format!("adx-mon:{}:alerter:a", test.name);
    // The child and its path; what somebody does to it, so that the operator writes; what they then have in its place; and for whom it was.
    for (kind, name, path, drift, content, owner) in [
        (
            "v1 Service",
            "i",
            "/services/i?",
            json!({"spec": {"selector": {"app": "x"}}}),
            "spec: {ports: [{name: theirs, port: 7}]}",
            ("Ingestor", "i"),
        ),
        (
            "v1 ConfigMap",
            "c-config",
            "/configmaps/c-config?",
            json!({"data": {"config.toml": "x"}}),
            "data: {mine: 'yes'}",
            ("Collector", "c"),
        ),
        (
            "rbac.authorization.k8s.io/v1 ClusterRole",
            role.as_str(),
            "/clusterroles/",
            json!({"rules": []}),
            "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]",
            ("Alerter", "a"),
        ),
    ] {
        let ours = test.get(kind, name).await;
        proxy.take();
        proxy.hold("PATCH", path);
        change(&test, kind, name, drift).await;
        let theirs = replaced(&test, &proxy, kind, name, content).await;
        let told = test.until_condition(owner.0, owner.1, "Ready", "False", "Conflict").await;
        let message = message_of(&told, "Ready");
        assert!(message.contains(&format!("'{name}' exists and was not made by this operator")), "{message}");
        assert!(is_refused(&proxy, "PATCH", path), "{kind}: what was written was for whatever is there");
        assert_eq!(test.get(kind, name).await, theirs, "{kind}: not even a label");
        // Ours comes back when theirs goes.
        test.delete(kind, name).await;
        let is_back = |object: &Value| {
            let parts = ["/metadata/labels", "/spec/selector", "/data", "/rules"];
            parts.iter().all(|part| object.pointer(part) == ours.pointer(part))
        };
        test.until(kind, name, is_back).await;
        test.until_condition(owner.0, owner.1, "Ready", "True", "Ready").await;
    }
    drop(operator);
}

#[tokio::test]
async fn what_takes_the_place_of_a_child_that_is_to_go_is_not_deleted() {
    let test = TestNamespace::new("replaced-gone").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "replaced-gone").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    test.apply(&COMPONENTS.replace("replicas: 2", "autoscaling: {minReplicas: 2, maxReplicas: 4}")).await;
    until_ready(&test).await;
    // One that is pruned. Its controller writes its status for as long as it is there.
    let (kind, name, path) = ("autoscaling/v2 HorizontalPodAutoscaler", "i", "/horizontalpodautoscalers/i?");
    proxy.take();
    proxy.hold("DELETE", path);
    test.apply(COMPONENTS).await;
    let content = "spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: theirs}, maxReplicas: 3}";
    let theirs = replaced(&test, &proxy, kind, name, content).await;
    let is_done = |object: &Value| {
        is_observed(object) && condition_of(object, "Ready").is_some_and(|ready| ready["status"] == "True")
    };
    test.until("Ingestor", "i", is_done).await;
    assert!(is_refused(&proxy, "DELETE", path), "whatever is there was to be deleted");
    let stays = test.get(kind, name).await;
    for part in ["/metadata/uid", "/metadata/labels", "/metadata/deletionTimestamp", "/spec"] {
        assert_eq!(stays.pointer(part), theirs.pointer(part), "{part}");
    }
    // And one that goes with its owner.
    let kind = "rbac.authorization.k8s.io/v1 ClusterRoleBinding";
    let (name, path) = (format!("adx-mon:{}:alerter:a", test.name), "/clusterrolebindings/");
    proxy.hold("DELETE", path);
    test.delete("Alerter", "a").await;
    let content = "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}";
    let theirs = replaced(&test, &proxy, kind, &name, content).await;
    test.until("Alerter", "a", Value::is_null).await;
    assert!(is_refused(&proxy, "DELETE", path), "whatever is there was to be deleted");
    assert_eq!(test.get(kind, &name).await, theirs);
    test.delete(kind, &name).await;
    drop(operator);
}
