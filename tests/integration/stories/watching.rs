//! What those who watch see: probes, metrics, status.

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    fleet::{Fleet, Pace},
    telemetry::REGIONS,
};

use crate::{
    admin::{admin_url, get, until},
    support::{SOON, end, until_regions},
};

/// A partition's sample of a family.
fn value(metrics: &str, family: &str, partition: &str) -> Option<f64> {
    sample(metrics, &format!("{family}{{partition=\"{partition}\"}}"))
}

/// The sample of a series, which is written with its labels.
fn sample(metrics: &str, series: &str) -> Option<f64> {
    let series = format!("adx_federation_{series} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series))?.parse().ok()
}

/// How long ago a Unix time was, in seconds.
fn age(time: f64) -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970").as_secs_f64() - time
}

#[tokio::test]
async fn probes_metrics_and_status_tell_what_goes_on_and_a_partition_that_left_takes_its_labels() {
    // Whoever has expired is told of for some seconds more.
    let fleet = Fleet::start(Pace { retention: "25s", ..Pace::LEAVING }).await.expect("the servers take the telemetry");
    let admin = ["--admin", "127.0.0.1:0"];
    let hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &admin);
    let mut agents = Vec::new();
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        agents.push(fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &admin));
    }
    until_regions(&fleet, &["america", "asia", "europe"]).await;

    let partition_url = admin_url(&agents[0]).await;
    assert_eq!(get(&partition_url, "/livez").await.0, 200);
    until(&partition_url, "/readyz", |status, _| status == 200).await;
    let accepted = format!("heartbeats_sent_total{{hub=\"{}\",outcome=\"accepted\"}}", fleet.hub.url);
    let last_success = format!("heartbeat_last_success_timestamp_seconds{{hub=\"{}\"}}", fleet.hub.url);
    let (_, metrics) = get(&partition_url, "/metrics").await;
    let [count, last] =
        [&accepted, &last_success].map(|series| sample(&metrics, series).expect("the hub is beaten to"));
    assert!(count >= 1.0 && (-1.0..60.0).contains(&age(last)), "{count} beats, {} s ago:\n{metrics}", age(last));
    // Both go on with the beats.
    until(&partition_url, "/metrics", |_, body| {
        sample(body, &accepted).is_some_and(|now| now > count)
            && sample(body, &last_success).is_some_and(|now| now > last)
    })
    .await;
    let status: Value = serde_json::from_str(&get(&partition_url, "/status").await.1).expect("status is JSON");
    assert_eq!(status["inventory"]["databases"], json!({"Logs": 2, "Metrics": 1}), "{status:#}");
    assert!(status["hubs"][&fleet.hub.url]["lastSuccess"].is_string(), "{status:#}");

    let hub_url = admin_url(&hub).await;
    until(&hub_url, "/readyz", |status, _| status == 200).await;
    let europe = fleet.partitions[0].url.clone();
    let shown = [
        "partitions{state=\"live\"} 3",
        "passes_total{",
        "pass_duration_seconds_count",
        "changes_total{object=\"function\",action=\"create\",outcome=\"applied\"} 6",
    ];
    let shows_all = |body: &str| shown.iter().all(|family| body.contains(&format!("adx_federation_{family}")));
    let metrics = until(&hub_url, "/metrics", |_, body| shows_all(body)).await;
    let beat = value(&metrics, "partition_last_heartbeat_timestamp_seconds", &europe).expect("europe beats");
    assert!((-1.0..60.0).contains(&age(beat)), "{} s ago", age(beat));
    assert_eq!(value(&metrics, "missed_heartbeats_total", &europe), Some(0.0));
    let are_live = |_: u16, body: &str| {
        let status: Value = serde_json::from_str(body).expect("status is JSON");
        let partitions = status["partitions"].as_array().into_iter().flatten();
        partitions.filter(|partition| partition["state"] == "live").count() == 3
    };
    let status: Value = serde_json::from_str(&until(&hub_url, "/status", are_live).await).expect("status is JSON");
    assert_eq!(status["partitions"].as_array().map(Vec::len), Some(3), "{status:#}");
    for partition in status["partitions"].as_array().into_iter().flatten() {
        let age = "print Age = now() - todatetime('{}') | project IsFresh = Age between (0s .. 1m)";
        let age = age.replace("{}", partition["lastBeat"].as_str().expect("a beat has a time"));
        assert_eq!(fleet.hub.query("Logs", &age).await.expect("the hub counts").column("IsFresh"), ["true"]);
    }
    assert_eq!(status["objects"]["Metrics"]["entityGroups"], json!(["Logs_Partitions", "Metrics_Partitions"]));
    assert_eq!(
        status["objects"]["Logs"]["functions"],
        json!(["federated_ApplicationLogs", "federated_Requests", "federation_status"])
    );
    assert!(status["lastPass"]["outcome"].is_string(), "{status:#}");

    agents[0].kill().await;
    until(&hub_url, "/metrics", |_, body| body.contains("partitions{state=\"suspect\"} 1")).await;
    until(&hub_url, "/metrics", |_, body| body.contains("partitions{state=\"expired\"} 1")).await;
    let altered = "changes_total{object=\"entity_group\",action=\"alter\",outcome=\"applied\"}";
    until(&hub_url, "/metrics", |_, body| body.contains(altered)).await;
    until(&hub_url, "/metrics", |_, body| {
        value(body, "missed_heartbeats_total", &europe).is_some_and(|missed| missed >= 2.0)
    })
    .await;
    until(&hub_url, "/metrics", |_, body| !body.contains(&europe)).await;

    for agent in &mut agents {
        agent.kill().await;
    }
    until(&hub_url, "/metrics", |_, body| body.contains("guard_active{reason=\"no_live_heartbeat\"} 1")).await;
    assert_eq!(get(&hub_url, "/readyz").await.0, 200, "holding is its job");
    end(fleet, agents.into_iter().chain([hub])).await;
}

#[tokio::test]
async fn guards_and_failed_beats_show_in_metrics() {
    let fleet = Fleet::start(Pace::LEAVING).await.expect("the servers take the telemetry");
    let admin = ["--admin", "127.0.0.1:0"];
    let hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &admin);
    let mut agents = Vec::new();
    for (region, server) in REGIONS.iter().zip(&fleet.partitions) {
        agents.push(fleet.start_agent("agent-partition", &fleet.partition_document(region, server), &admin));
    }
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    let url = admin_url(&hub).await;
    fleet.hub.fail(&json!([{"text": "NewBeats", "fault": "oneApiErrors"}]));
    until(&url, "/metrics", |_, body| body.contains("guard_active{reason=\"incomplete_read\"} 1")).await;
    let told = "federation_status() | where State in ('live', 'suspect') | distinct Guards";
    let tells = async |guards: &[&str]| {
        fleet.hub_until("Logs", told, SOON, |table| table.column("Guards") == guards).await;
    };
    tells(&["incomplete_read"]).await;
    fleet.hub.fail(&json!([]));
    until(&url, "/metrics", |_, body| body.contains("guard_active{reason=\"incomplete_read\"} 0")).await;
    tells(&[""]).await;
    // Two of three are no mass; all three are, as soon as the first expires.
    for agent in &agents {
        agent.signal(Signal::SIGSTOP);
    }
    let guarded = |body: &str| {
        body.contains("guard_active{reason=\"mass_expiry\"} 1")
            || body.contains("guard_active{reason=\"no_live_heartbeat\"} 1")
    };
    until(&url, "/metrics", |_, body| guarded(body)).await;
    for agent in &agents {
        agent.signal(Signal::SIGCONT);
    }
    until(&url, "/metrics", |_, body| body.contains("partitions{state=\"live\"} 3") && !guarded(body)).await;
    // No connection is tried again for half an interval.
    let mut fleet = fleet;
    let timed_out = format!("heartbeats_sent_total{{hub=\"{}\",outcome=\"timed_out\"}}", fleet.hub.url);
    let last_success = format!("heartbeat_last_success_timestamp_seconds{{hub=\"{}\"}}", fleet.hub.url);
    let url = admin_url(&agents[0]).await;
    let before = sample(&get(&url, "/metrics").await.1, &timed_out).expect("every outcome is there from the start");
    fleet.hub.process().kill().await;
    let killed = age(0.0);
    let metrics = until(&url, "/metrics", |_, body| sample(body, &timed_out).is_some_and(|now| now >= before + 2.0));
    let last = sample(&metrics.await, &last_success).expect("the hub is beaten to");
    // The second of them began after the end.
    assert!((-60.0..=0.0).contains(&(last - killed)), "the last success at {last} is no attempt's: killed at {killed}");
    let hub_database = tests::fleet::HUB_DATABASES;
    fleet.hub = tests::kusto::KustoServer::start(fleet.hub.port(), &hub_database, &fleet.recording("again"), &[]).await;
    end(fleet, agents.into_iter().chain([hub])).await;
}

#[tokio::test]
async fn the_supervisor_lists_its_agents_with_their_own_admin_ports() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let operator = fleet.start_operator_with(&["--admin", "127.0.0.1:0"]);
    let url = admin_url(&operator).await;
    until(&url, "/readyz", |status, _| status == 200).await;
    let all = |_: u16, body: &str| body.matches("\"admin\":\"http://127.0.0.1:").count() == 4;
    let status: Value = serde_json::from_str(&until(&url, "/status", all).await).expect("status is JSON");
    assert_eq!(status["europe"]["program"], "agent-partition");
    let hub_admin = status["hub"]["admin"].as_str().expect("the hub agent has an admin port");
    until(hub_admin, "/metrics", |_, body| body.contains("adx_federation_passes_total")).await;
    // A killed agent shows, and is started again after a pause.
    let europe = tokio::process::Command::new("pkill")
        .args(["-KILL", "-P", &operator.pid().expect("it runs").to_string(), "-f", "europe.yaml"])
        .status();
    assert!(europe.await.expect("pkill runs").success());
    let restarted = |_: u16, body: &str| {
        let status: Value = serde_json::from_str(body).expect("status is JSON");
        status["europe"]["restarts"] == 1 && status["europe"]["running"] == true
    };
    let status: Value = serde_json::from_str(&until(&url, "/status", restarted).await).expect("status is JSON");
    assert!(status["europe"]["lastExit"].as_str().is_some_and(|exit| exit.contains("SIGKILL")), "{status:#}");
    end(fleet, [operator]).await;
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_fails_a_beat_and_a_pass() {
    let mut fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let hub_document = fleet.hub_document();
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    fleet.hub.process().kill().await;
    for (agent, document) in [("agent-partition", document), ("agent-hub", hub_document)] {
        let mut agent = fleet.start_agent(agent, &document, &["--once"]);
        assert_eq!(agent.exited_within(SOON).await.code(), Some(1), "{}", agent.output());
    }
    end(fleet, []).await;
}

#[tokio::test]
async fn a_refused_identity_is_counted_by_endpoint() {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    fleet.hub.fail(&json!([{"fault": {"status": 401}}]));
    let partition = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let admin = ["--admin", "127.0.0.1:0"];
    let agents = [
        fleet.start_agent("agent-hub", &fleet.hub_document(), &admin),
        fleet.start_agent("agent-partition", &partition, &admin),
    ];
    let counted = format!("adx_federation_auth_failures_total{{endpoint=\"{}\"}}", fleet.hub.url);
    for agent in &agents {
        let url = admin_url(agent).await;
        let is_counted = |line: &str| line.strip_prefix(&counted).is_some_and(|count| count.trim() != "0");
        until(&url, "/metrics", |_, body| body.lines().any(is_counted)).await;
        assert_eq!(get(&url, "/readyz").await.0, 503);
    }
    end(fleet, agents).await;
}

#[tokio::test]
async fn a_partition_is_ready_while_a_hub_takes_its_beats() {
    let mut fleet = Fleet::start(Pace { heartbeat: "2s", ..Pace::FAST }).await.expect("the servers take the telemetry");
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &["--once"]);
    hub.exited_within(SOON).await;
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let agent = fleet.start_agent("agent-partition", &document, &["--admin", "127.0.0.1:0"]);
    let url = admin_url(&agent).await;
    until(&url, "/readyz", |status, _| status == 200).await;
    fleet.hub.process().signal(Signal::SIGSTOP);
    let told = "last accepted a heartbeat at ";
    let reason = until(&url, "/readyz", |status, body| status == 503 && body.contains(told)).await;
    let last: Timestamp =
        reason.split(told).nth(1).and_then(|at| at.trim().parse().ok()).expect("it says when that was");
    let since = Timestamp::now().duration_since(last);
    assert!(since > SignedDuration::from_secs(4), "a lost beat or two are no reason: {since} later");
    assert_eq!(get(&url, "/livez").await.0, 200, "a restart would not help");
    fleet.hub.process().signal(Signal::SIGCONT);
    until(&url, "/readyz", |status, _| status == 200).await;
    end(fleet, [agent]).await;
}
