//! Our record of the entity groups that we made.

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
/// members that were meant).
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
