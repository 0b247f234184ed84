//! Running a planned table: under the deadline and the caps, and the forms in which subqueries are used. Blocking; called once for every result and for
//! every `toscalar`, `in (T)` and `materialize`.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array as _, RecordBatch},
        compute::cast,
        datatypes::SchemaRef,
    },
    common::{DataFusionError, ScalarValue},
    dataframe::DataFrame,
    logical_expr::{Expr as PlanExpr, LogicalPlanBuilder},
};
use futures::StreamExt as _;
use kql::syntax::ast::Expr;

use super::{
    functions::conversion::never_null,
    planner::{Planner, timed_out},
    relation::{Relation, by_id, planning},
    scalar::Scalar,
    scope::Scope,
};
use crate::{
    error::KustoError,
    rows::{Rows, Schema},
};

impl Planner {
    /// The rows of a planned table.
    pub(crate) fn execute(&self, relation: Relation) -> Result<Rows, KustoError> {
        self.collect(relation, None)
    }

    fn collect(&self, relation: Relation, most: Option<usize>) -> Result<Rows, KustoError> {
        let schema = relation.schema();
        if schema.is_empty() {
            return Err(KustoError::semantic("SEM0025", "The result has no columns"));
        }
        let columns: Vec<PlanExpr> = relation
            .columns
            .iter()
            .map(|column| never_null(by_id(&column.id), column.scalar_type).alias(&column.id))
            .collect();
        let mut builder = LogicalPlanBuilder::from(relation.plan).project(columns).map_err(planning)?;
        if let Some(most) = most {
            builder = builder.limit(0, Some(most)).map_err(planning)?;
        }
        let plan = builder.build().map_err(planning)?;
        let frame = DataFrame::new(self.session.state(), plan);
        let batches = self.block_on(self.stream(frame, &schema))??;
        Ok(Rows::new("PrimaryResult", schema, batches))
    }

    /// Waits for a future until the deadline, or until the client goes away.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> Result<T, KustoError> {
        let deadline = self.context.deadline;
        self.runtime.block_on(async {
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => Err(timed_out()),
                () = timer => Err(timed_out()),
                done = work => Ok(done),
            }
        })
    }

    /// All batches, partition after partition: the rows keep the order of the plan.
    async fn stream(&self, frame: DataFrame, schema: &Schema) -> Result<Vec<RecordBatch>, KustoError> {
        let arrow_schema = schema.arrow_schema();
        let mut batches = Vec::new();
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        let limits = self.context.limits;
        for mut stream in frame.execute_stream_partitioned().await.map_err(failed)? {
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(failed)?;
                rows += u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
                bytes = bytes.saturating_add(size_of(&batch));
                check_caps(rows, bytes, limits)?;
                if batch.num_rows() > 0 {
                    batches.push(conform(&batch, &arrow_schema).map_err(failed)?);
                }
            }
        }
        Ok(batches)
    }

    /// The first cell of a tabular expression: what `toscalar` gives. No row is null.
    pub(crate) fn first_cell(&self, expr: &Expr, scope: &Scope) -> Result<Scalar, KustoError> {
        let relation = self.relation(expr, scope)?;
        let first = self.first_column_only(relation)?;
        let scalar_type = first.columns.first().map_or(kql::types::ScalarType::Dynamic, |column| column.scalar_type);
        let rows = self.collect(first, Some(1))?;
        for batch in &rows.batches {
            if batch.num_rows() > 0 {
                let value = ScalarValue::try_from_array(batch.column(0), 0).map_err(planning)?;
                return Ok(Scalar::new(PlanExpr::Literal(value, None), scalar_type));
            }
        }
        Ok(Scalar::null(scalar_type))
    }

    /// The values of the first column of a tabular expression: what `in (T)` compares with.
    pub(crate) fn first_column(&self, expr: &Expr, scope: &Scope) -> Result<Vec<Scalar>, KustoError> {
        let relation = self.relation(expr, scope)?;
        let first = self.first_column_only(relation)?;
        let rows = self.execute(first)?;
        let scalar_type = rows.schema.columns()[0].scalar_type;
        let mut values = Vec::with_capacity(rows.len());
        for batch in &rows.batches {
            for row in 0..batch.num_rows() {
                let value = ScalarValue::try_from_array(batch.column(0), row).map_err(planning)?;
                values.push(Scalar::new(PlanExpr::Literal(value, None), scalar_type));
            }
        }
        Ok(values)
    }

    fn first_column_only(&self, relation: Relation) -> Result<Relation, KustoError> {
        let Some(first) = relation.columns.first() else {
            return Err(KustoError::semantic("SEM0025", "A table without columns cannot be used as a value"));
        };
        let first = (first.name.clone(), first.scalar());
        relation.project(&self.ids, vec![first])
    }
}

/// The bytes of a batch's values. Not the memory it holds on to: a slice shares its buffers with the whole.
pub(crate) fn size_of(batch: &RecordBatch) -> u64 {
    let bytes: usize = batch
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()))
        .sum();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Kusto's error for a result over the caps.
pub(crate) fn check_caps(rows: u64, bytes: u64, limits: super::Limits) -> Result<(), KustoError> {
    if rows > limits.rows {
        return Err(KustoError::limit_exceeded(format!(
            "Query result set has exceeded the internal record count limit {} (E_QUERY_RESULT_SET_TOO_LARGE; 0x80DA0003).",
            limits.rows
        )));
    }
    if bytes > limits.bytes {
        return Err(KustoError::limit_exceeded(format!(
            "Query result set has exceeded the internal data size limit {} (E_QUERY_RESULT_SET_TOO_LARGE; 0x80DA0003).",
            limits.bytes
        )));
    }
    Ok(())
}

/// The batch under Kusto's column names, and with exactly the Arrow types of the schema.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataFusionError> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        columns.push(if column.data_type() == field.data_type() {
            Arc::clone(column)
        } else {
            cast(column, field.data_type())?
        });
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// An error while a plan runs.
#[allow(clippy::needless_pass_by_value)] // The form that map_err takes.
pub(crate) fn failed(error: DataFusionError) -> KustoError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(reason) => {
            KustoError::limit_exceeded(format!("The query needs more memory than it may use: {reason}"))
        }
        root => KustoError::internal(format!("The query failed while it ran: {root}")),
    }
}
