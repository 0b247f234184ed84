//! Conversions between types: `tostring`, `tolong`, `todynamic` and their kin, and the silent ones between numbers. Pure; used by the binder, the
//! operators and every function that takes "any number" or "any value".

use std::borrow::Cow;

use datafusion::logical_expr::{Expr, cast};
use kql::{
    literal::{self, TICKS_PER_SECOND},
    types::ScalarType,
};
use serde_json::Value;

use crate::{
    engine::{
        json,
        kernel::{self, Cells},
        scalar::{Scalar, null_value},
    },
    rows::{
        arrow_type, parse_bool, parse_datetime, parse_decimal, parse_guid, parse_real, parse_timespan, parse_whole,
        print_decimal, print_real,
    },
};

/// The value as another type, as Kusto's `to<type>()` converts; what cannot be converted is null.
pub(crate) fn convert(from: &Scalar, to: ScalarType) -> Scalar {
    if from.scalar_type == to {
        return from.clone();
    }
    if from.is_null_literal() {
        return Scalar::null(to);
    }
    match to {
        ScalarType::String => to_string(from),
        ScalarType::Dynamic => to_dynamic(from),
        ScalarType::Bool => to_bool(from),
        ScalarType::Int | ScalarType::Long => to_whole(from, to),
        ScalarType::Real => to_real(from),
        ScalarType::Decimal => to_decimal(from),
        ScalarType::DateTime | ScalarType::Timespan => to_ticks(from, to),
        ScalarType::Guid => {
            kernel::text("toguid", to, &[&to_string(from)], |cells, row| parse_guid(cells.text(0, row)).map(Cow::Owned))
        }
    }
}

/// The value as a text.
pub(crate) fn to_string(from: &Scalar) -> Scalar {
    let name = format!("tostring_{}", from.scalar_type);
    match from.scalar_type {
        ScalarType::String => from.clone(),
        ScalarType::Guid => {
            kernel::text(name, ScalarType::String, &[from], |cells, row| cells.json(0, row).map(Cow::Borrowed))
        }
        ScalarType::Dynamic => {
            kernel::text(name, ScalarType::String, &[from], |cells, row| cells.json(0, row).map(json::to_text))
        }
        other => kernel::text(name, ScalarType::String, &[from], move |cells, row| {
            print(other, cells, 0, row).map(Cow::Owned)
        }),
    }
}

/// One cell as `tostring` prints it; `None` for null.
pub(crate) fn print(scalar_type: ScalarType, cells: &Cells, argument: usize, row: usize) -> Option<String> {
    Some(match scalar_type {
        ScalarType::Bool => (if cells.boolean(argument, row)? { "True" } else { "False" }).to_owned(),
        ScalarType::Int | ScalarType::Long => cells.long(argument, row)?.to_string(),
        ScalarType::Real => print_real(cells.real(argument, row)?),
        ScalarType::Decimal => print_decimal(cells.decimal(argument, row)?),
        ScalarType::DateTime => print_datetime(cells.long(argument, row)?),
        ScalarType::Timespan => literal::timespan(cells.long(argument, row)?),
        ScalarType::String | ScalarType::Guid => cells.json(argument, row)?.to_owned(),
        ScalarType::Dynamic => json::to_text(cells.json(argument, row)?).into_owned(),
    })
}

/// A datetime as `tostring` prints it: seven digits even when they are zero.
pub(crate) fn print_datetime(ticks: i64) -> String {
    let mut text = literal::datetime(ticks);
    if ticks.rem_euclid(TICKS_PER_SECOND) == 0 {
        text.pop();
        text.push_str(".0000000Z");
    }
    text
}

/// The value as `dynamic`, its type kept: `todynamic` of a string parses it, this does not.
pub(crate) fn as_dynamic(from: &Scalar) -> Scalar {
    let scalar_type = from.scalar_type;
    if scalar_type == ScalarType::Dynamic {
        return from.clone();
    }
    kernel::text(format!("as_dynamic_{scalar_type}"), ScalarType::Dynamic, &[from], move |cells, row| {
        cell_json(scalar_type, cells, 0, row).map(Cow::Owned)
    })
}

/// One cell as JSON text; `None` for null.
pub(crate) fn cell_json(scalar_type: ScalarType, cells: &Cells, argument: usize, row: usize) -> Option<String> {
    Some(match scalar_type {
        ScalarType::Bool => cells.boolean(argument, row)?.to_string(),
        ScalarType::Int | ScalarType::Long => cells.long(argument, row)?.to_string(),
        ScalarType::Real => {
            let value = cells.real(argument, row)?;
            match serde_json::Number::from_f64(value) {
                Some(number) => Value::Number(number).to_string(),
                None => json::quote(&print_real(value)),
            }
        }
        ScalarType::Decimal => json::quote(&print_decimal(cells.decimal(argument, row)?)),
        ScalarType::String => json::quote(cells.text(argument, row)),
        ScalarType::Guid => json::quote(cells.json(argument, row)?),
        ScalarType::DateTime => json::quote(&print_datetime(cells.long(argument, row)?)),
        ScalarType::Timespan => json::quote(&literal::timespan(cells.long(argument, row)?)),
        ScalarType::Dynamic => cells.json(argument, row)?.to_owned(),
    })
}

fn to_dynamic(from: &Scalar) -> Scalar {
    if from.scalar_type == ScalarType::String {
        return kernel::text("parse_json", ScalarType::Dynamic, &[from], |cells, row| {
            json::parse(cells.text(0, row)).map(Cow::Owned)
        });
    }
    as_dynamic(from)
}

fn to_bool(from: &Scalar) -> Scalar {
    let name = format!("tobool_{}", from.scalar_type);
    match from.scalar_type {
        ScalarType::String => kernel::boolean(name, &[from], |cells, row| parse_bool(cells.text(0, row))),
        ScalarType::Dynamic => {
            kernel::boolean(name, &[from], |cells, row| parse_bool(&json::to_text(cells.json(0, row)?)))
        }
        ScalarType::Real => kernel::boolean(name, &[from], |cells, row| cells.real(0, row).map(|value| value != 0.0)),
        ScalarType::Int | ScalarType::Long => {
            kernel::boolean(name, &[from], |cells, row| cells.long(0, row).map(|value| value != 0))
        }
        _ => Scalar::null(ScalarType::Bool),
    }
}

fn to_whole(from: &Scalar, to: ScalarType) -> Scalar {
    let name = format!("to{to}_{}", from.scalar_type);
    match from.scalar_type {
        ScalarType::Int => Scalar::new(cast(from.expr.clone(), arrow_type(to)), to),
        ScalarType::Long | ScalarType::DateTime | ScalarType::Timespan => {
            if to == ScalarType::Long {
                return Scalar::new(from.expr.clone(), to);
            }
            // The low 32 bits, as Kusto's toint() takes them.
            kernel::long(name, to, &[from], |cells, row| cells.long(0, row).map(|value| i64::from(low_bits(value))))
        }
        ScalarType::Real => kernel::long(name, to, &[from], move |cells, row| saturate(cells.real(0, row)?, to)),
        ScalarType::Decimal => kernel::long(name, to, &[from], |cells, row| {
            i64::try_from(cells.decimal(0, row)? / 1_000_000_000_000_000_000).ok()
        }),
        ScalarType::Bool => kernel::long(name, to, &[from], |cells, row| cells.boolean(0, row).map(i64::from)),
        ScalarType::String => kernel::long(name, to, &[from], |cells, row| text_to_whole(cells.text(0, row))),
        ScalarType::Dynamic => kernel::long(name, to, &[from], |cells, row| {
            let json = cells.json(0, row)?;
            let text = json::to_text(json);
            if json.starts_with('"') { text_to_whole(&text) } else { json_to_whole(&text) }
                .or_else(|| parse_bool(&text).map(i64::from))
        }),
        ScalarType::Guid => Scalar::null(to),
    }
}

/// A whole number's text; a text with a fraction is none.
fn text_to_whole(text: &str) -> Option<i64> {
    parse_whole(text)
}

/// A number inside a dynamic value; its fraction is cut off.
fn json_to_whole(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| text.parse().ok().and_then(truncate))
}

#[allow(clippy::cast_possible_truncation)] // Taking the low half is the point.
const fn low_bits(value: i64) -> i32 {
    value as i32
}

/// A real without its fraction; `None` if a long cannot hold it.
#[allow(clippy::cast_possible_truncation)] // The range is checked first.
pub(crate) fn truncate(value: f64) -> Option<i64> {
    (value.is_finite() && value.abs() < 9.223_372_036_854_775e18).then(|| value.trunc() as i64)
}

/// A real without its fraction, or the type's least or greatest value; not a number is null.
#[allow(clippy::cast_possible_truncation)] // Saturating is the point.
fn saturate(value: f64, to: ScalarType) -> Option<i64> {
    if value.is_nan() {
        return None;
    }
    Some(if to == ScalarType::Int { i64::from(value as i32) } else { value as i64 })
}

/// An element of `mv-expand` as the type it is asked for: unlike `tolong()` and its kin, a text is no number and no bool.
pub(crate) fn element(from: &Scalar, to: ScalarType) -> Scalar {
    match to {
        ScalarType::Bool | ScalarType::Int | ScalarType::Long | ScalarType::Real | ScalarType::Decimal => {
            let numbers_only = to != ScalarType::Bool;
            let name = format!("plain_{numbers_only}");
            let plain = kernel::text(name, ScalarType::Dynamic, &[from], move |cells, row| {
                let json = cells.json(0, row)?;
                let text = json.starts_with('"') || (numbers_only && matches!(json, "true" | "false"));
                (!text).then_some(Cow::Borrowed(json))
            });
            convert(&plain, to)
        }
        other => convert(from, other),
    }
}

/// A long as a real; beyond 2^53 to the nearest one, as in Kusto.
#[allow(clippy::cast_precision_loss)] // Rounding is the point.
pub(crate) const fn as_real(value: i64) -> f64 {
    value as f64
}

fn to_real(from: &Scalar) -> Scalar {
    let name = format!("toreal_{}", from.scalar_type);
    match from.scalar_type {
        ScalarType::Int | ScalarType::Long | ScalarType::DateTime | ScalarType::Timespan | ScalarType::Decimal => {
            Scalar::new(cast(from.expr.clone(), arrow_type(ScalarType::Real)), ScalarType::Real)
        }
        ScalarType::Bool => {
            kernel::real(name, &[from], |cells, row| cells.boolean(0, row).map(|v| f64::from(u8::from(v))))
        }
        ScalarType::String => kernel::real(name, &[from], |cells, row| text_to_real(cells.text(0, row))),
        ScalarType::Dynamic => kernel::real(name, &[from], |cells, row| {
            let text = json::to_text(cells.json(0, row)?);
            text_to_real(&text).or_else(|| parse_bool(&text).map(|v| f64::from(u8::from(v))))
        }),
        ScalarType::Guid | ScalarType::Real => Scalar::null(ScalarType::Real),
    }
}

fn text_to_real(text: &str) -> Option<f64> {
    parse_real(text).or_else(|| parse_whole(text).map(as_real))
}

fn to_decimal(from: &Scalar) -> Scalar {
    let name = format!("todecimal_{}", from.scalar_type);
    match from.scalar_type {
        ScalarType::Int | ScalarType::Long => kernel::decimal(name, &[from], |cells, row| {
            i128::from(cells.long(0, row)?).checked_mul(1_000_000_000_000_000_000)
        }),
        ScalarType::Real => {
            kernel::decimal(name, &[from], |cells, row| parse_decimal(&cells.real(0, row)?.to_string()))
        }
        ScalarType::String => kernel::decimal(name, &[from], |cells, row| parse_decimal(cells.text(0, row))),
        ScalarType::Dynamic => {
            kernel::decimal(name, &[from], |cells, row| parse_decimal(&json::to_text(cells.json(0, row)?)))
        }
        _ => Scalar::null(ScalarType::Decimal),
    }
}

fn to_ticks(from: &Scalar, to: ScalarType) -> Scalar {
    let name = format!("to{to}_{}", from.scalar_type);
    let read = if to == ScalarType::DateTime { parse_datetime } else { parse_timespan };
    match from.scalar_type {
        ScalarType::Long | ScalarType::Int => kernel::long(name, to, &[from], move |cells, row| {
            // Kusto reads a long as ticks.
            cells
                .long(0, row)
                .filter(|ticks| to == ScalarType::Timespan || (0..=literal::MAX_DATETIME_TICKS).contains(ticks))
        }),
        ScalarType::String => kernel::long(name, to, &[from], move |cells, row| read(cells.text(0, row))),
        ScalarType::Dynamic => {
            kernel::long(name, to, &[from], move |cells, row| read(&json::to_text(cells.json(0, row)?)))
        }
        _ => Scalar::null(to),
    }
}

/// A string that an outer join or an aggregate over nothing left null, as the empty string.
pub(crate) fn never_null(expr: Expr, scalar_type: ScalarType) -> Expr {
    if scalar_type != ScalarType::String {
        return expr;
    }
    datafusion::functions::expr_fn::coalesce(vec![expr, Expr::Literal(null_value(ScalarType::String), None)])
}
