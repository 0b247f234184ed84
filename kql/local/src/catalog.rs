//! What the server knows: databases with their tables, functions, entity groups, policies and principals. In memory, no I/O.
//!
//! Readers take snapshots; writers change a database's state under its lock, in one step each. No lock is held across an await: every closure here is
//! synchronous. The commands and the ingestion write, the engine and the `.show` commands read.

pub mod policy;
mod state;
mod table;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use datafusion::arrow::array::RecordBatch;
use kql::syntax::ast::FunctionLiteral;

pub(crate) use state::{
    DatabaseState, MappedColumn, MappedSource, Mapping, MappingKind, PathStep, Principal, PrincipalOwner,
};
pub(crate) use table::StoredTable;

use crate::{error::KustoError, rows::Schema};

/// The name of the hidden last column of every stored batch: when the row arrived, in ticks.
pub const INGESTION_TIME: &str = "$ingestion_time";

/// All databases of the server.
#[derive(Debug)]
pub struct Catalog {
    own_endpoint: String,
    /// By folded name.
    databases: RwLock<BTreeMap<String, Arc<Database>>>,
}

impl Catalog {
    /// An empty catalog of the server at this endpoint: `http://127.0.0.1:port`.
    pub fn new(own_endpoint: impl Into<String>) -> Self {
        Self { own_endpoint: own_endpoint.into(), databases: RwLock::default() }
    }

    /// The server's endpoint, which `cluster()` may name to mean this server.
    pub fn own_endpoint(&self) -> &str {
        &self.own_endpoint
    }

    /// A database; its name compares without regard to case.
    pub fn database(&self, name: &str) -> Option<Arc<Database>> {
        self.databases.read().unwrap_or_else(PoisonError::into_inner).get(&name.to_lowercase()).cloned()
    }

    /// The names as they were given, sorted.
    pub fn database_names(&self) -> Vec<String> {
        self.databases().iter().map(|database| database.name.clone()).collect()
    }

    /// All databases, by name.
    pub fn databases(&self) -> Vec<Arc<Database>> {
        self.databases.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Adds an empty database.
    ///
    /// # Errors
    /// `BadRequest_EntityAlreadyExists` if there is one of this name.
    pub fn create_database(&self, name: &str) -> Result<Arc<Database>, KustoError> {
        let mut databases = self.databases.write().unwrap_or_else(PoisonError::into_inner);
        let key = name.to_lowercase();
        if databases.contains_key(&key) {
            return Err(KustoError::already_exists("Database", name));
        }
        let database = Arc::new(Database {
            name: name.to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            state: RwLock::new(DatabaseState::new()),
        });
        databases.insert(key, Arc::clone(&database));
        Ok(database)
    }

    /// Removes a database with everything in it; whether it was there.
    pub fn drop_database(&self, name: &str) -> bool {
        self.databases.write().unwrap_or_else(PoisonError::into_inner).remove(&name.to_lowercase()).is_some()
    }
}

/// One database.
#[derive(Debug)]
pub struct Database {
    name: String,
    id: String,
    state: RwLock<DatabaseState>,
}

impl Database {
    /// The name as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A guid that no other database has.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A table's columns and rows as they are at a time, in ticks; rows past their retention are gone. Names are case-sensitive.
    pub fn table_at(&self, name: &str, now: i64) -> Option<TableSnapshot> {
        let oldest_kept = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let table = state.tables.get(name)?;
            match state.oldest_kept(table, now) {
                Some(oldest) if table.holds_older_than(oldest) => oldest,
                _ => return Some(table.snapshot()),
            }
        };
        self.write(|state| {
            let table = state.tables.get_mut(name)?;
            table.drop_older_than(oldest_kept);
            Some(table.snapshot())
        })
    }

    /// The names of all tables, sorted.
    pub fn table_names(&self) -> Vec<String> {
        self.read(|state| state.tables.keys().cloned().collect())
    }

    /// The names of views, materialized or not: wildcards of `union` see them as tables.
    pub fn view_names(&self) -> Vec<String> {
        let is_view = |function: &StoredFunction| function.literal.view && function.literal.parameters.is_empty();
        self.read(|state| {
            let views = state.functions.iter().filter(|(_, function)| is_view(function));
            views.map(|(name, _)| name).chain(state.materialized_views.keys()).cloned().collect()
        })
    }

    /// A stored function. Names are case-sensitive.
    pub fn function(&self, name: &str) -> Option<Arc<StoredFunction>> {
        self.read(|state| state.functions.get(name).cloned())
    }

    /// What a name alone may stand for besides a table: a stored function, or the query of a materialized view.
    pub(crate) fn named_query(&self, name: &str) -> Option<Arc<StoredFunction>> {
        self.read(|state| {
            let view = || state.materialized_views.get(name).map(|view| &view.definition);
            state.functions.get(name).or_else(view).cloned()
        })
    }

    /// A stored entity group. Names are case-sensitive.
    pub fn entity_group(&self, name: &str) -> Option<Arc<Vec<Entity>>> {
        self.read(|state| state.entity_groups.get(name).cloned())
    }

    /// Looks at the whole state in one step.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&DatabaseState) -> T) -> T {
        // A panic while writing cannot leave half a change that matters more than answering: every change replaces whole entries.
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the whole state in one step.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut DatabaseState) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A table at one moment.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// The columns that queries see.
    pub schema: Schema,
    /// The rows: in each batch the schema's columns, then [`INGESTION_TIME`] as Int64.
    pub batches: Arc<Vec<RecordBatch>>,
}

/// A stored function.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFunction {
    /// Its name.
    pub name: String,
    /// Parameters and body, parsed.
    pub literal: FunctionLiteral,
    /// The parameters as `.show functions` prints them: `(a:long, T:(x:string))`.
    pub parameters: String,
    /// The body as it was sent, braces included.
    pub body: String,
    /// Where user interfaces list it.
    pub folder: String,
    /// What it is for.
    pub docstring: String,
}

/// A materialized view.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MaterializedView {
    /// The table that it reads.
    pub(crate) source: String,
    /// Its columns, as they were when it was made.
    pub(crate) columns: Schema,
    /// Its query, as a function without parameters.
    pub(crate) definition: Arc<StoredFunction>,
}

/// One entity of a group: a database, here or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// The argument of `cluster()`, lower case; `None` is this server.
    pub cluster: Option<String>,
    /// The argument of `database()`.
    pub database: String,
}

impl Entity {
    /// `cluster('c').database('d')`, as `.show entity_groups` prints it.
    pub fn text(&self) -> String {
        let database = format!("database({})", kql::literal::string(&self.database));
        match &self.cluster {
            Some(cluster) => format!("cluster({}).{database}", kql::literal::string(cluster)),
            None => database,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_names_compare_without_case_and_keep_their_spelling() {
        let catalog = Catalog::new("http://127.0.0.1:1");
        catalog.create_database("Logs").unwrap();
        assert_eq!(catalog.database("LOGS").unwrap().name(), "Logs");
        assert_eq!(catalog.database_names(), ["Logs"]);
        assert!(catalog.create_database("logs").is_err());
        assert!(catalog.drop_database("lOgS"));
        assert!(catalog.database("Logs").is_none());
    }

    #[test]
    fn entities_print_as_kusto_prints_them() {
        let here = Entity { cluster: None, database: "D'".into() };
        let there = Entity { cluster: Some("https://c".into()), database: "D".into() };
        assert_eq!(here.text(), r"database('D\'')");
        assert_eq!(there.text(), "cluster('https://c').database('D')");
    }
}
