//! `--record`: what a test can read about what was sent.

use std::path::PathBuf;

use kusto_local::ServerOptions;
use serde_json::{Value, json};

use crate::support::{Local, answer, recording};

/// A file that goes with the test, unless Microsoft's parser is to read it.
struct Recording {
    path: PathBuf,
    stays: bool,
}

impl Recording {
    fn new(name: &str) -> Self {
        let wanted = recording();
        let stays = wanted.is_some();
        let own = || std::env::temp_dir().join(format!("kusto-local-{name}-{}.jsonl", std::process::id()));
        let path = wanted.unwrap_or_else(own);
        let _ = std::fs::remove_file(&path);
        Self { path, stays }
    }

    async fn server(&self) -> Local {
        self.server_with(ServerOptions::default()).await
    }

    async fn server_with(&self, options: ServerOptions) -> Local {
        Local::with(ServerOptions { record: Some(self.path.clone()), ..options }).await
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.stays {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[tokio::test]
async fn a_request_is_in_the_file_when_its_answer_is_there() {
    let recording = Recording::new("lines");
    let local = recording.server().await;
    let properties = json!({ "Options": { "request_readonly": true } });
    let body = json!({ "db": "Logs", "csl": ".show tables", "properties": properties.to_string() });
    let sent = body.to_string().len();
    let (_, answered) = local.send("/v1/rest/mgmt", body).await;
    let line = recording.lines().remove(0);
    assert_eq!(
        (&line["path"], &line["db"], &line["csl"]),
        (&json!("/v1/rest/mgmt"), &json!("Logs"), &json!(".show tables"))
    );
    assert_eq!(line["properties"], properties);
    assert_eq!((&line["status"], &line["request_bytes"]), (&json!(200), &json!(sent)));
    assert_eq!(line["response_bytes"], answered.to_string().len());
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn ingestions_and_failures_are_recorded_and_tokens_are_not() {
    let recording = Recording::new("failures");
    let local = recording.server().await;
    let secret = "Bearer very-secret";
    let ingest = local.post("/v1/rest/ingest/Logs/T?streamFormat=Csv").header("authorization", secret).body("1,2\n");
    assert_eq!(answer(ingest).await.0, 400);
    assert_eq!(answer(local.post("/v2/rest/query").header("authorization", secret).body("{")).await.0, 400);
    let lines = recording.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["path"], &lines[0]["query"]), (&json!("/v1/rest/ingest/Logs/T"), &json!("streamFormat=Csv")));
    assert_eq!((&lines[0]["db"], &lines[0]["csl"]), (&json!("Logs"), &Value::Null));
    assert_eq!((&lines[0]["status"], &lines[0]["request_bytes"]), (&json!(400), &json!(4)));
    assert_eq!(lines[1]["db"], Value::Null);
    assert!(!recording.text().contains("very-secret"));
}

#[tokio::test]
async fn a_request_that_fails_on_purpose_is_recorded_with_its_fault_done_or_not() {
    let recording = Recording::new("faults");
    let rules = std::env::temp_dir().join(format!("kusto-local-recorded-faults-{}.json", std::process::id()));
    let faults =
        json!([{"count": 1, "fault": {"status": 429}}, {"count": 1, "fault": "html"}, {"count": 1, "fault": "lost"}]);
    std::fs::write(&rules, faults.to_string()).unwrap();
    let local = recording.server_with(ServerOptions { faults: Some(rules.clone()), ..ServerOptions::default() }).await;
    for _ in 0..4 {
        let sent = local.post("/v1/rest/mgmt").json(&json!({ "db": "Logs", "csl": ".show tables" }));
        // Not every answer is one that can be read.
        let _ = sent.send().await;
    }
    // Of an ingestion too.
    std::fs::write(&rules, json!([{"fault": {"status": 503}}]).to_string()).unwrap();
    assert_eq!(answer(local.post("/v1/rest/ingest/Logs/T?streamFormat=Csv").body("1\n")).await.0, 503);
    let lines = recording.lines();
    let seen = |line: &Value| (line["fault"].clone(), line["status"].clone());
    assert_eq!(
        lines.iter().map(seen).collect::<Vec<_>>(),
        [
            (json!({"status": 429}), json!(429)),
            (json!("html"), json!(200)),
            (json!("lost"), json!(200)),
            (Value::Null, json!(200)),
            (json!({"status": 503}), json!(503)),
        ]
    );
    assert!(lines.iter().all(|line| line["db"] == "Logs"), "{lines:?}");
    assert!(lines[..4].iter().all(|line| line["csl"] == ".show tables"), "{lines:?}");
    let _ = std::fs::remove_file(&rules);
}

#[tokio::test]
async fn requests_at_once_are_whole_lines() {
    let recording = Recording::new("many");
    let local = recording.server().await;
    futures::future::join_all((0..30).map(|_| local.command(".show tables"))).await;
    assert_eq!(recording.lines().len(), 30);
}
