//! What a test program has started ends with it, however that ends: a control plane, operators, and the agents of the kubelet. Seen in the kernel's list of processes.

use std::{
    env, fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tests::cluster::{ControlPlane, PATIENCE, TestNamespace, UNREACHABLE_HUB, UNREACHABLE_PARTITION};
use tokio::time;

use crate::{DEFINITIONS, IN_A_PROCESS_OF_ITS_OWN, alone, running};

/// The story of a test program that will be killed, by itself in a process.
const STORY: &str = "ended::an_operator_and_two_agents_run_for_as_long_as_their_test_program";

/// What the environment of one test program, and of all that it starts, is told by.
pub(crate) fn mark() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Names of the processes that have a mark in their environment. Who has ended, and was not waited for, has none any more.
fn marked(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|process| process.path());
    let is_marked = |process: &Path| {
        fs::read(process.join("environ")).is_ok_and(|environ| String::from_utf8_lossy(&environ).contains(mark))
    };
    let marked = processes.filter(|process| is_marked(process));
    marked.map(|process| fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned()).collect()
}

/// Waits until no process has a mark in its environment.
pub(crate) async fn until_nothing_runs(mark: &str) {
    let started = Instant::now();
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "these are left of a test program that has ended: {left:?}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_operator_and_two_agents_run_for_as_long_as_their_test_program() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_none() {
        // The other test runs it, and ends it.
        return;
    }
    let test = TestNamespace::new("killed").await;
    let _operator = test.operator().await;
    // Two agents that differ in their program.
    test.apply(&[UNREACHABLE_HUB, UNREACHABLE_PARTITION].join("---")).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_test_program_leaves_no_operator_and_no_agent() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() || ControlPlane::is_missing() {
        return;
    }
    if !Path::new("/proc/self/environ").exists() {
        println!("skipped: this system does not show processes in /proc");
        return;
    }
    let _alone = DEFINITIONS.lock().await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mark = mark();
    let mut command = alone(STORY, &mark, &running(folder.path()).await);
    // Nobody takes its files away, of which some hold tokens.
    command.env("TMPDIR", folder.path());
    let mut program = tokio::process::Command::from(command);
    let program = program.stdout(Stdio::null()).kill_on_drop(true).spawn();
    let mut program = program.expect("the story can be started");
    let started = Instant::now();
    loop {
        let names = marked(&mark);
        if ["operator", "agent-hub", "agent-partition"].iter().all(|program| names.iter().any(|name| name == program)) {
            break;
        }
        let ended = program.try_wait().expect("a child can be looked at");
        assert!(ended.is_none() && started.elapsed() < PATIENCE, "{ended:?}, and so far {names:?}");
        time::sleep(Duration::from_millis(50)).await;
    }
    // Nothing is dropped there.
    program.kill().await.expect("it runs");
    until_nothing_runs(&mark).await;
}
