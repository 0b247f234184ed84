//! What each kind decides: from an object and what is around it to conditions and objects that are to be. Pure.

mod adx_cluster;
mod alerter;
mod collector;
mod ingestor;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use kube::ResourceExt as _;
use shared::document::{ADXCluster, spec::TelemetryType};

use super::{
    conditions::{Draft, Phase},
    managed::Plan,
};

/// A spec that breaks a rule: nothing is done until it changes.
fn invalid(phase: Phase, violations: &[impl fmt::Display]) -> Plan {
    let message: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Plan::nothing(Draft::no(phase, "Invalid", message.join("; ")), true)
}

/// `Database=https://cluster` of all databases that hold one of these kinds of telemetry, in order.
fn endpoints(clusters: &[Arc<ADXCluster>], kinds: &[TelemetryType]) -> Vec<String> {
    let of_cluster = |cluster: &Arc<ADXCluster>| -> Vec<String> {
        let endpoint = cluster.status.as_ref().and_then(|status| status.endpoint.clone()).unwrap_or_default();
        let databases = cluster.spec.databases.iter().filter(|database| kinds.contains(&database.telemetry_type));
        databases.map(|database| format!("{}={endpoint}", database.database_name)).collect()
    };
    let mut endpoints: Vec<String> = clusters.iter().flat_map(of_cluster).collect();
    endpoints.sort();
    endpoints.dedup();
    endpoints
}

fn names(clusters: &[Arc<ADXCluster>]) -> String {
    clusters.iter().map(|cluster| cluster.name_any()).collect::<Vec<_>>().join(", ")
}

/// A text that was given: adx-mon's users leave fields empty that they do not use.
fn given(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.trim().is_empty())
}

/// The schema's rule once more: the object may be older.
fn name_violation(name: &str) -> Option<String> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_right = name.len() <= 52
        && name.bytes().all(is_inner)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-');
    (!is_right).then(|| {
        format!(
            "metadata.name = {name}: must be at most 52 lower-case letters, digits and hyphens, beginning with a letter"
        )
    })
}

/// An address that is written into arguments and configuration of components.
fn is_url(text: &str) -> bool {
    let has_scheme = text.starts_with("http://") || text.starts_with("https://");
    has_scheme && text.len() <= 512 && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}
