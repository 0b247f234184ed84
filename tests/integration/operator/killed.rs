//! An operator that is killed after every single write, and started again each time: it comes to the end that an undisturbed one comes to.

use std::time::Duration;

use serde_json::Value;
use tests::cluster::{ApiProxy, TestNamespace};
use tokio::time;

use crate::{
    resilience::through,
    support::{
        self, CLUSTER, COMPONENTS, assert_same, seeming_partition, state, tell_as_agent, until_told, without_federation,
    },
};

/// An operator that leads and has not written for so long has nothing to write: longer than it may wait for a processor.
const REST: Duration = Duration::from_secs(8);

/// All objects of these stories.
const OBJECTS: [(&str, &str); 5] =
    [("ADXCluster", "eu"), ("ADXCluster", "part"), ("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a")];

/// What is made, and what the objects tell, when all of it is done.
async fn end(test: &TestNamespace) -> Vec<(String, Value)> {
    until_told(test, &OBJECTS).await;
    test.until_rest(support::REST).await;
    state(test, &OBJECTS).await
}

#[tokio::test]
async fn killed_after_every_single_write_it_comes_to_the_same_end() {
    let all = [CLUSTER, COMPONENTS, &seeming_partition("part")].join("---");
    let expected = async {
        let test = TestNamespace::new("made-undisturbed").await;
        test.apply(&all).await;
        let _operator = test.operator().await;
        end(&test).await
    };
    let killed = async {
        let test = TestNamespace::new("killed").await;
        test.apply(&all).await;
        let proxy = ApiProxy::start(test.plane).await;
        let kills = kill_after_each_write(&test, &proxy, "made").await;
        assert!(kills >= 20, "only {kills} writes");
        let _operator = through(&test, &proxy, "last").await;
        (end(&test).await, test, proxy)
    };
    let (expected, (found, test, proxy)) = tokio::join!(Box::pin(expected), Box::pin(killed));
    assert_same(&found, &expected);
    // And when everything goes: what Kubernetes does not collect is removed before its owner is let go.
    for (kind, name) in [("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a")] {
        test.delete(kind, name).await;
    }
    let kills = kill_after_each_write(&test, &proxy, "gone").await;
    assert!(kills >= 6, "only {kills} writes");
    for (kind, name) in [("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a")] {
        test.until(kind, name, Value::is_null).await;
    }
    for kind in ["rbac.authorization.k8s.io/v1 ClusterRole", "rbac.authorization.k8s.io/v1 ClusterRoleBinding"] {
        let left = test.ours(kind).await;
        assert!(!left.iter().any(|name| name.contains(&format!(":{}:", test.name))), "{left:?}");
    }
}

/// Starts one operator after the other, each of which may write once; until one has nothing to write. Says how many were killed.
async fn kill_after_each_write(test: &TestNamespace, proxy: &ApiProxy, lease: &str) -> usize {
    let mut kills = 0;
    // A new lease each time: nobody waits for a dead holder's to expire.
    loop {
        let mut operator = through(test, proxy, &format!("{lease}-{kills}")).await;
        let rests = async {
            operator.until_leading().await;
            time::sleep(REST).await;
        };
        let is_killed = tokio::select! {
            () = proxy.stop_after(1) => true,
            () = rests => false,
        };
        operator.process.kill().await;
        proxy.go_on();
        if !is_killed {
            return kills;
        }
        kills += 1;
        assert!(
            kills < 120,
            "it never comes to an end: {:#?}",
            proxy.take().iter().filter(|seen| seen.is_write()).collect::<Vec<_>>()
        );
    }
}

/// All objects before an edit: what it takes away is there.
fn before() -> String {
    let scaled = COMPONENTS.replace("replicas: 2", "autoscaling: {minReplicas: 2, maxReplicas: 4}");
    [CLUSTER, &scaled, &seeming_partition("part")].join("---")
}

/// The same after it: other images, databases, another way to scale, another address, and a partition that is a hub.
fn after() -> String {
    let cluster = CLUSTER.replace("https://eu.kusto", "https://moved.kusto").replace(
        "Spans, telemetryType: Traces}",
        "Spans, telemetryType: Traces}\n    - {databaseName: More, telemetryType: Logs}",
    );
    let components = COMPONENTS
        .replace("replicas: 2", "replicas: 3, exposeExternally: true, image: 'x/i:2', managedIdentityClientId: id")
        .replace("name: c}\nspec: {}", "name: c}\nspec: {image: 'x/c:2'}")
        .replace("alerts.example.com", "other.example.com");
    let federated = "  role: Federated\n  federation: {image: 'x/agent:1', heartbeatDatabase: D, heartbeatTable: T}\n";
    let hub = without_federation(&seeming_partition("part")).to_owned() + federated;
    [cluster, components, hub].join("---")
}

/// Everything as it was made before the edit, by an operator that is gone then.
async fn before_the_edit(name: &str) -> TestNamespace {
    let test = TestNamespace::new(name).await;
    let operator = test.operator().await;
    test.apply(&before()).await;
    until_told(&test, &OBJECTS).await;
    test.until("autoscaling/v2 HorizontalPodAutoscaler", "i", |object| !object.is_null()).await;
    // To be taken back from a hub.
    tell_as_agent(&test, "part").await;
    drop(operator);
    test
}

async fn until_edited(test: &TestNamespace) {
    test.until("apps/v1 StatefulSet", "i", |set| set.to_string().contains("More=https://moved.kusto.windows.net"))
        .await;
    test.until("apps/v1 Deployment", "a", |object| object.to_string().contains("=https://moved.kusto.windows.net"))
        .await;
    test.until("autoscaling/v2 HorizontalPodAutoscaler", "i", Value::is_null).await;
    let is_hub = |object: &Value| object["spec"]["replicas"] == 2 && object.to_string().contains("/agent-hub");
    test.until("apps/v1 Deployment", "part-agent", is_hub).await;
    test.until("ADXCluster", "part", |object| object["status"]["federation"].is_null()).await;
}

#[tokio::test]
async fn killed_after_every_single_write_of_an_edit_it_comes_to_the_same_end() {
    let expected = async {
        let test = before_the_edit("edit-undisturbed").await;
        let proxy = ApiProxy::start(test.plane).await;
        let _operator = through(&test, &proxy, "edit").await;
        test.apply(&after()).await;
        until_edited(&test).await;
        end(&test).await
    };
    let found = async {
        let test = before_the_edit("edit-killed").await;
        test.apply(&after()).await;
        let proxy = ApiProxy::start(test.plane).await;
        let kills = kill_after_each_write(&test, &proxy, "edit").await;
        assert!(kills >= 12, "only {kills} writes");
        let _operator = through(&test, &proxy, "last").await;
        until_edited(&test).await;
        end(&test).await
    };
    let (expected, found) = tokio::join!(Box::pin(expected), Box::pin(found));
    assert_same(&found, &expected);
}
