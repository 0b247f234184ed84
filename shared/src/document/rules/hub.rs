//! The rules of a hub's document. Pure.

use std::{collections::BTreeMap, time::Duration};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, FunctionName, NameError, TableName},
    statements::HeartbeatSource,
};

use super::{ABSENT, Rules, TTL_INTERVALS, count, or_default, own_credential, quoted};
use crate::document::{
    config::{HubConfig, MembershipConfig, TrustConfig, defaults},
    duration::format_duration,
    forms::HOST_PATTERN,
    spec::{
        ADXCluster, FederationMode, FederationSpec, HeartbeatTables, MacroExpandSpec, MembershipSpec, SchemaConflicts,
    },
};

/// A beat counts as missed a quarter of an interval late, and a partition must be suspect for an interval before it expires: by suspects the hub knows that
/// many fell silent together.
const SUSPECT_MARGIN: f64 = 1.25;

impl Rules {
    pub(in crate::document) fn hub(&mut self, cluster: &ADXCluster) -> Option<HubConfig> {
        let name = self.common(cluster);
        let endpoint = self.own_endpoint(&cluster.spec);
        let Some(federation) = &cluster.spec.federation else {
            self.breaks("spec.federation", ABSENT, "must be present for role Federated: it names the heartbeat table");
            return None;
        };
        self.partition_fields_absent(federation);
        let heartbeat_database =
            self.required_name("heartbeatDatabase", federation.heartbeat_database.as_deref(), DatabaseName::new);
        let heartbeat_table =
            self.required_name("heartbeatTable", federation.heartbeat_table.as_deref(), TableName::new);
        let times = self.times(federation);
        let schedule = self.schedule(
            ("reconcileInterval", federation.reconcile_interval.as_deref(), defaults::RECONCILE_INTERVAL),
            ("reconcileSchedule", federation.reconcile_schedule.as_deref()),
        );
        let (function_prefix, folder, best_effort) =
            self.macro_expand(&federation.macro_expand.clone().unwrap_or_default());
        self.credential_spec(
            "spec.federation",
            federation.credential.as_ref(),
            federation.managed_identity_client_id.as_deref(),
        );
        let membership = self.membership(&federation.membership.clone().unwrap_or_default());
        let trust = self.trust(federation);
        let heartbeats =
            heartbeat_table.and_then(|table| self.heartbeat_source(table, federation.heartbeat_tables, &trust));
        for (index, group) in federation.entity_groups.iter().enumerate() {
            if group.by.trim().is_empty() {
                let path = format!("spec.federation.entityGroups[{index}].by");
                self.breaks(path, quoted(&group.by), "must name a partitioning attribute");
            }
        }
        let acknowledged_plan = federation.acknowledged_plan.as_deref().filter(|hash| !hash.is_empty());
        // As the status shows it.
        let acknowledged_plan = acknowledged_plan.map(str::to_ascii_lowercase);
        if let Some(hash) = acknowledged_plan.as_ref().filter(|hash| !hash.bytes().all(|b| b.is_ascii_hexdigit())) {
            self.breaks(
                "spec.federation.acknowledgedPlan",
                hash,
                "must be the hash of a held plan, as the status shows it",
            );
        }
        let (heartbeat_interval, heartbeat_ttl, heartbeat_retention) = times?;
        if let Some(missed) = membership.as_ref().map(|membership| membership.suspect_after_missed_beats)
            && heartbeat_interval * TTL_INTERVALS <= heartbeat_ttl
            && heartbeat_interval.as_secs_f64() * (missed as f64 + SUSPECT_MARGIN) > heartbeat_ttl.as_secs_f64()
        {
            let rule = format!(
                "must make a partition suspect before it expires: with heartbeatInterval {} and heartbeatTTL {} at most {}",
                format_duration(heartbeat_interval),
                format_duration(heartbeat_ttl),
                (heartbeat_ttl.as_secs_f64() / heartbeat_interval.as_secs_f64() - SUSPECT_MARGIN).floor()
            );
            self.breaks("spec.federation.membership.suspectAfterMissedBeats", missed, rule);
        }
        Some(HubConfig {
            name: name?,
            credential: own_credential(&cluster.spec, endpoint.as_ref()?),
            endpoint: endpoint?,
            heartbeat_database: heartbeat_database?,
            heartbeats: heartbeats?,
            heartbeat_ttl,
            heartbeat_interval,
            heartbeat_retention,
            schedule: schedule?,
            function_prefix,
            folder,
            best_effort,
            is_plan_only: cluster.spec.suspend || federation.mode == Some(FederationMode::Plan),
            acknowledged_plan,
            membership: membership?,
            trust,
            group_attributes: federation.entity_groups.iter().map(|group| group.by.clone()).collect(),
            converts_columns: federation.schema_conflicts.unwrap_or_default() == SchemaConflicts::Coerce,
        })
    }

    fn required_name<T>(
        &mut self,
        field: &str,
        text: Option<&str>,
        parse: impl Fn(String) -> Result<T, NameError>,
    ) -> Option<T> {
        let path = format!("spec.federation.{field}");
        let Some(text) = text else {
            self.breaks(path, ABSENT, "must be given for role Federated");
            return None;
        };
        self.name(&path, text, parse)
    }

    /// Interval, time to live and retention of heartbeats, which bind one another.
    fn times(&mut self, federation: &FederationSpec) -> Option<(Duration, Duration, Duration)> {
        let interval =
            self.interval("heartbeatInterval", federation.heartbeat_interval.as_deref(), defaults::HEARTBEAT_INTERVAL);
        let ttl = self.duration("heartbeatTTL", federation.heartbeat_ttl.as_deref(), defaults::HEARTBEAT_TTL);
        let retention = self.duration(
            "heartbeatRetention",
            federation.heartbeat_retention.as_deref(),
            defaults::HEARTBEAT_RETENTION,
        );
        let (interval, ttl, retention) = (interval?, ttl?, retention?);
        self.time_to_live_covers(interval, ttl, federation);
        if retention < ttl {
            let value = or_default(federation.heartbeat_retention.as_deref(), retention);
            let rule = format!("must be at least heartbeatTTL ({})", format_duration(ttl));
            self.breaks("spec.federation.heartbeatRetention", value, rule);
        }
        // What a partition lists no longer is told by heartbeats that are one time to live apart.
        Some((interval, ttl, retention.max(ttl.saturating_mul(2))))
    }

    fn membership(&mut self, spec: &MembershipSpec) -> Option<MembershipConfig> {
        let mut number = |field: &str, value: Option<i32>, default: u32, least: i32, most: i32| {
            let Some(value) = value else { return default };
            if !(least..=most).contains(&value) {
                let rule = format!("must be {least} to {most}");
                self.breaks(format!("spec.federation.membership.{field}"), value, rule);
            }
            value.unsigned_abs()
        };
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let join_after_beats = number("joinAfterBeats", spec.join_after_beats, 1, 1, 100).into();
        let return_after_beats = number("returnAfterBeats", spec.return_after_beats, 2, 1, 100).into();
        let suspect_after_missed_beats =
            number("suspectAfterMissedBeats", spec.suspect_after_missed_beats, 1, 1, 100).into();
        let flapping_returns = size(number("flappingReturns", spec.flapping_returns, 3, 2, 16));
        let removal_percent = size(number("removalPercent", spec.removal_percent, 15, 1, 100));
        let mass_expiry_percent = size(number("massExpiryPercent", spec.mass_expiry_percent, 55, 1, 100));
        let mass_expiry_partitions = size(number("massExpiryPartitions", spec.mass_expiry_partitions, 3, 1, 10_000));
        let flapping_window =
            self.duration("membership.flappingWindow", spec.flapping_window.as_deref(), defaults::FLAPPING_WINDOW);
        let limit = spec.guard_time_limit.as_deref();
        let guard_time_limit = limit.map(|_| self.duration("membership.guardTimeLimit", limit, Duration::ZERO));
        let zone_attribute = spec.zone_attribute.clone().unwrap_or_else(|| defaults::ZONE_ATTRIBUTE.to_owned());
        if zone_attribute.trim().is_empty() {
            let rule = "must name a partitioning attribute";
            self.breaks("spec.federation.membership.zoneAttribute", quoted(&zone_attribute), rule);
        }
        let guard_time_limit = match guard_time_limit {
            Some(limit) => Some(limit?),
            None => None,
        };
        Some(MembershipConfig {
            join_after_beats,
            return_after_beats,
            suspect_after_missed_beats,
            flapping_returns,
            flapping_window: flapping_window?,
            removal_percent,
            mass_expiry_percent,
            mass_expiry_partitions,
            zone_attribute,
            guard_time_limit,
        })
    }

    fn trust(&mut self, federation: &FederationSpec) -> TrustConfig {
        let mut endpoints = |field: &str, texts: &[String]| -> Vec<ClusterEndpoint> {
            let texts = texts.iter().enumerate();
            texts
                .filter_map(|(index, text)| self.endpoint(&format!("spec.federation.{field}[{index}]"), text))
                .collect()
        };
        let allowed = federation.allowed_partitions.as_ref().map(|texts| endpoints("allowedPartitions", texts));
        let blocked = endpoints("blockedPartitions", &federation.blocked_partitions);
        let pattern = federation.allowed_partition_pattern.clone();
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*');
        if let Some(text) = pattern.as_ref().filter(|text| text.is_empty() || !text.chars().all(is_host)) {
            self.breaks("spec.federation.allowedPartitionPattern", quoted(text), HOST_PATTERN.rule);
        }
        TrustConfig { allowed, pattern, blocked, canary: federation.canary.unwrap_or(false) }
    }

    /// Where the hub finds heartbeats.
    fn heartbeat_source(
        &mut self,
        table: TableName,
        tables: Option<HeartbeatTables>,
        trust: &TrustConfig,
    ) -> Option<HeartbeatSource> {
        if tables.unwrap_or_default() == HeartbeatTables::Shared {
            return Some(HeartbeatSource::Shared(table));
        }
        let path = "spec.federation.heartbeatTables";
        let partitions = trust.allowed.as_deref().unwrap_or_default();
        if partitions.is_empty() || trust.pattern.is_some() {
            let rule = "must have the partitions in allowedPartitions, and no allowedPartitionPattern: there is a table for each";
            self.breaks(path, "PerPartition", rule);
            return None;
        }
        let mut own = BTreeMap::new();
        for partition in partitions {
            let name = self.own_table("spec.federation", &table, partition)?;
            if let Some(other) = own.insert(name.clone(), partition.clone()).filter(|other| other != partition) {
                let rule = format!("must give each partition a table: {other} and {partition} would share {name}");
                self.breaks(path, "PerPartition", rule);
            }
        }
        Some(HeartbeatSource::PerPartition(own))
    }

    /// Function prefix, folder and best effort.
    fn macro_expand(&mut self, spec: &MacroExpandSpec) -> (String, String, bool) {
        let prefix = spec.function_prefix.clone().unwrap_or_else(|| defaults::FUNCTION_PREFIX.to_owned());
        let path = "spec.federation.macroExpand.functionPrefix";
        if prefix.is_empty() {
            self.breaks(path, quoted(&prefix), "must not be empty: the functions would hide the hub's own tables");
        } else if let Err(error) = FunctionName::new(format!("{prefix}T")) {
            self.breaks(path, quoted(&prefix), format_args!("must begin a Kusto name: {error}"));
        }
        let folder = spec.folder.clone().unwrap_or_else(|| defaults::FOLDER.to_owned());
        if folder.trim().is_empty() || folder.chars().any(char::is_control) || folder.chars().count() > 256 {
            let rule = "must be 1 to 256 characters without control characters";
            self.breaks("spec.federation.macroExpand.folder", quoted(&folder), rule);
        }
        (prefix, folder, spec.best_effort.unwrap_or(defaults::BEST_EFFORT))
    }

    /// A partition's field in a hub's document would be ignored without a word.
    fn partition_fields_absent(&mut self, federation: &FederationSpec) {
        let rule = "must be absent: it belongs to role Partition";
        let lists = [
            ("federatedClusters", &federation.federated_clusters),
            ("federatedTargets", &federation.federated_targets),
        ];
        for (field, list) in lists {
            if let Some(list) = list {
                self.breaks(format!("spec.federation.{field}"), count(list.len()), rule);
            }
        }
        if !federation.partitioning.is_empty() {
            self.breaks("spec.federation.partitioning", count(federation.partitioning.len()), rule);
        }
        if federation.schema_in_beats.is_some() {
            self.breaks("spec.federation.schemaInBeats", "present", rule);
        }
        if let Some(text) = &federation.heartbeat_schedule {
            self.breaks("spec.federation.heartbeatSchedule", quoted(text), rule);
        }
    }
}
