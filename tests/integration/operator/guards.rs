//! Guards of a hub's agent in a cluster: while one holds, the object's condition names it, an Event and the agent's log tell, whoever asks in Kusto is told, and no longer. The
//! agent is a real one in a pod; its partitions are rows and nothing else, which the story writes.

use std::{fs, time::Duration};

use futures::future;
use serde_json::{Value, json};
use tests::{
    cluster::{PATIENCE, TestNamespace, condition_of},
    fleet::{Fleet, Pace},
    kusto::Table,
};
use tokio::time;

use crate::support::{end, logged, until_event, until_logged};

/// Those in the east are 1 to 8; the others are in the west.
const PARTITIONS: usize = 11;
const EAST: usize = 8;

/// Who beats, and what databases they list.
#[derive(Clone, Copy)]
struct Beating<'a> {
    partitions: &'a [usize],
    databases: &'a [&'a str],
}

impl<'a> From<&'a [usize]> for Beating<'a> {
    fn from(partitions: &'a [usize]) -> Self {
        Self { partitions, databases: &["Logs", "Extra"] }
    }
}

impl<'a> From<&'a Vec<usize>> for Beating<'a> {
    fn from(partitions: &'a Vec<usize>) -> Self {
        partitions.as_slice().into()
    }
}

/// Some partitions beat while something is awaited.
async fn while_beating<'a, T>(fleet: &Fleet, beating: impl Into<Beating<'a>>, awaited: impl Future<Output = T>) -> T {
    let Beating { partitions, databases } = beating.into();
    let schema: Value = databases.iter().map(|name| json!({"database": name, "tables": ["T"]})).collect();
    let schema = schema.to_string().replace('"', "\"\"");
    let row = |number: &usize| {
        let zone = if *number > EAST { "WEST" } else { "EAST" };
        format!("2026-01-01T00:00:00Z,http://127.0.0.{number}:1,\"{schema}\",\"{{\"\"geo\"\":\"\"{zone}\"\"}}\"\n")
    };
    let rows: String = partitions.iter().map(row).collect();
    let command = format!(".ingest inline into table Heartbeats <|\n{rows}");
    let beating = async {
        let started = time::Instant::now();
        while started.elapsed() < PATIENCE * 4 {
            if !partitions.is_empty() {
                fleet.hub.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
            }
            time::sleep(Duration::from_millis(400)).await;
        }
    };
    tokio::select! {
        done = awaited => done,
        () = beating => unreachable!("what is awaited comes, or has given up by now"),
    }
}

/// Whether a guard of this reason holds and its message has all of these texts.
fn holds(object: &Value, reason: &str, texts: &[&str]) -> bool {
    condition_of(object, "Guarded").is_some_and(|guarded| {
        let message = guarded["message"].as_str().unwrap_or_default();
        guarded["status"] == "True" && guarded["reason"] == reason && texts.iter().all(|text| message.contains(text))
    })
}

/// Waits until a guard of this reason holds: while some partitions beat, the condition has all of these texts, and whoever asks in Kusto is told of these guards. An Event,
/// and the agent's log from now on, have the first of the texts.
async fn until_held<'a>(
    test: &TestNamespace,
    fleet: &Fleet,
    beating: impl Into<Beating<'a>>,
    reason: &str,
    texts: &[&str],
    guards: &str,
) {
    const GUARDS: &str = "federation_status() | distinct Guards";
    let beating = beating.into();
    // An earlier guard's lines may hold the text, too.
    let before = logged(test, texts[0]);
    // A hold may end by itself: both are looked for at once.
    let shows = test.until("ADXCluster", "hub", |hub| holds(hub, reason, texts));
    let tells = fleet.hub_until("Logs", GUARDS, PATIENCE, |table| table.column("Guards") == [guards]);
    while_beating(fleet, beating, future::join(shows, tells)).await;
    let told = future::join(until_event(test, reason, texts[0]), until_logged(test, texts[0], before));
    while_beating(fleet, beating, told).await;
}

/// Whether so many of all partitions are live, and nothing is held.
fn is_free(object: &Value, live: usize) -> bool {
    object["status"]["federation"]["live"] == format!("{live}/{PARTITIONS}")
        && condition_of(object, "Guarded").is_none()
        && condition_of(object, "Federated").is_some_and(|federated| federated["status"] == "True")
}

/// Which of the partitions the hub's group lists.
fn listed(group: &Table) -> Vec<usize> {
    let entities = group.column("Entities").concat();
    (1..=PARTITIONS).filter(|number| entities.contains(&format!("http://127.0.0.{number}:1'"))).collect()
}

#[tokio::test]
async fn a_guard_is_a_condition_an_event_and_in_the_log_while_it_holds_and_no_longer() {
    const GROUP: &str = ".show entity_group Logs_Partitions | project Entities";
    let all: Vec<usize> = (1..=PARTITIONS).collect();
    let pace = Pace { expected: "2s", time_to_live: "8s", ..Pace::FAST };
    let fleet = Fleet::start(pace).await.expect("the servers take the telemetry");
    // The story's own, before there is an agent.
    let table = ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)";
    fleet.hub.command("FleetDiscovery", table).await.expect("the hub takes the table");
    let test = TestNamespace::new("guards").await;
    let operator = test.operator().await;
    let hub = fs::read_to_string(fleet.hub_document()).expect("just written");
    // On a busy machine beats are late, together: whoever has returned a few times is to leave all the same.
    let membership = "    membership: {returnAfterBeats: 1, flappingReturns: 16}\n    macroExpand:";
    test.apply(&hub.replace("    macroExpand:", membership)).await;
    while_beating(&fleet, &all, test.until("ADXCluster", "hub", |hub| is_free(hub, PARTITIONS))).await;

    // What the hub answers to the question for heartbeats is no answer, for longer than one of the partitions may be silent.
    fleet.hub.fail(&json!([{"text": "NewBeats", "fault": "html"}]));
    let unread = "the heartbeats could not be read completely";
    until_held(&test, &fleet, &all[1..], "IncompleteRead", &[unread], "incomplete_read").await;
    let is_held = test.until_condition("ADXCluster", "hub", "Federated", "False", "Held");
    while_beating(&fleet, &all[1..], is_held).await;
    let silent = "federation_status() | where Partition == 'http://127.0.0.1:1' | project IsLong = Silence > 9s";
    let is_silent = fleet.hub_until("Logs", silent, PATIENCE, |table| table.column("IsLong") == ["true"]);
    while_beating(&fleet, &all[1..], is_silent).await;
    // Its silence began while nobody saw it. It returns before that is believed.
    fleet.hub.fail(&json!([]));
    let unwatched = "1 expired partition(s) stay federated until this agent has watched for one heartbeatTTL";
    until_held(&test, &fleet, &all[1..], "StartupGrace", &[unwatched], "startup_grace").await;
    while_beating(&fleet, &all, test.until("ADXCluster", "hub", |hub| is_free(hub, PARTITIONS))).await;

    // All of the west fall silent, which is less than half of the fleet, and two of the east. Whoever may leave does not yet: the hub takes no change.
    fleet.hub.fail(&json!([{"text": ".execute database script", "fault": "html"}]));
    let (west, budget) = ("3 of 3 partitions of zone 'WEST'", "2 partitions are to leave, at most 1 in one pass");
    let both = "mass_expiry, removal_budget";
    until_held(&test, &fleet, &all[2..EAST], "MassExpiry", &[west, budget, "acknowledgedPlan"], both).await;
    // The west is back. One of the two others may leave in each pass.
    until_held(&test, &fleet, &all[2..], "RemovalBudget", &[budget], "removal_budget").await;
    let group = fleet.hub.command("Logs", GROUP).await.expect("the hub answers");
    assert_eq!(listed(&group), all);
    fleet.hub.fail(&json!([]));
    let has_left = fleet.hub_until("Logs", GROUP, PATIENCE, |group| listed(group) == all[2..]);
    while_beating(&fleet, &all[2..], has_left).await;
    while_beating(&fleet, &all[2..], test.until("ADXCluster", "hub", |hub| is_free(hub, PARTITIONS - 2))).await;

    // All fall silent, and all but one return. So does that one, before its time is over.
    let dark = "in the heartbeat table has a beat younger than heartbeatTTL";
    until_held(&test, &fleet, &all[..0], "NoLiveHeartbeat", &[dark], "no_live_heartbeat").await;
    let recovering = "beats have returned to a fleet that was held: 1 expired partition(s) stay federated until";
    until_held(&test, &fleet, &all[3..], "Recovering", &[recovering], "recovering").await;
    while_beating(&fleet, &all[2..], test.until("ADXCluster", "hub", |hub| is_free(hub, PARTITIONS - 2))).await;
    let group = fleet.hub.command("Logs", GROUP).await.expect("the hub answers");
    assert_eq!(listed(&group), all[2..]);

    // All list one of their databases no longer, and then do.
    let extra = GROUP.replace("Logs", "Extra");
    let less = Beating { partitions: &all[2..], databases: &["Logs"] };
    let unlisted = "9 of 9 partitions that had the database 'Extra' are not seen to list it any more";
    until_held(&test, &fleet, less, "UnlistedDatabases", &[unlisted, "acknowledgedPlan"], "unlisted_databases").await;
    let group = fleet.hub.command("Logs", &extra).await.expect("the hub answers");
    assert_eq!(listed(&group), all[2..]);
    while_beating(&fleet, &all[2..], test.until("ADXCluster", "hub", |hub| is_free(hub, PARTITIONS - 2))).await;
    drop(operator);
    end(test, fleet).await;
}
