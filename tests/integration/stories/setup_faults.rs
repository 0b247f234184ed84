//! Every fault of `kusto-local --faults` at every request that the [other story](crate::every_fault) does not meet: those that set up a hub, that ask a new partition
//! its canary query, and that read a table for each partition. The hub has lost its tables, the record of its groups too, and a partition joins in the same pass.

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::kusto::KustoServer;

use crate::{
    every_fault,
    faulty_hub::{Hub, UNTIL_RIGHT, Unanswered, faults, side_by_side, spares},
    support::judge_together,
};

/// Parts of the texts of these requests. Of the tables for each partition one is missing, and one has another policy than it should.
pub(crate) const REQUESTS: [&str; 14] = [
    "'] cslschema",
    ".create-merge table ['AdxFederationObjects']",
    ".create-merge table ['AdxFederationMembers']",
    ".create-merge table ['Heartbeats",
    ".show databases | project",
    "NewBeats",
    "_endpoints",
    CANARY,
    ".alter-merge table ['AdxFederationObjects'] policy retention",
    ".alter-merge table ['AdxFederationMembers'] policy retention",
    ".alter-merge table ['Heartbeats",
    "policy caching hot",
    "policy streamingingestion enable",
    "policy encoding type",
];

/// Of the new partition.
pub(crate) const CANARY: &str = " | take 1 | count";

/// What the other story asks of one table for all.
const LOOKS: [&str; 4] = [
    "policy retention | project",
    "policy caching | project",
    "policy streamingingestion | project",
    "policy encoding | project",
];

/// Members from the beginning; nobody asks them anything.
const MEMBERS: [&str; 2] = ["http://127.0.0.1:1", "http://127.0.0.2:1"];
/// Is on the list, and has not beaten.
const TO_COME: &str = "http://127.0.0.4:1";

/// A hub with two members, and a partition that wants to join.
pub(crate) struct World {
    pub(crate) hub: Hub,
    new: String,
}

impl World {
    pub(crate) async fn start(new: String) -> Self {
        let hub = Hub::start_without_tables().await;
        let all = [MEMBERS[0], MEMBERS[1], TO_COME, &new].map(|endpoint| format!("'{endpoint}'")).join(", ");
        hub.document(&format!("heartbeatTables: PerPartition, canary: false, allowedPartitions: [{all}]"));
        let world = Self { hub, new };
        world.hub.pass().await;
        for member in MEMBERS {
            world.beat(member).await;
        }
        let (code, output) = world.hub.pass().await;
        assert_eq!(code, Some(0), "{output}");
        world.hub.document(&format!("heartbeatTables: PerPartition, canary: true, allowedPartitions: [{all}]"));
        world.beat(&world.new).await;
        world
    }

    async fn command(&self, database: &str, text: &str) {
        self.hub.server.command(database, text).await.expect("the hub does as this test says");
    }

    async fn beat(&self, endpoint: &str) {
        let row = format!(
            "2026-01-01T00:00:00Z,{endpoint},\"[{{\"\"database\"\":\"\"Logs\"\",\"\"tables\"\":[\"\"A\"\"]}}]\",{{}}\n"
        );
        self.command("FleetDiscovery", &format!(".ingest inline into table {} <|\n{row}", table_of(endpoint))).await;
    }

    /// Tables are lost, and whoever joined is new again.
    pub(crate) async fn begin_anew(&self) {
        for table in ["AdxFederationObjects", "AdxFederationMembers", &table_of(TO_COME)] {
            self.command("FleetDiscovery", &format!(".drop table {table} ifexists")).await;
        }
        let retention = format!(".alter-merge table {} policy retention softdelete = 1d", table_of(MEMBERS[0]));
        self.command("FleetDiscovery", &retention).await;
        let members = MEMBERS.map(|member| format!("cluster('{member}').database('Logs')")).join(", ");
        for database in ["FleetDiscovery", "Logs", "Metrics"] {
            self.command(database, &format!(".alter entity_group Logs_Partitions ({members})")).await;
        }
    }

    /// Who is in the groups, of which each database has one; and the function over them is there.
    pub(crate) async fn members(&self) -> Result<Vec<String>, String> {
        let content = self.hub.content().await;
        let groups: Vec<&String> = content.iter().filter(|line| line.contains("Logs_Partitions\"")).collect();
        let has_function = content.iter().any(|line| line.starts_with("Logs ") && line.contains("federated_A"));
        if groups.len() != 2 || !has_function || content.len() != 3 {
            return Err(format!("{content:#?}"));
        }
        let known = [MEMBERS[0], MEMBERS[1], TO_COME, &self.new];
        let of =
            |group: &str| known.into_iter().filter(|known| group.contains(&format!("'{known}'"))).collect::<Vec<_>>();
        // A fault at one database's script leaves its group as it was for a pass.
        let in_all = known.into_iter().filter(|known| groups.iter().all(|group| of(group).contains(known)));
        let is_told = |endpoint: &str| groups.iter().any(|group| of(group).contains(&endpoint));
        if is_told(TO_COME) {
            return Err(format!("it has not beaten: {content:#?}"));
        }
        Ok(in_all.map(str::to_owned).collect())
    }

    pub(crate) async fn has_kept_its_members(&self) -> Result<(), String> {
        let members = self.members().await?;
        if members.starts_with(&MEMBERS.map(str::to_owned)) { Ok(()) } else { Err(format!("{members:?} are left")) }
    }

    async fn is_complete(&self) -> Result<(), String> {
        let members = self.members().await?;
        let tables = self.hub.server.command("FleetDiscovery", ".show tables | count").await;
        let tables = tables.map_err(|error| error.to_string())?.column("Count").remove(0);
        let expected = [MEMBERS[0], MEMBERS[1], &self.new];
        if members == expected && tables == "6" { Ok(()) } else { Err(format!("{members:?}, {tables} tables")) }
    }

    /// All that agents leave when they begin anew without a fault.
    pub(crate) async fn undisturbed(&self) -> Vec<String> {
        self.begin_anew().await;
        assert_eq!(self.hub.converges(|| self.is_complete()).await, Ok(()));
        self.hub.whole_content().await
    }

    /// Whether everything is there, and nothing is left that would not be there without a fault.
    pub(crate) async fn is_right(&self, undisturbed: &[String]) -> Result<(), String> {
        self.is_complete().await?;
        let left = self.hub.whole_content().await;
        if left == undisturbed { Ok(()) } else { Err(format!("{left:#?} instead of {undisturbed:#?}")) }
    }
}

/// As an agent names it.
fn table_of(endpoint: &str) -> String {
    format!("Heartbeats_{}", endpoint.trim_start_matches("http://").replace('.', "_").replace(':', "___"))
}

/// One kind of fault at each of these requests.
async fn at_every_request(fault: Value, new: String) -> TempDir {
    let world = World::start(new).await;
    let undisturbed = world.undisturbed().await;
    for request in REQUESTS {
        world.begin_anew().await;
        let sent = world.hub.sent_with(request);
        world.hub.fail(&json!([{"text": request, "fault": fault}]));
        let (_, output) = world.hub.pass().await;
        world.hub.fail(&json!([]));
        assert!(world.hub.sent_with(request) > sent, "a pass does not send {request}: {output}");
        assert_eq!(world.has_kept_its_members().await, Ok(()), "{fault} at {request}: {output}");
        let has_joined = world.members().await.is_ok_and(|members| members.contains(&world.new));
        assert!(request != CANARY || spares(&fault) || !has_joined, "{fault} at {request} is no answer: {output}");
        let is_right = || world.is_right(&undisturbed);
        // A new one: whoever has failed its canary query is not asked again by the same agent for a minute.
        let mut agent = world.hub.agent();
        let settles = world.hub.settles(&agent, Timestamp::MIN, UNTIL_RIGHT, is_right).await;
        agent.stop().await;
        assert_eq!(settles, Ok(()), "{fault} at {request}");
        assert_eq!(world.hub.has_nothing_to_do().await, Ok(()), "after {fault} at {request}");
    }
    let known = [REQUESTS.as_slice(), &every_fault::REQUESTS, &LOOKS].concat();
    assert_eq!(world.hub.sent_without(&known), [""; 0], "no fault was made at these");
    world.hub.stop().await
}

/// A cluster that has what the heartbeats announce, as a new partition's canary query finds it.
pub(crate) async fn new_partition(folder: &TempDir) -> KustoServer {
    let new = KustoServer::start(0, &["Logs"], &folder.path().join("partition.jsonl"), &[]).await;
    new.command("Logs", ".create table A (a:long)").await.expect("the partition takes a table");
    new
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_request_while_it_sets_up_leaves_what_the_next_one_completes() {
    let partition = tempfile::tempdir().expect("a temporary folder can be made");
    let mut new = new_partition(&partition).await;
    let world = World::start(new.url.clone()).await;
    let undisturbed = world.undisturbed().await;
    world.begin_anew().await;
    let requests = {
        let before = world.hub.requests();
        world.hub.pass().await;
        world.hub.requests() - before
    };
    assert!(requests >= 20, "a pass that sets up a hub sends {requests} requests");
    let mut in_mid_pass = 0;
    for request in 0..requests {
        world.begin_anew().await;
        in_mid_pass += usize::from(world.hub.kill_an_agent_at(request, Unanswered::AllFrom).await);
        assert_eq!(world.has_kept_its_members().await, Ok(()), "killed at request {request}");
        let (mut code, mut output) = world.hub.pass().await;
        if (code, world.is_complete().await) != (Some(0), Ok(())) {
            (code, output) = world.hub.pass().await;
        }
        assert_eq!((code, world.is_complete().await), (Some(0), Ok(())), "killed at request {request}: {output}");
        assert_eq!(world.hub.whole_content().await, undisturbed, "killed at request {request}: {output}");
    }
    // What need not be asked again makes a pass shorter.
    assert!(in_mid_pass * 4 >= requests * 3, "of {requests} requests {in_mid_pass} were met");
    assert_eq!(world.hub.rests().await, Ok(()));
    new.process().stop().await;
    let folder = world.hub.stop().await;
    judge_together([&folder, &partition].into_iter().map(TempDir::path));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_while_a_hub_is_set_up_or_a_partition_joins_removes_anybody_or_leaves_a_trace() {
    let partition = tempfile::tempdir().expect("a temporary folder can be made");
    let mut new = new_partition(&partition).await;
    let stories = faults().into_iter().map(|fault| at_every_request(fault, new.url.clone()));
    let folders = side_by_side(stories).await;
    new.process().stop().await;
    judge_together(folders.iter().chain([&partition]).map(TempDir::path));
}

/// Which of a group's copies are ours is known by those that functions ask. A copy that fell behind, unread or unchanged, while its record was lost must not be a
/// person's from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_record_is_lost_stays_ours_whatever_else_fails_in_that_pass() {
    let partition = tempfile::tempdir().expect("a temporary folder can be made");
    let mut new = new_partition(&partition).await;
    let world = World::start(new.url.clone()).await;
    let at = |text: &str, skip: usize| json!({"text": text, "skip": skip, "count": 1, "fault": {"status": 400}});
    for one in 0..3 {
        let unrecorded = json!({"text": "into table ['AdxFederationObjects']", "fault": {"status": 400}});
        for rules in [
            json!([at(".show entity_groups", one)]),
            json!([at(".execute database script", one)]),
            json!([unrecorded, at(".execute database script", one)]),
        ] {
            world.begin_anew().await;
            world.hub.fail(&rules);
            let (code, output) = world.hub.pass().await;
            world.hub.fail(&json!([]));
            assert_ne!(code, Some(0), "nothing failed: {output}");
            assert_eq!(world.has_kept_its_members().await, Ok(()), "{rules}: {output}");
            assert_eq!(world.hub.converges(|| world.is_complete()).await, Ok(()), "{rules}");
        }
    }
    assert_eq!(world.hub.rests().await, Ok(()));
    new.process().stop().await;
    let folder = world.hub.stop().await;
    judge_together([&folder, &partition].into_iter().map(TempDir::path));
}
