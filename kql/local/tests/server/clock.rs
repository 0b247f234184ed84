//! `--clock-offset`: what of a server follows its clock, and what becomes of a file that changes.

use kusto_local::{Server, ServerOptions};
use serde_json::json;

use crate::support::{Local, Reread};

/// Whether the server's clock is ahead of the machine's by so many minutes, give or take one.
async fn is_ahead_by(local: &Local, minutes: i64) -> bool {
    let machine = kql::literal::datetime(kusto_local::clock::now_ticks());
    let rows = local.query(&format!("print tolong((now() - datetime({machine})) / 1m)")).await;
    let ahead = rows[0][0].as_i64().expect("it is a whole number");
    (ahead - minutes).abs() <= 1
}

#[tokio::test]
async fn now_and_the_time_of_rows_follow_the_servers_clock_and_so_does_retention() {
    let offset = Reread::new("clock-follows", "-3h\n");
    let options = ServerOptions { clock_offset: Some(offset.path.clone()), ..ServerOptions::default() };
    let local = Local::with(options).await;
    assert!(is_ahead_by(&local, -180).await);
    local.command(".create table T (a:long)").await;
    local.command(".alter-merge table T policy retention softdelete = 2h").await;
    local.command(".ingest inline into table T <| 1").await;
    // By the machine's clock it is past its retention.
    assert_eq!(local.query("T | where ingestion_time() > ago(1h) | project a").await, [json!([1])]);
    assert_eq!(local.query("T | count").await, [json!([1])]);
    offset.write("-01:30:00");
    assert!(is_ahead_by(&local, -90).await);
    assert!(local.query("T | where ingestion_time() > ago(1h) | project a").await.is_empty());
    assert_eq!(local.query("T | where ingestion_time() > ago(2h) | project a").await, [json!([1])]);
    offset.write("1.00:00:00");
    assert!(is_ahead_by(&local, 24 * 60).await);
    assert_eq!(local.query("T | count").await, [json!([0])]);
    offset.write("tomorrow");
    assert!(is_ahead_by(&local, 24 * 60).await, "it stays as it was");
}

#[tokio::test]
async fn a_server_does_not_start_with_an_offset_that_is_no_timespan() {
    let offset = Reread::new("clock-unknown", "tomorrow");
    let options = ServerOptions { clock_offset: Some(offset.path.clone()), ..ServerOptions::default() };
    let error = Server::start(options).await.expect_err("it is refused").to_string();
    assert!(error.contains("for the clock's offset"), "{error}");
}
