//! Fields that nobody can change in an object that is there. Pure; asked by `apply` when the API server refuses what we apply.
//!
//! An earlier version of the operator, or adx-mon's own, may have made it with others.

use serde_json::Value;

/// What stands in the way of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed {
    /// As in `spec.selector`.
    pub(super) path: &'static str,
    /// Whether nothing is lost with the object: a StatefulSet's pods are said to keep something.
    pub(super) is_replaceable: bool,
}

/// The first such field in which a live object is not what we apply.
pub(super) fn fixed(desired: &Value, live: &Value) -> Option<Fixed> {
    let paths: &[&'static str] = match desired["kind"].as_str()? {
        "Deployment" | "DaemonSet" => &["spec.selector"],
        "StatefulSet" => {
            &["spec.selector", "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates"]
        }
        "RoleBinding" | "ClusterRoleBinding" => &["roleRef"],
        "ConfigMap" if live["immutable"] == true => &["data"],
        _ => &[],
    };
    let at = |object: &Value, path: &str| object.pointer(&format!("/{}", path.replace('.', "/"))).cloned();
    let path = *paths.iter().find(|path| at(desired, path) != at(live, path))?;
    Some(Fixed { path, is_replaceable: desired["kind"] != "StatefulSet" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(kind: &str, desired: &Value, live: &Value) -> Option<(&'static str, bool)> {
        let mut desired = desired.clone();
        desired["kind"] = kind.into();
        fixed(&desired, live).map(|fixed| (fixed.path, fixed.is_replaceable))
    }

    #[test]
    fn what_cannot_be_changed_is_found_by_kind() {
        let selects = |app: &str| json!({"spec": {"selector": {"matchLabels": {"app": app}}, "replicas": 1}});
        for kind in ["Deployment", "DaemonSet"] {
            assert_eq!(found(kind, &selects("a"), &selects("b")), Some(("spec.selector", true)));
        }
        assert_eq!(found("StatefulSet", &selects("a"), &selects("b")), Some(("spec.selector", false)));
        // Where it can: a Service's.
        assert_eq!(found("Service", &selects("a"), &selects("b")), None);
        let mut scaled = selects("a");
        scaled["spec"]["replicas"] = 2.into();
        assert_eq!(found("Deployment", &selects("a"), &scaled), None);
        let set = |name: &str, policy: &str| json!({"spec": {"serviceName": name, "podManagementPolicy": policy}});
        assert_eq!(
            found("StatefulSet", &set("a", "Parallel"), &set("b", "Parallel")),
            Some(("spec.serviceName", false))
        );
        assert_eq!(
            found("StatefulSet", &set("a", "Parallel"), &set("a", "OrderedReady")),
            Some(("spec.podManagementPolicy", false))
        );
        let mut claims = set("a", "Parallel");
        claims["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}}]);
        let expected = Some(("spec.volumeClaimTemplates", false));
        assert_eq!(found("StatefulSet", &set("a", "Parallel"), &claims), expected);
        let binds = |role: &str| json!({"roleRef": {"name": role}, "subjects": []});
        for kind in ["RoleBinding", "ClusterRoleBinding"] {
            assert_eq!(found(kind, &binds("a"), &binds("b")), Some(("roleRef", true)));
        }
        let map = |text: &str| json!({"data": {"a": text}});
        assert_eq!(found("ConfigMap", &map("x"), &map("y")), None);
        let closed = json!({"data": {"a": "y"}, "immutable": true});
        assert_eq!(found("ConfigMap", &map("x"), &closed), Some(("data", true)));
    }
}
