//! Watches that the API server refuses.

use tokio::sync::watch;

use super::*;
use crate::kubernetes::{Standing, Work, lead_until};

#[tokio::test(start_paused = true)]
async fn a_leader_is_ready_while_all_watches_see_and_says_which_one_does_not() {
    let (server, term) = (Server::default(), CancellationToken::new());
    let (client, admin, metrics) = (server.client(), Admin::new(Metrics::new()), Metrics::new());
    let (_leads, standing) = watch::channel(Standing::Leads);
    server.refuse_watches("daemonsets");
    let (told, stop) = (admin.clone(), term.clone());
    let leading = tokio::spawn(async move {
        let (settings, metrics) = (Settings::of_tests(Some(NAMESPACE)), metrics.register(OperatorMetrics::new));
        let work = Work { client: &client, watching: &client, settings: &settings, metrics: &metrics, azure: None };
        lead_until(work, &told, standing, &stop).await;
    });
    let refused = "the API server refuses the watch of DaemonSet: failed to perform initial object list: ";
    time::sleep(LATER).await;
    let (is_ready, why) = admin.readiness();
    assert!(!is_ready && why.starts_with(&format!("16 of 17 watches are synced; {refused}")), "{why}");
    let ready = (true, "leading, and all watches are synced".to_owned());
    server.allow_watches();
    time::sleep(Duration::from_secs(120)).await;
    assert_eq!(admin.readiness(), ready);

    // A right is taken away, and given back to a cluster in which nothing happens.
    server.refuse_watches("daemonsets");
    for _ in 0..20 {
        time::sleep(Duration::from_secs(60)).await;
        let (is_ready, why) = admin.readiness();
        assert!(!is_ready && why.starts_with("the API server refuses the watch of DaemonSet: "), "{why}");
    }
    server.allow_watches();
    time::sleep(Duration::from_secs(180)).await;
    assert_eq!(admin.readiness(), ready);

    // One that sees again and has something to tell is believed at once.
    server.refuse_watches("daemonsets");
    time::sleep(LATER).await;
    assert!(!admin.readiness().0);
    server.allow_watches();
    time::sleep(Duration::from_secs(30)).await;
    assert!(!admin.readiness().0);
    let labels = json!({"app.kubernetes.io/managed-by": "adx-federation-operator"});
    let metadata = json!({"name": "d", "namespace": NAMESPACE, "labels": labels});
    let made = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {}});
    server.put(&("daemonsets".to_owned(), "d".to_owned()), made);
    time::sleep(Duration::from_secs(5)).await;
    assert_eq!(admin.readiness(), ready);

    term.cancel();
    leading.await.expect("it ends");
}
