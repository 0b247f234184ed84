//! What is known of an owner's children from one look to the next: which are as they should be, what admission makes of them, and which are to be made anew. Pure; asked
//! and told by `apply`, kept by the context. An operator that starts knows nothing of it, and finds it out by reading, or by writing once.
//!
//! A child that was as it should be, in a version that the watch still shows, need not be read again to say so. A watch may fall behind: whatever it shows then draws a
//! look, as ever. One may be silent without a word of it: after a minute every look reads all again.
//!
//! Whoever is asked before anything is stored may make something else of all that is written. To write that again changes nothing, or, where it is something else each
//! time, has no end. So it is left as it is for a time, for as long as it differs there alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::kubernetes::{
    child::{Child, ChildRef},
    compare::Difference,
    made::Shown,
};

/// How long a child is taken to be as it was found, without another look at it.
const LONGEST_TRUST: Duration = Duration::from_secs(60);

/// How long what admission makes of a child is left before a write shows whether it still does so; something has to draw a look to it, too.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// So many writes in a row that were each answered with something else than the one before are made at once.
const MOST_TURNS: u32 = 3;
/// How long the next one waits; the wait doubles.
const FIRST_REST: Duration = Duration::from_secs(10);

/// By what children are called: `Deployment 'a'`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    overruled: BTreeMap<String, Overruled>,
    /// Deleted to be made anew, with what could not be changed in place.
    removed: BTreeMap<String, &'static str>,
    /// As they should be when they were looked at.
    found: BTreeMap<String, Found>,
}

/// How a child was found.
#[derive(Debug, Clone)]
struct Found {
    /// Of what it was found to be, in which version; `None`: nothing of ours was there, and nothing is wanted.
    fits: Option<(String, String)>,
    /// When it was looked at.
    at: Instant,
}

/// What admission makes of a child.
#[derive(Debug, Clone)]
struct Overruled {
    /// Of what was applied.
    mark: String,
    /// Where it has been something else, and what last.
    places: BTreeMap<String, Value>,
    /// How many answers in a row were each another than the one before.
    turns: u32,
    /// When it was written last.
    at: Instant,
}

impl Overruled {
    fn is_as_answered(&self, there: &[Difference]) -> bool {
        there.iter().all(|difference| self.places.get(&difference.path) == Some(&difference.there))
    }

    /// How long it is left where it is like this, which is not what was answered.
    fn rest(&self) -> Duration {
        let Some(more) = self.turns.checked_sub(MOST_TURNS) else { return Duration::ZERO };
        FIRST_REST.saturating_mul(2_u32.saturating_pow(more)).min(LONGEST_REST)
    }
}

impl Known {
    /// Forgets all children but those that are wanted, and of those that are unwanted all but how they were found.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<String>, unwanted: &BTreeSet<String>) {
        self.overruled.retain(|child, _| wanted.contains(child));
        self.removed.retain(|child, _| wanted.contains(child));
        self.found.retain(|child, _| wanted.contains(child) || unwanted.contains(child));
    }

    /// Whether a child still is as it should be, as far as the watch shows.
    pub(super) fn still_fits(&self, child: &Child, shown: &Shown, now: Instant) -> bool {
        let Shown::At(shown) = shown else { return false };
        let fits = self.trusted(&child.reference, now).and_then(|found| found.fits.as_ref());
        fits.is_some_and(|(mark, version)| mark == child.mark() && version == shown)
    }

    /// Whether nothing of ours still is under an unwanted name, as far as the watch shows.
    pub(super) fn is_still_gone(&self, child: &ChildRef, shown: &Shown, now: Instant) -> bool {
        *shown == Shown::Absent && self.trusted(child, now).is_some_and(|found| found.fits.is_none())
    }

    fn trusted(&self, child: &ChildRef, now: Instant) -> Option<&Found> {
        self.found.get(&child.to_string()).filter(|found| now < found.at + LONGEST_TRUST)
    }

    /// A child is about to be removed.
    pub(super) fn forget(&mut self, child: &ChildRef) {
        self.found.remove(&child.to_string());
    }

    /// Nothing of ours was found under an unwanted name.
    pub(super) fn gone(&mut self, child: &ChildRef, now: Instant) {
        self.found.insert(child.to_string(), Found { fits: None, at: now });
    }

    fn overruled(&self, child: &Child) -> Option<&Overruled> {
        self.overruled.get(&child.reference.to_string()).filter(|known| known.mark == child.mark())
    }

    /// Whether just this was applied, and is something else since.
    pub(super) fn is_overruled(&self, child: &Child) -> bool {
        self.overruled(child).is_some()
    }

    /// Whether it is admission that makes something else of a place.
    pub(super) fn is_overruled_at(&self, child: &Child, path: &str) -> bool {
        self.overruled(child).is_some_and(|known| known.places.contains_key(path))
    }

    /// Whether a child that differs in these places is left so.
    pub(super) fn rests(&self, child: &Child, there: &[Difference], now: Instant) -> bool {
        self.overruled(child).is_some_and(|known| {
            let rest = if known.is_as_answered(there) { LONGEST_REST } else { known.rest() };
            there.iter().all(|difference| known.places.contains_key(&difference.path)) && now < known.at + rest
        })
    }

    /// A child was written, and was answered to differ in these places.
    pub(super) fn answered(&mut self, child: &Child, there: &[Difference], now: Instant) {
        let name = child.reference.to_string();
        self.found.remove(&name);
        let known = self.overruled.remove(&name).filter(|known| known.mark == child.mark());
        if there.is_empty() {
            return;
        }
        let turns = known.as_ref().map_or(0, |known| if known.is_as_answered(there) { 0 } else { known.turns + 1 });
        let mut places = known.map(|known| known.places).unwrap_or_default();
        places.extend(there.iter().map(|difference| (difference.path.clone(), difference.there.clone())));
        self.overruled.insert(name, Overruled { mark: child.mark().to_owned(), places, turns, at: now });
    }

    /// A child is about to be deleted, to be made anew.
    pub(super) fn remove(&mut self, child: &ChildRef, path: &'static str) {
        self.removed.insert(child.to_string(), path);
    }

    /// A child is there that was not: if it had to be made anew, for what.
    pub(super) fn made(&mut self, child: &ChildRef) -> Option<&'static str> {
        self.removed.remove(&child.to_string())
    }

    /// A child is as it should be, in the version that it was compared in, and nothing is left to do for it.
    pub(super) fn fits(&mut self, child: &Child, version: Option<String>, now: Instant) {
        let name = child.reference.to_string();
        self.overruled.remove(&name);
        self.removed.remove(&name);
        let fits = version.map(|version| (child.mark().to_owned(), version));
        match fits {
            Some(_) => drop(self.found.insert(name, Found { fits, at: now })),
            None => drop(self.found.remove(&name)),
        }
    }

    /// What a condition says of children of which admission makes something else each time, and when to write them once more, after a look at all of them.
    pub(crate) fn fickle(&self, now: Instant) -> Option<(String, Duration)> {
        let fickle = || self.overruled.iter().filter(|(_, known)| known.turns >= MOST_TURNS);
        let note = |(child, known): (&String, &Overruled)| {
            let places: Vec<&str> = known.places.keys().map(String::as_str).collect();
            let places = places.join(", ");
            format!(
                "{child} is written less and less often: an admission webhook or policy makes something else of {places} at each write"
            )
        };
        let ends = fickle().map(|(_, known)| (known.at + LONGEST_REST).saturating_duration_since(now));
        let wait = ends.min()?.max(FIRST_REST);
        Some((fickle().map(note).collect::<Vec<_>>().join("; "), wait))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;
    use crate::kubernetes::child::{Kind, Owner};

    fn child(value: &str) -> Child {
        let text = str::to_owned;
        let owner = Owner { kind: Kind::Collector, name: text("c"), namespace: text("monitoring"), uid: text("1") };
        Child::namespaced::<ConfigMap>(&owner, "x", json!({"data": {"k": value}}))
    }

    fn at(path: &str, there: &str) -> Difference {
        Difference { path: path.to_owned(), there: there.into() }
    }

    #[test]
    fn what_admission_makes_of_a_child_is_left_and_nothing_else_is() {
        let (ours, start) = (child("a"), Instant::now());
        let mut known = Known::default();
        assert!(!known.rests(&ours, &[at("data.k", "b")], start), "somebody's");
        known.answered(&ours, &[at("data.k", "b")], start);
        assert!(known.rests(&ours, &[at("data.k", "b")], start + LONGEST_REST / 2));
        assert!(!known.rests(&ours, &[at("data.k", "b")], start + LONGEST_REST), "it may not be so any more");
        assert!(!known.rests(&ours, &[at("data.k", "c")], start));
        assert!(!known.rests(&ours, &[at("data.k", "b"), at("data.l", "b")], start));
        assert!(!known.rests(&child("other"), &[at("data.k", "b")], start), "what is to be is another");
        assert!(known.is_overruled_at(&ours, "data.k") && !known.is_overruled_at(&ours, "data.l"));
        known.answered(&ours, &[], start);
        assert!(!known.is_overruled(&ours));
    }

    #[test]
    fn what_is_something_else_each_time_is_written_less_and_less_often() {
        let (ours, mut now) = (child("a"), Instant::now());
        let mut known = Known::default();
        let mut waits = Vec::new();
        for number in 0..12 {
            let answer = [at(["data.k", "data.l"][number % 2], &number.to_string())];
            known.answered(&ours, &answer, now);
            let changed = [at("data.k", "theirs")];
            let rests = |seconds: u64| known.rests(&ours, &changed, now + Duration::from_secs(seconds));
            let wait = (0..=LONGEST_REST.as_secs()).find(|seconds| !rests(*seconds)).expect("it is written one day");
            assert_eq!(known.fickle(now).is_some(), wait > 0, "{number}");
            waits.push(wait);
            now += Duration::from_secs(wait);
        }
        assert_eq!(waits, [0, 0, 0, 10, 20, 40, 80, 160, 300, 300, 300, 300]);
        let (note, wait) = known.fickle(now).expect("it is");
        let told = "ConfigMap 'x' is written less and less often: an admission webhook or policy makes something else of data.k, data.l at each write";
        assert_eq!((note.as_str(), wait), (told, FIRST_REST));
        // The same twice.
        let answer = [at("data.k", "b")];
        known.answered(&ours, &answer, now);
        known.answered(&ours, &answer, now);
        assert!(known.fickle(now).is_none() && known.rests(&ours, &answer, now));
    }

    #[test]
    fn what_was_deleted_to_be_made_anew_is_known_until_it_is_there_or_not_wanted_any_more() {
        let (ours, start) = (child("a"), Instant::now());
        let reference = ours.reference.clone();
        let mut known = Known::default();
        assert_eq!(known.made(&reference), None);
        known.remove(&reference, "data");
        known.retain(&BTreeSet::from(["ConfigMap 'x'".to_owned()]), &BTreeSet::new());
        assert_eq!((known.made(&reference), known.made(&reference)), (Some("data"), None));
        known.remove(&reference, "data");
        known.fits(&ours, None, start);
        assert_eq!(known.made(&reference), None);
        known.remove(&reference, "data");
        known.retain(&BTreeSet::new(), &BTreeSet::from(["ConfigMap 'x'".to_owned()]));
        assert_eq!(known.made(&reference), None);
    }

    #[test]
    fn what_was_as_it_should_be_still_is_in_the_same_version_and_for_a_time() {
        let (ours, start) = (child("a"), Instant::now());
        let shown = |version: &str| Shown::At(version.to_owned());
        let mut known = Known::default();
        assert!(!known.still_fits(&ours, &shown(""), start), "nobody has looked");
        let seven = || Some("7".to_owned());
        for differences in [&[][..], &[at("data.k", "b")]] {
            known.fits(&ours, seven(), start);
            assert!(known.still_fits(&ours, &shown("7"), start + LONGEST_TRUST / 2));
            assert!(!known.still_fits(&ours, &shown("7"), start + LONGEST_TRUST), "a watch may be silent");
            assert!(!known.still_fits(&ours, &shown("8"), start), "somebody has written");
            assert!(!known.still_fits(&ours, &shown("6"), start), "the watch is behind");
            assert!(!known.still_fits(&child("b"), &shown("7"), start), "what is to be is another");
            assert!(
                !known.still_fits(&ours, &Shown::Absent, start) && !known.still_fits(&ours, &Shown::Unknown, start)
            );
            assert!(!known.is_still_gone(&ours.reference, &Shown::Absent, start), "somebody has deleted it");
            known.answered(&ours, differences, start);
            assert!(!known.still_fits(&ours, &shown("7"), start), "it was written, and may not be done with");
        }
        known.fits(&ours, seven(), start);
        known.retain(&BTreeSet::new(), &BTreeSet::new());
        assert!(!known.still_fits(&ours, &shown("7"), start));
    }

    #[test]
    fn what_was_gone_still_is_while_the_watch_shows_nothing_and_for_a_time() {
        let (unwanted, start) = (child("a").reference, Instant::now());
        let mut known = Known::default();
        assert!(!known.is_still_gone(&unwanted, &Shown::Absent, start), "nobody has looked");
        known.gone(&unwanted, start);
        known.retain(&BTreeSet::new(), &BTreeSet::from([unwanted.to_string()]));
        assert!(known.is_still_gone(&unwanted, &Shown::Absent, start + LONGEST_TRUST / 2));
        assert!(!known.is_still_gone(&unwanted, &Shown::Absent, start + LONGEST_TRUST));
        assert!(!known.is_still_gone(&unwanted, &Shown::Unknown, start));
        assert!(!known.is_still_gone(&unwanted, &Shown::At("7".to_owned()), start));
        assert!(!known.still_fits(&child("a"), &Shown::At(String::new()), start), "it is wanted now");
    }
}
