//! What the hub agent records in tables of ours: the entity groups that it made, how it left its objects, and the membership of partitions.

use crate::{
    names::{DatabaseName, TableName},
    request::{Request, RequestKind},
    statements::request,
};

/// The table of records. Columns: Timestamp:datetime, then the strings Database, Kind, Name, State, Content.
#[derive(Debug, Clone, Copy)]
pub struct CreateOwnershipTable<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// The table.
    pub table: &'a TableName,
}

impl CreateOwnershipTable<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "create_ownership_table",
            RequestKind::IdempotentControl,
            Some(self.database),
            include_str!("../../text/create_ownership_table.kql"),
            &[("table", &self.table.quoted())],
        )
    }
}

/// The groups that we made or meant to make, since they were last gone. Columns: Database:string, Name:string, IsMade:bool, Contents:dynamic (hashes of the
/// members that were meant), Records:long. That one is null, but for a row that has nothing else: how many records of groups the table has.
#[derive(Debug, Clone, Copy)]
pub struct ReadOwnership<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// The table.
    pub table: &'a TableName,
}

impl ReadOwnership<'_> {
    /// Renders the query.
    pub fn request(&self) -> Request {
        request(
            "read_ownership",
            RequestKind::Query,
            Some(self.database),
            include_str!("../../text/read_ownership.kql"),
            &[("table", &self.table.quoted())],
        )
    }
}

/// How our agents left their objects. Columns: Database:string, Kind:string, Name:string, Content:string (hashes), Records:long. That one is null, but for a row that has nothing else: how many records
/// of this the table has.
#[derive(Debug, Clone, Copy)]
pub struct ReadLeft<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// The table.
    pub table: &'a TableName,
}

impl ReadLeft<'_> {
    /// Renders the query.
    pub fn request(&self) -> Request {
        request(
            "read_left",
            RequestKind::Query,
            Some(self.database),
            include_str!("../../text/read_left.kql"),
            &[("table", &self.table.quoted())],
        )
    }
}

/// The table of memberships. Columns: Timestamp:datetime, Kind:string, Name:string, State:string, Since:datetime, SilentSince:datetime, Returns:dynamic, Reason:string,
/// Beats:long, Counted:datetime, Zone:string, SchemaHash:string.
#[derive(Debug, Clone, Copy)]
pub struct CreateMembersTable<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// The table.
    pub table: &'a TableName,
}

impl CreateMembersTable<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        self.named("create_members_table")
    }

    /// The same for a table that is there and lacks columns, because an earlier version made it.
    pub fn extension(&self) -> Request {
        self.named("extend_members_table")
    }

    fn named(&self, name: &'static str) -> Request {
        request(
            name,
            RequestKind::IdempotentControl,
            Some(self.database),
            include_str!("../../text/create_members_table.kql"),
            &[("table", &self.table.quoted())],
        )
    }
}

/// A table's columns. Column of the answer: Schema:string, such as `A:long,B:string`.
#[derive(Debug, Clone, Copy)]
pub struct ShowColumns<'a> {
    /// The database.
    pub database: &'a DatabaseName,
    /// The table.
    pub table: &'a TableName,
}

impl ShowColumns<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "show_columns",
            RequestKind::Show,
            Some(self.database),
            include_str!("../../text/show_columns.kql"),
            &[("table", &self.table.quoted())],
        )
    }
}

/// The newest row of each partition, fleet and zone, of each guard, and of what the hub lacks. Columns: Kind, Name, State, then Since:datetime, SilentSince:datetime, Returns:dynamic, Reason:string,
/// Beats:long, Counted:datetime, Zone:string, SchemaHash:string.
#[derive(Debug, Clone, Copy)]
pub struct ReadMembers<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// The table.
    pub table: &'a TableName,
}

impl ReadMembers<'_> {
    /// Renders the query.
    pub fn request(&self) -> Request {
        request(
            "read_members",
            RequestKind::Query,
            Some(self.database),
            include_str!("../../text/read_members.kql"),
            &[("table", &self.table.quoted())],
        )
    }
}
