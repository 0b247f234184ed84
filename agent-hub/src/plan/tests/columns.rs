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
