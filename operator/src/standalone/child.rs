//! One agent process: started, its output prefixed and passed on, stopped. I/O: a process, its pipes, our stdout and stderr.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinHandle,
    time,
};

/// How long an agent may take to stop before it is killed. Together with the rest of the supervisor's stop it stays below 5 s.
const GRACE: Duration = Duration::from_secs(4);

/// How long the last lines of a stopped agent are waited for.
const LAST_LINES: Duration = Duration::from_millis(300);

/// What an agent prints on stdout once its admin server listens.
const ADMIN_LINE: &str = "admin ";

/// What to start.
#[derive(Debug, Clone)]
pub(super) struct AgentCommand {
    /// Prefix of its output.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its document.
    pub document: PathBuf,
    /// What every agent gets after its document: `--log-format`, `--cloud`, `--admin`.
    pub arguments: Vec<String>,
}

/// A running agent. Its standard input is a pipe whose closing tells it to stop: the kernel closes it too, however this process dies.
pub(super) struct Agent {
    name: String,
    child: Child,
    alive: ChildStdin,
    output: [JoinHandle<()>; 2],
}

impl Agent {
    /// Starts the agent. Its admin server's URL goes into `admin_url` when it has printed it.
    pub(super) fn start(command: &AgentCommand, admin_url: watch::Sender<Option<String>>) -> std::io::Result<Self> {
        let mut child = Command::new(&command.program)
            .arg("--config")
            .arg(&command.document)
            .args(&command.arguments)
            .env(shared::runtime::PARENT_PIPE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let alive = child.stdin.take().expect("stdin was asked to be a pipe");
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let stderr = child.stderr.take().expect("stderr was asked to be a pipe");
        let name = command.name.clone();
        let output = [
            tokio::spawn(pass_on(name.clone(), stderr, tokio::io::stderr(), |_| {})),
            tokio::spawn(pass_on(name.clone(), stdout, tokio::io::stdout(), move |line| {
                if let Some(url) = line.strip_prefix(ADMIN_LINE) {
                    admin_url.send_replace(Some(url.to_owned()));
                }
            })),
        ];
        Ok(Self { name, child, alive, output })
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits for the last lines of one that has ended: they say why.
    pub(super) async fn last_lines(self) {
        let _ = time::timeout(LAST_LINES, join_all(self.output)).await;
    }

    /// Tells it to stop, and kills it if it does not.
    pub(super) async fn stop(self) {
        let Self { name, mut child, alive, output } = self;
        drop(alive);
        if time::timeout(GRACE, child.wait()).await.is_err() {
            tracing::warn!(agent = name, "an agent did not stop in time and is killed");
            // An error means that it is gone already.
            let _ = child.kill().await;
        }
        // Its last lines.
        let _ = time::timeout(LAST_LINES, join_all(output)).await;
    }
}

/// A line with its agent's name: in front of it, or as the first member of what is JSON, which it stays.
fn named(name: &str, line: &str) -> String {
    match line.strip_prefix("{\"") {
        Some(rest) => format!("{{\"process\":{},\"{rest}\n", serde_json::Value::from(name)),
        None => format!("[{name}] {line}\n"),
    }
}

/// Copies lines, each with its agent's name, so that the output of several stays readable.
async fn pass_on(
    name: String,
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut seen: impl FnMut(&str),
) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        seen(text);
        // One write for the whole line: other agents write to the same stream. Where nobody reads, the line is lost and the agent goes on.
        let _ = to.write_all(named(&name, text).as_bytes()).await;
        let _ = to.flush().await;
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_agents_name_and_stays_json_if_it_is() {
        assert_eq!(named("hub", "2026-11-28 INFO a pass"), "[hub] 2026-11-28 INFO a pass\n");
        assert_eq!(named("hub", r#"{"level":"INFO"}"#), "{\"process\":\"hub\",\"level\":\"INFO\"}\n");
        assert_eq!(named("hub", "{}"), "[hub] {}\n");
    }
}
