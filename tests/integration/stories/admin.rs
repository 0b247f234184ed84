//! What a program's admin port tells.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tests::{loopback, process::Process};
use tokio::time;

use crate::support::SOON;

/// The address that a program printed for its admin port.
pub(crate) async fn admin_url(process: &Process) -> String {
    let deadline = time::Instant::now() + SOON;
    loop {
        if let Some(url) = loopback::admin_url(process) {
            return url;
        }
        assert!(time::Instant::now() < deadline, "no admin address in:\n{}", process.output());
        time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn get(url: &str, path: &str) -> (u16, String) {
    loopback::get(&format!("{url}{path}")).await.expect("the admin port answers")
}

/// Asks until the answer fits.
pub(crate) async fn until(url: &str, path: &str, fits: impl Fn(u16, &str) -> bool) -> String {
    let deadline = time::Instant::now() + SOON;
    loop {
        let (status, body) = get(url, path).await;
        if fits(status, &body) {
            return body;
        }
        assert!(time::Instant::now() < deadline, "{path} still gives {status}:\n{body}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// Of how many clusters a hub agent refuses something: each reason of its metrics, with its value.
pub(crate) fn refused(metrics: &str) -> BTreeMap<&str, &str> {
    let samples = metrics.lines().filter_map(|line| line.strip_prefix("adx_federation_refused_heartbeats{reason=\""));
    samples.filter_map(|sample| sample.split_once("\"} ")).collect()
}

/// What a hub agent's status tells of a partition; null where it tells nothing of it.
pub(crate) fn partition_of(status: &str, endpoint: &str) -> Value {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let mut partitions = status["partitions"].as_array().into_iter().flatten();
    partitions.find(|partition| partition["endpoint"] == endpoint).cloned().unwrap_or_default()
}
