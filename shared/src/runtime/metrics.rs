//! The agents' metrics, `adx_federation_` before each. Labels are closed enums; endpoints of the fleet are the one bounded exception, and those of a
//! partition that left are taken away. No I/O: the admin server asks for the text.

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::outcome::PassOutcome;
use crate::kusto::Failure;

/// A closed enum whose variants are values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label's value.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl prometheus_client::encoding::EncodeLabelValue for $name {
            fn encode(
                &self,
                encoder: &mut prometheus_client::encoding::LabelValueEncoder,
            ) -> Result<(), std::fmt::Error> {
                prometheus_client::encoding::EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}
pub(super) use label;

label! {
    /// What became of one heartbeat.
    HeartbeatOutcome {
        /// The hub has it.
        Accepted = "accepted",
        /// The hub or the token's issuer refused who we are: a role is missing at the hub, or the identity at home.
        Refused = "refused",
        /// The hub throttles.
        Throttled = "throttled",
        /// No full answer in time.
        TimedOut = "timed_out",
        /// No connection, or it broke.
        Unreachable = "unreachable",
        /// The hub answered with an error: the table is missing, or takes no streaming ingestion.
        Rejected = "rejected",
        /// What answered is not Kusto, or its answer was cut off.
        Garbled = "garbled",
    }
}

label! {
    /// What the hub thinks of a partition.
    PartitionState {
        /// New or back after it had left: not federated yet.
        Joining = "joining",
        /// Federated.
        Live = "live",
        /// Federated, but beats are missing.
        Suspect = "suspect",
        /// Federated; it falls silent and returns again and again. A person should look at its agent or network.
        Flapping = "flapping",
        /// No beat for the time to live; no longer federated, or about to be removed.
        Expired = "expired",
        /// Left out by a person, by name.
        Blocked = "blocked",
        /// Beats, and is not federated: it is not on the list, or its check failed.
        Untrusted = "untrusted",
    }
}

label! {
    /// What the hub changes.
    ChangeObject {
        /// A federated function.
        Function = "function",
        /// A stored entity group.
        EntityGroup = "entity_group",
        /// A table of ours, with its policies.
        Table = "table",
        /// What we record of partitions and of our groups.
        Record = "record",
        /// What the hub remembers of a partition's columns.
        RemoteSchema = "remote_schema",
    }
}

label! {
    /// What the hub does to it.
    ChangeAction {
        /// Made.
        Create = "create",
        /// Brought up to date.
        Alter = "alter",
        /// Removed.
        Drop = "drop",
    }
}

label! {
    /// What became of a change.
    ChangeOutcome {
        /// The hub has done it.
        Applied = "applied",
        /// It was refused or its answer lost; the next pass tries again.
        Failed = "failed",
    }
}

label! {
    /// Why the hub holds changes back.
    GuardReason {
        /// No partition beats: more likely the hub's own trouble than the fleet's end.
        NoLiveHeartbeat = "no_live_heartbeat",
        /// Too large a part of the fleet went silent at once.
        MassExpiry = "mass_expiry",
        /// Such a guard held until a short while ago; the fleet has one time to live to come back.
        Recovering = "recovering",
        /// This agent has not watched for one time to live yet.
        StartupGrace = "startup_grace",
        /// More partitions would leave than may in one pass.
        RemovalBudget = "removal_budget",
        /// Many partitions list a database no longer.
        UnlistedDatabases = "unlisted_databases",
        /// What was read may be only a part.
        IncompleteRead = "incomplete_read",
    }
}

label! {
    /// Why the hub does not take a heartbeat, or a part of it.
    RefusalReason {
        /// What it names is no cluster's endpoint.
        NoEndpoint = "no_endpoint",
        /// It names another cluster than the partition whose table it is in.
        FalseClaim = "false_claim",
        /// The cluster is none of the hub's cloud, or the hub itself.
        Foreign = "foreign",
        /// The hub does not federate its partition: not on a list, or its canary query failed.
        Untrusted = "untrusted",
        /// Something in its schema or attributes breaks a rule or a limit; the rest counts.
        Content = "content",
    }
}

impl From<&Failure> for HeartbeatOutcome {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Transport { .. } => Self::Unreachable,
            Failure::TimedOut { .. } => Self::TimedOut,
            Failure::Credential(_) | Failure::Unauthorized { .. } => Self::Refused,
            Failure::Throttled { .. } => Self::Throttled,
            Failure::Rejected { .. } => Self::Rejected,
            Failure::Incomplete { .. }
            | Failure::TooLarge { .. }
            | Failure::NotKusto { .. }
            | Failure::Redirected { .. } => Self::Garbled,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hub {
    hub: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HubOutcome {
    hub: String,
    outcome: HeartbeatOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    partition: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Endpoint {
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: PartitionState,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: PassOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    object: ChangeObject,
    action: ChangeAction,
    outcome: ChangeOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: GuardReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    reason: RefusalReason,
}

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics of an agent; cheap to clone. A family that an agent never uses stays without values.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    /// Locked only to add a program's own families and to write the text.
    registry: Mutex<Registry>,
    heartbeats_sent: Family<HubOutcome, Counter>,
    heartbeat_last_success: Family<Hub, Seconds>,
    partition_last_heartbeat: Family<Partition, Seconds>,
    missed_heartbeats: Family<Partition, Counter>,
    partitions: Family<State, Gauge>,
    passes: Family<Outcome, Counter>,
    pass_duration: Histogram,
    changes: Family<Change, Counter>,
    auth_failures: Family<Endpoint, Counter>,
    guard_active: Family<Reason, Gauge>,
    refused_heartbeats: Family<Refusal, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Empty metrics.
    pub fn new() -> Self {
        let mut families = Families {
            registry: Mutex::new(Registry::with_prefix("adx_federation")),
            heartbeats_sent: Family::default(),
            heartbeat_last_success: Family::default(),
            partition_last_heartbeat: Family::default(),
            missed_heartbeats: Family::default(),
            partitions: Family::default(),
            passes: Family::default(),
            // From a quiet pass on a laptop to one that waits for time-outs.
            pass_duration: Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0]),
            changes: Family::default(),
            auth_failures: Family::default(),
            guard_active: Family::default(),
            refused_heartbeats: Family::default(),
        };
        let Families {
            registry,
            heartbeats_sent,
            heartbeat_last_success,
            partition_last_heartbeat,
            missed_heartbeats,
            partitions,
            passes,
            pass_duration,
            changes,
            auth_failures,
            guard_active,
            refused_heartbeats,
        } = &mut families;
        let registry = registry.get_mut().expect("nobody else has it yet");
        // The encoder adds `_total` to counters.
        registry.register(
            "heartbeats_sent",
            "Heartbeats sent to a hub, by what became of them",
            heartbeats_sent.clone(),
        );
        registry.register(
            "heartbeat_last_success_timestamp_seconds",
            "When a hub last accepted a heartbeat, Unix time",
            heartbeat_last_success.clone(),
        );
        registry.register(
            "partition_last_heartbeat_timestamp_seconds",
            "When a partition's last heartbeat arrived, Unix time",
            partition_last_heartbeat.clone(),
        );
        registry.register(
            "missed_heartbeats",
            "Heartbeats that a partition did not send in time",
            missed_heartbeats.clone(),
        );
        registry.register("partitions", "Partitions by what the hub thinks of them", partitions.clone());
        registry.register("passes", "Passes by how they ended", passes.clone());
        registry.register("pass_duration_seconds", "How long passes took", pass_duration.clone());
        registry.register("changes", "Changes to the hub's functions and groups", changes.clone());
        registry.register(
            "auth_failures",
            "Requests refused for who we are, or for want of a token",
            auth_failures.clone(),
        );
        registry.register("guard_active", "Whether a guard holds changes back: 1 or 0", guard_active.clone());
        registry.register(
            "refused_heartbeats",
            "Endpoints whose newest heartbeat, or a part of it, the last reading refused",
            refused_heartbeats.clone(),
        );
        Self(Arc::new(families))
    }

    /// A hub that heartbeats will be sent to. An alert that compares its values must find them before the first beat, and above all where none ever
    /// arrives: the last success is at 0 then, in 1970.
    pub fn hub(&self, hub: &ClusterEndpoint) {
        for outcome in HeartbeatOutcome::ALL {
            self.0.heartbeats_sent.get_or_create_owned(&HubOutcome { hub: hub.as_str().to_owned(), outcome: *outcome });
        }
        self.0.heartbeat_last_success.get_or_create_owned(&Hub { hub: hub.as_str().to_owned() });
    }

    /// A cluster that will be asked: its counters exist from now on.
    pub fn cluster(&self, endpoint: &ClusterEndpoint) {
        self.0.auth_failures.get_or_create_owned(&Endpoint { endpoint: endpoint.as_str().to_owned() });
    }

    /// One heartbeat went to a hub at `now`.
    pub fn heartbeat_sent(&self, hub: &ClusterEndpoint, outcome: HeartbeatOutcome, now: Timestamp) {
        let hub = hub.as_str().to_owned();
        self.0.heartbeats_sent.get_or_create_owned(&HubOutcome { hub: hub.clone(), outcome }).inc();
        if outcome == HeartbeatOutcome::Accepted {
            self.0.heartbeat_last_success.get_or_create_owned(&Hub { hub }).set(unix_seconds(now));
        }
    }

    /// A partition's last heartbeat arrived at `arrived`.
    pub fn partition_heartbeat(&self, partition: &ClusterEndpoint, arrived: Timestamp) {
        self.0.partition_last_heartbeat.get_or_create_owned(&label_of(partition)).set(unix_seconds(arrived));
        // A counter must exist before its first increment, or rate() misses that one.
        self.0.missed_heartbeats.get_or_create_owned(&label_of(partition));
    }

    /// A partition missed `count` more heartbeats.
    pub fn missed_heartbeats(&self, partition: &ClusterEndpoint, count: u64) {
        self.0.missed_heartbeats.get_or_create_owned(&label_of(partition)).inc_by(count);
    }

    /// How many partitions are in a state.
    pub fn partitions(&self, state: PartitionState, count: usize) {
        self.0.partitions.get_or_create_owned(&State { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// There will be passes: an alert on the first one that fails must find the counter before it.
    pub fn passes(&self) {
        for outcome in PassOutcome::ALL {
            self.0.passes.get_or_create_owned(&Outcome { outcome: *outcome });
        }
    }

    /// A pass ended. Called by [`super::Cycle`].
    pub fn pass(&self, outcome: PassOutcome, duration: Duration) {
        self.0.passes.get_or_create_owned(&Outcome { outcome }).inc();
        self.0.pass_duration.observe(duration.as_secs_f64());
    }

    /// The hub changed something, or tried to.
    pub fn change(&self, object: ChangeObject, action: ChangeAction, outcome: ChangeOutcome) {
        self.0.changes.get_or_create_owned(&Change { object, action, outcome }).inc();
    }

    /// A cluster, or the issuer of its token, refused who we are ([`crate::kusto::KustoError::is_auth`]).
    pub fn auth_failure(&self, endpoint: &ClusterEndpoint) {
        self.0.auth_failures.get_or_create_owned(&Endpoint { endpoint: endpoint.as_str().to_owned() }).inc();
    }

    /// Whether a guard holds changes back.
    pub fn guard(&self, reason: GuardReason, active: bool) {
        self.0.guard_active.get_or_create_owned(&Reason { reason }).set(i64::from(active));
    }

    /// Of how many clusters the newest heartbeat is refused.
    pub fn refused_heartbeats(&self, reason: RefusalReason, count: usize) {
        self.0
            .refused_heartbeats
            .get_or_create_owned(&Refusal { reason })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Takes away every value that is labelled with a partition that left.
    pub fn forget_partition(&self, partition: &ClusterEndpoint) {
        self.0.partition_last_heartbeat.remove(&label_of(partition));
        self.0.missed_heartbeats.remove(&label_of(partition));
        self.0.auth_failures.remove(&Endpoint { endpoint: partition.as_str().to_owned() });
    }

    /// Takes away what this process saw of a fleet, as it does not look any more: old times and guards would be told beside those of the replica that leads. Counters
    /// stay where they are.
    pub fn forget_fleet(&self) {
        self.0.partition_last_heartbeat.clear();
        self.0.partitions.clear();
        self.0.guard_active.clear();
        self.0.refused_heartbeats.clear();
    }

    /// Adds metrics of one program's own.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.0.registry.lock().expect("no holder of this lock panics");
        register(&mut registry)
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0.registry.lock().expect("no holder of this lock panics"))
            .expect("writing to a String cannot fail");
        text
    }
}

fn label_of(partition: &ClusterEndpoint) -> Partition {
    Partition { partition: partition.as_str().to_owned() }
}

fn unix_seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests;
