//! The partition's agent (role Partition): announces its cluster to every hub. Each beat asks the cluster what it holds, composes one heartbeat and sends it
//! to all hubs side by side.
//!
//! | module | what | I/O |
//! |---|---|---|
//! | [`inventory`] | databases, tables, views and columns of the cluster | one `.show` |
//! | `scalar` | which functions are no tables | none |
//! | [`compose`] | the heartbeat | none |
//! | [`publish`] | sends it to one hub | ingestion |
//! | [`report`] | metrics, status, logs | those |

pub mod compose;
pub mod inventory;
mod pass;
pub mod publish;
pub mod report;
mod scalar;

pub use pass::run;
