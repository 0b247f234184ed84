//! Reads the attributes of a partition, which strangers wrote into the heartbeat table, and says which of them a hub uses: the rules of a partition's document ask for the
//! same. Pure; used by agent-hub and by the rules.

use std::{collections::BTreeMap, fmt};

use kql::{
    literal,
    secrets::{ends_with_a_name, redacted},
};
use serde_json::Value;

use super::parse::{Problem, Problems};

/// Attributes of a partition that are kept.
pub(crate) const MAX_ATTRIBUTES: usize = 64;
/// The longest attribute, name or value, in characters.
pub(crate) const MAX_ATTRIBUTE_CHARS: usize = 256;

/// Why a hub does not use an attribute of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unused {
    /// More than [`MAX_ATTRIBUTE_CHARS`], in its name or its text.
    Long,
    /// It may be a secret: attributes are shown as they are, and are names of zones and groups.
    Secret,
    /// A list, a map or nothing.
    Kind,
    /// A control character, in its name or its text.
    Control,
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret => f.write_str("it may be a secret, by its name or by its text, and is not used"),
            Self::Kind => f.write_str("it is neither a text, a number nor a boolean"),
            Self::Control => f.write_str("it holds a control character or a line separator"),
            Self::Long => write!(f, "it has more than {MAX_ATTRIBUTE_CHARS} characters"),
        }
    }
}

/// Why an attribute is not used, if it is not. First what makes the rest expensive to look for, and then what must not be shown with another reason.
pub(crate) fn unused(key: &str, value: &Value) -> Option<Unused> {
    let text = value.as_str().unwrap_or_default();
    if key.chars().count().max(text.chars().count()) > MAX_ATTRIBUTE_CHARS {
        Some(Unused::Long)
    } else if ends_with_a_name(key) || [key, text].into_iter().any(|words| redacted(words) != words) {
        Some(Unused::Secret)
    } else if matches!(value, Value::Null | Value::Array(_) | Value::Object(_)) {
        Some(Unused::Kind)
    } else if key.chars().chain(text.chars()).any(literal::is_control) {
        Some(Unused::Control)
    } else {
        None
    }
}

/// Reads `PartitionMetadata`, as JSON or as the text of it. Null is no attributes, and as a value no attribute, whatever its name is. What may be a secret is none either: attributes are shown as they are, and are names of zones
/// and groups.
pub fn parse_metadata(value: &Value) -> (BTreeMap<String, Value>, Vec<Problem>) {
    let mut problems = Problems::default();
    let mut metadata = BTreeMap::new();
    let parsed;
    let value = match value {
        Value::String(text) if text.is_empty() => &Value::Null,
        Value::String(text) => {
            parsed = serde_json::from_str(text).unwrap_or_else(|_| value.clone());
            &parsed
        }
        value => value,
    };
    match value {
        Value::Null => {}
        Value::Object(attributes) => {
            for (key, value) in attributes.iter().filter(|(_, value)| !value.is_null()) {
                if metadata.len() == MAX_ATTRIBUTES {
                    problems
                        .add("PartitionMetadata", format_args!("only the first {MAX_ATTRIBUTES} attributes are used"));
                    break;
                }
                match unused(key, value) {
                    None => {
                        metadata.insert(key.clone(), value.clone());
                    }
                    Some(why) => problems.add(format_args!("PartitionMetadata.{key}"), why),
                }
            }
        }
        // A reader may have put a reason in the place of what it left out.
        Value::String(text) => problems.add("PartitionMetadata", format_args!("it is not an object: {text}")),
        _ => problems.add("PartitionMetadata", "it is not an object"),
    }
    (metadata, problems.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_that_may_be_secrets_are_left_out() {
        let (kept, what) = ("https://x.example/eu", "it may be a secret, by its name or by its text, and is not used");
        for (key, value, at) in [
            ("geo", json!("https://x/c?sig=hunter2"), "geo"),
            ("db_password", json!("hunter2"), "db_password"),
            ("App Key", json!(31337), "App Key"),
            ("https://me:hunter2@x", json!("a"), "https://…@x"),
        ] {
            let (attributes, problems) = parse_metadata(&json!({key: value, "location": kept}));
            assert_eq!(attributes, BTreeMap::from([("location".to_owned(), json!(kept))]));
            assert_eq!(problems, [Problem { at: format!("PartitionMetadata.{at}"), what: what.to_owned() }]);
        }
    }

    #[test]
    fn attributes_are_scalars_and_bounded() {
        let (metadata, problems) = parse_metadata(&json!({
            "geo": "EU", "tier": 2, "none": null, "list": [1], "long": "x".repeat(257), "two": "a\nb", "l\u{7}": "x",
        }));
        assert_eq!(Value::from_iter(metadata), json!({"geo": "EU", "tier": 2}));
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "PartitionMetadata.list: it is neither a text, a number nor a boolean",
                "PartitionMetadata.long: it has more than 256 characters",
                "PartitionMetadata.two: it holds a control character or a line separator",
                "PartitionMetadata.l: it holds a control character or a line separator",
            ]
        );
        assert_eq!(parse_metadata(&json!(r#"{"geo":"EU"}"#)).0.len(), 1);
        assert_eq!(parse_metadata(&json!("")), (BTreeMap::new(), vec![]));
        for name in ["password", "x\u{7}", &"x".repeat(257)] {
            assert_eq!(parse_metadata(&json!({name: null})), (BTreeMap::new(), vec![]), "{name}");
        }
        assert_eq!(parse_metadata(&json!("x")).1[0].to_string(), "PartitionMetadata: it is not an object: x");
    }
}
