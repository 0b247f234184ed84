//! Literals: every type, its null, and what is no value of it.

use kql::literal::{TICKS_PER_DAY, TICKS_PER_SECOND};
use kql::syntax::{
    ast::Literal,
    parser::{Parser, parse_expression},
};
use proptest::prelude::*;
use serde_json::json;

fn literal(text: &str) -> Literal {
    let mut parser = Parser::new(text);
    let literal = parser.literal().unwrap_or_else(|error| panic!("{text}: {error}"));
    parser.expect_end().unwrap_or_else(|error| panic!("{text}: {error}"));
    literal
}

fn dynamic(text: &str) -> serde_json::Value {
    match literal(text) {
        Literal::Dynamic(value) => value,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn bare_literals_have_the_type_of_their_form() {
    for (text, expected) in [
        ("true", Literal::Bool(Some(true))),
        ("FALSE", Literal::Bool(Some(false))),
        ("12", Literal::Long(Some(12))),
        ("0x1F", Literal::Long(Some(31))),
        ("1.5", Literal::Real(Some(1.5))),
        ("1.", Literal::Real(Some(1.0))),
        ("1e3", Literal::Real(Some(1000.0))),
        ("1d", Literal::Timespan(Some(TICKS_PER_DAY))),
        ("1.5h", Literal::Timespan(Some(5400 * TICKS_PER_SECOND))),
        ("10m", Literal::Timespan(Some(600 * TICKS_PER_SECOND))),
        ("5ms", Literal::Timespan(Some(50_000))),
        ("6microseconds", Literal::Timespan(Some(60))),
        ("7ticks", Literal::Timespan(Some(7))),
        ("'a' \"b\" @'c\\'", Literal::String("abc\\".into())),
        ("h'secret'", Literal::String("secret".into())),
    ] {
        assert_eq!(literal(text), expected, "{text}");
    }
}

#[test]
fn typed_literals_are_read_by_their_type() {
    for (text, expected) in [
        ("bool(true)", Literal::Bool(Some(true))),
        ("int(-5)", Literal::Int(Some(-5))),
        ("int(0x7FFFFFFF)", Literal::Int(Some(i32::MAX))),
        ("long( 5 )", Literal::Long(Some(5))),
        ("long(-9223372036854775808)", Literal::Long(Some(i64::MIN))),
        ("real(1)", Literal::Real(Some(1.0))),
        ("double(-1.5e-3)", Literal::Real(Some(-0.0015))),
        ("real(+inf)", Literal::Real(Some(f64::INFINITY))),
        ("real(-inf)", Literal::Real(Some(f64::NEG_INFINITY))),
        ("decimal(1.50)", Literal::Decimal(Some("1.50".into()))),
        ("decimal(-1e3)", Literal::Decimal(Some("-1000".into()))),
        ("decimal(12.5e-3)", Literal::Decimal(Some("0.0125".into()))),
        ("decimal(+.5)", Literal::Decimal(Some("0.5".into()))),
        ("datetime(0001-01-02)", Literal::DateTime(Some(TICKS_PER_DAY))),
        ("datetime(0001-01-01 00:00:01.0000001)", Literal::DateTime(Some(TICKS_PER_SECOND + 1))),
        ("date('0001-01-01T00:00:01Z')", Literal::DateTime(Some(TICKS_PER_SECOND))),
        ("timespan(1.02:03:04)", Literal::Timespan(Some(TICKS_PER_DAY + 7384 * TICKS_PER_SECOND))),
        ("time(1d)", Literal::Timespan(Some(TICKS_PER_DAY))),
        ("time('2 seconds')", Literal::Timespan(Some(2 * TICKS_PER_SECOND))),
        ("timespan(-00:00:01)", Literal::Timespan(Some(-TICKS_PER_SECOND))),
        (
            "guid({74BE27DE-1e4e-49d9-b579-fe0b331d3642})",
            Literal::Guid(Some("74be27de-1e4e-49d9-b579-fe0b331d3642".into())),
        ),
        ("guid(74be27de1e4e49d9b579fe0b331d3642)", Literal::Guid(Some("74be27de-1e4e-49d9-b579-fe0b331d3642".into()))),
    ] {
        assert_eq!(literal(text), expected, "{text}");
    }
    assert!(matches!(literal("real(nan)"), Literal::Real(Some(value)) if value.is_nan()));
}

#[test]
fn every_type_but_string_has_its_null() {
    for (text, expected) in [
        ("bool(null)", Literal::Bool(None)),
        ("datetime( null )", Literal::DateTime(None)),
        ("decimal(null)", Literal::Decimal(None)),
        ("dynamic(null)", Literal::Dynamic(serde_json::Value::Null)),
        ("guid(null)", Literal::Guid(None)),
        ("int(null)", Literal::Int(None)),
        ("long(null)", Literal::Long(None)),
        ("real(null)", Literal::Real(None)),
        ("time(null)", Literal::Timespan(None)),
    ] {
        assert_eq!(literal(text), expected, "{text}");
    }
}

#[test]
fn dynamic_is_json_with_kustos_strings_and_types() {
    assert_eq!(dynamic("dynamic({})"), json!({}));
    assert_eq!(dynamic("dynamic([])"), json!([]));
    assert_eq!(dynamic("dynamic ( 'a' )"), json!("a"));
    assert_eq!(
        dynamic(r#"dynamic({"a": [1, -2.5, true, null, "x\u0041"], 'b': {"c": @'\'}})"#),
        json!({"a": [1, -2.5, true, null, "xA"], "b": {"c": "\\"}})
    );
    assert_eq!(
        dynamic("dynamic([datetime(2025-01-01), time(1d), 90s, long(1), guid(null), bool(false), dynamic([1])])"),
        json!(["2025-01-01T00:00:00Z", "1.00:00:00", "00:01:30", 1, null, false, [1]])
    );
    assert_eq!(dynamic("dynamic([1 // one\n, 2])"), json!([1, 2]));
}

#[test]
fn what_is_no_value_of_the_type_is_refused() {
    for text in [
        "bool(2)",
        "int(2147483648)",
        "int(1.5)",
        "long()",
        "long(x)",
        "long(1 2)",
        "long(9223372036854775808)",
        "9223372036854775808",
        "0xFFFFFFFFFFFFFFFF",
        "real(x)",
        "real(infinite)",
        "decimal(1.2.3)",
        "decimal(1e99)",
        "decimal(1e+)",
        "decimal(.)",
        "datetime(2025-02-30)",
        "datetime(now)",
        "timespan(25:00:00)",
        "timespan(1d + 2h)",
        "guid(74be27de-1e4e-49d9-b579-fe0b331d364)",
        "guid((74be27de-1e4e-49d9-b579-fe0b331d3642))",
        "guid(74be27de1e4e-49d9-b579fe0b331d3642)",
        "dynamic()",
        "dynamic(x)",
        "dynamic([1,])",
        "dynamic({'a':1,})",
        "dynamic({a:1})",
        "dynamic({'a'})",
        "dynamic([1",
        "dynamic([+1])",
        "dynamic([-'a'])",
        "dynamic([real(nan)])",
        "dynamic([decimal(1.5)])",
        "datetime(2025-01-01",
        "datetime('2025-01-01",
        "datetime('2025-01-01' )x",
        "int('5\\q')",
        "99999999999d",
    ] {
        assert!(parse_expression(text).is_err(), "{text}");
    }
}

#[test]
fn a_blank_before_the_parenthesis_makes_it_a_call_of_a_keyword() {
    assert_eq!(
        parse_expression("datetime (2025-01-01)").unwrap_err().message,
        "expected an expression (a name that equals a keyword is written ['datetime']), found 'datetime'"
    );
}

#[test]
fn a_default_may_carry_a_sign() {
    for (text, expected) in [
        ("-5", Literal::Long(Some(-5))),
        ("+5", Literal::Long(Some(5))),
        ("-1.5", Literal::Real(Some(-1.5))),
        ("- 1d", Literal::Timespan(Some(-TICKS_PER_DAY))),
        ("'a'", Literal::String("a".into())),
    ] {
        assert_eq!(Parser::new(text).signed_literal(), Ok(expected), "{text}");
    }
    for text in ["-'a'", "--1", "-long(5)", "-true", "-"] {
        assert!(Parser::new(text).signed_literal().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn the_inside_of_a_typed_literal_never_panics(
        word in "(bool|date|datetime|decimal|double|dynamic|guid|int|long|real|time|timespan)",
        inside in prop_oneof![".{0,30}", "[-+0-9.eExXa-f:{}'\\\\ TZ]{0,40}"],
    ) {
        let _ = parse_expression(&format!("{word}({inside})"));
        let _ = parse_expression(&format!("{word}({inside}"));
    }

    #[test]
    fn longs_reals_and_decimals_are_read_exactly(long: i64, real in -1e30..1e30_f64, whole: u32, fraction: u16, exponent in -5..5_i32) {
        prop_assert_eq!(literal(&format!("long({long})")), Literal::Long(Some(long)));
        prop_assert_eq!(literal(&format!("real({real:?})")), Literal::Real(Some(real)));
        let Literal::Decimal(Some(decimal)) = literal(&format!("decimal({whole}.{fraction}e{exponent})")) else {
            panic!("no decimal")
        };
        let expected: f64 = format!("{whole}.{fraction}e{exponent}").parse().unwrap();
        prop_assert_eq!(decimal.parse::<f64>().unwrap(), expected);
    }
}
