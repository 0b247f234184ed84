//! Pipelines, and the tabular sources that begin with a keyword. Called for statements, brackets and the right sides of operators.

use super::{Parser, Result, parameter::Known};
use crate::syntax::{
    ast::{EntityGroup, Expr, ExprKind, Ident, MacroExpand, Source, Span, UnaryOp, UnionClause},
    error::SyntaxErrorKind,
    token::TokenKind,
};

const UNION: Known = Known {
    operator: "union",
    names: &["kind", "withsource", "with_source", "isfuzzy"],
    hints: true,
    columns_follow: false,
};
const MACRO_EXPAND: Known =
    Known { operator: "macro-expand", names: &["kind", "isfuzzy", "best_effort"], hints: true, columns_follow: false };

/// Reads a source from its keyword on.
type Read = fn(&mut Parser<'_>) -> Result<Source>;

impl Parser<'_> {
    /// An expression that may be a whole pipeline or begin with `print`, `range`, `union` or `macro-expand`: what may stand in parentheses.
    ///
    /// # Errors
    /// None is here, or it is not supported, or it is too deep.
    pub fn pipeline(&mut self) -> Result<Expr> {
        self.boxed_pipeline().map(|pipeline| *pipeline)
    }

    pub(super) fn boxed_pipeline(&mut self) -> Result<Box<Expr>> {
        let beside = self.begin_tree();
        let start = self.peek()?.span.start;
        let mut pipeline = self.unpiped()?;
        if self.eat("|")? {
            pipeline = self.piped(pipeline, start)?;
        }
        self.end_tree(beside);
        Ok(pipeline)
    }

    fn piped(&mut self, source: Box<Expr>, start: usize) -> Result<Box<Expr>> {
        self.deepen()?;
        let operators = self.operators()?;
        self.depth -= 1;
        self.grow()?;
        Ok(Box::new(Expr { kind: ExprKind::Pipeline { source, operators }, span: self.span_from(start) }))
    }

    /// What stands before the first `|`: a source that begins with a keyword, or an expression.
    fn unpiped(&mut self) -> Result<Box<Expr>> {
        match self.source()? {
            Some(read) => self.source_expression(read),
            None => self.boxed_expression(),
        }
    }

    fn source_expression(&mut self, read: Read) -> Result<Box<Expr>> {
        let start = self.peek()?.span.start;
        let kind = ExprKind::Source(read(self)?);
        Ok(Box::new(Expr { kind, span: self.span_from(start) }))
    }

    /// How to read the source that is next, if one is.
    fn source(&mut self) -> Result<Option<Read>> {
        let token = self.peek()?;
        if token.kind != TokenKind::Word {
            return Ok(None);
        }
        Ok(match token.text {
            "print" => Some(|parser| parser.print()),
            "range" if self.at_range()? => Some(|parser| parser.range()),
            "union" => Some(|parser| {
                parser.next_token()?;
                parser.union_clause().map(Source::Union)
            }),
            "macro" if self.peek_hyphenated()? == Some("macro-expand") => Some(|parser| parser.macro_expand()),
            "evaluate" if self.ahead(1).is_some_and(|next| next.kind == TokenKind::Word) => {
                return self.unsupported(token.span.start, "'evaluate' is not supported");
            }
            _ => None,
        })
    }

    fn print(&mut self) -> Result<Source> {
        self.expect("print")?;
        Ok(Source::Print(self.named_expressions()?))
    }

    /// `range` is also a function and may be a name: only `range name from` is the source.
    fn at_range(&mut self) -> Result<bool> {
        let from = if self.ahead(1).is_some_and(|token| token.is("[")) { 4 } else { 2 };
        Ok(self.at("range")? && self.ahead(from).is_some_and(|token| token.is("from")))
    }

    fn range(&mut self) -> Result<Source> {
        self.expect("range")?;
        let column = self.declaration("a column name")?;
        self.expect("from")?;
        let from = self.boxed_expression()?;
        self.expect("to")?;
        let to = self.boxed_expression()?;
        self.expect("step")?;
        let step = self.boxed_expression()?;
        Ok(Source::Range { column, from, to, step })
    }

    /// `datatable(a:long) [1, -2]`, which Kusto takes wherever a name may stand; its values are literals only, with or without a sign.
    pub(super) fn data_table(&mut self) -> Result<Box<Expr>> {
        let start = self.expect("datatable")?.span.start;
        let columns = self.column_declarations()?;
        let values = self.bracketed("[", "]", |parser| {
            let mut values = vec![];
            while !parser.at("]")? {
                values.push(parser.data_value()?);
                if !parser.eat(",")? {
                    break;
                }
            }
            Ok(values)
        })?;
        let kind = ExprKind::Source(Source::DataTable { columns, values });
        Ok(Box::new(Expr { kind, span: self.span_from(start) }))
    }

    fn data_value(&mut self) -> Result<Expr> {
        let token = self.peek()?;
        let op = match token.text {
            "-" if token.kind == TokenKind::Punctuation => Some(UnaryOp::Minus),
            "+" if token.kind == TokenKind::Punctuation => Some(UnaryOp::Plus),
            _ => None,
        };
        if op.is_some() {
            self.next_token()?;
            self.check_magnitude()?;
        }
        let start = self.peek()?.span.start;
        let literal = ExprKind::Literal(self.literal()?);
        let literal = Expr { kind: literal, span: self.span_from(start) };
        Ok(match op {
            Some(op) => {
                let kind = ExprKind::Unary { op, operand: Box::new(literal) };
                Expr { kind, span: self.span_from(token.span.start) }
            }
            None => literal,
        })
    }

    /// What follows the word `union`.
    pub(super) fn union_clause(&mut self) -> Result<UnionClause> {
        let parameters = self.operator_parameters(&UNION)?;
        let tables = self.separated(Self::union_table)?;
        Ok(UnionClause { parameters, tables })
    }

    fn union_table(&mut self) -> Result<Expr> {
        if let Some(pattern) = self.eat_wildcard()? {
            return Ok(Expr { kind: ExprKind::Name(pattern.name), span: pattern.span });
        }
        let token = self.peek()?;
        let table = token.kind == TokenKind::Word || token.is("(") || token.is("[");
        if !table || self.at_literal_word(token) || token.is("datatable") {
            return self.expected("a table, or a tabular expression in parentheses");
        }
        let table = *self.operand()?;
        if let ExprKind::Name(name) = &table.kind {
            self.refuse_star_in_quotes(name, table.span)?;
        }
        let star = self.peek()?;
        if star.is("*") && star.span.start == table.span.end {
            return self.unsupported(table.span.start, "a wildcard behind a dot is not supported");
        }
        Ok(table)
    }

    /// A name with `*` in it, `*` standing for any characters, if one is next. It begins with `*` or a name, and holds those and digits.
    pub(super) fn eat_wildcard(&mut self) -> Result<Option<Ident>> {
        let first = self.peek()?;
        let mut ahead = self.clone();
        let mut end = first.span.start;
        while let Ok(token) = ahead.next_token() {
            let digits = token.kind == TokenKind::Long && end > first.span.start;
            let word = token.kind == TokenKind::Word && token.text != "in~";
            if !(token.is("*") || word || digits) || token.span.start != end {
                break;
            }
            end = token.span.end;
        }
        let name = &self.text()[first.span.start..end];
        if !name.contains('*') {
            return Ok(None);
        }
        let name = name.to_owned();
        self.skip_to(end);
        Ok(Some(Ident { name, span: Span { start: first.span.start, end } }))
    }

    /// A `*` inside quotes is a character of the name, and no name of Kusto's holds one; in the tree it would look like a wildcard.
    pub(super) fn refuse_star_in_quotes(&self, name: &str, span: Span) -> Result<()> {
        if name.contains('*') {
            let message = "a name in quotes cannot hold '*': a wildcard is written without them";
            return Err(self.error_at(SyntaxErrorKind::Syntax, span.start, message));
        }
        Ok(())
    }

    fn macro_expand(&mut self) -> Result<Source> {
        self.hyphenated()?;
        let parameters = self.operator_parameters(&MACRO_EXPAND)?;
        let group = self.entity_group()?;
        self.expect("as")?;
        let scope = self.strict_name("a name for the entity in scope")?;
        self.open("(")?;
        let body = self.body(")")?;
        self.close(")")?;
        Ok(Source::MacroExpand(MacroExpand { parameters, group, scope, body }))
    }

    fn entity_group(&mut self) -> Result<EntityGroup> {
        let token = self.peek()?;
        if token.is("entity_group") && !self.ahead(1).is_some_and(|next| next.is("as")) {
            return Ok(EntityGroup::Inline(self.inline_entity_group()?));
        }
        let group = self.strict_name("an entity group")?;
        if self.at(".")? || self.at("(")? {
            return self
                .unsupported(token.span.start, "an entity group outside of the database in scope is not supported");
        }
        Ok(EntityGroup::Named(group))
    }

    /// `entity_group [cluster('a').database('b'), ...]`
    pub(super) fn inline_entity_group(&mut self) -> Result<Vec<Expr>> {
        self.expect("entity_group")?;
        if !self.at("[")? {
            return self.expected(
                "'[': only a list of entities follows 'entity_group', a stored group stands without the word",
            );
        }
        self.bracketed("[", "]", |parser| parser.separated(|parser| parser.operand().map(|entity| *entity)))
    }
}
