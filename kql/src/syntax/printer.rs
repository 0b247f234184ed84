//! Prints a tree as text that the parser, ours and Kusto's, reads back as the same tree. No I/O; called by the local server, which ships parts of a
//! query to other clusters and shows stored functions, and by tests.
//!
//! Names are bracketed unless they are plain and no keyword; every literal is quoted or typed; parentheses stand where precedence asks for them. Whatever a
//! tree holds, its text cannot end a literal or a name early.

mod expression;
mod operator;
mod statement;

use std::fmt::{self, Display, Formatter};

use super::{
    ast::{Expr, FunctionLiteral, Literal, Operator, Query, Statement},
    keywords,
};
use crate::literal;

/// A pipeline from parts, without making a tree of them first.
#[derive(Debug, Clone, Copy)]
pub struct Pipeline<'a> {
    /// What feeds the first operator.
    pub source: &'a Expr,
    /// May be empty.
    pub operators: &'a [Operator],
}

/// The body of a function or of macro-expand without its brackets: statements separated by `;`.
#[derive(Debug, Clone, Copy)]
pub struct Statements<'a>(pub &'a [Statement]);

/// A name where an expression may refer to it: `Requests`, `['by']`, `['a b']`.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a>(pub &'a str);

impl Display for Pipeline<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        expression::pipeline(f, self.source, self.operators)
    }
}

impl Display for Statements<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        statement::statements(f, self.0, "; ")
    }
}

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // `hint.x` in front of an operator's columns would be a parameter.
        let plain = is_identifier(self.0) && !keywords::is_keyword(self.0) && self.0 != "hint";
        f.write_str(&if plain { self.0.to_owned() } else { literal::bracketed(self.0) })
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        statement::statements(f, &self.statements, ";\n")
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        statement::statement(f, self)
    }
}

impl Display for FunctionLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        statement::function(f, self)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        expression::expression(f, self, expression::ANY)
    }
}

impl Display for Operator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        operator::operator(f, &self.kind)
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(Some(value)) => write!(f, "{value}"),
            Self::Bool(None) => f.write_str("bool(null)"),
            Self::DateTime(ticks) => typed(f, "datetime", ticks.map(literal::datetime)),
            Self::Decimal(digits) => typed(f, "decimal", digits.as_deref().map(unquoted_if_harmless)),
            Self::Dynamic(value) => {
                f.write_str("dynamic(")?;
                dynamic(f, value)?;
                f.write_str(")")
            }
            Self::Guid(digits) => typed(f, "guid", digits.as_deref().map(unquoted_if_harmless)),
            Self::Int(value) => typed(f, "int", *value),
            // A sign would be an operator of its own.
            Self::Long(Some(value)) if *value >= 0 => write!(f, "{value}"),
            Self::Long(value) => typed(f, "long", *value),
            Self::Real(Some(value)) if value.is_finite() && value.is_sign_positive() => write!(f, "{value:?}"),
            Self::Real(value) => typed(f, "real", value.map(real)),
            Self::String(value) => f.write_str(&literal::string(value)),
            Self::Timespan(ticks) => typed(f, "time", ticks.map(literal::timespan)),
        }
    }
}

fn typed(f: &mut Formatter<'_>, word: &str, value: Option<impl Display>) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{word}({value})"),
        None => write!(f, "{word}(null)"),
    }
}

fn real(value: f64) -> String {
    if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+inf" } else { "-inf" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// The digits of a decimal or guid; in quotes if they are none, because a tree need not come from the parser.
fn unquoted_if_harmless(digits: &str) -> String {
    let harmless = digits.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b'.'));
    if harmless { digits.to_owned() } else { literal::string(digits) }
}

fn dynamic(f: &mut Formatter<'_>, value: &serde_json::Value) -> fmt::Result {
    match value {
        serde_json::Value::String(value) => f.write_str(&literal::string(value)),
        serde_json::Value::Array(items) => {
            f.write_str("[")?;
            separated(f, items, dynamic)?;
            f.write_str("]")
        }
        serde_json::Value::Object(pairs) => {
            f.write_str("{")?;
            separated(f, pairs, |f, (key, value)| {
                write!(f, "{}: ", literal::string(key))?;
                dynamic(f, value)
            })?;
            f.write_str("}")
        }
        scalar => write!(f, "{scalar}"),
    }
}

/// A plain name, or a word that only its place makes a name: the value of a parameter, a chart.
fn word(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if is_identifier(name) && keywords::boolean(name).is_none() {
        f.write_str(name)
    } else {
        f.write_str(&literal::bracketed(name))
    }
}

fn is_identifier(name: &str) -> bool {
    let rest = name.strip_prefix('$').unwrap_or(name);
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn separated<T>(
    f: &mut Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    mut print: impl FnMut(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        print(f, item)?;
    }
    Ok(())
}
