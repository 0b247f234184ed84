//! Words of others as they may be shown. A server's error may hold a signed address, a stranger's row a password, and what becomes part of a message of ours ends in
//! logs, status and Events. Pure; called wherever such words become a message.

use crate::endpoint::without_secrets;

/// What stands for a secret.
const OMITTED: char = '…';

/// What secrets are called in signed addresses and in connection strings, in lower case.
const NAMES: [&str; 11] = [
    "sig",
    "signature",
    "accountkey",
    "sharedaccesskey",
    "application key",
    "appkey",
    "password",
    "pwd",
    "client_secret",
    "access_token",
    "user token",
];

/// The shortest word that is taken for a token: shorter ones are words of a sentence.
const SHORTEST_TOKEN: usize = 16;

/// A text without the secrets that can be told from other words: user, password and query of each address in it, values with names of secrets, and bearer tokens. Not for
/// an address alone, where [`without_secrets`] knows more.
pub fn redacted(text: &str) -> String {
    without_tokens(&without_values(&without_secrets_of_addresses(text)))
}

fn without_secrets_of_addresses(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("://") {
        let (before, address) = rest.split_at(begin);
        let end = address.find(ends_value).unwrap_or(address.len());
        shown.push_str(before);
        shown.push_str(&without_secrets(&address[..end]));
        rest = &address[end..];
    }
    shown + rest
}

/// `NAME=VALUE`, and `NAME = 'VALUE'`.
fn without_values(text: &str) -> String {
    let folded = text.to_ascii_lowercase();
    let mut shown = String::with_capacity(text.len());
    let mut told = 0;
    for (at, _) in folded.match_indices('=') {
        // One inside a value belongs to it.
        if at < told || !ends_with_a_name(&folded[..at]) {
            continue;
        }
        let value = text[at + 1..].trim_start_matches(' ');
        let start = text.len() - value.len();
        let (start, length) = match value.chars().next() {
            // KQL compares so.
            None | Some('=' | '~') => continue,
            Some(quote @ ('\'' | '"')) => (start + 1, value[1..].find(quote)),
            Some(_) => (start, value.find(|c| ends_value(c) || matches!(c, '&' | ';'))),
        };
        let end = length.map_or(text.len(), |length| start + length);
        if start < end {
            shown.push_str(&text[told..start]);
            shown.push(OMITTED);
            told = end;
        }
    }
    shown + &text[told..]
}

fn ends_with_a_name(text: &str) -> bool {
    let text = text.trim_end_matches(' ');
    let is_name = |name: &&str| {
        text.strip_suffix(*name).is_some_and(|before| !before.ends_with(|c: char| c.is_ascii_alphanumeric()))
    };
    NAMES.iter().any(is_name)
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
        ] {
            assert_eq!(redacted(text), shown);
            assert_eq!(redacted(shown), shown, "it is shown as it is by whoever passes it on");
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
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
