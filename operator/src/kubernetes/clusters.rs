//! Which ADXClusters a component works with. Pure, over what the operator has seen; called by the kinds' plans.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kql::endpoint::ClusterEndpoint;
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use shared::document::{ADXCluster, ClusterRole, spec::TelemetryType};

use super::{
    conditions::{Draft, Phase},
    criteria,
    managed::World,
    reason::Reason,
    settings::Settings,
    stored::Unreadable,
};

/// The clusters of a namespace that a selector selects, by name.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    /// Those that can be worked with.
    pub(crate) ready: Vec<Arc<ADXCluster>>,
    /// Those that cannot be yet, or cannot be now.
    pub(crate) unready: Vec<Arc<ADXCluster>>,
    /// Whether there are others, which cannot be read.
    pub(crate) has_undecided: bool,
    /// What is waited for, as the condition that says so; without it all are ready, and at least one has a database.
    pub(crate) waiting: Option<Draft>,
    /// Whether only another selector can help.
    pub(crate) is_stalled: bool,
}

/// Selects.
///
/// # Errors
/// The condition that says why the selector is none.
pub(crate) fn selected(world: &World<'_>, namespace: &str, selector: &LabelSelector) -> Result<Selected, Draft> {
    let no = |reason: Reason, message: String| Draft::no(Phase::ClusterReady, reason, message);
    let is_empty = selector.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if is_empty {
        let message = "spec.adxClusterSelector is empty, and an empty selector selects nothing".to_owned();
        let waiting = Some(no(Reason::SelectsNothing, message));
        return Ok(Selected { waiting, is_stalled: true, ..Selected::default() });
    }
    if let Some(violation) = violation(selector) {
        return Err(no(Reason::Invalid, violation));
    }
    let selector = Selector::try_from(selector.clone())
        .map_err(|error| no(Reason::Invalid, format!("spec.adxClusterSelector is no label selector: {error}")))?;
    let is_here = |cluster: &&Arc<ADXCluster>| cluster.namespace().as_deref() == Some(namespace);
    let mut matching: Vec<_> =
        world.clusters.iter().filter(is_here).filter(|cluster| selector.matches(cluster.labels())).cloned().collect();
    // A hub holds no telemetry of its own: components write to and ask the partitions. What is another operator's is not for ours.
    matching.retain(|cluster| cluster.spec.role.unwrap_or_default() != ClusterRole::Federated);
    matching.retain(|cluster| !is_elsewhere(cluster.spec.criteria_expression.as_deref(), world));
    matching.sort_by_key(|cluster| cluster.name_any());
    let not_there = |cluster: &Arc<ADXCluster>| not_there(cluster, world.settings);
    let (ready, unready): (Vec<_>, Vec<_>) = matching.into_iter().partition(|cluster| not_there(cluster).is_none());
    // What cannot be read is not absent: what was taken for it would be lost.
    let is_selected = |metadata: &ObjectMeta| {
        metadata.namespace.as_deref() == Some(namespace)
            && metadata.labels.as_ref().is_some_and(|labels| selector.matches(labels))
    };
    let undecided = world.undecided.iter().filter(|unreadable| is_selected(&unreadable.metadata));
    let undecided: Vec<String> = undecided.map(|unreadable| cannot_be_read(unreadable)).collect();
    let has_undecided = !undecided.is_empty();
    let missing: Vec<String> = unready.iter().filter_map(not_there).chain(undecided).collect();
    let waiting = if ready.is_empty() && missing.is_empty() {
        let none =
            format!("no ADXCluster of role Partition in namespace '{namespace}' matches spec.adxClusterSelector");
        Some(no(Reason::WaitingForCluster, none))
    } else if !missing.is_empty() {
        Some(no(Reason::WaitingForCluster, missing.join("; ")))
    } else if ready.iter().all(|cluster| telemetry(cluster).is_empty()) {
        let message = format!("no database is listed in spec.databases of ADXCluster {}", names(&ready));
        Some(Draft::no(Phase::DatabasesReady, Reason::NoDatabases, message))
    } else {
        None
    };
    Ok(Selected { ready, unready, has_undecided, waiting, is_stalled: false })
}

impl Selected {
    /// All that are selected and can be read.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<ADXCluster>> {
        self.ready.iter().chain(&self.unready)
    }
}

/// What a partition gets that is to be made, and lists none.
pub(crate) const DEFAULT_DATABASES: [(&str, TelemetryType); 2] =
    [("Metrics", TelemetryType::Metrics), ("Logs", TelemetryType::Logs)];

/// The databases of a partition that hold telemetry, and of what kind. One that only lost its `endpoint`, and is another's, was given none.
pub(crate) fn telemetry(cluster: &ADXCluster) -> Vec<(&str, TelemetryType)> {
    let listed = &cluster.spec.databases;
    let provision = cluster.status.as_ref().and_then(|status| status.provision.as_ref());
    let is_made = cluster.spec.endpoint.is_none() && provision.is_some_and(|told| told.state.is_some());
    if listed.is_empty() && is_made {
        return DEFAULT_DATABASES.to_vec();
    }
    listed.iter().map(|database| (database.database_name.as_str(), database.telemetry_type)).collect()
}

/// The database for telemetry of a kind where nobody says which, of those that these clusters have: an ingestor lets go of what is for another. The usual one, if there is one of that name,
/// or none; else the first.
pub(crate) fn destination<'a>(clusters: impl IntoIterator<Item = &'a Arc<ADXCluster>>, kind: TelemetryType) -> String {
    let databases = clusters.into_iter().flat_map(|cluster| telemetry(cluster));
    let names: BTreeSet<&str> = databases.filter(|(_, of)| *of == kind).map(|(name, _)| name).collect();
    let usual = DEFAULT_DATABASES.iter().find(|(_, of)| *of == kind).map_or("Logs", |(name, _)| name);
    let chosen = if names.contains(usual) { usual } else { names.first().unwrap_or(&usual) };
    chosen.to_owned()
}

/// The clusters' names, in a sentence.
pub(crate) fn names(clusters: &[Arc<ADXCluster>]) -> String {
    clusters.iter().map(|cluster| cluster.name_any()).collect::<Vec<_>>().join(", ")
}

/// Whether an object is meant for operators of other Kubernetes clusters alone: nobody here looks after it, so nothing here waits for it.
pub(crate) fn is_elsewhere(criteria: Option<&str>, world: &World<'_>) -> bool {
    criteria::is_met(criteria.unwrap_or_default(), &world.settings.cluster_labels) == Ok(false)
}

/// What Kubernetes would refuse of a selector: `NotIn` nothing would be everything, as would `NotIn` of a label that is not named.
fn violation(selector: &LabelSelector) -> Option<String> {
    let expressions = selector.match_expressions.iter().flatten().enumerate();
    let mut violations = expressions.filter_map(|(index, expression)| {
        if expression.key.is_empty() {
            return Some(format!("spec.adxClusterSelector.matchExpressions[{index}].key = \"\": must be given"));
        }
        let (operator, values) = (expression.operator.as_str(), expression.values.as_deref().unwrap_or_default());
        let rule = match operator {
            "In" | "NotIn" if values.is_empty() => "must have values",
            "Exists" | "DoesNotExist" if !values.is_empty() => "must have no values",
            "In" | "NotIn" | "Exists" | "DoesNotExist" => return None,
            _ => "must be In, NotIn, Exists or DoesNotExist",
        };
        Some(format!("spec.adxClusterSelector.matchExpressions[{index}].operator = {operator}: {rule}"))
    });
    violations.next()
}

/// Where telemetry for a cluster goes. A status is written by more than this operator, as by the cluster's agent: it is not believed against the spec, and no host for which
/// no token may leave is believed at all.
pub(crate) fn address(cluster: &ADXCluster, settings: &Settings) -> Option<String> {
    addresses(cluster, settings).next()
}

/// The address, and before it shows in the status the earlier one.
pub(crate) fn addresses(cluster: &ADXCluster, settings: &Settings) -> impl Iterator<Item = String> {
    let told = cluster.status.as_ref().and_then(|status| status.endpoint.as_deref());
    let parsed = [cluster.spec.endpoint.as_deref(), told].into_iter().flatten().flat_map(ClusterEndpoint::parse);
    parsed.filter(|endpoint| settings.trusts(endpoint)).map(|endpoint| endpoint.to_string())
}

fn cannot_be_read(cluster: &Unreadable<ADXCluster>) -> String {
    format!("ADXCluster '{}' is not ready: {}", cluster.metadata.name.as_deref().unwrap_or_default(), cluster.why)
}

/// Why a cluster cannot be worked with yet.
fn not_there(cluster: &ADXCluster, settings: &Settings) -> Option<String> {
    let name = cluster.name_any();
    let status = cluster.status.clone().unwrap_or_default();
    let phases = [Phase::ClusterReady, Phase::DatabasesReady];
    let is_true = |phase: Phase| {
        status.conditions.iter().any(|condition| condition.type_ == phase.as_str() && condition.status == "True")
    };
    let missing = phases.into_iter().find(|phase| !is_true(*phase));
    match missing {
        None if address(cluster, settings).is_some() => None,
        None if status.endpoint.is_some() => {
            let cloud = settings.trust.cloud;
            Some(format!(
                "ADXCluster '{name}' tells of an endpoint that is no Kusto endpoint of the operator's cloud ({cloud})"
            ))
        }
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
    use crate::kubernetes::{settings::Images, stored::Stored};

    fn settings() -> Settings {
        let image = || "image".to_owned();
        Settings {
            namespace: None,
            cluster_labels: [("region".to_owned(), "eu".to_owned())].into(),
            trust: shared::kusto::HostTrust::default(),
            allow_loopback: false,
            images: Images { ingestor: image(), collector: image(), alerter: image(), agent: None },
            agent_arguments: Vec::new(),
        }
    }

    fn cluster(name: &str, namespace: &str, role: &str, ready: &str) -> Arc<ADXCluster> {
        let condition = |phase: &str| json!({"type": phase, "status": ready, "reason": "R", "message": format!("{phase} of {name}"), "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let cluster = json!({
            "apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": "adx-mon"}},
            "spec": {"clusterName": name, "role": role, "databases": [{"databaseName": "Logs", "telemetryType": "Logs"}]},
            "status": {"endpoint": format!("https://{name}.kusto.windows.net"), "conditions": [condition("ClusterReady"), condition("DatabasesReady")]},
        });
        Arc::new(serde_json::from_value(cluster).unwrap())
    }

    fn world<'a>(settings: &'a Settings, clusters: &[Arc<ADXCluster>]) -> World<'a> {
        World { clusters: clusters.to_vec(), ..World::of_tests(settings) }
    }

    /// The names of those that are ready, and what is waited for; or why the selector is none.
    fn select(
        clusters: &[Arc<ADXCluster>],
        selector: serde_json::Value,
    ) -> Result<(Vec<String>, Option<String>), String> {
        let selector = serde_json::from_value(selector).unwrap();
        let found = selected(&world(&settings(), clusters), "here", &selector);
        let found = found.map_err(|draft| format!("{}: {}", draft.reason, draft.message))?;
        let waiting = found.waiting.map(|why| why.message);
        Ok((found.ready.iter().map(|cluster| cluster.name_any()).collect(), waiting))
    }

    fn all_of(names: [&str; 2]) -> (Vec<String>, Option<String>) {
        (names.map(str::to_owned).into(), None)
    }

    #[test]
    fn clusters_of_the_namespace_that_match_and_hold_data_in_the_order_of_their_names() {
        let clusters = [
            cluster("b", "here", "Partition", "True"),
            cluster("a", "here", "Partition", "True"),
            cluster("c", "elsewhere", "Partition", "True"),
            cluster("hub", "here", "Federated", "False"),
        ];
        assert_eq!(select(&clusters, json!({"matchLabels": {"app": "adx-mon"}})).unwrap(), all_of(["a", "b"]));
        let expression = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["adx-mon", "x"]}]});
        assert_eq!(select(&clusters, expression).unwrap(), all_of(["a", "b"]));
    }

    #[test]
    fn selecting_nothing_is_not_selecting_everything() {
        let clusters = [cluster("a", "here", "Partition", "True")];
        for empty in [json!({}), json!({"matchLabels": {}}), json!({"matchExpressions": []})] {
            let (found, waiting) = select(&clusters, empty).unwrap();
            assert!(found.is_empty() && waiting.unwrap().ends_with("an empty selector selects nothing"));
        }
        let (found, waiting) = select(&clusters, json!({"matchLabels": {"app": "other"}})).unwrap();
        assert!(found.is_empty() && waiting.unwrap().starts_with("no ADXCluster"));
    }

    #[test]
    fn a_selector_that_kubernetes_would_refuse_is_invalid() {
        let clusters = [cluster("a", "here", "Partition", "True")];
        for (operator, values, rule) in [
            ("Near", json!(["x"]), "must be In, NotIn, Exists or DoesNotExist"),
            ("NotIn", json!([]), "must have values"),
            ("NotIn", json!(null), "must have values"),
            ("In", json!([]), "must have values"),
            ("Exists", json!(["x"]), "must have no values"),
            ("DoesNotExist", json!(["x"]), "must have no values"),
        ] {
            let wrong = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "app", "operator": operator, "values": values}]});
            let told = format!("Invalid: spec.adxClusterSelector.matchExpressions[1].operator = {operator}: {rule}");
            assert_eq!(select(&clusters, wrong).unwrap_err(), told);
        }
        // A label that is not named is on no object, so that all would be selected.
        let keyless = json!({"matchExpressions": [{"operator": "NotIn", "values": ["x"]}]});
        let told = "Invalid: spec.adxClusterSelector.matchExpressions[0].key = \"\": must be given";
        assert_eq!(select(&clusters, keyless).unwrap_err(), told);
        let right = json!({"matchExpressions": [{"key": "other", "operator": "NotIn", "values": ["x"]}, {"key": "app", "operator": "Exists"}]});
        assert_eq!(select(&clusters, right).unwrap(), (vec!["a".to_owned()], None));
    }

    #[test]
    fn one_that_is_not_ready_is_waited_for_by_name() {
        let clusters = [cluster("a", "here", "Partition", "True"), cluster("b", "here", "Partition", "False")];
        let (ready, waiting) = select(&clusters, json!({"matchLabels": {"app": "adx-mon"}})).unwrap();
        assert_eq!(ready, ["a"]);
        assert_eq!(waiting.as_deref(), Some("ADXCluster 'b' is not ready: ClusterReady of b"));
    }

    #[test]
    fn one_that_cannot_be_read_is_waited_for() {
        let with = |spec: serde_json::Value| {
            let metadata = json!({"name": "b", "namespace": "here", "labels": {"app": "adx-mon"}});
            let object =
                json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": metadata, "spec": spec});
            let Stored::Unreadable(unreadable) = serde_json::from_value(object).unwrap() else { panic!("it is read") };
            let settings = settings();
            let clusters = [cluster("a", "here", "Partition", "True")];
            let world = World { undecided: vec![unreadable], ..world(&settings, &clusters) };
            let selector = serde_json::from_value(json!({"matchLabels": {"app": "adx-mon"}})).unwrap();
            let elsewhere = selected(&world, "elsewhere", &selector).unwrap();
            assert!(!elsewhere.has_undecided && elsewhere.ready.is_empty());
            selected(&world, "here", &selector).unwrap()
        };
        for spec in
            [json!({"clusterName": "b", "role": "Galactic"}), json!({"clusterName": "b", "criteriaExpression": 7})]
        {
            let found = with(spec.clone());
            assert!(found.has_undecided && found.ready.len() == 1 && found.unready.is_empty(), "{spec}");
            let why = found.waiting.unwrap().message;
            assert!(why.starts_with("ADXCluster 'b' is not ready: "), "{why}");
        }
    }

    #[test]
    fn where_a_cluster_is_is_said_by_its_spec_and_by_no_host_that_is_not_trusted() {
        let told = "https://a.kusto.windows.net";
        for (spec, status, expected) in [
            (None, Some(told), &[told][..]),
            (None, Some("https://a.evil.example"), &[]),
            (None, Some("no address"), &[]),
            (None, None, &[]),
            // Somebody wrote another into the status, or it is not up to date.
            (Some("https://B.kusto.windows.net/"), Some(told), &["https://b.kusto.windows.net", told]),
            (Some("https://b.kusto.windows.net"), Some("https://a.evil.example"), &["https://b.kusto.windows.net"]),
            // That is told elsewhere; what runs goes on.
            (Some("https://b.evil.example"), Some(told), &[told]),
        ] {
            let mut cluster = ADXCluster::clone(&cluster("a", "here", "Partition", "True"));
            cluster.spec.endpoint = spec.map(str::to_owned);
            cluster.status.as_mut().unwrap().endpoint = status.map(str::to_owned);
            assert_eq!(addresses(&cluster, &settings()).collect::<Vec<_>>(), expected, "{spec:?} {status:?}");
            assert_eq!(not_there(&cluster, &settings()).is_none(), !expected.is_empty(), "{spec:?} {status:?}");
        }
    }

    #[test]
    fn one_that_is_another_operators_by_its_criteria_is_not_waited_for() {
        let with = |expression: &str| {
            let mut other = ADXCluster::clone(&cluster("b", "here", "Partition", "False"));
            other.spec.criteria_expression = Some(expression.to_owned());
            [cluster("a", "here", "Partition", "True"), Arc::new(other)]
        };
        let selector = json!({"matchLabels": {"app": "adx-mon"}});
        assert_eq!(select(&with("region == 'us'"), selector.clone()).unwrap(), (vec!["a".to_owned()], None));
        // What cannot be decided is told by that object, and is still waited for.
        for expression in ["region == 'eu'", "region =="] {
            assert!(select(&with(expression), selector.clone()).unwrap().1.is_some(), "{expression}");
        }
    }
}
