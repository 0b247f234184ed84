//! `make demo` is the first thing that a person runs: its program is a story of its own.

use std::time::Duration;

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tests::process::Process;
use tokio::{process::Command, time};

use crate::support::judge;

#[tokio::test]
async fn once_shows_every_answer_and_exits_0() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let arguments = ["--once".to_owned(), "--recordings".to_owned(), folder.path().display().to_string()];
    let mut demo = Process::start("demo", "demo", &arguments);
    // From the build's end to the last answer.
    let status = demo.exited_within(Duration::from_secs(20)).await;
    let output = demo.output();
    assert_eq!(status.code(), Some(0), "{output}");
    for shown in [
        "westeurope",
        "eastus2",
        "southeastasia",
        "federated_Requests",
        "Metrics_Partitions",
        "Every query was answered rightly.",
    ] {
        assert!(output.contains(shown), "{shown} in\n{output}");
    }
    judge(folder.path());
}

#[tokio::test]
async fn once_exits_otherwise_when_a_partition_dies_under_it() {
    let mut demo = Process::start("demo", "demo", &["--once".to_owned()]);
    let deadline = time::Instant::now() + Duration::from_secs(20);
    let pid = demo.pid().expect("it runs").to_string();
    let partition = loop {
        let listing = Command::new("pgrep").args(["-P", &pid, "kusto-local"]).output().await.expect("pgrep runs");
        let servers: Vec<i32> =
            String::from_utf8_lossy(&listing.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        // The hub is started first.
        if let [_, _, _, last] = servers[..] {
            break last;
        }
        assert!(time::Instant::now() < deadline, "{}", demo.output());
        time::sleep(Duration::from_millis(5)).await;
    };
    signal::kill(Pid::from_raw(partition), Signal::SIGKILL).expect("it runs");
    let status = demo.exited_within(Duration::from_secs(40)).await;
    assert_ne!(status.code(), Some(0), "{}", demo.output());
}

#[tokio::test]
async fn ctrl_c_leaves_no_process_behind() {
    let mut demo = Process::start("demo", "demo", &[]);
    let deadline = time::Instant::now() + Duration::from_secs(60);
    while !demo.output().contains("Ctrl-C stops everything.") {
        assert!(time::Instant::now() < deadline, "{}", demo.output());
        time::sleep(Duration::from_millis(100)).await;
    }
    let output = demo.output();
    let hub = output.lines().find_map(|line| line.strip_prefix("  hub ")?.split_whitespace().next());
    let ask = serde_json::json!({"db": "Logs", "csl": "federated_Requests() | count"});
    let url = format!("{}/v1/rest/query", hub.expect("the hub's URL is printed"));
    let answer = reqwest::Client::new().post(url).json(&ask).send().await.expect("any client can ask the printed URL");
    let answer: serde_json::Value = answer.json().await.expect("an answer is JSON");
    assert_eq!(answer["Tables"][0]["Rows"][0][0], 420, "{answer}");
    let pid = demo.pid().expect("it runs").to_string();
    let listing = Command::new("ps").args(["-o", "pid=", "--ppid", &pid]).output().await.expect("ps runs");
    let children: Vec<String> =
        String::from_utf8_lossy(&listing.stdout).split_whitespace().map(str::to_owned).collect();
    assert_eq!(children.len(), 5, "four servers and the operator");
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.exited_within(Duration::from_secs(10)).await.code(), Some(0));
    for child in children {
        let listing = Command::new("ps").args(["-o", "stat=", "-p", &child]).output().await.expect("ps runs");
        let state = String::from_utf8_lossy(&listing.stdout).trim().to_owned();
        assert!(state.is_empty() || state.starts_with('Z'), "process {child} outlived the demo: {state}");
    }
}
