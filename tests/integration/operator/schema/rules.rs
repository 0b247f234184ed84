//! The rules of the definitions' schemas as a list, and what breaks each of them. The status is written by us alone and left out. No I/O.

use serde_json::{Map, Value};

/// Keys of a schema by which nothing is refused but what is of another type.
const SILENT: [&str; 10] = [
    "additionalProperties",
    "default",
    "description",
    "format",
    "items",
    "nullable",
    "properties",
    "title",
    "type",
    "x-kubernetes-preserve-unknown-fields",
];

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// The definition's, such as `Ingestor`.
    pub(super) kind: String,
    /// Where it is, such as `spec.databases[].databaseName`; empty for the object itself.
    pub(super) path: String,
    /// The schema's key. A rule in CEL has `x-kubernetes-validations`, unless it says a pattern: then it is that one.
    pub(super) key: String,
    /// What the key says; of a rule in CEL the expression.
    pub(super) value: Value,
    /// What we say of it, which only rules in CEL can; all else is in the API server's words.
    pub(super) words: Option<String>,
}

impl Rule {
    /// How the API server names its place in an object in which every list begins with what is wrong.
    pub(super) fn field(&self) -> String {
        if self.path.is_empty() { "<nil>".to_owned() } else { self.path.replace("[]", "[0]") }
    }

    /// The same as a JSON pointer.
    pub(super) fn pointer(&self) -> String {
        if self.path.is_empty() {
            return String::new();
        }
        format!("/{}", self.path.replace("[]", ".0").replace('.', "/"))
    }

    /// Breaks it in an object that keeps it. Not for a rule in CEL.
    pub(super) fn break_in(&self, object: &mut Value) {
        let pointer = self.pointer();
        if self.key == "required" {
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer has steps");
            let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
            parent.expect("a field is in an object").remove(field);
            return;
        }
        let place = object.pointer_mut(&pointer).expect("the object has it");
        *place = match self.key.as_str() {
            "enum" => "Other".into(),
            "format" => (i64::from(i32::MAX) + 1).into(),
            "pattern" => format!("{}'", place.as_str().expect("it is a text")).into(),
            _ => self.beyond(1, place),
        };
    }

    /// Values that only just keep it, made from one that does. Of rules in CEL and patterns nothing is known; what the former take is in `objects.rs`.
    pub(super) fn corners(&self, within: &Value) -> Vec<Value> {
        match self.key.as_str() {
            "enum" => self.value.as_array().cloned().unwrap_or_default(),
            "format" => vec![i32::MAX.into()],
            "pattern" | "required" | "x-kubernetes-validations" => Vec::new(),
            _ => vec![self.beyond(0, within)],
        }
    }

    /// A value so much beyond the bound, made from one within it.
    fn beyond(&self, step: i64, within: &Value) -> Value {
        let bound = self.value.as_f64().map(|bound| bound.to_string().parse::<i64>());
        let bound = bound.expect("a bound is a number").expect("a bound is whole");
        let number = if self.key.starts_with("max") { bound + step } else { bound - step };
        let count = || usize::try_from(number).expect("nothing has fewer than none");
        match self.key.as_str() {
            "maxItems" | "minItems" => vec![within[0].clone(); count()].into(),
            "maxLength" | "minLength" => "a".repeat(count()).into(),
            "maximum" | "minimum" => number.into(),
            key => unreachable!("{key} is not listed"),
        }
    }

    /// What is said of it.
    pub(super) fn message(&self) -> String {
        let Self { key, value, words, .. } = self;
        if let Some(words) = words {
            return words.clone();
        }
        let listed = || value.as_array().expect("it is a list").iter().map(Value::to_string).collect::<Vec<_>>();
        let number = || value.as_f64().expect("it is a number");
        match key.as_str() {
            "enum" => format!("supported values: {}", listed().join(", ")),
            "format" => format!("must be of type integer with format int32 in {}", self.field()),
            "maxItems" => format!("must have at most {value} item"),
            "maxLength" => format!("may not be more than {value} bytes"),
            "maximum" => format!("should be less than or equal to {}", number()),
            "minItems" => format!("should have at least {value} item"),
            "minLength" => format!("should be at least {value} chars long"),
            "minimum" => format!("should be greater than or equal to {}", number()),
            "required" => "Required value".to_owned(),
            key => unreachable!("{key} is said in our words"),
        }
    }

    /// How the value that breaks it is shown beside that. None is where it is too long, of another format, absent, or one of several that a rule in CEL is about.
    pub(super) fn shown(&self, broken: &Value) -> Option<String> {
        let value = broken.pointer(&self.pointer())?;
        match self.key.as_str() {
            "enum" | "maximum" | "minLength" | "minimum" => Some(format!(" value: {value}: ")),
            "maxItems" | "minItems" => value.as_array().map(|entries| format!(": {}: ", entries.len())),
            "pattern" => value.as_str().map(|text| format!(", not '{text}'")),
            _ => None,
        }
    }
}

/// The schema of a definition.
pub(super) fn schema_of(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Every rule of a definition.
///
/// # Panics
/// If there is a key that nobody here knows how to break, or a pattern that no rule in CEL says in our words.
pub(super) fn rules_of(definition: &Value) -> Vec<Rule> {
    let kind = definition["spec"]["names"]["kind"].as_str().expect("a definition names its kind");
    let mut rules = Vec::new();
    visit(schema_of(definition), "", &mut |schema, path| {
        let mut add = |path: String, key: &str, value: &Value, words: Option<&Value>| {
            let words = words.map(|words| words.as_str().expect("a rule in CEL has a message").to_owned());
            rules.push(Rule { kind: kind.to_owned(), path, key: key.to_owned(), value: value.clone(), words });
        };
        let in_cel = || schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
        // A text in JSON is one in CEL.
        let pattern = schema.get("pattern").map(|pattern| format!("self.matches({pattern})"));
        let says_pattern = |rule: &&Value| rule["rule"].as_str() == pattern.as_deref();
        for (key, value) in schema {
            match key.as_str() {
                "enum" | "maxItems" | "maxLength" | "maximum" | "minItems" | "minLength" | "minimum" => {
                    add(path.to_owned(), key, value, None);
                }
                // A maximum says more.
                "format" if value == "int32" && !schema.contains_key("maximum") => {
                    add(path.to_owned(), key, value, None);
                }
                "pattern" => {
                    let ours = in_cel().find(says_pattern);
                    let ours = ours.unwrap_or_else(|| panic!("no rule in CEL says the pattern of {kind} {path}"));
                    add(path.to_owned(), key, value, Some(&ours["message"]));
                }
                "required" => {
                    for field in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                        add(below(path, field), key, value, None);
                    }
                }
                "x-kubernetes-validations" => {
                    for rule in in_cel().filter(|rule| !says_pattern(rule)) {
                        add(path.to_owned(), key, &rule["rule"], Some(&rule["message"]));
                    }
                }
                other => assert!(SILENT.contains(&other), "nobody knows how to break {other} at {kind} {path}"),
            }
        }
    });
    rules
}

/// Where a schema that has its place at this path has defaults, and which.
pub(super) fn defaults_of(schema: &Value, path: &str) -> Vec<(String, Value)> {
    let mut defaults = Vec::new();
    visit(schema, path, &mut |schema, path| {
        if let Some(default) = schema.get("default") {
            defaults.push((path.to_owned(), default.clone()));
        }
    });
    defaults
}

/// Gives a value the defaults that its schema has for what is absent, and notes where.
pub(super) fn fill_in(schema: &Value, path: &str, value: &mut Value, filled: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                let path = below(path, name);
                if let Some(default) = schema.get("default").filter(|_| !fields.contains_key(name)) {
                    fields.insert(name.clone(), default.clone());
                    filled.push(path.clone());
                }
                if let Some(field) = fields.get_mut(name) {
                    fill_in(schema, &path, field, filled);
                }
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                fill_in(&schema["items"], &format!("{path}[]"), entry, filled);
            }
        }
        _ => {}
    }
}

/// Changes a value by a merge patch (RFC 7386).
pub(super) fn patch(value: &mut Value, changes: &Value) {
    let Value::Object(changes) = changes else {
        *value = changes.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let fields = value.as_object_mut().expect("it was just made one");
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            patch(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Every part of a schema with its path, the status's apart.
fn visit(schema: &Value, path: &str, see: &mut dyn FnMut(&Map<String, Value>, &str)) {
    let Some(keys) = schema.as_object() else { return };
    see(keys, path);
    for (name, schema) in keys.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if !(path.is_empty() && name == "status") {
            visit(schema, &below(path, name), see);
        }
    }
    for (key, step) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(schema) = keys.get(key) {
            visit(schema, &format!("{path}{step}"), see);
        }
    }
}
