//! Alerter: waits for its clusters, then runs.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

use super::{
    address_violation, component_violations, given, invalid, schema_of_spec,
    targets::{ALL_TELEMETRY, depend_on_what_runs, targets},
};
use crate::{
    api::Alerter,
    kubernetes::{
        build::{
            alerter::{AlerterParts, KUSTO_FLAG, alerter},
            cluster_role_refs,
        },
        child::{ChildRef, Kind, Owner},
        conditions::Phase,
        managed::{Managed, Plan, World, spec_and_status},
    },
};

impl Managed for Alerter {
    const KIND: Kind = Kind::Alerter;

    spec_and_status!();

    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan {
        let notification_endpoint = &self.spec.notification_endpoint;
        let mut violations = component_violations(&owner.name, &SCHEMA, &self.spec, &self.spec.pod_policy);
        violations.extend(address_violation("spec.notificationEndpoint", notification_endpoint));
        if !violations.is_empty() {
            return invalid(Phase::WorkloadReady, &violations);
        }
        let targets = match targets(world, owner, &self.spec.adx_cluster_selector, "asks", &[KUSTO_FLAG]) {
            Ok(targets) => targets,
            Err(nothing) => return *nothing,
        };
        let kusto_endpoints = targets.endpoints(&ALL_TELEMETRY, KUSTO_FLAG);
        let has_databases = !kusto_endpoints.is_empty();
        if !has_databases && !targets.runs {
            return Plan::nothing(targets.condition, targets.is_stalled);
        }
        let parts = AlerterParts {
            image: given(&self.spec.image).unwrap_or_else(|| world.settings.images.alerter.clone()),
            notification_endpoint: notification_endpoint.clone(),
            kusto_endpoints,
            replicas: i32::from(has_databases),
            pods: self.spec.pod_policy.clone(),
            client_id: given(&self.spec.managed_identity_client_id),
            region: world.settings.cluster_labels.get("region").cloned(),
        };
        let mut condition = if has_databases { targets.condition } else { targets.without_databases() };
        if let Some(unasked) = unasked(&parts.kusto_endpoints) {
            condition.message = format!("{}; {unasked}", condition.message);
        }
        Plan {
            conditions: vec![condition],
            build: Some(alerter(owner, &parts)),
            workload_phase: Phase::WorkloadReady,
            endpoint: None,
            is_stalled: targets.is_stalled,
            provisioned: None,
            again: None,
        }
    }

    fn looks_at_what_runs(&self, owner: &Owner, world: &World<'_>) -> Option<ChildRef> {
        let depends = depend_on_what_runs(world, owner, &self.spec.adx_cluster_selector);
        depends.then(|| ChildRef::in_namespace::<Deployment>(owner, &owner.name))
    }

    fn cluster_scoped(owner: &Owner) -> Vec<ChildRef> {
        cluster_role_refs(owner)
    }
}

static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of_spec::<Alerter>);

/// adx-mon's alerter keeps databases by their names: of several with one name it asks the last that it is told of.
fn unasked(endpoints: &[String]) -> Option<String> {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, endpoint) in endpoints.iter().filter_map(|endpoint| endpoint.split_once('=')) {
        by_name.entry(name).or_default().push(endpoint);
    }
    let told = by_name.into_iter().filter_map(|(name, endpoints)| {
        let (last, others) = endpoints.split_last()?;
        (!others.is_empty()).then(|| format!("'{name}' at {last} and not at {}", others.join(", ")))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| format!("of databases with one name only one is asked: {}", told.join("; ")))
}
