//! Literals: numbers, strings, and the typed ones such as `datetime(2025-01-01)`, whose inside follows no token rules. Called by the expression grammar
//! and, for values in management commands, by the local server.

use super::{Parser, Result};
use crate::{
    literal::{TICKS_PER_DAY, days_from_civil},
    syntax::{
        ast::Literal,
        error::SyntaxErrorKind,
        keywords, string,
        time::{read_datetime, read_timespan},
        token::{Token, TokenKind},
    },
};

/// More digits than Kusto's 128-bit decimal holds.
const MAX_DECIMAL_DIGITS: usize = 38;

impl Parser<'_> {
    /// Takes a literal: `1`, `1.5`, `1d`, `'a'`, `true`, `datetime(2025-01-01)`, `dynamic({"a": 1})`, ...
    ///
    /// # Errors
    /// Something else is next, or the literal's value is not of its type.
    pub fn literal(&mut self) -> Result<Literal> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::String => Ok(Literal::String(self.string()?)),
            TokenKind::Long | TokenKind::Real | TokenKind::Timespan => {
                self.next_token()?;
                self.number(token)
            }
            TokenKind::Word => {
                if let Some(value) = keywords::boolean(token.text) {
                    self.next_token()?;
                    return Ok(Literal::Bool(Some(value)));
                }
                if self.at_literal_word(token) { self.typed_literal() } else { self.expected("a literal") }
            }
            _ => self.expected("a literal"),
        }
    }

    /// Takes a literal with or without a sign, as the default of a parameter has it: `-5` is `long(-5)`.
    ///
    /// # Errors
    /// Something else is next, or the literal's value is not of its type.
    pub fn signed_literal(&mut self) -> Result<Literal> {
        let sign = self.peek()?;
        if !sign.is("-") && !sign.is("+") {
            return self.literal();
        }
        self.next_token()?;
        self.check_magnitude()?;
        let magnitude = self.next_token()?;
        let value = self.number(magnitude)?;
        Ok(match value {
            // Without a sign of its own, a magnitude always has its negative.
            Literal::Long(Some(value)) if sign.text == "-" => Literal::Long(Some(-value)),
            Literal::Real(Some(value)) if sign.text == "-" => Literal::Real(Some(-value)),
            Literal::Timespan(Some(ticks)) if sign.text == "-" => Literal::Timespan(Some(-ticks)),
            _ => value,
        })
    }

    /// Refuses what cannot stand behind the sign of a literal.
    pub(super) fn check_magnitude(&mut self) -> Result<()> {
        if matches!(self.peek()?.kind, TokenKind::Long | TokenKind::Real | TokenKind::Timespan) {
            return Ok(());
        }
        self.expected("a number or a timespan behind the sign")
    }

    /// Whether a literal begins with this word, which is next. Kusto allows blanks before the parenthesis of `dynamic` only.
    pub(super) fn at_literal_word(&self, token: Token<'_>) -> bool {
        let behind = &self.text()[token.span.end..];
        let behind = if token.text == "dynamic" { behind.trim_start() } else { behind };
        keywords::boolean(token.text).is_some() || (keywords::is_literal_type(token.text) && behind.starts_with('('))
    }

    /// The value of a bare number or timespan that was just taken.
    fn number(&self, token: Token<'_>) -> Result<Literal> {
        let value = match token.kind {
            TokenKind::Real => token.text.parse().ok().map(|value| Literal::Real(Some(value))),
            TokenKind::Timespan => read_timespan(token.text).map(|ticks| Literal::Timespan(Some(ticks))),
            _ => read_long(token.text).map(|value| Literal::Long(Some(value))),
        };
        value.ok_or_else(|| {
            let message = format!("{} does not fit into 64 bits", token.describe());
            self.error_at(SyntaxErrorKind::Syntax, token.span.start, message)
        })
    }

    /// `type(...)`, from the word on.
    fn typed_literal(&mut self) -> Result<Literal> {
        let word = self.next_token()?;
        if word.text == "dynamic" {
            return Ok(Literal::Dynamic(self.bracketed("(", ")", Self::dynamic_value)?));
        }
        let inside = self.raw_inside(word)?;
        let inside = inside.trim();
        let value = if inside == "null" { Some(null(word.text)) } else { typed_value(word.text, inside) };
        value.ok_or_else(|| {
            let form = match word.text {
                "datetime" | "date" => ": expected an ISO 8601 date, such as 2025-01-31 or 2025-01-31T12:00:00Z",
                "timespan" | "time" => ": expected a timespan, such as 1d or 1.02:03:04",
                _ => "",
            };
            let message = format!("the inside of '{}(...)' is not a {} value{form}", word.text, word.text);
            self.error_at(SyntaxErrorKind::Syntax, word.span.start, message)
        })
    }

    /// The text between the parentheses right behind `word`, or the value of the one string between them.
    fn raw_inside(&mut self, word: Token<'_>) -> Result<String> {
        let open = self.expect("(")?.span.end;
        let unclosed = || {
            let message = format!("expected ')' to end '{}('", word.text);
            self.error_at(SyntaxErrorKind::Syntax, word.span.start, message)
        };
        let rest = &self.text()[open..];
        let blanks = rest.len() - rest.trim_start().len();
        if let Some(length) = string::literal_length(&rest[blanks..]) {
            let literal = &rest[blanks..blanks + length.map_err(|_| unclosed())?];
            let inside = string::value(literal)
                .map_err(|(offset, message)| self.error_at(SyntaxErrorKind::Syntax, open + blanks + offset, message))?;
            self.skip_to(open + blanks + literal.len());
            self.expect(")")?;
            return Ok(inside);
        }
        let close = rest.find(')').ok_or_else(unclosed)?;
        let inside = rest[..close].to_owned();
        self.skip_to(open + close + 1);
        Ok(inside)
    }
}

/// The null of a type.
fn null(word: &str) -> Literal {
    match word {
        "bool" => Literal::Bool(None),
        "datetime" | "date" => Literal::DateTime(None),
        "decimal" => Literal::Decimal(None),
        "guid" => Literal::Guid(None),
        "int" => Literal::Int(None),
        "long" => Literal::Long(None),
        "real" | "double" => Literal::Real(None),
        "timespan" | "time" => Literal::Timespan(None),
        _ => Literal::Dynamic(serde_json::Value::Null),
    }
}

fn typed_value(word: &str, inside: &str) -> Option<Literal> {
    Some(match word {
        "bool" => Literal::Bool(Some(keywords::boolean(inside)?)),
        "datetime" | "date" => Literal::DateTime(Some(read_datetime(inside).or_else(|| read_parts(inside))?)),
        "decimal" => Literal::Decimal(Some(read_decimal(inside)?)),
        "guid" => Literal::Guid(Some(read_guid(inside)?)),
        "int" => Literal::Int(Some(i32::try_from(read_signed_long(inside)?).ok()?)),
        "long" => Literal::Long(Some(read_signed_long(inside)?)),
        "real" | "double" => Literal::Real(Some(read_real(inside)?)),
        "timespan" | "time" => Literal::Timespan(Some(read_timespan(inside)?)),
        _ => return None,
    })
}

/// `12`, `0x1F`
fn read_long(text: &str) -> Option<i64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => i64::from_str_radix(hex, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn read_signed_long(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        // Read with its sign, because the magnitude of the least long is no long.
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        Some(_) => None,
        None => read_long(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// `1.5`, `-1e3`, `nan`, `+inf`, `-inf`
fn read_real(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        number if number.bytes().all(|b| b.is_ascii_digit() || b"+-.e".contains(&b)) => number.parse().ok(),
        _ => None,
    }
}

/// `[-]digits[.digits]` of `1.5`, `+.5`, `1e-3`: the digits stay as written, an exponent moves the point.
fn read_decimal(text: &str) -> Option<String> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (magnitude, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let most = i32::try_from(MAX_DECIMAL_DIGITS).ok()?;
    if whole.len() + fraction.len() > MAX_DECIMAL_DIGITS || !(-most..=most).contains(&exponent) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let mut digits = format!("{whole}{fraction}");
    let point = if let Ok(point) = usize::try_from(point) {
        digits = format!("{digits:0<point$}");
        point
    } else {
        digits = format!("{}{digits}", "0".repeat(usize::try_from(-point).ok()?));
        0
    };
    let (whole, fraction) = digits.split_at(point);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if whole.len() + fraction.len() > MAX_DECIMAL_DIGITS {
        return None;
    }
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// Lower case with hyphens, of 32 hexadecimal digits with or without hyphens and braces.
fn read_guid(text: &str) -> Option<String> {
    let text = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.concat();
    if !matches!(lengths.as_slice(), [32] | [8, 4, 4, 4, 12]) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    Some([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// `2025, 1, 2`: year, month and day.
fn read_parts(inside: &str) -> Option<i64> {
    let parts: Vec<i64> = inside.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
    let [year, month, day] = parts[..] else { return None };
    Some(days_from_civil(year, month, day)? * TICKS_PER_DAY)
}
