//! `operator`: see the library.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use operator::standalone::{self, Standalone};
use shared::kusto::Cloud;
use shared::runtime::{self, Admin, AdminServer, Exit, LogFormat, Metrics, chain, stop_on_signals};
use tokio::time;

/// Owns the lifecycle of federation agents
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Supervise one agent for each ADXCluster document, without Kubernetes
    Standalone(StandaloneArgs),
    /// Print the custom resource definitions
    Crds,
}

#[derive(Debug, clap::Args)]
struct StandaloneArgs {
    /// ADXCluster documents (YAML), one or more in a file
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    file: Vec<PathBuf>,

    /// Serve /livez, /readyz, /metrics and /status on this address; /status lists the agents with the addresses of theirs
    #[arg(long, value_name = "ADDRESS", env = "ADX_FEDERATION_ADMIN")]
    admin: Option<SocketAddr>,

    /// How log lines are written to standard error; RUST_LOG chooses which
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, env = "ADX_FEDERATION_LOG_FORMAT")]
    log_format: LogFormat,

    /// The Azure cloud of the clusters: which hosts are trusted with a token
    #[arg(long, value_enum, value_name = "CLOUD", default_value_t, env = "ADX_FEDERATION_CLOUD")]
    cloud: Cloud,
}

impl StandaloneArgs {
    /// What every agent gets of them.
    fn for_agents(&self) -> Vec<String> {
        let mut arguments = vec!["--log-format".to_owned(), name_of(&self.log_format)];
        arguments.extend(["--cloud".to_owned(), name_of(&self.cloud)]);
        if self.admin.is_some() {
            arguments.extend(["--admin", "127.0.0.1:0"].map(str::to_owned));
        }
        arguments
    }
}

/// A value as the command line takes it.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[tokio::main]
async fn main() -> ExitCode {
    match Args::parse().command {
        Command::Standalone(args) => {
            runtime::init_logs(args.log_format);
            ExitCode::from(supervise(args).await.code())
        }
        Command::Crds => match operator::crds::yaml() {
            Ok(yaml) => {
                print!("{yaml}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                runtime::init_logs(LogFormat::Plain);
                tracing::error!(error = chain(&error), "failed to write the definitions");
                ExitCode::FAILURE
            }
        },
    }
}

async fn supervise(args: StandaloneArgs) -> Exit {
    let standalone = match Standalone::prepare(&args.file, &args.for_agents()) {
        Ok(standalone) => Arc::new(standalone),
        Err(error) => {
            tracing::error!(error = chain(&error), "no agent was started");
            return Exit::BadConfiguration;
        }
    };
    let stop = match stop_on_signals() {
        Ok(stop) => stop,
        Err(error) => {
            tracing::error!(%error, "failed to listen to signals");
            return Exit::Failed;
        }
    };
    let published = Admin::new(Metrics::new());
    if let Some(address) = args.admin {
        match AdminServer::start(address, published.clone()).await {
            Ok(server) => println!("admin http://{}", server.address()),
            Err(error) => {
                tracing::error!(%address, %error, "failed to open the admin port");
                return Exit::Failed;
            }
        }
    }
    let watching = tokio::spawn(publish_status(Arc::clone(&standalone), published));
    standalone::run(standalone, stop).await;
    watching.abort();
    Exit::Done
}

/// Keeps readiness and status up to date: ready while all agents run.
async fn publish_status(standalone: Arc<Standalone>, admin: Admin) {
    loop {
        let status = standalone.status();
        let stopped: Vec<&str> =
            status.iter().filter(|(_, agent)| !agent.running).map(|(name, _)| name.as_str()).collect();
        let reason = if stopped.is_empty() {
            "all agents run".to_owned()
        } else {
            format!("not running: {}", stopped.join(", "))
        };
        admin.set_ready(stopped.is_empty(), reason);
        admin.set_status(&status);
        time::sleep(Duration::from_millis(500)).await;
    }
}
