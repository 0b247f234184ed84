//! Leading by a lease. A lease is no mutual exclusion: a process that was paused may believe for a moment that it still leads, so everything that a leader does
//! must be safe when two do it. I/O: the API server.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::runtime::chain;

/// How long a lease lasts that is not renewed, in seconds.
const DURATION: u64 = 15;
/// How long before that it is renewed, in seconds.
const GRACE: u64 = 5;
/// Between two tries while the API server does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the release may take at the stop.
const RELEASE: Duration = Duration::from_secs(2);

/// Which lease, and who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who holds it when we do; of its own for each replica.
    pub identity: String,
}

/// Takes part in the election until the stop, and releases the lease then. The channel says whether this process leads: false as soon as the lease could
/// not be renewed in time, also when the API server does not answer.
pub fn lead(client: Client, lease: Lease, stop: CancellationToken) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (leads, receiver) = watch::channel(false);
    let task = tokio::spawn(async move {
        while !stop.is_cancelled() {
            if let Err(error) = take_part(&client, &lease, &leads, &stop).await {
                tracing::warn!(lease = lease.name, error = chain(&error), "the lease cannot be had");
            }
            leads.send_replace(false);
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    });
    (receiver, task)
}

/// One candidacy: ends at the stop, or when the lease is lost for want of an answer.
async fn take_part(
    client: &Client,
    lease: &Lease,
    leads: &watch::Sender<bool>,
    stop: &CancellationToken,
) -> Result<(), LeaseManagerError> {
    let manager = LeaseManagerBuilder::new(client.clone(), &lease.name)
        .with_namespace(&lease.namespace)
        .with_identity(&lease.identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build()
        .await?;
    let mut failing_since = None;
    loop {
        let changed = tokio::select! {
            changed = manager.changed() => changed,
            () = stop.cancelled() => {
                // Others need not wait for its end.
                let _ = timeout(RELEASE, manager.release()).await;
                return Ok(());
            }
        };
        match changed {
            Ok(now) => {
                failing_since = None;
                leads.send_replace(now);
            }
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                // Renewal begins a grace before the end: after that, it is somebody else's.
                if since.elapsed() >= Duration::from_secs(GRACE) {
                    return Err(error);
                }
                sleep(PAUSE).await;
            }
        }
    }
}
