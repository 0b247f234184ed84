//! What an earlier version of the operator called otherwise, or made besides.

use serde_json::{Value, json};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    LATER, running,
    server::{Key, NAMESPACE, Server},
};
use crate::kubernetes::child::FIELD_MANAGER;

/// One more like `model`, under another name.
fn put_another(server: &Server, (plural, model): (&str, &str), name: &str, manager: &str) -> Key {
    let mut object = server.get(&(plural.to_owned(), model.to_owned())).expect("it was made");
    let metadata = object["metadata"].as_object_mut().expect("it has metadata");
    metadata.remove("uid");
    metadata.insert("name".to_owned(), name.into());
    let operation = if manager == FIELD_MANAGER { "Apply" } else { "Update" };
    metadata
        .insert("managedFields".to_owned(), json!([{"manager": manager, "operation": operation, "apiVersion": "v1"}]));
    let key = (plural.to_owned(), name.to_owned());
    server.put(&key, object);
    key
}

const ROLE: &str = "adx-mon:monitoring:alerter:a";

#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_made_under_another_name_goes_and_nothing_else() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let of_earlier = [
        ("configmaps", "c-config"),
        ("services", "i"),
        ("deployments", "a"),
        ("daemonsets", "c"),
        ("clusterroles", ROLE),
        ("clusterrolebindings", ROLE),
    ];
    let before = server.children();
    let gone = of_earlier.map(|model| put_another(&server, model, "earlier", FIELD_MANAGER));
    // A copy by a person has all that ours has; and what is in a StatefulSet's pods may be all that there is of it.
    let stay = [
        put_another(&server, ("configmaps", "c-config"), "copy", "kubectl-client-side-apply"),
        put_another(&server, ("clusterroles", ROLE), "copy", "kubectl-client-side-apply"),
        put_another(&server, ("statefulsets", "i"), "earlier", FIELD_MANAGER),
    ];
    time::sleep(LATER).await;
    for key in &gone {
        assert_eq!(server.get(key), None, "{key:?}");
    }
    for key in &stay {
        assert!(server.get(key).is_some(), "{key:?}");
        server.remove(key);
    }
    time::sleep(LATER).await;
    assert_eq!(server.children(), before);
    assert_eq!(server.told("DriftReverted"), Vec::<String>::new());
    term.cancel();
}

/// Nothing removes it but a person, who is told.
#[tokio::test(start_paused = true)]
async fn a_stateful_set_under_another_name_is_told_of_until_somebody_deletes_it() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let key = |plural: &str, name: &str| (plural.to_owned(), name.to_owned());
    let mut set = server.get(&key("statefulsets", "i")).expect("it was made");
    set["status"] = json!({"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2});
    server.put(&key("statefulsets", "i"), set);
    let told = || {
        let ingestor = server.get(&key("ingestors", "i")).expect("it was put there");
        let ready = server.condition(&key("ingestors", "i"), "WorkloadReady");
        (ready["message"].clone(), ingestor["metadata"]["resourceVersion"].clone())
    };
    put_another(&server, ("statefulsets", "i"), "copy", "kubectl-client-side-apply");
    time::sleep(LATER).await;
    assert_eq!(told().0, "2 of 2 pod(s) ready");
    let earlier = put_another(&server, ("statefulsets", "i"), "earlier", FIELD_MANAGER);
    time::sleep(LATER).await;
    let note = "StatefulSet 'earlier' of an earlier version is left, and goes only when somebody deletes it";
    let before = told();
    assert_eq!(before.0, format!("2 of 2 pod(s) ready; {note}"));
    // Another look finds it said.
    server.remove(&key("services", "i"));
    time::sleep(LATER).await;
    assert!(server.get(&key("services", "i")).is_some(), "nobody has looked");
    assert_eq!((told(), server.told("LeftBehind")), (before, vec![note.to_owned()]));
    server.remove(&earlier);
    time::sleep(LATER).await;
    assert_eq!(told().0, "2 of 2 pod(s) ready");
    term.cancel();
}

/// One of another owner is not, whatever its labels say for a moment.
#[tokio::test(start_paused = true)]
async fn what_is_labelled_as_anothers_goes_back_to_its_owner() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let key = ("serviceaccounts".to_owned(), "i-ingestor".to_owned());
    let mut labelled = server.get(&key).expect("it was made");
    let uid = labelled["metadata"]["uid"].clone();
    let labels = &mut labelled["metadata"]["labels"];
    labels["app.kubernetes.io/name"] = "collector".into();
    labels["app.kubernetes.io/instance"] = "c".into();
    server.put(&key, labelled);
    time::sleep(LATER).await;
    let now = server.get(&key).expect("it is there");
    assert_eq!(
        (&now["metadata"]["uid"], &now["metadata"]["labels"]["app.kubernetes.io/instance"]),
        (&uid, &json!("i"))
    );
    term.cancel();
}

/// While nobody looks after it, as its object is suspended; then that goes.
#[tokio::test(start_paused = true)]
async fn cluster_wide_roles_go_with_their_owner_under_whatever_name() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let alerter = ("alerters".to_owned(), "a".to_owned());
    let mut suspended = server.get(&alerter).expect("it was put there");
    suspended["spec"]["suspend"] = true.into();
    suspended["metadata"]["generation"] = 2.into();
    server.put(&alerter, suspended);
    time::sleep(LATER).await;
    let gone = ["clusterroles", "clusterrolebindings"]
        .map(|plural| put_another(&server, (plural, ROLE), "earlier", FIELD_MANAGER));
    // Of an object of the same name in another namespace.
    let others = put_another(&server, ("clusterroles", ROLE), "elsewhere", FIELD_MANAGER);
    let mut elsewhere = server.get(&others).expect("it was put there");
    assert_eq!(elsewhere["metadata"]["labels"]["adx-mon.azure.com/namespace"], NAMESPACE);
    elsewhere["metadata"]["labels"]["adx-mon.azure.com/namespace"] = "elsewhere".into();
    server.put(&others, elsewhere);
    time::sleep(LATER).await;
    assert!(gone.iter().all(|key| server.get(key).is_some()), "a suspended object is left alone");
    server.remove(&alerter);
    time::sleep(LATER).await;
    assert_eq!(server.get(&alerter), None::<Value>);
    for key in &gone {
        assert_eq!(server.get(key), None, "{key:?}");
    }
    assert!(server.get(&others).is_some());
    term.cancel();
}
