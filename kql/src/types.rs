//! Kusto's scalar types and the schema of a table. Pure values; used by the parser, the commands we send and the local server.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A scalar type of KQL, by its primary name (`boolean`, `date`, `time`, `double`, `uuid` and the .NET names are accepted as second names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalarType {
    /// `bool`
    Bool,
    /// `datetime`: ticks of 100 ns since 0001-01-01T00:00:00Z.
    DateTime,
    /// `decimal`: 128 bits.
    Decimal,
    /// `dynamic`: a JSON value.
    Dynamic,
    /// `guid`
    Guid,
    /// `int`: 32 bits, signed.
    Int,
    /// `long`: 64 bits, signed.
    Long,
    /// `real`: IEEE 754 binary64.
    Real,
    /// `string`: UTF-8, never null.
    String,
    /// `timespan`: ticks of 100 ns.
    Timespan,
}

/// A type name that Kusto does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a Kusto type: expected bool, datetime, decimal, dynamic, guid, int, long, real, string or timespan"
)]
pub struct UnknownType(pub String);

impl ScalarType {
    /// All types, in the order of their names.
    pub const ALL: [Self; 10] = [
        Self::Bool,
        Self::DateTime,
        Self::Decimal,
        Self::Dynamic,
        Self::Guid,
        Self::Int,
        Self::Long,
        Self::Real,
        Self::String,
        Self::Timespan,
    ];

    /// The primary name, as `.show` commands print it: `long`, `datetime`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::DateTime => "datetime",
            Self::Decimal => "decimal",
            Self::Dynamic => "dynamic",
            Self::Guid => "guid",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::String => "string",
            Self::Timespan => "timespan",
        }
    }

    /// The .NET name, which the V1 protocol gives as `DataType` and JSON schemas as `Type`.
    pub const fn dotnet_name(self) -> &'static str {
        match self {
            Self::Bool => "System.SByte",
            Self::DateTime => "System.DateTime",
            Self::Decimal => "System.Data.SqlTypes.SqlDecimal",
            Self::Dynamic => "System.Object",
            Self::Guid => "System.Guid",
            Self::Int => "System.Int32",
            Self::Long => "System.Int64",
            Self::Real => "System.Double",
            Self::String => "System.String",
            Self::Timespan => "System.TimeSpan",
        }
    }
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ScalarType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        Ok(match text {
            "bool" | "boolean" | "System.SByte" | "System.Boolean" => Self::Bool,
            "datetime" | "date" | "System.DateTime" => Self::DateTime,
            "decimal" | "System.Data.SqlTypes.SqlDecimal" => Self::Decimal,
            "dynamic" | "System.Object" => Self::Dynamic,
            "guid" | "uuid" | "uniqueid" | "System.Guid" => Self::Guid,
            "int" | "int32" | "System.Int32" => Self::Int,
            "long" | "int64" | "System.Int64" => Self::Long,
            "real" | "double" | "System.Double" => Self::Real,
            "string" | "System.String" => Self::String,
            "timespan" | "time" | "System.TimeSpan" => Self::Timespan,
            _ => return Err(UnknownType(text.to_owned())),
        })
    }
}
