//! What went wrong with a request to ARM, in the classes that decide what happens next. No I/O.

use std::{fmt, time::Duration};

use kql::secrets::shown;
use shared::credential::CredentialError;

use super::types::ErrorBody;

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ArmError {
    /// There is no token.
    #[error("failed to sign in to Azure")]
    Credential(#[source] CredentialError),
    /// No answer came.
    #[error("failed to ask Azure for {what}")]
    Transport {
        /// What was asked for.
        what: &'static str,
        /// Whether the request may have arrived and been carried out.
        maybe_accepted: bool,
        /// Why.
        source: azure_core::Error,
    },
    /// Azure, or this client after such an answer, wants fewer requests.
    #[error("Azure wants no requests for {} s", after.as_secs())]
    Throttled {
        /// For how long.
        after: Duration,
    },
    /// Azure said no.
    #[error("Azure refused {what}: {refusal}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        refusal: Refusal,
    },
    /// The answer is not what ARM answers.
    #[error("the answer to {what} cannot be read: {why}")]
    Unreadable {
        /// What was asked for.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// An error of Azure's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status; 200 for an operation that failed.
    pub status: u16,
    /// Azure's code: the innermost, which is the reason.
    pub code: String,
    /// Azure's text.
    pub message: String,
}

/// What to do about a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The token was not taken.
    Auth,
    /// A role is missing.
    Forbidden,
    /// A policy of the organisation forbids it.
    Policy,
    /// It is not there.
    NotFound,
    /// Something else is going on there: it has to end first.
    Busy,
    /// Something there is in the way, and not by itself out of it.
    Conflict,
    /// The subscription may not use Microsoft.Kusto.
    Unregistered,
    /// The subscription's quota or the region's capacity is used up.
    Quota,
    /// A lock forbids it.
    Locked,
    /// Somebody else has the name.
    NameTaken,
    /// The request itself is wrong, until the spec changes.
    Invalid,
    /// Azure's own trouble.
    Server,
}

/// The most characters of Azure's text that are kept.
const MAX_MESSAGE: usize = 1024;
/// The same of what is no error of Azure's.
const MAX_BODY: usize = 200;

/// Azure's words as they are told: without secrets, and of very many the first.
pub fn told(words: &str) -> String {
    shown(words, MAX_MESSAGE)
}

impl Refusal {
    /// From an answer's error; `body` is told where there is none.
    pub fn new(status: u16, error: Option<&ErrorBody>, body: &str) -> Self {
        let innermost = error.map(innermost);
        let code = innermost.and_then(|error| error.code.as_deref());
        let code = code.map_or_else(|| format!("HTTP {status}"), |code| shown(code, MAX_BODY));
        let message = innermost.and_then(|error| error.message.as_deref());
        let message = message.map_or_else(|| shown(body, MAX_BODY), told);
        Self { status, code, message }
    }

    /// What to do about it.
    pub fn class(&self) -> Class {
        let code = self.code.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
        let is_about_quota = code == "operationnotallowed" && self.message.to_ascii_lowercase().contains("quota");
        if is_about_quota || has(&["quota", "overconstrained", "allocationfailed", "insufficientcapacity"]) {
            return Class::Quota;
        }
        if has(&["scopelocked"]) {
            return Class::Locked;
        }
        if code == "conflict"
            || has(&["serviceisinmaintenance", "requestconflict", "operationinprogress", "anotheroperation"])
        {
            return Class::Busy;
        }
        if has(&["missingsubscriptionregistration"]) {
            return Class::Unregistered;
        }
        if has(&["namealreadyexists", "namenotavailable", "clusternamealreadyexists", "nameisalreadytaken"]) {
            return Class::NameTaken;
        }
        if has(&["disallowedbypolicy"]) {
            return Class::Policy;
        }
        let is_about_the_request = has(&["invalid", "badrequest", "notallowed", "notsupported", "unsupported", "sku"]);
        match self.status {
            401 => Class::Auth,
            403 => Class::Forbidden,
            404 => Class::NotFound,
            // What exists although it must not, or is not as it was: somebody was faster, and the next look sees it.
            412 | 423 => Class::Busy,
            409 if !is_about_the_request => Class::Conflict,
            408 | 500.. => Class::Server,
            // An operation that failed for a reason that is not known: trying once more, much later, does no harm.
            200 if !is_about_the_request => Class::Server,
            _ => Class::Invalid,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl ArmError {
    /// Whether the request may have been carried out although it looks failed: then a look comes before any other write.
    pub fn maybe_accepted(&self) -> bool {
        match self {
            Self::Transport { maybe_accepted, .. } => *maybe_accepted,
            Self::Refused { refusal, .. } => refusal.class() == Class::Server,
            Self::Unreadable { .. } => true,
            Self::Credential(_) | Self::Throttled { .. } => false,
        }
    }

    /// The refusal, if it is one.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

/// The last error of the chain of first details, as deep as a person would look.
fn innermost(error: &ErrorBody) -> &ErrorBody {
    let mut error = error;
    for _ in 0..8 {
        match error.details.first().filter(|detail| detail.code.is_some()) {
            Some(detail) => error = detail,
            None => break,
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_code_decides_before_the_status_does() {
        for (status, code, class) in [
            (401, "ExpiredAuthenticationToken", Class::Auth),
            (403, "AuthorizationFailed", Class::Forbidden),
            (403, "RequestDisallowedByPolicy", Class::Policy),
            (404, "ResourceNotFound", Class::NotFound),
            (409, "ServiceIsInMaintenance", Class::Busy),
            (400, "ServiceIsInMaintenance", Class::Busy),
            (409, "Conflict", Class::Busy),
            (412, "PreconditionFailed", Class::Busy),
            (409, "MissingSubscriptionRegistration", Class::Unregistered),
            (409, "SubscriptionQuotaExceeded", Class::Quota),
            (200, "AllocationFailed", Class::Quota),
            (409, "ScopeLocked", Class::Locked),
            (409, "NameAlreadyExists", Class::NameTaken),
            (400, "SkuNotAvailable", Class::Invalid),
            (504, "GatewayTimeout", Class::Server),
            (200, "InternalServerError", Class::Server),
            (200, "InvalidVirtualNetwork", Class::Invalid),
        ] {
            let refusal = Refusal { status, code: code.to_owned(), message: String::new() };
            assert_eq!(refusal.class(), class, "{status} {code}");
        }
    }

    #[test]
    fn azures_words_are_told_without_secrets_however_they_are_cut() {
        // The '@' that shows what a password is comes after the cut.
        for chars in [MAX_BODY, MAX_MESSAGE] {
            let words = format!("{} https://me:hunter2@x.example/", "a".repeat(chars - 16));
            let error: ErrorBody = serde_json::from_value(json!({"code": words, "message": words})).unwrap();
            for told in [Refusal::new(409, Some(&error), ""), Refusal::new(502, None, &words)] {
                assert!(!told.to_string().contains("hunter2"), "{told}");
            }
        }
    }

    #[test]
    fn the_innermost_error_is_the_reason() {
        let error = json!({"code": "DeploymentFailed", "message": "see details", "details": [
            {"code": "QuotaExceeded", "message": "cores", "details": [{"message": "no code"}]}, {"code": "Other"}
        ]});
        let error: ErrorBody = serde_json::from_value(error).unwrap();
        let refusal = Refusal::new(409, Some(&error), "");
        assert_eq!(refusal.to_string(), "QuotaExceeded: cores");
        assert_eq!(Refusal::new(502, None, "<html>").to_string(), "HTTP 502: <html>");
    }

    #[test]
    fn azures_words_are_told_without_secrets() {
        let words = "cannot read https://x.blob.core.windows.net/c?sig=hunter2 Password=hunter2";
        let shown = "cannot read https://x.blob.core.windows.net/c?… Password=…";
        let error: ErrorBody = serde_json::from_value(json!({"code": "Invalid", "message": words})).unwrap();
        assert_eq!(Refusal::new(400, Some(&error), "").to_string(), format!("Invalid: {shown}"));
        assert_eq!(Refusal::new(400, None, words).to_string(), format!("HTTP 400: {shown}"));
        // An address that the end of what is kept of a body is in.
        let before = "a".repeat(MAX_BODY - 12);
        let refusal = Refusal::new(502, None, &format!("{before} https://me:hunter2@x.example/"));
        assert_eq!(refusal.message, format!("{before} https://…@x"));
    }
}
