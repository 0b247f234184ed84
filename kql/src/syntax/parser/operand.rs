//! What stands between operators: literals, names, paths, calls and parentheses; and the lists of values and named expressions that are made of
//! expressions. Called by the expression grammar and by every operator.

use super::{Parser, Result};
use crate::syntax::{
    ast::{Argument, Expr, ExprKind, Ident, NamedExpr, Source},
    error::SyntaxErrorKind,
    keywords,
    token::{Token, TokenKind},
};

impl Parser<'_> {
    /// A primary with its path: `a.b["c"]`, `cluster('a').database('b').T`, `(x)[0]`.
    pub(super) fn operand(&mut self) -> Result<Box<Expr>> {
        let start = self.peek()?.span.start;
        let beside = self.begin_tree();
        let mut operand = self.primary()?;
        while self.at(".")? || self.at("[")? {
            operand = self.step(operand, start)?;
        }
        self.end_tree(beside);
        Ok(operand)
    }

    /// One step of a path.
    fn step(&mut self, target: Box<Expr>, start: usize) -> Result<Box<Expr>> {
        let kind = if self.eat(".")? {
            if self.at("*")? {
                return self.unsupported(self.end, "a wildcard behind a dot is not supported");
            }
            let member = self.reference("a name")?;
            if self.at("(")? {
                ExprKind::MemberCall { target, name: member, arguments: self.arguments(false)? }
            } else {
                ExprKind::Member { target, member }
            }
        } else {
            self.open("[")?;
            let index = self.boxed_expression()?;
            self.close("]")?;
            ExprKind::Index { target, index }
        };
        self.grow()?;
        Ok(Box::new(Expr { kind, span: self.span_from(start) }))
    }

    fn primary(&mut self) -> Result<Box<Expr>> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::String | TokenKind::Long | TokenKind::Real | TokenKind::Timespan => self.literal_expression(),
            TokenKind::Word if self.at_literal_word(token) => self.literal_expression(),
            TokenKind::Word if token.text == "datatable" => self.data_table(),
            TokenKind::Word => self.name_or_call(),
            TokenKind::Punctuation if token.text == "(" => self.parenthesised(),
            TokenKind::Punctuation if token.text == "[" => self.name_or_call(),
            TokenKind::Punctuation
                if token.text == "*" && self.ahead(1).is_some_and(|next| next.kind == TokenKind::Word) =>
            {
                self.unsupported(
                    token.span.start,
                    "'*' for all columns is supported in arguments and behind 'distinct' only",
                )
            }
            _ => self.expected("an expression"),
        }
    }

    fn parenthesised(&mut self) -> Result<Box<Expr>> {
        self.open("(")?;
        let inside = self.boxed_pipeline()?;
        self.close(")")?;
        Ok(inside)
    }

    fn literal_expression(&mut self) -> Result<Box<Expr>> {
        let start = self.peek()?.span.start;
        let literal = self.literal()?;
        Ok(Box::new(Expr { kind: ExprKind::Literal(literal), span: self.span_from(start) }))
    }

    fn name_or_call(&mut self) -> Result<Box<Expr>> {
        let token = self.peek()?;
        // Two calls have a grammar of their own in Kusto: their argument may be a pipeline without parentheses, and their names are keywords.
        let takes_pipeline = keywords::takes_pipeline(token.text) && self.ahead(1).is_some_and(|next| next.is("("));
        let name = if takes_pipeline { self.name()? } else { self.reference("an expression")? };
        let start = name.span.start;
        let kind = if self.at("(")? {
            let arguments = self.arguments(takes_pipeline)?;
            self.grow()?;
            ExprKind::Call { name, arguments }
        } else {
            ExprKind::Name(name.name)
        };
        Ok(Box::new(Expr { kind, span: self.span_from(start) }))
    }

    /// Takes a name that refers to something; keywords need brackets, and constructs that are not supported are refused by name.
    fn reference(&mut self, what: &str) -> Result<Ident> {
        let token = self.peek()?;
        if token.kind == TokenKind::Word {
            let called = self.ahead(1).is_some_and(|next| next.is("("));
            self.check_supported_word(token, called)?;
        }
        self.checked_name(what, keywords::reserved_where_referred)
    }

    /// `(a, b = c, *)`, or a pipeline where the function takes one.
    fn arguments(&mut self, pipeline: bool) -> Result<Vec<Argument>> {
        self.open("(")?;
        let mut arguments = vec![];
        if !self.at(")")? {
            self.push_argument(&mut arguments, pipeline)?;
            while self.eat(",")? {
                self.push_argument(&mut arguments, pipeline)?;
            }
        }
        self.close(")")?;
        Ok(arguments)
    }

    fn push_argument(&mut self, arguments: &mut Vec<Argument>, pipeline: bool) -> Result<()> {
        let token = self.peek()?;
        let name = self.eat_name_before_equals()?;
        let value = if name.is_some() {
            self.boxed_expression()?
        } else if self.eat("*")? {
            Box::new(Expr { kind: ExprKind::Star, span: token.span })
        } else if token.is("typeof") && self.ahead(1).is_some_and(|next| next.is("(")) {
            self.next_token()?;
            let scalar_type = self.bracketed("(", ")", Self::scalar_type)?;
            Box::new(Expr { kind: ExprKind::TypeOf(scalar_type), span: self.span_from(token.span.start) })
        } else {
            self.boxed_pipeline()?
        };
        let alone = pipeline && arguments.is_empty() && !self.at(",")?;
        self.check_alone(&value, token.span.start, alone)?;
        arguments.push(Argument { name, value: *value });
        Ok(())
    }

    /// The values of `in (...)`: at least one; a pipeline only alone.
    pub(super) fn list(&mut self) -> Result<Vec<Expr>> {
        let mut values = vec![];
        loop {
            let start = self.peek()?.span.start;
            let value = self.boxed_pipeline()?;
            let more = self.at(",")?;
            self.check_alone(&value, start, values.is_empty() && !more)?;
            values.push(*value);
            if !self.eat(",")? {
                return Ok(values);
            }
        }
    }

    /// Refuses a pipeline without parentheses where others may stand beside it, as Kusto does: its own commas would take them.
    fn check_alone(&self, value: &Expr, start: usize, alone: bool) -> Result<()> {
        let tabular = match &value.kind {
            ExprKind::Pipeline { .. } => true,
            ExprKind::Source(source) => !matches!(source, Source::DataTable { .. }),
            _ => false,
        };
        // A span leaves out the parentheses around it, so a bare pipeline is one that begins where the value begins.
        let bare = tabular && value.span.start == start;
        if bare && !alone {
            let message = "a tabular expression needs parentheses around it here";
            return Err(self.error_at(SyntaxErrorKind::Syntax, start, message));
        }
        Ok(())
    }

    /// `expr` or `name = expr`
    pub(super) fn named_expression(&mut self) -> Result<NamedExpr> {
        self.refuse_tuple_assignment()?;
        let name = self.eat_name_before_equals()?;
        Ok(NamedExpr { name, value: self.expression()? })
    }

    /// One or more of them, separated by commas.
    pub(super) fn named_expressions(&mut self) -> Result<Vec<NamedExpr>> {
        self.separated(Self::named_expression)
    }

    /// One or more, separated by commas.
    pub(super) fn separated<T>(&mut self, read: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![read(self)?];
        while self.eat(",")? {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// Opening bracket, inside, closing bracket.
    pub(super) fn bracketed<T>(
        &mut self,
        open: &str,
        close: &str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.open(open)?;
        let inside = read(self)?;
        self.close(close)?;
        Ok(inside)
    }

    /// `name =`, if that is next.
    fn eat_name_before_equals(&mut self) -> Result<Option<Ident>> {
        let token = self.peek()?;
        let equals = match token.kind {
            TokenKind::Word => 1,
            TokenKind::Punctuation if token.text == "[" => 3,
            _ => return Ok(None),
        };
        if !self.ahead(equals).is_some_and(|token| token.is("=")) {
            return Ok(None);
        }
        let name = self.declaration("a name")?;
        self.expect("=")?;
        Ok(Some(name))
    }

    /// `(a, b) = f()` takes a tuple apart, for which the tree has no place.
    fn refuse_tuple_assignment(&mut self) -> Result<()> {
        let start = self.peek()?;
        if !start.is("(") {
            return Ok(());
        }
        let mut ahead = self.clone();
        let mut only_names = |token: Token<'_>| {
            matches!(token.kind, TokenKind::Word | TokenKind::String)
                || ["(", ",", "[", "]"].iter().any(|part| token.is(part))
        };
        while ahead.next_token().is_ok_and(&mut only_names) {}
        // An equals sign stands nowhere else behind parentheses.
        if ahead.text()[..ahead.offset()].ends_with(')') && ahead.at("=").unwrap_or(false) {
            return self
                .unsupported(start.span.start, "an assignment to several names in parentheses is not supported");
        }
        Ok(())
    }
}
