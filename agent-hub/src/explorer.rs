//! All short histories of a small fleet, and random long ones of fleets of all kinds and with all settings of membership, over the real step and plan functions: what must never happen, and what must happen
//! at last. A history is beats that come or do not, readings that fail, agents that crash between two passes and in one, leaders that change, a clock that is set back, and a person's word
//! about partitions and plans, each followed by a pass.

mod promises;
mod world;

use std::collections::HashMap;

use proptest::{collection::vec, option, prelude::*};

use crate::{settings::Settings, testing::hub_config};
use promises::AtRest;
use world::{Event, INTERVAL, MOST_PARTITIONS, World};

/// An interval of ten minutes, and a time to live of three.
fn settings(fields: &str) -> Settings {
    settings_of(&format!("heartbeatTTL: 30m, {fields}"))
}

fn settings_of(fields: &str) -> Settings {
    Settings { status: None, ..Settings::from(&hub_config(fields)) }
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
/// Readings that lack a part.
const PARTIAL: [Event; 4] =
    [Event::GroupsUnread, Event::SchemaUnread(0), Event::SchemaUnread(1), Event::SchemaUnread(2)];
const MORE: [Event; 3] = [Event::Outage, Event::StaleLeads, Event::LeadsAgain];
/// A pass that ends in its middle.
const CRASHES: [Event; 3] = [Event::CrashAfterRecord, Event::CrashInApply, Event::RecordFails];
/// A person's word.
const WORDS: [Event; 6] =
    [Event::Block(0), Event::Unblock(0), Event::Unlist(1), Event::UnlistAll, Event::Relist, Event::Acknowledge];

/// What was explored.
#[derive(Default)]
struct Explored {
    /// Worlds by their keys, each with one more than the depth of its histories.
    worlds: HashMap<u64, usize>,
    at_rest: AtRest,
    /// How many events made somebody leave. Where nobody ever does, promises about that tell nothing.
    removals: usize,
}

/// Every history of these events to this depth, once for each world it leads to; and each world comes to rest. Where guards have a time limit, they keep
/// nobody who is silent for ever.
fn explore(world: &World, events: &[Event], depth: usize, explored: &mut Explored, settings: &Settings) {
    let key = world.key();
    if !explored.worlds.contains_key(&key) {
        world.settles(&mut explored.at_rest, settings);
        world.lets_a_majority_go(settings);
    }
    let known = explored.worlds.entry(key).or_insert(0);
    if *known > depth {
        return;
    }
    *known = depth + 1;
    if depth == 0 {
        return;
    }
    for event in world.distinct(events) {
        let mut after = world.clone();
        let passed = after.step(event, settings);
        after.check(world, event, &passed, settings);
        explored.removals += usize::from(after.members().len() < world.members().len());
        explore(&after, events, depth - 1, explored, settings);
    }
}

/// From each of some worlds to its depth, in more than so many worlds.
fn explore_all(
    starts: impl IntoIterator<Item = (World, usize)>,
    events: &[Event],
    more_than: usize,
    settings: &Settings,
) {
    let mut removals = 0;
    for (start, depth) in starts {
        let mut explored = Explored::default();
        explore(&start, events, depth, &mut explored, settings);
        assert!(explored.worlds.len() > more_than, "{}", explored.worlds.len());
        removals += explored.removals;
    }
    assert_ne!(removals, 0, "nobody ever leaves");
}

/// Partitions that are federated, in no zone.
fn complete(partitions: usize) -> World {
    complete_in(&vec![None; partitions], &settings(""))
}

fn complete_in(zones: &[Option<&'static str>], settings: &Settings) -> World {
    let mut world = World::new(zones);
    world.step(Event::AllBeat, settings);
    assert_eq!(world.members().len(), zones.len());
    world
}

/// The same world later, when only these partitions have beaten for more than a time to live.
fn with_silent(world: World, beating: &[usize], settings: &Settings) -> World {
    with_silent_for(4, world, beating, settings)
}

/// For so many intervals, of which three are a time to live.
fn with_silent_for(intervals: usize, mut world: World, beating: &[usize], settings: &Settings) -> World {
    for _ in 0..intervals {
        world.now += INTERVAL;
        beating.iter().for_each(|partition| world.beat(*partition));
        world.pass(settings, Event::Silence);
    }
    world
}

#[test]
fn no_history_of_three_partitions_to_depth_eight_breaks_a_promise() {
    // Whoever led before leads again with what it has seen then.
    let events = [CORE.as_slice(), &PARTIAL, &[Event::LeadsAgain]].concat();
    explore_all([(complete(3), 8)], &events, 10_000, &settings(""));
}

/// To depth six: two steps more would take several times as long.
#[test]
fn no_history_with_outages_and_stale_leaders_breaks_a_promise() {
    explore_all([(complete(3), 6)], &[CORE.as_slice(), &PARTIAL, &MORE].concat(), 5_000, &settings(""));
}

/// From a fleet of which one is silent, which is recorded, but has not expired.
#[test]
fn no_history_of_an_outage_that_nobody_could_record_breaks_a_promise() {
    let settings = settings("");
    let world = with_silent_for(2, complete(3), &[1, 2], &settings);
    let events = [CORE.as_slice(), &[Event::Outage, Event::Unseen, Event::Replaced(0), Event::LeadsAgain]].concat();
    explore_all([(world, 5)], &events, 1_000, &settings);
}

#[test]
fn no_history_after_a_partition_has_left_breaks_a_promise() {
    let settings = settings("");
    let mut world = complete(3);
    while world.members().len() == 3 {
        world = with_silent(world, &[1, 2], &settings);
    }
    let another = with_silent_for(3, world.clone(), &[1], &settings);
    assert_eq!(another.members().len(), 2, "it is about to expire");
    explore_all([(world, 5), (another, 4)], &[CORE.as_slice(), &PARTIAL, &MORE].concat(), 1_000, &settings);
}

/// To depth five from a fleet that beats, to four from one that is dark and held, and from one whose majority is.
#[test]
fn no_history_of_a_persons_word_and_of_passes_that_crash_in_their_middle_breaks_a_promise() {
    let settings = settings("");
    let events = [CORE.as_slice(), &CRASHES, &WORDS].concat();
    let starts = [([0, 1, 2].as_slice(), 5), (&[], 4), (&[0], 4)]
        .map(|(beating, depth)| (with_silent(complete(3), beating, &settings), depth));
    explore_all(starts, &events, 1_000, &settings);
}

/// Two zones of two, so that one of them is half of the fleet, which alone would not hold it. To depth five from a fleet that beats, to four from one with a zone that is
/// dark, and from one with a partition that is.
#[test]
fn no_history_of_two_zones_breaks_a_promise() {
    let settings = settings("membership: {massExpiryPartitions: 2}, ");
    let zones = [Some("east"), Some("east"), Some("west"), Some("west")];
    let events = [
        [Event::Beat(0), Event::Beat(2), Event::Silence, Event::AllBeat, Event::ZoneBeats("east")].as_slice(),
        &[
            Event::ZoneBeats("west"),
            Event::ReadFails,
            Event::Outage,
            Event::Crash,
            Event::OtherLeads,
            Event::Acknowledge,
        ],
        &CRASHES,
    ];
    let events = events.concat();
    let starts = [([0, 1, 2, 3].as_slice(), 5), (&[0, 1], 4), (&[0, 1, 2], 4)]
        .map(|(beating, depth)| (with_silent(complete_in(&zones, &settings), beating, &settings), depth));
    explore_all(starts, &events, 1_000, &settings);
}

/// To depth four from a fleet whose majority has just expired and is held, and from one that is dark. The majority is a zone besides.
#[test]
fn no_history_with_a_time_limit_of_guards_breaks_a_promise() {
    let settings = settings("membership: {massExpiryPartitions: 2, guardTimeLimit: 20m}, ");
    let zones = [Some("east"), Some("west"), Some("west")];
    let events = [
        [Event::ZoneBeats("east"), Event::ZoneBeats("west"), Event::Beat(1), Event::Silence, Event::AllBeat].as_slice(),
        &[Event::ReadFails, Event::Outage, Event::Unseen, Event::Crash, Event::CrashAfterRecord, Event::RecordFails],
        &[Event::OtherLeads, Event::StaleLeads],
    ];
    let events = events.concat();
    let starts = [([0].as_slice(), 4), (&[], 4)]
        .map(|(beating, depth)| (with_silent(complete_in(&zones, &settings), beating, &settings), depth));
    assert!(starts.iter().all(|(world, _)| world.members().len() == 3), "they are held");
    explore_all(starts, &events, 1_000, &settings);
}

/// A majority is held, beats while no pass sees it, and has expired once more when the hub answers again: the limit is of its second silence.
#[test]
fn a_time_limit_is_of_one_silence_also_where_nobody_saw_its_beginning() {
    let settings = settings("membership: {massExpiryPartitions: 2, guardTimeLimit: 1h}, ");
    let zones = [Some("east"), Some("west"), Some("west")];
    let mut world = with_silent(complete_in(&zones, &settings), &[0], &settings);
    let blind = [Event::Unseen, Event::Outage, Event::Outage, Event::Outage];
    for event in [blind.as_slice(), &[Event::ZoneBeats("east"); 8]].concat() {
        let before = world.clone();
        let passed = world.step(event, &settings);
        world.check(&before, event, &passed, &settings);
    }
    assert_eq!(world.members().len(), 1, "it is over");
}

/// The one that leads reads it while it still knows of a darkness that is over for just longer than that says anything.
#[test]
fn a_darkness_that_an_old_leader_recorded_is_over_once_the_record_is_read_again() {
    use Event::{AllBeat, CrashAfterRecord, LeadsAgain, Silence, StaleLeads, UnlistAll};
    let settings = settings_of(
        "heartbeatTTL: 40m, membership: {joinAfterBeats: 1, returnAfterBeats: 1, massExpiryPartitions: 1, guardTimeLimit: 10m}, ",
    );
    let mut world = World::new(&[None; 3]);
    for event in [AllBeat, AllBeat, LeadsAgain, CrashAfterRecord, UnlistAll, Silence, StaleLeads] {
        world.step(event, &settings);
    }
    world.settles(&mut AtRest::default(), &settings);
}

/// To depth five from a fleet that beats, from one whose majority has just expired, from one that is dark, and from one of which one is about to expire.
#[test]
fn no_history_in_which_the_hubs_clock_is_set_back_breaks_a_promise() {
    let settings = settings("");
    let events = [CORE.as_slice(), &[Event::ClockBack]].concat();
    let starts = [[0, 1, 2].as_slice(), &[0], &[]].map(|beating| (with_silent(complete(3), beating, &settings), 5));
    explore_all(starts, &events, 1_000, &settings);
    let start = with_silent_for(3, complete(3), &[0, 1], &settings);
    explore_all([(start, 5)], &events, 1_000, &settings);
}

/// To depth six from a fleet that beats, to five from one whose majority has just expired.
#[test]
fn no_history_in_which_rows_go_before_their_time_breaks_a_promise() {
    let settings = settings("");
    let events = [
        CORE.as_slice(),
        &[Event::RowsGo(0), Event::RowsGo(1), Event::RowsGo(2), Event::GroupsUnread, Event::ClockBack],
    ]
    .concat();
    let starts = [([0, 1, 2].as_slice(), 6), (&[0], 5)]
        .map(|(beating, depth)| (with_silent(complete(3), beating, &settings), depth));
    explore_all(starts, &events, 1_000, &settings);
}

/// To depth five from a fleet that beats and from one in which one has just expired, to four from one whose majority has.
#[test]
fn no_history_in_which_single_tables_cannot_be_read_breaks_a_promise() {
    let settings = settings("");
    let events = [
        CORE.as_slice(),
        &[Event::TableUnread(0), Event::TableUnread(1), Event::TableUnread(2), Event::Unlist(1), Event::Relist],
    ]
    .concat();
    let starts = [([0, 1, 2].as_slice(), 5), (&[0, 1], 5), (&[0], 4)]
        .map(|(beating, depth)| (with_silent(complete(3), beating, &settings), depth));
    explore_all(starts, &events, 1_000, &settings);
}

#[test]
fn flapping_partitions_that_fall_silent_with_the_others_are_no_sign_of_life() {
    use Event::{AllBeat, Beat, Crash, Silence};
    let history = [
        [AllBeat, Silence, Silence, AllBeat, AllBeat, Silence, Silence].as_slice(),
        &[Beat(0), AllBeat, Crash, AllBeat, Beat(1), Beat(2), Beat(3), Silence, Silence, AllBeat, AllBeat],
        &[Silence, Silence, AllBeat, Beat(4), Silence, Silence, Silence, Silence],
    ];
    let settings = settings("");
    let mut world = World::new(&[None; 9]);
    for event in history.concat() {
        let before = world.clone();
        let passed = world.step(event, &settings);
        world.check(&before, event, &passed, &settings);
    }
    assert_eq!(world.members().len(), 9);
}

/// Zones of random fleets.
const ZONES: [&str; 4] = ["north", "south", "west", "east"];

fn events(partitions: usize, zones: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..partitions).prop_map(Event::Beat),
        4 => Just(Event::Silence),
        3 => Just(Event::AllBeat),
        1 => Just(Event::ReadFails),
        1 => prop_oneof![Just(Event::Outage), Just(Event::Unseen)],
        1 => Just(Event::GroupsUnread),
        1 => (0..partitions).prop_map(Event::SchemaUnread),
        1 => (0..partitions).prop_map(Event::TableUnread),
        1 => Just(Event::Crash),
        1 => (0..partitions).prop_map(Event::Replaced),
        1 => Just(Event::OtherLeads),
        1 => Just(Event::StaleLeads),
        1 => Just(Event::LeadsAgain),
        1 => (0..zones).prop_map(|zone| Event::ZoneBeats(ZONES[zone])),
        1 => prop_oneof![Just(Event::CrashAfterRecord), Just(Event::CrashInApply), Just(Event::RecordFails)],
        1 => prop_oneof![(0..partitions).prop_map(Event::Block), (0..partitions).prop_map(Event::Unblock)],
        1 => prop_oneof![(0..partitions).prop_map(Event::Unlist), Just(Event::UnlistAll), Just(Event::Relist)],
        1 => Just(Event::Acknowledge),
    ]
}

/// From three partitions on, each in one of the zones or in none, and what happens to them; mostly from when they have joined.
fn histories() -> impl Strategy<Value = (Vec<Option<&'static str>>, Vec<Event>)> {
    let fleets = (3..=MOST_PARTITIONS, 1..=ZONES.len());
    let with_history = fleets.prop_flat_map(|(partitions, zones)| {
        let zone = option::of((0..zones).prop_map(|zone| ZONES[zone]));
        (vec(zone, partitions), vec(Just(Event::AllBeat), 0..5), vec(events(partitions, zones), 1..60))
    });
    with_history.prop_map(|(zones, beginning, history)| (zones, [beginning, history].concat()))
}

/// The fields of a hub's document that say when partitions join, are kept and leave. A partition must be suspect for an interval before it expires.
fn memberships() -> impl Strategy<Value = String> {
    let beats = (1..=3_u8, 1..=3_u8, 2..=4_u8);
    let guards = (1..=100_u8, 1..=100_u8, 1..=5_u8, option::of(1..=18_u8));
    let silences = (3..=8_u8).prop_flat_map(|to_live| (Just(to_live), 1..=to_live - 2, 2..=36_u8));
    (beats, guards, silences).prop_map(
        |((join, back, returns), (removal, mass, partitions, limit), (to_live, suspect, window))| {
            let limit = limit.map(|limit| format!(", guardTimeLimit: {limit}0m")).unwrap_or_default();
            format!(
                "heartbeatTTL: {to_live}0m, membership: {{joinAfterBeats: {join}, returnAfterBeats: {back}, suspectAfterMissedBeats: {suspect}, flappingReturns: {returns}, flappingWindow: {window}0m, removalPercent: {removal}, massExpiryPercent: {mass}, massExpiryPartitions: {partitions}{limit}}}, "
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_of_larger_fleets_break_no_promise_and_settle(
        (zones, history) in histories(),
        membership in memberships(),
    ) {
        let settings = settings_of(&membership);
        let mut world = World::new(&zones);
        for event in history {
            let before = world.clone();
            let passed = world.step(event, &settings);
            world.check(&before, event, &passed, &settings);
        }
        world.settles(&mut AtRest::default(), &settings);
        world.lets_go(&settings);
    }
}
