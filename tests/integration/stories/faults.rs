//! A hub that answers wrongly: nothing is removed because it was not seen.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    fleet::{Fleet, Pace},
    process::Process,
    proxy::{Fault, FaultProxy},
    telemetry::REGIONS,
};
use tokio::time;

use crate::{
    admin::{admin_url, get},
    faulty_hub::{Hub, Sent, faults, side_by_side},
    support::{SOON, end, hub_content, judge_together, until_regions},
};

/// The hub agent asks the hub through a proxy; the partitions' agents write to it directly.
async fn with_proxy() -> (Fleet, FaultProxy, Vec<Process>) {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let proxy = FaultProxy::start(&fleet.hub.url).await;
    let document = fs::read_to_string(fleet.hub_document()).expect("the document was just written");
    let document = fleet.write_document("hub-by-proxy", &document.replace(&fleet.hub.url, &proxy.url));
    let mut agents = vec![fleet.start_agent("agent-hub", &document, &[])];
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        agents.push(fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &[]));
    }
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    // One database has all; the others have it, too, when a pass that began since had nothing to do.
    let quiet_passes = || agents[0].output().matches("pass ended outcome=unchanged").count();
    let (quiet, deadline) = (quiet_passes(), time::Instant::now() + SOON);
    while quiet_passes() < quiet + 2 {
        assert!(time::Instant::now() < deadline, "no quiet pass in:\n{}", agents[0].output());
        time::sleep(Duration::from_millis(50)).await;
    }
    (fleet, proxy, agents)
}

#[tokio::test]
async fn a_heartbeat_query_that_fails_or_is_cut_or_holds_an_error_removes_nothing() {
    let (fleet, proxy, agents) = with_proxy().await;
    let before = hub_content(&fleet).await;
    for fault in [Fault::Unavailable, Fault::Cut, Fault::ErrorInside, Fault::Html, Fault::Redirect, Fault::Throttled] {
        for read in ["SchemaHash", ".show databases", ".show entity_groups"] {
            proxy.spoil(read, fault);
            let deadline = time::Instant::now() + SOON;
            while proxy.met() < 2 {
                assert!(time::Instant::now() < deadline, "{read} was not asked for under {fault:?}");
                time::sleep(Duration::from_millis(50)).await;
            }
            proxy.heal();
            assert_eq!(hub_content(&fleet).await, before, "{fault:?} at {read}");
        }
    }
    // And it works again: a new table shows.
    fleet.partitions[0].command("Logs", ".create table Fresh (a:long)").await.expect("the partition takes a table");
    fleet
        .hub_until("Logs", ".show functions | where Name == 'federated_Fresh'", SOON, |table| table.rows.len() == 1)
        .await;
    end(fleet, agents).await;
}

/// Part of the query of the heartbeats, and of no other text that an agent sends.
const HEARTBEATS: &str = "NewBeats";

/// Kinds of fault that this query cannot suffer from: a later answer is an answer, and what is no script is not answered as one.
const NO_FAULTS: [&str; 2] = ["delay", "failedScript"];

/// These partitions beat until something is so.
async fn beating_until(hub: &Hub, agent: &Process, partitions: &[&str], what: &str, is_so: impl Fn() -> bool) {
    let schema = json!([{"database": "Logs", "tables": ["A"]}]);
    let deadline = time::Instant::now() + SOON * 5;
    while !is_so() {
        assert!(time::Instant::now() < deadline, "{what}: {}", agent.output());
        hub.beat_of(partitions, &schema).await;
        time::sleep(Duration::from_millis(200)).await;
    }
}

/// One kind of fault at the query of the heartbeats, for longer than the time to live. Were a part of the list believed, the others would leave: no grace of a
/// start keeps them, and no guard, since one that fell silent has left.
async fn at_the_heartbeats(fault: Value) -> TempDir {
    let hub = Hub::start().await;
    // On a busy machine beats are late, together: whoever has returned a few times does not leave.
    hub.document(
        "heartbeatTTL: 4s, heartbeatInterval: 1s, membership: {suspectAfterMissedBeats: 2, flappingReturns: 16}",
    );
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    let has_told = |text: &str| agent.output().contains(text);
    let are_in = || has_told("3 partition(s) have the database");
    beating_until(&hub, &agent, &["1", "2", "3"], "all are federated", are_in).await;
    beating_until(&hub, &agent, &["1", "2"], "the third leaves", || has_told("left: http://127.0.0.3")).await;
    let before = hub.content().await;
    let lists = |host: &str| before.iter().any(|line| line.contains(host));
    assert!(lists("127.0.0.1") && lists("127.0.0.2") && !lists("127.0.0.3"), "{before:#?}");

    let mut read = 0;
    hub.sent_since(&mut read);
    let passes = || agent.output().matches("pass ended").count();
    let (started, ended) = (time::Instant::now(), passes());
    hub.fail(&json!([{"text": HEARTBEATS, "fault": fault}]));
    // Of three, the first may have read the heartbeats already.
    let is_over = || passes() > ended + 2 && started.elapsed() > Duration::from_secs(5);
    beating_until(&hub, &agent, &["1", "2"], "passes end under the fault", is_over).await;
    let is_harmless = NO_FAULTS.iter().any(|kind| fault.to_string().contains(kind));
    let guard = |holds: bool| format!("adx_federation_guard_active{{reason=\"incomplete_read\"}} {}", u8::from(holds));
    let (_, metrics) = get(&url, "/metrics").await;
    assert!(metrics.lines().any(|line| line == guard(!is_harmless)), "{fault}: {metrics}");
    let sent = hub.sent_since(&mut read);
    assert!(sent.iter().filter(|sent| sent.is_struck).count() >= 2, "{fault} was not met: {sent:#?}");
    // What is remembered of a partition may be recorded: by the first of the passes, and by all of those that the fault does nothing to.
    let is_memory = |sent: &Sent| sent.text.contains("into table ['AdxFederationMembers']");
    let changes: Vec<&Sent> = sent.iter().filter(|sent| sent.writes() && !is_memory(sent)).collect();
    assert!(changes.is_empty(), "{fault}: {changes:#?}: {}", agent.output());

    hub.fail(&json!([]));
    let quiet_passes = || agent.output().matches("pass ended outcome=unchanged").count();
    let quiet = quiet_passes();
    let sees = || quiet_passes() > quiet;
    beating_until(&hub, &agent, &["1", "2"], "sight returns", sees).await;
    assert_eq!(hub.content().await, before, "{fault}: {}", agent.output());
    let (_, metrics) = get(&url, "/metrics").await;
    assert!(metrics.lines().any(|line| line == guard(false)), "after {fault}: {metrics}");
    agent.stop().await;
    let Hub { mut server, folder, .. } = hub;
    server.process().stop().await;
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_that_cannot_be_read_for_longer_than_the_ttl_remove_nobody_who_beats() {
    let folders = side_by_side(faults().into_iter().map(at_the_heartbeats)).await;
    judge_together(folders.iter().map(TempDir::path));
}

#[tokio::test]
async fn a_hub_agent_that_starts_while_schemas_cannot_be_read_removes_nothing() {
    let (fleet, proxy, mut agents) = with_proxy().await;
    let before = hub_content(&fleet).await;
    agents[0].kill().await;
    for fault in [Fault::Unavailable, Fault::Cut, Fault::ErrorInside] {
        // The text that asks for schemas names the endpoints in a parameter.
        proxy.spoil("_endpoints", fault);
        let document = fleet.folder.path().join("hub-by-proxy.yaml");
        let mut agent = fleet.start_agent("agent-hub", &document, &["--once"]);
        agent.exited_within(SOON).await;
        assert!(proxy.heal() > 0, "the agent asks for the schemas");
        assert!(agent.output().contains("schema(s) could not be read"), "{}", agent.output());
        assert_eq!(hub_content(&fleet).await, before, "{fault:?}");
    }
    end(fleet, agents).await;
}

#[tokio::test]
async fn a_change_that_the_hub_refuses_is_a_failure_and_is_made_later() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let proxy = FaultProxy::start(&fleet.hub.url).await;
    let document = fs::read_to_string(fleet.hub_document()).expect("the document was just written");
    let document = fleet.write_document("hub-by-proxy", &document.replace(&fleet.hub.url, &proxy.url));
    let once = async || {
        let mut agent = fleet.start_agent("agent-hub", &document, &["--once"]);
        (agent.exited_within(SOON).await.code(), agent.output())
    };
    once().await;
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        let mut agent = fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &["--once"]);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    }
    // The last of them is made, and only its answer is spoilt: to the agent that is the same.
    for fault in [Fault::Unavailable, Fault::Html, Fault::ErrorInside] {
        // Only what goes to this database's script; the other databases' are made.
        proxy.spoil("federated_PrometheusData", fault);
        let (code, output) = once().await;
        assert_eq!(code, Some(1), "{fault:?}: {output}");
        assert!(output.contains("hub refused a change"), "{output}");
        proxy.heal();
        let logs = fleet.hub.query("Logs", "federated_Requests() | count").await.expect("its own database is made");
        assert_eq!(logs.column("Count"), ["420"], "{fault:?}");
    }
    assert_eq!(once().await.0, Some(0));
    let metrics = fleet.hub.query("Metrics", "federated_PrometheusData() | count").await.expect("made in the end");
    assert_eq!(metrics.column("Count"), ["30"]);
    end(fleet, []).await;
}
