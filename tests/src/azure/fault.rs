//! What can go wrong on the way to Azure and in it, on demand. No I/O; stories order faults, the exchange meets them.

use std::time::Duration;

/// What happens to the requests that it fits.
#[derive(Debug, Clone)]
pub struct Fault {
    /// GET, PUT, ...
    pub method: &'static str,
    /// Fits paths with their queries that contain this, in any case.
    pub path_contains: String,
    /// So many that fit pass before.
    pub skip: usize,
    /// It happens so often.
    pub times: usize,
    /// What happens.
    pub kind: FaultKind,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum FaultKind {
    /// An error; the request has no effect.
    Answer {
        /// HTTP status.
        status: u16,
        /// Azure's code.
        code: String,
        /// Azure's message.
        message: String,
        /// Seconds in the header Retry-After.
        retry_after: Option<u64>,
    },
    /// An error although the request has its effect.
    AnswerAfterEffect {
        /// For example 504.
        status: u16,
    },
    /// The connection is cut; the request has no effect.
    Reset,
    /// The connection is cut, and the request has its effect.
    ResetAfterEffect,
    /// The operation that the request begins ends so. Requests that begin none do not use it up.
    OperationFails {
        /// Azure's code.
        code: String,
        /// Azure's message.
        message: String,
    },
    /// A page of a proxy on the way; the request has no effect.
    Html {
        /// HTTP status.
        status: u16,
    },
    /// The request waits so long, in real time, before it gets to Azure.
    Delay(Duration),
}

impl FaultKind {
    /// Whether whoever meets it cannot know if the request was taken.
    pub(super) const fn leaves_unsure(&self) -> bool {
        match self {
            Self::Answer { status, .. } => *status >= 500,
            Self::AnswerAfterEffect { .. } | Self::Reset | Self::ResetAfterEffect | Self::Html { .. } => true,
            Self::OperationFails { .. } | Self::Delay(_) => false,
        }
    }
}

/// The first that fits, with its place. `OperationFails` is used up only once an operation has begun: [`use_up`].
pub(super) fn meet(faults: &mut [Fault], method: &str, path_and_query: &str) -> Option<(usize, FaultKind)> {
    let path = path_and_query.to_lowercase();
    for (index, fault) in faults.iter_mut().enumerate() {
        let fits = fault.times > 0 && fault.method == method && path.contains(&fault.path_contains.to_lowercase());
        if fits && fault.skip > 0 {
            fault.skip -= 1;
        } else if fits {
            if !matches!(fault.kind, FaultKind::OperationFails { .. }) {
                fault.times -= 1;
            }
            return Some((index, fault.kind.clone()));
        }
    }
    None
}

/// Whether it was still to happen.
pub(super) fn use_up(faults: &mut [Fault], index: usize) -> bool {
    let Some(fault) = faults.get_mut(index).filter(|fault| fault.times > 0) else { return false };
    fault.times -= 1;
    true
}
