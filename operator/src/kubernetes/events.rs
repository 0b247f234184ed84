//! Events: what people are told on the object, and when. I/O: [`publish`] writes them; the rest is pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Resource,
    runtime::events::{Event, EventType},
};
use shared::runtime::{self, chain};

use super::{
    child::ChildRef,
    conditions::{Draft, shortened},
    context::Context,
    reason::Reason,
};

/// An Event for what a condition is about to say, unless it says so already.
pub(crate) fn news(said: &[Condition], why: &Draft) -> Option<Event> {
    let said = said.iter().find(|condition| condition.type_ == why.phase.as_str());
    let is_new = said.is_none_or(|said| {
        said.reason != why.reason || (is_told_by_its_words(&why.reason) && said.message != shortened(&why.message))
    });
    is_new.then(|| event(EventType::Warning, &why.reason, &why.message, None))
}

/// Reasons under which one trouble may follow another: the message names the object, or the path, that is in the way, and stays as long as that one does.
/// Messages of pods, of agents and of Azure hold counts, times and ids, and are another each time.
fn is_told_by_its_words(reason: &str) -> bool {
    let reasons = [
        Reason::ApplyFailed,
        Reason::Conflict,
        Reason::Immutable,
        Reason::WaitingForDeletion,
        Reason::Invalid,
        Reason::InvalidCriteria,
    ];
    reasons.iter().any(|known| known.as_str() == reason)
}

/// The most bytes of a note; the API takes 1024.
const MAX_NOTE_BYTES: usize = 1000;

/// An Event. For six minutes kube's recorder counts those that have type, reason, action and objects in common, and keeps the first one's words, which may be about
/// another database, or tell a plan's hash that is none any more: so other words are another action.
pub(crate) fn event(kind: EventType, reason: &str, note: &str, about: Option<ObjectReference>) -> Event {
    let note = runtime::shortened(note.to_owned(), MAX_NOTE_BYTES);
    Event {
        type_: kind,
        reason: reason.to_owned(),
        action: format!("Reconcile-{:02x}", wording(&note)),
        note: Some(note),
        secondary: about,
    }
}

/// A number for words. There are few of them, so that words that are never the same twice, with an id or a time in them, make no flood of Events.
fn wording(note: &str) -> u8 {
    let mut hasher = DefaultHasher::new();
    note.hash(&mut hasher);
    hasher.finish().to_le_bytes()[0]
}

/// An Event for a child that somebody changed at a path, or deleted; each path of each child has its own.
pub(crate) fn drift_reverted((child, path): (ChildRef, Option<String>)) -> Event {
    let note = match &path {
        Some(path) => format!("{child} was changed at {path}"),
        None => format!("{child} was deleted"),
    };
    event(EventType::Normal, "DriftReverted", &note, Some(about(child, path)))
}

/// An Event for a child that is not as it was just applied. Nobody does that but who is asked before anything is stored.
pub(crate) fn overruled((child, path): (ChildRef, String)) -> Event {
    let note =
        format!("{child} is not at {path} as it is applied: an admission webhook or policy changes it on its way");
    event(EventType::Warning, "Overruled", &note, Some(about(child, Some(path))))
}

/// An Event for a child that had to be made anew for a field that nobody can change.
pub(crate) fn replaced((child, path): (ChildRef, &str)) -> Event {
    let note =
        format!("{child} was deleted and made anew: its {path} has to be another and cannot be changed in place");
    event(EventType::Normal, "Replaced", &note, Some(about(child, Some(path.to_owned()))))
}

/// What a condition says of children that an earlier version called otherwise and nothing removes, and an Event for it.
pub(crate) fn left_behind(left: &[ChildRef]) -> Option<(String, Event)> {
    let first = left.first()?;
    let names: Vec<String> = left.iter().map(ToString::to_string).collect();
    let note = format!("{} of an earlier version is left, and goes only when somebody deletes it", names.join(", "));
    let event = event(EventType::Warning, "LeftBehind", &note, Some(about(first.clone(), None)));
    Some((note, event))
}

fn about(child: ChildRef, path: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some(child.resource.api_version),
        kind: Some(child.resource.kind),
        namespace: child.namespace,
        name: Some(child.name),
        field_path: path,
        ..ObjectReference::default()
    }
}

/// An Event on the object. One that cannot be written is only logged: Events are for people, and never decide.
pub(crate) async fn publish<K: Resource<DynamicType = ()> + Sync>(object: &K, context: &Context, event: &Event) {
    if let Err(error) = context.recorder.publish(event, &object.object_ref(&())).await {
        tracing::warn!(error = chain(&error), reason = event.reason, "an Event could not be written");
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::kubernetes::conditions::{Phase, merged};

    /// What is told of one trouble after another.
    fn told<const COUNT: usize>(troubles: [(&str, &str); COUNT]) -> [bool; COUNT] {
        let mut said: Vec<Condition> = Vec::new();
        troubles.map(|(reason, message)| {
            let why = Draft::in_words_of_others(Phase::WorkloadReady, Some(false), reason, message);
            let is_told = news(&said, &why).is_some();
            said = merged(&said, vec![why], Some(1), Timestamp::UNIX_EPOCH);
            is_told
        })
    }

    #[test]
    fn a_trouble_is_told_once_and_another_of_the_same_reason_too() {
        let (service, role) =
            ("failed to update the Service 'i': forbidden", "failed to update the Role 'i': forbidden");
        let troubles = [("ApplyFailed", service), ("ApplyFailed", service), ("ApplyFailed", role), ("Conflict", role)];
        assert_eq!(told(troubles), [true, false, true, true]);
        let (one, other) = ("spec.replicas = -1: must be", "spec.image = '': must be");
        assert_eq!(told([("Invalid", one), ("Invalid", other), ("Invalid", other)]), [true, true, false]);
    }

    #[test]
    fn one_that_is_too_long_for_the_status_is_told_once() {
        let long = "x".repeat(5000);
        assert_eq!(told([("ApplyFailed", long.as_str()), ("ApplyFailed", long.as_str())]), [true, false]);
    }

    #[test]
    fn a_note_that_is_too_long_for_the_api_ends_with_a_sign_of_it() {
        let note = event(EventType::Warning, "ApplyFailed", &"é".repeat(5000), None).note;
        assert!(note.is_some_and(|note| note.len() < 1024 && note.ends_with("é…")));
    }

    #[test]
    fn what_only_counts_on_is_told_once() {
        let crashes = [10, 20, 40].map(|seconds| format!("pod i-0: CrashLoopBackOff: back-off {seconds}s restarting"));
        let crashes = crashes.each_ref().map(|message| ("CrashLoopBackOff", message.as_str()));
        assert_eq!(told(crashes), [true, false, false]);
    }
}
