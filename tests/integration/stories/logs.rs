//! `--log-format`, which all programs have: lines for people unless it says `json`. Nobody answers here: what is logged is that.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;
use tests::{
    cluster::{UNREACHABLE_HUB, UNREACHABLE_PARTITION},
    logs::{assert_json, assert_plain},
    process::Process,
};
use tokio::time;

use crate::support::{SOON, until_printed};

/// Arguments, and what the log must be then.
type Format = (&'static [&'static str], fn(&str));

const FORMATS: [Format; 3] =
    [(&[], assert_plain), (&["--log-format=plain"], assert_plain), (&["--log-format=json"], assert_json)];

/// The documents as files, by the agent's program.
fn documents(folder: &Path) -> [(&'static str, PathBuf); 2] {
    [("agent-hub", UNREACHABLE_HUB), ("agent-partition", UNREACHABLE_PARTITION)].map(|(program, text)| {
        let path = folder.join(format!("{program}.yaml"));
        fs::write(&path, text).expect("the temporary folder can be written");
        (program, path)
    })
}

fn texts(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

#[tokio::test]
async fn agents_log_in_the_format_that_they_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut runs = Vec::new();
    for (format, assert_format) in FORMATS {
        for (program, document) in documents(folder.path()) {
            runs.push(async move {
                let own = texts(&["--once", "--config", &document.display().to_string()]);
                let mut agent = Process::start(program, program, &[own, texts(format)].concat());
                let code = agent.exited_within(SOON).await.code();
                let output = agent.output();
                assert_eq!(code, Some(1), "{output}");
                assert!(output.contains("started") && output.contains("pass ended"), "{output}");
                assert_format(&output);
            });
        }
    }
    join_all(runs).await;
}

/// The agents' lines are behind their names, whatever the format.
#[tokio::test]
async fn a_supervisor_logs_in_the_format_of_its_agents() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let runs = FORMATS.map(|(format, assert_format)| {
        let [hub, partition] = documents(folder.path()).map(|(_, path)| path.display().to_string());
        async move {
            let own = texts(&["standalone", "--file", &hub, &partition]);
            let mut operator = Process::start("operator standalone", "operator", &[own, texts(format)].concat());
            let started = time::Instant::now();
            let of_agent = |name: &str, output: &str| {
                let (plain, json) = (format!("[{name}] "), format!("{{\"process\":\"{name}\","));
                let of_it = |line: &str| line.starts_with(&plain) || line.starts_with(&json);
                let lines = output.lines().filter(|line| of_it(line));
                let lines = lines.map(|line| line.strip_prefix(plain.as_str()).unwrap_or(line));
                lines.map(|line| format!("{line}\n")).collect::<String>()
            };
            while ["hub", "part"].iter().any(|name| !of_agent(name, &operator.output()).contains("pass ended")) {
                assert!(started.elapsed() < SOON, "{}", operator.output());
                time::sleep(Duration::from_millis(50)).await;
            }
            operator.signal(Signal::SIGTERM);
            assert_eq!(operator.exited_within(SOON).await.code(), Some(0), "{}", operator.output());
            let output = operator.output();
            for name in ["hub", "part"] {
                assert_format(&of_agent(name, &output));
            }
            let own: Vec<&str> =
                output.lines().filter(|line| !line.starts_with('[') && !line.starts_with("{\"process\":")).collect();
            assert!(own.iter().any(|line| line.contains("agent started")), "{output}");
            assert_format(&own.join("\n"));
        }
    });
    join_all(runs).await;
}

#[tokio::test]
async fn an_operator_in_a_cluster_logs_in_the_format_that_it_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("kubeconfig.yaml");
    let named = |kind: &str, content: serde_json::Value| json!([{"name": "nobody", kind: content}]);
    let kubeconfig = json!({
        "clusters": named("cluster", json!({"server": "http://127.0.0.1:9"})),
        "users": named("user", json!({})),
        "contexts": named("context", json!({"cluster": "nobody", "user": "nobody"})),
        "current-context": "nobody",
    });
    fs::write(&path, kubeconfig.to_string()).expect("the temporary folder can be written");
    let runs = FORMATS.map(|(format, assert_format)| {
        let environment = [("KUBECONFIG", path.display().to_string())];
        async move {
            let own = texts(&["run", "--admin=127.0.0.1:0", "--azure-credential=none"]);
            let mut operator =
                Process::start_with_environment("operator", &[own, texts(format)].concat(), &environment);
            until_printed(&operator, "waiting for the custom resource definitions").await;
            operator.signal(Signal::SIGTERM);
            assert_eq!(operator.exited_within(SOON).await.code(), Some(0), "{}", operator.output());
            assert_format(&operator.output());
        }
    });
    join_all(runs).await;
}
