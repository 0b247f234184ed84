//! The tables that commands answer with. Pure.

use kql::types::ScalarType;
use serde_json::Value;

use crate::rows::{Column, Rows, RowsBuilder, Schema};

/// A table of columns with their types.
pub(super) fn table(columns: &[(&str, ScalarType)], rows: impl IntoIterator<Item = Vec<Value>>) -> Rows {
    let schema: Schema = columns.iter().map(|(name, scalar_type)| Column::new(*name, *scalar_type)).collect();
    let mut builder = RowsBuilder::new(schema);
    for row in rows {
        builder.push_json(&row);
    }
    builder.finish("Table_0")
}

/// A table of strings.
pub(super) fn strings<const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Rows {
    let columns = columns.map(|name| (name, ScalarType::String));
    table(&columns, rows.into_iter().map(|row| row.into_iter().map(Value::from).collect()))
}
