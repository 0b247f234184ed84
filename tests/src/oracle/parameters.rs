//! The values that a query's parameters were given: those that the text declares and no others, each one literal of the declared type to both parsers. I/O: the
//! oracle's process.

use std::collections::BTreeMap;

use kql::{
    literal::bracketed,
    syntax::{
        ast::{Literal, Parameter, ParameterType, Statement},
        error::SyntaxError,
        parser::{Parser, parse_query},
    },
    types::ScalarType,
};

use super::{Kind, Oracle, OracleError, Question, Reading, tokens};

impl Oracle {
    /// What is wrong with the values that were sent with a query, for people. A text that our parser does not read is judged elsewhere.
    ///
    /// # Errors
    /// [`OracleError`]
    pub fn wrong_parameter(
        &mut self,
        query: &str,
        sent: &BTreeMap<String, String>,
    ) -> Result<Option<String>, OracleError> {
        let Ok(parsed) = parse_query(query) else { return Ok(None) };
        let declared: Vec<&Parameter> = parsed
            .statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::QueryParameters(parameters) => Some(parameters),
                _ => None,
            })
            .flatten()
            .collect();
        if let Some(why) = other_names(&declared, sent) {
            return Ok(Some(why));
        }
        let given =
            declared.iter().filter_map(|parameter| Some((*parameter, sent.get(&parameter.name.name)?.as_str())));
        let given: Vec<(&Parameter, &str)> = given.collect();
        if given.is_empty() {
            return Ok(None);
        }
        let columns: Vec<String> =
            given.iter().map(|(parameter, value)| format!("{} = {value}", bracketed(&parameter.name.name))).collect();
        let text = &format!("print {}", columns.join(", "));
        let (kind, session, database) = (Kind::Query, "parameters", "Parameters");
        let reading = self.read(Question { kind, text, session, world: None, database, unresolved: false })?;
        if !reading.ok {
            return Ok(Some(reading.complaint("the values of parameters", text)));
        }
        Ok(tokens::difference(text, &reading).or_else(|| other_values(&given, &reading)))
    }
}

fn other_names(declared: &[&Parameter], sent: &BTreeMap<String, String>) -> Option<String> {
    let is_declared = |name: &String| declared.iter().any(|parameter| parameter.name.name == *name);
    if let Some(name) = sent.keys().find(|name| !is_declared(name)) {
        return Some(format!("the parameter '{name}' is sent and not declared"));
    }
    let missing =
        declared.iter().find(|parameter| parameter.default.is_none() && !sent.contains_key(&parameter.name.name));
    missing.map(|parameter| format!("the parameter '{}' is declared and not sent", parameter.name.name))
}

/// A value that is no literal of its type to one of the parsers, or another one to Microsoft's than to ours.
fn other_values(given: &[(&Parameter, &str)], reading: &Reading) -> Option<String> {
    let columns = reading.columns.as_deref().unwrap_or_default();
    let mut literals = reading.literals.iter();
    for (index, (parameter, text)) in given.iter().enumerate() {
        let name = &parameter.name.name;
        let ParameterType::Scalar(declared) = parameter.kind else {
            return Some(format!("the parameter '{name}' is no scalar"));
        };
        if columns.get(index) != Some(&(name.clone(), declared.name().to_owned())) {
            return Some(format!(
                "{name}:{declared} is sent as {text}, which Microsoft's parser reads as one of {columns:?}"
            ));
        }
        let ours = match one_literal(text) {
            Ok(ours) if type_of(&ours) == declared => ours,
            other => return Some(format!("{name}:{declared} is sent as {text}, which our parser reads as {other:?}")),
        };
        // Strings, also those in dynamic values, were compared as tokens.
        if matches!(declared, ScalarType::String | ScalarType::Dynamic) {
            continue;
        }
        // To Microsoft's parser a sign stands before a literal.
        let magnitude = one_literal(text.trim_start_matches(['-', '+'])).unwrap_or(ours);
        let theirs = literals.next().map(|(kind, inside)| one_literal(&format!("{kind}({inside})")));
        if !matches!(&theirs, Some(Ok(theirs)) if *theirs == magnitude) {
            return Some(format!("{name}:{declared} is sent as {text}, which Microsoft's parser reads as {theirs:?}"));
        }
    }
    (columns.len() != given.len()).then(|| format!("the values are {columns:?} to Microsoft's parser"))
}

fn one_literal(text: &str) -> Result<Literal, SyntaxError> {
    let mut parser = Parser::new(text);
    let literal = parser.signed_literal()?;
    parser.expect_end()?;
    Ok(literal)
}

const fn type_of(literal: &Literal) -> ScalarType {
    match literal {
        Literal::Bool(_) => ScalarType::Bool,
        Literal::DateTime(_) => ScalarType::DateTime,
        Literal::Decimal(_) => ScalarType::Decimal,
        Literal::Dynamic(_) => ScalarType::Dynamic,
        Literal::Guid(_) => ScalarType::Guid,
        Literal::Int(_) => ScalarType::Int,
        Literal::Long(_) => ScalarType::Long,
        Literal::Real(_) => ScalarType::Real,
        Literal::String(_) => ScalarType::String,
        Literal::Timespan(_) => ScalarType::Timespan,
    }
}
