//! Columns, schemas and rows: what tables hold, queries return and the wire prints. Pure values on Apache Arrow, no I/O; the catalog, the commands,
//! the engine and the wire protocol share them.
//!
//! How each Kusto type lies in Arrow is decided here once: `datetime` and `timespan` are ticks of 100 ns (Kusto's own unit, so its seventh digit is
//! exact), `dynamic` is JSON text, `string` is never null.

mod builder;
mod cell;

use std::sync::Arc;

use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef},
};
use kql::types::ScalarType;

pub use builder::RowsBuilder;
pub(crate) use cell::{
    parse_bool, parse_datetime, parse_decimal, parse_guid, parse_real, parse_timespan, parse_whole, print_decimal,
    print_real,
};

/// Digits after the point of a `decimal`.
pub const DECIMAL_SCALE: i8 = 18;
/// Digits of a `decimal`.
pub const DECIMAL_PRECISION: u8 = 38;

/// A column's name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name, as Kusto shows it.
    pub name: String,
    /// Its type.
    pub scalar_type: ScalarType,
}

impl Column {
    /// A column.
    pub fn new(name: impl Into<String>, scalar_type: ScalarType) -> Self {
        Self { name: name.into(), scalar_type }
    }
}

/// The columns of a table or a result, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    columns: Vec<Column>,
}

impl Schema {
    /// A schema of these columns.
    pub const fn new(columns: Vec<Column>) -> Self {
        Self { columns }
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many columns there are.
    pub const fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is no column.
    pub const fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Where the column with this name stands. Names are case-sensitive.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The Arrow schema of batches of these columns.
    pub fn arrow_schema(&self) -> SchemaRef {
        let fields: Vec<Field> =
            self.columns.iter().map(|column| Field::new(&column.name, arrow_type(column.scalar_type), true)).collect();
        Arc::new(ArrowSchema::new(fields))
    }
}

impl From<Vec<Column>> for Schema {
    fn from(columns: Vec<Column>) -> Self {
        Self { columns }
    }
}

impl FromIterator<Column> for Schema {
    fn from_iter<I: IntoIterator<Item = Column>>(columns: I) -> Self {
        Self { columns: columns.into_iter().collect() }
    }
}

/// How a Kusto type lies in Arrow.
pub const fn arrow_type(scalar_type: ScalarType) -> DataType {
    match scalar_type {
        ScalarType::Bool => DataType::Boolean,
        ScalarType::Int => DataType::Int32,
        ScalarType::Long | ScalarType::DateTime | ScalarType::Timespan => DataType::Int64,
        ScalarType::Real => DataType::Float64,
        ScalarType::String | ScalarType::Dynamic | ScalarType::Guid => DataType::Utf8,
        ScalarType::Decimal => DataType::Decimal128(DECIMAL_PRECISION, DECIMAL_SCALE),
    }
}

/// A result table, or stored data. Every batch has the schema's columns in the schema's order.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The table's name: `PrimaryResult` for queries.
    pub name: String,
    /// Its columns.
    pub schema: Schema,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// What the caller must be told beside the rows: legs of a `macro-expand` that were left out.
    pub warnings: Vec<String>,
}

impl Rows {
    /// Rows without warnings.
    pub fn new(name: impl Into<String>, schema: Schema, batches: Vec<RecordBatch>) -> Self {
        Self { name: name.into(), schema, batches, warnings: Vec::new() }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One cell as the protocol's JSON.
    ///
    /// `batch` and `row` and `column` are positions; one that does not exist gives null.
    pub fn cell_json(&self, batch: usize, row: usize, column: usize) -> serde_json::Value {
        let (Some(batch), Some(described)) = (self.batches.get(batch), self.schema.columns.get(column)) else {
            return serde_json::Value::Null;
        };
        if row >= batch.num_rows() || column >= batch.num_columns() {
            return serde_json::Value::Null;
        }
        cell::json(batch.column(column), row, described.scalar_type)
    }

    /// All cells as the protocol's JSON, row after row.
    pub fn json(&self) -> Vec<Vec<serde_json::Value>> {
        let mut rows = Vec::with_capacity(self.len());
        for (index, batch) in self.batches.iter().enumerate() {
            for row in 0..batch.num_rows() {
                rows.push((0..self.schema.len()).map(|column| self.cell_json(index, row, column)).collect());
            }
        }
        rows
    }
}
