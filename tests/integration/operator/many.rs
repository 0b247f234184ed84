//! Many objects: all of them become ready, and then nobody writes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tests::cluster::{ApiProxy, PATIENCE, TestNamespace, is_observed};
use tokio::time;

use crate::{resilience::through, support::PARTITION};

const OBJECTS: usize = 200;

/// What is said of a partition of an existing cluster.
const PHASES: [&str; 5] = ["ClusterReady", "DatabasesReady", "AgentReady", "Federated", "Ready"];

/// Rest: twice the ten seconds after which an object is looked at again whose pods are not ready.
const QUIET: Duration = Duration::from_secs(20);

/// A partition whose agent only seems to run.
fn partition(name: &str) -> String {
    let renamed = PARTITION.replace("{name: part}", &format!("{{name: {name}}}"));
    renamed.replace("  federation:", "  federation:\n    image: x/agent:1")
}

/// Every agent tells of a pass with the document that it was given.
async fn each_agent_tells(test: &TestNamespace) {
    let now = Timestamp::from_second(Timestamp::now().as_second()).expect("now is a time").to_string();
    let marked = ListParams::default().labels("app.kubernetes.io/name=federation-agent");
    let agents = test.api("apps/v1 Deployment").list(&marked).await.expect("the API server lists");
    let params = PatchParams::apply("adx-federation-agent").force();
    for agent in agents.items {
        let name = &agent.labels()["app.kubernetes.io/instance"];
        let document = agent.data.pointer("/spec/template/metadata/annotations/adx-mon.azure.com~1config");
        let hub = json!({"endpoint": "https://hub.kusto.windows.net", "outcome": "accepted", "lastSuccess": now});
        let federation = json!({"document": document, "hubs": [hub], "lastPass": {"time": now, "outcome": "done"}});
        let told = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": name}, "status": {"federation": federation}});
        let told = test.api("ADXCluster").patch_status(name, &params, &Patch::Apply(&told)).await;
        told.expect("the API server takes the status");
    }
}

/// Beside the story and its kubelet, all that the operator says and hears passes through this program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_objects_become_ready_and_come_to_rest() {
    let test = TestNamespace::new("many").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "many").await;
    operator.until_leading().await;
    let names: Vec<String> = (0..OBJECTS).map(|number| format!("part-{number}")).collect();
    let started = Instant::now();
    test.apply(&names.iter().map(|name| partition(name)).collect::<Vec<_>>().join("---")).await;
    let applied = started.elapsed();
    loop {
        let made = test.ours("apps/v1 Deployment").await.len();
        if made == OBJECTS {
            break;
        }
        assert!(started.elapsed() < PATIENCE * 3, "{made} of {OBJECTS} after {:?}", started.elapsed());
        time::sleep(Duration::from_millis(200)).await;
    }
    println!("{OBJECTS} ADXClusters applied in {applied:?}, all agents' objects made after {:?}", started.elapsed());
    each_agent_tells(&test).await;
    for name in &names {
        let object = test.until_condition("ADXCluster", name, "Ready", "True", "Ready").await;
        assert!(is_observed(&object), "{object:#}");
        let conditions = object["status"]["conditions"].as_array().expect("it has some");
        let phases: BTreeSet<_> = conditions.iter().filter_map(|condition| condition["type"].as_str()).collect();
        assert_eq!(phases, PHASES.into(), "{object:#}");
        for condition in conditions {
            assert_eq!(condition["observedGeneration"], object["metadata"]["generation"], "{object:#}");
        }
    }
    let before = test.until_rest(Duration::from_secs(6)).await;
    // Seven children each.
    assert!(before.count() > OBJECTS * 8, "{} objects", before.count());
    proxy.take();
    time::sleep(QUIET).await;
    let written: Vec<_> = proxy.take().into_iter().filter(|seen| seen.is_write() && !seen.is_lease()).collect();
    let moved = before.moved(&test.versions().await);
    assert!(written.is_empty() && moved.is_empty(), "the operator wrote {written:#?}\nothers too: {moved:#?}");
    drop(operator);
}
