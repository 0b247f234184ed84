//! `make demo` is the first thing that a person runs: its program is a story of its own.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::process::Process;
use tokio::{process::Command, time};

#[tokio::test]
async fn once_shows_every_answer_and_exits_0() {
    let mut demo = Process::start("demo", "demo", &["--once".to_owned()]);
    let status = demo.exited_within(Duration::from_secs(60)).await;
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
}

#[tokio::test]
async fn ctrl_c_leaves_no_process_behind() {
    let mut demo = Process::start("demo", "demo", &[]);
    let deadline = time::Instant::now() + Duration::from_secs(60);
    while !demo.output().contains("Ctrl-C stops everything.") {
        assert!(time::Instant::now() < deadline, "{}", demo.output());
        time::sleep(Duration::from_millis(100)).await;
    }
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
