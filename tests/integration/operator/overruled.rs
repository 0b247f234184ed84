//! An admission policy that changes every write of a child: the API server's own, where it has such policies.

use std::time::{Duration, Instant};

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestNamespace};
use tokio::time;

use crate::{
    drift::{change, reverted},
    support::{CLUSTER, COMPONENTS, until_event},
};

const POLICIES: [&str; 2] = [
    "admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding",
    "admissionregistration.k8s.io/v1 MutatingAdmissionPolicy",
];

const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: NAMESPACE}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]
  mutations:
    - patchType: JSONPatch
      jsonPatch:
        expression: \"[JSONPatch{op: 'replace', path: 'PLACE', value: 'Never'}]\"
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: NAMESPACE}
spec:
  policyName: NAMESPACE
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}}
";

const DEPLOYMENT: &str = "apps/v1 Deployment";
const PULL: &str = "/spec/template/spec/containers/0/imagePullPolicy";
const MARK: &str = "/metadata/annotations/adx-mon.azure.com~1applied";

/// An Alerter that runs; false where the API server has no such policies.
async fn runs(test: &TestNamespace) -> bool {
    if test.api(POLICIES[1]).list(&ListParams::default().limit(1)).await.is_err() {
        println!("skipped: the API server has no mutating admission policies");
        return false;
    }
    let alerter = COMPONENTS.split("---").last().expect("the last document");
    test.apply(&[CLUSTER, alerter].join("---")).await;
    test.until_condition("Alerter", "a", "Ready", "True", "Ready").await;
    true
}

/// Has a policy change one place of every Deployment that is written. The API server comes to know of it a moment later.
async fn overrule(test: &TestNamespace, place: &str) {
    test.apply(&POLICY.replace("NAMESPACE", &test.name).replace("PLACE", place)).await;
    let write =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"story": "asks"}}});
    let params = PatchParams { dry_run: true, ..PatchParams::apply("asks") };
    let started = Instant::now();
    loop {
        let written = test.api(DEPLOYMENT).patch("a", &params, &Patch::Apply(&write)).await;
        let written = serde_json::to_value(written.expect("the API server takes a label")).expect("an object is JSON");
        if written.pointer(place) == Some(&json!("Never")) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "nobody changes {written:#}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// Has the operator look at the Deployment, and put back what somebody did.
async fn scale(test: &TestNamespace) -> Value {
    change(test, DEPLOYMENT, "a", json!({"spec": {"replicas": 5}})).await;
    reverted(test, DEPLOYMENT, "a", |object| object["spec"]["replicas"] == 1).await;
    test.get(DEPLOYMENT, "a").await
}

#[tokio::test]
async fn what_a_policy_makes_of_every_write_is_told_and_left_until_the_policy_goes() {
    let test = TestNamespace::new("overruled").await;
    let _operator = test.operator().await;
    if !runs(&test).await {
        return;
    }
    let right = test.get(DEPLOYMENT, "a").await.pointer(PULL).cloned();
    assert_ne!(right, Some(json!("Never")));
    overrule(&test, PULL).await;
    let overruled = scale(&test).await;
    assert_eq!(overruled.pointer(PULL), Some(&json!("Never")));
    let told = "Deployment 'a' is not at spec.template.spec.containers[alerter].imagePullPolicy as it is applied";
    until_event(&test, "Overruled", told).await;
    // What somebody did beside it is told, too.
    until_event(&test, "DriftReverted", "Deployment 'a' was changed at spec.replicas").await;
    test.until_condition("Alerter", "a", "Ready", "True", "Ready").await;
    // It is no reason to write again and again, and nobody's change.
    test.until_rest(Duration::from_secs(2)).await;
    let events = test.events().await;
    let is_drift = |(reason, note): &(String, String)| reason == "DriftReverted" && note.contains("imagePullPolicy");
    assert!(!events.iter().any(is_drift), "{events:#?}");
    for kind in POLICIES {
        test.delete(kind, &test.name).await;
    }
    let started = Instant::now();
    while scale(&test).await.pointer(PULL) != right.as_ref() {
        assert!(started.elapsed() < PATIENCE, "what the policy made stays");
        time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_policy_that_takes_our_mark_away_is_told_and_hides_no_drift() {
    let test = TestNamespace::new("unmarked").await;
    let _operator = test.operator().await;
    if !runs(&test).await {
        return;
    }
    overrule(&test, MARK).await;
    let unmarked = scale(&test).await;
    assert_eq!(unmarked.pointer(MARK), Some(&json!("Never")));
    let told = "Deployment 'a' is not at metadata.annotations.adx-mon.azure.com/applied as it is applied";
    until_event(&test, "Overruled", told).await;
    test.until_rest(Duration::from_secs(2)).await;
    // The mark told what was ours until then.
    scale(&test).await;
    until_event(&test, "DriftReverted", "Deployment 'a' was changed at spec.replicas").await;
    test.until_rest(Duration::from_secs(2)).await;
    for kind in POLICIES {
        test.delete(kind, &test.name).await;
    }
}
