//! How a pass and a process end: closed enums, which are labels of metrics and exit codes. No I/O.

use std::process::{ExitCode, Termination};

use super::metrics::label;

label! {
    /// How a pass ended.
    PassOutcome {
        /// Something was written, and all of it succeeded. For a partition: every hub accepted the heartbeat.
        Done = "done",
        /// Nothing had to be written. The normal state of a hub.
        Unchanged = "unchanged",
        /// Some of it failed (a hub, a database, a schema), the rest was done, or planned. Look at the failures' own metrics; the next pass tries again.
        Partial = "partial",
        /// Changes are planned, from all that there is to see, and not made, because the document says so (`mode: Plan`, `suspend`).
        Planned = "planned",
        /// A guard held changes back. A person should look at `guard_active`; the world is as it was.
        Held = "held",
        /// Nothing could be done. Repeated failures need a person.
        Failed = "failed",
    }
}

/// The exit code of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: stopped on request, or the one pass did all it had to.
    Done,
    /// 1: the one pass failed wholly or in part, or the agent could not run.
    Failed,
    /// 2: the document or the arguments are wrong; the same start would fail again.
    BadConfiguration,
    /// 3: the one pass was held back by a guard.
    Held,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::BadConfiguration => 2,
            Self::Held => 3,
        }
    }
}

impl From<PassOutcome> for Exit {
    fn from(outcome: PassOutcome) -> Self {
        match outcome {
            PassOutcome::Done | PassOutcome::Unchanged | PassOutcome::Planned => Self::Done,
            PassOutcome::Partial | PassOutcome::Failed => Self::Failed,
            PassOutcome::Held => Self::Held,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
