//! All short histories of a small fleet, and random long ones of larger fleets, over the real step and plan functions: what must never happen, and what must happen
//! at last. A history is beats that come or do not, readings that fail, agents that crash, and leaders that change, each followed by a pass.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName};
use proptest::{collection::vec, prelude::*};
use serde_json::json;
use shared::heartbeat::{Limits, parse_schema};

use crate::{
    fleet::{Beat, Inventory},
    guards::HoldReason,
    hub::{Hub, HubDatabase},
    membership::{Darkness, Membership},
    plan::{Decision, plan},
    settings::Settings,
    testing::{applied, cluster, hub_config},
    trust::Trust,
};

/// What happens before a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A partition's beat arrives.
    Beat(usize),
    /// An interval passes, and nobody beats in it.
    Silence,
    /// An interval passes, in which all beat.
    AllBeat,
    /// The heartbeats cannot be read, or only a part of them: to the agent that is the same.
    ReadFails,
    /// An interval passes in which the hub takes no beats and answers no pass.
    Outage,
    /// All beat, and one database's groups cannot be read.
    GroupsUnread,
    /// The schema of this partition cannot be read by the pass that follows.
    SchemaUnread(usize),
    /// The agent starts anew: it knows what is recorded.
    Crash,
    /// Another agent leads from now on: it knows what is recorded.
    OtherLeads,
    /// The one that led before makes a pass with what it remembers: a lease is no mutual exclusion.
    StaleLeads,
}

#[derive(Debug, Clone)]
struct World {
    now: Timestamp,
    hub: Hub,
    /// When each partition last beat; `None`: never.
    beats: Vec<Option<Timestamp>>,
    counted: Vec<u64>,
    /// The agents' memories; the first leads.
    agents: [Option<Membership>; 2],
    recorded: Membership,
    /// Since when every pass has seen everything.
    sight_since: Option<Timestamp>,
}

/// An interval of ten minutes, and a time to live of three.
fn settings() -> Settings {
    Settings { status: None, ..Settings::from(&hub_config("heartbeatTTL: 30m, ")) }
}

const INTERVAL: SignedDuration = SignedDuration::from_mins(10);

impl World {
    fn new(partitions: usize) -> Self {
        let databases = [(DatabaseName::new("Logs").unwrap(), HubDatabase::default())].into();
        Self {
            now: Timestamp::from_second(1_700_000_000).unwrap(),
            hub: Hub { databases, ..Hub::default() },
            beats: vec![None; partitions],
            counted: vec![0; partitions],
            agents: [None, None],
            recorded: Membership::default(),
            sight_since: None,
        }
    }

    fn beat(&mut self, partition: usize) {
        self.beats[partition] = Some(self.now);
        self.counted[partition] += 1;
    }

    fn members(&self) -> BTreeSet<ClusterEndpoint> {
        self.hub.members().map(|entity| entity.cluster.clone()).collect()
    }

    fn endpoint(partition: usize) -> ClusterEndpoint {
        cluster(&format!("p{partition}"))
    }

    /// Something happens, then a pass runs; returns why it held, if it did.
    fn step(&mut self, event: Event, settings: &Settings) -> Vec<HoldReason> {
        match event {
            Event::Beat(partition) => self.beat(partition),
            Event::Silence => self.now += INTERVAL,
            Event::AllBeat => {
                self.now += INTERVAL;
                (0..self.beats.len()).for_each(|partition| self.beat(partition));
            }
            Event::ReadFails => return self.blind(),
            Event::Outage => {
                self.now += INTERVAL;
                return self.blind();
            }
            Event::GroupsUnread => {
                self.now += INTERVAL;
                (0..self.beats.len()).for_each(|partition| self.beat(partition));
                let logs = DatabaseName::new("Logs").unwrap();
                let unread = |hub: &mut Hub, groups| {
                    std::mem::replace(&mut hub.databases.get_mut(&logs).unwrap().groups, groups)
                };
                let groups = unread(&mut self.hub, Err("the hub is busy".to_owned()));
                let held = self.pass(settings, None);
                drop(unread(&mut self.hub, groups));
                return held;
            }
            Event::SchemaUnread(partition) => return self.pass(settings, Some(partition)),
            Event::Crash => self.agents[0] = None,
            Event::OtherLeads => self.agents = [None, self.agents[0].take()],
            Event::StaleLeads if self.agents[1].is_some() => {
                self.agents.swap(0, 1);
                let held = self.pass(settings, None);
                self.agents.swap(0, 1);
                return held;
            }
            Event::StaleLeads => {}
        }
        self.pass(settings, None)
    }

    /// A pass that sees nothing.
    fn blind(&mut self) -> Vec<HoldReason> {
        self.sight_since = None;
        self.agents[0].get_or_insert_with(|| self.recorded.clone()).lose_sight();
        vec![HoldReason::IncompleteRead { why: String::new() }]
    }

    fn pass(&mut self, settings: &Settings, unread: Option<usize>) -> Vec<HoldReason> {
        self.sight_since.get_or_insert(self.now);
        let schema = parse_schema(&json!([{"database": "Logs", "tables": ["A"]}]), Limits::default()).0.unwrap();
        let schema = Arc::new(schema);
        let beats = self.beats.iter().zip(&mut self.counted).enumerate().filter_map(|(partition, (beat, counted))| {
            let inventory =
                if unread == Some(partition) { Inventory::Unread } else { Inventory::Known(Arc::clone(&schema)) };
            let new_beats = std::mem::take(counted);
            Some(Beat { received: (*beat)?, new_beats, inventory, ..Beat::forgotten(Self::endpoint(partition)) })
        });
        let beats = beats.collect();
        let before = self.agents[0].take().unwrap_or_else(|| self.recorded.clone());
        let (mut membership, fleet) =
            before.step(beats, &self.hub, &Trust::default(), self.now, &settings.thresholds, "geo");
        let decision = plan(&fleet, &self.hub, &membership, self.now, settings);
        let held = match &decision {
            Decision::Hold(hold) => vec![hold.reason.clone()],
            Decision::Apply(plan) => plan.held.clone(),
        };
        let scopes = held.iter().filter_map(HoldReason::scope).collect();
        membership.note(&scopes, self.now, settings.thresholds.time_to_live);
        if let Decision::Apply(plan) = &decision {
            self.hub = applied(self.hub.clone(), plan);
        }
        self.recorded = Membership { watching_since: None, ..membership.clone() };
        for remembered in self.recorded.partitions.values_mut() {
            remembered.needs = match remembered.state {
                shared::runtime::PartitionState::Joining => 2,
                _ => 1,
            };
        }
        self.agents[0] = Some(membership);
        held
    }

    /// What must never happen, between two passes.
    fn check(&self, before: &Self, event: Event, held: &[HoldReason], settings: &Settings) {
        let time_to_live = settings.thresholds.time_to_live;
        let (was, is) = (before.members(), self.members());
        let left: Vec<_> = was.difference(&is).collect();
        for (partition, beat) in self.beats.iter().enumerate() {
            let endpoint = Self::endpoint(partition);
            let age = beat.map(|beat| self.now.duration_since(beat));
            assert!(
                !left.contains(&&endpoint) || age.is_none_or(|age| age > time_to_live),
                "a_partition_within_its_time_to_live_never_leaves: {endpoint} after {event:?}, {age:?}"
            );
        }
        let is_dark =
            self.beats.iter().all(|beat| beat.is_none_or(|beat| self.now.duration_since(beat) > time_to_live));
        assert!(!is_dark || left.is_empty(), "nobody_leaves_a_fleet_that_is_dark: {left:?} after {event:?}");
        let sees_nothing = matches!(event, Event::ReadFails | Event::Outage | Event::GroupsUnread);
        assert!(!sees_nothing || was == is, "a_failed_reading_changes_nothing: {event:?}");
        for partition in (0..self.beats.len()).filter(|partition| left.contains(&&Self::endpoint(*partition))) {
            // A beat that came later ended the silence.
            let silent_since = |known: &Membership| {
                let since = known.partitions.get(&Self::endpoint(partition))?.silent_since?;
                self.beats[partition].is_none_or(|beat| beat <= since).then_some(since)
            };
            let known = before.agents[0].as_ref().unwrap_or(&before.recorded);
            let is_long =
                |since: Option<Timestamp>| since.is_some_and(|since| self.now.duration_since(since) >= time_to_live);
            let was_seen =
                self.sight_since.is_some_and(|since| self.beats[partition].is_some_and(|beat| since <= beat));
            assert!(
                event == Event::StaleLeads || was_seen || is_long(self.sight_since) || is_long(silent_since(known)),
                "a_silence_that_overlaps_a_gap_of_sight_removes_nobody: {partition} after {event:?}"
            );
        }
        assert!(left.len() <= (was.len() * 15 / 100).max(1), "the_removal_budget_bounds_every_pass: {left:?}");
        let fresh = self.agents[0].as_ref().and_then(|agent| agent.watching_since) == Some(self.now);
        let was_recorded = |endpoint: &&ClusterEndpoint| {
            before.recorded.partitions.get(*endpoint).is_some_and(|known| known.silent_since.is_some())
        };
        assert!(
            !fresh || left.iter().all(was_recorded),
            "a_fresh_agent_removes_nobody_whose_silence_is_not_recorded: {left:?}"
        );
        assert!(left.is_empty() || held.iter().all(|hold| !matches!(hold, HoldReason::IncompleteRead { .. })));
    }

    /// After a fault, two quiet passes converge and the third plans nothing.
    fn settles(&self, settings: &Settings) {
        let mut world = self.clone();
        for _ in 0..3 {
            world.step(Event::AllBeat, settings);
        }
        let hub = world.hub.clone();
        let all: BTreeSet<_> = (0..world.beats.len()).map(Self::endpoint).collect();
        assert_eq!(world.members(), all, "whoever_beats_is_federated");
        for _ in 0..3 {
            let held = world.step(Event::AllBeat, settings);
            assert_eq!((&world.hub, held), (&hub, Vec::new()), "a_quiet_world_is_not_written_to");
        }
    }

    /// A guard that never ended would keep the dead for ever: one that stays silent leaves while the others beat, and then nothing holds.
    fn lets_go(&self, settings: &Settings) {
        let mut world = self.clone();
        let mut held = Vec::new();
        let patience = settings.thresholds.flapping_window + settings.thresholds.time_to_live * 3;
        let until = world.now + patience;
        while world.now < until {
            world.now += INTERVAL;
            (1..world.beats.len()).for_each(|partition| world.beat(partition));
            held = world.pass(settings, None);
        }
        let rest: BTreeSet<_> = (1..world.beats.len()).map(Self::endpoint).collect();
        assert_eq!((world.members(), held), (rest, Vec::new()), "who_stays_silent_leaves");
    }

    /// The same for worlds that differ only in when they are, and in who is who.
    fn key(&self) -> String {
        let age = |at: Timestamp| self.now.duration_since(at).as_secs() / 60;
        let members = self.members();
        let of = |membership: &Membership, endpoint: &ClusterEndpoint| {
            membership.partitions.get(endpoint).map(|known| {
                let returns: Vec<_> = known.returns.iter().map(|at| age(*at).min(360)).collect();
                (
                    known.state,
                    age(known.since).min(90),
                    known.silent_since.map(|at| age(at).min(90)),
                    returns,
                    known.beats.min(3),
                    known.needs,
                )
            })
        };
        let memories: Vec<&Membership> = self.agents.iter().flatten().chain([&self.recorded]).collect();
        let mut partitions: Vec<String> = (0..self.beats.len())
            .map(|partition| {
                let endpoint = Self::endpoint(partition);
                let known: Vec<_> = memories.iter().map(|membership| of(membership, &endpoint)).collect();
                let beat = self.beats[partition].map(|beat| age(beat).min(90));
                format!("{beat:?} {} {} {known:?}", members.contains(&endpoint), self.counted[partition].min(3))
            })
            .collect();
        partitions.sort();
        let dark = |membership: &Membership| -> BTreeMap<_, _> {
            let ages = membership.darkness.iter().map(|(scope, darkness)| match darkness {
                Darkness::Dark { .. } => (scope.clone(), -1),
                Darkness::Over { at } => (scope.clone(), age(*at)),
            });
            ages.collect()
        };
        let memories: Vec<_> = memories
            .iter()
            .map(|membership| (dark(membership), membership.watching_since.map(|since| age(since).min(90))))
            .collect();
        let sight = self.sight_since.map(|since| age(since).min(90));
        format!("{partitions:?} {memories:?} {sight:?} {}", self.agents[1].is_some())
    }
}

const CORE: [Event; 8] = [
    Event::Beat(0),
    Event::Beat(1),
    Event::Beat(2),
    Event::Silence,
    Event::AllBeat,
    Event::ReadFails,
    Event::Crash,
    Event::OtherLeads,
];
const MORE: [Event; 4] = [Event::Outage, Event::GroupsUnread, Event::SchemaUnread(0), Event::StaleLeads];

/// Every history of these events to this depth, once for each world it leads to.
fn explore(world: &World, events: &[Event], depth: usize, seen: &mut HashMap<String, usize>, settings: &Settings) {
    let known = seen.entry(world.key()).or_insert(0);
    if *known > depth {
        return;
    }
    *known = depth + 1;
    if depth == 0 {
        return;
    }
    for event in events {
        let mut after = world.clone();
        let held = after.step(*event, settings);
        after.check(world, *event, &held, settings);
        explore(&after, events, depth - 1, seen, settings);
    }
}

fn worlds(start: &World, events: &[Event], depth: usize) -> usize {
    let mut seen = HashMap::new();
    explore(start, events, depth, &mut seen, &settings());
    seen.len()
}

/// Three partitions that are federated.
fn complete() -> World {
    let mut world = World::new(3);
    world.step(Event::AllBeat, &settings());
    assert_eq!(world.members().len(), 3);
    world
}

#[test]
fn no_history_of_three_partitions_to_depth_eight_breaks_a_promise() {
    let worlds = worlds(&complete(), &CORE, 8);
    assert!(worlds > 10_000, "{worlds}");
}

#[test]
fn no_history_with_outages_partial_readings_and_stale_leaders_breaks_a_promise() {
    let worlds = worlds(&complete(), &[CORE.as_slice(), &MORE].concat(), 6);
    assert!(worlds > 5_000, "{worlds}");
}

#[test]
fn no_history_after_a_partition_has_left_breaks_a_promise() {
    let (mut world, settings) = (complete(), settings());
    while world.members().len() == 3 {
        world.now += INTERVAL;
        [1, 2].into_iter().for_each(|partition| world.beat(partition));
        world.pass(&settings, None);
    }
    let worlds = worlds(&world, &[CORE.as_slice(), &MORE].concat(), 5);
    assert!(worlds > 1_000, "{worlds}");
}

#[test]
fn flapping_partitions_that_fall_silent_with_the_others_are_no_sign_of_life() {
    use Event::{AllBeat, Beat, Crash, Silence};
    let history = [
        [AllBeat, Silence, Silence, AllBeat, AllBeat, Silence, Silence].as_slice(),
        &[Beat(0), AllBeat, Crash, AllBeat, Beat(1), Beat(2), Beat(3), Silence, Silence, AllBeat, AllBeat],
        &[Silence, Silence, AllBeat, Beat(4), Silence, Silence, Silence, Silence],
    ];
    let settings = settings();
    let mut world = World::new(9);
    for event in history.concat() {
        let before = world.clone();
        let held = world.step(event, &settings);
        world.check(&before, event, &held, &settings);
    }
    assert_eq!(world.members().len(), 9);
}

fn events(partitions: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..partitions).prop_map(Event::Beat),
        4 => Just(Event::Silence),
        3 => Just(Event::AllBeat),
        1 => Just(Event::ReadFails),
        1 => Just(Event::Outage),
        1 => Just(Event::GroupsUnread),
        1 => (0..partitions).prop_map(Event::SchemaUnread),
        1 => Just(Event::Crash),
        1 => Just(Event::OtherLeads),
        1 => Just(Event::StaleLeads),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_of_larger_fleets_break_no_promise_and_settle(history in vec(events(9), 1..60)) {
        let settings = settings();
        let mut world = World::new(9);
        for event in history {
            let before = world.clone();
            let held = world.step(event, &settings);
            world.check(&before, event, &held, &settings);
        }
        world.settles(&settings);
        world.lets_go(&settings);
    }
}
