//! Pods that do not come to run, or to be ready, and do not say why themselves: their object's condition does, in the kubelet's words, until they do.

use tests::cluster::{TestNamespace, message_of};

use crate::support::{CLUSTER, COMPONENTS, HUB, until_event};

#[tokio::test]
async fn what_only_an_event_tells_of_a_pod_is_told_by_its_objects_condition() {
    let test = TestNamespace::new("pods").await;
    let _operator = test.operator().await;
    let ingestor = COMPONENTS.split("---").next().expect("the first document");
    test.apply(&[CLUSTER, &ingestor.replace("replicas: 2", "image: 'x/unmounted:1'")].join("---")).await;
    test.apply(&HUB.replace("x/agent:1", "x/unhealthy:1")).await;
    for (kind, name, phase, reason, why) in [
        (
            "ADXCluster",
            "hub",
            "AgentReady",
            "ContainersNotReady",
            "Readiness probe failed: HTTP probe failed with statuscode: 503",
        ),
        (
            "Ingestor",
            "i",
            "WorkloadReady",
            "FailedMount",
            "MountVolume.SetUp failed for volume \"certs\" : secret \"tls\" not found",
        ),
    ] {
        let object = test.until_condition(kind, name, phase, "False", reason).await;
        let told = format!("{reason}: {why}");
        assert!(message_of(&object, phase).ends_with(&told), "{object:#}");
        // The kubelet's own has no reason before its words.
        until_event(&test, reason, &told).await;
    }
    test.apply(&[ingestor, HUB].join("---")).await;
    test.until_condition("Ingestor", "i", "WorkloadReady", "True", "Ready").await;
    test.until_condition("ADXCluster", "hub", "AgentReady", "True", "Ready").await;
}
