//! Bodies of Microsoft.Kusto 2025-02-14 and Microsoft.Resources 2025-04-01, as far as they are written or read here. Enums are open: a value that a newer
//! Azure adds must parse, and be told to people as it is. No I/O.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An enum whose unknown values are kept as they are.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A value that this program does not know.
            Other(String),
        }

        impl $name {
            /// As Azure writes it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    _ => Self::Other(text.to_owned()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from(String::deserialize(deserializer)?.as_str()))
            }
        }
    };
}

open_enum! {
    /// What a cluster does.
    State {
        /// Being made.
        Creating = "Creating",
        /// Does not answer.
        Unavailable = "Unavailable",
        /// Answers.
        Running = "Running",
        /// Being deleted.
        Deleting = "Deleting",
        /// Gone.
        Deleted = "Deleted",
        /// On its way to stopped.
        Stopping = "Stopping",
        /// Does not answer and costs little.
        Stopped = "Stopped",
        /// On its way to running.
        Starting = "Starting",
        /// Answers while something of it is changed.
        Updating = "Updating",
        /// Moved into another cluster.
        Migrated = "Migrated",
    }
}

open_enum! {
    /// How the last operation on a resource stands.
    ProvisioningState {
        /// In progress.
        Running = "Running",
        /// In progress.
        Creating = "Creating",
        /// In progress.
        Deleting = "Deleting",
        /// In progress; not in the specification, and seen.
        Updating = "Updating",
        /// In progress.
        Moving = "Moving",
        /// Ended well.
        Succeeded = "Succeeded",
        /// Ended badly.
        Failed = "Failed",
        /// Ended before its time.
        Canceled = "Canceled",
    }
}

impl ProvisioningState {
    /// Whether nothing is going on: until then Azure refuses every write to the cluster and what is in it.
    pub fn is_terminal(&self) -> bool {
        *self == Self::Succeeded || self.is_failed()
    }

    /// Whether it ended otherwise than well.
    pub fn is_failed(&self) -> bool {
        is_failed(self.as_str())
    }
}

/// Azure's services do not agree on how to write it.
fn is_failed(state: &str) -> bool {
    ["failed", "canceled", "cancelled"].iter().any(|failed| state.eq_ignore_ascii_case(failed))
}

open_enum! {
    /// How an asynchronous operation stands.
    OperationState {
        /// In progress.
        InProgress = "InProgress",
        /// Ended well.
        Succeeded = "Succeeded",
        /// Ended badly.
        Failed = "Failed",
        /// Ended before its time.
        Canceled = "Canceled",
    }
}

impl OperationState {
    /// Whether it ended otherwise than well.
    pub fn is_failed(&self) -> bool {
        is_failed(self.as_str())
    }
}

open_enum! {
    /// Whether a subscription may use Microsoft.Kusto.
    RegistrationState {
        /// It may not.
        NotRegistered = "NotRegistered",
        /// It will.
        Registering = "Registering",
        /// It may.
        Registered = "Registered",
    }
}

/// A list, for which Azure may say `null`.
fn nothing_is_empty<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A list, a page at a time.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: Deserialize<'de>"))]
pub struct Page<T> {
    /// This page.
    #[serde(default = "Vec::new", deserialize_with = "nothing_is_empty")]
    pub value: Vec<T>,
    /// Where the next one is.
    #[serde(default)]
    pub next_link: Option<String>,
}

/// A resource provider in a subscription.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Whether it may be used.
    pub registration_state: RegistrationState,
}

/// A name that may be had, or not.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameCheck {
    /// Whether it may.
    pub name_available: bool,
    /// `AlreadyExists` or `Invalid`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Azure's words.
    #[serde(default)]
    pub message: Option<String>,
}

/// A SKU that a region offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedSku {
    /// Such as `Standard_L8as_v3`.
    #[serde(default)]
    pub name: String,
    /// `Basic` or `Standard`.
    #[serde(default)]
    pub tier: String,
    /// Display names: `East US 2`.
    #[serde(default, deserialize_with = "nothing_is_empty")]
    pub locations: Vec<String>,
    /// Why it cannot be had; empty where it can.
    #[serde(default, deserialize_with = "nothing_is_empty")]
    pub restrictions: Vec<serde_json::Value>,
}

/// A cluster's SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sku {
    /// Such as `Standard_L8as_v3`.
    pub name: String,
    /// `Basic` or `Standard`.
    pub tier: String,
    /// How many nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i32>,
}

/// Whom the cluster can be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// `None`, `SystemAssigned`, `UserAssigned` or both, with a comma.
    #[serde(rename = "type")]
    pub kind: String,
    /// By resource id; when written, an empty object adds one and `null` removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_assigned_identities: Option<BTreeMap<String, Option<UserAssignedIdentity>>>,
}

/// One of them. Azure's read-only fields are not kept: they may not be sent back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAssignedIdentity {}

/// How Azure scales a cluster. It wants all four fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OptimizedAutoscale {
    /// 1.
    pub version: i32,
    /// Whether it does.
    pub is_enabled: bool,
    /// The fewest nodes.
    pub minimum: i32,
    /// The most nodes.
    pub maximum: i32,
}

/// A cluster as it is read.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its resource id.
    #[serde(default)]
    pub id: Option<String>,
    /// Its region.
    pub location: String,
    /// What it runs on.
    pub sku: Sku,
    /// Whom it can be.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// Marks.
    #[serde(default)]
    pub tags: Option<BTreeMap<String, String>>,
    /// The rest.
    #[serde(default)]
    pub properties: ClusterProperties,
}

/// What of a cluster's properties is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterProperties {
    /// What it does.
    #[serde(default)]
    pub state: Option<State>,
    /// How its last operation stands.
    #[serde(default)]
    pub provisioning_state: Option<ProvisioningState>,
    /// Where it answers.
    #[serde(default)]
    pub uri: Option<String>,
    /// Why it is in its state.
    #[serde(default)]
    pub state_reason: Option<String>,
    /// How it is scaled.
    #[serde(default)]
    pub optimized_autoscale: Option<OptimizedAutoscale>,
}

/// A cluster as it is made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewCluster {
    /// Its region.
    pub location: String,
    /// What it runs on.
    pub sku: Sku,
    /// Whom it can be.
    pub identity: Identity,
    /// Marks.
    pub tags: BTreeMap<String, String>,
    /// The rest.
    pub properties: NewClusterProperties,
}

/// What of a new cluster's properties is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewClusterProperties {
    /// Heartbeats and adx-mon's ingestors may stream.
    pub enable_streaming_ingest: bool,
    /// How it is scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimized_autoscale: Option<OptimizedAutoscale>,
}

/// What is changed of a cluster; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ClusterUpdate {
    /// What it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<Sku>,
    /// Whom it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<ClusterUpdateProperties>,
}

/// What is changed of a cluster's properties.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterUpdateProperties {
    /// How it is scaled.
    pub optimized_autoscale: OptimizedAutoscale,
}

impl Default for OptimizedAutoscale {
    fn default() -> Self {
        Self { version: 1, is_enabled: false, minimum: 2, maximum: 10 }
    }
}

/// A database as it is read.
#[derive(Debug, Clone, Deserialize)]
pub struct Database {
    /// `cluster/database`.
    #[serde(default)]
    pub name: Option<String>,
    /// The rest.
    #[serde(default)]
    pub properties: DatabaseProperties,
}

impl Database {
    /// The name without the cluster's.
    pub fn short_name(&self) -> &str {
        self.name.as_deref().and_then(|name| name.rsplit('/').next()).unwrap_or_default()
    }
}

/// What of a database's properties is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseProperties {
    /// How its last operation stands.
    #[serde(default)]
    pub provisioning_state: Option<ProvisioningState>,
    /// How long rows are kept, as ISO 8601: `P30D`.
    #[serde(default)]
    pub soft_delete_period: Option<String>,
}

/// A database as it is made, or changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewDatabase {
    /// The cluster's region.
    pub location: String,
    /// `ReadWrite`.
    pub kind: &'static str,
    /// The rest.
    pub properties: NewDatabaseProperties,
}

/// What of a database's properties is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewDatabaseProperties {
    /// How long rows are kept; Azure's own choice without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_delete_period: Option<String>,
}

/// Who may do what.
#[derive(Debug, Clone, Deserialize)]
pub struct Assignment {
    /// The rest.
    #[serde(default)]
    pub properties: AssignmentProperties,
}

/// What of an assignment is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentProperties {
    /// An application's (client) id, a user's address, a group's name.
    #[serde(default)]
    pub principal_id: String,
    /// Such as `Ingestor` or `AllDatabasesMonitor`.
    #[serde(default)]
    pub role: String,
}

/// An assignment as it is made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewAssignment {
    /// All of it.
    pub properties: NewAssignmentProperties,
}

/// Who is to do what.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewAssignmentProperties {
    /// The identity's client id.
    pub principal_id: String,
    /// Such as `Ingestor`.
    pub role: String,
    /// `App`.
    pub principal_type: &'static str,
    /// Its tenant, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
}

/// How an asynchronous operation stands.
#[derive(Debug, Clone, Deserialize)]
pub struct OperationResult {
    /// How it stands.
    pub status: OperationState,
    /// Why it failed; with HTTP status 200.
    #[serde(default)]
    pub error: Option<ErrorBody>,
}

/// Azure's error.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ErrorBody {
    /// A word.
    #[serde(default)]
    pub code: Option<String>,
    /// A sentence.
    #[serde(default)]
    pub message: Option<String>,
    /// What is behind it: Azure puts the real reason there under a code such as `DeploymentFailed`.
    #[serde(default, deserialize_with = "nothing_is_empty")]
    pub details: Vec<ErrorBody>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_newer_azure_says_parses_and_is_told_as_it_is() {
        let cluster: Cluster = serde_json::from_value(json!({
            "id": "/x", "location": "East US 2", "sku": {"name": "S", "tier": "Premium", "capacity": 2, "new": 1}, "zones": ["1"],
            "identity": {"type": "SystemAssigned", "principalId": "p", "userAssignedIdentities": {"/id": {"clientId": "c"}}},
            "properties": {"state": "Hibernating", "provisioningState": "Pondering", "later": {"x": 1}},
        }))
        .unwrap();
        assert_eq!(cluster.properties.state, Some(State::Other("Hibernating".to_owned())));
        let state = cluster.properties.provisioning_state.unwrap();
        assert_eq!((state.to_string().as_str(), state.is_terminal()), ("Pondering", false));
        let identity = serde_json::to_value(cluster.identity.unwrap()).unwrap();
        assert_eq!(identity, json!({"type": "SystemAssigned", "userAssignedIdentities": {"/id": {}}}));
    }

    #[test]
    fn a_databases_name_comes_without_its_cluster() {
        let database: Database =
            serde_json::from_value(json!({"name": "c/Metrics", "kind": "ReadWrite", "properties": {}})).unwrap();
        assert_eq!(database.short_name(), "Metrics");
    }
}
