//! The agent of an ADXCluster: hub or partition, with the document that it works from.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use serde_json::{Value, json};
use shared::{
    document::{ClusterRole, fingerprint, pods::PodPolicy},
    runtime::DOCUMENT_ENV,
};

use super::{follow, identity, pod_labels, pull_policy, role, service_account};
use crate::kubernetes::{
    apply::Build,
    child::{Child, ChildRef, Owner},
};

/// The agent's admin port: probes, metrics, status.
const ADMIN_PORT: u16 = 9090;
/// Where the document is in the container.
const FOLDER: &str = "/etc/adx-federation";
const FILE: &str = "cluster.yaml";
/// The pods' annotation that tells which document they are made for.
const DOCUMENT: &str = "adx-mon.azure.com/config";

/// What an agent is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AgentParts {
    pub(crate) role: ClusterRole,
    pub(crate) image: String,
    /// The effective document as JSON, which is YAML.
    pub(crate) document: String,
    /// The client id of the workload identity, if it signs in with one.
    pub(crate) client_id: Option<String>,
    /// Whether any of its credentials is a workload identity.
    pub(crate) uses_workload_identity: bool,
    /// What every agent is started with.
    pub(crate) arguments: Vec<String>,
    /// Where its pods run.
    pub(crate) pods: Option<PodPolicy>,
}

/// The name of all its objects.
fn name(owner: &Owner) -> String {
    format!("{}-agent", owner.name)
}

/// All of an agent's objects.
pub(crate) fn agent(owner: &Owner, parts: &AgentParts) -> Build {
    let name = name(owner);
    let (annotations, mut labels) = identity(parts.client_id.as_deref());
    if parts.uses_workload_identity {
        labels = json!({super::IDENTITY_USE.0: super::IDENTITY_USE.1});
    }
    let port = json!([{"name": "metrics", "port": ADMIN_PORT, "targetPort": ADMIN_PORT, "protocol": "TCP"}]);
    let mut supports = vec![
        service_account(owner, &name, &annotations),
        Child::namespaced::<ConfigMap>(owner, &name, json!({"data": {FILE: parts.document}})),
        Child::namespaced::<Service>(
            owner,
            &name,
            json!({"spec": {"type": "ClusterIP", "selector": owner.selector(), "ports": port}}),
        ),
        Child::namespaced::<PodDisruptionBudget>(
            owner,
            &name,
            json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": owner.selector()}}}),
        ),
    ];
    supports.extend(role(owner, &name, &rules(owner, &name)));
    let mut workload = deployment(owner, &name, parts, &labels);
    follow(parts.pods.as_ref(), &mut workload["spec"]["template"]["spec"]);
    let workload = Child::namespaced::<Deployment>(owner, &name, workload);
    Build { supports, workload: Some(workload), unwanted: Vec::new() }
}

/// A cluster without an agent: whatever one was made of goes.
pub(crate) fn no_agent(owner: &Owner) -> Build {
    let name = name(owner);
    let unwanted = vec![
        ChildRef::in_namespace::<Deployment>(owner, &name),
        ChildRef::in_namespace::<PodDisruptionBudget>(owner, &name),
        ChildRef::in_namespace::<Service>(owner, &name),
        ChildRef::in_namespace::<RoleBinding>(owner, &name),
        ChildRef::in_namespace::<Role>(owner, &name),
        ChildRef::in_namespace::<ConfigMap>(owner, &name),
        ChildRef::in_namespace::<ServiceAccount>(owner, &name),
    ];
    Build { unwanted, ..Build::default() }
}

/// Its lease and the status of its own ADXCluster, nothing else. A lease that is to be made has no name yet that a rule could ask for.
fn rules(owner: &Owner, lease: &str) -> Value {
    json!([
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [lease], "verbs": ["get", "patch"]},
        {"apiGroups": ["adx-mon.azure.com"], "resources": ["adxclusters"], "resourceNames": [owner.name], "verbs": ["get"]},
        {"apiGroups": ["adx-mon.azure.com"], "resources": ["adxclusters/status"], "resourceNames": [owner.name], "verbs": ["patch"]},
    ])
}

fn deployment(owner: &Owner, name: &str, parts: &AgentParts, labels: &Value) -> Value {
    let (program, replicas) = match parts.role {
        ClusterRole::Federated => ("/agent-hub", 2),
        ClusterRole::Partition => ("/agent-partition", 1),
    };
    let mut arguments =
        vec![format!("--config={FOLDER}/{FILE}"), "--kubernetes".to_owned(), format!("--admin=0.0.0.0:{ADMIN_PORT}")];
    arguments.extend(parts.arguments.iter().cloned());
    let field = |path: &str| json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
    let probe = |path: &str, period: u16| json!({"httpGet": {"path": path, "port": "metrics"}, "periodSeconds": period, "timeoutSeconds": 5});
    json!({"spec": {
        "replicas": replicas,
        "selector": {"matchLabels": owner.selector()},
        "template": {
            "metadata": {
                "labels": pod_labels(owner, labels),
                "annotations": {
                    // It reads its document once.
                    DOCUMENT: fingerprint(&parts.document),
                    "adx-mon/scrape": "true", "adx-mon/port": ADMIN_PORT.to_string(), "adx-mon/path": "/metrics",
                    "prometheus.io/scrape": "true", "prometheus.io/port": ADMIN_PORT.to_string(), "prometheus.io/path": "/metrics",
                },
            },
            "spec": {
                "serviceAccountName": name,
                "automountServiceAccountToken": true,
                "terminationGracePeriodSeconds": 10,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                    "weight": 100,
                    "podAffinityTerm": {"labelSelector": {"matchLabels": owner.selector()}, "topologyKey": "kubernetes.io/hostname"},
                }]}},
                "containers": [{
                    "name": "agent",
                    "image": parts.image,
                    "imagePullPolicy": pull_policy(&parts.image),
                    "command": [program],
                    "args": arguments,
                    "env": [
                        {"name": "POD_NAME", "valueFrom": field("metadata.name")},
                        {"name": DOCUMENT_ENV, "valueFrom": field(&format!("metadata.annotations['{DOCUMENT}']"))},
                    ],
                    "ports": [{"name": "metrics", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
                    "livenessProbe": probe("/livez", 10),
                    "readinessProbe": probe("/readyz", 5),
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
                    "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "document", "mountPath": FOLDER, "readOnly": true}],
                }],
                "volumes": [{"name": "document", "configMap": {"name": name}}],
            },
        },
    }})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::child::Kind;

    /// The program and the arguments of an agent's container.
    fn started(role: ClusterRole, arguments: &[&str]) -> (Value, Value) {
        let parts = AgentParts {
            role,
            image: "x/adx-federation:3".to_owned(),
            document: "{}".to_owned(),
            client_id: None,
            uses_workload_identity: false,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            pods: None,
        };
        let owner = Owner {
            kind: Kind::AdxCluster,
            name: "eu".to_owned(),
            namespace: "monitoring".to_owned(),
            uid: "uid-1".to_owned(),
        };
        let workload = agent(&owner, &parts).workload.expect("an agent is a workload").content;
        let container = &workload["spec"]["template"]["spec"]["containers"][0];
        (container["command"].clone(), container["args"].clone())
    }

    #[test]
    fn what_the_operator_passes_on_follows_the_document_in_both_roles() {
        let own = ["--config=/etc/adx-federation/cluster.yaml", "--kubernetes", "--admin=0.0.0.0:9090"];
        for (role, program) in [(ClusterRole::Federated, "/agent-hub"), (ClusterRole::Partition, "/agent-partition")] {
            for passed_on in [
                &["--cloud=public"][..],
                &["--cloud=china", "--trusted-suffix=.kusto.example.com", "--trusted-suffix=.a.b"],
            ] {
                let arguments: Vec<&str> = own.iter().chain(passed_on).copied().collect();
                assert_eq!(started(role, passed_on), (json!([program]), json!(arguments)), "{role:?}");
            }
        }
    }
}
