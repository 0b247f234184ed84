//! `summarize`: group keys, aggregates, and expressions over aggregates. Blocking only where arguments are constants; called by the pipeline and, for the
//! aggregates inside expressions, by the binder.

use std::{cell::RefCell, sync::Arc};

use datafusion::{
    functions_aggregate::{
        average::avg_udaf,
        count::count_udaf,
        first_last::first_value_udaf,
        min_max::{max_udaf, min_udaf},
        stddev::{stddev_pop_udaf, stddev_udaf},
        sum::sum_udaf,
        variance::{var_pop_udaf, var_samp_udaf},
    },
    logical_expr::{
        AggregateUDF, Expr as PlanExpr, LogicalPlanBuilder, SortExpr,
        expr::{AggregateFunction, NullTreatment},
        lit,
    },
};
use kql::{
    syntax::ast::{Argument, Expr, ExprKind, Ident, NamedExpr},
    types::ScalarType,
};

use super::{
    collect::Collect,
    expression::Binder,
    functions::conversion::{as_dynamic, convert, never_null},
    naming::{Namer, implied, of_argument},
    operators::condition,
    pipeline::{no_dynamic, one_row},
    planner::{Planner, located},
    relation::{BoundColumn, Relation, by_id, planning, unique_name},
    scalar::Scalar,
    scope::Scope,
    sources::declared_twice,
};
use crate::error::KustoError;

/// Aggregates of one `summarize`, each under an id.
#[derive(Debug, Default)]
pub(crate) struct Aggregates {
    expressions: Vec<PlanExpr>,
}

const NAMES: &[&str] = &[
    "any",
    "arg_max",
    "arg_min",
    "avg",
    "avgif",
    "count",
    "count_distinct",
    "count_distinctif",
    "countif",
    "dcount",
    "dcountif",
    "make_bag",
    "make_bag_if",
    "make_list",
    "make_list_if",
    "make_list_with_nulls",
    "make_set",
    "make_set_if",
    "makelist",
    "makeset",
    "max",
    "maxif",
    "min",
    "minif",
    "percentile",
    "percentiles",
    "stdev",
    "stdevif",
    "stdevp",
    "sum",
    "sumif",
    "take_any",
    "take_anyif",
    "variance",
    "varianceif",
    "variancep",
];

/// Kusto's cap on the size of lists, sets and bags.
const MAX_ELEMENTS: usize = 1_048_576;

/// How many elements the obsolete `makelist()` and `makeset()` keep if no size is given.
const OBSOLETE_ELEMENTS: usize = 128;

/// Whether a function is an aggregate.
pub(crate) fn is_aggregate(name: &str) -> bool {
    NAMES.contains(&name)
}

/// One column that an aggregate gives.
pub(super) struct Output {
    pub(super) name: String,
    pub(super) scalar: Scalar,
}

impl Planner {
    pub(crate) fn summarize(
        &self,
        input: Relation,
        aggregates: &[NamedExpr],
        by: &[NamedExpr],
        scope: &Scope,
    ) -> Result<Relation, KustoError> {
        if aggregates.is_empty() && by.is_empty() {
            return Err(KustoError::syntax("'summarize' needs an aggregate or a key"));
        }
        let (input, keys) = self.group_keys(input, by, scope)?;
        let collected = RefCell::new(Aggregates::default());
        let row = Binder::new(self, scope, Some(&input));
        let binder = Binder { aggregates: Some(&collected), ..row };
        let plain_keys: Vec<&str> = by
            .iter()
            .filter_map(|key| match &key.value.kind {
                ExprKind::Name(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let mut namer = Namer::default();
        let mut taken: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
        let mut outputs = Vec::with_capacity(aggregates.len());
        for aggregate in aggregates {
            let bound = binder
                .outputs(aggregate, &mut namer, &plain_keys)
                .map_err(|error| located(scope, aggregate.value.span, error))?;
            for (position, output) in bound.into_iter().enumerate() {
                let written = aggregate.name.is_some() && position == 0;
                if written && taken.contains(&output.name) {
                    return Err(located(scope, aggregate.value.span, declared_twice(&output.name)));
                }
                let name = unique_name(&taken, &output.name);
                taken.push(name.clone());
                let scalar_type = output.scalar.scalar_type;
                outputs.push((name, Scalar::new(never_null(output.scalar.expr, scalar_type), scalar_type)));
            }
        }
        let plan = input
            .builder()
            .aggregate(keys.iter().map(|key| by_id(&key.id)).collect::<Vec<_>>(), collected.into_inner().expressions)
            .and_then(|builder| if keys.is_empty() { one_row(builder) } else { Ok(builder) })
            .and_then(LogicalPlanBuilder::build)
            .map_err(planning)?;
        let mut columns: Vec<(String, Scalar)> = keys.iter().map(|key| (key.name.clone(), key.scalar())).collect();
        columns.extend(outputs);
        Relation::new(keys, plan).project(&self.ids, columns)
    }

    /// The input with its group keys as columns, which the aggregation then names by id.
    fn group_keys(
        &self,
        input: Relation,
        by: &[NamedExpr],
        scope: &Scope,
    ) -> Result<(Relation, Vec<BoundColumn>), KustoError> {
        let named = self.named_columns(&input, by, scope)?;
        for ((name, scalar), key) in named.iter().zip(by) {
            if scalar.scalar_type == ScalarType::Dynamic {
                return Err(located(scope, key.value.span, no_dynamic("summarize", &format!("the key '{name}'"))));
            }
        }
        let mut expressions = input.kept();
        let mut keys = Vec::with_capacity(named.len());
        for (name, scalar) in named {
            let id = self.ids.next();
            expressions.push(scalar.expr.alias(&id));
            keys.push(BoundColumn { name, scalar_type: scalar.scalar_type, id });
        }
        if keys.is_empty() {
            return Ok((input, keys));
        }
        let plan = input.builder().project(expressions).and_then(LogicalPlanBuilder::build).map_err(planning)?;
        Ok((input.with_plan(plan), keys))
    }
}

pub(super) fn arguments_error(name: &str, expected: &str) -> KustoError {
    KustoError::semantic("SEM0219", format!("{name}() takes {expected}"))
}

impl Binder<'_> {
    /// The columns of one element of `summarize`: several for `arg_max`, `take_any` and `percentiles`, one for anything else.
    fn outputs(
        &self,
        aggregate: &NamedExpr,
        namer: &mut Namer,
        plain_keys: &[&str],
    ) -> Result<Vec<Output>, KustoError> {
        let written = aggregate.name.as_ref().map(|name| name.name.clone());
        let mut outputs = match &aggregate.value.kind {
            ExprKind::Call { name, arguments } => match name.name.as_str() {
                "arg_max" | "arg_min" => self.extreme_row(&name.name, arguments, plain_keys)?,
                "take_any" | "any" if arguments.len() != 1 || is_star(arguments) => {
                    self.any_row(&name.name, arguments, plain_keys)?
                }
                "percentile" | "percentiles" => self.percentiles(&name.name, arguments)?,
                "take_any" => {
                    let scalar = self.bind(&aggregate.value)?;
                    let name = arguments.first().and_then(of_argument);
                    vec![Output { name: name.unwrap_or_else(|| "any_arg0".to_owned()), scalar }]
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        if outputs.is_empty() {
            let name = match self.row {
                Some(row) => namer.name(aggregate, row).0,
                None => implied(&aggregate.value).unwrap_or_default(),
            };
            outputs.push(Output { name, scalar: self.bind(&aggregate.value)? });
        }
        if let (Some(written), Some(first)) = (written, outputs.first_mut()) {
            first.name = written;
        }
        Ok(outputs)
    }

    /// Arguments of an aggregate are ordinary expressions over rows.
    pub(super) fn over_rows(&self) -> Self {
        Binder { aggregates: None, ..*self }
    }

    pub(super) fn add(&self, aggregates: &RefCell<Aggregates>, expr: PlanExpr, scalar_type: ScalarType) -> Scalar {
        let id = self.planner.ids.next();
        aggregates.borrow_mut().expressions.push(expr.alias(&id));
        Scalar::new(by_id(&id), scalar_type)
    }

    pub(super) fn collected(&self) -> Result<&RefCell<Aggregates>, KustoError> {
        self.aggregates.ok_or_else(|| KustoError::internal("An aggregate stands outside of 'summarize'."))
    }

    /// An aggregate that gives one value.
    pub(crate) fn aggregate(
        &self,
        name: &Ident,
        arguments: &[Argument],
        aggregates: &RefCell<Aggregates>,
    ) -> Result<Scalar, KustoError> {
        let rows = self.over_rows();
        let function = name.name.as_str();
        if matches!(function, "arg_max" | "arg_min" | "percentiles") {
            return Err(KustoError::unsupported(format!(
                "{function}() gives several columns and cannot stand inside an expression"
            )));
        }
        if function == "percentile" {
            let mut outputs = self.percentiles(function, arguments)?;
            return outputs.pop().map(|output| output.scalar).ok_or_else(|| arguments_error(function, "a value"));
        }
        if function == "count" && arguments.is_empty() {
            let expr = aggregate_call(count_udaf(), lit(1_i64), false, None, Vec::new());
            return Ok(self.add(aggregates, expr, ScalarType::Long));
        }
        let conditional = matches!(function, "countif")
            || function.ends_with("_if")
            || matches!(
                function,
                "sumif"
                    | "avgif"
                    | "minif"
                    | "maxif"
                    | "dcountif"
                    | "count_distinctif"
                    | "stdevif"
                    | "varianceif"
                    | "take_anyif"
            );
        let filter_at = usize::from(function != "countif");
        let filter = if conditional {
            let argument = arguments.get(filter_at).ok_or_else(|| arguments_error(function, "a condition"))?;
            Some(condition(&rows.bind(&argument.value)?, &format!("{function}()"))?)
        } else {
            None
        };
        if matches!(function, "count" | "countif") {
            let only = match filter {
                Some(filter) if arguments.len() == 1 => Some(filter),
                _ => return Err(arguments_error(function, "no argument, or for countif() one condition")),
            };
            let expr = aggregate_call(count_udaf(), lit(1_i64), false, only, Vec::new());
            return Ok(self.add(aggregates, expr, ScalarType::Long));
        }
        let Some(first) = arguments.first() else { return Err(arguments_error(function, "an argument")) };
        let most = 1 + usize::from(conditional) + usize::from(takes_option(function));
        if arguments.len() > most {
            return Err(arguments_error(
                function,
                &format!("at most {most} arguments, here it has {}", arguments.len()),
            ));
        }
        let value = rows.bind(&first.value)?;
        let last = arguments.get(1 + usize::from(conditional));
        self.of_value(function, &value, filter.as_ref(), last).map(|(expr, scalar_type, empty)| {
            let scalar = self.add(aggregates, expr, scalar_type);
            match empty {
                Some(empty) => {
                    let expr = datafusion::functions::expr_fn::coalesce(vec![scalar.expr, empty]);
                    Scalar::new(expr, scalar_type)
                }
                None => scalar,
            }
        })
    }

    /// An aggregate of one value: its plan, its type, and what it gives for no value if that is not null.
    fn of_value(
        &self,
        function: &str,
        value: &Scalar,
        filter: Option<&PlanExpr>,
        last: Option<&Argument>,
    ) -> Result<(PlanExpr, ScalarType, Option<PlanExpr>), KustoError> {
        use ScalarType as T;
        let stem = function.trim_end_matches("_if").trim_end_matches("if");
        let call = |function: Arc<AggregateUDF>, value: &Scalar, distinct: bool| {
            aggregate_call(function, value.expr.clone(), distinct, filter.cloned(), Vec::new())
        };
        if value.scalar_type == T::Dynamic
            && matches!(stem, "sum" | "avg" | "stdev" | "stdevp" | "variance" | "variancep")
        {
            return Err(KustoError::semantic(
                "SEM0025",
                format!(
                    "{function}(): a value of type dynamic cannot be added up; convert it, for instance by toreal()"
                ),
            ));
        }
        let default = if matches!(stem, "makelist" | "makeset") { OBSOLETE_ELEMENTS } else { MAX_ELEMENTS };
        let size = |last: Option<&Argument>| match last {
            Some(argument) => self
                .over_rows()
                .bind_constant(&argument.value, T::Long, function)?
                .constant_long()
                .and_then(|size| usize::try_from(size).ok())
                .map(|size| size.min(MAX_ELEMENTS))
                .ok_or_else(|| arguments_error(function, "a size that is not negative")),
            None => Ok(default),
        };
        Ok(match (stem, value.scalar_type) {
            ("sum", T::Int | T::Long) => (call(sum_udaf(), &convert(value, T::Long), false), T::Long, Some(lit(0_i64))),
            ("sum", T::Real) => (call(sum_udaf(), value, false), T::Real, Some(lit(0.0))),
            ("sum", T::Timespan) => (call(sum_udaf(), value, false), T::Timespan, Some(lit(0_i64))),
            ("sum", T::Decimal) => (call(sum_udaf(), value, false), T::Decimal, None),
            ("avg", T::Int | T::Long | T::Real) => {
                (call(avg_udaf(), &convert(value, T::Real), false), T::Real, Some(lit(f64::NAN)))
            }
            ("avg", T::DateTime | T::Timespan) => {
                (call(Collect::AverageTicks.function(), value, false), value.scalar_type, None)
            }
            ("avg", T::Decimal) => (call(Collect::AverageDecimal.function(), value, false), T::Decimal, None),
            ("min" | "max", T::Dynamic | T::Guid) => return Err(not_for(function, value.scalar_type)),
            ("min", scalar_type) => (call(min_udaf(), value, false), scalar_type, None),
            ("max", scalar_type) => (call(max_udaf(), value, false), scalar_type, None),
            ("dcount" | "count_distinct", _) => (call(count_udaf(), value, true), T::Long, None),
            ("stdev" | "stdevp" | "variance" | "variancep", T::Int | T::Long | T::Real | T::Decimal) => {
                let function = match stem {
                    "stdev" => stddev_udaf(),
                    "stdevp" => stddev_pop_udaf(),
                    "variance" => var_samp_udaf(),
                    _ => var_pop_udaf(),
                };
                (call(function, &convert(value, T::Real), false), T::Real, Some(lit(0.0)))
            }
            ("make_list" | "makelist" | "make_list_with_nulls", _) => {
                let collect = Collect::List { most: size(last)?, nulls: stem == "make_list_with_nulls" };
                // A list has the order of a sorted input.
                let order = self.row.map(|row| row.order.clone()).unwrap_or_default();
                let list = aggregate_call(collect.function(), as_dynamic(value).expr, false, filter.cloned(), order);
                (list, T::Dynamic, Some(lit("[]")))
            }
            ("make_set" | "makeset", _) => {
                let collect = Collect::Set { most: size(last)? };
                (call(collect.function(), &as_dynamic(value), false), T::Dynamic, Some(lit("[]")))
            }
            ("make_bag", T::Dynamic) => {
                let collect = Collect::Bag { most: size(last)? };
                (call(collect.function(), value, false), T::Dynamic, Some(lit("{}")))
            }
            ("take_any" | "any", scalar_type) => (any_value(value, filter.cloned()), scalar_type, None),
            (_, scalar_type) => return Err(not_for(function, scalar_type)),
        })
    }
}

pub(super) fn not_for(function: &str, scalar_type: ScalarType) -> KustoError {
    KustoError::semantic("SEM0025", format!("{function}() is not defined for values of type {scalar_type}"))
}

/// Whether an aggregate takes one argument more: a size, or the accuracy of an estimate.
fn takes_option(function: &str) -> bool {
    matches!(
        function,
        "dcount"
            | "dcountif"
            | "make_bag"
            | "make_bag_if"
            | "make_list"
            | "make_list_if"
            | "make_set"
            | "make_set_if"
            | "makelist"
            | "makeset"
    )
}

/// Any value of a group, one that is neither null nor empty if there is one.
fn any_value(value: &Scalar, filter: Option<PlanExpr>) -> PlanExpr {
    let argument = if value.scalar_type == ScalarType::String {
        datafusion::functions::expr_fn::nullif(value.expr.clone(), lit(""))
    } else {
        value.expr.clone()
    };
    PlanExpr::AggregateFunction(AggregateFunction::new_udf(
        first_value_udaf(),
        vec![argument],
        false,
        filter.map(Box::new),
        Vec::new(),
        Some(NullTreatment::IgnoreNulls),
    ))
}

fn is_star(arguments: &[Argument]) -> bool {
    matches!(arguments, [Argument { value: Expr { kind: ExprKind::Star, .. }, .. }])
}

pub(super) fn aggregate_call(
    function: Arc<AggregateUDF>,
    argument: PlanExpr,
    distinct: bool,
    filter: Option<PlanExpr>,
    order: Vec<SortExpr>,
) -> PlanExpr {
    PlanExpr::AggregateFunction(AggregateFunction::new_udf(
        function,
        vec![argument],
        distinct,
        filter.map(Box::new),
        order,
        None,
    ))
}
