//! Pods that take longer than a start does and do not say why themselves: which they are, and which Event tells. Pure; called by `workload`, which asks for the Event.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, Probe};

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
    /// A selector of the Events that may tell why.
    pub(super) fn events(&self) -> String {
        let told = match self.wait {
            Wait::Made => "type=Warning",
            // Beside it others warn of what keeps no pod from being ready.
            Wait::Ready => "reason=Unhealthy",
        };
        format!("involvedObject.uid={},{told}", self.uid)
    }

    /// What one of them tells: reason and sentence.
    pub(super) fn told(&self, event: Event) -> Option<(String, String)> {
        let reason = match self.wait {
            Wait::Made => event.reason.filter(|reason| !reason.is_empty())?,
            Wait::Ready => NOT_READY.to_owned(),
        };
        let sentence = format!("pod {}: {reason}: {}", self.name, event.message.unwrap_or_default());
        Some((reason, sentence))
    }
}

/// The first pod of each wait.
#[derive(Debug, Default)]
pub(super) struct SlowPods {
    made: Option<SlowPod>,
    ready: Option<SlowPod>,
}

impl SlowPods {
    /// Looks for them among some more pods.
    pub(super) fn look_at(&mut self, pods: &[Pod], now: Timestamp) {
        for (found, wait) in [(&mut self.made, Wait::Made), (&mut self.ready, Wait::Ready)] {
            if found.is_none() {
                *found = first(pods, wait, now);
            }
        }
    }

    /// Those that do not even run come first.
    pub(super) fn found(&self) -> impl Iterator<Item = &SlowPod> {
        self.made.iter().chain(&self.ready)
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

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
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
