//! Every fault of `kusto-local --faults` at every request that a hub agent's pass makes: nobody is removed because something was not seen, two passes after the
//! fault all is as it should be, and then nothing is written any more.

use std::{fs, path::PathBuf, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{kusto::KustoServer, process::Process};
use tokio::time;

use crate::support::{judge, judge_together};

/// Parts of the texts of all requests that a pass makes; that all are met is part of the test.
const REQUESTS: [&str; 14] = [
    "['AdxFederationObjects'] policy retention",
    "['AdxFederationMembers'] policy retention",
    "['Heartbeats'] policy streamingingestion",
    "['Heartbeats'].Schema policy encoding",
    "NewBeats",
    "_endpoints",
    ".show databases | project",
    ".show databases entities",
    ".show entity_groups",
    "IsIntended",
    "SilentSince",
    "into table ['AdxFederationMembers']",
    "into table ['AdxFederationObjects']",
    ".execute database script",
];

pub(crate) fn faults() -> Vec<Value> {
    vec![
        json!({"status": 429}),
        json!({"status": 500}),
        json!({"status": 503}),
        json!({"status": 403}),
        json!({"delay": 300}),
        json!("reset"),
        json!("lost"),
        json!("cut"),
        json!("html"),
        json!("oneApiErrors"),
        json!("hasErrors"),
        json!("truncated"),
        json!("failedScript"),
        json!({"redirect": "https://evil.example/"}),
    ]
}

/// A hub server whose requests can be made to fail, three partitions' heartbeats in it, and its agent's document.
pub(crate) struct Hub {
    pub(crate) server: KustoServer,
    pub(crate) folder: TempDir,
    document: PathBuf,
    rules: PathBuf,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let rules = folder.path().join("faults.json");
        fs::write(&rules, "[]").expect("the folder can be written");
        let record = folder.path().join("hub.jsonl");
        let faults = ["--faults", rules.to_str().expect("the path is text")];
        let server = KustoServer::start(0, &["FleetDiscovery", "Logs", "Metrics"], &record, &faults).await;
        let document = folder.path().join("hub.yaml");
        let hub = Self { server, folder, document, rules };
        hub.block(false);
        hub.pass().await;
        hub
    }

    /// Whether the document blocks the third partition.
    fn block(&self, blocks: bool) {
        let blocked = if blocks { "['http://127.0.0.3:1']" } else { "[]" };
        let text = format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: hub}}\nspec:\n  clusterName: hub\n  endpoint: '{}'\n  role: Federated\n  federation: {{heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats, reconcileInterval: 200ms, entityGroups: [{{by: geo}}], blockedPartitions: {blocked}}}\n",
            self.server.url
        );
        fs::write(&self.document, text).expect("the folder can be written");
    }

    /// The next beats: there is always something to do. With more, there is one more function and one more database with its groups, and the third partition is
    /// blocked.
    async fn turn(&self, with: bool) {
        self.block(with);
        let logs: &[&str] = if with { &["A", "B"] } else { &["A"] };
        let metrics: &[&str] = if with { &["M"] } else { &[] };
        self.beat(&[("Logs", logs), ("Metrics", metrics)]).await;
    }

    /// Whether all of a turn is there, and what must never go.
    async fn is_complete(&self, with: bool) -> Result<(), String> {
        let content = self.content().await;
        let count = |text: &str| content.iter().filter(|line| line.contains(text)).count();
        // Each group is in both databases, and has one of its geography.
        let found = [count("federated_"), count("_Partitions\""), count("_Partitions_EU\""), count("127.0.0.3")];
        let expected = if with { [3, 4, 4, 0] } else { [1, 2, 2, 4] };
        if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}: {content:#?}")) }
    }

    /// Two partitions beat at all times, with a table that is always there.
    async fn has_kept_the_live(&self) -> Result<(), String> {
        let content = self.content().await;
        let has_both = |line: &&String| line.contains("127.0.0.1") && line.contains("127.0.0.2");
        let groups = ["Logs_Partitions\"", "Logs_Partitions_EU\""];
        let is_whole = content.iter().any(|line| line.contains("federated_A"))
            && groups
                .iter()
                .all(|group| content.iter().filter(|line| line.contains(group)).filter(has_both).count() == 2);
        if is_whole { Ok(()) } else { Err(format!("{content:#?}")) }
    }

    /// All partitions beat with these tables of databases.
    async fn beat(&self, databases: &[(&str, &[&str])]) {
        let databases = databases.iter().filter(|(_, tables)| !tables.is_empty());
        let tables: Value = databases.map(|(name, tables)| json!({"database": name, "tables": tables})).collect();
        let tables = tables.to_string().replace('"', "\"\"");
        let row = |host: &str| {
            format!("2026-01-01T00:00:00Z,http://127.0.0.{host}:1,\"{tables}\",\"{{\"\"geo\"\":\"\"EU\"\"}}\"\n")
        };
        let rows: String = ["1", "2", "3"].map(row).concat();
        let command = format!(".ingest inline into table Heartbeats <|\n{rows}");
        self.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
    }

    /// One pass of a new agent; its exit code, and what it printed.
    pub(crate) async fn pass(&self) -> (Option<i32>, String) {
        let arguments = ["--config", self.document.to_str().expect("the path is text"), "--once"].map(str::to_owned);
        let mut agent = Process::start("agent-hub", "agent-hub", &arguments);
        let status = agent.exited_within(Duration::from_secs(60)).await;
        (status.code(), agent.output())
    }

    /// An agent that goes on.
    fn agent(&self) -> Process {
        let arguments = ["--config", self.document.to_str().expect("the path is text")].map(str::to_owned);
        Process::start("agent-hub", "agent-hub", &arguments)
    }

    pub(crate) fn fail(&self, rules: &Value) {
        // Renamed into place: the server never reads half of it.
        let half = self.rules.with_extension("new");
        fs::write(&half, rules.to_string()).expect("the folder can be written");
        fs::rename(&half, &self.rules).expect("the folder can be written");
    }

    /// Functions with their bodies, and groups with their members.
    pub(crate) async fn content(&self) -> Vec<String> {
        let mut content = Vec::new();
        for database in ["Logs", "Metrics"] {
            for text in [
                ".show functions | where Name != 'federation_status' | project Name",
                ".show entity_groups | project Name, Entities",
            ] {
                let table = self.server.command(database, text).await.expect("the hub answers");
                content.extend(table.rows.iter().map(|row| format!("{database} {row:?}")));
            }
        }
        content.sort();
        content
    }

    /// How many requests with this text were sent so far.
    fn sent(&self, text: &str) -> usize {
        let recording = &self.server.recording;
        let lines = fs::read_to_string(recording).expect("the recording can be read");
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["csl"].as_str().is_some_and(|csl| csl.contains(text))).count()
    }

    /// How many requests were answered so far.
    fn requests(&self) -> usize {
        self.server.recorded("")
    }

    /// Microsoft's parser reads what was sent.
    async fn end(self) {
        let Self { mut server, folder, .. } = self;
        server.process().stop().await;
        judge(folder.path());
    }

    /// How many commands that change something, beside the heartbeats of this test.
    fn writes(&self) -> usize {
        [".execute database script", ".alter", ".create", "into table ['"].map(|text| self.sent(text)).iter().sum()
    }
}

/// One kind of fault at every request of a pass that has work to do.
async fn at_every_request(fault: Value) -> (TempDir, Vec<&'static str>) {
    let hub = Hub::start().await;
    hub.turn(false).await;
    hub.pass().await;
    hub.is_complete(false).await.expect("the first pass makes everything");
    let mut met = Vec::new();
    for (round, request) in REQUESTS.into_iter().enumerate() {
        let with = round % 2 == 0;
        hub.turn(with).await;
        let sent = hub.sent(request);
        hub.fail(&json!([{"text": request, "fault": fault}]));
        let (_, output) = hub.pass().await;
        if hub.sent(request) > sent {
            met.push(request);
        }
        hub.fail(&json!([]));
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "{fault} at {request}: {output}");
        let (mut code, mut output) = hub.pass().await;
        if code != Some(0) || hub.is_complete(with).await.is_err() {
            (code, output) = hub.pass().await;
        }
        let complete = hub.is_complete(with).await;
        assert_eq!((code, complete), (Some(0), Ok(())), "two passes after {fault} at {request}: {output}");
    }
    let (writes, content) = (hub.writes(), hub.content().await);
    quiet_passes(&hub, 20).await;
    assert_eq!(hub.writes(), writes, "a quiet world is not written to");
    assert_eq!(hub.content().await, content);
    let Hub { mut server, folder, .. } = hub;
    server.process().stop().await;
    (folder, met)
}

/// Some passes of one agent.
async fn quiet_passes(hub: &Hub, passes: usize) {
    let mut agent = hub.agent();
    let deadline = time::Instant::now() + Duration::from_secs(60);
    while agent.output().matches("pass ended outcome=unchanged").count() < passes {
        assert!(time::Instant::now() < deadline, "{}", agent.output());
        time::sleep(Duration::from_millis(100)).await;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_any_request_of_a_pass_removes_anything_or_leaves_a_trace() {
    // Most of the time is spent in waiting before something is sent again.
    let done = join_all(faults().into_iter().map(|fault| tokio::spawn(at_every_request(fault)))).await;
    let done: Vec<_> = done
        .into_iter()
        .map(|story| story.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
        .collect();
    for request in REQUESTS {
        // What a pass records comes only in some rounds, and not where it has changed nothing because of the fault.
        let is_met = |(_, met): &(TempDir, Vec<&str>)| met.contains(&request);
        let is_record = request.starts_with("into table");
        assert!(done.iter().any(is_met) && (is_record || done.iter().all(is_met)), "a pass does not send {request}");
    }
    judge_together(done.iter().map(|(folder, _)| folder.path()));
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_request_leaves_what_the_next_one_completes() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    hub.pass().await;
    let requests = {
        let before = hub.requests();
        hub.turn(true).await;
        hub.pass().await;
        // One of them is this test's heartbeat.
        hub.requests() - before - 1
    };
    assert!(requests >= 14, "a pass that has something to do sends {requests} requests");
    for request in 0..requests {
        let with = request % 2 == 1;
        hub.turn(with).await;
        hub.fail(&json!([{"skip": request, "fault": {"delay": 600_000}}]));
        let before = hub.requests();
        let mut agent = hub.agent();
        let deadline = time::Instant::now() + Duration::from_secs(30);
        // A pass that needs fewer requests than the longest one ends before.
        while hub.requests() < before + request && !agent.output().contains("pass ended") {
            assert!(time::Instant::now() < deadline, "{}", agent.output());
            time::sleep(Duration::from_millis(20)).await;
        }
        time::sleep(Duration::from_millis(50)).await;
        agent.kill().await;
        hub.fail(&json!([]));
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "killed at request {request}");
        let (code, output) = hub.pass().await;
        let complete = hub.is_complete(with).await;
        assert_eq!((code, complete), (Some(0), Ok(())), "killed at request {request}: {output}");
    }
    let writes = hub.writes();
    quiet_passes(&hub, 5).await;
    assert_eq!(hub.writes(), writes);
    hub.end().await;
}

#[tokio::test]
async fn an_agent_that_is_killed_in_the_middle_of_a_script_leaves_what_the_next_one_completes() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    hub.pass().await;
    for tables in [&["A", "B", "C"][..], &["D", "E", "F"]] {
        hub.beat(&[("Logs", tables)]).await;
        hub.fail(&json!([{"text": ".execute database script", "fault": "halfScript"}]));
        let before = hub.content().await;
        let mut agent = hub.agent();
        let deadline = time::Instant::now() + Duration::from_secs(30);
        while hub.content().await == before {
            assert!(time::Instant::now() < deadline, "{}", agent.output());
            time::sleep(Duration::from_millis(50)).await;
        }
        agent.kill().await;
        hub.fail(&json!([]));
        let half = hub.content().await;
        let (code, output) = hub.pass().await;
        let content = hub.content().await;
        assert_eq!((code, content.len()), (Some(0), 7), "{output}");
        assert_ne!(content, half, "it was killed in the middle");
        for table in tables {
            assert!(content.iter().any(|line| line.contains(&format!("federated_{table}"))), "{table}: {content:?}");
        }
    }
    let writes = hub.writes();
    quiet_passes(&hub, 5).await;
    assert_eq!(hub.writes(), writes);
    hub.end().await;
}

#[tokio::test]
async fn two_hub_agents_that_lead_at_once_lose_nothing_and_agree() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    hub.pass().await;
    let mut agents = [hub.agent(), hub.agent()];
    let started = time::Instant::now();
    let mut with = false;
    while started.elapsed() < Duration::from_secs(30) {
        with = !with;
        let (logs, metrics): (&[&str], &[&str]) = if with { (&["A", "B"], &["M"]) } else { (&["A"], &[]) };
        hub.beat(&[("Logs", logs), ("Metrics", metrics)]).await;
        for _ in 0..10 {
            assert_eq!(hub.has_kept_the_live().await, Ok(()));
            time::sleep(Duration::from_millis(100)).await;
        }
    }
    for agent in &mut agents {
        agent.stop().await;
    }
    hub.turn(with).await;
    let (code, output) = hub.pass().await;
    assert_eq!((code, hub.is_complete(with).await), (Some(0), Ok(())), "{output}");
    let writes = hub.writes();
    quiet_passes(&hub, 5).await;
    assert_eq!(hub.writes(), writes, "neither thinks that the other's group is a person's");
    hub.end().await;
}
