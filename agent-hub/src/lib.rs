//! The hub's agent (role Federated): reads the heartbeats and keeps the hub's federated functions and entity groups true. It never removes anything because
//! it failed to see, and never touches what it did not make.
//!
//! | module | what | I/O |
//! |---|---|---|
//! | `pass` | one after the other, what follows here | all of these |
//! | [`settings`] | what the document says, for those below | none |
//! | [`setup`] | the heartbeat table and its policies | commands |
//! | [`observe`] | heartbeats, and what the hub holds | queries, `.show` |
//! | [`hub`] | what the hub holds | none |
//! | [`adopt`] | groups of ours whose record was lost | none |
//! | [`listings`] | what partitions list no longer | none |
//! | [`fleet`], [`membership`] | the state of each partition | none |
//! | [`trust`], [`guards`] | who may join, and who must not leave yet | none |
//! | [`canary`] | which new partitions are asked when | none |
//! | [`desired`] | what the hub should hold | none |
//! | [`plan`] | the ordered changes, or a hold | none |
//! | [`apply`] | the changes | commands |
//! | [`columns`] | which partitions' columns the hub has to forget | none |
//! | [`texts`] | how the hub writes functions' texts | none |
//! | [`drift`] | which changes undid what somebody else did | none |
//! | [`report`] | metrics, status, logs | those |

pub mod adopt;
pub mod apply;
pub mod canary;
pub mod columns;
pub mod desired;
pub mod drift;
#[cfg(test)]
mod explorer;
pub mod fleet;
pub mod guards;
pub mod hub;
pub mod listings;
pub mod membership;
pub mod observe;
mod pass;
pub mod plan;
pub mod report;
pub mod settings;
pub mod setup;
#[cfg(test)]
mod testing;
pub mod texts;
pub mod trust;
pub mod watcher;

pub use pass::{preview, run};
