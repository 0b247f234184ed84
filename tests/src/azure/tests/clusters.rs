//! A cluster's life, and what Azure refuses.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::{Answered, LONG, cluster, path, start, wanted, wanted_database, wanted_right, with_central};
use crate::azure::{Fault, FaultKind, World};

const NEW: [(&str, &str); 1] = [("if-none-match", "*")];

/// State and provisioning state.
fn states(answer: &Answered) -> (&str, &str) {
    let text = |name: &str| answer.body["properties"][name].as_str().unwrap_or_default();
    (text("state"), text("provisioningState"))
}

#[tokio::test]
async fn a_cluster_is_created_in_its_time_and_then_runs() {
    let (double, client) = start().await;
    double.edit(|world| world.add_group("fleet", "eastus2"));
    assert_eq!(client.get(&cluster("hub1")).await.refusal(), (404, "ResourceNotFound"));
    let created = client.try_to_send("PUT", &cluster("hub1"), Some(&wanted()), &NEW).await.expect("it answers");
    assert_eq!((created.status, states(&created), created.header("retry-after")), (201, ("Creating", "Creating"), "7"));
    let (state_url, result_url) = (created.header("azure-asyncoperation"), created.header("location"));

    double.advance(LONG - LONG / 10);
    let meanwhile = client.get(&cluster("hub1")).await;
    assert_eq!((states(&meanwhile), &meanwhile.body["properties"]["uri"]), (("Creating", "Creating"), &Value::Null));
    assert_eq!(meanwhile.body["identity"]["principalId"], Value::Null, "who it is shows once it is there");
    let operation = client.get(state_url).await;
    assert_eq!(
        (operation.status, &operation.body["status"], operation.header("retry-after")),
        (200, &json!("Running"), "7")
    );
    assert_eq!(client.get(result_url).await.status, 202);

    double.advance(LONG / 10);
    let operation = client.get(state_url).await;
    assert_eq!((&operation.body["status"], operation.header("retry-after")), (&json!("Succeeded"), ""));
    assert_eq!(client.get(result_url).await.status, 200);
    let there = client.get(&cluster("hub1")).await;
    assert_eq!(states(&there), ("Running", "Succeeded"));
    assert_eq!(there.body["properties"]["uri"], "https://hub1.eastus2.kusto.windows.net");
    assert_eq!((&there.body["location"], &there.body["sku"]), (&json!("East US 2"), &wanted()["sku"]));
    assert!(there.body["identity"]["principalId"].is_string());
    double.assert_fine();
}

#[tokio::test]
async fn names_and_paths_have_no_case() {
    let (double, client) = start().await;
    with_central(&double);
    let shouted = cluster("CENTRAL/DATABASES/METRICS").replace("resourceGroups/fleet", "RESOURCEGROUPS/FLEET");
    assert_eq!(client.get(&shouted).await.body["name"], "central/Metrics");
    double.assert_fine();
}

#[tokio::test]
async fn of_two_creations_at_once_one_wins() {
    let (double, client) = start().await;
    double.edit(|world| world.add_group("fleet", "eastus2"));
    let (to, body) = (cluster("hub1"), wanted());
    let create = || async { client.try_to_send("PUT", &to, Some(&body), &NEW).await.expect("it answers") };
    let (one, other) = tokio::join!(create(), create());
    assert_eq!(
        BTreeSet::from([one.refusal(), other.refusal()]),
        BTreeSet::from([(201, ""), (412, "PreconditionFailed")])
    );
    // Who says that it must be new does nothing wrong; who does not, writes over what he has not looked at.
    double.assert_fine();
    assert_eq!(client.put(&to, &body).await.refusal(), (409, "ServiceIsInMaintenance"));
    assert_eq!(double.take_violations(), [format!("overlap: PUT {to} while Create of hub1 runs")]);
}

/// Everything that writes to a cluster or into it.
fn writes() -> Vec<(&'static str, String, Option<Value>)> {
    let right = |role| Some(wanted_right("44444444-4444-4444-4444-444444444444", role));
    vec![
        ("PUT", cluster("central"), Some(wanted())),
        ("PATCH", cluster("central"), Some(json!({"tags": {"a": "b"}}))),
        ("DELETE", cluster("central"), None),
        ("POST", cluster("central/start"), None),
        ("POST", cluster("central/stop"), None),
        ("PUT", cluster("central/databases/Logs"), Some(wanted_database())),
        ("PUT", cluster("central/databases/Metrics"), Some(wanted_database())),
        ("DELETE", cluster("central/databases/Metrics"), None),
        ("PUT", cluster("central/principalAssignments/viewer"), right("AllDatabasesViewer")),
        ("DELETE", cluster("central/principalAssignments/viewer"), None),
        ("PUT", cluster("central/databases/Metrics/principalAssignments/ingestor"), right("Ingestor")),
        ("DELETE", cluster("central/databases/Metrics/principalAssignments/ingestor"), None),
    ]
}

#[tokio::test]
async fn one_write_at_a_time_whatever_it_is() {
    for (method, first, body) in writes() {
        let (double, client) = start().await;
        with_central(&double);
        let begun = client.send(method, &first, body.as_ref()).await;
        // What changes nothing begins nothing either.
        if begun.header("azure-asyncoperation").is_empty() {
            assert!(matches!(begun.status, 200 | 204), "{method} {first}: {begun:?}");
            continue;
        }
        for (method, second, body) in writes() {
            let refused = client.send(method, &second, body.as_ref()).await;
            assert_eq!(refused.refusal(), (409, "ServiceIsInMaintenance"), "{method} {second} after {first}");
            let violations = double.take_violations();
            assert_eq!(violations.len(), 1, "{method} {second} after {first}: {violations:?}");
            assert!(violations[0].starts_with(&format!("overlap: {method} {second} while ")), "{violations:?}");
        }
        double.advance(LONG);
        if first != cluster("central") || method != "DELETE" {
            let after = client.patch(&cluster("central"), &json!({"tags": {"c": "d"}})).await;
            assert_eq!(after.status, 202, "after {method} {first}: {after:?}");
        }
        double.assert_fine();
    }
}

#[tokio::test]
async fn a_patch_leaves_what_it_does_not_name_and_a_put_does_not() {
    let (double, client) = start().await;
    let autoscale = json!({"version": 1, "isEnabled": true, "minimum": 2, "maximum": 4});
    with_central(&double);
    double.edit(|world| {
        let central = world.cluster("central");
        central.properties.insert("optimizedAutoscale".to_owned(), autoscale.clone());
        central.tags.insert("owner".to_owned(), "people".to_owned());
    });
    let larger = json!({"name": "Standard_L16as_v3", "tier": "Standard", "capacity": 3});
    let changed = client.patch(&cluster("central"), &json!({"sku": larger})).await;
    assert_eq!((changed.status, states(&changed)), (202, ("Updating", "Running")));
    assert_ne!(changed.body["sku"], larger, "not yet");
    double.advance(LONG);
    let after = client.get(&cluster("central")).await;
    assert_eq!((states(&after), &after.body["sku"]), (("Running", "Succeeded"), &larger));
    assert_eq!(
        (&after.body["properties"]["optimizedAutoscale"], &after.body["tags"]["owner"]),
        (&autoscale, &json!("people"))
    );

    assert_eq!(client.put(&cluster("central"), &wanted()).await.status, 200);
    double.advance(LONG);
    let after = client.get(&cluster("central")).await;
    assert_eq!(after.body["properties"]["optimizedAutoscale"], Value::Null);
    assert_eq!((&after.body["sku"], &after.body["tags"]), (&wanted()["sku"], &wanted()["tags"]));
    double.assert_fine();
}

#[tokio::test]
async fn identities_are_added_and_taken_away_one_by_one() {
    let (double, client) = start().await;
    with_central(&double);
    let id = |name: &str| {
        path(&format!("/resourceGroups/fleet/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"))
    };
    let both = "SystemAssigned, UserAssigned";
    let of = |ids: &[&str]| ids.iter().map(|name| id(name)).collect::<Vec<_>>();
    let steps = [
        (json!({"type": "SystemAssigned"}), "SystemAssigned", of(&[])),
        (json!({"type": both, "userAssignedIdentities": {id("one"): {}}}), both, of(&["one"])),
        (json!({"type": both, "userAssignedIdentities": {id("two"): {}}}), both, of(&["one", "two"])),
        (json!({"type": both, "userAssignedIdentities": {id("ONE"): null}}), both, of(&["two"])),
        (json!({"type": "UserAssigned", "userAssignedIdentities": {}}), "UserAssigned", of(&["two"])),
    ];
    for (identity, kind, names) in steps {
        assert_eq!(client.patch(&cluster("central"), &json!({"identity": identity})).await.status, 202);
        double.advance(LONG);
        let shown = client.get(&cluster("central")).await.body["identity"].clone();
        let ids = shown["userAssignedIdentities"].as_object().map(|ids| ids.keys().cloned().collect::<Vec<_>>());
        assert_eq!((&shown["type"], ids.unwrap_or_default()), (&json!(kind), names));
        assert_eq!(shown["principalId"].is_string(), kind.starts_with("System"));
    }
    double.assert_fine();
}

#[tokio::test]
async fn a_stopped_cluster_stays_stopped_until_it_is_started() {
    let (double, client) = start().await;
    with_central(&double);
    let state = || async { states(&client.get(&cluster("central")).await).0.to_owned() };
    assert_eq!(client.post(&cluster("central/start")).await.status, 200, "it runs already");
    assert_eq!((client.post(&cluster("central/stop")).await.status, state().await), (202, "Stopping".to_owned()));
    double.advance(LONG);
    assert_eq!((client.post(&cluster("central/stop")).await.status, state().await), (200, "Stopped".to_owned()));
    let refused = client.put(&cluster("central/databases/Logs"), &wanted_database()).await;
    assert_eq!(refused.refusal(), (400, "ClusterNotRunning"));
    assert_eq!(client.patch(&cluster("central"), &json!({"tags": {}})).await.status, 202);
    double.advance(LONG);
    assert_eq!(state().await, "Stopped");
    assert_eq!((client.post(&cluster("central/start")).await.status, state().await), (202, "Starting".to_owned()));
    double.advance(LONG);
    assert_eq!(state().await, "Running");
    double.assert_fine();
}

#[tokio::test]
async fn a_cluster_whose_creation_failed_is_created_again_by_a_put() {
    let (double, client) = start().await;
    double.edit(|world| world.add_group("fleet", "eastus2"));
    let kind =
        FaultKind::OperationFails { code: "NoCapacity".to_owned(), message: "There are no machines.".to_owned() };
    double.fault(Fault { method: "PUT", path_contains: "/clusters/hub1".to_owned(), skip: 0, times: 1, kind });
    let begun = client.put(&cluster("hub1"), &wanted()).await;
    assert_eq!((begun.status, double.pending_faults()), (201, 0));
    double.advance(LONG);
    let operation = client.get(begun.header("azure-asyncoperation")).await;
    assert_eq!((operation.status, &operation.body["status"], operation.code()), (200, &json!("Failed"), "NoCapacity"));
    assert_eq!(client.get(begun.header("location")).await.refusal(), (409, "NoCapacity"));
    let failed = client.get(&cluster("hub1")).await;
    assert_eq!(states(&failed), ("Unavailable", "Failed"));
    assert_eq!(failed.body["properties"]["stateReason"], "There are no machines.");
    assert_eq!(client.patch(&cluster("hub1"), &json!({"tags": {}})).await.code(), "ClusterCreationFailed");
    let again = client.put(&cluster("hub1"), &wanted()).await;
    assert_eq!((again.status, states(&again)), (200, ("Creating", "Creating")));
    double.advance(LONG);
    let there = client.get(&cluster("hub1")).await;
    assert_eq!((states(&there), &there.body["properties"]["stateReason"]), (("Running", "Succeeded"), &Value::Null));
    double.assert_fine();
}

#[tokio::test]
async fn a_deleted_cluster_is_gone_after_a_while() {
    let (double, client) = start().await;
    with_central(&double);
    assert_eq!(client.send("DELETE", &cluster("central"), None).await.status, 202);
    assert_eq!(states(&client.get(&cluster("central")).await), ("Deleting", "Deleting"));
    double.advance(LONG);
    assert_eq!(client.get(&cluster("central")).await.refusal(), (404, "ResourceNotFound"));
    assert_eq!(client.get(&cluster("central/databases/Metrics")).await.refusal(), (404, "ResourceNotFound"));
    assert_eq!(
        client.put(&cluster("central/databases/Logs"), &wanted_database()).await.refusal(),
        (404, "ParentResourceNotFound")
    );
    assert_eq!(client.send("DELETE", &cluster("central"), None).await.status, 204);
    double.assert_fine();
}

/// A body with something else in it.
fn but(body: Value, pointer: &str, value: Value) -> Value {
    let mut body = body;
    *body.pointer_mut(pointer).expect("it is there") = value;
    body
}

#[tokio::test]
async fn a_cluster_that_azure_does_not_take_is_refused_and_not_there() {
    type Edit = fn(&mut World);
    let nothing: Edit = |_| {};
    let autoscale = json!({"optimizedAutoscale": {"version": 1, "isEnabled": true, "minimum": 3, "maximum": 2}});
    let sku = |name: &str, tier: &str, capacity: i64| {
        but(wanted(), "/sku", json!({"name": name, "tier": tier, "capacity": capacity}))
    };
    let cases: Vec<(Edit, &str, Value, (u16, &str))> = vec![
        (
            |world| world.subscriptions.values_mut().for_each(|known| known.groups.clear()),
            "hub1",
            wanted(),
            (404, "ResourceGroupNotFound"),
        ),
        (|world| world.forbidden = Some("clusters/write".to_owned()), "hub1", wanted(), (403, "AuthorizationFailed")),
        (|world| world.locked = Some("/resourceGroups/fleet".to_owned()), "hub1", wanted(), (409, "ScopeLocked")),
        (|world| world.quota_exceeded = true, "hub1", wanted(), (409, "QuotaExceeded")),
        (
            |world| {
                world.names_taken_elsewhere.insert("hub1".to_owned());
            },
            "hub1",
            wanted(),
            (409, "NameAlreadyExists"),
        ),
        (
            |world| {
                world.add_cluster("other", "hub1", "East US 2");
            },
            "hub1",
            wanted(),
            (409, "NameAlreadyExists"),
        ),
        (nothing, "hub", wanted(), (400, "InvalidResourceName")),
        (nothing, "1hub", wanted(), (400, "InvalidResourceName")),
        (nothing, "hub1", but(wanted(), "/location", json!("mars")), (400, "LocationNotAvailableForResourceType")),
        (nothing, "hub1", sku("Standard_D14_v2", "Standard", 2), (400, "SkuNotAvailable")),
        (
            |world| {
                world.offers[2].restricted_in.insert("East US 2".to_owned());
            },
            "hub1",
            wanted(),
            (400, "SkuNotAvailable"),
        ),
        (nothing, "hub1", sku("Standard_L8as_v3", "Basic", 2), (400, "InvalidSkuTier")),
        (nothing, "hub1", sku("Standard_L8as_v3", "Standard", 1), (400, "InvalidSkuCapacity")),
        (nothing, "hub1", sku("Dev(No SLA)_Standard_E2a_v4", "Basic", 2), (400, "InvalidSkuCapacity")),
        (nothing, "hub1", but(wanted(), "/properties", autoscale), (400, "InvalidOptimizedAutoscale")),
        (nothing, "hub1", but(wanted(), "/identity", json!({"type": "UserAssigned"})), (400, "InvalidIdentity")),
    ];
    for (edit, name, body, refusal) in cases {
        let (double, client) = start().await;
        double.edit(|world| world.add_group("fleet", "eastus2"));
        double.edit(edit);
        let answer = client.put(&cluster(name), &body).await;
        assert_eq!(answer.refusal(), refusal, "{name} {body}");
        assert_eq!(client.get(&cluster(name)).await.status, 404);
        // What only Azure can know is no fault of the client.
        double.assert_fine();
    }
}

#[tokio::test]
async fn a_cluster_stays_where_it_is() {
    let (double, client) = start().await;
    with_central(&double);
    let elsewhere = but(wanted(), "/location", json!("westeurope"));
    assert_eq!(client.put(&cluster("central"), &elsewhere).await.refusal(), (409, "InvalidResourceLocation"));
    double.assert_fine();
}

#[tokio::test]
async fn a_right_on_something_else_is_no_right() {
    let (double, client) = start().await;
    with_central(&double);
    double.edit(|world| world.forbidden = Some("databases/write".to_owned()));
    assert_eq!(
        client.put(&cluster("central/databases/Logs"), &wanted_database()).await.refusal(),
        (403, "AuthorizationFailed")
    );
    assert_eq!(client.get(&cluster("central/databases/Metrics")).await.status, 200);
    assert_eq!(client.patch(&cluster("central"), &json!({"tags": {}})).await.status, 202);
    double.assert_fine();
}
