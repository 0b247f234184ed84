//! A partition agent's beat: requests, statements, bytes, time, processor time and memory, on local Kusto servers whose every answer takes 20 ms longer.

use std::{
    env, fs,
    sync::LazyLock,
    time::{Duration, Instant},
};

use tests::{kusto::KustoServer, oracle::judge_if_watched, process::Process};
use tokio::time;

use crate::{
    cost::{Cost, Meter, Recording, Traffic, pass_seconds},
    figures::line,
    goals::Goals,
};

/// `BENCH_DATABASES` for a run that only shows that the benchmark works.
static DATABASES: LazyLock<usize> =
    LazyLock::new(|| env::var("BENCH_DATABASES").ok().and_then(|databases| databases.parse().ok()).unwrap_or(10));
/// Tables and functions of each database; functions that are views are announced too.
const TABLES: usize = 20;
const FUNCTIONS: usize = 20;
const BEATS: usize = 5;

/// What a beat may cost with 10 databases and 200 functions: requests, and bytes where the schema is sent only when it changes.
const MOST_REQUESTS: f64 = 3.0;
const MOST_KB_ON_CHANGE: f64 = 1.0;

async fn until_beats(agent: &Process, beats: usize) {
    let started = Instant::now();
    while pass_seconds(agent).len() < beats {
        assert!(started.elapsed() < Duration::from_secs(60), "{}", agent.output());
        time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn run(goals: &mut Goals) {
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
        let mut recordings = [Recording::of(&home), Recording::of(&hub)];
        let mut sent = || recordings.each_mut().map(|recording| Traffic::of(&recording.requests()));
        sent();
        let mut agent = Process::start("agent-partition", "agent-partition", &arguments);
        let meter = Meter::from_start(&agent);
        until_beats(&agent, 1).await;
        let told = |cost: Cost, [home, hub]: [Traffic; 2]| {
            format!(
                "{cost}; of it {:.2} KB sent at home, {:.2} KB to the hub",
                home.sent as f64 / 1e3,
                hub.sent as f64 / 1e3
            )
        };
        let [at_home, to_hub] = sent();
        let first = meter.cost(&agent, at_home + to_hub, 1);
        line(&format!("first beat (schemaInBeats: {schema_in_beats})"), &told(first, [at_home, to_hub]));
        let meter = Meter::start(&agent);
        until_beats(&agent, 1 + BEATS).await;
        // Where this process waited for a processor, there were more.
        let beats = (pass_seconds(&agent).len() - 1) as u64;
        let [at_home, to_hub] = sent();
        let each = meter.cost(&agent, at_home + to_hub, beats);
        let of_each = |traffic: Traffic| Traffic { sent: traffic.sent / beats, ..traffic };
        line("a beat with an unchanged schema", &told(each, [of_each(at_home), of_each(to_hub)]));
        let what = format!("a beat with an unchanged schema, {schema_in_beats}");
        goals.at_most(&format!("requests of {what}"), each.requests, MOST_REQUESTS);
        goals.at_most(&format!("statements of {what}"), each.statements, 0.0);
        if schema_in_beats == "OnChange" {
            goals.at_most(&format!("KB sent in {what}"), each.sent_bytes / 1e3, MOST_KB_ON_CHANGE);
        }
        agent.stop().await;
    }
    judge_if_watched(folder.path());
}
