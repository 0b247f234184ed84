//! The JSON body of a query or command: `{"db", "csl", "properties"}`. No I/O.
//!
//! `properties` is an object or a string that holds one; the official SDKs send either. The text is never trusted to be JSON at all.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{error::KustoError, wire::options::Options};

/// A request as the client sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestBody {
    /// `db`; empty and absent are the same.
    pub database: Option<String>,
    /// `csl`: the query or command.
    pub csl: String,
    /// `properties.Options`
    pub options: Options,
    /// `properties.Parameters`: name to KQL literal.
    pub parameters: BTreeMap<String, String>,
}

/// The parts of a body that `--record` writes as they were sent, whether or not they make sense.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawBody {
    /// `db`
    pub database: Value,
    /// `csl`
    pub csl: Value,
    /// `properties`, a string already parsed where that is possible.
    pub properties: Value,
}

impl RawBody {
    /// Reads the three fields.
    ///
    /// # Errors
    /// `General_BadRequest` when the body is no JSON object.
    pub fn read(body: &[u8]) -> Result<Self, KustoError> {
        // PowerShell and some editors send a byte order mark.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| KustoError::bad_request(format!("the request body is no JSON: {error}")))?;
        let Value::Object(mut fields) = value else {
            return Err(KustoError::bad_request(
                "the request body is no JSON object with 'db', 'csl' and 'properties'",
            ));
        };
        let mut take = |name: &str| fields.remove(name).unwrap_or(Value::Null);
        let (database, csl, properties) = (take("db"), take("csl"), take("properties"));
        let properties = match properties {
            Value::String(text) if !text.trim().is_empty() => {
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            }
            other => other,
        };
        Ok(Self { database, csl, properties })
    }

    /// The fields with their types.
    ///
    /// # Errors
    /// `General_BadRequest` names the field that makes no sense.
    pub fn validate(&self) -> Result<RequestBody, KustoError> {
        let database = match &self.database {
            Value::Null => None,
            Value::String(name) if name.is_empty() => None,
            Value::String(name) => Some(name.clone()),
            other => return Err(KustoError::bad_request(format!("'db' is {other}: expected a string"))),
        };
        let csl = match &self.csl {
            Value::String(text) if !text.trim().is_empty() => text.clone(),
            Value::Null | Value::String(_) => {
                return Err(KustoError::bad_request("'csl' is empty: expected the text of a query or command"));
            }
            other => return Err(KustoError::bad_request(format!("'csl' is {other}: expected a string"))),
        };
        let empty = Map::new();
        let properties = match &self.properties {
            Value::Null => &empty,
            Value::String(text) if text.trim().is_empty() => &empty,
            Value::Object(properties) => properties,
            _ => return Err(KustoError::bad_request("'properties' is neither an object nor a string that holds one")),
        };
        let options = Options::read(section(properties, "Options")?.unwrap_or(&empty))?;
        let parameters = section(properties, "Parameters")?
            .unwrap_or(&empty)
            .iter()
            .map(|(name, value)| (name.clone(), parameter_text(value)))
            .collect();
        Ok(RequestBody { database, csl, options, parameters })
    }
}

fn section<'a>(properties: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Map<String, Value>>, KustoError> {
    match properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(section)) => Ok(Some(section)),
        Some(_) => Err(KustoError::bad_request(format!("'properties.{name}' is no object"))),
    }
}

/// A parameter's value is KQL text; numbers and booleans of JSON are literals of KQL as they stand.
fn parameter_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(body: &str) -> Result<RequestBody, KustoError> {
        RawBody::read(body.as_bytes())?.validate()
    }

    #[test]
    fn properties_are_read_as_an_object_and_as_a_string() {
        let object = read(
            r#"{"db":"D","csl":"print 1","properties":{"Options":{"servertimeout":"00:00:05"},"Parameters":{"a":"long(1)","b":2}}}"#,
        )
        .unwrap();
        let string = read(
            r#"{"db":"D","csl":"print 1","properties":"{\"Options\":{\"servertimeout\":\"00:00:05\"},\"Parameters\":{\"a\":\"long(1)\",\"b\":2}}"}"#,
        )
        .unwrap();
        assert_eq!(object, string);
        assert_eq!(object.database.as_deref(), Some("D"));
        assert_eq!(object.options.server_timeout, Some(Duration::from_secs(5)));
        assert_eq!(object.parameters, BTreeMap::from([("a".into(), "long(1)".into()), ("b".into(), "2".into())]));
    }

    #[test]
    fn an_absent_database_and_absent_properties_are_fine() {
        assert_eq!(read(r#"{"csl":".show databases"}"#).unwrap().database, None);
        assert_eq!(read(r#"{"db":"","csl":"x","properties":""}"#).unwrap().database, None);
        assert_eq!(read("\u{feff}{\"csl\":\"x\"}").unwrap().csl, "x");
    }

    #[test]
    fn a_body_that_makes_no_sense_is_a_bad_request() {
        for body in ["", "{", "[]", "{}", r#"{"csl":1}"#, r#"{"csl":"x","db":1}"#, r#"{"csl":"x","properties":"{"}"#] {
            let error = read(body).unwrap_err();
            assert_eq!(error.kind, crate::error::KustoErrorKind::BadRequest, "{body}: {error}");
        }
    }
}
