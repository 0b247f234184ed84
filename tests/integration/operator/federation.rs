//! From ADXCluster objects to federated rows: the operator, our real agents as pods under their own service accounts, and local Kusto servers.

#![allow(clippy::panic)] // A failed expectation is what a story is for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tests::{
    cluster::{Kubectl, OperatorOptions, PATIENCE, TestNamespace, condition_of},
    docs::{object, read},
    fleet::{Fleet, Pace},
    telemetry::REGIONS,
};
use tokio::time;

use crate::{
    leading::TRIES,
    reached::metrics_of_agents,
    support::{apply_documents, end, for_the_most_part, until_event},
};

const LEASE: &str = "coordination.k8s.io/v1 Lease";

/// Now, as the times of the protocol have it: without a fraction.
fn whole_second() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("now is a time")
}

/// All times of a `status.federation`, by whose they are: none is missing, from before the story or still to come.
fn times(federation: &Value, story: Timestamp) -> BTreeMap<String, Timestamp> {
    let of_each = |list: &str, field: &str| {
        let entries = federation[list].as_array().cloned().unwrap_or_default();
        entries.into_iter().map(|entry| (entry["endpoint"].to_string(), entry[field].clone())).collect::<Vec<_>>()
    };
    let pass = ("the last pass".to_owned(), federation["lastPass"]["time"].clone());
    let told = [of_each("partitions", "lastBeat"), of_each("hubs", "lastSuccess"), vec![pass]].concat();
    let times = told.into_iter().map(|(whose, told)| {
        let time: Option<Timestamp> = told.as_str().and_then(|text| text.parse().ok());
        let time = time.unwrap_or_else(|| panic!("{whose}: {told} is no time"));
        assert_eq!(told, time.to_string(), "{whose}: as the protocol has it");
        assert!(story <= time && time <= Timestamp::now(), "{whose}: {time}, and the story began at {story}");
        (whose, time)
    });
    times.collect()
}

/// Each time is a later one.
fn assert_went_on(before: &BTreeMap<String, Timestamp>, after: &BTreeMap<String, Timestamp>) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (whose, time) in after {
        assert!(before[whose] < *time, "{whose}: {before:#?}, and later {after:#?}");
    }
}

/// README.md's own documents, with addresses that answer here, a second partition, and a hub that does not wait for ten minutes; applied as README.md says.
#[tokio::test]
async fn the_documents_of_the_readme_applied_by_kubectl_end_in_federated_rows() {
    let Some(kubectl) = Kubectl::find() else { return };
    let fleet = Fleet::start(Pace::PATIENT).await.expect("the servers take the telemetry");
    let started = whole_second();
    let test = TestNamespace::new("documents").await;
    let kubectl = kubectl.of(&test);
    let operator = test.operator().await;
    let readme = read("README.md");
    let replaced = |text: &str, changes: &[(&str, &str)]| {
        changes.iter().fold(text.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from} is not in\n{text}");
            text.replace(from, to)
        })
    };
    let hub_address = ("https://hub.westeurope.kusto.windows.net", fleet.hub.url.as_str());
    let hub = replaced(
        object(&readme, "ADXCluster", "hub"),
        &[hub_address, ("heartbeatTTL: 1h\n", "heartbeatTTL: 1h\n    reconcileInterval: 1s\n")],
    );
    let partition = object(&readme, "ADXCluster", "europe");
    let address = "https://europe.westeurope.kusto.windows.net";
    let europe = replaced(partition, &[hub_address, (address, fleet.partitions[0].url.as_str())]);
    let america = replaced(partition, &[hub_address, (address, fleet.partitions[1].url.as_str())]);
    let another = [("westeurope", "eastus2"), ("geo: EU", "geo: US"), ("ame: europe", "ame: america")];
    let america = replaced(&america, &another);
    let mut command = vec!["apply".to_owned()];
    for (name, text) in [("hub", &hub), ("europe", &europe), ("america", &america)] {
        command.extend(["-f".to_owned(), fleet.write_document(name, text).display().to_string()]);
    }
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let printed = kubectl.run(&command, "");
    let created = ["hub", "europe", "america"].map(|name| format!("adxcluster.adx-mon.azure.com/{name} created"));
    assert_eq!(printed.lines().collect::<Vec<_>>(), created);
    let rows = "federated_Requests() | summarize Rows = count() by Region | order by Region asc";
    let all = |table: &tests::kusto::Table| {
        table.column("Region") == ["america", "europe"] && table.column("Rows") == ["120", "240"]
    };
    fleet.hub_until("Logs", rows, PATIENCE, all).await;
    for (name, server, role, cells) in [
        ("hub", &fleet.hub, "Federated", 5),
        ("europe", &fleet.partitions[0], "Partition", 4),
        ("america", &fleet.partitions[1], "Partition", 4),
    ] {
        let row = &[name, role, server.url.as_str(), "True", "2/2"][..cells];
        until_row(&test, row).await;
        let printed = kubectl.run(&["get", "adx", name], "");
        let cells: Vec<&str> = printed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert!(cells.starts_with(row), "{printed}");
        let object = test.get("ADXCluster", name).await;
        let federation = &object["status"]["federation"];
        let partitions = if name == "hub" { 2 } else { 0 };
        assert_eq!(federation["partitions"].as_array().map_or(0, Vec::len), partitions, "{federation:#}");
        // Of a hub's two partitions, or of a partition's one hub, and of the pass.
        assert_eq!(times(federation, started).len(), partitions.max(1) + 1, "{federation:#}");
    }
    drop(operator);
    end(test, fleet).await;
}

#[tokio::test]
async fn from_four_objects_to_a_federated_row_and_back() {
    let fleet = Fleet::start(Pace::LEAVING).await.expect("the servers take the telemetry");
    let started = whole_second();
    let test = TestNamespace::new("federation").await;
    let operator = test.operator().await;
    apply_documents(&test, &fleet).await;
    // The status tells what the hub's agent sees: in each database the groups of both that partitions have; a function of each table, and `federation_status`.
    let databases = [("FleetDiscovery", 1), ("Logs", 3), ("Metrics", 2)];
    let expected = databases.map(|(name, functions)| json!({"name": name, "entityGroups": 2, "functions": functions}));
    let is_federated = |object: &Value| {
        let federation = &object["status"]["federation"];
        federation["live"] == "3/3"
            && federation["databases"] == json!(expected)
            && ["done", "unchanged"].iter().any(|outcome| federation["lastPass"]["outcome"] == *outcome)
            && condition_of(object, "Ready").is_some_and(|ready| ready["status"] == "True")
    };
    let hub = test.until("ADXCluster", "hub", is_federated).await;
    let answer = fleet
        .hub_until("Logs", "federated_Requests() | count", PATIENCE, |table| table.column("Count") == ["420"])
        .await;
    assert_eq!(answer.rows.len(), 1);
    let federation = &hub["status"]["federation"];
    let partitions = federation["partitions"].as_array().cloned().unwrap_or_default();
    assert_eq!(partitions.len(), 3, "{federation:#}");
    assert!(partitions.iter().all(|partition| partition["state"] == "live"), "{federation:#}");
    let seen_by_hub = times(federation, started);
    assert_eq!(seen_by_hub.len(), 4, "{seen_by_hub:#?}");
    // As the hub itself shows them.
    for (database, functions) in databases {
        for (shown, count) in [(".show entity_groups", 2), (".show functions", functions)] {
            let made = fleet.hub.command(database, shown).await.expect("the hub answers").rows.len();
            assert_eq!(made, count, "{shown} in {database}");
        }
    }
    let is_accepted = |object: &Value| {
        let hub = &object["status"]["federation"]["hubs"][0];
        hub["endpoint"] == fleet.hub.url.as_str()
            && hub["outcome"] == "accepted"
            && condition_of(object, "Ready").is_some_and(|ready| ready["status"] == "True")
    };
    let europe = test.until("ADXCluster", "europe", is_accepted).await;
    let seen_by_europe = times(&europe["status"]["federation"], started);
    assert_eq!(seen_by_europe.len(), 2, "{seen_by_europe:#?}");

    // The agents write as a field manager of their own.
    for object in [&hub, &europe] {
        let managers = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let own = managers.iter().find(|entry| entry["manager"] == "adx-federation-agent").expect("the agent wrote");
        let fields = own["fieldsV1"]["f:status"].as_object().cloned().unwrap_or_default();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["f:federation"], "{own:#}");
    }

    // As `kubectl get` prints it.
    let table = printed(&test).await;
    assert_eq!(table[0][..6], ["NAME", "ROLE", "ENDPOINT", "READY", "PARTITIONS", "GUARD"]);
    until_row(&test, &["hub", "Federated", fleet.hub.url.as_str(), "True", "3/3"]).await;
    until_row(&test, &["europe", "Partition", fleet.partitions[0].url.as_str(), "True"]).await;

    // Two replicas of the hub's agent, of which one leads; when it goes, the other takes over.
    let deployment =
        test.until("apps/v1 Deployment", "hub-agent", |object| object["status"]["readyReplicas"] == 2).await;
    assert_eq!(deployment["spec"]["replicas"], 2);
    // Their Service leads to both. Whoever does not lead has counted nothing.
    let told = metrics_of_agents(&test, "hub-agent", 2).await;
    assert!(told.iter().any(|text| text.contains("adx_federation_passes_total{")), "{told:#?}");
    let told = metrics_of_agents(&test, "europe-agent", 1).await;
    assert!(told[0].contains("adx_federation_heartbeats_sent_total{"), "{told:#?}");
    hands_over(&test, "hub-agent").await;
    fleet.partitions[0].command("Logs", ".create table After (a:long)").await.expect("the partition takes a table");
    fleet.hub_until("Logs", "federated_After() | count", PATIENCE, |table| table.rows.len() == 1).await;

    // A suspended hub is watched and not changed; its status shows what it would be given.
    let specify = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        let patched = test.api("ADXCluster").patch("hub", &PatchParams::default(), &patch).await;
        patched.expect("the API server takes the field");
    };
    specify(json!({"suspend": true})).await;
    // The agent asks before each pass: one may have been under way, and the API server may be late with its answer once.
    until_passes(&test, &fleet, 3).await;
    let before = hub_writes(&fleet);
    assert!(!before.is_empty(), "what was made so far is in the recording");
    fleet.partitions[0].command("Logs", ".create table Later (a:long)").await.expect("the partition takes a table");
    let is_planned = |object: &Value| {
        object["status"]["federation"]["plan"]["changes"]
            .to_string()
            .contains("create function federated_Later in Logs: it is missing: ")
            && object["status"]["federation"]["lastPass"]["outcome"] == "planned"
    };
    let planned = test.until("ADXCluster", "hub", is_planned).await;
    let planned = times(&planned["status"]["federation"], started)["the last pass"];
    assert!(seen_by_hub["the last pass"] < planned, "{planned}, and the first was {seen_by_hub:#?}");
    let later = ".show functions | where Name == 'federated_Later'";
    assert_eq!(fleet.hub.command("Logs", later).await.expect("the hub answers").rows.len(), 0);
    assert_eq!(hub_writes(&fleet)[before.len()..], [""; 0], "a suspended hub is not written to");
    specify(json!({"suspend": false})).await;
    fleet.hub_until("Logs", later, PATIENCE, |table| table.rows.len() == 1).await;

    // Nor is one whose document only asks for a plan.
    let mark =
        |object: &Value| object["spec"]["template"]["metadata"]["annotations"]["adx-mon.azure.com/config"].clone();
    let applying = mark(&deployment);
    specify(json!({"federation": {"mode": "Plan"}})).await;
    let planning = test.until("apps/v1 Deployment", "hub-agent", |object| mark(object) != applying).await;
    let is_planning = |object: &Value| object["status"]["federation"]["document"] == mark(&planning);
    test.until("ADXCluster", "hub", is_planning).await;
    let before = hub_writes(&fleet);
    fleet.partitions[0].command("Logs", ".create table Shown (a:long)").await.expect("the partition takes a table");
    test.until_condition("ADXCluster", "hub", "Federated", "True", "Planned").await;
    assert_eq!(hub_writes(&fleet)[before.len()..], [""; 0], "a plan writes nothing");
    specify(json!({"federation": {"mode": null}})).await;
    let shown = ".show functions | where Name == 'federated_Shown'";
    fleet.hub_until("Logs", shown, PATIENCE, |table| table.rows.len() == 1).await;

    // A changed document rolls the agent.
    let before = mark(&test.get("apps/v1 Deployment", "hub-agent").await);
    assert_eq!(before, applying, "the same document has the same mark");
    let text = std::fs::read_to_string(fleet.hub_document())
        .expect("just written")
        .replace("functionPrefix: federated_", "functionPrefix: every_");
    test.apply(&text).await;
    let rolled = test.until("apps/v1 Deployment", "hub-agent", |object| mark(object) != before).await;
    // Until an agent has made a pass with that document, nothing is known of what it asks for; once it is said to be done, it is, without a second look.
    test.until("ADXCluster", "hub", |object| {
        let all = ["Federated", "Ready"].map(|phase| condition_of(object, phase));
        let is_present = |condition: &Value| condition["observedGeneration"] == object["metadata"]["generation"];
        all.into_iter().all(|condition| condition.is_some_and(|found| is_present(found) && found["status"] == "True"))
    })
    .await;
    let answer = fleet.hub.query("Logs", "every_Requests() | count").await.expect("it is there");
    assert_eq!(answer.column("Count"), ["420"]);
    let old = ".show functions | where Name startswith 'federated_'";
    fleet.hub_until("Logs", old, PATIENCE, |table| table.rows.is_empty()).await;
    let told = &test.get("ADXCluster", "hub").await["status"]["federation"];
    assert_eq!(told["document"], mark(&rolled));
    // An agent's first word tells all times anew; where only they go on, the next one does in five minutes.
    let told = times(told, started);
    assert_went_on(&seen_by_hub, &told);
    assert!(planned < told["the last pass"], "{told:#?}, and planned at {planned}");

    // A partition's agent holds a lease, too, and releases it.
    hands_over(&test, "europe-agent").await;
    let told = &europe["status"]["federation"];
    let is_told_anew = |object: &Value| {
        let now = &object["status"]["federation"];
        let is_later = now["lastPass"]["time"] != told["lastPass"]["time"];
        is_accepted(object) && is_later && now["hubs"][0]["lastSuccess"] != told["hubs"][0]["lastSuccess"]
    };
    let europe = test.until("ADXCluster", "europe", is_told_anew).await;
    assert_went_on(&seen_by_europe, &times(&europe["status"]["federation"], started));

    // An object that goes takes its agent along, and the hub sees that the partition fell silent.
    test.delete("ADXCluster", "europe").await;
    let two = |object: &Value| object["status"]["federation"]["live"] == "2/3";
    test.until("ADXCluster", "hub", two).await;

    // What somebody does to the hub's objects is undone, with an Event.
    fleet.hub.command("Logs", ".drop function every_Requests").await.expect("the hub takes the command");
    until_event(
        &test,
        "HubDriftRepaired",
        "the function 'every_Requests' in 'Logs' was removed by somebody and is made again",
    )
    .await;

    // What a person has made under a name of ours is left to them, and the status says so.
    let theirs = ".create function every_Theirs() { print Mine = 1 }";
    fleet.hub.command("Logs", theirs).await.expect("a person may make it");
    fleet.partitions[1].command("Logs", ".create table Theirs (a:long)").await.expect("the partition takes a table");
    test.until("ADXCluster", "hub", |object| {
        let problems = object["status"]["federation"]["lastPass"]["problems"].to_string();
        problems.contains("the function 'every_Theirs' in 'Logs' was not made by us and is left alone")
    })
    .await;
    let kept = fleet.hub.query("Logs", "every_Theirs").await.expect("it answers");
    assert_eq!(kept.rows, [[json!(1)]]);

    // When the others go, too, the guard holds: a condition, an Event, a column.
    test.delete("ADXCluster", "america").await;
    test.delete("ADXCluster", "asia").await;
    let guarded = test.until_condition("ADXCluster", "hub", "Guarded", "True", "NoLiveHeartbeat").await;
    let message = condition_of(&guarded, "Guarded").map(|guarded| guarded["message"].to_string()).unwrap_or_default();
    assert!(message.contains("none of the 3 partition(s)") && message.contains("acknowledgedPlan"), "{message}");
    test.until_condition("ADXCluster", "hub", "Federated", "False", "Held").await;
    // The hub's first pass was held, too, with other words.
    until_event(&test, "NoLiveHeartbeat", "none of the 3 partition(s)").await;
    until_row(&test, &["hub", "Federated", fleet.hub.url.as_str(), "False", "0/3", "no_live_heartbeat"]).await;
    assert_eq!(printed(&test).await[0].last().map(String::as_str), Some("AGE"));
    // Who fell silent while others still beat may have left, as Europe does by and by; nobody leaves from now on, for longer than the time to live.
    let count = async || {
        let answer = fleet.hub.query("Logs", "every_Requests() | count").await.expect("it is there");
        answer.column("Count").join("")
    };
    let held = count().await;
    assert_ne!(held, "0");
    time::sleep(Duration::from_secs(16)).await;
    assert_eq!(count().await, held);
    drop(operator);
    end(test, fleet).await;
}

/// The commands that change something at the hub, as it has recorded them of its agent. Partitions' agents send beats.
fn hub_writes(fleet: &Fleet) -> Vec<String> {
    let recording = std::fs::read_to_string(&fleet.hub.recording).expect("the file is there");
    let lines = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours =
        lines.filter(|line| line["client_request_id"].as_str().is_some_and(|id| id.starts_with("adx-federation.")));
    let texts = ours.filter_map(|line| line["csl"].as_str().map(str::to_owned));
    let writes = |text: &String| text.starts_with('.') && !text.starts_with(".show ");
    texts.filter(|text| writes(text) && !text.contains("into table ['Heartbeats']")).collect()
}

/// Waits until the hub's agents have begun so many more passes.
async fn until_passes(test: &TestNamespace, fleet: &Fleet, more: usize) {
    let passes = || fleet.hub.recorded("NewBeats");
    let (made, started) = (passes(), Instant::now());
    while passes() < made + more {
        assert!(started.elapsed() < PATIENCE, "no agent passes:\n{}", test.kubelet.output());
        time::sleep(Duration::from_millis(100)).await;
    }
}

fn holder(lease: &Value) -> &str {
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

/// Who is asked to stop releases the lease before its process is gone, and its pod with it: nobody waits until it expires. Where a process waits for a processor, the release may
/// be given up, which most are not.
async fn hands_over(test: &TestNamespace, lease: &str) {
    for_the_most_part(TRIES, async |_| {
        let held = test.until(LEASE, lease, |lease| !holder(lease).is_empty()).await;
        let leader = holder(&held);
        assert!(leader.starts_with(&format!("{lease}-")), "{leader}");
        test.delete("v1 Pod", leader).await;
        test.until("v1 Pod", leader, Value::is_null).await;
        let is_released = holder(&test.get(LEASE, lease).await) != leader;
        test.until(LEASE, lease, |lease| !holder(lease).is_empty() && holder(lease) != leader).await;
        if is_released { Ok(()) } else { Err(format!("{leader} held the lease still")) }
    })
    .await;
}

/// Writes the hash of a plan into the hub's object, and waits until an agent that has it in its document has made two passes.
async fn acknowledge(test: &TestNamespace, fleet: &Fleet, hash: &str) {
    // A pod's name without its end is that of all pods of one document.
    let document = |lease: &Value| holder(lease).rsplit_once('-').map(|(document, _)| document.to_owned());
    let before = document(&test.until(LEASE, "hub-agent", |lease| document(lease).is_some()).await);
    let patch = Patch::Merge(json!({"spec": {"federation": {"acknowledgedPlan": hash}}}));
    let patched = test.api("ADXCluster").patch("hub", &PatchParams::default(), &patch).await;
    patched.expect("the API server takes the field");
    test.until(LEASE, "hub-agent", |lease| document(lease).is_some() && document(lease) != before).await;
    // One may have been under way.
    until_passes(test, fleet, 3).await;
}

#[tokio::test]
async fn a_hold_is_released_by_the_hash_that_the_status_shows_and_by_no_other() {
    let fleet = Fleet::start(Pace::LEAVING).await.expect("the servers take the telemetry");
    let europes = ".create table OnlyEurope (a:long)";
    fleet.partitions[0].command("Logs", europes).await.expect("the partition takes a table");
    let test = TestNamespace::new("released").await;
    let operator = test.operator().await;
    // Two of three are a mass.
    let hub = std::fs::read_to_string(fleet.hub_document()).expect("just written");
    let mass = "    membership: {massExpiryPartitions: 2}\n    macroExpand:";
    test.apply(&hub.replace("    macroExpand:", mass)).await;
    // The partitions' agents are no pods, so that two of them can fall silent at once.
    let mut agents = Vec::new();
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        agents.push(fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &[]));
    }
    test.until("ADXCluster", "hub", |object| object["status"]["federation"]["live"] == "3/3").await;
    let shown = ".show functions | where Name == 'federated_OnlyEurope'";
    fleet.hub_until("Logs", shown, PATIENCE, |table| table.rows.len() == 1).await;
    for agent in &mut agents[..2] {
        agent.kill().await;
    }
    // Of those two, one may expire before the other, and then the plan is another.
    let is_held = |object: &Value| {
        let partitions = object["status"]["federation"]["partitions"].as_array();
        let expired = partitions.into_iter().flatten().filter(|partition| partition["state"] == "expired");
        let guarded = condition_of(object, "Guarded");
        expired.count() == 2 && guarded.is_some_and(|told| told["status"] == "True" && told["reason"] == "MassExpiry")
    };
    test.until("ADXCluster", "hub", is_held).await;

    acknowledge(&test, &fleet, "0123456789ab").await;
    let is_told = |object: &Value| {
        let told = condition_of(object, "Guarded").and_then(|guarded| guarded["message"].as_str());
        is_held(object)
            && told.is_some_and(|told| told.contains("acknowledgedPlan is 0123456789ab, the hash of another"))
    };
    let held = test.until("ADXCluster", "hub", is_told).await;
    assert_eq!(fleet.hub.command("Logs", shown).await.expect("the hub answers").rows.len(), 1, "{held:#}");
    let all = fleet.hub.query("Logs", "federated_Requests() | count").await.expect("the hub answers");
    assert_eq!(all.column("Count"), ["420"]);
    let plan = &held["status"]["federation"]["plan"];
    let changes = plan["changes"].to_string();
    assert!(changes.contains("drop function federated_OnlyEurope in Logs"), "{plan:#}");

    acknowledge(&test, &fleet, plan["hash"].as_str().expect("the status shows a hash")).await;
    fleet.hub_until("Logs", shown, PATIENCE, |table| table.rows.is_empty()).await;
    let regions = "federated_Requests() | distinct Region";
    fleet.hub_until("Logs", regions, PATIENCE, |table| table.column("Region") == ["asia"]).await;
    let is_released =
        |object: &Value| condition_of(object, "Guarded").is_none() && object["status"]["federation"]["plan"].is_null();
    test.until("ADXCluster", "hub", is_released).await;
    test.until_condition("ADXCluster", "hub", "Federated", "True", "Federated").await;
    agents[2].stop().await;
    drop(operator);
    end(test, fleet).await;
}

/// Waits until the API server prints a row that begins with these cells.
async fn until_row(test: &TestNamespace, cells: &[&str]) {
    let started = Instant::now();
    loop {
        let table = printed(test).await;
        if table.iter().any(|row| row.get(..cells.len()).is_some_and(|first| first == cells)) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{cells:?} is no row of {table:#?}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// The rows of the table that the API server prints, its header first.
async fn printed(test: &TestNamespace) -> Vec<Vec<String>> {
    let path = format!("/apis/adx-mon.azure.com/v1/namespaces/{}/adxclusters", test.name);
    let request =
        http::Request::get(path).header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").body(Vec::new());
    let table: Value =
        test.client().request(request.expect("a path makes a request")).await.expect("the API server prints");
    let text = |value: &Value| {
        value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
    };
    let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
    let header = columns.iter().map(|column| text(&column["name"]).to_uppercase()).collect();
    let rows = table["rows"].as_array().cloned().unwrap_or_default();
    let cells = |row: &Value| row["cells"].as_array().map(|cells| cells.iter().map(text).collect()).unwrap_or_default();
    std::iter::once(header).chain(rows.iter().map(cells)).collect()
}

#[tokio::test]
async fn what_an_agent_lacks_is_told_by_its_condition_and_an_event() {
    let test = TestNamespace::new("lacking").await;
    let operator = test.operator().await;
    let hub = "{endpoint: 'http://127.0.0.1:9', heartbeatDatabase: D, heartbeatTable: T}";
    let partition = |name: &str, more: &str| {
        format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: {name}}}\nspec: {{clusterName: {name}, endpoint: 'http://127.0.0.1:9', federation: {{heartbeatInterval: 1s, federatedClusters: [{hub}]{more}}}}}\n"
        )
    };
    // Its own image is not there.
    test.apply(&partition("noimage", ", image: 'x/missing:1'")).await;
    let told = test.until_condition("ADXCluster", "noimage", "AgentReady", "False", "ImagePullBackOff").await;
    assert_eq!(
        condition_of(&told, "Ready").map(|ready| ready["reason"].clone()),
        Some("ImagePullBackOff".into()),
        "{told:#}"
    );
    assert!(
        condition_of(&told, "AgentReady")
            .is_some_and(|ready| ready["observedGeneration"] == told["metadata"]["generation"])
    );
    until_event(&test, "ImagePullBackOff", "x/missing:1").await;
    // Nobody answers at its hub.
    test.apply(&partition("nohub", "")).await;
    test.until_condition("ADXCluster", "nohub", "Federated", "False", "Failed").await;
    until_event(&test, "Failed", "http://127.0.0.1:9").await;
    drop(operator);
    let options = OperatorOptions {
        arguments: vec!["--lease-name=another".to_owned()],
        without: vec!["--agent-image"],
        ..OperatorOptions::default()
    };
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    test.apply(&partition("unknown", "")).await;
    test.until_condition("ADXCluster", "unknown", "AgentReady", "False", "NoAgentImage").await;
    drop(operator);
}

#[tokio::test]
async fn an_agent_has_the_rights_that_it_needs_and_no_others() {
    let test = TestNamespace::new("rights").await;
    let operator = test.operator().await;
    test.apply(crate::support::PARTITION).await;
    test.until("rbac.authorization.k8s.io/v1 RoleBinding", "part-agent", |object| !object.is_null()).await;
    let may = async |verb: &str, group: &str, resource: &str, name: &str| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": format!("system:serviceaccount:{}:part-agent", test.name),
            "resourceAttributes": {"namespace": test.name, "verb": verb, "group": group, "resource": resource.split('/').next(), "subresource": resource.split('/').nth(1).unwrap_or_default(), "name": name}}});
        let request = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
            .header("content-type", "application/json");
        let request = request.body(review.to_string().into_bytes()).expect("a review makes a request");
        let answer: Value = test.client().request(request).await.expect("the API server answers");
        answer["status"]["allowed"] == true
    };
    for (verb, group, resource, name) in [
        ("patch", "adx-mon.azure.com", "adxclusters/status", "part"),
        ("get", "adx-mon.azure.com", "adxclusters", "part"),
        ("create", "coordination.k8s.io", "leases", ""),
        ("patch", "coordination.k8s.io", "leases", "part-agent"),
    ] {
        // The authorizer may learn of a new role a moment later.
        let started = Instant::now();
        while !may(verb, group, resource, name).await {
            assert!(started.elapsed() < PATIENCE, "{verb} {resource} {name}");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    for (verb, group, resource, name) in [
        ("patch", "adx-mon.azure.com", "adxclusters/status", "other"),
        ("patch", "adx-mon.azure.com", "adxclusters", "part"),
        ("get", "adx-mon.azure.com", "adxclusters", "other"),
        ("patch", "coordination.k8s.io", "leases", "adx-federation-operator"),
        ("get", "", "secrets", "any"),
        ("get", "", "pods", "any"),
        ("get", "", "configmaps", "part-agent"),
    ] {
        assert!(!may(verb, group, resource, name).await, "{verb} {resource} {name}");
    }
    drop(operator);
}

/// The real hub agent's status of as many partitions as there may be, as the API server keeps it.
#[tokio::test]
async fn the_status_of_two_thousand_partitions_is_kept_and_stays_small() {
    let fleet = Fleet::start(Pace::AT_REST).await.expect("the servers take the telemetry");
    let beats = [
        ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)",
        ".set-or-append Heartbeats <| range Number from 1 to 2000 step 1 | project Timestamp = now(), ClusterEndpoint = strcat('https://partition-', Number, '.southeastasia.kusto.windows.net'), Schema = dynamic([{\"database\": \"Logs\", \"tables\": [\"T\"], \"tableSchemas\": {\"T\": \"['A']:long\"}}]), PartitionMetadata = dynamic({})",
    ];
    for command in beats {
        fleet.hub.command("FleetDiscovery", command).await.expect("the hub takes heartbeats");
    }
    let test = TestNamespace::new("many-partitions").await;
    let operator = test.operator().await;
    let document = std::fs::read_to_string(fleet.hub_document()).expect("the document was just written");
    test.apply(&document).await;
    test.until("ADXCluster", "hub", |hub| hub["status"]["federation"]["live"] == "2000/2000").await;
    let hub = test.until_condition("ADXCluster", "hub", "Ready", "True", "Ready").await;
    let federation = &hub["status"]["federation"];
    let listed = federation["partitions"].as_array().map_or(0, Vec::len);
    assert!(listed > 100, "{listed} partitions are listed");
    assert_eq!(federation["partitionsOmitted"], 2000 - listed);
    let (status, all) = (hub["status"].to_string().len(), hub.to_string().len());
    assert!(status < 200_000 && all < 220_000, "{status} bytes of {all}");
    assert_eq!(printed(&test).await[1][..5], ["hub", "Federated", fleet.hub.url.as_str(), "True", "2000/2000"]);
    drop(operator);
    end(test, fleet).await;
}
