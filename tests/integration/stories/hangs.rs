//! A hub that takes a request and never answers it: an agent gives it up after minutes, and believes nothing that it was not told. The agent runs in this process, where
//! its clock can be put forward over those minutes. I/O: as [`Hub`].

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use shared::{
    document::{hub_config, load_document},
    runtime::{Exit, World},
};
use tempfile::TempDir;
use tokio::time;

use crate::{
    every_fault,
    faulty_hub::{Hub, UNTIL_RIGHT},
    in_process::run_here,
    setup_faults,
    support::{SOON, judge_together},
};

/// Longer than any answer is waited for.
const BEYOND: Duration = Duration::from_secs(10 * 60);

/// Longer than a partition's answer to its canary query is waited for, and shorter than any other.
const BEYOND_CANARY: Duration = Duration::from_secs(16);

/// As long as this lives, the clock of this runtime stands.
struct Frozen;

impl Frozen {
    fn new() -> Self {
        time::pause();
        Self
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        time::resume();
    }
}

/// One pass while the hub never answers this request, and its agent waits for that long: how it ended, and where its agent tells.
async fn pass_without_answer(hub: &Hub, request: &str, waits: Duration) -> (Exit, World) {
    let document = load_document(&hub.document).expect("it was just written");
    let config = hub_config(&document.cluster).expect("it is a hub's");
    let world = World { once: true, ..World::new("agent-hub") };
    let taken = || hub.server.output().matches("a fault on purpose").count();
    let mut known = taken();
    // By the server's clock, which nobody puts forward.
    hub.fail(&json!([{"text": request, "fault": {"delay": 3_600_000}}]));
    let minutes = async {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            // What is sent side by side arrives meanwhile, and what may be answered is.
            time::sleep(Duration::from_millis(300)).await;
            let now = taken();
            if now > known {
                known = now;
                // The pass may end before the clock goes on.
                let _frozen = Frozen::new();
                time::advance(waits).await;
            }
        }
    };
    let exit = tokio::select! {
        exit = run_here(config, &world) => exit,
        () = minutes => unreachable!("the pass does not end without an answer to {request}: {:#}", world.admin.status()),
    };
    hub.fail(&json!([]));
    (exit, world)
}

#[tokio::test]
async fn a_request_of_a_pass_that_is_never_answered_is_given_up_and_nobody_is_removed() {
    let hub = Hub::start().await;
    let (_, undisturbed) = every_fault::undisturbed(&hub).await;
    hub.turn(false).await;
    hub.pass().await;
    for (round, request) in every_fault::REQUESTS.into_iter().enumerate() {
        let with = round % 2 == 0;
        hub.turn(with).await;
        let before = hub.content().await;
        let (exit, world) = pass_without_answer(&hub, request, BEYOND).await;
        let (status, metrics) = (world.admin.status(), world.metrics.text());
        assert!(status["lastPass"].to_string().contains("no full answer came within "), "{request}: {status:#}");
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "{request}: {status:#}");
        let holds = |sample: &str| metrics.lines().any(|line| line == sample);
        let is_incomplete = holds("adx_federation_guard_active{reason=\"incomplete_read\"} 1");
        let is_right = || every_fault::is_right(&hub, with, &undisturbed);
        let converges = if request == HEARTBEATS {
            assert!(exit == Exit::Held && is_incomplete, "{exit:?} {metrics}");
            assert_eq!(hub.content().await, before, "{status:#}");
            let mut agent = hub.agent();
            let settles = hub.settles(&agent, Timestamp::MIN, UNTIL_RIGHT, is_right).await;
            agent.stop().await;
            settles
        } else {
            assert_eq!((exit, is_incomplete), (Exit::Failed, false), "{request}: {status:#}");
            hub.converges(is_right).await
        };
        assert_eq!(converges, Ok(()), "{request}");
    }
    hub.ends_quietly().await;
}

const HEARTBEATS: &str = "NewBeats";

#[tokio::test]
async fn a_request_that_sets_up_a_hub_or_asks_a_partition_and_is_never_answered_removes_nobody_and_lets_nobody_in() {
    let partition = tempfile::tempdir().expect("a temporary folder can be made");
    let mut new = setup_faults::new_partition(&partition).await;
    let fleet = setup_faults::World::start(new.url.clone()).await;
    let undisturbed = fleet.undisturbed().await;
    for request in setup_faults::REQUESTS {
        fleet.begin_anew().await;
        let is_canary = request == setup_faults::CANARY;
        let (waits, late) = if is_canary {
            (BEYOND_CANARY, "its canary query failed: no answer within 15s")
        } else {
            (BEYOND, "no full answer came within ")
        };
        let (exit, world) = pass_without_answer(&fleet.hub, request, waits).await;
        let status = world.admin.status();
        assert!(status.to_string().contains(late), "{request}: {exit:?} {status:#}");
        assert_eq!(fleet.has_kept_its_members().await, Ok(()), "{request}: {status:#}");
        let has_joined = fleet.members().await.is_ok_and(|members| members.contains(&new.url));
        assert!(!(is_canary && has_joined), "{status:#}");
        assert_eq!(fleet.hub.converges(|| fleet.is_right(&undisturbed)).await, Ok(()), "{request}");
    }
    assert_eq!(fleet.hub.rests().await, Ok(()));
    new.process().stop().await;
    let folder = fleet.hub.stop().await;
    judge_together([&folder, &partition].into_iter().map(TempDir::path));
}
