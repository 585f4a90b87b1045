"""``stk-ml alerts serve`` as a process of its own, and callers of it over real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from stk_ml.retraining import signature
from stk_ml.retraining.ledger import RunLedger
from stk_ml.vault.local import FileSecretStore

MODEL = """
name: {name}
problem: binary
data: {{table: raw.orders, target: late, as_of: day}}
"""


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


def project(folder: Path, *models: str) -> Path:
    """A project that declares models, but has no data: a retrain of one is started, and fails at its training."""
    (folder / "pipelines" / "models").mkdir(parents=True)
    (folder / "stk.toml").write_text('[project]\nname = "alerts"\n[profile.laptop]\n')
    for name in models:
        (folder / "pipelines" / "models" / f"{name}.yml").write_text(MODEL.format(name=name))
    return folder


class Server:
    """A running server; ``log`` is what it wrote to standard error."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self._flags = folder, flags
        self.log = folder / f"server-{time.monotonic_ns()}.log"

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "stk_ml", "alerts", "serve", "--port", "0", *self._flags]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stderr=log, stdout=log)
        until = time.monotonic() + 60
        while not (found := re.search(r"takes alerts at http://127.0.0.1:(\d+)/alerts", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)
        self.port = int(found[1])
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(signal.SIGTERM)

    def kill(self, number: int = signal.SIGKILL) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        return self.process.wait(30)

    @property
    def secret(self) -> bytes:
        return FileSecretStore(self.folder / ".stk" / "vault.json").get("alert-signature").encode()

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            return _ask(connection, method, path, body, {name.replace("_", "-"): v for name, v in headers.items()})

    def send(self, alert: Any, *, secret: bytes | None = None, now: float | None = None) -> Answer:
        """A signed alert."""
        body = alert if isinstance(alert, bytes) else json.dumps(alert).encode()
        signed = signature.sign(secret or self.secret, body, now=time.time() if now is None else now)
        return self.call("POST", "/alerts", body, x_stk_signature=signed)

    def decision(self, path: str) -> Answer:
        signed = signature.sign(self.secret, path.encode(), now=time.time())
        return self.call("GET", path, x_stk_signature=signed)


def storm(servers: Sequence[Server], alerts: Iterable[Any], *, threads: int = 8) -> list[Answer]:
    """Sends all alerts over kept connections, from several threads, turn by turn to the servers.

    An alert that is answered with 429 is sent again after as long as the answer says.
    """
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for alert in alerts:
        waiting.put(alert)
    secret, answers, troubles = servers[0].secret, [], []

    def work(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", servers[number % len(servers)].port, timeout=60)
        try:
            with contextlib.suppress(queue.Empty), contextlib.closing(connection):
                while True:
                    body = json.dumps(waiting.get_nowait()).encode()
                    while True:
                        headers = {signature.HEADER: signature.sign(secret, body, now=time.time())}
                        answer = _ask(connection, "POST", "/alerts", body, headers)
                        if answer.status != 429:
                            break
                        time.sleep(float(answer.headers["retry-after"]))
                    answers.append(answer)
        except BaseException as error:
            troubles.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not troubles
    return answers


def runs(folder: Path, model: str) -> int:
    """How many retrains of a model there ever were."""
    return len(RunLedger(folder / ".stk" / "monitoring" / model, model).runs())


def wait_for_rest(folder: Path, model: str) -> str:
    """Waits until no retrain of a model runs; how the last one ended."""
    ledger = RunLedger(folder / ".stk" / "monitoring" / model, model)
    until = time.monotonic() + 120
    while ledger.state().running is not None or ledger.worked_on:
        assert time.monotonic() < until
        time.sleep(0.05)
    return ledger.runs()[-1].outcome


def _ask(connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    return Answer(
        answer.status, json.loads(content) if content else None, {k.lower(): v for k, v in answer.getheaders()}
    )
