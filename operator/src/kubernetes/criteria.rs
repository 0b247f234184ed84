//! `criteriaExpression`: whether this operator is the one that an object is meant for. Pure.

use std::{collections::BTreeMap, thread};

use cel::{Context, IdedExpr, Program, Value, common::ast::Expr};

/// The longest expression.
const MAX_BYTES: usize = 1024;
/// Only what is used of it is ever mapped.
const STACK_BYTES: usize = 64 << 20;
/// The deepest: evaluation recurses.
const MAX_DEPTH: usize = 64;

/// The interpreter knows no bounds of time and memory: an expression without loops needs none.
fn is_cheap(expression: &IdedExpr, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("it is nested more than {MAX_DEPTH} deep"));
    }
    let all = |expressions: &[&IdedExpr]| expressions.iter().try_for_each(|inner| is_cheap(inner, depth + 1));
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
        Expr::Call(call) => all(&call.target.iter().map(|target| &**target).chain(&call.args).collect::<Vec<_>>()),
        Expr::Select(select) => is_cheap(&select.operand, depth + 1),
        Expr::List(list) => all(&list.elements.iter().collect::<Vec<_>>()),
        Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) => {
            Err("it must do without maps and without all, exists, exists_one, map and filter: labels are plain texts"
                .to_owned())
        }
    }
}

/// Evaluates an expression with the cluster's labels as text variables.
///
/// # Errors
/// What is wrong with the expression, in a sentence.
pub(crate) fn is_met(expression: &str, labels: &BTreeMap<String, String>) -> Result<bool, String> {
    if expression.trim().is_empty() {
        return Ok(true);
    }
    if expression.len() > MAX_BYTES {
        return Err(format!("it must have at most {MAX_BYTES} bytes"));
    }
    // A parser and an evaluation that recurse over somebody else's text must not take the operator with them: they have a stack of their own, deep enough for
    // the longest text.
    let (expression, labels) = (expression.to_owned(), labels.clone());
    let work = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || evaluate(&expression, &labels));
    let result = work.map_err(|error| format!("it cannot be evaluated: {error}"))?.join();
    match result {
        Ok(Ok(Value::Bool(met))) => Ok(met),
        Ok(Ok(other)) => Err(format!("it gives {}, and must give true or false", other.type_of())),
        Ok(Err(why)) => Err(why),
        Err(_) => Err("it cannot be evaluated".to_owned()),
    }
}

fn evaluate(expression: &str, labels: &BTreeMap<String, String>) -> Result<Value, String> {
    let known = || {
        let names: Vec<&str> = labels.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let program = Program::compile(expression).map_err(|error| format!("it is no CEL expression: {error}"))?;
    is_cheap(program.expression(), 0)?;
    let mut context = Context::default();
    for (name, value) in labels {
        context.add_variable_from_value(name.as_str(), value.clone());
    }
    program.execute(&context).map_err(|error| format!("{error} (the cluster's labels are: {})", known()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(expression: &str) -> Result<bool, String> {
        let labels = [("region", "eastus"), ("environment", "prod")];
        is_met(expression, &labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn labels_are_text_variables() {
        assert_eq!(met("region in ['eastus','westus'] && environment == 'prod'"), Ok(true));
        assert_eq!(met("environment == 'dev'"), Ok(false));
        assert_eq!(met("region.startsWith('east') || false"), Ok(true));
        assert_eq!(met(" "), Ok(true));
    }

    #[test]
    fn an_expression_that_could_go_on_for_ever_is_refused_before_it_begins() {
        let list = "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]";
        let loops = (0..20).fold("true".to_owned(), |inner, number| format!("{list}.all(x{number}, {inner})"));
        assert!(met(&loops).unwrap_err().contains("at most 1024 bytes"));
        assert!(met("['a'].exists(x, x == region)").unwrap_err().contains("must do without"));
        assert!(met(&format!("1{} == 2", "+1".repeat(400))).unwrap_err().contains("nested"));
    }

    #[test]
    fn what_cannot_be_decided_is_an_error_that_says_why() {
        assert!(met("cloud == 'x'").unwrap_err().contains("the cluster's labels are: environment, region"));
        assert!(met("region ==").unwrap_err().starts_with("it is no CEL expression"));
        assert_eq!(met("region").unwrap_err(), "it gives string, and must give true or false");
        for hostile in
            ["((((((((", "\u{0}", "'", "region.matches('(((')", &"(".repeat(1000), &"!".repeat(1024), &"(".repeat(4000)]
        {
            assert!(met(hostile).is_err(), "{hostile}");
        }
    }
}
