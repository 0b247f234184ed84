//! A document's rules. Pure: a document in, a configuration that holds out, or every rule it breaks. Called by the agents at start, by `operator standalone`
//! and by the operator's controller.

use std::fmt;

use kql::secrets::{ends_with_a_name, redacted, redacted_quotes};

use super::{
    config::{HubConfig, PartitionConfig},
    rules::{ABSENT, Rules},
    schedule::Schedule,
    spec::{ADXCluster, ClusterRole},
};

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, such as `spec.federation.heartbeatTTL`.
    pub path: String,
    /// What is there, or `absent`.
    pub value: String,
    /// The rule, such as `must be at least 3 x heartbeatInterval (10m)`.
    pub rule: String,
}

impl Violation {
    /// A broken rule. The value may be anything: no line breaks or terminal escapes in a message, no novels, and no secrets. Of a map, the path has a person's own key.
    pub fn new(path: impl Into<String>, value: impl fmt::Display, rule: impl fmt::Display) -> Self {
        let path = path.into();
        let value = if ends_with_a_name(&path) { "…".to_owned() } else { redacted_quotes(&value.to_string()) };
        // Of a long address, one that is only looked at as far as it is shown would be its scheme alone.
        let value: String = value.chars().take(128).flat_map(char::escape_debug).collect();
        let value = value.replace("\\\"", "\"").replace("\\'", "'");
        Self { path: redacted(&path), value, rule: rule.to_string() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.path, self.value, self.rule)
    }
}

/// All rules that a document breaks, in the document's order, and after them the lengths and counts that the CRD's schema bounds; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the document breaks its rules")?;
        self.0.iter().try_for_each(|violation| write!(f, "; {violation}"))
    }
}

impl std::error::Error for Violations {}

/// A valid document, by its role.
#[derive(Debug, Clone, PartialEq)]
pub enum Validated {
    /// `role: Partition`, or none.
    Partition(Box<PartitionConfig>),
    /// `role: Federated`.
    Hub(Box<HubConfig>),
}

impl Validated {
    /// When its agent's passes run.
    pub fn schedule(&self) -> &Schedule {
        match self {
            Self::Partition(partition) => &partition.schedule,
            Self::Hub(hub) => &hub.schedule,
        }
    }
}

/// Checks a document that agents are to work from: every rule, and an endpoint.
///
/// # Errors
/// Every rule that it breaks.
pub fn validate(cluster: &ADXCluster) -> Result<Validated, Violations> {
    let mut rules = Rules::default();
    let validated = match cluster.spec.role.unwrap_or_default() {
        ClusterRole::Partition => rules.partition(cluster).map(|partition| Validated::Partition(Box::new(partition))),
        ClusterRole::Federated => rules.hub(cluster).map(|hub| Validated::Hub(Box::new(hub))),
    };
    rules.limits(cluster);
    rules.finish(validated)
}

/// What agent-partition works from.
///
/// # Errors
/// Every rule that the document breaks; a role other than `Partition` and a missing list of hubs are among them.
pub fn partition_config(cluster: &ADXCluster) -> Result<PartitionConfig, Violations> {
    let mut rules = Rules::default();
    if cluster.spec.role.unwrap_or_default() != ClusterRole::Partition {
        rules.breaks(
            "spec.role",
            "Federated",
            "must be Partition for agent-partition; agent-hub works from this document",
        );
        return rules.finish(None);
    }
    let config = rules.partition(cluster);
    if cluster.spec.federation.is_none() {
        rules.breaks("spec.federation", ABSENT, "must be present for agent-partition: it names the hubs");
    }
    rules.limits(cluster);
    rules.finish(config)
}

/// What agent-hub works from.
///
/// # Errors
/// Every rule that the document breaks; a role other than `Federated` is among them.
pub fn hub_config(cluster: &ADXCluster) -> Result<HubConfig, Violations> {
    let mut rules = Rules::default();
    if cluster.spec.role.unwrap_or_default() != ClusterRole::Federated {
        let value = if cluster.spec.role.is_some() { "Partition" } else { "absent, which means Partition" };
        rules.breaks("spec.role", value, "must be Federated for agent-hub; agent-partition works from this document");
        return rules.finish(None);
    }
    let config = rules.hub(cluster);
    rules.limits(cluster);
    rules.finish(config)
}

/// Every rule that a document breaks that need not be ready for agents: the operator may still have to provision its endpoint.
pub fn check(cluster: &ADXCluster) -> Vec<Violation> {
    match validate(cluster) {
        Ok(_) => Vec::new(),
        Err(Violations(mut violations)) => {
            violations.retain(|violation| !(violation.path == "spec.endpoint" && violation.value == ABSENT));
            violations
        }
    }
}

#[cfg(test)]
mod tests;
