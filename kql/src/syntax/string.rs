//! String literals: where one ends, and what it says. Pure functions; called by the lexer and the parser.
//!
//! Forms: `'a'` and `"a"` with backslash escapes, `@'a'` and `@"a"` where only the doubled quote is special, ```` ```a``` ```` and `~~~a~~~` that may span
//! lines, and `h` or `H` before any of them, which asks a service to keep the value out of its traces.

const FENCES: [&str; 2] = ["```", "~~~"];
/// The first three forms end with their line.
const LINE_ENDS: [char; 2] = ['\n', '\r'];

enum Form {
    Escaped(char),
    Verbatim(char),
    Fenced(&'static str),
}

/// The form of the literal at the start of `rest`, and the length of what stands before its value.
fn form(rest: &str) -> Option<(Form, usize)> {
    let body = rest.strip_prefix(['h', 'H']).unwrap_or(rest);
    let prefix = rest.len() - body.len();
    if let Some(fence) = FENCES.into_iter().find(|fence| body.starts_with(fence)) {
        return Some((Form::Fenced(fence), prefix + fence.len()));
    }
    if let Some(quote) = quote(body) {
        return Some((Form::Escaped(quote), prefix + 1));
    }
    let quote = quote(body.strip_prefix('@')?)?;
    Some((Form::Verbatim(quote), prefix + 2))
}

fn quote(text: &str) -> Option<char> {
    text.chars().next().filter(|c| matches!(c, '\'' | '"'))
}

/// The length in bytes of the string literal at the start of `rest`, quotes included; `None` if there is none, an error if it does not end.
pub(super) fn literal_length(rest: &str) -> Option<Result<usize, &'static str>> {
    let (form, start) = form(rest)?;
    let body = &rest[start..];
    let length = match form {
        Form::Fenced(fence) => body.find(fence).map(|end| end + fence.len()),
        Form::Escaped(quote) => {
            let mut escaped = false;
            body.char_indices()
                .take_while(|(_, c)| !LINE_ENDS.contains(c))
                .find(|(_, c)| {
                    let ends = !escaped && *c == quote;
                    escaped = !escaped && *c == '\\';
                    ends
                })
                .map(|(end, _)| end + 1)
        }
        Form::Verbatim(quote) => verbatim_length(body, quote),
    };
    Some(length.map(|length| start + length).ok_or("this string does not end"))
}

fn verbatim_length(body: &str, quote: char) -> Option<usize> {
    let mut characters = body.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if LINE_ENDS.contains(&c) {
            return None;
        }
        if c == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + 1);
        }
    }
    None
}

/// The value of a whole literal, as cut by [`literal_length`]. The error is the byte offset in `literal` and what is wrong there.
pub(super) fn value(literal: &str) -> Result<String, (usize, String)> {
    let Some((form, start)) = form(literal) else {
        return Err((0, "expected a string".to_owned()));
    };
    let tail = match form {
        Form::Fenced(fence) => fence.len(),
        Form::Escaped(_) | Form::Verbatim(_) => 1,
    };
    let body = literal.get(start..literal.len().saturating_sub(tail)).unwrap_or_default();
    match form {
        Form::Fenced(_) => Ok(body.to_owned()),
        Form::Verbatim(quote) => Ok(body.replace(&format!("{quote}{quote}"), &quote.to_string())),
        Form::Escaped(_) => unescape(body).map_err(|(offset, message)| (start + offset, message)),
    }
}

fn unescape(body: &str) -> Result<String, (usize, String)> {
    let mut value = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(backslash) = rest.find('\\') {
        value.push_str(&rest[..backslash]);
        let escape = &rest[backslash + 1..];
        let (character, length) =
            unescape_one(escape).map_err(|message| (body.len() - rest.len() + backslash, message))?;
        value.push(character);
        rest = &escape[length..];
    }
    value.push_str(rest);
    Ok(value)
}

/// The character of the escape behind a backslash, and the escape's length.
fn unescape_one(escape: &str) -> Result<(char, usize), String> {
    let first = escape.chars().next().ok_or("nothing follows the backslash")?;
    let character = match first {
        '\'' | '"' | '\\' => first,
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '0'..='7' => {
            let length = escape.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
            return u32::from_str_radix(&escape[..length], 8)
                .ok()
                .and_then(char::from_u32)
                .map(|character| (character, length))
                .ok_or_else(|| "a bad octal escape".to_owned());
        }
        'x' => {
            return Ok((
                hex(escape, 2).and_then(char::from_u32).ok_or("expected two hexadecimal digits after \\x")?,
                3,
            ));
        }
        'u' => return utf16(escape),
        _ => return Err(format!("'\\{}' is no escape of Kusto", first.escape_debug())),
    };
    Ok((character, first.len_utf8()))
}

/// The value of the `digits` hexadecimal digits behind the first character.
fn hex(escape: &str, digits: usize) -> Option<u32> {
    let text = escape.get(1..1 + digits)?;
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
}

/// `uXXXX`, a UTF-16 unit; a surrogate only as the first half of a pair, because no Rust string and no UTF-8 can hold a lone one.
fn utf16(escape: &str) -> Result<(char, usize), String> {
    let unit = hex(escape, 4).ok_or("expected four hexadecimal digits after \\u")?;
    if let Some(character) = char::from_u32(unit) {
        return Ok((character, 5));
    }
    let pair = escape
        .get(5..)
        .and_then(|rest| rest.strip_prefix("\\"))
        .filter(|rest| rest.starts_with('u'))
        .and_then(|rest| hex(rest, 4))
        .filter(|low| (0xd800..0xdc00).contains(&unit) && (0xdc00..0xe000).contains(low))
        .and_then(|low| char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)));
    pair.map(|character| (character, 11)).ok_or_else(|| format!("\\u{unit:04x} is half of a surrogate pair"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(literal: &str) -> Result<String, String> {
        let length = literal_length(literal).unwrap().map_err(str::to_owned)?;
        assert_eq!(length, literal.len(), "{literal}");
        value(literal).map_err(|(offset, message)| format!("{offset}: {message}"))
    }

    #[test]
    fn each_form_says_what_it_holds() {
        for (literal, expected) in [
            (r"'a'", "a"),
            (r#""a'b""#, "a'b"),
            (r"'\'\x22\\ \a\b\f\n\r\t\v\0\101\7'", "'\"\\ \u{7}\u{8}\u{c}\n\r\t\u{b}\0A\u{7}"),
            (r"'\u00e9\ud83d\ude00'", "é😀"),
            (r"'\1012'", "A2"),
            (r"@'a\'", r"a\"),
            (r"@'a''b'", "a'b"),
            (r#"@"a""b""#, "a\"b"),
            (r"h'a'", "a"),
            (r"H@'a'", "a"),
            ("```a\nb`c```", "a\nb`c"),
            ("~~~a'b~~~", "a'b"),
            ("h```a```", "a"),
        ] {
            assert_eq!(read(literal), Ok(expected.to_owned()), "{literal}");
        }
    }

    #[test]
    fn what_kusto_cannot_read_is_refused_with_its_place() {
        for (literal, expected) in [
            (r"'a\qb'", r"2: '\q' is no escape of Kusto"),
            (r"'\/'", r"1: '\/' is no escape of Kusto"),
            (r"'\u12'", r"1: expected four hexadecimal digits after \u"),
            (r"'\u+123'", r"1: expected four hexadecimal digits after \u"),
            (r"'\x4'", r"1: expected two hexadecimal digits after \x"),
            (r"'\ud800'", r"1: \ud800 is half of a surrogate pair"),
            (r"'\ude00\ud83d'", r"1: \ude00 is half of a surrogate pair"),
        ] {
            assert_eq!(read(literal), Err(expected.to_owned()), "{literal}");
        }
    }

    #[test]
    fn a_string_ends_with_its_line_unless_it_is_fenced() {
        for literal in ["'a", "'a\nb'", "\"a\rb\"", "@'a\nb'", "'a\\'", "```a``", "@'a''", "h'"] {
            assert_eq!(literal_length(literal), Some(Err("this string does not end")), "{literal:?}");
        }
        for other in ["a", "h", "h @'a'", "@h'a'", "`a`", "@@'a'"] {
            assert_eq!(literal_length(other), None, "{other:?}");
        }
    }
}
