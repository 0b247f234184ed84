//! Watches: what changes in the cluster becomes the names of objects to reconcile. I/O: the API server.
//!
//! Objects of our kinds are kept; of what we make for them only metadata passes through, to its owner's queue, and its version stays. So a deleted child, a scaled workload
//! or a pod that changes costs one reconcile, and memory holds no copies of children: a reconcile reads what it compares from the API server, but for what still is in
//! the version that it has compared already.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher as _},
    marker::PhantomData,
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{StreamExt as _, channel::mpsc};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, Pod, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::ApiResource,
    core::{ClusterResourceScope, NamespaceResourceScope, ObjectMeta, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store, reflector, store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use shared::{document::ADXCluster, runtime::chain};
use tokio::{task::JoinSet, time::Instant};

use super::{
    child::{COMPONENT, INSTANCE, Kind, MANAGED_BY, NAMESPACE, is_applied_by_us},
    context::Stores,
    made::{Made, OwnerName, Place},
    managed::Managed,
    stored::Stored,
};
use crate::api::{Alerter, Collector, Ingestor};

/// The name of an object to reconcile; its kind is the queue's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    namespace: String,
    name: String,
}

impl Target {
    /// As the controllers name it.
    pub(crate) fn object<K: Managed>(self) -> ObjectRef<Stored<K>> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

/// One queue for each kind.
#[derive(Clone)]
pub(crate) struct Queues(HashMap<Kind, mpsc::UnboundedSender<Target>>);

impl Queues {
    /// The queues, and their ends by kind.
    pub(crate) fn new() -> (Self, HashMap<Kind, mpsc::UnboundedReceiver<Target>>) {
        let (mut senders, mut receivers) = (HashMap::new(), HashMap::new());
        for kind in Kind::ALL {
            let (sender, receiver) = mpsc::unbounded();
            senders.insert(kind, sender);
            receivers.insert(kind, receiver);
        }
        (Self(senders), receivers)
    }

    fn send(&self, kind: Kind, namespace: Option<&str>, name: &str) {
        let target = Target { namespace: namespace.unwrap_or_default().to_owned(), name: name.to_owned() };
        if let Some(queue) = self.0.get(&kind) {
            // Closed only when the operator stops.
            let _ = queue.unbounded_send(target);
        }
    }
}

/// A watch that is refused is tried again within a minute; one that is not refused any more may have nothing to tell.
const REFUSED: Duration = Duration::from_secs(90);

/// Which watches have had their first complete list, and which the API server refuses. A connection that breaks is no refusal: the watch goes on where it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Synced {
    started: usize,
    sights: Arc<Mutex<Sights>>,
}

#[derive(Debug, Default)]
struct Sights {
    done: usize,
    /// By kind: when it was refused last, and why.
    refused: BTreeMap<String, (Instant, String)>,
}

impl Synced {
    /// Whether all have had their list.
    pub(crate) fn is_filled(&self) -> bool {
        self.sights().done >= self.started
    }

    /// Why not everything is seen; `None` where it is.
    pub(crate) fn lacks(&self) -> Option<String> {
        let Sights { done, refused } = &*self.sights();
        let refused = refused.iter().filter(|(_, (at, _))| at.elapsed() < REFUSED);
        let refused = refused.map(|(kind, (_, why))| format!("the API server refuses the watch of {kind}: {why}"));
        let few = (*done < self.started).then(|| format!("{done} of {} watches are synced", self.started));
        let lacks: Vec<String> = few.into_iter().chain(refused).collect();
        (!lacks.is_empty()).then(|| lacks.join("; "))
    }

    fn sights(&self) -> MutexGuard<'_, Sights> {
        self.sights.lock().expect("no holder of this lock panics")
    }
}

/// What one watch tells of itself.
struct Sight {
    kind: String,
    synced: Synced,
    had_list: bool,
    is_refused: bool,
}

impl Sight {
    /// Takes in what comes of the watch.
    fn note<K>(&mut self, event: &Result<Event<K>, watcher::Error>) {
        match event {
            // A list that begins may yet be refused.
            Ok(Event::Init) => {}
            Ok(event) => {
                if mem::take(&mut self.is_refused) {
                    self.synced.sights().refused.remove(&self.kind);
                }
                if matches!(event, Event::InitDone) && !mem::replace(&mut self.had_list, true) {
                    self.synced.sights().done += 1;
                }
            }
            Err(error) => {
                let why = chain(error);
                tracing::warn!(kind = self.kind, error = why, "a watch broke off and is begun again");
                if is_refusal(error) {
                    self.is_refused = true;
                    self.synced.sights().refused.insert(self.kind.clone(), (Instant::now(), why));
                }
            }
        }
    }
}

/// Whether the API server does not let us watch, or knows nothing of what is watched.
fn is_refusal(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => [401, 403, 404].contains(&status.code),
        _ => false,
    }
}

/// Everything that is watched, as running tasks that end when this is dropped.
pub(crate) struct Watches {
    pub(crate) stores: Stores,
    pub(crate) synced: Synced,
    tasks: JoinSet<()>,
}

impl Watches {
    /// Starts all watches.
    pub(crate) fn start(client: &Client, namespace: Option<&str>, queues: &Queues) -> Self {
        let (clusters, cluster_writer) = store::<Stored<ADXCluster>>();
        let (ingestors, ingestor_writer) = store::<Stored<Ingestor>>();
        let (collectors, collector_writer) = store::<Stored<Collector>>();
        let (alerters, alerter_writer) = store::<Stored<Alerter>>();
        let made = Made::default();
        let stores = Stores { clusters, ingestors, collectors, alerters, made: made.clone() };
        let mut watches = Self { stores: stores.clone(), synced: Synced::default(), tasks: JoinSet::new() };

        let (others, to) = (stores.clone(), queues.clone());
        let tell = move |namespace: Option<&str>| {
            each_in(&others.ingestors, namespace, |name| to.send(Kind::Ingestor, namespace, name));
            each_in(&others.alerters, namespace, |name| to.send(Kind::Alerter, namespace, name));
            each_in(&others.collectors, namespace, |name| to.send(Kind::Collector, namespace, name));
        };
        watches.keep(scoped(client, namespace), cluster_writer, stores.clusters.clone(), queues, tell);
        let (others, to) = (stores.collectors.clone(), queues.clone());
        let tell = move |namespace: Option<&str>| {
            each_in(&others, namespace, |name| to.send(Kind::Collector, namespace, name));
        };
        watches.keep(scoped(client, namespace), ingestor_writer, stores.ingestors.clone(), queues, tell);
        watches.keep(scoped(client, namespace), collector_writer, stores.collectors.clone(), queues, |_| {});
        watches.keep(scoped(client, namespace), alerter_writer, stores.alerters, queues, |_| {});

        watches.pass_on::<StatefulSet>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<DaemonSet>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<Deployment>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<HorizontalPodAutoscaler>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<PodDisruptionBudget>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<Service>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<ServiceAccount>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<ConfigMap>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<Role>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<RoleBinding>(scoped(client, namespace), queues, Some(&made));
        watches.pass_on::<Pod>(scoped(client, namespace), queues, None);
        watches.pass_on::<ClusterRole>(everywhere(client), queues, Some(&made));
        watches.pass_on::<ClusterRoleBinding>(everywhere(client), queues, Some(&made));
        watches
    }

    /// Waits until a watch ends, which none does by itself.
    pub(crate) async fn ended(&mut self) {
        self.tasks.join_next().await;
    }

    fn started(&mut self, kind: &str) -> Sight {
        self.synced.started += 1;
        Sight { kind: kind.to_owned(), synced: self.synced.clone(), had_list: false, is_refused: false }
    }

    /// Watches one of our kinds: keeps its objects, queues those that changed, and tells others in the namespace where it concerns them.
    fn keep<K: Managed>(
        &mut self,
        api: Api<Stored<K>>,
        writer: Writer<Stored<K>>,
        store: Store<Stored<K>>,
        queues: &Queues,
        tell: impl Fn(Option<&str>) + Send + Sync + 'static,
    ) {
        let (queues, mut sight) = (queues.clone(), self.started(K::KIND.as_str()));
        self.tasks.spawn(async move {
            let read =
                watcher(api, watcher::Config::default()).default_backoff().modify(forget_managed_fields::<Stored<K>>);
            let mut events = pin!(reflector(writer, read));
            let mut seen = Seen::default();
            while let Some(event) = events.next().await {
                sight.note(&event);
                match event {
                    Ok(Event::Apply(object)) => {
                        let (own, told) = seen.changed(&object);
                        if own {
                            queues.send(K::KIND, object.namespace().as_deref(), &object.name_any());
                        }
                        if told {
                            tell(object.namespace().as_deref());
                        }
                    }
                    Ok(Event::Delete(object)) => {
                        seen.forget(&object);
                        tell(object.namespace().as_deref());
                    }
                    // What was missed while there was no watch is unknown: everything is looked at.
                    Ok(Event::InitDone) => {
                        for namespace in mem::take(&mut seen).namespaces() {
                            tell(namespace.as_deref());
                        }
                        for object in store.state() {
                            seen.changed(&*object);
                            queues.send(K::KIND, object.namespace().as_deref(), &object.name_any());
                            tell(object.namespace().as_deref());
                        }
                    }
                    Ok(Event::Init | Event::InitApply(_)) | Err(_) => {}
                }
            }
        });
    }

    /// Watches the metadata of what we make of one kind: a change goes to its owner's queue. `made`: where its names are kept, if they are.
    fn pass_on<C>(&mut self, api: Api<PartialObjectMeta<C>>, queues: &Queues, made: Option<&Made>)
    where
        C: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (queues, mut sight) = (queues.clone(), self.started(&C::kind(&())));
        let (made, resource) = (made.cloned(), Arc::new(ApiResource::erase::<C>(&())));
        self.tasks.spawn(async move {
            let place = |(namespace, name): &Named| Place {
                resource: Arc::clone(&resource),
                namespace: namespace.clone(),
                name: name.clone(),
            };
            let forget = |owner: &OwnerName, key: &Named| {
                if let Some(made) = &made {
                    made.remove(owner, &place(key));
                }
            };
            let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
            let mut events = pin!(watcher(api, ours).default_backoff());
            // Owners of what there is: labels may be what somebody changes, and after a gap those of what has vanished are looked at too.
            let mut owners: HashMap<Named, OwnerName> = HashMap::new();
            let mut before: HashMap<Named, OwnerName> = HashMap::new();
            let tell = |owner: &OwnerName| queues.send(owner.0, owner.1.as_deref(), &owner.2);
            while let Some(event) = events.next().await {
                sight.note(&event);
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => {
                        let owner = owner_of(&object.metadata);
                        let key = (object.namespace(), object.name_any());
                        let known = owners.get(&key).or_else(|| before.get(&key)).cloned();
                        // Before its owner is looked at. What others made and labelled like ours is not ours to remove.
                        let is_ours = is_applied_by_us(&object.metadata);
                        known
                            .iter()
                            .filter(|known| !is_ours || owner.as_ref() != Some(known))
                            .for_each(|known| forget(known, &key));
                        if let (Some(made), Some(owner), true) = (&made, &owner, is_ours) {
                            made.add(owner, place(&key), object.resource_version().unwrap_or_default());
                        }
                        owner.iter().chain(&known).for_each(tell);
                        owners.extend(owner.map(|owner| (key, owner)));
                    }
                    Ok(Event::Delete(object)) => {
                        let key = (object.namespace(), object.name_any());
                        let (owner, known) = (owner_of(&object.metadata), owners.remove(&key));
                        owner.iter().chain(&known).for_each(|owner| {
                            forget(owner, &key);
                            tell(owner);
                        });
                    }
                    // A list that fails begins again: what was known before the first stays known until one succeeds.
                    Ok(Event::Init) => {
                        before.extend(owners.drain());
                        made.iter().for_each(|made| made.lists(&resource));
                    }
                    Ok(Event::InitDone) => {
                        for (key, owner) in before.drain() {
                            if owners.get(&key) != Some(&owner) {
                                forget(&owner, &key);
                            }
                            tell(&owner);
                        }
                        made.iter().for_each(|made| made.has_listed(&resource));
                    }
                    Err(_) => made.iter().for_each(|made| made.failed(&resource)),
                }
            }
        });
    }
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn everywhere<K>(client: &Client) -> Api<PartialObjectMeta<K>>
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
{
    Api::all(client.clone())
}

/// The larger part of an object, and of no use here.
fn forget_managed_fields<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

fn each_in<K: Managed>(store: &Store<Stored<K>>, namespace: Option<&str>, mut act: impl FnMut(&str)) {
    for object in store.state().iter().filter(|object| object.namespace().as_deref() == namespace) {
        act(&object.name_any());
    }
}

/// An object by its namespace and name.
type Named = (Option<String>, String);

/// The owner of an object of ours, by its labels.
fn owner_of(metadata: &ObjectMeta) -> Option<OwnerName> {
    let labels = metadata.labels.as_ref()?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| labels.get(COMPONENT).is_some_and(|component| component == kind.component()))?;
    let namespace = metadata.namespace.clone().or_else(|| labels.get(NAMESPACE).cloned());
    Some((kind, namespace, labels.get(INSTANCE)?.clone()))
}

/// What was last seen of each object, as hashes: our own status writes change neither.
struct Seen<K>(HashMap<Named, (u64, u64)>, PhantomData<K>);

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self(HashMap::new(), PhantomData)
    }
}

impl<K: Managed> Seen<K> {
    /// Whether the object itself has to be reconciled, and whether others in its namespace have to be.
    fn changed(&mut self, object: &Stored<K>) -> (bool, bool) {
        let meta = object.meta();
        let watched = match object {
            Stored::Readable(object) => hash_of(&object.watched_status()),
            Stored::Unreadable(unreadable) => hash_of(&unreadable.why),
        };
        let told = object.known().map(|object| hash_of(&object.told_status()));
        let is_deleted = meta.deletion_timestamp.is_some();
        let own = hash_of(&(meta.generation, is_deleted, &meta.finalizers, &meta.labels, watched));
        let told = hash_of(&(&meta.labels, is_deleted, meta.generation, told));
        let before = self.0.insert((meta.namespace.clone(), object.name_any()), (own, told));
        before.map_or((true, true), |before| (before.0 != own, before.1 != told))
    }

    /// Where there was something.
    fn namespaces(self) -> BTreeSet<Option<String>> {
        self.0.into_keys().map(|(namespace, _)| namespace).collect()
    }

    fn forget(&mut self, object: &Stored<K>) {
        self.0.remove(&(object.meta().namespace.clone(), object.name_any()));
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
