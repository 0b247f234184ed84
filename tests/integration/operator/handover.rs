//! Leadership of a hub's agents passes on while a partition is silent: whoever leads next believes no silence that nobody has watched for one time to live.

use jiff::{SignedDuration, Timestamp};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    cluster::{PATIENCE, TestNamespace},
    fleet::{Fleet, Pace},
    kusto::{KustoServer, Table},
};

use crate::support::{apply_documents, end, until_logged};

const LEASE: &str = "coordination.k8s.io/v1 Lease";

/// The hub's groups, in one of its databases.
const GROUPS: &str = ".show entity_groups";

/// Whether a partition is in one of them.
fn lists(groups: &Table, partition: &KustoServer) -> bool {
    let cluster = format!("{}'", partition.url);
    groups.rows.iter().flatten().any(|cell| cell.to_string().contains(&cluster))
}

/// `time_to_live` of [`Pace::LEAVING`].
const TIME_TO_LIVE: SignedDuration = SignedDuration::from_secs(15);

/// Sends a signal to the agents whose pods' names begin so: how many there are.
fn signal(test: &TestNamespace, pods: &str, signal: Signal) -> usize {
    let pids = test.kubelet.pids();
    let pids: Vec<u32> = pids.into_iter().filter(|(pod, _)| pod.starts_with(pods)).map(|(_, pid)| pid).collect();
    for pid in &pids {
        let pid = i32::try_from(*pid).expect("a process id is small");
        kill(Pid::from_raw(pid), signal).expect("the agent is there");
    }
    pids.len()
}

/// When the hub was told to change its groups, by what it has recorded.
fn changes_of_groups(fleet: &Fleet) -> Vec<Timestamp> {
    let recording = std::fs::read_to_string(&fleet.hub.recording).expect("the file is there");
    let lines = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let changes = lines.filter(|line| {
        let text = line["csl"].as_str().unwrap_or_default();
        text.starts_with('.') && !text.starts_with(".show ") && text.contains(" entity_group ")
    });
    changes.filter_map(|line| line["time"].as_str()?.parse().ok()).collect()
}

fn holder(lease: &Value) -> &str {
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn who_leads_next_keeps_a_silent_partition_until_it_has_watched_for_one_time_to_live() {
    let fleet = Fleet::start(Pace::LEAVING).await.expect("the servers take the telemetry");
    let test = TestNamespace::new("handover").await;
    let operator = test.operator().await;
    apply_documents(&test, &fleet).await;
    test.until("ADXCluster", "hub", |hub| hub["status"]["federation"]["live"] == "3/3").await;
    test.until("apps/v1 Deployment", "hub-agent", |agent| agent["status"]["readyReplicas"] == 2).await;
    let (europe, asia) = (&fleet.partitions[0], &fleet.partitions[2]);
    let all = fleet.hub.command("Logs", GROUPS).await.expect("the hub answers");
    assert!(lists(&all, europe) && lists(&all, asia), "{all:#?}");

    // The one that leads sees nothing of the silence, and lets go of nothing: its lease expires. Just renewed, that takes longer than a partition has to live.
    let renewed = |lease: &Value| lease["spec"]["renewTime"].clone();
    let lease = test.until(LEASE, "hub-agent", |lease| !holder(lease).is_empty()).await;
    let lease = test.until(LEASE, "hub-agent", |now| renewed(now) != renewed(&lease)).await;
    let leader = holder(&lease).to_owned();
    assert_eq!(signal(&test, &leader, Signal::SIGSTOP), 1, "{leader}");
    assert_eq!(signal(&test, "europe-agent-", Signal::SIGSTOP), 1);
    let is_anothers = |lease: &Value| !holder(lease).is_empty() && holder(lease) != leader;
    let lease = test.until(LEASE, "hub-agent", is_anothers).await;
    let leads_since: Timestamp =
        lease["spec"]["acquireTime"].as_str().and_then(|time| time.parse().ok()).expect("a lease tells since when");

    // The next one says why it waits.
    until_logged(&test, "until this agent has watched for one heartbeatTTL", 0).await;
    let others = fleet.hub_until("Logs", GROUPS, PATIENCE, |groups| !lists(groups, europe)).await;
    assert!(lists(&others, asia), "the others beat: {others:#?}");
    let changes = changes_of_groups(&fleet).into_iter().filter(|at| *at >= leads_since);
    let first = changes.min().expect("the partition has left");
    let kept = first.duration_since(leads_since);
    assert!(kept >= TIME_TO_LIVE, "it was let go after {kept:#}");

    // Whoever led may believe for a moment that it still does. A partition that beats again is let in again.
    signal(&test, &leader, Signal::SIGCONT);
    signal(&test, "europe-agent-", Signal::SIGCONT);
    fleet.hub_until("Logs", GROUPS, PATIENCE, |groups| lists(groups, europe) && lists(groups, asia)).await;
    test.until("ADXCluster", "hub", |hub| hub["status"]["federation"]["live"] == "3/3").await;
    drop(operator);
    end(test, fleet).await;
}
