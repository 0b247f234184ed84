//! Columns of different types.

use super::*;

/// Two partitions, whose table has these columns.
fn two(first: &str, second: &str) -> Fleet {
    let typed = |columns: &str| json!([{"database": "Logs", "tables": ["T"], "tableSchemas": {"T": columns}}]);
    fleet(&[("eu", 1, typed(first)), ("us", 1, typed(second))])
}

#[test]
fn numbers_keep_their_digits_where_a_type_has_room_for_them() {
    for (first, second, converted) in [
        ("a:int", "a:long", "tolong(column_ifexists('a', long(null)))"),
        ("a:long", "a:decimal", "todecimal(column_ifexists('a', decimal(null)))"),
        ("a:decimal", "a:real", "toreal(column_ifexists('a', real(null)))"),
        ("a:long", "a:real", "toreal(column_ifexists('a', real(null)))"),
        ("a:long", "a:bool", "tostring(column_ifexists('a', ''))"),
    ] {
        let body = &bodies(&planned(&two(first, second), &hub(&["Logs"])))[0];
        assert!(body.ends_with(&format!("| extend ['a'] = {converted} )")), "{first}, {second}: {body}");
    }
}

#[test]
fn a_partition_that_differs_in_everything_does_not_hide_what_else_is_to_be_told() {
    let columns = |kind: &str| (0..60).map(|number| format!("c{number}:{kind}")).collect::<Vec<_>>().join(",");
    let mut fleet = two(&columns("long"), &columns("string"));
    fleet.extend(crate::testing::fleet(&[("asia", 1, json!([{"database": "Metrics", "tables": []}]))]));
    let plan = planned(&fleet, &hub(&["Logs"]));
    assert_eq!(bodies(&plan)[0].matches("tostring(").count(), 60, "all are converted");
    assert_eq!(plan.problems.len(), 50 + 2, "{:?}", plan.problems);
    assert_eq!(plan.problems[50], "10 more problems of tables and columns in 'Logs'");
    assert!(plan.problems[51].contains("the database 'Metrics'"), "{}", plan.problems[51]);
}

#[test]
fn those_who_disagree_about_a_type_are_named_first_and_of_many_others_it_is_said_how_many() {
    let typed = |columns: &str| json!([{"database": "Logs", "tables": ["T"], "tableSchemas": {"T": columns}}]);
    let hosts: Vec<String> = (10..34).map(|number| format!("p{number}")).collect();
    let of = |few: usize| {
        let kind = |place: usize| typed(if place < few { "a:string" } else { "a:long" });
        let partitions = hosts.iter().enumerate().map(|(place, host)| (host.as_str(), 1, kind(place)));
        let plan = planned(&fleet(&partitions.collect::<Vec<_>>()), &hub(&["Logs"]));
        let (_, told) = plan.problems[0].split_once(": ").unwrap();
        told.to_owned()
    };
    let named = |count: usize| {
        let named = hosts.iter().take(count).map(|host| format!("https://{host}.kusto.windows.net"));
        named.collect::<Vec<_>>().join(", ")
    };
    assert!(of(2).starts_with(&format!("string in {}; long in 22 partitions", named(2))), "{}", of(2));
    assert!(of(11).starts_with(&format!("string in {} and 1 more; long in 13 partitions", named(10))), "{}", of(11));
}

#[test]
fn what_is_wrong_with_the_hubs_objects_is_told_before_what_partitions_choose() {
    let names = (0..60).map(|number| json!({"database": format!("{number}{}", "x".repeat(1000)), "tables": []}));
    let mut hub = hub(&["Logs"]);
    let theirs = existing(&FunctionName::new("federated_A").unwrap(), "mine", "mine");
    hub.databases
        .get_mut(&database("Logs"))
        .unwrap()
        .functions
        .insert(FunctionName::new("federated_A").unwrap(), theirs);
    let fleet = fleet(&[("eu", 1, logs(&["A"])), ("stranger", 1, names.collect())]);
    let problems = planned(&fleet, &hub).problems;
    assert!(problems[0].contains("was not made by us"), "{:?}", problems[0]);
    assert!(problems.len() > 50);
}
