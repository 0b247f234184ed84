//! An operator for the whole cluster, on a control plane of its own, since it would work on the objects of all other stories: ours, one of others' binaries
//! (`KUBEBUILDER_ASSETS`), and one that runs already (`USE_EXISTING_CLUSTER`). One as its Deployment has it, in the image's root, and one under what README.md says to
//! apply. Stories of definitions: one that changes, those of before there were types, and all of them missing. And what is left of a test program that was killed, and what a
//! suite keeps to look through for secrets.

#[path = "cluster_wide/ended.rs"]
mod ended;
#[path = "cluster_wide/kept.rs"]
mod kept;
#[path = "cluster_wide/newer.rs"]
mod newer;
#[path = "cluster_wide/readme.rs"]
mod readme;
#[path = "cluster_wide/unreadable.rs"]
mod unreadable;

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::Pod,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, ValidationRule},
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    cluster::{ControlPlane, ImageRoot, Operator, OperatorOptions, PATIENCE, TestNamespace},
    docs,
};
use tokio::{sync::Mutex, time};

/// The story, by itself in a process whose environment says where the control plane is.
const STORY: &str = "an_operator_without_a_namespace_works_in_all_and_gives_agents_its_own_image";
const IN_A_PROCESS_OF_ITS_OWN: &str = "ADX_FEDERATION_STORY_ALONE";

/// One story installs the definitions anew, another changes one for a moment; and each control plane more takes half a gigabyte.
static DEFINITIONS: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn an_operator_without_a_namespace_works_in_all_and_gives_agents_its_own_image() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_none() {
        // The other test runs it, once for each kind of control plane.
        return;
    }
    let (own, other) = (TestNamespace::new("own").await, TestNamespace::new("other").await);
    let image = "registry.example/adx-federation:7";
    own.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: operator-0}}\nspec:\n  containers:\n  - {{name: injected, image: sidecar}}\n  - {{name: operator, image: '{image}'}}\n"
    ))
    .await;
    let pod = [("POD_NAME", "operator-0".to_owned()), ("POD_NAMESPACE", own.name.clone())];
    let options = OperatorOptions {
        without: vec!["--namespace", "--lease-namespace", "--agent-image", "--allow-loopback"],
        environment: pod.to_vec(),
        ..OperatorOptions::default()
    };
    let operator = own.operator_with(&options).await;
    operator.until_leading().await;
    let federation = "  federation:\n    federatedClusters: [{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}]\n";
    let cluster = |name: &str, endpoint: &str| {
        format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: {name}, labels: {{app: x}}}}\nspec:\n  clusterName: {name}\n  endpoint: {endpoint}\n  databases: [{{databaseName: Metrics, telemetryType: Metrics}}]\n{federation}"
        )
    };
    let both = [(&own, "own", "other"), (&other, "other", "own")];
    for (test, host, _) in both {
        // The first namespace has an Ingestor by now; that is no help in the second.
        test.apply("apiVersion: adx-mon.azure.com/v1\nkind: Collector\nmetadata: {name: c}\nspec: {}").await;
        test.until_condition("Collector", "c", "Ready", "False", "WaitingForIngestor").await;
        test.apply(&cluster("part", &format!("https://{host}.kusto.windows.net"))).await;
        test.apply("apiVersion: adx-mon.azure.com/v1\nkind: Ingestor\nmetadata: {name: i}\nspec: {adxClusterSelector: {matchLabels: {app: x}}}").await;
        let agent = test.until("apps/v1 Deployment", "part-agent", |agent| agent["spec"]["template"].is_object()).await;
        assert_eq!(agent["spec"]["template"]["spec"]["containers"][0]["image"], json!(image));
        test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
        test.until_condition("Collector", "c", "Ready", "True", "Ready").await;
    }
    for (test, host, foreign) in both {
        let ingestor = test.get("apps/v1 StatefulSet", "i").await.to_string();
        assert!(
            ingestor.contains(&format!("https://{host}.kusto"))
                && !ingestor.contains(&format!("https://{foreign}.kusto"))
        );
        let config = test.get("v1 ConfigMap", "c-config").await.to_string();
        assert!(config.contains(&test.name), "a collector follows the Ingestor of its own namespace: {config}");
        for (kind, name) in [("Collector", "c"), ("ADXCluster", "part"), ("Ingestor", "i")] {
            test.delete(kind, name).await;
        }
    }
    other.apply(&cluster("local", "http://127.0.0.1:8080")).await;
    let told = other.until_condition("ADXCluster", "local", "Stalled", "True", "Invalid").await;
    let rule = "spec.endpoint = http://127.0.0.1:8080: must be a Kusto endpoint of the operator's cloud (public)";
    assert!(told.to_string().contains(rule), "{told:#}");
}

#[tokio::test]
async fn a_control_plane_of_others_is_as_good_as_ours() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() {
        return;
    }
    let _alone = DEFINITIONS.lock().await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut planes = vec![running(folder.path()).await];
    if let Some(program) = ControlPlane::own_binary() {
        planes.push(vec![("KUBEBUILDER_ASSETS", assets(folder.path(), &program).into_os_string())]);
    }
    for environment in planes {
        let mark = ended::mark();
        let output = alone(STORY, &mark, &environment).output().expect("the story can be started");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "with {environment:?}:\n{printed}");
        ended::until_nothing_runs(&mark).await;
    }
}

/// The environment of a program that is to use the control plane of this one.
async fn running(folder: &Path) -> Vec<(&'static str, OsString)> {
    let kubeconfig = folder.join("kubeconfig.yaml");
    let admin = ControlPlane::shared().await.admin_kubeconfig();
    fs::write(&kubeconfig, admin.to_string()).expect("the folder can be written");
    vec![("USE_EXISTING_CLUSTER", "true".into()), ("KUBECONFIG", kubeconfig.into_os_string())]
}

/// This program, to run one story; whatever it starts has the mark in its environment, too.
fn alone(story: &str, mark: &str, environment: &[(&'static str, OsString)]) -> Command {
    let mut command = Command::new(env::current_exe().expect("a test knows its program"));
    command.args([story, "--exact"]).env_remove("KUBEBUILDER_ASSETS").env_remove("USE_EXISTING_CLUSTER");
    command.env(IN_A_PROCESS_OF_ITS_OWN, mark).envs(environment.iter().cloned()).stdin(Stdio::null());
    command
}

/// A folder as setup-envtest leaves it: a program for each part.
fn assets(folder: &Path, program: &Path) -> std::path::PathBuf {
    let assets = folder.join("assets");
    fs::create_dir(&assets).expect("the folder can be written");
    for part in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        let path = assets.join(part);
        let script = format!("#!/bin/sh\nexec '{}' {part} \"$@\"\n", program.display());
        fs::write(&path, script).expect("the folder can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the script is ours");
    }
    assets
}

/// The first pod with these labels.
async fn pod_with(test: &TestNamespace, labels: &str) -> Pod {
    let (pods, started) = (Api::<Pod>::namespaced(test.client(), &test.name), Instant::now());
    loop {
        let listed = pods.list(&ListParams::default().labels(labels)).await.expect("the API server lists");
        if let Some(pod) = listed.items.into_iter().next() {
            return pod;
        }
        assert!(started.elapsed() < PATIENCE, "no pod has {labels}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// By the Deployment's own arguments and environment, the token and certificate that are mounted, and the address of the service: in other stories a kubeconfig says
/// all that. The operator makes the agent's pod.
#[tokio::test]
async fn in_pods_of_the_image_the_operator_and_an_agent_find_the_api_server_and_lead() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() || ControlPlane::is_missing() {
        return;
    }
    let Some(image) = ImageRoot::lay_out() else { return };
    let _alone = DEFINITIONS.lock().await;
    let test = TestNamespace::new("pods").await;
    let held_by = |pod: &Pod| {
        let holder = pod.name_any();
        move |lease: &Value| lease["spec"]["holderIdentity"] == holder.as_str()
    };
    let deployment = docs::read("deploy/kustomize/deployment.yaml");
    test.apply(&deployment.replace("namespace: adx-federation", &format!("namespace: {}", test.name))).await;
    let pod = pod_with(&test, "app.kubernetes.io/name=adx-federation-operator").await;
    let operator = Operator { process: image.run(&test, &pod).await };
    operator.until_leading().await;
    test.until("coordination.k8s.io/v1 Lease", "adx-federation-operator", held_by(&pod)).await;
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {name: hub}\nspec: {clusterName: hub, endpoint: 'https://hub.kusto.windows.net', role: Federated, federation: {heartbeatDatabase: D, heartbeatTable: T}}\n").await;
    let pod = pod_with(&test, "app.kubernetes.io/name=federation-agent,app.kubernetes.io/instance=hub").await;
    let agent = image.run(&test, &pod).await;
    test.until("coordination.k8s.io/v1 Lease", "hub-agent", held_by(&pod)).await;
    // There is no such hub, of which it tells in its ADXCluster.
    let tells = |hub: &Value| !hub["status"]["federation"]["lastPass"].is_null();
    test.until("ADXCluster", "hub", tells).await;
    drop((operator, agent));
}

/// Here, as it changes a definition under everybody.
#[tokio::test]
async fn an_object_that_is_older_than_a_rule_about_names_is_told_of_it() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() || ControlPlane::is_missing() {
        return;
    }
    let _alone = DEFINITIONS.lock().await;
    let test = TestNamespace::new("older").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(test.client());
    let with_rules = async |rules: Option<Vec<ValidationRule>>| {
        let mut definition = definitions.get("ingestors.adx-mon.azure.com").await.expect("it is installed");
        let schema = definition.spec.versions[0].schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let before = std::mem::replace(&mut schema.expect("it has a schema").x_kubernetes_validations, rules);
        let name = definition.metadata.name.clone().unwrap_or_default();
        definitions.replace(&name, &PostParams::default(), &definition).await.expect("the API server takes it");
        before
    };
    let is_made = async |name: &str| {
        let spec = json!({"adxClusterSelector": {"matchLabels": {"app": "x"}}});
        let object =
            json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "Ingestor", "metadata": {"name": name}, "spec": spec});
        let object = serde_json::from_value(object).expect("it has the form of an object");
        test.api("Ingestor").create(&PostParams::default(), &object).await.is_ok()
    };
    let rules = with_rules(None).await;
    let started = Instant::now();
    while !is_made("with.dot").await {
        assert!(started.elapsed() < PATIENCE, "the rule still holds");
        time::sleep(Duration::from_millis(50)).await;
    }
    with_rules(rules).await;
    let mut number = 0;
    while is_made(&format!("with.dot.{number}")).await {
        number += 1;
        assert!(started.elapsed() < PATIENCE * 2, "the rule does not hold again");
        time::sleep(Duration::from_millis(50)).await;
    }
    let operator = test.operator().await;
    let told = test.until_condition("Ingestor", "with.dot", "Ready", "False", "Invalid").await;
    assert!(told["status"].to_string().contains("metadata.name = with.dot: must be"), "{told:#}");
    drop(operator);
}

/// An API server that has never known the definitions, for one story; where none can be started that is said.
async fn without_definitions() -> Option<&'static ControlPlane> {
    if !ControlPlane::can_start() {
        return None;
    }
    Some(ControlPlane::without_definitions().await)
}

#[tokio::test]
async fn an_operator_that_is_there_before_the_definitions_waits_and_goes_on_by_itself() {
    let _alone = DEFINITIONS.lock().await;
    let Some(plane) = without_definitions().await else { return };
    let test = TestNamespace::on(plane, "before").await;
    let mut operator = test.operator_with(&OperatorOptions::default()).await;
    let waits = "waiting for the custom resource definitions";
    let first = format!("{waits}: ADXCluster: ");
    let started = Instant::now();
    while !operator.ask("/readyz").await.1.starts_with(&first) {
        assert!(started.elapsed() < PATIENCE, "{}", operator.process.output());
        time::sleep(Duration::from_millis(20)).await;
    }
    // It looks every two seconds, and says what is missing once.
    let told = Instant::now();
    while told.elapsed() < Duration::from_secs(5) {
        let (status, reason) = operator.ask("/readyz").await;
        assert!(status == 503 && reason.starts_with(&first), "{status} {reason}");
        assert_eq!(operator.ask("/livez").await.0, 200);
        assert_eq!(operator.process.ended(), None, "{}", operator.process.output());
        time::sleep(Duration::from_millis(100)).await;
    }
    let log = operator.process.output();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(waits)).collect();
    assert!(matches!(lines[..], [line] if line.contains("WARN") && line.contains("ADXCluster: 404")), "{log}");
    // Another one that waits stops when it is told to.
    let mut other = test.operator_with(&OperatorOptions::default()).await;
    while !other.process.output().contains(waits) {
        assert!(told.elapsed() < PATIENCE, "{}", other.process.output());
        time::sleep(Duration::from_millis(20)).await;
    }
    other.process.signal(Signal::SIGTERM);
    assert_eq!(other.process.exited_within(PATIENCE).await.code(), Some(0));
    plane.install_crds().await;
    operator.until_leading().await;
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {name: part}\nspec:\n  clusterName: part\n  endpoint: https://part.kusto.windows.net\n  federation:\n    federatedClusters: [{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}]\n").await;
    test.until_condition("ADXCluster", "part", "ClusterReady", "True", "Existing").await;
    test.until("apps/v1 Deployment", "part-agent", |agent| !agent.is_null()).await;
    assert_eq!(operator.process.ended(), None, "{}", operator.process.output());
}
