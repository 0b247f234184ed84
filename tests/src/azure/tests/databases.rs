//! Databases and rights of a cluster, and the Kusto server that stands for it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::post};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time};

use super::support::{LONG, SLOW, cluster, start, start_with, wanted_database, wanted_right, with_central};
use crate::azure::{AzureOptions, Fault, FaultKind};

const ONE: &str = "44444444-4444-4444-4444-444444444444";
const OTHER: &str = "55555555-5555-5555-5555-555555555555";

fn state(body: &Value) -> &str {
    body["properties"]["provisioningState"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_new_database_answers_404_for_a_moment() {
    let durations = crate::azure::Durations { visible_after: LONG / 2, ..SLOW };
    let (double, client) = start_with(AzureOptions { durations, plain: true, ..AzureOptions::default() }).await;
    with_central(&double);
    let created = client.put(&cluster("central/databases/Logs"), &wanted_database()).await;
    assert_eq!(
        (created.status, &created.body["name"], state(&created.body)),
        (201, &json!("central/Logs"), "Creating")
    );
    let listed =
        || async { client.get(&cluster("central/databases")).await.body["value"].as_array().map_or(0, Vec::len) };
    for rest in ["", "/principalAssignments", "/principalAssignments/one"] {
        let answer = client.get(&cluster(&format!("central/databases/Logs{rest}"))).await;
        assert_eq!(answer.refusal(), (404, "ResourceNotFound"), "{rest}");
    }
    assert_eq!(listed().await, 1);
    double.advance(LONG / 2);
    assert_eq!((state(&client.get(&cluster("central/databases/logs")).await.body), listed().await), ("Creating", 2));
    double.advance(LONG / 2);
    let there = client.get(&cluster("central/databases/Logs")).await.body;
    assert_eq!((state(&there), &there["location"]), ("Succeeded", &json!("East US 2")));
    assert_eq!(
        (&there["properties"]["softDeletePeriod"], &there["properties"]["hotCachePeriod"]),
        (&json!("P30D"), &json!("P7D"))
    );
    double.assert_fine();
}

#[tokio::test]
async fn databases_are_made_one_by_one() {
    let (double, client) = start().await;
    with_central(&double);
    assert_eq!(client.put(&cluster("central/databases/Logs"), &wanted_database()).await.status, 201);
    // The cluster itself is done: it is the database that shows it.
    assert_eq!(state(&client.get(&cluster("central")).await.body), "Succeeded");
    let other = cluster("central/databases/Traces");
    assert_eq!(client.put(&other, &wanted_database()).await.refusal(), (409, "ServiceIsInMaintenance"));
    assert_eq!(double.take_violations(), [format!("overlap: PUT {other} while DatabaseCreate of central runs")]);
    double.advance(LONG);
    assert_eq!(client.put(&other, &wanted_database()).await.status, 201);
    double.assert_fine();
}

#[tokio::test]
async fn a_database_is_changed_by_patch_and_put() {
    let (double, client) = start().await;
    with_central(&double);
    let body = |properties: Value| json!({"location": "eastus2", "kind": "ReadWrite", "properties": properties});
    let steps = [
        ("PATCH", json!({"softDeletePeriod": "P30D"}), 202, (json!("P30D"), Value::Null)),
        ("PATCH", json!({"hotCachePeriod": "P7D"}), 202, (json!("P30D"), json!("P7D"))),
        ("PUT", json!({"softDeletePeriod": "P9D"}), 200, (json!("P9D"), Value::Null)),
    ];
    let to = cluster("central/databases/Metrics");
    for (method, properties, status, periods) in steps {
        let before = client.get(&to).await.body["properties"]["softDeletePeriod"].clone();
        let begun = client.send(method, &to, Some(&body(properties))).await;
        assert_eq!((begun.status, state(&begun.body)), (status, "Running"));
        assert_eq!(begun.body["properties"]["softDeletePeriod"], before, "not yet");
        double.advance(LONG);
        let after = client.get(&to).await.body["properties"].clone();
        assert_eq!((after["softDeletePeriod"].clone(), after["hotCachePeriod"].clone()), periods, "{method}");
    }
    assert_eq!(client.patch(&cluster("central/databases/Nothing"), &body(json!({}))).await.status, 404);
    assert_eq!(client.send("DELETE", &to, None).await.status, 202);
    double.advance(LONG);
    assert_eq!((client.get(&to).await.status, client.send("DELETE", &to, None).await.status), (404, 204));
    double.assert_fine();
}

#[tokio::test]
async fn a_database_whose_making_failed_is_made_by_another_put() {
    let (double, client) = start().await;
    with_central(&double);
    let kind = FaultKind::OperationFails { code: "Odd".to_owned(), message: "It did not work.".to_owned() };
    double.fault(Fault { method: "PUT", path_contains: "/databases/".to_owned(), skip: 0, times: 1, kind });
    let to = cluster("central/databases/Logs");
    let begun = client.put(&to, &wanted_database()).await;
    double.advance(LONG);
    assert_eq!(client.get(begun.header("azure-asyncoperation")).await.code(), "Odd");
    assert_eq!(state(&client.get(&to).await.body), "Failed");
    assert_eq!(state(&client.get(&cluster("central")).await.body), "Succeeded", "the cluster has nothing");
    assert_eq!(client.put(&to, &wanted_database()).await.status, 200);
    double.advance(LONG);
    assert_eq!(state(&client.get(&to).await.body), "Succeeded");
    double.assert_fine();
}

#[tokio::test]
async fn rights_are_given_once_and_taken_back() {
    let (double, client) = start().await;
    with_central(&double);
    for (scope, role, kind) in [
        ("central", "AllDatabasesViewer", "Microsoft.Kusto/Clusters/PrincipalAssignments"),
        ("central/databases/Metrics", "Ingestor", "Microsoft.Kusto/Clusters/Databases/PrincipalAssignments"),
    ] {
        let to = |name: &str| cluster(&format!("{scope}/principalAssignments/{name}"));
        let right = wanted_right(ONE, role);
        assert_eq!(client.get(&to("one")).await.refusal(), (404, "ResourceNotFound"));
        let created = client.put(&to("one"), &right).await;
        let name = format!("{}/one", scope.replace("/databases", ""));
        assert_eq!((created.status, state(&created.body), &created.body["name"]), (201, "Creating", &json!(name)));
        double.advance(LONG);
        let there = client.get(&to("ONE")).await.body;
        assert_eq!(
            (state(&there), &there["type"], &there["properties"]["role"]),
            ("Succeeded", &json!(kind), &json!(role))
        );
        // The same right under another name is one too many; another principal's is not.
        assert_eq!(client.put(&to("two"), &right).await.refusal(), (409, "PrincipalAssignmentAlreadyExists"));
        assert_eq!(client.put(&to("two"), &wanted_right(OTHER, role)).await.status, 201);
        double.advance(LONG);
        assert_eq!(client.put(&to("one"), &right).await.status, 200);
        double.advance(LONG);
        let listed = client.get(&cluster(&format!("{scope}/principalAssignments"))).await.body["value"].clone();
        assert_eq!(listed.as_array().map(Vec::len), Some(2));
        assert_eq!(client.send("DELETE", &to("one"), None).await.status, 202);
        double.advance(LONG);
        assert_eq!(
            (client.get(&to("one")).await.status, client.send("DELETE", &to("one"), None).await.status),
            (404, 204)
        );
    }
    let nowhere = cluster("central/databases/Nothing/principalAssignments/one");
    assert_eq!(client.put(&nowhere, &wanted_right(ONE, "Ingestor")).await.refusal(), (404, "ResourceNotFound"));
    double.assert_fine();
}

/// A Kusto server that keeps what it is sent, and answers with a status.
async fn kusto(status: StatusCode) -> (String, Arc<Mutex<Vec<Value>>>) {
    let commands = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&commands);
    let keep = move |Json(command): Json<Value>| async move {
        kept.lock().expect("nobody panics while holding it").push(command);
        status
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
    let url = format!("http://{}", listener.local_addr().expect("it has one"));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/rest/mgmt", post(keep))).await });
    (url, commands)
}

#[tokio::test]
async fn a_server_that_stands_for_a_cluster_has_its_databases_before_azure_shows_them() {
    let (double, client) = start().await;
    let (url, commands) = kusto(StatusCode::OK).await;
    let sent = || commands.lock().expect("nobody panics while holding it").clone();
    with_central(&double);
    double.serve_cluster("Central", &format!("{url}/"));
    let shown = client.get(&cluster("central")).await.body["properties"].clone();
    assert_eq!((&shown["uri"], &shown["dataIngestionUri"]), (&json!(url), &json!(url)));
    let create = |name: &str| json!({"db": "NetDefaultDB", "csl": format!(".create database ['{name}'] ifnotexists")});
    assert_eq!(sent(), [create("Metrics")]);
    client.put(&cluster("central/databases/Logs"), &wanted_database()).await;
    assert_eq!(sent().len(), 1, "it is not made yet");
    double.advance(LONG);
    assert_eq!(state(&client.get(&cluster("central/databases/Logs")).await.body), "Succeeded");
    assert_eq!(sent(), [create("Metrics"), create("Logs")]);
    // Also what people make, while nobody asks Azure.
    double.edit(|world| {
        let traces = crate::azure::Database::ready("Traces");
        world.cluster("central").databases.insert("traces".to_owned(), traces);
    });
    let asked = Instant::now();
    while sent().len() < 3 && asked.elapsed() < Duration::from_secs(60) {
        time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sent().last(), Some(&create("Traces")));
    double.assert_fine();
}

#[tokio::test]
async fn a_server_that_refuses_a_database_is_reported() {
    let (double, client) = start().await;
    let (url, _) = kusto(StatusCode::BAD_REQUEST).await;
    with_central(&double);
    double.serve_cluster("central", &url);
    assert_eq!(client.get(&cluster("central")).await.status, 200);
    let violations = double.take_violations();
    assert_eq!(violations.len(), 1);
    assert!(violations[0].contains("did not create the database Metrics"), "{violations:?}");
}
