"""What the benchmark must know about a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from serving.model import Model

APPS = Path(__file__).parents[1] / "apps"
Rows = Sequence[Mapping[str, Any]]


class Peer:
    """A server: how it is started with one worker, asked, and understood.

    Attributes:
        name: shown in the results.
        requirements: its list in requirements/, without .txt.
        path: where rows are sent to.
        ready: path that answers 200 once it can score.
        headers: sent with each request, beside content-type.
    """

    name: ClassVar[str]
    requirements: ClassVar[str]
    path: str = "/score"
    ready: ClassVar[str] = "/health"
    headers: Mapping[str, str] = {}

    def command(self, python: Path, model: Model, port: int, scratch: Path) -> list[str]:
        """The command line that serves ``model`` on 127.0.0.1:``port`` in the foreground; ``scratch`` is its own."""
        raise NotImplementedError

    def environment(self, model: Model) -> dict[str, str]:
        """Variables that its process needs."""
        return {"BENCH_BOOSTER": str(model.folder / "booster.txt")}

    def rows(self, model: Model) -> Rows:
        """The rows in the form that it is sent."""
        return model.coded

    def expected(self, model: Model) -> list[float] | None:
        """The right answers, one per row; None when it does not score."""
        return model.raw

    def body(self, rows: Rows) -> bytes:
        """A request for these rows, in the shape that its own documentation shows for JSON."""
        return dumps({"data": rows})

    def scores(self, answer: Any) -> list[float]:
        """The scores in its answer."""
        return list(answer["predictions"])


def dumps(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def uvicorn(python: Path, app: str, port: int) -> list[str]:
    """One worker of uvicorn with its fastest parts and no access log."""
    words = ["-m", "uvicorn", app, "--app-dir", str(APPS), "--port", str(port), "--loop", "uvloop"]
    return [str(python), *words, "--http", "httptools", "--no-access-log", "--log-level", "warning"]
