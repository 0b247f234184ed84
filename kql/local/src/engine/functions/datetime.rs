//! Time: `now`, `ago`, parts and edges of a datetime, differences, formats. Pure: `now` is the context's, one for the whole query.

use std::borrow::Cow;

use kql::{
    literal::{self, MAX_DATETIME_TICKS, TICKS_PER_DAY, TICKS_PER_SECOND, UNIX_EPOCH_TICKS},
    syntax::ast::BinaryOp,
    types::ScalarType,
};

use super::Call;
use crate::{
    engine::{kernel, operators, scalar::Scalar},
    error::KustoError,
};

pub(crate) const NAMES: &[&str] = &[
    "ago",
    "datetime_add",
    "datetime_diff",
    "datetime_part",
    "dayofmonth",
    "dayofweek",
    "dayofyear",
    "endofday",
    "endofmonth",
    "endofweek",
    "endofyear",
    "format_datetime",
    "format_timespan",
    "getmonth",
    "getyear",
    "hourofday",
    "make_datetime",
    "make_timespan",
    "monthofyear",
    "now",
    "startofday",
    "startofmonth",
    "startofweek",
    "startofyear",
    "unixtime_microseconds_todatetime",
    "unixtime_milliseconds_todatetime",
    "unixtime_nanoseconds_todatetime",
    "unixtime_seconds_todatetime",
    "week_of_year",
    "weekofyear",
];

const HOUR: i64 = 3600 * TICKS_PER_SECOND;
const MINUTE: i64 = 60 * TICKS_PER_SECOND;

pub(crate) fn call(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let now = Scalar::ticks(call.planner.context.now, ScalarType::DateTime);
    match call.name {
        "now" => {
            call.arity(0, 1)?;
            if call.count() == 0 {
                return Ok(now);
            }
            operators::arithmetic(BinaryOp::Add, &now, &call.of_type(0, ScalarType::Timespan)?)
        }
        "ago" => {
            call.arity(1, 1)?;
            operators::arithmetic(BinaryOp::Subtract, &now, &call.of_type(0, ScalarType::Timespan)?)
        }
        "datetime_add" => {
            call.arity(3, 3)?;
            datetime_add(call)
        }
        "datetime_diff" => {
            call.arity(3, 3)?;
            datetime_diff(call)
        }
        "datetime_part" => {
            call.arity(2, 2)?;
            let part = call.constant_text(0)?.to_lowercase();
            let body = part_of(&part).ok_or_else(|| unknown_part(call.name, &part))?;
            part_kernel(&format!("datetime_part_{part}"), &call.of_type(1, ScalarType::DateTime)?, body)
        }
        "dayofmonth" => part_call(call, "day"),
        "dayofyear" => part_call(call, "dayofyear"),
        "getmonth" | "monthofyear" => part_call(call, "month"),
        "getyear" => part_call(call, "year"),
        "hourofday" => part_call(call, "hour"),
        "week_of_year" => part_call(call, "week_of_year"),
        "weekofyear" => {
            call.arity(1, 1)?;
            part_kernel(call.name, &call.of_type(0, ScalarType::DateTime)?, week_from_sunday)
        }
        "dayofweek" => {
            call.arity(1, 1)?;
            let datetime = call.of_type(0, ScalarType::DateTime)?;
            Ok(kernel::long(call.name, ScalarType::Timespan, &[&datetime], |cells, row| {
                Some(days_since_sunday(cells.long(0, row)?) * TICKS_PER_DAY)
            }))
        }
        "format_datetime" | "format_timespan" => {
            call.arity(2, 2)?;
            format_call(call)
        }
        "make_datetime" | "make_timespan" => make(call),
        name if name.starts_with("unixtime_") => {
            call.arity(1, 1)?;
            from_unix(call)
        }
        _ => {
            call.arity(1, 2)?;
            edge(call)
        }
    }
}

/// A datetime taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    /// Ticks since midnight.
    time: i64,
}

impl Civil {
    fn of(ticks: i64) -> Self {
        // The printed form starts with `yyyy-mm-dd`: one home for the calendar.
        let text = literal::datetime(ticks.clamp(0, MAX_DATETIME_TICKS));
        let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse().ok()).unwrap_or(1);
        Self { year: number(0, 4), month: number(5, 7), day: number(8, 10), time: ticks.rem_euclid(TICKS_PER_DAY) }
    }

    /// The ticks, the day moved back to the last one of its month; `None` outside of Kusto's years.
    fn ticks(self) -> Option<i64> {
        let days = (0..4).find_map(|back| literal::days_from_civil(self.year, self.month, self.day - back))?;
        Some(days * TICKS_PER_DAY + self.time)
    }

    /// Months since year 0.
    const fn months(self) -> i64 {
        self.year * 12 + self.month - 1
    }

    fn plus_months(self, months: i64) -> Option<i64> {
        let total = self.months().checked_add(months)?;
        Self { year: total.div_euclid(12), month: total.rem_euclid(12) + 1, ..self }.ticks()
    }
}

fn days_since_sunday(ticks: i64) -> i64 {
    // 0001-01-01 was a Monday.
    (ticks.div_euclid(TICKS_PER_DAY) + 1).rem_euclid(7)
}

fn day_of_year(ticks: i64) -> i64 {
    let civil = Civil::of(ticks);
    let first = literal::days_from_civil(civil.year, 1, 1).unwrap_or(0);
    ticks.div_euclid(TICKS_PER_DAY) - first + 1
}

/// ISO 8601: weeks start on Monday, week 1 holds the first Thursday.
fn week_of_year(ticks: i64) -> i64 {
    let days = ticks.div_euclid(TICKS_PER_DAY);
    let thursday = days - days.rem_euclid(7) + 3;
    (day_of_year(thursday.saturating_mul(TICKS_PER_DAY)) - 1) / 7 + 1
}

/// What the obsolete `weekofyear()` counts: weeks start on Sunday, week 1 holds the first Wednesday.
fn week_from_sunday(ticks: i64) -> i64 {
    let wednesday = ticks.div_euclid(TICKS_PER_DAY) - days_since_sunday(ticks) + 3;
    (day_of_year(wednesday.saturating_mul(TICKS_PER_DAY)) - 1) / 7 + 1
}

type Part = fn(i64) -> i64;

fn part_of(part: &str) -> Option<Part> {
    Some(match part {
        "year" => |ticks| Civil::of(ticks).year,
        "quarter" => |ticks| (Civil::of(ticks).month - 1) / 3 + 1,
        "month" => |ticks| Civil::of(ticks).month,
        "week_of_year" => week_of_year,
        "day" => |ticks| Civil::of(ticks).day,
        "dayofyear" => day_of_year,
        "hour" => |ticks| ticks.rem_euclid(TICKS_PER_DAY) / HOUR,
        "minute" => |ticks| ticks.rem_euclid(HOUR) / MINUTE,
        "second" => |ticks| ticks.rem_euclid(MINUTE) / TICKS_PER_SECOND,
        "millisecond" => |ticks| ticks.rem_euclid(TICKS_PER_SECOND) / 10_000,
        "microsecond" => |ticks| ticks.rem_euclid(TICKS_PER_SECOND) / 10,
        "nanosecond" => |ticks| ticks.rem_euclid(TICKS_PER_SECOND) * 100,
        _ => return None,
    })
}

fn unknown_part(function: &str, part: &str) -> KustoError {
    KustoError::semantic("SEM0025", format!("{function}(): '{part}' is not a part of a datetime that it knows"))
}

fn part_call(call: &Call<'_>, part: &str) -> Result<Scalar, KustoError> {
    call.arity(1, 1)?;
    let body = part_of(part).ok_or_else(|| unknown_part(call.name, part))?;
    part_kernel(&format!("datetime_part_{part}"), &call.of_type(0, ScalarType::DateTime)?, body)
}

#[allow(clippy::unnecessary_wraps)] // Both callers end with it.
fn part_kernel(name: &str, datetime: &Scalar, body: Part) -> Result<Scalar, KustoError> {
    Ok(kernel::long(name, ScalarType::Int, &[datetime], move |cells, row| cells.long(0, row).map(body)))
}

/// Fixed units of time, in ticks.
fn unit(part: &str) -> Option<i64> {
    Some(match part {
        "week" => 7 * TICKS_PER_DAY,
        "day" => TICKS_PER_DAY,
        "hour" => HOUR,
        "minute" => MINUTE,
        "second" => TICKS_PER_SECOND,
        "millisecond" => 10_000,
        "microsecond" => 10,
        _ => return None,
    })
}

fn months_of(part: &str) -> Option<i64> {
    Some(match part {
        "year" => 12,
        "quarter" => 3,
        "month" => 1,
        _ => return None,
    })
}

fn datetime_add(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let part = call.constant_text(0)?.to_lowercase();
    let (amount, datetime) = (call.long(1)?, call.of_type(2, ScalarType::DateTime)?);
    let (months, ticks) = (months_of(&part), unit(&part));
    if months.is_none() && ticks.is_none() && part != "nanosecond" {
        return Err(unknown_part(call.name, &part));
    }
    let name = format!("datetime_add_{part}");
    Ok(kernel::long(name, ScalarType::DateTime, &[&amount, &datetime], move |cells, row| {
        let (amount, datetime) = (cells.long(0, row)?, cells.long(1, row)?);
        let moved = match (months, ticks) {
            (Some(months), _) => Civil::of(datetime).plus_months(amount.checked_mul(months)?)?,
            (_, Some(ticks)) => datetime.checked_add(amount.checked_mul(ticks)?)?,
            _ => datetime.checked_add(amount / 100)?,
        };
        (0..=MAX_DATETIME_TICKS).contains(&moved).then_some(moved)
    }))
}

/// How many borders of the part lie between two datetimes; a week starts on Sunday.
fn datetime_diff(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let part = call.constant_text(0)?.to_lowercase();
    let (later, earlier) = (call.of_type(1, ScalarType::DateTime)?, call.of_type(2, ScalarType::DateTime)?);
    let (months, ticks) = (months_of(&part), unit(&part));
    if months.is_none() && ticks.is_none() && part != "nanosecond" {
        return Err(unknown_part(call.name, &part));
    }
    let week = part == "week";
    let name = format!("datetime_diff_{part}");
    Ok(kernel::long(name, ScalarType::Long, &[&later, &earlier], move |cells, row| {
        let (later, earlier) = (cells.long(0, row)?, cells.long(1, row)?);
        Some(match (months, ticks) {
            (Some(months), _) => {
                Civil::of(later).months().div_euclid(months) - Civil::of(earlier).months().div_euclid(months)
            }
            (_, Some(ticks)) => {
                let shift = if week { TICKS_PER_DAY } else { 0 };
                (later + shift).div_euclid(ticks) - (earlier + shift).div_euclid(ticks)
            }
            _ => later.checked_sub(earlier)?.checked_mul(100)?,
        })
    }))
}

/// `startof...` and `endof...`, with an offset in the same unit.
fn edge(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let datetime = call.of_type(0, ScalarType::DateTime)?;
    let offset = if call.count() > 1 { call.long(1)? } else { Scalar::long(0) };
    let end = call.name.starts_with("endof");
    let unit = call.name.trim_start_matches("startof").trim_start_matches("endof").to_owned();
    Ok(kernel::long(call.name, ScalarType::DateTime, &[&datetime, &offset], move |cells, row| {
        let (ticks, offset) = (cells.long(0, row)?, cells.long(1, row)?);
        let offset = offset.checked_add(i64::from(end))?;
        let midnight = ticks - ticks.rem_euclid(TICKS_PER_DAY);
        let start = match unit.as_str() {
            "day" => midnight.checked_add(offset.checked_mul(TICKS_PER_DAY)?)?,
            "week" => (midnight - days_since_sunday(ticks) * TICKS_PER_DAY)
                .checked_add(offset.checked_mul(7 * TICKS_PER_DAY)?)?,
            "month" => Civil { day: 1, time: 0, ..Civil::of(ticks) }.plus_months(offset)?,
            _ => Civil { month: 1, day: 1, time: 0, ..Civil::of(ticks) }.plus_months(offset.checked_mul(12)?)?,
        };
        let edge = start - i64::from(end);
        (0..=MAX_DATETIME_TICKS).contains(&edge).then_some(edge)
    }))
}

fn from_unix(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let value = call.real(0)?;
    let exact = matches!(call.argument(0)?.scalar_type, ScalarType::Int | ScalarType::Long);
    let (up, down): (i64, i64) = match call.name {
        "unixtime_seconds_todatetime" => (TICKS_PER_SECOND, 1),
        "unixtime_milliseconds_todatetime" => (10_000, 1),
        "unixtime_microseconds_todatetime" => (10, 1),
        _ => (1, 100),
    };
    let in_range = |ticks: i64| (0..=MAX_DATETIME_TICKS).contains(&ticks).then_some(ticks);
    if exact {
        return Ok(kernel::long(call.name, ScalarType::DateTime, &[&call.long(0)?], move |cells, row| {
            in_range((cells.long(0, row)?.checked_mul(up)? / down).checked_add(UNIX_EPOCH_TICKS)?)
        }));
    }
    let factor = super::conversion::as_real(up) / super::conversion::as_real(down);
    Ok(kernel::long(format!("{}_real", call.name), ScalarType::DateTime, &[&value], move |cells, row| {
        in_range(super::conversion::truncate(cells.real(0, row)? * factor)?.checked_add(UNIX_EPOCH_TICKS)?)
    }))
}

fn make(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let datetime = call.name == "make_datetime";
    call.arity(if datetime { 3 } else { 2 }, if datetime { 6 } else { 4 })?;
    let mut parts = Vec::with_capacity(call.count());
    for index in 0..call.count() {
        parts.push(call.real(index)?);
    }
    let references: Vec<&Scalar> = parts.iter().collect();
    if datetime {
        return Ok(kernel::long(call.name, ScalarType::DateTime, &references, |cells, row| {
            let whole = |argument: usize, otherwise: i64| {
                if cells.arguments() > argument {
                    super::conversion::truncate(cells.real(argument, row)?)
                } else {
                    Some(otherwise)
                }
            };
            let days = literal::days_from_civil(whole(0, 1)?, whole(1, 1)?, whole(2, 1)?)?;
            let (hour, minute) = (whole(3, 0)?, whole(4, 0)?);
            let second = if cells.arguments() > 5 { cells.real(5, row)? } else { 0.0 };
            if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..60.0).contains(&second) {
                return None;
            }
            let second = super::conversion::truncate((second * super::conversion::as_real(TICKS_PER_SECOND)).round())?;
            Some(days * TICKS_PER_DAY + hour * HOUR + minute * MINUTE + second)
        }));
    }
    Ok(kernel::long(call.name, ScalarType::Timespan, &references, |cells, row| {
        let whole = |argument: usize| super::conversion::truncate(cells.real(argument, row)?);
        let (days, first) = if cells.arguments() == 4 { (whole(0)?, 1) } else { (0, 0) };
        let (hour, minute) = (whole(first)?, whole(first + 1)?);
        let second = if cells.arguments() > first + 2 { cells.real(first + 2, row)? } else { 0.0 };
        let second = super::conversion::truncate((second * super::conversion::as_real(TICKS_PER_SECOND)).round())?;
        days.checked_mul(TICKS_PER_DAY)?
            .checked_add(hour.checked_mul(HOUR)?)?
            .checked_add(minute.checked_mul(MINUTE)?)?
            .checked_add(second)
    }))
}

/// A piece of a format: a run of one letter, or text that is copied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Piece {
    Field(char, usize),
    Text(String),
}

fn pieces(function: &str, format: &str) -> Result<Vec<Piece>, KustoError> {
    let letters = if function == "format_datetime" { "yMdhHmsfFt" } else { "dHhmsfF" };
    let mut pieces = Vec::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if letters.contains(c) {
            let mut count = 1;
            while chars.next_if_eq(&c).is_some() {
                count += 1;
            }
            let most = match c {
                'y' => 4,
                'f' | 'F' => 7,
                'd' if function == "format_timespan" => 8,
                _ => 2,
            };
            if count > most {
                return Err(KustoError::semantic(
                    "SEM0025",
                    format!("{function}(): too many '{c}' in a row in the format"),
                ));
            }
            pieces.push(Piece::Field(c, count));
        } else if matches!(c, ' ' | '-' | '/' | ':' | ',' | '.' | '_' | '[' | ']') {
            pieces.push(Piece::Text(c.to_string()));
        } else {
            return Err(KustoError::semantic(
                "SEM0025",
                format!("{function}(): the character '{c}' is not allowed in a format"),
            ));
        }
    }
    Ok(pieces)
}

fn format_call(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let datetime = call.name == "format_datetime";
    let format = call.constant_text(1)?;
    let pieces = pieces(call.name, &format)?;
    let value = call.of_type(0, if datetime { ScalarType::DateTime } else { ScalarType::Timespan })?;
    Ok(kernel::text(format!("{} {format:?}", call.name), ScalarType::String, &[&value], move |cells, row| {
        let ticks = cells.long(0, row)?;
        Some(Cow::Owned(if datetime {
            formatted(ticks, &pieces, Some(Civil::of(ticks)))
        } else {
            formatted(ticks, &pieces, None)
        }))
    }))
}

fn formatted(ticks: i64, pieces: &[Piece], civil: Option<Civil>) -> String {
    let mut text = String::new();
    if ticks < 0 {
        text.push('-');
    }
    let magnitude = ticks.checked_abs().unwrap_or(i64::MAX);
    let hour = magnitude % TICKS_PER_DAY / HOUR;
    for piece in pieces {
        let (letter, count) = match piece {
            Piece::Text(literal) => {
                text.push_str(literal);
                continue;
            }
            Piece::Field(letter, count) => (*letter, *count),
        };
        let number = match letter {
            'y' => {
                let year = civil.map_or(1, |civil| civil.year);
                if count <= 2 { year % 100 } else { year }
            }
            'M' => civil.map_or(1, |civil| civil.month),
            'd' => civil.map_or(magnitude / TICKS_PER_DAY, |civil| civil.day),
            'H' => hour,
            // Without a date there is no noon: a timespan's hours count to 23 with either letter.
            'h' if civil.is_some() => (hour + 11) % 12 + 1,
            'h' => hour,
            'm' => magnitude % HOUR / MINUTE,
            's' => magnitude % MINUTE / TICKS_PER_SECOND,
            't' => {
                let half = if hour < 12 { "AM" } else { "PM" };
                text.push_str(half.get(..count).unwrap_or(half));
                continue;
            }
            _ => {
                let digits = format!("{:07}", magnitude % TICKS_PER_SECOND);
                let digits = digits.get(..count).unwrap_or_default();
                text.push_str(if letter == 'F' { digits.trim_end_matches('0') } else { digits });
                continue;
            }
        };
        text.push_str(&format!("{number:0count$}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::parse_datetime;

    fn ticks(text: &str) -> i64 {
        parse_datetime(text).expect("a datetime")
    }

    #[test]
    fn weeks_are_those_of_iso_8601_and_days_count_from_sunday() {
        assert_eq!(week_of_year(ticks("2020-01-01")), 1);
        assert_eq!(week_of_year(ticks("2021-01-01")), 53);
        assert_eq!(week_from_sunday(ticks("2021-01-02")), 53);
        assert_eq!(week_from_sunday(ticks("2021-01-03")), 1);
        assert_eq!(days_since_sunday(ticks("2020-01-01")), 3);
        assert_eq!(days_since_sunday(ticks("2017-10-29")), 0);
    }

    #[test]
    fn adding_months_stays_within_the_month() {
        let moved = Civil::of(ticks("2020-01-31T01:00:00")).plus_months(1);
        assert_eq!(moved, Some(ticks("2020-02-29T01:00:00")));
        assert_eq!(Civil::of(ticks("2020-03-31")).plus_months(-13), Some(ticks("2019-02-28")));
        assert_eq!(Civil::of(ticks("9999-12-01")).plus_months(1), None);
    }

    #[test]
    fn formats_print_runs_of_letters() {
        let format = |text: &str| pieces("format_datetime", text).expect("a format");
        let at = ticks("2020-01-02T13:04:05.6789012");
        let printed = formatted(at, &format("yy-M-d h:mm:ss.fff tt"), Some(Civil::of(at)));
        assert_eq!(printed, "20-1-2 1:04:05.678 PM");
        assert!(pieces("format_datetime", "q").is_err());
    }
}
