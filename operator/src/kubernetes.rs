//! The operator in Kubernetes: controllers for ADXCluster, Ingestor, Collector and Alerter.
//!
//! | module | what | I/O |
//! |---|---|---|
//! | [`watches`] | what changes in the cluster, as names of objects to reconcile | watches |
//! | [`made`] | what there is of ours, by its owner | none |
//! | [`reconcile`] | one object: gate, plan, apply, report | through the steps |
//! | [`unreadable`] | one that cannot be read: the status says so, and nothing is done | the API server |
//! | [`kinds`] | what each kind decides | none |
//! | [`provision`] | clusters that are to be made in Azure | Azure |
//! | [`build`] | the objects that are to be | none |
//! | [`apply`] | brings the cluster to that, and nothing else | the API server |
//! | [`reclaim`] | room for ours where somebody left none | none |
//! | [`workload`] | whether pods run, and why not | lists pods and Events |
//! | [`conditions`] | what the status says | none |
//! | [`surplus`] | what it does not say any more, and is still there | the API server |
//! | [`events`] | what people are told besides, once | the API server |

mod apply;
mod build;
mod child;
mod clusters;
mod compare;
mod conditions;
mod context;
mod criteria;
mod events;
mod kinds;
mod made;
mod managed;
mod metrics;
mod provision;
mod reason;
mod reclaim;
mod reconcile;
mod settings;
mod stored;
mod surplus;
#[cfg(test)]
mod tests;
mod unreadable;
mod watches;
mod workload;

use std::{collections::HashMap, convert::Infallible, env, sync::Arc, time::Duration};

use futures::{StreamExt as _, channel::mpsc, future, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::{
        Controller,
        controller::{Action, Config},
        events::{Recorder, Reporter},
        reflector::Store,
    },
};
use shared::{
    document::ADXCluster,
    kubernetes::{Lease, Standing, lead},
    runtime::{Admin, Metrics, chain},
};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use self::{
    child::Kind,
    context::Context,
    managed::Managed,
    metrics::OperatorMetrics,
    reconcile::reconcile,
    stored::Stored,
    watches::{Queues, Target, Watches},
};
pub use self::{
    provision::Azure,
    settings::{Images, Settings},
};
use crate::api::{Alerter, Collector, Ingestor};

/// How many objects of one kind are reconciled at once.
const CONCURRENCY: u16 = 8;

/// How many ADXClusters: those that are made in Azure wait for it, and hold up no other.
const CONCURRENT_CLUSTERS: u16 = 64;

/// How often missing definitions are looked for.
const LOOK_FOR_CRDS: Duration = Duration::from_secs(2);

/// How often it is looked whether the API server refuses a watch.
const LOOK_AT_WATCHES: Duration = Duration::from_secs(5);

/// How long reconciles that are under way may take after the stop. With the release of the lease it stays below five seconds.
const GRACE: Duration = Duration::from_secs(2);

/// What the operator runs in.
#[allow(missing_debug_implementations)] // kube::Client has none.
pub struct Environment {
    /// The API server, as the operator. Every answer comes within a bound.
    pub client: Client,
    /// The same for watches, which have none.
    pub watching: Client,
    /// The lease that one of several operators holds.
    pub lease: Lease,
    /// Probes.
    pub admin: Admin,
    /// Where it counts.
    pub metrics: Metrics,
    /// Where clusters are made; without it none are.
    pub azure: Option<Arc<Azure>>,
    /// Cancelled when it is to stop.
    pub stop: CancellationToken,
}

/// Runs until the stop: waits for the definitions, then leads or stands by.
pub async fn run(mut settings: Settings, environment: Environment) {
    let Environment { client, watching, lease, admin, metrics, azure, stop } = environment;
    let counted = metrics.register(OperatorMetrics::new);
    let prepared = async {
        wait_for_definitions(&client, settings.namespace.as_deref(), &admin).await;
        if settings.images.agent.is_none() {
            settings.images.agent = own_image(&client, &admin).await;
        }
    };
    tokio::select! {
        () = prepared => {}
        () = stop.cancelled() => return,
    }
    tracing::info!(agent_image = settings.images.agent, "prepared");
    // The lease is held until the last reconcile has ended, which is after the stop.
    let end = CancellationToken::new();
    let (mut standing, election) = lead(lease, end.clone());
    loop {
        let leads = tokio::select! {
            // This process holds the lease to its end, and must not begin to work by it again.
            biased;
            () = stop.cancelled() => false,
            leads = until_leading(&mut standing, &admin) => leads,
        };
        if !leads {
            break;
        }
        tracing::info!("leading");
        let work = Work {
            client: &client,
            watching: &watching,
            settings: &settings,
            metrics: &counted,
            azure: azure.as_ref(),
        };
        lead_until(work, &admin, standing.clone(), &stop).await;
        tracing::info!("no longer leading");
    }
    end.cancel();
    election.await.unwrap_or_default();
}

/// Waits until this process leads. Whoever stands by while another leads is as ready as it can be. False when there is no election any more.
async fn until_leading(standing: &mut watch::Receiver<Standing>, admin: &Admin) -> bool {
    loop {
        match &*standing.borrow_and_update() {
            Standing::Leads => return true,
            Standing::StandsBy => admin.set_ready(true, "standing by: another operator leads"),
            Standing::Seeks(why) => admin.set_ready(false, why.as_str()),
        }
        if standing.changed().await.is_err() {
            return false;
        }
    }
}

/// The image of the pod that this process runs in; `None` where it does not know its pod.
async fn own_image(client: &Client, admin: &Admin) -> Option<String> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    image_of(client, admin, &variable("POD_NAMESPACE")?, &variable("POD_NAME")?).await
}

/// The image of the operator in a pod. Asks until it is told.
async fn image_of(client: &Client, admin: &Admin, namespace: &str, name: &str) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    loop {
        match pods.get(name).await {
            Ok(pod) => {
                let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
                // Beside sidecars that were injected.
                let own = containers.iter().find(|container| container.name == "operator").or(containers.first());
                return own.and_then(|container| container.image.clone());
            }
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(error = why, "the operator's own pod cannot be read, which is tried again");
                admin.set_ready(false, format!("the operator's own pod {namespace}/{name} cannot be read: {why}"));
                time::sleep(LOOK_FOR_CRDS).await;
            }
        }
    }
}

/// Definitions may be installed after the operator.
async fn wait_for_definitions(client: &Client, namespace: Option<&str>, admin: &Admin) {
    let mut told = String::new();
    while let Err(why) = definitions_are_there(client, namespace).await {
        if why != told {
            tracing::warn!(reason = why, "waiting for the custom resource definitions");
        }
        admin.set_ready(false, format!("waiting for the custom resource definitions: {why}"));
        told = why;
        time::sleep(LOOK_FOR_CRDS).await;
    }
}

async fn definitions_are_there(client: &Client, namespace: Option<&str>) -> Result<(), String> {
    async fn one<K: Managed>(client: &Client, namespace: Option<&str>) -> Result<(), String> {
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let listed = api.list_metadata(&ListParams::default().limit(1)).await;
        listed.map(drop).map_err(|error| format!("{}: {}", K::KIND.as_str(), chain(&error)))
    }
    one::<ADXCluster>(client, namespace).await?;
    one::<Ingestor>(client, namespace).await?;
    one::<Collector>(client, namespace).await?;
    one::<Alerter>(client, namespace).await
}

/// What a leader works with.
struct Work<'a> {
    client: &'a Client,
    watching: &'a Client,
    settings: &'a Settings,
    metrics: &'a OperatorMetrics,
    azure: Option<&'a Arc<Azure>>,
}

/// Watches and reconciles until the lease is lost or the stop.
async fn lead_until(work: Work<'_>, admin: &Admin, mut standing: watch::Receiver<Standing>, stop: &CancellationToken) {
    let Work { client, watching, settings, metrics, azure } = work;
    if let Some(azure) = azure {
        azure.forget_all();
    }
    let term = stop.child_token();
    let (queues, ends) = Queues::new();
    let mut watches = Watches::start(watching, settings.namespace.as_deref(), &queues);
    let recorder = Recorder::new(client.clone(), Reporter::from("adx-federation-operator"));
    let (stores, azure) = (watches.stores.clone(), azure.cloned());
    let context = Context::new(client.clone(), settings.clone(), stores, recorder, metrics.clone(), azure);
    let synced = watches.synced.clone();
    let controllers = run_controllers(&context, ends, &term);
    // Ends with the rest.
    let readiness = async {
        loop {
            match synced.lacks() {
                Some(why) => admin.set_ready(false, why),
                None => admin.set_ready(true, "leading, and all watches are synced"),
            }
            time::sleep(if synced.is_filled() { LOOK_AT_WATCHES } else { Duration::from_millis(50) }).await;
        }
    };
    let ending = async {
        tokio::select! {
            _ = standing.wait_for(|standing| !standing.leads()) => tracing::warn!("the lease is lost"),
            () = stop.cancelled() => {}
            () = readiness => {}
            () = watches.ended() => tracing::error!("a watch has ended, which none should"),
        }
        term.cancel();
        time::sleep(GRACE).await;
    };
    // Whichever is first: all reconciles have ended, or their time is over.
    tokio::select! {
        () = controllers => {}
        () = ending => tracing::warn!("reconciles were dropped where they stood, which they survive"),
    }
}

async fn run_controllers(
    context: &Arc<Context>,
    mut ends: HashMap<Kind, mpsc::UnboundedReceiver<Target>>,
    term: &CancellationToken,
) {
    let mut end = |kind: Kind| ends.remove(&kind).expect("there is a queue for every kind");
    let stores = &context.stores;
    // Decisions look at objects of other kinds: an empty store that is not filled yet would look like a cluster that has none.
    let filled = future::try_join4(
        stores.clusters.wait_until_ready(),
        stores.ingestors.wait_until_ready(),
        stores.collectors.wait_until_ready(),
        stores.alerters.wait_until_ready(),
    );
    tokio::select! {
        filled = filled => if filled.is_err() { return },
        () = term.cancelled() => return,
    }
    let clusters = controller(stores.clusters.clone(), end(Kind::AdxCluster), context, term);
    let ingestors = controller(stores.ingestors.clone(), end(Kind::Ingestor), context, term);
    let collectors = controller(stores.collectors.clone(), end(Kind::Collector), context, term);
    let alerters = controller(stores.alerters.clone(), end(Kind::Alerter), context, term);
    future::join4(clusters, ingestors, collectors, alerters).await;
}

/// The controller of one kind; its triggers come from the queue alone.
async fn controller<K: Managed>(
    store: Store<Stored<K>>,
    queue: mpsc::UnboundedReceiver<Target>,
    context: &Arc<Context>,
    term: &CancellationToken,
) {
    let concurrency = if K::KIND == Kind::AdxCluster { CONCURRENT_CLUSTERS } else { CONCURRENCY };
    Controller::for_stream(stream::pending(), store)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(queue.map(Target::object))
        .graceful_shutdown_on(term.clone().cancelled_owned())
        .run(
            reconcile::<K>,
            |_: Arc<Stored<K>>, never: &Infallible, _: Arc<Context>| -> Action { match *never {} },
            Arc::clone(context),
        )
        // A queued object that is gone is no error.
        .for_each(|_| future::ready(()))
        .await;
}
