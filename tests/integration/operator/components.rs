//! Ingestor, Collector and Alerter: their specs in their objects, and what follows what.

use serde_json::{Value, json};
use tests::cluster::{OperatorOptions, TestNamespace, condition_of, message_of};

use crate::{
    drift::change,
    support::{CLUSTER, COMPONENTS, seeming_partition, until_event, until_ready},
};

pub(crate) fn ingestor(name: &str, more: &str) -> String {
    format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: Ingestor\nmetadata: {{name: {name}}}\nspec: {{adxClusterSelector: {{matchLabels: {{app: adx-mon}}}}{more}}}\n"
    )
}

/// What the first container of a workload's pods is started with.
pub(crate) fn arguments(workload: &Value) -> Vec<String> {
    let arguments =
        workload["spec"]["template"]["spec"]["containers"][0]["args"].as_array().cloned().unwrap_or_default();
    arguments.iter().map(|argument| argument.as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn an_ingestors_spec_is_in_its_objects_and_follows_edits() {
    let test = TestNamespace::new("ingestor").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(
        &CLUSTER
            .replace("name: eu,", "name: us,")
            .replace("clusterName: eu", "clusterName: us")
            .replace("//eu", "//us"),
    )
    .await;
    let hub = "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {name: hub, labels: {app: adx-mon}}\nspec: {clusterName: hub, endpoint: 'https://hub.kusto.windows.net', role: Federated, federation: {heartbeatDatabase: D, heartbeatTable: T}, databases: [{databaseName: D, telemetryType: Logs}]}\n";
    test.apply(hub).await;
    test.apply(&ingestor("first", ", replicas: 0, image: 'x/ingestor:1', managedIdentityClientId: id-1")).await;
    // Several in one namespace, under any name.
    test.apply(&ingestor("second", ", exposeExternally: true, endpoint: 'https://ingest.example.com'")).await;
    let first = test.until_condition("Ingestor", "first", "Ready", "True", "Ready").await;
    assert_eq!(first["status"]["endpoint"], format!("https://first.{}.svc.cluster.local", test.name));
    let set = test.get("apps/v1 StatefulSet", "first").await;
    assert_eq!(
        (&set["spec"]["replicas"], &set["spec"]["template"]["spec"]["containers"][0]["image"]),
        (&json!(0), &json!("x/ingestor:1"))
    );
    let kusto: Vec<_> = arguments(&set).into_iter().filter(|argument| argument.contains("kusto")).collect();
    assert_eq!(
        kusto,
        [
            "--metrics-kusto-endpoints=Metrics=https://eu.kusto.windows.net",
            "--metrics-kusto-endpoints=Metrics=https://us.kusto.windows.net",
            "--logs-kusto-endpoints=Logs=https://eu.kusto.windows.net",
            "--logs-kusto-endpoints=Logs=https://us.kusto.windows.net",
            "--logs-kusto-endpoints=Spans=https://eu.kusto.windows.net",
            "--logs-kusto-endpoints=Spans=https://us.kusto.windows.net",
        ],
        "a hub is not written to"
    );
    let account = test.get("v1 ServiceAccount", "first-ingestor").await;
    assert_eq!(account["metadata"]["annotations"]["azure.workload.identity/client-id"], "id-1");
    assert_eq!(set["spec"]["template"]["metadata"]["labels"]["azure.workload.identity/use"], "true");
    let second = test.until_condition("Ingestor", "second", "Ready", "True", "Ready").await;
    assert_eq!(second["status"]["endpoint"], "https://ingest.example.com");
    assert_eq!(test.get("v1 Service", "second").await["spec"]["type"], "LoadBalancer");
    // Edits are followed, those of clusters too.
    test.apply(&ingestor("first", ", replicas: 2, image: 'x/ingestor:2'")).await;
    test.until("apps/v1 StatefulSet", "first", |set| {
        set["spec"]["replicas"] == 2 && set["spec"]["template"]["spec"]["containers"][0]["image"] == "x/ingestor:2"
    })
    .await;
    let plain = |account: &Value| account["metadata"]["annotations"]["azure.workload.identity/client-id"].is_null();
    test.until("v1 ServiceAccount", "first-ingestor", plain).await;
    test.delete("ADXCluster", "us").await;
    test.until("apps/v1 StatefulSet", "first", |set| {
        !arguments(set).iter().any(|argument| argument.contains("us.kusto"))
    })
    .await;
    drop(operator);
}

#[tokio::test]
async fn an_autoscaler_decides_on_replicas_alone() {
    let test = TestNamespace::new("autoscaling").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(&ingestor("i", ", replicas: 3")).await;
    test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 3).await;
    test.apply(&ingestor("i", ", autoscaling: {minReplicas: 2, maxReplicas: 9, targetCPUUtilizationPercentage: 60}"))
        .await;
    let scaler = test.until("autoscaling/v2 HorizontalPodAutoscaler", "i", |scaler| !scaler.is_null()).await;
    assert_eq!((&scaler["spec"]["minReplicas"], &scaler["spec"]["maxReplicas"]), (&json!(2), &json!(9)));
    assert_eq!(scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    assert_eq!(
        test.get("apps/v1 StatefulSet", "i").await["spec"]["replicas"],
        3,
        "the change to autoscaling scales nothing down"
    );
    // As an autoscaler scales.
    let sets = test.api("apps/v1 StatefulSet");
    let scale = kube::api::Patch::Merge(json!({"spec": {"replicas": 5}}));
    sets.patch_scale("i", &kube::api::PatchParams::default(), &scale).await.expect("the API server scales");
    test.apply(&ingestor(
        "i",
        ", image: 'x/ingestor:2', autoscaling: {minReplicas: 2, maxReplicas: 9, targetCPUUtilizationPercentage: 60}",
    ))
    .await;
    let set = test
        .until("apps/v1 StatefulSet", "i", |set| {
            set["spec"]["template"]["spec"]["containers"][0]["image"] == "x/ingestor:2"
        })
        .await;
    assert_eq!(set["spec"]["replicas"], 5, "replicas are the autoscaler's");
    // Back to a number: the autoscaler goes.
    test.apply(&ingestor("i", ", replicas: 1")).await;
    test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 1).await;
    test.until("autoscaling/v2 HorizontalPodAutoscaler", "i", Value::is_null).await;
    drop(operator);
}

#[tokio::test]
async fn a_collector_follows_its_ingestor_and_rolls_when_its_configuration_changes() {
    let test = TestNamespace::new("collector").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(&ingestor("i", "")).await;
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: Collector\nmetadata: {name: c}\nspec: {}\n").await;
    let collector = test.until_condition("Collector", "c", "Ready", "True", "Ready").await;
    assert_eq!(collector["status"]["endpoint"], format!("https://i.{}.svc.cluster.local", test.name));
    let mark = |set: &Value| set["spec"]["template"]["metadata"]["annotations"]["adx-mon.azure.com/config"].clone();
    let before = mark(&test.get("apps/v1 DaemonSet", "c").await);
    test.apply(&ingestor("i", ", endpoint: 'https://elsewhere.example.com'")).await;
    let follows = |map: &Value| {
        map["data"]["config.toml"]
            .as_str()
            .is_some_and(|text| text.contains("endpoint = \"https://elsewhere.example.com\""))
    };
    test.until("v1 ConfigMap", "c-config", follows).await;
    test.until("apps/v1 DaemonSet", "c", |set| mark(set) != before).await;
    // Two ingestors are one too many to choose from; what runs goes on.
    test.apply(&ingestor("other", "")).await;
    let ambiguous = test.until_condition("Collector", "c", "Ready", "False", "AmbiguousIngestor").await;
    assert!(message_of(&ambiguous, "Ready").contains("i, other"), "{ambiguous:#}");
    assert!(follows(&test.get("v1 ConfigMap", "c-config").await));
    drop(operator);
}

#[tokio::test]
async fn a_bad_image_shows_in_the_pods_own_words_and_selecting_nothing_makes_nothing() {
    let test = TestNamespace::new("trouble").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(&ingestor("bad", ", image: 'x/missing:1'")).await;
    let bad = test.until_condition("Ingestor", "bad", "Ready", "False", "ImagePullBackOff").await;
    let message = message_of(&bad, "WorkloadReady");
    assert!(message.contains("pod bad-0: ImagePullBackOff: Back-off pulling image"), "{message}");
    until_event(&test, "ImagePullBackOff", "bad-0").await;
    test.apply(&ingestor("bad", ", image: 'x/there:1'")).await;
    test.until_condition("Ingestor", "bad", "Ready", "True", "Ready").await;
    for (name, selector, reason) in
        [("empty", "{}", "SelectsNothing"), ("none", "{matchLabels: {app: nothing}}", "WaitingForCluster")]
    {
        let text = format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: Ingestor\nmetadata: {{name: {name}}}\nspec: {{adxClusterSelector: {selector}}}\n"
        );
        test.apply(&text).await;
        test.until_condition("Ingestor", name, "Ready", "False", reason).await;
    }
    assert_eq!(test.ours("apps/v1 StatefulSet").await, ["bad"]);
    drop(operator);
}

#[tokio::test]
async fn components_of_one_name_live_side_by_side_and_empty_fields_are_absent_ones() {
    let test = TestNamespace::new("samename").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    // The longest name that there may be, of 52 characters: what controllers add to it in labels of pods has room.
    let prod = "prod".repeat(13);
    // As adx-mon's users leave them.
    test.apply(&ingestor(&prod, ", image: '', endpoint: '', managedIdentityClientId: ''")).await;
    for (kind, spec) in [
        ("Collector", "ingestorEndpoint: ''"),
        (
            "Alerter",
            "managedIdentityClientId: '', notificationEndpoint: 'https://x', adxClusterSelector: {matchLabels: {app: adx-mon}}",
        ),
    ] {
        test.apply(&format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: {kind}\nmetadata: {{name: {prod}}}\nspec: {{{spec}}}\n"
        ))
        .await;
    }
    // An agent's objects are named after its ADXCluster.
    test.apply(&seeming_partition(&prod)).await;
    for kind in ["Ingestor", "Collector", "Alerter"] {
        test.until_condition(kind, &prod, "Ready", "True", "Ready").await;
    }
    test.until_condition("ADXCluster", &prod, "AgentReady", "True", "Ready").await;
    let accounts = ["agent", "alerter", "collector", "ingestor"].map(|account| format!("{prod}-{account}"));
    assert_eq!(test.ours("v1 ServiceAccount").await, accounts);
    assert!(!test.events().await.iter().any(|(reason, _)| reason == "DriftReverted"));
    drop(operator);
}

#[tokio::test]
async fn a_suspended_object_is_left_alone_until_it_goes_on() {
    let test = TestNamespace::new("suspend").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(&ingestor("i", ", replicas: 1")).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    test.apply(&ingestor("i", ", replicas: 3, suspend: true")).await;
    let suspended = test.until_condition("Ingestor", "i", "Ready", "Unknown", "Suspended").await;
    assert!(condition_of(&suspended, "WorkloadReady").is_some_and(|known| known["status"] == "True"), "{suspended:#}");
    let scale = kube::api::Patch::Merge(json!({"spec": {"replicas": 2}}));
    test.api("apps/v1 StatefulSet")
        .patch("i", &kube::api::PatchParams::default(), &scale)
        .await
        .expect("the API server scales");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(test.get("apps/v1 StatefulSet", "i").await["spec"]["replicas"], 2);
    test.apply(&ingestor("i", ", replicas: 3")).await;
    test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 3).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    drop(operator);
}

#[tokio::test]
async fn every_component_runs_the_image_that_the_operator_is_told_and_may_be_suspended() {
    let test = TestNamespace::new("suspended").await;
    let image = |kind: &str| format!("x/{}:told", kind.to_lowercase());
    let arguments = ["Ingestor", "Collector", "Alerter"]
        .map(|kind| format!("--{}-image={}", kind.to_lowercase(), image(kind)))
        .to_vec();
    let operator = test.operator_with(&OperatorOptions { arguments, ..OperatorOptions::default() }).await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    for (kind, name, workload) in
        [("Ingestor", "i", "StatefulSet"), ("Collector", "c", "DaemonSet"), ("Alerter", "a", "Deployment")]
    {
        let workload = format!("apps/v1 {workload}");
        let made = test.get(&workload, name).await;
        assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["image"], image(kind), "{kind}");
        let ours = made["metadata"]["labels"].clone();
        change(&test, kind, name, json!({"spec": {"suspend": true}})).await;
        test.until_condition(kind, name, "Ready", "Unknown", "Suspended").await;
        let theirs = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}});
        change(&test, &workload, name, theirs).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let label = test.get(&workload, name).await["metadata"]["labels"]["app.kubernetes.io/managed-by"].clone();
        assert_eq!(label, "somebody", "{kind}");
        change(&test, kind, name, json!({"spec": {"suspend": false}})).await;
        test.until(&workload, name, |object| object["metadata"]["labels"] == ours).await;
    }
    drop(operator);
}

#[tokio::test]
async fn an_autoscaler_is_not_left_with_nothing_to_scale() {
    let test = TestNamespace::new("fromzero").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(&ingestor("i", ", replicas: 0")).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    test.apply(&ingestor("i", ", autoscaling: {minReplicas: 2, maxReplicas: 4}")).await;
    test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 2).await;
    drop(operator);
}

#[tokio::test]
async fn an_autoscaled_ingestor_begins_with_its_fewest_and_tells_of_no_drift() {
    let test = TestNamespace::new("fewest").await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    for fewest in [2, 3] {
        test.apply(&ingestor("i", &format!(", autoscaling: {{minReplicas: {fewest}, maxReplicas: 4}}"))).await;
        test.until("apps/v1 StatefulSet", "i", |set| set["status"]["readyReplicas"] == fewest).await;
        test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    }
    let events = test.events().await;
    assert!(!events.iter().any(|(reason, _)| reason == "DriftReverted"), "{events:#?}");
    drop(operator);
}
