//! Infix and prefix operators on scalars: types, null semantics, text operators. Pure; called by the expression binder.
//!
//! Kusto's rule for nulls: an operator with a null operand gives null, except that `==` and `!=` of a null and a value are false and true, and that `and`
//! and `or` give what their other operand already decides. A condition that is null keeps no row.

use datafusion::{
    common::ScalarValue,
    logical_expr::{BinaryExpr, Expr, Operator, lit},
};
use kql::{
    literal::{MAX_DATETIME_TICKS, TICKS_PER_DAY},
    syntax::ast::{BinaryOp, UnaryOp},
    types::ScalarType,
};

use super::{
    functions::conversion::{as_real, convert, to_string, truncate},
    json, kernel,
    scalar::Scalar,
    text_match,
};
use crate::error::KustoError;

/// How an operator is written.
pub(crate) const fn symbol(op: BinaryOp) -> &'static str {
    use BinaryOp as B;
    match op {
        B::Or => "or",
        B::And => "and",
        B::Equal => "==",
        B::NotEqual => "!=",
        B::Less => "<",
        B::LessOrEqual => "<=",
        B::Greater => ">",
        B::GreaterOrEqual => ">=",
        B::EqualTilde => "=~",
        B::NotEqualTilde => "!~",
        B::Has => "has",
        B::NotHas => "!has",
        B::HasCs => "has_cs",
        B::NotHasCs => "!has_cs",
        B::HasPrefix => "hasprefix",
        B::NotHasPrefix => "!hasprefix",
        B::HasSuffix => "hassuffix",
        B::NotHasSuffix => "!hassuffix",
        B::Contains => "contains",
        B::NotContains => "!contains",
        B::ContainsCs => "contains_cs",
        B::NotContainsCs => "!contains_cs",
        B::StartsWith => "startswith",
        B::NotStartsWith => "!startswith",
        B::StartsWithCs => "startswith_cs",
        B::NotStartsWithCs => "!startswith_cs",
        B::EndsWith => "endswith",
        B::NotEndsWith => "!endswith",
        B::EndsWithCs => "endswith_cs",
        B::NotEndsWithCs => "!endswith_cs",
        B::MatchesRegex => "matches regex",
        B::Add => "+",
        B::Subtract => "-",
        B::Multiply => "*",
        B::Divide => "/",
        B::Modulo => "%",
    }
}

fn native(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// A scalar operator other than `and` and `or`.
pub(crate) fn binary(op: BinaryOp, left: &Scalar, right: &Scalar) -> Result<Scalar, KustoError> {
    match op {
        BinaryOp::Equal | BinaryOp::NotEqual => equality(op, left, right),
        BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => {
            ordering(op, left, right)
        }
        BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Modulo => {
            arithmetic(op, left, right)
        }
        BinaryOp::And | BinaryOp::Or => {
            let both = native(
                condition(left, symbol(op))?,
                if op == BinaryOp::And { Operator::And } else { Operator::Or },
                condition(right, symbol(op))?,
            );
            Ok(Scalar::new(both, ScalarType::Bool))
        }
        _ => text_match::operator(op, left, right),
    }
}

/// The expression as a condition.
pub(crate) fn condition(value: &Scalar, place: &str) -> Result<Expr, KustoError> {
    if value.scalar_type == ScalarType::Bool {
        return Ok(value.expr.clone());
    }
    Err(KustoError::semantic(
        "SEM0079",
        format!("{place}: an expression of type bool is expected, this one is of type {}", value.scalar_type),
    ))
}

/// Both operands as the type in which they are compared.
pub(crate) fn comparable(op: &str, left: &Scalar, right: &Scalar) -> Result<(Scalar, Scalar), KustoError> {
    use ScalarType as T;
    let (l, r) = (left.scalar_type, right.scalar_type);
    if l == r && l != T::Dynamic {
        return Ok((left.clone(), right.clone()));
    }
    if let Some(wide) = wider(l, r) {
        return Ok((convert(left, wide), convert(right, wide)));
    }
    match (l, r) {
        (T::Bool, T::Int | T::Long) | (T::Int | T::Long, T::Bool) => {
            Ok((convert(left, T::Long), convert(right, T::Long)))
        }
        (T::Guid, T::String) | (T::String, T::Guid) => Ok((convert(left, T::Guid), convert(right, T::Guid))),
        (T::Dynamic, other) if other != T::Dynamic => Ok((convert(left, other), right.clone())),
        (other, T::Dynamic) if other != T::Dynamic => Ok((left.clone(), convert(right, other))),
        _ => Err(KustoError::semantic(
            "SEM0064",
            format!("Cannot compare values of types {l} and {r} with '{op}'. Try adding explicit casts"),
        )),
    }
}

/// The number type that holds both of two number types.
pub(crate) fn wider(left: ScalarType, right: ScalarType) -> Option<ScalarType> {
    let rank = |scalar_type| match scalar_type {
        ScalarType::Int => Some(0),
        ScalarType::Long => Some(1),
        ScalarType::Real => Some(2),
        ScalarType::Decimal => Some(3),
        _ => None,
    };
    Some(if rank(left)? >= rank(right)? { left } else { right })
}

/// A dynamic value that is compared with a number keeps its fraction: `dynamic(1.5) > 1`.
fn dynamic_number(left: &Scalar, right: &Scalar) -> Option<Expr> {
    let number = |scalar: &Scalar| matches!(scalar.scalar_type, ScalarType::Int | ScalarType::Long);
    let (dynamic, whole, flipped) = match (left.scalar_type, right.scalar_type) {
        (ScalarType::Dynamic, _) if number(right) => (left, right, false),
        (_, ScalarType::Dynamic) if number(left) => (right, left, true),
        _ => return None,
    };
    let whole = convert(whole, ScalarType::Long);
    let name = format!("compare_dynamic_{flipped}");
    let order = kernel::long(name, ScalarType::Long, &[dynamic, &whole], move |cells, row| {
        let (text, whole) = (json::to_text(cells.json(0, row)?), cells.long(1, row)?);
        let order = match text.parse::<i64>() {
            Ok(value) => value.cmp(&whole),
            Err(_) => text.parse::<f64>().ok()?.partial_cmp(&as_real(whole))?,
        };
        let order = if flipped { order.reverse() } else { order };
        Some(i64::from(order as i8))
    });
    Some(order.expr)
}

fn equality(op: BinaryOp, left: &Scalar, right: &Scalar) -> Result<Scalar, KustoError> {
    let (sql, unequal) = if op == BinaryOp::Equal { (Operator::Eq, false) } else { (Operator::NotEq, true) };
    if let Some(order) = dynamic_number(left, right) {
        let both_null = left.is_null_literal() || right.is_null_literal();
        if !both_null {
            let compared = native(order, sql, lit(0_i64));
            return Ok(Scalar::new(or_else(compared, unequal), ScalarType::Bool));
        }
    }
    let (l, r) = comparable(symbol(op), left, right)?;
    let compared = native(l.expr.clone(), sql, r.expr.clone());
    let never_null = |scalar: &Scalar| scalar.scalar_type == ScalarType::String;
    let value = |scalar: &Scalar| scalar.value().is_some_and(|value| !value.is_null());
    if never_null(&l) && never_null(&r) {
        return Ok(Scalar::new(compared, ScalarType::Bool));
    }
    if value(&l) || value(&r) {
        return Ok(Scalar::new(or_else(compared, unequal), ScalarType::Bool));
    }
    Ok(nullable_equality(&l, &r, unequal))
}

/// Equality of two expressions that may both be null. One function, not a `case`: a `case` names its operands twice, and nested equalities would double
/// the plan at every level.
fn nullable_equality(left: &Scalar, right: &Scalar, unequal: bool) -> Scalar {
    let scalar_type = left.scalar_type;
    kernel::boolean(format!("equality_{scalar_type}_{unequal}"), &[left, right], move |cells, row| {
        match (cells.is_null(0, row), cells.is_null(1, row)) {
            (true, true) => return None,
            (false, false) => {}
            _ => return Some(unequal),
        }
        let equal = match scalar_type {
            ScalarType::Bool => cells.boolean(0, row) == cells.boolean(1, row),
            ScalarType::Real => cells.real(0, row) == cells.real(1, row),
            ScalarType::Decimal => cells.decimal(0, row) == cells.decimal(1, row),
            ScalarType::Int | ScalarType::Long | ScalarType::DateTime | ScalarType::Timespan => {
                cells.long(0, row) == cells.long(1, row)
            }
            ScalarType::String | ScalarType::Guid | ScalarType::Dynamic => cells.json(0, row) == cells.json(1, row),
        };
        Some(equal != unequal)
    })
}

/// The condition, or a fixed answer where it is null. Not `IS TRUE`: DataFusion plans that as this very comparison, but says of the one that it is never
/// null and of the other that it may be, and then refuses to aggregate over it.
pub(crate) fn or_else(condition: Expr, answer: bool) -> Expr {
    let op = if answer { Operator::IsDistinctFrom } else { Operator::IsNotDistinctFrom };
    native(condition, op, lit(!answer))
}

fn ordering(op: BinaryOp, left: &Scalar, right: &Scalar) -> Result<Scalar, KustoError> {
    let sql = match op {
        BinaryOp::Less => Operator::Lt,
        BinaryOp::LessOrEqual => Operator::LtEq,
        BinaryOp::Greater => Operator::Gt,
        _ => Operator::GtEq,
    };
    if let Some(order) = dynamic_number(left, right) {
        return Ok(Scalar::new(native(order, sql, lit(0_i64)), ScalarType::Bool));
    }
    let (l, r) = comparable(symbol(op), left, right)?;
    if matches!(l.scalar_type, ScalarType::String | ScalarType::Guid | ScalarType::Bool) {
        return Err(KustoError::semantic(
            "SEM0064",
            format!("The operator '{}' is not defined for values of type {}", symbol(op), l.scalar_type),
        ));
    }
    Ok(Scalar::new(native(l.expr, sql, r.expr), ScalarType::Bool))
}

/// `value between (low .. high)`, both ends included.
pub(crate) fn between(value: &Scalar, low: &Scalar, high: &Scalar) -> Result<Scalar, KustoError> {
    let high = if value.scalar_type == ScalarType::DateTime && high.scalar_type == ScalarType::Timespan {
        arithmetic(BinaryOp::Add, low, high)?
    } else {
        high.clone()
    };
    let above = ordering(BinaryOp::GreaterOrEqual, value, low)?;
    let below = ordering(BinaryOp::LessOrEqual, value, &high)?;
    Ok(Scalar::new(native(above.expr, Operator::And, below.expr), ScalarType::Bool))
}

/// `-a`, `+a`
pub(crate) fn unary(op: UnaryOp, operand: &Scalar) -> Result<Scalar, KustoError> {
    let operand = match operand.scalar_type {
        ScalarType::Int => convert(operand, ScalarType::Long),
        ScalarType::Dynamic => convert(operand, ScalarType::Real),
        ScalarType::Long | ScalarType::Real | ScalarType::Decimal | ScalarType::Timespan => operand.clone(),
        other => {
            return Err(KustoError::semantic("SEM0064", format!("A value of type {other} has no sign")));
        }
    };
    if op == UnaryOp::Plus {
        return Ok(operand);
    }
    // A negative literal stays a literal: the places that need a constant then see one.
    Ok(match operand.value() {
        Some(ScalarValue::Int64(Some(value))) => Scalar::new(lit(value.wrapping_neg()), operand.scalar_type),
        Some(ScalarValue::Float64(Some(value))) => Scalar::real(-value),
        _ if operand.scalar_type == ScalarType::Decimal => {
            kernel::decimal("negate_decimal", &[&operand], |cells, row| cells.decimal(0, row)?.checked_neg())
        }
        _ if operand.scalar_type == ScalarType::Real => {
            kernel::real("negate_real", &[&operand], |cells, row| Some(-cells.real(0, row)?))
        }
        _ => kernel::long("negate_long", operand.scalar_type, &[&operand], |cells, row| {
            Some(cells.long(0, row)?.wrapping_neg())
        }),
    })
}

pub(crate) fn arithmetic(op: BinaryOp, left: &Scalar, right: &Scalar) -> Result<Scalar, KustoError> {
    use ScalarType as T;
    let undefined = || {
        KustoError::semantic(
            "SEM0064",
            format!(
                "The operator '{}' is not defined for the operand types {} and {}",
                symbol(op),
                left.scalar_type,
                right.scalar_type
            ),
        )
    };
    // A dynamic operand is taken as its partner's type.
    let number = |t: T| matches!(t, T::Int | T::Long | T::Real | T::Decimal);
    let settle = |scalar: &Scalar, partner: T| match scalar.scalar_type {
        T::Dynamic if partner == T::Int => convert(scalar, T::Long),
        T::Dynamic if number(partner) || partner == T::Timespan || partner == T::DateTime => convert(scalar, partner),
        _ => scalar.clone(),
    };
    let (left, right) = (&settle(left, right.scalar_type), &settle(right, left.scalar_type));
    if left.scalar_type == T::Dynamic && right.scalar_type == T::Dynamic {
        return Ok(dynamics(op, left, right));
    }
    match (op, left.scalar_type, right.scalar_type) {
        (BinaryOp::Subtract, T::DateTime, T::DateTime) => Ok(ticks(op, left, right, T::Timespan)),
        (BinaryOp::Add | BinaryOp::Subtract, T::DateTime, T::Timespan) | (BinaryOp::Add, T::Timespan, T::DateTime) => {
            Ok(ticks(op, left, right, T::DateTime))
        }
        (BinaryOp::Add | BinaryOp::Subtract, T::Timespan, T::Timespan) => Ok(ticks(op, left, right, T::Timespan)),
        (BinaryOp::Modulo, T::Timespan, T::Timespan) => Ok(whole(op, left, right, T::Timespan)),
        (BinaryOp::Divide, T::Timespan, T::Timespan) => {
            Ok(reals(op, &convert(left, T::Real), &convert(right, T::Real)))
        }
        (BinaryOp::Multiply, T::Timespan, T::Int | T::Long) | (BinaryOp::Multiply, T::Int | T::Long, T::Timespan) => {
            Ok(ticks(op, left, right, T::Timespan))
        }
        (BinaryOp::Divide, T::Timespan, T::Int | T::Long) => Ok(whole(op, left, right, T::Timespan)),
        (BinaryOp::Multiply | BinaryOp::Divide, T::Timespan, T::Real) | (BinaryOp::Multiply, T::Real, T::Timespan) => {
            let product = reals(op, &convert(left, T::Real), &convert(right, T::Real));
            Ok(kernel::long("ticks_of_real", T::Timespan, &[&product], |cells, row| {
                truncate(cells.real(0, row)?.round())
            }))
        }
        (_, l, r) => match wider(l, r).ok_or_else(undefined)? {
            T::Int | T::Long if matches!(op, BinaryOp::Divide | BinaryOp::Modulo) => {
                Ok(whole(op, left, right, T::Long))
            }
            T::Int | T::Long => Ok(ticks(op, left, right, T::Long)),
            T::Real => Ok(reals(op, &convert(left, T::Real), &convert(right, T::Real))),
            _ => Ok(decimals(op, &convert(left, T::Decimal), &convert(right, T::Decimal))),
        },
    }
}

/// `+`, `-` and `*` on 64 bits. A long that overflows wraps around, which is what DataFusion does itself; a datetime outside of Kusto's years and a timespan
/// that 64 bits do not hold are null.
fn ticks(op: BinaryOp, left: &Scalar, right: &Scalar, returns: ScalarType) -> Scalar {
    if returns != ScalarType::Long {
        return kernel::long(format!("ticks_{op:?}_{returns}"), returns, &[left, right], move |cells, row| {
            let (left, right) = (cells.long(0, row)?, cells.long(1, row)?);
            let value = match op {
                BinaryOp::Add => left.checked_add(right),
                BinaryOp::Subtract => left.checked_sub(right),
                _ => left.checked_mul(right),
            };
            value.filter(|ticks| returns != ScalarType::DateTime || (0..=MAX_DATETIME_TICKS).contains(ticks))
        });
    }
    let sql = match op {
        BinaryOp::Add => Operator::Plus,
        BinaryOp::Subtract => Operator::Minus,
        _ => Operator::Multiply,
    };
    if let (Some(l), Some(r)) = (left.constant_long(), right.constant_long()) {
        let value = match op {
            BinaryOp::Add => l.wrapping_add(r),
            BinaryOp::Subtract => l.wrapping_sub(r),
            _ => l.wrapping_mul(r),
        };
        return Scalar::long(value);
    }
    let long = |scalar: &Scalar| {
        if scalar.scalar_type == ScalarType::Int { convert(scalar, ScalarType::Long).expr } else { scalar.expr.clone() }
    };
    Scalar::new(native(long(left), sql, long(right)), returns)
}

/// `/` and `%` on 64 bits: by zero is null, a remainder has the sign that makes it at least zero.
fn whole(op: BinaryOp, left: &Scalar, right: &Scalar, returns: ScalarType) -> Scalar {
    if op == BinaryOp::Divide {
        kernel::long(format!("divide_{returns}"), returns, &[left, right], |cells, row| {
            cells.long(0, row)?.checked_div(cells.long(1, row)?)
        })
    } else {
        kernel::long(format!("modulo_{returns}"), returns, &[left, right], |cells, row| {
            cells.long(0, row)?.checked_rem_euclid(cells.long(1, row)?)
        })
    }
}

fn reals(op: BinaryOp, left: &Scalar, right: &Scalar) -> Scalar {
    let sql = match op {
        BinaryOp::Add => Operator::Plus,
        BinaryOp::Subtract => Operator::Minus,
        BinaryOp::Multiply => Operator::Multiply,
        BinaryOp::Divide => Operator::Divide,
        _ => {
            return kernel::real("modulo_real", &[left, right], |cells, row| {
                Some(cells.real(0, row)?.rem_euclid(cells.real(1, row)?))
            });
        }
    };
    if op == BinaryOp::Divide {
        // Arrow's division refuses zero; a real divided by zero is infinite.
        return kernel::real("divide_real", &[left, right], |cells, row| {
            Some(cells.real(0, row)? / cells.real(1, row)?)
        });
    }
    Scalar::new(native(left.expr.clone(), sql, right.expr.clone()), ScalarType::Real)
}

fn decimals(op: BinaryOp, left: &Scalar, right: &Scalar) -> Scalar {
    kernel::decimal(format!("decimal_{op:?}"), &[left, right], move |cells, row| {
        let (l, r) = (cells.decimal(0, row)?, cells.decimal(1, row)?);
        match op {
            BinaryOp::Add => l.checked_add(r),
            BinaryOp::Subtract => l.checked_sub(r),
            BinaryOp::Multiply => scaled(l, r, ScaledOp::Multiply),
            BinaryOp::Divide => scaled(l, r, ScaledOp::Divide),
            _ => l.checked_rem_euclid(r),
        }
        .filter(|value| value.unsigned_abs() < 10_u128.pow(38))
    })
}

/// Arithmetic of two dynamic values: of whole numbers a whole number, of others a real, of anything else null.
fn dynamics(op: BinaryOp, left: &Scalar, right: &Scalar) -> Scalar {
    kernel::text(format!("dynamic_{op:?}"), ScalarType::Dynamic, &[left, right], move |cells, row| {
        let (l, r) = (cells.json(0, row)?, cells.json(1, row)?);
        if let (Ok(l), Ok(r)) = (l.parse::<i64>(), r.parse::<i64>()) {
            let value = match op {
                BinaryOp::Add => l.checked_add(r),
                BinaryOp::Subtract => l.checked_sub(r),
                BinaryOp::Multiply => l.checked_mul(r),
                BinaryOp::Divide => l.checked_div(r),
                _ => l.checked_rem_euclid(r),
            };
            return value.map(|value| value.to_string().into());
        }
        let (l, r) = (l.parse::<f64>().ok()?, r.parse::<f64>().ok()?);
        let value = match op {
            BinaryOp::Add => l + r,
            BinaryOp::Subtract => l - r,
            BinaryOp::Multiply => l * r,
            BinaryOp::Divide => l / r,
            _ => l.rem_euclid(r),
        };
        serde_json::Number::from_f64(value).map(|value| value.to_string().into())
    })
}

#[derive(Clone, Copy)]
enum ScaledOp {
    Multiply,
    Divide,
}

/// A product or quotient of two decimals of scale 18, through 256 bits.
fn scaled(left: i128, right: i128, op: ScaledOp) -> Option<i128> {
    use datafusion::arrow::datatypes::i256;
    let unit = i256::from_i128(1_000_000_000_000_000_000);
    let (left, right) = (i256::from_i128(left), i256::from_i128(right));
    match op {
        ScaledOp::Multiply => left.checked_mul(right)?.checked_div(unit)?.to_i128(),
        ScaledOp::Divide => left.checked_mul(unit)?.checked_div(right)?.to_i128(),
    }
}

/// `bin(value, size)`: the largest multiple of `size` that is not above `value`.
pub(crate) fn bin(value: &Scalar, size: &Scalar) -> Result<Scalar, KustoError> {
    use ScalarType as T;
    let (v, s) = (value.scalar_type, size.scalar_type);
    let returns = match (v, s) {
        (T::DateTime | T::Timespan, T::Timespan) => v,
        (T::DateTime | T::Timespan, T::Int | T::Long) if v == T::Timespan => v,
        (l, r) => match wider(l, r) {
            Some(T::Int | T::Long) => T::Long,
            Some(other) => other,
            None => {
                return Err(KustoError::semantic(
                    "SEM0064",
                    format!("bin(): a value of type {v} cannot be rounded to a multiple of a value of type {s}"),
                ));
            }
        },
    };
    Ok(match returns {
        T::Real => kernel::real("bin_real", &[&convert(value, T::Real), &convert(size, T::Real)], |cells, row| {
            let (value, size) = (cells.real(0, row)?, cells.real(1, row)?);
            (size > 0.0).then(|| (value / size).floor() * size)
        }),
        T::Decimal => {
            kernel::decimal("bin_decimal", &[&convert(value, returns), &convert(size, returns)], |cells, row| {
                let (value, size) = (cells.decimal(0, row)?, cells.decimal(1, row)?);
                value.checked_sub(value.checked_rem_euclid(size)?)
            })
        }
        _ => {
            // A plain number is a count of days where a timespan is expected.
            let unit = if v == T::Timespan && s != T::Timespan { TICKS_PER_DAY } else { 1 };
            kernel::long(format!("bin_{returns}_{unit}"), returns, &[value, size], move |cells, row| {
                let (value, size) = (cells.long(0, row)?, cells.long(1, row)?.checked_mul(unit)?);
                if size <= 0 { None } else { value.checked_sub(value.rem_euclid(size)) }
            })
        }
    })
}

/// Both operands as text, for the text operators; `place` names the operator in an error.
pub(crate) fn as_text(value: &Scalar, place: &str) -> Result<Scalar, KustoError> {
    match value.scalar_type {
        ScalarType::String => Ok(value.clone()),
        ScalarType::Dynamic | ScalarType::Guid => Ok(to_string(value)),
        other => Err(KustoError::semantic(
            "SEM0025",
            format!("{place}: a value of type string is expected, this one is of type {other}"),
        )),
    }
}
