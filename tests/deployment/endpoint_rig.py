"""Calls an endpoint, waits for it, kills its processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

WORKER = (sys.executable, str(Path(__file__).with_name("standin_worker.py")))


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


def die_before_rename(count: int) -> None:
    """Kills this process when it is about to rename a file for the time after ``count``."""
    left = [count]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename":
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(hook)
