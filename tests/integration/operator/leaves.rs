//! Every place of every child that the operator applied: somebody gives it another value, and it comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use futures::future;
use kube::api::PostParams;
use serde_json::{Map, Value, json};
use tests::cluster::{PATIENCE, TestNamespace};
use tokio::time;

use crate::{
    drift::{SOON, change, reverted, within_a_second},
    support::children,
    ways::{OTHER_WAY, owners, until_settled},
};

/// The places of an object that the operator applied, as JSON pointers: what its field manager owns.
fn applied_leaves(object: &Value) -> Vec<String> {
    fn walk(fields: &Value, value: &Value, pointer: &str, found: &mut Vec<String>) {
        let fields = fields.as_object().into_iter().flatten().filter(|(key, _)| *key != ".");
        let mut is_leaf = true;
        for (key, below) in fields {
            is_leaf = false;
            if let Some(name) = key.strip_prefix("f:") {
                let step = name.replace('~', "~0").replace('/', "~1");
                walk(below, &value[name], &format!("{pointer}/{step}"), found);
            } else if let Some(entry) = key.strip_prefix("k:") {
                let entry: Value = serde_json::from_str(entry).expect("a key is JSON");
                let fits = |item: &Value| {
                    entry.as_object().is_some_and(|entry| entry.iter().all(|(key, value)| item[key] == *value))
                };
                let index = value.as_array().and_then(|items| items.iter().position(fits));
                if let Some(index) = index {
                    let before = found.len();
                    walk(below, &value[index], &format!("{pointer}/{index}"), found);
                    if value[index].as_object().map(Map::len) == entry.as_object().map(Map::len) {
                        // An entry that is nothing but its key is there or not.
                        found.truncate(before);
                        found.push(pointer.to_owned());
                        continue;
                    }
                    // An entry under another key is another's entry; ours is made again beside it.
                    let keys: Vec<String> = entry
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(key, _)| format!("{pointer}/{index}/{key}"))
                        .collect();
                    let mut place = 0;
                    found.retain(|leaf| {
                        place += 1;
                        place <= before || !keys.contains(leaf)
                    });
                }
            }
        }
        if is_leaf && !value.is_null() {
            found.push(pointer.to_owned());
        }
    }
    let managers = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let own =
        managers.iter().find(|entry| entry["manager"] == "adx-federation-operator" && entry["subresource"].is_null());
    let mut found = Vec::new();
    walk(&own.expect("the operator applied it")["fieldsV1"], object, "", &mut found);
    found
}

/// Another value at a place, which the API server takes where it lets anybody change that.
fn spoilt(pointer: &str, value: &Value) -> Value {
    match value {
        Value::Bool(value) => (!value).into(),
        Value::Number(number) => (number.as_i64().unwrap_or(0) + 1).into(),
        Value::String(text) => other_text(pointer, text).into(),
        Value::Array(items) => match items.as_slice() {
            // Without any metric the API server would choose the one that is there.
            [_] if pointer.ends_with("/metrics") => {
                let mut metrics = value.clone();
                let percent = metrics.pointer_mut("/0/resource/target/averageUtilization").expect("it scales by load");
                *percent = spoilt("", percent);
                metrics
            }
            [Value::String(_), ..] => items.iter().cloned().chain([json!("x")]).collect(),
            [_, rest @ ..] => rest.to_vec().into(),
            [] => json!(["x"]),
        },
        Value::Object(object) => {
            let mut object = object.clone();
            // An object that is applied as a whole and has fields of its own takes no other.
            match ["matchLabels", "fieldPath", "name"].into_iter().find(|field| object.contains_key(*field)) {
                Some(field) => object[field] = spoilt(&format!("{pointer}/{field}"), &object[field]),
                None => drop(object.insert("x".to_owned(), "y".into())),
            }
            object.into()
        }
        Value::Null => "x".into(),
    }
}

/// Another text of its kind: a word of those that there are, one more of a quantity, or any other.
fn other_text(pointer: &str, text: &str) -> String {
    let word = match (pointer.rsplit('/').next().unwrap_or_default(), text) {
        ("type", "ClusterIP" | "LoadBalancer") => "NodePort",
        ("type", "Directory") => "DirectoryOrCreate",
        ("type", "DirectoryOrCreate") => "Directory",
        ("type", "File") => "FileOrCreate",
        ("type", "RuntimeDefault") => "Unconfined",
        ("type", "RollingUpdate") => "OnDelete",
        ("podManagementPolicy", "Parallel") => "OrderedReady",
        ("imagePullPolicy", "IfNotPresent") => "Always",
        ("imagePullPolicy", "Always") => "IfNotPresent",
        ("protocol", "TCP") => "UDP",
        ("scheme", "HTTPS") => "HTTP",
        ("fieldPath", "metadata.name") => "metadata.uid",
        ("fieldPath", "metadata.annotations['adx-mon.azure.com/config']") => "metadata.annotations['other']",
        ("fieldPath", "spec.nodeName") => "spec.serviceAccountName",
        ("fieldPath", "status.hostIP") => "status.podIP",
        _ => "",
    };
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    match number.parse::<u64>() {
        _ if !word.is_empty() => word.to_owned(),
        Ok(number) if ["m", "Mi", "Gi", "%"].contains(&unit) => format!("{}{unit}", number + 1),
        _ => format!("{text}x"),
    }
}

/// What nobody can change, by the API server's rules: a place by itself, beside what else the object has. `NAMESPACE` is the story's.
const FIXED: [&str; 28] = [
    "apps/v1 DaemonSet c /spec/selector",
    "apps/v1 DaemonSet c /spec/template/metadata/labels/app.kubernetes.io~1instance",
    "apps/v1 DaemonSet c /spec/template/metadata/labels/app.kubernetes.io~1name",
    // Only where none may be unavailable.
    "apps/v1 DaemonSet c /spec/updateStrategy/rollingUpdate/maxSurge",
    "apps/v1 Deployment a /spec/selector",
    "apps/v1 Deployment a /spec/template/metadata/labels/app.kubernetes.io~1instance",
    "apps/v1 Deployment a /spec/template/metadata/labels/app.kubernetes.io~1name",
    // Not while `allowPrivilegeEscalation` is false.
    "apps/v1 Deployment a /spec/template/spec/containers/0/securityContext/privileged",
    // It is empty, and has no field that we would call a change.
    "apps/v1 Deployment a /spec/template/spec/volumes/2/emptyDir",
    "apps/v1 Deployment hub-agent /spec/selector",
    "apps/v1 Deployment hub-agent /spec/template/metadata/labels/app.kubernetes.io~1instance",
    "apps/v1 Deployment hub-agent /spec/template/metadata/labels/app.kubernetes.io~1name",
    "apps/v1 Deployment part-agent /spec/selector",
    "apps/v1 Deployment part-agent /spec/template/metadata/labels/app.kubernetes.io~1instance",
    "apps/v1 Deployment part-agent /spec/template/metadata/labels/app.kubernetes.io~1name",
    "apps/v1 StatefulSet i /spec/podManagementPolicy",
    "apps/v1 StatefulSet i /spec/selector",
    "apps/v1 StatefulSet i /spec/serviceName",
    "apps/v1 StatefulSet i /spec/template/metadata/labels/app.kubernetes.io~1instance",
    "apps/v1 StatefulSet i /spec/template/metadata/labels/app.kubernetes.io~1name",
    "apps/v1 StatefulSet i /spec/template/spec/containers/0/securityContext/privileged",
    "apps/v1 StatefulSet i /spec/template/spec/volumes/3/emptyDir",
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding adx-mon:NAMESPACE:alerter:a /roleRef",
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding adx-mon:NAMESPACE:collector:c /roleRef",
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding adx-mon:NAMESPACE:ingestor:i /roleRef",
    "rbac.authorization.k8s.io/v1 RoleBinding hub-agent /roleRef",
    "rbac.authorization.k8s.io/v1 RoleBinding i-ingestor /roleRef",
    "rbac.authorization.k8s.io/v1 RoleBinding part-agent /roleRef",
];

/// Only tells the operator's own changes from drift: that somebody changed it is no drift that anybody is told of.
const MARK: &str = "/metadata/annotations/adx-mon.azure.com~1applied";

/// A place as people are told of it: a list's entry by what tells it from the others.
fn told_as(object: &Value, pointer: &str) -> String {
    let (mut told, mut here) = (String::new(), object);
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if let Value::Array(entries) = here {
            here = step.parse().ok().and_then(|index: usize| entries.get(index)).expect("the entry was just there");
            let key = ["uid", "mountPath", "name"].into_iter().find_map(|key| here[key].as_str());
            told = format!("{told}[{}]", key.expect("an entry of ours has a key"));
        } else {
            here = &here[&step];
            told = if told.is_empty() { step } else { format!("{told}.{step}") };
        }
    }
    told
}

/// Whether a place is another one, or in it.
fn is_in(place: &str, other: &str) -> bool {
    place.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// One place of one child.
#[derive(Debug)]
struct Leaf {
    kind: &'static str,
    name: String,
    pointer: String,
    /// The same place in an Event.
    told: String,
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind, self.name, self.pointer)
    }
}

impl Leaf {
    /// Whether the note of an Event tells that it was changed. One of its parts may be named, or what as a whole has no more or fewer entries than ours.
    fn is_told_by(&self, note: &str) -> bool {
        let plain = self.kind.split_once(' ').map_or(self.kind, |(_, plain)| plain);
        let Some(told) = note.strip_prefix(&format!("{plain} '{}' was ", self.name)) else { return false };
        match told.strip_prefix("changed at ") {
            Some(place) => is_in(place, &self.told) || is_in(&self.told, place),
            // Kubernetes removes what has an owner that is not there, if the operator does not come before it.
            None => told == "deleted" && self.pointer.starts_with("/metadata/ownerReferences"),
        }
    }

    /// Has somebody change it, and says how long that lasted; `None` if the API server refuses to have it changed.
    async fn changed(&self, test: &TestNamespace) -> Option<Duration> {
        let right = test.get(self.kind, &self.name).await.pointer(&self.pointer).cloned();
        if !spoil(test, self).await {
            return None;
        }
        let fits = |object: &Value| object.pointer(&self.pointer).cloned() == right;
        Some(reverted(test, self.kind, &self.name, fits).await)
    }
}

/// Gives one place of an object another value, in somebody's name. `false` if the API server refuses it, or puts the old value back itself.
async fn spoil(test: &TestNamespace, Leaf { kind, name, pointer, told: _ }: &Leaf) -> bool {
    loop {
        let before = test.get(kind, name).await;
        let mut object = before.clone();
        let place = object.pointer_mut(pointer).expect("it was just there");
        *place = spoilt(pointer, place);
        let object = serde_json::from_value(object).expect("an object stays one");
        let params = PostParams { field_manager: Some("somebody".to_owned()), ..PostParams::default() };
        match test.api(kind).replace(name, &params, &object).await {
            // Its status went on meanwhile, or the API server waited for its storage for too long.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code >= 500 => {}
            Ok(object) => {
                let object = serde_json::to_value(object).expect("an object is JSON");
                return object.pointer(pointer) != before.pointer(pointer);
            }
            Err(_) => return false,
        }
    }
}

/// All leaves of an owner's children, changed one after the other: another change would draw the operator's look to the same owner.
async fn each_changed(test: &TestNamespace, children: &[(&'static str, String)]) -> Vec<(Leaf, Option<Duration>)> {
    let mut outcomes = Vec::new();
    for (kind, name) in children {
        let object = test.get(kind, name).await;
        let leaves = applied_leaves(&object);
        // An autoscaler decides on the replicas.
        let is_scaled = *kind == "apps/v1 StatefulSet";
        for pointer in leaves.into_iter().filter(|pointer| !(is_scaled && pointer == "/spec/replicas")) {
            let told = told_as(&object, &pointer);
            let leaf = Leaf { kind, name: name.clone(), pointer, told };
            let took = leaf.changed(test).await;
            outcomes.push((leaf, took));
        }
    }
    outcomes
}

/// Waits until an Event tells of each of these places.
async fn until_each_is_told(test: &TestNamespace, changed: &[Leaf]) {
    let started = Instant::now();
    loop {
        let events = test.events().await;
        let notes: Vec<&str> =
            events.iter().filter(|(reason, _)| reason == "DriftReverted").map(|(_, note)| note.as_str()).collect();
        let is_told = |leaf: &&Leaf| notes.iter().any(|note| leaf.is_told_by(note));
        let untold: Vec<&Leaf> = changed.iter().filter(|leaf| leaf.pointer != MARK && !is_told(leaf)).collect();
        if untold.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "no Event tells of {untold:#?}, only of {notes:#?}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// Everything that the API server lets somebody change, of objects that have everything: certificate, identities, pod policies, a load balancer, an autoscaler, and
/// agents of both roles.
#[tokio::test]
async fn every_leaf_that_the_operator_applied_comes_back_within_a_second() {
    let test = TestNamespace::new("leaves").await;
    let _operator = test.operator().await;
    test.apply(OTHER_WAY).await;
    until_settled(&test, &owners(OTHER_WAY)).await;
    // Not ours. Pods that come and go would draw the operator's look, too, and take the processors' time.
    for name in ["a", "hub-agent", "part-agent"] {
        change(&test, "apps/v1 Deployment", name, json!({"spec": {"paused": true}})).await;
    }
    let mut by_owner: BTreeMap<String, Vec<(&'static str, String)>> = BTreeMap::new();
    for (kind, child) in children(&test).await {
        let labels = &child["metadata"]["labels"];
        let owner = format!("{} {}", labels["app.kubernetes.io/name"], labels["app.kubernetes.io/instance"]);
        let name = child["metadata"]["name"].as_str().expect("a child has a name").to_owned();
        by_owner.entry(owner).or_default().push((kind, name));
    }
    let counts: Vec<usize> = by_owner.values().map(Vec::len).collect();
    // Alerter, Collector, two agents, Ingestor.
    assert_eq!(counts, [4, 5, 7, 7, 8], "{by_owner:#?}");
    let outcomes = future::join_all(by_owner.values().map(|children| each_changed(&test, children))).await;
    let (mut in_time, mut late, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (leaf, took) in outcomes.into_iter().flatten() {
        match took {
            None => refused.push(leaf),
            Some(took) if took < SOON => in_time.push(leaf),
            Some(_) => late.push(leaf),
        }
    }
    let reverts = in_time.len() + late.len();
    println!(
        "{reverts} changes were reverted, {} of them after more than a second; the API server lets nobody change {}",
        late.len(),
        refused.len()
    );
    assert!(reverts > 380, "{reverts} reverted, not changed: {refused:#?}");
    // There is no volume of the other name that a mount would have.
    let is_mount = |leaf: &Leaf| leaf.pointer.contains("/volumeMounts/") && leaf.pointer.ends_with("/name");
    let refused: BTreeSet<String> = refused
        .iter()
        .filter(|leaf| !is_mount(leaf))
        .map(|leaf| leaf.to_string().replace(&test.name, "NAMESPACE"))
        .collect();
    let fixed: BTreeSet<String> = FIXED.map(str::to_owned).into();
    assert_eq!(refused, fixed, "what the API server lets nobody change, and what is known of that");
    until_each_is_told(&test, &in_time).await;
    until_each_is_told(&test, &late).await;
    // Five owners' changes share two processors with other stories: their median is in time, and what is late among them is so by itself, most times.
    assert!(late.len() * 2 < reverts, "late: {late:#?}");
    for leaf in &late {
        let changed = async || leaf.changed(&test).await.expect("it could be changed before");
        within_a_second(&leaf.to_string(), changed).await;
    }
    // A port of another number has our port's name: both cannot be there.
    within_a_second("the port", async || {
        change(&test, "v1 Service", "i", json!({"spec": {"ports": [{"name": "https", "port": 444, "targetPort": 1}]}}))
            .await;
        let fits = |object: &Value| {
            object["spec"]["ports"].as_array().is_some_and(|ports| ports.len() == 1 && ports[0]["port"] == 443)
        };
        reverted(&test, "v1 Service", "i", fits).await
    })
    .await;
}
