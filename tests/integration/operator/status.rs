//! What a status says, to the letter.

use serde_json::{Value, json};
use tests::cluster::TestNamespace;

use crate::{
    azure::support::{azure, name_for, operator, until_provisioned, with_spec},
    support::CLUSTER,
};

const IDENTITY: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/x";

/// Of a cluster that is made, and of one that is there.
#[tokio::test]
async fn an_endpoint_and_what_was_applied_last_are_told_to_the_letter() {
    let test = TestNamespace::new("status").await;
    let azure = azure().await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    let spec = format!(
        "provision: {{skuName: Standard_L16as_v3, autoScale: true, autoScaleMin: 3, autoScaleMax: 5, userAssignedIdentities: [{IDENTITY}]}}\n\
         databases: [{{databaseName: Metrics, telemetryType: Metrics, retentionInDays: 90}}, {{databaseName: Logs, telemetryType: Logs}}]"
    );
    test.apply(&with_spec(&name, &spec)).await;
    test.apply(&CLUSTER.replace("https://eu.kusto", "https://EU.Kusto")).await;
    let made = until_provisioned(&test, &name).await;
    assert_eq!(made["status"]["endpoint"], format!("https://{name}.eastus2.kusto.windows.net"));
    let applied = json!({
        "skuName": "Standard_L16as_v3",
        // It follows from the SKU.
        "tier": "Standard",
        "userAssignedIdentities": [IDENTITY],
        "autoScale": {"enabled": true, "min": 3, "max": 5},
        "databases": [
            {"name": "Metrics", "softDeletePeriod": "P90D", "seen": true},
            // The default.
            {"name": "Logs", "softDeletePeriod": "P30D", "seen": true},
        ],
    });
    assert_eq!(made["status"]["appliedProvisionState"], applied);
    let existing = test.until_condition("ADXCluster", "eu", "Ready", "True", "Ready").await;
    assert_eq!(existing["status"]["endpoint"], "https://eu.kusto.windows.net", "one spelling of one cluster");
    assert_eq!(existing["status"]["appliedProvisionState"], Value::Null, "nothing is applied to it");
    azure.assert_fine();
}
