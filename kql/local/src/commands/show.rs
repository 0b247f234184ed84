//! `.show ...`: what is in the catalog, as Kusto's tables. Reads only.

use kql::types::ScalarType;
use serde_json::{Value, json};

use super::{
    CommandContext, answer,
    command::{Show, TableForm},
    materialized_views, policies, principals, schema,
};
use crate::{
    catalog::{Database, Entity, MappingKind, StoredFunction},
    engine,
    error::KustoError,
    rows::Rows,
};

/// The name and version this server reports.
const PRODUCT: &str = concat!("kusto-local ", env!("CARGO_PKG_VERSION"));

pub(super) async fn show(context: &CommandContext, show: Show) -> Result<Rows, KustoError> {
    match show {
        Show::Version => Ok(version()),
        Show::Cluster => Ok(cluster(context)),
        Show::Diagnostics => Ok(diagnostics()),
        Show::Databases => Ok(databases(context, &context.query.catalog.databases())),
        Show::Database(name) => Ok(databases(context, &[context.database_or_own(name.as_deref())?])),
        Show::DatabasesEntities { resolve_functions } => Ok(entities(context, resolve_functions).await),
        Show::Schema { databases, form, include } => schema::show(context, &databases, form, include),
        Show::Tables(names) => tables(context, &names),
        Show::Table { name, form } => table(context, &name, form),
        Show::Functions => {
            let database = context.database()?;
            Ok(functions(database.read(|state| state.functions.values().cloned().collect::<Vec<_>>()).iter()))
        }
        Show::Function(name) => {
            let found = context.database()?.function(&name);
            let function = found.ok_or_else(|| KustoError::not_found("ExpressionFunction", &name))?;
            Ok(functions([&function]))
        }
        Show::MaterializedViews => materialized_views::show(context),
        Show::EntityGroups => {
            let database = context.database()?;
            Ok(database.read(|state| entity_groups(state.entity_groups.iter().map(|(name, group)| (name, &**group)))))
        }
        Show::EntityGroup(name) => {
            let found = context.database()?.entity_group(&name);
            let group = found.ok_or_else(|| KustoError::not_found("EntityGroup", &name))?;
            Ok(entity_groups([(&name, &*group)]))
        }
        Show::Policy { target, kind } => policies::show(context, &target, kind),
        Show::Principals { owner, database } => principals::show(context, &owner, database.as_deref()),
        Show::Mappings { table, kind, name } => mappings(context, &table, kind, name.as_deref()),
    }
}

fn version() -> Rows {
    let columns = [
        ("BuildVersion", ScalarType::String),
        ("BuildTime", ScalarType::DateTime),
        ("ServiceType", ScalarType::String),
        ("ProductVersion", ScalarType::String),
    ];
    answer::table(&columns, [vec![env!("CARGO_PKG_VERSION").into(), Value::Null, "Engine".into(), PRODUCT.into()]])
}

fn cluster(context: &CommandContext) -> Rows {
    let columns = [
        ("NodeId", ScalarType::String),
        ("Address", ScalarType::String),
        ("Name", ScalarType::String),
        ("StartTime", ScalarType::DateTime),
        ("IsAdmin", ScalarType::Bool),
        ("MachineTotalMemory", ScalarType::Long),
        ("MachineAvailableMemory", ScalarType::Long),
        ("ProcessorCount", ScalarType::Int),
        ("EnvironmentDescription", ScalarType::String),
    ];
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let row = vec![
        "0".into(),
        context.query.catalog.own_endpoint().into(),
        "kusto-local".into(),
        Value::Null,
        true.into(),
        Value::Null,
        Value::Null,
        processors.into(),
        PRODUCT.into(),
    ];
    answer::table(&columns, [row])
}

/// The two columns that health checks look at; the service has some forty.
fn diagnostics() -> Rows {
    let columns = [("IsHealthy", ScalarType::Bool), ("IsScaleOutRequired", ScalarType::Bool)];
    answer::table(&columns, [vec![true.into(), false.into()]])
}

fn databases(context: &CommandContext, databases: &[std::sync::Arc<Database>]) -> Rows {
    let columns = [
        ("DatabaseName", ScalarType::String),
        ("PersistentStorage", ScalarType::String),
        ("Version", ScalarType::String),
        ("IsCurrent", ScalarType::Bool),
        ("DatabaseAccessMode", ScalarType::String),
        ("PrettyName", ScalarType::String),
        ("ReservedSlot1", ScalarType::Bool),
        ("DatabaseId", ScalarType::Guid),
        ("InTransitionTo", ScalarType::String),
        ("SuspensionState", ScalarType::String),
    ];
    let current = context.query.database.to_lowercase();
    answer::table(
        &columns,
        databases.iter().map(|database| {
            vec![
                database.name().into(),
                "".into(),
                database.read(schema::version).into(),
                (database.name().to_lowercase() == current).into(),
                "ReadWrite".into(),
                "".into(),
                Value::Null,
                database.id().into(),
                "".into(),
                "".into(),
            ]
        }),
    )
}

async fn entities(context: &CommandContext, resolve_functions: bool) -> Rows {
    let columns = [
        ("DatabaseName", ScalarType::String),
        ("EntityType", ScalarType::String),
        ("EntityName", ScalarType::String),
        ("DocString", ScalarType::String),
        ("Folder", ScalarType::String),
        ("CslInputSchema", ScalarType::String),
        ("Content", ScalarType::String),
        ("CslOutputSchema", ScalarType::String),
        ("Properties", ScalarType::Dynamic),
    ];
    let mut rows = Vec::new();
    for database in context.query.catalog.databases() {
        let row = |kind: &str, name: &str, details: [&str; 5]| {
            let mut row: Vec<Value> = vec![database.name().into(), kind.into(), name.into()];
            row.extend(details.map(Value::from));
            row.push(json!({}));
            row
        };
        let functions = database.read(|state| {
            for (name, table) in &state.tables {
                let output = schema::csl(table.schema(), ", ");
                rows.push(row("Table", name, [&table.docstring, &table.folder, "", "", &output]));
            }
            for (name, group) in &state.entity_groups {
                rows.push(row("EntityGroup", name, ["", "", "", &entities_text(group), ""]));
            }
            for (name, view) in &state.materialized_views {
                let StoredFunction { folder, docstring, .. } = &*view.definition;
                let output = schema::csl(&view.columns, ", ");
                let query = materialized_views::query(&view.definition);
                rows.push(row("MaterializedView", name, [docstring, folder, "", query, &output]));
            }
            state.functions.values().cloned().collect::<Vec<_>>()
        });
        for function in functions {
            let output = if resolve_functions { resolved(context, &database, &function).await } else { String::new() };
            rows.push(row(
                "Function",
                &function.name,
                [&function.docstring, &function.folder, &function.parameters, &function.body, &output],
            ));
        }
    }
    answer::table(&columns, rows)
}

/// The columns of a function that needs no arguments; empty if they cannot be told, as in Kusto.
async fn resolved(context: &CommandContext, database: &Database, function: &StoredFunction) -> String {
    let mut query = context.query.clone();
    database.name().clone_into(&mut query.database);
    match engine::infer_schema(&query, function).await {
        Ok(columns) => schema::csl(&columns, ", "),
        Err(error) => {
            tracing::debug!(function = function.name, %error, "the columns of a function could not be told");
            String::new()
        }
    }
}

fn tables(context: &CommandContext, names: &[String]) -> Result<Rows, KustoError> {
    let database = context.database()?;
    database.read(|state| {
        for name in names {
            state.table(name)?;
        }
        let listed = state.tables.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
        Ok(answer::strings(
            ["TableName", "DatabaseName", "Folder", "DocString"],
            listed.map(|(name, table)| {
                [name.clone(), database.name().to_owned(), table.folder.clone(), table.docstring.clone()]
            }),
        ))
    })
}

/// One table; also the answer of the commands that change one.
pub(super) fn table(context: &CommandContext, name: &str, form: TableForm) -> Result<Rows, KustoError> {
    let database = context.database()?;
    database.read(|state| {
        let table = state.table(name)?;
        let schema = match form {
            TableForm::Attributes => {
                let columns = [
                    ("AttributeName", ScalarType::String),
                    ("AttributeType", ScalarType::String),
                    ("ExtentSize", ScalarType::Long),
                    ("CompressionRatio", ScalarType::Real),
                    ("IndexSize", ScalarType::Long),
                    ("IndexSizePercent", ScalarType::Real),
                    ("OriginalSize", ScalarType::Long),
                    ("AttributeId", ScalarType::Guid),
                    ("SharedIndexSize", ScalarType::Long),
                    ("StorageEngineVersion", ScalarType::String),
                ];
                let attributes = table.schema().columns().iter();
                return Ok(answer::table(
                    &columns,
                    attributes.map(|column| vec![column.name.as_str().into(), column.scalar_type.dotnet_name().into()]),
                ));
            }
            TableForm::Csl => schema::csl(table.schema(), ","),
            TableForm::Json => schema::table_json(name, table).to_string(),
        };
        Ok(answer::strings(
            ["TableName", "Schema", "DatabaseName", "Folder", "DocString"],
            [[name.to_owned(), schema, database.name().to_owned(), table.folder.clone(), table.docstring.clone()]],
        ))
    })
}

/// Functions; also the answer of the commands that change one.
pub(super) fn functions<'a>(functions: impl IntoIterator<Item = &'a std::sync::Arc<StoredFunction>>) -> Rows {
    answer::strings(
        ["Name", "Parameters", "Body", "Folder", "DocString"],
        functions.into_iter().map(|function| {
            let StoredFunction { name, literal: _, parameters, body, folder, docstring } = &**function;
            [name, parameters, body, folder, docstring].map(Clone::clone)
        }),
    )
}

/// Entity groups; also the answer of the commands that change one. `Entities` is a JSON array as a string.
pub(super) fn entity_groups<'a>(groups: impl IntoIterator<Item = (&'a String, &'a Vec<Entity>)>) -> Rows {
    answer::strings(
        ["Name", "Entities"],
        groups.into_iter().map(|(name, entities)| [name.clone(), entities_text(entities)]),
    )
}

fn entities_text(entities: &[Entity]) -> String {
    entities.iter().map(|entity| Value::from(entity.text())).collect::<Value>().to_string()
}

/// Mappings of a table; also the answer of the commands that change one.
pub(super) fn mappings(
    context: &CommandContext,
    table: &str,
    kind: Option<MappingKind>,
    name: Option<&str>,
) -> Result<Rows, KustoError> {
    let columns = [
        ("Name", ScalarType::String),
        ("Kind", ScalarType::String),
        ("Mapping", ScalarType::String),
        ("LastUpdatedOn", ScalarType::DateTime),
        ("Database", ScalarType::String),
        ("Table", ScalarType::String),
    ];
    let database = context.database()?;
    database.read(|state| {
        let stored = state.table(table)?;
        let rows: Vec<Vec<Value>> = stored
            .mappings
            .iter()
            .filter(|((of_kind, called), _)| {
                kind.is_none_or(|kind| kind == *of_kind) && name.is_none_or(|name| name == called)
            })
            .map(|((kind, name), mapping)| {
                vec![
                    name.as_str().into(),
                    kind.name().into(),
                    mapping.text.as_str().into(),
                    kql::literal::datetime(mapping.updated).into(),
                    database.name().into(),
                    table.into(),
                ]
            })
            .collect();
        if let (Some(name), true) = (name, rows.is_empty()) {
            return Err(KustoError::not_found("IngestionMapping", name));
        }
        Ok(answer::table(&columns, rows))
    })
}
