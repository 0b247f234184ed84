//! Queries over small tables, run by the engine: exact columns and rows, one test for each rule. Expected values were checked against Microsoft's parser
//! (columns and types) and duckdb-kql (values).

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod engine_cases;

use std::sync::Arc;

use engine_cases::World;
use kusto_local::error::KustoErrorKind;
use serde_json::json;

#[tokio::test]
async fn an_operator_with_a_null_is_null_but_equality_decides() {
    let world = World::new().await;
    world
        .values(
            "print int(null) == int(null), int(null) != 1, int(null) == 1, int(null) < 1, not(int(null) == 1), int(null) + 1",
            json!([[null, true, false, null, true, null]]),
        )
        .await;
    let rows = "datatable(a:long, b:long) [1, 1, 1, long(null), long(null), long(null), 2, 1]";
    world.values(&format!("{rows} | where a == b | project a"), json!([[1]])).await;
    world.values(&format!("{rows} | where a != b | project a, b"), json!([[1, null], [2, 1]])).await;
    world.values(&format!("{rows} | where a != 1 | project a, b"), json!([[null, null], [2, 1]])).await;
    world.values(&format!("{rows} | where not(b == 1) | project a, b"), json!([[1, null], [null, null]])).await;
}

#[tokio::test]
async fn in_with_null_is_false_and_not_in_is_true() {
    let world = World::new().await;
    let rows = "datatable(a:long) [1, long(null), 3]";
    world.values(&format!("{rows} | where a in (1, 2)"), json!([[1]])).await;
    world.values(&format!("{rows} | where a !in (1, 2)"), json!([[null], [3]])).await;
    world.values(&format!("{rows} | where a in (dynamic([3, 4]))"), json!([[3]])).await;
    world.values(&format!("{rows} | where a in ((range x from 1 to 1 step 1))"), json!([[1]])).await;
    world.values("print 'A' in~ ('a'), 'A' in ('a'), 'b' !in~ ('A', 'B')", json!([[true, false, false]])).await;
    world.values("print 'x y' has_any ('Y', 'z'), 'x y' has_all ('x', 'z')", json!([[true, false]])).await;
}

#[tokio::test]
async fn arithmetic_keeps_kustos_types_and_edges() {
    let world = World::new().await;
    world
        .table(
            "print 1 / 0, -7 / 2, -7 % 3, 1.0 / 0, 1d / 5h, 3h / 2, datetime(2020-01-02) - 1d, int(1) + int(2), decimal(1.5) * 2",
            &["print_0:long", "print_1:long", "print_2:long", "print_3:real", "print_4:real", "print_5:timespan",
              "print_6:datetime", "print_7:long", "print_8:decimal"],
            json!([[null, -3, 2, "Infinity", 4.8, "01:30:00", "2020-01-01T00:00:00Z", 3, "3"]]),
        )
        .await;
    world
        .values(
            "print bin(-7, 5), bin(-1.5, 1.0), bin(datetime(2020-01-01 01:59), 1h), bin(-1h, 2h)",
            json!([[-10, -2.0, "2020-01-01T01:00:00Z", "-02:00:00"]]),
        )
        .await;
}

#[tokio::test]
async fn unnamed_columns_get_kustos_names() {
    let world = World::new().await;
    let rows = r#"datatable(a:long, b:string, d:dynamic, t:datetime) [1, "x", dynamic({"x": {"y": 5}, "q": 7}), datetime(2020-01-01 10:30)]"#;
    world
        .table(
            &format!(
                r#"{rows} | project a + 1, tolower(b), bin(a, 10), d.x.y, d["q"], d[0], tostring(d.q), strlen(b), a"#
            ),
            &[
                "Column1:long",
                "Column2:string",
                "a:long",
                "d_x_y:dynamic",
                "d_q:dynamic",
                "d_0:dynamic",
                "d_q1:string",
                "strlen_b:long",
                "a1:long",
            ],
            json!([[2, "x", 0, 5, 7, null, "7", 1, 1]]),
        )
        .await;
    world
        .table(
            &format!("{rows} | summarize count(), sum(a), dcount(b), max(a + 1), make_list(b), percentile(a, 95), countif(a > 1) by bin(t, 1h), tolower(b)"),
            &["t:datetime", "Column1:string", "count_:long", "sum_a:long", "dcount_b:long", "max_:long", "list_b:dynamic",
              "percentile_a_95:long", "countif_:long"],
            json!([["2020-01-01T10:00:00Z", "x", 1, 1, 1, 2, ["x"], 1, 0]]),
        )
        .await;
    world
        .table(
            &format!("{rows} | extend a + 1, tostring(a) | project-keep Column1, a"),
            &["a:string", "Column1:long"],
            json!([["1", 2]]),
        )
        .await;
}

#[tokio::test]
async fn text_operators_know_terms_and_case() {
    let world = World::new().await;
    world
        .values(
            "print 'foo_bar' has 'FOO', 'foobar' has 'foo', 'foobar' hasprefix 'foo', 'foobar' hassuffix 'bar', 'foo' has_cs 'FOO', 'a' =~ 'A', 'abc' contains 'B', 'abc' contains_cs 'B', 'abc' !startswith 'AB', 'abc' endswith 'BC', 'a1' matches regex '^a[0-9]$'",
            json!([[true, false, true, true, false, true, true, false, false, true, true]]),
        )
        .await;
    world
        .values("datatable(a:string, b:string) ['xABCx', 'abc'] | where a contains b | project a", json!([["xABCx"]]))
        .await;
}

#[tokio::test]
async fn a_string_is_never_null() {
    let world = World::new().await;
    world
        .values(
            "datatable(k:long, s:string) [1, 'x'] | join kind=leftouter (datatable(k:long, s:string) [2, 'y']) on k | extend e = isempty(s1), n = s1 == ''",
            json!([[1, "x", null, "", true, true]]),
        )
        .await;
    world.values("datatable(s:string) [] | summarize max(s), take_any(s)", json!([["", ""]])).await;
    world
        .values("print isnull(''), tostring(long(null)), isempty(tostring(dynamic(null)))", json!([[false, "", true]]))
        .await;
}

#[tokio::test]
async fn aggregates_pass_over_nulls() {
    let world = World::new().await;
    world
        .values(
            "datatable(a:long) [1, long(null), 3] | summarize count(), sum(a), avg(a), min(a), max(a), dcount(a), make_list(a), stdev(a), countif(a > 1), sumif(a, a > 1)",
            json!([[3, 4, 2.0, 1, 3, 2, [1, 3], std::f64::consts::SQRT_2, 1, 3]]),
        )
        .await;
    world
        .values(
            "datatable(a:long) [] | summarize count(), sum(a), avg(a), min(a), make_set(a), stdev(a)",
            json!([[0, 0, "NaN", null, [], 0.0]]),
        )
        .await;
    world.values("datatable(a:long) [] | summarize count() by a", json!([])).await;
    world
        .values(
            "datatable(t:datetime, s:timespan) [datetime(2020-01-01), 1h, datetime(2020-01-03), 2h] | summarize avg(t), avg(s), sum(s), percentile(s, 50)",
            json!([["2020-01-02T00:00:00Z", "01:30:00", "03:00:00", "01:00:00"]]),
        )
        .await;
    world
        .values("datatable(a:long) [4, 2] | summarize round(sum(a) * 1.0 / count(), 1), 2 * max(a)", json!([[3.0, 8]]))
        .await;
}

#[tokio::test]
async fn an_aggregation_without_keys_gives_one_row_that_later_conditions_can_drop() {
    let world = World::new().await;
    world.values("Requests | summarize n = count() | extend x = 5 | where x > 7", json!([])).await;
    world.values("Requests | count | extend x = 5 | where x > 7", json!([])).await;
    world.values("Requests | where false | summarize n = count(), m = max(id)", json!([[0, null]])).await;
    world.values("Requests | where false | count", json!([[0]])).await;
}

#[tokio::test]
async fn elements_and_numbers_convert_as_measured_on_kusto() {
    let world = World::new().await;
    world
        .values(
            r#"print d = dynamic([1, 2.5, "7", true, null]) | mv-expand d to typeof(long)"#,
            json!([[1], [2], [null], [null], [null]]),
        )
        .await;
    world
        .values(
            "datatable(r:real) [1e30, -1.9, real(nan)] | project tolong(r), toint(r)",
            json!([[i64::MAX, i32::MAX], [-1, -1], [null, null]]),
        )
        .await;
    world
        .values(
            r#"datatable(d:dynamic) [dynamic(["a", null]), dynamic("b"), dynamic(["a", "c"])] | summarize make_set(d), make_list(d)"#,
            json!([[["a", "b", "c"], [["a", null], "b", ["a", "c"]]]]),
        )
        .await;
    world.values(r#"print y = dynamic({"a": 1, "b": 2.5}) | project y.a + y.a, y.a - y.b"#, json!([[2, -1.5]])).await;
    world
        .values(
            "print trim('a', 'aaxa'), trim('a+', 'aaxa'), strcat_array(dynamic(['s', null, 1]), '|')",
            json!([["ax", "x", "s||1"]]),
        )
        .await;
}

#[tokio::test]
async fn arg_max_returns_the_row_of_the_greatest_value() {
    let world = World::new().await;
    let rows = "datatable(k:string, t:long, b:string) ['x', 1, 'p', 'x', 5, 'q', 'y', long(null), 'r', 'y', 2, 's']";
    world
        .table(
            &format!("{rows} | summarize arg_max(t, *) by k | sort by k asc"),
            &["k:string", "t:long", "b:string"],
            json!([["x", 5, "q"], ["y", 2, "s"]]),
        )
        .await;
    world
        .table(
            &format!("{rows} | summarize latest = arg_min(t, b), take_any(k)"),
            &["latest:long", "b:string", "k:string"],
            json!([[1, "p", "x"]]),
        )
        .await;
}

#[tokio::test]
async fn joins_have_kustos_kinds_and_columns() {
    let world = World::new().await;
    let left = "datatable(a:long, b:string) [1, 'l1', 1, 'l2', 2, 'l3', long(null), 'l4']";
    let right = "(datatable(a:long, c:string) [1, 'r1', 1, 'r2', 3, 'r3', long(null), 'r4'])";
    let join = |kind: &str| format!("{left} | join {kind} {right} on a | sort by b asc, c asc");
    world
        .table(
            &join(""),
            &["a:long", "b:string", "a1:long", "c:string"],
            json!([[1, "l1", 1, "r1"], [1, "l1", 1, "r2"], [null, "l4", null, "r4"]]),
        )
        .await;
    world
        .values(
            &join("kind=inner"),
            json!([
                [1, "l1", 1, "r1"],
                [1, "l1", 1, "r2"],
                [1, "l2", 1, "r1"],
                [1, "l2", 1, "r2"],
                [null, "l4", null, "r4"]
            ]),
        )
        .await;
    world
        .values(
            &format!("{left} | join kind=leftouter {right} on $left.a == $right.a | where b == 'l3'"),
            json!([[2, "l3", null, ""]]),
        )
        .await;
    world
        .values(&format!("{left} | join kind=rightouter {right} on a | where c == 'r3'"), json!([[null, "", 3, "r3"]]))
        .await;
    world.values(&format!("{left} | join kind=leftanti {right} on a"), json!([[2, "l3"]])).await;
    world
        .values(
            &format!("{left} | join kind=leftsemi {right} on a | sort by b asc"),
            json!([[1, "l1"], [1, "l2"], [null, "l4"]]),
        )
        .await;
    world.values(&format!("{left} | join kind=rightanti {right} on a"), json!([[3, "r3"]])).await;
    world.values(&format!("{left} | join kind=fullouter {right} on a | count"), json!([[7]])).await;
    world.fails(&format!("{left} | join {right} on b"), "SEM0100", "'b'").await;
    world.fails(&format!("{left} | join (datatable(b:long) [1]) on b"), "SEM0072", "different types").await;
}

#[tokio::test]
async fn unions_merge_columns_by_name_and_type() {
    let world = World::new().await;
    world
        .table(
            "datatable(a:long, b:string) [1, 'x'] | union (datatable(c:real, b:long) [0.5, 7])",
            &["a:long", "b_string:string", "b_long:long", "c:real"],
            json!([[1, "x", null, null], [null, "", 7, 0.5]]),
        )
        .await;
    world.table("union kind=inner (print a = 1, b = 2), (print b = 3, c = 4)", &["b:long"], json!([[2], [3]])).await;
    world
        .table(
            "union withsource=source isfuzzy=true Requests, (Errors | where code > 1), Missing | summarize count() by source | sort by source asc",
            &["source:string", "count_:long"],
            json!([["Requests", 3], ["union_arg1", 1]]),
        )
        .await;
    world.values("union R*, Err* | count", json!([[5]])).await;
    // A stored function is among them if it was made a view.
    world.command(".create function with (view=true) ErrorsSeen() { Errors | where code > 1 }").await;
    world.command(".create function ErrorsUnseen() { Errors }").await;
    world.values("union R*, Err* | count", json!([[6]])).await;
    world.fails("union Requests, Missing", "SEM0100", "Missing").await;
}

#[tokio::test]
async fn mv_expand_drops_empty_arrays_and_keeps_nulls() {
    let world = World::new().await;
    world
        .values(
            r#"datatable(a:dynamic) [dynamic([]), dynamic(null), dynamic([1, 2]), dynamic({"x": 1}), dynamic(5)] | mv-expand a"#,
            json!([[null], [1], [2], [{"x": 1}], [5]]),
        )
        .await;
    world
        .table(
            r#"datatable(k:long, a:dynamic, b:dynamic) [1, dynamic([1, 2]), dynamic(["x"])] | mv-expand with_itemindex=i a to typeof(long), z = b"#,
            &["k:long", "a:long", "b:dynamic", "z:dynamic", "i:long"],
            json!([[1, 1, ["x"], "x", 0], [1, 2, ["x"], null, 1]]),
        )
        .await;
    world
        .values(r#"datatable(a:dynamic) [dynamic({"x": 1, "y": 2})] | mv-expand kind=array a | extend k = a[0], v = a[1] | project k, v"#, json!([["x", 1], ["y", 2]]))
        .await;
    world.values("print a = dynamic([1, 2, 3]) | mv-expand a limit 2", json!([[1], [2]])).await;
}

#[tokio::test]
async fn sort_is_descending_with_nulls_last_unless_told_otherwise() {
    let world = World::new().await;
    let rows = "datatable(a:long) [1, long(null), 3]";
    world.values(&format!("{rows} | sort by a"), json!([[3], [1], [null]])).await;
    world.values(&format!("{rows} | order by a asc"), json!([[null], [1], [3]])).await;
    world.values(&format!("{rows} | sort by a asc nulls last"), json!([[1], [3], [null]])).await;
    world.values(&format!("{rows} | top 1 by a"), json!([[3]])).await;
    world.values(&format!("{rows} | take 2 | count"), json!([[2]])).await;
    world.values(&format!("{rows} | limit 0"), json!([])).await;
}

#[tokio::test]
async fn project_forms_keep_drop_rename_and_reorder() {
    let world = World::new().await;
    let rows = "print a1 = 1, b = 2, a2 = 3, ['c d'] = 4";
    world.table(&format!("{rows} | project-away a*"), &["b:long", "c d:long"], json!([[2, 4]])).await;
    world.table(&format!("{rows} | project-keep b, a2"), &["b:long", "a2:long"], json!([[2, 3]])).await;
    world
        .table(
            &format!("{rows} | project-rename x = ['c d']"),
            &["a1:long", "b:long", "a2:long", "x:long"],
            json!([[1, 2, 3, 4]]),
        )
        .await;
    world
        .table(
            &format!("{rows} | project-reorder b, a* desc"),
            &["b:long", "a2:long", "a1:long", "c d:long"],
            json!([[2, 3, 1, 4]]),
        )
        .await;
    world.fails(&format!("{rows} | project a1, a1"), "SEM0102", "a1").await;
    world.values("datatable(A:long, a:long) [1, 2] | where A == 1 and a == 2 | project a, A", json!([[2, 1]])).await;
}

#[tokio::test]
async fn let_binds_scalars_tables_and_functions() {
    let world = World::new().await;
    world.values("let n = 2; let T = range x from 1 to 5 step 1; T | where x > n | count", json!([[3]])).await;
    world
        .values(
            "let twice = (v:long) { v * 2 }; range x from 1 to 2 step 1 | extend y = twice(x) + twice(v=1)",
            json!([[1, 4], [2, 6]]),
        )
        .await;
    world.values("let above = (T:(x:long), least:long = 4) { T | where x >= least }; above((range x from 1 to 5 step 1)) | summarize make_list(x)", json!([[[4, 5]]])).await;
    world
        .values("let T = materialize(range x from 1 to 3 step 1); T | join kind=inner T on x | count", json!([[3]]))
        .await;
    world.values("let top = toscalar(range x from 1 to 3 step 1 | summarize max(x)); print top + 1, toscalar(Requests | where false | project id)", json!([[4, null]])).await;
    world.fails("let f = (a:long) { a }; print f('x')", "SEM0025", "'a'").await;
    world.fails("let T = Nosuch; T", "SEM0100", "Nosuch").await;
}

#[tokio::test]
async fn stored_functions_take_arguments_and_refuse_recursion() {
    let world = World::new().await;
    world.command(".create function Slow(least:long = 100) { Requests | where duration >= least }").await;
    world.command(".create function Twice(v:long) { v * 2 }").await;
    world.command(".create function with (skipvalidation=true) Loop() { Loop() }").await;
    world
        .command(".create function with (skipvalidation=true) Errors() { Requests | where id == 1 | project id }")
        .await;
    world.values("Slow | count", json!([[2]])).await;
    world.values("Slow(200) | project id, Twice(id)", json!([[3, 6]])).await;
    world.values("Errors | count", json!([[1]])).await;
    world.values("table('Errors') | count", json!([[2]])).await;
    world.fails("Loop()", "SEM0101", "calls itself").await;
    // The body stands where the call does: it sees the caller's names.
    world.values("let Requests = datatable(duration:long) [500]; Slow | count", json!([[1]])).await;
    world.fails("let v = 1; let v = 2; print v", "SEM0102", "'v'").await;
}

#[tokio::test]
async fn query_parameters_are_literals_of_their_type() {
    let mut world = World::new().await;
    let parameters = &mut world.context.parameters;
    parameters.insert("_ttl".to_owned(), "time(1.00:00:00)".to_owned());
    parameters.insert("_name".to_owned(), "it's".to_owned());
    parameters.insert("_low".to_owned(), "-5".to_owned());
    world
        .table(
            "declare query_parameters(_ttl:timespan, _name:string, _low:long, _default:real = 0.5); print _ttl, _name, _low, _default",
            &["print_0:timespan", "print_1:string", "print_2:long", "print_3:real"],
            json!([["1.00:00:00", "it's", -5, 0.5]]),
        )
        .await;
    world.fails("declare query_parameters(_other:long); print _other", "SEM0104", "_other").await;
}

#[tokio::test]
async fn the_agents_heartbeat_query_returns_the_latest_heartbeat_of_each_cluster() {
    let mut world = World::new().await;
    world.command(".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)").await;
    let beat = |time: &str, endpoint: &str, schema: &str| {
        format!(".ingest inline into table Heartbeats <| {time},{endpoint},\"{{\"\"v\"\":{schema}}}\",")
    };
    let now = kql::literal::datetime(world.context.now);
    world.command(&beat(&now, "https://A.kusto.windows.net", "1")).await;
    world.command(&beat(&now, "https://a.kusto.windows.net", "2")).await;
    world.command(&beat("2001-01-01", "https://old.kusto.windows.net", "3")).await;
    world.command(&beat("2999-01-01", "https://future.kusto.windows.net", "4")).await;
    world.context.parameters.insert("_ttl".to_owned(), "1h".to_owned());
    world.context.parameters.insert("_skew".to_owned(), "5m".to_owned());
    let query = "declare query_parameters(_ttl:timespan, _skew:timespan); Heartbeats | extend _it = ingestion_time() | where _it > ago(_ttl) and Timestamp between (ago(_ttl) .. (now() + _skew)) | summarize arg_max(_it, Timestamp, Schema, PartitionMetadata) by ClusterEndpoint = tolower(ClusterEndpoint)";
    world
        .table(
            &format!("{query} | project ClusterEndpoint, v = Schema.v, hash = hash_sha256(tostring(Schema)), size = strlen(tostring(Schema)), none = isnull(PartitionMetadata)"),
            &["ClusterEndpoint:string", "v:dynamic", "hash:string", "size:long", "none:bool"],
            json!([["https://a.kusto.windows.net", 2, "2b5442799fccc3af2e7e790017697373913b7afcac933d72fb5876de994f659a", 7, true]]),
        )
        .await;
}

#[tokio::test]
async fn dynamic_values_are_reached_by_path_and_compared_by_type() {
    let world = World::new().await;
    world
        .values(
            r#"print d = dynamic({"a": [1, {"b": "c"}], "n": 1.5}) | project d.a[1].b, d["a"][-2], d.nosuch.x, d.n > 1, d.a[1].b == "c", d.a[5] == 1, gettype(d.n)"#,
            json!([["c", 1, null, true, true, false, "double"]]),
        )
        .await;
    world
        .values(
            r#"print bag_keys(dynamic({"a": 1, "b": 2})), array_length(dynamic([1, 2])), pack("k", 1h), set_has_element(dynamic([1, "2"]), "2"), bag_merge(dynamic({"a": 1}), dynamic({"a": 2, "b": 3})), parse_json('{"x": [1]}').x[0]"#,
            json!([[["a", "b"], 2, {"k": "01:00:00"}, true, {"a": 1, "b": 3}, 1]]),
        )
        .await;
    world.fails("print dynamic([1]) | sort by print_0", "SEM0025", "dynamic").await;
    world.fails("print a = dynamic(1), b = dynamic(1) | where a == b", "SEM0064", "dynamic").await;
}

#[tokio::test]
async fn scalar_functions_give_kustos_values() {
    let world = World::new().await;
    world
        .values(
            "print strcat('a', 1, true, 1h), substring('abcdef', 2, 3), substring('abc', -2), split('a,b', ','), trim('-', '--a-'), indexof('abc', 'c'), countof('aXbX', 'X'), extract('x([0-9]+)', 1, 'ax12'), replace_string('aa', 'a', 'b'), replace_regex('a1', '([a-z])', @'<\\1>'), reverse('abc'), strlen('é')",
            json!([["a1True01:00:00", "cde", "bc", ["a", "b"], "-a", 2, 2, "12", "bb", "<a>1", "cba", 1]]),
        )
        .await;
    world
        .values(
            "print toint('12'), tolong('0x10'), tolong(-1.7), toreal('abc'), tobool('true'), todatetime('2020-01-01'), totimespan('01:00:00'), todecimal('1.50'), toguid('x'), tostring(datetime(2020-01-01)), tostring(1.0)",
            json!([[12, 16, -1, null, true, "2020-01-01T00:00:00Z", "01:00:00", "1.5", null, "2020-01-01T00:00:00.0000000Z", "1.0"]]),
        )
        .await;
    world
        .values(
            "print startofmonth(datetime(2020-02-10)), endofday(datetime(2020-01-01)), startofweek(datetime(2020-01-01)), datetime_add('month', 1, datetime(2020-01-31)), datetime_diff('day', datetime(2020-01-02), datetime(2020-01-01 23:00)), format_datetime(datetime(2020-01-02 03:04:05.67), 'yyyy-MM-dd HH:mm:ss.fff'), dayofweek(datetime(2020-01-01)), getyear(datetime(2020-01-01))",
            json!([["2020-02-01T00:00:00Z", "2020-01-01T23:59:59.9999999Z", "2019-12-29T00:00:00Z", "2020-02-29T00:00:00Z", 1, "2020-01-02 03:04:05.670", "3.00:00:00", 2020]]),
        )
        .await;
    world
        .values(
            "print case(false, 1, true, 2, 3), iff(bool(null), 1, 2), coalesce(long(null), 5), coalesce('', 'x'), min_of(1, 2.5), max_of(1, 3), round(2.5), round(123.456, -1), abs(-5), floor(2.7, 0.5), pow(2, 10), isnan(sqrt(-1))",
            json!([[2, 2, 5, "x", 1.0, 3, 3.0, 120.0, 5, 2.5, 1024.0, true]]),
        )
        .await;
}

#[tokio::test]
async fn getschema_describes_columns() {
    let world = World::new().await;
    world
        .table(
            "Requests | getschema | where ColumnName != 'duration'",
            &["ColumnName:string", "ColumnOrdinal:long", "DataType:string", "ColumnType:string"],
            json!([["id", 0, "System.Int64", "long"], ["url", 1, "System.String", "string"]]),
        )
        .await;
}

#[tokio::test]
async fn a_query_has_one_result_for_every_tabular_statement() {
    let world = World::new().await;
    let tables = world.run("print 1; let x = 2; print x").await.unwrap();
    assert_eq!(tables.len(), 2);
    world.fails("let x = 2", "SEM0006", "tabular").await;
}

#[tokio::test]
async fn names_that_mean_nothing_are_refused_with_their_position() {
    let world = World::new().await;
    let error = world.run("Requests\n| where nosuch > 1").await.unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::Semantic { code: "SEM0100" });
    assert_eq!(error.position, Some((2, 9)));
    world.fails("Nosuch | take 1", "SEM0100", "Nosuch").await;
    world.fails("requests | take 1", "SEM0100", "requests").await;
    world.fails("print nosuch(1)", "SEM0260", "nosuch").await;
    world.fails("print sum(1)", "SEM0101", "summarize").await;
    world.fails("database('nosuch').T", "SEM0056", "nosuch").await;
    world.fails("Requests | summarize id", "SEM0139", "id").await;
    world.fails("Requests | where id == 'x'", "SEM0064", "long and string").await;
    world.fails("Requests | where id", "SEM0079", "bool").await;
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let world = World::new().await;
    for (query, name) in [
        ("set best_effort=true; print 1", "best_effort"),
        ("Requests | join kind=weird (Errors) on id", "weird"),
        ("print rand()", "rand"),
        ("Requests | evaluate pivot(id)", "evaluate"),
    ] {
        let error = world.run(query).await.unwrap_err();
        assert!(error.to_string().contains(name), "{query}: {error}");
        assert!(error.to_string().contains("[line:position=1:"), "{query}: {error}");
    }
}

#[tokio::test]
async fn a_result_over_the_cap_is_an_error_and_not_a_part() {
    let mut world = World::new().await;
    world.context.limits.rows = 10;
    world.values("range x from 1 to 10 step 1 | count", json!([[10]])).await;
    let error = world.run("range x from 1 to 11 step 1").await.unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::LimitExceeded);
    assert!(error.message.contains("E_QUERY_RESULT_SET_TOO_LARGE"), "{error}");
    world.context.limits.rows = 500_000;
    world.context.limits.bytes = 100;
    let error = world.run("print strcat('x', strrep('y', 200))").await.unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::LimitExceeded);
}

#[tokio::test]
async fn a_query_past_its_deadline_is_given_up() {
    let mut world = World::new().await;
    world.context.deadline = Some(std::time::Instant::now());
    let error = world.run("print 1").await.unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::TimedOut);
}

#[tokio::test]
async fn deep_and_long_expressions_are_planned_or_refused_but_never_crash() {
    let world = World::new().await;
    let chain = |op: &str, count: usize| vec!["1 == 1"; count].join(op);
    world.values(&format!("print {}", chain(" and ", 500)), json!([[true]])).await;
    let sums = format!("print {}", vec!["x"; 400].join(" + "));
    let _ = world.run(&format!("let x = toscalar(Requests | count); {sums}")).await;
    let _ = world.run(&format!("Requests | extend y = {}", vec!["id"; 800].join(" + "))).await;
    let nested = format!("print {}1{}", "(".repeat(300), ")".repeat(300));
    assert!(world.run(&nested).await.is_err());
    let pipes = format!("Requests {} | count", "| extend id = id + 1 ".repeat(150));
    world.values(&pipes, json!([[3]])).await;
    let lets: String = (0..500).map(|index| format!("let a{index} = {index};")).collect();
    world.values(&format!("{lets} print a499"), json!([[499]])).await;
}

#[tokio::test]
async fn operators_after_a_command_run_on_its_rows() {
    let world = World::new().await;
    let operators = kql::syntax::parser::parse_operators("where id > 1 | summarize n = count()").unwrap();
    let input = world.run("Requests").await.unwrap().remove(0);
    let output = kusto_local::engine::apply_operators(&world.context, input, &operators).await.unwrap();
    assert_eq!(json!(output.json()), json!([[2]]));
}

#[tokio::test]
async fn the_columns_of_a_function_are_known_without_its_rows() {
    let world = World::new().await;
    world.command(".create function Slow() { Requests | where duration > 1 | project id, d = duration * 1.0 }").await;
    let database = world.context.catalog.database(&world.context.database).unwrap();
    let function: Arc<_> = database.function("Slow").unwrap();
    let schema = kusto_local::engine::infer_schema(&world.context, &function).await.unwrap();
    let columns: Vec<_> =
        schema.columns().iter().map(|column| format!("{}:{}", column.name, column.scalar_type)).collect();
    assert_eq!(columns, ["id:long", "d:real"]);
}
