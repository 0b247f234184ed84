//! A hub of partitions that are rows and nothing else: the story writes their beats, and says who falls silent. I/O: as [`Hub`].

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::process::Process;
use tokio::time;

use crate::{admin::get, faulty_hub::Hub, support::SOON};

/// A partition whose host is of another net than those of all others.
pub(crate) const OUTSIDER: usize = 99;
/// The rest are in the east.
pub(crate) const WEST: RangeInclusive<usize> = 9..=12;

/// A hub of partitions `http://127.0.0.N:1`.
pub(crate) struct RowFleet {
    pub(crate) hub: Hub,
    /// The tables in the database Logs of each partition that beats, and those in Metrics.
    pub(crate) beating: BTreeMap<usize, (Vec<&'static str>, Vec<&'static str>)>,
    /// Whether each writes into a table of its own.
    has_own_tables: bool,
    beaten: Instant,
}

/// The table of one of them, where each has its own.
pub(crate) fn own_table(host: usize) -> String {
    format!("Heartbeats_127_0_0_{host}___1")
}

impl RowFleet {
    /// A hub whose document has these fields of a federation, and passes this often. Nobody beats yet.
    pub(crate) async fn start(reconcile: &str, fields: &str) -> Self {
        let hub = Hub::start_without_tables().await;
        hub.document_with_passes(reconcile, fields);
        let has_own_tables = fields.contains("PerPartition");
        Self { hub, beating: BTreeMap::new(), has_own_tables, beaten: Instant::now() }
    }

    /// A beat of all that beat.
    pub(crate) async fn beat(&mut self) {
        self.beaten = Instant::now();
        let rows = self.beating.iter().map(|(host, (logs, metrics))| {
            let mut databases = vec![json!({"database": "Logs", "tables": logs})];
            if !metrics.is_empty() {
                databases.push(json!({"database": "Metrics", "tables": metrics}));
            }
            let schema = json!(databases).to_string().replace('"', "\"\"");
            let net = usize::from(*host == OUTSIDER);
            let zone = if WEST.contains(host) { "WEST" } else { "EAST" };
            let metadata = json!({"geo": zone}).to_string().replace('"', "\"\"");
            let row = format!("2026-01-01T00:00:00Z,http://127.0.{net}.{host}:1,\"{schema}\",\"{metadata}\"\n");
            (if self.has_own_tables { own_table(*host) } else { "Heartbeats".to_owned() }, row)
        });
        let mut tables = BTreeMap::<String, String>::new();
        rows.for_each(|(table, row)| tables.entry(table).or_default().push_str(&row));
        for (table, rows) in tables {
            let command = format!(".ingest inline into table {table} <|\n{rows}");
            self.hub.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
        }
    }

    /// The fleet beats until something is so of which a text tells what there is instead.
    pub(crate) async fn until_so(&mut self, is_so: impl AsyncFn(&Hub) -> Result<(), String>) {
        let deadline = Instant::now() + SOON * 2;
        loop {
            if self.beaten.elapsed() > Duration::from_millis(400) {
                self.beat().await;
            }
            let Err(there) = is_so(&self.hub).await else { return };
            assert!(Instant::now() < deadline, "{there}");
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The fleet beats until the agent's metrics have all of these samples.
    pub(crate) async fn until(&mut self, url: &str, samples: &[&str]) {
        self.until_so(async |_: &Hub| {
            let metrics = get(url, "/metrics").await.1;
            let has = |sample: &&str| metrics.lines().any(|line| line == format!("adx_federation_{sample}"));
            if samples.iter().all(has) { Ok(()) } else { Err(format!("{samples:?} is not in\n{metrics}")) }
        })
        .await;
    }

    /// The fleet beats until every group of the hub's databases lists everyone that does, and the agent finds nothing to do any more.
    pub(crate) async fn until_at_rest(&mut self, agent: &Process) {
        let members: Vec<String> = self.beating.keys().map(|host| format!("http://127.0.0.{host}:1'")).collect();
        self.until_so(async |hub: &Hub| {
            let content = hub.content().await;
            let lists_all = |line: &&String| members.iter().all(|member| line.contains(member));
            let groups = content.iter().filter(|line| line.contains("_Partitions\"")).filter(lists_all).count();
            // Of one database of the partitions, in two of the hub's.
            if groups == 2 { Ok(()) } else { Err(format!("{content:#?}")) }
        })
        .await;
        // The pass that made the last of it has begun before, and one that changes nothing ends after it.
        let printed = agent.output().len();
        self.until_so(async |_: &Hub| {
            let told = agent.output_after(printed);
            if told.contains("pass ended outcome=unchanged") { Ok(()) } else { Err(told) }
        })
        .await;
    }

    /// Microsoft's parser reads what was sent.
    pub(crate) async fn end(self, mut agent: Process) {
        agent.stop().await;
        self.hub.end().await;
    }
}
