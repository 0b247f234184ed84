//! Alerter: waits for its clusters, then runs.

use shared::document::spec::TelemetryType;

use super::{endpoints, given, invalid, is_url, name_violation, names};
use crate::{
    api::Alerter,
    kubernetes::{
        build::{
            alerter::{AlerterParts, alerter},
            cluster_role_refs,
        },
        child::{ChildRef, Kind, Owner},
        clusters::selected,
        conditions::{Draft, Phase},
        managed::{Managed, Plan, World, spec_and_status},
    },
};

impl Managed for Alerter {
    const KIND: Kind = Kind::Alerter;

    spec_and_status!();

    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan {
        if let Some(violation) = name_violation(&owner.name) {
            return invalid(Phase::WorkloadReady, &[violation]);
        }
        let notification_endpoint = &self.spec.notification_endpoint;
        if !is_url(notification_endpoint) {
            let violation = format!(
                "spec.notificationEndpoint = {notification_endpoint}: must start with http:// or https:// and have no blanks"
            );
            return invalid(Phase::WorkloadReady, &[violation]);
        }
        let clusters = match selected(&world.clusters, &owner.namespace, &self.spec.adx_cluster_selector) {
            Ok(clusters) => clusters,
            Err(draft) => {
                let is_stalled = draft.reason != "WaitingForCluster";
                return Plan::nothing(draft, is_stalled);
            }
        };
        let parts = AlerterParts {
            image: given(&self.spec.image).unwrap_or_else(|| world.settings.images.alerter.clone()),
            notification_endpoint: notification_endpoint.clone(),
            kusto_endpoints: endpoints(
                &clusters,
                &[TelemetryType::Metrics, TelemetryType::Logs, TelemetryType::Traces],
            ),
            client_id: given(&self.spec.managed_identity_client_id),
            region: world.settings.cluster_labels.get("region").cloned(),
        };
        Plan {
            conditions: vec![Draft::yes(Phase::ClusterReady, "Ready", format!("asks ADXCluster {}", names(&clusters)))],
            build: Some(alerter(owner, &parts)),
            workload_phase: Phase::WorkloadReady,
            endpoint: None,
            is_stalled: false,
            provisioned: None,
            again: None,
        }
    }

    fn cluster_scoped(owner: &Owner) -> Vec<ChildRef> {
        cluster_role_refs(owner)
    }
}
