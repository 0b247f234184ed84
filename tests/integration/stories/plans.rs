//! What only shows its changes makes none, on a hub where much is due; and says what they are, once.

use std::fs;

use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, Pace},
    logs::{assert_json, assert_plain},
    process::Process,
    telemetry::REGIONS,
};

use crate::{
    support::{SOON, end, hub_content, until_so},
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
    // A pass that cannot read the heartbeats records that; one that only plans, nothing.
    let from = sent(&fleet, 0).len();
    fleet.hub.fail(&json!([{"text": "NewBeats", "fault": "oneApiErrors"}]));
    let planning = hub_with(&fleet, "blind", "    mode: Plan");
    for (document, flag) in [(&planning, "--once"), (&fleet.hub_document(), "--plan")] {
        let (code, output) = once(&fleet, document, flag).await;
        assert!(code == Some(3) && output.contains("could not be read completely"), "{output}");
    }
    fleet.hub.fail(&json!([]));
    let asked = sent(&fleet, from);
    assert!(!asked.is_empty() && asked.iter().all(only_looks), "{asked:#?}");
    let due = [
        "alter entity group Logs_Partitions in Logs",
        "create function federated_OnlyAmerica in Logs",
        "alter function federated_ApplicationLogs in Logs",
        "drop function federated_OnlyEurope in Logs",
        ".alter-merge table ['Heartbeats'] policy retention",
    ];
    let document = hub_with(&fleet, "due", &blocked);
    let planning = hub_with(&fleet, "planning", &format!("{blocked}\n    mode: Plan"));
    let text = fs::read_to_string(&document).expect("the document is there");
    let suspended = fleet.write_document("suspended", &text.replace("spec:", "spec:\n  suspend: true"));
    for (document, how) in [(&document, "--plan"), (&planning, "--once"), (&suspended, "--once")] {
        let told = sent(&fleet, 0).len();
        let (code, output) = once(&fleet, document, how).await;
        assert_eq!(code, Some(0), "{output}");
        for change in due {
            assert!(output.contains(change), "{change} is not in the plan:\n{output}");
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

/// The objects of a log with this message, of this plan or of any.
fn logged(agent: &Process, message: &str, plan: Option<&str>) -> Vec<Value> {
    let output = agent.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message && plan.is_none_or(|plan| line["plan"] == plan)).collect()
}

/// The plans that were announced so far, once so many are, and a few more passes have ended.
async fn announced(agent: &Process, plans: usize) -> Vec<Value> {
    let all = || logged(agent, "changes are planned and not made", None);
    until_so(|| format!("{plans} plans:\n{}", agent.output()), || all().len() >= plans).await;
    let passes = || logged(agent, "pass ended", None).len();
    let ended = passes();
    until_so(|| agent.output(), || passes() >= ended + 5).await;
    all()
}

#[tokio::test]
async fn mode_plan_logs_each_plan_once_as_it_is_printed_and_within_bounds() {
    /// Of one plan.
    const MOST: usize = 100;
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    assert_eq!(once(&fleet, &fleet.hub_document(), "--once").await.0, Some(3), "nobody has beaten yet");
    beat(&fleet, &[0]).await;
    let (code, printed) = once(&fleet, &fleet.hub_document(), "--plan").await;
    assert_eq!(code, Some(0), "{printed}");
    let planning = hub_with(&fleet, "planning", "    mode: Plan");
    let mut agent = fleet.start_agent("agent-hub", &planning, &["--log-format", "json"]);
    let plans = announced(&agent, 1).await;
    assert_eq!(plans.len(), 1, "it is told once: {}", agent.output());
    let hash = plans[0]["plan"].as_str().expect("a plan has a hash");
    assert!(printed.lines().any(|line| line == format!("plan {hash}")), "{hash} is not that of\n{printed}");
    // As `--plan` prints it, in its order, with reasons and whole commands.
    let changes = logged(&agent, "planned change", Some(hash));
    assert_eq!(plans[0]["changes"], json!(changes.len()), "{plans:?}");
    let mut lines = printed.lines();
    for (index, change) in changes.iter().enumerate() {
        assert_eq!(change["step"], json!(index + 1), "{change}");
        let text = |field: &str| change[field].as_str().unwrap_or_default().to_owned();
        let head = format!("{}: {}", text("change"), text("reason"));
        assert!(lines.any(|line| line == head), "{head:?} does not come next in\n{printed}");
        for line in text("command").lines().map(|line| format!("    {line}")) {
            assert!(lines.any(|next| next == line), "{line:?} does not come next in\n{printed}");
        }
    }

    // Somebody beats with more tables than a log tells of.
    let tables: Vec<String> = (0..150).map(|number| format!("Made Up {number}")).collect();
    let schema = json!([{"database": "Logs", "tables": tables}]).to_string().replace('"', "\"\"");
    let row = format!("2026-01-01T00:00:00Z,http://127.0.0.9:1,\"{schema}\",{{}}\n");
    let row = format!(".ingest inline into table Heartbeats <|\n{row}");
    fleet.hub.command("FleetDiscovery", &row).await.expect("the hub takes a heartbeat");
    let plans = announced(&agent, 2).await;
    assert_eq!(plans.len(), 2, "each is told once: {}", agent.output());
    let (other, count) = (plans[1]["plan"].as_str(), plans[1]["changes"].as_u64().unwrap_or_default());
    assert!(other != Some(hash) && count > 150, "{plans:?}");
    assert_eq!(logged(&agent, "planned change", other).len(), MOST);
    let more = logged(&agent, "more changes are planned: agent-hub --plan prints all", other);
    assert!(more.len() == 1 && more[0]["omitted"] == json!(count - MOST as u64), "{more:?} of {count}");
    agent.stop().await;
    assert_json(&agent.output());

    // To people a change is one line, however many its command has.
    let (_, output) = once(&fleet, &planning, "--once").await;
    assert!(output.contains("planned change plan=") && output.contains("create function federated_"), "{output}");
    assert_plain(&output);
    assert!(hub_content(&fleet).await.is_empty(), "a plan changes nothing");
    end(fleet, []).await;
}
