//! What the operator reads of its children: what has changed since it looked last, and the workload, of which the status tells.

use std::{collections::BTreeSet, time::Duration};

use tests::cluster::{ApiProxy, TestNamespace, is_observed};

use crate::{
    resilience::through,
    support::{CLUSTER, COMPONENTS, PARTITION, until_agent, until_ready},
};

/// Objects that were read by their names since the last call, as `services/i`.
fn read(proxy: &ApiProxy) -> BTreeSet<String> {
    let seen = proxy.take().into_iter().filter(|seen| !seen.is_write() && !seen.is_lease());
    let paths = seen.filter_map(|seen| {
        let path = seen.path.split('?').next()?;
        let parts: Vec<&str> = path.rsplit('/').collect();
        // Lists end with the name of a kind; cluster-wide names hold the namespace.
        let is_one = path.contains("/namespaces/") && parts.get(2) != Some(&"namespaces");
        (is_one || parts[0].starts_with("adx-mon")).then(|| format!("{}/{}", parts[1], parts[0]))
    });
    paths.collect()
}

/// What is read as the Ingestor gets this image.
async fn read_for_image(test: &TestNamespace, proxy: &ApiProxy, image: &str) -> BTreeSet<String> {
    read(proxy);
    test.apply(&COMPONENTS.replace("replicas: 2", &format!("replicas: 2, image: '{image}'"))).await;
    test.until("apps/v1 StatefulSet", "i", |set| set.to_string().contains(image)).await;
    test.until("Ingestor", "i", is_observed).await;
    until_ready(test).await;
    test.until_rest(Duration::from_secs(2)).await;
    read(proxy)
}

/// So often is it tried: on a slow machine a minute may pass between two looks, after which everything is looked at.
const TRIES: usize = 5;

#[tokio::test]
async fn a_change_reads_what_it_changes_and_its_workload() {
    let test = TestNamespace::new("looks").await;
    let proxy = ApiProxy::start(test.plane).await;
    let operator = through(&test, &proxy, "looks").await;
    operator.until_leading().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    test.apply(PARTITION).await;
    until_ready(&test).await;
    until_agent(&test).await;
    let first = read(&proxy);
    // The last is looked for, as it may be there from before.
    for child in [
        "services/i",
        "serviceaccounts/i-ingestor",
        "statefulsets/i",
        "configmaps/c-config",
        "horizontalpodautoscalers/i",
    ] {
        assert!(first.contains(child), "{child}: {first:#?}");
    }
    let is_workload = |read: &String| {
        ["statefulsets/", "daemonsets/", "deployments/"].iter().any(|workloads| read.starts_with(workloads))
    };
    let mut all = Vec::new();
    for number in 1..=TRIES {
        let read = read_for_image(&test, &proxy, &format!("x/ingestor:{number}")).await;
        assert!(read.contains("statefulsets/i"), "{read:#?}");
        all.push(read);
        if all[number - 1].iter().all(is_workload) {
            break;
        }
    }
    assert!(all.last().is_some_and(|read| read.iter().all(is_workload)), "{all:#?}");

    // A change of the document is one of the ConfigMap, and of nothing else beside the workload. A budget's controller writes to it as pods come and go.
    let mut all = Vec::new();
    let expected = BTreeSet::from(["configmaps/part-agent".to_owned()]);
    for number in 1..=TRIES {
        read(&proxy);
        let geo = format!("E{number}");
        test.apply(&PARTITION.replace("geo: EU", &format!("geo: {geo}"))).await;
        test.until("v1 ConfigMap", "part-agent", |map| map["data"].to_string().contains(&geo)).await;
        until_agent(&test).await;
        test.until_rest(Duration::from_secs(2)).await;
        let mut read = read(&proxy);
        read.retain(|read| !is_workload(read) && !read.starts_with("poddisruptionbudgets/"));
        all.push(read);
        if all[number - 1] == expected {
            break;
        }
    }
    assert_eq!(all.last(), Some(&expected), "{all:#?}");
    drop(operator);
}
