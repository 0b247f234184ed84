//! From what is and what should be to an ordered list of changes, or to a hold. Pure: `plan` is the only way to a change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, EntityGroupName, FunctionName},
    request::Request,
    statements::{
        AlterEntityGroup, AlterMergeEntityGroup, CreateEntityGroup, DropEntityGroup, DropFunction, Entity, PutFunction,
        STATUS_FUNCTION, members_hash,
    },
};
use sha2::{Digest as _, Sha256};
use shared::runtime::{ChangeAction, ChangeObject, GuardReason, PartitionState};

use crate::{
    desired::{self, Desired},
    fleet::{Fleet, Partition},
    guards::{Guarded, HoldReason, guard, leaving},
    hub::{ExistingGroup, Hub, HubDatabase, Keeper, MemberSet, Written},
    membership::Membership,
    settings::Settings,
};

/// What a pass will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Make these changes; none is the normal case.
    Apply(Plan),
    /// Change nothing, because what was seen cannot be trusted to be all.
    Hold(Hold),
}

/// A pass that changes nothing. Federation goes on with what the hub has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// What would be done without it.
    pub released: Option<Released>,
    /// Who stays because of it.
    pub kept: BTreeMap<ClusterEndpoint, GuardReason>,
}

/// What would be done if no guard held: its hash is what a person acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Of exactly these changes.
    pub hash: String,
    /// In order.
    pub changes: Vec<Change>,
}

/// An ordered list of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Groups before the functions that use them; removals last, functions before groups.
    pub changes: Vec<Change>,
    /// What the record of our groups lacks, whatever becomes of the changes.
    pub records: Vec<Record>,
    /// What a person should look at, in sentences.
    pub problems: Vec<String>,
    /// Databases that partitions have and the hub lacks.
    pub missing_databases: Vec<DatabaseName>,
    /// How many hub databases are left as they are, because they could not be read.
    pub unread_databases: usize,
    /// Hub databases of which it is not known what all is wanted, as not all schemas are.
    pub uncertain: BTreeSet<DatabaseName>,
    /// Why removals that would have been due are not among the changes.
    pub held: Vec<HoldReason>,
    /// What would be done if nothing held; only where something does.
    pub released: Option<Released>,
    /// Who stays because of which guard.
    pub kept: BTreeMap<ClusterEndpoint, GuardReason>,
    /// The guards that were set aside because a person acknowledged this plan.
    pub acknowledged: Vec<HoldReason>,
    /// By which hash.
    pub acknowledged_hash: Option<String>,
}

impl Released {
    /// What a person is to be told who has acknowledged another plan, and waits.
    pub fn other_than(&self, acknowledged: Option<&str>) -> Option<String> {
        let other = acknowledged.filter(|acknowledged| *acknowledged != self.hash)?;
        Some(format!(
            "acknowledgedPlan is {other}, the hash of another plan: that of the one that is held is {}",
            self.hash
        ))
    }
}

impl Plan {
    /// Tells this plan from any other, with the commands that set up what it needs: twelve hexadecimal digits of what all commands say, in their order. Empty where there are none. What a person
    /// has acknowledged goes by the hash that was shown.
    pub fn hash(&self, set_up: &[Request]) -> String {
        self.acknowledged_hash.clone().unwrap_or_else(|| hash(set_up, &self.changes))
    }
}

fn hash(set_up: &[Request], changes: &[Change]) -> String {
    if set_up.is_empty() && changes.is_empty() {
        return String::new();
    }
    let mut digest = Sha256::new();
    for command in set_up {
        digest.update(command.text());
        digest.update([0]);
    }
    for change in changes {
        digest.update(change.database().as_str());
        digest.update([0]);
        digest.update(change.request().text());
        digest.update([0]);
    }
    short_hex(&digest.finalize())
}

/// One line of the record of our groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The hub database.
    pub database: DatabaseName,
    /// The group.
    pub group: EntityGroupName,
    /// What is recorded of it.
    pub state: RecordState,
}

/// What is recorded of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// We are about to make it with members of this hash.
    Intended(String),
    /// It is there, and we made it.
    Made,
    /// It is not there any more.
    Gone,
}

/// Why a function is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutCause {
    /// It is not there.
    Missing,
    /// It is ours, with other content than it should have.
    Outdated,
    /// It is as we put it by its docstring, and its text, parameters or folder are not: somebody edited it.
    Edited,
}

/// One change of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A group that is missing.
    CreateGroup {
        /// The hub database.
        database: DatabaseName,
        /// The group.
        group: EntityGroupName,
        /// Its members; not empty.
        members: MemberSet,
    },
    /// A group of ours with other members than it should have.
    AlterGroup {
        /// The hub database.
        database: DatabaseName,
        /// The group.
        group: EntityGroupName,
        /// Its members from now on; not empty.
        members: MemberSet,
        /// Its members now, but for what we would not write.
        before: MemberSet,
    },
    /// A function that is missing, or of ours with other content.
    PutFunction {
        /// The function.
        function: PutFunction,
        /// Why.
        cause: PutCause,
    },
    /// A function of ours whose table no federated partition has.
    DropFunction {
        /// The hub database.
        database: DatabaseName,
        /// The function.
        function: FunctionName,
    },
    /// A group of ours that no federated partition is to be in any more.
    DropGroup {
        /// The hub database.
        database: DatabaseName,
        /// The group.
        group: EntityGroupName,
    },
}

impl Change {
    /// The hub database that it changes.
    pub const fn database(&self) -> &DatabaseName {
        match self {
            Self::CreateGroup { database, .. }
            | Self::AlterGroup { database, .. }
            | Self::DropFunction { database, .. }
            | Self::DropGroup { database, .. } => database,
            Self::PutFunction { function, .. } => &function.database,
        }
    }

    /// The group that it is about, if it is about one.
    pub const fn group(&self) -> Option<&EntityGroupName> {
        match self {
            Self::CreateGroup { group, .. } | Self::AlterGroup { group, .. } | Self::DropGroup { group, .. } => {
                Some(group)
            }
            Self::PutFunction { .. } | Self::DropFunction { .. } => None,
        }
    }

    /// Whether somebody is a member of a group no longer after it.
    pub fn removes(&self) -> bool {
        match self {
            Self::AlterGroup { members, before, .. } => !before.is_subset(members),
            Self::DropGroup { .. } => true,
            Self::CreateGroup { .. } | Self::PutFunction { .. } | Self::DropFunction { .. } => false,
        }
    }

    /// The group that is there only after it, and in which database.
    pub const fn created_group(&self) -> Option<(&DatabaseName, &EntityGroupName)> {
        match self {
            Self::CreateGroup { database, group, .. } => Some((database, group)),
            _ => None,
        }
    }

    /// The group that a function asks, and in which database.
    pub fn asked_group(&self) -> Option<(&DatabaseName, &EntityGroupName)> {
        match self {
            Self::PutFunction { function, .. } => Some((&function.database, function.asked_group()?)),
            _ => None,
        }
    }

    /// What it is about, and what it does.
    pub const fn kind(&self) -> (ChangeObject, ChangeAction) {
        match self {
            Self::CreateGroup { .. } => (ChangeObject::EntityGroup, ChangeAction::Create),
            Self::AlterGroup { .. } => (ChangeObject::EntityGroup, ChangeAction::Alter),
            Self::PutFunction { cause: PutCause::Missing, .. } => (ChangeObject::Function, ChangeAction::Create),
            Self::PutFunction { .. } => (ChangeObject::Function, ChangeAction::Alter),
            Self::DropFunction { .. } => (ChangeObject::Function, ChangeAction::Drop),
            Self::DropGroup { .. } => (ChangeObject::EntityGroup, ChangeAction::Drop),
        }
    }

    /// The command that makes it.
    pub fn request(&self) -> Request {
        match self {
            Self::CreateGroup { database, group, members } => {
                CreateEntityGroup { database, group, entities: members }.request()
            }
            Self::AlterGroup { database, group, members, before } => {
                let joined: BTreeSet<Entity> = members.difference(before).cloned().collect();
                if before.is_subset(members) && !before.is_empty() {
                    AlterMergeEntityGroup { database, group, entities: &joined }.request()
                } else {
                    AlterEntityGroup { database, group, entities: members }.request()
                }
            }
            Self::PutFunction { function, cause: PutCause::Missing } => function.create_request(),
            Self::PutFunction { function, .. } => function.request(),
            Self::DropFunction { database, function } => DropFunction { database, function }.request(),
            Self::DropGroup { database, group } => DropEntityGroup { database, group }.request(),
        }
    }

    /// Why it is made, in a sentence.
    pub fn reason(&self) -> String {
        match self {
            Self::CreateGroup { members, .. } => format!("{} partition(s) have the database", members.len()),
            Self::AlterGroup { members, before, .. } => {
                let names = |entities: Vec<&Entity>| match entities.as_slice() {
                    [] => "none".to_owned(),
                    some => some.iter().map(|entity| entity.cluster.as_str()).collect::<Vec<_>>().join(", "),
                };
                let joined = names(members.difference(before).collect());
                let left = names(before.difference(members).collect());
                format!("joined: {joined}; left: {left}")
            }
            Self::PutFunction { function, cause } => {
                let why = match cause {
                    PutCause::Missing => "it is missing",
                    PutCause::Outdated => "its content changed",
                    PutCause::Edited => "it was edited by somebody",
                };
                format!("{why}: {}", function.description)
            }
            Self::DropFunction { .. } => "no federated partition has its table".to_owned(),
            Self::DropGroup { .. } => {
                "no federated partition has its database, or what entityGroups names it after".to_owned()
            }
        }
    }

    /// For a person who checks a plan before it is made: what changes and why, and under it, indented, the whole command.
    pub fn in_full(&self) -> String {
        let command: String = self.request().text().lines().map(|line| format!("\n    {line}")).collect();
        format!("{self}: {}{command}", self.reason())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name): (_, &dyn fmt::Display) = match self {
            Self::CreateGroup { group, .. } => ("create entity group", group),
            Self::AlterGroup { group, .. } => ("alter entity group", group),
            Self::PutFunction { function, cause: PutCause::Missing } => ("create function", &function.function),
            Self::PutFunction { function, .. } => ("alter function", &function.function),
            Self::DropFunction { function, .. } => ("drop function", function),
            Self::DropGroup { group, .. } => ("drop entity group", group),
        };
        write!(f, "{what} {name} in {}", self.database())
    }
}

/// Decides. A fleet without one partition that beats changes nothing, and whoever a guard keeps stays; unless a person has acknowledged exactly what would be done
/// without the guards.
pub fn plan(fleet: &Fleet, hub: &Hub, membership: &Membership, now: Timestamp, settings: &Settings) -> Decision {
    let time_to_live = settings.thresholds.time_to_live;
    let beats = |partition: &Partition| match partition.state {
        _ if partition.beat.unread.is_some() => false,
        // Whoever has no row any more is not seen to beat.
        PartitionState::Joining | PartitionState::Live | PartitionState::Suspect => !partition.is_forgotten(),
        PartitionState::Expired => false,
        // Whatever their silence: a flapping partition is kept through one, which does not make it a beat.
        PartitionState::Flapping | PartitionState::Blocked | PartitionState::Untrusted => {
            now.duration_since(partition.beat.received) <= time_to_live
        }
    };
    let is_dark = !fleet.values().any(beats);
    if is_dark {
        let known = fleet.values().filter(|partition| !partition.is_forgotten()).count();
        let reason = if known == 0 { HoldReason::NoHeartbeatYet } else { HoldReason::NoLiveHeartbeat { known } };
        let mut unguarded = changes(fleet, hub, settings);
        return match released(&unguarded, fleet, hub) {
            Some(released) if settings.acknowledged_plan.as_ref() == Some(&released.hash) => {
                unguarded.acknowledged.push(reason);
                unguarded.acknowledged_hash = Some(released.hash);
                Decision::Apply(unguarded)
            }
            released => {
                let kept = leaving(fleet, hub).map(|partition| (partition.beat.endpoint.clone(), reason.label()));
                Decision::Hold(Hold { kept: kept.collect(), reason, released })
            }
        };
    }
    let Guarded { fleet: kept, held } = guard(fleet, hub, membership, now, &settings.thresholds, &settings.guards);
    if held.is_empty() {
        return Decision::Apply(changes(fleet, hub, settings));
    }
    let mut unguarded = changes(fleet, hub, settings);
    let released = released(&unguarded, fleet, hub);
    if released.as_ref().is_some_and(|released| settings.acknowledged_plan.as_ref() == Some(&released.hash)) {
        unguarded.acknowledged = held;
        unguarded.acknowledged_hash = released.map(|released| released.hash);
        return Decision::Apply(unguarded);
    }
    let who = kept.iter().filter_map(|(endpoint, partition)| Some((endpoint.clone(), partition.kept_by?)));
    Decision::Apply(Plan { held, released, kept: who.collect(), ..changes(&kept, hub, settings) })
}

/// What a person acknowledges: these changes, for these partitions in this silence. Another silence of the same ones is another decision.
fn released(unguarded: &Plan, fleet: &Fleet, hub: &Hub) -> Option<Released> {
    let changes = unguarded.changes.clone();
    if changes.is_empty() {
        return None;
    }
    let mut digest = Sha256::new();
    for partition in leaving(fleet, hub) {
        // Whoever is not trusted any more may go on beating: that is no other decision.
        let silence = (partition.state == PartitionState::Expired).then_some(partition.beat.received);
        digest.update(format!(
            "{} {}\n",
            partition.beat.endpoint,
            silence.map(|at| at.to_string()).unwrap_or_default()
        ));
    }
    // Where nobody is left, or the same are, the changes do not name who goes.
    for partition in fleet.values().filter(|partition| partition.is_federated()) {
        for (database, _) in partition.beat.unlisted.iter().filter(|(_, unlisted)| !unlisted.stays) {
            digest.update(format!("{} {database}\n", partition.beat.endpoint));
        }
    }
    digest.update(hash(&[], &changes));
    let hash = short_hex(&digest.finalize());
    Some(Released { hash, changes })
}

fn short_hex(digest: &[u8]) -> String {
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// From what is to what should be, for the partitions that are federated.
fn changes(fleet: &Fleet, hub: &Hub, settings: &Settings) -> Plan {
    let desired = desired::desired(fleet, hub, settings);
    let mut steps = Steps::default();
    steps.missing_databases.extend(desired.missing_databases.iter().cloned());
    for (database, present) in &hub.databases {
        match &present.groups {
            Ok(groups) => {
                steps.compare_groups(database, groups, &desired, hub);
                steps.compare_functions(database, present, &desired, settings, &hub.rewritten);
            }
            Err(why) => {
                steps.unread_databases += 1;
                steps.problems.push(format!("the hub database '{database}' is left as it is: {why}"));
                let presumed = hub.presumed.iter().filter(|((of, _), _)| of == database);
                steps.records.extend(presumed.map(|((database, group), hash)| Record {
                    database: database.clone(),
                    group: group.clone(),
                    state: RecordState::Intended(hash.clone()),
                }));
            }
        }
    }
    // After what is wrong with the hub's objects: partitions choose how much there is of it, and a status has room for so much.
    steps.problems.extend(desired.problems.iter().map(ToString::to_string));
    Plan { uncertain: desired.uncertain.union(&desired.unread).cloned().collect(), ..steps.ordered() }
}

/// Changes by kind, so that each database's order comes out of one pass over it.
#[derive(Default)]
struct Steps {
    put_groups: Vec<Change>,
    put_functions: Vec<Change>,
    drop_functions: Vec<Change>,
    drop_groups: Vec<Change>,
    records: Vec<Record>,
    problems: Vec<String>,
    missing_databases: Vec<DatabaseName>,
    unread_databases: usize,
}

impl Steps {
    fn compare_groups(
        &mut self,
        database: &DatabaseName,
        present: &BTreeMap<EntityGroupName, ExistingGroup>,
        desired: &Desired,
        hub: &Hub,
    ) {
        for (group, members) in &desired.groups {
            let (database, group, members) = (database.clone(), group.clone(), members.clone());
            match present.get(&group) {
                None => {
                    self.intend(&database, &group, &members, hub);
                    self.put_groups.push(Change::CreateGroup { database, group, members });
                }
                Some(existing) if !hub.owns(&database, &group, existing) => self.problems.push(format!(
                    "the entity group '{group}' in '{database}' was not made by us and is left alone: rename it to have ours made"
                )),
                Some(ExistingGroup::Members(before)) if *before == members => {}
                Some(existing) => {
                    let before = existing.members().clone();
                    self.put_groups.push(Change::AlterGroup { database, group, members, before });
                }
            }
        }
        for (group, existing) in present {
            if !desired.groups.contains_key(group) && hub.owns(database, group, existing) {
                self.drop_groups.push(Change::DropGroup { database: database.clone(), group: group.clone() });
            }
        }
        let is_fresh = hub.databases.get(database).is_some_and(|database| database.is_fresh);
        self.settle_claims(database, present, is_fresh, desired, hub);
    }

    /// Recorded before a group is made; once is enough, however often making it fails.
    fn intend(&mut self, database: &DatabaseName, group: &EntityGroupName, members: &BTreeSet<Entity>, hub: &Hub) {
        let key = (database.clone(), group.clone());
        let hash = members_hash(members);
        if hub.claims.get(&key).is_none_or(|claim| !claim.is_made && !claim.intended.contains(&hash)) {
            let (database, group) = key;
            self.records.push(Record { database, group, state: RecordState::Intended(hash) });
        }
    }

    /// Brings the record up to what is seen: an intention that came true, and a group of ours that somebody else dropped and nobody needs.
    fn settle_claims(
        &mut self,
        database: &DatabaseName,
        present: &BTreeMap<EntityGroupName, ExistingGroup>,
        is_fresh: bool,
        desired: &Desired,
        hub: &Hub,
    ) {
        for ((_, group), claim) in hub.claims.iter().filter(|((claimed, _), _)| claimed == database) {
            let state = match present.get(group) {
                Some(existing) if !claim.is_made && claim.covers(existing) => RecordState::Made,
                None if is_fresh && !desired.groups.contains_key(group) => RecordState::Gone,
                _ => continue,
            };
            self.records.push(Record { database: database.clone(), group: group.clone(), state });
        }
    }

    fn compare_functions(
        &mut self,
        database: &DatabaseName,
        present: &HubDatabase,
        desired: &Desired,
        settings: &Settings,
        rewritten: &BTreeMap<String, Written>,
    ) {
        let none = BTreeMap::new();
        let wanted = desired.functions.get(database).unwrap_or(&none);
        for (name, function) in wanted {
            if present.shadowed.contains(name.as_str()) {
                self.problems.push(format!(
                    "the function '{name}' in '{database}' is not made: it would shadow the table of that name"
                ));
                continue;
            }
            let cause = match present.functions.get(name) {
                None => PutCause::Missing,
                Some(existing) => match &existing.keeper {
                    Keeper::Us if existing.is(function, rewritten) => continue,
                    Keeper::Us if existing.docstring == function.docstring() => PutCause::Edited,
                    // What it asks, and how, may depend on what could not be read.
                    Keeper::Us if desired.unread.contains(database) => continue,
                    Keeper::Us => PutCause::Outdated,
                    Keeper::Another(keeper) if name.as_str() == STATUS_FUNCTION => {
                        self.problems.push(format!(
                            "'{name}' in '{database}' tells of the partitions of the hub agent with the heartbeatDatabase '{keeper}': this agent's own are in its status alone"
                        ));
                        continue;
                    }
                    Keeper::Another(keeper) => {
                        self.problems.push(format!(
                            "the function '{name}' in '{database}' is kept by the hub agent with the heartbeatDatabase '{keeper}' and is left alone: give this one another functionPrefix, or drop the function if that agent is no more"
                        ));
                        continue;
                    }
                    Keeper::Person => {
                        self.problems.push(format!(
                            "the function '{name}' in '{database}' was not made by us and is left alone: rename it to have ours made"
                        ));
                        continue;
                    }
                },
            };
            self.put_functions.push(Change::PutFunction { function: function.clone(), cause });
        }
        if desired.uncertain.contains(database) {
            return;
        }
        let mut elsewhere = Vec::new();
        for (name, existing) in present.functions.iter().filter(|(name, _)| !wanted.contains_key(name)) {
            if existing.is_droppable(&settings.folder) {
                self.drop_functions.push(Change::DropFunction { database: database.clone(), function: name.clone() });
            } else if existing.is_ours() {
                elsewhere.push(name);
            }
        }
        if let [first, rest @ ..] = elsewhere.as_slice() {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            self.problems.push(format!(
                "'{database}' has functions of ours in another folder, which nobody keeps true unless another document does: '{first}'{more}; drop them if the folder was changed"
            ));
        }
    }

    fn ordered(self) -> Plan {
        let Self {
            put_groups,
            put_functions,
            drop_functions,
            drop_groups,
            records,
            problems,
            missing_databases,
            unread_databases,
        } = self;
        let changes = [put_groups, put_functions, drop_functions, drop_groups].into_iter().flatten().collect();
        Plan { changes, records, problems, missing_databases, unread_databases, ..Plan::default() }
    }
}

#[cfg(test)]
mod tests;
