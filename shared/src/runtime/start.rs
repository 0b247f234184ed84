//! From `main` to an agent's `run`: arguments, logs, the document, the admin port, signals. I/O: all of these.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    admin::{Admin, AdminServer},
    args::CommonArgs,
    cycle::{Cycle, Leadership},
    logs::{self, chain},
    metrics::Metrics,
    outcome::Exit,
    stop::stop_on_signals,
};
use crate::{
    document::{ADXCluster, Document, Schedule, Violations, load_document},
    kubernetes::{self, Lease, StatusWriter},
    kusto::{ClientOptions, HostTrust},
};

/// What an agent's `run` needs besides its configuration.
#[derive(Debug, Clone)]
pub struct World {
    /// The agent's name, for the clusters' own logs.
    pub agent: &'static str,
    /// Where passes are counted.
    pub metrics: Metrics,
    /// Readiness and status.
    pub admin: Admin,
    /// Cancelled when the process is to stop.
    pub stop: CancellationToken,
    /// Whether one pass is all.
    pub once: bool,
    /// The cloud whose hosts are trusted.
    pub trust: HostTrust,
    /// In Kubernetes: whether this replica leads.
    pub leadership: Option<Leadership>,
    /// In Kubernetes: where the agent tells what it sees.
    pub status: Option<StatusWriter>,
}

impl World {
    /// A world without a process around it, as tests use it.
    pub fn new(agent: &'static str) -> Self {
        let metrics = Metrics::new();
        let admin = Admin::new(metrics.clone());
        let (stop, trust) = (CancellationToken::new(), HostTrust::default());
        Self { agent, metrics, admin, stop, once: false, trust, leadership: None, status: None }
    }

    /// A cycle by this schedule that ends with this world.
    pub fn cycle(&self, schedule: Schedule) -> Cycle {
        self.metrics.passes();
        Cycle::new(schedule, self.once, self.stop.clone(), self.metrics.clone()).led_by(self.leadership.clone())
    }

    /// The options of this agent's Kusto clients.
    pub fn client_options(&self) -> ClientOptions {
        ClientOptions {
            trust: self.trust.clone(),
            application: format!("adx-federation/{}", self.agent),
            metrics: Some(self.metrics.clone()),
            ..ClientOptions::default()
        }
    }
}

/// The whole `main` of an agent: reads arguments and document, validates, opens the admin port, runs, and stops gracefully.
///
/// ```ignore
/// fn main() -> ExitCode {
///     runtime::main("agent-hub", hub_config, |args: Args, config, world| agent_hub::run(config, world))
/// }
/// ```
pub fn main<A, C, F>(
    agent: &'static str,
    validate: fn(&ADXCluster) -> Result<C, Violations>,
    run: impl FnOnce(A, C, World) -> F,
) -> ExitCode
where
    A: Parser + AsRef<CommonArgs>,
    F: Future<Output = Exit>,
{
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come as errors too, with exit code 0. If nobody reads what is printed, there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::BadConfiguration.code()) } else { ExitCode::SUCCESS };
        }
    };
    let common = args.as_ref().clone();
    logs::init(common.log_format);
    let (document, config) = match configuration(&common, validate) {
        Ok(both) => both,
        Err(exit) => return ExitCode::from(exit.code()),
    };
    // One thread: an agent waits for its hub, and a thread for each of a node's cores costs memory only.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "failed to start the runtime");
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let exit = runtime.block_on(surround(agent, &common, &document, |world| run(args, config, world)));
    runtime.shutdown_timeout(Duration::from_millis(500));
    ExitCode::from(exit.code())
}

/// The document as a configuration; what is wrong with it is logged, each broken rule in its own line.
fn configuration<C>(
    args: &CommonArgs,
    validate: fn(&ADXCluster) -> Result<C, Violations>,
) -> Result<(Document, C), Exit> {
    let path: &Path = &args.config;
    let document = load_document(path).map_err(|error| {
        tracing::error!(error = chain(&error), "the document cannot be used");
        Exit::BadConfiguration
    })?;
    let expected = args.document.as_ref().filter(|expected| !expected.is_empty());
    if let Some(expected) = expected.filter(|expected| **expected != document.fingerprint) {
        // A kubelet may start a pod with what it remembers of a ConfigMap: it mounts the present one soon, and starts us again. Or the document is newer than the pod:
        // the operator, which writes it first, is about to replace the pod.
        tracing::error!(
            document = %path.display(),
            found = document.fingerprint,
            expected,
            "this is not the document that the pod was made for: either will be replaced"
        );
        return Err(Exit::Failed);
    }
    match validate(&document.cluster) {
        Ok(config) => Ok((document, config)),
        Err(Violations(violations)) => {
            for violation in violations {
                tracing::error!(
                    document = %path.display(),
                    path = violation.path,
                    value = violation.value,
                    rule = violation.rule,
                    "the document breaks a rule"
                );
            }
            Err(Exit::BadConfiguration)
        }
    }
}

/// Takes part in the election of the ADXCluster's agent, and tells its status.
async fn in_kubernetes(world: &mut World, document: &Document) -> Result<Election, String> {
    let object = &document.cluster.metadata;
    let name = object.name.clone().unwrap_or_default();
    let Some(namespace) = object.namespace.clone() else {
        return Err("the document has no metadata.namespace".to_owned());
    };
    let client = kubernetes::connect().await.map_err(|error| chain(&error))?;
    let lease = Lease {
        namespace: namespace.clone(),
        name: format!("{name}-agent"),
        identity: kubernetes::identity(),
        goes_with_account: true,
    };
    // The lease is held until the last pass has ended, which is after the stop.
    let end = CancellationToken::new();
    let (standing, task) = kubernetes::lead(lease, end.clone());
    world.leadership = Some(Leadership::new(standing, world.admin.clone()));
    world.status = Some(StatusWriter::new(client, &namespace, &name, document.fingerprint.clone()));
    Ok(Election { end, task })
}

/// Our part in the election of a leader.
struct Election {
    end: CancellationToken,
    task: JoinHandle<()>,
}

async fn surround<F: Future<Output = Exit>>(
    agent: &'static str,
    args: &CommonArgs,
    document: &Document,
    run: impl FnOnce(World) -> F,
) -> Exit {
    let stop = match stop_on_signals() {
        Ok(stop) => stop,
        Err(error) => {
            tracing::error!(%error, "failed to listen to signals");
            return Exit::Failed;
        }
    };
    let mut world = World { stop, once: args.once, trust: args.trust(), ..World::new(agent) };
    let mut election = None;
    if args.kubernetes {
        match in_kubernetes(&mut world, document).await {
            Ok(task) => election = Some(task),
            Err(why) => {
                tracing::error!(error = why, "--kubernetes needs a cluster");
                return Exit::Failed;
            }
        }
    }
    let server = match args.admin {
        None => None,
        Some(address) => match AdminServer::start(address, world.admin.clone()) {
            Ok(server) => {
                // For a supervisor that asked for any free port, and for people: the one line on standard output.
                println!("admin http://{}", server.address());
                Some(server)
            }
            Err(error) => {
                tracing::error!(%address, %error, "failed to open the admin port");
                return Exit::Failed;
            }
        },
    };
    tracing::info!(agent, version = env!("CARGO_PKG_VERSION"), "started");
    let exit = run(world).await;
    if let Some(Election { end, task }) = election {
        end.cancel();
        // It releases the lease, within its own time.
        let _ = task.await;
    }
    if let Some(server) = server {
        server.stop().await;
    }
    tracing::info!(agent, code = exit.code(), "ended");
    exit
}
