//! Whether a workload's pods run, and if not, why: in the pods' own words. I/O: [`pods_of`] lists pods; the rest is pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;

use super::child::Owner;

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

/// Why a Deployment's pods cannot even be made: reason and sentence.
pub(crate) fn refusal(workload: &DynamicObject) -> Option<(String, String)> {
    let conditions = workload.data.pointer("/status/conditions")?.as_array()?;
    let failed =
        conditions.iter().find(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True")?;
    let text = |field: &str| failed[field].as_str().unwrap_or_default().to_owned();
    Some((text("reason"), text("message")))
}

/// The same of a StatefulSet or DaemonSet, which has no such condition: its controller tells it in an Event.
///
/// # Errors
/// If Events cannot be listed.
pub(crate) async fn told_refusal(
    client: &Client,
    owner: &Owner,
    workload: &DynamicObject,
) -> Result<Option<(String, String)>, kube::Error> {
    let number = |pointer: &str| workload.data.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = number("/spec/replicas").max(number("/status/desiredNumberScheduled"));
    let Some(uid) = workload.metadata.uid.as_ref() else { return Ok(None) };
    // An Event outlives its cause by an hour.
    if number("/status/replicas").max(number("/status/currentNumberScheduled")) >= wanted {
        return Ok(None);
    }
    let events: Api<Event> = Api::namespaced(client.clone(), &owner.namespace);
    let refused = format!("involvedObject.uid={uid},reason=FailedCreate");
    let events = events.list(&ListParams::default().fields(&refused).limit(MOST_PODS)).await?.items;
    let newest = events.into_iter().max_by_key(|event| event.metadata.resource_version.clone());
    Ok(newest.map(|event| ("FailedCreate".to_owned(), event.message.unwrap_or_default())))
}

/// Enough to find one in trouble; a DaemonSet may have thousands.
const MOST_PODS: u32 = 50;

/// Some pods of an owner.
///
/// # Errors
/// If they cannot be listed.
pub(crate) async fn pods_of(client: &Client, owner: &Owner) -> Result<Vec<Pod>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &owner.namespace);
    let labels: Vec<String> = owner.selector().iter().map(|(label, value)| format!("{label}={value}")).collect();
    Ok(pods.list(&ListParams::default().labels(&labels.join(",")).limit(MOST_PODS)).await?.items)
}

/// The first pod that is in trouble: reason and sentence.
pub(crate) fn trouble(pods: &[Pod]) -> Option<(String, String)> {
    pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).find_map(|pod| {
        let (reason, message) = trouble_of(pod)?;
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Some((
            reason.clone(),
            format!("pod {name}: {reason}{}", if message.is_empty() { String::new() } else { format!(": {message}") }),
        ))
    })
}

fn trouble_of(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let waiting = containers.filter_map(waiting_reason).next();
    waiting.or_else(|| {
        let conditions = status.conditions.iter().flatten();
        let unscheduled =
            conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        unscheduled
            .filter_map(|condition| Some((condition.reason.clone()?, condition.message.clone().unwrap_or_default())))
            .next()
    })
}

/// A container that waits for something other than its own start.
fn waiting_reason(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    let is_normal = matches!(reason.as_str(), "ContainerCreating" | "PodInitializing");
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let exit = last.map(|last| format!("it ended with exit code {}", last.exit_code));
    let parts: Vec<String> = waiting.message.clone().into_iter().chain(exit).collect();
    (!is_normal).then(|| (reason, parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(kind: &str, generation: i64, spec: &Value, status: &Value) -> DynamicObject {
        let object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "w", "generation": generation}, "spec": spec, "status": status});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_workload_is_ready_when_all_its_pods_run_the_current_template() {
        let cases = [
            (
                "Deployment",
                1,
                json!({"replicas": 2}),
                json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}),
                true,
            ),
            (
                "Deployment",
                2,
                json!({"replicas": 2}),
                json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}),
                false,
            ),
            (
                "Deployment",
                1,
                json!({"replicas": 2}),
                json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2}),
                false,
            ),
            (
                "Deployment",
                1,
                json!({"replicas": 2}),
                json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3}),
                false,
            ),
            ("StatefulSet", 1, json!({"replicas": 0}), json!({"observedGeneration": 1, "replicas": 0}), true),
            (
                "StatefulSet",
                1,
                json!({"replicas": 1}),
                json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}),
                false,
            ),
            ("StatefulSet", 1, json!({"replicas": 1}), json!({}), false),
            (
                "DaemonSet",
                1,
                json!({}),
                json!({"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 3}),
                true,
            ),
            (
                "DaemonSet",
                1,
                json!({}),
                json!({"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 2}),
                false,
            ),
            (
                "DaemonSet",
                1,
                json!({}),
                json!({"observedGeneration": 1, "desiredNumberScheduled": 0, "numberReady": 0}),
                true,
            ),
        ];
        for (kind, generation, spec, status, is_ready) in cases {
            let shown = format!("{kind} {spec} {status}");
            assert_eq!(progress(&workload(kind, generation, &spec, &status)).is_ready, is_ready, "{shown}");
        }
    }

    #[test]
    fn a_pod_says_itself_what_troubles_it() {
        let pod = |status: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p-0"}, "status": status})).unwrap()
        };
        let container = |state: Value, last: Value| json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last}]});
        let pull =
            pod(container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}), json!({})));
        assert_eq!(
            trouble(&[pull]).unwrap(),
            ("ImagePullBackOff".to_owned(), "pod p-0: ImagePullBackOff: no such image".to_owned())
        );
        let crash =
            pod(container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": {"exitCode": 2}})));
        assert_eq!(trouble(&[crash]).unwrap().1, "pod p-0: CrashLoopBackOff: it ended with exit code 2");
        let lonely = pod(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}),
        );
        assert_eq!(trouble(&[lonely]).unwrap().0, "Unschedulable");
        assert_eq!(trouble(&[pod(container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({})))]), None);
    }
}
