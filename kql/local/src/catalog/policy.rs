//! Policies: what they say, how Kusto prints them, and how its JSON forms are read. Pure.
//!
//! Streaming ingestion, retention and the encoding `BigObject32` have an effect here; caching and batching are stored and shown.

use kql::literal;
use serde_json::{Value, json};

use crate::{error::KustoError, rows::parse_timespan};

/// Which policy a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// How long rows are kept.
    Retention,
    /// How long rows stay on fast storage.
    Caching,
    /// Whether rows may be streamed in.
    StreamingIngestion,
    /// When queued rows are sealed.
    IngestionBatching,
    /// How a column is stored.
    Encoding,
}

impl PolicyKind {
    /// The policy of a word in a command.
    pub fn of_keyword(word: &str) -> Option<Self> {
        Some(match word {
            "retention" => Self::Retention,
            "caching" => Self::Caching,
            "streamingingestion" => Self::StreamingIngestion,
            "ingestionbatching" => Self::IngestionBatching,
            "encoding" => Self::Encoding,
            _ => return None,
        })
    }

    /// The `PolicyName` of the answer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retention => "RetentionPolicy",
            Self::Caching => "CachingPolicy",
            Self::StreamingIngestion => "StreamingIngestionPolicy",
            Self::IngestionBatching => "IngestionBatchingPolicy",
            Self::Encoding => "EncodingPolicy",
        }
    }
}

/// The policies of a database or a table; what is absent is inherited, or Kusto's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policies {
    /// How long rows are kept.
    pub retention: Option<Retention>,
    /// Hot spans of data and index, in ticks.
    pub caching: Option<Caching>,
    /// Whether rows may be streamed in.
    pub streaming_ingestion: Option<bool>,
    /// As it was sent.
    pub ingestion_batching: Option<Value>,
}

/// The retention policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Rows older than this, by ingestion time, are gone.
    pub soft_delete_ticks: i64,
    /// Whether Kusto could bring them back; no effect here.
    pub recoverable: bool,
}

impl Retention {
    /// Kusto's default: a thousand years.
    pub const DEFAULT: Self = Self { soft_delete_ticks: 365_000 * literal::TICKS_PER_DAY, recoverable: true };

    /// Reads `{"SoftDeletePeriod": "7.00:00:00", "Recoverability": "Disabled"}`, what is absent from `base`.
    ///
    /// # Errors
    /// `General_BadRequest` names the property that makes no sense.
    pub fn read(value: &Value, base: &Self) -> Result<Self, KustoError> {
        let mut retention = base.clone();
        for (name, value) in object(value, "retention")? {
            match name.as_str() {
                "SoftDeletePeriod" => retention.soft_delete_ticks = period(value)?,
                "Recoverability" => {
                    retention.recoverable = match value {
                        Value::String(text) if text.eq_ignore_ascii_case("enabled") => true,
                        Value::String(text) if text.eq_ignore_ascii_case("disabled") => false,
                        Value::Number(number) if number.as_u64() == Some(1) => true,
                        Value::Number(number) if number.as_u64() == Some(0) => false,
                        other => return Err(bad("Recoverability", other, "Enabled or Disabled")),
                    }
                }
                other => return Err(unknown("retention", other)),
            }
        }
        Ok(retention)
    }
}

/// The caching policy; stored and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caching {
    /// How long data is hot, in ticks.
    pub data_ticks: i64,
    /// How long the index is hot, in ticks.
    pub index_ticks: i64,
}

impl Caching {
    /// Reads `{"DataHotSpan": "1.00:00:00", "IndexHotSpan": "1.00:00:00"}`; the spans may be `{"Value": ...}`.
    ///
    /// # Errors
    /// `General_BadRequest` names the property that makes no sense.
    pub fn read(value: &Value) -> Result<Self, KustoError> {
        let (mut data, mut index) = (None, None);
        for (name, value) in object(value, "caching")? {
            let span = value.get("Value").unwrap_or(value);
            match name.as_str() {
                "DataHotSpan" => data = Some(period(span)?),
                "IndexHotSpan" => index = Some(period(span)?),
                other => return Err(unknown("caching", other)),
            }
        }
        let data_ticks = data.ok_or_else(|| KustoError::bad_request("the caching policy has no DataHotSpan"))?;
        Ok(Self { data_ticks, index_ticks: index.unwrap_or(data_ticks) })
    }
}

/// Reads `{"IsEnabled": true}`.
///
/// # Errors
/// `General_BadRequest` names the property that makes no sense.
pub fn read_streaming_ingestion(value: &Value) -> Result<bool, KustoError> {
    let mut enabled = None;
    for (name, value) in object(value, "streaming ingestion")? {
        match (name.as_str(), value) {
            ("IsEnabled", Value::Bool(value)) => enabled = Some(*value),
            ("HintAllocatedRate", Value::Null | Value::Number(_)) => {}
            ("IsEnabled" | "HintAllocatedRate", value) => return Err(bad(name, value, "a boolean or a number")),
            (other, _) => return Err(unknown("streaming ingestion", other)),
        }
    }
    enabled.ok_or_else(|| KustoError::bad_request("the streaming ingestion policy has no IsEnabled"))
}

/// Checks that a batching policy holds nothing Kusto does not know.
///
/// # Errors
/// `General_BadRequest` names the property that makes no sense.
pub fn check_ingestion_batching(value: &Value) -> Result<(), KustoError> {
    for (name, value) in object(value, "ingestion batching")? {
        match name.as_str() {
            "MaximumBatchingTimeSpan" => drop(period(value)?),
            "MaximumNumberOfItems" | "MaximumRawDataSizeMB" if value.is_u64() => {}
            "MaximumNumberOfItems" | "MaximumRawDataSizeMB" => return Err(bad(name, value, "a whole number")),
            other => return Err(unknown("ingestion batching", other)),
        }
    }
    Ok(())
}

impl Policies {
    /// The policy as Kusto's JSON; `None` if it is not set here.
    pub fn json(&self, kind: PolicyKind) -> Option<Value> {
        match kind {
            PolicyKind::Retention => self.retention.as_ref().map(|retention| {
                json!({
                    "SoftDeletePeriod": literal::timespan(retention.soft_delete_ticks),
                    "Recoverability": if retention.recoverable { "Enabled" } else { "Disabled" },
                })
            }),
            PolicyKind::Caching => self.caching.map(|caching| {
                json!({
                    "DataHotSpan": { "Value": literal::timespan(caching.data_ticks) },
                    "IndexHotSpan": { "Value": literal::timespan(caching.index_ticks) },
                    "ColumnOverrides": [],
                })
            }),
            PolicyKind::StreamingIngestion => {
                self.streaming_ingestion.map(|enabled| json!({ "IsEnabled": enabled, "HintAllocatedRate": null }))
            }
            PolicyKind::IngestionBatching => self.ingestion_batching.clone(),
            PolicyKind::Encoding => None,
        }
    }
}

/// How a column is stored. Only the longest value matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// For identifiers.
    Identifier,
    /// Values up to 2 MiB.
    BigObject,
    /// Values up to 32 MiB.
    BigObject32,
    /// Vectors of 16-bit floats.
    Vector16,
    /// No policy of its own.
    Null,
}

impl Encoding {
    /// The encoding of `type='...'`, in any case.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Identifier, Self::BigObject, Self::BigObject32, Self::Vector16, Self::Null]
            .into_iter()
            .find(|encoding| encoding.name().eq_ignore_ascii_case(name))
    }

    /// As `.show` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identifier => "Identifier",
            Self::BigObject => "BigObject",
            Self::BigObject32 => "BigObject32",
            Self::Vector16 => "Vector16",
            Self::Null => "Null",
        }
    }

    /// The longest `dynamic` value in bytes of its text; a longer one is ingested as null.
    pub const fn max_dynamic_bytes(self) -> usize {
        match self {
            Self::BigObject => 2 * 1024 * 1024,
            Self::BigObject32 => 32 * 1024 * 1024,
            Self::Identifier | Self::Vector16 | Self::Null => 1024 * 1024,
        }
    }
}

fn object<'a>(value: &'a Value, policy: &str) -> Result<&'a serde_json::Map<String, Value>, KustoError> {
    value.as_object().ok_or_else(|| KustoError::bad_request(format!("the {policy} policy is no JSON object")))
}

fn period(value: &Value) -> Result<i64, KustoError> {
    value
        .as_str()
        .and_then(parse_timespan)
        .filter(|ticks| *ticks >= 0)
        .ok_or_else(|| bad("period", value, "a timespan such as \"7.00:00:00\""))
}

fn bad(name: &str, value: &Value, expected: &str) -> KustoError {
    KustoError::bad_request(format!("the policy's {name} is {value}: expected {expected}"))
}

fn unknown(policy: &str, name: &str) -> KustoError {
    KustoError::bad_request(format!("'{name}' is no property of the {policy} policy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_read_from_json_and_printed_as_kusto_prints_it() {
        let retention = Retention::read(
            &json!({ "SoftDeletePeriod": "7.00:00:00", "Recoverability": "Disabled" }),
            &Retention::DEFAULT,
        )
        .unwrap();
        assert_eq!(retention, Retention { soft_delete_ticks: 7 * literal::TICKS_PER_DAY, recoverable: false });
        let policies = Policies { retention: Some(retention), ..Policies::default() };
        assert_eq!(
            policies.json(PolicyKind::Retention).unwrap().to_string(),
            r#"{"SoftDeletePeriod":"7.00:00:00","Recoverability":"Disabled"}"#
        );
        assert!(Retention::read(&json!({ "Typo": 1 }), &Retention::DEFAULT).is_err());
        assert!(Retention::read(&json!({ "SoftDeletePeriod": "-1.00:00:00" }), &Retention::DEFAULT).is_err());
    }

    #[test]
    fn only_big_objects_hold_more_than_a_mebibyte() {
        assert_eq!(Encoding::of_name("bigobject32"), Some(Encoding::BigObject32));
        assert_eq!(Encoding::BigObject32.max_dynamic_bytes(), 32 << 20);
        assert_eq!(Encoding::Null.max_dynamic_bytes(), 1 << 20);
        assert_eq!(Encoding::of_name("Huge"), None);
    }
}
