//! The part of the hub's configuration that decisions depend on. Pure.

use crate::fleet::Thresholds;

/// What `desired` and `plan` need to know of the ADXCluster document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When a partition counts as silent.
    pub thresholds: Thresholds,
    /// Begins the name of every federated function.
    pub function_prefix: String,
    /// The folder of our functions.
    pub folder: String,
    /// Leave out partitions that cannot be reached, instead of failing the query.
    pub best_effort: bool,
}
