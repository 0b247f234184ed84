//! The harness of our stories, the demo and the benchmarks: our real binaries as processes, a fleet of local Kusto servers, sample telemetry, and the judges.

#![allow(clippy::panic)] // A harness fails its story by panicking, with what it saw.

pub mod azure;
pub mod cluster;
pub mod docs;
pub mod fleet;
pub mod kusto;
mod listener;
pub mod logs;
pub mod loopback;
pub mod metrics;
pub mod oracle;
pub mod process;
pub mod queries;
pub mod recordings;
pub mod telemetry;
pub mod timing;
pub mod way_out;
pub mod witness;
