//! What the documents say is so: examples validate, every field and metric has its line, every file of the map exists.

use std::time::Duration;

use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
use kube::CustomResourceExt as _;
use serde_json::Value;
use shared::{
    document::{ADXCluster, check, parse_documents},
    runtime::{
        ChangeAction, ChangeObject, ChangeOutcome, GuardReason, HeartbeatOutcome, Metrics, PartitionState, PassOutcome,
        RefusalReason,
    },
};
use tests::{
    docs::{blocks, read, root},
    metrics::{assert_explained, explained, families},
};

#[test]
fn every_cluster_in_the_readme_is_a_valid_document() {
    let readme = read("README.md");
    let clusters: Vec<_> = blocks(&readme)
        .filter(|(language, block)| *language == "yaml" && block.contains("kind: ADXCluster"))
        .map(|(_, block)| block)
        .collect();
    assert!(clusters.len() >= 2);
    for text in clusters {
        for cluster in parse_documents(text).expect("the example is a document") {
            assert_eq!(check(&cluster), [], "{text}");
        }
    }
}

#[test]
fn every_field_of_a_federation_has_a_line_in_the_readme() {
    let readme = read("README.md");
    let crd = serde_json::to_value(ADXCluster::crd()).expect("a CRD is JSON");
    let federation =
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["federation"];
    let mut fields = Vec::new();
    names(federation, &mut fields);
    assert!(fields.len() > 15, "{fields:?}");
    // The tables' first cells name fields in code, alone or behind dots.
    let cells = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let named: std::collections::BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .flat_map(|code| code.split(['.', '[', ']']))
        .collect();
    // Fields of a hub in a partition's list, and of credentials, stand together in one line each.
    let together =
        ["federatedTargets", "endpoint", "managedIdentity", "workloadIdentity", "azureCli", "clientId", "tenantId"];
    for field in fields.iter().filter(|field| !together.contains(&field.as_str())) {
        assert!(named.contains(field.as_str()), "README.md has no line for {field}");
    }
    for field in together {
        assert!(readme.contains(field), "README.md has no line for {field}");
    }
}

fn names(schema: &Value, found: &mut Vec<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        found.push(name.clone());
        names(schema, found);
        names(&schema["items"], found);
    }
}

#[test]
fn every_metric_has_a_line_with_its_labels_in_the_readme() {
    let readme = read("README.md");
    let metrics = Metrics::new();
    let endpoint = ClusterEndpoint::parse("https://p.kusto.windows.net").expect("an endpoint");
    // A family without a value is not in the text.
    metrics.heartbeat_sent(&endpoint, HeartbeatOutcome::Accepted, Timestamp::UNIX_EPOCH);
    metrics.partition_heartbeat(&endpoint, Timestamp::UNIX_EPOCH);
    metrics.missed_heartbeats(&endpoint, 1);
    metrics.partitions(PartitionState::Live, 1);
    metrics.pass(PassOutcome::Done, Duration::ZERO);
    metrics.change(ChangeObject::Function, ChangeAction::Create, ChangeOutcome::Applied);
    metrics.auth_failure(&endpoint);
    metrics.guard(GuardReason::MassExpiry, true);
    metrics.refused_heartbeats(RefusalReason::Content, 1);
    let metrics = metrics.text();
    // A family that no line above gives a value would be missed.
    let described = metrics.lines().filter(|line| line.starts_with("# HELP")).count();
    let families = families(&metrics);
    assert!(families.len() >= 10 && families.len() == described, "{metrics}");
    let explained = explained(&readme);
    assert_explained(&families, &explained);
    // Its own stories see that the operator shows these.
    let of_the_operator =
        ["reconciles_total", "reconcile_duration_seconds", "drift_reverted_total", "azure_requests_total"];
    let unknown = |name: &&String| !families.contains_key(*name) && !of_the_operator.contains(&name.as_str());
    assert_eq!(explained.keys().find(unknown), None, "a metric that no program has");
}

#[test]
fn every_file_of_the_map_exists() {
    let text = read("ARCHITECTURE.md");
    let (_, map) = text.split_once("## From concept to file").expect("the map has a heading");
    let map = map.split("\n## ").next().unwrap_or_default();
    let mut paths = 0;
    for name in map.split('`').skip(1).step_by(2).filter(|name| name.contains('/')) {
        let path = name.trim_end_matches("*.kql");
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {name}, which does not exist");
        paths += 1;
    }
    assert!(paths > 15, "{paths} paths");
}
