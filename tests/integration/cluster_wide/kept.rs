//! What is looked through for secrets at a suite's end, beside what programs of ours print: each look at an object while a story waits for it; and every Event and every
//! status of our kinds, also those that no story looks at. Shown with fake tokens, for a witness of its own, and therefore in a process of its own.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tests::{
    cluster::{ControlPlane, PATIENCE, TestNamespace},
    witness,
};
use tokio::{sync::Notify, time};

use crate::{DEFINITIONS, IN_A_PROCESS_OF_ITS_OWN, alone, ended::mark, running};

const STORY: &str = "kept::fake_tokens_are_told_for_a_moment_by_statuses_and_by_events";

/// An object tells it until a story has seen that.
const OF_A_MOMENT: &str = "a-fake-token-of-a-moment";
/// And then this.
const OF_THE_END: &str = "a-fake-token-that-is-waited-for";
/// A status tells it until another one is written, at once, and no story looks at either.
const OF_A_STATUS: &str = "a-fake-token-of-a-status";
/// The last status of an object that is deleted then.
const OF_THE_LAST_STATUS: &str = "a-fake-token-of-the-last-status";
/// An Event tells it in the middle of a story, which does not ask for Events.
const OF_AN_EVENT: &str = "a-fake-token-of-an-event";
/// An Event tells it when the story has nothing more to do.
const OF_THE_LAST_EVENT: &str = "a-fake-token-of-the-last-event";

const COLLECTOR: &str = "
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata: {name: told}
spec: {}
";

/// Has an Event tell this.
async fn tell(test: &TestNamespace, name: &str, note: &str) {
    let about = format!("{{apiVersion: v1, kind: ConfigMap, namespace: {}, name: told}}", test.name);
    test.apply(&format!(
        "apiVersion: v1\nkind: Event\nmetadata: {{name: {name}}}\ninvolvedObject: {about}\ntype: Normal\nreason: Told\nmessage: {note}\n"
    ))
    .await;
}

#[tokio::test]
async fn fake_tokens_are_told_for_a_moment_by_statuses_and_by_events() {
    if std::env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_none() {
        // The other test runs it.
        return;
    }
    let folder = witness::folder().expect("the other test names it");
    let test = TestNamespace::new("kept").await;
    let seen = Notify::new();
    let object =
        |told: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: told}}\ndata: {{told: {told}}}\n");
    let changes = async {
        test.apply(&object(OF_A_MOMENT)).await;
        seen.notified().await;
        test.apply(&object(OF_THE_END)).await;
    };
    let fits = |object: &Value| {
        let told = &object["data"]["told"];
        if *told == OF_A_MOMENT {
            seen.notify_one();
        }
        *told == OF_THE_END
    };
    tokio::join!(changes, test.until("v1 ConfigMap", "told", fits));
    tell(&test, "one", OF_AN_EVENT).await;
    let collectors = test.api("Collector");
    test.apply(COLLECTOR).await;
    for told in [OF_A_STATUS, OF_THE_LAST_STATUS] {
        let condition = json!({
            "type": "Told", "status": "True", "reason": "Told", "message": told, "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let status = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        collectors.patch_status("told", &PatchParams::default(), &status).await.expect("all rights are there");
    }
    collectors.delete("told", &DeleteParams::default()).await.expect("all rights are there");
    let started = Instant::now();
    for told in [OF_AN_EVENT, OF_A_STATUS, OF_THE_LAST_STATUS] {
        while !witness::is_found(&folder, told) {
            assert!(started.elapsed() < PATIENCE, "{told} is kept only when somebody asks for it");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    tell(&test, "last", OF_THE_LAST_EVENT).await;
    drop(test);
    assert!(witness::is_found(&folder, OF_THE_LAST_EVENT), "a story has ended, and its last Event is not kept");
}

#[tokio::test]
async fn a_secret_is_found_in_what_an_object_told_for_a_moment_and_in_events_and_statuses_that_no_story_asks_for() {
    if std::env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() || ControlPlane::is_missing() {
        return;
    }
    // The other process applies the definitions.
    let _alone = DEFINITIONS.lock().await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let kept = folder.path().join("witness");
    let mut story = alone(STORY, &mark(), &running(folder.path()).await);
    let output = story.env(witness::FOLDER, &kept).output().expect("the story can be started");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    for token in [OF_A_MOMENT, OF_THE_END, OF_A_STATUS, OF_THE_LAST_STATUS, OF_AN_EVENT, OF_THE_LAST_EVENT] {
        assert!(witness::is_found(&kept, token), "{token}");
    }
    assert!(!witness::is_found(&kept, "a-fake-token-that-nobody-tells"));
}
