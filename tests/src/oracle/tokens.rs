//! Whether our lexer and Microsoft's parser read the same names and strings at the same places of a text. Pure; called for every recorded text.
//!
//! Strings are compared one by one, names in one direction: each of Microsoft's must be a word or a bracketed string of ours. Which words are names is the
//! grammar's: our lexer cannot tell, and for commands the two grammars give other words to keywords.

use std::collections::BTreeMap;

use kql::syntax::{error::SyntaxError, keywords, parser::Parser, token::TokenKind};

use super::Reading;

/// What stands at a place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// A name, a keyword or `*`; and what it is the beginning of where it begins a pattern, such as `Requests*`.
    Word { word: String, pattern: String },
    /// What a string says.
    String(String),
    /// A bracket before a string: a name or an index.
    Bracketed(String),
}

/// Places in UTF-16 units, as Microsoft's parser counts them.
type Pieces = BTreeMap<usize, Piece>;

/// Where the two readings of a text differ, for people; `None` if nowhere.
pub fn difference(text: &str, theirs: &Reading) -> Option<String> {
    let ours = match pieces(text) {
        Ok(ours) => ours,
        Err(error) => return Some(format!("our lexer does not read it: {error}")),
    };
    strings(&ours, theirs).or_else(|| names(&ours, theirs))
}

/// Whether our lexer reads a text to its end.
pub fn is_read(text: &str) -> bool {
    pieces(text).is_ok()
}

fn strings(ours: &Pieces, theirs: &Reading) -> Option<String> {
    let mut ours = ours.iter().filter_map(|(place, piece)| match piece {
        Piece::String(value) => Some((*place, value.as_str())),
        Piece::Word { .. } | Piece::Bracketed(_) => None,
    });
    let mut theirs = theirs.string_starts.iter().copied().zip(theirs.strings.iter().map(String::as_str));
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return None,
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => return Some(format!("the string {theirs:?} of Microsoft's parser is {ours:?} to ours")),
        }
    }
}

fn names(ours: &Pieces, theirs: &Reading) -> Option<String> {
    let is_word = |place: usize, name: &str| matches!(ours.get(&place), Some(Piece::Word { word, .. }) if word == name);
    let agrees = |place: usize, name: &str| match ours.get(&place) {
        Some(Piece::Word { pattern, .. }) if name.contains('*') => pattern == name,
        // `hint.strategy` is one name to both grammars, and three tokens.
        Some(Piece::Word { word, .. }) => {
            word == name || name.strip_prefix("hint.").is_some_and(|hint| word == "hint" && is_word(place + 5, hint))
        }
        Some(Piece::Bracketed(value)) => value == name,
        Some(Piece::String(_)) | None => false,
    };
    let other = theirs.name_starts.iter().zip(&theirs.names).find(|(place, name)| !agrees(**place, name));
    other.map(|(place, name)| {
        let ours = ours.range(*place..).next();
        format!("the name {name:?} at {place} of Microsoft's parser is {ours:?} to ours")
    })
}

/// All words and strings of a text that our lexer reads: the data behind `.ingest inline ... <|` is left out, as by both parsers.
fn pieces(text: &str) -> Result<Pieces, SyntaxError> {
    let mut pieces = Pieces::new();
    let (mut base, mut units) = (0, 0);
    let mut counted = 0;
    let mut place = |at: usize| {
        units += text[counted..at].encode_utf16().count();
        counted = at;
        units
    };
    let mut parser = Parser::new(text);
    // The tokens of the command that go before, as far as they tell raw data.
    let mut before = Vec::new();
    loop {
        let token = parser.peek()?;
        let start = base + token.span.start;
        match token.kind {
            TokenKind::End => return Ok(pieces),
            // The inside of `datetime(...)` follows no token rules.
            TokenKind::Word
                if keywords::is_literal_type(token.text)
                    && token.text != "dynamic"
                    && text[base + token.span.end..].starts_with('(') =>
            {
                parser.literal()?;
            }
            _ if token.kind == TokenKind::Word || token.is("*") => {
                parser.next_token()?;
                let behind = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '*';
                let pattern = text[start..].split(behind).next().unwrap_or_default().to_owned();
                pieces.insert(place(start), Piece::Word { word: token.text.to_owned(), pattern });
            }
            _ if token.is("[") => {
                parser.next_token()?;
                let inside = parser.peek()?;
                if inside.kind == TokenKind::String {
                    pieces.insert(place(start), Piece::Bracketed(Parser::new(inside.text).string()?));
                }
            }
            TokenKind::String => {
                parser.next_token()?;
                pieces.insert(place(start), Piece::String(Parser::new(token.text).string()?));
            }
            _ => {
                parser.next_token()?;
            }
        }
        if token.is(".") {
            before.clear();
        }
        before.push(token.text);
        if token.is("<|") && before.starts_with(&[".", "ingest", "inline"]) {
            let data = base + parser.offset();
            let Some(next) = next_command(&text[data..]) else { return Ok(pieces) };
            base = data + next;
            parser = Parser::new(&text[base..]);
        }
    }
}

/// Where the next command of a script begins.
fn next_command(data: &str) -> Option<usize> {
    let mut lines = data.match_indices('\n').map(|(newline, _)| newline + 1);
    lines.find(|start| {
        let line = data[*start..].trim_start();
        line.strip_prefix('.').is_some_and(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
    })
}
