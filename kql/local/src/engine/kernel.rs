//! Scalar functions of Kusto as DataFusion functions: one type, [`Kernel`], whose body is a closure over typed cells. Pure; used by the expression
//! binder and every module of [`super::functions`].
//!
//! Two kernels with the same name are the same function to DataFusion, which merges equal calls; so everything a body captures is part of its name.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array,
            StringBuilder,
        },
        datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type},
    },
    common::{Result, ScalarValue, exec_datafusion_err},
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};
use kql::types::ScalarType;

use super::scalar::Scalar;
use crate::rows::{DECIMAL_PRECISION, DECIMAL_SCALE, arrow_type};

/// The arguments of one call over one batch.
pub(crate) struct Cells {
    arrays: Vec<(ArrayRef, bool)>,
    rows: usize,
}

impl Cells {
    /// How many rows the result has.
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// How many arguments there are.
    pub(crate) fn arguments(&self) -> usize {
        self.arrays.len()
    }

    fn cell(&self, argument: usize, row: usize) -> (&ArrayRef, usize) {
        let (array, constant) = &self.arrays[argument];
        (array, if *constant { 0 } else { row })
    }

    pub(crate) fn is_null(&self, argument: usize, row: usize) -> bool {
        let (array, row) = self.cell(argument, row);
        array.is_null(row)
    }

    /// A string, guid or JSON text; null is the empty string.
    pub(crate) fn text(&self, argument: usize, row: usize) -> &str {
        self.json(argument, row).unwrap_or("")
    }

    /// A JSON text or a guid.
    pub(crate) fn json(&self, argument: usize, row: usize) -> Option<&str> {
        let (array, row) = self.cell(argument, row);
        if array.is_null(row) {
            return None;
        }
        array.as_string_opt::<i32>().map(|array| array.value(row))
    }

    /// An int, long, datetime or timespan.
    pub(crate) fn long(&self, argument: usize, row: usize) -> Option<i64> {
        let (array, row) = self.cell(argument, row);
        if array.is_null(row) {
            return None;
        }
        match array.as_primitive_opt::<Int64Type>() {
            Some(array) => Some(array.value(row)),
            None => array.as_primitive_opt::<Int32Type>().map(|array| i64::from(array.value(row))),
        }
    }

    pub(crate) fn real(&self, argument: usize, row: usize) -> Option<f64> {
        let (array, row) = self.cell(argument, row);
        if array.is_null(row) {
            return None;
        }
        array.as_primitive_opt::<Float64Type>().map(|array| array.value(row))
    }

    pub(crate) fn boolean(&self, argument: usize, row: usize) -> Option<bool> {
        let (array, row) = self.cell(argument, row);
        if array.is_null(row) {
            return None;
        }
        array.as_boolean_opt().map(|array| array.value(row))
    }

    pub(crate) fn decimal(&self, argument: usize, row: usize) -> Option<i128> {
        let (array, row) = self.cell(argument, row);
        if array.is_null(row) {
            return None;
        }
        array.as_primitive_opt::<Decimal128Type>().map(|array| array.value(row))
    }
}

type Body = Arc<dyn Fn(&Cells) -> Result<ArrayRef> + Send + Sync>;

/// A scalar function.
#[derive(Clone)]
pub(crate) struct Kernel {
    name: String,
    signature: Signature,
    returns: DataType,
    body: Body,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("name", &self.name).finish_non_exhaustive()
    }
}
impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.returns == other.returns
    }
}
impl Eq for Kernel {}
impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Kernel {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let mut arrays = Vec::with_capacity(args.args.len());
        for value in args.args {
            arrays.push(match value {
                ColumnarValue::Array(array) => (array, false),
                ColumnarValue::Scalar(value) => (value.to_array()?, true),
            });
        }
        let result = (self.body)(&Cells { arrays, rows })?;
        if result.len() != rows {
            return Err(exec_datafusion_err!(
                "the function {} gave {} values for {rows} rows",
                self.name,
                result.len()
            ));
        }
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
        } else {
            ColumnarValue::Array(result)
        })
    }
}

/// A call of a function whose body makes the whole result array.
pub(crate) fn call(
    name: impl Into<String>,
    returns: DataType,
    arguments: Vec<Expr>,
    body: impl Fn(&Cells) -> Result<ArrayRef> + Send + Sync + 'static,
) -> Expr {
    let signature = if arguments.is_empty() {
        Signature::nullary(Volatility::Immutable)
    } else {
        Signature::any(arguments.len(), Volatility::Immutable)
    };
    let kernel = Kernel { name: name.into(), signature, returns, body: Arc::new(body) };
    ScalarUDF::new_from_impl(kernel).call(arguments)
}

fn expressions(arguments: &[&Scalar]) -> Vec<Expr> {
    arguments.iter().map(|argument| argument.expr.clone()).collect()
}

/// A function that gives a `string`, or a `dynamic` or `guid` by their text; `None` is the empty string, or null.
pub(crate) fn text(
    name: impl Into<String>,
    returns: ScalarType,
    arguments: &[&Scalar],
    body: impl for<'a> Fn(&'a Cells, usize) -> Option<Cow<'a, str>> + Send + Sync + 'static,
) -> Scalar {
    let expr = call(name, DataType::Utf8, expressions(arguments), move |cells| {
        let mut builder = StringBuilder::with_capacity(cells.rows(), cells.rows() * 16);
        for row in 0..cells.rows() {
            match body(cells, row) {
                Some(value) => builder.append_value(value),
                None if returns == ScalarType::String => builder.append_value(""),
                None => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    });
    Scalar::new(expr, returns)
}

/// A function that gives a `bool`.
pub(crate) fn boolean(
    name: impl Into<String>,
    arguments: &[&Scalar],
    body: impl Fn(&Cells, usize) -> Option<bool> + Send + Sync + 'static,
) -> Scalar {
    let expr = call(name, DataType::Boolean, expressions(arguments), move |cells| {
        Ok(Arc::new((0..cells.rows()).map(|row| body(cells, row)).collect::<BooleanArray>()))
    });
    Scalar::new(expr, ScalarType::Bool)
}

/// A function that gives a `long`, `datetime`, `timespan` or `int`; what an `int` cannot hold is null.
pub(crate) fn long(
    name: impl Into<String>,
    returns: ScalarType,
    arguments: &[&Scalar],
    body: impl Fn(&Cells, usize) -> Option<i64> + Send + Sync + 'static,
) -> Scalar {
    let expr = if returns == ScalarType::Int {
        call(name, DataType::Int32, expressions(arguments), move |cells| {
            let values = (0..cells.rows()).map(|row| body(cells, row).and_then(|value| i32::try_from(value).ok()));
            Ok(Arc::new(values.collect::<Int32Array>()))
        })
    } else {
        call(name, DataType::Int64, expressions(arguments), move |cells| {
            Ok(Arc::new((0..cells.rows()).map(|row| body(cells, row)).collect::<Int64Array>()))
        })
    };
    Scalar::new(expr, returns)
}

/// A function that gives a `real`.
pub(crate) fn real(
    name: impl Into<String>,
    arguments: &[&Scalar],
    body: impl Fn(&Cells, usize) -> Option<f64> + Send + Sync + 'static,
) -> Scalar {
    let expr = call(name, DataType::Float64, expressions(arguments), move |cells| {
        Ok(Arc::new((0..cells.rows()).map(|row| body(cells, row)).collect::<Float64Array>()))
    });
    Scalar::new(expr, ScalarType::Real)
}

/// A function that gives a `decimal`.
pub(crate) fn decimal(
    name: impl Into<String>,
    arguments: &[&Scalar],
    body: impl Fn(&Cells, usize) -> Option<i128> + Send + Sync + 'static,
) -> Scalar {
    let expr = call(name, arrow_type(ScalarType::Decimal), expressions(arguments), move |cells| {
        let values: Decimal128Array = (0..cells.rows()).map(|row| body(cells, row)).collect();
        Ok(Arc::new(values.with_precision_and_scale(DECIMAL_PRECISION, DECIMAL_SCALE)?))
    });
    Scalar::new(expr, ScalarType::Decimal)
}
