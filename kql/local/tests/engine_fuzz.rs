//! No text may stop the engine: mutated queries are parsed, planned and run; each gives rows or an error that is no bug's.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod engine_cases;

use engine_cases::World;
use kusto_local::error::KustoErrorKind;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

const CORPUS: &[&str] = &[
    "Requests | where id > 1 and url has 'a' or isnull(duration) | project id, d = duration * 1.5, tolower(url)",
    "Requests | summarize count(), sum(duration), arg_max(id, *), make_set(url), percentile(duration, 50) by bin(id, 2), url",
    "Requests | join kind=leftouter (Errors | where code == 1) on id | extend x = coalesce(code, 0) | sort by x asc nulls last | take 2",
    "union withsource=s kind=outer isfuzzy=true Requests, (Errors | extend url = 1), Missing | count",
    "let f = (a:long, b:string = 'x') { strcat(b, a) }; let T = materialize(Requests | distinct id); T | extend y = f(id) | where id in (T)",
    "print d = dynamic({'a': [1, {'b': 2.5}]}), t = datetime(2020-01-01) + 1h, s = 1d / 3, n = long(null) | mv-expand with_itemindex=i a = d.a limit 3 | project a.b, -s, bin(t, 1d)",
    "range x from 1 to 10 step 3 | extend y = iff(x % 2 == 0, 'even', 'odd'), z = case(x > 5, x, x < 2, -x, 0.5) | summarize dcount(y), avg(z), stdev(x) by y",
    "datatable(a:datetime, b:timespan, c:decimal, g:guid) [datetime(2020-01-01), 1h, 1.5, guid(null)] | where a between (datetime(2019-01-01) .. 400d) | extend a - b, c / 0, tostring(g), format_datetime(a, 'yyyy-MM')",
    "macro-expand isfuzzy=true entity_group [database('NetDefaultDB'), database('missing')] as X ( X.Requests | extend e = X.$current_database ) | where id > 0 | project-away u* | top 2 by id",
    "declare query_parameters(_ttl:timespan = 1h); Requests | extend it = ingestion_time() | where it > ago(_ttl) | project-rename z = id | project-reorder u*, z asc | getschema",
];

/// Words and single characters, so that a mutation hits names, literals and punctuation alike.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for c in text.chars() {
        match pieces.last_mut() {
            Some(last) if c.is_alphanumeric() && last.chars().all(char::is_alphanumeric) => last.push(c),
            _ => pieces.push(c.to_string()),
        }
    }
    pieces
}

fn mutated(query: usize, other: usize, edits: &[(u8, usize, usize)]) -> String {
    let mut text = pieces(CORPUS[query % CORPUS.len()]);
    let donor = pieces(CORPUS[other % CORPUS.len()]);
    for (kind, at, from) in edits {
        if text.is_empty() {
            break;
        }
        let at = at % text.len();
        let piece = donor[from % donor.len()].clone();
        match kind % 4 {
            0 => {
                text.remove(at);
            }
            1 => text[at] = piece,
            2 => text.insert(at, piece),
            _ => {
                let with = from % text.len();
                text.swap(at, with);
            }
        }
    }
    text.concat()
}

#[test]
fn mutated_queries_give_rows_or_an_honest_error() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut world = runtime.block_on(World::new());
    world.context.limits.rows = 10_000;
    for query in CORPUS {
        let result = runtime.block_on(world.run(query));
        assert!(result.is_ok(), "{query}: {}", result.unwrap_err());
    }
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let edits = prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 1..4);
    runner
        .run(&(any::<usize>(), any::<usize>(), edits), |(query, other, edits)| {
            let text = mutated(query, other, &edits);
            let text = text.as_str();
            if let Err(error) = runtime.block_on(world.run(text)) {
                prop_assert!(error.kind != KustoErrorKind::Internal, "{}: {}", text, error);
            }
            Ok(())
        })
        .unwrap();
}
