//! Databases that a partition's heartbeats list no longer, as when its agent loses its role on one: the partition stays in their groups and functions for one time to live, and for as long as many have
//! lost the same. Real agents over one local server, into which the story writes the fleet's beats, and whose clock it sets.

use tests::process::Process;

use crate::{
    admin::{admin_url, get, partition_of},
    rows::RowFleet,
    support::until_passes_over,
};

/// A fleet whose heartbeats are looked at now and then.
struct Looks {
    fleet: RowFleet,
    /// One that goes on; or else each look is another process.
    agent: Option<Process>,
}

const BOTH: (&[&str], &[&str]) = (&["A"], &["M"]);
const ONLY_LOGS: (&[&str], &[&str]) = (&["A"], &[]);

impl Looks {
    /// Four partitions that have both databases, and the fourth a table of its own.
    async fn start(tables: &str, is_one_process: bool) -> Self {
        let fields = format!("heartbeatTTL: 1h, heartbeatInterval: 20m, {tables}");
        let fleet = RowFleet::start("200ms", &fields).await;
        fleet.hub.pass().await;
        let agent = is_one_process.then(|| fleet.hub.agent());
        let mut looks = Self { fleet, agent };
        for host in 1..=3 {
            looks.lists(host, BOTH);
        }
        looks.lists(4, (&["A"], &["M", "Own"]));
        looks.look(0).await;
        looks
    }

    fn lists(&mut self, host: usize, (logs, metrics): (&[&'static str], &[&'static str])) {
        self.fleet.beating.insert(host, (logs.to_vec(), metrics.to_vec()));
    }

    /// All beat after so many minutes, and what is left of it a pass later, beside what that told.
    async fn look(&mut self, minutes: i64) -> (Vec<String>, String) {
        self.fleet.hub.server.set_clock(minutes);
        self.fleet.beat().await;
        let output = match &self.agent {
            Some(agent) => {
                let printed = agent.output().len();
                until_passes_over(&self.fleet.hub.server, 3).await;
                agent.output_after(printed)
            }
            None => self.fleet.hub.pass().await.1,
        };
        (self.fleet.hub.content().await, output)
    }

    async fn status(&self, columns: &str) -> Vec<Vec<String>> {
        let query = format!("federation_status() | {columns}");
        self.fleet.hub.server.query("Metrics", &query).await.expect("the hub answers").text_rows()
    }

    async fn end(self) {
        match self.agent {
            Some(agent) => self.fleet.end(agent).await,
            None => self.fleet.hub.end().await,
        }
    }
}

/// Whether the group of the databases that it lists no longer has the fourth partition.
fn has_metrics_of_the_fourth(content: &[String]) -> bool {
    let mut groups = content.iter().filter(|line| line.contains("\"Metrics_Partitions\""));
    groups.any(|line| line.contains("127.0.0.4:1'"))
}

async fn one_partition_lists_less(tables: &str, is_one_process: bool) {
    let mut looks = Looks::start(tables, is_one_process).await;
    let (before, output) = looks.look(5).await;
    assert!(has_metrics_of_the_fourth(&before), "{output}");
    let own = |content: &[String]| content.iter().any(|line| line.contains("federated_Own"));
    assert!(own(&before), "{before:#?}");

    // A role that is lost for a while takes nothing away, and is told wherever people look.
    looks.lists(4, ONLY_LOGS);
    for minutes in [10, 25, 45, 65] {
        let (content, output) = looks.look(minutes).await;
        assert_eq!(content, before, "after {minutes} min: {output}");
        let told = looks.status("where Partition == 'http://127.0.0.4:1' | project State, Reason").await;
        let reason = "its heartbeats list 'Metrics' no longer, where its agent may have lost its role";
        assert!(told.len() == 1 && told[0][0] == "live" && told[0][1].starts_with(reason), "{told:#?}: {output}");
        if let Some(agent) = &looks.agent {
            let partition = partition_of(&get(&admin_url(agent).await, "/status").await.1, "http://127.0.0.4:1");
            let problems = partition["problems"].to_string();
            assert!(problems.contains(reason) && partition["databases"]["Metrics"].is_null(), "{partition:#}");
        } else {
            assert!(output.contains(reason), "{output}");
        }
    }
    looks.lists(4, (&["A"], &["M", "Own"]));
    assert_eq!(looks.look(68).await.0, before);
    assert_eq!(looks.status("where isnotempty(Reason) | project Partition, Reason").await, [[""; 2]; 0]);

    // One that is gone for good leaves that database one time to live later, and no other.
    looks.lists(4, ONLY_LOGS);
    for minutes in [75, 95, 115, 130] {
        let (content, output) = looks.look(minutes).await;
        assert_eq!(content, before, "after {minutes} min: {output}");
    }
    let (content, output) = looks.look(136).await;
    assert!(!has_metrics_of_the_fourth(&content) && !own(&content), "{output}: {content:#?}");
    let group_of_logs = |line: &&String| line.contains("\"Logs_Partitions\"") && line.contains("127.0.0.4:1'");
    assert_eq!(content.iter().filter(group_of_logs).count(), 2, "{content:#?}");
    let count = |content: &[String]| content.iter().filter(|line| line.contains("127.0.0.3:1'")).count();
    assert_eq!(count(&content), count(&before));
    assert_eq!(looks.look(137).await.0, content);
    assert_eq!(looks.status("where isnotempty(Reason) | project Partition, Reason").await, [[""; 2]; 0]);
    looks.lists(4, (&["A"], &["M", "Own"]));
    assert_eq!(looks.look(140).await.0, before, "it is let in again at once");
    looks.end().await;
}

/// With what each kind of heartbeat tables needs in the document.
fn kinds_of_tables() -> [String; 2] {
    let all: Vec<String> = (1..=4).map(|host| format!("'http://127.0.0.{host}:1'")).collect();
    let own = format!("heartbeatTables: PerPartition, allowedPartitions: [{}]", all.join(", "));
    ["heartbeatTables: Shared".to_owned(), own]
}

#[tokio::test]
async fn a_partition_that_lists_a_database_no_longer_leaves_its_groups_and_functions_one_time_to_live_later() {
    let [shared, own] = kinds_of_tables();
    tokio::join!(
        one_partition_lists_less(&shared, true),
        one_partition_lists_less(&shared, false),
        one_partition_lists_less(&own, true),
        one_partition_lists_less(&own, false),
    );
}

/// The hash of the plan that is held, as a pass logs it.
fn held_plan(output: &str) -> String {
    let mut lines = output.lines().filter(|line| line.contains("removals are held"));
    let plan = lines.next().and_then(|line| line.split("plan=").nth(1)).expect("the held plan is logged");
    plan.chars().filter(|c| *c != '"').take(12).collect()
}

#[tokio::test]
async fn a_database_that_many_list_no_longer_is_held_until_it_is_listed_or_a_person_acknowledges_that() {
    let fields = "heartbeatTables: Shared";
    let mut looks = Looks::start(fields, false).await;
    let before = looks.look(5).await.0;
    let loses = |looks: &mut Looks| (2..=4).for_each(|host| looks.lists(host, ONLY_LOGS));
    let has = |looks: &mut Looks| {
        (2..=3).for_each(|host| looks.lists(host, BOTH));
        looks.lists(4, (&["A"], &["M", "Own"]));
    };
    loses(&mut looks);
    for minutes in [10, 30, 50, 65, 75, 95] {
        let (content, output) = looks.look(minutes).await;
        assert_eq!(content, before, "after {minutes} min: {output}");
        let said = "3 of 4 partitions that had the database 'Metrics' are not seen to list it any more: they stay";
        assert_eq!(output.contains(said), minutes >= 75, "after {minutes} min: {output}");
        let guards: Vec<String> = looks.status("project Guards").await.concat();
        let guard = if minutes >= 75 { "unlisted_databases" } else { "" };
        assert_eq!(guards, [guard; 4], "after {minutes} min");
    }
    has(&mut looks);
    let (content, output) = looks.look(97).await;
    assert_eq!(content, before);
    assert!(!output.contains("are held"), "{output}");

    loses(&mut looks);
    for minutes in [100, 120, 140, 155] {
        assert_eq!(looks.look(minutes).await.0, before);
    }
    let held = looks.look(165).await.1;
    let acknowledged =
        format!("{fields}, heartbeatTTL: 1h, heartbeatInterval: 20m, acknowledgedPlan: {}", held_plan(&held));
    looks.fleet.hub.document(&acknowledged);
    let (content, output) = looks.look(170).await;
    assert!(output.contains("a guard is set aside"), "{output}");
    let groups: Vec<_> = content.iter().filter(|line| line.contains("\"Metrics_Partitions\"")).collect();
    let lists = |group: &String, host: usize| group.contains(&format!("127.0.0.{host}:1'"));
    assert_eq!(groups.len(), 2);
    for group in groups {
        assert_eq!([1, 2, 3, 4].map(|host| lists(group, host)), [true, false, false, false], "{group}");
    }
    let (_, output) = looks.look(171).await;
    assert!(!output.contains("hub changed"), "{output}");
    looks.end().await;
}

/// What is kept is asked like any other, and does not stop others from joining.
#[tokio::test]
async fn who_joins_while_another_lists_less_is_federated_at_once() {
    let mut looks = Looks::start("heartbeatTables: Shared", true).await;
    looks.look(5).await;
    looks.lists(4, ONLY_LOGS);
    looks.look(10).await;
    looks.lists(5, (&["A"], &["M", "New"]));
    let (content, output) = looks.look(15).await;
    let groups: Vec<_> = content.iter().filter(|line| line.contains("\"Metrics_Partitions\"")).collect();
    assert_eq!(groups.len(), 2, "{output}");
    assert!(groups.iter().all(|group| group.contains("127.0.0.5:1'") && group.contains("127.0.0.4:1'")), "{groups:#?}");
    for function in ["federated_New", "federated_Own", "federated_M"] {
        assert!(content.iter().any(|line| line.contains(function)), "{function}: {content:#?}");
    }
    looks.end().await;
}
