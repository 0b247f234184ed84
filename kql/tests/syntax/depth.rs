//! No text can exhaust a 2 MiB stack, which is what a thread of a server or a test has: not by nesting, not by chains, neither when it is read nor when
//! its tree is printed, cloned, compared or dropped. Run in debug builds, whose stack frames are the largest.

use std::thread;

use kql::syntax::{
    error::SyntaxErrorKind,
    parser::{MAX_DEPTH, MAX_HEIGHT, parse_query},
};

const STACK: usize = 2 * 1024 * 1024;

/// Whether the text is read; if so, its tree goes through everything that recurses.
fn survives(text: String) -> Result<(), SyntaxErrorKind> {
    let run = move || {
        let tree = parse_query(&text).map_err(|error| error.kind)?;
        let printed = tree.to_string();
        assert!(tree.clone() == tree);
        assert!(parse_query(&printed).is_ok_and(|again| again == tree), "{printed}");
        Ok(())
    };
    thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap()
}

fn nested(before: &str, inside: &str, after: &str, depth: usize) -> String {
    format!("{}{inside}{}", before.repeat(depth), after.repeat(depth))
}

#[test]
fn nesting_is_read_up_to_the_limit_and_refused_behind_it() {
    // What one level is made of, and how many levels it counts.
    for (before, inside, after, levels) in [
        ("(", "1", ")", 1),
        ("-(", "1", ")", 1),
        ("f(1 + ", "1", ")", 1),
        ("a.f(x = ", "1", ")", 1),
        ("(a or b and c == d + e * f has ", "1", ")", 1),
        ("a[", "1", "]", 1),
        ("a in (", "1", ")", 1),
        ("a between (1 .. ", "1", ")", 1),
        ("union (", "T", ")", 1),
        ("print x = (", "print 1", ")", 1),
        ("range x from (", "1", ") to 2 step 3", 1),
        ("macro-expand G as X (let a = 1; ", "X.T", ")", 1),
        ("macro-expand entity_group [toscalar(", "1", ")] as X (X.T)", 2),
        ("T | where x in (", "1", ")", 2),
        ("T | join kind=inner (", "R", ") on a", 2),
        ("T | union (", "R", ")", 2),
        ("T | extend a = toscalar(", "T", ")", 2),
        ("T | summarize a = toscalar(", "T", ") by b", 2),
        ("T | sort by toscalar(", "T", ") desc nulls first", 2),
        ("T | mv-expand a = toscalar(", "T", ") to typeof(long) limit 5", 2),
        ("T | top 5 by toscalar(", "T", ")", 2),
    ] {
        let most = MAX_DEPTH / levels;
        assert_eq!(survives(nested(before, inside, after, most - 1)), Ok(()), "{before}");
        for depth in [MAX_DEPTH + 1, 10_000] {
            assert_eq!(survives(nested(before, inside, after, depth)), Err(SyntaxErrorKind::TooDeep), "{before}");
            // Not even an unclosed one goes deeper.
            assert_eq!(survives(before.repeat(depth)), Err(SyntaxErrorKind::TooDeep), "{before}");
        }
    }
}

#[test]
fn bodies_and_json_count_as_nesting() {
    for (before, inside, after) in [
        ("let f = (a:long) { ", "1", " }; f(1)"),
        ("let f = () { T | where x in (macro-expand G as X (", "X.T", ")) }; f()"),
        ("let f = (T:(a:long)) { ", "T", " }; f(T)"),
    ] {
        assert_eq!(survives(nested(before, inside, after, 10)), Ok(()), "{before}");
        for depth in [MAX_DEPTH + 1, 10_000] {
            assert_eq!(survives(nested(before, inside, after, depth)), Err(SyntaxErrorKind::TooDeep), "{before}");
        }
    }
    for (open, close) in [("[", "]"), ("{'a': ", "}"), ("dynamic([", "])")] {
        let text = |depth| format!("print dynamic({})", nested(open, "1", close, depth));
        assert_eq!(survives(text(20)), Ok(()), "{open}");
        assert_eq!(survives(text(10_000)), Err(SyntaxErrorKind::TooDeep), "{open}");
    }
}

#[test]
fn chains_are_read_up_to_the_limit_and_refused_behind_it() {
    for (first, link) in [
        ("print 1", " + 1"),
        ("print a", " or a == 1"),
        ("print a", " and not(b)"),
        ("print a", ".b"),
        ("print a", "[0]"),
        ("print a", ".f()"),
        ("print a", ".f(1)['b'].c"),
    ] {
        let chain = |links: usize| survives(format!("{first}{}", link.repeat(links)));
        assert_eq!(chain(MAX_HEIGHT / 4), Ok(()), "{link}");
        assert_eq!(chain(MAX_HEIGHT + 1), Err(SyntaxErrorKind::TooDeep), "{link}");
        assert_eq!(chain(100_000), Err(SyntaxErrorKind::TooDeep), "{link}");
    }
    let sum = |links: usize| survives(format!("print 1{}", " + 1".repeat(links)));
    assert_eq!(sum(MAX_HEIGHT), Ok(()));
    assert_eq!(sum(MAX_HEIGHT + 1), Err(SyntaxErrorKind::TooDeep));
}

#[test]
fn chains_inside_of_brackets_add_up() {
    let text = |links: usize| format!("print {}1{}", "(".repeat(50), format!("{})", " + 1".repeat(links)).repeat(50));
    assert_eq!(survives(text(9)), Ok(()));
    assert_eq!(survives(text(100)), Err(SyntaxErrorKind::TooDeep));
}

#[test]
fn what_stands_side_by_side_is_not_limited() {
    for text in [
        format!("T{}", " | where true".repeat(10_000)),
        format!("print f({}1)", "1 + 2, ".repeat(10_000)),
        format!("{}T", "let a = (T | count);".repeat(10_000)),
        format!("union {}T", "(T | count), ".repeat(10_000)),
        format!("T | where a in ({}1)", "1, ".repeat(10_000)),
        format!("T | summarize {}count() by a", "x = count(), ".repeat(10_000)),
        format!("datatable(a:long) [{}]", "-1, ".repeat(10_000)),
        format!("print dynamic([{}1])", "{'a': [1]}, ".repeat(10_000)),
    ] {
        assert_eq!(survives(text), Ok(()));
    }
}

#[test]
fn hostile_repetitions_are_refused_in_time() {
    // None of these may take quadratic time: each is some 300 kB.
    for (text, kind) in [
        ("- ".repeat(150_000), SyntaxErrorKind::Syntax),
        ("a-".repeat(150_000), SyntaxErrorKind::TooDeep),
        (format!("T | project {}", "(a), ".repeat(60_000)), SyntaxErrorKind::Syntax),
        (format!("T | extend ({}", "a, ".repeat(100_000)), SyntaxErrorKind::Syntax),
        (format!("T | project-reorder {}", "a-".repeat(150_000)), SyntaxErrorKind::Syntax),
        (format!("T | {}", "a-".repeat(150_000)), SyntaxErrorKind::Syntax),
        (format!("union {}", "a*".repeat(150_000)), SyntaxErrorKind::Syntax),
        (";".repeat(300_000), SyntaxErrorKind::Syntax),
        ("'a' ".repeat(75_000), SyntaxErrorKind::Syntax),
        ("let ".repeat(75_000), SyntaxErrorKind::Syntax),
        ("hint.".repeat(60_000), SyntaxErrorKind::TooDeep),
        ("// a\n".repeat(60_000), SyntaxErrorKind::Syntax),
        (format!("T{}", "|".repeat(300_000)), SyntaxErrorKind::Syntax),
    ] {
        let result = survives(text.clone());
        assert!(result.is_ok() || result == Err(kind), "{}: {result:?}", &text[..20]);
    }
}
