//! The pass of the hub agent, and its dry run. I/O: all of it, through the steps.

use std::{collections::BTreeSet, io::Write as _, mem};

use futures::{StreamExt as _, future, stream};
use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName, statements::ClearRemoteSchema};
use shared::{
    document::HubConfig,
    kusto::{ClientError, Cloud, KustoClient},
    runtime::{Exit, PassOutcome, World, chain},
};

use crate::{
    apply::apply,
    fleet::{Thresholds, judge},
    observe::{HeartbeatMemory, read_heartbeats, read_hub},
    plan::{Decision, HoldReason, Recovery, plan},
    report::{Report, Work},
    settings::Settings,
    setup::{self, Setup},
};

/// How many partitions' remembered columns are cleared at once.
const CONCURRENT_CLEARS: usize = 4;

/// What lives as long as the process.
struct HubAgent {
    hub: KustoClient,
    config: HubConfig,
    settings: Settings,
    setup: Setup,
    memory: HeartbeatMemory,
    /// Partition databases whose columns changed, and of which the hub has not been told yet.
    stale: BTreeSet<(ClusterEndpoint, DatabaseName)>,
    recovery: Recovery,
    report: Report,
    world: World,
}

/// Passes on schedule until the stop.
pub async fn run(config: HubConfig, world: World) -> Exit {
    let mut cycle = world.cycle(config.schedule.clone());
    let mut agent = match HubAgent::new(config, world) {
        Ok(agent) => agent,
        Err(error) => {
            tracing::error!(error = chain(&error), "the hub cannot be used");
            return Exit::BadConfiguration;
        }
    };
    while let Some(now) = cycle.next().await {
        cycle.pass(agent.pass(now)).await;
        agent.tell().await;
    }
    cycle.exit()
}

impl HubAgent {
    fn new(config: HubConfig, world: World) -> Result<Self, ClientError> {
        let hub = KustoClient::new(config.endpoint.clone(), &config.credential, world.client_options())?;
        let report = Report::new(world.clone(), &config);
        let settings = settings(&config);
        let (setup, memory, stale, recovery) = Default::default();
        Ok(Self { hub, config, settings, setup, memory, stale, recovery, report, world })
    }

    async fn pass(&mut self, now: Timestamp) -> PassOutcome {
        let set_up = match self.setup.ensure(&self.hub, &self.config).await {
            Ok(commands) => commands,
            Err(error) => return self.failed(now, &error),
        };
        self.report.set_up(&set_up);
        let reading = match read_heartbeats(
            &self.hub,
            &self.config,
            &mut self.memory,
            may_be_partition(&self.config, self.world.cloud),
        )
        .await
        {
            Ok(reading) => reading,
            Err(error) => {
                self.setup.doubt();
                return self.report.held(now, &HoldReason::IncompleteRead { why: chain(&error) }, Vec::new());
            }
        };
        self.stale.extend(reading.changed);
        let fleet = judge(reading.beats, reading.now, self.settings.thresholds);
        self.report.fleet(&fleet);
        let hub = match read_hub(&self.hub, &self.config, true).await {
            Ok(hub) => hub,
            Err(error) => {
                self.setup.doubt();
                return self.failed(now, &error);
            }
        };
        let decision = plan(&fleet, &hub, &self.settings, self.recovery.until());
        self.recovery.note(&decision, reading.now, self.settings.thresholds.time_to_live);
        let mut plan = match decision {
            Decision::Apply(plan) => plan,
            Decision::Hold(reason) => return self.report.held(now, &reason, reading.problems),
        };
        plan.problems.extend(reading.problems);
        let applied = apply(&self.hub, &self.config, plan.clone(), now).await;
        self.clear_remote_schemas().await;
        self.report.done(now, &hub, &self.settings.folder, &Work { set_up: &set_up, plan: &plan, applied: &applied })
    }

    /// In Kubernetes: the ADXCluster's status says what this pass saw and did.
    async fn tell(&mut self) {
        if let Some(status) = &mut self.world.status {
            status.write(self.report.federation()).await;
        }
    }

    /// The hub remembers partitions' columns; where they changed, it must ask again, or queries go on with the old ones.
    async fn clear_remote_schemas(&mut self) {
        let (hub, database) = (&self.hub, &self.config.heartbeat_database);
        let clears = stream::iter(mem::take(&mut self.stale)).map(async |(cluster, remote_database)| {
            let request =
                ClearRemoteSchema { database, cluster: &cluster, remote_database: &remote_database }.request();
            let error = hub.send(&request).await.err()?;
            tracing::warn!(error = chain(&error), "failed to clear a remote schema, which is tried again");
            Some((cluster, remote_database))
        });
        self.stale = clears.buffer_unordered(CONCURRENT_CLEARS).filter_map(future::ready).collect().await;
    }

    fn failed(&mut self, now: Timestamp, error: &dyn std::error::Error) -> PassOutcome {
        self.report.failed(now, chain(error))
    }
}

/// A partition is a Kusto cluster of the hub's cloud; beside a hub on this machine, also one on this machine.
fn may_be_partition(config: &HubConfig, cloud: Cloud) -> impl Fn(&ClusterEndpoint) -> bool {
    let local = config.endpoint.is_loopback();
    move |endpoint| cloud.trusts(endpoint) || (local && endpoint.is_loopback())
}

fn settings(config: &HubConfig) -> Settings {
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    Settings {
        thresholds: Thresholds {
            time_to_live: signed(config.heartbeat_ttl),
            interval: signed(config.heartbeat_interval),
        },
        function_prefix: config.function_prefix.clone(),
        folder: config.folder.clone(),
        best_effort: config.best_effort,
    }
}

/// Prints what a pass would do and why, and changes nothing.
pub async fn preview(config: HubConfig, world: World) -> Exit {
    let agent = match HubAgent::new(config, world.clone()) {
        Ok(agent) => agent,
        Err(error) => {
            tracing::error!(error = chain(&error), "the hub cannot be used");
            return Exit::BadConfiguration;
        }
    };
    let preview = tokio::select! {
        preview = preview_text(agent) => preview,
        () = world.stop.cancelled() => return Exit::Failed,
    };
    match preview {
        Ok((text, exit)) => {
            // Where nobody reads any more, as behind `| head`, there is nobody to tell.
            let _ = writeln!(std::io::stdout(), "{text}");
            exit
        }
        Err(why) => {
            tracing::error!(error = why, "no plan could be made");
            Exit::Failed
        }
    }
}

async fn preview_text(agent: HubAgent) -> Result<(String, Exit), String> {
    let HubAgent { hub, config, settings, mut memory, world, .. } = agent;
    let missing = setup::look(&hub, &config).await.map_err(|error| chain(&error))?;
    let mut lines: Vec<String> = missing.commands.iter().map(|command| format!("set up: {}", command.text())).collect();
    if missing.heartbeat_table {
        lines.push("The rest follows from the heartbeats, and there is no heartbeat table yet.".to_owned());
        return Ok((lines.join("\n"), Exit::Done));
    }
    let held = |mut lines: Vec<String>, reason: HoldReason, problems: &[String]| {
        lines.push(format!("held: {reason}"));
        lines.extend(problems.iter().map(|problem| format!("problem: {problem}")));
        Ok((lines.join("\n"), Exit::Held))
    };
    let reading = match read_heartbeats(&hub, &config, &mut memory, may_be_partition(&config, world.cloud)).await {
        Ok(reading) => reading,
        Err(error) => return held(lines, HoldReason::IncompleteRead { why: chain(&error) }, &[]),
    };
    let fleet = judge(reading.beats, reading.now, settings.thresholds);
    let present = read_hub(&hub, &config, !missing.ownership_table).await.map_err(|error| chain(&error))?;
    // A dry run remembers no guard of an earlier pass.
    let plan = match plan(&fleet, &present, &settings, None) {
        Decision::Apply(plan) => plan,
        Decision::Hold(reason) => return held(lines, reason, &reading.problems),
    };
    let exit = if plan.held.is_some() { Exit::Held } else { Exit::Done };
    lines.extend(plan.held.iter().map(|reason| format!("held: {reason}")));
    lines.extend(plan.changes.iter().map(|change| format!("{change}: {}", change.reason())));
    if lines.is_empty() {
        lines.push("Nothing has to change.".to_owned());
    }
    lines.extend(reading.problems.iter().chain(&plan.problems).map(|problem| format!("problem: {problem}")));
    Ok((lines.join("\n"), exit))
}
