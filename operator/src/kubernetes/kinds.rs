//! What each kind decides: from an object and what is around it to conditions and objects that are to be. Pure.

mod adx_cluster;
mod alerter;
mod collector;
mod ingestor;
mod targets;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twins;

use std::fmt;

use kql::secrets::without_secrets;
use kube::CustomResourceExt;
use reqwest::Url;
use serde::Serialize;
use serde_json::Value;
use shared::document::{Violation, exceeded_limits, pods::PodPolicy};

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

/// What the schema of a kind says of its spec.
fn schema_of_spec<K: CustomResourceExt>() -> Value {
    let mut definition = serde_json::to_value(K::crd()).expect("a definition is JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take()
}

/// The rules that the schemas of all components have, once more: the object may be older than they are.
fn component_violations(name: &str, schema: &Value, spec: &impl Serialize, policy: &Option<PodPolicy>) -> Vec<String> {
    let of_policy = policy.iter().flat_map(|policy| policy.violations("spec.podPolicy"));
    let of_spec = exceeded_limits(schema, spec).into_iter().chain(of_policy);
    name_violation(name).into_iter().chain(of_spec.map(|violation| violation.to_string())).collect()
}

/// What is wrong with an address that is written into arguments and configuration of components.
fn address_violation(field: &str, address: &str) -> Option<String> {
    let url = Url::parse(address);
    let rule = if !["http://", "https://"].iter().any(|scheme| address.starts_with(scheme)) {
        "must start with http:// or https://"
    } else if address.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "must have no blanks"
    } else if url.is_err() {
        "must be a URL with a host"
    } else {
        return None;
    };
    // A long address would leave no room for the rule.
    Some(Violation::new(field, without_secrets(address), rule).to_string())
}
