"""How two tables differ, as text: empty when they do not. Pure; `differences.toml` lists these texts, so they are deterministic."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from typing import Any

Column = tuple[str, str]


def column_difference(ours: list[Column], theirs: list[Column]) -> str:
    """Names and types, in order."""
    if ours == theirs:
        return ""
    return f"ours:   {_schema(ours)}\ntheirs: {_schema(theirs)}"


def row_difference(ours: list[list[Any]], theirs: list[list[Any]], kinds: list[str], *, ordered: bool, sets: bool) -> str:
    """Values by position, read as our column types say; rows as a multiset unless `ordered`, arrays as multisets if `sets`."""
    ours_read = [_row(row, kinds, sets) for row in ours]
    theirs_read = [_row(row, kinds, sets) for row in theirs]
    if ordered and ours_read != theirs_read and Counter(ours_read) == Counter(theirs_read):
        return "\n".join(["ours:", *ours_read, "theirs, in another order:", *theirs_read])
    only_ours, only_theirs = Counter(ours_read) - Counter(theirs_read), Counter(theirs_read) - Counter(ours_read)
    return "\n".join([f"ours:   {row}" for row in sorted(only_ours.elements())] + [f"theirs: {row}" for row in sorted(only_theirs.elements())])


def _schema(columns: list[Column]) -> str:
    return ", ".join(f"{name}:{kind}" for name, kind in columns)


def _row(row: list[Any], kinds: list[str], sets: bool) -> str:
    values = [_value(value, kind, sets) for value, kind in zip(row, kinds, strict=False)] + row[len(kinds) :]
    return json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)


def _value(value: Any, kind: str, sets: bool) -> Any:
    """One spelling for each value. Reals keep ten digits (1e-9); times the microseconds that DuckDB has."""
    if kind == "string":
        return value or ""  # a Kusto string is never null
    if value is None:
        return None
    if kind in ("int", "long") and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "real":
        return f"{float(value):.10g}"
    if kind == "decimal":
        return f"{Decimal(str(value)).normalize():f}"
    if kind == "bool":
        return bool(value)
    if kind in ("datetime", "timespan"):
        return _microseconds(str(value))
    return _dynamic(value, sets) if kind == "dynamic" else value


def _microseconds(text: str) -> str:
    """`2025-01-01T00:00:00.1234567Z` and `1.02:03:04.5` with exactly six digits of a second."""
    match = re.fullmatch(r"(.*:\d\d)(?:\.(\d+))?Z?", text)
    return f"{match[1]}.{(match[2] or '')[:6]:0<6}" if match else text


def _dynamic(value: Any, sets: bool) -> Any:
    """A dynamic value comes as JSON or as its text; both protocols of the real service do both."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.10g}")
    if isinstance(value, list):
        items = [_dynamic(item, sets) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if sets else items
    if isinstance(value, dict):
        return {key: _dynamic(item, sets) for key, item in value.items()}
    return value
