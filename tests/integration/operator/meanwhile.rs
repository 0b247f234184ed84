//! What was not there when the operator looked, and is when it writes.

use serde_json::Value;
use tests::cluster::{ApiProxy, TestNamespace, condition_of};

use crate::{
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
        let message = condition_of(&told, "Ready").map(|ready| ready["message"].to_string()).unwrap_or_default();
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
