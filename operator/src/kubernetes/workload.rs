//! Whether a workload's pods run, and if not, why: in the pods' own words. I/O: [`why_not_ready`] lists pods and Events; the rest is pure.

mod slow;

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Event, Pod},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::slow::{BEING_MADE, NOT_READY, SlowPods, without_ports};
use super::{child::Owner, conditions::Phase};

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

/// Why a workload's pods do not all run, as far as anybody tells: reason and sentence. A pod in trouble comes first, then that some cannot even be made.
///
/// # Errors
/// If pods, or Events, cannot be listed: then nobody knows.
pub(crate) async fn why_not_ready(
    client: &Client,
    owner: &Owner,
    workload: &DynamicObject,
) -> Result<Option<(String, String)>, kube::Error> {
    match told_trouble(client, owner, Timestamp::now()).await?.or_else(|| refusal(workload)) {
        None => told_refusal(client, owner, workload).await,
        why => Ok(why),
    }
}

/// Why a Deployment's pods cannot even be made: reason and sentence.
fn refusal(workload: &DynamicObject) -> Option<(String, String)> {
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
async fn told_refusal(
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
    let newest = newest(client, owner, &format!("involvedObject.uid={uid},reason=FailedCreate")).await?;
    Ok(newest.map(|event| ("FailedCreate".to_owned(), event.message.unwrap_or_default())))
}

/// The Event that was written last of those that a field selector selects.
async fn newest(client: &Client, owner: &Owner, fields: &str) -> Result<Option<Event>, kube::Error> {
    let events: Api<Event> = Api::namespaced(client.clone(), &owner.namespace);
    let mut newest: Option<Event> = None;
    each_page(&events, ListParams::default().fields(fields), |page| {
        newest = newest.take().into_iter().chain(page).max_by_key(version);
        true
    })
    .await?;
    Ok(newest)
}

/// When an Event was written last, among others: its times are whole seconds, and several of one look of a controller have the same.
fn version(event: &Event) -> Option<u64> {
    event.metadata.resource_version.as_ref()?.parse().ok()
}

/// The first pod of an owner that is in trouble: reason and sentence. All are looked at, as a DaemonSet has one on each node and a single one may be bad. Where a volume
/// is not there, as a Secret that is named wrongly, the pod itself says only that its containers are being made, and where a probe fails only that they are not ready:
/// then an Event tells.
///
/// # Errors
/// If they, or Events, cannot be listed.
async fn told_trouble(client: &Client, owner: &Owner, now: Timestamp) -> Result<Option<(String, String)>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &owner.namespace);
    let labels: Vec<String> = owner.selector().iter().map(|(label, value)| format!("{label}={value}")).collect();
    let labels = labels.join(",");
    let mut slow = SlowPods::default();
    // Those that have not begun to run are few, and mostly it is one of them. What crashes again and again has begun.
    for phase in ["status.phase!=Running", "status.phase=Running"] {
        let mut found = None;
        each_page(&pods, ListParams::default().labels(&labels).fields(phase), |page| {
            found = trouble(&page);
            slow.look_at(&page, now);
            found.is_none()
        })
        .await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    for pod in slow.found() {
        let told = newest(client, owner, &pod.events()).await?.and_then(|event| pod.told(event));
        if told.is_some() {
            return Ok(told);
        }
    }
    Ok(None)
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

/// The first of these pods that is in trouble.
fn trouble(pods: &[Pod]) -> Option<(String, String)> {
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

/// The message that the condition keeps: an older kubelet tells why an image could not be pulled with each try, and not while it waits for the next one; and of a probe that
/// fails each try may tell of another connection.
pub(crate) fn settled(said: &[Condition], phase: Phase, reason: &str, message: String) -> String {
    let said = said.iter().find(|condition| condition.type_ == phase.as_str() && condition.reason == reason);
    let told = said.map(|said| said.message.as_str()).unwrap_or_default();
    let is_the_same = match reason {
        BACK_OFF => told.strip_prefix(message.as_str()).is_some_and(|why| why.starts_with(": ")),
        NOT_READY => without_ports(told) == without_ports(&message),
        _ => false,
    };
    if is_the_same { told.to_owned() } else { message }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use axum::{Json, Router, extract::Query};
    use serde_json::json;

    use super::*;
    use crate::kubernetes::{
        child::Kind,
        conditions::{Draft, merged},
    };

    /// An API server that lists these objects to whoever asks, as they are selected by `selects`, in pages; and how many pages it was asked for.
    fn lists(objects: Vec<Value>, selects: fn(&Value, fields: &str) -> bool) -> (Client, Arc<Mutex<usize>>) {
        let asked = Arc::<Mutex<usize>>::default();
        let counted = Arc::clone(&asked);
        let answer = move |Query(query): Query<BTreeMap<String, String>>| {
            *counted.lock().unwrap() += 1;
            let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
            let (from, limit) = (text("continue").parse().unwrap_or(0), text("limit").parse().unwrap_or(usize::MAX));
            let selected: Vec<&Value> =
                objects.iter().filter(|object| selects(object, text("fieldSelector"))).collect();
            let page: Vec<&Value> = selected.iter().skip(from).take(limit).copied().collect();
            let end = from + page.len();
            let token = if end < selected.len() { end.to_string() } else { String::new() };
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": token}, "items": page});
            async move { Json(list) }
        };
        (Client::new(Router::<()>::new().fallback(answer), "monitoring"), asked)
    }

    fn owner() -> Owner {
        let text = str::to_owned;
        Owner { kind: Kind::Collector, name: text("c"), namespace: text("monitoring"), uid: text("1") }
    }

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

    #[test]
    fn an_image_that_cannot_be_pulled_is_one_trouble_whether_it_is_tried_or_waited_for() {
        let told = |said: &[Condition], reason: &str, message: &str| {
            let state = json!({"waiting": {"reason": reason, "message": message}});
            let container = json!({"name": "c", "image": "x/i:7", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": {"terminated": {"exitCode": 2}}});
            let pod = json!({"metadata": {"name": "p-0"}, "status": {"containerStatuses": [container]}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let (reason, message) = trouble(&[pod]).unwrap();
            let message = settled(said, Phase::WorkloadReady, &reason, message);
            let why = Draft::in_words_of_others(Phase::WorkloadReady, Some(false), &reason, message);
            merged(said, vec![why], Some(1), Timestamp::UNIX_EPOCH)
        };
        let (waits, why) = ("Back-off pulling image \"x/i:7\"", "not found");
        let tried = told(&[], "ErrImagePull", why);
        let expected = "pod p-0: ImagePullBackOff: Back-off pulling image \"x/i:7\": ErrImagePull: not found";
        assert_eq!((tried[0].reason.as_str(), tried[0].message.as_str()), ("ImagePullBackOff", expected));
        // A kubelet of today tells why while it waits, an older one does not.
        for waited in [
            told(&tried, "ImagePullBackOff", &format!("{waits}: ErrImagePull: {why}")),
            told(&tried, "ImagePullBackOff", waits),
        ] {
            assert_eq!(waited, tried);
            assert_eq!(told(&waited, "ErrImagePull", why), tried);
        }
        // Another cause, and another image, are told.
        for (reason, message) in [
            ("ErrImagePull", "unauthorized"),
            ("RegistryUnavailable", why),
            ("ImagePullBackOff", "Back-off pulling image \"x/i:8\""),
        ] {
            assert_ne!(told(&tried, reason, message), tried, "{reason} {message}");
        }
    }

    #[tokio::test]
    async fn one_bad_pod_among_a_thousand_is_found() {
        let pod = |number: usize, phase: &str, state: Value| {
            let container = json!({"name": "collector", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
            json!({"metadata": {"name": format!("c-{number}")}, "status": {"phase": phase, "containerStatuses": [container]}})
        };
        let runs = |number| pod(number, "Running", json!({"running": {}}));
        let waits = |number, phase, reason| pod(number, phase, json!({"waiting": {"reason": reason}}));
        let selects = |pod: &Value, fields: &str| match fields.split_once("!=") {
            Some((_, phase)) => pod["status"]["phase"] != phase,
            None => fields.split_once('=').is_some_and(|(_, phase)| pod["status"]["phase"] == phase),
        };
        let found = async |pods: Vec<Value>| {
            let (client, asked) = lists(pods, selects);
            let found = told_trouble(&client, &owner(), Timestamp::UNIX_EPOCH).await.unwrap();
            (found.map(|(reason, message)| format!("{reason}, {message}")), *asked.lock().unwrap())
        };
        let mut pods: Vec<Value> = (0..1000).map(runs).collect();
        assert_eq!(found(pods.clone()).await, (None, 1 + 4));
        // The last one that would be listed.
        pods.push(waits(1000, "Running", "CrashLoopBackOff"));
        let crash = "CrashLoopBackOff, pod c-1000: CrashLoopBackOff".to_owned();
        assert_eq!(found(pods.clone()).await, (Some(crash), 1 + 5));
        // One that does not run is found at once.
        pods.push(waits(1001, "Pending", "InvalidImageName"));
        let image = "InvalidImageName, pod c-1001: InvalidImageName".to_owned();
        assert_eq!(found(pods).await, (Some(image), 1));
    }

    #[tokio::test]
    async fn of_many_refusals_the_newest_is_told() {
        // As text, 99999 is more than 100001; and they are on several pages.
        let refusal = |version: usize| json!({"metadata": {"name": format!("e-{version}"), "resourceVersion": version.to_string()}, "involvedObject": {}, "reason": "FailedCreate", "message": format!("refusal {version}")});
        let versions = (99_000..100_000).chain([100_001]).chain(98_000..99_000);
        let set = json!({"replicas": 1});
        let mut set = workload("StatefulSet", 1, &set, &json!({}));
        set.metadata.uid = Some("7".to_owned());
        let selects = |_: &Value, fields: &str| fields == "involvedObject.uid=7,reason=FailedCreate";
        let (client, _) = lists(versions.map(refusal).collect(), selects);
        let told = told_refusal(&client, &owner(), &set).await.unwrap();
        assert_eq!(told, Some(("FailedCreate".to_owned(), "refusal 100001".to_owned())));
    }

    /// What is told of these pods and Events a hundred seconds after the clock's beginning.
    async fn told_at_100(objects: Vec<Value>) -> Option<(String, String)> {
        let selects = |object: &Value, fields: &str| {
            let Some(of) = fields.strip_prefix("involvedObject.uid=") else {
                let is_running = object["status"]["phase"] == "Running";
                return object["status"]["phase"].is_string() && is_running == (fields == "status.phase=Running");
            };
            let (uid, field) = of.split_once(',').unwrap_or_default();
            let (field, value) = field.split_once('=').unwrap_or_default();
            object["involvedObject"]["uid"] == uid && object[field] == value
        };
        let (client, _) = lists(objects, selects);
        told_trouble(&client, &owner(), Timestamp::from_second(100).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn what_keeps_a_pod_from_being_made_is_told_by_an_event() {
        let pod = |uid: &str, seconds: i64, reason: &str| {
            let created = Timestamp::from_second(seconds).unwrap().to_string();
            let container = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}});
            json!({"metadata": {"name": format!("c-{uid}"), "uid": uid, "creationTimestamp": created}, "status": {"phase": "Pending", "containerStatuses": [container]}})
        };
        let event = |version: &str, uid: &str, reason: &str| json!({"metadata": {"name": format!("e-{version}"), "resourceVersion": version}, "involvedObject": {"uid": uid}, "type": "Warning", "reason": reason, "message": "secret \"tls\" not found"});
        let mount = ("FailedMount".to_owned(), "pod c-slow: FailedMount: secret \"tls\" not found".to_owned());
        let events = [event("8", "slow", "Earlier"), event("9", "slow", "FailedMount"), event("10", "other", "Others")];
        let with = |pods: Vec<Value>| pods.into_iter().chain(events.clone()).collect::<Vec<_>>();
        for reason in BEING_MADE {
            let pods = vec![pod("new", 95, reason), pod("slow", 90, reason)];
            assert_eq!(told_at_100(with(pods)).await, Some(mount.clone()));
            // It has only begun, or nobody says anything.
            assert_eq!(told_at_100(with(vec![pod("slow", 91, reason)])).await, None);
            assert_eq!(told_at_100(with(vec![pod("silent", 0, reason)])).await, None);
        }
        // What a pod says itself comes first.
        let pods = vec![pod("slow", 0, "ContainerCreating"), pod("bad", 99, "InvalidImageName")];
        assert_eq!(told_at_100(with(pods)).await.unwrap().0, "InvalidImageName");
    }

    #[tokio::test]
    async fn a_probe_that_fails_is_told_by_an_event_once_no_start_would_take_so_long() {
        let at = |second: i64| Timestamp::from_second(second).unwrap().to_string();
        let container = |begun: &str, ready: bool, restarts: u32| json!({"name": "agent", "image": "", "imageID": "", "ready": ready, "restartCount": restarts, "state": {"running": {"startedAt": begun}}});
        // Made long ago, as of an image that is large: only since then it runs.
        let pod = |name: &str, container: &Value, probes: Value, changed: &str| {
            let mut spec = json!({"name": "agent"});
            spec.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
            let ready = json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": changed});
            json!({"metadata": {"name": name, "uid": name, "creationTimestamp": at(0)}, "spec": {"containers": [spec]}, "status": {"phase": "Running", "conditions": [ready], "containerStatuses": [container]}})
        };
        let event = |version: &str, uid: &str, reason: &str, message: &str| json!({"metadata": {"name": version, "resourceVersion": version}, "involvedObject": {"uid": uid}, "type": "Warning", "reason": reason, "message": message});
        let events = [
            event("7", "p", "Unhealthy", "Readiness probe failed: EOF"),
            event("8", "p", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
            event("9", "p", "Other", "of nothing"),
            event("10", "other", "Unhealthy", "Readiness probe failed: of another"),
        ];
        let told = async |pod: Value| told_at_100([pod].into_iter().chain(events.clone()).collect()).await;
        let (none, long_ago, before) = (json!({}), at(0), at(90));
        let why = "pod p: ContainersNotReady: Readiness probe failed: HTTP probe failed with statuscode: 503";
        let expected = Some(("ContainersNotReady".to_owned(), why.to_owned()));
        assert_eq!(told(pod("p", &container(&before, false, 0), none.clone(), &long_ago)).await, expected);
        // It has only begun, was ready until a moment ago, or is ready; or nobody says anything.
        assert_eq!(told(pod("p", &container(&at(91), false, 0), none.clone(), &long_ago)).await, None);
        assert_eq!(told(pod("p", &container(&long_ago, false, 0), none.clone(), &at(91))).await, None);
        assert_eq!(told(pod("p", &container(&long_ago, true, 0), none.clone(), &long_ago)).await, None);
        assert_eq!(told(pod("silent", &container(&long_ago, false, 0), none.clone(), &long_ago)).await, None);
        // Who is asked later has longer, and who may fail at first as well, until it was started again.
        for probes in [
            json!({"readinessProbe": {"initialDelaySeconds": 20}}),
            json!({"startupProbe": {"initialDelaySeconds": 5, "periodSeconds": 5, "failureThreshold": 3}}),
        ] {
            assert_eq!(told(pod("p", &container(&at(71), false, 0), probes.clone(), &long_ago)).await, None);
            assert_eq!(told(pod("p", &container(&at(70), false, 0), probes.clone(), &long_ago)).await, expected);
            assert_eq!(told(pod("p", &container(&at(99), false, 1), probes, &long_ago)).await, expected);
        }
    }

    #[test]
    fn a_probe_that_fails_again_for_the_same_cause_is_no_news() {
        let told = |said: &[Condition], message: &str| {
            let message = settled(said, Phase::WorkloadReady, NOT_READY, message.to_owned());
            let why = Draft::in_words_of_others(Phase::WorkloadReady, Some(false), NOT_READY, message);
            merged(said, vec![why], Some(1), Timestamp::UNIX_EPOCH)
        };
        let reset = |port: &str| {
            format!(
                "pod p: ContainersNotReady: Readiness probe failed: read tcp 10.0.0.1:{port}->10.0.0.7:9090: connection reset by peer"
            )
        };
        let first = told(&[], &reset("54321"));
        assert_eq!(told(&first, &reset("33000")), first);
        for other in [reset("54321").replace("reset", "refused"), reset("54321").replace("10.0.0.7", "10.0.0.8")] {
            assert_ne!(told(&first, &other), first, "{other}");
        }
        // A code tells more than that it failed again.
        let failed = told(&first, "HTTP probe failed with statuscode: 404");
        assert_ne!(told(&failed, "HTTP probe failed with statuscode: 503"), failed);
    }
}
