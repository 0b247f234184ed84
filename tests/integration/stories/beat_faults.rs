//! Every fault of `kusto-local --faults` at every request that a partition agent's beat makes: beats come again once the fault is over, each with the whole
//! schema and by one request, or with a schema that has changed meanwhile, where an unchanged one rests. The hub's pass takes nothing away, and then it writes nothing.

use std::{fs, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{kusto::KustoServer, process::Process};
use tokio::time;

use crate::{
    every_fault,
    faulty_hub::{BEAT, Hub, faults, side_by_side},
    setup_faults,
    support::{SOON, judge_together},
};

const ENTITIES: &str = ".show databases entities";

const STREAMING: &str = "/v1/rest/ingest/FleetDiscovery/Heartbeats";

/// Beats this often.
const INTERVAL: Duration = Duration::from_secs(2);

/// `schemaInBeats`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SchemaInBeats {
    Always,
    /// A schema rests for longer than a story takes: it comes where it has changed, or never.
    OnChange,
}

impl SchemaInBeats {
    /// Fields of a partition's federation.
    const fn fields(self) -> &'static str {
        match self {
            Self::Always => "schemaInBeats: Always",
            Self::OnChange => "schemaInBeats: OnChange\n    heartbeatTTL: 2h",
        }
    }
}

/// Rows of the partition, and those of them with its table.
async fn rows(hub: &Hub) -> (usize, usize) {
    let text = "Heartbeats | summarize Beats = count(), Whole = countif(tostring(Schema) has 'Requests' and PartitionMetadata.geo == 'EU')";
    let table = hub.server.query("FleetDiscovery", text).await.expect("the hub counts");
    let count = |name: &str| table.column(name)[0].parse().expect("a count is a number");
    (count("Beats"), count("Whole"))
}

async fn until_more_rows(hub: &Hub, than: usize, agent: &Process, what: &str) {
    let deadline = time::Instant::now() + SOON;
    while rows(hub).await.0 <= than {
        assert!(time::Instant::now() < deadline, "{what}: no more beats come: {}", agent.output());
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many requests that hold a text have met a fault.
fn struck(server: &KustoServer, request: &str) -> usize {
    let recording = fs::read_to_string(&server.recording).expect("the recording can be read");
    let is_struck = |line: &&str| {
        line.contains(request) && serde_json::from_str(line).is_ok_and(|line: Value| !line["fault"].is_null())
    };
    recording.lines().filter(is_struck).count()
}

/// Waits until one more request that holds a text has met a fault.
async fn until_struck(server: &KustoServer, request: &str, before: usize, what: &str) {
    let deadline = time::Instant::now() + SOON;
    while struck(server, request) == before {
        assert!(time::Instant::now() < deadline, "{what}: no such request was made");
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// Of the beats that came since then, how many came before the first one that tells what the cluster holds by now, with a table that it had not before if there is one.
async fn beats_until_right(hub: &Hub, since: Timestamp, table: &str) -> usize {
    let text = format!(
        "Heartbeats | extend Received = ingestion_time(), Schema = tostring(Schema) | order by Received asc | project Is = strcat(Received > datetime({since}), ' ', Schema has '{table}' and not(Schema has 'stale'))"
    );
    let rows = hub.server.query("FleetDiscovery", &text).await.expect("the hub tells").column("Is");
    let (is_late, is_right) = (|row: &&String| row.starts_with("true"), |row: &&String| row.ends_with("true"));
    // Where an unchanged schema rests, the one that came under the fault is the last.
    let came_before = table.starts_with("New") && rows.iter().any(|row| is_right(&row) && !is_late(&row));
    let late = rows.iter().filter(is_late);
    if came_before { 0 } else { late.take_while(|row| !is_right(row)).count() }
}

/// Waits until the newest schema is one that the cluster has told anew: a beat that was under way may still repeat an older one.
async fn until_fresh(hub: &Hub, agent: &Process, what: &str) {
    let deadline = time::Instant::now() + SOON;
    let newest = "Heartbeats | extend Received = ingestion_time() | where isnotempty(tostring(Schema)) | top 1 by Received desc | where tostring(Schema) has 'stale' | count";
    while hub.server.query("FleetDiscovery", newest).await.expect("the hub counts").column("Count") != ["0"] {
        assert!(time::Instant::now() < deadline, "{what}: the schema stays stale: {}", agent.output());
        time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_told_of(hub: &Hub, table: &str, agent: &Process, what: &str) {
    let deadline = time::Instant::now() + SOON;
    let text = format!("Heartbeats | where tostring(Schema) has '{table}' | count");
    while hub.server.query("FleetDiscovery", &text).await.expect("the hub counts").column("Count") == ["0"] {
        assert!(time::Instant::now() < deadline, "{what}: no beat tells of {table}: {}", agent.output());
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// One kind of fault at every request of a beat; after each the hub's agent makes twenty passes. All that is on the hub in the end, and the folder.
async fn at_every_request(fault: Value, schema: SchemaInBeats) -> (Vec<String>, TempDir) {
    let hub = Hub::start().await;
    let mut home = KustoServer::start_faulty(&["Logs"], &hub.folder.path().join("home.jsonl")).await;
    home.command("Logs", ".create table Requests (Level:string)").await.expect("the partition takes a table");
    let document = hub.folder.path().join("partition.yaml");
    let text = format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: europe}}\nspec:\n  clusterName: europe\n  endpoint: '{}'\n  federation:\n    heartbeatInterval: {}s\n    {}\n    partitioning: {{geo: EU}}\n    federatedClusters: [{{endpoint: '{}', heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats}}]\n",
        home.url,
        INTERVAL.as_secs(),
        schema.fields(),
        hub.server.url
    );
    fs::write(&document, text).expect("the folder can be written");
    let arguments = ["--config", document.to_str().expect("the path is text")].map(str::to_owned);
    let mut agent = Process::start("agent-partition", "agent-partition", &arguments);
    // On a slow machine the first beats do not wait for what the cluster holds.
    let mut first = rows(&hub).await;
    while first.1 == 0 {
        until_more_rows(&hub, first.0, &agent, "at first").await;
        first = rows(&hub).await;
    }
    // One that was late is there by then, too.
    until_more_rows(&hub, first.0 + 1, &agent, "at first").await;
    first = rows(&hub).await;
    hub.pass().await;
    let mut expected = hub.content().await;
    assert!(expected.iter().any(|line| line.contains("federated_Requests")), "{expected:?}");

    let refuse_streaming = json!({"path": STREAMING, "fault": {"status": 400}});
    let inline_rules = json!([refuse_streaming, {"text": BEAT, "fault": fault}]);
    for (name, server, request, at_home, at_hub) in [
        ("Inventory", &home, ENTITIES, json!([{"text": ENTITIES, "fault": fault}]), json!([])),
        ("Streaming", &hub.server, STREAMING, json!([]), json!([{"path": STREAMING, "fault": fault}])),
        ("Inline", &hub.server, BEAT, json!([]), inline_rules),
    ] {
        let what = format!("{fault} at {name}");
        let before = struck(server, request);
        home.fail(&at_home);
        hub.fail(&at_hub);
        let table = format!("New{name}");
        if schema == SchemaInBeats::OnChange {
            let create = format!(".create table {table} (a:long)");
            home.command("Logs", &create).await.expect("the partition takes a table");
            expected.push(format!("Logs {:?}", [json!(format!("federated_{table}"))]));
            expected.sort();
        }
        until_struck(server, request, before, &what).await;
        // And once more, if it was to be sent again.
        time::sleep(INTERVAL).await;
        home.fail(&json!([]));
        hub.fail(&json!([]));
        let ended = Timestamp::now();
        let (before, _) = rows(&hub).await;
        until_more_rows(&hub, before, &agent, &format!("after {what}")).await;
        if schema == SchemaInBeats::OnChange {
            until_told_of(&hub, &table, &agent, &format!("after {what}")).await;
        }
        until_fresh(&hub, &agent, &format!("after {what}")).await;
        let told = if schema == SchemaInBeats::OnChange { &table } else { "Requests" };
        let wrong = beats_until_right(&hub, ended, told).await;
        // One that was under way, and one more.
        assert!(wrong <= 2, "after {what} {wrong} beats told what was no longer so: {}", agent.output());
        let (code, output) = hub.pass().await;
        assert_eq!((code, hub.content().await), (Some(0), expected.clone()), "{what}: {output}");
        assert_eq!(hub.rests().await, Ok(()), "after {what}");
    }
    let last = rows(&hub).await;
    let (beats, whole) = (last.0 - first.0, last.1 - first.1);
    match schema {
        SchemaInBeats::Always => {
            assert_eq!(beats, whole, "a beat under {fault} lost its schema: {}", agent.output());
        }
        SchemaInBeats::OnChange => {
            assert!(whole < beats, "under {fault} a schema never rests: {}", agent.output());
        }
    }
    assert_eq!(hub.content().await, expected, "after {fault}");
    let left = hub.whole_content().await;
    let left = left.into_iter().map(|line| line.replace(&home.url, "home")).collect();
    agent.stop().await;
    home.process().stop().await;
    let known = [[ENTITIES, STREAMING, BEAT].as_slice(), &every_fault::REQUESTS, &setup_faults::REQUESTS].concat();
    for (server, known) in [(&home, &known[..1]), (&hub.server, &known[1..])] {
        assert_eq!(sent_without(server, known), [""; 0], "no fault was made at these");
    }
    let folder = hub.stop().await;
    (left, folder)
}

/// What agents sent to a server, path and text, that holds none of these.
fn sent_without(server: &KustoServer, known: &[&str]) -> Vec<String> {
    let recording = fs::read_to_string(&server.recording).expect("the recording can be read");
    let lines = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_agents =
        |line: &Value| line["client_request_id"].as_str().is_some_and(|id| id.starts_with("adx-federation."));
    let part = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let sent = lines.filter(is_agents).map(|line| format!("{} {}", part(&line, "path"), part(&line, "csl")));
    sent.filter(|sent| !known.iter().any(|known| sent.contains(known))).collect()
}

/// Every kind of fault at every request of beats: the hub ends the same whichever it was.
async fn under_every_fault(schema: SchemaInBeats) {
    let stories = faults().into_iter().map(|fault| at_every_request(fault, schema));
    let (left, folders): (Vec<_>, Vec<_>) = side_by_side(stories).await.into_iter().unzip();
    for (fault, left_by_another) in faults().iter().zip(&left) {
        assert_eq!(*left_by_another, left[0], "{fault}");
    }
    judge_together(folders.iter().map(TempDir::path));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_any_request_of_a_beat_keeps_the_next_ones_from_coming_or_takes_the_partition_away() {
    under_every_fault(SchemaInBeats::Always).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_any_request_of_a_beat_loses_what_has_changed_where_an_unchanged_schema_rests() {
    under_every_fault(SchemaInBeats::OnChange).await;
}
