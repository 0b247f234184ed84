//! Aggregates that give several columns: `arg_max`, `arg_min`, `take_any` of columns, `percentiles`. Blocking only where arguments are constants; called by
//! [`super::summarize`].

use datafusion::{functions_aggregate::first_last::first_value_udaf, logical_expr::SortExpr};
use kql::{
    syntax::ast::{Argument, Expr, ExprKind},
    types::ScalarType,
};

use super::{
    collect::Collect,
    expression::Binder,
    functions::conversion::convert,
    naming::of_argument,
    pipeline::no_dynamic,
    scalar::Scalar,
    summarize::{Output, aggregate_call, arguments_error, not_for},
};
use crate::error::KustoError;

/// Which columns the arguments of `arg_max`, `take_any` and their kin have named so far: beside a `*` each is returned once.
struct Returned<'a> {
    star: bool,
    keys: &'a [&'a str],
    columns: Vec<String>,
}

impl<'a> Returned<'a> {
    fn of(arguments: &[Argument], keys: &'a [&'a str]) -> Self {
        let star = arguments.iter().any(|argument| matches!(argument.value.kind, ExprKind::Star));
        Self { star, keys, columns: Vec::new() }
    }

    /// Whether an argument is a column that is returned already, and need not be again.
    fn again(&mut self, argument: &Expr) -> bool {
        let ExprKind::Name(name) = &argument.kind else { return false };
        if self.columns.contains(name) {
            return self.star;
        }
        self.columns.push(name.clone());
        false
    }

    /// Whether `*` stands for this column too.
    fn by_star(&mut self, column: &str) -> bool {
        if self.keys.contains(&column) || self.columns.iter().any(|present| present == column) {
            return false;
        }
        self.columns.push(column.to_owned());
        true
    }
}

impl Binder<'_> {
    /// `arg_max(x, *)`, `arg_min(x, a, b)`: values of the row where `x` is greatest or least; rows where it is null count only if there is no other.
    pub(super) fn extreme_row(
        &self,
        name: &str,
        arguments: &[Argument],
        plain_keys: &[&str],
    ) -> Result<Vec<Output>, KustoError> {
        let (Some(extreme), Some(row)) = (arguments.first(), self.row) else {
            return Err(arguments_error(name, "an expression and the columns to return"));
        };
        let rows = self.over_rows();
        let by = rows.bind(&extreme.value)?;
        if by.scalar_type == ScalarType::Dynamic {
            return Err(no_dynamic(name, "the first argument"));
        }
        let prefix = if name == "arg_max" { "max" } else { "min" };
        let first = of_argument(extreme);
        let mut wanted = vec![(first.clone().unwrap_or_else(|| format!("{prefix}_")), by.clone())];
        let mut returned = Returned::of(arguments, plain_keys);
        returned.again(&extreme.value);
        for (position, argument) in arguments.iter().enumerate().skip(1) {
            if matches!(argument.value.kind, ExprKind::Star) {
                let rest = row.columns.iter().filter(|column| returned.by_star(&column.name));
                wanted.extend(rest.map(|column| (column.name.clone(), column.scalar())));
                continue;
            }
            if returned.again(&argument.value) {
                continue;
            }
            let name = of_argument(argument)
                .unwrap_or_else(|| format!("{prefix}_{}_arg{position}", first.as_deref().unwrap_or_default()));
            wanted.push((name, rows.bind(&argument.value)?));
        }
        let order = SortExpr::new(by.expr, name == "arg_min", false);
        self.first_values(wanted, &[order])
    }

    pub(super) fn any_row(
        &self,
        name: &str,
        arguments: &[Argument],
        plain_keys: &[&str],
    ) -> Result<Vec<Output>, KustoError> {
        let Some(row) = self.row else { return Err(arguments_error(name, "columns")) };
        if arguments.is_empty() {
            return Err(arguments_error(name, "at least one column, or *"));
        }
        let rows = self.over_rows();
        // The obsolete name of take_any() shows in the columns.
        let prefix = if name == "any" { "any_" } else { "" };
        let mut wanted: Vec<(String, Scalar)> = Vec::new();
        let mut returned = Returned::of(arguments, plain_keys);
        for (position, argument) in arguments.iter().enumerate() {
            if matches!(argument.value.kind, ExprKind::Star) {
                let rest = row.columns.iter().filter(|column| returned.by_star(&column.name));
                wanted.extend(rest.map(|column| (format!("{prefix}{}", column.name), column.scalar())));
                continue;
            }
            if returned.again(&argument.value) {
                continue;
            }
            let name = match of_argument(argument) {
                Some(name) => format!("{prefix}{name}"),
                None => format!("any_arg{position}"),
            };
            wanted.push((name, rows.bind(&argument.value)?));
        }
        self.first_values(wanted, &[])
    }

    fn first_values(&self, wanted: Vec<(String, Scalar)>, order: &[SortExpr]) -> Result<Vec<Output>, KustoError> {
        let aggregates = self.collected()?;
        Ok(wanted
            .into_iter()
            .map(|(name, scalar)| {
                let expr = aggregate_call(first_value_udaf(), scalar.expr, false, None, order.to_vec());
                Output { name, scalar: self.add(aggregates, expr, scalar.scalar_type) }
            })
            .collect())
    }

    pub(super) fn percentiles(&self, name: &str, arguments: &[Argument]) -> Result<Vec<Output>, KustoError> {
        let Some((value, percentages)) = arguments.split_first().filter(|(_, percentages)| !percentages.is_empty())
        else {
            return Err(arguments_error(name, "a value and percentages"));
        };
        if name == "percentile" && percentages.len() != 1 {
            return Err(arguments_error(name, "a value and one percentage"));
        }
        let rows = self.over_rows();
        let bound = rows.bind(&value.value)?;
        let base = of_argument(value).unwrap_or_default();
        let mut outputs = Vec::with_capacity(percentages.len());
        for percentage in percentages {
            let constant = rows.bind_constant(&percentage.value, ScalarType::Real, name)?;
            let Some(datafusion::common::ScalarValue::Float64(Some(percent))) = constant.value() else {
                return Err(arguments_error(name, "percentages that are numbers"));
            };
            let (argument, collect) = match bound.scalar_type {
                ScalarType::Int | ScalarType::Long => {
                    (convert(&bound, ScalarType::Long), Collect::PercentileWhole(*percent))
                }
                ScalarType::DateTime | ScalarType::Timespan => (bound.clone(), Collect::PercentileWhole(*percent)),
                ScalarType::Real => (bound.clone(), Collect::PercentileReal(*percent)),
                other => return Err(not_for(name, other)),
            };
            let expr = aggregate_call(collect.function(), argument.expr, false, None, Vec::new());
            outputs.push(Output {
                name: format!("percentile_{base}_{}", percent.to_string().replace('.', "_")),
                scalar: self.add(self.collected()?, expr, argument.scalar_type),
            });
        }
        Ok(outputs)
    }
}
