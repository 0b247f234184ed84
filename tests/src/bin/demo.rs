//! `make demo`: a hub and three partitions with our real agents, and what a user came for: federated queries. `--once` exits after the queries, 0 if every
//! answer was right. I/O: processes, loopback HTTP, stdout.

use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tests::{
    fleet::{Fleet, HUB_DATABASES, Pace},
    kusto::{AskError, Table},
    process::Process,
    queries::queries,
    telemetry::REGIONS,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

/// How long it may take from the start to the first functions.
const PATIENCE: Duration = Duration::from_secs(40);

/// What still answers when a partition is gone.
const BEST_EFFORT: [&str; 2] = [
    "federated_Requests() | summarize count() by Region",
    "macro-expand best_effort=true Logs_Partitions as X ( X.Requests | summarize count() by Region )",
];
/// And what does not.
const WHOLE_OR_NOT: &str = "macro-expand Logs_Partitions as X ( X.Requests | summarize count() by Region )";

#[tokio::main]
async fn main() -> ExitCode {
    let once = env::args().any(|argument| argument == "--once");
    // For tests: where what the servers are sent is kept.
    let recordings = env::args().skip_while(|argument| argument != "--recordings").nth(1).map(PathBuf::from);
    let started = Instant::now();
    println!("Starting four local Kusto servers (one hub, three partitions) and our agents beside each ...");
    let pace = Pace { heartbeat: "2s", expected: "3s", time_to_live: "10s", reconcile: "1s", ..Pace::FAST };
    let fleet = match Fleet::start_recording(pace, recordings).await {
        Ok(fleet) => fleet,
        Err(error) => {
            println!("The servers could not be prepared: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut operator = fleet.start_operator();
    let Some(functions) = first_functions(&fleet, started).await else {
        println!("No federated functions after {PATIENCE:?}. The agents printed:\n{}", operator.output());
        return ExitCode::FAILURE;
    };
    println!("... ready after {:.1} s.\n", started.elapsed().as_secs_f64());
    // For tests: the queries wait for a file.
    let awaited = env::args().skip_while(|argument| argument != "--queries-after").nth(1).map(PathBuf::from);
    while awaited.as_ref().is_some_and(|file| !file.exists()) {
        time::sleep(Duration::from_millis(50)).await;
    }
    let right = show(&fleet, &functions).await;
    if once {
        stop(fleet, operator).await;
        return if right { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    println!("Any Kusto client can ask (no sign-in; the hub's database is Logs or Metrics):");
    println!("  hub      {}  (process {})", fleet.hub.url, fleet.hub.pid());
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        println!("  {:<8} {}  (process {})", region.name, server.url, server.pid());
    }
    println!(
        "\nTry: stop a partition above (kill its process) and ask the hub again, in the database Logs. Functions are made with best_effort, and a"
    );
    println!("query of one's own may say so: these answer from the others.");
    BEST_EFFORT.iter().for_each(|query| println!("  {query}"));
    println!("A query of one's own that does not say so is whole or fails (General_RemoteClusterFailed):");
    println!("  {WHOLE_OR_NOT}");
    println!(
        "Or pause the partitions' agents (pkill -STOP -P {} agent-partition): their heartbeats end, and the hub's agent removes nothing, since all fell silent",
        operator.pid().unwrap_or_default()
    );
    println!("together (.show functions); -CONT lets them go on.");
    println!("Ctrl-C stops everything.");
    let exit = tokio::select! {
        () = asked_to_stop() => ExitCode::SUCCESS,
        status = operator.exited_within(Duration::MAX) => {
            println!("operator standalone stopped ({status}); it printed:\n{}", operator.output());
            ExitCode::FAILURE
        }
    };
    stop(fleet, operator).await;
    exit
}

/// Ctrl-C, SIGTERM, or the terminal's end.
async fn asked_to_stop() {
    let listen = |kind| signal(kind).expect("a process can listen to signals");
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(listen);
    let [interrupt, terminate, hangup] = &mut signals;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// The agents first, so that they do not see their servers go.
async fn stop(fleet: Fleet, mut operator: Process) {
    operator.signal(Signal::SIGTERM);
    operator.exited_within(Duration::from_secs(60)).await;
    fleet.stop().await;
}

/// Waits until every region's tables have their functions and all partitions are in.
async fn first_functions(fleet: &Fleet, started: Instant) -> Option<Table> {
    let ready = async {
        loop {
            let regions = fleet.hub.query("Logs", "federated_Requests() | distinct Region | count").await;
            let metrics = fleet.hub.query("Metrics", "federated_PrometheusData() | count").await;
            // Databases are changed side by side, and each has all groups.
            let beside = "macro-expand Metrics_Partitions as X ( X.PrometheusData ) | count";
            let beside = fleet.hub.query("Logs", beside).await;
            let is = |answer: Result<Table, AskError>, count: &str| {
                answer.is_ok_and(|table| table.column("Count") == [count])
            };
            if is(regions, "3") && is(metrics, "30") && is(beside, "30") {
                let text = ".show databases entities | where EntityType == 'Function' | project DatabaseName, EntityName, DocString";
                return fleet.hub.command("Logs", text).await.ok();
            }
            time::sleep(Duration::from_millis(200)).await;
        }
    };
    time::timeout(PATIENCE.saturating_sub(started.elapsed()), ready).await.ok().flatten()
}

async fn show(fleet: &Fleet, functions: &Table) -> bool {
    let partitions = "Heartbeats | summarize LastBeat = max(Timestamp), Beats = count() by ClusterEndpoint, \
                      Geo = tostring(PartitionMetadata.geo), Location = tostring(PartitionMetadata.location) | order by Geo asc";
    let mut right = true;
    println!("# Partitions that were discovered (heartbeats in {}.Heartbeats)\n", HUB_DATABASES[0]);
    right &=
        print_table(fleet.hub.query(HUB_DATABASES[0], partitions).await, |table| table.rows.len() == REGIONS.len());
    println!("# Functions that were made\n");
    let made = ["federated_ApplicationLogs", "federated_PrometheusData", "federated_Requests"];
    right &= print_table(Ok::<_, AskError>(functions.clone()), |table| {
        made.iter().all(|name| table.column("EntityName").iter().any(|function| function == name))
    });
    println!("# Entity groups that were made (in every hub database; here those of Logs)\n");
    right &= print_table(fleet.hub.command("Logs", ".show entity_groups").await, |table| table.rows.len() == 2);
    for query in queries(fleet) {
        println!("# {} (database {})\n\n{}\n", query.title, query.database, query.text);
        right &=
            print_table(fleet.hub.query(query.database, query.text).await, |table| table.text_rows() == query.expected);
    }
    println!("{}\n", if right { "Every query was answered rightly." } else { "Some answers were wrong: see above." });
    right
}

fn print_table<E: std::fmt::Display>(answer: Result<Table, E>, is_right: impl Fn(&Table) -> bool) -> bool {
    match answer {
        Ok(table) => {
            let right = is_right(&table);
            println!("{}{}", table.to_text(), if right { "" } else { "WRONG: other rows were expected\n" });
            right
        }
        Err(error) => {
            println!("FAILED: {error}\n");
            false
        }
    }
}
