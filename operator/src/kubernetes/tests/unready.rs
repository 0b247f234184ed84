//! Pods that are not ready, as nobody runs them here.

use super::{server::Key, *};

#[tokio::test(start_paused = true)]
async fn the_longer_nothing_changes_the_more_seldom_it_is_looked_at_and_what_begins_is_told_soon() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let lists = || (server.listed("pods"), server.listed("events"));
    let before = lists();
    time::sleep(Duration::from_secs(3600)).await;
    let (pods, events) = (lists().0 - before.0, lists().1 - before.1);
    // Two for each look at one of four objects, of which one is a StatefulSet.
    assert!((1..=4 * 2 * 20).contains(&pods), "{pods} lists of pods in an hour");
    assert!((1..=20).contains(&events), "{events} lists of Events in an hour");
    // From now on one of its pods is refused: its controller tells so in its status and, a moment later, in words.
    let (set, ingestor): (Key, Key) =
        (("statefulsets".to_owned(), "i".to_owned()), ("ingestors".to_owned(), "i".to_owned()));
    let mut refused = server.get(&set).expect("it was made");
    let uid = refused["metadata"]["uid"].clone();
    refused["status"] = json!({"replicas": 1});
    server.put(&set, refused);
    time::sleep(Duration::from_secs(1)).await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": NAMESPACE},
        "involvedObject": {"uid": uid}, "type": "Warning", "reason": "FailedCreate", "message": "exceeded quota",
    });
    server.put(&("events".to_owned(), "e".to_owned()), event);
    time::sleep(LATER).await;
    let told = server.condition(&ingestor, "WorkloadReady");
    assert_eq!((&told["reason"], &told["message"]), (&json!("FailedCreate"), &json!("exceeded quota")));
    assert_eq!(server.told("FailedCreate"), ["exceeded quota"]);
    term.cancel();
}
