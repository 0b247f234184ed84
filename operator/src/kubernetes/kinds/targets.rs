//! The databases that an Ingestor or Alerter works with. Pure; called by their plans.
//!
//! The first time a component waits until all clusters that it selects are ready: it would otherwise start once for each, and one that takes minutes in Azure is
//! the normal case. One that runs goes on with what is ready, and says what it waits for. A cluster that was ready once keeps its place among the arguments:
//! what was taken for it would be lost. What is of no selected cluster is taken away. Only where the address of one is not known that may be meant, as where nothing is
//! selected by a slip or an object cannot be read, there is nothing to tell right arguments by, and what runs keeps those that it has but a hub's.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use shared::document::{ADXCluster, ClusterRole, spec::TelemetryType};

use crate::kubernetes::{
    child::Owner,
    clusters::{Selected, address, addresses, destination, names, selected, telemetry},
    conditions::{Draft, Phase},
    managed::{Managed as _, Plan, World},
    reason::Reason,
    settings::Settings,
};

/// All kinds of telemetry.
pub(super) const ALL_TELEMETRY: [TelemetryType; 3] =
    [TelemetryType::Metrics, TelemetryType::Logs, TelemetryType::Traces];

/// What a component works with.
pub(super) struct Targets<'a> {
    /// That it does, or what it waits for.
    pub(super) condition: Draft,
    /// Whether only a change of the object can help.
    pub(super) is_stalled: bool,
    /// Whether there is a workload.
    pub(super) runs: bool,
    settings: &'a Settings,
    selected: Selected,
    /// The addresses of the namespace's hubs.
    hubs: Vec<&'a str>,
    /// What runs is told of these: flag and `Database=https://cluster`.
    running: Vec<(&'a str, &'a str)>,
}

/// Whether a plan depends on what runs already.
pub(super) fn depend_on_what_runs(world: &World<'_>, owner: &Owner, selector: &LabelSelector) -> bool {
    selected(world, &owner.namespace, selector).is_ok_and(|selected| selected.waiting.is_some())
}

/// Decides. `does`: what the component does with clusters. `flags`: its arguments that tell of a database.
///
/// # Errors
/// The plan to do nothing, and why.
pub(super) fn targets<'a>(
    world: &'a World<'_>,
    owner: &Owner,
    selector: &LabelSelector,
    does: &str,
    flags: &[&str],
) -> Result<Targets<'a>, Box<Plan>> {
    let nothing = |why: Draft, is_stalled: bool| Box::new(Plan::nothing(why, is_stalled));
    let selected = selected(world, &owner.namespace, selector).map_err(|why| nothing(why, true))?;
    let at_work = format!("{does} ADXCluster {}", names(&selected.ready));
    let is_part = !selected.ready.is_empty() && (!selected.unready.is_empty() || selected.has_undecided);
    let condition = match (&selected.waiting, &world.running) {
        (None, _) => Draft::yes(Phase::ClusterReady, Reason::Ready, at_work),
        (Some(waiting), None) => return Err(nothing(waiting.clone(), selected.is_stalled)),
        (Some(waiting), Some(_)) if is_part => and(waiting, &format!("meanwhile it {at_work}")),
        (Some(waiting), Some(_)) => and(waiting, "what runs keeps its clusters"),
    };
    let running = world.running.as_deref().unwrap_or_default();
    let told = running.iter().filter_map(|argument| argument.split_once('='));
    Ok(Targets {
        condition,
        is_stalled: selected.is_stalled,
        runs: !running.is_empty(),
        settings: world.settings,
        selected,
        hubs: hubs(world, owner),
        running: told.filter(|(flag, _)| flags.contains(flag)).collect(),
    })
}

impl Targets<'_> {
    /// `Database=https://cluster` of all databases that hold one of these kinds of telemetry, in order. `flag`: the argument that tells the component of them.
    pub(super) fn endpoints(&self, kinds: &[TelemetryType], flag: &str) -> Vec<String> {
        let Selected { ready, unready, waiting, .. } = &self.selected;
        let mut endpoints = self.databases(ready, kinds);
        if waiting.is_some() {
            let running = self.running.iter().filter(|(of, _)| *of == flag).map(|(_, endpoint)| *endpoint);
            endpoints.extend(running.filter(|endpoint| self.keeps(endpoint, kinds)).map(str::to_owned));
            if self.is_bare() {
                endpoints.extend(self.databases(unready, kinds));
            }
        }
        endpoints.sort();
        endpoints.dedup();
        endpoints
    }

    /// Where the component's own logs go, `Database:Table`, where nobody says it.
    pub(super) fn log_destination(&self, table: &str) -> String {
        format!("{}:{table}", destination(self.selected.all(), TelemetryType::Logs))
    }

    /// What is said of a component that runs and has no database left to work with.
    pub(super) fn without_databases(&self) -> Draft {
        and(self.selected.waiting.as_ref().unwrap_or(&self.condition), "without a database it is scaled to none")
    }

    /// Whether what runs keeps a database among its arguments.
    fn keeps(&self, endpoint: &str, kinds: &[TelemetryType]) -> bool {
        let mut clusters = self.selected.all();
        if !self.selected.has_undecided && self.selected.all().any(|cluster| address(cluster, self.settings).is_some())
        {
            return clusters.any(|cluster| self.is_of(cluster, endpoint, kinds));
        }
        let at = endpoint.split_once('=').map_or(endpoint, |(_, at)| at).trim_end_matches('/');
        !self.hubs.iter().any(|hub| hub.trim_end_matches('/').eq_ignore_ascii_case(at))
    }

    /// Whether somebody deleted the workload, or took its arguments away or put others in their place. Beside a cluster that is ready one that never was has no
    /// argument either.
    fn is_bare(&self) -> bool {
        let is_left =
            |(_, endpoint): &(&str, &str)| !self.selected.ready.is_empty() || self.keeps(endpoint, &ALL_TELEMETRY);
        !self.running.iter().any(is_left)
    }

    /// Whether `Database=https://cluster` is a cluster's and of one of these kinds. Of one that lists no database any may be.
    fn is_of(&self, cluster: &ADXCluster, endpoint: &str, kinds: &[TelemetryType]) -> bool {
        let listed = &cluster.spec.databases;
        endpoint.split_once('=').is_some_and(|(name, at)| {
            let mut named = listed.iter().filter(|database| database.database_name == name);
            addresses(cluster, self.settings).any(|address| address == at)
                && (listed.is_empty() || named.any(|database| kinds.contains(&database.telemetry_type)))
        })
    }

    fn databases(&self, clusters: &[Arc<ADXCluster>], kinds: &[TelemetryType]) -> Vec<String> {
        let of_cluster = |cluster: &Arc<ADXCluster>| -> Vec<String> {
            let Some(endpoint) = address(cluster, self.settings) else { return Vec::new() };
            let databases = telemetry(cluster).into_iter().filter(|(_, kind)| kinds.contains(kind));
            databases.map(|(name, _)| format!("{name}={endpoint}")).collect()
        };
        clusters.iter().flat_map(of_cluster).collect()
    }
}

/// A condition that says something more.
fn and(why: &Draft, more: &str) -> Draft {
    Draft { message: format!("{}; {more}", why.message), ..why.clone() }
}

/// What is said of databases of one name in several clusters, of which adx-mon's components work with the last that they are told of.
pub(super) fn overshadowed(endpoints: &[String], is_used: &str) -> Option<String> {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, endpoint) in endpoints.iter().filter_map(|endpoint| endpoint.split_once('=')) {
        by_name.entry(name).or_default().push(endpoint);
    }
    let told = by_name.into_iter().filter_map(|(name, endpoints)| {
        let (last, others) = endpoints.split_last()?;
        (!others.is_empty()).then(|| format!("'{name}' at {last} and not at {}", others.join(", ")))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| format!("of databases with one name only one is {is_used}: {}", told.join("; ")))
}

/// The addresses of a namespace's hubs.
fn hubs<'a>(world: &'a World<'_>, owner: &Owner) -> Vec<&'a str> {
    let is_hub = |cluster: &&Arc<ADXCluster>| {
        cluster.namespace().as_deref() == Some(owner.namespace.as_str())
            && cluster.spec.role == Some(ClusterRole::Federated)
    };
    let hubs = world.clusters.iter().filter(is_hub);
    hubs.flat_map(|hub| [hub.spec.endpoint.as_deref(), hub.status_endpoint()]).flatten().collect()
}
