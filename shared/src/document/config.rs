//! A valid document, taken apart for the agents: no optional texts are left, every default is filled in. Made by [`super::validate`] only. No I/O.

use std::{collections::BTreeMap, time::Duration};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, TableName},
    statements::HeartbeatSource,
};
use serde_json::Value;

use super::schedule::Schedule;
use crate::credential::CredentialConfig;

/// Every default of the document, in one place.
pub mod defaults {
    use std::time::Duration;

    /// `heartbeatInterval`.
    pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10 * 60);
    /// `heartbeatTTL`.
    pub const HEARTBEAT_TTL: Duration = Duration::from_secs(60 * 60);
    /// `heartbeatRetention`.
    pub const HEARTBEAT_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    /// `reconcileInterval`.
    pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(10 * 60);
    /// `macroExpand.functionPrefix`.
    pub const FUNCTION_PREFIX: &str = "federated_";
    /// `macroExpand.folder`.
    pub const FOLDER: &str = "federation_facades";
    /// `membership.flappingWindow`.
    pub const FLAPPING_WINDOW: Duration = Duration::from_secs(6 * 60 * 60);
    /// `membership.zoneAttribute`.
    pub const ZONE_ATTRIBUTE: &str = "geo";
    /// `macroExpand.bestEffort`: one dead partition must not fail every query of the hub.
    pub const BEST_EFFORT: bool = true;
}

/// What agent-partition works from.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionConfig {
    /// `metadata.name`, for logs.
    pub name: String,
    /// The partition's own cluster: asked for its schema, and announced.
    pub endpoint: ClusterEndpoint,
    /// How to sign in to it.
    pub credential: CredentialConfig,
    /// The hubs that get heartbeats, in the document's order; each hub once.
    pub hubs: Vec<HubTarget>,
    /// Attributes of this partition; every value is a text, number or boolean.
    pub partitioning: BTreeMap<String, Value>,
    /// When heartbeats are sent.
    pub schedule: Schedule,
    /// How long an unchanged schema may be left out of heartbeats; `None`: never.
    pub schema_rests: Option<Duration>,
}

/// One hub that gets heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubTarget {
    /// Where it is in the document, such as `spec.federation.federatedClusters[0]`.
    pub path: String,
    /// The hub's cluster.
    pub endpoint: ClusterEndpoint,
    /// The database of its heartbeat table.
    pub database: DatabaseName,
    /// Its heartbeat table.
    pub table: TableName,
    /// How to sign in to it.
    pub credential: CredentialConfig,
}

/// What agent-hub works from.
#[derive(Debug, Clone, PartialEq)]
pub struct HubConfig {
    /// `metadata.name`, for logs.
    pub name: String,
    /// The hub's cluster.
    pub endpoint: ClusterEndpoint,
    /// How to sign in to it.
    pub credential: CredentialConfig,
    /// The database of the heartbeat table.
    pub heartbeat_database: DatabaseName,
    /// The heartbeat table, or those of the partitions.
    pub heartbeats: HeartbeatSource,
    /// How old a partition's last heartbeat may be; at least three times `heartbeat_interval`.
    pub heartbeat_ttl: Duration,
    /// The time between two heartbeats of a partition, by which missed ones are counted.
    pub heartbeat_interval: Duration,
    /// How long heartbeat rows are kept; at least `heartbeat_ttl`.
    pub heartbeat_retention: Duration,
    /// When functions and entity groups are brought up to date.
    pub schedule: Schedule,
    /// What precedes a table's name in its function's; every table's name still makes a valid function name after it.
    pub function_prefix: String,
    /// The folder of the functions.
    pub folder: String,
    /// Whether a query goes on without the partitions that cannot be reached.
    pub best_effort: bool,
    /// Whether changes are only worked out and shown: `mode: Plan`, or `suspend`.
    pub is_plan_only: bool,
    /// The hash of the plan that is made although a guard holds it.
    pub acknowledged_plan: Option<String>,
    /// When partitions join, are kept and leave.
    pub membership: MembershipConfig,
    /// Which partitions may be federated.
    pub trust: TrustConfig,
    /// Attributes for whose values there are groups of their own.
    pub group_attributes: Vec<String>,
    /// Whether columns that partitions have with different types are converted to one.
    pub converts_columns: bool,
}

/// When partitions join, are kept and leave; see [`MembershipSpec`](super::spec::MembershipSpec).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The fields of the document, with their defaults.
pub struct MembershipConfig {
    pub join_after_beats: u64,
    pub return_after_beats: u64,
    pub suspect_after_missed_beats: u64,
    pub flapping_returns: usize,
    pub flapping_window: Duration,
    pub removal_percent: usize,
    pub mass_expiry_percent: usize,
    pub mass_expiry_partitions: usize,
    pub zone_attribute: String,
    pub guard_time_limit: Option<Duration>,
}

/// Which partitions may be federated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustConfig {
    /// Those on this list, if there is one.
    pub allowed: Option<Vec<ClusterEndpoint>>,
    /// Those whose host fits this pattern, if there is one.
    pub pattern: Option<String>,
    /// None of these.
    pub blocked: Vec<ClusterEndpoint>,
    /// Only after a query that they answered.
    pub canary: bool,
}
