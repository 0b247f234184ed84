//! `operator standalone`: one supervised agent process for each ADXCluster document, without Kubernetes. I/O: reads the documents, writes each agent's own
//! document into a temporary folder, starts and stops processes.
//!
//! A dead supervisor leaves no children: every agent holds the read end of a pipe as its standard input and stops when the pipe closes, which the kernel
//! does for the supervisor however it dies.

mod backoff;
mod child;
mod supervise;

pub use supervise::{AgentStatus, Standalone, StandaloneError, run};
