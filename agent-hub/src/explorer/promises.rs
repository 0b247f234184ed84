//! What must never happen between two passes, and what must happen at last, whatever the settings: what depends on one is reckoned from it. Each promise's name is the text of
//! its assertion. Pure.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
};

use jiff::SignedDuration;
use kql::endpoint::ClusterEndpoint;
use shared::runtime::PartitionState;

use super::world::{Event, INTERVAL, Passed, World};
use crate::{
    guards::{GuardSettings, HoldReason},
    membership::{Membership, Remembered, Scope, Thresholds},
    settings::Settings,
    trust::Trust,
};

/// Worlds that come to rest, by their keys: how many passes each has had for it.
pub(super) type AtRest = HashSet<(u64, u64)>;

impl World {
    /// What must never happen.
    pub(super) fn check(&self, before: &Self, event: Event, passed: &Passed, settings: &Settings) {
        let (was, is) = (before.members(), self.members());
        let left: BTreeSet<usize> = self.of(&was, &is);
        let joined: BTreeSet<usize> = self.of(&is, &was);
        for partition in joined {
            assert!(self.is_admitted(partition), "nobody_joins_against_a_persons_word: {partition} after {event:?}");
        }
        let sees_nothing = matches!(event, Event::ReadFails | Event::Outage | Event::Unseen | Event::GroupsUnread);
        assert!(!sees_nothing || was == is, "a_failed_reading_changes_nothing: {event:?}");
        if passed.is_applied && event != Event::GroupsUnread {
            let stays = (0..self.beats.len())
                .find(|partition| self.is_blocked(*partition) && is.contains(&Self::endpoint(*partition)));
            assert_eq!(stays, None, "who_is_blocked_is_out_after_a_pass_that_applies: {event:?}");
        }
        // Whoever a person blocks by name goes without a guard.
        let left: BTreeSet<usize> = left.into_iter().filter(|partition| !self.is_blocked(*partition)).collect();
        for partition in &left {
            let is_alive = self.age(*partition).is_none_or(|age| age <= settings.thresholds.time_to_live);
            assert!(
                event != Event::TableUnread(*partition) || !self.is_admitted(*partition),
                "whose_heartbeats_cannot_be_read_never_leaves: {partition} after {event:?}"
            );
            assert!(
                !is_alive || !self.is_admitted(*partition),
                "a_partition_within_its_time_to_live_never_leaves: {partition} after {event:?}"
            );
        }
        if passed.is_acknowledged {
            self.check_acknowledged(&left, event);
        } else {
            self.check_guards(before, &left, event, passed, settings);
        }
    }

    /// The partitions that are in one set and not in the other.
    fn of(&self, of: &BTreeSet<ClusterEndpoint>, without: &BTreeSet<ClusterEndpoint>) -> BTreeSet<usize> {
        let is_in = |partition: &usize| {
            let endpoint = Self::endpoint(*partition);
            of.contains(&endpoint) && !without.contains(&endpoint)
        };
        (0..self.beats.len()).filter(is_in).collect()
    }

    /// By a person's word: these, in this silence.
    fn check_acknowledged(&self, left: &BTreeSet<usize>, event: Event) {
        let shown = self.acknowledged.as_ref().map(|(_, silences)| silences.clone()).unwrap_or_default();
        for partition in left {
            let silence = self.beats[*partition].filter(|_| self.is_admitted(*partition));
            assert!(
                shown.contains(&(Self::endpoint(*partition), silence)),
                "an_acknowledgement_releases_only_whom_it_showed_in_that_silence: {partition} after {event:?}"
            );
        }
    }

    /// Without one.
    fn check_guards(&self, before: &Self, left: &BTreeSet<usize>, event: Event, passed: &Passed, settings: &Settings) {
        let time_to_live = settings.thresholds.time_to_live;
        // Or its beats are in no row.
        let is_unread = |partition: usize| event == Event::TableUnread(partition);
        let is_silent = |partition: usize| {
            self.has_no_rows[partition]
                || is_unread(partition)
                || self.age(partition).is_none_or(|age| age > time_to_live)
        };
        let members: Vec<usize> = (0..self.beats.len())
            .filter(|partition| before.members().contains(&Self::endpoint(*partition)) && !self.is_blocked(*partition))
            .collect();
        let is_dark = (0..self.beats.len()).all(is_silent);
        assert!(!is_dark || left.is_empty(), "nobody_leaves_a_fleet_that_is_dark: {left:?} after {event:?}");
        // Who beats and is no member yet may become one while the last other one leaves.
        let others = (0..self.beats.len()).filter(|partition| !is_silent(*partition));
        let has_listed = members.iter().copied().chain(others).any(|partition| self.is_admitted(partition));
        let is_within_limit = |partition: &usize| !self.is_beyond_limit(*partition, settings);
        assert!(
            has_listed || !left.iter().any(is_within_limit),
            "a_list_of_nobody_empties_no_hub: {left:?} after {event:?}"
        );
        let zones: BTreeSet<&str> = self.zones.iter().copied().flatten().collect();
        for zone in zones.into_iter().map(Some).chain([None]) {
            // Whose table is not read is neither.
            let is_in =
                |partition: &usize| (zone.is_none() || self.zones[*partition] == zone) && !is_unread(*partition);
            let silent = members.iter().filter(|partition| is_in(partition) && is_silent(**partition)).count();
            let beating = (0..self.beats.len()).filter(|partition| is_in(partition) && !is_silent(*partition)).count();
            let GuardSettings { mass_percent, mass_partitions, .. } = settings.guards;
            let is_mass = silent >= mass_partitions && silent * 100 >= (silent + beating) * mass_percent;
            let is_kept = |partition: &usize| is_in(partition) && !self.is_beyond_limit(*partition, settings);
            assert!(
                !is_mass || !left.iter().any(is_kept),
                "nobody_leaves_a_fleet_or_zone_of_which_so_many_are_silent: {left:?} of {zone:?} after {event:?}"
            );
        }
        for partition in left {
            let scopes =
                self.zones[*partition].map(|zone| Scope::Zone(zone.to_owned())).into_iter().chain([Scope::Fleet]);
            for held_at in scopes.filter_map(|scope| before.held_at.get(&scope)) {
                assert!(
                    event == Event::StaleLeads
                        || self.now.duration_since(*held_at) > time_to_live
                        || self.is_beyond_limit(*partition, settings),
                    "after_a_guard_held_all_have_one_time_to_live: {partition} after {event:?}"
                );
            }
        }
        let of_silence: Vec<usize> = left.iter().copied().filter(|partition| self.is_admitted(*partition)).collect();
        for partition in &of_silence {
            self.check_watched(before, *partition, event, settings);
        }
        assert!(
            left.len() <= (before.members().len() * settings.guards.removal_percent / 100).max(1),
            "the_removal_budget_bounds_every_pass: {left:?}"
        );
        let fresh = self.leader().and_then(|known| known.watching_since) == Some(self.now);
        let was_recorded = |partition: &usize| {
            let known = before.recorded.partitions.get(&Self::endpoint(*partition));
            known.is_some_and(|known| known.silent_since.is_some())
        };
        assert!(
            !fresh || of_silence.iter().all(was_recorded),
            "a_fresh_agent_removes_nobody_whose_silence_is_not_recorded: {left:?}"
        );
        assert!(
            left.is_empty() || passed.held.iter().all(|hold| !matches!(hold, HoldReason::IncompleteRead { .. })),
            "nobody_leaves_by_a_reading_that_is_not_complete: {left:?} after {event:?}"
        );
        self.check_time_limit(before, left, event, settings);
    }

    /// Who leaves and would stay if the guards had no time limit, leaves by it.
    fn check_time_limit(&self, before: &Self, left: &BTreeSet<usize>, event: Event, settings: &Settings) {
        if settings.guards.time_limit.is_none() {
            return;
        }
        let guards = GuardSettings { time_limit: None, ..settings.guards.clone() };
        let mut without = before.clone();
        without.step(event, &Settings { guards, ..settings.clone() });
        let kept = without.members();
        for partition in left.iter().filter(|partition| kept.contains(&Self::endpoint(**partition))) {
            assert!(
                self.is_beyond_limit(*partition, settings),
                "a_time_limit_releases_nobody_before_it: {partition} after {event:?}"
            );
        }
    }

    /// Whether there is a time limit of guards, and a partition has been expired or on no list for longer.
    fn is_beyond_limit(&self, partition: usize, settings: &Settings) -> bool {
        let is_unlisted = |since: jiff::Timestamp, limit: SignedDuration| self.now.duration_since(since) >= limit;
        let is_beyond = |limit: SignedDuration| {
            self.age(partition).is_none_or(|age| age > settings.thresholds.time_to_live + limit)
                || self.unlisted_since[partition].is_some_and(|since| is_unlisted(since, limit))
        };
        settings.guards.time_limit.is_some_and(is_beyond)
    }

    fn check_watched(&self, before: &Self, partition: usize, event: Event, settings: &Settings) {
        let is_long = |since: Option<jiff::Timestamp>| {
            since.is_some_and(|since| self.now.duration_since(since) >= settings.thresholds.time_to_live)
        };
        // A beat that came later ended the silence, and a pass that saw nothing, where that is recorded, ended the watch.
        let silent_since = |known: &Membership| {
            let since = known.partitions.get(&Self::endpoint(partition))?.silent_since?;
            let is_one = self.beats[partition].is_none_or(|beat| beat <= since);
            let gaps = self.blind_at.max(self.unread_at[partition]);
            let is_watched = gaps.is_none_or(|gap| gap <= since);
            (is_one && is_watched).then_some(since)
        };
        // Another process goes by the record, which says that a silence was watched. It knows of no gap of sight that could not be recorded, but of those in which the hub took no beats; and whom
        // only a guard keeps, or the patience with those who come and go, it may judge at once.
        let is_kept = |known: &Membership| {
            let state = known.partitions.get(&Self::endpoint(partition)).map(|known| known.state);
            matches!(state, Some(PartitionState::Expired | PartitionState::Flapping))
        };
        let is_another = matches!(event, Event::Crash | Event::Replaced(_) | Event::OtherLeads | Event::LeadsAgain)
            && (before.has_unrecorded_gap || before.leader().into_iter().chain([&before.recorded]).any(is_kept));
        let agent = before.leader().filter(|_| !is_another);
        let known = agent.unwrap_or(&before.recorded);
        let sight_since = self.sight_since.map(|since| self.unread_at[partition].map_or(since, |at| since.max(at)));
        let was_seen = sight_since.is_some_and(|since| self.beats[partition].is_some_and(|beat| since <= beat));
        assert!(
            event == Event::StaleLeads
                || was_seen
                || is_long(sight_since)
                || (!self.was_outage(&settings.thresholds) && is_long(silent_since(known))),
            "a_silence_that_overlaps_a_gap_of_sight_removes_nobody: {partition} after {event:?}"
        );
    }

    /// When nothing happens any more and nobody objects to anyone, as many passes converge as beats in a row are asked for, and one; and then nothing is changed. Where nobody
    /// flaps, and no return from silence comes to be forgotten, nothing is recorded either, and what is recorded is what the leader knows: within an hour where another may have written. What
    /// many worlds come to on their way is followed once.
    pub(super) fn settles(&self, known: &mut AtRest, settings: &Settings) {
        const QUIET: i32 = 3;
        let Thresholds { join_after, return_after, flapping_window, .. } = settings.thresholds;
        let mut world = self.clone();
        world.trust = Trust::default();
        let until_read_again = if self.is_led_by_what_is_recorded() { 0 } else { 6 };
        for passes in 1..=join_after.max(return_after) + 1 + until_read_again {
            world.step(Event::AllBeat, settings);
            if !known.insert((passes, world.key())) {
                return;
            }
        }
        let (hub, written) = (world.hub.clone(), world.written);
        let all: BTreeSet<_> = (0..world.beats.len()).map(Self::endpoint).collect();
        assert_eq!(world.members(), all, "whoever_beats_is_federated");
        let is_forgotten = |at: &jiff::Timestamp| world.now.duration_since(*at) + INTERVAL * QUIET > flapping_window;
        let is_unsettled =
            |known: &Remembered| known.state == PartitionState::Flapping || known.returns.iter().any(is_forgotten);
        let unsettled = world.recorded.partitions.values().any(is_unsettled);
        for _ in 0..QUIET {
            let held = world.step(Event::AllBeat, settings).held;
            assert_eq!((&world.hub, held), (&hub, Vec::new()), "a_quiet_world_is_not_changed");
        }
        assert!(unsettled || world.written == written, "a_quiet_world_is_not_written_to: {:?}", world.recorded);
        let unrecorded = world.leader().map(|known| known.changed_since(&world.recorded));
        assert_eq!(unrecorded, Some(Vec::new()), "what_is_recorded_of_a_quiet_world_is_what_its_leader_knows");
    }

    /// A guard that never ended would keep the dead for ever: one that stays silent leaves while the others beat, and then nothing holds. But where the settings call so few of a
    /// fleet, or of a zone that is as small, so many that they are not believed, and set no time limit.
    pub(super) fn lets_go(&self, settings: &Settings) {
        let GuardSettings { mass_percent, mass_partitions, time_limit, .. } = settings.guards;
        let patience = settings.thresholds.flapping_window + settings.thresholds.time_to_live * 3;
        let patience = patience + time_limit.unwrap_or_default();
        let of_zone = self.zones.iter().filter(|zone| zone.is_some() && **zone == self.zones[0]).count();
        let is_mass = |of: usize| of > 0 && mass_partitions == 1 && 100 >= of * mass_percent;
        let was_member = self.members().contains(&Self::endpoint(0));
        let (members, held) = self.when_only(1..self.beats.len(), patience, settings);
        // Who was never let in is not kept either. Its last beats may let it in, once nobody objects.
        let is_let_in = was_member || members.contains(&Self::endpoint(0));
        let is_kept = (is_mass(self.beats.len()) || is_mass(of_zone)) && is_let_in && time_limit.is_none();
        let expected: BTreeSet<_> = (usize::from(!is_kept)..self.beats.len()).map(Self::endpoint).collect();
        assert_eq!((members, held.is_empty()), (expected, !is_kept), "who_stays_silent_alone_leaves: {held:?}");
    }

    /// Where guards have a time limit, also a majority that stays silent leaves. Nobody flaps in these worlds.
    pub(super) fn lets_a_majority_go(&self, settings: &Settings) {
        let Some(limit) = settings.guards.time_limit else { return };
        let patience = settings.thresholds.time_to_live * 2 + limit + INTERVAL * 4;
        let expected = (BTreeSet::from([Self::endpoint(0)]), Vec::new());
        assert_eq!(self.when_only(0..1, patience, settings), expected, "a_silent_majority_leaves_after_the_time_limit");
    }

    /// Who is a member, and what holds, when these partitions alone have beaten for so long, nobody objects to anyone, and no plan is acknowledged.
    fn when_only(
        &self,
        beating: Range<usize>,
        time: SignedDuration,
        settings: &Settings,
    ) -> (BTreeSet<ClusterEndpoint>, Vec<HoldReason>) {
        let mut world = self.clone();
        world.trust = Trust::default();
        world.acknowledged = None;
        let mut held = Vec::new();
        let until = world.now + time;
        while world.now < until {
            world.now += INTERVAL;
            beating.clone().for_each(|partition| world.beat(partition));
            held = world.pass(settings, Event::Silence).held;
        }
        (world.members(), held)
    }
}
