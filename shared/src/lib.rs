//! What two or more of our programs use. It decides nothing: which partition is live, which function changes and what is provisioned is decided in the
//! agents and the operator.
//!
//! | module | what | I/O |
//! |---|---|---|
//! | [`document`] | the ADXCluster document: types, loading, validation, defaults | reads one file |
//! | [`heartbeat`] | the row that partitions write and hubs read | none |
//! | [`kubernetes`] | leading by a lease, status of the ADXCluster | the API server |
//! | [`kusto`] | the client of one cluster: trust, tokens, completeness, retries | HTTP |
//! | [`credential`] | where a token comes from | HTTP or a process, by azure_identity |
//! | [`runtime`] | what surrounds an agent's pass: arguments, logs, metrics, probes, schedule, stop | stderr, HTTP, signals |
//! | `testing` | a cluster on loopback, for unit tests alone: a feature | HTTP |

pub mod credential;
pub mod document;
pub mod heartbeat;
pub mod kubernetes;
pub mod kusto;
pub mod runtime;
#[cfg(feature = "testing")]
pub mod testing;
