"""Endpoints of a project of their own, and folders that their stand-in workers take for models."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoint_rig import WORKER, kill, until

from stk_ml.artifact import manifest
from stk_ml.deployment.local import LocalEndpointManager
from stk_ml.settings import Settings


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Makes a sealed folder that the stand-in worker takes for a model; gives it with its digest."""

    def make(name: str, *marks: str) -> tuple[Path, str]:
        folder = tmp_path / "artifacts" / name
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps({"name": name}))
        for mark in marks:
            (folder / mark).write_text("")
        return folder, manifest.seal(folder)

    return make


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[LocalEndpointManager]:
    """Endpoints of a project of their own, with stand-in workers; ended after the test."""
    project = tmp_path / "project"
    project.mkdir()
    manager = LocalEndpointManager(Settings.load(project, environ={}), worker_command=WORKER, seconds=20)
    yield manager
    for name in manager.names():
        process = manager.folder(name).process()
        if process:
            for sign in (signal.SIGTERM, signal.SIGKILL):
                for pid in [process.pid, *(child.pid for child in process.workers if sign == signal.SIGKILL)]:
                    kill(pid, sign)
                if sign == signal.SIGTERM and until(lambda name=name: manager.folder(name).process() is None, 10):
                    break
