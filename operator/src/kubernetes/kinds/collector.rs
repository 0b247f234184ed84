//! Collector: sends to the endpoint it is told, or to that of the namespace's Ingestor.

use std::sync::{Arc, LazyLock};

use kube::ResourceExt as _;
use serde_json::Value;
use shared::document::{Violation, spec::TelemetryType};

use super::{address_violation, component_violations, given, invalid, schema_of_spec};
use crate::{
    api::{Collector, Ingestor},
    kubernetes::{
        build::{
            cluster_role_refs,
            collector::{CollectorParts, collector},
        },
        child::{ChildRef, Kind, Owner},
        clusters::{Selected, destination, is_elsewhere, selected},
        conditions::{Draft, Phase},
        managed::{Managed, Plan, World, spec_and_status},
        reason::Reason,
    },
};

impl Managed for Collector {
    const KIND: Kind = Kind::Collector;

    spec_and_status!();

    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan {
        let mut violations = component_violations(&owner.name, &SCHEMA, &self.spec, &self.spec.pod_policy);
        let named = [("metricsDatabase", &self.spec.metrics_database), ("logsDatabase", &self.spec.logs_database)];
        violations.extend(named.into_iter().filter_map(|(field, name)| database_violation(field, &given(name)?)));
        if !violations.is_empty() {
            return invalid(Phase::WorkloadReady, &violations);
        }
        let endpoint = match given(&self.spec.ingestor_endpoint) {
            Some(endpoint) => match address_violation("spec.ingestorEndpoint", &endpoint) {
                None => Ok(endpoint),
                Some(violation) => return invalid(Phase::WorkloadReady, &[violation]),
            },
            None => discovered(world, &owner.namespace, self.status_endpoint().is_some()),
        };
        // One that runs goes on sending where it sent, and is looked after.
        let (endpoint, conditions) = match (endpoint, self.status_endpoint()) {
            (Ok(endpoint), _) => (endpoint, Vec::new()),
            (Err(why), Some(endpoint)) => (endpoint.to_owned(), vec![why]),
            (Err(why), None) => return Plan::nothing(why, false),
        };
        let labels = &world.settings.cluster_labels;
        let (metrics, logs) = self.databases(owner, world);
        let parts = CollectorParts {
            image: given(&self.spec.image).unwrap_or_else(|| world.settings.images.collector.clone()),
            endpoint: endpoint.clone(),
            pods: self.spec.pod_policy.clone(),
            region: labels.get("region").cloned().unwrap_or_default(),
            cluster: labels.get("cluster").cloned().unwrap_or_else(|| "default".to_owned()),
            metrics,
            logs,
        };
        Plan {
            conditions,
            build: Some(collector(owner, &parts)),
            workload_phase: Phase::WorkloadReady,
            endpoint: Some(endpoint),
            is_stalled: false,
            provisioned: None,
            again: None,
        }
    }

    fn goes_on_with_status(&self, owner: &Owner, world: &World<'_>) -> bool {
        given(&self.spec.ingestor_endpoint).is_none() && discovered(world, &owner.namespace, true).is_err()
    }

    fn cluster_scoped(owner: &Owner) -> Vec<ChildRef> {
        cluster_role_refs(owner)
    }
}

impl Collector {
    /// The databases that metrics and logs are for. An ingestor in another cluster does not tell which it knows.
    fn databases(&self, owner: &Owner, world: &World<'_>) -> (String, String) {
        let is_told = given(&self.spec.ingestor_endpoint).is_some();
        let ingestors = if is_told { Vec::new() } else { ingestors(world, &owner.namespace) };
        let selected = ingestors
            .iter()
            .filter_map(|ingestor| selected(world, &owner.namespace, &ingestor.spec.adx_cluster_selector).ok());
        let selected: Vec<Selected> = selected.collect();
        let of = |kind| destination(selected.iter().flat_map(Selected::all), kind);
        let (metrics, logs) = (given(&self.spec.metrics_database), given(&self.spec.logs_database));
        (metrics.unwrap_or_else(|| of(TelemetryType::Metrics)), logs.unwrap_or_else(|| of(TelemetryType::Logs)))
    }
}

fn database_violation(field: &str, name: &str) -> Option<String> {
    let is_right = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rule = "must be 1 to 64 letters, digits and underscores";
    (!is_right).then(|| Violation::new(format!("spec.{field}"), name, rule).to_string())
}

static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of_spec::<Collector>);

/// A namespace's Ingestors, by name, that operators here look after.
fn ingestors<'a>(world: &'a World<'_>, namespace: &str) -> Vec<&'a Arc<Ingestor>> {
    let mut here: Vec<_> =
        world.ingestors.iter().filter(|ingestor| ingestor.namespace().as_deref() == Some(namespace)).collect();
    here.retain(|ingestor| !is_elsewhere(ingestor.criteria(), world));
    here.retain(|ingestor| ingestor.metadata.deletion_timestamp.is_none());
    here.sort_by_key(|ingestor| ingestor.name_any());
    here
}

/// The endpoint of the namespace's one Ingestor. The first time, once that is ready; a collector that runs keeps what it could not send, and goes on being looked
/// after while its ingestor is not.
fn discovered(world: &World<'_>, namespace: &str, is_running: bool) -> Result<String, Draft> {
    let here = ingestors(world, namespace);
    let no = |reason: Reason, message: String| Draft::no(Phase::WorkloadReady, reason, message);
    let ingestor = match here[..] {
        [] => {
            let message =
                format!("there is no Ingestor in namespace '{namespace}': make one, or set spec.ingestorEndpoint");
            return Err(no(Reason::WaitingForIngestor, message));
        }
        [ingestor] => ingestor,
        [..] => {
            let names: Vec<String> = here.iter().map(|ingestor| ingestor.name_any()).collect();
            let message = format!(
                "there are several Ingestors in namespace '{namespace}' ({}): set spec.ingestorEndpoint",
                names.join(", ")
            );
            return Err(no(Reason::AmbiguousIngestor, message));
        }
    };
    let ready = ingestor.conditions().iter().find(|condition| condition.type_ == Phase::Ready.as_str());
    match (ingestor.status_endpoint(), ready) {
        (Some(endpoint), Some(ready)) if is_running || ready.status == "True" => Ok(endpoint.to_owned()),
        (_, ready) => {
            let why = ready.map_or_else(|| "it has not been looked at yet".to_owned(), |ready| ready.message.clone());
            Err(no(Reason::WaitingForIngestor, format!("Ingestor '{}' is not ready: {why}", ingestor.name_any())))
        }
    }
}
