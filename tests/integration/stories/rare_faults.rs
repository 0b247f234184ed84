//! Every fault of `kusto-local --faults` at requests that few passes make, and that look like others: a second page of schemas, the columns that the memory of an earlier version lacks, and
//! the look at what another agent may have recorded, and the questions when heartbeats came, and when they listed a database.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time;

use crate::{
    bounds::{beat, long},
    faulty_hub::{Hub, Sent, UNTIL_RIGHT, faults, side_by_side, spares},
    refusals::RECORD_OF_BEFORE,
    support::{SOON, judge_together},
};

/// Part of the text that asks for what is recorded of the membership.
const LOOK: &str = "SilentSince";

/// Part of the text that gives the memory the columns which it lacks.
const EXTENSION: &str = ".create-merge table ['AdxFederationMembers']";

/// A version that makes such a table does not record how it left that.
const NOT_RECORDED: &str =
    ".ingest inline into table AdxFederationObjects <|\n2026-01-01,,Table,AdxFederationMembers,Unknown,\n";

/// Part of the text that asks for a page of schemas.
const PAGE: &str = "_endpoints";

/// Part of the text that asks when heartbeats came.
const ARRIVALS: &str = "_period:timespan";

/// Part of the text that asks when heartbeats listed a database.
const LISTINGS: &str = "_asked:dynamic";

/// All three have what they had, and nobody is missing from a group.
async fn has_kept_all(hub: &Hub) -> Result<(), String> {
    let content = hub.content().await;
    let groups: Vec<&String> = content.iter().filter(|line| line.contains("Logs_Partitions\"")).collect();
    let is_whole = |group: &&String| (1..=3).all(|number| group.contains(&format!("127.0.0.{number}:1")));
    let is_there = content.iter().any(|line| line.contains("federated_A\""));
    if is_there && groups.len() == 2 && groups.iter().all(is_whole) { Ok(()) } else { Err(format!("{content:#?}")) }
}

/// And what they have besides.
async fn has_all(hub: &Hub) -> Result<(), String> {
    has_kept_all(hub).await?;
    let content = hub.content().await;
    let is_there = content.iter().any(|line| line.contains("federated_B\""));
    let columns = ".show table AdxFederationMembers cslschema | project Schema";
    let columns = hub.server.command("FleetDiscovery", columns).await.map_err(|error| error.to_string())?;
    if is_there && columns.column("Schema")[0].contains("SchemaHash") { Ok(()) } else { Err(format!("{content:#?}")) }
}

/// One kind of fault at both requests.
async fn at_both(fault: Value) -> TempDir {
    let hub = Hub::start().await;
    hub.beat(&[("Logs", &["A"])]).await;
    let (code, output) = hub.pass().await;
    assert_eq!((code, has_kept_all(&hub).await), (Some(0), Ok(())), "{output}");
    for command in [".drop table AdxFederationMembers", RECORD_OF_BEFORE, NOT_RECORDED] {
        hub.server.command("FleetDiscovery", command).await.expect("anybody may");
    }
    // Each of the three is a page of its own.
    beat(&hub, (1, 3), &long("\"A\", \"B\"", 3)).await;
    hub.fail(&json!([{"text": EXTENSION, "fault": fault}, {"text": PAGE, "skip": 1, "fault": fault}]));
    let mut read = 0;
    hub.sent_since(&mut read);
    let (_, output) = hub.pass().await;
    let sent = hub.sent_since(&mut read);
    for text in [EXTENSION, PAGE] {
        assert!(sent.iter().any(|sent| sent.is_struck && sent.text.contains(text)), "{fault} at {text}: {output}");
    }
    assert!(
        sent.iter().any(|sent| !sent.is_struck && sent.text.contains(PAGE)),
        "the first page can be read: {output}"
    );
    assert_eq!(has_kept_all(&hub).await, Ok(()), "{fault}: {output}");
    assert!(spares(&fault) || output.contains("schema(s) could not be read"), "{fault}: {output}");
    hub.fail(&json!([]));
    assert_eq!(hub.converges(|| has_all(&hub)).await, Ok(()), "{fault}");
    assert_eq!(hub.rests().await, Ok(()), "{fault}");
    hub.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_a_second_page_or_at_an_extension_of_the_memory_removes_anybody_or_leaves_a_trace() {
    let folders = side_by_side(faults().into_iter().map(at_both)).await;
    judge_together(folders.iter().map(TempDir::path));
}

/// One kind of fault at the look of an agent that goes on, and has seen nothing in the pass before.
async fn at_a_look(fault: Value) -> TempDir {
    let hub = Hub::start().await;
    hub.beat(&[("Logs", &["A"])]).await;
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    let undisturbed = hub.whole_content().await;
    let is_right = async || {
        let left = hub.whole_content().await;
        if left == undisturbed { Ok(()) } else { Err(format!("{left:#?} instead of {undisturbed:#?}")) }
    };
    let mut agent = hub.agent();
    let deadline = Instant::now() + SOON;
    while !agent.output().contains("pass ended outcome=unchanged") {
        assert!(Instant::now() < deadline, "{}", agent.output());
        time::sleep(Duration::from_millis(50)).await;
    }
    let mut read = 0;
    hub.sent_since(&mut read);
    hub.fail(&json!([{"text": "NewBeats", "count": 1, "fault": {"status": 400}}, {"text": LOOK, "fault": fault}]));
    let deadline = Instant::now() + SOON;
    let mut sent = Vec::new();
    while !sent.iter().any(|sent: &Sent| sent.is_struck && sent.text.contains(LOOK)) {
        assert!(Instant::now() < deadline, "{fault} at {LOOK}: {}", agent.output());
        time::sleep(Duration::from_millis(50)).await;
        sent.extend(hub.sent_since(&mut read));
    }
    hub.fail(&json!([]));
    let ended = Timestamp::now();
    assert_eq!(hub.settles(&agent, ended, UNTIL_RIGHT + 1, is_right).await, Ok(()), "{fault} at {LOOK}");
    agent.stop().await;
    hub.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_a_second_look_at_the_record_removes_anybody_or_leaves_a_trace() {
    let folders = side_by_side(faults().into_iter().map(at_a_look)).await;
    judge_together(folders.iter().map(TempDir::path));
}

/// One kind of fault at the question of an agent that starts where a silence is recorded: it believes none, and after the fault watches for one time to live.
async fn at_arrivals(fault: Value) -> TempDir {
    let hub = Hub::start().await;
    hub.document("heartbeatTTL: 1h, heartbeatInterval: 20m, entityGroups: [{by: geo}]");
    hub.beat(&[("Logs", &["A"])]).await;
    let (code, output) = hub.pass().await;
    assert_eq!((code, has_kept_all(&hub).await), (Some(0), Ok(())), "{output}");
    let later = async |minutes: i64| {
        hub.server.set_clock(minutes);
        hub.beat_of(&["1", "2"], &json!([{"database": "Logs", "tables": ["A"]}])).await;
    };
    for minutes in [15, 30, 45] {
        later(minutes).await;
    }
    let (code, output) = hub.pass().await;
    assert_eq!((code, has_kept_all(&hub).await), (Some(0), Ok(())), "{output}");
    for minutes in [60, 75, 90, 110] {
        later(minutes).await;
    }
    let mut read = 0;
    hub.sent_since(&mut read);
    hub.fail(&json!([{"text": ARRIVALS, "fault": fault}]));
    let (code, output) = hub.pass().await;
    hub.fail(&json!([]));
    let sent = hub.sent_since(&mut read);
    assert!(sent.iter().any(|sent| sent.is_struck && sent.text.contains(ARRIVALS)), "{fault}: {output}");
    assert_eq!(hub.has_kept_the_live().await, Ok(()), "{fault}: {output}");
    assert_eq!(has_kept_all(&hub).await.is_err(), spares(&fault), "{fault}: {output}");
    let is_told = output.contains("no silence that was recorded is believed");
    assert_eq!((code == Some(0), is_told), (spares(&fault), !spares(&fault)), "{fault}: {output}");
    for minutes in [125, 140, 155, 172] {
        later(minutes).await;
        assert_eq!(has_kept_all(&hub).await.is_err(), spares(&fault), "{fault}, before {minutes} min");
        hub.pass().await;
    }
    assert_eq!(hub.has_kept_the_live().await, Ok(()), "{fault}");
    assert!(!hub.content().await.iter().any(|line| line.contains("127.0.0.3")), "{fault}");
    assert_eq!(hub.rests().await, Ok(()), "{fault}");
    hub.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_the_question_when_heartbeats_came_removes_anybody_or_keeps_the_silent_for_ever() {
    let folders = side_by_side(faults().into_iter().map(at_arrivals)).await;
    judge_together(folders.iter().map(TempDir::path));
}

/// One kind of fault at the question when heartbeats listed a database, when it is first listed no longer, and when it may leave: it stays, and after the fault leaves. Or at the one after
/// it, what it had: that keeps nothing.
async fn at_listings(fault: Value, skipped: usize) -> TempDir {
    let hub = Hub::start().await;
    hub.document("heartbeatTTL: 1h, heartbeatInterval: 20m, entityGroups: [{by: geo}]");
    let less = json!([{"database": "Logs", "tables": ["A"]}]);
    let more = json!([{"database": "Logs", "tables": ["A"]}, {"database": "Metrics", "tables": ["M", "N"]}]);
    let later = async |minutes: i64, third: &Value| {
        hub.server.set_clock(minutes);
        hub.beat_of(&["1", "2"], &more).await;
        hub.beat_of(&["3"], third).await;
    };
    let has_metrics_of_the_third = async || {
        let content = hub.content().await;
        let lists =
            |group: &str| content.iter().filter(|line| line.contains(group) && line.contains("127.0.0.3")).count();
        let groups = [lists("Metrics_Partitions\""), lists("Metrics_Partitions_EU\"")];
        let is_asked = content.iter().filter(|line| line.contains("federated_")).count() == 3;
        assert!(is_asked && [[2, 2], [0, 0]].contains(&groups), "{fault}: {content:#?}");
        groups == [2, 2]
    };
    later(0, &more).await;
    hub.pass().await;
    let (code, output) = hub.pass().await;
    assert!(code == Some(0) && has_metrics_of_the_third().await, "{output}");
    let mut read = 0;
    for (minutes, stays) in [(10, true), (30, true), (50, true), (75, !spares(&fault) && skipped == 0)] {
        later(minutes, &less).await;
        hub.sent_since(&mut read);
        let functions = async || {
            let lines = hub.content().await.into_iter().filter(|line| line.contains("federated_"));
            lines.collect::<Vec<_>>()
        };
        let before = functions().await;
        hub.fail(&json!([{"text": LISTINGS, "skip": skipped, "fault": fault}]));
        let (code, output) = hub.pass().await;
        hub.fail(&json!([]));
        let sent = hub.sent_since(&mut read);
        let asked: Vec<bool> =
            sent.iter().filter(|sent| sent.text.contains(LISTINGS)).map(|sent| sent.is_struck).collect();
        assert!(asked[..skipped].iter().all(|is| !is) && asked.len() > skipped && asked[skipped], "{fault}: {output}");
        assert!(!stays || functions().await == before, "{fault} after {minutes} min: {output}");
        assert_eq!(has_metrics_of_the_third().await, stays, "{fault} after {minutes} min: {output}");
        let is_told = output.contains("what is listed no longer stays: ");
        assert_eq!((code == Some(0), is_told), (spares(&fault), !spares(&fault)), "{fault}: {output}");
    }
    // Where it has left, that nothing is wrong with it any more is recorded.
    for _ in 0..2 {
        hub.pass().await;
        assert!(!has_metrics_of_the_third().await, "{fault}");
    }
    assert_eq!(hub.has_kept_the_live().await, Ok(()), "{fault}");
    assert_eq!(hub.rests().await, Ok(()), "{fault}");
    hub.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_at_the_question_when_databases_were_listed_takes_one_away_or_keeps_it_for_ever() {
    let both = faults().into_iter().flat_map(|fault| [(fault.clone(), 0), (fault, 1)]);
    let folders = side_by_side(both.map(|(fault, skipped)| at_listings(fault, skipped))).await;
    judge_together(folders.iter().map(TempDir::path));
}
