//! Five cron fields in UTC, with the meaning they have in Kubernetes' CronJob: minute, hour, day of month, month, day of week. Pure.
//!
//! Not the crate `cron`: it wants a field of seconds, counts Sunday as 1 instead of 0 and joins the two day fields with "and", so that an expression
//! copied from a CronJob would silently run on other days. Here 0 and 7 are Sunday, and a time matches if either restricted day field does.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use jiff::{Timestamp, ToSpan as _, civil, tz::TimeZone};

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A valid cron expression that has a next time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronSchedule {
    text: String,
    minutes: u64,
    hours: u64,
    days_of_month: u64,
    months: u64,
    days_of_week: u64,
    /// Whether a day must match both day fields (one of them is `*`) or either.
    both_day_fields: bool,
}

/// The rule that a text breaks; the caller names path and value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error(
        "must have five cron fields (minute, hour, day of month, month, day of week), such as */10 * * * *; it has {0}"
    )]
    Fields(usize),
    /// One field is wrong.
    #[error(
        "the {field} field '{value}' must be *, a number {first} to {last}, a range, a list of them, or one with a step (/n)"
    )]
    Field {
        /// Which field.
        field: &'static str,
        /// Its text.
        value: String,
        /// The smallest number.
        first: u8,
        /// The largest number.
        last: u8,
    },
    /// Such as 30 February.
    #[error("must have a next time: no day matches it")]
    Never,
}

impl CronSchedule {
    /// The first matching time after `after`. `None` at the end of the calendar only.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let start = after.to_zoned(TimeZone::UTC).datetime();
        let mut date = start.date();
        let mut from = Some(start.time());
        // Every reachable date comes back within eight years (29 February around a century).
        for _ in 0..366 * 9 {
            if self.matches_day(date)
                && let Some(time) = self.next_time(from)
            {
                return date.to_datetime(time).to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
            }
            date = date.checked_add(1.day()).ok()?;
            from = None;
        }
        None
    }

    fn matches_day(&self, date: civil::Date) -> bool {
        let bit = |set: u64, value: i8| u32::try_from(value).is_ok_and(|value| set >> value & 1 == 1);
        if !bit(self.months, date.month()) {
            return false;
        }
        let month_day = bit(self.days_of_month, date.day());
        let week_day = bit(self.days_of_week, date.weekday().to_sunday_zero_offset());
        if self.both_day_fields { month_day && week_day } else { month_day || week_day }
    }

    /// The first matching time of a day, after `from` if there is one.
    fn next_time(&self, from: Option<civil::Time>) -> Option<civil::Time> {
        let times = (0..24_i8).filter(|hour| self.hours >> hour & 1 == 1).flat_map(|hour| {
            (0..60_i8)
                .filter(|minute| self.minutes >> minute & 1 == 1)
                .map(move |minute| civil::time(hour, minute, 0, 0))
        });
        times.into_iter().find(|time| from.is_none_or(|from| *time > from))
    }
}

impl FromStr for CronSchedule {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day_of_month, month, day_of_week] = fields[..] else {
            return Err(CronError::Fields(fields.len()));
        };
        let weekdays = parse_field("day of week", day_of_week, 0..=7, &DAYS)?;
        let schedule = Self {
            text: fields.join(" "),
            minutes: parse_field("minute", minute, 0..=59, &[])?,
            hours: parse_field("hour", hour, 0..=23, &[])?,
            days_of_month: parse_field("day of month", day_of_month, 1..=31, &[])?,
            months: parse_field("month", month, 1..=12, &MONTHS)?,
            // 7 is Sunday too.
            days_of_week: (weekdays | weekdays >> 7) & 0x7f,
            both_day_fields: is_any(day_of_month) || is_any(day_of_week),
        };
        match schedule.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(CronError::Never),
        }
    }
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a field restricts nothing; `*/2` does, as in Kubernetes.
fn is_any(field: &str) -> bool {
    matches!(field, "*" | "?" | "*/1" | "?/1")
}

/// One field as a set of bits.
fn parse_field(field: &'static str, text: &str, range: RangeInclusive<u8>, names: &[&str]) -> Result<u64, CronError> {
    let (first, last) = (*range.start(), *range.end());
    let wrong = || CronError::Field { field, value: text.to_owned(), first, last };
    let number = |text: &str| -> Result<u8, CronError> {
        if let Some(index) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            // Month names count from 1, day names from 0: the same as each field's first number.
            return u8::try_from(index).map(|index| index + first).map_err(|_| wrong());
        }
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        text.parse::<u8>().ok().filter(|value| range.contains(value)).ok_or_else(wrong)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (base, step) = match part.split_once('/') {
            Some((base, step)) => (base, Some(step.parse::<u8>().ok().filter(|step| *step > 0).ok_or_else(wrong)?)),
            None => (part, None),
        };
        let (from, to) = match base.split_once('-') {
            _ if base == "*" || base == "?" => (first, last),
            Some((from, to)) => (number(from)?, number(to)?),
            None => {
                let from = number(base)?;
                (from, if step.is_some() { last } else { from })
            }
        };
        if from > to {
            return Err(wrong());
        }
        for value in (from..=to).step_by(usize::from(step.unwrap_or(1))) {
            set |= 1 << value;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let schedule: CronSchedule = expression.parse().unwrap();
        schedule.next_after(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_the_first_after_the_given_one() {
        // 2026-03-01 is a Sunday.
        for (expression, after, expected) in [
            ("*/10 * * * *", "2026-03-01T12:00:00Z", "2026-03-01T12:10:00Z"),
            ("*/10 * * * *", "2026-03-01T11:59:59.5Z", "2026-03-01T12:00:00Z"),
            ("0 3 * * 1", "2026-03-01T12:00:00Z", "2026-03-02T03:00:00Z"),
            ("0 3 * * 0", "2026-03-01T12:00:00Z", "2026-03-08T03:00:00Z"),
            ("0 3 * * 7", "2026-03-01T12:00:00Z", "2026-03-08T03:00:00Z"),
            ("0 3 * * mon-fri", "2026-03-06T12:00:00Z", "2026-03-09T03:00:00Z"),
            ("30 23 31 12 *", "2026-03-01T12:00:00Z", "2026-12-31T23:30:00Z"),
            ("0 0 29 FEB *", "2026-03-01T12:00:00Z", "2028-02-29T00:00:00Z"),
            ("5,35 8-10/2 * * *", "2026-03-01T08:35:00Z", "2026-03-01T10:05:00Z"),
            ("50/5 * * * ?", "2026-03-01T08:50:00Z", "2026-03-01T08:55:00Z"),
        ] {
            assert_eq!(next(expression, after), expected, "{expression} after {after}");
        }
    }

    #[test]
    fn either_restricted_day_field_is_enough() {
        assert_eq!(next("0 0 13 * 5", "2026-03-01T00:00:00Z"), "2026-03-06T00:00:00Z");
        assert_eq!(next("0 0 3 * 5", "2026-03-01T00:00:00Z"), "2026-03-03T00:00:00Z");
    }

    #[test]
    fn wrong_expressions_are_refused_with_the_rule() {
        let error = |text: &str| text.parse::<CronSchedule>().unwrap_err().to_string();
        assert_eq!(
            error("* * * *"),
            "must have five cron fields (minute, hour, day of month, month, day of week), such as */10 * * * *; it has 4"
        );
        assert_eq!(
            error("61 * * * *"),
            "the minute field '61' must be *, a number 0 to 59, a range, a list of them, or one with a step (/n)"
        );
        for text in [
            "a * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "1, * * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "-1 * * * *",
        ] {
            assert!(matches!(text.parse::<CronSchedule>(), Err(CronError::Field { .. })), "{text}");
        }
        assert_eq!(error("0 0 30 2 *"), "must have a next time: no day matches it");
    }
}
