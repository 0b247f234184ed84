//! `criteriaExpression`: whether this operator is the one that an object is meant for. Pure.

use std::{collections::BTreeMap, panic};

use cel::{Context, Program, Value};

/// Evaluates an expression with the cluster's labels as text variables.
///
/// # Errors
/// What is wrong with the expression, in a sentence.
pub(crate) fn is_met(expression: &str, labels: &BTreeMap<String, String>) -> Result<bool, String> {
    if expression.trim().is_empty() {
        return Ok(true);
    }
    let known = || {
        let names: Vec<&str> = labels.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    // A parser of someone else's text must not take the operator with it.
    let result = panic::catch_unwind(|| {
        let program = Program::compile(expression).map_err(|error| format!("it is no CEL expression: {error}"))?;
        let mut context = Context::default();
        for (name, value) in labels {
            context.add_variable_from_value(name.as_str(), value.clone());
        }
        program.execute(&context).map_err(|error| format!("{error} (the cluster's labels are: {})", known()))
    });
    match result {
        Ok(Ok(Value::Bool(met))) => Ok(met),
        Ok(Ok(other)) => Err(format!("it gives {}, and must give true or false", other.type_of())),
        Ok(Err(why)) => Err(why),
        Err(_) => Err("it cannot be evaluated".to_owned()),
    }
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
    fn what_cannot_be_decided_is_an_error_that_says_why() {
        assert!(met("cloud == 'x'").unwrap_err().contains("the cluster's labels are: environment, region"));
        assert!(met("region ==").unwrap_err().starts_with("it is no CEL expression"));
        assert_eq!(met("region").unwrap_err(), "it gives string, and must give true or false");
        for hostile in ["((((((((", "\u{0}", "'", "region.matches('(((')", &"(".repeat(4000), &"!".repeat(4096)] {
            assert!(met(hostile).is_err(), "{hostile}");
        }
    }
}
