//! The document that the operator hands to an agent: the object's own, with what is known besides. Pure.

use kube::ResourceExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    config::defaults,
    duration::format_duration,
    spec::{ADXCluster, ClusterRole},
};

/// The effective document as JSON (which is YAML): metadata that agents use, every default filled in, the endpoint set. Equal objects give equal texts.
///
/// # Panics
/// Never: a spec is JSON.
pub fn effective(cluster: &ADXCluster) -> String {
    let mut spec = cluster.spec.clone();
    let status = cluster.status.as_ref();
    spec.endpoint = spec.endpoint.or_else(|| status.and_then(|status| status.endpoint.clone()));
    let role = *spec.role.get_or_insert(ClusterRole::Partition);
    // What only the operator uses.
    (spec.provision, spec.criteria_expression, spec.suspend) = (identity_only(&spec.provision), None, false);
    if let Some(federation) = &mut spec.federation {
        let text = |duration| Some(format_duration(duration));
        (federation.image, federation.pod_policy) = (None, None);
        if federation.heartbeat_schedule.is_none() {
            federation.heartbeat_interval =
                federation.heartbeat_interval.take().or_else(|| text(defaults::HEARTBEAT_INTERVAL));
        }
        if role == ClusterRole::Federated {
            federation.heartbeat_ttl = federation.heartbeat_ttl.take().or_else(|| text(defaults::HEARTBEAT_TTL));
            federation.heartbeat_retention =
                federation.heartbeat_retention.take().or_else(|| text(defaults::HEARTBEAT_RETENTION));
            if federation.reconcile_schedule.is_none() {
                federation.reconcile_interval =
                    federation.reconcile_interval.take().or_else(|| text(defaults::RECONCILE_INTERVAL));
            }
            let macro_expand = federation.macro_expand.get_or_insert_default();
            macro_expand.function_prefix.get_or_insert_with(|| defaults::FUNCTION_PREFIX.to_owned());
            macro_expand.folder.get_or_insert_with(|| defaults::FOLDER.to_owned());
            macro_expand.best_effort.get_or_insert(defaults::BEST_EFFORT);
        }
    }
    let document = json!({
        "apiVersion": "adx-mon.azure.com/v1",
        "kind": "ADXCluster",
        "metadata": {"name": cluster.name_any(), "namespace": cluster.namespace()},
        "spec": serde_json::to_value(spec).expect("a spec is JSON"),
    });
    format!("{:#}\n", without_nulls(document))
}

/// Tells one text from any other, in sixteen hexadecimal digits of SHA-256: by it an agent says which document a pass was of.
pub fn fingerprint(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Agents sign in with the identity that a cluster was provisioned with.
fn identity_only(provision: &Option<super::spec::ProvisionSpec>) -> Option<super::spec::ProvisionSpec> {
    let managed_identity_client_id = provision.as_ref()?.managed_identity_client_id.clone()?;
    let managed_identity_client_id = Some(managed_identity_client_id);
    Some(super::spec::ProvisionSpec { managed_identity_client_id, ..super::spec::ProvisionSpec::default() })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{HubConfig, Validated, load::parse_documents, validate};

    const HUB: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: hub, namespace: monitoring, labels: {a: b}, generation: 3, uid: x}
spec:
  clusterName: hub
  endpoint: https://hub.kusto.windows.net
  role: Federated
  suspend: true
  federation: {heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats, heartbeatInterval: 5m}
";

    #[test]
    fn the_effective_document_means_what_the_object_means_and_says_all_of_it() {
        let object = parse_documents(HUB).unwrap().remove(0);
        let text = effective(&object);
        let document = parse_documents(&text).unwrap().remove(0);
        let Validated::Hub(config) = validate(&document).unwrap() else { panic!("its role is Federated") };
        let Validated::Hub(same) = validate(&object).unwrap() else { panic!("its role is Federated") };
        // `suspend` changes at any time: agents ask for it.
        assert_eq!(HubConfig { is_plan_only: true, ..*config }, *same);
        for part in [
            "\"heartbeatTTL\": \"1h\"",
            "\"heartbeatInterval\": \"5m\"",
            "\"reconcileInterval\": \"10m\"",
            "\"functionPrefix\": \"federated_\"",
            "\"namespace\": \"monitoring\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("suspend") && !text.contains("uid"));
        assert_eq!(effective(&document), text, "a second time nothing changes");
    }
}
