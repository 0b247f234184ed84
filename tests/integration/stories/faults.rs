//! A hub that answers wrongly: nothing is removed because it was not seen.

use std::{fs, time::Duration};

use tests::{
    fleet::{Fleet, Pace},
    process::Process,
    proxy::{Fault, FaultProxy},
    telemetry::REGIONS,
};
use tokio::time;

use crate::support::{SOON, end, hub_content, until_printed, until_regions};

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
    (fleet, proxy, agents)
}

#[tokio::test]
async fn a_heartbeat_query_that_fails_or_is_cut_or_holds_an_error_removes_nothing() {
    let (fleet, proxy, agents) = with_proxy().await;
    time::sleep(Duration::from_secs(1)).await;
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

/// Were a part of the list believed, the others would be expired by then, and no grace of a start would keep them.
#[tokio::test]
async fn a_reading_that_is_cut_for_longer_than_the_ttl_removes_nobody_who_beats() {
    let (fleet, proxy, agents) = with_proxy().await;
    let before = hub_content(&fleet).await;
    time::sleep(Duration::from_secs(5)).await;
    for fault in [Fault::Cut, Fault::ErrorInside] {
        let held = || agents[0].output().matches("could not be read completely").count();
        let (before_fault, started) = (held(), time::Instant::now());
        proxy.spoil("SchemaHash", fault);
        // Each pass asks several times.
        while held() < before_fault + 2 || started.elapsed() < Duration::from_secs(9) {
            assert!(started.elapsed() < SOON * 3, "no pass is held under {fault:?}:\n{}", agents[0].output());
            time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(hub_content(&fleet).await, before, "{fault:?}");
        proxy.heal();
    }
    end(fleet, agents).await;
}

#[tokio::test]
async fn a_hub_agent_that_starts_while_schemas_cannot_be_read_removes_nothing() {
    let (fleet, proxy, mut agents) = with_proxy().await;
    until_printed(&agents[0], "pass ended").await;
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
