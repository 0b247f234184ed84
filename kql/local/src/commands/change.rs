//! Commands that change databases, tables, functions, groups and mappings. Each changes the catalog in one step or not at all.

use std::{collections::btree_map::Entry, sync::Arc};

use super::{
    CommandContext, answer,
    command::{
        CreateFunction, CreateMapping, CreateTable, EntityGroupChange, EntityProperties, NewFunction, TableForm,
    },
    show,
};
use crate::{
    catalog::{MappingKind, StoredFunction, StoredTable},
    engine,
    error::KustoError,
    ingest::mapping,
    rows::{Column, Rows},
};

pub(super) fn create_database(context: &CommandContext, name: &str, if_not_exists: bool) -> Result<Rows, KustoError> {
    let catalog = &context.query.catalog;
    let created = match catalog.create_database(name) {
        Ok(_) => true,
        Err(_) if if_not_exists => false,
        Err(error) => return Err(error),
    };
    let text = |value: bool| if value { "true" } else { "false" };
    let columns = [
        ("DatabaseName", kql::types::ScalarType::String),
        ("PersistentPath", kql::types::ScalarType::String),
        ("Created", kql::types::ScalarType::String),
        ("StoresMetadata", kql::types::ScalarType::Bool),
        ("StoresData", kql::types::ScalarType::Bool),
    ];
    Ok(answer::table(&columns, [vec![name.into(), "".into(), text(created).into(), true.into(), true.into()]]))
}

pub(super) fn drop_database(context: &CommandContext, name: &str, if_exists: bool) -> Result<Rows, KustoError> {
    if !context.query.catalog.drop_database(name) && !if_exists {
        return Err(KustoError::database_not_found(name));
    }
    Ok(answer::strings(["DatabaseName"], [[name.to_owned()]]))
}

pub(super) fn create_table(
    context: &CommandContext,
    name: &str,
    columns: &[Column],
    properties: EntityProperties,
    how: CreateTable,
) -> Result<Rows, KustoError> {
    let database = context.database()?;
    database.write(|state| {
        state.refuse_name_of_view(name)?;
        let changed = match state.tables.entry(name.to_owned()) {
            Entry::Vacant(_) if how == CreateTable::AlterMerge => {
                return Err(KustoError::not_found("Table", name));
            }
            Entry::Vacant(entry) => {
                set_properties(entry.insert(StoredTable::new(columns.to_vec().into())), properties);
                true
            }
            // Creating what is there succeeds and changes nothing, as in Kusto; with other columns it would mislead whoever relies on it.
            Entry::Occupied(entry) if how == CreateTable::Create => {
                if entry.get().schema().columns() != columns {
                    return Err(KustoError::already_exists("Table", name));
                }
                false
            }
            Entry::Occupied(mut entry) => {
                let widened = entry.get_mut().merge_columns(columns)?;
                let described = properties != EntityProperties::default();
                set_properties(entry.get_mut(), properties);
                widened || described
            }
        };
        if changed {
            state.schema_changed();
        }
        Ok(())
    })?;
    show::table(context, name, TableForm::Json)
}

fn set_properties(table: &mut StoredTable, properties: EntityProperties) {
    let EntityProperties { folder, docstring } = properties;
    if let Some(folder) = folder {
        table.folder = folder;
    }
    if let Some(docstring) = docstring {
        table.docstring = docstring;
    }
}

pub(super) fn drop_tables(context: &CommandContext, names: &[String], if_exists: bool) -> Result<Rows, KustoError> {
    let database = context.database()?;
    database.write(|state| {
        if !if_exists {
            for name in names {
                state.table(name)?;
            }
        }
        let before = state.tables.len();
        state.tables.retain(|name, _| !names.contains(name));
        if state.tables.len() != before {
            state.schema_changed();
        }
        // Kusto answers with the tables that remain.
        Ok(answer::strings(
            ["TableName", "DatabaseName"],
            state.tables.keys().map(|name| [name.clone(), database.name().to_owned()]),
        ))
    })
}

pub(super) async fn create_function(
    context: &CommandContext,
    function: NewFunction,
    how: CreateFunction,
) -> Result<Rows, KustoError> {
    let database = context.database()?;
    let NewFunction { name, literal, parameters, body, properties, skip_validation } = function;
    let stored = Arc::new(StoredFunction {
        name: name.clone(),
        literal,
        parameters,
        body,
        folder: properties.folder.unwrap_or_default(),
        docstring: properties.docstring.unwrap_or_default(),
    });
    let check = |present: bool| match (how, present) {
        (CreateFunction::Create, true) => Err(KustoError::already_exists("ExpressionFunction", &name)),
        (CreateFunction::Alter, false) => Err(KustoError::not_found("ExpressionFunction", &name)),
        _ => Ok(()),
    };
    check(database.function(&name).is_some())?;
    // A function with parameters has no columns before it is called; Kusto checks it with made-up arguments, this server when it is used.
    if !skip_validation && stored.literal.parameters.is_empty() {
        engine::infer_schema(&context.query, &stored).await?;
    }
    database.write(|state| {
        state.refuse_name_of_view(&name)?;
        let present = state.functions.get(&name);
        check(present.is_some())?;
        let kept = match present {
            Some(present) if how == CreateFunction::CreateIfNotExists => return Ok(show::functions([present])),
            present => present == Some(&stored),
        };
        if !kept {
            state.functions.insert(name.clone(), Arc::clone(&stored));
            state.schema_changed();
        }
        Ok(show::functions([&stored]))
    })
}

pub(super) fn drop_functions(context: &CommandContext, names: &[String], if_exists: bool) -> Result<Rows, KustoError> {
    let database = context.database()?;
    database.write(|state| {
        if let Some(missing) = names.iter().find(|name| !if_exists && !state.functions.contains_key(*name)) {
            return Err(KustoError::not_found("ExpressionFunction", missing));
        }
        let mut dropped = Vec::new();
        for name in names {
            if let Some(function) = state.functions.remove(name) {
                dropped.push([name.clone()]);
                drop(function);
            }
        }
        if !dropped.is_empty() {
            state.schema_changed();
        }
        Ok(answer::strings(["Name"], dropped))
    })
}

pub(super) fn entity_group(
    context: &CommandContext,
    name: &str,
    change: EntityGroupChange,
) -> Result<Rows, KustoError> {
    let database = context.database()?;
    database.write(|state| {
        let missing = || KustoError::not_found("EntityGroup", name);
        let present = state.entity_groups.get(name);
        let entities = match change {
            EntityGroupChange::Create { if_not_exists: true, .. } if present.is_some() => None,
            EntityGroupChange::Create { .. } if present.is_some() => {
                return Err(KustoError::already_exists("EntityGroup", name));
            }
            EntityGroupChange::Create { entities, .. } => Some(entities),
            EntityGroupChange::Alter(entities) => {
                present.ok_or_else(missing)?;
                Some(entities)
            }
            EntityGroupChange::AlterMerge(added) => {
                let mut entities = present.ok_or_else(missing)?.to_vec();
                for entity in added {
                    if !entities.contains(&entity) {
                        entities.push(entity);
                    }
                }
                Some(entities)
            }
            EntityGroupChange::Drop => {
                let dropped = state.entity_groups.remove(name).ok_or_else(missing)?;
                state.schema_changed();
                return Ok(show::entity_groups([(&name.to_owned(), &*dropped)]));
            }
        };
        if let Some(entities) = entities {
            state.entity_groups.insert(name.to_owned(), Arc::new(entities));
            state.schema_changed();
        }
        let group = state.entity_groups.get(name).ok_or_else(missing)?;
        Ok(show::entity_groups([(&name.to_owned(), &**group)]))
    })
}

pub(super) fn create_mapping(
    context: &CommandContext,
    table: &str,
    kind: MappingKind,
    name: &str,
    text: &str,
    how: CreateMapping,
) -> Result<Rows, KustoError> {
    let parsed = mapping::parse(kind, text, context.query.now)?;
    context.database()?.write(|state| {
        let mappings = &mut state.table_mut(table)?.mappings;
        let key = (kind, name.to_owned());
        match (how, mappings.contains_key(&key)) {
            (CreateMapping::Create, true) => return Err(KustoError::already_exists("IngestionMapping", name)),
            (CreateMapping::Alter, false) => return Err(KustoError::not_found("IngestionMapping", name)),
            (CreateMapping::Create | CreateMapping::CreateOrAlter | CreateMapping::Alter, _) => {
                mappings.insert(key, parsed);
            }
        }
        Ok(())
    })?;
    show::mappings(context, table, Some(kind), Some(name))
}
