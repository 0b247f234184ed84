//! Collector: sends to the endpoint it is told, or to that of the namespace's Ingestor.

use std::sync::Arc;

use kube::ResourceExt as _;

use super::{given, invalid, is_url, name_violation};
use crate::{
    api::{Collector, Ingestor},
    kubernetes::{
        build::{
            cluster_role_refs,
            collector::{CollectorParts, collector},
        },
        child::{ChildRef, Kind, Owner},
        conditions::{Draft, Phase},
        managed::{Managed, Plan, World, spec_and_status},
    },
};

impl Managed for Collector {
    const KIND: Kind = Kind::Collector;

    spec_and_status!();

    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan {
        if let Some(violation) = name_violation(&owner.name) {
            return invalid(Phase::WorkloadReady, &[violation]);
        }
        let endpoint = match given(&self.spec.ingestor_endpoint) {
            Some(endpoint) if is_url(&endpoint) => endpoint,
            Some(endpoint) => {
                return invalid(
                    Phase::WorkloadReady,
                    &[format!(
                        "spec.ingestorEndpoint = {endpoint}: must start with http:// or https:// and have no blanks"
                    )],
                );
            }
            None => match discovered(&world.ingestors, &owner.namespace, self.status_endpoint().is_some()) {
                Ok(endpoint) => endpoint,
                Err(draft) => return Plan::nothing(draft, false),
            },
        };
        let labels = &world.settings.cluster_labels;
        let parts = CollectorParts {
            image: given(&self.spec.image).unwrap_or_else(|| world.settings.images.collector.clone()),
            endpoint: endpoint.clone(),
            region: labels.get("region").cloned().unwrap_or_default(),
            cluster: labels.get("cluster").cloned().unwrap_or_else(|| "default".to_owned()),
        };
        Plan {
            conditions: Vec::new(),
            build: Some(collector(owner, &parts)),
            workload_phase: Phase::WorkloadReady,
            endpoint: Some(endpoint),
            is_stalled: false,
            provisioned: None,
            again: None,
        }
    }

    fn cluster_scoped(owner: &Owner) -> Vec<ChildRef> {
        cluster_role_refs(owner)
    }
}

/// The endpoint of the namespace's one Ingestor. The first time, once that is ready; a collector that runs keeps what it could not send, and goes on being looked
/// after while its ingestor is not.
fn discovered(ingestors: &[Arc<Ingestor>], namespace: &str, is_running: bool) -> Result<String, Draft> {
    let mut here: Vec<_> =
        ingestors.iter().filter(|ingestor| ingestor.namespace().as_deref() == Some(namespace)).collect();
    here.retain(|ingestor| ingestor.metadata.deletion_timestamp.is_none());
    here.sort_by_key(|ingestor| ingestor.name_any());
    let no = |reason: &str, message: String| Draft::no(Phase::WorkloadReady, reason, message);
    let ingestor = match here[..] {
        [] => {
            let message =
                format!("there is no Ingestor in namespace '{namespace}': make one, or set spec.ingestorEndpoint");
            return Err(no("WaitingForIngestor", message));
        }
        [ingestor] => ingestor,
        [..] => {
            let names: Vec<String> = here.iter().map(|ingestor| ingestor.name_any()).collect();
            let message = format!(
                "there are several Ingestors in namespace '{namespace}' ({}): set spec.ingestorEndpoint",
                names.join(", ")
            );
            return Err(no("AmbiguousIngestor", message));
        }
    };
    let ready = ingestor.conditions().iter().find(|condition| condition.type_ == Phase::Ready.as_str());
    match (ingestor.status_endpoint(), ready) {
        (Some(endpoint), Some(ready)) if is_running || ready.status == "True" => Ok(endpoint.to_owned()),
        (_, ready) => {
            let why = ready.map_or_else(|| "it has not been looked at yet".to_owned(), |ready| ready.message.clone());
            Err(no("WaitingForIngestor", format!("Ingestor '{}' is not ready: {why}", ingestor.name_any())))
        }
    }
}
