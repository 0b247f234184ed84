//! The operator on a real control plane: from a change to its children, requests for each change, memory.

use std::{
    env,
    fmt::Write as _,
    fs,
    sync::LazyLock,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;
use tests::{
    cluster::{ApiProxy, ControlPlane, OperatorOptions, TestNamespace},
    fleet::{Fleet, Pace},
    oracle::judge_if_watched,
};
use tokio::time;

use crate::figures::{assert_within, line, millis, own_mib, resident_mib, rest};

/// The most memory at rest, in MB.
const OPERATOR_GOAL: f64 = 16.0;
const AGENT_GOAL: f64 = 12.0;

/// How many changes are timed, and how many ADXClusters there are at last; `BENCH_OBJECTS` for a run that only shows that the benchmark works.
static OBJECTS: LazyLock<usize> =
    LazyLock::new(|| env::var("BENCH_OBJECTS").ok().and_then(|objects| objects.parse().ok()).unwrap_or(200));

const CLUSTER: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: eu, labels: {app: adx-mon}}
spec:
  clusterName: eu
  endpoint: https://eu.kusto.windows.net
  databases: [{databaseName: Metrics, telemetryType: Metrics}]
";

fn ingestor(number: usize) -> String {
    format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: Ingestor\nmetadata: {{name: i}}\nspec: {{replicas: 0, image: 'x/ingestor:{number}', adxClusterSelector: {{matchLabels: {{app: adx-mon}}}}}}\n"
    )
}

pub(crate) async fn run() {
    if ControlPlane::is_missing() {
        println!("The operator: skipped, because the control plane is not built (`make control-plane`)");
        return;
    }
    println!("The operator in Kubernetes");
    let objects = *OBJECTS;
    let test = TestNamespace::new("bench").await;
    let proxy = ApiProxy::start(test.plane).await;
    let options = OperatorOptions { server: Some(proxy.url.clone()), ..OperatorOptions::default() };
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    let pid = operator.process.pid().expect("it runs");
    rest().await;
    let resident = format!("{:.1} MiB, its own {:.1} MiB", resident_mib(pid), own_mib(pid));
    line("resident memory, nothing to do", &resident);
    assert_within("the operator", pid, OPERATOR_GOAL);
    test.apply(CLUSTER).await;
    test.apply(&ingestor(0)).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;

    // Seen by a watch: asking for it again and again would be part of what is measured.
    let mut sets = watcher(test.api("apps/v1 StatefulSet"), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    proxy.take();
    let mut times = Vec::new();
    for number in 1..=objects {
        let image = format!("x/ingestor:{number}");
        let started = Instant::now();
        test.apply(&ingestor(number)).await;
        while let Some(Ok(set)) = sets.next().await {
            if set.data["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str() {
                break;
            }
        }
        times.push(started.elapsed());
    }
    time::sleep(Duration::from_secs(1)).await;
    let requests: Vec<_> = proxy.take().into_iter().filter(|seen| !seen.is_lease()).collect();
    let writes = requests.iter().filter(|seen| seen.is_write()).count();
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    line(
        &format!("from `kubectl apply` to the changed StatefulSet, {objects} changes"),
        &format!("p50 {}, p99 {} (goal: 250 ms)", millis(at(50)), millis(at(99))),
    );
    let each = |count: usize| format!("{:.1}", count as f64 / objects as f64);
    line("requests for each change", &format!("{}, of them writes {}", each(requests.len()), each(writes)));

    let started = Instant::now();
    let mut all = String::new();
    for number in 0..objects {
        write!(all, "---\n{}", partition(number)).expect("a String takes all");
    }
    test.apply(&all).await;
    loop {
        let made = test.ours("apps/v1 Deployment").await.len();
        if made == objects {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{made} of {objects}");
        time::sleep(Duration::from_millis(100)).await;
    }
    line(
        &format!("{objects} ADXClusters applied and their agents' objects made"),
        &format!("{:.1} s", started.elapsed().as_secs_f64()),
    );
    rest().await;
    line(&format!("resident memory with {objects} ADXClusters"), &format!("{:.1} MiB", resident_mib(pid)));
    let told: Value = test.get("ADXCluster", "part-0").await;
    assert_eq!(told["status"]["endpoint"], "https://part.kusto.windows.net");
    agents().await;
}

/// Our agents as pods at rest: with the lease and the status that they have there.
async fn agents() {
    let fleet = Fleet::start(Pace::AT_REST).await.expect("the servers take the telemetry");
    let test = TestNamespace::new("agents").await;
    let operator = test.operator().await;
    for document in fleet.documents() {
        test.apply(&fs::read_to_string(document).expect("the document was just written")).await;
    }
    for name in fleet.documents().iter().filter_map(|document| document.file_stem()?.to_str()) {
        test.until_condition("ADXCluster", name, "Federated", "True", "Federated").await;
    }
    rest().await;
    println!("Agents in Kubernetes at rest, resident memory");
    for (pod, pid) in test.kubelet.pids() {
        line(&pod, &format!("{:.1} MiB, its own {:.1} MiB", resident_mib(pid), own_mib(pid)));
        assert_within(&pod, pid, AGENT_GOAL);
    }
    drop(operator);
    // Its pods' processes end with it.
    drop(test);
    judge_if_watched(fleet.stop().await.path());
}

fn partition(number: usize) -> String {
    format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: part-{number}}}\nspec:\n  clusterName: part\n  endpoint: https://part.kusto.windows.net\n  federation:\n    federatedClusters:\n      - {{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}}\n"
    )
}
