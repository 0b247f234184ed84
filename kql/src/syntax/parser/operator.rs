//! What stands behind a `|`. Called by the pipeline grammar and for the operators behind a management command.

use super::{Parser, Result, parameter::Known, unsupported};
use crate::syntax::{
    ast::{
        Expr, ExprKind, Ident, MvExpandColumn, NamedExpr, Operator, OperatorKind, OperatorParameter, Renaming,
        Reordering, SortKey,
    },
    token::TokenKind,
};

const JOIN: Known = Known { operator: "join", names: &["kind"], hints: true, columns_follow: false };
const SUMMARIZE: Known = Known { operator: "summarize", names: &[], hints: true, columns_follow: true };
const MV_EXPAND: Known = Known {
    operator: "mv-expand",
    names: &["kind", "bagexpansion", "with_itemindex"],
    hints: true,
    columns_follow: true,
};

type Read = fn(&mut Parser<'_>) -> Result<OperatorKind>;

/// The supported operators. A table and not a `match`, because the stack frame of one large function would stand in every level of nesting.
const OPERATORS: &[(&str, Read)] = &[
    ("as", |parser| parser.name_result()),
    ("count", |parser| parser.count()),
    ("distinct", |parser| parser.distinct()),
    ("extend", |parser| parser.named_expressions().map(OperatorKind::Extend)),
    ("filter", |parser| parser.expression().map(OperatorKind::Where)),
    ("getschema", |parser| parser.without_clause(OperatorKind::GetSchema, "kind")),
    ("join", |parser| parser.join()),
    ("limit", |parser| parser.expression().map(OperatorKind::Take)),
    ("mv-expand", |parser| parser.mv_expand()),
    ("mvexpand", |parser| parser.mv_expand()),
    ("order", |parser| parser.sort()),
    ("project", |parser| parser.named_expressions().map(OperatorKind::Project)),
    ("project-away", |parser| parser.separated(Parser::column_pattern).map(OperatorKind::ProjectAway)),
    ("project-keep", |parser| parser.separated(Parser::column_pattern).map(OperatorKind::ProjectKeep)),
    ("project-rename", |parser| parser.separated(Parser::renaming).map(OperatorKind::ProjectRename)),
    ("project-reorder", |parser| parser.separated(Parser::reordering).map(OperatorKind::ProjectReorder)),
    ("render", |parser| parser.render()),
    ("sort", |parser| parser.sort()),
    ("summarize", |parser| parser.summarize()),
    ("take", |parser| parser.expression().map(OperatorKind::Take)),
    ("top", |parser| parser.top()),
    ("union", |parser| parser.union_clause().map(OperatorKind::Union)),
    ("where", |parser| parser.expression().map(OperatorKind::Where)),
];

impl Parser<'_> {
    /// Operators separated by `|`, the first without one before it.
    ///
    /// # Errors
    /// One is missing, wrong, not supported, or too deep.
    pub fn operators(&mut self) -> Result<Vec<Operator>> {
        let mut operators = vec![self.operator()?];
        while self.eat("|")? {
            operators.push(self.operator()?);
        }
        Ok(operators)
    }

    fn operator(&mut self) -> Result<Operator> {
        let start = self.peek()?.span.start;
        let read = self.operator_word()?;
        let kind = read(self)?;
        Ok(Operator { kind, span: self.span_from(start) })
    }

    /// Takes an operator's word, if it is supported.
    fn operator_word(&mut self) -> Result<Read> {
        let token = self.peek()?;
        let hyphenated = self.peek_hyphenated()?.unwrap_or_default();
        // `project-away` is one word, `where-a` is `where -a`.
        for word in [hyphenated, token.text] {
            if token.kind != TokenKind::Word {
                break;
            }
            if let Some((_, read)) = OPERATORS.iter().find(|(known, _)| *known == word) {
                self.skip_to(token.span.start + word.len());
                return Ok(*read);
            }
            if unsupported::OPERATORS.contains(&word) {
                return self.unsupported(token.span.start, format!("the operator '{word}' is not supported"));
            }
        }
        self.expected("a tabular operator")
    }

    /// A name, or a pattern with `*` in it.
    fn column_pattern(&mut self) -> Result<Ident> {
        if let Some(pattern) = self.eat_wildcard()? {
            return Ok(pattern);
        }
        let name = self.strict_name("a column name")?;
        self.refuse_star_in_quotes(&name.name, name.span)?;
        Ok(name)
    }

    fn renaming(&mut self) -> Result<Renaming> {
        let new = self.declaration("a column name")?;
        self.expect("=")?;
        Ok(Renaming { new, old: self.strict_name("a column name")? })
    }

    fn reordering(&mut self) -> Result<Reordering> {
        let pattern = self.column_pattern()?;
        let order = self.peek()?;
        if let Some(name @ ("granny-asc" | "granny-desc")) = self.peek_hyphenated()? {
            return self.unsupported(order.span.start, format!("the order '{name}' is not supported"));
        }
        Ok(Reordering { pattern, ascending: self.eat_either("asc", "desc")? })
    }

    fn summarize(&mut self) -> Result<OperatorKind> {
        let parameters = self.operator_parameters(&SUMMARIZE)?;
        let aggregates = if self.at("by")? { vec![] } else { self.named_expressions()? };
        let by = if self.eat("by")? { self.named_expressions()? } else { vec![] };
        Ok(OperatorKind::Summarize { parameters, aggregates, by })
    }

    fn distinct(&mut self) -> Result<OperatorKind> {
        self.refuse_hints("distinct")?;
        let star = self.peek()?;
        if self.eat("*")? {
            let value = Expr { kind: ExprKind::Star, span: star.span };
            return Ok(OperatorKind::Distinct(vec![NamedExpr { name: None, value }]));
        }
        self.named_expressions().map(OperatorKind::Distinct)
    }

    fn count(&mut self) -> Result<OperatorKind> {
        let name = if self.eat("as")? { Some(self.declaration("a column name")?) } else { None };
        Ok(OperatorKind::Count(name))
    }

    /// `top` sorts by one key, as Kusto's does.
    fn top(&mut self) -> Result<OperatorKind> {
        let count = self.expression()?;
        self.expect("by")?;
        Ok(OperatorKind::Top { count, by: vec![self.sort_key()?] })
    }

    fn sort(&mut self) -> Result<OperatorKind> {
        self.expect("by")?;
        self.separated(Self::sort_key).map(OperatorKind::Sort)
    }

    fn sort_key(&mut self) -> Result<SortKey> {
        let value = self.named_expression()?;
        let ascending = self.eat_either("asc", "desc")?;
        let nulls_first = if self.eat("nulls")? {
            match self.eat_either("first", "last")? {
                None => return self.expected("'first' or 'last'"),
                first => first,
            }
        } else {
            None
        };
        Ok(SortKey { value, ascending, nulls_first })
    }

    fn join(&mut self) -> Result<OperatorKind> {
        let parameters = self.operator_parameters(&JOIN)?;
        let right = self.operand()?;
        self.expect("on")?;
        let on = self.separated(Self::expression)?;
        Ok(OperatorKind::Join { parameters, right, on })
    }

    fn mv_expand(&mut self) -> Result<OperatorKind> {
        let parameters = self.operator_parameters(&MV_EXPAND)?;
        let columns = self.separated(|parser| {
            let value = parser.named_expression()?;
            let to_type = if parser.eat("to")? {
                parser.expect("typeof")?;
                Some(parser.bracketed("(", ")", Self::scalar_type)?)
            } else {
                None
            };
            Ok(MvExpandColumn { value, to_type })
        })?;
        let limit = if self.eat("limit")? { Some(self.expression()?) } else { None };
        Ok(OperatorKind::MvExpand { parameters, columns, limit })
    }

    fn name_result(&mut self) -> Result<OperatorKind> {
        self.refuse_hints("as")?;
        Ok(OperatorKind::As(self.strict_name("a name")?))
    }

    /// `render chart`, with its properties behind it or in `with (...)`.
    fn render(&mut self) -> Result<OperatorKind> {
        let chart = self.name()?;
        let mut properties = vec![];
        while !self.at("with")? && self.peek()?.kind == TokenKind::Word {
            properties.push(self.property()?);
        }
        if self.eat("with")? {
            let mut with =
                self.bracketed(
                    "(",
                    ")",
                    |parser| {
                        if parser.at(")")? { Ok(vec![]) } else { parser.separated(Self::property) }
                    },
                )?;
            properties.append(&mut with);
        }
        Ok(OperatorKind::Render { chart, properties })
    }

    fn property(&mut self) -> Result<OperatorParameter> {
        let name = self.name()?;
        if self.at(",")? || self.at(")")? {
            return self.unsupported(name.span.start, "a list of columns as a property of 'render' is not supported");
        }
        self.expect("=")?;
        self.parameter_behind(name)
    }

    /// Takes one of two words; `Some(true)` is the first.
    fn eat_either(&mut self, first: &str, second: &str) -> Result<Option<bool>> {
        if self.eat(first)? {
            return Ok(Some(true));
        }
        Ok(self.eat(second)?.then_some(false))
    }

    /// An operator of one word; Kusto has a clause for it that the tree has no place for.
    fn without_clause(&mut self, kind: OperatorKind, clause: &str) -> Result<OperatorKind> {
        let token = self.peek()?;
        if token.is(clause) {
            return self.unsupported(token.span.start, format!("'{clause}' behind this operator is not supported"));
        }
        Ok(kind)
    }

    fn refuse_hints(&mut self, operator: &str) -> Result<()> {
        if self.at_hint()? {
            return self.unsupported(self.end, format!("a hint of '{operator}' is not supported"));
        }
        Ok(())
    }
}
