//! More endpoints beat than a reading tells of: whoever may write heartbeats can make them up.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time;

use crate::{
    admin::{admin_url, until},
    faulty_hub::{DATABASES, Hub, UNTIL_RIGHT, faults, side_by_side, spares},
    support::{judge_together, until_printed},
};

/// As few as a reading leaves some of out.
const FEW: u32 = 10_001;

/// Of names before all clusters as many as make a pass ask once more for those whom it knows.
const MANY: u32 = 20_004;

/// Part of the query of the heartbeats, and of no other text that an agent sends.
const HEARTBEATS: &str = "NewBeats";

const HEARTBEAT_TABLE: &str =
    ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)";

/// A hub with two partitions that are listed, federated, and beat.
async fn start() -> Hub {
    let hub = Hub::start_with_databases(&DATABASES).await;
    hub.server.command("FleetDiscovery", HEARTBEAT_TABLE).await.expect("the hub takes the table");
    hub.beat(&[("Logs", &["A"])]).await;
    hub.document("allowedPartitions: ['http://127.0.0.1:1', 'http://127.0.0.3:1']");
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    hub
}

/// Many heartbeats, each of another name; half of the names are clusters', and the others come before all clusters in the order in which rows are left out.
async fn crowd(hub: &Hub, endpoints: u32) {
    let name = "strcat(iff(Number % 2 == 0, 'https://', ''), 'a-made-up-', Number, '.kusto.windows.net')";
    crowd_of(hub, endpoints, name, "dynamic([])").await;
}

/// Many heartbeats with one schema, each of the name that an expression makes of its number.
async fn crowd_of(hub: &Hub, endpoints: u32, name: &str, schema: &str) {
    let command = format!(
        ".set-or-append Heartbeats <| range Number from 1 to {endpoints} step 1 | project Timestamp = now(), ClusterEndpoint = {name}, Schema = {schema}, PartitionMetadata = dynamic({{}})"
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

/// A reading tells of all of this crowd, and each is a cluster of this cloud: whoever is looked at is remembered, so only a thousand are.
#[tokio::test]
async fn strangers_beyond_those_who_are_looked_at_are_told_of_and_counted() {
    const MADE_UP: u32 = 1_234;
    let hub = start().await;
    crowd_of(&hub, MADE_UP, "strcat('https://a-made-up-', Number, '.kusto.windows.net')", "dynamic([])").await;
    let mut agent = hub.agent();
    // One of the three partitions is not listed either.
    until_printed(&agent, "235 more partitions beat that may not be federated").await;
    let url = admin_url(&agent).await;
    let samples = [
        "adx_federation_refused_heartbeats{reason=\"untrusted\"} 1235",
        "adx_federation_partitions{state=\"untrusted\"} 1000",
        "adx_federation_partitions{state=\"live\"} 2",
    ];
    let has_all = |metrics: &str| samples.iter().all(|sample| metrics.lines().any(|line| line == *sample));
    until(&url, "/metrics", |_, metrics| has_all(metrics)).await;
    until(&url, "/status", |_, status| status.contains("235 more partitions beat that may not be federated")).await;
    agent.stop().await;
    hub.end().await;
}

/// Nothing tells such a crowd from partitions: each of it is watched, and those of it that a reading tells of come before the members.
#[tokio::test]
async fn whatever_crowd_fits_the_pattern_or_comes_to_an_open_hub_those_who_are_federated_are_seen() {
    let hub = start().await;
    crowd_of(&hub, FEW, "strcat('http://127.0.0.0:', 10000 + Number)", "dynamic(null)").await;
    let has_kept = |content: &[String]| {
        let groups: Vec<&String> = content.iter().filter(|line| line.contains("Logs_Partitions")).collect();
        let is_whole =
            |group: &&String| group.contains("'http://127.0.0.1:1'") && group.contains("'http://127.0.0.3:1'");
        // Who has told of no table is in no group.
        groups.len() == 2 && groups.iter().all(is_whole) && !groups.iter().any(|group| group.contains("127.0.0.0"))
    };

    hub.beat(&[("Logs", &["A", "B"])]).await;
    hub.document("allowedPartitionPattern: '127.0.0.*'");
    let before = hub.sent_with(HEARTBEATS);
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{:?}", output.lines().last());
    assert!(output.contains("more than 10000 endpoints beat"), "{:?}", output.lines().last());
    assert_eq!(hub.sent_with(HEARTBEATS) - before, 2, "of all, and of those who are known");
    let content = hub.content().await;
    assert!(content.iter().any(|line| line.contains("federated_B")) && has_kept(&content), "{content:#?}");

    // Another crowd, of other names: who is remembered is read whole by whoever starts, and so there is an end to it. Who is a member is remembered all the same.
    hub.server.command("FleetDiscovery", ".drop table Heartbeats").await.expect("the hub forgets the beats");
    hub.server.command("FleetDiscovery", HEARTBEAT_TABLE).await.expect("the hub takes the table");
    crowd_of(&hub, FEW, "strcat('http://127.0.0.0:', 30000 + Number)", "dynamic(null)").await;
    hub.beat(&[("Logs", &["A", "B"])]).await;
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{:?}", output.lines().last());
    let names = "AdxFederationMembers | where Kind == 'Partition' | distinct Name";
    let names = hub.server.query("FleetDiscovery", names).await.expect("the hub answers").column("Name");
    let has = |name: &str| names.iter().any(|known| known == name);
    assert!((10_000..10_010).contains(&names.len()), "{} names", names.len());
    assert!(has("http://127.0.0.1:1") && has("http://127.0.0.3:1"));

    // An agent that goes on asks for those of the crowd that it watches besides, as many as there is room for beside the members.
    hub.document("canary: false");
    let mut agent = hub.agent();
    let deadline = Instant::now() + Duration::from_secs(300);
    while !agent.output().contains("pass ended outcome=") {
        assert!(Instant::now() < deadline, "no pass has ended");
        time::sleep(Duration::from_millis(200)).await;
    }
    hub.beat(&[("Logs", &["A", "B", "C"])]).await;
    let content = loop {
        let content = hub.content().await;
        if content.iter().any(|line| line.contains("federated_C")) {
            break content;
        }
        assert!(Instant::now() < deadline, "{content:#?}");
        time::sleep(Duration::from_millis(200)).await;
    };
    assert!(has_kept(&content), "{content:#?}");
    agent.stop().await;
    hub.end().await;
}

/// Whether all that was due is done: the table of those who are listed has its function, and who is no longer listed is no member.
async fn is_right(hub: &Hub) -> Result<(), String> {
    let content = hub.content().await.join("\n");
    let has_all = ["federated_B", "127.0.0.1", "127.0.0.2"].iter().all(|text| content.contains(text));
    if has_all && !content.contains("127.0.0.3") { Ok(()) } else { Err(content) }
}

/// One kind of fault at the second reading of a crowd, of those who are known. Were the first one believed to be all, whoever it has left out would leave. What is
/// left when another agent has come to rest.
async fn at_those_who_are_known(fault: Value) -> (TempDir, Vec<String>) {
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
    let is_right = || is_right(&hub);
    let mut agent = hub.agent();
    assert_eq!(hub.settles(&agent, Timestamp::MIN, UNTIL_RIGHT, is_right).await, Ok(()), "after {fault}");
    agent.stop().await;
    assert_eq!(hub.has_nothing_to_do().await, Ok(()), "after {fault}");
    let left = hub.whole_content().await;
    let folder = hub.stop().await;
    (folder, left)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_whom_those_who_are_known_cannot_be_read_holds_the_pass_and_leaves_no_trace() {
    let kinds = faults().into_iter().filter(|fault| !spares(fault));
    let done = side_by_side(kinds.map(at_those_who_are_known)).await;
    for (_, left) in &done {
        assert_eq!(*left, done[0].1);
    }
    judge_together(done.iter().map(|(folder, _)| folder.path()));
}
