//! The watch of an object is behind what was written to it.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_true_for_a_moment_is_not_said_for_ever_where_the_watch_shows_it_late() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    let key = |plural: &str| (plural.to_owned(), "a".to_owned());
    let (alerter, deployment) = (key("alerters"), key("deployments"));
    let run = |ready: i64| {
        let mut object = server.get(&deployment).expect("it was made");
        object["status"] = json!({"replicas": 1, "readyReplicas": ready, "updatedReplicas": 1});
        server.put(&deployment, object);
    };
    let says = || server.condition(&alerter, "Ready")["status"].clone();
    run(1);
    time::sleep(LATER).await;
    assert_eq!(says(), "True");

    server.hold_watches("alerters");
    run(0);
    time::sleep(AT_ONCE).await;
    assert_eq!(says(), "False");
    // As it was before, and as the watch still shows it.
    run(1);
    time::sleep(Duration::from_secs(1)).await;
    server.release_watches();
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(says(), "True");

    // One that never catches up keeps nothing from being looked after.
    server.hold_watches("alerters");
    run(0);
    time::sleep(AT_ONCE).await;
    let mut scaled = server.get(&deployment).expect("it is there");
    scaled["spec"]["replicas"] = 7.into();
    server.put(&deployment, scaled);
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!(server.get(&deployment).expect("it is there")["spec"]["replicas"], 1);
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_agents_word_without_its_document_is_read_anew_and_the_longer_it_lacks_that_the_more_seldom() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    leave_the_agent(&server);
    let (cluster, hour) = (("adxclusters".to_owned(), "eu".to_owned()), Duration::from_secs(3600));
    let federated = || server.condition(&cluster, "Federated")["reason"].clone();
    let pass = json!({"time": "2100-01-01T00:00:00Z", "outcome": "failed"});
    let told_by_an_earlier_one = || {
        let mut object = server.get(&cluster).expect("it was put there");
        object["status"]["federation"] = json!({"lastPass": pass});
        server.put(&cluster, object);
    };
    told_by_an_earlier_one();
    time::sleep(LATER).await;
    assert_eq!(federated(), "WaitingForAgent");
    let read = server.read(&cluster);
    time::sleep(hour).await;
    let more = server.read(&cluster) - read;
    assert!((1..=20).contains(&more), "{more} reads in an hour");
    // Nothing else tells of what a watch does not show.
    server.hold_watches("adxclusters");
    tell_of(&server, &cluster, pass.clone()).await;
    time::sleep(Duration::from_secs(300)).await;
    assert_eq!(federated(), "Failed");
    server.release_watches();
    time::sleep(LATER).await;
    let read = server.read(&cluster);
    time::sleep(hour).await;
    assert_eq!(server.read(&cluster), read, "it is read while nothing lacks");
    // Told without it anew, it is read as soon as ever.
    told_by_an_earlier_one();
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(federated(), "WaitingForAgent");
    server.hold_watches("adxclusters");
    tell_of(&server, &cluster, pass.clone()).await;
    assert_eq!(federated(), "Failed");
    term.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_object_with_fields_of_a_newer_definition_is_read_anew_as_the_watches_read_it() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let _watches = running(&server, &term).await;
    leave_the_agent(&server);
    let key = |plural: &str, name: &str| (plural.to_owned(), name.to_owned());
    let (cluster, budget) = (key("adxclusters", "eu"), key("poddisruptionbudgets", "eu-agent"));
    let fresh = json!("of a newer definition");
    // An agent of an earlier version, which tells of no document.
    let mut told = server.get(&cluster).expect("it was put there");
    told["spec"]["fresh"] = fresh.clone();
    told["status"]["federation"] = json!({"lastPass": {"time": "2100-01-01T00:00:00Z", "outcome": "failed"}});
    server.put(&cluster, told);
    time::sleep(LATER).await;
    let read = server.read(&cluster);
    server.remove(&budget);
    time::sleep(LATER).await;
    assert!(server.read(&cluster) > read, "it is not read anew");
    assert!(server.get(&budget).is_some(), "drift is not mended");
    // Where it cannot be read any more, it is as the watch shows it until that shows so.
    let databases = server.get(&cluster).expect("it is there")["spec"]["databases"].clone();
    server.hold_watches("adxclusters");
    edit(&server, &cluster, "/spec/databases", json!("Logs"));
    server.remove(&budget);
    time::sleep(LATER).await;
    assert!(server.get(&budget).is_some(), "drift is not mended");
    edit(&server, &cluster, "/spec/databases", databases);
    server.release_watches();
    // What its agent told goes with that.
    edit(&server, &cluster, "/spec/federation", Value::Null);
    time::sleep(LATER).await;
    let told = server.get(&cluster).expect("it is there");
    assert_eq!((&told["status"]["federation"], &told["spec"]["fresh"]), (&Value::Null, &fresh));
    assert_eq!(server.told("ReconcileFailed"), Vec::<String>::new());
    term.cancel();
}
