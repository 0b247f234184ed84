//! What a region offers, names, the subscription, and resource groups.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::support::{LONG, SLOW, cluster, path, start, start_with, wanted, with_central};
use crate::azure::{AzureOptions, SUBSCRIPTION};

#[tokio::test]
async fn skus_have_display_names_and_restrictions_of_the_region_that_was_asked_for() {
    let (double, client) =
        start_with(AzureOptions { durations: SLOW, plain: true, page_size: 100, ..AzureOptions::default() }).await;
    double.edit(|world| {
        world.offers[0].locations = vec!["West Europe".to_owned()];
        world.offers[1].restricted_in.insert("West Europe".to_owned());
        world.offers[2].restricted_in.insert("East US 2".to_owned());
    });
    let skus = |location: &'static str| {
        let client = &client;
        async move {
            let answer = client.get(&path(&format!("/providers/Microsoft.Kusto/locations/{location}/skus"))).await;
            assert_eq!(answer.status, 200);
            answer.body["value"].as_array().expect("it is a list").clone()
        }
    };
    let named =
        |skus: &[Value]| skus.iter().map(|sku| sku["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    let restricted = |skus: &[Value]| {
        let restricted: Vec<Value> = skus.iter().filter(|sku| sku["restrictions"] != json!([])).cloned().collect();
        restricted
    };
    let (east, shouted, west) = (skus("eastus2").await, skus("East%20US%202").await, skus("westeurope").await);
    assert_eq!(east, shouted);
    assert_eq!((east.len(), west.len()), (4, 5));
    assert_eq!(named(&west)[0], "Dev(No SLA)_Standard_E2a_v4");
    assert!(east.iter().all(|sku| sku["locations"] == json!(["East US 2"]) && sku["resourceType"] == "clusters"));
    assert_eq!(named(&restricted(&east)), ["Standard_L8as_v3"]);
    assert_eq!(named(&restricted(&west)), ["Standard_E8ads_v5"]);
    assert_eq!(restricted(&east)[0]["restrictions"][0]["reasonCode"], "NotAvailableForSubscription");
    assert_eq!(skus("mars").await, Vec::<Value>::new());
    double.assert_fine();
}

#[tokio::test]
async fn lists_come_in_pages_whose_links_begin_with_the_public_address() {
    let public_url = Some("https://azure.example/".to_owned());
    let options = AzureOptions { durations: SLOW, plain: true, page_size: 2, public_url, ..AzureOptions::default() };
    let (double, client) = start_with(options).await;
    double.edit(|world| {
        for index in 0..5 {
            world.add_cluster("fleet", &format!("central{index}"), "East US 2");
        }
    });
    for (list, total) in [
        (path("/providers/Microsoft.Kusto/locations/eastus2/skus"), 5),
        (path("/providers/Microsoft.Kusto/clusters"), 5),
        (cluster("").trim_end_matches('/').to_owned(), 5),
    ] {
        let (mut names, mut sizes, mut next) = (BTreeSet::new(), Vec::new(), format!("{list}?api-version=2025-02-14"));
        loop {
            let page = client.get(&next).await.body;
            let entries = page["value"].as_array().expect("it is a list");
            sizes.push(entries.len());
            names.extend(entries.iter().map(|entry| entry["name"].to_string()));
            let Some(link) = page["nextLink"].as_str() else { break };
            next = link.strip_prefix("https://azure.example").expect("it is the public address").to_owned();
        }
        assert_eq!((names.len(), sizes), (total, vec![2, 2, 1]), "{list}");
    }
    let begun = client.post(&cluster("central1/stop")).await;
    for header in ["location", "azure-asyncoperation"] {
        assert!(begun.header(header).starts_with("https://azure.example/subscriptions/"), "{begun:?}");
    }
    double.assert_fine();
}

#[tokio::test]
async fn a_name_is_free_or_says_why_not() {
    let (double, client) = start().await;
    with_central(&double);
    double.edit(|world| {
        world.names_taken_elsewhere.insert("strangers".to_owned());
    });
    let to = path("/providers/Microsoft.Kusto/locations/eastus2/checkNameAvailability");
    for (name, is_free, reason) in [
        ("nobodyhasit", true, Value::Null),
        ("central", false, json!("AlreadyExists")),
        ("strangers", false, json!("AlreadyExists")),
        ("Central", false, json!("Invalid")),
        ("abc", false, json!("Invalid")),
        ("abcd", true, Value::Null),
        ("abcdefghijklmnopqrstuv", true, Value::Null),
        ("abcdefghijklmnopqrstuvw", false, json!("Invalid")),
        ("1abc", false, json!("Invalid")),
        ("with-hyphen", false, json!("Invalid")),
    ] {
        let body = json!({"name": name, "type": "Microsoft.Kusto/clusters"});
        let answer = client.send("POST", &to, Some(&body)).await;
        assert_eq!(
            (answer.status, &answer.body["nameAvailable"], &answer.body["reason"]),
            (200, &json!(is_free), &reason),
            "{name}"
        );
    }
    assert!(double.requests().iter().all(|request| !request.is_write()), "it asks, and changes nothing");
    double.assert_fine();
}

#[tokio::test]
async fn nothing_is_to_be_had_before_the_provider_is_registered() {
    let (double, client) = start().await;
    double.edit(|world| {
        world.add_group("fleet", "eastus2");
        "NotRegistered".clone_into(&mut world.subscriptions.get_mut(SUBSCRIPTION).expect("it is there").registration);
    });
    let name = json!({"name": "hub1", "type": "Microsoft.Kusto/clusters"});
    let locations = path("/providers/Microsoft.Kusto/locations/eastus2");
    let attempts = || async {
        let answers = [
            client.get(&format!("{locations}/skus")).await,
            client.send("POST", &format!("{locations}/checkNameAvailability"), Some(&name)).await,
            client.put(&cluster("hub1"), &wanted()).await,
        ];
        answers.map(|answer| (answer.status, answer.code().to_owned()))
    };
    let refused = || [(); 3].map(|()| (409, "MissingSubscriptionRegistration".to_owned()));
    let registration = |answer: super::support::Answered| (answer.status, answer.body["registrationState"].clone());
    let provider = path("/providers/Microsoft.Kusto");
    assert_eq!(
        (registration(client.get(&provider).await), attempts().await),
        ((200, json!("NotRegistered")), refused())
    );
    assert_eq!(registration(client.post(&format!("{provider}/register")).await), (200, json!("Registering")));
    double.advance(LONG / 2);
    // Another registration does not begin anew.
    assert_eq!(registration(client.post(&format!("{provider}/register")).await), (200, json!("Registering")));
    assert_eq!(attempts().await, refused());
    double.advance(LONG / 2);
    assert_eq!(registration(client.get(&provider).await), (200, json!("Registered")));
    assert_eq!(attempts().await.map(|(status, _)| status), [200, 200, 201]);
    assert_eq!(client.get(&path("/providers/Microsoft.Mars")).await.refusal(), (404, "InvalidResourceNamespace"));
    double.assert_fine();
}

#[tokio::test]
async fn a_group_is_made_found_and_stays_where_it_is() {
    let (double, client) = start().await;
    let (fleet, shouted) = (path("/resourcegroups/fleet"), path("/resourceGroups/FLEET"));
    assert_eq!(client.send("HEAD", &fleet, None).await.status, 404);
    assert_eq!(client.get(&fleet).await.refusal(), (404, "ResourceGroupNotFound"));
    let steps = [
        (&fleet, json!({"location": "eastus2"}), (201, "")),
        (&shouted, json!({"location": "East US 2", "tags": {"a": "b"}}), (200, "")),
        (&fleet, json!({"location": "westeurope"}), (409, "InvalidResourceGroupLocation")),
    ];
    for (to, body, refusal) in steps {
        assert_eq!(client.put(to, &body).await.refusal(), refusal);
    }
    assert_eq!(
        client.put(&path("/resourcegroups/ends.with."), &json!({"location": "eastus2"})).await.code(),
        "InvalidResourceGroup"
    );
    let found = client.send("HEAD", &shouted, None).await;
    assert_eq!((found.status, found.text.as_str()), (204, ""));
    let group = client.get(&shouted).await.body;
    assert_eq!(
        (&group["name"], &group["location"], &group["tags"]),
        (&json!("fleet"), &json!("eastus2"), &json!({"a": "b"}))
    );
    let subscription = client.get(&path("")).await.body;
    assert_eq!(subscription["subscriptionId"], SUBSCRIPTION);
    double.edit(|world| {
        let groups: BTreeMap<_, _> = world.subscriptions[SUBSCRIPTION].groups.clone();
        assert_eq!(groups["fleet"].name, "fleet");
    });
    let elsewhere = "/subscriptions/99999999-9999-9999-9999-999999999999/resourcegroups/fleet";
    assert_eq!(client.get(elsewhere).await.refusal(), (404, "SubscriptionNotFound"));
    double.assert_fine();
}
