//! A management command as a value: what [`super::parse`] reads and the other modules here carry out.

use kql::syntax::ast::{FunctionLiteral, Statement};
use serde_json::Value;

use crate::{
    catalog::{
        Entity, MappingKind, PrincipalOwner,
        policy::{Encoding, PolicyKind},
    },
    rows::Column,
};

/// A command with what follows it after a `|`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PipedCommand {
    pub(crate) command: Command,
    /// `| where ... | count`, applied to the command's table.
    pub(crate) operators: Vec<kql::syntax::ast::Operator>,
}

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    Show(Show),
    CreateDatabase {
        name: String,
        if_not_exists: bool,
    },
    DropDatabase {
        name: String,
        if_exists: bool,
    },
    CreateTable {
        name: String,
        columns: Vec<Column>,
        properties: EntityProperties,
        how: CreateTable,
    },
    DropTables {
        names: Vec<String>,
        if_exists: bool,
    },
    CreateFunction {
        function: NewFunction,
        how: CreateFunction,
    },
    DropFunctions {
        names: Vec<String>,
        if_exists: bool,
    },
    CreateMaterializedView(NewMaterializedView),
    DropMaterializedView {
        name: String,
        if_exists: bool,
    },
    EntityGroup {
        name: String,
        change: EntityGroupChange,
    },
    AlterPolicy {
        target: PolicyTarget,
        change: PolicyChange,
    },
    AddPrincipals {
        owner: PrincipalOwner,
        /// Of [`PrincipalOwner::Database`]; a table's is the request's.
        database: Option<String>,
        role: String,
        principals: Vec<String>,
        notes: String,
    },
    CreateMapping {
        table: String,
        kind: MappingKind,
        name: String,
        text: String,
        how: CreateMapping,
    },
    IngestInline {
        table: String,
        format: Option<String>,
        mapping: Option<String>,
        ignore_first_record: bool,
        /// Where the data starts in the text of the command.
        data: usize,
    },
    SetOrAppend {
        table: String,
        properties: EntityProperties,
        /// Where the query starts in the text of the command.
        query: usize,
    },
    Script {
        on_error: OnError,
        /// Where the script starts in the text of the command.
        script: usize,
    },
    ClearRemoteSchema {
        cluster: String,
        database: String,
    },
}

/// `.show ...`
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Show {
    Version,
    Cluster,
    Diagnostics,
    Databases,
    /// `.show database [D]`: the database itself.
    Database(Option<String>),
    DatabasesEntities {
        /// `resolveFunctionsSchema`
        resolve_functions: bool,
    },
    Schema {
        databases: Vec<SchemaOf>,
        form: SchemaForm,
        include: SchemaParts,
    },
    Tables(Vec<String>),
    Table {
        name: String,
        form: TableForm,
    },
    Functions,
    Function(String),
    MaterializedViews,
    EntityGroups,
    EntityGroup(String),
    Policy {
        target: PolicyTarget,
        kind: PolicyKind,
    },
    Principals {
        owner: PrincipalOwner,
        /// Of [`PrincipalOwner::Database`].
        database: Option<String>,
    },
    Mappings {
        table: String,
        kind: Option<MappingKind>,
        name: Option<String>,
    },
}

/// One database of `.show databases (...) schema`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SchemaOf {
    /// `None` is the request's database.
    pub(crate) name: Option<String>,
    /// Left out unless its schema is newer: the minor version of `v1.N`.
    pub(crate) if_later_than: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SchemaForm {
    /// One row per column.
    Flat,
    /// One JSON text.
    Json,
}

/// What `.show databases ... schema as json with (...)` holds; nothing asked for is everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SchemaParts {
    pub(crate) tables: Option<bool>,
    pub(crate) functions: Option<bool>,
    pub(crate) materialized_views: Option<bool>,
    pub(crate) external_tables: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableForm {
    /// A row per column.
    Attributes,
    /// `cslschema`
    Csl,
    /// `schema as json`
    Json,
}

/// `with (folder='...', docstring='...')`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EntityProperties {
    pub(crate) folder: Option<String>,
    pub(crate) docstring: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateTable {
    /// `.create table`
    Create,
    /// `.create-merge table`
    CreateMerge,
    /// `.alter-merge table`
    AlterMerge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateFunction {
    /// `.create function`
    Create,
    /// `.create function ifnotexists`
    CreateIfNotExists,
    /// `.create-or-alter function`
    CreateOrAlter,
    /// `.alter function`
    Alter,
}

/// A function to store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewFunction {
    pub(crate) name: String,
    pub(crate) literal: FunctionLiteral,
    /// As written: `(a:long)`.
    pub(crate) parameters: String,
    /// As written, with its braces.
    pub(crate) body: String,
    pub(crate) properties: EntityProperties,
    pub(crate) skip_validation: bool,
}

/// A materialized view to store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewMaterializedView {
    pub(crate) name: String,
    /// The table that it reads.
    pub(crate) source: String,
    pub(crate) query: Vec<Statement>,
    /// The query as written, with its braces.
    pub(crate) text: String,
    pub(crate) properties: EntityProperties,
    pub(crate) if_not_exists: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntityGroupChange {
    Create { entities: Vec<Entity>, if_not_exists: bool },
    Alter(Vec<Entity>),
    AlterMerge(Vec<Entity>),
    Drop,
}

/// Whose policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PolicyTarget {
    Database(String),
    Table(String),
    Column { table: String, column: String },
}

/// What becomes of a policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PolicyChange {
    Retention { soft_delete_ticks: Option<i64>, recoverable: Option<bool>, merge: bool },
    RetentionJson { value: Value, merge: bool },
    Caching { data_ticks: i64, index_ticks: i64 },
    CachingJson(Value),
    StreamingIngestion(bool),
    StreamingIngestionJson(Value),
    IngestionBatching(Value),
    Encoding(Encoding),
}

impl PolicyChange {
    pub(crate) const fn kind(&self) -> PolicyKind {
        match self {
            Self::Retention { .. } | Self::RetentionJson { .. } => PolicyKind::Retention,
            Self::Caching { .. } | Self::CachingJson(_) => PolicyKind::Caching,
            Self::StreamingIngestion(_) | Self::StreamingIngestionJson(_) => PolicyKind::StreamingIngestion,
            Self::IngestionBatching(_) => PolicyKind::IngestionBatching,
            Self::Encoding(_) => PolicyKind::Encoding,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateMapping {
    Create,
    CreateOrAlter,
    Alter,
}

/// What a script does when a command fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// Kusto's default: the rows up to and with the failure, as a success.
    Stop,
    /// `ContinueOnErrors=true`
    Continue,
    /// `ThrowOnErrors=true`: the script itself fails.
    Throw,
}

impl Command {
    /// Whether the command only looks: allowed in a request marked read-only, and left out by scripts.
    pub(crate) const fn is_read_only(&self) -> bool {
        matches!(self, Self::Show(_))
    }

    /// The `CommandType` of a script's row.
    pub(crate) const fn type_name(&self) -> &'static str {
        match self {
            Self::Show(_) => "Show",
            Self::CreateDatabase { .. } => "DatabaseCreate",
            Self::DropDatabase { .. } => "DatabaseDrop",
            Self::CreateTable { how: CreateTable::AlterMerge, .. } => "TableAlterMerge",
            Self::CreateTable { .. } => "TableCreate",
            Self::DropTables { .. } => "TableDrop",
            Self::CreateFunction { how: CreateFunction::CreateOrAlter, .. } => "FunctionCreateOrAlter",
            Self::CreateFunction { how: CreateFunction::Alter, .. } => "FunctionAlter",
            Self::CreateFunction { .. } => "FunctionCreate",
            Self::DropFunctions { .. } => "FunctionDrop",
            Self::CreateMaterializedView(_) => "MaterializedViewCreate",
            Self::DropMaterializedView { .. } => "MaterializedViewDrop",
            Self::EntityGroup { change: EntityGroupChange::Create { .. }, .. } => "EntityGroupCreate",
            Self::EntityGroup { change: EntityGroupChange::Alter(_), .. } => "EntityGroupAlter",
            Self::EntityGroup { change: EntityGroupChange::AlterMerge(_), .. } => "EntityGroupAlterMerge",
            Self::EntityGroup { change: EntityGroupChange::Drop, .. } => "EntityGroupDrop",
            Self::AlterPolicy { change, .. } => match change.kind() {
                PolicyKind::Retention => "RetentionPolicyAlter",
                PolicyKind::Caching => "CachingPolicyAlter",
                PolicyKind::StreamingIngestion => "StreamingIngestionPolicyAlter",
                PolicyKind::IngestionBatching => "IngestionBatchingPolicyAlter",
                PolicyKind::Encoding => "ColumnEncodingPolicyAlter",
            },
            Self::AddPrincipals { owner: PrincipalOwner::Database, .. } => "DatabaseAddPrincipals",
            Self::AddPrincipals { .. } => "TableAddPrincipals",
            Self::CreateMapping { .. } => "TableIngestionMappingCreate",
            Self::IngestInline { .. } => "DataIngestPush",
            Self::SetOrAppend { .. } => "DataIngestFromQuery",
            Self::Script { .. } => "ExecuteDatabaseScript",
            Self::ClearRemoteSchema { .. } => "ClearRemoteClusterDatabaseSchema",
        }
    }
}
