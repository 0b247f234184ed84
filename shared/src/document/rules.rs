//! The rules themselves, one function per part of the document; [`super::validate`] says which hold when. Here is what both roles share. Pure.
//!
//! Each function reports what is broken and goes on, so that a person corrects a document once; `None` means that something was reported.

mod hub;
mod partition;

use std::{collections::BTreeSet, fmt, time::Duration};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, NameError, TableName},
    secrets::without_secrets,
    statements::partition_table,
};

use super::{
    cron::CronSchedule,
    duration::{format_duration, parse_duration},
    forms::{CLUSTER_NAME, DATABASE_NAME},
    schedule::Schedule,
    schema::exceeded_limits_of_document,
    spec::{ADXCluster, ADXClusterSpec, CredentialSpec, DatabaseSpec, FederationSpec, ProvisionSpec},
    validate::{Violation, Violations},
};
use crate::credential::CredentialConfig;

/// The value of a field that is not there.
pub(super) const ABSENT: &str = "absent";

/// The least number of intervals in a time to live: two lost heartbeats must not remove a partition.
const TTL_INTERVALS: u32 = 3;

/// The shortest rest between two passes, and so the shortest interval that can be kept.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

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

/// The names of an agent's objects, which begin with the document's, and of its pods' labels leave so much. The CRD has the same rule.
fn is_agents_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 52
        && name.bytes().all(is_inner)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
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

    /// What the CRD's schema bounds and no rule has told of yet.
    pub(super) fn limits(&mut self, cluster: &ADXCluster) {
        for violation in exceeded_limits_of_document(&cluster.spec) {
            if self.0.iter().all(|told| told.path != violation.path) {
                self.0.push(violation);
            }
        }
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
            Some(name) if cluster.spec.federation.is_some() && !is_agents_name(name) => self.breaks(
                "metadata.name",
                name,
                "must be at most 52 lower-case letters, digits and hyphens, beginning with a letter: its agent's objects are named after it",
            ),
            Some(_) => {}
        }
        let cluster_name = &cluster.spec.cluster_name;
        let well_formed = cluster_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !well_formed || cluster_name.is_empty() || cluster_name.len() > 100 {
            self.breaks("spec.clusterName", quoted(cluster_name), CLUSTER_NAME.rule);
        }
        let policy = cluster.spec.federation.as_ref().and_then(|federation| federation.pod_policy.as_ref());
        self.0.extend(policy.into_iter().flat_map(|policy| policy.violations("spec.federation.podPolicy")));
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
                self.breaks(format!("{path}.databaseName"), quoted(name), DATABASE_NAME.rule);
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
        ClusterEndpoint::parse(text).map_err(|error| self.breaks(path, quoted(&without_secrets(text)), error.rule)).ok()
    }

    fn name<T>(&mut self, path: &str, text: &str, parse: impl Fn(String) -> Result<T, NameError>) -> Option<T> {
        parse(text.to_owned())
            .map_err(|error| self.breaks(path, quoted(text), format_args!("must be a Kusto name: {error}")))
            .ok()
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

    /// The time between two passes.
    fn interval(&mut self, field: &str, text: Option<&str>, default: Duration) -> Option<Duration> {
        let interval = self.duration(field, text, default)?;
        if interval < SHORTEST_INTERVAL {
            let rule = format!("must be at least {}", format_duration(SHORTEST_INTERVAL));
            self.breaks(format!("spec.federation.{field}"), or_default(text, interval), rule);
        }
        Some(interval)
    }

    /// Two lost heartbeats must not remove a partition.
    fn time_to_live_covers(&mut self, interval: Duration, time_to_live: Duration, federation: &FederationSpec) {
        if time_to_live < interval * TTL_INTERVALS {
            let value = or_default(federation.heartbeat_ttl.as_deref(), time_to_live);
            let interval = format_duration(interval);
            let rule = format!("must be at least {TTL_INTERVALS} x heartbeatInterval ({interval})");
            self.breaks("spec.federation.heartbeatTTL", value, rule);
        }
    }

    fn schedule(
        &mut self,
        (interval_field, interval, default): (&str, Option<&str>, Duration),
        (cron_field, cron): (&str, Option<&str>),
    ) -> Option<Schedule> {
        let every = self.interval(interval_field, interval, default);
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
