//! Rights as lines, `group resource verb` and `URL path verb`: those that rules grant, and those that somebody has used, by the API server's audit log; and who asked
//! for what in the order of that log. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

/// What the API server notes: who asked for what, of those who have rights in the cluster. Stories ask with all rights, which nobody need count.
pub(super) const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
"rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]}"#;

/// Each right of each rule. Names of resources, which would narrow a rule, are left out.
pub fn rights_of(rules: &Value) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        let words = |list: &str| rule[list].as_array().into_iter().flatten().filter_map(Value::as_str);
        for verb in words("verbs") {
            for group in words("apiGroups") {
                rights.extend(words("resources").map(|resource| right(group, resource, verb)));
            }
            rights.extend(words("nonResourceURLs").map(|url| format!("URL {url} {verb}")));
        }
    }
    rights
}

fn right(group: &str, resource: &str, verb: &str) -> String {
    format!("{} {resource} {verb}", if group.is_empty() { "core" } else { group })
}

/// What a service account has asked the API server for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The account's name.
    pub account: String,
    /// The API server's word for it: an apply is a `patch`.
    pub verb: String,
    /// `leases`, or `adxclusters/status`; empty where it is about no resource.
    pub resource: String,
    /// When the API server heard of it.
    pub time: Timestamp,
}

impl Asked {
    /// Whether it is to change something: also what was refused, and what left all as it was.
    pub fn is_write(&self) -> bool {
        ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str())
    }
}

/// The events of an audit log that hold a text. Its last line may not be whole yet.
fn events_with(log: &str, text: &str) -> impl Iterator<Item = Value> {
    let lines = log.lines().filter(move |line| line.contains(text));
    lines.filter_map(|line| serde_json::from_str::<Value>(line).ok())
}

/// Each right that a user has used, by an audit log.
pub(super) fn rights_used(log: &str, user: &str) -> BTreeSet<String> {
    events_with(log, user).filter(|event| event["user"]["username"] == user).flat_map(|event| used_in(&event)).collect()
}

/// What the service accounts of a namespace have asked for, by an audit log, in its order.
pub(super) fn asked_in(log: &str, namespace: &str) -> Vec<Asked> {
    let begin = format!("system:serviceaccount:{namespace}:");
    let asked = |event: Value| {
        let account = event["user"]["username"].as_str()?.strip_prefix(&begin)?.to_owned();
        let time = event["requestReceivedTimestamp"].as_str().and_then(|time| time.parse().ok());
        Some(Asked {
            account,
            verb: event["verb"].as_str().unwrap_or_default().to_owned(),
            resource: resource_of(&event["objectRef"]),
            time: time.expect("every event has the time of its request"),
        })
    };
    events_with(log, &begin).filter_map(asked).collect()
}

fn used_in(event: &Value) -> Vec<String> {
    let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
    // Whoever is refused uses no right.
    if [401, 403].contains(&code) {
        return Vec::new();
    }
    let verb = event["verb"].as_str().unwrap_or_default();
    let object = &event["objectRef"];
    if object.is_null() {
        let path = event["requestURI"].as_str().and_then(|uri| uri.split('?').next()).unwrap_or_default();
        return vec![format!("URL {path} {verb}")];
    }
    let (group, resource) = (object["apiGroup"].as_str().unwrap_or_default(), resource_of(object));
    // What is applied where nothing is needs the right to create it, too.
    let verbs = if (verb, code) == ("patch", 201) { vec![verb, "create"] } else { vec![verb] };
    verbs.into_iter().map(|verb| right(group, &resource, verb)).collect()
}

/// `pods`, or a part of it: `pods/status`.
fn resource_of(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    match text("subresource") {
        "" => text("resource").to_owned(),
        part => format!("{}/{part}", text("resource")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_and_the_log_of_what_they_allow_give_the_same_lines() {
        let event = |user: &str, verb: &str, code: u16, object: Value| {
            json!({"verb": verb, "user": {"username": user}, "requestURI": "/metrics?a=b", "responseStatus": {"code": code}, "objectRef": object}).to_string()
        };
        let lease = json!({"resource": "leases", "apiGroup": "coordination.k8s.io", "name": "l"});
        let status = json!({"resource": "pods", "subresource": "status"});
        let log = [
            event("me", "patch", 201, lease.clone()),
            event("me", "get", 404, status),
            event("me", "get", 200, Value::Null),
            event("me", "delete", 403, lease.clone()),
            event("me and another", "list", 200, lease),
            "{\"verb\": \"watch\", \"user\": {\"username\": \"me\"".to_owned(),
        ];
        let rules = json!([
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["l"], "verbs": ["create", "patch"]},
            {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["get"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        ]);
        assert_eq!(rights_used(&log.join("\n"), "me"), rights_of(&rules));
        assert_eq!(rights_of(&rules).len(), 4);
    }

    #[test]
    fn what_the_accounts_of_a_namespace_asked_for_is_told_whatever_the_answer_was() {
        let event = |user: &str, verb: &str, code: u16, object: Value| {
            json!({"verb": verb, "user": {"username": user}, "requestURI": "/", "responseStatus": {"code": code}, "objectRef": object, "requestReceivedTimestamp": "2026-03-01T12:00:00.000007Z"}).to_string()
        };
        let status = json!({"resource": "adxclusters", "subresource": "status", "name": "hub"});
        let log = [
            event("system:serviceaccount:here:hub-agent", "patch", 200, status.clone()),
            event("system:serviceaccount:here:hub-agent", "delete", 403, json!({"resource": "leases"})),
            event("system:serviceaccount:here:other", "get", 200, Value::Null),
            // Of another namespace, about this one.
            event("system:serviceaccount:there:a", "get", 200, json!({"resource": "system:serviceaccount:here:"})),
            event("system:serviceaccount:here-too:hub-agent", "patch", 200, status),
            "{\"verb\": \"patch\", \"user\": {\"username\": \"system:serviceaccount:here:hub-agent\"".to_owned(),
        ];
        let asked = asked_in(&log.join("\n"), "here");
        let told: Vec<_> =
            asked.iter().map(|asked| (&*asked.account, &*asked.verb, &*asked.resource, asked.is_write())).collect();
        let expected = [
            ("hub-agent", "patch", "adxclusters/status", true),
            ("hub-agent", "delete", "leases", true),
            ("other", "get", "", false),
        ];
        assert_eq!(told, expected);
        assert_eq!(asked[0].time.to_string(), "2026-03-01T12:00:00.000007Z");
    }
}
