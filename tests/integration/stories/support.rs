//! What the stories share.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tests::{
    fleet::{Fleet, Pace},
    kusto::Table,
    oracle::{Names, Oracle},
    process::Process,
};
use tokio::time;

/// How long a change may take to show at the hub at [`Pace::FAST`]: a beat, a pass, and a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Counts the regions that the hub's function answers for.
pub(crate) const REGIONS_SEEN: &str = "federated_Requests() | distinct Region | order by Region asc";

/// A fleet whose hub answers for all three regions.
pub(crate) async fn federated() -> (Fleet, Process) {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let operator = fleet.start_operator();
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    (fleet, operator)
}

/// Waits until the hub answers for exactly these regions.
pub(crate) async fn until_regions(fleet: &Fleet, regions: &[&str]) -> Table {
    fleet.hub_until("Logs", REGIONS_SEEN, SOON, |table| table.column("Region") == regions).await
}

/// Waits until every partition's agent has told of something that was not there before.
pub(crate) async fn until_all_beat_anew(fleet: &Fleet) {
    for (number, server) in fleet.partitions.iter().enumerate() {
        let command = format!(".create table After{number} (a:long)");
        server.command("Logs", &command).await.expect("the partition takes a table");
    }
    let all = ".show functions | where Name startswith 'federated_After'";
    fleet.hub_until("Logs", all, SOON, |table| table.rows.len() == fleet.partitions.len()).await;
}

/// Waits until a process has printed a text: it may act first and tell afterwards.
pub(crate) async fn until_printed(process: &Process, text: &str) {
    let deadline = time::Instant::now() + SOON;
    while !process.output().contains(text) {
        assert!(time::Instant::now() < deadline, "{text:?} was not printed in:\n{}", process.output());
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// All that is ours on the hub: names of functions and groups with their content.
pub(crate) async fn hub_content(fleet: &Fleet) -> Vec<String> {
    let mut content = Vec::new();
    for database in tests::fleet::HUB_DATABASES {
        let functions = fleet.hub.command(database, ".show functions | project Name, Body | order by Name asc").await;
        let groups =
            fleet.hub.command(database, ".show entity_groups | project Name, Entities | order by Name asc").await;
        for table in [functions, groups] {
            content.extend(table.expect("the hub answers").rows.iter().map(|row| format!("{database}: {row:?}")));
        }
    }
    content
}

/// Ends a story: stops everything, and has Microsoft's parser read every text that any of its servers was sent.
pub(crate) async fn end(fleet: Fleet, agents: impl IntoIterator<Item = Process>) {
    for mut agent in agents {
        agent.stop().await;
    }
    judge(fleet.stop().await.path());
}

/// The same for servers that were sent much the same: each text is read once.
pub(crate) fn judge_together<'a>(folders: impl Iterator<Item = &'a Path>) {
    let together = tempfile::tempdir().expect("a temporary folder can be made");
    let mut lines = String::new();
    for folder in folders {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                lines += &fs::read_to_string(path).expect("the recording can be read");
            }
        }
    }
    fs::write(together.path().join("hub-1.jsonl"), lines).expect("the folder can be written");
    judge(together.path());
}

/// Microsoft's parser reads every text in the recordings of a folder.
pub(crate) fn judge(folder: &Path) {
    // Reading takes most of a story's time; each process reads on one core.
    static ORACLES: OnceLock<[Mutex<Oracle>; 2]> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let start = |()| Mutex::new(Oracle::start().expect("node runs"));
    let oracles = ORACLES.get_or_init(|| [(), ()].map(start));
    let oracle = &oracles[NEXT.fetch_add(1, Ordering::Relaxed) % oracles.len()];
    let mut oracle = oracle.lock().unwrap_or_else(PoisonError::into_inner);
    oracle.judge_recordings(folder, Names::MustBeKnown).expect("the recordings can be read").assert_accepted();
}
