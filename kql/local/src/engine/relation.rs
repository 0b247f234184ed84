//! A planned table: Kusto's column names and types beside a DataFusion plan. Pure; used by every tabular operator.
//!
//! Inside the plan a column goes by an id that is unique in the query (`c17`), never by its Kusto name: DataFusion folds the case of names, qualifies them
//! and refuses duplicates, and none of that may leak into Kusto's rules.

use std::cell::Cell;

use datafusion::{
    common::{Column as PlanColumn, DataFusionError},
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SortExpr},
};
use kql::types::ScalarType;

use super::scalar::Scalar;
use crate::{
    error::KustoError,
    rows::{Column, Schema},
};

/// A column of a planned table.
#[derive(Debug, Clone)]
pub(crate) struct BoundColumn {
    /// Kusto's name.
    pub(crate) name: String,
    pub(crate) scalar_type: ScalarType,
    /// The name in the plan.
    pub(crate) id: String,
}

impl BoundColumn {
    pub(crate) fn scalar(&self) -> Scalar {
        Scalar::new(by_id(&self.id), self.scalar_type)
    }
}

/// The column of the plan with this id.
pub(crate) fn by_id(id: &str) -> Expr {
    Expr::Column(PlanColumn::new_unqualified(id))
}

/// A planned table.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub(crate) columns: Vec<BoundColumn>,
    pub(crate) plan: LogicalPlan,
    /// The id of the time at which each row was stored, as long as the rows are those of a table.
    pub(crate) ingestion_time: Option<String>,
    /// The keys by which the rows are sorted, each the id of a column that the plan keeps; empty if their order means nothing. An aggregate that keeps the order
    /// of its input asks for it, because DataFusion sorts only for those who ask.
    pub(crate) order: Vec<SortExpr>,
    /// The table's name, as long as this is nothing but a table: what `withsource` writes.
    pub(crate) label: Option<String>,
}

impl Relation {
    /// A planned table whose rows are in no order and have no time of their own.
    pub(crate) const fn new(columns: Vec<BoundColumn>, plan: LogicalPlan) -> Self {
        Self { columns, plan, ingestion_time: None, order: Vec::new(), label: None }
    }

    pub(crate) fn column(&self, name: &str) -> Option<&BoundColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub(crate) fn schema(&self) -> Schema {
        self.columns.iter().map(|column| Column::new(&column.name, column.scalar_type)).collect()
    }

    /// The same columns over a plan that keeps them.
    pub(crate) fn with_plan(self, plan: LogicalPlan) -> Self {
        Self { plan, label: None, ..self }
    }

    pub(crate) fn builder(&self) -> LogicalPlanBuilder {
        LogicalPlanBuilder::from(self.plan.clone())
    }

    /// Everything that a plan over this one keeps: the columns, and what is hidden beside them.
    pub(crate) fn kept(&self) -> Vec<Expr> {
        let columns = self.columns.iter().map(|column| by_id(&column.id));
        columns.chain(self.hidden(&self.columns)).collect()
    }

    /// The ingestion time and the keys of the order, as far as they are none of these columns.
    fn hidden(&self, columns: &[BoundColumn]) -> Vec<Expr> {
        let keys = self.order.iter().filter_map(|key| match &key.expr {
            Expr::Column(column) => Some(&column.name),
            _ => None,
        });
        let mut hidden: Vec<&String> = Vec::new();
        for id in self.ingestion_time.iter().chain(keys) {
            if !hidden.contains(&id) && columns.iter().all(|column| column.id != *id) {
                hidden.push(id);
            }
        }
        hidden.into_iter().map(|id| by_id(id)).collect()
    }

    /// Other columns, computed from these. The ingestion time and the order stay.
    pub(crate) fn project(self, ids: &Ids, columns: Vec<(String, Scalar)>) -> Result<Self, KustoError> {
        let mut bound: Vec<BoundColumn> = Vec::with_capacity(columns.len());
        let mut expressions = Vec::with_capacity(columns.len() + 1);
        for (name, scalar) in columns {
            let kept = match &scalar.expr {
                Expr::Column(column) if column.relation.is_none() => Some(column.name.clone()),
                _ => None,
            };
            let kept = kept.filter(|id| bound.iter().all(|column| column.id != *id));
            let id = match kept {
                Some(id) => {
                    expressions.push(scalar.expr);
                    id
                }
                None => {
                    let id = ids.next();
                    expressions.push(scalar.expr.alias(&id));
                    id
                }
            };
            bound.push(BoundColumn { name, scalar_type: scalar.scalar_type, id });
        }
        expressions.extend(self.hidden(&bound));
        let plan = self.builder().project(expressions).and_then(LogicalPlanBuilder::build).map_err(planning)?;
        Ok(Self { columns: bound, plan, label: None, ..self })
    }

    /// These columns, some replaced and some added at the end.
    pub(crate) fn extend(self, ids: &Ids, added: Vec<(String, Scalar)>) -> Result<Self, KustoError> {
        let mut columns: Vec<(String, Scalar)> =
            self.columns.iter().map(|column| (column.name.clone(), column.scalar())).collect();
        for (name, scalar) in added {
            match columns.iter_mut().find(|(present, _)| *present == name) {
                Some((_, present)) => *present = scalar,
                None => columns.push((name, scalar)),
            }
        }
        self.project(ids, columns)
    }

    /// Only some of the columns, in the order given.
    pub(crate) fn select(self, ids: &Ids, names: &[String]) -> Result<Self, KustoError> {
        let columns =
            names.iter().filter_map(|name| self.column(name).map(|column| (name.clone(), column.scalar()))).collect();
        self.project(ids, columns)
    }
}

/// The source of column ids, one for each query.
#[derive(Debug, Default)]
pub(crate) struct Ids(Cell<u64>);

impl Ids {
    pub(crate) fn next(&self) -> String {
        let id = self.0.get();
        self.0.set(id + 1);
        format!("c{id}")
    }
}

/// An error of DataFusion while a plan is made: our own mistake.
#[allow(clippy::needless_pass_by_value)] // The form that map_err takes.
pub(crate) fn planning(error: DataFusionError) -> KustoError {
    let error = error.find_root().to_string();
    KustoError::internal(format!("The query could not be planned: {error}"))
}

/// A name that is not taken yet: the name itself, else with the smallest number from 1 that is free.
pub(crate) fn unique_name(taken: &[String], name: &str) -> String {
    if !taken.iter().any(|present| present == name) {
        return name.to_owned();
    }
    let mut number = 1_u32;
    loop {
        let candidate = format!("{name}{number}");
        if !taken.contains(&candidate) {
            return candidate;
        }
        number += 1;
    }
}
