//! `macro-expand` over servers in this process: a hub and two partitions. What travels, what is united, what is left out.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod engine_cases;

use engine_cases::{World, recording};
use kusto_local::{
    ServerOptions,
    engine::{Limits, RemoteClusters},
    error::KustoErrorKind,
};
use serde_json::{Value, json};

/// A hub with the group `Partitions` over two other servers.
struct Fleet {
    hub: World,
    west: World,
    east: World,
}

impl Fleet {
    async fn new() -> Self {
        let (hub, west, east) = (World::empty().await, World::empty().await, World::empty().await);
        for (partition, rows) in [(&west, "1,/a,10\n2,/b,20"), (&east, "3,/a,30\n4,/c,40")] {
            partition.command(".create table Requests (id:long, url:string, ms:long)").await;
            partition.command(&format!(".ingest inline into table Requests <| {rows}")).await;
            partition.command(".create function Slow(least:long = 20) { Requests | where ms >= least }").await;
        }
        west.command(".create table OnlyWest (x:long)").await;
        west.command(".ingest inline into table OnlyWest <| 7").await;
        west.command(".create table Drift (a:long, b:long)").await;
        west.command(".ingest inline into table Drift <| 1,5").await;
        east.command(".create table Drift (b:string, c:real)").await;
        east.command(".ingest inline into table Drift <| five,0.5").await;
        let fleet = Self { hub, west, east };
        let entities = fleet.entities();
        fleet.hub.command(&format!(".create entity_group Partitions ({entities})")).await;
        let body = "macro-expand isfuzzy=true best_effort=true Partitions as X ( X.Requests | extend endpoint = X.$current_cluster_endpoint, database = X.$current_database )";
        fleet
            .hub
            .command(&format!(".create function with (skipvalidation=true) federated_Requests() {{ {body} }}"))
            .await;
        fleet
    }

    fn entities(&self) -> String {
        format!("{}, {}", entity(&self.west), entity(&self.east))
    }
}

fn entity(world: &World) -> String {
    format!("cluster('{}').database('NetDefaultDB')", world.server.url())
}

#[tokio::test]
async fn a_leg_runs_on_every_entity_and_scope_scalars_tell_which() {
    let fleet = Fleet::new().await;
    let (west, east) = (fleet.west.server.url(), fleet.east.server.url());
    fleet
        .hub
        .table(
            "federated_Requests() | where ms > 10 | extend s = ms / 10 | project endpoint, id, s | sort by id asc",
            &["endpoint:string", "id:long", "s:long"],
            json!([[west, 2, 2], [east, 3, 3], [east, 4, 4]]),
        )
        .await;
    // One body for each entity: a count inside is one row for each.
    fleet.hub.values("macro-expand Partitions as X ( X.Requests | count )", json!([[2], [2]])).await;
    fleet.hub.values("federated_Requests | count", json!([[4]])).await;
    fleet
        .hub
        .values(
            "federated_Requests | summarize n = count(), total = sum(ms) by url | sort by url asc",
            json!([["/a", 2, 40], ["/b", 1, 20], ["/c", 1, 40]]),
        )
        .await;
    fleet.hub.values("federated_Requests | summarize count()", json!([[4]])).await;
    fleet.hub.values("federated_Requests | top 1 by ms | project id", json!([[4]])).await;
    fleet.hub.values("federated_Requests | take 3 | count", json!([[3]])).await;
    fleet.hub.values("federated_Requests | distinct url | sort by url asc", json!([["/a"], ["/b"], ["/c"]])).await;
    fleet
        .hub
        .values("federated_Requests | summarize arg_max(ms, *) by database | project id, ms", json!([[4, 40]]))
        .await;
}

#[tokio::test]
async fn functions_lets_and_small_tables_travel_with_a_leg() {
    let fleet = Fleet::new().await;
    fleet
        .hub
        .values("macro-expand Partitions as X ( X.Slow(30) | project id ) | sort by id asc", json!([[3], [4]]))
        .await;
    fleet
        .hub
        .values(
            "let least = 20; let above = (T:(ms:long)) { T | where ms > least }; let wanted = datatable(url:string) ['/c']; macro-expand Partitions as X ( let R = X.Requests; R | where ms > least and url in (wanted) | join kind=inner (wanted) on url | project id, least )",
            json!([[4, 20]]),
        )
        .await;
    fleet
        .hub
        .values("let f = (v:long) { v * 2 }; macro-expand Partitions as X ( X.Requests | extend d = f(ms) | where d > 60 | project id, d )", json!([[4, 80]]))
        .await;
    fleet
        .hub
        .values("let least = toscalar(print 30); federated_Requests | where ms >= least and ms < toscalar(print 40) | project id", json!([[3]]))
        .await;
    fleet
        .hub
        .values(
            "let wanted = datatable(u:string) ['/b']; federated_Requests | where url in (wanted) | project id",
            json!([[2]]),
        )
        .await;
    fleet.hub.command(".create table Local (url:string)").await;
    fleet.hub.command(".ingest inline into table Local <| /a").await;
    fleet.hub.values("macro-expand Partitions as X ( X.Requests | join kind=leftsemi Local on url | project id ) | sort by id asc", json!([[1], [3]])).await;
    fleet.hub.values("federated_Requests | join kind=inner Local on url | count", json!([[2]])).await;
}

#[tokio::test]
async fn columns_of_legs_are_united_and_filters_on_them_stay_right() {
    let fleet = Fleet::new().await;
    let drift = "macro-expand Partitions as X ( X.Drift )";
    fleet
        .hub
        .table(
            drift,
            &["a:long", "b_long:long", "b_string:string", "c:real"],
            json!([[1, 5, "", null], [null, null, "five", 0.5]]),
        )
        .await;
    fleet.hub.values(&format!("{drift} | where isnull(a) | project c"), json!([[0.5]])).await;
    fleet.hub.values(&format!("{drift} | where b_string != 'five' | project a, b_long"), json!([[1, 5]])).await;
    fleet
        .hub
        .values(&format!("{drift} | extend n = coalesce(a, 0) | project n | sort by n asc"), json!([[0], [1]]))
        .await;
    fleet.hub.fails(&format!("{drift} | where b == 5"), "SEM0100", "'b'").await;
    fleet
        .hub
        .table(
            "macro-expand kind=inner Partitions as X ( X.Drift | extend b = tostring(b) )",
            &["b:string"],
            json!([["5"], ["five"]]),
        )
        .await;
}

#[tokio::test]
async fn isfuzzy_leaves_out_what_is_missing_and_says_so() {
    let fleet = Fleet::new().await;
    fleet.hub.fails("macro-expand Partitions as X ( X.OnlyWest )", "SEM0100", "OnlyWest").await;
    let rows = fleet.hub.one("macro-expand isfuzzy=true Partitions as X ( X.OnlyWest )").await;
    assert_eq!(json!(rows.json()), json!([[7]]));
    assert_eq!(rows.warnings.len(), 1);
    assert!(rows.warnings[0].contains(fleet.east.server.url()), "{:?}", rows.warnings);
    let error = fleet.hub.run("macro-expand isfuzzy=true Partitions as X ( X.Nowhere )").await.unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::Unresolved { code: "SEM0100" });
}

#[tokio::test]
async fn best_effort_leaves_out_a_server_that_is_away() {
    let Fleet { hub, west, east } = Fleet::new().await;
    hub.values("federated_Requests | count", json!([[4]])).await;
    let gone = east.server.url().to_owned();
    east.server.shutdown().await;
    let rows = hub.one("federated_Requests | count").await;
    assert_eq!(json!(rows.json()), json!([[2]]));
    assert!(rows.warnings.iter().any(|warning| warning.contains(&gone)), "{:?}", rows.warnings);
    let error = hub.run("macro-expand isfuzzy=true Partitions as X ( X.Requests )").await.unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::RemoteFailed);
    west.server.shutdown().await;
    let error = hub.run("federated_Requests | count").await.unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::RemoteFailed);
}

#[tokio::test]
async fn a_mistake_in_the_text_of_a_leg_fails_the_query_whatever_is_forgiven() {
    let fleet = Fleet::new().await;
    for body in ["X.Requests | where Adress == 'x'", "X.Requests | extend n = row_number()"] {
        for forgiving in ["isfuzzy=true", "best_effort=true"] {
            let text = format!("macro-expand {forgiving} Partitions as X ( {body} )");
            let error = fleet.hub.run(&text).await.expect_err(&text);
            let refused = matches!(error.kind, KustoErrorKind::Semantic { .. } | KustoErrorKind::Unsupported);
            assert!(refused, "{text}: {error}");
        }
    }
    for forgiving in ["isfuzzy=true", "best_effort=true"] {
        fleet.hub.values(&format!("macro-expand {forgiving} Partitions as X ( X.OnlyWest )"), json!([[7]])).await;
        let function = format!("macro-expand {forgiving} Partitions as X ( X.NoSuchFunction() )");
        let error = fleet.hub.run(&function).await.unwrap_err();
        assert_eq!(error.kind, KustoErrorKind::Unresolved { code: "SEM0260" }, "nothing is left: {error}");
    }
}

#[tokio::test]
async fn a_leg_with_too_many_rows_fails_the_query_under_best_effort() {
    let Fleet { mut hub, west: _west, east: _east } = Fleet::new().await;
    hub.context.limits = Limits { rows: 1, ..Limits::default() };
    // The west has two rows, the east one.
    let text = "macro-expand isfuzzy=true best_effort=true Partitions as X ( X.Requests | where id != 3 )";
    let error = hub.run(text).await.expect_err("a part would look like the whole");
    assert_eq!(error.kind, KustoErrorKind::LimitExceeded, "{error}");
}

#[tokio::test]
async fn local_and_remote_entities_are_one_group() {
    let fleet = Fleet::new().await;
    fleet.hub.command(".create table Requests (id:long, url:string, ms:long)").await;
    fleet.hub.command(".ingest inline into table Requests <| 9,/z,90").await;
    let group = format!("entity_group [database('NetDefaultDB'), {}]", entity(&fleet.west));
    fleet
        .hub
        .values(
            &format!("macro-expand {group} as X ( X.Requests ) | where ms >= 20 | project id | sort by id asc"),
            json!([[2], [9]]),
        )
        .await;
    let own = entity(&fleet.hub);
    fleet
        .hub
        .fails(
            &format!("macro-expand entity_group [database('netdefaultdb'), {own}] as X ( X.Requests )"),
            "SEM0614",
            "twice",
        )
        .await;
    fleet.hub.values(&format!("let G = {group}; macro-expand G as X ( X.Requests | count )"), json!([[1], [2]])).await;
}

#[tokio::test]
async fn what_macro_expand_does_not_allow_is_refused_with_kustos_code() {
    let fleet = Fleet::new().await;
    fleet.hub.fails("macro-expand Partitions as X ( X )", "SEM0608", "'X'").await;
    fleet
        .hub
        .fails(
            "macro-expand Partitions as X ( macro-expand Partitions as Y ( Y.Requests ) )",
            "SEM0611",
            "macro-expand",
        )
        .await;
    fleet.hub.fails("macro-expand Nowhere as X ( X.Requests )", "SEM0100", "Nowhere").await;
    fleet.hub.fails("macro-expand entity_group [database('nosuch')] as X ( X.Requests )", "SEM0056", "nosuch").await;
    let error = fleet.hub.run("macro-expand entity_group [] as X ( X.Requests )").await.unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::Syntax);
    let error = fleet
        .hub
        .run("cluster('https://help.kusto.windows.net').database('Samples').StormEvents | take 1")
        .await
        .unwrap_err();
    assert_eq!(error.kind, KustoErrorKind::RemoteFailed);
    assert!(error.message.contains("this machine only"), "{error}");
}

#[tokio::test]
async fn a_remote_table_and_function_are_read_by_name() {
    let fleet = Fleet::new().await;
    let west = entity(&fleet.west);
    fleet.hub.values(&format!("{west}.Requests | where id == 2 | project url"), json!([["/b"]])).await;
    fleet.hub.values(&format!("{west}.Slow(5 + 5) | count"), json!([[2]])).await;
    fleet
        .hub
        .values(
            &format!("{west}.table('Requests') | join kind=inner ({}.Requests) on url | count", entity(&fleet.east)),
            json!([[1]]),
        )
        .await;
    fleet.hub.values(&format!("union withsource=s {west}.Requests, (print id = 5) | summarize count() by s | sort by s asc | project count_"), json!([[2], [1]])).await;
    let own = entity(&fleet.hub);
    fleet.hub.fails(&format!("{own}.Nowhere"), "SEM0100", "Nowhere").await;
    fleet.hub.fails(&format!("{west}.Nowhere"), "SEM0100", "Nowhere").await;
}

#[tokio::test]
async fn a_changed_table_is_noticed_at_once_or_when_the_memory_is_cleared() {
    let fleet = Fleet::new().await;
    let query = format!("{}.Requests | project-away url | take 1", entity(&fleet.west));
    fleet.hub.one(&query).await;
    fleet.west.command(".drop table Requests").await;
    fleet.west.command(".create table Requests (id:string)").await;
    // A column is gone: the query is planned anew by itself.
    fleet.hub.fails(&query, "SEM0100", "'url'").await;
    let count = format!("{}.Requests | getschema | project ColumnName", entity(&fleet.west));
    fleet.hub.values(&count, json!([["id"]])).await;
    fleet.west.command(".drop table Requests").await;
    fleet.west.command(".create table Requests (fresh:long)").await;
    fleet.hub.values(&count, json!([["id"]])).await;
    fleet.hub.context.remote.clear(&fleet.west.server.url().to_uppercase(), "netdefaultdb");
    fleet.hub.values(&count, json!([["fresh"]])).await;
}

#[tokio::test]
async fn remote_entities_can_be_disabled() {
    let mut fleet = Fleet::new().await;
    fleet.hub.context.remote = RemoteClusters::default().disabled();
    let error = fleet.hub.run(&format!("{}.Requests", entity(&fleet.west))).await.unwrap_err();
    assert!(error.message.contains("request_remote_entities_disabled"), "{error}");
}

#[tokio::test]
async fn filters_columns_and_counts_reach_the_legs() {
    let kept = recording();
    let own = || std::env::temp_dir().join(format!("kusto-local-pushed-{}.jsonl", std::process::id()));
    let record = kept.clone().unwrap_or_else(own);
    let options = ServerOptions { record: Some(record.clone()), ..ServerOptions::default() };
    let partition = World::started(options).await;
    partition.command(".create table Requests (id:long, url:string, ms:long)").await;
    let hub = World::empty().await;
    let united = format!("macro-expand entity_group [{}] as X ( X.Requests )", entity(&partition));
    for operators in [
        "where ms > toscalar(print 10) | project url",
        "summarize sum(ms) by url",
        "count",
        "top 3 by ms",
        "take 4",
        "where ms < 1 | join kind=inner (print url = 'x') on url",
    ] {
        hub.one(&format!("{united} | {operators}")).await;
    }
    // Also through a stored function over a stored group, which is how users ask.
    hub.command(&format!(".create entity_group All ({})", entity(&partition))).await;
    let body = "macro-expand isfuzzy=true best_effort=true All as X ( X.Requests )";
    hub.command(&format!(".create function with (skipvalidation=true) federated_Requests() {{ {body} }}")).await;
    hub.one("federated_Requests() | where ms > 77 | summarize sum(ms) by url").await;
    partition.server.shutdown().await;
    let sent = std::fs::read_to_string(&record).unwrap();
    for text in [
        "| where ms > 77 | project url, ms",
        "| where ms > 10 | project url = url",
        "| project url, ms",
        ".Requests | count",
        "| top 3 by ms",
        "| take 4",
        "| where ms < 1",
    ] {
        assert!(sent.contains(text), "{text} was not sent:\n{sent}");
    }
    if kept.is_none() {
        std::fs::remove_file(&record).unwrap();
    }
}

#[tokio::test]
async fn union_then_filter_equals_filter_in_the_legs() {
    let fleet = Fleet::new().await;
    let united =
        "macro-expand Partitions as X ( X.Requests | extend d = pack('k', url), t = datetime(2020-01-01) + ms * 1h )";
    for operators in [
        "where ms > 15 or url has 'c'",
        "where d.k == '/a' and t between (datetime(2020-01-01) .. 25h)",
        "extend ms = ms + 1, x = tostring(d) | where ms % 2 == 1",
        "project ms, y = iff(ms > 20, 'big', 'small') | where y startswith 'b'",
        "project-rename duration = ms | project-away d | where duration >= 30",
        "project-reorder t, u* | project-keep t, url",
        "where not(url == '/a') | extend url = strcat(url, '-', id)",
        "where t > ago(1d) | extend id = -id",
        "where id in (1, 4) | distinct url, id",
        "summarize make_set(url), dcount(id) by bin(t, 1d)",
        "where ms > -1 | summarize arg_max(ms, *)",
        "extend p = 1.5, n = long(null), g = decimal(2.5), s = 'it''s' | where isnull(n) and p > 1 and g < 3",
    ] {
        let pushed = fleet.hub.one(&format!("{united} | {operators}")).await;
        // `as` is done here, so nothing behind it reaches the legs.
        let local = fleet.hub.one(&format!("{united} | as here | {operators}")).await;
        assert_eq!(pushed.schema, local.schema, "{operators}");
        let sorted = |rows: Vec<Vec<Value>>| {
            let mut texts: Vec<String> = rows.into_iter().map(|row| json!(row).to_string()).collect();
            texts.sort();
            texts
        };
        assert_eq!(sorted(pushed.json()), sorted(local.json()), "{operators}");
    }
}
