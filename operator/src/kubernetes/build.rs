//! What is made for each kind: Kubernetes objects as JSON. Pure; the API server checks every field. `shared` parts first.

pub(crate) mod agent;
pub(crate) mod alerter;
pub(crate) mod collector;
pub(crate) mod ingestor;

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde_json::{Value, json};

use super::child::{Child, ChildRef, Owner};

/// Workload identity's mark on a service account and on the pods that use it.
pub(crate) const IDENTITY_CLIENT: &str = "azure.workload.identity/client-id";
pub(crate) const IDENTITY_USE: (&str, &str) = ("azure.workload.identity/use", "true");

/// A service account; with a client id, one that workload identity knows.
pub(crate) fn service_account(owner: &Owner, name: &str, annotations: Value) -> Child {
    let content = json!({"metadata": {"annotations": annotations}, "automountServiceAccountToken": false});
    Child::namespaced::<ServiceAccount>(owner, name, content)
}

/// A role in the owner's namespace and its binding to the service account of the same name.
pub(crate) fn role(owner: &Owner, name: &str, rules: Value) -> [Child; 2] {
    [
        Child::namespaced::<Role>(owner, name, json!({"rules": rules})),
        Child::namespaced::<RoleBinding>(owner, name, binding(owner, "Role", name, name)),
    ]
}

/// The name of an owner's cluster-scoped objects: two namespaces may have an object of one name.
pub(crate) fn cluster_name(owner: &Owner) -> String {
    format!("adx-mon:{}:{}:{}", owner.namespace, owner.kind.component(), owner.name)
}

/// A cluster role and its binding to the service account `account`.
pub(crate) fn cluster_role(owner: &Owner, account: &str, rules: Value) -> [Child; 2] {
    let name = cluster_name(owner);
    [
        Child::cluster::<ClusterRole>(owner, &name, json!({"rules": rules})),
        Child::cluster::<ClusterRoleBinding>(owner, &name, binding(owner, "ClusterRole", &name, account)),
    ]
}

/// What [`cluster_role`] makes.
pub(crate) fn cluster_role_refs(owner: &Owner) -> Vec<ChildRef> {
    let name = cluster_name(owner);
    vec![ChildRef::in_cluster::<ClusterRoleBinding>(&name), ChildRef::in_cluster::<ClusterRole>(&name)]
}

fn binding(owner: &Owner, kind: &str, role: &str, account: &str) -> Value {
    json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": owner.namespace}],
    })
}

/// The node's trusted certificates: adx-mon's images bring none of their own. Volumes and mounts.
pub(crate) fn node_certificates() -> (Vec<Value>, Vec<Value>) {
    let volumes = vec![
        json!({"name": "ca-certs", "hostPath": {"path": "/etc/ssl/certs", "type": "Directory"}}),
        json!({"name": "etc-pki-ca-certs", "hostPath": {"path": "/etc/pki/ca-trust/extracted", "type": "DirectoryOrCreate"}}),
    ];
    let mounts = vec![
        json!({"name": "ca-certs", "mountPath": "/etc/ssl/certs", "readOnly": true}),
        json!({"name": "etc-pki-ca-certs", "mountPath": "/etc/pki/ca-trust/extracted", "readOnly": true}),
    ];
    (volumes, mounts)
}

/// A service account's annotations and the labels of the pods that use it, for an identity that may be there.
pub(crate) fn identity(client_id: Option<&str>) -> (Value, Value) {
    match client_id.filter(|id| !id.is_empty()) {
        Some(id) => (json!({IDENTITY_CLIENT: id}), json!({IDENTITY_USE.0: IDENTITY_USE.1})),
        None => (json!({}), json!({})),
    }
}

/// What Kubernetes would choose, said so that a change of the image changes it too: an image that may be another tomorrow is asked for each time.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let is_fixed = image.contains('@') || name.split_once(':').is_some_and(|(_, tag)| tag != "latest");
    if is_fixed { "IfNotPresent" } else { "Always" }
}

/// The labels of an owner's pods and some more.
pub(crate) fn pod_labels(owner: &Owner, more: &Value) -> Value {
    let mut labels = json!(owner.labels());
    for (label, value) in more.as_object().into_iter().flatten() {
        labels[label] = value.clone();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_may_change_are_pulled_each_time() {
        for image in ["x", "x:latest", "host:5000/x", "host:5000/a/x:latest"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["x:1", "host:5000/x:v1.2.3", "x@sha256:abc", "x:latest@sha256:abc"] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
