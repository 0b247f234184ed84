//! A hub that is kept true for partitions whose heartbeats list less for a while or for good, by the heartbeats that its table has.

use jiff::SignedDuration;
use proptest::{array, collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    heartbeat::{Limits, parse_schema},
    runtime::GuardReason,
};

use super::*;
use crate::{
    guards::HoldReason,
    hub::HubDatabase,
    membership::Membership,
    plan::{Decision, Plan, plan},
    settings::Settings,
    testing::{applied, cluster, fleet, hub_config, now, set_attribute},
    trust::Trust,
    watcher::Watcher,
};

mod holds;

/// A row of the heartbeat table.
#[derive(Debug, Clone)]
struct Row {
    host: String,
    received: Timestamp,
    /// Empty: without a list, or with one that only repeats an older one.
    databases: Vec<&'static str>,
}

/// What a pass sees.
#[derive(Debug, Clone, Default)]
struct World {
    rows: Vec<Row>,
    /// How many of them there were at the last pass.
    read: usize,
    hub: Hub,
    watcher: Watcher,
    listings: Listings,
    fields: String,
    acknowledged: Option<String>,
    /// Whether the hub does not answer what is asked of listings.
    is_deaf: bool,
    /// Where partitions are, by their hosts.
    zones: BTreeMap<&'static str, &'static str>,
}

const BOTH: &[&str] = &["Logs", "Metrics"];
const ONE: &[&str] = &["Metrics"];

fn at(minute: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minute)
}

/// What a partition has there: a column of two types, and a table that nobody else has.
fn content(host: &str, database: &str) -> Value {
    let column = if host == "eu" { "x:long" } else { "x:string" };
    json!({"database": database, "tables": ["A", format!("Of{host}")], "tableSchemas": {"A": column}})
}

fn shown(plan: &Plan) -> Vec<String> {
    plan.changes.iter().map(ToString::to_string).collect()
}

impl World {
    fn new(fields: &str) -> Self {
        let names = ["FleetDiscovery", "Logs", "Metrics"].map(|name| DatabaseName::new(name).unwrap());
        let databases = names.map(|name| (name, HubDatabase::default())).into();
        Self { hub: Hub { databases, ..Hub::default() }, fields: fields.to_owned(), ..Self::default() }
    }

    /// Heartbeats at this minute.
    fn beat(&mut self, minute: i64, lists: &[(&str, &[&'static str])]) {
        let row = |(host, databases): &(&str, &[&'static str])| Row {
            host: (*host).to_owned(),
            received: at(minute),
            databases: databases.to_vec(),
        };
        self.rows.extend(lists.iter().map(row));
    }

    /// As `read_listings` does it, of the last two times to live.
    fn answer(&self, asked: &BTreeSet<Entity>, with_content: bool, now: Timestamp) -> Vec<Listing> {
        let answer = asked.iter().cloned().filter_map(|entity| {
            let since = now - SignedDuration::from_hours(2);
            let of_it =
                |row: &&Row| cluster(&row.host) == entity.cluster && row.received > since && !row.databases.is_empty();
            let lists = |row: &&Row| row.databases.contains(&entity.database.as_str());
            let rows = || self.rows.iter().filter(of_it);
            let last = rows().filter(lists).max_by_key(|row| row.received);
            let since = || rows().filter(|row| last.is_none_or(|last| row.received > last.received));
            let content = last.filter(|_| with_content).and_then(|last| {
                let schema = json!([content(&last.host, entity.database.as_str())]);
                parse_schema(&schema, Limits::default()).0?.0.get(&entity.database).cloned()
            });
            Some(Listing {
                bytes: last.map(|_| 1000),
                first: since().map(|row| row.received).min()?,
                last: since().map(|row| row.received).max()?,
                content,
                entity,
            })
        });
        answer.collect()
    }

    fn decide(&mut self, minute: i64) -> Decision {
        let settings = Settings {
            status: None,
            acknowledged_plan: self.acknowledged.clone(),
            ..Settings::from(&hub_config(&self.fields))
        };
        let thresholds = &settings.thresholds;
        let mut newest = BTreeMap::<&str, (Timestamp, &[&str])>::new();
        for row in &self.rows {
            let known = newest.entry(&row.host).or_insert((row.received, &row.databases));
            let list = if row.databases.is_empty() { known.1 } else { &row.databases };
            *known = (row.received, list);
        }
        let beat = |(host, (received, databases)): (&str, (Timestamp, &[&str]))| {
            let schema: Vec<Value> = databases.iter().map(|name| content(host, name)).collect();
            let mut beat = fleet(&[(host, 0, schema.into())]).into_values().next().unwrap().beat;
            if let Some(zone) = self.zones.get(host) {
                set_attribute(&mut beat, "geo", *zone);
            }
            let new_beats = self.rows[self.read..].iter().filter(|row| row.host == host).count() as u64;
            Beat { received, new_beats, ..beat }
        };
        let mut beats: Vec<Beat> = newest.into_iter().map(beat).collect();
        self.read = self.rows.len();
        self.listings.see(&beats, &self.hub, at(minute), thresholds);
        for page in self.listings.due(at(minute), thresholds).iter().filter(|_| !self.is_deaf) {
            self.listings.learn(page, self.answer(page, false, at(minute)), at(minute), thresholds);
        }
        for page in self.listings.lacking().iter().filter(|_| !self.is_deaf) {
            self.listings.learn_contents(page, self.answer(page, true, at(minute)));
        }
        self.listings.tell(&mut beats);
        let (membership, fleet) =
            self.watcher.membership.step(beats, &self.hub, &Trust::default(), at(minute), thresholds, "geo");
        self.watcher.membership = membership;
        let decision = plan(&fleet, &self.hub, &self.watcher.membership, at(minute), &settings);
        self.watcher.note(&decision, at(minute), thresholds.time_to_live);
        decision
    }

    /// A pass at this minute, in which everybody of these has just beaten.
    fn pass(&mut self, minute: i64, lists: &[(&str, &[&'static str])]) -> Plan {
        self.beat(minute, lists);
        match self.decide(minute) {
            Decision::Apply(plan) => {
                self.hub = applied(self.hub.clone(), &plan);
                plan
            }
            Decision::Hold(hold) => panic!("{}", hold.reason),
        }
    }

    fn members(&self, group: &str) -> Vec<String> {
        let found = self.hub.own_groups().find(|(name, _)| name.as_str() == group);
        let members = found.into_iter().flat_map(|(_, members)| members);
        members.map(|entity| entity.cluster.host().split('.').next().unwrap().to_owned()).collect()
    }

    /// Another process, which has watched for long enough and knows which guards hold.
    fn restart(&mut self) {
        self.listings = Listings::default();
        self.read = 0;
        let Membership { guards, darkness, .. } = self.watcher.membership.clone();
        let watching_since = Some(Timestamp::UNIX_EPOCH);
        self.watcher.membership = Membership { guards, darkness, watching_since, ..Membership::default() };
    }
}

#[test]
fn a_database_that_is_listed_no_longer_leaves_after_one_time_to_live_and_until_then_nothing_changes() {
    for is_restarted in [false, true] {
        let mut world = World::new("");
        world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
        for minute in [10, 20, 40, 60, 69] {
            let plan = world.pass(minute, &[("eu", BOTH), ("us", ONE)]);
            assert_eq!(shown(&plan), Vec::<String>::new(), "at minute {minute}");
            let told = world.watcher.membership.partitions[&cluster("us")].problem.as_ref().unwrap();
            assert!(told.starts_with("its heartbeats list 'Logs' no longer, where its agent may"), "{told}");
            if is_restarted {
                world.restart();
            }
        }
        let plan = world.pass(70, &[("eu", BOTH), ("us", ONE)]);
        assert!(plan.changes[0].reason().ends_with("left: https://us.kusto.windows.net"), "{:?}", shown(&plan));
        assert!(shown(&plan).contains(&"drop function federated_Ofus in Logs".to_owned()), "{:?}", shown(&plan));
        assert_eq!(
            (world.members("Logs_Partitions"), world.members("Metrics_Partitions").len()),
            (vec!["eu".into()], 2)
        );
        assert_eq!(shown(&world.pass(80, &[("eu", BOTH), ("us", ONE)])), Vec::<String>::new());
        assert_eq!(world.watcher.membership.partitions[&cluster("us")].problem, None);
        assert_eq!(world.listings.known, BTreeMap::new());
    }
}

#[test]
fn one_heartbeat_in_between_that_lists_it_ends_that_though_no_pass_saw_it_as_the_newest() {
    let without: &[(&str, &[&str])] = &[("eu", BOTH), ("us", ONE)];
    let mut world = World::new("");
    world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
    world.pass(10, without);
    // An agent that runs once a time sees the newest heartbeats alone.
    world.beat(60, &[("us", BOTH)]);
    world.beat(65, without);
    for (minute, leaves) in [(75, false), (100, false), (124, false), (125, true)] {
        world.restart();
        assert_eq!(!world.clone().pass(minute, without).changes.is_empty(), leaves, "at minute {minute}");
        world.pass(minute, without);
    }
}

#[test]
fn one_list_confirms_nothing_however_long_ago_it_was_and_neither_does_what_could_not_be_asked() {
    let mut world = World::new("");
    world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
    world.pass(10, &[("eu", BOTH), ("us", ONE)]);
    for minute in (20..400).step_by(10) {
        world.restart();
        let plan = world.pass(minute, &[("eu", BOTH), ("us", &[])]);
        // When nobody remembers what it had, it may have whatever others have.
        let altered = ["alter function federated_A in Logs", "alter function federated_Ofeu in Logs"];
        let altered = if minute == 120 { &altered[..] } else { &[] };
        assert_eq!(shown(&plan), altered, "at minute {minute}");
        assert_eq!(world.members("Logs_Partitions"), ["eu", "us"], "at minute {minute}");
    }
    assert_eq!(shown(&world.pass(400, &[("eu", BOTH), ("us", ONE)])), Vec::<String>::new());
    assert_ne!(shown(&world.pass(460, &[("eu", BOTH), ("us", ONE)])), Vec::<String>::new());

    let mut deaf = World::new("");
    deaf.pass(0, &[("eu", BOTH), ("us", BOTH)]);
    deaf.is_deaf = true;
    for minute in (10..400).step_by(10) {
        assert_eq!(shown(&deaf.pass(minute, &[("eu", BOTH), ("us", ONE)])), Vec::<String>::new());
    }
    deaf.is_deaf = false;
    assert_ne!(shown(&deaf.pass(400, &[("eu", BOTH), ("us", ONE)])), Vec::<String>::new());
}

#[test]
fn what_joins_meanwhile_is_federated_beside_what_is_kept() {
    let mut world = World::new("");
    world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
    let lists: &[(&str, &[&str])] = &[("au", BOTH), ("eu", BOTH), ("us", ONE)];
    let by_another = {
        let mut world = world.clone();
        world.restart();
        shown(&world.pass(10, lists))
    };
    let plan = world.pass(10, lists);
    assert_eq!(world.members("Logs_Partitions"), ["au", "eu", "us"]);
    assert_eq!(shown(&plan), by_another, "each process plans the same");
    assert!(by_another.contains(&"create function federated_Ofau in Logs".to_owned()), "{by_another:?}");
    // Who cannot know what it had leaves what asks it as it is, and makes what is missing.
    world.restart();
    world.is_deaf = true;
    let plan = world.pass(20, &[("au", BOTH), ("eu", BOTH), ("in", BOTH), ("us", ONE)]);
    let logs: Vec<_> = shown(&plan).into_iter().filter(|change| change.ends_with("in Logs")).collect();
    assert_eq!(
        logs,
        [
            "alter entity group Logs_Partitions in Logs",
            "alter entity group Metrics_Partitions in Logs",
            "create function federated_Ofin in Logs",
        ]
    );
}

const ALL: &[(&str, &[&str])] = &[("au", BOTH), ("eu", BOTH), ("in", BOTH), ("us", BOTH)];

/// What one partition does before a pass.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    ListsBoth,
    ListsOne,
    /// A list that has the database, and then one that has not.
    ListsBothAndThenOne,
    BeatsWithoutList,
    Nothing,
}

/// What happens to the agent before it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Agent {
    GoesOn,
    Restarts,
    CannotAsk,
    LosesSight,
}

const HOSTS: [&str; 4] = ["au", "eu", "in", "us"];

impl World {
    fn does(&mut self, minute: i64, host: &str, does: Does) {
        match does {
            Does::ListsBoth => self.beat(minute, &[(host, BOTH)]),
            Does::ListsOne => self.beat(minute, &[(host, ONE)]),
            Does::ListsBothAndThenOne => {
                self.beat(minute - 5, &[(host, BOTH)]);
                self.beat(minute, &[(host, ONE)]);
            }
            Does::BeatsWithoutList => self.beat(minute, &[(host, &[])]),
            Does::Nothing => {}
        }
    }

    /// Whether heartbeats have not listed Logs for one time to live, as far as the table tells.
    fn has_dropped_logs(&self, host: &str) -> bool {
        let lists: Vec<&Row> = self.rows.iter().filter(|row| row.host == host && !row.databases.is_empty()).collect();
        let listed = lists.iter().rposition(|row| row.databases.contains(&"Logs"));
        let since = &lists[listed.map_or(0, |listed| listed + 1)..];
        let (first, last) = (since.first().map(|row| row.received), since.last().map(|row| row.received));
        first.zip(last).is_some_and(|(first, last)| last.duration_since(first) >= SignedDuration::from_hours(1))
    }

    fn is_silent(&self, host: &str, minute: i64) -> bool {
        let newest = self.rows.iter().filter(|row| row.host == host).map(|row| row.received).max();
        newest.is_none_or(|newest| at(minute).duration_since(newest) > SignedDuration::from_hours(1))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn no_history_takes_a_database_from_who_may_have_it_and_each_comes_to_rest(
        steps in vec((
            array::uniform4(prop_oneof![
                6 => Just(Does::ListsOne),
                2 => Just(Does::ListsBoth),
                1 => Just(Does::ListsBothAndThenOne),
                2 => Just(Does::BeatsWithoutList),
                1 => Just(Does::Nothing),
            ]),
            prop_oneof![
                6 => Just(Agent::GoesOn),
                2 => Just(Agent::Restarts),
                1 => Just(Agent::CannotAsk),
                1 => Just(Agent::LosesSight),
            ],
        ), 1..40),
    ) {
        let mut world = World::new("");
        world.pass(0, ALL);
        let (mut minute, mut held_at) = (0, None);
        for (does, agent) in steps {
            minute += 10;
            for (host, does) in HOSTS.into_iter().zip(does) {
                world.does(minute, host, does);
            }
            world.is_deaf = agent == Agent::CannotAsk;
            match agent {
                Agent::Restarts => world.restart(),
                Agent::LosesSight => world.listings.lose_sight(),
                Agent::GoesOn | Agent::CannotAsk => {}
            }
            let before = world.members("Logs_Partitions");
            let Decision::Apply(plan) = world.decide(minute) else { continue };
            world.hub = applied(world.hub.clone(), &plan);
            let after = world.members("Logs_Partitions");
            let left: Vec<&String> = before.iter().filter(|host| !after.contains(host)).collect();
            for host in &left {
                let may_leave = world.has_dropped_logs(host) || world.is_silent(host, minute);
                prop_assert!(may_leave, "{host} at minute {minute}");
            }
            // Of more than one that do not list it, and more than half, nobody leaves but as a whole.
            let lists = |host: &&String| {
                let rows = || world.rows.iter().filter(|row| row.host == **host);
                let list = rows().rfind(|row| !row.databases.is_empty());
                !world.is_silent(host, minute) && list.is_some_and(|row| row.databases.contains(&"Logs"))
            };
            let unlisted = before.len() - before.iter().filter(lists).count();
            let is_mass = unlisted > 1 && unlisted * 100 >= before.len() * 55;
            // Nor for one time to live after that was so, as they do not list it again at once.
            let is_recovering = held_at.is_some_and(|held_at| minute - held_at <= 60);
            let are_silent = left.iter().all(|host| world.is_silent(host, minute));
            prop_assert!(!(is_mass || is_recovering) || are_silent, "{left:?} at minute {minute}");
            if plan.held.iter().any(|held| matches!(held, HoldReason::UnlistedDatabases { .. })) {
                held_at = Some(minute);
            }
        }
        // What is so for good is believed of those that are few, and nothing more is done then.
        world.is_deaf = false;
        let lasting: &[(&str, &[&str])] = &[("au", BOTH), ("eu", BOTH), ("in", BOTH), ("us", ONE)];
        for _ in 0..14 {
            minute += 10;
            world.pass(minute, lasting);
        }
        prop_assert_eq!(world.members("Logs_Partitions"), ["au", "eu", "in"]);
        for _ in 0..3 {
            minute += 10;
            let plan = world.pass(minute, lasting);
            prop_assert!(plan.changes.is_empty() && plan.held.is_empty(), "{:?}", shown(&plan));
        }
    }
}

#[test]
fn all_that_is_new_is_asked_in_one_pass_page_by_page_and_contents_by_their_length() {
    let thresholds = Settings::from(&hub_config("")).thresholds;
    let hosts: Vec<String> = (0..150).map(|number| format!("p{number:03}")).collect();
    let names: Vec<String> = (0..30).map(|number| format!("Db{number:03}")).collect();
    let entity = |host: &String, name: &String| Entity {
        cluster: cluster(host),
        database: DatabaseName::new(name.as_str()).unwrap(),
    };
    let entities: Vec<Entity> = hosts.iter().flat_map(|host| names.iter().map(|name| entity(host, name))).collect();
    let known = entities.iter().map(|entity| (entity.clone(), Known::default())).collect();
    let mut listings = Listings { known, ..Listings::default() };
    let due = listings.due(now(), &thresholds);
    assert_eq!(due.iter().map(BTreeSet::len).collect::<Vec<_>>(), [2000, 2000, 500]);
    assert_eq!(due.iter().flatten().collect::<BTreeSet<_>>().len(), entities.len());
    let of_few = pages(entities.iter().step_by(30).map(|entity| (entity, 0)));
    assert_eq!(of_few.iter().map(BTreeSet::len).collect::<Vec<_>>(), [MOST_PARTITIONS, 50]);

    let told = |entity: &Entity, bytes| Listing {
        entity: entity.clone(),
        first: now(),
        last: now(),
        bytes: Some(bytes),
        content: None,
    };
    let long = [MOST_BYTES, MOST_BYTES + 1, 1, MOST_BYTES / 2, MOST_BYTES / 2];
    let answer = entities.iter().zip(long).map(|(entity, bytes)| told(entity, bytes)).collect();
    listings.learn(&due[0], answer, now(), &thresholds);
    assert_eq!(listings.due(now(), &thresholds).len(), 2, "what was asked is not asked again");
    let lacking = listings.lacking();
    assert_eq!(lacking.iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 2, 1], "one is too long");
    lacking.iter().for_each(|page| listings.learn_contents(page, Vec::new()));
    assert_eq!(listings.lacking(), []);
}

#[test]
fn what_is_listed_again_with_other_content_is_told_and_nothing_else() {
    let mut world = World::new("");
    let lists: &[(&str, &[&str])] = &[("eu", BOTH), ("us", ONE)];
    world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
    world.pass(10, lists);
    world.pass(20, &[("eu", BOTH), ("us", BOTH)]);
    assert_eq!(world.listings.take_changed(), BTreeSet::new());
    world.pass(30, lists);
    for known in world.listings.known.values_mut() {
        known.content = Some(Arc::default());
    }
    world.pass(40, &[("eu", BOTH), ("us", BOTH)]);
    let changed = BTreeSet::from([(cluster("us"), DatabaseName::new("Logs").unwrap())]);
    assert_eq!((world.listings.take_changed(), world.listings.take_changed()), (changed, BTreeSet::new()));
}

#[test]
fn a_problem_names_some_and_counts_the_rest() {
    let told = |names: &[&str]| {
        let one = Unlisted { content: None, is_known: true, is_unread: false, stays: true };
        problem(&names.iter().map(|name| (DatabaseName::new(*name).unwrap(), one.clone())).collect())
    };
    assert!(told(&["A", "B", "C"]).starts_with("its heartbeats list 'A', 'B', 'C' no longer,"));
    assert!(told(&["A", "B", "C", "D", "E"]).starts_with("its heartbeats list 'A', 'B', 'C', 2 more no longer,"));
}
