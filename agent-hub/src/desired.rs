//! What the hub should hold for a fleet: entity groups and federated functions. Pure; called by `plan`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, EntityGroupName, FunctionName, NameError, TableName},
    statements::{Body, Entity, FederatedBody, Members, PutFunction, STATUS_FUNCTION, Source},
};
use shared::heartbeat::DatabaseInventory;

use crate::{
    fleet::{Beat, Fleet, Inventory, Partition},
    hub::{ExistingFunction, Hub, MemberSet},
    settings::Settings,
};

mod bounds;
mod problems;
mod refused;
mod types;

use problems::told;
pub use problems::{GroupBound, Problem};
pub use refused::RefusedNames;
use types::{Having, conversions};

/// What every group's name ends with, by the seed.
const GROUP_SUFFIX: &str = "_Partitions";

/// What the hub should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Entity groups, wanted in every hub database: name to members.
    pub groups: BTreeMap<EntityGroupName, MemberSet>,
    /// Federated functions by the hub database they belong to.
    pub functions: BTreeMap<DatabaseName, BTreeMap<FunctionName, PutFunction>>,
    /// Hub databases in which nothing may be dropped, because a partition whose schema is not known has (or may have) tables there.
    pub uncertain: BTreeSet<DatabaseName>,
    /// Hub databases in which functions that are there stay as they are, because a schema that tells of them could not be fetched.
    pub unread: BTreeSet<DatabaseName>,
    /// Databases that partitions have and the hub lacks: their tables get no functions. First those that most have.
    pub missing_databases: Vec<DatabaseName>,
    /// What could not be federated, in sentences.
    pub problems: Vec<Problem>,
}

/// The partitions of one database. Equal contents are one entry: a fleet of a thousand has few.
#[derive(Debug, Default)]
struct DatabaseMembers<'a> {
    /// The spelling that names the group: the hub's own if it has the database, else the first partition's.
    spelling: Option<DatabaseName>,
    members: BTreeSet<Entity>,
    unknown: BTreeSet<Entity>,
    /// Whether one of the unknown is so because of a failed reading.
    is_unread: bool,
    contents: Vec<(&'a Arc<DatabaseInventory>, BTreeSet<Entity>)>,
    /// Who is in a group by the value of an attribute. Of each there may be one for each partition, before it is known which have room.
    by_value: BTreeMap<Arc<str>, Vec<&'a ClusterEndpoint>>,
    /// Whether there is no room for the group of all its partitions.
    is_left_out: bool,
}

impl<'a> DatabaseMembers<'a> {
    fn join(
        &mut self,
        cluster: &'a ClusterEndpoint,
        database: &DatabaseName,
        values: &[Arc<str>],
        spellings: &BTreeMap<DatabaseName, DatabaseName>,
    ) -> Entity {
        self.spelling.get_or_insert_with(|| spellings.get(database).unwrap_or(database).clone());
        for value in values {
            self.join_by_value(cluster, value);
        }
        let entity = Entity { cluster: cluster.clone(), database: database.clone() };
        self.members.insert(entity.clone());
        entity
    }

    /// One partition comes after the other.
    fn join_by_value(&mut self, cluster: &'a ClusterEndpoint, value: &Arc<str>) {
        let clusters = self.by_value.entry(Arc::clone(value)).or_default();
        if clusters.last() != Some(&cluster) {
            clusters.push(cluster);
        }
    }

    /// What a group by a value lists, as each partition spells the database.
    fn entities(&self, database: &DatabaseName, clusters: &[&ClusterEndpoint]) -> BTreeSet<Entity> {
        let entity = |cluster: &&ClusterEndpoint| {
            let entity = Entity { cluster: (*cluster).clone(), database: database.clone() };
            self.members.get(&entity).cloned()
        };
        clusters.iter().filter_map(entity).collect()
    }
}

/// Whose a group's name is. Partitions choose the names of databases and attributes, and two may give one name: what functions ask must not become another's.
struct GroupNames {
    /// Of groups of all partitions of a database.
    whole: BTreeMap<EntityGroupName, DatabaseName>,
    /// Of those that functions ask instead, where a person's has the name. They come first, as they are asked already.
    asked: BTreeMap<EntityGroupName, DatabaseName>,
}

impl GroupNames {
    fn of(databases: &BTreeMap<DatabaseName, DatabaseMembers<'_>>, hub: &Hub, settings: &Settings) -> Self {
        let (mut whole, mut asked) = (BTreeMap::new(), BTreeMap::new());
        for (database, members) in databases {
            let Ok(group) = group_of(members.spelling.as_ref().unwrap_or(database)) else { continue };
            // One that was asked until now still is, until its functions ask another.
            let is_asked = |own: &EntityGroupName| hub.is_taken(database, &group) || hub.lists(own, database);
            let own = asked_groups(&group, settings).skip(1).filter(is_asked);
            asked.extend(own.map(|own| (own, database.clone())));
            whole.insert(group, database.clone());
        }
        Self { whole, asked }
    }

    /// The database whose the name is, if it is one's.
    fn owner(&self, group: &EntityGroupName) -> Option<&DatabaseName> {
        self.asked.get(group).or_else(|| self.whole.get(group))
    }
}

/// Computes groups and functions of the federated partitions. `hub` tells which databases the hub has, and of which groups a partition with an unknown schema
/// is a member now: it stays there.
pub fn desired(fleet: &Fleet, hub: &Hub, settings: &Settings) -> Desired {
    let mut desired = Desired::default();
    let mut databases = databases(fleet, hub, settings, &mut desired.problems);
    let names = GroupNames::of(&databases, hub, settings);
    let mut left_out = bounds::left_out(&databases, hub, settings);
    let too_many_groups = bounds::leave_out_groups(&mut databases, hub);
    let (mut missing, mut of_groups) = (Vec::new(), Vec::new());
    for (database, members) in databases {
        let spelling = members.spelling.clone().unwrap_or_else(|| database.clone());
        let group = match group_of(&spelling) {
            Ok(group) => group,
            Err(error) => {
                of_groups.push((members.members.len(), Problem::NameRefused(error)));
                continue;
            }
        };
        let is_its = |name: &EntityGroupName| names.owner(name).is_none_or(|owner| *owner == database);
        if hub.databases.contains_key(&database) {
            // One that is there first: functions must not ask what could not be made.
            let candidates = || asked_groups(&group, settings).filter(is_its);
            let present = candidates().find(|name| hub.has_own(&database, name));
            let asked = present.or_else(|| candidates().find(|name| !hub.is_taken(&database, name)));
            let mut problems = Vec::new();
            let left_out = left_out.remove(&database).unwrap_or_default();
            let functions = functions(&spelling, asked.as_ref(), &members, &left_out, settings, &mut problems);
            desired.problems.extend(told(problems, format!("tables and columns in '{spelling}'")));
            desired.problems.extend(bounds::problem_of_tables(&spelling, &members, &left_out));
            for own in candidates().filter(|name| *name != group) {
                if asked.as_ref() == Some(&own) || may_be_asked(hub, &database, &own, &functions, settings) {
                    desired.groups.insert(own, Arc::new(members.members.clone()));
                }
            }
            desired.functions.insert(spelling.clone(), functions);
        } else {
            missing.push((Reverse(members.members.len()), spelling.clone()));
        }
        desired.add_groups_by_value(&spelling, &members, &names, &mut of_groups);
        if !is_its(&group) {
            of_groups.push((members.members.len(), Problem::GroupTaken { database: spelling, group }));
        } else if !members.is_left_out {
            desired.groups.insert(group, Arc::new(members.members));
        }
        if members.is_unread {
            desired.unread.insert(database.clone());
        }
        if !members.unknown.is_empty() {
            desired.uncertain.insert(database);
        }
    }
    // One partition may name more than are told: what most are touched by comes first.
    of_groups.sort_by_key(|(partitions, _)| Reverse(*partitions));
    let of_groups = of_groups.into_iter().map(|(_, problem)| problem).collect();
    desired.problems.extend(told(of_groups, "entity groups"));
    desired.add_missing(missing);
    desired.problems.extend(too_many_groups);
    desired.problems.extend(attributes_of_nobody(fleet, settings));
    desired.add_status(hub, settings);
    desired
}

impl Desired {
    /// The groups of a database by the values of attributes, as far as their names are not another's.
    fn add_groups_by_value(
        &mut self,
        database: &DatabaseName,
        members: &DatabaseMembers<'_>,
        names: &GroupNames,
        problems: &mut Vec<(usize, Problem)>,
    ) {
        for (value, clusters) in &members.by_value {
            match group_of_value(database, value) {
                Ok(group) if names.owner(&group).is_none() && !self.groups.contains_key(&group) => {
                    self.groups.insert(group, Arc::new(members.entities(database, clusters)));
                }
                Ok(group) => {
                    problems.push((clusters.len(), Problem::GroupTaken { database: database.clone(), group }));
                }
                Err(error) => problems.push((clusters.len(), Problem::NameRefused(error))),
            }
        }
    }

    /// What the hub lacks, with how many partitions have each.
    fn add_missing(&mut self, mut missing: Vec<(Reverse<usize>, DatabaseName)>) {
        missing.sort_unstable();
        let lacks = missing.iter().map(|(Reverse(partitions), database)| Problem::HubDatabaseMissing {
            database: database.clone(),
            partitions: *partitions,
        });
        self.problems.extend(told(lacks.collect(), "databases that the hub lacks"));
        self.missing_databases = missing.into_iter().map(|(_, database)| database).collect();
    }

    /// The function that tells of the partitions, in every database of the hub.
    fn add_status(&mut self, hub: &Hub, settings: &Settings) {
        let Some(status) = &settings.status else { return };
        for database in hub.databases.keys() {
            let function = FunctionName::new(STATUS_FUNCTION).expect("the name follows Kusto's rules");
            let put = PutFunction {
                database: database.clone(),
                function: function.clone(),
                keeper: settings.keeper.clone(),
                folder: settings.folder.clone(),
                description: "Partitions of this hub: state, last heartbeat, and why one is not federated".to_owned(),
                body: Body::Status(status.clone()),
            };
            self.functions.entry(database.clone()).or_default().insert(function, put);
        }
    }
}

/// The group of all partitions of a database.
///
/// # Errors
/// [`NameError`], where Kusto would refuse the name.
pub fn group_of(database: &DatabaseName) -> Result<EntityGroupName, NameError> {
    EntityGroupName::new(format!("{database}{GROUP_SUFFIX}"))
}

/// The group of those of them that have a value of an attribute.
fn group_of_value(database: &DatabaseName, value: &str) -> Result<EntityGroupName, NameError> {
    EntityGroupName::new(format!("{database}{GROUP_SUFFIX}_{value}"))
}

/// Whether a group of ours that functions are not to ask any more is asked by some that are not yet as they should be, or are left as they are.
fn may_be_asked(
    hub: &Hub,
    database: &DatabaseName,
    group: &EntityGroupName,
    functions: &BTreeMap<FunctionName, PutFunction>,
    settings: &Settings,
) -> bool {
    let Some(content) = hub.databases.get(database) else { return false };
    if content.groups.is_err() {
        return hub.claims.contains_key(&(database.clone(), group.clone()));
    }
    let is_old = |(name, existing): (&FunctionName, &ExistingFunction)| {
        existing.is_droppable(&settings.folder)
            && name.as_str() != STATUS_FUNCTION
            && functions.get(name).is_none_or(|wanted| wanted.docstring() != existing.docstring)
    };
    hub.has_own(database, group) && content.functions.iter().any(is_old)
}

/// The group that functions ask, and the one that they ask where a person's has its name: their members must be ours, or no guard would see who leaves.
pub fn asked_groups(group: &EntityGroupName, settings: &Settings) -> impl Iterator<Item = EntityGroupName> {
    let own = EntityGroupName::new(format!("{}{group}", settings.function_prefix));
    std::iter::once(group.clone()).chain(own.ok().filter(|own| own != group))
}

/// Whether a group can be named after an attribute's value, if its database's name leaves room for it.
fn names_a_group(value: &str) -> bool {
    EntityGroupName::new(format!("{GROUP_SUFFIX}_{value}")).is_ok()
}

/// The attribute whose value names a group: where several have one value, that by which most of a present group's members have it, and else that by which most partitions
/// do, so that nobody takes a group from others; of those the first of `entityGroups`. An empty value is none.
fn attributes_by_value<'a>(
    fleet: &Fleet,
    hub: &Hub,
    settings: &'a Settings,
    problems: &mut Vec<Problem>,
) -> BTreeMap<Arc<str>, &'a String> {
    let mut counts = BTreeMap::<String, Vec<(&String, usize)>>::new();
    for attribute in &settings.group_attributes {
        let federated = fleet.values().filter(|partition| partition.is_federated());
        for value in federated.filter_map(|partition| partition.attribute(attribute)).filter(|value| !value.is_empty())
        {
            let counts = counts.entry(value).or_default();
            match counts.last_mut() {
                Some((last, count)) if *last == attribute => *count += 1,
                _ => counts.push((attribute, 1)),
            }
        }
    }
    let shared = counts.iter().filter(|(_, counts)| counts.len() > 1);
    let shared = shared.map(|(value, counts)| (value.as_str(), counts.iter().map(|(attribute, _)| *attribute)));
    let members = members_by(&shared.map(|(value, attributes)| (value, attributes.collect())).collect(), fleet, hub);
    let mut attributes = BTreeMap::new();
    for (value, counts) in &counts {
        let rank = |(attribute, count): &(&String, usize)| {
            (members.get(&(value.as_str(), attribute.as_str())).map_or(0, HashSet::len), *count)
        };
        let Some((attribute, _)) = counts.iter().rev().max_by_key(|counted| rank(counted)) else { continue };
        let others = counts.iter().filter(|(other, _)| other != attribute);
        problems.extend(others.map(|(other, _)| Problem::ValueShared {
            value: value.clone(),
            attribute: (*attribute).clone(),
            other: (*other).clone(),
        }));
        attributes.insert(Arc::from(value.as_str()), *attribute);
    }
    attributes
}

/// Who is in present groups that are named after a value, and has it by which attribute, for values that several attributes have.
fn members_by<'a>(
    shared: &HashMap<&'a str, Vec<&'a String>>,
    fleet: &'a Fleet,
    hub: &Hub,
) -> HashMap<(&'a str, &'a str), HashSet<&'a ClusterEndpoint>> {
    let mut members_by = HashMap::<_, HashSet<_>>::new();
    if shared.is_empty() {
        return members_by;
    }
    // Each database of the hub has the same.
    let groups: HashMap<_, _> = hub.own_groups().collect();
    for (group, members) in groups {
        let ends = group.as_str().match_indices(GROUP_SUFFIX).map(|(start, suffix)| start + suffix.len());
        let values = ends.filter_map(|end| group.as_str()[end..].strip_prefix('_'));
        for (value, attributes) in values.filter_map(|value| shared.get_key_value(value)) {
            for (cluster, partition) in members.iter().filter_map(|entity| fleet.get_key_value(&entity.cluster)) {
                for attribute in attributes {
                    let is_in = members_by.entry((*value, attribute.as_str())).or_default();
                    if !is_in.contains(cluster) && partition.attribute(attribute).is_some_and(|is| is == *value) {
                        is_in.insert(cluster);
                    }
                }
            }
        }
    }
    members_by
}

/// Attributes of `entityGroups` that none of the federated partitions has, where those of all could be read: a misspelt one takes the groups of the right one away.
fn attributes_of_nobody(fleet: &Fleet, settings: &Settings) -> impl Iterator<Item = Problem> {
    let federated: Vec<_> = fleet.values().filter(|partition| partition.is_federated()).collect();
    let is_known = |partition: &&Partition| {
        let Beat { metadata, inventory, has_unread_metadata, .. } = &partition.beat;
        !metadata.is_empty() || (!has_unread_metadata && matches!(inventory, Inventory::Known(_)))
    };
    let is_read = !federated.is_empty() && federated.iter().all(is_known);
    let attributes = settings.group_attributes.iter().filter(move |_| is_read);
    let of_nobody =
        attributes.filter(move |attribute| !federated.iter().any(|is| is.beat.metadata.contains_key(*attribute)));
    of_nobody.map(|attribute| Problem::AttributeOfNobody { attribute: attribute.clone() })
}

fn databases<'a>(
    fleet: &'a Fleet,
    hub: &Hub,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> BTreeMap<DatabaseName, DatabaseMembers<'a>> {
    let mut databases = BTreeMap::<DatabaseName, DatabaseMembers<'a>>::new();
    // Where a content stands in its database's list.
    let mut places = HashMap::<(DatabaseName, *const DatabaseInventory), usize>::new();
    let spellings = hub.spellings(GROUP_SUFFIX);
    let mut shared = Vec::new();
    let attributes = attributes_by_value(fleet, hub, settings, &mut shared);
    problems.extend(told(shared, "values of attributes"));
    let values_of = |partition: &Partition| -> Vec<Arc<str>> {
        let values = settings.group_attributes.iter();
        let values = values.filter_map(|attribute| {
            let (value, whose) = attributes.get_key_value(partition.attribute(attribute)?.as_str())?;
            (*whose == attribute && names_a_group(value)).then(|| Arc::clone(value))
        });
        values.collect()
    };
    let federated = || fleet.values().filter(|partition| partition.is_federated());
    let known = federated().filter_map(|partition| match &partition.beat.inventory {
        Inventory::Known(inventory) => Some((&partition.beat.endpoint, &**inventory, values_of(partition).len())),
        Inventory::Unknown | Inventory::Unread => None,
    });
    let (without_room, too_many) = bounds::databases_without_room(known, hub);
    problems.extend(too_many);
    for partition in federated() {
        let cluster = &partition.beat.endpoint;
        let values = values_of(partition);
        match &partition.beat.inventory {
            Inventory::Known(inventory) => {
                let listed = inventory.0.iter().filter(|(database, _)| !without_room.contains(database));
                let listed = listed.map(|(database, content)| (database, Some(content)));
                let unlisted = partition.beat.unlisted.iter().filter(|(_, unlisted)| unlisted.stays);
                let unlisted = unlisted.map(|(database, unlisted)| (database, unlisted.content.as_ref()));
                for (database, content) in listed.chain(unlisted) {
                    let members = databases.entry(database.clone()).or_default();
                    let entity = members.join(cluster, database, &values, &spellings);
                    let Some(content) = content else {
                        members.unknown.insert(entity);
                        members.is_unread |= partition.beat.unlisted.get(database).is_some_and(|is| is.is_unread);
                        continue;
                    };
                    // It may have more than is listed: that stays.
                    if content.is_partial {
                        members.unknown.insert(entity.clone());
                    }
                    // Of others no function is made.
                    if !hub.databases.contains_key(database) {
                        continue;
                    }
                    let place = *places.entry((database.clone(), Arc::as_ptr(content))).or_insert_with(|| {
                        members.contents.push((content, BTreeSet::new()));
                        members.contents.len() - 1
                    });
                    members.contents[place].1.insert(entity);
                }
            }
            Inventory::Unknown | Inventory::Unread => {
                for entity in hub.memberships_of(cluster) {
                    let members = databases.entry(entity.database.clone()).or_default();
                    members.join(cluster, &entity.database, &values, &spellings);
                    members.unknown.insert(entity.clone());
                    members.is_unread |= matches!(partition.beat.inventory, Inventory::Unread);
                }
            }
        }
        // Without a schema its attributes are as little known.
        if partition.beat.has_unread_metadata || !matches!(partition.beat.inventory, Inventory::Known(_)) {
            keep_in_groups_by_value(&mut databases, cluster, hub);
        }
    }
    databases
}

/// The attributes of a partition of which no heartbeat could be read are known only by the groups that list it.
fn keep_in_groups_by_value<'a>(
    databases: &mut BTreeMap<DatabaseName, DatabaseMembers<'a>>,
    cluster: &'a ClusterEndpoint,
    hub: &Hub,
) {
    for (group, entity) in hub.groups_of(cluster) {
        let Some(members) = databases.get_mut(&entity.database) else { continue };
        let spelling = members.spelling.as_ref().unwrap_or(&entity.database);
        if let Some(value) = group.as_str().strip_prefix(&format!("{spelling}{GROUP_SUFFIX}_")) {
            members.join_by_value(cluster, &Arc::from(value));
        }
    }
}

/// `group`: the stored group of the database's partitions that is ours; our functions must not answer from somebody else's list. `left_out`: tables that get none.
fn functions(
    database: &DatabaseName,
    group: Option<&EntityGroupName>,
    members: &DatabaseMembers<'_>,
    left_out: &BTreeSet<&TableName>,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> BTreeMap<FunctionName, PutFunction> {
    let mut functions = BTreeMap::new();
    let tables: BTreeSet<&TableName> = members.contents.iter().flat_map(|(content, _)| content.tables.keys()).collect();
    let views: BTreeSet<&TableName> = members.contents.iter().flat_map(|(content, _)| content.views.keys()).collect();
    let names = tables.union(&views).filter(|name| !left_out.contains(*name));
    let sources = names.map(|name| (*name, source_of(name, members)));
    for (table, (source, is_both)) in sources {
        if is_both {
            problems.push(Problem::ViewAndTable { database: database.clone(), name: table.clone(), source });
        }
        let function = match FunctionName::new(format!("{}{table}", settings.function_prefix)) {
            Ok(function) if settings.status.is_some() && function.as_str() == STATUS_FUNCTION => {
                problems.push(Problem::NameReserved { database: database.clone(), table: table.clone() });
                continue;
            }
            Ok(function) => function,
            Err(error) => {
                problems.push(Problem::NameRefused(error));
                continue;
            }
        };
        let having: Vec<Having<'_>> = members
            .contents
            .iter()
            .filter_map(|(content, entities)| {
                let place = if source == Source::Table { &content.tables } else { &content.views };
                let columns = place.get(table)?.as_deref();
                Some(Having { columns, entities })
            })
            .collect();
        let converted = conversions(&having, database, table, problems);
        let all = having.len() == members.contents.len();
        let description = described(table, source, database, all);
        let members = match group {
            Some(group) if all => Members::Group(group.clone()),
            _ => {
                let having = having.iter().flat_map(|having| having.entities);
                // A partition whose schema is not known may have the table; macro-expand is fuzzy, so a leg too many costs nothing.
                Members::Entities(having.chain(&members.unknown).cloned().collect())
            }
        };
        let converted = if settings.converts_columns { converted } else { BTreeMap::new() };
        let body =
            FederatedBody { members, table: table.clone(), source, converted, best_effort: settings.best_effort };
        let put = PutFunction {
            database: database.clone(),
            function: function.clone(),
            keeper: settings.keeper.clone(),
            folder: settings.folder.clone(),
            description,
            body: Body::Federated(body),
        };
        functions.insert(function, put);
    }
    functions
}

/// As what most partitions have a name, and whether some have it as the other: one that makes a table of the others' view takes nothing from them.
fn source_of(name: &TableName, members: &DatabaseMembers<'_>) -> (Source, bool) {
    let count = |has: fn(&DatabaseInventory, &TableName) -> bool| {
        let having = members.contents.iter().filter(|(content, _)| has(content, name));
        having.map(|(_, entities)| entities.len()).sum::<usize>()
    };
    let tables = count(|content, name| content.tables.contains_key(name));
    let views = count(|content, name| content.views.contains_key(name));
    (if tables >= views { Source::Table } else { Source::View }, tables > 0 && views > 0)
}

/// What a function's docstring says of it. `all`: no partition of the database lacks the table.
pub fn described(table: &TableName, source: Source, database: &DatabaseName, all: bool) -> String {
    let what = if source == Source::Table { table.to_string() } else { format!("The view {table}") };
    if all {
        format!("{what} of every partition of {database}")
    } else {
        format!("{what} of the partitions of {database} that have it")
    }
}
