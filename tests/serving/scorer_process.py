"""A scorer as a process of its own, on a free port, and raw connections to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stk_ml.vault import keys
from stk_ml.vault.local import FileSecretStore


@dataclass
class Scorer:
    """A running scorer: where it is, the headers that let a caller in, and what it has said on standard error."""

    process: subprocess.Popen[str]
    port: int
    headers: dict[str, str]
    said: list[str]
    project: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connection(self, timeout: float = 20) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def stop(self, sign: int = signal.SIGTERM) -> int:
        self.process.send_signal(sign)
        return self.process.wait(30)


@contextmanager
def scorer(project: Path, model: Path | str, *flags: str, environ: Mapping[str, str] = {}) -> Iterator[Scorer]:
    """Starts ``stk-ml serve MODEL`` in a project and waits until it answers."""
    store = FileSecretStore(project / ".stk" / "vault.json")
    name = "late-parcel"
    keys.ensure(store, name)
    headers = {"x-api-key": dict(keys.read(store, name))["primary"]}
    words = [str(model), "--port", "0", *flags] if str(model) else ["--port", "0", *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", "stk_ml", "serve", *words],
        cwd=project,
        env={**os.environ, "STK_ML_PROJECT": str(project), **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    told = threading.Event()
    port: list[int] = []

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/score", line):
                port.append(int(found[1]))
                told.set()
        told.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        assert told.wait(60), "it says nothing"
        assert port, "".join(said)
        yield Scorer(process, port[0], headers, said, project)
    finally:
        process.kill()
        process.wait()
        listener.join(5)


def post(connection: http.client.HTTPConnection, body: Any, headers: Mapping[str, str], path: str = "/score") -> Any:
    """Sends records on an open connection; returns the status and the answer's JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, content, {"content-type": "application/json", **headers})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())
