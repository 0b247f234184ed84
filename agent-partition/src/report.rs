//! What a beat did, for those who watch: metrics, status, readiness, logs. No I/O beyond those.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
use serde::Serialize;
use shared::{
    document::{
        PartitionConfig,
        status::{self, FederationStatus, whole_seconds},
    },
    heartbeat::SchemaInventory,
    kusto::KustoError,
    runtime::{HeartbeatOutcome, PassOutcome, World, chain},
};

use crate::inventory::{Found, InventoryError};

/// Readiness outlives this many intervals without an accepted beat: one lost beat is no reason to restart anything.
const READY_INTERVALS: u32 = 3;

/// Remembers what was reported.
#[derive(Debug)]
pub struct Report {
    world: World,
    status: Status,
    outcome: Option<PassOutcome>,
    patience: Duration,
}

/// `/status`
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    partition: String,
    hubs: BTreeMap<String, HubStatus>,
    inventory: InventoryStatus,
    last_pass: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct HubStatus {
    last_success: Option<Timestamp>,
    outcome: Option<HeartbeatOutcome>,
    failure: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct InventoryStatus {
    /// When the cluster was last asked with success.
    read_at: Option<Timestamp>,
    /// Database to its count of tables and views.
    databases: BTreeMap<String, usize>,
    /// Why the last attempt failed; beats go on with what was read before.
    failure: Option<String>,
    /// What cannot be federated.
    skipped: Vec<String>,
}

impl Report {
    /// Nothing has happened yet. `interval`: between two beats.
    pub fn new(world: World, config: &PartitionConfig, interval: Duration) -> Self {
        for hub in &config.hubs {
            world.metrics.hub(&hub.endpoint);
        }
        let hubs = config.hubs.iter().map(|hub| (hub.endpoint.to_string(), HubStatus::default())).collect();
        let inventory = InventoryStatus::default();
        let status = Status { partition: config.endpoint.to_string(), hubs, inventory, last_pass: None };
        Self { world, status, outcome: None, patience: interval * READY_INTERVALS }
    }

    /// The cluster was asked for its content.
    pub fn inventory(&mut self, found: &Result<Found, InventoryError>, now: Timestamp) {
        let status = &mut self.status.inventory;
        match found {
            Ok(found) => {
                for skipped in found.skipped.iter().filter(|skipped| !status.skipped.contains(skipped)) {
                    tracing::warn!(skipped, "not announced");
                }
                let databases = sizes(&found.inventory);
                // The cluster tells of what the agent may see: it does not say which of the two it is.
                for database in status.databases.keys().filter(|known| !databases.contains_key(*known)) {
                    tracing::warn!(
                        database,
                        "a database is not announced any more: it is dropped or empty, or the agent has lost its role on it"
                    );
                }
                status.read_at = Some(now);
                status.databases = databases;
                status.skipped.clone_from(&found.skipped);
                status.failure = None;
            }
            Err(error) => {
                let failure = chain(error);
                tracing::warn!(error = failure, "inventory failed: the heartbeat goes out with what was known");
                status.failure = Some(failure);
            }
        }
    }

    /// A hub was sent the heartbeat.
    pub fn sent(&mut self, hub: &ClusterEndpoint, result: &Result<Timestamp, KustoError>, now: Timestamp) {
        let status = self.status.hubs.entry(hub.to_string()).or_default();
        let outcome = match result {
            Ok(accepted) => {
                status.last_success = Some(*accepted);
                status.failure = None;
                HeartbeatOutcome::Accepted
            }
            Err(error) => {
                let failure = chain(error);
                tracing::warn!(hub = %hub, error = failure, "heartbeat failed");
                status.failure = Some(failure);
                HeartbeatOutcome::from(&error.failure)
            }
        };
        status.outcome = Some(outcome);
        self.world.metrics.heartbeat_sent(hub, outcome, now);
    }

    /// What the ADXCluster's status tells.
    pub fn federation(&self) -> FederationStatus {
        let hub = |(endpoint, hub): (&String, &HubStatus)| status::HubStatus {
            endpoint: endpoint.clone(),
            last_success: hub.last_success.map(whole_seconds),
            outcome: hub.outcome.map(|outcome| outcome.to_string()),
            message: hub.failure.clone(),
        };
        let inventory = &self.status.inventory;
        let failures = self
            .status
            .hubs
            .iter()
            .filter_map(|(endpoint, hub)| Some(format!("{endpoint}: {}", hub.failure.as_ref()?)));
        let message = failures.chain(inventory.failure.clone()).next();
        let pass = |(at, outcome): (Timestamp, PassOutcome)| status::PassStatus {
            repairs: Vec::new(),
            time: whole_seconds(at),
            outcome: outcome.to_string(),
            message: message.clone(),
            problems: inventory.skipped.clone(),
        };
        FederationStatus {
            last_pass: self.status.last_pass.zip(self.outcome).map(pass),
            hubs: self.status.hubs.iter().map(hub).collect(),
            ..FederationStatus::default()
        }
    }

    /// The beat is over: readiness and status.
    pub fn end(&mut self, now: Timestamp) -> PassOutcome {
        let last = self.status.hubs.values().filter_map(|hub| hub.last_success).max();
        let recent =
            last.is_some_and(|last| Duration::try_from(now.duration_since(last)).unwrap_or_default() <= self.patience);
        let reason = match last {
            Some(last) => format!("a hub last accepted a heartbeat at {last}"),
            None => "no hub has accepted a heartbeat yet".to_owned(),
        };
        self.world.admin.set_ready(recent, reason);
        self.status.last_pass = Some(now);
        self.world.admin.set_status(&self.status);
        let accepted = self.status.hubs.values().filter(|hub| hub.outcome == Some(HeartbeatOutcome::Accepted)).count();
        let outcome = match accepted {
            0 => PassOutcome::Failed,
            some if some == self.status.hubs.len() && self.status.inventory.failure.is_none() => PassOutcome::Done,
            _ => PassOutcome::Partial,
        };
        self.outcome = Some(outcome);
        outcome
    }
}

fn sizes(inventory: &SchemaInventory) -> BTreeMap<String, usize> {
    inventory.0.iter().map(|(name, content)| (name.to_string(), content.tables.len() + content.views.len())).collect()
}
