//! Our real binaries as child processes, with their output kept. I/O: processes, pipes, signals.

use std::{
    env,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use shared::runtime::PARENT_PIPE;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time,
};

use crate::{loopback, witness};

/// How long a process may take to stop before it is killed: as long as a pod has, where nobody says otherwise.
const GRACE: Duration = Duration::from_secs(30);

/// The folder of a certificate authority that has signed nothing, in the place of all that a machine trusts: stories name their own by `SSL_CERT_FILE`, and to read those
/// hundreds is much of what an agent computes that makes one pass.
const NOBODY: &str = "src/process";

/// How long the last lines of a process that has ended are waited for.
const LAST_LINES: Duration = Duration::from_secs(10);

/// How long a process that is to stop may take to tell of itself.
const ANSWER: Duration = Duration::from_secs(1);

/// The variable that names a folder of programs to start in the place of those that cargo built with this one: `make bench` is about programs as they are released, and what
/// takes their figures need not be.
const PROGRAMS: &str = "ADX_FEDERATION_PROGRAMS";

/// Whether programs are started as they are released, and not as they were built with this one.
pub fn starts_released_programs() -> bool {
    env::var_os(PROGRAMS).is_some()
}

/// Where [`PROGRAMS`] has one of the workspace's binaries, or else cargo put it: beside or above this program, which cargo built too.
///
/// # Panics
/// If the binary has not been built.
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = env::var_os(PROGRAMS) {
        let binary = PathBuf::from(folder).join(name);
        assert!(binary.is_file(), "{PROGRAMS} has no {name}: there is no {}", binary.display());
        return binary;
    }
    let here = env::current_exe().expect("a running program has a path");
    let folder = here.ancestors().skip(1).find(|folder| folder.join(name).is_file());
    let folder = folder.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace --bins` first"));
    folder.join(name)
}

/// A running program; killed when dropped. It stops by itself when this process is gone without having dropped anything.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// The pipe that tells it whether we live.
    _stdin: ChildStdin,
    output: Arc<Mutex<String>>,
    collectors: Vec<JoinHandle<()>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        witness::keep(&self.output());
    }
}

impl Process {
    /// Starts one of our binaries. Both its streams are collected.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, binary_name: &str, arguments: &[String]) -> Self {
        let (mut process, stdout) = Self::start_with_stdout(name, binary_name, arguments);
        process.collect(stdout);
        process
    }

    /// The same with variables in its environment.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_with_environment(binary_name: &str, arguments: &[String], environment: &[(&str, String)]) -> Self {
        let (mut process, stdout) = Self::spawn(binary_name, binary_name, arguments, environment);
        process.collect(stdout);
        process
    }

    /// The same as [`start`](Self::start), but hands out its standard output.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_with_stdout(name: &str, binary_name: &str, arguments: &[String]) -> (Self, ChildStdout) {
        Self::spawn(name, binary_name, arguments, &[])
    }

    /// Starts a command that is a binary of ours in surroundings of its own, such as another root. Both its streams are collected.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_command(name: &str, command: Command) -> Self {
        let (mut process, stdout) = Self::spawn_command(name, command);
        process.collect(stdout);
        process
    }

    fn spawn(
        name: &str,
        binary_name: &str,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> (Self, ChildStdout) {
        let is_recorded = arguments.iter().any(|argument| argument == "--record");
        assert!(
            binary_name != "kusto-local" || is_recorded,
            "Microsoft's parser is to read what {name} is sent: --record"
        );
        let mut command = Command::new(binary(binary_name));
        // Figures are taken, and the demo is shown, with what a machine has.
        if !starts_released_programs()
            && let Some(tests) = env::var_os("CARGO_MANIFEST_DIR")
        {
            command.env("SSL_CERT_DIR", PathBuf::from(tests).join(NOBODY));
        }
        command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value)));
        Self::spawn_command(name, command)
    }

    fn spawn_command(name: &str, mut command: Command) -> (Self, ChildStdout) {
        let mut child = command
            .env(PARENT_PIPE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start {name}: {error}"));
        // Not left in the child: waiting for it would close the pipe.
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut process =
            Self { name: name.to_owned(), child, _stdin: stdin, output: Arc::default(), collectors: Vec::new() };
        process.collect(stderr);
        (process, stdout)
    }

    /// Adds a stream's lines to the output.
    pub fn collect(&mut self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let output = Arc::clone(&self.output);
        self.collectors.push(tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut output = output.lock().expect("no holder of this lock panics");
                output.push_str(&line);
                output.push('\n');
            }
        }));
    }

    /// All it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("no holder of this lock panics").clone()
    }

    /// The lines that it has printed after so many bytes of them.
    ///
    /// # Panics
    /// If it has not printed so many.
    pub fn output_after(&self, bytes: usize) -> String {
        self.output.lock().expect("no holder of this lock panics")[bytes..].to_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal; a process that is gone already is no error.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = signal::kill(Pid::from_raw(pid), signal);
        }
    }

    /// How it has ended, if it has.
    ///
    /// # Panics
    /// Never: a child of ours can be waited for.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// Waits for its end, and for the last of its output.
    ///
    /// # Panics
    /// If it still runs after `limit`.
    pub async fn exited_within(&mut self, limit: Duration) -> ExitStatus {
        match time::timeout(limit, self.child.wait()).await {
            Ok(status) => {
                self.read_to_the_end().await;
                status.expect("a child of ours can be waited for")
            }
            Err(_) => panic!("{} still runs after {limit:?}; its output:\n{}", self.name, self.output()),
        }
    }

    /// The last of the output of a process that has ended. A grandchild may hold the streams for longer.
    async fn read_to_the_end(&mut self) {
        let _ = time::timeout(LAST_LINES, join_all(self.collectors.drain(..))).await;
    }

    /// Keeps what its admin port answers, if it has one: not every story asks.
    async fn keep_what_it_tells(&mut self) {
        let Some(url) = loopback::admin_url(self).filter(|_| self.ended().is_none() && witness::is_kept()) else {
            return;
        };
        for path in ["/status", "/metrics", "/readyz"] {
            // One that stands still does not answer.
            let _ = time::timeout(ANSWER, loopback::get(&format!("{url}{path}"))).await;
        }
    }

    /// Asks it to stop, and kills it if it does not.
    pub async fn stop(&mut self) {
        self.keep_what_it_tells().await;
        self.signal(Signal::SIGTERM);
        if time::timeout(GRACE, self.child.wait()).await.is_err() {
            self.kill().await;
        }
        self.read_to_the_end().await;
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait().await;
        self.read_to_the_end().await;
    }
}
