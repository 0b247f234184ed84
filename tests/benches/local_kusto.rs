//! The local Kusto: ingestion, queries, and a federated query whose filter stands after the function.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{kusto::KustoServer, oracle::judge_if_watched};

use crate::figures::{line, millis, timed};

/// A million; `BENCH_ROWS` for a run that only shows that the benchmark works.
static ROWS: LazyLock<usize> =
    LazyLock::new(|| env::var("BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000));
const RUNS: usize = 5;
/// Streaming ingestion takes 4 MB a request.
const CHUNK_BYTES: usize = 4_000_000;

const TABLE: &str = "Timestamp:datetime, Region:string, Level:string, Message:string, DurationMs:long, Props:dynamic";

const QUERIES: [(&str, &str); 5] = [
    (
        "filter, summarize, top",
        "Requests | where DurationMs > 50 | summarize n = count(), avg(DurationMs) by Region, Level | top 5 by n",
    ),
    ("has, count", "Requests | where Message has 'timeout' | count"),
    ("dynamic path, count", "Requests | where tolong(Props.shard) == 7 | count"),
    ("time bins", "Requests | summarize count() by bin(Timestamp, 1h) | order by Timestamp asc"),
    ("take", "Requests | take 100"),
];

pub(crate) async fn run() {
    println!("Local Kusto, {} rows a server", *ROWS);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut partitions = Vec::new();
    for region in ["europe", "america", "asia"] {
        let record = folder.path().join(format!("{region}.jsonl"));
        let server = KustoServer::start(0, &["Logs"], &record, &[]).await;
        let (bytes, time) = ingest(&server, region).await;
        if partitions.is_empty() {
            let rate = *ROWS as f64 / time.as_secs_f64() / 1e6;
            line(
                "ingest by streaming CSV",
                &format!("{:.2} s, {rate:.2} M rows/s, {} MB", time.as_secs_f64(), bytes / 1_000_000),
            );
        }
        let record = server.recording.clone();
        partitions.push((region, server, record));
    }
    for (name, text) in QUERIES {
        let server = &partitions[0].1;
        let (fastest, median) = timed(RUNS, || ask(server, text)).await;
        line(name, &format!("{} (median {})", millis(fastest), millis(median)));
    }
    federated(&partitions, &folder.path().join("hub.jsonl")).await;
    drop(partitions);
    judge_if_watched(folder.path());
}

async fn ask(server: &KustoServer, text: &str) {
    server.query("Logs", text).await.expect("the query is answered");
}

/// Fills the table; gives the bytes sent and the time.
async fn ingest(server: &KustoServer, region: &str) -> (usize, Duration) {
    for command in [
        format!(".create table Requests ({TABLE})"),
        ".alter table Requests policy streamingingestion enable".to_owned(),
    ] {
        server.command("Logs", &command).await.expect("the server takes the table");
    }
    let chunks = chunks(region);
    let client = reqwest::Client::new();
    let url = format!("{}/v1/rest/ingest/Logs/Requests?streamFormat=Csv", server.url);
    let bytes = chunks.iter().map(String::len).sum();
    let started = Instant::now();
    for chunk in chunks {
        let answer = client.post(&url).body(chunk).send().await.expect("the server answers");
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }
    let time = started.elapsed();
    let count = server.query("Logs", "Requests | count").await.expect("the server counts");
    assert_eq!(count.column("Count"), [ROWS.to_string()]);
    (bytes, time)
}

fn chunks(region: &str) -> Vec<String> {
    let levels = ["Info", "Warning", "Info", "Error"];
    let mut chunks = vec![String::new()];
    for n in 0..*ROWS {
        let (hour, second) = (n / 3600 % 24, n % 60);
        let (level, duration, shard) = (levels[n % 4], n * 7919 % 997, n % 64);
        let message = if n % 50 == 0 { "connection timeout" } else { "request served" };
        let mut row = String::new();
        write!(row, "2025-05-03T{hour:02}:{:02}:{second:02}Z,{region},{level},{message} {n},{duration},", n / 60 % 60)
            .expect("a String takes all");
        writeln!(row, "\"{{\"\"shard\"\":{shard},\"\"host\"\":\"\"h{}\"\"}}\"", n % 200).expect("a String takes all");
        if chunks.last().is_some_and(|chunk| chunk.len() + row.len() > CHUNK_BYTES) {
            chunks.push(String::new());
        }
        chunks.last_mut().expect("there is always a last chunk").push_str(&row);
    }
    chunks
}

/// A hub over all partitions: the filter stands after the function, and each leg sends back only what the aggregates need.
async fn federated(partitions: &[(&str, KustoServer, std::path::PathBuf)], record: &Path) {
    let hub = KustoServer::start(0, &["Logs"], record, &[]).await;
    let entities: Vec<_> =
        partitions.iter().map(|(_, server, _)| format!("cluster('{}').database('Logs')", server.url)).collect();
    for command in [
        format!(".create entity_group Logs_Partitions ({})", entities.join(", ")),
        ".create-or-alter function with (skipvalidation=true) federated_Requests() { macro-expand isfuzzy=true best_effort=true Logs_Partitions as X ( X.Requests ) }".to_owned(),
    ] {
        hub.command("Logs", &command).await.expect("the hub takes the command");
    }
    println!("Macro-expand over {} partitions x {} rows", partitions.len(), *ROWS);
    let whole = ["Timestamp", "Region", "Level", "Message", "DurationMs", "Props"];
    for (name, columns, text) in [
        (
            "filter after the function, summarize",
            &["Region", "DurationMs"][..],
            "federated_Requests() | where Level == 'Error' and DurationMs > 990 | summarize count(), avg(DurationMs) by Region",
        ),
        ("filter after the function, take", &whole[..], "federated_Requests() | where Message has 'timeout' | take 10"),
    ] {
        let (fastest, median) = timed(RUNS, || ask(&hub, text)).await;
        line(name, &format!("{} (median {})", millis(fastest), millis(median)));
        for (region, server, record) in partitions {
            let (leg, bytes) = last_query(record);
            let sent = server.query("Logs", &leg).await.expect("the leg runs again");
            assert_eq!(sent.columns, columns, "a leg sends the columns that are asked for");
            let rows = sent.rows.len();
            assert!(rows < *ROWS / 100, "a leg sends only what the aggregates need, not its table");
            line(&format!("  leg {region}"), &format!("{rows} rows, {bytes} bytes sent back"));
        }
        println!("    {}", last_query(&partitions[0].2).0.replace('\n', " "));
    }
}

/// The last query that a server was sent by another, and how many bytes it answered.
fn last_query(record: &Path) -> (String, u64) {
    let recording = fs::read_to_string(record).expect("the server records");
    let lines: Vec<Value> = recording.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let query = lines.iter().rev().find(|line| line["path"] == "/v2/rest/query").expect("the hub has asked");
    (query["csl"].as_str().unwrap_or_default().to_owned(), query["response_bytes"].as_u64().unwrap_or_default())
}
