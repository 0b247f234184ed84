//! Agents that are evicted, as when nodes are drained: of a hub's two agents one at a time, and a partition's only one at once.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config, Error,
    api::{EvictParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::Status,
};
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestNamespace};
use tokio::time;

use crate::support::{HUB, seeming_partition};

const BUDGET: &str = "policy/v1 PodDisruptionBudget";

/// From now on nobody makes a pod: whoever goes has no successor.
const NOBODY: &str = "
apiVersion: v1
kind: ResourceQuota
metadata: {name: nobody}
spec: {hard: {pods: '0'}}
";

/// The namespace's pods, for somebody who takes no for an answer: the API server refuses an eviction as if it were asked too often, and a client asks again by itself.
async fn pods(test: &TestNamespace) -> Api<Pod> {
    let kubeconfig: Kubeconfig = serde_json::from_value(test.plane.admin_kubeconfig()).expect("it is one");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.expect("the kubeconfig is right");
    config.default_retry = false;
    Api::namespaced(Client::try_from(config).expect("the client can be built"), &test.name)
}

/// The names of an agent's pods.
async fn agents(pods: &Api<Pod>, owner: &str) -> Vec<String> {
    let labels = format!("app.kubernetes.io/name=federation-agent,app.kubernetes.io/instance={owner}");
    let list = pods.list(&ListParams::default().labels(&labels)).await.expect("the API server lists");
    list.items.into_iter().filter_map(|pod| pod.metadata.name).collect()
}

/// Waits until so many pods are healthy, of which one may go.
async fn until_one_may_go(test: &TestNamespace, budget: &str, healthy: u64) {
    let may_go = |budget: &Value| {
        let status = &budget["status"];
        status["disruptionsAllowed"] == 1 && status["currentHealthy"] == healthy && status["expectedPods"] == healthy
    };
    test.until(BUDGET, budget, may_go).await;
}

/// Waits until the API server knows that nobody makes a pod.
async fn until_nobody_comes(pods: &Api<Pod>) {
    let pod = json!({"metadata": {"name": "new"}, "spec": {"containers": [{"name": "new", "image": "x/new:1"}]}});
    let pod: Pod = serde_json::from_value(pod).expect("it is a pod");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let started = Instant::now();
    loop {
        match pods.create(&dry_run, &pod).await {
            Err(Error::Api(status)) if status.message.contains("quota") => return,
            made => assert!(started.elapsed() < PATIENCE, "pods are still made: {made:?}"),
        }
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn of_a_hubs_two_agents_one_may_be_evicted_and_the_other_when_that_one_is_back() {
    let test = TestNamespace::new("evicted").await;
    let _operator = test.operator().await;
    test.apply(&[HUB, &seeming_partition("part")].join("---")).await;
    for name in ["hub", "part"] {
        test.until_condition("ADXCluster", name, "AgentReady", "True", "Ready").await;
    }
    let pods = pods(&test).await;
    let evict = async |pod: &str| pods.evict(pod, &EvictParams::default()).await;
    // A partition has one agent: whoever drains its node is not held up.
    until_one_may_go(&test, "part-agent", 1).await;
    let only = agents(&pods, "part").await;
    evict(only[0].as_str()).await.expect("the only one may go");

    until_one_may_go(&test, "hub-agent", 2).await;
    let both = agents(&pods, "hub").await;
    assert_eq!(both.len(), 2, "{both:?}");
    let (one, other) = (both[0].as_str(), both[1].as_str());
    test.apply(NOBODY).await;
    until_nobody_comes(&pods).await;
    evict(one).await.expect("one may go");
    test.until("v1 Pod", one, Value::is_null).await;
    let refusal = evict(other).await.expect_err("the hub would be left without an agent");
    let is_for_the_budget = |status: &Status| status.code == 429 && status.message.contains("disruption budget");
    assert!(matches!(&refusal, Error::Api(status) if is_for_the_budget(status)), "{refusal:?}");
    let left = test.get("v1 Pod", other).await;
    assert_eq!(left["metadata"]["deletionTimestamp"], Value::Null, "{left:#}");
    // The first is back.
    test.delete("v1 ResourceQuota", "nobody").await;
    until_one_may_go(&test, "hub-agent", 2).await;
    evict(other).await.expect("the other may go now");
    until_one_may_go(&test, "hub-agent", 2).await;
    test.until_condition("ADXCluster", "hub", "AgentReady", "True", "Ready").await;
}
