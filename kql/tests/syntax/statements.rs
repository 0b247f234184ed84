//! Statements, functions and their parameters.

use kql::syntax::{
    ast::{
        BinaryOp::{Add, Greater},
        FunctionLiteral, LetValue, Literal, OperatorKind, Parameter, ParameterType, Query, Statement,
    },
    parser::parse_function,
};
use kql::types::ScalarType;

use super::build::{
    binary, call, column, ident, long, member_call, name, pipeline, read_query, scalar_parameter, string, tabular,
};

fn statement(text: &str) -> Statement {
    let mut statements = read_query(text).statements;
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0)
}

fn bound(text: &str) -> LetValue {
    match statement(text) {
        Statement::Let { value, .. } => value,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn statements_are_separated_and_empty_ones_skipped() {
    let expected = Query {
        statements: vec![
            Statement::Let { name: ident("a b"), value: LetValue::Expression(long(1)) },
            Statement::Set { option: ident("notruncation"), value: None },
            Statement::Set { option: ident("x"), value: Some(Literal::Long(Some(-1))) },
            tabular(name("T")),
            tabular(name("U")),
        ],
    };
    assert_eq!(read_query("let ['a b'] = 1; set notruncation; set x = -1; T; U"), expected);
    assert_eq!(read_query(";;let ['a b']=1;;set notruncation;// no more\n;set x=-1;T;U;"), expected);
}

#[test]
fn words_of_statements_may_be_names_of_tables() {
    assert_eq!(statement("let | count"), tabular(pipeline(name("let"), vec![OperatorKind::Count(None)])));
    assert_eq!(statement("declare"), tabular(name("declare")));
}

#[test]
fn a_let_binds_expressions_pipelines_and_groups() {
    assert_eq!(bound("let x = (a)"), LetValue::Expression(name("a")));
    assert_eq!(bound("let x = T | count"), LetValue::Expression(pipeline(name("T"), vec![OperatorKind::Count(None)])));
    let entity = member_call(call("cluster", vec![string("c")]), "database", vec![string("d")]);
    assert_eq!(bound("let x = entity_group [cluster('c').database('d')]"), LetValue::EntityGroup(vec![entity]));
}

#[test]
fn a_let_binds_functions_with_scalar_and_tabular_parameters() {
    let above = OperatorKind::Where(binary(Greater, name("x"), name("a")));
    assert_eq!(
        bound("let f = (a:long, T:(x:long, ['y z']:string)) { T | where x > a }"),
        LetValue::Function(FunctionLiteral {
            view: false,
            parameters: vec![
                scalar_parameter("a", ScalarType::Long, None),
                Parameter {
                    name: ident("T"),
                    kind: ParameterType::Table(vec![column("x", ScalarType::Long), column("y z", ScalarType::String)]),
                    default: None,
                },
            ],
            body: vec![tabular(pipeline(name("T"), vec![above]))],
        })
    );
    for any in ["let f = (T:(*)) { T }", "let f = (T:()) { T }"] {
        let LetValue::Function(function) = bound(any) else { panic!("{any}") };
        assert_eq!(function.parameters[0].kind, ParameterType::Table(vec![]));
    }
}

#[test]
fn a_view_is_a_function_that_says_so() {
    let view = FunctionLiteral { view: true, parameters: vec![], body: vec![tabular(name("T"))] };
    assert_eq!(bound("let v = view () { T }"), LetValue::Function(view.clone()));
    assert_eq!(parse_function("view(){T;}"), Ok(view));
    assert_eq!(bound("let v = view(1)"), LetValue::Expression(call("view", vec![long(1)])));
}

#[test]
fn defaults_are_literals_with_or_without_a_sign() {
    assert_eq!(
        statement("declare query_parameters(a:long, b:string='x', c:real = -1.5, d:timespan=1s)"),
        Statement::QueryParameters(vec![
            scalar_parameter("a", ScalarType::Long, None),
            scalar_parameter("b", ScalarType::String, Some(Literal::String("x".into()))),
            scalar_parameter("c", ScalarType::Real, Some(Literal::Real(Some(-1.5)))),
            scalar_parameter("d", ScalarType::Timespan, Some(Literal::Timespan(Some(10_000_000)))),
        ])
    );
}

#[test]
fn a_stored_function_is_parameters_and_a_body_of_lets_and_one_expression() {
    let expected = FunctionLiteral {
        view: false,
        parameters: vec![scalar_parameter("a", ScalarType::Long, None)],
        body: vec![
            Statement::Let { name: ident("b"), value: LetValue::Expression(long(1)) },
            tabular(binary(Add, name("a"), name("b"))),
        ],
    };
    assert_eq!(parse_function("(a:long) { let b = 1; a + b }"), Ok(expected.clone()));
    assert_eq!(parse_function("(a : int64)\n{ ; let b = 1 ;; a + b ; }\n// end"), Ok(expected));
}
