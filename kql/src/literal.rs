//! Quoting and literals: the one home of both. Everything that becomes part of a KQL text goes through here. No I/O.
//!
//! Checked with Microsoft's own parser: what it reads back from these texts equals the input (`tests/kql-oracle`).

use std::fmt::Write as _;

/// 100 ns ticks in a second: Kusto's unit of time.
pub const TICKS_PER_SECOND: i64 = 10_000_000;
/// 100 ns ticks in a day.
pub const TICKS_PER_DAY: i64 = 86_400 * TICKS_PER_SECOND;
/// Ticks from 0001-01-01, where Kusto's datetime starts, to 1970-01-01.
pub const UNIX_EPOCH_TICKS: i64 = 719_162 * TICKS_PER_DAY;
/// The last tick of year 9999, Kusto's largest datetime.
pub const MAX_DATETIME_TICKS: i64 = 3_155_378_975_999_999_999;

/// Whether a character is none to be seen, or ends a line: of those that are no control characters, Kusto ends one at U+2028 and U+2029.
pub fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A string literal in single quotes.
///
/// `'` and `\` get a backslash; LF, CR and TAB their short escapes; others of [`is_control`] become `\uXXXX`.
pub fn string(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('\'');
    for c in value.chars() {
        match c {
            '\'' => text.push_str("\\'"),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            _ if is_control(c) => {
                write!(text, "\\u{:04x}", u32::from(c)).expect("writing to a String cannot fail");
            }
            _ => text.push(c),
        }
    }
    text.push('\'');
    text
}

/// A name in brackets and quotes: `['name']`.
pub fn bracketed(name: &str) -> String {
    format!("[{}]", string(name))
}

/// A timespan as `.show` prints it and `time(...)` reads it: `[-][d.]hh:mm:ss[.fffffff]`.
pub fn timespan(ticks: i64) -> String {
    let magnitude = ticks.unsigned_abs();
    let day = TICKS_PER_DAY.unsigned_abs();
    let second = TICKS_PER_SECOND.unsigned_abs();
    let (days, rest) = (magnitude / day, magnitude % day);
    let (seconds, fraction) = (rest / second, rest % second);
    let mut text = String::new();
    if ticks < 0 {
        text.push('-');
    }
    if days > 0 {
        write!(text, "{days}.").expect("writing to a String cannot fail");
    }
    write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        .expect("writing to a String cannot fail");
    if fraction > 0 {
        write!(text, ".{fraction:07}").expect("writing to a String cannot fail");
    }
    text
}

/// A datetime as Kusto's protocol prints it: `2025-05-03T12:34:56.1234567Z`, always with seven digits if there is a fraction of a second.
pub fn datetime(ticks: i64) -> String {
    let (year, month, day) = civil_from_days(ticks.div_euclid(TICKS_PER_DAY));
    let rest = ticks.rem_euclid(TICKS_PER_DAY);
    let (seconds, fraction) = (rest / TICKS_PER_SECOND, rest % TICKS_PER_SECOND);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let date = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction == 0 { format!("{date}Z") } else { format!("{date}.{fraction:07}Z") }
}

/// The civil date of a count of days since 0001-01-01, in the proleptic Gregorian calendar that .NET uses.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is the last of its year; 306 days separate 0000-03-01 from 0001-01-01.
    let shifted = days + 306;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days since 0001-01-01 of a civil date; the inverse of the date in [`datetime`]. `None` unless the date exists.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 306;
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_escape_what_ends_a_literal_or_a_line() {
        assert_eq!(string("a'b\\c\n\r\t\0\u{85}\u{2028}é"), r"'a\'b\\c\n\r\t\u0000\u0085\u2028é'");
        assert_eq!(bracketed("x'] | y"), r"['x\'] | y']");
    }

    #[test]
    fn times_print_as_kusto_prints_them() {
        assert_eq!(timespan(0), "00:00:00");
        assert_eq!(timespan(TICKS_PER_DAY + 2 * 3600 * TICKS_PER_SECOND + 1), "1.02:00:00.0000001");
        assert_eq!(timespan(-90 * TICKS_PER_SECOND), "-00:01:30");
        assert_eq!(timespan(i64::MIN), "-10675199.02:48:05.4775808");
        assert_eq!(datetime(0), "0001-01-01T00:00:00Z");
        assert_eq!(datetime(UNIX_EPOCH_TICKS), "1970-01-01T00:00:00Z");
        assert_eq!(datetime(MAX_DATETIME_TICKS), "9999-12-31T23:59:59.9999999Z");
    }

    proptest! {
        #[test]
        fn dates_and_days_are_inverse(days in 0..3_652_059_i64) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), Some(days));
        }
    }
}
