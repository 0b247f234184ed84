//! `operator standalone`: children come, go and never stay behind.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tests::{
    fleet::{Fleet, Pace},
    process::Process,
};
use tokio::{process::Command, time};

use crate::support::{SOON, end, federated, until_all_beat_anew, until_printed, until_regions};

async fn children(pid: u32) -> Vec<i32> {
    let listing = Command::new("ps").args(["-o", "pid=", "--ppid", &pid.to_string()]).output().await.expect("ps runs");
    String::from_utf8_lossy(&listing.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn alive(pid: i32) -> bool {
    signal::kill(Pid::from_raw(pid), None).is_ok()
}

#[tokio::test]
async fn sigterm_stops_all_agents_within_five_seconds() {
    let (fleet, mut operator) = federated().await;
    let agents = children(operator.pid().expect("it runs")).await;
    assert_eq!(agents.len(), 4);
    let asked = Instant::now();
    operator.signal(Signal::SIGTERM);
    assert_eq!(operator.exited_within(Duration::from_secs(5)).await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(!agents.into_iter().any(alive), "agents outlived their supervisor");
    end(fleet, []).await;
}

#[tokio::test]
async fn ctrl_c_ends_an_agent_that_hangs_too() {
    let (fleet, mut operator) = federated().await;
    let agents = children(operator.pid().expect("it runs")).await;
    signal::kill(Pid::from_raw(agents[0]), Signal::SIGSTOP).expect("it runs");
    operator.signal(Signal::SIGINT);
    assert_eq!(operator.exited_within(Duration::from_secs(5)).await.code(), Some(0), "{}", operator.output());
    assert!(!agents.into_iter().any(alive), "agents outlived their supervisor");
    end(fleet, []).await;
}

#[tokio::test]
async fn a_dead_supervisor_leaves_no_children() {
    let (fleet, mut operator) = federated().await;
    let agents = children(operator.pid().expect("it runs")).await;
    operator.kill().await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while agents.iter().copied().any(alive) {
        assert!(Instant::now() < deadline, "agents outlived their killed supervisor");
        time::sleep(Duration::from_millis(50)).await;
    }
    let operator = fleet.start_operator();
    until_all_beat_anew(&fleet).await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_killed_agent_is_started_again() {
    let (fleet, operator) = federated().await;
    let before = children(operator.pid().expect("it runs")).await;
    for agent in &before {
        signal::kill(Pid::from_raw(*agent), Signal::SIGKILL).expect("it runs");
    }
    let deadline = Instant::now() + SOON;
    while children(operator.pid().expect("it runs")).await.len() < 4 {
        assert!(Instant::now() < deadline, "not all agents were started again:\n{}", operator.output());
        time::sleep(Duration::from_millis(100)).await;
    }
    until_all_beat_anew(&fleet).await;
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    until_printed(&operator, "[europe]").await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_wrong_document_starts_nothing_and_is_told_by_file_path_value_and_rule() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let good = fleet.hub_document();
    let text = std::fs::read_to_string(&good).expect("just written");
    let wrong = |name: &str, from: &str, to: &str| fleet.write_document(name, &text.replace(from, to));
    let cases = [
        (wrong("unknown-field", "heartbeatTable:", "heartbeatTabel:"), "spec.federation.heartbeatTabel: unknown field"),
        (
            wrong("short-ttl", "heartbeatTTL: 4s", "heartbeatTTL: 1s"),
            "spec.federation.heartbeatTTL = 1s: must be at least 3 x",
        ),
        (fleet.folder.path().join("missing.yaml"), "failed to read the document"),
        (wrong("double", "x", "x"), "two documents are named 'hub'"),
        (wrong("two-in-one", "apiVersion", &format!("{text}---\napiVersion")), "two documents are named 'hub'"),
    ];
    for (document, message) in cases {
        let arguments = ["standalone", "-f"].map(str::to_owned);
        let files = [good.display().to_string(), document.display().to_string()];
        let mut operator = Process::start("operator", "operator", &[&arguments[..], &files[..]].concat());
        assert_eq!(operator.exited_within(SOON).await.code(), Some(2), "{message}: {}", operator.output());
        assert!(operator.output().contains(message), "{message} in\n{}", operator.output());
        assert!(!operator.output().contains("agent started"), "{}", operator.output());
    }
    for arguments in [&["--no-such-flag"][..], &["--config", "/nowhere/x.yaml"], &["--once", "--plan", "--config", "x"]]
    {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut agent = Process::start("agent-hub", "agent-hub", &arguments);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(2), "{arguments:?}: {}", agent.output());
    }
    end(fleet, []).await;
}
