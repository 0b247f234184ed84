//! Rows that come in: streaming, inline, from queries; and the policies that have an effect on them.

use std::time::{Duration, Instant};

use kusto_local::clock;
use serde_json::{Value, json};

use crate::support::{Local, answer, gzip};

async fn with_table(columns: &str) -> Local {
    let local = Local::start().await;
    local.command(&format!(".create table T ({columns})")).await;
    local
}

async fn with_stream(columns: &str) -> Local {
    let local = with_table(columns).await;
    local.command(".alter table T policy streamingingestion enable").await;
    local
}

#[tokio::test]
async fn streaming_needs_the_policy_of_the_table_or_the_database() {
    let local = with_table("a:long").await;
    let (status, body) = local.stream("T", "1\n").await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["code"], "BadRequest_StreamingIngestionPolicyNotEnabled");
    assert_eq!(body["error"]["@permanent"], true);
    local.command(".alter database Logs policy streamingingestion enable").await;
    let (status, body) = local.stream("T", "1\n2\n").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["Tables"][0]["Rows"][0][0], 2);
    local.command(".alter table T policy streamingingestion disable").await;
    assert_eq!(local.stream("T", "1\n").await.0, 400);
    assert_eq!(local.query("T | count").await, [json!([2])]);
}

#[tokio::test]
async fn csv_is_read_by_position_with_json_in_doubled_quotes() {
    let local = with_stream("at:datetime, s:string, d:dynamic").await;
    let csv = "2025-05-03T01:02:03.1234567Z,\"a,b\",\"{\"\"k\"\":[1,2]}\"\n,,\n";
    assert_eq!(local.stream("T?streamFormat=Csv", csv).await.0, 200);
    let expected = [json!(["2025-05-03T01:02:03.1234567Z", "a,b", { "k": [1, 2] }]), json!([null, "", null])];
    assert_eq!(local.query("T").await, expected);
    let (status, body) = local.stream("T", "\"never ends\n").await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(local.query("T | count").await, [json!([2])]);
}

#[tokio::test]
async fn json_is_read_by_column_names_or_by_a_mapping() {
    let local = with_stream("a:long, d:dynamic").await;
    assert_eq!(local.stream("T?streamFormat=Json", "{\"a\":1,\"d\":{\"x\":1}}\n{\"a\":2}").await.0, 200);
    local
        .command(r#".create table T ingestion json mapping "M" '[{"column":"a","Properties":{"Path":"$.nested.a"}}]'"#)
        .await;
    let (status, body) = local.stream("T?streamFormat=MultiJson&mappingName=M", "[{\"nested\":\n{\"a\":3}}]").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(local.query("T").await, [json!([1, { "x": 1 }]), json!([2, null]), json!([3, null])]);
    let (status, body) = local.stream("T?streamFormat=Json&mappingName=Missing", "{}").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (400, &json!("BadRequest_EntityNotFound")));
    let (_, body) = local.stream("T?streamFormat=Avro", "{}").await;
    assert_eq!(body["error"]["code"], "BadRequest_NotSupported");
    let shown = local.records(".show table T ingestion mappings").await;
    assert_eq!((&shown[0]["Name"], &shown[0]["Kind"]), (&json!("M"), &json!("Json")));
    assert_eq!(local.refusal(".show table T ingestion json mapping \"N\"").await.1, "BadRequest_EntityNotFound");
}

#[tokio::test]
async fn gzip_is_known_by_its_magic_bytes_whatever_the_header_says() {
    let local = with_stream("a:long").await;
    let path = "/v1/rest/ingest/Logs/T?streamFormat=Csv";
    for (header, body) in
        [(None, gzip(b"1\n")), (Some("gzip"), gzip(b"2\n")), (Some("gzip"), b"3\n".to_vec()), (None, b"4\n".to_vec())]
    {
        let mut request = local.post(path).body(body);
        if let Some(header) = header {
            request = request.header("content-encoding", header);
        }
        let (status, body) = answer(request).await;
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(local.query("T | count").await, [json!([4])]);
    let whole = gzip(b"5\n");
    let (status, body) = local.stream("T", &whole[..whole.len() - 4]).await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn a_stream_is_four_mebibytes_at_most_after_decompression() {
    let local = with_stream("s:string").await;
    let exact = "x".repeat(4 << 20);
    assert_eq!(local.stream("T", exact.clone()).await.0, 200);
    for body in [format!("{exact}x").into_bytes(), gzip(format!("{exact}x").as_bytes())] {
        let (status, body) = local.stream("T", body).await;
        assert_eq!((status.as_u16(), &body["error"]["code"]), (413, &json!("Stream_InputStreamTooLarge")));
    }
}

#[tokio::test]
async fn streams_into_what_is_not_there_are_refused() {
    let local = with_stream("a:long").await;
    assert_eq!(local.stream("t", "1\n").await.1["error"]["code"], "BadRequest_EntityNotFound");
    let (status, body) = answer(local.post("/v1/rest/ingest/Nowhere/T").body("1\n")).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (400, &json!("BadRequest_DatabaseNotExist")));
}

#[tokio::test]
async fn a_dynamic_over_one_mebibyte_becomes_null_with_success_unless_its_column_is_a_big_object() {
    let local = with_stream("id:long, Schema:dynamic").await;
    // The JSON text of a string has its two quotes.
    let text = |length: usize| "x".repeat(length - 2);
    let line = |id: i64, length: usize| json!({ "id": id, "Schema": text(length) }).to_string();
    assert_eq!(local.stream("T?streamFormat=Json", line(1, 1 << 20)).await.0, 200);
    assert_eq!(local.stream("T?streamFormat=Json", line(2, (1 << 20) + 1)).await.0, 200);
    local.command(".alter column T.Schema policy encoding type='BigObject32'").await;
    assert_eq!(local.stream("T?streamFormat=Json", line(3, (1 << 20) + 1)).await.0, 200);
    let rows = local.query("T | project id, isnull(Schema)").await;
    assert_eq!(rows, [json!([1, false]), json!([2, true]), json!([3, false])]);
}

#[tokio::test]
async fn the_cap_on_a_dynamic_holds_for_every_way_of_ingestion() {
    let local = with_table("id:long, Schema:dynamic").await;
    let least_too_long = "x".repeat((1 << 20) - 1);
    let short = &least_too_long[1..];
    let inline = format!(".ingest inline into table T <| 1,\"\"\"{short}\"\"\"\n2,\"\"\"{least_too_long}\"\"\"");
    local.command(&inline).await;
    for (id, text) in [(3, short), (4, least_too_long.as_str())] {
        let json = format!("parse_json('\"{text}\"')");
        local.command(&format!(".set-or-append T <| print id = {id}, Schema = {json}")).await;
    }
    let rows = local.query("T | project id, isnull(Schema) | sort by id asc").await;
    assert_eq!(rows, [json!([1, false]), json!([2, true]), json!([3, false]), json!([4, true])]);
}

#[tokio::test]
async fn rows_past_their_retention_are_gone() {
    let local = with_stream("a:long").await;
    let keep = async |period: &str| {
        local.command(&format!(".alter-merge table T policy retention softdelete = {period}")).await;
    };
    local.command(".ingest inline into table T <| 1").await;
    keep("1h").await;
    assert_eq!(local.query("T | count").await, [json!([1])]);
    keep("1s").await;
    let started = Instant::now();
    while local.query("T | count").await != [json!([0])] {
        assert!(started.elapsed() < Duration::from_secs(60), "it is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    keep("1h").await;
    local.command(".ingest inline into table T <| 2").await;
    assert_eq!(local.query("T | where a == 2").await, [json!([2])]);
}

#[tokio::test]
async fn a_table_without_retention_of_its_own_has_that_of_its_database() {
    let local = with_table("a:long").await;
    local.command(".ingest inline into table T <| 1").await;
    local.command(".alter-merge database Logs policy retention softdelete = 0d").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(local.query("T | count").await, [json!([0])]);
}

#[tokio::test]
async fn inline_data_is_csv_unless_told_and_starts_behind_the_arrow() {
    let local = with_table("s:string, n:long").await;
    local.command(".ingest inline into table T <|\nShoes,1000\n\"Coats with \"\"quotes\"\"\",5\n").await;
    local.command(".ingest inline into table T with (format='multijson') <| [{\"s\":\"a\",\"n\":1}]").await;
    local.command(".ingest inline into table T with (ignoreFirstRecord=true) <| s,n\nb,2").await;
    let expected = json!([["Shoes", 1000], ["Coats with \"quotes\"", 5], ["a", 1], ["b", 2]]);
    assert_eq!(Value::from(local.query("T").await), expected);
    assert_eq!(local.refusal(".ingest inline into table U <| 1").await.1, "BadRequest_EntityNotFound");
}

#[tokio::test]
async fn results_of_queries_are_stored_by_the_order_of_their_columns() {
    let local = Local::start().await;
    let stored = local.records(".set-or-append T with (folder='f') <| print a = 1, b = 'x'").await;
    assert_eq!(stored[0]["RowCount"], 1);
    local.command(".set-or-append T <| print other = 2, names = 'y'").await;
    assert_eq!(local.query("T | order by a asc").await, [json!([1, "x"]), json!([2, "y"])]);
    let (status, _, message) = local.refusal(".set-or-append T <| print a = 'x', b = 1").await;
    assert_eq!(status, 400);
    assert!(message.starts_with("Query schema does not match table schema"), "{message}");
    assert_eq!(local.records(".show tables").await[0]["Folder"], "f");
}

#[tokio::test]
async fn ingestion_time_is_when_the_rows_arrived() {
    let local = with_stream("a:long").await;
    assert_eq!(local.stream("T", "1\n").await.0, 200);
    let csl = "T | where ingestion_time() > ago(1m) and ingestion_time() <= now() | count";
    assert_eq!(local.query(csl).await, [json!([1])]);
}

#[tokio::test]
async fn many_small_streams_at_once_all_arrive() {
    let local = with_stream("a:long").await;
    let streams = (0..60).map(|n| local.stream("T", format!("{n}\n")));
    for (status, body) in futures::future::join_all(streams).await {
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(local.query("T | summarize count(), sum(a)").await, [json!([60, 1770])]);
    let table = local.server.catalog().database("Logs").unwrap().table_at("T", clock::now_ticks()).unwrap();
    let batches = table.batches.len();
    assert!(batches < 10, "{batches} batches");
}
