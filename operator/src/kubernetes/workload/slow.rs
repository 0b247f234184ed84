//! Pods that take longer than a start does and do not say why themselves: which they are, and which Events tell. Pure; called by `workload`, which asks for the Events.

use std::slice;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, Probe};

use super::{Why, told::words};

/// How long a pod's containers may be in the making, or not ready, before somebody is asked why.
const SLOW: SignedDuration = SignedDuration::from_secs(10);

/// Why a container waits for its own start.
pub(super) const BEING_MADE: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Why a pod whose containers run is not ready.
pub(super) const NOT_READY: &str = "ContainersNotReady";

/// What a pod waits for.
#[derive(Debug, Clone, Copy)]
enum Wait {
    /// Its containers are being made.
    Made,
    /// They run, and a probe fails.
    Ready,
}

/// A pod that waits for too long.
#[derive(Debug)]
pub(super) struct SlowPod {
    name: String,
    uid: String,
    wait: Wait,
}

impl SlowPod {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A selector of the Events that may tell why.
    pub(super) fn events(&self) -> String {
        let told = match self.wait {
            Wait::Made => "type=Warning",
            // Beside it others warn of what keeps no pod from being ready.
            Wait::Ready => "reason=Unhealthy",
        };
        format!("involvedObject.uid={},{told}", self.uid)
    }

    /// What they tell, in their order.
    pub(super) fn told(&self, events: &[Event]) -> Option<Why> {
        let reason = |event: &Event| match self.wait {
            Wait::Made => event.reason.clone().filter(|reason| !reason.is_empty()),
            Wait::Ready => Some(NOT_READY.to_owned()),
        };
        let told: Vec<Why> = events.iter().filter_map(|event| Some((reason(event)?, words(event)))).collect();
        let ((first, words), others) = told.split_first()?;
        let mut sentence = format!("pod {}: {first}: {words}", self.name);
        for (reason, words) in others {
            let reason = if reason == first { String::new() } else { format!("{reason}: ") };
            sentence = format!("{sentence}; {reason}{words}");
        }
        Some((first.clone(), sentence))
    }
}

/// The first pod of each wait, and the one that was told of before.
#[derive(Debug, Default)]
pub(super) struct SlowPods {
    told: Option<SlowPod>,
    made: Option<SlowPod>,
    ready: Option<SlowPod>,
}

impl SlowPods {
    /// Looks for them among some more pods.
    pub(super) fn look_at(&mut self, pods: &[Pod], told: Option<&str>, now: Timestamp) {
        for (found, wait) in [(&mut self.made, Wait::Made), (&mut self.ready, Wait::Ready)] {
            if found.is_none() {
                *found = first(pods, wait, now);
            }
        }
        if let Some(pod) = pods.iter().find(|pod| told.is_some() && pod.metadata.name.as_deref() == told) {
            let pod = slice::from_ref(pod);
            self.told = first(pod, Wait::Made, now).or_else(|| first(pod, Wait::Ready, now));
        }
    }

    /// The one that was told of comes first, and then those that do not even run.
    pub(super) fn found(&self) -> impl Iterator<Item = &SlowPod> {
        let is_other = move |pod: &&SlowPod| self.told.as_ref().is_none_or(|told| told.uid != pod.uid);
        self.told.iter().chain(self.made.iter().chain(&self.ready).filter(is_other))
    }
}

fn first(pods: &[Pod], wait: Wait, now: Timestamp) -> Option<SlowPod> {
    pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).find_map(|pod| {
        let is_slow = match wait {
            Wait::Made => is_made_slowly(pod, now),
            Wait::Ready => is_unready(pod, now),
        };
        let named =
            |pod: &Pod| Some(SlowPod { name: pod.metadata.name.clone()?, uid: pod.metadata.uid.clone()?, wait });
        is_slow.then(|| named(pod)).flatten()
    })
}

/// Those that are to begin before the others come first.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|status| [&status.init_container_statuses, &status.container_statuses]);
    all.flatten().flatten()
}

/// Whether its containers should have been made by now.
fn is_made_slowly(pod: &Pod, now: Timestamp) -> bool {
    let is_being_made = |container: &ContainerStatus| {
        let reason = container.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.as_deref());
        reason.is_some_and(|reason| BEING_MADE.contains(&reason))
    };
    let made = pod.metadata.creation_timestamp.as_ref();
    made.is_some_and(|made| now.duration_since(made.0) >= SLOW) && containers(pod).any(is_being_made)
}

/// Whether a container that runs should have been ready by now. One that was ready until a moment ago has that long, too; one that was started again has had it.
fn is_unready(pod: &Pod, now: Timestamp) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    let changed = ready.and_then(|ready| ready.last_transition_time.as_ref());
    if changed.is_some_and(|changed| now.duration_since(changed.0) < SLOW) {
        return false;
    }
    containers(pod).filter(|container| !container.ready).any(|container| {
        let Some(running) = container.state.as_ref().and_then(|state| state.running.as_ref()) else { return false };
        let begun = running.started_at.as_ref().filter(|_| container.restart_count == 0);
        begun.is_none_or(|begun| now.duration_since(begun.0) >= SLOW + left_alone(pod, &container.name))
    })
}

/// How long after its start a container is not asked, or may fail without harm.
fn left_alone(pod: &Pod, container: &str) -> SignedDuration {
    let spec = pod.spec.as_ref();
    let mut all = spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let container = all.find(|known| known.name == container);
    let seconds = |seconds: Option<i32>| i64::from(seconds.unwrap_or_default());
    let readiness = container.and_then(|container| container.readiness_probe.as_ref());
    let startup = container.and_then(|container| container.startup_probe.as_ref());
    let asked = readiness.map_or(0, |probe| seconds(probe.initial_delay_seconds));
    let tries = |probe: &Probe| seconds(probe.period_seconds) * seconds(probe.failure_threshold);
    let begun = startup.map_or(0, |probe| seconds(probe.initial_delay_seconds) + tries(probe));
    SignedDuration::from_secs(asked.max(begun))
}

/// A text without numbers that are as long as a port, which each try of a probe has anew; a status code stays.
pub(super) fn without_ports(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_digit();
    let pieces = text.split_inclusive(|c| !is_digit(c)).map(|piece| {
        let rest = piece.trim_start_matches(is_digit);
        if piece.len() - rest.len() > 3 { rest } else { piece }
    });
    pieces.collect()
}
