//! The rules themselves, one function per part of the document; [`super::validate`] says which hold when. Pure.
//!
//! Each function reports what is broken and goes on, so that a person corrects a document once; `None` means that something was reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, FunctionName, NameError, TableName},
    statements::{HeartbeatSource, partition_table},
};
use serde_json::Value;

use super::{
    config::{HubConfig, HubTarget, MembershipConfig, PartitionConfig, TrustConfig, defaults},
    cron::CronSchedule,
    duration::{format_duration, parse_duration},
    schedule::Schedule,
    spec::{
        ADXCluster, ADXClusterSpec, CredentialSpec, DatabaseSpec, FederatedClusterSpec, FederationMode, FederationSpec,
        HeartbeatTables, MacroExpandSpec, MembershipSpec, ProvisionSpec, SchemaConflicts, SchemaInBeats,
    },
    validate::{Violation, Violations},
};
use crate::credential::CredentialConfig;

/// The value of a field that is not there.
pub(super) const ABSENT: &str = "absent";

/// The least number of intervals in a time to live: two lost heartbeats must not remove a partition.
const TTL_INTERVALS: u32 = 3;

/// A beat counts as missed a quarter of an interval late, and a partition must be suspect for an interval before it expires: by suspects the hub knows that
/// many fell silent together.
const SUSPECT_MARGIN: f64 = 1.25;

/// What is broken so far.
#[derive(Default)]
pub(super) struct Rules(Vec<Violation>);

/// RFC 1123's subdomain, Kubernetes' rule for objects' names. Names of files and prefixes of log lines are made of it.
fn is_object_name(name: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    let inner = |byte: &u8| is_edge(Some(byte)) || matches!(byte, b'-' | b'.');
    bytes.len() <= 253 && bytes.iter().all(inner) && is_edge(bytes.first()) && is_edge(bytes.last())
}

impl Rules {
    pub(super) fn breaks(&mut self, path: impl Into<String>, value: impl fmt::Display, rule: impl fmt::Display) {
        self.0.push(Violation::new(path, value, rule));
    }

    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Violations> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Violations(self.0)),
        }
    }

    pub(super) fn partition(&mut self, cluster: &ADXCluster) -> Option<PartitionConfig> {
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

    pub(super) fn hub(&mut self, cluster: &ADXCluster) -> Option<HubConfig> {
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
        let acknowledged_plan = federation.acknowledged_plan.clone().filter(|hash| !hash.is_empty());
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
            databases: cluster.spec.databases.iter().filter_map(|d| DatabaseName::new(&d.database_name).ok()).collect(),
            is_plan_only: cluster.spec.suspend || federation.mode == Some(FederationMode::Plan),
            acknowledged_plan,
            membership: membership?,
            trust,
            group_attributes: federation.entity_groups.iter().map(|group| group.by.clone()).collect(),
            converts_columns: federation.schema_conflicts.unwrap_or_default() == SchemaConflicts::Coerce,
        })
    }

    /// What holds for every role; the document's name.
    fn common(&mut self, cluster: &ADXCluster) -> Option<String> {
        let name = cluster.metadata.name.clone().filter(|name| !name.is_empty());
        match &name {
            None => self.breaks("metadata.name", ABSENT, "must be given"),
            Some(name) if !is_object_name(name) => self.breaks(
                "metadata.name",
                quoted(name),
                "must be 1 to 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends, as Kubernetes names objects",
            ),
            Some(_) => {}
        }
        let cluster_name = &cluster.spec.cluster_name;
        let well_formed = cluster_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !well_formed || cluster_name.is_empty() || cluster_name.len() > 100 {
            self.breaks("spec.clusterName", quoted(cluster_name), "must be 1 to 100 letters, digits and hyphens");
        }
        self.databases(&cluster.spec.databases);
        if let Some(provision) = &cluster.spec.provision {
            self.provision(provision);
        }
        name
    }

    fn databases(&mut self, databases: &[DatabaseSpec]) {
        let mut seen = BTreeSet::new();
        for (index, database) in databases.iter().enumerate() {
            let name = &database.database_name;
            let path = format!("spec.databases[{index}]");
            let well_formed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !well_formed || name.is_empty() || name.len() > 64 {
                self.breaks(
                    format!("{path}.databaseName"),
                    quoted(name),
                    "must be 1 to 64 letters, digits and underscores",
                );
            } else if let Err(error) = DatabaseName::new(name) {
                self.breaks(format!("{path}.databaseName"), name, format_args!("must be a Kusto name: {error}"));
            } else if !seen.insert(name.to_lowercase()) {
                self.breaks(
                    format!("{path}.databaseName"),
                    name,
                    "must be listed once: Kusto's database names ignore case",
                );
            }
            if let Some(days) = database.retention_in_days.filter(|days| *days < 1) {
                self.breaks(format!("{path}.retentionInDays"), days, "must be at least 1");
            }
        }
    }

    fn provision(&mut self, provision: &ProvisionSpec) {
        let fewest = provision.auto_scale_min.unwrap_or(2);
        let most = provision.auto_scale_max.unwrap_or(10);
        if fewest < 2 {
            self.breaks("spec.provision.autoScaleMin", fewest, "must be at least 2");
        }
        if most < fewest {
            self.breaks("spec.provision.autoScaleMax", most, format_args!("must be at least autoScaleMin ({fewest})"));
        }
    }

    fn own_endpoint(&mut self, spec: &ADXClusterSpec) -> Option<ClusterEndpoint> {
        match spec.endpoint.as_deref() {
            Some(text) => self.endpoint("spec.endpoint", text),
            None => {
                self.breaks("spec.endpoint", ABSENT, "must be given: an agent needs the cluster's address");
                None
            }
        }
    }

    fn endpoint(&mut self, path: &str, text: &str) -> Option<ClusterEndpoint> {
        ClusterEndpoint::parse(text).map_err(|error| self.breaks(path, quoted(text), error.rule)).ok()
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

    fn name<T>(&mut self, path: &str, text: &str, parse: impl Fn(String) -> Result<T, NameError>) -> Option<T> {
        parse(text.to_owned())
            .map_err(|error| self.breaks(path, quoted(text), format_args!("must be a Kusto name: {error}")))
            .ok()
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
        let is_own = target.heartbeat_tables == Some(HeartbeatTables::PerPartition);
        let table = if is_own { self.own_table(path, &table?, partition?) } else { table };
        self.credential_spec(path, target.credential.as_ref(), target.managed_identity_client_id.as_deref());
        let credential =
            credential(target.credential.as_ref(), &[target.managed_identity_client_id.as_deref()], endpoint.as_ref()?);
        Some(HubTarget { endpoint: endpoint?, database: database?, table: table?, credential })
    }

    fn partitioning(&mut self, federation: &FederationSpec) {
        for (key, value) in &federation.partitioning {
            let path = format!("spec.federation.partitioning.{key}");
            if key.trim().is_empty() {
                self.breaks("spec.federation.partitioning", quoted(key), "must not have an empty attribute name");
            }
            if !matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)) {
                self.breaks(path, value, "must be a text, a number or a boolean");
            }
        }
    }

    /// Interval, time to live and retention of heartbeats, which bind one another.
    fn times(&mut self, federation: &FederationSpec) -> Option<(Duration, Duration, Duration)> {
        let interval =
            self.duration("heartbeatInterval", federation.heartbeat_interval.as_deref(), defaults::HEARTBEAT_INTERVAL);
        let ttl = self.duration("heartbeatTTL", federation.heartbeat_ttl.as_deref(), defaults::HEARTBEAT_TTL);
        let retention = self.duration(
            "heartbeatRetention",
            federation.heartbeat_retention.as_deref(),
            defaults::HEARTBEAT_RETENTION,
        );
        let (interval, ttl, retention) = (interval?, ttl?, retention?);
        if ttl < interval * TTL_INTERVALS {
            let value = or_default(federation.heartbeat_ttl.as_deref(), ttl);
            let interval = format_duration(interval);
            let rule = format!("must be at least {TTL_INTERVALS} x heartbeatInterval ({interval})");
            self.breaks("spec.federation.heartbeatTTL", value, rule);
        }
        if retention < ttl {
            let value = or_default(federation.heartbeat_retention.as_deref(), retention);
            let rule = format!("must be at least heartbeatTTL ({})", format_duration(ttl));
            self.breaks("spec.federation.heartbeatRetention", value, rule);
        }
        Some((interval, ttl, retention))
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
            let rule =
                "must be a host name in which '*' stands for any characters, such as *.westeurope.kusto.windows.net";
            self.breaks("spec.federation.allowedPartitionPattern", quoted(text), rule);
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

    /// The table of one partition.
    fn own_table(&mut self, section: &str, table: &TableName, partition: &ClusterEndpoint) -> Option<TableName> {
        let name = partition_table(table, partition);
        name.map_err(|error| self.breaks(format!("{section}.heartbeatTable"), quoted(table.as_str()), error)).ok()
    }

    fn duration(&mut self, field: &str, text: Option<&str>, default: Duration) -> Option<Duration> {
        let Some(text) = text else { return Some(default) };
        parse_duration(text).map_err(|rule| self.breaks(format!("spec.federation.{field}"), quoted(text), rule)).ok()
    }

    fn schedule(
        &mut self,
        (interval_field, interval, default): (&str, Option<&str>, Duration),
        (cron_field, cron): (&str, Option<&str>),
    ) -> Option<Schedule> {
        let every = self.duration(interval_field, interval, default);
        let Some(cron) = cron else { return Some(Schedule::Interval { every: every? }) };
        let path = format!("spec.federation.{cron_field}");
        if interval.is_some() {
            self.breaks(&path, quoted(cron), format_args!("must not be set beside {interval_field}"));
        }
        match cron.parse::<CronSchedule>() {
            Ok(cron) => Some(Schedule::Cron(cron)),
            Err(rule) => {
                self.breaks(path, quoted(cron), rule);
                None
            }
        }
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

    /// One way to sign in, said once.
    fn credential_spec(&mut self, section: &str, spec: Option<&CredentialSpec>, client_id: Option<&str>) {
        let Some(spec) = spec else { return };
        let path = format!("{section}.credential");
        let CredentialSpec { managed_identity, workload_identity, azure_cli } = spec;
        let chosen = [
            managed_identity.is_some().then_some("managedIdentity"),
            workload_identity.is_some().then_some("workloadIdentity"),
            azure_cli.is_some().then_some("azureCli"),
        ];
        let chosen: Vec<&str> = chosen.into_iter().flatten().collect();
        if chosen.len() != 1 {
            let value = if chosen.is_empty() { "{}".to_owned() } else { chosen.join(", ") };
            self.breaks(&path, value, "must have exactly one of managedIdentity, workloadIdentity and azureCli");
        }
        if let Some(client_id) = client_id.filter(|id| !id.is_empty()) {
            let rule = "must not be set beside credential: write credential.managedIdentity.clientId";
            self.breaks(format!("{section}.managedIdentityClientId"), client_id, rule);
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

    /// And a partition's in a hub's.
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

/// How to sign in to the document's own cluster: the federation section's choice, or the identity the cluster was provisioned with.
fn own_credential(spec: &ADXClusterSpec, endpoint: &ClusterEndpoint) -> CredentialConfig {
    let federation = spec.federation.as_ref();
    let client_ids = [
        federation.and_then(|federation| federation.managed_identity_client_id.as_deref()),
        spec.provision.as_ref().and_then(|provision| provision.managed_identity_client_id.as_deref()),
    ];
    credential(federation.and_then(|federation| federation.credential.as_ref()), &client_ids, endpoint)
}

/// The section's credential, or a managed identity by the first client id there is; none at all for loopback. An empty client id is an absent one:
/// adx-mon requires the field, and its users leave it empty.
fn credential(
    spec: Option<&CredentialSpec>,
    client_ids: &[Option<&str>],
    endpoint: &ClusterEndpoint,
) -> CredentialConfig {
    if endpoint.is_loopback() { CredentialConfig::None } else { sign_in(spec, client_ids) }
}

/// The section's credential, or a managed identity by the first client id there is.
pub fn sign_in(spec: Option<&CredentialSpec>, client_ids: &[Option<&str>]) -> CredentialConfig {
    let given = |id: &str| Some(id.to_owned()).filter(|id| !id.is_empty());
    match spec {
        Some(CredentialSpec { workload_identity: Some(identity), .. }) => CredentialConfig::WorkloadIdentity {
            client_id: identity.client_id.as_deref().and_then(given),
            tenant_id: identity.tenant_id.as_deref().and_then(given),
        },
        Some(CredentialSpec { azure_cli: Some(_), .. }) => CredentialConfig::AzureCli,
        Some(CredentialSpec { managed_identity: Some(identity), .. }) => {
            CredentialConfig::ManagedIdentity { client_id: identity.client_id.as_deref().and_then(given) }
        }
        Some(_) | None => {
            CredentialConfig::ManagedIdentity { client_id: client_ids.iter().copied().flatten().find_map(given) }
        }
    }
}

/// A text as a value in a message; an empty one must be visible.
fn quoted(text: &str) -> &str {
    if text.is_empty() { "\"\"" } else { text }
}

fn or_default(text: Option<&str>, duration: Duration) -> String {
    text.map_or_else(|| format!("{} (default)", format_duration(duration)), str::to_owned)
}

fn count(entries: usize) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") }
}
