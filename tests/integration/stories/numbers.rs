//! Every state, change and guard that the hub's agent knows has its number: a real agent over one local server, into which the story writes the fleet's beats.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tests::{kusto::KustoServer, process::Process};
use tokio::time;

use crate::{
    admin::{admin_url, get},
    support::{SOON, judge},
};

/// A partition that the hub's document blocks, and one that its pattern does not fit.
const BLOCKED: usize = 98;
const OUTSIDER: usize = 99;

/// The hub of partitions `http://127.0.0.N:1`, which are rows and nothing else.
struct Hub {
    server: KustoServer,
    folder: TempDir,
    document: PathBuf,
    /// The tables in the database Logs of each partition that beats, and those in Metrics.
    beating: BTreeMap<usize, (Vec<&'static str>, Vec<&'static str>)>,
    beaten: Instant,
}

impl Hub {
    async fn start(membership: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (record, faults) = (folder.path().join("hub.jsonl"), folder.path().join("faults.json"));
        fs::write(&faults, "[]").expect("the folder can be written");
        let arguments = ["--faults", faults.to_str().expect("the path is text")];
        let server = KustoServer::start(0, &["FleetDiscovery", "Logs", "Metrics"], &record, &arguments).await;
        let document = folder.path().join("hub.yaml");
        let text = format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: hub}}\nspec:\n  clusterName: hub\n  endpoint: '{}'\n  role: Federated\n  federation:\n    heartbeatDatabase: FleetDiscovery\n    heartbeatTable: Heartbeats\n    heartbeatTTL: 4s\n    heartbeatInterval: 500ms\n    reconcileInterval: 500ms\n    blockedPartitions: ['http://127.0.0.{BLOCKED}:1']\n    allowedPartitionPattern: '127.0.0.*'\n    membership: {membership}\n",
            server.url
        );
        fs::write(&document, text).expect("the folder can be written");
        Self { server, folder, document, beating: BTreeMap::new(), beaten: Instant::now() }
    }

    fn agent(&self) -> Process {
        let document = self.document.to_str().expect("the path is text");
        let arguments = ["--config", document, "--admin", "127.0.0.1:0"].map(str::to_owned);
        Process::start("agent-hub", "agent-hub", &arguments)
    }

    /// What goes wrong at the server from now on.
    fn fail(&self, rules: &serde_json::Value) {
        // Renamed into place: the server never reads half of it.
        let half = self.folder.path().join("faults.new");
        fs::write(&half, rules.to_string()).expect("the folder can be written");
        fs::rename(&half, self.folder.path().join("faults.json")).expect("the folder can be written");
    }

    /// A beat of all that beat.
    async fn beat(&mut self) {
        self.beaten = Instant::now();
        let rows = self.beating.iter().map(|(host, (logs, metrics))| {
            let mut databases = vec![json!({"database": "Logs", "tables": logs})];
            if !metrics.is_empty() {
                databases.push(json!({"database": "Metrics", "tables": metrics}));
            }
            let schema = json!(databases).to_string().replace('"', "\"\"");
            let net = usize::from(*host == OUTSIDER);
            format!("2026-01-01T00:00:00Z,http://127.0.{net}.{host}:1,\"{schema}\",{{}}\n")
        });
        let rows: String = rows.collect();
        if !rows.is_empty() {
            let command = format!(".ingest inline into table Heartbeats <|\n{rows}");
            self.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
        }
    }

    /// The fleet beats until the agent's metrics have all of these samples.
    async fn until(&mut self, url: &str, samples: &[&str]) {
        let deadline = Instant::now() + SOON * 2;
        loop {
            if self.beaten.elapsed() > Duration::from_millis(400) {
                self.beat().await;
            }
            let metrics = get(url, "/metrics").await.1;
            let has = |sample: &&str| metrics.lines().any(|line| line == format!("adx_federation_{sample}"));
            if samples.iter().all(has) {
                return;
            }
            assert!(Instant::now() < deadline, "{samples:?} is not in\n{metrics}");
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn end(mut self, mut agent: Process) {
        agent.stop().await;
        self.server.process().stop().await;
        judge(self.folder.path());
    }
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
    let mut hub =
        Hub::start("{joinAfterBeats: 2, returnAfterBeats: 1, suspectAfterMissedBeats: 3, flappingReturns: 2}").await;
    let agent = hub.agent();
    let url = admin_url(&agent).await;
    // The heartbeat table, and those for what the agent records.
    hub.until(&url, &[change!("table", "create", "applied", "3")]).await;

    // One beat of two that are asked for.
    hub.beating.insert(1, (vec!["A"], vec![]));
    hub.beat().await;
    hub.beating.clear();
    hub.until(&url, &[state!("joining", "1"), state!("live", "0")]).await;
    for host in [1, 2, 3, BLOCKED, OUTSIDER] {
        hub.beating.insert(host, (vec!["A"], vec![]));
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
    hub.until(&url, &all).await;
    // `federated_A`, and `federation_status` in three databases.
    hub.until(&url, &[change!("function", "create", "applied", "4")]).await;

    // A function over those that have its table; its group, when its database comes to be known.
    let both = |tables: &[&'static str]| (tables.to_vec(), vec!["M"]);
    hub.beating.insert(1, both(&["A", "B"]));
    hub.until(&url, &[change!("function", "create", "applied", "6")]).await;
    hub.beating.insert(2, both(&["A", "B"]));
    hub.until(&url, &[change!("function", "alter", "applied", "1")]).await;
    for host in [1, 2] {
        hub.beating.insert(host, (vec!["A"], vec![]));
    }
    hub.until(&url, &[change!("function", "drop", "applied", "2")]).await;
    hub.until(&url, &[change!("entity_group", "drop", "applied", "3")]).await;

    hub.fail(&json!([{"text": ".execute database script", "count": 1, "fault": "failedScript"}]));
    hub.beating.insert(1, (vec!["A", "C"], vec![]));
    hub.until(&url, &[change!("function", "create", "failed", "1"), change!("function", "create", "applied", "7")])
        .await;

    // It falls silent, and returns, and again.
    for _ in 0..2 {
        let silent = hub.beating.remove(&3).expect("it beats");
        hub.until(&url, &[state!("suspect", "1")]).await;
        hub.beating.insert(3, silent);
        hub.until(&url, &[state!("suspect", "0")]).await;
    }
    hub.until(&url, &[state!("flapping", "1"), state!("live", "2")]).await;
    hub.end(agent).await;
}

#[tokio::test]
async fn every_guard_of_a_removal_shows_while_it_holds_and_no_longer() {
    let mut hub =
        Hub::start("{returnAfterBeats: 1, suspectAfterMissedBeats: 3, flappingReturns: 16, removalPercent: 1}").await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    hub.until(&url, &[change!("table", "create", "applied", "3")]).await;
    for host in 1..=20 {
        hub.beating.insert(host, (vec!["A"], vec![]));
    }
    hub.until(&url, &[state!("live", "20")]).await;
    // The agent has watched for one time to live.
    time::sleep(Duration::from_secs(4)).await;
    // Less than a mass, and one leaves in each pass.
    for host in 15..=20 {
        hub.beating.remove(&host);
    }
    hub.until(&url, &[guard!("removal_budget", "1"), guard!("startup_grace", "0"), guard!("recovering", "0")]).await;
    hub.until(&url, &[guard!("removal_budget", "0"), state!("live", "14")]).await;

    // All fall silent; some come back.
    let beating = std::mem::take(&mut hub.beating);
    hub.until(&url, &[guard!("no_live_heartbeat", "1")]).await;
    hub.beating = beating;
    hub.beating.remove(&14);
    hub.until(&url, &[guard!("recovering", "1"), guard!("no_live_heartbeat", "0")]).await;
    hub.until(&url, &[guard!("recovering", "0"), state!("live", "13")]).await;

    // A silence that began while no agent watched.
    agent.stop().await;
    hub.beating.remove(&13);
    let silent = Instant::now();
    while silent.elapsed() < Duration::from_secs(5) {
        hub.beat().await;
        time::sleep(Duration::from_millis(400)).await;
    }
    agent = hub.agent();
    let url = admin_url(&agent).await;
    hub.until(&url, &[guard!("startup_grace", "1"), state!("live", "12")]).await;
    hub.until(&url, &[guard!("startup_grace", "0")]).await;
    hub.end(agent).await;
}
