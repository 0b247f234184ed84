//! Each write of an object's life meets a fault of its own, with all others as they should be. Which writes there are, an undisturbed life tells: none can be forgotten.
//! The clock is stopped, so that a life costs a sixth of a second, and not the time for which the operator waits before it tries again; and each of the five objects has
//! a fault in each life.
//!
//! What this server has not (connections, the client's own retries, leases, pods, garbage) is in `tests/integration/operator/faults.rs`, where all writes meet their
//! faults in one life.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    LATER, put, running,
    server::{Fault, Key, NAMESPACE, Server, Write},
};

/// Longer than the first wait after a failure.
const SETTLED: Duration = Duration::from_secs(3);

fn key(plural: &str, name: &str) -> Key {
    (plural.to_owned(), name.to_owned())
}

/// A partition whose data no component is to find: it has not their label.
fn partition() -> Value {
    let hub =
        json!({"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "Fleet", "heartbeatTable": "Beats"});
    json!({
        "apiVersion": "adx-mon.azure.com/v1",
        "kind": "ADXCluster",
        "metadata": {"name": "part", "namespace": NAMESPACE, "generation": 1},
        "spec": {"clusterName": "part", "endpoint": "https://part.kusto.windows.net", "federation": {"federatedClusters": [hub]}},
    })
}

/// An edit by a person; `None` takes a field away.
fn edit<const COUNT: usize>(server: &Server, key: &Key, fields: [(&str, Option<Value>); COUNT]) {
    let mut object = server.get(key).expect("it was put there");
    let spec = object["spec"].as_object_mut().expect("it has a spec");
    for (field, value) in fields {
        match value {
            Some(value) => drop(spec.insert(field.to_owned(), value)),
            None => spec.retain(|name, _| name != field),
        }
    }
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    object["metadata"]["generation"] = (generation + 1).into();
    server.put(key, object);
}

/// A child of each object goes.
fn disturb(server: &Server) {
    for (plural, name) in [
        ("services", "i"),
        ("configmaps", "c-config"),
        ("serviceaccounts", "a-alerter"),
        ("poddisruptionbudgets", "eu-agent"),
        ("rolebindings", "part-agent"),
    ] {
        assert!(server.get(&key(plural, name)).is_some(), "{plural} {name} was not made");
        server.remove(&key(plural, name));
    }
}

/// Autoscaling goes, the partition becomes a hub, and everything else has other contents.
fn change(server: &Server) {
    let ingestor = [("image", Some("x/i:2".into())), ("autoscaling", None), ("replicas", Some(3.into()))];
    edit(server, &key("ingestors", "i"), ingestor);
    edit(server, &key("collectors", "c"), [("ingestorEndpoint", Some("https://other.example.com".into()))]);
    edit(server, &key("alerters", "a"), [("notificationEndpoint", Some("https://other.example.com".into()))]);
    let mut eu = server.get(&key("adxclusters", "eu")).expect("it was put there");
    eu["spec"]["federation"]["partitioning"] = json!({"geo": "EU"});
    edit(server, &key("adxclusters", "eu"), [("federation", Some(eu["spec"]["federation"].take()))]);
    // What the partition's agent has told by then.
    let mut part = server.get(&key("adxclusters", "part")).expect("it was put there");
    part["status"]["federation"] =
        json!({"hubs": [{"endpoint": "https://hub.kusto.windows.net", "outcome": "accepted"}]});
    server.put(&key("adxclusters", "part"), part);
    let hub = json!({"heartbeatDatabase": "Fleet", "heartbeatTable": "Beats"});
    let fields = [("role", Some("Federated".into())), ("federation", Some(hub))];
    edit(server, &key("adxclusters", "part"), fields);
}

/// The hub leaves its federation.
fn leave(server: &Server) {
    edit(server, &key("adxclusters", "part"), [("role", None), ("federation", None)]);
}

/// What has children in the whole cluster goes.
fn delete(server: &Server) {
    for (plural, name) in [("ingestors", "i"), ("collectors", "c"), ("alerters", "a")] {
        server.remove(&key(plural, name));
    }
}

/// What happens in a life, and by whose hand.
type Step = (&'static str, fn(&Server));

/// What there is after each step of a life, in which nothing is written once all is as it should be.
async fn live(server: &Server) -> Vec<(&'static str, BTreeMap<Key, Value>)> {
    let term = CancellationToken::new();
    server.put(&key("adxclusters", "part"), partition());
    let _watches = running(server, &term).await;
    let mut states = vec![("made", server.state())];
    let steps: [Step; 4] = [("disturbed", disturb), ("changed", change), ("left", leave), ("deleted", delete)];
    for (step, act) in steps {
        act(server);
        time::sleep(SETTLED).await;
        let asked = server.asked().len();
        time::sleep(LATER).await;
        let more = server.asked().split_off(asked);
        assert!(more.is_empty(), "{step}: it does not rest: {more:#?}");
        states.push((step, server.state()));
    }
    term.cancel();
    states
}

/// Lives of which the first has the faults at each object's first write, the second at its second, and so on; of several faults they take turns.
async fn each_write_meets(faults: &[Fault]) {
    let undisturbed = Server::default();
    let expected = live(&undisturbed).await;
    let mut writes = BTreeMap::<String, Vec<Write>>::new();
    for write in undisturbed.asked() {
        writes.entry(write.owner.clone()).or_default().push(write);
    }
    assert_eq!(writes.keys().collect::<Vec<_>>(), ["a", "c", "eu", "i", "part"]);
    let mut met = BTreeSet::new();
    for nth in 0..writes.values().map(Vec::len).max().unwrap_or_default() {
        let turns = writes.values().zip(faults.iter().cycle().skip(nth));
        let spoilt: Vec<(Write, Fault)> =
            turns.filter_map(|(writes, fault)| Some((writes.get(nth)?.clone(), *fault))).collect();
        let server = Server::default();
        server.spoil(&spoilt);
        for ((step, state), (_, expected)) in live(&server).await.iter().zip(&expected) {
            let keys: BTreeSet<&Key> = state.keys().chain(expected.keys()).collect();
            for key in keys {
                assert_eq!(state.get(key), expected.get(key), "{step}: {key:?} after {spoilt:#?}");
            }
        }
        let asked = server.asked();
        for (write, _) in spoilt {
            let is_met = asked.contains(&write);
            // How often a status is told on the way depends on what other objects have come to by then; how often a finalizer is taken, on whether a child's end is
            // seen before the object's own.
            let once_more = write.before > 0 && write.kind.contains("/status")
                || write.before > 1 && write.kind.ends_with("-finalizer");
            assert!(is_met || once_more, "{write:?} in {asked:#?}");
            met.extend(is_met.then_some(write.kind));
        }
    }
    for kind in KINDS {
        assert!(met.contains(kind), "{kind} is not among {met:#?}");
    }
}

/// What a life is known to hold. Whether every single write is met does not depend on this list; that there are enough of them does.
const KINDS: [&str; 31] = [
    "DELETE clusterrolebindings",
    "DELETE clusterroles",
    "DELETE configmaps",
    "DELETE deployments",
    "DELETE horizontalpodautoscalers",
    "DELETE poddisruptionbudgets",
    "DELETE rolebindings",
    "DELETE roles",
    "DELETE serviceaccounts",
    "DELETE services",
    "PATCH adxclusters/status",
    "PATCH adxclusters/status by adx-federation-agent",
    "PATCH alerters by adx-federation-operator-finalizer",
    "PATCH alerters/status",
    "PATCH clusterrolebindings",
    "PATCH clusterroles",
    "PATCH collectors by adx-federation-operator-finalizer",
    "PATCH collectors/status",
    "PATCH configmaps",
    "PATCH daemonsets",
    "PATCH deployments",
    "PATCH horizontalpodautoscalers",
    "PATCH ingestors by adx-federation-operator-finalizer",
    "PATCH ingestors/status",
    "PATCH poddisruptionbudgets",
    "PATCH rolebindings",
    "PATCH roles",
    "PATCH serviceaccounts",
    "PATCH services",
    "PATCH statefulsets",
    "POST events",
];

#[tokio::test(start_paused = true)]
async fn a_conflict_at_any_write_leaves_no_trace() {
    each_write_meets(&[Fault::Refused(409)]).await;
}

/// For the operator they are one thing: a failure that may pass. So they take turns, and the objects' writes of one kind meet each of them.
#[tokio::test(start_paused = true)]
async fn a_write_that_is_not_done_is_done_later() {
    each_write_meets(&[Fault::Refused(429), Fault::Refused(500), Fault::Unheard]).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_not_done_twice_to_another_end() {
    each_write_meets(&[Fault::Unanswered]).await;
}

/// The first `times` writes of a child, which fail.
fn refused(plural: &str, name: &str, owner: &str, from: usize, times: usize) -> Vec<(Write, Fault)> {
    let text = str::to_owned;
    let write =
        |before| Write { owner: text(owner), kind: format!("PATCH {plural}"), name: text(name), before: from + before };
    (0..times).map(|before| (write(before), Fault::Refused(500))).collect()
}

/// Its eight children are each refused once, so that it has failed eight times in a row when it is the last one's turn: that one waits as after its own failures.
#[tokio::test(start_paused = true)]
async fn a_failure_further_on_is_waited_for_as_after_the_first() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let mut spoilt = Vec::new();
    for (plural, name) in [
        ("serviceaccounts", "i-ingestor"),
        ("services", "i"),
        ("roles", "i-ingestor"),
        ("rolebindings", "i-ingestor"),
        ("clusterroles", "adx-mon:monitoring:ingestor:i"),
        ("clusterrolebindings", "adx-mon:monitoring:ingestor:i"),
        ("horizontalpodautoscalers", "i"),
    ] {
        spoilt.extend(refused(plural, name, "i", 0, 1));
    }
    spoilt.extend(refused("statefulsets", "i", "i", 0, 3));
    server.spoil(&spoilt);
    let _watches = running(&server, &term).await;
    let asked = server.asked();
    assert!(spoilt.iter().all(|(write, _)| asked.contains(write)), "{asked:#?}");
    assert!(server.get(&key("statefulsets", "i")).is_some(), "it waits still");
    term.cancel();
}

/// Nobody runs pods here: the objects are waited for all the time.
#[tokio::test(start_paused = true)]
async fn failures_that_are_over_do_not_count_while_pods_are_waited_for() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let service = key("services", "i");
    for round in 0..6 {
        let write = |write: &&Write| write.kind == "PATCH services" && write.owner == "i";
        let before = server.asked().iter().filter(write).count();
        server.spoil(&refused("services", "i", "i", before, 1));
        server.remove(&service);
        time::sleep(SETTLED).await;
        assert!(server.get(&service).is_some(), "round {round}: it waits still");
    }
    term.cancel();
}

/// What a failure further on would hide: the next try finds it done.
#[tokio::test(start_paused = true)]
async fn what_was_reverted_before_a_failure_is_told() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let asked = server.asked();
    let before = |kind: &str| asked.iter().filter(|write| write.kind == kind && write.owner == "i").count();
    let (sets, statuses) = (before("PATCH statefulsets"), before("PATCH ingestors/status"));
    let mut spoilt = refused("statefulsets", "i", "i", sets, 1);
    // Nor can it be told in the status.
    spoilt.extend(refused("ingestors/status", "i", "i", statuses, 1));
    server.spoil(&spoilt);
    let mut service = server.get(&key("services", "i")).expect("it was made");
    service["spec"]["type"] = "ExternalName".into();
    server.put(&key("services", "i"), service);
    server.remove(&key("statefulsets", "i"));
    time::sleep(LATER).await;
    let asked = server.asked();
    assert!(spoilt.iter().all(|(write, _)| asked.contains(write)), "{asked:#?}");
    assert_eq!(
        server.told("DriftReverted"),
        ["Service 'i' was changed at spec.type", "StatefulSet 'i' was deleted"],
        "in the order in which it was done"
    );
    term.cancel();
}

/// An operator that died has left room in it, which is given up as somebody writes.
#[tokio::test(start_paused = true)]
async fn what_somebody_changes_while_room_is_given_up_comes_back() {
    const MANAGER: &str = "adx-federation-operator-reclaiming";
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let service = key("services", "i");
    let made = server.get(&service).expect("it was made");
    let give_up =
        Write { owner: "i".to_owned(), kind: format!("PATCH services by {MANAGER}"), name: "i".to_owned(), before: 0 };
    server.spoil(&[(give_up.clone(), Fault::Overtaken)]);
    let mut left = made.clone();
    let managers = left["metadata"]["managedFields"].as_array_mut().expect("it was applied");
    managers.push(json!({"manager": MANAGER, "operation": "Update", "apiVersion": "v1"}));
    server.put(&service, left);
    time::sleep(LATER).await;
    assert!(server.asked().contains(&give_up), "no room was given up");
    let now = server.get(&service).expect("it is there");
    assert_eq!((&now["spec"], &now["metadata"]["managedFields"]), (&made["spec"], &made["metadata"]["managedFields"]));
    term.cancel();
}

/// The next try finds it as new as this one did.
#[tokio::test(start_paused = true)]
async fn what_the_status_does_not_say_for_a_conflict_is_told_once_when_it_does() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let write = |before| Write {
        owner: "eu-agent".to_owned(),
        kind: "PATCH alerters/status".to_owned(),
        name: "eu-agent".to_owned(),
        before,
    };
    server.spoil(&[(write(0), Fault::Refused(409))]);
    // Its Deployment has the name of an agent's.
    let selector = json!({"matchLabels": {"app": "adx-mon"}});
    let alerter = json!({"adxClusterSelector": selector, "notificationEndpoint": "https://alerts.example.com"});
    put(&server, "Alerter", "eu-agent", &alerter);
    time::sleep(LATER).await;
    assert_eq!(server.condition(&key("alerters", "eu-agent"), "Ready")["reason"], "Conflict");
    // An Event that is counted once more is another write.
    let asked = server.asked();
    let told = asked.iter().filter(|asked| **asked == write(0) || **asked == write(1) || asked.name == "Conflict");
    let told: Vec<&str> = told.map(|asked| asked.kind.as_str()).collect();
    assert_eq!(told, ["PATCH alerters/status", "PATCH alerters/status", "POST events"], "{asked:#?}");
    term.cancel();
}

/// Nor is what admission made of a write told by the next try, which leaves it as it is.
#[tokio::test(start_paused = true)]
async fn what_was_overruled_is_told_where_the_status_cannot_be_written() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    server.overrule(&key("deployments", "a"), "/spec/replicas", 3.into());
    let writes = |kind: &str| server.asked().iter().filter(|write| write.kind == kind && write.owner == "a").count();
    let spoilt = refused("alerters/status", "a", "a", writes("PATCH alerters/status"), 1);
    server.spoil(&spoilt);
    let before = writes("PATCH deployments");
    // The status has to say that this was seen.
    edit(&server, &key("alerters", "a"), [("notificationEndpoint", Some("https://other.example.com".into()))]);
    time::sleep(LATER).await;
    let asked = server.asked();
    assert!(spoilt.iter().all(|(write, _)| asked.contains(write)), "{asked:#?}");
    assert_eq!(writes("PATCH deployments"), before + 1, "{asked:#?}");
    let note =
        "Deployment 'a' is not at spec.replicas as it is applied: an admission webhook or policy changes it on its way";
    assert_eq!(server.told("Overruled"), [note]);
    assert_eq!(asked.iter().filter(|write| write.name == "Overruled").count(), 1, "nor is it counted once more");
    term.cancel();
}
