//! The hub agent over large fleets, on a local Kusto whose every answer takes 20 ms longer: requests, statements, bytes, time, processor time and memory of a pass. The fleets
//! are generated: partitions with equal databases, of which one holds a table of its own in some.

use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use kql::statements::MAX_SCRIPT_BYTES;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{kusto::KustoServer, loopback, oracle::judge_if_watched, process::Process};
use tokio::time;

use crate::{
    cost::{Cost, Meter, Recording, Traffic, pass_seconds, text_of},
    figures::line,
    goals::Goals,
};

/// A fleet to generate.
#[derive(Debug, Clone, Copy)]
struct Size {
    partitions: usize,
    databases: usize,
    tables: usize,
    /// Columns of a table: they make a schema as long as it is to be.
    columns: usize,
    /// How long the schema of each partition is at least.
    schema_bytes: usize,
    /// No table of a partition has the columns of another table, its own or another's.
    all_differ: bool,
}

const MEDIUM: Size =
    Size { partitions: 200, databases: 10, tables: 200, columns: 3, schema_bytes: 0, all_differ: false };
const LARGE: Size = Size { partitions: 1000, columns: 5, schema_bytes: 240_000, ..MEDIUM };
/// Of which nothing can be kept once for several.
const DIFFERENT: Size = Size { all_differ: true, ..LARGE };

/// How much a pass may ask and send, whatever the fleet: requests, and bytes.
const QUIET_PASS: (f64, f64) = (12.0, 10_000.0);
const PASS_OF_A_JOIN: (f64, f64) = (24.0, 20_000.0);
/// What a quiet pass over [`MEDIUM`] should take, in seconds.
const QUIET_PASS_SECONDS: f64 = 0.5;
/// How much longer a quiet pass may take than its requests one after another: what the agent adds by itself.
const OF_ITS_REQUESTS: f64 = 2.0;
/// How many bytes each partition may cost a quiet pass. What an answer has once counts for nothing in a large fleet.
const BYTES_OF_A_PARTITION: f64 = 120.0;
const LARGE_FLEET: usize = 200;
/// The most memory with [`LARGE`], in MB.
const PEAK_MEMORY: f64 = 64.0;
/// The most memory with [`DIFFERENT`], in MB: half of what the agent's pod has.
const PEAK_MEMORY_OF_DIFFERENT: f64 = 128.0;

/// How many quiet passes are looked at.
const QUIET_PASSES: usize = 3;

struct Hub {
    server: KustoServer,
    folder: TempDir,
    recording: Recording,
}

impl Hub {
    async fn start(size: Size) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let names: Vec<String> = (0..size.databases).map(|number| format!("Db{number}")).collect();
        let databases: Vec<&str> = ["FleetDiscovery"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let record = folder.path().join("hub.jsonl");
        let server = KustoServer::start(0, &databases, &record, &["--delay", "20"]).await;
        let recording = Recording::of(&server);
        Self { server, folder, recording }
    }

    /// A hub that this fleet has sent its heartbeats to, and an agent that has just been started.
    async fn with_fleet(size: Size) -> (Self, Process) {
        let mut hub = Self::start(size).await;
        let config = ["--config".to_owned(), hub.document().display().to_string()];
        let once = [&config[..], &["--once".to_owned()]].concat();
        Process::start("agent-hub", "agent-hub", &once).exited_within(Duration::from_secs(60)).await;
        for partition in 0..size.partitions {
            hub.beat(partition, size).await;
        }
        hub.sent();
        (hub, Process::start("agent-hub", "agent-hub", &config))
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

    /// What was sent since the last call, without the heartbeats of this benchmark.
    fn sent(&mut self) -> Vec<Value> {
        let mut requests = self.recording.requests();
        requests.retain(|request| !request["path"].as_str().is_some_and(|path| path.contains("/ingest/")));
        requests
    }

    /// A partition's heartbeat; every tenth has a table of its own.
    async fn beat(&self, partition: usize, size: Size) {
        let columns: Vec<String> = (0..size.columns).map(|number| format!("['Column{number}']:string")).collect();
        let columns_of = |database: usize, table: &str| {
            let own = format!("['Of{partition}{database}{table}']:string");
            let own = own.as_str();
            let own = if size.all_differ { Some(own) } else { None };
            columns.iter().map(String::as_str).chain(own).collect::<Vec<_>>().join(", ")
        };
        let databases: Vec<Value> = (0..size.databases)
            .map(|database| {
                let mut tables: Vec<String> = (0..size.tables).map(|table| format!("Table{table:03}")).collect();
                if database == 0 && partition.is_multiple_of(10) {
                    tables.push(format!("Own{partition}"));
                }
                let schemas: serde_json::Map<String, Value> =
                    tables.iter().map(|table| (table.clone(), columns_of(database, table).into())).collect();
                json!({"database": format!("Db{database}"), "tables": tables, "tableSchemas": schemas})
            })
            .collect();
        let schema = Value::from(databases).to_string();
        assert!(schema.len() >= size.schema_bytes, "{} bytes, at least {}", schema.len(), size.schema_bytes);
        let schema = schema.replace('"', "\"\"");
        let endpoint = endpoint(partition);
        let row = format!("2026-01-01T00:00:00Z,{endpoint},\"{schema}\",\"{{\"\"geo\"\":\"\"EU\"\"}}\"\n");
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

fn endpoint(partition: usize) -> String {
    format!("http://127.{}.{}.1:1", partition / 250 + 1, partition % 250)
}

/// The answers to the query of the heartbeats that each pass sends: how many passes there were, and their bytes before compression. A pass that was under way when the reading
/// before ended has asked there.
fn readings(sent: &[Value]) -> (u64, u64) {
    let readings = sent.iter().filter(|request| text_of(request).contains("NewBeats"));
    let bytes: Vec<u64> = readings.map(|request| request["response_bytes"].as_u64().unwrap_or(0)).collect();
    (bytes.len() as u64, bytes.iter().sum())
}

/// Scripts by their database, in order, without what every script begins with.
fn scripts(sent: &[Value]) -> BTreeMap<&str, Vec<&str>> {
    let mut scripts = BTreeMap::<&str, Vec<&str>>::new();
    for request in sent {
        let commands =
            text_of(request).strip_prefix(".execute database script").and_then(|text| text.split_once("<|\n"));
        if let Some((_, commands)) = commands {
            scripts.entry(request["db"].as_str().unwrap_or_default()).or_default().push(commands.trim_end());
        }
    }
    scripts
}

/// The fewest scripts that hold the commands of one database in their order.
fn fewest(scripts: &[&str]) -> usize {
    // A command begins with a dot, and no line within one does.
    let commands = scripts.iter().flat_map(|script| script.split("\n.").enumerate());
    let lengths = commands.map(|(index, command)| command.len() + usize::from(index > 0));
    let (mut count, mut bytes) = (0, 0);
    for length in lengths {
        if count == 0 || bytes + length >= MAX_SCRIPT_BYTES {
            (count, bytes) = (count + 1, length);
        } else {
            // With the line end between them.
            bytes += length + 1;
        }
    }
    count
}

/// Whether a pass asks and sends no more than this.
fn within(what: &str, goals: &mut Goals, (requests, bytes): (f64, f64), cost: &Cost) {
    goals.at_most(&format!("requests of {what}"), cost.requests, requests);
    goals.at_most(&format!("KB sent in {what}"), cost.sent_bytes / 1e3, bytes / 1e3);
}

/// How long it takes to ask the same once more, one request after another: the least time that the hub and the way to it leave to whoever must wait for each answer.
async fn ask_again(server: &KustoServer, sent: &[Value]) -> f64 {
    let client = reqwest::Client::new();
    let started = Instant::now();
    for request in sent {
        let path = request["path"].as_str().unwrap_or_default();
        let said = ["db", "csl", "properties"].into_iter().filter(|field| !request[*field].is_null());
        let body: Value = said.map(|field| (field.to_owned(), request[field].clone())).collect();
        let answer = client.post(format!("{}{path}", server.url)).json(&body).send().await.expect("the hub answers");
        answer.bytes().await.expect("the hub answers whole");
    }
    started.elapsed().as_secs_f64()
}

/// How many bytes a quiet pass over a fleet of this size receives, with all that it is promised to cost judged.
async fn fleet(size: Size, goals: &mut Goals) -> f64 {
    let Size { partitions, databases, tables, .. } = size;
    println!("Hub agent, {partitions} partitions x {databases} databases x {tables} tables, 20 ms for each round trip");
    let (mut hub, mut agent) = Hub::with_fleet(size).await;
    let pid = agent.pid().expect("it runs");
    let of_fleet = |what: &str| format!("{what}, {partitions} partitions");

    let meter = Meter::from_start(&agent);
    hub.passes(&agent, 1).await;
    let sent = hub.sent();
    line("empty hub to complete", &meter.cost(&agent, Traffic::of(&sent), 1).to_string());
    let scripts = scripts(&sent);
    let made: usize = scripts.values().map(Vec::len).sum();
    let needed: usize = scripts.values().map(|scripts| fewest(scripts)).sum();
    assert_eq!(scripts.len(), databases + 1, "every database of the hub is given groups");
    goals.at_most(&of_fleet("scripts for an empty hub, by their sizes"), made as f64, needed as f64);

    hub.passes(&agent, 1).await;
    hub.sent();
    let meter = Meter::start(&agent);
    hub.passes(&agent, QUIET_PASSES).await;
    let sent = hub.sent();
    let (passes, bytes) = readings(&sent);
    let quiet = meter.cost(&agent, Traffic::of(&sent), passes);
    line("quiet pass", &quiet.to_string());
    let what = of_fleet("a quiet pass");
    within(&what, goals, QUIET_PASS, &quiet);
    goals.at_most(&format!("statements of {what}"), quiet.statements, 0.0);
    let each = bytes as f64 / passes as f64 / partitions as f64;
    line("received for each partition in a quiet pass", &format!("{each:.0} bytes before compression"));
    if partitions >= LARGE_FLEET {
        goals.at_most(&format!("bytes for each partition in {what}"), each, BYTES_OF_A_PARTITION);
        if partitions == MEDIUM.partitions {
            Goals::time(&format!("seconds of {what}"), quiet.seconds, QUIET_PASS_SECONDS);
        }
    }
    // Nothing of it changes anything.
    let again = ask_again(&hub.server, &sent).await / passes as f64;
    line(
        "the same requests one after another",
        &format!("{again:.2} s, of which a quiet pass takes {:.2}", quiet.seconds / again),
    );
    let ratio = format!("time of {what}, of that of its requests");
    goals.as_released(pid, &ratio, quiet.seconds / again, OF_ITS_REQUESTS);
    hub.sent();

    hub.beat(partitions, size).await;
    // Its beat may have come after the running pass had looked.
    let mut has_joined = false;
    for _ in 0..3 {
        let meter = Meter::start(&agent);
        hub.passes(&agent, 1).await;
        let sent = hub.sent();
        let joining = meter.cost(&agent, Traffic::of(&sent), readings(&sent).0);
        if sent.iter().any(|request| text_of(request).starts_with(".execute database script")) {
            has_joined = true;
            line("one partition joins: the pass that takes it in", &joining.to_string());
            within(&of_fleet("a pass that takes a partition in"), goals, PASS_OF_A_JOIN, &joining);
            // Every group of every database of the hub is told of it: what longer names cost can be told from this.
            let joined = endpoint(partitions);
            let named: usize = sent.iter().map(|request| text_of(request).matches(&joined).count()).sum();
            line("of it the name of the partition", &format!("{named} times {} characters", joined.len()));
            break;
        }
    }
    assert!(has_joined, "no pass took the new partition in: {}", agent.output());
    let meter = Meter::start(&agent);
    hub.passes(&agent, 1).await;
    let after = meter.cost(&agent, Traffic::of(&hub.sent()), 1);
    line("the pass after, which learns how the hub writes what was put", &after.to_string());
    line("peak resident memory", &format!("{:.1} MB", after.peak_mb));
    if partitions == LARGE.partitions {
        goals.as_released(pid, &of_fleet("MB of memory"), after.peak_mb, PEAK_MEMORY);
    }
    agent.stop().await;
    hub.server.process().stop().await;
    judge_if_watched(hub.folder.path());
    quiet.received_bytes
}

/// How much memory is taken where no schema is like another, for how many of them that is enough, and that the others are not fetched again and again.
async fn differing(size: Size, goals: &mut Goals) {
    let Size { partitions, databases, tables, .. } = size;
    println!(
        "Hub agent, {partitions} partitions x {databases} databases x {tables} tables, none with the columns of another"
    );
    let (mut hub, mut agent) = Hub::with_fleet(size).await;
    let pid = agent.pid().expect("it runs");
    let meter = Meter::from_start(&agent);
    hub.passes(&agent, 1).await;
    line("empty hub to complete", &meter.cost(&agent, Traffic::of(&hub.sent()), 1).to_string());
    hub.passes(&agent, 1).await;
    hub.sent();
    let meter = Meter::start(&agent);
    hub.passes(&agent, QUIET_PASSES).await;
    let sent = hub.sent();
    let quiet = meter.cost(&agent, Traffic::of(&sent), readings(&sent).0);
    line("quiet pass", &quiet.to_string());
    within("a quiet pass where all differ", goals, QUIET_PASS, &quiet);
    goals.at_most("statements of a quiet pass where all differ", quiet.statements, 0.0);
    let refused = "federation_status() | where Reason has 'not taken in' | count";
    let refused = hub.server.query("FleetDiscovery", refused).await.expect("the hub answers").rows[0][0].as_u64();
    let refused = refused.expect("it is a number");
    line("schemas for which there is no room, and that are told so", &format!("{refused} of {partitions}"));
    if partitions == DIFFERENT.partitions {
        goals.judge("a bound was reached", &refused.to_string(), refused > 0);
    }
    goals.as_released(pid, "MB of memory where all differ", quiet.peak_mb, PEAK_MEMORY_OF_DIFFERENT);
    agent.stop().await;
    hub.server.process().stop().await;
    judge_if_watched(hub.folder.path());
}

/// `BENCH_PARTITIONS` for a run that only shows that the benchmark works, and what does not depend on the fleet's size.
pub(crate) async fn run(goals: &mut Goals) {
    match env::var("BENCH_PARTITIONS").ok().and_then(|partitions| partitions.parse().ok()) {
        Some(partitions) => {
            fleet(Size { partitions, tables: 5, ..MEDIUM }, goals).await;
            differing(Size { partitions, tables: 5, schema_bytes: 0, ..DIFFERENT }, goals).await;
        }
        None => {
            let medium = fleet(MEDIUM, goals).await;
            let large = fleet(LARGE, goals).await;
            // Of all that a pass reads; what it reads once, however many there are, is in both. How long schemas are counts for nothing: they are not read again.
            let each = (large - medium) / (LARGE.partitions - MEDIUM.partitions) as f64;
            goals.at_most("bytes received for each more partition in a quiet pass", each, BYTES_OF_A_PARTITION);
            differing(DIFFERENT, goals).await;
        }
    }
}
