//! How many functions and groups a hub gets. Partitions choose the names of tables and databases, and the values of attributes, and each is a function, or a group in every database: a pass has many texts of it
//! at once, and every later look at the hub reads it. Pure; called by [`desired`](super::desired).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, EntityGroupName, FunctionName, TableName},
};
use shared::heartbeat::{DatabaseInventory, SchemaInventory};

use super::{DatabaseMembers, GROUP_SUFFIX, GroupBound, Problem, group_of, group_of_value};
use crate::{hub::Hub, settings::Settings};

/// The memory that all functions may take in a pass, as far as that can be told: a quarter of what an agent's pod has, for twenty thousand functions of usual names. What the hub tells of so many
/// is also well below the most that an answer may hold.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What is kept for tables that more than one partition has, now or later: a partition that makes names up is alone with them.
const KEPT_BYTES: usize = MOST_BYTES / 5;

/// What a function takes beside its table's name, as measured.
const BYTES_OF_A_FUNCTION: usize = 3 * 1024;

/// How often a table's name is in memory at once, as measured.
const COPIES_OF_A_NAME: usize = 14;

/// The memory that all groups may take, as far as that can be told. A group is in every database of the hub, recorded and read in each: fifty databases by ten zones of a thousand partitions fit.
const MOST_BYTES_OF_GROUPS: usize = 48 * 1024 * 1024;

/// What is kept for groups of databases that the hub has too, now or later: partitions choose no names there but those of values.
const KEPT_FOR_OWN_GROUPS: usize = MOST_BYTES_OF_GROUPS / 3;

/// What is kept besides for groups that more than one partition is in, now or later.
const KEPT_FOR_SHARED_GROUPS: usize = MOST_BYTES_OF_GROUPS / 6;

/// What a group takes in one database of the hub, beside its name: its entry, its record, and the command that makes it. An estimate, and no little one.
const BYTES_OF_A_GROUP: usize = 1024;

/// How often a group's name is in memory at once, for each database of the hub: in its entry, its record, and the command that makes it. An estimate, too.
const COPIES_OF_A_GROUP: usize = 6;

/// What a member takes beside its names, in all databases of the hub together: they share a group's.
const BYTES_OF_A_MEMBER: usize = 96;

/// So many rows may be in the record of our groups before no new group gets into it that only one partition is in. Each that is made and dropped leaves three in every
/// database of the hub, for good, and each pass summarizes all of them: one partition that announces other names with each beat writes thirty thousand in a pass. Where a
/// dozen databases come and go each day, a hub of ten needs seven years for so many, or eight months where each has ten groups by value.
const MOST_RECORDS: usize = 1_000_000;

/// So many before nothing new gets into it but the groups of all partitions of the hub's own databases: two partitions may make up the same names.
const MOST_RECORDS_OF_ALL: usize = 3 * MOST_RECORDS;

/// The memory that may be taken to find out which groups there could be, of databases that neither the hub has nor any group lists.
const MOST_BYTES_OF_NEW_DATABASES: usize = 48 * 1024 * 1024;

/// What such a database takes beside its name, with the list of its partitions.
const BYTES_OF_A_NEW_DATABASE: usize = 1280;

/// What a partition takes in that list beside the database's name, and in each of those by a value.
const BYTES_OF_AN_ENTRY: usize = 192;
const BYTES_OF_A_VALUE: usize = 128;

/// Who has a database that may be new.
#[derive(Debug, Default)]
struct New {
    partitions: usize,
    /// How many values groups are made by there, those of each partition counted.
    values: usize,
}

impl New {
    /// The memory that it takes, by estimate.
    const fn bytes(&self, name: usize) -> usize {
        BYTES_OF_A_NEW_DATABASE
            + 4 * name
            + self.partitions * (BYTES_OF_AN_ENTRY + name)
            + self.values * BYTES_OF_A_VALUE
    }
}

/// Databases for which there is not even room to find out which groups they would have, and a problem that tells of them. One that the hub has too, or of which a group is recorded, is
/// none of them; of the others those come first that most partitions have. `partitions`: each one's databases, and by how many values groups are made of it.
pub(super) fn databases_without_room<'a>(
    partitions: impl Iterator<Item = (&'a ClusterEndpoint, &'a SchemaInventory, usize)> + Clone,
    hub: &Hub,
) -> (HashSet<&'a DatabaseName>, Option<Problem>) {
    let mut new = HashMap::<&DatabaseName, New>::new();
    for (_, inventory, values) in partitions.clone() {
        for database in inventory.0.keys().filter(|database| !hub.databases.contains_key(*database)) {
            let new = new.entry(database).or_default();
            new.partitions += 1;
            new.values += values;
        }
    }
    let bytes = |database: &DatabaseName, new: &New| new.bytes(database.as_str().len());
    if new.iter().map(|(database, new)| bytes(database, new)).sum::<usize>() <= MOST_BYTES_OF_NEW_DATABASES {
        return (HashSet::new(), None);
    }
    let recorded = recorded_databases(hub);
    let mut new: Vec<_> = new.into_iter().filter(|(database, _)| !recorded.contains(*database)).collect();
    new.sort_unstable_by_key(|(database, new)| (Reverse(new.partitions), *database));
    let mut room = MOST_BYTES_OF_NEW_DATABASES;
    new.retain(|(database, new)| {
        let bytes = bytes(database, new);
        let has_room = bytes <= room;
        room -= if has_room { bytes } else { 0 };
        !has_room
    });
    let Some(first) = new.first().map(|(database, _)| (*database).clone()) else { return (HashSet::new(), None) };
    let left_out: HashSet<_> = new.into_iter().map(|(database, _)| database).collect();
    let having = partitions.map(|(partition, inventory, _)| {
        (partition, inventory.0.keys().filter(|database| left_out.contains(database)).count())
    });
    let problem = most(having).map(|partition| Problem::TooManyDatabases {
        database: first,
        more: left_out.len() - 1,
        partition: partition.clone(),
    });
    (left_out, problem)
}

/// The databases whose groups are recorded. A group's name tells of one before each [`GROUP_SUFFIX`] in it.
fn recorded_databases(hub: &Hub) -> HashSet<DatabaseName> {
    let groups = hub.claims.keys().map(|(_, group)| group.as_str());
    let names = groups.flat_map(|group| group.match_indices(GROUP_SUFFIX).map(|(end, _)| &group[..end]));
    names.filter_map(|name| DatabaseName::new(name).ok()).collect()
}

/// Tables and views that get no function, by database.
pub(super) type LeftOut<'a> = BTreeMap<DatabaseName, BTreeSet<&'a TableName>>;

/// Which of the databases' tables get no function. One that is there stays; of new ones those come first that most partitions have, and of what only one has the last fifth
/// of the memory is kept free, so that a partition which makes names up takes nothing from the others.
pub(super) fn left_out<'a>(
    databases: &BTreeMap<DatabaseName, DatabaseMembers<'a>>,
    hub: &Hub,
    settings: &Settings,
) -> LeftOut<'a> {
    let tables = databases.iter().filter(|(database, _)| hub.databases.contains_key(*database));
    let is_uncertain = |members: &DatabaseMembers<'_>| !members.unknown.is_empty();
    let tables: Vec<_> = tables.map(|(database, members)| (database, having(members), is_uncertain(members))).collect();
    // Nothing is dropped where somebody may have more than is listed.
    let uncertain = tables.iter().filter(|(.., is_uncertain)| *is_uncertain);
    let kept: usize = uncertain.map(|(database, tables, _)| bytes_of_kept(database, tables, hub, settings)).sum();
    let all: usize = tables.iter().flat_map(|(_, tables, _)| tables.keys()).map(|table| bytes_of(table)).sum();
    if all + kept <= MOST_BYTES {
        return LeftOut::new();
    }
    let (mut room, mut new) = (MOST_BYTES.saturating_sub(kept), Vec::new());
    for (database, tables, _) in tables {
        let present = hub.databases.get(database).map(|database| &database.functions);
        let is_there = |table: &TableName| {
            let function = FunctionName::new(format!("{}{table}", settings.function_prefix));
            function.is_ok_and(|function| present.is_some_and(|present| present.contains_key(&function)))
        };
        for (table, partitions) in tables {
            if is_there(table) {
                room = room.saturating_sub(bytes_of(table));
            } else {
                new.push((Reverse(partitions), (database, table), bytes_of(table)));
            }
        }
    }
    let mut left_out = LeftOut::new();
    let kept = |Reverse(partitions): &Reverse<usize>| if *partitions > 1 { 0 } else { KEPT_BYTES };
    for (database, table) in without_room(new, room, kept) {
        left_out.entry(database.clone()).or_default().insert(table);
    }
    left_out
}

/// Names the first of a database's tables that get no function, and who has most of them: likely the one that makes names up.
pub(super) fn problem_of_tables(
    database: &DatabaseName,
    members: &DatabaseMembers<'_>,
    left_out: &BTreeSet<&TableName>,
) -> Option<Problem> {
    let table = (*left_out.first()?).clone();
    let partitions = members.contents.iter().flat_map(|(content, entities)| {
        let names = content.tables.keys().chain(content.views.keys());
        let count = names.filter(|name| left_out.contains(name)).count();
        entities.iter().map(move |entity| (&entity.cluster, count))
    });
    let partition = most(partitions)?.clone();
    Some(Problem::TooMany { database: database.clone(), table, more: left_out.len() - 1, partition })
}

/// Where a group stands: the place of its database among all, and its own among that one's [`groups`].
type Place = (usize, usize);

/// Which new groups come first: those that most partitions are in, and of as many those of the hub's own databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct GroupRank {
    partitions: Reverse<usize>,
    is_of_others: bool,
}

impl GroupRank {
    const fn is_of_one(self) -> bool {
        self.partitions.0 == 1
    }

    /// The room that is left for what comes later and is of more, or of the hub's own.
    const fn kept(self) -> usize {
        let for_own = if self.is_of_others { KEPT_FOR_OWN_GROUPS } else { 0 };
        for_own + if self.is_of_one() { KEPT_FOR_SHARED_GROUPS } else { 0 }
    }
}

/// Takes groups out of what the databases are to have, where those of all would be too many, and tells of it. One that is there stays, and a database that the hub has too always has the
/// group of all its partitions. Of the others some come first, see [`GroupRank`]. None of a single partition is made where [`MOST_RECORDS`] are written, and none at all where
/// [`MOST_RECORDS_OF_ALL`] are.
pub(super) fn leave_out_groups(databases: &mut BTreeMap<DatabaseName, DatabaseMembers<'_>>, hub: &Hub) -> Vec<Problem> {
    let present = present_groups(hub);
    let (mut room, mut new) = (MOST_BYTES_OF_GROUPS, Vec::new());
    for (place, (database, members)) in databases.iter().enumerate() {
        let is_own = hub.databases.contains_key(database);
        for (part, (group, clusters)) in groups(database, members).enumerate() {
            // None is made of a name that Kusto would refuse.
            let Some(group) = group else { continue };
            let partitions = clusters.map_or(members.members.len(), <[_]>::len);
            let names = match clusters {
                Some(clusters) => clusters.iter().map(|cluster| cluster.as_str().len()).sum::<usize>(),
                None => members.members.iter().map(|entity| entity.cluster.as_str().len()).sum(),
            };
            let of_members = names + partitions * (BYTES_OF_A_MEMBER + database.as_str().len());
            let bytes = bytes_of_group(&group, hub) + of_members;
            if (part == 0 && is_own) || present.contains(&group) {
                room = room.saturating_sub(bytes);
            } else {
                let rank = GroupRank { partitions: Reverse(partitions), is_of_others: !is_own };
                new.push((rank, (place, part), bytes));
            }
        }
    }
    let is_unrecorded =
        |rank: GroupRank| hub.records >= MOST_RECORDS_OF_ALL || (hub.records >= MOST_RECORDS && rank.is_of_one());
    let unrecorded = new.extract_if(.., |(rank, _, _)| is_unrecorded(*rank));
    let unrecorded = BTreeSet::from_iter(unrecorded.map(|(_, place, _)| place));
    let without_room = BTreeSet::from_iter(without_room(new, room, |rank: &GroupRank| rank.kept()));
    let bounds = [(GroupBound::Memory, &without_room), (GroupBound::Records, &unrecorded)];
    let problems =
        bounds.into_iter().filter_map(|(bound, left_out)| problem_of_groups(databases, left_out, bound)).collect();
    let left_out = |place: Place| without_room.contains(&place) || unrecorded.contains(&place);
    for (place, members) in databases.values_mut().enumerate() {
        members.is_left_out = left_out((place, 0));
        let mut parts = 1..;
        members.by_value.retain(|_, _| parts.next().is_some_and(|part| !left_out((place, part))));
    }
    problems
}

/// What of the new has no room, by rank and by what it takes. `kept`: what those of a rank leave free.
fn without_room<R: Ord, T: Ord>(mut new: Vec<(R, T, usize)>, mut room: usize, kept: impl Fn(&R) -> usize) -> Vec<T> {
    new.sort_unstable();
    let mut without = Vec::new();
    for (rank, one, bytes) in new {
        if bytes + kept(&rank) <= room {
            room -= bytes;
        } else {
            without.push(one);
        }
    }
    without
}

/// The groups of a database, if Kusto takes their names: that of all its partitions, and then one for each value by which groups are made, with who has that.
fn groups<'a>(
    database: &'a DatabaseName,
    members: &'a DatabaseMembers<'_>,
) -> impl Iterator<Item = (Option<EntityGroupName>, Option<&'a [&'a ClusterEndpoint]>)> {
    let spelling = members.spelling.as_ref().unwrap_or(database);
    let by_value = members.by_value.iter();
    let by_value = by_value.map(move |(value, clusters)| (group_of_value(spelling, value).ok(), Some(&**clusters)));
    std::iter::once((group_of(spelling).ok(), None)).chain(by_value)
}

/// Names the first of them, and who is in most.
fn problem_of_groups(
    databases: &BTreeMap<DatabaseName, DatabaseMembers<'_>>,
    left_out: &BTreeSet<Place>,
    bound: GroupBound,
) -> Option<Problem> {
    let more = left_out.len().checked_sub(1)?;
    let (mut first, mut partitions) = (None, BTreeMap::<&ClusterEndpoint, usize>::new());
    for (place, (database, members)) in databases.iter().enumerate() {
        for (part, (group, clusters)) in groups(database, members).enumerate() {
            if left_out.contains(&(place, part)) {
                first = first.or(group);
                let all = members.members.iter().map(|entity| &entity.cluster).filter(|_| clusters.is_none());
                for cluster in all.chain(clusters.into_iter().flatten().copied()) {
                    *partitions.entry(cluster).or_default() += 1;
                }
            }
        }
    }
    let partition = most(partitions)?.clone();
    Some(Problem::TooManyGroups { bound, group: first?, more, partition })
}

/// Who has most; of those the first.
fn most<'a>(partitions: impl IntoIterator<Item = (&'a ClusterEndpoint, usize)>) -> Option<&'a ClusterEndpoint> {
    partitions
        .into_iter()
        .max_by_key(|(partition, count)| (*count, Reverse(*partition)))
        .map(|(partition, _)| partition)
}

/// Groups that are there, or are recorded: in a database that cannot be read, only that tells.
fn present_groups(hub: &Hub) -> BTreeSet<&EntityGroupName> {
    let read = hub.databases.values().filter_map(|database| database.groups.as_ref().ok()).flat_map(BTreeMap::keys);
    read.chain(hub.claims.keys().map(|(_, group)| group)).collect()
}

/// Without its members.
fn bytes_of_group(group: &EntityGroupName, hub: &Hub) -> usize {
    hub.databases.len() * (BYTES_OF_A_GROUP + COPIES_OF_A_GROUP * group.as_str().len())
}

/// The tables and views of a database, and how many partitions have each.
fn having<'a>(members: &DatabaseMembers<'a>) -> BTreeMap<&'a TableName, usize> {
    let mut having = BTreeMap::new();
    for (content, entities) in &members.contents {
        let content: &'a DatabaseInventory = content;
        // One that is listed as both is one function.
        for table in content.tables.keys().chain(content.views.keys()).collect::<BTreeSet<_>>() {
            *having.entry(table).or_default() += entities.len();
        }
    }
    having
}

fn bytes_of(table: &TableName) -> usize {
    BYTES_OF_A_FUNCTION + COPIES_OF_A_NAME * table.as_str().len()
}

/// What our functions take that are there and of a table that nobody lists.
fn bytes_of_kept(
    database: &DatabaseName,
    tables: &BTreeMap<&TableName, usize>,
    hub: &Hub,
    settings: &Settings,
) -> usize {
    let listed = tables.keys().map(|table| format!("{}{table}", settings.function_prefix)).collect::<HashSet<_>>();
    let present = hub.databases.get(database).into_iter().flat_map(|database| &database.functions);
    let kept =
        present.filter(|(name, function)| function.is_droppable(&settings.folder) && !listed.contains(name.as_str()));
    kept.map(|(name, _)| BYTES_OF_A_FUNCTION + COPIES_OF_A_NAME * name.as_str().len()).sum()
}
