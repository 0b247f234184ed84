//! The ADXCluster document as it is written: the fields of the seed, of adx-mon's present operator, and ours. No I/O; nothing is checked here beyond
//! shape, see [`validate`](super::validate). The operator derives the CRD from these types.

// KubeSchema derives a copy of each struct inside an anonymous constant.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    forms::{
        CLUSTER_NAME, CRON, DATABASE_NAME, DURATION, ENDPOINT_MESSAGE, ENDPOINT_RULE, HOST_PATTERN, KUSTO_NAME, NO_HUB,
        NO_PARTITION_WITH_RESTING_SCHEMAS, time_to_live_covers,
    },
    pods::PodPolicy,
    provisioned::{AppliedProvisionState, ProvisionStatus},
    status::FederationStatus,
};

/// One Azure Data Explorer cluster: a partition that holds data, or the hub that federates partitions.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "adx-mon.azure.com",
    version = "v1",
    kind = "ADXCluster",
    plural = "adxclusters",
    singular = "adxcluster",
    namespaced,
    status = "ADXClusterStatus",
    derive = "PartialEq",
    doc = "One Azure Data Explorer cluster: a partition that holds data, or the hub that federates partitions.",
    printcolumn = r#"{"name": "Role", "type": "string", "jsonPath": ".spec.role"}"#,
    printcolumn = r#"{"name": "Endpoint", "type": "string", "jsonPath": ".status.endpoint"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Partitions", "type": "string", "jsonPath": ".status.federation.live", "description": "Of a hub: live partitions of all it knows"}"#,
    printcolumn = r#"{"name": "Guard", "type": "string", "jsonPath": ".status.federation.guard", "description": "Of a hub: why removals are held"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type=='Ready')].message"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    shortname = "adx",
    category = "adx-mon",
    // Where it held already, it stays what its condition tells: a rule that refuses every write refuses that one, too.
    validation = Rule::new("!has(self.spec.federation) || oldSelf.optMap(old, has(old.spec.federation)).orValue(false) || self.metadata.name.matches('^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$')")
        .optional_old_self(true)
        .message("metadata.name must be at most 52 lower-case letters, digits and hyphens, beginning with a letter: its agent's objects are named after it")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.endpoint) || self.clusterName.matches('^[a-zA-Z][-a-zA-Z0-9]{3,21}$')")
    .message("without an endpoint the cluster is to be made in Azure, where clusterName must have 4 to 22 characters and begin with a letter"))]
#[x_kube(validation = Rule::new("!has(self.role) || self.role != 'Federated' || (has(self.federation) && has(self.federation.heartbeatDatabase) && has(self.federation.heartbeatTable))")
    .message("role Federated must have federation.heartbeatDatabase and federation.heartbeatTable"))]
#[x_kube(validation = Rule::new("!has(self.role) || self.role != 'Federated' || !has(self.federation) || (!has(self.federation.federatedClusters) && !has(self.federation.federatedTargets) && !has(self.federation.heartbeatSchedule) && !has(self.federation.schemaInBeats))")
    .message("role Federated must not have federatedClusters, federatedTargets, heartbeatSchedule or schemaInBeats: they belong to role Partition"))]
#[x_kube(validation = Rule::new("(has(self.role) && self.role == 'Federated') || !has(self.federation) || has(self.federation.federatedClusters) != has(self.federation.federatedTargets)")
    .message("a federation of role Partition must name its hubs, in one of federatedClusters and federatedTargets"))]
#[x_kube(validation = Rule::new("(has(self.role) && self.role == 'Federated') || !has(self.federation) || (!has(self.federation.heartbeatDatabase) && !has(self.federation.heartbeatTable) && !has(self.federation.heartbeatTables) && !has(self.federation.heartbeatRetention) && !has(self.federation.reconcileInterval) && !has(self.federation.reconcileSchedule) && !has(self.federation.macroExpand) && !has(self.federation.mode) && !has(self.federation.acknowledgedPlan) && !has(self.federation.membership) && !has(self.federation.allowedPartitions) && !has(self.federation.allowedPartitionPattern) && !has(self.federation.blockedPartitions) && !has(self.federation.canary) && !has(self.federation.entityGroups) && !has(self.federation.schemaConflicts))")
    .message("role Partition must not have heartbeatDatabase, heartbeatTable, heartbeatTables, heartbeatRetention, reconcileInterval, reconcileSchedule, macroExpand, mode, acknowledgedPlan, membership, allowedPartitions, allowedPartitionPattern, blockedPartitions, canary, entityGroups or schemaConflicts beside its hubs: they belong to role Federated"))]
#[x_kube(validation = Rule::new(time_to_live_covers(NO_HUB)).message("federation.heartbeatTTL must be at least 3 x heartbeatInterval"))]
#[x_kube(validation = Rule::new(time_to_live_covers(NO_PARTITION_WITH_RESTING_SCHEMAS))
    .message("with schemaInBeats: OnChange, federation.heartbeatTTL must be at least 3 x heartbeatInterval"))]
pub struct ADXClusterSpec {
    /// The cluster's name in Azure: 1 to 100 letters, digits and hyphens.
    #[schemars(length(min = 1, max = 100), transform = CLUSTER_NAME.of("clusterName"))]
    pub cluster_name: String,
    /// The address of an existing cluster, such as `https://mycluster.westeurope.kusto.windows.net`. Without it the operator provisions one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(ENDPOINT_RULE).message(ENDPOINT_MESSAGE))]
    pub endpoint: Option<String>,
    /// The databases that the cluster must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    // Azure has no more in a cluster.
    #[schemars(length(max = 10000))]
    pub databases: Vec<DatabaseSpec>,
    /// How the operator provisions the cluster in Azure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provision: Option<ProvisionSpec>,
    /// `Partition` (the default) or `Federated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Partition"))]
    pub role: Option<ClusterRole>,
    /// The cluster's part in a federation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<FederationSpec>,
    /// A CEL expression over the operator's cluster labels; the object is reconciled where it is true. Absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub criteria_expression: Option<String>,
    /// While true the operator changes nothing for this object; what is there goes on. A partition's agent goes on beating; a hub's makes no change on the hub and shows its plan.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// What the cluster is in the federation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterRole {
    /// Holds data and announces itself to hubs.
    #[default]
    Partition,
    /// The hub: reads heartbeats and makes the federated functions.
    Federated,
}

/// One database of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseSpec {
    /// 1 to 64 letters, digits and underscores.
    #[schemars(length(min = 1, max = 64), transform = DATABASE_NAME.of("databaseName"))]
    pub database_name: String,
    /// How many days data is kept; 30 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 30))]
    pub retention_in_days: Option<i32>,
    /// An ADX retention policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<String>,
    /// What the database holds.
    pub telemetry_type: TelemetryType,
}

/// What a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TelemetryType {
    /// Metrics.
    Metrics,
    /// Logs.
    Logs,
    /// Traces.
    Traces,
}

/// How the operator provisions the cluster in Azure.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("(has(self.autoScaleMin) ? self.autoScaleMin : 2) <= (has(self.autoScaleMax) ? self.autoScaleMax : 10)")
    .message("autoScaleMin must be at most autoScaleMax"))]
pub struct ProvisionSpec {
    /// The Azure subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<String>,
    /// The resource group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// The Azure region, such as `eastus2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The SKU, such as `Standard_L8as_v3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku_name: Option<String>,
    /// The SKU's tier; `Standard` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Standard"))]
    pub tier: Option<String>,
    /// Resource ids of managed identities to attach to the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_assigned_identities: Vec<String>,
    /// The client id of the identity that the cluster's agent signs in with and is granted rights, where `federation` names none; without either it is that of its pod or node. To the
    /// cluster itself `userAssignedIdentities` attaches identities; without those it has a system-assigned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity_client_id: Option<String>,
    /// Whether Azure scales the cluster; false by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub auto_scale: Option<bool>,
    /// The most nodes when scaling; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 10))]
    pub auto_scale_max: Option<i32>,
    /// The fewest nodes when scaling; 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2), extend("default" = 2))]
    pub auto_scale_min: Option<i32>,
    /// Written by the operator of the seed's design: a JSON text of what was applied last. Read for compatibility; ours is in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_provision_state: Option<String>,
}

/// The cluster's part in a federation. Each field says which role uses it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.heartbeatInterval) || !has(self.heartbeatSchedule)")
    .message("heartbeatSchedule must not be set beside heartbeatInterval"))]
#[x_kube(validation = Rule::new("!has(self.heartbeatTables) || self.heartbeatTables != 'PerPartition' || (has(self.allowedPartitions) && self.allowedPartitions.size() > 0 && !has(self.allowedPartitionPattern))")
    .message("heartbeatTables: PerPartition must have the partitions in allowedPartitions, and no allowedPartitionPattern: there is a table for each"))]
#[x_kube(validation = Rule::new("!has(self.reconcileInterval) || !has(self.reconcileSchedule)")
    .message("reconcileSchedule must not be set beside reconcileInterval"))]
pub struct FederationSpec {
    /// Partition: the hubs that get heartbeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.size() > 0").message("federatedClusters must name at least one hub"))]
    pub federated_clusters: Option<Vec<FederatedClusterSpec>>,
    /// adx-mon's present name of `federatedClusters`; one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.size() > 0").message("federatedTargets must name at least one hub"))]
    pub federated_targets: Option<Vec<FederatedClusterSpec>>,
    /// Partition: attributes of this partition (geo, location, tenant, ...), each a text, number or boolean.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_map")]
    pub partitioning: BTreeMap<String, Value>,
    /// Partition: when heartbeats are sent, as five cron fields in UTC; instead of `heartbeatInterval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), transform = CRON.of("heartbeatSchedule"))]
    pub heartbeat_schedule: Option<String>,

    /// Partition: whether every heartbeat carries the whole schema (`Always`, the default: what an adx-mon hub can read) or only those after a change, and one each half
    /// `heartbeatTTL` (`OnChange`: for fleets whose hub is ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_in_beats: Option<SchemaInBeats>,

    /// Hub: the database of the heartbeat table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), transform = KUSTO_NAME.of("heartbeatDatabase"))]
    pub heartbeat_database: Option<String>,
    /// Hub: the heartbeat table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), transform = KUSTO_NAME.of("heartbeatTable"))]
    pub heartbeat_table: Option<String>,
    /// Hub: whether all partitions write to the heartbeat table (`Shared`, the default), or each of `allowedPartitions` to its own (`PerPartition`), named
    /// `<heartbeatTable>_<host>` with `_` for dots and `__` for hyphens, so that who may write as which partition is for the hub's owner to grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_tables: Option<HeartbeatTables>,
    /// Hub: how old a partition's last heartbeat may be; `1h` by default, at least three times `heartbeatInterval`. Partition with `schemaInBeats: OnChange`: the same, as the
    /// hubs have it.
    #[serde(default, rename = "heartbeatTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), transform = DURATION.of("heartbeatTTL"))]
    pub heartbeat_ttl: Option<String>,
    /// Hub: how long heartbeat rows are kept; `7d` by default, at least `heartbeatTTL`, and twice that in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), transform = DURATION.of("heartbeatRetention"))]
    pub heartbeat_retention: Option<String>,
    /// Hub: how often functions and entity groups are brought up to date; `10m` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), transform = DURATION.of("reconcileInterval"))]
    pub reconcile_interval: Option<String>,
    /// Hub: when they are, as five cron fields in UTC; instead of `reconcileInterval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), transform = CRON.of("reconcileSchedule"))]
    pub reconcile_schedule: Option<String>,
    /// Hub: how the functions are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macro_expand: Option<MacroExpandSpec>,

    /// Hub: `Apply` (the default) makes changes; `Plan` works them out, shows them in the status, and makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FederationMode>,
    /// Hub: the hash of a held plan, from the status. Exactly that plan is made although a guard holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub acknowledged_plan: Option<String>,
    /// Hub: when partitions join, are kept and leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<MembershipSpec>,
    /// Hub: the endpoints of the partitions that may be federated; others are reported. Without this and a pattern, all that beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 5000), inner(length(max = 512)))]
    pub allowed_partitions: Option<Vec<String>>,
    /// Hub: a pattern of the host names of partitions that may be federated, in which `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255), transform = HOST_PATTERN.of("allowedPartitionPattern"))]
    pub allowed_partition_pattern: Option<String>,
    /// Hub: the endpoints of partitions that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 512)))]
    pub blocked_partitions: Vec<String>,
    /// Hub: attributes for whose values there are entity groups of their own, `<Db>_Partitions_<VALUE>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub entity_groups: Vec<EntityGroupSpec>,
    /// Hub: what to do about columns that partitions have with different types; both report them. `Coerce` (the default) converts them to one type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_conflicts: Option<SchemaConflicts>,
    /// Hub: whether a new partition is asked a read-only query before it is federated, with the agent's own rights; false by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<bool>,

    /// Both: the time between two heartbeats of a partition; `10m` by default. A hub counts missed heartbeats by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), transform = DURATION.of("heartbeatInterval"))]
    pub heartbeat_interval: Option<String>,
    /// Both: the container image of the agent; the operator's own without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Both: where the agent's pods run, and with what its image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_policy: Option<PodPolicy>,
    /// Both: how the agent signs in to the document's own cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialSpec>,
    /// Both: the client id of the managed identity for the document's own cluster; short for `credential.managedIdentity.clientId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity_client_id: Option<String>,
}

/// Which heartbeats carry the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SchemaInBeats {
    /// Every one.
    #[default]
    Always,
    /// Those after a change, and some besides.
    OnChange,
}

/// Which table a partition's heartbeats are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HeartbeatTables {
    /// One for all.
    #[default]
    Shared,
    /// Its own.
    PerPartition,
}

/// Entity groups for the values of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EntityGroupSpec {
    /// The partitioning attribute, such as `geo`.
    #[schemars(length(min = 1, max = 256))]
    pub by: String,
}

/// What to do about columns that partitions have with different types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SchemaConflicts {
    /// Functions convert them to one type.
    #[default]
    Coerce,
    /// Functions give a column for each type, as Kusto does.
    Report,
}

/// Whether a hub's agent makes its changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FederationMode {
    /// It does.
    #[default]
    Apply,
    /// It shows them only.
    Plan,
}

/// When partitions join, are kept and leave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MembershipSpec {
    /// Beats in a row before a new partition is federated; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("default" = 1))]
    pub join_after_beats: Option<i32>,
    /// Beats in a row before a partition that was silent counts as live again; 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("default" = 2))]
    pub return_after_beats: Option<i32>,
    /// Overdue beats before a partition is suspect, which only reports it; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("default" = 1))]
    pub suspect_after_missed_beats: Option<i32>,
    /// Returns from silence within `flappingWindow` before a partition counts as flapping; 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 16), extend("default" = 3))]
    pub flapping_returns: Option<i32>,
    /// How long a return counts; a flapping partition is kept through a silence of this length. `6h` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), transform = DURATION.of("flappingWindow"))]
    pub flapping_window: Option<String>,
    /// The most partitions that may leave in one pass, in percent of those that are federated; one may always. 15 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("default" = 15))]
    pub removal_percent: Option<i32>,
    /// The share of the fleet or of a zone, in percent, that must be silent together to be kept, or of a database's partitions that must not be seen to list it; 55 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("default" = 55))]
    pub mass_expiry_percent: Option<i32>,
    /// How many must be silent for that, unless the whole fleet is; 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000), extend("default" = 3))]
    pub mass_expiry_partitions: Option<i32>,
    /// The partitioning attribute by which partitions are in one zone; `geo` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("default" = "geo"))]
    pub zone_attribute: Option<String>,
    /// Partitions that have been expired for this long are no longer held back by a silence that they share with others; without it, until they return or a
    /// person acknowledges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), transform = DURATION.of("guardTimeLimit"))]
    pub guard_time_limit: Option<String>,
}

/// One hub that gets this partition's heartbeats.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FederatedClusterSpec {
    /// The hub's address.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(ENDPOINT_RULE).message(ENDPOINT_MESSAGE))]
    pub endpoint: String,
    /// The database of its heartbeat table.
    #[schemars(length(min = 1, max = 1024), transform = KUSTO_NAME.of("heartbeatDatabase"))]
    pub heartbeat_database: String,
    /// Its heartbeat table.
    #[schemars(length(min = 1, max = 1024), transform = KUSTO_NAME.of("heartbeatTable"))]
    pub heartbeat_table: String,
    /// As the hub's document says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_tables: Option<HeartbeatTables>,
    /// The client id of the managed identity that writes there; short for `credential.managedIdentity.clientId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity_client_id: Option<String>,
    /// How the agent signs in there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialSpec>,
}

/// How the hub's functions are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MacroExpandSpec {
    /// What precedes a table's name in its function's; `federated_` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "federated_"))]
    pub function_prefix: Option<String>,
    /// Whether a query goes on without the partitions that cannot be reached; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = true))]
    pub best_effort: Option<bool>,
    /// The folder of the functions; `federation_facades` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "federation_facades"))]
    pub folder: Option<String>,
}

/// How an agent signs in: exactly one of the three.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("[has(self.managedIdentity), has(self.workloadIdentity), has(self.azureCli)].filter(chosen, chosen).size() == 1")
    .message("a credential must have exactly one of managedIdentity, workloadIdentity and azureCli"))]
pub struct CredentialSpec {
    /// The managed identity of the machine or the app service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentitySpec>,
    /// Kubernetes workload identity, from the environment its webhook sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentitySpec>,
    /// The account that `az login` signed in; for a person's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_cli: Option<EmptySpec>,
}

/// A managed identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedIdentitySpec {
    /// The client id of a user-assigned identity; without it the system-assigned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// A workload identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadIdentitySpec {
    /// The client id of the identity; without it the one that the service account's annotation names (`AZURE_CLIENT_ID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its tenant; without it the cluster's (`AZURE_TENANT_ID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
}

/// A choice without settings, written `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
// Kubernetes refuses the `additionalProperties: false` that is derived; it prunes unknown fields anyway.
#[schemars(transform = |schema: &mut Schema| drop(schema.remove("additionalProperties")))]
pub struct EmptySpec {}

/// What the operator observed. Unknown fields are accepted, so that an older agent reads a newer operator's object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// No generation has been looked at: without this kstatus takes an object that nobody has seen for one that is as it should be.
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct ADXClusterStatus {
    /// Standard Kubernetes conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the cluster's agent sees and does; written by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<FederationStatus>,
    /// The cluster's address: provisioned, or a copy of `spec.endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What was provisioned last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_provision_state: Option<AppliedProvisionState>,
    /// The cluster in Azure, where the operator provisions it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provision: Option<ProvisionStatus>,
}

/// A map of any scalars: a structural schema has no "one of these types", so the values stay open and validation refuses lists and maps. CEL does not see such a
/// field at all: that a hub must not have it is for the validation, too.
fn open_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true}})
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;
    use serde_json::Value;

    use super::*;

    /// Every key of every object below a value, with its value.
    fn entries<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a Value)>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    found.push((key, value));
                    entries(value, found);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| entries(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_crd_has_the_seeds_fields_in_a_schema_that_kubernetes_accepts() {
        let crd = serde_json::to_value(ADXCluster::crd()).unwrap();
        assert_eq!(crd["metadata"]["name"], "adxclusters.adx-mon.azure.com");
        let version = &crd["spec"]["versions"][0];
        assert!(version["subresources"]["status"].is_object());
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(spec["required"], serde_json::json!(["clusterName"]));
        for path in [
            "/clusterName",
            "/endpoint",
            "/databases/items/properties/telemetryType",
            "/provision/properties/appliedProvisionState",
            "/provision/properties/managedIdentityClientId",
            "/role",
            "/criteriaExpression",
            "/federation/properties/federatedClusters/items/properties/managedIdentityClientId",
            "/federation/properties/federatedTargets/items/properties/credential/properties/azureCli",
            "/federation/properties/partitioning/additionalProperties/x-kubernetes-preserve-unknown-fields",
            "/federation/properties/heartbeatDatabase",
            "/federation/properties/heartbeatTable",
            "/federation/properties/heartbeatTTL",
            "/federation/properties/heartbeatInterval",
            "/federation/properties/heartbeatSchedule",
            "/federation/properties/heartbeatRetention",
            "/federation/properties/reconcileInterval",
            "/federation/properties/reconcileSchedule",
            "/federation/properties/macroExpand/properties/functionPrefix",
            "/federation/properties/macroExpand/properties/bestEffort",
            "/federation/properties/macroExpand/properties/folder",
        ] {
            assert!(spec["properties"].pointer(path).is_some(), "{path}");
        }
        let mut all = Vec::new();
        entries(&crd, &mut all);
        // A structural schema has neither.
        assert!(
            !all.iter().any(|(key, value)| *key == "$ref" || (*key == "additionalProperties" && value.is_boolean()))
        );
    }
}
