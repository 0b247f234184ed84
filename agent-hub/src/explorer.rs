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
    /// The agent starts anew: it knows what is recorded.
    Crash,
    /// Another agent leads from now on, which last led some time ago.
    OtherLeads,
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
            Event::ReadFails => return vec![HoldReason::IncompleteRead { why: String::new() }],
            Event::Crash => self.agents[0] = None,
            Event::OtherLeads => self.agents.swap(0, 1),
        }
        self.pass(settings)
    }

    fn pass(&mut self, settings: &Settings) -> Vec<HoldReason> {
        let schema = parse_schema(&json!([{"database": "Logs", "tables": ["A"]}]), Limits::default()).0.unwrap();
        let schema = Arc::new(schema);
        let beats = self.beats.iter().zip(&mut self.counted).enumerate().filter_map(|(partition, (beat, counted))| {
            let inventory = Inventory::Known(Arc::clone(&schema));
            let new_beats = std::mem::take(counted);
            Some(Beat { received: (*beat)?, new_beats, inventory, ..Beat::forgotten(Self::endpoint(partition)) })
        });
        let beats = beats.collect();
        let before = self.agents[0].take().unwrap_or_else(|| self.recorded.clone());
        let (mut membership, fleet) = before.step(beats, &self.hub, &Trust::default(), self.now, &settings.thresholds);
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
            (remembered.beats, remembered.needs) = (0, 1);
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
        assert!(event != Event::ReadFails || was == is, "a_failed_reading_changes_nothing");
        assert!(left.len() <= (was.len() * 15 / 100).max(1), "the_removal_budget_bounds_every_pass: {left:?}");
        let fresh = self.agents[0].as_ref().and_then(|agent| agent.watching_since) == Some(self.now);
        let was_recorded = before.recorded.partitions.values().any(|known| known.silent_since.is_some());
        assert!(!fresh || was_recorded || left.is_empty(), "a_fresh_agent_without_a_record_removes_nobody: {left:?}");
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
        format!("{partitions:?} {memories:?} {}", self.agents[1].is_some())
    }
}

/// Every history of this depth, once for each world it leads to; returns how many worlds there were.
fn explore(world: &World, depth: usize, seen: &mut HashMap<String, usize>, settings: &Settings) {
    let known = seen.entry(world.key()).or_insert(0);
    if *known > depth {
        return;
    }
    *known = depth + 1;
    if depth == 0 {
        return;
    }
    let beats = (0..world.beats.len()).map(Event::Beat);
    for event in beats.chain([Event::Silence, Event::AllBeat, Event::ReadFails, Event::Crash, Event::OtherLeads]) {
        let mut after = world.clone();
        let held = after.step(event, settings);
        after.check(world, event, &held, settings);
        explore(&after, depth - 1, seen, settings);
    }
}

#[test]
fn no_history_of_three_partitions_to_depth_eight_breaks_a_promise() {
    let settings = settings();
    let mut world = World::new(3);
    world.step(Event::AllBeat, &settings);
    assert_eq!(world.members().len(), 3);
    let mut seen = HashMap::new();
    explore(&world, 8, &mut seen, &settings);
    assert!(seen.len() > 1000, "{}", seen.len());
}

fn events(partitions: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..partitions).prop_map(Event::Beat),
        4 => Just(Event::Silence),
        3 => Just(Event::AllBeat),
        1 => Just(Event::ReadFails),
        1 => Just(Event::Crash),
        1 => Just(Event::OtherLeads),
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
    }
}
