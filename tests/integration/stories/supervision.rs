//! `operator standalone`: children come, go and never stay behind.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tests::{
    fleet::{Fleet, Pace},
    process::Process,
    telemetry::REGIONS,
    timing::for_the_most_part,
};
use tokio::{process::Command, time};

use crate::support::{SOON, end, federated, until_all_beat_anew, until_printed, until_regions, until_so};

fn standalone(documents: &[&Path]) -> Process {
    let files = documents.iter().flat_map(|document| ["-f".to_owned(), document.display().to_string()]);
    let arguments: Vec<String> = ["standalone".to_owned()].into_iter().chain(files).collect();
    Process::start("operator standalone", "operator", &arguments)
}

async fn children(pid: u32) -> Vec<i32> {
    let listing = Command::new("ps").args(["-o", "pid=", "--ppid", &pid.to_string()]).output().await.expect("ps runs");
    String::from_utf8_lossy(&listing.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn alive(pid: i32) -> bool {
    signal::kill(Pid::from_raw(pid), None).is_ok()
}

/// A supervisor that is asked to stop does, with all agents, and within five seconds.
async fn stops_in_time(by: Signal, has_hanging_agent: bool) {
    let (fleet, mut operator) = federated().await;
    for_the_most_part(1, async |number| {
        if number > 0 {
            operator = fleet.start_operator();
            until_all_run(&operator).await;
        }
        let agents = children(operator.pid().expect("it runs")).await;
        assert_eq!(agents.len(), 4);
        if has_hanging_agent {
            signal::kill(Pid::from_raw(agents[0]), Signal::SIGSTOP).expect("it runs");
        }
        let asked = Instant::now();
        operator.signal(by);
        assert_eq!(operator.exited_within(SOON).await.code(), Some(0), "{}", operator.output());
        let took = asked.elapsed();
        assert!(!agents.into_iter().any(alive), "agents outlived their supervisor");
        if took < Duration::from_secs(5) { Ok(()) } else { Err(format!("it took {took:?}")) }
    })
    .await;
    end(fleet, []).await;
}

/// Waits until each agent has made a pass.
async fn until_all_run(operator: &Process) {
    for name in ["hub", "europe", "america", "asia"] {
        let begin = format!("[{name}] ");
        let has_passed = |line: &str| line.starts_with(&begin) && line.contains("pass ended");
        until_so(|| format!("{name}:\n{}", operator.output()), || operator.output().lines().any(has_passed)).await;
    }
}

#[tokio::test]
async fn sigterm_stops_all_agents_within_five_seconds() {
    stops_in_time(Signal::SIGTERM, false).await;
}

#[tokio::test]
async fn ctrl_c_ends_an_agent_that_hangs_too() {
    stops_in_time(Signal::SIGINT, true).await;
}

#[tokio::test]
async fn a_dead_supervisor_leaves_no_children() {
    let (fleet, mut operator) = federated().await;
    let agents = children(operator.pid().expect("it runs")).await;
    operator.kill().await;
    until_so(|| "agents outlived their killed supervisor".to_owned(), || !agents.iter().copied().any(alive)).await;
    let operator = fleet.start_operator();
    until_all_beat_anew(&fleet).await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_wrong_document_starts_nothing_and_is_told_by_file_path_value_and_rule() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let good = fleet.hub_document();
    let text = fs::read_to_string(&good).expect("just written");
    let wrong = |name: &str, from: &str, to: &str| fleet.write_document(name, &text.replace(from, to));
    let cases = [
        (wrong("unknown-field", "heartbeatTable:", "heartbeatTabel:"), "spec.federation.heartbeatTabel: unknown field"),
        (
            wrong("short-ttl", "heartbeatTTL: 5m", "heartbeatTTL: 1s"),
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

#[tokio::test]
async fn a_document_that_can_never_work_is_told_once_and_the_others_go_on() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let good = fleet.hub_document();
    let text = fs::read_to_string(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])).expect("just written");
    let stranger = "https://evil.example.com";
    let own = fleet.write_document("own", &text.replace(&fleet.partitions[0].url, stranger));
    let hub = text.replace("name: europe", "name: elsewhere").replace(&fleet.hub.url, stranger);
    let hub = fleet.write_document("elsewhere", &hub);
    let final_words = "is not started again: its document can never work";
    let operator = standalone(&[&good, &own, &hub]);
    for text in [
        "document=\"europe\"",
        "document=\"elsewhere\"",
        "spec.federation.federatedClusters[0].endpoint",
        "path=\"spec.endpoint\" value=https://evil.example.com",
    ] {
        until_printed(&operator, text).await;
    }
    // Longer than the first pauses between two starts.
    time::sleep(Duration::from_secs(4)).await;
    let output = operator.output();
    assert_eq!(output.matches(final_words).count(), 2, "{output}");
    assert_eq!(output.matches("agent started").count(), 3, "{output}");
    assert_eq!(children(operator.pid().expect("it runs")).await.len(), 1, "the good one runs: {output}");
    let mut hopeless = standalone(&[&own, &hub]);
    assert_eq!(hopeless.exited_within(SOON).await.code(), Some(2), "{}", hopeless.output());
    assert_eq!(hopeless.output().matches(final_words).count(), 2, "{}", hopeless.output());
    end(fleet, [operator]).await;
}

/// When a supervisor began to run an agent, each time.
fn starts(operator: &Process) -> Vec<Timestamp> {
    let output = operator.output();
    let lines = output.lines().filter(|line| !line.starts_with('[') && line.contains("agent started"));
    lines
        .map(|line| line.split(' ').next().and_then(|at| at.parse().ok()).expect("a line begins with its time"))
        .collect()
}

#[tokio::test]
async fn an_agent_that_always_ends_is_started_again_ever_later() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let operator = standalone(&[&fleet.hub_document()]);
    let deadline = Instant::now() + SOON;
    while starts(&operator).len() < 4 {
        assert!(Instant::now() < deadline, "{}", operator.output());
        for agent in children(operator.pid().expect("it runs")).await {
            // An error: it has just been reaped.
            let _ = signal::kill(Pid::from_raw(agent), Signal::SIGKILL);
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    // After one second, two more and four more: on a busy machine later, and never sooner.
    let starts = starts(&operator);
    let waits: Vec<_> = starts.windows(2).map(|both| both[1].duration_since(both[0])).collect();
    for (wait, least) in waits.iter().zip([1, 2, 4]) {
        assert!(*wait >= SignedDuration::from_secs(least), "{waits:?}: {}", operator.output());
    }
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn two_documents_in_one_file_are_two_agents() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let read = |path| fs::read_to_string(path).expect("just written");
    let (hub, europe) = (read(fleet.hub_document()), read(fleet.partition_document(&REGIONS[0], &fleet.partitions[0])));
    let both = fleet.write_document("both", &format!("{hub}---\n{europe}"));
    let operator = standalone(&[&both]);
    until_regions(&fleet, &["europe"]).await;
    until_printed(&operator, "[hub] ").await;
    until_printed(&operator, "[europe] ").await;
    assert_eq!(children(operator.pid().expect("it runs")).await.len(), 2);
    end(fleet, [operator]).await;
}
