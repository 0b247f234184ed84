//! A person's table under the name of one of ours in the heartbeat database: it keeps its columns, its policies and its rows; it is told of, and so is what cannot be done
//! without ours.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time;

use crate::{
    admin::{admin_url, until},
    faulty_hub::Hub,
    rows::RowFleet,
};

/// A table that a person has made.
#[derive(Clone, Copy)]
struct Theirs {
    name: &'static str,
    columns: &'static str,
    row: &'static str,
}

const RECORD: Theirs = Theirs { name: "AdxFederationObjects", columns: "Order:long,Amount:decimal", row: "1,2.5" };

/// It has what `federation_status()` asks for, and is none of ours.
const MEMORY: Theirs = Theirs {
    name: "AdxFederationMembers",
    columns: "Name:string,Kind:string,State:string,Since:datetime,Reason:string",
    row: "a,b,c,2026-01-01T00:00:00Z,d",
};

impl Theirs {
    async fn make(self, hub: &Hub) {
        let Self { name, columns, row } = self;
        for text in [
            format!(".create table {name} ({columns})"),
            format!(".alter-merge table {name} policy retention softdelete = 30d"),
            format!(".ingest inline into table {name} <|\n{row}\n"),
        ] {
            hub.server.command("FleetDiscovery", &text).await.expect("anybody may");
        }
    }

    async fn take_away(self, hub: &Hub) {
        let text = format!(".drop table {}", self.name);
        hub.server.command("FleetDiscovery", &text).await.expect("anybody may");
    }

    /// Its columns, how long its rows are kept, and its rows.
    async fn seen(self, hub: &Hub) -> Vec<Vec<Value>> {
        let name = self.name;
        let mut seen = Vec::new();
        for show in ["cslschema | project Schema", "policy retention | project Policy"] {
            let shown = hub.server.command("FleetDiscovery", &format!(".show table {name} {show}")).await;
            seen.extend(shown.expect("the hub shows it").rows);
        }
        seen.extend(hub.server.query("FleetDiscovery", name).await.expect("the hub answers").rows);
        assert_eq!((seen.len(), &seen[0]), (3, &vec![json!(self.columns)]), "{seen:?}");
        seen
    }

    fn told(self) -> String {
        let name = self.name;
        format!(
            "the table '{name}' in 'FleetDiscovery' was not made by us and is left alone: rename it to have ours made"
        )
    }
}

/// Two databases of the hub have a group of all three partitions; and there are functions of these tables, and nothing else.
async fn has(hub: &Hub, tables: &[&str]) -> Result<(), String> {
    let content = hub.content().await;
    let lists_all = |line: &&String| (1..=3).all(|host| line.contains(&format!("http://127.0.0.{host}:1'")));
    let groups = content.iter().filter(|line| line.contains("Logs_Partitions\"")).filter(lists_all).count();
    let is_made = |table: &&str| content.iter().any(|line| line.contains(&format!("federated_{table}\"")));
    if groups == 2 && tables.iter().all(is_made) && content.len() == 2 + tables.len() {
        Ok(())
    } else {
        Err(format!("{content:#?}"))
    }
}

/// Whether a sample is there and not zero.
fn is_counted(metrics: &str, sample: &str) -> bool {
    let begin = format!("adx_federation_{sample} ");
    metrics.lines().any(|line| line.strip_prefix(&begin).is_some_and(|count| count != "0"))
}

/// Whether so many groups list the fourth partition.
async fn list_the_fourth(hub: &Hub, groups: usize) -> Result<(), String> {
    let content = hub.content().await;
    let lists_it = |line: &&String| line.contains("Logs_Partitions\"") && line.contains("http://127.0.0.4:1'");
    if content.iter().filter(lists_it).count() == groups { Ok(()) } else { Err(format!("{content:#?}")) }
}

#[tokio::test]
async fn a_persons_table_in_the_place_of_our_record_is_left_alone_and_so_is_the_hub_until_ours_is_there() {
    let hub = Hub::start().await;
    hub.document("canary: false");
    hub.beat(&[("Logs", &["A"])]).await;
    let (code, output) = hub.pass().await;
    assert_eq!((code, has(&hub, &["A"]).await), (Some(0), Ok(())), "{output}");
    RECORD.take_away(&hub).await;
    RECORD.make(&hub).await;
    let (theirs, told) = (RECORD.seen(&hub).await, RECORD.told());
    // There is something to do.
    hub.beat(&[("Logs", &["A", "B"])]).await;
    let written = hub.written().len();
    for fields in ["canary: false", "mode: Plan"] {
        hub.document(fields);
        let (code, output) = hub.pass().await;
        assert!(code == Some(1) && output.contains(&told), "{fields}: {code:?}: {output}");
    }
    hub.document("canary: false");
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    let is_told = |_: u16, status: &str| {
        let status: Value = serde_json::from_str(status).expect("status is JSON");
        let failure = status["lastPass"]["failure"].as_str().unwrap_or_default();
        status["lastPass"]["outcome"] == "failed" && failure.starts_with(&told)
    };
    until(&url, "/status", is_told).await;
    until(&url, "/metrics", |_, metrics| is_counted(metrics, "passes_total{outcome=\"failed\"}")).await;
    agent.stop().await;
    assert_eq!(hub.written().split_off(written), [""; 0]);
    assert_eq!((RECORD.seen(&hub).await, has(&hub, &["A"]).await), (theirs, Ok(())));
    // As when it has another name.
    RECORD.take_away(&hub).await;
    let (_, output) = hub.pass().await;
    let gone = "the table 'AdxFederationObjects' in 'FleetDiscovery' was removed by somebody and is made again";
    assert!(output.contains(gone) && output.matches("by somebody").count() == 1, "{output}");
    assert_eq!(hub.converges(|| has(&hub, &["A", "B"])).await, Ok(()));
    let made =
        "AdxFederationObjects | where State == 'Made' | summarize Groups = dcount(Name), Databases = dcount(Database)";
    let made = hub.server.query("FleetDiscovery", made).await.expect("our record is there");
    assert_eq!(made.rows, [[json!(1), json!(3)]]);
    hub.ends_quietly().await;
}

#[tokio::test]
async fn a_persons_table_in_the_place_of_our_memory_is_left_alone_and_partitions_join_all_the_same() {
    let hub = Hub::start_without_tables().await;
    hub.document("canary: false");
    MEMORY.make(&hub).await;
    let (theirs, told) = (MEMORY.seen(&hub).await, MEMORY.told());
    let (code, output) = hub.pass().await;
    assert!(code == Some(3) && output.contains(&told), "nobody has beaten yet: {code:?}: {output}");
    hub.beat(&[("Logs", &["A"])]).await;
    let (code, output) = hub.pass().await;
    assert!(code == Some(1) && output.contains(&told), "{code:?}: {output}");
    assert_eq!(has(&hub, &["A"]).await, Ok(()), "{output}");
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    let is_told = |_: u16, status: &str| {
        let status: Value = serde_json::from_str(status).expect("status is JSON");
        let pass = &status["lastPass"];
        let problems = pass["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
        pass["outcome"] == "partial" && problems.filter(|problem| problem.starts_with(&told)).count() == 1
    };
    until(&url, "/status", is_told).await;
    for sample in
        ["passes_total{outcome=\"partial\"}", "changes_total{object=\"table\",action=\"alter\",outcome=\"failed\"}"]
    {
        until(&url, "/metrics", |_, metrics| is_counted(metrics, sample)).await;
    }
    agent.stop().await;
    hub.document("mode: Plan");
    for how in ["--once", "--plan"] {
        let (code, output) = hub.run(&[how]).await;
        assert!(code == Some(1) && output.contains(&told), "{how}: {code:?}: {output}");
    }
    // Functions ask it, once it is ours.
    let is_of_it = |text: &String| text.contains(MEMORY.name) && !text.starts_with(".execute database script");
    assert_eq!(hub.written().into_iter().filter(is_of_it).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(MEMORY.seen(&hub).await, theirs);
    // As when it has another name.
    MEMORY.take_away(&hub).await;
    hub.document("canary: false");
    let is_remembered = async || {
        let live = "AdxFederationMembers | where Kind == 'Partition' and State == 'live' | summarize dcount(Name)";
        let live = hub.server.query("FleetDiscovery", live).await.map_err(|error| error.to_string())?;
        if live.rows == [[json!(3)]] { has(&hub, &["A"]).await } else { Err(format!("{live:?}")) }
    };
    assert_eq!(hub.converges(is_remembered).await, Ok(()));
    hub.ends_quietly().await;
}

#[tokio::test]
async fn nobody_leaves_because_of_silence_while_a_persons_table_is_in_the_place_of_our_memory() {
    let time_to_live = Duration::from_secs(10);
    let fields = "heartbeatTTL: 10s, heartbeatInterval: 2s, membership: {suspectAfterMissedBeats: 3, returnAfterBeats: 1, flappingReturns: 16}";
    let mut fleet = RowFleet::start("500ms", fields).await;
    MEMORY.make(&fleet.hub).await;
    let theirs = MEMORY.seen(&fleet.hub).await;
    let agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    // Of heartbeats, and our record of groups.
    fleet.until(&url, &["changes_total{object=\"table\",action=\"create\",outcome=\"applied\"} 2"]).await;
    for host in 1..=4 {
        fleet.beating.insert(host, (vec!["A"], vec![]));
    }
    fleet.until_so(async |hub: &Hub| list_the_fourth(hub, 2).await).await;
    fleet.beating.remove(&4);
    let kept =
        ["partitions{state=\"expired\"} 1", "partitions{state=\"live\"} 3", "guard_active{reason=\"startup_grace\"} 1"];
    fleet.until(&url, &kept).await;
    // An agent with a memory believes it after half of that.
    let expired = Instant::now();
    while expired.elapsed() < time_to_live * 2 {
        fleet.until(&url, &kept).await;
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(list_the_fourth(&fleet.hub, 2).await, Ok(()));
    assert_eq!(MEMORY.seen(&fleet.hub).await, theirs);
    // As when it has another name.
    MEMORY.take_away(&fleet.hub).await;
    fleet.until_so(async |hub: &Hub| list_the_fourth(hub, 0).await).await;
    fleet.until(&url, &["guard_active{reason=\"startup_grace\"} 0", "partitions{state=\"live\"} 3"]).await;
    fleet.end(agent).await;
}
