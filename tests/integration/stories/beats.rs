//! The partition agent's heartbeats under trouble.

#![allow(clippy::panic)] // A failed expectation is what a story is for.

use std::{collections::BTreeMap, fs};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, Pace},
    kusto::{KustoServer, Table},
    telemetry::{REGIONS, Region},
};

use crate::{
    faulty_hub::BEAT,
    support::{SOON, end, until_printed, until_regions, until_so},
};

/// Where a beat goes that is streamed.
const STREAMING: &str = "/v1/rest/ingest/FleetDiscovery/Heartbeats";

const BEATS: &str = "Heartbeats | summarize Beats = count(), WithTables = countif(tostring(Schema) has 'Requests')";

/// A fleet whose heartbeat table exists; no agent runs.
async fn with_table(pace: Pace) -> Fleet {
    let fleet = Fleet::start(pace).await.expect("the servers take the telemetry");
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &["--once"]);
    assert_eq!(hub.exited_within(SOON).await.code(), Some(3), "{}", hub.output());
    fleet
}

/// What our agents have sent to a server, path and text of each request; the text of what is streamed is empty.
fn sent(server: &KustoServer) -> Vec<(String, String)> {
    let recording = fs::read_to_string(&server.recording).expect("the file is there");
    let lines = recording.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let is_ours = |line: &Value| line["client_request_id"].as_str().is_some_and(|id| id.starts_with("adx-federation."));
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    lines.filter(is_ours).map(|line| (text(&line, "path"), text(&line, "csl"))).collect()
}

fn counted(table: &Table) -> (u64, u64) {
    let count = |name: &str| table.column(name)[0].parse().expect("a count is a number");
    (count("Beats"), count("WithTables"))
}

async fn beats(fleet: &Fleet) -> (u64, u64) {
    counted(&fleet.hub.query("FleetDiscovery", BEATS).await.expect("the hub counts"))
}

/// Waits until so many more beats have come, and counts then.
async fn until_more(fleet: &Fleet, more: u64) -> (u64, u64) {
    let (before, _) = beats(fleet).await;
    let are_there = |table: &Table| counted(table).0 >= before + more;
    counted(&fleet.hub_until("FleetDiscovery", BEATS, SOON, are_there).await)
}

/// Waits until beats have the schema, and says how many had none: on a slow machine the first do not wait for what the cluster holds.
async fn until_whole(fleet: &Fleet) -> u64 {
    fleet.hub_until("FleetDiscovery", BEATS, SOON, |table| counted(table).1 > 0).await;
    // One that was late is there by then, too.
    let (all, whole) = until_more(fleet, 2).await;
    all - whole
}

#[tokio::test]
async fn a_beat_without_any_known_schema_still_tells_that_the_partition_lives() {
    let fleet = with_table(Pace::PATIENT).await;
    let mut home = KustoServer::start_faulty(&["Logs"], &fleet.recording("home")).await;
    home.fail(&json!([{"text": ".show databases entities", "fault": {"status": 503}}]));
    let mut agent = fleet.start_agent("agent-partition", &fleet.partition_document(&REGIONS[0], &home), &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(1), "partly done: {}", agent.output());
    let row = "Heartbeats | project HasSchema = isnotnull(Schema), Geo = tostring(PartitionMetadata.geo)";
    let table = fleet.hub.query("FleetDiscovery", row).await.expect("the hub answers");
    assert_eq!((table.column("HasSchema"), table.column("Geo")), (vec!["false".to_owned()], vec!["EU".to_owned()]));
    home.process().stop().await;
    end(fleet, []).await;
}

/// A hub believes that a database is gone by what the cluster tells, not by an agent that says the same again.
#[tokio::test]
async fn what_the_cluster_has_not_told_at_two_beats_in_a_row_is_called_stale_until_it_is_told_again() {
    let fleet = with_table(Pace::FAST).await;
    let mut home = KustoServer::start_faulty(&["Logs"], &fleet.recording("home")).await;
    home.command("Logs", ".create table A (x:long)").await.expect("the cluster takes a table");
    let mut agent = fleet.start_agent("agent-partition", &fleet.partition_document(&REGIONS[0], &home), &[]);
    let stale = "Heartbeats | extend At = ingestion_time() | where isnotnull(Schema) | summarize arg_max(At, Schema) | project Stale = tostring(Schema[0].stale), Tables = tostring(Schema[0].tables)";
    let until = async |is_stale: &str| {
        let told = [is_stale.to_owned(), "[\"A\"]".to_owned()];
        fleet
            .hub_until("FleetDiscovery", stale, SOON, |table| table.text_rows().first().is_some_and(|row| *row == told))
            .await;
    };
    until("").await;
    home.fail(&json!([{"text": ".show databases entities", "fault": {"status": 503}}]));
    until("true").await;
    home.fail(&json!([]));
    until("").await;
    agent.stop().await;
    home.process().stop().await;
    end(fleet, []).await;
}

#[tokio::test]
async fn where_streaming_is_off_heartbeats_go_by_command() {
    let fleet = with_table(Pace::PATIENT).await;
    let off = ".alter table Heartbeats policy streamingingestion disable";
    fleet.hub.command("FleetDiscovery", off).await.expect("the hub takes the policy");
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let of_the_hubs_agent = sent(&fleet.hub).len();
    let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    assert_eq!(beats(&fleet).await, (1, 1));
    // Who may ingest into the table may do both, and nothing else is asked.
    let sent = sent(&fleet.hub).split_off(of_the_hubs_agent);
    let [(streamed, _), (path, command)] = &sent[..] else { panic!("a beat, by both ways: {sent:#?}") };
    assert_eq!((streamed.as_str(), path.as_str()), (STREAMING, "/v1/rest/mgmt"));
    assert!(command.starts_with(BEAT), "{command}");
    end(fleet, []).await;
}

#[tokio::test]
async fn a_hub_that_hangs_keeps_no_beat_from_another() {
    let fleet = with_table(Pace::FAST).await;
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
    until_more(&fleet, 5).await;
    until_printed(&agent, "no full answer came within").await;
    end(fleet, [agent]).await;
}

#[tokio::test]
async fn a_cluster_that_lists_nothing_is_not_believed_and_keeps_its_schema() {
    let fleet = with_table(Pace::FAST).await;
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let agent = fleet.start_agent("agent-partition", &document, &[]);
    until_whole(&fleet).await;
    let bare = "Heartbeats | where isnull(Schema) or array_length(Schema) == 0 | count";
    let at_first = fleet.hub.query("FleetDiscovery", bare).await.expect("the hub counts");
    for database in ["Logs", "Metrics"] {
        let tables = fleet.partitions[0].command(database, ".show tables | project TableName").await;
        for table in tables.expect("the partition answers").column("TableName") {
            let drop = format!(".drop table {table}");
            fleet.partitions[0].command(database, &drop).await.expect("the partition takes the command");
        }
        if database == "Logs" {
            // As far as the agent can see, it is gone.
            until_printed(&agent, "a database is not announced any more").await;
        }
    }
    until_printed(&agent, "the cluster lists no database, table or view any more").await;
    until_more(&fleet, 3).await;
    // While it went table by table, the last schema that listed something.
    let bare = fleet.hub.query("FleetDiscovery", bare).await.expect("the hub counts");
    assert_eq!(bare, at_first, "every beat has a schema:\n{}", agent.output());
    end(fleet, [agent]).await;
}

#[tokio::test]
async fn an_agent_that_starts_without_rights_says_nothing_of_tables() {
    let fleet = with_table(Pace::PATIENT).await;
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
    /// In seconds, how long a hub takes to answer after it has noted when it was told: longer than a process may wait for a processor.
    const SLOW: i64 = 12;
    let fleet = with_table(Pace::PATIENT).await;
    let mut hubs = Vec::new();
    for name in ["slow", "slower"] {
        let hub = KustoServer::start_faulty(&["FleetDiscovery"], &fleet.recording(name)).await;
        for command in [
            ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)",
            ".alter table Heartbeats policy streamingingestion enable",
        ] {
            hub.command("FleetDiscovery", command).await.expect("the hub takes the command");
        }
        hubs.push(hub);
    }
    let slow = json!([{"path": STREAMING, "fault": {"delay": 1000 * SLOW}}]);
    hubs.iter().for_each(|hub| hub.fail(&slow));
    let document =
        fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let target = |hub: &KustoServer| {
        format!(
            "      - endpoint: \"{}\"\n        heartbeatDatabase: FleetDiscovery\n        heartbeatTable: Heartbeats\n",
            hub.url
        )
    };
    let targets: String = hubs.iter().map(target).collect();
    let document = document.replace("    partitioning:", &format!("{targets}    partitioning:"));
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
    let slow = jiff::SignedDuration::from_secs(SLOW);
    assert!(apart < slow, "one after the other they are at least {slow} apart: {apart}");
    for hub in &mut hubs {
        hub.process().stop().await;
    }
    end(fleet, []).await;
}

#[tokio::test]
async fn every_hub_is_streamed_the_whole_schema_after_one_look_at_the_cluster() {
    let fleet = with_table(Pace::PATIENT).await;
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
    let of_the_hubs_agent = sent(&fleet.hub).len();
    let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    let logs = "Heartbeats | mv-expand Database = Schema | where Database.database == 'Logs' | project Views = tostring(Database['views']), Columns = tostring(Database.tableSchemas['Odd table'])";
    for (hub, before) in [(&fleet.hub, of_the_hubs_agent), (&second, 0)] {
        let row = hub.query("FleetDiscovery", logs).await.expect("the hub answers");
        assert_eq!(row.column("Views"), ["[\"AView\"]"]);
        assert!(
            row.column("Columns")[0].contains("odd column") && row.column("Columns")[0].contains("dynamic"),
            "{row:?}"
        );
        // Who may ingest into the table may do that, and nothing else is asked.
        let sent = sent(hub).split_off(before);
        assert_eq!(sent, [(STREAMING.to_owned(), String::new())], "one beat, and nothing else");
    }
    let asked = sent(&fleet.partitions[0]);
    let [(_, look)] = &asked[..] else { panic!("one look at the cluster for each beat, and nothing else: {asked:#?}") };
    assert!(look.contains(".show databases entities"), "{look}");
    end(fleet, []).await;
}

/// Of each endpoint, in their order, whether its beats have the schema.
fn beats_of_each(table: &Table) -> BTreeMap<String, Vec<bool>> {
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
        let fields = "    schemaInBeats: OnChange\n    heartbeatTTL: 12s\n    federatedClusters:";
        fleet.write_document(region.name, &document.replace("    federatedClusters:", fields))
    };
    let documents: Vec<_> =
        REGIONS.iter().zip(&fleet.partitions).map(|(region, server)| resting(region, server)).collect();
    let agents: Vec<_> = documents.iter().map(|document| fleet.start_agent("agent-partition", document, &[])).collect();
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    let in_order = "Heartbeats | extend At = ingestion_time() | order by ClusterEndpoint asc, At asc | project ClusterEndpoint, IsWhole = isnotnull(Schema)";
    // How many beats without a schema came between two with it.
    let rests = |beats: &[bool]| -> Vec<usize> {
        let last_whole = beats.iter().rposition(|is_whole| *is_whole).unwrap_or_default();
        beats[..last_whole].split(|is_whole| *is_whole).skip(1).map(<[bool]>::len).collect()
    };
    // Half of the time to live is six seconds, and beats come up to a quarter early. Where they are late, fewer come meanwhile, and a whole one that failed is repeated.
    let all_rest = |table: &Table| {
        let beats = beats_of_each(table);
        beats.len() == 3 && beats.values().all(|beats| rests(beats).iter().any(|bare| (4..=9).contains(bare)))
    };
    fleet.hub_until("FleetDiscovery", in_order, SOON, all_rest).await;
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
        document.replace("    partitioning:", &more).replace("heartbeatInterval: 1s", "heartbeatInterval: 10m");
    let document = fleet.write_document("before-the-hub", &document);
    let agent = fleet.start_agent("agent-partition", &document, &[]);
    until_printed(&agent, "heartbeat failed").await;
    // The beat may come before the hub's agent looks for it.
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &["--once"]);
    assert!(matches!(hub.exited_within(SOON).await.code(), Some(0 | 3)), "{}", hub.output());
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
    let mut fleet = with_table(Pace::FAST).await;
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let agent = fleet.start_agent("agent-partition", &document, &[]);
    let bare = until_whole(&fleet).await;
    fleet.partitions[0].process().signal(Signal::SIGSTOP);
    // Each would wait for two minutes.
    let (all, whole) = until_more(&fleet, 5).await;
    assert_eq!(all - whole, bare, "every beat has the schema:\n{}", agent.output());
    fleet.partitions[0].process().signal(Signal::SIGCONT);
    end(fleet, [agent]).await;
}

#[tokio::test]
async fn streaming_is_tried_again_after_some_beats_by_command() {
    let fleet = with_table(Pace::FAST).await;
    let policy = async |word: &str| {
        let command = format!(".alter table Heartbeats policy streamingingestion {word}");
        fleet.hub.command("FleetDiscovery", &command).await.expect("the hub takes the policy");
    };
    policy("disable").await;
    let agent = fleet.start_agent("agent-partition", &fleet.partition_document(&REGIONS[0], &fleet.partitions[0]), &[]);
    // How many beats went by command after each that was streamed, but for the last.
    let by_command = || -> Vec<usize> {
        let recording = fs::read_to_string(&fleet.hub.recording).expect("the recording can be read");
        let mut counts = Vec::new();
        for line in recording.lines() {
            if line.contains(STREAMING) {
                counts.push(0);
            } else if line.contains(BEAT)
                && let Some(count) = counts.last_mut()
            {
                *count += 1;
            }
        }
        counts.pop();
        counts
    };
    // Where it is refused still, it is asked for once in seven beats; sooner where the one by command was late.
    until_so(|| format!("{:?}:\n{}", by_command(), agent.output()), || by_command().contains(&7)).await;
    policy("enable").await;
    // The next one may have been refused before.
    let tried = by_command().len() + 2;
    until_so(|| format!("{:?}:\n{}", by_command(), agent.output()), || by_command().len() >= tried + 4).await;
    assert_eq!(by_command()[tried..tried + 4], [0; 4], "beats are streamed again");
    end(fleet, [agent]).await;
}
