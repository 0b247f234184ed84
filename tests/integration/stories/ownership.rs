//! Whose an object on the hub is, where records are lost, where two agents keep one hub, and where people copy what is ours.

use tests::{
    fleet::{Fleet, Pace},
    telemetry::REGIONS,
};

use crate::support::{REGIONS_SEEN, SOON, end, hub_content};

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
    assert_eq!(record.rows, [[2, 3].map(serde_json::Value::from)], "{output}");
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
