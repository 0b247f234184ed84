//! World in, exact decision out.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kql::endpoint::ClusterEndpoint;
use serde_json::{Value, json};
use shared::heartbeat::{Limits, parse_schema};

use super::*;
use crate::{
    fleet::{Beat, Inventory, Thresholds, judge},
    hub::{Claim, ExistingFunction},
};

fn settings() -> Settings {
    Settings {
        thresholds: Thresholds { time_to_live: SignedDuration::from_hours(1), interval: SignedDuration::from_mins(10) },
        function_prefix: "federated_".to_owned(),
        folder: "federation_facades".to_owned(),
        best_effort: true,
    }
}

fn cluster(host: &str) -> ClusterEndpoint {
    ClusterEndpoint::parse(&format!("https://{host}.kusto.windows.net")).unwrap()
}

fn database(name: &str) -> DatabaseName {
    DatabaseName::new(name).unwrap()
}

fn group(name: &str) -> EntityGroupName {
    EntityGroupName::new(name).unwrap()
}

fn entities(hosts: &[&str], name: &str) -> BTreeSet<Entity> {
    hosts.iter().map(|host| Entity { cluster: cluster(host), database: database(name) }).collect()
}

/// Partitions: host, age of the newest beat in minutes, schema (`null`: unreadable).
fn fleet(partitions: &[(&str, i64, Value)]) -> Fleet {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let beats = partitions.iter().map(|(host, age, schema)| {
        let received = now - SignedDuration::from_mins(*age);
        let schema = parse_schema(schema, Limits::default()).0;
        let inventory = schema.map_or(Inventory::Unknown, |schema| Inventory::Known(Arc::new(schema)));
        let endpoint = cluster(host);
        Beat {
            endpoint,
            received,
            new_beats: 1,
            written: Some(received),
            inventory,
            metadata: BTreeMap::new(),
            problems: Vec::new(),
        }
    });
    judge(beats.collect(), now, settings().thresholds)
}

fn logs(tables: &[&str]) -> Value {
    json!([{"database": "Logs", "tables": tables}])
}

fn hub(databases: &[&str]) -> Hub {
    let databases = databases.iter().map(|name| (database(name), HubDatabase::default())).collect();
    Hub { databases, ..Hub::default() }
}

/// Makes the hub what a plan would make of it.
fn applied(mut hub: Hub, plan: &Plan) -> Hub {
    for change in plan.changes.clone() {
        let place = hub.databases.get_mut(change.database()).expect("plans only change databases that exist");
        let groups = place.groups.as_mut().expect("plans leave unreadable databases alone");
        match change {
            Change::CreateGroup { database, group, members } => {
                groups.insert(group.clone(), ExistingGroup::Members(members));
                hub.claims.insert((database, group), Claim { is_made: true, intended: BTreeSet::new() });
            }
            Change::AlterGroup { group, members, .. } => {
                groups.insert(group, ExistingGroup::Members(members));
            }
            Change::PutFunction { function, .. } => {
                let existing = ExistingFunction { folder: function.folder.clone(), docstring: function.docstring() };
                place.functions.insert(function.function, existing);
            }
            Change::DropFunction { function, .. } => drop(place.functions.remove(&function)),
            Change::DropGroup { database, group } => {
                groups.remove(&group);
                hub.claims.remove(&(database, group));
            }
        }
    }
    hub
}

fn planned(fleet: &Fleet, hub: &Hub) -> Plan {
    match plan(fleet, hub, &settings(), None) {
        Decision::Apply(plan) => plan,
        Decision::Hold(reason) => panic!("{reason}"),
    }
}

fn shown(plan: &Plan) -> Vec<String> {
    plan.changes.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_hub_gets_groups_in_every_database_and_functions_in_the_one_of_the_same_name() {
    let fleet = fleet(&[("eu", 1, logs(&["Requests", "Traces"])), ("us", 1, logs(&["Requests", "Traces"]))]);
    let plan = planned(&fleet, &hub(&["FleetDiscovery", "Logs"]));
    assert_eq!(
        shown(&plan),
        [
            "create entity group Logs_Partitions in FleetDiscovery",
            "create entity group Logs_Partitions in Logs",
            "create function federated_Requests in Logs",
            "create function federated_Traces in Logs",
        ]
    );
    assert_eq!(plan.problems, Vec::<String>::new());
}

#[test]
fn a_second_run_plans_nothing() {
    let fleet = fleet(&[("eu", 1, logs(&["Requests", "Traces"])), ("us", 1, logs(&["Requests"]))]);
    let hub = hub(&["FleetDiscovery", "Logs"]);
    let hub = applied(hub.clone(), &planned(&fleet, &hub));
    assert_eq!(planned(&fleet, &hub), Plan::default());
}

#[test]
fn a_table_that_some_partitions_lack_gets_a_function_over_just_those_that_have_it() {
    let fleet = fleet(&[("eu", 1, logs(&["Requests", "Traces"])), ("us", 1, logs(&["Requests"]))]);
    let plan = planned(&fleet, &hub(&["Logs"]));
    let bodies: Vec<_> = plan
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::PutFunction { function, .. } => Some(function.body.render()),
            _ => None,
        })
        .collect();
    assert_eq!(
        bodies,
        [
            "macro-expand isfuzzy=true best_effort=true ['Logs_Partitions'] as X ( X.['Requests'] )",
            "macro-expand isfuzzy=true best_effort=true entity_group [cluster('https://eu.kusto.windows.net').database('Logs')] as X ( X.['Traces'] )",
        ]
    );
}

#[test]
fn a_partition_that_joins_costs_one_alter_a_database_and_no_function() {
    let hub = hub(&["FleetDiscovery", "Logs"]);
    let hub = applied(hub.clone(), &planned(&fleet(&[("eu", 1, logs(&["Requests"]))]), &hub));
    let joined = fleet(&[("eu", 1, logs(&["Requests"])), ("us", 1, logs(&["Requests"]))]);
    let plan = planned(&joined, &hub);
    let alter = |name| Change::AlterGroup {
        database: database(name),
        group: group("Logs_Partitions"),
        members: entities(&["eu", "us"], "Logs"),
        before: entities(&["eu"], "Logs"),
    };
    assert_eq!(plan.changes, [alter("FleetDiscovery"), alter("Logs")]);
    assert_eq!(plan.changes[0].reason(), "joined: https://us.kusto.windows.net; left: none");
}

#[test]
fn an_expired_partition_leaves_and_a_suspect_one_stays() {
    let hub = hub(&["Logs"]);
    let three = |us_age, asia_age| {
        fleet(&[("eu", 1, logs(&["R"])), ("us", us_age, logs(&["R"])), ("asia", asia_age, logs(&["R"]))])
    };
    let hub = applied(hub.clone(), &planned(&three(1, 1), &hub));
    let plan = planned(&three(59, 61), &hub);
    assert_eq!(shown(&plan), ["alter entity group Logs_Partitions in Logs"]);
    assert_eq!(plan.changes[0].reason(), "joined: none; left: https://asia.kusto.windows.net");
}

#[test]
fn what_no_partition_has_any_more_is_dropped_functions_before_groups() {
    let hub = hub(&["Logs", "Metrics"]);
    let before = json!([{"database": "Logs", "tables": ["A"]}, {"database": "Metrics", "tables": ["M"]}]);
    let hub = applied(hub.clone(), &planned(&fleet(&[("eu", 1, before)]), &hub));
    let plan = planned(&fleet(&[("eu", 1, logs(&["B"]))]), &hub);
    assert_eq!(
        shown(&plan),
        [
            "create function federated_B in Logs",
            "drop function federated_A in Logs",
            "drop function federated_M in Metrics",
            "drop entity group Metrics_Partitions in Logs",
            "drop entity group Metrics_Partitions in Metrics",
        ]
    );
    assert_eq!(planned(&fleet(&[("eu", 1, logs(&["B"]))]), &applied(hub, &plan)), Plan::default());
}

#[test]
fn zero_live_heartbeats_hold_everything() {
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&fleet(&[("eu", 1, logs(&["A"]))]), &hub));
    assert_eq!(plan(&fleet(&[]), &hub, &settings(), None), Decision::Hold(HoldReason::NoHeartbeatYet));
    for dark in [fleet(&[("eu", 700, logs(&["A"]))]), fleet(&[("eu", 61, logs(&["A"])), ("us", 500, logs(&["A"]))])] {
        let known = dark.len();
        assert_eq!(plan(&dark, &hub, &settings(), None), Decision::Hold(HoldReason::NoLiveHeartbeat { known }));
    }
}

#[test]
fn a_fleet_that_comes_back_has_one_time_to_live_for_it() {
    let hub = hub(&["Logs"]);
    let all = |ages: [i64; 3]| {
        let named = ["asia", "eu", "us"].into_iter().zip(ages);
        fleet(&named.map(|(host, age)| (host, age, logs(&["A"]))).collect::<Vec<_>>())
    };
    let hub = applied(hub.clone(), &planned(&all([1, 1, 1]), &hub));
    let ttl = settings().thresholds.time_to_live;
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let mut recovery = Recovery::default();
    let mut decide = |fleet: &Fleet, now| {
        let decision = plan(fleet, &hub, &settings(), recovery.until());
        recovery.note(&decision, now, ttl);
        decision
    };
    assert!(matches!(decide(&all([90, 90, 90]), now), Decision::Hold(_)));
    let until = now + ttl;
    let kept =
        |silent| Decision::Apply(Plan { held: Some(HoldReason::Recovering { silent, until }), ..Plan::default() });
    // Two of three are back, one is not; then its row is gone, too.
    assert_eq!(decide(&all([1, 1, 90]), now), kept(1));
    let us_forgotten = fleet(&[("asia", 1, logs(&["A"])), ("eu", 1, logs(&["A"]))]);
    assert_eq!(decide(&us_forgotten, now), kept(1));
    // One time to live after the hold it is believed to be gone.
    assert_eq!(decide(&all([1, 1, 1]), until), Decision::Apply(Plan::default()));
    let Decision::Apply(plan) = decide(&us_forgotten, until) else { panic!("beats are there") };
    assert_eq!(plan.changes[0].reason(), "joined: none; left: https://us.kusto.windows.net");
}

#[test]
fn a_partition_without_a_readable_schema_keeps_what_the_hub_has_of_it() {
    let hub = hub(&["Logs"]);
    let both = fleet(&[("eu", 1, logs(&["A"])), ("us", 1, logs(&["A", "OnlyUs"]))]);
    let hub = applied(hub.clone(), &planned(&both, &hub));
    let unreadable = fleet(&[("eu", 1, logs(&["A"])), ("us", 1, Value::Null)]);
    assert_eq!(planned(&unreadable, &hub), Plan::default());
    // It stays a member of what changes for other reasons, too.
    let joined = fleet(&[("eu", 1, logs(&["A"])), ("us", 1, Value::Null), ("asia", 1, logs(&["A"]))]);
    let plan = planned(&joined, &hub);
    assert_eq!(plan.changes[0].reason(), "joined: https://asia.kusto.windows.net; left: none");
    assert_eq!(plan.changes.len(), 1);
}

#[test]
fn a_missing_hub_database_is_reported_and_isolates_only_itself() {
    let schema = json!([{"database": "Logs", "tables": ["A"]}, {"database": "Metrics", "tables": ["M"]}]);
    let plan = planned(&fleet(&[("eu", 1, schema)]), &hub(&["Logs"]));
    assert_eq!(
        shown(&plan),
        [
            "create entity group Logs_Partitions in Logs",
            "create entity group Metrics_Partitions in Logs",
            "create function federated_A in Logs",
        ]
    );
    assert_eq!(plan.problems.len(), 1);
    assert!(plan.problems[0].contains("'Metrics'"), "{:?}", plan.problems);
}

#[test]
fn a_database_whose_groups_could_not_be_read_is_left_alone_and_the_others_go_on() {
    let mut hub = hub(&["Logs", "Other"]);
    hub.databases.get_mut(&database("Logs")).unwrap().groups = Err("the hub answered 403".to_owned());
    let plan = planned(&fleet(&[("eu", 1, logs(&["A"]))]), &hub);
    assert_eq!(shown(&plan), ["create entity group Logs_Partitions in Other"]);
    assert_eq!(plan.problems, ["the hub database 'Logs' is left as it is: the hub answered 403"]);
}

#[test]
fn a_persons_own_functions_groups_and_tables_are_never_touched() {
    let mut hub = hub(&["Logs"]);
    let logs_database = hub.databases.get_mut(&database("Logs")).unwrap();
    let theirs =
        |folder: &str, docstring: &str| ExistingFunction { folder: folder.into(), docstring: docstring.into() };
    for (name, function) in [
        ("federated_A", theirs("", "my own")),
        ("federated_Gone", theirs("federation_facades", "in our folder, without our marker")),
        ("federated_Other", theirs("elsewhere", "x [adx-federation 0123456789abcdef01234567]")),
    ] {
        logs_database.functions.insert(FunctionName::new(name).unwrap(), function);
    }
    logs_database.shadowed.insert("federated_B".to_owned());
    let groups = logs_database.groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Members(entities(&["mine"], "Logs")));
    groups.insert(group("Old_Partitions"), ExistingGroup::Members(entities(&["mine"], "Old")));
    let plan = planned(&fleet(&[("eu", 1, logs(&["A", "B", "C"]))]), &hub);
    assert_eq!(shown(&plan), ["create function federated_C in Logs"]);
    assert_eq!(plan.problems.len(), 3, "{:?}", plan.problems);
}

#[test]
fn spellings_of_one_database_are_one_group_named_as_the_hub_spells_it() {
    let fleet = fleet(&[
        ("eu", 1, json!([{"database": "logs", "tables": ["A"]}])),
        ("us", 1, json!([{"database": "LOGS", "tables": ["A"]}])),
    ]);
    let plan = planned(&fleet, &hub(&["Logs"]));
    assert_eq!(shown(&plan), ["create entity group Logs_Partitions in Logs", "create function federated_A in Logs"]);
}

#[test]
fn a_group_of_ours_that_a_person_changed_is_repaired() {
    let fleet = fleet(&[("eu", 1, logs(&["A"]))]);
    let hub = hub(&["Logs"]);
    let mut hub = applied(hub.clone(), &planned(&fleet, &hub));
    let groups = hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Foreign);
    assert_eq!(shown(&planned(&fleet, &hub)), ["alter entity group Logs_Partitions in Logs"]);
}

#[test]
fn after_a_lost_answer_a_group_is_ours_by_the_members_that_were_meant_and_only_then() {
    let fleet = fleet(&[("eu", 1, logs(&["A"]))]);
    let mut hub = hub(&["Logs"]);
    let key = (database("Logs"), group("Logs_Partitions"));
    let meant = BTreeSet::from([members_hash(&entities(&["eu"], "Logs"))]);
    hub.claims.insert(key, Claim { is_made: false, intended: meant });
    let mut with_group = |members| {
        let groups = hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap();
        groups.insert(group("Logs_Partitions"), ExistingGroup::Members(members));
        planned(&fleet, &hub)
    };
    let ours = with_group(entities(&["eu"], "Logs"));
    let made = Record { database: database("Logs"), group: group("Logs_Partitions"), state: RecordState::Made };
    assert_eq!((shown(&ours), ours.records), (vec!["create function federated_A in Logs".to_owned()], vec![made]));
    let theirs = with_group(entities(&["mine"], "Logs"));
    assert_eq!(theirs.records, []);
    assert!(theirs.problems[0].contains("was not made by us"), "{:?}", theirs.problems);
}

#[test]
fn a_group_of_ours_that_a_person_dropped_is_made_again_or_forgotten() {
    let before = json!([{"database": "Logs", "tables": []}, {"database": "Metrics", "tables": []}]);
    let hub = hub(&["Other"]);
    let mut hub = applied(hub.clone(), &planned(&fleet(&[("eu", 1, before)]), &hub));
    hub.databases.get_mut(&database("Other")).unwrap().groups.as_mut().unwrap().clear();
    let plan = planned(&fleet(&[("eu", 1, logs(&[]))]), &hub);
    assert_eq!(shown(&plan), ["create entity group Logs_Partitions in Other"]);
    let gone = Record { database: database("Other"), group: group("Metrics_Partitions"), state: RecordState::Gone };
    assert_eq!(plan.records, [gone]);
}

#[test]
fn partitions_that_fall_silent_together_stay_and_one_alone_leaves() {
    let partitions = |ages: [i64; 4]| {
        let hosts = ["asia", "au", "eu", "us"];
        fleet(&hosts.iter().zip(ages).map(|(host, age)| (*host, age, logs(&["A"]))).collect::<Vec<_>>())
    };
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&partitions([1; 4]), &hub));
    // Beats stopped together, so the first expires while the others are suspect.
    for (ages, silent) in [([61, 59, 58, 1], 3), ([61, 62, 63, 1], 3), ([61, 59, 58, 57], 4)] {
        let plan = planned(&partitions(ages), &hub);
        assert_eq!((shown(&plan), plan.held), (vec![], Some(HoldReason::MassExpiry { silent, of: 4 })), "{ages:?}");
    }
    for ages in [[61, 1, 1, 1], [61, 59, 1, 1]] {
        let plan = planned(&partitions(ages), &hub);
        assert_eq!(plan.held, None);
        assert_eq!(plan.changes[0].reason(), "joined: none; left: https://asia.kusto.windows.net");
    }
    // What has left long ago weighs nothing.
    let without = applied(hub.clone(), &planned(&partitions([61, 1, 1, 1]), &hub));
    assert_eq!(planned(&partitions([9999, 1, 1, 1]), &without), Plan::default());
}

#[test]
fn while_removals_are_held_what_joins_is_added() {
    let three = |age, tables: &[&str]| {
        fleet(&[
            ("asia", age, logs(&["A"])),
            ("au", age, logs(&["A"])),
            ("eu", age, logs(&["A"])),
            ("us", 1, logs(tables)),
        ])
    };
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&three(1, &["A"]), &hub));
    let plan = planned(&three(61, &["A", "New"]), &hub);
    assert!(plan.held.is_some());
    assert_eq!(shown(&plan), ["create function federated_New in Logs"]);
}

#[test]
fn functions_never_answer_from_a_persons_group() {
    let mut hub = hub(&["Logs"]);
    let groups = hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Members(entities(&["mine"], "Logs")));
    let plan = planned(&fleet(&[("eu", 1, logs(&["A"]))]), &hub);
    let Change::PutFunction { function, .. } = &plan.changes[0] else { panic!("{:?}", plan.changes) };
    assert!(function.body.render().contains("entity_group [cluster('https://eu.kusto.windows.net')"));
}

#[test]
fn a_partition_with_another_spelling_renames_no_group() {
    let hub = hub(&["Other"]);
    let first = fleet(&[("us", 1, logs(&["A"]))]);
    let hub = applied(hub.clone(), &planned(&first, &hub));
    let joined = fleet(&[("asia", 1, json!([{"database": "LOGS", "tables": ["A"]}])), ("us", 1, logs(&["A"]))]);
    assert_eq!(shown(&planned(&joined, &hub)), ["alter entity group Logs_Partitions in Other"]);
}
