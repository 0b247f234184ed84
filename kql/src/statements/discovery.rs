//! What a cluster holds: the partition's inventory and the hub's databases and functions.

use crate::{
    literal,
    request::{Request, RequestKind},
    statements::{STATUS_FUNCTION, request},
};

/// The databases that the caller sees. Columns, both strings: DatabaseName, Version.
#[derive(Debug, Clone, Copy)]
pub struct ShowDatabases;

impl ShowDatabases {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request("show_databases", RequestKind::Show, None, include_str!("../../text/show_databases.kql"), &[])
    }
}

/// Databases, tables, materialized views and functions of a partition with their columns, and that other entities exist.
/// Columns, all strings: DatabaseName, EntityType (`Table`, `MaterializedView`, `Function`, `ExternalTable`, `EntityGroup`), EntityName, CslInputSchema,
/// CslOutputSchema, Body (of a function without CslOutputSchema).
#[derive(Debug, Clone, Copy)]
pub struct ShowInventory;

impl ShowInventory {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request("show_inventory", RequestKind::Show, None, include_str!("../../text/show_inventory.kql"), &[])
    }
}

/// The functions of all hub databases, and other entities whose name begins like those of our functions.
/// Columns, all strings: DatabaseName, EntityType, EntityName, Folder, DocString, ContentHash (see [`PutFunction::content_hash`](super::PutFunction::content_hash)).
#[derive(Debug, Clone, Copy)]
pub struct ShowHubEntities<'a> {
    /// Prefix of our functions' names.
    pub function_prefix: &'a str,
}

impl ShowHubEntities<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "show_hub_entities",
            RequestKind::Show,
            None,
            include_str!("../../text/show_hub_entities.kql"),
            &[("prefix", &literal::string(self.function_prefix)), ("status", &literal::string(STATUS_FUNCTION))],
        )
    }
}
