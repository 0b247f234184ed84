//! `make demo` is the first thing that a person runs: its program is a story of its own.

#![allow(clippy::panic)] // A failed expectation is what a story is for.

use std::time::Duration;

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tests::{docs, loopback, process::Process, telemetry::REGIONS};
use tokio::{process::Command, time};

use crate::support::{SOON, judge};

#[tokio::test]
async fn once_shows_every_answer_and_exits_0() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let arguments = ["--once".to_owned(), "--recordings".to_owned(), folder.path().display().to_string()];
    let mut demo = Process::start("demo", "demo", &arguments);
    // From the build's end to the last answer.
    let status = demo.exited_within(SOON * 2).await;
    let output = demo.output();
    assert_eq!(status.code(), Some(0), "{output}");
    let section = |from: &str, to: &str| {
        let (_, rest) = output.split_once(from).unwrap_or_else(|| panic!("{from} in\n{output}"));
        rest.split_once(to).unwrap_or_else(|| panic!("{to} in\n{output}")).0.to_owned()
    };
    let (functions, groups) = ("# Functions that were made", "# Entity groups that were made");
    for (from, to, shown) in [
        ("# Partitions that were discovered", functions, &["westeurope", "eastus2", "southeastasia"][..]),
        (functions, groups, &["federated_ApplicationLogs", "federated_PrometheusData", "federated_Requests"]),
        (groups, "# A federated function", &["Logs_Partitions", "Metrics_Partitions"]),
    ] {
        let section = section(from, to);
        assert!(shown.iter().all(|text| section.contains(text)), "{shown:?} in\n{section}");
    }
    assert!(output.contains("Every query was answered rightly."), "{output}");
    judge(folder.path());
}

#[tokio::test]
async fn once_exits_otherwise_when_an_answer_is_wrong() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let go = folder.path().join("go");
    let arguments =
        ["--once", "--queries-after", &go.display().to_string(), "--recordings", &folder.path().display().to_string()];
    let mut demo = Process::start("demo", "demo", &arguments.map(str::to_owned));
    let deadline = time::Instant::now() + SOON;
    while !demo.output().contains("... ready after") {
        assert!(time::Instant::now() < deadline, "{}", demo.output());
        time::sleep(Duration::from_millis(50)).await;
    }
    let partition = servers(&demo).await.pop().expect("it has servers");
    signal::kill(Pid::from_raw(partition), Signal::SIGKILL).expect("it runs");
    std::fs::write(&go, "").expect("the folder can be written");
    let status = demo.exited_within(SOON * 2).await;
    assert_ne!(status.code(), Some(0), "{}", demo.output());
    assert!(demo.output().contains("WRONG: other rows were expected"), "{}", demo.output());
    judge(folder.path());
}

/// The processes of its servers; the hub is started first.
async fn servers(demo: &Process) -> Vec<i32> {
    let pid = demo.pid().expect("it runs").to_string();
    let listing = Command::new("pgrep").args(["-P", &pid, "kusto-local"]).output().await.expect("pgrep runs");
    String::from_utf8_lossy(&listing.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[tokio::test]
async fn once_exits_otherwise_when_a_partition_dies_under_it() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let go = folder.path().join("go");
    let arguments =
        ["--once", "--queries-after", &go.display().to_string(), "--recordings", &folder.path().display().to_string()];
    let mut demo = Process::start("demo", "demo", &arguments.map(str::to_owned));
    let deadline = time::Instant::now() + SOON;
    let partition = loop {
        if let [_, _, _, last] = servers(&demo).await[..] {
            break last;
        }
        assert!(time::Instant::now() < deadline, "{}", demo.output());
        time::sleep(Duration::from_millis(5)).await;
    };
    signal::kill(Pid::from_raw(partition), Signal::SIGKILL).expect("it runs");
    // Not before: on a busy machine it might be done.
    std::fs::write(&go, "").expect("the folder can be written");
    let status = demo.exited_within(SOON * 2).await;
    assert_ne!(status.code(), Some(0), "{}", demo.output());
    judge(folder.path());
}

#[tokio::test]
async fn ctrl_c_leaves_no_process_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let arguments = ["--recordings".to_owned(), folder.path().display().to_string()];
    let mut demo = Process::start("demo", "demo", &arguments);
    let deadline = time::Instant::now() + SOON;
    while !demo.output().contains("Ctrl-C stops everything.") {
        assert!(time::Instant::now() < deadline, "{}", demo.output());
        time::sleep(Duration::from_millis(100)).await;
    }
    let output = demo.output();
    let hub = output.lines().find_map(|line| line.strip_prefix("  hub ")?.split_whitespace().next());
    let hub = hub.expect("the hub's URL is printed");
    let ask_at = async |url: &str, query: &str| -> serde_json::Value {
        let question = serde_json::json!({"db": "Logs", "csl": query});
        let answer = loopback::client().post(format!("{url}/v1/rest/query")).json(&question).send().await;
        answer.expect("any client can ask the printed URL").json().await.expect("an answer is JSON")
    };
    let ask = async |query: &str| ask_at(hub, query).await;
    let answer = ask("federated_Requests() | count").await;
    assert_eq!(answer["Tables"][0]["Rows"][0][0], 420, "{answer}");
    for region in REGIONS {
        let own = output.lines().find_map(|line| line.strip_prefix(&format!("  {:<8} ", region.name)));
        let own = own.and_then(|rest| rest.split_whitespace().next()).expect("the partition's URL is printed");
        let answer = ask_at(own, "Requests | summarize count() by Region").await;
        let rows = &answer["Tables"][0]["Rows"];
        assert_eq!(*rows, serde_json::json!([[region.name, region.requests]]), "{own}: {answer}");
    }
    let children = children(&demo).await;
    assert_eq!(children.len(), 5, "four servers and the operator");
    // What it says of a partition that is gone is so.
    let partition = servers(&demo).await.pop().expect("it has servers");
    signal::kill(Pid::from_raw(partition), Signal::SIGKILL).expect("it runs");
    let queries: Vec<_> =
        output.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.contains("by Region")).collect();
    let [function, best_effort, whole] = queries[queries.len() - 3..] else { panic!("three queries in\n{output}") };
    for query in [function, best_effort] {
        let answer = ask(query).await;
        assert_eq!(answer["Tables"][0]["Rows"].as_array().map(Vec::len), Some(2), "{query}: {answer}");
    }
    let answer = ask(whole).await;
    assert_eq!(answer["error"]["code"], "General_RemoteClusterFailed", "{answer}");
    assert!(output.contains(" agent-partition)"), "only the partitions' agents are to be paused: {output}");
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.exited_within(SOON).await.code(), Some(0));
    for child in children {
        assert!(is_gone(&child).await, "process {child} outlived the demo");
    }
    judge(folder.path());
}

#[tokio::test]
async fn a_killed_demo_leaves_no_process_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let arguments = ["--recordings".to_owned(), folder.path().display().to_string()];
    let mut demo = Process::start("demo", "demo", &arguments);
    let started = time::Instant::now();
    let children = loop {
        let children = children(&demo).await;
        if children.len() == 5 {
            break children;
        }
        assert!(started.elapsed() < SOON, "{}", demo.output());
        time::sleep(Duration::from_millis(20)).await;
    };
    demo.kill().await;
    let killed = time::Instant::now();
    for child in children {
        while !is_gone(&child).await {
            assert!(killed.elapsed() < SOON, "process {child} outlived the demo");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    judge(folder.path());
}

/// The processes that it started.
async fn children(demo: &Process) -> Vec<String> {
    let pid = demo.pid().expect("it runs").to_string();
    let listing = Command::new("ps").args(["-o", "pid=", "--ppid", &pid]).output().await.expect("ps runs");
    String::from_utf8_lossy(&listing.stdout).split_whitespace().map(str::to_owned).collect()
}

async fn is_gone(pid: &str) -> bool {
    let listing = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().await.expect("ps runs");
    let state = String::from_utf8_lossy(&listing.stdout).trim().to_owned();
    state.is_empty() || state.starts_with('Z')
}

#[tokio::test]
async fn make_demo_ends_after_the_queries_only_where_that_is_asked_for() {
    let folder = docs::root();
    for (variable, is_once) in [(None, false), (Some("ONCE="), false), (Some("ONCE=0"), false), (Some("ONCE=1"), true)]
    {
        let arguments = ["-n", "demo"].into_iter().chain(variable);
        let printed = Command::new("make")
            .arg("-C")
            .arg(&folder)
            .args(arguments)
            .env_remove("MAKEFLAGS")
            .env_remove("ONCE")
            .output()
            .await;
        let printed = printed.expect("make runs");
        let text = String::from_utf8_lossy(&printed.stdout);
        assert!(printed.status.success() && text.contains("/debug/demo"), "{text}");
        assert_eq!(text.contains("--once"), is_once, "{variable:?}: {text}");
    }
}

#[tokio::test]
async fn whatever_make_fetches_or_builds_lives_in_one_folder() {
    let folder = docs::root();
    let inherited = [
        "CARGO_TARGET_DIR",
        "PIP_CACHE_DIR",
        "npm_config_cache",
        "GOMODCACHE",
        "GOCACHE",
        "ADX_FEDERATION_CONTROL_PLANE",
    ];
    let mut make = Command::new("make");
    make.args(["-pn", "help", "-C"]).arg(folder).env_remove("MAKEFLAGS").env("ADX_FEDERATION_CACHE", "/x");
    // What `make stories` has set for this program must not be what is looked at.
    for variable in inherited {
        make.env(variable, "/elsewhere");
    }
    let printed = make.output().await.expect("make runs");
    let database = String::from_utf8_lossy(&printed.stdout);
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    for variable in inherited.into_iter().chain(["VENV", "CARGO_DENY"]) {
        let value = database.lines().find_map(|line| {
            let (name, value) = line.split_once(" := ")?;
            (name == variable).then_some(value)
        });
        let value = value.unwrap_or_else(|| panic!("make knows no {variable}"));
        assert!(value.starts_with("/x/"), "{variable} = {value}");
    }
}
