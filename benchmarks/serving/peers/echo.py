"""The ceiling: a bare ASGI app under uvicorn (uvloop, httptools) that parses the JSON and answers a small one."""

from __future__ import annotations

from pathlib import Path

from serving.model import Model
from serving.peers.peer import Peer, uvicorn


class Echo(Peer):
    """Scores nothing."""

    name = "bare uvicorn echo"
    requirements = "echo"

    def command(self, python: Path, model: Model, port: int, scratch: Path) -> list[str]:
        """Serves apps/echo.py."""
        return uvicorn(python, "echo:app", port)

    def expected(self, model: Model) -> None:
        """None: it scores nothing."""
        return
