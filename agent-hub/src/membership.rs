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

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use kql::endpoint::ClusterEndpoint;
use shared::runtime::{GuardReason, PartitionState};

use crate::{
    fleet::{Beat, Fleet, Inventory, Partition, clock_problem, missed_beats},
    hub::Hub,
    trust::{Admission, Trust},
};

pub use missing::MissingDatabases;
pub use records::MemberRecord;

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
}

impl Remembered {
    /// What is to be said of it.
    fn told(&self) -> Option<&String> {
        self.reason.as_ref().or(self.problem.as_ref())
    }
}

/// The most returns that are remembered; more than any sensible `flapping_returns`.
const MAX_RETURNS: usize = 16;

/// What fell silent together: the fleet, or all partitions of one zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All partitions.
    Fleet,
    /// Those of one zone.
    Zone(String),
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
    pub missing: MissingDatabases,
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
        let Self { partitions: known, darkness, guards, missing, watching_since: watching } = self.not_later_than(now);
        let (partitions, watching_since) = (BTreeMap::new(), watching.or(Some(now)));
        let mut after = Self { partitions, darkness, guards, missing, watching_since };
        let mut fleet = Fleet::new();
        // Who is listed by a group that could not be read is no member as far as can be seen: what is known of it stays.
        let is_unread = hub.databases.values().any(|database| database.groups.is_err());
        let was_member = |known: &Remembered| is_unread && known.is_member;
        for (endpoint, mut beat) in newest {
            // Of what came while nobody watched, only the newest is in a row with what comes now.
            let unwatched = known.get(&endpoint).filter(|_| watching.is_none());
            // Rows may go before their time: whoever has none, or older ones only, is silent since its last beat that was seen.
            let last = known.get(&endpoint).map_or(beat.received, |known| beat.received.max(known.counted.min(now)));
            let age = now.duration_since(last);
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
            let mut remembered = step(known.get(&endpoint), &sight, thresholds);
            remembered.is_member |= known.get(&endpoint).is_some_and(was_member);
            remembered.counted = last;
            if !beat.metadata.is_empty() {
                remembered.zone = beat.attribute(zone_attribute).filter(|zone| !zone.is_empty());
            }
            remembered.problem = beat.problems.first().map(ToString::to_string);
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
        self.guards.get(&GuardReason::IncompleteRead).is_some_and(|guard| guard.is_active)
    }

    /// Until when a scope's clocks have run anew, if they have and that is still to come.
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
        let silent_since = self.partitions.get(&partition.beat.endpoint).and_then(|remembered| remembered.silent_since);
        // Nobody watched the rows go.
        let watching_since = self.watching_since.filter(|_| !partition.is_forgotten());
        watching_since.is_some_and(|since| since <= partition.beat.received || is_long(since))
            || silent_since.is_some_and(is_long)
    }
}

/// What is seen of one partition.
struct Sight {
    age: SignedDuration,
    new_beats: u64,
    is_member: bool,
    admission: Admission,
    now: Timestamp,
}

fn step(before: Option<&Remembered>, sight: &Sight, thresholds: &Thresholds) -> Remembered {
    let Sight { age, new_beats, is_member, admission, now } = sight;
    let mut after = before.cloned().unwrap_or_else(|| Remembered {
        // What our groups list was federated by whoever forgot it.
        state: if *is_member { PartitionState::Live } else { PartitionState::Joining },
        since: *now,
        silent_since: None,
        returns: Vec::new(),
        beats: 0,
        counted: Timestamp::UNIX_EPOCH,
        needs: thresholds.join_after,
        schema_hash: None,
        zone: None,
        reason: None,
        problem: None,
        is_member: false,
    });
    after.is_member = *is_member;
    let state_before = after.state;
    after.returns.retain(|at| now.duration_since(*at) <= thresholds.flapping_window);
    let is_silent = missed_beats(*age, 0, thresholds.interval) >= thresholds.suspect_after;
    // A beat that came later ended that silence, whoever saw it.
    after.silent_since = after.silent_since.filter(|since| now.duration_since(*since) <= *age);
    // Of a partition that was never seen before, its beats within the window count, also if the last is overdue: by the time to live it lives.
    let is_first = before.is_none() && *age <= thresholds.time_to_live;
    let first_beats = if is_first { (*new_beats).max(1) } else { 0 };
    if is_silent {
        after.beats = first_beats;
        after.silent_since = after.silent_since.or(Some(*now));
    } else {
        after.beats = after.beats.saturating_add((*new_beats).max(first_beats));
    }
    (after.state, after.reason) = match admission {
        Admission::Blocked => (PartitionState::Blocked, Some("it is listed in blockedPartitions".to_owned())),
        Admission::Refused(why) => (PartitionState::Untrusted, Some(why.clone())),
        Admission::Admitted => after.admitted(*age, is_silent, *is_member, *now, thresholds),
    };
    if matches!(after.state, PartitionState::Live | PartitionState::Flapping | PartitionState::Joining) && !is_silent {
        after.silent_since = None;
    }
    // A member that beat while nobody saw it has expired anew: a guard's time limit is of one silence.
    let is_anew = *is_member && after.state == PartitionState::Expired && *age < now.duration_since(after.since);
    if after.state != state_before || before.is_none() || is_anew {
        after.since = *now;
    }
    after
}

impl Remembered {
    /// The next state of a partition that nobody objects to, and its reason.
    fn admitted(
        &mut self,
        age: SignedDuration,
        is_silent: bool,
        is_member: bool,
        now: Timestamp,
        thresholds: &Thresholds,
    ) -> (PartitionState, Option<String>) {
        use PartitionState::{Blocked, Expired, Flapping, Joining, Live, Suspect, Untrusted};
        let was = match self.state {
            Blocked | Untrusted if is_member => Live,
            Blocked | Untrusted => Joining,
            // It has left, and comes back as a new one that has to show more.
            Expired if !is_member && !is_silent => {
                self.needs = thresholds.return_after;
                Joining
            }
            Expired if is_member && age <= thresholds.time_to_live => Suspect,
            // Another agent has let it in.
            Joining if is_member => {
                if is_silent {
                    Suspect
                } else {
                    Live
                }
            }
            other => other,
        };
        // A partition that comes and goes is kept through its silences, and reported.
        let patience = if was == Flapping {
            thresholds.flapping_window.max(thresholds.time_to_live)
        } else {
            thresholds.time_to_live
        };
        match was {
            _ if age > patience => (Expired, None),
            Live if is_silent => (Suspect, None),
            Live => (Live, None),
            Joining if self.beats >= self.needs => (if is_silent { Suspect } else { Live }, None),
            Joining => (Joining, Some(format!("{} of {} beats in a row", self.beats, self.needs))),
            Flapping if self.flaps(thresholds) || is_silent => (Flapping, Some(self.flapping_reason(thresholds))),
            Flapping => (Live, None),
            Suspect if is_silent => (Suspect, None),
            Suspect if self.beats >= thresholds.return_after => {
                self.returns.push(now);
                self.returns.drain(..self.returns.len().saturating_sub(MAX_RETURNS));
                if self.flaps(thresholds) { (Flapping, Some(self.flapping_reason(thresholds))) } else { (Live, None) }
            }
            Suspect => (Suspect, Some(format!("{} of {} beats in a row", self.beats, thresholds.return_after))),
            Expired | Blocked | Untrusted => (Expired, None),
        }
    }

    const fn flaps(&self, thresholds: &Thresholds) -> bool {
        self.returns.len() >= thresholds.flapping_returns
    }

    fn flapping_reason(&self, thresholds: &Thresholds) -> String {
        format!("it returned from silence {} times within {:#}", self.returns.len(), thresholds.flapping_window)
    }
}

#[cfg(test)]
mod tests {
    use PartitionState::{Blocked, Expired, Flapping, Joining, Live, Suspect, Untrusted};

    use super::*;
    use crate::{settings::Settings, testing::hub_config};

    /// Beats every ten minutes, one hour to live.
    fn thresholds(fields: &str) -> Thresholds {
        Settings::from(&hub_config(fields)).thresholds
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_mins(minutes)
    }

    /// What became of a partition in passes: when each runs, when the newest beat came, how many came since the last pass, and whether it is a member.
    fn states(thresholds: &Thresholds, passes: &[(i64, i64, u64, bool)]) -> Vec<PartitionState> {
        let mut known = None;
        passes
            .iter()
            .map(|(now, beat, new_beats, is_member)| {
                let sight = Sight {
                    age: at(*now).duration_since(at(*beat)),
                    new_beats: *new_beats,
                    is_member: *is_member,
                    admission: Admission::Admitted,
                    now: at(*now),
                };
                let after = step(known.as_ref(), &sight, thresholds);
                let state = after.state;
                known = Some(after);
                state
            })
            .collect()
    }

    #[test]
    fn a_partition_joins_falls_silent_expires_and_comes_back_as_one_that_has_to_show_more() {
        let passes = [
            (0, 0, 1, false),
            (12, 0, 0, true),
            (13, 0, 0, true),
            (60, 0, 0, true),
            (61, 0, 0, true),
            (70, 0, 0, false),
            (80, 80, 1, false),
            (90, 90, 1, false),
        ];
        let expected = [Live, Live, Suspect, Suspect, Expired, Expired, Joining, Live];
        assert_eq!(states(&thresholds(""), &passes), expected);
    }

    #[test]
    fn a_silent_partition_is_live_again_after_beats_in_a_row_and_one_lost_beat_in_between_begins_anew() {
        let passes = [
            (0, 0, 1, true),
            (20, 0, 0, true),
            (21, 21, 1, true),
            (40, 21, 0, true),
            (41, 41, 1, true),
            (51, 51, 1, true),
        ];
        assert_eq!(states(&thresholds(""), &passes), [Live, Suspect, Suspect, Suspect, Suspect, Live]);
    }

    #[test]
    fn a_beat_that_nobody_watched_ends_the_silence_before_it() {
        let seen = |known: &Remembered, now: i64, beat: i64| {
            let sight = Sight {
                age: at(now).duration_since(at(beat)),
                new_beats: 0,
                is_member: true,
                admission: Admission::Admitted,
                now: at(now),
            };
            step(Some(known), &sight, &thresholds(""))
        };
        let live = step(
            None,
            &Sight {
                age: SignedDuration::ZERO,
                new_beats: 1,
                is_member: true,
                admission: Admission::Admitted,
                now: at(0),
            },
            &thresholds(""),
        );
        let silent = seen(&live, 20, 0);
        assert_eq!(silent.silent_since, Some(at(20)));
        assert_eq!(seen(&silent, 40, 0).silent_since, Some(at(20)));
        // It beat while no agent ran, and is silent again.
        assert_eq!(seen(&silent, 130, 60).silent_since, Some(at(130)));
        // So it is when it had expired before.
        let expired = seen(&silent, 70, 0);
        let after = |now, beat| {
            let known = seen(&expired, now, beat);
            (known.state, known.since)
        };
        assert_eq!([after(200, 0), after(200, 100)], [(Expired, at(70)), (Expired, at(200))]);
        let mut membership = Membership {
            partitions: [(ClusterEndpoint::parse("https://eu.kusto.windows.net").unwrap(), silent)].into(),
            ..Membership::default()
        };
        membership.lose_sight();
        assert_eq!(membership.partitions.values().next().unwrap().silent_since, None);
    }

    #[test]
    fn an_agent_that_runs_once_a_time_counts_each_beat_once_and_lets_in_who_comes_back() {
        let endpoint = ClusterEndpoint::parse("https://eu.kusto.windows.net").unwrap();
        let mut membership = Membership::default();
        let mut run = |now: i64, beat: i64| {
            let beats = vec![Beat { received: at(beat), new_beats: 9, ..Beat::forgotten(endpoint.clone()) }];
            let before = Membership { watching_since: None, ..membership.clone() };
            membership = before.step(beats, &Hub::default(), &Trust::default(), at(now), &thresholds(""), "geo").0;
            membership.partitions[&endpoint].state
        };
        let passes = [(90, 0), (100, 100), (101, 100), (102, 100), (110, 110)].map(|(now, beat)| run(now, beat));
        assert_eq!(passes, [Expired, Joining, Joining, Joining, Live]);
    }

    #[test]
    fn a_new_partition_may_have_to_beat_more_than_once() {
        let three = thresholds("membership: {joinAfterBeats: 3}, ");
        assert_eq!(
            states(&three, &[(0, 0, 1, false), (10, 10, 1, false), (20, 20, 1, false)]),
            [Joining, Joining, Live]
        );
        // What it sent before the first look counts, and what our groups list was federated already.
        assert_eq!(states(&three, &[(0, -1, 5, false)]), [Live]);
        assert_eq!(states(&three, &[(0, -20, 1, true)]), [Suspect]);
        assert_eq!(states(&thresholds(""), &[(0, -20, 1, false), (0, -90, 1, false)]), [Suspect, Expired]);
    }

    #[test]
    fn a_partition_that_comes_and_goes_flaps_is_kept_and_settles() {
        let mut passes = vec![(0, 0, 1, true)];
        for returned in [30, 60, 90] {
            passes.extend([(returned - 5, returned - 30, 0, true), (returned, returned, 2, true)]);
        }
        let mut expected = vec![Live, Suspect, Live, Suspect, Live, Suspect, Flapping];
        // Silent for five hours: kept. Then for longer than the window: gone.
        passes.extend([(390, 90, 0, true), (449, 90, 0, true), (451, 90, 0, true)]);
        expected.extend([Flapping, Flapping, Expired]);
        assert_eq!(states(&thresholds(""), &passes), expected);
        // Without another silence its returns are forgotten.
        let quiet: Vec<_> = passes[..7].iter().copied().chain([(460, 460, 30, true)]).collect();
        assert_eq!(states(&thresholds(""), &quiet).last(), Some(&Live));
    }

    #[test]
    fn a_persons_word_and_a_failed_check_outweigh_beats() {
        let (now, beat) = (at(0), at(0));
        let judge = |admission: Admission, before: Option<&Remembered>| {
            let sight = Sight { age: now.duration_since(beat), new_beats: 1, is_member: false, admission, now };
            step(before, &sight, &thresholds(""))
        };
        let live = judge(Admission::Admitted, None);
        let blocked = judge(Admission::Blocked, Some(&live));
        let refused = judge(Admission::Refused("no".to_owned()), Some(&live));
        assert_eq!((live.state, blocked.state, refused.state), (Live, Blocked, Untrusted));
        assert_eq!(refused.reason.as_deref(), Some("no"));
        assert_eq!(judge(Admission::Admitted, Some(&blocked)).state, Live, "and it joins anew when it is taken back");
    }
}
