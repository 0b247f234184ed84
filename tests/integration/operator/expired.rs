//! Watches from a version that the API server has no more: it says so in the watch itself, and the operator lists everything anew.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::cluster::{ApiProxy, PATIENCE, Seen, TestNamespace};
use tokio::time;

use crate::{
    deleting::until_looked_at,
    drift::change,
    resilience::through,
    support::{CLUSTER, COMPONENTS, until_ready},
};

/// How long it must be quiet to count as at rest: longer than who has something to write may wait for a processor.
const QUIET: Duration = Duration::from_secs(6);

/// What a request is about: its path without the query.
fn place(seen: &Seen) -> &str {
    seen.path.split('?').next().unwrap_or_default()
}

/// What was watched, or else read, as places.
fn read(seen: &[Seen], watched: bool) -> BTreeSet<String> {
    let reads = seen.iter().filter(|seen| seen.method == "GET" && seen.path.contains("watch=true") == watched);
    reads.map(|seen| place(seen).to_owned()).collect()
}

/// What was written beside leases.
fn writes(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|seen| seen.is_write() && !seen.is_lease()).collect()
}

/// Waits until everything was watched since `seen` began.
async fn until_watched(proxy: &ApiProxy, watched: &BTreeSet<String>, seen: &mut Vec<Seen>) {
    let started = Instant::now();
    loop {
        seen.extend(proxy.take());
        let missing: Vec<String> = watched.difference(&read(seen, true)).cloned().collect();
        if missing.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "not watched: {missing:#?}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ends all watches, and tells each that begins again that its version is too old; until all have been told, and from then on.
async fn expire(proxy: &ApiProxy, watched: &BTreeSet<String>) -> Vec<Seen> {
    proxy.answer("GET", "watch=true", 410, usize::MAX);
    proxy.take();
    proxy.cut_watches();
    let mut seen = Vec::new();
    until_watched(proxy, watched, &mut seen).await;
    seen
}

/// Lets watches pass, and waits until each has begun.
async fn until_back(proxy: &ApiProxy, watched: &BTreeSet<String>, seen: &mut Vec<Seen>) {
    proxy.answer("NONE", "", 0, 0);
    seen.extend(proxy.take());
    let mut later = Vec::new();
    until_watched(proxy, watched, &mut later).await;
    seen.extend(later);
}

#[tokio::test]
async fn watches_whose_version_expired_begin_with_a_new_list_and_miss_nothing() {
    let test = TestNamespace::new("expired").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "expired").await;
    operator.until_leading().await;
    let second = [("name: eu,", "name: us,"), ("clusterName: eu", "clusterName: us"), ("//eu.", "//us.")];
    let second = second.iter().fold(CLUSTER.to_owned(), |text, (from, to)| text.replace(from, to));
    test.apply(&[CLUSTER, &second, COMPONENTS].join("---")).await;
    until_ready(&test).await;
    let rest = test.until_rest(QUIET).await;
    let watched = read(&proxy.take(), true);
    assert_eq!(watched.len(), 17, "{watched:#?}");
    // Nothing has changed: everything is listed and looked at, and nothing is written.
    let before = operator.metrics().await;
    let mut seen = expire(&proxy, &watched).await;
    until_back(&proxy, &watched, &mut seen).await;
    until_looked_at(&operator, &["ADXCluster", "Ingestor", "Collector", "Alerter"], "unchanged", &before).await;
    let moved = rest.moved(&test.until_rest(QUIET).await);
    seen.extend(proxy.take());
    assert!(moved.is_empty() && writes(&seen).is_empty(), "{moved:#?} {:#?}", writes(&seen));
    let listed = read(&seen, false);
    assert!(watched.is_subset(&listed), "not listed: {:#?}", watched.difference(&listed));
    let log = operator.process.output();
    let told = log.lines().filter(|line| line.contains("a watch broke off and is begun again"));
    let told = told.filter(|line| line.contains("too old resource version: 1 (2)")).count();
    assert!(told >= watched.len(), "{log}");
    // What happens while no watch passes is in the lists alone: an object and a child that are gone, a child that somebody changed, and an edit.
    let mut seen = expire(&proxy, &watched).await;
    test.delete("ADXCluster", "us").await;
    test.delete("v1 Service", "i").await;
    change(&test, "apps/v1 Deployment", "a", json!({"spec": {"replicas": 0}})).await;
    test.apply(&COMPONENTS.replace("replicas: 2", "replicas: 3")).await;
    test.until("v1 Service", "i", |service| !service.is_null()).await;
    for (kind, name, replicas) in [("apps/v1 StatefulSet", "i", 3), ("apps/v1 Deployment", "a", 1)] {
        test.until(kind, name, |workload| {
            workload["spec"]["replicas"] == replicas && !workload.to_string().contains("//us.kusto")
        })
        .await;
    }
    until_back(&proxy, &watched, &mut seen).await;
    until_ready(&test).await;
    test.until_rest(QUIET).await;
    seen.extend(proxy.take());
    let here = format!("/namespaces/{}/", test.name);
    let written = writes(&seen).into_iter().map(place);
    let written = written.map(|place| place.rsplit_once(here.as_str()).map_or(place, |(_, name)| name));
    // Statuses and Events are for people.
    let written: BTreeSet<&str> =
        written.filter(|name| !name.ends_with("/status") && !name.starts_with("events")).collect();
    assert_eq!(written, BTreeSet::from(["deployments/a", "services/i", "statefulsets/i"]));
    // And the watches that began last tell what comes next.
    test.apply(COMPONENTS).await;
    test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 2).await;
    drop(operator);
}
