//! From the operator's command line to what its agents send: the cloud, and the hosts under other domains that a person trusts. The issuer of tokens and the way out are a double,
//! which sees what would leave the machine.

use std::{collections::BTreeSet, time::Instant};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tests::{
    cluster::{OperatorOptions, PATIENCE, TestNamespace, message_of},
    way_out::WayOut,
};
use tokio::time;

use crate::{
    components::ingestor,
    support::{CLUSTER, made},
};

/// A partition and its hub under these domains.
fn partition(cluster: &str, hub: &str) -> String {
    format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: part}}\nspec:\n  clusterName: part\n  endpoint: https://part.{cluster}\n  federation:\n    federatedClusters:\n      - {{endpoint: 'https://hub.{hub}', heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats}}\n"
    )
}

/// What its agent's container is started with.
fn arguments(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]["args"]
}

/// An operator with these flags, and a partition's agent on its way out.
async fn sent(flags: &[&str], cluster: &str, hub: &str) -> (Value, WayOut) {
    let way_out = WayOut::watch().await;
    let test = TestNamespace::new("trust").await;
    test.kubelet.surround(way_out.environment_of_a_pod());
    let arguments = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let operator = test.operator_with(&OperatorOptions { arguments, ..OperatorOptions::default() }).await;
    operator.until_leading().await;
    test.apply(&partition(cluster, hub)).await;
    let deployment = test.until("apps/v1 Deployment", "part-agent", |object| !object.is_null()).await;
    let wanted: BTreeSet<String> = [format!("part.{cluster}:443"), format!("hub.{hub}:443")].into();
    let started = Instant::now();
    while way_out.hosts() != wanted {
        let seen = way_out.seen();
        assert!(started.elapsed() < PATIENCE, "{wanted:?} in {seen:#?}\n{}", test.kubelet.output());
        time::sleep(time::Duration::from_millis(100)).await;
    }
    (deployment, way_out)
}

/// What a container of an agent is started with, whatever the operator was.
fn always(more: &[&str]) -> Value {
    let always =
        ["--config=/etc/adx-federation/cluster.yaml", "--kubernetes", "--admin=0.0.0.0:9090", "--log-format=plain"];
    json!(always.iter().chain(more).collect::<Vec<_>>())
}

#[tokio::test]
async fn hosts_under_trusted_suffixes_are_asked_by_agents_for_a_token_of_our_audience() {
    let flags = ["--trusted-suffix=.kusto.example.com,.kusto.example.org"];
    let (deployment, way_out) = sent(&flags, "kusto.example.com", "kusto.example.org").await;
    let passed_on = ["--cloud=public", "--trusted-suffix=.kusto.example.com", "--trusted-suffix=.kusto.example.org"];
    assert_eq!(*arguments(&deployment), always(&passed_on));
    assert_eq!(way_out.audiences(), ["https://kusto.kusto.windows.net".to_owned()].into());
}

#[tokio::test]
async fn agents_of_another_cloud_ask_its_hosts_and_for_tokens_of_its_audience() {
    let domain = "kusto.usgovcloudapi.net";
    let (deployment, way_out) = sent(&["--cloud=us-government"], domain, domain).await;
    assert_eq!(*arguments(&deployment), always(&["--cloud=us-government"]));
    assert_eq!(way_out.audiences(), ["https://kusto.kusto.usgovcloudapi.net".to_owned()].into());
}

#[tokio::test]
async fn without_the_flag_a_cluster_under_another_domain_or_of_another_cloud_gets_no_agent_and_nothing_is_sent() {
    let way_out = WayOut::watch().await;
    let test = TestNamespace::new("untrusted").await;
    test.kubelet.surround(way_out.environment_of_a_pod());
    let environment = way_out.environment_of_a_pod();
    let operator = test.operator_with(&OperatorOptions { environment, ..OperatorOptions::default() }).await;
    operator.until_leading().await;
    let (own, china, public) = ("kusto.example.com", "kusto.chinacloudapi.cn", "kusto.windows.net");
    for (cluster, hub, path) in [
        (own, public, "spec.endpoint = https://part.kusto.example.com"),
        (public, own, "spec.federation.federatedClusters[0].endpoint = https://hub.kusto.example.com"),
        (china, public, "spec.endpoint = https://part.kusto.chinacloudapi.cn"),
    ] {
        test.apply(&partition(cluster, hub)).await;
        let told = format!("{path}: must be a Kusto endpoint of the operator's cloud (public)");
        test.until("ADXCluster", "part", |object| message_of(object, "ClusterReady").contains(&told)).await;
    }
    let made = made(&test).await;
    assert!(made.is_empty(), "{made:#?}");
    assert_eq!(way_out.seen(), [""; 0]);
    drop(operator);
}

#[tokio::test]
async fn an_address_that_somebody_writes_into_a_status_is_mended_and_no_telemetry_goes_there() {
    let test = TestNamespace::new("written").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(&ingestor("i", "")).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    let before = test.get("apps/v1 StatefulSet", "i").await;
    // The second is a Kusto endpoint, of which anybody can have one.
    for other in ["https://eu.evil.example", "https://evil.westeurope.kusto.windows.net"] {
        let told = json!({"status": {"endpoint": other}});
        let written = test.api("ADXCluster").patch_status("eu", &PatchParams::default(), &Patch::Merge(&told)).await;
        assert_eq!(written.expect("a status can be written").data["status"]["endpoint"], other);
        test.until("ADXCluster", "eu", |object| object["status"]["endpoint"] == "https://eu.kusto.windows.net").await;
    }
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    let after = test.get("apps/v1 StatefulSet", "i").await;
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"], "{after:#}");
}
