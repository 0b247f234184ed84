//! What is refused by name, and what as no Kusto at all, with the whole message.

use kql::syntax::{
    error::SyntaxErrorKind::{self, Syntax, Unsupported},
    parser::{parse_function, parse_query},
};

fn refusal(text: &str) -> (SyntaxErrorKind, String) {
    let error = parse_query(text).expect_err(text);
    (error.kind, error.to_string())
}

#[test]
fn every_operator_of_kustos_without_a_place_in_the_tree_is_refused_by_name() {
    for operator in [
        "assert-schema",
        "consume",
        "evaluate",
        "externaldata",
        "facet",
        "find",
        "fork",
        "graph-match",
        "graph-shortest-paths",
        "graph-to-table",
        "invoke",
        "lookup",
        "macro-expand",
        "make-graph",
        "make-series",
        "mv-apply",
        "parse",
        "parse-kv",
        "parse-where",
        "partition",
        "project-smart",
        "reduce",
        "sample",
        "sample-distinct",
        "scan",
        "search",
        "serialize",
        "top-hitters",
        "top-nested",
    ] {
        let text = format!("T | where a | {operator} x");
        let expected = format!("unsupported syntax at line 1, column 15: the operator '{operator}' is not supported");
        assert_eq!(refusal(&text), (Unsupported, expected));
    }
}

#[test]
fn other_constructs_without_a_place_in_the_tree_are_refused_by_name() {
    for (text, expected) in [
        ("alias database d = cluster('c').database('d')", "1: the statement 'alias database' is not supported"),
        ("declare pattern p", "1: the statement 'declare pattern' is not supported"),
        ("restrict access to (*)", "1: the statement 'restrict access' is not supported"),
        ("evaluate f()", "1: 'evaluate' is not supported"),
        ("find in (T) where a == 1", "1: 'find' is not supported"),
        ("search 'x'", "1: 'search' is not supported"),
        ("externaldata(a:long)['x']", "1: 'externaldata' is not supported"),
        ("print totable(T)", "7: 'totable' is not supported"),
        ("print typeof(long)", "7: 'typeof' is not supported"),
        ("T | where a like 'x'", "13: the operator 'like' is not supported"),
        ("T | where a !hasprefix_cs 'x'", "13: the operator '!hasprefix_cs' is not supported"),
        ("T | where a : 'x'", "13: the operator ':' is not supported"),
        ("T | where * has 'x'", "11: '*' for all columns is supported in arguments and behind 'distinct' only"),
        ("T | extend (a, b) = f()", "12: an assignment to several names in parentheses is not supported"),
        ("T | summarize (a, ['b c']) = f() by d", "15: an assignment to several names in parentheses is not supported"),
        ("T | getschema kind=csl", "15: 'kind' behind this operator is not supported"),
        ("T | distinct hint.strategy=shuffle a", "13: a hint of 'distinct' is not supported"),
        ("T | as hint.materialized=true x", "7: a hint of 'as' is not supported"),
        ("T | project-reorder a granny-asc", "23: the order 'granny-asc' is not supported"),
        (
            "T | render piechart with (ycolumns=a, b)",
            "39: a list of columns as a property of 'render' is not supported",
        ),
        ("T | union database('d').*", "25: a wildcard behind a dot is not supported"),
        ("T | union X.T*", "11: a wildcard behind a dot is not supported"),
        (
            "macro-expand database('d').G as X (X.T)",
            "14: an entity group outside of the database in scope is not supported",
        ),
        ("print dynamic([real(nan)])", "16: a real that is not finite is not supported in a dynamic value"),
        ("print dynamic(decimal(1.5))", "15: a decimal in a dynamic value is not supported"),
    ] {
        let expected = format!("unsupported syntax at line 1, column {expected}");
        assert_eq!(refusal(text), (Unsupported, expected), "{text}");
    }
}

#[test]
fn what_is_not_kusto_is_refused_with_what_was_expected() {
    for (text, expected) in [
        ("", "1: expected a statement, found the end of the text"),
        (";", "2: expected a statement, found the end of the text"),
        ("T |", "4: expected a tabular operator, found the end of the text"),
        ("T | | count", "5: expected a tabular operator, found '|'"),
        ("T | frobnicate", "5: expected a tabular operator, found 'frobnicate'"),
        ("T T", "3: expected '|', ';' or the end of the query, found 'T'"),
        ("T)", "2: expected '|', ';' or the end of the query, found ')'"),
        ("print (1", "9: expected ')', found the end of the text"),
        ("print f(1 2)", "11: expected ')', found '2'"),
        ("print f(1,)", "11: expected an expression, found ')'"),
        ("print 'a", "7: this string does not end"),
        ("print 'a\\q'", "9: '\\q' is no escape of Kusto"),
        (
            "print a == b == c",
            "14: expected 'and', 'or' or the end of the expression (comparisons do not chain without parentheses), found '=='",
        ),
        (
            "print a < b < c",
            "13: expected 'and', 'or' or the end of the expression (comparisons do not chain without parentheses), found '<'",
        ),
        (
            "print a has b has c",
            "15: expected 'and', 'or' or the end of the expression (comparisons do not chain without parentheses), found 'has'",
        ),
        (
            "print a in (1) + 2",
            "16: expected 'and', 'or' or the end of the expression (comparisons do not chain without parentheses), found '+'",
        ),
        ("print --a", "8: expected an expression, found '-'"),
        ("print a in ()", "13: expected an expression, found ')'"),
        ("print a in (1, T | count)", "16: a tabular expression needs parentheses around it here"),
        ("f(T | count)", "3: a tabular expression needs parentheses around it here"),
        ("f(print 1)", "3: a tabular expression needs parentheses around it here"),
        ("toscalar(T | count, 1)", "10: a tabular expression needs parentheses around it here"),
        (
            "X.toscalar(T)",
            "3: expected a name (a name that equals a keyword is written ['toscalar']), found 'toscalar'",
        ),
        ("union 2*", "7: expected a table, or a tabular expression in parentheses, found '2'"),
        ("f(x = T | count)", "9: expected ')', found '|'"),
        ("print a matches 'x'", "17: expected 'regex', found a string"),
        ("print a between (1, 2)", "19: expected '..', found ','"),
        ("print a.1", "9: expected a name, found '1'"),
        ("print [a]", "7: expected a name (in brackets it stands in quotes: ['a b']), found '['"),
        ("T | where a = 1", "13: expected '==' for a comparison, or the end of the expression, found '='"),
        ("T /* all */", "3: Kusto has no comments in /* */: // begins one that ends with its line"),
        ("print null", "7: expected an expression (a name that equals a keyword is written ['null']), found 'null'"),
        ("T | where by", "11: expected an expression (a name that equals a keyword is written ['by']), found 'by'"),
        ("T | extend kind = 1", "12: expected a name (a name that equals a keyword is written ['kind']), found 'kind'"),
        ("T | project *", "13: expected an expression, found '*'"),
        ("T | summarize", "14: expected an expression, found the end of the text"),
        (
            "T | summarize kind=x count()",
            "15: expected a name (a name that equals a keyword is written ['kind']), found 'kind'",
        ),
        ("T | project-away ['a*']", "18: a name in quotes cannot hold '*': a wildcard is written without them"),
        ("T | project-rename a", "21: expected '=', found the end of the text"),
        ("T | sort a", "10: expected 'by', found 'a'"),
        ("T | sort by a nulls", "20: expected 'first' or 'last', found the end of the text"),
        ("T | top 5 by a, b", "15: expected '|', ';' or the end of the query, found ','"),
        ("T | join R", "11: expected 'on', found the end of the text"),
        ("T | join foo=1 R on a", "10: join has no parameter 'foo'"),
        ("T | join R | count on a", "12: expected 'on', found '|'"),
        ("T | union foo=1 A", "11: union has no parameter 'foo'"),
        ("T | union 1", "11: expected a table, or a tabular expression in parentheses, found '1'"),
        (
            "T | union datatable(a:long)[1]",
            "11: expected a table, or a tabular expression in parentheses, found 'datatable'",
        ),
        ("T | union A *", "13: expected '|', ';' or the end of the query, found '*'"),
        ("T | mv-expand a to long", "20: expected 'typeof', found 'long'"),
        (
            "T | mv-expand a to typeof(foo)",
            "27: expected a type (bool, datetime, decimal, dynamic, guid, int, long, real, string or timespan), found 'foo'",
        ),
        ("range x from 1 to 2", "20: expected 'step', found the end of the text"),
        ("datatable(a:long)[1 + 1]", "21: expected ']', found '+'"),
        ("datatable(a:long)[f(1)]", "19: expected a literal, found 'f'"),
        ("datatable(a:long)[-'x']", "20: expected a number or a timespan behind the sign, found a string"),
        ("macro-expand G as X { X.T }", "21: expected '(', found '{'"),
        ("macro-expand G X (X.T)", "16: expected 'as', found 'X'"),
        ("macro-expand foo=1 G as X (X.T)", "14: macro-expand has no parameter 'foo'"),
        ("macro-expand entity_group [] as X (X.T)", "28: expected an expression, found ']'"),
        (
            "macro-expand G as X (set a; X.T)",
            "22: expected 'let' or an expression: a body has no other statements, found 'set'",
        ),
        ("macro-expand G as X (X.T; X.U)", "27: expected '|' or ')', found 'X'"),
        ("let a.b = 1", "6: expected '=', found '.'"),
        ("let by = 1", "5: expected a name (a name that equals a keyword is written ['by']), found 'by'"),
        ("let f = () { }", "14: expected an expression, found '}'"),
        ("let f = () { T; U }", "17: expected '|' or '}', found 'U'"),
        ("let f = (a) { a }", "13: expected '|', ';' or the end of the query, found '{'"),
        ("let f = (a:long, b) { a }", "19: expected ':', found ')'"),
        ("let f = (a:long = 1 + 1) { a }", "21: expected ')', found '+'"),
        ("let f = (T:(a:long, *)) { T }", "21: expected a column name, found '*'"),
        ("set a = b", "9: expected a literal, found 'b'"),
        ("declare query_parameters()", "25: expected a parameter, found '()'"),
        ("print ü", "7: unexpected character 'ü': a name that holds it is written ['...']"),
    ] {
        let expected = format!("syntax error at line 1, column {expected}");
        assert_eq!(refusal(text), (Syntax, expected), "{text}");
    }
}

#[test]
fn the_seeds_form_of_macro_expand_is_told_what_to_write() {
    assert_eq!(
        refusal("// a group by name\nmacro-expand entity_group Metrics_Partitions as X { X.T }"),
        (
            Syntax,
            "syntax error at line 2, column 27: expected '[': only a list of entities follows 'entity_group', \
             a stored group stands without the word, found 'Metrics_Partitions'"
                .to_owned()
        )
    );
}

#[test]
fn a_message_never_holds_a_strings_value() {
    let (_, message) = refusal("print a h'secret'");
    assert_eq!(message, "syntax error at line 1, column 9: expected '|', ';' or the end of the query, found a string");
    let (_, message) = refusal("print guid('secret')");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn a_function_is_refused_like_a_query() {
    for (text, expected) in [
        ("{ T }", "syntax error at line 1, column 1: expected '(', found '{'"),
        ("() { T } x", "syntax error at line 1, column 10: expected the end of the text, found 'x'"),
        ("() T", "syntax error at line 1, column 4: expected '{', found 'T'"),
        ("() { T | sample 5 }", "unsupported syntax at line 1, column 10: the operator 'sample' is not supported"),
    ] {
        assert_eq!(parse_function(text).expect_err(text).to_string(), expected, "{text}");
    }
}
