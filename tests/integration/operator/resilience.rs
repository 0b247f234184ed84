//! Edits in every phase, and a bad API server.

use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::cluster::{ApiProxy, Operator, OperatorOptions, PATIENCE, TestNamespace, is_observed};
use tokio::time;

use crate::{
    leading::{STOP, TRIES},
    support::{
        CLUSTER, COMPONENTS, PARTITION, assert_same, for_the_most_part, made, undisturbed, until_agent, until_ready,
        without_federation,
    },
};

pub(crate) async fn through(test: &TestNamespace, proxy: &ApiProxy, lease: &str) -> Operator {
    let arguments = vec![format!("--lease-name={lease}")];
    let options = OperatorOptions { server: Some(proxy.url.clone()), arguments, ..OperatorOptions::default() };
    test.operator_with(&options).await
}

/// There and back before the operator has done what the edit before asked for: of objects that have settled, see `in_place`.
#[tokio::test]
async fn edits_that_overtake_each_other_end_as_if_nothing_had_ever_been_otherwise() {
    let test = TestNamespace::new("there-and-back").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    // Before anything is there, while it is made, and while it cannot run.
    let other = COMPONENTS
        .replace("replicas: 2", "autoscaling: {maxReplicas: 4}, exposeExternally: true, image: 'x/i:2'")
        .replace("name: c}\nspec: {}", "name: c}\nspec: {image: 'x/missing:1'}")
        .replace("'https://alerts.example.com'", "'https://other.example.com'");
    test.apply(&other).await;
    test.apply(COMPONENTS).await;
    test.apply(&other).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    test.until_condition("Collector", "c", "Ready", "False", "ImagePullBackOff").await;
    test.apply(COMPONENTS).await;
    // A partition becomes a hub and a partition again, goes and comes.
    let hub = without_federation(PARTITION).to_owned()
        + "  role: Federated\n  federation: {heartbeatDatabase: D, heartbeatTable: T}\n";
    test.apply(PARTITION).await;
    test.apply(&hub).await;
    test.apply(PARTITION).await;
    test.apply(&hub).await;
    test.until("apps/v1 Deployment", "part-agent", |object| object["spec"]["replicas"] == 2).await;
    test.delete("ADXCluster", "part").await;
    test.until("apps/v1 Deployment", "part-agent", Value::is_null).await;
    test.apply(PARTITION).await;
    until_agent(&test).await;
    for (kind, name) in [("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a"), ("ADXCluster", "part")] {
        test.until(kind, name, is_observed).await;
    }
    until_ready(&test).await;
    assert_same(&made(&test).await, &undisturbed().await);
}

#[tokio::test]
async fn what_the_next_agent_tells_is_not_taken_back_with_what_the_last_one_told() {
    let test = TestNamespace::new("agents-words").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "agents-words").await;
    operator.until_leading().await;
    // Pods without a program in them: the story speaks for the agents.
    let of_role = |role: &str| {
        PARTITION.replace("  federation:", &format!("  role: {role}\n  federation:\n    image: x/silent:1"))
    };
    let hub = of_role("Federated").split("    federatedClusters:").next().expect("the text has that list").to_owned()
        + "    heartbeatDatabase: D\n    heartbeatTable: T\n";
    let tells = async |federation: Value| {
        let status = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "part"}, "status": {"federation": federation}});
        let params = PatchParams::apply("adx-federation-agent").force();
        let told = test.api("ADXCluster").patch_status("part", &params, &Patch::Apply(&status)).await;
        told.expect("the API server takes the status");
    };
    let hubs = json!([{"endpoint": "https://hub.kusto.windows.net", "outcome": "accepted"}]);
    // Each time the next agent tells something while the operator is still at the last one's word.
    for round in 0..6 {
        test.apply(&hub).await;
        test.until("apps/v1 Deployment", "part-agent", |object| object["spec"]["replicas"] == 2).await;
        tells(json!({"live": "1/1"})).await;
        test.apply(&of_role("Partition")).await;
        tells(json!({"hubs": hubs})).await;
        test.until("apps/v1 Deployment", "part-agent", |object| object["spec"]["replicas"] == 1).await;
        let told = test.until("ADXCluster", "part", is_observed).await;
        assert_eq!(told["status"]["federation"]["hubs"], hubs, "round {round}: {told:#}");
    }
    // What nobody has told in place of it goes, also where another write comes before.
    proxy.answer("PATCH", "fieldManager=adx-federation-agent", 409, 1);
    tells(json!({"live": "1/1"})).await;
    // An agent that tells of another role gives no reason to look; the next edit does.
    test.apply(&of_role("Partition").replace("geo: EU", "geo: US")).await;
    test.until("ADXCluster", "part", |object| is_observed(object) && object["status"]["federation"].is_null()).await;
    assert_eq!(proxy.still_to_meet(), 0);
    drop(operator);
}

#[tokio::test]
async fn errors_of_the_api_server_and_cut_watches_are_lived_through() {
    let test = TestNamespace::new("faults").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "faults").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    let (mut replicas, mut external) = (2, false);
    for (method, containing) in [
        ("GET", "/statefulsets/i"),
        ("PATCH", "/statefulsets/i"),
        ("PATCH", "/services/i"),
        ("PATCH", "/ingestors/i/status"),
        ("GET", "/pods"),
    ] {
        for status in [409, 429, 500] {
            // Pods are looked at only while some are not ready: where an operator was late, they may be by then.
            let (times, tries) = if containing == "/pods" { (1, 5) } else { (2, 1) };
            proxy.answer(method, containing, status, times);
            for _ in 0..tries {
                (replicas, external) = (replicas % 3 + 1, !external);
                let changed =
                    COMPONENTS.replace("replicas: 2", &format!("replicas: {replicas}, exposeExternally: {external}"));
                test.apply(&changed).await;
                test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == replicas).await;
                test.until("v1 Service", "i", |service| (service["spec"]["type"] == "LoadBalancer") == external).await;
                test.until("Ingestor", "i", is_observed).await;
                test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
                if proxy.still_to_meet() == 0 {
                    break;
                }
            }
            assert_eq!(proxy.still_to_meet(), 0, "{method} {containing} was not answered with {status}");
            proxy.answer("NONE", "", 0, 0);
        }
    }
    // What is not tried again by itself is told.
    proxy.answer("PATCH", "/statefulsets/i", 403, 2);
    test.apply(&COMPONENTS.replace("replicas: 2", "replicas: 5")).await;
    test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 5).await;
    // Watches: cut, and refused as too old when they come back.
    for status in [0, 410, 500] {
        if status > 0 {
            proxy.answer("GET", "watch=true", status, 4);
        }
        proxy.cut_watches();
        // What changes meanwhile is seen all the same.
        let orphan = kube::api::DeleteParams::default();
        test.api("v1 Service").delete("i", &orphan).await.expect("the API server deletes");
        test.apply(&COMPONENTS.replace("replicas: 2", &format!("replicas: {}", 4 + status % 7))).await;
        test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 4 + status % 7).await;
        test.until("v1 Service", "i", |service| !service.is_null()).await;
        let started = Instant::now();
        while status > 0 && proxy.still_to_meet() > 0 {
            assert!(started.elapsed() < PATIENCE, "no watch was answered with {status}");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    // People are told with the cause chain.
    let told = |(reason, note): &(String, String)| {
        reason == "ApplyFailed"
            && note.contains("failed to read the StatefulSet 'i'")
            && note.contains("spoilt by the story")
    };
    let started = Instant::now();
    loop {
        let events = test.events().await;
        if events.iter().any(told) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{events:#?}");
        time::sleep(Duration::from_millis(100)).await;
    }
    drop(operator);
}

/// A reconcile that waits for an answer and a lease that cannot be released are the longest ways to the end.
#[tokio::test]
async fn it_stops_in_time_while_the_api_server_does_not_answer() {
    let test = TestNamespace::new("silent").await;
    let proxy = ApiProxy::start(test.plane).await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    for_the_most_part(TRIES, async |number| {
        let mut operator = through(&test, &proxy, &format!("silent-{number}")).await;
        operator.until_leading().await;
        until_ready(&test).await;
        let silence = async {
            test.apply(&COMPONENTS.replace("replicas: 2", &format!("replicas: {}", 3 + number))).await;
            time::sleep(Duration::from_secs(1)).await;
        };
        let (stopped, ()) = tokio::join!(time::timeout(PATIENCE, proxy.stop_after(0)), silence);
        assert!(stopped.is_ok(), "nothing was sent");
        let asked = Instant::now();
        operator.process.signal(Signal::SIGTERM);
        operator.process.exited_within(PATIENCE).await;
        let took = asked.elapsed();
        proxy.go_on();
        if took < STOP { Ok(()) } else { Err(format!("it stopped after {took:?}")) }
    })
    .await;
}

/// When the operator applied an object last, by the API server's clock.
fn applied_at(object: &Value) -> Timestamp {
    let managers = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let own = managers.filter(|entry| entry["manager"] == "adx-federation-operator" && entry["subresource"].is_null());
    own.filter_map(|entry| entry["time"].as_str()?.parse().ok()).max().expect("the operator applied it")
}

#[tokio::test]
async fn an_unanswered_request_is_given_up_and_the_object_goes_on() {
    let test = TestNamespace::new("unanswered").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "unanswered").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    proxy.answer("GET", "/statefulsets/i", 0, 1);
    let scale = async |kind: &str, name: &str, replicas: i64| {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        test.api(kind).patch(name, &PatchParams::default(), &patch).await.expect("the API server scales");
    };
    scale("apps/v1 StatefulSet", "i", 7).await;
    let asked = Instant::now();
    while proxy.still_to_meet() > 0 {
        assert!(asked.elapsed() < PATIENCE, "the StatefulSet is not looked at");
        time::sleep(Duration::from_millis(20)).await;
    }
    // No other object waits for it, which is given up after twenty seconds.
    scale("apps/v1 Deployment", "a", 0).await;
    let alerter = test.until("apps/v1 Deployment", "a", |object| object["spec"]["replicas"] == 1).await;
    let ingestor = test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 2).await;
    let [of_alerter, of_ingestor] = [&alerter, &ingestor].map(applied_at);
    assert!(of_alerter < of_ingestor, "the Alerter waited for the Ingestor: {of_alerter} {of_ingestor}");
    // Watches are older than any answer may be, and go on.
    for_the_most_part(TRIES, async |_| {
        scale("apps/v1 StatefulSet", "i", 7).await;
        let scaled = Instant::now();
        test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 2).await;
        let took = scaled.elapsed();
        // Half of what an unanswered request would take.
        if took < Duration::from_secs(10) { Ok(()) } else { Err(format!("it was put back after {took:?}")) }
    })
    .await;
}

#[tokio::test]
async fn it_is_ready_when_its_watches_are_synced() {
    let test = TestNamespace::new("synced").await;
    // Of our kinds, of what is made for them, of what others make for that, and of what is in no namespace.
    let watched = ["adxclusters", "daemonsets", "pods", "clusterroles"];
    join_all(watched.map(|kind| is_ready_when_it_has_listed(&test, kind))).await;
}

/// The first lists of one watch fail.
async fn is_ready_when_it_has_listed(test: &TestNamespace, kind: &str) {
    let proxy = ApiProxy::start(test.plane).await;
    // Our kinds are asked for before, one after the other, to see that they are defined: this is the last of them.
    proxy.hold("GET", "/alerters?");
    let operator = through(test, &proxy, &format!("synced-{kind}")).await;
    proxy.until_held().await;
    proxy.answer("GET", &format!("/{kind}?"), 500, 6);
    proxy.let_go();
    let (mut seen, started) = (Vec::new(), Instant::now());
    loop {
        let (status, reason) = operator.ask("/readyz").await;
        assert_eq!(status == 200, reason.starts_with("leading"), "{kind}: {status} {reason}");
        if status == 200 {
            break;
        }
        seen.push(reason);
        assert!(started.elapsed() < PATIENCE * 2, "{kind}: {seen:?}");
        time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(proxy.still_to_meet(), 0, "it was ready before it had listed {kind}");
    assert!(seen.iter().any(|reason| reason.contains("watches are synced")), "{kind}: {seen:?}");
    assert_eq!(operator.ask("/livez").await.0, 200);
}

#[tokio::test]
async fn it_waits_for_missing_definitions_and_stops_gracefully() {
    let test = TestNamespace::new("definitions").await;
    let proxy = ApiProxy::start(test.plane).await;
    proxy.answer("GET", "/ingestors?", 404, usize::MAX);
    let mut operator = through(&test, &proxy, "definitions").await;
    let started = Instant::now();
    loop {
        let (status, reason) = operator.ask("/readyz").await;
        if reason.contains("waiting for the custom resource definitions: Ingestor") {
            assert_eq!(status, 503);
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{reason}");
        time::sleep(Duration::from_millis(20)).await;
    }
    proxy.answer("NONE", "", 0, 0);
    operator.until_leading().await;
    operator.process.signal(Signal::SIGTERM);
    assert_eq!(operator.process.exited_within(PATIENCE).await.code(), Some(0));
}
