//! Leading by a lease. A lease is no mutual exclusion: a process that was paused may believe for a moment that it still leads, so everything that a leader does
//! must be safe when two do it. I/O: the API server.

use std::time::Duration;

use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::ConnectError;
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
/// not be renewed in time, also when the API server does not answer at all.
pub fn lead(lease: Lease, stop: CancellationToken) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (leads, receiver) = watch::channel(false);
    let task = tokio::spawn(async move {
        while !stop.is_cancelled() {
            let candidacy = async {
                match candidate(&lease).await {
                    Ok(manager) => take_part(manager, &leads, &stop).await,
                    Err(why) => tracing::warn!(lease = lease.name, error = why, "the lease cannot be had"),
                }
            };
            tokio::select! {
                () = candidacy => {}
                // A candidacy that has begun sees the stop itself, and releases the lease.
                () = stopped_for(&stop, RELEASE + PAUSE) => {}
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

async fn stopped_for(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    sleep(time).await;
}

/// A client of its own: an answer that comes late is none, and nothing is tried again behind our back.
async fn candidate(lease: &Lease) -> Result<LeaseManager, String> {
    let mut config = Config::infer().await.map_err(|error| chain(&ConnectError::Configuration(error)))?;
    config.default_retry = false;
    (config.connect_timeout, config.read_timeout, config.write_timeout) = (Some(ANSWER), Some(ANSWER), Some(ANSWER));
    config.reset_reader_on_write = true;
    let client = Client::try_from(config).map_err(|error| chain(&ConnectError::Client(error)))?;
    let manager = LeaseManagerBuilder::new(client, &lease.name)
        .with_namespace(&lease.namespace)
        .with_identity(&lease.identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build();
    manager.await.map_err(|error| chain(&error))
}

/// One candidacy: ends at the stop, or when the lease is lost for want of an answer.
async fn take_part(manager: LeaseManager, leads: &watch::Sender<bool>, stop: &CancellationToken) {
    let mut failing = Failing::default();
    loop {
        let changed = tokio::select! {
            changed = manager.changed() => changed,
            () = stop.cancelled() => {
                // Others need not wait for its end.
                let _ = timeout(RELEASE, manager.release()).await;
                return;
            }
        };
        match changed {
            Ok(now) => {
                leads.send_replace(now);
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "the lease could not be renewed or looked at");
                if failing.for_too_long(Instant::now()) {
                    return;
                }
                sleep(PAUSE).await;
            }
        }
    }
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
}
