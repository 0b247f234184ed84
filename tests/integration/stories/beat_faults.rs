//! Every fault of `kusto-local --faults` at every request that a partition agent's beat makes: beats come again once the fault is over, each with the whole
//! schema and by one request, and the hub's pass takes nothing away.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{kusto::KustoServer, process::Process};
use tokio::time;

use crate::{
    every_fault,
    faulty_hub::{Hub, faults, side_by_side},
    setup_faults,
    support::{SOON, judge_together},
};

const ENTITIES: &str = ".show databases entities";

/// Beats this often.
const INTERVAL: Duration = Duration::from_secs(2);

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

/// One kind of fault at every request of a beat.
async fn at_every_request(fault: Value) -> TempDir {
    let hub = Hub::start().await;
    let mut home = KustoServer::start_faulty(&["Logs"], &hub.folder.path().join("home.jsonl")).await;
    home.command("Logs", ".create table Requests (Level:string)").await.expect("the partition takes a table");
    let document = hub.folder.path().join("partition.yaml");
    let text = format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: europe}}\nspec:\n  clusterName: europe\n  endpoint: '{}'\n  federation:\n    heartbeatInterval: {}s\n    partitioning: {{geo: EU}}\n    federatedClusters: [{{endpoint: '{}', heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats}}]\n",
        home.url,
        INTERVAL.as_secs(),
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
    let expected = hub.content().await;
    assert!(expected.iter().any(|line| line.contains("federated_Requests")), "{expected:?}");

    let streaming = "/v1/rest/ingest/FleetDiscovery/Heartbeats";
    let refuse_streaming = json!({"path": streaming, "fault": {"status": 400}});
    let inline = ".ingest inline into table ['Heartbeats']";
    let inline_rules = json!([refuse_streaming, {"text": inline, "fault": fault}]);
    for (what, server, request, at_home, at_hub) in [
        ("inventory", &home, ENTITIES, json!([{"text": ENTITIES, "fault": fault}]), json!([])),
        ("streaming", &hub.server, streaming, json!([]), json!([{"path": streaming, "fault": fault}])),
        ("inline", &hub.server, inline, json!([]), inline_rules),
    ] {
        home.fail(&at_home);
        hub.fail(&at_hub);
        let seen = server.recorded(request);
        let deadline = time::Instant::now() + SOON;
        while server.recorded(request) == seen {
            assert!(time::Instant::now() < deadline, "{fault} at {what}: no such request was made");
            time::sleep(Duration::from_millis(50)).await;
        }
        // And once more, if it was to be sent again.
        time::sleep(INTERVAL).await;
        home.fail(&json!([]));
        hub.fail(&json!([]));
        let (before, _) = rows(&hub).await;
        until_more_rows(&hub, before, &agent, &format!("after {fault} at {what}")).await;
        let (code, output) = hub.pass().await;
        assert_eq!((code, hub.content().await), (Some(0), expected.clone()), "{fault} at {what}: {output}");
    }
    let (beats, whole) = rows(&hub).await;
    assert_eq!(beats - first.0, whole - first.1, "a beat under {fault} lost its schema: {}", agent.output());
    agent.stop().await;
    home.process().stop().await;
    let known = [[ENTITIES, streaming, inline].as_slice(), &every_fault::REQUESTS, &setup_faults::REQUESTS].concat();
    for (server, known) in [(&home, &known[..1]), (&hub.server, &known[1..])] {
        assert_eq!(sent_without(server, known), [""; 0], "no fault was made at these");
    }
    let Hub { mut server, folder, .. } = hub;
    server.process().stop().await;
    folder
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_any_request_of_a_beat_keeps_the_next_ones_from_coming_or_takes_the_partition_away() {
    let folders = side_by_side(faults().into_iter().map(at_every_request)).await;
    judge_together(folders.iter().map(TempDir::path));
}
