//! Words of others as they may be shown. A server's error may hold a signed address, a stranger's row a password, and what becomes part of a message of ours ends in
//! logs, status and Events. Pure; called wherever such words become a message.

use std::ops::Range;

/// What stands for a secret.
const OMITTED: char = '…';

/// What secrets are called in signed addresses, in connection strings and by who signs in: in lower case, without what [`ends_with_a_name`] steps over.
const NAMES: [&str; 15] = [
    "sig",
    "signature",
    "accountkey",
    "sharedaccesskey",
    "applicationkey",
    "appkey",
    "applicationtoken",
    "apptoken",
    "usertoken",
    "usrtoken",
    "password",
    "pwd",
    "clientsecret",
    "accesstoken",
    "refreshtoken",
];

/// The shortest word that is taken for a token: shorter ones are words of a sentence.
const SHORTEST_TOKEN: usize = 16;

/// Names that other words end with: only as a word of its own, or behind a change of case.
const ENDS_OF_WORDS: [&str; 2] = ["sig", "pwd"];

/// The longest password that is looked for over blanks and quotes, in characters: what is farther away belongs to something else.
const LONGEST_PASSWORD: usize = 256;

/// Leaving out one thing may bring two others together, as an address and an `@`. A text that does not come to rest in so many passes was made not to.
const PASSES: usize = 8;

/// What ends the scheme of an address.
const SCHEME_END: &str = "://";

/// What begins a query, a fragment, a key.
const BEFORE_SECRETS: [char; 3] = ['?', '#', ';'];

/// What closes a sentence or a bracket around an address, and is no part of it; and what stands before a quote inside quotes.
const AFTER_ADDRESS: [char; 6] = [')', ']', ',', '.', ':', '\\'];

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// So many times as many characters as are shown at most are looked at.
pub const LOOKED_AT: usize = 8;

/// A text without the secrets that can be told from other words: user, password and query of each address in it, values with names of secrets, and bearer tokens. Not for
/// an address alone, where [`without_secrets`] knows more. What it gives stays as it is if it is given to it again.
pub fn redacted(text: &str) -> String {
    at_rest(text, |text| secrets(text, false))
}

/// What quotes a document, or is a part of one, [`redacted`]: an address may stand there without its scheme, too.
pub fn redacted_quotes(text: &str) -> String {
    at_rest(text, |text| [secrets(text, false), addresses_without_scheme(text)].concat())
}

/// A text that should have been an address, [`redacted`]: all of it is taken for one, whatever blanks and quotes its password has.
pub fn without_secrets(address: &str) -> String {
    at_rest(address, |text| [secrets(text, false), in_any_address(text, 0)].concat())
}

/// So many characters of a text at most, [`redacted`]. Whatever its length, only its beginning costs time.
pub fn shown(text: &str, chars: usize) -> String {
    beginning(text, chars).0
}

/// [`shown`], in one line. Of control characters only blanks are left before anything is looked for: what reads as a name or a word is known as one.
pub fn line(text: &str, chars: usize) -> String {
    // One more than is looked at: else it would not show that the text goes on.
    let head = text.chars().take(LOOKED_AT * chars + 1);
    let head = head.filter(|c| c.is_whitespace() || !c.is_control());
    shown(&head.map(|c| if c.is_control() { ' ' } else { c }).collect::<String>(), chars)
}

/// [`shown`], and whether there is more of the text than that tells of.
pub(crate) fn beginning(text: &str, chars: usize) -> (String, bool) {
    let head = head(text, LOOKED_AT * chars);
    let is_cut = head.len() < text.len();
    let told = at_rest(head, |text| secrets(text, is_cut));
    match told.char_indices().nth(chars) {
        Some((end, _)) => (told[..end].to_owned(), true),
        None => (told, is_cut),
    }
}

/// The beginning of a text. What a secret is shows by what is behind it, too: where that is cut off, the word goes with it.
fn head(text: &str, chars: usize) -> &str {
    let Some((end, _)) = text.char_indices().nth(chars) else { return text };
    let head = &text[..end];
    let word = head.rsplit(char::is_whitespace).next().unwrap_or(head);
    // So far before the cut, what ends an address really ends it.
    let far = word.char_indices().rev().nth(LONGEST_PASSWORD).map_or("", |(at, c)| &word[..at + c.len_utf8()]);
    let open = far.rfind(ends_value).unwrap_or(0);
    if let Some(scheme) = word[open..].find(SCHEME_END) {
        return &head[..head.len() - word.len() + open + scheme + SCHEME_END.len()];
    }
    let word = word.rsplit(ends_value).next().unwrap_or(word);
    if word.len() < SHORTEST_TOKEN { &head[..head.len() - word.len()] } else { head }
}

/// A text without what is found in it, and in what is left of it.
fn at_rest(text: &str, find: impl Fn(&str) -> Vec<Range<usize>>) -> String {
    let mut told = text.to_owned();
    for _ in 0..PASSES {
        let next = without(&told, find(&told));
        if next == told {
            return told;
        }
        told = next;
    }
    OMITTED.to_string()
}

fn without(text: &str, mut parts: Vec<Range<usize>>) -> String {
    parts.retain(|part| !part.is_empty());
    parts.sort_by_key(|part| part.start);
    let mut shown = String::with_capacity(text.len());
    let mut told = 0;
    for part in parts {
        // Those that meet are one.
        if told == 0 || part.start > told {
            shown.push_str(&text[told..part.start]);
            shown.push(OMITTED);
        }
        told = told.max(part.end);
    }
    shown + &text[told..]
}

/// Where secrets are in a text. All are looked for in the same one: what is left out with one of them may be what shows another, as the name of a value behind an address.
fn secrets(text: &str, is_cut: bool) -> Vec<Range<usize>> {
    [values(text, is_cut), addresses(text), tokens(text)].concat()
}

/// Whether a text ends with what secrets are called, in whatever case, with or without blanks, `_` and `-`; also behind other words, as `db-password` and `sqlPassword` do.
pub fn ends_with_a_name(text: &str) -> bool {
    NAMES.iter().any(|name| ends_with(text, name))
}

fn ends_with(text: &str, name: &str) -> bool {
    let letters = text.bytes().enumerate().rev();
    let mut letters = letters.filter(|(_, byte)| !matches!(byte, b' ' | b'_' | b'-'));
    let mut start = text.len();
    for letter in name.bytes().rev() {
        match letters.next() {
            Some((at, byte)) if byte.eq_ignore_ascii_case(&letter) => start = at,
            _ => return false,
        }
    }
    let (before, written) = text.split_at(start);
    let is_upper = |letter: Option<char>| letter.is_some_and(|c| c.is_ascii_uppercase());
    let mut letters = written.chars();
    let (first, second) = (letters.next(), letters.next());
    !ENDS_OF_WORDS.contains(&name)
        || !before.ends_with(|c: char| c.is_ascii_alphanumeric())
        // So some write a `&` in JSON.
        || before.ends_with(r"\u0026")
        || is_upper(first) && !(is_upper(second) && is_upper(before.chars().next_back()))
}

/// Whether a value with the name of a secret begins in a text.
fn names_a_value(text: &str) -> bool {
    text.match_indices(['=', ':']).any(|(at, sign)| is_named(&text[..at], sign))
}

/// Whether what stands before a `=` or a `:` names a secret. A colon is a sentence's, too: only behind a name in quotes it is that of JSON.
fn is_named(before: &str, sign: &str) -> bool {
    let before = before.trim_end();
    if before.ends_with(['"', '\'']) {
        ends_with_a_name(before.trim_end_matches(['"', '\'', '\\']))
    } else {
        sign == "=" && ends_with_a_name(before)
    }
}

/// What is secret in the addresses of a text.
fn addresses(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    while let Some(scheme) = text[looked_at..].find(SCHEME_END) {
        let begin = looked_at + scheme + SCHEME_END.len();
        let rest = &text[begin..];
        let mut end = rest.find(ends_value).unwrap_or(rest.len());
        if is_in_a_password(&rest[end..]) {
            end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            found.push(begin..begin + end);
        } else {
            end = rest[..end].trim_end_matches(AFTER_ADDRESS).len();
            found.extend(in_address(&rest[..end], begin));
        }
        looked_at = begin + end;
    }
    found
}

/// Whether the quote that seems to end an address may be one of the password before its host.
fn is_in_a_password(text: &str) -> bool {
    text.chars().take(LONGEST_PASSWORD).take_while(|c| !c.is_whitespace()).any(|c| c == '@')
}

/// What is secret in the words with an `@`, which may be addresses without a scheme, or the rest of one whose password has a blank.
fn addresses_without_scheme(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut begin = 0;
    for word in text.split_inclusive(ends_value) {
        let bare = word.trim_end_matches(ends_value);
        match bare.find('@') {
            // The digest of an image.
            Some(at) if bare[at..].starts_with("@sha256:") => {}
            Some(at) => {
                found.extend(in_any_address(bare, begin));
                found.extend(behind_scheme(&text[..begin]).map(|scheme| scheme..begin + at));
            }
            None => {}
        }
        begin += word.len();
    }
    found
}

/// Where the address begins, behind its scheme, in which a text may end.
fn behind_scheme(text: &str) -> Option<usize> {
    let near = text.char_indices().rev().nth(LONGEST_PASSWORD).map_or(0, |(at, _)| at);
    let begin = near + text[near..].rfind(SCHEME_END)? + SCHEME_END.len();
    (!text[begin..].contains(|c| QUOTES.contains(&c) || c == '@')).then_some(begin)
}

/// [`in_address`], with or without a scheme. What stands before the scheme may be another address, which has none. `begin`: where it stands.
fn in_any_address(address: &str, begin: usize) -> Vec<Range<usize>> {
    let scheme = address.find(SCHEME_END).map_or(0, |at| at + SCHEME_END.len());
    let before = address[..scheme].rfind('@').unwrap_or(0);
    let [user, query] = in_address(&address[scheme..], begin + scheme);
    vec![begin..begin + before, user, query]
}

/// What is secret behind the scheme of an address: people put passwords before the host, signatures into the query, and Kusto's addresses of storage have a key behind a
/// semicolon. `begin`: where it stands.
fn in_address(address: &str, begin: usize) -> [Range<usize>; 2] {
    let user = address.rfind('@').unwrap_or(0);
    let query = address.find(BEFORE_SECRETS).map_or(address.len(), |at| at + 1);
    // Where the password ends cannot be told.
    let (user, query) = if query <= user { (address.len(), address.len()) } else { (user, query) };
    [begin..begin + user, begin + query..begin + address.len()]
}

/// `NAME=VALUE`, `NAME = 'VALUE'`, and `"NAME": "VALUE"`; also inside quotes, where others are escaped or doubled.
fn values(text: &str, is_cut: bool) -> Vec<Range<usize>> {
    let mut found = Vec::<Range<usize>>::new();
    for (at, sign) in text.match_indices(['=', ':']) {
        // One inside a value belongs to it.
        if found.last().is_some_and(|value| at < value.end) || !is_named(&text[..at], sign) {
            continue;
        }
        let rest = text[at + 1..].trim_start();
        found.push(shifted(&value(&text[..at], sign, rest, is_cut), text.len() - rest.len()));
    }
    found
}

fn shifted(part: &Range<usize>, by: usize) -> Range<usize> {
    part.start + by..part.end + by
}

/// Where the value is in what follows its name and sign.
fn value(name: &str, sign: &str, text: &str, is_cut: bool) -> Range<usize> {
    // What is left out already ended where it ended.
    if text.starts_with(OMITTED) {
        return 0..0;
    }
    let escapes = text.len() - text.trim_start_matches('\\').len();
    let end = match (sign, text[escapes..].chars().next()) {
        (_, Some(c)) if QUOTES.contains(&c) => return quoted(text, &text[..=escapes]),
        // KQL compares so.
        ("=", Some('=' | '~')) if escapes == 0 => return 0..0,
        ("=", _) => text.find(|c| ends_value(c) || matches!(c, '&' | ';')),
        // A list or an object, of which nobody knows where it ends if it is cut.
        (_, Some('[' | '{')) => None,
        _ => text.find(|c| ends_value(c) || matches!(c, '&' | ';' | ',' | '}' | ']')),
    };
    let word = end.map_or(text.len(), |end| beyond_quote(text, end));
    let may_have_blanks = sign == "=" && word > 0 && !is_in_query(name);
    let whole = if may_have_blanks { before_semicolon(text, is_cut) } else { None };
    0..text[..word.max(whole.unwrap_or(0))].trim_end_matches('\\').len()
}

/// Whether a text ends with the name of a parameter in a query: its value has no blanks.
fn is_in_query(text: &str) -> bool {
    text.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).ends_with(['?', '&'])
}

/// Where a word ends that seems to end there. A quote inside it, as those of `h'…'` and `hunt"er2`, takes it on to what closes that.
fn beyond_quote(text: &str, end: usize) -> usize {
    if !text[end..].starts_with(QUOTES) {
        return end;
    }
    let begin = text[..end].trim_end_matches('\\').len();
    let (rest, quote) = (&text[begin..], &text[begin..=end]);
    let is_inside = begins_value(&rest[count_at_start(rest, quote) * quote.len()..]);
    if is_inside { begin + quoted(rest, quote).end } else { end }
}

/// Where a value of a connection string ends, which may hold blanks and quotes: only a semicolon ends it, or a cut that may have taken that away. Not over the value of another
/// name, which may hold a semicolon.
fn before_semicolon(text: &str, is_cut: bool) -> Option<usize> {
    let mut near = text.char_indices().take(LONGEST_PASSWORD);
    let end = match near.find(|(_, c)| matches!(c, ';' | '\n' | '\r')) {
        Some((at, ';')) => at,
        None if is_cut && text.chars().nth(LONGEST_PASSWORD).is_none() => text.len(),
        _ => return None,
    };
    (!names_a_value(&text[..end])).then_some(end)
}

/// Where the value is in a text that begins with `quote`, which is one with the backslashes before it. It may be written several times, as CSV does it around JSON.
fn quoted(text: &str, quote: &str) -> Range<usize> {
    let quotes = count_at_start(text, quote);
    let is_around_value = quotes.is_multiple_of(2) && begins_value(&text[quotes * quote.len()..]);
    let times = if is_around_value { quotes } else { 1 };
    let start = times * quote.len();
    let end = closing_quote(&text[start..], quote, times).map(|length| start + length);
    // What closes it behind another name may be what opens the value of that.
    let end = end.filter(|end| !names_a_value(&text[start..*end]));
    start..end.unwrap_or(text.len())
}

/// Whether what follows quotes makes them more than the end of something, or an empty value.
fn begins_value(text: &str) -> bool {
    text.starts_with(|c| !ends_value(c) && !matches!(c, ',' | ';' | '&' | '}' | ']' | ')' | '.' | ':'))
}

fn count_at_start(text: &str, quote: &str) -> usize {
    let quotes = text.as_bytes().chunks_exact(quote.len());
    quotes.take_while(|bytes| *bytes == quote.as_bytes()).count()
}

/// Where a value ends that stands in quotes, each written so many times. A quote of the value is written twice as often, or has other backslashes.
fn closing_quote(text: &str, quote: &str, times: usize) -> Option<usize> {
    let escapes = quote.len() - 1;
    let mut looked_at = 0;
    while let Some(found) = text[looked_at..].find(quote) {
        let at = looked_at + found;
        let quotes = count_at_start(&text[at..], quote);
        let backslashes = escapes + at - text[..at].trim_end_matches('\\').len();
        // One level of quotes makes two backslashes of each, and three of that before a quote.
        if backslashes % (2 * (escapes + 1)) != escapes {
            looked_at = at + times.min(quotes) * quote.len();
            continue;
        }
        looked_at = at + quotes * quote.len();
        if quotes / times % 2 == 1 {
            return Some(looked_at - times * quote.len());
        }
    }
    None
}

/// What follows `Bearer`, and what begins as every JSON web token does.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut begin, mut is_announced) = (0, false);
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        let announced = if is_announced { token(bare) } else { None };
        found.extend([announced, web_token(bare)].iter().flatten().map(|token| shifted(token, begin)));
        let announces = |start| bare.get(start..).is_some_and(|end| end.eq_ignore_ascii_case("bearer"));
        is_announced = bare.len().checked_sub("bearer".len()).is_some_and(announces) || is_announced && bare.is_empty();
        begin += word.len();
    }
    found
}

/// A token by RFC 6750's alphabet, in quotes and brackets or without; not the name of a parameter, as in `authorization_uri="…"`.
fn token(word: &str) -> Option<Range<usize>> {
    let bare = word.trim_start_matches(['"', '\'', '`', '\\', '<', '(', '[', '{']);
    let behind = bare.trim_start_matches(is_of_token);
    let token = &bare[..bare.len() - behind.len()];
    let is_parameter = behind.starts_with('=') && token.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let end = word.len() - behind.trim_start_matches('=').len();
    (token.len() >= SHORTEST_TOKEN && !is_parameter).then(|| word.len() - bare.len()..end)
}

const fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/')
}

fn web_token(word: &str) -> Option<Range<usize>> {
    let begins = |begin: &usize| !word[..*begin].ends_with(|c: char| c.is_ascii_alphanumeric());
    let mut begins = word.match_indices("eyJ").map(|(begin, _)| begin).filter(begins);
    begins.find(|begin| word.len() - begin >= SHORTEST_TOKEN).map(|begin| begin..word.len())
}

fn ends_value(c: char) -> bool {
    c.is_whitespace() || QUOTES.contains(&c) || matches!(c, '<' | '>')
}

#[cfg(test)]
mod tests;
