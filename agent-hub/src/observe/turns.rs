//! Whether a partition says two things in turn, as where two agents beat as one cluster: each takes back what the other says, and no beat by itself is wrong. Pure; asked
//! with each reading of the heartbeats.

use std::{collections::BTreeMap, mem};

use jiff::{SignedDuration, Timestamp};
use kql::endpoint::ClusterEndpoint;

/// So many returns to what was said before are no table that was made and dropped again.
const TOLD_AFTER: u32 = 3;

const TOLD: &str = "its heartbeats say one thing and another in turn: two agents may beat as this cluster, and each takes back what the other says";

/// What partitions say, and said before. Lives as long as the process.
#[derive(Debug, Default)]
pub(super) struct Turns(BTreeMap<ClusterEndpoint, Turn>);

#[derive(Debug)]
struct Turn {
    now: String,
    before: String,
    /// How often in a row it said again what it had said before the last.
    returns: u32,
    /// When the first beat that says this was received.
    since: Timestamp,
}

impl Turns {
    /// Takes in what a partition's newest beat says, told from all else by its hash. A sentence, where it has come in turn with something else: each time within
    /// `window` of the last.
    pub(super) fn hear(
        &mut self,
        partition: &ClusterEndpoint,
        hash: &str,
        received: Timestamp,
        window: SignedDuration,
    ) -> Option<&'static str> {
        let new = || Turn { now: hash.to_owned(), before: String::new(), returns: 0, since: received };
        let turn = self.0.entry(partition.clone()).or_insert_with(new);
        let is_recent = |since: Timestamp| received.duration_since(since) <= window;
        if turn.now != hash {
            turn.returns = if turn.before == hash && is_recent(turn.since) { turn.returns + 1 } else { 0 };
            turn.before = mem::replace(&mut turn.now, hash.to_owned());
            turn.since = received;
        }
        (turn.returns >= TOLD_AFTER && is_recent(turn.since)).then_some(TOLD)
    }

    /// Forgets the partitions of which the heartbeats tell no more.
    pub(super) fn retain(&mut self, beats: impl Fn(&ClusterEndpoint) -> bool) {
        self.0.retain(|partition, _| beats(partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, now};

    /// After which of the beats something is told: when each came, in minutes, and what it says. One hour is the window.
    fn told(beats: &[(i64, &str)]) -> Vec<usize> {
        let mut turns = Turns::default();
        let beats = beats.iter().enumerate();
        let told = beats.filter(|(_, (minute, hash))| {
            let received = now() + SignedDuration::from_mins(*minute);
            turns.hear(&cluster("eu"), hash, received, SignedDuration::from_hours(1)).is_some()
        });
        told.map(|(place, _)| place).collect()
    }

    #[test]
    fn what_is_said_in_turn_is_told_until_it_is_said_no_more() {
        let in_turn = [(0, "a"), (10, "b"), (20, "a"), (30, "a"), (40, "b"), (50, "a"), (60, "a")];
        assert_eq!(told(&in_turn), [5, 6]);
        // An hour after the last change, it says one thing only.
        assert_eq!(told(&[&in_turn[..], &[(110, "a"), (111, "a"), (112, "b"), (113, "a")]].concat()), [5, 6, 7]);
    }

    #[test]
    fn one_that_changes_is_not_two() {
        let of_three = [(0, "a"), (1, "b"), (2, "c"), (3, "a"), (4, "b"), (5, "c"), (6, "a"), (7, "b")];
        assert!(told(&of_three).is_empty());
        let there_and_back = [(0, "a"), (20, "b"), (30, "a"), (40, "b"), (50, "c"), (60, "b"), (70, "c")];
        assert!(told(&there_and_back).is_empty());
        // A table that somebody makes and drops each day.
        let each_day: Vec<_> = (0..10).map(|day| (day * 24 * 60, if day % 2 == 0 { "a" } else { "b" })).collect();
        assert!(told(&each_day).is_empty());
    }

    #[test]
    fn who_is_forgotten_begins_anew() {
        let mut turns = Turns::default();
        let hear = |turns: &mut Turns, hash: &str| {
            turns.hear(&cluster("eu"), hash, now(), SignedDuration::from_hours(1)).is_some()
        };
        for hash in ["a", "b", "a", "b"] {
            assert!(!hear(&mut turns, hash));
        }
        turns.retain(|partition| *partition == cluster("eu"));
        assert!(hear(&mut turns, "a"));
        turns.retain(|_| false);
        assert!(!hear(&mut turns, "b"));
    }
}
