//! Whether a live object still is what we applied. Pure.
//!
//! We own what we wrote and nothing else: the API server fills in defaults, autoscalers and injectors write fields of their own. So the desired object must be
//! found in the live one, not equal it.

use serde_json::{Map, Value};

/// A place in which a live object is not as the desired one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// As in `spec.replicas`.
    pub(crate) path: String,
    /// What is there; null where nothing is.
    pub(crate) there: Value,
}

/// Where the live object differs from the desired one, in that one's order; nowhere if it has everything.
pub(crate) fn differences(desired: &Value, live: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    at(desired, live, "", &mut found);
    found
}

fn differs(live: &Value, path: &str) -> Difference {
    Difference { path: path.to_owned(), there: live.clone() }
}

fn at(desired: &Value, live: &Value, path: &str, found: &mut Vec<Difference>) {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => object(desired, live, path, found),
        (Value::Array(desired), Value::Array(entries)) if desired.len() == entries.len() => {
            list(desired, entries, path, found);
        }
        // An empty object or list may be left out by the server.
        (Value::Object(desired), Value::Null) if desired.is_empty() => {}
        (Value::Array(desired), Value::Null) if desired.is_empty() => {}
        (desired, live) if desired == live => {}
        _ => found.push(differs(live, path)),
    }
}

fn object(desired: &Map<String, Value>, live: &Map<String, Value>, path: &str, found: &mut Vec<Difference>) {
    for (name, value) in desired {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let live = live.get(name).unwrap_or(&Value::Null);
        match (name.as_str(), value, live) {
            // A label too many selects other pods, or other nodes.
            ("selector" | "nodeSelector", ..) => found.extend((value != live).then(|| differs(live, &path))),
            (_, Value::Array(desired), Value::Array(live)) if SHARED_LISTS.iter().any(|(shared, _)| shared == name) => {
                shared_list(desired, live, &path, name, found);
            }
            _ => at(value, live, &path, found),
        }
    }
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

fn shared_list(desired: &[Value], live: &[Value], path: &str, name: &str, found: &mut Vec<Difference>) {
    let key = SHARED_LISTS.iter().find(|(shared, _)| *shared == name).map_or("name", |(_, key)| key);
    for entry in desired {
        let place = format!("{path}[{}]", entry[key].as_str().unwrap_or_default());
        match live.iter().find(|other| other.get(key) == entry.get(key)) {
            Some(live) => at(entry, live, &place, found),
            None => found.push(differs(&Value::Null, &place)),
        }
    }
}

/// Of as many entries.
fn list(desired: &[Value], live: &[Value], path: &str, found: &mut Vec<Difference>) {
    for (index, (desired, live)) in desired.iter().zip(live).enumerate() {
        let (path, before) = (format!("{path}[{index}]"), found.len());
        at(desired, live, &path, found);
        // An entry is ours with all that it says: a name that somebody adds to a rule takes rights away.
        if found.len() == before && desired != live {
            found.push(differs(live, &path));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The first one's path.
    fn difference(desired: &Value, live: &Value) -> Option<String> {
        differences(desired, live).into_iter().next().map(|difference| difference.path)
    }

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

    #[test]
    fn every_place_is_found_with_what_is_there() {
        let container = |image: &str, args: &[&str]| json!({"name": "a", "image": image, "args": args});
        let desired = json!({"spec": {"replicas": 2, "containers": [container("x", &["--a", "--b"])]}, "metadata": {"labels": {"app": "a"}}});
        let live = json!({"spec": {"replicas": 5, "containers": [container("y", &["--a", "--c"])]}});
        let found = differences(&desired, &live);
        let found: Vec<(&str, &Value)> =
            found.iter().map(|difference| (difference.path.as_str(), &difference.there)).collect();
        let expected = [
            ("spec.replicas", &json!(5)),
            ("spec.containers[a].image", &json!("y")),
            ("spec.containers[a].args[1]", &json!("--c")),
            ("metadata", &Value::Null),
        ];
        assert_eq!(found, expected);
    }
}
