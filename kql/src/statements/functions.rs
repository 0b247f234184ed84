//! Federated functions: their bodies, and the commands that put and drop them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use crate::{
    endpoint::ClusterEndpoint,
    literal,
    names::{ColumnName, DatabaseName, EntityGroupName, FunctionName, TableName},
    request::{Request, RequestKind},
    statements::{Entity, HeartbeatSource, entity_groups::render_entities, marker::mark, request, short_hash},
    template,
    types::ScalarType,
};

/// Which partitions a federated function runs over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// Every member of the database's stored group: a partition that joins or leaves changes the group only.
    Group(EntityGroupName),
    /// Just these, because the others lack the table. Not empty.
    Entities(BTreeSet<Entity>),
}

/// What a federated function asks each partition for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A table or materialized view.
    Table,
    /// A function without parameters.
    View,
}

/// The body of a federated function: the union of one table over partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedBody {
    /// The partitions.
    pub members: Members,
    /// The table or view there.
    pub table: TableName,
    /// Which of the two.
    pub source: Source,
    /// Columns that partitions have with different types, and the one type that each is converted to. Without that Kusto makes a column for each type, and every
    /// query on the column's name fails.
    pub converted: BTreeMap<ColumnName, ScalarType>,
    /// Leave out partitions that cannot be reached, instead of failing the query.
    pub best_effort: bool,
}

impl FederatedBody {
    /// Renders the tabular expression.
    pub fn render(&self) -> String {
        let parameters = if self.best_effort { "isfuzzy=true best_effort=true" } else { "isfuzzy=true" };
        let mut leg = match self.source {
            Source::Table => format!("X.{}", self.table.quoted()),
            Source::View => format!("X.{}()", self.table.quoted()),
        };
        for (column, scalar_type) in &self.converted {
            leg.push_str(&conversion(column, *scalar_type));
        }
        match &self.members {
            Members::Group(group) => template::fill(
                include_str!("../../text/federated_body_of_group.kql"),
                &[("parameters", parameters), ("group", &group.quoted()), ("leg", &leg)],
            ),
            Members::Entities(entities) => template::fill(
                include_str!("../../text/federated_body_of_entities.kql"),
                &[("parameters", parameters), ("entities", &render_entities(entities)), ("leg", &leg)],
            ),
        }
    }
}

/// ` | extend ['c'] = tolong(column_ifexists('c', long(null)))`: a partition that lacks the column gives null.
fn conversion(column: &ColumnName, scalar_type: ScalarType) -> String {
    let name = literal::string(column.as_str());
    let value = match scalar_type {
        ScalarType::Long | ScalarType::Int => format!("tolong(column_ifexists({name}, long(null)))"),
        ScalarType::Real => format!("toreal(column_ifexists({name}, real(null)))"),
        ScalarType::Decimal => format!("todecimal(column_ifexists({name}, decimal(null)))"),
        _ => format!("tostring(column_ifexists({name}, ''))"),
    };
    format!(" | extend {} = {value}", column.quoted())
}

/// The body of `federation_status()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusBody {
    /// The heartbeat database.
    pub database: DatabaseName,
    /// Where heartbeats are there.
    pub source: HeartbeatSource,
    /// The memory of membership.
    pub members: TableName,
    /// How far back heartbeats are asked for.
    pub window: Duration,
    /// A hub agent that runs calls no partition live that has been silent for this long.
    pub time_to_live: Duration,
}

/// The name of the function that tells of the partitions, in every hub database.
pub const STATUS_FUNCTION: &str = "federation_status";

impl StatusBody {
    fn render(&self) -> String {
        template::fill(
            include_str!("../../text/federation_status.kql"),
            &[
                ("beats", &self.source.render(Some(&self.database))),
                ("database", &literal::string(self.database.as_str())),
                ("members", &self.members.quoted()),
                ("window", &super::heartbeats::timespan_literal(self.window)),
                ("time_to_live", &super::heartbeats::timespan_literal(self.time_to_live)),
            ],
        )
    }
}

/// What a function of ours does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Asks partitions.
    Federated(FederatedBody),
    /// Tells of them.
    Status(StatusBody),
}

impl Body {
    /// Renders the function's text without its braces.
    pub fn render(&self) -> String {
        match self {
            Self::Federated(body) => body.render(),
            Self::Status(body) => body.render(),
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
    /// The heartbeat database of the agent that keeps it: another agent on the same hub leaves it alone.
    pub keeper: DatabaseName,
    /// The folder that our functions live in.
    pub folder: String,
    /// What people read beside the name.
    pub description: String,
    /// What it does.
    pub body: Body,
}

impl PutFunction {
    /// The group in its database that it asks, if it asks one.
    pub const fn asked_group(&self) -> Option<&EntityGroupName> {
        match &self.body {
            Body::Federated(FederatedBody { members: Members::Group(group), .. }) => Some(group),
            Body::Federated(_) | Body::Status(_) => None,
        }
    }

    /// The docstring: description and marker. Equal functions have equal docstrings, so comparing it tells whether the function must be sent again.
    pub fn docstring(&self) -> String {
        let digest = short_hash([self.function.as_str(), &self.folder, &self.description, &self.body.render()]);
        format!("{}{}", self.description, mark(&self.keeper, &self.database, &self.function, &digest))
    }

    /// SHA-256 of the function's text as the hub has it (`{ body }`), without white space, as `show_hub_entities` computes it: one that somebody edited or gave parameters has another.
    pub fn content_hash(&self) -> String {
        let text: String = format!("{{{}}}", self.body.render()).chars().filter(|c| !c.is_whitespace()).collect();
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
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
    /// A table or view there.
    pub table: &'a TableName,
    /// Which of the two.
    pub source: Source,
}

impl Canary<'_> {
    /// Renders the query.
    pub fn request(&self) -> Request {
        let source = match self.source {
            Source::Table => self.table.quoted(),
            Source::View => format!("{}()", self.table.quoted()),
        };
        let values = [("entity", &*self.entity.render()), ("source", &source)];
        request("canary", RequestKind::RemoteQuery, Some(self.database), include_str!("../../text/canary.kql"), &values)
    }
}
