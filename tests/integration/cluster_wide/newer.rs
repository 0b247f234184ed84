//! Objects of definitions that are newer than the operator, with fields that it does not know: as a downgrade leaves them, or an upgrade that has not come to the operator yet.
//! Here, as it changes definitions under everybody.

use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tests::cluster::{ControlPlane, PATIENCE, TestNamespace, is_observed};
use tokio::time;

use crate::{DEFINITIONS, IN_A_PROCESS_OF_ITS_OWN, unreadable::define};

const OBJECTS: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: eu, labels: {app: x}}
spec: {clusterName: eu, endpoint: 'https://eu.kusto.windows.net', databases: [{databaseName: Metrics, telemetryType: Metrics}]}
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: i}
spec: {adxClusterSelector: {matchLabels: {app: x}}, replicas: 2}
";

const NAMES: [(&str, &str, &str); 2] = [("adxclusters", "ADXCluster", "eu"), ("ingestors", "Ingestor", "i")];

/// A definition that has one field more in its spec.
fn newer(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let schema = definition.spec.versions[0].schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
    let spec = schema.and_then(|schema| schema.properties.as_mut()?.get_mut("spec")).expect("it has a spec");
    let text = JSONSchemaProps { type_: Some("string".to_owned()), ..JSONSchemaProps::default() };
    spec.properties.get_or_insert_default().insert("newer".to_owned(), text);
    definition
}

/// Sets that field, once the API server has come to know of it: before, it drops it without a word.
async fn set_newer(test: &TestNamespace, kind: &str, name: &str) {
    let (patch, started) = (Patch::Merge(json!({"spec": {"newer": "yes"}})), Instant::now());
    loop {
        let set = test.api(kind).patch(name, &PatchParams::default(), &patch).await.expect("the API server takes it");
        if set.data["spec"]["newer"] == "yes" {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{kind} {name} has no such field");
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn objects_with_fields_of_a_newer_version_are_looked_after_and_keep_them() {
    if std::env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() || ControlPlane::is_missing() {
        return;
    }
    let _alone = DEFINITIONS.lock().await;
    let test = TestNamespace::new("newer").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(test.client());
    let mut before = Vec::new();
    for (plural, ..) in NAMES {
        let definition = definitions.get(&format!("{plural}.adx-mon.azure.com")).await.expect("it is installed");
        define(&definitions, &newer(definition.clone())).await;
        before.push(definition);
    }
    test.apply(OBJECTS).await;
    for (_, kind, name) in NAMES {
        set_newer(&test, kind, name).await;
    }
    let operator = test.operator().await;
    for (_, kind, name) in NAMES {
        test.until_condition(kind, name, "Ready", "True", "Ready").await;
    }
    // Its edits are followed, and so are the cluster's, which the Ingestor writes to.
    for (kind, name, spec) in [
        ("Ingestor", "i", json!({"replicas": 3})),
        ("ADXCluster", "eu", json!({"endpoint": "https://moved.kusto.windows.net"})),
    ] {
        let patch = Patch::Merge(json!({"spec": spec}));
        test.api(kind).patch(name, &PatchParams::default(), &patch).await.expect("the API server takes the edit");
    }
    let follows = |set: &Value| set["spec"]["replicas"] == 3 && set.to_string().contains("Metrics=https://moved.");
    test.until("apps/v1 StatefulSet", "i", follows).await;
    for (_, kind, name) in NAMES {
        let is_well = |object: &Value| is_observed(object) && object["status"]["conditions"].is_array();
        test.until(kind, name, is_well).await;
        test.until_condition(kind, name, "Ready", "True", "Ready").await;
    }
    test.until_rest(Duration::from_secs(2)).await;
    for (_, kind, name) in NAMES {
        assert_eq!(test.get(kind, name).await["spec"]["newer"], "yes", "{kind} {name}");
    }
    drop(operator);
    for definition in &before {
        define(&definitions, definition).await;
    }
}
