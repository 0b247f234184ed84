//! What is found of pods, from lists of pods and Events.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::Query};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use super::{slow::NOT_READY, *};
use crate::kubernetes::{
    child::Kind,
    conditions::{Draft, Phase, merged},
};

/// What a condition says from then on.
fn say((reason, message): Why) -> Vec<Condition> {
    let why = Draft::in_words_of_others(Phase::WorkloadReady, Some(false), &reason, message);
    merged(&[], vec![why], Some(1), Timestamp::UNIX_EPOCH)
}

fn said(conditions: &[Condition]) -> Said<'_> {
    Said::of(conditions, Phase::WorkloadReady)
}

/// An API server that lists these objects to whoever asks, as they are selected by `selects`, in pages; and how many pages it was asked for.
fn lists(objects: Vec<Value>, selects: fn(&Value, fields: &str) -> bool) -> (Client, Arc<Mutex<usize>>) {
    let asked = Arc::<Mutex<usize>>::default();
    let counted = Arc::clone(&asked);
    let answer = move |Query(query): Query<BTreeMap<String, String>>| {
        *counted.lock().unwrap() += 1;
        let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let (from, limit) = (text("continue").parse().unwrap_or(0), text("limit").parse().unwrap_or(usize::MAX));
        let selected: Vec<&Value> = objects.iter().filter(|object| selects(object, text("fieldSelector"))).collect();
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
        trouble(&[pull], Said::default()).unwrap(),
        ("ImagePullBackOff".to_owned(), "pod p-0: ImagePullBackOff: no such image".to_owned())
    );
    let crash =
        pod(container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": {"exitCode": 2}})));
    assert_eq!(trouble(&[crash], Said::default()).unwrap().1, "pod p-0: CrashLoopBackOff: it ended with exit code 2");
    let lonely = pod(
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}),
    );
    assert_eq!(trouble(&[lonely], Said::default()).unwrap().0, "Unschedulable");
    let begins = pod(container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({})));
    assert_eq!(trouble(&[begins], Said::default()), None);
}

#[test]
fn an_image_that_cannot_be_pulled_is_one_trouble_whether_it_is_tried_or_waited_for() {
    let told = |known: &[Condition], reason: &str, message: &str| {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        let container = json!({"name": "c", "image": "x/i:7", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": {"terminated": {"exitCode": 2}}});
        let pod = json!({"metadata": {"name": "p-0"}, "status": {"containerStatuses": [container]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let why = trouble(&[pod], said(known)).unwrap();
        say(said(known).again(why))
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
        let container =
            json!({"name": "collector", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        json!({"metadata": {"name": format!("c-{number}")}, "status": {"phase": phase, "containerStatuses": [container]}})
    };
    let runs = |number| pod(number, "Running", json!({"running": {}}));
    let waits = |number, phase, reason| pod(number, phase, json!({"waiting": {"reason": reason}}));
    let selects = |pod: &Value, fields: &str| match fields.split_once("!=") {
        Some((_, phase)) => pod["status"]["phase"] != phase,
        None => fields.split_once('=').is_some_and(|(_, phase)| pod["status"]["phase"] == phase),
    };
    let found_by = async |pods: Vec<Value>, said: Said<'_>| {
        let (client, asked) = lists(pods, selects);
        let found = told_trouble(&client, &owner(), said, Timestamp::UNIX_EPOCH).await.unwrap();
        (found.why.map(|(reason, message)| format!("{reason}, {message}")), *asked.lock().unwrap())
    };
    let found = async |pods: Vec<Value>| found_by(pods, Said::default()).await;
    let mut pods: Vec<Value> = (0..1000).map(runs).collect();
    assert_eq!(found(pods.clone()).await, (None, 1 + 4));
    // The last one that would be listed.
    pods.push(waits(1000, "Running", "CrashLoopBackOff"));
    let crash = "CrashLoopBackOff, pod c-1000: CrashLoopBackOff".to_owned();
    assert_eq!(found(pods.clone()).await, (Some(crash.clone()), 1 + 5));
    // One that does not run is found at once.
    pods.push(waits(1001, "Pending", "InvalidImageName"));
    let image = "InvalidImageName, pod c-1001: InvalidImageName".to_owned();
    assert_eq!(found(pods.clone()).await, (Some(image.clone()), 1));
    // But for the one that was told of before, for as long as it is there and in trouble.
    let crashed = say(("CrashLoopBackOff".to_owned(), "pod c-1000: CrashLoopBackOff".to_owned()));
    assert_eq!(found_by(pods.clone(), said(&crashed)).await, (Some(crash), 1 + 5));
    pods.remove(1000);
    assert_eq!(found_by(pods, said(&crashed)).await, (Some(image), 1 + 4));
}

#[tokio::test]
async fn of_pods_that_crash_by_turns_the_one_that_was_told_of_is_while_it_is_in_trouble() {
    let pod = |name: &str, version: &str, state: Value| {
        let container =
            json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let metadata = json!({"name": name, "resourceVersion": version});
        json!({"metadata": metadata, "status": {"phase": "Running", "containerStatuses": [container]}})
    };
    let crashed = |name: &str, version: &str, seconds: u32| {
        let message = format!("back-off {seconds}s restarting failed container");
        pod(name, version, json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}}))
    };
    let runs = |name: &str, version: &str| pod(name, version, json!({"running": {}}));
    let mut known: Vec<Condition> = Vec::new();
    for (pods, expected, newest) in [
        ([crashed("c-0", "7", 10), crashed("c-1", "8", 10)], "c-0", 7),
        ([runs("c-0", "9"), crashed("c-1", "8", 10)], "c-1", 9),
        // As its restarts are counted on.
        ([crashed("c-0", "10", 20), crashed("c-1", "11", 20)], "c-1", 11),
        ([crashed("c-0", "10", 20), runs("c-1", "12")], "c-0", 12),
    ] {
        let (client, _) = lists(pods.to_vec(), |_, fields| fields == "status.phase=Running");
        let found = told_trouble(&client, &owner(), said(&known), Timestamp::UNIX_EPOCH).await.unwrap();
        let why = found.why.unwrap();
        assert!(why.1.starts_with(&format!("pod {expected}: CrashLoopBackOff: ")), "{why:?}");
        assert!(found.version >= newest, "{} is older than {newest}", found.version);
        known = say(why);
    }
}

#[test]
fn of_containers_that_crash_by_turns_the_one_that_was_told_of_is() {
    let crashed = |name: &str| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": format!("restarting failed container={name}")}}});
    let trouble = |names: &[&str], known: &[Condition]| {
        let containers: Vec<Value> = names.iter().copied().map(crashed).collect();
        let pod = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": containers}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        trouble(&[pod], said(known)).unwrap()
    };
    let second = trouble(&["b"], &[]);
    assert_eq!(trouble(&["a", "b"], &say(second.clone())), second);
    assert_ne!(trouble(&["a", "b"], &[]), second);
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

#[tokio::test]
async fn a_signed_address_is_not_told_and_another_one_at_each_try_is_no_news() {
    let words = |signature: &str| {
        format!("failed to copy: Get \"https://x.blob.core.windows.net/b?se=1&sig={signature}\": EOF")
    };
    let shown = "failed to copy: Get \"https://x.blob.core.windows.net/b?…\": EOF";
    let pod = |status: Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    };
    let waits = |reason: &str, words: String| {
        pod(
            json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason, "message": words}}}]}),
        )
    };
    for signature in ["hunter2", "hunter3%3D"] {
        let words = words(signature);
        let pull = format!("Back-off pulling image \"i\": ErrImagePull: {shown}");
        for waits in [
            waits("ErrImagePull", words.clone()),
            waits("ImagePullBackOff", format!("Back-off pulling image \"i\": ErrImagePull: {words}")),
        ] {
            let told = trouble(&[waits], Said::default()).unwrap();
            assert_eq!(told, ("ImagePullBackOff".to_owned(), format!("pod p: ImagePullBackOff: {pull}")));
            assert_eq!(said(&say(told.clone())).again(told.clone()), told);
        }
        let other = trouble(&[waits("RunContainerError", words.clone())], Said::default()).unwrap();
        assert_eq!(other.1, format!("pod p: RunContainerError: {shown}"));
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]});
        let unscheduled = trouble(&[pod(unscheduled)], Said::default()).unwrap();
        assert_eq!(unscheduled.1, format!("pod p: Unschedulable: {shown}"));
        let expected = Some(("FailedCreate".to_owned(), shown.to_owned()));
        let failure = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words});
        assert_eq!(refusal(&workload("Deployment", 1, &json!({}), &json!({"conditions": [failure]}))), expected);
        let event = json!({"metadata": {"name": "e", "resourceVersion": "7"}, "involvedObject": {}, "reason": "FailedCreate", "message": words});
        let mut set = workload("StatefulSet", 1, &json!({"replicas": 1}), &json!({}));
        set.metadata.uid = Some("7".to_owned());
        let (client, _) = lists(vec![event], |_, fields| fields == "involvedObject.uid=7,reason=FailedCreate");
        assert_eq!(told_refusal(&client, &owner(), &set).await.unwrap(), expected);
    }
}

/// What is told of these pods and Events a hundred seconds after the clock's beginning.
async fn told_at_100(objects: Vec<Value>) -> Option<Why> {
    told_again_at_100(objects, Said::default()).await
}

async fn told_again_at_100(objects: Vec<Value>, known: Said<'_>) -> Option<Why> {
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
    told_trouble(&client, &owner(), known, Timestamp::from_second(100).unwrap()).await.unwrap().why
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
        let ready =
            json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": changed});
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
    let told = |known: &[Condition], message: &str| say(said(known).again((NOT_READY.to_owned(), message.to_owned())));
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

#[tokio::test]
async fn what_events_tell_by_turns_is_told_together_for_as_long_as_it_is_true() {
    let pod = |name: &str| {
        let container = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": {"running": {}}});
        json!({"metadata": {"name": name, "uid": name}, "status": {"phase": "Running", "containerStatuses": [container]}})
    };
    let event = |version: &str, pod: &str, message: &str, second: i64| {
        let time = Timestamp::from_second(second).unwrap().to_string();
        json!({"metadata": {"name": version, "resourceVersion": version}, "involvedObject": {"uid": pod}, "type": "Warning", "reason": "Unhealthy", "message": message, "lastTimestamp": time})
    };
    let (live, ready) = ("Liveness probe failed: EOF", "Readiness probe failed: EOF");
    let told = async |events: [Value; 2]| told_at_100([pod("p")].into_iter().chain(events).collect()).await.unwrap().1;
    let both = format!("pod p: ContainersNotReady: {live}; {ready}");
    assert_eq!(told([event("7", "p", live, 1000), event("8", "p", ready, 1010)]).await, both);
    assert_eq!(told([event("9", "p", live, 1020), event("8", "p", ready, 1010)]).await, both);
    // One of them does not fail any more.
    let alone = format!("pod p: ContainersNotReady: {ready}");
    assert_eq!(told([event("9", "p", live, 1020), event("10", "p", ready, 1921)]).await, alone);
    // Of one probe what was told last counts, also where the recorder has counted too many.
    let combined = format!("(combined from similar events): {ready}");
    let earlier = "Readiness probe failed: no such host";
    assert_eq!(told([event("9", "p", earlier, 1000), event("10", "p", &combined, 1000)]).await, alone);
    // Of two pods the one that was told of before.
    let all = vec![pod("o"), pod("p"), event("7", "o", ready, 1000), event("8", "p", ready, 1000)];
    let first = told_at_100(all.clone()).await.unwrap();
    assert!(first.1.starts_with("pod o: "), "{first:?}");
    let known = say((NOT_READY.to_owned(), alone.clone()));
    assert_eq!(told_again_at_100(all, said(&known)).await.unwrap().1, alone);
}

#[tokio::test]
async fn a_pod_that_is_slow_and_one_that_crashes_take_no_turns() {
    let pod = |name: &str, phase: &str, ready: bool, state: Value| {
        let container =
            json!({"name": "c", "image": "", "imageID": "", "ready": ready, "restartCount": 3, "state": state});
        let made = Timestamp::from_second(0).unwrap().to_string();
        json!({"metadata": {"name": name, "uid": name, "creationTimestamp": made}, "status": {"phase": phase, "containerStatuses": [container]}})
    };
    let waits = |reason: &str| json!({"waiting": {"reason": reason}});
    let runs = || json!({"running": {}});
    for (slow, reason) in [
        (pod("slow", "Pending", false, waits("ContainerCreating")), "FailedMount"),
        (pod("slow", "Running", false, runs()), "Unhealthy"),
    ] {
        let event = json!({"metadata": {"name": "e", "resourceVersion": "7"}, "involvedObject": {"uid": "slow"}, "type": "Warning", "reason": reason, "message": "why"});
        let crashes = || pod("bad", "Running", false, waits("CrashLoopBackOff"));
        let recovers = || pod("bad", "Running", true, runs());
        let is_well = pod("slow", "Running", true, runs());
        let mut known: Vec<Condition> = Vec::new();
        for (objects, expected) in [
            (vec![crashes(), slow.clone(), event.clone()], "bad"),
            (vec![recovers(), slow.clone(), event.clone()], "slow"),
            (vec![crashes(), slow.clone(), event.clone()], "slow"),
            (vec![recovers(), slow.clone(), event.clone()], "slow"),
            // Until it is in no trouble any more, or nobody tells of any.
            (vec![crashes(), is_well, event.clone()], "bad"),
            (vec![recovers(), slow.clone(), event.clone()], "slow"),
            (vec![crashes(), slow.clone()], "bad"),
            // Now it is the other one's turn to stay.
            (vec![crashes(), slow, event], "bad"),
        ] {
            let why = told_again_at_100(objects, said(&known)).await.unwrap();
            assert!(why.1.starts_with(&format!("pod {expected}: ")), "{reason}: {why:?}, not of the {expected} one");
            known = say(why);
        }
    }
}

/// Nor do its Events tell of a Deployment's pods: those are its ReplicaSet's.
#[tokio::test]
async fn where_pods_say_it_themselves_no_events_are_asked_for() {
    let crashed = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    let crashed =
        json!({"metadata": {"name": "p", "resourceVersion": "7"}, "status": {"containerStatuses": [crashed]}});
    for (kind, pods, pages) in
        [("StatefulSet", vec![crashed], 1), ("StatefulSet", vec![], 3), ("Deployment", vec![], 2)]
    {
        let (client, asked) = lists(pods, |_, fields| fields.starts_with("status.phase"));
        let mut workload = workload(kind, 1, &json!({"replicas": 1}), &json!({}));
        workload.metadata.uid = Some("w".to_owned());
        workload.metadata.resource_version = Some("6".to_owned());
        let found = why_not_ready(&client, &owner(), &workload, Said::default()).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), pages, "{kind} {found:?}");
        assert_eq!(found.version, if found.why.is_some() { 7 } else { 6 });
    }
}
