//! Prints expressions, pipelines and the sources that begin with a keyword.

use std::fmt::{self, Formatter};

use super::{Name, is_identifier, operator, separated, statement};
use crate::{
    literal,
    syntax::{
        ast::{
            Argument, BinaryOp, EntityGroup, Expr, ExprKind, Ident, Literal, MacroExpand, NamedExpr, Operator, Source,
            UnaryOp, UnionClause,
        },
        infix::{BINARY, IN, Level},
        keywords,
    },
};

/// How tightly a kind of expression binds; what stands in a place of a higher level gets parentheses.
pub(super) type Place = u8;
/// Where a pipeline may stand.
pub(super) const ANY: Place = 0;
/// Where a scalar expression may stand.
pub(super) const SCALAR: Place = 1;
const EQUALITY: Place = SCALAR + Level::Equality as u8;
const SIGNED: Place = SCALAR + Level::Text as u8 + 1;
/// Where only names, literals, calls and paths may stand.
pub(super) const OPERAND: Place = SIGNED + 1;

fn place(kind: &ExprKind) -> Place {
    match kind {
        ExprKind::Source(Source::DataTable { .. }) => OPERAND,
        ExprKind::Pipeline { .. } | ExprKind::Source(_) => ANY,
        ExprKind::Binary { op, .. } => SCALAR + Level::of(*op) as u8,
        ExprKind::In { .. } | ExprKind::Between { .. } => EQUALITY,
        ExprKind::Unary { .. } => SIGNED,
        _ => OPERAND,
    }
}

/// Prints an expression where one of at least this level may stand.
pub(super) fn expression(f: &mut Formatter<'_>, expr: &Expr, least: Place) -> fmt::Result {
    if place(&expr.kind) < least {
        f.write_str("(")?;
        bare(f, expr)?;
        return f.write_str(")");
    }
    bare(f, expr)
}

pub(super) fn scalar(f: &mut Formatter<'_>, expr: &Expr) -> fmt::Result {
    expression(f, expr, SCALAR)
}

fn bare(f: &mut Formatter<'_>, expr: &Expr) -> fmt::Result {
    match &expr.kind {
        ExprKind::Literal(literal) => write!(f, "{literal}"),
        ExprKind::Name(name) => write!(f, "{}", Name(name)),
        ExprKind::Star => f.write_str("*"),
        ExprKind::TypeOf(scalar_type) => write!(f, "typeof({scalar_type})"),
        ExprKind::Member { target, member } => {
            path_target(f, target)?;
            write!(f, ".{}", Name(&member.name))
        }
        ExprKind::MemberCall { target, name, arguments } => {
            path_target(f, target)?;
            f.write_str(".")?;
            call(f, name, arguments)
        }
        ExprKind::Index { target, index } => {
            path_target(f, target)?;
            f.write_str("[")?;
            scalar(f, index)?;
            f.write_str("]")
        }
        ExprKind::Call { name, arguments } => free_call(f, name, arguments),
        ExprKind::Unary { op, operand } => {
            f.write_str(match op {
                UnaryOp::Minus => "-",
                UnaryOp::Plus => "+",
            })?;
            expression(f, operand, OPERAND)
        }
        ExprKind::Binary { op, left, right } => binary(f, *op, left, right),
        ExprKind::In { op, target, list } => {
            expression(f, target, EQUALITY + 1)?;
            let spelling = IN.iter().find(|(known, _)| known == op).map_or("in", |(_, spelling)| spelling);
            write!(f, " {spelling} (")?;
            let least = if list.len() == 1 { ANY } else { SCALAR };
            separated(f, list, |f, value| expression(f, value, least))?;
            f.write_str(")")
        }
        ExprKind::Between { negated, target, low, high } => {
            expression(f, target, EQUALITY + 1)?;
            f.write_str(if *negated { " !between (" } else { " between (" })?;
            scalar(f, low)?;
            f.write_str(" .. ")?;
            scalar(f, high)?;
            f.write_str(")")
        }
        ExprKind::Pipeline { source, operators } => pipeline(f, source, operators),
        ExprKind::Source(source) => tabular(f, source),
    }
}

/// What stands before a dot or a bracket. A number's own dot would be read as its fraction.
fn path_target(f: &mut Formatter<'_>, target: &Expr) -> fmt::Result {
    match &target.kind {
        ExprKind::Literal(literal @ Literal::Long(Some(value))) if *value >= 0 => write!(f, "long({literal})"),
        ExprKind::Literal(literal @ Literal::Real(Some(value))) if value.is_finite() && value.is_sign_positive() => {
            write!(f, "real({literal})")
        }
        _ => expression(f, target, OPERAND),
    }
}

fn binary(f: &mut Formatter<'_>, op: BinaryOp, left: &Expr, right: &Expr) -> fmt::Result {
    let level = Level::of(op);
    let own = SCALAR + level as u8;
    expression(f, left, if level.chains() { own } else { own + 1 })?;
    let spelling = BINARY.iter().find(|(known, _)| *known == op).map_or("", |(_, spelling)| spelling);
    write!(f, " {spelling} ")?;
    expression(f, right, own + 1)
}

/// A call that no dot precedes: two functions take a pipeline as it is.
fn free_call(f: &mut Formatter<'_>, name: &Ident, arguments: &[Argument]) -> fmt::Result {
    if !keywords::takes_pipeline(&name.name) {
        return call(f, name, arguments);
    }
    f.write_str(&name.name)?;
    match arguments {
        [Argument { name: None, value }] => {
            f.write_str("(")?;
            expression(f, value, ANY)?;
            f.write_str(")")
        }
        _ => self::arguments(f, arguments),
    }
}

/// The name of a call is bare where a bracketed one would be another thing: `count()`, `database('b')`.
fn call(f: &mut Formatter<'_>, name: &Ident, arguments: &[Argument]) -> fmt::Result {
    let name = name.name.as_str();
    if is_identifier(name) && keywords::boolean(name).is_none() && !keywords::reserved_where_called(name) {
        f.write_str(name)?;
    } else {
        f.write_str(&literal::bracketed(name))?;
    }
    self::arguments(f, arguments)
}

fn arguments(f: &mut Formatter<'_>, arguments: &[Argument]) -> fmt::Result {
    f.write_str("(")?;
    separated(f, arguments, |f, argument| {
        if let Some(name) = &argument.name {
            write!(f, "{} = ", Name(&name.name))?;
        }
        scalar(f, &argument.value)
    })?;
    f.write_str(")")
}

/// `name = expr` or `expr`
pub(super) fn named(f: &mut Formatter<'_>, item: &NamedExpr) -> fmt::Result {
    if let Some(name) = &item.name {
        write!(f, "{} = ", Name(&name.name))?;
    }
    scalar(f, &item.value)
}

/// A source and the operators behind it; a pipeline that feeds a pipeline stays one in parentheses.
pub(super) fn pipeline(f: &mut Formatter<'_>, source: &Expr, operators: &[Operator]) -> fmt::Result {
    let nested = matches!(source.kind, ExprKind::Pipeline { .. });
    expression(f, source, if nested { SCALAR } else { ANY })?;
    for operator in operators {
        f.write_str(" | ")?;
        operator::operator(f, &operator.kind)?;
    }
    Ok(())
}

fn tabular(f: &mut Formatter<'_>, source: &Source) -> fmt::Result {
    match source {
        Source::Print(columns) => {
            f.write_str("print ")?;
            separated(f, columns, named)
        }
        Source::Range { column, from, to, step } => {
            write!(f, "range {} from ", Name(&column.name))?;
            scalar(f, from)?;
            f.write_str(" to ")?;
            scalar(f, to)?;
            f.write_str(" step ")?;
            scalar(f, step)
        }
        Source::DataTable { columns, values } => {
            f.write_str("datatable")?;
            statement::columns(f, columns)?;
            f.write_str(" [")?;
            separated(f, values, scalar)?;
            f.write_str("]")
        }
        Source::Union(clause) => union(f, clause),
        Source::MacroExpand(macro_expand) => self::macro_expand(f, macro_expand),
    }
}

/// `union ...`, as a source and behind `|`.
pub(super) fn union(f: &mut Formatter<'_>, clause: &UnionClause) -> fmt::Result {
    f.write_str("union ")?;
    operator::parameters(f, &clause.parameters)?;
    separated(f, &clause.tables, |f, table| match &table.kind {
        ExprKind::Name(name) if is_wildcard(name) => f.write_str(name),
        _ if begins_with_values(table) => {
            f.write_str("(")?;
            expression(f, table, ANY)?;
            f.write_str(")")
        }
        _ => expression(f, table, OPERAND),
    })
}

/// A table of a union is a name, a call or something in parentheses: no literal, no datatable, and no path of one.
fn begins_with_values(expr: &Expr) -> bool {
    let mut first = expr;
    loop {
        match &first.kind {
            ExprKind::Literal(_) | ExprKind::Source(Source::DataTable { .. }) => return true,
            ExprKind::Member { target, .. } | ExprKind::MemberCall { target, .. } | ExprKind::Index { target, .. } => {
                first = target;
            }
            _ => return false,
        }
    }
}

/// Whether a name is a pattern that may be printed without quotes.
pub(super) fn is_wildcard(name: &str) -> bool {
    name.contains('*') && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'*'))
}

fn macro_expand(f: &mut Formatter<'_>, macro_expand: &MacroExpand) -> fmt::Result {
    f.write_str("macro-expand ")?;
    operator::parameters(f, &macro_expand.parameters)?;
    match &macro_expand.group {
        EntityGroup::Named(name) => write!(f, "{}", Name(&name.name))?,
        EntityGroup::Inline(entities) => entity_group(f, entities)?,
    }
    write!(f, " as {} (", Name(&macro_expand.scope.name))?;
    statement::statements(f, &macro_expand.body, "; ")?;
    f.write_str(")")
}

/// `entity_group [cluster('a').database('b'), ...]`
pub(super) fn entity_group(f: &mut Formatter<'_>, entities: &[Expr]) -> fmt::Result {
    f.write_str("entity_group [")?;
    separated(f, entities, |f, entity| expression(f, entity, OPERAND))?;
    f.write_str("]")
}
