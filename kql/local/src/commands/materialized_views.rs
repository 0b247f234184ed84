//! Materialized views: kept as their query, which is run whenever somebody reads the view. So they are always fresh, and cost what their query costs; the
//! service keeps the result up to date instead. Called by the dispatcher only.

use std::sync::Arc;

use kql::{
    syntax::ast::{Expr, ExprKind, FunctionLiteral, OperatorKind, Statement},
    types::ScalarType,
};
use serde_json::Value;

use super::{CommandContext, answer, command::NewMaterializedView};
use crate::{
    catalog::{MaterializedView, StoredFunction},
    engine,
    error::{KustoError, KustoErrorKind},
    rows::Rows,
};

/// The entity's kind in Kusto's errors.
const KIND: &str = "MaterializedView";

pub(super) async fn create(context: &CommandContext, view: NewMaterializedView) -> Result<Rows, KustoError> {
    let database = context.database()?;
    let NewMaterializedView { name, source, query, text, properties, if_not_exists } = view;
    if !summarizes(&query, &source) {
        return Err(KustoError::new(
            KustoErrorKind::BadRequest,
            format!(
                "the query of the materialized view '{name}' must read the table '{source}' and end with its only 'summarize'"
            ),
        ));
    }
    database.read(|state| state.table(&source).map(drop))?;
    let definition = StoredFunction {
        name: name.clone(),
        literal: FunctionLiteral { view: true, parameters: Vec::new(), body: query },
        parameters: "()".to_owned(),
        body: text,
        folder: properties.folder.unwrap_or_default(),
        docstring: properties.docstring.unwrap_or_default(),
    };
    let columns = engine::infer_schema(&context.query, &definition).await?;
    let made = Arc::new(MaterializedView { source, columns, definition: Arc::new(definition) });
    database.write(|state| {
        if let Some(present) = state.materialized_views.get(&name) {
            return if if_not_exists { Ok(rows([present])) } else { Err(KustoError::already_exists(KIND, &name)) };
        }
        for (kind, taken) in
            [("Table", state.tables.contains_key(&name)), ("ExpressionFunction", state.functions.contains_key(&name))]
        {
            if taken {
                return Err(KustoError::already_exists(kind, &name));
            }
        }
        state.materialized_views.insert(name.clone(), Arc::clone(&made));
        state.schema_changed();
        Ok(rows([&made]))
    })
}

pub(super) fn drop_view(context: &CommandContext, name: &str, if_exists: bool) -> Result<Rows, KustoError> {
    context.database()?.write(|state| {
        if state.materialized_views.remove(name).is_some() {
            state.schema_changed();
        } else if !if_exists {
            return Err(KustoError::not_found(KIND, name));
        }
        Ok(rows(state.materialized_views.values()))
    })
}

pub(super) fn show(context: &CommandContext) -> Result<Rows, KustoError> {
    Ok(context.database()?.read(|state| rows(state.materialized_views.values())))
}

/// The first of the service's columns; the others are about a materialization that does not happen here.
fn rows<'a>(views: impl IntoIterator<Item = &'a Arc<MaterializedView>>) -> Rows {
    let columns = [
        ("Name", ScalarType::String),
        ("SourceTable", ScalarType::String),
        ("Query", ScalarType::String),
        ("IsHealthy", ScalarType::Bool),
        ("IsEnabled", ScalarType::Bool),
        ("Folder", ScalarType::String),
        ("DocString", ScalarType::String),
    ];
    let row = |view: &Arc<MaterializedView>| -> Vec<Value> {
        let StoredFunction { name, folder, docstring, .. } = &*view.definition;
        let text = |text: &str| Value::from(text);
        let query = text(query(&view.definition));
        vec![text(name), text(&view.source), query, true.into(), true.into(), text(folder), text(docstring)]
    };
    answer::table(&columns, views.into_iter().map(row))
}

/// The query of a view as it was written, without its braces.
pub(super) fn query(definition: &StoredFunction) -> &str {
    definition.body.trim_start_matches('{').trim_end_matches('}').trim()
}

/// Whether a body is one pipeline over the table that ends with its only `summarize`, as Kusto wants it.
fn summarizes(body: &[Statement], table: &str) -> bool {
    let [Statement::Expression(Expr { kind: ExprKind::Pipeline { source, operators }, .. })] = body else {
        return false;
    };
    let reads = matches!(&source.kind, ExprKind::Name(name) if name == table);
    let is_summarize = |kind: &OperatorKind| matches!(kind, OperatorKind::Summarize { .. });
    let Some((last, before)) = operators.split_last() else { return false };
    reads && is_summarize(&last.kind) && !before.iter().any(|operator| is_summarize(&operator.kind))
}
