//! Azure provisioning of clusters without an endpoint. This operator does not provision: it says so, and says what a name must look like to be provisioned.
//! Pure.

use shared::document::ADXCluster;

use super::{
    conditions::{Draft, Phase},
    managed::Plan,
};

/// What is done for a cluster that has to be made.
pub(crate) fn step(cluster: &ADXCluster) -> Plan {
    let name = &cluster.spec.cluster_name;
    if !is_azure_name(name) {
        let message = format!(
            "spec.clusterName = {name}: must be 4 to 22 lower-case letters and digits, beginning with a letter, for a cluster that is to be made in Azure"
        );
        return Plan::nothing(Draft::no(Phase::ClusterReady, "InvalidClusterName", message), true);
    }
    let message = "spec.endpoint is absent, and this operator does not make clusters in Azure: set spec.endpoint to an existing one";
    Plan::nothing(Draft::no(Phase::ClusterReady, "ProvisioningDisabled", message), true)
}

/// Azure's own rule, narrower than the CRD's, which existing clusters may use.
fn is_azure_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    (4..=22).contains(&name.len())
        && bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}
