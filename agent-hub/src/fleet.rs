//! Partitions as the hub sees them now. No I/O; `observe` makes beats, [`membership`](crate::membership) judges them, `desired` and `plan` read the result.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName};
use serde_json::Value;
use shared::{
    heartbeat::{DatabaseInventory, SchemaInventory},
    runtime::{GuardReason, PartitionState},
};

/// The newest heartbeat of one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// The partition's cluster.
    pub endpoint: ClusterEndpoint,
    /// When the hub stored it, by the hub's clock.
    pub received: Timestamp,
    /// How many beats came since the last complete reading, this one among them.
    pub new_beats: u64,
    /// How far the writer's clock was ahead of the hub's; reported when absurd, never decided on. `None`: it wrote no time.
    pub skew: Option<SignedDuration>,
    /// What the partition holds.
    pub inventory: Inventory,
    /// Partitioning attributes: geo, location, tenant, ...
    pub metadata: Arc<BTreeMap<String, Value>>,
    /// Whether no heartbeat of it had attributes that could be read since this process started, though it has some.
    pub has_unread_metadata: bool,
    /// What was wrong with the row, in sentences.
    pub problems: Vec<Arc<str>>,
    /// Tells what was read together with the inventory, schema and attributes, from any other. `None`: no schema was.
    pub hash: Option<String>,
    /// Why its heartbeats were not read, in a sentence, where each partition has a table of its own and that cannot be: it is no silence, and the rest of this is what was known.
    pub unread: Option<Arc<str>>,
    /// The databases of it that groups of ours list and its heartbeats do not.
    pub unlisted: BTreeMap<DatabaseName, Unlisted>,
}

/// A database that a partition's heartbeats list no longer.
#[derive(Debug, Clone, PartialEq)]
pub struct Unlisted {
    /// What it had when one listed it last, where that is known.
    pub content: Option<Arc<DatabaseInventory>>,
    /// Whether the heartbeat table could be asked since when.
    pub is_known: bool,
    /// Whether it has told, or may have, what is to be read of it yet.
    pub is_unread: bool,
    /// Whether it is federated as if it were listed.
    pub stays: bool,
}

/// What is known of a partition's databases and tables.
#[derive(Debug, Clone, PartialEq)]
pub enum Inventory {
    /// The schema of its newest heartbeat, or the last one that could be read.
    Known(Arc<SchemaInventory>),
    /// No heartbeat of it had a readable schema since this process started. It is never taken for empty: what the hub has of it is kept.
    Unknown,
    /// It has one that could not be fetched, or had one whose row has gone since, and this process knows none: until it is, functions that may be of it stay as they are.
    Unread,
}

/// One partition as of now.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// Its newest heartbeat.
    pub beat: Beat,
    /// Where it stands.
    pub state: PartitionState,
    /// Since when, by the hub's clock.
    pub since: Timestamp,
    /// Its zone, as its attributes tell it or did.
    pub zone: Option<String>,
    /// Why, where the state alone does not tell.
    pub reason: Option<String>,
    /// How many beats are overdue since the newest.
    pub missed_beats: u64,
    /// The guard because of which it stays federated, or some of its databases do, although it would leave.
    pub kept_by: Option<GuardReason>,
}

impl Partition {
    /// Whether its data belongs into groups and functions. A suspect partition stays: keeping a dead one costs a warning, losing a live one costs data.
    pub const fn is_federated(&self) -> bool {
        self.kept_by.is_some()
            || matches!(self.state, PartitionState::Live | PartitionState::Suspect | PartitionState::Flapping)
    }

    /// Whether the heartbeat table remembers it no more: only a group of ours still lists it.
    pub fn is_forgotten(&self) -> bool {
        self.beat.received == Timestamp::UNIX_EPOCH
    }

    /// The text of one of its attributes.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.beat.attribute(name)
    }
}

/// All partitions that the heartbeat table remembers, and those that our groups list.
pub type Fleet = BTreeMap<ClusterEndpoint, Partition>;

impl Beat {
    /// The text of one of its attributes.
    pub fn attribute(&self, name: &str) -> Option<String> {
        match self.metadata.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// What stands for a heartbeat of a partition that the heartbeat table remembers no more.
    pub fn forgotten(endpoint: ClusterEndpoint) -> Self {
        Self {
            endpoint,
            received: Timestamp::UNIX_EPOCH,
            new_beats: 0,
            skew: Some(SignedDuration::ZERO),
            inventory: Inventory::Unknown,
            metadata: Arc::default(),
            problems: Vec::new(),
            hash: None,
            unread: None,
            unlisted: BTreeMap::new(),
            has_unread_metadata: false,
        }
    }
}

/// Beats come early by up to a quarter of the interval and never late by design; a quarter is left for the way, and for slow machines.
const LATE_ALLOWANCE: f64 = 0.25;

/// How many beats are missing in a time that began with a beat, and in which some more came.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // Saturating is the point: a negative number of beats is none.
pub fn missed_beats(time: SignedDuration, came: u64, interval: SignedDuration) -> u64 {
    (time.as_secs_f64() / interval.as_secs_f64() - came as f64 - LATE_ALLOWANCE) as u64
}

/// How long a time is that began with a beat, when so many are missing and none came.
pub fn silence(missed: u64, interval: SignedDuration) -> SignedDuration {
    let beats = u32::try_from(missed).unwrap_or(u32::MAX);
    SignedDuration::try_from_secs_f64(interval.as_secs_f64() * (f64::from(beats) + LATE_ALLOWANCE))
        .unwrap_or(SignedDuration::MAX)
}

/// How far the writer's clock may be from the hub's before it is reported.
const CLOCK_SKEW_ALLOWANCE: SignedDuration = SignedDuration::from_mins(5);

/// What is wrong with the writer's clock, in a sentence.
pub fn clock_problem(beat: &Beat) -> Option<String> {
    let Some(skew) = beat.skew else {
        return Some("its heartbeat has no Timestamp".to_owned());
    };
    (skew.abs() > CLOCK_SKEW_ALLOWANCE).then(|| {
        let direction = if skew.is_positive() { "ahead of" } else { "behind" };
        format!("its heartbeat's Timestamp is {:#} {direction} the hub's clock", skew.abs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_that_were_missed_between_two_that_came_are_told_by_how_many_came() {
        let mins = SignedDuration::from_mins;
        for (gap, came_between, missed) in
            [(10, 0, 0), (12, 0, 0), (20, 0, 1), (45, 0, 4), (20, 1, 0), (30, 1, 1), (15, 3, 0)]
        {
            assert_eq!(missed_beats(mins(gap), came_between, mins(10)), missed, "{gap} min, {came_between} between");
        }
        for missed in [1, 2, 7] {
            let time = silence(missed, mins(10));
            assert_eq!(missed_beats(time, 0, mins(10)), missed);
            assert_eq!(missed_beats(time - SignedDuration::from_secs(1), 0, mins(10)), missed - 1);
        }
    }

    #[test]
    fn the_writers_clock_is_reported() {
        let endpoint = ClusterEndpoint::parse("https://eu.kusto.windows.net").unwrap();
        let with = |skew| clock_problem(&Beat { skew, ..Beat::forgotten(endpoint.clone()) });
        assert_eq!(with(Some(SignedDuration::from_mins(-5))), None);
        assert!(with(Some(SignedDuration::from_hours(600_000))).unwrap().ends_with("ahead of the hub's clock"));
        assert!(with(Some(SignedDuration::from_hours(-1))).unwrap().ends_with("1h behind the hub's clock"));
        assert_eq!(with(None).unwrap(), "its heartbeat has no Timestamp");
    }
}
