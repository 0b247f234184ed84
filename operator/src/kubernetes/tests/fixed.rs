//! Children that are as they should be but for a field that nobody can change: of an earlier version of the operator, or adx-mon's own.

use serde_json::{Value, json};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    LATER, running,
    server::{Fault, Key, Server, Write},
};
use crate::kubernetes::child::APPLIED;

/// Changes what nobody can change, as if it had been made so.
fn make_otherwise(server: &Server, key: &Key, path: &str, value: Value) -> Value {
    let mut object = server.get(key).expect("it was made");
    *object.pointer_mut(path).expect("it has that field") = value;
    object["metadata"]["annotations"][APPLIED] = "earlier".into();
    server.put(key, object.clone());
    object
}

fn selects_otherwise() -> Value {
    json!({"matchLabels": {"app": "earlier"}})
}

/// Reason and message of an object's summary.
fn ready(server: &Server, plural: &str, name: &str) -> (String, String) {
    let ready = server.condition(&(plural.to_owned(), name.to_owned()), "Ready");
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

#[tokio::test(start_paused = true)]
async fn with_what_nothing_is_lost_is_made_anew() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let binding = "adx-mon:monitoring:alerter:a";
    let mut told = Vec::new();
    for (plural, name, path, value, note) in [
        (
            "deployments",
            "a",
            "/spec/selector",
            selects_otherwise(),
            "Deployment 'a' was deleted and made anew: its spec.selector",
        ),
        (
            "daemonsets",
            "c",
            "/spec/selector",
            selects_otherwise(),
            "DaemonSet 'c' was deleted and made anew: its spec.selector",
        ),
        (
            "rolebindings",
            "i-ingestor",
            "/roleRef/name",
            json!("earlier"),
            "RoleBinding 'i-ingestor' was deleted and made anew: its roleRef",
        ),
        (
            "clusterrolebindings",
            binding,
            "/roleRef/name",
            json!("earlier"),
            "ClusterRoleBinding 'adx-mon:monitoring:alerter:a' was deleted and made anew: its roleRef",
        ),
        (
            "configmaps",
            "c-config",
            "/data",
            json!({"config.toml": "earlier"}),
            "ConfigMap 'c-config' was deleted and made anew: its data",
        ),
    ] {
        let key = (plural.to_owned(), name.to_owned());
        let before = server.get(&key).expect("it was made");
        let mut of_earlier = make_otherwise(&server, &key, path, value);
        if plural == "configmaps" {
            of_earlier["immutable"] = true.into();
            server.put(&key, of_earlier);
        }
        time::sleep(LATER).await;
        let now = server.get(&key).expect("it is there again");
        assert_ne!(now["metadata"]["uid"], before["metadata"]["uid"], "{key:?}: it is another");
        for part in
            ["/metadata/labels", "/metadata/ownerReferences", "/spec", "/roleRef", "/subjects", "/data", "/immutable"]
        {
            assert_eq!(now.pointer(part), before.pointer(part), "{key:?}: {part}");
        }
        told.push(format!("{note} has to be another and cannot be changed in place"));
    }
    assert_eq!(server.told("Replaced"), told);
    assert_eq!(server.told("DriftReverted"), Vec::<String>::new());
    assert_eq!(server.told("Immutable"), Vec::<String>::new());
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_keeps_something_is_a_persons_to_delete() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let set = ("statefulsets".to_owned(), "i".to_owned());
    for (path, field, value) in [
        ("/spec/selector", "spec.selector", selects_otherwise()),
        ("/spec/serviceName", "spec.serviceName", json!("earlier")),
    ] {
        let before = server.get(&set).expect("it was made");
        let of_earlier = make_otherwise(&server, &set, path, value);
        time::sleep(LATER).await;
        let now = server.get(&set).expect("it stays");
        assert_eq!((&now["metadata"]["uid"], &now["spec"]), (&of_earlier["metadata"]["uid"], &of_earlier["spec"]));
        let why = format!(
            "{field} of the StatefulSet 'i' has to be another and cannot be changed in place: delete that object, and it is made anew"
        );
        assert_eq!(ready(&server, "ingestors", "i"), ("Immutable".to_owned(), why.clone()));
        assert_eq!(server.told("Immutable").last(), Some(&why));
        // The way out.
        server.remove(&set);
        time::sleep(LATER).await;
        assert_eq!(server.get(&set).expect("it is there again")["spec"], before["spec"]);
        assert_eq!(ready(&server, "ingestors", "i").0, "Progressing");
    }
    assert_eq!(server.told("Immutable").len(), 2, "each of them once");
    term.cancel();
}

/// As adx-mon's operator makes one for the same object.
#[tokio::test(start_paused = true)]
async fn what_we_have_never_applied_is_a_persons_to_delete() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let deployment = ("deployments".to_owned(), "a".to_owned());
    let mut of_others = server.get(&deployment).expect("it was made");
    of_others["spec"]["selector"] = selects_otherwise();
    of_others["metadata"]["managedFields"] =
        json!([{"manager": "manager", "operation": "Update", "apiVersion": "apps/v1"}]);
    server.put(&deployment, of_others.clone());
    time::sleep(LATER).await;
    assert_eq!(server.get(&deployment).expect("it stays")["spec"], of_others["spec"]);
    let (reason, message) = ready(&server, "alerters", "a");
    assert!(reason == "Immutable" && message.starts_with("spec.selector of the Deployment 'a'"), "{reason}: {message}");
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_before_its_successor_is_allowed() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let text = str::to_owned;
    // A policy that is younger than what runs. It refuses the trial, as often as that is made.
    let refused = (0..50).map(|before| {
        let write = Write { owner: text("c"), kind: text("PATCH daemonsets"), name: text("c-new"), before };
        (write, Fault::Refused(403))
    });
    server.spoil(&refused.collect::<Vec<_>>());
    let key = (text("daemonsets"), text("c"));
    let earlier = make_otherwise(&server, &key, "/spec/selector", selects_otherwise());
    time::sleep(LATER).await;
    let there = server.get(&key).expect("it is still there");
    assert_eq!(there["metadata"]["uid"], earlier["metadata"]["uid"]);
    assert_eq!(ready(&server, "collectors", "c").0, "ApplyFailed");
    server.spoil(&[]);
    time::sleep(LATER * 6).await;
    let there = server.get(&key).expect("it was made anew");
    assert_ne!(there["metadata"]["uid"], earlier["metadata"]["uid"]);
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_can_be_made_anew_only_later_was_not_deleted_by_anybody() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let text = str::to_owned;
    let key = (text("rolebindings"), text("i-ingestor"));
    let write = |before| Write { owner: text("i"), kind: text("PATCH rolebindings"), name: key.1.clone(), before };
    let before = (0..).find(|before| !server.asked().contains(&write(*before))).expect("they end");
    // The next one is invalid; then it is deleted, and this one is to make it.
    let spoilt = write(before + 1);
    server.spoil(&[(spoilt.clone(), Fault::Refused(500))]);
    let earlier = make_otherwise(&server, &key, "/roleRef/name", json!("earlier"));
    time::sleep(LATER).await;
    assert!(server.asked().contains(&spoilt), "{:#?}", server.asked());
    let now = server.get(&key).expect("it is there again");
    assert_ne!(now["roleRef"], earlier["roleRef"]);
    let note = "RoleBinding 'i-ingestor' was deleted and made anew: its roleRef has to be another and cannot be changed in place";
    assert_eq!(server.told("Replaced"), [note]);
    assert_eq!(server.told("DriftReverted"), Vec::<String>::new());
    // Whoever deletes it after that has done so.
    server.remove(&key);
    time::sleep(LATER).await;
    assert_eq!(server.told("DriftReverted"), ["RoleBinding 'i-ingestor' was deleted"]);
    term.cancel();
}
