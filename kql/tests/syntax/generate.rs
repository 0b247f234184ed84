//! Strategies for whole trees, as the parser could have made them.

use kql::syntax::ast::{
    Argument,
    BinaryOp::{
        self, Add, And, Contains, Divide, Equal, EqualTilde, Greater, HasCs, LessOrEqual, MatchesRegex, Modulo,
        Multiply, NotEqual, NotStartsWith, Or, Subtract,
    },
    ColumnDeclaration, EntityGroup, Expr, ExprKind, FunctionLiteral, Ident, InOp, LetValue, Literal, MacroExpand,
    MvExpandColumn, NamedExpr, Operator, OperatorKind, OperatorParameter, Parameter, ParameterType, ParameterValue,
    Query, Renaming, Reordering, SortKey, Source, Span, Statement, UnaryOp, UnionClause,
};
use kql::types::ScalarType;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::Value;

use super::build::{expr, ident, long, minus};

type Boxed<T> = BoxedStrategy<T>;

/// Plain names, keywords, and what only quotes can hold.
fn any_name() -> Boxed<String> {
    prop_oneof![
        4 => "[a-zA-Z_][a-zA-Z0-9_]{0,8}",
        2 => select(vec![
            "by", "where", "kind", "count", "let", "set", "view", "true", "null", "hint", "in", "datetime", "bool",
            "entity_group", "materialize", "union", "print", "range", "macro", "on", "$left", "asc", "nulls", "database", "toscalar", "limit",
        ]).prop_map(str::to_owned),
        1 => "[0-9][a-z0-9]{1,4}",
        1 => any::<String>().prop_filter("a name is not empty", |name| !name.is_empty()),
    ]
    .boxed()
}

fn any_ident() -> Boxed<Ident> {
    any_name().prop_map(|name| ident(&name)).boxed()
}

/// A name without `*`, which quotes may not hold where patterns stand, or a pattern.
fn any_pattern() -> Boxed<Ident> {
    prop_oneof![
        any_name().prop_map(|name| ident(&format!("n{}", name.replace('*', "")))),
        "[a-z_]{0,3}\\*([0-9]{1,2}|[a-z_]{0,3})".prop_map(|name| ident(&name)),
    ]
    .boxed()
}

fn json() -> Boxed<Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300..1e300_f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    scalar
        .prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Value::from),
                vec((any::<String>(), inner), 0..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
        .boxed()
}

pub(super) fn any_literal() -> Boxed<Literal> {
    let guid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    prop_oneof![
        option::of(any::<bool>()).prop_map(Literal::Bool),
        option::of(0..=kql::literal::MAX_DATETIME_TICKS).prop_map(Literal::DateTime),
        option::of("-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,9})?").prop_map(Literal::Decimal),
        json().prop_map(Literal::Dynamic),
        option::of(guid).prop_map(Literal::Guid),
        option::of(any::<i32>()).prop_map(Literal::Int),
        option::of(any::<i64>()).prop_map(Literal::Long),
        option::of(any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan()))
            .prop_map(Literal::Real),
        any::<String>().prop_map(Literal::String),
        option::of(any::<i64>()).prop_map(Literal::Timespan),
    ]
    .boxed()
}

fn any_type() -> Boxed<ScalarType> {
    select(ScalarType::ALL.to_vec()).boxed()
}

fn column() -> Boxed<ColumnDeclaration> {
    (any_ident(), any_type()).prop_map(|(name, scalar_type)| ColumnDeclaration { name, scalar_type }).boxed()
}

fn parameter() -> Boxed<Parameter> {
    prop_oneof![
        (any_ident(), any_type(), option::of(any_literal())).prop_map(|(name, kind, default)| Parameter {
            name,
            kind: ParameterType::Scalar(kind),
            default
        }),
        (any_ident(), vec(column(), 0..3)).prop_map(|(name, columns)| Parameter {
            name,
            kind: ParameterType::Table(columns),
            default: None
        }),
    ]
    .boxed()
}

/// Parameters of an operator with these names.
fn operator_parameters(names: &'static [&'static str], hints: bool) -> Boxed<Vec<OperatorParameter>> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    if hints {
        names.push("hint.strategy".to_owned());
    }
    let value =
        prop_oneof![any_ident().prop_map(ParameterValue::Name), any_literal().prop_map(ParameterValue::Literal)];
    let one = (select(names), value).prop_map(|(name, value)| OperatorParameter { name: ident(&name), value });
    vec(one, 0..3).boxed()
}

pub(super) fn any_expr() -> Boxed<Expr> {
    let leaf = prop_oneof![
        3 => any_name().prop_map(ExprKind::Name),
        2 => any_literal().prop_map(ExprKind::Literal),
    ];
    leaf.prop_map(expr)
        .prop_recursive(5, 40, 3, |inner| {
            prop_oneof![
                6 => scalar(inner.clone()).prop_map(expr),
                3 => pipeline(inner.clone()).prop_map(expr),
                2 => source(inner).prop_map(|source| expr(ExprKind::Source(source))),
            ]
        })
        .boxed()
}

fn boxed(inner: Boxed<Expr>) -> Boxed<Box<Expr>> {
    inner.prop_map(Box::new).boxed()
}

fn scalar(inner: Boxed<Expr>) -> Boxed<ExprKind> {
    let ops = select(vec![
        Or,
        And,
        Equal,
        NotEqual,
        Greater,
        LessOrEqual,
        EqualTilde,
        HasCs,
        Contains,
        NotStartsWith,
        MatchesRegex,
        Add,
        Subtract,
        Multiply,
        Divide,
        Modulo,
    ]);
    let binary = |op: BinaryOp, left, right| ExprKind::Binary { op, left, right };
    let in_ops = select(vec![InOp::In, InOp::NotIn, InOp::InTilde, InOp::NotInTilde, InOp::HasAny, InOp::HasAll]);
    let one = boxed(inner.clone());
    prop_oneof![
        4 => (ops, one.clone(), one.clone()).prop_map(move |(op, left, right)| binary(op, left, right)),
        1 => (select(vec![UnaryOp::Minus, UnaryOp::Plus]), one.clone())
            .prop_map(|(op, operand)| ExprKind::Unary { op, operand }),
        1 => (in_ops, one.clone(), vec(inner.clone(), 1..3)).prop_map(|(op, target, list)| ExprKind::In { op, target, list }),
        1 => (any::<bool>(), one.clone(), one.clone(), one.clone())
            .prop_map(|(negated, target, low, high)| ExprKind::Between { negated, target, low, high }),
        1 => (one.clone(), any_ident()).prop_map(|(target, member)| ExprKind::Member { target, member }),
        1 => (one.clone(), any_ident(), arguments(inner.clone()))
            .prop_map(|(target, name, arguments)| ExprKind::MemberCall { target, name, arguments }),
        1 => (one.clone(), one).prop_map(|(target, index)| ExprKind::Index { target, index }),
        2 => (any_ident(), arguments(inner)).prop_map(|(name, arguments)| ExprKind::Call { name, arguments }),
    ]
    .boxed()
}

fn arguments(inner: Boxed<Expr>) -> Boxed<Vec<Argument>> {
    let argument = prop_oneof![
        4 => inner.clone().prop_map(|value| Argument { name: None, value }),
        1 => (any_ident(), inner).prop_map(|(name, value)| Argument { name: Some(name), value }),
        1 => Just(Argument { name: None, value: expr(ExprKind::Star) }),
        1 => any_type().prop_map(|scalar_type| Argument { name: None, value: expr(ExprKind::TypeOf(scalar_type)) }),
    ];
    vec(argument, 0..3).boxed()
}

fn named(inner: Boxed<Expr>) -> Boxed<NamedExpr> {
    (option::of(any_ident()), inner).prop_map(|(name, value)| NamedExpr { name, value }).boxed()
}

fn columns(inner: Boxed<Expr>) -> Boxed<Vec<NamedExpr>> {
    vec(named(inner), 1..3).boxed()
}

fn pipeline(inner: Boxed<Expr>) -> Boxed<ExprKind> {
    (boxed(inner.clone()), vec(operator(inner), 1..3))
        .prop_map(|(source, operators)| ExprKind::Pipeline { source, operators })
        .boxed()
}

fn union(inner: Boxed<Expr>) -> Boxed<UnionClause> {
    let wildcard = "[a-z_]{0,3}\\*([0-9]{1,2}|[a-z_]{0,3})".prop_map(|pattern| expr(ExprKind::Name(pattern)));
    // A star in quotes would be read as a pattern, and is refused.
    let table = inner
        .prop_filter("no star in a name", |table| !matches!(&table.kind, ExprKind::Name(name) if name.contains('*')));
    let tables = vec(prop_oneof![3 => table.boxed(), 1 => wildcard.boxed()], 1..3);
    (operator_parameters(&["kind", "withsource", "isfuzzy"], true), tables)
        .prop_map(|(parameters, tables)| UnionClause { parameters, tables })
        .boxed()
}

fn source(inner: Boxed<Expr>) -> Boxed<Source> {
    let one = boxed(inner.clone());
    let value = prop_oneof![
        any_literal().prop_map(|literal| expr(ExprKind::Literal(literal))),
        (0..i64::MAX).prop_map(|value| minus(long(value))),
    ];
    let group =
        prop_oneof![any_ident().prop_map(EntityGroup::Named), vec(inner.clone(), 1..3).prop_map(EntityGroup::Inline)];
    let parameters = operator_parameters(&["kind", "isfuzzy", "best_effort"], true);
    prop_oneof![
        columns(inner.clone()).prop_map(Source::Print),
        (any_ident(), one.clone(), one.clone(), one).prop_map(|(column, from, to, step)| Source::Range {
            column,
            from,
            to,
            step
        }),
        (vec(column(), 0..3), vec(value, 0..4)).prop_map(|(columns, values)| Source::DataTable { columns, values }),
        union(inner.clone()).prop_map(Source::Union),
        (parameters, group, any_ident(), body(inner)).prop_map(|(parameters, group, scope, body)| {
            Source::MacroExpand(MacroExpand { parameters, group, scope, body })
        }),
    ]
    .boxed()
}

fn sort_key(inner: Boxed<Expr>) -> Boxed<SortKey> {
    (named(inner), option::of(any::<bool>()), option::of(any::<bool>()))
        .prop_map(|(value, ascending, nulls_first)| SortKey { value, ascending, nulls_first })
        .boxed()
}

fn operator(inner: Boxed<Expr>) -> Boxed<Operator> {
    let renaming = (any_ident(), any_ident()).prop_map(|(new, old)| Renaming { new, old });
    let reordering =
        (any_pattern(), option::of(any::<bool>())).prop_map(|(pattern, ascending)| Reordering { pattern, ascending });
    let columns_of_mv_expand =
        (named(inner.clone()), option::of(any_type())).prop_map(|(value, to_type)| MvExpandColumn { value, to_type });
    let property = (any_ident(), any_literal())
        .prop_map(|(name, value)| OperatorParameter { name, value: ParameterValue::Literal(value) });
    let plain = prop_oneof![
        inner.clone().prop_map(OperatorKind::Where),
        columns(inner.clone()).prop_map(OperatorKind::Extend),
        columns(inner.clone()).prop_map(OperatorKind::Project),
        vec(any_pattern(), 1..3).prop_map(OperatorKind::ProjectAway),
        vec(any_pattern(), 1..3).prop_map(OperatorKind::ProjectKeep),
        vec(renaming, 1..3).prop_map(OperatorKind::ProjectRename),
        vec(reordering, 1..3).prop_map(OperatorKind::ProjectReorder),
        Just(OperatorKind::Distinct(vec![NamedExpr { name: None, value: expr(ExprKind::Star) }])),
        columns(inner.clone()).prop_map(OperatorKind::Distinct),
        inner.clone().prop_map(OperatorKind::Take),
        option::of(any_ident()).prop_map(OperatorKind::Count),
        Just(OperatorKind::GetSchema),
        any_ident().prop_map(OperatorKind::As),
        (any_ident(), vec(property, 0..3)).prop_map(|(chart, properties)| OperatorKind::Render { chart, properties }),
    ];
    let keyed = prop_oneof![
        (operator_parameters(&[], true), columns(inner.clone()), vec(named(inner.clone()), 0..3))
            .prop_map(|(parameters, aggregates, by)| OperatorKind::Summarize { parameters, aggregates, by }),
        columns(inner.clone()).prop_map(|by| OperatorKind::Summarize { parameters: vec![], aggregates: vec![], by }),
        (inner.clone(), sort_key(inner.clone())).prop_map(|(count, key)| OperatorKind::Top { count, by: vec![key] }),
        vec(sort_key(inner.clone()), 1..3).prop_map(OperatorKind::Sort),
        (operator_parameters(&["kind"], true), boxed(inner.clone()), vec(inner.clone(), 1..3))
            .prop_map(|(parameters, right, on)| OperatorKind::Join { parameters, right, on }),
        union(inner.clone()).prop_map(OperatorKind::Union),
        (
            operator_parameters(&["kind", "bagexpansion", "with_itemindex"], false),
            vec(columns_of_mv_expand, 1..3),
            option::of(inner)
        )
            .prop_map(|(parameters, columns, limit)| OperatorKind::MvExpand { parameters, columns, limit }),
    ];
    prop_oneof![plain, keyed].prop_map(|kind| Operator { kind, span: Span::default() }).boxed()
}

fn let_statement(inner: Boxed<Expr>) -> Boxed<Statement> {
    let value = prop_oneof![
        inner.clone().prop_map(LetValue::Expression),
        (any::<bool>(), vec(parameter(), 0..3), inner.clone()).prop_map(|(view, parameters, value)| {
            LetValue::Function(FunctionLiteral { view, parameters, body: vec![Statement::Expression(value)] })
        }),
        vec(inner, 1..3).prop_map(LetValue::EntityGroup),
    ];
    (any_ident(), value).prop_map(|(name, value)| Statement::Let { name, value }).boxed()
}

fn body(inner: Boxed<Expr>) -> Boxed<Vec<Statement>> {
    (vec(let_statement(inner.clone()), 0..2), inner)
        .prop_map(|(mut statements, value)| {
            statements.push(Statement::Expression(value));
            statements
        })
        .boxed()
}

pub(super) fn any_function() -> Boxed<FunctionLiteral> {
    (any::<bool>(), vec(parameter(), 0..3), body(any_expr()))
        .prop_map(|(view, parameters, body)| FunctionLiteral { view, parameters, body })
        .boxed()
}

pub(super) fn any_query() -> Boxed<Query> {
    let statement = prop_oneof![
        4 => any_expr().prop_map(Statement::Expression),
        2 => let_statement(any_expr()),
        1 => (any_ident(), option::of(any_literal())).prop_map(|(option, value)| Statement::Set { option, value }),
        1 => vec(parameter(), 1..3).prop_map(Statement::QueryParameters),
    ];
    vec(statement, 1..3).prop_map(|statements| Query { statements }).boxed()
}
