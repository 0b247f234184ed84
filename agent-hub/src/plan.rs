//! From what is and what should be to an ordered list of changes, or to a hold. Pure: `plan` is the only way to a change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp};
use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, EntityGroupName, FunctionName},
    request::Request,
    statements::{
        AlterEntityGroup, CreateEntityGroup, DropEntityGroup, DropFunction, Entity, PutFunction, members_hash,
    },
};
use shared::runtime::{ChangeAction, ChangeObject, GuardReason, PartitionState};

use crate::{
    desired::{self, Desired},
    fleet::{Fleet, Partition},
    hub::{ExistingGroup, Hub, HubDatabase},
    settings::Settings,
};

/// What a pass will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Make these changes; none is the normal case.
    Apply(Plan),
    /// Change nothing, because what was seen cannot be trusted to be all.
    Hold(HoldReason),
}

/// Why a pass changes nothing. Federation goes on with what the hub has; it ends by itself when the reason is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldReason {
    /// The heartbeat table has no row of any partition.
    #[error(
        "the heartbeat table has no heartbeat yet: start agent-partition beside a cluster, and check its heartbeatDatabase and heartbeatTable"
    )]
    NoHeartbeatYet,
    /// No partition has a heartbeat younger than the TTL. More likely the hub's ingestion or network is down than the whole fleet.
    #[error(
        "none of the {known} partition(s) in the heartbeat table has a beat younger than heartbeatTTL: groups and functions stay as they are"
    )]
    NoLiveHeartbeat {
        /// How many partitions the table remembers.
        known: usize,
    },
    /// So many fell silent together that their agents' network, or the hub's ingestion, is the likelier cause. They stay federated; the rest goes on.
    #[error(
        "{silent} of {of} partitions have missed beats: those older than heartbeatTTL stay federated until beats return or their rows are gone (heartbeatRetention)"
    )]
    MassExpiry {
        /// Partitions that missed beats, of those that the hub federates.
        silent: usize,
        /// Partitions that the hub federates.
        of: usize,
    },
    /// A guard of the whole fleet held a short while ago. Beats that stopped together do not return together.
    #[error(
        "beats have returned to a fleet that was held: {silent} expired partition(s) stay federated until {until}, one heartbeatTTL after the hold"
    )]
    Recovering {
        /// Partitions that are expired and not back yet.
        silent: usize,
        /// When they are believed to be gone.
        until: Timestamp,
    },
    /// The heartbeats could not be read completely. A partial list would look like partitions that died.
    #[error("the heartbeats could not be read completely, so groups and functions stay as they are: {why}")]
    IncompleteRead {
        /// The error and its causes.
        why: String,
    },
}

impl HoldReason {
    /// The label of `guard_active{reason}`.
    pub const fn label(&self) -> GuardReason {
        match self {
            Self::NoHeartbeatYet | Self::NoLiveHeartbeat { .. } => GuardReason::NoLiveHeartbeat,
            Self::MassExpiry { .. } => GuardReason::MassExpiry,
            Self::Recovering { .. } => GuardReason::Recovering,
            Self::IncompleteRead { .. } => GuardReason::IncompleteRead,
        }
    }
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
    /// How many hub databases are left as they are, because they could not be read.
    pub unread_databases: usize,
    /// Why removals that would have been due are not among the changes.
    pub held: Option<HoldReason>,
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
        members: BTreeSet<Entity>,
    },
    /// A group of ours with other members than it should have.
    AlterGroup {
        /// The hub database.
        database: DatabaseName,
        /// The group.
        group: EntityGroupName,
        /// Its members from now on; not empty.
        members: BTreeSet<Entity>,
        /// Its members now; empty if they could not be understood.
        before: BTreeSet<Entity>,
    },
    /// A function that is missing, or of ours with other content.
    PutFunction {
        /// The function.
        function: PutFunction,
        /// Whether it replaces one of ours.
        replaces: bool,
    },
    /// A function of ours whose table no federated partition has.
    DropFunction {
        /// The hub database.
        database: DatabaseName,
        /// The function.
        function: FunctionName,
    },
    /// A group of ours whose database no federated partition has.
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

    /// What it is about, and what it does.
    pub const fn kind(&self) -> (ChangeObject, ChangeAction) {
        match self {
            Self::CreateGroup { .. } => (ChangeObject::EntityGroup, ChangeAction::Create),
            Self::AlterGroup { .. } => (ChangeObject::EntityGroup, ChangeAction::Alter),
            Self::PutFunction { replaces: false, .. } => (ChangeObject::Function, ChangeAction::Create),
            Self::PutFunction { replaces: true, .. } => (ChangeObject::Function, ChangeAction::Alter),
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
            Self::AlterGroup { database, group, members, before: _ } => {
                AlterEntityGroup { database, group, entities: members }.request()
            }
            Self::PutFunction { function, replaces: true } => function.request(),
            Self::PutFunction { function, replaces: false } => function.create_request(),
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
            Self::PutFunction { function, replaces } => {
                let why = if *replaces { "its content changed" } else { "it is missing" };
                format!("{why}: {}", function.description)
            }
            Self::DropFunction { .. } => "no federated partition has its table".to_owned(),
            Self::DropGroup { .. } => "no federated partition has its database".to_owned(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name): (_, &dyn fmt::Display) = match self {
            Self::CreateGroup { group, .. } => ("create entity group", group),
            Self::AlterGroup { group, .. } => ("alter entity group", group),
            Self::PutFunction { function, replaces: false } => ("create function", &function.function),
            Self::PutFunction { function, replaces: true } => ("alter function", &function.function),
            Self::DropFunction { function, .. } => ("drop function", function),
            Self::DropGroup { group, .. } => ("drop entity group", group),
        };
        write!(f, "{what} {name} in {}", self.database())
    }
}

/// Remembers that a guard of the whole fleet held: every partition has one time to live after that to beat again.
#[derive(Debug, Default)]
pub struct Recovery(Option<Timestamp>);

impl Recovery {
    /// Until when expired partitions are kept; `None` if no guard has held.
    pub const fn until(&self) -> Option<Timestamp> {
        self.0
    }

    /// Takes in what a pass decided. `now` is the hub server's clock.
    pub fn note(&mut self, decision: &Decision, now: Timestamp, time_to_live: SignedDuration) {
        let held = match decision {
            Decision::Hold(reason) => Some(reason),
            Decision::Apply(plan) => plan.held.as_ref(),
        };
        let guards = matches!(
            held,
            Some(HoldReason::NoHeartbeatYet | HoldReason::NoLiveHeartbeat { .. } | HoldReason::MassExpiry { .. })
        );
        if guards {
            self.0 = now.checked_add(time_to_live).ok();
        } else if self.0.is_some_and(|until| until <= now) {
            self.0 = None;
        }
    }
}

/// Decides. A fleet without one federated partition changes nothing; one of which most fell silent together loses none of them, and neither does one that comes
/// back from that (`recovering_until`, see [`Recovery`]).
pub fn plan(fleet: &Fleet, hub: &Hub, settings: &Settings, recovering_until: Option<Timestamp>) -> Decision {
    if fleet.is_empty() {
        return Decision::Hold(HoldReason::NoHeartbeatYet);
    }
    if !fleet.values().any(Partition::is_federated) {
        return Decision::Hold(HoldReason::NoLiveHeartbeat { known: fleet.len() });
    }
    let held = mass_expiry(fleet, hub).or_else(|| recovering(fleet, hub, recovering_until?));
    let fleet = &match held {
        Some(HoldReason::Recovering { .. }) => keeping_forgotten(keeping_members(fleet, hub), hub),
        Some(_) => keeping_members(fleet, hub),
        None => fleet.clone(),
    };
    let desired = desired::desired(fleet, hub, settings);
    let mut steps = Steps::default();
    steps.problems.extend(desired.problems.iter().map(ToString::to_string));
    for (database, present) in &hub.databases {
        match &present.groups {
            Ok(groups) => {
                steps.compare_groups(database, groups, &desired, hub);
                steps.compare_functions(database, present, &desired, settings);
            }
            Err(why) => {
                steps.unread_databases += 1;
                steps.problems.push(format!("the hub database '{database}' is left as it is: {why}"));
            }
        }
    }
    Decision::Apply(Plan { held, ..steps.ordered() })
}

/// The share of the fleet, in percent, whose silence is not believed: Kubernetes' node lifecycle controller stops evicting there.
const MASS_PERCENT: usize = 55;

/// How many partitions must be silent for it, unless all are: of three, one may die alone.
const MASS_PARTITIONS: usize = 3;

/// Beats that stop together do not expire together: their last ones are spread over an interval. So whoever has missed a beat counts, as soon as the first of
/// them expires.
fn mass_expiry(fleet: &Fleet, hub: &Hub) -> Option<HoldReason> {
    let expiring = expiring(fleet, hub);
    let suspect = fleet.values().filter(|partition| partition.state == PartitionState::Suspect).count();
    let live = fleet.values().filter(|partition| partition.state == PartitionState::Live).count();
    let (silent, of) = (expiring + suspect, expiring + suspect + live);
    let most = silent * 100 >= of * MASS_PERCENT && (silent >= MASS_PARTITIONS || silent == of);
    (expiring > 0 && most).then_some(HoldReason::MassExpiry { silent, of })
}

/// Whoever is not back yet, those among them whose rows are gone already: the silence may have outlasted `heartbeatRetention`.
fn recovering(fleet: &Fleet, hub: &Hub, until: Timestamp) -> Option<HoldReason> {
    let silent = expiring(fleet, hub) + forgotten(fleet, hub).len();
    (silent > 0).then_some(HoldReason::Recovering { silent, until })
}

/// Clusters that our groups list and the heartbeat table remembers no more.
fn forgotten<'a>(fleet: &Fleet, hub: &'a Hub) -> BTreeSet<&'a ClusterEndpoint> {
    hub.members().map(|entity| &entity.cluster).filter(|cluster| !fleet.contains_key(*cluster)).collect()
}

/// How many partitions would leave: expired, and listed by a group of ours.
fn expiring(fleet: &Fleet, hub: &Hub) -> usize {
    let is_member = |partition: &Partition| hub.memberships_of(&partition.beat.endpoint).next().is_some();
    fleet.values().filter(|partition| partition.state == PartitionState::Expired && is_member(partition)).count()
}

/// The fleet with every partition federated that some group of ours lists.
fn keeping_members(fleet: &Fleet, hub: &Hub) -> Fleet {
    let mut fleet = fleet.clone();
    for (endpoint, partition) in &mut fleet {
        partition.is_kept = hub.memberships_of(endpoint).next().is_some();
    }
    fleet
}

/// The fleet and whoever it has forgotten, of whom nothing but their membership is known.
fn keeping_forgotten(mut fleet: Fleet, hub: &Hub) -> Fleet {
    for cluster in forgotten(&fleet, hub) {
        fleet.insert(cluster.clone(), Partition::known_by_membership(cluster.clone()));
    }
    fleet
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
                    let before = match existing {
                        ExistingGroup::Members(before) => before.clone(),
                        ExistingGroup::Foreign => BTreeSet::new(),
                    };
                    self.put_groups.push(Change::AlterGroup { database, group, members, before });
                }
            }
        }
        for (group, existing) in present {
            if !desired.groups.contains_key(group) && hub.owns(database, group, existing) {
                self.drop_groups.push(Change::DropGroup { database: database.clone(), group: group.clone() });
            }
        }
        self.settle_claims(database, present, desired, hub);
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
        desired: &Desired,
        hub: &Hub,
    ) {
        for ((_, group), claim) in hub.claims.iter().filter(|((claimed, _), _)| claimed == database) {
            let state = match present.get(group) {
                Some(existing) if !claim.is_made && claim.covers(existing) => RecordState::Made,
                None if !desired.groups.contains_key(group) => RecordState::Gone,
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
            let replaces = match present.functions.get(name) {
                None => false,
                Some(existing) if !existing.is_ours() => {
                    self.problems.push(format!(
                        "the function '{name}' in '{database}' was not made by us and is left alone: rename it to have ours made"
                    ));
                    continue;
                }
                Some(existing) if existing.docstring == function.docstring() => continue,
                Some(_) => true,
            };
            self.put_functions.push(Change::PutFunction { function: function.clone(), replaces });
        }
        if desired.uncertain.contains(database) {
            return;
        }
        for (name, existing) in &present.functions {
            if existing.is_droppable(&settings.folder) && !wanted.contains_key(name) {
                self.drop_functions.push(Change::DropFunction { database: database.clone(), function: name.clone() });
            }
        }
    }

    fn ordered(self) -> Plan {
        let Self { put_groups, put_functions, drop_functions, drop_groups, records, problems, unread_databases } = self;
        let changes = [put_groups, put_functions, drop_functions, drop_groups].into_iter().flatten().collect();
        Plan { changes, records, problems, unread_databases, held: None }
    }
}

#[cfg(test)]
mod tests;
