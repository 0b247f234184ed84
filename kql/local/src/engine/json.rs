//! Dynamic values by their JSON text: a path is followed by skipping over text, without building the whole value. Pure; used by the functions over
//! `dynamic`.
//!
//! What is stored was written by serde_json, so the text is well formed; on any other text the answer is "no such member", never a panic.

use std::borrow::Cow;

use serde_json::Value;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// `.name`, `["name"]`
    Member(String),
    /// `[0]`; a negative index counts from the end.
    Index(i64),
}

/// The text of the value at the end of a path; `None` if there is none or it is null.
pub(crate) fn follow<'a>(text: &'a str, path: &[Step]) -> Option<&'a str> {
    let mut value = text.trim();
    for step in path {
        value = match step {
            Step::Member(name) => member(value, name)?,
            Step::Index(index) => element(value, *index)?,
        };
    }
    (value != "null").then_some(value)
}

fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'{') {
        return None;
    }
    let mut at = skip_blank(bytes, 1);
    while bytes.get(at) == Some(&b'"') {
        let key_end = skip_value(bytes, at)?;
        let found = key_equals(text.get(at..key_end)?, name);
        at = skip_blank(bytes, key_end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        at = skip_blank(bytes, at + 1);
        let end = skip_value(bytes, at)?;
        if found {
            return text.get(at..end);
        }
        at = skip_blank(bytes, end);
        if bytes.get(at) != Some(&b',') {
            return None;
        }
        at = skip_blank(bytes, at + 1);
    }
    None
}

fn key_equals(quoted: &str, name: &str) -> bool {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or("");
    if inner.contains('\\') {
        return serde_json::from_str::<String>(quoted).is_ok_and(|key| key == name);
    }
    inner == name
}

fn element(text: &str, index: i64) -> Option<&str> {
    let position = if index >= 0 {
        usize::try_from(index).ok()?
    } else {
        usize::try_from(i64::try_from(elements(text)?.len()).ok()?.checked_add(index)?).ok()?
    };
    ElementTexts::new(text)?.nth(position)
}

/// The members that a JSONPath such as `$.a['b c']` names, outermost first; `None` if the text is none, or has array subscripts.
pub(crate) fn members(path: &str) -> Option<Vec<&str>> {
    let mut rest = path.strip_prefix('$')?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (member, after) = if let Some(quoted) = rest.strip_prefix("['") {
            quoted.split_once("']")?
        } else if let Some(quoted) = rest.strip_prefix("[\"") {
            quoted.split_once("\"]")?
        } else {
            let plain = rest.strip_prefix('.')?;
            plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()))
        };
        if member.is_empty() {
            return None;
        }
        members.push(member);
        rest = after;
    }
    (!members.is_empty()).then_some(members)
}

/// The texts of an array's elements; `None` if it is no array.
pub(crate) fn elements(text: &str) -> Option<Vec<&str>> {
    Some(ElementTexts::new(text.trim())?.collect())
}

struct ElementTexts<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> ElementTexts<'a> {
    fn new(text: &'a str) -> Option<Self> {
        text.starts_with('[').then_some(Self { text, at: 1 })
    }
}

impl<'a> Iterator for ElementTexts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let start = skip_blank(bytes, self.at);
        if matches!(bytes.get(start), None | Some(b']')) {
            return None;
        }
        let end = skip_value(bytes, start)?;
        let next = skip_blank(bytes, end);
        self.at = if bytes.get(next) == Some(&b',') { next + 1 } else { next };
        self.text.get(start..end)
    }
}

fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The offset after the value that starts at `at`.
fn skip_value(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at += 1;
                loop {
                    match bytes.get(at)? {
                        b'\\' => at += 2,
                        b'"' => break,
                        _ => at += 1,
                    }
                }
                at += 1;
            }
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' if depth == 0 => return None,
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            _ => {
                while matches!(bytes.get(at), Some(byte) if !matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\r' | b'\t'))
                {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// What `tostring` makes of a dynamic value: a JSON string without its quotes, anything else as JSON text.
pub(crate) fn to_text(json: &str) -> Cow<'_, str> {
    let json = json.trim();
    if !json.starts_with('"') {
        // Kusto prints a boolean of a dynamic value as JSON does: true, not True.
        return Cow::Borrowed(json);
    }
    let inner = json.get(1..json.len().saturating_sub(1)).unwrap_or("");
    if inner.contains('\\') {
        return serde_json::from_str::<String>(json).map_or(Cow::Borrowed(inner), Cow::Owned);
    }
    Cow::Borrowed(inner)
}

/// A JSON string of a text.
pub(crate) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// The JSON text that `parse_json` makes of a text: itself in compact form, or a JSON string if it is no JSON; `None` for an empty text and `null`.
pub(crate) fn parse(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return None;
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Null) => None,
        Ok(value) => Some(value.to_string()),
        Err(_) => Some(quote(text)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str, path: &[Step]) -> Option<String> {
        follow(text, path).map(str::to_owned)
    }

    #[test]
    fn a_path_gives_the_text_of_what_it_reaches() {
        let text = r#"{"a":{"b":[1,"x",{"c\"d":null}]},"e":2.50,"f":"}"}"#;
        let member = |name: &str| Step::Member(name.to_owned());
        assert_eq!(at(text, &[member("a"), member("b"), Step::Index(1)]).as_deref(), Some(r#""x""#));
        assert_eq!(at(text, &[member("a"), member("b"), Step::Index(-3)]).as_deref(), Some("1"));
        assert_eq!(at(text, &[member("e")]).as_deref(), Some("2.50"));
        assert_eq!(at(text, &[member("f")]).as_deref(), Some(r#""}""#));
        assert_eq!(at(text, &[member("a"), member("b"), Step::Index(2), member("c\"d")]), None);
        assert_eq!(at(text, &[member("nosuch")]), None);
        assert_eq!(at("12", &[member("a")]), None);
    }

    #[test]
    fn a_jsonpath_names_members() {
        assert_eq!(members("$.a.b"), Some(vec!["a", "b"]));
        assert_eq!(members("$['a.b'].c[\"d\"]"), Some(vec!["a.b", "c", "d"]));
        for text in ["a", "$", "$a", "$.", "$.a[0]", "$['a"] {
            assert_eq!(members(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_followed_without_a_panic(text in r#"[\[\]{}:,"\\ a1é]{0,40}"#) {
            let _ = follow(&text, &[Step::Member("a".to_owned()), Step::Index(-1)]);
            let _ = elements(&text);
            let _ = to_text(&text);
        }
    }
}
