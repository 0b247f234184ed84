//! A partition agent's beat: requests, bytes and time, on local Kusto servers whose every answer takes 20 ms longer.

use std::{
    env, fs,
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{kusto::KustoServer, oracle::judge_if_watched, process::Process};
use tokio::time;

use crate::figures::{line, peak_mib, processor_seconds};

/// `BENCH_DATABASES` for a run that only shows that the benchmark works.
static DATABASES: LazyLock<usize> =
    LazyLock::new(|| env::var("BENCH_DATABASES").ok().and_then(|databases| databases.parse().ok()).unwrap_or(10));
/// Tables and functions of each database; functions that are views are announced too.
const TABLES: usize = 20;
const FUNCTIONS: usize = 20;
const BEATS: usize = 5;

/// Requests and bytes since some line of a recording; and how many lines it has now.
fn traffic(server: &KustoServer, since: usize) -> (usize, u64, usize) {
    let recording = &server.recording;
    let text = fs::read_to_string(recording).expect("the recording can be read");
    let lines: Vec<Value> = text.lines().skip(since).filter_map(|line| serde_json::from_str(line).ok()).collect();
    let sent = lines.iter().filter_map(|line| line["request_bytes"].as_u64()).sum();
    (lines.len(), sent, since + lines.len())
}

async fn until_beats(agent: &Process, beats: usize) {
    let started = Instant::now();
    while agent.output().matches("pass ended").count() < beats {
        assert!(started.elapsed() < Duration::from_secs(60), "{}", agent.output());
        time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn run() {
    println!(
        "Partition agent, {} databases with {TABLES} tables and {FUNCTIONS} functions each, 20 ms for each round trip",
        *DATABASES
    );
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let names: Vec<String> = (0..*DATABASES).map(|number| format!("Db{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let home = KustoServer::start(0, &names, &folder.path().join("home.jsonl"), &["--delay", "20"]).await;
    for database in &names {
        let tables = (0..TABLES).map(|table| format!(".create table Table{table} (Timestamp:datetime, Level:string)"));
        let functions = (0..FUNCTIONS)
            .map(|number| format!(".create function with (view=true) View{number}() {{ Table0 | take {number} }}"));
        let script: String = tables.chain(functions).map(|command| command + "\n").collect();
        home.command(database, &format!(".execute database script <|\n{script}")).await.expect("it takes the tables");
    }
    let hub = folder.path().join("hub.jsonl");
    let hub = KustoServer::start(0, &["FleetDiscovery"], &hub, &["--delay", "20"]).await;
    for command in [
        ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)",
        ".alter table Heartbeats policy streamingingestion enable",
    ] {
        hub.command("FleetDiscovery", command).await.expect("the hub takes the table");
    }
    for schema_in_beats in ["Always", "OnChange"] {
        let document = folder.path().join("partition.yaml");
        let text = format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: europe}}\nspec:\n  clusterName: europe\n  endpoint: '{}'\n  federation:\n    heartbeatInterval: 1s\n    schemaInBeats: {schema_in_beats}\n    partitioning: {{geo: EU, location: westeurope}}\n    federatedClusters: [{{endpoint: '{}', heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats}}]\n",
            home.url, hub.url
        );
        fs::write(&document, text).expect("the folder can be written");
        let arguments = ["--config", document.to_str().expect("the path is text")].map(str::to_owned);
        let (_, _, home_before) = traffic(&home, 0);
        let (_, _, hub_before) = traffic(&hub, 0);
        let mut agent = Process::start("agent-partition", "agent-partition", &arguments);
        until_beats(&agent, 1).await;
        let (asked, asked_bytes, home_read) = traffic(&home, home_before);
        let (told, told_bytes, hub_read) = traffic(&hub, hub_before);
        let bytes = |bytes: u64| bytes as f64 / 1e3;
        line(
            &format!("first beat (schemaInBeats: {schema_in_beats})"),
            &format!(
                "{} requests, {:.2} KB sent at home, {:.2} KB to the hub",
                asked + told,
                bytes(asked_bytes),
                bytes(told_bytes)
            ),
        );
        let pid = agent.pid().expect("it runs");
        let before = processor_seconds(pid);
        until_beats(&agent, 1 + BEATS).await;
        let processor = (processor_seconds(pid) - before) / BEATS as f64;
        let (asked, asked_bytes, _) = traffic(&home, home_read);
        let (told, told_bytes, _) = traffic(&hub, hub_read);
        // Where this process waited for a processor, there were more.
        let beats = (agent.output().matches("pass ended").count() - 1) as u64;
        assert!((asked + told) as u64 <= 3 * beats, "{} requests for {BEATS} beats", asked + told);
        assert!(
            schema_in_beats == "Always" || asked_bytes + told_bytes <= 1_000 * beats,
            "{asked_bytes} + {told_bytes} bytes"
        );
        let each = |bytes: u64| bytes as f64 / 1e3 / BEATS as f64;
        line(
            "a beat with an unchanged schema",
            &format!(
                "{:.1} requests, {:.2} KB sent at home, {:.2} KB to the hub, processor {processor:.3} s; peak memory {:.1} MiB",
                (asked + told) as f64 / BEATS as f64,
                each(asked_bytes),
                each(told_bytes),
                peak_mib(pid)
            ),
        );
        agent.stop().await;
    }
    judge_if_watched(folder.path());
}
