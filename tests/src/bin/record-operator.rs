//! `record-operator PROGRAM BUILD`: has an operator work on what people apply, and records what it leaves, for the story of whoever comes after it. Called by
//! `make record`. I/O: a control plane of its own, processes, files of the repository.

use std::{
    env, fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    cluster::{
        CLUSTER, ControlPlane, Left, OperatorOptions, PATIENCE, SEEMING_AGENT, TestNamespace, definitions_of,
        is_observed, is_peoples,
    },
    docs::seed_examples,
};
use tokio::time;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [program, build] = &arguments[..] else {
        println!("usage: record-operator PROGRAM BUILD");
        return ExitCode::from(2);
    };
    let program = match fs::canonicalize(program) {
        Ok(program) => program,
        Err(error) => {
            println!("{program} cannot be run: {error}");
            return ExitCode::FAILURE;
        }
    };
    let definitions = definitions_of(&program);
    let plane = ControlPlane::with_definitions(&definitions).await;
    let mut all = Vec::new();
    for (name, objects) in namespaces() {
        println!("Recording what is left in the namespace {name}-* ...");
        all.push(left(plane, &program, name, &objects).await);
    }
    match Left::record(build, &definitions, &all) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("The recording could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What no example of the seed has: an autoscaler, a load balancer, an identity.
const SCALED: &str = "
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: i}
spec:
  autoscaling: {minReplicas: 2, maxReplicas: 4}
  exposeExternally: true
  managedIdentityClientId: 11111111-1111-1111-1111-111111111111
  adxClusterSelector: {matchLabels: {app: adx-mon}}
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata: {name: c}
spec: {}
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {name: a}
spec:
  notificationEndpoint: https://alerts.example.com
  managedIdentityClientId: 11111111-1111-1111-1111-111111111111
  adxClusterSelector: {matchLabels: {app: adx-mon}}
";

/// What people apply, in namespaces of their own: in each no name twice, and one Ingestor, which its Collector finds.
fn namespaces() -> [(&'static str, String); 4] {
    let seed = seed_examples();
    let examples = |numbers: &[usize]| {
        let examples: Vec<&str> = numbers.iter().map(|number| seed[number - 1].as_str()).collect();
        examples.join("---\n")
    };
    [
        // With a hub and a partition of it.
        ("production", [CLUSTER, "---\n", &examples(&[1, 2, 3, 4, 5, 10, 11])].concat()),
        ("minimal", examples(&[6, 8])),
        ("provisioned", examples(&[7, 9])),
        ("scaled", [CLUSTER, "---", SCALED].concat()),
    ]
}

/// Not its rights are recorded, and an earlier build needs others.
const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: recorded-NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: adx-federation-operator, namespace: NAMESPACE}]
";

async fn left(plane: &'static ControlPlane, program: &Path, name: &str, objects: &str) -> Left {
    let test = TestNamespace::on(plane, name).await;
    test.apply(&RIGHTS.replace("NAMESPACE", &test.name)).await;
    let options = OperatorOptions {
        program: Some(program.display().to_string()),
        arguments: vec![format!("--agent-image={SEEMING_AGENT}")],
        // An earlier build may know neither. A variable is nothing to one that does not.
        without: vec!["--allow-loopback", "--azure-credential"],
        environment: vec![("ADX_FEDERATION_AZURE_CREDENTIAL", "none".to_owned())],
        ..OperatorOptions::default()
    };
    let mut operator = test.operator_with(&options).await;
    test.apply(objects).await;
    until_at_rest(&test).await;
    operator.process.stop().await;
    Left::of(&test).await
}

/// Longer than an autoscaler waits between two looks.
const REST: Duration = Duration::from_secs(20);

/// Waits until the operator has looked at everything and nothing has changed for a while.
async fn until_at_rest(test: &TestNamespace) {
    let started = Instant::now();
    let (mut before, mut since) = (Vec::new(), started);
    loop {
        let mut objects = Left::of(test).await.objects;
        // Its lease is renewed.
        objects.retain(|object| object["kind"] != "Lease");
        let is_looked_at = |object: &Value| is_observed(object) || !is_peoples(object);
        let versions: Vec<Value> = objects.iter().map(|object| object["metadata"]["resourceVersion"].clone()).collect();
        if versions != before {
            (before, since) = (versions, Instant::now());
        } else if since.elapsed() > REST && objects.iter().all(is_looked_at) {
            return;
        }
        assert!(started.elapsed() < PATIENCE * 2, "it does not come to rest: {objects:#?}");
        time::sleep(Duration::from_millis(500)).await;
    }
}
