//! Leading by a lease. A lease is no mutual exclusion: a process that was paused may believe for a moment that it still leads, so everything that a leader does
//! must be safe when two do it. I/O: the API server.

use std::{pin::pin, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        authentication::v1::SelfSubjectReview,
        coordination::v1::{Lease as Object, LeaseSpec},
        core::v1::ServiceAccount,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Config, Resource as _,
    api::{Patch, PatchParams, PostParams},
};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{AGENT_FIELD_MANAGER, ConnectError};
use crate::runtime::chain;

/// How long a lease lasts that is not renewed, in seconds.
const DURATION: u64 = 15;
/// How long before its end it is renewed, in seconds.
const GRACE: u64 = 5;
/// The longest wait for one answer. A server that says nothing must not look like one that has renewed.
const ANSWER: Duration = Duration::from_secs(2);
/// How long renewals may fail before this process no longer leads. With the first failed answer that is less than the grace: it stops before another begins.
const FAILING: Duration = Duration::from_secs(2);
/// Between two tries while the API server does not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// How often somebody who does not lead looks whether another does.
const LOOK: Duration = Duration::from_secs(2);
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
    /// Whether it goes when the ServiceAccount goes that we run under.
    pub goes_with_account: bool,
}

/// How this process stands in the election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It does not lead, and knows of nobody who does: why.
    Seeks(String),
    /// Another was seen to lead.
    StandsBy,
    /// It leads.
    Leads,
}

impl Standing {
    /// Whether this process leads.
    pub fn leads(&self) -> bool {
        *self == Self::Leads
    }
}

/// Takes part in the election until the stop, and releases the lease then. The channel says how this process stands: it no longer leads as soon as the lease could
/// not be renewed in time, also when the API server does not answer at all.
pub fn lead(lease: Lease, stop: CancellationToken) -> (watch::Receiver<Standing>, JoinHandle<()>) {
    let (standing, receiver) = watch::channel(Standing::Seeks("finding out who leads".to_owned()));
    let task = tokio::spawn(async move {
        while !stop.is_cancelled() {
            let candidacy = async {
                match candidate(&lease).await {
                    Ok((client, manager)) => take_part(&lease, client, manager, &standing, &stop).await,
                    Err(why) => {
                        tracing::warn!(lease = lease.name, error = why, "the lease cannot be had");
                        why
                    }
                }
            };
            let why = tokio::select! {
                why = candidacy => why,
                // A candidacy that has begun sees the stop itself, and releases the lease.
                () = stopped_for(&stop, RELEASE + PAUSE) => "the stop came first".to_owned(),
            };
            standing.send_replace(seeks(&lease, &why));
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    });
    (receiver, task)
}

fn seeks(lease: &Lease, why: &str) -> Standing {
    Standing::Seeks(format!(
        "nobody is known to hold the lease '{}' in namespace '{}': {why}",
        lease.name, lease.namespace
    ))
}

async fn stopped_for(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    sleep(time).await;
}

/// A client of its own: an answer that comes late is none, and nothing is tried again behind our back.
async fn candidate(lease: &Lease) -> Result<(Client, LeaseManager), String> {
    let mut config = Config::infer().await.map_err(|error| chain(&ConnectError::Configuration(error)))?;
    config.default_retry = false;
    (config.connect_timeout, config.read_timeout, config.write_timeout) = (Some(ANSWER), Some(ANSWER), Some(ANSWER));
    config.reset_reader_on_write = true;
    let client = Client::try_from(config).map_err(|error| chain(&ConnectError::Client(error)))?;
    let manager = LeaseManagerBuilder::new(client.clone(), &lease.name)
        .with_namespace(&lease.namespace)
        .with_identity(&lease.identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build();
    Ok((client, manager.await.map_err(|error| chain(&error))?))
}

/// One candidacy: ends at the stop, or when the lease is lost for want of an answer, and says why.
async fn take_part(
    lease: &Lease,
    client: Client,
    manager: LeaseManager,
    standing: &watch::Sender<Standing>,
    stop: &CancellationToken,
) -> String {
    let leases: Api<Object> = Api::namespaced(client.clone(), &lease.namespace);
    let mut failing = Failing::default();
    loop {
        let changed = {
            let mut changed = pin!(manager.changed());
            loop {
                tokio::select! {
                    changed = &mut changed => break Some(changed),
                    () = stop.cancelled() => break None,
                    // The manager tells when this process begins and ceases to lead, and nothing of others.
                    seen = look(&leases, lease, standing) => {
                        standing.send_if_modified(|standing| *standing != seen && { *standing = seen; true });
                    }
                }
            }
        };
        // A renewal under way, which holds the manager's lock, is given up by now.
        let Some(changed) = changed else {
            let released = async {
                // Others need not wait for its end.
                let _ = manager.release().await;
                // The last renewal may have made it anew.
                bind(&client, lease).await;
            };
            let _ = timeout(RELEASE, released).await;
            return "it was asked to stop".to_owned();
        };
        match changed {
            Ok(true) => {
                standing.send_replace(Standing::Leads);
                let (client, lease) = (client.clone(), lease.clone());
                // The lease must be renewed meanwhile.
                tokio::spawn(async move { bind(&client, &lease).await });
            }
            Ok(false) => {
                standing.send_replace(seeks(lease, "it has just been lost"));
            }
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(error = why, "the lease could not be renewed or looked at");
                if failing.for_too_long(Instant::now()) {
                    return why;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Has Kubernetes collect the lease when the ServiceAccount is gone that this process runs under, also where that is so already and the lease was just made anew.
/// Where a cluster forbids that to those who may not delete the lease, it stays.
async fn bind(client: &Client, lease: &Lease) {
    if !lease.goes_with_account {
        return;
    }
    let bound = async {
        let Some(owner) = account(client, &lease.namespace).await? else { return Ok(()) };
        let patch = json!({
            "apiVersion": Object::api_version(&()),
            "kind": Object::kind(&()),
            "metadata": {"name": lease.name, "ownerReferences": [owner]},
        });
        let leases: Api<Object> = Api::namespaced(client.clone(), &lease.namespace);
        let params = PatchParams::apply(AGENT_FIELD_MANAGER).force();
        leases.patch_metadata(&lease.name, &params, &Patch::Apply(&patch)).await.map(drop)
    };
    if let Err(error) = bound.await {
        tracing::info!(lease = lease.name, error = chain(&error), "the lease will stay when its agent goes");
    }
}

/// The ServiceAccount that this process runs under, if it is one of this namespace.
async fn account(client: &Client, namespace: &str) -> Result<Option<OwnerReference>, kube::Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    let name =
        user.username.as_deref().and_then(|name| name.strip_prefix(&format!("system:serviceaccount:{namespace}:")));
    let (Some(name), Some(uid)) = (name.map(str::to_owned), user.uid) else { return Ok(None) };
    let (api_version, kind) = (ServiceAccount::api_version(&()).into_owned(), ServiceAccount::kind(&()).into_owned());
    Ok(Some(OwnerReference { api_version, kind, name, uid, ..OwnerReference::default() }))
}

/// Looks after a while who leads, unless it is this process.
async fn look(leases: &Api<Object>, lease: &Lease, standing: &watch::Sender<Standing>) -> Standing {
    let (is_first, leads) = match &*standing.borrow() {
        Standing::Seeks(_) => (true, false),
        standing => (false, standing.leads()),
    };
    if leads {
        return std::future::pending().await;
    }
    sleep(if is_first { PAUSE } else { LOOK }).await;
    match leases.get(&lease.name).await {
        Ok(Object { spec: Some(spec), .. }) if is_held_by_another(&spec, &lease.identity, Timestamp::now()) => {
            Standing::StandsBy
        }
        Ok(_) => seeks(lease, "its holder is gone"),
        Err(error) => seeks(lease, &chain(&error)),
    }
}

/// Whether a lease has a holder that is not this process and has renewed it in time.
fn is_held_by_another(lease: &LeaseSpec, identity: &str, now: Timestamp) -> bool {
    let is_anothers = lease.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty() && holder != identity);
    let (Some(renewed), Some(seconds)) = (&lease.renew_time, lease.lease_duration_seconds) else { return false };
    is_anothers && now.duration_since(renewed.0) < SignedDuration::from_secs(seconds.into())
}

/// Failures in a row. The manager tells of a failure, and not of a renewal; but between two failures that are far apart there was one.
#[derive(Debug, Default)]
struct Failing {
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Failing {
    fn for_too_long(&mut self, now: Instant) -> bool {
        let in_a_row = self.last.is_some_and(|last| now.duration_since(last) < Duration::from_secs(GRACE));
        let since = *self.since.insert(self.since.filter(|_| in_a_row).unwrap_or(now));
        self.last = Some(now);
        now.duration_since(since) >= FAILING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_end_a_term_and_single_ones_do_not() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut failing = Failing::default();
        assert!(!failing.for_too_long(at(0.0)));
        assert!(!failing.for_too_long(at(1.5)));
        assert!(failing.for_too_long(at(2.0)));
        let mut failing = Failing::default();
        for hour in 0..5 {
            assert!(!failing.for_too_long(at(f64::from(hour) * 3600.0)), "one failure an hour");
        }
    }

    #[test]
    fn a_lease_is_held_by_another_that_renews_it_and_by_nobody_else() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let held = |holder: &str, age: i64| {
            let lease = serde_json::json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "1970-01-01T00:16:40.000000Z"});
            is_held_by_another(&serde_json::from_value(lease).unwrap(), "me", at(1000 + age))
        };
        assert!(held("other", 0) && held("other", 14));
        assert!(!held("other", 15) && !held("", 0) && !held("me", 0));
        assert!(!is_held_by_another(&LeaseSpec::default(), "me", at(0)));
    }
}
