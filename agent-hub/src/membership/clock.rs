//! The hub's clock may be set back. What is remembered from when it was ahead must not hold removals until it is there again; beats that came then are as new as they say. Pure;
//! called by each step.

use jiff::Timestamp;

use super::{Darkness, Membership, Watch};

impl Membership {
    /// The same, with nothing in it that is still to come.
    pub(super) fn not_later_than(&self, now: Timestamp) -> Self {
        let mut known = self.clone();
        let times = known.partitions.values_mut().flat_map(|known| {
            let watched = if let Watch::Since(at) = &mut known.watch { Some(at) } else { None };
            let times = [Some(&mut known.since), known.silent_since.as_mut(), watched];
            times.into_iter().flatten().chain(&mut known.returns)
        });
        let darkness = known.darkness.values_mut().map(|(Darkness::Dark { since: at } | Darkness::Over { at })| at);
        let guards = known.guards.values_mut().map(|guard| &mut guard.since);
        for time in times.chain(darkness).chain(guards).chain(&mut known.watching_since) {
            *time = (*time).min(now);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use shared::runtime::GuardReason;

    use super::*;
    use crate::{
        fleet::Beat,
        hub::Hub,
        membership::Scope,
        settings::Settings,
        testing::{cluster, hub_config, now},
        trust::Trust,
    };

    #[test]
    fn a_clock_that_was_ahead_holds_nothing_for_longer_than_one_that_was_right() {
        let (thresholds, hour) = (Settings::from(&hub_config("")).thresholds, SignedDuration::from_hours(1));
        let at = |minutes| now() + SignedDuration::from_mins(minutes);
        let step = |known: &Membership, minutes| {
            let beat = Beat { received: at(0), new_beats: 1, ..Beat::forgotten(cluster("eu")) };
            known.step(vec![beat], &Hub::default(), &Trust::default(), at(minutes), &thresholds, "geo").0
        };
        // A year ahead everything is dark, and silent, and comes back; then the clock is set back.
        let year = 365 * 24 * 60;
        let mut ahead = step(&step(&Membership::default(), 0), year);
        ahead.note(&[Scope::Fleet].into(), at(year), hour);
        ahead.note(&[].into(), at(year + 1), hour);
        ahead.note_guards(&[(GuardReason::NoLiveHeartbeat, String::new())].into(), at(year));
        ahead.watching_since = Some(at(year));
        ahead.partitions.values_mut().for_each(|known| known.returns = vec![at(year); 3]);
        let mut back = step(&ahead, 5);
        assert_eq!(back.recovering_until(&Scope::Fleet, at(5), hour), Some(at(65)));
        assert_eq!((back.guards[&GuardReason::NoLiveHeartbeat].since, back.watching_since), (at(5), Some(at(5))));
        let known = &back.partitions[&cluster("eu")];
        assert_eq!((&known.returns, known.since), (&vec![at(5); 3], at(5)));
        back.note(&[].into(), at(66), hour);
        assert_eq!(back.recovering_until(&Scope::Fleet, at(66), hour), None);
        assert_eq!(step(&back, 66).not_later_than(at(66)), step(&back, 66), "a clock that is right changes nothing");
    }
}
