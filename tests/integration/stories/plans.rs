//! What only shows its changes makes none: on a hub where much is due.

use std::fs;

use serde_json::Value;
use tests::{
    fleet::{Fleet, Pace},
    telemetry::REGIONS,
};

use crate::{
    support::{SOON, end, hub_content},
    trust::{edit, hub_with, once},
};

/// What the hub was sent since some line of its recording: path and text.
fn sent(fleet: &Fleet, since: usize) -> Vec<(String, String)> {
    let recording = fs::read_to_string(&fleet.hub.recording).expect("the file is there");
    let lines = recording.lines().skip(since).map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines.map(|line| (text(&line["path"]), text(&line["csl"]))).collect()
}

/// Whether a request changes nothing: a query, or a command that shows.
fn only_looks((path, text): &(String, String)) -> bool {
    let is_query = path.ends_with("/rest/query") && !text.trim_start().starts_with('.');
    is_query || (path.ends_with("/rest/mgmt") && text.starts_with(".show "))
}

async fn beat(fleet: &Fleet, partitions: &[usize]) {
    for index in partitions {
        let document = fleet.partition_document(&REGIONS[*index], &fleet.partitions[*index]);
        let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    }
}

#[tokio::test]
async fn a_plan_sends_nothing_that_changes_anything_however_much_is_due() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    assert_eq!(once(&fleet, &fleet.hub_document(), "--once").await.0, Some(3), "nobody has beaten yet");
    fleet.partitions[0].command("Logs", ".create table OnlyEurope (a:long)").await.expect("it takes a table");
    beat(&fleet, &[0, 1]).await;
    assert_eq!(once(&fleet, &fleet.hub_document(), "--once").await.0, Some(0));

    // One joins, one is to leave with a table that only it has, one has a new table, a policy is not as it should be, and somebody edits a function.
    fleet.partitions[1].command("Logs", ".create table OnlyAmerica (a:long)").await.expect("it takes a table");
    beat(&fleet, &[0, 1, 2]).await;
    let blocked = format!("    blockedPartitions: ['{}']", fleet.partitions[0].url);
    edit(&fleet, "federated_ApplicationLogs").await;
    let policy = ".alter-merge table Heartbeats policy retention softdelete = 1d";
    fleet.hub.command("FleetDiscovery", policy).await.expect("anybody may");

    let before = hub_content(&fleet).await;
    let due = [
        "alter entity group Logs_Partitions in Logs",
        "create function federated_OnlyAmerica in Logs",
        "alter function federated_ApplicationLogs in Logs",
        "drop function federated_OnlyEurope in Logs",
        ".alter-merge table ['Heartbeats'] policy retention",
    ];
    let document = hub_with(&fleet, "due", &blocked);
    let planning = hub_with(&fleet, "planning", &format!("{blocked}\n    mode: Plan"));
    for (document, how) in [(&document, "--plan"), (&planning, "--once")] {
        let told = sent(&fleet, 0).len();
        let (code, output) = once(&fleet, document, how).await;
        assert_eq!(code, Some(0), "{output}");
        for change in due {
            assert!(how == "--once" || output.contains(change), "{change} is not in the plan:\n{output}");
        }
        let told = sent(&fleet, told);
        assert!(told.len() > 5, "it has looked: {told:?}");
        let changing: Vec<_> = told.iter().filter(|request| !only_looks(request)).collect();
        assert!(changing.is_empty(), "{how} only looks: {changing:#?}");
        assert_eq!(hub_content(&fleet).await, before);
    }

    // All of it was due.
    let told = sent(&fleet, 0).len();
    let (code, output) = once(&fleet, &document, "--once").await;
    assert_eq!(code, Some(0), "{output}");
    let told = sent(&fleet, told);
    for part in [
        "entity_group ['Logs_Partitions']",
        "['federated_OnlyAmerica']",
        "['federated_ApplicationLogs']",
        ".drop function ['federated_OnlyEurope']",
        ".alter-merge table ['Heartbeats'] policy retention",
    ] {
        assert!(told.iter().any(|(_, text)| text.contains(part)), "{part} was not sent: {told:#?}");
    }
    assert!(!told.iter().all(only_looks));
    assert_ne!(hub_content(&fleet).await, before);
    end(fleet, []).await;
}
