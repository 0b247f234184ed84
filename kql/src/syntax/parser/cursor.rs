//! The cursor: tokens, words, names and strings one after the other. What the grammar and the local server's management commands are both made of.

use super::{Parser, Result};
use crate::syntax::{
    ast::Ident,
    error::{SyntaxError, SyntaxErrorKind},
    string,
    token::{Token, TokenKind},
};

impl<'a> Parser<'a> {
    /// The next token, which stays.
    ///
    /// # Errors
    /// The text there is no token.
    pub fn peek(&mut self) -> Result<Token<'a>> {
        if let Some(token) = self.peeked {
            return Ok(token);
        }
        let token = self.lexer.next_token()?;
        self.peeked = Some(token);
        Ok(token)
    }

    /// Takes the next token; the end of the text may be taken any number of times.
    ///
    /// # Errors
    /// The text there is no token.
    pub fn next_token(&mut self) -> Result<Token<'a>> {
        let token = self.peek()?;
        self.peeked = None;
        self.end = token.span.end;
        Ok(token)
    }

    /// The whole text.
    pub fn text(&self) -> &'a str {
        self.lexer.text()
    }

    /// The byte offset behind the last token that was taken.
    pub fn offset(&self) -> usize {
        self.end
    }

    /// The text behind the last token that was taken, blanks included: the raw data of a command.
    pub fn rest(&self) -> &'a str {
        self.text().get(self.end..).unwrap_or_default()
    }

    /// Whether the text has ended.
    ///
    /// # Errors
    /// The text there is no token.
    pub fn at_end(&mut self) -> Result<bool> {
        Ok(self.peek()?.kind == TokenKind::End)
    }

    /// Succeeds at the end of the text.
    ///
    /// # Errors
    /// Something follows.
    pub fn expect_end(&mut self) -> Result<()> {
        if self.at_end()? { Ok(()) } else { self.expected("the end of the text") }
    }

    /// Whether the next token is this word or punctuation.
    ///
    /// # Errors
    /// The text there is no token.
    pub fn at(&mut self, text: &str) -> Result<bool> {
        Ok(self.peek()?.is(text))
    }

    /// Takes this word or punctuation if it is next: `eat(",")`, `eat("with")`.
    ///
    /// # Errors
    /// The text there is no token.
    pub fn eat(&mut self, text: &str) -> Result<bool> {
        let found = self.at(text)?;
        if found {
            self.next_token()?;
        }
        Ok(found)
    }

    /// Takes this word or punctuation.
    ///
    /// # Errors
    /// Something else is next.
    pub fn expect(&mut self, text: &str) -> Result<Token<'a>> {
        if self.at(text)? { self.next_token() } else { self.expected(&format!("'{text}'")) }
    }

    /// The words from here on that are joined by hyphens without blanks, as one: `create-or-alter`, or `tables`. Takes nothing.
    ///
    /// # Errors
    /// The text there is no token.
    pub fn peek_hyphenated(&mut self) -> Result<Option<&'a str>> {
        let first = self.peek()?;
        if first.kind != TokenKind::Word {
            return Ok(None);
        }
        let mut ahead = self.clone();
        ahead.next_token()?;
        let mut end = ahead.end;
        // What follows may be no token at all; then the word ends before it, and whoever reads on reports it.
        while let Ok(hyphen) = ahead.next_token() {
            if !hyphen.is("-") || hyphen.span.start != end {
                break;
            }
            match ahead.next_token() {
                Ok(word) if word.kind == TokenKind::Word && word.span.start == hyphen.span.end => end = word.span.end,
                _ => break,
            }
        }
        Ok(self.text().get(first.span.start..end))
    }

    /// Takes words joined by hyphens: `create-or-alter`, `set-or-append`, `tables`.
    ///
    /// # Errors
    /// No word is next.
    pub fn hyphenated(&mut self) -> Result<&'a str> {
        match self.peek_hyphenated()? {
            Some(word) => {
                let start = self.peek()?.span.start;
                self.skip_to(start + word.len());
                Ok(word)
            }
            None => self.expected("a word"),
        }
    }

    /// Takes exactly this hyphenated word, if it is next.
    ///
    /// # Errors
    /// The text there is no token.
    pub fn eat_hyphenated(&mut self, word: &str) -> Result<bool> {
        let found = self.peek_hyphenated()? == Some(word);
        if found {
            self.hyphenated()?;
        }
        Ok(found)
    }

    /// Takes a name: any word, keywords included, or `['any text']`, `["any text"]`.
    ///
    /// # Errors
    /// Something else is next.
    pub fn name(&mut self) -> Result<Ident> {
        if let Some(name) = self.eat_quoted_name()? {
            return Ok(name);
        }
        if self.at("[")? {
            return self.expected("a name (in brackets it stands in quotes: ['a b'])");
        }
        if self.peek()?.kind != TokenKind::Word {
            return self.expected("a name");
        }
        let token = self.next_token()?;
        Ok(Ident { name: token.text.to_owned(), span: token.span })
    }

    /// Takes a string literal of any form; literals side by side are one.
    ///
    /// # Errors
    /// Something else is next, or the string holds an escape that Kusto does not know.
    pub fn string(&mut self) -> Result<String> {
        if self.peek()?.kind != TokenKind::String {
            return self.expected("a string");
        }
        let mut value = String::new();
        while self.peek()?.kind == TokenKind::String {
            value.push_str(&self.string_token()?);
        }
        Ok(value)
    }

    pub(super) fn string_token(&mut self) -> Result<String> {
        let token = self.next_token()?;
        string::value(token.text)
            .map_err(|(offset, message)| self.error_at(SyntaxErrorKind::Syntax, token.span.start + offset, message))
    }

    /// An error at the next token: `expected {what}, found '|'`.
    ///
    /// # Errors
    /// Always.
    pub fn expected<T>(&mut self, what: &str) -> Result<T> {
        let found = self.peek()?;
        Err(self.error_at(
            SyntaxErrorKind::Syntax,
            found.span.start,
            format!("expected {what}, found {}", found.describe()),
        ))
    }

    /// An error at a byte offset of the text, for the caller's own rules.
    pub fn error_at(&self, kind: SyntaxErrorKind, offset: usize, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(kind, self.text(), offset, message)
    }
}
