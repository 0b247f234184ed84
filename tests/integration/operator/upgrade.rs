//! An operator that comes after an earlier version of itself, or a newer one: it makes of what that left the same as of an empty namespace.
//!
//! What the earlier one says otherwise has the word `earlier` in it, or is a number that the comparison sees.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use tests::cluster::{ApiProxy, Operator, OperatorOptions, PATIENCE, Seen, TestNamespace, condition_of};
use tokio::time;

use crate::{
    deleting::until_looked_at,
    support::{
        CLUSTER, COMPONENTS, HUB, PARTITION, assert_same, children, made, until_agent, until_event, until_ready,
    },
};

/// Whoever applies in the name of every version.
const MANAGER: &str = "adx-federation-operator";

/// Objects of every kind, with everything that is made for them.
async fn installed(name: &str) -> (TestNamespace, Operator) {
    let test = TestNamespace::new(name).await;
    let operator = test.operator().await;
    test.apply(&[CLUSTER, COMPONENTS, PARTITION, HUB].join("---")).await;
    until_ready(&test).await;
    until_agent(&test).await;
    test.until("apps/v1 Deployment", "hub-agent", |object| !object.is_null()).await;
    (test, operator)
}

/// What the operator applied of an object.
fn applied(object: &Value) -> Value {
    applied_by(MANAGER, object)
}

/// What somebody applied of an object, as the field manager owns it.
pub(crate) fn applied_by(manager: &str, object: &Value) -> Value {
    let managers = object["metadata"]["managedFields"].as_array().expect("an object has managers");
    let own = managers.iter().find(|entry| entry["manager"] == manager && entry["subresource"].is_null());
    let mut applied = owned(&own.expect("it was applied")["fieldsV1"], object);
    for field in ["apiVersion", "kind"] {
        applied[field] = object[field].clone();
    }
    applied["metadata"]["name"] = object["metadata"]["name"].clone();
    applied
}

/// The part of a value that a set of fields names.
fn owned(fields: &Value, value: &Value) -> Value {
    let named = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != ".");
    let named: Vec<(&String, &Value)> = named.collect();
    if named.is_empty() {
        return value.clone();
    }
    if let Value::Array(items) = value {
        let own = |item: &Value| {
            let (_, below) = named.iter().find(|(key, _)| is_entry(key, item))?;
            Some(owned(below, item))
        };
        return items.iter().filter_map(own).collect();
    }
    let parts = named.into_iter().filter_map(|(name, below)| {
        let name = name.strip_prefix("f:")?;
        let part = owned(below, &value[name]);
        (!part.is_null()).then(|| (name.to_owned(), part))
    });
    parts.collect()
}

/// Whether an item of a list is the one with this key: `k:{"name":"agent"}`.
fn is_entry(key: &str, item: &Value) -> bool {
    let key = key.strip_prefix("k:").and_then(|key| serde_json::from_str::<Map<String, Value>>(key).ok());
    key.is_some_and(|key| key.iter().all(|(field, value)| item[field] == *value))
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("it is a list").push(item);
}

/// A child as the earlier version applied it: with other content, and with some that nobody wants any more.
fn of_earlier(mut child: Value) -> Value {
    for marks in ["labels", "annotations"] {
        child["metadata"][marks]["adx-mon.azure.com/earlier"] = "yes".into();
    }
    child["metadata"]["annotations"]["adx-mon.azure.com/applied"] = "earlier".into();
    let kind = child["kind"].as_str().unwrap_or_default().to_owned();
    match kind.as_str() {
        "ServiceAccount" => {
            child["metadata"]["annotations"]["azure.workload.identity/client-id"] = "earlier".into();
            child["automountServiceAccountToken"] = true.into();
        }
        "ConfigMap" => {
            let data = child["data"].as_object_mut().expect("it has files");
            data.values_mut().for_each(|text| *text = "earlier".into());
            data.insert("earlier".to_owned(), "yes".into());
        }
        "Service" => push(&mut child["spec"]["ports"], json!({"name": "earlier", "port": 1234, "protocol": "TCP"})),
        // More than this version's operator may grant: it must take the right away before it binds the role.
        "Role" | "ClusterRole" => push(
            &mut child["rules"],
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["earlier"], "verbs": ["get"]}),
        ),
        "RoleBinding" | "ClusterRoleBinding" => {
            let mut subject = child["subjects"][0].clone();
            subject["name"] = "earlier".into();
            push(&mut child["subjects"], subject);
        }
        // Of the two there can be one.
        "PodDisruptionBudget" => {
            let spec = child["spec"].as_object_mut().expect("it has a spec");
            spec.remove("maxUnavailable");
            spec.insert("minAvailable".to_owned(), 1.into());
        }
        _ => {
            if kind == "Deployment" {
                child["spec"]["replicas"] = 3.into();
            }
            workload_of_earlier(&mut child["spec"]);
        }
    }
    child
}

fn workload_of_earlier(spec: &mut Value) {
    spec["revisionHistoryLimit"] = 3.into();
    let template = &mut spec["template"];
    template["metadata"]["labels"]["adx-mon.azure.com/earlier"] = "yes".into();
    // The hash of a configuration, or a mark that its kind has no more.
    template["metadata"]["annotations"]["adx-mon.azure.com/config"] = "earlier".into();
    let pod = &mut template["spec"];
    pod["terminationGracePeriodSeconds"] = 77.into();
    push(&mut pod["volumes"], json!({"name": "earlier", "emptyDir": {}}));
    let container = &mut pod["containers"][0];
    container["image"] = "x/earlier:1".into();
    container["args"] = json!(["--earlier"]);
    push(&mut container["env"], json!({"name": "earlier", "value": "1"}));
    push(&mut container["ports"], json!({"name": "earlier", "containerPort": 1234, "protocol": "TCP"}));
    push(&mut container["volumeMounts"], json!({"name": "earlier", "mountPath": "/earlier"}));
}

async fn apply(test: &TestNamespace, kind: &str, child: &Value) {
    let name = child["metadata"]["name"].as_str().expect("a child has a name");
    let params = PatchParams::apply(MANAGER).force();
    test.api(kind).patch(name, &params, &Patch::Apply(child)).await.expect("the API server takes the child");
}

/// Makes of what there is what an earlier version would have left.
async fn go_back(test: &TestNamespace) {
    let uid = async |name: &str| {
        let object = test.get("ADXCluster", name).await;
        object["metadata"]["uid"].as_str().expect("an object has an identity").to_owned()
    };
    let (part, eu) = (uid("part").await, uid("eu").await);
    for (kind, child) in children(test).await {
        let child = of_earlier(applied(&child));
        apply(test, kind, &child).await;
        if kind.starts_with("v1 ") || kind.contains("/v1 ClusterRole") {
            // It had these under other names as well.
            let mut other = child.clone();
            let name = child["metadata"]["name"].as_str().expect("a child has a name");
            other["metadata"]["name"] = format!("{name}-earlier").into();
            apply(test, kind, &other).await;
        }
        if child["metadata"]["name"] == "part-agent" {
            // It gave a cluster without a part in a federation an agent as well.
            let text = child.to_string().replace("part-agent", "eu-agent");
            let text = text.replace("\"part\"", "\"eu\"").replace(&part, &eu);
            apply(test, kind, &serde_json::from_str(&text).expect("it was JSON")).await;
        }
        if kind == "apps/v1 StatefulSet" {
            // It had an autoscaler beside a fixed number.
            let scaler = "autoscaling/v2 HorizontalPodAutoscaler";
            let scaled = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "i"});
            let spec = json!({"scaleTargetRef": scaled, "minReplicas": 2, "maxReplicas": 4});
            let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": child["metadata"], "spec": spec});
            apply(test, scaler, &object).await;
        }
    }
    // And it knew nothing of budgets for hubs.
    test.delete("policy/v1 PodDisruptionBudget", "hub-agent").await;
}

/// Nobody let go of the first one's lease.
async fn later(test: &TestNamespace) -> Operator {
    let arguments = vec!["--lease-name=later".to_owned()];
    test.operator_with(&OperatorOptions { arguments, ..OperatorOptions::default() }).await
}

/// Waits until no child has the word in it; none of that is told as somebody's doing.
async fn until_nothing_is_left(test: &TestNamespace, operator: &Operator, word: &str) {
    let started = Instant::now();
    loop {
        let children = children(test).await;
        let left = children.iter().filter(|(_, child)| child.to_string().contains(word));
        let left: Vec<String> = left.map(|(kind, child)| format!("{kind} {}", child["metadata"]["name"])).collect();
        if left.is_empty() {
            break;
        }
        let log = operator.process.output();
        assert!(started.elapsed() < PATIENCE, "as they were: {left:#?}\n{log}");
        time::sleep(Duration::from_millis(100)).await;
    }
    until_ready(test).await;
    let events = test.events().await;
    let is_drift = |(reason, _): &(String, String)| reason == "DriftReverted";
    assert!(!events.iter().any(is_drift), "another version is no drift: {events:#?}");
}

#[tokio::test]
async fn an_upgrade_ends_where_a_fresh_install_does() {
    let fresh = async {
        let (test, _operator) = installed("fresh").await;
        made(&test).await
    };
    let upgraded = async {
        let (test, mut operator) = installed("upgraded").await;
        operator.process.kill().await;
        go_back(&test).await;
        let left = children(&test).await;
        assert!(left.iter().all(|(_, child)| child.to_string().contains("earlier")), "{left:#?}");
        let operator = later(&test).await;
        // Nor is a child that the earlier version did not make one that somebody deleted.
        until_nothing_is_left(&test, &operator, "earlier").await;
        made(&test).await
    };
    let (fresh, upgraded) = tokio::join!(fresh, upgraded);
    assert_same(&upgraded, &fresh);
}

#[tokio::test]
async fn what_cannot_be_changed_in_place_is_made_anew_but_for_what_keeps_something() {
    const SET: &str = "apps/v1 StatefulSet";
    let (test, mut operator) = installed("fixed").await;
    operator.process.kill().await;
    let before = made(&test).await;
    let selects = |name: &str| json!({"matchLabels": {"app.kubernetes.io/instance": name}});
    for (kind, name, field, value) in [
        ("apps/v1 Deployment", "a", "/spec/selector", selects("a")),
        ("apps/v1 DaemonSet", "c", "/spec/selector", selects("c")),
        ("rbac.authorization.k8s.io/v1 RoleBinding", "i-ingestor", "/roleRef/name", json!("earlier")),
        ("v1 ConfigMap", "c-config", "/data/config.toml", json!("earlier")),
        (SET, "i", "/spec/podManagementPolicy", json!("OrderedReady")),
    ] {
        let mut child = applied(&test.get(kind, name).await);
        *child.pointer_mut(field).expect("it was applied") = value;
        if kind == "v1 ConfigMap" {
            child["immutable"] = true.into();
        }
        test.delete(kind, name).await;
        test.until(kind, name, Value::is_null).await;
        apply(&test, kind, &child).await;
    }
    let set = test.get(SET, "i").await;
    let _operator = later(&test).await;
    let told = test.until_condition("Ingestor", "i", "Ready", "False", "Immutable").await;
    let message = condition_of(&told, "Ready").map(|ready| ready["message"].to_string()).unwrap_or_default();
    assert!(message.contains("spec.podManagementPolicy of the StatefulSet 'i' has to be another"), "{message}");
    for child in ["Deployment 'a'", "DaemonSet 'c'", "RoleBinding 'i-ingestor'", "ConfigMap 'c-config'"] {
        until_event(&test, "Replaced", child).await;
    }
    for (kind, name) in [("Collector", "c"), ("Alerter", "a")] {
        test.until_condition(kind, name, "Ready", "True", "Ready").await;
    }
    assert_eq!(test.get(SET, "i").await["metadata"]["uid"], set["metadata"]["uid"], "it is a person's to delete");
    test.delete(SET, "i").await;
    until_ready(&test).await;
    assert_same(&made(&test).await, &before);
}

/// What a newer version knows and this one does not: a field, a label, and one more child beside each. Another operator then finds nothing to write.
#[tokio::test]
async fn the_way_back_from_a_newer_version_ends_where_a_fresh_install_does() {
    let (test, mut operator) = installed("downgraded").await;
    operator.process.kill().await;
    let before = made(&test).await;
    for (kind, child) in children(&test).await {
        let mut child = applied(&child);
        child["metadata"]["annotations"]["adx-mon.azure.com/applied"] = "newer".into();
        child["metadata"]["labels"]["adx-mon.azure.com/newer"] = "yes".into();
        let is_workload = kind.starts_with("apps/v1 ");
        if is_workload {
            child["spec"]["minReadySeconds"] = 1.into();
            child["spec"]["template"]["metadata"]["annotations"]["adx-mon.azure.com/newer"] = "yes".into();
        }
        apply(&test, kind, &child).await;
        if !is_workload {
            let name = child["metadata"]["name"].as_str().expect("a child has a name");
            child["metadata"]["name"] = format!("{name}-newer").into();
            apply(&test, kind, &child).await;
        }
    }
    let operator = later(&test).await;
    until_nothing_is_left(&test, &operator, "newer").await;
    assert_same(&made(&test).await, &before);
    let kinds = ["ADXCluster", "Ingestor", "Collector", "Alerter"];
    another_writes_nothing(&test, operator, OperatorOptions::default(), &kinds).await;
}

/// Another operator after this one finds nothing to write for objects of these kinds.
pub(crate) async fn another_writes_nothing(
    test: &TestNamespace,
    mut operator: Operator,
    mut options: OperatorOptions,
    kinds: &[&str],
) {
    operator.process.kill().await;
    let proxy = ApiProxy::start(test.plane).await;
    options.server = Some(proxy.url.clone());
    options.arguments.push("--lease-name=last".to_owned());
    let operator = test.operator_with(&options).await;
    until_looked_at(&operator, kinds, "unchanged", "").await;
    // What agents tell, the operator tells on.
    let is_rest = |seen: &Seen| ["/leases", "/events", "/adxclusters/"].iter().any(|path| seen.path.contains(path));
    let writes: Vec<Seen> = proxy.take().into_iter().filter(|seen| seen.is_write() && !is_rest(seen)).collect();
    assert!(writes.is_empty(), "{writes:#?}");
}
