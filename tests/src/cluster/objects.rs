//! YAML of any kinds, applied as `kubectl apply --server-side` does. I/O: the API server.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::Value;

/// An existing cluster with all kinds of databases.
pub const CLUSTER: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: eu, labels: {app: adx-mon}}
spec:
  clusterName: eu
  endpoint: https://eu.kusto.windows.net
  databases:
    - {databaseName: Metrics, telemetryType: Metrics}
    - {databaseName: Logs, telemetryType: Logs}
    - {databaseName: Spans, telemetryType: Traces}
";

/// A hub where nobody answers.
pub const UNREACHABLE_HUB: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: hub}
spec:
  clusterName: hub
  endpoint: http://127.0.0.1:9
  role: Federated
  federation: {heartbeatDatabase: D, heartbeatTable: T}
";

/// A partition of that hub, where nobody answers either.
pub const UNREACHABLE_PARTITION: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: part}
spec:
  clusterName: part
  endpoint: http://127.0.0.1:9
  federation:
    federatedClusters: [{endpoint: 'http://127.0.0.1:9', heartbeatDatabase: D, heartbeatTable: T}]
";

/// The documents of a YAML text as JSON.
///
/// # Panics
/// If it is no YAML.
pub fn documents(text: &str) -> Vec<Value> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).expect("the text is YAML");
    values.into_iter().filter(|value| !value.is_null()).collect()
}

/// An object's kind, as [`objects_of`] takes it.
pub fn kind_of(object: &Value) -> String {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    format!("{} {}", text("apiVersion"), text("kind"))
}

/// Objects of a kind, `Ingestor` or `apps/v1 StatefulSet`, in a namespace.
///
/// # Panics
/// Never.
pub fn objects_of(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = resource_of(kind);
    let is_cluster_scoped = matches!(
        resource.kind.as_str(),
        "ClusterRole"
            | "ClusterRoleBinding"
            | "Namespace"
            | "Node"
            | "CustomResourceDefinition"
            | "ValidatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding"
            | "MutatingAdmissionPolicy"
            | "MutatingAdmissionPolicyBinding"
    );
    if is_cluster_scoped {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

/// Objects of a kind, as [`objects_of`] takes it, in all namespaces.
pub(super) fn objects_everywhere(client: &Client, kind: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource_of(kind))
}

fn resource_of(kind: &str) -> ApiResource {
    let (group, kind) = kind.split_once(' ').unwrap_or(("adx-mon.azure.com/v1", kind));
    let (group, version) = group.split_once('/').unwrap_or(("", group));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Applies all documents of a text; cluster-scoped kinds as they are, the rest in the namespace unless they name one. A field that the API server does not know is
/// refused.
///
/// # Errors
/// What the API server refused first.
pub async fn apply_yaml(client: &Client, namespace: &str, text: &str) -> Result<Vec<DynamicObject>, kube::Error> {
    let mut applied = Vec::new();
    let params = PatchParams::apply("kubectl").force().validation_strict();
    for document in documents(text) {
        let own = document["metadata"]["namespace"].as_str().unwrap_or(namespace);
        let api = objects_of(client, own, &kind_of(&document));
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        applied.push(api.patch(name, &params, &Patch::Apply(&document)).await?);
    }
    Ok(applied)
}
