//! An Ingestor's objects: what adx-mon's ingestor image expects, and what its collectors look for.

use k8s_openapi::api::{apps::v1::StatefulSet, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Service};
use serde_json::{Value, json};
use shared::document::pods::PodPolicy;

use super::{
    account_name, cluster_role, follow, identity, node_certificates, pod_labels, pull_policy, role, service_account,
};
use crate::{
    api::AutoscalingSpec,
    kubernetes::{
        apply::Build,
        child::{Child, ChildRef, Owner},
    },
};

/// The arguments that name a database of metrics, and one of logs and traces; there may be several.
pub(crate) const METRICS_FLAG: &str = "--metrics-kusto-endpoints";
pub(crate) const LOGS_FLAG: &str = "--logs-kusto-endpoints";

/// Where its certificate is in the container.
const CERTIFICATE: &str = "/etc/ssl/ingestor";

/// A valid Ingestor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IngestorParts {
    pub(crate) image: String,
    pub(crate) scale: Scale,
    pub(crate) expose_externally: bool,
    /// `Database=https://cluster`, in order.
    pub(crate) metrics: Vec<String>,
    pub(crate) logs: Vec<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) region: Option<String>,
    /// Where its own logs go: `Database:Table`.
    pub(crate) log_destination: String,
    pub(crate) certificate: Option<Certificate>,
    /// `key=value`, in order.
    pub(crate) cluster_labels: Vec<String>,
    /// Where its pods run.
    pub(crate) pods: Option<PodPolicy>,
}

/// Where the certificate is that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// In a Secret of this name.
    Secret(String),
    /// In a folder of the node.
    HostPath(String),
}

/// Who decides how many run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scale {
    Fixed(i32),
    Auto(AutoscalingSpec),
}

/// All of an Ingestor's objects.
pub(crate) fn ingestor(owner: &Owner, parts: &IngestorParts) -> Build {
    let name = owner.name.as_str();
    let (annotations, identity_labels) = identity(parts.client_id.as_deref());
    let service_type = if parts.expose_externally { "LoadBalancer" } else { "ClusterIP" };
    let service = json!({"spec": {"type": service_type, "selector": owner.selector(), "ports": [{"name": "https", "port": 443, "targetPort": 9090, "protocol": "TCP"}]}});
    let mut supports = vec![
        service_account(owner, &account_name(owner), &annotations),
        Child::namespaced::<Service>(owner, name, service),
    ];
    supports.extend(role(owner, &account_name(owner), &namespace_rules()));
    supports.extend(cluster_role(owner, &account_name(owner), &cluster_rules()));
    let mut set = stateful_set(owner, parts, &identity_labels);
    follow(parts.pods.as_ref(), &mut set["spec"]["template"]["spec"]);
    let mut unwanted = Vec::new();
    let workload = match &parts.scale {
        Scale::Fixed(replicas) => {
            set["spec"]["replicas"] = (*replicas).into();
            unwanted.push(ChildRef::in_namespace::<HorizontalPodAutoscaler>(owner, name));
            Child::namespaced::<StatefulSet>(owner, name, set)
        }
        Scale::Auto(autoscaling) => {
            supports.push(Child::namespaced::<HorizontalPodAutoscaler>(owner, name, autoscaler(name, autoscaling)));
            Child::namespaced::<StatefulSet>(owner, name, set).scaled_by_others(autoscaling.min_replicas.unwrap_or(1))
        }
    };
    Build { supports, workload: Some(workload), unwanted }
}

/// Peers find one another by their pods.
fn namespace_rules() -> Value {
    json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]}])
}

/// Functions, commands and rules that it carries out live in any namespace.
fn cluster_rules() -> Value {
    let group = ["adx-mon.azure.com"];
    json!([
        {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": group, "resources": ["functions", "managementcommands", "summaryrules"], "verbs": ["get", "list", "watch", "update", "patch"]},
        {"apiGroups": group, "resources": ["functions/status", "managementcommands/status", "summaryrules/status"], "verbs": ["update", "patch"]},
        {"apiGroups": group, "resources": ["functions/finalizers", "managementcommands/finalizers", "summaryrules/finalizers"], "verbs": ["update"]},
    ])
}

fn autoscaler(name: &str, autoscaling: &AutoscalingSpec) -> Value {
    let target = autoscaling.target_cpu_utilization_percentage.unwrap_or(80);
    json!({"spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name},
        "minReplicas": autoscaling.min_replicas.unwrap_or(1),
        "maxReplicas": autoscaling.max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}],
    }})
}

fn arguments(parts: &IngestorParts) -> Vec<String> {
    let fixed = [
        "--storage-dir=/mnt/data",
        "--max-segment-age=5s",
        "--max-disk-usage=21474836480",
        "--max-transfer-size=10485760",
        "--max-connections=1000",
        // Peers are called by the addresses of pods, which no certificate names.
        "--insecure-skip-verify",
    ];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).into();
    if parts.certificate.is_some() {
        arguments.extend(
            ["--ca-cert", "--key"]
                .into_iter()
                .zip(["tls.crt", "tls.key"])
                .map(|(flag, file)| format!("{flag}={CERTIFICATE}/{file}")),
        );
    }
    arguments.extend(parts.region.iter().map(|region| format!("--region={region}")));
    arguments.extend(parts.cluster_labels.iter().map(|label| format!("--cluster-labels={label}")));
    arguments.extend(parts.metrics.iter().map(|endpoint| format!("{METRICS_FLAG}={endpoint}")));
    arguments.extend(parts.logs.iter().map(|endpoint| format!("{LOGS_FLAG}={endpoint}")));
    arguments
}

fn stateful_set(owner: &Owner, parts: &IngestorParts, identity_labels: &Value) -> Value {
    let (mut volumes, mut mounts) = node_certificates();
    volumes.extend([
        json!({"name": "metrics", "hostPath": {"path": format!("/mnt/ingestor/{}/{}", owner.namespace, owner.name), "type": "DirectoryOrCreate"}}),
        json!({"name": "tmp", "emptyDir": {}}),
    ]);
    mounts.extend([json!({"name": "metrics", "mountPath": "/mnt/data"}), json!({"name": "tmp", "mountPath": "/tmp"})]);
    if let Some(certificate) = &parts.certificate {
        let source = match certificate {
            Certificate::Secret(name) => json!({"name": "ingestor-certs", "secret": {"secretName": name}}),
            Certificate::HostPath(path) => {
                json!({"name": "ingestor-certs", "hostPath": {"path": path, "type": "Directory"}})
            }
        };
        volumes.push(source);
        mounts.push(json!({"name": "ingestor-certs", "mountPath": CERTIFICATE, "readOnly": true}));
    }
    let mut environment =
        vec![json!({"name": "LOG_LEVEL", "value": "INFO"}), json!({"name": "GODEBUG", "value": "http2client=0"})];
    environment.extend(parts.client_id.iter().map(|id| json!({"name": "AZURE_CLIENT_ID", "value": id})));
    json!({"spec": {
        "serviceName": owner.name,
        // In order, one broken pod would keep its own replacement from coming.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "selector": {"matchLabels": owner.selector()},
        "template": {
            "metadata": {
                "labels": pod_labels(owner, identity_labels),
                "annotations": {
                    "adx-mon/scrape": "true", "adx-mon/port": "9091", "adx-mon/path": "/metrics",
                    "adx-mon/log-destination": parts.log_destination, "adx-mon/log-parsers": "json",
                },
            },
            "spec": {
                "serviceAccountName": account_name(owner),
                "automountServiceAccountToken": true,
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                    "labelSelector": {"matchLabels": owner.selector()}, "topologyKey": "kubernetes.io/hostname",
                }]}},
                "tolerations": [
                    {"key": "CriticalAddonsOnly", "operator": "Exists"},
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                ],
                "containers": [{
                    "name": "ingestor",
                    "image": parts.image,
                    "imagePullPolicy": pull_policy(&parts.image),
                    "command": ["/ingestor"],
                    "args": arguments(parts),
                    "env": environment,
                    "ports": [{"name": "ingestor", "containerPort": 9090, "protocol": "TCP"}, {"name": "metrics", "containerPort": 9091, "protocol": "TCP"}],
                    "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9090, "scheme": "HTTPS"}, "initialDelaySeconds": 10, "periodSeconds": 5},
                    // A scaler by CPU needs something to be a percentage of.
                    "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}},
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
