//! Conditions: drafted by the steps, merged with what the object has, summed up in `Ready`. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use shared::runtime;

use super::reason::Reason;

/// The most bytes of a message.
const MAX_MESSAGE_BYTES: usize = 2048;

/// The phases of an object, in the order in which they are reached. The last two are summaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The Azure Data Explorer clusters that it is or needs are there.
    ClusterReady,
    /// Their databases are there.
    DatabasesReady,
    /// Azure has what the spec says; where it does not, a cluster that runs is ready nevertheless.
    Provisioned,
    /// Its pods run.
    WorkloadReady,
    /// Its agent's pods run.
    AgentReady,
    /// Its agent does its work.
    Federated,
    /// Only present while it is true: the agent holds removals back.
    Guarded,
    /// All of it.
    Ready,
    /// Only present while it is true: a person must change something.
    Stalled,
}

impl Phase {
    pub(crate) const ALL: [Self; 9] = [
        Self::ClusterReady,
        Self::DatabasesReady,
        Self::Provisioned,
        Self::WorkloadReady,
        Self::AgentReady,
        Self::Federated,
        Self::Guarded,
        Self::Ready,
        Self::Stalled,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterReady => "ClusterReady",
            Self::DatabasesReady => "DatabasesReady",
            Self::Provisioned => "Provisioned",
            Self::WorkloadReady => "WorkloadReady",
            Self::AgentReady => "AgentReady",
            Self::Federated => "Federated",
            Self::Guarded => "Guarded",
            Self::Ready => "Ready",
            Self::Stalled => "Stalled",
        }
    }
}

/// A condition that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) phase: Phase,
    /// `None`: unknown.
    pub(crate) is_true: Option<bool>,
    /// A CamelCase word.
    pub(crate) reason: String,
    /// A sentence.
    pub(crate) message: String,
}

impl Draft {
    pub(crate) fn yes(phase: Phase, reason: Reason, message: impl Into<String>) -> Self {
        Self::in_words_of_others(phase, Some(true), reason.as_str(), message)
    }

    pub(crate) fn no(phase: Phase, reason: Reason, message: impl Into<String>) -> Self {
        Self::in_words_of_others(phase, Some(false), reason.as_str(), message)
    }

    pub(crate) fn unknown(phase: Phase, reason: Reason, message: impl Into<String>) -> Self {
        Self::in_words_of_others(phase, None, reason.as_str(), message)
    }

    /// With a reason that is not the operator's: a pod's, an agent's, or one that was given before.
    pub(crate) fn in_words_of_others(
        phase: Phase,
        is_true: Option<bool>,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self { phase, is_true, reason: reason.to_owned(), message: message.into() }
    }

    const fn status(&self) -> &'static str {
        match self.is_true {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// `Ready` after the drafts: the first phase that is not true says why not. `stalled`: nothing will change until a person changes something.
pub(crate) fn with_summary(mut drafts: Vec<Draft>, stalled: bool) -> Vec<Draft> {
    drafts.sort_by_key(|draft| draft.phase);
    let first = drafts.iter().find(|draft| draft.is_true != Some(true) && draft.phase != Phase::Provisioned);
    let ready = match first {
        None => Draft::yes(Phase::Ready, Reason::Ready, "everything is in place"),
        Some(draft) => Draft { phase: Phase::Ready, ..draft.clone() },
    };
    let stalled = stalled.then(|| Draft { phase: Phase::Stalled, is_true: Some(true), ..ready.clone() });
    drafts.push(ready);
    drafts.extend(stalled);
    drafts
}

/// The object's conditions from now on; a status that stays keeps the time of its last change.
pub(crate) fn merged(
    existing: &[Condition],
    drafts: Vec<Draft>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let merge = |draft: Draft| {
        let before = existing.iter().find(|condition| condition.type_ == draft.phase.as_str());
        let since = before.filter(|condition| condition.status == draft.status());
        // The protocol's times have no fraction.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Condition {
            type_: draft.phase.as_str().to_owned(),
            status: draft.status().to_owned(),
            last_transition_time: since.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            observed_generation: generation,
            reason: draft.reason,
            message: shortened(&draft.message),
        }
    };
    drafts.into_iter().map(merge).collect()
}

/// Conditions of our phases; others may be there, of another operator's.
pub(crate) fn ours(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    conditions.iter().filter(|condition| is_ours(&condition.type_))
}

/// What an object says that says `suspend`.
pub(crate) const SUSPENDED: &str =
    "spec.suspend is true: nothing is changed, here or by a hub's agent on its hub, and what is there goes on";

/// Of an object that is left alone: what was said of it before is still the last that is known, but for the summaries.
pub(crate) fn last_known(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    let summaries = [Phase::Ready, Phase::Stalled].map(Phase::as_str);
    ours(conditions).filter(move |condition| !summaries.contains(&condition.type_.as_str()))
}

/// Whether a type of conditions is one of our phases.
pub(crate) fn is_ours(kind: &str) -> bool {
    Phase::ALL.iter().any(|phase| phase.as_str() == kind)
}

/// As a condition says it.
pub(crate) fn shortened(text: &str) -> String {
    runtime::shortened(text.to_owned(), MAX_MESSAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(conditions: &[Condition]) -> Vec<(&str, &str, &str, i64)> {
        let row = |condition: &'_ Condition| condition.last_transition_time.0.as_second();
        conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str(), row(c))).collect()
    }

    #[test]
    fn the_first_phase_that_is_not_reached_says_why_the_object_is_not_ready() {
        let drafts = vec![
            Draft::in_words_of_others(Phase::WorkloadReady, Some(false), "ImagePullBackOff", "pod x-0: no such image"),
            Draft::yes(Phase::ClusterReady, Reason::Existing, "it exists"),
        ];
        let first = merged(&[], with_summary(drafts.clone(), false), Some(3), Timestamp::from_second(10).unwrap());
        assert!(first.iter().all(|condition| condition.observed_generation == Some(3)), "{first:?}");
        assert_eq!(
            shown(&first),
            [
                ("ClusterReady", "True", "Existing", 10),
                ("WorkloadReady", "False", "ImagePullBackOff", 10),
                ("Ready", "False", "ImagePullBackOff", 10)
            ]
        );
        let again = merged(&first, with_summary(drafts, false), Some(3), Timestamp::from_second(20).unwrap());
        assert_eq!(again, first, "nothing changed, so nothing is written");
        let up = vec![
            Draft::yes(Phase::ClusterReady, Reason::Existing, "it exists"),
            Draft::yes(Phase::WorkloadReady, Reason::Ready, ""),
        ];
        let up = merged(&first, with_summary(up, false), Some(4), Timestamp::from_second(30).unwrap());
        assert_eq!(
            shown(&up),
            [
                ("ClusterReady", "True", "Existing", 10),
                ("WorkloadReady", "True", "Ready", 30),
                ("Ready", "True", "Ready", 30)
            ]
        );
    }

    #[test]
    fn what_only_a_person_can_mend_is_stalled() {
        let drafts = with_summary(vec![Draft::no(Phase::ClusterReady, Reason::Invalid, "spec.x = y: z")], true);
        let conditions = merged(&[], drafts, None, Timestamp::UNIX_EPOCH);
        assert_eq!(shown(&conditions).last(), Some(&("Stalled", "True", "Invalid", 0)));
    }
}
