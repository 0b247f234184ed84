//! The rules of a partition's document. Pure.

use std::collections::BTreeMap;

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, TableName},
};

use super::{ABSENT, Rules, count, credential, own_credential, quoted};
use crate::{
    document::{
        config::{HubTarget, PartitionConfig, defaults},
        schedule::Schedule,
        spec::{ADXCluster, FederatedClusterSpec, FederationSpec, HeartbeatTables, SchemaInBeats},
    },
    heartbeat::{MAX_ATTRIBUTE_CHARS, MAX_ATTRIBUTES, Unused, unused},
};

/// Attributes are shown as they are, by hubs and to whoever reads their heartbeats.
const MAY_BE_A_SECRET: &str = "must not be what may be a secret, by its name (such as sig) or by its text (such as an address with a query): hubs do not use it";

impl Rules {
    pub(in crate::document) fn partition(&mut self, cluster: &ADXCluster) -> Option<PartitionConfig> {
        let name = self.common(cluster);
        let endpoint = self.own_endpoint(&cluster.spec);
        let Some(federation) = &cluster.spec.federation else {
            return Some(PartitionConfig {
                name: name?,
                credential: own_credential(&cluster.spec, endpoint.as_ref()?),
                endpoint: endpoint?,
                hubs: Vec::new(),
                partitioning: BTreeMap::new(),
                schedule: Schedule::Interval { every: defaults::HEARTBEAT_INTERVAL },
                schema_rests: None,
            });
        };
        self.hub_fields_absent(federation);
        let hubs = self.hubs(federation, endpoint.as_ref());
        self.partitioning(federation);
        let time_to_live = self.duration("heartbeatTTL", federation.heartbeat_ttl.as_deref(), defaults::HEARTBEAT_TTL);
        let schedule = self.schedule(
            ("heartbeatInterval", federation.heartbeat_interval.as_deref(), defaults::HEARTBEAT_INTERVAL),
            ("heartbeatSchedule", federation.heartbeat_schedule.as_deref()),
        );
        // A partition needs its TTL only where it leaves schemas out; adx-mon's definition writes its default into every section.
        if federation.schema_in_beats == Some(SchemaInBeats::OnChange)
            && let (Some(time_to_live), Some(Schedule::Interval { every })) = (time_to_live, &schedule)
        {
            self.time_to_live_covers(*every, time_to_live, federation);
        }
        self.credential_spec(
            "spec.federation",
            federation.credential.as_ref(),
            federation.managed_identity_client_id.as_deref(),
        );
        Some(PartitionConfig {
            name: name?,
            credential: own_credential(&cluster.spec, endpoint.as_ref()?),
            endpoint: endpoint?,
            hubs,
            partitioning: federation.partitioning.clone(),
            schedule: schedule?,
            schema_rests: match federation.schema_in_beats.unwrap_or_default() {
                SchemaInBeats::Always => None,
                // A hub looks for schemas two of its times to live back.
                SchemaInBeats::OnChange => Some(time_to_live? / 2),
            },
        })
    }

    /// The hubs, under whichever of the two names the document uses.
    fn hubs(&mut self, federation: &FederationSpec, partition: Option<&ClusterEndpoint>) -> Vec<HubTarget> {
        let (field, targets) = match (&federation.federated_clusters, &federation.federated_targets) {
            (Some(_), Some(targets)) => {
                let rule = "must not be set beside federatedClusters: it is its second name";
                self.breaks("spec.federation.federatedTargets", count(targets.len()), rule);
                return Vec::new();
            }
            (None, Some(targets)) => ("federatedTargets", targets.as_slice()),
            (Some(targets), None) => ("federatedClusters", targets.as_slice()),
            (None, None) => ("federatedClusters", &[][..]),
        };
        if targets.is_empty() {
            self.breaks(format!("spec.federation.{field}"), ABSENT, "must name at least one hub for role Partition");
        }
        let mut hubs: Vec<HubTarget> = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let path = format!("spec.federation.{field}[{index}]");
            let Some(hub) = self.hub_target(&path, target, partition) else { continue };
            // One beat per hub: two targets in one cluster would be one partition counted twice, and one metric label for both.
            if hubs.iter().any(|other| other.endpoint == hub.endpoint) {
                self.breaks(
                    format!("{path}.endpoint"),
                    quoted(&target.endpoint),
                    "must be listed once: each hub gets one heartbeat",
                );
            }
            hubs.push(hub);
        }
        hubs
    }

    fn hub_target(
        &mut self,
        path: &str,
        target: &FederatedClusterSpec,
        partition: Option<&ClusterEndpoint>,
    ) -> Option<HubTarget> {
        let endpoint = self.endpoint(&format!("{path}.endpoint"), &target.endpoint);
        let database = self.name(&format!("{path}.heartbeatDatabase"), &target.heartbeat_database, DatabaseName::new);
        let table = self.name(&format!("{path}.heartbeatTable"), &target.heartbeat_table, TableName::new);
        self.credential_spec(path, target.credential.as_ref(), target.managed_identity_client_id.as_deref());
        let is_own = target.heartbeat_tables == Some(HeartbeatTables::PerPartition);
        let table = if is_own { self.own_table(path, &table?, partition?) } else { table };
        let credential =
            credential(target.credential.as_ref(), &[target.managed_identity_client_id.as_deref()], endpoint.as_ref()?);
        Some(HubTarget { path: path.to_owned(), endpoint: endpoint?, database: database?, table: table?, credential })
    }

    /// The attributes, as a hub takes them from a heartbeat: [`unused`] is what it leaves out.
    fn partitioning(&mut self, federation: &FederationSpec) {
        let attributes = &federation.partitioning;
        if attributes.len() > MAX_ATTRIBUTES {
            let rule = format!("must have at most {MAX_ATTRIBUTES} attributes");
            self.breaks("spec.federation.partitioning", count(attributes.len()), rule);
        }
        for (key, value) in attributes {
            let path = format!("spec.federation.partitioning.{}", key.escape_debug());
            if key.trim().is_empty() {
                self.breaks("spec.federation.partitioning", quoted(key), "must not have an empty attribute name");
            }
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match unused(key, value) {
                None => {}
                Some(Unused::Long) => {
                    let rule = format!("must have at most {MAX_ATTRIBUTE_CHARS} characters, as must its name");
                    self.breaks(path, text, rule);
                }
                Some(Unused::Secret) => self.breaks(path, "…", MAY_BE_A_SECRET),
                Some(Unused::Kind) => self.breaks(path, value, "must be a text, a number or a boolean"),
                Some(Unused::Control) => self.breaks(path, text, "must have no control characters"),
            }
        }
    }

    /// A hub's field in a partition's document would be ignored without a word. `heartbeatTTL` is let through: adx-mon's CRD writes its default into every
    /// federation section.
    fn hub_fields_absent(&mut self, federation: &FederationSpec) {
        let texts = [
            ("heartbeatDatabase", &federation.heartbeat_database),
            ("heartbeatTable", &federation.heartbeat_table),
            ("heartbeatRetention", &federation.heartbeat_retention),
            ("reconcileInterval", &federation.reconcile_interval),
            ("reconcileSchedule", &federation.reconcile_schedule),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                self.breaks(
                    format!("spec.federation.{field}"),
                    quoted(text),
                    "must be absent: it belongs to role Federated",
                );
            }
        }
        let sections = [
            ("macroExpand", federation.macro_expand.is_some()),
            ("heartbeatTables", federation.heartbeat_tables.is_some()),
            ("mode", federation.mode.is_some()),
            ("acknowledgedPlan", federation.acknowledged_plan.is_some()),
            ("membership", federation.membership.is_some()),
            ("allowedPartitions", federation.allowed_partitions.is_some()),
            ("allowedPartitionPattern", federation.allowed_partition_pattern.is_some()),
            ("blockedPartitions", !federation.blocked_partitions.is_empty()),
            ("canary", federation.canary.is_some()),
            ("entityGroups", !federation.entity_groups.is_empty()),
            ("schemaConflicts", federation.schema_conflicts.is_some()),
        ];
        for (section, _) in sections.into_iter().filter(|(_, is_present)| *is_present) {
            let rule = "must be absent: it belongs to role Federated";
            self.breaks(format!("spec.federation.{section}"), "present", rule);
        }
    }
}
