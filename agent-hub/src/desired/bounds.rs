//! How many functions a hub gets. Partitions choose the names of tables, and each is a function: a pass has many texts of it at once, and every later look at the hub reads it. Pure; called by
//! [`desired`](super::desired).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use kql::names::{DatabaseName, FunctionName, TableName};
use shared::heartbeat::DatabaseInventory;

use super::DatabaseMembers;
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
