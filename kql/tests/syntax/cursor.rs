//! The cursor as management commands use it.

use kql::syntax::{
    error::SyntaxErrorKind,
    parser::{Parser, parse_operators},
    token::TokenKind,
};
use kql::types::ScalarType;

#[test]
fn a_command_is_read_word_by_word() {
    let text = ".create-or-alter function with (folder='a b', skipvalidation=true) ['odd name'] (a:long) { T }";
    let mut parser = Parser::new(text);
    parser.expect(".").unwrap();
    assert_eq!(parser.peek_hyphenated().unwrap(), Some("create-or-alter"));
    assert!(!parser.eat_hyphenated("create").unwrap());
    assert!(parser.eat_hyphenated("create-or-alter").unwrap());
    parser.expect("function").unwrap();
    assert!(parser.eat("with").unwrap() && parser.eat("(").unwrap());
    assert_eq!(parser.name().unwrap().name, "folder");
    parser.expect("=").unwrap();
    assert_eq!(parser.string().unwrap(), "a b");
    assert!(parser.eat(",").unwrap() && parser.eat("skipvalidation").unwrap() && parser.eat("=").unwrap());
    parser.literal().unwrap();
    parser.expect(")").unwrap();
    assert_eq!(parser.name().unwrap().name, "odd name");
    let start = parser.offset();
    let function = parser.function_literal().unwrap();
    assert_eq!(function.parameters.len(), 1);
    assert_eq!(text[start..parser.offset()].trim(), "(a:long) { T }");
    assert!(parser.at_end().unwrap());
    assert_eq!(parser.next_token().unwrap().kind, TokenKind::End);
}

#[test]
fn raw_data_behind_a_command_is_never_cut_into_tokens() {
    let mut parser = Parser::new(".ingest inline into table T <| \n'1,\"2\n\u{0}ü");
    parser.expect(".").unwrap();
    for word in ["ingest", "inline", "into", "table"] {
        parser.expect(word).unwrap();
    }
    assert_eq!(parser.name().unwrap().name, "T");
    assert!(parser.eat("<|").unwrap());
    assert_eq!(parser.rest(), " \n'1,\"2\n\u{0}ü");
}

#[test]
fn a_schema_and_a_type_are_read_as_in_a_query() {
    let mut parser = Parser::new("(Timestamp:datetime, ['a b']:System, x:long)");
    assert_eq!(
        parser.column_declarations().unwrap_err().message,
        "expected a type (bool, datetime, decimal, dynamic, guid, int, long, real, string or timespan), found 'System'"
    );
    let mut parser = Parser::new("(Timestamp:datetime, ['a b']:double)");
    let columns = parser.column_declarations().unwrap();
    assert_eq!(columns[1].name.name, "a b");
    assert_eq!((columns[0].scalar_type, columns[1].scalar_type), (ScalarType::DateTime, ScalarType::Real));
}

#[test]
fn a_name_in_a_command_may_be_any_word() {
    for (text, name) in [("by", "by"), ("title", "title"), ("['x']", "x"), ("[\"y'z\"]", "y'z"), ("9a", "9a")] {
        assert_eq!(Parser::new(text).name().unwrap().name, name);
    }
    for text in ["", "'x'", "[x]", "['']", "['x' 'y']", "1", "[1]"] {
        assert!(Parser::new(text).name().is_err(), "{text}");
    }
}

#[test]
fn operators_behind_a_command_are_read_alone() {
    assert_eq!(parse_operators("where a | count").unwrap().len(), 2);
    assert_eq!(parse_operators("").unwrap_err().kind, SyntaxErrorKind::Syntax);
    assert_eq!(parse_operators("evaluate x()").unwrap_err().kind, SyntaxErrorKind::Unsupported);
}

#[test]
fn hyphens_join_words_only_without_blanks() {
    for (text, word) in [("a-b c", "a-b"), ("a -b", "a"), ("a- b", "a"), ("a-1", "a"), ("a-b-", "a-b"), ("a-'", "a")] {
        let mut parser = Parser::new(text);
        assert_eq!(parser.hyphenated(), Ok(word), "{text}");
        assert_eq!(parser.offset(), word.len(), "{text}");
    }
    assert!(Parser::new("-a").hyphenated().is_err());
    assert_eq!(Parser::new("1").peek_hyphenated(), Ok(None));
}

#[test]
fn positions_are_bytes_of_the_text() {
    let mut parser = Parser::new("['é'] | x");
    let name = parser.name().unwrap();
    assert_eq!((name.span.start, name.span.end), (0, 6));
    let pipe = parser.next_token().unwrap();
    assert_eq!((pipe.span.start, pipe.span.end), (7, 8));
}
