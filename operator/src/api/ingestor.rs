//! Ingestor.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use shared::document::pods::{PodPolicy, SecretRef};

use super::{ComponentStatus, NAME_MESSAGE, NAME_RULE};

/// adx-mon's ingestor: takes telemetry from collectors and writes it into Azure Data Explorer.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "adx-mon.azure.com",
    version = "v1",
    kind = "Ingestor",
    namespaced,
    status = "ComponentStatus",
    derive = "PartialEq",
    shortname = "adxi",
    category = "adx-mon",
    doc = "adx-mon's ingestor: takes telemetry from collectors and writes it into Azure Data Explorer.",
    printcolumn = r#"{"name": "Replicas", "type": "integer", "jsonPath": ".status.replicas"}"#,
    printcolumn = r#"{"name": "Endpoint", "type": "string", "jsonPath": ".status.endpoint"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type=='Ready')].message"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    validation = Rule::new(NAME_RULE).optional_old_self(true).message(NAME_MESSAGE)
)]
#[serde(rename_all = "camelCase")]
pub struct IngestorSpec {
    /// The container image; the operator's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How many run; 1 by default, 0 is allowed. Not used with `autoscaling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000), extend("default" = 1))]
    pub replicas: Option<i32>,
    /// Where collectors send to; its own Service without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// Whether the Service is a load balancer; false by default.
    #[serde(default)]
    pub expose_externally: bool,
    /// Where its own logs go, as `Database:Table`. Without it, into the table `Ingestor` of its clusters' database for logs: `Logs`, or the first if none is called so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self == '' || self.matches('^[^:]+:[^:]+$')").message("logDestination must be Database:Table"))]
    pub log_destination: Option<String>,
    /// The certificate that it shows; one that it signs itself without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Which ADXClusters of the namespace it writes to. An empty selector selects none.
    pub adx_cluster_selector: LabelSelector,
    /// Scales with load instead of `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
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

/// Where a certificate is: files `tls.crt` and `tls.key`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) != (has(self.hostPath) && self.hostPath != '')").message("tls must have exactly one of secretRef and hostPath"))]
pub struct TlsSpec {
    /// A Secret of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// A folder of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self == '' || (self.startsWith('/') && !self.contains('..'))").message("hostPath must be absolute and without .."))]
    pub host_path: Option<String>,
}

/// The bounds of a HorizontalPodAutoscaler.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.minReplicas) ? self.minReplicas : 1) <= self.maxReplicas").message("minReplicas must be at most maxReplicas"))]
pub struct AutoscalingSpec {
    /// The fewest; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 1))]
    pub min_replicas: Option<i32>,
    /// The most.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// The load to aim at, in percent of the CPU that a pod requests; 80 by default.
    #[serde(default, rename = "targetCPUUtilizationPercentage", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000), extend("default" = 80))]
    pub target_cpu_utilization_percentage: Option<i32>,
}
