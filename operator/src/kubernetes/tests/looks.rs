//! Which children a look reads.

use super::{server::Key, *};

fn key(plural: &str, name: &str) -> Key {
    (plural.to_owned(), name.to_owned())
}

/// How often the Ingestor's Service and its ServiceAccount have been read.
fn count(server: &Server) -> (usize, usize) {
    (server.read(&key("services", "i")), server.read(&key("serviceaccounts", "i-ingestor")))
}

/// How often they are read as its autoscaler is to be another.
async fn read(server: &Server, most: i32) -> (usize, usize) {
    let before = count(server);
    edit(server, &key("ingestors", "i"), "/spec/autoscaling/maxReplicas", most.into());
    time::sleep(Duration::from_secs(3)).await;
    let scaler = server.get(&key("horizontalpodautoscalers", "i")).expect("it was made");
    assert_eq!(scaler["spec"]["maxReplicas"], most);
    let after = count(server);
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test(start_paused = true)]
async fn what_is_as_it_was_is_not_read_for_a_minute_while_its_watch_sees() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    assert_eq!(read(&server, 5).await, (0, 0));
    let before = count(&server);
    time::sleep(Duration::from_secs(60)).await;
    read(&server, 6).await;
    let after = count(&server);
    assert!(after.0 > before.0 && after.1 > before.1, "a watch may be silent without a word of it");
    assert_eq!(read(&server, 7).await, (0, 0));

    server.refuse_watches("services");
    time::sleep(Duration::from_secs(3)).await;
    let (services, accounts) = read(&server, 8).await;
    assert!(services > 0 && accounts == 0, "{services}, {accounts}: only of Services nothing is told");
    // Its watch begins again within a minute, and nothing happens that it could tell of.
    server.allow_watches();
    time::sleep(Duration::from_secs(150)).await;
    read(&server, 9).await;
    assert_eq!(read(&server, 10).await, (0, 0));
    term.cancel();
}

/// A cluster-wide name holds its owner's, and says by nothing else whose it is.
#[tokio::test(start_paused = true)]
async fn a_role_that_is_not_ours_any_more_is_a_conflict_also_where_it_fitted_a_moment_ago() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let is_role = |(plural, name): &Key| plural == "clusterroles" && name.contains("alerter");
    let role = server.children().into_iter().find(is_role).expect("the Alerter has one");
    let mut taken = server.get(&role).expect("it was made");
    taken["metadata"]["managedFields"] = json!([{"manager": "somebody", "operation": "Update"}]);
    server.put(&role, taken);
    time::sleep(Duration::from_secs(3)).await;
    let ready = server.condition(&key("alerters", "a"), "Ready");
    assert_eq!(ready["reason"], "Conflict", "{ready}");
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_we_have_removed_ourselves_is_made_again_while_its_watch_is_behind() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let (cluster, account) = (key("adxclusters", "eu"), key("serviceaccounts", "eu-agent"));
    let federation = server.get(&cluster).expect("it was put there")["spec"]["federation"].clone();
    let uid = |object: &Value| object["metadata"]["uid"].clone();
    let first = uid(&server.get(&account).expect("it was made"));
    server.hold_watches("serviceaccounts");
    edit(&server, &cluster, "/spec/federation", Value::Null);
    time::sleep(Duration::from_secs(3)).await;
    assert!(server.get(&account).is_none(), "it is not removed");
    edit(&server, &cluster, "/spec/federation", federation);
    time::sleep(Duration::from_secs(3)).await;
    let again = server.get(&account).expect("it is not made, as the watch shows the one before");
    assert_ne!(uid(&again), first);
    server.release_watches();
    time::sleep(LATER).await;
    assert_eq!(server.get(&account), Some(again));
    assert_eq!(server.told("DriftReverted"), [""; 0], "nobody else has deleted anything");
    term.cancel();
}
