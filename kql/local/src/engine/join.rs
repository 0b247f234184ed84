//! `join`: equality of keys, in Kusto's kinds. Blocking only through its right side; called by the pipeline.
//!
//! Without `kind` a join is `innerunique`: of the left rows with equal keys one is kept. Null keys match each other.

use datafusion::{
    common::{Column as PlanColumn, JoinType, NullEquality},
    functions_aggregate::expr_fn::first_value,
    logical_expr::{Expr as PlanExpr, LogicalPlanBuilder},
};
use kql::{
    syntax::ast::{BinaryOp, Expr, ExprKind, OperatorParameter, ParameterValue},
    types::ScalarType,
};

use super::{
    functions::conversion::{convert, never_null},
    operators::wider,
    pipeline::{no_column, no_dynamic},
    planner::{Planner, located},
    relation::{BoundColumn, Relation, by_id, planning, unique_name},
    scalar::Scalar,
    scope::Scope,
};
use crate::error::KustoError;

/// Which rows and whose columns a join returns.
#[derive(Debug, Clone, Copy)]
struct Kind {
    join: JoinType,
    unique: bool,
    /// Only the columns of one side.
    one_side: bool,
}

fn kind(parameters: &[OperatorParameter], scope: &Scope) -> Result<Kind, KustoError> {
    let mut kind = Kind { join: JoinType::Inner, unique: true, one_side: false };
    for parameter in parameters {
        if parameter.name.name.starts_with("hint.") {
            continue;
        }
        let value = match &parameter.value {
            ParameterValue::Name(name) => name.name.as_str(),
            ParameterValue::Literal(_) => "",
        };
        let (join, one_side) = match (parameter.name.name.as_str(), value) {
            ("kind", "innerunique" | "inner") => (JoinType::Inner, false),
            ("kind", "leftouter") => (JoinType::Left, false),
            ("kind", "rightouter") => (JoinType::Right, false),
            ("kind", "fullouter") => (JoinType::Full, false),
            ("kind", "leftsemi") => (JoinType::LeftSemi, true),
            ("kind", "rightsemi") => (JoinType::RightSemi, true),
            ("kind", "leftanti" | "anti" | "leftantisemi") => (JoinType::LeftAnti, true),
            ("kind", "rightanti" | "rightantisemi") => (JoinType::RightAnti, true),
            (name, value) => {
                let error = KustoError::unsupported(format!("join: '{name}={value}' is not supported by this server"));
                return Err(located(scope, parameter.name.span, error));
            }
        };
        kind = Kind { join, unique: value == "innerunique", one_side };
    }
    Ok(kind)
}

impl Planner {
    pub(crate) fn join(
        &self,
        left: Relation,
        parameters: &[OperatorParameter],
        right: &Expr,
        on: &[Expr],
        scope: &Scope,
    ) -> Result<Relation, KustoError> {
        let kind = kind(parameters, scope)?;
        let right = self.relation(right, scope)?;
        let mut pairs = Vec::new();
        for condition in on {
            pair_up(condition, &left, &right, &mut pairs).map_err(|error| located(scope, condition.span, error))?;
        }
        if pairs.is_empty() {
            return Err(KustoError::semantic("SEM0072", "join needs at least one key after 'on'"));
        }
        let (left_keys, right_keys): (Vec<Scalar>, Vec<Scalar>) = pairs.into_iter().unzip();
        let (left, left_ids) = self.with_keys(left, left_keys)?;
        let (right, right_ids) = self.with_keys(right, right_keys)?;
        let left = if kind.unique { self.unique(left, &left_ids)? } else { left };
        let columns = |ids: &[String]| ids.iter().map(PlanColumn::new_unqualified).collect::<Vec<_>>();
        let plan = left
            .builder()
            .join_detailed(
                right.plan.clone(),
                kind.join,
                (columns(&left_ids), columns(&right_ids)),
                None,
                NullEquality::NullEqualsNull,
            )
            .and_then(LogicalPlanBuilder::build)
            .map_err(planning)?;
        let columns = self.joined_columns(&left, &right, kind);
        let (named, bound): (Vec<String>, Vec<BoundColumn>) = columns.into_iter().unzip();
        let projected = named
            .into_iter()
            .zip(&bound)
            .map(|(name, column)| {
                let scalar_type = column.scalar_type;
                // The missing side of an outer join is null, but a string never is.
                let expr = if matches!(kind.join, JoinType::Left | JoinType::Right | JoinType::Full) {
                    never_null(by_id(&column.id), scalar_type)
                } else {
                    by_id(&column.id)
                };
                (name, Scalar::new(expr, scalar_type))
            })
            .collect();
        Relation::new(bound, plan).project(&self.ids, projected)
    }

    #[allow(clippy::unused_self)] // A step of the above.
    fn joined_columns(&self, left: &Relation, right: &Relation, kind: Kind) -> Vec<(String, BoundColumn)> {
        let from_right = matches!(kind.join, JoinType::RightSemi | JoinType::RightAnti);
        let mut columns: Vec<(String, BoundColumn)> = Vec::new();
        if !from_right {
            columns.extend(left.columns.iter().map(|column| (column.name.clone(), column.clone())));
        }
        if from_right || !kind.one_side {
            for column in &right.columns {
                let taken: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
                columns.push((unique_name(&taken, &column.name), column.clone()));
            }
        }
        columns
    }

    /// The table with its keys as columns of their own.
    fn with_keys(&self, input: Relation, keys: Vec<Scalar>) -> Result<(Relation, Vec<String>), KustoError> {
        let mut expressions: Vec<PlanExpr> = input.columns.iter().map(|column| by_id(&column.id)).collect();
        let mut ids = Vec::with_capacity(keys.len());
        for key in keys {
            let id = self.ids.next();
            expressions.push(key.expr.alias(&id));
            ids.push(id);
        }
        let plan = input.builder().project(expressions).and_then(LogicalPlanBuilder::build).map_err(planning)?;
        Ok((Relation::new(input.columns, plan), ids))
    }

    /// One row for each key.
    fn unique(&self, input: Relation, keys: &[String]) -> Result<Relation, KustoError> {
        let groups: Vec<PlanExpr> = keys.iter().map(|id| by_id(id)).collect();
        let firsts: Vec<(String, PlanExpr)> = input
            .columns
            .iter()
            .map(|column| {
                let id = self.ids.next();
                let first = first_value(by_id(&column.id), Vec::new()).alias(&id);
                (id, first)
            })
            .collect();
        let (ids, aggregates): (Vec<String>, Vec<PlanExpr>) = firsts.into_iter().unzip();
        let plan =
            input.builder().aggregate(groups, aggregates).and_then(LogicalPlanBuilder::build).map_err(planning)?;
        let columns = input.columns.into_iter().zip(ids).map(|(column, id)| BoundColumn { id, ..column }).collect();
        Ok(Relation::new(columns, plan))
    }
}

/// The keys that one condition of `on` compares.
fn pair_up(
    condition: &Expr,
    left: &Relation,
    right: &Relation,
    pairs: &mut Vec<(Scalar, Scalar)>,
) -> Result<(), KustoError> {
    match &condition.kind {
        ExprKind::Name(name) => {
            let (l, r) = (key(left, name)?, key(right, name)?);
            pairs.push(same_type(l, r)?);
            Ok(())
        }
        ExprKind::Binary { op: BinaryOp::And, left: first, right: second } => {
            pair_up(first, left, right, pairs)?;
            pair_up(second, left, right, pairs)
        }
        ExprKind::Binary { op: BinaryOp::Equal, left: first, right: second } => {
            let pair = match (side(first), side(second)) {
                (Some((true, l)), Some((false, r))) | (Some((false, r)), Some((true, l))) => {
                    same_type(key(left, l)?, key(right, r)?)?
                }
                _ => return Err(not_an_equality()),
            };
            pairs.push(pair);
            Ok(())
        }
        _ => Err(not_an_equality()),
    }
}

fn not_an_equality() -> KustoError {
    KustoError::semantic("SEM0072", "join: a condition is a column's name or $left.a == $right.b")
}

/// `$left.a` is `(true, "a")`.
fn side(expr: &Expr) -> Option<(bool, &str)> {
    let ExprKind::Member { target, member } = &expr.kind else { return None };
    match &target.kind {
        ExprKind::Name(name) if name == "$left" => Some((true, &member.name)),
        ExprKind::Name(name) if name == "$right" => Some((false, &member.name)),
        _ => None,
    }
}

fn key(relation: &Relation, name: &str) -> Result<Scalar, KustoError> {
    let column = relation.column(name).ok_or_else(|| no_column(name))?;
    if column.scalar_type == ScalarType::Dynamic {
        return Err(no_dynamic("join", &format!("the key '{name}'")));
    }
    Ok(column.scalar())
}

fn same_type(left: Scalar, right: Scalar) -> Result<(Scalar, Scalar), KustoError> {
    let (l, r) = (left.scalar_type, right.scalar_type);
    if l == r {
        return Ok((left, right));
    }
    match wider(l, r) {
        Some(wide) => Ok((convert(&left, wide), convert(&right, wide))),
        None => Err(KustoError::semantic("SEM0072", format!("join: the keys have different types, {l} and {r}"))),
    }
}
