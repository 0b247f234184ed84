//! What the operator was started with. No I/O.

use std::collections::BTreeMap;

use shared::kusto::HostTrust;

/// What all reconciles share of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The one namespace that is watched; all without it.
    pub namespace: Option<String>,
    /// Labels of this Kubernetes cluster, which criteria expressions may ask for.
    pub cluster_labels: BTreeMap<String, String>,
    /// Which hosts may be shown a token.
    pub trust: HostTrust,
    /// Whether a cluster may be on the machine of its agent: for development.
    pub allow_loopback: bool,
    /// Images of those that name none.
    pub images: Images,
    /// What every agent is started with after its document: `--log-format`, `--cloud`.
    pub agent_arguments: Vec<String>,
}

/// Default images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// adx-mon's ingestor.
    pub ingestor: String,
    /// adx-mon's collector.
    pub collector: String,
    /// adx-mon's alerter.
    pub alerter: String,
    /// Our agents: the operator's own image, unless it was told another or does not know its own.
    pub agent: Option<String>,
}
