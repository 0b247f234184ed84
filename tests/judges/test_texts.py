"""Every text that the judges' servers were sent, legs that they sent each other included, is KQL to Microsoft's parser. Runs last, by its name.

The corpus's own queries are judged one by one in `test_corpus.py`, which lists where the parser differs; here they count as read.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
from conftest import RECORDINGS, program
from oracle import Oracle


def sent() -> Iterator[tuple[str, dict[str, Any]]]:
    """The port of a server and a request to it, in order; each distinct text once."""
    for path in sorted(Path(RECORDINGS.name).glob("*.jsonl")):
        seen = set()
        for line in path.read_text().splitlines():
            request = json.loads(line)
            key = (request["path"], request["db"], request["csl"], request["status"])
            if request["csl"] is not None and key not in seen:
                seen.add(key)
                yield path.stem, request


def one_server(text: str) -> str:
    """A text of the fleet as the corpus has it."""
    return re.sub(r"cluster\('http://127\.0\.0\.1:\d+'\)\.", "", text)


def test_every_text_that_was_sent_is_kql(oracle: Oracle) -> None:
    known = {one_server(query.text) for query in corpus.queries()}
    refused, count = [], 0
    for port, request in sent():
        if one_server(request["csl"]) in known:
            continue
        count += 1
        answer = oracle.ask(
            kind="command" if request["path"].endswith("/mgmt") else "query",
            # The parser tells clusters apart by host, not by port.
            text=request["csl"].replace("http://127.0.0.1:", "https://port"),
            world="judges",
            session=f"port{port}",
            database=request["db"] or "NetDefaultDB",
            # What the server refused may name nothing, and so may a function that asks not to be validated.
            unresolved=request["status"] != 200 or "skipvalidation=true" in request["csl"],
        )
        if not answer["ok"] and request["status"] == 200:
            refused.append(f"{request['csl']}\n  {answer['diagnostics']} {answer['suspect']}")
    assert count > 100
    assert not refused, "\n".join(refused)


def test_names_and_strings_of_every_text_are_read_alike(oracle: Oracle) -> None:
    """Whatever was asked before: each name and string that Microsoft's parser read is one of our lexer's at the same place."""
    lines = "".join(json.dumps(reading) + "\n" for reading in oracle.readings)
    compared = subprocess.run([program("judge-recordings"), "--readings"], input=lines, stdout=subprocess.PIPE, text=True)
    assert compared.returncode == 0, compared.stdout
    assert len(oracle.readings) > 100
