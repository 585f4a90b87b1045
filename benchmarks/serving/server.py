"""A running server: one core, started and stopped by us, frozen while others are measured."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serving import environments
from serving.model import Model
from serving.peers.peer import Peer

READY_SECONDS = 120.0
CORES = sorted(os.sched_getaffinity(0))
_TICKS = os.sysconf("SC_CLK_TCK")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class FailedError(Exception):
    """A server did not start, answered rubbish, or answered with an error."""


class Server:
    """A peer's process and its children, pinned to one core.

    Attributes:
        peer: what runs.
        port: where, on 127.0.0.1.
        seconds: from start to ready.
    """

    def __init__(self, peer: Peer, model: Model, cache: Path = environments.CACHE) -> None:
        python = environments.python(peer.requirements, cache)
        self.peer, self.model, self.port = peer, model, _free_port()
        self._scratch = tempfile.TemporaryDirectory(prefix="bench-")
        scratch = Path(self._scratch.name)
        command = peer.command(python, model, self.port, scratch)
        path = f"{python.parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        environment = {**os.environ, **_ONE_THREAD, "PATH": path, **peer.environment(model)}
        self._log = scratch / "log"
        self._started = time.perf_counter()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                pinned(CORES[-1], command),
                cwd=scratch,
                env=environment,
                stdin=-3,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.seconds = self._until_ready()
        except BaseException:
            self.stop()
            raise

    def _until_ready(self) -> float:
        while (seconds := time.perf_counter() - self._started) < READY_SECONDS:
            if self.process.poll() is not None:
                raise FailedError(f"{self.peer.name} ended with status {self.process.returncode}: {self.said()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", self.peer.ready, timeout=5)[0] == 200:
                    return time.perf_counter() - self._started
            time.sleep(0.01)
        raise FailedError(f"{self.peer.name} was not ready after {seconds:.0f} s: {self.said()}")

    def request(self, method: str, path: str, body: bytes | None = None, *, timeout: float = 60) -> tuple[int, bytes]:
        """Status and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"content-type": "application/json", **self.peer.headers})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def score(self, rows: Any) -> Any:
        """Its answer to rows; FailedError unless it is a 200."""
        status, body = self.request("POST", self.peer.path, self.peer.body(rows))
        if status != 200:
            raise FailedError(f"{self.peer.name} answered {status} to {len(rows)} rows: {body[:300]!r}")
        return json.loads(body)

    def check(self, rows: int = 50, tolerance: float = 1e-6) -> float:
        """The largest difference of its scores from the right ones; each row alone, then all at once."""
        expected = self.peer.expected(self.model)
        sent = self.peer.rows(self.model)[:rows]
        singly, together = [self.score([row]) for row in sent], self.score(sent)
        if expected is None:
            return 0.0
        scores = [score for answer in singly for score in self.peer.scores(answer)]
        found = [*scores, *self.peer.scores(together)]
        if len(found) != 2 * rows:
            raise FailedError(f"{self.peer.name} gave {len(found)} scores for {2 * rows} rows")
        worst = max(abs(one - other) for one, other in zip(found, expected[:rows] * 2, strict=True))
        if not worst <= tolerance:
            raise FailedError(f"{self.peer.name}: a score of {rows} rows is off by {worst:g}")
        return worst

    def said(self) -> str:
        """The end of its log, on one line."""
        return " ".join(self._log.read_text(errors="replace").split())[-600:]

    def rss(self) -> float:
        """Resident memory of its largest process, the worker, in MB."""
        return max(map(resident, self.processes()))

    def cpu(self) -> float:
        """Processor seconds that it has used."""
        return sum(map(_cpu, self.processes()))

    def processes(self) -> list[int]:
        """Its process and all its descendants."""
        return descendants(self.process.pid)

    def pause(self) -> None:
        """Waits until it has finished what it was asked, then freezes it."""
        self._until_idle()
        for pid in self.processes():
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it run again."""
        for pid in self.processes():
            _signal(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Resumed within, paused outside."""
        self.resume()
        try:
            yield
        finally:
            self.pause()

    def _until_idle(self, seconds: float = 30) -> None:
        until, before = time.perf_counter() + seconds, -1.0
        while time.perf_counter() < until and (used := self.cpu()) - before > 0.02:
            before = used
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends it and its children."""
        pids = self.processes()
        self.resume()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self.process.wait()
        self._scratch.cleanup()


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """A command on one core, with the priority that BENCH_NICE says (default: as it is)."""
    return ["nice", "-n", os.environ.get("BENCH_NICE", "0"), "taskset", "-c", str(core), *command]


def descendants(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _cpu(pid: int) -> float:
    """Processor time that a process has used; 0 when it has ended."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return []


def resident(pid: int) -> float:
    """Resident memory of a process in MB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def _signal(pid: int, which: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, which)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
