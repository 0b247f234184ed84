//! The parser: a cursor over the tokens and the grammar as methods on it. No I/O, no panic on any input, and no input can exhaust a 2 MiB stack.
//!
//! The functions here read whole texts; they are what the local server's query endpoint and its stored functions call. Its management commands use
//! [`Parser`] itself: words, names and literals as here, and the query in a command by [`Parser::pipeline`] or, when the rest is raw data,
//! [`Parser::rest`].
//!
//! Two limits keep recursion bounded, here and in everything that walks a tree later: [`MAX_DEPTH`] nested brackets and pipelines, and [`MAX_HEIGHT`] nodes from the
//! root of an expression to its deepest leaf, which is what a long `a or b or c ...` grows.

mod cursor;
mod dynamic;
mod expression;
mod literal;
mod operand;
mod operator;
mod parameter;
mod source;
mod statement;
mod unsupported;

use std::mem;

use super::{
    ast::{Expr, FunctionLiteral, Ident, Operator, Query, Span},
    error::{SyntaxError, SyntaxErrorKind},
    keywords,
    lexer::Lexer,
    token::{Token, TokenKind},
};

/// How deep brackets (parentheses, arguments, bodies, `[...]`, JSON in `dynamic(...)`) and the operators behind `|` may nest, each counting one.
pub const MAX_DEPTH: usize = 64;
/// How many nodes an expression may have from its root to its deepest leaf.
pub const MAX_HEIGHT: usize = 500;

type Result<T, E = SyntaxError> = std::result::Result<T, E>;

/// Reads a query: statements separated by `;`.
///
/// # Errors
/// [`SyntaxError`] says what was expected, what was found, and where.
pub fn parse_query(text: &str) -> Result<Query> {
    let mut parser = Parser::new(text);
    let query = parser.query()?;
    parser.expect_end()?;
    Ok(query)
}

/// Reads a function as Kusto stores it: `(a:long) { T | where x > a }`, `view () { T }`.
///
/// # Errors
/// [`SyntaxError`] says what was expected, what was found, and where.
pub fn parse_function(text: &str) -> Result<FunctionLiteral> {
    let mut parser = Parser::new(text);
    let function = parser.function_literal()?;
    parser.expect_end()?;
    Ok(function)
}

/// Reads what follows the first `|` of `.show tables | where ... | count`.
///
/// # Errors
/// [`SyntaxError`] says what was expected, what was found, and where.
pub fn parse_operators(text: &str) -> Result<Vec<Operator>> {
    let mut parser = Parser::new(text);
    let operators = parser.operators()?;
    parser.expect_end()?;
    Ok(operators)
}

/// Reads one expression, scalar or tabular.
///
/// # Errors
/// [`SyntaxError`] says what was expected, what was found, and where.
pub fn parse_expression(text: &str) -> Result<Expr> {
    let mut parser = Parser::new(text);
    let expression = parser.pipeline()?;
    parser.expect_end()?;
    Ok(expression)
}

/// A cursor over the tokens of a text. A clone looks ahead.
///
/// Nothing is cut from the text before it is asked for, so a reader may stop at `<|` and take the [`rest`](Self::rest) as it is. Methods named `eat_*`
/// answer whether they found what they are named after, `expect_*` and the nouns fail without it. All fail on text that is no token.
#[derive(Debug, Clone)]
pub struct Parser<'a> {
    lexer: Lexer<'a>,
    peeked: Option<Token<'a>>,
    /// Behind the last token that was taken.
    end: usize,
    /// Open brackets and pipelines.
    depth: usize,
    /// The height of the tallest tree read since the innermost [`Self::begin_tree`].
    height: usize,
}

impl<'a> Parser<'a> {
    /// A cursor at the start of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { lexer: Lexer::new(text), peeked: None, end: 0, depth: 0, height: 0 }
    }

    /// Takes `['any text']`, if it is next.
    fn eat_quoted_name(&mut self) -> Result<Option<Ident>> {
        if !self.at("[")? {
            return Ok(None);
        }
        let mut ahead = self.clone();
        let start = ahead.next_token()?.span.start;
        if ahead.peek()?.kind != TokenKind::String {
            return Ok(None);
        }
        self.next_token()?;
        let name = self.string_token()?;
        self.expect("]")?;
        if name.is_empty() {
            return Err(self.error_at(SyntaxErrorKind::Syntax, start, "a name is not empty"));
        }
        Ok(Some(Ident { name, span: self.span_from(start) }))
    }

    /// Takes a name where one is declared.
    fn declaration(&mut self, what: &str) -> Result<Ident> {
        self.checked_name(what, keywords::reserved_where_declared)
    }

    /// Takes a name that neither a reference nor a declaration may use bare: `let`, `as`, `project-away`.
    fn strict_name(&mut self, what: &str) -> Result<Ident> {
        self.checked_name(what, |word| {
            keywords::reserved_where_declared(word) || keywords::reserved_where_referred(word)
        })
    }

    fn checked_name(&mut self, what: &str, reserved: fn(&str) -> bool) -> Result<Ident> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Word
                if reserved(token.text) || keywords::boolean(token.text).is_some() || token.text == "in~" =>
            {
                let name = token.text.trim_end_matches('~');
                self.expected(&format!("{what} (a name that equals a keyword is written ['{name}'])"))
            }
            TokenKind::Word => self.name(),
            _ if token.is("[") => self.name(),
            _ => self.expected(what),
        }
    }

    /// The token that many places behind the next one; `None` if the text there is no token.
    fn ahead(&self, places: usize) -> Option<Token<'a>> {
        let mut ahead = self.clone();
        for _ in 0..places {
            ahead.next_token().ok()?;
        }
        ahead.peek().ok()
    }

    /// Goes on at a byte offset at or behind the next token.
    fn skip_to(&mut self, offset: usize) {
        self.peeked = None;
        self.lexer.set_offset(offset);
        self.end = self.lexer.offset();
    }

    fn span_from(&self, start: usize) -> Span {
        Span { start, end: self.end }
    }

    fn unsupported<T>(&self, offset: usize, message: impl Into<String>) -> Result<T> {
        Err(self.error_at(SyntaxErrorKind::Unsupported, offset, message))
    }

    /// Takes an opening bracket. Frames of unoptimised code are large: what every level of nesting runs is kept small and without closures.
    fn open(&mut self, bracket: &str) -> Result<()> {
        self.expect(bracket)?;
        self.deepen()
    }

    /// Takes the closing bracket of the last [`Self::open`].
    fn close(&mut self, bracket: &str) -> Result<()> {
        self.expect(bracket)?;
        self.depth -= 1;
        Ok(())
    }

    /// Goes one level deeper; the caller comes back by `depth -= 1`. After an error nobody does: it ends the reading of a text.
    fn deepen(&mut self) -> Result<()> {
        if self.depth >= MAX_DEPTH {
            let message = format!("brackets and pipelines nest more than {MAX_DEPTH} deep");
            return Err(self.error_at(SyntaxErrorKind::TooDeep, self.end, message));
        }
        self.depth += 1;
        Ok(())
    }

    /// Begins a tree beside those read before; the answer goes to [`Self::end_tree`].
    fn begin_tree(&mut self) -> usize {
        mem::take(&mut self.height)
    }

    /// Ends a tree, whose height its parent will count.
    fn end_tree(&mut self, beside: usize) {
        self.height = self.height.max(beside);
    }

    /// The height of a node over trees of `height`.
    fn height_over(&self, height: usize) -> Result<usize> {
        if height >= MAX_HEIGHT {
            let message =
                format!("an expression of more than {MAX_HEIGHT} levels: a chain of operators is one level a link");
            return Err(self.error_at(SyntaxErrorKind::TooDeep, self.end, message));
        }
        Ok(height + 1)
    }

    /// Puts a node over all that was read since the innermost [`Self::begin_tree`].
    fn grow(&mut self) -> Result<()> {
        self.height = self.height_over(self.height)?;
        Ok(())
    }
}
