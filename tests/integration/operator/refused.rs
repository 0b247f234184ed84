//! What a hub refuses of a plan, in a cluster: the agent is a real one in a pod, and its partition is a row and nothing else, which the story writes. The hub's
//! words, and another row, hold what nobody may print.

use serde_json::{Value, json};
use tests::{
    cluster::{PATIENCE, TestNamespace, condition_of},
    fleet::{Fleet, Pace},
    witness::{PASSWORD, SIGNATURE, assert_hidden, mark},
};

use crate::support::{end, until_event, until_logged};

/// What the agent tells of its last pass as one that looks at it has to.
fn problems(hub: &Value) -> Vec<&str> {
    let problems = hub["status"]["federation"]["lastPass"]["problems"].as_array();
    problems.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn a_change_that_the_hub_refuses_is_a_problem_a_condition_and_an_event_and_stops_no_other_database() {
    const GROUP: &str = ".show entity_groups | where Name == 'Logs_Partitions'";
    const FUNCTION: &str = ".show functions | where Name == 'federated_T'";
    const IGNORED: &str =
        "a heartbeat row is ignored: \"https://…@eu.kusto.windows.net?…\" is not a cluster endpoint: ";
    mark();
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let schema = json!([{"database": "Logs", "tables": ["T"]}]).to_string().replace('"', "\"\"");
    for command in [
        ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)".to_owned(),
        format!(".ingest inline into table Heartbeats <|\n2026-01-01T00:00:00Z,http://127.0.0.1:1,\"{schema}\",{{}}\n2026-01-01T00:00:00Z,https://me:{PASSWORD}@eu.kusto.windows.net?sig={SIGNATURE},[],{{}}\n"),
    ] {
        fleet.hub.command("FleetDiscovery", &command).await.expect("the hub takes it");
    }
    // The hub answers the script to this database with success, and each of its commands has failed.
    let reason =
        format!("cannot read 'https://x.blob.core.windows.net/c?sv=2024&sig={SIGNATURE}', Password={PASSWORD}");
    let fault = json!({"refusedScript": reason});
    fleet.hub.fail(&json!([{"database": "Logs", "text": ".execute database script", "fault": fault}]));
    let test = TestNamespace::new("refused").await;
    let operator = test.operator().await;
    let hub = std::fs::read_to_string(fleet.hub_document()).expect("the document was just written");
    test.apply(&hub).await;

    let told = "Failed: cannot read 'https://x.blob.core.windows.net/c?…', Password=…";
    let refused = ["entity group Logs_Partitions", "function federated_T"]
        .map(|object| format!("create {object} in Logs: {told}"));
    let is_told = |hub: &Value| {
        let problems = problems(hub);
        let federated = condition_of(hub, "Federated");
        hub["status"]["federation"]["lastPass"]["outcome"] == "partial"
            && refused.iter().all(|refused| problems.contains(&refused.as_str()))
            && problems.iter().any(|problem| problem.starts_with(IGNORED))
            && federated.is_some_and(|federated| {
                let message = federated["message"].as_str().unwrap_or_default();
                federated["status"] == "False" && federated["reason"] == "Partial" && message == refused[0]
            })
    };
    let object = test.until("ADXCluster", "hub", is_told).await;
    until_event(&test, "Partial", &refused[0]).await;
    until_logged(&test, told, 0).await;
    assert_hidden("the object", &object.to_string());
    assert_hidden("Events", &format!("{:?}", test.events().await));
    for (whose, log) in [
        ("the agents' logs", test.kubelet.output()),
        ("the operator's log", operator.process.output()),
        ("the hub's log", fleet.hub.output()),
    ] {
        assert_hidden(whose, &log);
    }
    // The others have theirs.
    fleet.hub_until("Metrics", GROUP, PATIENCE, |groups| groups.rows.len() == 1).await;
    for text in [GROUP, FUNCTION] {
        let table = fleet.hub.command("Logs", text).await.expect("the hub answers");
        assert_eq!(table.rows.len(), 0, "{text}: {table:?}");
    }

    fleet.hub.fail(&json!([]));
    for text in [GROUP, FUNCTION] {
        fleet.hub_until("Logs", text, PATIENCE, |table| table.rows.len() == 1).await;
    }
    let is_well = |hub: &Value| {
        let federated = condition_of(hub, "Federated").is_some_and(|federated| federated["status"] == "True");
        federated && problems(hub).iter().all(|problem| !problem.contains("Failed"))
    };
    test.until("ADXCluster", "hub", is_well).await;
    drop(operator);
    end(test, fleet).await;
}
