//! What people do in Azure, through `edit`.

use serde_json::json;

use super::support::{LONG, cluster, start, wanted, with_central};

#[tokio::test]
async fn a_persons_change_is_seen_and_changes_the_etag_of_that_cluster_alone() {
    let (double, client) = start().await;
    with_central(&double);
    double.edit(|world| {
        world.add_cluster("fleet", "other", "East US 2");
    });
    let etag = |name: &'static str| {
        let client = &client;
        async move { client.get(&cluster(name)).await.body["etag"].as_str().expect("it has one").to_owned() }
    };
    let (central, other) = (etag("central").await, etag("other").await);
    double.edit(|world| "Stopped".clone_into(&mut world.cluster("CENTRAL").state));
    assert_eq!(client.get(&cluster("central")).await.body["properties"]["state"], "Stopped");
    assert_eq!((etag("central").await != central, etag("other").await == other), (true, true));

    let tags = json!({"tags": {"a": "b"}});
    let patch = |etag: String| {
        let (client, tags) = (&client, &tags);
        async move {
            client
                .try_to_send("PATCH", &cluster("central"), Some(tags), &[("if-match", &etag)])
                .await
                .expect("it answers")
        }
    };
    assert_eq!(patch(central).await.refusal(), (412, "PreconditionFailed"));
    let central = etag("central").await;
    assert_eq!(patch(central.clone()).await.status, 202);
    assert_ne!(etag("central").await, central, "a change changes it when it begins");
    let central = etag("central").await;
    double.advance(LONG);
    assert_ne!(etag("central").await, central, "and when it ends");
    double.edit(|_| ());
    double.assert_fine();
}

#[tokio::test]
async fn what_people_began_refuses_writes_and_blames_who_has_seen_it() {
    let (double, client) = start().await;
    with_central(&double);
    let tags = json!({"tags": {"a": "b"}});
    double.edit(|world| world.begin_maintenance("central", LONG));
    assert_eq!(client.patch(&cluster("central"), &tags).await.refusal(), (409, "ServiceIsInMaintenance"));
    double.assert_fine();
    assert_eq!(client.get(&cluster("central")).await.body["properties"]["provisioningState"], "Running");
    assert_eq!(client.patch(&cluster("central"), &tags).await.refusal(), (409, "ServiceIsInMaintenance"));
    assert_eq!(
        double.take_violations(),
        [format!("overlap: PATCH {} while Maintenance of central runs", cluster("central"))]
    );
    double.advance(LONG);
    assert_eq!(client.get(&cluster("central")).await.body["properties"]["provisioningState"], "Succeeded");
    assert_eq!(client.patch(&cluster("central"), &tags).await.status, 202);
    double.assert_fine();
}

#[tokio::test]
async fn who_deletes_a_cluster_ends_what_was_done_to_it() {
    let (double, client) = start().await;
    double.edit(|world| world.add_group("fleet", "eastus2"));
    let begun = client.put(&cluster("hub1"), &wanted()).await;
    double.edit(|world| drop(world.clusters.remove("hub1")));
    assert_eq!(client.get(&cluster("hub1")).await.status, 404);
    double.advance(LONG);
    let operation = client.get(begun.header("azure-asyncoperation")).await;
    assert_eq!((&operation.body["status"], operation.code()), (&json!("Failed"), "ResourceNotFound"));
    assert!(double.cluster("hub1").is_none());
    double.assert_fine();
}
