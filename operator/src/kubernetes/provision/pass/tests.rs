//! Azure's words in what a pass tells. Azure is not asked.

use std::{num::NonZeroU32, time::Duration};

use serde_json::json;
use shared::{credential::CredentialConfig, kusto::Cloud, runtime::Metrics};

use super::*;
use crate::azure::{ArmEndpoint, AzureSettings, Place};

const WORDS: &str = "see https://x/?sig=hunter2";
const TOLD: &str = "see https://x/?…";

fn place() -> Target {
    let [subscription, group, cluster] = ["s", "g", "fleet"].map(str::to_owned);
    Target { path: ClusterPath { subscription, group, cluster }, location: "eastus2".to_owned() }
}

/// Why a cluster with these properties is not ready.
fn stopped(properties: &serde_json::Value) -> String {
    let azure = AzureSettings {
        endpoint: ArmEndpoint::of(Cloud::Public).unwrap(),
        credential: CredentialConfig::None,
        place: Place::default(),
        imds: "http://169.254.169.254".parse().unwrap(),
        requests_per_second: NonZeroU32::MIN,
        interval: Duration::from_secs(1),
    };
    let azure = Azure::new(azure, &Metrics::new()).unwrap();
    let (settings, grants) = (Settings::of_tests(None), Grants::default());
    let object = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "fleet"}, "spec": {"clusterName": "fleet"}});
    let cluster: ADXCluster = serde_json::from_value(object).unwrap();
    let mut pass = Pass {
        azure: &azure,
        settings: &settings,
        cluster: &cluster,
        desired: AppliedProvisionState::default(),
        grants: &grants,
        now: Timestamp::UNIX_EPOCH,
        status: ProvisionStatus::default(),
        applied: None,
        endpoint: None,
        reached: Vec::new(),
        stops: Vec::new(),
        events: Vec::new(),
        there: BTreeSet::new(),
        looks: 0,
    };
    let found = json!({"location": "East US 2", "sku": {"name": "S", "tier": "Standard"}, "properties": properties});
    let stop = pass.see(&place(), &serde_json::from_value(found).unwrap()).unwrap_err();
    assert_eq!(pass.endpoint, None);
    stop.message
}

#[test]
fn azures_words_about_a_name_are_told_without_secrets() {
    let check = |available: bool| json!({"nameAvailable": available, "reason": "AlreadyExists", "message": WORDS});
    let why = |available: bool| taken(&serde_json::from_value(check(available)).unwrap(), &place());
    let stop = why(false).expect("it may not be had");
    let expected = format!("spec.clusterName = fleet: must be a name that nobody has in eastus2: {TOLD}");
    assert_eq!((stop.reason, stop.message), (Reason::NameTaken, expected));
    assert_eq!(why(true), None);
}

#[test]
fn azures_words_about_a_cluster_are_told_without_secrets() {
    let start = ": start it there to have it work; it is not started by itself";
    for (state, end) in [("Stopped", start), ("Starting", "")] {
        let properties = json!({"state": state, "stateReason": WORDS, "uri": "https://x.kusto.windows.net"});
        assert_eq!(stopped(&properties), format!("Azure says that the cluster is {state} ({TOLD}){end}"));
    }
    for (uri, shown) in [
        ("https://x.kusto.windows.net/?sig=hunter2", "https://x.kusto.windows.net/?…"),
        ("me:hunter2@x.kusto.windows.net", "…@x.kusto.windows.net"),
    ] {
        let message = stopped(&json!({"state": "Running", "uri": uri}));
        let begin = format!("Azure says that the cluster answers at {shown}: ");
        assert!(message.starts_with(&begin) && !message.contains("hunter2"), "{message}");
    }
}
