//! What the documents say is so: examples validate, every field and metric has its line, every file of the map exists.

use std::time::Duration;

use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};
use shared::{
    document::{ADXCluster, check, hub_config, parse_documents, partition_config},
    runtime::{
        ChangeAction, ChangeObject, ChangeOutcome, GuardReason, HeartbeatOutcome, Metrics, PartitionState, PassOutcome,
        RefusalReason,
    },
};
use tests::{
    docs::{Deploying, blocks, deploying, read, root},
    metrics::{assert_explained, explained, families},
};

#[test]
fn every_cluster_in_the_guides_is_a_valid_document() {
    let guides = [read("README.md"), read("OPERATIONS.md")];
    let clusters: Vec<_> = guides
        .iter()
        .flat_map(|guide| blocks(guide))
        .filter(|(language, block)| *language == "yaml" && block.contains("kind: ADXCluster"))
        .map(|(_, block)| block)
        .collect();
    assert!(clusters.len() >= 4);
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

/// The defaults that the table of fields states, as paths of the document with the value and for whom.
fn stated_defaults(readme: &str) -> Vec<(String, &str, &str)> {
    let lines = readme.lines().filter(|line| line.starts_with("| `federation."));
    let stated = lines.flat_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (names, values) = (in_code(cells[0]), in_code(cells[2]));
        // Beside its first name a line has others of the same section.
        let section = names[0].rsplit_once('.').map_or("", |(section, _)| section);
        let paths = names
            .iter()
            .map(|name| if name.starts_with("federation.") { (*name).to_owned() } else { format!("{section}.{name}") });
        paths.zip(values).map(|(path, value)| (path, value, cells[1])).collect::<Vec<_>>()
    });
    stated.collect()
}

/// What stands in a cell as code.
fn in_code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_defaults_in_the_readme_are_those_of_the_programs_and_of_the_definition() {
    let readme = read("README.md");
    let stated = stated_defaults(&readme);
    assert!(stated.len() > 20, "{stated:?}");
    let document = |role: &str, with: bool| {
        let federation = match role {
            "Federated" => json!({"heartbeatDatabase": "D", "heartbeatTable": "T"}),
            _ => {
                json!({"federatedClusters": [{"endpoint": "https://h.kusto.windows.net", "heartbeatDatabase": "D", "heartbeatTable": "T"}]})
            }
        };
        let mut document = json!({
            "apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "x"},
            "spec": {"clusterName": "x", "endpoint": "https://x.kusto.windows.net", "role": role, "federation": federation},
        });
        for (path, value, whose) in &stated {
            if with && ["both", role].contains(whose) {
                let value: Value = serde_saphyr::from_str(value).expect("a default is YAML");
                let field = path.split('.').fold(&mut document["spec"], |section, name| &mut section[name]);
                *field = value;
            }
        }
        parse_documents(&document.to_string()).expect("it is a document").remove(0)
    };
    assert_eq!(hub_config(&document("Federated", true)), hub_config(&document("Federated", false)));
    assert_eq!(partition_config(&document("Partition", true)), partition_config(&document("Partition", false)));
    assert!(hub_config(&document("Federated", true)).is_ok() && partition_config(&document("Partition", true)).is_ok());
    // What the API server fills in where it has a default of its own.
    let crd = serde_json::to_value(ADXCluster::crd()).expect("a CRD is JSON");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    for (path, value, _) in &stated {
        let pointer = path.split('.').fold(spec.to_owned(), |pointer, name| pointer + "/properties/" + name);
        let schema = crd.pointer(&pointer).expect("the definition has the field");
        let own = schema["default"].as_str().map_or_else(|| schema["default"].to_string(), str::to_owned);
        assert!(
            schema["default"].is_null() || own == **value,
            "{path}: README.md says {value}, and the definition {own}"
        );
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
    // What alerts ask for is there, and so are the values of its labels.
    let operations = read("OPERATIONS.md");
    let asked: Vec<&str> = operations.split("adx_federation_").skip(1).collect();
    assert!(asked.len() >= 7, "{} metrics", asked.len());
    for text in asked {
        let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        assert!(explained.contains_key(&text[..end]), "OPERATIONS.md names the metric {}", &text[..end]);
    }
    let states = PartitionState::ALL.iter().map(|state| state.as_str());
    let known: Vec<&str> = states.chain(PassOutcome::ALL.iter().map(|outcome| outcome.as_str())).collect();
    let values = operations.split("=~\"").skip(1).filter_map(|text| text.split('"').next());
    let values: Vec<&str> = values.flat_map(|values| values.split('|')).collect();
    assert!(values.len() >= 5, "{values:?}");
    assert_eq!(values.iter().find(|value| !known.contains(value)), None, "a value that no label has");
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

/// The story in `cluster_wide` runs those for kubectl; of the others this is what is the repository's.
#[test]
fn the_image_that_the_readme_deploys_is_the_one_that_make_leaves() {
    let Deploying { archive, image, kustomization, kubectl } = deploying(&read("README.md"));
    assert_eq!(image, concat!("REGISTRY/adx-federation:", env!("CARGO_PKG_VERSION")));
    assert!(root().join(&kustomization).join("kustomization.yaml").is_file(), "{kustomization}");
    assert_eq!(kubectl[0].last(), Some(&kustomization));
    let makefile = read("Makefile");
    let cache = archive.strip_suffix("/images/adx-federation.tar").expect("it is among the images");
    assert!(makefile.contains(&format!("\nADX_FEDERATION_CACHE ?= $(HOME)/{cache}\n")), "{cache}");
    let (_, images) = makefile.split_once("\nimages:").expect("there is such a target");
    let recipe = images.split("\n\n").next().unwrap_or_default();
    assert!(recipe.contains("$(ADX_FEDERATION_CACHE)/images/adx-federation.tar"), "{recipe}");
}
