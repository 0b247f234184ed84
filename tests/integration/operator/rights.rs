//! Least privilege, seen from what was done: the operator and the agents use every right that they have, or give it to others. The API server's audit log tells.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tests::{
    cluster::{PATIENCE, TestNamespace, documents, rights_of},
    docs,
};
use tokio::time;

use crate::{
    drift::{change, reverted},
    support::{CLUSTER, COMPONENTS, PARTITION, until_ready, without_federation},
};

/// The operator's own account.
const OPERATOR: &str = "adx-federation-operator";

/// A hub whose agent has nothing to do, as there is no such cluster.
const HUB: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: hub}
spec: {clusterName: hub, endpoint: 'https://hub.kusto.windows.net', role: Federated, federation: {heartbeatDatabase: D, heartbeatTable: T}}
";

/// What the operator has and nobody is seen to use. Where the admission plugin OwnerReferencesPermissionEnforcement is on, as in OpenShift and here, whoever sets
/// `blockOwnerDeletion` is asked for the first, and whoever sets the owner of what is there already for the others; it leaves no line in the log. Besides, a DaemonSet is deleted where an earlier version's cannot be changed.
pub(crate) const FOR_OWNER_REFERENCES: [&str; 6] = [
    "adx-mon.azure.com adxclusters/finalizers update",
    "adx-mon.azure.com ingestors/finalizers update",
    "adx-mon.azure.com collectors/finalizers update",
    "adx-mon.azure.com alerters/finalizers update",
    "apps statefulsets delete",
    "apps daemonsets delete",
];

/// Waits until an account has and does not use just these: what is written after all else, as Events are, may still be on its way.
async fn until_unused(test: &TestNamespace, account: &str, rights: &BTreeSet<String>, expected: &BTreeSet<String>) {
    let started = Instant::now();
    loop {
        let used = test.plane.rights_used_by(&test.name, account).expect("it was told at the beginning");
        let unused: BTreeSet<String> = rights.difference(&used).cloned().collect();
        if unused == *expected {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{account} does not use {unused:#?}");
        time::sleep(Duration::from_millis(500)).await;
    }
}

/// What the operator gives to whom it makes.
async fn granted(test: &TestNamespace) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for kind in ["Role", "ClusterRole"].map(|kind| format!("rbac.authorization.k8s.io/v1 {kind}")) {
        for name in test.ours(&kind).await {
            // Cluster-scoped objects of other stories come and go.
            if !name.starts_with("adx-mon:") || name.contains(&format!(":{}:", test.name)) {
                granted.extend(rights_of(&test.get(&kind, &name).await["rules"]));
            }
        }
    }
    granted
}

#[tokio::test]
async fn the_operator_and_its_agents_use_every_right_that_they_have_or_give_it_to_others() {
    let test = TestNamespace::new("rights").await;
    if test.plane.rights_used_by(&test.name, OPERATOR).is_none() {
        println!("skipped: the API server is not ours, and does not tell who has used which right");
        return;
    }
    let _operator = test.operator().await;
    test.apply(&[CLUSTER, PARTITION, HUB].join("---")).await;
    test.apply(&COMPONENTS.replace("replicas: 2", "exposeExternally: true, autoscaling: {maxReplicas: 3}")).await;
    until_ready(&test).await;
    test.until("autoscaling/v2 HorizontalPodAutoscaler", "i", |scaler| !scaler.is_null()).await;
    for name in ["part", "hub"] {
        test.until("ADXCluster", name, |object| !object["status"]["federation"]["lastPass"].is_null()).await;
        let agent = format!("{name}-agent");
        let rights = rights_of(&test.get("rbac.authorization.k8s.io/v1 Role", &agent).await["rules"]);
        assert_eq!(rights.len(), 5, "{rights:#?}");
        until_unused(&test, &agent, &rights, &BTreeSet::new()).await;
    }
    let granted = granted(&test).await;
    // What comes again is counted in the Event that there is.
    for replicas in [5, 6] {
        change(&test, "apps/v1 Deployment", "a", json!({"spec": {"replicas": replicas}})).await;
        reverted(&test, "apps/v1 Deployment", "a", |object| object["spec"]["replicas"] == 1).await;
    }
    // What is not wanted any more goes, and what nothing else would take along.
    test.apply(COMPONENTS).await;
    test.until("autoscaling/v2 HorizontalPodAutoscaler", "i", Value::is_null).await;
    test.apply(without_federation(PARTITION)).await;
    test.until("v1 ServiceAccount", "part-agent", Value::is_null).await;
    test.delete("Alerter", "a").await;
    test.until("Alerter", "a", Value::is_null).await;
    // Pods that are refused.
    let enforced = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<Namespace> = Api::all(test.client());
    let labelled = namespaces.patch(&test.name, &PatchParams::default(), &Patch::Merge(&enforced)).await;
    labelled.expect("the API server takes the label");
    let ingestor = COMPONENTS.split("---").next().expect("the first document");
    test.apply(&ingestor.replace("name: i}", "name: refused}")).await;
    test.until_condition("Ingestor", "refused", "Ready", "False", "FailedCreate").await;
    let rbac = documents(&docs::read("deploy/kustomize/rbac.yaml"));
    let role = rbac.iter().find(|object| object["kind"] == "ClusterRole").expect("it grants the rights");
    let rights: BTreeSet<String> = rights_of(&role["rules"]).difference(&granted).cloned().collect();
    assert!(rights.len() > 50, "{rights:#?}");
    until_unused(&test, OPERATOR, &rights, &FOR_OWNER_REFERENCES.map(str::to_owned).into()).await;
}
