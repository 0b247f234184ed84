//! Commands that bring rows: `.ingest inline` and `.set-or-append`.

use kql::types::ScalarType;
use serde_json::Value;

use super::{
    CommandContext, answer,
    command::{Command, EntityProperties},
    parse,
};
use crate::{
    catalog::StoredTable,
    engine,
    error::KustoError,
    ingest::{self, Format, Gate, Payload},
    rows::{Rows, Schema},
};

pub(super) fn ingest_inline(
    context: &CommandContext,
    table: &str,
    format: Option<&str>,
    mapping: Option<&str>,
    ignore_first_record: bool,
    data: &str,
) -> Result<Rows, KustoError> {
    let database = context.database()?;
    let payload = Payload {
        // The data begins behind the `<|`, on its line or the next one.
        bytes: data.trim_start().as_bytes(),
        format: Format::of_name(format)?,
        mapping,
        ignore_first_record,
    };
    let count = ingest::ingest(&database, table, payload, Gate::Command, context.query.now)?;
    Ok(ingested(count, false))
}

/// The answer to an inline ingestion that came to nothing; `None` if the text is none.
pub(crate) fn failed_ingestion(csl: &str) -> Option<Rows> {
    matches!(parse::parse(csl).ok()?.command, Command::IngestInline { .. }).then(|| ingested(0, true))
}

fn ingested(rows: usize, has_errors: bool) -> Rows {
    let columns = [
        ("ExtentId", ScalarType::Guid),
        ("ItemLoaded", ScalarType::String),
        ("Duration", ScalarType::Timespan),
        ("HasErrors", ScalarType::Bool),
        ("OperationId", ScalarType::Guid),
    ];
    let row = vec![
        extent_id(rows).into(),
        format!("inproc:{}", uuid::Uuid::new_v4()).into(),
        "00:00:00".into(),
        has_errors.into(),
        uuid::Uuid::new_v4().to_string().into(),
    ];
    answer::table(&columns, [row])
}

pub(super) async fn set_or_append(
    context: &CommandContext,
    table: &str,
    properties: EntityProperties,
    query: &str,
) -> Result<Rows, KustoError> {
    let database = context.database()?;
    let mut results = engine::run_query(&context.query, query).await?;
    let (Some(rows), true) = (results.pop(), results.is_empty()) else {
        return Err(KustoError::bad_request("the query of .set-or-append has more than one result, or none"));
    };
    let count = rows.len();
    let present = database.write(|state| match state.tables.get(table) {
        Some(present) => present.schema().clone(),
        None => {
            let mut created = StoredTable::new(rows.schema.clone());
            created.folder = properties.folder.unwrap_or_default();
            created.docstring = properties.docstring.unwrap_or_default();
            state.tables.insert(table.to_owned(), created);
            state.schema_changed();
            rows.schema.clone()
        }
    });
    check_columns(table, &present, &rows.schema)?;
    if !ingest::append(&database, table, &present, rows.batches, context.query.now)? {
        return Err(KustoError::bad_request(format!("the columns of table '{table}' changed while the query ran")));
    }
    let columns = [
        ("ExtentId", ScalarType::Guid),
        ("OriginalSize", ScalarType::Long),
        ("ExtentSize", ScalarType::Long),
        ("ColumnSize", ScalarType::Long),
        ("IndexSize", ScalarType::Long),
        ("RowCount", ScalarType::Long),
    ];
    let unknown = Value::Null;
    let row = vec![extent_id(count).into(), unknown.clone(), unknown.clone(), unknown.clone(), unknown, count.into()];
    Ok(answer::table(&columns, [row]))
}

/// Columns match by their order, as in Kusto; a name says nothing, a type must be the same.
fn check_columns(table: &str, present: &Schema, offered: &Schema) -> Result<(), KustoError> {
    let types = |schema: &Schema| schema.columns().iter().map(|column| column.scalar_type).collect::<Vec<_>>();
    if types(present) == types(offered) {
        return Ok(());
    }
    Err(KustoError::bad_request(format!(
        "Query schema does not match table schema: table '{table}' has ({}), the query returns ({})",
        super::schema::csl(present, ", "),
        super::schema::csl(offered, ", ")
    )))
}

/// The id of the rows that were added; zero if there were none.
fn extent_id(rows: usize) -> String {
    if rows == 0 { uuid::Uuid::nil() } else { uuid::Uuid::new_v4() }.to_string()
}
