//! `--namespace`: an operator of one namespace neither touches nor asks for anything of another, and needs no rights there; its own, for its lease and pod, apart.

use serde_json::{Value, json};
use tests::cluster::{ApiProxy, OperatorOptions, SEEMING_AGENT, Seen, TestNamespace};

use crate::{
    drift::change,
    resilience::through,
    support::{CLUSTER, COMPONENTS, PARTITION, until_agent, until_ready},
};

const CLUSTER_ROLE: &str = "rbac.authorization.k8s.io/v1 ClusterRole";
const CLUSTER_ROLE_BINDING: &str = "rbac.authorization.k8s.io/v1 ClusterRoleBinding";

/// Everything that there is to make, under the names that all stories use.
async fn apply_all(test: &TestNamespace) {
    test.apply(&[CLUSTER, COMPONENTS, PARTITION].join("---")).await;
}

async fn until_all(test: &TestNamespace) {
    until_ready(test).await;
    until_agent(test).await;
}

fn role_of(test: &TestNamespace, component: &str, name: &str) -> String {
    format!("adx-mon:{}:{component}:{name}", test.name)
}

/// Another subject would be a leak.
fn nobody() -> Value {
    json!({"subjects": []})
}

async fn until_bound(test: &TestNamespace, name: &str) {
    test.until(CLUSTER_ROLE_BINDING, name, |binding| {
        binding["subjects"].as_array().is_some_and(|subjects| subjects.len() == 1)
    })
    .await;
}

#[tokio::test]
async fn an_operator_of_one_namespace_touches_nothing_of_another() {
    let (own, other) = (TestNamespace::new("scope").await, TestNamespace::new("beside").await);
    // Another's operator has made all of it, and is gone. What happens then is a reason to write for whoever feels concerned.
    let earlier = other.operator().await;
    // An agent that runs would write its own status, whoever is concerned.
    let without_agent = PARTITION.replace("  federation:\n", "  federation:\n    image: x/missing:1\n");
    other.apply(&[CLUSTER, COMPONENTS, &without_agent].join("---")).await;
    until_all(&other).await;
    drop(earlier);
    other.apply(&COMPONENTS.replace("replicas: 2", "replicas: 5")).await;
    other.apply(COMPONENTS.replace("{name: i}", "{name: later}").split("---").next().unwrap_or_default()).await;
    other.apply(&without_agent.replace("name: part", "name: later")).await;
    other.delete("v1 Service", "i").await;
    other.delete("Alerter", "a").await;
    change(&other, CLUSTER_ROLE_BINDING, &role_of(&other, "collector", "c"), nobody()).await;
    other.delete(CLUSTER_ROLE, &role_of(&other, "ingestor", "i")).await;
    let proxy = ApiProxy::start(own.plane).await;
    let operator = through(&own, &proxy, "scope").await;
    operator.until_leading().await;
    // A Collector follows the one Ingestor of its own namespace.
    own.apply("apiVersion: adx-mon.azure.com/v1\nkind: Collector\nmetadata: {name: c}\nspec: {}").await;
    own.until_condition("Collector", "c", "Ready", "False", "WaitingForIngestor").await;
    apply_all(&own).await;
    until_all(&own).await;
    // What has no namespace is seen wherever its owner is: ours comes back, and another's is nobody's here.
    change(
        &other,
        CLUSTER_ROLE_BINDING,
        &role_of(&other, "ingestor", "i"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await;
    let ours = role_of(&own, "collector", "c");
    change(&own, CLUSTER_ROLE_BINDING, &ours, nobody()).await;
    until_bound(&own, &ours).await;
    own.delete("Alerter", "a").await;
    own.until("Alerter", "a", Value::is_null).await;
    let held = other.get("Alerter", "a").await;
    assert_eq!(held["metadata"]["finalizers"], json!(["adx-mon.azure.com/cluster-rbac"]), "{held:#}");
    // Of what has a namespace it has asked for its own only. What has none it may see, and writes to no other's.
    let beyond: Vec<_> = proxy
        .take()
        .into_iter()
        .filter(|seen| {
            let is_here = seen.path.contains(&format!("/namespaces/{}", own.name));
            let is_seen = seen.method == "GET" && seen.path.contains("/clusterrole");
            let is_ours = seen.path.contains("/clusterrole") && seen.path.contains(&own.name);
            !(is_here || is_seen || is_ours)
        })
        .collect();
    assert!(beyond.is_empty(), "{beyond:#?}");
    drop(operator);
}

/// The rights of `deploy/kustomize` for the operator that lives in `home`, bound in the namespace that it watches and in its own, as README.md says; in the whole cluster
/// only what has no namespace, and what components get there, since Kubernetes lets nobody grant what they do not have.
async fn bind_in_the_namespaces(test: &TestNamespace, home: &TestNamespace) {
    let mut rules = json!([{
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles", "clusterrolebindings"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    }]);
    for (component, name) in [("ingestor", "i"), ("collector", "c"), ("alerter", "a")] {
        let granted = test.get(CLUSTER_ROLE, &role_of(test, component, name)).await["rules"].clone();
        let granted = granted.as_array().cloned().unwrap_or_default();
        rules.as_array_mut().expect("rules are a list").extend(granted);
    }
    let name = format!("adx-federation-operator-{}", home.name);
    home.delete(CLUSTER_ROLE_BINDING, &name).await;
    let (group, version) = ("rbac.authorization.k8s.io", "rbac.authorization.k8s.io/v1");
    let subjects = json!([{"kind": "ServiceAccount", "name": "adx-federation-operator", "namespace": home.name}]);
    let reference = |name: &str| json!({"apiGroup": group, "kind": "ClusterRole", "name": name});
    let binding = json!({"apiVersion": version, "kind": "RoleBinding", "metadata": {"name": name}, "roleRef": reference("adx-federation-operator"), "subjects": subjects});
    for object in [
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": reference(&name), "subjects": subjects}),
    ] {
        home.apply(&object.to_string()).await;
    }
    for bound in [test, home] {
        bound.apply(&binding.to_string()).await;
    }
}

/// The operator lives in another namespace, where its lease and its pod are, which tells it the agents' image.
#[tokio::test]
async fn an_operator_of_one_namespace_needs_rights_in_that_and_in_its_own_alone() {
    let (test, home) = (TestNamespace::new("narrow").await, TestNamespace::new("narrow-home").await);
    let earlier = test.operator().await;
    apply_all(&test).await;
    until_all(&test).await;
    drop(earlier);
    // The account beside the objects has no part in this.
    test.delete(CLUSTER_ROLE_BINDING, &format!("adx-federation-operator-{}", test.name)).await;
    bind_in_the_namespaces(&test, &home).await;
    home.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: operator-0}}\nspec: {{containers: [{{name: operator, image: '{SEEMING_AGENT}'}}]}}\n"
    ))
    .await;
    let proxy = ApiProxy::start(test.plane).await;
    // As its Deployment has it: its own namespace is told by its pod.
    let options = OperatorOptions {
        server: Some(proxy.url.clone()),
        arguments: vec![format!("--namespace={}", test.name)],
        without: vec!["--lease-namespace", "--agent-image"],
        environment: vec![("POD_NAME", "operator-0".to_owned()), ("POD_NAMESPACE", home.name.clone())],
        ..OperatorOptions::default()
    };
    let operator = home.operator_with(&options).await;
    operator.until_leading().await;
    // What is bound is not known at once.
    let mut seen = proxy.take();
    let at_first = seen.len();
    // It changes, reverts, makes and removes as with rights in all namespaces.
    let changed = COMPONENTS.replace("replicas: 2", "exposeExternally: true, autoscaling: {maxReplicas: 3}");
    test.apply(&changed).await;
    test.until("autoscaling/v2 HorizontalPodAutoscaler", "i", |object| !object.is_null()).await;
    test.until("v1 Service", "i", |service| service["spec"]["type"] == "LoadBalancer").await;
    let has_its_image = |agent: &Value| agent["spec"]["template"]["spec"]["containers"][0]["image"] == SEEMING_AGENT;
    test.until("apps/v1 Deployment", "part-agent", has_its_image).await;
    let binding = role_of(&test, "ingestor", "i");
    change(&test, CLUSTER_ROLE_BINDING, &binding, nobody()).await;
    until_bound(&test, &binding).await;
    for (kind, name) in [("ADXCluster", "part"), ("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a")] {
        test.delete(kind, name).await;
        test.until(kind, name, Value::is_null).await;
    }
    test.until("apps/v1 Deployment", "part-agent", Value::is_null).await;
    test.apply(&[COMPONENTS, PARTITION].join("---")).await;
    until_all(&test).await;
    seen.extend(proxy.take());
    let refused: Vec<_> = seen[at_first..].iter().filter(|seen| seen.status == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}\n{}", operator.process.output());
    // In its own namespace it has its lease and its pod, and looks at nothing else.
    let at_home = |seen: &&Seen| seen.path.contains(&format!("/namespaces/{}/", home.name));
    let is_its_own = |seen: &Seen| seen.is_lease() || (seen.method == "GET" && seen.path.contains("/pods/operator-0"));
    let (own, other): (Vec<_>, Vec<_>) = seen.iter().filter(at_home).partition(|seen| is_its_own(seen));
    assert!(own.iter().any(|seen| seen.is_lease()) && own.iter().any(|seen| !seen.is_lease()), "{own:#?}");
    assert!(other.is_empty(), "{other:#?}");
    drop(operator);
}
