//! Tables that stand at the beginning of a pipeline: stored tables, `print`, `range`, `datatable`. Blocking, reads the catalog.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions},
        datatypes::{DataType, Field, Schema as ArrowSchema},
    },
    catalog::MemTable,
    common::ScalarValue,
    datasource::provider_as_source,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
};
use kql::{
    syntax::ast::{ColumnDeclaration, Expr, Ident, NamedExpr},
    types::ScalarType,
};

use super::{
    expression::Binder,
    functions::{as_common, conversion::convert},
    operators,
    planner::Planner,
    relation::{BoundColumn, Relation, planning, unique_name},
    scalar::Scalar,
    scope::Scope,
};
use crate::{
    error::KustoError,
    rows::{Column, Schema, arrow_type},
};

/// More rows than any result may have, fewer than a laptop's memory.
const MAX_RANGE_ROWS: i64 = 10_000_000;

impl Planner {
    /// A stored table, as it was when this query first read it.
    pub(crate) fn scan(&self, database: &str, name: &str) -> Result<Relation, KustoError> {
        let key = (database.to_owned(), name.to_owned());
        let known = self.snapshots.borrow().get(&key).cloned();
        let snapshot = match known {
            Some(snapshot) => snapshot,
            None => {
                let stored = self.database(database)?.table_at(name, self.context.now);
                let snapshot = stored.ok_or_else(|| KustoError::table_unresolved(name))?;
                self.snapshots.borrow_mut().insert(key, snapshot.clone());
                snapshot
            }
        };
        self.memory(&snapshot.schema, &snapshot.batches, true, Some(name.to_owned()))
    }

    /// Batches in memory as a planned table. `stored` batches have one column more, the ingestion time.
    pub(crate) fn memory(
        &self,
        schema: &Schema,
        batches: &[RecordBatch],
        stored: bool,
        label: Option<String>,
    ) -> Result<Relation, KustoError> {
        let columns: Vec<BoundColumn> = schema
            .columns()
            .iter()
            .map(|column| BoundColumn {
                name: column.name.clone(),
                scalar_type: column.scalar_type,
                id: self.ids.next(),
            })
            .collect();
        let mut fields: Vec<Field> =
            columns.iter().map(|column| Field::new(&column.id, arrow_type(column.scalar_type), true)).collect();
        let ingestion_time = stored.then(|| self.ids.next());
        fields.extend(ingestion_time.iter().map(|id| Field::new(id, DataType::Int64, true)));
        let arrow_schema = Arc::new(ArrowSchema::new(fields));
        let width = arrow_schema.fields().len();
        let renamed = batches
            .iter()
            .filter(|batch| batch.num_rows() > 0)
            .map(|batch| {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let arrays: Vec<ArrayRef> = batch.columns().iter().take(width).cloned().collect();
                RecordBatch::try_new_with_options(Arc::clone(&arrow_schema), arrays, &options)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| KustoError::internal(format!("Stored data does not fit its table's columns: {error}.")))?;
        let provider = MemTable::try_new(arrow_schema, vec![renamed]).map_err(planning)?;
        let plan = LogicalPlanBuilder::scan(self.ids.next(), provider_as_source(Arc::new(provider)), None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(planning)?;
        Ok(Relation { ingestion_time, label, ..Relation::new(columns, plan) })
    }

    /// `print a = 1, 2`
    pub(crate) fn print(&self, columns: &[NamedExpr], scope: &Scope) -> Result<Relation, KustoError> {
        let binder = Binder::new(self, scope, None);
        let mut values = Vec::with_capacity(columns.len());
        let mut taken = Vec::with_capacity(columns.len());
        for (position, column) in columns.iter().enumerate() {
            let name = match &column.name {
                Some(name) if taken.contains(&name.name) => {
                    return Err(binder.located(name.span, declared_twice(&name.name)));
                }
                Some(name) => name.name.clone(),
                None => unique_name(&taken, &format!("print_{position}")),
            };
            taken.push(name.clone());
            let value = self.fold(binder.bind(&column.value)?)?;
            values.push((name, value));
        }
        self.one_row()?.project(&self.ids, values)
    }

    fn one_row(&self) -> Result<Relation, KustoError> {
        let plan: LogicalPlan = LogicalPlanBuilder::empty(true).build().map_err(planning)?;
        Ok(Relation::new(Vec::new(), plan))
    }

    /// `range x from 1 to 10 step 1`
    pub(crate) fn range(
        &self,
        column: &Ident,
        from: &Expr,
        to: &Expr,
        step: &Expr,
        scope: &Scope,
    ) -> Result<Relation, KustoError> {
        let binder = Binder::new(self, scope, None);
        let bind = |expr: &Expr| self.fold(binder.bind(expr)?);
        let (from, to, step) = (bind(from)?, bind(to)?, bind(step)?);
        let scalar_type = match (from.scalar_type, to.scalar_type, step.scalar_type) {
            (ScalarType::DateTime, ScalarType::DateTime, ScalarType::Timespan) => ScalarType::DateTime,
            (ScalarType::Timespan, ScalarType::Timespan, ScalarType::Timespan) => ScalarType::Timespan,
            (from, to, step) => match operators::wider(from, to).and_then(|wide| operators::wider(wide, step)) {
                Some(ScalarType::Int | ScalarType::Long) => ScalarType::Long,
                Some(ScalarType::Real) => ScalarType::Real,
                _ => {
                    return Err(KustoError::semantic(
                        "SEM0025",
                        format!("range: the types {from}, {to} and {step} do not go together"),
                    ));
                }
            },
        };
        let values: ArrayRef = if scalar_type == ScalarType::Real {
            let real = |scalar: &Scalar| match self.fold(convert(scalar, ScalarType::Real))?.value() {
                Some(ScalarValue::Float64(value)) => Ok(*value),
                _ => Err(not_constant()),
            };
            Arc::new(Float64Array::from(reals(real(&from)?, real(&to)?, real(&step)?)?))
        } else {
            let whole = |scalar: &Scalar| match scalar.value() {
                Some(_) => Ok(scalar.constant_long()),
                None => Err(not_constant()),
            };
            Arc::new(Int64Array::from(wholes(whole(&from)?, whole(&to)?, whole(&step)?)?))
        };
        let schema = Schema::new(vec![Column::new(&column.name, scalar_type)]);
        let batch = RecordBatch::try_new(schema.arrow_schema(), vec![values])
            .map_err(|error| KustoError::internal(format!("range: {error}.")))?;
        self.memory(&schema, &[batch], false, None)
    }

    /// `datatable(a:long) [1, 2]`
    pub(crate) fn data_table(
        &self,
        columns: &[ColumnDeclaration],
        values: &[Expr],
        scope: &Scope,
    ) -> Result<Relation, KustoError> {
        let schema: Schema = columns.iter().map(|column| Column::new(&column.name.name, column.scalar_type)).collect();
        for (index, column) in columns.iter().enumerate() {
            if columns[..index].iter().any(|earlier| earlier.name.name == column.name.name) {
                return Err(super::planner::located(scope, column.name.span, declared_twice(&column.name.name)));
            }
        }
        if columns.is_empty() || !values.len().is_multiple_of(columns.len()) {
            return Err(KustoError::semantic(
                "SEM0025",
                format!("datatable: {} values do not fill rows of {} columns", values.len(), columns.len()),
            ));
        }
        let binder = Binder::new(self, scope, None);
        let mut cells: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(values.len() / columns.len()); columns.len()];
        for (index, value) in values.iter().enumerate() {
            let column = index % columns.len();
            let written = binder.bind(value)?;
            let declared = &columns[column];
            if declared.scalar_type == ScalarType::Int
                && written.constant_long().is_some_and(|number| i32::try_from(number).is_err())
            {
                let error = KustoError::semantic(
                    "SEM0025",
                    format!("datatable: a value of the column '{}' does not fit its type int", declared.name.name),
                );
                return Err(binder.located(value.span, error));
            }
            let bound = self.fold(as_common(&written, declared.scalar_type))?;
            match bound.value() {
                Some(value) => cells[column].push(value.clone()),
                None => return Err(binder.located(value.span, not_constant())),
            }
        }
        let arrays = cells
            .into_iter()
            .zip(columns)
            .map(|(cells, column)| {
                if cells.is_empty() {
                    return Ok(datafusion::arrow::array::new_empty_array(&arrow_type(column.scalar_type)));
                }
                ScalarValue::iter_to_array(cells)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(planning)?;
        let batch = RecordBatch::try_new(schema.arrow_schema(), arrays)
            .map_err(|error| KustoError::internal(format!("datatable: {error}.")))?;
        self.memory(&schema, &[batch], false, None)
    }
}

pub(crate) fn declared_twice(name: &str) -> KustoError {
    KustoError::semantic("SEM0102", format!("A column with the name '{name}' is already declared"))
}

fn not_constant() -> KustoError {
    KustoError::semantic("SEM0120", "A constant is expected here")
}

fn too_many() -> KustoError {
    KustoError::limit_exceeded(format!("range: more than {MAX_RANGE_ROWS} rows, which this server refuses."))
}

/// From a value to another; a null or a step that leads nowhere gives no row.
fn wholes(from: Option<i64>, to: Option<i64>, step: Option<i64>) -> Result<Vec<i64>, KustoError> {
    let (Some(from), Some(to), Some(step)) = (from, to, step) else { return Ok(Vec::new()) };
    if step == 0 {
        return Err(KustoError::semantic("SEM0025", "range: the step is zero"));
    }
    if (step > 0 && to < from) || (step < 0 && to > from) {
        return Ok(Vec::new());
    }
    let count = (i128::from(to) - i128::from(from)) / i128::from(step);
    if count >= i128::from(MAX_RANGE_ROWS) {
        return Err(too_many());
    }
    let mut values = Vec::new();
    let mut next = Some(from);
    while let Some(value) = next.filter(|value| if step > 0 { *value <= to } else { *value >= to }) {
        values.push(value);
        next = value.checked_add(step);
    }
    Ok(values)
}

fn reals(from: Option<f64>, to: Option<f64>, step: Option<f64>) -> Result<Vec<f64>, KustoError> {
    let (Some(from), Some(to), Some(step)) = (from, to, step) else { return Ok(Vec::new()) };
    if step == 0.0 || !step.is_finite() || !from.is_finite() || !to.is_finite() {
        return Err(KustoError::semantic("SEM0025", "range: from, to and step must be finite, the step not zero"));
    }
    let count = (to - from) / step;
    if count < 0.0 {
        return Ok(Vec::new());
    }
    if count >= super::functions::conversion::as_real(MAX_RANGE_ROWS) {
        return Err(too_many());
    }
    let mut values = Vec::new();
    let mut index = 0_i32;
    while f64::from(index) <= count {
        values.push(f64::from(index).mul_add(step, from));
        index += 1;
    }
    Ok(values)
}
