"""BentoML: a service with one API that takes an ndarray, batching allowed.

With 16 connections batching doubled its throughput over the same service without; with one connection it waits in vain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.model import Model
from serving.peers.peer import APPS, Peer, Rows, dumps


class Bento(Peer):
    """bentoml serve, one worker."""

    name = "BentoML"
    requirements = "bentoml"
    ready = "/readyz"

    def command(self, python: Path, model: Model, port: int, scratch: Path) -> list[str]:
        """Its command, bentoml serve."""
        words = ["serve", "bento:Scorer", "--working-dir", str(APPS), "--host", "127.0.0.1"]
        return [str(python.with_name("bentoml")), *words, "--port", str(port)]

    def environment(self, model: Model) -> dict[str, str]:
        """Nothing is reported home."""
        return {**super().environment(model), "BENTOML_DO_NOT_TRACK": "True"}

    def body(self, rows: Rows) -> bytes:
        """A list of lists."""
        return dumps({"data": [list(row.values()) for row in rows]})

    def scores(self, answer: Any) -> list[float]:
        """The answer itself."""
        return list(answer)
