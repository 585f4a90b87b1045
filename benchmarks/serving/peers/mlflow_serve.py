"""``mlflow models serve`` of the same booster saved with mlflow.lightgbm and its signature, sent as dataframe_split.

All columns are doubles in the signature: categories come as codes. dataframe_split is its documentation's first and
measures faster than dataframe_records.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from serving.model import Model
from serving.peers.peer import APPS, Peer, Rows, dumps


class MlflowServe(Peer):
    """MLflow's scoring server, one worker."""

    name = "mlflow models serve"
    requirements = "mlflow"
    path = "/invocations"
    ready = "/ping"

    def command(self, python: Path, model: Model, port: int, scratch: Path) -> list[str]:
        """Saves the model, then serves it in this very environment."""
        saved = scratch / "model"
        words = [str(APPS / "save_mlflow.py"), str(model.folder / "booster.txt"), str(saved)]
        subprocess.run([str(python), *words], check=True, capture_output=True, env=self._quiet(python))
        words = ["models", "serve", "-m", str(saved), "--env-manager", "local", "--host", "127.0.0.1"]
        return [str(python.with_name("mlflow")), *words, "--port", str(port), "--workers", "1"]

    def environment(self, model: Model) -> dict[str, str]:
        """Nothing is reported home."""
        return {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def body(self, rows: Rows) -> bytes:
        """The columns named once."""
        columns = list(rows[0])
        return dumps({"dataframe_split": {"columns": columns, "data": [list(row.values()) for row in rows]}})

    def _quiet(self, python: Path) -> dict[str, str]:
        return {"PATH": f"{python.parent}:/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true"}
