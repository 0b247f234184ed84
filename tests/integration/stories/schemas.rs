//! Partitions that differ.

use std::time::Duration;

use serde_json::json;
use tests::fleet::{Fleet, Pace};
use tokio::time;

use crate::{
    every_fault::CLEAR,
    faulty_hub::Hub,
    support::{SOON, end, federated, hub_content, until_passes, until_printed, until_regions, whole_content},
};

#[tokio::test]
async fn a_table_of_one_partition_only_is_asked_there_only() {
    let (fleet, operator) = federated().await;
    let asia = &fleet.partitions[2];
    for command in [".create table OnlyHere (Answer:long)", ".set-or-append OnlyHere <| print Answer = 42"] {
        asia.command("Logs", command).await.expect("the partition takes a table");
    }
    let query = "federated_OnlyHere()";
    let table = fleet.hub_until("Logs", query, SOON, |table| !table.rows.is_empty()).await;
    assert_eq!(table.column("Answer"), ["42"]);
    let body = fleet.hub.command("Logs", ".show function federated_OnlyHere | project Body").await.expect("it exists");
    let body = &body.column("Body")[0];
    assert!(body.contains(&asia.url) && !body.contains(&fleet.partitions[0].url), "{body}");
    asia.command("Logs", ".drop table OnlyHere").await.expect("the partition drops its table");
    let functions = ".show functions | where Name == 'federated_OnlyHere'";
    fleet.hub_until("Logs", functions, SOON, |table| table.rows.is_empty()).await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_column_of_two_types_is_one_column_or_two_as_in_kusto_where_the_document_says_so() {
    let (fleet, mut operator) = federated().await;
    for (server, (kind, value)) in fleet.partitions.iter().zip([("long", "1"), ("string", "'one'"), ("long", "2")]) {
        for command in
            [format!(".create table Mixed (Code:{kind})"), format!(".set-or-append Mixed <| print Code = {value}")]
        {
            server.command("Logs", &command).await.expect("the partition takes a table");
        }
    }
    let complete = |table: &tests::kusto::Table| table.rows.len() == 3;
    let table = fleet.hub_until("Logs", "federated_Mixed()", SOON, complete).await;
    assert_eq!(table.columns, ["Code"]);
    let filtered = fleet.hub.query("Logs", "federated_Mixed() | where Code == '2' | count").await;
    assert_eq!(filtered.expect("the columns are one").column("Count"), ["1"]);
    let told = "the column 'Code' of 'Mixed' in 'Logs' has different types: string in";
    until_printed(&operator, &format!("{told} {}; long in http", fleet.partitions[1].url)).await;
    operator.stop().await;
    let document = std::fs::read_to_string(fleet.hub_document()).expect("the document was just written");
    let report = document.replace("    macroExpand:", "    schemaConflicts: Report\n    macroExpand:");
    let report = fleet.write_document("report", &report);
    let mut hub = fleet.start_agent("agent-hub", &report, &["--once"]);
    assert_eq!(hub.exited_within(SOON).await.code(), Some(0), "{}", hub.output());
    let table = fleet.hub.query("Logs", "federated_Mixed()").await.expect("the hub answers");
    let mut columns = table.columns.clone();
    columns.sort();
    assert_eq!(columns, ["Code_long", "Code_string"]);
    let typed =
        "macro-expand isfuzzy=true Logs_Partitions as X ( X.Mixed | extend Code = tostring(Code) ) | order by Code asc";
    let table = fleet.hub.query("Logs", typed).await.expect("typed legs agree");
    assert_eq!(table.column("Code"), ["1", "2", "one"]);
    end(fleet, []).await;
}

#[tokio::test]
async fn columns_of_two_types_keep_their_values_in_the_one_that_both_are_converted_to() {
    /// A column, its type and a value in one partition, those in another, and the type that both become.
    const COLUMNS: [(&str, [&str; 2], [&str; 2], &str); 7] = [
        ("IntReal", ["int", "int(7)"], ["real", "0.5"], "real"),
        ("LongDecimal", ["long", "9007199254740993"], ["decimal", "decimal(0.1)"], "decimal"),
        ("DecimalReal", ["decimal", "decimal(1.5)"], ["real", "2.5"], "real"),
        ("BoolString", ["bool", "true"], ["string", "'yes'"], "string"),
        ("DynamicString", ["dynamic", "dynamic({\"a\":1})"], ["string", "'text'"], "string"),
        ("GuidString", ["guid", "guid(74be27de-1e4e-49d9-b579-fe0b331d3642)"], ["string", "'nobody'"], "string"),
        ("DatetimeString", ["datetime", "datetime(2026-01-02T03:04:05Z)"], ["string", "'never'"], "string"),
    ];
    let (fleet, operator) = federated().await;
    for (number, server) in fleet.partitions.iter().take(2).enumerate() {
        let list = |cell: fn(&str, [&str; 2]) -> String| {
            let cells = COLUMNS.map(|(name, first, second, _)| cell(name, if number == 0 { first } else { second }));
            cells.join(", ")
        };
        for command in [
            format!(".create table Mixed ({})", list(|name, [scalar_type, _]| format!("{name}:{scalar_type}"))),
            format!(".set-or-append Mixed <| print {}", list(|name, [_, value]| format!("{name} = {value}"))),
        ] {
            server.command("Logs", &command).await.expect("the partition takes a table");
        }
    }
    let names = COLUMNS.map(|(name, ..)| name);
    let complete = |table: &tests::kusto::Table| table.rows.len() == 2 && table.columns == names;
    let whole = fleet.hub_until("Logs", "federated_Mixed()", SOON, complete).await;
    let types = fleet.hub.query("Logs", "federated_Mixed() | getschema | project ColumnType").await;
    assert_eq!(types.expect("the hub answers").column("ColumnType"), COLUMNS.map(|(.., common)| common));
    // A long of more digits than a real has is whole beside a decimal.
    for values in [
        "IntReal == 7.0 and LongDecimal == decimal(9007199254740993) and DecimalReal == 1.5 and BoolString =~ 'true' and DynamicString == '{\"a\":1}' and GuidString == '74be27de-1e4e-49d9-b579-fe0b331d3642' and todatetime(DatetimeString) == datetime(2026-01-02T03:04:05Z)",
        "IntReal == 0.5 and LongDecimal == decimal(0.1) and DecimalReal == 2.5 and BoolString == 'yes' and DynamicString == 'text' and GuidString == 'nobody' and DatetimeString == 'never'",
    ] {
        let found = fleet.hub.query("Logs", &format!("federated_Mixed() | where {values} | count")).await;
        assert_eq!(found.expect("the columns are one").column("Count"), ["1"], "{values}: {whole:?}");
    }
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_missing_hub_database_isolates_only_itself_until_it_is_made() {
    let (fleet, operator) = federated().await;
    fleet.partitions[0].command("Logs", ".create database Traces").await.expect("the partition makes a database");
    fleet.partitions[0].command("Traces", ".create table Spans (Id:string)").await.expect("and a table in it");
    let groups = ".show entity_groups | where Name == 'Traces_Partitions'";
    fleet.hub_until("Logs", groups, SOON, |table| table.rows.len() == 1).await;
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    until_printed(&operator, "the hub has none of that name").await;
    fleet.hub.command("Logs", ".create database Traces").await.expect("the hub makes the database");
    fleet.hub_until("Traces", "federated_Spans() | count", SOON, |table| table.column("Count") == ["0"]).await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn partitions_that_write_adx_mons_rows_are_federated_alike() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &["--once"]);
    assert_eq!(hub.exited_within(SOON).await.code(), Some(3), "{}", hub.output());
    for server in &fleet.partitions {
        let schema = r#"[{""database"":""Logs"",""tables"":[""Requests"",""ApplicationLogs""],""views"":[]},{""database"":""Metrics"",""tables"":[""PrometheusData""]}]"#;
        let command = format!(
            ".ingest inline into table Heartbeats <|\n2025-05-03T12:34:56Z,{}/,\"{schema}\",\"{{\"\"geo\"\":\"\"EU\"\"}}\"\n",
            server.url.to_uppercase().replace("HTTP://", "http://")
        );
        fleet.hub.command("FleetDiscovery", &command).await.expect("the hub takes the row");
    }
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &["--once"]);
    assert_eq!(hub.exited_within(SOON).await.code(), Some(0), "{}", hub.output());
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    assert_eq!(
        hub_content(&fleet).await.len(),
        2 * 3 + 3 + 3,
        "two groups and a status in three databases, three functions"
    );
    end(fleet, []).await;
}

#[tokio::test]
async fn a_new_column_reaches_the_hub_which_forgets_the_old_ones() {
    let (fleet, operator) = federated().await;
    let sent = |text: &str| {
        let recording = std::fs::read_to_string(&fleet.hub.recording).expect("the file is there");
        recording.matches(text).count()
    };
    whole_content(&fleet).await;
    until_passes(&fleet, 4).await;
    let (schemas, clears) = (sent("SchemaText\"") + sent("_endpoints"), sent(".clear cache remote-schema"));
    until_passes(&fleet, 4).await;
    assert_eq!(sent("SchemaText\"") + sent("_endpoints"), schemas, "an unchanged schema is not fetched again");
    for server in &fleet.partitions {
        server.command("Logs", ".alter-merge table Requests (Added:long)").await.expect("the partition takes a column");
    }
    fleet
        .hub_until("Logs", "federated_Requests() | where isnull(Added) | count", SOON, |table| {
            table.column("Count") == ["420"]
        })
        .await;
    let deadline = time::Instant::now() + SOON;
    while sent(".clear cache remote-schema") < clears + 3 {
        assert!(time::Instant::now() < deadline, "the hub was not told to forget:\n{}", operator.output());
        time::sleep(Duration::from_millis(100)).await;
    }
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_missing_heartbeat_database_is_named_and_made_by_nobody() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let document = std::fs::read_to_string(fleet.hub_document()).expect("the document was just written");
    let document = fleet.write_document("nowhere", &document.replace("FleetDiscovery", "Nowhere"));
    for how in ["--plan", "--once"] {
        let mut hub = fleet.start_agent("agent-hub", &document, &[how]);
        assert_eq!(hub.exited_within(SOON).await.code(), Some(1), "{}", hub.output());
        assert!(hub.output().contains("the hub has no database 'Nowhere'"), "{}", hub.output());
    }
    end(fleet, []).await;
}

#[tokio::test]
async fn columns_that_changed_unseen_or_untold_the_hub_is_told_to_forget_by_the_next_agent() {
    let hub = Hub::start().await;
    let pass = async |tables: &[&str]| {
        hub.beat(&[("Logs", tables)]).await;
        let before = hub.sent_with(CLEAR);
        let (_, output) = hub.pass().await;
        (hub.sent_with(CLEAR) - before, output)
    };
    // Three partitions have the database; each pass is another agent's.
    assert_eq!(pass(&["A"]).await.0, 0, "of new partitions the hub remembers nothing");
    assert_eq!(pass(&["A"]).await.0, 0, "nothing has changed");
    let (told, output) = pass(&["A", "B"]).await;
    assert_eq!(told, 3, "{output}");
    // An agent that is killed in between has told nothing.
    hub.fail(&json!([{"text": CLEAR, "fault": {"delay": 600_000}}]));
    hub.beat(&[("Logs", &["A", "B", "C"])]).await;
    let before = hub.sent_with(CLEAR);
    let mut agent = hub.agent();
    let deadline = time::Instant::now() + SOON;
    let has_c = async || hub.content().await.iter().any(|line| line.contains("federated_C"));
    while !has_c().await {
        assert!(time::Instant::now() < deadline, "{}", agent.output());
        time::sleep(Duration::from_millis(50)).await;
    }
    // It tells the hub when the functions are there.
    time::sleep(Duration::from_millis(500)).await;
    agent.kill().await;
    hub.fail(&json!([]));
    assert!(!agent.output().contains("pass ended"), "{}", agent.output());
    let struck = hub.sent_with(CLEAR) - before;
    let (told, output) = pass(&["A", "B", "C"]).await;
    assert_eq!(told, 3, "after {struck} that were not answered: {output}");
    assert_eq!(pass(&["A", "B", "C"]).await.0, 0, "it has been told");
    hub.ends_quietly().await;
}
