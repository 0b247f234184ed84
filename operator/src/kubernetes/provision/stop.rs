//! Where a pass ends before everything is in place: why, and what happens next. Pure.

use std::time::Duration;

use shared::{document::provisioned::FailureStatus, runtime::chain};

use crate::{
    azure::{ArmError, Class, Refusal},
    kubernetes::{conditions::Phase, reason::Reason},
};

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// What was found is written down first, and then it goes on.
    Now,
    /// Azure is at work: look again, when Azure says or soon.
    Wait(Option<Duration>),
    /// Something went wrong that may be gone soon.
    Retry,
    /// The same, but the try took Azure long: not at once.
    Later,
    /// A person has to do something in Azure or to the operator; it is looked at from time to time.
    Person,
    /// A person has to change the object.
    Spec,
}

/// Why a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The phase that is not reached.
    pub(crate) phase: Phase,
    pub(crate) reason: Reason,
    /// Sentences: what was to be done, what Azure said, what helps.
    pub(crate) message: String,
    pub(crate) next: Next,
    /// Azure could not be asked: nothing is known to be another than before.
    pub(crate) is_blind: bool,
}

impl Stop {
    pub(crate) fn new(phase: Phase, reason: Reason, message: impl Into<String>, next: Next) -> Self {
        Self { phase, reason, message: message.into(), next, is_blind: false }
    }

    /// Azure is at work.
    pub(crate) fn wait(phase: Phase, reason: Reason, message: impl Into<String>, after: Option<Duration>) -> Self {
        Self::new(phase, reason, message, Next::Wait(after))
    }

    /// An answer to a look, or to a write that may be tried again.
    pub(crate) fn from_error(phase: Phase, error: &ArmError) -> Self {
        let blind = |reason: Reason, next| Self { is_blind: true, ..Self::new(phase, reason, chain(error), next) };
        match error {
            ArmError::Credential(_) => blind(Reason::SignInFailed, Next::Retry),
            ArmError::Transport { .. } => blind(Reason::AzureUnreachable, Next::Retry),
            ArmError::Unreadable { .. } => blind(Reason::UnreadableAnswer, Next::Retry),
            ArmError::Throttled { after } => blind(Reason::Throttled, Next::Wait(Some(*after))),
            ArmError::Refused { what, refusal } => {
                let is_blind =
                    matches!(refusal.class(), Class::Auth | Class::Forbidden | Class::NotFound | Class::Server);
                Self { is_blind, ..Self::refused(phase, &format!("Azure refused {what}"), refusal) }
            }
        }
    }

    /// What Azure refused or failed before; the same until it is tried again.
    pub(crate) fn from_failure(phase: Phase, failure: &FailureStatus) -> Self {
        Self::refused(phase, &format!("failed to {}", failure.what), &refusal_of(failure))
    }

    fn refused(phase: Phase, what: &str, refusal: &Refusal) -> Self {
        let (reason, next, help) = advice(refusal);
        let message =
            if help.is_empty() { format!("{what}: {refusal}") } else { format!("{what}: {refusal} ({help})") };
        Self::new(phase, reason, message, next)
    }

    /// Whether people should hear of it.
    pub(crate) const fn is_trouble(&self) -> bool {
        !matches!(self.next, Next::Wait(_) | Next::Now)
    }
}

/// As a [`Refusal`], whose class decides.
pub(crate) fn refusal_of(failure: &FailureStatus) -> Refusal {
    let status = u16::try_from(failure.status).unwrap_or_default();
    Refusal { status, code: failure.code.clone(), message: failure.message.clone() }
}

/// The reason, what happens next, and what a person can do.
fn advice(refusal: &Refusal) -> (Reason, Next, &'static str) {
    let code = refusal.code.to_ascii_lowercase();
    match refusal.class() {
        Class::Auth => (Reason::SignInFailed, Next::Retry, "Azure did not take the operator's token"),
        Class::Forbidden => (
            Reason::Forbidden,
            Next::Person,
            "the operator's identity lacks a role in Azure: see 'Azure roles' in the README",
        ),
        Class::Policy => (Reason::DisallowedByPolicy, Next::Person, "a policy of the subscription forbids it"),
        Class::NotFound => (Reason::NotFound, Next::Retry, ""),
        Class::Conflict => (Reason::Conflict, Next::Person, "see there what is in the way"),
        Class::Busy => (Reason::WaitingForAzure, Next::Wait(None), "something else is going on there first"),
        Class::Unregistered => {
            (Reason::ProviderNotRegistered, Next::Retry, "the subscription is not registered for Microsoft.Kusto")
        }
        Class::Quota => (
            Reason::QuotaExceeded,
            Next::Person,
            "raise the quota, free cores, or choose another spec.provision.skuName",
        ),
        Class::Locked => (Reason::Locked, Next::Person, "remove the lock"),
        Class::NameTaken => (Reason::NameTaken, Next::Person, "choose another spec.clusterName"),
        Class::Server => (Reason::AzureFailed, Next::Retry, "it is tried again"),
        Class::Invalid if code.contains("tier") => (Reason::InvalidTier, Next::Spec, "see spec.provision.tier"),
        Class::Invalid if code.contains("sku") => (Reason::SkuNotAvailable, Next::Spec, "see spec.provision.skuName"),
        Class::Invalid => (Reason::Refused, Next::Spec, "it is tried again when the spec changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, code: &str) -> (String, Next) {
        let failure = FailureStatus {
            what: "create the cluster".to_owned(),
            status: status.into(),
            code: code.to_owned(),
            message: "Azure's text".to_owned(),
            request: String::new(),
            generation: 1,
        };
        let stop = Stop::from_failure(Phase::ClusterReady, &failure);
        assert!(stop.message.starts_with(&format!("failed to create the cluster: {code}: Azure's text")));
        (stop.reason.to_string(), stop.next)
    }

    #[test]
    fn each_refusal_has_its_reason_and_its_next_step() {
        for (status, code, reason, next) in [
            (403, "AuthorizationFailed", "Forbidden", Next::Person),
            (403, "RequestDisallowedByPolicy", "DisallowedByPolicy", Next::Person),
            (409, "ServiceIsInMaintenance", "WaitingForAzure", Next::Wait(None)),
            (412, "PreconditionFailed", "WaitingForAzure", Next::Wait(None)),
            (409, "QuotaExceeded", "QuotaExceeded", Next::Person),
            (409, "SomethingNew", "Conflict", Next::Person),
            (409, "SkuNotAvailable", "SkuNotAvailable", Next::Spec),
            (200, "OperationTimedOut", "AzureFailed", Next::Retry),
            (200, "SkuCapacityOverconstrained", "QuotaExceeded", Next::Person),
            (409, "ScopeLocked", "Locked", Next::Person),
            (409, "NameAlreadyExists", "NameTaken", Next::Person),
            (400, "SkuNotAvailable", "SkuNotAvailable", Next::Spec),
            (400, "InvalidSkuTier", "InvalidTier", Next::Spec),
            (400, "InvalidRequestContent", "Refused", Next::Spec),
            (503, "ServerBusy", "AzureFailed", Next::Retry),
            (200, "InternalServerError", "AzureFailed", Next::Retry),
            (401, "ExpiredAuthenticationToken", "SignInFailed", Next::Retry),
            (409, "MissingSubscriptionRegistration", "ProviderNotRegistered", Next::Retry),
        ] {
            assert_eq!(told(status, code), (reason.to_owned(), next), "{status} {code}");
        }
    }

    #[test]
    fn a_look_that_failed_says_nothing_about_the_cluster() {
        let throttled = Stop::from_error(Phase::ClusterReady, &ArmError::Throttled { after: Duration::from_secs(7) });
        assert_eq!((throttled.is_blind, throttled.next), (true, Next::Wait(Some(Duration::from_secs(7)))));
        let refused = |status, code: &str| {
            let refusal = Refusal { status, code: code.to_owned(), message: String::new() };
            Stop::from_error(Phase::ClusterReady, &ArmError::Refused { what: "the cluster", refusal }).is_blind
        };
        assert!(refused(403, "AuthorizationFailed") && refused(502, "HTTP 502"));
        assert!(!refused(400, "InvalidResourceName"));
    }
}
