"""The client of `tests/kql-oracle/oracle.js`, which says what a request and an answer hold. One Node process for a whole run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

SCRIPT = Path(__file__).parent.parent / "kql-oracle" / "oracle.js"


class Oracle:
    """Microsoft's KQL parser, asked one text at a time."""

    def __init__(self) -> None:
        # What was read, for `judge-recordings --readings` to compare with what our lexer reads.
        self.readings: list[dict[str, Any]] = []
        self.process = subprocess.Popen(["node", str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends one request and waits for its answer."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the oracle ended with exit code {self.process.wait()}; is `npm ci` done in {SCRIPT.parent}?")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the oracle could not answer {request}: {answer['error']}")
        if answer["ok"]:
            self.readings.append({"text": request["text"], "reading": answer})
        return answer

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)
