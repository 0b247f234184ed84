//! Silences that are believed in the end, or never: a hold that nobody acknowledges has a time limit, a partition that comes and goes is kept, and how long a silence is
//! the hub's clock says. A real agent over one local server, into which the story writes the fleet's beats; where other clocks are wrong, real partitions.

use jiff::{SignedDuration, Timestamp};
use tests::{
    fleet::{Fleet, Pace},
    process::Process,
    telemetry::REGIONS,
};

use crate::{
    admin::{admin_url, get, partition_of},
    faulty_hub::{Hub, Sent},
    rows::RowFleet,
    support::{REGIONS_SEEN, SOON, end, until_passes_over},
};

/// A fleet of four that is at rest: three of them have a table that the first has not.
async fn at_rest(fields: &str) -> (RowFleet, Process, String) {
    at_rest_between("200ms", fields).await
}

/// The same, with passes this often.
async fn at_rest_between(passes: &str, fields: &str) -> (RowFleet, Process, String) {
    brought_to_rest(RowFleet::start(passes, fields).await).await
}

/// The same of a hub that no agent has seen.
async fn brought_to_rest(mut fleet: RowFleet) -> (RowFleet, Process, String) {
    let agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    fleet.until(&url, &["changes_total{object=\"table\",action=\"create\",outcome=\"applied\"} 3"]).await;
    fleet.beating.insert(1, (vec!["A"], vec![]));
    for host in 2..=4 {
        fleet.beating.insert(host, (vec!["A", "B"], vec![]));
    }
    fleet.until_at_rest(&agent).await;
    (fleet, agent, url)
}

/// The commands of our agents since then that change the hub: what they remember of partitions is no change.
fn changes(hub: &Hub, read: &mut u64) -> Vec<Sent> {
    let is_memory = |sent: &Sent| sent.text.contains("into table ['AdxFederationMembers']");
    hub.sent_since(read).into_iter().filter(|sent| sent.writes() && !is_memory(sent)).collect()
}

/// The cells of what the hub answers to a query.
async fn answer(hub: &Hub, database: &str, query: &str) -> Vec<Vec<String>> {
    hub.server.query(database, query).await.expect("the hub answers").text_rows()
}

#[tokio::test]
async fn a_hold_that_nobody_acknowledges_ends_with_its_time_limit_and_not_before() {
    const LIMIT: SignedDuration = SignedDuration::from_secs(5);
    let membership = "returnAfterBeats: 1, flappingReturns: 16, removalPercent: 100, guardTimeLimit: 5s";
    let fields = format!("heartbeatTTL: 6s, heartbeatInterval: 2s, membership: {{{membership}}}");
    let (mut fleet, agent, url) = at_rest(&fields).await;
    let (mut read, printed) = (0, agent.output().len());
    changes(&fleet.hub, &mut read);

    // Three of four are more than is believed, and less than all.
    fleet.beating.retain(|host, _| *host == 1);
    fleet
        .until_so(async |hub: &Hub| {
            let content = hub.content().await;
            let count = |text: &str| content.iter().filter(|line| line.contains(text)).count();
            let gone = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "federated_B"].map(count);
            let left = (count("127.0.0.1:1'"), count("federated_A"));
            if gone == [0; 4] && left == (2, 1) { Ok(()) } else { Err(format!("{content:#?}")) }
        })
        .await;
    let output = agent.output_after(printed);
    assert!(output.contains("removals are held") || output.contains("pass is held"), "{output}");

    // By the hub's clock, from when each of them had expired.
    let expired = "AdxFederationMembers | where Kind == 'Partition' and State == 'expired' | summarize arg_max(ingestion_time(), Since) by Name | project Since";
    let expired = answer(&fleet.hub, "FleetDiscovery", expired).await;
    let expired: Vec<Timestamp> = expired.iter().map(|row| row[0].parse().expect("it is a time")).collect();
    assert!(expired.len() >= 3, "{expired:?}");
    let first = expired.iter().min().expect("three have expired");
    let sent = changes(&fleet.hub, &mut read);
    let early: Vec<&Sent> = sent.iter().filter(|sent| sent.at.duration_since(*first) < LIMIT).collect();
    assert!(!sent.is_empty() && early.is_empty(), "{first} and {LIMIT}: {early:#?}");
    fleet.until(&url, &["guard_active{reason=\"mass_expiry\"} 0", "guard_active{reason=\"recovering\"} 0"]).await;
    fleet.end(agent).await;
}

/// The limit is of a silence that many share. Where all do, the hub is the likelier cause.
#[tokio::test]
async fn a_fleet_of_which_nobody_beats_is_held_beyond_the_time_limit() {
    let membership = "removalPercent: 100, guardTimeLimit: 1s";
    let fields = format!("heartbeatTTL: 3s, heartbeatInterval: 1s, membership: {{{membership}}}");
    let (mut fleet, agent, url) = at_rest(&fields).await;
    let before = fleet.hub.content().await;
    let mut read = 0;
    changes(&fleet.hub, &mut read);
    fleet.beating.clear();
    fleet
        .until_so(async |hub: &Hub| {
            let silences = answer(hub, "Logs", "federation_status() | project IsLong = Silence > 6s").await;
            if silences == [["true"]; 4] { Ok(()) } else { Err(format!("{silences:?}")) }
        })
        .await;
    until_passes_over(&fleet.hub.server, 3).await;
    fleet.until(&url, &["guard_active{reason=\"no_live_heartbeat\"} 1"]).await;
    let sent = changes(&fleet.hub, &mut read);
    assert!(sent.is_empty(), "{sent:#?}");
    assert_eq!(fleet.hub.content().await, before);
    fleet.end(agent).await;
}

/// One of its passes is no gap of sight to the next, and what began between them was watched.
#[tokio::test]
async fn an_agent_that_looks_less_often_than_partitions_expire_lets_go_of_one_that_has_stopped() {
    let membership = "returnAfterBeats: 1, flappingReturns: 16, removalPercent: 100";
    let fields = format!("heartbeatTTL: 2s, heartbeatInterval: 500ms, membership: {{{membership}}}");
    let (mut fleet, agent, _) = at_rest_between("3s", &fields).await;
    let printed = agent.output().len();
    fleet.beating.remove(&4);
    fleet
        .until_so(async |hub: &Hub| {
            let content = hub.content().await;
            let is_gone = !content.iter().any(|line| line.contains("127.0.0.4:1'"));
            if is_gone { Ok(()) } else { Err(format!("{content:#?}: {}", agent.output_after(printed))) }
        })
        .await;
    let output = agent.output_after(printed);
    // One was under way, and at the next it may not have expired yet. Where this process waits for a processor, all fall silent, which is held.
    let passes = output.matches("pass ended outcome=").count();
    assert!(passes <= 3 || output.contains("held"), "{passes} passes: {output}");
    fleet.end(agent).await;
}

/// The one that comes and goes.
const FLAPPING: &str = "http://127.0.0.4:1";

/// A fleet in which a partition flaps that has returned twice within this time.
fn flapping_within(window: &str) -> String {
    let membership = format!("returnAfterBeats: 1, flappingReturns: 2, flappingWindow: {window}");
    format!("heartbeatTTL: 4s, heartbeatInterval: 1s, membership: {{{membership}}}")
}

/// The fleet beats until that one's state is as it should be.
async fn until_state(fleet: &mut RowFleet, url: &str, fits: impl Fn(&str) -> bool) {
    fleet
        .until_so(async |_: &Hub| {
            let partition = partition_of(&get(url, "/status").await.1, FLAPPING);
            if partition["state"].as_str().is_some_and(&fits) { Ok(()) } else { Err(partition.to_string()) }
        })
        .await;
}

#[tokio::test]
async fn a_partition_that_comes_and_goes_is_kept_and_told_of_until_it_rests() {
    let (mut fleet, mut agent, url) = at_rest(&flapping_within("1h")).await;
    // Besides a table that two others have, it has one of its own, which only its silence could take away.
    fleet.beating.insert(4, (vec!["A", "B", "Own"], vec![]));
    fleet
        .until_so(async |hub: &Hub| {
            let content = hub.content().await;
            let has_own = content.iter().any(|line| line.contains("federated_Own"));
            if has_own { Ok(()) } else { Err(format!("{content:#?}")) }
        })
        .await;
    fleet.until_at_rest(&agent).await;
    let before = fleet.hub.content().await;
    let mut read = 0;
    changes(&fleet.hub, &mut read);

    // Where this process waits for a processor, nobody beats, and it may return more often than is asked for.
    let is_flapping = async || partition_of(&get(&url, "/status").await.1, FLAPPING)["state"] == "flapping";
    while !is_flapping().await {
        let beating = fleet.beating.remove(&4).expect("it beats");
        until_state(&mut fleet, &url, |state| state != "live").await;
        fleet.beating.insert(4, beating);
        until_state(&mut fleet, &url, |state| ["live", "flapping"].contains(&state)).await;
    }
    // Silent for longer than any other may be.
    let beating = fleet.beating.remove(&4).expect("it beats");
    let silent =
        format!("federation_status() | where Partition == '{FLAPPING}' and Silence > 5s | project State, Reason");
    fleet
        .until_so(async |hub: &Hub| {
            let rows = answer(hub, "Logs", &silent).await;
            if rows.is_empty() { Err("it is not silent for long".to_owned()) } else { Ok(()) }
        })
        .await;
    let passes = fleet.hub.server.recorded("NewBeats");
    fleet
        .until_so(async |hub: &Hub| {
            let more = hub.server.recorded("NewBeats") - passes;
            if more >= 3 { Ok(()) } else { Err(format!("{more} passes of 3")) }
        })
        .await;
    assert_eq!(fleet.hub.content().await, before);
    let partition = partition_of(&get(&url, "/status").await.1, FLAPPING);
    let reason = partition["reason"].as_str().unwrap_or_default();
    assert!(partition["state"] == "flapping" && reason.starts_with("it returned from silence "), "{partition:#}");
    assert_eq!(answer(&fleet.hub, "Logs", &silent).await, [["flapping", reason]]);
    let metrics = get(&url, "/metrics").await.1;
    let counted = metrics.lines().find_map(|line| line.strip_prefix("adx_federation_partitions{state=\"flapping\"} "));
    assert!(counted.is_some_and(|count| count != "0"), "{metrics}");

    // The next agent knows it for what it is, and lets it rest when its returns are long ago: here, by another document.
    fleet.beating.insert(4, beating);
    agent.stop().await;
    fleet.beat().await;
    agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    until_state(&mut fleet, &url, |state| !state.is_empty()).await;
    let partition = partition_of(&get(&url, "/status").await.1, FLAPPING);
    assert!(partition["state"] == "flapping" && partition["reason"] == reason, "{reason}: {partition:#}");
    agent.stop().await;
    fleet.hub.document_with_passes("200ms", &flapping_within("2s"));
    fleet.beat().await;
    agent = fleet.hub.agent();
    let url = admin_url(&agent).await;
    until_state(&mut fleet, &url, |state| state == "live").await;
    fleet.until(&url, &["partitions{state=\"flapping\"} 0"]).await;
    let sent = changes(&fleet.hub, &mut read);
    assert!(sent.is_empty(), "{sent:#?}");
    assert_eq!(fleet.hub.content().await, before);
    fleet.end(agent).await;
}

/// A beat is as old as the hub says that gave it its time, whatever the writer's Timestamp and the clock of the hub's agent say.
#[tokio::test]
async fn partitions_whose_clocks_are_hours_from_the_hubs_are_federated_and_told_of() {
    for (minutes_ahead, direction) in [(-180, "ahead of"), (180, "behind")] {
        let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
        fleet.hub.set_clock(minutes_ahead);
        let document = fleet.hub_document();
        let run = async |how: &str| {
            let mut agent = fleet.start_agent("agent-hub", &document, &[how]);
            let code = agent.exited_within(SOON).await.code();
            (code, agent.output())
        };
        let (code, output) = run("--once").await;
        assert_eq!(code, Some(3), "nobody has beaten yet: {output}");
        for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
            let document = fleet.partition_document(region, server);
            let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
            assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
        }
        // One that sees them for the first time, and one that finds them federated.
        for _ in 0..2 {
            let (code, output) = run("--once").await;
            assert_eq!(code, Some(0), "{minutes_ahead} min: {output}");
            let told = format!("{direction} the hub's clock");
            for server in &fleet.partitions {
                let is_told = output.lines().any(|line| line.contains(&server.url) && line.contains(&told));
                assert!(is_told, "{} is not {told}: {output}", server.url);
            }
            let regions = fleet.hub.query("Logs", REGIONS_SEEN).await.expect("the hub answers");
            assert_eq!(regions.column("Region"), ["america", "asia", "europe"], "{minutes_ahead} min: {output}");
            let states = "federation_status() | project State, IsFresh = Silence between (0s .. 30m)";
            let states = fleet.hub.query("Logs", states).await.expect("the hub answers").text_rows();
            assert_eq!(states, [["live", "true"]; 3], "{minutes_ahead} min: {output}");
        }
        // A wrong clock is no change that is due.
        let (code, output) = run("--plan").await;
        assert_eq!((code, output.contains("Nothing has to change.")), (Some(0), true), "{minutes_ahead} min: {output}");
        for server in &fleet.partitions {
            let problem = format!("problem of {}: its heartbeat's Timestamp is ", server.url);
            let is_told = output.lines().any(|line| line.starts_with(&problem) && line.contains(direction));
            assert!(is_told, "{problem:?} is not told: {output}");
        }
        end(fleet, []).await;
    }
}

/// More than an hour passes on the hub, and seconds for its agent and for the partitions, of which one is silent.
async fn more_than_the_time_to_live_passes_on_a_hub(minutes_ahead: i64) {
    let membership = "returnAfterBeats: 1, flappingReturns: 16, removalPercent: 100";
    let fields = format!("heartbeatTTL: 1h, heartbeatInterval: 20m, membership: {{{membership}}}");
    let fleet = RowFleet::start("200ms", &fields).await;
    fleet.hub.server.set_clock(minutes_ahead);
    let (mut fleet, agent, url) = brought_to_rest(fleet).await;
    fleet.beating.remove(&4);
    // Never as much at once that a beat would be missed, or a pass be so late that its agent was blind.
    for minutes in [15, 30, 45, 60, 75] {
        fleet.hub.server.set_clock(minutes_ahead + minutes);
        fleet.beat().await;
        until_passes_over(&fleet.hub.server, 2).await;
        let content = fleet.hub.content().await;
        let is_listed = content.iter().any(|line| line.contains("127.0.0.4:1'"));
        assert!(is_listed || minutes >= 60, "after {minutes} min: {content:#?}: {}", agent.output());
    }
    until_state(&mut fleet, &url, |state| state == "expired").await;
    fleet
        .until_so(async |hub: &Hub| {
            let content = hub.content().await;
            let is_gone = !content.iter().any(|line| line.contains("127.0.0.4:1'"));
            if is_gone { Ok(()) } else { Err(format!("{content:#?}: {}", agent.output())) }
        })
        .await;
    fleet.until_at_rest(&agent).await;
    let status = get(&url, "/status").await.1;
    for host in fleet.beating.keys() {
        let partition = partition_of(&status, &format!("http://127.0.0.{host}:1"));
        assert_eq!(partition["state"], "live", "{partition:#}");
    }
    fleet.end(agent).await;
}

#[tokio::test]
async fn a_partition_that_is_silent_by_a_clock_behind_its_agents_leaves() {
    more_than_the_time_to_live_passes_on_a_hub(-180).await;
}

#[tokio::test]
async fn a_partition_that_is_silent_by_a_clock_ahead_of_its_agents_leaves() {
    more_than_the_time_to_live_passes_on_a_hub(180).await;
}

/// Whether the fourth partition is in a group.
async fn lists_the_fourth(hub: &Hub) -> bool {
    hub.content().await.iter().any(|line| line.contains("127.0.0.4:1'"))
}

/// A silence is recorded by an agent that ends. While none runs, the others beat, or the hub takes nobody's heartbeats; then another agent starts.
async fn another_agent_starts(tables: &str, was_outage: bool) {
    let fields = format!("heartbeatTTL: 1h, heartbeatInterval: 20m, {tables}");
    let mut fleet = RowFleet::start("200ms", &fields).await;
    fleet.hub.pass().await;
    fleet.beating.extend((1..=4).map(|host| (host, (vec!["A"], vec![]))));
    fleet.beat().await;
    let (code, output) = fleet.hub.pass().await;
    assert!(code == Some(0) && lists_the_fourth(&fleet.hub).await, "{output}");
    fleet.beating.remove(&4);
    for minutes in [15, 30, 45] {
        fleet.hub.server.set_clock(minutes);
        fleet.beat().await;
        let (code, output) = fleet.hub.pass().await;
        assert!(code == Some(0) && lists_the_fourth(&fleet.hub).await, "{output}");
    }
    let recorded = "AdxFederationMembers | where isnotnull(SilentSince) | project Name, State";
    assert_eq!(answer(&fleet.hub, "FleetDiscovery", recorded).await, [["http://127.0.0.4:1", "suspect"]]);

    let beaten: &[i64] = if was_outage { &[120] } else { &[60, 75, 90, 105, 120] };
    for minutes in beaten {
        fleet.hub.server.set_clock(*minutes);
        fleet.beat().await;
    }
    let (_, output) = fleet.hub.pass().await;
    assert_eq!(lists_the_fourth(&fleet.hub).await, was_outage, "{output}");
    assert_eq!(output.contains("their silence began before it did"), was_outage, "{output}");

    // From now on it is watched.
    for minutes in [135, 150, 165, 180, 195] {
        fleet.hub.server.set_clock(minutes);
        fleet.beat().await;
        let (_, output) = fleet.hub.pass().await;
        let is_kept = was_outage && minutes < 180;
        assert_eq!(lists_the_fourth(&fleet.hub).await, is_kept, "after {minutes} min: {output}");
    }
    fleet.hub.end().await;
}

#[tokio::test]
async fn a_silence_that_another_agent_recorded_is_believed_where_the_hub_took_heartbeats_meanwhile_and_only_there() {
    let all: Vec<String> = (1..=4).map(|host| format!("'http://127.0.0.{host}:1'")).collect();
    let own = format!("heartbeatTables: PerPartition, allowedPartitions: [{}]", all.join(", "));
    let shared = "heartbeatTables: Shared";
    tokio::join!(
        another_agent_starts(shared, true),
        another_agent_starts(shared, false),
        another_agent_starts(&own, true),
        another_agent_starts(&own, false),
    );
}
