"""The corpus against its judges: columns and types as Microsoft's parser predicts them, values as duckdb-kql computes them.

`corpus/differences.toml` lists where a judge differs or cannot say, with the reason and the exact difference. A difference that is not listed fails, and so
does a listed one that is gone: the list neither grows nor rots unseen.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from azure.kusto.data import KustoClient
from azure.kusto.data.exceptions import KustoServiceError

from compare import column_difference, row_difference
from conftest import at_clusters
from corpus import CORPUS, DATABASE, ParserJudge, Query, Table, ValueJudge, queries

QUERIES = list(queries())
ACCEPTED = [pytest.param(query, id=query.name) for query in QUERIES if not query.fails]
# What reaches another database; `withsource` names the place, which is another one in a fleet.
FEDERATED = [param for param in ACCEPTED if re.search(r"macro-expand|database\(|Everywhere", param.values[0].text) and "withsource" not in param.values[0].text]
REFUSED = [pytest.param(query, id=query.name) for query in QUERIES if query.fails]
LISTED = tomllib.loads((CORPUS / "differences.toml").read_text())
ENGINE = Path(__file__).parents[2] / "kql/local/src/engine"
SYNTAX = Path(__file__).parents[2] / "kql/src/syntax"


def ask(kusto: KustoClient, text: str) -> Table | str:
    """Our result, or why our server refuses the text."""
    try:
        result = kusto.execute_query(DATABASE, text).primary_results[0]
    except KustoServiceError as error:
        return f"refused by our server: {error}"
    return Table([(c.column_name, c.column_type) for c in result.columns], result.raw_rows)


def check(judge: str, query: Query, difference: str) -> None:
    """A difference is what `differences.toml` says it is, or there is none."""
    listed = LISTED[judge].get(query.name, {}).get("difference", "").strip()
    if difference == listed:
        return
    if listed and not difference:
        pytest.fail(f"{query.name} no longer differs from {judge}: delete it from differences.toml")
    entry = f"[{judge}.\"{query.name}\"]\nreason = \"...\"\ndifference = '''\n{difference}\n'''"
    pytest.fail(f"{query.text}\n\ndiffers from {judge}, and not as listed. If the judge is wrong, list it in differences.toml:\n\n{entry}", pytrace=False)


@pytest.mark.parametrize("query", ACCEPTED)
def test_columns_are_those_that_microsofts_parser_predicts(query: Query, kusto: KustoClient, parser_judge: ParserJudge) -> None:
    ours, theirs = ask(kusto, query.text), parser_judge.columns(query.text)
    if isinstance(ours, str):
        check("parser", query, ours)
    elif isinstance(theirs, str):
        check("parser", query, theirs)
    else:
        check("parser", query, column_difference(ours.columns, theirs))


@pytest.mark.parametrize("query", ACCEPTED)
def test_values_are_those_of_duckdb_kql(query: Query, kusto: KustoClient, value_judge: ValueJudge) -> None:
    ours, theirs = ask(kusto, query.text), value_judge.table(query.text)
    if isinstance(ours, str):
        check("duckdb-kql", query, ours)
    elif isinstance(theirs, str):
        check("duckdb-kql", query, theirs)
    elif len(ours.columns) != len(theirs.columns):
        check("duckdb-kql", query, column_difference(ours.columns, theirs.columns))
    else:
        kinds = [kind for _, kind in ours.columns]
        check("duckdb-kql", query, row_difference(ours.rows, theirs.rows, kinds, ordered=query.ordered, sets=query.sets))


@pytest.mark.parametrize("query", FEDERATED)
def test_a_fleet_of_servers_answers_as_one_server_does(query: Query, kusto: KustoClient, fleet: tuple[KustoClient, dict[str, str]]) -> None:
    hub, remote = fleet
    one, many = ask(kusto, query.text), ask(hub, at_clusters(query.text, remote))
    assert isinstance(one, Table) and isinstance(many, Table), f"{one}, {many}"
    assert many.columns == one.columns
    kinds = [kind for _, kind in one.columns]
    assert row_difference(many.rows, one.rows, kinds, ordered=query.ordered, sets=query.sets) == ""


@pytest.mark.parametrize("query", REFUSED)
def test_what_microsofts_parser_refuses_is_refused(query: Query, kusto: KustoClient, parser_judge: ParserJudge) -> None:
    assert isinstance(parser_judge.columns(query.text), str), "Microsoft's parser accepts this text"
    with pytest.raises(KustoServiceError):
        kusto.execute_query(DATABASE, query.text)


def test_every_listed_difference_names_a_query_and_a_reason() -> None:
    names = {query.name for query in QUERIES if not query.fails}
    assert set(LISTED) == {"parser", "duckdb-kql"}
    for judge, listed in LISTED.items():
        for name, entry in listed.items():
            assert name in names, f"differences.toml lists {name} under {judge}: there is no such query"
            assert set(entry) == {"reason", "difference"} and len(entry["reason"]) > 10, f"{judge} {name}"


def test_every_function_of_the_server_stands_in_an_accepted_query() -> None:
    sources = "".join(path.read_text() for path in ENGINE.rglob("*.rs"))
    lists = re.findall(r"\b(?:NAMES|SPECIAL): &\[&str\] =\s*&\[(.*?)\];", sources, flags=re.DOTALL)
    known = {name for names in lists for name in re.findall(r'"(\w+)"', names)}
    assert len(lists) >= 7 and len(known) > 150, "the lists of functions are no longer written as this test reads them"
    called = {name for query in QUERIES if not query.fails for name in re.findall(r"\b(\w+)\(", query.text)}
    called.add("cluster")  # its address is another one in every run: `at_clusters` writes it into the queries of the fleet
    assert sorted(known - called) == [], "functions that no query of the corpus uses"


def infix_operators() -> set[str]:
    """Every spelling in the tables of `infix.rs`."""
    tables = re.findall(r"\b(?:BINARY|IN): &\[\(\w+, &str\)\] = &\[(.*?)\];", (SYNTAX / "infix.rs").read_text(), flags=re.DOTALL)
    operators = {operator for table in tables for operator in re.findall(r'\(\w+::\w+, "(.+?)"\)', table)}
    assert len(tables) == 2 and len(operators) >= 43, "the tables of operators are no longer written as this test reads them"
    return operators


def parameters() -> set[str]:
    """Every parameter of `join`, `union` and `mv-expand`, with each of the words that it takes."""
    known = set()
    for operator in ("join", "union", "mv-expand"):
        # An arm is `("a" | "b", "word" | "word") =>` or `("a" | "b", pattern) if pattern.name == "word" =>`.
        source = (ENGINE / f"{operator.replace('-', '_')}.rs").read_text()
        for names, pattern, word in re.findall(r'^ +\(((?:"\w+"(?: \| )?)+), (.*?)\)(?: if \w+\.name == "(\w+)")? => ', source, flags=re.MULTILINE):
            words = re.findall(r'"(\w+)"', pattern) + [word]
            known |= {f"{operator} {name}={w}" for name in re.findall(r"\w+", names) for w in words if w or words == [""]}
    assert len(known) >= 22, "the parameters of operators are no longer written as this test reads them"
    return known


def parameter_form(parameter: str) -> str:
    """How a query looks that uses `operator name=word`, or `operator name=` with any value."""
    operator, name, word = re.fullmatch(r"(\S+) (\w+)=(\w*)", parameter).groups()
    return rf"\b{operator} [^|(]*\b{name} ?= ?{word}\b" if word else rf"\b{operator} [^|(]*\b{name} ?="


# Every other construct that the server knows, and how a query that uses it looks.
CONSTRUCTS = {
    "where": r"\| where ", "extend": r"\| extend ", "project": r"\| project ", "project-away": r"project-away ", "project-keep": r"project-keep ",
    "project-rename": r"project-rename ", "project-reorder": r"project-reorder ", "summarize": r"summarize ", "distinct": r"distinct ", "take": r"take \d",
    "top": r"top \d", "sort": r"sort by ", "order": r"order by ", "count": r"\| count", "mv-expand": r"mv-expand ", "print": r"print ", "range": r"range ",
    "datatable": r"datatable\(", "union": r"union ", "union wildcard": r"union [^|(]*\w\*", "join": r"join \(", "let scalar": r"let \w+ = [\d']",
    "let table": r"let \w+ = \w+ ?\|", "let function": r"let \w+ = \([^)]*\) ?\{", "toscalar": r"toscalar\(", "materialize": r"materialize\(", "in subquery": r" in \(\(\w+ ?\|",
    "macro-expand": r"macro-expand ", "macro-expand inline group": r"entity_group \[", "macro-expand best_effort": r"best_effort", "macro-expand isfuzzy": r"macro-expand [^(]*isfuzzy",
    "scope scalars": r"\$current_", "as": r"\| as ", "database()": r"database\(", "table()": r"table\(", "ingestion_time": r"ingestion_time\(", "getschema": r"getschema",
    "count as": r"count as ", "distinct with a name": r"distinct \w+ = ", "extract with a type": r"typeof\(", "dynamic path": r"\.\w+\.\w+", "parse_json": r"parse_json\(",
    "between": r" between \(", "!between": r" !between \(",
    "'a'": r"[ (,]'", '"a"': r'[ (,]"', "@'a'": r"[ (,]@'", '@"a"': r'@"', 'h"a"': r'[ (,]h"', "h'a'": r"[ (,][hH]'", "```a```": r"```.*```", "~~~a~~~": r"~~~.*~~~",
    **{name: rf"\b{name}\(" for name in ("countif", "sum", "avg", "min", "max", "dcount", "arg_max", "arg_min", "make_set", "make_list", "bin", "ago", "now")},
}


def test_every_construct_stands_in_an_accepted_query() -> None:
    texts = [query.text for query in QUERIES if not query.fails]
    forms = CONSTRUCTS | {operator: rf" {re.escape(operator)}[ (]" for operator in infix_operators()} | {p: parameter_form(p) for p in parameters()}
    lacking = [name for name, form in sorted(forms.items()) if not any(re.search(form, text) for text in texts)]
    assert lacking == [], "constructs that no query of the corpus uses"


def test_names_of_queries_are_unique() -> None:
    names = [query.name for query in QUERIES]
    assert len(names) == len(set(names)) >= 100
