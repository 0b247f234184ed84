//! A hub's agent that runs in the test program, for stories that put its clock forward. What it logs and tells is kept as that of our programs is, and looked through for
//! secrets at the suite's end: shown with fake tokens, for a witness of its own, and therefore in a process of its own. I/O: as the agent's, one process.

use std::{
    env,
    process::{Command, Stdio},
};

use axum::http::StatusCode;
use serde_json::json;
use shared::{
    document::{HubConfig, hub_config, load_document},
    runtime::{Exit, World},
};
use tests::witness;

use crate::{identity::hub_document, secrets::server};

/// Runs to its end, and keeps what it logs and what its admin port would answer then.
pub(crate) async fn run_here(config: HubConfig, world: &World) -> Exit {
    witness::keep_logs();
    let exit = Box::pin(agent_hub::run(config, world.clone())).await;
    let (_, reason) = world.admin.readiness();
    for told in [reason, world.admin.status().to_string(), world.metrics.text()] {
        witness::keep(&format!("{told}\n"));
    }
    exit
}

const STORY: &str = "in_process::an_agent_in_a_test_program_is_told_a_fake_token";
const IN_A_PROCESS_OF_ITS_OWN: &str = "ADX_FEDERATION_STORY_ALONE";

/// In the words of the hub's server, which an agent repeats.
const FAKE: &str = "a-fake-token-that-a-server-tells";

#[tokio::test]
async fn an_agent_in_a_test_program_is_told_a_fake_token() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_none() {
        // The other test runs it.
        return;
    }
    let error = json!({"code": "BadRequest", "message": FAKE, "@message": FAKE, "@permanent": true});
    let hub = server(StatusCode::BAD_REQUEST, json!({"error": error}).to_string()).await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let document = load_document(&hub_document(folder.path(), &hub)).expect("it was just written");
    let config = hub_config(&document.cluster).expect("it is a hub's");
    let world = World { once: true, ..World::new("agent-hub") };
    assert_eq!(run_here(config, &world).await, Exit::Failed);
    let status = world.admin.status().to_string();
    assert!(status.contains(FAKE) && world.admin.readiness().1.contains(FAKE), "{status}");
}

#[test]
fn a_secret_is_found_in_what_an_agent_in_a_test_program_logs_and_tells() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut story = Command::new(env::current_exe().expect("a test knows its program"));
    story.args([STORY, "--exact"]).stdin(Stdio::null());
    let output = story.env(IN_A_PROCESS_OF_ITS_OWN, "1").env(witness::FOLDER, folder.path()).output();
    let output = output.expect("the story can be started");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    // What is in its log alone, in its status and in its metrics.
    let parts =
        ["pass failed error=\"failed to", "\"lastPass\":{", "adx_federation_passes_total{outcome=\"failed\"} 1"];
    for told in [FAKE].into_iter().chain(parts) {
        assert!(witness::is_found(folder.path(), told), "{told}");
    }
    assert!(!witness::is_found(folder.path(), "a-fake-token-that-nobody-tells"));
}
