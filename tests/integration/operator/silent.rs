//! An agent of which nothing is heard any more, while its pods are ready: what it told last is no news for ever.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use shared::{document::Schedule, kubernetes::silent_from};
use tests::{
    cluster::{PATIENCE, TestNamespace, message_of},
    fleet::{Fleet, Pace},
};
use tokio::time;

use crate::{
    drift::change,
    support::{apply_documents, end, until_event},
};

/// The hub's agent may not write the status any more. Its role cannot say that, as the operator keeps that as it is.
const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NAMESPACE}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [adx-mon.azure.com], apiVersions: [v1], operations: [UPDATE], resources: [adxclusters/status]}]
  validations: [{expression: \"request.userInfo.username != 'system:serviceaccount:NAMESPACE:hub-agent'\"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NAMESPACE}
spec:
  policyName: NAMESPACE
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}}
";

/// The time of the pass that the hub's agent told of last, as somebody else writes it: other than what the agent wrote, so that it tells again.
async fn last_told(test: &TestNamespace, time: Timestamp) {
    let patch = Patch::Merge(json!({"status": {"federation": {"lastPass": {"time": time.to_string()}}}}));
    let patched = test.api("ADXCluster").patch_status("hub", &PatchParams::default(), &patch).await;
    patched.expect("the API server takes the status");
}

/// As the protocol has it, without a fraction.
fn seconds_from_now(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("it is a time")
}

#[tokio::test]
async fn an_agent_that_may_not_tell_of_its_passes_is_silent_until_it_may_again() {
    let fleet = Fleet::start(Pace::STEADY).await.expect("the servers take the telemetry");
    let test = TestNamespace::new("silent").await;
    let operator = test.operator().await;
    apply_documents(&test, &fleet).await;
    for name in ["hub", "europe"] {
        test.until_condition("ADXCluster", name, "Ready", "True", "Ready").await;
    }
    test.apply(&POLICY.replace("NAMESPACE", &test.name)).await;
    // The API server comes to know of it a moment later.
    let refusals = || test.kubelet.output().matches("the ADXCluster's status could not be written").count();
    let (before, started) = (refusals(), Instant::now());
    while refusals() == before {
        last_told(&test, seconds_from_now(-60)).await;
        time::sleep(Duration::from_millis(500)).await;
        assert!(started.elapsed() < PATIENCE, "it may still tell:\n{}", test.kubelet.output());
    }
    // As if nothing had been heard for so long that it is silent in a moment. The operator looks now, for another reason, and then by itself.
    let every = Duration::from_secs(1);
    let patience = silent_from(&Schedule::Interval { every }, Timestamp::UNIX_EPOCH).expect("the schedule goes on");
    let told = seconds_from_now(5 - patience.as_second());
    last_told(&test, told).await;
    change(&test, "ADXCluster", "hub", json!({"metadata": {"labels": {"story": "looked-at"}}})).await;
    let hub = test.until_condition("ADXCluster", "hub", "Federated", "Unknown", "AgentSilent").await;
    let message = message_of(&hub, "Federated");
    let since = format!("no pass since {told}");
    assert!(message.contains(&since), "{message}");
    // Its pods are ready, which would make all else look well.
    test.until_condition("ADXCluster", "hub", "Ready", "Unknown", "AgentSilent").await;
    test.until_condition("ADXCluster", "hub", "AgentReady", "True", "Ready").await;
    until_event(&test, "AgentSilent", &since).await;
    test.until_condition("ADXCluster", "europe", "Federated", "True", "Federated").await;
    // It goes on with its passes, and the next one that it may tell of is news, though it went as the last one did.
    for kind in ["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"] {
        test.delete(&format!("admissionregistration.k8s.io/v1 {kind}"), &test.name).await;
    }
    test.until_condition("ADXCluster", "hub", "Federated", "True", "Federated").await;
    test.until_condition("ADXCluster", "hub", "Ready", "True", "Ready").await;
    drop(operator);
    end(test, fleet).await;
}
