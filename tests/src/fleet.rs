//! A hub and its partitions: four local Kusto servers and the ADXCluster documents of their agents. I/O: processes, loopback HTTP, a temporary folder.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time;

use crate::{
    kusto::{AskError, KustoServer, Table},
    process::Process,
    telemetry::{REGIONS, Region},
};

/// How fast agents work in a fleet of ours: the seed's minutes as seconds.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// `heartbeatInterval` of the partitions. A beat that the hub has not taken in half of it has failed.
    pub heartbeat: &'static str,
    /// `heartbeatInterval` of the hub: who is silent for longer has missed a beat.
    pub expected: &'static str,
    /// `heartbeatTTL`
    pub time_to_live: &'static str,
    /// `reconcileInterval`
    pub reconcile: &'static str,
    /// `heartbeatRetention`
    pub retention: &'static str,
}

/// A process may get no processor for seconds, on a machine that is busy. What a story does not want must not come of that.
impl Pace {
    /// Beats and passes all the time. Nobody falls silent or leaves.
    pub const FAST: Self =
        Self { heartbeat: "1s", expected: "1m", time_to_live: "5m", reconcile: "500ms", retention: "7d" };

    /// For agents that run once: they have all the time that they need, and what they wrote stays fresh for the whole story.
    pub const PATIENT: Self = Self { heartbeat: "5m", expected: "5m", time_to_live: "1h", ..Self::FAST };

    /// Minutes between passes: between them the programs rest.
    pub const AT_REST: Self = Self { reconcile: "5m", ..Self::PATIENT };

    /// Beats and passes all the time, of which none is late: a beat has ten seconds.
    pub const STEADY: Self = Self { heartbeat: "20s", reconcile: "1s", ..Self::FAST };

    /// A partition that falls silent leaves within seconds. It has missed a beat after six, since three returns from silence would keep it.
    pub const LEAVING: Self = Self { expected: "5s", time_to_live: "15s", ..Self::FAST };
}

/// One hub, some partitions, and a folder for documents and recordings.
#[derive(Debug)]
pub struct Fleet {
    /// The hub's server, whose requests can be made to fail.
    pub hub: KustoServer,
    /// The partitions' servers, in the order of [`REGIONS`].
    pub partitions: Vec<KustoServer>,
    /// Documents and recordings.
    pub folder: TempDir,
    recordings: PathBuf,
    pace: Pace,
}

/// The hub's databases.
pub const HUB_DATABASES: [&str; 3] = ["FleetDiscovery", "Logs", "Metrics"];

impl Fleet {
    /// Starts the servers and fills the partitions with sample telemetry.
    ///
    /// # Errors
    /// What a server refused.
    ///
    /// # Panics
    /// If a server does not start.
    pub async fn start(pace: Pace) -> Result<Self, AskError> {
        Self::start_with(pace, None, &[]).await
    }

    /// The same with recordings in a folder that stays, whatever becomes of this process.
    ///
    /// # Errors
    /// What a server refused.
    ///
    /// # Panics
    /// If a server does not start.
    pub async fn start_recording(pace: Pace, recordings: Option<PathBuf>) -> Result<Self, AskError> {
        Self::start_with(pace, recordings, &[]).await
    }

    /// The same, with so many milliseconds more for each answer of each server, also for those that the hub asks for.
    ///
    /// # Errors
    /// What a server refused.
    ///
    /// # Panics
    /// If a server does not start.
    pub async fn start_delayed(pace: Pace, milliseconds: u32) -> Result<Self, AskError> {
        Self::start_with(pace, None, &["--delay", &milliseconds.to_string()]).await
    }

    async fn start_with(pace: Pace, recordings: Option<PathBuf>, more: &[&str]) -> Result<Self, AskError> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let recordings = recordings.unwrap_or_else(|| folder.path().to_owned());
        let record = |name: &str| recordings.join(format!("{name}.jsonl"));
        let hub = KustoServer::start_faulty_with(&HUB_DATABASES, &record("hub"), more).await;
        let mut partitions = Vec::new();
        for region in REGIONS {
            let server = KustoServer::start(0, &["Logs", "Metrics"], &record(region.name), more).await;
            region.load(&server).await?;
            partitions.push(server);
        }
        Ok(Self { hub, partitions, folder, recordings, pace })
    }

    /// The file for the recording of a server; the server's port joins its name.
    pub fn recording(&self, name: &str) -> PathBuf {
        self.recordings.join(format!("{name}.jsonl"))
    }

    /// Writes a document into the folder.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn write_document(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.yaml"));
        fs::write(&path, text).expect("the temporary folder can be written");
        path
    }

    /// The hub's document.
    pub fn hub_document(&self) -> PathBuf {
        let Pace { heartbeat: _, expected, time_to_live, reconcile, retention } = self.pace;
        let endpoint = &self.hub.url;
        self.write_document(
            "hub",
            &format!(
                r#"apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: hub
spec:
  clusterName: hub
  endpoint: "{endpoint}"
  role: Federated
  federation:
    heartbeatDatabase: FleetDiscovery
    heartbeatTable: Heartbeats
    heartbeatTTL: {time_to_live}
    heartbeatInterval: {expected}
    heartbeatRetention: {retention}
    reconcileInterval: {reconcile}
    macroExpand:
      functionPrefix: federated_
      bestEffort: true
      folder: federation_facades
"#
            ),
        )
    }

    /// A partition's document.
    pub fn partition_document(&self, region: &Region, server: &KustoServer) -> PathBuf {
        let Region { name, geo, location, .. } = region;
        let (endpoint, hub, heartbeat) = (&server.url, &self.hub.url, self.pace.heartbeat);
        self.write_document(
            name,
            &format!(
                r#"apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: {name}
spec:
  clusterName: {name}
  endpoint: "{endpoint}"
  role: Partition
  federation:
    heartbeatInterval: {heartbeat}
    federatedClusters:
      - endpoint: "{hub}"
        heartbeatDatabase: FleetDiscovery
        heartbeatTable: Heartbeats
    partitioning:
      geo: {geo}
      location: {location}
"#
            ),
        )
    }

    /// All four documents.
    pub fn documents(&self) -> Vec<PathBuf> {
        let partitions = REGIONS.iter().zip(&self.partitions);
        let mut documents = vec![self.hub_document()];
        documents.extend(partitions.map(|(region, server)| self.partition_document(region, server)));
        documents
    }

    /// `operator standalone` over all documents.
    pub fn start_operator(&self) -> Process {
        self.start_operator_with(&[])
    }

    /// The same with arguments after the documents.
    pub fn start_operator_with(&self, more: &[&str]) -> Process {
        let mut arguments = vec!["standalone".to_owned()];
        for document in self.documents() {
            arguments.extend(["-f".to_owned(), document.display().to_string()]);
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Process::start("operator standalone", "operator", &arguments)
    }

    /// One agent of one document, with arguments after it.
    pub fn start_agent(&self, binary: &str, document: &Path, more: &[&str]) -> Process {
        let mut arguments = vec!["--config".to_owned(), document.display().to_string()];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Process::start(binary, binary, &arguments)
    }

    /// Stops all servers, so that their recordings are whole, and hands out the folder with them.
    pub async fn stop(self) -> TempDir {
        let Self { hub, partitions, folder, recordings: _, pace: _ } = self;
        for mut server in partitions.into_iter().chain([hub]) {
            server.process().signal(Signal::SIGTERM);
            server.process().exited_within(Duration::from_secs(60)).await;
        }
        folder
    }

    /// Asks the hub until the answer fits.
    ///
    /// # Panics
    /// With the last answer, if none fits within the limit.
    pub async fn hub_until(&self, database: &str, text: &str, limit: Duration, fits: impl Fn(&Table) -> bool) -> Table {
        let started = Instant::now();
        loop {
            let answer = match text.starts_with('.') {
                true => self.hub.command(database, text).await,
                false => self.hub.query(database, text).await,
            };
            match answer {
                Ok(table) if fits(&table) => return table,
                other if started.elapsed() > limit => {
                    panic!("after {limit:?}, `{text}` in {database} still gives {other:#?}")
                }
                _ => time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}
