//! A bound scalar expression: a DataFusion expression with its Kusto type, and the way between literals of the syntax tree, Arrow values and
//! DataFusion. Pure; used by every part of the engine.

use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, lit},
};
use kql::{syntax::ast::Literal, types::ScalarType};

use crate::rows::{DECIMAL_PRECISION, DECIMAL_SCALE, arrow_type, parse_decimal, print_decimal};

/// A bound scalar expression.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    /// What DataFusion evaluates. Its Arrow type is [`arrow_type`] of `scalar_type`.
    pub(crate) expr: Expr,
    /// Its Kusto type.
    pub(crate) scalar_type: ScalarType,
}

impl Scalar {
    pub(crate) const fn new(expr: Expr, scalar_type: ScalarType) -> Self {
        Self { expr, scalar_type }
    }

    /// The null of a type; the empty string for `string`.
    pub(crate) fn null(scalar_type: ScalarType) -> Self {
        Self::new(Expr::Literal(null_value(scalar_type), None), scalar_type)
    }

    pub(crate) fn boolean(value: bool) -> Self {
        Self::new(lit(value), ScalarType::Bool)
    }

    pub(crate) fn long(value: i64) -> Self {
        Self::new(lit(value), ScalarType::Long)
    }

    pub(crate) fn real(value: f64) -> Self {
        Self::new(lit(value), ScalarType::Real)
    }

    pub(crate) fn string(value: impl Into<String>) -> Self {
        Self::new(lit(value.into()), ScalarType::String)
    }

    pub(crate) fn ticks(value: i64, scalar_type: ScalarType) -> Self {
        Self::new(lit(value), scalar_type)
    }

    /// The value, if the expression is a literal.
    pub(crate) const fn value(&self) -> Option<&ScalarValue> {
        match &self.expr {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        }
    }

    /// The text of a literal string, JSON or guid.
    pub(crate) fn constant_text(&self) -> Option<&str> {
        match self.value()? {
            ScalarValue::Utf8(Some(text)) => Some(text),
            _ => None,
        }
    }

    /// The whole number or ticks of a literal.
    pub(crate) fn constant_long(&self) -> Option<i64> {
        match self.value()? {
            ScalarValue::Int64(value) => *value,
            ScalarValue::Int32(value) => value.map(i64::from),
            _ => None,
        }
    }

    pub(crate) fn is_null_literal(&self) -> bool {
        self.value().is_some_and(ScalarValue::is_null)
    }

    /// A literal of the syntax tree.
    pub(crate) fn from_literal(literal: &Literal) -> Self {
        let (value, scalar_type) = match literal {
            Literal::Bool(value) => (ScalarValue::Boolean(*value), ScalarType::Bool),
            Literal::DateTime(value) => (ScalarValue::Int64(*value), ScalarType::DateTime),
            Literal::Timespan(value) => (ScalarValue::Int64(*value), ScalarType::Timespan),
            Literal::Long(value) => (ScalarValue::Int64(*value), ScalarType::Long),
            Literal::Int(value) => (ScalarValue::Int32(*value), ScalarType::Int),
            Literal::Real(value) => (ScalarValue::Float64(*value), ScalarType::Real),
            Literal::String(value) => (ScalarValue::Utf8(Some(value.clone())), ScalarType::String),
            Literal::Guid(value) => (ScalarValue::Utf8(value.clone()), ScalarType::Guid),
            Literal::Decimal(value) => (decimal_value(value.as_deref().and_then(parse_decimal)), ScalarType::Decimal),
            Literal::Dynamic(value) => {
                let text = (!value.is_null()).then(|| value.to_string());
                (ScalarValue::Utf8(text), ScalarType::Dynamic)
            }
        };
        Self::new(Expr::Literal(value, None), scalar_type)
    }

    /// The literal of the syntax tree, for a text that is sent to another server. `None` unless the expression is a literal.
    pub(crate) fn to_literal(&self) -> Option<Literal> {
        let value = self.value()?;
        Some(match (self.scalar_type, value) {
            (ScalarType::Bool, ScalarValue::Boolean(value)) => Literal::Bool(*value),
            (ScalarType::DateTime, ScalarValue::Int64(value)) => Literal::DateTime(*value),
            (ScalarType::Timespan, ScalarValue::Int64(value)) => Literal::Timespan(*value),
            (ScalarType::Long, ScalarValue::Int64(value)) => Literal::Long(*value),
            (ScalarType::Int, ScalarValue::Int32(value)) => Literal::Int(*value),
            (ScalarType::Real, ScalarValue::Float64(value)) => Literal::Real(*value),
            (ScalarType::String, ScalarValue::Utf8(value)) => Literal::String(value.clone().unwrap_or_default()),
            (ScalarType::Guid, ScalarValue::Utf8(value)) => Literal::Guid(value.clone()),
            (ScalarType::Decimal, ScalarValue::Decimal128(value, ..)) => Literal::Decimal(value.map(print_decimal)),
            (ScalarType::Dynamic, ScalarValue::Utf8(value)) => Literal::Dynamic(match value {
                Some(text) => serde_json::from_str(text).ok()?,
                None => serde_json::Value::Null,
            }),
            _ => return None,
        })
    }
}

/// The null of a type as an Arrow value; the empty string for `string`.
pub(crate) fn null_value(scalar_type: ScalarType) -> ScalarValue {
    match scalar_type {
        ScalarType::String => ScalarValue::Utf8(Some(String::new())),
        ScalarType::Decimal => decimal_value(None),
        other => ScalarValue::try_from(&arrow_type(other)).unwrap_or(ScalarValue::Null),
    }
}

pub(crate) const fn decimal_value(value: Option<i128>) -> ScalarValue {
    ScalarValue::Decimal128(value, DECIMAL_PRECISION, DECIMAL_SCALE)
}
