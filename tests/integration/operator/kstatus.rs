//! Whoever waits with kstatus waits for what is on its way, goes on when it is there, and gives up where only a person can go on. The library itself judges.

use serde_json::{Value, json};
use tests::cluster::{Kstatus, TestNamespace, Verdict, condition_of, message_of};

use crate::{
    drift::change,
    support::{CLUSTER, COMPONENTS, until_ready},
};

/// A cluster that nobody makes, and an Ingestor that waits for it.
const WAITING: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: unmade, labels: {app: other}}
spec: {clusterName: unmade, databases: [{databaseName: Logs, telemetryType: Logs}]}
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: waiting}
spec: {adxClusterSelector: {matchLabels: {app: other}}}
";

/// One whose pods never run, one that is wrong, one that is left alone.
const OTHERS: &str = "
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {name: broken}
spec: {image: 'x/missing:1', notificationEndpoint: 'https://alerts.example.com', adxClusterSelector: {matchLabels: {app: adx-mon}}}
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: wrong}
spec: {clusterName: wrong, endpoint: 'https://kusto.windows.net.evil.example'}
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {name: suspended}
spec: {suspend: true, notificationEndpoint: 'https://alerts.example.com', adxClusterSelector: {matchLabels: {app: adx-mon}}}
";

const ALL: [(&str, &str); 4] = [("ADXCluster", "eu"), ("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a")];

fn verdict(status: &str, message: impl Into<String>) -> Verdict {
    Verdict { status: status.to_owned(), message: message.into() }
}

#[tokio::test]
async fn kstatus_waits_for_what_is_on_its_way_and_gives_up_what_only_a_person_can_mend() {
    let Some(kstatus) = Kstatus::find() else { return };
    let test = TestNamespace::new("kstatus").await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    for (kind, name) in ALL {
        let verdict = kstatus.judge(&test.get(kind, name).await);
        assert_eq!(verdict.status, "InProgress", "{kind}: nobody has looked at it, and {verdict:?}");
    }
    let mut operator = test.operator().await;
    until_ready(&test).await;
    for (kind, name) in ALL {
        assert_eq!(kstatus.judge(&test.get(kind, name).await), verdict("Current", "Resource is Ready"), "{kind}");
    }
    test.apply(WAITING).await;
    test.apply(OTHERS).await;
    for (kind, name, status, reason) in [
        ("Ingestor", "waiting", "False", "WaitingForCluster"),
        ("Collector", "c", "False", "AmbiguousIngestor"),
        ("Alerter", "broken", "False", "ImagePullBackOff"),
        ("Alerter", "suspended", "Unknown", "Suspended"),
    ] {
        let object = test.until_condition(kind, name, "Ready", status, reason).await;
        assert_eq!(condition_of(&object, "Stalled"), None, "{object:#}");
        let expected = verdict("InProgress", message_of(&object, "Ready"));
        assert_eq!(kstatus.judge(&object), expected, "{object:#}");
    }
    for (name, reason) in [("wrong", "Invalid"), ("unmade", "ProvisioningDisabled")] {
        let object = test.until_condition("ADXCluster", name, "Ready", "False", reason).await;
        let expected = verdict("Failed", message_of(&object, "Stalled"));
        assert_eq!(kstatus.judge(&object), expected, "{object:#}");
    }
    // Nobody sees these changes.
    operator.process.stop().await;
    change(&test, "ADXCluster", "eu", json!({"spec": {"criteriaExpression": "true"}})).await;
    change(&test, "Alerter", "a", json!({"spec": {"image": "x/alerter:2"}})).await;
    for (kind, name) in [("ADXCluster", "eu"), ("Alerter", "a")] {
        let object = test.get(kind, name).await;
        assert_eq!(condition_of(&object, "Ready").expect("it was told")["status"], "True", "{object:#}");
        assert_eq!(kstatus.judge(&object).status, "InProgress", "{object:#}");
    }
    // What is made for it in the whole cluster goes first.
    test.delete("Collector", "c").await;
    assert_eq!(kstatus.judge(&test.get("Collector", "c").await).status, "Terminating");
    let _operator = test.operator().await;
    test.until("Collector", "c", Value::is_null).await;
}
