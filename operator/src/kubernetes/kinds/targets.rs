//! The databases that an Ingestor or Alerter works with. Pure; called by their plans.
//!
//! The first time a component waits until all clusters that it selects are ready: it would otherwise start once for each, and one that takes minutes in Azure is
//! the normal case. One that runs goes on with what is ready, and says what it waits for. A cluster that was ready once keeps its place among the arguments:
//! what was taken for it would be lost. Without any that is ready, what runs keeps the arguments that it has.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use shared::document::{ADXCluster, spec::TelemetryType};

use crate::kubernetes::{
    child::Owner,
    clusters::{Selected, selected},
    conditions::{Draft, Phase},
    managed::{Plan, World},
    reason::Reason,
};

/// What a component works with.
pub(super) struct Targets<'a> {
    /// That it does, and what it waits for.
    pub(super) condition: Draft,
    selected: Selected,
    running: &'a [String],
}

/// Whether a plan depends on what runs already.
pub(super) fn depend_on_what_runs(world: &World<'_>, owner: &Owner, selector: &LabelSelector) -> bool {
    selected(world, &owner.namespace, selector).is_ok_and(|selected| selected.waiting.is_some())
}

/// Decides. `does`: what the component does with clusters.
///
/// # Errors
/// The plan to do nothing, and why.
pub(super) fn targets<'a>(
    world: &'a World<'_>,
    owner: &Owner,
    selector: &LabelSelector,
    does: &str,
) -> Result<Targets<'a>, Box<Plan>> {
    let nothing = |why: Draft, is_stalled: bool| Box::new(Plan::nothing(why, is_stalled));
    let selected = selected(world, &owner.namespace, selector).map_err(|why| nothing(why, true))?;
    let waits = |message: String| Draft::no(Phase::ClusterReady, Reason::WaitingForCluster, message);
    let at_work = format!("{does} ADXCluster {}", names(&selected.ready));
    let condition = match (&selected.waiting, &world.running) {
        (None, _) => Draft::yes(Phase::ClusterReady, Reason::Ready, at_work),
        (Some(waiting), None) => return Err(nothing(waits(waiting.clone()), false)),
        (Some(waiting), Some(_)) if selected.ready.is_empty() => {
            waits(format!("{waiting}; what runs keeps its clusters"))
        }
        (Some(waiting), Some(_)) => waits(format!("{waiting}; meanwhile it {at_work}")),
    };
    Ok(Targets { condition, selected, running: world.running.as_deref().unwrap_or_default() })
}

impl Targets<'_> {
    /// `Database=https://cluster` of all databases that hold one of these kinds of telemetry, in order. `flag`: the argument that tells the component of them.
    pub(super) fn endpoints(&self, kinds: &[TelemetryType], flag: &str) -> Vec<String> {
        let Selected { ready, unready, waiting } = &self.selected;
        let mut endpoints = databases(ready, kinds);
        if waiting.is_some() {
            let known = databases(unready, kinds);
            let running = self.running.iter().filter_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='));
            let kept = running.filter(|endpoint| known.is_empty() || known.iter().any(|known| known == endpoint));
            endpoints.extend(kept.map(str::to_owned));
            // Somebody deleted the workload, or took its arguments away.
            if !self.running.iter().any(|argument| argument.starts_with(flag)) {
                endpoints.extend(known);
            }
        }
        endpoints.sort();
        endpoints.dedup();
        endpoints
    }

    /// Whether it waits for a cluster.
    pub(super) const fn wait(&self) -> bool {
        self.selected.waiting.is_some()
    }

    /// The clusters' names.
    pub(super) fn names(&self) -> String {
        names(&self.selected.ready)
    }
}

fn databases(clusters: &[Arc<ADXCluster>], kinds: &[TelemetryType]) -> Vec<String> {
    let of_cluster = |cluster: &Arc<ADXCluster>| -> Vec<String> {
        let endpoint = cluster.status.as_ref().and_then(|status| status.endpoint.clone());
        let Some(endpoint) = endpoint else { return Vec::new() };
        let databases = cluster.spec.databases.iter().filter(|database| kinds.contains(&database.telemetry_type));
        databases.map(|database| format!("{}={endpoint}", database.database_name)).collect()
    };
    clusters.iter().flat_map(of_cluster).collect()
}

fn names(clusters: &[Arc<ADXCluster>]) -> String {
    clusters.iter().map(|cluster| cluster.name_any()).collect::<Vec<_>>().join(", ")
}
