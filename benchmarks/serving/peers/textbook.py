"""What a tutorial shows: FastAPI, a pydantic model of the body, a pandas DataFrame, Booster.predict.

Its categories come as codes, so that it does not pay for pandas' ``astype("category")``.
"""

from __future__ import annotations

from pathlib import Path

from serving.model import Model
from serving.peers.peer import Peer, uvicorn


class Textbook(Peer):
    """FastAPI and pandas."""

    name = "textbook FastAPI + pandas"
    requirements = "textbook"

    def command(self, python: Path, model: Model, port: int, scratch: Path) -> list[str]:
        """Serves apps/textbook.py."""
        return uvicorn(python, "textbook:app", port)
