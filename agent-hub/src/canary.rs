//! Which new partitions are asked their canary query when. Pure; the query itself is sent by the pass.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use kql::endpoint::ClusterEndpoint;

/// After a failure a partition is asked again after this, then after twice as long, and so on.
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(1);
/// The longest wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// The most partitions that one pass asks: strangers that do not answer must not keep it from its work.
const MAX_ASKED: usize = 64;

/// What canary queries found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canaries {
    /// Partitions that answered.
    pub sound: BTreeSet<ClusterEndpoint>,
    failed: BTreeMap<ClusterEndpoint, Failed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    error: String,
    again_at: Timestamp,
    wait: SignedDuration,
}

impl Canaries {
    /// Of the new partitions, those that are asked now; the others keep the failure that they have, or wait for their turn.
    pub fn due<'a>(
        &mut self,
        new: impl Iterator<Item = &'a ClusterEndpoint>,
        now: Timestamp,
    ) -> BTreeSet<ClusterEndpoint> {
        let new: BTreeSet<&ClusterEndpoint> = new.collect();
        self.failed.retain(|endpoint, _| new.contains(endpoint));
        for failed in self.failed.values_mut() {
            // The hub's clock may have been set back.
            failed.again_at = failed.again_at.min(now.checked_add(failed.wait).unwrap_or(Timestamp::MAX));
        }
        let is_due =
            |endpoint: &&&ClusterEndpoint| self.failed.get(**endpoint).is_none_or(|failed| failed.again_at <= now);
        let mut due: Vec<&ClusterEndpoint> = new.iter().filter(is_due).copied().collect();
        // Whoever has waited for the longest goes first, so that nobody's turn is put off by names that strangers make up.
        due.sort_by_key(|endpoint| self.failed.get(*endpoint).map_or(now, |failed| failed.again_at));
        for endpoint in due.drain(due.len().min(MAX_ASKED)..) {
            let error = "its turn has not come yet".to_owned();
            let waits = || Failed { error, again_at: now, wait: SignedDuration::ZERO };
            self.failed.entry(endpoint.clone()).or_insert_with(waits);
        }
        due.into_iter().cloned().collect()
    }

    /// A partition was asked.
    pub fn answered(&mut self, endpoint: ClusterEndpoint, answer: Result<(), String>, now: Timestamp) {
        match answer {
            Ok(()) => {
                self.failed.remove(&endpoint);
                self.sound.insert(endpoint);
            }
            Err(error) => {
                let before = self.failed.get(&endpoint).map_or(SignedDuration::ZERO, |failed| failed.wait);
                let wait = (before * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
                let again_at = now.checked_add(wait).unwrap_or(Timestamp::MAX);
                self.failed.insert(endpoint, Failed { error, again_at, wait });
            }
        }
    }

    /// Why partitions are not let in.
    pub fn failures(&self) -> BTreeMap<ClusterEndpoint, String> {
        self.failed.iter().map(|(endpoint, failed)| (endpoint.clone(), failed.error.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, now};

    fn at(minutes: i64) -> Timestamp {
        now() + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn one_that_fails_is_asked_less_and_less_often_until_it_answers() {
        let (mut canaries, eu) = (Canaries::default(), cluster("eu"));
        let mut asked = Vec::new();
        for minute in 0..200 {
            if !canaries.due([&eu].into_iter(), at(minute)).is_empty() {
                asked.push(minute);
                canaries.answered(eu.clone(), Err("no".to_owned()), at(minute));
            }
        }
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert_eq!(canaries.failures(), BTreeMap::from([(eu.clone(), "no".to_owned())]));
        // The clock is set back by three hours, of which it waits for one.
        let asked = (20..100).find(|minute| !canaries.due([&eu].into_iter(), at(*minute)).is_empty());
        assert_eq!(asked, Some(80));
        canaries.answered(eu.clone(), Ok(()), at(200));
        assert!(canaries.failures().is_empty() && canaries.sound.contains(&eu));
        canaries.answered(eu.clone(), Err("no".to_owned()), at(201));
        assert!(
            canaries.due(std::iter::empty(), at(201)).is_empty() && canaries.failures().is_empty(),
            "it is not new"
        );
    }

    #[test]
    fn many_that_do_not_answer_are_asked_in_turn() {
        let mut canaries = Canaries::default();
        let all: Vec<ClusterEndpoint> = (0..150).map(|number| cluster(&format!("p{number}"))).collect();
        let mut asked = BTreeSet::new();
        for pass in 0..3 {
            let due = canaries.due(all.iter(), at(0));
            assert_eq!(due.len(), [64, 64, 22][pass]);
            for endpoint in due {
                asked.insert(endpoint.clone());
                canaries.answered(endpoint, Err("no".to_owned()), at(0));
            }
            assert_eq!(canaries.failures().len(), 150, "nobody is let in without an answer");
        }
        assert_eq!(asked.len(), 150);
    }

    #[test]
    fn whoever_waits_for_a_turn_goes_before_names_that_are_made_up_later() {
        let (mut canaries, zz) = (Canaries::default(), cluster("zz"));
        let is_asked = (0..5).position(|pass| {
            let strangers: Vec<ClusterEndpoint> =
                (0..100).map(|number| cluster(&format!("a{pass}n{number}"))).collect();
            let due = canaries.due(strangers.iter().chain([&zz]), at(pass));
            due.contains(&zz)
        });
        assert_eq!(is_asked, Some(1));
    }
}
