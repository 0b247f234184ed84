//! Expressions: precedence, paths, calls and lists.

use kql::syntax::ast::{
    Argument,
    BinaryOp::{self, Add, And, Divide, Equal, Has, Less, Multiply, Or, Subtract},
    ExprKind, InOp, OperatorKind, UnaryOp,
};

use super::build::{
    argument, binary, call, expr, ident, index, long, member, member_call, minus, name, names, pipeline, read, string,
};

#[test]
fn arithmetic_binds_left_to_right_and_products_before_sums() {
    assert_eq!(
        read("a - b + c * 2 / d"),
        binary(
            Add,
            binary(Subtract, name("a"), name("b")),
            binary(Divide, binary(Multiply, name("c"), long(2)), name("d"))
        )
    );
}

#[test]
fn and_binds_before_or_and_comparisons_before_both() {
    assert_eq!(
        read("a == 1 or b < 2 and c"),
        binary(Or, binary(Equal, name("a"), long(1)), binary(And, binary(Less, name("b"), long(2)), name("c")))
    );
}

#[test]
fn relations_bind_before_equality() {
    assert_eq!(read("a < b == c"), binary(Equal, binary(Less, name("a"), name("b")), name("c")));
}

#[test]
fn string_operators_bind_before_arithmetic_as_in_kusto() {
    assert_eq!(read("a + b has c * d"), {
        let has = binary(Has, name("b"), name("c"));
        binary(Add, name("a"), binary(Multiply, has, name("d")))
    });
}

#[test]
fn parentheses_leave_no_trace_but_the_shape() {
    assert_eq!(read("(a + b) * (c)"), binary(Multiply, binary(Add, name("a"), name("b")), name("c")));
}

#[test]
fn a_sign_binds_before_every_operator_and_behind_every_path() {
    assert_eq!(read("-a.b has c"), binary(Has, minus(member(name("a"), "b")), name("c")));
    assert_eq!(read("a - -1"), binary(Subtract, name("a"), minus(long(1))));
    assert_eq!(read("a-1"), binary(Subtract, name("a"), long(1)));
    assert_eq!(read("+a"), expr(ExprKind::Unary { op: UnaryOp::Plus, operand: Box::new(name("a")) }));
    assert_eq!(read("-(-1)"), minus(minus(long(1))));
}

#[test]
fn every_operator_of_the_tree_has_its_spelling() {
    use BinaryOp::{
        Contains, ContainsCs, EndsWith, EndsWithCs, EqualTilde, Greater, GreaterOrEqual, HasCs, HasPrefix, HasSuffix,
        LessOrEqual, MatchesRegex, Modulo, NotContains, NotContainsCs, NotEndsWith, NotEndsWithCs, NotEqual,
        NotEqualTilde, NotHas, NotHasCs, NotHasPrefix, NotHasSuffix, NotStartsWith, NotStartsWithCs, StartsWith,
        StartsWithCs,
    };
    for (spelling, op) in [
        ("or", Or),
        ("and", And),
        ("==", Equal),
        ("!=", NotEqual),
        ("<>", NotEqual),
        ("<", Less),
        ("<=", LessOrEqual),
        (">", Greater),
        (">=", GreaterOrEqual),
        ("=~", EqualTilde),
        ("!~", NotEqualTilde),
        ("has", Has),
        ("!has", NotHas),
        ("has_cs", HasCs),
        ("!has_cs", NotHasCs),
        ("hasprefix", HasPrefix),
        ("!hasprefix", NotHasPrefix),
        ("hassuffix", HasSuffix),
        ("!hassuffix", NotHasSuffix),
        ("contains", Contains),
        ("!contains", NotContains),
        ("contains_cs", ContainsCs),
        ("!contains_cs", NotContainsCs),
        ("startswith", StartsWith),
        ("!startswith", NotStartsWith),
        ("startswith_cs", StartsWithCs),
        ("!startswith_cs", NotStartsWithCs),
        ("endswith", EndsWith),
        ("!endswith", NotEndsWith),
        ("endswith_cs", EndsWithCs),
        ("!endswith_cs", NotEndsWithCs),
        ("matches regex", MatchesRegex),
        ("+", Add),
        ("-", Subtract),
        ("*", Multiply),
        ("/", Divide),
        ("%", Modulo),
    ] {
        assert_eq!(read(&format!("a {spelling} b")), binary(op, name("a"), name("b")), "{spelling}");
    }
}

#[test]
fn a_list_operator_tests_what_stands_before_it() {
    for (spelling, op) in [
        ("in", InOp::In),
        ("!in", InOp::NotIn),
        ("in~", InOp::InTilde),
        ("!in~", InOp::NotInTilde),
        ("has_any", InOp::HasAny),
        ("has_all", InOp::HasAll),
    ] {
        let list = vec![long(1), name("b")];
        let target = Box::new(binary(Add, name("a"), name("c")));
        let test = expr(ExprKind::In { op, target, list });
        assert_eq!(read(&format!("a + c {spelling} (1, b) and d")), binary(And, test, name("d")), "{spelling}");
    }
}

#[test]
fn a_list_may_be_one_pipeline() {
    let list = vec![pipeline(name("T"), vec![OperatorKind::Take(long(1))])];
    let test = |list| expr(ExprKind::In { op: InOp::In, target: Box::new(name("a")), list });
    assert_eq!(read("a in (T | take 1)"), test(list.clone()));
    assert_eq!(read("a in ((T | take 1))"), test(list.clone()));
    let two = vec![long(1), list[0].clone()];
    assert_eq!(read("a in (1, (T | take 1))"), test(two));
}

#[test]
fn between_takes_two_whole_expressions() {
    let between = |negated| {
        let (target, low) = (Box::new(name("a")), Box::new(long(1)));
        let high = Box::new(binary(Add, name("b"), long(2)));
        expr(ExprKind::Between { negated, target, low, high })
    };
    assert_eq!(read("a between (1 .. b + 2)"), between(false));
    assert_eq!(read("a between(1..b+2)"), between(false));
    assert_eq!(read("a !between (1 .. b + 2) or c"), binary(Or, between(true), name("c")));
}

#[test]
fn paths_take_dots_brackets_and_calls_in_turn() {
    assert_eq!(
        read("a.b[\"c\"][0].['d e']"),
        member(index(index(member(name("a"), "b"), string("c")), long(0)), "d e")
    );
    assert_eq!(
        read("cluster('c').database(\"d\").['odd name']"),
        member(member_call(call("cluster", vec![string("c")]), "database", vec![string("d")]), "odd name")
    );
    assert_eq!(read("X.$current_cluster_endpoint"), member(name("X"), "$current_cluster_endpoint"));
    assert_eq!(read("$left.x == $right.y"), binary(Equal, member(name("$left"), "x"), member(name("$right"), "y")));
    assert_eq!(read("a[b + 1]"), index(name("a"), binary(Add, name("b"), long(1))));
    assert_eq!(read("(T | count).x"), member(pipeline(name("T"), vec![OperatorKind::Count(None)]), "x"));
}

#[test]
fn calls_take_values_names_stars_and_pipelines() {
    assert_eq!(read("f()"), call("f", vec![]));
    assert_eq!(read("['f g'] (1)"), call("f g", vec![long(1)]));
    assert_eq!(read("arg_max(x, *)"), call("arg_max", vec![name("x"), expr(ExprKind::Star)]));
    assert_eq!(read("count(*)"), call("count", vec![expr(ExprKind::Star)]));
    let arguments = vec![argument(name("a")), Argument { name: Some(ident("b")), value: long(2) }];
    assert_eq!(read("f(a, b = 2)"), expr(ExprKind::Call { name: ident("f"), arguments }));
    let counted = pipeline(name("T"), vec![OperatorKind::Count(None)]);
    assert_eq!(read("toscalar(T | count)"), call("toscalar", vec![counted.clone()]));
    assert_eq!(read("materialize((T | count))"), call("materialize", vec![counted.clone()]));
    assert_eq!(read("['materialize'](T)"), read("materialize(T)"));
    assert_eq!(read("f((T | count), 1)"), call("f", vec![counted, long(1)]));
}

#[test]
fn keywords_are_names_in_brackets_and_some_without() {
    assert_eq!(read("['by'] + [\"where\"]"), binary(Add, name("by"), name("where")));
    assert_eq!(read("kind + count"), binary(Add, name("kind"), name("count")));
    assert_eq!(read("f(a, 9lives)"), call("f", names(&["a", "9lives"])));
}
