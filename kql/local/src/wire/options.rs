//! Client request properties: the options this server acts on, read from whatever types the SDKs send them as. No I/O.
//!
//! A boolean may come as `true`, `"true"` or `1`, a number as `10` or `"10"`, a timespan as `"00:04:00"` or, from Python, `"0:04:00"`. Options that change nothing
//! here (hints, consistency, formatting) are accepted and ignored, as the service ignores what it does not know.

use std::time::Duration;

use kql::syntax::{
    ast::{Literal, Statement},
    parser::parse_query,
};
use serde_json::{Map, Value};

use crate::{error::KustoError, rows::parse_timespan};

/// Rows of a result unless the request says otherwise.
pub const DEFAULT_MAX_RECORDS: usize = 500_000;
/// Bytes of a result unless the request says otherwise.
pub const DEFAULT_MAX_BYTES: usize = 64 * 1024 * 1024;
/// How long a query may run unless the request says otherwise.
pub const DEFAULT_QUERY_TIMEOUT: Duration = Duration::from_secs(4 * 60);
/// How long a command may run unless the request says otherwise.
pub const DEFAULT_COMMAND_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The longest `servertimeout`; Kusto refuses more.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The names of the options that have an effect here, in lower case.
pub const EFFECTIVE: &[&str] = &[
    "servertimeout",
    "norequesttimeout",
    "request_readonly",
    "request_readonly_hardline",
    "truncationmaxrecords",
    "truncationmaxsize",
    "notruncation",
    "request_remote_entities_disabled",
];

/// The options that have an effect here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `servertimeout`
    pub server_timeout: Option<Duration>,
    /// `norequesttimeout`: as long as the service allows.
    pub no_request_timeout: bool,
    /// `request_readonly`, `request_readonly_hardline`: commands that change something are refused.
    pub read_only: bool,
    /// `truncationmaxrecords`
    pub max_records: Option<usize>,
    /// `truncationmaxsize`
    pub max_bytes: Option<usize>,
    /// `notruncation`
    pub no_truncation: bool,
    /// `request_remote_entities_disabled`: `cluster()` and `database()` of another cluster are refused.
    pub remote_entities_disabled: bool,
}

impl Options {
    /// Reads the `Options` object.
    ///
    /// # Errors
    /// `General_BadRequest` names the option whose value makes no sense.
    pub fn read(options: &Map<String, Value>) -> Result<Self, KustoError> {
        let mut read = Self::default();
        for (name, value) in options {
            read.take(name, value)?;
        }
        Ok(read)
    }

    /// Takes in the `set` statements of a query's text, which win over the request's properties. A text that is no query says so when it is run.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_statements(&mut self, csl: &str) -> Result<(), KustoError> {
        for statement in parse_query(csl).map(|query| query.statements).unwrap_or_default() {
            if let Statement::Set { option, value } = statement {
                self.take(&option.name, &value.map_or(Value::Bool(true), as_property))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<(), KustoError> {
        // Names of options are looked up without regard to case by the service.
        match name.to_ascii_lowercase().as_str() {
            "servertimeout" => self.server_timeout = timeout(name, value)?,
            "norequesttimeout" => self.no_request_timeout = boolean(name, value)?,
            "request_readonly" | "request_readonly_hardline" => self.read_only |= boolean(name, value)?,
            "truncationmaxrecords" => self.max_records = number(name, value)?,
            "truncationmaxsize" => self.max_bytes = number(name, value)?,
            "notruncation" => self.no_truncation = boolean(name, value)?,
            "request_remote_entities_disabled" => self.remote_entities_disabled = boolean(name, value)?,
            _ => {}
        }
        Ok(())
    }

    /// The caps on rows and bytes of the result.
    pub fn caps(&self) -> Caps {
        if self.no_truncation {
            return Caps { records: usize::MAX, bytes: usize::MAX };
        }
        Caps {
            records: self.max_records.unwrap_or(DEFAULT_MAX_RECORDS),
            bytes: self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
        }
    }

    /// How long the request may take.
    pub fn timeout(&self, default: Duration) -> Duration {
        if self.no_request_timeout { MAX_TIMEOUT } else { self.server_timeout.unwrap_or(default) }
    }
}

/// The largest result; one row or byte more is an error, not a shorter answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Rows of each result table.
    pub records: usize,
    /// Bytes of each result table, as they go over the wire before compression.
    pub bytes: usize,
}

/// A literal as the request's properties would hold it.
fn as_property(literal: Literal) -> Value {
    match literal {
        Literal::Bool(value) => value.into(),
        Literal::Long(value) => value.into(),
        Literal::Int(value) => value.into(),
        Literal::Timespan(Some(ticks)) => kql::literal::timespan(ticks).into(),
        Literal::String(text) => text.into(),
        other => other.to_string().into(),
    }
}

fn boolean(name: &str, value: &Value) -> Result<bool, KustoError> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(value) => Ok(*value),
        Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        Value::String(text) if text.eq_ignore_ascii_case("true") || text == "1" => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") || text == "0" || text.is_empty() => Ok(false),
        _ => Err(refused(name, value, "a boolean")),
    }
}

fn number(name: &str, value: &Value) -> Result<Option<usize>, KustoError> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(number) => Ok(Some(usize::try_from(number).unwrap_or(usize::MAX))),
        None => Err(refused(name, value, "a number that is not negative")),
    }
}

fn timeout(name: &str, value: &Value) -> Result<Option<Duration>, KustoError> {
    let ticks = match value {
        Value::Null => return Ok(None),
        // A bare number would be days.
        Value::String(text) if text.contains(':') => parse_timespan(text),
        _ => None,
    };
    match ticks {
        Some(ticks) if ticks > 0 => {
            let ticks = u64::try_from(ticks).expect("the guard has let positive numbers through");
            // One tick is 100 ns. Anything above the service's maximum is the maximum.
            Ok(Some(Duration::from_nanos(ticks.saturating_mul(100)).min(MAX_TIMEOUT)))
        }
        _ => Err(refused(name, value, "a positive timespan such as \"00:04:00\"")),
    }
}

fn refused(name: &str, value: &Value, expected: &str) -> KustoError {
    KustoError::bad_request(format!("the request property '{name}' is {value}: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: &Value) -> Result<Options, KustoError> {
        Options::read(options.as_object().unwrap())
    }

    #[test]
    fn options_are_read_in_every_type_that_sdks_send() {
        let options = read(&json!({
            "servertimeout": "0:04:00", "request_readonly": "True", "truncationmaxrecords": "10", "TruncationMaxSize": 20,
            "request_remote_entities_disabled": 1, "queryconsistency": "weakconsistency",
        }))
        .unwrap();
        assert_eq!(options.server_timeout, Some(Duration::from_secs(240)));
        assert!(options.read_only && options.remote_entities_disabled && !options.no_truncation);
        assert_eq!(options.caps(), Caps { records: 10, bytes: 20 });
        assert_eq!(Options::default().caps(), Caps { records: 500_000, bytes: 64 << 20 });
        assert_eq!(read(&json!({ "notruncation": true })).unwrap().caps().records, usize::MAX);
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_by_its_name() {
        for options in
            [json!({ "servertimeout": 240 }), json!({ "servertimeout": "soon" }), json!({ "notruncation": [] })]
        {
            let error = read(&options).unwrap_err().to_string();
            assert!(error.contains("the request property '"), "{error}");
        }
    }
}
