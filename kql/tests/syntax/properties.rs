//! Printing is the inverse of reading, and no text panics.

use kql::syntax::{
    lexer::Lexer,
    parser::{Parser, parse_expression, parse_function, parse_operators, parse_query},
    printer::{Pipeline, Statements},
    token::TokenKind,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    corpus,
    generate::{any_expr, any_function, any_literal, any_query},
};

/// Words and characters that parsers trip over.
const PIECES: &[&str] = &[
    "|",
    ";",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "```",
    "~~~",
    "@'",
    "h\"",
    "//",
    "\n",
    "\\",
    "\\u",
    "..",
    ".",
    "=",
    "==",
    "=~",
    "!",
    "!in~",
    "in~",
    "<|",
    "-",
    "--",
    "*",
    ",",
    ":",
    "datetime(",
    "dynamic({",
    "long(",
    "null",
    "let ",
    "set ",
    "declare query_parameters(",
    "union ",
    "macro-expand ",
    "entity_group [",
    " as ",
    " on ",
    " by ",
    "where ",
    "project-away ",
    "project-reorder ",
    "hint.x=",
    "kind=",
    "1d",
    "1e5",
    "0x",
    "9a",
    "$",
    "é",
    "\u{2028}",
    "\u{0}",
    "🦀",
    " ",
];

/// Everything that reads a text, and what printing must keep of it.
fn read_every_way(text: &str) {
    let _ = (parse_function(text), parse_operators(text), parse_expression(text));
    let mut parser = Parser::new(text);
    while parser.hyphenated().is_ok() || parser.name().is_ok() || parser.literal().is_ok() {}
    let _ = parser.rest();
    if let Ok(tree) = parse_query(text) {
        let printed = tree.to_string();
        let again = parse_query(&printed).unwrap_or_else(|error| panic!("{text:?}\n{printed:?}\n{error}"));
        // NaN is not equal to itself.
        if !printed.contains("real(nan)") {
            assert_eq!(again, tree, "{printed}");
        }
    }
}

#[test]
fn a_hint_is_printed_as_it_was_read_also_where_its_name_begins_with_a_digit() {
    let text = "T | summarize hint.1e5strategy=shuffle hint.num_partitions=8 Count = count() by Id";
    assert_eq!(parse_query(text).unwrap().to_string(), text);
    read_every_way(text);
}

#[test]
fn an_operator_is_no_part_of_a_wildcard() {
    for text in ["union in~null*", "union a*in~", "T | project-away in~*"] {
        assert!(parse_query(text).is_err(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_printed_query_is_read_as_the_same_tree(query in any_query()) {
        let printed = query.to_string();
        let again = parse_query(&printed);
        prop_assert_eq!(again, Ok(query), "{}", printed);
    }

    #[test]
    fn a_printed_function_is_read_as_the_same_tree(function in any_function()) {
        let printed = function.to_string();
        prop_assert_eq!(parse_function(&printed), Ok(function.clone()), "{}", printed);
        // A server stores the body's text and reads it again.
        let stored = format!("() {{{}}}", Statements(&function.body));
        prop_assert_eq!(parse_function(&stored).map(|again| again.body), Ok(function.body), "{}", stored);
    }

    #[test]
    fn a_printed_expression_is_read_as_the_same_tree(tree in any_expr()) {
        let printed = tree.to_string();
        prop_assert_eq!(parse_expression(&printed), Ok(tree.clone()), "{}", printed);
        let alone = Pipeline { source: &tree, operators: &[] }.to_string();
        prop_assert_eq!(parse_expression(&alone), Ok(tree), "{}", alone);
    }

    #[test]
    fn a_printed_literal_is_read_as_the_same_literal(literal in any_literal()) {
        let printed = literal.to_string();
        let mut parser = Parser::new(&printed);
        prop_assert_eq!(parser.literal(), Ok(literal), "{}", printed);
        prop_assert!(parser.at_end().unwrap(), "{}", printed);
    }

    #[test]
    fn no_string_panics(text in any::<String>(), near in vec(prop::sample::select(PIECES.to_vec()), 0..40)) {
        for text in [text, near.concat(), near.join(" ")] {
            let mut lexer = Lexer::new(&text);
            let mut end = 0;
            while let Ok(token) = lexer.next_token() {
                prop_assert!(token.span.start >= end && text.get(token.span.start..token.span.end) == Some(token.text));
                end = token.span.end;
                if token.kind == TokenKind::End {
                    break;
                }
                prop_assert!(!token.text.is_empty());
            }
            read_every_way(&text);
        }
    }

    #[test]
    fn no_mutation_of_the_corpus_panics(
        picks in (any::<Index>(), any::<Index>()),
        cuts in vec((any::<Index>(), any::<Index>(), prop::sample::select(PIECES.to_vec())), 1..6),
    ) {
        let texts: Vec<_> = corpus::accepted().into_iter().chain(corpus::refused()).map(|(_, text)| text).collect();
        let mut text = picks.0.get(&texts).clone();
        let other = picks.1.get(&texts);
        for (at, length, piece) in cuts {
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((at + length.index(12)).min(text.len()));
            let from = other.floor_char_boundary(length.index(other.len() + 1));
            match length.index(4) {
                0 => text.replace_range(at..end, ""),
                1 => text.insert_str(at, piece),
                2 => text.replace_range(at..end, piece),
                _ => text.replace_range(at.., &other[from..]),
            }
        }
        read_every_way(&text);
    }
}
