//! What the stories of provisioning share.

use std::time::Duration;

use serde_json::Value;
use tests::{
    azure::{AzureDouble, AzureOptions},
    cluster::{Operator, OperatorOptions, PATIENCE, TestNamespace, condition_of},
};
use tokio::time;

/// Longer than any wait: what takes so long ends when the story says so.
pub(crate) const LONG: Duration = Duration::from_secs(20 * 60);

/// A cluster of which only the name is said.
pub(crate) fn zero_config(name: &str) -> String {
    format!(
        "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {{name: {name}}}
spec: {{clusterName: {name}}}
"
    )
}

/// The same with lines below `spec`.
pub(crate) fn with_spec(name: &str, lines: &str) -> String {
    let lines: String = lines.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {{name: {name}}}
spec:
  clusterName: {name}
{lines}"
    )
}

/// A cluster name that no other story has.
pub(crate) fn name_for(test: &TestNamespace) -> String {
    test.name.replace('-', "")
}

/// A double in which everything is quick.
pub(crate) async fn azure() -> AzureDouble {
    AzureDouble::start(AzureOptions::default()).await
}

/// What an operator that works with the double is started with.
pub(crate) fn options(azure: &AzureDouble) -> OperatorOptions {
    OperatorOptions {
        arguments: vec![
            "--azure-credential=workloadIdentity".to_owned(),
            format!("--azure-endpoint={}", azure.url()),
            format!("--imds-endpoint={}", azure.imds_url()),
            "--azure-interval=1s".to_owned(),
            "--azure-requests-per-second=50".to_owned(),
        ],
        environment: azure.workload_identity(),
        ..OperatorOptions::default()
    }
}

/// An operator that works with the double.
pub(crate) async fn operator(test: &TestNamespace, azure: &AzureDouble) -> Operator {
    let operator = test.operator_with(&options(azure)).await;
    operator.until_leading().await;
    operator
}

/// Waits until a cluster is as it is to be: ready, and with nothing left to do.
pub(crate) async fn until_provisioned(test: &TestNamespace, name: &str) -> Value {
    let fits = |object: &Value| {
        let is_true = |condition: &str| {
            condition_of(object, condition).is_some_and(|found| {
                found["status"] == "True" && found["observedGeneration"] == object["metadata"]["generation"]
            })
        };
        is_true("Provisioned") && is_true("DatabasesReady") && is_true("ClusterReady")
    };
    test.until("ADXCluster", name, fits).await
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let started = time::Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "not yet: {what}");
        time::sleep(Duration::from_millis(50)).await;
    }
}
