//! The beat of the partition agent. I/O: all of it, through the steps.

use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
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

/// After so many regular beats in a row without news of the cluster, what it told last is called stale. A hub believes that a database is gone by lists that are one time to live apart: what is
/// said again once is never that.
const STALE_AFTER_BEATS: u32 = 2;

/// By a cron schedule beats may be far apart; readiness then goes by this.
const CRON_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What lives as long as the process.
struct PartitionAgent {
    cluster: KustoClient,
    config: PartitionConfig,
    publishers: Vec<Publisher>,
    inventory: Option<SchemaInventory>,
    /// How many regular beats came since the cluster told that.
    beats_without_news: u32,
    /// The question to the cluster that has no answer yet, and when it was asked.
    asked: Option<(Instant, JoinHandle<Result<Found, InventoryError>>)>,
    /// Half of the time between two beats.
    half_interval: Duration,
    /// Whether this beat is the only one: what it does not tell, no later one does.
    is_only_beat: bool,
    report: Report,
    status: Option<StatusWriter>,
}

/// Why a beat is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    /// The schedule says so: every hub gets it.
    Regular,
    /// Hubs did not take the last one, as before their tables are made: they get it, and nobody else.
    Again,
}

/// A cluster of the document for which there is no client, now or at the next start.
#[derive(Debug)]
struct Unusable {
    /// Where it is in the document.
    path: String,
    endpoint: ClusterEndpoint,
    source: ClientError,
}

/// Beats on schedule until the stop.
pub async fn run(config: PartitionConfig, world: World) -> Exit {
    let mut cycle = world.cycle(config.schedule.clone());
    let mut agent = match PartitionAgent::new(config, world) {
        Ok(agent) => agent,
        Err(Unusable { path, endpoint, source }) => {
            tracing::error!(path, value = %endpoint, error = chain(&source), "a cluster of the document cannot be used");
            return Exit::BadConfiguration;
        }
    };
    while let Some(now) = cycle.next().await {
        let beat = if cycle.is_between() { Beat::Again } else { Beat::Regular };
        cycle.pass(agent.beat(beat, now)).await;
        if let Some(again) = agent.again() {
            cycle.look_again_after(again.saturating_duration_since(Instant::now()));
        }
        agent.tell().await;
    }
    cycle.exit()
}

impl PartitionAgent {
    fn new(config: PartitionConfig, world: World) -> Result<Self, Unusable> {
        let unusable = |section: &str, endpoint: &ClusterEndpoint, source| Unusable {
            path: format!("{section}.endpoint"),
            endpoint: endpoint.clone(),
            source,
        };
        let cluster = KustoClient::new(config.endpoint.clone(), &config.credential, world.client_options())
            .map_err(|error| unusable("spec", &config.endpoint, error))?;
        let publishers = config.hubs.iter().map(|hub| {
            Publisher::new(hub.clone(), config.schema_rests, world.client_options())
                .map_err(|error| unusable(&hub.path, &hub.endpoint, error))
        });
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
            beats_without_news: 0,
            asked: None,
            half_interval,
            is_only_beat,
            report,
            status,
        })
    }

    async fn beat(&mut self, beat: Beat, now: Timestamp) -> PassOutcome {
        self.beats_without_news += u32::from(beat == Beat::Regular);
        if (beat == Beat::Regular || self.inventory.is_none())
            && let Some(found) = self.discover(beat).await
        {
            self.report.inventory(&found, now);
            if let Ok(found) = found {
                self.inventory = Some(found.inventory).filter(|inventory| !inventory.0.is_empty());
                self.beats_without_news = 0;
            }
        }
        let is_stale = self.beats_without_news >= STALE_AFTER_BEATS;
        let heartbeat = &compose(&self.config, self.inventory.as_ref(), is_stale, now);
        // The next regular beat, to the other hubs too, must not be late for one more try.
        let part = if beat == Beat::Regular { self.half_interval } else { self.half_interval / 4 };
        let patience = HUB_PATIENCE.min(part);
        let due = self.publishers.iter_mut().filter(|publisher| {
            beat == Beat::Regular || publisher.again().is_some_and(|again| again <= Instant::now())
        });
        let sending = due.map(async |publisher| {
            let result = publisher.beat(heartbeat, patience).await;
            (publisher.target().endpoint.clone(), result)
        });
        for (hub, result) in join_all(sending).await {
            self.report.sent(&hub, &result, now);
        }
        self.report.end(now)
    }

    /// When a hub must get a beat, if the schedule has none before.
    fn again(&self) -> Option<Instant> {
        self.publishers.iter().filter_map(Publisher::again).min()
    }

    /// In Kubernetes: the ADXCluster's status says what became of the beat.
    async fn tell(&mut self) {
        if let Some(status) = &mut self.status {
            status.write(self.report.federation()).await;
        }
    }

    /// What the cluster holds; `None` where a later beat will tell. A beat waits for it for a part of the lateness that a hub allows, and for longer only while
    /// nothing is known yet.
    async fn discover(&mut self, beat: Beat) -> Option<Result<Found, InventoryError>> {
        let cluster = &self.cluster;
        let ask = || {
            let cluster = cluster.clone();
            (Instant::now(), tokio::spawn(async move { discover(&cluster).await }))
        };
        let (since, asked) = self.asked.get_or_insert_with(ask);
        // What a failure says is the limit, and not the time waited, which grows: the status is written where it changes.
        let limit = match &self.inventory {
            None if !self.is_only_beat => self.half_interval.min(INVENTORY_PATIENCE),
            _ => INVENTORY_PATIENCE,
        };
        let patience = match beat {
            Beat::Regular if self.is_only_beat || self.inventory.is_none() => limit,
            // The next regular beat must not be late for it.
            Beat::Regular | Beat::Again => self.half_interval / 4,
        };
        let patience = patience.min(INVENTORY_PATIENCE.saturating_sub(since.elapsed()));
        let answer = time::timeout(patience, &mut *asked).await;
        let waited = since.elapsed();
        let found = match answer {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            Err(_) if waited < INVENTORY_PATIENCE && self.inventory.is_some() => return None,
            Err(_) if waited < INVENTORY_PATIENCE => return Some(Err(InventoryError::Late(limit))),
            Err(_) => {
                asked.abort();
                Err(InventoryError::Late(limit))
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

#[cfg(test)]
mod tests {
    use std::{future, net::SocketAddr};

    use shared::{
        document::{parse_documents, partition_config},
        testing::{read_request, write_answer},
    };
    use tokio::net::TcpListener;

    use super::*;

    /// Where nobody is.
    fn nobody() -> SocketAddr {
        ([127, 0, 0, 1], 9).into()
    }

    /// The agent of a cluster at this address; nobody is at that of its hub.
    fn agent(cluster: SocketAddr, interval: &str) -> PartitionAgent {
        agent_of(cluster, nobody(), interval)
    }

    /// The agent of a cluster and a hub at these addresses.
    fn agent_of(cluster: SocketAddr, hub: SocketAddr, interval: &str) -> PartitionAgent {
        let document = format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: europe}}\nspec:\n  clusterName: europe\n  endpoint: 'http://{cluster}'\n  federation: {{heartbeatInterval: {interval}, federatedClusters: [{{endpoint: 'http://{hub}', heartbeatDatabase: D, heartbeatTable: T}}]}}\n"
        );
        let config = partition_config(&parse_documents(&document).unwrap()[0]).unwrap();
        PartitionAgent::new(config, World::new("agent-partition")).unwrap()
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_answer_is_told_in_words_that_do_not_change() {
        // It takes connections and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut agent = agent(silent.local_addr().unwrap(), "200ms");
        for beat in [Beat::Regular, Beat::Again, Beat::Regular] {
            let found = agent.discover(beat).await.unwrap();
            let words = "the cluster did not list its databases, tables and views within 100ms";
            assert_eq!(found.unwrap_err().to_string(), words);
        }
    }

    /// A hub that takes one heartbeat; the line that it is asked with.
    async fn take(hub: &TcpListener) -> String {
        let (mut connection, _) = hub.accept().await.unwrap();
        let asked = read_request(&mut connection).await;
        write_answer(&mut connection, 200, "").await;
        asked.line
    }

    #[tokio::test]
    async fn a_first_beat_waits_for_half_an_interval_at_most_and_for_no_more_than_two_minutes() {
        for (interval, most) in [("2m", 60), ("10m", 120)] {
            let most = Duration::from_secs(most);
            let hub = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut agent = agent_of(nobody(), hub.local_addr().unwrap(), interval);
            // A question that is never answered, of an agent that knows nothing yet.
            agent.asked = Some((Instant::now(), tokio::spawn(future::pending())));
            time::pause();
            let began = time::Instant::now();
            let taken = async {
                let asked = take(&hub).await;
                (asked, began.elapsed())
            };
            // A paused clock would go on to the hub's limit while the beat is on its way.
            let clock = async {
                time::sleep(most).await;
                time::resume();
            };
            let all = async { tokio::join!(agent.beat(Beat::Regular, Timestamp::UNIX_EPOCH), taken, clock) };
            let (outcome, (asked, waited), ()) =
                time::timeout(most * 2, all).await.expect("its hub is sent a beat all the same");
            assert!(asked.starts_with("POST /v1/rest/ingest/D/T?"), "{asked}");
            let expected = most.saturating_sub(Duration::from_secs(5))..most + HUB_PATIENCE;
            assert!(expected.contains(&waited), "{interval}: {waited:?}");
            // Its hub took it, and the cluster has told nothing.
            assert_eq!(outcome, PassOutcome::Partial, "{interval}");
            assert!(agent.inventory.is_none() && agent.asked.is_some(), "the question still stands");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_waits_for_an_eighth_of_the_interval_at_most_for_news_of_a_schema_that_it_knows() {
        let mut agent = agent(nobody(), "10m");
        agent.inventory = Some(SchemaInventory::default());
        // A question that is never answered.
        agent.asked = Some((Instant::now(), tokio::spawn(future::pending())));
        let (eighth, a_moment) = (Duration::from_secs(75), Duration::from_secs(1));
        let began = time::Instant::now();
        assert!(agent.discover(Beat::Regular).await.is_none(), "nothing new is known, and nothing has failed");
        let waited = began.elapsed();
        assert!(waited <= eighth + a_moment, "{waited:?}");

        // The beat goes after that, as soon as hubs take it.
        let began = time::Instant::now();
        agent.beat(Beat::Regular, Timestamp::UNIX_EPOCH).await;
        let waited = began.elapsed();
        assert!(waited <= eighth + HUB_PATIENCE + a_moment, "{waited:?}");
        let told = agent.report.federation();
        assert!(told.hubs[0].outcome.is_some(), "its hub was sent the beat: {told:?}");
        assert!(agent.asked.is_some(), "the question still stands");
    }
}
