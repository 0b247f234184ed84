//! One partition's way through the states. Pure; called by [`Membership::step`](super::Membership::step) for each.

use jiff::{SignedDuration, Timestamp};
use shared::runtime::PartitionState;

use super::{MAX_RETURNS, Remembered, Thresholds, Watch, records::kept_text};
use crate::{fleet::missed_beats, trust::Admission};

/// What is seen of one partition.
pub(super) struct Sight {
    pub(super) age: SignedDuration,
    pub(super) new_beats: u64,
    pub(super) is_member: bool,
    pub(super) admission: Admission,
    pub(super) now: Timestamp,
}

/// Of whose heartbeats nothing can be read, nothing is known anew: it stays as it is, whoever is a member stays one, and no silence of it is watched.
pub(super) fn unread(before: Option<&Remembered>, sight: &Sight, why: &str, thresholds: &Thresholds) -> Remembered {
    use PartitionState::{Blocked, Expired, Flapping, Joining, Live, Suspect, Untrusted};
    let mut after = Remembered::of(before, sight, thresholds);
    after.state = match after.state {
        Joining | Expired | Blocked | Untrusted if sight.is_member => Suspect,
        Joining | Blocked | Untrusted => Joining,
        state @ (Live | Suspect | Expired | Flapping) => state,
    };
    if before.is_none_or(|before| before.state != after.state) {
        // Beats of before are no return.
        (after.since, after.beats) = (sight.now, 0);
    }
    (after.silent_since, after.watch, after.reason) = (None, Watch::Lost, Some(kept_text(why)));
    after
}

pub(super) fn step(before: Option<&Remembered>, sight: &Sight, thresholds: &Thresholds) -> Remembered {
    let Sight { age, new_beats, is_member, admission, now } = sight;
    let mut after = Remembered::of(before, sight, thresholds);
    if after.watch == Watch::Lost {
        after.watch = Watch::Since(*now);
    }
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
    /// What is known of a partition before a look is judged.
    fn of(before: Option<&Self>, sight: &Sight, thresholds: &Thresholds) -> Self {
        let known = before.cloned().unwrap_or_else(|| Self {
            // What our groups list was federated by whoever forgot it.
            state: if sight.is_member { PartitionState::Live } else { PartitionState::Joining },
            since: sight.now,
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
            watch: Watch::Kept,
        });
        Self { is_member: sight.is_member, ..known }
    }

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

    use kql::endpoint::ClusterEndpoint;

    use super::*;
    use crate::{
        fleet::Beat,
        hub::Hub,
        membership::Membership,
        settings::Settings,
        testing::{cluster, hub_config},
        trust::Trust,
    };

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

    #[test]
    fn whose_heartbeats_cannot_be_read_stays_as_it_is_and_whoever_is_a_member_stays_one() {
        let judge = |before: Option<PartitionState>, is_member: bool| {
            let sight = Sight {
                age: SignedDuration::from_hours(9),
                new_beats: 0,
                is_member,
                admission: Admission::Admitted,
                now: at(600),
            };
            let live =
                Remembered { since: at(0), silent_since: Some(at(5)), ..Remembered::of(None, &sight, &thresholds("")) };
            let before = before.map(|state| Remembered { state, ..live });
            let after = unread(before.as_ref(), &sight, "no such column", &thresholds(""));
            assert_eq!((after.silent_since, after.reason.as_deref()), (None, Some("no such column")));
            assert_eq!(after.since == at(0), before.is_some_and(|before| before.state == after.state));
            after.state
        };
        let states = [Joining, Live, Suspect, Flapping, Expired, Blocked, Untrusted];
        let members = [Suspect, Live, Suspect, Flapping, Suspect, Suspect, Suspect];
        let others = [Joining, Live, Suspect, Flapping, Expired, Joining, Joining];
        assert_eq!(states.map(|state| judge(Some(state), true)), members);
        assert_eq!(states.map(|state| judge(Some(state), false)), others);
        assert_eq!([judge(None, true), judge(None, false)], [Live, Joining]);
    }

    /// A first pass that cannot read the table of one that it does not know.
    fn pass_of_nobody(endpoint: &ClusterEndpoint, thresholds: &Thresholds) -> Membership {
        let beat = Beat { unread: Some("no such column".into()), ..Beat::forgotten(endpoint.clone()) };
        Membership::default().step(vec![beat], &Hub::default(), &Trust::default(), at(0), thresholds, "geo").0
    }

    #[test]
    fn a_silence_in_which_a_partitions_heartbeats_could_not_be_read_was_not_watched() {
        let (thresholds, eu) = (thresholds(""), cluster("eu"));
        let pass = |known: &Membership, now: i64, unread: bool| {
            let unread = unread.then(|| "no such column".into());
            let received = if unread.is_some() { Timestamp::UNIX_EPOCH } else { at(0) };
            let beat = Beat { received, unread, ..Beat::forgotten(eu.clone()) };
            let (after, fleet) =
                known.step(vec![beat], &Hub::default(), &Trust::default(), at(now), &thresholds, "geo");
            let partition = &fleet[&eu];
            assert_eq!(partition.beat.received, at(0), "its last beat is known");
            let has_watched = after.has_watched(partition, at(now), thresholds.time_to_live);
            (after, has_watched)
        };
        let seen = pass(&Membership::default(), 0, false).0;
        let watched = pass(&seen, 61, false);
        assert!(watched.1, "from its beginning");
        let unread = pass(&watched.0, 70, true).0;
        let known = &unread.partitions[&eu];
        assert_eq!((known.counted, known.watch, known.silent_since), (at(0), Watch::Lost, None));
        let again = pass(&unread, 80, false);
        let later = pass(&again.0, 139, false);
        assert_eq!([again.1, later.1, pass(&later.0, 140, false).1], [false, false, true]);
        // Nobody is made up by it.
        let nobody = pass_of_nobody(&eu, &thresholds);
        assert!(nobody.partitions.is_empty(), "{nobody:?}");
        // A person's word counts all the same.
        let trust = Trust { blocked: [eu.clone()].into(), ..Trust::default() };
        let beat = Beat { unread: Some("no such column".into()), ..Beat::forgotten(eu.clone()) };
        let blocked = unread.step(vec![beat], &Hub::default(), &trust, at(80), &thresholds, "geo").0;
        assert_eq!(blocked.partitions[&eu].state, Blocked);
    }
}
