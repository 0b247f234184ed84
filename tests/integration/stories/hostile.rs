//! Heartbeat rows of strangers, and two hub agents at once.

use std::time::Duration;

use serde_json::json;
use tests::{fleet::Fleet, fleet::Pace, telemetry::REGIONS};
use tokio::time;

use crate::support::{SOON, end, federated, hub_content, until_printed, until_regions};

/// Appends a row to the heartbeat table, as anyone with the right to ingest may.
async fn write_row(fleet: &Fleet, endpoint: &str, schema: &str, metadata: &str) {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let row = format!("2025-05-03T12:34:56Z,{},{},{}\n", quoted(endpoint), quoted(schema), quoted(metadata));
    let client = reqwest::Client::new();
    let url = format!("{}/v1/rest/ingest/FleetDiscovery/Heartbeats?streamFormat=Csv", fleet.hub.url);
    let answer = client.post(url).body(row).send().await.expect("the hub answers");
    assert!(answer.status().is_success(), "{:?}", answer.text().await);
}

#[tokio::test]
async fn a_strangers_row_adds_no_foreign_cluster_runs_no_command_and_harms_no_other() {
    let (fleet, operator) = federated().await;
    let before = hub_content(&fleet).await;
    let logs = json!([{"database": "Logs", "tables": ["Requests"]}]).to_string();
    for endpoint in [
        "https://evil.example",
        "https://x.kusto.windows.net.evil.example",
        "https://x.kusto.windows.net@evil.example",
        "https://x.kusto.windows.net:8443",
        "http://x.kusto.windows.net",
        "https://xn--ksto-0ra.windows.net",
        "https://a').database('b'), cluster('https://evil.example",
        "https://10.0.0.1",
        "",
    ] {
        write_row(&fleet, endpoint, &logs, "{}").await;
    }
    // The hub itself: its groups must not ask it.
    write_row(&fleet, &fleet.hub.url, &logs, "{}").await;
    until_printed(&operator, "it is this hub, which cannot be a partition of its own").await;
    // A cluster that passes for a partition, with names that would break out of any quoting that is not ours, and what is no schema at all.
    let names =
        ["a'b", "a\nb", ".drop table Heartbeats", "x'] | .drop table ['y", "a\\", "{{table}}", "__internal", ""];
    let hostile = json!([
        {"database": "Logs", "tables": names},
        {"database": "a'); .drop database Logs //", "tables": ["T"]},
        {"database": "Logs\n.drop table Heartbeats", "tables": ["T"]},
        7, null, {"database": null}, {"tables": ["T"]}, {"database": "Logs", "tables": "Requests"},
    ]);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    write_row(&fleet, "https://stranger.kusto.windows.net", &hostile.to_string(), &deep).await;
    write_row(&fleet, "https://odd.kusto.windows.net", &deep, "[1,2]").await;
    write_row(&fleet, "https://empty.kusto.windows.net", "", "").await;
    // The hub goes on: a new table of a real partition shows, and the stranger is a member of the one database that it names.
    fleet.partitions[0].command("Logs", ".create table Fresh (a:long)").await.expect("the partition takes a table");
    fleet
        .hub_until("Logs", ".show functions | where Name == 'federated_Fresh'", SOON, |table| table.rows.len() == 1)
        .await;
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    let after = hub_content(&fleet).await;
    for line in &after {
        assert!(!line.contains("evil") && !line.contains("10.0.0.1") && !line.contains("xn--"), "{line}");
        assert!(!line.contains("['x']") && !line.contains("__internal"), "{line}");
    }
    // `.drop table Heartbeats` has only letters, blanks and a dot: to Kusto a name like any other, and quoted it is one.
    assert!(after.iter().any(|line| line.contains("X.['.drop table Heartbeats']")), "{after:#?}");
    assert_eq!(after.len(), before.len() + 2, "functions for Fresh and for that name, and nothing else: {after:#?}");
    until_printed(&operator, "it is no Kusto endpoint of this cloud").await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn two_hub_agents_at_once_lose_nothing_and_both_still_own_their_groups() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let hub_document = fleet.hub_document();
    let mut agents =
        vec![fleet.start_agent("agent-hub", &hub_document, &[]), fleet.start_agent("agent-hub", &hub_document, &[])];
    for (region, server) in REGIONS.iter().zip(&fleet.partitions).take(2) {
        agents.push(fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &[]));
    }
    until_regions(&fleet, &["america", "europe"]).await;
    time::sleep(Duration::from_secs(3)).await;
    // Whoever made the groups, both may still change them.
    agents.remove(0).kill().await;
    let document = fleet.partition_document(&REGIONS[2], &fleet.partitions[2]);
    agents.push(fleet.start_agent("agent-partition", &document, &[]));
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    end(fleet, agents).await;
}
