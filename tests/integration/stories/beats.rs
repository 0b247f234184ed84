//! The partition agent's heartbeats under trouble.

#![allow(clippy::panic)] // A failed expectation is what a story is for.

use std::{collections::BTreeMap, fs, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{
    fleet::{Fleet, Pace},
    kusto::KustoServer,
    proxy::{Fault, FaultProxy},
    telemetry::{REGIONS, Region},
};
use tokio::time;

use crate::support::{SOON, end, until_printed, until_regions};

const BEATS: &str = "Heartbeats | summarize Beats = count(), WithTables = countif(tostring(Schema) has 'Requests')";

/// A fleet whose heartbeat table exists; no agent runs.
async fn with_table() -> Fleet {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &["--once"]);
    assert_eq!(hub.exited_within(SOON).await.code(), Some(3), "{}", hub.output());
    fleet
}

async fn beats(fleet: &Fleet) -> (u64, u64) {
    let table = fleet.hub.query("FleetDiscovery", BEATS).await.expect("the hub counts");
    let count = |name: &str| table.column(name)[0].parse().expect("a count is a number");
    (count("Beats"), count("WithTables"))
}

#[tokio::test]
async fn when_discovery_fails_beats_go_on_with_the_last_known_schema() {
    let fleet = with_table().await;
    let proxy = FaultProxy::start(&fleet.partitions[0].url).await;
    let document =
        fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let document = fleet.write_document("by-proxy", &document.replace(&fleet.partitions[0].url, &proxy.url));
    let agent = fleet.start_agent("agent-partition", &document, &[]);
    fleet.hub_until("FleetDiscovery", BEATS, SOON, |table| table.column("WithTables") != ["0"]).await;
    for fault in [Fault::Unavailable, Fault::Cut, Fault::Unauthorized, Fault::Html] {
        proxy.spoil(".show databases entities", fault);
        let (before, _) = beats(&fleet).await;
        time::sleep(Duration::from_secs(3)).await;
        let (all, with_tables) = beats(&fleet).await;
        assert!(all > before, "beats go on under {fault:?}:\n{}", agent.output());
        assert_eq!(all, with_tables, "every beat has the schema under {fault:?}");
        assert!(proxy.heal() > 0);
    }
    end(fleet, [agent]).await;
}

#[tokio::test]
async fn a_beat_without_any_known_schema_still_tells_that_the_partition_lives() {
    let fleet = with_table().await;
    let proxy = FaultProxy::start(&fleet.partitions[0].url).await;
    proxy.spoil(".show databases entities", Fault::Unavailable);
    let document =
        fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let document = fleet.write_document("by-proxy", &document.replace(&fleet.partitions[0].url, &proxy.url));
    let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(1), "partly done: {}", agent.output());
    let row = "Heartbeats | project HasSchema = isnotnull(Schema), Geo = tostring(PartitionMetadata.geo)";
    let table = fleet.hub.query("FleetDiscovery", row).await.expect("the hub answers");
    assert_eq!((table.column("HasSchema"), table.column("Geo")), (vec!["false".to_owned()], vec!["EU".to_owned()]));
    end(fleet, []).await;
}

#[tokio::test]
async fn where_streaming_is_off_heartbeats_go_by_command() {
    let fleet = with_table().await;
    let off = ".alter table Heartbeats policy streamingingestion disable";
    fleet.hub.command("FleetDiscovery", off).await.expect("the hub takes the policy");
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    assert_eq!(beats(&fleet).await, (1, 1));
    let recording = fs::read_to_string(&fleet.hub.recording).expect("the file is there");
    assert!(recording.contains(".ingest inline into table ['Heartbeats']"));
    end(fleet, []).await;
}

#[tokio::test]
async fn a_hub_that_hangs_keeps_no_beat_from_another() {
    let fleet = with_table().await;
    let hanging = KustoServer::start(0, &["FleetDiscovery"], &fleet.recording("hanging"), &[]).await;
    let document =
        fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let second = format!(
        "    partitioning:\n      geo: EU\n    federatedClusters:\n      - endpoint: \"{}\"\n        heartbeatDatabase: FleetDiscovery\n        heartbeatTable: Heartbeats\n",
        hanging.url
    );
    let (head, _) = document.split_once("    partitioning:").expect("the document has that section");
    let document = fleet.write_document("two-hubs", &head.replace("    federatedClusters:\n", &second));
    let mut hanging = hanging;
    hanging.process().signal(Signal::SIGSTOP);
    let agent = fleet.start_agent("agent-partition", &document, &[]);
    let many = |table: &tests::kusto::Table| table.column("Beats")[0].parse::<u64>().is_ok_and(|beats| beats >= 5);
    fleet.hub_until("FleetDiscovery", BEATS, Duration::from_secs(10), many).await;
    until_printed(&agent, "no full answer came within").await;
    end(fleet, [agent]).await;
}

#[tokio::test]
async fn a_cluster_that_lists_nothing_is_not_believed_and_keeps_its_schema() {
    let fleet = with_table().await;
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let agent = fleet.start_agent("agent-partition", &document, &[]);
    fleet.hub_until("FleetDiscovery", BEATS, SOON, |table| table.column("WithTables") != ["0"]).await;
    // On a slow machine the first beats do not wait for what the cluster holds.
    let bare = "Heartbeats | where isnull(Schema) or array_length(Schema) == 0 | count";
    let at_first = fleet.hub.query("FleetDiscovery", bare).await.expect("the hub counts");
    for database in ["Logs", "Metrics"] {
        let tables = fleet.partitions[0].command(database, ".show tables | project TableName").await;
        for table in tables.expect("the partition answers").column("TableName") {
            let drop = format!(".drop table {table}");
            fleet.partitions[0].command(database, &drop).await.expect("the partition takes the command");
        }
    }
    until_printed(&agent, "the cluster lists no database, table or view any more").await;
    let (before, _) = beats(&fleet).await;
    fleet
        .hub_until("FleetDiscovery", BEATS, SOON, |table| {
            table.column("Beats")[0].parse::<u64>().is_ok_and(|beats| beats > before + 2)
        })
        .await;
    // While it went table by table, the last schema that listed something.
    let bare = fleet.hub.query("FleetDiscovery", bare).await.expect("the hub counts");
    assert_eq!(bare, at_first, "every beat has a schema:\n{}", agent.output());
    end(fleet, [agent]).await;
}

#[tokio::test]
async fn an_agent_that_starts_without_rights_says_nothing_of_tables() {
    let fleet = with_table().await;
    let bare = KustoServer::start(0, &["Logs"], &fleet.recording("bare"), &[]).await;
    let document =
        fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let document = fleet.write_document("bare", &document.replace(&fleet.partitions[0].url, &bare.url));
    let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    assert!(agent.output().contains("the cluster lists no table or view"), "{}", agent.output());
    let rows = fleet.hub.query("FleetDiscovery", "Heartbeats | project HasSchema = isnotnull(Schema)").await;
    assert_eq!(rows.expect("the hub answers").column("HasSchema"), ["false"]);
    let mut bare = bare;
    bare.process().stop().await;
    end(fleet, []).await;
}

#[tokio::test]
async fn all_hubs_are_told_at_once() {
    let fleet = with_table().await;
    let mut hubs = Vec::new();
    for name in ["slow", "slower"] {
        let hub = KustoServer::start(0, &["FleetDiscovery"], &fleet.recording(name), &["--delay", "2000"]).await;
        for command in [
            ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)",
            ".alter table Heartbeats policy streamingingestion enable",
        ] {
            hub.command("FleetDiscovery", command).await.expect("the hub takes the command");
        }
        hubs.push(hub);
    }
    let document =
        fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let target = |hub: &KustoServer| {
        format!(
            "      - endpoint: \"{}\"\n        heartbeatDatabase: FleetDiscovery\n        heartbeatTable: Heartbeats\n",
            hub.url
        )
    };
    let targets: String = hubs.iter().map(target).collect();
    let document = document
        .replace("    partitioning:", &format!("{targets}    partitioning:"))
        .replace("heartbeatInterval: 500ms", "heartbeatInterval: 20s");
    let document = fleet.write_document("three-hubs", &document);
    let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    let told_at = |hub: &KustoServer| -> jiff::Timestamp {
        let recording = fs::read_to_string(&hub.recording).expect("the file is there");
        let mut lines = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ingested = lines.rfind(|line| line["path"].as_str().is_some_and(|path| path.contains("/rest/ingest/")));
        ingested.and_then(|line| line["time"].as_str()?.parse().ok()).expect("it was streamed the beat")
    };
    let apart = told_at(&hubs[0]).duration_since(told_at(&hubs[1])).abs();
    assert!(apart < jiff::SignedDuration::from_secs(1), "one after the other they are two seconds apart: {apart}");
    for hub in &mut hubs {
        hub.process().stop().await;
    }
    end(fleet, []).await;
}

#[tokio::test]
async fn every_hub_is_streamed_the_whole_schema_after_one_look_at_the_cluster() {
    let fleet = with_table().await;
    for command in [
        ".create table ['Odd table'] (['odd column']:dynamic, When:datetime)",
        ".create function with (view=true) AView() { Requests | take 1 }",
        ".create-or-alter function with (skipvalidation=true) AValue() { 42 }",
    ] {
        fleet.partitions[0].command("Logs", command).await.expect("the partition takes the command");
    }
    let second = KustoServer::start(0, &["FleetDiscovery"], &fleet.recording("second"), &[]).await;
    for command in [
        ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)",
        ".alter table Heartbeats policy streamingingestion enable",
    ] {
        second.command("FleetDiscovery", command).await.expect("the second hub takes the command");
    }
    let document =
        fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let more = format!(
        "      - endpoint: \"{}\"\n        heartbeatDatabase: FleetDiscovery\n        heartbeatTable: Heartbeats\n    partitioning:",
        second.url
    );
    let document = fleet.write_document("two-hubs", &document.replace("    partitioning:", &more));
    let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    let logs = "Heartbeats | mv-expand Database = Schema | where Database.database == 'Logs' | project Views = tostring(Database['views']), Columns = tostring(Database.tableSchemas['Odd table'])";
    for hub in [&fleet.hub, &second] {
        let row = hub.query("FleetDiscovery", logs).await.expect("the hub answers");
        assert_eq!(row.column("Views"), ["[\"AView\"]"]);
        assert!(
            row.column("Columns")[0].contains("odd column") && row.column("Columns")[0].contains("dynamic"),
            "{row:?}"
        );
        let sent = fs::read_to_string(&hub.recording).expect("the file is there");
        assert!(
            sent.contains("/v1/rest/ingest/FleetDiscovery/Heartbeats") && !sent.contains("into table ['Heartbeats']"),
            "{sent}"
        );
    }
    let asked = fs::read_to_string(&fleet.partitions[0].recording).expect("it is there");
    let asked = asked.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let is_ours = |line: &Value| line["client_request_id"].as_str().is_some_and(|id| id.starts_with("adx-federation."));
    let asked: Vec<Value> = asked.filter(is_ours).collect();
    let [look] = &asked[..] else { panic!("one look at the cluster for each beat, and nothing else: {asked:#?}") };
    assert!(look["csl"].as_str().is_some_and(|text| text.contains(".show databases entities")), "{look}");
    end(fleet, []).await;
}

/// Of each endpoint, in their order, whether its beats have the schema.
fn beats_of_each(table: &tests::kusto::Table) -> BTreeMap<String, Vec<bool>> {
    let mut beats = BTreeMap::<String, Vec<bool>>::new();
    for (endpoint, is_whole) in table.column("ClusterEndpoint").into_iter().zip(table.column("IsWhole")) {
        beats.entry(endpoint).or_default().push(is_whole == "true");
    }
    beats
}

#[tokio::test]
async fn an_unchanged_schema_rests_and_a_changed_one_travels_at_once() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &[]);
    let resting = |region: &Region, server: &KustoServer| {
        let document = fs::read_to_string(fleet.partition_document(region, server)).expect("the document is there");
        let fields = "    schemaInBeats: OnChange\n    heartbeatTTL: 4s\n    federatedClusters:";
        fleet.write_document(region.name, &document.replace("    federatedClusters:", fields))
    };
    let documents: Vec<_> =
        REGIONS.iter().zip(&fleet.partitions).map(|(region, server)| resting(region, server)).collect();
    let agents: Vec<_> = documents.iter().map(|document| fleet.start_agent("agent-partition", document, &[])).collect();
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    let in_order = "Heartbeats | extend At = ingestion_time() | order by ClusterEndpoint asc, At asc | project ClusterEndpoint, IsWhole = isnotnull(Schema)";
    let all_rest = |table: &tests::kusto::Table| {
        let beats = beats_of_each(table);
        beats.len() == 3 && beats.values().all(|beats| beats.iter().filter(|is_whole| **is_whole).count() >= 3)
    };
    let rows = fleet.hub_until("FleetDiscovery", in_order, SOON, all_rest).await;
    for (endpoint, beats) in beats_of_each(&rows) {
        // Half of the time to live is two seconds: five beats that are all as early as they may be, and one more where the hub was slow to take the whole one.
        let last_whole = beats.iter().rposition(|is_whole| *is_whole).unwrap_or_default();
        let bare = beats[..last_whole].split(|is_whole| *is_whole).skip(1).map(<[bool]>::len).max();
        assert!((1..=6).contains(&bare.unwrap_or_default()), "{endpoint}: {beats:?}");
    }
    let all: Vec<bool> = beats_of_each(&rows).into_values().flatten().collect();
    assert!(all.iter().filter(|is_whole| **is_whole).count() * 2 < all.len(), "{rows:?}");
    // A hub agent that starts between two whole beats finds the last one.
    hub.kill().await;
    let hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &[]);
    fleet.partitions[0].command("Logs", ".create table Fresh (a:long)").await.expect("the partition takes a table");
    let fresh = ".show functions | where Name == 'federated_Fresh'";
    fleet.hub_until("Logs", fresh, SOON, |table| table.rows.len() == 1).await;
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    end(fleet, agents.into_iter().chain([hub])).await;
}

#[tokio::test]
async fn a_beat_that_came_before_the_hubs_table_is_sent_again_soon_and_to_that_hub_only() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let prepared = KustoServer::start(0, &["FleetDiscovery"], &fleet.recording("prepared"), &[]).await;
    let table = ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)";
    prepared.command("FleetDiscovery", table).await.expect("the hub takes the command");
    let document =
        fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let more = format!(
        "      - endpoint: \"{}\"\n        heartbeatDatabase: FleetDiscovery\n        heartbeatTable: Heartbeats\n    partitioning:",
        prepared.url
    );
    let document =
        document.replace("    partitioning:", &more).replace("heartbeatInterval: 500ms", "heartbeatInterval: 10m");
    let document = fleet.write_document("before-the-hub", &document);
    let agent = fleet.start_agent("agent-partition", &document, &[]);
    until_printed(&agent, "heartbeat failed").await;
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &["--once"]);
    assert_eq!(hub.exited_within(SOON).await.code(), Some(3), "{}", hub.output());
    // By the schedule it would come after seven and a half minutes at the soonest.
    fleet.hub_until("FleetDiscovery", BEATS, SOON, |table| table.column("WithTables") == ["1"]).await;
    let rows = prepared.query("FleetDiscovery", "Heartbeats | count").await.expect("the hub counts");
    assert_eq!(rows.column("Count"), ["1"], "it had taken the beat:\n{}", agent.output());
    let asked = fs::read_to_string(&fleet.partitions[0].recording).expect("it is there");
    assert_eq!(asked.matches(".show databases entities").count(), 1, "the cluster is asked at regular beats only");
    let mut prepared = prepared;
    prepared.process().stop().await;
    end(fleet, [agent]).await;
}

#[tokio::test]
async fn a_cluster_that_hangs_keeps_no_beat_and_no_known_schema_back() {
    let mut fleet = with_table().await;
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let agent = fleet.start_agent("agent-partition", &document, &[]);
    fleet.hub_until("FleetDiscovery", BEATS, SOON, |table| table.column("WithTables") != ["0"]).await;
    fleet.partitions[0].process().signal(Signal::SIGSTOP);
    let (all, whole) = beats(&fleet).await;
    let many = |table: &tests::kusto::Table| {
        let count = |name: &str| table.column(name)[0].parse::<u64>().unwrap_or_default();
        count("WithTables") >= whole + 5 && count("Beats") - all == count("WithTables") - whole
    };
    fleet.hub_until("FleetDiscovery", BEATS, Duration::from_secs(8), many).await;
    fleet.partitions[0].process().signal(Signal::SIGCONT);
    end(fleet, [agent]).await;
}

#[tokio::test]
async fn streaming_is_tried_again_after_some_beats_by_command() {
    let fleet = with_table().await;
    let policy = async |word: &str| {
        let command = format!(".alter table Heartbeats policy streamingingestion {word}");
        fleet.hub.command("FleetDiscovery", &command).await.expect("the hub takes the policy");
    };
    policy("disable").await;
    let (streaming, inline) = ("/v1/rest/ingest/FleetDiscovery/Heartbeats", ".ingest inline into table ['Heartbeats']");
    let agent = fleet.start_agent("agent-partition", &fleet.partition_document(&REGIONS[0], &fleet.partitions[0]), &[]);
    let until = async |what: &str, count: usize| {
        let deadline = time::Instant::now() + SOON;
        while fleet.hub.recorded(what) < count {
            assert!(time::Instant::now() < deadline, "{what} {count} times:\n{}", agent.output());
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Where it is refused still, it is asked for once in seven beats.
    until(streaming, 2).await;
    assert!((6..=8).contains(&fleet.hub.recorded(inline)), "{}", fleet.hub.recorded(inline));
    policy("enable").await;
    until(streaming, 4).await;
    let by_command = fleet.hub.recorded(inline);
    until(streaming, 8).await;
    assert_eq!(fleet.hub.recorded(inline), by_command, "beats are streamed again");
    end(fleet, [agent]).await;
}
