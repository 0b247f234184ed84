//! The inside of `dynamic(...)`: JSON with Kusto's strings and with typed literals in it. Called by the literal grammar.

use serde_json::{Map, Number, Value};

use super::{Parser, Result};
use crate::{
    literal,
    syntax::{ast::Literal, error::SyntaxErrorKind, token::TokenKind},
};

impl Parser<'_> {
    /// One value, up to the token behind it.
    pub(super) fn dynamic_value(&mut self) -> Result<Value> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Punctuation if token.text == "{" => {
                self.bracketed("{", "}", Self::dynamic_pairs).map(Value::Object)
            }
            TokenKind::Punctuation if token.text == "[" => {
                self.bracketed("[", "]", Self::dynamic_items).map(Value::Array)
            }
            TokenKind::Word if token.text == "null" => {
                self.next_token()?;
                Ok(Value::Null)
            }
            TokenKind::Punctuation if token.text == "-" => {
                let literal = self.signed_literal()?;
                self.json(literal, token.span.start)
            }
            TokenKind::Punctuation | TokenKind::End => self.expected("a JSON value"),
            _ => {
                let literal = self.literal()?;
                self.json(literal, token.span.start)
            }
        }
    }

    fn dynamic_pairs(&mut self) -> Result<Map<String, Value>> {
        let mut pairs = Map::new();
        if self.at("}")? {
            return Ok(pairs);
        }
        loop {
            let key = self.string()?;
            self.expect(":")?;
            let value = self.dynamic_value()?;
            pairs.insert(key, value);
            if !self.eat(",")? {
                return Ok(pairs);
            }
        }
    }

    fn dynamic_items(&mut self) -> Result<Vec<Value>> {
        if self.at("]")? { Ok(vec![]) } else { self.separated(Self::dynamic_value) }
    }

    /// A literal as JSON holds it: what JSON has no type for becomes the string that Kusto prints.
    fn json(&self, literal: Literal, offset: usize) -> Result<Value> {
        Ok(match literal {
            Literal::Dynamic(value) => value,
            Literal::Bool(value) => value.into(),
            Literal::Int(value) => value.into(),
            Literal::Long(value) => value.into(),
            Literal::String(value) => value.into(),
            Literal::Guid(value) => value.into(),
            Literal::DateTime(ticks) => ticks.map(literal::datetime).into(),
            Literal::Timespan(ticks) => ticks.map(literal::timespan).into(),
            Literal::Real(None) => Value::Null,
            Literal::Real(Some(value)) => match Number::from_f64(value) {
                Some(number) => Value::Number(number),
                None => {
                    let message = "a real that is not finite is not supported in a dynamic value";
                    return Err(self.error_at(SyntaxErrorKind::Unsupported, offset, message));
                }
            },
            Literal::Decimal(_) => {
                return self.unsupported(offset, "a decimal in a dynamic value is not supported");
            }
        })
    }
}
