//! A walk over the syntax tree that puts other expressions in the place of some. Pure; used to make a text that another server can run.

use kql::syntax::ast::{
    Argument, Expr, ExprKind, FunctionLiteral, Ident, LetValue, MvExpandColumn, NamedExpr, Operator, OperatorKind,
    SortKey, Source, Span, Statement, UnionClause,
};

use crate::{
    engine::{naming::implied, summarize::is_aggregate},
    error::KustoError,
};

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Only a table can stand here.
    Table,
    /// A scalar stands here, or a table where a function or `in` takes one.
    Value,
    /// Before the dot of a member: an entity or a dynamic value.
    Target,
}

/// Decides about each expression, from the outside in: `Some` replaces it, `None` goes on with its parts.
pub(crate) type Decide<'a> = dyn FnMut(&Expr, Place) -> Result<Option<Expr>, KustoError> + 'a;

pub(crate) fn expr(expr: &Expr, place: Place, decide: &mut Decide<'_>) -> Result<Expr, KustoError> {
    if let Some(replaced) = decide(expr, place)? {
        return Ok(replaced);
    }
    let kind = match &expr.kind {
        ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Star | ExprKind::TypeOf(_) => expr.kind.clone(),
        ExprKind::Member { target, member } => {
            ExprKind::Member { target: boxed(target, Place::Target, decide)?, member: member.clone() }
        }
        ExprKind::MemberCall { target, name, arguments } => ExprKind::MemberCall {
            target: boxed(target, Place::Target, decide)?,
            name: name.clone(),
            arguments: arguments_of(arguments, Place::Value, decide)?,
        },
        ExprKind::Index { target, index } => ExprKind::Index {
            target: boxed(target, Place::Target, decide)?,
            index: boxed(index, Place::Value, decide)?,
        },
        ExprKind::Call { name, arguments } => {
            let place = match name.name.as_str() {
                "materialize" => Place::Table,
                _ => Place::Value,
            };
            ExprKind::Call { name: name.clone(), arguments: arguments_of(arguments, place, decide)? }
        }
        ExprKind::Unary { op, operand } => ExprKind::Unary { op: *op, operand: boxed(operand, Place::Value, decide)? },
        ExprKind::Binary { op, left, right } => ExprKind::Binary {
            op: *op,
            left: boxed(left, Place::Value, decide)?,
            right: boxed(right, Place::Value, decide)?,
        },
        ExprKind::In { op, target, list } => ExprKind::In {
            op: *op,
            target: boxed(target, Place::Value, decide)?,
            list: list.iter().map(|item| self::expr(item, Place::Value, decide)).collect::<Result<_, _>>()?,
        },
        ExprKind::Between { negated, target, low, high } => ExprKind::Between {
            negated: *negated,
            target: boxed(target, Place::Value, decide)?,
            low: boxed(low, Place::Value, decide)?,
            high: boxed(high, Place::Value, decide)?,
        },
        ExprKind::Pipeline { source, operators } => ExprKind::Pipeline {
            source: boxed(source, Place::Table, decide)?,
            operators: operators.iter().map(|operator| self::operator(operator, decide)).collect::<Result<_, _>>()?,
        },
        ExprKind::Source(source) => ExprKind::Source(self::source(source, decide)?),
    };
    Ok(Expr { kind, span: expr.span })
}

fn boxed(inner: &Expr, place: Place, decide: &mut Decide<'_>) -> Result<Box<Expr>, KustoError> {
    expr(inner, place, decide).map(Box::new)
}

fn arguments_of(arguments: &[Argument], place: Place, decide: &mut Decide<'_>) -> Result<Vec<Argument>, KustoError> {
    arguments
        .iter()
        .map(|argument| Ok(Argument { name: argument.name.clone(), value: expr(&argument.value, place, decide)? }))
        .collect()
}

fn named(columns: &[NamedExpr], decide: &mut Decide<'_>) -> Result<Vec<NamedExpr>, KustoError> {
    columns.iter().map(|column| one_named(column, decide)).collect()
}

fn one_named(column: &NamedExpr, decide: &mut Decide<'_>) -> Result<NamedExpr, KustoError> {
    Ok(NamedExpr { name: column.name.clone(), value: expr(&column.value, Place::Value, decide)? })
}

/// Expressions that give columns. One that is replaced keeps the name that it gave.
fn columns(columns: &[NamedExpr], decide: &mut Decide<'_>) -> Result<Vec<NamedExpr>, KustoError> {
    let rewritten = columns.iter().map(|column| {
        let rewritten = one_named(column, decide)?;
        let own = kept_name(&column.value, &rewritten.value);
        Ok(NamedExpr { name: rewritten.name.or(own), value: rewritten.value })
    });
    rewritten.collect()
}

/// Aggregates, whose arguments give the names of their columns.
fn aggregates(aggregates: &[NamedExpr], decide: &mut Decide<'_>) -> Result<Vec<NamedExpr>, KustoError> {
    let rewritten = aggregates.iter().map(|aggregate| {
        let mut rewritten = one_named(aggregate, decide)?;
        if let (ExprKind::Call { arguments: before, .. }, ExprKind::Call { name, arguments }) =
            (&aggregate.value.kind, &mut rewritten.value.kind)
            && is_aggregate(&name.name)
        {
            for (before, argument) in before.iter().zip(arguments) {
                let own = kept_name(&before.value, &argument.value);
                argument.name = argument.name.take().or(own);
            }
        }
        let own = kept_name(&aggregate.value, &rewritten.value);
        Ok(NamedExpr { name: rewritten.name.or(own), value: rewritten.value })
    });
    rewritten.collect()
}

/// The name that an expression gave, if what stands in its place gives another.
fn kept_name(before: &Expr, after: &Expr) -> Option<Ident> {
    let name = implied(before)?;
    (implied(after).as_ref() != Some(&name)).then(|| Ident { name, span: Span::default() })
}

fn union(clause: &UnionClause, decide: &mut Decide<'_>) -> Result<UnionClause, KustoError> {
    Ok(UnionClause {
        parameters: clause.parameters.clone(),
        tables: clause.tables.iter().map(|table| expr(table, Place::Table, decide)).collect::<Result<_, _>>()?,
    })
}

fn source(source: &Source, decide: &mut Decide<'_>) -> Result<Source, KustoError> {
    Ok(match source {
        Source::Print(columns) => Source::Print(named(columns, decide)?),
        Source::Range { column, from, to, step } => Source::Range {
            column: column.clone(),
            from: boxed(from, Place::Value, decide)?,
            to: boxed(to, Place::Value, decide)?,
            step: boxed(step, Place::Value, decide)?,
        },
        Source::DataTable { columns, values } => Source::DataTable {
            columns: columns.clone(),
            values: values.iter().map(|value| expr(value, Place::Value, decide)).collect::<Result<_, _>>()?,
        },
        Source::Union(clause) => Source::Union(union(clause, decide)?),
        Source::MacroExpand(expand) => Source::MacroExpand(expand.clone()),
    })
}

pub(crate) fn operator(operator: &Operator, decide: &mut Decide<'_>) -> Result<Operator, KustoError> {
    let kind = match &operator.kind {
        OperatorKind::Where(predicate) => OperatorKind::Where(expr(predicate, Place::Value, decide)?),
        OperatorKind::Extend(extended) => OperatorKind::Extend(columns(extended, decide)?),
        OperatorKind::Project(projected) => OperatorKind::Project(columns(projected, decide)?),
        OperatorKind::Summarize { parameters, aggregates, by } => OperatorKind::Summarize {
            parameters: parameters.clone(),
            aggregates: self::aggregates(aggregates, decide)?,
            by: columns(by, decide)?,
        },
        OperatorKind::Distinct(distinct) => OperatorKind::Distinct(columns(distinct, decide)?),
        OperatorKind::Take(count) => OperatorKind::Take(expr(count, Place::Value, decide)?),
        OperatorKind::Top { count, by } => {
            OperatorKind::Top { count: expr(count, Place::Value, decide)?, by: keys(by, decide)? }
        }
        OperatorKind::Sort(by) => OperatorKind::Sort(keys(by, decide)?),
        OperatorKind::Join { parameters, right, on } => OperatorKind::Join {
            parameters: parameters.clone(),
            right: boxed(right, Place::Table, decide)?,
            // Conditions name columns of both sides and nothing else.
            on: on.clone(),
        },
        OperatorKind::Union(clause) => OperatorKind::Union(union(clause, decide)?),
        OperatorKind::MvExpand { parameters, columns, limit } => OperatorKind::MvExpand {
            parameters: parameters.clone(),
            columns: columns
                .iter()
                .map(|column| Ok(MvExpandColumn { value: one_named(&column.value, decide)?, to_type: column.to_type }))
                .collect::<Result<_, KustoError>>()?,
            limit: limit.as_ref().map(|limit| expr(limit, Place::Value, decide)).transpose()?,
        },
        OperatorKind::ProjectAway(_)
        | OperatorKind::ProjectKeep(_)
        | OperatorKind::ProjectRename(_)
        | OperatorKind::ProjectReorder(_)
        | OperatorKind::Count(_)
        | OperatorKind::GetSchema
        | OperatorKind::As(_)
        | OperatorKind::Render { .. } => operator.kind.clone(),
    };
    Ok(Operator { kind, span: operator.span })
}

fn keys(by: &[SortKey], decide: &mut Decide<'_>) -> Result<Vec<SortKey>, KustoError> {
    by.iter()
        .map(|key| {
            Ok(SortKey {
                value: one_named(&key.value, decide)?,
                ascending: key.ascending,
                nulls_first: key.nulls_first,
            })
        })
        .collect()
}

pub(crate) fn statements(body: &[Statement], decide: &mut Decide<'_>) -> Result<Vec<Statement>, KustoError> {
    body.iter()
        .map(|statement| {
            Ok(match statement {
                Statement::Let { name, value } => Statement::Let {
                    name: name.clone(),
                    value: match value {
                        LetValue::Expression(value) => LetValue::Expression(expr(value, Place::Value, decide)?),
                        LetValue::Function(literal) => LetValue::Function(function(literal, decide)?),
                        LetValue::EntityGroup(entities) => LetValue::EntityGroup(entities.clone()),
                    },
                },
                Statement::Expression(value) => Statement::Expression(expr(value, Place::Table, decide)?),
                Statement::Set { .. } | Statement::QueryParameters(_) => statement.clone(),
            })
        })
        .collect()
}

pub(crate) fn function(literal: &FunctionLiteral, decide: &mut Decide<'_>) -> Result<FunctionLiteral, KustoError> {
    Ok(FunctionLiteral {
        view: literal.view,
        parameters: literal.parameters.clone(),
        body: statements(&literal.body, decide)?,
    })
}
