//! Idle: while nothing changes, nobody writes to the API server, neither the operator nor the agents that go on with their work.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::Value;
use tests::{
    cluster::{ApiProxy, PATIENCE, TestNamespace, Versions},
    fleet::{Fleet, Pace},
};
use tokio::time;

use crate::{
    resilience::through,
    support::{CLUSTER, COMPONENTS, apply_documents, end},
};

#[tokio::test]
async fn at_rest_nothing_is_written_but_leases() {
    let fleet = Fleet::start(Pace::STEADY).await.expect("the servers take the telemetry");
    let test = TestNamespace::new("rest").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "rest").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    // A hub and three partitions: their agents beat three times a minute, and pass every second.
    apply_documents(&test, &fleet).await;
    // And one that can never be ready, one that waits, one that is wrong: none of them is a reason to write again and again.
    test.apply(
        &COMPONENTS
            .replace("{name: i}", "{name: bad}")
            .split("---")
            .next()
            .expect("the first document")
            .replace("replicas: 2", "image: x/missing:1"),
    )
    .await;
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {name: tobe}\nspec: {clusterName: tobeprovisioned}\n").await;
    // And one that is exposed and scaled by load: its autoscaler, which finds no metrics here, is written and told of by others for as long as it is there.
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: Ingestor\nmetadata: {name: scaled}\nspec: {adxClusterSelector: {matchLabels: {app: adx-mon}}, exposeExternally: true, autoscaling: {minReplicas: 2, maxReplicas: 4}}\n").await;
    // And a partition whose agent beats all the time, to a hub that is not there.
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {name: nohub}\nspec: {clusterName: nohub, endpoint: 'http://127.0.0.1:9', federation: {heartbeatInterval: 3s, federatedClusters: [{endpoint: 'http://127.0.0.1:9', heartbeatDatabase: D, heartbeatTable: T}]}}\n").await;
    // One under whose child's name there is somebody else's, which is looked at again and again; one that is suspended, and one that is for another operator.
    test.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: taken-config}\ndata: {mine: 'yes'}\n").await;
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: Collector\nmetadata: {name: taken}\nspec: {ingestorEndpoint: 'https://x.example.com'}\n").await;
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: Collector\nmetadata: {name: stopped}\nspec: {suspend: true}\n")
        .await;
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: Collector\nmetadata: {name: elsewhere}\nspec: {criteriaExpression: 'false'}\n").await;
    for (name, status, reason) in [
        ("taken", "False", "Conflict"),
        ("stopped", "Unknown", "Suspended"),
        ("elsewhere", "Unknown", "CriteriaNotMet"),
    ] {
        test.until_condition("Collector", name, "Ready", status, reason).await;
    }
    test.until_condition("ADXCluster", "nohub", "Federated", "False", "Failed").await;
    test.until_condition("Ingestor", "bad", "Ready", "False", "ImagePullBackOff").await;
    test.until_condition("ADXCluster", "tobe", "Ready", "False", "ProvisioningDisabled").await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    test.until_condition("Ingestor", "scaled", "Ready", "True", "Ready").await;
    let is_looked_at = |scaler: &Value| scaler["status"]["conditions"].is_array();
    test.until("autoscaling/v2 HorizontalPodAutoscaler", "scaled", is_looked_at).await;
    test.until_condition("Alerter", "a", "Ready", "True", "Ready").await;
    let rests = |hub: &Value| {
        let told = &hub["status"]["federation"];
        told["live"] == "3/3" && told["lastPass"]["outcome"] == "unchanged"
    };
    test.until("ADXCluster", "hub", rests).await;
    // Once: whatever is written now is written at rest.
    let written = two_minutes(&test, &proxy, &fleet).await;
    assert!(written.is_empty(), "{written:#?}\n{}\n{}", operator.process.output(), test.kubelet.output());
    drop(operator);
    end(test, fleet).await;
}

const WINDOW: Duration = Duration::from_secs(120);

/// The accounts of all agents there.
const AGENTS: [&str; 5] = ["america-agent", "asia-agent", "europe-agent", "hub-agent", "nohub-agent"];

/// An agent writes a status of five minutes for its times alone. Younger than this, it is not written within the two minutes; half a minute is for lists that take their time.
const YOUNG: SignedDuration = SignedDuration::from_secs(5 * 60 - 120 - 30);

/// How long ago the agent wrote that did so first of all.
async fn oldest_word(test: &TestNamespace) -> SignedDuration {
    let clusters = test.api("ADXCluster").list(&ListParams::default()).await.expect("the API server lists");
    let words = clusters.items.iter().flat_map(|cluster| cluster.managed_fields());
    let words = words.filter(|entry| entry.manager.as_deref() == Some("adx-federation-agent"));
    let first = words.filter_map(|entry| Some(entry.time.as_ref()?.0)).min().expect("an agent has told something");
    Timestamp::now().duration_since(first)
}

/// Every quarter of a minute: on a busy machine no six seconds are without that.
fn is_by_the_autoscaler(told: &str) -> bool {
    ["HorizontalPodAutoscaler 'scaled'", "Event 'scaled."].iter().any(|whose| told.starts_with(whose))
}

/// Nothing has been written for six seconds, and nothing is to be for two minutes.
async fn until_rest(test: &TestNamespace) -> Versions {
    let started = Instant::now();
    loop {
        let rested = test.until_rest_apart_from(Duration::from_secs(6), is_by_the_autoscaler).await;
        if oldest_word(test).await < YOUNG {
            return rested;
        }
        // Where it took so long to get here, they write again first.
        assert!(started.elapsed() < PATIENCE * 4, "an agent's status is not written again");
        time::sleep(Duration::from_secs(1)).await;
    }
}

/// What is written in two minutes, in which agents beat.
async fn two_minutes(test: &TestNamespace, proxy: &ApiProxy, fleet: &Fleet) -> Vec<String> {
    let (before, beaten) = (until_rest(test).await, beats(fleet).await);
    assert!(before.count() > 80, "{before:#?}");
    proxy.take();
    let began = Timestamp::now();
    time::sleep(WINDOW).await;
    let ended = Timestamp::now();
    let writes = proxy.take().into_iter().filter(|seen| seen.is_write() && !seen.is_lease());
    let mut moved = before.moved(&test.versions().await);
    moved.retain(|told| !is_by_the_autoscaler(told));
    assert!(beats(fleet).await > beaten + 10, "the agents did no work");
    let sent = sent(test, began, ended).await;
    writes.map(|seen| format!("{seen:?}")).chain(moved).chain(sent).collect()
}

/// What the namespace's accounts sent to be written, leases apart: also what left everything as it was, of which no version tells, nor the proxy where it is an agent's.
async fn sent(test: &TestNamespace, began: Timestamp, ended: Timestamp) -> Vec<String> {
    let mut agents = test.ours("v1 ServiceAccount").await;
    agents.retain(|account| account.ends_with("-agent"));
    assert_eq!(agents, AGENTS);
    let started = Instant::now();
    let mut asked = loop {
        let Some(asked) = test.plane.asked_in(&test.name) else {
            println!("skipped: the API server is not ours, and does not tell what agents send to it");
            return Vec::new();
        };
        // What comes after the two minutes is in the log behind all that came in them.
        let is_late = |agent: &str| asked.iter().any(|asked| asked.account == agent && asked.time > ended);
        let silent: Vec<&str> = AGENTS.into_iter().filter(|agent| !is_late(agent)).collect();
        if silent.is_empty() {
            break asked;
        }
        assert!(started.elapsed() < PATIENCE, "of {silent:?} nothing is noted any more");
        time::sleep(Duration::from_secs(1)).await;
    };
    asked.retain(|asked| asked.is_write() && began < asked.time && asked.time <= ended);
    for agent in AGENTS {
        let renews = asked.iter().any(|asked| asked.account == agent && asked.resource == "leases");
        assert!(renews, "{agent} is not seen to renew its lease: {asked:#?}");
    }
    // Whoever has its lease again asks who it is itself, which has the form of a write, and nothing is stored.
    asked.retain(|asked| !["leases", "selfsubjectreviews"].contains(&asked.resource.as_str()));
    asked.iter().map(|asked| format!("{asked:?}")).collect()
}

/// How many heartbeats the hub has.
async fn beats(fleet: &Fleet) -> u64 {
    let count = fleet.hub.query("FleetDiscovery", "Heartbeats | count").await.expect("the hub answers");
    count.column("Count")[0].parse().expect("a count is a number")
}
