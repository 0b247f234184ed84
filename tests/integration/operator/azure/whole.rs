//! From a document to a cluster that works.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    azure::{Assignment, AzureDouble, AzureOptions, Seen},
    cluster::{PATIENCE, TestNamespace, condition_of, message_of},
    kusto::KustoServer,
    telemetry::REGIONS,
};
use tokio::time;

use super::support::{LONG, azure, name_for, operator, until, until_provisioned, with_spec, zero_config};
use crate::{
    components::arguments,
    metrics::assert_as_in_the_readme,
    support::{COMPONENTS, judge, made, until_event},
};

#[tokio::test]
async fn a_name_alone_becomes_a_running_cluster() {
    let test = TestNamespace::new("zero").await;
    let azure = azure().await;
    let operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&zero_config(&name)).await;
    let object = until_provisioned(&test, &name).await;
    assert_eq!(condition_of(&object, "Ready").expect("it is told")["status"], "True", "{object:#}");
    for database in ["Metrics", "Logs"] {
        until_event(&test, "CreatingDatabase", &format!("began to create the database '{database}'")).await;
    }
    let status = &object["status"];
    assert_eq!(status["endpoint"], format!("https://{name}.eastus2.kusto.windows.net"));
    assert_eq!(status["provision"]["location"], "eastus2");
    // Not the nodes' group, which the metadata service tells.
    assert_eq!(status["provision"]["resourceGroup"], "adx-mon-eastus2");
    assert_eq!(status["provision"]["skuName"], "Standard_L8as_v3");
    assert_eq!(status["provision"]["state"], "Running");
    assert_eq!(status["provision"]["operation"], Value::Null);
    // What was detected is nothing that somebody wished.
    assert_eq!(object["spec"]["provision"], Value::Null);
    let cluster = azure.cluster(&name).expect("it is in Azure");
    assert_eq!(cluster["properties"]["enableStreamingIngest"], true);
    assert_eq!(cluster["sku"], json!({"name": "Standard_L8as_v3", "tier": "Standard", "capacity": 2}));
    assert_eq!(cluster["tags"], json!({"adx-federation": format!("{}/{name}", test.name)}));
    let databases = azure.edit(|world| {
        let databases = world.cluster(&name).databases.values();
        databases.map(|database| (database.name.clone(), database.soft_delete_period.clone())).collect::<Vec<_>>()
    });
    let month = Some("P30D".to_owned());
    assert_eq!(databases, [("Logs".to_owned(), month.clone()), ("Metrics".to_owned(), month)]);
    let requests = azure.take_requests();
    let writes: Vec<_> = requests.iter().filter(|request| request.is_write()).map(|request| &request.method).collect();
    println!("{} requests, {} of them writes, made a cluster with two databases", requests.len(), writes.len());
    assert_eq!(writes, ["PUT", "PUT", "PUT", "PUT"], "a group, a cluster, two databases");
    azure.assert_fine();
    let metrics = operator.metrics().await;
    for line in [
        r#"azure_requests_total{method="PUT",outcome="ok"} 4"#,
        r#"azure_requests_total{method="HEAD",outcome="refused"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_as_in_the_readme(&metrics);
}

/// The form of the seed's "Complete" example: a cluster that Azure has yet to make, and what works with it.
#[tokio::test]
async fn components_wait_while_azure_makes_their_cluster_and_then_work_with_its_address() {
    let test = TestNamespace::new("complete").await;
    let mut options = AzureOptions::default();
    options.durations.create = LONG;
    let azure = AzureDouble::start(options).await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    let databases =
        "databases: [{databaseName: Metrics, telemetryType: Metrics}, {databaseName: Logs, telemetryType: Logs}]";
    let labelled = format!("{{name: {name}, labels: {{app: adx-mon}}}}");
    let cluster = with_spec(&name, databases).replace(&format!("{{name: {name}}}"), &labelled);
    test.apply(&format!("{cluster}---{COMPONENTS}")).await;
    test.until("ADXCluster", &name, |object| object["status"]["provision"]["operation"].is_object()).await;
    let waits = format!("ADXCluster '{name}' is not ready: Azure is at work");
    for (kind, component, why) in [
        ("Ingestor", "i", waits.clone()),
        ("Alerter", "a", waits.clone()),
        ("Collector", "c", format!("Ingestor 'i' is not ready: {waits}")),
    ] {
        test.until(kind, component, |object| message_of(object, "Ready").starts_with(&why)).await;
    }
    let made = made(&test).await;
    assert!(made.is_empty(), "{made:#?}");

    azure.advance(LONG);
    until_provisioned(&test, &name).await;
    for (kind, component) in [("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a")] {
        test.until_condition(kind, component, "Ready", "True", "Ready").await;
    }
    let endpoint = format!("https://{name}.eastus2.kusto.windows.net");
    let told = async |workload: &str, component: &str| {
        let arguments = arguments(&test.get(workload, component).await).into_iter();
        arguments.filter(|argument| argument.contains("kusto-endpoint")).collect::<Vec<_>>()
    };
    assert_eq!(
        told("apps/v1 StatefulSet", "i").await,
        [format!("--metrics-kusto-endpoints=Metrics={endpoint}"), format!("--logs-kusto-endpoints=Logs={endpoint}")]
    );
    assert_eq!(
        told("apps/v1 Deployment", "a").await,
        [format!("--kusto-endpoint=Logs={endpoint}"), format!("--kusto-endpoint=Metrics={endpoint}")]
    );
    azure.assert_fine();
}

/// Documents alone: a hub and three partitions come to be, with their databases, their agents, and rows from all of them.
#[tokio::test]
async fn from_one_document_to_a_federated_query() {
    let test = TestNamespace::new("whole").await;
    let azure = azure().await;
    let names: Vec<String> =
        REGIONS.iter().map(|region| format!("{}{}", name_for(&test), region.geo.to_lowercase())).collect();
    let hub_name = format!("{}hub", name_for(&test));
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let record = |name: &str| folder.path().join(format!("{name}.jsonl"));
    let mut hub = KustoServer::start(0, &[], &record("hub"), &[]).await;
    azure.serve_cluster(&hub_name, &hub.url);
    let mut document = with_spec(
        &hub_name,
        "role: Federated\nfederation: {heartbeatDatabase: Fleet, heartbeatTable: Heartbeats, heartbeatTTL: 5m, heartbeatInterval: 1m, reconcileInterval: 500ms}",
    );
    let mut servers = Vec::new();
    for (region, name) in REGIONS.iter().zip(&names) {
        let server = KustoServer::start(0, &[], &record(region.name), &[]).await;
        azure.serve_cluster(name, &server.url);
        servers.push(server);
        let federation = format!(
            "federation: {{heartbeatInterval: 1s, federatedClusters: [{{endpoint: '{}', heartbeatDatabase: Fleet, heartbeatTable: Heartbeats}}], partitioning: {{geo: {}}}}}",
            hub.url, region.geo
        );
        document.push_str("---");
        document.push_str(&with_spec(name, &federation));
    }
    let _operator = operator(&test, &azure).await;
    test.apply(&document).await;
    for name in [&hub_name].into_iter().chain(&names) {
        until_provisioned(&test, name).await;
    }
    for (region, server) in REGIONS.iter().zip(&servers) {
        region.load(server).await.expect("the databases are there");
    }
    // The hub's databases are made because its agent misses them.
    let started = time::Instant::now();
    loop {
        match hub.query("Logs", "federated_Requests() | summarize count() by Region | sort by Region asc").await {
            Ok(table) if table.rows.len() == 3 => {
                assert_eq!(table.column("count_"), ["120", "60", "240"]);
                break;
            }
            other => assert!(started.elapsed() < PATIENCE, "{other:?}\n{:#}", test.get("ADXCluster", &hub_name).await),
        }
        time::sleep(Duration::from_millis(200)).await;
    }
    until("the hub has all databases", async || {
        let databases = azure.edit(|world| world.cluster(&hub_name).databases.keys().cloned().collect::<Vec<_>>());
        databases == ["fleet", "logs", "metrics"]
    })
    .await;
    test.until_condition("ADXCluster", &hub_name, "Ready", "True", "Ready").await;
    azure.assert_fine();
    // Its pods' processes end with it.
    drop(test);
    for server in servers.iter_mut().chain([&mut hub]) {
        server.process().stop().await;
    }
    judge(folder.path());
}

#[tokio::test]
async fn agents_get_the_rights_that_they_need_and_no_other() {
    let test = TestNamespace::new("rights").await;
    let azure = azure().await;
    let _operator = operator(&test, &azure).await;
    let (hub, one, two) =
        (format!("{}hub", name_for(&test)), format!("{}one", name_for(&test)), format!("{}two", name_for(&test)));
    let [of_hub, of_one, of_two] =
        ["aaaaaaaa", "bbbbbbbb", "cccccccc"].map(|start| format!("{start}-0000-4000-8000-000000000000"));
    let target = |id: &str| {
        format!(
            "{{endpoint: 'https://{hub}.eastus2.kusto.windows.net', heartbeatDatabase: Fleet, heartbeatTable: H, {id}}}"
        )
    };
    test.apply(&with_spec(
        &hub,
        &format!("role: Federated\nfederation: {{heartbeatDatabase: Fleet, heartbeatTable: H, credential: {{workloadIdentity: {{clientId: {of_hub}}}}}}}"),
    ))
    .await;
    test.apply(&with_spec(
        &one,
        &format!(
            "federation: {{managedIdentityClientId: {of_one}, federatedClusters: [{}], partitioning: {{geo: EU}}}}",
            target(&format!("managedIdentityClientId: {of_one}"))
        ),
    ))
    .await;
    // A name of somebody's own for the same right, and an agent whose identity nobody named.
    azure.edit(|world| {
        let right = Assignment {
            name: "by-hand".to_owned(),
            principal_id: of_two.to_uppercase(),
            role: "AllDatabasesMonitor".to_owned(),
            principal_type: "App".to_owned(),
            tenant_id: String::new(),
            provisioning_state: "Succeeded".to_owned(),
        };
        world.add_cluster("adx-mon-eastus2", &two, "East US 2").assignments.insert("by-hand".to_owned(), right);
    });
    test.apply(&with_spec(
        &two,
        &format!(
            "federation: {{managedIdentityClientId: {of_two}, federatedClusters: [{}], partitioning: {{geo: US}}}}",
            target("credential: {managedIdentity: {}}")
        ),
    ))
    .await;
    for name in [&hub, &one, &two] {
        until_provisioned(&test, name).await;
    }
    let rights = |name: &str| {
        azure.edit(|world| {
            let cluster = world.cluster(name);
            let shown = |right: &Assignment| (right.principal_id.to_lowercase(), right.role.clone());
            let on_cluster: Vec<_> = cluster.assignments.values().map(shown).collect();
            let on_databases: Vec<_> =
                cluster.databases.values().flat_map(|database| database.assignments.values().map(shown)).collect();
            (on_cluster, on_databases)
        })
    };
    let right = |id: &str, role: &str| (id.to_owned(), role.to_owned());
    let ingestor = vec![right(&of_one, "Ingestor")];
    // The partition came after the hub was done: its right follows at the next look.
    test.until("ADXCluster", &hub, |_| rights(&hub).1 == ingestor).await;
    assert_eq!(rights(&hub).0, [right(&of_hub, "AllDatabasesAdmin")]);
    assert_eq!(rights(&one), (vec![right(&of_one, "AllDatabasesMonitor")], vec![]));
    assert_eq!(rights(&two), (vec![right(&of_two, "AllDatabasesMonitor")], vec![]));
    let object = until_provisioned(&test, &hub).await;
    let notes = object["status"]["provision"]["notes"].to_string();
    assert!(
        notes.contains(&format!("the agent of the partition '{two}' needs the role Ingestor on the database Fleet")),
        "{object:#}"
    );

    // At rest.
    azure.take_requests();
    let looks = |requests: &[Seen]| requests.iter().filter(|seen| seen.path.ends_with(&hub)).count();
    until("it is looked at some times", async || looks(&azure.requests()) >= 5).await;
    let requests = azure.take_requests();
    assert!(requests.iter().all(|seen| seen.method == "GET"), "{requests:#?}");
    let looks = looks(&requests);
    let of_hub = requests.iter().filter(|seen| seen.cluster.as_deref() == Some(hub.as_str())).count();
    println!(
        "at rest a hub takes {:.1} requests a look; with the default of a look in five minutes that is less than one a minute",
        of_hub as f64 / looks as f64
    );
    // The first may have begun before.
    assert!(of_hub <= (looks + 1) * 5);
    azure.assert_fine();
}
