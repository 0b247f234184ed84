//! Tokens: pieces of the text with their positions. They borrow the text and hold no decoded values, so that looking ahead costs a copy.

use super::ast::Span;

/// What sort of token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A name or a keyword: which of them, only its place tells. Also `in~`.
    Word,
    /// An operator's negation: `!in`, `!in~`, `!has`, `!between`.
    NegatedWord,
    /// `12`, `0x1F`
    Long,
    /// `1.5`, `1e3`
    Real,
    /// `1d`, `1.5h`, `5ms`
    Timespan,
    /// A string literal of any form, with its quotes.
    String,
    /// An operator or a bracket.
    Punctuation,
    /// The end of the text.
    End,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What sort it is.
    pub kind: TokenKind,
    /// As written; empty at the end.
    pub text: &'a str,
    /// Where it stands.
    pub span: Span,
}

impl Token<'_> {
    /// Whether this is the word, the negated word or the punctuation `text`. Keywords are case-sensitive, as in Kusto.
    pub fn is(&self, text: &str) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::NegatedWord | TokenKind::Punctuation) && self.text == text
    }

    /// The token as an error message shows it. A string's value stays out of it: it may be a secret.
    pub fn describe(&self) -> String {
        match self.kind {
            TokenKind::End => "the end of the text".to_owned(),
            TokenKind::String => "a string".to_owned(),
            _ if self.text.len() > 40 => format!("'{}…'", &self.text[..self.text.floor_char_boundary(40)]),
            _ => format!("'{}'", self.text),
        }
    }
}
