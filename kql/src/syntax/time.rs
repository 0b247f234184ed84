//! Reads datetimes and timespans as Kusto writes them: inside `datetime(...)` and `time(...)`, and in data. Pure functions; called by the parser and by the
//! local server's conversions (`todatetime`, ingestion).

use super::lexer::unit_nanoseconds;
use crate::literal::{MAX_DATETIME_TICKS, TICKS_PER_DAY, TICKS_PER_SECOND, days_from_civil};

/// Ticks of a datetime in one of the forms that Kusto documents: ISO 8601 with or without a time (`2025-01-01`, `2025-01-01 12:00`,
/// `2025-01-01T12:00:00.1234567Z`, `...+02:00`), RFC 822 (`Sat, 8 Nov 14 15:05:02 GMT`, `8 Nov 14 15:05`) and RFC 850 (`Saturday, 08-Nov-14 15:05:02 GMT`).
///
/// `None` for anything else, the forms of .NET's cultures (`MM/dd/yyyy`) included, and for what no calendar holds. Digits of a second after the seventh are
/// rounded, as .NET does. Of two digits of a year, 50 to 99 are in the 20th century and others in the 21st, as RFC 2822 has it.
pub fn read_datetime(text: &str) -> Option<i64> {
    let text = text.trim();
    let ticks = if text.starts_with(|c: char| c.is_ascii_alphabetic()) || names_month(text) {
        read_with_month_name(text)
    } else {
        read_iso(text)
    };
    ticks.filter(|ticks| (0..=MAX_DATETIME_TICKS).contains(ticks))
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The days of a week with their short forms; a datetime need not be on the day that it names.
const WEEKDAYS: [(&str, &str); 7] = [
    ("Mon", "Monday"),
    ("Tue", "Tuesday"),
    ("Wed", "Wednesday"),
    ("Thu", "Thursday"),
    ("Fri", "Friday"),
    ("Sat", "Saturday"),
    ("Sun", "Sunday"),
];

/// Whether the second part of a date is the name of a month: `8 Nov 14`, `08-Nov-14`.
fn names_month(text: &str) -> bool {
    text.split([' ', '-']).nth(1).is_some_and(|second| month_number(second).is_some())
}

fn month_number(name: &str) -> Option<i64> {
    (1..).zip(MONTHS).find(|(_, month)| month.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

/// `[weekday, ]d Mon yy h:mm[:ss][ GMT]`, with hyphens in the date where a weekday stands before it.
fn read_with_month_name(text: &str) -> Option<i64> {
    let (weekday, date_and_time) = match text.split_once(',') {
        Some((weekday, rest)) => (Some(weekday), rest.trim_start()),
        None => (None, text),
    };
    let known = |name: &str| {
        WEEKDAYS.iter().any(|(short, long)| short.eq_ignore_ascii_case(name) || long.eq_ignore_ascii_case(name))
    };
    if weekday.is_some_and(|name| !known(name)) {
        return None;
    }
    let separator = if weekday.is_some() && date_and_time.contains('-') { '-' } else { ' ' };
    let mut parts = date_and_time.splitn(3, separator);
    let (day, month, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (year, time) = rest.split_once(' ')?;
    if day.len() > 2 {
        return None;
    }
    let year = match (year.len(), digits(year)?) {
        (2, year) => year + if year < 50 { 2000 } else { 1900 },
        (4, year) => year,
        _ => return None,
    };
    let days = days_from_civil(year, month_number(month)?, digits(day)?)?;
    let (clock, offset) = split_offset(time)?;
    Some(days * TICKS_PER_DAY + read_clock(clock)? - offset)
}

fn read_iso(text: &str) -> Option<i64> {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim_start())),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() > 2 || day.len() > 2 {
        return None;
    }
    let days = days_from_civil(digits(year)?, digits(month)?, digits(day)?)?;
    let ticks = match time {
        None => 0,
        Some(time) => {
            let (clock, offset) = split_offset(time)?;
            read_clock(clock)? - offset
        }
    };
    Some(days * TICKS_PER_DAY + ticks)
}

/// Ticks of a timespan: `1d`, `1.5 hours`, `-2s`, `2` (days), `02:03`, `02:03:04`, `-1.02:03:04.1234567`.
///
/// `None` for anything else and for what 64 bits of ticks do not hold.
pub fn read_timespan(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let magnitude = if text.contains(':') { clock_with_days(text)? } else { with_unit(text)? };
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// `[d.]hh:mm[:ss[.fffffff]]`. Wider than the result, so that the most negative timespan can be read.
fn clock_with_days(text: &str) -> Option<i128> {
    let colon = text.find(':')?;
    let (days, clock) = match text[..colon].find('.') {
        Some(dot) => (digits(&text[..dot])?, &text[dot + 1..]),
        None => (0, text),
    };
    Some(i128::from(days) * i128::from(TICKS_PER_DAY) + i128::from(read_clock(clock)?))
}

/// `number[ unit]`; without a unit, whole days. What is shorter than a tick is cut off.
fn with_unit(text: &str) -> Option<i128> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..number_end], text[number_end..].trim_start());
    if unit.is_empty() {
        return Some(i128::from(digits(number)?) * i128::from(TICKS_PER_DAY));
    }
    let nanoseconds = i128::from(unit_nanoseconds(unit)?);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 15 {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { digits(whole)? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = if fraction.is_empty() { 0 } else { digits(fraction)? };
    Some((i128::from(whole) * scale + i128::from(fraction)) * nanoseconds / scale / 100)
}

/// Takes a zone off the end of a time: its text without it, and the zone's distance from UTC in ticks.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = ["Z", "z", "GMT", "UTC"].iter().find_map(|zone| time.strip_suffix(zone)) {
        return Some((clock.trim_end(), 0));
    }
    let Some(at) = time.rfind(['+', '-']) else {
        return Some((time, 0));
    };
    let (hours, minutes) = time[at + 1..].split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    let offset = (hours * 60 + minutes) * 60 * TICKS_PER_SECOND;
    Some((time[..at].trim_end(), if time[at..].starts_with('-') { -offset } else { offset }))
}

/// `h:mm[:ss[.f...]]` within a day.
fn read_clock(clock: &str) -> Option<i64> {
    let mut parts = clock.split(':');
    let (hour, minute, seconds) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let (second, fraction) = seconds.map_or(("0", None), |seconds| match seconds.split_once('.') {
        Some((second, fraction)) => (second, Some(fraction)),
        None => (seconds, None),
    });
    let (hour, minute, second) = (clock_part(hour, 23)?, clock_part(minute, 59)?, clock_part(second, 59)?);
    let fraction = fraction.map_or(Some(0), read_fraction)?;
    Some(((hour * 60 + minute) * 60 + second) * TICKS_PER_SECOND + fraction)
}

fn clock_part(text: &str, most: i64) -> Option<i64> {
    digits(text).filter(|value| text.len() <= 2 && *value <= most)
}

/// The digits of a fraction of a second, in ticks.
fn read_fraction(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 15 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seven = digits(&format!("{:0<7}", &text[..text.len().min(7)]))?;
    let rounds_up = text.as_bytes().get(7).is_some_and(|digit| *digit >= b'5');
    Some(seven + i64::from(rounds_up))
}

/// A number of ASCII digits and nothing else.
fn digits(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::literal;

    #[test]
    fn iso_datetimes_are_read_to_the_tick() {
        for (text, expected) in [
            ("2025-01-01", "2025-01-01T00:00:00Z"),
            ("2025-1-1", "2025-01-01T00:00:00Z"),
            (" 2025-01-01 12:34 ", "2025-01-01T12:34:00Z"),
            ("2025-01-01 12:34:56.1234567", "2025-01-01T12:34:56.1234567Z"),
            ("2025-01-01T12:34:56.1Z", "2025-01-01T12:34:56.1000000Z"),
            ("2025-01-01T12:34:56.123456750Z", "2025-01-01T12:34:56.1234568Z"),
            ("2025-01-01T01:00:00+02:00", "2024-12-31T23:00:00Z"),
            ("2025-01-01T01:00:00.5-02:30", "2025-01-01T03:30:00.5000000Z"),
            ("9999-12-31T23:59:59.9999999", "9999-12-31T23:59:59.9999999Z"),
        ] {
            assert_eq!(read_datetime(text).map(literal::datetime).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn datetimes_of_rfc_822_and_rfc_850_are_read() {
        for (text, expected) in [
            ("Sat, 8 Nov 14 15:05:02 GMT", "2014-11-08T15:05:02Z"),
            ("Sat, 8 Nov 14 15:05:02", "2014-11-08T15:05:02Z"),
            ("Sat, 8 Nov 14 15:05 GMT", "2014-11-08T15:05:00Z"),
            ("Sat, 08 Nov 2014 15:05:02 GMT", "2014-11-08T15:05:02Z"),
            ("8 Nov 14 15:05:02 GMT", "2014-11-08T15:05:02Z"),
            ("8 nov 14 15:05", "2014-11-08T15:05:00Z"),
            ("Saturday, 08-Nov-14 15:05:02 GMT", "2014-11-08T15:05:02Z"),
            ("Saturday, 08-Nov-14 15:05", "2014-11-08T15:05:00Z"),
            ("Tuesday, 01-Feb-94 00:00:00 GMT", "1994-02-01T00:00:00Z"),
            ("2014-11-08 15:05:25 GMT", "2014-11-08T15:05:25Z"),
        ] {
            assert_eq!(read_datetime(text).map(literal::datetime).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "Sat, 8 Nov 14",
            "Sat, 8 Nov 14 25:00",
            "Sat, 31 Feb 14 00:00",
            "Someday, 8 Nov 14 15:05",
            "Sat, 8 Nox 14 15:05",
            "Sat, 8 Nov 214 15:05",
            "Sat, 8 Nov 14 15:05 CET",
            "8-Nov",
            "Nov",
            ",",
        ] {
            assert_eq!(read_datetime(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_datetime_is_refused() {
        for text in [
            "",
            "x",
            "2025",
            "2025-01",
            "25-01-01",
            "2025-02-30",
            "2025-01-01 24:00",
            "2025-01-01 12",
            "2025-01-01T",
            "2025-01-01 12:00:60",
            "01/02/2025",
            "2025-01-01T12:00:00+2",
            "2025-01-01T12:00:00+99:00",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59.99999999",
            "2025-01-+1",
            "2025-01-01T12:00:00.",
            "2025-01-01T12:00:00Z+01:00",
            "٢٠٢٥-01-01",
        ] {
            assert_eq!(read_datetime(text), None, "{text:?}");
        }
    }

    #[test]
    fn timespans_are_read_in_both_forms() {
        for (text, expected) in [
            ("1d", "1.00:00:00"),
            ("1.5 hours", "01:30:00"),
            ("-2s", "-00:00:02"),
            (".5d", "12:00:00"),
            ("2", "2.00:00:00"),
            ("02:03", "02:03:00"),
            ("1:2:3", "01:02:03"),
            ("-1.02:03:04.1234567", "-1.02:03:04.1234567"),
            ("00:00:00.1", "00:00:00.1000000"),
            ("100nano", "00:00:00.0000001"),
            ("250nano", "00:00:00.0000002"),
            ("0.1ms", "00:00:00.0001000"),
        ] {
            assert_eq!(read_timespan(text).map(literal::timespan).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "-",
            "x",
            "1x",
            "1.5",
            "24:00:00",
            "1:60",
            "1:2:3:4",
            "1.",
            ".d",
            "--1d",
            "1e3s",
            "99999999d",
            "1 d 2 h",
        ] {
            assert_eq!(read_timespan(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_literal_prints_is_read_back(datetime in 0..=MAX_DATETIME_TICKS, timespan in any::<i64>()) {
            prop_assert_eq!(read_datetime(&literal::datetime(datetime)), Some(datetime));
            prop_assert_eq!(read_timespan(&literal::timespan(timespan)), Some(timespan));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}", near in "[0-9.:TZ +-]{0,30}[a-z]{0,5}") {
            for text in [text, near] {
                let _ = (read_datetime(&text), read_timespan(&text));
            }
        }
    }
}
