//! `--faults`: which requests a rule fits, how often, what becomes of a file that changes, and what each fault sends.

use std::time::{Duration, Instant};

use kusto_local::{Server, ServerOptions};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Local, Reread, answer};

/// A file of rules.
struct Rules(Reread);

impl Rules {
    fn new(name: &str, rules: &Value) -> Self {
        Self(Reread::new(&format!("faults-{name}"), &rules.to_string()))
    }

    fn write(&self, text: &str) {
        self.0.write(text);
    }

    async fn server(&self) -> Local {
        Local::with(ServerOptions { faults: Some(self.0.path.clone()), ..ServerOptions::default() }).await
    }
}

async fn statuses(local: &Local, path: &str, csl: &str, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        let (status, _) = local.send(path, json!({"db": "Logs", "csl": csl})).await;
        statuses.push(status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn a_rule_fits_by_path_and_text_after_some_and_for_some_requests() {
    let rules = Rules::new(
        "fits",
        &json!([{"path": "/v2/rest/query", "text": "needle", "skip": 1, "count": 2, "fault": {"status": 503}}]),
    );
    let local = rules.server().await;
    assert_eq!(statuses(&local, "/v2/rest/query", "print 'needle'", 5).await, [200, 503, 503, 200, 200]);
    assert_eq!(statuses(&local, "/v2/rest/query", "print 'hay'", 2).await, [200, 200]);
    assert_eq!(statuses(&local, "/v1/rest/query", "print 'needle'", 2).await, [200, 200]);
    // Written again, every rule counts anew; what is no list of rules leaves them as they were.
    rules.write(r#"[{"count": 1, "fault": {"status": 429}}]"#);
    assert_eq!(statuses(&local, "/v1/rest/query", "print 1", 2).await, [429, 200]);
    rules.write(r#"[{"count": 2, "fault": {"status": 429}}]"#);
    assert_eq!(statuses(&local, "/v1/rest/query", "print 1", 1).await, [429]);
    rules.write("[{");
    assert_eq!(statuses(&local, "/v1/rest/query", "print 1", 2).await, [429, 200]);
    rules.write(r#"[{"fault": {"sneeze": 1}}]"#);
    assert_eq!(statuses(&local, "/v1/rest/query", "print 1", 1).await, [200]);
}

#[tokio::test]
async fn a_rule_fits_by_the_database_that_a_request_names_and_counts_its_requests_alone() {
    let unavailable = json!({"status": 503});
    let rules = Rules::new("database", &json!([{"database": "LOGS", "fault": unavailable}]));
    let local = rules.server().await;
    let asked = async |body: Value| local.send("/v1/rest/mgmt", body).await.0.as_u16();
    let text = ".show databases | where DatabaseName != 'Logs'";
    assert_eq!(asked(json!({"db": "Logs", "csl": text})).await, 503, "names of databases have no case");
    assert_eq!(asked(json!({"db": "Metrics", "csl": text})).await, 200, "it is another's, whatever its text names");
    assert_eq!(asked(json!({"csl": text})).await, 200, "it names none");
    // An ingestion names it in its path; its data are data.
    let streamed = async |path: &str, data: &'static str| answer(local.post(path).body(data)).await.0.as_u16();
    assert_eq!(streamed("/v1/rest/ingest/Log%73/T?streamFormat=Csv", "1").await, 503);
    assert_eq!(streamed("/v1/rest/ingest/Metrics/Logs?streamFormat=Json", r#"{"db": "Logs"}"#).await, 400, "no table");
    rules
        .write(&json!([{"database": "Logs", "text": "show", "skip": 1, "count": 1, "fault": unavailable}]).to_string());
    for (database, status) in
        [("Logs", 200), ("Metrics", 200), ("Metrics", 200), ("Logs", 503), ("Logs", 200), ("Metrics", 200)]
    {
        assert_eq!(asked(json!({"db": database, "csl": text})).await, status, "{database}");
    }
}

#[tokio::test]
async fn a_failed_script_does_nothing_and_half_a_script_one_half() {
    let rules = Rules::new("scripts", &json!([{"text": "script", "count": 1, "fault": "failedScript"}]));
    let local = rules.server().await;
    let script = ".execute database script <|\n.create table A (a:long)\n.create table B (b:long)";
    let results = local.records(script).await;
    assert!(results.len() == 2 && results.iter().all(|row| row["Result"] == "Failed"), "{results:?}");
    let told = json!([{"text": "script", "count": 1, "fault": {"refusedScript": "it is in use"}}]);
    rules.write(&told.to_string());
    let results = local.records(script).await;
    let is_told = |row: &Value| row["Result"] == "Failed" && row["Reason"] == "it is in use";
    assert!(results.len() == 2 && results.iter().all(is_told), "{results:?}");
    assert!(local.records(".show tables").await.is_empty());
    rules.write(r#"[{"text": "script", "count": 1, "fault": "halfScript"}]"#);
    let sent = tokio::spawn(local.post("/v1/rest/mgmt").json(&json!({"db": "Logs", "csl": script})).send());
    let tables = async || -> Vec<Value> {
        local.records(".show tables").await.iter().map(|row| row["TableName"].clone()).collect()
    };
    let started = Instant::now();
    while tables().await.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is done");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!sent.is_finished(), "it never answers");
    assert_eq!(tables().await, ["A"]);
    sent.abort();
}

#[tokio::test]
async fn a_failed_ingestion_stores_nothing_and_its_row_says_so_and_what_is_none_is_done() {
    let rules = Rules::new("ingestions", &json!([{"fault": "failedIngest"}]));
    let local = rules.server().await;
    local.command(".create table T (a:long)").await;
    local.command(".alter table T policy streamingingestion enable").await;
    let ingest = ".ingest inline into table T <|\n1\n2\n";
    let has_errors =
        async || -> Vec<Value> { local.records(ingest).await.iter().map(|row| row["HasErrors"].clone()).collect() };
    assert_eq!(has_errors().await, [true]);
    assert_eq!(local.query("T").await, Vec::<Value>::new());
    for fault in ["failedIngest", "failedScript"] {
        rules.write(&json!([{"fault": fault}]).to_string());
        let streamed = local.post("/v1/rest/ingest/Logs/T?streamFormat=Csv").body("3\n");
        assert_eq!(answer(streamed).await.0, StatusCode::OK, "{fault}");
    }
    assert_eq!(local.query("T").await, [json!([3]), json!([3])]);
    rules.write("[]");
    assert_eq!(has_errors().await, [false]);
    assert_eq!(local.query("T | count").await, [json!([4])]);
}

#[tokio::test]
async fn an_answer_is_spoilt_after_the_work_is_done() {
    let rules = Rules::new("spoilt", &json!([{"text": "create", "count": 1, "fault": "lost"}]));
    let local = rules.server().await;
    let lost = local.post("/v1/rest/mgmt").json(&json!({"db": "Logs", "csl": ".create table A (a:long)"})).send().await;
    assert!(lost.is_err() || lost.is_ok_and(|answer| answer.content_length() == Some(0)), "no answer comes");
    assert_eq!(local.records(".show tables").await.len(), 1);
    rules.write(r#"[{"text": "range", "fault": "truncated"}]"#);
    let (status, body) =
        local.send("/v2/rest/query", json!({"db": "Logs", "csl": "range x from 1 to 10 step 1"})).await;
    assert_eq!(status, StatusCode::OK);
    let rows = body[2]["Rows"].as_array().unwrap();
    assert!(rows.len() == 6 && rows[5]["OneApiErrors"].is_array(), "half of the rows, then the error: {rows:?}");
}

#[tokio::test]
async fn a_server_does_not_start_with_rules_that_it_does_not_know() {
    let rules = Rules::new("unknown", &json!([{"faultt": "reset"}]));
    let options = ServerOptions { faults: Some(rules.0.path.clone()), ..ServerOptions::default() };
    let error = Server::start(options).await.expect_err("it is refused").to_string();
    assert!(error.contains("for faults"), "{error}");
}

/// What is on the wire when the server has closed it: all bytes that arrived.
async fn wire(local: &Local, csl: &str) -> String {
    let address = local.server.url().trim_start_matches("http://").to_owned();
    let body = json!({"db": "Logs", "csl": csl}).to_string();
    let length = body.len();
    let request = format!(
        "POST /v2/rest/query HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut arrived = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut arrived)).await;
    // A connection may be reset instead of closed; what came before counts.
    let _ = closed.expect("the server closes the connection");
    String::from_utf8(arrived).unwrap()
}

fn fault(fault: &Value) -> Value {
    json!([{ "text": "needle", "fault": fault }])
}

const NEEDLE: &str = "range needle from 1 to 4 step 1";

#[tokio::test]
async fn a_cut_sends_the_head_and_half_of_the_body_and_no_end() {
    let rules = Rules::new("cut", &fault(&json!("cut")));
    let local = rules.server().await;
    let cut = wire(&local, NEEDLE).await;
    let (head, body) = cut.split_once("\r\n\r\n").expect("the head arrives");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("application/json"), "{head}");
    assert!(body.contains("DataSetHeader") && !body.contains("DataSetCompletion"), "half of the frames: {body}");
    assert!(!body.ends_with("0\r\n\r\n"), "the body has no end: {body}");
    let sent = local.post("/v2/rest/query").json(&json!({"db": "Logs", "csl": NEEDLE})).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::OK);
    assert!(sent.bytes().await.is_err(), "a client sees that it is cut off");
}

#[tokio::test]
async fn a_reset_and_a_lost_answer_send_no_byte() {
    let rules = Rules::new("silent", &fault(&json!("reset")));
    let local = rules.server().await;
    assert_eq!(wire(&local, NEEDLE).await, "");
    rules.write(&fault(&json!("lost")).to_string());
    assert_eq!(wire(&local, NEEDLE).await, "");
}

#[tokio::test]
async fn a_page_and_a_redirect_are_no_json() {
    let rules = Rules::new("page", &fault(&json!("html")));
    let local = rules.server().await;
    let page = wire(&local, NEEDLE).await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("content-type: text/html"), "{page}");
    assert!(page.contains("<!DOCTYPE html>"), "{page}");
    rules.write(&fault(&json!({"redirect": "http://127.0.0.1:9/elsewhere"})).to_string());
    let redirect = wire(&local, NEEDLE).await;
    assert!(redirect.starts_with("HTTP/1.1 307 "), "{redirect}");
    assert!(
        redirect.contains("location: http://127.0.0.1:9/elsewhere\r\n") && redirect.ends_with("\r\n\r\n"),
        "{redirect}"
    );
}

#[tokio::test]
async fn a_delayed_request_is_done_later() {
    let rules = Rules::new("delay", &fault(&json!({"delay": 300})));
    let local = rules.server().await;
    let started = Instant::now();
    assert_eq!(local.query(NEEDLE).await.len(), 4);
    assert!(started.elapsed() >= Duration::from_millis(300));
    rules.write(&fault(&json!({"delay": 600_000})).to_string());
    let other = tokio::time::timeout(Duration::from_secs(60), local.query("print 1")).await;
    assert_eq!(other.expect("others are not").len(), 1);
}

#[tokio::test]
async fn an_error_may_come_with_status_200_as_a_row_or_at_the_end() {
    let rules = Rules::new("late", &fault(&json!("oneApiErrors")));
    let local = rules.server().await;
    let query = json!({"db": "Logs", "csl": NEEDLE});
    let completion = |body: &Value| body.as_array().unwrap().last().unwrap().clone();
    let (status, body) = local.send("/v2/rest/query", query.clone()).await;
    let rows = body[2]["Rows"].as_array().unwrap();
    assert_eq!((status, rows.len()), (StatusCode::OK, 4));
    assert!(rows[3]["OneApiErrors"][0]["error"]["code"].is_string(), "in place of the last row: {rows:?}");
    assert_eq!(completion(&body)["HasErrors"], true);
    assert!(completion(&body)["OneApiErrors"].is_array());
    let (status, body) = local.send("/v1/rest/query", query.clone()).await;
    let rows = body["Tables"][0]["Rows"].as_array().unwrap();
    assert!(status == StatusCode::OK && rows[3]["OneApiErrors"].is_array(), "{rows:?}");

    rules.write(&fault(&json!("hasErrors")).to_string());
    let (status, body) = local.send("/v2/rest/query", query.clone()).await;
    assert_eq!((status, body[2]["Rows"].as_array().unwrap().len()), (StatusCode::OK, 4));
    assert_eq!(completion(&body)["HasErrors"], true);
    let (status, body) = local.send("/v1/rest/query", query).await;
    assert!(status == StatusCode::OK && body["Exceptions"].is_array(), "{body}");
}
