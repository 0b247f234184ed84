"""The corpus and its two judges: Microsoft's parser for columns and types, duckdb-kql for values. No test lives here; `test_corpus.py` compares.

`python corpus.py [AREA/NAME ...]` prints what both judges say to these queries (to all, if none is named); it needs no server.
"""

from __future__ import annotations

import csv
import io
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb_kql
from duckdb_kql.kusto import KustoClient as DuckClient
from duckdb_kql.stored_functions import parse_functions

from oracle import Oracle

CORPUS = Path(__file__).parent.parent / "corpus"
DATABASE = "Corpus"
CLUSTER = "corpus"

DUCKDB_TYPES = {
    "bool": "BOOLEAN", "datetime": "TIMESTAMP", "decimal": "DECIMAL(38,9)", "dynamic": "JSON", "guid": "UUID", "int": "INTEGER",
    "long": "BIGINT", "real": "DOUBLE", "string": "VARCHAR", "timespan": "INTERVAL",
}  # fmt: skip


@dataclass(frozen=True)
class Query:
    """One query of the corpus, by the name `area/name`."""

    name: str
    text: str
    fails: bool  # both the parser and the server have to refuse it
    ordered: bool  # the order of rows is part of the answer
    sets: bool  # the order inside an array is not


@dataclass(frozen=True)
class Table:
    """What every judge compares: column names and types, and rows as the protocol carries them."""

    columns: list[tuple[str, str]]
    rows: list[list[Any]]


def queries() -> Iterator[Query]:
    """Every query of `corpus/*.kql`: a `// name:` line, perhaps `// fails` or `// compare: ordered sets`, then the text."""
    for path in sorted(CORPUS.glob("*.kql")):
        _, *sections = re.split(r"^// name: ", path.read_text(), flags=re.MULTILINE)
        for section in sections:
            name, _, body = section.partition("\n")
            flags = re.match(r"// (fails|compare: [a-z ]+)\n", body)
            words = set(flags[1].split()) if flags else set()
            if unknown := words - {"fails", "compare:", "ordered", "sets"}:
                raise ValueError(f"{path.name}: {name} has unknown flags {sorted(unknown)}")
            text = body[flags.end() if flags else 0 :].strip()
            yield Query(f"{path.stem}/{name}", text, "fails" in words, "ordered" in words, "sets" in words)


def data() -> dict[str, dict[str, Any]]:
    """The databases of `corpus/data.toml`, by name."""
    return tomllib.loads((CORPUS / "data.toml").read_text())


def set_up_commands(*only: str) -> Iterator[tuple[str, str]]:
    """(database, command) pairs that make the corpus' databases, or some of them, what `data.toml` says."""
    for name, database in data().items():
        if only and name not in only:
            continue
        for table, content in database.get("tables", {}).items():
            yield name, f".create table ['{table}'] {content['columns']}"
            yield name, f".ingest inline into table ['{table}'] <|\n{content['rows']}"
        for function, (parameters, body) in database.get("functions", {}).items():
            yield name, f".create-or-alter function with (skipvalidation=true) {function} {parameters} {body}"
        for group, entities in database.get("entityGroups", {}).items():
            yield name, f".create entity_group {group} ({', '.join(entities)})"


def columns_of(schema: str) -> list[tuple[str, str]]:
    """`(a:long, ['b c']:string)` as pairs of name and type."""
    return [(bracketed or plain, kind) for bracketed, plain, kind in re.findall(r"(?:\['(.*?)'\]|(\w+)):(\w+)", schema)]


class ParserJudge:
    """Microsoft's parser, with the corpus' schema."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        databases = [
            {
                "name": name,
                "tables": {table: content["columns"] for table, content in database.get("tables", {}).items()},
                "functions": {f: {"parameters": p, "body": b} for f, (p, b) in database.get("functions", {}).items()},
                "entityGroups": {group: ", ".join(entities) for group, entities in database.get("entityGroups", {}).items()},
            }
            for name, database in data().items()
        ]
        self.schema = {"cluster": CLUSTER, "database": DATABASE, "clusters": [{"name": CLUSTER, "databases": databases}]}

    def columns(self, text: str) -> list[tuple[str, str]] | str:
        """The columns it predicts, or why it refuses the text."""
        answer = self.oracle.ask(kind="query", text=text, schema=self.schema)
        if not answer["ok"]:
            errors = [f"{d['code']}: {d['message']}" for d in answer["diagnostics"] if d["severity"] == "Error"]
            return "refused: " + "; ".join(errors + answer["suspect"])
        return [(name, kind) for name, kind in answer["columns"] or []]


class ValueJudge:
    """duckdb-kql on a DuckDB in memory that holds the corpus' data."""

    def __init__(self) -> None:
        connection = duckdb_kql.connect()
        functions: dict[str | None, list[str]] = {}
        groups: dict[str, list[str]] = {}
        for name, database in data().items():
            connection.execute(f"ATTACH ':memory:' AS \"{name}\"")
            for table, content in database.get("tables", {}).items():
                columns = columns_of(content["columns"])
                target = f'"{name}"."{table}"'
                declared = ", ".join(f'"{c}" {DUCKDB_TYPES[t]}' for c, t in columns)
                connection.execute(f"CREATE TABLE {target} ({declared})")
                values = ", ".join(f"CAST(? AS {DUCKDB_TYPES[t]})" for _, t in columns)
                for row in csv.reader(io.StringIO(content["rows"])):
                    fields = [v if v or t == "string" else None for v, (_, t) in zip(row or [""], columns, strict=True)]
                    connection.execute(f"INSERT INTO {target} VALUES ({values})", [duckdb_field(v, t) for v, (_, t) in zip(fields, columns, strict=True)])
            key = None if name == DATABASE else name
            definitions = (f"function {f}{p} {b}" for f, (p, b) in database.get("functions", {}).items())
            functions[key] = [definition for definition in definitions if duckdb_accepts(definition)]
            groups |= database.get("entityGroups", {})
        self.client = DuckClient(connection, functions=functions, entity_groups=groups)

    def table(self, text: str) -> Table | str:
        """Its result, or the beginning of why it cannot run the text."""
        try:
            result = self.client.execute(DATABASE, text).primary_results[0]
        except Exception as error:  # every failure of the judge is an answer, which is listed
            return f"cannot run: {str(error).strip().splitlines()[0][:100].strip()}"
        return Table([(c.column_name, c.column_type) for c in result.columns], result.raw_rows)


def duckdb_accepts(definition: str) -> bool:
    """It refuses scalar stored functions; a query that calls one is then listed as one it cannot run."""
    try:
        parse_functions([definition])
    except ValueError:
        return False
    return True


def duckdb_field(value: str | None, kind: str) -> str | None:
    """DuckDB reads `01:00:00` and `1 days 01:00:00`, Kusto writes days as `1.01:00:00`."""
    return re.sub(r"^(-?)(\d+)\.(\d+:)", r"\1\2 days \1\3", value) if value and kind == "timespan" else value


def main(names: list[str]) -> None:
    """Prints what the judges say."""
    with Oracle() as oracle:
        parser, values = ParserJudge(oracle), ValueJudge()
        for query in queries():
            if names and query.name not in names:
                continue
            print(f"== {query.name}\n{query.text}\n-- parser: {parser.columns(query.text)}")
            table = values.table(query.text)
            print(f"-- duckdb-kql: {table if isinstance(table, str) else table.columns}")
            for row in [] if isinstance(table, str) else table.rows:
                print(f"     {row}")


if __name__ == "__main__":
    main(sys.argv[1:])
