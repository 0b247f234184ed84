//! The server over HTTP: one test for each rule of the protocol, the commands and the ingestion. Every test starts a server of its own.

// A test fails by panicking, and so do its helpers.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

#[path = "server/support.rs"]
mod support;

#[path = "server/clock.rs"]
mod clock;
#[path = "server/commands.rs"]
mod commands;
#[path = "server/entity_groups.rs"]
mod entity_groups;
#[path = "server/faults.rs"]
mod faults;
#[path = "server/ingestion.rs"]
mod ingestion;
#[path = "server/protocol.rs"]
mod protocol;
#[path = "server/recording.rs"]
mod recording;
#[path = "server/scripts.rs"]
mod scripts;
