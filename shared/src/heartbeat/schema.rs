//! The `Schema` column: a partition's databases with their tables and views, and its JSON. Read by [`parse`](super::parse). Pure.

use std::collections::BTreeMap;

use kql::{
    names::{ColumnName, DatabaseName, TableName},
    types::ScalarType,
};
use serde_json::{Map, Value};

/// A table's columns in their order.
pub type Columns = Vec<(ColumnName, ScalarType)>;

/// The databases of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaInventory(pub BTreeMap<DatabaseName, DatabaseInventory>);

/// What one database holds that can be queried by name. `None`: the columns are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseInventory {
    /// Tables and materialized views.
    pub tables: BTreeMap<TableName, Option<Columns>>,
    /// Functions of kind view, which are queried like tables.
    pub views: BTreeMap<TableName, Option<Columns>>,
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
                (TableName::new("Cpu").unwrap(), Some(columns)),
            ]),
            views: BTreeMap::from([(TableName::new("Recent").unwrap(), Some(Columns::new()))]),
        };
        let inventory = SchemaInventory(BTreeMap::from([
            (DatabaseName::new("Metrics").unwrap(), database),
            (DatabaseName::new("Logs").unwrap(), DatabaseInventory::default()),
        ]));
        assert_eq!(
            inventory.to_json().to_string(),
            r#"[{"database":"Logs","tables":[]},{"database":"Metrics","tables":["Cpu","Zeta"],"tableSchemas":{"Cpu":"['Time Stamp']:datetime, ['Value']:real","Recent":""},"views":["Recent"]}]"#
        );
    }
}
