//! What our programs log, by `--log-format`: lines for people, or one JSON object each. Pure; the stories ask.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use regex::Regex;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

/// How a line for people begins: when, and how grave it is.
static PLAIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\d{4}-\d{2}-\d{2}T[0-9:.]+Z +(ERROR|WARN|INFO) \S").expect("it is a regular expression")
});

/// What every object has.
const FIELDS: [&str; 4] = ["timestamp", "level", "message", "target"];

/// Fails unless a program logged, and every line is one for people.
///
/// # Panics
/// With the line that is none.
pub fn assert_plain(output: &str) {
    for line in logged(output) {
        let is_json = serde_json::from_str::<Value>(line).is_ok();
        assert!(PLAIN.is_match(line) && !is_json, "it is no line for people: {line}");
    }
}

/// Fails unless a program logged, and every line is a JSON object with each field once.
///
/// # Panics
/// With the line that is none.
pub fn assert_json(output: &str) {
    for line in logged(output) {
        let Fields(fields) = match serde_json::from_str(line) {
            Ok(fields) => fields,
            Err(error) => panic!("it is no JSON object, {error}: {line}"),
        };
        let distinct: BTreeSet<&str> = fields.iter().map(String::as_str).collect();
        assert!(FIELDS.iter().all(|field| distinct.contains(field)), "it lacks one of {FIELDS:?}: {line}");
        assert_eq!(distinct.len(), fields.len(), "a field is there twice: {line}");
    }
}

/// The lines of the log: all but the one on standard output that tells the admin port.
fn logged(output: &str) -> Vec<&str> {
    let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("admin http://")).collect();
    assert!(!lines.is_empty(), "nothing was logged");
    lines
}

/// The names of an object's fields as they are written: a map would keep one of two that are the same.
struct Fields(Vec<String>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((field, IgnoredAny)) = map.next_entry()? {
            self.0.push(field);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "2026-01-01T00:00:00.000000Z  INFO pass{number=1}: shared::runtime::cycle: pass ended";
    const OBJECT: &str = r#"{"timestamp":"t","level":"INFO","message":"pass ended","number":{"a":1},"target":"x"}"#;

    #[test]
    fn lines_of_either_format_are_known() {
        assert_plain(&format!("admin http://127.0.0.1:1\n{LINE}\n"));
        assert_json(&format!("{OBJECT}\nadmin http://127.0.0.1:1\n{OBJECT}\n"));
    }

    #[test]
    #[should_panic(expected = "it is no line for people")]
    fn an_object_is_no_line_for_people() {
        assert_plain(OBJECT);
    }

    #[test]
    #[should_panic(expected = "it is no JSON object")]
    fn a_line_for_people_is_no_object() {
        assert_json(LINE);
    }

    #[test]
    #[should_panic(expected = "a field is there twice")]
    fn a_field_that_is_written_twice_is_seen() {
        assert_json(&OBJECT.replace("number", "message"));
    }

    #[test]
    #[should_panic(expected = "nothing was logged")]
    fn silence_has_no_format() {
        assert_json("admin http://127.0.0.1:1\n");
    }
}
