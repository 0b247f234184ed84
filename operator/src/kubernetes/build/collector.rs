//! A Collector's objects: what adx-mon's collector image expects.

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::ConfigMap};
use serde_json::{Value, json};
use shared::document::{fingerprint, pods::PodPolicy};

use super::{account_name, cluster_role, follow, node_certificates, pod_labels, pull_policy, service_account};
use crate::kubernetes::{
    apply::Build,
    child::{Child, Owner},
};

/// A valid Collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CollectorParts {
    pub(crate) image: String,
    /// Where it sends to.
    pub(crate) endpoint: String,
    pub(crate) region: String,
    /// The value of the label `cluster` on all telemetry.
    pub(crate) cluster: String,
    /// The databases that metrics and logs are for, which the ingestor has to know.
    pub(crate) metrics: String,
    pub(crate) logs: String,
    /// Where its pods run.
    pub(crate) pods: Option<PodPolicy>,
}

/// All of a Collector's objects.
pub(crate) fn collector(owner: &Owner, parts: &CollectorParts) -> Build {
    let name = owner.name.as_str();
    let config = config(owner, parts);
    let config_name = format!("{name}-config");
    let mut supports = vec![
        service_account(owner, &account_name(owner), &json!({})),
        Child::namespaced::<ConfigMap>(owner, &config_name, json!({"data": {"config.toml": config}})),
    ];
    supports.extend(cluster_role(owner, &account_name(owner), &cluster_rules()));
    let mut workload = daemon_set(owner, parts, &config_name, &fingerprint(&config));
    follow(parts.pods.as_ref(), &mut workload["spec"]["template"]["spec"]);
    let workload = Child::namespaced::<DaemonSet>(owner, name, workload);
    Build { supports, workload: Some(workload), unwanted: Vec::new() }
}

/// It scrapes kubelets and finds pods to scrape everywhere.
fn cluster_rules() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["nodes/metrics", "nodes/proxy"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["get", "list", "watch"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ])
}

/// A TOML string; what is quoted came from a CRD.
fn toml(text: &str) -> String {
    // TOML's basic strings have JSON's escapes.
    Value::from(text).to_string()
}

/// The ingestor's certificate is not verified: by default it signs that itself, also where another cluster's is behind an `https` endpoint, and nothing tells which
/// it is.
fn config(owner: &Owner, parts: &CollectorParts) -> String {
    let CollectorParts { image: _, endpoint, region, cluster, metrics, logs, pods: _ } = parts;
    let (metrics, logs) = (toml(metrics), toml(logs));
    let (endpoint, region, cluster) = (toml(endpoint), toml(region), toml(cluster));
    let (namespace, name) = (toml(&owner.namespace), toml(&owner.name));
    format!(
        r#"# Where telemetry is sent.
endpoint = {endpoint}
region = {region}
insecure-skip-verify = true
listen-addr = ":8080"
max-connections = 100
max-batch-size = 10000
storage-dir = "/mnt/data"
wal-flush-interval-ms = 1000
lift-labels = [
  {{ name = "host" }},
  {{ name = "cluster" }},
  {{ name = "adxmon_pod", column = "Pod" }},
  {{ name = "adxmon_namespace", column = "Namespace" }},
  {{ name = "adxmon_container", column = "Container" }},
]
lift-resources = [
  {{ name = "host" }},
  {{ name = "cluster" }},
  {{ name = "adxmon_pod", column = "Pod" }},
  {{ name = "adxmon_namespace", column = "Namespace" }},
  {{ name = "adxmon_container", column = "Container" }},
]

[add-labels]
host = "$(HOSTNAME)"
cluster = {cluster}

[prometheus-scrape]
database = {metrics}
static-scrape-target = [
  {{ host-regex = ".*", url = "http://$(HOSTNAME):3100/metrics", namespace = {namespace}, pod = {name}, container = "collector" }},
  {{ host-regex = ".*", url = "https://$(HOSTNAME):10250/metrics/cadvisor", namespace = "kube-system", pod = "kubelet", container = "cadvisor" }},
  {{ host-regex = ".*", url = "https://$(HOSTNAME):10250/metrics/resource", namespace = "kube-system", pod = "kubelet", container = "resource" }},
]
scrape-interval = 30
scrape-timeout = 25

[[prometheus-remote-write]]
database = {metrics}
path = "/receive"

[otel-log]
lift-attributes = ["kusto.database", "kusto.table"]

[[host-log]]
parsers = ["json"]
journal-target = [
  {{ matches = ["_SYSTEMD_UNIT=kubelet.service"], database = {logs}, table = "Kubelet" }},
]
"#
    )
}

/// Where the node's logs are, and where it keeps what it has not sent yet. Name, path, path in the container, type, whether only read.
const HOST_PATHS: [(&str, &str, &str, &str, bool); 5] = [
    ("storage", "/mnt/collector", "/mnt/data", "DirectoryOrCreate", false),
    ("varlog", "/var/log", "/var/log", "", true),
    ("runlog", "/run/log", "/run/log", "", true),
    ("containers", "/var/lib/docker/containers", "/var/lib/docker/containers", "", true),
    ("machine-id", "/etc/machine-id", "/etc/machine-id", "File", true),
];

fn daemon_set(owner: &Owner, parts: &CollectorParts, config_name: &str, config_hash: &str) -> Value {
    let host_volume = |(name, path, _, kind, _): (&str, &str, &str, &str, bool)| match kind {
        "" => json!({"name": name, "hostPath": {"path": path}}),
        kind => json!({"name": name, "hostPath": {"path": path, "type": kind}}),
    };
    let host_mount = |(name, _, path, _, read_only): (&str, &str, &str, &str, bool)| match read_only {
        true => json!({"name": name, "mountPath": path, "readOnly": true}),
        false => json!({"name": name, "mountPath": path}),
    };
    let (mut volumes, mut mounts) = node_certificates();
    volumes.extend(HOST_PATHS.map(host_volume));
    volumes.push(json!({"name": "config", "configMap": {"name": config_name}}));
    mounts.extend(HOST_PATHS.map(host_mount));
    mounts.push(json!({"name": "config", "mountPath": "/etc/config"}));
    json!({"spec": {
        "selector": {"matchLabels": owner.selector()},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "30%"}},
        "template": {
            "metadata": {
                "labels": pod_labels(owner, &json!({})),
                "annotations": {
                    "adx-mon/scrape": "true", "adx-mon/port": "9091", "adx-mon/path": "/metrics",
                    "adx-mon/log-destination": format!("{}:Collector", parts.logs), "adx-mon/log-parsers": "json",
                    // It reads its configuration once.
                    "adx-mon.azure.com/config": config_hash,
                },
            },
            "spec": {
                "serviceAccountName": account_name(owner),
                "automountServiceAccountToken": true,
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                "tolerations": [
                    {"key": "CriticalAddonsOnly", "operator": "Exists"},
                    {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"},
                    {"key": "node-role.kubernetes.io/master", "operator": "Exists", "effect": "NoSchedule"},
                ],
                "containers": [{
                    "name": "collector",
                    "image": parts.image,
                    "imagePullPolicy": pull_policy(&parts.image),
                    "command": ["/collector"],
                    "args": ["--config=/etc/config/config.toml", "--hostname=$(HOSTNAME)", "--host-ip=$(HOSTIP)"],
                    "env": [
                        {"name": "LOG_LEVEL", "value": "INFO"},
                        {"name": "HOSTNAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}},
                        {"name": "HOSTIP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}}},
                        {"name": "GODEBUG", "value": "http2client=0"},
                    ],
                    "ports": [{"name": "http", "containerPort": 8080, "hostPort": 3100, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"cpu": "500m", "memory": "2000Mi"}},
                    // The node's logs are root's to read, and the folder that a kubelet makes for what is not sent yet is root's to write.
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsUser": 0, "runAsGroup": 0,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        },
    }})
}
