//! The seed's examples, as they are written there, and manifests of the forms that adx-mon's documents have.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tests::{
    cluster::{Kubectl, TestNamespace, condition_of, documents, is_observed, message_of},
    docs::{blocks, read, seed_examples},
};

/// The seed's "Minimal" example: an existing cluster and all three components.
const MINIMAL: &str = r#"
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: existing-adx-cluster
  labels:
    app: my-adx
spec:
  clusterName: my-existing-cluster-name
  endpoint: "https://my-existing-cluster.eastus2.kusto.windows.net"
  databases:
    - databaseName: "MetricsDB"
      telemetryType: Metrics
    - databaseName: "LogsDB"
      telemetryType: Logs
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata:
  name: minimal-ingestor
spec:
  adxClusterSelector:
    matchLabels:
      app: my-adx
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata:
  name: minimal-collector
spec: {}
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata:
  name: minimal-alerter
spec:
  notificationEndpoint: "http://alertmanager.example.com:9093/api/v1/alerts"
  adxClusterSelector:
    matchLabels:
      app: my-adx
"#;

#[tokio::test]
async fn the_minimal_example_runs_all_components_in_order() {
    let test = TestNamespace::new("minimal").await;
    let operator = test.operator().await;
    test.apply(MINIMAL).await;
    test.until_condition("ADXCluster", "existing-adx-cluster", "Ready", "True", "Ready").await;
    for (kind, name) in
        [("Ingestor", "minimal-ingestor"), ("Collector", "minimal-collector"), ("Alerter", "minimal-alerter")]
    {
        let object = test.until_condition(kind, name, "Ready", "True", "Ready").await;
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"], "{object:#}");
    }
    let set = test.get("apps/v1 StatefulSet", "minimal-ingestor").await;
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "ghcr.io/azure/adx-mon/ingestor:latest");
    assert_eq!(
        container["args"],
        json!([
            "--storage-dir=/mnt/data",
            "--max-segment-age=5s",
            "--max-disk-usage=21474836480",
            "--max-transfer-size=10485760",
            "--max-connections=1000",
            "--insecure-skip-verify",
            "--metrics-kusto-endpoints=MetricsDB=https://my-existing-cluster.eastus2.kusto.windows.net",
            "--logs-kusto-endpoints=LogsDB=https://my-existing-cluster.eastus2.kusto.windows.net",
        ])
    );
    let config = test.get("v1 ConfigMap", "minimal-collector-config").await;
    let endpoint = format!("endpoint = \"https://minimal-ingestor.{}.svc.cluster.local\"", test.name);
    assert!(config["data"]["config.toml"].as_str().is_some_and(|text| text.contains(&endpoint)), "{config:#}");
    // An ingestor lets go of what is for a database that it was not told of.
    let text = config["data"]["config.toml"].as_str().expect("it is a text");
    assert_eq!(
        (text.matches("database = \"MetricsDB\"").count(), text.matches("database = \"LogsDB\"").count()),
        (2, 1)
    );
    let destination = |workload: &Value| {
        workload["spec"]["template"]["metadata"]["annotations"]["adx-mon/log-destination"].as_str().map(str::to_owned)
    };
    assert_eq!(destination(&set).as_deref(), Some("LogsDB:Ingestor"));
    let nodes = test.get("apps/v1 DaemonSet", "minimal-collector").await;
    assert_eq!(destination(&nodes).as_deref(), Some("LogsDB:Collector"));
    let deployment = test.get("apps/v1 Deployment", "minimal-alerter").await;
    assert_eq!(destination(&deployment).as_deref(), Some("LogsDB:Alerter"));
    let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(arguments[0], "--alerter-address=http://alertmanager.example.com:9093/api/v1/alerts");
    assert_eq!(arguments[2], "--kusto-endpoint=LogsDB=https://my-existing-cluster.eastus2.kusto.windows.net");
    drop(operator);
}

#[tokio::test]
async fn what_has_to_wait_says_for_what() {
    let test = TestNamespace::new("waiting").await;
    let operator = test.operator().await;
    let (cluster, rest) = MINIMAL.split_once("---").expect("the example has several documents");
    let collector = rest.split("---").find(|document| document.contains("kind: Collector"));
    test.apply(collector.expect("the example has a Collector")).await;
    let collector =
        test.until_condition("Collector", "minimal-collector", "Ready", "False", "WaitingForIngestor").await;
    let message = message_of(&collector, "Ready");
    assert!(message.starts_with(&format!("there is no Ingestor in namespace '{}'", test.name)), "{message}");
    test.apply(rest).await;
    let ingestor = test.until_condition("Ingestor", "minimal-ingestor", "Ready", "False", "WaitingForCluster").await;
    let message = message_of(&ingestor, "Ready");
    assert!(message.starts_with("no ADXCluster of role Partition"), "{message}");
    let follows = format!("Ingestor 'minimal-ingestor' is not ready: {message}");
    test.until("Collector", "minimal-collector", |object| message_of(object, "Ready") == follows).await;
    test.until_condition("Alerter", "minimal-alerter", "Ready", "False", "WaitingForCluster").await;
    // What waits is edited, and goes on waiting.
    test.apply(&rest.replace("name: minimal-ingestor\nspec:\n", "name: minimal-ingestor\nspec:\n  image: x/i:2\n"))
        .await;
    let edited = test.until("Ingestor", "minimal-ingestor", is_observed).await;
    assert_eq!(condition_of(&edited, "Ready").expect("it is told")["reason"], "WaitingForCluster", "{edited:#}");
    assert!(test.ours("apps/v1 StatefulSet").await.is_empty() && test.ours("apps/v1 DaemonSet").await.is_empty());
    // A cluster that is still to be made is not there yet either.
    let to_be_made =
        cluster.replace("  endpoint:", "  # endpoint:").replace("my-existing-cluster-name", "my-new-cluster");
    test.apply(&to_be_made).await;
    test.until_condition("ADXCluster", "existing-adx-cluster", "Ready", "False", "InvalidClusterName").await;
    let waits =
        |object: &Value| message_of(object, "Ready").starts_with("ADXCluster 'existing-adx-cluster' is not ready");
    test.until("Ingestor", "minimal-ingestor", waits).await;
    test.apply(cluster).await;
    for (kind, name) in
        [("Ingestor", "minimal-ingestor"), ("Collector", "minimal-collector"), ("Alerter", "minimal-alerter")]
    {
        test.until_condition(kind, name, "Ready", "True", "Ready").await;
    }
    let set = test.get("apps/v1 StatefulSet", "minimal-ingestor").await;
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], "x/i:2");
    drop(operator);
}

/// A cluster that the selectors of the seed's examples match.
const MATCHING: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: matching, labels: {app: adx-mon, env: production}}
spec:
  clusterName: matching
  endpoint: https://matching.kusto.windows.net
  databases:
    - {databaseName: Metrics, telemetryType: Metrics}
    - {databaseName: Logs, telemetryType: Logs}
";

/// `kubectl apply`; from the server's side where this machine has no kubectl.
async fn as_people_apply(test: &TestNamespace, manifests: &str) {
    match Kubectl::find() {
        Some(kubectl) => drop(kubectl.of(test).run(&["apply", "--filename=-"], manifests)),
        None => drop(test.apply(manifests).await),
    }
}

/// One block of a document, in a namespace of its own.
async fn as_written(name: &str, block: &str) {
    let test = TestNamespace::new(name).await;
    let operator = test.operator().await;
    test.apply(MATCHING).await;
    as_people_apply(&test, block).await;
    let objects = documents(block);
    assert!(!objects.is_empty(), "{block}");
    let is_to_be_made = |object: &Value| object["kind"] == "ADXCluster" && object["spec"]["endpoint"].is_null();
    let waits = objects.iter().any(is_to_be_made);
    for object in &objects {
        let text = |value: &Value| value.as_str().expect("an object has a kind and a name").to_owned();
        let (kind, name, spec) = (text(&object["kind"]), text(&object["metadata"]["name"]), &object["spec"]);
        if !spec["criteriaExpression"].is_null() {
            // None of the documents' expressions can be asked of an operator without labels.
            let told = test.until_condition(&kind, &name, "Ready", "False", "InvalidCriteria").await;
            assert!(condition_of(&told, "ClusterReady").is_none(), "{told:#}");
            continue;
        }
        if kind == "ADXCluster" {
            if is_to_be_made(object) {
                let reason = if spec["clusterName"].to_string().contains('-') {
                    "InvalidClusterName"
                } else {
                    "ProvisioningDisabled"
                };
                test.until_condition(&kind, &name, "Ready", "False", reason).await;
            } else {
                test.until_condition(&kind, &name, "ClusterReady", "True", "Existing").await;
            }
            if !spec["federation"].is_null() {
                let agent =
                    test.until("apps/v1 Deployment", &format!("{name}-agent"), |object| !object.is_null()).await;
                let program = if spec["role"] == "Federated" { "/agent-hub" } else { "/agent-partition" };
                assert_eq!(agent["spec"]["template"]["spec"]["containers"][0]["command"], json!([program]), "{block}");
            }
            continue;
        }
        // What needs a cluster that is still to be made in Azure waits for it.
        let needs_it = match kind.as_str() {
            "Collector" => spec["ingestorEndpoint"].is_null(),
            _ => spec["adxClusterSelector"]["matchLabels"]["env"] == "production",
        };
        if waits && needs_it {
            let reason = if kind == "Collector" { "WaitingForIngestor" } else { "WaitingForCluster" };
            test.until_condition(&kind, &name, "Ready", "False", reason).await;
            continue;
        }
        test.until_condition(&kind, &name, "Ready", "True", "Ready").await;
        let (workload, child) = match kind.as_str() {
            "Ingestor" => ("apps/v1 StatefulSet", "ingestor"),
            "Collector" => ("apps/v1 DaemonSet", "collector"),
            _ => ("apps/v1 Deployment", "alerter"),
        };
        let made = test.get(workload, &name).await;
        let container = &made["spec"]["template"]["spec"]["containers"][0];
        let image =
            spec["image"].as_str().map_or_else(|| format!("ghcr.io/azure/adx-mon/{child}:latest"), str::to_owned);
        assert_eq!(container["image"], image, "{block}");
        if kind == "Ingestor" {
            let replicas = spec["replicas"].as_i64().unwrap_or(1);
            assert_eq!(made["spec"]["replicas"], replicas, "{block}");
        }
        if let Some(endpoint) = spec["ingestorEndpoint"].as_str() {
            let config = test.get("v1 ConfigMap", &format!("{name}-config")).await;
            assert!(config["data"].to_string().contains(endpoint), "{config:#}");
        }
        if let Some(endpoint) = spec["notificationEndpoint"].as_str() {
            assert!(container["args"].to_string().contains(endpoint), "{container:#}");
        }
    }
    drop(operator);
}

#[tokio::test]
async fn every_block_of_the_seed_is_taken_as_it_is_written() {
    let blocks = seed_examples();
    assert_eq!(blocks.len(), 11);
    for (number, block) in blocks.iter().enumerate() {
        as_written(&format!("seed-{number}"), block).await;
    }
}

#[tokio::test]
async fn every_form_of_adx_mons_documents_is_taken_as_it_is_written() {
    let text = read("tests/examples/adx-mon.md");
    let blocks: Vec<&str> = blocks(&text).filter(|(language, _)| *language == "yaml").map(|(_, block)| block).collect();
    assert_eq!(blocks.len(), 10);
    for (number, block) in blocks.into_iter().enumerate() {
        as_written(&format!("adx-mon-{number}"), block).await;
    }
}

/// Fields of two of adx-mon's open proposals: whoever has them is told, and nobody loses a block list without a word.
#[tokio::test]
async fn what_adx_mon_only_proposes_is_refused_by_name() {
    let Some(kubectl) = Kubectl::find() else { return };
    let test = TestNamespace::new("proposed").await;
    let kubectl = kubectl.of(&test);
    let blocked = "blockedClusters: {static: ['https://north.kusto.windows.net']}";
    for (kind, spec, field) in [
        (
            "ADXCluster",
            format!(
                "{{clusterName: x, endpoint: 'https://x.kusto.windows.net', role: Federated, federation: {{heartbeatDatabase: D, heartbeatTable: T, {blocked}}}}}"
            ),
            "spec.federation.blockedClusters",
        ),
        (
            "Ingestor",
            "{adxClusterSelector: {matchLabels: {app: x}}, autoscaler: {enabled: true, maxReplicas: 3}}".to_owned(),
            "spec.autoscaler",
        ),
    ] {
        let object = format!("apiVersion: adx-mon.azure.com/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n");
        for way in [&["apply", "--filename=-"][..], &["apply", "--server-side", "--filename=-"]] {
            let said = kubectl.refused(way, &object);
            assert!(said.contains(field), "{way:?}: {said}");
        }
        let there = test.api(kind).get_opt("x").await.expect("the API server answers");
        assert!(there.is_none(), "{kind}");
    }
}

/// What a reader copies.
#[tokio::test]
async fn the_examples_of_the_readme_are_taken() {
    let test = TestNamespace::new("readme").await;
    let readme = read("README.md");
    let examples = blocks(&readme).filter(|(language, block)| *language == "yaml" && block.contains("kind: "));
    let mut kinds = std::collections::BTreeSet::new();
    for (_, block) in examples {
        as_people_apply(&test, block).await;
        kinds.extend(documents(block).iter().filter_map(|object| object["kind"].as_str().map(str::to_owned)));
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["ADXCluster", "Alerter", "Collector", "Ingestor"]);
}

/// The seed's other examples with what their comments offer, and adx-mon's present manifests: the API server takes each, and its conditions tell the truth.
#[tokio::test]
async fn every_other_example_is_taken_and_told_about() {
    let test = TestNamespace::new("examples").await;
    let operator = test.operator().await;
    as_people_apply(
        &test,
        r#"
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: minimal-adx-cluster
spec:
  clusterName: minimal-adx-cluster
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: prod-adx-cluster
spec:
  clusterName: prod-metrics
  endpoint: "https://prod-metrics.kusto.windows.net"
  databases:
    - databaseName: metricsdb
      retentionInDays: 30
      telemetryType: Metrics
    - databaseName: logsdb
      retentionInDays: 30
      telemetryType: Logs
  provision:
    subscriptionId: "00000000-0000-0000-0000-000000000000"
    resourceGroup: "adx-monitor-prod"
    location: "eastus2"
    skuName: "Standard_L8as_v3"
    tier: "Standard"
    userAssignedIdentities:
      - "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/adx-monitor-prod/providers/Microsoft.ManagedIdentity/userAssignedIdentities/identity1"
    autoScale: true
    autoScaleMax: 20
    autoScaleMin: 4
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata:
  name: prod-ingestor
spec:
  image: "ghcr.io/azure/adx-mon/ingestor:v1.0.0"
  replicas: 3
  endpoint: "http://prod-ingestor.monitoring.svc.cluster.local:8080"
  exposeExternally: false
  adxClusterSelector:
    matchLabels:
      app: adx-mon
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata:
  name: prod-collector
spec:
  image: "ghcr.io/azure/adx-mon/collector:v1.0.0"
  ingestorEndpoint: "http://prod-ingestor.monitoring.svc.cluster.local:8080"
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: to-be-provisioned
  labels:
    env: production
    team: monitoring
spec:
  clusterName: adxmonprod01
  provision:
    subscriptionId: "00000000-0000-0000-0000-000000000000"
    resourceGroup: "adx-monitor-prod-rg"
    location: "eastus2"
    skuName: "Standard_L8as_v3"
    tier: "Standard"
    managedIdentityClientId: "11111111-1111-1111-1111-111111111111"
    appliedProvisionState: '{"skuName": "Standard_L8as_v3", "tier": "Standard", "userAssignedIdentities": []}'
  databases:
    - databaseName: "ProdMetrics"
      telemetryType: Metrics
      retentionInDays: 90
    - databaseName: "ProdTraces"
      telemetryType: Traces
---
# adx-mon as of today.
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: of-adx-mon
spec:
  clusterName: of-adx-mon
  endpoint: "https://of-adx-mon.westeurope.kusto.windows.net"
  criteriaExpression: "region == 'westeurope' && environment == 'prod'"
  role: Partition
  federation:
    heartbeatTTL: 1h
    federatedTargets:
      - endpoint: "https://federated.kusto.windows.net"
        heartbeatDatabase: "FleetDiscovery"
        heartbeatTable: "Heartbeats"
        managedIdentityClientId: "xxxx-xxxx"
    partitioning:
      geo: "EU"
      location: "westeurope"
"#,
    )
    .await;
    test.until_condition("ADXCluster", "minimal-adx-cluster", "Ready", "False", "InvalidClusterName").await;
    test.until_condition("ADXCluster", "prod-adx-cluster", "Ready", "True", "Ready").await;
    test.until_condition("ADXCluster", "to-be-provisioned", "Ready", "False", "ProvisioningDisabled").await;
    let foreign = test.until_condition("ADXCluster", "of-adx-mon", "Ready", "False", "InvalidCriteria").await;
    assert!(foreign.to_string().contains("the cluster's labels are: none"), "{foreign:#}");
    let collector = test.until_condition("Collector", "prod-collector", "Ready", "True", "Ready").await;
    assert_eq!(collector["status"]["endpoint"], "http://prod-ingestor.monitoring.svc.cluster.local:8080");
    drop(operator);
    // With the labels that it asks for, it gets its agent.
    let options = tests::cluster::OperatorOptions {
        arguments: vec!["--cluster-labels=region=westeurope,environment=prod".to_owned()],
        ..tests::cluster::OperatorOptions::default()
    };
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    test.until("apps/v1 Deployment", "of-adx-mon-agent", |object| object["spec"]["replicas"] == 1).await;
    let map = test.get("v1 ConfigMap", "of-adx-mon-agent").await;
    assert!(map["data"]["cluster.yaml"].as_str().is_some_and(|text| text.contains("federatedTargets")), "{map:#}");
    drop(operator);
}

/// adx-mon's ingestor as its manifests are today, and the same policy for the kinds that have none there.
#[tokio::test]
async fn pods_run_where_a_policy_says() {
    let test = TestNamespace::new("pods").await;
    let operator = test.operator().await;
    let policy = "{imagePullSecrets: [{name: registry}], nodeSelector: {agentpool: infra}, tolerations: [{key: pool, operator: Equal, value: infra, effect: NoSchedule}]}";
    let objects = |policy: &str| {
        format!(
            "
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {{name: i}}
spec:
  image: ghcr.io/azure/adx-mon/ingestor:latest
  replicas: 1
  logDestination: Audit:Ingestor
  tls:
    secretRef: {{name: ingestor-tls}}
  adxClusterSelector: {{matchLabels: {{app: adx-mon}}}}
  {policy}
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata: {{name: c}}
spec:
  ingestorEndpoint: https://i.example.com
  {policy}
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {{name: a}}
spec:
  notificationEndpoint: https://alerts.example.com
  adxClusterSelector: {{matchLabels: {{app: adx-mon}}}}
  {policy}
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {{name: p}}
spec:
  clusterName: p
  endpoint: https://p.kusto.windows.net
  federation:
    federatedClusters:
      - {{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}}
    {policy}
"
        )
    };
    test.apply(MATCHING).await;
    test.apply(&objects(&format!("podPolicy: {policy}"))).await;
    let workloads = [
        ("apps/v1 StatefulSet", "i"),
        ("apps/v1 DaemonSet", "c"),
        ("apps/v1 Deployment", "a"),
        ("apps/v1 Deployment", "p-agent"),
    ];
    let is_infra = |pod: &Value| {
        pod["imagePullSecrets"] == json!([{"name": "registry"}]) && pod["nodeSelector"] == json!({"agentpool": "infra"})
    };
    for (kind, name) in workloads {
        let workload = test.until(kind, name, |object| is_infra(&object["spec"]["template"]["spec"])).await;
        let tolerations = workload["spec"]["template"]["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        let ours = json!({"key": "pool", "operator": "Equal", "value": "infra", "effect": "NoSchedule"});
        assert!(tolerations.contains(&ours), "{workload:#}");
    }
    let set = test.get("apps/v1 StatefulSet", "i").await;
    let template = &set["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["adx-mon/log-destination"], "Audit:Ingestor");
    let container = &template["spec"]["containers"][0];
    for argument in ["--ca-cert=/etc/ssl/ingestor/tls.crt", "--key=/etc/ssl/ingestor/tls.key"] {
        assert!(container["args"].as_array().is_some_and(|all| all.contains(&json!(argument))), "{container:#}");
    }
    let mount = json!({"name": "ingestor-certs", "mountPath": "/etc/ssl/ingestor", "readOnly": true});
    assert!(container["volumeMounts"].as_array().is_some_and(|mounts| mounts.contains(&mount)), "{container:#}");
    let volumes = template["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let secret = volumes.iter().find(|volume| volume["name"] == "ingestor-certs").map(|volume| &volume["secret"]);
    assert_eq!(secret.map(|secret| &secret["secretName"]), Some(&json!("ingestor-tls")), "{volumes:?}");
    // Nobody else may send its pods elsewhere; what the policy says no longer goes, and the component's own tolerations stay.
    let elsewhere = json!({"spec": {"template": {"spec": {"nodeSelector": {"agentpool": "other"}}}}});
    let changed = test.api("apps/v1 Deployment").patch("a", &PatchParams::default(), &Patch::Merge(elsewhere)).await;
    changed.expect("the API server takes the change");
    test.until("apps/v1 Deployment", "a", |object| is_infra(&object["spec"]["template"]["spec"])).await;
    test.apply(&objects("")).await;
    for (kind, name) in workloads {
        let is_anywhere = |object: &Value| {
            let pod = &object["spec"]["template"]["spec"];
            ["imagePullSecrets", "nodeSelector"].iter().all(|field| pod[field].is_null())
                && !pod["tolerations"].to_string().contains("pool")
        };
        test.until(kind, name, is_anywhere).await;
    }
    let set = test.get("apps/v1 StatefulSet", "i").await;
    assert_eq!(set["spec"]["template"]["spec"]["tolerations"][0]["key"], "CriticalAddonsOnly");
    drop(operator);
}
