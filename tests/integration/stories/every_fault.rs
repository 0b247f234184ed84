//! Every fault of `kusto-local --faults` at every request that a hub agent's pass makes: nobody is removed because something was not seen, two passes after the
//! fault all is as it should be, and then nothing is written any more.

use std::{fs, path::PathBuf, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{kusto::KustoServer, process::Process};
use tokio::time;

use crate::support::judge;

/// Parts of the texts of all requests that a pass makes; that all are met is part of the test.
const REQUESTS: [&str; 12] = [
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
    ".execute database script",
];

fn faults() -> Vec<Value> {
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
struct Hub {
    server: KustoServer,
    folder: TempDir,
    document: PathBuf,
    rules: PathBuf,
}

impl Hub {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let rules = folder.path().join("faults.json");
        fs::write(&rules, "[]").expect("the folder can be written");
        let record = folder.path().join("hub.jsonl");
        let faults = ["--faults", rules.to_str().expect("the path is text")];
        let server = KustoServer::start(0, &["FleetDiscovery", "Logs"], Some(&record), &faults).await;
        let document = folder.path().join("hub.yaml");
        let text = format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: hub}}\nspec:\n  clusterName: hub\n  endpoint: '{}'\n  role: Federated\n  federation: {{heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats, reconcileInterval: 200ms}}\n",
            server.url
        );
        fs::write(&document, text).expect("the folder can be written");
        let hub = Self { server, folder, document, rules };
        hub.pass().await;
        hub
    }

    /// All partitions beat with these tables.
    async fn beat(&self, tables: &[&str]) {
        let tables = json!([{"database": "Logs", "tables": tables}]).to_string().replace('"', "\"\"");
        let row = |host: &str| {
            format!("2026-01-01T00:00:00Z,http://127.0.0.{host}:1,\"{tables}\",\"{{\"\"geo\"\":\"\"EU\"\"}}\"\n")
        };
        let rows: String = ["1", "2", "3"].map(row).concat();
        let command = format!(".ingest inline into table Heartbeats <|\n{rows}");
        self.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
    }

    /// One pass of a new agent; its exit code, and what it printed.
    async fn pass(&self) -> (Option<i32>, String) {
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

    fn fail(&self, rules: &Value) {
        // Renamed into place: the server never reads half of it.
        let half = self.rules.with_extension("new");
        fs::write(&half, rules.to_string()).expect("the folder can be written");
        fs::rename(&half, &self.rules).expect("the folder can be written");
    }

    /// Functions with their bodies, and groups with their members.
    async fn content(&self) -> Vec<String> {
        let mut content = Vec::new();
        for text in [
            ".show functions | where Name != 'federation_status' | project Name, Body",
            ".show entity_groups | project Name, Entities",
        ] {
            let table = self.server.command("Logs", text).await.expect("the hub answers");
            content.extend(table.rows.iter().map(|row| format!("{row:?}")));
        }
        content.sort();
        content
    }

    /// How many requests with this text were sent so far.
    fn sent(&self, text: &str) -> usize {
        let recording = self.server.recording.as_ref().expect("it records");
        let lines = fs::read_to_string(recording).expect("the recording can be read");
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["csl"].as_str().is_some_and(|csl| csl.contains(text))).count()
    }

    /// How many requests were answered so far.
    fn requests(&self) -> usize {
        let recording = self.server.recording.as_ref().expect("it records");
        fs::read_to_string(recording).expect("the recording can be read").lines().count()
    }

    /// How many commands that change something, beside the heartbeats of this test.
    fn writes(&self) -> usize {
        [".execute database script", ".alter", ".create", "into table ['"].map(|text| self.sent(text)).iter().sum()
    }
}

/// One kind of fault at every request of a pass that has work to do.
async fn at_every_request(fault: Value) -> (TempDir, Vec<&'static str>) {
    let hub = Hub::start().await;
    hub.beat(&["A"]).await;
    hub.pass().await;
    let mut expected = hub.content().await;
    assert_eq!(expected.len(), 2, "a function and a group: {expected:?}");
    let mut met = Vec::new();
    for (round, request) in REQUESTS.into_iter().enumerate() {
        // A table comes in one round and goes in the next: there is always something to do.
        let with = round % 2 == 0;
        hub.beat(if with { &["A", "B"] } else { &["A"] }).await;
        let before = hub.content().await;
        let sent = hub.sent(request);
        hub.fail(&json!([{"text": request, "fault": fault}]));
        let (_, output) = hub.pass().await;
        if hub.sent(request) > sent {
            met.push(request);
        }
        hub.fail(&json!([]));
        let after = hub.content().await;
        let kept = |line: &&String| !line.contains("federated_B");
        assert_eq!(
            before.iter().filter(kept).collect::<Vec<_>>(),
            after.iter().filter(kept).collect::<Vec<_>>(),
            "{fault} at {request}: {output}"
        );
        let wanted = (Some(0), if with { 3 } else { 2 });
        let (mut code, mut output) = hub.pass().await;
        expected = hub.content().await;
        if (code, expected.len()) != wanted {
            (code, output) = hub.pass().await;
            expected = hub.content().await;
        }
        assert_eq!((code, expected.len()), wanted, "two passes after {fault} at {request}: {output}");
    }
    let writes = hub.writes();
    quiet_passes(&hub, 20).await;
    assert_eq!(hub.writes(), writes, "a quiet world is not written to");
    assert_eq!(hub.content().await, expected);
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
        assert!(done.iter().any(|(_, met)| met.contains(&request)), "no pass sends {request}");
    }
    judge(done[4].0.path());
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_request_leaves_what_the_next_one_completes() {
    let hub = Hub::start().await;
    hub.beat(&["A"]).await;
    hub.pass().await;
    let requests = {
        let before = hub.requests();
        hub.beat(&["A", "B"]).await;
        hub.pass().await;
        // One of them is this test's heartbeat.
        hub.requests() - before - 1
    };
    assert!(requests >= 12, "a pass that has something to do sends {requests} requests");
    for request in 0..requests {
        let with = request % 2 == 1;
        hub.beat(if with { &["A", "B"] } else { &["A"] }).await;
        hub.fail(&json!([{"skip": request, "fault": {"delay": 600_000}}]));
        let mut agent = hub.agent();
        // On a slow machine it is killed a request earlier, which is as good.
        time::sleep(Duration::from_millis(400)).await;
        agent.kill().await;
        hub.fail(&json!([]));
        let (code, output) = hub.pass().await;
        let content = hub.content().await;
        assert_eq!((code, content.len()), (Some(0), if with { 3 } else { 2 }), "killed at request {request}: {output}");
        assert!(content.iter().any(|line| line.contains("127.0.0.1") && line.contains("127.0.0.3")), "{content:?}");
    }
    let writes = hub.writes();
    quiet_passes(&hub, 5).await;
    assert_eq!(hub.writes(), writes);
}

#[tokio::test]
async fn two_hub_agents_that_lead_at_once_lose_nothing_and_agree() {
    let hub = Hub::start().await;
    hub.beat(&["A"]).await;
    hub.pass().await;
    let mut agents = [hub.agent(), hub.agent()];
    let started = time::Instant::now();
    let mut with = false;
    while started.elapsed() < Duration::from_secs(30) {
        with = !with;
        hub.beat(if with { &["A", "B"] } else { &["A"] }).await;
        for _ in 0..10 {
            let content = hub.content().await;
            let members =
                |line: &String| ["127.0.0.1", "127.0.0.2", "127.0.0.3"].iter().all(|host| line.contains(host));
            assert!(
                content.iter().any(|line| line.contains("federated_A")) && content.iter().any(members),
                "{content:?}"
            );
            time::sleep(Duration::from_millis(100)).await;
        }
    }
    for agent in &mut agents {
        agent.stop().await;
    }
    let (code, output) = hub.pass().await;
    assert_eq!((code, hub.content().await.len()), (Some(0), if with { 3 } else { 2 }), "{output}");
    let writes = hub.writes();
    quiet_passes(&hub, 5).await;
    assert_eq!(hub.writes(), writes, "neither thinks that the other's group is a person's");
}
