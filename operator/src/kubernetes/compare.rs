//! Whether a live object still is what we applied. Pure.
//!
//! We own what we wrote and nothing else: the API server fills in defaults, autoscalers and injectors write fields of their own. So the desired object must be
//! found in the live one, not equal it.

use serde_json::{Map, Value};

/// Where the live object first differs from the desired one; `None` if it has everything.
pub(crate) fn difference(desired: &Value, live: &Value) -> Option<String> {
    at(desired, live, String::new())
}

fn at(desired: &Value, live: &Value, path: String) -> Option<String> {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => object(desired, live, &path),
        (Value::Array(desired), Value::Array(live)) => list(desired, live, &path),
        // An empty object or list may be left out by the server.
        (Value::Object(desired), Value::Null) if desired.is_empty() => None,
        (Value::Array(desired), Value::Null) if desired.is_empty() => None,
        (desired, live) if desired == live => None,
        _ => Some(path),
    }
}

fn object(desired: &Map<String, Value>, live: &Map<String, Value>, path: &str) -> Option<String> {
    desired.iter().find_map(|(name, value)| {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let live = live.get(name).unwrap_or(&Value::Null);
        match (name.as_str(), value, live) {
            // A label too many selects other pods, or other nodes.
            ("selector" | "nodeSelector", ..) => (value != live).then_some(path),
            (_, Value::Array(desired), Value::Array(live)) if SHARED_LISTS.iter().any(|(shared, _)| shared == name) => {
                shared_list(desired, live, &path, name)
            }
            _ => at(value, live, path),
        }
    })
}

/// Lists in which others may have entries of their own, with the key that tells entries apart. All others are ours alone with all that is in them: an argument, a rule
/// or a subject too many is a difference.
pub(crate) const SHARED_LISTS: [(&str, &str); 8] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "name"),
    ("imagePullSecrets", "name"),
    ("ownerReferences", "uid"),
];

fn shared_list(desired: &[Value], live: &[Value], path: &str, name: &str) -> Option<String> {
    let key = SHARED_LISTS.iter().find(|(shared, _)| *shared == name).map_or("name", |(_, key)| key);
    desired.iter().find_map(|entry| {
        let place = format!("{path}[{}]", entry[key].as_str().unwrap_or_default());
        let found = live.iter().find(|other| other.get(key) == entry.get(key));
        found.map_or_else(|| Some(place.clone()), |found| at(entry, found, place.clone()))
    })
}

fn list(desired: &[Value], live: &[Value], path: &str) -> Option<String> {
    if desired.len() != live.len() {
        return Some(path.to_owned());
    }
    let mut pairs = desired.iter().zip(live).enumerate();
    pairs.find_map(|(index, (desired, live))| {
        let path = format!("{path}[{index}]");
        // An entry is ours with all that it says: a name that somebody adds to a rule takes rights away.
        at(desired, live, path.clone()).or_else(|| (desired != live).then_some(path))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_and_others_fields_are_no_difference() {
        let desired = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "image": "x", "args": ["--a"]}], "volumes": []}}}});
        let live = json!({"metadata": {"uid": "1"}, "spec": {"replicas": 2, "paused": false, "template": {
            "metadata": {"annotations": {"sidecar": "yes"}},
            "spec": {"containers": [{"name": "sidecar", "image": "s"}, {"name": "a", "image": "x", "args": ["--a"], "imagePullPolicy": "Always"}]}}}});
        assert_eq!(difference(&desired, &live), None);
    }

    #[test]
    fn a_changed_a_missing_and_an_added_value_is_found_by_its_path() {
        let desired = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "args": ["--a"], "ports": [{"name": "http", "containerPort": 80}]}]}}}, "rules": [{"verbs": ["get"]}]});
        let with = |pointer: &str, value: Value| {
            let mut live = desired.clone();
            *live.pointer_mut(pointer).unwrap() = value;
            difference(&desired, &live)
        };
        let container = "/spec/template/spec/containers/0";
        assert_eq!(with("/spec/replicas", json!(5)), Some("spec.replicas".to_owned()));
        assert_eq!(
            with(&format!("{container}/args"), json!(["--a", "--b"])),
            Some("spec.template.spec.containers[a].args".to_owned())
        );
        assert_eq!(with(&format!("{container}/name"), json!("b")), Some("spec.template.spec.containers[a]".to_owned()));
        assert_eq!(
            with(&format!("{container}/ports"), json!([])),
            Some("spec.template.spec.containers[a].ports[http]".to_owned())
        );
        assert_eq!(with("/rules", json!([{"verbs": ["get"]}, {"verbs": ["*"]}])), Some("rules".to_owned()));
        assert_eq!(with("/rules/0/verbs", json!(["list"])), Some("rules[0].verbs[0]".to_owned()));
        let narrowed = json!([{"verbs": ["get"], "resourceNames": ["x"]}]);
        assert_eq!(with("/rules", narrowed), Some("rules[0]".to_owned()), "what somebody adds to a rule of ours");
        let binding = json!({"subjects": [{"kind": "ServiceAccount", "name": "a"}]});
        let more = json!({"subjects": [{"kind": "ServiceAccount", "name": "a"}, {"kind": "User", "name": "mallory"}]});
        assert_eq!(difference(&binding, &more), Some("subjects".to_owned()), "nobody else gets our rights");
        let service = json!({"spec": {"selector": {"app": "a"}}});
        assert_eq!(
            difference(&service, &json!({"spec": {"selector": {"app": "a", "b": "c"}}})),
            Some("spec.selector".to_owned())
        );
        let pod = json!({"nodeSelector": {"pool": "infra"}});
        assert_eq!(
            difference(&pod, &json!({"nodeSelector": {"pool": "infra", "disk": "none"}})),
            Some("nodeSelector".to_owned()),
            "pods would wait for a node that is not there"
        );
        assert_eq!(difference(&json!({}), &json!({"nodeSelector": {"disk": "ssd"}})), None, "where none is ours");
        assert_eq!(with("/spec", Value::Null), Some("spec".to_owned()));
    }
}
