//! What the operator was started with. No I/O.

use std::collections::BTreeMap;

use kql::endpoint::ClusterEndpoint;
use shared::kusto::HostTrust;

/// What all reconciles share of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The one namespace that is watched; all without it.
    pub namespace: Option<String>,
    /// Labels of this Kubernetes cluster, which criteria expressions may ask for, and of which components are told.
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

impl Settings {
    /// Whether a cluster may be worked with: it may be shown a token, or needs none.
    pub(crate) fn trusts(&self, endpoint: &ClusterEndpoint) -> bool {
        if endpoint.is_loopback() { self.allow_loopback } else { self.trust.trusts(endpoint) }
    }
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

#[cfg(test)]
impl Settings {
    /// For unit tests: no labels, and images that tell whose they are.
    pub(crate) fn of_tests(namespace: Option<&str>) -> Self {
        let images = Images {
            ingestor: "default/ingestor".to_owned(),
            collector: "default/collector".to_owned(),
            alerter: "default/alerter".to_owned(),
            agent: Some("own/agent:1".to_owned()),
        };
        Self {
            namespace: namespace.map(str::to_owned),
            cluster_labels: BTreeMap::new(),
            trust: HostTrust::default(),
            allow_loopback: false,
            images,
            agent_arguments: Vec::new(),
        }
    }
}
