//! What strangers write, and what is believed of it.

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
        let named = |columns: Columns| columns.iter().map(|(name, kind)| format!("{name}|{kind}")).collect::<Vec<_>>();
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
        let (inventory, problems) =
            parse_schema(&json!([{"database": "Logs", "tables": ["A", "B", "C"], "tableSchemas": schemas}]), limits);
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
