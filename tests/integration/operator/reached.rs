//! Services lead to the pods that are ready, at a port on which those listen: as the real controller of endpoints sees it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use kube::api::ListParams;
use serde_json::{Value, json};
use tests::{
    cluster::{PATIENCE, TestNamespace, condition_of},
    loopback,
};
use tokio::time;

use crate::support::{CLUSTER, COMPONENTS};

/// A pod's name and address.
type Place = (String, String);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn listed(test: &TestNamespace, kind: &str, labels: &str) -> Vec<Value> {
    let list = test.api(kind).list(&ListParams::default().labels(labels)).await.expect("the API server lists");
    list.items.into_iter().map(|object| serde_json::to_value(object).expect("an object is JSON")).collect()
}

/// The pods that a Service selects and that are ready.
async fn ready_pods(test: &TestNamespace, service: &Value) -> Vec<Value> {
    let selector = service["spec"]["selector"].as_object().expect("a Service of ours selects by labels");
    let labels: Vec<String> = selector.iter().map(|(label, value)| format!("{label}={}", text(value))).collect();
    let mut pods = listed(test, "v1 Pod", &labels.join(",")).await;
    pods.retain(|pod| {
        let is_ready = condition_of(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
        is_ready && pod["metadata"]["deletionTimestamp"].is_null()
    });
    pods
}

/// The ready endpoints of slices.
fn endpoints(slices: &[Value]) -> BTreeSet<Place> {
    let all = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = all.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready
        .flat_map(|endpoint| {
            let addresses = endpoint["addresses"].as_array().into_iter().flatten();
            addresses.map(move |address| (text(&endpoint["targetRef"]["name"]), text(address)))
        })
        .collect()
}

/// Waits until a Service leads to so many pods, which are those that are ready. Gives them, and the port: one that each of their containers declares.
async fn until_reached(test: &TestNamespace, service: &str, count: usize) -> (BTreeSet<Place>, u16) {
    let service = test.get("v1 Service", service).await;
    let of_service = format!("kubernetes.io/service-name={}", text(&service["metadata"]["name"]));
    let started = Instant::now();
    let (pods, slices) = loop {
        let slices = listed(test, "discovery.k8s.io/v1 EndpointSlice", &of_service).await;
        let pods = ready_pods(test, &service).await;
        let ready: BTreeSet<Place> =
            pods.iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"]))).collect();
        if ready.len() == count && endpoints(&slices) == ready {
            break (pods, slices);
        }
        assert!(started.elapsed() < PATIENCE, "{count} pods are to be reached, {ready:?} are ready, in {slices:#?}");
        time::sleep(Duration::from_millis(100)).await;
    };
    let ports = &slices[0]["ports"];
    let port = ports[0]["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("the slice has a port");
    let name = &service["spec"]["ports"][0]["name"];
    assert_eq!(*ports, json!([{"name": name, "port": port, "protocol": "TCP"}]));
    for pod in &pods {
        let declared = pod["spec"]["containers"][0]["ports"].as_array().into_iter().flatten();
        let declared: Vec<&Value> = declared.map(|declared| &declared["containerPort"]).collect();
        assert!(declared.contains(&&json!(port)), "{port} is not among {declared:?}");
    }
    (endpoints(&slices), port)
}

/// Each agent behind its Service answers where its pods say that their metrics are; gives what they answer.
pub(crate) async fn metrics_of_agents(test: &TestNamespace, service: &str, count: usize) -> Vec<String> {
    let (places, port) = until_reached(test, service, count).await;
    let mut answers = Vec::new();
    for (pod, address) in places {
        let told = test.get("v1 Pod", &pod).await["metadata"]["annotations"].clone();
        assert_eq!(
            (&told["prometheus.io/scrape"], &told["prometheus.io/port"]),
            (&json!("true"), &json!(port.to_string()))
        );
        let agent = test.kubelet.behind(&address, port);
        let agent = agent.expect("a pod's program is told to listen where the pod declares it");
        let url = format!("{agent}{}", text(&told["prometheus.io/path"]));
        let (status, answer) = loopback::get(&url).await.expect("the agent answers");
        // How a text of metrics ends.
        assert!(status == 200 && answer.ends_with("# EOF\n"), "{status} {answer}");
        answers.push(answer);
    }
    answers
}

#[tokio::test]
async fn an_ingestors_service_leads_to_those_of_its_pods_that_are_ready() {
    let test = TestNamespace::new("reached").await;
    let _operator = test.operator().await;
    let ingestor = COMPONENTS.split("---").next().expect("the first document");
    test.apply(&[CLUSTER, ingestor].join("---")).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    let (places, port) = until_reached(&test, "i", 2).await;
    let names = |places: &BTreeSet<Place>| places.iter().map(|(pod, _)| pod.clone()).collect::<Vec<_>>();
    assert_eq!(names(&places), ["i-0", "i-1"]);
    // It takes telemetry where it is asked whether it is ready.
    let set = test.get("apps/v1 StatefulSet", "i").await;
    let probe = &set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"];
    assert_eq!((&probe["port"], &probe["scheme"]), (&json!(port), &json!("HTTPS")));
    assert_eq!(test.get("v1 Service", "i").await["spec"]["ports"][0]["port"], 443);
    // One that runs and is not ready is left out, and the other waits for it.
    test.apply(&ingestor.replace("replicas: 2", "replicas: 2, image: 'x/unhealthy:1'")).await;
    let unhealthy = |pod: &Value| pod["spec"]["containers"][0]["image"] == "x/unhealthy:1";
    test.until("v1 Pod", "i-1", |pod| unhealthy(pod) && pod["status"]["phase"] == "Running").await;
    let (places, _) = until_reached(&test, "i", 1).await;
    assert_eq!(names(&places), ["i-0"]);
}
