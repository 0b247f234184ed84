//! What one process of the hub's agent knows of the membership, what it takes for recorded, and when it looked. Pure: [`pass`](crate::pass) reads and writes the table that remembers the membership;
//! the explorer stands for it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kql::endpoint::ClusterEndpoint;
use shared::runtime::{GuardReason, PartitionState};

use crate::{
    fleet::{Beat, Fleet, Partition},
    guards::HoldReason,
    hub::Hub,
    membership::{MemberRecord, Membership, Scope, Thresholds, Watch},
    plan::Decision,
    settings::Settings,
    setup::LOOK_AGAIN_AFTER,
    trust::Trust,
};

/// When heartbeats came to the hub, of whomever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrivals {
    /// The first and the last of each period in which some did, in their order.
    periods: Vec<(Timestamp, Timestamp)>,
    /// The hub server's clock when it told.
    now: Timestamp,
}

impl Arrivals {
    /// Of periods in any order. Those that are still to come, by a clock that was set back, come now.
    pub fn new(periods: impl IntoIterator<Item = (Timestamp, Timestamp)>, now: Timestamp) -> Self {
        let mut periods: Vec<_> = periods.into_iter().map(|(first, last)| (first.min(now), last.min(now))).collect();
        periods.sort_unstable();
        Self { periods, now }
    }

    /// How far back they have to be known: an outage that is over within one time to live counts, and it began before that.
    pub fn window(thresholds: &Thresholds) -> SignedDuration {
        thresholds.time_to_live.saturating_add(thresholds.silence())
    }

    /// When the last outage within one time to live was over, if there was one: in which the hub took no heartbeat for so long that everybody looked silent. Then the silence of one tells nothing.
    pub fn end_of_outage(&self, thresholds: &Thresholds) -> Option<Timestamp> {
        let mut before = self.now.saturating_sub(Self::window(thresholds)).unwrap_or(self.now);
        let ends = self.periods.iter().copied().chain([(self.now, self.now)]).filter_map(|(first, last)| {
            let gap = first.duration_since(before);
            before = last;
            (gap > thresholds.silence()).then_some(first)
        });
        ends.last()
    }
}

/// Lives as long as the process.
#[derive(Debug, Clone, Default)]
pub struct Watcher {
    /// What it knows.
    pub membership: Membership,
    /// What the table of memberships says.
    pub recorded: Membership,
    /// When that table was read, by the hub server's clock; none where it is to be read again.
    pub recorded_read_at: Option<Timestamp>,
    /// When a pass that saw nothing recorded its guards last, by this machine's clock.
    pub guards_recorded_at: Option<Timestamp>,
    /// The hub server's clock at the last pass that saw everything.
    pub seen_at: Option<Timestamp>,
    /// Whether this process has looked since, and seen nothing.
    pub is_blind: bool,
}

/// What is to be read of the table before a pass is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Nothing: what this process knows is what it has watched.
    Nothing,
    /// What another agent may have written.
    Again,
    /// All: this process is new, or has not seen for too long.
    Anew,
}

impl Watcher {
    /// Another agent may have led meanwhile: what was recorded counts, and watching begins anew.
    pub fn take_over(&mut self) {
        self.seen_at = None;
        // It may have recorded other guards: until they are read again, a pass that sees nothing tells of its own alone.
        self.membership.guards.clear();
        self.recorded.guards.clear();
    }

    /// A pass saw nothing.
    pub fn lose_sight(&mut self) {
        self.membership.lose_sight();
        (self.is_blind, self.recorded_read_at) = (true, None);
    }

    /// What a pass at this time must know. `patience`: how long after its last look a process looks again that keeps to its schedule.
    pub fn due(&self, now: Timestamp, patience: SignedDuration) -> Recall {
        let is_fresh = |at: Timestamp| now.duration_since(at).unsigned_abs() < LOOK_AGAIN_AFTER;
        if self.seen_at.is_none_or(|at| now.duration_since(at) > patience) {
            Recall::Anew
        } else if self.recorded_read_at.is_some_and(is_fresh) {
            Recall::Nothing
        } else {
            Recall::Again
        }
    }

    /// Whether this process was blind, or the one before it when it ended: what was recorded before that is no silence that was watched.
    fn was_blind(&self, recorded: &Membership) -> bool {
        self.seen_at.is_some() || self.is_blind || recorded.is_blind()
    }

    /// Whether a silence would be believed because it is recorded, so that it has to be told from an outage of which nobody could record anything.
    pub fn believes(&self, recorded: &Membership) -> bool {
        !self.was_blind(recorded) && recorded.partitions.values().any(|known| known.silent_since.is_some())
    }

    /// Begins with what is recorded. `outage`: when one was over in which the hub took nobody's heartbeats.
    pub fn begin(&mut self, recorded: Membership, outage: Option<Timestamp>, now: Timestamp) {
        self.membership.clone_from(&recorded);
        if self.was_blind(&recorded) {
            self.membership.lose_sight();
        } else if let Some(outage) = outage {
            self.membership.watch_silences_from(outage);
        }
        (self.recorded, self.recorded_read_at) = (recorded, Some(now));
    }

    /// Another agent may have written into the table: one that runs once, or an old leader. Whoever sees ends what guards that recorded, and writes anew what it says otherwise of partitions, or the
    /// next process would go by that. `is_whole`: whether the table has all columns, or else all of it is told otherwise than it was written.
    pub fn take_in(&mut self, recorded: Membership, now: Timestamp, time_to_live: SignedDuration, is_whole: bool) {
        self.membership.take_in(&recorded, now, time_to_live);
        self.recorded_read_at = Some(now);
        if is_whole {
            self.recorded = recorded;
        } else {
            (self.recorded.guards, self.recorded.darkness) = (recorded.guards, recorded.darkness);
        }
    }

    /// Judges what a pass saw.
    pub fn see(&mut self, beats: Vec<Beat>, hub: &Hub, trust: &Trust, now: Timestamp, settings: &Settings) -> Fleet {
        let Settings { thresholds, guards, .. } = settings;
        let (membership, fleet) = self.membership.step(beats, hub, trust, now, thresholds, &guards.zone_attribute);
        self.membership = membership;
        (self.seen_at, self.is_blind, self.guards_recorded_at) = (Some(now), false, None);
        fleet
    }

    /// Whoever has expired in the pass that was the first to find it silent, and whose table nobody has looked at: its silence is watched from now on.
    pub fn doubt_silences<'a>(
        &mut self,
        fleet: &Fleet,
        unlooked: impl Iterator<Item = &'a ClusterEndpoint>,
        now: Timestamp,
    ) {
        let has_just_expired =
            |partition: &Partition| partition.state == PartitionState::Expired && partition.since == now;
        for endpoint in unlooked.filter(|endpoint| fleet.get(*endpoint).is_some_and(has_just_expired)) {
            let known = self.membership.partitions.get_mut(endpoint);
            // Whose table was looked at before it expired was silent then.
            if let Some(known) = known.filter(|known| known.silent_since == Some(now)) {
                known.watch = Watch::Since(now);
            }
        }
    }

    /// Remembers which guards hold, and which databases the hub lacks.
    pub fn note(&mut self, decision: &Decision, now: Timestamp, time_to_live: SignedDuration) {
        let held = match decision {
            Decision::Hold(hold) => std::slice::from_ref(&hold.reason),
            Decision::Apply(plan) => {
                self.membership.note_missing(&plan.missing_databases, now);
                &plan.held
            }
        };
        let mut scopes: BTreeSet<Scope> = held.iter().flat_map(HoldReason::scopes).collect();
        // Then nothing was judged of databases.
        if matches!(decision, Decision::Hold(_)) {
            scopes.extend(self.membership.dark_databases().cloned().map(Scope::Database));
        }
        self.membership.note(&scopes, now, time_to_live);
        let active = held.iter().map(|reason| (reason.label(), reason.to_string())).collect();
        self.membership.note_guards(&active, now);
    }

    /// What a restart must not lose and the table does not say.
    pub fn to_record(&self) -> Vec<MemberRecord> {
        self.membership.changed_since(&self.recorded)
    }

    /// That was written.
    pub fn is_recorded(&mut self) {
        self.recorded.written(&self.membership);
    }

    /// The same for a pass that saw nothing: which guards hold, and nothing of partitions. Another agent may have recorded more of them since this one last looked, or, as one that runs once and
    /// sees, that this one is over: it is recorded anew from time to time.
    pub fn guards_to_record(&mut self, now: Timestamp) -> Vec<MemberRecord> {
        if self.guards_recorded_at.is_some_and(|at| now.duration_since(at).unsigned_abs() >= LOOK_AGAIN_AFTER) {
            self.recorded.guards.remove(&GuardReason::IncompleteRead);
        }
        self.membership.guards_changed_since(&self.recorded).collect()
    }

    /// Those were written.
    pub fn guards_are_recorded(&mut self, now: Timestamp) {
        self.recorded.guards.clone_from(&self.membership.guards);
        self.guards_recorded_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, hub_config, now};

    #[test]
    fn an_outage_is_a_time_without_anybodys_heartbeats_that_ended_within_one_time_to_live() {
        let (thresholds, mins) = (Settings::from(&hub_config("")).thresholds, SignedDuration::from_mins);
        let silence = SignedDuration::from_secs(12 * 60 + 30);
        assert_eq!((thresholds.time_to_live, thresholds.silence()), (mins(60), silence));
        let at = |minutes: i64| now() + mins(minutes);
        for (periods, ended) in [
            (&[][..], Some(100)),
            (&[(30, 90)], None),
            (&[(20, 88)], None),
            (&[(20, 87)], Some(100)),
            // It began long before.
            (&[(-900, -800), (40, 95)], Some(40)),
            (&[(20, 29), (41, 95)], None),
            (&[(20, 28), (41, 95)], Some(41)),
            // As long as the silence of one that is not suspect yet, from where the window begins; and longer.
            (&[(40, 95)], None),
            (&[(41, 95)], Some(41)),
        ] {
            let arrivals = Arrivals::new(periods.iter().map(|(first, last)| (at(*first), at(*last))), at(100));
            assert_eq!(arrivals.end_of_outage(&thresholds), ended.map(at), "{periods:?}");
        }
        // Ahead of a clock that was set back.
        let ahead = Arrivals::new([(at(30), at(90)), (at(900), at(990))], at(100));
        assert_eq!(ahead.end_of_outage(&thresholds), None);
    }

    #[test]
    fn whoever_expires_in_the_pass_that_first_finds_it_silent_leaves_only_if_its_table_was_looked_at() {
        let (settings, eu, mins) = (Settings::from(&hub_config("")), cluster("eu"), SignedDuration::from_mins);
        let time_to_live = settings.thresholds.time_to_live;
        let mut watcher = Watcher::default();
        let see = |watcher: &mut Watcher, minutes: i64| {
            let beat = Beat { received: now(), new_beats: 1, ..Beat::forgotten(eu.clone()) };
            watcher.see(vec![beat], &Hub::default(), &Trust::default(), now() + mins(minutes), &settings)
        };
        let is_believed = |watcher: &Watcher, fleet: &Fleet, minutes: i64| {
            watcher.membership.has_watched(&fleet[&eu], now() + mins(minutes), time_to_live)
        };
        see(&mut watcher, 0);
        // Between these two passes it has become silent, and expired.
        for (is_looked_at, believed) in [(true, true), (false, false)] {
            let mut watcher = watcher.clone();
            let fleet = see(&mut watcher, 61);
            watcher.doubt_silences(&fleet, [&eu].into_iter().filter(|_| !is_looked_at), now() + mins(61));
            assert_eq!(is_believed(&watcher, &fleet, 61), believed);
            let fleet = see(&mut watcher, 121);
            watcher.doubt_silences(&fleet, [&eu].into_iter(), now() + mins(121));
            assert!(is_believed(&watcher, &fleet, 121), "it was watched for one time to live");
        }
        // One that was silent before was looked at then.
        see(&mut watcher, 30);
        let fleet = see(&mut watcher, 61);
        watcher.doubt_silences(&fleet, [&eu].into_iter(), now() + mins(61));
        assert!(is_believed(&watcher, &fleet, 61));
    }
}
