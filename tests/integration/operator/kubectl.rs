//! kubectl itself: applied from the client's side, as most people do it, and what it shows them.

#![allow(clippy::panic)] // A failed expectation is what a story is for.

use serde_json::{Value, json};
use tests::{
    cluster::{Kubectl, TestNamespace, documents},
    docs,
};

use crate::support::{CLUSTER, COMPONENTS, PARTITION, until_ready, without_federation};

/// An Ingestor with fields that a later manifest leaves out.
const INGESTOR: &str = "
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: i}
spec: {replicas: 3, image: 'x/ingestor:7', adxClusterSelector: {matchLabels: {app: adx-mon}}}
";

/// The replicas and the image of a workload.
fn scale_and_image(set: &Value) -> (Value, Value) {
    let spec = &set["spec"];
    (spec["replicas"].clone(), spec["template"]["spec"]["containers"][0]["image"].clone())
}

/// In stories objects are applied by the server, which knows whose which field is; here kubectl knows from its annotation what it applied before.
#[tokio::test]
async fn what_a_later_manifest_leaves_out_is_gone_and_children_follow() {
    let Some(kubectl) = Kubectl::find() else { return };
    let test = TestNamespace::new("kubectl").await;
    let kubectl = kubectl.of(&test);
    let _operator = test.operator().await;
    let apply = |text: &str| {
        let printed = kubectl.run(&["apply", "--filename=-"], text);
        printed.lines().filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(apply(&[CLUSTER, INGESTOR, PARTITION].join("---")), ["created"; 3]);
    let as_said = (json!(3), json!("x/ingestor:7"));
    test.until("apps/v1 StatefulSet", "i", |set| scale_and_image(set) == as_said).await;
    test.until("apps/v1 Deployment", "part-agent", |agent| !agent.is_null()).await;
    let plain = without_federation(PARTITION);
    let ingestor = INGESTOR.replace("replicas: 3, image: 'x/ingestor:7', ", "");
    let later = [CLUSTER, ingestor.as_str(), plain].join("---");
    assert_eq!(apply(&later), ["configured"; 3]);
    let by_default = (json!(1), json!("ghcr.io/azure/adx-mon/ingestor:latest"));
    test.until("apps/v1 StatefulSet", "i", |set| scale_and_image(set) == by_default).await;
    test.until("apps/v1 Deployment", "part-agent", Value::is_null).await;
    test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    let (ingestor, part) = (test.get("Ingestor", "i").await, test.get("ADXCluster", "part").await);
    assert_eq!((&ingestor["spec"]["replicas"], &ingestor["spec"]["image"]), (&json!(1), &Value::Null));
    assert_eq!(part["spec"]["federation"], Value::Null);
    // What the operator has written meanwhile is no reason to write. kubectl takes what the API server fills into a list (a database's retention) for a change;
    // it is none.
    assert_eq!(apply(&later), ["configured", "unchanged", "unchanged"]);
    assert_eq!(test.get("ADXCluster", "eu").await["metadata"]["generation"], 1);
    let finalizers = test.get("Ingestor", "i").await["metadata"]["finalizers"].clone();
    assert_eq!(finalizers, json!(["adx-mon.azure.com/cluster-rbac"]));
}

/// Tables as kubectl prints them, each with its names first. Two blanks or more are between columns, and a name may have one.
fn tables(text: &str) -> Vec<Vec<Vec<String>>> {
    let tables = text.split("\n\n").map(|table| {
        let names = table.lines().next().unwrap_or_default();
        let begins =
            |at: usize| names[at..].starts_with(|c: char| c != ' ') && (at == 0 || names[..at].ends_with("  "));
        let begins: Vec<usize> = (0..names.len()).filter(|at| begins(*at)).collect();
        let row = |line: &str| {
            let ends = begins.iter().skip(1).copied().chain([line.len()]);
            let cells = begins.iter().zip(ends).map(|(begin, end)| line.get(*begin..end.min(line.len())));
            cells.map(|cell| cell.unwrap_or_default().trim().to_owned()).collect::<Vec<_>>()
        };
        table.lines().map(row).collect()
    });
    tables.collect()
}

#[tokio::test]
async fn kubectl_get_adx_mon_shows_every_kind_in_columns_of_its_own() {
    let Some(kubectl) = Kubectl::find() else { return };
    let test = TestNamespace::new("columns").await;
    let kubectl = kubectl.of(&test);
    let _operator = test.operator().await;
    test.apply(&[CLUSTER, COMPONENTS].join("---")).await;
    until_ready(&test).await;
    let printed = kubectl.run(&["get", "adx-mon"], "");
    let all = tables(&printed);
    assert_eq!(all.len(), 4, "{printed}");
    let ingestor = format!("https://i.{}.svc.cluster.local", test.name);
    for definition in documents(&docs::read("deploy/crds/crds.yaml")) {
        let kind = definition["spec"]["names"]["singular"].as_str().expect("a definition has names");
        let (name, shown) = match kind {
            "adxcluster" => ("eu", vec!["Partition", "https://eu.kusto.windows.net", "True", "", ""]),
            "ingestor" => ("i", vec!["2", ingestor.as_str(), "True"]),
            "collector" => ("c", vec![ingestor.as_str(), "True"]),
            _ => ("a", vec!["https://alerts.example.com", "True"]),
        };
        let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().expect("it has columns");
        // Others are shown where more is asked for.
        let columns = columns.iter().filter(|column| column["priority"].is_null());
        let columns = columns.filter_map(|column| column["name"].as_str()).map(str::to_uppercase);
        let names: Vec<String> = ["NAME".to_owned()].into_iter().chain(columns).collect();
        let first = format!("{kind}.adx-mon.azure.com/{name}");
        let table = all.iter().find(|table| table.iter().any(|row| row[0] == first)).expect(&printed);
        assert_eq!(table[0], names, "{printed}");
        let [_, row] = &table[..] else { panic!("one {kind}: {printed}") };
        let (age, values) = row[1..].split_last().expect("it has columns");
        assert_eq!(values, shown, "{printed}");
        assert!(age.starts_with(|c: char| c.is_ascii_digit()), "{printed}");
    }
    // An autoscaler decides how many run, whatever number the schema fills into the spec.
    test.apply(&COMPONENTS.replace("replicas: 2", "autoscaling: {minReplicas: 3, maxReplicas: 9}")).await;
    let is_shown = async |replicas: i32| {
        test.until("Ingestor", "i", |ingestor| ingestor["status"]["replicas"] == replicas).await;
        let printed = kubectl.run(&["get", "ingestor", "i"], "");
        assert_eq!(tables(&printed)[0][1][1], replicas.to_string(), "{printed}");
    };
    is_shown(3).await;
    let scale = kube::api::Patch::Merge(json!({"spec": {"replicas": 5}}));
    let sets = test.api("apps/v1 StatefulSet");
    sets.patch_scale("i", &kube::api::PatchParams::default(), &scale).await.expect("the API server scales");
    is_shown(5).await;
}
