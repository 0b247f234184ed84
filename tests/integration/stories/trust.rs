//! Whom the hub federates, and what it shows before it changes anything: lists, canaries, plans, acknowledged holds, and the status in Kusto.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;
use tests::{
    fleet::{Fleet, Pace},
    kusto::KustoServer,
    telemetry::REGIONS,
};
use tokio::time;

use crate::{
    admin::{admin_url, until},
    support::{REGIONS_SEEN, SOON, end, hub_content},
};

/// The hub's document with more fields of a federation, each line indented by four.
pub(crate) fn hub_with(fleet: &Fleet, name: &str, fields: &str) -> std::path::PathBuf {
    let document = fs::read_to_string(fleet.hub_document()).expect("the document was just written");
    fleet.write_document(name, &document.replace("    macroExpand:", &format!("{fields}\n    macroExpand:")))
}

pub(crate) async fn beats(fleet: &Fleet) {
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        let mut agent = fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &["--once"]);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    }
}

pub(crate) async fn once(fleet: &Fleet, document: &std::path::Path, how: &str) -> (Option<i32>, String) {
    let mut agent = fleet.start_agent("agent-hub", document, &[how]);
    let status = agent.exited_within(SOON).await;
    (status.code(), agent.output())
}

/// Somebody edits a function of ours in Logs, and keeps its docstring.
pub(crate) async fn edit(fleet: &Fleet, function: &str) {
    edit_to(fleet, function, "federation_facades", "()", Some("{ print Region = 'mine' }")).await;
}

/// The same, with a folder, parameters, and another text or its own.
async fn edit_to(fleet: &Fleet, function: &str, folder: &str, parameters: &str, text: Option<&str>) {
    let shown = format!(".show functions | where Name == '{function}' | project DocString, Body");
    let shown = fleet.hub.command("Logs", &shown).await.expect("the hub answers");
    let [docstring, body] = ["DocString", "Body"].map(|column| shown.column(column).remove(0));
    let text = text.unwrap_or(&body);
    let edit = format!(
        ".create-or-alter function with (folder='{folder}', docstring='{docstring}', skipvalidation=true) {function}{parameters} {text}"
    );
    fleet.hub.command("Logs", &edit).await.expect("anybody may");
}

/// The clusters in the hub's group of Logs.
async fn members(fleet: &Fleet) -> Vec<bool> {
    let groups =
        fleet.hub.command("Logs", ".show entity_groups | where Name == 'Logs_Partitions' | project Entities").await;
    let text = format!("{:?}", groups.expect("the hub answers").rows);
    fleet.partitions.iter().map(|server| text.contains(&server.url)).collect()
}

#[tokio::test]
async fn only_listed_partitions_are_federated_a_blocked_one_leaves_and_the_status_says_why() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let [europe, america, asia] = [0, 1, 2].map(|index| fleet.partitions[index].url.clone());
    let listed = hub_with(&fleet, "listed", &format!("    allowedPartitions: ['{america}', '{europe}']"));
    assert_eq!(once(&fleet, &listed, "--once").await.0, Some(3));
    beats(&fleet).await;
    let (code, output) = once(&fleet, &listed, "--plan").await;
    assert!(output.contains(&format!("not federated: {asia}: it is neither listed")), "{output}");
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(once(&fleet, &listed, "--once").await.0, Some(0));
    assert_eq!(members(&fleet).await, [true, true, false]);
    let status = fleet.hub.query("Metrics", "federation_status() | project Partition, State, Reason").await;
    let status = status.expect("the hub answers");
    let of = |url: &str| status.rows.iter().find(|row| row[0] == url).map(|row| (row[1].clone(), row[2].to_string()));
    assert_eq!(of(&america).expect("it is listed").0, "live");
    let (state, reason) = of(&asia).expect("it is told");
    assert!(state == "untrusted" && reason.contains("allowedPartitions"), "{state} {reason}");
    let blocked = hub_with(&fleet, "blocked", &format!("    blockedPartitions: ['{europe}']"));
    assert_eq!(once(&fleet, &blocked, "--once").await.0, Some(0));
    assert_eq!(members(&fleet).await, [false, true, true]);
    let told = format!("federation_status() | where Partition == '{europe}' | project State, Reason");
    let status = fleet.hub.query("Metrics", &told).await.expect("the hub answers");
    assert_eq!(status.text_rows(), [["blocked", "it is listed in blockedPartitions"]]);
    end(fleet, []).await;
}

#[tokio::test]
async fn with_a_table_for_each_partition_nobody_can_write_as_another() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let [europe, america] = [0, 1].map(|index| fleet.partitions[index].url.clone());
    let fields = format!("    heartbeatTables: PerPartition\n    allowedPartitions: ['{europe}', '{america}']");
    let document = hub_with(&fleet, "own-tables", &fields);
    assert_eq!(once(&fleet, &document, "--once").await.0, Some(3), "nobody has beaten yet");
    let beat = async |index: usize| {
        let (region, server) = (&REGIONS[index], &fleet.partitions[index]);
        let partition = fs::read_to_string(fleet.partition_document(region, server)).expect("just written");
        let target = "        heartbeatTable: Heartbeats\n";
        let own = partition.replace(target, &format!("{target}        heartbeatTables: PerPartition\n"));
        let mut agent = fleet.start_agent("agent-partition", &fleet.write_document(region.name, &own), &["--once"]);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    };
    beat(0).await;
    beat(1).await;
    let (code, output) = once(&fleet, &document, "--once").await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(members(&fleet).await, [true, true, false]);
    let before = hub_content(&fleet).await;

    // America's writer says that Europe has nothing any more.
    let table = format!("Heartbeats_127_0_0_1___{}", fleet.partitions[1].port());
    let forged = format!(".ingest inline into table {table} <|\n2026-01-01T00:00:00Z,{europe},[],{{}}\n");
    fleet.hub.command("FleetDiscovery", &forged).await.expect("America may write to its own table");
    let (code, output) = once(&fleet, &document, "--once").await;
    assert_eq!(code, Some(0), "{output}");
    let told = format!("heartbeat rows are ignored that name another cluster: written into the table of {america}");
    assert!(output.contains(&told), "{output}");
    assert_eq!(hub_content(&fleet).await, before);
    let mut agent = fleet.start_agent("agent-hub", &document, &["--admin", "127.0.0.1:0"]);
    let url = admin_url(&agent).await;
    let sample = "adx_federation_refused_heartbeats{reason=\"false_claim\"} 1";
    until(&url, "/metrics", |_, metrics| metrics.lines().any(|line| line == sample)).await;
    until(&url, "/status", |_, status| status.contains(&told)).await;
    agent.stop().await;
    let status = fleet.hub.query("Metrics", "federation_status() | project Partition, State, Guards").await;
    let status = status.expect("the hub answers");
    assert_eq!(status.column("State")[..2], ["live", "live"], "{status:?}");
    assert!(status.column("Guards").iter().all(String::is_empty), "{status:?}");

    // Somebody makes America's table anew, with a column of another type: only America is not read, and it stays.
    let made = format!(
        ".create table {table} (Timestamp:datetime, ClusterEndpoint:string, Schema:string, PartitionMetadata:dynamic)"
    );
    for command in [format!(".drop table {table}"), made] {
        fleet.hub.command("FleetDiscovery", &command).await.expect("the hub takes it");
    }
    let (code, output) = once(&fleet, &document, "--once").await;
    let told = format!("the table '{table}' in 'FleetDiscovery' has not the columns of heartbeats");
    assert!(code == Some(1) && output.contains(&told), "{output}");
    assert_eq!(hub_content(&fleet).await, before);
    let (code, plan) = once(&fleet, &document, "--plan").await;
    assert!(code == Some(1) && plan.contains(&told), "{plan}");
    let status = "federation_status() | project Partition, State, Reason";
    let status = fleet.hub.query("Metrics", status).await.expect("the hub answers").text_rows();
    let of = |url: &str| status.iter().find(|row| row[0] == *url).cloned().unwrap_or_default();
    assert_eq!(of(&europe)[1..], ["live", ""]);
    assert!(of(&america)[1] == "unknown" && of(&america)[2].contains(&told), "{status:?}");
    end(fleet, []).await;
}

#[tokio::test]
async fn a_new_partition_that_does_not_answer_its_canary_query_is_not_federated_until_it_does() {
    let mut fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let document = hub_with(&fleet, "canary", "    canary: true");
    assert_eq!(once(&fleet, &document, "--once").await.0, Some(3));
    beats(&fleet).await;
    fleet.partitions[2].process().kill().await;
    let (code, output) = once(&fleet, &document, "--once").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("state=untrusted") && output.contains("its canary query failed"), "{output}");
    assert_eq!(members(&fleet).await, [true, true, false]);
    let asia = fleet.partitions[2].url.clone();
    let told = format!("federation_status() | where Partition == '{asia}' | project State, Reason");
    let status = fleet.hub.query("Metrics", &told).await.expect("the hub answers");
    assert_eq!(status.column("State"), ["untrusted"]);
    assert!(status.column("Reason")[0].starts_with("its canary query failed"), "{status:?}");
    // What answers in its place has not what it announces.
    let record = fleet.recording("asia-again");
    fleet.partitions[2] = KustoServer::start(fleet.partitions[2].port(), &["Logs", "Metrics"], &record, &[]).await;
    let (code, output) = once(&fleet, &document, "--once").await;
    assert!(code == Some(0) && output.contains("its canary query failed"), "{output}");
    assert_eq!(members(&fleet).await, [true, true, false]);
    // It answers.
    REGIONS[2].load(&fleet.partitions[2]).await.expect("the server takes the telemetry");
    let (code, output) = once(&fleet, &document, "--once").await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(members(&fleet).await, [true, true, true], "{output}");
    let status = fleet.hub.query("Metrics", &told).await.expect("the hub answers");
    assert_eq!(status.text_rows(), [["live", ""]]);
    let regions = fleet.hub.query("Logs", REGIONS_SEEN).await.expect("the hub answers");
    assert_eq!(regions.column("Region"), ["america", "asia", "europe"]);
    // Whatever a stranger's view does, the hub was asked to change nothing.
    let recording = fs::read_to_string(&fleet.hub.recording).expect("the file is there");
    let sent = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let asked: Vec<_> = sent
        .filter(|line| line["client_request_id"].as_str().is_some_and(|id| id.starts_with("adx-federation.canary;")))
        .collect();
    assert!(asked.len() >= 5, "{} canary queries", asked.len());
    for line in asked {
        assert_eq!(line["path"], "/v2/rest/query");
        assert_eq!(line["properties"]["Options"]["request_readonly"], true, "{line}");
        assert_eq!(line["properties"]["Options"]["request_external_data_disabled"], true, "{line}");
    }
    end(fleet, []).await;
}

#[tokio::test]
async fn a_plan_shows_what_would_be_done_and_nothing_is() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let planning = hub_with(&fleet, "planning", "    mode: Plan");
    let (code, output) = once(&fleet, &planning, "--once").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("outcome=planned"), "{output}");
    let tables = fleet.hub.command("FleetDiscovery", ".show tables").await.expect("the hub answers");
    assert_eq!(tables.rows.len(), 0, "not even a table was made");
    once(&fleet, &fleet.hub_document(), "--once").await;
    beats(&fleet).await;
    let before = hub_content(&fleet).await;
    for document in [planning.clone(), {
        let text = fs::read_to_string(fleet.hub_document()).expect("the document is there");
        fleet.write_document("suspended", &text.replace("spec:", "spec:\n  suspend: true"))
    }] {
        let (code, output) = once(&fleet, &document, "--once").await;
        assert_eq!((code, hub_content(&fleet).await), (Some(0), before.clone()), "{output}");
        assert!(output.contains("outcome=planned"), "{output}");
    }
    // It keeps watching, and its status has the plan.
    let mut agent = fleet.start_agent("agent-hub", &planning, &["--admin", "127.0.0.1:0"]);
    let url = admin_url(&agent).await;
    let status = until(&url, "/status", |_, text| text.contains("\"planned\":{")).await;
    let is_planned =
        |line: &str| line.starts_with("adx_federation_passes_total{outcome=\"planned\"} ") && !line.ends_with(" 0");
    until(&url, "/metrics", |_, text| text.lines().any(is_planned)).await;
    assert!(
        status.contains("create entity group Logs_Partitions in Logs") && status.contains("\"hash\":\""),
        "{status}"
    );
    agent.stop().await;
    let (_, plan) = once(&fleet, &fleet.hub_document(), "--plan").await;
    assert!(plan.lines().any(|line| line.starts_with("plan ") && status.contains(&line[5..])), "{plan}");
    // What is printed, with its reasons and in its order. Commands are indented, and a log line begins with its time.
    let is_change = |line: &&str| ["create ", "alter ", "drop "].iter().any(|action| line.starts_with(action));
    let printed: Vec<&str> = plan.lines().filter(is_change).collect();
    let status: Value = serde_json::from_str(&status).expect("a status is JSON");
    let told = status["lastPass"]["planned"]["changes"].as_array().into_iter().flatten();
    let text = |change: &Value| ["change", "reason"].map(|field| change[field].as_str().unwrap_or_default()).join(": ");
    let told: Vec<String> = told.map(text).collect();
    assert!(!told.is_sorted(), "another order than the plan's would not show: {told:#?}");
    assert_eq!(told, printed);
    end(fleet, []).await;
}

#[tokio::test]
async fn a_dark_fleet_is_removed_by_acknowledging_its_plan_and_by_nothing_else() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    once(&fleet, &fleet.hub_document(), "--once").await;
    beats(&fleet).await;
    assert_eq!(once(&fleet, &fleet.hub_document(), "--once").await.0, Some(0));
    let before = hub_content(&fleet).await;
    // From now on nobody beats, and two seconds are long.
    let impatient = |name: &str, fields: &str| {
        let text = fs::read_to_string(hub_with(&fleet, name, fields)).expect("just written");
        let text = text.replace("heartbeatTTL: 1h", "heartbeatTTL: 2s").replace("Interval: 5m", "Interval: 500ms");
        fleet.write_document(name, &text)
    };
    time::sleep(Duration::from_secs(3)).await;
    let (code, output) = once(&fleet, &impatient("impatient", ""), "--plan").await;
    assert_eq!(code, Some(3), "{output}");
    // Each with its command: a log line may come between lines of the plan.
    let shown: Vec<&str> = output.lines().filter(|line| line.starts_with("  ")).collect();
    let removal = [
        "  drop function federated_Requests in Logs: no federated partition has its table",
        "      .drop function ['federated_Requests'] ifexists",
    ];
    assert!(shown.windows(2).any(|lines| lines == removal), "{output}");
    let hash = output.split("acknowledgedPlan: \"").nth(1).and_then(|rest| rest.split('"').next());
    let hash = hash.unwrap_or_else(|| panic!("no hash in:\n{output}"));
    let other = impatient("other", "    acknowledgedPlan: 'abcdefabcdef'");
    let told =
        format!("acknowledgedPlan is abcdefabcdef, the hash of another plan: that of the one that is held is {hash}");
    for how in ["--plan", "--once"] {
        let (code, output) = once(&fleet, &other, how).await;
        assert_eq!((code, output.matches(&told).count()), (Some(3), 1), "{how}: {output}");
    }
    // Where no change is made at all, the log has what is held, too.
    let (code, output) = once(&fleet, &impatient("planning", "    mode: Plan"), "--once").await;
    assert_eq!(code, Some(3), "{output}");
    let planned = format!("planned change plan=\"{hash}\"");
    let is_shown = |line: &str| line.contains(&planned) && line.contains("drop function federated_Requests in Logs");
    assert!(output.lines().any(is_shown), "{output}");
    assert_eq!(hub_content(&fleet).await, before);
    // Whoever asks in Kusto sees which guard holds, at every partition.
    let guards = async || {
        let status = fleet.hub.query("Logs", "federation_status() | project Partition, State, Guards").await;
        status.expect("the hub answers").text_rows()
    };
    let held = guards().await;
    assert_eq!(held.len(), 3, "{held:?}");
    assert!(held.iter().all(|row| row[1..] == ["expired", "no_live_heartbeat"]), "{held:?}");
    let acknowledged = impatient("acknowledged", &format!("    acknowledgedPlan: '{hash}'"));
    let (code, output) = once(&fleet, &acknowledged, "--once").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("a person acknowledged this plan"), "{output}");
    let left = hub_content(&fleet).await;
    assert!(left.iter().all(|line| line.contains("federation_status")), "{left:?}");
    let after = guards().await;
    assert!(after.iter().all(|row| row[2].is_empty()), "nothing is held any more: {after:?}");
    end(fleet, []).await;
}

#[tokio::test]
async fn a_group_by_geography_holds_its_partitions_and_views_and_an_edited_function_are_right() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let document = hub_with(&fleet, "by-geo", "    entityGroups: [{by: geo}]");
    once(&fleet, &document, "--once").await;
    for server in &fleet.partitions {
        for view in [
            ".create-or-alter function with (view=true) Slow() { Requests | project Region }",
            ".create materialized-view Busy on table Requests { Requests | summarize Count = count() by Region }",
        ] {
            let made = server.command("Logs", view).await;
            made.unwrap_or_else(|error| panic!("{error}"));
        }
    }
    beats(&fleet).await;
    assert_eq!(once(&fleet, &document, "--once").await.0, Some(0));
    for region in &REGIONS {
        let text = format!("macro-expand Logs_Partitions_{} as X ( X.Requests | distinct Region )", region.geo);
        let table = fleet.hub.query("Metrics", &text).await.expect("the hub answers");
        assert!(table.column("Region").contains(&region.name.to_owned()), "{text}: {table:?}");
    }
    let viewed = fleet.hub.query("Logs", "federated_Slow() | distinct Region").await.expect("the view is federated");
    assert_eq!(viewed.rows.len(), 3, "{viewed:?}");
    let summed = fleet.hub.query("Logs", "federated_Busy() | summarize sum(Count)").await;
    assert_eq!(summed.expect("the materialized view is federated").column("sum_Count"), ["420"]);
    for (folder, parameters, text) in [
        ("federation_facades", "()", Some("{ print Region = 'mine' }")),
        ("elsewhere", "()", None),
        ("federation_facades", "(Mine:long=1)", None),
    ] {
        edit_to(&fleet, "federated_Requests", folder, parameters, text).await;
        let (code, output) = once(&fleet, &document, "--once").await;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("was edited by somebody and is put back"), "{output}");
        let (code, output) = once(&fleet, &document, "--plan").await;
        assert!(code == Some(0) && output.contains("Nothing has to change"), "{output}");
    }
    let regions = fleet.hub.query("Logs", "federated_Requests() | distinct Region").await.expect("the hub answers");
    assert_eq!(regions.rows.len(), 3);
    end(fleet, []).await;
}

#[tokio::test]
async fn no_query_fails_while_groups_change_under_it() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    once(&fleet, &fleet.hub_document(), "--once").await;
    beats(&fleet).await;
    assert_eq!(once(&fleet, &fleet.hub_document(), "--once").await.0, Some(0));
    let blocked = hub_with(&fleet, "blocked", &format!("    blockedPartitions: ['{}']", fleet.partitions[0].url));
    // Scripts too: a group that is dropped and made again is not there for a moment, in which perhaps nobody asks.
    let made_and_dropped = || [".create entity_group", ".drop entity_group"].map(|text| fleet.hub.recorded(text));
    let before = made_and_dropped();
    assert!(before[0] > 0 && before[1] == 0, "the first pass makes groups: {before:?}");
    let is_done = AtomicBool::new(false);
    let changes = async {
        for _ in 0..6 {
            for document in [&blocked, &fleet.hub_document()] {
                beats(&fleet).await;
                assert_eq!(once(&fleet, document, "--once").await.0, Some(0));
            }
        }
        is_done.store(true, Ordering::Relaxed);
    };
    let queries = async || {
        let mut counts = std::collections::BTreeSet::new();
        while !is_done.load(Ordering::Relaxed) {
            for text in ["federated_Requests() | count", "macro-expand Logs_Partitions as X ( X.Requests ) | count"] {
                let answer = fleet.hub.query("Logs", text).await;
                let table = answer.unwrap_or_else(|error| panic!("a query failed while groups changed: {error}"));
                counts.insert(table.column("Count")[0].clone());
            }
        }
        // Both groups were seen, and nothing in between.
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), ["180", "420"]);
    };
    tokio::join!(changes, queries(), queries(), queries(), queries());
    assert_eq!(made_and_dropped(), before, "a group changes in one command");
    end(fleet, []).await;
}
