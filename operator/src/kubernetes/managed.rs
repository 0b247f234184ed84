//! What the kinds that we reconcile have in common, and what each says for itself. Pure.

use std::{fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResourceExt, Resource, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};
use shared::document::{
    ADXCluster,
    provisioned::{AppliedProvisionState, ProvisionStatus},
};

use super::{
    apply::Build,
    child::{ChildRef, Kind, Owner},
    conditions::{Draft, Phase},
    provision::Provisioned,
    settings::Settings,
    stored::Unreadable,
};
use crate::api::Ingestor;

/// What a decision may look at besides the object itself.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) now: Timestamp,
    /// All that have been seen.
    pub(crate) clusters: Vec<Arc<ADXCluster>>,
    /// Those of which not even that can be read, for whom they are and what.
    pub(crate) undecided: Vec<Arc<Unreadable<ADXCluster>>>,
    pub(crate) ingestors: Vec<Arc<Ingestor>>,
    /// Whether clusters can be made in Azure.
    pub(crate) can_provision: bool,
    /// What Azure has of this very object, if it is made there.
    pub(crate) provisioned: Option<Provisioned>,
    /// The arguments of this very object's workload, where it runs and [`Managed::looks_at_what_runs`] names it.
    pub(crate) running: Option<Vec<String>>,
}

#[cfg(test)]
impl<'a> World<'a> {
    /// An empty one, long ago.
    pub(crate) const fn of_tests(settings: &'a Settings) -> Self {
        Self {
            settings,
            now: Timestamp::UNIX_EPOCH,
            clusters: Vec::new(),
            undecided: Vec::new(),
            ingestors: Vec::new(),
            can_provision: false,
            provisioned: None,
            running: None,
        }
    }
}

/// What to do for an object.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The phases that are decided already; the workload's comes from the workload.
    pub(crate) conditions: Vec<Draft>,
    /// What to apply; without it, what is there stays.
    pub(crate) build: Option<Build>,
    /// The phase that the workload's pods decide.
    pub(crate) workload_phase: Phase,
    /// What the status tells as the endpoint.
    pub(crate) endpoint: Option<String>,
    /// Whether only a change of the object can help.
    pub(crate) is_stalled: bool,
    /// What was done in Azure.
    pub(crate) provisioned: Option<Provisioned>,
    /// When to look again, besides when something of ours changes.
    pub(crate) again: Option<Duration>,
}

impl Plan {
    /// Nothing is done: the condition says why.
    pub(crate) fn nothing(why: Draft, is_stalled: bool) -> Self {
        Self {
            conditions: vec![why],
            build: None,
            workload_phase: Phase::WorkloadReady,
            endpoint: None,
            is_stalled,
            provisioned: None,
            again: None,
        }
    }
}

/// A kind that we reconcile.
pub(crate) trait Managed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + CustomResourceExt
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    const KIND: Kind;
    /// The phase that an object does not reach which breaks a rule.
    const RULES_PHASE: Phase = Phase::WorkloadReady;
    /// Whether the status tells how many of the workload are to run.
    const TELLS_REPLICAS: bool = false;

    fn suspended(&self) -> bool;
    fn criteria(&self) -> Option<&str>;
    fn conditions(&self) -> &[Condition];
    fn observed_generation(&self) -> Option<i64>;
    fn status_endpoint(&self) -> Option<&str>;

    /// Decides. Called only for objects that are neither suspended nor somebody else's nor being deleted.
    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan;

    /// The cluster that is to be brought a step further in Azure before the plan.
    fn to_provision(&self, _world: &World<'_>) -> Option<&ADXCluster> {
        None
    }

    /// The workload whose arguments the plan depends on: what an object needs may be gone while it still runs.
    fn looks_at_what_runs(&self, _owner: &Owner, _world: &World<'_>) -> Option<ChildRef> {
        None
    }

    /// Whether the plan goes on with what the status says, of which a watch's copy may lack something: our own last write, or a field that is newer than the watch.
    fn goes_on_with_status(&self, _owner: &Owner, _world: &World<'_>) -> bool {
        false
    }

    /// Whether an agent tells of a pass, and not of which document: it is of an earlier version, or what is seen or stored of its word lacks that.
    fn lacks_document(&self) -> bool {
        false
    }

    /// What the status remembers of Azure.
    fn provision_status(&self) -> (Option<&ProvisionStatus>, Option<&AppliedProvisionState>) {
        (None, None)
    }

    /// The cluster-scoped children that a finalizer must remove; the object has one if there are any.
    fn cluster_scoped(_owner: &Owner) -> Vec<ChildRef> {
        Vec::new()
    }

    /// Whether the status tells of an agent that the object no longer has.
    fn has_stale_agent_status(&self) -> bool {
        false
    }

    /// What the object's agent undid in its last pass of what somebody had done to the hub, and when that pass was.
    fn agent_repairs(&self) -> Option<(Timestamp, &[String])> {
        None
    }

    /// How many the status says are to run, of a kind that tells it.
    fn status_replicas(&self) -> Option<i32> {
        None
    }

    /// What of the status is written by others and matters here.
    fn watched_status(&self) -> impl Hash {}

    /// What, when it changes, matters to objects of other kinds in the namespace.
    fn told_status(&self) -> impl Hash {}
}

/// What every kind's spec and status have under the same names.
macro_rules! spec_and_status {
    () => {
        fn suspended(&self) -> bool {
            self.spec.suspend
        }

        fn criteria(&self) -> Option<&str> {
            self.spec.criteria_expression.as_deref()
        }

        fn conditions(&self) -> &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition] {
            self.status.as_ref().map_or(&[], |status| &status.conditions)
        }

        fn observed_generation(&self) -> Option<i64> {
            self.status.as_ref()?.observed_generation
        }

        fn status_endpoint(&self) -> Option<&str> {
            self.status.as_ref()?.endpoint.as_deref()
        }
    };
}
pub(crate) use spec_and_status;
