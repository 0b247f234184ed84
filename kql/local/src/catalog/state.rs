//! Everything inside one database, as plain maps that the commands change in one step. No I/O; reached through [`super::Database::read`] and
//! [`super::Database::write`] only.

use std::{collections::BTreeMap, sync::Arc};

use super::{Entity, MaterializedView, StoredFunction, StoredTable, policy::Policies};
use crate::error::KustoError;

/// The state of a database.
#[derive(Debug)]
pub(crate) struct DatabaseState {
    /// Kusto's minor schema version; the major one is always 1.
    version: u64,
    pub(crate) tables: BTreeMap<String, StoredTable>,
    pub(crate) functions: BTreeMap<String, Arc<StoredFunction>>,
    pub(crate) materialized_views: BTreeMap<String, Arc<MaterializedView>>,
    pub(crate) entity_groups: BTreeMap<String, Arc<Vec<Entity>>>,
    pub(crate) policies: Policies,
    pub(crate) principals: Vec<Principal>,
}

impl DatabaseState {
    pub(crate) fn new() -> Self {
        Self {
            version: 1,
            tables: BTreeMap::new(),
            functions: BTreeMap::new(),
            materialized_views: BTreeMap::new(),
            entity_groups: BTreeMap::new(),
            policies: Policies::default(),
            principals: Vec::new(),
        }
    }

    /// The minor version of the schema, for `if_later_than`.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// To be called with every change of a table's columns, a function, a materialized view or a group.
    pub(crate) const fn schema_changed(&mut self) {
        self.version += 1;
    }

    /// A table that a command names.
    pub(crate) fn table(&self, name: &str) -> Result<&StoredTable, KustoError> {
        self.tables.get(name).ok_or_else(|| KustoError::not_found("Table", name))
    }

    /// Fails if a materialized view has this name: tables and functions share their names with it.
    pub(crate) fn refuse_name_of_view(&self, name: &str) -> Result<(), KustoError> {
        if self.materialized_views.contains_key(name) {
            return Err(KustoError::already_exists("MaterializedView", name));
        }
        Ok(())
    }

    /// A table that a command changes.
    pub(crate) fn table_mut(&mut self, name: &str) -> Result<&mut StoredTable, KustoError> {
        self.tables.get_mut(name).ok_or_else(|| KustoError::not_found("Table", name))
    }

    /// Before which ingestion time rows of the table are gone: its own retention policy, else the database's.
    pub(crate) fn oldest_kept(&self, table: &StoredTable, now: i64) -> Option<i64> {
        let retention = table.policies.retention.as_ref().or(self.policies.retention.as_ref())?;
        Some(now.saturating_sub(retention.soft_delete_ticks))
    }

    /// Whether rows may be streamed into the table: its own policy if it has one, else the database's.
    pub(crate) fn is_streaming_enabled(&self, table: &StoredTable) -> bool {
        table.policies.streaming_ingestion.or(self.policies.streaming_ingestion).unwrap_or(false)
    }
}

/// What a [`Mapping`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MappingKind {
    Csv,
    Json,
}

impl MappingKind {
    /// As `.show ingestion mappings` prints it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Csv => "Csv",
            Self::Json => "Json",
        }
    }
}

/// A stored ingestion mapping: which part of the input becomes which column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mapping {
    /// As it was sent, for `.show`.
    pub(crate) text: String,
    /// When it was stored: ticks.
    pub(crate) updated: i64,
    /// One per column that is filled.
    pub(crate) columns: Vec<MappedColumn>,
}

/// One column of a [`Mapping`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MappedColumn {
    /// The table's column.
    pub(crate) column: String,
    /// Where its value comes from.
    pub(crate) source: MappedSource,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MappedSource {
    /// A CSV field, from 0.
    Ordinal(usize),
    /// A path from the root of a JSON object: names and indexes; empty is the whole object.
    Path(Vec<PathStep>),
    /// The same text in every row.
    Constant(String),
}

/// One step of a JSON path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathStep {
    Member(String),
    Index(usize),
}

/// A role of a database or a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// `admins`, `ingestors`, ... as in the command.
    pub(crate) role: String,
    /// `aadapp=id;tenant`
    pub(crate) fully_qualified_name: String,
    /// The note of the command, if given.
    pub(crate) notes: String,
}

/// What a role is a role of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PrincipalOwner {
    Database,
    Table(String),
}

impl DatabaseState {
    /// The list of roles of the database or one of its tables.
    pub(crate) fn principals(&self, owner: &PrincipalOwner) -> Result<&Vec<Principal>, KustoError> {
        match owner {
            PrincipalOwner::Database => Ok(&self.principals),
            PrincipalOwner::Table(name) => Ok(&self.table(name)?.principals),
        }
    }

    /// The list of roles of the database or one of its tables, to change it.
    pub(crate) fn principals_mut(&mut self, owner: &PrincipalOwner) -> Result<&mut Vec<Principal>, KustoError> {
        match owner {
            PrincipalOwner::Database => Ok(&mut self.principals),
            PrincipalOwner::Table(name) => Ok(&mut self.table_mut(name)?.principals),
        }
    }
}
