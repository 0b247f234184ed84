//! Short makers of trees, so that a test can state the whole tree it expects.

use kql::syntax::{
    ast::{
        Argument, BinaryOp, ColumnDeclaration, Expr, ExprKind, Ident, Literal, NamedExpr, Operator, OperatorKind,
        OperatorParameter, Parameter, ParameterType, ParameterValue, Query, SortKey, Source, Span, Statement, UnaryOp,
    },
    parser::{parse_expression, parse_operators, parse_query},
};
use kql::types::ScalarType;

pub(super) fn read(text: &str) -> Expr {
    parse_expression(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn read_operator(text: &str) -> OperatorKind {
    let mut operators = parse_operators(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(operators.len(), 1, "{text}");
    operators.remove(0).kind
}

pub(super) fn read_query(text: &str) -> Query {
    parse_query(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn expr(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

pub(super) fn ident(name: &str) -> Ident {
    Ident { name: name.to_owned(), span: Span::default() }
}

pub(super) fn idents(names: &[&str]) -> Vec<Ident> {
    names.iter().map(|name| ident(name)).collect()
}

pub(super) fn name(name: &str) -> Expr {
    expr(ExprKind::Name(name.to_owned()))
}

pub(super) fn names(names: &[&str]) -> Vec<Expr> {
    names.iter().map(|each| name(each)).collect()
}

pub(super) fn literal(literal: Literal) -> Expr {
    expr(ExprKind::Literal(literal))
}

pub(super) fn long(value: i64) -> Expr {
    literal(Literal::Long(Some(value)))
}

pub(super) fn string(value: &str) -> Expr {
    literal(Literal::String(value.to_owned()))
}

pub(super) fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    expr(ExprKind::Binary { op, left: Box::new(left), right: Box::new(right) })
}

pub(super) fn minus(operand: Expr) -> Expr {
    expr(ExprKind::Unary { op: UnaryOp::Minus, operand: Box::new(operand) })
}

pub(super) fn argument(value: Expr) -> Argument {
    Argument { name: None, value }
}

pub(super) fn arguments(values: Vec<Expr>) -> Vec<Argument> {
    values.into_iter().map(argument).collect()
}

pub(super) fn call(function: &str, values: Vec<Expr>) -> Expr {
    expr(ExprKind::Call { name: ident(function), arguments: arguments(values) })
}

pub(super) fn member(target: Expr, member: &str) -> Expr {
    expr(ExprKind::Member { target: Box::new(target), member: ident(member) })
}

pub(super) fn member_call(target: Expr, function: &str, values: Vec<Expr>) -> Expr {
    expr(ExprKind::MemberCall { target: Box::new(target), name: ident(function), arguments: arguments(values) })
}

pub(super) fn index(target: Expr, index: Expr) -> Expr {
    expr(ExprKind::Index { target: Box::new(target), index: Box::new(index) })
}

pub(super) fn source(source: Source) -> Expr {
    expr(ExprKind::Source(source))
}

pub(super) fn pipeline(source: Expr, operators: Vec<OperatorKind>) -> Expr {
    let operators = operators.into_iter().map(|kind| Operator { kind, span: Span::default() }).collect();
    expr(ExprKind::Pipeline { source: Box::new(source), operators })
}

pub(super) fn unnamed(value: Expr) -> NamedExpr {
    NamedExpr { name: None, value }
}

pub(super) fn named(name: &str, value: Expr) -> NamedExpr {
    NamedExpr { name: Some(ident(name)), value }
}

pub(super) fn key(value: Expr) -> SortKey {
    SortKey { value: unnamed(value), ascending: None, nulls_first: None }
}

pub(super) fn word_parameter(name: &str, value: &str) -> OperatorParameter {
    OperatorParameter { name: ident(name), value: ParameterValue::Name(ident(value)) }
}

pub(super) fn parameter(name: &str, value: Literal) -> OperatorParameter {
    OperatorParameter { name: ident(name), value: ParameterValue::Literal(value) }
}

pub(super) fn column(name: &str, scalar_type: ScalarType) -> ColumnDeclaration {
    ColumnDeclaration { name: ident(name), scalar_type }
}

pub(super) fn scalar_parameter(name: &str, scalar_type: ScalarType, default: Option<Literal>) -> Parameter {
    Parameter { name: ident(name), kind: ParameterType::Scalar(scalar_type), default }
}

pub(super) fn tabular(expr: Expr) -> Statement {
    Statement::Expression(expr)
}
