//! An Alerter's objects: what adx-mon's alerter image expects.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use shared::document::pods::PodPolicy;

use super::{
    account_name, cluster_role, follow, identity, node_certificates, pod_labels, pull_policy, service_account,
};
use crate::kubernetes::{
    apply::Build,
    child::{Child, Owner},
};

/// The argument that names a database; there may be several.
pub(crate) const KUSTO_FLAG: &str = "--kusto-endpoint";

/// A valid Alerter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlerterParts {
    pub(crate) image: String,
    /// Where notifications are sent.
    pub(crate) notification_endpoint: String,
    /// `Database=https://cluster`, in order.
    pub(crate) kusto_endpoints: Vec<String>,
    pub(crate) replicas: i32,
    pub(crate) client_id: Option<String>,
    pub(crate) region: Option<String>,
    /// Where its own logs go, `Database:Table`.
    pub(crate) log_destination: String,
    /// Where its pods run.
    pub(crate) pods: Option<PodPolicy>,
}

/// All of an Alerter's objects.
pub(crate) fn alerter(owner: &Owner, parts: &AlerterParts) -> Build {
    let (annotations, identity_labels) = identity(parts.client_id.as_deref());
    let mut supports = vec![service_account(owner, &account_name(owner), &annotations)];
    supports.extend(cluster_role(owner, &account_name(owner), &cluster_rules()));
    let mut workload = deployment(owner, parts, &identity_labels);
    follow(parts.pods.as_ref(), &mut workload["spec"]["template"]["spec"]);
    let workload = Child::namespaced::<Deployment>(owner, &owner.name, workload);
    Build { supports, workload: Some(workload), unwanted: Vec::new() }
}

/// Alert rules live in any namespace.
fn cluster_rules() -> Value {
    let group = ["adx-mon.azure.com"];
    json!([
        {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": group, "resources": ["alertrules"], "verbs": ["get", "list", "watch", "update", "patch"]},
        {"apiGroups": group, "resources": ["alertrules/status"], "verbs": ["update", "patch"]},
        {"apiGroups": group, "resources": ["alertrules/finalizers"], "verbs": ["update"]},
    ])
}

fn deployment(owner: &Owner, parts: &AlerterParts, identity_labels: &Value) -> Value {
    let mut arguments = vec![format!("--alerter-address={}", parts.notification_endpoint), "--port=8080".to_owned()];
    arguments.extend(parts.client_id.iter().map(|id| format!("--auth-msi-id={id}")));
    arguments.extend(parts.region.iter().map(|region| format!("--region={region}")));
    arguments.extend(parts.kusto_endpoints.iter().map(|endpoint| format!("{KUSTO_FLAG}={endpoint}")));
    let (mut volumes, mut mounts) = node_certificates();
    volumes.push(json!({"name": "tmp", "emptyDir": {}}));
    mounts.push(json!({"name": "tmp", "mountPath": "/tmp"}));
    let mut environment = vec![json!({"name": "GODEBUG", "value": "http2client=0"})];
    environment.extend(parts.client_id.iter().map(|id| json!({"name": "AZURE_CLIENT_ID", "value": id})));
    json!({"spec": {
        "replicas": parts.replicas,
        "selector": {"matchLabels": owner.selector()},
        "template": {
            "metadata": {
                "labels": pod_labels(owner, identity_labels),
                "annotations": {
                    "adx-mon/scrape": "true", "adx-mon/port": "8080", "adx-mon/path": "/metrics",
                    "adx-mon/log-destination": parts.log_destination, "adx-mon/log-parsers": "json",
                },
            },
            "spec": {
                "serviceAccountName": account_name(owner),
                "automountServiceAccountToken": true,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "alerter",
                    "image": parts.image,
                    "imagePullPolicy": pull_policy(&parts.image),
                    "command": ["/usr/local/bin/alerter"],
                    "args": arguments,
                    "env": environment,
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "125Mi"}, "limits": {"cpu": "400m", "memory": "1400Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        },
    }})
}
