//! Ingestor: waits for its clusters, then runs.

use std::{hash::Hash, sync::LazyLock};

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;
use serde_json::Value;
use shared::document::spec::TelemetryType;

use super::{
    address_violation, component_violations, given, invalid, schema_of_spec,
    targets::{depend_on_what_runs, overshadowed, targets},
};
use crate::{
    api::{Ingestor, TlsSpec},
    kubernetes::{
        build::{
            cluster_role_refs,
            ingestor::{Certificate, IngestorParts, LOGS_FLAG, METRICS_FLAG, Scale, ingestor},
        },
        child::{ChildRef, Kind, Owner},
        conditions::Phase,
        managed::{Managed, Plan, World, spec_and_status},
    },
};

impl Managed for Ingestor {
    const KIND: Kind = Kind::Ingestor;
    /// An autoscaler may decide on it, of which the spec says nothing.
    const TELLS_REPLICAS: bool = true;

    spec_and_status!();

    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan {
        let violations = violations(self);
        if !violations.is_empty() {
            return invalid(Phase::WorkloadReady, &violations);
        }
        let flags = [METRICS_FLAG, LOGS_FLAG];
        let targets = match targets(world, owner, &self.spec.adx_cluster_selector, "writes to", &flags) {
            Ok(targets) => targets,
            Err(nothing) => return *nothing,
        };
        let metrics = targets.endpoints(&[TelemetryType::Metrics], METRICS_FLAG);
        // The ingestor takes traces as it takes logs.
        let logs = targets.endpoints(&[TelemetryType::Logs, TelemetryType::Traces], LOGS_FLAG);
        let has_databases = !metrics.is_empty() || !logs.is_empty();
        if !has_databases && !targets.runs {
            return Plan::nothing(targets.condition, targets.is_stalled);
        }
        let scale = match &self.spec.autoscaling {
            // adx-mon's ingestor lets go of what it takes where it is told of no database; collectors keep what nobody takes.
            _ if !has_databases => Scale::Fixed(0),
            Some(autoscaling) => Scale::Auto(autoscaling.clone()),
            None => Scale::Fixed(self.spec.replicas.unwrap_or(1)),
        };
        let labels = &world.settings.cluster_labels;
        let parts = IngestorParts {
            image: given(&self.spec.image).unwrap_or_else(|| world.settings.images.ingestor.clone()),
            scale,
            expose_externally: self.spec.expose_externally,
            metrics,
            logs,
            log_destination: given(&self.spec.log_destination).unwrap_or_else(|| targets.log_destination("Ingestor")),
            certificate: self.spec.tls.as_ref().and_then(certificate),
            pods: self.spec.pod_policy.clone(),
            client_id: given(&self.spec.managed_identity_client_id),
            region: labels.get("region").cloned(),
            cluster_labels: labels.iter().map(|(label, value)| format!("{label}={value}")).collect(),
        };
        let mut condition = if has_databases { targets.condition } else { targets.without_databases() };
        // It keeps databases by their names, and writes to the last of several that it is told of.
        for endpoints in [&parts.metrics, &parts.logs] {
            if let Some(unwritten) = overshadowed(endpoints, "written to") {
                condition.message = format!("{}; {unwritten}", condition.message);
            }
        }
        // Which DNS domain the cluster has is told by no API: whose is another says `spec.endpoint`.
        let endpoint = given(&self.spec.endpoint).map(with_scheme);
        Plan {
            conditions: vec![condition],
            build: Some(ingestor(owner, &parts)),
            workload_phase: Phase::WorkloadReady,
            endpoint: Some(
                endpoint.unwrap_or_else(|| format!("https://{}.{}.svc.cluster.local", owner.name, owner.namespace)),
            ),
            is_stalled: targets.is_stalled,
            provisioned: None,
            again: None,
        }
    }

    fn looks_at_what_runs(&self, owner: &Owner, world: &World<'_>) -> Option<ChildRef> {
        let depends = depend_on_what_runs(world, owner, &self.spec.adx_cluster_selector);
        depends.then(|| ChildRef::in_namespace::<StatefulSet>(owner, &owner.name))
    }

    fn cluster_scoped(owner: &Owner) -> Vec<ChildRef> {
        cluster_role_refs(owner)
    }

    fn status_replicas(&self) -> Option<i32> {
        self.status.as_ref()?.replicas
    }

    /// Collectors follow the endpoint and wait for it to be ready.
    fn told_status(&self) -> impl Hash {
        let ready = self.conditions().iter().find(|condition| condition.type_ == "Ready");
        (self.status_endpoint().map(str::to_owned), ready.map(|ready| (ready.status.clone(), ready.message.clone())))
    }
}

static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of_spec::<Ingestor>);

/// The one place of a certificate, where there is exactly one.
fn certificate(tls: &TlsSpec) -> Option<Certificate> {
    match (&tls.secret_ref, given(&tls.host_path)) {
        (Some(secret), None) => Some(Certificate::Secret(secret.name.clone())),
        (None, Some(path)) => Some(Certificate::HostPath(path)),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// The schema's rules once more: the object may be older than they are.
fn violations(ingestor: &Ingestor) -> Vec<String> {
    let spec = &ingestor.spec;
    let mut violations = component_violations(&ingestor.name_any(), &SCHEMA, spec, &spec.pod_policy);
    if let Some(autoscaling) = &spec.autoscaling {
        let (fewest, most) = (autoscaling.min_replicas.unwrap_or(1), autoscaling.max_replicas);
        if most < fewest {
            violations.push(format!("spec.autoscaling.maxReplicas = {most}: must be at least minReplicas ({fewest})"));
        }
    }
    if let Some(tls) = &spec.tls {
        let path = given(&tls.host_path);
        if certificate(tls).is_none() {
            violations.push("spec.tls: must have exactly one of secretRef and hostPath".to_owned());
        } else if let Some(path) = path.filter(|path| !path.starts_with('/') || path.contains("..")) {
            violations.push(format!("spec.tls.hostPath = {path}: must be absolute and without .."));
        }
    }
    let destination = given(&spec.log_destination);
    let is_pair = |text: &String| text.split(':').count() == 2 && text.split(':').all(|part| !part.is_empty());
    if let Some(destination) = destination.filter(|text| !is_pair(text)) {
        violations.push(format!("spec.logDestination = {destination}: must be Database:Table"));
    }
    let endpoint = given(&spec.endpoint).map(with_scheme);
    violations.extend(endpoint.and_then(|endpoint| address_violation("spec.endpoint", &endpoint)));
    violations
}

/// The seed's second example has a host alone.
fn with_scheme(endpoint: String) -> String {
    if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") }
}
