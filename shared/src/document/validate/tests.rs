//! Each rule with a document that breaks it.

use std::time::Duration;

use kql::{names::TableName, statements::HeartbeatSource};
use serde_json::{Value, json};

use super::*;
use crate::{
    credential::CredentialConfig,
    document::{HubTarget, Schedule, load::parse_documents},
};

const PARTITION: &str = r#"
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: eu-partition
spec:
  clusterName: eu
  endpoint: https://EU.westeurope.kusto.windows.net/
  role: Partition
  federation:
    federatedClusters:
      - endpoint: "https://federated.kusto.windows.net"
        heartbeatDatabase: "FleetDiscovery"
        heartbeatTable: "Heartbeats"
        managedIdentityClientId: "xxxx-xxxx"
    partitioning:
      geo: "EU"
      location: "westeurope"
"#;

const HUB: &str = r#"
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: federated
spec:
  clusterName: hub
  endpoint: https://hub.kusto.windows.net
  role: Federated
  federation:
    heartbeatDatabase: "FleetDiscovery"
    heartbeatTable: "Beats"
    heartbeatTTL: "1h"
    macroExpand:
      functionPrefix: "fed_"
      bestEffort: false
      folder: "facades"
"#;

fn document(yaml: &str) -> ADXCluster {
    parse_documents(yaml).unwrap().remove(0)
}

/// The document with the value at a JSON pointer set, or taken away by null.
fn with(yaml: &str, changes: &[(&str, Value)]) -> ADXCluster {
    let mut value = serde_json::to_value(document(yaml)).unwrap();
    for (pointer, new) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = value.pointer_mut(parent).unwrap();
        match parent {
            Value::Object(object) if new.is_null() => drop(object.remove(key)),
            Value::Object(object) => drop(object.insert(key.to_owned(), new.clone())),
            Value::Array(array) => array.push(new.clone()),
            _ => panic!("{pointer}"),
        }
    }
    serde_json::from_value(value).unwrap()
}

fn broken(cluster: &ADXCluster) -> Vec<String> {
    match validate(cluster) {
        Ok(_) => Vec::new(),
        Err(Violations(violations)) => violations.iter().map(ToString::to_string).collect(),
    }
}

const FEDERATION: &str = "/spec/federation/";

#[test]
fn the_seeds_partition_is_valid() {
    let config = partition_config(&document(PARTITION)).unwrap();
    assert_eq!(config.name, "eu-partition");
    assert_eq!(config.endpoint.as_str(), "https://eu.westeurope.kusto.windows.net");
    assert_eq!(config.credential, CredentialConfig::ManagedIdentity { client_id: None });
    assert_eq!(config.schedule, Schedule::Interval { every: Duration::from_secs(600) });
    assert_eq!(Value::from_iter(config.partitioning), json!({"geo": "EU", "location": "westeurope"}));
    let [HubTarget { path, endpoint, database, table, credential }] = &config.hubs[..] else { panic!("one hub") };
    assert_eq!(path, "spec.federation.federatedClusters[0]");
    assert_eq!(endpoint.as_str(), "https://federated.kusto.windows.net");
    assert_eq!((database.as_str(), table.as_str()), ("FleetDiscovery", "Heartbeats"));
    assert_eq!(*credential, CredentialConfig::ManagedIdentity { client_id: Some("xxxx-xxxx".to_owned()) });
}

#[test]
fn the_seeds_hub_is_valid_and_what_it_leaves_out_has_defaults() {
    let config = hub_config(&document(HUB)).unwrap();
    assert_eq!(config.heartbeat_database.as_str(), "FleetDiscovery");
    assert_eq!(config.heartbeats, HeartbeatSource::Shared(TableName::new("Beats").unwrap()));
    assert_eq!(config.function_prefix, "fed_");
    assert_eq!(config.folder, "facades");
    assert!(!config.best_effort);
    let bare =
        with(HUB, &[("/spec/federation/macroExpand", Value::Null), ("/spec/federation/heartbeatTTL", Value::Null)]);
    let config = hub_config(&bare).unwrap();
    assert_eq!(config.heartbeat_ttl, Duration::from_secs(3_600));
    assert_eq!(config.heartbeat_interval, Duration::from_secs(600));
    assert_eq!(config.heartbeat_retention, Duration::from_secs(7 * 86_400));
    let short = with(
        HUB,
        &[("/spec/federation/heartbeatRetention", json!("1h")), ("/spec/federation/heartbeatTTL", json!("1h"))],
    );
    assert_eq!(hub_config(&short).unwrap().heartbeat_retention, Duration::from_secs(2 * 3_600));
    assert_eq!(config.schedule, Schedule::Interval { every: Duration::from_secs(600) });
    assert_eq!((config.function_prefix.as_str(), config.folder.as_str()), ("federated_", "federation_facades"));
    assert!(config.best_effort);
}

#[test]
fn adx_mons_partition_is_valid_unchanged() {
    // Its second name, its CRD's default of heartbeatTTL, an empty client id, no partitioning: with adx-mon this one never beats.
    let target = json!([{"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "D", "heartbeatTable": "T",
                         "managedIdentityClientId": ""}]);
    let cluster = with(
        PARTITION,
        &[
            ("/spec/federation/federatedClusters", Value::Null),
            ("/spec/federation/federatedTargets", target),
            ("/spec/federation/heartbeatTTL", json!("1h")),
            ("/spec/federation/partitioning", Value::Null),
            ("/spec/criteriaExpression", json!("region == 'eu'")),
        ],
    );
    let config = partition_config(&cluster).unwrap();
    assert_eq!(config.hubs[0].credential, CredentialConfig::ManagedIdentity { client_id: None });
    assert!(config.partitioning.is_empty());
}

#[test]
fn with_tables_of_their_own_hub_and_partition_agree_on_their_names() {
    let own = ("/spec/federation/heartbeatTables", json!("PerPartition"));
    let allowed = |partitions: Value| ("/spec/federation/allowedPartitions", partitions);
    let eu = "https://eu.westeurope.kusto.windows.net";
    let hub = hub_config(&with(HUB, &[own.clone(), allowed(json!([eu]))])).unwrap();
    let table = json!({"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "FleetDiscovery", "heartbeatTable": "Beats", "heartbeatTables": "PerPartition"});
    let partition = partition_config(&with(PARTITION, &[("/spec/federation/federatedClusters", json!([table]))]));
    let partition = partition.unwrap();
    assert_eq!(hub.heartbeats.tables().collect::<Vec<_>>(), [&partition.hubs[0].table]);
    assert_eq!(partition.hubs[0].table.as_str(), "Beats_eu_westeurope_kusto_windows_net");
    let both = json!(["http://127.0.0.1:80", "https://127.0.0.1:80"]);
    let shared = broken(&with(HUB, &[own, allowed(both)])).join("\n");
    assert!(shared.contains("https://127.0.0.1:80 would share Beats_127_0_0_1___80"), "{shared}");
}

#[test]
fn credentials_are_the_sections_own_and_loopback_has_none() {
    let credential = |cluster: &ADXCluster| hub_config(cluster).unwrap().credential;
    let id = |id: &str| CredentialConfig::ManagedIdentity { client_id: Some(id.to_owned()) };
    let provision = ("/spec/provision", json!({"managedIdentityClientId": "provisioned"}));
    assert_eq!(credential(&with(HUB, std::slice::from_ref(&provision))), id("provisioned"));
    let section = ("/spec/federation/managedIdentityClientId", json!("section"));
    assert_eq!(credential(&with(HUB, &[provision.clone(), section])), id("section"));
    for (spec, expected) in [
        (json!({"azureCli": {}}), CredentialConfig::AzureCli),
        (json!({"workloadIdentity": {}}), CredentialConfig::WorkloadIdentity { client_id: None, tenant_id: None }),
        (json!({"managedIdentity": {"clientId": "own"}}), id("own")),
        (json!({"managedIdentity": {}}), CredentialConfig::ManagedIdentity { client_id: None }),
    ] {
        let cluster = with(HUB, &[provision.clone(), ("/spec/federation/credential", spec.clone())]);
        assert_eq!(credential(&cluster), expected, "{spec}");
        let loopback =
            with(HUB, &[("/spec/endpoint", json!("http://127.0.0.1:8080")), ("/spec/federation/credential", spec)]);
        assert_eq!(credential(&loopback), CredentialConfig::None);
    }
}

#[test]
fn schedules_are_intervals_or_cron() {
    let cluster = with(PARTITION, &[("/spec/federation/heartbeatInterval", json!("30s"))]);
    assert_eq!(partition_config(&cluster).unwrap().schedule, Schedule::Interval { every: Duration::from_secs(30) });
    let cluster = with(HUB, &[("/spec/federation/reconcileSchedule", json!("*/5 * * * *"))]);
    assert!(
        matches!(hub_config(&cluster).unwrap().schedule, Schedule::Cron(cron) if cron.to_string() == "*/5 * * * *")
    );
}

#[test]
fn every_rule_names_path_value_and_itself() {
    let kusto = "a Kusto name holds letters, digits, '_', ' ', '.' and '-' only";
    let hub_only = "must be absent: it belongs to role Federated";
    let partition_only = "must be absent: it belongs to role Partition";
    let federation = |field: &str| format!("{FEDERATION}{field}");
    let agents_name = "must be at most 52 lower-case letters, digits and hyphens, beginning with a letter: its agent's objects are named after it";
    let secret = "must not be what may be a secret, by its name (such as sig) or by its text (such as an address with a query): hubs do not use it";
    let hubs = |number: usize| -> Value {
        let hub = |number| json!({"endpoint": format!("https://hub{number}.kusto.windows.net"), "heartbeatDatabase": "D", "heartbeatTable": "T"});
        (0..number).map(hub).collect()
    };
    let cases: Vec<(&str, String, Value, String)> = vec![
        (HUB, "/spec/clusterName".into(), json!("a_b"), "spec.clusterName = a_b: must be 1 to 100 letters, digits and hyphens".into()),
        (HUB, "/spec/clusterName".into(), json!(""), "spec.clusterName = \"\": must be 1 to 100 letters, digits and hyphens".into()),
        (HUB, "/metadata/name".into(), Value::Null, "metadata.name = absent: must be given".into()),
        (HUB, "/spec/endpoint".into(), Value::Null, "spec.endpoint = absent: must be given: an agent needs the cluster's address".into()),
        (HUB, "/spec/endpoint".into(), json!("http://hub.kusto.windows.net"), "spec.endpoint = http://hub.kusto.windows.net: plain http is accepted for loopback addresses only".into()),
        (HUB, "/spec/federation".into(), Value::Null, "spec.federation = absent: must be present for role Federated: it names the heartbeat table".into()),
        (HUB, federation("heartbeatDatabase"), Value::Null, "spec.federation.heartbeatDatabase = absent: must be given for role Federated".into()),
        (HUB, federation("heartbeatTable"), Value::Null, "spec.federation.heartbeatTable = absent: must be given for role Federated".into()),
        (HUB, federation("heartbeatTable"), json!("a'b"), format!("spec.federation.heartbeatTable = a'b: must be a Kusto name: the table name \"a'b\" holds '\\'': {kusto}")),
        (HUB, federation("heartbeatDatabase"), json!("a\nb"), format!("spec.federation.heartbeatDatabase = a\\nb: must be a Kusto name: the database name \"a\\nb\" holds '\\n': {kusto}")),
        (HUB, federation("heartbeatTTL"), json!("29m"), "spec.federation.heartbeatTTL = 29m: must be at least 3 x heartbeatInterval (10m)".into()),
        (HUB, federation("heartbeatTTL"), json!("60"), "spec.federation.heartbeatTTL = 60: must have a unit: ms, s, m, h or d, such as 10m".into()),
        (HUB, federation("heartbeatTTL"), json!("0s"), "spec.federation.heartbeatTTL = 0s: must be longer than zero".into()),
        (HUB, federation("heartbeatTTL"), json!("-1h"), "spec.federation.heartbeatTTL = -1h: must be longer than zero".into()),
        (HUB, federation("heartbeatTTL"), json!("soon"), "spec.federation.heartbeatTTL = soon: must be a duration such as 10s, 10m, 1h30m or 7d".into()),
        (HUB, federation("heartbeatTTL"), json!("4000d"), "spec.federation.heartbeatTTL = 4000d: must be at most 3650d".into()),
        (HUB, federation("heartbeatInterval"), json!("30m"), "spec.federation.heartbeatTTL = 1h: must be at least 3 x heartbeatInterval (30m)".into()),
        (HUB, federation("heartbeatRetention"), json!("30m"), "spec.federation.heartbeatRetention = 30m: must be at least heartbeatTTL (1h)".into()),
        (HUB, federation("reconcileSchedule"), json!("hourly"), "spec.federation.reconcileSchedule = hourly: must have five cron fields (minute, hour, day of month, month, day of week), such as */10 * * * *; it has 1".into()),
        (HUB, federation("macroExpand"), json!({"functionPrefix": ""}), "spec.federation.macroExpand.functionPrefix = \"\": must not be empty: the functions would hide the hub's own tables".into()),
        (HUB, federation("macroExpand"), json!({"functionPrefix": "a("}), format!("spec.federation.macroExpand.functionPrefix = a(: must begin a Kusto name: the function name \"a(T\" holds '(': {kusto}")),
        (HUB, federation("macroExpand"), json!({"folder": "a\tb"}), "spec.federation.macroExpand.folder = a\\tb: must be 1 to 256 characters without control characters".into()),
        (HUB, federation("credential"), json!({}), "spec.federation.credential = {}: must have exactly one of managedIdentity, workloadIdentity and azureCli".into()),
        (HUB, federation("credential"), json!({"azureCli": {}, "workloadIdentity": {}}), "spec.federation.credential = workloadIdentity, azureCli: must have exactly one of managedIdentity, workloadIdentity and azureCli".into()),
        (HUB, federation("federatedClusters"), json!([]), format!("spec.federation.federatedClusters = 0 entries: {partition_only}")),
        (HUB, federation("federatedTargets"), json!([]), format!("spec.federation.federatedTargets = 0 entries: {partition_only}")),
        (HUB, federation("partitioning"), json!({"geo": "EU"}), format!("spec.federation.partitioning = 1 entry: {partition_only}")),
        (HUB, federation("heartbeatSchedule"), json!("* * * * *"), format!("spec.federation.heartbeatSchedule = * * * * *: {partition_only}")),
        (HUB, "/spec/databases".into(), json!([{"databaseName": "a-b", "telemetryType": "Logs"}]), "spec.databases[0].databaseName = a-b: must be 1 to 64 letters, digits and underscores".into()),
        (HUB, "/spec/databases".into(), json!([{"databaseName": "A", "telemetryType": "Logs"}, {"databaseName": "a", "telemetryType": "Logs"}]), "spec.databases[1].databaseName = a: must be listed once: Kusto's database names ignore case".into()),
        (HUB, federation("membership"), json!({"suspectAfterMissedBeats": 5}), "spec.federation.membership.suspectAfterMissedBeats = 5: must make a partition suspect before it expires: with heartbeatInterval 10m and heartbeatTTL 1h at most 4".into()),
        (HUB, federation("heartbeatTables"), json!("PerPartition"), "spec.federation.heartbeatTables = PerPartition: must have the partitions in allowedPartitions, and no allowedPartitionPattern: there is a table for each".into()),
        (PARTITION, federation("heartbeatTables"), json!("Shared"), "spec.federation.heartbeatTables = present: must be absent: it belongs to role Federated".into()),
        (HUB, "/spec/databases".into(), json!([{"databaseName": "A", "telemetryType": "Logs", "retentionInDays": 0}]), "spec.databases[0].retentionInDays = 0: must be at least 1".into()),
        (HUB, "/spec/provision".into(), json!({"autoScaleMin": 1}), "spec.provision.autoScaleMin = 1: must be at least 2".into()),
        (HUB, "/spec/provision".into(), json!({"autoScaleMin": 12}), "spec.provision.autoScaleMax = 10: must be at least autoScaleMin (12)".into()),
        (PARTITION, federation("federatedClusters"), Value::Null, "spec.federation.federatedClusters = absent: must name at least one hub for role Partition".into()),
        (PARTITION, federation("federatedTargets"), json!([]), "spec.federation.federatedTargets = 0 entries: must not be set beside federatedClusters: it is its second name".into()),
        (PARTITION, federation("federatedClusters/-"), json!({"endpoint": "https://FEDERATED.kusto.windows.net/", "heartbeatDatabase": "D", "heartbeatTable": "T"}), "spec.federation.federatedClusters[1].endpoint = https://FEDERATED.kusto.windows.net/: must be listed once: each hub gets one heartbeat".into()),
        (PARTITION, federation("federatedClusters/-"), json!({"endpoint": "hub", "heartbeatDatabase": "D", "heartbeatTable": "T"}), "spec.federation.federatedClusters[1].endpoint = hub: it must start with https://".into()),
        (PARTITION, federation("federatedClusters/-"), json!({"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "D", "heartbeatTable": "T", "managedIdentityClientId": "a", "credential": {"azureCli": {}}}), "spec.federation.federatedClusters[1].managedIdentityClientId = a: must not be set beside credential: write credential.managedIdentity.clientId".into()),
        (PARTITION, federation("partitioning"), json!({"geo": ["EU"]}), "spec.federation.partitioning.geo = [\"EU\"]: must be a text, a number or a boolean".into()),
        (PARTITION, federation("partitioning"), json!({"runbook": "https://wiki.example/x?page=3"}), format!("spec.federation.partitioning.runbook = …: {secret}")),
        (PARTITION, federation("partitioning"), json!({"sig": "storage"}), format!("spec.federation.partitioning.sig = …: {secret}")),
        (PARTITION, federation("partitioning"), json!({"pwd": ["hunter2"]}), format!("spec.federation.partitioning.pwd = …: {secret}")),
        (PARTITION, federation("partitioning"), json!({"https://me:hunter2@x": 1}), format!("spec.federation.partitioning.https://…@x = …: {secret}")),
        (PARTITION, federation("partitioning"), json!({" ": "EU"}), "spec.federation.partitioning =  : must not have an empty attribute name".into()),
        (PARTITION, federation("partitioning"), json!({"geo": "E\u{7}U"}), "spec.federation.partitioning.geo = E\\u{7}U: must have no control characters".into()),
        (PARTITION, federation("partitioning"), json!({"g\teo": "EU"}), "spec.federation.partitioning.g\\teo = EU: must have no control characters".into()),
        (PARTITION, federation("partitioning"), json!({"geo": "E".repeat(257)}), format!("spec.federation.partitioning.geo = {}: must have at most 256 characters, as must its name", "E".repeat(128))),
        (PARTITION, federation("partitioning"), json!({"g".repeat(257): "EU"}), format!("spec.federation.partitioning.{} = EU: must have at most 256 characters, as must its name", "g".repeat(257))),
        (PARTITION, federation("partitioning"), (0..65).map(|number| (format!("a{number}"), json!(1))).collect::<serde_json::Map<_, _>>().into(), "spec.federation.partitioning = 65 entries: must have at most 64 attributes".into()),
        (PARTITION, federation("heartbeatInterval"), json!("1ms"), "spec.federation.heartbeatInterval = 1ms: must be at least 100ms".into()),
        (HUB, federation("reconcileInterval"), json!("1ns"), "spec.federation.reconcileInterval = 1ns: must be at least 100ms".into()),
        (HUB, federation("heartbeatInterval"), json!("99ms"), "spec.federation.heartbeatInterval = 99ms: must be at least 100ms".into()),
        (HUB, "/metadata/name".into(), json!("a.b"), format!("metadata.name = a.b: {agents_name}")),
        (HUB, "/metadata/name".into(), json!("1a"), format!("metadata.name = 1a: {agents_name}")),
        (HUB, "/metadata/name".into(), json!("a".repeat(53)), format!("metadata.name = {}: {agents_name}", "a".repeat(53))),
        (HUB, "/metadata/name".into(), json!("a_b"), "metadata.name = a_b: must be 1 to 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends, as Kubernetes names objects".into()),
        (HUB, federation("entityGroups"), json!(vec![json!({"by": "geo"}); 17]), "spec.federation.entityGroups = 17 entries: must have at most 16 entries".into()),
        (HUB, federation("entityGroups"), json!([{"by": "g".repeat(257)}]), format!("spec.federation.entityGroups[0].by = {}: must have at most 256 characters; it has 257", "g".repeat(128))),
        (HUB, federation("acknowledgedPlan"), json!("a".repeat(65)), format!("spec.federation.acknowledgedPlan = {}: must have at most 64 characters; it has 65", "a".repeat(65))),
        (HUB, federation("heartbeatTTL"), json!("1h".repeat(17)), format!("spec.federation.heartbeatTTL = {}: must have at most 32 characters; it has 34", "1h".repeat(17))),
        (HUB, federation("allowedPartitions"), json!(["https://eu.kusto.windows.net", "http://x.kusto.windows.net"]), "spec.federation.allowedPartitions[1] = http://x.kusto.windows.net: plain http is accepted for loopback addresses only".into()),
        (HUB, federation("blockedPartitions"), json!(["x.kusto.windows.net"]), "spec.federation.blockedPartitions[0] = x.kusto.windows.net: it must start with https://".into()),
        (HUB, federation("allowedPartitionPattern"), json!("a b"), "spec.federation.allowedPartitionPattern = a b: must be a host name in which '*' stands for any characters, such as *.westeurope.kusto.windows.net".into()),
        (HUB, federation("blockedPartitions"), json!(vec!["https://x.kusto.windows.net"; 5001]), "spec.federation.blockedPartitions = 5001 entries: must have at most 5000 entries".into()),
        (HUB, "/spec/criteriaExpression".into(), json!("a".repeat(1025)), format!("spec.criteriaExpression = {}: must have at most 1024 characters; it has 1025", "a".repeat(128))),
        (PARTITION, federation("federatedClusters"), hubs(65), "spec.federation.federatedClusters = 65 entries: must have at most 64 entries".into()),
        (PARTITION, federation("heartbeatDatabase"), json!("D"), format!("spec.federation.heartbeatDatabase = D: {hub_only}")),
        (PARTITION, federation("heartbeatTable"), json!("T"), format!("spec.federation.heartbeatTable = T: {hub_only}")),
        (PARTITION, federation("heartbeatRetention"), json!("7d"), format!("spec.federation.heartbeatRetention = 7d: {hub_only}")),
        (PARTITION, federation("reconcileInterval"), json!("7d"), format!("spec.federation.reconcileInterval = 7d: {hub_only}")),
        (PARTITION, federation("reconcileSchedule"), json!("* * * * *"), format!("spec.federation.reconcileSchedule = * * * * *: {hub_only}")),
        (PARTITION, federation("macroExpand"), json!({}), format!("spec.federation.macroExpand = present: {hub_only}")),
        (PARTITION, federation("heartbeatSchedule"), json!("0 0 30 2 *"), "spec.federation.heartbeatSchedule = 0 0 30 2 *: must have a next time: no day matches it".into()),
    ];
    for (yaml, pointer, value, message) in cases {
        assert_eq!(broken(&with(yaml, &[(&pointer, value)])), [message], "{pointer}");
    }
}

#[test]
fn interval_and_cron_exclude_each_other() {
    let cluster = with(
        PARTITION,
        &[
            ("/spec/federation/heartbeatInterval", json!("1m")),
            ("/spec/federation/heartbeatSchedule", json!("* * * * *")),
        ],
    );
    assert_eq!(
        broken(&cluster),
        ["spec.federation.heartbeatSchedule = * * * * *: must not be set beside heartbeatInterval"]
    );
}

#[test]
fn a_partitions_time_to_live_must_cover_three_of_its_own_intervals() {
    let times = |ttl: &str, interval: Option<&str>| {
        with(
            PARTITION,
            &[
                ("/spec/federation/schemaInBeats", json!("OnChange")),
                ("/spec/federation/heartbeatTTL", json!(ttl)),
                ("/spec/federation/heartbeatInterval", interval.map_or(Value::Null, |interval| json!(interval))),
            ],
        )
    };
    let rule = "spec.federation.heartbeatTTL = 1h: must be at least 3 x heartbeatInterval (30m)";
    assert_eq!(broken(&times("1h", Some("30m"))), [rule]);
    assert!(partition_config(&times("90m", Some("30m"))).is_ok());
    assert_eq!(broken(&times("1m", None)).len(), 1);
    // adx-mon's definition writes a time to live into every section: one that sends its schema always needs none.
    let mut always = times("1h", Some("30m"));
    always.spec.federation.as_mut().expect("it has one").schema_in_beats = None;
    assert!(partition_config(&always).is_ok());
}

#[test]
fn an_unchanged_schema_rests_for_half_of_the_time_to_live_where_the_document_lets_it() {
    let rests = |schema_in_beats: Value, time_to_live: Value| {
        let fields =
            [("/spec/federation/schemaInBeats", schema_in_beats), ("/spec/federation/heartbeatTTL", time_to_live)];
        partition_config(&with(PARTITION, &fields)).unwrap().schema_rests
    };
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    for (time_to_live, half) in [(json!("1h"), 30), (json!("3h"), 90), (Value::Null, 30)] {
        assert_eq!(rests(json!("OnChange"), time_to_live.clone()), minutes(half), "{time_to_live}");
        for always in [json!("Always"), Value::Null] {
            assert_eq!(rests(always.clone(), time_to_live.clone()), None, "{always} {time_to_live}");
        }
    }
}

#[test]
fn a_partition_that_is_in_no_federation_may_have_any_name_that_kubernetes_takes() {
    let name = format!("1.{}", "a".repeat(200));
    let plain = with(PARTITION, &[("/spec/federation", Value::Null), ("/metadata/name", json!(name))]);
    assert!(validate(&plain).is_ok());
}

#[test]
fn no_password_and_no_query_of_an_endpoint_is_shown() {
    for (endpoint, shown) in [
        ("https://me:hunter2@hub.kusto.windows.net", "https://…@hub.kusto.windows.net"),
        ("https://hub.kusto.windows.net/db?sig=hunter2", "https://hub.kusto.windows.net/db?…"),
        ("me:hunter2@hub", "…@hub"),
    ] {
        let target = json!({"endpoint": endpoint, "heartbeatDatabase": "D", "heartbeatTable": "T"});
        for (yaml, pointer, value) in [
            (HUB, "/spec/endpoint", json!(endpoint)),
            (HUB, "/spec/federation/blockedPartitions", json!([endpoint])),
            (PARTITION, "/spec/federation/federatedClusters/-", target),
        ] {
            let told = broken(&with(yaml, &[(pointer, value)])).join("; ");
            assert!(told.contains(shown) && !told.contains("hunter2"), "{told}");
        }
    }
}

#[test]
fn no_secret_of_a_value_that_is_no_endpoint_is_shown() {
    for (value, shown) in [
        ("?sv=2024&sig=hunter2 Password=hunter2", "spec.x = ?sv=2024&sig=… Password=…: must be another"),
        ("Bearer hunter2-hunter2-hunter2", "spec.x = Bearer …: must be another"),
        (r#"["me:hunter2@x.example"]"#, r#"spec.x = ["…@x.example"]: must be another"#),
    ] {
        assert_eq!(Violation::new("spec.x", value, "must be another").to_string(), shown);
    }
    for (path, shown) in [
        ("metadata.labels.https://me:hunter2@x", "metadata.labels.https://…@x = 7: must be a text"),
        ("metadata.labels.Password=hunter2", "metadata.labels.Password=… = 7: must be a text"),
        ("metadata.labels.db-password", "metadata.labels.db-password = …: must be a text"),
    ] {
        assert_eq!(Violation::new(path, 7, "must be a text").to_string(), shown);
    }
}

#[test]
fn a_cron_expression_may_stand_in_place_of_an_interval() {
    let cluster = with(PARTITION, &[("/spec/federation/heartbeatSchedule", json!("*/5 * * * *"))]);
    let config = partition_config(&cluster).unwrap();
    assert_eq!(config.schedule, Schedule::Cron("*/5 * * * *".parse().unwrap()));
    let cluster = with(HUB, &[("/spec/federation/reconcileSchedule", json!("7 * * * *"))]);
    assert_eq!(hub_config(&cluster).unwrap().schedule, Schedule::Cron("7 * * * *".parse().unwrap()));
}

#[test]
fn all_broken_rules_are_told_at_once() {
    let cluster = with(
        HUB,
        &[
            ("/spec/clusterName", json!("?")),
            ("/spec/endpoint", json!("ftp://x")),
            ("/spec/federation/heartbeatTTL", json!("x")),
            ("/spec/federation/reconcileInterval", json!("5")),
        ],
    );
    assert_eq!(
        broken(&cluster),
        [
            "spec.clusterName = ?: must be 1 to 100 letters, digits and hyphens",
            "spec.endpoint = ftp://x: it must start with https://",
            "spec.federation.heartbeatTTL = x: must be a duration such as 10s, 10m, 1h30m or 7d",
            "spec.federation.reconcileInterval = 5: must have a unit: ms, s, m, h or d, such as 10m",
        ]
    );
    let error = validate(&cluster).unwrap_err().to_string();
    assert!(error.starts_with("the document breaks its rules; spec.clusterName = ?: must"), "{error}");
}

#[test]
fn an_agent_takes_documents_of_its_role_only() {
    let message = |violations: Violations| violations.0[0].to_string();
    assert_eq!(
        message(partition_config(&document(HUB)).unwrap_err()),
        "spec.role = Federated: must be Partition for agent-partition; agent-hub works from this document"
    );
    assert_eq!(
        message(hub_config(&document(PARTITION)).unwrap_err()),
        "spec.role = Partition: must be Federated for agent-hub; agent-partition works from this document"
    );
    let none = with(PARTITION, &[("/spec/role", Value::Null)]);
    assert_eq!(
        message(hub_config(&none).unwrap_err()),
        "spec.role = absent, which means Partition: must be Federated for agent-hub; agent-partition works from this document"
    );
    assert!(partition_config(&none).is_ok());
    let plain = with(PARTITION, &[("/spec/federation", Value::Null)]);
    assert_eq!(
        message(partition_config(&plain).unwrap_err()),
        "spec.federation = absent: must be present for agent-partition: it names the hubs"
    );
    assert!(matches!(validate(&plain), Ok(Validated::Partition(config)) if config.hubs.is_empty()));
}

#[test]
fn a_document_that_is_still_to_be_provisioned_needs_no_endpoint() {
    assert_eq!(check(&with(HUB, &[("/spec/endpoint", Value::Null)])), []);
    assert_eq!(check(&with(HUB, &[("/spec/endpoint", json!("x"))])).len(), 1);
}
