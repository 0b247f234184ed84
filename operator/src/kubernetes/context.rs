//! What all reconciles share. Holds the stores that the watches fill, and what must outlive one reconcile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Client,
    runtime::{events::Recorder, reflector::Store},
};
use shared::document::ADXCluster;

use super::{
    child::{Kind, Owner},
    made::Made,
    managed::{Managed, World},
    metrics::OperatorMetrics,
    provision::Azure,
    settings::Settings,
    stored::Stored,
};
use crate::api::{Alerter, Collector, Ingestor};

/// The first wait after a failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Objects as the watches last saw them.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) clusters: Store<Stored<ADXCluster>>,
    pub(crate) ingestors: Store<Stored<Ingestor>>,
    pub(crate) collectors: Store<Stored<Collector>>,
    pub(crate) alerters: Store<Stored<Alerter>>,
    /// Of what we make, the names.
    pub(crate) made: Made,
}

/// An object's kind, namespace and name.
type Key = (Kind, String, String);

/// Handed to every reconcile.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) stores: Stores,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: OperatorMetrics,
    /// Without it no clusters are made.
    pub(crate) azure: Option<Arc<Azure>>,
    /// How often each object has failed in a row, and which it was: another of its name is another.
    failures: Mutex<HashMap<Key, (String, u32)>>,
    /// The newest pass of each agent whose repairs have an Event.
    repairs: Mutex<HashMap<Key, Timestamp>>,
    /// Objects whose status may not say that they cannot be read, by uid, and what is wrong with them.
    unsaid: Mutex<HashMap<Key, (String, String)>>,
    started: Timestamp,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        stores: Stores,
        recorder: Recorder,
        metrics: OperatorMetrics,
        azure: Option<Arc<Azure>>,
    ) -> Arc<Self> {
        let (failures, repairs, unsaid) = Default::default();
        let started = Timestamp::now();
        Arc::new(Self { client, settings, stores, recorder, metrics, azure, failures, repairs, unsaid, started })
    }

    /// What decisions may look at.
    pub(crate) fn world(&self) -> World<'_> {
        World {
            settings: &self.settings,
            now: Timestamp::now(),
            clusters: known(&self.stores.clusters),
            ingestors: known(&self.stores.ingestors),
            can_provision: self.azure.is_some(),
            provisioned: None,
            running: None,
        }
    }

    /// How long to wait after another failure of this object.
    pub(crate) fn wait_after_failure(&self, owner: &Owner) -> Duration {
        let mut failures = self.failures.lock().expect("no holder of this lock panics");
        let (uid, count) = failures.entry(key(owner)).or_default();
        if *uid != owner.uid {
            (*uid, *count) = (owner.uid.clone(), 0);
        }
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow((*count).min(10))).min(LONGEST_WAIT);
        *count += 1;
        wait
    }

    /// Whether repairs of a pass have no Event yet. Those of passes before this process are an earlier one's to tell.
    pub(crate) fn is_new_repair(&self, owner: &Owner, pass: Timestamp) -> bool {
        let mut repairs = self.repairs.lock().expect("no holder of this lock panics");
        pass >= self.started && repairs.insert(key(owner), pass) != Some(pass)
    }

    /// Whether an object that cannot be read, and whose status may not say so, has no Event of it yet.
    pub(crate) fn is_new_refusal(&self, owner: &Owner, why: &str) -> bool {
        let said = (owner.uid.clone(), why.to_owned());
        let mut unsaid = self.unsaid.lock().expect("no holder of this lock panics");
        unsaid.insert(key(owner), said.clone()) != Some(said)
    }

    /// The object is fine again, or gone.
    pub(crate) fn forget_failures(&self, owner: &Owner) {
        self.failures.lock().expect("no holder of this lock panics").remove(&key(owner));
    }
}

fn known<K: Managed>(store: &Store<Stored<K>>) -> Vec<Arc<K>> {
    store.state().iter().filter_map(|stored| stored.known()).collect()
}

fn key(owner: &Owner) -> Key {
    (owner.kind, owner.namespace.clone(), owner.name.clone())
}
