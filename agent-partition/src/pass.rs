//! The beat of the partition agent. I/O: all of it, through the steps.

use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use shared::{
    document::{PartitionConfig, Schedule},
    heartbeat::SchemaInventory,
    kubernetes::StatusWriter,
    kusto::{ClientError, KustoClient},
    runtime::{Exit, PassOutcome, World, chain},
};
use tokio::{task::JoinHandle, time};

use crate::{
    compose::compose,
    inventory::{Found, InventoryError, discover},
    publish::Publisher,
    report::Report,
};

/// The longest time that the cluster may take to tell what it holds. Beats go on meanwhile: liveness does not wait for discovery.
const INVENTORY_PATIENCE: Duration = Duration::from_secs(120);

/// The longest time that a hub may take a heartbeat. Never more than half an interval: a hub that hangs does not keep beats from the others.
const HUB_PATIENCE: Duration = Duration::from_secs(30);

/// By a cron schedule beats may be far apart; readiness then goes by this.
const CRON_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What lives as long as the process.
struct PartitionAgent {
    cluster: KustoClient,
    config: PartitionConfig,
    publishers: Vec<Publisher>,
    inventory: Option<SchemaInventory>,
    /// The question to the cluster that has no answer yet, and when it was asked.
    asked: Option<(Instant, JoinHandle<Result<Found, InventoryError>>)>,
    /// Half of the time between two beats.
    half_interval: Duration,
    /// Whether this beat is the only one: what it does not tell, no later one does.
    is_only_beat: bool,
    report: Report,
    status: Option<StatusWriter>,
}

/// Beats on schedule until the stop.
pub async fn run(config: PartitionConfig, world: World) -> Exit {
    let mut cycle = world.cycle(config.schedule.clone());
    let mut agent = match PartitionAgent::new(config, world) {
        Ok(agent) => agent,
        Err(error) => {
            tracing::error!(error = chain(&error), "a cluster of the document cannot be used");
            return Exit::BadConfiguration;
        }
    };
    while let Some(now) = cycle.next().await {
        cycle.pass(agent.beat(now)).await;
        agent.tell().await;
    }
    cycle.exit()
}

impl PartitionAgent {
    fn new(config: PartitionConfig, world: World) -> Result<Self, ClientError> {
        let cluster = KustoClient::new(config.endpoint.clone(), &config.credential, world.client_options())?;
        let publishers =
            config.hubs.iter().map(|hub| Publisher::new(hub.clone(), config.schema_rests, world.client_options()));
        let publishers = publishers.collect::<Result<_, _>>()?;
        let interval = match &config.schedule {
            Schedule::Interval { every } => *every,
            Schedule::Cron(_) => CRON_INTERVAL,
        };
        let (status, is_only_beat) = (world.status.clone(), world.once);
        let report = Report::new(world, &config, interval);
        let half_interval = interval / 2;
        Ok(Self {
            cluster,
            config,
            publishers,
            inventory: None,
            asked: None,
            half_interval,
            is_only_beat,
            report,
            status,
        })
    }

    async fn beat(&mut self, now: Timestamp) -> PassOutcome {
        if let Some(found) = self.discover().await {
            self.report.inventory(&found, now);
            if let Ok(found) = found {
                self.inventory = Some(found.inventory).filter(|inventory| !inventory.0.is_empty());
            }
        }
        let heartbeat = &compose(&self.config, self.inventory.as_ref(), now);
        let patience = HUB_PATIENCE.min(self.half_interval);
        let sending = self.publishers.iter_mut().map(async |publisher| {
            let result = match time::timeout(patience, publisher.publish(heartbeat)).await {
                Ok(result) => result,
                Err(_) => Err(publisher.late(patience)),
            };
            (publisher.target().endpoint.clone(), result)
        });
        for (hub, result) in join_all(sending).await {
            self.report.sent(&hub, &result, now);
        }
        self.report.end(now)
    }

    /// In Kubernetes: the ADXCluster's status says what became of the beat.
    async fn tell(&mut self) {
        if let Some(status) = &mut self.status {
            status.write(self.report.federation()).await;
        }
    }

    /// What the cluster holds; `None` where a later beat will tell. A beat waits for it for a part of the lateness that a hub allows, and for longer only while
    /// nothing is known yet.
    async fn discover(&mut self) -> Option<Result<Found, InventoryError>> {
        let cluster = &self.cluster;
        let ask = || {
            let cluster = cluster.clone();
            (Instant::now(), tokio::spawn(async move { discover(&cluster).await }))
        };
        let (since, asked) = self.asked.get_or_insert_with(ask);
        let patience = match &self.inventory {
            _ if self.is_only_beat => INVENTORY_PATIENCE,
            Some(_) => self.half_interval / 4,
            None => self.half_interval,
        };
        let patience = patience.min(INVENTORY_PATIENCE.saturating_sub(since.elapsed()));
        let answer = time::timeout(patience, &mut *asked).await;
        let waited = since.elapsed();
        let found = match answer {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            Err(_) if waited < INVENTORY_PATIENCE && self.inventory.is_some() => return None,
            Err(_) if waited < INVENTORY_PATIENCE => return Some(Err(InventoryError::Late(waited))),
            Err(_) => {
                asked.abort();
                Err(InventoryError::Late(waited))
            }
        };
        self.asked = None;
        // A cluster that shows nothing where it showed something has more likely lost our rights than its databases.
        Some(match found {
            Ok(found) if self.inventory.is_some() && found.inventory.0.is_empty() => Err(InventoryError::Vanished),
            found => found,
        })
    }
}
