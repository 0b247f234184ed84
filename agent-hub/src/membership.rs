//! The membership of partitions as a state machine. Pure: `now` is an argument, and what must outlive the process is a value, which [`crate::observe`] reads and
//! [`crate::apply`] writes.
//!
//! ```text
//! (new) -> Joining -> Live <-> Suspect -> Expired -> (removed) -> Joining
//!                      |          |
//!                      +- Flapping+          Blocked, Untrusted: by a person's word or a failed check, from any state
//! ```
//!
//! A partition is federated while Live, Suspect or Flapping. Whether one that expired may really leave is for [`crate::guards`] to say.

mod clock;
mod missing;
mod records;
mod step;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName};
use shared::runtime::{GuardReason, PartitionState};

use crate::{
    fleet::{Beat, Fleet, Inventory, Partition, clock_problem, missed_beats, silence},
    hub::Hub,
    trust::{Admission, Trust},
};

pub use missing::{Incomplete, Lacking};
pub use records::MemberRecord;
use step::{Sight, step, unread};

/// When a partition counts as what. Durations are by the hub's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds {
    /// No beat for this long: expired.
    pub time_to_live: SignedDuration,
    /// How often partitions beat.
    pub interval: SignedDuration,
    /// This many overdue beats: suspect.
    pub suspect_after: u64,
    /// This many beats in a row before a new partition is federated.
    pub join_after: u64,
    /// This many beats in a row before a silent one is trusted again.
    pub return_after: u64,
    /// This many returns from silence within the window: flapping.
    pub flapping_returns: usize,
    /// For how long a return counts; a flapping partition is kept through a silence of this length.
    pub flapping_window: SignedDuration,
}

impl Thresholds {
    /// After how long without a beat a partition is suspect.
    pub fn silence(&self) -> SignedDuration {
        silence(self.suspect_after, self.interval)
    }

    /// For how long a partition that has stopped is suspect before it expires.
    pub fn silence_before_expiry(&self) -> SignedDuration {
        self.time_to_live.saturating_sub(self.silence())
    }
}

/// What is remembered of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Its state after the last pass.
    pub state: PartitionState,
    /// When that began.
    pub since: Timestamp,
    /// When the present silence was first seen.
    pub silent_since: Option<Timestamp>,
    /// Its latest returns from silence, oldest first.
    pub returns: Vec<Timestamp>,
    /// Beats in a row since it was new or silent.
    pub beats: u64,
    /// The newest beat that was counted among them.
    pub counted: Timestamp,
    /// How many it needs to join.
    pub needs: u64,
    /// Tells the schema and attributes since which the hub remembers none of its columns as they were.
    pub schema_hash: Option<String>,
    /// Its zone, for the guards: also while its attributes cannot be read, or its rows are gone.
    pub zone: Option<String>,
    /// Why, where the state alone does not tell.
    pub reason: Option<String>,
    /// What was refused of its newest heartbeat: the first thing, in a sentence.
    pub problem: Option<String>,
    /// Whether a group of ours listed it when it was last judged. Not recorded, as the groups tell: of what was recorded it may be so.
    pub is_member: bool,
    /// Whether its heartbeats are read. Not recorded, as whoever starts has watched nobody.
    pub watch: Watch,
}

/// Whether a partition's heartbeats are read while others' are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Watch {
    /// As long as the others'.
    #[default]
    Kept,
    /// They were not in the last pass.
    Lost,
    /// Again, from then on.
    Since(Timestamp),
}

impl Remembered {
    /// Whether it was silent, or its heartbeats were not read, when it was last judged.
    pub fn may_be_unread(&self) -> bool {
        self.watch == Watch::Lost
            || matches!(self.state, PartitionState::Suspect | PartitionState::Flapping | PartitionState::Expired)
    }

    /// What is to be said of it.
    fn told(&self) -> Option<&String> {
        self.reason.as_ref().or(self.problem.as_ref())
    }
}

/// The most returns that are remembered; more than any sensible `flapping_returns`.
const MAX_RETURNS: usize = 16;

/// What many lost together: the fleet, all partitions of one zone, or those that have one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All partitions.
    Fleet,
    /// Those of one zone.
    Zone(String),
    /// Those that had this database.
    Database(DatabaseName),
}

/// A guard of a scope held, and its partitions' clocks began anew when that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Darkness {
    /// It held in the last pass.
    Dark {
        /// When it began to hold.
        since: Timestamp,
    },
    /// It held no longer from then on.
    Over {
        /// When sight returned.
        at: Timestamp,
    },
}

/// A guard, and since when it holds or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedGuard {
    /// Whether it held in the last pass.
    pub is_active: bool,
    /// When that began.
    pub since: Timestamp,
    /// Why, when it began.
    pub reason: String,
}

/// Everything that is remembered between passes; what a restart must not lose is in a table of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// By partition.
    pub partitions: BTreeMap<ClusterEndpoint, Remembered>,
    /// Scopes that were dark a short while ago.
    pub darkness: BTreeMap<Scope, Darkness>,
    /// Guards that hold or have held, for `federation_status()`.
    pub guards: BTreeMap<GuardReason, RememberedGuard>,
    /// What the hub lacked when it was last known, for the same.
    pub missing: Lacking,
    /// What the last pass could not do, for the same.
    pub incomplete: Lacking,
    /// When this process began to watch without a gap.
    pub watching_since: Option<Timestamp>,
}

impl Membership {
    /// Judges every beat, and every member of our groups that has none, by the hub's clock. Of two beats that name one cluster the newer one counts. The attribute
    /// named `zone_attribute` tells a partition's zone.
    #[must_use]
    pub fn step(
        &self,
        beats: Vec<Beat>,
        hub: &Hub,
        trust: &Trust,
        now: Timestamp,
        thresholds: &Thresholds,
        zone_attribute: &str,
    ) -> (Self, Fleet) {
        let mut newest = BTreeMap::<ClusterEndpoint, Beat>::new();
        for beat in beats {
            if newest.get(&beat.endpoint).is_none_or(|known| known.received < beat.received) {
                newest.insert(beat.endpoint.clone(), beat);
            }
        }
        let members: BTreeSet<_> = hub.members().map(|entity| &entity.cluster).collect();
        for member in &members {
            newest.entry((*member).clone()).or_insert_with(|| Beat::forgotten((*member).clone()));
        }
        let Self { partitions: known, darkness, guards, missing, incomplete, watching_since: watching } =
            self.not_later_than(now);
        let (partitions, watching_since) = (BTreeMap::new(), watching.or(Some(now)));
        let mut after = Self { partitions, darkness, guards, missing, incomplete, watching_since };
        let mut fleet = Fleet::new();
        // Who is listed by a group that could not be read is no member as far as can be seen: what is known of it stays.
        let is_unread = hub.databases.values().any(|database| database.groups.is_err());
        let was_member = |known: &Remembered| is_unread && known.is_member;
        // Of whom nothing was known before, nothing is known by a table that cannot be read.
        newest.retain(|endpoint, beat| {
            beat.unread.is_none() || known.contains_key(endpoint) || members.contains(endpoint)
        });
        for (endpoint, mut beat) in newest {
            // Of what came while nobody watched, only the newest is in a row with what comes now.
            let unwatched = known.get(&endpoint).filter(|_| watching.is_none());
            // Rows may go before their time: whoever has none, or older ones only, is silent since its last beat that was seen.
            let last = known.get(&endpoint).map_or(beat.received, |known| beat.received.max(known.counted.min(now)));
            let age = now.duration_since(last);
            if beat.unread.is_some() {
                beat.received = last;
            }
            if last > beat.received && age <= thresholds.time_to_live && matches!(beat.inventory, Inventory::Unknown) {
                // It was read, and is no more.
                beat.inventory = Inventory::Unread;
            }
            let new_beats = unwatched.map_or(beat.new_beats, |known| u64::from(beat.received > known.counted));
            let sight = Sight {
                age,
                new_beats,
                is_member: members.contains(&endpoint),
                admission: trust.admission(&endpoint),
                now,
            };
            let mut remembered = match &beat.unread {
                Some(why) if sight.admission == Admission::Admitted => {
                    unread(known.get(&endpoint), &sight, why, thresholds)
                }
                _ => step(known.get(&endpoint), &sight, thresholds),
            };
            remembered.is_member |= known.get(&endpoint).is_some_and(was_member);
            remembered.counted = last;
            if !beat.metadata.is_empty() {
                remembered.zone = beat.attribute(zone_attribute).filter(|zone| !zone.is_empty());
            }
            remembered.problem = beat.problems.first().map(|problem| records::kept_text(problem));
            beat.problems.extend(clock_problem(&beat).map(Arc::from));
            fleet.insert(
                endpoint.clone(),
                Partition {
                    missed_beats: missed_beats(sight.age, 0, thresholds.interval),
                    state: remembered.state,
                    since: remembered.since,
                    zone: remembered.zone.clone(),
                    reason: remembered.reason.clone(),
                    kept_by: None,
                    beat,
                },
            );
            after.partitions.insert(endpoint, remembered);
        }
        let is_lost = |endpoint: &ClusterEndpoint| !after.partitions.contains_key(endpoint);
        let lost = known.into_iter().filter(|(endpoint, known)| was_member(known) && is_lost(endpoint));
        // Bounded, as a database may be unread for good.
        let lost: Vec<_> = lost.take(records::MOST_NAMES).collect();
        after.partitions.extend(lost);
        (after, fleet)
    }

    /// Whose columns the hub may remember as they were, with what tells their schemas now. Of who is new there is nothing to remember.
    pub fn outdated(&mut self, fleet: &Fleet) -> BTreeMap<ClusterEndpoint, String> {
        let mut outdated = BTreeMap::new();
        for (endpoint, partition) in fleet {
            let (Inventory::Known(_), Some(now)) = (&partition.beat.inventory, &partition.beat.hash) else { continue };
            let Some(known) = self.partitions.get_mut(endpoint) else { continue };
            match &known.schema_hash {
                None => known.schema_hash = Some(now.clone()),
                Some(before) if before != now => drop(outdated.insert(endpoint.clone(), now.clone())),
                Some(_) => {}
            }
        }
        outdated
    }

    /// Takes in which guards hold now: what was dark and is no longer gets new clocks.
    pub fn note(&mut self, held: &BTreeSet<Scope>, now: Timestamp, time_to_live: SignedDuration) {
        for scope in held {
            let darkness = self.darkness.entry(scope.clone()).or_insert(Darkness::Dark { since: now });
            if let Darkness::Over { .. } = darkness {
                *darkness = Darkness::Dark { since: now };
            }
        }
        for (scope, darkness) in &mut self.darkness {
            if matches!(darkness, Darkness::Dark { .. }) && !held.contains(scope) {
                *darkness = Darkness::Over { at: now };
            }
        }
        self.forget_recovered(now, time_to_live);
    }

    /// A darkness that is over for longer than a time to live says nothing any more.
    fn forget_recovered(&mut self, now: Timestamp, time_to_live: SignedDuration) {
        self.darkness.retain(|_, darkness| match darkness {
            Darkness::Dark { .. } => true,
            Darkness::Over { at } => now.duration_since(*at) <= time_to_live,
        });
    }

    /// A pass saw nothing, or not everything. What falls silent meanwhile may be the hub's own trouble: when sight returns, watching begins anew.
    pub fn lose_sight(&mut self) {
        self.watching_since = None;
        self.partitions.values_mut().for_each(|remembered| remembered.silent_since = None);
    }

    /// Of silences that began before then, only what came after it counts.
    pub fn watch_silences_from(&mut self, at: Timestamp) {
        for since in self.partitions.values_mut().filter_map(|known| known.silent_since.as_mut()) {
            *since = (*since).max(at);
        }
    }

    /// Takes in which guards hold now, and why. What holds no longer stays: that it is over may have to be recorded once more.
    pub fn note_guards(&mut self, active: &BTreeMap<GuardReason, String>, now: Timestamp) {
        for (label, guard) in &mut self.guards {
            if guard.is_active && !active.contains_key(label) {
                (guard.is_active, guard.since) = (false, now);
            }
        }
        for (label, reason) in active {
            self.note_guard(*label, reason, now);
        }
    }

    /// Takes in that one guard holds, and nothing of the others.
    pub fn note_guard(&mut self, label: GuardReason, reason: &str, now: Timestamp) {
        if !self.guards.get(&label).is_some_and(|guard| guard.is_active) {
            let (since, reason) = (records::kept_time(now), records::kept_text(reason));
            self.guards.insert(label, RememberedGuard { is_active: true, since, reason });
        }
    }

    /// Whether the last pass of whoever remembers this saw nothing.
    pub fn is_blind(&self) -> bool {
        self.is_held_by(GuardReason::IncompleteRead)
    }

    /// Whether a guard of this reason held in the last pass.
    pub fn is_held_by(&self, reason: GuardReason) -> bool {
        self.guards.get(&reason).is_some_and(|guard| guard.is_active)
    }

    /// Databases of which many partitions were held in the last pass.
    pub fn dark_databases(&self) -> impl Iterator<Item = &DatabaseName> {
        self.darkness.iter().filter_map(|(scope, darkness)| match (scope, darkness) {
            (Scope::Database(database), Darkness::Dark { .. }) => Some(database),
            _ => None,
        })
    }

    /// Until when what a scope's guard held is not believed to be gone, if it held a short while ago: what many lost together does not come back together.
    pub fn recovering_until(&self, scope: &Scope, now: Timestamp, time_to_live: SignedDuration) -> Option<Timestamp> {
        let restarted = match self.darkness.get(scope)? {
            Darkness::Dark { .. } => now,
            Darkness::Over { at } => *at,
        };
        restarted.checked_add(time_to_live).ok().filter(|until| *until >= now)
    }

    /// Whether a partition's silence was watched long enough to be believed: from its beginning, or for one time to live, be it by an earlier process.
    pub fn has_watched(&self, partition: &Partition, now: Timestamp, time_to_live: SignedDuration) -> bool {
        let is_long = |since: Timestamp| now.duration_since(since) >= time_to_live;
        let known = self.partitions.get(&partition.beat.endpoint);
        // Nobody watched the rows go.
        let watching_since = self.watching_since.filter(|_| !partition.is_forgotten());
        let watching_since = watching_since.map(|since| match known.map(|known| known.watch) {
            Some(Watch::Since(at)) => since.max(at),
            _ => since,
        });
        watching_since.is_some_and(|since| since <= partition.beat.received || is_long(since))
            || known.and_then(|known| known.silent_since).is_some_and(is_long)
    }
}
