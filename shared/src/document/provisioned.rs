//! What the operator tells of a cluster that it provisions, in the status of its ADXCluster. It is its memory, too: a pass begins where this says the one before ended.
//! Bounded by what it tells of. No I/O.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was provisioned last: what the spec said then. A difference between this and Azure is somebody's change in Azure, and stays.
// The seed's design names its fields as Go does, with capitals: those are read, too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedProvisionState {
    /// The SKU.
    #[serde(default, alias = "SkuName", skip_serializing_if = "Option::is_none")]
    pub sku_name: Option<String>,
    /// The SKU's tier.
    #[serde(default, alias = "Tier", skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Resource ids of the attached identities.
    #[serde(default, alias = "UserAssignedIdentities", skip_serializing_if = "Vec::is_empty")]
    pub user_assigned_identities: Vec<String>,
    /// How Azure scales the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scale: Option<AppliedAutoScale>,
    /// The databases that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<AppliedDatabase>,
}

/// How Azure scales a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedAutoScale {
    /// Whether it does.
    pub enabled: bool,
    /// The fewest nodes.
    #[serde(default)]
    pub min: i32,
    /// The most nodes.
    #[serde(default)]
    pub max: i32,
}

/// One database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedDatabase {
    /// Its name.
    pub name: String,
    /// How long it keeps rows, as ISO 8601; absent where the spec did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_delete_period: Option<String>,
    /// When Azure accepted to make it; it may not show it for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Time>,
    /// Whether it has been there: if it is gone, somebody deleted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen: bool,
    /// Whether the hub's agent missed it, and no spec names it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
}

/// The cluster in Azure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionStatus {
    /// The subscription, from the spec or detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<String>,
    /// The resource group, from the spec or detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// The region, from the spec or detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The resource id: of what is intended before there is a `state`, of what is there after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// What Azure says that the cluster does, such as `Running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The SKU, from the spec or chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku_name: Option<String>,
    /// What a person may want to know, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What Azure was asked for last: while it differs from what is applied, a difference in Azure may be of our doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<AppliedProvisionState>,
    /// What goes on in Azure because of us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationStatus>,
    /// What Azure refused or failed, until it works.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureStatus>,
}

/// An operation in Azure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// What it does, such as `create the cluster`.
    pub what: String,
    /// Where it can be looked at.
    pub url: String,
    /// When it began.
    pub started: Time,
    /// A hash of what was asked for.
    #[serde(default)]
    pub request: String,
}

/// Something that Azure refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// What was tried, such as `create the cluster`.
    pub what: String,
    /// The HTTP status; 200 for an operation that failed later.
    #[serde(default)]
    pub status: i32,
    /// Azure's code.
    pub code: String,
    /// Azure's text.
    pub message: String,
    /// A hash of what was asked for: the same is not asked for again where Azure called it wrong, until the spec changes.
    #[serde(default)]
    pub request: String,
    /// The generation of the spec that asked for it.
    #[serde(default)]
    pub generation: i64,
}
