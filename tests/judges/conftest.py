"""What the judges share: our server in a process of its own, the official SDK's client of it, and Microsoft's parser."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from azure.kusto.data import KustoClient

import corpus
from oracle import Oracle


def program(name: str) -> Path:
    """A program of ours: where its variable (`KUSTO_LOCAL` of kusto-local) says, or what `cargo build` leaves in the target folder."""
    target = os.environ.get("CARGO_TARGET_DIR", str(Path(__file__).parents[2] / "target"))
    variable = name.replace("-", "_").upper()
    path = Path(os.environ.get(variable, f"{target}/debug/{name}"))
    if not path.exists():
        pytest.exit(f"{path} is missing: run `cargo build --bin {name}`, or set {variable}", returncode=2)
    return path


# What every server of this run was sent, in files named after their ports; `test_texts.py` has it read by Microsoft's parser.
RECORDINGS = TemporaryDirectory(prefix="judges-")


@contextmanager
def kusto_local(*databases: str) -> Iterator[str]:
    """A server with these databases, on a free port; yields its URL and ends it afterwards."""
    arguments = [argument for name in databases for argument in ("--database", name)]
    record = Path(RECORDINGS.name) / "starting"
    command = [str(program("kusto-local")), "--listen", "127.0.0.1:0", "--record", str(record), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        url = line[line.find("http://") :].strip()
        if not url.startswith("http://"):
            raise RuntimeError(f"{' '.join(command)} printed {line!r} where its URL belongs; exit code {process.poll()}")
        # The server goes on writing to the open file.
        record.rename(record.with_name(f"{url.rpartition(':')[2]}.jsonl"))
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


@pytest.fixture(scope="session")
def parser_judge(oracle: Oracle) -> corpus.ParserJudge:
    return corpus.ParserJudge(oracle)


@pytest.fixture(scope="session")
def value_judge() -> corpus.ValueJudge:
    return corpus.ValueJudge()


@contextmanager
def loaded(*databases: str, remote: dict[str, str] | None = None) -> Iterator[tuple[str, KustoClient]]:
    """URL and client (the official SDK's) of a server that holds these databases of the corpus; others are at the URLs in `remote`."""
    with kusto_local(*databases) as url, KustoClient(url) as client:
        for database, command in corpus.set_up_commands(*databases):
            client.execute_mgmt(database, at_clusters(command, remote or {}))
        yield url, client


def at_clusters(text: str, remote: dict[str, str]) -> str:
    """The same text with `database('East')` at another cluster."""
    for database, url in remote.items():
        text = re.sub(rf"database\((['\"]){database}\1\)", f"cluster('{url}').database('{database}')", text)
    return text


@pytest.fixture(scope="session")
def kusto() -> Iterator[KustoClient]:
    """All databases of the corpus in one server."""
    with loaded(*corpus.data()) as (_, client):
        yield client


@pytest.fixture(scope="session")
def fleet() -> Iterator[tuple[KustoClient, dict[str, str]]]:
    """Each database in a server of its own: the client of the hub, and the URLs of the others."""
    with ExitStack() as servers:
        others = [name for name in corpus.data() if name != corpus.DATABASE]
        remote = {name: servers.enter_context(loaded(name))[0] for name in others}
        _, hub = servers.enter_context(loaded(corpus.DATABASE, remote=remote))
        yield hub, remote
