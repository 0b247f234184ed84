//! Databases that partitions have and the hub lacks, and what a pass could not read or change: whoever asks `federation_status()`, in whichever database, is told of them.

use serde_json::json;

use crate::faulty_hub::{DATABASES, Hub};

/// Whether every database of the hub tells of these.
async fn is_told(hub: &Hub, missing: &str) -> Result<(), String> {
    tells(hub, "MissingDatabases", missing).await
}

/// Whether it does in a column, the same for each partition.
async fn tells(hub: &Hub, column: &str, words: &str) -> Result<(), String> {
    for database in DATABASES {
        let told = hub.server.query(database, &format!("federation_status() | project Partition, {column}")).await;
        let told = told.map_err(|error| error.to_string())?;
        let is_each = told.column(column).iter().all(|told| told == words);
        if told.rows.len() != 3 || !is_each {
            return Err(format!("{database}: {told:?} instead of {words:?}"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn databases_that_partitions_have_and_the_hub_lacks_are_told_in_every_hub_database_until_they_are_there() {
    let hub = Hub::start().await;
    hub.document("canary: false");
    let with_audit = json!(["Logs", "Traces", "Audit"].map(|name| json!({"database": name, "tables": [&name[..1]]})));
    let without = json!(["Logs", "Traces"].map(|name| json!({"database": name, "tables": [&name[..1]]})));
    hub.beat_of(&["1", "2"], &without).await;
    hub.beat_of(&["3"], &with_audit).await;
    // What is told does not have to be told again: a new agent finds nothing to write.
    assert_eq!(hub.converges(|| is_told(&hub, "Audit, Traces")).await, Ok(()));
    hub.server.command("FleetDiscovery", ".create database Traces volatile").await.expect("the hub makes a database");
    assert_eq!(hub.converges(|| is_told(&hub, "Audit")).await, Ok(()));
    // It stays listed for one time to live.
    for hours in [1, 7, 13] {
        hub.server.set_clock(hours * 60);
        hub.beat_with(&without).await;
        assert_eq!(is_told(&hub, "Audit").await, Ok(()));
    }
    assert_eq!(hub.converges(|| is_told(&hub, "")).await, Ok(()));
    // Whoever may write heartbeats makes names up.
    let names: Vec<String> = (10..30).map(|number| format!("{number}{}", "x".repeat(98))).collect();
    let (logs, table): (&[&str], &[&str]) = (&["A"], &["T"]);
    let databases: Vec<(&str, &[&str])> =
        names.iter().map(|name| (name.as_str(), table)).chain([("Logs", logs)]).collect();
    hub.beat(&databases).await;
    let first = format!("{}, 17 more", names[..3].join(", "));
    assert_eq!(hub.converges(|| is_told(&hub, &first)).await, Ok(()));
    hub.ends_quietly().await;
}

#[tokio::test]
async fn what_a_pass_could_not_read_or_change_is_told_in_every_hub_database_until_one_could() {
    let hub = Hub::start().await;
    hub.document("canary: false");
    hub.beat(&[("Logs", &["A"])]).await;
    assert_eq!(hub.converges(|| tells(&hub, "Incomplete", "")).await, Ok(()));
    let fails = |text: &str| json!({"text": text, "fault": {"status": 400}});
    let groups = [".show entity_groups", "databases that could not be read: FleetDiscovery, Logs, Metrics"];
    let script = [".execute database script", "databases of which not all could be changed: Logs"];
    let schemas = ["_endpoints", "schemas that could not be read: 3"];
    for (rules, told) in [
        (vec![fails(groups[0])], groups[1].to_owned()),
        (vec![fails(script[0])], script[1].to_owned()),
        (vec![fails(schemas[0])], schemas[1].to_owned()),
        (vec![fails(groups[0]), fails(schemas[0])], format!("{}; {}", groups[1], schemas[1])),
    ] {
        // There is always something to do, and it is the same again after each.
        hub.beat(&[("Logs", &["A", "B"])]).await;
        hub.fail(&json!(rules));
        let (code, output) = hub.pass().await;
        assert_eq!(code, Some(1), "{output}");
        assert_eq!(tells(&hub, "Incomplete", &told).await, Ok(()), "{output}");
        // It is no news while it is so.
        let recorded = hub.sent_with(",Incomplete,");
        hub.pass().await;
        assert_eq!(hub.sent_with(",Incomplete,"), recorded, "{told}");
        hub.fail(&json!([]));
        assert_eq!(hub.converges(|| tells(&hub, "Incomplete", "")).await, Ok(()), "{told}");
        hub.beat(&[("Logs", &["A"])]).await;
        hub.pass().await;
    }
    hub.ends_quietly().await;
}
