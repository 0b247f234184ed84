//! Objects from before the definitions said of which types fields are: the operator cannot read them, tells so, and harms nothing. Here, as it changes definitions under
//! everybody.

use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tests::cluster::{ControlPlane, OperatorOptions, PATIENCE, TestNamespace, condition_of, is_observed};
use tokio::time;

use crate::{DEFINITIONS, IN_A_PROCESS_OF_ITS_OWN};

/// A cluster that is as it should be, three Ingestors that write to it, and one that nothing happens to.
const OBJECTS: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: eu, labels: {app: x}}
spec: {clusterName: eu, endpoint: 'https://eu.kusto.windows.net', databases: [{databaseName: Metrics, telemetryType: Metrics}]}
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: mended}
spec: {adxClusterSelector: {matchLabels: {app: x}}, replicas: 2}
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: deleted}
spec: {adxClusterSelector: {matchLabels: {app: x}}, replicas: 2}
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: suspended}
spec: {adxClusterSelector: {matchLabels: {app: x}}, replicas: 2}
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: bystander}
spec: {adxClusterSelector: {matchLabels: {app: x}}, replicas: 2}
";

/// What kinds the definitions are changed of.
const PLURALS: [&str; 2] = ["adxclusters", "ingestors"];

/// Definitions that take any spec; what they were before this.
async fn relax(definitions: &Api<CustomResourceDefinition>) -> Vec<CustomResourceDefinition> {
    let mut before = Vec::new();
    for plural in PLURALS {
        let strict = definitions.get(&format!("{plural}.adx-mon.azure.com")).await.expect("it is installed");
        let mut relaxed = strict.clone();
        let schema = relaxed.spec.versions[0].schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let schema = schema.expect("it has a schema");
        // Rules in CEL ask for fields that such a schema does not know.
        schema.x_kubernetes_validations = None;
        let anything = JSONSchemaProps {
            type_: Some("object".to_owned()),
            x_kubernetes_preserve_unknown_fields: Some(true),
            ..JSONSchemaProps::default()
        };
        schema.properties.get_or_insert_default().insert("spec".to_owned(), anything);
        define(definitions, &relaxed).await;
        before.push(strict);
    }
    before
}

/// Has a definition say what this one says, whoever writes its status meanwhile.
pub(crate) async fn define(definitions: &Api<CustomResourceDefinition>, wanted: &CustomResourceDefinition) {
    let (name, started) = (wanted.name_any(), Instant::now());
    loop {
        let mut definition = definitions.get(&name).await.expect("it is installed");
        definition.spec = wanted.spec.clone();
        match definitions.replace(&name, &PostParams::default(), &definition).await {
            Ok(_) => return,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{name}: {error}"),
        }
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// Merges into a spec. Whether the API server takes it.
async fn edit(test: &TestNamespace, kind: &str, name: &str, spec: &Value) -> bool {
    let patch = Patch::Merge(json!({"spec": spec}));
    test.api(kind).patch(name, &PatchParams::default(), &patch).await.is_ok()
}

/// Until the API server has come to know of a changed definition, which takes it a moment.
async fn until_taken(test: &TestNamespace, kind: &str, name: &str, spec: &Value) {
    let started = Instant::now();
    while !edit(test, kind, name, spec).await {
        assert!(started.elapsed() < PATIENCE, "{kind} {name}: {spec} is not taken");
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until new objects of wrong types are refused again.
async fn until_strict(test: &TestNamespace) {
    let of = |kind: &str, spec: Value| json!({"apiVersion": "adx-mon.azure.com/v1", "kind": kind, "metadata": {"name": "rehearsed"}, "spec": spec});
    let selector = json!({"matchLabels": {"app": "x"}});
    let wrong = [
        of("ADXCluster", json!({"clusterName": 7})),
        of("Ingestor", json!({"adxClusterSelector": selector, "replicas": "three"})),
    ];
    for object in wrong {
        let started = Instant::now();
        while test.rehearse(&object).await.is_ok() {
            assert!(started.elapsed() < PATIENCE, "{object} is taken");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Events with these words: one that is counted again is the same.
async fn events(test: &TestNamespace, note: &str) -> usize {
    test.events().await.iter().filter(|(reason, told)| reason == "Invalid" && told.contains(note)).count()
}

async fn until_event(test: &TestNamespace, note: &str) {
    let started = Instant::now();
    while events(test, note).await == 0 {
        assert!(started.elapsed() < PATIENCE, "no Event says {note}: {:#?}", test.events().await);
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// An operator that finds the objects so. Nobody let go of the lease of the one before.
fn later() -> OperatorOptions {
    OperatorOptions { arguments: vec!["--lease-name=later".to_owned()], ..OperatorOptions::default() }
}

#[tokio::test]
async fn objects_that_are_older_than_the_types_of_their_fields_say_so_and_harm_no_other() {
    if std::env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() || ControlPlane::is_missing() {
        return;
    }
    let _alone = DEFINITIONS.lock().await;
    let test = TestNamespace::new("unreadable").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(test.client());
    let mut operator = test.operator().await;
    test.apply(OBJECTS).await;
    for name in ["mended", "deleted", "suspended", "bystander"] {
        test.until_condition("Ingestor", name, "Ready", "True", "Ready").await;
    }
    let set = async |name: &str| {
        let set = test.get("apps/v1 StatefulSet", name).await;
        (set["metadata"]["uid"].clone(), set["spec"].clone())
    };
    let (mended, deleted, bystander) = (set("mended").await, set("deleted").await, set("bystander").await);
    let suspended = set("suspended").await;
    operator.process.kill().await;

    let before = relax(&definitions).await;
    until_taken(&test, "Ingestor", "mended", &json!({"replicas": "three"})).await;
    until_taken(&test, "Ingestor", "deleted", &json!({"replicas": "three"})).await;
    until_taken(&test, "Ingestor", "suspended", &json!({"replicas": "three", "suspend": true})).await;
    // The Ingestors write to it.
    until_taken(&test, "ADXCluster", "eu", &json!({"databases": "Metrics"})).await;
    let seven = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "seven"}, "spec": {"clusterName": "seven", "endpoint": 7}});
    let seven = serde_json::from_value(seven).expect("it has the form of an object");
    let made = test.api("ADXCluster").create(&PostParams::default(), &seven).await;
    for strict in &before {
        define(&definitions, strict).await;
    }
    made.expect("the API server takes any spec");
    until_strict(&test).await;

    let operator = test.operator_with(&later()).await;
    operator.until_leading().await;
    let replicas = "spec.replicas = \"three\": must be a whole number, without quotes";
    let databases = "spec.databases = \"Metrics\": must be a list";
    for (kind, name, phase, why) in [
        ("Ingestor", "mended", "WorkloadReady", replicas),
        ("Ingestor", "deleted", "WorkloadReady", replicas),
        ("ADXCluster", "eu", "ClusterReady", databases),
    ] {
        let object = test.until_condition(kind, name, "Stalled", "True", "Invalid").await;
        for (condition, status) in [(phase, "False"), ("Ready", "False"), ("Stalled", "True")] {
            let told = condition_of(&object, condition).expect("it is told");
            assert_eq!((&told["status"], &told["reason"]), (&json!(status), &json!("Invalid")), "{object:#}");
            assert_eq!(
                (&told["message"], &told["observedGeneration"]),
                (&json!(why), &object["metadata"]["generation"])
            );
        }
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
        assert!(object["status"]["endpoint"].is_string(), "what else it said stays: {object:#}");
        until_event(&test, why).await;
    }
    // What can be read of it is that a person wants it to be left alone.
    let left = test.until_condition("Ingestor", "suspended", "Ready", "Unknown", "Suspended").await;
    assert!(condition_of(&left, "Stalled").is_none() && is_observed(&left), "{left:#}");
    // A rule of the definition cannot be asked of that value, and so the API server takes no status: an Event alone tells.
    let endpoint = "spec.endpoint = 7: must be a text: write it in quotes";
    until_event(&test, endpoint).await;
    let object = test.get("ADXCluster", "seven").await;
    assert!(
        condition_of(&object, "Ready").is_none(),
        "the API server has taken it, of which README.md says otherwise: {object:#}"
    );
    // The one that can be read goes on with the cluster that cannot, of which it knows what it knew.
    let waits = test.until_condition("Ingestor", "bystander", "ClusterReady", "False", "WaitingForCluster").await;
    assert!(waits.to_string().contains("ADXCluster 'eu' is not ready: spec.databases"), "{waits:#}");
    // Told once, and then there is nothing to write.
    test.until_rest(Duration::from_secs(2)).await;
    for why in [databases, endpoint] {
        assert_eq!(events(&test, why).await, 1, "{why}");
    }
    for (name, before) in
        [("mended", &mended), ("deleted", &deleted), ("suspended", &suspended), ("bystander", &bystander)]
    {
        assert_eq!(&set(name).await, before, "{name}");
    }

    // One that is deleted goes, with what Kubernetes does not collect.
    test.delete("Ingestor", "deleted").await;
    test.until("Ingestor", "deleted", Value::is_null).await;
    let role = format!("adx-mon:{}:ingestor:deleted", test.name);
    test.until("rbac.authorization.k8s.io/v1 ClusterRole", &role, Value::is_null).await;

    // One that is mended is as if it had never been otherwise.
    let database = json!({"databaseName": "Metrics", "telemetryType": "Metrics"});
    for (kind, name, spec) in [
        ("Ingestor", "mended", json!({"replicas": 3})),
        ("ADXCluster", "eu", json!({"databases": [database]})),
        ("ADXCluster", "seven", json!({"endpoint": "https://seven.kusto.windows.net"})),
    ] {
        assert!(edit(&test, kind, name, &spec).await, "{kind} {name}");
    }
    for (kind, name) in
        [("Ingestor", "mended"), ("ADXCluster", "eu"), ("ADXCluster", "seven"), ("Ingestor", "bystander")]
    {
        let is_well = |object: &Value| {
            condition_of(object, "Ready").is_some_and(|ready| ready["status"] == "True")
                && condition_of(object, "Stalled").is_none()
                && is_observed(object)
        };
        test.until(kind, name, is_well).await;
    }
    test.until("apps/v1 StatefulSet", "mended", |set| set["spec"]["replicas"] == 3).await;
    test.until_rest(Duration::from_secs(2)).await;
    // Also for whoever deletes it then: nobody remembers any more that the finalizer is ours.
    test.delete("Ingestor", "mended").await;
    test.until("Ingestor", "mended", Value::is_null).await;
    drop(operator);
}
