//! More endpoints beat than a reading tells of: whoever may write heartbeats can make them up.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    faulty_hub::{DATABASES, Hub, faults, side_by_side},
    support::judge_together,
};

/// Of names before all clusters as many as make a pass ask once more for those whom it knows.
const MANY: u32 = 20_004;

/// Part of the query of the heartbeats, and of no other text that an agent sends.
const HEARTBEATS: &str = "NewBeats";

/// A hub with two partitions that are listed, federated, and beat.
async fn start() -> Hub {
    let hub = Hub::start_with_databases(&DATABASES).await;
    let table = ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)";
    hub.server.command("FleetDiscovery", table).await.expect("the hub takes the table");
    hub.beat(&[("Logs", &["A"])]).await;
    hub.document("allowedPartitions: ['http://127.0.0.1:1', 'http://127.0.0.3:1']");
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    hub
}

/// Many heartbeats, each of another name; half of the names are clusters', and the others come before all clusters in the order in which rows are left out.
async fn crowd(hub: &Hub, endpoints: u32) {
    let command = format!(
        ".set-or-append Heartbeats <| range Number from 1 to {endpoints} step 1 | project Timestamp = now(), ClusterEndpoint = strcat(iff(Number % 2 == 0, 'https://', ''), 'a-made-up-', Number, '.kusto.windows.net'), Schema = dynamic([]), PartitionMetadata = dynamic({{}})"
    );
    hub.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
}

#[tokio::test]
async fn whatever_crowd_beats_those_who_are_listed_fit_the_pattern_or_are_members_are_seen() {
    let hub = start().await;
    crowd(&hub, MANY).await;
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
    // Whoever asks in Kusto is told of the partitions, and not of all who beat.
    let status = hub.server.query("Logs", "federation_status() | project Partition, State").await;
    let status = status.expect("it answers after the crowd").text_rows();
    assert!(status.contains(&vec!["http://127.0.0.1:1".to_owned(), "live".to_owned()]), "{} rows", status.len());
    let unknown = status.iter().filter(|row| row[1] == "unknown").count();
    assert!((1..=1000).contains(&unknown), "{unknown} of {} rows", status.len());
    hub.end().await;
}

/// One kind of fault at the second reading of a crowd, of those who are known. Were the first one believed to be all, whoever it has left out would leave.
async fn at_those_who_are_known(fault: Value) -> TempDir {
    let hub = start().await;
    crowd(&hub, MANY).await;
    hub.beat(&[("Logs", &["A", "B"])]).await;
    hub.document("allowedPartitions: ['http://127.0.0.1:1'], allowedPartitionPattern: '127.0.0.2*'");
    let before = hub.content().await;
    let mut read = 0;
    hub.sent_since(&mut read);
    hub.fail(&json!([{"text": HEARTBEATS, "skip": 1, "fault": fault}]));
    let (code, output) = hub.pass().await;
    hub.fail(&json!([]));
    assert_eq!(code, Some(3), "{fault}: {output}");
    assert!(output.contains("could not be read completely"), "{fault}: {output}");
    assert_eq!(hub.content().await, before, "{fault}: {output}");
    let sent = hub.sent_since(&mut read);
    let readings: Vec<bool> =
        sent.iter().filter(|sent| sent.text.contains(HEARTBEATS)).map(|sent| sent.is_struck).collect();
    assert!(readings.len() > 1 && !readings[0] && readings[1..].iter().all(|is_struck| *is_struck), "{readings:?}");
    // All of it was due.
    let (code, output) = hub.pass().await;
    let content = hub.content().await.join("\n");
    assert_eq!(code, Some(0), "after {fault}: {output}");
    assert!(content.contains("federated_B") && !content.contains("127.0.0.3"), "after {fault}: {content}");
    let Hub { mut server, folder, .. } = hub;
    server.process().stop().await;
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_whom_those_who_are_known_cannot_be_read_holds_the_pass() {
    // A later answer is an answer, and what is no script is not answered as one.
    let is_met = |fault: &Value| !["delay", "failedScript"].iter().any(|kind| fault.to_string().contains(kind));
    let folders = side_by_side(faults().into_iter().filter(is_met).map(at_those_who_are_known)).await;
    judge_together(folders.iter().map(TempDir::path));
}
