//! Where what somebody made of an object leaves no room for ours: the change that makes room. Pure; called by `apply` when the API server refuses what we apply.
//!
//! Many fields are unions: a variable has a value or a source, a volume has one source, a probe has one handler. Whoever changes the member owns the new one, and
//! what we apply would stand beside it. So what stands in the place of ours goes, and what others have beside ours stays.

use serde_json::{Map, Value};

use super::compare::SHARED_LISTS;

/// The merge patch that makes a live object what we apply; `None` if there is nothing to change.
pub(crate) fn reclaiming(desired: &Value, live: &Value) -> Option<Value> {
    let mut reclaimed = live.clone();
    if desired["kind"] == "Service" && desired["spec"]["type"] != "LoadBalancer" {
        let places = [("/spec", "loadBalancerSourceRanges"), ("/metadata/annotations", SOURCE_RANGES)];
        for (place, field) in places {
            if let Some(fields) = reclaimed.pointer_mut(place).and_then(Value::as_object_mut) {
                fields.remove(field);
            }
        }
    }
    reclaim(desired, &mut reclaimed, true);
    merge_patch(live, &reclaimed)
}

/// Who may ask a load balancer: what else is only one's own, the API server takes away with it, and with this it refuses a Service of another type.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Puts ours into a live value. `is_whole`: an object's members may be those of a union; labels and annotations are not.
fn reclaim(desired: &Value, live: &mut Value, is_whole: bool) {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            // One of ours is not there: another has taken its place. What has many fields of its own, as a pod has, is no union.
            let is_union = is_whole && !NO_UNIONS.iter().any(|field| desired.contains_key(*field));
            if is_union && desired.keys().any(|name| !live.contains_key(name)) {
                live.retain(|name, _| desired.contains_key(name) || BESIDE.contains(&name.as_str()));
            }
            for (name, desired) in desired {
                let live = live.entry(name).or_insert(Value::Null);
                let key = SHARED_LISTS.iter().find(|(shared, _)| shared == name).map(|(_, key)| *key);
                match (name.as_str(), key, desired, live) {
                    ("selector", _, desired, live) => *live = desired.clone(),
                    (_, Some(key), Value::Array(desired), Value::Array(live)) => entries(desired, live, key),
                    (name, _, desired, live) => reclaim(desired, live, is_whole && !OTHERS.contains(&name)),
                }
            }
        }
        (desired, live) => *live = desired.clone(),
    }
}

/// Members of whole objects that are no part of a union.
const BESIDE: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// Fields that tell a workload's or a pod's spec.
const NO_UNIONS: [&str; 2] = ["template", "containers"];

/// Fields in which anyone may have entries of their own.
const OTHERS: [&str; 2] = ["metadata", "data"];

/// Numbers of ports, of which two entries of one protocol cannot have the same.
const PORT_NUMBERS: [&str; 2] = ["port", "containerPort"];

/// Ours among the entries of a list in which others have theirs.
fn entries(desired: &[Value], live: &mut Vec<Value>, key: &str) {
    let takes_the_place = |theirs: &Value, ours: &Value| {
        let protocol = |entry: &Value| entry["protocol"].as_str().unwrap_or("TCP").to_owned();
        theirs[key] != ours[key]
            && protocol(theirs) == protocol(ours)
            && PORT_NUMBERS.iter().any(|number| !ours[number].is_null() && ours[number] == theirs[number])
    };
    live.retain(|theirs| !desired.iter().any(|ours| takes_the_place(theirs, ours)));
    for ours in desired {
        match live.iter_mut().find(|theirs| theirs.get(key) == ours.get(key)) {
            Some(theirs) => reclaim(ours, theirs, true),
            None => live.push(ours.clone()),
        }
    }
}

/// What makes one value the other by JSON merge patch, which replaces lists as a whole.
fn merge_patch(from: &Value, to: &Value) -> Option<Value> {
    match (from, to) {
        (from, to) if from == to => None,
        (Value::Object(from), Value::Object(to)) => {
            let mut patch = Map::new();
            for name in from.keys().filter(|name| !to.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            for (name, to) in to {
                let change = merge_patch(from.get(name).unwrap_or(&Value::Null), to);
                patch.extend(change.map(|change| (name.clone(), change)));
            }
            Some(patch.into())
        }
        (_, to) => Some(to.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(container: &Value, volumes: &Value) -> Value {
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"template": {"spec": {"containers": [container], "volumes": volumes}}}})
    }

    #[test]
    fn another_member_of_a_union_goes_and_what_stands_beside_ours_stays() {
        let ours = pod(
            &json!({"name": "a", "env": [{"name": "X", "value": "1"}], "readinessProbe": {"httpGet": {"port": 1}, "periodSeconds": 5}}),
            &json!([{"name": "config", "configMap": {"name": "c"}}]),
        );
        let mut live = pod(
            &json!({
                "name": "a", "imagePullPolicy": "Always",
                "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "e", "key": "X"}}}, {"name": "THEIRS", "value": "2"}],
                "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 5, "timeoutSeconds": 1},
            }),
            &json!([{"name": "config", "emptyDir": {}}, {"name": "theirs", "emptyDir": {}}]),
        );
        live["metadata"] = json!({"labels": {"app": "a", "team": "blue"}, "uid": "1"});
        live["spec"]["template"]["spec"]["nodeSelector"] = json!({"theirs": "too"});
        let mut ours = ours;
        ours["spec"]["template"]["spec"]["affinity"] = json!({"nodeAffinity": {}});
        let patch = reclaiming(&ours, &live).unwrap();
        let expected = json!({"spec": {"template": {"spec": {
            "containers": [{
                "name": "a", "imagePullPolicy": "Always",
                "env": [{"name": "X", "value": "1"}, {"name": "THEIRS", "value": "2"}],
                "readinessProbe": {"periodSeconds": 5, "httpGet": {"port": 1}},
            }],
            "volumes": [{"name": "config", "configMap": {"name": "c"}}, {"name": "theirs", "emptyDir": {}}],
            "affinity": {"nodeAffinity": {}},
        }}}});
        assert_eq!(patch, expected);
    }

    #[test]
    fn a_port_in_the_place_of_ours_goes_and_a_numbers_owner_keeps_its_other_fields() {
        let ours = json!({"spec": {"ports": [{"name": "https", "port": 443}]}});
        let patched = |ports: Value| {
            reclaiming(&ours, &json!({"spec": {"ports": ports}})).map(|patch| patch["spec"]["ports"].clone())
        };
        let with_node_port = json!([{"name": "https", "port": 444, "nodePort": 30000}]);
        assert_eq!(patched(with_node_port), Some(json!([{"name": "https", "port": 443, "nodePort": 30000}])));
        assert_eq!(
            patched(json!([{"name": "x", "port": 443}, {"name": "y", "port": 5}])),
            Some(json!([{"name": "y", "port": 5}, {"name": "https", "port": 443}]))
        );
        assert_eq!(patched(json!([{"name": "https", "port": 443, "protocol": "TCP"}])), None);
        let udp = json!([{"name": "https", "port": 443}, {"name": "quic", "port": 443, "protocol": "UDP"}]);
        assert_eq!(patched(udp), None);
    }

    #[test]
    fn who_may_ask_a_load_balancer_goes_with_it_and_stays_while_it_is_there() {
        let ours =
            |kind: &str| json!({"kind": "Service", "spec": {"type": kind, "ports": [{"name": "https", "port": 443}]}});
        let mut live = ours("LoadBalancer");
        live["metadata"] = json!({"annotations": {SOURCE_RANGES: "10.0.0.0/8", "team": "blue"}});
        live["spec"]["loadBalancerSourceRanges"] = json!(["10.0.0.0/8"]);
        let expected = json!({
            "metadata": {"annotations": {SOURCE_RANGES: null}},
            "spec": {"loadBalancerSourceRanges": null, "type": "ClusterIP"},
        });
        assert_eq!(reclaiming(&ours("ClusterIP"), &live), Some(expected));
        assert_eq!(reclaiming(&ours("LoadBalancer"), &live), None);
    }

    #[test]
    fn what_others_may_not_have_beside_ours_is_taken_out_by_its_name() {
        let budget = json!({"kind": "PodDisruptionBudget", "metadata": {"name": "a"}, "spec": {"maxUnavailable": 1, "selector": {"a": "b"}}});
        let live = json!({"kind": "PodDisruptionBudget", "metadata": {"name": "a", "uid": "1"}, "spec": {"minAvailable": 1, "selector": {"a": "b"}}, "status": {}});
        assert_eq!(reclaiming(&budget, &live), Some(json!({"spec": {"minAvailable": null, "maxUnavailable": 1}})));
        let map = json!({"metadata": {"name": "a"}, "data": {"config.toml": "x"}});
        let live = json!({"metadata": {"name": "a"}, "binaryData": {"config.toml": "eA=="}});
        assert_eq!(reclaiming(&map, &live), Some(json!({"binaryData": null, "data": {"config.toml": "x"}})));
        let label = json!({"metadata": {"labels": {"app": "a"}}});
        let live = json!({"metadata": {"labels": {"team": "blue"}, "annotations": {"b": "c"}}});
        assert_eq!(reclaiming(&label, &live), Some(json!({"metadata": {"labels": {"app": "a"}}})));
    }
}
