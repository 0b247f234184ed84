//! The `Schema` column: a partition's databases with their tables and views, and its JSON. Read by [`parse`](super::parse). Pure.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Weak},
};

use kql::{
    names::{ColumnName, DatabaseName, TableName},
    types::ScalarType,
};
use serde_json::{Map, Value};

/// A table's columns in their order.
pub type Columns = Vec<(ColumnName, ScalarType)>;

/// The databases of a partition. Fleets hold the same databases many times, so equal ones may be shared: see [`Interner`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaInventory(pub BTreeMap<DatabaseName, Arc<DatabaseInventory>>);

/// What one database holds that can be queried by name, as far as that could be read. `None`: the columns are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DatabaseInventory {
    /// Tables and materialized views.
    pub tables: BTreeMap<TableName, Option<Arc<Columns>>>,
    /// Functions of kind view, which are queried like tables.
    pub views: BTreeMap<TableName, Option<Arc<Columns>>>,
    /// Whether its lists were cut, or have what could not be read: it may hold more, which must not be taken for gone.
    pub is_partial: bool,
}

/// How many bytes all schemas may take, as far as that can be told: several times what large fleets do, and less than an agent's pod has.
const MAX_BYTES: usize = 80 * 1024 * 1024;

/// A schema of which no more is new than this is small. For such the last fifth of all bytes is kept, so that a few large ones, made up or not, keep no other's new table out.
const SMALL_BYTES: usize = 1024 * 1024;

/// Where a schema has no room, all that is kept is looked through if one in so many of the schemas is gone by now, and else not: with thousands that are refused in one reading, to look for each
/// would take minutes. At its end a reading looks in any case.
const PART_GONE: usize = 16;

/// What a table, or a column, takes beside its name.
const BYTES_OF_AN_ENTRY: usize = 64;

/// What a database takes beside its name: it is a member of a group in each pass.
const BYTES_OF_A_DATABASE: usize = 256;

/// The schemas of all partitions take as much memory as they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its schema is not taken in, as those of all partitions take too much memory: what is known of it is kept")]
pub struct Full {
    /// How many bytes of it would be new.
    pub bytes: usize,
}

/// Keeps one of each: of a thousand partitions with equal databases, each costs no more than the list of them. Whoever may write heartbeats may make schemas up: beyond some bytes no new one
/// is taken in.
#[derive(Debug)]
pub struct Interner {
    databases: HashSet<Arc<DatabaseInventory>>,
    columns: HashSet<Arc<Columns>>,
    /// Each partition has a list of databases of its own.
    lists: Vec<(Weak<SchemaInventory>, usize)>,
    bytes: usize,
    most: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Self::with_most(MAX_BYTES)
    }
}

impl Interner {
    /// One that keeps no more than so many bytes.
    pub fn with_most(most: usize) -> Self {
        Self { databases: HashSet::new(), columns: HashSet::new(), lists: Vec::new(), bytes: 0, most }
    }

    /// The same inventory, sharing what was seen before.
    ///
    /// # Errors
    /// [`Full`], if there is no room for what is new in it.
    pub fn share(&mut self, inventory: SchemaInventory) -> Result<Arc<SchemaInventory>, Full> {
        let list = bytes_of_list(&inventory);
        let mut full = Full { bytes: self.bytes_of_new(&inventory) + list };
        if !self.has_room(full) && self.has_unused() {
            self.forget_unused();
            full.bytes = self.bytes_of_new(&inventory) + list;
        }
        if !self.has_room(full) {
            return Err(full);
        }
        let databases = inventory.0.into_iter().map(|(name, content)| (name, self.database(content)));
        let shared = Arc::new(SchemaInventory(databases.collect()));
        self.lists.push((Arc::downgrade(&shared), list));
        self.bytes += list;
        Ok(shared)
    }

    /// Whether what was not taken in would be now.
    pub const fn has_room(&self, refused: Full) -> bool {
        let kept = if refused.bytes > SMALL_BYTES { self.most / 5 } else { 0 };
        self.bytes.saturating_add(refused.bytes) <= self.most - kept
    }

    /// Whether enough of what others had before is gone by now.
    fn has_unused(&self) -> bool {
        let gone = self.lists.iter().filter(|(list, _)| list.strong_count() == 0).count();
        gone > 0 && gone * PART_GONE >= self.lists.len()
    }

    fn bytes_of_new(&self, inventory: &SchemaInventory) -> usize {
        let mut counted = HashSet::new();
        let new = inventory.0.values().filter(|content| !self.databases.contains(*content));
        new.map(|content| {
            let columns = content.tables.values().chain(content.views.values()).flatten();
            let columns = columns.filter(|columns| !self.columns.contains(*columns) && counted.insert(*columns));
            bytes_of_database(content) + columns.map(|columns| bytes_of_columns(columns)).sum::<usize>()
        })
        .sum()
    }

    fn database(&mut self, mut content: Arc<DatabaseInventory>) -> Arc<DatabaseInventory> {
        if let Some(known) = self.databases.get(&content) {
            return Arc::clone(known);
        }
        let DatabaseInventory { tables, views, is_partial: _ } = Arc::make_mut(&mut content);
        for columns in tables.values_mut().chain(views.values_mut()).flatten() {
            match self.columns.get(columns) {
                Some(known) => columns.clone_from(known),
                None => {
                    self.bytes += bytes_of_columns(columns);
                    self.columns.insert(Arc::clone(columns));
                }
            }
        }
        self.bytes += bytes_of_database(&content);
        self.databases.insert(Arc::clone(&content));
        content
    }

    /// Forgets what nobody holds any more.
    pub fn forget_unused(&mut self) {
        self.lists.retain(|(list, _)| list.strong_count() > 0);
        self.databases.retain(|content| Arc::strong_count(content) > 1);
        self.columns.retain(|columns| Arc::strong_count(columns) > 1);
        let databases = self.databases.iter().map(|content| bytes_of_database(content));
        let columns = self.columns.iter().map(|columns| bytes_of_columns(columns));
        self.bytes = self.lists.iter().map(|(_, bytes)| *bytes).chain(databases).chain(columns).sum();
    }
}

fn bytes_of_list(inventory: &SchemaInventory) -> usize {
    inventory.0.keys().map(|name| name.as_str().len() + BYTES_OF_A_DATABASE).sum()
}

fn bytes_of_database(content: &DatabaseInventory) -> usize {
    content.tables.keys().chain(content.views.keys()).map(|name| name.as_str().len() + BYTES_OF_AN_ENTRY).sum()
}

fn bytes_of_columns(columns: &Columns) -> usize {
    columns.iter().map(|(name, _)| name.as_str().len() + BYTES_OF_AN_ENTRY).sum()
}

impl SchemaInventory {
    /// The column's value: databases, tables and views in the order of their names, so that equal schemas give equal bytes.
    pub fn to_json(&self) -> Value {
        Value::Array(self.0.iter().map(|(name, database)| database.to_json(name)).collect())
    }
}

impl DatabaseInventory {
    fn to_json(&self, name: &DatabaseName) -> Value {
        let names = |tables: &BTreeMap<TableName, _>| Value::from_iter(tables.keys().map(TableName::as_str));
        let mut object = Map::new();
        object.insert("database".to_owned(), name.as_str().into());
        object.insert("tables".to_owned(), names(&self.tables));
        // One map for tables and views, as adx-mon writes it; columns in its form too, because its hub pastes them into `.create table`.
        let schemas: BTreeMap<&str, String> = self
            .tables
            .iter()
            .chain(&self.views)
            .filter_map(|(name, columns)| Some((name.as_str(), columns_text(columns.as_ref()?))))
            .collect();
        if !schemas.is_empty() {
            let schemas = schemas.into_iter().map(|(name, columns)| (name.to_owned(), columns.into()));
            object.insert("tableSchemas".to_owned(), Value::Object(schemas.collect()));
        }
        if !self.views.is_empty() {
            object.insert("views".to_owned(), Value::from_iter(self.views.keys().map(TableName::as_str)));
        }
        Value::Object(object)
    }
}

/// `['a']:long, ['b c']:string`
fn columns_text(columns: &Columns) -> String {
    let columns: Vec<String> = columns.iter().map(|(name, kind)| format!("{}:{kind}", name.quoted())).collect();
    columns.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_written_sorted_and_in_adx_mons_form() {
        let columns: Columns = vec![
            (ColumnName::new("Time Stamp").unwrap(), ScalarType::DateTime),
            (ColumnName::new("Value").unwrap(), ScalarType::Real),
        ];
        let database = DatabaseInventory {
            tables: BTreeMap::from([
                (TableName::new("Zeta").unwrap(), None),
                (TableName::new("Cpu").unwrap(), Some(Arc::new(columns))),
            ]),
            views: BTreeMap::from([(TableName::new("Recent").unwrap(), Some(Arc::default()))]),
            is_partial: false,
        };
        let inventory = SchemaInventory(BTreeMap::from([
            (DatabaseName::new("Metrics").unwrap(), Arc::new(database)),
            (DatabaseName::new("Logs").unwrap(), Arc::default()),
        ]));
        assert_eq!(
            inventory.to_json().to_string(),
            r#"[{"database":"Logs","tables":[]},{"database":"Metrics","tables":["Cpu","Zeta"],"tableSchemas":{"Cpu":"['Time Stamp']:datetime, ['Value']:real","Recent":""},"views":["Recent"]}]"#
        );
    }

    #[test]
    fn equal_databases_and_columns_are_kept_once_for_as_long_as_somebody_holds_them() {
        let read =
            |text: &str| crate::heartbeat::parse_schema(&text.into(), crate::heartbeat::Limits::default()).0.unwrap();
        let one = r#"[{"database":"Logs","tables":["A","B"],"tableSchemas":{"A":"a:long","B":"a:long"}}]"#;
        let other = r#"[{"database":"Logs","tables":["A"],"tableSchemas":{"A":"a:long"}}]"#;
        let mut interner = Interner::default();
        let [first, second, third] = [one, one, other].map(|text| interner.share(read(text)).unwrap());
        assert_eq!(*first, read(one));
        let logs = DatabaseName::new("logs").unwrap();
        assert!(Arc::ptr_eq(&first.0[&logs], &second.0[&logs]) && !Arc::ptr_eq(&first.0[&logs], &third.0[&logs]));
        assert_eq!((interner.databases.len(), interner.columns.len()), (2, 1));
        drop((first, second));
        interner.forget_unused();
        assert_eq!((interner.databases.len(), interner.columns.len()), (1, 1));
    }

    #[test]
    fn where_schemas_take_too_much_memory_no_new_one_is_taken_in_until_some_are_gone() {
        let schema = |table: &str| {
            let text = format!(r#"[{{"database":"Logs","tables":["{table}"],"tableSchemas":{{"{table}":"a:long"}}}}]"#);
            crate::heartbeat::parse_schema(&text.into(), crate::heartbeat::Limits::default()).0.unwrap()
        };
        // Room for a table and its column, another table with that, and three lists of databases.
        let (bytes, list) = (1 + BYTES_OF_AN_ENTRY, "Logs".len() + BYTES_OF_A_DATABASE);
        let mut interner = Interner::with_most(3 * bytes + 3 * list);
        let first = interner.share(schema("A")).unwrap();
        let second = interner.share(schema("B")).unwrap();
        let full = Full { bytes: bytes + list };
        assert!(!interner.has_room(full));
        assert_eq!(interner.share(schema("C")), Err(full));
        let third = interner.share(schema("A"));
        assert_eq!(third.as_ref(), Ok(&first), "it costs its list of databases, and no table");
        assert_eq!(interner.share(schema("A")), Err(Full { bytes: list }));
        drop(third);
        interner.forget_unused();
        assert_eq!(interner.share(schema("C")), Err(full), "both are held");
        drop((first, second));
        interner.forget_unused();
        assert_eq!(interner.bytes, 0);
        assert!(interner.has_room(full) && interner.share(schema("C")).is_ok());
    }

    #[test]
    fn what_is_gone_makes_room_at_once_where_it_is_a_part_of_all_and_else_when_the_reading_ends() {
        let schema = || SchemaInventory([(DatabaseName::new("Logs").unwrap(), Arc::default())].into());
        let list = "Logs".len() + BYTES_OF_A_DATABASE;
        let mut interner = Interner::with_most(2 * PART_GONE * list);
        let mut held: Vec<_> = (0..2 * PART_GONE).map(|_| interner.share(schema()).unwrap()).collect();
        assert_eq!(interner.share(schema()), Err(Full { bytes: list }));
        held.pop();
        assert_eq!(interner.share(schema()), Err(Full { bytes: list }), "one of 32 is gone");
        held.pop();
        held.push(interner.share(schema()).unwrap());
        assert_eq!(interner.lists.len(), held.len());
        held.push(interner.share(schema()).unwrap());
        held.pop();
        interner.forget_unused();
        assert!(interner.share(schema()).is_ok());
    }

    #[test]
    fn large_schemas_leave_room_for_small_ones() {
        let schema = |name: &str, tables: usize| {
            let name = |number: usize| TableName::new(format!("{name}{number:0>900}")).unwrap();
            let content = DatabaseInventory {
                tables: (0..tables).map(|number| (name(number), None)).collect(),
                ..DatabaseInventory::default()
            };
            SchemaInventory([(DatabaseName::new("Logs").unwrap(), Arc::new(content))].into())
        };
        let mut interner = Interner::with_most(10 * SMALL_BYTES);
        let mut held = Vec::new();
        let refused = loop {
            match interner.share(schema(&format!("Large{}", held.len()), 1_500)) {
                Ok(large) => held.push(large),
                Err(full) => break full,
            }
        };
        assert!(held.len() == 5 && refused.bytes > SMALL_BYTES, "{} of {refused:?}", held.len());
        let small = interner.share(schema("Small", 1_000)).unwrap();
        assert!(interner.bytes > 8 * SMALL_BYTES - refused.bytes && !interner.has_room(refused));
        drop((held, small));
        interner.forget_unused();
        assert!(interner.has_room(refused));
    }
}
