//! What the engine refuses or leaves empty although Microsoft's parser accepts it: the corpus has no place for these.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod engine_cases;

use engine_cases::World;
use kusto_local::error::KustoErrorKind;
use serde_json::json;

#[tokio::test]
async fn isfuzzy_leaves_out_tables_that_are_not_there_and_nothing_else() {
    let world = World::new().await;
    for member in ["(Requests | extend n = row_number())", "(Requests | where Adress == 'x')", "(Requests | take 1.5)"]
    {
        let text = format!("union isfuzzy=true {member}, Errors | count");
        let error = world.run(&text).await.expect_err(&text);
        assert!(matches!(error.kind, KustoErrorKind::Semantic { .. }), "{text}: {error}");
    }
    for member in ["Missing", "(Missing | where a == 1)", "Missing()", "database('Missing').T", "table('Missing')"] {
        world.values(&format!("union isfuzzy=true {member}, Errors | count"), json!([[2]])).await;
    }
}

#[tokio::test]
async fn a_number_that_an_int_column_cannot_hold_is_refused() {
    let world = World::empty().await;
    world
        .values("datatable(a:int) [2147483647, -2147483648, int(null)]", json!([[i32::MAX], [i32::MIN], [null]]))
        .await;
    for number in ["2147483648", "-2147483649", "3000000000"] {
        world.fails(&format!("datatable(b:long, a:int) [1, {number}]"), "SEM0025", "'a'").await;
    }
}

#[tokio::test]
async fn a_datetime_outside_of_kustos_years_is_null() {
    let world = World::empty().await;
    world
        .values(
            "print now() - 1000000d, ago(1000000d), now(9000000d), datetime(9999-12-31 23:59:59.9999999) + 1tick, datetime(0001-01-01) - 1tick",
            json!([[null, null, null, null, null]]),
        )
        .await;
    world.values("range x from 1 to 1 step 1 | where now() + x * 10000000d > now() | count", json!([[0]])).await;
}
