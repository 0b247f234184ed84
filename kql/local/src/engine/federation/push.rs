//! Operators behind a federated table, handed to its legs: what is right for every row by itself (`where`, `extend`, `project` and its forms) goes into each
//! leg's text, `take`, `top`, `count` and `distinct` go there and are done again here, anything else makes the legs send only the columns it needs.
//! Blocking only for subqueries and constants; called by the pipeline.
//!
//! All legs have the columns of the union (see [`super::legs`]), so an operator that looks at one row at a time gives the same rows before and after the union.

use std::collections::BTreeSet;

use kql::syntax::ast::{Argument, Expr, ExprKind, Ident, Literal, NamedExpr, Operator, OperatorKind, SortKey, UnaryOp};

use super::{
    legs::{Leg, Legs, operator},
    rewrite::{self, Place},
    ship::{ident, literal, plain},
};
use crate::{
    engine::{
        expression::Binder,
        functions,
        planner::Planner,
        relation::Relation,
        scalar::Scalar,
        scope::{Binding, Scope},
        tabular::Planned,
    },
    error::KustoError,
};

/// A list longer than this is not written into a leg's text.
const MAX_SHIPPED_VALUES: usize = 1_000;

impl Planner {
    /// Applies an operator to a federated table.
    pub(crate) fn push(&self, legs: Legs, next: &Operator, scope: &Scope) -> Result<Planned, KustoError> {
        // Bound here first: errors are the same whether an operator travels or not.
        if let Some(travelling) = self.travelling(&legs.shape, next, scope)? {
            return self.append(legs, &travelling, scope).map(Planned::Legs);
        }
        let legs = match self.beforehand(&legs.shape, next, scope)? {
            Some(before) => self.append(legs, &before, scope)?,
            None => legs,
        };
        let finish = match &next.kind {
            OperatorKind::Render { .. } => return Ok(Planned::Legs(legs)),
            OperatorKind::GetSchema => return self.get_schema(&legs.schema()).map(Planned::Relation),
            // Each leg has counted its rows.
            OperatorKind::Count(name) => sum_of_counts(name.as_ref()),
            _ => next.clone(),
        };
        let relation = self.resolve(Planned::Legs(legs))?;
        self.operator(relation, &finish, scope).map(Planned::Relation)
    }

    /// Writes an operator behind every leg.
    fn append(&self, legs: Legs, next: &Operator, scope: &Scope) -> Result<Legs, KustoError> {
        let shape = self.operator(legs.shape, next, scope)?;
        let mut appended = Vec::with_capacity(legs.legs.len());
        for leg in legs.legs {
            appended.push(match leg {
                Leg::Local(relation) => Leg::Local(self.operator(relation, next, scope)?),
                Leg::Remote(mut leg) => {
                    leg.operators.push(next.clone());
                    Leg::Remote(leg)
                }
            });
        }
        Ok(Legs { shape, legs: appended, tolerance: legs.tolerance })
    }

    /// The operator in a form that every leg can run instead of us; `None` if it cannot travel.
    fn travelling(&self, shape: &Relation, next: &Operator, scope: &Scope) -> Result<Option<Operator>, KustoError> {
        let closer = Closer { planner: self, shape, scope };
        let kind = match &next.kind {
            OperatorKind::Where(predicate) => {
                Binder::new(self, scope, Some(shape)).bind_condition(predicate, "'where' operator")?;
                closer.expr(predicate)?.map(OperatorKind::Where)
            }
            OperatorKind::Project(columns) => {
                let names = self.named_columns(shape, columns, scope)?.into_iter().map(|(name, _)| name);
                closer.named(columns, names.collect())?.map(OperatorKind::Project)
            }
            OperatorKind::Extend(columns) => {
                let names = self.extended_columns(shape, columns, scope)?.into_iter().map(|(name, _)| name);
                let names: Vec<String> = names.collect();
                // A column that is given twice by accident keeps its last value; too rare to be worth shipping.
                if names.len() == columns.len() {
                    closer.named(columns, names)?.map(OperatorKind::Extend)
                } else {
                    None
                }
            }
            kind @ (OperatorKind::ProjectAway(_)
            | OperatorKind::ProjectKeep(_)
            | OperatorKind::ProjectRename(_)
            | OperatorKind::ProjectReorder(_)) => Some(kind.clone()),
            _ => None,
        };
        Ok(kind.map(operator))
    }

    /// What every leg can do before its rows travel, so that fewer or narrower ones do. The operator itself is then done here.
    fn beforehand(&self, shape: &Relation, next: &Operator, scope: &Scope) -> Result<Option<Operator>, KustoError> {
        let closer = Closer { planner: self, shape, scope };
        let kind = match &next.kind {
            OperatorKind::Take(count) => {
                let count = self.row_count(count, scope, "take")?;
                Some(OperatorKind::Take(long(count)))
            }
            OperatorKind::Top { count, by } => {
                let count = self.row_count(count, scope, "top")?;
                closer.keys(by)?.map(|by| OperatorKind::Top { count: long(count), by })
            }
            OperatorKind::Count(_) => Some(OperatorKind::Count(None)),
            OperatorKind::Distinct(columns) => {
                let plain = columns.iter().all(|column| {
                    column.name.is_none() && matches!(column.value.kind, ExprKind::Name(_) | ExprKind::Star)
                });
                plain.then(|| OperatorKind::Distinct(columns.clone()))
            }
            OperatorKind::Summarize { .. } => self.needed(shape, next),
            _ => None,
        };
        Ok(kind.map(operator))
    }

    /// `project` of the columns that an operator names; `None` if it needs all of them.
    #[allow(clippy::unused_self)] // A step of the above.
    fn needed(&self, shape: &Relation, next: &Operator) -> Option<OperatorKind> {
        let mut named: BTreeSet<String> = BTreeSet::new();
        let mut all = false;
        let walked = rewrite::operator(next, &mut |expr, _| {
            match &expr.kind {
                ExprKind::Name(name) | ExprKind::Literal(Literal::String(name)) => {
                    named.insert(name.clone());
                }
                ExprKind::Star => all = true,
                // The ingestion time is no column one could name.
                ExprKind::Call { name, .. } if name.name == "ingestion_time" => all = true,
                _ => {}
            }
            Ok(None)
        });
        if walked.is_err() || all {
            return None;
        }
        let mut columns: Vec<&str> =
            shape.columns.iter().map(|column| column.name.as_str()).filter(|name| named.contains(*name)).collect();
        if columns.is_empty() {
            // Rows are counted without looking at them; one column carries their number.
            columns.extend(shape.columns.first().map(|column| column.name.as_str()));
        }
        if columns.len() == shape.columns.len() {
            return None;
        }
        let columns = columns
            .into_iter()
            .map(|name| NamedExpr { name: None, value: plain(ExprKind::Name(name.to_owned())) })
            .collect();
        Some(OperatorKind::Project(columns))
    }
}

fn long(count: usize) -> Expr {
    literal(Literal::Long(Some(i64::try_from(count).unwrap_or(i64::MAX))))
}

/// `summarize Count = sum(Count)`, under the name that was asked for.
fn sum_of_counts(name: Option<&Ident>) -> Operator {
    let argument = Argument { name: None, value: plain(ExprKind::Name("Count".to_owned())) };
    let sum = plain(ExprKind::Call { name: ident("sum"), arguments: vec![argument] });
    operator(OperatorKind::Summarize {
        parameters: Vec::new(),
        aggregates: vec![NamedExpr { name: Some(name.cloned().unwrap_or_else(|| ident("Count"))), value: sum }],
        by: Vec::new(),
    })
}

/// Makes expressions independent of this server: what is bound outside becomes literals. `None` is "cannot travel".
struct Closer<'a> {
    planner: &'a Planner,
    shape: &'a Relation,
    scope: &'a Scope,
}

impl Closer<'_> {
    fn expr(&self, expr: &Expr) -> Result<Option<Expr>, KustoError> {
        let mut travels = true;
        let closed = rewrite::expr(expr, Place::Value, &mut |part, _| {
            if !travels {
                return Ok(Some(part.clone()));
            }
            let decided = self.part(part)?;
            travels = !matches!(decided, Part::Stays);
            Ok(match decided {
                Part::Whole => None,
                Part::Replaced(replaced) => Some(replaced),
                Part::Stays => Some(part.clone()),
            })
        })?;
        Ok(travels.then_some(closed))
    }

    fn part(&self, part: &Expr) -> Result<Part, KustoError> {
        Ok(match &part.kind {
            ExprKind::Name(name) if self.shape.column(name).is_some() => Part::Whole,
            ExprKind::Name(_) => self.value(part)?,
            ExprKind::Call { name, .. } => match name.name.as_str() {
                "now" | "ago" | "toscalar" | "current_database" | "current_cluster_endpoint" => self.value(part)?,
                // The legs' rows have it, ours may not.
                "ingestion_time" => Part::Whole,
                "materialize" | "table" | "database" | "cluster" => Part::Stays,
                function if matches!(self.scope.lookup(function), Some(Binding::Function(..))) => self.value(part)?,
                function if functions::is_known(function) => Part::Whole,
                _ => Part::Stays,
            },
            ExprKind::In { op, target, list } => {
                let [only] = list.as_slice() else { return Ok(Part::Whole) };
                let column = matches!(&only.kind, ExprKind::Name(name) if self.shape.column(name).is_some());
                if column || !self.planner.is_tabular(only, self.scope) {
                    return Ok(Part::Whole);
                }
                let values = self.planner.first_column(only, self.scope)?;
                let Some(target) = self.expr(target)? else { return Ok(Part::Stays) };
                let literals: Option<Vec<Expr>> = values.iter().map(|value| value.to_literal().map(literal)).collect();
                match literals {
                    Some(list) if (1..=MAX_SHIPPED_VALUES).contains(&list.len()) => {
                        Part::Replaced(plain(ExprKind::In { op: *op, target: Box::new(target), list }))
                    }
                    _ => Part::Stays,
                }
            }
            ExprKind::MemberCall { .. } | ExprKind::Pipeline { .. } | ExprKind::Source(_) => Part::Stays,
            ExprKind::Member { target, .. } => match &target.kind {
                // A scalar of the scope of an enclosing macro-expand.
                ExprKind::Name(name)
                    if self.shape.column(name).is_none()
                        && matches!(self.scope.lookup(name), Some(Binding::Entity(_))) =>
                {
                    self.value(part)?
                }
                _ => Part::Whole,
            },
            _ => Part::Whole,
        })
    }

    /// A part that names no column, as a literal.
    fn value(&self, part: &Expr) -> Result<Part, KustoError> {
        let bound = Binder::new(self.planner, self.scope, Some(self.shape)).bind(part)?;
        let folded: Scalar = self.planner.fold(bound)?;
        Ok(match folded.to_literal() {
            Some(value) => Part::Replaced(signed(value)),
            None => Part::Stays,
        })
    }

    /// The expressions under the names that they have here: a closed expression may imply another.
    fn named(&self, columns: &[NamedExpr], names: Vec<String>) -> Result<Option<Vec<NamedExpr>>, KustoError> {
        let mut closed = Vec::with_capacity(columns.len());
        for (column, name) in columns.iter().zip(names) {
            let Some(value) = self.expr(&column.value)? else { return Ok(None) };
            closed.push(NamedExpr { name: Some(ident(&name)), value });
        }
        Ok(Some(closed))
    }

    fn keys(&self, by: &[SortKey]) -> Result<Option<Vec<SortKey>>, KustoError> {
        let mut closed = Vec::with_capacity(by.len());
        for key in by {
            let Some(value) = self.expr(&key.value.value)? else { return Ok(None) };
            closed.push(SortKey { value: NamedExpr { name: None, value }, ..key.clone() });
        }
        Ok(Some(closed))
    }
}

enum Part {
    /// Goes as it is, if its parts do.
    Whole,
    /// Goes as something else.
    Replaced(Expr),
    /// Cannot go.
    Stays,
}

/// A literal as an expression; a negative number is a minus and a number.
fn signed(value: Literal) -> Expr {
    match value {
        Literal::Long(Some(number)) if number < 0 && number != i64::MIN => {
            plain(ExprKind::Unary { op: UnaryOp::Minus, operand: Box::new(literal(Literal::Long(Some(-number)))) })
        }
        other => literal(other),
    }
}
