"""Real processes and sockets: kill -9 of workers and supervisors, restarts, drains, logs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import ask, kill, until

from stk_ml.deployment import supervisor
from stk_ml.deployment.local import LocalEndpointManager
from stk_ml.errors import DeploymentError

Artifact = Callable[..., tuple[Path, str]]


@pytest.fixture
def url(manager: LocalEndpointManager, artifact: Artifact) -> str:
    """Where an endpoint of two workers answers."""
    folder, digest = artifact("one")
    return manager.deploy("e", folder, "m", 1, digest, workers=2).url


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Load:
    """Asks again and again from several threads until it is left; ``failed`` holds what went wrong."""

    def __init__(self, url: str, threads: int = 4) -> None:
        self._url, self._ends = url, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        self.answers: list[dict[str, Any]] = []
        self.failed: list[Exception] = []

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                self.answers.append(ask(self._url))
            except Exception as error:
                self.failed.append(error)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()


def test_a_killed_worker_loses_only_what_it_had_in_work(manager: LocalEndpointManager, url: str) -> None:
    before = manager.status("e")
    victim = before.workers[0].pid
    with Load(url) as load:
        kill(victim, signal.SIGKILL)
        assert until(lambda: manager.status("e").restarts == (1, 0) and manager.status("e").ready)
        count = len(load.answers)
        assert until(lambda: len(load.answers) > count + 20)
    assert len(load.failed) <= 4
    assert manager.status("e").workers[0].pid not in (0, victim)
    assert manager.status("e").workers[1].pid == before.workers[1].pid
    assert any("worker 0 was killed by SIGKILL" in line for line in manager.logs("e"))


def test_a_request_waits_while_no_worker_runs(manager: LocalEndpointManager, url: str) -> None:
    with Load(url) as load:
        for worker in manager.status("e").workers:
            kill(worker.pid, signal.SIGKILL)
        assert until(lambda: manager.status("e").restarts == (1, 1) and manager.status("e").ready)
    assert len(load.failed) <= 4
    assert not any(isinstance(error, ConnectionRefusedError) for error in load.failed)


def test_the_workers_of_a_killed_supervisor_end_and_the_next_start_takes_the_same_port(
    manager: LocalEndpointManager, url: str
) -> None:
    before = manager.status("e")
    kill(before.pid, signal.SIGKILL)
    assert until(lambda: all(gone(worker.pid) for worker in before.workers))
    dead = manager.status("e")
    assert (dead.running, dead.pid, dead.workers) == (False, 0, ())
    after = manager.start("e")
    assert (after.url, after.ready) == (url, True)
    assert ask(url)["deployment"] == "v1"


def test_a_start_does_not_wait_for_the_workers_of_a_killed_supervisor(manager: LocalEndpointManager, url: str) -> None:
    kill(manager.status("e").pid, signal.SIGKILL)
    assert manager.start("e").url == url


def test_a_stop_answers_what_was_begun(manager: LocalEndpointManager, url: str) -> None:
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(ask(url, path="/slow")))
    asking.start()
    until(lambda: _busy(url))
    assert manager.stop("e")
    asking.join()
    assert answers[0]["deployment"] == "v1"
    assert not manager.stop("e")
    with pytest.raises(ConnectionRefusedError):
        ask(url)


def _busy(url: str) -> bool:
    """Whether a worker has accepted: nothing waits in the queue of the listening socket."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    connected = [row for row in rows if row[1].endswith(port) and row[3] == "01"]
    waiting = [row for row in rows if row[1].endswith(port) and row[3] == "0A" and not row[4].endswith(":00000000")]
    return bool(connected) and not waiting


def test_the_number_of_workers_changes_while_it_answers(manager: LocalEndpointManager, url: str) -> None:
    before = manager.status("e")
    with Load(url) as load:
        assert len(manager.start("e", workers=4).workers) == 4
        fewer = manager.start("e", workers=1)
    assert not load.failed
    assert [worker.pid for worker in fewer.workers] == [before.workers[0].pid]
    assert until(lambda: gone(before.workers[1].pid))


def test_a_supervisor_is_alone(manager: LocalEndpointManager, url: str) -> None:
    words = [sys.executable, "-m", "stk_ml.deployment.supervisor", str(manager.folder("e").path), "--", "true"]
    second = subprocess.run(words, capture_output=True, text=True)
    assert second.returncode == 1
    assert "has a supervisor already" in second.stderr
    assert manager.status("e").ready


def test_an_address_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(DeploymentError, match="cannot be listened on: Address already in use") as caught:
            supervisor.listen("127.0.0.1", taken.getsockname()[1], seconds=0.1)
        assert "--port" in caught.value.hint
    for host, port in (("192.0.2.1", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 70_000)):
        with pytest.raises(DeploymentError, match="cannot be listened on"):
            supervisor.listen(host, port, seconds=0.1)


def test_a_log_that_grows_too_large_is_moved_aside_under_its_writer(tmp_path: Path) -> None:
    file = tmp_path / "worker-0.log"
    with file.open("ab", buffering=0) as writer:
        writer.write(b"x" * 1000)
        supervisor.bound(file, 999)
        writer.write(b"more")
        supervisor.bound(file, 999)
    assert file.read_bytes() == b"more"
    assert (tmp_path / "worker-0.log.1").stat().st_size == 1000


def test_crashes_in_a_row_are_waited_for_longer_and_longer() -> None:
    pauses = [supervisor.pause(crashes) for crashes in range(1, 12)]
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0
    assert supervisor.pause(10_000) == 30.0
