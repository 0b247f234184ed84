//! `.execute database script`: the commands of a text one after the other. Not transactional, as in Kusto: the answer is a success whose rows say what failed.

use kql::{
    syntax::{parser::Parser, token::TokenKind},
    types::ScalarType,
};
use serde_json::Value;

use super::{
    CommandContext, answer,
    command::{Command, OnError, PipedCommand},
    execute, parse,
};
use crate::{error::KustoError, rows::Rows};

/// Runs the commands of a script.
///
/// # Errors
/// Only with [`OnError::Throw`]: the first failure of a command.
pub(super) async fn run(context: &CommandContext, on_error: OnError, script: &str) -> Result<Rows, KustoError> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for text in split(script) {
        let (kind, outcome) = step(context, text).await;
        let (result, reason) = match &outcome {
            Ok(Outcome::Completed) => ("Completed", String::new()),
            Ok(Outcome::Skipped) => ("Skipped", "Read-only commands are not executed in scripts.".to_owned()),
            Err(error) => ("Failed", error.to_string()),
        };
        rows.push(vec![
            uuid::Uuid::new_v4().to_string().into(),
            kind.into(),
            text.into(),
            result.into(),
            reason.into(),
        ]);
        match (outcome, on_error) {
            (Err(error), OnError::Throw) => return Err(error),
            (Err(_), OnError::Stop) => break,
            (Err(_), OnError::Continue) | (Ok(_), _) => {}
        }
    }
    Ok(results(rows))
}

fn results(rows: Vec<Vec<Value>>) -> Rows {
    let columns = [
        ("OperationId", ScalarType::Guid),
        ("CommandType", ScalarType::String),
        ("CommandText", ScalarType::String),
        ("Result", ScalarType::String),
        ("Reason", ScalarType::String),
    ];
    answer::table(&columns, rows)
}

/// The answer to a script of which no command could be done, and why; `None` if the text is no script.
pub(crate) fn refused(csl: &str, reason: &str) -> Option<Rows> {
    let Command::Script { script, .. } = parse::parse(csl).ok()?.command else { return None };
    let rows = split(csl.get(script..)?).into_iter().map(|text| {
        let id = uuid::Uuid::new_v4().to_string();
        vec![id.into(), "Unknown".into(), text.into(), "Failed".into(), reason.into()]
    });
    Some(results(rows.collect()))
}

/// The script with the first half of its commands; `None` if the text is no script.
pub(crate) fn halved(csl: &str) -> Option<String> {
    let Command::Script { script, .. } = parse::parse(csl).ok()?.command else { return None };
    let (head, commands) = csl.split_at_checked(script)?;
    let commands = split(commands);
    Some(format!("{head}\n{}", commands[..commands.len() / 2].join("\n")))
}

enum Outcome {
    Completed,
    Skipped,
}

async fn step(context: &CommandContext, text: &str) -> (&'static str, Result<Outcome, KustoError>) {
    let PipedCommand { command, operators } = match parse::parse(text) {
        Ok(piped) => piped,
        Err(error) => return ("Unknown", Err(error)),
    };
    let kind = command.type_name();
    if command.is_read_only() {
        return (kind, Ok(Outcome::Skipped));
    }
    if matches!(command, Command::Script { .. }) {
        return (kind, Err(KustoError::unsupported("a script in a script is not supported by this server")));
    }
    if !operators.is_empty() {
        return (kind, Err(KustoError::unsupported("operators after a command are not supported in scripts")));
    }
    (kind, execute(context, text, command).await.map(|_| Outcome::Completed))
}

/// The commands of a script. One begins where a line begins with a dot and a word, outside of strings and brackets.
///
/// Where the text is no KQL (the data of an `.ingest inline`, a string that never ends) only the beginnings of lines count, so that one bad command cannot
/// swallow the rest.
fn split(script: &str) -> Vec<&str> {
    let mut starts = Vec::new();
    let mut base = 0;
    let mut depth = 0_usize;
    let mut parser = Parser::new(script);
    loop {
        let Ok(token) = parser.next_token() else {
            depth = 0;
            // On from the next line that begins a command.
            let from = base + parser.offset();
            match next_line_start(script, from) {
                Some(start) => {
                    base = start;
                    parser = Parser::new(&script[base..]);
                    continue;
                }
                None => break,
            }
        };
        if token.kind == TokenKind::End {
            break;
        }
        let start = base + token.span.start;
        if ["(", "[", "{"].iter().any(|open| token.is(open)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|close| token.is(close)) {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && token.is(".") && begins_line(script, start) && begins_command(&script[start..]) {
            starts.push(start);
        }
    }
    if let Some(first) = starts.first_mut()
        && !script[..*first].trim().is_empty()
        && Parser::new(&script[..*first]).at_end().is_ok_and(|end| !end)
    {
        // What stands before the first command is no comment: it is reported as the failing command it is.
        starts.insert(0, 0);
    }
    if starts.is_empty() && Parser::new(script).at_end().is_ok_and(|end| !end) {
        starts.push(0);
    }
    let ends = starts.iter().skip(1).copied().chain([script.len()]);
    starts.iter().zip(ends).map(|(start, end)| script[*start..end].trim()).collect()
}

fn begins_line(text: &str, at: usize) -> bool {
    let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[line..at].trim().is_empty()
}

fn begins_command(text: &str) -> bool {
    text[1..].starts_with(|c: char| c.is_ascii_alphabetic())
}

fn next_line_start(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(newline) = text[at..].find('\n') {
        at += newline + 1;
        let start = at + (text[at..].len() - text[at..].trim_start_matches([' ', '\t']).len());
        if text[start..].starts_with('.') && begins_command(&text[start..]) {
            return Some(start);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_begins_where_a_line_begins_with_a_dot_and_a_word() {
        let script =
            "\n// tables\n.create-merge table T(a:string)\n//\n  .alter table T policy retention\n  softdelete = 1d\n";
        assert_eq!(
            split(script),
            [".create-merge table T(a:string)\n//", ".alter table T policy retention\n  softdelete = 1d"]
        );
        assert!(split("").is_empty());
        assert!(split(" \n // nothing\n").is_empty());
    }

    #[test]
    fn dots_in_strings_bodies_and_brackets_begin_nothing() {
        let script = ".create-or-alter function F() {\n  cluster('a')\n  .database('b').T\n}\n.create entity_group G (cluster('a')\n.database('b'))";
        assert_eq!(split(script).len(), 2);
        let script = ".create-or-alter function with (docstring='a\\n.drop table T') F() { T }\n.drop table X";
        assert_eq!(split(script).len(), 2);
    }

    #[test]
    fn a_string_that_never_ends_swallows_only_its_own_command() {
        let script = ".create table T (a:string) with (folder='x)\n.drop table X\n.ingest inline into table T <|\n\"a'\n.drop table Y";
        let commands = split(script);
        assert_eq!(commands.len(), 4, "{commands:?}");
        assert_eq!(commands[1], ".drop table X");
        assert_eq!(commands[3], ".drop table Y");
    }

    #[test]
    fn what_is_no_command_is_reported_and_not_dropped() {
        assert_eq!(split("drop everything\n.drop table X"), ["drop everything", ".drop table X"]);
        assert_eq!(split("T | count"), ["T | count"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_splitting_or_the_reading_of_commands(text in "[\\PC\n'\"(){}.|<`é]{0,80}", verb in 0..6_usize) {
            let verb = [".show ", ".create table ", ".create-or-alter function ", ".alter ", ".execute database script <|\n.", "\n.drop "][verb];
            let script = format!("{text}\n{verb}{text}");
            for command in split(&script) {
                proptest::prop_assert!(script.contains(command));
                drop(parse::parse(command));
            }
        }
    }
}
