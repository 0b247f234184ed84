//! Alerter.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use shared::document::pods::PodPolicy;

use super::{ComponentStatus, NAME_MESSAGE, NAME_RULE};

/// adx-mon's alerter: runs alert rules against Azure Data Explorer and sends notifications.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "adx-mon.azure.com",
    version = "v1",
    kind = "Alerter",
    namespaced,
    status = "ComponentStatus",
    derive = "PartialEq",
    shortname = "adxa",
    category = "adx-mon",
    doc = "adx-mon's alerter: runs alert rules against Azure Data Explorer and sends notifications.",
    printcolumn = r#"{"name": "Notifies", "type": "string", "jsonPath": ".spec.notificationEndpoint"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type=='Ready')].message"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    validation = Rule::new(NAME_RULE).optional_old_self(true).message(NAME_MESSAGE)
)]
#[serde(rename_all = "camelCase")]
pub struct AlerterSpec {
    /// The container image; the operator's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where notifications are sent.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.startsWith('http://') || self.startsWith('https://')").message("notificationEndpoint must start with http:// or https://"))]
    pub notification_endpoint: String,
    /// Which ADXClusters of the namespace it asks. An empty selector selects none.
    pub adx_cluster_selector: LabelSelector,
    /// The client id of the identity that it signs in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity_client_id: Option<String>,
    /// Where its pods run, and with what its image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_policy: Option<PodPolicy>,
    /// A CEL expression over the operator's cluster labels; the object is reconciled where it is true. Absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub criteria_expression: Option<String>,
    /// While true the operator changes nothing for this object; what is there goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Written by adx-mon's operator; not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_provision_state: Option<String>,
}
