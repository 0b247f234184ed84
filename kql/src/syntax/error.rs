//! Why a text was refused, and where. Pure values; made by the lexer and the parser, shown to whoever sent the text.

use std::fmt;

/// What sort of refusal a [`SyntaxError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyntaxErrorKind {
    /// The text is not Kusto's language.
    Syntax,
    /// Kusto knows the construct; this implementation refuses it by name.
    Unsupported,
    /// The text nests or chains more than the parser allows.
    TooDeep,
}

impl fmt::Display for SyntaxErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "syntax error",
            Self::Unsupported => "unsupported syntax",
            Self::TooDeep => "too deep",
        })
    }
}

/// A refused text: what was expected, what was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// The sort of refusal.
    pub kind: SyntaxErrorKind,
    /// What was expected and what was found; never the value of a string literal, which may be a secret.
    pub message: String,
    /// Byte offset in the text.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl SyntaxError {
    /// An error at a byte offset of `text`; an offset outside of it, or inside a character, counts as the next smaller valid one.
    pub fn new(kind: SyntaxErrorKind, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let offset = text.floor_char_boundary(offset);
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            kind,
            message: message.into(),
            offset,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let error = SyntaxError::new(SyntaxErrorKind::Syntax, "é\nüx|", 5, "expected ')', found '|'");
        assert_eq!((error.line, error.column), (2, 2));
        let error =
            SyntaxError::new(SyntaxErrorKind::Syntax, "T |", 99, "expected an operator, found the end of the text");
        assert_eq!(
            error.to_string(),
            "syntax error at line 1, column 4: expected an operator, found the end of the text"
        );
    }
}
