//! More endpoints beat than a query may answer with: whoever may write heartbeats can make them up.

use crate::faulty_hub::{DATABASES, Hub};

/// A query of Kusto answers with no more than half a million rows.
const CROWD: u32 = 510_000;

/// Many heartbeats, each of another cluster.
async fn crowd(hub: &Hub) {
    let command = format!(
        ".set-or-append Heartbeats <| range Number from 1 to {CROWD} step 1 | project Timestamp = now(), ClusterEndpoint = strcat('https://made-up-', Number, '.kusto.windows.net'), Schema = dynamic([]), PartitionMetadata = dynamic({{}})"
    );
    hub.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
}

#[tokio::test]
async fn whatever_crowd_beats_those_who_are_listed_fit_the_pattern_or_are_members_are_seen() {
    let hub = Hub::start_with_databases(&DATABASES).await;
    let table = ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)";
    hub.server.command("FleetDiscovery", table).await.expect("the hub takes the table");
    hub.beat(&[("Logs", &["A"])]).await;
    hub.document("allowedPartitions: ['http://127.0.0.1:1', 'http://127.0.0.3:1']");
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    // First the crowd: whoever is left out of an answer, it is who came last.
    crowd(&hub).await;
    hub.beat(&[("Logs", &["A", "B"])]).await;
    hub.document("allowedPartitions: ['http://127.0.0.1:1'], allowedPartitionPattern: '127.0.0.2*'");
    let before = hub.sent_with("by ClusterEndpoint");
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("more than 10000 endpoints beat"), "{output}");
    let content = hub.content().await.join("\n");
    // Who is listed changes, and whom the pattern fits joins. A member that is neither leaves for that: start-up grace would keep one that was not seen.
    assert!(["federated_B", "127.0.0.1", "127.0.0.2"].iter().all(|text| content.contains(text)), "{content}");
    assert!(!content.contains("127.0.0.3") && !content.contains("made-up"), "{content}");
    // A reading of all, which shows that it is a crowd, one of those who are known, and one of the schemas of those who are federated.
    assert_eq!(hub.sent_with("by ClusterEndpoint") - before, 3);
    hub.end().await;
}
