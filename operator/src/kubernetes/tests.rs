//! The whole of the controllers with the clock stopped, over an API server that takes no time: how long something takes is how long the operator waits for timers.

mod behind;
mod besides;
mod criteria;
mod faults;
mod fixed;
mod looks;
mod overruled;
mod refused;
mod server;
mod unready;

use std::time::Duration;

use kube::runtime::events::{Recorder, Reporter};
use serde_json::{Value, json};
use shared::{
    document::{ADXCluster, effective, fingerprint},
    runtime::{Admin, Metrics},
};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use self::server::{NAMESPACE, Server};
use super::{
    child::{APPLIED, FIELD_MANAGER},
    context::Context,
    image_of,
    metrics::OperatorMetrics,
    run_controllers,
    settings::Settings,
    watches::{Queues, Watches},
};

/// What tokio's clock can tell apart.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Longer than the first waits of an object whose pods are not ready, as nobody runs them here.
const LATER: Duration = Duration::from_secs(15);

fn put(server: &Server, kind: &str, name: &str, spec: &Value) {
    let metadata = json!({"name": name, "namespace": NAMESPACE, "generation": 1, "labels": {"app": "adx-mon"}});
    let object = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": kind, "metadata": metadata, "spec": spec});
    server.put(&(format!("{}s", kind.to_lowercase()), name.to_owned()), object);
}

/// One object of each kind, with all that is made for it.
async fn running(server: &Server, term: &CancellationToken) -> Watches {
    counted(server, term).await.0
}

/// The same, with what is counted of it.
async fn counted(server: &Server, term: &CancellationToken) -> (Watches, Metrics) {
    let hub =
        json!({"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "Fleet", "heartbeatTable": "Beats"});
    let databases = json!([{"databaseName": "Logs", "telemetryType": "Logs"}]);
    let cluster = json!({"clusterName": "eu", "endpoint": "https://eu.kusto.windows.net", "databases": databases, "federation": {"federatedClusters": [hub]}});
    let selector = json!({"matchLabels": {"app": "adx-mon"}});
    put(server, "ADXCluster", "eu", &cluster);
    put(
        server,
        "Ingestor",
        "i",
        &json!({"adxClusterSelector": selector, "autoscaling": {"minReplicas": 2, "maxReplicas": 4}}),
    );
    put(server, "Collector", "c", &json!({"ingestorEndpoint": "https://i.example.com"}));
    put(
        server,
        "Alerter",
        "a",
        &json!({"adxClusterSelector": selector, "notificationEndpoint": "https://alerts.example.com"}),
    );
    let client = server.client();
    let (queues, ends) = Queues::new();
    let watches = Watches::start(&client, Some(NAMESPACE), &queues);
    let recorder = Recorder::new(client.clone(), Reporter::from("adx-federation-operator"));
    let metrics = Metrics::new();
    let own = metrics.register(OperatorMetrics::new);
    let context =
        Context::new(client, Settings::of_tests(Some(NAMESPACE)), watches.stores.clone(), recorder, own, None);
    let term = term.clone();
    tokio::spawn(async move { run_controllers(&context, ends, &term).await });
    // All timers of the beginning have run out.
    time::sleep(LATER).await;
    (watches, metrics)
}

#[tokio::test(start_paused = true)]
async fn between_drift_and_its_revert_no_timer_runs() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let children = server.children();
    let plurals = children.iter().map(|(plural, _)| plural.as_str()).collect::<std::collections::BTreeSet<_>>();
    let all = [
        "clusterrolebindings",
        "clusterroles",
        "configmaps",
        "daemonsets",
        "deployments",
        "horizontalpodautoscalers",
        "poddisruptionbudgets",
        "rolebindings",
        "roles",
        "serviceaccounts",
        "services",
        "statefulsets",
    ];
    assert_eq!(plurals, all.into(), "of each kind that is made there is one");
    for key in &children {
        let made = server.get(key).expect("it is there");
        let mut labelled = made.clone();
        labelled["metadata"]["labels"]["app.kubernetes.io/instance"] = "spoilt".into();
        let mut emptied = made.clone();
        for content in ["spec", "data", "rules", "subjects", "automountServiceAccountToken"] {
            emptied.as_object_mut().expect("it is an object").remove(content);
        }
        for (how, spoilt) in [("relabelled", Some(labelled)), ("emptied", Some(emptied)), ("removed", None)] {
            let (writes, before) = (server.writes(key), Instant::now());
            match spoilt {
                Some(spoilt) => server.put(key, spoilt),
                None => server.remove(key),
            }
            server.until_written(key, writes).await;
            assert!(before.elapsed() <= AT_ONCE, "{key:?}, {how}, came back after {:?}", before.elapsed());
            let now = server.get(key).expect("it is there again");
            let labels = |object: &Value| object["metadata"]["labels"].clone();
            assert_eq!((labels(&now), &now["spec"]), (labels(&made), &made["spec"]));
            time::sleep(LATER).await;
            assert_eq!(server.writes(key), writes + 1, "{key:?}, {how}, was written again without need");
        }
    }
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn each_changed_path_of_a_child_is_told_in_words_of_its_own_and_counted_after_that() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    assert_eq!(server.told("DriftReverted"), Vec::<String>::new());
    let key = ("statefulsets".to_owned(), "i".to_owned());
    let (label, image) = ("/metadata/labels/app.kubernetes.io~1instance", "/spec/template/spec/containers/0/image");
    for path in [label, image, label] {
        let mut spoilt = server.get(&key).expect("it was made");
        *spoilt.pointer_mut(path).expect("it was applied") = "spoilt".into();
        let writes = server.writes(&key);
        server.put(&key, spoilt);
        server.until_written(&key, writes).await;
        time::sleep(LATER).await;
    }
    let expected = [
        "StatefulSet 'i' was changed at metadata.labels.app.kubernetes.io/instance",
        "StatefulSet 'i' was changed at spec.template.spec.containers[ingestor].image",
    ];
    assert_eq!(server.told("DriftReverted"), expected);
    server.remove(&key);
    time::sleep(LATER).await;
    assert_eq!(server.told("DriftReverted").last().map(String::as_str), Some("StatefulSet 'i' was deleted"));
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn places_that_are_changed_together_are_each_told_and_their_child_is_counted_once() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let (_watches, metrics) = counted(&server, &term).await;
    let key = ("deployments".to_owned(), "a".to_owned());
    let made = server.get(&key).expect("it was made");
    let counts = |number: usize| {
        let (text, line) = (metrics.text(), format!("drift_reverted_total{{kind=\"Alerter\"}} {number}\n"));
        assert!(text.contains(&line), "{text}");
    };
    let mut spoilt = made.clone();
    spoilt["spec"]["replicas"] = 5.into();
    spoilt["spec"]["template"]["spec"]["containers"][0]["image"] = "spoilt".into();
    server.put(&key, spoilt);
    time::sleep(LATER).await;
    let expected = [
        "Deployment 'a' was changed at spec.replicas",
        "Deployment 'a' was changed at spec.template.spec.containers[alerter].image",
    ];
    assert_eq!(server.told("DriftReverted"), expected);
    counts(1);
    // Of very many, the first ones.
    let (mut spoilt, mut places) = (made.clone(), 0);
    for texts in ["metadata/annotations", "metadata/labels", "spec/containers/0/resources/limits"] {
        let texts = spoilt.pointer_mut(&format!("/spec/template/{texts}")).and_then(Value::as_object_mut);
        for text in texts.expect("it was applied").values_mut() {
            *text = "spoilt".into();
            places += 1;
        }
    }
    assert!(places > 8, "{places}");
    server.put(&key, spoilt);
    time::sleep(LATER).await;
    assert_eq!(server.get(&key).expect("it is there")["spec"], made["spec"]);
    assert_eq!(server.told("DriftReverted").len(), expected.len() + 8, "{:#?}", server.told("DriftReverted"));
    counts(2);
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_did_not_make_was_not_deleted() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let key = |plural: &str, name: &str| (plural.to_owned(), name.to_owned());
    let budget = key("poddisruptionbudgets", "eu-agent");
    // One that made the same workload beside fewer objects.
    let agent = key("deployments", "eu-agent");
    let mut of_earlier = server.get(&agent).expect("it was made");
    of_earlier["metadata"]["annotations"][APPLIED] = "earlier".into();
    server.put(&agent, of_earlier);
    server.remove(&budget);
    time::sleep(LATER).await;
    assert!(server.get(&budget).is_some(), "it was not made");
    assert_eq!(server.told("DriftReverted"), Vec::<String>::new());
    server.remove(&budget);
    time::sleep(LATER).await;
    assert_eq!(server.told("DriftReverted"), ["PodDisruptionBudget 'eu-agent' was deleted"]);
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_admission_makes_of_a_child_is_no_drift_and_is_told() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let key = ("deployments".to_owned(), "a".to_owned());
    server.overrule(&key, "/spec/template/spec/containers/0/imagePullPolicy", "Never".into());
    let _watches = running(&server, &term).await;
    let path = "spec.template.spec.containers[alerter].imagePullPolicy";
    let told = [format!(
        "Deployment 'a' is not at {path} as it is applied: an admission webhook or policy changes it on its way"
    )];
    assert_eq!(server.told("Overruled"), told);
    // What somebody changes besides is drift all the same.
    let mut scaled = server.get(&key).expect("it was made");
    scaled["spec"]["replicas"] = 5.into();
    server.put(&key, scaled);
    time::sleep(LATER).await;
    assert_eq!(server.get(&key).expect("it is there")["spec"]["replicas"], 1);
    assert_eq!(server.told("DriftReverted"), ["Deployment 'a' was changed at spec.replicas"]);
    assert_eq!(server.told("Overruled"), told);
    term.cancel();
}

/// As with `kubectl replace --force`: what was made for the object before is collected a moment later.
#[tokio::test(start_paused = true)]
async fn what_goes_with_an_earlier_object_of_the_name_is_waited_for_and_no_conflict() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let service = ("services".to_owned(), "i".to_owned());
    let owner = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "Ingestor", "name": "i", "uid": "earlier"});
    let managers = json!([{"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": "v1"}]);
    let labels = json!({"app.kubernetes.io/managed-by": "adx-federation", "app.kubernetes.io/name": "ingestor", "app.kubernetes.io/instance": "i"});
    let metadata = json!({"name": "i", "namespace": NAMESPACE, "labels": labels, "ownerReferences": [owner], "managedFields": managers});
    server.put(&service, json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata}));
    let _watches = running(&server, &term).await;
    let ready = || server.condition(&("ingestors".to_owned(), "i".to_owned()), "Ready")["reason"].clone();
    assert_eq!(ready(), "WaitingForDeletion");
    server.remove(&service);
    time::sleep(LATER).await;
    assert_eq!(ready(), "Progressing");
    assert!(server.get(&service).is_some());
    assert_eq!(server.told("Conflict"), Vec::<String>::new());
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn how_many_an_autoscaler_lets_run_is_told_once() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let ingestor = || server.get(&("ingestors".to_owned(), "i".to_owned())).expect("it was put there");
    assert_eq!(ingestor()["status"]["replicas"], 2, "the fewest");
    let key = ("statefulsets".to_owned(), "i".to_owned());
    let mut scaled = server.get(&key).expect("it was made");
    scaled["spec"]["replicas"] = 4.into();
    server.put(&key, scaled);
    time::sleep(LATER).await;
    let told = ingestor();
    assert_eq!(told["status"]["replicas"], 4);
    time::sleep(LATER).await;
    assert_eq!(ingestor(), told, "it is not written again");
    term.cancel();
}

/// As an agent with the present document tells of a pass.
async fn tell_of(server: &Server, key: &(String, String), pass: Value) {
    let mut cluster = server.get(key).expect("it was put there");
    let object: ADXCluster = serde_json::from_value(cluster.clone()).expect("it is one");
    cluster["status"]["federation"] = json!({"lastPass": pass, "document": fingerprint(&effective(&object))});
    server.put(key, cluster);
    time::sleep(LATER).await;
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_could_not_do_is_told_by_an_event_once() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let key = ("adxclusters".to_owned(), "eu".to_owned());
    let refused = "create function federated_Requests in Logs: the hub refused it";
    for time in ["2100-01-01T00:00:00Z", "2100-01-01T00:01:00Z"] {
        tell_of(&server, &key, json!({"time": time, "outcome": "partial", "problems": [refused]})).await;
        assert_eq!(server.told("Partial"), [refused]);
    }
    let told = server.get(&key).expect("it is there")["status"]["conditions"].to_string();
    assert!(told.contains(refused), "{told}");
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_tells_in_other_words_has_an_event_of_its_own_and_the_same_words_are_counted() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let key = ("adxclusters".to_owned(), "eu".to_owned());
    let (one, other) =
        ("the hub refused the function federated_Requests", "the hub refused the function federated_Errors");
    let repaired =
        ["the function 'a' in 'Logs' was removed by somebody", "the function 'b' in 'Logs' was removed by somebody"];
    for (time, outcome, problems, repairs) in [
        // Passes of this process's time.
        ("2100-01-01T00:00:00Z", "partial", vec![one], vec![repaired[0]]),
        ("2100-01-01T00:01:00Z", "unchanged", vec![], vec![]),
        ("2100-01-01T00:02:00Z", "partial", vec![other], vec![repaired[1]]),
        ("2100-01-01T00:03:00Z", "unchanged", vec![], vec![]),
        ("2100-01-01T00:04:00Z", "partial", vec![one], vec![repaired[0]]),
    ] {
        let pass = json!({"time": time, "outcome": outcome, "problems": problems, "repairs": repairs});
        tell_of(&server, &key, pass).await;
    }
    assert_eq!(server.told("Partial"), [one, other]);
    assert_eq!(server.told("HubDriftRepaired"), repaired);
    term.cancel();
}

/// Whose pods are not ready is looked at all the time: only the agent is left, whose are.
fn leave_the_agent(server: &Server) {
    let key = |plural: &str, name: &str| (plural.to_owned(), name.to_owned());
    for (plural, name) in [("ingestors", "i"), ("collectors", "c"), ("alerters", "a")] {
        server.remove(&key(plural, name));
    }
    let agent = key("deployments", "eu-agent");
    let mut ready = server.get(&agent).expect("it was made");
    ready["status"] = json!({"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1});
    server.put(&agent, ready);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_tells_nothing_for_too_long_is_silent_until_its_next_word() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let cluster = ("adxclusters".to_owned(), "eu".to_owned());
    leave_the_agent(&server);
    let federated = || {
        let found = server.condition(&cluster, "Federated");
        (found["status"].clone(), found["reason"].clone())
    };
    let version = || server.get(&cluster).expect("it is there")["metadata"]["resourceVersion"].clone();
    let (silent, failed) = ((json!("Unknown"), json!("AgentSilent")), (json!("False"), json!("Failed")));
    let (long_ago, day) = ("2026-01-01T00:00:00Z", Duration::from_secs(24 * 60 * 60));
    let tells_of = async |time: &str| tell_of(&server, &cluster, json!({"time": time, "outcome": "failed"})).await;
    tells_of(long_ago).await;
    assert_eq!(federated(), silent);
    let before = version();
    time::sleep(day).await;
    assert_eq!(version(), before, "it is written to while nothing happens");
    // A pass that went as the last one did.
    tells_of("2100-01-01T00:00:00Z").await;
    assert_eq!(federated(), failed);
    // As if that time had come: nothing tells of it, and it is looked at by and by.
    tells_of(long_ago).await;
    assert_eq!(federated(), failed);
    time::sleep(day).await;
    assert_eq!(federated(), silent);
    let told = server.told("AgentSilent");
    assert!(matches!(&told[..], [note] if note.contains("no pass since 2026-01-01T00:00:00Z")), "{told:#?}");
    term.cancel();
}

/// What somebody makes of an object of ours.
fn edit(server: &Server, key: &(String, String), path: &str, value: Value) {
    let mut object = server.get(key).expect("it was put there");
    let generation = object["metadata"]["generation"].as_i64().expect("it has one");
    object["metadata"]["generation"] = (generation + 1).into();
    *object.pointer_mut(path).expect("it has that field") = value;
    server.put(key, object);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_says_so_and_harms_no_other() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let key = |plural: &str, name: &str| (plural.to_owned(), name.to_owned());
    let (cluster, ingestor) = (key("adxclusters", "eu"), key("ingestors", "i"));
    let status = |key: &(String, String)| server.get(key).expect("it is there")["status"].clone();
    let stalled = |key: &(String, String)| {
        let stalled = server.condition(key, "Stalled");
        (stalled["message"].clone(), stalled["observedGeneration"].clone())
    };
    let (set, agent) = (key("statefulsets", "i"), key("deployments", "eu-agent"));
    let made = || [&set, &agent].map(|child| server.get(child).expect("it was made"));
    let before = made();
    let (databases, autoscaling) = (
        server.get(&cluster).expect("it is there")["spec"]["databases"].clone(),
        server.get(&ingestor).expect("it is there")["spec"]["autoscaling"].clone(),
    );
    edit(&server, &cluster, "/spec/databases", json!("Logs"));
    edit(&server, &ingestor, "/spec/autoscaling", json!({"minReplicas": "two", "maxReplicas": 4}));
    time::sleep(LATER).await;
    for (key, why) in [
        (&cluster, "spec.databases = \"Logs\": must be a list"),
        (&ingestor, "spec.autoscaling.minReplicas = \"two\": must be a whole number, without quotes"),
    ] {
        assert_eq!(stalled(key), (json!(why), json!(2)));
    }
    // The Alerter goes on with the database of a cluster of which that cannot be read.
    let alerter = server.get(&key("deployments", "a")).expect("it was made");
    assert_eq!(alerter["spec"]["replicas"], 1);
    assert!(alerter.to_string().contains("Logs=https://eu.kusto.windows.net"), "{alerter:#}");
    // At rest nothing is written, and what somebody does to the children stays.
    let versions = || [&cluster, &ingestor].map(|key| server.get(key).expect("it is there")["metadata"].clone());
    let (rest, mut scaled) = (versions(), before[0].clone());
    scaled["spec"]["replicas"] = 3.into();
    server.put(&set, scaled);
    time::sleep(LATER).await;
    assert_eq!(versions(), rest);
    assert_eq!(made()[0]["spec"]["replicas"], 3);
    assert_eq!(made()[1], before[1]);
    assert_eq!(server.told("Invalid").len(), 2);
    // Mended, it is looked after as ever.
    edit(&server, &cluster, "/spec/databases", databases);
    edit(&server, &ingestor, "/spec/autoscaling", autoscaling);
    time::sleep(LATER).await;
    for key in [&cluster, &ingestor] {
        assert_eq!(server.condition(key, "Stalled"), Value::Null);
        assert_eq!(status(key)["observedGeneration"], 3);
    }
    assert_eq!(server.told("Invalid").len(), 2);
    server.remove(&set);
    time::sleep(LATER).await;
    assert_eq!(made()[0]["spec"]["template"], before[0]["spec"]["template"]);
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_and_is_suspended_says_that_it_is() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let key = |plural: &str, name: &str| (plural.to_owned(), name.to_owned());
    let objects = [
        (key("adxclusters", "eu"), "databases", json!("Logs")),
        (key("ingestors", "i"), "autoscaling", json!({"minReplicas": "two", "maxReplicas": 4})),
        // Of which nobody knows anything else.
        (key("collectors", "c"), "criteriaExpression", json!(7)),
    ];
    let edit = |suspend: bool| {
        for (key, field, wrong) in &objects {
            let mut object = server.get(key).expect("it was put there");
            object["spec"][field] = wrong.clone();
            object["spec"]["suspend"] = suspend.into();
            let generation = object["metadata"]["generation"].as_i64().expect("it has one");
            object["metadata"]["generation"] = (generation + 1).into();
            server.put(key, object);
        }
    };
    edit(true);
    time::sleep(LATER).await;
    for (key, ..) in &objects {
        let ready = server.condition(key, "Ready");
        assert_eq!(
            (&ready["status"], &ready["reason"], &ready["observedGeneration"]),
            (&json!("Unknown"), &json!("Suspended"), &json!(2)),
            "{key:?}"
        );
        assert_eq!(server.get(key).expect("it is there")["status"]["observedGeneration"], 2);
        assert_eq!(server.condition(key, "Stalled"), Value::Null);
    }
    assert_eq!(server.told("Invalid"), Vec::<String>::new());
    // It is told once somebody wants it to be looked after.
    edit(false);
    time::sleep(LATER).await;
    for (key, ..) in &objects {
        assert_eq!(server.condition(key, "Stalled")["observedGeneration"], 3, "{key:?}");
    }
    assert_eq!(server.told("Invalid").len(), 3);
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_cannot_read_its_own_pod_says_so_and_goes_on_once_it_can() {
    let (server, admin) = (Server::default(), Admin::new(Metrics::new()));
    let (client, told) = (server.client(), admin.clone());
    let image = tokio::spawn(async move { image_of(&client, &told, NAMESPACE, "operator-0").await });
    time::sleep(LATER).await;
    let (is_ready, why) = admin.readiness();
    let expected = "the operator's own pod monitoring/operator-0 cannot be read: ";
    assert!(!is_ready && why.starts_with(expected), "{why}");
    let containers = json!([{"name": "injected", "image": "x/sidecar:1"}, {"name": "operator", "image": "x/own:1"}]);
    let metadata = json!({"name": "operator-0", "namespace": NAMESPACE});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}});
    server.put(&("pods".to_owned(), "operator-0".to_owned()), pod);
    assert_eq!(image.await.expect("it ends"), Some("x/own:1".to_owned()));
}

/// The Alerter's Deployment has the name of an agent's.
#[tokio::test(start_paused = true)]
async fn two_objects_that_need_one_name_are_told_of_each_other() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let selector = json!({"matchLabels": {"app": "adx-mon"}});
    let alerter = json!({"adxClusterSelector": selector, "notificationEndpoint": "https://alerts.example.com"});
    put(&server, "Alerter", "eu-agent", &alerter);
    time::sleep(LATER).await;
    let expected = "the Deployment 'eu-agent' exists for ADXCluster 'eu': give one of the two another name";
    assert_eq!(server.told("Conflict"), [expected]);
    term.cancel();
}
