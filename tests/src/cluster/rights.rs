//! Rights as lines, `group resource verb` and `URL path verb`: those that rules grant, and those that somebody has used, by the API server's audit log. Pure.

use std::collections::BTreeSet;

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

/// Each right that a user has used, in the lines of an audit log, of which the last may not be whole yet.
pub(super) fn rights_used(log: &str, user: &str) -> BTreeSet<String> {
    let events = log.lines().filter(|line| line.contains(user));
    let events = events.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["user"]["username"] == user).flat_map(|event| used_in(&event)).collect()
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
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        part => format!("{}/{part}", text("resource")),
    };
    // What is applied where nothing is needs the right to create it, too.
    let verbs = if (verb, code) == ("patch", 201) { vec![verb, "create"] } else { vec![verb] };
    verbs.into_iter().map(|verb| right(text("apiGroup"), &resource, verb)).collect()
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
}
