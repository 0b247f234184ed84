//! Numbers: `abs`, `round`, `floor`, `bin`, `min_of`, `pow` and their kin. Pure.

use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use kql::types::ScalarType;

use super::{Call, as_common, common, conversion::convert};
use crate::{
    engine::{
        kernel,
        operators::{self, bin},
        scalar::Scalar,
    },
    error::KustoError,
};

pub(crate) const NAMES: &[&str] = &[
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "bin",
    "bin_at",
    "binary_and",
    "binary_or",
    "binary_xor",
    "ceiling",
    "cos",
    "exp",
    "exp10",
    "exp2",
    "floor",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log2",
    "max_of",
    "min_of",
    "pi",
    "pow",
    "round",
    "sign",
    "sin",
    "sqrt",
    "tan",
];

pub(crate) fn call(call: &Call<'_>) -> Result<Scalar, KustoError> {
    match call.name {
        "abs" => {
            call.arity(1, 1)?;
            absolute(call)
        }
        "bin" | "floor" => {
            call.arity(2, 2)?;
            bin(&number(call.argument(0)?), call.argument(1)?)
        }
        "bin_at" => {
            call.arity(3, 3)?;
            bin_at(call)
        }
        "min_of" | "max_of" => {
            call.arity(2, 64)?;
            extreme(call)
        }
        "round" => {
            call.arity(1, 2)?;
            round(call)
        }
        "binary_and" | "binary_or" | "binary_xor" => {
            call.arity(2, 2)?;
            let op = match call.name {
                "binary_and" => Operator::BitwiseAnd,
                "binary_or" => Operator::BitwiseOr,
                _ => Operator::BitwiseXor,
            };
            let expr = BinaryExpr::new(Box::new(call.long(0)?.expr), op, Box::new(call.long(1)?.expr));
            Ok(Scalar::new(Expr::BinaryExpr(expr), ScalarType::Long))
        }
        "isnan" | "isinf" | "isfinite" => {
            call.arity(1, 1)?;
            let test = match call.name {
                "isnan" => f64::is_nan,
                "isinf" => f64::is_infinite,
                _ => f64::is_finite,
            };
            Ok(kernel::boolean(call.name, &[&call.real(0)?], move |cells, row| cells.real(0, row).map(test)))
        }
        "pow" | "atan2" => {
            call.arity(2, 2)?;
            let body = if call.name == "pow" { f64::powf } else { f64::atan2 };
            Ok(kernel::real(call.name, &[&call.real(0)?, &call.real(1)?], move |cells, row| {
                Some(body(cells.real(0, row)?, cells.real(1, row)?))
            }))
        }
        "sign" => {
            call.arity(1, 1)?;
            // The sign of null is 0, as measured on Microsoft's emulator.
            Ok(kernel::real("sign", &[&call.real(0)?], |cells, row| {
                let value = cells.real(0, row).unwrap_or(0.0);
                Some(if value == 0.0 { 0.0 } else { value.signum() })
            }))
        }
        "acos" | "asin" => {
            call.arity(1, 1)?;
            let body = if call.name == "acos" { f64::acos } else { f64::asin };
            // Null outside of the domain; what is not a number stays so.
            Ok(kernel::real(call.name, &[&call.real(0)?], move |cells, row| {
                cells.real(0, row).filter(|value| value.is_nan() || (-1.0..=1.0).contains(value)).map(body)
            }))
        }
        "pi" => {
            call.arity(0, 0)?;
            Ok(Scalar::real(std::f64::consts::PI))
        }
        _ => {
            call.arity(1, 1)?;
            let body: fn(f64) -> f64 = match call.name {
                "atan" => f64::atan,
                "ceiling" => f64::ceil,
                "cos" => f64::cos,
                "exp" => f64::exp,
                "exp10" => |value| 10_f64.powf(value),
                "exp2" => f64::exp2,
                "log" => f64::ln,
                "log10" => f64::log10,
                "log2" => f64::log2,
                "sin" => f64::sin,
                "sqrt" => f64::sqrt,
                _ => f64::tan,
            };
            Ok(kernel::real(call.name, &[&call.real(0)?], move |cells, row| cells.real(0, row).map(body)))
        }
    }
}

/// A dynamic number as a real; anything else as it is.
fn number(value: &Scalar) -> Scalar {
    if value.scalar_type == ScalarType::Dynamic { convert(value, ScalarType::Real) } else { value.clone() }
}

fn absolute(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let value = number(call.argument(0)?);
    match value.scalar_type {
        ScalarType::Int | ScalarType::Long => {
            Ok(kernel::long("abs_long", ScalarType::Long, &[&value], |cells, row| cells.long(0, row)?.checked_abs()))
        }
        ScalarType::Timespan => Ok(kernel::long("abs_timespan", ScalarType::Timespan, &[&value], |cells, row| {
            cells.long(0, row)?.checked_abs()
        })),
        ScalarType::Decimal => {
            Ok(kernel::decimal("abs_decimal", &[&value], |cells, row| cells.decimal(0, row)?.checked_abs()))
        }
        _ => Ok(kernel::real("abs_real", &[&call.real(0)?], |cells, row| cells.real(0, row).map(f64::abs))),
    }
}

fn bin_at(call: &Call<'_>) -> Result<Scalar, KustoError> {
    use kql::syntax::ast::BinaryOp;
    let (value, size, fixed) = (call.argument(0)?, call.argument(1)?, call.argument(2)?);
    let distance = operators::arithmetic(BinaryOp::Subtract, value, fixed)?;
    operators::arithmetic(BinaryOp::Add, fixed, &bin(&distance, size)?)
}

/// The least or greatest argument; null ones do not count.
fn extreme(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let values: Vec<&Scalar> = call.arguments.iter().collect();
    let scalar_type = common(&values);
    if matches!(scalar_type, ScalarType::Dynamic | ScalarType::Bool | ScalarType::Guid) {
        return Err(KustoError::semantic(
            "SEM0025",
            format!("{}() takes numbers, datetimes, timespans or strings of one type", call.name),
        ));
    }
    let values: Vec<Scalar> = values.into_iter().map(|value| as_common(value, scalar_type)).collect();
    let expressions = values.into_iter().map(|value| value.expr).collect();
    let expr = if call.name == "min_of" {
        datafusion::functions::expr_fn::least(expressions)
    } else {
        datafusion::functions::expr_fn::greatest(expressions)
    };
    Ok(Scalar::new(expr, scalar_type))
}

/// Half away from zero, at a number of digits after the point that may be negative.
fn round(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let value = call.real(0)?;
    let digits = if call.count() > 1 { call.long(1)? } else { Scalar::long(0) };
    Ok(kernel::real("round", &[&value, &digits], |cells, row| {
        let (value, digits) = (cells.real(0, row)?, cells.long(1, row)?);
        let scale = 10_f64.powi(i32::try_from(digits.clamp(-300, 300)).ok()?);
        let scaled = value * scale;
        Some(if scaled.is_finite() { scaled.round() / scale } else { value })
    }))
}
