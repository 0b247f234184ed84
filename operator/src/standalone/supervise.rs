//! The supervisor: documents in, one agent for each, restarted when it ends, unless it says that its document can never work. I/O: files, processes.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{Arc, Mutex},
    time::Instant,
};

use serde::Serialize;
use shared::{
    document::{self, ADXCluster, DocumentError, Validated, Violations},
    runtime::Exit,
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, time};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::Backoff,
    child::{Agent, AgentCommand},
};

/// Why supervision did not begin. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// A file is not what it should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A document breaks rules.
    #[error("the document '{name}' in {} is wrong", .file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// `metadata.name`
        name: String,
        /// The rules.
        source: Violations,
    },
    /// Two documents have one name.
    #[error("two documents are named '{name}': every agent needs a name of its own (metadata.name)")]
    Double {
        /// `metadata.name`
        name: String,
    },
    /// An agent's program is missing.
    #[error("the program {} is missing: it must be in the folder of the operator", .0.display())]
    NoProgram(PathBuf),
    /// The documents for the agents cannot be written.
    #[error("failed to write the agents' documents")]
    Write(#[source] io::Error),
}

/// Agents to be supervised.
#[derive(Debug)]
pub struct Standalone {
    agents: Vec<AgentCommand>,
    state: Arc<Mutex<BTreeMap<String, AgentStatus>>>,
    /// Holds the agents' documents for as long as they run.
    _documents: TempDir,
}

/// One agent, as `/status` shows it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// `agent-partition` or `agent-hub`.
    pub program: String,
    /// Whether it runs now.
    pub running: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// How it ended last.
    pub last_exit: Option<String>,
    /// Its own probes, metrics and status.
    pub admin: Option<String>,
}

impl Standalone {
    /// Reads and checks all documents, and finds the programs. Every agent gets exactly the document that it was given, and `arguments` after it.
    ///
    /// # Errors
    /// [`StandaloneError`]
    pub fn prepare(files: &[PathBuf], arguments: &[String]) -> Result<Self, StandaloneError> {
        let documents = tempfile::Builder::new().prefix("adx-federation-").tempdir().map_err(StandaloneError::Write)?;
        let mut agents = Vec::new();
        for file in files {
            for cluster in document::load_documents(file)? {
                let agent = agent_command(&cluster, file, documents.path(), arguments)?;
                if agents.iter().any(|other: &AgentCommand| other.name == agent.name) {
                    return Err(StandaloneError::Double { name: agent.name });
                }
                agents.push(agent);
            }
        }
        let not_started = |agent: &AgentCommand| (agent.name.clone(), AgentStatus::default());
        let state = Arc::new(Mutex::new(agents.iter().map(not_started).collect()));
        Ok(Self { agents, state, _documents: documents })
    }

    /// What `/status` shows: every agent by its document's name.
    pub fn status(&self) -> BTreeMap<String, AgentStatus> {
        self.state.lock().expect("no holder of this lock panics").clone()
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut AgentStatus)) {
        change(self.state.lock().expect("no holder of this lock panics").entry(name.to_owned()).or_default());
    }
}

fn agent_command(
    cluster: &ADXCluster,
    file: &Path,
    folder: &Path,
    arguments: &[String],
) -> Result<AgentCommand, StandaloneError> {
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let invalid = |source| StandaloneError::Invalid { file: file.to_owned(), name: name.clone(), source };
    // Validated as the agent itself will: an error shows here, before anything runs.
    let program = match document::validate(cluster).map_err(invalid)? {
        Validated::Partition(_) => document::partition_config(cluster).map(|_| "agent-partition").map_err(invalid)?,
        Validated::Hub(_) => "agent-hub",
    };
    let here = env::current_exe().map_err(StandaloneError::Write)?;
    let program = here.with_file_name(program);
    if !program.is_file() {
        return Err(StandaloneError::NoProgram(program));
    }
    let path = folder.join(format!("{name}.yaml"));
    // JSON is YAML; one serializer serves.
    let text = serde_json::to_string_pretty(cluster).map_err(|error| StandaloneError::Write(error.into()))?;
    fs::write(&path, text).map_err(StandaloneError::Write)?;
    Ok(AgentCommand { name, program, document: path, arguments: arguments.to_vec() })
}

/// Runs all agents until `stop`, or until none is left that could run.
pub async fn run(standalone: Arc<Standalone>, stop: CancellationToken) -> Exit {
    let mut agents = JoinSet::new();
    for command in standalone.agents.clone() {
        agents.spawn(keep_running(Arc::clone(&standalone), command, stop.clone()));
    }
    let ends = agents.join_all().await;
    if ends.contains(&End::Stopped) {
        return Exit::Done;
    }
    tracing::error!("no agent is left: none of the documents can work");
    Exit::BadConfiguration
}

/// How supervision of one agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// We were asked to stop.
    Stopped,
    /// The agent says that its document can never work.
    Hopeless,
}

async fn keep_running(standalone: Arc<Standalone>, command: AgentCommand, stop: CancellationToken) -> End {
    let program = command.program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    standalone.update(&command.name, |status| status.program = program);
    let mut backoff = Backoff::new();
    loop {
        let started = Instant::now();
        let exit = match run_once(&standalone, &command, &stop).await {
            Some(exit) => exit,
            None => return End::Stopped,
        };
        standalone.update(&command.name, |status| {
            status.running = false;
            status.admin = None;
            status.last_exit = Some(exit.words.clone());
        });
        if exit.is_hopeless {
            tracing::error!(
                document = command.name,
                exit = exit.words,
                "agent ended and is not started again: its document can never work, for the reason it gave above"
            );
            return End::Hopeless;
        }
        let wait = backoff.after(started.elapsed());
        tracing::warn!(agent = command.name, exit = exit.words, ?wait, "agent ended and is started again");
        tokio::select! {
            () = time::sleep(wait) => standalone.update(&command.name, |status| status.restarts += 1),
            () = stop.cancelled() => return End::Stopped,
        }
    }
}

/// How an agent ended by itself.
struct AgentExit {
    words: String,
    /// Whether the same start would end in the same way.
    is_hopeless: bool,
}

impl From<io::Result<ExitStatus>> for AgentExit {
    fn from(status: io::Result<ExitStatus>) -> Self {
        match status {
            Ok(status) => Self {
                words: status.to_string(),
                is_hopeless: status.code() == Some(Exit::BadConfiguration.code().into()),
            },
            Err(error) => Self { words: error.to_string(), is_hopeless: false },
        }
    }
}

/// How the agent ended; `None` if we stopped it.
async fn run_once(standalone: &Standalone, command: &AgentCommand, stop: &CancellationToken) -> Option<AgentExit> {
    let (admin_url, mut admin_urls) = watch::channel(None);
    let mut agent = match Agent::start(command, admin_url) {
        Ok(agent) => agent,
        Err(error) => {
            return Some(AgentExit { words: format!("it could not be started: {error}"), is_hopeless: false });
        }
    };
    tracing::info!(agent = command.name, program = %command.program.display(), "agent started");
    standalone.update(&command.name, |status| status.running = true);
    loop {
        tokio::select! {
            ended = agent.ended() => {
                agent.last_lines().await;
                return Some(ended.into());
            }
            () = stop.cancelled() => {
                agent.stop().await;
                return None;
            }
            Ok(()) = admin_urls.changed() => {
                let url = admin_urls.borrow_and_update().clone();
                standalone.update(&command.name, |status| status.admin = url);
            }
        }
    }
}
