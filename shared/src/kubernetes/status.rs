//! Writes what an agent sees into the status of its ADXCluster, as a field manager of its own. I/O: one patch, only where something differs.

use std::time::Duration;

use kube::{
    Api, Client, Resource as _,
    api::{PartialObjectMeta, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    document::{ADXCluster, status::FederationStatus},
    runtime::chain,
};

/// The field manager of what an agent tells.
pub const AGENT_FIELD_MANAGER: &str = "adx-federation-agent";

/// The longest wait: heartbeats and passes do not depend on the API server.
const PATIENCE: Duration = Duration::from_secs(3);

/// The status of one ADXCluster.
#[derive(Clone)]
pub struct StatusWriter {
    api: Api<PartialObjectMeta<ADXCluster>>,
    name: String,
    written: Option<FederationStatus>,
}

impl std::fmt::Debug for StatusWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusWriter").field("name", &self.name).finish_non_exhaustive()
    }
}

impl StatusWriter {
    /// Writes nothing yet.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), written: None }
    }

    /// Writes the status within its bounds, if it is another than the one written last. A failure is logged and tried again with the next pass: nothing depends on it.
    pub async fn write(&mut self, status: FederationStatus) {
        let status = status.bounded();
        if self.written.as_ref() == Some(&status) {
            return;
        }
        let patch = json!({
            "apiVersion": ADXCluster::api_version(&()),
            "kind": ADXCluster::kind(&()),
            "metadata": {"name": self.name},
            "status": {"federation": status},
        });
        let (params, patch) = (PatchParams::apply(AGENT_FIELD_MANAGER).force(), Patch::Apply(&patch));
        match timeout(PATIENCE, self.api.patch_status(&self.name, &params, &patch)).await {
            Ok(Ok(_)) => self.written = Some(status),
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "the ADXCluster's status could not be written"),
            Err(_) => tracing::warn!("the ADXCluster's status could not be written in time"),
        }
    }
}
