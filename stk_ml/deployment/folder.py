"""The folder of a local endpoint: which file holds what, and who writes it.

::

    endpoint.json       what is served              written by commands, read by the workers
    launch.json         address, number of workers  written by commands, read by the supervisor
    process.json        the supervisor's processes  written by the supervisor
    workers/INDEX.json  how a worker fares          written by that worker
    rollout.json        the newest canary rollout   written by commands and the roller
    models/DIGEST/      artifacts that are served
    logs/               supervisor.log, worker-INDEX.log

Beside it lies ``.NAME.lock``, held by a command while it changes the endpoint.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from stk_ml import contracts
from stk_ml.deployment import locks
from stk_ml.deployment.rollout import Rollout
from stk_ml.endpoint_state import EndpointState, WorkerStatus
from stk_ml.errors import StorageError


@dataclass(frozen=True)
class Launch:
    """``launch.json``: where the endpoint listens (port 0: a free one) and with how many workers."""

    host: str = "127.0.0.1"
    port: int = 0
    workers: int = 1


@dataclass(frozen=True)
class Child:
    """A worker as its supervisor sees it.

    Attributes:
        index: of the worker.
        pid: of its process; 0 while it waits to be started again.
        restarts: how often it was started again.
        ended: how it ended last, in words; empty when it never did.
    """

    index: int
    pid: int
    restarts: int = 0
    ended: str = ""


@dataclass(frozen=True)
class Process:
    """``process.json``: a supervisor, true for as long as ``supervisor.lock`` is held."""

    pid: int
    started: float
    host: str
    port: int
    workers: tuple[Child, ...] = ()


class Folder:
    """The files of one endpoint.

    Args:
        path: the folder; its name is that of the endpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self.state_file = path / "endpoint.json"
        self.launch_file = path / "launch.json"
        self.process_file = path / "process.json"
        self.rollout_file = path / "rollout.json"
        self.models, self.logs, self.workers = path / "models", path / "logs", path / "workers"
        self.supervisor_lock = path / "supervisor.lock"
        self.roller_lock = path / "roller.lock"
        self.lock = path.with_name(f".{path.name}.lock")

    @property
    def exists(self) -> bool:
        """Whether there is an endpoint here."""
        return self.state_file.is_file()

    def state(self) -> EndpointState:
        """What is to be served; StorageError when the file is damaged."""
        return contracts.read(EndpointState, self.state_file)

    def launch(self) -> Launch | None:
        """Where and how it runs; None before its first start."""
        return contracts.read(Launch, self.launch_file) if self.launch_file.is_file() else None

    def rollout(self) -> Rollout | None:
        """The newest rollout; None when there was none."""
        return contracts.read(Rollout, self.rollout_file) if self.rollout_file.is_file() else None

    def process(self) -> Process | None:
        """The supervisor that runs; None when none does."""
        if not locks.held(self.supervisor_lock):
            return None
        with contextlib.suppress(StorageError):
            return contracts.read(Process, self.process_file)
        return None

    def statuses(self, process: Process | None) -> tuple[WorkerStatus, ...]:
        """What the workers of that supervisor said last; nothing of workers that ended."""
        found = []
        for child in process.workers if process else ():
            with contextlib.suppress(StorageError):
                status = contracts.read(WorkerStatus, self.workers / f"{child.index}.json")
                found += [status] if status.pid == child.pid else []
        return tuple(found)
