//! Alerter: waits for its clusters, then runs.

use std::sync::LazyLock;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

use super::{
    address_violation, component_violations, given, invalid, schema_of_spec,
    targets::{ALL_TELEMETRY, depend_on_what_runs, overshadowed, targets},
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
            log_destination: targets.log_destination("Alerter"),
        };
        let mut condition = if has_databases { targets.condition } else { targets.without_databases() };
        // It keeps databases by their names, and asks the last of several that it is told of.
        if let Some(unasked) = overshadowed(&parts.kusto_endpoints, "asked") {
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
