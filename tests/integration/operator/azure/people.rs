//! What people do in Azure stays, and what the operator cannot see it does not change.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    azure::{AzureDouble, Fault, FaultKind},
    cluster::{TestNamespace, condition_of, message_of},
};
use tokio::time;

use super::support::{LONG, azure, name_for, operator, until, until_provisioned, with_spec, zero_config};
use crate::support::until_event;

const X: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/x";
const Y: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/y";

fn writes(azure: &AzureDouble) -> Vec<String> {
    let requests = azure.take_requests();
    requests.iter().filter(|seen| seen.is_write()).map(|seen| format!("{} {}", seen.method, seen.path)).collect()
}

/// Longer than three looks.
async fn three_looks() {
    time::sleep(Duration::from_millis(3500)).await;
}

fn has_note(object: &Value, words: &str) -> bool {
    let notes = object["status"]["provision"]["notes"].as_array();
    notes.is_some_and(|notes| notes.iter().any(|note| note.as_str().is_some_and(|note| note.contains(words))))
}

#[tokio::test]
async fn changes_of_the_spec_are_made_and_changes_in_azure_stay() {
    let test = TestNamespace::new("changes").await;
    let azure = azure().await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    let spec = |sku: &str, max: i32, identities: &str, days: i32| {
        with_spec(
            &name,
            &format!(
                "provision: {{skuName: {sku}, autoScale: true, autoScaleMin: 2, autoScaleMax: {max}, userAssignedIdentities: [{identities}]}}\n\
                 databases: [{{databaseName: Logs, telemetryType: Logs, retentionInDays: {days}}}]"
            ),
        )
    };
    test.apply(&spec("Standard_L8as_v3", 8, X, 30)).await;
    until_provisioned(&test, &name).await;
    assert_eq!(azure.take_requests().iter().filter(|seen| seen.method == "PATCH").count(), 0, "made right at once");

    // Everything at once: one PATCH for the cluster, one PUT for the database.
    test.apply(&spec("Standard_L16as_v3", 12, Y, 60)).await;
    let shown = || azure.cluster(&name).expect("it is there");
    test.until("ADXCluster", &name, |_| {
        let cluster = shown();
        cluster["sku"]["name"] == "Standard_L16as_v3" && cluster["properties"]["provisioningState"] == "Succeeded"
    })
    .await;
    until_provisioned(&test, &name).await;
    let cluster = shown();
    assert_eq!(
        cluster["properties"]["optimizedAutoscale"],
        json!({"version": 1, "isEnabled": true, "minimum": 2, "maximum": 12})
    );
    let identities: Vec<_> = cluster["identity"]["userAssignedIdentities"].as_object().into_iter().flatten().collect();
    assert_eq!(identities.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [Y]);
    assert_eq!(cluster["properties"]["enableStreamingIngest"], true, "what nobody asked for stays");
    let period = |name: &str| azure.edit(|world| world.cluster(name).databases["logs"].soft_delete_period.clone());
    assert_eq!(period(&name).as_deref(), Some("P60D"));
    let mut made = writes(&azure);
    made.sort();
    assert_eq!(made.len(), 2, "{made:?}");
    until_event(&test, "UpdatingCluster", "the SKU from Standard_L8as_v3 to Standard_L16as_v3").await;

    // People: another SKU, more nodes, an identity of theirs, ours taken away, longer retention.
    azure.edit(|world| {
        let cluster = world.cluster(&name);
        cluster.sku.name = "Standard_L32as_v3".to_owned();
        cluster.sku.capacity = 7;
        cluster.user_identities = [X.to_owned()].into();
        cluster.properties.insert(
            "optimizedAutoscale".to_owned(),
            json!({"version": 1, "isEnabled": false, "minimum": 2, "maximum": 12}),
        );
        cluster.databases.get_mut("logs").expect("it is there").soft_delete_period = Some("P365D".to_owned());
    });
    let object = test.until("ADXCluster", &name, |object| has_note(object, "Standard_L32as_v3")).await;
    for words in
        ["spec.provision.skuName", "spec.provision.autoScale", "userAssignedIdentities", "keeps rows for P365D"]
    {
        assert!(has_note(&object, words), "{words}: {object:#}");
    }
    three_looks().await;
    assert_eq!(writes(&azure), Vec::<String>::new());
    // The next wish of the spec is made, and only that.
    test.apply(&spec("Standard_L8as_v3", 12, Y, 60)).await;
    test.until("ADXCluster", &name, |_| shown()["sku"]["name"] == "Standard_L8as_v3").await;
    until_provisioned(&test, &name).await;
    let cluster = shown();
    assert_eq!(
        (&cluster["sku"]["capacity"], &cluster["properties"]["optimizedAutoscale"]["isEnabled"]),
        (&json!(7), &json!(false))
    );
    assert_eq!((writes(&azure).len(), period(&name).as_deref()), (1, Some("P365D")));
    azure.assert_fine();
}

#[tokio::test]
async fn a_cluster_that_was_there_before_is_taken_as_it_is_and_left_as_it_is() {
    let test = TestNamespace::new("adopted").await;
    let azure = azure().await;
    let name = name_for(&test);
    azure.edit(|world| {
        let cluster = world.add_cluster("rg", &name, "West Europe");
        cluster.sku.name = "Standard_E8ads_v5".to_owned();
        let mut logs = tests::azure::Database::ready("Logs");
        logs.soft_delete_period = Some("P365D".to_owned());
        cluster.databases.insert("logs".to_owned(), logs);
    });
    let _operator = operator(&test, &azure).await;
    let spec = "provision: {resourceGroup: rg, location: westeurope, skuName: Standard_L8as_v3}";
    test.apply(&with_spec(&name, spec)).await;
    let object = until_provisioned(&test, &name).await;
    assert_eq!(object["status"]["endpoint"], format!("https://{name}.westeurope.kusto.windows.net"));
    assert!(
        has_note(&object, "Azure has Standard_E8ads_v5") && has_note(&object, "keeps rows for P365D"),
        "{object:#}"
    );
    let made = writes(&azure);
    assert_eq!(made.len(), 1, "only the database that was missing: {made:?}");
    assert!(made[0].ends_with("/databases/Metrics"));
    // The object goes; Azure keeps everything.
    test.api("ADXCluster").delete(&name, &kube::api::DeleteParams::default()).await.expect("it can be deleted");
    test.until("ADXCluster", &name, Value::is_null).await;
    three_looks().await;
    assert_eq!(writes(&azure), Vec::<String>::new());
    assert_eq!(azure.edit(|world| world.cluster(&name).databases.len()), 2);
    azure.assert_fine();
}

#[tokio::test]
async fn what_people_stop_or_delete_stays_so_until_they_say_otherwise() {
    let test = TestNamespace::new("deleted").await;
    let azure = azure().await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&zero_config(&name)).await;
    let object = until_provisioned(&test, &name).await;
    azure.take_requests();

    azure.edit(|world| world.cluster(&name).state = "Stopped".to_owned());
    let stopped = test.until_condition("ADXCluster", &name, "ClusterReady", "False", "Stopped").await;
    assert_eq!(stopped["status"]["endpoint"], object["status"]["endpoint"], "what works with it keeps its address");
    assert!(message_of(&stopped, "Ready").contains("start it there"));
    until_event(&test, "Stopped", "Azure says that the cluster is Stopped").await;
    three_looks().await;
    azure.edit(|world| world.cluster(&name).state = "Running".to_owned());
    until_provisioned(&test, &name).await;

    azure.edit(|world| world.cluster(&name).databases.remove("logs"));
    let object = test.until_condition("ADXCluster", &name, "DatabasesReady", "False", "DatabaseDeleted").await;
    assert!(message_of(&object, "DatabasesReady").contains("the database Logs was there and is not any more"));
    three_looks().await;
    assert_eq!(writes(&azure), Vec::<String>::new());
    // Taken out of the spec, and put back.
    let metrics = "databases:\n  - {databaseName: Metrics, telemetryType: Metrics}\n";
    test.apply(&with_spec(&name, metrics)).await;
    until_provisioned(&test, &name).await;
    test.apply(&with_spec(&name, &format!("{metrics}  - {{databaseName: Logs, telemetryType: Logs}}"))).await;
    until_provisioned(&test, &name).await;
    assert_eq!(writes(&azure).len(), 1);

    azure.edit(|world| world.clusters.remove(&name));
    let object = test.until_condition("ADXCluster", &name, "ClusterReady", "False", "ClusterDeleted").await;
    assert!(message_of(&object, "ClusterReady").contains("make this ADXCluster anew"));
    three_looks().await;
    assert_eq!(writes(&azure), Vec::<String>::new(), "nobody makes a cluster anew that somebody deleted");
    test.api("ADXCluster").delete(&name, &kube::api::DeleteParams::default()).await.expect("it can be deleted");
    test.until("ADXCluster", &name, Value::is_null).await;
    test.apply(&zero_config(&name)).await;
    until_provisioned(&test, &name).await;
    azure.assert_fine();
}

#[tokio::test]
async fn not_to_see_a_cluster_does_not_make_it_one_that_does_not_work() {
    let test = TestNamespace::new("blind").await;
    let azure = azure().await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&zero_config(&name)).await;
    until_provisioned(&test, &name).await;
    let always = |method, kind| Fault { method, path_contains: format!("clusters/{name}"), skip: 0, times: 1000, kind };
    let answer = |status, code: &str, retry_after| FaultKind::Answer {
        status,
        code: code.to_owned(),
        message: "for a while".to_owned(),
        retry_after,
    };
    for (kind, reason) in [
        (FaultKind::Reset, "AzureUnreachable"),
        (FaultKind::Html { status: 502 }, "AzureFailed"),
        (FaultKind::Html { status: 200 }, "UnreadableAnswer"),
        (answer(403, "AuthorizationFailed", None), "Forbidden"),
        (answer(429, "TooManyRequests", Some(1)), "Throttled"),
        (answer(503, "ServerBusy", None), "AzureFailed"),
    ] {
        azure.fault(always("GET", kind));
        let object = test.until_condition("ADXCluster", &name, "Provisioned", "False", reason).await;
        for condition in ["ClusterReady", "DatabasesReady", "Ready"] {
            assert_eq!(condition_of(&object, condition).expect("it is told")["status"], "True", "{reason}: {object:#}");
        }
        azure.clear_faults();
        until_provisioned(&test, &name).await;
    }
    // Azure works on it by itself: nothing is written meanwhile, and the cluster answers.
    azure.take_requests();
    azure.edit(|world| world.begin_maintenance(&name, LONG));
    test.apply(&with_spec(&name, "databases: [{databaseName: New, telemetryType: Logs}]")).await;
    let object = test.until_condition("ADXCluster", &name, "Provisioned", "False", "WaitingForAzure").await;
    assert_eq!(condition_of(&object, "ClusterReady").expect("it is told")["status"], "True");
    azure.advance(LONG);
    until_provisioned(&test, &name).await;
    assert_eq!(writes(&azure).len(), 1);
    // An address that no token may be sent to.
    azure.edit(|world| world.cluster(&name).uri = Some("https://kusto.example.com".to_owned()));
    let object = test.until_condition("ADXCluster", &name, "ClusterReady", "False", "UntrustedEndpoint").await;
    assert!(message_of(&object, "ClusterReady").contains("no Kusto endpoint of the operator's cloud (public)"));
    assert_eq!(object["status"]["endpoint"], format!("https://{name}.eastus2.kusto.windows.net"));
    azure.assert_fine();
}

#[tokio::test]
async fn a_spec_may_change_while_the_cluster_is_being_made() {
    let test = TestNamespace::new("editing").await;
    let mut options = tests::azure::AzureOptions::default();
    options.durations.create = LONG;
    let azure = AzureDouble::start(options).await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    let spec = |sku: &str, database: &str| {
        with_spec(
            &name,
            &format!("provision: {{skuName: {sku}}}\ndatabases: [{{databaseName: {database}, telemetryType: Logs}}]"),
        )
    };
    test.apply(&spec("Standard_L8as_v3", "First")).await;
    test.until("ADXCluster", &name, |object| object["status"]["provision"]["operation"].is_object()).await;
    test.apply(&spec("Standard_L16as_v3", "Second")).await;
    let looks = azure.requests().len();
    until("it is looked at with its edit", async || azure.requests().len() > looks + 1).await;
    azure.advance(LONG);
    test.until("ADXCluster", &name, |_| {
        azure.cluster(&name).is_some_and(|cluster| cluster["sku"]["name"] == "Standard_L16as_v3")
    })
    .await;
    until_provisioned(&test, &name).await;
    let databases = azure.edit(|world| world.cluster(&name).databases.keys().cloned().collect::<Vec<_>>());
    assert_eq!(databases, ["second"]);
    let puts = azure.requests().iter().filter(|seen| seen.method == "PUT" && seen.path.ends_with(&name)).count();
    assert_eq!(puts, 1, "one cluster was made");
    azure.assert_fine();
}

#[tokio::test]
async fn a_wish_that_is_taken_back_while_azure_is_at_work_is_taken_back_there() {
    let test = TestNamespace::new("reverted").await;
    let mut options = tests::azure::AzureOptions::default();
    options.durations.update = Duration::from_secs(2);
    options.durations.database = Duration::from_secs(1);
    let azure = AzureDouble::start(options).await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    let spec = |sku: &str, identity: &str, days: i32| {
        with_spec(
            &name,
            &format!(
                "provision: {{skuName: {sku}, userAssignedIdentities: [{identity}]}}\n\
                 databases: [{{databaseName: Logs, telemetryType: Logs, retentionInDays: {days}}}]"
            ),
        )
    };
    let (small, large) = (spec("Standard_L8as_v3", X, 30), spec("Standard_L16as_v3", Y, 60));
    test.apply(&small).await;
    until_provisioned(&test, &name).await;
    azure.edit(|world| {
        world.cluster(&name).databases.get_mut("logs").expect("it is there").hot_cache_period = Some("P7D".to_owned());
    });
    for method in ["databases/Logs", "clusters/"] {
        azure.take_requests();
        test.apply(&large).await;
        until("Azure is asked for it", async || {
            let requests = azure.requests();
            requests.iter().any(|seen| seen.method == "PATCH" && seen.path.contains(method))
        })
        .await;
        test.apply(&small).await;
        until("all is as it was", async || {
            azure.edit(|world| {
                let cluster = world.cluster(&name);
                let is_ready = cluster.provisioning_state == "Succeeded" && cluster.state == "Running";
                let ids: Vec<_> = cluster.user_identities.iter().cloned().collect();
                let period = cluster.databases["logs"].soft_delete_period.clone();
                is_ready && cluster.sku.name == "Standard_L8as_v3" && ids == [X] && period.as_deref() == Some("P30D")
            })
        })
        .await;
        let object = until_provisioned(&test, &name).await;
        assert_eq!(object["status"]["provision"]["notes"], Value::Null, "{object:#}");
        assert_eq!(object["status"]["provision"]["requested"], Value::Null, "{object:#}");
    }
    // What somebody set beside the retention stays.
    let cached = azure.edit(|world| world.cluster(&name).databases["logs"].hot_cache_period.clone());
    assert_eq!(cached.as_deref(), Some("P7D"));
    azure.assert_fine();
}

#[tokio::test]
async fn a_line_that_is_lost_makes_no_cluster() {
    let test = TestNamespace::new("lost").await;
    let azure = azure().await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&with_spec(&name, "endpoint: https://elsewhere.westeurope.kusto.windows.net")).await;
    test.until_condition("ADXCluster", &name, "Ready", "True", "Ready").await;
    test.apply(&zero_config(&name)).await;
    let object = test.until_condition("ADXCluster", &name, "ClusterReady", "False", "EndpointRemoved").await;
    assert!(message_of(&object, "ClusterReady").contains("was https://elsewhere.westeurope.kusto.windows.net before"));
    assert_eq!(object["status"]["endpoint"], "https://elsewhere.westeurope.kusto.windows.net");
    three_looks().await;
    assert_eq!(writes(&azure), Vec::<String>::new());
    // Names are unique in a region only: one of that name where it would be made is another.
    azure.edit(|world| world.add_cluster("adx-mon-eastus2", &name, "eastus2").uri.clone());
    let object = test
        .until("ADXCluster", &name, |object| {
            message_of(object, "ClusterReady").contains(" is another cluster, https://")
        })
        .await;
    let ready = condition_of(&object, "ClusterReady").expect("it is there");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("EndpointRemoved")));
    assert_eq!(object["status"]["endpoint"], "https://elsewhere.westeurope.kusto.windows.net");
    three_looks().await;
    assert_eq!(writes(&azure), Vec::<String>::new());
    azure.assert_fine();
}

#[tokio::test]
async fn what_others_failed_to_make_or_delete_is_neither_made_over_nor_remembered() {
    let test = TestNamespace::new("others").await;
    let azure = azure().await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    // With no mark, and with another object's.
    for tags in [json!({}), json!({"adx-federation": "elsewhere/other"})] {
        azure.edit(|world| {
            let cluster = world.add_cluster("adx-mon-eastus2", &name, "eastus2");
            cluster.uri = None;
            "Creating".clone_into(&mut cluster.state);
            "Creating".clone_into(&mut cluster.provisioning_state);
            cluster.tags = serde_json::from_value(tags).expect("texts");
        });
        test.apply(&zero_config(&name)).await;
        test.until_condition("ADXCluster", &name, "ClusterReady", "False", "CreatingCluster").await;
        azure.edit(|world| "Failed".clone_into(&mut world.cluster(&name).provisioning_state));
        let object = test.until_condition("ADXCluster", &name, "ClusterReady", "False", "CreationFailed").await;
        assert!(message_of(&object, "ClusterReady").contains("delete it there, or choose another spec.clusterName"));
        assert_eq!(object["status"]["provision"]["resourceId"], Value::Null, "{object:#}");
        three_looks().await;
        assert_eq!(writes(&azure), Vec::<String>::new());
        // Both ways out are ways out.
        azure.edit(|world| world.clusters.remove(&name));
        until_provisioned(&test, &name).await;
        // An object that is made anew while its cluster is still being deleted waits for that.
        azure.edit(|world| {
            let cluster = world.cluster(&name);
            "Deleting".clone_into(&mut cluster.state);
            "Deleting".clone_into(&mut cluster.provisioning_state);
        });
        test.api("ADXCluster").delete(&name, &kube::api::DeleteParams::default()).await.expect("it can be deleted");
        test.until("ADXCluster", &name, Value::is_null).await;
        test.apply(&zero_config(&name)).await;
        let object = test.until_condition("ADXCluster", &name, "ClusterReady", "False", "WaitingForAzure").await;
        assert!(message_of(&object, "ClusterReady").ends_with("it is made anew once that one is gone"));
        azure.edit(|world| world.clusters.remove(&name));
        until_provisioned(&test, &name).await;
        azure.take_requests();
        test.api("ADXCluster").delete(&name, &kube::api::DeleteParams::default()).await.expect("it can be deleted");
        test.until("ADXCluster", &name, Value::is_null).await;
        azure.edit(|world| world.clusters.remove(&name));
    }
    azure.edit(|world| {
        let cluster = world.add_cluster("adx-mon-eastus2", &name, "eastus2");
        cluster.uri = None;
        "Failed".clone_into(&mut cluster.provisioning_state);
    });
    test.apply(&zero_config(&name)).await;
    test.until_condition("ADXCluster", &name, "ClusterReady", "False", "CreationFailed").await;
    let renamed = format!("{name}x");
    test.apply(&zero_config(&name).replace(&format!("clusterName: {name}"), &format!("clusterName: {renamed}"))).await;
    let object = until_provisioned(&test, &name).await;
    assert_eq!(object["status"]["endpoint"], format!("https://{renamed}.eastus2.kusto.windows.net"), "{object:#}");
    assert!(azure.edit(|world| world.cluster(&name).uri.is_none()), "that one is as it was");
    azure.assert_fine();
}
