//! One value: from text as Kusto's ingestion and conversions read it, and to the protocol's JSON. Pure; used by [`super::Rows`], [`super::RowsBuilder`]
//! and the engine's conversions.

use std::fmt::Write as _;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{Decimal128Type, Float64Type, Int32Type, Int64Type};
use kql::{
    literal::{self, MAX_DATETIME_TICKS, TICKS_PER_DAY, TICKS_PER_SECOND},
    syntax::time::read_datetime,
    types::ScalarType,
};
use serde_json::Value;

/// One cell as the protocol's JSON. An array of another Arrow type than the column's gives null.
pub(super) fn json(array: &ArrayRef, row: usize, scalar_type: ScalarType) -> Value {
    if array.is_null(row) {
        return if scalar_type == ScalarType::String { Value::String(String::new()) } else { Value::Null };
    }
    match scalar_type {
        ScalarType::Bool => array.as_boolean_opt().map(|a| Value::Bool(a.value(row))),
        ScalarType::Int => array.as_primitive_opt::<Int32Type>().map(|a| a.value(row).into()),
        ScalarType::Long => array.as_primitive_opt::<Int64Type>().map(|a| a.value(row).into()),
        ScalarType::Real => array.as_primitive_opt::<Float64Type>().map(|a| real(a.value(row))),
        ScalarType::DateTime => array.as_primitive_opt::<Int64Type>().map(|a| literal::datetime(a.value(row)).into()),
        ScalarType::Timespan => array.as_primitive_opt::<Int64Type>().map(|a| literal::timespan(a.value(row)).into()),
        ScalarType::Decimal => array.as_primitive_opt::<Decimal128Type>().map(|a| print_decimal(a.value(row)).into()),
        ScalarType::String | ScalarType::Guid => array.as_string_opt::<i32>().map(|a| a.value(row).into()),
        ScalarType::Dynamic => array.as_string_opt::<i32>().map(|a| {
            // What is stored is JSON; a text that is not was put there by a caller's mistake and still shows as the text it is.
            serde_json::from_str(a.value(row)).unwrap_or_else(|_| a.value(row).into())
        }),
    }
    .unwrap_or(Value::Null)
}

fn real(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// A `real` as `tostring` prints it: the shortest text that reads back, an exponent as .NET writes it.
pub(crate) fn print_real(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-5..1e15).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = match exponent.strip_prefix('-') {
                    Some(exponent) => ('-', exponent),
                    None => ('+', exponent),
                };
                format!("{digits}E{sign}{exponent:0>2}")
            }
            None => text,
        };
    }
    // .NET prints 1.0 as "1", yet Kusto's own answer is "1.0"; duckdb-kql, measured against Microsoft's emulator, agrees.
    if value.fract() == 0.0 { format!("{value:.1}") } else { format!("{value}") }
}

/// A `decimal` without the zeros that its fixed scale appends.
pub(crate) fn print_decimal(value: i128) -> String {
    const UNIT: u128 = 1_000_000_000_000_000_000;
    let magnitude = value.unsigned_abs();
    let (whole, fraction) = (magnitude / UNIT, magnitude % UNIT);
    let mut text = String::new();
    if value < 0 {
        text.push('-');
    }
    write!(text, "{whole}").expect("writing to a String cannot fail");
    if fraction > 0 {
        let digits = format!("{fraction:018}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

/// `true`, `false`, `1`, `0`, in any case.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        return Some(true);
    }
    if text.eq_ignore_ascii_case("false") {
        return Some(false);
    }
    text.parse::<i64>().ok().map(|number| number != 0)
}

/// A whole number: decimal, or hexadecimal after `0x`.
pub(crate) fn parse_whole(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok().map(u64::cast_signed);
    }
    text.parse().ok()
}

/// A real number, `NaN`, `inf` and `Infinity` with a sign.
pub(crate) fn parse_real(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// Digits, at most one point, an exponent; digits beyond the eighteenth after the point are cut off.
pub(crate) fn parse_decimal(text: &str) -> Option<i128> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let shift = 18_i32.checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let scaled = if shift >= 0 {
        if value == 0 { 0 } else { value.checked_mul(power?)? }
    } else {
        power.map_or(0, |power| value / power)
    };
    // 38 digits is what Arrow's Decimal128 promises to print and compare.
    if scaled >= 10_i128.pow(38) {
        return None;
    }
    Some(if negative { -scaled } else { scaled })
}

/// The 32 digits of a guid, with or without hyphens and braces, as Kusto prints it.
pub(crate) fn parse_guid(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    uuid::Uuid::try_parse(text).ok().map(|guid| guid.to_string())
}

/// A timespan: `[-][d.]hh:mm[:ss[.fffffff]]`, a count of days, or KQL's `1h`.
pub(crate) fn parse_timespan(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let ticks = if rest.contains(':') {
        clock(rest)?
    } else if let Ok(days) = rest.parse::<i64>() {
        days.checked_mul(TICKS_PER_DAY)?
    } else {
        with_unit(rest)?
    };
    Some(if negative { -ticks } else { ticks })
}

fn clock(text: &str) -> Option<i64> {
    let (head, rest) = text.split_once(':')?;
    let (days, hours) = match head.split_once('.') {
        Some((days, hours)) => (digits(days)?, digits(hours)?),
        None => (0, digits(head)?),
    };
    let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let (minutes, seconds) = (digits(minutes)?, digits(seconds)?);
    if minutes > 59 || seconds > 59 || hours > 23 {
        return None;
    }
    let time = (hours * 3600 + minutes * 60 + seconds) * TICKS_PER_SECOND + fraction_ticks(fraction)?;
    days.checked_mul(TICKS_PER_DAY)?.checked_add(time)
}

fn with_unit(text: &str) -> Option<i64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().ok()?;
    let unit = match unit {
        "d" | "day" | "days" => TICKS_PER_DAY,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600 * TICKS_PER_SECOND,
        "m" | "min" | "minute" | "minutes" => 60 * TICKS_PER_SECOND,
        "s" | "sec" | "second" | "seconds" => TICKS_PER_SECOND,
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => TICKS_PER_SECOND / 1000,
        "micro" | "micros" | "microsecond" | "microseconds" => 10,
        "tick" | "ticks" => 1,
        _ => return None,
    };
    whole_ticks(number * ticks_as_real(unit))
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Up to seven digits after a point, as ticks; further digits are cut off.
fn fraction_ticks(text: &str) -> Option<i64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut ticks = 0;
    for position in 0..7 {
        ticks = ticks * 10 + text.as_bytes().get(position).map_or(0, |digit| i64::from(digit - b'0'));
    }
    Some(ticks)
}

#[allow(clippy::cast_precision_loss)] // Units of time are far below 2^53.
const fn ticks_as_real(ticks: i64) -> f64 {
    ticks as f64
}

#[allow(clippy::cast_possible_truncation)] // The range is checked first.
fn whole_ticks(ticks: f64) -> Option<i64> {
    (ticks.is_finite() && ticks.abs() < 9.2e18).then(|| ticks.round() as i64)
}

/// A datetime: ISO 8601 with or without time, `T` or a blank between, an offset or `Z`; a year and month alone; the forms of RFC 822 and RFC 850; seconds since
/// 1970 are not one.
pub(crate) fn parse_datetime(text: &str) -> Option<i64> {
    let text = text.trim();
    parse_numbers_of_date(text).or_else(|| read_datetime(text))
}

fn parse_numbers_of_date(text: &str) -> Option<i64> {
    let date_end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (date, time) = text.split_at(date_end);
    let separator = if date.contains('/') { '/' } else { '-' };
    let mut parts = date.split(separator);
    let (year, month, day) = match separator {
        '-' => (part(parts.next()?, 4)?, parts.next().map_or(Some(1), |t| part(t, 2))?, parts.next()),
        _ => {
            let (month, day, year) = (part(parts.next()?, 2)?, parts.next()?, part(parts.next()?, 4)?);
            (year, month, Some(day))
        }
    };
    let day = day.map_or(Some(1), |t| part(t, 2))?;
    if parts.next().is_some() || (separator == '-' && date.len() < 7) {
        return None;
    }
    let days = literal::days_from_civil(year, month, day)?;
    let ticks = days * TICKS_PER_DAY + time_of_day(time.trim_start_matches(['T', 't', ' ']))?;
    (0..=MAX_DATETIME_TICKS).contains(&ticks).then_some(ticks)
}

fn part(text: &str, longest: usize) -> Option<i64> {
    if text.len() > longest {
        return None;
    }
    digits(text)
}

fn time_of_day(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (clock_text, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(rest) => (rest, 0),
        None => match text.rfind(['+', '-']) {
            Some(at) => (&text[..at], offset_ticks(&text[at..])?),
            None => (text, 0),
        },
    };
    let clock_text = clock_text.trim_end();
    let (hours, rest) = clock_text.split_once(':').unwrap_or((clock_text, "0"));
    let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let (hours, minutes, seconds) = (part(hours, 2)?, part(minutes, 2)?, part(seconds, 2)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    Some((hours * 3600 + minutes * 60 + seconds) * TICKS_PER_SECOND + fraction_ticks(fraction)? - offset)
}

fn offset_ticks(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, minutes) = match text.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if text.len() == 4 => text.split_at_checked(2)?,
        None => (text, "0"),
    };
    Some(sign * (part(hours, 2)? * 3600 + part(minutes, 2)? * 60) * TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datetimes_are_read_in_the_forms_that_kusto_reads() {
        let expected = parse_datetime("2025-05-03T12:34:56.1234567Z");
        assert_eq!(expected.map(literal::datetime).as_deref(), Some("2025-05-03T12:34:56.1234567Z"));
        assert_eq!(parse_datetime("2025-05-03 12:34:56.1234567"), expected);
        assert_eq!(parse_datetime("2025-05-03T14:34:56.1234567+02:00"), expected);
        assert_eq!(parse_datetime("2025-05"), parse_datetime("2025-05-01T00:00"));
        assert_eq!(parse_datetime("05/03/2025"), parse_datetime("2025-05-03"));
        assert_eq!(parse_datetime("Sat, 3 May 25 12:34:56 GMT"), parse_datetime("2025-05-03T12:34:56Z"));
        for text in ["", "x", "2025", "2025-13-01", "2025-02-30", "2025-01-01T25:00", "é-01-01"] {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
    }

    #[test]
    fn timespans_are_read_as_clock_days_or_with_a_unit() {
        assert_eq!(parse_timespan("1.02:03:04.5"), Some(TICKS_PER_DAY + 7_384 * TICKS_PER_SECOND + 5_000_000));
        assert_eq!(parse_timespan("-00:01:30"), Some(-90 * TICKS_PER_SECOND));
        assert_eq!(parse_timespan("2"), Some(2 * TICKS_PER_DAY));
        assert_eq!(parse_timespan("1.5h"), Some(5400 * TICKS_PER_SECOND));
        assert_eq!(parse_timespan("hour"), None);
    }

    #[test]
    fn decimals_keep_eighteen_digits_after_the_point() {
        assert_eq!(parse_decimal("1.5").map(print_decimal).as_deref(), Some("1.5"));
        assert_eq!(parse_decimal("-0.000000000000000001").map(print_decimal).as_deref(), Some("-0.000000000000000001"));
        assert_eq!(parse_decimal("1e3").map(print_decimal).as_deref(), Some("1000"));
        assert_eq!(parse_decimal("1e999"), None);
        assert_eq!(parse_decimal("abc"), None);
    }

    #[test]
    fn reals_print_as_kusto_prints_them() {
        let texts: Vec<String> = [1.0, 1.5, -0.25, 1e20, 1e-7].into_iter().map(print_real).collect();
        assert_eq!(texts, ["1.0", "1.5", "-0.25", "1E+20", "1E-07"]);
    }
}
