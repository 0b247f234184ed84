//! A heartbeat table for each partition, of which one cannot be read: that is its partition's trouble and nobody else's, and no silence. A real agent over one local server, into
//! which the story writes the fleet's beats.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::process::Process;

use crate::{
    admin::{admin_url, get, partition_of},
    faulty_hub::Hub,
    rows::{RowFleet, own_table},
    support::until_printed,
};

/// Longer than anyone may be silent.
const LONG: SignedDuration = SignedDuration::from_secs(8);

async fn command(fleet: &RowFleet, text: &str) {
    fleet.hub.server.command("FleetDiscovery", text).await.expect("the hub takes it");
}

/// The partitions, by the end of the address, that every group of partitions' Logs lists, those by geography too.
async fn members(hub: &Hub) -> BTreeSet<usize> {
    let content = hub.content().await;
    let groups: Vec<&String> = content.iter().filter(|line| line.contains("Logs_Partitions")).collect();
    let is_member = |host: &usize| groups.iter().all(|group| group.contains(&format!("'http://127.0.0.{host}:1'")));
    assert_eq!(groups.len(), 4, "{content:#?}");
    (1..=5).filter(is_member).collect()
}

/// Until these are members, and Logs has the functions of these tables and no others.
async fn until_federated(fleet: &mut RowFleet, hosts: &[usize], tables: &[&str]) {
    let expected: BTreeSet<usize> = hosts.iter().copied().collect();
    let functions: Vec<String> = tables.iter().map(|table| format!("federated_{table}")).collect();
    fleet
        .until_so(async |hub: &Hub| {
            let (members, content) = (members(hub).await, hub.content().await);
            let has = |function: &&String| content.iter().any(|line| line.contains(*function));
            let count = content.iter().filter(|line| line.contains("federated_")).count();
            let is_so = members == expected && functions.iter().filter(has).count() == count;
            if is_so && count == functions.len() { Ok(()) } else { Err(format!("{members:?}: {content:#?}")) }
        })
        .await;
}

/// For longer than anyone may be silent these stay members, whatever else happens.
async fn all_stay(fleet: &mut RowFleet, hosts: &[usize]) {
    let until = Timestamp::now() + LONG;
    let expected: BTreeSet<usize> = hosts.iter().copied().collect();
    fleet
        .until_so(async |hub: &Hub| {
            let members = members(hub).await;
            assert!(members.is_superset(&expected), "{members:?}");
            if Timestamp::now() > until { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
}

async fn status_of(agent: &Process, host: usize) -> Value {
    partition_of(&get(&admin_url(agent).await, "/status").await.1, &format!("http://127.0.0.{host}:1"))
}

#[tokio::test]
async fn a_table_of_one_partition_that_cannot_be_read_is_no_silence_of_it_and_harms_nobody_else() {
    let all = (1..=5).map(|host| format!("'http://127.0.0.{host}:1'")).collect::<Vec<_>>().join(", ");
    let mut fleet = RowFleet::start(
        "200ms",
        &format!(
            "heartbeatTables: PerPartition, allowedPartitions: [{all}], heartbeatTTL: 4s, heartbeatInterval: 1s, entityGroups: [{{by: geo}}], membership: {{returnAfterBeats: 1, flappingReturns: 16}}"
        ),
    )
    .await;
    let mut agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    fleet.until(&url, &["changes_total{object=\"table\",action=\"create\",outcome=\"applied\"} 7"]).await;
    for host in 1..=4 {
        fleet.beating.insert(host, (if host == 4 { vec!["A", "D"] } else { vec!["A"] }, vec![]));
    }
    fleet.until_at_rest(&agent).await;
    until_federated(&mut fleet, &[1, 2, 3, 4], &["A", "D"]).await;

    // Somebody gives its table other columns: with it nothing can be written, and nothing read.
    fleet.beating.remove(&4);
    command(&fleet, &format!(".drop table {}", own_table(4))).await;
    command(&fleet, &format!(".create table {} (Order:long)", own_table(4))).await;
    // The others go on: one joins, one has a new table, and one that falls silent leaves.
    fleet.beating.insert(5, (vec!["A", "E"], vec![]));
    fleet.beating.insert(1, (vec!["A", "B"], vec![]));
    until_federated(&mut fleet, &[1, 2, 3, 4, 5], &["A", "B", "D", "E"]).await;
    all_stay(&mut fleet, &[1, 2, 3, 4, 5]).await;
    fleet.beating.remove(&3);
    until_federated(&mut fleet, &[1, 2, 4, 5], &["A", "B", "D", "E"]).await;
    let told = "the table 'Heartbeats_127_0_0_4___1' in 'FleetDiscovery' has not the columns of heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic), and is left as it is";
    let status = status_of(&agent, 4).await;
    let reason = status["reason"].as_str().unwrap_or_default();
    assert!(status["state"] != "expired" && reason.starts_with(told), "{status}");
    assert!(agent.output().contains(told), "{}", agent.output());
    let columns = fleet.hub.server.command("FleetDiscovery", &format!(".show table {} cslschema", own_table(4))).await;
    assert_eq!(columns.expect("it is there").column("Schema"), ["Order:long"]);

    // One that starts knows as little, and keeps it as long.
    agent.stop().await;
    agent = fleet.hub.agent();
    all_stay(&mut fleet, &[1, 2, 4, 5]).await;
    let recorded =
        fleet.hub.server.query("Logs", "federation_status() | where Partition has '127.0.0.4' | project State, Reason");
    let recorded = recorded.await.expect("the hub answers").text_rows();
    assert!(recorded.len() == 1 && recorded[0][0] == "unknown" && recorded[0][1].contains(told), "{recorded:?}");

    // With a column of another type no question over all tables has an answer: after one pass the others are read without it.
    fleet.beating.remove(&5);
    command(&fleet, &format!(".drop table {}", own_table(5))).await;
    let typed = "Timestamp:datetime, ClusterEndpoint:long, Schema:string, PartitionMetadata:dynamic";
    command(&fleet, &format!(".create table {} ({typed})", own_table(5))).await;
    fleet.beating.insert(1, (vec!["A", "C"], vec![]));
    // Nobody knows what the fourth has: what is there stays.
    until_federated(&mut fleet, &[1, 2, 4, 5], &["A", "B", "C", "D", "E"]).await;
    all_stay(&mut fleet, &[1, 2, 4, 5]).await;

    // With our columns in another order, what is written gets into the wrong ones: no heartbeat comes, and nobody is silent for that.
    command(&fleet, &format!(".drop table {}", own_table(5))).await;
    let turned = "ClusterEndpoint:string, Timestamp:datetime, Schema:dynamic, PartitionMetadata:dynamic";
    command(&fleet, &format!(".create table {} ({turned})", own_table(5))).await;
    fleet.beating.insert(5, (vec!["A", "E"], vec![]));
    all_stay(&mut fleet, &[1, 2, 4, 5]).await;
    let status = status_of(&agent, 5).await;
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("has not the columns")), "{status}");
    fleet.beating.remove(&5);

    // Without those tables the agent makes its own, and whoever beats is as live as before; whoever does not is silent from when that is seen.
    for host in [4, 5] {
        command(&fleet, &format!(".drop table {}", own_table(host))).await;
    }
    let has_table = async |hub: &Hub| {
        let tables =
            hub.server.command("FleetDiscovery", ".show tables | project TableName").await.expect("it answers");
        let has = [4, 5].iter().all(|host| tables.column("TableName").contains(&own_table(*host)));
        if has { Ok(()) } else { Err(format!("{tables:?}")) }
    };
    fleet.until_so(has_table).await;
    fleet.beating.insert(4, (vec!["A", "D"], vec![]));
    until_federated(&mut fleet, &[1, 2, 4], &["A", "C", "D"]).await;
    let status = status_of(&agent, 4).await;
    assert!(status["state"] == "live" && status["reason"].is_null(), "{status}");
    fleet.until_at_rest(&agent).await;
    fleet.end(agent).await;
}

/// Of tables that are to be made, one has the name of what is there already.
#[tokio::test]
async fn a_table_of_one_partition_that_cannot_be_made_keeps_no_other_from_being_made_and_no_status_from_being_told() {
    let all = (1..=3).map(|host| format!("'http://127.0.0.{host}:1'")).collect::<Vec<_>>().join(", ");
    let mut fleet =
        RowFleet::start("200ms", &format!("heartbeatTables: PerPartition, allowedPartitions: [{all}]")).await;
    let refused = format!(".create-merge table ['{}']", own_table(1));
    fleet.hub.fail(&json!([{"text": refused, "fault": {"status": 400}}]));
    let agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    fleet.until(&url, &["changes_total{object=\"table\",action=\"create\",outcome=\"applied\"} 4"]).await;
    for host in [2, 3] {
        fleet.beating.insert(host, (vec!["A"], vec![]));
    }
    let states = async |hub: &Hub| {
        let told = hub.server.query("Logs", "federation_status() | project Partition, State, Incomplete").await;
        told.map(|told| told.text_rows()).map_err(|error| error.to_string())
    };
    fleet
        .until_so(async |hub: &Hub| {
            let live = |host: usize| vec![format!("http://127.0.0.{host}:1"), "live".to_owned(), String::new()];
            let states = states(hub).await?;
            if states == [live(2), live(3)] { Ok(()) } else { Err(format!("{states:?}")) }
        })
        .await;
    let told = "its heartbeat table 'Heartbeats_127_0_0_1___1' could not be made, which is tried again";
    until_printed(&agent, told).await;
    // The tables that are right are not looked at while the other one is tried.
    let looks = |fleet: &RowFleet| fleet.hub.sent_with("['Heartbeats_127_0_0_2___1'] policy");
    let (before, tries) = (looks(&fleet), fleet.hub.sent_with(&refused));
    fleet
        .until_so(
            async |hub: &Hub| if hub.sent_with(&refused) > tries + 5 { Ok(()) } else { Err("not yet".to_owned()) },
        )
        .await;
    assert_eq!(looks(&fleet), before);
    fleet.hub.fail(&json!([]));
    fleet.until(&url, &["changes_total{object=\"table\",action=\"create\",outcome=\"applied\"} 5"]).await;
    fleet.beating.insert(1, (vec!["A"], vec![]));
    fleet.until_at_rest(&agent).await;
    assert!(!agent.output().contains("by somebody"), "{}", agent.output());
    fleet.end(agent).await;
}
