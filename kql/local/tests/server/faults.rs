//! `--faults`: which requests a rule fits, how often, and what becomes of a file that changes.

use std::{fs, path::PathBuf};

use kusto_local::{Server, ServerOptions};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Local;

/// A file of rules that goes with the test.
struct Rules(PathBuf);

impl Rules {
    fn new(name: &str, rules: &Value) -> Self {
        let path = std::env::temp_dir().join(format!("kusto-local-faults-{name}-{}.json", std::process::id()));
        let file = Self(path);
        file.write(&rules.to_string());
        file
    }

    fn write(&self, text: &str) {
        let half = self.0.with_extension("half");
        fs::write(&half, text).unwrap();
        fs::rename(&half, &self.0).unwrap();
    }

    async fn server(&self) -> Local {
        Local::with(ServerOptions { faults: Some(self.0.clone()), ..ServerOptions::default() }).await
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
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
async fn a_failed_script_does_nothing_and_half_a_script_one_half() {
    let rules = Rules::new("scripts", &json!([{"text": "script", "count": 1, "fault": "failedScript"}]));
    let local = rules.server().await;
    let script = ".execute database script <|\n.create table A (a:long)\n.create table B (b:long)";
    let results = local.records(script).await;
    assert!(results.len() == 2 && results.iter().all(|row| row["Result"] == "Failed"), "{results:?}");
    assert!(local.records(".show tables").await.is_empty());
    rules.write(r#"[{"text": "script", "count": 1, "fault": "halfScript"}]"#);
    let sent = local.post("/v1/rest/mgmt").json(&json!({"db": "Logs", "csl": script}));
    let answer = tokio::time::timeout(std::time::Duration::from_secs(1), sent.send()).await;
    assert!(answer.is_err(), "it never answers");
    let tables: Vec<Value> = local.records(".show tables").await.iter().map(|row| row["TableName"].clone()).collect();
    assert_eq!(tables, ["A"]);
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
    let options = ServerOptions { faults: Some(rules.0.clone()), ..ServerOptions::default() };
    let error = Server::start(options).await.expect_err("it is refused").to_string();
    assert!(error.contains("for faults"), "{error}");
}
