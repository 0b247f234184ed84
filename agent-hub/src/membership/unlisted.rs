//! Databases that groups of ours list of a partition and its heartbeats list no longer. A cluster names only the databases on which whoever asks has a role, so that a list without one is no proof: the
//! partition stays in that database's groups until heartbeats that are one time to live apart agree. Pure; called by each step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName};
use shared::heartbeat::SchemaInventory;

use super::Membership;
use crate::{
    fleet::{Beat, Inventory, Unlisted},
    hub::Hub,
};

/// Since when a partition's heartbeats list databases no longer: when the first of them came that did not.
pub type UnlistedSince = BTreeMap<DatabaseName, Timestamp>;

/// The most names in a problem's sentence.
const MOST_TOLD: usize = 3;

/// What groups of ours list of each partition.
pub(super) fn listed_by_groups(hub: &Hub) -> BTreeMap<&ClusterEndpoint, BTreeSet<&DatabaseName>> {
    let mut listed = BTreeMap::<_, BTreeSet<_>>::new();
    for entity in hub.members() {
        listed.entry(&entity.cluster).or_default().insert(&entity.database);
    }
    listed
}

impl Membership {
    /// What of a partition's databases is kept although its newest heartbeat does not list it. `by_groups`: those that groups of ours list of it. `is_unread`: whether others may be listed by groups
    /// that could not be read.
    pub(super) fn unlisted(
        &self,
        beat: &Beat,
        by_groups: Option<&BTreeSet<&DatabaseName>>,
        is_unread: bool,
        time_to_live: SignedDuration,
    ) -> BTreeMap<DatabaseName, Unlisted> {
        let Inventory::Known(inventory) = &beat.inventory else { return BTreeMap::new() };
        let known = self.unlisted.get(&beat.endpoint);
        let content = |database| self.listed.get(&beat.endpoint).and_then(|listed| listed.0.get(database).cloned());
        let remembered = known.into_iter().flat_map(UnlistedSince::keys).filter(|_| is_unread);
        let names = by_groups.into_iter().flatten().copied().chain(remembered);
        let unlisted = names.filter(|database| !inventory.0.contains_key(*database)).map(|database| {
            let since = known.and_then(|known| known.get(database)).copied().unwrap_or(beat.received);
            // A list that is not the newest heartbeat's own says nothing new.
            let is_confirmed = beat.has_own_schema && beat.received.duration_since(since) >= time_to_live;
            (database.clone(), Unlisted { since, content: content(database), stays: !is_confirmed })
        });
        unlisted.collect()
    }

    /// Remembers what was judged of a partition, and what it holds for when it lists less.
    pub(super) fn remember_listed(&mut self, before: &Self, beat: &Beat, unlisted: &BTreeMap<DatabaseName, Unlisted>) {
        let endpoint = &beat.endpoint;
        let Inventory::Known(inventory) = &beat.inventory else {
            // Nothing is known that would tell otherwise.
            self.unlisted
                .extend(before.unlisted.get_key_value(endpoint).map(|(of, since)| (of.clone(), since.clone())));
            return;
        };
        let kept: Vec<_> = unlisted.iter().filter_map(|(name, kept)| Some((name, kept.content.as_ref()?))).collect();
        let listed = if kept.is_empty() {
            Arc::clone(inventory)
        } else {
            let mut listed = SchemaInventory::clone(inventory);
            listed.0.extend(kept.into_iter().map(|(name, content)| (name.clone(), Arc::clone(content))));
            Arc::new(listed)
        };
        self.listed.insert(endpoint.clone(), listed);
        if !unlisted.is_empty() {
            let since = unlisted.iter().map(|(name, unlisted)| (name.clone(), unlisted.since));
            self.unlisted.insert(endpoint.clone(), since.collect());
        }
    }
}

/// What a person is told of it, in a sentence that stays the same: it is recorded.
pub(super) fn problem(unlisted: &BTreeMap<DatabaseName, Unlisted>, time_to_live: SignedDuration) -> Option<String> {
    let first = unlisted.values().map(|unlisted| unlisted.since).min()?;
    let mut names: Vec<String> = unlisted.keys().take(MOST_TOLD).map(|name| format!("'{name}'")).collect();
    if let more @ 1.. = unlisted.len() - names.len() {
        names.push(format!("{more} more"));
    }
    let until = first.saturating_add(time_to_live).unwrap_or(Timestamp::MAX);
    Some(format!(
        "its heartbeats list {} no longer, on which its agent may have lost its role: it leaves a database's groups with a heartbeat that does not list it one heartbeatTTL after the first such one, {until} at the earliest",
        names.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        plan::{Decision, Plan, plan},
        settings::Settings,
        testing::{applied, cluster, fleet, hub_config, now},
        trust::Trust,
    };

    /// A hub that is kept true for partitions whose heartbeats list these databases.
    struct World {
        hub: Hub,
        membership: Membership,
        settings: Settings,
    }

    impl World {
        fn new(fields: &str) -> Self {
            let names = ["FleetDiscovery", "Logs", "Metrics"].map(|name| DatabaseName::new(name).unwrap());
            let databases = names.map(|name| (name, crate::hub::HubDatabase::default())).into();
            let settings = Settings { status: None, ..Settings::from(&hub_config(fields)) };
            Self { hub: Hub { databases, ..Hub::default() }, membership: Membership::default(), settings }
        }

        /// A pass at this minute, in which everybody has just beaten; the heartbeat of a host with `!` has no schema that can be read, and the last one counts.
        fn pass(&mut self, minute: i64, lists: &[(&str, &[&str])]) -> Plan {
            let at = now() + SignedDuration::from_mins(minute);
            let beats = lists.iter().map(|(host, databases)| {
                let schema = databases.iter().map(|name| {
                    // The same column in two types, and a table that nobody else has.
                    let column = if *host == "eu" { "x:long" } else { "x:string" };
                    let own = format!("Of{}", host.trim_end_matches('!'));
                    json!({"database": name, "tables": ["A", own], "tableSchemas": {"A": column}})
                });
                let one = fleet(&[(host.trim_end_matches('!'), 0, schema.collect())]);
                let beat = one.into_values().next().unwrap().beat;
                Beat { received: at, has_own_schema: !host.ends_with('!'), ..beat }
            });
            let Settings { thresholds, guards, .. } = &self.settings;
            let (after, fleet) = self.membership.step(
                beats.collect(),
                &self.hub,
                &Trust::default(),
                at,
                thresholds,
                &guards.zone_attribute,
            );
            self.membership = after;
            match plan(&fleet, &self.hub, &self.membership, at, &self.settings) {
                Decision::Apply(plan) => {
                    self.hub = applied(self.hub.clone(), &plan);
                    plan
                }
                Decision::Hold(hold) => panic!("{}", hold.reason),
            }
        }

        fn members(&self, group: &str) -> Vec<String> {
            let (_, members) = self.hub.own_groups().find(|(name, _)| name.as_str() == group).unwrap();
            members.iter().map(|entity| entity.cluster.host().split('.').next().unwrap().to_owned()).collect()
        }

        /// Another process that knows what was recorded.
        fn restart(&mut self) {
            let unlisted = self.membership.unlisted.clone();
            self.membership = Membership { unlisted, ..Membership::default() };
        }
    }

    const BOTH: &[&str] = &["Logs", "Metrics"];
    const ONE: &[&str] = &["Metrics"];

    fn shown(plan: &Plan) -> Vec<String> {
        plan.changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_database_that_is_listed_no_longer_leaves_after_one_time_to_live_and_until_then_nothing_changes() {
        for is_restarted in [false, true] {
            let mut world = World::new("");
            world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
            for minute in [10, 20, 60, 69] {
                let plan = world.pass(minute, &[("eu", BOTH), ("us", ONE)]);
                assert_eq!(shown(&plan), Vec::<String>::new(), "at minute {minute}");
                let told = world.membership.partitions[&cluster("us")].problem.as_ref().unwrap();
                let said = "its heartbeats list 'Logs' no longer, on which its agent may have lost its role";
                assert!(told.starts_with(said) && told.ends_with("2023-11-14T23:23:20Z at the earliest"), "{told}");
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
            world.pass(80, &[("eu", BOTH), ("us", ONE)]);
            assert_eq!(world.membership.unlisted, BTreeMap::new());
            assert_eq!(world.membership.partitions[&cluster("us")].problem, None);
        }
    }

    #[test]
    fn what_is_listed_again_begins_anew_and_so_does_what_was_out_of_sight() {
        let mut world = World::new("");
        let without: &[(&str, &[&str])] = &[("eu", BOTH), ("us", ONE)];
        world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
        world.pass(10, without);
        world.pass(60, &[("eu", BOTH), ("us", BOTH)]);
        assert_eq!(world.membership.unlisted, BTreeMap::new());
        for (minute, leaves) in [(70, false), (129, false), (140, true)] {
            // At once with the first again.
            assert_eq!(!world.clone_pass(minute, without).changes.is_empty(), leaves, "at minute {minute}");
            world.pass(minute, without);
        }
        world.pass(150, &[("eu", BOTH), ("us", BOTH)]);
        world.pass(160, without);
        world.membership.lose_sight();
        assert_eq!(shown(&world.pass(230, without)), Vec::<String>::new());
        assert_ne!(shown(&world.pass(290, without)), Vec::<String>::new());
    }

    impl World {
        fn clone_pass(&self, minute: i64, lists: &[(&str, &[&str])]) -> Plan {
            let Self { hub, membership, settings } = self;
            Self { hub: hub.clone(), membership: membership.clone(), settings: settings.clone() }.pass(minute, lists)
        }
    }

    #[test]
    fn a_list_that_is_not_the_newest_heartbeats_own_confirms_nothing() {
        let mut world = World::new("");
        world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
        world.pass(10, &[("eu", BOTH), ("us", ONE)]);
        for minute in [80, 900] {
            assert_eq!(shown(&world.pass(minute, &[("eu", BOTH), ("us!", ONE)])), Vec::<String>::new());
        }
        assert_ne!(shown(&world.pass(910, &[("eu", BOTH), ("us", ONE)])), Vec::<String>::new());
    }

    #[test]
    fn what_joins_meanwhile_is_federated_beside_what_is_kept() {
        let mut world = World::new("");
        world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
        let plan = world.pass(10, &[("au", BOTH), ("eu", BOTH), ("us", ONE)]);
        assert_eq!(world.members("Logs_Partitions"), ["au", "eu", "us"]);
        let text =
            |plan: &Plan| plan.changes.iter().map(|change| change.request().text().to_owned()).collect::<String>();
        assert!(text(&plan).contains("federated_Ofau"), "{:?}", shown(&plan));
        // Who does not know what it had leaves what asks it as it is, and makes what is missing.
        world.restart();
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

    #[test]
    fn what_many_list_no_longer_stays_until_a_person_acknowledges_or_they_list_it_again() {
        let all: &[(&str, &[&str])] = &[("au", BOTH), ("eu", BOTH), ("in", BOTH), ("us", BOTH)];
        let without: &[(&str, &[&str])] = &[("au", ONE), ("eu", ONE), ("in", ONE), ("us", BOTH)];
        let mut world = World::new("");
        world.pass(0, all);
        world.pass(10, without);
        let held = world.pass(70, without);
        let told = held.held[0].to_string();
        assert!(told.starts_with("3 of 4 partitions list the database 'Logs' no longer: they stay"), "{told}");
        assert_eq!((held.held.len(), held.changes.len(), held.kept.len()), (1, 0, 3));
        assert_eq!(held.held[0].label().as_str(), "unlisted_databases");
        assert_eq!(world.pass(9000, without).held, held.held);
        // Those who have just lost it count.
        let mut slow = World::new("");
        slow.pass(0, all);
        slow.pass(10, &[("au", ONE), ("eu", BOTH), ("in", BOTH), ("us", BOTH)]);
        slow.pass(60, without);
        let plan = slow.pass(70, without);
        assert_eq!((plan.held, plan.kept.len()), (held.held.clone(), 1));
        // A list of two of four is believed.
        slow.pass(75, &[("au", ONE), ("eu", ONE), ("in", BOTH), ("us", BOTH)]);
        assert_eq!(slow.members("Logs_Partitions"), ["eu", "in", "us"]);

        let hash = held.released.unwrap().hash;
        world.settings.acknowledged_plan = Some(hash);
        let plan = world.pass(9010, without);
        assert_eq!((plan.acknowledged, plan.held), (held.held, vec![]));
        assert_eq!(world.members("Logs_Partitions"), ["us"]);
    }

    #[test]
    fn a_hold_of_what_many_list_no_longer_ends_with_its_time_limit() {
        let all: &[(&str, &[&str])] = &[("au", BOTH), ("eu", BOTH), ("in", BOTH)];
        let without: &[(&str, &[&str])] = &[("au", ONE), ("eu", ONE), ("in", ONE)];
        let mut world = World::new("membership: {guardTimeLimit: 2h}, ");
        world.pass(0, all);
        world.pass(10, without);
        assert_eq!(world.pass(189, without).held.len(), 1);
        assert!(shown(&world.pass(190, without)).contains(&"drop entity group Logs_Partitions in Logs".to_owned()));
    }

    #[test]
    fn a_problem_names_some_and_counts_the_rest() {
        let unlisted = |names: &[&str]| {
            let one = Unlisted { since: now(), content: None, stays: true };
            names.iter().map(|name| (DatabaseName::new(*name).unwrap(), one.clone())).collect()
        };
        let told = |names: &[&str]| problem(&unlisted(names), SignedDuration::from_hours(1));
        assert_eq!(told(&[]), None);
        assert!(told(&["A", "B", "C"]).unwrap().starts_with("its heartbeats list 'A', 'B', 'C' no longer,"));
        assert!(told(&["A", "B", "C", "D", "E"]).unwrap().starts_with("its heartbeats list 'A', 'B', 'C', 2 more no"));
    }
}
