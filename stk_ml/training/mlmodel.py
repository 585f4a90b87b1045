"""The files that make an artifact an MLflow model: ``MLmodel`` and what its environment needs.

``mlflow.pyfunc.save_model`` would write them too, but it needs pandas, which a training does not.
"""

from __future__ import annotations

import importlib
import os
import platform
import threading
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

LOADER = "stk_ml.artifact.mlflow_flavor"
_NEEDED = ("mlflow-skinny", "lightgbm", "msgspec", "numpy", "pyarrow", "pyyaml")
_ESTIMATOR = ("scikit-learn", "skops")


class Preload:
    """Imports MLflow beside the fit: it takes seconds of reading files, and the fit runs outside of the interpreter."""

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._thread = threading.Thread(target=self._run, name="import-mlflow", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            _import()
        except Exception:
            return  # the import in the foreground says why

    def module(self) -> ModuleType:
        """``mlflow.models``, when it is there."""
        self._thread.join()
        return _import()


def _import() -> ModuleType:
    return importlib.import_module("mlflow.models")


def write(folder: Path, mlflow_models: ModuleType, *, estimator: bool, metadata: dict[str, Any]) -> None:
    """Writes ``MLmodel``, ``python_env.yaml``, ``conda.yaml`` and ``requirements.txt``.

    Args:
        folder: the artifact.
        mlflow_models: the module ``mlflow.models``.
        estimator: whether scikit-learn is needed to load it.
        metadata: kept in ``MLmodel`` for people.
    """
    needed = sorted((*_NEEDED, *(_ESTIMATOR if estimator else ())))
    requirements = [f"{name}=={version(name)}" for name in needed]
    # stk-ml is not listed: the image brings it, and a public index must not be asked for a private name.
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements), "utf-8")
    python = platform.python_version()
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    _yaml(folder / "python_env.yaml", environment)
    conda = {"channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": requirements}]}
    _yaml(folder / "conda.yaml", {"name": "stk-ml", **conda})
    model = mlflow_models.Model(metadata=metadata)
    env = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    model.add_flavor("python_function", loader_module=LOADER, python_version=python, env=env)
    model.save(str(folder / "MLmodel"))


def _yaml(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
