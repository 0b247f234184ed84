//! Schemas that are large: all of them together are more than one answer may hold, or one is more than any may be. The hub makes the rows itself, so that only the agent
//! is sent them.

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use tests::process::Process;

use crate::{
    admin::{admin_url, get, partition_of, refused, until},
    faulty_hub::Hub,
};

/// The partitions whose numbers are the first to the last beat, with the schema that an expression makes of a `Number`. Their clocks are right.
pub(crate) async fn beat(hub: &Hub, numbers: (u32, u32), schema: &str) {
    beat_made_of(hub, numbers, ["", ""], schema).await;
}

/// The same, with what is said before the numbers, and what is made of them.
async fn beat_made_of(hub: &Hub, (first, last): (u32, u32), [before, made]: [&str; 2], schema: &str) {
    let command = format!(
        ".set-or-append Heartbeats <| {before}range Number from {first} to {last} step 1 {made}| project Timestamp = now(), ClusterEndpoint = strcat('http://127.0.0.', Number, ':1'), Schema = {schema}, PartitionMetadata = dynamic({{\"geo\": \"EU\"}})"
    );
    hub.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
}

/// A schema of about so many MiB, most of which is what no hub asks for.
pub(crate) fn long(tables: &str, mebibytes: u32) -> String {
    let note = format!("strrep(strrep(strrep('x', 1000 + Number), 1024), {mebibytes})");
    format!("parse_json(strcat('[{{\"database\": \"Logs\", \"tables\": [{tables}], \"note\": \"', {note}, '\"}}]'))")
}

fn short(tables: &str) -> String {
    format!("dynamic([{{\"database\": \"Logs\", \"tables\": [{tables}]}}])")
}

/// A result that is longer is cut, by Kusto and by the local one, where a request does not say otherwise.
const CAP: u64 = 64 * 1024 * 1024;

/// How long each answer was that told an agent of schemas and attributes.
fn pages(hub: &Hub) -> Vec<u64> {
    /// Part of that query, and of no other text that an agent sends.
    const SCHEMAS: &str = "MetadataText";
    let recording = fs::read_to_string(&hub.server.recording).expect("the recording can be read");
    let lines = recording.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let asked = lines.filter(|line| line["csl"].as_str().is_some_and(|text| text.contains(SCHEMAS)));
    asked.map(|line| line["response_bytes"].as_u64().expect("an answer has a length")).collect()
}

#[tokio::test]
async fn schemas_that_are_more_than_one_answer_may_hold_are_read_in_pages_and_give_all_functions() {
    const PARTITIONS: u32 = 24;
    let hub = Hub::start().await;
    beat(&hub, (1, PARTITIONS), &long("\"All\", \"Only', Number, '\"", 3)).await;
    let bytes = "Heartbeats | extend Bytes = strlen(tostring(Schema)) | summarize Bytes = sum(Bytes)";
    let bytes = hub.server.query("FleetDiscovery", bytes).await.expect("the hub answers").column("Bytes").remove(0);
    assert!(bytes.parse::<u64>().expect("it is a number") > CAP, "{bytes} bytes are no more than one answer may hold");

    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    let pages = pages(&hub);
    assert!(pages.len() > 1 && pages.iter().all(|page| *page < CAP / 8), "{pages:?}");
    assert!(pages.iter().sum::<u64>() > CAP, "{pages:?}");

    let content = hub.content().await;
    let functions: Vec<&String> = content.iter().filter(|line| line.contains("federated_")).collect();
    let group = content.iter().find(|line| line.contains("Logs_Partitions")).expect("the group is there");
    for number in 1..=PARTITIONS {
        assert!(group.contains(&format!("'http://127.0.0.{number}:1'")), "{number}: {group}");
        assert!(
            functions.iter().any(|line| line.contains(&format!("federated_Only{number}\""))),
            "{number}: {content:#?}"
        );
    }
    assert!(functions.iter().any(|line| line.contains("federated_All\"")), "{functions:?}");
    assert_eq!(functions.len(), 25, "{functions:?}");
    // Whoever asks all is answered from a list of all; and nothing was refused of anyone.
    let bodies = ".show functions | where Name in ('federated_All', 'federated_Only24') | project Name, Body | order by Name asc";
    let bodies = hub.server.command("Logs", bodies).await.expect("the hub answers").column("Body");
    assert!(bodies[0].contains("Logs_Partitions") && bodies[1].contains("'http://127.0.0.24:1'"), "{bodies:?}");
    assert!(!bodies[1].contains("'http://127.0.0.23:1'"), "{bodies:?}");
    let status = hub.server.query("Logs", "federation_status() | distinct State, Reason").await;
    assert_eq!(status.expect("the hub answers").text_rows(), [["live", ""]]);
    hub.end().await;
}

#[tokio::test]
async fn attributes_count_as_schemas_do_and_keep_nobody_from_being_read() {
    const PARTITIONS: u32 = 200;
    let hub = Hub::start().await;
    // By characters they would be a third of what they are by bytes. The last has more than is read of one.
    let command = format!(
        ".set-or-append Heartbeats <| range Number from 1 to {PARTITIONS} step 1 | extend Long = strrep(strrep('\u{8a9e}', 1000), iff(Number == {PARTITIONS}, 60, 21)) | project Timestamp = now(), ClusterEndpoint = strcat('http://127.0.0.', Number, ':1'), Schema = {}, PartitionMetadata = parse_json(strcat('{{\"made-up\": \"', Long, '\"}}'))",
        short("\"A\"")
    );
    hub.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    let pages = pages(&hub);
    assert!(pages.iter().all(|page| *page < CAP / 8), "{pages:?}");
    assert!(pages.iter().sum::<u64>() > 12_000_000, "{pages:?}");
    let content = hub.content().await;
    let group = content.iter().find(|line| line.contains("Logs_Partitions")).expect("the group is there");
    let left_out: Vec<_> =
        (1..=PARTITIONS).filter(|number| !group.contains(&format!("'http://127.0.0.{number}:1'"))).collect();
    assert_eq!(left_out, [0; 0]);
    let told = "federation_status() | where Reason contains 'longer than 64 KiB' | project Partition, Reason";
    let told = hub.server.query("Logs", told).await.expect("the hub answers").text_rows();
    assert!(told.len() == 1 && told[0][0].contains("127.0.0.200:"), "{told:?}");
    hub.end().await;
}

#[tokio::test]
async fn a_schema_beyond_all_reason_is_refused_by_its_length_and_harms_no_other() {
    const LONG: &str = "http://127.0.0.3:1";
    let refused = |count: usize| format!("adx_federation_refused_heartbeats{{reason=\"content\"}} {count}");
    let has = |metrics: &str, sample: &str| metrics.lines().any(|line| line == sample);
    let hub = Hub::start().await;
    hub.document_with_passes("1s", "entityGroups: [{by: geo}]");
    beat(&hub, (1, 3), &short("\"A\"")).await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    let is_quiet = |_: u16, status: &str| status.contains("\"outcome\":\"unchanged\"");
    until(&url, "/status", is_quiet).await;
    assert!(has(&get(&url, "/metrics").await.1, &refused(0)));

    // The third has another table, and more than anyone reads. The others have it, too.
    beat(&hub, (3, 3), &long("\"A\", \"B\"", 25)).await;
    beat(&hub, (1, 2), &short("\"A\", \"B\"")).await;
    let metrics = until(&url, "/metrics", |_, metrics| has(metrics, &refused(1))).await;
    assert!(metrics.contains("adx_federation_partitions{state=\"live\"} 3"), "{metrics}");
    let members_of_b = async || {
        let body = ".show functions | where Name == 'federated_B' | project Body";
        let body = hub.server.command("Logs", body).await.expect("the hub answers").column("Body");
        body.first()
            .map(|body| ["127.0.0.1", "127.0.0.2", "127.0.0.3", "Logs_Partitions"].map(|text| body.contains(text)))
    };
    // Beside `federated_A`, and `federation_status` in three databases.
    let made = "adx_federation_changes_total{object=\"function\",action=\"create\",outcome=\"applied\"} 5";
    until(&url, "/metrics", |_, metrics| has(metrics, made)).await;
    assert_eq!(members_of_b().await, Some([true, true, false, false]), "it is of those who can be read");
    let told = partition_of(&get(&url, "/status").await.1, LONG);
    let problem = told["problems"][0].as_str().unwrap_or_default();
    let bytes = problem
        .strip_prefix("its schema and attributes have ")
        .and_then(|rest| rest.strip_suffix(" bytes, more than 25165824: they are not read"));
    assert!(bytes.is_some_and(|bytes| bytes.parse::<u32>().is_ok_and(|bytes| bytes > 25_165_824)), "{told:#}");
    // What is known of it is kept, and whoever asks in Kusto is told why it is no more.
    assert!(told["state"] == "live" && told["databases"]["Logs"] == 1, "{told:#}");
    let content = hub.content().await;
    let with_it = content.iter().filter(|line| line.contains("_Partitions") && line.contains(LONG)).count();
    assert_eq!(with_it, 4, "{content:#?}");
    let status = hub
        .server
        .query("Metrics", "federation_status() | project Partition, State, Reason | order by Partition asc")
        .await;
    let status = status.expect("the hub answers").text_rows();
    assert_eq!(status[..2], [["http://127.0.0.1:1", "live", ""], ["http://127.0.0.2:1", "live", ""]]);
    assert_eq!(status[2], [LONG, "live", problem]);

    // It says less, and is like any other.
    beat(&hub, (3, 3), &short("\"A\", \"B\"")).await;
    until(&url, "/metrics", |_, metrics| has(metrics, &refused(0))).await;
    until(&url, "/status", |_, status| partition_of(status, LONG)["databases"]["Logs"] == 2 && is_quiet(0, status))
        .await;
    assert_eq!(members_of_b().await, Some([false, false, false, true]));
    agent.stop().await;
    hub.end().await;
}

/// What is counted where something is refused of so many heartbeats, and no heartbeat as a whole.
fn counted(content: &'static str) -> BTreeMap<&'static str, &'static str> {
    let others = ["no_endpoint", "false_claim", "foreign", "untrusted"].map(|reason| (reason, "0"));
    others.into_iter().chain([("content", content)]).collect()
}

/// Of a name, nothing is repaired: made to fit, it could be another table's.
#[tokio::test]
async fn a_name_outside_kustos_rules_is_refused_alone_and_counted_as_content() {
    const WRITER: &str = "http://127.0.0.3:1";
    const NAME: &str = "B' // x";
    let hub = Hub::start().await;
    beat(&hub, (1, 3), &short("\"A\"")).await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    until(&url, "/status", |_, status| status.contains("\"outcome\":\"unchanged\"")).await;
    assert_eq!(refused(&get(&url, "/metrics").await.1), counted("0"));

    beat(&hub, (3, 3), &short(&format!("\"A\", \"{NAME}\", \"C\""))).await;
    let metrics = until(&url, "/metrics", |_, metrics| refused(metrics) == counted("1")).await;
    assert!(metrics.lines().any(|line| line == "adx_federation_partitions{state=\"live\"} 3"), "{metrics}");
    let has_c = |metrics: &str| {
        // Beside `federated_A`, and `federation_status` in three databases.
        let created = "adx_federation_changes_total{object=\"function\",action=\"create\",outcome=\"applied\"} 5";
        metrics.lines().any(|line| line == created)
    };
    until(&url, "/metrics", |_, metrics| has_c(metrics)).await;
    let content = hub.content().await;
    let functions: Vec<&String> = content.iter().filter(|line| line.contains("federated_")).collect();
    let is_there = |name: &str| functions.iter().any(|line| line.contains(&format!("\"{name}\"")));
    assert!(functions.len() == 2 && is_there("federated_A") && is_there("federated_C"), "{functions:#?}");
    let told = format!("Logs.tables[1]: the table name {NAME:?} holds '\\'': a Kusto name holds letters");
    let is_told = |status: &str| {
        let problems = &partition_of(status, WRITER)["problems"];
        problems.as_array().is_some_and(|problems| problems.len() == 1)
            && problems[0].as_str().is_some_and(|problem| problem.starts_with(&told))
    };
    let status = until(&url, "/status", |_, status| is_told(status)).await;
    for other in ["http://127.0.0.1:1", "http://127.0.0.2:1"] {
        assert_eq!(partition_of(&status, other)["problems"], Value::Array(Vec::new()), "{status}");
    }
    let asked = format!("federation_status() | where Partition == '{WRITER}' | project State, Reason");
    let row = hub.server.query("Logs", &asked).await.expect("the hub answers").text_rows().concat();
    assert!(row[0] == "live" && row[1].starts_with(&told), "{row:?}");

    beat(&hub, (3, 3), &short("\"A\", \"C\"")).await;
    until(&url, "/metrics", |_, metrics| refused(metrics) == counted("0")).await;
    agent.stop().await;
    hub.end().await;
}

#[tokio::test]
async fn what_no_group_can_be_named_after_is_refused_of_its_partition_alone_and_counted_as_content() {
    const WRITER: &str = "http://127.0.0.3:1";
    let hub = Hub::start().await;
    hub.document_with_passes("1s", "entityGroups: [{by: geo}]");
    beat(&hub, (1, 3), &short("\"A\"")).await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    until(&url, "/status", |_, status| status.contains("\"outcome\":\"unchanged\"")).await;
    assert_eq!(refused(&get(&url, "/metrics").await.1), counted("0"));
    let groups_with = async |host: &str| -> Vec<String> {
        let groups = ".show entity_groups | where tostring(Entities) has 'Logs' | project Name, Entities";
        let groups = hub.server.command("Metrics", groups).await.expect("the hub answers").text_rows();
        groups.into_iter().filter(|row| row[1].contains(host)).map(|row| row[0].clone()).collect()
    };
    assert_eq!(groups_with(WRITER).await, ["Logs_Partitions", "Logs_Partitions_EU"]);

    let moved = format!(
        ".set-or-append Heartbeats <| print Timestamp = now(), ClusterEndpoint = '{WRITER}', Schema = {}, PartitionMetadata = dynamic({{\"geo\": \"it's\"}})",
        short("\"A\"")
    );
    hub.server.command("FleetDiscovery", &moved).await.expect("the hub takes heartbeats");
    until(&url, "/metrics", |_, metrics| refused(metrics) == counted("1")).await;
    let told = "PartitionMetadata.geo: no entity group can be named after 'it's'";
    let is_told = |status: &str| {
        let problems = &partition_of(status, WRITER)["problems"];
        problems[0].as_str().is_some_and(|problem| problem.starts_with(told)) && status.contains("\"unchanged\"")
    };
    let status = until(&url, "/status", |_, status| is_told(status)).await;
    for other in ["http://127.0.0.1:1", "http://127.0.0.2:1"] {
        assert_eq!(partition_of(&status, other)["problems"], Value::Array(Vec::new()), "{status}");
        assert_eq!(groups_with(other).await, ["Logs_Partitions", "Logs_Partitions_EU"]);
    }
    assert_eq!(groups_with(WRITER).await, ["Logs_Partitions"], "it is federated all the same");
    agent.stop().await;
    hub.end().await;
}

/// The most memory that a process has had so far, in MiB.
fn peak(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid().expect("it runs")));
    let status = status.expect("a running process has a status");
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|rest| rest.trim_end_matches("kB"));
    kibibytes.and_then(|kibibytes| kibibytes.trim().parse::<u64>().ok()).expect("it has a peak in kB") / 1024
}

#[tokio::test]
async fn what_strangers_make_up_takes_less_memory_than_a_pod_has_and_leaves_room_for_those_who_beat() {
    /// As the operator's pods have it.
    const LIMIT: u64 = 256;
    let hub = Hub::start().await;
    hub.document_with_passes("1s", "allowedPartitionPattern: '127.0.0.*'");
    beat(&hub, (1, 2), &short("\"A\"")).await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    until(&url, "/status", |_, status| status.contains("\"outcome\":\"unchanged\"")).await;

    // Eleven million values; four hundred thousand columns; names that are as long as names may be. Of a database that the hub has not, so that no functions are made of them.
    beat(&hub, (11, 12), "parse_json(strcat('[0', strrep(strrep(strrep(',0', 1024), 1024), 11), ']'))").await;
    let list = "let List = toscalar(range Column from 1 to 1999 step 1 | summarize strcat_array(make_list(strcat('C', Column, ':long')), ',')); ";
    let wide = "| extend Table = range(1, 200) | mv-expand Table to typeof(long) | extend Name = strcat('W', Number, '_', Table) | summarize Tables = make_list(strcat('\"', Name, '\"')), Columns = make_list(strcat('\"', Name, '\": \"', replace_string(List, 'C', strcat(Name, '_')), '\"')) by Number ";
    let schema = "parse_json(strcat('[{\"database\": \"Attack\", \"tables\": [', strcat_array(Tables, ','), '], \"tableSchemas\": {', strcat_array(Columns, ','), '}}]'))";
    beat_made_of(&hub, (21, 23), [list, wide], schema).await;
    let long = "| extend Table = range(1, 8000) | mv-expand Table to typeof(long) | summarize Tables = make_list(strcat('\"L', Number, '_', Table, '_', strrep('x', 980), '\"')) by Number ";
    let schema = "parse_json(strcat('[{\"database\": \"Attack\", \"tables\": [', strcat_array(Tables, ','), ']}]'))";
    beat_made_of(&hub, (31, 33), ["", long], schema).await;
    let told = |host: u32, status: &str, what: &str| {
        let problems = partition_of(status, &format!("http://127.0.0.{host}:1"))["problems"].to_string();
        problems.contains(what)
    };
    until(&url, "/status", |_, status| {
        let zeros = [11, 12].iter().all(|host| told(*host, status, "it holds more than 200000 values"));
        let beyond = (21..34).filter(|host| told(*host, status, "take too much memory")).count();
        zeros && beyond > 0
    })
    .await;

    // Two with too many values, and at least one for which there is no room.
    let with_problems = |metrics: &str| refused(metrics).get("content").and_then(|count| count.parse::<usize>().ok());
    until(&url, "/metrics", |_, metrics| with_problems(metrics) > Some(2)).await;

    // What the others have made since is federated all the same.
    beat(&hub, (1, 2), &short("\"A\", \"B\"")).await;
    // `federated_A`, `federated_B`, and `federation_status` in three databases.
    let made = "adx_federation_changes_total{object=\"function\",action=\"create\",outcome=\"applied\"} 5";
    until(&url, "/metrics", |_, metrics| metrics.lines().any(|line| line == made)).await;
    let content = hub.content().await;
    assert!(content.iter().any(|line| line.contains("federated_B")), "{content:#?}");
    for host in ["127.0.0.1", "127.0.0.2"] {
        assert_eq!(content.iter().filter(|line| line.contains("Logs_Partitions") && line.contains(host)).count(), 2);
    }
    let peak = peak(&agent);
    assert!(peak < LIMIT, "{peak} MiB at most");
    agent.stop().await;
    hub.end().await;
}
