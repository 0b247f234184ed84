//! What a program does differently in a Kubernetes cluster: one of several replicas leads, and the ADXCluster's status tells what its agent sees. Absent
//! everywhere else. I/O: the API server.

mod lease;
mod status;

use std::env;

use kube::{Client, Config};

pub use lease::{Lease, lead};
pub use status::{AGENT_FIELD_MANAGER, StatusWriter};

/// Why the cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither in a cluster nor with a kubeconfig.
    #[error("there is no Kubernetes cluster to connect to: run in a pod, or set KUBECONFIG")]
    Configuration(#[source] kube::config::InferConfigError),
    /// The client cannot be built.
    #[error("failed to set up the client of the API server")]
    Client(#[source] kube::Error),
}

/// A client of the cluster that this process runs in, or that its kubeconfig names.
///
/// # Errors
/// [`ConnectError`]
pub async fn connect() -> Result<Client, ConnectError> {
    let config = Config::infer().await.map_err(ConnectError::Configuration)?;
    Client::try_from(config).map_err(ConnectError::Client)
}

/// Who this replica is among its like: its pod, or something that no other process is called.
pub fn identity() -> String {
    env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("process-{}", uuid::Uuid::new_v4()))
}
