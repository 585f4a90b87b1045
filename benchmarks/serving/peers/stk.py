"""``stk-ml serve`` of the artifact, as it comes: API key, validation, telemetry to Parquet; categories as text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from serving.model import Model
from serving.peers.peer import Peer, Rows


class Stk(Peer):
    """Ours, one worker. ``telemetry=False`` is only there to measure what telemetry costs."""

    name = "stk-ml serve"
    requirements = ""
    ready = "/health/ready"

    def __init__(self, *, telemetry: bool = True) -> None:
        self.telemetry = telemetry
        if not telemetry:
            self.name = "stk-ml serve, telemetry off"  # type: ignore[misc]

    def command(self, python: Path, model: Model, port: int, scratch: Path) -> list[str]:
        """stk-ml serve FOLDER, with a vault of its own."""
        from stk_ml.vault import keys
        from stk_ml.vault.local import FileSecretStore

        (scratch / "stk.toml").write_text('[project]\nname = "bench"\nprofile = "laptop"\n\n[profile.laptop]\n')
        vault = FileSecretStore(scratch / ".stk/vault.json")
        keys.ensure(vault, "bench-serving")
        self.headers = {"x-api-key": dict(keys.read(vault, "bench-serving"))["primary"]}
        words = ["serve", str(model.folder), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        return [sys.executable, "-m", "stk_ml", *words, *([] if self.telemetry else ["--no-telemetry"])]

    def environment(self, model: Model) -> dict[str, str]:
        """None."""
        return {}

    def rows(self, model: Model) -> Rows:
        """As an app knows them."""
        return model.records

    def expected(self, model: Model) -> list[float]:
        """Ours calibrates."""
        return model.calibrated

    def scores(self, answer: Any) -> list[float]:
        """One prediction a row."""
        return list(answer["predictions"])
