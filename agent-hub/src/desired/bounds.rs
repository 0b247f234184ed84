//! How many functions and groups a hub gets. Partitions choose the names of tables and databases, and each is a function, or a group in every database: a pass has many texts of it at once, and every
//! later look at the hub reads it. Pure; called by [`desired`](super::desired).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use kql::names::{DatabaseName, EntityGroupName, FunctionName, TableName};
use shared::heartbeat::DatabaseInventory;

use super::{DatabaseMembers, GROUP_SUFFIX, group_of};
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

/// The memory that all groups may take: about as many as there may be functions. A group is in every database of the hub, recorded and read in each.
const MOST_BYTES_OF_GROUPS: usize = 32 * 1024 * 1024;

/// What a group takes in one database of the hub, beside its name: its entry, its record, and the command that makes it. An estimate, and no little one.
const BYTES_OF_A_GROUP: usize = 1024;

/// How often a group's name is in memory at once for each database of the hub: in those.
const COPIES_OF_A_GROUP: usize = 6;

/// What a member takes, in all databases of the hub together: they share a group's.
const BYTES_OF_A_MEMBER: usize = 128;

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
    let tables: Vec<_> = tables.map(|(database, members)| (database, having(members))).collect();
    let all: usize = tables.iter().flat_map(|(_, tables)| tables.keys()).map(|table| bytes_of(table)).sum();
    if all <= MOST_BYTES {
        return LeftOut::new();
    }
    let (mut room, mut new) = (MOST_BYTES, Vec::new());
    for (database, tables) in tables {
        let present = hub.databases.get(database).map(|database| &database.functions);
        let is_there = |table: &TableName| {
            let function = FunctionName::new(format!("{}{table}", settings.function_prefix));
            function.is_ok_and(|function| present.is_some_and(|present| present.contains_key(&function)))
        };
        for (table, partitions) in tables {
            if is_there(table) {
                room = room.saturating_sub(bytes_of(table));
            } else {
                new.push((Reverse(partitions), database, table));
            }
        }
    }
    new.sort_unstable();
    let mut left_out = LeftOut::new();
    for (Reverse(partitions), database, table) in new {
        let (bytes, kept) = (bytes_of(table), if partitions > 1 { 0 } else { KEPT_BYTES });
        if bytes + kept <= room {
            room -= bytes;
        } else {
            left_out.entry(database.clone()).or_default().insert(table);
        }
    }
    left_out
}

/// Databases that get no groups, because those of all would be too many. The hub's own get theirs, and so do those that have them; of the others those come first that most
/// partitions have, and of what only one has the last fifth of the memory is kept free.
pub(super) fn without_groups(
    databases: &BTreeMap<DatabaseName, DatabaseMembers<'_>>,
    hub: &Hub,
) -> BTreeSet<DatabaseName> {
    let bytes: BTreeMap<_, _> =
        databases.iter().map(|(database, members)| (database, bytes_of_groups(database, members, hub))).collect();
    if bytes.values().sum::<usize>() <= MOST_BYTES_OF_GROUPS {
        return BTreeSet::new();
    }
    let present = present_groups(hub);
    let (mut room, mut new) = (MOST_BYTES_OF_GROUPS, Vec::new());
    for (database, members) in databases {
        let spelling = members.spelling.as_ref().unwrap_or(database);
        let is_there = || group_of(spelling).is_ok_and(|group| present.contains(&group));
        if hub.databases.contains_key(database) || is_there() {
            room = room.saturating_sub(bytes[database]);
        } else {
            new.push((Reverse(members.members.len()), database));
        }
    }
    new.sort_unstable();
    let mut without = BTreeSet::new();
    for (Reverse(partitions), database) in new {
        let (bytes, kept) = (bytes[database], if partitions > 1 { 0 } else { MOST_BYTES_OF_GROUPS / 5 });
        if bytes + kept <= room {
            room -= bytes;
        } else {
            without.insert(database.clone());
        }
    }
    without
}

/// Groups that are there, or are recorded: in a database that cannot be read, only that tells.
fn present_groups(hub: &Hub) -> BTreeSet<&EntityGroupName> {
    let read = hub.databases.values().filter_map(|database| database.groups.as_ref().ok()).flat_map(BTreeMap::keys);
    read.chain(hub.claims.keys().map(|(_, group)| group)).collect()
}

/// Of a database: its own, and one for each value by which groups are made.
fn bytes_of_groups(database: &DatabaseName, members: &DatabaseMembers<'_>, hub: &Hub) -> usize {
    let values = std::iter::once(0).chain(members.by_value.keys().map(String::len));
    let names = values.map(|value| database.as_str().len() + GROUP_SUFFIX.len() + value);
    let names = names.map(|name| BYTES_OF_A_GROUP + COPIES_OF_A_GROUP * name).sum::<usize>();
    let entities = members.members.len() + members.by_value.values().map(BTreeSet::len).sum::<usize>();
    hub.databases.len() * names + BYTES_OF_A_MEMBER * entities
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
