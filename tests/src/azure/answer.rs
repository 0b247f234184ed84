//! A request that the double has understood, and what is answered to it. No I/O; the files that answer for a kind of resource take the one and return the other.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Durations,
    world::{Cluster, World, normal},
};

/// What holds for all requests.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) durations: Durations,
    /// Clients see this address in links.
    pub(super) base: String,
    pub(super) page_size: usize,
    pub(super) began_at: Timestamp,
}

/// A request.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) subscription: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a BTreeMap<String, String>,
    /// Null if there is none.
    pub(super) body: &'a Value,
    pub(super) if_match: Option<&'a str>,
    pub(super) if_none_match: Option<&'a str>,
    pub(super) settings: &'a Settings,
}

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    /// In a box, so that an answer is small enough to be an error.
    pub(super) body: Option<Box<Value>>,
    /// The operation that the request began.
    pub(super) began: Option<String>,
    /// A rule that the client broke.
    pub(super) violation: Option<String>,
}

impl Answer {
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self { status, body: Some(Box::new(body)), ..Self::default() }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, json!({"error": {"code": code, "message": message}}))
    }

    /// With the links to an operation that it began.
    pub(super) fn with_operation(mut self, call: &Call<'_>, world: &World, id: String) -> Self {
        let operation = &world.operations[&id];
        let url = format!(
            "{}/subscriptions/{}/providers/Microsoft.Kusto/locations/{}/operationResults/{id}?api-version=2025-02-14",
            call.settings.base,
            operation.subscription,
            normal(&operation.location)
        );
        self.headers.push(("location", format!("{url}&operationResultResponseType=Location")));
        self.headers.push(("azure-asyncoperation", url));
        self.began = Some(id);
        self.with_retry_after(call)
    }

    pub(super) fn with_retry_after(mut self, call: &Call<'_>) -> Self {
        self.headers.push(("retry-after", call.settings.durations.retry_after.as_secs().to_string()));
        self
    }
}

impl Call<'_> {
    /// One page of a list, by the token of the query.
    pub(super) fn page(&self, items: Vec<Value>) -> Answer {
        let size = self.settings.page_size.max(1);
        let from = self.query.get("$skiptoken").and_then(|token| token.parse().ok()).unwrap_or(0_usize);
        let more = items.len() > from.saturating_add(size);
        let mut body = json!({"value": items.into_iter().skip(from).take(size).collect::<Vec<_>>()});
        if more {
            let version = self.query.get("api-version").map_or("", String::as_str);
            let (base, path) = (&self.settings.base, self.path);
            body["nextLink"] = format!("{base}{path}?api-version={version}&$skiptoken={}", from + size).into();
        }
        Answer::json(200, body)
    }

    /// Real time, as the double's clock goes.
    pub(super) fn timestamp(&self, at: Duration) -> String {
        let at = SignedDuration::try_from(at).expect("a story is shorter than the age of the universe");
        let timestamp = self.settings.began_at.checked_add(at).unwrap_or(self.settings.began_at);
        timestamp.to_string()
    }
}

impl World {
    /// Microsoft.Kusto answers for registered subscriptions only.
    pub(super) fn refuse_unregistered(&self, call: &Call<'_>) -> Result<(), Answer> {
        let subscription = self.subscriptions.get(call.subscription).expect("the exchange looked");
        if subscription.registration == "Registered" {
            return Ok(());
        }
        let message = "The subscription is not registered to use namespace 'Microsoft.Kusto'. See https://aka.ms/rps-not-found for how to register subscriptions.";
        Err(Answer::error(409, "MissingSubscriptionRegistration", message))
    }

    /// The cluster of a path, or why there is none.
    pub(super) fn find(&self, call: &Call<'_>, group: &str, name: &str) -> Result<&Cluster, Answer> {
        if !self.has_group(call.subscription, group) {
            return Err(group_not_found(group));
        }
        let found = self.clusters.get(&name.to_lowercase()).filter(|cluster| cluster.is_in(call.subscription, group));
        found.ok_or_else(|| not_found(&format!("Microsoft.Kusto/clusters/{name}"), group))
    }

    /// The same for the parent of what is asked for.
    pub(super) fn find_parent(
        &self,
        call: &Call<'_>,
        group: &str,
        name: &str,
        resource: &str,
    ) -> Result<&Cluster, Answer> {
        let found = self.find(call, group, name);
        if found.is_ok() || !self.has_group(call.subscription, group) || call.method == "GET" {
            return found;
        }
        let subscription = call.subscription;
        let message = format!(
            "Failed to perform 'write' on resource(s) of type '{resource}', because the parent resource '/subscriptions/{subscription}/resourceGroups/{group}/\
             providers/Microsoft.Kusto/clusters/{name}' could not be found."
        );
        Err(Answer::error(404, "ParentResourceNotFound", &message))
    }

    pub(super) fn has_group(&self, subscription: &str, group: &str) -> bool {
        self.subscriptions.get(subscription).is_some_and(|known| known.groups.contains_key(&group.to_lowercase()))
    }

    /// Refuses a write while something else is done to the cluster. Writers are to look first, so that it is a violation, unless they could not know.
    pub(super) fn refuse_overlap(&self, call: &Call<'_>, cluster: &Cluster) -> Result<(), Answer> {
        let running = self.running(&cluster.name);
        let state = cluster.provisioning_state.as_str();
        if running.is_none() && matches!(state, "Succeeded" | "Failed" | "Canceled") {
            return Ok(());
        }
        let Cluster { name, .. } = cluster;
        let message = format!(
            "[Conflict] Cluster '{name}' is in process of maintenance for a short period. You may retry to invoke the operation in a few minutes."
        );
        let mut answer = Answer::error(409, "ServiceIsInMaintenance", &message);
        if let Some(running) = running.filter(|running| !running.excused) {
            let (method, path, kind) = (call.method, call.path, running.kind);
            answer.violation = Some(format!("overlap: {method} {path} while {kind} of {name} runs"));
        }
        Err(answer)
    }
}

impl Cluster {
    pub(super) fn is_in(&self, subscription: &str, group: &str) -> bool {
        self.subscription == subscription && self.resource_group.eq_ignore_ascii_case(group)
    }
}

pub(super) fn group_not_found(group: &str) -> Answer {
    Answer::error(404, "ResourceGroupNotFound", &format!("Resource group '{group}' could not be found."))
}

pub(super) fn not_found(resource: &str, group: &str) -> Answer {
    let message = format!(
        "The Resource '{resource}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    );
    Answer::error(404, "ResourceNotFound", &message)
}
