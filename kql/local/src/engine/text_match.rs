//! Text operators: `has`, `contains`, `startswith`, `=~`, `matches regex` and their kin. Pure; called by [`super::operators`] and the `in` operators.
//!
//! A term of `has` is a run of letters and digits, so an underscore separates terms. Without `_cs` a comparison ignores case.

use std::{borrow::Cow, sync::Arc};

use kql::{syntax::ast::BinaryOp, types::ScalarType};
use regex::Regex;

use super::{
    kernel,
    operators::{as_text, symbol},
    scalar::Scalar,
};
use crate::error::KustoError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    Whole,
    Start,
    End,
    Term,
    TermStart,
    TermEnd,
}

/// What an operator looks for: where, with regard to case or not, and whether it asks for the opposite.
const fn parts(op: BinaryOp) -> Option<(Place, bool, bool)> {
    use BinaryOp as B;
    Some(match op {
        B::EqualTilde => (Place::Whole, false, false),
        B::NotEqualTilde => (Place::Whole, false, true),
        B::Has => (Place::Term, false, false),
        B::NotHas => (Place::Term, false, true),
        B::HasCs => (Place::Term, true, false),
        B::NotHasCs => (Place::Term, true, true),
        B::HasPrefix => (Place::TermStart, false, false),
        B::NotHasPrefix => (Place::TermStart, false, true),
        B::HasSuffix => (Place::TermEnd, false, false),
        B::NotHasSuffix => (Place::TermEnd, false, true),
        B::Contains => (Place::Anywhere, false, false),
        B::NotContains => (Place::Anywhere, false, true),
        B::ContainsCs => (Place::Anywhere, true, false),
        B::NotContainsCs => (Place::Anywhere, true, true),
        B::StartsWith => (Place::Start, false, false),
        B::NotStartsWith => (Place::Start, false, true),
        B::StartsWithCs => (Place::Start, true, false),
        B::NotStartsWithCs => (Place::Start, true, true),
        B::EndsWith => (Place::End, false, false),
        B::NotEndsWith => (Place::End, false, true),
        B::EndsWithCs => (Place::End, true, false),
        B::NotEndsWithCs => (Place::End, true, true),
        _ => return None,
    })
}

/// A text operator applied.
pub(super) fn operator(op: BinaryOp, left: &Scalar, right: &Scalar) -> Result<Scalar, KustoError> {
    let name = symbol(op);
    let place_name = format!("the operator '{name}'");
    let (left, right) = (as_text(left, &place_name)?, as_text(right, &place_name)?);
    if op == BinaryOp::MatchesRegex {
        let Some(pattern) = right.constant_text() else {
            return Err(KustoError::unsupported(
                "The operator 'matches regex' takes a constant pattern in this server",
            ));
        };
        let regex = regex(pattern)?;
        return Ok(kernel::boolean(format!("matches regex {pattern:?}"), &[&left], move |cells, row| {
            Some(regex.is_match(cells.text(0, row)))
        }));
    }
    let Some((place, case_sensitive, negated)) = parts(op) else {
        return Err(KustoError::internal(format!("The operator '{name}' is no text operator.")));
    };
    if let Some(needle) = right.constant_text() {
        let finder = Finder::new(needle, place, case_sensitive)?;
        return Ok(kernel::boolean(format!("{name} {needle:?}"), &[&left], move |cells, row| {
            Some(finder.found(cells.text(0, row)) != negated)
        }));
    }
    Ok(kernel::boolean(name, &[&left, &right], move |cells, row| {
        let (text, needle) = (cells.text(0, row), cells.text(1, row));
        let found = if case_sensitive {
            found(text, needle, place)
        } else {
            found(&text.to_lowercase(), &needle.to_lowercase(), place)
        };
        Some(found != negated)
    }))
}

/// `has_any` or `has_all` with constant terms.
pub(super) fn has_many(target: &Scalar, terms: &[String], all: bool) -> Result<Scalar, KustoError> {
    let finders = terms.iter().map(|term| Finder::new(term, Place::Term, false)).collect::<Result<Vec<_>, _>>()?;
    Ok(kernel::boolean(format!("has_many {all} {terms:?}"), &[target], move |cells, row| {
        let text = cells.text(0, row);
        Some(if all {
            finders.iter().all(|finder| finder.found(text))
        } else {
            finders.iter().any(|finder| finder.found(text))
        })
    }))
}

/// The value in lower case.
pub(super) fn lower(value: &Scalar) -> Scalar {
    kernel::text("tolower", ScalarType::String, &[value], |cells, row| {
        let text = cells.text(0, row);
        let lower = !text.is_ascii() || text.bytes().any(|byte| byte.is_ascii_uppercase());
        Some(if lower { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) })
    })
}

/// A pattern of the query, compiled.
pub(super) fn regex(pattern: &str) -> Result<Regex, KustoError> {
    Regex::new(pattern).map_err(|error| {
        KustoError::semantic("SEM0420", format!("The regular expression {pattern:?} is not valid: {error}"))
    })
}

/// A constant text to look for, prepared once. The search itself is the regex crate's, which knows Unicode's case folding and scans fast.
#[derive(Clone)]
struct Finder {
    needle: Arc<str>,
    place: Place,
    regex: Option<Regex>,
}

impl Finder {
    fn new(needle: &str, place: Place, case_sensitive: bool) -> Result<Self, KustoError> {
        let escaped = regex::escape(needle);
        let pattern = match place {
            Place::Whole => format!("(?is)^{escaped}$"),
            Place::Start => format!("(?is)^{escaped}"),
            Place::End => format!("(?is){escaped}$"),
            Place::Anywhere | Place::Term | Place::TermStart | Place::TermEnd => format!("(?is){escaped}"),
        };
        let regex = if case_sensitive { None } else { Some(regex(&pattern)?) };
        Ok(Self { needle: needle.into(), place, regex })
    }

    fn found(&self, text: &str) -> bool {
        let Some(regex) = &self.regex else {
            return found(text, &self.needle, self.place);
        };
        if matches!(self.place, Place::Whole | Place::Start | Place::End | Place::Anywhere) {
            return regex.is_match(text);
        }
        let mut from = 0;
        while let Some(hit) = regex.find_at(text, from) {
            if at_term(text, hit.start(), hit.end(), self.place) {
                return true;
            }
            from = hit.start() + text[hit.start()..].chars().next().map_or(1, char::len_utf8);
            if from > text.len() {
                return false;
            }
        }
        false
    }
}

fn found(text: &str, needle: &str, place: Place) -> bool {
    match place {
        Place::Anywhere => text.contains(needle),
        Place::Whole => text == needle,
        Place::Start => text.starts_with(needle),
        Place::End => text.ends_with(needle),
        Place::Term | Place::TermStart | Place::TermEnd => {
            needle.is_empty() || text.match_indices(needle).any(|(at, hit)| at_term(text, at, at + hit.len(), place))
        }
    }
}

/// Whether a hit begins and ends where a term does, as far as the operator asks for it.
fn at_term(text: &str, start: usize, end: usize, place: Place) -> bool {
    if start == end {
        return true;
    }
    let inside = |left: Option<char>, right: Option<char>| {
        left.is_some_and(char::is_alphanumeric) && right.is_some_and(char::is_alphanumeric)
    };
    let (before, hit, after) = (&text[..start], &text[start..end], &text[end..]);
    let begins = !inside(before.chars().next_back(), hit.chars().next());
    let ends = !inside(hit.chars().next_back(), after.chars().next());
    match place {
        Place::Term => begins && ends,
        Place::TermStart => begins,
        Place::TermEnd => ends,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(text: &str, needle: &str) -> bool {
        let loose = Finder::new(needle, Place::Term, false).expect("a literal is a valid pattern").found(text);
        assert!(loose || !found(text, needle, Place::Term), "what has_cs finds, has finds: {text} {needle}");
        loose
    }

    #[test]
    fn a_term_is_a_run_of_letters_and_digits() {
        for (text, needle) in [("foo_bar", "FOO"), ("a.b", "b"), ("x foo bar y", "foo bar"), ("x", ""), ("É-1", "é")]
        {
            assert!(has(text, needle), "{text} has {needle}");
        }
        for (text, needle) in [("foobar", "foo"), ("afoo", "foo"), ("", "x"), ("aaa", "aa")] {
            assert!(!has(text, needle), "{text} !has {needle}");
        }
        assert!(has("xfoo foo", "foo"));
    }
}
