//! The operator's `/metrics` and README.md say the same.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use kube::api::DeleteParams;
use serde_json::json;
use tests::{
    cluster::{ApiProxy, PATIENCE, TestNamespace},
    docs::read,
    metrics::{assert_explained, explained, families},
};
use tokio::time;

use crate::{
    drift::change,
    resilience::through,
    support::{CLUSTER, COMPONENTS, PARTITION, until_agent, until_ready},
};

/// Every metric that the operator shows has the labels of its row.
pub(crate) fn assert_as_in_the_readme(text: &str) {
    assert_explained(&families(text), &explained(&read("README.md")));
}

/// The first document of the components, with another name and something more in its spec.
fn ingestor(name: &str, more: &str) -> String {
    let text = COMPONENTS.split("---").next().unwrap_or_default();
    text.replace("{name: i}", &format!("{{name: {name}}}")).replace("replicas: 2", more)
}

#[tokio::test]
async fn every_outcome_and_every_kind_is_counted_under_the_labels_of_the_readme() {
    let test = TestNamespace::new("metrics").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "metrics").await;
    operator.until_leading().await;
    test.apply(&[CLUSTER, COMPONENTS, PARTITION].join("---")).await;
    until_ready(&test).await;
    until_agent(&test).await;
    // One for each way in which a reconcile ends.
    test.apply(&ingestor("progressing", "image: 'x/missing:1'")).await;
    test.apply(&ingestor("waiting", "replicas: 1").replace("app: adx-mon", "app: nobodys")).await;
    let stranger =
        [("name: eu, labels: {app: adx-mon}", "name: invalid"), ("eu.kusto.windows.net", "stranger.example.com")];
    test.apply(&stranger.iter().fold(CLUSTER.to_owned(), |text, (from, to)| text.replace(from, to))).await;
    test.apply("apiVersion: v1\nkind: Service\nmetadata: {name: conflict}\nspec: {ports: [{port: 1}]}\n").await;
    test.apply(&ingestor("conflict", "replicas: 1")).await;
    proxy.answer("PATCH", "/statefulsets/failed", 403, 1);
    test.apply(&ingestor("failed", "replicas: 1")).await;
    test.apply(&ingestor("suspended", "suspend: true")).await;
    test.apply(&ingestor("not-mine", "criteriaExpression: 'false'")).await;
    test.apply(&ingestor("gone", "replicas: 1")).await;
    test.until_condition("Ingestor", "gone", "WorkloadReady", "True", "Ready").await;
    test.api("Ingestor").delete("gone", &DeleteParams::default()).await.expect("it is there");
    // And drift of each kind.
    let spoilt = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}});
    for (kind, name) in [
        ("v1 ConfigMap", "part-agent"),
        ("v1 ServiceAccount", "i-ingestor"),
        ("v1 ServiceAccount", "c-collector"),
        ("v1 ServiceAccount", "a-alerter"),
    ] {
        change(&test, kind, name, spoilt.clone()).await;
    }
    let kinds: BTreeSet<String> = ["ADXCluster", "Ingestor", "Collector", "Alerter"].map(str::to_owned).into();
    let rows = explained(&read("README.md"));
    let outcomes = &rows["reconciles_total"].values;
    assert!(outcomes.len() >= 10, "{outcomes:?}");
    let started = Instant::now();
    loop {
        let text = operator.metrics().await;
        let shown = families(&text);
        let values = |family: &str, label: &str| {
            shown.get(family).and_then(|family| family.get(label)).cloned().unwrap_or_default()
        };
        if outcomes.is_subset(&values("reconciles_total", "outcome"))
            && values("reconciles_total", "kind") == kinds
            && values("drift_reverted_total", "kind") == kinds
        {
            assert!(shown.contains_key("reconcile_duration_seconds"), "{text}");
            assert_as_in_the_readme(&text);
            break;
        }
        assert!(started.elapsed() < PATIENCE, "not all of {outcomes:?} and {kinds:?}:\n{text}");
        time::sleep(Duration::from_millis(100)).await;
    }
    drop(operator);
}
