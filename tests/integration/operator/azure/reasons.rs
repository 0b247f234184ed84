//! Everything that keeps a cluster from being made: its own reason, Azure's code and text, the right next step, and how it goes on once it is mended.

use std::time::Duration;

use serde_json::Value;
use tests::{
    azure::{AzureDouble, Fault, FaultKind, Imds},
    cluster::{Operator, TestNamespace, condition_of, message_of},
};
use tokio::time;

use super::support::{azure, operator, until, until_provisioned, with_spec, zero_config};
use crate::support::until_event;

/// A namespace with a double of Azure and an operator for many cases, one after another.
struct Stage {
    test: TestNamespace,
    azure: AzureDouble,
    _operator: Operator,
}

impl Stage {
    async fn new(name: &str) -> Self {
        let test = TestNamespace::new(name).await;
        let azure = azure().await;
        let operator = operator(&test, &azure).await;
        Self { test, azure, _operator: operator }
    }

    /// A name that begins with `start`.
    fn name(&self, start: &str) -> String {
        let suffix = self.test.name.rsplit('-').next().unwrap_or_default();
        format!("{start}{suffix}")
    }

    /// Waits until `ClusterReady` is false for this reason with these words, and whether that is `Stalled`.
    async fn refused(&self, name: &str, reason: &str, words: &[&str], is_stalled: bool) -> Value {
        let object = self.test.until_condition("ADXCluster", name, "ClusterReady", "False", reason).await;
        let message = message_of(&object, "ClusterReady");
        for word in words {
            assert!(message.contains(word), "'{word}' is not in: {message}");
        }
        assert_eq!(condition_of(&object, "Ready").expect("it is told")["reason"], reason, "{object:#}");
        assert_eq!(condition_of(&object, "Stalled").is_some(), is_stalled, "{object:#}");
        until_event(&self.test, reason, words.first().copied().unwrap_or_default()).await;
        object
    }

    /// It goes on until everything is there; the object goes and leaves Azure alone.
    async fn completes(&self, name: &str) {
        let object = until_provisioned(&self.test, name).await;
        assert_eq!(object["status"]["provision"]["failures"], Value::Null, "{object:#}");
        self.azure.assert_fine();
        let api = self.test.api("ADXCluster");
        api.delete(name, &kube::api::DeleteParams::default()).await.expect("it can be deleted");
        self.test.until("ADXCluster", name, Value::is_null).await;
    }

    fn fault(&self, method: &'static str, path: &str, kind: FaultKind) {
        self.azure.fault(Fault { method, path_contains: path.to_owned(), skip: 0, times: 1, kind });
    }

    /// The same each time, until somebody mends it: what is told of it is told for as long.
    fn fault_until_mended(&self, method: &'static str, path: &str, kind: FaultKind) {
        self.azure.fault(Fault { method, path_contains: path.to_owned(), skip: 0, times: 1000, kind });
    }

    fn writes(&self, name: &str) -> usize {
        let requests = self.azure.requests();
        requests.iter().filter(|seen| seen.is_write() && seen.cluster.as_deref() == Some(name)).count()
    }
}

fn answer(status: u16, code: &str, message: &str) -> FaultKind {
    FaultKind::Answer { status, code: code.to_owned(), message: message.to_owned(), retry_after: None }
}

#[tokio::test]
async fn what_azure_refuses_goes_on_once_somebody_mends_it_there() {
    let stage = Stage::new("refusals").await;
    let Stage { test, azure, .. } = &stage;

    let name = stage.name("denied");
    azure.edit(|world| world.forbidden = Some("Microsoft.Kusto/clusters/write".to_owned()));
    test.apply(&zero_config(&name)).await;
    let words = ["AuthorizationFailed", "does not have authorization", "Azure roles"];
    stage.refused(&name, "Forbidden", &words, true).await;
    azure.edit(|world| world.forbidden = None);
    stage.completes(&name).await;

    let name = stage.name("locked");
    azure.edit(|world| world.locked = Some(name.clone()));
    test.apply(&zero_config(&name)).await;
    stage.refused(&name, "Locked", &["ScopeLocked", "remove the lock"], true).await;
    azure.edit(|world| world.locked = None);
    stage.completes(&name).await;

    let name = stage.name("quota");
    azure.edit(|world| world.quota_exceeded = true);
    test.apply(&zero_config(&name)).await;
    stage.refused(&name, "QuotaExceeded", &["QuotaExceeded", "Total Regional Cores quota"], true).await;
    azure.edit(|world| world.quota_exceeded = false);
    stage.completes(&name).await;

    let name = stage.name("policy");
    let refusal = answer(403, "RequestDisallowedByPolicy", "tags are missing");
    stage.fault_until_mended("PUT", &format!("clusters/{name}?"), refusal);
    test.apply(&zero_config(&name)).await;
    stage.refused(&name, "DisallowedByPolicy", &["RequestDisallowedByPolicy: tags are missing"], true).await;
    azure.clear_faults();
    stage.completes(&name).await;

    let name = stage.name("taken");
    azure.edit(|world| world.names_taken_elsewhere.insert(name.clone()));
    test.apply(&zero_config(&name)).await;
    let words = [&format!("spec.clusterName = {name}: must be a name that nobody has"), "is already taken"];
    stage.refused(&name, "NameTaken", &words.map(|word| word), true).await;
    azure.edit(|world| world.names_taken_elsewhere.clear());
    stage.completes(&name).await;
}

#[tokio::test]
async fn an_operation_that_fails_is_told_and_tried_again() {
    let stage = Stage::new("failing").await;
    for (start, code, reason) in
        [("fails", "InternalOperationError", "AzureFailed"), ("full", "AllocationFailed", "QuotaExceeded")]
    {
        let name = stage.name(start);
        let kind = FaultKind::OperationFails { code: code.to_owned(), message: "no machines".to_owned() };
        stage.fault_until_mended("PUT", &format!("clusters/{name}?"), kind);
        stage.test.apply(&zero_config(&name)).await;
        let words = ["failed to create the cluster", &format!("{code}: no machines")];
        let object = stage.refused(&name, reason, &words, reason == "QuotaExceeded").await;
        assert_eq!(object["status"]["provision"]["failures"][0]["code"], code);
        stage.azure.clear_faults();
        stage.completes(&name).await;
        // The cluster whose creation failed is written again, not made beside it.
        let puts = stage.azure.requests();
        let puts = puts.iter().filter(|seen| seen.method == "PUT" && seen.path.ends_with(&name));
        let only_new: Vec<_> = puts.map(|seen| seen.if_none_match.as_deref()).collect();
        assert!(only_new.len() > 1, "it is tried again");
        assert_eq!(only_new[0], Some("*"));
        assert!(only_new[1..].iter().all(Option::is_none), "{only_new:?}");
    }
    // One that Azure never takes holds up no other.
    let name = stage.name("bad");
    let kind = answer(400, "InvalidDatabase", "not this one");
    let path_contains = format!("clusters/{name}/databases/Bad?");
    stage.azure.fault(Fault { method: "PUT", path_contains, skip: 0, times: 1, kind });
    let databases = |first: &str| {
        format!(
            "databases: [{{databaseName: {first}, telemetryType: Logs}}, {{databaseName: Good, telemetryType: Logs}}]"
        )
    };
    stage.test.apply(&with_spec(&name, &databases("Bad"))).await;
    let object = stage.test.until_condition("ADXCluster", &name, "DatabasesReady", "False", "Refused").await;
    assert!(message_of(&object, "DatabasesReady").contains("InvalidDatabase: not this one"));
    until("the other is there", async || stage.azure.edit(|world| world.cluster(&name).databases.contains_key("good")))
        .await;
    time::sleep(Duration::from_secs(2)).await;
    let tries = stage.azure.requests().iter().filter(|seen| seen.path.ends_with("/databases/Bad")).count();
    assert_eq!(tries, 1, "what Azure called wrong is not asked for again as it was");
    stage.test.apply(&with_spec(&name, &databases("Right"))).await;
    stage.completes(&name).await;

    // A database's, whose cluster works meanwhile.
    let name = stage.name("nodb");
    let kind = FaultKind::OperationFails { code: "InternalError".to_owned(), message: "no room".to_owned() };
    stage.fault_until_mended("PUT", &format!("clusters/{name}/databases/Logs"), kind);
    stage.test.apply(&zero_config(&name)).await;
    let object = stage.test.until_condition("ADXCluster", &name, "DatabasesReady", "False", "AzureFailed").await;
    assert!(
        message_of(&object, "DatabasesReady").contains("failed to create the database 'Logs': InternalError: no room")
    );
    assert_eq!(condition_of(&object, "ClusterReady").expect("it is told")["status"], "True");
    stage.azure.clear_faults();
    stage.completes(&name).await;
}

#[tokio::test]
async fn what_is_wrong_with_the_spec_waits_for_the_spec() {
    let stage = Stage::new("specs").await;
    let Stage { test, azure, .. } = &stage;

    // Azure found something that we do not know: not asked again until the spec changes.
    let name = stage.name("refused");
    stage.fault("PUT", &format!("clusters/{name}?"), answer(400, "InvalidRequestContent", "Azure's own rule"));
    test.apply(&zero_config(&name)).await;
    stage.refused(&name, "Refused", &["InvalidRequestContent: Azure's own rule"], true).await;
    let before = stage.writes(&name);
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.writes(&name), before, "nothing is tried again although three intervals went by");
    test.apply(&with_spec(&name, "databases: [{databaseName: Metrics, telemetryType: Metrics}]")).await;
    stage.completes(&name).await;

    for (start, wrong, reason, words, right) in [
        (
            "sku",
            "provision: {skuName: Standard_D14_v2}",
            "SkuNotAvailable",
            "spec.provision.skuName = Standard_D14_v2: must be one that this subscription may have in eastus2: Dev(No SLA)",
            "provision: {skuName: Standard_E8ads_v5}",
        ),
        (
            "tier",
            "provision: {tier: Premium}",
            "InvalidTier",
            "spec.provision.tier = Premium: must be Standard or Basic",
            "provision: {tier: Standard}",
        ),
        (
            "devsku",
            "provision: {skuName: 'Dev(No SLA)_Standard_E2a_v4', autoScale: true}",
            "Invalid",
            "spec.provision.autoScale = true: must be false",
            "provision: {skuName: 'Dev(No SLA)_Standard_E2a_v4'}",
        ),
        (
            "keep",
            "databases: [{databaseName: D, telemetryType: Logs, retentionPolicy: forever}]",
            "Invalid",
            "spec.databases[0].retentionPolicy = forever: must be a time span",
            "databases: [{databaseName: D, telemetryType: Logs, retentionPolicy: '{\"SoftDeletePeriod\": \"90.00:00:00\"}'}]",
        ),
        (
            "nodes",
            "provision: {resourceGroup: MC_rg_aks_eastus2}",
            "Invalid",
            "must not begin with MC_",
            "provision: {resourceGroup: rg}",
        ),
        (
            "place",
            "provision: {subscriptionId: mine}",
            "Invalid",
            "spec.provision.subscriptionId = mine",
            "provision: {subscriptionId: 11111111-1111-1111-1111-111111111111}",
        ),
    ] {
        let name = stage.name(start);
        test.apply(&with_spec(&name, wrong)).await;
        stage.refused(&name, reason, &[words], true).await;
        assert_eq!(stage.writes(&name), 0);
        test.apply(&with_spec(&name, right)).await;
        stage.completes(&name).await;
    }
    let dev = stage.name("devsku");
    let sku = azure.edit(|world| world.cluster(&dev).sku.clone());
    assert_eq!((sku.tier.as_str(), sku.capacity), ("Basic", 1));
    let kept = stage.name("keep");
    let period = azure.edit(|world| world.cluster(&kept).databases["d"].soft_delete_period.clone());
    assert_eq!(period.as_deref(), Some("P90D"));
}

#[tokio::test]
async fn what_a_subscription_or_a_region_lacks_is_dealt_with() {
    let stage = Stage::new("regions").await;
    let Stage { test, azure, .. } = &stage;

    // A subscription that has never had a cluster is registered first.
    let name = stage.name("first");
    azure.edit(|world| {
        let subscription = world.subscriptions.values_mut().next().expect("there is one");
        subscription.registration = "NotRegistered".to_owned();
    });
    test.apply(&zero_config(&name)).await;
    stage.completes(&name).await;
    let registered = azure.requests().iter().filter(|seen| seen.path.ends_with("/register")).count();
    assert_eq!(registered, 1, "once, however long it takes");
    until_event(test, "RegisteringProvider", "Microsoft.Kusto").await;

    // The preferred SKUs are not to be had: the next best, and people are told.
    let name = stage.name("other");
    azure.edit(|world| {
        for offer in world.offers.iter_mut().filter(|offer| offer.name.starts_with("Standard_L")) {
            offer.restricted_in.insert("East US 2".to_owned());
        }
    });
    test.apply(&zero_config(&name)).await;
    stage.completes(&name).await;
    assert_eq!(azure.edit(|world| world.cluster(&name).sku.name.clone()), "Standard_E8ads_v5");
    until_event(test, "SkuChosen", "Standard_L8as_v3 is not to be had in eastus2").await;
    let name = stage.name("none");
    azure.edit(|world| world.offers.retain(|offer| offer.tier == "Basic"));
    test.apply(&zero_config(&name)).await;
    stage.refused(&name, "SkuNotAvailable", &["no SKU of tier Standard in eastus2"], true).await;
    assert_eq!(stage.writes(&name), 0);
}

#[tokio::test]
async fn where_a_cluster_goes_must_be_known_and_stays() {
    let stage = Stage::new("places").await;
    let Stage { test, azure, .. } = &stage;
    azure.set_imds(Imds::Absent);
    let name = stage.name("where");
    test.apply(&zero_config(&name)).await;
    let words = [
        "spec.provision.subscriptionId (or --azure-subscription)",
        "spec.provision.location (or --azure-location)",
        "404",
    ];
    stage.refused(&name, "PlaceUnknown", &words, true).await;
    assert_eq!(azure.requests().len(), 0);
    // The machine says it again.
    azure.set_imds(Imds::default());
    let object = until_provisioned(test, &name).await;
    // Another machine, another place: the cluster stays where it is.
    azure.set_imds(Imds::Answers {
        subscription_id: "22222222-2222-2222-2222-222222222222".to_owned(),
        resource_group: "other".to_owned(),
        location: "westeurope".to_owned(),
    });
    test.apply(&with_spec(&name, "provision: {location: West Europe}")).await;
    let words = ["spec.provision.location = westeurope: must stay 'eastus2'"];
    let moved = stage.refused(&name, "PlaceIsFixed", &words, true).await;
    assert_eq!(moved["status"]["endpoint"], object["status"]["endpoint"]);
    let renamed = with_spec(&name, "").replace(&format!("clusterName: {name}"), "clusterName: renamed");
    test.apply(&renamed).await;
    stage.refused(&name, "NameIsFixed", &[&format!("must stay '{name}'")], true).await;
    test.apply(&with_spec(&name, "provision: {location: East US 2}")).await;
    stage.completes(&name).await;

    // Two objects of one cluster would fight: the elder has it. An elder that is another operator's is made where that one says.
    let name = stage.name("twice");
    let elsewhere = with_spec(&name, "criteriaExpression: \"'here' == 'elsewhere'\"");
    test.apply(&elsewhere.replace(&format!("{{name: {name}}}"), &format!("{{name: {name}-elsewhere}}"))).await;
    time::sleep(Duration::from_secs(1)).await;
    test.apply(&zero_config(&name)).await;
    until_provisioned(test, &name).await;
    time::sleep(Duration::from_secs(1)).await;
    let second = format!("{name}-second");
    test.apply(&zero_config(&name).replace(&format!("{{name: {name}}}"), &format!("{{name: {second}}}"))).await;
    stage
        .refused(&second, "DuplicateCluster", &[&format!("spec.clusterName = {name}: must be the only one")], true)
        .await;
    // Once that is gone, the younger has it.
    stage.completes(&name).await;
    until_provisioned(test, &second).await;
}
