//! A hub that answers wrongly: nothing is removed because it was not seen.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::process::Process;
use tokio::time;

use crate::{
    admin::{admin_url, get},
    faulty_hub::{Hub, Sent, faults, side_by_side, spares},
    support::{SOON, judge_together},
};

/// Part of the query of the heartbeats, and of no other text that an agent sends.
const HEARTBEATS: &str = "NewBeats";

/// These partitions beat until something is so.
async fn beating_until(hub: &Hub, agent: &Process, partitions: &[&str], what: &str, is_so: impl Fn() -> bool) {
    let schema = json!([{"database": "Logs", "tables": ["A"]}]);
    let deadline = time::Instant::now() + SOON * 5;
    while !is_so() {
        assert!(time::Instant::now() < deadline, "{what}: {}", agent.output());
        hub.beat_of(partitions, &schema).await;
        time::sleep(Duration::from_millis(200)).await;
    }
}

/// One kind of fault at the query of the heartbeats, for longer than the time to live. Were a part of the list believed, the others would leave: no grace of a
/// start keeps them, and no guard, since one that fell silent has left.
async fn at_the_heartbeats(fault: Value) -> TempDir {
    let hub = Hub::start().await;
    // On a busy machine beats are late, together: whoever has returned a few times does not leave.
    hub.document(
        "heartbeatTTL: 4s, heartbeatInterval: 1s, membership: {suspectAfterMissedBeats: 2, flappingReturns: 16}",
    );
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    let has_told = |text: &str| agent.output().contains(text);
    let are_in = || has_told("3 partition(s) have the database");
    beating_until(&hub, &agent, &["1", "2", "3"], "all are federated", are_in).await;
    beating_until(&hub, &agent, &["1", "2"], "the third leaves", || has_told("left: http://127.0.0.3")).await;
    let before = hub.content().await;
    let lists = |host: &str| before.iter().any(|line| line.contains(host));
    assert!(lists("127.0.0.1") && lists("127.0.0.2") && !lists("127.0.0.3"), "{before:#?}");

    let mut read = 0;
    hub.sent_since(&mut read);
    let passes = || agent.output().matches("pass ended").count();
    let (started, ended) = (time::Instant::now(), passes());
    hub.fail(&json!([{"text": HEARTBEATS, "fault": fault}]));
    // Of three, the first may have read the heartbeats already.
    let is_over = || passes() > ended + 2 && started.elapsed() > Duration::from_secs(5);
    beating_until(&hub, &agent, &["1", "2"], "passes end under the fault", is_over).await;
    let is_harmless = spares(&fault);
    let guard = |holds: bool| format!("adx_federation_guard_active{{reason=\"incomplete_read\"}} {}", u8::from(holds));
    let (_, metrics) = get(&url, "/metrics").await;
    assert!(metrics.lines().any(|line| line == guard(!is_harmless)), "{fault}: {metrics}");
    let sent = hub.sent_since(&mut read);
    assert!(sent.iter().filter(|sent| sent.is_struck).count() >= 2, "{fault} was not met: {sent:#?}");
    // What is remembered of a partition may be recorded: by the first of the passes, and by all of those that the fault does nothing to.
    let is_memory = |sent: &Sent| sent.text.contains("into table ['AdxFederationMembers']");
    let told =
        sent.iter().filter(|sent| is_memory(sent) && sent.text.contains("Guard,\"incomplete_read\",active")).count();
    assert_eq!(told, usize::from(!is_harmless), "{fault}: {sent:#?}");
    let changes: Vec<&Sent> = sent.iter().filter(|sent| sent.writes() && !is_memory(sent)).collect();
    assert!(changes.is_empty(), "{fault}: {changes:#?}: {}", agent.output());

    hub.fail(&json!([]));
    let quiet_passes = || agent.output().matches("pass ended outcome=unchanged").count();
    let quiet = quiet_passes();
    let sees = || quiet_passes() > quiet;
    beating_until(&hub, &agent, &["1", "2"], "sight returns", sees).await;
    assert_eq!(hub.content().await, before, "{fault}: {}", agent.output());
    let (_, metrics) = get(&url, "/metrics").await;
    assert!(metrics.lines().any(|line| line == guard(false)), "after {fault}: {metrics}");
    agent.stop().await;
    hub.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_that_cannot_be_read_for_longer_than_the_ttl_remove_nobody_who_beats() {
    let folders = side_by_side(faults().into_iter().map(at_the_heartbeats)).await;
    judge_together(folders.iter().map(TempDir::path));
}
