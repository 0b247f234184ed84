//! The lease: one of several operators leads, and each says truly how it stands.

use std::{
    mem,
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::cluster::{ApiProxy, Operator, OperatorOptions, PATIENCE, Seen, TestNamespace};
use tokio::time;

use crate::{
    resilience::through,
    support::{CLUSTER, COMPONENTS, for_the_most_part, until_ready},
};

/// Whoever is asked to stop does within this.
pub(crate) const STOP: Duration = Duration::from_secs(5);
/// Of how many stops, or releases, the greater part must be in time. They take a second or two where nobody else works; each of these takes a story seconds, so that there are no
/// more than a median needs.
pub(crate) const TRIES: usize = 3;

#[tokio::test]
async fn of_two_operators_one_leads_and_a_paused_one_gives_way() {
    let test = TestNamespace::new("lease").await;
    let proxy = ApiProxy::start(test.plane).await;
    let first = through(&test, &proxy, "adx-federation-operator").await;
    first.until_leading().await;
    let second = test.operator_with(&OperatorOptions::default()).await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    until_ready(&test).await;
    // Ready while it stands by: a Deployment of two replicas would never be rolled out otherwise.
    let stands_by = async |operator: &Operator| {
        let (status, reason) = operator.ask("/readyz").await;
        let stands_by = reason.starts_with("standing by");
        assert!(!stands_by || status == 200, "{status} {reason}");
        stands_by
    };
    let asked = Instant::now();
    while !stands_by(&second).await {
        assert!(asked.elapsed() < PATIENCE, "{:?}", second.ask("/readyz").await);
        time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!second.metrics().await.contains("reconciles_total{"), "it does not reconcile");
    // Longer than the lease of 15 s.
    first.process.signal(Signal::SIGSTOP);
    second.until_leading().await;
    test.apply(&COMPONENTS.replace("replicas: 2", "replicas: 3")).await;
    test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 3).await;
    // What it wrote as the leader that it was.
    assert!(proxy.take().iter().any(|seen| seen.is_write() && !seen.is_lease()), "it worked before");
    first.process.signal(Signal::SIGCONT);
    let started = Instant::now();
    while !stands_by(&first).await {
        assert!(started.elapsed() < PATIENCE, "{:?}\n{}", first.ask("/readyz").await, first.process.output());
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        test.get("apps/v1 StatefulSet", "i").await["spec"]["replicas"],
        3,
        "the one that was paused undoes nothing"
    );
    // For a moment it may have believed that it still leads. From now on it does nothing beside the one that does.
    proxy.take();
    test.apply(&COMPONENTS.replace("replicas: 2", "replicas: 4")).await;
    test.until("apps/v1 StatefulSet", "i", |set| set["spec"]["replicas"] == 4).await;
    let (mut asked, started) = (Vec::new(), Instant::now());
    // It goes on asking for the lease, and by the third time has had the time to ask for anything else.
    while asked.iter().filter(|seen: &&Seen| seen.is_lease()).count() < 3 {
        assert!(started.elapsed() < PATIENCE, "it asks for nothing any more");
        time::sleep(Duration::from_millis(200)).await;
        asked.extend(proxy.take());
    }
    // Not even to read: whoever reconciles beside the leader, and finds all done, writes nothing either.
    asked.retain(|seen| !seen.is_lease());
    assert!(asked.is_empty(), "{asked:#?}");
    // A graceful end hands the lease over before it expires.
    let terms = |operator: &Operator| operator.process.output().matches(": leading").count();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lease = async || test.get("coordination.k8s.io/v1 Lease", "adx-federation-operator").await["spec"].clone();
    let (mut leader, mut other) = (second, first);
    for_the_most_part(TRIES, async |number| {
        if number > 0 {
            let next = test.operator_with(&OperatorOptions::default()).await;
            leader = mem::replace(&mut other, next);
        }
        let before = text(&lease().await["holderIdentity"]);
        assert!(!before.is_empty());
        let led = terms(&leader);
        assert!(led > 0, "{}", leader.process.output());
        let asked = Instant::now();
        leader.process.signal(Signal::SIGTERM);
        assert_eq!(leader.process.exited_within(PATIENCE).await.code(), Some(0));
        let took = asked.elapsed();
        assert_eq!(terms(&leader), led, "it began to work again: {}", leader.process.output());
        // Others need not wait for its end: nobody holds it, or the other does already.
        let after = lease().await;
        other.until_leading().await;
        if took < STOP && text(&after["holderIdentity"]) != before {
            Ok(())
        } else {
            Err(format!("{before} stopped after {took:?}, and then it was {after}"))
        }
    })
    .await;
}

#[tokio::test]
async fn who_cannot_have_a_lease_while_nobody_leads_is_not_ready_and_says_why() {
    let test = TestNamespace::new("nolease").await;
    let options =
        OperatorOptions { arguments: vec!["--lease-namespace=nope".to_owned()], ..OperatorOptions::default() };
    let operator = test.operator_with(&options).await;
    let (mut is_told, started) = (false, Instant::now());
    while !is_told || started.elapsed() < Duration::from_secs(6) {
        let (status, reason) = operator.ask("/readyz").await;
        assert_eq!(status, 503, "{reason}");
        is_told |= reason.contains("in namespace 'nope'") && reason.contains("not found");
        assert!(started.elapsed() < PATIENCE, "{}", operator.process.output());
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// When an operator said last that it is not ready any more.
fn stopped_leading(operator: &Operator) -> Option<Timestamp> {
    let output = operator.process.output();
    let line = output.lines().rfind(|line| line.contains("readiness changed ready=false"))?;
    line.split(' ').next()?.parse().ok()
}

/// One operator that cannot renew its lease: how long after the last renewal it said that it leads no longer, and how long it took to stop.
async fn cannot_renew(test: &TestNamespace, lease: &str, status: u16) -> (SignedDuration, Duration) {
    let proxy = ApiProxy::start(test.plane).await;
    let mut operator = through(test, &proxy, lease).await;
    operator.until_leading().await;
    proxy.answer("PATCH", "/leases/", status, usize::MAX);
    let started = Instant::now();
    loop {
        let (status, reason) = operator.ask("/readyz").await;
        if !reason.starts_with("leading") {
            // Nobody leads.
            assert_eq!(status, 503, "{reason}");
            assert!(reason.starts_with(&format!("nobody is known to hold the lease '{lease}'")), "{reason}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{}", operator.process.output());
        time::sleep(Duration::from_millis(50)).await;
    }
    let kept = test.get("coordination.k8s.io/v1 Lease", lease).await;
    let renewed: Timestamp =
        kept["spec"]["renewTime"].as_str().and_then(|time| time.parse().ok()).expect("it was renewed");
    // It is told to its log as it is told at its port.
    let stopped = loop {
        if let Some(stopped) = stopped_leading(&operator) {
            break stopped;
        }
        assert!(started.elapsed() < PATIENCE, "{}", operator.process.output());
        time::sleep(Duration::from_millis(50)).await;
    };
    proxy.answer("NONE", "", 200, 0);
    operator.until_leading().await;
    let asked = Instant::now();
    operator.process.signal(Signal::SIGTERM);
    operator.process.exited_within(PATIENCE).await;
    (stopped.duration_since(renewed), asked.elapsed())
}

#[tokio::test]
async fn who_cannot_renew_its_lease_stops_before_another_begins() {
    /// A lease that is not renewed for so long is another's.
    const LEASE: SignedDuration = SignedDuration::from_secs(15);
    let test = TestNamespace::new("renewal").await;
    let stops_in_time = async |status: u16| {
        // Side by side: each waits for as long as a lease lasts.
        let tries = (0..TRIES).map(|number| {
            let (test, lease) = (&test, format!("renewal-{status}-{number}"));
            async move { cannot_renew(test, &lease, status).await }
        });
        let tries = join_all(tries).await;
        let late = tries.iter().filter(|(led_on, took)| *led_on >= LEASE || *took >= STOP).count();
        assert!(late * 2 < TRIES, "they led on after their last renewals, and stopped, for: {tries:?}");
    };
    // Silence, and an error that looks as if it would pass.
    tokio::join!(stops_in_time(0), stops_in_time(503));
}
