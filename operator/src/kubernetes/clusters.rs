//! Which ADXClusters a component works with. Pure, over what the operator has seen.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use shared::document::{ADXCluster, ClusterRole};

use super::conditions::{Draft, Phase};

/// The clusters of the namespace that a selector selects, by name; or why there is nothing to work with yet.
///
/// # Errors
/// The condition that says what is waited for, or what is wrong.
pub(crate) fn selected(
    clusters: &[Arc<ADXCluster>],
    namespace: &str,
    selector: &LabelSelector,
) -> Result<Vec<Arc<ADXCluster>>, Draft> {
    let no = |reason: &str, message: String| Draft::no(Phase::ClusterReady, reason, message);
    let is_empty = selector.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if is_empty {
        return Err(no(
            "SelectsNothing",
            "spec.adxClusterSelector is empty, and an empty selector selects nothing".to_owned(),
        ));
    }
    let selector = Selector::try_from(selector.clone())
        .map_err(|error| no("Invalid", format!("spec.adxClusterSelector is no label selector: {error}")))?;
    let mut matching: Vec<_> = clusters
        .iter()
        .filter(|cluster| cluster.namespace().as_deref() == Some(namespace) && selector.matches(cluster.labels()))
        .cloned()
        .collect();
    // A hub holds no telemetry of its own: components write to and ask the partitions.
    matching.retain(|cluster| cluster.spec.role.unwrap_or_default() != ClusterRole::Federated);
    matching.sort_by_key(|cluster| cluster.name_any());
    if matching.is_empty() {
        let message =
            format!("no ADXCluster of role Partition in namespace '{namespace}' matches spec.adxClusterSelector");
        return Err(no("WaitingForCluster", message));
    }
    if let Some(waiting) = matching.iter().find_map(|cluster| not_there(cluster)) {
        return Err(no("WaitingForCluster", waiting));
    }
    Ok(matching)
}

/// Why a cluster cannot be worked with yet.
fn not_there(cluster: &ADXCluster) -> Option<String> {
    let name = cluster.name_any();
    let status = cluster.status.clone().unwrap_or_default();
    let phases = [Phase::ClusterReady, Phase::DatabasesReady];
    let is_true = |phase: Phase| {
        status.conditions.iter().any(|condition| condition.type_ == phase.as_str() && condition.status == "True")
    };
    let missing = phases.into_iter().find(|phase| !is_true(*phase));
    match missing {
        None if status.endpoint.is_some() => None,
        None => Some(format!("ADXCluster '{name}' has no endpoint yet")),
        Some(phase) => {
            let found = status.conditions.iter().find(|condition| condition.type_ == phase.as_str());
            let why =
                found.map_or_else(|| "it has not been looked at yet".to_owned(), |condition| condition.message.clone());
            Some(format!("ADXCluster '{name}' is not ready: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(name: &str, namespace: &str, role: &str, ready: &str) -> Arc<ADXCluster> {
        let condition = |phase: &str| json!({"type": phase, "status": ready, "reason": "R", "message": format!("{phase} of {name}"), "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let cluster = json!({
            "apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": "adx-mon"}},
            "spec": {"clusterName": name, "role": role},
            "status": {"endpoint": format!("https://{name}.kusto.windows.net"), "conditions": [condition("ClusterReady"), condition("DatabasesReady")]},
        });
        Arc::new(serde_json::from_value(cluster).unwrap())
    }

    fn select(clusters: &[Arc<ADXCluster>], selector: serde_json::Value) -> Result<Vec<String>, String> {
        let selector = serde_json::from_value(selector).unwrap();
        let names = |found: Vec<Arc<ADXCluster>>| found.iter().map(|cluster| cluster.name_any()).collect();
        selected(clusters, "here", &selector).map(names).map_err(|draft| format!("{}: {}", draft.reason, draft.message))
    }

    #[test]
    fn clusters_of_the_namespace_that_match_and_hold_data_in_the_order_of_their_names() {
        let clusters = [
            cluster("b", "here", "Partition", "True"),
            cluster("a", "here", "Partition", "True"),
            cluster("c", "elsewhere", "Partition", "True"),
            cluster("hub", "here", "Federated", "False"),
        ];
        assert_eq!(select(&clusters, json!({"matchLabels": {"app": "adx-mon"}})).unwrap(), ["a", "b"]);
        let expression = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["adx-mon", "x"]}]});
        assert_eq!(select(&clusters, expression).unwrap(), ["a", "b"]);
    }

    #[test]
    fn selecting_nothing_is_not_selecting_everything() {
        let clusters = [cluster("a", "here", "Partition", "True")];
        for empty in [json!({}), json!({"matchLabels": {}}), json!({"matchExpressions": []})] {
            assert!(select(&clusters, empty).unwrap_err().starts_with("SelectsNothing"));
        }
        assert!(
            select(&clusters, json!({"matchLabels": {"app": "other"}}))
                .unwrap_err()
                .starts_with("WaitingForCluster: no ADXCluster")
        );
        let wrong = json!({"matchExpressions": [{"key": "app", "operator": "Near", "values": ["x"]}]});
        assert!(select(&clusters, wrong).unwrap_err().starts_with("Invalid"));
    }

    #[test]
    fn one_that_is_not_ready_is_waited_for_by_name() {
        let clusters = [cluster("a", "here", "Partition", "True"), cluster("b", "here", "Partition", "False")];
        let error = select(&clusters, json!({"matchLabels": {"app": "adx-mon"}})).unwrap_err();
        assert_eq!(error, "WaitingForCluster: ADXCluster 'b' is not ready: ClusterReady of b");
    }
}
