//! World in, exact decision out.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::{
    adopt::adopt,
    fleet::{Beat, Inventory},
    hub::{Claim, ExistingFunction},
    testing::{applied, cluster, fleet, now, set_attribute, silent_since},
    trust::Trust,
};

mod adoption;
mod columns;
mod guards;
mod names;
mod unread;

fn settings() -> Settings {
    Settings { status: None, ..Settings::from(&crate::testing::hub_config("")) }
}

fn database(name: &str) -> DatabaseName {
    DatabaseName::new(name).unwrap()
}

fn group(name: &str) -> EntityGroupName {
    EntityGroupName::new(name).unwrap()
}

fn entities(hosts: &[&str], name: &str) -> MemberSet {
    Arc::new(hosts.iter().map(|host| Entity { cluster: cluster(host), database: database(name) }).collect())
}

/// The same with whom our groups list besides.
fn with_forgotten(mut fleet: Fleet, hub: &Hub) -> Fleet {
    for member in hub.members() {
        let partition = || Partition {
            beat: Beat::forgotten(member.cluster.clone()),
            state: PartitionState::Expired,
            since: Timestamp::UNIX_EPOCH,
            zone: None,
            reason: None,
            missed_beats: 0,
            kept_by: None,
        };
        fleet.entry(member.cluster.clone()).or_insert_with(partition);
    }
    fleet
}

/// Of an agent that has watched for ever.
fn watched() -> Membership {
    Membership { watching_since: Some(Timestamp::UNIX_EPOCH), ..Membership::default() }
}

fn decided(fleet: &Fleet, hub: &Hub, settings: &Settings) -> Decision {
    let silent = hub.members().map(|member| (member.cluster.clone(), silent_since(Timestamp::UNIX_EPOCH)));
    let membership = Membership { partitions: silent.collect(), ..watched() };
    plan(&with_forgotten(fleet.clone(), hub), hub, &membership, now(), settings)
}

fn logs(tables: &[&str]) -> Value {
    json!([{"database": "Logs", "tables": tables}])
}

fn hub(databases: &[&str]) -> Hub {
    let databases = databases.iter().map(|name| (database(name), HubDatabase::default())).collect();
    Hub { databases, ..Hub::default() }
}

fn planned(fleet: &Fleet, hub: &Hub) -> Plan {
    planned_with(&settings(), fleet, hub)
}

/// What is planned by these settings, where no guard holds all of it.
fn planned_with(settings: &Settings, fleet: &Fleet, hub: &Hub) -> Plan {
    match decided(fleet, hub, settings) {
        Decision::Apply(plan) => plan,
        Decision::Hold(hold) => panic!("{}", hold.reason),
    }
}

/// Of a hub that has groups by the values of these attributes.
fn grouped_by(attributes: &[&str]) -> Settings {
    Settings { group_attributes: attributes.iter().copied().map(str::to_owned).collect(), ..settings() }
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
fn a_change_in_full_has_its_reason_and_under_it_every_line_of_its_command() {
    let fleet = fleet(&[("eu", 1, logs(&["A"]))]);
    let settings = Settings::from(&crate::testing::hub_config(""));
    let plan = planned_with(&settings, &fleet, &hub(&["Logs"]));
    let group = "create entity group Logs_Partitions in Logs: 1 partition(s) have the database\n    .create entity_group ['Logs_Partitions'] (cluster('https://eu.kusto.windows.net').database('Logs'))";
    assert_eq!(plan.changes[0].in_full(), group);
    // `federation_status` has many lines.
    for change in &plan.changes {
        let text = change.in_full();
        let command: Vec<_> = text.lines().skip(1).map(|line| line.strip_prefix("    ").unwrap()).collect();
        assert_eq!(command.join("\n"), change.request().text());
    }
    assert!(plan.changes.iter().any(|change| change.in_full().lines().count() > 10));
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
    assert_eq!(
        bodies(&plan),
        [
            "macro-expand isfuzzy=true best_effort=true ['Logs_Partitions'] as X ( X.['Requests'] )",
            "macro-expand isfuzzy=true best_effort=true entity_group [cluster('https://eu.kusto.windows.net').database('Logs')] as X ( X.['Traces'] )",
        ]
    );
}

/// Bodies of the functions that a plan puts.
fn bodies(plan: &Plan) -> Vec<String> {
    let put = |change: &Change| match change {
        Change::PutFunction { function, .. } => Some(function.body.render()),
        _ => None,
    };
    plan.changes.iter().filter_map(put).collect()
}

#[test]
fn views_are_federated_like_tables_unless_a_table_has_their_name() {
    let with_view = |tables: &[&str]| json!([{"database": "Logs", "tables": tables, "views": ["V", "W"]}]);
    let plan = planned(&fleet(&[("eu", 1, with_view(&[])), ("us", 1, with_view(&["W"]))]), &hub(&["Logs"]));
    assert_eq!(
        bodies(&plan),
        [
            "macro-expand isfuzzy=true best_effort=true ['Logs_Partitions'] as X ( X.['V']() )",
            "macro-expand isfuzzy=true best_effort=true ['Logs_Partitions'] as X ( X.['W']() )",
        ]
    );
    let told = "'W' in 'Logs' is a table in some partitions and a view in others: only the views are federated";
    assert_eq!(plan.problems, [told]);
}

#[test]
fn a_column_of_two_types_is_converted_or_left_and_told_with_who_has_which() {
    let typed = |columns: &str| json!([{"database": "Logs", "tables": ["T"], "tableSchemas": {"T": columns}}]);
    let partitions = |first: &str, second: &str| {
        fleet(&[("eu", 1, typed(first)), ("us", 1, typed(second)), ("asia", 1, typed(second))])
    };
    let three = partitions("a:int, ['b c']:real, d:string", "a:long, ['b c']:int, d:dynamic, e:long");
    let plan = planned(&three, &hub(&["Logs"]));
    let expanded = "macro-expand isfuzzy=true best_effort=true ['Logs_Partitions'] as X ( X.['T'] | extend ['a'] = tolong(column_ifexists('a', long(null))) | extend ['b c'] = toreal(column_ifexists('b c', real(null))) | extend ['d'] = tostring(column_ifexists('d', '')) )";
    assert_eq!(bodies(&plan), [expanded]);
    assert_eq!(
        plan.problems[0],
        "the column 'a' of 'T' in 'Logs' has different types: int in https://eu.kusto.windows.net; long in https://asia.kusto.windows.net, https://us.kusto.windows.net"
    );
    let report = Settings { converts_columns: false, ..settings() };
    let reported = planned_with(&report, &three, &hub(&["Logs"]));
    let plain = "macro-expand isfuzzy=true best_effort=true ['Logs_Partitions'] as X ( X.['T'] )";
    assert_eq!((bodies(&reported), &reported.problems), (vec![plain.to_owned()], &plan.problems));
    // The one that differs cannot be read for once: nobody can tell that it does not differ any more.
    let made = applied(hub(&["Logs"]), &plan);
    let mut unread = three;
    let other = unread.get_mut(&cluster("eu")).unwrap();
    other.beat.inventory = Inventory::Unread;
    assert_eq!(planned(&unread, &made).changes, []);
    // One that never told what it holds holds up nothing.
    unread.get_mut(&cluster("eu")).unwrap().beat.inventory = Inventory::Unknown;
    assert_eq!(shown(&planned(&unread, &made)), ["alter function federated_T in Logs"]);
    assert_eq!(
        bodies(&planned(&partitions("a:int", "b:long"), &hub(&["Logs"]))),
        [plain],
        "other columns are no conflict"
    );
}

#[test]
fn an_attribute_has_a_group_for_each_of_its_values() {
    let settings = grouped_by(&["geo"]);
    let zoned = |zones: [&str; 3]| {
        let mut fleet = fleet(&["a", "b", "c"].map(|host| (host, 1, logs(&["A"]))));
        for (partition, zone) in fleet.values_mut().zip(zones) {
            set_attribute(&mut partition.beat, "geo", zone);
        }
        fleet
    };
    let decide = |fleet: &Fleet, hub: &Hub| planned_with(&settings, fleet, hub);
    let empty = hub(&["Other"]);
    let plan = decide(&zoned(["EU", "US", "EU"]), &empty);
    assert_eq!(
        shown(&plan),
        [
            "create entity group Logs_Partitions in Other",
            "create entity group Logs_Partitions_EU in Other",
            "create entity group Logs_Partitions_US in Other",
        ]
    );
    // Two attributes with one value are not one group, and no value makes none.
    let both = grouped_by(&["geo", "tenant"]);
    let mut shared = zoned(["EU", "US", ""]);
    set_attribute(&mut shared.get_mut(&cluster("c")).unwrap().beat, "tenant", "EU");
    let split = planned_with(&both, &shared, &empty);
    assert_eq!(shown(&split), shown(&plan));
    let Change::CreateGroup { members, .. } = &split.changes[1] else { panic!("{split:?}") };
    assert_eq!(*members, entities(&["a"], "Logs"));
    assert!(split.problems.iter().any(|problem| problem.starts_with("'EU' is a value of both geo and tenant")));
    let hub = applied(empty, &plan);
    let moved = decide(&zoned(["EU", "EU", "it's"]), &hub);
    assert_eq!(
        shown(&moved),
        ["alter entity group Logs_Partitions_EU in Other", "drop entity group Logs_Partitions_US in Other"]
    );
    // Whoever is kept without a row stays in the group of its zone, too.
    let mut fewer = zoned(["EU", "US", "EU"]);
    fewer.remove(&cluster("b"));
    let fresh = Membership { watching_since: Some(now()), ..Membership::default() };
    let Decision::Apply(kept) = super::plan(&with_forgotten(fewer, &hub), &hub, &fresh, now(), &settings) else {
        panic!("two beat")
    };
    assert_eq!((kept.held, kept.changes), (vec![HoldReason::StartupGrace { silent: 1 }], vec![]));
}

#[test]
fn every_hub_database_tells_of_the_federation() {
    let settings = Settings::from(&crate::testing::hub_config(""));
    let fleet = fleet(&[("eu", 1, logs(&[]))]);
    let hub = hub(&["FleetDiscovery", "Other"]);
    let plan = planned_with(&settings, &fleet, &hub);
    let functions: Vec<_> = shown(&plan).into_iter().filter(|change| change.contains("function")).collect();
    assert_eq!(
        functions,
        ["create function federation_status in FleetDiscovery", "create function federation_status in Other"]
    );
    let again = planned_with(&settings, &fleet, &applied(hub, &plan));
    assert_eq!(shown(&again), Vec::<String>::new());
}

#[test]
fn a_function_that_somebody_edited_is_put_back_and_one_that_the_hub_only_writes_otherwise_is_not() {
    let fleet = fleet(&[("eu", 1, logs(&["A"]))]);
    let hub = hub(&["Logs"]);
    let mut hub = applied(hub.clone(), &planned(&fleet, &hub));
    let functions = &mut hub.databases.get_mut(&database("Logs")).unwrap().functions;
    let function = functions.values_mut().next().unwrap();
    let written = &function.written;
    let edited = Written { content_hash: "another".to_owned(), ..written.clone() };
    let moved = Written { folder: "another".to_owned(), ..written.clone() };
    let docstring = function.docstring.clone();
    for theirs in [edited, moved] {
        let functions = &mut hub.databases.get_mut(&database("Logs")).unwrap().functions;
        functions.values_mut().for_each(|function| function.written = theirs.clone());
        let plan = planned(&fleet, &hub);
        assert_eq!(shown(&plan), ["alter function federated_A in Logs"]);
        assert_eq!(plan.changes[0].reason(), "it was edited by somebody: A of every partition of Logs");
        hub.rewritten.insert(docstring.clone(), theirs);
        assert_eq!(planned(&fleet, &hub), Plan::default());
    }
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
    let command = |plan: &Plan| plan.changes[0].request().text().to_owned();
    let us = "cluster('https://us.kusto.windows.net').database('Logs')";
    assert_eq!(command(&plan), format!(".alter-merge entity_group ['Logs_Partitions'] ({us})"));
    // Whoever leaves is told by what is left.
    let hub = applied(hub, &plan);
    let left = planned(&fleet(&[("eu", 61, logs(&["Requests"])), ("us", 1, logs(&["Requests"]))]), &hub);
    assert_eq!(command(&left), format!(".alter entity_group ['Logs_Partitions'] ({us})"));
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
fn a_partition_without_a_readable_schema_keeps_what_the_hub_has_of_it() {
    let hub = hub(&["Logs"]);
    let both = fleet(&[("eu", 1, logs(&["A"])), ("us", 1, logs(&["A", "OnlyUs"]))]);
    let hub = applied(hub.clone(), &planned(&both, &hub));
    let unreadable = fleet(&[("eu", 1, logs(&["A"])), ("us", 1, Value::Null)]);
    let uncertain = BTreeSet::from([DatabaseName::new("Logs").unwrap()]);
    assert_eq!(planned(&unreadable, &hub), Plan { uncertain, ..Plan::default() });
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
    // The mark of the first builds, which says nothing of the place.
    let placeless = "x [adx-federation 0123456789abcdef01234567]";
    let mut hub = hub(&["Logs"]);
    let fleet = fleet(&[("eu", 1, logs(&["A", "B", "C", "D"]))]);
    // As one copies a function of ours to edit it: folder and docstring come along.
    let Change::PutFunction { function: put, .. } = &planned(&fleet, &hub).changes[1] else { panic!() };
    let logs_database = hub.databases.get_mut(&database("Logs")).unwrap();
    for (name, folder, docstring) in [
        ("federated_A", "", "my own"),
        ("federated_Gone", "federation_facades", "in our folder, without our mark"),
        ("MyErrors", "federation_facades", &*put.docstring()),
        ("federated_Copy", "federation_facades", &put.docstring()),
        ("federated_D", "federation_facades", placeless),
        ("federated_Past", "federation_facades", placeless),
    ] {
        let name = FunctionName::new(name).unwrap();
        let function = existing(&name, folder, docstring);
        logs_database.functions.insert(name, function);
    }
    logs_database.shadowed.insert("federated_B".to_owned());
    let groups = logs_database.groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Members(entities(&["mine"], "Logs")));
    groups.insert(group("Old_Partitions"), ExistingGroup::Members(entities(&["mine"], "Old")));
    let plan = planned(&fleet, &hub);
    let ours = ["create entity group federated_Logs_Partitions in Logs", "create function federated_C in Logs"];
    assert_eq!(shown(&plan), ours);
    assert_eq!(plan.problems.len(), 4, "{:?}", plan.problems);
    let told = "the function 'federated_D' in 'Logs' was not made by us and is left alone: rename it to have ours made";
    assert!(plan.problems.iter().any(|problem| problem == told), "{:?}", plan.problems);
}

fn existing(name: &FunctionName, folder: &str, docstring: &str) -> ExistingFunction {
    ExistingFunction {
        keeper: Keeper::of(&database("Logs"), name, docstring, &database("FleetDiscovery")),
        docstring: docstring.to_owned(),
        written: Written { folder: folder.to_owned(), content_hash: String::new() },
    }
}

#[test]
fn what_an_agent_with_another_heartbeat_database_keeps_is_left_alone() {
    let mut hub = hub(&["Logs"]);
    let theirs = Settings { keeper: database("FleetB"), ..settings() };
    let everybody = fleet(&[("eu", 1, logs(&["A", "Gone"])), ("us", 1, logs(&["A"]))]);
    let plan = planned_with(&theirs, &everybody, &hub);
    hub = applied(hub, &plan);
    for database in hub.databases.values_mut() {
        for (name, function) in &mut database.functions {
            *function = existing(name, &function.written.folder, &function.docstring);
        }
    }
    hub.claims.clear();
    adopt(&mut hub, &settings());
    let plan = planned(&fleet(&[("us", 1, logs(&["A"]))]), &hub);
    assert_eq!(shown(&plan), ["create entity group federated_Logs_Partitions in Logs"]);
    assert!(plan.problems.iter().any(|problem| problem.contains("with the heartbeatDatabase 'FleetB'")), "{plan:?}");
    assert!(plan.problems.iter().any(|problem| problem.contains("'Logs_Partitions' in 'Logs' was not made by us")));
}

/// In other words, over another body, with a longer hash of it.
#[test]
fn what_an_earlier_version_put_is_ours_and_is_brought_up_to_date() {
    let both = fleet(&[("eu", 1, logs(&["A", "B"])), ("us", 1, logs(&["A", "B"]))]);
    let hub = hub(&["Logs"]);
    let mut hub = applied(hub.clone(), &planned(&both, &hub));
    for (name, function) in &mut hub.databases.get_mut(&database("Logs")).unwrap().functions {
        let (_, mark) = function.docstring.rsplit_once(" [").unwrap();
        let (place, _) = mark.rsplit_once('-').unwrap();
        let docstring = format!("The whole fleet's [{place}-{}]", "0".repeat(64));
        *function = existing(name, &function.written.folder, &docstring);
        assert!(function.is_ours());
    }
    let plan = planned(&fleet(&[("eu", 1, logs(&["A"])), ("us", 1, logs(&["A"]))]), &hub);
    assert_eq!(shown(&plan), ["alter function federated_A in Logs", "drop function federated_B in Logs"]);
    assert_eq!(plan.problems, Vec::<String>::new());
    let hub = applied(hub, &plan);
    assert_eq!(planned(&fleet(&[("eu", 1, logs(&["A"])), ("us", 1, logs(&["A"]))]), &hub), Plan::default());
}

#[test]
fn functions_of_ours_in_a_folder_of_old_are_told_and_left() {
    let everybody = fleet(&[("eu", 1, logs(&["A"]))]);
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&everybody, &hub));
    let renamed = Settings { folder: "new".to_owned(), function_prefix: "f_".to_owned(), ..settings() };
    let plan = planned_with(&renamed, &everybody, &hub);
    assert_eq!(shown(&plan), ["create function f_A in Logs"]);
    assert!(plan.problems[0].contains("another folder") && plan.problems[0].contains("'federated_A'"), "{plan:?}");
    let moved = Settings { folder: "new".to_owned(), ..settings() };
    let plan = planned_with(&moved, &everybody, &hub);
    assert_eq!((shown(&plan), plan.problems), (vec!["alter function federated_A in Logs".to_owned()], vec![]));
}

#[test]
fn a_table_whose_function_would_take_the_name_of_the_status_is_told() {
    let settings =
        Settings { function_prefix: "federation_".to_owned(), ..Settings::from(&crate::testing::hub_config("")) };
    let fleet = fleet(&[("eu", 1, logs(&["status", "A"]))]);
    let plan = planned_with(&settings, &fleet, &hub(&["Logs"]));
    let puts = ["create function federation_A in Logs", "create function federation_status in Logs"];
    assert_eq!(shown(&plan)[1..], puts);
    assert!(plan.problems[0].contains("'status' in 'Logs' is not federated"), "{:?}", plan.problems);
    assert!(bodies(&plan)[1].contains("AdxFederationMembers"));
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
    assert!(theirs.records.iter().all(|record| record.group != group("Logs_Partitions")), "{:?}", theirs.records);
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
fn functions_never_answer_from_a_persons_group() {
    let mut hub = hub(&["Logs"]);
    let groups = hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Members(entities(&["mine"], "Logs")));
    let everybody = fleet(&[("eu", 1, logs(&["A"]))]);
    let plan = planned(&everybody, &hub);
    let own = "macro-expand isfuzzy=true best_effort=true ['federated_Logs_Partitions'] as X ( X.['A'] )";
    assert_eq!(bodies(&plan), [own]);
    // Its members are guarded as those of any group of ours are, and it goes with the person's.
    let mut hub = applied(hub, &plan);
    let silent = fleet(&[("eu", 90, logs(&["A"])), ("us", 1, logs(&["A"]))]);
    let Decision::Apply(held) = plan_of(&silent, &hub, &Membership::default()) else { panic!("one beats") };
    assert!(matches!(held.held[..], [HoldReason::StartupGrace { silent: 1 }]), "{held:?}");
    assert_eq!(held.kept, BTreeMap::from([(cluster("eu"), GuardReason::StartupGrace)]));
    hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap().remove(&group("Logs_Partitions"));
    // One after the other: functions must not ask what could not be made, nor lose what they ask.
    let again = [
        "create entity group Logs_Partitions in Logs",
        "alter function federated_A in Logs",
        "drop entity group federated_Logs_Partitions in Logs",
    ];
    // While nobody can tell which tables there are, functions stay, and so does what they ask.
    let unknown = fleet(&[("eu", 1, Value::Null), ("us", 1, Value::Null)]);
    for (step, unseen) in again.iter().zip([again.first(), None, None]) {
        assert_eq!(shown(&planned(&unknown, &hub)).first().map(String::as_str), unseen.copied());
        let plan = planned(&everybody, &hub);
        assert_eq!(shown(&plan), [*step]);
        hub = applied(hub, &plan);
    }
    assert_eq!(planned(&everybody, &hub), Plan::default());
}

#[test]
fn a_database_that_cannot_be_read_takes_no_group_away_from_the_others() {
    let everybody = fleet(&[("eu", 1, logs(&["A"]))]);
    let mut hub = hub(&["Logs", "Other"]);
    let groups = hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Members(entities(&["mine"], "Logs")));
    let mut hub = applied(hub.clone(), &planned(&everybody, &hub));
    assert_eq!(planned(&everybody, &hub).changes, []);
    hub.databases.get_mut(&database("Logs")).unwrap().groups = Err("no".to_owned());
    assert_eq!(planned(&everybody, &hub).changes, []);
}

fn plan_of(fleet: &Fleet, hub: &Hub, membership: &Membership) -> Decision {
    plan(fleet, hub, membership, now(), &settings())
}

#[test]
fn a_partition_with_another_spelling_renames_no_group() {
    let hub = hub(&["Other"]);
    let first = fleet(&[("us", 1, logs(&["A"]))]);
    let hub = applied(hub.clone(), &planned(&first, &hub));
    let joined = fleet(&[("asia", 1, json!([{"database": "LOGS", "tables": ["A"]}])), ("us", 1, logs(&["A"]))]);
    assert_eq!(shown(&planned(&joined, &hub)), ["alter entity group Logs_Partitions in Other"]);
}
