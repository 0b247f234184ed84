//! Durations as the document writes them: Go's form (`1h30m`, `10s`, `500ms`) and, besides, whole days (`7d`). Pure; used by the validation.

use std::{fmt::Write as _, time::Duration};

/// The longest duration a document may name. Kusto's timespan ends near 10.6 million days; ten years is beyond any use and far from every overflow.
const MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// The rule that a text breaks; the caller names path and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form.
    #[error("must be a duration such as 10s, 10m, 1h30m or 7d")]
    Form,
    /// A number alone.
    #[error("must have a unit: ms, s, m, h or d, such as 10m")]
    Unit,
    /// Zero or less.
    #[error("must be longer than zero")]
    NotPositive,
    /// Beyond ten years.
    #[error("must be at most 3650d")]
    TooLong,
}

/// Reads a duration: numbers with a unit of `d`, `h`, `m`, `s`, `ms`, `us` or `ns` one after another, each with an optional fraction.
///
/// # Errors
/// [`DurationError`] is the rule that the text breaks.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.starts_with('-') {
        return Err(DurationError::NotPositive);
    }
    if text.is_empty() {
        return Err(DurationError::Form);
    }
    let mut total: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        if number.is_empty() {
            return Err(DurationError::Form);
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let nanos = match unit {
            "" => return Err(if text == "0" { DurationError::NotPositive } else { DurationError::Unit }),
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(DurationError::Form),
        };
        total = total.saturating_add(scaled(number, nanos)?);
        rest = tail;
    }
    if total == 0 {
        return Err(DurationError::NotPositive);
    }
    if total > MAX.as_nanos() {
        return Err(DurationError::TooLong);
    }
    let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| DurationError::TooLong)?;
    let nanos = u32::try_from(total % 1_000_000_000).map_err(|_| DurationError::TooLong)?;
    Ok(Duration::new(seconds, nanos))
}

/// `number` units of `nanos` each, in nanoseconds; what is finer than a nanosecond is cut off, as Go does.
fn scaled(number: &str, nanos: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(DurationError::Form);
    }
    // 18 digits are finer than any unit here needs; more would only overflow.
    let fraction = &fraction[..fraction.len().min(18)];
    let parse = |digits: &str| match digits {
        "" => Ok(0_u128),
        digits if digits.len() > 18 => Err(DurationError::TooLong),
        digits => digits.parse::<u128>().map_err(|_| DurationError::Form),
    };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    Ok(parse(whole)? * nanos + parse(fraction)? * nanos / scale)
}

/// A duration in the document's form: `1h30m`, `10m`, `7d`, `500ms`. What it prints, [`parse_duration`] reads back to the millisecond.
pub fn format_duration(duration: Duration) -> String {
    let mut text = String::new();
    let mut rest = duration.as_millis();
    // Whole days print as days only when nothing else follows: people write 36h, not 1d12h.
    let units: &[(u128, &str)] = if rest.is_multiple_of(86_400_000) {
        &[(86_400_000, "d")]
    } else {
        &[(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")]
    };
    for (size, unit) in units {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            write!(text, "{count}{unit}").expect("writing to a String cannot fail");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_gos_form_and_in_days() {
        for (text, millis) in [
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("0.5s", 500),
            (".5s", 500),
            ("7d", 604_800_000),
            ("1d12h", 129_600_000),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_positive_duration_with_a_unit_is_refused_with_the_rule() {
        for (text, rule) in [
            ("", DurationError::Form),
            ("h", DurationError::Form),
            ("1 h", DurationError::Form),
            ("1w", DurationError::Form),
            ("1H", DurationError::Form),
            (".s", DurationError::Form),
            ("1..5s", DurationError::Form),
            ("1.2.3s", DurationError::Form),
            ("1h\n", DurationError::Form),
            ("+1h", DurationError::Form),
            ("10", DurationError::Unit),
            ("1h30", DurationError::Unit),
            ("0", DurationError::NotPositive),
            ("0s", DurationError::NotPositive),
            ("-1h", DurationError::NotPositive),
            ("3651d", DurationError::TooLong),
            ("99999999999999999999h", DurationError::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(rule), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for text in ["1h", "1h30m", "10s", "500ms", "7d", "36h", "1m0.5s"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration), "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(format_duration(Duration::from_secs(604_800)), "7d");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }
}
