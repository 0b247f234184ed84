//! From a document to a cluster that works.

use serde_json::{Value, json};
use tests::cluster::{TestNamespace, condition_of};

use super::support::{azure, name_for, operator, until_provisioned, zero_config};

#[tokio::test]
async fn a_name_alone_becomes_a_running_cluster() {
    let test = TestNamespace::new("zero").await;
    let azure = azure().await;
    let operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&zero_config(&name)).await;
    let object = until_provisioned(&test, &name).await;
    assert_eq!(condition_of(&object, "Ready").expect("it is told")["status"], "True", "{object:#}");
    let status = &object["status"];
    assert_eq!(status["endpoint"], format!("https://{name}.eastus2.kusto.windows.net"));
    assert_eq!(status["provision"]["location"], "eastus2");
    // Not the nodes' group, which the metadata service tells.
    assert_eq!(status["provision"]["resourceGroup"], "adx-mon-eastus2");
    assert_eq!(status["provision"]["skuName"], "Standard_L8as_v3");
    assert_eq!(status["provision"]["state"], "Running");
    assert_eq!(status["provision"]["operation"], Value::Null);
    // What was detected is nothing that somebody wished.
    assert_eq!(object["spec"]["provision"], Value::Null);
    let cluster = azure.cluster(&name).expect("it is in Azure");
    assert_eq!(cluster["properties"]["enableStreamingIngest"], true);
    assert_eq!(cluster["sku"], json!({"name": "Standard_L8as_v3", "tier": "Standard", "capacity": 2}));
    assert_eq!(cluster["tags"], json!({"adx-federation": format!("{}/{name}", test.name)}));
    let databases = azure.edit(|world| {
        let databases = world.cluster(&name).databases.values();
        databases.map(|database| (database.name.clone(), database.soft_delete_period.clone())).collect::<Vec<_>>()
    });
    let month = Some("P30D".to_owned());
    assert_eq!(databases, [("Logs".to_owned(), month.clone()), ("Metrics".to_owned(), month)]);
    let requests = azure.take_requests();
    let writes: Vec<_> = requests.iter().filter(|request| request.is_write()).map(|request| &request.method).collect();
    println!("{} requests, {} of them writes, made a cluster with two databases", requests.len(), writes.len());
    for request in &requests {
        println!("{} {} {}", request.method, request.path, request.status);
    }
    assert_eq!(writes, ["PUT", "PUT", "PUT", "PUT"], "a group, a cluster, two databases");
    azure.assert_fine();
    drop(operator);
}
