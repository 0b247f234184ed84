//! What surrounds an agent's pass: arguments, logs, metrics, probes, the schedule and a graceful stop. An agent's `main` is one call of [`main`]; its `run`
//! takes the [`World`] as a parameter, so that tests run it without a process around it. I/O: stderr, the admin port, signals, standard input.

mod admin;
mod args;
mod backoff;
mod cycle;
mod logs;
mod metrics;
mod outcome;
mod start;
mod stop;

pub use admin::{Admin, AdminServer};
pub use args::{CommonArgs, DOCUMENT_ENV, LogFormat};
pub use backoff::Backoff;
pub use cycle::{Cycle, Leadership};
pub use logs::{chain, init as init_logs, shortened};
pub use metrics::{
    ChangeAction, ChangeObject, ChangeOutcome, GuardReason, HeartbeatOutcome, Metrics, PartitionState, RefusalReason,
};
pub use outcome::{Exit, PassOutcome};
pub use start::{World, main};
pub use stop::{PARENT_PIPE, stop_on_signals};
