//! `operator`: see the library.

use std::{
    env,
    io::{self, Write as _},
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};
use operator::{
    azure::{ArmEndpoint, AzureSettings, Place},
    kubernetes::{self, Azure, Environment, Images, Settings},
    standalone::{self, Standalone},
};
use reqwest::Url;
use shared::runtime::{self, Admin, AdminServer, Exit, LogFormat, Metrics, chain, stop_on_signals};
use shared::{
    credential::CredentialConfig,
    kubernetes::Lease,
    kusto::{Cloud, HostTrust, TrustedSuffix},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Owns the lifecycle of federation agents
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reconcile ADXCluster, Ingestor, Collector and Alerter in a Kubernetes cluster
    Run(Box<RunArgs>),
    /// Supervise one agent for each ADXCluster document, without Kubernetes
    Standalone(StandaloneArgs),
    /// Print the custom resource definitions
    Crds,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Watch this namespace only; all without it
    #[arg(long, value_name = "NAMESPACE", value_parser = text(), env = "ADX_FEDERATION_NAMESPACE")]
    namespace: Option<String>,

    /// Labels of this cluster, which criteriaExpression may ask for; Ingestors are told all of them, Collectors `region` and `cluster`, Alerters `region`
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = key_value, env = "ADX_FEDERATION_CLUSTER_LABELS")]
    cluster_labels: Vec<(String, String)>,

    /// The image of Ingestors that name none
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "ghcr.io/azure/adx-mon/ingestor:latest",
        value_parser = text(),
        env = "ADX_FEDERATION_INGESTOR_IMAGE"
    )]
    ingestor_image: String,

    /// The image of Collectors that name none
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "ghcr.io/azure/adx-mon/collector:latest",
        value_parser = text(),
        env = "ADX_FEDERATION_COLLECTOR_IMAGE"
    )]
    collector_image: String,

    /// The image of Alerters that name none
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "ghcr.io/azure/adx-mon/alerter:latest",
        value_parser = text(),
        env = "ADX_FEDERATION_ALERTER_IMAGE"
    )]
    alerter_image: String,

    /// The image of agents; the operator's own without it, read from its pod (POD_NAME, POD_NAMESPACE)
    #[arg(long, value_name = "IMAGE", value_parser = text(), env = "ADX_FEDERATION_AGENT_IMAGE")]
    agent_image: Option<String>,

    /// The namespace of the lease that one of several operators holds; POD_NAMESPACE or the kubeconfig's without it
    #[arg(long, value_name = "NAMESPACE", value_parser = text(), env = "ADX_FEDERATION_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,

    /// The name of that lease
    #[arg(long, value_name = "NAME", default_value = "adx-federation-operator", value_parser = text(), env = "ADX_FEDERATION_LEASE_NAME")]
    lease_name: String,

    /// Accept clusters on loopback addresses: for development, since in a cluster every pod has a loopback of its own
    #[arg(long, env = "ADX_FEDERATION_ALLOW_LOOPBACK")]
    allow_loopback: bool,

    #[command(flatten)]
    azure: AzureArgs,

    #[command(flatten)]
    common: CommonArgs,
}

/// How ADXClusters without an endpoint are made in Azure.
#[derive(Debug, clap::Args)]
#[command(about = None, long_about = None)]
struct AzureArgs {
    /// Who the operator is in Azure; with none it makes no clusters. Without this: workload identity where its webhook set the environment, else the managed identity
    #[arg(long, value_enum, value_name = "CREDENTIAL", env = "ADX_FEDERATION_AZURE_CREDENTIAL")]
    azure_credential: Option<AzureCredential>,

    /// The client id of that identity; the environment's, or the system-assigned identity, without it
    #[arg(long, value_name = "ID", value_parser = text(), env = "ADX_FEDERATION_AZURE_CLIENT_ID")]
    azure_client_id: Option<String>,

    /// The subscription of clusters that name none; the machine's without it
    #[arg(long, value_name = "ID", value_parser = text(), env = "ADX_FEDERATION_AZURE_SUBSCRIPTION")]
    azure_subscription: Option<String>,

    /// The resource group of clusters that name none; adx-mon-<location> without it
    #[arg(long, value_name = "NAME", value_parser = text(), env = "ADX_FEDERATION_AZURE_RESOURCE_GROUP")]
    azure_resource_group: Option<String>,

    /// The region of clusters that name none; the machine's without it
    #[arg(long, value_name = "LOCATION", value_parser = text(), env = "ADX_FEDERATION_AZURE_LOCATION")]
    azure_location: Option<String>,

    /// Azure Resource Manager's address; the cloud's without it
    #[arg(long, value_name = "URL", value_parser = text(), env = "ADX_FEDERATION_AZURE_ENDPOINT")]
    azure_endpoint: Option<String>,

    /// What tokens for that address must be for; the address itself without it
    #[arg(long, value_name = "URL", requires = "azure_endpoint", value_parser = text(), env = "ADX_FEDERATION_AZURE_AUDIENCE")]
    azure_audience: Option<String>,

    /// The instance metadata service, which says where this machine is
    #[arg(long, value_name = "URL", default_value = "http://169.254.169.254", env = "ADX_FEDERATION_IMDS_ENDPOINT")]
    imds_endpoint: Url,

    /// The most requests in a second to Azure Resource Manager, on average
    #[arg(long, value_name = "COUNT", default_value = "5", env = "ADX_FEDERATION_AZURE_REQUESTS_PER_SECOND")]
    azure_requests_per_second: NonZeroU32,

    /// How often clusters at rest are looked at in Azure, and what only a person can mend is tried again
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = interval, env = "ADX_FEDERATION_AZURE_INTERVAL")]
    azure_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
enum AzureCredential {
    ManagedIdentity,
    WorkloadIdentity,
    AzureCli,
    None,
}

impl AzureArgs {
    /// What it takes to make clusters; nothing if none are to be made.
    fn settings(&self, cloud: Cloud, allow_loopback: bool) -> Result<Option<AzureSettings>, String> {
        let is_given = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let default = if is_given("AZURE_FEDERATED_TOKEN_FILE") {
            AzureCredential::WorkloadIdentity
        } else {
            AzureCredential::ManagedIdentity
        };
        let client_id = self.azure_client_id.clone();
        let credential = match self.azure_credential.unwrap_or(default) {
            AzureCredential::ManagedIdentity => CredentialConfig::ManagedIdentity { client_id },
            AzureCredential::WorkloadIdentity => CredentialConfig::WorkloadIdentity { client_id, tenant_id: None },
            AzureCredential::AzureCli => CredentialConfig::AzureCli,
            AzureCredential::None => return Ok(None),
        };
        let endpoint = match &self.azure_endpoint {
            Some(address) => ArmEndpoint::other(address, self.azure_audience.as_deref(), allow_loopback)
                .map_err(|rule| format!("--azure-endpoint = {address}: {rule}"))?,
            None => match ArmEndpoint::of(cloud) {
                Some(endpoint) => endpoint,
                None if self.azure_credential.is_none() => return Ok(None),
                None => {
                    return Err(format!(
                        "--azure-credential: the cloud '{cloud}' has no public address of Azure Resource Manager: name it with --azure-endpoint and --azure-audience"
                    ));
                }
            },
        };
        let place = Place {
            subscription_id: self.azure_subscription.clone(),
            resource_group: self.azure_resource_group.clone(),
            location: self.azure_location.clone(),
        };
        Ok(Some(AzureSettings {
            endpoint,
            credential,
            place,
            imds: self.imds_endpoint.clone(),
            requests_per_second: self.azure_requests_per_second,
            interval: self.azure_interval,
        }))
    }
}

/// A text that says something. An empty one is mostly a variable that was to be set: without a namespace it would be all of them.
fn text() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

fn interval(text: &str) -> Result<Duration, String> {
    let duration = shared::document::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) { Err("must be at least 1s".to_owned()) } else { Ok(duration) }
}

/// What both ways to run have.
#[derive(Debug, clap::Args)]
#[command(about = None, long_about = None)]
struct CommonArgs {
    /// Serve /livez, /readyz, /metrics and /status on this address
    #[arg(long, value_name = "ADDRESS", env = "ADX_FEDERATION_ADMIN")]
    admin: Option<SocketAddr>,

    /// How log lines are written to standard error; RUST_LOG chooses which
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, env = "ADX_FEDERATION_LOG_FORMAT")]
    log_format: LogFormat,

    /// The Azure cloud of the clusters: which hosts are trusted with a token
    #[arg(long, value_enum, value_name = "CLOUD", default_value_t, env = "ADX_FEDERATION_CLOUD")]
    cloud: Cloud,

    /// More suffixes of Kusto hosts that are trusted with a token, such as .kusto.example.com
    #[arg(long, value_name = "SUFFIX", value_delimiter = ',', env = "ADX_FEDERATION_TRUSTED_SUFFIXES")]
    trusted_suffix: Vec<TrustedSuffix>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // A name that a CEL expression can ask for.
    if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(is_name) {
        return Err("the key must be letters, digits and underscores, not beginning with a digit".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Debug, clap::Args)]
struct StandaloneArgs {
    /// ADXCluster documents (YAML), one or more in a file
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    file: Vec<PathBuf>,

    #[command(flatten)]
    common: CommonArgs,
}

impl CommonArgs {
    /// What every agent gets of them.
    fn for_agents(&self) -> Vec<String> {
        let values = [("--log-format", name_of(&self.log_format)), ("--cloud", name_of(&self.cloud))];
        let values = values.map(|(name, value)| format!("{name}={value}"));
        let suffixes = self.trusted_suffix.iter().map(|suffix| format!("--trusted-suffix={suffix}"));
        values.into_iter().chain(suffixes).collect()
    }
}

impl StandaloneArgs {
    /// With an admin port of its own, so has each agent.
    fn for_agents(&self) -> Vec<String> {
        let mut arguments = self.common.for_agents();
        arguments.extend(self.common.admin.map(|_| "--admin=127.0.0.1:0".to_owned()));
        arguments
    }
}

/// A value as the command line takes it.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

// On a node of many cores it would have a thread for each, and it waits nearly always.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run(args) => {
            runtime::init_logs(args.common.log_format);
            ExitCode::from(reconcile(*args).await.code())
        }
        Command::Standalone(args) => {
            runtime::init_logs(args.common.log_format);
            ExitCode::from(supervise(args).await.code())
        }
        Command::Crds => match operator::crds::yaml() {
            // Where nobody reads any more, as behind `| head`, there is nobody to tell.
            Ok(yaml) => match io::stdout().write_all(yaml.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    runtime::init_logs(LogFormat::Plain);
                    tracing::error!(error = chain(&error), "failed to write the definitions");
                    ExitCode::FAILURE
                }
                Ok(()) | Err(_) => ExitCode::SUCCESS,
            },
            Err(error) => {
                runtime::init_logs(LogFormat::Plain);
                tracing::error!(error = chain(&error), "failed to write the definitions");
                ExitCode::FAILURE
            }
        },
    }
}

async fn reconcile(args: RunArgs) -> Exit {
    let Some((admin, metrics, stop)) = surroundings(&args.common).await else { return Exit::Failed };
    let azure = match args.azure.settings(args.common.cloud, args.allow_loopback) {
        Ok(settings) => settings.map(|settings| Azure::new(settings, &metrics)).transpose(),
        Err(error) => {
            tracing::error!(error, "the settings for Azure are wrong");
            return Exit::BadConfiguration;
        }
    };
    let azure = match azure {
        Ok(azure) => azure.map(Arc::new),
        Err(error) => {
            tracing::error!(error = chain(&error), "HTTP to Azure cannot be set up");
            return Exit::Failed;
        }
    };
    let connected = async { Ok((shared::kubernetes::connect().await?, shared::kubernetes::connect_watches().await?)) };
    let (client, watching) = match connected.await {
        Ok(clients) => clients,
        Err::<_, shared::kubernetes::ConnectError>(error) => {
            tracing::error!(error = chain(&error), "there is no cluster to work in");
            return Exit::Failed;
        }
    };
    let settings = Settings {
        namespace: args.namespace,
        cluster_labels: args.cluster_labels.into_iter().collect(),
        trust: HostTrust { cloud: args.common.cloud, suffixes: args.common.trusted_suffix.clone() },
        allow_loopback: args.allow_loopback,
        images: Images {
            ingestor: args.ingestor_image,
            collector: args.collector_image,
            alerter: args.alerter_image,
            agent: args.agent_image,
        },
        agent_arguments: args.common.for_agents(),
    };
    let own_namespace = || env::var("POD_NAMESPACE").ok().filter(|namespace| !namespace.is_empty());
    let lease = Lease {
        namespace: args.lease_namespace.or_else(own_namespace).unwrap_or_else(|| client.default_namespace().to_owned()),
        name: args.lease_name,
        identity: shared::kubernetes::identity(),
        // Its namespace goes with the operator.
        goes_with_account: false,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = settings.namespace, "started");
    kubernetes::run(settings, Environment { client, watching, lease, admin, metrics, azure, stop }).await;
    tracing::info!("ended");
    Exit::Done
}

/// Signals and the admin port; what went wrong is logged.
async fn surroundings(args: &CommonArgs) -> Option<(Admin, Metrics, CancellationToken)> {
    let stop = stop_on_signals().map_err(|error| tracing::error!(%error, "failed to listen to signals")).ok()?;
    let metrics = Metrics::new();
    let admin = Admin::new(metrics.clone());
    if let Some(address) = args.admin {
        match AdminServer::start(address, admin.clone()) {
            Ok(server) => println!("admin http://{}", server.address()),
            Err(error) => {
                tracing::error!(%address, %error, "failed to open the admin port");
                return None;
            }
        }
    }
    Some((admin, metrics, stop))
}

async fn supervise(args: StandaloneArgs) -> Exit {
    let standalone = match Standalone::prepare(&args.file, &args.for_agents()) {
        Ok(standalone) => Arc::new(standalone),
        Err(error) => {
            tracing::error!(error = chain(&error), "no agent was started");
            return Exit::BadConfiguration;
        }
    };
    let Some((published, _, stop)) = surroundings(&args.common).await else { return Exit::Failed };
    let watching = tokio::spawn(publish_status(Arc::clone(&standalone), published));
    let exit = standalone::run(standalone, stop).await;
    watching.abort();
    exit
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    /// What agents take of their command line.
    #[derive(Debug, Parser)]
    struct Agent {
        #[command(flatten)]
        common: runtime::CommonArgs,
    }

    fn common(arguments: &[&str]) -> CommonArgs {
        let standalone = ["operator", "standalone", "-f", "a.yaml"];
        let run = ["operator", "run"];
        let parse = |start: &[&str]| Args::try_parse_from(start.iter().chain(arguments)).unwrap().command;
        match (parse(&run), parse(&standalone)) {
            (Command::Run(run), Command::Standalone(standalone)) => {
                assert_eq!(run.common.for_agents(), standalone.for_agents(), "both ways to run are alike");
                run.common
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_agent_trusts_whom_the_operator_does_and_logs_as_it_does() {
        for (arguments, passed_on) in [
            (&["--log-format=plain"][..], &["--log-format=plain", "--cloud=public"][..]),
            (&["--log-format=json", "--cloud=us-government"][..], &["--log-format=json", "--cloud=us-government"][..]),
            (
                &[
                    "--cloud=china",
                    "--trusted-suffix=.Kusto.example.com,.kusto.example.org",
                    "--trusted-suffix",
                    ".a.b",
                ][..],
                &[
                    "--log-format=plain",
                    "--cloud=china",
                    "--trusted-suffix=.kusto.example.com",
                    "--trusted-suffix=.kusto.example.org",
                    "--trusted-suffix=.a.b",
                ][..],
            ),
        ] {
            let own = common(arguments);
            assert_eq!(own.for_agents(), passed_on);
            let started = ["agent".to_owned(), "--config=a.yaml".to_owned()].into_iter().chain(own.for_agents());
            let agent = Agent::try_parse_from(started).unwrap().common;
            assert_eq!(agent.trust(), HostTrust { cloud: own.cloud, suffixes: own.trusted_suffix });
            assert_eq!(agent.log_format, own.log_format);
        }
    }

    #[test]
    fn what_is_given_as_an_empty_text_is_refused() {
        let all = Args::command();
        let run = all.find_subcommand("run").unwrap();
        for flag in run.get_arguments().filter(|flag| flag.get_action().takes_values()) {
            let name = format!("--{}", flag.get_long().unwrap());
            let refused = Args::try_parse_from(["operator", "run", &format!("{name}=")]).unwrap_err();
            let is_value = matches!(refused.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
            assert!(is_value && refused.to_string().contains(&name), "{refused}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
