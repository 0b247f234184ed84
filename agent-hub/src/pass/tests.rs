//! A pass without its requests: what the agent remembers between one and the next.

use kql::names::{EntityGroupName, FunctionName};
use serde_json::{Value, json};

use super::*;
use crate::{
    apply::Applied,
    hub::HubDatabase,
    plan::{Change, Released},
    testing::{answer_to_query, answering_hub, applied, cluster, fleet, hub_config, ingested, now},
};

const TIME_TO_LIVE: SignedDuration = SignedDuration::from_hours(1);

/// Three partitions' newest beats: Europe's, and those of the others.
fn beats(europe: Timestamp, others: Timestamp) -> Vec<Beat> {
    let partitions = ["asia", "eu", "us"].map(|host| (host, 0, json!([{"database": "Logs", "tables": ["A"]}])));
    let received = |beat: &Beat| if beat.endpoint == cluster("eu") { europe } else { others };
    let beats = fleet(&partitions).into_values().map(|partition| partition.beat);
    beats.map(|beat| Beat { received: received(&beat), ..beat }).collect()
}

/// A pass from what it reads to what it decides, over a hub without our tables.
async fn decide(agent: &mut HubAgent, hub: &Hub, beats: Vec<Beat>, now: Timestamp) -> Plan {
    decide_with(agent, hub, beats, now, Memory::Absent).await
}

/// The same where the table that remembers the membership is as it is.
async fn decide_with(agent: &mut HubAgent, hub: &Hub, beats: Vec<Beat>, now: Timestamp, memory: Memory) -> Plan {
    agent.recall(now, &Tables { memory, ..Tables::default() }).await.unwrap();
    let fleet = agent.watcher.see(beats, hub, &agent.trust, now, &agent.settings);
    match plan(&fleet, hub, &agent.watcher.membership, now, &agent.settings) {
        Decision::Apply(plan) => plan,
        Decision::Hold(hold) => panic!("somebody beats: {hold:?}"),
    }
}

#[tokio::test]
async fn a_replica_that_leads_again_believes_no_silence_that_it_has_not_watched() {
    // Beats come every ten minutes, and one hour is the time to live.
    let mins = SignedDuration::from_mins;
    let last = now();
    for (stood_by, is_new_leader) in [(30, true), (600, true), (30, false)] {
        let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
        let databases = [(DatabaseName::new("Other").unwrap(), HubDatabase::default())].into();
        let empty = Hub { databases, ..Hub::default() };
        let first = decide(&mut agent, &empty, beats(last, last), last).await;
        let hub = applied(empty, &first);
        let led_until = last + mins(50);
        let quiet = decide(&mut agent, &hub, beats(last, led_until), led_until).await;
        assert!(quiet.held.is_empty() && quiet.changes.is_empty(), "{quiet:?}");

        let again = led_until + mins(stood_by);
        if is_new_leader {
            agent.take_over();
        }
        let kept = decide(&mut agent, &hub, beats(last, again), again).await;
        let is_kept = kept.held == [HoldReason::StartupGrace { silent: 1 }] && kept.changes.is_empty();
        assert_eq!(is_kept, is_new_leader, "after {stood_by} min: {kept:?}");
        if is_new_leader {
            let watched = again + mins(60);
            let believed = decide(&mut agent, &hub, beats(last, watched), watched).await;
            assert!(matches!(believed.changes[..], [Change::AlterGroup { .. }]), "{believed:?}");
        }
    }
}

#[tokio::test]
async fn who_was_a_member_is_as_new_as_anyone_when_it_is_none_any_more() {
    let mut agent = HubAgent::new(hub_config("canary: true, "), World::new("agent-hub")).unwrap();
    let (hub, all) = (federated(now()).await, beats(now(), now()));
    agent.canaries.sound = all.iter().map(|beat| beat.endpoint.clone()).collect();
    agent.ask_new_partitions(&all, &hub, now()).await;
    assert_eq!(agent.canaries.sound, BTreeSet::new());
}

/// A memory that is there.
fn kept() -> Tables {
    Tables { memory: Memory::Kept, ..Tables::default() }
}

/// The answer of a hub that is asked what is remembered: kind, name, state, since when, and since when it is silent.
fn remembered(rows: &[(&str, &str, &str, Timestamp, Option<Timestamp>)]) -> Value {
    let columns = [
        ("Kind", "string"),
        ("Name", "string"),
        ("State", "string"),
        ("Since", "datetime"),
        ("SilentSince", "datetime"),
        ("Returns", "dynamic"),
        ("Reason", "string"),
        ("Beats", "long"),
        ("Counted", "datetime"),
        ("Zone", "string"),
        ("SchemaHash", "string"),
    ];
    let row = |(kind, name, state, since, silent): &(&str, &str, &str, Timestamp, Option<Timestamp>)| {
        let (since, silent) = (since.to_string(), silent.map(|at| at.to_string()));
        json!([kind, name, state, since, silent, [], "", 9, since, "", ""])
    };
    answer_to_query(&columns, rows.iter().map(row))
}

/// The answer of a hub that is asked at a time when heartbeats came.
fn arrivals(times: &[Timestamp], at: Timestamp) -> Value {
    let columns = ["First", "Last", "Now"].map(|name| (name, "datetime"));
    let rows = times.iter().map(|time| json!([time.to_string(), time.to_string(), null]));
    answer_to_query(&columns, rows.chain([json!([null, null, at.to_string()])]))
}

/// A hub on which the three are federated.
async fn federated(last: Timestamp) -> Hub {
    let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
    let databases = [(DatabaseName::new("Other").unwrap(), HubDatabase::default())].into();
    let empty = Hub { databases, ..Hub::default() };
    let first = decide(&mut agent, &empty, beats(last, last), last).await;
    applied(empty, &first)
}

#[tokio::test]
async fn a_silence_that_was_recorded_before_a_pass_saw_nothing_or_the_hub_took_no_beats_is_not_believed() {
    // One hour is the time to live, and whoever recorded the silence had watched it for as long.
    let (last, mins) = (now(), SignedDuration::from_mins);
    let (silent, at) = (last + mins(20), last + mins(90));
    let (hub, europe) = (federated(last).await, cluster("eu").to_string());
    // Beats that came every ten minutes but for a time, in which the hub took none. One that ended more than a time to live ago is over.
    let beaten = |without: std::ops::Range<i64>| {
        let minutes = (0..=90).step_by(10).filter(|minute| !without.contains(minute));
        arrivals(&minutes.map(|minute| last + mins(minute)).collect::<Vec<_>>(), at)
    };
    // What the table says of sight; whether this process has looked once, and saw nothing; and how beats came.
    for (guard, was_blind, beaten, believes) in [
        ("over", false, beaten(0..0), true),
        ("over", false, beaten(0..30), true),
        ("active", false, beaten(0..0), false),
        ("over", true, beaten(0..0), false),
        ("over", false, beaten(50..60), false),
        ("over", false, beaten(0..60), false),
        ("over", false, beaten(70..100), false),
        ("over", false, arrivals(&[], at), false),
        // It cannot be told.
        ("over", false, json!({"is_down": true}), false),
    ] {
        let remembered = remembered(&[
            ("Partition", europe.as_str(), "suspect", silent, Some(silent)),
            ("Guard", "incomplete_read", guard, last + mins(80), None),
        ]);
        let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
        let answer = move |text: &str| if text.contains("_period") { beaten.clone() } else { remembered.clone() };
        (agent.hub, _) = answering_hub(answer).await;
        if was_blind {
            let unread = ObserveError::Crowded { needed: 2, most: 1 };
            agent.blind(at, Blind::Failed(unread), None, Vec::new()).await;
        }
        let plan = decide_with(&mut agent, &hub, beats(last, at), at, Memory::Kept).await;
        let is_believed = matches!(plan.changes[..], [Change::AlterGroup { .. }]) && plan.held.is_empty();
        let is_held = plan.changes.is_empty() && plan.held == [HoldReason::StartupGrace { silent: 1 }];
        assert_eq!((is_believed, is_held), (believes, !believes), "{guard}, {was_blind}: {plan:?}");
    }
}

#[tokio::test]
async fn a_pass_whose_set_up_fails_has_seen_nothing_and_no_silence_that_overlaps_it_is_believed() {
    // Beats come every ten minutes, and one hour is the time to live.
    let (last, mins) = (now(), SignedDuration::from_mins);
    let hub = federated(last).await;
    for fails in [false, true] {
        let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
        decide(&mut agent, &hub, beats(last, last), last).await;
        let quiet = decide(&mut agent, &hub, beats(last, last + mins(50)), last + mins(50)).await;
        assert!(quiet.held.is_empty() && quiet.changes.is_empty(), "{quiet:?}");
        if fails {
            (agent.hub, _) = answering_hub(|_| json!({"is_down": true})).await;
            let outcome = Box::pin(agent.pass(last + mins(60))).await;
            assert!(matches!(outcome, PassOutcome::Failed), "{outcome}");
        }
        let at = last + mins(70);
        let plan = decide(&mut agent, &hub, beats(last, at), at).await;
        let is_believed = matches!(plan.changes[..], [Change::AlterGroup { .. }]) && plan.held.is_empty();
        let is_held = plan.changes.is_empty() && plan.held == [HoldReason::StartupGrace { silent: 1 }];
        assert_eq!((is_believed, is_held), (!fails, fails), "{plan:?}");
    }
}

#[tokio::test]
async fn a_guard_or_a_darkness_that_another_agent_has_recorded_is_ended_by_the_one_that_sees_within_an_hour() {
    let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
    (agent.watcher.seen_at, agent.watcher.recorded_read_at) = (Some(now()), Some(now()));
    let answer =
        remembered(&[("Guard", "incomplete_read", "active", now(), None), ("Darkness", "fleet", "dark", now(), None)]);
    let answers = move |text: &str| if text.contains(".ingest ") { ingested(false) } else { answer.clone() };
    let sent;
    (agent.hub, sent) = answering_hub(answers).await;
    let count = || sent.lock().unwrap().iter().filter(|text| text.contains("SilentSince")).count();
    for (minutes, asked) in [(59, 0), (60, 1), (60, 1)] {
        let at = now() + SignedDuration::from_mins(minutes);
        agent.recall(at, &kept()).await.unwrap();
        agent.watcher.note(&Decision::Apply(Plan::default()), at, TIME_TO_LIVE);
        assert_eq!(agent.record(at, Memory::Kept).await, None);
        assert_eq!(count(), asked, "after {minutes} min");
    }
    // It does not wait where it saw nothing itself.
    agent.watcher.lose_sight();
    agent.recall(now(), &kept()).await.unwrap();
    assert_eq!(count(), 2);
    let sent = sent.lock().unwrap();
    for (kind, over) in [(",Guard,", "\"incomplete_read\",over"), (",Darkness,", "\"fleet\",over")] {
        let records: Vec<&str> = sent.iter().flat_map(|text| text.lines()).filter(|line| line.contains(kind)).collect();
        assert!(matches!(records[..], [record] if record.contains(over)), "{sent:?}");
    }
}

#[tokio::test]
async fn what_an_old_leader_recorded_of_a_partition_is_recorded_anew_within_an_hour_and_nothing_else_is() {
    let (hub, mins) = (federated(now()).await, SignedDuration::from_mins);
    let stale = cluster("eu").to_string();
    // Where the table lacks columns, none of its rows says what was written.
    for (setup, anew) in [(Setup::right(), 1), (Setup::default(), 0)] {
        let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
        decide(&mut agent, &hub, beats(now(), now()), now()).await;
        (agent.setup, agent.watcher.recorded, agent.watcher.recorded_read_at) =
            (setup, agent.watcher.membership.clone(), Some(now()));
        let names: Vec<_> = agent.watcher.membership.partitions.keys().map(ToString::to_string).collect();
        let rows: Vec<_> = names
            .iter()
            .map(|name| match *name == stale {
                true => ("Partition", &**name, "suspect", now(), Some(now())),
                false => ("Partition", &**name, "live", now(), None),
            })
            .collect();
        let answer = remembered(&rows);
        let answers = move |text: &str| if text.contains(".ingest ") { ingested(false) } else { answer.clone() };
        let sent;
        (agent.hub, sent) = answering_hub(answers).await;
        for (minutes, written) in [(59, 0), (60, anew), (61, anew)] {
            let at = now() + mins(minutes);
            agent.watcher.seen_at = Some(at);
            assert_eq!(agent.recall(at, &kept()).await.unwrap(), None);
            assert_eq!(agent.record(at, Memory::Kept).await, None);
            let sent = sent.lock().unwrap();
            let records: Vec<&str> =
                sent.iter().flat_map(|text| text.lines()).filter(|line| line.contains(",Partition,")).collect();
            assert_eq!(records.len(), written, "after {minutes} min: {records:?}");
            assert!(records.iter().all(|record| record.contains(&format!("\"{stale}\",live,"))), "{records:?}");
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_again_is_told_and_asked_for_by_the_next_pass_and_blind_nobody() {
    let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
    agent.watcher.seen_at = Some(now());
    (agent.hub, _) = answering_hub(|_| json!({"is_down": true})).await;
    for _ in 0..2 {
        let told = agent.recall(now(), &kept()).await.unwrap().unwrap();
        assert!(told.starts_with("failed to read again what is recorded of the membership: "), "{told}");
        assert_eq!(agent.watcher.recorded_read_at, None);
    }
    (agent.hub, _) = answering_hub(|_| remembered(&[])).await;
    assert_eq!(agent.recall(now(), &kept()).await.unwrap(), None);
    assert_eq!(agent.watcher.recorded_read_at, Some(now()));
}

#[tokio::test]
async fn who_sees_nothing_records_its_guard_anew_once_an_hour_as_another_may_have_ended_it() {
    let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
    let sent;
    (agent.hub, sent) = answering_hub(|_| ingested(false)).await;
    // One of before: what became of it since, it has not seen.
    agent.watcher.membership.note_guard(HoldReason::NoLiveHeartbeat { known: 1 }.label(), "", now());
    agent.watcher.recorded.clone_from(&agent.watcher.membership);
    for (minutes, written) in [(0, 1), (1, 1), (59, 1), (60, 2), (61, 2), (120, 3)] {
        let at = now() + SignedDuration::from_mins(minutes);
        agent.watcher.membership.note_guard(HoldReason::IncompleteRead { why: String::new() }.label(), "", at);
        assert_eq!(agent.record_guards(at, Memory::Kept).await, None);
        let sent = sent.lock().unwrap();
        assert_eq!(sent.len(), written, "after {minutes} min");
        let records = sent.iter().flat_map(|text| text.lines()).filter(|line| line.contains(",Guard,"));
        assert!(
            records.clone().count() == written
                && records.clone().all(|line| line.contains("\"incomplete_read\",active")),
            "{sent:?}"
        );
    }
}

#[tokio::test]
async fn an_agent_that_looks_less_often_than_partitions_expire_believes_a_silence_all_the_same() {
    // One hour is the time to live. Who looks every two hours has missed a look after four.
    for (interval, hours, believes) in [("2h", 2, true), ("2h", 4, false), ("10m", 2, false)] {
        let config = hub_config(&format!("reconcileInterval: {interval}, "));
        let mut agent = HubAgent::new(config, World::new("agent-hub")).unwrap();
        let databases = [(DatabaseName::new("Other").unwrap(), HubDatabase::default())].into();
        let empty = Hub { databases, ..Hub::default() };
        let last = now();
        let first = decide(&mut agent, &empty, beats(last, last), last).await;
        let hub = applied(empty, &first);
        let next = last + SignedDuration::from_hours(hours);
        let plan = decide(&mut agent, &hub, beats(last, next), next).await;
        let is_believed = matches!(plan.changes[..], [Change::AlterGroup { .. }]) && plan.held.is_empty();
        let is_held = plan.changes.is_empty() && plan.held == [HoldReason::StartupGrace { silent: 1 }];
        assert_eq!((is_believed, is_held), (believes, !believes), "every {interval}, after {hours} h: {plan:?}");
    }
}

#[tokio::test]
async fn an_acknowledgement_of_another_plan_is_told_while_something_is_held_and_not_once_it_was_made() {
    let config = hub_config("acknowledgedPlan: \"0123456789ab\", ");
    let mut report = Report::new(World::new("agent-hub"), &config);
    let reason = HoldReason::NoLiveHeartbeat { known: 1 };
    let message = |report: &Report| report.federation().last_pass.and_then(|pass| pass.message).unwrap_or_default();
    let held = |report: &mut Report, hash: &str| {
        let released = Some(Released { hash: hash.to_owned(), changes: Vec::new() });
        report.held(now(), &Hold { reason: reason.clone(), released, kept: BTreeMap::new() }, Vec::new());
        let message = message(report);
        assert!(message.starts_with("none of the 1 partition(s)"), "{message}");
        (message.contains("acknowledgedPlan is 0123456789ab"), message.contains(&format!("held is {hash}")))
    };
    assert_eq!(held(&mut report, "ba9876543210"), (true, true));
    assert_eq!(held(&mut report, "ba9876543211"), (true, true));

    let done = |report: &mut Report, result: Result<(), String>| {
        let (database, function) = (DatabaseName::new("Logs").unwrap(), FunctionName::new("federated_A").unwrap());
        let applied = [Applied { change: Change::DropFunction { database, function }, result }];
        let plan = Plan { acknowledged: vec![HoldReason::NoLiveHeartbeat { known: 1 }], ..Plan::default() };
        let work = Work { set_up: &[], plan: &plan, applied: &applied, repairs: &[], failures: &[] };
        report.done(now(), &Hub::default(), "ours", &work);
        message(report)
    };
    // What the hub refused of it is another plan from then on, and a person has to know.
    assert_eq!(done(&mut report, Err("no".to_owned())), "");
    assert_eq!(held(&mut report, "ba9876543212"), (true, true));
    // Made, it has served: the next hold is another matter.
    assert_eq!(done(&mut report, Ok(())), "");
    assert_eq!(held(&mut report, "ba9876543213"), (false, false));
}

#[tokio::test]
async fn a_guard_holds_in_metrics_and_status_until_a_pass_sees_that_it_is_over() {
    let world = World::new("agent-hub");
    let mut report = Report::new(world.clone(), &hub_config(""));
    let hold = |reason| Hold { reason, released: None, kept: BTreeMap::new() };
    let active = |report: &Report| {
        let text = world.metrics.text();
        let is_active = |guard: &&str| text.contains(&format!("guard_active{{reason=\"{guard}\"}} 1"));
        let in_metrics: BTreeSet<&str> =
            GuardReason::ALL.iter().map(|guard| guard.as_str()).filter(is_active).collect();
        let in_status = report.federation().guard.unwrap_or_default();
        assert_eq!(in_metrics, in_status.split(',').filter(|guard| !guard.is_empty()).collect());
        let message = report.federation().last_pass.unwrap().message.unwrap_or_default();
        assert_eq!(
            message.contains("none of the 1 partition(s)"),
            in_status.contains("no_live_heartbeat"),
            "{message}"
        );
        let plan = report.federation().plan.map(|plan| plan.hash);
        assert_eq!(plan.as_deref(), in_status.contains("no_live_heartbeat").then_some("0123456789ab"));
        in_status
    };
    let released = Some(Released { hash: "0123456789ab".to_owned(), changes: Vec::new() });
    let dark = || Hold { released: released.clone(), ..hold(HoldReason::NoLiveHeartbeat { known: 1 }) };
    report.held(now(), &dark(), Vec::new());
    assert_eq!(active(&report), "no_live_heartbeat");
    report.failed(now(), "the catalog cannot be read".to_owned());
    assert_eq!(active(&report), "no_live_heartbeat");
    report.held(now(), &hold(HoldReason::IncompleteRead { why: "cut".to_owned() }), Vec::new());
    assert_eq!(active(&report), "incomplete_read,no_live_heartbeat");
    report.failed(now(), "the catalog cannot be read".to_owned());
    assert_eq!(active(&report), "incomplete_read,no_live_heartbeat");
    let work = Work { set_up: &[], plan: &Plan::default(), applied: &[], repairs: &[], failures: &[] };
    report.done(now(), &Hub::default(), "ours", &work);
    assert_eq!(active(&report), "");
    // Another process has led meanwhile.
    report.held(now(), &dark(), Vec::new());
    report.take_over();
    report.failed(now(), "the catalog cannot be read".to_owned());
    assert_eq!(active(&report), "");
}

#[tokio::test]
async fn an_agent_whose_memory_is_somebody_elses_believes_no_silence_and_one_that_gets_its_own_watches_from_then_on() {
    // Beats come every ten minutes, and one hour is the time to live.
    let (last, mins) = (now(), SignedDuration::from_mins);
    let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
    let databases = [(DatabaseName::new("Other").unwrap(), HubDatabase::default())].into();
    let empty = Hub { databases, ..Hub::default() };
    let first = decide_with(&mut agent, &empty, beats(last, last), last, Memory::Taken).await;
    let hub = applied(empty, &first);
    assert_eq!(hub.members().count(), 3, "who beats joins");
    let held = [HoldReason::StartupGrace { silent: 1 }];
    for minutes in (30..=600).step_by(30) {
        let at = last + mins(minutes);
        let plan = decide_with(&mut agent, &hub, beats(last, at), at, Memory::Taken).await;
        let expected: &[HoldReason] = if minutes > 60 { &held } else { &[] };
        assert_eq!((plan.held.as_slice(), plan.changes.len()), (expected, 0), "after {minutes} min");
        assert_eq!(agent.record(at, Memory::Taken).await, None, "nothing is sent");
    }
    // The table has another name by now.
    let at = last + mins(630);
    let kept = decide_with(&mut agent, &hub, beats(last, at), at, Memory::Absent).await;
    assert_eq!((kept.held.as_slice(), kept.changes.len()), (held.as_slice(), 0));
    assert_eq!(
        agent.watcher.membership.changed_since(&agent.watcher.recorded).len(),
        3,
        "all that is known is to be recorded"
    );
    let watched = last + mins(660);
    (agent.hub, _) = answering_hub(|_| remembered(&[])).await;
    let believed = decide_with(&mut agent, &hub, beats(last, watched), watched, Memory::Kept).await;
    assert!(matches!(believed.changes[..], [Change::AlterGroup { .. }]) && believed.held.is_empty(), "{believed:?}");
}

/// What `federation_status()` says of guards is what is recorded of them: its column `Guards` has the names of those that are active.
#[tokio::test]
async fn every_guard_of_a_removal_is_recorded_by_its_name_with_its_words_and_recorded_anew_when_it_is_over() {
    let (began, ended) = (now(), now() + SignedDuration::from_mins(1));
    let until = began + SignedDuration::from_hours(1);
    let told = [
        (
            HoldReason::Recovering { silent: 2, until },
            "recovering",
            "beats have returned to a fleet that was held: 2 expired partition(s) stay federated until 2023-11-14T23:13:20Z, one heartbeatTTL after the hold",
        ),
        (
            HoldReason::RemovalBudget { leaving: 5, allowed: 3 },
            "removal_budget",
            "5 partitions are to leave, at most 3 in one pass: the others follow in the next ones",
        ),
        (
            HoldReason::StartupGrace { silent: 4 },
            "startup_grace",
            "4 expired partition(s) stay federated until this agent has watched for one heartbeatTTL: their silence began before it did",
        ),
    ];
    let line = |name: &str, state: &str, at: Timestamp, words: &str| {
        format!("{ended},Guard,\"{name}\",{state},{at},,\"[]\",\"{words}\",0,,\"\",\"\"\n")
    };
    let recorded = |agent: &HubAgent| -> BTreeSet<String> {
        agent
            .watcher
            .membership
            .changed_since(&agent.watcher.recorded)
            .iter()
            .map(|record| record.csv_line(ended))
            .collect()
    };
    // Each alone, and all at once.
    for held in [&told[..1], &told[1..2], &told[2..], &told] {
        let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
        let reasons = held.iter().map(|(reason, ..)| reason.clone()).collect();
        agent.watcher.note(&Decision::Apply(Plan { held: reasons, ..Plan::default() }), began, TIME_TO_LIVE);
        let active = held.iter().map(|(_, name, words)| line(name, "active", began, words));
        assert_eq!(recorded(&agent), active.collect::<BTreeSet<_>>());
        agent.watcher.recorded.clone_from(&agent.watcher.membership);
        agent.watcher.note(&Decision::Apply(Plan::default()), ended, TIME_TO_LIVE);
        let over = held.iter().map(|(_, name, words)| line(name, "over", ended, words));
        assert_eq!(recorded(&agent), over.collect::<BTreeSet<_>>());
    }
}

#[tokio::test]
async fn what_the_hub_has_not_stored_of_the_membership_is_told_and_written_by_the_next_pass() {
    let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
    let held = HoldReason::NoLiveHeartbeat { known: 1 };
    agent.watcher.membership.note_guard(held.label(), &held.to_string(), now());
    (agent.hub, _) = answering_hub(|_| ingested(true)).await;
    for problem in [agent.record_guards(now(), Memory::Kept).await, agent.record(now(), Memory::Kept).await] {
        let problem = problem.unwrap();
        assert!(problem.starts_with("failed to record the membership, which is tried again: "), "{problem}");
    }
    assert_eq!(agent.watcher.recorded, Membership::default());
    let sent;
    (agent.hub, sent) = answering_hub(|_| ingested(false)).await;
    for _ in 0..2 {
        assert_eq!(agent.record(now(), Memory::Kept).await, None);
        assert_eq!(agent.watcher.recorded, agent.watcher.membership);
    }
    let sent = sent.lock().unwrap();
    assert!(sent.len() == 1 && sent[0].contains("no_live_heartbeat"), "what is recorded is not sent again: {sent:?}");
}

#[tokio::test]
async fn a_leader_that_sees_nothing_at_first_records_that_alone_and_no_guard_of_before() {
    let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
    // It led while one held, and recorded that this was over. Another leader may have recorded anything since.
    let held = HoldReason::MassExpiry { silent: 2, of: 3, zone: None };
    agent.watcher.note(&Decision::Apply(Plan { held: vec![held], ..Plan::default() }), now(), TIME_TO_LIVE);
    agent.watcher.note(&Decision::Apply(Plan::default()), now(), TIME_TO_LIVE);
    agent.watcher.recorded.clone_from(&agent.watcher.membership);
    agent.take_over();
    let sent;
    (agent.hub, sent) = answering_hub(|_| ingested(false)).await;
    for _ in 0..2 {
        let unread = ObserveError::Crowded { needed: 2, most: 1 };
        agent.blind(now(), Blind::Incomplete(unread), Some(Memory::Kept), Vec::new()).await;
    }
    let sent = sent.lock().unwrap();
    let records: Vec<&str> =
        sent.iter().flat_map(|text| text.lines()).filter(|line| line.contains(",Guard,")).collect();
    assert!(matches!(records[..], [record] if record.contains("\"incomplete_read\",active")), "{sent:?}");
}

#[tokio::test]
async fn what_the_hub_refuses_of_a_plan_is_the_first_problem_that_an_agent_tells() {
    let mut report = Report::new(World::new("agent-hub"), &hub_config(""));
    let applied = [("federated_A", Ok(())), ("federated_B", Err("Failed: it is in use".to_owned()))];
    let applied = applied.map(|(name, result)| {
        let (database, function) = (DatabaseName::new("Logs").unwrap(), FunctionName::new(name).unwrap());
        Applied { change: Change::DropFunction { database, function }, result }
    });
    let plan = Plan { problems: vec!["a name is refused".to_owned()], ..Plan::default() };
    let failures = ["a record could not be written".to_owned()];
    let work = Work { set_up: &[], plan: &plan, applied: &applied, repairs: &[], failures: &failures };
    report.done(now(), &Hub::default(), "ours", &work);
    let pass = report.federation().last_pass.unwrap();
    let refused = "drop function federated_B in Logs: Failed: it is in use";
    assert_eq!(pass.problems, [refused, "a record could not be written", "a name is refused"]);
    assert_eq!((pass.outcome.as_str(), pass.message), ("partial", None));
}

#[tokio::test]
async fn a_plan_is_whole_only_where_all_was_read_and_is_shown_all_the_same() {
    let (database, function) = (DatabaseName::new("Logs").unwrap(), FunctionName::new("federated_A").unwrap());
    let group = EntityGroupName::new("Logs_Partitions").unwrap();
    // As they are made, which is no order of their texts.
    let drop_function = Change::DropFunction { database: database.clone(), function };
    let changes = vec![drop_function, Change::DropGroup { database, group }];
    let in_order = [
        "drop function federated_A in Logs: no federated partition has its table",
        "drop entity group Logs_Partitions in Logs: no federated partition has its database, or what entityGroups names it after",
    ];
    let held = vec![HoldReason::NoLiveHeartbeat { known: 1 }];
    let (quiet, due) = (Plan::default(), Plan { changes, ..Plan::default() });
    let holding = Plan { held, ..due.clone() };
    let unread = |plan: &Plan| Plan { unread_databases: 1, ..plan.clone() };
    let failure = ["a schema could not be read".to_owned()];
    for (plan, failures, expected) in [
        (&quiet, &failure[..0], "unchanged"),
        (&due, &failure[..0], "planned"),
        (&holding, &failure[..0], "held"),
        (&quiet, &failure[..], "partial"),
        (&due, &failure[..], "partial"),
        (&holding, &failure[..], "partial"),
        (&unread(&quiet), &failure[..0], "partial"),
        (&unread(&due), &failure[..0], "partial"),
        (&unread(&holding), &failure[..0], "partial"),
    ] {
        let mut report = Report::new(World::new("agent-hub"), &hub_config("mode: Plan, "));
        report.planned(now(), &Missing::default(), plan, failures);
        let told = report.federation();
        let pass = told.last_pass.unwrap();
        assert_eq!((pass.outcome.as_str(), pass.problems.as_slice()), (expected, failures), "{plan:?}");
        let shown = told.plan.map(|plan| plan.changes).unwrap_or_default();
        assert_eq!(shown, in_order[..plan.changes.len()], "{expected}: {plan:?}");
    }
}

#[tokio::test]
async fn a_new_partition_is_asked_a_table_or_else_a_view_and_one_that_announces_neither_is_not_let_in() {
    let beat_of = |host: &str, schema: Value| fleet(&[(host, 1, schema)]).remove(&cluster(host)).unwrap().beat;
    let asked = |schema: Value| {
        let (entity, name, source) = canary_of(&beat_of("eu", schema))?;
        Some((entity.cluster, entity.database.to_string(), name.to_string(), source))
    };
    let one = |name: &str, source| Some((cluster("eu"), "Logs".to_owned(), name.to_owned(), source));
    assert_eq!(asked(json!([{"database": "Logs", "tables": ["Z"], "views": ["A"]}])), one("Z", Source::Table));
    let only_views = json!([{"database": "Empty", "tables": []}, {"database": "Logs", "tables": [], "views": ["A"]}]);
    assert_eq!(asked(only_views), one("A", Source::View));

    // Nothing is sent to the hub of them: there is no query.
    let beats = [("asia", json!([{"database": "Logs", "tables": [], "views": []}])), ("us", Value::Null)]
        .map(|(host, schema)| beat_of(host, schema));
    let mut agent = HubAgent::new(hub_config("canary: true, "), World::new("agent-hub")).unwrap();
    let databases = [(DatabaseName::new("Logs").unwrap(), HubDatabase::default())].into();
    agent.ask_new_partitions(&beats, &Hub { databases, ..Hub::default() }, now()).await;
    for beat in &beats {
        let why = "its canary query failed: it announces no table or view that could be asked";
        assert_eq!(agent.trust.admission(&beat.endpoint), Admission::Refused(why.to_owned()));
    }
}

#[tokio::test]
async fn a_pass_that_failed_in_part_is_not_soon_followed_by_one_that_removes_as_many_again() {
    let mut agent = HubAgent::new(hub_config(""), World::new("agent-hub")).unwrap();
    assert!(agent.is_in_motion(PassOutcome::Partial));
    agent.watcher.membership.note_guard(GuardReason::RemovalBudget, "", now());
    assert!(!agent.is_in_motion(PassOutcome::Partial) && agent.is_in_motion(PassOutcome::Failed));
}
