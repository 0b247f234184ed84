//! What all reconciles share. Holds the stores that the watches fill, and what must outlive one reconcile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Client,
    api::DynamicObject,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};
use shared::document::ADXCluster;
use tokio::time::Instant;

use super::{
    apply::Known,
    child::{Kind, Owner},
    made::Made,
    managed::{Managed, World},
    metrics::OperatorMetrics,
    provision::Azure,
    settings::Settings,
    stored::{Stored, Unreadable},
};
use crate::api::{Alerter, Collector, Ingestor};

/// The first wait after a failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How soon pods that are not ready are looked at besides when they or their workload change: why a controller could not even make them is told by an Event, which
/// nothing watches. As long again as nothing has changed; so a whole fleet that is not ready for hours is not looked at all the time. So with the word of an agent that
/// lacks its document, which a watch may show late.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// How soon they are looked at in any case.
const LONGEST_LOOK: Duration = Duration::from_secs(300);
/// How soon it is looked at again whether a watch shows what was written; later and later, as all objects may wait for one.
const SHORTEST_LAG: Duration = Duration::from_millis(50);
/// How long the watch is waited for that is to show what was written: one that is behind for longer may have begun anew, in an etcd that counts from an earlier version.
const LONGEST_LAG: Duration = Duration::from_secs(30);

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

impl Stores {
    /// How many objects of our kinds there are.
    fn count(&self) -> usize {
        self.clusters.len() + self.ingestors.len() + self.collectors.len() + self.alerters.len()
    }

    fn has(&self, (kind, namespace, name): &Key) -> bool {
        match kind {
            Kind::AdxCluster => has(&self.clusters, namespace, name),
            Kind::Ingestor => has(&self.ingestors, namespace, name),
            Kind::Collector => has(&self.collectors, namespace, name),
            Kind::Alerter => has(&self.alerters, namespace, name),
        }
    }
}

fn has<K: Managed>(store: &Store<Stored<K>>, namespace: &str, name: &str) -> bool {
    store.get(&ObjectRef::new(name).within(namespace)).is_some()
}

/// An object's kind, namespace and name.
type Key = (Kind, String, String);

/// What is remembered of one object.
#[derive(Debug, Default)]
struct Memory {
    /// Which it is: of another of its name nothing is remembered.
    uid: String,
    /// How often it has failed in a row.
    failures: u32,
    /// What is known of its children.
    known: Known,
    /// The version of its workload and pods while they are not ready, and since when it is that one.
    unready: Option<(u64, Instant)>,
    /// Since when its agent's word lacks the document.
    undocumented: Option<Instant>,
    /// The newest pass of its agent whose repairs have an Event.
    repaired: Option<Timestamp>,
    /// Where its status may not say that it cannot be read: what is wrong with it.
    unsaid: Option<String>,
    /// The version that it has with the last write of its status, and when that was.
    written: Option<(u64, Instant)>,
    /// Whether a write of its status may have been done, and nobody knows.
    is_unsure: bool,
}

/// Handed to every reconcile.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) stores: Stores,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: OperatorMetrics,
    /// Without it no clusters are made.
    pub(crate) azure: Option<Arc<Azure>>,
    memory: Mutex<HashMap<Key, Memory>>,
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
        // An agent tells when its pass was in whole seconds.
        let started = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let memory = Mutex::default();
        Arc::new(Self { client, settings, stores, recorder, metrics, azure, memory, started })
    }

    /// What decisions may look at.
    pub(crate) fn world(&self) -> World<'_> {
        World {
            settings: &self.settings,
            now: Timestamp::now(),
            clusters: known(&self.stores.clusters),
            undecided: undecided(&self.stores.clusters),
            ingestors: known(&self.stores.ingestors),
            can_provision: self.azure.is_some(),
            provisioned: None,
            running: None,
        }
    }

    /// How long to wait after another failure of this object.
    pub(crate) fn wait_after_failure(&self, owner: &Owner) -> Duration {
        self.remembering(owner, |memory| {
            let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(memory.failures.min(10))).min(LONGEST_WAIT);
            memory.failures += 1;
            wait
        })
    }

    /// How long to wait for pods that are not ready. `version`: theirs or their workload's, whichever is the newest.
    pub(crate) fn wait_for_pods(&self, owner: &Owner, version: u64) -> Duration {
        let now = Instant::now();
        self.remembering(owner, |memory| {
            let same = memory.unready.filter(|(known, _)| *known == version);
            let (_, since) = *memory.unready.insert(same.unwrap_or((version, now)));
            as_long_again(since, now)
        })
    }

    /// How long to wait for an agent that is to tell of its document, where its word lacks that. Other words of it change nothing: one of an earlier version never tells.
    pub(crate) fn wait_for_document(&self, owner: &Owner, is_lacking: bool) -> Option<Duration> {
        let now = Instant::now();
        self.remembering(owner, |memory| {
            memory.undocumented = is_lacking.then(|| memory.undocumented.unwrap_or(now));
            memory.undocumented.map(|since| as_long_again(since, now))
        })
    }

    /// What is known of its children from the last look.
    pub(crate) fn known(&self, owner: &Owner) -> Known {
        self.remembering(owner, |memory| memory.known.clone())
    }

    /// What the next look is to know of its children.
    pub(crate) fn note_known(&self, owner: &Owner, known: Known) {
        self.remembering(owner, |memory| memory.known = known);
    }

    /// Whether repairs of a pass have no Event yet. Those of passes before this process are an earlier one's to tell.
    pub(crate) fn is_new_repair(&self, owner: &Owner, pass: Timestamp) -> bool {
        pass >= self.started && self.remembering(owner, |memory| memory.repaired.replace(pass) != Some(pass))
    }

    /// Whether an object that cannot be read, and whose status may not say so, has no Event of it yet.
    pub(crate) fn is_new_refusal(&self, owner: &Owner, why: &str) -> bool {
        self.remembering(owner, |memory| memory.unsaid.replace(why.to_owned()).as_deref() != Some(why))
    }

    /// Its status was written.
    pub(crate) fn note_written(&self, owner: &Owner, object: &DynamicObject) {
        let Some(version) = version_of(&object.metadata) else { return };
        let written = Some((version, Instant::now()));
        self.remembering(owner, |memory| (memory.written, memory.is_unsure) = (written, false));
    }

    /// A write of its status failed: it may have been done all the same.
    pub(crate) fn note_unsure(&self, owner: &Owner) {
        self.remembering(owner, |memory| memory.is_unsure = true);
    }

    /// Whether its status may be another than the watch shows, as the answer to the last write was lost.
    pub(crate) fn is_unsure(&self, owner: &Owner) -> bool {
        self.remembering(owner, |memory| memory.is_unsure)
    }

    /// How long to wait for a watch that shows an object as it was before its status was written last. What is to be said would be compared with what is not said any more: where the two
    /// are equal nothing would be written, and the object would go on saying what was true in between.
    pub(crate) fn behind(&self, owner: &Owner, seen: &ObjectMeta) -> Option<Duration> {
        let is_before = |version: u64| version_of(seen).is_some_and(|seen| seen < version);
        self.remembering(owner, |memory| {
            memory.written = memory.written.filter(|(version, at)| is_before(*version) && at.elapsed() < LONGEST_LAG);
            memory.written.map(|(_, at)| at.elapsed().clamp(SHORTEST_LAG, Duration::from_secs(1)))
        })
    }

    /// The object is fine again, or gone.
    pub(crate) fn forget_failures(&self, owner: &Owner) {
        self.remembering(owner, |memory| memory.failures = 0);
    }

    /// Looks at what is remembered of an object, and changes it. Objects that have gone are forgotten once another has their name, or more are remembered than there are.
    fn remembering<T>(&self, owner: &Owner, act: impl FnOnce(&mut Memory) -> T) -> T {
        let key = (owner.kind, owner.namespace.clone(), owner.name.clone());
        let mut memory = self.memory.lock().expect("no holder of this lock panics");
        if memory.len() > self.stores.count() {
            memory.retain(|known, _| self.stores.has(known));
        }
        let memory = memory.entry(key).or_default();
        if memory.uid != owner.uid {
            *memory = Memory { uid: owner.uid.clone(), ..Memory::default() };
        }
        act(memory)
    }
}

/// As long again as it has been so, within the bounds of a look.
fn as_long_again(since: Instant, now: Instant) -> Duration {
    now.duration_since(since).clamp(FIRST_LOOK, LONGEST_LOOK)
}

fn known<K: Managed>(store: &Store<Stored<K>>) -> Vec<Arc<K>> {
    store.state().iter().filter_map(|stored| stored.known()).collect()
}

fn undecided<K: Managed>(store: &Store<Stored<K>>) -> Vec<Arc<Unreadable<K>>> {
    let unreadable = |stored: &Arc<Stored<K>>| match &**stored {
        Stored::Unreadable(unreadable) if unreadable.rest.is_none() => Some(Arc::clone(unreadable)),
        _ => None,
    };
    store.state().iter().filter_map(unreadable).collect()
}

/// [Versions of one kind can be compared](https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions): they are etcd's, which counts.
pub(crate) fn version_of(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use kube::{
        Resource as _,
        runtime::{events::Reporter, reflector, watcher::Event},
    };
    use serde_json::json;
    use shared::runtime::Metrics;
    use tokio::time;

    use super::*;

    /// With a store of Ingestors that is filled by the writer.
    fn context() -> (Arc<Context>, reflector::store::Writer<Stored<Ingestor>>) {
        let (clusters, _) = reflector::store();
        let (ingestors, writer) = reflector::store::<Stored<Ingestor>>();
        let (collectors, _) = reflector::store();
        let (alerters, _) = reflector::store();
        let stores = Stores { clusters, ingestors, collectors, alerters, made: Made::default() };
        let client = Client::new(Router::<()>::new(), "monitoring");
        let recorder = Recorder::new(client.clone(), Reporter::from("tests"));
        let metrics = Metrics::new().register(OperatorMetrics::new);
        (Context::new(client, Settings::of_tests(None), stores, recorder, metrics, None), writer)
    }

    fn ingestor(name: &str) -> Stored<Ingestor> {
        let spec = json!({"adxClusterSelector": {}});
        let metadata = json!({"name": name, "namespace": "monitoring", "uid": name});
        let object =
            json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "Ingestor", "metadata": metadata, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn owner(name: &str) -> Owner {
        Owner::of(Kind::Ingestor, ingestor(name).meta())
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_pods_grows_for_as_long_as_nothing_of_them_changes() {
        let (context, mut writer) = context();
        writer.apply_watcher_event(&Event::Apply(ingestor("i")));
        let waits = async |version: u64| {
            let mut waits = Vec::new();
            for _ in 0..9 {
                let wait = context.wait_for_pods(&owner("i"), version);
                waits.push(wait.as_secs());
                time::sleep(wait).await;
            }
            waits
        };
        for version in [7, 8, 7] {
            assert_eq!(waits(version).await, [10, 10, 20, 40, 80, 160, 300, 300, 300]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_an_agents_document_grows_until_it_is_told_or_the_object_is_another() {
        let (context, mut writer) = context();
        writer.apply_watcher_event(&Event::Apply(ingestor("i")));
        let (one, other) = (owner("i"), Owner { uid: "other".to_owned(), ..owner("i") });
        let waits = async |owner: &Owner| {
            let mut waits = Vec::new();
            for _ in 0..9 {
                let wait = context.wait_for_document(owner, true).unwrap();
                waits.push(wait.as_secs());
                time::sleep(wait).await;
            }
            waits
        };
        let growing = [10, 10, 20, 40, 80, 160, 300, 300, 300];
        assert_eq!(waits(&one).await, growing);
        assert_eq!(context.wait_for_document(&one, false), None);
        assert_eq!(waits(&one).await, growing);
        assert_eq!(waits(&other).await, growing);
    }

    #[tokio::test(start_paused = true)]
    async fn of_another_object_of_its_name_nothing_is_remembered() {
        let (context, mut writer) = context();
        writer.apply_watcher_event(&Event::Apply(ingestor("i")));
        let at = |version: &str| ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() };
        let written = DynamicObject { types: None, metadata: at("7"), data: json!({}) };
        let (pass, seen) = (context.started, at("5"));
        for owner in [owner("i"), Owner { uid: "another".to_owned(), ..owner("i") }] {
            let are_new = || [context.is_new_repair(&owner, pass), context.is_new_refusal(&owner, "why")];
            assert!(!context.is_unsure(&owner) && context.behind(&owner, &seen).is_none(), "{owner:?}");
            assert_eq!((context.wait_after_failure(&owner), are_new()), (FIRST_WAIT, [true, true]));
            context.note_written(&owner, &written);
            context.note_unsure(&owner);
            assert!(context.is_unsure(&owner) && context.behind(&owner, &seen).is_some(), "{owner:?}");
            assert_eq!((context.wait_after_failure(&owner), are_new()), (FIRST_WAIT * 2, [false, false]));
        }
    }

    #[tokio::test]
    async fn of_objects_that_have_gone_no_more_is_remembered_than_there_are() {
        let (context, mut writer) = context();
        for name in ["stays", "also"] {
            writer.apply_watcher_event(&Event::Apply(ingestor(name)));
        }
        let (pass, later) = (context.started, FIRST_WAIT * 2);
        assert_eq!(context.wait_after_failure(&owner("stays")), FIRST_WAIT);
        assert!(context.is_new_repair(&owner("stays"), pass) && context.is_new_refusal(&owner("stays"), "why"));
        for number in 0..100 {
            let gone = owner(&format!("gone-{number}"));
            context.wait_after_failure(&gone);
            context.is_new_repair(&gone, pass);
            context.is_new_refusal(&gone, "why");
            let remembered = context.memory.lock().unwrap().len();
            assert!(remembered <= 3, "{remembered} of 2 objects");
        }
        assert_eq!(context.wait_after_failure(&owner("stays")), later);
        assert!(!context.is_new_repair(&owner("stays"), pass) && !context.is_new_refusal(&owner("stays"), "why"));
        // What is fine again is remembered for the rest.
        context.forget_failures(&owner("stays"));
        assert_eq!(context.wait_after_failure(&owner("stays")), FIRST_WAIT);
        assert!(!context.is_new_repair(&owner("stays"), pass) && context.is_new_refusal(&owner("stays"), "another"));
    }
}
