//! What a pass did, for those who watch: metrics, status, readiness, logs. No I/O beyond those.

mod planned;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName};
use serde::{Serialize, Serializer};
use serde_json::Value;
use shared::{
    document::{
        HubConfig,
        status::{self, FederationStatus, whole_seconds},
    },
    runtime::{
        ChangeAction, ChangeObject, ChangeOutcome, GuardReason, PartitionState, PassOutcome, RefusalReason, World,
    },
};

use crate::{
    apply::Applied,
    fleet::{Fleet, Inventory, Partition, missed_beats},
    guards::HoldReason,
    hub::Hub,
    plan::{Change, Hold, Plan, Released},
    setup::{Missing, SetUp},
};
use planned::{Logged, planned_change, planned_of};
pub use planned::{SET_UP, planned_outcome};

/// Remembers what was reported, so that counters count each thing once and logs say each thing once.
#[derive(Debug)]
pub struct Report {
    world: World,
    status: Status,
    guards: BTreeSet<GuardReason>,
    /// What held in the last pass that saw, in sentences, and what would be done without that.
    held: (Vec<String>, Option<PlanStatus>),
    /// The plan that the document acknowledges, until it was made.
    acknowledged: Option<String>,
    logged: Logged,
    /// How often partitions beat.
    interval: SignedDuration,
    missed: BTreeMap<ClusterEndpoint, Missed>,
    /// What the pass that runs has undone so far.
    repairs: Vec<String>,
}

/// What a pass set out to do, and how it went.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// What was done to set up the tables.
    pub set_up: &'a [SetUp],
    /// The plan.
    pub plan: &'a Plan,
    /// Its changes.
    pub applied: &'a [Applied],
    /// Those of them that undid what somebody else did, in sentences.
    pub repairs: &'a [String],
    /// Commands beside the plan that the hub refused, in sentences: of the set-up, of records, of what it remembers.
    pub failures: &'a [String],
}

/// The missed beats that were counted since a partition's newest beat.
#[derive(Debug, Clone, Copy)]
struct Missed {
    since: Timestamp,
    counted: u64,
}

/// `/status`
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    hub: String,
    partitions: Vec<PartitionStatus>,
    objects: BTreeMap<String, Objects>,
    last_pass: Option<LastPass>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionStatus {
    endpoint: String,
    state: PartitionState,
    since: Timestamp,
    /// Why, where the state alone does not tell.
    reason: Option<String>,
    /// The guard because of which it stays federated.
    kept_by: Option<GuardReason>,
    /// Absent where the heartbeat table remembers none.
    last_beat: Option<Timestamp>,
    missed_beats: u64,
    /// Absent while no schema of it could be read.
    databases: Option<BTreeMap<String, usize>>,
    #[serde(serialize_with = "shared_attributes")]
    metadata: Arc<BTreeMap<String, Value>>,
    #[serde(serialize_with = "shared_texts")]
    problems: Vec<Arc<str>>,
}

fn shared_attributes<S: Serializer>(attributes: &BTreeMap<String, Value>, serializer: S) -> Result<S::Ok, S::Error> {
    attributes.serialize(serializer)
}

fn shared_texts<S: Serializer>(texts: &[Arc<str>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|text| &**text))
}

/// What we made in one hub database.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Objects {
    entity_groups: BTreeSet<String>,
    functions: BTreeSet<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct LastPass {
    at: Timestamp,
    outcome: PassOutcome,
    /// Why something was not changed although it might have to be.
    held: Vec<String>,
    /// What would be done if nothing were held, or if changes were made at all.
    planned: Option<PlanStatus>,
    /// Why the pass could do nothing.
    failure: Option<String>,
    changes: Vec<ChangeStatus>,
    /// Changes that undid what somebody else did to our objects.
    repairs: Vec<String>,
    problems: Vec<String>,
    /// Databases that partitions have and the hub lacks.
    missing_databases: Vec<String>,
}

/// Changes that are not made now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanStatus {
    /// What a person acknowledges where a guard holds it.
    hash: String,
    changes: Vec<ChangeStatus>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeStatus {
    change: String,
    reason: String,
    failure: Option<String>,
}

impl Report {
    /// Nothing has happened yet.
    pub fn new(world: World, config: &HubConfig) -> Self {
        let status = Status { hub: config.endpoint.to_string(), ..Status::default() };
        let interval = SignedDuration::try_from(config.heartbeat_interval).unwrap_or(SignedDuration::MAX);
        let acknowledged = config.acknowledged_plan.clone();
        let (guards, held, logged, missed, repairs) = Default::default();
        Self { world, status, guards, held, acknowledged, logged, interval, missed, repairs }
    }

    /// What held when this process led before may be over.
    pub fn take_over(&mut self) {
        (self.guards, self.held) = Default::default();
    }

    /// The fleet as it was judged: partitions in metrics and status.
    pub fn fleet(&mut self, fleet: &Fleet, refused: &BTreeMap<RefusalReason, usize>) {
        let metrics = &self.world.metrics;
        for reason in RefusalReason::ALL {
            let partitions =
                |refuses: fn(&Partition) -> bool| fleet.values().filter(|partition| refuses(partition)).count();
            let count = match reason {
                RefusalReason::Untrusted => {
                    let crowd = refused.get(reason).copied().unwrap_or(0);
                    partitions(|partition| partition.state == PartitionState::Untrusted) + crowd
                }
                RefusalReason::Content => partitions(|partition| !partition.beat.problems.is_empty()),
                _ => refused.get(reason).copied().unwrap_or(0),
            };
            metrics.refused_heartbeats(*reason, count);
        }
        for state in PartitionState::ALL {
            metrics.partitions(*state, fleet.values().filter(|partition| partition.state == *state).count());
        }
        // Anyone who may write heartbeats may make up endpoints: those that are not let in are counted, and have no series of their own.
        let is_watched = |partition: &Partition| {
            !partition.is_forgotten() && !matches!(partition.state, PartitionState::Untrusted | PartitionState::Blocked)
        };
        for (endpoint, partition) in fleet.iter().filter(|(_, partition)| is_watched(partition)) {
            metrics.partition_heartbeat(endpoint, partition.beat.received);
            let missed = self.missed.entry(endpoint.clone());
            let missed = missed.or_insert(Missed { since: partition.beat.received, counted: partition.missed_beats });
            if missed.since != partition.beat.received {
                // What was missed before the newest beat came and had not been counted while it was awaited.
                let gap = partition.beat.received.duration_since(missed.since);
                let between = missed_beats(gap, partition.beat.new_beats.saturating_sub(1), self.interval);
                metrics.missed_heartbeats(endpoint, between.saturating_sub(missed.counted));
                *missed = Missed { since: partition.beat.received, counted: 0 };
            }
            metrics.missed_heartbeats(endpoint, partition.missed_beats.saturating_sub(missed.counted));
            missed.counted = missed.counted.max(partition.missed_beats);
        }
        self.missed.retain(|endpoint, _| {
            let is_watched = fleet.get(endpoint).is_some_and(is_watched);
            if !is_watched {
                metrics.forget_partition(endpoint);
            }
            is_watched
        });
        self.log_transitions(fleet);
        self.status.partitions = fleet.values().map(partition_status).collect();
    }

    fn log_transitions(&self, fleet: &Fleet) {
        let known: BTreeMap<&str, &PartitionStatus> =
            self.status.partitions.iter().map(|known| (known.endpoint.as_str(), known)).collect();
        for (endpoint, partition) in fleet {
            let before = known.get(endpoint.as_str());
            if before.is_none_or(|known| known.state != partition.state) {
                let before = before.map(|known| known.state.as_str());
                let reason = partition.reason.as_deref();
                tracing::info!(partition = %endpoint, state = %partition.state, before, reason, "partition changed its state");
            }
            for problem in &partition.beat.problems {
                if before.is_none_or(|known| !known.problems.contains(problem)) {
                    tracing::warn!(partition = %endpoint, problem = &**problem, "heartbeat has a problem");
                }
            }
        }
    }

    /// The pass could not do its work.
    pub fn failed(&mut self, at: Timestamp, why: String) -> PassOutcome {
        tracing::error!(error = why, "pass failed");
        self.world.admin.set_ready(false, format!("the last pass failed: {why}"));
        self.end(LastPass { failure: Some(why), ..LastPass::new(at, PassOutcome::Failed) }, &[])
    }

    /// The pass changed nothing, to be safe.
    pub fn held(&mut self, at: Timestamp, hold: &Hold, problems: Vec<String>) -> PassOutcome {
        let Hold { reason, released, kept } = hold;
        let sees = !matches!(reason, HoldReason::IncompleteRead { .. });
        if sees {
            self.keep(kept);
        }
        let problems = each_once(problems);
        self.log_new_problems(&problems);
        let plan = released.as_ref().map(|released| released.hash.as_str());
        tracing::warn!(reason = %reason, plan, "pass is held");
        self.world.admin.set_ready(sees, format!("the last pass was held: {reason}"));
        let held = self.sentences(std::slice::from_ref(reason), released.as_ref());
        let planned = released.as_ref().map(planned_of);
        let pass = LastPass { held, planned, problems, ..LastPass::new(at, PassOutcome::Held) };
        self.end(pass, std::slice::from_ref(reason))
    }

    /// The pass did what it could.
    pub fn done(&mut self, at: Timestamp, hub: &Hub, folder: &str, work: &Work<'_>) -> PassOutcome {
        let Work { set_up, plan, applied, repairs, failures } = *work;
        for applied in applied {
            self.change(applied);
        }
        self.repairs.extend_from_slice(repairs);
        let problems = each_once(failures.iter().chain(&plan.problems).cloned());
        self.log_new_problems(&problems);
        self.keep(&plan.kept);
        self.status.objects = objects(hub, folder, applied);
        let refused = applied.iter().filter(|applied| applied.result.is_err()).count();
        let failed = refused + plan.unread_databases + failures.len();
        let outcome = ended(failed, !plan.held.is_empty(), applied.len() + set_up.len(), PassOutcome::Done);
        self.log_guards(plan);
        if !plan.acknowledged.is_empty() && refused == 0 {
            self.acknowledged = None;
        }
        self.world.admin.set_ready(true, format!("the last pass ended: {outcome}"));
        let pass = LastPass {
            held: self.sentences(&plan.held, plan.released.as_ref()),
            planned: plan.released.as_ref().map(planned_of),
            changes: applied.iter().map(change_status).collect(),
            problems,
            missing_databases: names(&plan.missing_databases),
            ..LastPass::new(at, outcome)
        };
        self.end(pass, &plan.held)
    }

    /// Where no changes are made at all, the log has what would be done without a hold, too.
    pub fn show_held(&mut self, missing: &Missing, hold: &Hold) {
        match &hold.released {
            Some(released) => self.logged.log(&missing.commands, &released.hash, &released.changes),
            None => self.logged.log(&missing.commands, "", &[]),
        }
    }

    /// The pass worked out what it would change, and changed nothing. `failures`: what could not be read, or is left alone of the set-up, in sentences.
    pub fn planned(&mut self, at: Timestamp, missing: &Missing, plan: &Plan, failures: &[String]) -> PassOutcome {
        let problems = each_once(failures.iter().chain(&plan.problems).cloned());
        self.log_new_problems(&problems);
        self.log_guards(plan);
        let outcome = planned_outcome(missing, plan, failures);
        let set_up = missing.commands.iter().map(|command| ChangeStatus {
            change: command.text().to_owned(),
            reason: SET_UP.to_owned(),
            failure: None,
        });
        // Where something is held, what a person may acknowledge: it has the other changes in it.
        let (hash, changes) = match &plan.released {
            Some(released) => (released.hash.clone(), &released.changes),
            None => (plan.hash(&missing.commands), &plan.changes),
        };
        self.logged.log(&missing.commands, &hash, changes);
        let changes: Vec<_> = set_up.chain(changes.iter().map(planned_change)).collect();
        let planned = (!changes.is_empty()).then_some(PlanStatus { hash, changes });
        self.keep(&plan.kept);
        self.world.admin.set_ready(true, format!("the last pass ended: {outcome}"));
        let held = self.sentences(&plan.held, plan.released.as_ref());
        let missing_databases = names(&plan.missing_databases);
        let pass = LastPass { held, planned, problems, missing_databases, ..LastPass::new(at, outcome) };
        self.end(pass, &plan.held)
    }

    /// Who is still federated because of a guard.
    fn keep(&mut self, kept: &BTreeMap<ClusterEndpoint, GuardReason>) {
        let kept: BTreeMap<&str, GuardReason> =
            kept.iter().map(|(endpoint, guard)| (endpoint.as_str(), *guard)).collect();
        for partition in &mut self.status.partitions {
            partition.kept_by = kept.get(partition.endpoint.as_str()).copied();
        }
    }

    /// Why something is held, and that what a person has acknowledged does not release it: the log says that once of each two plans.
    fn sentences(&self, held: &[HoldReason], released: Option<&Released>) -> Vec<String> {
        let mut sentences: Vec<String> = held.iter().map(ToString::to_string).collect();
        if let Some(other) = released.and_then(|released| released.other_than(self.acknowledged.as_deref())) {
            if !self.status.last_pass.as_ref().is_some_and(|pass| pass.held.contains(&other)) {
                tracing::warn!(why = other, "what was acknowledged is not what is held");
            }
            sentences.push(other);
        }
        sentences
    }

    fn log_guards(&self, plan: &Plan) {
        for reason in &plan.acknowledged {
            tracing::warn!(reason = %reason, plan = plan.acknowledged_hash, "a guard is set aside: a person acknowledged this plan");
        }
        let acknowledge = plan.released.as_ref().map(|released| released.hash.as_str());
        for reason in &plan.held {
            tracing::warn!(reason = %reason, plan = acknowledge, "removals are held");
        }
    }

    fn change(&self, Applied { change, result }: &Applied) {
        let (object, action) = change.kind();
        self.world.metrics.change(object, action, change_outcome(result));
        let (change, reason) = (change.to_string(), change.reason());
        match result {
            Ok(()) => tracing::info!(change, reason, "hub changed"),
            Err(error) => tracing::error!(change, reason, error, "hub refused a change"),
        }
    }

    /// The set-up sent commands.
    pub fn set_up(&mut self, commands: &[SetUp]) {
        for SetUp { action, result, repair } in commands {
            self.world.metrics.change(ChangeObject::Table, *action, change_outcome(result));
            self.repairs.extend(repair.clone());
        }
    }

    /// So many commands of a kind did what they were to do, and so many did not.
    pub fn wrote(&self, object: ChangeObject, action: ChangeAction, done: usize, failed: usize) {
        for (outcome, count) in [(ChangeOutcome::Applied, done), (ChangeOutcome::Failed, failed)] {
            (0..count).for_each(|_| self.world.metrics.change(object, action, outcome));
        }
    }

    fn log_new_problems(&self, problems: &[String]) {
        let known = self.status.last_pass.iter().flat_map(|pass| &pass.problems).collect::<BTreeSet<_>>();
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            tracing::warn!(problem, "federation is not complete");
        }
    }

    /// What the ADXCluster's status tells: the same as `/status`, without what is long.
    pub fn federation(&self) -> FederationStatus {
        let state =
            |state: PartitionState| self.status.partitions.iter().filter(move |partition| partition.state == state);
        let live = state(PartitionState::Live).count() + state(PartitionState::Flapping).count();
        // Those that need a look first: a long list loses its end.
        let partitions = [
            PartitionState::Expired,
            PartitionState::Untrusted,
            PartitionState::Suspect,
            PartitionState::Flapping,
            PartitionState::Joining,
            PartitionState::Blocked,
            PartitionState::Live,
        ];
        let partition = |partition: &PartitionStatus| status::PartitionStatus {
            endpoint: partition.endpoint.clone(),
            state: partition.state.to_string(),
            last_beat: partition.last_beat.map(whole_seconds),
            reason: match (&partition.reason, partition.kept_by) {
                (None, None) => None,
                (Some(reason), None) => Some(reason.clone()),
                (None, Some(guard)) => Some(format!("kept by {guard}")),
                (Some(reason), Some(guard)) => Some(format!("{reason}; kept by {guard}")),
            },
            problems: status::first_problems(&partition.problems),
        };
        let partitions = partitions.into_iter().flat_map(state);
        let count = |names: &BTreeSet<String>| i64::try_from(names.len()).unwrap_or(i64::MAX);
        let database = |(name, objects): (&String, &Objects)| status::DatabaseStatus {
            name: name.clone(),
            entity_groups: count(&objects.entity_groups),
            functions: count(&objects.functions),
        };
        let pass = |pass: &LastPass| {
            let said: Vec<&str> = pass.failure.iter().chain(&pass.held).map(String::as_str).collect();
            status::PassStatus {
                time: whole_seconds(pass.at),
                outcome: pass.outcome.to_string(),
                message: (!said.is_empty()).then(|| said.join("; ")),
                problems: pass.refused().chain(pass.problems.iter().cloned()).collect(),
                repairs: pass.repairs.clone(),
            }
        };
        FederationStatus {
            live: Some(format!("{live}/{}", self.status.partitions.len())),
            guard: self.guards(),
            plan: self.status.last_pass.as_ref().and_then(|pass| pass.planned.as_ref()).map(|plan| {
                status::PlanStatus {
                    hash: plan.hash.clone(),
                    changes: plan
                        .changes
                        .iter()
                        .map(|change| format!("{}: {}", change.change, change.reason))
                        .collect(),
                    changes_omitted: 0,
                }
            }),
            last_pass: self.status.last_pass.as_ref().map(pass),
            partitions: partitions.map(partition).collect(),
            databases: self.status.objects.iter().map(database).collect(),
            missing_databases: self
                .status
                .last_pass
                .as_ref()
                .map(|pass| pass.missing_databases.clone())
                .unwrap_or_default(),
            ..FederationStatus::default()
        }
    }

    /// Those that hold. Who cannot see is to do something about that first.
    fn guards(&self) -> Option<String> {
        let (blind, others): (Vec<GuardReason>, Vec<_>) =
            self.guards.iter().copied().partition(|guard| *guard == GuardReason::IncompleteRead);
        let guards: Vec<&str> = blind.into_iter().chain(others).map(GuardReason::as_str).collect();
        (!guards.is_empty()).then(|| guards.join(","))
    }

    fn end(&mut self, mut pass: LastPass, held: &[HoldReason]) -> PassOutcome {
        pass.repairs = mem::take(&mut self.repairs);
        for repair in &pass.repairs {
            tracing::warn!(repair, "what somebody did to our objects is undone");
        }
        let labels = held.iter().map(HoldReason::label);
        let sees = pass.outcome != PassOutcome::Failed
            && !held.iter().any(|reason| matches!(reason, HoldReason::IncompleteRead { .. }));
        if sees {
            self.guards = labels.collect();
            self.held = (pass.held.clone(), pass.planned.clone().filter(|_| !pass.held.is_empty()));
        } else {
            // What held goes on holding as long as nobody sees.
            self.guards.extend(labels);
            pass.held.extend_from_slice(&self.held.0);
            pass.planned.clone_from(&self.held.1);
        }
        for reason in GuardReason::ALL {
            self.world.metrics.guard(*reason, self.guards.contains(reason));
        }
        let outcome = pass.outcome;
        self.status.last_pass = Some(pass);
        self.world.admin.set_status(&self.status);
        outcome
    }
}

/// How a pass ends of which so much failed. `changed`: with changes, where nothing else is to be said first.
const fn ended(failed: usize, is_held: bool, changes: usize, changed: PassOutcome) -> PassOutcome {
    match (failed, changes) {
        (1.., _) => PassOutcome::Partial,
        (0, _) if is_held => PassOutcome::Held,
        (0, 1..) => changed,
        (0, 0) => PassOutcome::Unchanged,
    }
}

impl LastPass {
    /// What the hub refused, in sentences.
    fn refused(&self) -> impl Iterator<Item = String> {
        self.changes.iter().filter_map(|change| Some(format!("{}: {}", change.change, change.failure.as_ref()?)))
    }

    fn new(at: Timestamp, outcome: PassOutcome) -> Self {
        let (changes, repairs, problems, held) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let missing_databases = Vec::new();
        Self { at, outcome, held, planned: None, failure: None, changes, repairs, problems, missing_databases }
    }
}

const fn change_outcome(result: &Result<(), String>) -> ChangeOutcome {
    if result.is_ok() { ChangeOutcome::Applied } else { ChangeOutcome::Failed }
}

/// Problems without repeats, in order: what is tried twice in a pass mostly fails alike.
fn each_once(problems: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut told = BTreeSet::new();
    problems.into_iter().filter(|problem| told.insert(problem.clone())).collect()
}

/// In the order of their names, which does not change with how many partitions have each.
fn names(databases: &[DatabaseName]) -> Vec<String> {
    databases.iter().collect::<BTreeSet<_>>().into_iter().map(ToString::to_string).collect()
}

fn partition_status(partition: &Partition) -> PartitionStatus {
    let Partition { beat, state, since, reason, missed_beats, kept_by, zone: _ } = partition;
    let databases = match &beat.inventory {
        Inventory::Known(inventory) => {
            Some(inventory.0.iter().map(|(name, content)| (name.to_string(), content.tables.len())).collect())
        }
        Inventory::Unknown | Inventory::Unread => None,
    };
    PartitionStatus {
        endpoint: beat.endpoint.to_string(),
        state: *state,
        since: *since,
        reason: reason.clone(),
        kept_by: *kept_by,
        last_beat: (!partition.is_forgotten()).then_some(beat.received),
        missed_beats: *missed_beats,
        databases,
        metadata: Arc::clone(&beat.metadata),
        problems: beat.problems.clone(),
    }
}

fn change_status(Applied { change, result }: &Applied) -> ChangeStatus {
    ChangeStatus { change: change.to_string(), reason: change.reason(), failure: result.clone().err() }
}

/// What is ours on the hub: what was seen, and what was changed since.
fn objects(hub: &Hub, folder: &str, applied: &[Applied]) -> BTreeMap<String, Objects> {
    let mut objects: BTreeMap<String, Objects> = BTreeMap::new();
    for (database, content) in &hub.databases {
        let place = objects.entry(database.to_string()).or_default();
        let ours = content.functions.iter().filter(|(_, function)| function.is_droppable(folder));
        place.functions.extend(ours.map(|(name, _)| name.to_string()));
        let present = content.groups.iter().flatten();
        let owned = present.filter(|(name, group)| hub.owns(database, name, group));
        place.entity_groups.extend(owned.map(|(name, _)| name.to_string()));
    }
    for Applied { change, result } in applied {
        if result.is_ok() {
            adjust(objects.entry(change.database().to_string()).or_default(), change);
        }
    }
    objects
}

fn adjust(place: &mut Objects, change: &Change) {
    match change {
        Change::CreateGroup { group, .. } | Change::AlterGroup { group, .. } => {
            place.entity_groups.insert(group.to_string());
        }
        Change::PutFunction { function, .. } => {
            place.functions.insert(function.function.to_string());
        }
        Change::DropFunction { function, .. } => {
            place.functions.remove(function.as_str());
        }
        Change::DropGroup { group, .. } => {
            place.entity_groups.remove(group.as_str());
        }
    }
}
