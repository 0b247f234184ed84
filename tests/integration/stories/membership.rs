//! Who is in, who is out, and what never changes.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{
    fleet::{Fleet, Pace},
    kusto::KustoServer,
    process::Process,
    queries::queries,
    telemetry::REGIONS,
};
use tokio::time;

use crate::support::{
    REGIONS_SEEN, SOON, end, federated, hub_content, until_passes, until_printed, until_printed_after, until_regions,
    whole_content,
};

const GROUP: &str = ".show entity_group Logs_Partitions | project Entities";

/// Rows are gone as soon as whoever wrote them has expired.
const FORGETFUL: Pace = Pace { retention: "16s", ..Pace::LEAVING };

/// A fleet with every agent as a process of its own, so that one can be stopped.
async fn with_own_agents(pace: Pace) -> (Fleet, Process, Vec<Process>) {
    let fleet = Fleet::start(pace).await.expect("the servers take the telemetry");
    let hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &[]);
    let partitions = REGIONS.iter().zip(&fleet.partitions);
    let agents = partitions.map(|(region, server)| start(&fleet, &fleet.partition_document(region, server)));
    let agents = agents.collect();
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    (fleet, hub, agents)
}

fn start(fleet: &Fleet, document: &std::path::Path) -> Process {
    fleet.start_agent("agent-partition", document, &[])
}

/// Hub and partitions start at once: the first beats find no table, and the first pass no beat.
#[tokio::test]
async fn a_fresh_fleet_is_federated_soon_however_long_its_intervals_are() {
    let fleet = Fleet::start(Pace::AT_REST).await.expect("the servers take the telemetry");
    let operator = fleet.start_operator();
    let all = ["america", "asia", "europe"];
    fleet.hub_until("Logs", REGIONS_SEEN, SOON * 3, |table| table.column("Region") == all).await;
    until_printed(&operator, "neither allowedPartitions nor allowedPartitionPattern is set").await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn functions_groups_and_joins_of_groups_answer_with_rows_of_every_partition() {
    let (fleet, operator) = federated().await;
    whole_content(&fleet).await;
    for query in queries(&fleet) {
        let table = fleet.hub.query(query.database, query.text).await.expect("the hub answers");
        assert_eq!(table.text_rows(), query.expected, "{}", query.text);
    }
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_partition_whose_server_died_leaves_the_others_answers_intact() {
    let (mut fleet, operator) = federated().await;
    fleet.partitions[1].process().kill().await;
    until_regions(&fleet, &["asia", "europe"]).await;
    let table =
        fleet.hub.query("Logs", "federated_Requests() | summarize count() by Region | order by Region asc").await;
    assert_eq!(table.expect("the hub answers from the others").column("count_"), ["60", "240"]);
    // And it comes back, empty as a server in memory does, under its old address.
    let record = fleet.recording("america-again");
    let again = KustoServer::start(fleet.partitions[1].port(), &["Logs", "Metrics"], &record, &[]).await;
    REGIONS[1].load(&again).await.expect("the server takes the telemetry");
    fleet.partitions[1] = again;
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_partition_whose_agent_stopped_is_out_after_the_ttl_and_back_when_it_beats_again() {
    let (fleet, hub, mut agents) = with_own_agents(Pace::LEAVING).await;
    fleet.partitions[0]
        .command("Logs", ".create table OnlyEurope (a:long)")
        .await
        .expect("the partition takes a table");
    let only = ".show functions | where Name == 'federated_OnlyEurope'";
    fleet.hub_until("Logs", only, SOON, |table| table.rows.len() == 1).await;
    agents[0].signal(Signal::SIGTERM);
    until_regions(&fleet, &["america", "asia"]).await;
    fleet.hub_until("Logs", only, SOON, |table| table.rows.is_empty()).await;
    let url = &fleet.partitions[0].url;
    // The group is in every hub database.
    fleet.hub_until("Metrics", GROUP, SOON, |table| !table.column("Entities")[0].contains(url.as_str())).await;
    agents.push(start(&fleet, &fleet.partition_document(&REGIONS[0], &fleet.partitions[0])));
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    fleet.hub_until("Logs", only, SOON, |table| table.rows.len() == 1).await;
    end(fleet, agents.into_iter().chain([hub])).await;
}

#[tokio::test]
async fn a_persons_own_functions_and_groups_stay_as_they_are() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let mine = [
        ".create function federated_Requests() { print Mine = 1 }",
        ".create function federated_Old() { print Mine = 2 }",
        ".create entity_group Metrics_Partitions (cluster('https://mine.kusto.windows.net').database('Metrics'))",
        ".create entity_group Old_Partitions (cluster('https://mine.kusto.windows.net').database('Old'))",
    ];
    for command in mine {
        fleet.hub.command("Logs", command).await.expect("the hub takes the command");
    }
    let before = hub_content(&fleet).await;
    let operator = fleet.start_operator();
    let made = "federated_ApplicationLogs() | count";
    fleet.hub_until("Logs", made, SOON, |table| table.column("Count") == ["30"]).await;
    until_passes(&fleet, 4).await;
    let after = hub_content(&fleet).await;
    assert!(before.iter().all(|line| after.contains(line)), "before {before:#?} after {after:#?}");
    until_printed(&operator, "was not made by us and is left alone").await;
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn when_all_agents_stop_nothing_is_ever_removed() {
    let (fleet, hub, agents) = with_own_agents(Pace::LEAVING).await;
    let before = whole_content(&fleet).await;
    for agent in &agents {
        agent.signal(Signal::SIGSTOP);
    }
    // Past the TTL by several passes.
    until_printed(&hub, "none of the 3 partition(s) in the heartbeat table has a beat younger than heartbeatTTL").await;
    until_passes(&fleet, 4).await;
    assert_eq!(hub_content(&fleet).await, before);
    // One comes back: the others have one time to live for it, and the next comes in that time.
    agents[0].signal(Signal::SIGCONT);
    until_printed(&hub, "beats have returned to a fleet that was held: 2 expired partition(s) stay federated").await;
    until_passes(&fleet, 2).await;
    assert_eq!(hub_content(&fleet).await, before);
    agents[1].signal(Signal::SIGCONT);
    // The third does not, and is believed to be gone in the end.
    until_regions(&fleet, &["america", "europe"]).await;
    agents[2].signal(Signal::SIGCONT);
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    end(fleet, agents.into_iter().chain([hub])).await;
}

#[tokio::test]
async fn nothing_is_removed_even_when_the_last_row_is_gone() {
    let (fleet, hub, agents) = with_own_agents(FORGETFUL).await;
    let before = whole_content(&fleet).await;
    // A hub that starts before its partitions says so, too.
    let printed = hub.output().len();
    for agent in &agents {
        agent.signal(Signal::SIGSTOP);
    }
    fleet.hub_until("FleetDiscovery", "Heartbeats | count", SOON, |table| table.column("Count") == ["0"]).await;
    until_printed_after(&hub, printed, "the heartbeat table has no heartbeat").await;
    assert_eq!(hub_content(&fleet).await, before);
    // The first to come back does not push the others out.
    agents[0].signal(Signal::SIGCONT);
    until_printed(&hub, "beats have returned to a fleet that was held: 2 expired partition(s) stay federated").await;
    assert_eq!(hub_content(&fleet).await, before);
    for agent in &agents {
        agent.signal(Signal::SIGCONT);
    }
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    end(fleet, agents.into_iter().chain([hub])).await;
}

#[tokio::test]
async fn functions_are_made_as_the_document_says() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let document = std::fs::read_to_string(fleet.hub_document()).expect("just written");
    let document = document
        .replace("functionPrefix: federated_", "functionPrefix: every_")
        .replace("bestEffort: true", "bestEffort: false")
        .replace("folder: federation_facades", "folder: 'of the fleet'");
    let hub = fleet.start_agent("agent-hub", &fleet.write_document("other-settings", &document), &[]);
    let partitions = REGIONS.iter().zip(&fleet.partitions);
    let agents: Vec<_> =
        partitions.map(|(region, server)| start(&fleet, &fleet.partition_document(region, server))).collect();
    let all = "every_Requests() | distinct Region | order by Region asc";
    fleet.hub_until("Logs", all, SOON, |table| table.column("Region") == ["america", "asia", "europe"]).await;
    let functions = fleet
        .hub
        .command("Logs", ".show functions | where Name != 'federation_status' | project Name, Folder, Body")
        .await;
    let functions = functions.expect("the hub answers");
    assert_eq!(functions.column("Folder"), ["of the fleet", "of the fleet"]);
    assert!(functions.column("Name").iter().all(|name| name.starts_with("every_")), "{functions:?}");
    assert!(functions.column("Body").iter().all(|body| !body.contains("best_effort=true")), "{functions:?}");
    // Without best effort a partition that is down fails the query, rather than being left out.
    let mut fleet = fleet;
    fleet.partitions[0].process().kill().await;
    fleet.hub.query("Logs", all).await.expect_err("the partition is down");
    end(fleet, agents.into_iter().chain([hub])).await;
}

#[tokio::test]
async fn a_hub_at_rest_is_not_written_to() {
    /// As many passes as show that nothing comes each so many.
    const PASSES: usize = 8;
    let (fleet, operator) = federated().await;
    // A beat that goes by command, as the first ones do, is a partition's.
    let is_write = |text: &String| !text.starts_with(".show") && !text.contains("into table ['Heartbeats']");
    let writes = |from: usize| commands(&fleet).into_iter().skip(from).filter(is_write).collect::<Vec<_>>();
    // The last change may still be under way.
    let deadline = time::Instant::now() + SOON * 2;
    loop {
        let before = commands(&fleet).len();
        until_passes(&fleet, PASSES).await;
        let written = writes(before);
        if written.is_empty() {
            break;
        }
        assert!(time::Instant::now() < deadline, "{written:#?}");
    }
    let before = commands(&fleet).len();
    until_passes(&fleet, 2 * PASSES).await;
    assert_eq!(writes(before), [""; 0]);
    end(fleet, [operator]).await;
}

/// The management commands that the hub has been sent.
fn commands(fleet: &Fleet) -> Vec<String> {
    let recording = std::fs::read_to_string(&fleet.hub.recording).expect("its file can be read");
    // The last line may be on its way.
    let lines = recording.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .filter(|line| line["path"].as_str().is_some_and(|path| path.ends_with("/mgmt")))
        .filter_map(|line| line["csl"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn what_an_earlier_process_watched_is_remembered_by_the_next() {
    /// Longer than the time to live.
    const LONG: Duration = Duration::from_secs(16);
    let fleet = Fleet::start(Pace::LEAVING).await.expect("the servers take the telemetry");
    let document = fleet.hub_document();
    let once = async || {
        let mut hub = fleet.start_agent("agent-hub", &document, &["--once"]);
        let code = hub.exited_within(SOON).await.code();
        (code, hub.output())
    };
    once().await;
    let mut agents: Vec<_> = REGIONS
        .iter()
        .zip(&fleet.partitions)
        .map(|(region, server)| fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &[]))
        .collect();
    let europe = fleet.partitions[0].url.clone();
    let judged = async |columns: &str, filter: &str| {
        let text = format!("federation_status() | where {filter} | project {columns}");
        fleet.hub.query("Logs", &text).await.expect("the hub answers").text_rows()
    };
    // One may beat later than another, or first without a schema.
    let deadline = time::Instant::now() + SOON;
    while once().await.0 != Some(0) || judged("State", "isnotempty(Partition)").await != [["live"]; 3] {
        assert!(time::Instant::now() < deadline, "they beat and are not live");
    }
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    agents.remove(0).stop().await;
    time::sleep(LONG).await;
    // Nobody judges it now, and the times are there for whoever asks.
    let times = "State, Reason, IsLate = Silence between (15s .. 5m), IsRight = LastHeartbeat between (now() - 5m .. now() - 15s)";
    let silent = judged(times, &format!("Partition == '{europe}'")).await;
    let reason = "it was live and has been silent for longer than heartbeatTTL, and no hub agent has judged it since: ";
    let stopped = format!("{reason}see whether agent-hub runs");
    assert_eq!(silent, [["unknown", stopped.as_str(), "true", "true"]]);
    // As an agent records it that runs, and sees nothing.
    let time = "2026-01-01T00:00:00Z";
    let guard = format!("{time},Guard,incomplete_read,active,{time},,[],no answer,0,,,\n");
    let guard = format!(".ingest inline into table AdxFederationMembers <|\n{guard}");
    fleet.hub.command("FleetDiscovery", &guard).await.expect("the hub takes the row");
    let blind = judged("State, Reason, Guards", &format!("Partition == '{europe}'")).await;
    let why =
        format!("{reason}agent-hub could not read the heartbeats when it last looked, see Guards, or does not run");
    assert_eq!(blind, [["unknown", why.as_str(), "incomplete_read"]]);
    let beating = "IsFresh = Silence between (-1s .. 15s), IsRight = LastHeartbeat between (now() - 15s .. now() + 1s)";
    let beating = judged(beating, &format!("Partition != '{europe}'")).await;
    assert_eq!(beating, [["true", "true"], ["true", "true"]]);
    // Its silence began while nobody watched.
    let (code, output) = once().await;
    assert_eq!(
        (code, output.contains("until this agent has watched for one heartbeatTTL")),
        (Some(3), true),
        "{output}"
    );
    assert_eq!(judged("Guards", &format!("Partition == '{europe}'")).await, [["startup_grace"]]);
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    time::sleep(LONG).await;
    // A process that has watched for no longer than the one before; but that one wrote down since when.
    let (code, output) = once().await;
    assert_eq!(code, Some(0), "{output}");
    until_regions(&fleet, &["america", "asia"]).await;
    end(fleet, agents).await;
}
