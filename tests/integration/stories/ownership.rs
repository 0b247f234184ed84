//! Whose an object on the hub is, where records are lost, where two agents keep one hub, and where people copy what is ours.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, Pace},
    telemetry::REGIONS,
};
use tokio::time;

use crate::{
    admin::{admin_url, until},
    faulty_hub::Hub,
    support::{REGIONS_SEEN, SOON, end, hub_content},
};

/// Runs an agent once with a document, and says how it ended and what it printed.
async fn once(fleet: &Fleet, program: &str, document: &std::path::Path) -> (Option<i32>, String) {
    let mut agent = fleet.start_agent(program, document, &["--once"]);
    let status = agent.exited_within(SOON).await;
    (status.code(), agent.output())
}

/// A fleet whose agents have run once.
async fn federated_once() -> Fleet {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    assert_eq!(once(&fleet, "agent-hub", &fleet.hub_document()).await.0, Some(3), "nobody has beaten yet");
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        let (code, output) = once(&fleet, "agent-partition", &fleet.partition_document(region, server)).await;
        assert_eq!(code, Some(0), "{output}");
    }
    let (code, output) = once(&fleet, "agent-hub", &fleet.hub_document()).await;
    assert_eq!(code, Some(0), "{output}");
    fleet
}

async fn regions(fleet: &Fleet) -> Vec<String> {
    let table = fleet.hub.query("Logs", REGIONS_SEEN).await.expect("the hub answers");
    table.column("Region")
}

#[tokio::test]
async fn with_the_tables_of_the_heartbeat_database_lost_no_partition_leaves_and_groups_are_ours_again() {
    let fleet = federated_once().await;
    let before = hub_content(&fleet).await;
    for table in ["Heartbeats", "AdxFederationObjects", "AdxFederationMembers"] {
        let drop = format!(".drop table {table}");
        fleet.hub.command("FleetDiscovery", &drop).await.expect("the hub drops its table");
    }
    let hub = fleet.hub_document();
    assert_eq!(once(&fleet, "agent-hub", &hub).await.0, Some(3), "nobody has beaten since");
    // The others beat when their time comes.
    let first = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    assert_eq!(once(&fleet, "agent-partition", &first).await.0, Some(0));
    let (_, output) = once(&fleet, "agent-hub", &hub).await;
    assert_eq!(hub_content(&fleet).await, before, "{output}");
    assert_eq!(regions(&fleet).await, ["america", "asia", "europe"]);
    assert!(!output.contains("was not made by us"), "{output}");
    let record =
        "AdxFederationObjects | where State == 'Made' | summarize Groups = dcount(Name), Databases = dcount(Database)";
    let record = fleet.hub.query("FleetDiscovery", record).await.expect("the record is there");
    assert_eq!(record.rows, [[2, 3].map(Value::from)], "{output}");
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        once(&fleet, "agent-partition", &fleet.partition_document(region, server)).await;
    }
    let (code, output) = once(&fleet, "agent-hub", &hub).await;
    assert_eq!((code, hub_content(&fleet).await), (Some(0), before), "{output}");
    end(fleet, []).await;
}

#[tokio::test]
async fn an_agent_with_another_heartbeat_database_changes_nothing_of_the_first_ones() {
    let fleet = federated_once().await;
    let before = hub_content(&fleet).await;
    fleet.hub.command("FleetDiscovery", ".create database FleetB volatile").await.expect("the hub makes a database");
    let of_b = |document: std::path::PathBuf, name: &str| {
        let text = std::fs::read_to_string(document).expect("just written");
        fleet.write_document(name, &text.replace("FleetDiscovery", "FleetB"))
    };
    let hub = of_b(fleet.hub_document(), "hub-b");
    let partition = of_b(fleet.partition_document(&REGIONS[0], &fleet.partitions[0]), "partition-b");
    assert_eq!(once(&fleet, "agent-hub", &hub).await.0, Some(3));
    assert_eq!(once(&fleet, "agent-partition", &partition).await.0, Some(0));
    let (_, output) = once(&fleet, "agent-hub", &hub).await;
    let told = "the function 'federated_Requests' in 'Logs' is kept by the hub agent with the heartbeatDatabase 'FleetDiscovery'";
    assert!(output.contains(told), "{output}");
    let after = hub_content(&fleet).await;
    assert!(before.iter().all(|line| after.contains(line)), "{before:#?} {after:#?}");
    // With a prefix of its own it has functions of its own.
    let text = std::fs::read_to_string(&hub).expect("just written");
    let hub = fleet.write_document("hub-b", &text.replace("functionPrefix: federated_", "functionPrefix: b_"));
    once(&fleet, "agent-hub", &hub).await;
    let one = fleet.hub.query("Logs", "b_Requests() | distinct Region").await.expect("its function answers");
    assert_eq!(one.column("Region"), ["europe"]);
    assert_eq!(regions(&fleet).await, ["america", "asia", "europe"]);
    let (code, _) = once(&fleet, "agent-hub", &fleet.hub_document()).await;
    assert_eq!(code, Some(0));
    end(fleet, []).await;
}

#[tokio::test]
async fn a_copy_that_a_person_makes_of_a_function_of_ours_is_the_persons() {
    let fleet = federated_once().await;
    let shown = ".show functions | where Name == 'federated_Requests' | project DocString, Folder";
    let shown = fleet.hub.command("Logs", shown).await.expect("the hub shows its functions");
    let text = |column: &str| shown.column(column).remove(0);
    let copy = format!(
        ".create-or-alter function with (folder='{}', docstring='{}', skipvalidation=true) MyErrors() {{ federated_Requests() | where Level == 'Error' }}",
        text("Folder"),
        text("DocString")
    );
    fleet.hub.command("Logs", &copy).await.expect("the hub takes the function");
    let (code, output) = once(&fleet, "agent-hub", &fleet.hub_document()).await;
    assert_eq!((code, output.contains("MyErrors")), (Some(0), false), "{output}");
    let kept = fleet.hub.query("Logs", "MyErrors() | count").await.expect("it is still there");
    assert_eq!(kept.rows.len(), 1);
    end(fleet, []).await;
}

#[tokio::test]
async fn what_a_person_makes_between_our_look_and_our_command_is_the_persons() {
    let hub = Hub::start().await;
    hub.document("entityGroups: [{by: geo}]");
    hub.beat(&[("Logs", &["A"])]).await;
    // The script to Logs is on its way for longer than this process may wait for a processor.
    hub.fail(&json!([{"database": "Logs", "text": ".execute database script", "fault": {"delay": 12_000}}]));
    let mut agent = hub.agent();
    let deadline = Instant::now() + SOON;
    // Those to the other databases were sent with it.
    while hub.sent_with(".execute database script") < 2 {
        assert!(Instant::now() < deadline, "{}", agent.output());
        time::sleep(Duration::from_millis(20)).await;
    }
    let theirs = [
        ".create entity_group Logs_Partitions (cluster('http://127.0.0.9:1').database('Logs'))",
        ".create function with (folder='mine') federated_A() { print Mine = 1 }",
    ];
    for command in theirs {
        hub.server.command("Logs", command).await.expect("a person may make it");
    }
    hub.fail(&json!([]));
    let told = ["the entity group 'Logs_Partitions' in 'Logs'", "the function 'federated_A' in 'Logs'"];
    let told = told.map(|what| format!("{what} was not made by us and is left alone"));
    while !told.iter().all(|what| agent.output().contains(what)) {
        assert!(Instant::now() < deadline, "{}", agent.output());
        time::sleep(Duration::from_millis(20)).await;
    }
    // A line of a log is told once; the status goes on to tell it, also when all is quiet.
    let is_told = |_: u16, status: &str| {
        let status: Value = serde_json::from_str(status).expect("status is JSON");
        let pass = &status["lastPass"];
        pass["outcome"] == "unchanged" && told.iter().all(|what| pass["problems"].to_string().contains(what))
    };
    until(&admin_url(&agent).await, "/status", is_told).await;
    assert_eq!(hub.stays_quiet(&agent).await, Ok(()));
    agent.stop().await;
    let members = async |database: &str, group: &str| {
        let shown = format!(".show entity_groups | where Name == '{group}' | project Entities");
        hub.server.command(database, &shown).await.expect("it is shown").column("Entities").concat()
    };
    let of_person = members("Logs", "Logs_Partitions").await;
    assert!(of_person.contains("127.0.0.9") && !of_person.contains("127.0.0.1"), "{of_person}");
    // What nobody else has made is ours, of the same script, too; our functions ask a group of their own.
    for (database, group) in
        [("Logs", "Logs_Partitions_EU"), ("Logs", "federated_Logs_Partitions"), ("Metrics", "Logs_Partitions")]
    {
        let ours = members(database, group).await;
        assert!(ours.contains("127.0.0.1") && !ours.contains("127.0.0.9"), "{group} in {database}: {ours}");
    }
    let kept = hub.server.query("Logs", "federated_A").await.expect("it answers");
    assert_eq!(kept.rows, [[json!(1)]]);
    hub.end().await;
}
