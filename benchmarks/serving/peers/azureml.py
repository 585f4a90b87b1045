"""azureml-inference-server-http: what Azure ML's own images run, with a score.py as its templates show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.model import Model
from serving.peers.peer import APPS, Peer


class AzureML(Peer):
    """azmlinfsrv, one worker."""

    name = "azureml-inference-server-http"
    requirements = "azureml"
    ready = "/"

    def command(self, python: Path, model: Model, port: int, scratch: Path) -> list[str]:
        """Its command, azmlinfsrv."""
        words = ["--entry_script", str(APPS / "azureml_score.py"), "--model_dir", str(model.folder)]
        return [str(python.with_name("azmlinfsrv")), *words, "--port", str(port), "--health_port", str(port)]

    def scores(self, answer: Any) -> list[float]:
        """The answer itself."""
        return list(answer)
