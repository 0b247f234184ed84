//! Every state, change and guard that the hub's agent knows has its number: a real agent over one local server, into which the story writes the fleet's beats.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::time;

use crate::{
    admin::{admin_url, get, partition_of},
    faulty_hub::Hub,
    rows::{OUTSIDER, RowFleet, WEST},
    support::until_printed,
};

/// A partition that the hub's document blocks; the outsider is one that its pattern does not fit.
const BLOCKED: usize = 98;

/// The hub's `heartbeatTTL`. Partitions beat all the time, and one that does not is suspect after six and a half seconds: not before this process may have waited for a processor.
const TIME_TO_LIVE: Duration = Duration::from_secs(10);

async fn start(reconcile: &str, membership: &str) -> RowFleet {
    let time_to_live = TIME_TO_LIVE.as_secs();
    let fields = format!(
        "heartbeatTTL: {time_to_live}s, heartbeatInterval: 2s, blockedPartitions: ['http://127.0.0.{BLOCKED}:1'], allowedPartitionPattern: '127.0.0.*', membership: {{suspectAfterMissedBeats: 3, {membership}}}"
    );
    RowFleet::start(reconcile, &fields).await
}

/// A sample of `partitions`.
macro_rules! state {
    ($state:literal, $count:literal) => {
        concat!("partitions{state=\"", $state, "\"} ", $count)
    };
}

/// A sample of `changes_total`.
macro_rules! change {
    ($object:literal, $action:literal, $outcome:literal, $count:literal) => {
        concat!("changes_total{object=\"", $object, "\",action=\"", $action, "\",outcome=\"", $outcome, "\"} ", $count)
    };
}

/// A sample of `guard_active`.
macro_rules! guard {
    ($reason:literal, $active:literal) => {
        concat!("guard_active{reason=\"", $reason, "\"} ", $active)
    };
}

#[tokio::test]
async fn every_state_of_a_partition_and_every_change_of_the_hub_is_counted() {
    let mut fleet = start("200ms", "joinAfterBeats: 2, returnAfterBeats: 1, flappingReturns: 2").await;
    let agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    // The heartbeat table, and those for what the agent records.
    fleet.until(&url, &[change!("table", "create", "applied", "3")]).await;

    // One beat of two that are asked for.
    fleet.beating.insert(1, (vec!["A"], vec![]));
    fleet.beat().await;
    fleet.beating.clear();
    fleet.until(&url, &[state!("joining", "1"), state!("live", "0")]).await;
    for host in [1, 2, 3, BLOCKED, OUTSIDER] {
        fleet.beating.insert(host, (vec!["A"], vec![]));
    }
    let all = [
        state!("joining", "0"),
        state!("live", "3"),
        state!("blocked", "1"),
        state!("untrusted", "1"),
        "refused_heartbeats{reason=\"untrusted\"} 1",
        // Their clocks are months behind.
        "refused_heartbeats{reason=\"content\"} 5",
    ];
    fleet.until(&url, &all).await;
    // `federated_A`, and `federation_status` in three databases.
    fleet.until(&url, &[change!("function", "create", "applied", "4")]).await;

    // A function over those that have its table; its group, when its database comes to be known, and when that has not been listed for one time to live.
    fleet.beating.insert(1, (vec!["A", "B"], vec!["M"]));
    fleet.until(&url, &[change!("function", "create", "applied", "6")]).await;
    fleet.beating.insert(2, (vec!["A", "B"], vec![]));
    fleet.until(&url, &[change!("function", "alter", "applied", "1")]).await;
    for host in [1, 2] {
        fleet.beating.insert(host, (vec!["A"], vec![]));
    }
    fleet.until(&url, &[change!("function", "drop", "applied", "2")]).await;
    fleet.until(&url, &[change!("entity_group", "drop", "applied", "3")]).await;

    fleet.hub.fail(&json!([{"text": ".execute database script", "count": 1, "fault": "failedScript"}]));
    fleet.beating.insert(1, (vec!["A", "C"], vec![]));
    fleet
        .until(&url, &[change!("function", "create", "failed", "1"), change!("function", "create", "applied", "7")])
        .await;

    // What the hub is to forget of columns counts too, and what is recorded.
    let fails = |text: &str| json!([{"text": text, "fault": {"status": 400}}]);
    let failed = async |object: &str| {
        let metrics = get(&url, "/metrics").await.1;
        let is_it = |line: &str| line.contains(&format!("object=\"{object}\"")) && line.contains("outcome=\"failed\"}");
        if metrics.lines().any(is_it) { Ok(()) } else { Err(metrics) }
    };
    fleet.hub.fail(&fails(".clear cache remote-schema"));
    fleet.beating.insert(1, (vec!["A", "D"], vec![]));
    fleet.until_so(async |_: &Hub| failed("remote_schema").await).await;
    fleet.hub.fail(&fails("into table ['AdxFederationMembers']"));

    // It falls silent, and returns, and again.
    for _ in 0..2 {
        let silent = fleet.beating.remove(&3).expect("it beats");
        fleet.until(&url, &[state!("suspect", "1")]).await;
        fleet.until_so(async |_: &Hub| failed("record").await).await;
        fleet.hub.fail(&json!([]));
        fleet.beating.insert(3, silent);
        fleet.until(&url, &[state!("suspect", "0")]).await;
    }
    fleet.until(&url, &[state!("flapping", "1"), state!("live", "2")]).await;
    fleet.end(agent).await;
}

/// The fleet beats until the agent tells that a guard keeps a partition.
async fn until_kept(fleet: &mut RowFleet, url: &str, host: usize, guard: &str) {
    let endpoint = format!("http://127.0.0.{host}:1");
    fleet
        .until_so(async |_: &Hub| {
            let partition = partition_of(&get(url, "/status").await.1, &endpoint);
            if partition["keptBy"] == guard { Ok(()) } else { Err(format!("{guard} does not keep {partition:#}")) }
        })
        .await;
}

#[tokio::test]
async fn every_guard_of_a_removal_shows_while_it_holds_and_no_longer() {
    // One leaves in each pass: of six, the last does ten seconds after the first.
    let mut fleet = start("2s", "returnAfterBeats: 1, flappingReturns: 16, removalPercent: 1").await;
    let mut agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    fleet.until(&url, &[change!("table", "create", "applied", "3")]).await;
    for host in 1..=20 {
        fleet.beating.insert(host, (vec!["A"], vec![]));
    }
    fleet.until(&url, &[state!("live", "20")]).await;
    // The agent has watched for one time to live.
    let watching = Instant::now();
    while watching.elapsed() < TIME_TO_LIVE {
        fleet.until(&url, &[state!("live", "20")]).await;
        time::sleep(Duration::from_millis(100)).await;
    }
    // Less than a mass.
    for host in 15..=20 {
        fleet.beating.remove(&host);
    }
    fleet.until(&url, &[guard!("removal_budget", "1"), guard!("startup_grace", "0"), guard!("recovering", "0")]).await;
    fleet.until(&url, &[guard!("removal_budget", "0"), state!("live", "14")]).await;

    // All fall silent; some come back.
    let beating = std::mem::take(&mut fleet.beating);
    fleet.until(&url, &[guard!("no_live_heartbeat", "1")]).await;
    fleet.beating = beating;
    fleet.beating.remove(&14);
    fleet.until(&url, &[guard!("recovering", "1"), guard!("no_live_heartbeat", "0")]).await;
    fleet.until(&url, &[guard!("recovering", "0"), state!("live", "13")]).await;

    // A silence that began while no agent watched.
    agent.stop().await;
    fleet.beating.remove(&13);
    let silent = Instant::now();
    while silent.elapsed() < TIME_TO_LIVE + Duration::from_secs(1) {
        fleet.beat().await;
        time::sleep(Duration::from_millis(400)).await;
    }
    agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    fleet.until(&url, &[guard!("startup_grace", "1"), state!("live", "12")]).await;
    fleet.until(&url, &[guard!("startup_grace", "0")]).await;

    // Two thirds fall silent: more than may be believed, and less than all.
    let beating = fleet.beating.clone();
    fleet.beating.retain(|host, _| *host > 8);
    fleet.until(&url, &[guard!("mass_expiry", "1"), guard!("no_live_heartbeat", "0"), state!("live", "4")]).await;
    let guards = fleet.hub.server.query("Logs", "federation_status() | distinct Guards").await;
    assert_eq!(guards.expect("the hub answers").column("Guards"), ["mass_expiry"]);
    until_kept(&mut fleet, &url, 1, "mass_expiry").await;
    fleet.beating.clone_from(&beating);
    fleet.until(&url, &[guard!("mass_expiry", "0"), guard!("recovering", "0"), state!("live", "12")]).await;

    // A third of the fleet, and all of a zone.
    fleet.beating.retain(|host, _| !WEST.contains(host));
    fleet.until(&url, &[guard!("mass_expiry", "1"), state!("live", "8")]).await;
    until_printed(&agent, "'WEST'").await;
    fleet.beating = beating;
    fleet.until(&url, &[guard!("mass_expiry", "0"), guard!("recovering", "0"), state!("live", "12")]).await;

    // A database that nearly all list no longer. Some do again, and then all.
    let lists = |fleet: &mut RowFleet, hosts: RangeInclusive<usize>, metrics: Vec<&'static str>| {
        for host in hosts {
            fleet.beating.insert(host, (vec!["A"], metrics.clone()));
        }
    };
    lists(&mut fleet, 1..=12, vec!["M"]);
    fleet
        .until_so(async |hub: &Hub| {
            let content = hub.content().await;
            if content.iter().any(|line| line.contains("federated_M")) { Ok(()) } else { Err(content.join("\n")) }
        })
        .await;
    lists(&mut fleet, 1..=10, vec![]);
    fleet.until(&url, &[guard!("unlisted_databases", "1"), state!("live", "12")]).await;
    until_kept(&mut fleet, &url, 1, "unlisted_databases").await;
    lists(&mut fleet, 1..=9, vec!["M"]);
    fleet.until(&url, &[guard!("unlisted_databases", "0"), guard!("recovering", "1")]).await;
    until_kept(&mut fleet, &url, 10, "recovering").await;
    lists(&mut fleet, 10..=10, vec!["M"]);
    fleet.until(&url, &[guard!("recovering", "0"), state!("live", "12")]).await;
    let members = |line: &String| line.contains("\"Metrics_Partitions\"") && line.matches("127.0.0.").count() == 12;
    assert!(fleet.hub.content().await.iter().any(members));
    fleet.end(agent).await;
}
