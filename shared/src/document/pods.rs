//! `podPolicy`: where pods run, and with what their images are pulled. adx-mon has it for ingestors; here every kind does. Pure; only the operator acts by it.

// KubeSchema derives a copy of each struct inside an anonymous constant.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::Violation;

/// Where pods run, and with what their images are pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodPolicy {
    /// Secrets of the namespace with which images are pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<SecretRef>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that are no obstacle, beside those that the component always tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
}

/// A Secret of the object's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A taint that is no obstacle, as in a pod.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')")
    .message("a toleration without a key must have operator Exists: it tolerates every taint"))]
#[x_kube(validation = Rule::new("!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''")
    .message("a toleration with operator Exists must not have a value"))]
#[x_kube(validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
    .message("tolerationSeconds must have effect NoExecute beside it"))]
pub struct Toleration {
    /// The taint's key; absent: any.
    #[serde(default, skip_serializing_if = "is_absent")]
    #[schemars(length(max = 317))]
    pub key: Option<String>,
    /// `Equal` (the default) or `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value, with `Equal`.
    #[serde(default, skip_serializing_if = "is_absent")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// The taint's effect; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long pods stay on a node that got such a taint; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// Kubernetes keeps no empty text: one that is applied is not there when it is looked for.
fn is_absent(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

/// How a taint's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// It is the toleration's.
    Equal,
    /// It is anything.
    Exists,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// They are not put there.
    NoSchedule,
    /// They are put elsewhere if there is room.
    PreferNoSchedule,
    /// They are driven out.
    NoExecute,
}

impl PodPolicy {
    /// The schema's rules once more: a file has no API server, and an object may be older than they are. `path` is the policy's own.
    pub fn violations(&self, path: &str) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (index, toleration) in self.tolerations.iter().enumerate() {
            let path = format!("{path}.tolerations[{index}]");
            let is_exists = toleration.operator == Some(TolerationOperator::Exists);
            if is_absent(&toleration.key) && !is_exists {
                let rule = "must be given where operator is not Exists: a toleration without a key is for every taint";
                violations.push(Violation::new(format!("{path}.key"), "absent", rule));
            }
            if let Some(value) = toleration.value.as_ref().filter(|value| is_exists && !value.is_empty()) {
                violations.push(Violation::new(format!("{path}.value"), value, "must be absent with operator Exists"));
            }
            if let Some(seconds) = toleration.toleration_seconds
                && toleration.effect != Some(TaintEffect::NoExecute)
            {
                let rule = "must have effect NoExecute beside it";
                violations.push(Violation::new(format!("{path}.tolerationSeconds"), seconds, rule));
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn broken(toleration: &Value) -> Vec<String> {
        let policy: PodPolicy = serde_json::from_value(json!({"tolerations": [toleration]})).unwrap();
        policy.violations("spec.podPolicy").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tolerations_that_kubernetes_would_refuse_are_violations() {
        for (toleration, violation) in [
            (
                json!({"value": "infra"}),
                "spec.podPolicy.tolerations[0].key = absent: must be given where operator is not Exists: a toleration without a key is for every taint",
            ),
            (
                json!({"key": "pool", "operator": "Exists", "value": "infra"}),
                "spec.podPolicy.tolerations[0].value = infra: must be absent with operator Exists",
            ),
            (
                json!({"key": "pool", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}),
                "spec.podPolicy.tolerations[0].tolerationSeconds = 5: must have effect NoExecute beside it",
            ),
        ] {
            assert_eq!(broken(&toleration), [violation]);
        }
    }

    #[test]
    fn an_empty_text_is_an_absent_one() {
        let empty = json!({"key": "", "operator": "Exists", "value": ""});
        let toleration: Toleration = serde_json::from_value(empty).unwrap();
        assert_eq!(json!(toleration), json!({"operator": "Exists"}));
    }

    #[test]
    fn tolerations_of_every_form_are_taken() {
        for toleration in [
            json!({"operator": "Exists"}),
            json!({"key": "", "operator": "Exists", "value": ""}),
            json!({"key": "pool", "value": "infra", "effect": "NoSchedule"}),
            json!({"key": "pool", "operator": "Equal", "effect": "PreferNoSchedule"}),
            json!({"key": "pool", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}),
        ] {
            assert!(broken(&toleration).is_empty(), "{toleration}");
        }
    }
}
