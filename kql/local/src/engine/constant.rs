//! Constants of a query: an expression without columns becomes a literal at once, where Kusto asks for a constant and wherever it saves work. Blocking,
//! no I/O; used by the binder, `let`, `take`, `range` and the shipping of text.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{RecordBatch, RecordBatchOptions},
        datatypes::Schema as ArrowSchema,
    },
    common::{DFSchema, DataFusionError, ScalarValue},
    logical_expr::Expr,
    optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext},
};
use kql::types::ScalarType;

use super::{functions::conversion::convert, planner::Planner, relation::planning, scalar::Scalar};
use crate::error::KustoError;

impl Planner {
    /// The value as a literal, if it names no column; else as it is.
    pub(crate) fn fold(&self, scalar: Scalar) -> Result<Scalar, KustoError> {
        if scalar.value().is_some() || !scalar.expr.column_refs().is_empty() {
            return Ok(scalar);
        }
        let value = self.evaluate(&scalar.expr).map_err(planning)?;
        Ok(Scalar::new(Expr::Literal(value, None), scalar.scalar_type))
    }

    /// The value as a literal of a type; an error if it names a column.
    pub(crate) fn constant(&self, scalar: &Scalar, scalar_type: ScalarType, place: &str) -> Result<Scalar, KustoError> {
        let folded = self.fold(convert(scalar, scalar_type))?;
        if folded.value().is_none() {
            return Err(KustoError::semantic("SEM0120", format!("{place}: a constant is expected here")));
        }
        Ok(folded)
    }

    fn evaluate(&self, expr: &Expr) -> Result<ScalarValue, DataFusionError> {
        // Some functions exist only until they are simplified: coalesce() becomes a case.
        let schema = DFSchema::empty();
        let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build());
        let simplified = simplifier.simplify(simplifier.coerce(expr.clone(), &schema)?)?;
        if let Expr::Literal(value, _) = simplified {
            return Ok(value);
        }
        let physical = self.session.create_physical_expr(simplified, &schema)?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::empty()), Vec::new(), &options)?;
        ScalarValue::try_from_array(&*physical.evaluate(&row)?.into_array(1)?, 0)
    }
}
