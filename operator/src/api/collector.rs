//! Collector.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use shared::document::pods::PodPolicy;

use super::{ComponentStatus, NAME_MESSAGE, NAME_RULE};

/// adx-mon's collector: gathers metrics and logs on every node and sends them to an ingestor.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "adx-mon.azure.com",
    version = "v1",
    kind = "Collector",
    namespaced,
    status = "ComponentStatus",
    derive = "PartialEq",
    shortname = "adxc",
    category = "adx-mon",
    doc = "adx-mon's collector: gathers metrics and logs on every node and sends them to an ingestor.",
    printcolumn = r#"{"name": "Sends to", "type": "string", "jsonPath": ".status.endpoint"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type=='Ready')].message"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    validation = Rule::new(NAME_RULE).optional_old_self(true).message(NAME_MESSAGE)
)]
#[serde(rename_all = "camelCase")]
pub struct CollectorSpec {
    /// The container image; the operator's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where it sends to; without it, the endpoint of the namespace's one Ingestor, followed when that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub ingestor_endpoint: Option<String>,
    /// The database that metrics are for. Without it, that of the clusters which the namespace's Ingestor writes to: `Metrics`, or the first if none is called so; with an
    /// `ingestorEndpoint`, `Metrics`. An ingestor lets go of what is for a database that it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self == '' || self.matches('^[a-zA-Z0-9_]+$')").message("metricsDatabase must be 1 to 64 letters, digits and underscores"))]
    pub metrics_database: Option<String>,
    /// The database that logs are for, likewise: `Logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self == '' || self.matches('^[a-zA-Z0-9_]+$')").message("logsDatabase must be 1 to 64 letters, digits and underscores"))]
    pub logs_database: Option<String>,
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
}
