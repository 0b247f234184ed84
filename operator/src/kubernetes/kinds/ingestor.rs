//! Ingestor: waits for its clusters, then runs.

use std::hash::Hash;

use kube::ResourceExt as _;
use shared::document::spec::TelemetryType;

use super::{endpoints, given, invalid, is_url, name_violation, names};
use crate::{
    api::Ingestor,
    kubernetes::{
        build::{
            cluster_role_refs,
            ingestor::{IngestorParts, Scale, ingestor},
        },
        child::{ChildRef, Kind, Owner},
        clusters::selected,
        conditions::{Draft, Phase},
        managed::{Managed, Plan, World, spec_and_status},
    },
};

impl Managed for Ingestor {
    const KIND: Kind = Kind::Ingestor;

    spec_and_status!();

    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan {
        let violations = violations(self);
        if !violations.is_empty() {
            return invalid(Phase::WorkloadReady, &violations);
        }
        let clusters = match selected(&world.clusters, &owner.namespace, &self.spec.adx_cluster_selector) {
            Ok(clusters) => clusters,
            Err(draft) => {
                let is_stalled = draft.reason != "WaitingForCluster";
                return Plan::nothing(draft, is_stalled);
            }
        };
        let metrics = endpoints(&clusters, &[TelemetryType::Metrics]);
        // The ingestor takes traces as it takes logs.
        let logs = endpoints(&clusters, &[TelemetryType::Logs, TelemetryType::Traces]);
        if metrics.is_empty() && logs.is_empty() {
            let message = format!("no database is listed in spec.databases of ADXCluster {}", names(&clusters));
            return Plan::nothing(Draft::no(Phase::DatabasesReady, "NoDatabases", message), false);
        }
        let labels = &world.settings.cluster_labels;
        let parts = IngestorParts {
            image: given(&self.spec.image).unwrap_or_else(|| world.settings.images.ingestor.clone()),
            scale: self
                .spec
                .autoscaling
                .clone()
                .map_or_else(|| Scale::Fixed(self.spec.replicas.unwrap_or(1)), Scale::Auto),
            expose_externally: self.spec.expose_externally,
            metrics,
            logs,
            client_id: given(&self.spec.managed_identity_client_id),
            region: labels.get("region").cloned(),
            cluster_labels: labels.iter().map(|(label, value)| format!("{label}={value}")).collect(),
        };
        // The seed's second example has a host alone.
        let with_scheme =
            |endpoint: String| if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") };
        let endpoint = given(&self.spec.endpoint).map(with_scheme);
        Plan {
            conditions: vec![Draft::yes(
                Phase::ClusterReady,
                "Ready",
                format!("writes to ADXCluster {}", names(&clusters)),
            )],
            build: Some(ingestor(owner, &parts)),
            workload_phase: Phase::WorkloadReady,
            endpoint: Some(
                endpoint.unwrap_or_else(|| format!("https://{}.{}.svc.cluster.local", owner.name, owner.namespace)),
            ),
            is_stalled: false,
            provisioned: None,
            again: None,
        }
    }

    fn cluster_scoped(owner: &Owner) -> Vec<ChildRef> {
        cluster_role_refs(owner)
    }

    /// Collectors follow the endpoint and wait for it to be ready.
    fn told_status(&self) -> impl Hash {
        let ready = self.conditions().iter().find(|condition| condition.type_ == "Ready");
        (self.status_endpoint().map(str::to_owned), ready.map(|ready| (ready.status.clone(), ready.message.clone())))
    }
}

/// The schema's rules once more: the object may be older than they are.
fn violations(ingestor: &Ingestor) -> Vec<String> {
    let mut violations: Vec<String> = name_violation(&ingestor.name_any()).into_iter().collect();
    let spec = &ingestor.spec;
    if let Some(replicas) = spec.replicas.filter(|replicas| *replicas < 0) {
        violations.push(format!("spec.replicas = {replicas}: must be 0 or more"));
    }
    if let Some(autoscaling) = &spec.autoscaling {
        let (fewest, most) = (autoscaling.min_replicas.unwrap_or(1), autoscaling.max_replicas);
        if fewest < 1 || most < fewest {
            violations.push(format!("spec.autoscaling.maxReplicas = {most}: must be at least minReplicas ({fewest}), which must be at least 1"));
        }
    }
    if let Some(endpoint) =
        given(&spec.endpoint).filter(|endpoint| !is_url(endpoint) && !is_url(&format!("https://{endpoint}")))
    {
        violations.push(format!("spec.endpoint = {endpoint}: must be a URL"));
    }
    violations
}
