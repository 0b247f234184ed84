//! What is made for each kind: Kubernetes objects as JSON. Pure; the API server checks every field. `shared` parts first.

pub(crate) mod agent;
pub(crate) mod alerter;
pub(crate) mod collector;
pub(crate) mod ingestor;

use std::collections::BTreeSet;

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde_json::{Value, json};
use shared::document::pods::PodPolicy;

use super::child::{Child, ChildRef, Owner};

/// Workload identity's mark on a service account and on the pods that use it.
pub(crate) const IDENTITY_CLIENT: &str = "azure.workload.identity/client-id";
pub(crate) const IDENTITY_USE: (&str, &str) = ("azure.workload.identity/use", "true");

/// The name of a component's service account: an Ingestor, a Collector and an Alerter may have one name.
pub(crate) fn account_name(owner: &Owner) -> String {
    format!("{}-{}", owner.name, owner.kind.component())
}

/// A service account; with a client id, one that workload identity knows.
pub(crate) fn service_account(owner: &Owner, name: &str, annotations: &Value) -> Child {
    let content = json!({"metadata": {"annotations": annotations}, "automountServiceAccountToken": false});
    Child::namespaced::<ServiceAccount>(owner, name, content)
}

/// A role in the owner's namespace and its binding to the service account of the same name.
pub(crate) fn role(owner: &Owner, name: &str, rules: &Value) -> [Child; 2] {
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
pub(crate) fn cluster_role(owner: &Owner, account: &str, rules: &Value) -> [Child; 2] {
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

/// A pod's spec where a policy says: beside what the component always tolerates.
pub(crate) fn follow(policy: Option<&PodPolicy>, pod: &mut Value) {
    let Some(PodPolicy { image_pull_secrets, node_selector, tolerations }) = policy else { return };
    if !image_pull_secrets.is_empty() {
        // One name twice is no list to Kubernetes.
        pod["imagePullSecrets"] = json!(image_pull_secrets.iter().collect::<BTreeSet<_>>());
    }
    if !node_selector.is_empty() {
        pod["nodeSelector"] = json!(node_selector);
    }
    if !tolerations.is_empty() {
        let always = pod["tolerations"].as_array().cloned().unwrap_or_default();
        pod["tolerations"] = always.into_iter().chain(tolerations.iter().map(|toleration| json!(toleration))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::AutoscalingSpec,
        kubernetes::{apply::Build, child::Kind},
    };

    fn owner(kind: Kind, name: &str) -> Owner {
        Owner { kind, name: name.to_owned(), namespace: "monitoring".to_owned(), uid: "uid-1".to_owned() }
    }

    fn policy() -> PodPolicy {
        let policy = json!({
            "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}, {"name": "registry"}],
            "nodeSelector": {"agentpool": "infra"},
            "tolerations": [{"key": "pool", "value": "infra", "effect": "NoSchedule"}],
        });
        serde_json::from_value(policy).unwrap()
    }

    fn shown(build: Build) -> String {
        let Build { supports, workload, unwanted } = build;
        let objects = supports.into_iter().chain(workload);
        let objects = objects.map(|child| format!("--- {}\n{:#}\n", child.reference, child.content));
        objects.chain(unwanted.iter().map(|child| format!("--- not: {child}\n"))).collect()
    }

    #[test]
    fn an_ingestors_objects_are_as_reviewed() {
        let autoscaling =
            AutoscalingSpec { min_replicas: Some(2), max_replicas: 7, target_cpu_utilization_percentage: None };
        let parts = ingestor::IngestorParts {
            image: "x/ingestor:1".to_owned(),
            scale: ingestor::Scale::Auto(autoscaling),
            expose_externally: true,
            metrics: vec!["M=https://eu.kusto.windows.net".to_owned()],
            logs: vec!["L=https://us.kusto.windows.net".to_owned()],
            client_id: Some("client-1".to_owned()),
            region: Some("westeurope".to_owned()),
            log_destination: "Audit:Ingestor".to_owned(),
            certificate: Some(ingestor::Certificate::Secret("ingestor-tls".to_owned())),
            pods: Some(policy()),
            cluster_labels: vec!["region=westeurope".to_owned()],
        };
        insta::assert_snapshot!(shown(ingestor::ingestor(&owner(Kind::Ingestor, "in"), &parts)));
    }

    #[test]
    fn a_collectors_objects_are_as_reviewed_and_its_configuration_quotes_what_it_is_given() {
        let parts = collector::CollectorParts {
            image: "x/collector".to_owned(),
            endpoint: "https://a\"b\\c\n".to_owned(),
            region: "westeurope".to_owned(),
            cluster: "prod".to_owned(),
            metrics: "M\"".to_owned(),
            logs: "L".to_owned(),
            pods: None,
        };
        insta::assert_snapshot!(shown(collector::collector(&owner(Kind::Collector, "co"), &parts)));
    }

    #[test]
    fn whatever_changes_a_collectors_configuration_rolls_its_pods_and_nothing_else_does() {
        let parts = collector::CollectorParts {
            image: "x/collector".to_owned(),
            endpoint: "https://a".to_owned(),
            region: "a".to_owned(),
            cluster: "a".to_owned(),
            metrics: "a".to_owned(),
            logs: "a".to_owned(),
            pods: None,
        };
        let configured = |parts: &collector::CollectorParts| {
            let Build { supports, workload, .. } = collector::collector(&owner(Kind::Collector, "co"), parts);
            let files = supports.iter().find_map(|child| child.content.pointer("/data/config.toml")).cloned();
            let annotation = "/spec/template/metadata/annotations/adx-mon.azure.com~1config";
            let hash = workload.unwrap().content.pointer(annotation).cloned();
            (files.unwrap(), hash.unwrap())
        };
        let (file, hash) = configured(&parts);
        for other in [
            collector::CollectorParts { endpoint: "https://b".to_owned(), ..parts.clone() },
            collector::CollectorParts { region: "b".to_owned(), ..parts.clone() },
            collector::CollectorParts { cluster: "b".to_owned(), ..parts.clone() },
            collector::CollectorParts { metrics: "b".to_owned(), ..parts.clone() },
            collector::CollectorParts { logs: "b".to_owned(), ..parts.clone() },
        ] {
            let (other_file, other_hash) = configured(&other);
            assert!(other_file != file && other_hash != hash, "{other:?}");
        }
        let elsewhere = collector::CollectorParts { image: "x/other".to_owned(), pods: Some(policy()), ..parts };
        assert_eq!(configured(&elsewhere), (file, hash));
    }

    #[test]
    fn an_alerters_objects_are_as_reviewed() {
        let parts = alerter::AlerterParts {
            image: "x/alerter:2".to_owned(),
            notification_endpoint: "https://alerts.example.com".to_owned(),
            kusto_endpoints: vec!["M=https://eu.kusto.windows.net".to_owned()],
            replicas: 1,
            client_id: Some("client-3".to_owned()),
            region: None,
            log_destination: "Audit:Alerter".to_owned(),
            pods: Some(policy()),
        };
        insta::assert_snapshot!(shown(alerter::alerter(&owner(Kind::Alerter, "al"), &parts)));
    }

    #[test]
    fn a_hub_agents_objects_are_as_reviewed_and_all_of_them_go_without_a_federation() {
        let parts = agent::AgentParts {
            role: shared::document::ClusterRole::Federated,
            image: "x/adx-federation:3".to_owned(),
            document: "{}".to_owned(),
            client_id: Some("client-2".to_owned()),
            uses_workload_identity: true,
            arguments: vec!["--cloud=public".to_owned()],
            pods: Some(policy()),
        };
        let owner = owner(Kind::AdxCluster, "hub");
        let (made, gone) = (agent::agent(&owner, &parts), agent::no_agent(&owner));
        let mut made_names: Vec<_> =
            made.supports.iter().chain(&made.workload).map(|child| child.reference.to_string()).collect();
        let mut gone_names: Vec<_> = gone.unwanted.iter().map(ToString::to_string).collect();
        made_names.sort();
        gone_names.sort();
        assert_eq!(made_names, gone_names);
        insta::assert_snapshot!(shown(made));
    }

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
