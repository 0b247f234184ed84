//! Cuts a KQL text into tokens, one at a time. No I/O, no panic on any input; called by the parser's cursor.
//!
//! The lexer is lazy because a management command may carry raw data after `<|`, and because the inside of `datetime(...)` follows no token rules: what
//! nobody asks for is never cut. Where the rules come from: Microsoft's parser (`@kusto/language-service-next` 12.4.1), run on the odd cases.

use super::{
    ast::Span,
    error::{SyntaxError, SyntaxErrorKind},
    string,
    token::{Token, TokenKind},
};

/// Longest first, so that `<|` is not read as `<`.
const PUNCTUATION: &[&str] = &[
    "<|", "<=", "<>", "==", "=~", "=>", "!=", "!~", ">=", "..", "(", ")", "[", "]", "{", "}", ",", ";", ":", ".", "|",
    "=", "<", ">", "+", "-", "*", "/", "%", "?", "@", "~", "&", "#",
];

/// The units of a timespan literal, with their length in nanoseconds (a tick is 100 of them).
const UNITS: &[(&[&str], i64)] = &[
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000_000_000),
    (&["m", "min", "minute", "minutes"], 60_000_000_000),
    (&["s", "sec", "second", "seconds"], 1_000_000_000),
    (&["ms", "milli", "millis", "millisec", "millisecond", "milliseconds"], 1_000_000),
    (&["micro", "micros", "microsec", "microsecond", "microseconds"], 1_000),
    (&["tick", "ticks"], 100),
    (&["nano", "nanos", "nanosec", "nanosecond", "nanoseconds"], 1),
];

/// The length of a timespan unit in nanoseconds.
pub(super) fn unit_nanoseconds(unit: &str) -> Option<i64> {
    UNITS.iter().find(|(names, _)| names.contains(&unit)).map(|(_, nanoseconds)| *nanoseconds)
}

/// A position in a text. Copying it looks ahead.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    /// The whole text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The byte offset behind the last token.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Goes on at a byte offset, which must be a character boundary of the text: the parser skips raw text with it.
    pub(super) fn set_offset(&mut self, offset: usize) {
        self.offset = self.text.floor_char_boundary(offset);
    }

    /// The next token; [`TokenKind::End`] at the end, as often as one asks.
    ///
    /// # Errors
    /// An unterminated string, or a character that begins no token.
    pub fn next_token(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.skip_blanks();
        let start = self.offset;
        let rest = &self.text[start..];
        let Some(first) = rest.chars().next() else {
            return Ok(self.token(TokenKind::End, 0));
        };
        if let Some(length) = string::literal_length(rest) {
            let length = length.map_err(|message| self.error(start, message))?;
            return Ok(self.token(TokenKind::String, length));
        }
        if first.is_ascii_digit() {
            let (kind, length) = number(rest);
            return Ok(self.token(kind, length));
        }
        if first.is_ascii_alphabetic() || matches!(first, '_' | '$') {
            let length = word_length(rest);
            if length == 1 && first == '$' {
                return Err(self.error(start, "expected a name after '$'"));
            }
            return Ok(self.token(TokenKind::Word, length));
        }
        if let Some(after) = rest.strip_prefix('!')
            && after.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            return Ok(self.token(TokenKind::NegatedWord, 1 + word_length(after)));
        }
        if rest.starts_with("/*") {
            return Err(self.error(start, "Kusto has no comments in /* */: // begins one that ends with its line"));
        }
        if let Some(punctuation) = PUNCTUATION.iter().find(|punctuation| rest.starts_with(**punctuation)) {
            return Ok(self.token(TokenKind::Punctuation, punctuation.len()));
        }
        let hint = if first.is_alphabetic() { ": a name that holds it is written ['...']" } else { "" };
        Err(self.error(start, format!("unexpected character {first:?}{hint}")))
    }

    fn token(&mut self, kind: TokenKind, length: usize) -> Token<'a> {
        let start = self.offset;
        self.offset += length;
        Token { kind, text: &self.text[start..self.offset], span: Span { start, end: self.offset } }
    }

    fn error(&self, offset: usize, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(SyntaxErrorKind::Syntax, self.text, offset, message)
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.offset..];
            let trimmed = rest.trim_start_matches(is_blank);
            self.offset = self.text.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            // U+2028 and U+2029 end a comment too; U+0085 does not.
            let length = trimmed.find(['\n', '\r', '\u{2028}', '\u{2029}']).unwrap_or(trimmed.len());
            self.offset += length;
        }
    }
}

/// Kusto's blanks: Unicode's, without the vertical tab and U+0085, with the zero-width ones that editors leave behind.
fn is_blank(c: char) -> bool {
    match c {
        '\u{b}' | '\u{85}' => false,
        '\u{180e}' | '\u{200b}' | '\u{feff}' => true,
        _ => c.is_whitespace(),
    }
}

/// The length of the word at the start of `rest`; `in~` is one word.
fn word_length(rest: &str) -> usize {
    let mut length = rest.char_indices().find(|(i, c)| !is_word_part(*c, *i)).map_or(rest.len(), |(i, _)| i);
    if &rest[..length] == "in" && rest[length..].starts_with('~') {
        length += 1;
    }
    length
}

fn is_word_part(c: char, index: usize) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || (c == '$' && index == 0)
}

/// Kind and length of what begins with a digit: a number, a timespan, or a name such as `9lives`.
fn number(rest: &str) -> (TokenKind, usize) {
    let whole = run(rest, |c| c.is_ascii_digit());
    let word = run(rest, |c| c.is_ascii_alphanumeric() || c == '_');
    let suffix = &rest[whole..word];
    if suffix.is_empty() {
        let after = &rest[whole..];
        if !after.starts_with('.') || after.starts_with("..") {
            return (TokenKind::Long, whole);
        }
        let fraction = whole + 1 + run(&after[1..], |c| c.is_ascii_digit());
        if let Some(exponent) = exponent(&rest[fraction..]) {
            return (TokenKind::Real, fraction + exponent);
        }
        let unit = run(&rest[fraction..], |c| c.is_ascii_alphanumeric() || c == '_');
        if unit_nanoseconds(&rest[fraction..fraction + unit]).is_some() {
            return (TokenKind::Timespan, fraction + unit);
        }
        return (TokenKind::Real, fraction);
    }
    if unit_nanoseconds(suffix).is_some() {
        return (TokenKind::Timespan, word);
    }
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"))
        && word > 2
        && run(hex, |c| c.is_ascii_hexdigit()) == word - 2
    {
        return (TokenKind::Long, word);
    }
    match exponent(&rest[whole..]) {
        Some(exponent) => (TokenKind::Real, whole + exponent),
        None => (TokenKind::Word, word),
    }
}

/// The length of `e5`, `E-3`, `e+10` at the start of `rest`, when no letter follows.
fn exponent(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix(['e', 'E'])?;
    let sign = usize::from(after.starts_with(['+', '-']));
    let digits = run(&after[sign..], |c| c.is_ascii_digit());
    let end = &after[sign + digits..];
    (digits > 0 && !end.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')).then_some(1 + sign + digits)
}

/// The length in bytes of the run of characters at the start.
fn run(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !belongs(c)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<(TokenKind, &str)> {
        let mut lexer = Lexer::new(text);
        let mut tokens = vec![];
        loop {
            let token = lexer.next_token().unwrap();
            if token.kind == TokenKind::End {
                return tokens;
            }
            tokens.push((token.kind, token.text));
        }
    }

    #[test]
    fn words_numbers_and_timespans_are_told_apart_by_their_suffix() {
        use TokenKind::{Long, Real, Timespan, Word};
        assert_eq!(
            tokens(
                "a _a $left 9lives 1d2h 1w 0x1F 0x1G 12 1.5 1. 1e5 1.5e-3 1e5x 1d 1.5h 5ms 6microseconds 7tick 8nanos"
            ),
            [
                (Word, "a"),
                (Word, "_a"),
                (Word, "$left"),
                (Word, "9lives"),
                (Word, "1d2h"),
                (Word, "1w"),
                (Long, "0x1F"),
                (Word, "0x1G"),
                (Long, "12"),
                (Real, "1.5"),
                (Real, "1."),
                (Real, "1e5"),
                (Real, "1.5e-3"),
                (Word, "1e5x"),
                (Timespan, "1d"),
                (Timespan, "1.5h"),
                (Timespan, "5ms"),
                (Timespan, "6microseconds"),
                (Timespan, "7tick"),
                (Timespan, "8nanos"),
            ]
        );
    }

    #[test]
    fn a_range_is_no_fraction_and_a_subtraction_is_no_name() {
        use TokenKind::{Long, Punctuation, Word};
        assert_eq!(tokens("1..2"), [(Long, "1"), (Punctuation, ".."), (Long, "2")]);
        assert_eq!(tokens("a-b"), [(Word, "a"), (Punctuation, "-"), (Word, "b")]);
    }

    #[test]
    fn operators_are_cut_longest_first() {
        use TokenKind::{NegatedWord, Punctuation, Word};
        assert_eq!(
            tokens("<| <= <> == =~ => != !~ !in !in~ in~ !has_cs"),
            [
                (Punctuation, "<|"),
                (Punctuation, "<="),
                (Punctuation, "<>"),
                (Punctuation, "=="),
                (Punctuation, "=~"),
                (Punctuation, "=>"),
                (Punctuation, "!="),
                (Punctuation, "!~"),
                (NegatedWord, "!in"),
                (NegatedWord, "!in~"),
                (Word, "in~"),
                (NegatedWord, "!has_cs"),
            ]
        );
    }

    #[test]
    fn comments_end_where_kusto_ends_a_line() {
        for end in ["\n", "\r", "\u{2028}", "\u{2029}"] {
            assert_eq!(tokens(&format!("a // 'b{end}c")).len(), 2, "{end:?}");
        }
        for inside in ["\u{85}", "\u{b}", " "] {
            assert_eq!(tokens(&format!("a // b{inside}c")).len(), 1, "{inside:?}");
        }
    }

    #[test]
    fn nothing_behind_the_token_asked_for_is_looked_at() {
        let mut lexer = Lexer::new("T <| 'unterminated");
        assert_eq!(lexer.next_token().unwrap().text, "T");
        assert_eq!(lexer.next_token().unwrap().text, "<|");
        assert_eq!(lexer.offset(), 4);
        assert!(lexer.next_token().is_err());
    }

    #[test]
    fn a_character_outside_the_language_is_named() {
        let error = Lexer::new("ü").next_token().unwrap_err();
        assert_eq!(
            error.to_string(),
            "syntax error at line 1, column 1: unexpected character 'ü': a name that holds it is written ['...']"
        );
        assert_eq!(Lexer::new("\0").next_token().unwrap_err().message, "unexpected character '\\0'");
        assert_eq!(Lexer::new("$").next_token().unwrap_err().message, "expected a name after '$'");
    }
}
