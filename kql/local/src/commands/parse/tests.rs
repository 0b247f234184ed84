//! One test for each family of commands that is read, and for what is refused.

use super::*;
use crate::{
    catalog::{
        Entity, MappingKind,
        policy::{Encoding, PolicyKind},
    },
    commands::command::*,
    rows::Column,
};
use kql::types::ScalarType;

fn read(text: &str) -> Command {
    let piped = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(piped.operators.is_empty(), "{text}");
    piped.command
}

fn refusal(text: &str) -> String {
    match parse(text) {
        Err(error) => error.to_string(),
        Ok(piped) => panic!("{text}: read as {piped:?}"),
    }
}

fn show(text: &str) -> Show {
    match read(text) {
        Command::Show(show) => show,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn databases_and_their_schemas_are_shown_in_every_documented_order() {
    assert_eq!(show(".show databases"), Show::Databases);
    let entities = Show::DatabasesEntities { resolve_functions: true };
    assert_eq!(show(".show databases entities with (resolveFunctionSchema=true)"), entities);
    assert_eq!(
        show(".show databases entities with (resolveFunctionsSchema=true, showObfuscatedStrings=true)"),
        entities
    );
    let of = |name: Option<&str>, than| SchemaOf { name: name.map(str::to_owned), if_later_than: than };
    assert_eq!(
        show(".show databases (A, ['b c'] if_later_than \"v1.7\") schema as json with (Tables=true, Functions=True)"),
        Show::Schema {
            databases: vec![of(Some("A"), None), of(Some("b c"), Some((1, 7)))],
            form: SchemaForm::Json,
            include: SchemaParts { tables: Some(true), functions: Some(true), ..SchemaParts::default() },
        }
    );
    assert_eq!(
        show(".show database D schema if_later_than \"v1.2\" as json"),
        Show::Schema {
            databases: vec![of(Some("D"), Some((1, 2)))],
            form: SchemaForm::Json,
            include: SchemaParts::default()
        }
    );
    assert!(refusal(".show database D schema as json if_later_than \"v1.2\"").contains("if_later_than"));
    assert!(matches!(show(".show database schema"), Show::Schema { databases, .. } if databases[0].name.is_none()));
    assert!(
        matches!(show(".show database schema schema"), Show::Schema { databases, .. } if databases[0].name.is_some())
    );
}

#[test]
fn tables_are_created_merged_and_shown() {
    let columns = vec![Column::new("Timestamp", ScalarType::DateTime), Column::new("a b", ScalarType::Int)];
    for (text, how) in [
        (".create table ['My T'] (Timestamp:datetime, ['a b']:System.Int32)", CreateTable::Create),
        (".create-merge table ['My T'] (['Timestamp']:date, [\"a b\"]:int)", CreateTable::CreateMerge),
        (".alter-merge table ['My T'] (Timestamp:datetime, ['a b']:int)", CreateTable::AlterMerge),
    ] {
        let expected = Command::CreateTable {
            name: "My T".into(),
            columns: columns.clone(),
            properties: EntityProperties::default(),
            how,
        };
        assert_eq!(read(text), expected);
    }
    assert_eq!(show(".show table T"), Show::Table { name: "T".into(), form: TableForm::Attributes });
    assert_eq!(show(".show table T cslschema"), Show::Table { name: "T".into(), form: TableForm::Csl });
    assert_eq!(show(".show table T schema as json"), Show::Table { name: "T".into(), form: TableForm::Json });
    assert_eq!(read(".drop table T ifexists"), Command::DropTables { names: vec!["T".into()], if_exists: true });
    assert!(refusal(".create table T (a:long, a:long)").contains("declared twice"));
    assert!(refusal(".create table T ()").contains("expected a name"));
    assert!(refusal(".create table T (a:lung)").contains("is not a Kusto type"));
}

#[test]
fn policies_are_read_in_words_and_in_json() {
    let day = kql::literal::TICKS_PER_DAY;
    let table = PolicyTarget::Table("T".into());
    assert_eq!(
        read(".alter-merge table T policy retention softdelete = 7d recoverability = disabled"),
        Command::AlterPolicy {
            target: table.clone(),
            change: PolicyChange::Retention { soft_delete_ticks: Some(7 * day), recoverable: Some(false), merge: true }
        }
    );
    assert!(matches!(
        read(".alter table T policy retention ```{\"SoftDeletePeriod\": \"1.00:00:00\"}```"),
        Command::AlterPolicy { change: PolicyChange::RetentionJson { merge: false, .. }, .. }
    ));
    assert_eq!(
        read(".alter table T policy caching hot = 1d"),
        Command::AlterPolicy {
            target: table.clone(),
            change: PolicyChange::Caching { data_ticks: day, index_ticks: day }
        }
    );
    assert_eq!(
        read(".alter table T policy streamingingestion enable"),
        Command::AlterPolicy { target: table, change: PolicyChange::StreamingIngestion(true) }
    );
    assert_eq!(
        read(".alter database D policy streamingingestion enable"),
        Command::AlterPolicy {
            target: PolicyTarget::Database("D".into()),
            change: PolicyChange::StreamingIngestion(true)
        }
    );
    let column = PolicyTarget::Column { table: "T".into(), column: "Schema".into() };
    assert_eq!(
        read(".alter column ['T'].['Schema'] policy encoding type='BigObject32'"),
        Command::AlterPolicy { target: column.clone(), change: PolicyChange::Encoding(Encoding::BigObject32) }
    );
    assert_eq!(
        show(".show column T.Schema policy encoding"),
        Show::Policy { target: column, kind: PolicyKind::Encoding }
    );
    assert!(refusal(".alter table T policy update '[]'").contains("this policy is not supported"));
    assert!(refusal(".alter table T policy retention softdelete = -1d").contains("expected a timespan"));
}

#[test]
fn functions_keep_the_text_of_their_parameters_and_body() {
    let text = ".create-or-alter function with (folder='f', docstring='d', skipvalidation=true) ['my F'](a:long, T:(x:string)) {\n  T | take a // ()\n}";
    let Command::CreateFunction { function, how } = read(text) else { panic!() };
    assert_eq!(how, CreateFunction::CreateOrAlter);
    assert_eq!(function.name, "my F");
    assert_eq!(function.parameters, "(a:long, T:(x:string))");
    assert_eq!(function.body, "{\n  T | take a // ()\n}");
    assert_eq!(function.properties, EntityProperties { folder: Some("f".into()), docstring: Some("d".into()) });
    assert!(function.skip_validation);
    let Command::CreateFunction { function, .. } =
        read(".create-or-alter function with (skipvalidation = \"true\") ['F']() { T }")
    else {
        panic!()
    };
    assert!(function.skip_validation);
    assert_eq!(
        read(".drop functions (A, ['B']) ifexists"),
        Command::DropFunctions { names: vec!["A".into(), "B".into()], if_exists: true }
    );
    assert!(refusal(".create-or-alter function with (colour='red') F() { T }").contains("'colour'"));
}

#[test]
fn entity_groups_hold_databases_with_or_without_a_cluster() {
    let entities = vec![
        Entity { cluster: Some("https://a.example".into()), database: "D".into() },
        Entity { cluster: None, database: "E".into() },
    ];
    assert_eq!(
        read(".create entity_group ['G'] ifnotexists (cluster('https://A.example').database('D'), database('E'))"),
        Command::EntityGroup { name: "G".into(), change: EntityGroupChange::Create { entities, if_not_exists: true } }
    );
    assert!(refusal(".create entity_group ifnotexists ['G'] (database('E'))").contains("expected '('"));
    assert!(matches!(read(".alter-merge entity_group G (database('E'))"), Command::EntityGroup { .. }));
    assert!(refusal(".create entity_group G ()").contains("expected database("));
    assert!(refusal(".create entity_group G (database('E'), database('E'))").contains("SEM0614"));
    assert!(refusal(".create entity_group G (cluster('c').database('d').table('t'))").contains("not a part of one"));
    assert!(refusal(".drop entity_group G ifexists").contains("expected the end of the text"));
    assert!(refusal(".create-or-alter entity_group G (database('E'))").contains("not supported"));
}

#[test]
fn mappings_principals_data_and_scripts_are_read() {
    let text = r#".create-or-alter table T ingestion json mapping "M" '[{"column":"a","path":"$.a"}]'"#;
    let Command::CreateMapping { kind, name, text, .. } = read(text) else { panic!() };
    assert_eq!((kind, name.as_str(), text.as_str()), (MappingKind::Json, "M", r#"[{"column":"a","path":"$.a"}]"#));
    assert!(matches!(read(".add table T ingestors ('aadapp=id;tenant')"), Command::AddPrincipals { .. }));
    assert!(matches!(
        read(".add database D admins ('aadapp=id;tenant', 'aaduser=x') 'note'"),
        Command::AddPrincipals { .. }
    ));
    assert!(refusal(".add table T viewers ('aadapp=id')").contains("expected a role (admins, ingestors)"));
    let text = ".ingest inline into table T with (format='csv') <|\na,'b\n";
    let Command::IngestInline { data, .. } = read(text) else { panic!() };
    assert_eq!(&text[data..], "\na,'b\n");
    let text = ".execute database script with (ContinueOnErrors=true) <|\n.create table T (a:long)";
    let Command::Script { on_error, .. } = read(text) else { panic!() };
    assert_eq!(on_error, OnError::Continue);
    assert!(matches!(
        read(".clear cache remote-schema cluster('C').database('D')"),
        Command::ClearRemoteSchema { cluster, .. } if cluster == "c"
    ));
}

#[test]
fn operators_may_follow_a_command() {
    let piped = parse(".show tables | where TableName == 'x' | project TableName | count").unwrap();
    assert_eq!(piped.command, Command::Show(Show::Tables(vec![])));
    assert_eq!(piped.operators.len(), 3);
}

#[test]
fn anything_else_is_refused_by_name_and_position() {
    assert_eq!(
        refusal("\n .frobnicate table T"),
        "this command is not supported by this server: 'frobnicate' in '.frobnicate table T' [line:position=2:3]"
    );
    assert!(refusal(".show journal").contains("'journal'"));
    assert!(refusal("T | count").contains("expected '.'"));
    assert!(refusal(".show tables extra").contains("expected the end of the text"));
    assert!(refusal(".drop table T; .drop table U").contains("expected the end of the text"));
    assert!(refusal(".drop table ['a;b']").contains("holds a character other than"));
    for text in ["", ".", "..", ".create", ".create table", ".show table", "'", ".show table ['"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}
