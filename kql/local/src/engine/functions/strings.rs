//! Texts: `strcat`, `substring`, `split`, `trim`, `extract`, `replace_string` and their kin. Pure. Positions and lengths count characters, not bytes.

use std::borrow::Cow;

use kql::types::ScalarType;
use regex::Regex;

use super::Call;
use crate::{
    engine::{kernel, scalar::Scalar, text_match},
    error::KustoError,
};

pub(crate) const NAMES: &[&str] = &[
    "base64_decode_tostring",
    "base64_encode_tostring",
    "countof",
    "extract",
    "extract_all",
    "indexof",
    "parse_csv",
    "regex_quote",
    "repeat",
    "replace_regex",
    "replace_string",
    "reverse",
    "split",
    "strcat",
    "strcat_delim",
    "strcmp",
    "string_size",
    "strlen",
    "strrep",
    "substring",
    "tolower",
    "toupper",
    "trim",
    "trim_end",
    "trim_start",
    "url_decode",
    "url_encode",
    "url_encode_component",
];

pub(crate) fn call(call: &Call<'_>) -> Result<Scalar, KustoError> {
    match call.name {
        "strcat" => {
            call.arity(1, 64)?;
            joined(call, 0, None)
        }
        "strcat_delim" => {
            call.arity(2, 64)?;
            joined(call, 1, Some(call.any_text(0)?))
        }
        "strlen" | "string_size" => {
            call.arity(1, 1)?;
            let text = call.any_text(0)?;
            let characters = call.name == "strlen";
            Ok(kernel::long(call.name, ScalarType::Long, &[&text], move |cells, row| {
                let text = cells.text(0, row);
                i64::try_from(if characters { text.chars().count() } else { text.len() }).ok()
            }))
        }
        "tolower" => {
            call.arity(1, 1)?;
            Ok(text_match::lower(&call.any_text(0)?))
        }
        "toupper" => {
            call.arity(1, 1)?;
            Ok(kernel::text(call.name, ScalarType::String, &[&call.any_text(0)?], |cells, row| {
                Some(Cow::Owned(cells.text(0, row).to_uppercase()))
            }))
        }
        "reverse" => {
            call.arity(1, 1)?;
            Ok(kernel::text("reverse", ScalarType::String, &[&call.any_text(0)?], |cells, row| {
                Some(Cow::Owned(cells.text(0, row).chars().rev().collect()))
            }))
        }
        "substring" => {
            call.arity(2, 3)?;
            substring(call)
        }
        "indexof" => {
            call.arity(2, 5)?;
            index_of(call)
        }
        "split" => {
            call.arity(2, 3)?;
            split(call)
        }
        "trim" | "trim_start" | "trim_end" => {
            call.arity(2, 2)?;
            trim(call)
        }
        "replace_string" => {
            call.arity(3, 3)?;
            let arguments = [&call.text(0)?, &call.text(1)?, &call.text(2)?];
            Ok(kernel::text(call.name, ScalarType::String, &arguments, |cells, row| {
                let (text, from) = (cells.text(0, row), cells.text(1, row));
                Some(if from.is_empty() {
                    Cow::Borrowed(text)
                } else {
                    Cow::Owned(text.replace(from, cells.text(2, row)))
                })
            }))
        }
        "replace_regex" => {
            call.arity(3, 3)?;
            replace_regex(call)
        }
        "extract" => {
            call.arity(3, 3)?;
            extract(call)
        }
        "extract_all" => {
            call.arity(2, 3)?;
            extract_all(call)
        }
        "countof" => {
            call.arity(2, 3)?;
            count_of(call)
        }
        "repeat" | "strrep" => {
            call.arity(2, if call.name == "strrep" { 3 } else { 2 })?;
            repeat(call)
        }
        "strcmp" => {
            call.arity(2, 2)?;
            Ok(kernel::long("strcmp", ScalarType::Long, &[&call.any_text(0)?, &call.any_text(1)?], |cells, row| {
                Some(i64::from(cells.text(0, row).cmp(cells.text(1, row)) as i8))
            }))
        }
        "regex_quote" => map(call, |text| Cow::Owned(regex::escape(text))),
        "parse_csv" => {
            call.arity(1, 1)?;
            Ok(kernel::text("parse_csv", ScalarType::Dynamic, &[&call.text(0)?], |cells, row| {
                let text = cells.text(0, row);
                let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
                let record = reader.records().next()?.ok()?;
                let fields: Vec<&str> = record.iter().collect();
                Some(Cow::Owned(serde_json::Value::from(fields).to_string()))
            }))
        }
        "url_encode" => map(call, |text| Cow::Owned(url_encode(text, "+"))),
        "url_encode_component" => map(call, |text| Cow::Owned(url_encode(text, "%20"))),
        "url_decode" => map(call, url_decode),
        "base64_encode_tostring" => map(call, |text| Cow::Owned(base64_encode(text.as_bytes()))),
        _ => {
            call.arity(1, 1)?;
            Ok(kernel::text(call.name, ScalarType::String, &[&call.text(0)?], |cells, row| {
                base64_decode(cells.text(0, row)).and_then(|bytes| String::from_utf8(bytes).ok()).map(Cow::Owned)
            }))
        }
    }
}

fn map(call: &Call<'_>, body: fn(&str) -> Cow<'_, str>) -> Result<Scalar, KustoError> {
    call.arity(1, 1)?;
    Ok(kernel::text(call.name, ScalarType::String, &[&call.text(0)?], move |cells, row| Some(body(cells.text(0, row)))))
}

fn joined(call: &Call<'_>, first: usize, delimiter: Option<Scalar>) -> Result<Scalar, KustoError> {
    let mut texts = Vec::with_capacity(call.count());
    let offset = usize::from(delimiter.is_some());
    texts.extend(delimiter);
    for index in first..call.count() {
        texts.push(call.any_text(index)?);
    }
    let references: Vec<&Scalar> = texts.iter().collect();
    Ok(kernel::text(call.name, ScalarType::String, &references, move |cells, row| {
        let mut text = String::new();
        for argument in offset..cells.arguments() {
            if offset == 1 && argument > offset {
                text.push_str(cells.text(0, row));
            }
            text.push_str(cells.text(argument, row));
        }
        Some(Cow::Owned(text))
    }))
}

fn substring(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let mut arguments = vec![call.any_text(0)?, call.long(1)?];
    if call.count() > 2 {
        arguments.push(call.long(2)?);
    }
    let references: Vec<&Scalar> = arguments.iter().collect();
    Ok(kernel::text(call.name, ScalarType::String, &references, |cells, row| {
        let (text, start) = (cells.text(0, row), cells.long(1, row)?);
        let length = if cells.arguments() > 2 { cells.long(2, row)? } else { i64::MAX };
        // A negative start counts from the end.
        let skipped = if start < 0 {
            text.chars().count().saturating_sub(usize::try_from(start.unsigned_abs()).ok()?)
        } else {
            usize::try_from(start).ok()?
        };
        let length = usize::try_from(length.max(0)).unwrap_or(usize::MAX);
        let from = text.char_indices().nth(skipped).map_or(text.len(), |(at, _)| at);
        let rest = &text[from..];
        let to = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
        Some(Cow::Borrowed(&rest[..to]))
    }))
}

fn index_of(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let mut arguments = vec![call.any_text(0)?, call.any_text(1)?];
    for index in 2..call.count() {
        arguments.push(call.long(index)?);
    }
    let references: Vec<&Scalar> = arguments.iter().collect();
    Ok(kernel::long(call.name, ScalarType::Long, &references, |cells, row| {
        let text: Vec<char> = cells.text(0, row).chars().collect();
        let sought: Vec<char> = cells.text(1, row).chars().collect();
        let optional = |argument: usize, otherwise: i64| {
            if cells.arguments() > argument { cells.long(argument, row).unwrap_or(otherwise) } else { otherwise }
        };
        let (start, length, occurrence) = (optional(2, 0), optional(3, -1), optional(4, 1));
        let size = i64::try_from(text.len()).ok()?;
        let start = if start < 0 { (size + start).max(0) } else { start };
        if start > size {
            return Some(-1);
        }
        let end = if length < 0 { size } else { start.saturating_add(length).min(size) };
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        let mut left = occurrence;
        // No place if what is sought is longer than what is searched.
        for at in start..(end + 1).saturating_sub(sought.len()) {
            if text[at..].starts_with(&sought) {
                left -= 1;
                if left <= 0 {
                    return i64::try_from(at).ok();
                }
            }
        }
        Some(-1)
    }))
}

fn split(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let mut arguments = vec![call.any_text(0)?, call.text(1)?];
    if call.count() > 2 {
        arguments.push(call.long(2)?);
    }
    let references: Vec<&Scalar> = arguments.iter().collect();
    Ok(kernel::text(call.name, ScalarType::Dynamic, &references, |cells, row| {
        let (text, delimiter) = (cells.text(0, row), cells.text(1, row));
        let parts: Vec<&str> = if delimiter.is_empty() { vec![text] } else { text.split(delimiter).collect() };
        let parts = if cells.arguments() > 2 {
            // The one part asked for, still as an array; no such part is an empty one.
            let wanted = usize::try_from(cells.long(2, row)?).ok()?;
            parts.get(wanted).copied().into_iter().collect()
        } else {
            parts
        };
        Some(Cow::Owned(serde_json::Value::from(parts).to_string()))
    }))
}

fn trim(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let pattern = call.constant_text(0)?;
    // One match goes at each end, and the anchors belong to one pattern; so it was measured on Microsoft's emulator.
    let anchored = match call.name {
        "trim_start" => format!("^({pattern})"),
        "trim_end" => format!("({pattern})$"),
        _ => format!("^({pattern})|({pattern})$"),
    };
    let regex = text_match::regex(&anchored)?;
    let name = format!("{} {pattern:?}", call.name);
    Ok(kernel::text(name, ScalarType::String, &[&call.text(1)?], move |cells, row| {
        Some(regex.replace_all(cells.text(0, row), ""))
    }))
}

fn replace_regex(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let pattern = call.constant_text(1)?;
    let regex = text_match::regex(&pattern)?;
    let replacement = rust_replacement(&call.constant_text(2)?);
    let name = format!("replace_regex {pattern:?} {replacement:?}");
    Ok(kernel::text(name, ScalarType::String, &[&call.text(0)?], move |cells, row| {
        Some(regex.replace_all(cells.text(0, row), replacement.as_str()))
    }))
}

/// Kusto writes a group as `\1`, the regex crate as `${1}`.
fn rust_replacement(text: &str) -> String {
    let mut converted = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                converted.push_str("${");
                converted.extend(chars.next());
                converted.push('}');
            }
            ('\\', Some('\\')) => {
                chars.next();
                converted.push('\\');
            }
            ('$', _) => converted.push_str("$$"),
            _ => converted.push(c),
        }
    }
    converted
}

fn extract(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let pattern = call.constant_text(0)?;
    let regex = text_match::regex(&pattern)?;
    let group = call.constant_long(1)?;
    let group =
        usize::try_from(group).map_err(|_| KustoError::semantic("SEM0025", "extract(): a group is not negative"))?;
    if group >= regex.captures_len() {
        return Err(KustoError::semantic(
            "SEM0025",
            format!("extract(): the pattern {pattern:?} has no group {group}"),
        ));
    }
    let text = call.text(2)?;
    Ok(kernel::text(format!("extract {pattern:?} {group}"), ScalarType::String, &[&text], move |cells, row| {
        let captures = regex.captures(cells.text(0, row))?;
        captures.get(group).map(|hit| Cow::Borrowed(hit.as_str()))
    }))
}

fn extract_all(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let pattern = call.constant_text(0)?;
    let regex: Regex = text_match::regex(&pattern)?;
    if regex.captures_len() < 2 {
        return Err(KustoError::semantic("SEM0025", "extract_all(): the pattern needs at least one group"));
    }
    let text = call.text(call.count() - 1)?;
    let groups = if call.count() > 2 { capture_groups(call, &regex)? } else { Vec::new() };
    // No group asked for that there is means every group.
    let groups = if groups.is_empty() { (1..regex.captures_len()).collect() } else { groups };
    let name = format!("extract_all {pattern:?} {groups:?}");
    Ok(kernel::text(name, ScalarType::Dynamic, &[&text], move |cells, row| {
        let group = |captures: &regex::Captures<'_>, index: usize| {
            serde_json::Value::from(captures.get(index).map_or("", |hit| hit.as_str()))
        };
        let hits: Vec<serde_json::Value> = regex
            .captures_iter(cells.text(0, row))
            .map(|captures| match groups.as_slice() {
                [one] => group(&captures, *one),
                several => several.iter().map(|index| group(&captures, *index)).collect(),
            })
            .collect();
        (!hits.is_empty()).then(|| Cow::Owned(serde_json::Value::from(hits).to_string()))
    }))
}

/// The groups that the second of three arguments names by number or by name; what the pattern does not have is left out.
fn capture_groups(call: &Call<'_>, regex: &Regex) -> Result<Vec<usize>, KustoError> {
    let wanted = call.planner.constant(&call.dynamic(1)?, ScalarType::Dynamic, "extract_all()")?;
    let wanted = wanted.constant_text().and_then(|json| serde_json::from_str::<Vec<serde_json::Value>>(json).ok());
    let wanted = wanted.ok_or_else(|| KustoError::semantic("SEM0025", "extract_all(): the groups come as an array"))?;
    let position = |group: &serde_json::Value| match group.as_str() {
        Some(name) => regex.capture_names().position(|present| present == Some(name)),
        None => group.as_u64().and_then(|index| usize::try_from(index).ok()),
    };
    let present = 1..regex.captures_len();
    Ok(wanted.iter().filter_map(position).filter(|index| present.contains(index)).collect())
}

fn count_of(call: &Call<'_>) -> Result<Scalar, KustoError> {
    let kind = if call.count() > 2 { call.constant_text(2)? } else { "normal".to_owned() };
    if kind == "regex" {
        let pattern = call.constant_text(1)?;
        let regex = text_match::regex(&pattern)?;
        return Ok(kernel::long(
            format!("countof {pattern:?}"),
            ScalarType::Long,
            &[&call.text(0)?],
            move |cells, row| i64::try_from(regex.find_iter(cells.text(0, row)).count()).ok(),
        ));
    }
    Ok(kernel::long("countof", ScalarType::Long, &[&call.text(0)?, &call.text(1)?], |cells, row| {
        let (text, sought) = (cells.text(0, row), cells.text(1, row));
        if sought.is_empty() {
            return Some(0);
        }
        // Occurrences may overlap.
        let hits = text.char_indices().filter(|(at, _)| text[*at..].starts_with(sought)).count();
        i64::try_from(hits).ok()
    }))
}

/// Kusto repeats a text at most 1,024 times.
const MAX_REPEAT: i64 = 1_024;

fn repeat(call: &Call<'_>) -> Result<Scalar, KustoError> {
    if call.name == "repeat" {
        let value = super::conversion::as_dynamic(call.argument(0)?);
        return Ok(kernel::text("repeat", ScalarType::Dynamic, &[&value, &call.long(1)?], |cells, row| {
            // Less than no element is null.
            let times = usize::try_from(cells.long(1, row)?.min(MAX_REPEAT)).ok()?;
            Some(Cow::Owned(format!("[{}]", vec![cells.json(0, row).unwrap_or("null"); times].join(","))))
        }));
    }
    let delimiter = if call.count() > 2 { call.any_text(2)? } else { Scalar::string("") };
    let arguments = [&call.any_text(0)?, &call.long(1)?, &delimiter];
    Ok(kernel::text("strrep", ScalarType::String, &arguments, |cells, row| {
        let times = usize::try_from(cells.long(1, row)?.clamp(0, MAX_REPEAT)).ok()?;
        Some(Cow::Owned(vec![cells.text(0, row); times].join(cells.text(2, row))))
    }))
}

/// Escapes are written in lower case, as .NET writes them.
fn url_encode(text: &str, space: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else if byte == b' ' {
            encoded.push_str(space);
        } else {
            write!(encoded, "%{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    encoded
}

fn url_decode(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                // What url_encode() makes of a space.
                decoded.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_usize, |group, at| group << 8 | usize::from(chunk.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(char::from(BASE64[group >> (18 - 6 * digit) & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut group, mut bits) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for digit in digits.bytes() {
        let value = BASE64.iter().position(|candidate| *candidate == digit)?;
        group = group << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(group >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encoded_as_microsoft_documents() {
        let url = "https://www.bing.com/hello world";
        assert_eq!(url_encode(url, "+"), "https%3a%2f%2fwww.bing.com%2fhello+world");
        assert_eq!(url_encode(url, "%20"), "https%3a%2f%2fwww.bing.com%2fhello%20world");
        assert_eq!(url_decode("https%3a%2f%2fwww.bing.com%2f"), "https://www.bing.com/");
        assert_eq!(url_decode("a+b%2B%zz%"), "a b+%zz%");
    }
}
