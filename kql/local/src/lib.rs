//! A Kusto-compatible server in memory, for a laptop and for tests: Kusto's REST protocol and KQL on Apache DataFusion.

pub mod catalog;
pub mod clock;
mod commands;
pub mod engine;
pub mod error;
mod ingest;
mod record;
pub mod rows;
mod server;
pub mod wire;

pub use server::{DEFAULT_DATABASE, Server, ServerError, ServerOptions};
