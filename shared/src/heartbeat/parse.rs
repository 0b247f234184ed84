//! Reads what strangers wrote into the heartbeat table. What is wrong is left out with a [`Problem`] and never stops the rest; names that Kusto would
//! refuse are dropped, not repaired, because every name becomes part of a command on the hub. Pure; used by agent-hub.

use std::{collections::BTreeMap, error::Error, fmt, str::FromStr as _, sync::Arc};

use kql::{
    names::{ColumnName, DatabaseName, TableName},
    secrets::line,
    types::ScalarType,
};
use serde_json::{Map, Value};

use super::schema::{Columns, DatabaseInventory, SchemaInventory};

/// How much of one heartbeat is believed. Its writer may be broken or hostile, and everything in it becomes commands on the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Databases in a heartbeat.
    pub databases: usize,
    /// Tables and views in a heartbeat, over all its databases.
    pub tables: usize,
    /// Columns of a table.
    pub columns: usize,
    /// Columns in a heartbeat, over all its tables and views.
    pub all_columns: usize,
    /// Bytes of the names of its databases. Each is a group in every database of the hub.
    pub database_bytes: usize,
    /// Bytes of the names of its tables and views, and again of its columns. Those of tables are in a dozen texts of a pass at once: without this, one partition could take
    /// all the memory of a hub's agent.
    pub name_bytes: usize,
}

impl Default for Limits {
    /// Far above real clusters, which have hundreds of databases and thousands of tables at most; far below what harms a hub.
    fn default() -> Self {
        Self {
            databases: 1_000,
            // Azure gives a database 260 characters at most.
            database_bytes: 256 * 1024,
            tables: 20_000,
            columns: 2_000,
            all_columns: 400_000,
            name_bytes: 8 * 1024 * 1024,
        }
    }
}

/// The most JSON values of a schema's text: several times what the limits allow. Each costs dozens of bytes before anything of it can be looked at, and a text of 24 MiB may
/// hold twelve million.
const MAX_VALUES: usize = 200_000;

/// What of the limits is left for the rest of a heartbeat.
struct Room {
    databases: usize,
    database_bytes: usize,
    tables: usize,
    table_bytes: usize,
    columns: usize,
    column_bytes: usize,
}

impl Room {
    const fn of(limits: Limits) -> Self {
        let Limits { databases, database_bytes, tables, columns: _, all_columns: columns, name_bytes: bytes } = limits;
        Self { databases, database_bytes, tables, table_bytes: bytes, columns, column_bytes: bytes }
    }

    /// Takes room for a database.
    const fn take_database(&mut self, name_bytes: usize) -> bool {
        match (self.databases.checked_sub(1), self.database_bytes.checked_sub(name_bytes)) {
            (Some(databases), Some(bytes)) => {
                (self.databases, self.database_bytes) = (databases, bytes);
                true
            }
            _ => false,
        }
    }

    /// Takes room for a table or view; none is left once one has found too little.
    const fn take_table(&mut self, name_bytes: usize) -> bool {
        match (self.tables.checked_sub(1), self.table_bytes.checked_sub(name_bytes)) {
            (Some(tables), Some(bytes)) => {
                (self.tables, self.table_bytes) = (tables, bytes);
                true
            }
            _ => {
                self.tables = 0;
                false
            }
        }
    }

    /// Takes room for the columns of one.
    fn take_columns(&mut self, columns: &Columns) -> bool {
        let name_bytes = columns.iter().map(|(name, _)| name.as_str().len()).sum();
        match (self.columns.checked_sub(columns.len()), self.column_bytes.checked_sub(name_bytes)) {
            (Some(columns), Some(bytes)) => {
                (self.columns, self.column_bytes) = (columns, bytes);
                true
            }
            _ => false,
        }
    }
}

/// Problems that are told of one value; a hostile one could hold millions.
const MAX_PROBLEMS: usize = 50;

/// How much a problem has of a stranger's text: no novels.
const PART_CHARS: usize = 200;

/// Something in a heartbeat that was left out, and why. The rest of the heartbeat stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `Logs.tables[3]`.
    pub at: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

#[derive(Default)]
pub(super) struct Problems {
    told: Vec<Problem>,
    untold: usize,
}

impl Problems {
    /// What is not told is not written out either: that may cost more than reading it.
    pub(super) fn add(&mut self, at: impl fmt::Display, what: impl fmt::Display) {
        if self.told.len() == MAX_PROBLEMS {
            self.untold += 1;
            return;
        }
        let [at, what] = [at.to_string(), what.to_string()].map(|part| line(&part, PART_CHARS));
        self.told.push(Problem { at, what });
    }

    pub(super) fn finish(mut self) -> Vec<Problem> {
        if self.untold > 0 {
            self.told.push(Problem { at: "Schema".to_owned(), what: format!("{} more problems", self.untold) });
        }
        self.told
    }
}

/// Reads the `Schema` column, as JSON or as the text of it.
///
/// `None`: the value is no schema at all (null, as Kusto makes of a value over 1 MiB; or not a list). That is not an empty schema, and must not be taken
/// for the partition having lost its tables. Unknown keys are ignored; null lists are empty ones, as Go writes them.
pub fn parse_schema(value: &Value, limits: Limits) -> (Option<SchemaInventory>, Vec<Problem>) {
    let mut problems = Problems::default();
    let inventory = schema(value, limits, &mut problems);
    (inventory, problems.finish())
}

fn schema(value: &Value, limits: Limits, problems: &mut Problems) -> Option<SchemaInventory> {
    let parsed;
    let value = match value {
        // Values are at least two bytes apart.
        Value::String(text) if text.len() > 2 * MAX_VALUES && count_values(text) > MAX_VALUES => {
            problems.add("Schema", format_args!("it holds more than {MAX_VALUES} values and is not read"));
            return None;
        }
        Value::String(text) if !text.is_empty() => match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                parsed = value;
                &parsed
            }
            Err(error) => {
                problems.add("Schema", format_args!("it is no JSON: {error}"));
                return None;
            }
        },
        value => value,
    };
    let databases = match value {
        Value::Array(databases) => databases,
        Value::Null | Value::String(_) => {
            problems.add(
                "Schema",
                "it is null; Kusto stores values over 1 MiB so, unless the column's encoding is BigObject32",
            );
            return None;
        }
        _ => {
            problems.add("Schema", "it is not a list of databases");
            return None;
        }
    };
    let mut inventory = SchemaInventory::default();
    let mut room = Room::of(limits);
    for (index, entry) in databases.iter().enumerate() {
        let Some(entry) = entry.as_object() else {
            problems.add(format_args!("Schema[{index}]"), "it is not an object");
            continue;
        };
        let name = match entry.get("database").and_then(Value::as_str).map(DatabaseName::new) {
            Some(Ok(name)) => name,
            Some(Err(error)) => {
                problems.add(format_args!("Schema[{index}].database"), error);
                continue;
            }
            None => {
                problems.add(format_args!("Schema[{index}].database"), "it is missing or no text");
                continue;
            }
        };
        if !inventory.0.contains_key(&name) && !room.take_database(name.as_str().len()) {
            let Limits { databases, database_bytes: bytes, .. } = limits;
            let what = format_args!("only the first {databases} databases, or {bytes} bytes of their names, are used");
            problems.add("Schema", what);
            break;
        }
        let before = room.tables;
        let DatabaseInventory { tables, views, is_partial } = database(&name, entry, &mut room, limits, problems);
        // One database under two spellings, or twice: what it holds is what both say.
        let known = Arc::make_mut(inventory.0.entry(name).or_default());
        known.tables.extend(tables);
        known.views.extend(views);
        known.is_partial |= is_partial;
        if before > 0 && room.tables == 0 {
            let Limits { tables, name_bytes, .. } = limits;
            problems.add(
                "Schema",
                format_args!(
                    "only the first {tables} tables and views, or {name_bytes} bytes of their names, are used"
                ),
            );
        }
    }
    Some(inventory)
}

fn database(
    name: &DatabaseName,
    entry: &Map<String, Value>,
    room: &mut Room,
    limits: Limits,
    problems: &mut Problems,
) -> DatabaseInventory {
    let no_schemas = Map::new();
    let schemas = match entry.get("tableSchemas") {
        Some(Value::Object(schemas)) => schemas,
        None | Some(Value::Null) => &no_schemas,
        Some(_) => {
            problems.add(format_args!("{name}.tableSchemas"), "it is not an object");
            &no_schemas
        }
    };
    let mut is_partial = false;
    let mut list = |key: &str| {
        let mut found = BTreeMap::new();
        let entries = match entry.get(key) {
            Some(Value::Array(entries)) => entries.as_slice(),
            None | Some(Value::Null) => &[],
            Some(_) => {
                problems.add(format_args!("{name}.{key}"), "it is not a list");
                is_partial = true;
                &[]
            }
        };
        for (index, table) in entries.iter().enumerate() {
            if room.tables == 0 {
                is_partial = true;
                break;
            }
            let table = match table.as_str().map(TableName::new) {
                Some(Ok(table)) => table,
                Some(Err(error)) => {
                    problems.add(format_args!("{name}.{key}[{index}]"), error);
                    continue;
                }
                None => {
                    problems.add(format_args!("{name}.{key}[{index}]"), "it is no text");
                    is_partial = true;
                    continue;
                }
            };
            if !found.contains_key(&table) && !room.take_table(table.as_str().len()) {
                is_partial = true;
                break;
            }
            let columns = schemas.get(table.as_str()).and_then(|text| {
                let columns = columns(text, limits.columns).and_then(|columns| match columns {
                    Some(columns) if !room.take_columns(&columns) => {
                        let Limits { all_columns, name_bytes, .. } = limits;
                        let why = format!(
                            "its columns are left out: {all_columns} columns, or {name_bytes} bytes of their names, are used"
                        );
                        Err(why.into())
                    }
                    columns => Ok(columns),
                });
                let columns = columns.unwrap_or_else(|what| {
                    problems.add(format_args!("{name}.tableSchemas.{table}"), what);
                    None
                });
                columns.map(Arc::new)
            });
            found.insert(table, columns);
        }
        found
    };
    let (tables, views) = (list("tables"), list("views"));
    DatabaseInventory { tables, views, is_partial }
}

/// As many values as a JSON text holds, or some more. Needs no memory.
fn count_values(text: &str) -> usize {
    let (mut count, mut in_string, mut is_escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Reads `['a']:long, ['b c']:System.String` or `a:long,b:string`. `None` for an empty text: the writer does not know the columns.
fn columns(value: &Value, limit: usize) -> Result<Option<Columns>, Box<dyn Error>> {
    let mut rest = match value {
        Value::String(text) => text.trim(),
        Value::Null => "",
        _ => return Err("the columns are no text".into()),
    };
    let mut columns = Columns::new();
    while !rest.is_empty() {
        // Names that hold a quote are refused anyway, so the first quote with a bracket ends the name.
        let (name, tail) = if let Some(quoted) = rest.strip_prefix("['") {
            quoted.split_once("']").ok_or("a column's name does not end")?
        } else if let Some(quoted) = rest.strip_prefix("[\"") {
            quoted.split_once("\"]").ok_or("a column's name does not end")?
        } else {
            rest.split_at(rest.find(':').ok_or("a column has no type")?)
        };
        let tail = tail.trim_start().strip_prefix(':').ok_or("a column has no type")?;
        let (kind, tail) = tail.split_once(',').map_or((tail, None), |(kind, tail)| (kind, Some(tail.trim_start())));
        let (name, kind) = (ColumnName::new(name.trim())?, ScalarType::from_str(kind.trim())?);
        columns.push((name, kind));
        if columns.len() > limit {
            return Err(format!("it has more than {limit} columns").into());
        }
        rest = match tail {
            Some("") => return Err("a column is missing after a comma".into()),
            Some(tail) => tail,
            None => "",
        };
    }
    Ok((!columns.is_empty()).then_some(columns))
}

#[cfg(test)]
mod tests;
