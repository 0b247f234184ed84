//! What a hub agent sends to each database of its hub: a fault that one of them meets alone stays with it, and all of them are looked at and changed side by side.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    every_fault,
    faulty_hub::{DATABASES, Hub, Sent, faults, side_by_side, spares},
    support::judge_together,
};

/// Parts of the texts that a pass sends to each database; that all others go to one is part of the test.
const TEXTS: [&str; 2] = [".show entity_groups", ".execute database script"];

/// How many databases an agent looks at, or changes, at once at most.
const AT_ONCE: usize = 4;

/// The databases that a text was sent to.
fn databases_of<'a>(sent: &'a [Sent], text: &str) -> BTreeSet<&'a str> {
    sent.iter().filter(|sent| sent.text.contains(text)).map(|sent| sent.database.as_str()).collect()
}

/// One kind of fault at each of these requests to each database, however often it is sent again.
async fn at_every_database(fault: Value) -> TempDir {
    let hub = Hub::start().await;
    hub.turn(false).await;
    hub.pass().await;
    hub.is_complete(false).await.expect("the first pass makes everything");
    let mut read = 0;
    hub.sent_since(&mut read);
    hub.turn(true).await;
    hub.pass().await;
    let sent = hub.sent_since(&mut read);
    let several: Vec<&str> =
        every_fault::REQUESTS.into_iter().filter(|text| databases_of(&sent, text).len() > 1).collect();
    assert_eq!(several, TEXTS, "what is sent to several databases");
    for text in TEXTS {
        assert_eq!(databases_of(&sent, text), BTreeSet::from(DATABASES), "{text}");
    }
    let pairs = TEXTS.into_iter().flat_map(|text| DATABASES.map(|database| (text, database)));
    for (round, (text, database)) in pairs.enumerate() {
        let with = round % 2 == 1;
        let what = format!("{fault} at {text} in {database}");
        hub.turn(with).await;
        hub.sent_since(&mut read);
        hub.fail(&json!([{"database": database, "text": text, "fault": fault}]));
        let (code, output) = hub.pass().await;
        hub.fail(&json!([]));
        let sent = hub.sent_since(&mut read);
        let is_its = |sent: &Sent| sent.database == database && sent.text.contains(text);
        assert!(sent.iter().any(is_its), "{what}: it is not sent: {output}");
        assert!(sent.iter().all(|sent| sent.is_struck == is_its(sent)), "{what}: it is struck alone: {sent:#?}");
        // What is no script cannot fail as one.
        let is_harmless = spares(&fault) && (fault != "failedScript" || text == TEXTS[0]);
        assert_eq!(code == Some(0), is_harmless, "{what}: {output}");
        for other in DATABASES.into_iter().filter(|other| *other != database) {
            assert_eq!(hub.is_complete_in(other, with, !with).await, Ok(()), "{what}: {other} waits for it: {output}");
        }
        assert_eq!(hub.has_kept_the_live().await, Ok(()), "{what}: {output}");
        assert_eq!(hub.converges(|| hub.is_complete(with)).await, Ok(()), "{what}");
    }
    assert_eq!(hub.rests().await, Ok(()), "after {fault}");
    hub.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_one_database_meets_keeps_no_other_from_being_made_right_in_that_pass() {
    let folders = side_by_side(faults().into_iter().map(at_every_database)).await;
    judge_together(folders.iter().map(TempDir::path));
}

/// Each request takes this long at least from when it arrived, so that those that arrived within such a time were under way at once.
#[tokio::test]
async fn databases_are_looked_at_and_changed_side_by_side_and_not_all_at_once() {
    const LONG: SignedDuration = SignedDuration::from_secs(1);
    let more = ["More1", "More2", "More3", "More4", "More5", "More6"];
    let databases = [DATABASES.as_slice(), &more].concat();
    let hub = Hub::start_with_databases(&databases).await;
    hub.document("entityGroups: [{by: geo}]");
    hub.pass().await;
    hub.beat(&[("Logs", &["A"])]).await;
    let mut read = 0;
    hub.sent_since(&mut read);
    let slow = TEXTS.map(|text| json!({"text": text, "fault": {"delay": 1_000 * LONG.as_secs()}}));
    hub.fail(&json!(slow));
    let (code, output) = hub.pass().await;
    hub.fail(&json!([]));
    assert_eq!(code, Some(0), "{output}");
    let sent = hub.sent_since(&mut read);
    for text in TEXTS {
        let mut arrived: Vec<Timestamp> =
            sent.iter().filter(|sent| sent.text.contains(text)).map(|sent| sent.at).collect();
        arrived.sort();
        let reached = databases_of(&sent, text);
        assert_eq!((arrived.len(), reached.len()), (9, 9), "{text} goes to each database once");
        let are_at_once =
            |count: usize| arrived.windows(count).any(|some| some[count - 1].duration_since(some[0]) < LONG);
        assert!(are_at_once(2), "{text}: one database after the other: {arrived:?}");
        assert!(!are_at_once(AT_ONCE + 1), "{text}: more than {AT_ONCE} at once: {arrived:?}");
    }
    hub.ends_quietly().await;
}
