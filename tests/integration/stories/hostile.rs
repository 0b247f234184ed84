//! Heartbeat rows of strangers, and two hub agents at once.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, Pace},
    loopback,
    telemetry::REGIONS,
};
use tokio::time;

use crate::{
    admin::{admin_url, get, partition_of, until},
    faulty_hub::Hub,
    support::{SOON, end, hub_content, until_passes, until_printed, until_regions, whole_content},
};

/// Appends a row to the heartbeat table, as anyone with the right to ingest may.
async fn write_row(fleet: &Fleet, endpoint: &str, schema: &str, metadata: &str) {
    write_row_at(fleet, "2025-05-03T12:34:56Z", endpoint, schema, metadata).await;
}

async fn write_row_at(fleet: &Fleet, time: &str, endpoint: &str, schema: &str, metadata: &str) {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let row = format!("{time},{},{},{}\n", quoted(endpoint), quoted(schema), quoted(metadata));
    let url = format!("{}/v1/rest/ingest/FleetDiscovery/Heartbeats?streamFormat=Csv", fleet.hub.url);
    let answer = loopback::client().post(url).body(row).send().await.expect("the hub answers");
    assert!(answer.status().is_success(), "{:?}", answer.text().await);
}

/// A partition's state in a hub agent's status.
fn state_of(status: &str, endpoint: &str) -> Value {
    partition_of(status, endpoint)["state"].clone()
}

#[tokio::test]
async fn a_strangers_row_adds_no_foreign_cluster_runs_no_command_and_harms_no_other() {
    /// For a real partition's new table, and for two of the stranger's names, which Kusto takes.
    const FUNCTIONS: usize = 3;
    let fleet = Fleet::start(Pace::LEAVING).await.expect("the servers take the telemetry");
    let operator = fleet.start_operator_with(&["--admin", "127.0.0.1:0"]);
    let before = whole_content(&fleet).await;
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
    let names = [
        "a'b",
        "a\"b",
        "a\nb",
        ".drop table Heartbeats",
        "x'] | .drop table ['y",
        "x // y",
        "a\\",
        "{{table}}",
        "a\u{202e}b",
        "Gr\u{f6}\u{df}e",
        "__internal",
        "",
    ];
    let hostile = json!([
        {"database": "Logs", "tables": names},
        {"database": "a'); .drop database Logs //", "tables": ["T"]},
        {"database": "Logs\n.drop table Heartbeats", "tables": ["T"]},
        7, null, {"database": null}, {"tables": ["T"]}, {"database": "Logs", "tables": "Requests"},
    ]);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    // Attributes of this depth are JSON to the server, and more than readers of JSON take.
    let attributes = format!("{{\"geo\": {}1{}}}", "[".repeat(126), "]".repeat(126));
    write_row(&fleet, "https://stranger.kusto.windows.net", &hostile.to_string(), &attributes).await;
    // No schema, each in its way: one that is nested too deep, and none. Both have no attributes either.
    let odd = [("https://odd.kusto.windows.net", deep.as_str(), "[1,2]"), ("https://empty.kusto.windows.net", "", "")];
    let all = |_: u16, body: &str| body.matches("\"admin\":\"http://127.0.0.1:").count() == 4;
    let agents: Value =
        serde_json::from_str(&until(&admin_url(&operator).await, "/status", all).await).expect("status is JSON");
    let hub_agent = agents["hub"]["admin"].as_str().expect("the hub agent has an admin port");
    // Times that nobody's clock has, and none at all. Whoever writes them is live: what counts is when the hub received it.
    let times = ["1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z", ""];
    let clocks = [0, 1, 2].map(|number| format!("https://clock-{number}.kusto.windows.net"));
    let deadline = time::Instant::now() + SOON;
    loop {
        for (time, endpoint) in times.iter().zip(&clocks) {
            write_row_at(&fleet, time, endpoint, "[]", "{}").await;
        }
        for (endpoint, schema, attributes) in odd {
            write_row(&fleet, endpoint, schema, attributes).await;
        }
        let (_, status) = get(hub_agent, "/status").await;
        let [deep, empty] = odd.map(|(endpoint, ..)| partition_of(&status, endpoint)["problems"].to_string());
        let is_told = deep.contains("Schema: it is no JSON: recursion limit exceeded")
            && deep.contains("PartitionMetadata: it is not an object")
            && empty.contains("no recent heartbeat has a schema");
        if is_told && clocks.iter().all(|endpoint| state_of(&status, endpoint) == "live") {
            break;
        }
        assert!(time::Instant::now() < deadline, "they beat, and are not live: {status}");
        time::sleep(Duration::from_millis(500)).await;
    }
    // Attributes and an endpoint beyond all reason; five megabytes of names that Kusto refuses.
    write_row(&fleet, "https://wordy.kusto.windows.net", "[]", &json!({"geo": "x".repeat(300_000)}).to_string()).await;
    write_row(&fleet, &format!("https://{}.kusto.windows.net", "a".repeat(3_000_000)), "[]", "{}").await;
    let long: Vec<String> =
        (0..50_000).map(|number| format!("/* {number} */ 'naïve\u{2028}{}", "x".repeat(80))).collect();
    let schema = json!([{"database": "Logs", "tables": long}]).to_string().replace('"', "\"\"");
    assert!(schema.len() > 5_000_000);
    let row = format!(
        ".ingest inline into table Heartbeats <|\n2025-05-03T12:34:56Z,https://long.kusto.windows.net,\"{schema}\",{{}}\n"
    );
    fleet.hub.command("FleetDiscovery", &row).await.expect("the hub takes the row");
    // One that claims to be a real partition: its own next beat says otherwise.
    write_row(&fleet, &fleet.partitions[1].url, &logs, r#"{"geo": "Atlantis"}"#).await;
    // The hub goes on: a new table of a real partition shows, and the stranger is a member of the one database that it names.
    fleet.partitions[0].command("Logs", ".create table Fresh (a:long)").await.expect("the partition takes a table");
    fleet
        .hub_until("Logs", ".show functions | where Name == 'federated_Fresh'", SOON, |table| table.rows.len() == 1)
        .await;
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    // The claim holds until the real partition's next beat.
    let mut after = hub_content(&fleet).await;
    let deadline = time::Instant::now() + SOON;
    while after.len() != before.len() + FUNCTIONS && time::Instant::now() < deadline {
        // It goes on beating, or it would expire on a slow machine before all is seen.
        write_row(&fleet, "https://stranger.kusto.windows.net", &hostile.to_string(), &attributes).await;
        time::sleep(Duration::from_millis(500)).await;
        after = hub_content(&fleet).await;
    }
    for line in &after {
        assert!(!line.contains("evil") && !line.contains("10.0.0.1") && !line.contains("xn--"), "{line}");
        assert!(!line.contains("['x']") && !line.contains("__internal"), "{line}");
        assert!(!line.contains("_Partitions") || !line.contains(&fleet.hub.url), "{line}");
    }
    // `.drop table Heartbeats` has only letters, blanks and a dot: to Kusto a name like any other, and quoted it is one. Letters are of any script.
    for name in ["X.['.drop table Heartbeats']", "X.['Gr\u{f6}\u{df}e']"] {
        assert!(after.iter().any(|line| line.contains(name)), "{name} is not in {after:#?}");
    }
    let names = |content: &[String]| -> std::collections::BTreeSet<String> {
        content
            .iter()
            .map(|line| line.split("String(\"").nth(1).unwrap_or_default().chars().take(60).collect())
            .collect()
    };
    assert_eq!(
        after.len(),
        before.len() + FUNCTIONS,
        "functions for Fresh and for those names, and nothing else: {:?}",
        names(&after).difference(&names(&before)).collect::<Vec<_>>()
    );
    until_printed(&operator, "it is no Kusto endpoint of this cloud").await;
    for told in [
        "its heartbeat has no Timestamp",
        "ahead of the hub's clock",
        "longer than 64 KiB",
        "/* 0 */ 'na",
        "more problems",
    ] {
        until_printed(&operator, told).await;
    }
    // Two hosts that are no Kusto cluster's, and the hub; of the texts above, those that are no endpoint, the empty and the long one among them.
    for sample in ["refused_heartbeats{reason=\"foreign\"} 3", "refused_heartbeats{reason=\"no_endpoint\"} 8"] {
        let sample = format!("adx_federation_{sample}");
        until(hub_agent, "/metrics", |_, metrics| metrics.lines().any(|line| line == sample)).await;
    }
    for told in [
        "the heartbeats of https://evil.example are ignored: it is no Kusto endpoint of this cloud",
        "it is this hub, which cannot be a partition of its own",
        "is not a cluster endpoint: the host must be a DNS name, not an IP address",
    ] {
        until(hub_agent, "/status", |_, status| status.contains(told)).await;
    }
    // They are silent since: a time that is still to come keeps nobody live.
    for endpoint in &clocks {
        until(hub_agent, "/status", |_, status| state_of(status, endpoint) == "expired").await;
    }
    let agent = |line: &Value| line["client_request_id"].as_str().is_some_and(|id| id.starts_with("adx-federation."));
    let recording = std::fs::read_to_string(&fleet.hub.recording).expect("the file is there");
    let sent = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(agent);
    assert!(sent.count() > 10, "what our agents sent is told by its request id, and judged by it");
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_strangers_zone_and_schema_are_recorded_once_and_told_whatever_is_in_them() {
    let hub = Hub::start().await;
    let long = "x".repeat(2000);
    let zones = [
        "a\nb\tc",
        "comma, \"quotes\" and 'more'",
        &long[..256],
        &long[..257],
        " blanks ",
        "zone fleet",
        "\u{85}\u{2028}é",
    ];
    for (number, zone) in zones.iter().enumerate() {
        // What is refused of a schema is told with what was sent, line breaks and all.
        let schema = json!([{"database": "Logs", "tables": ["A", format!("'\n{zone}{long}")]}]);
        let quoted = |value: Value| value.to_string().replace('"', "\"\"");
        let row = format!(
            "2026-01-01T00:00:00Z,http://127.0.0.{}:1,\"{}\",\"{}\"\n",
            number + 1,
            quoted(schema),
            quoted(json!({"geo": zone}))
        );
        let beat = format!(".ingest inline into table Heartbeats <|\n{row}");
        hub.server.command("FleetDiscovery", &beat).await.expect("the hub takes the row");
    }
    let (wordless, partitions) = ("http://127.0.0.8:1", zones.len() + 1);
    let null = format!(".ingest inline into table Heartbeats <|\n2026-01-01T00:00:00Z,{wordless},,{{}}\n");
    hub.server.command("FleetDiscovery", &null).await.expect("the hub takes the row");
    let all_are_recorded = async || {
        let rows = hub.server.query("FleetDiscovery", "AdxFederationMembers | where Kind == 'Partition' | count").await;
        let rows = rows.map_err(|error| error.to_string())?.column("Count").remove(0);
        // A record for each, and no second one.
        if rows == partitions.to_string() { Ok(()) } else { Err(format!("{rows} records")) }
    };
    assert_eq!(hub.converges(all_are_recorded).await, Ok(()));
    // Whoever asks in Kusto is told what is refused of a partition that is federated all the same.
    let status = hub.server.query("Logs", "federation_status() | project Partition, State, Reason").await;
    let status = status.expect("the hub answers").text_rows();
    assert_eq!(status.len(), partitions, "{status:#?}");
    for row in &status {
        let told = if row[0] == wordless { "no recent heartbeat has a schema: " } else { "Logs.tables[1]: " };
        assert!(row[1] == "live" && row[2].starts_with(told), "{row:?}");
    }
    hub.ends_quietly().await;
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
    until_passes(&fleet, 8).await;
    // Whoever made the groups, both may still change them.
    agents.remove(0).kill().await;
    let document = fleet.partition_document(&REGIONS[2], &fleet.partitions[2]);
    agents.push(fleet.start_agent("agent-partition", &document, &[]));
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    end(fleet, agents).await;
}
