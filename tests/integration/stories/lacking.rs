//! Databases that partitions have and the hub lacks: whoever asks `federation_status()`, in whichever database, is told of them.

use crate::faulty_hub::{DATABASES, Hub};

/// Whether every database of the hub tells of these.
async fn is_told(hub: &Hub, missing: &str) -> Result<(), String> {
    for database in DATABASES {
        let told = hub.server.query(database, "federation_status() | project Partition, MissingDatabases").await;
        let told = told.map_err(|error| error.to_string())?;
        let is_each = told.column("MissingDatabases").iter().all(|told| told == missing);
        if told.rows.len() != 3 || !is_each {
            return Err(format!("{database}: {told:?} instead of {missing:?}"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn databases_that_partitions_have_and_the_hub_lacks_are_told_in_every_hub_database_until_they_are_there() {
    let hub = Hub::start().await;
    hub.document("canary: false");
    hub.beat(&[("Logs", &["A"]), ("Traces", &["T"]), ("Audit", &["U"])]).await;
    // What is told does not have to be told again: a new agent finds nothing to write.
    assert_eq!(hub.converges(|| is_told(&hub, "Audit, Traces")).await, Ok(()));
    hub.server.command("FleetDiscovery", ".create database Traces volatile").await.expect("the hub makes a database");
    assert_eq!(hub.converges(|| is_told(&hub, "Audit")).await, Ok(()));
    hub.beat(&[("Logs", &["A"]), ("Traces", &["T"])]).await;
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
