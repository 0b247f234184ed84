//! Words of others as they may be shown. A server's error may hold a signed address, a stranger's row a password, and what becomes part of a message of ours ends in
//! logs, status and Events. Pure; called wherever such words become a message.

use std::ops::Range;

use crate::endpoint::without_secrets;

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

/// What closes a sentence or a bracket around an address, and is no part of it; and what stands before a quote inside quotes.
const AFTER_ADDRESS: [char; 6] = [')', ']', ',', '.', ':', '\\'];

/// So many times as many characters as are shown at most are looked at.
pub const LOOKED_AT: usize = 8;

/// A text without the secrets that can be told from other words: user, password and query of each address in it, values with names of secrets, and bearer tokens. Not for
/// an address alone, where [`without_secrets`] knows more. What it gives stays as it is if it is given to it again.
pub fn redacted(text: &str) -> String {
    at_rest(text, false)
}

/// A message without secrets, [`redacted`]: what it quotes may be an address without its scheme, too.
pub fn redacted_quotes(message: &str) -> String {
    let pieces = message.split_inclusive(['\'', '"', '`']);
    let pieces = pieces.map(|piece| if piece.contains('@') { without_secrets(piece) } else { piece.to_owned() });
    redacted(&pieces.collect::<String>())
}

/// So many characters of a text at most, [`redacted`]. Whatever its length, only its beginning costs time.
pub fn shown(text: &str, chars: usize) -> String {
    beginning(text, chars).0
}

/// [`shown`], and whether there is more of the text than that tells of.
pub(crate) fn beginning(text: &str, chars: usize) -> (String, bool) {
    let head = head(text, LOOKED_AT * chars);
    let is_cut = head.len() < text.len();
    let told = at_rest(head, is_cut);
    match told.char_indices().nth(chars) {
        Some((end, _)) => (told[..end].to_owned(), true),
        None => (told, is_cut),
    }
}

fn at_rest(text: &str, is_cut: bool) -> String {
    let mut told = text.to_owned();
    for _ in 0..PASSES {
        let next = without_tokens(&without_values(&without_secrets_of_addresses(&told), is_cut));
        if next == told {
            return told;
        }
        told = next;
    }
    OMITTED.to_string()
}

/// The beginning of a text. What a secret is shows by what is behind it, too: where that is cut off, the word goes with it.
fn head(text: &str, chars: usize) -> &str {
    let Some((end, _)) = text.char_indices().nth(chars) else { return text };
    let head = &text[..end];
    let word = head.rsplit(char::is_whitespace).next().unwrap_or(head);
    let is_open = |scheme: &usize| {
        let address = &word[*scheme..];
        address.find(ends_value).is_none_or(|end| address[end..].chars().nth(LONGEST_PASSWORD).is_none())
    };
    if let Some(scheme) = word.match_indices("://").map(|(at, _)| at).find(is_open) {
        return &head[..head.len() - word.len() + scheme + "://".len()];
    }
    let word = word.rsplit(ends_value).next().unwrap_or(word);
    if word.len() < SHORTEST_TOKEN { &head[..head.len() - word.len()] } else { head }
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
        || is_upper(first) && !(is_upper(second) && is_upper(before.chars().next_back()))
}

/// Whether a value with the name of a secret begins in a text.
pub(crate) fn names_a_value(text: &str) -> bool {
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

fn without_secrets_of_addresses(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("://") {
        let (before, address) = rest.split_at(begin);
        let end = address.find(ends_value).unwrap_or(address.len());
        shown.push_str(before);
        if is_in_a_password(&address[end..]) {
            shown.push_str("://");
            shown.push(OMITTED);
            rest = &address[address.find(char::is_whitespace).unwrap_or(address.len())..];
            continue;
        }
        let end = address[..end].trim_end_matches(AFTER_ADDRESS).len();
        shown.push_str(&without_secrets(&address[..end]));
        rest = &address[end..];
    }
    shown + rest
}

/// Whether the quote that seems to end an address may be one of the password before its host.
fn is_in_a_password(text: &str) -> bool {
    text.chars().take(LONGEST_PASSWORD).take_while(|c| !c.is_whitespace()).any(|c| c == '@')
}

/// `NAME=VALUE`, `NAME = 'VALUE'`, and `"NAME": "VALUE"`; also inside quotes, where others are escaped or doubled.
fn without_values(text: &str, is_cut: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut told = 0;
    for (at, sign) in text.match_indices(['=', ':']) {
        // One inside a value belongs to it.
        if at < told || !is_named(&text[..at], sign) {
            continue;
        }
        let rest = text[at + 1..].trim_start();
        let value = value(rest, sign, is_cut);
        if !value.is_empty() {
            let begin = text.len() - rest.len();
            shown.push_str(&text[told..begin + value.start]);
            shown.push(OMITTED);
            told = begin + value.end;
        }
    }
    shown + &text[told..]
}

/// Where the value is in what follows its name and sign.
fn value(text: &str, sign: &str, is_cut: bool) -> Range<usize> {
    let escapes = text.len() - text.trim_start_matches('\\').len();
    let end = match (sign, text[escapes..].chars().next()) {
        (_, Some('\'' | '"' | '`')) => return quoted(text, &text[..=escapes]),
        // KQL compares so.
        ("=", Some('=' | '~')) if escapes == 0 => Some(0),
        ("=", _) => text.find(|c| ends_value(c) || matches!(c, '&' | ';')),
        // A list or an object, of which nobody knows where it ends if it is cut.
        (_, Some('[' | '{')) => None,
        _ => text.find(|c| ends_value(c) || matches!(c, '&' | ';' | ',' | '}' | ']')),
    };
    let word = &text[..end.unwrap_or(text.len())];
    let whole = if sign == "=" && !word.is_empty() { before_semicolon(text, is_cut) } else { None };
    0..whole.unwrap_or(word).trim_end_matches('\\').len()
}

/// A value of a connection string, which may hold blanks and quotes: only a semicolon ends it, or a cut that may have taken that away. Not over the value of another name, which
/// may hold a semicolon.
fn before_semicolon(text: &str, is_cut: bool) -> Option<&str> {
    let mut near = text.char_indices().take(LONGEST_PASSWORD);
    let end = match near.find(|(_, c)| matches!(c, ';' | '\n' | '\r')) {
        Some((at, ';')) => at,
        None if is_cut && text.chars().nth(LONGEST_PASSWORD).is_none() => text.len(),
        _ => return None,
    };
    let value = &text[..end];
    // What is left out already ended where it ended.
    (!value.starts_with(OMITTED) && !names_a_value(value)).then_some(value)
}

/// Where the value is in a text that begins with `quote`, which is one with the backslashes before it. It may be written several times, as CSV does it around JSON.
fn quoted(text: &str, quote: &str) -> Range<usize> {
    let quotes = count_at_start(text, quote);
    let is_around_value = quotes.is_multiple_of(2) && begins_value(&text[quotes * quote.len()..]);
    let times = if is_around_value { quotes } else { 1 };
    let start = times * quote.len();
    let length = closing_quote(&text[start..], quote, times);
    start..length.map_or(text.len(), |length| start + length)
}

/// Whether what follows a pair of quotes makes it more than an empty value.
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
fn without_tokens(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut is_announced = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        let start = if is_announced && is_token(bare) { Some(0) } else { web_token(bare) };
        match start {
            Some(start) => {
                shown.push_str(&word[..start]);
                shown.push(OMITTED);
                shown.push_str(&word[bare.len()..]);
            }
            None => shown.push_str(word),
        }
        let announces = |start| bare.get(start..).is_some_and(|end| end.eq_ignore_ascii_case("bearer"));
        is_announced = bare.len().checked_sub("bearer".len()).is_some_and(announces);
    }
    shown
}

/// By RFC 6750's alphabet; a sentence may close behind it.
fn is_token(word: &str) -> bool {
    let word = word.trim_matches(['"', '\'', ',', '.', ')', '=']);
    let is_of_alphabet =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    word.len() >= SHORTEST_TOKEN && word.bytes().all(is_of_alphabet)
}

fn web_token(word: &str) -> Option<usize> {
    let begins = |start: &usize| !word[..*start].ends_with(|c: char| c.is_ascii_alphanumeric());
    let mut starts = word.match_indices("eyJ").map(|(start, _)| start).filter(begins);
    starts.find(|start| word.len() - start >= SHORTEST_TOKEN)
}

fn ends_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_in_words_of_others_are_left_out() {
        for (text, shown) in [
            (
                "cannot read https://x.blob.core.windows.net/c/b.csv?sv=2024-11-04&sig=hunter2%3D (403), see https://aka.ms/kusto",
                "cannot read https://x.blob.core.windows.net/c/b.csv?… (403), see https://aka.ms/kusto",
            ),
            ("h@'https://x.blob.core.windows.net/c;hunter2=='", "h@'https://x.blob.core.windows.net/c;…'"),
            (
                "to \"https://me:hunter2@x.example/?a\", and ftp://me:hunt;er2@y",
                "to \"https://…@x.example/?…\", and ftp://…",
            ),
            ("https://a.example/?to=https://b.example&sig=hunter2", "https://a.example/?…"),
            ("?sv=2024&sig=hunter2%2B==&se=2026", "?sv=2024&sig=…&se=2026"),
            ("Data Source=x;Password=hunter2;Fed=true", "Data Source=x;Password=…;Fed=true"),
            ("AccountKey = 'hunter2 and more'.", "AccountKey = '…'."),
            ("client_secret=hunter2\nis wrong", "client_secret=…\nis wrong"),
            ("Authorization: Bearer hunter2-hunter2-hunter2, refused", "Authorization: Bearer … refused"),
            ("the token 'eyJhbGciOi.hunter2.x' is over", "the token '… is over"),
            // What closes a sentence is no part of an address.
            ("for url (https://x/?api-version=1): error", "for url (https://x/?…): error"),
            ("[see https://x/?sig=hunter2], or https://y#hunter2.", "[see https://x/?…], or https://y#…."),
            (r#"Get \"https://x/?sig=hunter2\": EOF"#, r#"Get \"https://x/?…\": EOF"#),
            ("at https://me:Password=hunter2@x or https://y", "at https://… or https://y"),
            // In JSON, and in texts inside it.
            (r#"{"password":"hunter2","a":1}"#, r#"{"password":"…","a":1}"#),
            (r#"{'client-secret' : 'hunter2'}"#, r#"{'client-secret' : '…'}"#),
            ("{\"pwd\":\n  \"hunter2\"}", "{\"pwd\":\n  \"…\"}"),
            (r#"{"password":31337,"a":1}"#, r#"{"password":…,"a":1}"#),
            (r#"{"password":["hunter", "hunter2"]}"#, r#"{"password":…"#),
            (r#""{\"password\":\"hunter2\",\"a\":1}""#, r#""{\"password\":\"…\",\"a\":1}""#),
            (r#"Password=\"hunter2\", and"#, r#"Password=\"…\", and"#),
            (r#"Password="a\"hunter2" and"#, r#"Password="…" and"#),
            (r#"Password=\"a\\\"hunter2\" and"#, r#"Password=\"…\" and"#),
            ("Password='a''hunter2' and", "Password='…' and"),
            ("Password='hunter2", "Password='…"),
            // In quotes that are written several times.
            (r#"{""password"":""hunter2"",""a"":1}"#, r#"{""password"":""…"",""a"":1}"#),
            (r#"{""password"":""a\""hunter2"",""a"":1}"#, r#"{""password"":""…"",""a"":1}"#),
            (r#""{\"\"pwd\"\":\"\"hunter2\"\",1}""#, r#""{\"\"pwd\"\":\"\"…\"\",1}""#),
            ("Password=''hunter2'' and", "Password=''…'' and"),
            ("Password=''a''''hunter2'' and", "Password=''…'' and"),
            ("Password=''''hunter2'''' and", "Password=''''…'''' and"),
            ("Password='''hunter2' and", "Password='…' and"),
            // A quote in the password of an address.
            ("to https://me:hunt'er2@x, and", "to https://… and"),
            ("to 'https://me:hunt\"er2@x' and https://y", "to 'https://… and https://y"),
            // Blanks and quotes in a connection string.
            ("Password=my hunter2;Fed=true", "Password=…;Fed=true"),
            ("Password=my 'hunter2;Fed=true", "Password=…;Fed=true"),
            ("Password=hunter2 and\nmore; of it", "Password=… and\nmore; of it"),
            ("Password=hunter2 and pwd='a;hunter2'", "Password=… and pwd='…'"),
        ] {
            assert_eq!(redacted(text), shown);
            assert_eq!(redacted(shown), shown, "it is shown as it is by whoever passes it on");
        }
    }

    #[test]
    fn names_of_secrets_are_known_however_they_are_written() {
        for name in [
            "sig",
            "Signature",
            "SharedAccessSignature",
            "AccountKey",
            "Shared Access Key",
            "ApplicationKey",
            "Application Key",
            "AppKey",
            "ApplicationToken",
            "Application Token",
            "AppToken",
            "User Token",
            "UserToken",
            "UsrToken",
            "PASSWORD",
            "db-password",
            "sqlPassword",
            "Pwd",
            "client_secret",
            "clientSecret",
            "access_token",
            "refresh-token",
            "DBPassword",
            "dbpassword",
            "mypassword",
            "SASSignature",
            "storage1AccountKey",
            "DBPwd",
            "db1PWD",
            "SASSig",
        ] {
            assert!(ends_with_a_name(name), "{name}");
            assert_eq!(redacted(&format!("a;{name}=hunter2;b")), format!("a;{name}=…;b"));
            assert_eq!(redacted(&format!("{name} = 'hunter2'")), format!("{name} = '…'"));
            assert_eq!(redacted(&format!("{{\"{name}\": \"hunter2\"}}")), format!("{{\"{name}\": \"…\"}}"));
        }
        for name in ["", "geo", "design", "token", "passwords", "mypwd", "DESIG", "2sig"] {
            assert!(!ends_with_a_name(name), "{name}");
        }
    }

    #[test]
    fn nothing_of_a_secret_is_shown_wherever_a_text_is_cut() {
        for secret in [
            "https://me:hunter2@x.example/",
            "https://me:hunt'er2@x.example/",
            "https://x/?sig=hunter2",
            "Password=hunter2",
            "Password=my own hunter2 of old;",
            "Password='b hunter2'",
            r#"{"password":"hunter2"}"#,
            "Bearer hunter2-hunter2-hunter2",
            "eyJhunter2-hunter2",
        ] {
            // What is left out makes room for what is close to the end of what is looked at.
            for before in ["", "https://x/?", "Password='b "] {
                for filling in 0..LOOKED_AT * 32 + 32 {
                    let told = shown(&format!("{before}{}' {secret}", "a".repeat(filling)), 32);
                    assert!(!told.contains("hunt") && told.chars().count() <= 32, "{told}");
                }
            }
        }
        assert_eq!(shown("a short text", 32), "a short text");
        assert_eq!(shown(&"é".repeat(1000), 32), "é".repeat(32));
        assert_eq!(shown("a", 0), "");
    }

    #[test]
    fn what_is_left_over_is_known() {
        let signed = format!("https://x/{}?sig=hunter2", "a".repeat(20));
        assert_eq!(beginning(&signed, 32), (signed.replace("sig=hunter2", "…"), false), "all is told");
        assert_eq!(beginning(&signed, 31), (signed[..31].to_owned(), true));
        assert_eq!(beginning(&format!("https://{}", "a".repeat(600)), 32), ("https://".to_owned(), true));
        assert_eq!(beginning(&"a".repeat(32), 32), ("a".repeat(32), false));
        assert_eq!(beginning(&"a".repeat(33), 32), ("a".repeat(32), true));
    }

    #[test]
    fn what_a_message_quotes_may_be_an_address_without_its_scheme() {
        let message = |role: &str| format!("unknown variant `{role}`, expected `Partition` or `Federated`");
        for (role, shown) in
            [("me:hunter2@x", "…@x"), ("https://me:hunter2@x", "https://…@x"), ("Password=hunter2", "Password=…")]
        {
            assert_eq!(redacted_quotes(&message(role)), message(shown));
        }
        assert_eq!(redacted_quotes(&message("Hub")), message("Hub"));
    }

    /// Pieces of what is looked for, in any order.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "://",
                "https://",
                "@",
                "?",
                "#",
                ";",
                "&",
                ":",
                "=",
                "==",
                "=~",
                "'",
                "''",
                "\"",
                "`",
                "\\",
                "\\\"",
                " ",
                "\n",
                ",",
                ".",
                ")",
                "]",
                "}",
                "{",
                "[",
                "<",
                "password",
                "App Key",
                "sig",
                "bearer ",
                "eyJ",
                "abcdefghijklmnop",
                "…",
                "é",
            ])
            .prop_map(str::to_owned),
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_redacted_stays_as_it_is(text in pieces(), chars in 0..40_usize) {
            let told = redacted(&text);
            prop_assert_eq!(redacted(&told), told);
            prop_assert!(shown(&text, chars).chars().count() <= chars);
        }

        #[test]
        fn a_text_without_anything_that_tells_a_secret_is_unchanged(text in "[^=:eE]{0,64}") {
            prop_assert_eq!(redacted(&text), text);
        }

        #[test]
        fn a_named_value_is_never_shown(before in pieces(), name in prop::sample::select(NAMES.to_vec()), after in pieces()) {
            let text = format!("{before} {name}=hunter2 {after}");
            prop_assert!(!redacted(&text).contains("hunter2"), "{text}");
        }

        #[test]
        fn a_named_value_in_quotes_is_never_shown(
            before in pieces(),
            name in prop::sample::select(NAMES.to_vec()),
            quote in prop::sample::select(vec!["\"", "'", "\\\"", "\"\"", "''", "\\\"\\\"", "\"\"\"\""]),
            sign in prop::sample::select(vec![":", ": ", "=", " = "]),
            after in pieces(),
        ) {
            let text = format!("{before} {quote}{name}{quote}{sign}{quote}hunter2{quote} {after}");
            prop_assert!(!redacted(&text).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn other_words_are_shown_as_they_are() {
        for text in [
            "",
            "Semantic error: 'where' operator: Failed to resolve column 'Levél'",
            "where Password == 'x' | extend design=1, config=sig",
            "what it is for: https://x.kusto.windows.net/; http://127.0.0.1:8080 failed?",
            "Bearer authorization is needed: bearer",
            "the table 'MonkeyJumpsOverTheFenceAgain', eyJ",
            "sig=",
            "://",
            "Password = ",
            "the password: it is wrong, 'geo': 'EU'",
            "Password='', Pwd=\"\"",
            r#"{\"password\":\"\",\"a\":1}"#,
            r#"{"password":"","a":1}"#,
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
