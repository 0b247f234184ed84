//! The hub agent over large fleets, on a local Kusto whose every answer takes 20 ms longer: requests, bytes, time, processor time and memory of a pass. The fleets are
//! generated: partitions with equal databases, of which one holds a table of its own in some.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{kusto::KustoServer, loopback, oracle::judge_if_watched, process::Process};
use tokio::time;

use crate::figures::{line, peak_mib, processor_seconds};

/// A fleet to generate.
#[derive(Debug, Clone, Copy)]
struct Size {
    partitions: usize,
    databases: usize,
    tables: usize,
    /// Columns of a table: they make a schema as long as it is to be.
    columns: usize,
}

const MEDIUM: Size = Size { partitions: 200, databases: 10, tables: 200, columns: 3 };
const LARGE: Size = Size { partitions: 1000, databases: 10, tables: 200, columns: 5 };

/// How much a pass may ask and send, whatever the fleet: requests, and bytes.
const QUIET_PASS: (u64, u64) = (12, 10_000);
const PASS_OF_A_JOIN: (u64, u64) = (24, 20_000);
/// How many bytes each partition may cost a quiet pass. What an answer has once counts for nothing in a large fleet.
const BYTES_OF_A_PARTITION: f64 = 120.0;
const LARGE_FLEET: usize = 200;

/// What was sent in some time.
#[derive(Debug, Default, Clone, Copy)]
struct Traffic {
    /// Passes, by the query of the heartbeats that each sends.
    passes: u64,
    requests: usize,
    /// Commands that change something: a script is one, whatever is in it.
    changes: usize,
    scripts: usize,
    sent: u64,
    received: u64,
    /// Of it the answers of the query for heartbeats, before compression.
    heartbeats: u64,
}

struct Hub {
    server: KustoServer,
    folder: TempDir,
    read: usize,
}

impl Hub {
    async fn start(size: Size) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let names: Vec<String> = (0..size.databases).map(|number| format!("Db{number}")).collect();
        let databases: Vec<&str> = ["FleetDiscovery"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let record = folder.path().join("hub.jsonl");
        let server = KustoServer::start(0, &databases, &record, &["--delay", "20"]).await;
        Self { server, folder, read: 0 }
    }

    fn document(&self) -> PathBuf {
        let path = self.folder.path().join("hub.yaml");
        let text = format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: hub}}\nspec:\n  clusterName: hub\n  endpoint: '{}'\n  role: Federated\n  federation: {{heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats, reconcileInterval: 3s}}\n",
            self.server.url
        );
        fs::write(&path, text).expect("the folder can be written");
        path
    }

    fn recording(&self) -> &Path {
        &self.server.recording
    }

    /// The traffic since the last call, without the heartbeats of this benchmark.
    fn traffic(&mut self) -> Traffic {
        let text = fs::read_to_string(self.recording()).expect("the recording can be read");
        let mut traffic = Traffic::default();
        for entry in text.lines().skip(self.read).filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let csl = entry["csl"].as_str().unwrap_or_default();
            if entry["path"].as_str().is_some_and(|path| path.contains("/ingest/")) {
                continue;
            }
            traffic.requests += 1;
            traffic.changes += usize::from(csl.starts_with('.') && !csl.starts_with(".show "));
            traffic.scripts += usize::from(csl.starts_with(".execute database script"));
            traffic.sent += entry["request_bytes"].as_u64().unwrap_or(0);
            let received = entry["response_bytes"].as_u64().unwrap_or(0);
            traffic.received += received;
            if csl.contains("NewBeats") {
                traffic.passes += 1;
                traffic.heartbeats += received;
            }
        }
        self.read = text.lines().count();
        traffic
    }

    /// A partition's heartbeat; every tenth has a table of its own.
    async fn beat(&self, partition: usize, size: Size) {
        let columns: Vec<String> = (0..size.columns).map(|number| format!("['Column{number}']:string")).collect();
        let databases: Vec<Value> = (0..size.databases)
            .map(|database| {
                let mut tables: Vec<String> = (0..size.tables).map(|table| format!("Table{table:03}")).collect();
                if database == 0 && partition.is_multiple_of(10) {
                    tables.push(format!("Own{partition}"));
                }
                let schemas: serde_json::Map<String, Value> =
                    tables.iter().map(|table| (table.clone(), columns.join(", ").into())).collect();
                json!({"database": format!("Db{database}"), "tables": tables, "tableSchemas": schemas})
            })
            .collect();
        let schema = Value::from(databases).to_string().replace('"', "\"\"");
        let row = format!(
            "2026-01-01T00:00:00Z,http://127.{}.{}.1:1,\"{schema}\",\"{{\"\"geo\"\":\"\"EU\"\"}}\"\n",
            partition / 250 + 1,
            partition % 250
        );
        let url = format!("{}/v1/rest/ingest/FleetDiscovery/Heartbeats?streamFormat=Csv", self.server.url);
        let answer = loopback::client().post(url).body(row).send().await.expect("the hub answers");
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }

    /// Waits for so many more passes.
    async fn passes(&self, agent: &Process, passes: usize) {
        let before = pass_seconds(agent).len();
        let started = Instant::now();
        while pass_seconds(agent).len() < before + passes {
            assert!(started.elapsed() < Duration::from_secs(300), "{}", agent.output());
            time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The seconds of each pass, as its log says; a line may be on its way.
fn pass_seconds(agent: &Process) -> Vec<f64> {
    let output = agent.output();
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let seconds =
        whole.lines().filter(|line| line.contains("pass ended")).filter_map(|line| line.split("seconds=").nth(1));
    seconds.map(|seconds| seconds.trim().parse().expect("seconds are a number")).collect()
}

fn last_pass_seconds(agent: &Process) -> f64 {
    pass_seconds(agent).last().copied().expect("a pass has ended")
}

/// That passes kept within their bounds: where this process waited for a processor, there were more than it waited for.
fn assert_within((requests, bytes): (u64, u64), traffic: Traffic) {
    // One that was under way when the reading before ended has asked for its heartbeats there.
    let passes = traffic.passes.max(1);
    let is_within = traffic.requests as u64 <= requests * passes && traffic.sent <= bytes * passes;
    assert!(
        is_within,
        "{traffic:?} in {passes} pass(es), of which each may make {requests} requests with {bytes} bytes"
    );
}

fn told(traffic: Traffic, passes: u64) -> String {
    let Traffic { requests, changes, scripts, sent, received, passes: _, heartbeats: _ } = traffic;
    let each = |count: u64| count / passes;
    format!(
        "{} requests, {changes} statements that change something ({scripts} scripts), {:.1} KB sent, {:.1} KB received",
        requests as u64 / passes,
        each(sent) as f64 / 1e3,
        each(received) as f64 / 1e3
    )
}

async fn fleet(size: Size) {
    let Size { partitions, databases, tables, .. } = size;
    println!("Hub agent, {partitions} partitions x {databases} databases x {tables} tables, 20 ms for each round trip");
    let mut hub = Hub::start(size).await;
    let once = ["--config".to_owned(), hub.document().display().to_string()];
    let mut set_up = Process::start("agent-hub", "agent-hub", &[once[0].clone(), once[1].clone(), "--once".to_owned()]);
    set_up.exited_within(Duration::from_secs(60)).await;
    for partition in 0..partitions {
        hub.beat(partition, size).await;
    }
    hub.traffic();
    let mut agent = Process::start("agent-hub", "agent-hub", &once);
    let pid = agent.pid().expect("it runs");
    hub.passes(&agent, 1).await;
    let traffic = hub.traffic();
    line(
        "empty hub to complete",
        &format!("{}, {:.1} s, processor {:.1} s", told(traffic, 1), last_pass_seconds(&agent), processor_seconds(pid)),
    );
    hub.passes(&agent, 1).await;
    hub.traffic();
    let before = processor_seconds(pid);
    hub.passes(&agent, 3).await;
    let traffic = hub.traffic();
    assert_eq!(traffic.changes, 0, "a quiet hub is not written to");
    assert_within(QUIET_PASS, traffic);
    let processor = (processor_seconds(pid) - before) / 3.0;
    line(
        "quiet pass",
        &format!("{}, {:.2} s, processor {processor:.2} s", told(traffic, 3), last_pass_seconds(&agent)),
    );
    let each = traffic.heartbeats as f64 / traffic.passes as f64 / partitions as f64;
    line("received for each partition in a quiet pass", &format!("{each:.0} bytes before compression"));
    assert!(partitions < LARGE_FLEET || each <= BYTES_OF_A_PARTITION, "{each} bytes for each partition");
    hub.beat(partitions, size).await;
    // Its beat may have come after the running pass had looked.
    let mut has_joined = false;
    for _ in 0..3 {
        let before = processor_seconds(pid);
        hub.passes(&agent, 1).await;
        let (traffic, processor) = (hub.traffic(), processor_seconds(pid) - before);
        if traffic.scripts > 0 {
            has_joined = true;
            assert_within(PASS_OF_A_JOIN, traffic);
            let seconds = last_pass_seconds(&agent);
            let figures = format!("{}, {seconds:.2} s, processor {processor:.2} s", told(traffic, 1));
            line("one partition joins: the pass that takes it in", &figures);
            break;
        }
    }
    assert!(has_joined, "no pass took the new partition in: {}", agent.output());
    hub.passes(&agent, 1).await;
    line("the pass after, which learns how the hub writes what was put", &told(hub.traffic(), 1));
    line("peak resident memory", &format!("{:.1} MiB", peak_mib(pid)));
    agent.stop().await;
    hub.server.process().stop().await;
    judge_if_watched(hub.folder.path());
}

/// `BENCH_PARTITIONS` for a run that only shows that the benchmark works, and what does not depend on the fleet's size.
pub(crate) async fn run() {
    match env::var("BENCH_PARTITIONS").ok().and_then(|partitions| partitions.parse().ok()) {
        Some(partitions) => fleet(Size { partitions, tables: 5, ..MEDIUM }).await,
        None => {
            fleet(MEDIUM).await;
            fleet(LARGE).await;
        }
    }
}
