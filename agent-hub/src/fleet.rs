//! Who belongs to the fleet: heartbeats in, the state of each partition out. Pure; `now` is the hub server's clock at the time of reading.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use kql::endpoint::ClusterEndpoint;
use serde_json::Value;
use shared::{heartbeat::SchemaInventory, runtime::PartitionState};

/// The newest heartbeat of one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Whose it is, by the row's own word.
    pub endpoint: ClusterEndpoint,
    /// When the hub stored it: the hub server's clock.
    pub received: Timestamp,
    /// How many beats came since the last complete reading, this one among them.
    pub new_beats: u64,
    /// The writer's clock; reported when absurd, never decided on.
    pub written: Option<Timestamp>,
    /// What the partition holds.
    pub inventory: Inventory,
    /// Partitioning attributes: geo, location, tenant, ...
    pub metadata: BTreeMap<String, Value>,
    /// What was wrong with the row, in sentences.
    pub problems: Vec<String>,
}

/// What is known of a partition's databases and tables.
#[derive(Debug, Clone, PartialEq)]
pub enum Inventory {
    /// The schema of its newest heartbeat, or the last one that could be read.
    Known(Arc<SchemaInventory>),
    /// No heartbeat of it had a readable schema since this process started. It is never taken for empty: what the hub has of it is kept.
    Unknown,
}

/// One partition as of now.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// Its newest heartbeat.
    pub beat: Beat,
    /// Where it stands.
    pub state: PartitionState,
    /// How many beats are overdue since the newest.
    pub missed_beats: u64,
    /// Expired, and still federated: too many went silent at once for this to be believed.
    pub is_kept: bool,
}

impl Partition {
    /// Whether its data belongs into groups and functions. A suspect partition stays: keeping a dead one costs a warning, losing a live one costs data.
    pub const fn is_federated(&self) -> bool {
        self.is_kept || !matches!(self.state, PartitionState::Expired)
    }

    /// A partition that is kept although the heartbeat table remembers it no more.
    pub const fn known_by_membership(endpoint: ClusterEndpoint) -> Self {
        let beat = Beat {
            endpoint,
            received: Timestamp::UNIX_EPOCH,
            new_beats: 0,
            written: None,
            inventory: Inventory::Unknown,
            metadata: BTreeMap::new(),
            problems: Vec::new(),
        };
        Self { beat, state: PartitionState::Expired, missed_beats: 0, is_kept: true }
    }
}

/// All partitions that the heartbeat table remembers.
pub type Fleet = BTreeMap<ClusterEndpoint, Partition>;

/// When a partition counts as silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// No beat for this long: expired.
    pub time_to_live: SignedDuration,
    /// How often partitions beat.
    pub interval: SignedDuration,
}

/// Beats come early by up to a quarter of the interval and never late by design; a quarter is left for the way, and for slow machines.
const LATE_ALLOWANCE: f64 = 0.25;

/// How far the writer's clock may be from the hub's before it is reported.
const CLOCK_SKEW_ALLOWANCE: SignedDuration = SignedDuration::from_mins(5);

/// Judges every beat by the hub's clock. Of two rows that name one cluster the newer one counts.
pub fn judge(beats: Vec<Beat>, now: Timestamp, thresholds: Thresholds) -> Fleet {
    let mut fleet = Fleet::new();
    for mut beat in beats {
        let age = now.duration_since(beat.received);
        let missed_beats = missed_beats(age, 0, thresholds.interval);
        let state = match missed_beats {
            _ if age > thresholds.time_to_live => PartitionState::Expired,
            0 => PartitionState::Live,
            _ => PartitionState::Suspect,
        };
        beat.problems.extend(clock_problem(&beat));
        let older = fleet.get(&beat.endpoint).is_some_and(|known: &Partition| known.beat.received >= beat.received);
        if !older {
            fleet.insert(beat.endpoint.clone(), Partition { beat, state, missed_beats, is_kept: false });
        }
    }
    fleet
}

/// How many beats are missing in a time that began with a beat, and in which some more came.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
// Saturating float to integer is what is wanted: a negative number of beats is none.
pub fn missed_beats(time: SignedDuration, came: u64, interval: SignedDuration) -> u64 {
    (time.as_secs_f64() / interval.as_secs_f64() - came as f64 - LATE_ALLOWANCE) as u64
}

fn clock_problem(beat: &Beat) -> Option<String> {
    let Some(written) = beat.written else {
        return Some("its heartbeat has no Timestamp".to_owned());
    };
    let skew = written.duration_since(beat.received);
    (skew.abs() > CLOCK_SKEW_ALLOWANCE).then(|| {
        let direction = if skew.is_positive() { "ahead of" } else { "behind" };
        format!("its heartbeat's Timestamp {written} is {:#} {direction} the hub's clock", skew.abs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2025-05-03T12:00:00Z";

    fn beat(host: &str, age: SignedDuration) -> Beat {
        let received = NOW.parse::<Timestamp>().unwrap() - age;
        Beat {
            endpoint: ClusterEndpoint::parse(&format!("https://{host}.kusto.windows.net")).unwrap(),
            received,
            new_beats: 1,
            written: Some(received),
            inventory: Inventory::Unknown,
            metadata: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    fn judged(beats: Vec<Beat>) -> Vec<(String, PartitionState, u64)> {
        let hour = SignedDuration::from_hours(1);
        let thresholds = Thresholds { time_to_live: hour, interval: SignedDuration::from_mins(10) };
        judge(beats, NOW.parse().unwrap(), thresholds)
            .into_values()
            .map(|partition| (partition.beat.endpoint.host().to_owned(), partition.state, partition.missed_beats))
            .collect()
    }

    #[test]
    fn a_partition_is_live_then_suspect_then_expired_by_the_age_of_its_newest_beat() {
        let mins = SignedDuration::from_mins;
        for (age, state, missed) in [
            (mins(0), PartitionState::Live, 0),
            (mins(12), PartitionState::Live, 0),
            (mins(13), PartitionState::Suspect, 1),
            (mins(60), PartitionState::Suspect, 5),
            (mins(61), PartitionState::Expired, 5),
            (mins(-3), PartitionState::Live, 0),
        ] {
            let expected = vec![("eu.kusto.windows.net".to_owned(), state, missed)];
            assert_eq!(judged(vec![beat("eu", age)]), expected, "{age}");
        }
    }

    #[test]
    fn beats_that_were_missed_between_two_that_came_are_told_by_how_many_came() {
        let mins = SignedDuration::from_mins;
        for (gap, came_between, missed) in
            [(10, 0, 0), (12, 0, 0), (20, 0, 1), (45, 0, 4), (20, 1, 0), (30, 1, 1), (15, 3, 0)]
        {
            assert_eq!(missed_beats(mins(gap), came_between, mins(10)), missed, "{gap} min, {came_between} between");
        }
    }

    #[test]
    fn of_two_rows_for_one_cluster_the_newer_counts_in_either_order() {
        let (old, new) = (beat("eu", SignedDuration::from_hours(5)), beat("eu", SignedDuration::from_mins(1)));
        let expected = vec![("eu.kusto.windows.net".to_owned(), PartitionState::Live, 0)];
        assert_eq!(judged(vec![old.clone(), new.clone()]), expected);
        assert_eq!(judged(vec![new, old]), expected);
    }

    #[test]
    fn the_writers_clock_is_reported_and_never_decided_on() {
        let mut absurd = beat("eu", SignedDuration::from_mins(1));
        absurd.written = Some("2100-01-01T00:00:00Z".parse().unwrap());
        let thresholds =
            Thresholds { time_to_live: SignedDuration::from_hours(1), interval: SignedDuration::from_mins(10) };
        let fleet = judge(vec![absurd], NOW.parse().unwrap(), thresholds);
        let partition = fleet.values().next().unwrap();
        assert_eq!(partition.state, PartitionState::Live);
        assert!(partition.beat.problems[0].contains("2100-01-01T00:00:00Z"), "{:?}", partition.beat.problems);
    }
}
