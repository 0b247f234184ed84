//! A table's columns and rows. Pure; changed under its database's lock by [`super::Database`].
//!
//! Heartbeats and streams arrive as very many tiny batches, which would make every query slow. So an append merges the tail: neighbours of similar size become one
//! batch, as long as it stays small. Each row is copied a few times in its life, never with every append.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, new_null_array},
    compute::concat_batches,
    datatypes::{DataType, Field, Int64Type, Schema as ArrowSchema, SchemaRef},
};
use kql::types::ScalarType;

use super::{
    INGESTION_TIME, TableSnapshot,
    policy::{Encoding, Policies},
    state::{Mapping, MappingKind, Principal},
};
use crate::{
    error::KustoError,
    rows::{Column, Schema, arrow_type},
};

/// A batch of this many rows is not merged any further.
const FULL_BATCH_ROWS: usize = 8192;
/// A batch of this many bytes is not merged any further: copying it costs more than a query gains.
const FULL_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// A stored table.
#[derive(Debug)]
pub(crate) struct StoredTable {
    schema: Schema,
    batches: Arc<Vec<RecordBatch>>,
    pub(crate) folder: String,
    pub(crate) docstring: String,
    pub(crate) policies: Policies,
    /// By column; absent is [`Encoding::Null`].
    pub(crate) encodings: BTreeMap<String, Encoding>,
    pub(crate) mappings: BTreeMap<(MappingKind, String), Mapping>,
    pub(crate) principals: Vec<Principal>,
}

impl StoredTable {
    pub(crate) fn new(schema: Schema) -> Self {
        Self {
            schema,
            batches: Arc::default(),
            folder: String::new(),
            docstring: String::new(),
            policies: Policies::default(),
            encodings: BTreeMap::new(),
            mappings: BTreeMap::new(),
            principals: Vec::new(),
        }
    }

    pub(crate) const fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn snapshot(&self) -> TableSnapshot {
        TableSnapshot { schema: self.schema.clone(), batches: Arc::clone(&self.batches) }
    }

    /// The longest `dynamic` of a column, in bytes.
    pub(crate) fn max_dynamic_bytes(&self, column: &str) -> usize {
        self.encodings.get(column).copied().unwrap_or(Encoding::Null).max_dynamic_bytes()
    }

    /// Adds the columns that are not there yet; rows that are there get null (or an empty string) in them. Whether anything changed.
    ///
    /// # Errors
    /// `General_BadRequest` if a column is there with another type: merging never changes a type.
    pub(crate) fn merge_columns(&mut self, columns: &[Column]) -> Result<bool, KustoError> {
        let mut added = Vec::new();
        for column in columns {
            match self.schema.columns().iter().find(|present| present.name == column.name) {
                None => added.push(column.clone()),
                Some(present) if present.scalar_type == column.scalar_type => {}
                Some(present) => {
                    return Err(KustoError::bad_request(format!(
                        "Column '{}' is of type '{}' and cannot be merged with type '{}'.",
                        column.name, present.scalar_type, column.scalar_type
                    )));
                }
            }
        }
        if added.is_empty() {
            return Ok(false);
        }
        let schema = self.schema.columns().iter().chain(&added).cloned().collect::<Schema>();
        let stored = stored_schema(&schema);
        let widened = self.batches.iter().map(|batch| widen(batch, &added, &stored)).collect();
        self.batches = Arc::new(widened);
        self.schema = schema;
        Ok(true)
    }

    /// Adds rows of the table's columns, all with the same ingestion time.
    ///
    /// # Errors
    /// An internal error if a batch has other columns than the table.
    pub(crate) fn append(&mut self, batches: &[RecordBatch], now: i64) -> Result<(), KustoError> {
        let stored = stored_schema(&self.schema);
        // The clock may step back; rows stay in order of their ingestion time, which retention relies on.
        let now = now.max(self.newest().unwrap_or(i64::MIN));
        let mut kept = Vec::with_capacity(batches.len());
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            let mut arrays = batch.columns().to_vec();
            arrays.push(Arc::new(Int64Array::from(vec![now; batch.num_rows()])));
            let batch = RecordBatch::try_new(Arc::clone(&stored), arrays)
                .map_err(|error| KustoError::internal(format!("rows of other columns than the table's: {error}")))?;
            kept.push(batch);
        }
        let all = Arc::make_mut(&mut self.batches);
        for batch in kept {
            all.push(batch);
            merge_tail(all, &stored)?;
        }
        Ok(())
    }

    /// Whether rows of an earlier ingestion time are there.
    pub(crate) fn holds_older_than(&self, oldest_kept: i64) -> bool {
        self.batches.first().and_then(|batch| ingestion_times(batch).values().first().copied()) < Some(oldest_kept)
            && !self.batches.is_empty()
    }

    /// Drops rows of an earlier ingestion time.
    pub(crate) fn drop_older_than(&mut self, oldest_kept: i64) {
        if !self.holds_older_than(oldest_kept) {
            return;
        }
        let batches = Arc::make_mut(&mut self.batches);
        // Rows are in order of their ingestion time, so what goes is a prefix.
        let expired = batches
            .iter()
            .take_while(|batch| ingestion_times(batch).values().last().is_none_or(|newest| *newest < oldest_kept));
        let expired = expired.count();
        batches.drain(..expired);
        if let Some(first) = batches.first_mut() {
            let cut = ingestion_times(first).values().partition_point(|time| *time < oldest_kept);
            *first = first.slice(cut, first.num_rows() - cut);
        }
    }

    fn newest(&self) -> Option<i64> {
        self.batches.last().and_then(|batch| ingestion_times(batch).values().last().copied())
    }
}

/// The columns of stored batches: the table's, then the ingestion time.
fn stored_schema(schema: &Schema) -> SchemaRef {
    let arrow = schema.arrow_schema();
    let mut fields = arrow.fields().to_vec();
    fields.push(Arc::new(Field::new(INGESTION_TIME, DataType::Int64, true)));
    Arc::new(ArrowSchema::new(fields))
}

fn ingestion_times(batch: &RecordBatch) -> &Int64Array {
    batch.columns().last().expect("every stored batch ends with its ingestion times").as_primitive::<Int64Type>()
}

fn widen(batch: &RecordBatch, added: &[Column], stored: &SchemaRef) -> RecordBatch {
    let mut arrays = batch.columns().to_vec();
    let times = arrays.pop().expect("every stored batch ends with its ingestion times");
    arrays.extend(added.iter().map(|column| empty_column(column.scalar_type, batch.num_rows())));
    arrays.push(times);
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(stored), arrays, &options)
        .expect("every added column has its type and as many values as the batch has rows")
}

fn empty_column(scalar_type: ScalarType, rows: usize) -> ArrayRef {
    match scalar_type {
        // Kusto has no null string.
        ScalarType::String => Arc::new(StringArray::from(vec![""; rows])),
        other => new_null_array(&arrow_type(other), rows),
    }
}

/// Merges the last two batches while the last is at least half as large as the one before and both are small.
fn merge_tail(batches: &mut Vec<RecordBatch>, stored: &SchemaRef) -> Result<(), KustoError> {
    while let [.., before, last] = batches.as_slice() {
        let rows = before.num_rows() + last.num_rows();
        if last.num_rows() * 2 < before.num_rows() || rows > FULL_BATCH_ROWS {
            return Ok(());
        }
        if before.get_array_memory_size() + last.get_array_memory_size() > FULL_BATCH_BYTES {
            return Ok(());
        }
        let merged = concat_batches(stored, [before, last])
            .map_err(|error| KustoError::internal(format!("two batches of one table could not be merged: {error}")))?;
        batches.truncate(batches.len() - 2);
        batches.push(merged);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::{Rows, RowsBuilder};

    fn schema() -> Schema {
        vec![Column::new("Count", ScalarType::Long)].into()
    }

    fn one(value: i64) -> Vec<RecordBatch> {
        let mut builder = RowsBuilder::new(schema());
        builder.push_json(&[json!(value)]);
        builder.finish("t").batches
    }

    fn count(table: &StoredTable) -> usize {
        table.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn values(table: &StoredTable) -> Vec<Vec<serde_json::Value>> {
        Rows::new("t", table.schema().clone(), table.batches.to_vec()).json()
    }

    #[test]
    fn many_tiny_appends_become_few_batches_in_order() {
        let mut table = StoredTable::new(schema());
        for value in 0..1000 {
            table.append(&one(value), value).unwrap();
        }
        assert_eq!(count(&table), 1000);
        assert!(table.batches.len() <= 10, "{} batches", table.batches.len());
        let expected: Vec<_> = (0..1000).map(|value| vec![json!(value)]).collect();
        assert_eq!(values(&table), expected);
    }

    #[test]
    fn a_snapshot_does_not_see_later_appends() {
        let mut table = StoredTable::new(schema());
        table.append(&one(1), 1).unwrap();
        let snapshot = table.snapshot();
        table.append(&one(2), 2).unwrap();
        assert_eq!(snapshot.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        assert_eq!(count(&table), 2);
    }

    #[test]
    fn rows_older_than_the_retention_go_even_out_of_merged_batches() {
        let mut table = StoredTable::new(schema());
        for value in 0..10 {
            table.append(&one(value), value).unwrap();
        }
        assert!(!table.holds_older_than(0));
        assert!(table.holds_older_than(5));
        table.drop_older_than(5);
        assert_eq!(values(&table)[0], [json!(5)]);
        assert_eq!(count(&table), 5);
        table.drop_older_than(100);
        assert_eq!(count(&table), 0);
        assert!(!table.holds_older_than(200));
    }

    #[test]
    fn a_clock_that_steps_back_keeps_rows_in_order() {
        let mut table = StoredTable::new(schema());
        table.append(&one(1), 10).unwrap();
        table.append(&one(2), 5).unwrap();
        table.drop_older_than(10);
        assert_eq!(count(&table), 2);
    }

    #[test]
    fn merging_columns_adds_nulls_and_never_changes_a_type() {
        let mut table = StoredTable::new(schema());
        table.append(&one(1), 1).unwrap();
        let added = [
            Column::new("Count", ScalarType::Long),
            Column::new("Name", ScalarType::String),
            Column::new("At", ScalarType::DateTime),
        ];
        assert!(table.merge_columns(&added).unwrap());
        assert!(!table.merge_columns(&added).unwrap());
        assert_eq!(values(&table), [[json!(1), json!(""), json!(null)]]);
        assert!(table.merge_columns(&[Column::new("Count", ScalarType::Int)]).is_err());
    }
}
