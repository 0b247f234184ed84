//! `mv-expand`: one row for every element of a dynamic array or property bag. Pure but for constants; called by the pipeline.
//!
//! An empty array gives no row, null gives one row with null; several columns are expanded side by side up to the longest.

use std::{borrow::Cow, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, Int64Builder, ListBuilder, StringBuilder},
        datatypes::{DataType, Field},
    },
    common::{Column as PlanColumn, UnnestOptions},
    logical_expr::{Expr as PlanExpr, LogicalPlanBuilder},
};
use kql::{
    syntax::ast::{Expr, MvExpandColumn, OperatorParameter, ParameterValue},
    types::ScalarType,
};
use serde_json::Value;

use super::{
    expression::Binder,
    functions::conversion::element,
    json,
    kernel::{self, Cells},
    naming::Namer,
    planner::{Planner, located},
    relation::{BoundColumn, Relation, by_id, planning},
    scalar::Scalar,
    scope::Scope,
};
use crate::error::KustoError;

/// What a property bag becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bags {
    /// `{"k": v}`, a bag for each property.
    Bag,
    /// `["k", v]`
    Array,
}

impl Planner {
    pub(crate) fn mv_expand(
        &self,
        input: Relation,
        parameters: &[OperatorParameter],
        columns: &[MvExpandColumn],
        limit: Option<&Expr>,
        scope: &Scope,
    ) -> Result<Relation, KustoError> {
        let (bags, index_name) = options(parameters, scope)?;
        let limit = match limit {
            Some(limit) => self.row_count(limit, scope, "mv-expand limit")?,
            None => usize::MAX,
        };
        let binder = Binder::new(self, scope, Some(&input));
        let mut namer = Namer::default();
        let mut sources = Vec::with_capacity(columns.len());
        for column in columns {
            let bound = binder.bind(&column.value.value)?;
            if bound.scalar_type != ScalarType::Dynamic {
                let error = KustoError::semantic(
                    "SEM0025",
                    format!("mv-expand: a dynamic value is expected, this one is of type {}", bound.scalar_type),
                );
                return Err(located(scope, column.value.value.span, error));
            }
            let (name, _) = namer.name(&column.value, &input);
            sources.push((name, bound, column.to_type));
        }
        let mut expressions = input.kept();
        let mut lists: Vec<String> = Vec::with_capacity(sources.len() + 1);
        let values: Vec<PlanExpr> = sources.iter().map(|(_, bound, _)| bound.expr.clone()).collect();
        for position in 0..sources.len() {
            let id = self.ids.next();
            expressions.push(elements_of(position, &values, bags, limit).alias(&id));
            lists.push(id);
        }
        let index = index_name.map(|name| (name, self.ids.next()));
        if let Some((_, id)) = &index {
            expressions.push(indexes_of(&values, bags, limit).alias(id));
        }
        let unnested: Vec<PlanColumn> =
            lists.iter().chain(index.iter().map(|(_, id)| id)).map(PlanColumn::new_unqualified).collect();
        let plan = input
            .builder()
            .project(expressions)
            .and_then(|builder| {
                builder.unnest_columns_with_options(unnested, UnnestOptions::new().with_preserve_nulls(false))
            })
            .and_then(LogicalPlanBuilder::build)
            .map_err(planning)?;
        let mut added: Vec<(String, Scalar)> = Vec::with_capacity(sources.len() + 1);
        for ((name, _, to_type), id) in sources.into_iter().zip(&lists) {
            let expanded = Scalar::new(by_id(id), ScalarType::Dynamic);
            added.push((name, element(&expanded, to_type.unwrap_or(ScalarType::Dynamic))));
        }
        if let Some((name, id)) = index {
            let column = BoundColumn { name: name.clone(), scalar_type: ScalarType::Long, id };
            added.push((name, column.scalar()));
        }
        input.with_plan(plan).extend(&self.ids, added)
    }
}

fn options(parameters: &[OperatorParameter], scope: &Scope) -> Result<(Bags, Option<String>), KustoError> {
    let (mut bags, mut index) = (Bags::Bag, None);
    for parameter in parameters {
        match (parameter.name.name.as_str(), &parameter.value) {
            ("kind" | "bagexpansion", ParameterValue::Name(kind)) if kind.name == "bag" => bags = Bags::Bag,
            ("kind" | "bagexpansion", ParameterValue::Name(kind)) if kind.name == "array" => bags = Bags::Array,
            ("with_itemindex", ParameterValue::Name(name)) => index = Some(name.name.clone()),
            (name, _) => {
                let error = KustoError::unsupported(format!(
                    "mv-expand: the parameter '{name}' has a value this server does not know"
                ));
                return Err(located(scope, parameter.name.span, error));
            }
        }
    }
    Ok((bags, index))
}

/// The JSON texts that a value expands to.
fn expanded(text: Option<&str>, bags: Bags) -> Vec<Cow<'_, str>> {
    let Some(text) = text else { return vec![Cow::Borrowed("null")] };
    match text.as_bytes().first() {
        Some(b'[') => json::elements(text).unwrap_or_default().into_iter().map(Cow::Borrowed).collect(),
        Some(b'{') => match serde_json::from_str(text) {
            Ok(Value::Object(bag)) => bag
                .into_iter()
                .map(|(key, value)| {
                    let key = json::quote(&key);
                    Cow::Owned(match bags {
                        Bags::Bag => format!("{{{key}:{value}}}"),
                        Bags::Array => format!("[{key},{value}]"),
                    })
                })
                .collect(),
            _ => Vec::new(),
        },
        _ => vec![Cow::Borrowed(text)],
    }
}

/// How many rows a row becomes: the longest of its expanded values.
fn length(cells: &Cells, row: usize, bags: Bags, limit: usize) -> usize {
    (0..cells.arguments()).map(|value| expanded(cells.json(value, row), bags).len()).max().unwrap_or(0).min(limit)
}

fn elements_of(position: usize, values: &[PlanExpr], bags: Bags, limit: usize) -> PlanExpr {
    let returns = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    kernel::call(format!("expand {position} {bags:?} {limit}"), returns, values.to_vec(), move |cells| {
        let mut builder = ListBuilder::new(StringBuilder::new());
        for row in 0..cells.rows() {
            let rows = length(cells, row, bags, limit);
            let elements = expanded(cells.json(position, row), bags);
            for index in 0..rows {
                builder.values().append_option(elements.get(index).filter(|element| **element != "null"));
            }
            builder.append(true);
        }
        Ok(Arc::new(builder.finish()) as ArrayRef)
    })
}

fn indexes_of(values: &[PlanExpr], bags: Bags, limit: usize) -> PlanExpr {
    let returns = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
    kernel::call(format!("expand_index {bags:?} {limit}"), returns, values.to_vec(), move |cells| {
        let mut builder = ListBuilder::new(Int64Builder::new());
        for row in 0..cells.rows() {
            for index in (0_i64..).take(length(cells, row, bags, limit)) {
                builder.values().append_value(index);
            }
            builder.append(true);
        }
        Ok(Arc::new(builder.finish()) as ArrayRef)
    })
}
