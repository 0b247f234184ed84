//! There and back in place: every object is edited in all that its spec may say, and back, and of the edit nothing is left in what is made for it or told of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use tests::cluster::{OperatorOptions, PATIENCE, TestNamespace, condition_of, is_observed};
use tokio::time;

use crate::{
    drift::change,
    schema::definitions,
    support::{CLUSTER, COMPONENTS, children, difference},
    ways::{ONE_WAY, OTHER_ROLES, OTHER_WAY, Owner, ROLES, owners, until_settled},
};

/// What only tells how often an object was changed.
const HISTORY: [&str; 5] = [
    "/status",
    "/metadata/generation",
    "/metadata/resourceVersion",
    "/metadata/annotations/deployment.kubernetes.io~1revision",
    "/metadata/annotations/deprecated.daemonset.template.generation",
];

/// Every child as it is, under its kind and name, with what the operator owns of it. It is itself by its uid.
async fn as_they_are(test: &TestNamespace) -> Value {
    let mut found = Map::new();
    for (kind, mut child) in children(test).await {
        for place in HISTORY {
            if let Some(value) = child.pointer_mut(place) {
                *value = Value::Null;
            }
        }
        let managers = child["metadata"]["managedFields"].as_array().into_iter().flatten();
        // Also whoever makes room where the API server refuses what we apply.
        let is_ours = |entry: &&Value| {
            let name = entry["manager"].as_str().unwrap_or_default();
            name.starts_with("adx-federation-operator") && entry["subresource"].is_null()
        };
        let owned: Value = managers.filter(is_ours).map(|own| json!([own["manager"], own["fieldsV1"]])).collect();
        child["metadata"]["managedFields"] = owned;
        let name = child["metadata"]["name"].as_str().expect("a child has a name");
        found.insert(format!("{kind} {}", name.replace(&test.name, "NAMESPACE")), child);
    }
    found.into()
}

/// What each object tells, but since when.
async fn told(test: &TestNamespace, owners: &[Owner]) -> Value {
    let mut found = Map::new();
    for (kind, name) in owners {
        let object = test.get(kind, name).await;
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten().map(|condition| {
            let phase = condition["type"].as_str().expect("a condition has a type").to_owned();
            (phase, json!([condition["status"], condition["reason"], condition["message"]]))
        });
        let mut status = object["status"].clone();
        status["conditions"] = conditions.collect::<Map<_, _>>().into();
        status["observedGeneration"] = is_observed(&object).into();
        found.insert(format!("{kind} {name}"), status);
    }
    found.into()
}

/// Waits until nothing differs from what is expected.
async fn until_same(expected: &Value, now: impl AsyncFn() -> Value) {
    let started = Instant::now();
    while let Some(path) = difference(&now().await, expected) {
        assert!(started.elapsed() < PATIENCE, "the path, what is there, and what was there before: {path}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

const IDENTITY: &str = "/metadata/annotations/azure.workload.identity~1client-id";
const IDENTITY_USE: &str = "/spec/template/metadata/labels/azure.workload.identity~1use";
const HASH: &str = "/spec/template/metadata/annotations/adx-mon.azure.com~1config";
const REPLICAS: &str = "/spec/replicas";
const COMMAND: &str = "/spec/template/spec/containers/0/command";
const ARGUMENTS: &str = "/spec/template/spec/containers/0/args";
const VARIABLES: &str = "/spec/template/spec/containers/0/env";
const PULL: &str = "/spec/template/spec/containers/0/imagePullPolicy";
/// What a pod policy and an image say.
const PODS: [&str; 4] = [
    "/spec/template/spec/imagePullSecrets",
    "/spec/template/spec/nodeSelector",
    "/spec/template/spec/tolerations",
    "/spec/template/spec/containers/0/image",
];

/// The children that are not the same both ways, and some places of each. All others say the same for every spec.
fn different() -> BTreeMap<&'static str, Vec<&'static str>> {
    let pods = |more: &[&'static str]| [&PODS[..], more].concat();
    let document = || vec!["/data/cluster.yaml"];
    let set = [
        REPLICAS,
        IDENTITY_USE,
        "/spec/template/metadata/annotations/adx-mon~1log-destination",
        ARGUMENTS,
        VARIABLES,
        PULL,
        "/spec/template/spec/volumes",
    ];
    BTreeMap::from([
        ("v1 ServiceAccount i-ingestor", vec![IDENTITY]),
        ("v1 Service i", vec!["/spec/type", "/spec/ports/0/nodePort"]),
        ("autoscaling/v2 HorizontalPodAutoscaler i", vec![""]),
        ("apps/v1 StatefulSet i", pods(&set)),
        ("v1 ConfigMap c-config", vec!["/data/config.toml"]),
        ("apps/v1 DaemonSet c", pods(&[HASH, PULL])),
        ("v1 ServiceAccount a-alerter", vec![IDENTITY]),
        ("apps/v1 Deployment a", pods(&[IDENTITY_USE, ARGUMENTS, VARIABLES, PULL])),
        ("v1 ServiceAccount part-agent", vec![IDENTITY]),
        ("v1 ConfigMap part-agent", document()),
        ("apps/v1 Deployment part-agent", pods(&[IDENTITY_USE, HASH])),
        ("v1 ServiceAccount hub-agent", vec![IDENTITY]),
        ("v1 ConfigMap hub-agent", document()),
        ("apps/v1 Deployment hub-agent", pods(&[IDENTITY_USE, HASH])),
        ("v1 ConfigMap turned-agent", document()),
        ("apps/v1 Deployment turned-agent", vec![REPLICAS, COMMAND, HASH]),
        ("v1 ServiceAccount swapped-agent", vec![IDENTITY]),
        ("v1 ConfigMap swapped-agent", document()),
        ("apps/v1 Deployment swapped-agent", pods(&[REPLICAS, COMMAND, IDENTITY_USE, HASH])),
    ])
}

/// The children that differ.
fn differing(one: &Value, other: &Value) -> BTreeSet<String> {
    let names = [one, other].into_iter().filter_map(Value::as_object).flat_map(Map::keys);
    names.filter(|name| difference(&one[*name], &other[*name]).is_some()).cloned().collect()
}

/// Waits until every child that must be another is another, in every place that must.
async fn until_different(test: &TestNamespace, one: &Value) {
    let (different, started) = (different(), Instant::now());
    loop {
        let other = as_they_are(test).await;
        let same: Vec<String> = different
            .iter()
            .flat_map(|(name, places)| places.iter().map(move |place| (*name, *place)))
            .filter(|(name, place)| one[*name].pointer(place) == other[*name].pointer(place))
            .map(|(name, place)| format!("{name} {place}"))
            .collect();
        if same.is_empty() {
            let expected: BTreeSet<String> = different.keys().map(|name| (*name).to_owned()).collect();
            assert_eq!(differing(one, &other), expected);
            return;
        }
        assert!(started.elapsed() < PATIENCE, "still as they were: {same:#?}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// The objects themselves.
async fn objects(test: &TestNamespace, owners: &[Owner]) -> Vec<Value> {
    let mut objects = Vec::new();
    for (kind, name) in owners {
        objects.push(test.get(kind, name).await);
    }
    objects
}

/// The places of a schema that have no fields of their own, as JSON pointers.
fn fields_of(schema: &Value, pointer: &str) -> Vec<String> {
    match schema["properties"].as_object() {
        Some(fields) if !fields.is_empty() => {
            fields.iter().flat_map(|(name, schema)| fields_of(schema, &format!("{pointer}/{name}"))).collect()
        }
        _ => vec![pointer.to_owned()],
    }
}

/// The fields of our kinds' specs that are the same both ways in every object.
fn untouched(one: &[Value], other: &[Value]) -> Vec<String> {
    let mut untouched = Vec::new();
    for definition in definitions() {
        let kind = &definition["spec"]["names"]["kind"];
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        for field in fields_of(schema, "/spec") {
            let mut pairs = one.iter().zip(other).filter(|(one, _)| one["kind"] == *kind);
            if pairs.all(|(one, other)| one.pointer(&field) == other.pointer(&field)) {
                untouched.push(format!("{kind} {field}"));
            }
        }
    }
    untouched
}

#[tokio::test]
async fn there_and_back_in_place_leaves_nothing_behind() {
    let (one_way, other_way) = ([ONE_WAY, ROLES].join("---"), [OTHER_WAY, OTHER_ROLES].join("---"));
    let owners = owners(&one_way);
    let test = TestNamespace::new("in-place").await;
    // Agents that only seem to run: what is told is the operator's word alone.
    let arguments = vec!["--agent-image=x/agent:1".to_owned()];
    let operator = test.operator_with(&OperatorOptions { arguments, ..OperatorOptions::default() }).await;
    operator.until_leading().await;
    test.apply(&one_way).await;
    until_settled(&test, &owners).await;
    let (one, told_one, before) = (as_they_are(&test).await, told(&test, &owners).await, objects(&test, &owners).await);
    let count = one.as_object().map_or(0, Map::len);
    assert_eq!(count, 44, "{:#?}", one.as_object().map(|one| one.keys().collect::<Vec<_>>()));

    // While an object is suspended, nothing of the edit is done. All are before the first is edited: what is not follows the clusters.
    for way in [&one_way, &other_way] {
        let suspended = way.replace("\nspec:\n", "\nspec:\n  suspend: true\n");
        test.apply(&suspended.replace("\nspec: {}\n", "\nspec: {suspend: true}\n")).await;
        for (kind, name) in &owners {
            let is_suspended = |object: &Value| {
                is_observed(object) && condition_of(object, "Ready").is_some_and(|ready| ready["reason"] == "Suspended")
            };
            test.until(kind, name, is_suspended).await;
        }
    }
    assert_eq!(difference(&as_they_are(&test).await, &one), None, "the path, what is there, and what was there before");
    let untouched = untouched(&before, &objects(&test, &owners).await);
    assert!(untouched.is_empty(), "no object says otherwise the other way: {untouched:#?}");

    test.apply(&other_way).await;
    until_settled(&test, &owners).await;
    // By a cluster that moves and gets a database.
    for (kind, name) in [("apps/v1 StatefulSet", "i"), ("apps/v1 Deployment", "a")] {
        test.until(kind, name, |object| object.to_string().contains("Spans=https://moved.kusto.windows.net")).await;
    }
    until_different(&test, &one).await;

    test.apply(&one_way).await;
    until_settled(&test, &owners).await;
    until_same(&one, async || as_they_are(&test).await).await;
    until_same(&told_one, async || told(&test, &owners).await).await;
    let events = test.events().await;
    assert!(!events.iter().any(|(reason, _)| reason == "DriftReverted"), "an edit is no drift: {events:#?}");
    drop(operator);
}

/// What there is, and what the cloud tells of the Service.
async fn as_it_is_exposed(test: &TestNamespace) -> Value {
    let service = test.get("v1 Service", "i").await;
    json!({"children": as_they_are(test).await, "status": service["status"]})
}

/// Beside what the operator applied, an exposed Service has what the API server chose, what a cloud's controller told of it, and what a person set of it.
#[tokio::test]
async fn a_service_that_is_not_exposed_any_more_is_as_if_it_had_never_been() {
    const SERVICE: &str = "v1 Service";
    let ranges = json!(["10.0.0.0/8"]);
    let test = TestNamespace::new("exposed").await;
    let _operator = test.operator().await;
    let ingestor = |exposed: bool| {
        let ingestor = COMPONENTS.split("---").next().expect("the first document");
        ingestor.replace("replicas: 2", &format!("replicas: 0, exposeExternally: {exposed}"))
    };
    test.apply(&[CLUSTER, &ingestor(false)].join("---")).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    let before = as_it_is_exposed(&test).await;
    test.apply(&ingestor(true)).await;
    test.until(SERVICE, "i", |service| service["spec"]["type"] == "LoadBalancer").await;
    let theirs = json!({
        "metadata": {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8"}},
        "spec": {"externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ranges},
    });
    change(&test, SERVICE, "i", theirs).await;
    let told = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
    let told = test.api(SERVICE).patch_status("i", &PatchParams::default(), &Patch::Merge(&told)).await;
    told.expect("the API server takes the address");
    let exposed = test.get(SERVICE, "i").await;
    for place in [
        "/spec/externalTrafficPolicy",
        "/spec/healthCheckNodePort",
        "/spec/allocateLoadBalancerNodePorts",
        "/spec/ports/0/nodePort",
        "/spec/loadBalancerSourceRanges",
        "/status/loadBalancer/ingress",
    ] {
        assert!(exposed.pointer(place).is_some(), "{place} in {exposed:#}");
    }
    test.apply(&ingestor(false)).await;
    until_same(&before, async || as_it_is_exposed(&test).await).await;
    let events = test.events().await;
    let is_wrong = |(reason, _): &(String, String)| ["DriftReverted", "ApplyFailed"].contains(&reason.as_str());
    assert!(!events.iter().any(is_wrong), "an edit is no drift: {events:#?}");
    // Nor does somebody's own exposure last.
    change(&test, SERVICE, "i", json!({"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ranges}})).await;
    until_same(&before, async || as_it_is_exposed(&test).await).await;
}
