//! Whether a workload's pods run, and if not, why: in the pods' own words. I/O: [`why_not_ready`] lists pods and Events; the rest is pure.

mod said;
mod slow;
#[cfg(test)]
mod tests;
mod told;

use std::{fmt::Debug, slice};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kql::secrets::redacted;
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::said::Said;
use self::{
    slow::{BEING_MADE, SlowPods, containers},
    told::{still_told, words},
};
use super::{child::Owner, context::version_of};

/// Why pods do not all run: reason and sentence.
type Why = (String, String);

/// How far a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Whether all pods that are wanted run the current template and are ready.
    pub(crate) is_ready: bool,
    /// A sentence.
    pub(crate) message: String,
}

/// Reads the status of a Deployment, StatefulSet or DaemonSet.
pub(crate) fn progress(workload: &DynamicObject) -> Progress {
    let number = |pointer: &str| workload.data.pointer(pointer).and_then(Value::as_i64);
    let is_daemon = number("/status/desiredNumberScheduled").is_some()
        || workload.types.as_ref().is_some_and(|types| types.kind == "DaemonSet");
    let (wanted, ready, updated) = if is_daemon {
        ("/status/desiredNumberScheduled", "/status/numberReady", "/status/updatedNumberScheduled")
    } else {
        ("/spec/replicas", "/status/readyReplicas", "/status/updatedReplicas")
    };
    let wanted = number(wanted).unwrap_or(i64::from(!is_daemon));
    let (ready, updated) = (number(ready).unwrap_or(0), number(updated).unwrap_or(0));
    let is_observed = number("/status/observedGeneration") >= workload.metadata.generation;
    // Old pods of a rolling update count as ready; a Deployment keeps them in `replicas` until they are gone.
    let all = number("/status/replicas").unwrap_or(wanted);
    let is_ready = is_observed && ready >= wanted && updated >= wanted && (is_daemon || all <= wanted);
    let message = match is_ready {
        true => format!("{ready} of {wanted} pod(s) ready"),
        false if !is_observed => "the change has just been made".to_owned(),
        false if updated < wanted => format!("{updated} of {wanted} pod(s) are up to date, {ready} ready"),
        false => format!("{ready} of {wanted} pod(s) ready"),
    };
    Progress { is_ready, message }
}

/// How many pods of a workload that can be scaled are to run.
pub(crate) fn scale_of(workload: &DynamicObject) -> Option<i32> {
    let replicas = workload.data.pointer("/spec/replicas").and_then(Value::as_i64)?;
    i32::try_from(replicas).ok()
}

/// What a look at a workload's pods found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Why they do not all run, as far as anybody tells: reason and sentence.
    pub(crate) why: Option<Why>,
    /// The newest version of the workload and of the pods that were looked at: with another one something has changed.
    pub(crate) version: u64,
}

/// Why a workload's pods do not all run, as far as anybody tells. A pod in trouble comes first, then that some cannot even be made. What was said before is said again for
/// as long as it is true.
///
/// # Errors
/// If pods, or Events, cannot be listed: then nobody knows.
pub(crate) async fn why_not_ready(
    client: &Client,
    owner: &Owner,
    workload: &DynamicObject,
    said: Said<'_>,
) -> Result<Found, kube::Error> {
    let Found { why, version } = told_trouble(client, owner, said, Timestamp::now()).await?;
    let why = match why.or_else(|| refusal(workload)) {
        None => told_refusal(client, owner, workload).await?,
        why => why,
    };
    let version = version_of(&workload.metadata).unwrap_or_default().max(version);
    Ok(Found { why: why.map(|why| said.again(why)), version })
}

/// Why a Deployment's pods cannot even be made: reason and sentence.
fn refusal(workload: &DynamicObject) -> Option<Why> {
    let conditions = workload.data.pointer("/status/conditions")?.as_array()?;
    let failed =
        conditions.iter().find(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True")?;
    let text = |field: &str| redacted(failed[field].as_str().unwrap_or_default());
    Some((text("reason"), text("message")))
}

/// The same of a StatefulSet or DaemonSet, which has no such condition: its controller tells it in Events.
///
/// # Errors
/// If Events cannot be listed.
async fn told_refusal(client: &Client, owner: &Owner, workload: &DynamicObject) -> Result<Option<Why>, kube::Error> {
    let number = |pointer: &str| workload.data.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = number("/spec/replicas").max(number("/status/desiredNumberScheduled"));
    let is_deployment = workload.types.as_ref().is_some_and(|types| types.kind == "Deployment");
    let Some(uid) = workload.metadata.uid.as_ref().filter(|_| !is_deployment) else { return Ok(None) };
    // An Event outlives its cause by an hour.
    if number("/status/replicas").max(number("/status/currentNumberScheduled")) >= wanted {
        return Ok(None);
    }
    let told = still_told(client, owner, &format!("involvedObject.uid={uid},reason=FailedCreate")).await?;
    let words: Vec<String> = told.iter().map(words).collect();
    Ok((!told.is_empty()).then(|| ("FailedCreate".to_owned(), words.join("; "))))
}

/// What troubles a pod of an owner: the one that was told of before, for as long as it is in trouble, else the first that is. All are looked at, as a DaemonSet has one
/// on each node and a single one may be bad. Where a volume is not there, as a Secret that is named wrongly, the pod itself says only that its containers are being made,
/// and where a probe fails only that they are not ready: then Events tell.
///
/// # Errors
/// If they, or Events, cannot be listed.
async fn told_trouble(client: &Client, owner: &Owner, said: Said<'_>, now: Timestamp) -> Result<Found, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &owner.namespace);
    let labels: Vec<String> = owner.selector().iter().map(|(label, value)| format!("{label}={value}")).collect();
    let labels = labels.join(",");
    let mut slow = SlowPods::default();
    let (mut of_told, mut of_first) = (None, None);
    let (mut version, mut sought) = (0, said.pod());
    // Those that have not begun to run are few, and mostly it is one of them. What crashes again and again has begun.
    for phase in ["status.phase!=Running", "status.phase=Running"] {
        each_page(&pods, ListParams::default().labels(&labels).fields(phase), |page| {
            let told = sought.and_then(|name| page.iter().find(|pod| pod.metadata.name.as_deref() == Some(name)));
            if let Some(pod) = told {
                of_told = trouble(slice::from_ref(pod), said);
                sought = None;
            }
            of_first = of_first.take().or_else(|| trouble(&page, said));
            version = page.iter().filter_map(|pod| version_of(&pod.metadata)).fold(version, u64::max);
            slow.look_at(&page, said.pod(), now);
            of_first.is_none() || sought.is_some()
        })
        .await?;
        if of_first.is_some() && sought.is_none() {
            break;
        }
    }
    if of_told.is_some() {
        return Ok(Found { why: of_told, version });
    }
    // What another pod says itself comes after what Events tell of the one that was told of before: the two would take turns while that other one crashes and runs.
    for pod in slow.found() {
        if of_first.is_some() && said.pod() != Some(pod.name()) {
            break;
        }
        let why = pod.told(&still_told(client, owner, &pod.events()).await?);
        if why.is_some() {
            return Ok(Found { why, version });
        }
    }
    Ok(Found { why: of_first, version })
}

/// So many are in memory at once.
const PAGE: u32 = 250;
/// As many pages as hold a pod on each node of the largest cluster that Kubernetes is made for, of 5000 nodes.
const MOST_PAGES: usize = 20;

/// Lists page after page, for as long as `goes_on` says so.
async fn each_page<K>(
    api: &Api<K>,
    params: ListParams,
    mut goes_on: impl FnMut(Vec<K>) -> bool,
) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut params = params.limit(PAGE);
    for _ in 0..MOST_PAGES {
        let page = api.list(&params).await?;
        let rest = page.metadata.continue_.filter(|token| !token.is_empty());
        let goes_on = goes_on(page.items);
        match rest {
            Some(token) if goes_on => params = params.continue_token(&token),
            _ => break,
        }
    }
    Ok(())
}

/// What troubles the first of these pods that is in trouble; of several things the one that was said before.
fn trouble(pods: &[Pod], said: Said<'_>) -> Option<Why> {
    pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).find_map(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        said.among(troubles_of(pod).map(|(reason, message)| {
            let message = if message.is_empty() { String::new() } else { format!(": {message}") };
            let sentence = format!("pod {name}: {reason}{message}");
            (reason, sentence)
        }))
    })
}

/// Without secrets from here on: what a registry refuses it names with the signed address that it had sent the kubelet to, another one with each try.
fn troubles_of(pod: &Pod) -> impl Iterator<Item = Why> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unscheduled = conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let unscheduled = unscheduled
        .filter_map(|condition| Some((condition.reason.clone()?, condition.message.clone().unwrap_or_default())));
    let troubles = containers(pod).filter_map(waiting_reason).chain(unscheduled);
    troubles.map(|(reason, words)| (reason, redacted(&words)))
}

/// A container that waits for something other than its own start.
fn waiting_reason(container: &ContainerStatus) -> Option<Why> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    let said = waiting.message.clone();
    match reason.as_str() {
        reason if BEING_MADE.contains(&reason) => None,
        BACK_OFF => Some((reason, said.unwrap_or_default())),
        // Each try ends with one of these, and the wait for the next one is `ImagePullBackOff`: one trouble, told in the kubelet's words for the wait.
        "ErrImagePull" | "RegistryUnavailable" | "SignatureValidationFailed" => {
            let image = &container.image;
            let why = said.map(|said| format!(": {said}")).unwrap_or_default();
            Some((BACK_OFF.to_owned(), format!("Back-off pulling image \"{image}\": {reason}{why}")))
        }
        _ => {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let exit = last.map(|last| format!("it ended with exit code {}", last.exit_code));
            let parts: Vec<String> = said.into_iter().chain(exit).collect();
            Some((reason, parts.join("; ")))
        }
    }
}

/// While a kubelet waits to pull an image again.
const BACK_OFF: &str = "ImagePullBackOff";
