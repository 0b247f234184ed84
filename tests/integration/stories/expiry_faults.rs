//! Every fault of `kusto-local --faults` at a pass in which a partition leaves that fell silent, and SIGKILL at each of its requests: nobody leaves who beats, and two passes later the silent one
//! has left, or one time to live later where the heartbeats could not be read.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    every_fault::MEMBERS,
    faulty_hub::{Hub, UNTIL_RIGHT, Unanswered, accuses_nobody, faults, side_by_side, spares},
    support::judge_together,
};

/// Parts of the texts of requests on which it hangs who leaves, and what becomes of it.
const REQUESTS: [&str; 6] = [
    HEARTBEATS,
    "SilentSince",
    ".show entity_groups",
    MEMBERS,
    "into table ['AdxFederationMembers']",
    ".execute database script",
];

/// Part of the text that asks for the heartbeats.
const HEARTBEATS: &str = "NewBeats";

/// From the beginning of one silence to that of the next, in minutes: there is time for a time to live, for another one, and for all to come back.
const ROUND: i64 = 240;

/// A hub of three partitions, the third of which falls silent from round to round.
struct World {
    hub: Hub,
    round: i64,
}

impl World {
    async fn start() -> Self {
        let hub = Hub::start().await;
        let membership = "membership: {returnAfterBeats: 1, flappingReturns: 16}";
        hub.document(&format!("heartbeatTTL: 1h, heartbeatInterval: 20m, {membership}, entityGroups: [{{by: geo}}]"));
        Self { hub, round: 0 }
    }

    /// Some beat so many minutes after the round began.
    async fn beat(&self, minutes: i64, hosts: &[&str]) {
        self.hub.server.set_clock(self.round * ROUND + minutes);
        self.hub.beat_of(hosts, &json!([{"database": "Logs", "tables": ["A"]}])).await;
    }

    /// All are federated; then the third is silent for so long that the next pass lets it go.
    async fn begin(&mut self) {
        self.round += 1;
        for minutes in [0, 15, 30] {
            self.beat(minutes, &["1", "2", "3"]).await;
            let (code, output) = self.hub.pass().await;
            assert_eq!(code, Some(0), "{output}");
        }
        assert_eq!(self.lists_the_third().await, [true; 4], "round {}", self.round);
        for minutes in [45, 60] {
            self.beat(minutes, &["1", "2"]).await;
        }
        let (code, output) = self.hub.pass().await;
        assert_eq!((code, self.lists_the_third().await), (Some(0), vec![true; 4]), "{output}");
        for minutes in [75, 90, 105, 120] {
            self.beat(minutes, &["1", "2"]).await;
        }
    }

    /// Whether each of the groups has it.
    async fn lists_the_third(&self) -> Vec<bool> {
        let content = self.hub.content().await;
        content.iter().filter(|line| line.contains("_Partitions")).map(|line| line.contains("127.0.0.3")).collect()
    }

    async fn has_let_it_go(&self) -> Result<(), String> {
        self.hub.has_kept_the_live().await?;
        let lists = self.lists_the_third().await;
        if lists == [false; 4] { Ok(()) } else { Err(format!("{lists:?}")) }
    }
}

/// One kind of fault at each of these requests.
async fn at_every_request(fault: Value) -> TempDir {
    let mut world = World::start().await;
    for request in REQUESTS {
        world.begin().await;
        let sent = world.hub.sent_with(request);
        world.hub.fail(&json!([{"text": request, "fault": fault}]));
        let (_, output) = world.hub.pass().await;
        world.hub.fail(&json!([]));
        assert!(world.hub.sent_with(request) > sent, "the pass does not send {request}: {output}");
        assert_eq!(world.hub.has_kept_the_live().await, Ok(()), "{fault} at {request}: {output}");
        assert_eq!(accuses_nobody(&output), Ok(()), "{fault} at {request}");
        // Whoever has seen nothing believes no silence that began before.
        if request == HEARTBEATS && !spares(&fault) {
            for minutes in [120, 135, 150, 165] {
                world.beat(minutes, &["1", "2"]).await;
                let (_, output) = world.hub.pass().await;
                assert_eq!(world.lists_the_third().await, [true; 4], "{fault}, after {minutes} min: {output}");
            }
            world.beat(182, &["1", "2"]).await;
        }
        assert_eq!(world.hub.converges(|| world.has_let_it_go()).await, Ok(()), "{fault} at {request}");
    }
    assert_eq!(world.hub.rests().await, Ok(()), "{fault}");
    world.hub.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_while_a_silent_partition_leaves_takes_another_away_or_keeps_that_one() {
    let folders = side_by_side(faults().into_iter().map(at_every_request)).await;
    judge_together(folders.iter().map(TempDir::path));
}

#[tokio::test]
async fn an_agent_that_is_killed_while_a_silent_partition_leaves_takes_no_other_away() {
    let mut world = World::start().await;
    world.begin().await;
    let before = world.hub.requests();
    world.hub.pass().await;
    let requests = world.hub.requests() - before;
    assert_eq!(world.has_let_it_go().await, Ok(()));
    let mut in_mid_pass = 0;
    for request in 0..requests {
        world.begin().await;
        in_mid_pass += usize::from(world.hub.kill_an_agent_at(request, Unanswered::AllFrom).await);
        assert_eq!(world.hub.has_kept_the_live().await, Ok(()), "killed at request {request}");
        let mut left = Vec::new();
        for _ in 0..UNTIL_RIGHT {
            let (code, output) = world.hub.pass().await;
            assert_eq!((code, accuses_nobody(&output)), (Some(0), Ok(())), "killed at request {request}: {output}");
            left.push(world.has_let_it_go().await);
        }
        assert_eq!(left.pop(), Some(Ok(())), "killed at request {request}");
    }
    assert!(in_mid_pass * 4 >= requests * 3, "of {requests} requests {in_mid_pass} were met");
    world.hub.ends_quietly().await;
}
