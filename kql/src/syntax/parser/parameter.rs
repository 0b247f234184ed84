//! Names with types, and the `name=value` parameters of operators. Called by the statement, source and operator grammars.

use super::{Parser, Result};
use crate::{
    syntax::{
        ast::{ColumnDeclaration, Ident, Literal, OperatorParameter, Parameter, ParameterType, ParameterValue, Span},
        error::SyntaxErrorKind,
        keywords,
        token::TokenKind,
    },
    types::ScalarType,
};

/// The parameters that an operator takes.
pub(super) struct Known {
    /// For messages.
    pub(super) operator: &'static str,
    pub(super) names: &'static [&'static str],
    /// Whether it takes `hint.*`.
    pub(super) hints: bool,
    /// Whether `name = expr` may follow the parameters, so that another name is a column's.
    pub(super) columns_follow: bool,
}

impl Parser<'_> {
    /// Takes a scalar type by one of its names: `long`, `datetime`, ...
    ///
    /// # Errors
    /// Something else is next.
    pub fn scalar_type(&mut self) -> Result<ScalarType> {
        let token = self.peek()?;
        match token.text.parse() {
            Ok(scalar_type) if token.kind == TokenKind::Word => {
                self.next_token()?;
                Ok(scalar_type)
            }
            _ => self.expected("a type (bool, datetime, decimal, dynamic, guid, int, long, real, string or timespan)"),
        }
    }

    /// `(a:long, ['b c']:string)`; may be empty.
    ///
    /// # Errors
    /// Something else is next.
    pub fn column_declarations(&mut self) -> Result<Vec<ColumnDeclaration>> {
        self.bracketed("(", ")", |parser| {
            if parser.at(")")? {
                return Ok(vec![]);
            }
            parser.separated(|parser| {
                let name = parser.declaration("a column name")?;
                parser.expect(":")?;
                Ok(ColumnDeclaration { name, scalar_type: parser.scalar_type()? })
            })
        })
    }

    /// `(a:long, b:string = "x", T:(x:long))`; may be empty.
    pub(super) fn parameters(&mut self) -> Result<Vec<Parameter>> {
        self.bracketed("(", ")", |parser| if parser.at(")")? { Ok(vec![]) } else { parser.separated(Self::parameter) })
    }

    fn parameter(&mut self) -> Result<Parameter> {
        let name = self.declaration("a parameter name")?;
        self.expect(":")?;
        if self.at("(")? {
            let any_columns = self.ahead(1).is_some_and(|token| token.is("*"));
            let columns = if any_columns {
                self.bracketed("(", ")", |parser| parser.expect("*"))?;
                vec![]
            } else {
                self.column_declarations()?
            };
            return Ok(Parameter { name, kind: ParameterType::Table(columns), default: None });
        }
        let kind = ParameterType::Scalar(self.scalar_type()?);
        let default = if self.eat("=")? { Some(self.signed_literal()?) } else { None };
        Ok(Parameter { name, kind, default })
    }

    /// Takes the parameters behind an operator's word. A parameter that is not `known` is refused, because one that is skipped changes the result
    /// silently.
    pub(super) fn operator_parameters(&mut self, known: &Known) -> Result<Vec<OperatorParameter>> {
        let mut parameters = vec![];
        while let Some((name, tokens)) = self.peek_parameter_name()? {
            let hint = name.name.starts_with("hint.");
            if !(known.names.contains(&name.name.as_str()) || (hint && known.hints)) {
                if known.columns_follow && !hint {
                    break;
                }
                let message = format!("{} has no parameter '{}'", known.operator, name.name);
                return Err(self.error_at(SyntaxErrorKind::Syntax, name.span.start, message));
            }
            for _ in 0..tokens {
                self.next_token()?;
            }
            parameters.push(self.parameter_behind(name)?);
        }
        Ok(parameters)
    }

    /// The name of a parameter, if `name =` or `hint.name =` is next, and how many tokens that is.
    fn peek_parameter_name(&mut self) -> Result<Option<(Ident, usize)>> {
        let token = self.peek()?;
        if token.kind != TokenKind::Word {
            return Ok(None);
        }
        let tokens = if self.at_hint()? { 4 } else { 2 };
        let (Some(last), Some(equals)) = (self.ahead(tokens - 2), self.ahead(tokens - 1)) else {
            return Ok(None);
        };
        let span = Span { start: token.span.start, end: last.span.end };
        let name = self.text()[span.start..span.end].to_owned();
        Ok(equals.is("=").then_some((Ident { name, span }, tokens)))
    }

    /// Whether `hint.name` is next, without blanks.
    pub(super) fn at_hint(&mut self) -> Result<bool> {
        let hint = self.peek()?;
        let (Some(dot), Some(name)) = (self.ahead(1), self.ahead(2)) else {
            return Ok(false);
        };
        let adjacent = hint.span.end == dot.span.start && dot.span.end == name.span.start;
        Ok(hint.is("hint") && dot.is(".") && name.kind == TokenKind::Word && adjacent)
    }

    /// The value of a parameter whose name and equals sign were taken: a name or a literal.
    pub(super) fn parameter_behind(&mut self, name: Ident) -> Result<OperatorParameter> {
        let token = self.peek()?;
        let named = token.is("[")
            || (token.kind == TokenKind::Word
                && keywords::boolean(token.text).is_none()
                && !self.at_literal_word(token));
        let value = if named {
            ParameterValue::Name(self.name()?)
        } else if token.kind == TokenKind::String {
            // Not joined with a string behind it, which may be the first column.
            ParameterValue::Literal(Literal::String(self.string_token()?))
        } else {
            ParameterValue::Literal(self.signed_literal()?)
        };
        Ok(OperatorParameter { name, value })
    }
}
