//! Prints statements, functions and declarations.

use std::fmt::{self, Formatter};

use super::{Name, expression, separated};
use crate::syntax::ast::{ColumnDeclaration, FunctionLiteral, LetValue, Parameter, ParameterType, Statement};

pub(super) fn statements(f: &mut Formatter<'_>, statements: &[Statement], separator: &str) -> fmt::Result {
    for (index, item) in statements.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        statement(f, item)?;
    }
    Ok(())
}

pub(super) fn statement(f: &mut Formatter<'_>, statement: &Statement) -> fmt::Result {
    match statement {
        Statement::Let { name, value } => {
            write!(f, "let {} = ", Name(&name.name))?;
            match value {
                LetValue::Expression(expr) => expression::expression(f, expr, expression::ANY),
                LetValue::Function(literal) => function(f, literal),
                LetValue::EntityGroup(entities) => expression::entity_group(f, entities),
            }
        }
        Statement::Set { option, value } => {
            write!(f, "set {}", Name(&option.name))?;
            value.as_ref().map_or(Ok(()), |value| write!(f, " = {value}"))
        }
        Statement::QueryParameters(parameters) => {
            f.write_str("declare query_parameters")?;
            self::parameters(f, parameters)
        }
        Statement::Expression(expr) => expression::expression(f, expr, expression::ANY),
    }
}

/// `(a:long) { a + 1 }`
pub(super) fn function(f: &mut Formatter<'_>, function: &FunctionLiteral) -> fmt::Result {
    if function.view {
        f.write_str("view ")?;
    }
    parameters(f, &function.parameters)?;
    f.write_str(" { ")?;
    statements(f, &function.body, "; ")?;
    f.write_str(" }")
}

fn parameters(f: &mut Formatter<'_>, parameters: &[Parameter]) -> fmt::Result {
    f.write_str("(")?;
    separated(f, parameters, |f, parameter| {
        write!(f, "{}:", Name(&parameter.name.name))?;
        match &parameter.kind {
            ParameterType::Scalar(scalar_type) => write!(f, "{scalar_type}")?,
            ParameterType::Table(table) if table.is_empty() => f.write_str("(*)")?,
            ParameterType::Table(table) => columns(f, table)?,
        }
        parameter.default.as_ref().map_or(Ok(()), |default| write!(f, " = {default}"))
    })?;
    f.write_str(")")
}

/// `(a:long, b:string)`
pub(super) fn columns(f: &mut Formatter<'_>, columns: &[ColumnDeclaration]) -> fmt::Result {
    f.write_str("(")?;
    separated(f, columns, |f, column| write!(f, "{}:{}", Name(&column.name.name), column.scalar_type))?;
    f.write_str(")")
}
