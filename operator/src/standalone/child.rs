//! One agent process: started, its output prefixed and passed on, stopped. I/O: a process, its pipes, our stdout and stderr.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    time,
};

/// How long an agent may take to stop before it is killed. Together with the rest of the supervisor's stop it stays below 5 s.
const GRACE: Duration = Duration::from_secs(4);

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
    /// Whether it should serve probes and metrics on a port of its own.
    pub admin: bool,
}

/// A running agent. Its standard input is a pipe whose closing tells it to stop: the kernel closes it too, however this process dies.
pub(super) struct Agent {
    child: Child,
    alive: ChildStdin,
}

impl Agent {
    /// Starts the agent. Its admin server's URL goes into `admin_url` when it has printed it.
    pub(super) fn start(command: &AgentCommand, admin_url: watch::Sender<Option<String>>) -> std::io::Result<Self> {
        let mut process = Command::new(&command.program);
        process.arg("--config").arg(&command.document);
        if command.admin {
            process.args(["--admin", "127.0.0.1:0"]);
        }
        let mut child = process
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
        tokio::spawn(pass_on(name.clone(), stderr, tokio::io::stderr(), |_| {}));
        tokio::spawn(pass_on(name, stdout, tokio::io::stdout(), move |line| {
            if let Some(url) = line.strip_prefix(ADMIN_LINE) {
                admin_url.send_replace(Some(url.to_owned()));
            }
        }));
        Ok(Self { child, alive })
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Tells it to stop, and kills it if it does not.
    pub(super) async fn stop(self) {
        let Self { mut child, alive } = self;
        drop(alive);
        if time::timeout(GRACE, child.wait()).await.is_err() {
            tracing::warn!("an agent did not stop in time and is killed");
            // An error means that it is gone already.
            let _ = child.kill().await;
        }
    }
}

/// Copies lines, each behind its agent's name, so that the output of several stays readable.
async fn pass_on(
    name: String,
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut seen: impl FnMut(&str),
) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        seen(&line);
        // One write for the whole line: other agents write to the same stream. Where nobody reads, the line is lost and the agent goes on.
        let _ = to.write_all(format!("[{name}] {line}\n").as_bytes()).await;
        let _ = to.flush().await;
    }
}
