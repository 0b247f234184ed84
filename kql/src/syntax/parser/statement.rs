//! Statements: a query's, a function body's and a macro-expand body's. Called for whole texts and by the source grammar.

use super::{Parser, Result};
use crate::syntax::{
    ast::{FunctionLiteral, LetValue, Query, Statement},
    token::TokenKind,
};

impl Parser<'_> {
    /// Statements up to the end of the text. Empty ones are skipped; one at least must be there.
    ///
    /// # Errors
    /// A statement is wrong, not supported, or too deep; or there is none.
    pub fn query(&mut self) -> Result<Query> {
        let mut statements = vec![];
        loop {
            self.skip_empty_statements()?;
            if self.at_end()? {
                break;
            }
            statements.push(self.statement()?);
            if !self.at_end()? && !self.at(";")? {
                return self.expected("'|', ';' or the end of the query");
            }
        }
        if statements.is_empty() { self.expected("a statement") } else { Ok(Query { statements }) }
    }

    /// `(a:long) { T | where x > a }`, `view () { T }`
    ///
    /// # Errors
    /// None is here, or it is not supported, or it is too deep.
    pub fn function_literal(&mut self) -> Result<FunctionLiteral> {
        let view = self.eat("view")?;
        Ok(FunctionLiteral { view, parameters: self.parameters()?, body: self.function_body()? })
    }

    /// `{ statements }`: a function's body, or the query of a materialized view.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn function_body(&mut self) -> Result<Vec<Statement>> {
        self.open("{")?;
        let body = self.body("}")?;
        self.close("}")?;
        Ok(body)
    }

    fn statement(&mut self) -> Result<Statement> {
        self.check_supported_statement()?;
        let token = self.peek()?;
        match token.text {
            "let" if self.at_let() => self.let_statement(),
            "set" if token.kind == TokenKind::Word => self.set_statement(),
            "declare" if self.ahead(1).is_some_and(|next| next.is("query_parameters")) => {
                self.next_token()?;
                self.next_token()?;
                let start = self.peek()?;
                let parameters = self.parameters()?;
                if parameters.is_empty() {
                    return Err(self.error_at(
                        crate::syntax::error::SyntaxErrorKind::Syntax,
                        start.span.start,
                        "expected a parameter, found '()'",
                    ));
                }
                Ok(Statement::QueryParameters(parameters))
            }
            _ => Ok(Statement::Expression(self.pipeline()?)),
        }
    }

    /// The statements of a function's or a macro-expand's body, up to `close`: `let` statements, then one expression.
    pub(super) fn body(&mut self, close: &str) -> Result<Vec<Statement>> {
        let mut statements = vec![];
        self.skip_empty_statements()?;
        while self.at_let() {
            statements.push(self.let_statement()?);
            self.expect(";")?;
            self.skip_empty_statements()?;
        }
        if self.at("set")? || self.at("declare")? {
            return self.expected("'let' or an expression: a body has no other statements");
        }
        statements.push(Statement::Expression(self.pipeline()?));
        self.skip_empty_statements()?;
        if !self.at(close)? {
            return self.expected(&format!("'|' or '{close}'"));
        }
        Ok(statements)
    }

    fn skip_empty_statements(&mut self) -> Result<()> {
        while self.eat(";")? {}
        Ok(())
    }

    /// `let` may also be a table's name.
    fn at_let(&mut self) -> bool {
        let named = |token: crate::syntax::token::Token<'_>| token.kind == TokenKind::Word || token.is("[");
        self.ahead(0).is_some_and(|token| token.is("let")) && self.ahead(1).is_some_and(named)
    }

    fn let_statement(&mut self) -> Result<Statement> {
        self.expect("let")?;
        let name = self.strict_name("a name")?;
        self.expect("=")?;
        let value = if self.at("entity_group")? && self.ahead(1).is_some_and(|token| token.is("[")) {
            LetValue::EntityGroup(self.inline_entity_group()?)
        } else if self.at_function()? {
            LetValue::Function(self.function_literal()?)
        } else {
            LetValue::Expression(self.pipeline()?)
        };
        Ok(Statement::Let { name, value })
    }

    /// Whether a function stands here: `() {`, `(name :`, either behind `view`. In parentheses an expression may stand as well.
    fn at_function(&mut self) -> Result<bool> {
        let open = usize::from(self.at("view")?);
        let is = |places: usize, text: &str| self.ahead(open + places).is_some_and(|token| token.is(text));
        if !is(0, "(") {
            return Ok(false);
        }
        if is(1, ")") {
            return Ok(is(2, "{"));
        }
        Ok(is(2, ":") || (is(1, "[") && is(4, ":")))
    }

    fn set_statement(&mut self) -> Result<Statement> {
        self.expect("set")?;
        let option = self.name()?;
        let value = if self.eat("=")? { Some(self.signed_literal()?) } else { None };
        Ok(Statement::Set { option, value })
    }
}
