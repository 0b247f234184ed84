//! What a condition says already of pods that are not ready, and goes on saying while it is true: where there is more than one truth, they would take turns, and be written
//! each time. Pure; asked by `workload`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    BACK_OFF, Why,
    slow::{NOT_READY, without_ports},
};
use crate::kubernetes::conditions::{Phase, shortened};

/// Empty where nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    reason: &'a str,
    message: &'a str,
}

impl<'a> Said<'a> {
    /// What is said of a phase.
    pub(crate) fn of(conditions: &'a [Condition], phase: Phase) -> Self {
        let said = conditions.iter().find(|condition| condition.type_ == phase.as_str());
        said.map_or_else(Self::default, |said| Self { reason: &said.reason, message: &said.message })
    }

    /// The pod that it is said of.
    pub(super) fn pod(self) -> Option<&'a str> {
        self.message.strip_prefix("pod ")?.split_once(": ").map(|(pod, _)| pod)
    }

    /// Whether it says this. An older kubelet tells why an image could not be pulled with each try, and not while it waits for the next one; and of a probe that fails
    /// each try may tell of another connection.
    fn is(self, (reason, message): &Why) -> bool {
        let message = shortened(message);
        let is_longer = || self.message.strip_prefix(message.as_str()).is_some_and(|why| why.starts_with(": "));
        self.reason == reason
            && (self.message == message
                || match self.reason {
                    BACK_OFF => is_longer(),
                    NOT_READY => without_ports(self.message) == without_ports(&message),
                    _ => false,
                })
    }

    /// What it says, if that is among these, else the first.
    pub(super) fn among(self, whys: impl Iterator<Item = Why>) -> Option<Why> {
        let mut first = None;
        for why in whys {
            if self.is(&why) {
                return Some(why);
            }
            first = first.or(Some(why));
        }
        first
    }

    /// The same in the words of before, if they say it.
    pub(super) fn again(self, why: Why) -> Why {
        if self.is(&why) { (why.0, self.message.to_owned()) } else { why }
    }
}
