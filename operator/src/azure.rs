//! Azure Resource Manager (ARM), as far as the provisioning of clusters needs it. Decides nothing: what to ask for is [`crate::kubernetes`]'s, in `provision`.
//!
//! | module | what | I/O |
//! |---|---|---|
//! | [`client`] | one request to ARM: token, throttle, retry of GETs, paging | HTTPS |
//! | [`operations`] | the requests, typed | through the client |
//! | [`types`] | bodies and answers; what a newer Azure says beyond them still parses | none |
//! | [`error`] | what went wrong, in the classes that decide what happens next | none |
//! | [`imds`] | where this machine is | HTTP, link-local |
//! | [`settings`] | endpoints of the clouds, identity, defaults of the command line | none |

pub mod client;
pub mod error;
pub mod imds;
pub mod operations;
pub mod settings;
pub mod types;

pub use client::ArmClient;
pub use error::{ArmError, Class, Refusal, told};
pub use operations::{ClusterPath, Scope};
pub use settings::{ArmEndpoint, AzureSettings, Place};
