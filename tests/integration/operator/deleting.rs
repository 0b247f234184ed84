//! Objects that are edited, and whose children go, while they are being deleted: they end deleted, and get nothing new. And a namespace that goes with all of them.

use std::time::{Duration, Instant};

use kube::api::ListParams;
use serde_json::{Value, json};
use tests::cluster::{ApiProxy, Operator, OperatorOptions, PATIENCE, Seen, TestNamespace};
use tokio::time;

use crate::{
    drift::change,
    resilience::through,
    support::{CLUSTER, COMPONENTS, PARTITION, until_agent, until_logged, until_ready, without_federation},
};

const OURS: &str = "adx-mon.azure.com/cluster-rbac";
const THEIRS: &str = "stories.example/hold";

/// Our objects, with a child of each that somebody deletes.
const OBJECTS: [(&str, &str, &str, &str); 4] = [
    ("Ingestor", "i", "v1 Service", "i"),
    ("Collector", "c", "v1 ServiceAccount", "c-collector"),
    ("Alerter", "a", "v1 ServiceAccount", "a-alerter"),
    ("ADXCluster", "part", "v1 ConfigMap", "part-agent"),
];

/// The components, which have something that Kubernetes does not collect.
fn components() -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str, &'static str)> {
    OBJECTS.iter().filter(|(kind, ..)| *kind != "ADXCluster")
}

/// Edits of all kinds, as whoever applies manifests again and again would send them.
async fn edit(test: &TestNamespace, image: &str) {
    let edited = COMPONENTS
        .replace("replicas: 2", &format!("replicas: 4, image: '{image}'"))
        .replace("name: c}\nspec: {}", &format!("name: c}}\nspec: {{image: '{image}', suspend: true}}"))
        .replace(
            "notificationEndpoint",
            &format!("image: '{image}', criteriaExpression: 'false', notificationEndpoint"),
        );
    test.apply(&edited).await;
    test.apply(&PARTITION.replace("geo: EU", &format!("geo: '{image}'"))).await;
}

/// Waits until each object was looked at since: what its controller counts has grown.
pub(crate) async fn until_looked_at(operator: &Operator, kinds: &[&str], outcome: &str, before: &str) {
    let count = |text: &str, kind: &str| {
        let family = format!("adx_federation_reconciles_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&family)?.parse().ok()).unwrap_or(0_u64)
    };
    let started = Instant::now();
    loop {
        let now = operator.metrics().await;
        if kinds.iter().all(|kind| count(&now, kind) > count(before, kind)) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "not every object of {kinds:?} was {outcome}:\n{now}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_edited_while_it_is_deleted_gets_nothing_new_and_ends_deleted() {
    let test = TestNamespace::new("deleting").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "deleting").await;
    operator.until_leading().await;
    test.apply(&[CLUSTER, COMPONENTS, PARTITION].join("---")).await;
    until_ready(&test).await;
    until_agent(&test).await;
    // Ours is pending, as roles cannot be removed for now; and somebody else's holds the objects beyond that.
    proxy.answer("DELETE", "/clusterrole", 500, usize::MAX);
    for (kind, name, ..) in OBJECTS {
        let finalizers = if kind == "ADXCluster" { json!([THEIRS]) } else { json!([THEIRS, OURS]) };
        change(&test, kind, name, json!({"metadata": {"finalizers": finalizers}})).await;
        test.delete(kind, name).await;
    }
    let components: Vec<&str> = components().map(|(kind, ..)| *kind).collect();
    until_looked_at(&operator, &components, "failed", "").await;
    until_looked_at(&operator, &["ADXCluster"], "cleaned_up", "").await;
    proxy.take();
    let before = operator.metrics().await;
    for (_, _, kind, name) in OBJECTS {
        test.delete(kind, name).await;
    }
    edit(&test, "x/edited:1").await;
    until_looked_at(&operator, &components, "failed", &before).await;
    until_looked_at(&operator, &["ADXCluster"], "cleaned_up", &before).await;
    assert_nothing_new(&test, &proxy).await;
    for (kind, name, ..) in OBJECTS.iter().filter(|(kind, ..)| *kind != "ADXCluster") {
        let object = test.get(kind, name).await;
        assert_eq!(object["metadata"]["finalizers"], json!([THEIRS, OURS]), "{object:#}");
    }
    // A new operator finds them so, and then nothing stands in its way.
    drop(operator);
    let operator = through(&test, &proxy, "deleting-later").await;
    until_looked_at(&operator, &components, "failed", "").await;
    proxy.answer("NONE", "", 0, 0);
    for (kind, name, ..) in OBJECTS {
        let theirs = json!([THEIRS]);
        test.until(kind, name, |object| object["metadata"]["finalizers"] == theirs).await;
    }
    until_no_roles(&test).await;
    // Only somebody else's is left: nothing is to be done whatever is edited, and no finalizer comes back.
    let kinds = OBJECTS.map(|(kind, ..)| kind);
    until_looked_at(&operator, &kinds, "cleaned_up", "").await;
    let before = operator.metrics().await;
    edit(&test, "x/edited:2").await;
    until_looked_at(&operator, &kinds, "cleaned_up", &before).await;
    assert_nothing_new(&test, &proxy).await;
    until_no_roles(&test).await;
    for (kind, name, ..) in OBJECTS {
        change(&test, kind, name, json!({"metadata": {"finalizers": null}})).await;
        test.until(kind, name, Value::is_null).await;
    }
    for (kind, name) in [("apps/v1 StatefulSet", "i"), ("apps/v1 DaemonSet", "c"), ("apps/v1 Deployment", "a")] {
        test.until(kind, name, Value::is_null).await;
    }
    test.until("apps/v1 Deployment", "part-agent", Value::is_null).await;
    drop(operator);
}

/// Nothing was made or changed for the objects: neither what somebody deleted, nor what the edits say. The cluster that stays has its own writes.
async fn assert_nothing_new(test: &TestNamespace, proxy: &ApiProxy) {
    for (_, _, kind, name) in OBJECTS {
        let child = test.api(kind).get_opt(name).await.expect("the API server answers");
        assert!(child.is_none(), "{kind} {name} was made again");
    }
    for (kind, name) in [
        ("apps/v1 StatefulSet", "i"),
        ("apps/v1 DaemonSet", "c"),
        ("apps/v1 Deployment", "a"),
        ("apps/v1 Deployment", "part-agent"),
    ] {
        let object = test.get(kind, name).await;
        assert!(!object.to_string().contains("edited"), "{object:#}");
    }
    let made = |method: &str| ["PATCH", "POST", "PUT"].contains(&method);
    let writes: Vec<_> = proxy
        .take()
        .into_iter()
        .filter(|seen| made(&seen.method) && !seen.is_lease() && !seen.path.contains("/events"))
        .collect();
    assert!(
        writes
            .iter()
            .all(|seen| seen.status == 0 || seen.path.contains("fieldManager=adx-federation-operator-finalizer")),
        "{writes:#?}"
    );
}

/// Waits until nothing is left in the whole cluster of the components.
pub(crate) async fn until_no_roles(test: &TestNamespace) {
    for (kind, name, ..) in components() {
        let role = format!("adx-mon:{}:{}:{name}", test.name, kind.to_lowercase());
        test.until("rbac.authorization.k8s.io/v1 ClusterRole", &role, Value::is_null).await;
        test.until("rbac.authorization.k8s.io/v1 ClusterRoleBinding", &role, Value::is_null).await;
    }
}

/// By an operator that lives elsewhere, as its own namespace's end would be its own: with the rights that `deploy/kustomize` grants.
#[tokio::test]
async fn a_namespace_that_goes_takes_its_cluster_scoped_roles_along_and_ends() {
    let (home, test) = (TestNamespace::new("home").await, TestNamespace::new("namespace").await);
    let proxy = ApiProxy::start(home.plane).await;
    let arguments = vec![format!("--namespace={}", test.name)];
    let options = OperatorOptions { server: Some(proxy.url.clone()), arguments, ..OperatorOptions::default() };
    let operator = home.operator_with(&options).await;
    operator.until_leading().await;
    // No pod is let in: for one that ends, Kubernetes would give the namespace half of its grace period more.
    let restricted = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    change(&test, "v1 Namespace", &test.name, restricted).await;
    let collector =
        COMPONENTS.replace("name: c}\nspec: {}", "name: c}\nspec: {ingestorEndpoint: 'https://i.example.com'}");
    test.apply(&[CLUSTER, &collector].join("---")).await;
    for (kind, name, ..) in components() {
        test.until_condition(kind, name, "Ready", "False", "FailedCreate").await;
    }
    test.delete("v1 Namespace", &test.name).await;
    test.until("v1 Namespace", &test.name, Value::is_null).await;
    until_no_roles(&test).await;
    // Then nothing is asked for there any more.
    let started = Instant::now();
    loop {
        proxy.take();
        time::sleep(Duration::from_secs(2)).await;
        let is_asked = |seen: &Seen| seen.path.contains(&test.name) && !seen.path.contains("watch=true");
        let asked: Vec<Seen> = proxy.take().into_iter().filter(is_asked).collect();
        if asked.is_empty() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{asked:#?}\n{}", operator.process.output());
    }
}

/// What an API server may ask for of whoever sets the owner of a lease. Agents have no such right from us.
const MAY_DELETE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: may-delete}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [part-agent], verbs: [delete]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: may-delete}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: may-delete}
subjects: [{kind: ServiceAccount, name: part-agent}]
";

#[tokio::test]
async fn an_agents_lease_goes_with_the_agent_and_stays_while_its_pods_are_replaced() {
    const LEASE: &str = "coordination.k8s.io/v1 Lease";
    let test = TestNamespace::new("leases").await;
    let operator = test.operator().await;
    let is_bound = |lease: &Value| {
        let owner = &lease["metadata"]["ownerReferences"][0];
        (owner["kind"] == "ServiceAccount" && owner["name"] == "part-agent")
            && !lease["spec"]["holderIdentity"].is_null()
    };
    let no_pods = async || {
        let started = Instant::now();
        while !test.api("v1 Pod").list(&ListParams::default()).await.expect("the API server lists").items.is_empty() {
            assert!(started.elapsed() < PATIENCE, "pods stay");
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Ours asks, as OpenShift's API server does.
    if test.plane.rights_used_by(&test.name, "part-agent").is_some() {
        test.apply(PARTITION).await;
        until_logged(&test, "the lease will stay when its agent goes", 0).await;
        test.apply(without_federation(PARTITION)).await;
        test.until("v1 ServiceAccount", "part-agent", Value::is_null).await;
        no_pods().await;
        let stays = test.get(LEASE, "part-agent").await;
        assert_eq!(stays["metadata"]["ownerReferences"], Value::Null, "{stays:#}");
        // Nobody may have been left to release it.
        test.delete(LEASE, "part-agent").await;
    }
    test.apply(MAY_DELETE).await;
    // Twice: a federation that is left, and an object that goes.
    for is_left in [true, false] {
        test.apply(PARTITION).await;
        let lease = test.until(LEASE, "part-agent", is_bound).await;
        let uid = |lease: &Value| lease["metadata"]["uid"].clone();
        let replaced = PARTITION.replace("geo: EU", "geo: US");
        let before = test.get("v1 ConfigMap", "part-agent").await;
        test.apply(&replaced).await;
        test.until("v1 ConfigMap", "part-agent", |map| map["data"] != before["data"]).await;
        test.until(LEASE, "part-agent", |now| now["spec"]["holderIdentity"] != lease["spec"]["holderIdentity"]).await;
        let now = test.until(LEASE, "part-agent", is_bound).await;
        assert_eq!(uid(&now), uid(&lease), "it is the same lease");
        if is_left {
            test.apply(without_federation(PARTITION)).await;
        } else {
            test.delete("ADXCluster", "part").await;
        }
        // Whoever stops last may write it once more: it is bound again.
        no_pods().await;
        test.until(LEASE, "part-agent", Value::is_null).await;
    }
    drop(operator);
}
