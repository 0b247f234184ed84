//! Passwords and signatures in what strangers, people and servers say: agents meet them and show them nowhere. They are marked, so that `make stories` looks for them in all that
//! the suite printed.

use std::{fs, path::Path};

use axum::{
    Router,
    http::{StatusCode, header::LOCATION},
};
use futures::future::join_all;
use serde_json::{Value, json};
use tests::{
    kusto::KustoServer,
    process::Process,
    witness::{PASSWORD, SIGNATURE, assert_hidden, mark},
};
use tokio::net::TcpListener;

use crate::{
    admin::{admin_url, get, until},
    faulty_hub::Hub,
    identity::{hub_document, once, partition_document},
    support::{SOON, judge},
};

/// A signed address, as the Azure portal makes them.
fn signed() -> String {
    format!("https://x.blob.core.windows.net/c/b.csv?sv=2024-11-04&sr=b&sig={SIGNATURE}%3D&se=2030-01-01")
}

/// Addresses that are none of a cluster, and how they are shown; some people give a whole connection string.
fn addresses() -> [(String, &'static str); 8] {
    [
        (format!("https://me:{PASSWORD}@eu.kusto.windows.net"), "https://…@eu.kusto.windows.net"),
        (format!("https://{PASSWORD}@eu.kusto.windows.net"), "https://…@eu.kusto.windows.net"),
        (format!("me:{PASSWORD}@eu.kusto.windows.net"), "…@eu.kusto.windows.net"),
        (format!("https://eu.kusto.windows.net/?sv=2024-11-04&sig={SIGNATURE}"), "https://eu.kusto.windows.net/?…"),
        (format!("https://me:{PASSWORD}@eu.kusto.windows.net?sig={SIGNATURE}"), "https://…@eu.kusto.windows.net?…"),
        (format!("https://eu.blob.core.windows.net/c;{PASSWORD}"), "https://eu.blob.core.windows.net/c;…"),
        (format!("appkey={PASSWORD}"), "appkey=…"),
        (
            format!("password={PASSWORD} data source=https://eu.kusto.windows.net"),
            "password=… data source=https://eu.kusto.windows.net",
        ),
    ]
}

#[tokio::test]
async fn secrets_in_heartbeats_are_shown_by_no_agent() {
    mark();
    let hub = Hub::start().await;
    hub.document("entityGroups: [{by: geo}]");
    let rows = addresses().map(|(address, _)| address);
    hub.beat_as(&rows, "EU", &json!([{"database": "Logs", "tables": ["A"]}])).await;
    // A partition whose names and attributes hold such a thing, where others have names.
    let columns = json!({"A": format!("['{}']:long", signed())});
    let schema = json!([
        {"database": "Logs", "tables": ["A", signed()], "tableSchemas": columns},
        {"database": signed(), "tables": ["A"]},
    ]);
    hub.beat_as(&["http://127.0.0.4:1"], &signed(), &schema).await;
    for how in ["--plan", "--once"] {
        let (code, output) = hub.run(&[how]).await;
        assert_eq!(code, Some(0), "{how}: {output}");
        assert_hidden(how, &output);
    }
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    let status = until(&url, "/status", |_, status| status.contains("\"outcome\":\"unchanged\"")).await;
    for (_, shown) in addresses() {
        let told = format!("a heartbeat row is ignored: \\\"{shown}\\\" is not a cluster endpoint: ");
        assert!(status.contains(&told), "{told} {status}");
    }
    for told in [
        "Logs.tables[1]: the table name",
        "Schema[1].database: the database name",
        "Logs.tableSchemas.A: ",
        "PartitionMetadata.geo: it may be a secret",
    ] {
        assert!(status.contains(told), "{told}: {status}");
    }
    let sample = format!("adx_federation_refused_heartbeats{{reason=\"no_endpoint\"}} {}", addresses().len());
    let metrics = until(&url, "/metrics", |_, metrics| metrics.lines().any(|line| line == sample)).await;
    agent.stop().await;
    assert_hidden("status", &status);
    assert_hidden("metrics", &metrics);
    for told in ["federation_status() | project Reason", "AdxFederationMembers"] {
        let rows = hub.server.query("FleetDiscovery", told).await.expect("the hub answers").text_rows();
        assert!(!rows.is_empty(), "{told}");
        assert_hidden(told, &format!("{rows:?}"));
    }
    assert_hidden("log", &agent.output());
    hub.end().await;
}

/// Runs a program whose document can never work.
async fn refused(program: &str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let mut process = Process::start(program, program, &arguments);
    let code = process.exited_within(SOON).await.code();
    let output = process.output();
    assert_eq!(code, Some(2), "{program} {arguments:?}: {output}");
    output
}

/// That this document is refused by its agent, and by the supervisor, with these words.
async fn assert_refused(program: &str, document: &Path, shown: &str) {
    let path = document.display().to_string();
    for output in [
        refused(program, &["--config", &path, "--once"]).await,
        refused("operator", &["standalone", "-f", &path]).await,
    ] {
        assert!(output.contains(shown), "{shown} in {output}");
        assert_hidden(program, &output);
    }
}

#[tokio::test]
async fn secrets_in_documents_are_not_shown_by_whoever_refuses_them() {
    mark();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let good = "https://eu.kusto.windows.net";
    for (address, shown) in addresses() {
        for document in [
            partition_document(folder.path(), &address, good, ""),
            partition_document(folder.path(), good, &address, ""),
        ] {
            assert_refused("agent-partition", &document, shown).await;
        }
        assert_refused("agent-hub", &hub_document(folder.path(), &address), shown).await;
        // What is no document at all is shown by its line.
        let document = partition_document(folder.path(), good, good, "");
        let text = fs::read_to_string(&document).expect("it was just written");
        for (field, wrong) in [("clusterName: europe", "clusterNames: "), ("clusterName: europe", "clusterName: [x, ")]
        {
            let text = text.replace(field, &format!("{wrong}'{address}'"));
            fs::write(&document, text).expect("the folder can be written");
            assert_refused("agent-partition", &document, "the document").await;
        }
    }
}

/// A server that answers every request so, and sends whoever follows elsewhere.
pub(crate) async fn server(status: StatusCode, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
    let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
    let answer = (status, [(LOCATION, signed())], body);
    let router = Router::new().fallback(move || std::future::ready(answer.clone()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// The words that tell an error, with what nobody may print.
fn words() -> String {
    format!(
        "the words of the server: cannot read '{}', nor h@\"https://x.blob.core.windows.net/c;{PASSWORD}\", nor https://me:{PASSWORD}@proxy.example/, Password={PASSWORD}",
        signed()
    )
}

/// All that an agent tells while its clusters answer so: what tells the failure is in its status and in its log, in all detail.
async fn told_of(program: &str, status: StatusCode, body: &Value, told: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    let url = server(status, body).await;
    let document = match program {
        "agent-hub" => hub_document(folder.path(), &url),
        _ => partition_document(folder.path(), &url, &url, ""),
    };
    let arguments = ["--config", &document.display().to_string(), "--admin", "127.0.0.1:0"].map(str::to_owned);
    let mut agent = Process::start_with_environment(program, &arguments, &[("RUST_LOG", "trace".to_owned())]);
    let admin = admin_url(&agent).await;
    let shown = until(&admin, "/status", |_, status| status.contains(told)).await;
    let (_, ready) = get(&admin, "/readyz").await;
    let (_, metrics) = get(&admin, "/metrics").await;
    agent.stop().await;
    let log = agent.output();
    assert!(log.contains(told) && log.contains("TRACE"), "{told} in {log}");
    format!("{shown}\n{ready}\n{metrics}\n{log}")
}

#[tokio::test]
async fn secrets_in_the_words_of_servers_are_shown_by_no_agent() {
    mark();
    let words = words();
    let error = json!({"code": "BadRequest", "message": words, "@message": words, "@permanent": true});
    let (refusal, in_band) = (json!({"error": error}), json!([{"OneApiErrors": [{"error": error}]}]));
    let page = json!(format!("<html>{words}</html>"));
    let cases = [
        (StatusCode::BAD_REQUEST, &refusal, "the words of the server"),
        (StatusCode::UNAUTHORIZED, &refusal, "the words of the server"),
        (StatusCode::FORBIDDEN, &page, "the words of the server"),
        (StatusCode::OK, &in_band, "the words of the server"),
        (StatusCode::OK, &page, "the words of the server"),
        (StatusCode::FOUND, &page, "the server redirects (status 302)"),
    ];
    let runs = ["agent-hub", "agent-partition"].into_iter().flat_map(|program| {
        cases.iter().map(move |(status, body, told)| async move {
            (program, *status, told_of(program, *status, body, told).await)
        })
    });
    for (program, status, told) in join_all(runs).await {
        assert_hidden(&format!("{program} {status}"), &told);
    }
}

/// What a cluster holds is read to announce it, and some of it are texts of functions.
#[tokio::test]
async fn secrets_in_functions_of_a_partition_are_shown_by_nobody() {
    mark();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut home = KustoServer::start(0, &["Logs"], &folder.path().join("home.jsonl"), &[]).await;
    let mut hub = KustoServer::start(0, &["FleetDiscovery"], &folder.path().join("hub.jsonl"), &[]).await;
    for command in [
        ".create table Requests (Region:string)".to_owned(),
        format!(
            ".create function with (view=true, docstring='reads {0}') Signed() {{ Requests | extend Source = '{0}' }}",
            signed()
        ),
        format!(".create function with (view=true) Unsigned() {{ print Source = 'Password={PASSWORD}' }}"),
    ] {
        home.command("Logs", &command).await.expect("the partition takes it");
    }
    let heartbeats = ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)";
    hub.command("FleetDiscovery", heartbeats).await.expect("the hub takes the table");
    let document = partition_document(folder.path(), &home.url, &hub.url, "");
    let (code, output) = once("agent-partition", &document, &[], &[("RUST_LOG", "trace".to_owned())]).await;
    assert_eq!(code, Some(0), "{output}");
    assert_hidden("log", &output);
    // It has seen them: they are announced, without their texts.
    let beat = hub.query("FleetDiscovery", "Heartbeats | project Schema = tostring(Schema)").await;
    let schema = beat.expect("the hub answers").column("Schema").concat();
    assert!(schema.contains("Signed") && schema.contains("Unsigned"), "{schema}");
    assert_hidden("heartbeat", &schema);
    for server in [&mut home, &mut hub] {
        server.process().stop().await;
    }
    judge(folder.path());
}
