//! The pass of the hub agent. I/O: all of it, through the steps.

mod memory;
mod preview;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future, stream};
use jiff::{SignedDuration, Timestamp};
use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, TableName},
    statements::{Canary, ClearRemoteSchema, Entity, HeartbeatSource, Source},
};
use shared::{
    document::HubConfig,
    kusto::{ClientError, HostTrust, KustoClient},
    runtime::{Backoff, ChangeAction, ChangeObject, Exit, GuardReason, PassOutcome, RefusalReason, World, chain},
};

use crate::{
    adopt::adopt,
    apply::{Outcome, all_nodes_forgot, apply},
    canary::Canaries,
    columns::StaleColumns,
    desired::RefusedNames,
    drift::Drift,
    fleet::{Beat, Fleet, Inventory},
    guards::HoldReason,
    hub::Hub,
    listings::Listings,
    membership::{Incomplete, Membership},
    observe::{
        HeartbeatMemory, HeartbeatReading, Known, ObjectMemory, ObserveError, read_heartbeats, read_hub, read_listings,
    },
    plan::{Change, Decision, Hold, Plan, plan},
    report::{Report, Work},
    settings::{self, Settings},
    setup::{self, Memory, Missing, SetUp, Setup, SetupError, Tables},
    texts::Texts,
    trust::{Admission, Trust, without_crowd},
    watcher::Watcher,
};

pub use preview::preview;

/// How many partitions' remembered columns are cleared at once.
const CONCURRENT_PARTITIONS: usize = 4;

/// How many canary queries run at once.
const CONCURRENT_CANARIES: usize = 16;

/// How long a partition may take to answer its canary query.
const CANARY_PATIENCE: Duration = Duration::from_secs(15);

/// After how many failures a pass asks no more since when databases are listed no longer.
const MOST_FAILED_PAGES: usize = 3;

/// What lives as long as the process.
struct HubAgent {
    hub: KustoClient,
    config: HubConfig,
    settings: Settings,
    trust: Trust,
    setup: Setup,
    memory: HeartbeatMemory,
    listings: Listings,
    objects: ObjectMemory,
    watcher: Watcher,
    canaries: Canaries,
    texts: Texts,
    columns: StaleColumns,
    /// Whether the last pass took a partition out of a group.
    has_removed: bool,
    drift: Drift,
    report: Report,
    world: World,
}

/// What a pass decides on.
struct Seen {
    now: Timestamp,
    fleet: Fleet,
    hub: Hub,
    problems: Vec<String>,
    /// What of it could not be read.
    failures: Vec<String>,
    /// The same, as `federation_status()` tells of it.
    incomplete: Incomplete,
    refused: BTreeMap<RefusalReason, usize>,
}

/// Why nothing can be decided.
enum Blind {
    /// The heartbeats were not read completely.
    Incomplete(ObserveError),
    /// The hub's objects, or our memory, were not read.
    Failed(ObserveError),
}

/// Passes on schedule until the stop.
pub async fn run(config: HubConfig, world: World) -> Exit {
    let mut cycle = world.cycle(config.schedule.clone());
    let mut backoff = Backoff::default();
    let Some(mut agent) = HubAgent::of_document(config, world) else { return Exit::BadConfiguration };
    if agent.trust.is_open() {
        let why = "neither allowedPartitions nor allowedPartitionPattern is set: every cluster of this cloud that beats is federated; '*' as the pattern says that this is meant";
        tracing::warn!(why, "whoever may write heartbeats decides whom the hub asks");
    }
    while let Some(now) = cycle.next().await {
        if cycle.takes_over() {
            agent.take_over();
        }
        let outcome = cycle.pass(Box::pin(agent.pass(now))).await;
        // Who leads now tells of what it sees.
        if !cycle.has_lost_the_lead() {
            agent.tell().await;
        }
        if agent.is_in_motion(outcome) {
            cycle.look_again_after(backoff.next_wait());
        } else {
            backoff.reset();
        }
    }
    cycle.exit()
}

impl HubAgent {
    /// Says in the log why the document's hub cannot be used, if it cannot.
    fn of_document(config: HubConfig, world: World) -> Option<Self> {
        let endpoint = config.endpoint.clone();
        let agent = Self::new(config, world);
        let agent = agent.inspect_err(|error| {
            let (path, error) = ("spec.endpoint", chain(error));
            tracing::error!(path, value = %endpoint, error, "the hub of the document cannot be used");
        });
        agent.ok()
    }

    fn new(config: HubConfig, world: World) -> Result<Self, ClientError> {
        let hub = KustoClient::new(config.endpoint.clone(), &config.credential, world.client_options())?;
        let report = Report::new(world.clone(), &config);
        let (settings, trust) = (Settings::from(&config), settings::trust(&config));
        let (setup, memory, listings, objects, watcher) = Default::default();
        let (canaries, texts, columns, drift) = Default::default();
        Ok(Self {
            hub,
            config,
            settings,
            trust,
            setup,
            memory,
            listings,
            objects,
            watcher,
            canaries,
            texts,
            columns,
            has_removed: false,
            drift,
            report,
            world,
        })
    }

    /// Another agent may have led meanwhile.
    fn take_over(&mut self) {
        self.watcher.take_over();
        // What it changed need not show in the version of a database.
        self.objects = ObjectMemory::default();
        // It may have done to tables what looks like somebody's doing.
        self.setup = Setup::default();
        self.drift = Drift::default();
        self.texts = Texts::default();
        self.report.take_over();
    }

    async fn pass(&mut self, now: Timestamp) -> PassOutcome {
        self.has_removed = false;
        let is_plan_only = self.config.is_plan_only || self.is_suspended().await;
        let (set_up, missing, tables) = match self.set_up(is_plan_only, now).await {
            Ok(done) => done,
            Err(error) => {
                self.watcher.lose_sight();
                return self.failed(now, &error);
            }
        };
        if is_plan_only && tables.has_no_heartbeats(&self.config) {
            self.watcher.lose_sight();
            return self.report.planned(now, &missing, &Plan::default(), &missing.left_alone);
        }
        let mut failures: Vec<String> = set_up.iter().filter_map(|set_up| set_up.result.clone().err()).collect();
        failures.extend(missing.left_alone.iter().cloned());
        let Seen { now: server_now, fleet, hub, mut problems, failures: unread, mut incomplete, refused } =
            match self.see(&tables).await {
                Ok(seen) => seen,
                Err(blind) => return self.blind(now, blind, (!is_plan_only).then_some(tables.memory), failures).await,
            };
        failures.extend(unread);
        self.report.fleet(&fleet, &refused);
        self.memory.count_from(server_now);
        let decision = plan(&fleet, &hub, &self.watcher.membership, server_now, &self.settings);
        self.watcher.note(&decision, server_now, self.settings.thresholds.time_to_live);
        if matches!(decision, Decision::Hold(_)) {
            self.watcher.membership.note_incomplete(&incomplete, server_now);
        }
        if !is_plan_only {
            failures.extend(self.record(server_now, tables.memory).await);
            problems.extend(self.watcher.membership.unrecorded(&self.watcher.recorded));
        }
        let mut plan = match decision {
            Decision::Apply(plan) => plan,
            Decision::Hold(hold) => {
                if is_plan_only {
                    self.report.show_held(&missing, &hold);
                } else {
                    failures.extend(self.record_left(now).await);
                }
                return self.report.held(now, &hold, [failures, problems].concat());
            }
        };
        plan.problems.extend(problems);
        if is_plan_only {
            return self.report.planned(now, &missing, &plan, &failures);
        }
        self.has_removed = plan.changes.iter().any(Change::removes);
        failures.extend(self.doubt_repairs(&hub, &plan.changes).await);
        let Outcome { applied, repairs, recorded } =
            apply(&self.hub, &self.config, &hub, plan.clone(), &mut self.drift, now).await;
        self.report.wrote(ChangeObject::Record, ChangeAction::Alter, recorded.written, recorded.failures.len());
        failures.extend(recorded.failures);
        self.texts.note(&hub, &applied);
        let unchanged = applied.iter().filter(|applied| applied.result.is_err());
        incomplete.unchanged = unchanged.map(|applied| applied.change.database().clone()).collect();
        self.watcher.membership.note_incomplete(&incomplete, server_now);
        failures.extend(self.clear_remote_schemas().await);
        failures.extend(self.remember_columns(server_now, tables.memory).await);
        applied.iter().for_each(|applied| self.objects.forget(applied.change.database()));
        let work = Work { set_up: &set_up, plan: &plan, applied: &applied, repairs: &repairs, failures: &failures };
        self.report.done(now, &hub, &self.settings.folder, &work)
    }

    /// Whether the next pass is likely to have work before its time: what failed may work again, and where one partition has joined, or none has beaten yet, others are
    /// about to.
    fn is_in_motion(&self, outcome: PassOutcome) -> bool {
        match outcome {
            PassOutcome::Failed => true,
            // The next pass would spend the budget of removals again, which is that of an interval.
            PassOutcome::Done | PassOutcome::Partial => {
                !self.has_removed && !self.watcher.membership.is_held_by(GuardReason::RemovalBudget)
            }
            PassOutcome::Held => {
                let membership = &self.watcher.membership;
                membership.partitions.is_empty() || membership.watching_since.is_none()
            }
            // Nothing is written before it is known whether a person has suspended that.
            PassOutcome::Unchanged | PassOutcome::Planned => {
                let status = self.world.status.as_ref().filter(|_| !self.config.is_plan_only);
                status.is_some_and(|status| !status.knows_whether_suspended())
            }
        }
    }

    /// Makes the tables and tells what was done, or tells what they lack.
    async fn set_up(
        &mut self,
        is_plan_only: bool,
        now: Timestamp,
    ) -> Result<(Vec<SetUp>, Missing, Tables), SetupError> {
        if is_plan_only {
            // What it sees is known to no pass that writes.
            self.setup.doubt();
            let (missing, tables) = setup::look(&self.hub, &self.config).await?.into_parts();
            return Ok((Vec::new(), missing, tables));
        }
        let doubtful = self.doubtful_tables();
        let found = self.setup.look_if_due(&self.hub, &self.config, doubtful).await?;
        // Before anything is made: it is how a repair is told.
        self.recall_left(&found).await?;
        self.note_table_changes(&found, now).await;
        if found.memory != Memory::Kept {
            // Whatever fails after this, a later pass writes it whole.
            self.watcher.recorded = Membership::default();
        }
        let (done, tables) = self.setup.make(&self.hub, &self.config, found).await;
        self.report.set_up(&done);
        for (table, content) in self.setup.right_tables(&self.config) {
            self.drift.table_is_right(table, content);
        }
        Ok((done, Missing::default(), tables?))
    }

    /// Reads the heartbeats and the hub, and judges the partitions.
    async fn see(&mut self, tables: &Tables) -> Result<Seen, Blind> {
        let hub = read_hub(&self.hub, &self.config, !tables.lacks_ownership, &mut self.objects).await;
        let hub = hub.map(|mut hub| {
            self.texts.learn(&mut hub);
            adopt(&mut hub, &self.settings);
            hub
        });
        let members: BTreeSet<ClusterEndpoint> =
            hub.iter().flat_map(Hub::members).map(|entity| entity.cluster.clone()).collect();
        let trusted = may_be_partition(&self.config, &self.world.trust);
        // A canary query asks what its partition's schema names, and whom a guard keeps is federated like any other.
        let admitted = |endpoint: &ClusterEndpoint| {
            members.contains(endpoint)
                || self.trust.failed_canaries.contains_key(endpoint)
                || self.trust.admission(endpoint) == Admission::Admitted
        };
        let known = || {
            let needed = members.iter().chain(self.trust.allowed.iter().flatten()).cloned().collect();
            let watched = self.watcher.membership.partitions.keys().cloned().collect();
            let pattern = self.trust.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
            Known { needed, watched, pattern }
        };
        let unread = &tables.unread;
        let reading =
            read_heartbeats(&self.hub, &self.config, unread, &mut self.memory, known, trusted, admitted).await;
        let mut reading = reading.map_err(Blind::Incomplete)?;
        self.columns.read(reading.changed, reading.first);
        let hub = hub.map_err(Blind::Failed)?;
        let unrecalled = self.recall(reading.now, tables).await.map_err(Blind::Failed)?;
        reading.failures.extend(unrecalled);
        self.ask_new_partitions(&reading.beats, &hub, reading.now).await;
        let (beats, left_out) = without_crowd(reading.beats, &members, &self.trust);
        if left_out > 0 {
            *reading.refused.entry(RefusalReason::Untrusted).or_default() += left_out;
            reading.problems.push(format!("{left_out} more partitions beat that may not be federated"));
        }
        reading.beats = beats;
        reading.failures.extend(self.ask_for_unlisted(&mut reading.beats, &hub, tables, reading.now).await);
        let mut refused = RefusedNames::new(&self.settings);
        for beat in &mut reading.beats {
            let of_it = refused.of(beat);
            beat.problems.extend(of_it.into_iter().map(Arc::from));
        }
        let fleet = self.watcher.see(reading.beats, &hub, &self.trust, reading.now, &self.settings);
        if let HeartbeatSource::PerPartition(own) = &self.config.heartbeats {
            let unlooked = own.iter().filter(|(table, _)| !tables.looked_at.contains(*table));
            self.watcher.doubt_silences(&fleet, unlooked.map(|(_, owner)| owner), reading.now);
        }
        self.columns.judge(self.watcher.membership.outdated(&fleet), &fleet);
        let HeartbeatReading { now, problems, failures, unfetched: schemas, refused, .. } = reading;
        let unread = hub.databases.iter().filter(|(_, database)| database.groups.is_err());
        let unread = unread.map(|(name, _)| name.clone()).collect();
        let incomplete = Incomplete { unread, schemas, ..Incomplete::default() };
        Ok(Seen { now, fleet, hub, problems, failures, incomplete, refused })
    }

    /// Tells partitions what of them stays although they list it no longer, by what the heartbeat table says of that. Says in a sentence if that could not be read: then all of it stays.
    async fn ask_for_unlisted(
        &mut self,
        beats: &mut [Beat],
        hub: &Hub,
        tables: &Tables,
        now: Timestamp,
    ) -> Option<String> {
        self.listings.see(beats, hub, now, &self.settings.thresholds);
        self.columns.read(self.listings.take_changed(), []);
        let answered = self.ask_listings(tables, now).await;
        self.listings.tell(beats);
        answered.err().map(|error| format!("what is listed no longer stays: {}", chain(&error)))
    }

    /// Page by page: since when databases are listed no longer, and what was in them.
    async fn ask_listings(&mut self, tables: &Tables, now: Timestamp) -> Result<(), ObserveError> {
        let (hub, config, unread, memory) = (&self.hub, &self.config, &tables.unread, &mut self.memory);
        let thresholds = &self.settings.thresholds;
        let mut failures = Vec::new();
        for with_content in [false, true] {
            let pages = if with_content { self.listings.lacking() } else { self.listings.due(now, thresholds) };
            for page in pages {
                // What is wrong with one partition's rows is nothing to the others; a hub that is down is.
                if failures.len() == MOST_FAILED_PAGES {
                    break;
                }
                match read_listings(hub, config, unread, &page, with_content, memory).await {
                    Ok(told) if with_content => self.listings.learn_contents(&page, told),
                    Ok(told) => self.listings.learn(&page, told, now, thresholds),
                    Err(error) => failures.push(error),
                }
            }
        }
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Where each partition has its own table: those of members that are silent or unread, as it may have no table any more that takes its heartbeats. That is looked at before a silence counts,
    /// and where one may expire between two passes, each time.
    fn doubtful_tables(&self) -> BTreeSet<TableName> {
        let HeartbeatSource::PerPartition(own) = &self.config.heartbeats else { return BTreeSet::new() };
        // Then a partition may be silent for the first time in the pass in which it expires.
        let is_seldom = self.spacing() > self.settings.thresholds.silence_before_expiry();
        let is_doubtful = |owner: &ClusterEndpoint| {
            let known = self.watcher.membership.partitions.get(owner);
            known.is_some_and(|known| known.is_member && (is_seldom || known.may_be_unread()))
        };
        own.iter().filter(|(_, owner)| is_doubtful(owner)).map(|(table, _)| table.clone()).collect()
    }

    /// How long after its last look this process looks again by its schedule, and half of that.
    fn spacing(&self) -> SignedDuration {
        let next = self.watcher.seen_at.map(|at| self.config.schedule.delay_after(at, 0.0).unwrap_or_default());
        let next = SignedDuration::try_from(next.unwrap_or_default().saturating_mul(3) / 2);
        next.unwrap_or(SignedDuration::MAX)
    }

    /// How long after its last look this process looks again at the latest. Who looks less often than partitions expire is not blind in between.
    fn patience(&self) -> SignedDuration {
        self.spacing().max(self.settings.thresholds.time_to_live)
    }

    /// The canary query, where the document asks for it: of partitions that no group of ours lists, and that nothing else keeps out. However many do not answer,
    /// a pass waits for them only so long.
    async fn ask_new_partitions(&mut self, beats: &[Beat], hub: &Hub, now: Timestamp) {
        // Where no group can be read, members would look like new partitions.
        if !self.config.trust.canary || hub.databases.values().all(|database| database.groups.is_err()) {
            return;
        }
        let members: BTreeSet<_> = hub.members().map(|entity| &entity.cluster).collect();
        self.trust.failed_canaries.clear();
        // Who has joined and left again is as new as anyone.
        self.canaries.sound.retain(|endpoint| !members.contains(endpoint));
        let is_new = |beat: &&Beat| {
            beat.unread.is_none()
                && !members.contains(&beat.endpoint)
                && now.duration_since(beat.received) <= self.settings.thresholds.time_to_live
                && !self.canaries.sound.contains(&beat.endpoint)
                && self.trust.admission(&beat.endpoint) == Admission::Admitted
        };
        let new: Vec<&Beat> = beats.iter().filter(is_new).collect();
        let due = self.canaries.due(new.iter().map(|beat| &beat.endpoint), now);
        let (hub, database) = (&self.hub, &self.config.heartbeat_database);
        let answers = stream::iter(new.into_iter().filter(|beat| due.contains(&beat.endpoint))).map(async |beat| {
            let answer = match canary_of(beat) {
                Some((entity, table, source)) => {
                    let request = Canary { database, entity: &entity, table: &table, source }.request();
                    match tokio::time::timeout(CANARY_PATIENCE, hub.send(&request)).await {
                        Ok(answer) => answer.map(drop).map_err(|error| chain(&error)),
                        Err(_) => Err(format!("no answer within {CANARY_PATIENCE:?}")),
                    }
                }
                None => Err("it announces no table or view that could be asked".to_owned()),
            };
            (beat.endpoint.clone(), answer)
        });
        let answers: Vec<_> = answers.buffer_unordered(CONCURRENT_CANARIES).collect().await;
        for (endpoint, answer) in answers {
            self.canaries.answered(endpoint, answer, now);
        }
        self.trust.failed_canaries = self.canaries.failures();
    }

    /// In Kubernetes: whether a person has suspended this agent's ADXCluster, or may have.
    async fn is_suspended(&mut self) -> bool {
        match &mut self.world.status {
            Some(status) => status.is_suspended().await,
            None => false,
        }
    }

    /// In Kubernetes: the ADXCluster's status says what this pass saw and did.
    async fn tell(&mut self) {
        if let Some(status) = &mut self.world.status {
            status.write(self.report.federation()).await;
        }
    }

    /// The hub remembers partitions' columns; where they changed, it must ask again, or queries go on with the old ones. Says in a sentence if that failed.
    async fn clear_remote_schemas(&mut self) -> Option<String> {
        let (hub, database) = (&self.hub, &self.config.heartbeat_database);
        let due = self.columns.due();
        let count = due.len();
        let clears = stream::iter(&due).map(async |stale| {
            let (cluster, remote_database) = stale;
            let request = ClearRemoteSchema { database, cluster, remote_database }.request();
            let answer = hub.send(&request).await.map_err(|error| chain(&error));
            let why = answer.and_then(|nodes| all_nodes_forgot(&nodes)).err()?;
            Some((stale.clone(), why))
        });
        let failed = clears.buffer_unordered(CONCURRENT_PARTITIONS).filter_map(future::ready);
        let failed: BTreeMap<(ClusterEndpoint, DatabaseName), String> = failed.collect().await;
        self.report.wrote(ChangeObject::RemoteSchema, ChangeAction::Drop, count - failed.len(), failed.len());
        // One sentence for all: they mostly fail alike.
        let problem = failed.first_key_value().map(|((cluster, database), why)| {
            let count = failed.len();
            format!("failed to clear a remote schema, {count} in all, which is tried again: '{database}' of {cluster}: {why}")
        });
        self.columns.told_of(&due, &failed.into_keys().collect());
        problem
    }

    /// A hub that does not answer may not be set up any more. `memory` is where it is recorded that nothing is seen, if anything may be written: a guard, which decides
    /// nothing, and not what was seen of partitions.
    async fn blind(
        &mut self,
        now: Timestamp,
        blind: Blind,
        memory: Option<Memory>,
        mut failures: Vec<String>,
    ) -> PassOutcome {
        self.setup.doubt();
        self.watcher.lose_sight();
        self.listings.lose_sight();
        match blind {
            Blind::Incomplete(error) => {
                let reason = HoldReason::IncompleteRead { why: chain(&error) };
                // By this machine's clock, as the hub has not told its own.
                self.watcher.membership.note_guard(reason.label(), &reason.to_string(), now);
                if let Some(memory) = memory {
                    failures.extend(self.record_guards(now, memory).await);
                }
                self.report.held(now, &Hold { reason, released: None, kept: BTreeMap::new() }, failures)
            }
            Blind::Failed(error) => self.failed(now, &error),
        }
    }

    fn failed(&mut self, now: Timestamp, error: &(dyn std::error::Error + 'static)) -> PassOutcome {
        self.report.failed(now, chain(error))
    }
}

/// A table or view of a partition that its canary query asks.
fn canary_of(beat: &Beat) -> Option<(Entity, TableName, Source)> {
    let Inventory::Known(inventory) = &beat.inventory else { return None };
    inventory.0.iter().find_map(|(database, content)| {
        let table = content.tables.keys().next().map(|table| (table, Source::Table));
        let (name, source) = table.or_else(|| content.views.keys().next().map(|view| (view, Source::View)))?;
        Some((Entity { cluster: beat.endpoint.clone(), database: database.clone() }, name.clone(), source))
    })
}

/// A partition is a Kusto cluster of the hub's cloud; beside a hub on this machine, also one on this machine.
fn may_be_partition<'a>(
    config: &HubConfig,
    trust: &'a HostTrust,
) -> impl Fn(&ClusterEndpoint) -> Result<(), &'static str> + use<'a> {
    let local = config.endpoint.is_loopback();
    let hub = config.endpoint.clone();
    move |endpoint| {
        if *endpoint == hub {
            return Err("it is this hub, which cannot be a partition of its own");
        }
        let is_kusto = trust.trusts(endpoint) || (local && endpoint.is_loopback());
        if is_kusto { Ok(()) } else { Err("it is no Kusto endpoint of this cloud") }
    }
}

#[cfg(test)]
mod tests;
