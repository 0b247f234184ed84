//! What each kind decides: from an object and what is around it to conditions and objects that are to be. Pure.

mod adx_cluster;
mod alerter;
mod collector;
mod ingestor;
mod targets;
#[cfg(test)]
mod tests;

use std::fmt;

use kql::endpoint::without_secrets;
use reqwest::Url;
use shared::document::pods::PodPolicy;

#[cfg(test)]
pub(crate) use self::adx_cluster::reason_of_guard;
use super::{
    conditions::{Draft, Phase},
    managed::Plan,
    reason::Reason,
};

/// A spec that breaks a rule: nothing is done until it changes.
fn invalid(phase: Phase, violations: &[impl fmt::Display]) -> Plan {
    let message: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Plan::nothing(Draft::no(phase, Reason::Invalid, message.join("; ")), true)
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

/// The schema's rules of a policy once more.
fn pods_violations(policy: &Option<PodPolicy>) -> Vec<String> {
    let violations = policy.iter().flat_map(|policy| policy.violations("spec.podPolicy"));
    violations.map(|violation| violation.to_string()).collect()
}

/// The longest address in a component's arguments and configuration.
const LONGEST_ADDRESS: usize = 2048;

/// What is wrong with an address that is written into arguments and configuration of components.
fn address_violation(field: &str, address: &str) -> Option<String> {
    let url = Url::parse(address);
    let rule = if address.len() > LONGEST_ADDRESS {
        // The address would leave no room for the rule.
        return Some(format!("{field}: must have at most {LONGEST_ADDRESS} bytes"));
    } else if !["http://", "https://"].iter().any(|scheme| address.starts_with(scheme)) {
        "must start with http:// or https://"
    } else if address.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "must have no blanks"
    } else if url.is_err() {
        "must be a URL with a host"
    } else {
        return None;
    };
    Some(format!("{field} = {}: {rule}", without_secrets(address)))
}
