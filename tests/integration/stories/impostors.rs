//! Who beats as somebody else, or nearly: hosts that look like a partition's, and two agents of one cluster.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, Pace},
    kusto::KustoServer,
    process::Process,
    telemetry::REGIONS,
};

use crate::{
    admin::{admin_url, partition_of, refused, until},
    faulty_hub::{DATABASES, Hub},
    support::{SOON, end, hub_content, until_printed_after, until_regions, whole_content},
    trust::hub_with,
};

/// What an agent tells of its last pass.
fn problems(status: &str) -> Vec<String> {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let problems = status["lastPass"]["problems"].as_array().into_iter().flatten();
    problems.filter_map(|problem| problem.as_str().map(str::to_owned)).collect()
}

/// Anyone may own a cluster below the cloud's suffix, and give it such a name.
#[tokio::test]
async fn hosts_that_look_like_a_partitions_are_refused_or_strangers_and_harm_no_other() {
    const LISTED: &str = "https://eu-prod.kusto.windows.net";
    const PUNYCODE: &str = "an internationalised (punycode) host is not accepted";
    const LETTERS: &str = "every label of the host must be 1 to 63 ASCII letters, digits and inner hyphens";
    let no_endpoints = [
        ("https://xn--eu-prd-jua.kusto.windows.net", PUNYCODE),
        ("https://eu-prod.xn--e1afmkfd.kusto.windows.net", PUNYCODE),
        // A Cyrillic letter, another hyphen, another dot.
        ("https://\u{435}u-prod.kusto.windows.net", LETTERS),
        ("https://eu\u{2010}prod.kusto.windows.net", LETTERS),
        ("https://eu-prod\u{3002}kusto.windows.net", LETTERS),
        ("https://eu_prod.kusto.windows.net", LETTERS),
        ("https://eu%2dprod.kusto.windows.net", LETTERS),
        ("https://eu-prod.kusto.windows.net.", "the host must not end with a dot"),
    ];
    let foreign = ["https://eu-prod.evilkusto.windows.net", "https://eu-prod.kusto-windows.net"];
    let strangers = [
        "https://eu-pr0d.kusto.windows.net",
        "https://eu--prod.kusto.windows.net",
        "https://eu-prod.eu.kusto.windows.net",
        "https://eu-prod.kusto.windows.net.kusto.windows.net",
    ];
    let hub = Hub::start().await;
    hub.document(&format!(
        "entityGroups: [{{by: geo}}], allowedPartitions: ['http://127.0.0.1:1', 'http://127.0.0.2:1', '{LISTED}']"
    ));
    let schema = |tables: &[&str]| json!([{"database": "Logs", "tables": tables}]);
    let partitions_beat = async |tables: &[&str]| {
        hub.beat_of(&["1", "2"], &schema(tables)).await;
        hub.beat_as(&[LISTED], "EU", &schema(tables)).await;
    };
    partitions_beat(&["A"]).await;
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    let before = hub.content().await;

    let impostors = no_endpoints.iter().map(|(endpoint, _)| *endpoint).chain(foreign).chain(strangers);
    hub.beat_as(&impostors.collect::<Vec<_>>(), "US", &schema(&["A", "Impostor"])).await;
    partitions_beat(&["A", "B"]).await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    let is_quiet = |status: &str| status.contains("\"outcome\":\"unchanged\"");
    let status = until(&url, "/status", |_, status| is_quiet(status)).await;
    let told = problems(&status);
    let refused = no_endpoints
        .iter()
        .map(|(endpoint, rule)| format!("a heartbeat row is ignored: {endpoint:?} is not a cluster endpoint: {rule}"));
    let ignored = foreign
        .iter()
        .map(|endpoint| format!("the heartbeats of {endpoint} are ignored: it is no Kusto endpoint of this cloud"));
    for problem in refused.chain(ignored) {
        assert!(told.contains(&problem), "{problem}: {told:#?}");
    }
    for stranger in strangers {
        let told = partition_of(&status, stranger);
        let reason = told["reason"].as_str().unwrap_or_default();
        assert!(told["state"] == "untrusted" && reason.contains("allowedPartitions"), "{stranger}: {told:#}");
    }
    let samples = [("no_endpoint", no_endpoints.len()), ("foreign", foreign.len()), ("untrusted", strangers.len())]
        .map(|(reason, count)| format!("adx_federation_refused_heartbeats{{reason=\"{reason}\"}} {count}"));
    until(&url, "/metrics", |_, metrics| samples.iter().all(|sample| metrics.lines().any(|line| line == sample))).await;

    // What is due of the others is done, and nothing else: their groups, and theirs alone.
    let content = hub.content().await;
    assert_eq!(content.len(), before.len() + 1, "{content:#?}");
    assert!(content.iter().any(|line| line.contains("federated_B")), "{content:#?}");
    let groups =
        |content: &[String]| content.iter().filter(|line| line.contains("_Partitions")).cloned().collect::<Vec<_>>();
    assert_eq!(groups(&content), groups(&before));
    assert!(groups(&content).iter().all(|group| group.contains(LISTED)), "{content:#?}");
    let asked = format!("federation_status() | where Partition == '{}' | project State, Reason", strangers[0]);
    let row = hub.server.query("Logs", &asked).await.expect("the hub answers").text_rows().concat();
    assert!(row[0] == "untrusted" && row[1].contains("allowedPartitions"), "{row:?}");
    agent.stop().await;
    hub.end().await;
}

/// A cluster that beats, answers, and has not what it announces.
#[tokio::test]
async fn a_cluster_that_fails_its_canary_query_is_counted_as_untrusted_until_it_passes() {
    let hub = Hub::start().await;
    let record = hub.folder.path().join("candidate.jsonl");
    let mut candidate = KustoServer::start(0, &["Logs"], &record, &[]).await;
    let schema = json!([{"database": "Logs", "tables": ["A"]}]);
    hub.beat_with(&schema).await;
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    let before = hub.content().await;

    hub.document("entityGroups: [{by: geo}], canary: true");
    hub.beat_as(&[&candidate.url], "EU", &schema).await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    // The clocks of all four are months behind.
    let counted = |untrusted: &'static str| {
        BTreeMap::from([
            ("no_endpoint", "0"),
            ("false_claim", "0"),
            ("foreign", "0"),
            ("untrusted", untrusted),
            ("content", "4"),
        ])
    };
    let states = |metrics: &str, live: usize, untrusted: usize| {
        [("live", live), ("untrusted", untrusted)].iter().all(|(state, count)| {
            metrics.lines().any(|line| line == format!("adx_federation_partitions{{state=\"{state}\"}} {count}"))
        })
    };
    let is_quiet = |status: &str| status.contains("\"outcome\":\"unchanged\"");
    let status = until(&url, "/status", |_, status| is_quiet(status)).await;
    let told = partition_of(&status, &candidate.url);
    let failed = "its canary query failed: canary failed on ";
    assert!(told["state"] == "untrusted", "{told:#}");
    assert!(told["reason"].as_str().is_some_and(|reason| reason.starts_with(failed)), "{told:#}");
    until(&url, "/metrics", |_, metrics| refused(metrics) == counted("1") && states(metrics, 3, 1)).await;
    let asked = format!("federation_status() | where Partition == '{}' | project State, Reason", candidate.url);
    let row = hub.server.query("Logs", &asked).await.expect("the hub answers").text_rows().concat();
    assert!(row[0] == "untrusted" && row[1].starts_with(failed), "{row:?}");
    assert_eq!(hub.content().await, before);
    agent.stop().await;

    // It has it, and a new agent asks again at once.
    candidate.command("Logs", ".create table A (a:long)").await.expect("the cluster takes a table");
    agent = hub.agent();
    let url = admin_url(&agent).await;
    until(&url, "/metrics", |_, metrics| refused(metrics) == counted("0") && states(metrics, 4, 0)).await;
    until(&url, "/status", |_, status| is_quiet(status)).await;
    let content = hub.content().await;
    // Its database's group and that of its geography, in two databases.
    assert_eq!(content.iter().filter(|line| line.contains(&candidate.url)).count(), 4, "{content:#?}");
    agent.stop().await;
    candidate.process().stop().await;
    hub.end().await;
}

#[tokio::test]
async fn two_agents_that_beat_as_one_cluster_are_told_and_change_nothing_of_any_other() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let by_geo = hub_with(&fleet, "by-geo", "    entityGroups: [{by: geo}]");
    let hub = fleet.start_agent("agent-hub", &by_geo, &["--admin", "127.0.0.1:0"]);
    let documents = REGIONS.iter().zip(&fleet.partitions);
    let documents = documents.map(|(region, server)| fleet.partition_document(region, server));
    let mut agents: Vec<Process> =
        documents.map(|document| fleet.start_agent("agent-partition", &document, &[])).collect();
    whole_content(&fleet).await;
    let printed = hub.output().len();
    until_printed_after(&hub, printed, "pass ended outcome=unchanged").await;
    // Commands about what is not this cluster's alone.
    let of_others =
        ["['federated_", "entity_group ['Logs_Partitions']", "['Metrics_Partitions']", "['Logs_Partitions_APAC']"];
    let sent = || of_others.map(|text| fleet.hub.recorded(text));
    let before = sent();
    assert!(before.iter().all(|count| *count > 0), "{before:?}");

    // The same document in a second place, where somebody has edited a line.
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let document = fs::read_to_string(document).expect("the document was just written");
    let second = fleet.write_document("europe-again", &document.replace("geo: EU", "geo: US"));
    agents.push(fleet.start_agent("agent-partition", &second, &[]));
    let url = admin_url(&hub).await;
    let europe = &fleet.partitions[0].url;
    let told = "its heartbeats say one thing and another in turn: two agents may beat as this cluster";
    let is_told = |status: &str| {
        partition_of(status, europe)["problems"][0].as_str().is_some_and(|problem| problem.starts_with(told))
    };
    let status = until(&url, "/status", |_, status| is_told(status)).await;
    for other in &fleet.partitions[1..] {
        assert_eq!(partition_of(&status, &other.url)["problems"], json!([]), "{status}");
    }
    let sample = "adx_federation_refused_heartbeats{reason=\"content\"} 1";
    until(&url, "/metrics", |_, metrics| metrics.lines().any(|line| line == sample)).await;
    let asked = format!("federation_status() | where Partition == '{europe}' | project State, Reason");
    fleet
        .hub_until("Metrics", &asked, SOON, |table| {
            table.rows.len() == 1 && table.column("State") == ["live"] && table.column("Reason")[0].starts_with(told)
        })
        .await;

    // What it does is in the log: that cluster goes to and fro, and no other leaves a group.
    let output = hub.output();
    assert!(output.contains("drop entity group Logs_Partitions_EU in Logs"), "{output}");
    let leaving: Vec<&str> = output.lines().filter_map(|line| line.split("left: ").nth(1)).collect();
    for other in &fleet.partitions[1..] {
        assert!(!leaving.iter().any(|left| left.contains(&other.url)), "{leaving:#?}");
    }
    assert_eq!(sent(), before, "{output}");
    let content = hub_content(&fleet).await;
    for (group, server) in
        [("Logs_Partitions_US", &fleet.partitions[1]), ("Logs_Partitions_APAC", &fleet.partitions[2])]
    {
        let having = content.iter().filter(|line| line.contains(group) && line.contains(&server.url)).count();
        assert_eq!(having, 3, "{group} in each database: {content:#?}");
    }
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    end(fleet, agents.into_iter().chain([hub])).await;
}

/// All functions with their texts, and all groups with their members.
async fn texts(hub: &Hub) -> Vec<String> {
    let mut texts = Vec::new();
    for database in DATABASES {
        for command in [".show functions | project Name, Body", ".show entity_groups | project Name, Entities"] {
            let table = hub.server.command(database, command).await.expect("the hub answers");
            texts.extend(table.rows.iter().map(|row| format!("{database} {row:?}")));
        }
    }
    texts
}

/// Partitions choose the names of their databases, of which the names of groups are made.
#[tokio::test]
async fn no_name_of_a_strangers_database_gives_it_anothers_group_or_changes_a_function() {
    const STRANGER: &str = "http://127.0.0.9:1";
    let hub = Hub::start().await;
    hub.document("entityGroups: [{by: geo}]");
    // Where a person's group has the name of ours, functions ask `federated_Logs_Partitions`.
    let persons = ".create entity_group Logs_Partitions (cluster('http://127.0.0.77:1').database('Mine'))";
    hub.server.command("Logs", persons).await.expect("anybody may");
    let logs = json!([{"database": "Logs", "tables": ["A", "B"]}]);
    hub.beat_with(&logs).await;
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    let before = texts(&hub).await;
    for text in ["federated_A", "['federated_Logs_Partitions'] as X", "Logs_Partitions_EU", "127.0.0.77"] {
        assert!(before.iter().any(|line| line.contains(text)), "{text} is not in {before:#?}");
    }

    let named =
        ["federated_Logs", "Logs_Partitions_EU", "Logs_Partitions", "federated_Logs_Partitions", "Logs_Partition"];
    let schema = json!(named.map(|database| json!({"database": database, "tables": ["A", "B"]})));
    // Behind the name of `Logs`'s group, this value is the name of another of its databases' group.
    hub.beat_as(&[STRANGER], "EU_Partitions", &schema).await;
    hub.beat_with(&logs).await;
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("'federated_Logs' gets no entity group 'federated_Logs_Partitions'"), "{output}");
    let after = texts(&hub).await;
    for line in &before {
        assert!(after.contains(line), "{line} is not in {after:#?}");
    }
    let new: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(!new.is_empty(), "{output}");
    for line in new {
        let is_its =
            line.contains(STRANGER) && !["1", "2", "3"].iter().any(|n| line.contains(&format!("127.0.0.{n}:1")));
        assert!(is_its, "{line}");
    }
    hub.ends_quietly().await;
}
