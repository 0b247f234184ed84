//! Tabular operators: the exact tree of each form.

use kql::syntax::ast::{
    BinaryOp::{Add, Equal, Greater},
    ExprKind, Literal, MvExpandColumn, OperatorKind, Renaming, Reordering, SortKey, UnionClause,
};
use kql::types::ScalarType;

use super::build::{
    binary, call, expr, ident, idents, key, long, member, member_call, minus, name, named, names, parameter, pipeline,
    read, read_operator, string, unnamed, word_parameter,
};

#[test]
fn operators_follow_the_source_in_the_order_of_the_text() {
    assert_eq!(
        read("T|where a>1|count|take 5"),
        pipeline(
            name("T"),
            vec![
                OperatorKind::Where(binary(Greater, name("a"), long(1))),
                OperatorKind::Count(None),
                OperatorKind::Take(long(5)),
            ]
        )
    );
}

#[test]
fn a_pipeline_in_parentheses_feeds_another() {
    assert_eq!(
        read("(T | count) | getschema"),
        pipeline(pipeline(name("T"), vec![OperatorKind::Count(None)]), vec![OperatorKind::GetSchema])
    );
}

#[test]
fn second_names_are_the_same_operators() {
    for (one, other) in
        [("where a", "filter a"), ("take 1", "limit 1"), ("sort by a", "order by a"), ("mv-expand a", "mvexpand a")]
    {
        assert_eq!(read_operator(one), read_operator(other));
    }
}

#[test]
fn a_hyphen_belongs_to_the_word_only_where_the_word_is_an_operator() {
    assert_eq!(read_operator("where-a"), OperatorKind::Where(minus(name("a"))));
    assert_eq!(read_operator("project -away"), OperatorKind::Project(vec![unnamed(minus(name("away")))]));
    assert_eq!(read_operator("project-away a"), OperatorKind::ProjectAway(idents(&["a"])));
}

#[test]
fn extend_project_and_summarize_take_named_and_unnamed_expressions() {
    let columns = vec![named("a", long(1)), unnamed(name("b")), named("c d", name("e"))];
    assert_eq!(read_operator("extend a = 1, b, ['c d'] = e"), OperatorKind::Extend(columns.clone()));
    assert_eq!(read_operator("project a=1,b,[\"c d\"]=e"), OperatorKind::Project(columns));
    assert_eq!(
        read_operator("summarize n = count(), sum(x) by k, b = bin(t, 1)"),
        OperatorKind::Summarize {
            parameters: vec![],
            aggregates: vec![named("n", call("count", vec![])), unnamed(call("sum", names(&["x"])))],
            by: vec![unnamed(name("k")), named("b", call("bin", vec![name("t"), long(1)]))],
        }
    );
    assert_eq!(
        read_operator("summarize hint.strategy=shuffle hint.num_partitions = 4 by k"),
        OperatorKind::Summarize {
            parameters: vec![
                word_parameter("hint.strategy", "shuffle"),
                parameter("hint.num_partitions", Literal::Long(Some(4))),
            ],
            aggregates: vec![],
            by: vec![unnamed(name("k"))],
        }
    );
}

#[test]
fn column_patterns_are_names_with_stars() {
    assert_eq!(
        read_operator("project-away a, b*, *c, *, d*e2*, ['f g']"),
        OperatorKind::ProjectAway(idents(&["a", "b*", "*c", "*", "d*e2*", "f g"]))
    );
    assert_eq!(read_operator("project-keep a*"), OperatorKind::ProjectKeep(idents(&["a*"])));
    let reordering = |pattern: &str, ascending| Reordering { pattern: ident(pattern), ascending };
    assert_eq!(
        read_operator("project-reorder a, b* desc, * asc"),
        OperatorKind::ProjectReorder(vec![
            reordering("a", None),
            reordering("b*", Some(false)),
            reordering("*", Some(true))
        ])
    );
    assert_eq!(
        read_operator("project-rename new = old, ['n 2'] = ['o 2']"),
        OperatorKind::ProjectRename(vec![
            Renaming { new: ident("new"), old: ident("old") },
            Renaming { new: ident("n 2"), old: ident("o 2") },
        ])
    );
}

#[test]
fn distinct_takes_expressions_or_all_columns() {
    assert_eq!(
        read_operator("distinct a, x = b"),
        OperatorKind::Distinct(vec![unnamed(name("a")), named("x", name("b"))])
    );
    assert_eq!(read_operator("distinct *"), OperatorKind::Distinct(vec![unnamed(expr(ExprKind::Star))]));
}

#[test]
fn a_type_is_an_argument() {
    let text = "where extract('a', 0, b, typeof(long))";
    let arguments = vec![string("a"), long(0), name("b"), expr(ExprKind::TypeOf(ScalarType::Long))];
    assert_eq!(read_operator(text), OperatorKind::Where(call("extract", arguments)));
}

#[test]
fn count_may_name_its_column() {
    assert_eq!(read_operator("count"), OperatorKind::Count(None));
    assert_eq!(read_operator("count as ['how many']"), OperatorKind::Count(Some(ident("how many"))));
}

#[test]
fn sort_keys_have_a_direction_and_a_place_for_nulls() {
    assert_eq!(
        read_operator("sort by a, b asc, c desc nulls first, d nulls last"),
        OperatorKind::Sort(vec![
            key(name("a")),
            SortKey { ascending: Some(true), ..key(name("b")) },
            SortKey { ascending: Some(false), nulls_first: Some(true), ..key(name("c")) },
            SortKey { nulls_first: Some(false), ..key(name("d")) },
        ])
    );
    assert_eq!(
        read_operator("top 5 + 1 by x = a desc"),
        OperatorKind::Top {
            count: binary(Add, long(5), long(1)),
            by: vec![SortKey { value: named("x", name("a")), ascending: Some(false), nulls_first: None }],
        }
    );
}

#[test]
fn join_keeps_its_parameters_and_conditions() {
    assert_eq!(
        read_operator("join kind=leftouter hint.strategy=broadcast (R | count) on a, $left.b == $right.c"),
        OperatorKind::Join {
            parameters: vec![word_parameter("kind", "leftouter"), word_parameter("hint.strategy", "broadcast")],
            right: Box::new(pipeline(name("R"), vec![OperatorKind::Count(None)])),
            on: vec![name("a"), binary(Equal, member(name("$left"), "b"), member(name("$right"), "c"))],
        }
    );
    assert_eq!(
        read_operator("join kind='inner' 'R' on a"),
        OperatorKind::Join {
            parameters: vec![parameter("kind", Literal::String("inner".into()))],
            right: Box::new(string("R")),
            on: names(&["a"]),
        }
    );
    let remote = member(member_call(call("cluster", vec![string("c")]), "database", vec![string("d")]), "T");
    assert_eq!(
        read_operator("join cluster('c').database('d').T on a"),
        OperatorKind::Join { parameters: vec![], right: Box::new(remote), on: names(&["a"]) }
    );
    let OperatorKind::Join { right, .. } = read_operator("join datatable(a:long) [1] on a") else { panic!("no join") };
    assert!(matches!(right.kind, ExprKind::Source(_)));
}

#[test]
fn union_takes_names_patterns_and_pipelines() {
    assert_eq!(
        read_operator("union kind=outer withsource=Name isfuzzy=true A, (B | count), C*, X.D, f(1)"),
        OperatorKind::Union(UnionClause {
            parameters: vec![
                word_parameter("kind", "outer"),
                word_parameter("withsource", "Name"),
                parameter("isfuzzy", Literal::Bool(Some(true))),
            ],
            tables: vec![
                name("A"),
                pipeline(name("B"), vec![OperatorKind::Count(None)]),
                name("C*"),
                member(name("X"), "D"),
                call("f", vec![long(1)]),
            ],
        })
    );
}

#[test]
fn mv_expand_tells_its_parameters_from_columns_of_other_names() {
    assert_eq!(
        read_operator("mv-expand kind=array with_itemindex=i a to typeof(long), b = x.y limit 10"),
        OperatorKind::MvExpand {
            parameters: vec![word_parameter("kind", "array"), word_parameter("with_itemindex", "i")],
            columns: vec![
                MvExpandColumn { value: unnamed(name("a")), to_type: Some(ScalarType::Long) },
                MvExpandColumn { value: named("b", member(name("x"), "y")), to_type: None },
            ],
            limit: Some(long(10)),
        }
    );
}

#[test]
fn as_and_render_name_things() {
    assert_eq!(read_operator("as ['a b']"), OperatorKind::As(ident("a b")));
    assert_eq!(
        read_operator("render timechart"),
        OperatorKind::Render { chart: ident("timechart"), properties: vec![] }
    );
    let properties = vec![parameter("title", Literal::String("x".into())), word_parameter("kind", "stacked")];
    for text in [
        "render barchart with (title=\"x\", kind=stacked)",
        "render barchart title='x' kind=stacked",
        "render barchart title='x' with(kind=stacked)",
    ] {
        let chart = ident("barchart");
        assert_eq!(read_operator(text), OperatorKind::Render { chart, properties: properties.clone() }, "{text}");
    }
}
