//! What a person should look at of a fleet, in sentences. Pure; [`desired`](super::desired) finds it.

use std::fmt;

use kql::{
    endpoint::ClusterEndpoint,
    names::{ColumnName, DatabaseName, EntityGroupName, NameError, TableName},
    statements::{STATUS_FUNCTION, Source},
};

use crate::setup::ownership_table;

/// The most problems of one kind, or of the tables and columns of one database, that are told: a partition may name ten thousands, and what others have to tell must be seen.
const MAX_PROBLEMS: usize = 50;

/// Something that a person should look at; the rest goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Partitions have a database that the hub lacks: its tables get no functions.
    HubDatabaseMissing {
        /// The database.
        database: DatabaseName,
        /// How many partitions have it.
        partitions: usize,
    },
    /// A name of ours would break Kusto's rules.
    NameRefused(NameError),
    /// A table's function would have the name of [`STATUS_FUNCTION`].
    NameReserved {
        /// The database.
        database: DatabaseName,
        /// The table.
        table: TableName,
    },
    /// Partitions have a column with different types.
    TypesDiffer {
        /// The database.
        database: DatabaseName,
        /// The table.
        table: TableName,
        /// The column.
        column: ColumnName,
        /// Who has which.
        types: String,
    },
    /// A name is a view in one partition and a table in another: what most have is federated.
    ViewAndTable {
        /// The database.
        database: DatabaseName,
        /// The name.
        name: TableName,
        /// What most have.
        source: Source,
    },
    /// Two attributes of `entityGroups` have the same value: one group cannot be of both.
    ValueShared {
        /// The value.
        value: String,
        /// Whose groups are made.
        attribute: String,
        /// Whose are not.
        other: String,
    },
    /// No partition has an attribute of `entityGroups`.
    AttributeOfNobody {
        /// The attribute.
        attribute: String,
    },
    /// So many tables and views get no function, as those of all partitions would be too many.
    TooMany {
        /// The database.
        database: DatabaseName,
        /// The first of them.
        table: TableName,
        /// How many more.
        more: usize,
        /// The partition that has most of them.
        partition: ClusterEndpoint,
    },
    /// So many databases get no groups, as it would take too much to look at all of them.
    TooManyDatabases {
        /// The first of them.
        database: DatabaseName,
        /// How many more.
        more: usize,
        /// The partition that has most of them.
        partition: ClusterEndpoint,
    },
    /// So many new groups are not made.
    TooManyGroups {
        /// What else would be too much.
        bound: GroupBound,
        /// The first of them.
        group: EntityGroupName,
        /// How many more.
        more: usize,
        /// The partition that is in most of them.
        partition: ClusterEndpoint,
    },
    /// So many more of one kind.
    Untold {
        /// How many.
        problems: usize,
        /// What they are of.
        of: String,
    },
    /// The name of a group is that of another database's group.
    GroupTaken {
        /// The database that does not get it.
        database: DatabaseName,
        /// The name.
        group: EntityGroupName,
    },
}

/// Why new groups are not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBound {
    /// Those of all would take too much memory.
    Memory,
    /// The record of our groups is too long already.
    Records,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HubDatabaseMissing { database, partitions } => write!(
                f,
                "{partitions} partition(s) have the database '{database}', but the hub has none of that name: create it on the hub to get its functions"
            ),
            Self::NameRefused(error) => write!(f, "not federated: {error}"),
            Self::NameReserved { database, table } => write!(
                f,
                "'{table}' in '{database}' is not federated: its function would be named '{STATUS_FUNCTION}', which tells of the partitions; choose another functionPrefix"
            ),
            Self::TypesDiffer { database, table, column, types } => {
                write!(f, "the column '{column}' of '{table}' in '{database}' has different types: {types}")
            }
            Self::ViewAndTable { database, name, source } => {
                let what = if *source == Source::Table { "tables" } else { "views" };
                write!(
                    f,
                    "'{name}' in '{database}' is a table in some partitions and a view in others: only the {what} are federated"
                )
            }
            Self::ValueShared { value, attribute, other } => write!(
                f,
                "'{value}' is a value of both {attribute} and {other}: the groups with that name are of {attribute}, and partitions with that {other} get none for it"
            ),
            Self::AttributeOfNobody { attribute } => write!(
                f,
                "entityGroups names '{attribute}', which no federated partition has among the attributes that can be used: there are no groups by it, and case matters"
            ),
            Self::TooMany { database, table, more, partition } => write!(
                f,
                "'{table}' in '{database}' and {more} more tables or views get no function: all functions of the hub would take more memory than its agent may use; {partition} has most of these: if it makes names up, block it"
            ),
            Self::TooManyDatabases { database, more, partition } => write!(
                f,
                "'{database}' and {more} more databases get no entity groups: those of all databases that the hub lacks would take more memory than its agent may use; {partition} has most of these: if it makes names up, block it"
            ),
            Self::TooManyGroups { bound: GroupBound::Memory, group, more, partition } => write!(
                f,
                "the entity group '{group}' and {more} more are not made: all groups of the hub would take more memory than its agent may use; {partition} is in most of these: if it makes names up, block it, else take an attribute out of entityGroups, whose groups then go"
            ),
            Self::TooManyGroups { bound: GroupBound::Records, group, more, partition } => write!(
                f,
                "the entity group '{group}' and {more} more are not made: '{}' has too many rows for new groups; {partition} is in most of these: if it makes names up, block it, and then shorten it as README.md says under 'A record that is too long'",
                ownership_table()
            ),
            Self::Untold { problems, of } => write!(f, "{problems} more problems of {of}"),
            Self::GroupTaken { database, group } => write!(
                f,
                "'{database}' gets no entity group '{group}': one of another database has that name, which comes first"
            ),
        }
    }
}

/// The first of them, and how many there are besides.
pub(super) fn told(mut problems: Vec<Problem>, of: impl Into<String>) -> Vec<Problem> {
    let more = problems.drain(problems.len().min(MAX_PROBLEMS)..).count();
    problems.extend((more > 0).then(|| Problem::Untold { problems: more, of: of.into() }));
    problems
}
