//! The lease: one of several operators leads, and each says truly how it stands.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::cluster::{ApiProxy, Operator, OperatorOptions, Seen, TestNamespace};
use tokio::time;

use crate::{
    resilience::through,
    support::{CLUSTER, COMPONENTS, until_ready},
};

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
    let ready = async |operator: &Operator| {
        let answer = reqwest::get(format!("{}/readyz", operator.admin().await)).await.expect("the admin port answers");
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    };
    // Ready while it stands by: a Deployment of two replicas would never be rolled out otherwise.
    let stands_by = async |operator: &Operator| {
        let (status, reason) = ready(operator).await;
        let stands_by = reason.starts_with("standing by");
        assert!(!stands_by || status == 200, "{status} {reason}");
        stands_by
    };
    let asked = Instant::now();
    while !stands_by(&second).await {
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", ready(&second).await);
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
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}\n{}", ready(&first).await, first.process.output());
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
    let mut written = Vec::new();
    // It goes on asking for the lease.
    while !written.iter().any(Seen::is_lease) {
        assert!(started.elapsed() < Duration::from_secs(60), "it asks for nothing any more");
        time::sleep(Duration::from_millis(200)).await;
        written.extend(proxy.take());
    }
    written.retain(|seen| seen.is_write() && !seen.is_lease());
    assert!(written.is_empty(), "{written:#?}");
    // A graceful end hands the lease over before it expires.
    let before = test.get("coordination.k8s.io/v1 Lease", "adx-federation-operator").await["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(!before.is_empty());
    let terms = |operator: &Operator| operator.process.output().matches(": leading").count();
    let led = terms(&second);
    assert!(led > 0, "{}", second.process.output());
    let (mut second, asked) = (second, Instant::now());
    second.process.signal(Signal::SIGTERM);
    assert_eq!(second.process.exited_within(Duration::from_secs(5)).await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(terms(&second), led, "it began to work again: {}", second.process.output());
    // Others need not wait for its end: nobody holds it, or the other does already.
    let lease = test.get("coordination.k8s.io/v1 Lease", "adx-federation-operator").await;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    let renewed = lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned();
    assert!(holder.is_empty() || holder != before, "{before} still holds it, renewed at {renewed}");
    first.until_leading().await;
}

#[tokio::test]
async fn who_cannot_have_a_lease_while_nobody_leads_is_not_ready_and_says_why() {
    let test = TestNamespace::new("nolease").await;
    let options =
        OperatorOptions { arguments: vec!["--lease-namespace=nope".to_owned()], ..OperatorOptions::default() };
    let operator = test.operator_with(&options).await;
    let (admin, started) = (operator.admin().await, Instant::now());
    let mut is_told = false;
    while started.elapsed() < Duration::from_secs(6) {
        let answer = reqwest::get(format!("{admin}/readyz")).await.expect("the admin port answers");
        let (status, reason) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
        assert_eq!(status, 503, "{reason}");
        is_told |= reason.contains("in namespace 'nope'") && reason.contains("not found");
        time::sleep(Duration::from_millis(100)).await;
    }
    assert!(is_told, "{}", operator.process.output());
}

#[tokio::test]
async fn who_cannot_renew_its_lease_stops_before_another_begins() {
    let test = TestNamespace::new("renewal").await;
    // Silence, and an error that looks as if it would pass.
    for (number, status) in [0, 503].into_iter().enumerate() {
        let lease = format!("renewal-{number}");
        let proxy = ApiProxy::start(test.plane).await;
        let operator = through(&test, &proxy, &lease).await;
        operator.until_leading().await;
        proxy.answer("PATCH", "/leases/", status, usize::MAX);
        let admin = operator.admin().await;
        let started = Instant::now();
        loop {
            let answer = reqwest::get(format!("{admin}/readyz")).await.expect("the admin port answers");
            let (status, reason) = (answer.status().as_u16(), answer.text().await.expect("a reason is text"));
            if !reason.starts_with("leading") {
                // Nobody leads.
                assert_eq!(status, 503, "{reason}");
                assert!(reason.starts_with(&format!("nobody is known to hold the lease '{lease}'")), "{reason}");
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{}", operator.process.output());
            time::sleep(Duration::from_millis(50)).await;
        }
        let kept = test.get("coordination.k8s.io/v1 Lease", &lease).await;
        let renewed: jiff::Timestamp =
            kept["spec"]["renewTime"].as_str().and_then(|time| time.parse().ok()).expect("it was renewed");
        let age = jiff::Timestamp::now().duration_since(renewed);
        assert!(age < jiff::SignedDuration::from_secs(15), "it led on for {age} after its last renewal");
        proxy.answer("NONE", "", 200, 0);
        operator.until_leading().await;
        let (mut operator, asked) = (operator, Instant::now());
        operator.process.signal(Signal::SIGTERM);
        operator.process.exited_within(Duration::from_secs(5)).await;
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
}
