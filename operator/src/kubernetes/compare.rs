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
    let field = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
    desired.iter().find_map(|(name, value)| at(value, live.get(name).unwrap_or(&Value::Null), field(name)))
}

/// The keys by which Kubernetes tells apart the entries of a list of objects.
const KEYS: [&str; 4] = ["name", "mountPath", "uid", "containerPort"];

/// Entries with a key may be among others', in any order; without one, the lists must have the same length and order.
fn list(desired: &[Value], live: &[Value], path: &str) -> Option<String> {
    let key = KEYS.into_iter().find(|key| !desired.is_empty() && desired.iter().all(|entry| entry.get(key).is_some()));
    let Some(key) = key else {
        if desired.len() != live.len() {
            return Some(path.to_owned());
        }
        let mut pairs = desired.iter().zip(live).enumerate();
        return pairs.find_map(|(index, (desired, live))| at(desired, live, format!("{path}[{index}]")));
    };
    desired.iter().find_map(|entry| {
        let name = &entry[key];
        let place = format!("{path}[{}]", name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        let found = live.iter().find(|other| other.get(key) == Some(name));
        found.map_or_else(|| Some(place.clone()), |found| at(entry, found, place.clone()))
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
        let desired = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "args": ["--a"], "ports": [{"containerPort": 80}]}]}}}, "rules": [{"verbs": ["get"]}]});
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
            Some("spec.template.spec.containers[a].ports[80]".to_owned())
        );
        assert_eq!(with("/rules", json!([{"verbs": ["get"]}, {"verbs": ["*"]}])), Some("rules".to_owned()));
        assert_eq!(with("/rules/0/verbs", json!(["list"])), Some("rules[0].verbs[0]".to_owned()));
        assert_eq!(with("/spec", Value::Null), Some("spec".to_owned()));
    }
}
