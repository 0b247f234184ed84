//! The operator on a real control plane: from a change of each kind to its children, requests for each change, memory.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    sync::LazyLock,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::select_all};
use kube::{
    ResourceExt as _,
    api::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::Value;
use tests::{
    cluster::{ApiProxy, CLUSTER, ControlPlane, OperatorOptions, PATIENCE, TestNamespace, condition_of, is_observed},
    fleet::{Fleet, Pace},
    oracle::judge_if_watched,
};
use tokio::time;

use crate::{
    figures::{line, memory, millis, resident_mb, rest},
    goals::Goals,
};

/// The most memory at rest, in MB.
const OPERATOR_GOAL: f64 = 16.0;
const AGENT_GOAL: f64 = 12.0;

/// How many changes are timed, and how many ADXClusters there are at last; `BENCH_OBJECTS` for a run that only shows that the benchmark works.
static OBJECTS: LazyLock<usize> =
    LazyLock::new(|| env::var("BENCH_OBJECTS").ok().and_then(|objects| objects.parse().ok()).unwrap_or(200));

/// What is changed again and again, and the child in which a change is seen: a workload, which is applied after all others. Pods' lives are not what is measured: an
/// Ingestor of none, a Collector of no node, and an agent's pods in which nothing runs.
struct Changed {
    kind: &'static str,
    workload: &'static str,
    name: &'static str,
    spec: fn(&str) -> String,
}

const CHANGED: [Changed; 4] = [
    Changed {
        kind: "Ingestor",
        workload: "StatefulSet",
        name: "i",
        spec: |image| {
            format!("{{replicas: 0, image: '{image}', adxClusterSelector: {{matchLabels: {{app: adx-mon}}}}}}")
        },
    },
    Changed {
        kind: "Collector",
        workload: "DaemonSet",
        name: "c",
        spec: |image| {
            format!(
                "{{image: '{image}', ingestorEndpoint: 'https://i.example.com', podPolicy: {{nodeSelector: {{pool: none}}}}}}"
            )
        },
    },
    Changed {
        kind: "Alerter",
        workload: "Deployment",
        name: "a",
        spec: |image| {
            format!(
                "{{image: '{image}', notificationEndpoint: 'https://alerts.example.com', adxClusterSelector: {{matchLabels: {{app: adx-mon}}}}}}"
            )
        },
    },
    // Its ConfigMap changes as well.
    Changed {
        kind: "ADXCluster",
        workload: "Deployment",
        name: "timed-agent",
        spec: |image| {
            format!(
                "{{clusterName: timed, endpoint: 'https://timed.kusto.windows.net', federation: {{image: '{image}', partitioning: {{is: '{image}'}}, federatedClusters: [{{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}}]}}}}"
            )
        },
    },
];

impl Changed {
    /// The object for the change of a number, with the image that its workload has then.
    fn manifest(&self, number: usize) -> (String, String) {
        let Self { kind, workload: _, name, spec } = self;
        let (image, name) = (format!("x/{name}:{number}"), name.trim_end_matches("-agent"));
        let spec = spec(&image);
        let text =
            format!("apiVersion: adx-mon.azure.com/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        (text, image)
    }

    /// Waits until the object tells that what it was changed to last is there and runs.
    async fn until_settled(&self, test: &TestNamespace) {
        let condition = if self.kind == "ADXCluster" { "AgentReady" } else { "WorkloadReady" };
        let is_settled = |object: &Value| {
            is_observed(object) && condition_of(object, condition).is_some_and(|told| told["status"] == "True")
        };
        test.until(self.kind, self.name.trim_end_matches("-agent"), is_settled).await;
    }
}

/// The time in which so many percent of them were done.
fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

/// Median and worst of a hundred.
fn figures(times: &mut [Duration]) -> String {
    format!("p50 {}, p99 {}", millis(percentile(times, 50)), millis(percentile(times, 99)))
}

pub(crate) async fn run(goals: &mut Goals) {
    if ControlPlane::is_missing() {
        println!("The operator: skipped, because the control plane is not built (`make control-plane`)");
        return;
    }
    println!("The operator in Kubernetes");
    let objects = (*OBJECTS).max(CHANGED.len());
    let test = TestNamespace::new("bench").await;
    let proxy = ApiProxy::start(test.plane).await;
    let options = OperatorOptions { server: Some(proxy.url.clone()), ..OperatorOptions::default() };
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    let pid = operator.process.pid().expect("it runs");
    rest().await;
    line("resident memory, nothing to do", &memory(pid));
    goals.as_released(pid, "MB of an operator at rest", resident_mb(pid), OPERATOR_GOAL);
    test.apply(CLUSTER).await;
    // Seen by a watch: asking for it again and again would be part of what is measured.
    let watched = CHANGED.map(|changed| format!("apps/v1 {}", changed.workload)).into_iter().collect::<BTreeSet<_>>();
    let mut workloads =
        select_all(watched.iter().map(|kind| {
            watcher(test.api(kind), watcher::Config::default()).default_backoff().applied_objects().boxed()
        }));
    let mut change = async |changed: &Changed, number: usize| {
        let (manifest, image) = changed.manifest(number);
        let started = Instant::now();
        test.apply(&manifest).await;
        let seen = async {
            while let Some(seen) = workloads.next().await {
                let is_it = |workload: &DynamicObject| {
                    let template = &workload.data["spec"]["template"];
                    workload.name_any() == changed.name && template["spec"]["containers"][0]["image"] == image.as_str()
                };
                // A watch that breaks off begins anew.
                if seen.is_ok_and(|workload| is_it(&workload)) {
                    break;
                }
            }
        };
        time::timeout(PATIENCE, seen).await.expect("the workload changes");
        started.elapsed()
    };
    for changed in &CHANGED {
        change(changed, 0).await;
    }
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    test.until_condition("Alerter", "a", "Ready", "True", "Ready").await;
    test.until("apps/v1 Deployment", "timed-agent", |agent| agent["status"]["readyReplicas"] == 1).await;

    println!("From `kubectl apply` to the changed workload, its last child");
    proxy.take();
    let mut times = CHANGED.map(|_| Vec::new());
    for number in 1..=objects {
        let kind = number % CHANGED.len();
        times[kind].push(change(&CHANGED[kind], number).await);
        // What the control plane then does with pods is no part of the next change.
        CHANGED[kind].until_settled(&test).await;
    }
    let requests: Vec<_> = proxy.take().into_iter().filter(|seen| !seen.is_lease()).collect();
    let writes = requests.iter().filter(|seen| seen.is_write()).count();
    for (changed, times) in CHANGED.iter().zip(&mut times) {
        line(&format!("{}: {}, {} changes", changed.kind, changed.workload, times.len()), &figures(times));
    }
    let mut times = times.concat();
    line(&format!("all kinds, {objects} changes"), &figures(&mut times));
    Goals::time("seconds from a change to its last child, p99", percentile(&mut times, 99).as_secs_f64(), 0.25);
    let each = |count: usize| format!("{:.1}", count as f64 / objects as f64);
    line("requests for each change", &format!("{}, of them writes {}", each(requests.len()), each(writes)));
    let mut times = Vec::new();
    for number in objects + 1..=2 * objects {
        times.push(change(&CHANGED[number % CHANGED.len()], number).await);
    }
    line(&format!("{objects} one right after the other, as pods are replaced"), &figures(&mut times));
    let agent = test.get("v1 ConfigMap", "timed-agent").await.to_string();
    let last = CHANGED[3].manifest(2 * objects - (2 * objects + 1) % CHANGED.len()).1;
    assert!(agent.contains(&last), "{last} is not in the agent's document: {agent}");

    let started = Instant::now();
    let mut all = String::new();
    for number in 0..objects {
        write!(all, "---\n{}", partition(number)).expect("a String takes all");
    }
    test.apply(&all).await;
    loop {
        let names = test.ours("apps/v1 Deployment").await;
        let made = names.iter().filter(|name| name.starts_with("part-")).count();
        if made == objects {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{made} of {objects}");
        time::sleep(Duration::from_millis(100)).await;
    }
    line(
        &format!("{objects} ADXClusters applied and their agents' objects made"),
        &format!("{:.1} s", started.elapsed().as_secs_f64()),
    );
    rest().await;
    line(&format!("resident memory with {objects} ADXClusters"), &memory(pid));
    let told: Value = test.get("ADXCluster", "part-0").await;
    assert_eq!(told["status"]["endpoint"], "https://part.kusto.windows.net");
    agents(goals).await;
}

/// Our agents as pods at rest: with the lease and the status that they have there.
async fn agents(goals: &mut Goals) {
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
        line(&pod, &memory(pid));
        goals.as_released(pid, &format!("MB of {pod} at rest"), resident_mb(pid), AGENT_GOAL);
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
