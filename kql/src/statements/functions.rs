//! Federated functions: their bodies, and the commands that put and drop them.

use std::collections::BTreeSet;

use crate::{
    endpoint::ClusterEndpoint,
    literal,
    names::{DatabaseName, EntityGroupName, FunctionName, TableName},
    request::{Request, RequestKind},
    statements::{Entity, entity_groups::render_entities, request, short_hash},
    template,
};

/// Which partitions a federated function runs over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// Every member of the database's stored group: a partition that joins or leaves changes the group only.
    Group(EntityGroupName),
    /// Just these, because the others lack the table. Not empty.
    Entities(BTreeSet<Entity>),
}

/// The body of a federated function: the union of one table over partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedBody {
    /// The partitions.
    pub members: Members,
    /// The table there.
    pub table: TableName,
    /// Leave out partitions that cannot be reached, instead of failing the query.
    pub best_effort: bool,
}

impl FederatedBody {
    /// Renders the tabular expression.
    pub fn render(&self) -> String {
        let parameters = if self.best_effort { "isfuzzy=true best_effort=true" } else { "isfuzzy=true" };
        let table = self.table.quoted();
        match &self.members {
            Members::Group(group) => template::fill(
                include_str!("../../text/federated_body_of_group.kql"),
                &[("parameters", parameters), ("group", &group.quoted()), ("table", &table)],
            ),
            Members::Entities(entities) => template::fill(
                include_str!("../../text/federated_body_of_entities.kql"),
                &[("parameters", parameters), ("entities", &render_entities(entities)), ("table", &table)],
            ),
        }
    }
}

/// A federated function as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutFunction {
    /// The hub database.
    pub database: DatabaseName,
    /// The function.
    pub function: FunctionName,
    /// The folder that our functions live in.
    pub folder: String,
    /// What people read beside the name.
    pub description: String,
    /// What it does.
    pub body: FederatedBody,
}

/// Ends every docstring of ours; between it and the closing bracket stands the content's hash.
const MARKER: &str = " [adx-federation ";

impl PutFunction {
    /// The docstring: description and marker. Equal functions have equal docstrings, so comparing it tells whether the function must be sent again.
    pub fn docstring(&self) -> String {
        let digest = short_hash([self.function.as_str(), &self.folder, &self.description, &self.body.render()]);
        format!("{}{MARKER}{digest}]", self.description)
    }

    /// Whether a docstring is one of ours, whatever content it marks.
    pub fn is_marked(docstring: &str) -> bool {
        docstring.rfind(MARKER).is_some_and(|start| {
            let rest = &docstring[start + MARKER.len()..];
            rest.strip_suffix(']').is_some_and(|hash| hash.len() == 24 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
        })
    }

    /// Renders the command that replaces the function.
    pub fn request(&self) -> Request {
        self.render("put_function", RequestKind::IdempotentControl, include_str!("../../text/put_function.kql"))
    }

    /// Renders the command that makes the function, and fails if there is one of its name.
    pub fn create_request(&self) -> Request {
        self.render("create_function", RequestKind::Control, include_str!("../../text/create_function.kql"))
    }

    fn render(&self, name: &'static str, kind: RequestKind, file: &str) -> Request {
        let values = [
            ("folder", &*literal::string(&self.folder)),
            ("docstring", &literal::string(&self.docstring())),
            ("function", &self.function.quoted()),
            ("body", &self.body.render()),
        ];
        request(name, kind, Some(&self.database), file, &values)
    }
}

/// Removes a function if it is there.
#[derive(Debug, Clone, Copy)]
pub struct DropFunction<'a> {
    /// The hub database.
    pub database: &'a DatabaseName,
    /// The function.
    pub function: &'a FunctionName,
}

impl DropFunction<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "drop_function",
            RequestKind::IdempotentControl,
            Some(self.database),
            include_str!("../../text/drop_function.kql"),
            &[("function", &self.function.quoted())],
        )
    }
}

/// Makes the hub forget the columns that it remembers of a partition's database.
#[derive(Debug, Clone, Copy)]
pub struct ClearRemoteSchema<'a> {
    /// The hub database that the command runs in.
    pub database: &'a DatabaseName,
    /// The partition.
    pub cluster: &'a ClusterEndpoint,
    /// Its database.
    pub remote_database: &'a DatabaseName,
}

impl ClearRemoteSchema<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "clear_remote_schema",
            RequestKind::IdempotentControl,
            Some(self.database),
            include_str!("../../text/clear_remote_schema.kql"),
            &[
                ("cluster", &literal::string(self.cluster.as_str())),
                ("database", &literal::string(self.remote_database.as_str())),
            ],
        )
    }
}

/// A query that a new partition must answer before it is federated. Columns: Count:long.
#[derive(Debug, Clone, Copy)]
pub struct Canary<'a> {
    /// The hub database that the query runs in.
    pub database: &'a DatabaseName,
    /// A database of the partition.
    pub entity: &'a Entity,
    /// A table there.
    pub table: &'a TableName,
}

impl Canary<'_> {
    /// Renders the query.
    pub fn request(&self) -> Request {
        let values = [("entity", &*self.entity.render()), ("table", &self.table.quoted())];
        request("canary", RequestKind::Query, Some(self.database), include_str!("../../text/canary.kql"), &values)
    }
}
