//! Every fault of `kusto-local --faults` at every request that a hub agent's pass makes: nobody is removed because something was not seen, two passes after the
//! fault all is as it should be, and then nothing is written any more.

use std::{collections::BTreeSet, iter, time::Duration};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::process::Process;
use tokio::time;

use crate::{
    faulty_hub::{Hub, Sent, UNTIL_RIGHT, Unanswered, accuses_nobody, faults, side_by_side, spares},
    setup_faults,
    support::{SOON, judge_together},
};

/// Parts of the texts of all requests that a pass over a hub that is set up makes; that all are met is part of the test, and that there are no others.
pub(crate) const REQUESTS: [&str; 21] = [
    "['AdxFederationObjects'] policy retention",
    "['AdxFederationMembers'] policy retention",
    "['Heartbeats'] policy retention",
    "['Heartbeats'] policy caching",
    "['Heartbeats'] policy streamingingestion",
    "['Heartbeats'].Schema policy encoding",
    "NewBeats",
    "_endpoints",
    ".show databases | project",
    ".show databases entities",
    ".show entity_groups",
    "IsIntended",
    "Kind in ('Group'",
    "SilentSince",
    "into table ['AdxFederationMembers']",
    "into table ['AdxFederationObjects']",
    ".execute database script",
    CLEAR,
    "['AdxFederationMembers'] cslschema",
    "['AdxFederationObjects'] cslschema",
    MEMBERS,
];

/// Those that tell what a turn brings or takes away, and not only that there is one: they fail at both turns.
const BOTH_TURNS: [&str; 3] =
    ["into table ['AdxFederationMembers']", "into table ['AdxFederationObjects']", ".execute database script"];

/// What has to have failed of what those say.
const STRUCK: [&str; 4] = [",Intended,", ",Gone,", ".create entity_group", ".drop entity_group"];

/// Of the groups whose list the same pass has read: a rule for that list would keep this from being sent.
pub(crate) const MEMBERS: &str = "Entities = take_any(Entities)";

pub(crate) const CLEAR: &str = ".clear cache remote-schema";

/// Whether all of a turn is there, and nothing is left that would not be there without a fault.
pub(crate) async fn is_right(hub: &Hub, with: bool, undisturbed: &[Vec<String>; 2]) -> Result<(), String> {
    hub.is_complete(with).await?;
    let (left, expected) = (hub.whole_content().await, &undisturbed[usize::from(with)]);
    if left == *expected { Ok(()) } else { Err(format!("{left:#?} instead of {expected:#?}")) }
}

fn passes(agent: &Process) -> usize {
    agent.output().matches("pass ended outcome=").count()
}

/// One kind of fault at every request of a pass that has work to do: of an agent that goes on through the fault and after it, or of one that runs once and is followed by another.
async fn at_every_request(kind: usize, fault: Value) -> (TempDir, Vec<&'static str>) {
    let hub = Hub::start().await;
    let (_, undisturbed) = undisturbed(&hub).await;
    hub.turn(false).await;
    hub.pass().await;
    hub.is_complete(false).await.expect("an undisturbed pass makes everything");
    let mut met = Vec::new();
    let rounds = REQUESTS
        .into_iter()
        .flat_map(|request| iter::repeat_n(request, 1 + usize::from(BOTH_TURNS.contains(&request))));
    for (round, request) in rounds.enumerate() {
        let with = round % 2 == 0;
        hub.turn(with).await;
        let mut read = 0;
        hub.sent_since(&mut read);
        let sent = hub.sent_with(request);
        hub.fail(&json!([{"text": request, "fault": fault}]));
        let agent = (kind + round / 2).is_multiple_of(2).then(|| hub.agent());
        let output = match &agent {
            Some(agent) => {
                until(agent, "two passes end under the fault", || passes(agent) >= 2).await;
                agent.output()
            }
            None => hub.pass().await.1,
        };
        if hub.sent_with(request) > sent {
            met.push(request);
        }
        hub.fail(&json!([]));
        let ended = Timestamp::now();
        if request == "NewBeats" && !spares(&fault) {
            let (all, held) = (output.matches("pass ended outcome="), output.matches("pass ended outcome=held"));
            assert_eq!(held.count(), all.count(), "{fault}: {output}");
        }
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "{fault} at {request}: {output}");
        assert_eq!(accuses_nobody(&output), Ok(()), "{fault} at {request}");
        let is_right = || is_right(&hub, with, &undisturbed);
        // One more may be under way.
        let more = usize::from(agent.is_some());
        let mut agent = agent.unwrap_or_else(|| hub.agent());
        let settles = hub.settles(&agent, ended, UNTIL_RIGHT + more, is_right).await;
        agent.stop().await;
        assert_eq!(settles, Ok(()), "{fault} at {request}");
        // Nor was anything taken away and given back, between two looks at the hub.
        let removing: Vec<Sent> = hub.sent_since(&mut read).into_iter().filter(Sent::takes_from_the_live).collect();
        assert!(removing.is_empty(), "{fault} at {request}: {removing:#?}");
        assert_eq!(hub.has_nothing_to_do().await, Ok(()), "after {fault} at {request}");
    }
    for part in STRUCK {
        assert!(hub.has_struck(part), "{fault}: nothing failed that says {part}");
    }
    // What partitions have from now on is more than what they had.
    hub.turn(false).await;
    hub.pass().await;
    at_clearing(&hub, &fault).await;
    let known = [REQUESTS.as_slice(), &setup_faults::REQUESTS].concat();
    assert_eq!(hub.sent_without(&known), [""; 0], "no fault was made at these");
    let folder = hub.stop().await;
    (folder, met)
}

/// An agent that goes on tells the hub of columns that changed, in the next pass if not in this one; then it is quiet.
async fn at_clearing(hub: &Hub, fault: &Value) {
    let mut agent = hub.agent();
    until(&agent, "the agent has read the schemas", || agent.output().contains("pass ended outcome=")).await;
    hub.fail(&json!([{"text": CLEAR, "fault": fault}]));
    let clears = |from: usize| -> BTreeSet<String> {
        hub.written().split_off(from).into_iter().filter(|text| text.starts_with(CLEAR)).collect()
    };
    let before = hub.written().len();
    hub.beat(&[("Logs", &["A", "C"]), ("Metrics", &["N"])]).await;
    until(&agent, "the hub is told", || !clears(before).is_empty()).await;
    let ended = passes(&agent);
    until(&agent, "that pass ends", || passes(&agent) > ended).await;
    let (told, failures) = (clears(before), || agent.output().matches("failed to clear a remote schema").count());
    // What is told just before the fault ends may fail, and is then told once more.
    let again = if failures() > 0 { hub.written().len() } else { before };
    hub.fail(&json!([]));
    assert_eq!(hub.has_kept_the_live().await, Ok(()), "{fault} at {CLEAR}: {}", agent.output());
    until(&agent, "the hub is told of all", || told.is_subset(&clears(again))).await;
    let ended = passes(&agent);
    until(&agent, "the pass that told it ends", || passes(&agent) > ended).await;
    let (failed, ended) = (failures(), passes(&agent));
    until(&agent, "one more pass ends", || passes(&agent) > ended).await;
    assert_eq!(failures(), failed, "without the fault: {}", agent.output());
    let content = hub.content().await;
    assert!(content.iter().any(|line| line.contains("federated_C")), "{content:?}");
    assert_eq!(hub.stays_quiet(&agent).await, Ok(()), "after {fault} at {CLEAR}");
    assert_eq!(hub.content().await, content);
    agent.stop().await;
}

async fn until(agent: &Process, what: &str, is_so: impl Fn() -> bool) {
    let deadline = time::Instant::now() + SOON * 3;
    while !is_so() {
        assert!(time::Instant::now() < deadline, "{what}: not within three minutes: {}", agent.output());
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_any_request_of_a_pass_removes_anything_or_leaves_a_trace() {
    let kinds = faults().into_iter().enumerate();
    let done = side_by_side(kinds.map(|(kind, fault)| at_every_request(kind, fault))).await;
    for request in REQUESTS {
        let is_met = |(_, met): &(TempDir, Vec<&str>)| met.contains(&request);
        assert!(done.iter().all(is_met), "a pass does not send {request}");
    }
    judge_together(done.iter().map(|(folder, _)| folder.path()));
}

/// How many requests a pass has that has something to do, and all that such passes leave: without more, and with it.
pub(crate) async fn undisturbed(hub: &Hub) -> ([usize; 2], [Vec<String>; 2]) {
    hub.turn(true).await;
    hub.pass().await;
    let (mut requests, mut left) = ([0; 2], [const { Vec::new() }; 2]);
    for with in [false, true] {
        let before = hub.requests();
        hub.turn(with).await;
        hub.pass().await;
        // Two of them are the turn's heartbeats.
        let sent = hub.requests() - before - 2;
        assert!(sent >= 14, "a pass that has something to do sends {sent} requests");
        (requests[usize::from(with)], left[usize::from(with)]) = (sent, hub.whole_content().await);
    }
    (requests, left)
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_request_leaves_what_the_next_one_completes() {
    let hub = Hub::start().await;
    let (requests, undisturbed) = undisturbed(&hub).await;
    let most = requests.into_iter().max().unwrap_or_default();
    let mut ended = Vec::new();
    let each = |which: Unanswered| (0..most).flat_map(move |request| [false, true].map(|with| (request, which, with)));
    for (request, which, with) in each(Unanswered::AllFrom).chain(each(Unanswered::One)) {
        hub.turn(with).await;
        let is_met = hub.kill_an_agent_at(request, which).await;
        let what = format!("killed at request {request}, {which:?}, with more: {with}");
        if !is_met && request < requests[usize::from(with)] {
            ended.push(what.clone());
        }
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "{what}");
        let (code, output) = hub.pass().await;
        let complete = hub.is_complete(with).await;
        assert_eq!((code, complete), (Some(0), Ok(())), "{what}: {output}");
        assert_eq!(accuses_nobody(&output), Ok(()), "{what}");
        assert_eq!(hub.whole_content().await, undisturbed[usize::from(with)], "{what}: {output}");
    }
    assert!(ended.is_empty(), "of {requests:?} requests these were not met: {ended:#?}");
    hub.ends_quietly().await;
}

/// As one whose lease another has taken meanwhile: what it goes on with is out of date.
#[tokio::test]
async fn an_agent_that_stands_still_in_its_pass_while_another_leads_undoes_nothing_when_it_goes_on() {
    /// In milliseconds.
    const ON_ITS_WAY: u64 = 1_000;
    let hub = Hub::start().await;
    let (requests, undisturbed) = undisturbed(&hub).await;
    for (round, request) in (0..requests[1]).step_by(5).enumerate() {
        let with = round % 2 == 1;
        hub.turn(with).await;
        let before = hub.requests();
        hub.fail(&json!([{"skip": request, "count": 1, "fault": {"delay": ON_ITS_WAY}}]));
        let mut agent = hub.agent();
        until(&agent, "its pass comes to that request", || {
            hub.requests() >= before + request || agent.output().contains("pass ended")
        })
        .await;
        time::sleep(Duration::from_millis(50)).await;
        agent.signal(Signal::SIGSTOP);
        let stopped = time::Instant::now();
        hub.fail(&json!([]));
        // Its request may be done before what the other does, in the middle of it, or after it.
        hub.pass().await;
        time::sleep_until(stopped + Duration::from_millis(ON_ITS_WAY)).await;
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "at request {request}");
        let ended = passes(&agent);
        agent.signal(Signal::SIGCONT);
        // The one that stood still, and two more.
        until(&agent, "its passes end", || passes(&agent) >= ended + 3).await;
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "at request {request}: {}", agent.output());
        assert_eq!(hub.is_complete(with).await, Ok(()), "at request {request}: {}", agent.output());
        let left = hub.whole_content().await;
        assert_eq!(left, undisturbed[usize::from(with)], "at request {request}: {}", agent.output());
        agent.stop().await;
    }
    hub.ends_quietly().await;
}

/// An agent is killed in the middle of a script; the next pass leaves what is expected.
async fn killed_in_a_script(hub: &Hub, expected: &[String]) {
    hub.fail(&json!([{"text": ".execute database script", "fault": "halfScript"}]));
    let before = hub.content().await;
    let mut agent = hub.agent();
    let deadline = time::Instant::now() + SOON;
    while hub.content().await == before {
        assert!(time::Instant::now() < deadline, "{}", agent.output());
        time::sleep(Duration::from_millis(50)).await;
    }
    agent.kill().await;
    hub.fail(&json!([]));
    let half = hub.content().await;
    let (code, output) = hub.pass().await;
    assert_ne!(hub.content().await, half, "it was killed in the middle");
    assert_eq!((code, hub.whole_content().await.as_slice()), (Some(0), expected), "{output}");
    assert_eq!(accuses_nobody(&output), Ok(()));
}

#[tokio::test]
async fn an_agent_that_is_killed_in_the_middle_of_a_script_leaves_what_the_next_one_completes() {
    const TABLES: [&[&str]; 2] = [&["A", "B", "C"], &["D", "E", "F"]];
    let hub = Hub::start().await;
    let (_, with_and_without) = undisturbed(&hub).await;
    hub.turn(false).await;
    hub.pass().await;
    let mut undisturbed = Vec::new();
    for tables in TABLES {
        hub.beat(&[("Logs", tables)]).await;
        hub.pass().await;
        let content = hub.whole_content().await;
        let has = |table: &&str| content.iter().any(|line| line.contains(&format!("federated_{table}")));
        assert!(tables.iter().all(has), "{content:#?}");
        undisturbed.push(content);
    }
    hub.turn(false).await;
    hub.pass().await;
    for (tables, undisturbed) in TABLES.into_iter().zip(undisturbed) {
        hub.beat(&[("Logs", tables)]).await;
        killed_in_a_script(&hub, &undisturbed).await;
    }
    // And of scripts that make and drop groups, too, which are in the record before they are there.
    hub.turn(false).await;
    hub.pass().await;
    for with in [true, false] {
        hub.turn(with).await;
        killed_in_a_script(&hub, &with_and_without[usize::from(with)]).await;
    }
    hub.ends_quietly().await;
}

/// Whom all groups of partitions' Logs list, by the end of the address.
async fn members(hub: &Hub) -> BTreeSet<String> {
    let content = hub.content().await;
    let groups: Vec<&String> = content.iter().filter(|line| line.contains("Logs_Partitions")).collect();
    let is_member = |host: &String| groups.iter().all(|group| group.contains(&format!("'http://127.0.0.{host}:1'")));
    (1..=9).map(|host| host.to_string()).filter(is_member).collect()
}

#[tokio::test]
async fn two_hub_agents_that_lead_at_once_while_partitions_change_join_and_stop_lose_nothing_and_agree() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    hub.pass().await;
    // Whoever stops leaves before the end, and nobody else.
    hub.document("entityGroups: [{by: geo}], heartbeatInterval: 5s, heartbeatTTL: 20s");
    let mut agents = [hub.agent(), hub.agent()];
    let started = time::Instant::now();
    let (mut with, mut beating, mut listed) = (false, vec!["1", "2", "3"], BTreeSet::new());
    let mut new = ["4", "5", "6", "7", "8", "9"].into_iter();
    let stopped = "3".to_owned();
    while started.elapsed() < Duration::from_secs(30) || listed.contains(&stopped) {
        assert!(started.elapsed() < SOON * 2, "{listed:?}");
        with = !with;
        if started.elapsed() > Duration::from_secs(3) {
            beating.retain(|host| *host != stopped);
        }
        if with {
            beating.extend(new.next());
        }
        let schema = if with {
            json!([{"database": "Logs", "tables": ["A", "B"]}, {"database": "Metrics", "tables": ["M"]}])
        } else {
            json!([{"database": "Logs", "tables": ["A"]}])
        };
        hub.beat_of(&beating, &schema).await;
        for _ in 0..10 {
            assert_eq!(hub.has_kept_the_live().await, Ok(()));
            let now = members(&hub).await;
            let gone: Vec<&String> = listed.difference(&now).filter(|host| **host != stopped).collect();
            assert!(gone.is_empty(), "{listed:?} were members, and {now:?} are left");
            listed = now;
            time::sleep(Duration::from_millis(100)).await;
        }
    }
    for agent in &mut agents {
        agent.stop().await;
        // Both have led.
        let output = agent.output();
        assert!(output.contains("pass ended outcome=done") && output.contains("hub changed"), "{output}");
    }
    // Then the third, which one beat would not bring back, is blocked.
    hub.turn(true).await;
    let (code, output) = hub.pass().await;
    assert_eq!((code, hub.is_complete(true).await), (Some(0), Ok(())), "{output}");
    let federated: BTreeSet<String> = beating.iter().map(|host| (*host).to_owned()).collect();
    assert_eq!(members(&hub).await, federated, "{output}");
    // Neither thinks that the other's group is a person's.
    hub.ends_quietly().await;
}
