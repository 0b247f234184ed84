//! Tabular sources that begin with a keyword.

use kql::syntax::ast::LetValue;
use kql::syntax::ast::{EntityGroup, ExprKind, Literal, MacroExpand, OperatorKind, Source, Statement, UnionClause};
use kql::types::ScalarType;

use super::build::{
    argument, call, column, expr, ident, long, member, member_call, minus, name, named, names, parameter, pipeline,
    read, source, string, tabular, unnamed, word_parameter,
};

#[test]
fn print_makes_a_row() {
    assert_eq!(read("print a = 1, 'x'"), source(Source::Print(vec![named("a", long(1)), unnamed(string("x"))])));
}

#[test]
fn range_is_a_source_only_with_from_behind_its_column() {
    let range = |column| Source::Range {
        column: ident(column),
        from: Box::new(long(1)),
        to: Box::new(long(10)),
        step: Box::new(long(2)),
    };
    assert_eq!(read("range x from 1 to 10 step 2"), source(range("x")));
    assert_eq!(
        read("range ['x y'] from 1 to 10 step 2 | count"),
        pipeline(source(range("x y")), vec![OperatorKind::Count(None)])
    );
    assert_eq!(read("range(1, 10, 2)"), call("range", vec![long(1), long(10), long(2)]));
}

#[test]
fn datatable_holds_literals_with_or_without_a_sign() {
    assert_eq!(
        read("datatable(a:long, ['b c']:string) [1, 'x', -2, dynamic({}),]"),
        source(Source::DataTable {
            columns: vec![column("a", ScalarType::Long), column("b c", ScalarType::String)],
            values: vec![
                long(1),
                string("x"),
                minus(long(2)),
                expr(ExprKind::Literal(Literal::Dynamic(serde_json::json!({})))),
            ],
        })
    );
    assert_eq!(read("f(datatable(a:long) [1], 2)"), {
        let columns = vec![column("a", ScalarType::Long)];
        call("f", vec![source(Source::DataTable { columns, values: vec![long(1)] }), long(2)])
    });
    assert_eq!(read("datatable()[]"), source(Source::DataTable { columns: vec![], values: vec![] }));
}

#[test]
fn union_is_a_source_and_its_pipe_stands_outside() {
    let union = source(Source::Union(UnionClause {
        parameters: vec![parameter("isfuzzy", Literal::Bool(Some(true)))],
        tables: names(&["A", "B*"]),
    }));
    assert_eq!(read("union isfuzzy=true A, B* | count"), pipeline(union, vec![OperatorKind::Count(None)]));
}

#[test]
fn macro_expand_takes_a_stored_group_by_its_bare_name() {
    assert_eq!(
        read("macro-expand kind=outer isfuzzy=true best_effort=true Metrics_Partitions as X ( X.Requests )"),
        source(Source::MacroExpand(MacroExpand {
            parameters: vec![
                word_parameter("kind", "outer"),
                parameter("isfuzzy", Literal::Bool(Some(true))),
                parameter("best_effort", Literal::Bool(Some(true))),
            ],
            group: EntityGroup::Named(ident("Metrics_Partitions")),
            scope: ident("X"),
            body: vec![tabular(member(name("X"), "Requests"))],
        }))
    );
}

#[test]
fn macro_expand_takes_an_inline_group_and_a_body_of_statements() {
    let entity = member_call(call("cluster", vec![string("c")]), "database", vec![string("d")]);
    let expanded = source(Source::MacroExpand(MacroExpand {
        parameters: vec![],
        group: EntityGroup::Inline(vec![entity, call("database", vec![string("e")])]),
        scope: ident("X"),
        body: vec![
            Statement::Let { name: ident("a"), value: LetValue::Expression(long(1)) },
            tabular(pipeline(member(name("X"), "T"), vec![OperatorKind::Take(name("a"))])),
        ],
    }));
    assert_eq!(
        read(
            "macro-expand entity_group [cluster('c').database('d'), database('e')] as X (let a = 1; X.T | take a;) | count"
        ),
        pipeline(expanded, vec![OperatorKind::Count(None)])
    );
}

#[test]
fn sources_stand_wherever_a_pipeline_may() {
    let printed = || source(Source::Print(vec![unnamed(long(1))]));
    assert_eq!(read("toscalar(print 1)"), call("toscalar", vec![printed()]));
    assert_eq!(read("(print 1)"), printed());
    assert_eq!(read("f((print 1), 2)"), {
        let arguments = vec![argument(printed()), argument(long(2))];
        expr(ExprKind::Call { name: ident("f"), arguments })
    });
}
