//! Every fault of `kusto-local --faults` at what is one request as a rule, and two where names are so long, or partitions so many, that one would be too long: a second script
//! of a database, a second ingestion of a record. What the first of the two has done stays, and the next passes do the rest.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    faulty_hub::{DATABASES, Hub, faults, side_by_side},
    support::judge_together,
};

/// As many databases with names this long have groups whose record is too long for one request.
const LONG_DATABASES: usize = 11;

/// As many functions with names this long are too long for one script.
const LONG_TABLES: usize = 170;

/// Characters of a long name: with what is put around it, it is no longer than a name may be.
const LONG: usize = 1000;

/// As many partitions of a geography with a name this long are too many for one request.
const PARTITIONS: u32 = 1500;

/// As long as an attribute may be that is one of a group.
const LONG_GEO: usize = 250;

/// What a pass needs two requests for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    LongNames,
    ManyPartitions,
}

impl Work {
    /// Parts of the texts of which a pass sends two: each is in both, and in no other.
    const fn requests(self) -> &'static [&'static str] {
        match self {
            Self::LongNames => &[",Intended,", ".execute database script", ",Made,"],
            Self::ManyPartitions => &["into table ['AdxFederationMembers']"],
        }
    }

    /// A hub that has what three partitions beat with.
    async fn start(self) -> Hub {
        let long = (0..LONG_DATABASES).map(|number| long_name("Database", number));
        let databases: Vec<String> = match self {
            Self::LongNames => DATABASES.into_iter().map(str::to_owned).chain(long).collect(),
            Self::ManyPartitions => DATABASES.map(str::to_owned).into(),
        };
        let databases: Vec<&str> = databases.iter().map(String::as_str).collect();
        let hub = Hub::start_with_databases(&databases).await;
        hub.document("entityGroups: [{by: geo}]");
        hub.pass().await;
        hub.beat(&[("Logs", &["A"])]).await;
        let (code, output) = hub.pass().await;
        assert_eq!((code, hub.has_kept_the_live().await), (Some(0), Ok(())), "{output}");
        hub
    }

    async fn beat(self, hub: &Hub) {
        match self {
            Self::LongNames => {
                let tables: Vec<String> = (0..LONG_TABLES).map(|number| long_name("Table", number)).collect();
                let long = (0..LONG_DATABASES).map(|number| {
                    let tables = if number == 0 { tables.as_slice() } else { &tables[..1] };
                    json!({"database": long_name("Database", number), "tables": tables})
                });
                let schema: Value = [json!({"database": "Logs", "tables": ["A"]})].into_iter().chain(long).collect();
                hub.beat_of(&["1"], &schema).await;
            }
            Self::ManyPartitions => {
                let command = format!(
                    ".set-or-append Heartbeats <| range Number from 1 to {PARTITIONS} step 1 | project Timestamp = now(), ClusterEndpoint = strcat('http://127.0.', 1 + Number / 250, '.', Number % 250, ':1'), Schema = dynamic([{{\"database\": \"Logs\", \"tables\": [\"A\"]}}]), PartitionMetadata = bag_pack('geo', strrep('g', {LONG_GEO}))"
                );
                hub.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
            }
        }
    }

    /// The fault at the second of two requests, for each of these.
    fn rules(self, requests: &[&str], fault: &Value) -> Value {
        let rule = |text: &&str| {
            let mut rule = json!({"text": text, "skip": 1, "fault": fault});
            if text.starts_with(".execute") {
                // One for each database, and two for this.
                rule["database"] = long_name("Database", 0).into();
            }
            rule
        };
        requests.iter().map(rule).collect()
    }
}

fn long_name(kind: &str, number: usize) -> String {
    let mut name = format!("{kind}{number}");
    name.push_str(&"x".repeat(LONG - name.len()));
    name
}

/// All that is on a hub whose requests do not fail.
async fn undisturbed(work: Work) -> Arc<Vec<String>> {
    let hub = work.start().await;
    work.beat(&hub).await;
    let mut read = 0;
    hub.sent_since(&mut read);
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    let content = hub.whole_content().await;
    match work {
        Work::LongNames => {
            let is_function = |line: &&String| !line.starts_with("recorded") && line.contains("\"federated_Table");
            let functions = content.iter().filter(is_function).count();
            assert_eq!(functions, LONG_TABLES + LONG_DATABASES - 1, "{output}");
        }
        Work::ManyPartitions => {
            let group = content.iter().find(|line| line.starts_with("Logs Logs_Partitions {"));
            let members = group.map(|group| group.matches("cluster('").count());
            assert_eq!(members, Some(3 + PARTITIONS as usize), "{output}");
            // Once more is recorded what the pass has done.
            let sent = hub.sent_since(&mut read);
            let before = sent.iter().take_while(|sent| !sent.text.starts_with(".execute"));
            let records = before.filter(|sent| sent.text.contains(work.requests()[0])).count();
            assert_eq!(records, 2, "one request holds the record");
        }
    }
    hub.ends_quietly().await;
    Arc::new(content)
}

/// One kind of fault at the second request of each two, once for each: a request that is not sent since another one failed meets it in the next pass.
async fn at_the_second(work: Work, fault: Value, undisturbed: Arc<Vec<String>>) -> TempDir {
    let hub = work.start().await;
    work.beat(&hub).await;
    let mut read = 0;
    hub.sent_since(&mut read);
    let mut left = work.requests().to_vec();
    for pass in 1.. {
        hub.fail(&work.rules(&left, &fault));
        let (_, output) = hub.pass().await;
        let sent = hub.sent_since(&mut read);
        left.retain(|request| !sent.iter().any(|sent| sent.is_struck && sent.text.contains(request)));
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "{fault}: {output}");
        if left.is_empty() {
            break;
        }
        assert!(pass < 3, "{fault}: no second request has {left:?}: {output}");
    }
    hub.fail(&json!([]));
    let is_right = async || {
        let left = hub.whole_content().await;
        if left == *undisturbed { Ok(()) } else { Err(first_difference(&left, &undisturbed)) }
    };
    assert_eq!(hub.converges(is_right).await, Ok(()), "{fault}");
    assert_eq!(hub.rests().await, Ok(()), "{fault}");
    hub.stop().await
}

/// All of it would be megabytes.
fn first_difference(left: &[String], expected: &[String]) -> String {
    let differs = left.iter().zip(expected).find(|(left, expected)| left != expected);
    format!("{} lines instead of {}: {differs:?}", left.len(), expected.len())
}

async fn under_every_fault(work: Work) {
    let undisturbed = undisturbed(work).await;
    let stories = faults().into_iter().map(|fault| at_the_second(work, fault, undisturbed.clone()));
    let folders = side_by_side(stories).await;
    judge_together(folders.iter().map(TempDir::path));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_a_second_script_or_at_a_second_record_of_groups_loses_anything_or_leaves_a_trace() {
    under_every_fault(Work::LongNames).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_a_second_record_of_partitions_loses_anything_or_leaves_a_trace() {
    under_every_fault(Work::ManyPartitions).await;
}
