//! Collector: sends to the endpoint it is told, or to that of the namespace's Ingestor.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::{invalid, is_url};
use crate::{
    api::{Collector, Ingestor},
    kubernetes::{
        build::{
            cluster_role_refs,
            collector::{CollectorParts, collector},
        },
        child::{ChildRef, Kind, Owner},
        conditions::{Draft, Phase},
        managed::{Managed, Plan, World},
    },
};

impl Managed for Collector {
    const KIND: Kind = Kind::Collector;

    fn suspended(&self) -> bool {
        self.spec.suspend
    }

    fn criteria(&self) -> Option<&str> {
        self.spec.criteria_expression.as_deref()
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn observed_generation(&self) -> Option<i64> {
        self.status.as_ref()?.observed_generation
    }

    fn status_endpoint(&self) -> Option<&str> {
        self.status.as_ref()?.endpoint.as_deref()
    }

    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan {
        let given = self.spec.ingestor_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let endpoint = match given {
            Some(endpoint) if is_url(endpoint) => endpoint.to_owned(),
            Some(endpoint) => {
                return invalid(
                    Phase::WorkloadReady,
                    &[format!(
                        "spec.ingestorEndpoint = {endpoint}: must start with http:// or https:// and have no blanks"
                    )],
                );
            }
            None => match discovered(&world.ingestors, &owner.namespace) {
                Ok(endpoint) => endpoint,
                Err(draft) => return Plan::nothing(draft, false),
            },
        };
        let labels = &world.settings.cluster_labels;
        let parts = CollectorParts {
            image: self.spec.image.clone().unwrap_or_else(|| world.settings.images.collector.clone()),
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
        }
    }

    fn cluster_scoped(owner: &Owner) -> Vec<ChildRef> {
        cluster_role_refs(owner)
    }
}

/// The endpoint of the namespace's one Ingestor, once that is ready. What is sent before would be lost.
fn discovered(ingestors: &[Arc<Ingestor>], namespace: &str) -> Result<String, Draft> {
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
        (Some(endpoint), Some(ready)) if ready.status == "True" => Ok(endpoint.to_owned()),
        (_, ready) => {
            let why = ready.map_or_else(|| "it has not been looked at yet".to_owned(), |ready| ready.message.clone());
            Err(no("WaitingForIngestor", format!("Ingestor '{}' is not ready: {why}", ingestor.name_any())))
        }
    }
}
