//! What the stories share.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tests::{
    fleet::{Fleet, HUB_DATABASES, Pace},
    kusto::{KustoServer, Table},
    oracle::{Names, Oracle, Verdict},
    process::Process,
    recordings,
};
use tokio::time;

/// How long a change may take to show at the hub at [`Pace::FAST`]: a beat, a pass, and a machine that is slow and at times busy for seconds.
pub(crate) const SOON: Duration = Duration::from_secs(60);

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

/// All that is ours on the hub, once every database's groups list every partition, and each function is made: databases are changed side by side, and one may come
/// later. From then on nothing changes by itself.
pub(crate) async fn whole_content(fleet: &Fleet) -> Vec<String> {
    // A function of each table, and `federation_status` in each database.
    const FUNCTIONS: usize = 3 + HUB_DATABASES.len();
    let lists_all = |line: &&String| fleet.partitions.iter().all(|partition| line.contains(&partition.url));
    let deadline = time::Instant::now() + SOON;
    loop {
        let content = hub_content(fleet).await;
        let groups: Vec<_> = content.iter().filter(|line| line.contains("_Partitions\")")).collect();
        let functions = content.len() - groups.len();
        if functions >= FUNCTIONS && groups.len() == 2 * HUB_DATABASES.len() && groups.iter().all(lists_all) {
            return content;
        }
        assert!(time::Instant::now() < deadline, "{content:#?}");
        time::sleep(Duration::from_millis(50)).await;
    }
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
    until_printed_after(process, 0, text).await;
}

/// The same, after so many bytes of what it has printed.
pub(crate) async fn until_printed_after(process: &Process, bytes: usize, text: &str) {
    let printed = || process.output_after(bytes).contains(text);
    until_so(|| format!("{text:?} was not printed in:\n{}", process.output()), printed).await;
}

/// Waits until something is so.
pub(crate) async fn until_so(what: impl Fn() -> String, is_so: impl Fn() -> bool) {
    let deadline = time::Instant::now() + SOON;
    while !is_so() {
        assert!(time::Instant::now() < deadline, "{}", what());
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the hub agents have begun so many more passes.
pub(crate) async fn until_passes(fleet: &Fleet, more: usize) {
    until_passes_over(&fleet.hub, more).await;
}

/// The same of any hub.
pub(crate) async fn until_passes_over(hub: &KustoServer, more: usize) {
    // Part of the query of the heartbeats, and of no other text that an agent sends.
    let passes = || hub.recorded("NewBeats");
    let made = passes();
    until_so(|| format!("{} passes of {more}", passes() - made), || passes() >= made + more).await;
}

/// All that is ours on the hub: names of functions and groups with their content.
pub(crate) async fn hub_content(fleet: &Fleet) -> Vec<String> {
    let mut content = Vec::new();
    for database in HUB_DATABASES {
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

/// The same for fleets that were sent much the same: a server of one fleet stands for those of its name in the others, so that each text is read once.
pub(crate) fn judge_together<'a>(folders: impl Iterator<Item = &'a Path>) {
    let together = tempfile::tempdir().expect("a temporary folder can be made");
    let mut names = Vec::<String>::new();
    let mut texts = BTreeMap::<String, String>::new();
    for folder in folders {
        // `NAME-PORT.jsonl`
        let entries = fs::read_dir(folder).expect("the folder can be read");
        let paths = entries.map(|entry| entry.expect("the folder can be read").path());
        let servers: Vec<(String, String, PathBuf)> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .filter_map(|path| {
                let stem = path.file_stem()?.to_string_lossy().into_owned();
                let (name, port) = stem.rsplit_once('-')?;
                Some((name.to_owned(), port.to_owned(), path))
            })
            .collect();
        let mut numbered = Vec::new();
        for (name, port, _) in &servers {
            let known = names.iter().position(|known| known == name);
            let number = known.unwrap_or_else(|| {
                names.push(name.clone());
                names.len() - 1
            });
            numbered.push((format!("127.0.0.1:{port}"), format!("127.0.0.1:{number}")));
        }
        for (name, _, path) in servers {
            let mut text = fs::read_to_string(&path).expect("the recording can be read");
            recordings::judged(&path);
            for (port, number) in &numbered {
                text = text.replace(port, number);
            }
            let number = names.iter().position(|known| *known == name).unwrap_or_default();
            *texts.entry(format!("{name}-{number}.jsonl")).or_default() += &text;
        }
    }
    for (name, text) in texts {
        fs::write(together.path().join(name), text).expect("the folder can be written");
    }
    judge(together.path());
}

/// Microsoft's parser accepts every text in the recordings of a folder.
pub(crate) fn judge(folder: &Path) {
    verdict(folder).assert_accepted();
}

/// What Microsoft's parser reads in the recordings of a folder.
pub(crate) fn verdict(folder: &Path) -> Verdict {
    // One for all stories, since most are sent what others were, which it then knows already.
    static ORACLE: LazyLock<Mutex<Oracle>> = LazyLock::new(|| Mutex::new(Oracle::start().expect("node runs")));
    let mut oracle = ORACLE.lock().unwrap_or_else(PoisonError::into_inner);
    oracle.judge_recordings(folder, Names::MustBeKnown).expect("the recordings can be read")
}
