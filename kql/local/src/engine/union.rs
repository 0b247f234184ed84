//! `union`: rows of several tables under one set of columns. Blocking only through its tables; called for the source, the operator and the legs of a
//! `macro-expand`.

use std::sync::Arc;

use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder, Union};
use kql::{
    syntax::ast::{Expr, ExprKind, Literal, OperatorParameter, ParameterValue, Span, UnionClause},
    types::ScalarType,
};

use super::{
    pipeline::matches,
    planner::{Planner, located},
    relation::{BoundColumn, Relation, by_id, planning, unique_name},
    scalar::Scalar,
    scope::{Scope, Target},
};
use crate::{
    error::{KustoError, KustoErrorKind},
    rows::{Column, Schema},
};

/// What a `union` is asked for.
#[derive(Debug, Default)]
struct Options {
    inner: bool,
    source_column: Option<String>,
    fuzzy: bool,
}

fn options(clause: &UnionClause, scope: &Scope) -> Result<Options, KustoError> {
    let mut options = Options::default();
    for parameter in &clause.parameters {
        match (parameter.name.name.as_str(), &parameter.value) {
            (name, _) if name.starts_with("hint.") => {}
            ("kind", ParameterValue::Name(kind)) if kind.name == "inner" => options.inner = true,
            ("kind", ParameterValue::Name(kind)) if kind.name == "outer" => options.inner = false,
            ("withsource" | "with_source", ParameterValue::Name(name)) => {
                options.source_column = Some(name.name.clone());
            }
            ("withsource" | "with_source", ParameterValue::Literal(Literal::String(name))) => {
                options.source_column = Some(name.clone());
            }
            ("isfuzzy", value) => options.fuzzy = flag(value, parameter, scope)?,
            (name, _) => {
                let error = KustoError::unsupported(format!(
                    "union: the parameter '{name}' has a value this server does not know"
                ));
                return Err(located(scope, parameter.name.span, error));
            }
        }
    }
    Ok(options)
}

/// A parameter that is `true` or `false`.
pub(crate) fn flag(value: &ParameterValue, parameter: &OperatorParameter, scope: &Scope) -> Result<bool, KustoError> {
    match value {
        ParameterValue::Literal(Literal::Bool(Some(value))) => Ok(*value),
        ParameterValue::Name(name) if name.name == "true" => Ok(true),
        ParameterValue::Name(name) if name.name == "false" => Ok(false),
        _ => {
            let error = KustoError::semantic("SEM0025", format!("'{}' is true or false", parameter.name.name));
            Err(located(scope, parameter.name.span, error))
        }
    }
}

/// Whether an error says that a table, function or database is not there: what `isfuzzy` passes over. A column that is not there, or a function that this
/// server lacks, is a mistake in the text and fails the query.
pub(crate) const fn is_unresolved(error: &KustoError) -> bool {
    matches!(
        error.kind,
        KustoErrorKind::Unresolved { .. } | KustoErrorKind::NotFound | KustoErrorKind::DatabaseNotFound
    )
}

impl Planner {
    /// The rows of what comes through the pipe, if anything does, and of the tables.
    pub(crate) fn union(
        &self,
        piped: Option<Relation>,
        clause: &UnionClause,
        scope: &Scope,
    ) -> Result<Relation, KustoError> {
        let options = options(clause, scope)?;
        let mut tables: Vec<(String, Relation)> = Vec::new();
        if let Some(piped) = piped {
            tables.push((piped.label.clone().unwrap_or_else(|| "union_arg0".to_owned()), piped));
        }
        let mut unresolved = None;
        for expr in &clause.tables {
            let found = match &expr.kind {
                ExprKind::Name(pattern) if pattern.contains('*') => self.wildcard(pattern, expr.span, scope),
                _ => self.relation(expr, scope).map(|relation| vec![self.label(expr, relation, tables.len(), scope)]),
            };
            match found {
                Ok(found) => tables.extend(found),
                Err(error) if options.fuzzy && is_unresolved(&error) => {
                    self.warn(format!("union isfuzzy=true left a table out: {error}"));
                    unresolved = Some(error);
                }
                Err(error) => return Err(located(scope, expr.span, error)),
            }
        }
        if tables.is_empty() {
            return Err(unresolved.unwrap_or_else(|| KustoError::semantic("SEM0100", "union: no table matches")));
        }
        if let Some(name) = options.source_column {
            tables = tables
                .into_iter()
                .map(|(label, table)| Ok((label.clone(), self.with_source(table, &name, &label)?)))
                .collect::<Result<_, KustoError>>()?;
        }
        let tables: Vec<Relation> = tables.into_iter().map(|(_, table)| table).collect();
        self.unite(&tables, options.inner)
    }

    /// What `withsource` calls a table: its name, with its database if that is another, or its place in the union.
    fn label(&self, expr: &Expr, relation: Relation, position: usize, scope: &Scope) -> (String, Relation) {
        let own = || format!("union_arg{position}");
        let label = match &expr.kind {
            ExprKind::Member { target, member } => self.qualified(target, &member.name, scope),
            ExprKind::MemberCall { target, name, .. } if name.name == "table" => {
                relation.label.clone().and_then(|table| self.qualified(target, &table, scope))
            }
            _ => relation.label.clone(),
        };
        (label.unwrap_or_else(own), relation)
    }

    fn qualified(&self, target: &Expr, table: &str, scope: &Scope) -> Option<String> {
        let Target { cluster, database } = self.entity_unchecked(target, scope).ok()?;
        Some(match cluster {
            Some(cluster) => format!(
                "cluster({}).database({}).{table}",
                kql::literal::string(&cluster),
                kql::literal::string(&database)
            ),
            None if database == scope.place.database => table.to_owned(),
            None => format!("database({}).{table}", kql::literal::string(&database)),
        })
    }

    /// The tables and views that a pattern matches, in the order of their names.
    fn wildcard(&self, pattern: &str, span: Span, scope: &Scope) -> Result<Vec<(String, Relation)>, KustoError> {
        let database = &scope.place.database;
        let catalog = self.database(database)?;
        let views = catalog.view_names();
        // A function hides a table of its name.
        let mut names: Vec<String> = catalog.table_names();
        names.extend(views.iter().cloned());
        names.sort();
        names.dedup();
        names.retain(|name| matches(pattern, name));
        let bound: Vec<&str> = scope.table_names().into_iter().filter(|name| matches(pattern, name)).collect();
        if !bound.is_empty() {
            return Err(KustoError::unsupported(format!(
                "union {pattern}: this server's wildcards see stored tables and views only; name '{}' in full",
                bound[0]
            )));
        }
        let relation = |name: String| {
            let relation = if views.contains(&name) {
                self.relation(&Expr { kind: ExprKind::Name(name.clone()), span }, scope)?
            } else {
                self.scan(database, &name)?
            };
            Ok((name, relation))
        };
        names.into_iter().map(relation).collect()
    }

    fn with_source(&self, table: Relation, name: &str, label: &str) -> Result<Relation, KustoError> {
        let mut columns = vec![(name.to_owned(), Scalar::string(label))];
        let mut taken = vec![name.to_owned()];
        for column in &table.columns {
            let own = unique_name(&taken, &column.name);
            taken.push(own.clone());
            columns.push((own, column.scalar()));
        }
        table.project(&self.ids, columns)
    }

    /// One table of several. A column that has two types becomes one for each: `b_long`, `b_string`.
    pub(crate) fn unite(&self, tables: &[Relation], inner: bool) -> Result<Relation, KustoError> {
        let schemas: Vec<Schema> = tables.iter().map(Relation::schema).collect();
        let united = united_columns(&schemas, inner);
        let columns: Vec<BoundColumn> = united
            .iter()
            .map(|column| BoundColumn {
                name: column.column.name.clone(),
                scalar_type: column.column.scalar_type,
                id: self.ids.next(),
            })
            .collect();
        let timed = tables.iter().any(|table| table.ingestion_time.is_some()).then(|| self.ids.next());
        let mut inputs: Vec<Arc<LogicalPlan>> = Vec::with_capacity(tables.len());
        for table in tables {
            let mut expressions: Vec<PlanExpr> = Vec::with_capacity(columns.len() + 1);
            for (wanted, bound) in united.iter().zip(&columns) {
                let present = table.column(&wanted.origin).filter(|column| column.scalar_type == bound.scalar_type);
                let scalar = present.map_or_else(|| Scalar::null(bound.scalar_type), BoundColumn::scalar);
                expressions.push(scalar.expr.alias(&bound.id));
            }
            if let Some(id) = &timed {
                let time =
                    table.ingestion_time.as_deref().map_or_else(|| Scalar::null(ScalarType::DateTime).expr, by_id);
                expressions.push(time.alias(id));
            }
            let plan = table.builder().project(expressions).and_then(LogicalPlanBuilder::build).map_err(planning)?;
            inputs.push(Arc::new(plan));
        }
        let plan = match inputs.as_slice() {
            [one] => LogicalPlan::clone(one),
            _ => LogicalPlan::Union(Union::try_new(inputs).map_err(planning)?),
        };
        Ok(Relation { ingestion_time: timed, ..Relation::new(columns, plan) })
    }
}

/// A column of a union and the name it has in the tables that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitedColumn {
    pub(crate) column: Column,
    pub(crate) origin: String,
}

/// The columns of a union, in the order in which they first appear.
pub(crate) fn united_columns(schemas: &[Schema], inner: bool) -> Vec<UnitedColumn> {
    let mut names: Vec<&str> = Vec::new();
    for schema in schemas {
        for column in schema.columns() {
            if !names.contains(&&*column.name) {
                names.push(&column.name);
            }
        }
    }
    let mut united = Vec::with_capacity(names.len());
    for name in names {
        let mut types: Vec<ScalarType> = Vec::new();
        let mut everywhere = true;
        for schema in schemas {
            match schema.columns().iter().find(|column| column.name == name) {
                Some(column) if types.contains(&column.scalar_type) => {}
                Some(column) => types.push(column.scalar_type),
                None => everywhere = false,
            }
        }
        if inner && (!everywhere || types.len() > 1) {
            continue;
        }
        for scalar_type in &types {
            let shown = if types.len() == 1 { name.to_owned() } else { format!("{name}_{scalar_type}") };
            united.push(UnitedColumn { column: Column::new(shown, *scalar_type), origin: name.to_owned() });
        }
    }
    // A name with its type appended may be the name of another column.
    let mut taken: Vec<String> = Vec::with_capacity(united.len());
    for column in &mut united {
        column.column.name = unique_name(&taken, &column.column.name);
        taken.push(column.column.name.clone());
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, ScalarType)]) -> Schema {
        columns.iter().map(|(name, scalar_type)| Column::new(*name, *scalar_type)).collect()
    }

    #[test]
    fn a_column_with_two_types_becomes_two_and_order_is_that_of_first_appearance() {
        let schemas = [
            schema(&[("a", ScalarType::Long), ("b", ScalarType::String)]),
            schema(&[("c", ScalarType::Real), ("b", ScalarType::Long), ("a", ScalarType::Long)]),
        ];
        let names = |inner| -> Vec<String> {
            united_columns(&schemas, inner).into_iter().map(|column| column.column.name).collect()
        };
        assert_eq!(names(false), ["a", "b_string", "b_long", "c"]);
        assert_eq!(names(true), ["a"]);
    }
}
