//! Kusto's scalar functions by name. Pure but for constants, which are evaluated; called by the expression binder.
//!
//! Each module names the functions it has; what no module names is refused by name.

pub(crate) mod conditional;
pub(crate) mod conversion;
pub(crate) mod datetime;
pub(crate) mod dynamic;
pub(crate) mod math;
pub(crate) mod strings;

use kql::types::ScalarType;

use self::conversion::{convert, to_string};
use super::{operators::wider, planner::Planner, scalar::Scalar};
use crate::error::KustoError;

/// A call whose arguments are bound.
pub(crate) struct Call<'a> {
    pub(crate) planner: &'a Planner,
    pub(crate) name: &'a str,
    pub(crate) arguments: Vec<Scalar>,
}

type Module = (&'static [&'static str], fn(&Call<'_>) -> Result<Scalar, KustoError>);

const MODULES: [Module; 5] = [
    (conditional::NAMES, conditional::call),
    (datetime::NAMES, datetime::call),
    (dynamic::NAMES, dynamic::call),
    (math::NAMES, math::call),
    (strings::NAMES, strings::call),
];

/// Functions that the binder treats itself.
const SPECIAL: &[&str] =
    &["toscalar", "ingestion_time", "column_ifexists", "columnifexists", "materialize", "table", "database", "cluster"];

/// Whether this is a built-in function of this server.
pub(crate) fn is_known(name: &str) -> bool {
    SPECIAL.contains(&name) || MODULES.iter().any(|(names, _)| names.contains(&name))
}

/// The error of a function that this server does not have.
pub(crate) fn unknown(name: &str) -> KustoError {
    if super::summarize::is_aggregate(name) {
        return KustoError::semantic("SEM0101", format!("The aggregate {name}() is allowed only in 'summarize'"));
    }
    KustoError::semantic(
        "SEM0260",
        format!("Unknown function: '{name}'. It is neither built into this server nor stored in the database"),
    )
}

/// The error of a function that this server does not have, where only a table can stand.
pub(crate) fn unknown_table(name: &str) -> KustoError {
    if super::summarize::is_aggregate(name) { unknown(name) } else { KustoError::function_unresolved(name) }
}

/// A call of a built-in function.
pub(crate) fn call(planner: &Planner, name: &str, arguments: Vec<Scalar>) -> Result<Scalar, KustoError> {
    let (_, body) = MODULES.iter().find(|(names, _)| names.contains(&name)).ok_or_else(|| unknown(name))?;
    body(&Call { planner, name, arguments })
}

impl Call<'_> {
    /// Checks how many arguments there are.
    pub(crate) fn arity(&self, least: usize, most: usize) -> Result<(), KustoError> {
        let count = self.arguments.len();
        if (least..=most).contains(&count) {
            return Ok(());
        }
        let expected = if least == most {
            least.to_string()
        } else if most == usize::MAX {
            format!("at least {least}")
        } else {
            format!("{least} to {most}")
        };
        Err(KustoError::semantic("SEM0219", format!("{}() takes {expected} arguments, here it has {count}", self.name)))
    }

    pub(crate) fn count(&self) -> usize {
        self.arguments.len()
    }

    pub(crate) fn argument(&self, index: usize) -> Result<&Scalar, KustoError> {
        self.arguments.get(index).ok_or_else(|| {
            KustoError::semantic("SEM0219", format!("{}() has no argument {} here", self.name, index + 1))
        })
    }

    fn wrong_type(&self, index: usize, expected: &str, found: ScalarType) -> KustoError {
        KustoError::semantic(
            "SEM0025",
            format!("{}(): argument {} is of type {found}, expected is {expected}", self.name, index + 1),
        )
    }

    /// A string; a dynamic value or a guid by its text.
    pub(crate) fn text(&self, index: usize) -> Result<Scalar, KustoError> {
        let argument = self.argument(index)?;
        match argument.scalar_type {
            ScalarType::String => Ok(argument.clone()),
            ScalarType::Dynamic | ScalarType::Guid => Ok(to_string(argument)),
            other => Err(self.wrong_type(index, "string", other)),
        }
    }

    /// Any value, by its text.
    pub(crate) fn any_text(&self, index: usize) -> Result<Scalar, KustoError> {
        Ok(to_string(self.argument(index)?))
    }

    /// A whole number.
    pub(crate) fn long(&self, index: usize) -> Result<Scalar, KustoError> {
        let argument = self.argument(index)?;
        match argument.scalar_type {
            ScalarType::Int | ScalarType::Long | ScalarType::Dynamic => Ok(convert(argument, ScalarType::Long)),
            other => Err(self.wrong_type(index, "long", other)),
        }
    }

    /// A number, as a real.
    pub(crate) fn real(&self, index: usize) -> Result<Scalar, KustoError> {
        let argument = self.argument(index)?;
        match argument.scalar_type {
            ScalarType::Int | ScalarType::Long | ScalarType::Real | ScalarType::Decimal | ScalarType::Dynamic => {
                Ok(convert(argument, ScalarType::Real))
            }
            other => Err(self.wrong_type(index, "a number", other)),
        }
    }

    /// A value of exactly this type; a dynamic value is converted to it.
    pub(crate) fn of_type(&self, index: usize, scalar_type: ScalarType) -> Result<Scalar, KustoError> {
        let argument = self.argument(index)?;
        if argument.scalar_type == scalar_type || argument.scalar_type == ScalarType::Dynamic {
            return Ok(convert(argument, scalar_type));
        }
        Err(self.wrong_type(index, scalar_type.name(), argument.scalar_type))
    }

    /// A dynamic value.
    pub(crate) fn dynamic(&self, index: usize) -> Result<Scalar, KustoError> {
        let argument = self.argument(index)?;
        if argument.scalar_type == ScalarType::Dynamic {
            return Ok(argument.clone());
        }
        Err(self.wrong_type(index, "dynamic", argument.scalar_type))
    }

    /// A constant text.
    pub(crate) fn constant_text(&self, index: usize) -> Result<String, KustoError> {
        let text = self.text(index)?;
        let text = self.planner.constant(&text, ScalarType::String, &format!("{}()", self.name))?;
        Ok(text.constant_text().unwrap_or_default().to_owned())
    }

    /// A constant whole number.
    pub(crate) fn constant_long(&self, index: usize) -> Result<i64, KustoError> {
        let number = self.planner.constant(&self.long(index)?, ScalarType::Long, &format!("{}()", self.name))?;
        number.constant_long().ok_or_else(|| self.wrong_type(index, "a number", ScalarType::Dynamic))
    }
}

/// The type that a function gives whose result is one of several arguments (`iff`, `case`, `coalesce`): the widest number, else `dynamic` if they differ.
pub(crate) fn common(values: &[&Scalar]) -> ScalarType {
    let mut settled: Option<ScalarType> = None;
    for value in values {
        // A bare dynamic(null) fits any type.
        if value.scalar_type == ScalarType::Dynamic && value.is_null_literal() {
            continue;
        }
        settled = Some(match settled {
            None => value.scalar_type,
            Some(present) if present == value.scalar_type => present,
            Some(present) => wider(present, value.scalar_type).unwrap_or(match (present, value.scalar_type) {
                (ScalarType::Dynamic, ScalarType::String) | (ScalarType::String, ScalarType::Dynamic) => {
                    ScalarType::String
                }
                _ => ScalarType::Dynamic,
            }),
        });
    }
    settled.unwrap_or(ScalarType::Dynamic)
}

/// The value as the common type: into `dynamic` a value goes as it is, a string is not parsed.
pub(crate) fn as_common(value: &Scalar, scalar_type: ScalarType) -> Scalar {
    if scalar_type == ScalarType::Dynamic { conversion::as_dynamic(value) } else { convert(value, scalar_type) }
}
