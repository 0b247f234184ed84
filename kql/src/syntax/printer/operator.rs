//! Prints what stands behind a `|`.

use std::fmt::{self, Formatter};

use super::{
    Name,
    expression::{self, OPERAND, expression, is_wildcard, named, scalar},
    separated, word,
};
use crate::syntax::{
    ast::{Expr, Ident, MvExpandColumn, OperatorKind, OperatorParameter, ParameterValue, Reordering, SortKey},
    keywords,
};

pub(super) fn operator(f: &mut Formatter<'_>, kind: &OperatorKind) -> fmt::Result {
    match kind {
        OperatorKind::Where(predicate) => clause(f, "where ", predicate),
        OperatorKind::Extend(columns) => list(f, "extend ", columns, named),
        OperatorKind::Project(columns) => list(f, "project ", columns, named),
        OperatorKind::ProjectAway(patterns) => list(f, "project-away ", patterns, pattern),
        OperatorKind::ProjectKeep(patterns) => list(f, "project-keep ", patterns, pattern),
        OperatorKind::ProjectRename(renamings) => list(f, "project-rename ", renamings, |f, renaming| {
            write!(f, "{} = {}", Name(&renaming.new.name), Name(&renaming.old.name))
        }),
        OperatorKind::ProjectReorder(patterns) => list(f, "project-reorder ", patterns, reordering),
        OperatorKind::Summarize { parameters: hints, aggregates, by } => {
            f.write_str("summarize ")?;
            parameters(f, hints)?;
            separated(f, aggregates, named)?;
            if by.is_empty() {
                return Ok(());
            }
            list(f, if aggregates.is_empty() { "by " } else { " by " }, by, named)
        }
        OperatorKind::Distinct(columns) => list(f, "distinct ", columns, named),
        OperatorKind::Take(count) => clause(f, "take ", count),
        OperatorKind::Top { count, by } => {
            clause(f, "top ", count)?;
            list(f, " by ", by, sort_key)
        }
        OperatorKind::Sort(keys) => list(f, "sort by ", keys, sort_key),
        OperatorKind::Count(None) => f.write_str("count"),
        OperatorKind::Count(Some(name)) => write!(f, "count as {}", Name(&name.name)),
        OperatorKind::Join { parameters: kind, right, on } => {
            f.write_str("join ")?;
            parameters(f, kind)?;
            expression(f, right, OPERAND)?;
            list(f, " on ", on, scalar)
        }
        OperatorKind::Union(union) => expression::union(f, union),
        OperatorKind::MvExpand { parameters: kind, columns, limit } => {
            f.write_str("mv-expand ")?;
            parameters(f, kind)?;
            separated(f, columns, mv_expand_column)?;
            limit.as_ref().map_or(Ok(()), |limit| clause(f, " limit ", limit))
        }
        OperatorKind::GetSchema => f.write_str("getschema"),
        OperatorKind::As(name) => write!(f, "as {}", Name(&name.name)),
        OperatorKind::Render { chart, properties } => {
            f.write_str("render ")?;
            word(f, &chart.name)?;
            if properties.is_empty() {
                return Ok(());
            }
            list(f, " with (", properties, parameter)?;
            f.write_str(")")
        }
    }
}

fn clause(f: &mut Formatter<'_>, word: &str, expr: &Expr) -> fmt::Result {
    f.write_str(word)?;
    scalar(f, expr)
}

fn list<T>(
    f: &mut Formatter<'_>,
    word: &str,
    items: &[T],
    print: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_str(word)?;
    separated(f, items, print)
}

fn pattern(f: &mut Formatter<'_>, pattern: &Ident) -> fmt::Result {
    if is_wildcard(&pattern.name) { f.write_str(&pattern.name) } else { write!(f, "{}", Name(&pattern.name)) }
}

fn reordering(f: &mut Formatter<'_>, reordering: &Reordering) -> fmt::Result {
    pattern(f, &reordering.pattern)?;
    direction(f, reordering.ascending)
}

fn direction(f: &mut Formatter<'_>, ascending: Option<bool>) -> fmt::Result {
    f.write_str(match ascending {
        Some(true) => " asc",
        Some(false) => " desc",
        None => "",
    })
}

fn sort_key(f: &mut Formatter<'_>, key: &SortKey) -> fmt::Result {
    named(f, &key.value)?;
    direction(f, key.ascending)?;
    f.write_str(match key.nulls_first {
        Some(true) => " nulls first",
        Some(false) => " nulls last",
        None => "",
    })
}

fn mv_expand_column(f: &mut Formatter<'_>, column: &MvExpandColumn) -> fmt::Result {
    named(f, &column.value)?;
    column.to_type.map_or(Ok(()), |scalar_type| write!(f, " to typeof({scalar_type})"))
}

/// Each parameter with a blank behind it.
pub(super) fn parameters(f: &mut Formatter<'_>, parameters: &[OperatorParameter]) -> fmt::Result {
    parameters.iter().try_for_each(|known| {
        parameter(f, known)?;
        f.write_str(" ")
    })
}

fn parameter(f: &mut Formatter<'_>, parameter: &OperatorParameter) -> fmt::Result {
    let name = parameter.name.name.as_str();
    // A hint is read word by word, also one like `hint.1x`, and never with a name in brackets.
    if name.starts_with("hint.") {
        f.write_str(name)?;
    } else {
        word(f, name)?;
    }
    f.write_str("=")?;
    match &parameter.value {
        // `withsource` and `with_itemindex` declare a column.
        ParameterValue::Name(name) if keywords::reserved_where_referred(&name.name) => {
            write!(f, "{}", Name(&name.name))
        }
        ParameterValue::Name(name) => word(f, &name.name),
        ParameterValue::Literal(literal) => write!(f, "{literal}"),
    }
}
