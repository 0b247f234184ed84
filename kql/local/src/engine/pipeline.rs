//! Tabular operators on a planned table, each a small function from table to table. Blocking; the larger ones (`summarize`, `join`, `union`, `mv-expand`)
//! have modules of their own.

use std::sync::Arc;

use datafusion::{
    arrow::array::{Int64Array, RecordBatch, StringArray},
    common::DataFusionError,
    functions_aggregate::expr_fn::count,
    logical_expr::{LogicalPlanBuilder, SortExpr, lit},
};
use kql::{
    syntax::ast::{Expr, ExprKind, Ident, NamedExpr, Operator, OperatorKind, Renaming, Reordering, SortKey},
    types::ScalarType,
};

use super::{
    expression::Binder,
    naming::{Namer, implied_by},
    planner::{Planner, located},
    relation::{BoundColumn, Relation, by_id, planning, unique_name},
    scalar::Scalar,
    scope::{Binding, Scope},
    sources::declared_twice,
    tabular::Planned,
};
use crate::{
    error::KustoError,
    rows::{Column, Schema},
};

impl Planner {
    /// All operators of a pipeline. Those that can travel are handed to the legs of a federated table; the first that cannot makes it local.
    pub(crate) fn operators(
        &self,
        source: Planned,
        operators: &[Operator],
        scope: &Scope,
    ) -> Result<Planned, KustoError> {
        let mut planned = source;
        let mut scope = scope.clone();
        for operator in operators {
            self.deeper(|| Ok(()))?;
            let step = |planned| match planned {
                Planned::Relation(relation) => self.operator(relation, operator, &scope).map(Planned::Relation),
                Planned::Legs(legs) => self.push(legs, operator, &scope),
            };
            planned = step(planned).map_err(|error| located(&scope, operator.span, error))?;
            if let (OperatorKind::As(name), Planned::Relation(relation)) = (&operator.kind, &planned) {
                scope = scope.with(&name.name, Binding::Relation(Box::new(relation.clone())));
            }
        }
        Ok(planned)
    }

    /// One operator.
    pub(crate) fn operator(&self, input: Relation, operator: &Operator, scope: &Scope) -> Result<Relation, KustoError> {
        match &operator.kind {
            OperatorKind::Where(predicate) => self.filter(input, predicate, scope),
            OperatorKind::Extend(columns) => self.extend(input, columns, scope),
            OperatorKind::Project(columns) => self.project(input, columns, scope),
            OperatorKind::ProjectAway(patterns) => self.project_away(input, patterns, scope),
            OperatorKind::ProjectKeep(patterns) => self.project_keep(input, patterns, scope),
            OperatorKind::ProjectRename(renamings) => rename(input, renamings, scope),
            OperatorKind::ProjectReorder(patterns) => reorder(input, patterns),
            OperatorKind::Summarize { aggregates, by, .. } => self.summarize(input, aggregates, by, scope),
            OperatorKind::Distinct(columns) => self.distinct(input, columns, scope),
            OperatorKind::Take(count) => {
                let count = self.row_count(count, scope, "take")?;
                limit(input, count)
            }
            OperatorKind::Top { count, by } => {
                let count = self.row_count(count, scope, "top")?;
                let sorted = self.sort(input, by, Some(count), scope)?;
                limit(sorted, count)
            }
            OperatorKind::Sort(by) => self.sort(input, by, None, scope),
            OperatorKind::Count(name) => self.count(&input, name.as_ref()),
            OperatorKind::Join { parameters, right, on } => self.join(input, parameters, right, on, scope),
            OperatorKind::Union(clause) => self.union(Some(input), clause, scope),
            OperatorKind::MvExpand { parameters, columns, limit } => {
                self.mv_expand(input, parameters, columns, limit.as_ref(), scope)
            }
            OperatorKind::GetSchema => self.get_schema(&input.schema()),
            OperatorKind::As(name) => Ok(Relation { label: Some(name.name.clone()), ..input }),
            OperatorKind::Render { .. } => Ok(input),
        }
    }

    fn filter(&self, input: Relation, predicate: &Expr, scope: &Scope) -> Result<Relation, KustoError> {
        let condition = Binder::new(self, scope, Some(&input)).bind_condition(predicate, "'where' operator")?;
        let plan = input.builder().filter(condition).and_then(LogicalPlanBuilder::build).map_err(planning)?;
        Ok(input.with_plan(plan))
    }

    fn extend(&self, input: Relation, columns: &[NamedExpr], scope: &Scope) -> Result<Relation, KustoError> {
        let added = self.extended_columns(&input, columns, scope)?;
        input.extend(&self.ids, added)
    }

    /// The columns that `extend` gives, new ones and replaced ones.
    pub(crate) fn extended_columns(
        &self,
        input: &Relation,
        columns: &[NamedExpr],
        scope: &Scope,
    ) -> Result<Vec<(String, Scalar)>, KustoError> {
        let binder = Binder::new(self, scope, Some(input));
        let mut namer = Namer::default();
        let mut added: Vec<(String, Scalar)> = Vec::with_capacity(columns.len());
        for column in columns {
            let (mut name, written) = namer.name(column, input);
            // A number of our own choosing must not hide a column: Column1 goes on counting.
            while !written && implied_by(&column.value, input).is_none() && input.column(&name).is_some() {
                name = namer.name(column, input).0;
            }
            let value = binder.bind(&column.value)?;
            match added.iter_mut().find(|(present, _)| *present == name) {
                Some(_) if written => {
                    let span = column.name.as_ref().map_or(column.value.span, |name| name.span);
                    return Err(located(scope, span, declared_twice(&name)));
                }
                Some((_, present)) => *present = value,
                None => added.push((name, value)),
            }
        }
        Ok(added)
    }

    fn project(&self, input: Relation, columns: &[NamedExpr], scope: &Scope) -> Result<Relation, KustoError> {
        let columns = self.named_columns(&input, columns, scope)?;
        input.project(&self.ids, columns)
    }

    /// Bound expressions with the names of their columns. A name that is written twice is an error; one that is implied twice gets a number.
    pub(crate) fn named_columns(
        &self,
        input: &Relation,
        columns: &[NamedExpr],
        scope: &Scope,
    ) -> Result<Vec<(String, Scalar)>, KustoError> {
        let binder = Binder::new(self, scope, Some(input));
        let mut namer = Namer::default();
        let mut taken: Vec<String> = Vec::with_capacity(columns.len());
        let mut declared: Vec<String> = Vec::new();
        let mut bound = Vec::with_capacity(columns.len());
        for column in columns {
            let (name, written) = namer.name(column, input);
            if written || matches!(column.value.kind, ExprKind::Name(_)) {
                if declared.contains(&name) {
                    return Err(located(scope, column.value.span, declared_twice(&name)));
                }
                declared.push(name.clone());
            }
            let name = unique_name(&taken, &name);
            taken.push(name.clone());
            bound.push((name, binder.bind(&column.value)?));
        }
        Ok(bound)
    }

    fn project_away(&self, input: Relation, patterns: &[Ident], scope: &Scope) -> Result<Relation, KustoError> {
        let gone = matching(&input, patterns, scope)?;
        let kept: Vec<String> = names(&input).into_iter().filter(|name| !gone.contains(name)).collect();
        input.select(&self.ids, &kept)
    }

    fn project_keep(&self, input: Relation, patterns: &[Ident], scope: &Scope) -> Result<Relation, KustoError> {
        let matched = matching(&input, patterns, scope)?;
        // The columns keep the table's order.
        let kept: Vec<String> = names(&input).into_iter().filter(|name| matched.contains(name)).collect();
        input.select(&self.ids, &kept)
    }

    fn distinct(&self, input: Relation, columns: &[NamedExpr], scope: &Scope) -> Result<Relation, KustoError> {
        let all = matches!(columns, [NamedExpr { value: Expr { kind: ExprKind::Star, .. }, .. }]);
        let input = Relation::new(input.columns, input.plan);
        let projected = if all {
            input
        } else {
            let columns = self.named_columns(&input, columns, scope)?;
            input.project(&self.ids, columns)?
        };
        if let Some(column) = projected.columns.iter().find(|column| column.scalar_type == ScalarType::Dynamic) {
            return Err(no_dynamic("distinct", &column.name));
        }
        // Other columns that the plan still carries, such as the ingestion time, must not make rows differ.
        let kept: Vec<String> = names(&projected);
        let projected = projected.select(&self.ids, &kept)?;
        let keys: Vec<_> = projected.columns.iter().map(|column| by_id(&column.id)).collect();
        let nothing: Vec<datafusion::logical_expr::Expr> = Vec::new();
        let plan =
            projected.builder().aggregate(keys, nothing).and_then(LogicalPlanBuilder::build).map_err(planning)?;
        Ok(projected.with_plan(plan))
    }

    /// The number of rows that `take` or `top` is given.
    pub(crate) fn row_count(&self, count: &Expr, scope: &Scope, place: &str) -> Result<usize, KustoError> {
        let bound = Binder::new(self, scope, None).bind(count)?;
        if !matches!(bound.scalar_type, ScalarType::Int | ScalarType::Long) {
            let error = KustoError::semantic(
                "SEM0025",
                format!("{place}: the number of rows is a whole number, not of type {}", bound.scalar_type),
            );
            return Err(located(scope, count.span, error));
        }
        let count = self
            .constant(&bound, ScalarType::Long, place)
            .map_err(|error| located(scope, count.span, error))?
            .constant_long()
            .ok_or_else(|| KustoError::semantic("SEM0025", format!("{place}: the number of rows must not be null")))?;
        // Fewer than none is none.
        Ok(usize::try_from(count.max(0)).unwrap_or(usize::MAX))
    }

    fn sort(
        &self,
        input: Relation,
        by: &[SortKey],
        fetch: Option<usize>,
        scope: &Scope,
    ) -> Result<Relation, KustoError> {
        let binder = Binder::new(self, scope, Some(&input));
        // Keys become columns first: DataFusion takes an expression of a sort for one of the plan below if they print the same, a literal for the literal of a
        // limit for instance.
        let mut expressions = Relation { order: Vec::new(), ..input.clone() }.kept();
        let mut order = Vec::with_capacity(by.len());
        for key in by {
            let bound = binder.bind(&key.value.value)?;
            if bound.scalar_type == ScalarType::Dynamic {
                return Err(located(scope, key.value.value.span, no_dynamic("sort", "the key")));
            }
            let ascending = key.ascending.unwrap_or(false);
            let nulls_first = key.nulls_first.unwrap_or(ascending);
            let id = self.ids.next();
            expressions.push(bound.expr.alias(&id));
            order.push(SortExpr::new(by_id(&id), ascending, nulls_first));
        }
        let plan = input
            .builder()
            .project(expressions)
            .and_then(|builder| builder.sort_with_limit(order.clone(), fetch))
            .and_then(LogicalPlanBuilder::build)
            .map_err(planning)?;
        Ok(Relation { order, ..input.with_plan(plan) })
    }

    fn count(&self, input: &Relation, name: Option<&Ident>) -> Result<Relation, KustoError> {
        let id = self.ids.next();
        let nothing: Vec<datafusion::logical_expr::Expr> = Vec::new();
        let plan = input
            .builder()
            .aggregate(nothing, vec![count(lit(1_i64)).alias(&id)])
            .and_then(one_row)
            .and_then(LogicalPlanBuilder::build)
            .map_err(planning)?;
        let name = name.map_or("Count", |name| &name.name).to_owned();
        let column = BoundColumn { name, scalar_type: ScalarType::Long, id };
        Ok(Relation::new(vec![column], plan))
    }

    /// `getschema`
    pub(crate) fn get_schema(&self, schema: &Schema) -> Result<Relation, KustoError> {
        let columns = schema.columns();
        let names: StringArray = columns.iter().map(|column| Some(column.name.as_str())).collect();
        let ordinals: Int64Array = (0_i64..).take(columns.len()).map(Some).collect();
        let dotnet: StringArray = columns.iter().map(|column| Some(column.scalar_type.dotnet_name())).collect();
        let types: StringArray = columns.iter().map(|column| Some(column.scalar_type.name())).collect();
        let described = Schema::new(vec![
            Column::new("ColumnName", ScalarType::String),
            Column::new("ColumnOrdinal", ScalarType::Long),
            Column::new("DataType", ScalarType::String),
            Column::new("ColumnType", ScalarType::String),
        ]);
        let batch = RecordBatch::try_new(
            described.arrow_schema(),
            vec![Arc::new(names), Arc::new(ordinals), Arc::new(dotnet), Arc::new(types)],
        )
        .map_err(|error| KustoError::internal(format!("getschema: {error}.")))?;
        self.memory(&described, &[batch], false, None)
    }
}

/// Ends an aggregation without keys, which gives one row even for no input. DataFusion pushes a later condition without columns through such an aggregation,
/// where it removes the input and not the row; through a limit nothing is pushed.
pub(crate) fn one_row(builder: LogicalPlanBuilder) -> Result<LogicalPlanBuilder, DataFusionError> {
    builder.limit(0, Some(1))
}

pub(crate) fn limit(input: Relation, count: usize) -> Result<Relation, KustoError> {
    let plan = input.builder().limit(0, Some(count)).and_then(LogicalPlanBuilder::build).map_err(planning)?;
    Ok(input.with_plan(plan))
}

pub(crate) fn no_dynamic(operator: &str, what: &str) -> KustoError {
    KustoError::semantic(
        "SEM0025",
        format!(
            "{operator}: {what} is of type dynamic, which has no order and no equality; convert it, for instance by tostring()"
        ),
    )
}

fn names(input: &Relation) -> Vec<String> {
    input.columns.iter().map(|column| column.name.clone()).collect()
}

/// Whether a name matches a pattern in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The columns that patterns name. A name without `*` must be there.
fn matching(input: &Relation, patterns: &[Ident], scope: &Scope) -> Result<Vec<String>, KustoError> {
    let mut found = Vec::new();
    for pattern in patterns {
        if !pattern.name.contains('*') && input.column(&pattern.name).is_none() {
            return Err(located(scope, pattern.span, no_column(&pattern.name)));
        }
        found.extend(names(input).into_iter().filter(|name| matches(&pattern.name, name)));
    }
    Ok(found)
}

pub(crate) fn no_column(name: &str) -> KustoError {
    KustoError::semantic("SEM0100", format!("Failed to resolve column named '{name}'"))
}

fn rename(mut input: Relation, renamings: &[Renaming], scope: &Scope) -> Result<Relation, KustoError> {
    let mut renamed = Vec::with_capacity(renamings.len());
    for renaming in renamings {
        let position = input
            .columns
            .iter()
            .position(|column| column.name == renaming.old.name)
            .ok_or_else(|| located(scope, renaming.old.span, no_column(&renaming.old.name)))?;
        renamed.push((position, renaming));
    }
    for (position, renaming) in renamed {
        input.columns[position].name.clone_from(&renaming.new.name);
    }
    for (index, column) in input.columns.iter().enumerate() {
        if input.columns[..index].iter().any(|earlier| earlier.name == column.name) {
            return Err(declared_twice(&column.name));
        }
    }
    input.label = None;
    Ok(input)
}

fn reorder(mut input: Relation, patterns: &[Reordering]) -> Result<Relation, KustoError> {
    let mut front: Vec<BoundColumn> = Vec::with_capacity(input.columns.len());
    for pattern in patterns {
        if !pattern.pattern.name.contains('*') && input.column(&pattern.pattern.name).is_none() {
            return Err(no_column(&pattern.pattern.name));
        }
        let mut matched: Vec<BoundColumn> = input
            .columns
            .iter()
            .filter(|column| matches(&pattern.pattern.name, &column.name))
            .filter(|column| front.iter().all(|placed| placed.name != column.name))
            .cloned()
            .collect();
        match pattern.ascending {
            Some(true) => matched.sort_by(|a, b| a.name.cmp(&b.name)),
            Some(false) => matched.sort_by(|a, b| b.name.cmp(&a.name)),
            None => {}
        }
        front.extend(matched);
    }
    let rest: Vec<BoundColumn> =
        input.columns.iter().filter(|column| front.iter().all(|placed| placed.name != column.name)).cloned().collect();
    front.extend(rest);
    input.columns = front;
    input.label = None;
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [("a*", "abc"), ("*c", "abc"), ("a*c", "abc"), ("*", ""), ("*b*", "abc"), ("abc", "abc")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a*", "b"), ("ab", "abc"), ("a*a", "a"), ("A*", "abc")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
