//! What each kind decides of objects that are older than a rule, or that nothing fits yet.

use std::sync::Arc;

use kube::Resource as _;
use serde_json::{Value, json};
use shared::document::{ADXCluster, ClusterRole, provisioned::ProvisionStatus, spec::TelemetryType};

use crate::{
    api::{Alerter, Collector, Ingestor},
    kubernetes::{
        child::{Kind, Owner},
        managed::{Managed, Plan, World},
        settings::Settings,
    },
};

fn object<K: Managed>(kind: &str, name: &str, spec: &Value, status: &Value) -> K {
    let object = json!({
        "apiVersion": "adx-mon.azure.com/v1", "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": name, "namespace": "ns", "uid": "u", "generation": 1, "labels": {"app": "adx-mon"}},
    });
    serde_json::from_value(object).expect("the object has the kind's form")
}

fn cluster(databases: &Value) -> ADXCluster {
    let ready = |condition: &str| json!({"type": condition, "status": "True", "reason": "Existing", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1});
    let conditions = json!([ready("ClusterReady"), ready("DatabasesReady"), ready("Ready")]);
    let endpoint = "https://eu.kusto.windows.net";
    let spec = json!({"clusterName": "eu", "endpoint": endpoint, "databases": databases});
    object("ADXCluster", "eu", &spec, &json!({"conditions": conditions, "observedGeneration": 1, "endpoint": endpoint}))
}

fn plan<K: Managed>(object: &K, clusters: Vec<ADXCluster>, ingestors: Vec<Ingestor>) -> Plan {
    plan_while_running(object, clusters, ingestors, None)
}

fn plan_while_running<K: Managed>(
    object: &K,
    clusters: Vec<ADXCluster>,
    ingestors: Vec<Ingestor>,
    running: Option<Vec<String>>,
) -> Plan {
    let settings = Settings::of_tests(None);
    let clusters = clusters.into_iter().map(Arc::new).collect();
    let ingestors = ingestors.into_iter().map(Arc::new).collect();
    let world = World { clusters, ingestors, running, ..World::of_tests(&settings) };
    object.plan(&Owner::of(K::KIND, object.meta()), &world)
}

/// Why nothing is done, and whether only a person can help.
fn refusal<K: Managed>(object: &K) -> (String, String, bool) {
    let plan = plan(object, vec![cluster(&json!([{"databaseName": "Logs", "telemetryType": "Logs"}]))], Vec::new());
    assert!(plan.build.is_none(), "{plan:?}");
    let why = plan.conditions.into_iter().next().expect("it says why");
    (why.reason, why.message, plan.is_stalled)
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "adx-mon"}})
}

/// A toleration that Kubernetes refuses, and what is said of it.
fn no_key() -> Value {
    json!({"podPolicy": {"tolerations": [{"value": "x"}]}})
}
const KEYLESS: &str = "spec.podPolicy.tolerations[0].key = absent: must be given where operator is not Exists: a toleration without a key is for every taint";

#[test]
fn rules_that_are_younger_than_the_object_are_conditions() {
    let ingestor = |name: &str, more: Value| {
        let mut spec = json!({"adxClusterSelector": selector()});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refusal(&object::<Ingestor>("Ingestor", name, &spec, &json!(null)))
    };
    let collector = |name: &str, spec: Value| refusal(&object::<Collector>("Collector", name, &spec, &json!(null)));
    let alerter = |name: &str, endpoint: &str| {
        let spec = json!({"adxClusterSelector": selector(), "notificationEndpoint": endpoint});
        refusal(&object::<Alerter>("Alerter", name, &spec, &json!(null)))
    };
    let name =
        "metadata.name = with.dot: must be at most 52 lower-case letters, digits and hyphens, beginning with a letter";
    // One character more than the schema allows.
    let long = |most: usize| format!("https://x/{}", "x".repeat(most - 9));
    let too_long = |field: &str, most: usize| {
        let shown = format!("https://x/{}", "x".repeat(118));
        format!("{field} = {shown}: must have at most {most} characters; it has {}", most + 1)
    };
    for ((reason, message, is_stalled), expected) in [
        (ingestor("with.dot", json!({})), name),
        (ingestor("i", json!({"replicas": -1})), "spec.replicas = -1: must be at least 0"),
        (ingestor("i", json!({"replicas": 1001})), "spec.replicas = 1001: must be at most 1000"),
        (
            ingestor("i", json!({"autoscaling": {"minReplicas": 5, "maxReplicas": 2}})),
            "spec.autoscaling.maxReplicas = 2: must be at least minReplicas (5)",
        ),
        (
            ingestor("i", json!({"autoscaling": {"minReplicas": 0, "maxReplicas": 2}})),
            "spec.autoscaling.minReplicas = 0: must be at least 1",
        ),
        (
            ingestor("i", json!({"autoscaling": {"maxReplicas": 1001}})),
            "spec.autoscaling.maxReplicas = 1001: must be at most 1000",
        ),
        (
            ingestor("i", json!({"autoscaling": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 0}})),
            "spec.autoscaling.targetCPUUtilizationPercentage = 0: must be at least 1",
        ),
        (
            ingestor("i", json!({"autoscaling": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 1001}})),
            "spec.autoscaling.targetCPUUtilizationPercentage = 1001: must be at most 1000",
        ),
        (ingestor("i", json!({"endpoint": long(512)})), &too_long("spec.endpoint", 512)),
        (
            ingestor("i", json!({"logDestination": format!("Logs:{}", "x".repeat(508))})),
            &format!("spec.logDestination = Logs:{}: must have at most 512 characters; it has 513", "x".repeat(123)),
        ),
        (
            ingestor("i", json!({"tls": {"hostPath": format!("/{}", "x".repeat(1024))}})),
            &format!("spec.tls.hostPath = /{}: must have at most 1024 characters; it has 1025", "x".repeat(127)),
        ),
        (
            ingestor("i", json!({"podPolicy": {"tolerations": vec![json!({"operator": "Exists"}); 65]}})),
            "spec.podPolicy.tolerations = 65 entries: must have at most 64 entries",
        ),
        (ingestor("i", json!({"endpoint": "a b"})), "spec.endpoint = https://a b: must have no blanks"),
        (ingestor("i", json!({"endpoint": "ftp://x"})), "spec.endpoint = ftp://x: must start with http:// or https://"),
        (
            ingestor("i", json!({"endpoint": "mailto:me"})),
            "spec.endpoint = https://mailto:me: must be a URL with a host",
        ),
        (ingestor("i", json!({"logDestination": "Logs"})), "spec.logDestination = Logs: must be Database:Table"),
        (ingestor("i", json!({"tls": {}})), "spec.tls: must have exactly one of secretRef and hostPath"),
        (
            ingestor("i", json!({"tls": {"hostPath": "certs"}})),
            "spec.tls.hostPath = certs: must be absolute and without ..",
        ),
        (ingestor("i", no_key()), KEYLESS),
        (collector("c", no_key()), KEYLESS),
        (collector("c", json!({"ingestorEndpoint": long(512)})), &too_long("spec.ingestorEndpoint", 512)),
        (
            collector("c", json!({"metricsDatabase": "a b"})),
            "spec.metricsDatabase = a b: must be 1 to 64 letters, digits and underscores",
        ),
        (
            collector("c", json!({"logsDatabase": "\"\n"})),
            "spec.logsDatabase = \"\\n: must be 1 to 64 letters, digits and underscores",
        ),
        (collector("with.dot", json!({})), name),
        (
            collector("c", json!({"ingestorEndpoint": "ftp://x"})),
            "spec.ingestorEndpoint = ftp://x: must start with http:// or https://",
        ),
        (alerter("with.dot", "https://x"), name),
        (alerter("a", "mailto:me"), "spec.notificationEndpoint = mailto:me: must start with http:// or https://"),
        (alerter("a", &long(2048)), &too_long("spec.notificationEndpoint", 2048)),
        // However long it is, there is room for the rule.
        (
            alerter("a", &format!("https://x/ {}", "x".repeat(2000))),
            &format!("spec.notificationEndpoint = https://x/ {}: must have no blanks", "x".repeat(117)),
        ),
    ] {
        assert_eq!((reason.as_str(), message.as_str(), is_stalled), ("Invalid", expected, true));
    }
}

#[test]
fn what_is_missing_is_waited_for_and_named() {
    let ingestor: Ingestor = object("Ingestor", "i", &json!({"adxClusterSelector": selector()}), &json!(null));
    let reason = |plan: Plan| plan.conditions.first().map(|why| (why.reason.clone(), plan.is_stalled));
    assert_eq!(reason(plan(&ingestor, vec![], vec![])), Some(("WaitingForCluster".to_owned(), false)));
    assert_eq!(reason(plan(&ingestor, vec![cluster(&json!([]))], vec![])), Some(("NoDatabases".to_owned(), false)));
    let asks = json!({"adxClusterSelector": selector(), "notificationEndpoint": "https://x"});
    let alerter: Alerter = object("Alerter", "a", &asks, &json!(null));
    let without_databases = plan(&alerter, vec![cluster(&json!([]))], vec![]);
    assert!(without_databases.build.is_none(), "{without_databases:?}");
    assert_eq!(reason(without_databases), Some(("NoDatabases".to_owned(), false)));
    let collector: Collector = object("Collector", "c", &json!({}), &json!(null));
    assert_eq!(reason(plan(&collector, vec![], vec![])), Some(("WaitingForIngestor".to_owned(), false)));
    let two = [ingestor.clone(), object("Ingestor", "j", &json!({"adxClusterSelector": selector()}), &json!(null))];
    assert_eq!(reason(plan(&collector, vec![], two.to_vec())), Some(("AmbiguousIngestor".to_owned(), false)));
    // One that is another operator's is none.
    let mut one_elsewhere = two.to_vec();
    one_elsewhere[1].spec.criteria_expression = Some("false".to_owned());
    assert_eq!(reason(plan(&collector, vec![], one_elsewhere)), Some(("WaitingForIngestor".to_owned(), false)));
    // One in another namespace is none.
    let mut elsewhere = ingestor;
    elsewhere.meta_mut().namespace = Some("elsewhere".to_owned());
    assert_eq!(reason(plan(&collector, vec![], vec![elsewhere])), Some(("WaitingForIngestor".to_owned(), false)));
}

#[test]
fn a_collector_begins_once_its_ingestor_is_ready() {
    let ingestor = |ready: &str| -> Ingestor {
        let ready = json!({"type": "Ready", "status": ready, "reason": "Progressing", "message": "0 of 1 pod(s) ready",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = json!({"endpoint": "https://i.ns.svc.cluster.local", "conditions": [ready]});
        object("Ingestor", "i", &json!({"adxClusterSelector": selector()}), &status)
    };
    let collector: Collector = object("Collector", "c", &json!({}), &json!(null));
    for ready in ["False", "Unknown"] {
        let plan = plan(&collector, vec![], vec![ingestor(ready)]);
        assert!(plan.build.is_none() && plan.endpoint.is_none() && !plan.is_stalled, "{plan:?}");
        let why = &plan.conditions[0];
        let expected = (Some(false), "WaitingForIngestor", "Ingestor 'i' is not ready: 0 of 1 pod(s) ready");
        assert_eq!((why.is_true, why.reason.as_str(), why.message.as_str()), expected);
    }
    let ready = plan(&collector, vec![], vec![ingestor("True")]);
    assert!(ready.build.is_some() && ready.conditions.is_empty(), "{ready:?}");
    assert_eq!(ready.endpoint.as_deref(), Some("https://i.ns.svc.cluster.local"));
    // One that sends already goes on where its ingestor has trouble, and follows it where that moves.
    let status = json!({"endpoint": "https://elsewhere.ns.svc.cluster.local"});
    let running: Collector = object("Collector", "c", &json!({}), &status);
    let plan = plan(&running, vec![], vec![ingestor("False")]);
    assert_eq!(plan.endpoint.as_deref(), Some("https://i.ns.svc.cluster.local"));
    assert!(plan.build.is_some() && plan.conditions.is_empty(), "{plan:?}");
}

#[test]
fn an_endpoint_without_a_scheme_is_a_host_behind_tls() {
    let spec = json!({"adxClusterSelector": selector(), "endpoint": "ingestor-service.prod.svc.cluster.local"});
    let ingestor: Ingestor = object("Ingestor", "i", &spec, &json!(null));
    let plan = plan(&ingestor, vec![cluster(&json!([{"databaseName": "Logs", "telemetryType": "Logs"}]))], vec![]);
    assert_eq!(plan.endpoint.as_deref(), Some("https://ingestor-service.prod.svc.cluster.local"));
}

#[test]
fn an_agent_that_signs_in_by_workload_identity_has_its_marks() {
    let federation = |more: Value| {
        let mut federation = json!({"federatedClusters": [
            {"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "D", "heartbeatTable": "T"}]});
        federation.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec = json!({"clusterName": "eu", "endpoint": "https://eu.kusto.windows.net", "federation": federation});
        let cluster: ADXCluster = object("ADXCluster", "eu", &spec, &json!(null));
        let build = plan(&cluster, vec![], vec![]).build.expect("it gets an agent");
        let account = build.supports.iter().find(|child| child.reference.resource.kind == "ServiceAccount").unwrap();
        let pods = build.workload.unwrap().content;
        (
            account.content["metadata"]["annotations"]["azure.workload.identity/client-id"].clone(),
            pods.pointer("/spec/template/metadata/labels/azure.workload.identity~1use").cloned(),
            pods.pointer("/spec/template/spec/containers/0/image").cloned(),
        )
    };
    let image = Some(json!("own/agent:1"));
    assert_eq!(federation(json!({})), (Value::Null, None, image.clone()));
    let own = json!({"credential": {"workloadIdentity": {"clientId": "of-the-cluster"}}, "image": "other/agent:2"});
    assert_eq!(federation(own), (json!("of-the-cluster"), Some(json!("true")), Some(json!("other/agent:2"))));
    let target = json!({"federatedClusters": [{"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "D",
        "heartbeatTable": "T", "credential": {"workloadIdentity": {"clientId": "at-the-hub"}}}]});
    assert_eq!(federation(target), (json!("at-the-hub"), Some(json!("true")), image.clone()));
    let marked_only = json!({"credential": {"workloadIdentity": {}}});
    assert_eq!(federation(marked_only), (Value::Null, Some(json!("true")), image));
    assert_eq!(ADXCluster::KIND, Kind::AdxCluster);
}

/// Changes the address that a cluster has by its spec and its status.
fn be_at(cluster: &mut ADXCluster, endpoint: Option<&str>) {
    cluster.spec.endpoint = endpoint.map(str::to_owned);
    cluster.status.as_mut().expect("it has one").endpoint = cluster.spec.endpoint.clone();
}

/// The clusters `eu` with a database `Logs` and `us` with `Logs` and `More`; those that are named in `unready` are not ready.
fn two_clusters(unready: &[&str]) -> Vec<ADXCluster> {
    let named = |name: &str, databases: &[&str]| {
        let databases: Vec<Value> =
            databases.iter().map(|name| json!({"databaseName": name, "telemetryType": "Logs"})).collect();
        let mut cluster = cluster(&json!(databases));
        cluster.metadata.name = Some(name.to_owned());
        be_at(&mut cluster, Some(&format!("https://{name}.kusto.windows.net")));
        let status = cluster.status.as_mut().expect("it has one");
        if unready.contains(&name) {
            for condition in &mut status.conditions {
                condition.status = "False".to_owned();
                condition.message = format!("{name} is being made");
            }
        }
        cluster
    };
    vec![named("eu", &["Logs"]), named("us", &["Logs", "More"])]
}

/// The arguments by which a planned workload knows databases, and the first condition.
fn told(plan: Plan) -> (Vec<String>, String) {
    let condition = plan.conditions.into_iter().next().expect("it says why");
    let workload = plan.build.and_then(|build| build.workload).map(|child| child.content).unwrap_or_default();
    let arguments = workload.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array);
    let arguments = arguments.into_iter().flatten().filter_map(|argument| argument.as_str().map(str::to_owned));
    let databases = arguments.filter(|argument| argument.contains("kusto")).collect();
    (databases, format!("{}: {}", condition.reason, condition.message))
}

#[test]
fn a_cluster_that_azure_made_without_a_list_holds_what_it_was_given() {
    let mut cluster = cluster(&json!([]));
    cluster.spec.endpoint = None;
    let ingestor: Ingestor = object("Ingestor", "i", &json!({"adxClusterSelector": selector()}), &json!(null));
    let expected = [
        "--metrics-kusto-endpoints=Metrics=https://eu.kusto.windows.net",
        "--logs-kusto-endpoints=Logs=https://eu.kusto.windows.net",
    ];
    // Somebody else's, of which a person took the endpoint out.
    let (arguments, why) = told(plan(&ingestor, vec![cluster.clone()], vec![]));
    assert!(arguments.is_empty() && why.starts_with("NoDatabases: "), "{why}: {arguments:?}");
    let status = cluster.status.as_mut().expect("it has one");
    status.provision = Some(ProvisionStatus { state: Some("Running".to_owned()), ..ProvisionStatus::default() });
    assert_eq!(told(plan(&ingestor, vec![cluster], vec![])).0, expected);
}

#[test]
fn what_runs_goes_on_with_the_clusters_that_are_ready_and_says_what_it_waits_for() {
    let ingestor: Ingestor = object("Ingestor", "i", &json!({"adxClusterSelector": selector()}), &json!(null));
    let flag = |endpoint: &str| format!("--logs-kusto-endpoints={endpoint}");
    let logs = |cluster: &str| flag(&format!("Logs=https://{cluster}.kusto.windows.net"));
    let more = || flag("More=https://us.kusto.windows.net");
    let while_running = |unready: &[&str], running: Vec<String>| {
        told(plan_while_running(&ingestor, two_clusters(unready), vec![], Some(running)))
    };
    // The first time all are waited for.
    let (databases, why) = told(plan(&ingestor, two_clusters(&["us"]), vec![]));
    assert_eq!(
        (databases, why.as_str()),
        (vec![], "WaitingForCluster: ADXCluster 'us' is not ready: us is being made")
    );
    // One that is new is left out until it is ready.
    let (databases, why) = while_running(&["us"], vec![logs("eu")]);
    assert_eq!(databases, [logs("eu")]);
    let expected =
        "WaitingForCluster: ADXCluster 'us' is not ready: us is being made; meanwhile it writes to ADXCluster eu";
    assert_eq!(why, expected);
    // One that was ready keeps its place; a database that it is about to get has none yet.
    let (databases, _) = while_running(&["us"], vec![logs("eu"), logs("us")]);
    assert_eq!(databases, [logs("eu"), logs("us")]);
    // What nobody selects has none, whoever wrote it there.
    let (databases, _) = while_running(&["us"], vec![logs("eu"), logs("evil"), more()]);
    assert_eq!(databases, [logs("eu"), more()]);
    // Without any that is ready, what runs keeps what it has.
    let (databases, why) = while_running(&["eu", "us"], vec![logs("eu"), more()]);
    assert_eq!(databases, [logs("eu"), more()]);
    assert!(why.ends_with("; what runs keeps its clusters"), "{why}");
    let gone = plan_while_running(&ingestor, vec![], vec![], Some(vec![logs("eu")]));
    assert_eq!(told(gone).0, [logs("eu")]);
}

fn logs(cluster: &str) -> String {
    format!("--logs-kusto-endpoints=Logs=https://{cluster}.kusto.windows.net")
}

/// The databases that an Ingestor is told of which runs with these arguments, and the first condition.
fn kept(clusters: Vec<ADXCluster>, running: Vec<String>) -> (Vec<String>, String) {
    let ingestor: Ingestor = object("Ingestor", "i", &json!({"adxClusterSelector": selector()}), &json!(null));
    told(plan_while_running(&ingestor, clusters, vec![], Some(running)))
}

/// `eu`, which is ready, and `us`, which is being made and whose address nobody knows.
fn one_to_be_made() -> Vec<ADXCluster> {
    let mut clusters = two_clusters(&["us"]);
    be_at(&mut clusters[1], None);
    clusters
}

#[test]
fn an_argument_that_somebody_adds_while_a_new_cluster_is_waited_for_goes() {
    assert_eq!(kept(one_to_be_made(), vec![logs("eu"), logs("evil")]).0, [logs("eu")]);
    assert_eq!(kept(one_to_be_made(), vec![logs("evil")]).0, [logs("eu")]);
    // One that is new and holds metrics alone says nothing of logs, and has no place before it is ready.
    let mut other_kind = two_clusters(&["us"]);
    other_kind[1].spec.databases.truncate(1);
    other_kind[1].spec.databases[0].telemetry_type = TelemetryType::Metrics;
    assert_eq!(kept(other_kind, vec![logs("eu"), logs("evil"), logs("us")]).0, [logs("eu")]);
}

#[test]
fn a_cluster_that_is_not_selected_any_more_is_not_written_to_until_a_new_one_is_ready() {
    let mut clusters = one_to_be_made();
    let mut old = cluster(&json!([{"databaseName": "Logs", "telemetryType": "Logs"}]));
    old.metadata.name = Some("old".to_owned());
    old.metadata.labels = None;
    be_at(&mut old, Some("https://old.kusto.windows.net"));
    clusters.push(old.clone());
    assert_eq!(kept(clusters.clone(), vec![logs("eu"), logs("old")]).0, [logs("eu")]);
    // Nor where the other is not ready, but known.
    let unready = vec![two_clusters(&["eu"]).remove(0), old.clone()];
    assert_eq!(kept(unready.clone(), vec![logs("eu"), logs("old")]).0, [logs("eu")]);
    assert_eq!(kept(unready, vec![logs("old")]).0, [logs("eu")]);
    // With no address known there is nothing else to write to.
    let unknown = vec![clusters.remove(1), old];
    assert_eq!(kept(unknown, vec![logs("old")]).0, [logs("old")]);
}

#[test]
fn a_cluster_that_lists_no_database_keeps_those_that_it_had_and_no_others() {
    let empty = || cluster(&json!([]));
    let (databases, why) = kept(vec![empty()], vec![logs("eu"), logs("evil")]);
    assert_eq!(databases, [logs("eu")]);
    let expected =
        "NoDatabases: no database is listed in spec.databases of ADXCluster eu; what runs keeps its clusters";
    assert_eq!(why, expected);
    let and_one_to_be_made = vec![empty(), one_to_be_made().remove(1)];
    assert_eq!(kept(and_one_to_be_made, vec![logs("eu"), logs("evil")]).0, [logs("eu")]);
}

/// How many of a workload are planned, and who else may scale it.
fn scale(plan: &Plan) -> (Value, Option<i32>) {
    let workload = plan.build.as_ref().and_then(|build| build.workload.as_ref()).expect("it is looked after");
    (workload.content["spec"]["replicas"].clone(), workload.scaled_from)
}

#[test]
fn what_wrote_to_a_cluster_that_became_a_hub_is_scaled_to_none() {
    let hub = || {
        let mut hub = two_clusters(&[]).remove(0);
        hub.spec.role = Some(ClusterRole::Federated);
        hub
    };
    let fixed = || "--storage-dir=/mnt/data".to_owned();
    for more in [json!({"replicas": 3}), json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 4}})] {
        let mut spec = json!({"adxClusterSelector": selector()});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingestor: Ingestor = object("Ingestor", "i", &spec, &json!(null));
        // Also once its arguments are gone.
        for running in [vec![fixed(), logs("eu")], vec![fixed()]] {
            let plan = plan_while_running(&ingestor, vec![hub()], vec![], Some(running));
            assert_eq!(scale(&plan), (json!(0), None));
            let (databases, why) = told(plan);
            assert_eq!(databases, Vec::<String>::new());
            assert!(why.ends_with("matches spec.adxClusterSelector; without a database it is scaled to none"), "{why}");
        }
        let again =
            plan_while_running(&ingestor, vec![hub(), two_clusters(&[]).remove(1)], vec![], Some(vec![fixed()]));
        assert_ne!(scale(&again).0, json!(0));
    }
    // What it wrote to besides stays.
    assert_eq!(kept(vec![hub()], vec![logs("eu"), logs("gone")]).0, [logs("gone")]);
    let spec = json!({"adxClusterSelector": selector(), "notificationEndpoint": "https://x"});
    let alerter: Alerter = object("Alerter", "a", &spec, &json!(null));
    let asks = || vec!["--kusto-endpoint=Logs=https://eu.kusto.windows.net".to_owned()];
    assert_eq!(scale(&plan_while_running(&alerter, vec![hub()], vec![], Some(asks()))), (json!(0), None));
    assert_eq!(scale(&plan_while_running(&alerter, vec![], vec![], Some(asks()))), (json!(1), None));
}

#[test]
fn an_empty_selector_selects_nothing_and_takes_nothing_from_what_runs() {
    let ingestor: Ingestor = object("Ingestor", "i", &json!({"adxClusterSelector": {}}), &json!(null));
    let first = plan(&ingestor, two_clusters(&[]), vec![]);
    assert!(first.build.is_none() && first.is_stalled, "{first:?}");
    let running = plan_while_running(&ingestor, two_clusters(&[]), vec![], Some(vec![logs("old")]));
    assert!(running.is_stalled, "only a person can help");
    let (databases, why) = told(running);
    assert_eq!(databases, [logs("old")]);
    let expected = "SelectsNothing: spec.adxClusterSelector is empty, and an empty selector selects nothing; what runs keeps its clusters";
    assert_eq!(why, expected);
}

#[test]
fn a_collector_that_runs_goes_on_where_it_cannot_tell_where_to_send() {
    let status = json!({"endpoint": "https://i.ns.svc.cluster.local"});
    let collector: Collector = object("Collector", "c", &json!({}), &status);
    let ingestor = |name: &str| object("Ingestor", name, &json!({"adxClusterSelector": selector()}), &json!(null));
    for (ingestors, reason) in
        [(vec![], "WaitingForIngestor"), (vec![ingestor("i"), ingestor("j")], "AmbiguousIngestor")]
    {
        let plan = plan(&collector, vec![], ingestors);
        let build = plan.build.expect("it is looked after");
        let shown = format!("{:?}", build.supports);
        assert!(shown.contains("endpoint = \\\"https://i.ns.svc.cluster.local"), "{shown}");
        assert_eq!((plan.conditions[0].reason.as_str(), plan.conditions[0].is_true), (reason, Some(false)));
    }
}

#[test]
fn a_collector_sends_what_its_ingestor_takes() {
    let ingestor = |selector: Value| object("Ingestor", "i", &json!({"adxClusterSelector": selector}), &json!(null));
    let databases = |spec: Value, ingestors: Vec<Ingestor>, named: &[(&str, &str)]| {
        let named: Vec<Value> =
            named.iter().map(|(name, kind)| json!({"databaseName": name, "telemetryType": kind})).collect();
        let collector: Collector = object("Collector", "c", &spec, &json!({"endpoint": "https://i"}));
        let build = plan(&collector, vec![cluster(&json!(named))], ingestors).build.expect("it is looked after");
        let config = build.supports.iter().find_map(|child| child.content.pointer("/data/config.toml")?.as_str());
        let config = config.expect("it has a configuration");
        let named =
            |line: &str| line.split("database = \"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        config.lines().filter_map(named).collect::<Vec<_>>()
    };
    let (own, remote) = (json!({}), json!({"ingestorEndpoint": "https://far"}));
    let (odd, usual) = (
        [("Z", "Metrics"), ("M", "Metrics"), ("L", "Logs"), ("A", "Traces")],
        [("Metrics", "Metrics"), ("A", "Metrics")],
    );
    assert_eq!(databases(own.clone(), vec![ingestor(selector())], &odd), ["M", "M", "L"]);
    assert_eq!(databases(own.clone(), vec![ingestor(selector())], &usual), ["Metrics", "Metrics", "Logs"]);
    // Of others' ingestors nothing is known.
    assert_eq!(databases(remote, vec![ingestor(selector())], &odd), ["Metrics", "Metrics", "Logs"]);
    assert_eq!(databases(own, vec![], &odd), ["Metrics", "Metrics", "Logs"]);
    let told = json!({"ingestorEndpoint": "https://far", "metricsDatabase": "Far", "logsDatabase": "Away"});
    assert_eq!(databases(told, vec![], &odd), ["Far", "Far", "Away"]);
}

#[test]
fn an_ingestor_says_which_of_databases_with_one_name_is_not_written_to() {
    let ingestor: Ingestor = object("Ingestor", "i", &json!({"adxClusterSelector": selector()}), &json!(null));
    let (databases, why) = told(plan(&ingestor, two_clusters(&[]), vec![]));
    assert_eq!(databases.len(), 3, "{databases:?}");
    let expected = "Ready: writes to ADXCluster eu, us; of databases with one name only one is written to: 'Logs' at https://us.kusto.windows.net and not at https://eu.kusto.windows.net";
    assert_eq!(why, expected);
}

#[test]
fn an_alerter_says_which_of_databases_with_one_name_is_not_asked() {
    let spec = json!({"adxClusterSelector": selector(), "notificationEndpoint": "https://x"});
    let alerter: Alerter = object("Alerter", "a", &spec, &json!(null));
    let (databases, why) = told(plan(&alerter, two_clusters(&[]), vec![]));
    assert_eq!(databases.len(), 3, "{databases:?}");
    let expected = "Ready: asks ADXCluster eu, us; of databases with one name only one is asked: 'Logs' at https://us.kusto.windows.net and not at https://eu.kusto.windows.net";
    assert_eq!(why, expected);
}
