//! Restarts and sudden deaths.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tests::{
    docs::{blocks, read},
    fleet::{Fleet, HUB_DATABASES, Pace},
    kusto::KustoServer,
    loopback,
    process::Process,
    telemetry::REGIONS,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time,
};

use crate::{
    faulty_hub::Hub,
    support::{
        SOON, end, federated, hub_content, judge, until_all_beat_anew, until_passes, until_printed, until_regions,
        verdict, whole_content,
    },
};

#[tokio::test]
async fn a_hub_server_that_lost_everything_is_filled_again() {
    let (mut fleet, operator) = federated().await;
    let port = fleet.hub.port();
    fleet.hub.process().kill().await;
    time::sleep(Duration::from_secs(1)).await;
    let record = fleet.recording("hub-again");
    fleet.hub = KustoServer::start(port, &HUB_DATABASES, &record, &[]).await;
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    end(fleet, [operator]).await;
}

/// The members of the hub's group of Logs, sorted.
async fn group_members(fleet: &Fleet) -> Vec<String> {
    let shown = fleet.hub.command("Logs", ".show entity_group Logs_Partitions | project Entities").await;
    let text = shown.expect("the group is there").column("Entities").remove(0);
    let mut members: Vec<String> = serde_json::from_str(&text).expect("it is a list of texts");
    members.sort();
    members
}

#[tokio::test]
async fn every_agent_may_be_killed_and_the_fleet_is_whole_again_and_so_is_a_group_that_a_person_changed() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &[]);
    let mut agents = Vec::new();
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        agents.push(fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &[]));
    }
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    let before = whole_content(&fleet).await;
    for (agent, (region, server)) in agents.iter_mut().zip(REGIONS.iter().zip(&fleet.partitions)) {
        agent.kill().await;
        *agent = fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &[]);
    }
    hub.kill().await;
    let hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &[]);
    until_printed(&hub, "pass ended").await;
    assert_eq!(hub_content(&fleet).await, before);
    // What a person does to a group of ours while the agent runs is undone and told.
    let whole = group_members(&fleet).await;
    assert_eq!(whole.len(), 3);
    let one = format!(".alter entity_group Logs_Partitions ({})", whole[0]);
    for (by_hand, told) in [
        (&*one, "the entity group 'Logs_Partitions' in 'Logs' was changed by somebody and is put back"),
        (
            ".drop entity_group Logs_Partitions",
            "the entity group 'Logs_Partitions' in 'Logs' was removed by somebody and is made again",
        ),
    ] {
        fleet.hub.command("Logs", by_hand).await.expect("the hub does what a person says");
        until_printed(&hub, told).await;
        assert_eq!(group_members(&fleet).await, whole, "after {by_hand}");
    }
    // So is what becomes of its tables: when the question over one has no answer, it looks at all.
    for by_hand in
        [".alter-merge table AdxFederationObjects policy retention softdelete = 1d", ".drop table Heartbeats"]
    {
        fleet.hub.command("FleetDiscovery", by_hand).await.expect("the hub does what a person says");
    }
    for told in [
        "the table 'Heartbeats' in 'FleetDiscovery' was removed by somebody and is made again: .create-merge table",
        "the table 'AdxFederationObjects' in 'FleetDiscovery' was changed by somebody and is put back: .alter-merge table",
    ] {
        until_printed(&hub, told).await;
    }
    let output = hub.output();
    assert!(!output.contains("'Heartbeats' in 'FleetDiscovery' was changed"), "its policies come with it: {output}");
    // Of whom no heartbeat is there yet, a new function would ask what it may not have.
    let all = "Heartbeats | distinct ClusterEndpoint";
    fleet.hub_until("FleetDiscovery", all, SOON, |table| table.rows.len() == fleet.partitions.len()).await;
    until_passes(&fleet, 2).await;
    until_all_beat_anew(&fleet).await;
    assert_eq!(group_members(&fleet).await, whole);
    end(fleet, agents.into_iter().chain([hub])).await;
}

/// When each pass began that has ended, by a log in JSON.
fn passes(log: &str) -> Vec<Timestamp> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let began = |line: serde_json::Value| {
        let ended: Timestamp = line["timestamp"].as_str()?.parse().ok()?;
        Some(ended - SignedDuration::from_secs_f64(line["seconds"].as_f64()?))
    };
    lines.filter(|line| line["message"] == "pass ended").filter_map(began).collect()
}

#[tokio::test]
async fn agents_work_by_cron_and_exit_0_when_they_are_asked_to_stop() {
    let fleet = Fleet::start(Pace { heartbeat: "1m", ..Pace::FAST }).await;
    let fleet = fleet.expect("the servers take the telemetry");
    let by_cron = |document: std::path::PathBuf, name: &str, interval: &str, schedule: &str| {
        let text = std::fs::read_to_string(document).expect("just written");
        assert!(text.contains(interval), "{text}");
        fleet.write_document(name, &text.replace(interval, schedule))
    };
    let hub = by_cron(fleet.hub_document(), "hub-cron", "reconcileInterval: 500ms", "reconcileSchedule: '* * * * *'");
    let partition = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let partition = by_cron(partition, "partition-cron", "heartbeatInterval: 1m", "heartbeatSchedule: '* * * * *'");
    // The first pass by an interval comes within two seconds: far from a minute's end, it cannot be taken for one by cron.
    while Timestamp::now().as_second() % 60 > 50 {
        time::sleep(Duration::from_millis(200)).await;
    }
    let json = ["--log-format", "json"];
    let started = Timestamp::now();
    let mut agents =
        [fleet.start_agent("agent-hub", &hub, &json), fleet.start_agent("agent-partition", &partition, &json)];
    // The pass of a minute begins with it. One that is late on a busy machine is followed by the next minute's.
    let is_punctual = |began: &Timestamp| began.as_second() % 60 < 5;
    let deadline = time::Instant::now() + Duration::from_secs(5 * 60);
    for agent in &agents {
        while !passes(&agent.output()).iter().any(is_punctual) {
            assert!(time::Instant::now() < deadline, "{}", agent.output());
            time::sleep(Duration::from_millis(100)).await;
        }
        let first = passes(&agent.output())[0];
        assert!(first.as_second() / 60 > started.as_second() / 60, "it waits for the minute:\n{}", agent.output());
    }
    // The first pass is not the last one.
    time::sleep(Duration::from_secs(1)).await;
    for agent in &mut agents {
        assert_eq!(agent.ended(), None, "{}", agent.output());
    }
    for agent in &mut agents {
        agent.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    }
    end(fleet, []).await;
}

/// The command under each change of a plan that was printed.
fn printed_commands(output: &str) -> Vec<String> {
    let mut commands = Vec::<String>::new();
    for line in output.lines() {
        if ["create ", "alter ", "drop "].iter().any(|action| line.starts_with(action)) {
            commands.push(String::new());
        } else if let (Some(command), Some(part)) = (commands.last_mut(), line.strip_prefix("    ")) {
            command.push_str(if command.is_empty() { "" } else { "\n" });
            command.push_str(part);
        }
    }
    commands
}

#[tokio::test]
async fn once_and_plan_tell_by_their_exit_codes_what_happened() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let document = fleet.hub_document();
    let run = async |more: &[&str]| {
        let mut agent = fleet.start_agent("agent-hub", &document, more);
        let status = agent.exited_within(SOON).await.code();
        (status, agent.output())
    };
    let (code, output) = run(&["--plan"]).await;
    assert_eq!(code, Some(0), "{output}");
    let recording = std::fs::read_to_string(&fleet.hub.recording).expect("the file is there");
    for line in recording.lines() {
        let sent: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        assert!(sent["csl"].as_str().is_some_and(|text| text.starts_with(".show")), "a plan only looks: {line}");
    }
    assert!(output.contains("set up: .create-merge table ['Heartbeats']"), "{output}");
    let hash = output.lines().find_map(|line| line.strip_prefix("plan "));
    assert!(hash.is_some_and(|hash| hash.len() == 12), "{output}");
    let (code, output) = run(&["--once"]).await;
    assert_eq!(code, Some(3), "no partition has beaten yet: {output}");
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        let mut agent = fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &["--once"]);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    }
    let (code, output) = run(&["--plan"]).await;
    assert_eq!(code, Some(0), "{output}");
    let group =
        output.find("create entity group Logs_Partitions in Logs: 3 partition(s)").expect("the plan shows the group");
    let function = output.find("create function federated_Requests in Logs").expect("the plan shows the function");
    assert!(group < function, "groups come before functions:\n{output}");
    assert!(hub_content(&fleet).await.is_empty(), "a plan changes nothing");
    // Two groups in each of three databases, a function of each table, and `federation_status`.
    let commands = printed_commands(&output);
    assert_eq!(commands.len(), 12, "{output}");
    assert_eq!(run(&["--once"]).await.0, Some(0));
    let recording = std::fs::read_to_string(&fleet.hub.recording).expect("the file is there");
    let sent = recording.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON"));
    let sent: Vec<String> = sent.map(|line| line["csl"].as_str().unwrap_or_default().to_owned()).collect();
    for command in commands {
        let is_sent = command.starts_with('.') && sent.iter().any(|text| text.contains(&command));
        assert!(is_sent, "what was made is what was shown: {command}");
    }
    let (code, output) = run(&["--plan"]).await;
    assert_eq!((code, output.contains("Nothing has to change.")), (Some(0), true), "{output}");
    // A pod may be given an older document than it was made for: it is started again until it has the right one, and does nothing with another.
    let (code, output) = run(&["--once", "--document=0123456789abcdef"]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("not the document that the pod was made for") && output.contains("0123456789abcdef"),
        "{output}"
    );
    let (_, output) = run(&["--once", "--log-format", "json"]).await;
    let is_json = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object());
    assert!(output.lines().count() > 0 && output.lines().all(is_json), "{output}");
    assert_eq!(run(&["--once"]).await.0, Some(0), "also when nothing had to change");
    let wrong =
        fleet.write_document("wrong", &std::fs::read_to_string(&document).unwrap().replace("TTL: 1h", "TTL: 1s"));
    let mut agent = fleet.start_agent("agent-hub", &wrong, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(2));
    assert!(agent.output().contains("spec.federation.heartbeatTTL"), "{}", agent.output());
    end(fleet, []).await;
}

/// Policies of a table in the heartbeat database, as JSON text.
async fn policies(fleet: &Fleet) -> Vec<String> {
    let mut policies = Vec::new();
    for (entity, policy) in [
        ("table Heartbeats", "retention"),
        ("table Heartbeats", "caching"),
        ("table Heartbeats", "streamingingestion"),
        ("column Heartbeats.Schema", "encoding"),
        ("table AdxFederationObjects", "retention"),
    ] {
        let shown =
            fleet.hub.command("FleetDiscovery", &format!(".show {entity} policy {policy} | project Policy")).await;
        policies.extend(shown.expect("the hub shows its policies").column("Policy"));
    }
    policies
}

#[tokio::test]
async fn the_heartbeat_table_has_its_policies_and_gets_them_back() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let once = async |document: &std::path::Path| {
        let mut agent = fleet.start_agent("agent-hub", document, &["--once"]);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(3), "no heartbeat yet: {}", agent.output());
    };
    let document = fleet.hub_document();
    once(&document).await;
    let made = policies(&fleet).await;
    for (policy, part) in
        made.iter().zip(["7.00:00:00", "1.00:00:00", "\"IsEnabled\":true", "BigObject32", "36500.00:00:00"])
    {
        assert!(policy.replace(' ', "").contains(part), "{part} in {policy}");
    }
    for command in [
        ".alter-merge table Heartbeats policy retention softdelete = 1d",
        ".alter table Heartbeats policy caching hot = 2d",
        ".alter table Heartbeats policy streamingingestion disable",
        ".alter column Heartbeats.Schema policy encoding type='Null'",
        ".alter-merge table AdxFederationObjects policy retention softdelete = 1d",
    ] {
        fleet.hub.command("FleetDiscovery", command).await.expect("the hub takes the policy");
    }
    assert!(policies(&fleet).await.iter().zip(&made).all(|(spoilt, made)| spoilt != made));
    once(&document).await;
    assert_eq!(policies(&fleet).await, made);
    let longer = std::fs::read_to_string(&document).expect("just written").replace("Retention: 7d", "Retention: 9d");
    once(&fleet.write_document("longer", &longer)).await;
    assert!(policies(&fleet).await[0].contains("9.00:00:00"));
    end(fleet, []).await;
}

#[tokio::test]
async fn a_table_of_something_else_that_a_document_names_by_mistake_keeps_its_rows_and_its_policies() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    for command in [
        ".create table Orders (Timestamp:datetime, Amount:decimal)",
        ".alter-merge table Orders policy retention softdelete = 3650d",
    ] {
        fleet.hub.command("FleetDiscovery", command).await.expect("the hub takes a table");
    }
    let policy = async || {
        let policy = fleet.hub.command("FleetDiscovery", ".show table Orders policy retention | project Policy").await;
        policy.expect("it has one").column("Policy").remove(0)
    };
    let (before, document) = (policy().await, std::fs::read_to_string(fleet.hub_document()).expect("just written"));
    let wrong = document.replace("heartbeatTable: Heartbeats", "heartbeatTable: Orders");
    let wrong = fleet.write_document("wrong", &wrong);
    for how in ["--plan", "--once"] {
        let mut agent = fleet.start_agent("agent-hub", &wrong, &[how]);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(1), "{how}: {}", agent.output());
        let told = "the table 'Orders' in 'FleetDiscovery' has not the columns of heartbeats (Timestamp:datetime, ClusterEndpoint:string";
        assert!(agent.output().contains(told), "{how}: {}", agent.output());
        assert_eq!(policy().await, before, "{how}");
    }
    end(fleet, []).await;
}

#[tokio::test]
async fn a_schema_of_more_than_a_mebibyte_is_federated() {
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let hub = fleet.hub_document();
    let mut agent = fleet.start_agent("agent-hub", &hub, &["--once"]);
    agent.exited_within(SOON).await;
    let columns: Vec<String> = (0..100).map(|number| format!("A{}_{number}:string", "Long".repeat(230))).collect();
    let columns = columns.join(", ");
    for table in 0..13 {
        let command = format!(".create table Wide_{table} ({columns})");
        fleet.partitions[0].command("Logs", &command).await.expect("the partition takes the table");
    }
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let mut agent = fleet.start_agent("agent-partition", &document, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    let length = fleet.hub.query("FleetDiscovery", "Heartbeats | project Length = strlen(tostring(Schema))").await;
    let length: usize = length.expect("the hub answers").column("Length")[0].parse().expect("a length is a number");
    assert!(length > 1 << 20, "{length} bytes");
    let mut agent = fleet.start_agent("agent-hub", &hub, &["--once"]);
    assert_eq!(agent.exited_within(SOON).await.code(), Some(0), "{}", agent.output());
    let wide = fleet.hub.query("Logs", "federated_Wide_12 | count").await;
    assert_eq!(wide.expect("the function is there").column("Count"), ["0"]);
    end(fleet, []).await;
}

#[tokio::test]
async fn the_local_server_takes_its_arguments_and_prints_one_line() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let record = |name: &str| folder.path().join(format!("{name}.jsonl"));
    let mut server = KustoServer::start(0, &["Logs", "My Metrics"], &record("first"), &["--delay", "300"]).await;
    let started = std::time::Instant::now();
    let databases = server.command("Logs", ".show databases | project DatabaseName | order by DatabaseName asc").await;
    assert_eq!(databases.expect("it answers").column("DatabaseName"), ["Logs", "My Metrics"]);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    let port = server.port();
    server.process().stop().await;
    let mut again = KustoServer::start(port, &[], &record("again"), &[]).await;
    assert_eq!(again.port(), port);
    again.process().stop().await;
    judge(folder.path());
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    // Its one line is its URL, whatever it is asked.
    let record = folder.path().join("one-line.jsonl").display().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--database", "Logs", "--record", &record].map(str::to_owned);
    let (mut server, stdout) = Process::start_with_stdout("kusto-local", "kusto-local", &arguments);
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await.expect("a pipe can be read").expect("it prints a line");
    let url =
        line.split_whitespace().find(|word| word.starts_with("http://")).expect("the line has its URL").to_owned();
    for csl in ["print 1", "print 'it is not closed"] {
        let ask = loopback::client().post(format!("{url}/v2/rest/query"));
        ask.json(&serde_json::json!({"db": "Logs", "csl": csl})).send().await.expect("it answers");
    }
    server.stop().await;
    assert_eq!(lines.next_line().await.expect("a pipe can be read"), None);
    let verdict = verdict(folder.path());
    assert_eq!((verdict.texts, verdict.refused.len(), verdict.refused_by_both.len()), (2, 0, 1));
}

#[tokio::test]
async fn a_hub_that_is_left_as_the_guide_says_has_nothing_of_ours() {
    let hub = Hub::start().await;
    hub.document("entityGroups: [{by: geo}]");
    let hosts: Vec<String> = (1..=12).map(|host| host.to_string()).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let schema = json!([{"database": "Logs", "tables": ["A"]}, {"database": "Metrics", "tables": ["M"]}]);
    hub.beat_of(&hosts, &schema).await;
    let (code, output) = hub.pass().await;
    assert!(code == Some(0) && hub.content().await.iter().any(|line| line.contains("federated_M")), "{output}");
    // All at once, which no silence could do.
    let blocked: Vec<String> = hosts.iter().map(|host| format!("'http://127.0.0.{host}:1'")).collect();
    hub.document(&format!("entityGroups: [{{by: geo}}], blockedPartitions: [{}]", blocked.join(", ")));
    let (code, output) = hub.pass().await;
    assert_eq!((code, hub.content().await), (Some(0), Vec::new()), "{output}");

    let guide = read("OPERATIONS.md");
    let leaving = guide.split("## To leave").nth(1).expect("the guide says how");
    let (_, commands) = blocks(leaving).find(|(language, _)| *language == "kusto").expect("it says what is dropped");
    for command in commands.lines() {
        let databases: &[&str] =
            if command.contains("function") { &["FleetDiscovery", "Logs", "Metrics"] } else { &["FleetDiscovery"] };
        for database in databases {
            hub.server.command(database, command).await.expect("it is there");
        }
    }
    for database in ["FleetDiscovery", "Logs", "Metrics"] {
        for shown in [".show functions", ".show entity_groups", ".show tables"] {
            let left = hub.server.command(database, shown).await.expect("the hub answers");
            assert_eq!(left.rows.len(), 0, "{shown} in {database}: {left:?}");
        }
    }
    hub.end().await;
}
