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
mod tests {
    use std::cell::Cell;

    use kql::names::NameError;
    use serde_json::json;

    use super::*;
    use crate::heartbeat::parse_metadata;

    fn parse(value: &Value) -> (Option<Value>, Vec<String>) {
        let (inventory, problems) = parse_schema(value, Limits::default());
        (inventory.map(|inventory| inventory.to_json()), problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rows_of_adx_mon_are_understood() {
        // Written by adx-mon's Go code: null for empty slices, .NET types for tables, Kusto's for views.
        let row = json!([
            {"database": "Logs", "tables": ["Pods", "Nodes"], "tableSchemas":
                {"Pods": "['Timestamp']:System.DateTime, ['Labels']:System.Object, ['n']:System.Int64",
                 "Nodes": "['Name']:System.String", "Recent": "['Name']:string"}, "views": ["Recent"]},
            {"database": "NetDefaultDB", "tables": null, "views": null},
        ]);
        let expected = json!([
            {"database": "Logs", "tables": ["Nodes", "Pods"], "tableSchemas":
                {"Nodes": "['Name']:string", "Pods": "['Timestamp']:datetime, ['Labels']:dynamic, ['n']:long",
                 "Recent": "['Name']:string"}, "views": ["Recent"]},
            {"database": "NetDefaultDB", "tables": []},
        ]);
        assert_eq!(parse(&row), (Some(expected.clone()), vec![]));
        assert_eq!(parse(&Value::String(row.to_string())), (Some(expected), vec![]));
    }

    #[test]
    fn no_schema_is_not_an_empty_schema() {
        let null = "Schema: it is null; Kusto stores values over 1 MiB so, unless the column's encoding is BigObject32";
        assert_eq!(parse(&Value::Null), (None, vec![null.to_owned()]));
        assert_eq!(parse(&json!("")), (None, vec![null.to_owned()]));
        assert_eq!(parse(&json!({})), (None, vec!["Schema: it is not a list of databases".to_owned()]));
        assert!(matches!(parse(&json!("[{")), (None, problems) if problems[0].starts_with("Schema: it is no JSON")));
        assert_eq!(parse(&json!([])), (Some(json!([])), vec![]));
    }

    #[test]
    fn problems_are_told_without_secrets() {
        let address = "https://x.blob.core.windows.net/c?sv=2024&sig=hunter2";
        let row = json!([
            {"database": address, "tables": ["A"]},
            {"database": "Logs", "tables": [address, "B"], "tableSchemas": {"B": format!("['{address}']:long")}},
        ]);
        let (_, mut problems) = parse_schema(&row, Limits::default());
        for metadata in [json!(address), json!({address: [1]}), json!({"at": "https://me:hunter2@x\n"})] {
            problems.extend(parse_metadata(&metadata).1);
        }
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 6, "{told:#?}");
        assert!(told.iter().all(|problem| !problem.contains("hunter2")), "{told:#?}");
        assert_eq!(
            told[0],
            "Schema[0].database: the database name \"https://x.blob.core.windows.net/c?…\" holds ':': a Kusto name holds letters, digits, '_', ' ', '.' and '-' only"
        );
    }

    #[test]
    fn a_problem_that_is_not_told_is_not_written_out() {
        struct Counted<'a>(&'a Cell<usize>);
        impl fmt::Display for Counted<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.set(self.0.get() + 1);
                f.write_str("it is wrong")
            }
        }
        let written = Cell::new(0);
        let mut problems = Problems::default();
        for _ in 0..1_000 {
            problems.add("A", Counted(&written));
        }
        assert_eq!((written.get(), problems.finish().len()), (MAX_PROBLEMS, MAX_PROBLEMS + 1));
        let refused = columns(&json!("a'b:long"), 3).unwrap_err();
        assert!(refused.is::<NameError>(), "it is words before anybody asks for them: {refused}");
    }

    #[test]
    fn wrong_entries_are_left_out_one_by_one() {
        let (schema, problems) = parse(&json!([
            null,
            {"tables": ["A"]},
            {"database": "x'] | .drop table y //", "tables": ["A"]},
            {"database": "Good", "unknown": 1, "tables": ["A", 7, "B\n.drop table C", "", "__mine"], "views": "V",
             "tableSchemas": {"A": "a:bignum", "Ghost": "a:long"}},
            {"database": "GOOD", "tables": ["D"], "tableSchemas": []},
        ]));
        assert_eq!(schema, Some(json!([{"database": "Good", "tables": ["A", "D"]}])));
        assert_eq!(
            problems,
            [
                "Schema[0]: it is not an object",
                "Schema[1].database: it is missing or no text",
                "Schema[2].database: the database name \"x'] | .drop table y //\" holds '\\'': a Kusto name holds letters, digits, '_', ' ', '.' and '-' only",
                "Good.tableSchemas.A: 'bignum' is not a Kusto type: expected bool, datetime, decimal, dynamic, guid, int, long, real, string or timespan",
                "Good.tables[1]: it is no text",
                "Good.tables[2]: the table name \"B\\n.drop table C\" holds '\\n': a Kusto name holds letters, digits, '_', ' ', '.' and '-' only",
                "Good.tables[3]: the table name is empty: a Kusto name has 1 to 1024 characters",
                "Good.tables[4]: the table name \"__mine\" is reserved: a Kusto name neither starts nor ends with '__'",
                "Good.views: it is not a list",
                "GOOD.tableSchemas: it is not an object",
            ]
        );
    }

    #[test]
    fn a_database_whose_lists_are_not_read_whole_is_partial() {
        let partial = |schema: Value, limits: Limits| {
            let databases = parse_schema(&schema, limits).0.unwrap().0;
            let partial = databases.iter().filter(|(_, content)| content.is_partial);
            partial.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        let of = |entry: Value| partial(json!([entry, {"database": "Other", "tables": ["A"]}]), Limits::default());
        let whole = [
            json!({"database": "Logs", "tables": null, "views": null}),
            json!({"database": "Logs", "tables": ["A"], "tableSchemas": {"A": "a:bignum"}}),
            // Such a table is nothing that could be federated.
            json!({"database": "Logs", "tables": ["A", "'"]}),
        ];
        for entry in whole {
            assert_eq!(of(entry.clone()), Vec::<String>::new(), "{entry}");
        }
        let partly = [
            json!({"database": "Logs", "tables": {"A": 1}}),
            json!({"database": "Logs", "tables": ["A", null]}),
            json!({"database": "Logs", "tables": ["A"], "views": "V"}),
        ];
        for entry in partly {
            assert_eq!(of(entry.clone()), ["Logs"], "{entry}");
        }
        let listed = json!([
            {"database": "A", "tables": ["1"]}, {"database": "B", "tables": ["2"], "views": ["3"]}, {"database": "C", "tables": ["4"]},
            {"database": "D", "tables": []},
        ]);
        assert_eq!(partial(listed.clone(), Limits { tables: 2, ..Limits::default() }), ["B", "C"]);
        assert_eq!(partial(listed.clone(), Limits { name_bytes: 2, ..Limits::default() }), ["B", "C"]);
        assert_eq!(partial(listed, Limits { tables: 4, ..Limits::default() }), Vec::<String>::new());
        let twice = json!([{"database": "Logs", "tables": 1}, {"database": "LOGS", "tables": ["A"]}]);
        assert_eq!(partial(twice, Limits::default()), ["Logs"]);
    }

    #[test]
    fn columns_are_read_in_both_forms() {
        let read = |text: &str| {
            let columns = columns(&json!(text), 3)?;
            let named =
                |columns: Columns| columns.iter().map(|(name, kind)| format!("{name}|{kind}")).collect::<Vec<_>>();
            Ok::<_, Box<dyn Error>>(columns.map(named))
        };
        let expected = Some(vec!["a b|long".to_owned(), "c|string".to_owned()]);
        for text in ["['a b']:long, ['c']:string", "a b:long,c:string", r#"["a b"]:int64 , ["c"] : System.String"#] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        assert_eq!(read(" ").unwrap(), None);
        for text in ["a", "['a:long", "a:long,", ":long", "['a'']:long", "a:long,b:long,c:long,d:long", "[a]:long"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_goes_beyond_the_limits_is_dropped_with_one_problem() {
        let limits = Limits { databases: 2, tables: 3, columns: 1, ..Limits::default() };
        let (inventory, problems) = parse_schema(
            &json!([
                {"database": "A", "tables": ["1", "2"], "views": ["3", "4"], "tableSchemas": {"1": "a:int,b:int"}},
                {"database": "B", "tables": ["5"]},
                {"database": "C"},
            ]),
            limits,
        );
        assert_eq!(
            inventory.unwrap().to_json(),
            json!([{"database": "A", "tables": ["1", "2"], "views": ["3"]}, {"database": "B", "tables": []}])
        );
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "A.tableSchemas.1: it has more than 1 columns",
                "Schema: only the first 3 tables and views, or 8388608 bytes of their names, are used",
                "Schema: only the first 2 databases, or 262144 bytes of their names, are used",
            ]
        );
        let many = Value::Array(vec![Value::Null; 1_000]);
        let (_, problems) = parse_schema(&many, Limits::default());
        assert_eq!(problems.len(), MAX_PROBLEMS + 1);
        assert_eq!(problems[MAX_PROBLEMS].to_string(), "Schema: 950 more problems");
    }

    #[test]
    fn what_one_heartbeat_may_take_of_a_hubs_memory_is_bounded() {
        let named = |limits: Limits, columns: &str| {
            let schemas: Map<String, Value> =
                ["A", "B", "C"].map(|table| (table.to_owned(), json!(columns))).into_iter().collect();
            let (inventory, problems) = parse_schema(
                &json!([{"database": "Logs", "tables": ["A", "B", "C"], "tableSchemas": schemas}]),
                limits,
            );
            (inventory.unwrap().to_json(), problems.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let logs = |tables: &[&str], typed: &[&str], columns: &str| {
            let schemas: Map<String, Value> = typed.iter().map(|table| ((*table).to_owned(), json!(columns))).collect();
            json!([{"database": "Logs", "tables": tables, "tableSchemas": schemas}])
        };
        // Two columns each, of which five are used.
        let few = Limits { all_columns: 5, ..Limits::default() };
        let left_out =
            "Logs.tableSchemas.C: its columns are left out: 5 columns, or 8388608 bytes of their names, are used";
        assert_eq!(
            named(few, "a:int,b:int"),
            (logs(&["A", "B", "C"], &["A", "B"], "['a']:int, ['b']:int"), vec![left_out.to_owned()])
        );
        // Two names of columns have room, and two of tables.
        let short = Limits { name_bytes: 19, ..Limits::default() };
        let left_out =
            "Logs.tableSchemas.C: its columns are left out: 400000 columns, or 19 bytes of their names, are used";
        assert_eq!(
            named(short, "nine_char:int"),
            (logs(&["A", "B", "C"], &["A", "B"], "['nine_char']:int"), vec![left_out.to_owned()])
        );
        let shorter = Limits { name_bytes: 2, ..Limits::default() };
        let only = "Schema: only the first 20000 tables and views, or 2 bytes of their names, are used";
        assert_eq!(named(shorter, "a:int"), (logs(&["A", "B"], &["A", "B"], "['a']:int"), vec![only.to_owned()]));
        let databases = |name: &str, limits: Limits| {
            let named = (0..1_000).map(|number| json!({"database": format!("{name}{number:03}")}));
            let (inventory, problems) = parse_schema(&named.collect(), limits);
            (inventory.unwrap().0.len(), problems.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(databases("a", Limits::default()), (1_000, Vec::new()));
        let only = "Schema: only the first 1000 databases, or 262144 bytes of their names, are used";
        assert_eq!(databases(&"a".repeat(1_021), Limits::default()), (256, vec![only.to_owned()]));
        // Of values that are cheap to write none is kept, not even for a while.
        let read = |count: usize| parse_schema(&format!("[{}]", vec!["0"; count].join(",")).into(), Limits::default());
        let (inventory, problems) = read(MAX_VALUES + 1);
        assert_eq!((inventory, problems.len()), (None, 1));
        assert_eq!(problems[0].to_string(), "Schema: it holds more than 200000 values and is not read");
        assert!(read(MAX_VALUES - 1).0.is_some());
        // What is in a text is no value.
        assert_eq!([r#"["a,[{\",,",1]"#, r#"{"a":[1,{}]}"#, "1"].map(count_values), [3, 5, 1]);
    }
}
