//! The arguments that both agents have. No I/O.

use std::{net::SocketAddr, path::PathBuf};

use crate::kusto::{Cloud, HostTrust, TrustedSuffix};

/// The variable by which the operator tells an agent which document it is to find.
pub const DOCUMENT_ENV: &str = "ADX_FEDERATION_DOCUMENT";

/// Flattened into each agent's own arguments.
#[derive(Debug, Clone, clap::Args)]
// Without this, the line above would be the program's description.
#[command(about = None, long_about = None)]
pub struct CommonArgs {
    /// The ADXCluster document (YAML) to work from
    #[arg(long, value_name = "FILE", env = "ADX_FEDERATION_CONFIG")]
    pub config: PathBuf,

    /// Run one pass at once and exit with its outcome: 0 done, 1 failed, 2 wrong configuration, 3 held back by a guard
    #[arg(long)]
    pub once: bool,

    /// Serve /livez, /readyz, /metrics and /status on this address, such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDRESS", env = "ADX_FEDERATION_ADMIN")]
    pub admin: Option<SocketAddr>,

    /// Run in a Kubernetes cluster: one of several replicas leads, by a lease, and the ADXCluster's status tells what this agent sees
    #[arg(long, conflicts_with = "once", env = "ADX_FEDERATION_KUBERNETES")]
    pub kubernetes: bool,

    /// The fingerprint of the document that is expected; with another one the agent ends at once. The operator says it: what a new pod is given of a ConfigMap may be
    /// older than the pod
    #[arg(long, value_name = "FINGERPRINT", env = DOCUMENT_ENV, hide = true)]
    pub document: Option<String>,

    /// How log lines are written to standard error; RUST_LOG chooses which
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, env = "ADX_FEDERATION_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// The Azure cloud of the clusters: which hosts are trusted with a token
    #[arg(long, value_enum, value_name = "CLOUD", default_value_t, env = "ADX_FEDERATION_CLOUD")]
    pub cloud: Cloud,

    /// More suffixes of Kusto hosts that are trusted with a token, such as .kusto.example.com
    #[arg(long, value_name = "SUFFIX", value_delimiter = ',', env = "ADX_FEDERATION_TRUSTED_SUFFIXES")]
    pub trusted_suffix: Vec<TrustedSuffix>,
}

impl CommonArgs {
    /// Whom the agent trusts with a token.
    pub fn trust(&self) -> HostTrust {
        HostTrust { cloud: self.cloud, suffixes: self.trusted_suffix.clone() }
    }
}

impl AsRef<Self> for CommonArgs {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use kql::endpoint::ClusterEndpoint;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        common: CommonArgs,
    }

    fn trust(arguments: &[&str]) -> Result<HostTrust, clap::Error> {
        let arguments = ["program", "--config=a.yaml"].iter().chain(arguments);
        Program::try_parse_from(arguments).map(|program| program.common.trust())
    }

    #[test]
    fn hosts_are_trusted_as_the_command_line_says() {
        let trusts = |arguments: &[&str], host: &str| {
            let endpoint = ClusterEndpoint::parse(&format!("https://{host}")).unwrap();
            trust(arguments).unwrap().trusts(&endpoint)
        };
        let host = "eu.kusto.example.com";
        assert!(!trusts(&[], host) && trusts(&["--trusted-suffix=.kusto.example.com"], host));
        let both = ["--trusted-suffix", ".kusto.example.org,.kusto.example.com"];
        assert!(trusts(&both, host) && trusts(&both, "eu.kusto.example.org") && !trusts(&both, "kusto.example.org"));
        let again = ["--trusted-suffix=.kusto.example.org", "--trusted-suffix=.kusto.example.com"];
        assert!(trusts(&again, host) && trusts(&again, "eu.kusto.windows.net"));
        let china = ["--cloud=china", "--trusted-suffix=.kusto.example.com"];
        assert!(trusts(&china, "eu.kusto.chinacloudapi.cn") && trusts(&china, host));
        assert!(!trusts(&china, "eu.kusto.windows.net"));
        for wrong in [".com", "kusto.example.com", "*"] {
            let error = trust(&[&format!("--trusted-suffix={wrong}")]).unwrap_err().to_string();
            assert!(error.contains("must be a dot and a domain of two names or more"), "{wrong}: {error}");
        }
    }
}
