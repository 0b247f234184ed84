//! Names of unnamed columns, as Kusto gives them: `count_`, `sum_x`, `Column1`, `a_b` for the path `a.b`. Pure; the rules are those of Microsoft's parser.

use kql::syntax::ast::{Argument, Expr, ExprKind, Literal, NamedExpr};

use super::relation::Relation;

/// The name that an expression gives its column; `None` where Kusto numbers it (`Column1`, `print_0`).
pub(crate) fn implied(expr: &Expr) -> Option<String> {
    match &expr.kind {
        ExprKind::Name(name) => Some(name.clone()),
        ExprKind::Member { target, member } => Some(match implied(target) {
            // A scalar of a scope goes by its own name.
            Some(target) if !member.name.starts_with('$') => format!("{target}_{}", member.name),
            _ => member.name.clone(),
        }),
        ExprKind::Index { target, index } => {
            let index = match &index.kind {
                ExprKind::Literal(Literal::String(name)) => name.clone(),
                ExprKind::Literal(Literal::Long(Some(number))) => number.to_string(),
                _ => String::new(),
            };
            Some(match implied(target) {
                Some(target) => format!("{target}_{index}"),
                None => index,
            })
        }
        ExprKind::Call { name, arguments } => of_call(&name.name, arguments.first()),
        _ => None,
    }
}

/// The name that an argument gives: the one that is written before it, else what it implies.
pub(crate) fn of_argument(argument: &Argument) -> Option<String> {
    argument.name.as_ref().map_or_else(|| implied(&argument.value), |name| Some(name.name.clone()))
}

fn of_call(function: &str, first: Option<&Argument>) -> Option<String> {
    let argument = || first.and_then(of_argument);
    match function {
        "strlen" | "string_size" => Some(format!("{function}_{}", argument().unwrap_or_default())),
        "gettype" => Some(format!("type_{}", argument().unwrap_or_default())),
        "treepath" => Some(format!("tree_{}", argument().unwrap_or_default())),
        "repeat" => Some(format!("repeat_{}", argument().unwrap_or_default())),
        "ingestion_time" => Some("$IngestionTime".to_owned()),
        "array_sort_asc" | "array_sort_desc" => Some(format!("{}_sorted", argument().unwrap_or_default())),
        "split" | "tostring" | "tohex" | "todynamic" | "toobject" | "tolong" | "toint" | "toreal" | "todouble"
        | "todatetime" | "totimespan" | "totime" | "tobool" | "toboolean" | "todecimal" | "toguid" | "parse_csv"
        | "parsejson" | "parse_json" | "format_datetime" | "format_timespan" | "startofday" | "bin" | "floor"
        | "bin_at" | "binary_and" | "binary_or" | "binary_xor" | "binary_not" | "binary_shift_left"
        | "binary_shift_right" | "round" | "ceiling" | "pow" | "sqrt" | "log" | "log2" | "log10" | "exp" | "exp2"
        | "exp10" | "cos" | "sin" | "tan" | "acos" | "asin" | "atan" | "atan2" | "abs" | "format_bytes" => argument(),
        "sum" | "sumif" | "countif" | "dcount" | "dcountif" | "min" | "minif" | "max" | "maxif" | "avg" | "avgif"
        | "stdev" | "stdevif" | "stdevp" | "variance" | "varianceif" | "variancep" | "count_distinct" | "count"
        | "count_distinctif" => Some(format!("{function}_{}", argument().unwrap_or_default())),
        "make_list" | "make_list_if" | "make_list_with_nulls" | "makelist" => {
            Some(format!("list_{}", argument().unwrap_or_default()))
        }
        "make_set" | "make_set_if" | "makeset" => Some(format!("set_{}", argument().unwrap_or_default())),
        "make_bag" | "make_bag_if" => Some(format!("bag_{}", argument().unwrap_or_default())),
        "take_anyif" | "anyif" => argument(),
        "any" => Some(format!("any_{}", argument().unwrap_or_default())),
        _ => None,
    }
}

/// [`implied`] where the columns are known: `column_ifexists("a", 1)` is `a` if there is an `a`.
pub(crate) fn implied_by(expr: &Expr, input: &Relation) -> Option<String> {
    if let ExprKind::Call { name, arguments } = &expr.kind
        && matches!(name.name.as_str(), "column_ifexists" | "columnifexists")
    {
        let ExprKind::Literal(Literal::String(wanted)) = &arguments.first()?.value.kind else { return None };
        return input.column(wanted).map(|column| column.name.clone());
    }
    implied(expr)
}

/// Gives each expression of `project`, `extend` and their kin its name, in the order of the text.
#[derive(Debug, Default)]
pub(crate) struct Namer {
    unnamed: usize,
}

impl Namer {
    /// The column's name, and whether it was written down. Unnamed ones are `Column1`, `Column2`, ...
    pub(crate) fn name(&mut self, expr: &NamedExpr, input: &Relation) -> (String, bool) {
        if let Some(name) = &expr.name {
            return (name.name.clone(), true);
        }
        (implied_by(&expr.value, input).unwrap_or_else(|| self.numbered()), false)
    }

    fn numbered(&mut self) -> String {
        self.unnamed += 1;
        format!("Column{}", self.unnamed)
    }
}
