//! The queries that README.md shows people are such as they can run.

use std::collections::BTreeSet;

use tests::{
    docs::{blocks, read},
    fleet::{Fleet, Pace},
    telemetry::REGIONS,
};

use crate::{
    support::end,
    trust::{beats, hub_with, once},
};

#[tokio::test]
async fn every_query_of_the_readme_is_answered_with_rows_of_the_whole_fleet() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let listed: Vec<_> = fleet.partitions.iter().map(|server| format!("'{}'", server.url)).collect();
    let document = hub_with(&fleet, "listed", &format!("    allowedPartitions: [{}]", listed.join(", ")));
    assert_eq!(once(&fleet, &document, "--once").await.0, Some(3), "nobody has beaten yet");
    beats(&fleet).await;
    // Somebody who is not live.
    let stranger = ".ingest inline into table Heartbeats <|\n2026-01-01T00:00:00Z,http://127.0.0.9:1,[],{}\n";
    fleet.hub.command("FleetDiscovery", stranger).await.expect("the hub takes a heartbeat");
    let (code, output) = once(&fleet, &document, "--once").await;
    assert_eq!(code, Some(0), "{output}");

    let readme = read("README.md");
    let languages: BTreeSet<_> = blocks(&readme).map(|(language, _)| language).collect();
    assert_eq!(languages, BTreeSet::from(["", "kusto", "sh", "yaml"]), "KQL stands in blocks of 'kusto'");
    let queries: Vec<_> = blocks(&readme).filter(|(language, _)| *language == "kusto").map(|(_, text)| text).collect();
    assert!(queries.len() >= 5, "{queries:#?}");
    for query in queries {
        let table = fleet.hub.query("Logs", query).await.unwrap_or_else(|error| panic!("{query}\n{error}"));
        assert!(!table.rows.is_empty(), "{query}\nhas no rows");
        if table.columns.iter().any(|column| column == "Region") {
            let regions: BTreeSet<_> = table.column("Region").into_iter().collect();
            assert_eq!(regions, REGIONS.map(|region| region.name.to_owned()).into(), "{query}");
        }
    }
    // Microsoft's parser reads them where they ran.
    end(fleet, []).await;
}
