//! Schemas of which not all could be read.

use super::*;
use crate::fleet::Unlisted;

#[test]
fn what_a_list_that_could_not_be_read_whole_lacks_is_not_gone() {
    let others = || ("us", 1, logs(&["Requests"]));
    let before = fleet(&[("eu", 1, logs(&["Requests", "Traces"])), others()]);
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&before, &hub));
    let dropped = planned(&fleet(&[("eu", 1, logs(&["Requests"])), others()]), &hub);
    assert_eq!(shown(&dropped), ["drop function federated_Traces in Logs"], "a list that was read whole is believed");
    for cut in [json!(["Requests", null]), json!({"Requests": 1}), json!("Requests")] {
        let cut = json!([{"database": "Logs", "tables": cut}]);
        let after = fleet(&[("eu", 1, cut.clone()), others()]);
        let plan = planned(&after, &hub);
        let members = bodies(&plan).concat();
        assert!(!plan.changes.iter().any(|change| matches!(change, Change::DropFunction { .. })), "{cut}: {plan:?}");
        assert!(members.is_empty() || members.contains("https://eu.kusto.windows.net"), "{cut}: {members}");
        assert_eq!(shown(&planned(&after, &applied(hub.clone(), &plan))), Vec::<String>::new(), "{cut}");
    }
}

#[test]
fn what_a_list_that_could_not_be_read_whole_has_for_the_first_time_is_federated() {
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&fleet(&[("eu", 1, logs(&["Requests"]))]), &hub));
    let cut = json!([{"database": "Logs", "tables": ["Requests", null, "Traces"]}]);
    let plan = planned(&fleet(&[("eu", 1, cut)]), &hub);
    assert_eq!(shown(&plan), ["create function federated_Traces in Logs"]);
}

#[test]
fn a_partition_whose_attributes_cannot_be_read_stays_in_the_groups_by_their_values() {
    let settings = grouped_by(&["geo"]);
    let two = |geo: bool| {
        let mut fleet = fleet(&[("eu", 1, logs(&[])), ("us", 1, logs(&[]))]);
        for (host, value) in [("eu", "EU"), ("us", "US")] {
            let beat = &mut fleet.get_mut(&cluster(host)).unwrap().beat;
            if geo || host == "eu" {
                set_attribute(beat, "geo", value);
            }
            beat.has_unread_metadata = !geo && host == "us";
        }
        fleet
    };
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned_with(&settings, &two(true), &hub));
    assert_eq!(hub.own_groups().count(), 3);
    assert_eq!(planned_with(&settings, &two(false), &hub).changes, []);
    // One that has none leaves them.
    let mut without = two(false);
    without.get_mut(&cluster("us")).unwrap().beat.has_unread_metadata = false;
    assert_eq!(shown(&planned_with(&settings, &without, &hub)), ["drop entity group Logs_Partitions_US in Logs"]);
}

#[test]
fn what_a_person_acknowledges_names_who_leaves_a_database_where_the_commands_do_not() {
    let held = |hosts: [&str; 3]| {
        let listed = hosts.map(|host| (host, 1, logs(&["A"])));
        let all = fleet(&listed.into_iter().chain([("z", 1, logs(&["A"]))]).collect::<Vec<_>>());
        let hub = hub(&["Logs"]);
        let hub = applied(hub.clone(), &planned(&all, &hub));
        let mut less = all;
        for host in hosts {
            let beat = &mut less.get_mut(&cluster(host)).unwrap().beat;
            beat.inventory = Inventory::Known(Arc::default());
            let gone = Unlisted { content: None, is_known: true, is_unread: false, stays: false };
            beat.unlisted.insert(database("Logs"), gone);
        }
        planned(&less, &hub).released.unwrap()
    };
    let (first, second) = (held(["a", "b", "c"]), held(["d", "e", "f"]));
    let commands = |released: &Released| released.changes.iter().map(Change::request).collect::<Vec<_>>();
    assert_eq!(commands(&first), commands(&second));
    assert_ne!(first.hash, second.hash);
    assert_eq!(first.hash, held(["a", "b", "c"]).hash);
}

#[test]
fn what_is_kept_for_a_list_that_could_not_be_read_whole_takes_the_room_of_new_functions() {
    // Some sixteen kilobytes each, of 64 megabytes.
    let tables = |pass: usize| (0..1_200).map(|number| json!(format!("P{pass}T{number:0>900}"))).collect::<Vec<_>>();
    let with = |pass: usize, cut: Option<Value>| {
        let schema = json!([{"database": "Logs", "tables": cut.into_iter().chain(tables(pass)).collect::<Value>()}]);
        fleet(&[("eu", 1, schema), ("us", 1, logs(&["Requests"]))])
    };
    let mut hub = hub(&["Logs"]);
    let count = |hub: &Hub| hub.databases.values().map(|database| database.functions.len()).sum::<usize>();
    let mut counts = Vec::new();
    for pass in 0..5 {
        hub = applied(hub.clone(), &planned(&with(pass, Some(Value::Null)), &hub));
        counts.push(count(&hub));
    }
    assert_eq!((counts[0], counts[3]), (1_201, counts[4]), "{counts:?}");
    assert!(counts[4] < 4_300, "{counts:?}");
    // One that is read whole is believed.
    hub = applied(hub.clone(), &planned(&with(5, None), &hub));
    hub = applied(hub.clone(), &planned(&with(5, None), &hub));
    assert_eq!(count(&hub), 1_201);
}
