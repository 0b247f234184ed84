//! Schemas as Kusto prints them: `a:string,b:long`, JSON, rows. Pure but for the snapshots it is given.

use kql::{literal, syntax::keywords, types::ScalarType};
use serde_json::{Map, Value, json};

use super::{
    CommandContext, answer,
    command::{SchemaForm, SchemaOf, SchemaParts},
};
use crate::{
    catalog::{Database, DatabaseState, MaterializedView, StoredFunction, StoredTable},
    error::KustoError,
    rows::{Rows, Schema},
};
use kql::syntax::ast::{Parameter, ParameterType};

/// The major version of every schema here.
pub(super) const MAJOR_VERSION: u64 = 1;

/// `v1.7`
pub(super) fn version(state: &DatabaseState) -> String {
    format!("v{MAJOR_VERSION}.{}", state.version())
}

/// `a:string, ['b c']:long`
pub(super) fn csl(schema: &Schema, separator: &str) -> String {
    let columns: Vec<String> =
        schema.columns().iter().map(|column| format!("{}:{}", csl_name(&column.name), column.scalar_type)).collect();
    columns.join(separator)
}

/// A name as it may stand in a text: bare if it is a plain identifier and no keyword.
fn csl_name(name: &str) -> String {
    let mut characters = name.chars();
    let plain = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain && !keywords::is_keyword(name) { name.to_owned() } else { literal::bracketed(name) }
}

/// A table as `.show table T schema as json` and `.create table` print it.
pub(super) fn table_json(name: &str, table: &StoredTable) -> Value {
    json!({
        "Name": name,
        "Folder": table.folder,
        "DocString": table.docstring,
        "OrderedColumns": columns_json(table.schema()),
    })
}

fn view_json(view: &MaterializedView) -> Value {
    let StoredFunction { name, folder, docstring, .. } = &*view.definition;
    json!({
        "Name": name,
        "Folder": folder,
        "DocString": docstring,
        "OrderedColumns": columns_json(&view.columns),
    })
}

fn columns_json(schema: &Schema) -> Value {
    schema
        .columns()
        .iter()
        .map(|column| {
            let scalar_type = column.scalar_type;
            json!({ "Name": column.name, "Type": scalar_type.dotnet_name(), "CslType": scalar_type.name() })
        })
        .collect()
}

/// `.show database D schema`, `.show databases (...) schema as json`
pub(super) fn show(
    context: &CommandContext,
    databases: &[SchemaOf],
    form: SchemaForm,
    include: SchemaParts,
) -> Result<Rows, KustoError> {
    let mut chosen = Vec::new();
    if databases.is_empty() {
        chosen = context.query.catalog.databases();
    }
    for wanted in databases {
        let database = context.database_or_own(wanted.name.as_deref())?;
        let version = database.read(DatabaseState::version);
        if wanted.if_later_than.is_none_or(|than| (MAJOR_VERSION, version) > than) {
            chosen.push(database);
        }
    }
    Ok(match form {
        SchemaForm::Flat => flat(chosen.iter().map(AsRef::as_ref)),
        SchemaForm::Json => {
            let databases: Map<String, Value> =
                chosen.iter().map(|database| (database.name().to_owned(), database_json(database, include))).collect();
            answer::strings(["DatabaseSchema"], [[json!({ "Databases": databases }).to_string()]])
        }
    })
}

fn flat<'a>(databases: impl Iterator<Item = &'a Database>) -> Rows {
    let columns = [
        ("DatabaseName", ScalarType::String),
        ("TableName", ScalarType::String),
        ("ColumnName", ScalarType::String),
        ("ColumnType", ScalarType::String),
        ("IsDefaultTable", ScalarType::Bool),
        ("IsDefaultColumn", ScalarType::Bool),
        ("PrettyName", ScalarType::String),
        ("Version", ScalarType::String),
        ("Folder", ScalarType::String),
        ("DocString", ScalarType::String),
    ];
    let mut rows = Vec::new();
    for database in databases {
        database.read(|state| {
            let mut push = |table: &str, column: &str, kind: &str, version: &str, folder: &str, docstring: &str| {
                rows.push(vec![
                    database.name().into(),
                    table.into(),
                    column.into(),
                    kind.into(),
                    false.into(),
                    false.into(),
                    "".into(),
                    version.into(),
                    folder.into(),
                    docstring.into(),
                ]);
            };
            push("", "", "", &version(state), "", "");
            for (name, table) in &state.tables {
                push(name, "", "", "", &table.folder, &table.docstring);
                for column in table.schema().columns() {
                    push(name, &column.name, column.scalar_type.dotnet_name(), "", "", "");
                }
            }
        });
    }
    answer::table(&columns, rows)
}

fn database_json(database: &Database, include: SchemaParts) -> Value {
    // Parts that are asked for by name leave the others out; asking for none is asking for all.
    let named = [include.tables, include.functions, include.materialized_views, include.external_tables];
    let all = !named.contains(&Some(true));
    let wanted = |part: Option<bool>| part.unwrap_or(all);
    database.read(|state| {
        let mut tables = Map::new();
        if wanted(include.tables) {
            tables.extend(state.tables.iter().map(|(name, table)| (name.clone(), table_json(name, table))));
        }
        let mut views = Map::new();
        if wanted(include.materialized_views) {
            views.extend(state.materialized_views.iter().map(|(name, view)| (name.clone(), view_json(view))));
        }
        let mut functions = Map::new();
        if wanted(include.functions) {
            functions.extend(state.functions.iter().map(|(name, function)| (name.clone(), function_json(function))));
        }
        let mut groups = Map::new();
        if all {
            groups.extend(state.entity_groups.iter().map(|(name, entities)| {
                (name.clone(), entities.iter().map(|entity| Value::from(entity.text())).collect())
            }));
        }
        json!({
            "Name": database.name(),
            "Tables": tables,
            "ExternalTables": {},
            "MaterializedViews": views,
            "EntityGroups": groups,
            "MajorVersion": MAJOR_VERSION,
            "MinorVersion": state.version(),
            "Functions": functions,
            "DatabaseAccessMode": "ReadWrite",
            "PrettyName": null,
        })
    })
}

fn function_json(function: &StoredFunction) -> Value {
    json!({
        "Name": function.name,
        "InputParameters": function.literal.parameters.iter().map(parameter_json).collect::<Value>(),
        "Body": function.body,
        "Folder": function.folder,
        "DocString": function.docstring,
        "FunctionKind": "Unknown",
        "OutputColumns": [],
    })
}

fn parameter_json(parameter: &Parameter) -> Value {
    let mut described = match &parameter.kind {
        ParameterType::Scalar(scalar_type) => json!({
            "Name": parameter.name.name, "Type": scalar_type.dotnet_name(), "CslType": scalar_type.name(),
        }),
        ParameterType::Table(columns) => json!({
            "Name": parameter.name.name,
            "Columns": columns.iter().map(|column| json!({
                "Name": column.name.name, "Type": column.scalar_type.dotnet_name(), "CslType": column.scalar_type.name(),
            })).collect::<Value>(),
        }),
    };
    if parameter.default.is_some() {
        described["HasDefault"] = true.into();
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Column;

    #[test]
    fn names_that_are_no_plain_identifiers_are_bracketed() {
        let schema: Schema = vec![
            Column::new("Level", ScalarType::String),
            Column::new("a b", ScalarType::Long),
            Column::new("9x", ScalarType::Dynamic),
        ]
        .into();
        assert_eq!(csl(&schema, ", "), "Level:string, ['a b']:long, ['9x']:dynamic");
        assert_eq!(csl(&schema, ","), "Level:string,['a b']:long,['9x']:dynamic");
    }
}
