from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from stk_ml.artifact import manifest
from stk_ml.deployment.local import LocalEndpointManager
from stk_ml.settings import Settings

WORKER = (sys.executable, str(Path(__file__).with_name("standin_worker.py")))


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


def kill(pid: int, sign: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)


def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """The first true answer of a condition; the last one when time is over."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def ask(url: str, request_id: str = "", path: str = "/score") -> dict[str, Any]:
    """What an endpoint answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request("POST", path, b"{}", {"x-request-id": request_id})
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()
