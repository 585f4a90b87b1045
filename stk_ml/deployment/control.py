"""Starts and ends the processes of a local endpoint, and waits until its workers serve what they should."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stk_ml import contracts
from stk_ml.deployment import locks, tail
from stk_ml.deployment.folder import Folder, Launch, Process
from stk_ml.deployment.protocol import Progress
from stk_ml.endpoint_state import WorkerStatus
from stk_ml.errors import DeploymentError, UsageError

_PAUSE = 0.03
#: Deaths of one worker within one change that make the change fail.
_DEATHS = 3
#: Seconds after which a worker has seen a new state for certain (it looks several times a second).
_SEEN = 1.5


def start(
    folder: Folder, command: Sequence[str], environment: Mapping[str, str], launch: Launch, *, seconds: float
) -> Process:
    """Starts the supervisor unless it runs; the number of workers is changed while it runs.

    Raises:
        UsageError: it runs at another address than asked for.
        DeploymentError: the address is taken, or it did not come up.
    """
    running, before = _running(folder, seconds), folder.launch()
    if running:
        if (launch.host, launch.port) != (running.host, running.port):
            raise UsageError(
                f"endpoint {folder.name} listens on {running.host}:{running.port} already, not on "
                f"{launch.host}:{launch.port}",
                hint=f"stk-ml endpoint stop {folder.name}, then start it with --host and --port",
            )
        if before != launch:
            contracts.write(launch, folder.launch_file)
            os.kill(running.pid, signal.SIGHUP)
        return running
    contracts.write(launch, folder.launch_file)
    words = [sys.executable, "-m", "stk_ml.deployment.supervisor", str(folder.path), "--", *command]
    environ = {**os.environ, **environment}
    ran = subprocess.run(words, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder.path)  # noqa: S603
    if ran.returncode:
        if before:
            contracts.write(before, folder.launch_file)
        message, _, hint = ran.stderr.strip().partition("\n")
        raise DeploymentError(f"endpoint {folder.name} cannot be started: {message}", hint=hint.strip())
    process = _running(folder, seconds)
    if process is None:
        raise DeploymentError(
            f"the supervisor of endpoint {folder.name} ended at once", hint=f"look at {folder.logs / 'supervisor.log'}"
        )
    return process


def _running(folder: Folder, seconds: float) -> Process | None:
    """The supervisor; one that is about to come up is waited for."""
    deadline = time.monotonic() + seconds
    while locks.held(folder.supervisor_lock):
        if process := folder.process():
            return process
        if time.monotonic() > deadline:
            raise DeploymentError(
                f"the supervisor of endpoint {folder.name} does not say where it runs",
                hint=f"look at {folder.logs / 'supervisor.log'}",
            )
        time.sleep(_PAUSE)
    return None


def stop(folder: Folder, *, seconds: float, progress: Progress) -> bool:
    """Ends the processes; requests in work are answered first. Whether they ran.

    Raises:
        DeploymentError: they did not end in time.
    """
    process = _running(folder, seconds)
    if process is None:
        return False
    progress("waits for the workers to answer what they have begun")
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while locks.held(folder.supervisor_lock):
        if time.monotonic() > deadline:
            raise DeploymentError(
                f"endpoint {folder.name} has not ended within {seconds:g} s (pid {process.pid})",
                hint="try again: a second stop ends it without waiting",
            )
        time.sleep(_PAUSE)
    return True


class Wait:
    """Waits until every worker serves a revision. Made before the change, so that older troubles do not count.

    Args:
        folder: of the endpoint.
        seconds: how long to wait.
        progress: told what is waited for.
    """

    def __init__(self, folder: Folder, *, seconds: float, progress: Progress) -> None:
        self._folder, self._seconds, self._progress = folder, seconds, progress
        process = folder.process()
        self._troubles = {(each.pid, each.error) for each in folder.statuses(process)}
        self._restarts = _restarts(process)
        self._begun = time.time()

    def until(self, revision: int, *, answers: bool) -> None:
        """Returns once every worker serves the revision.

        Args:
            revision: of the state.
            answers: whether some deployment has traffic, so that the workers must be ready.

        Raises:
            DeploymentError: a worker cannot serve it, keeps ending, or does not in time; names the log.
        """
        deadline = time.monotonic() + self._seconds
        told = ""
        while True:
            process = self._folder.process()
            launch = self._folder.launch() or Launch()
            statuses = self._folder.statuses(process)
            self._refuse(process, statuses)
            done = [each for each in statuses if each.revision >= revision and (each.ready or not answers)]
            if process and len(done) == launch.workers == len(process.workers):
                return
            waits = f"{len(done)} of {launch.workers} workers serve it"
            if waits != told:
                told = waits
                self._progress(waits)
            if time.monotonic() > deadline:
                late = f"only {waits} after {self._seconds:g} s"
                raise self._failed(late, f"worker-{_first_missing(launch.workers, done)}.log")
            time.sleep(_PAUSE)

    def _refuse(self, process: Process | None, statuses: tuple[WorkerStatus, ...]) -> None:
        if process is None and not locks.held(self._folder.supervisor_lock):
            raise self._failed("its supervisor has ended", "supervisor.log")
        for status in statuses:
            old = (status.pid, status.error) in self._troubles and status.updated < self._begun + _SEEN
            if status.error and not old:
                raise self._failed(
                    f"worker {status.index} cannot serve it: {status.error}", f"worker-{status.index}.log"
                )
        for child in process.workers if process else ():
            if child.restarts - self._restarts.get(child.index, 0) >= _DEATHS:
                file = self._folder.logs / f"worker-{child.index}.log"
                last = next((line for line in reversed(tail.last(file, 20)) if line.strip()), "")
                said = f" after {last.strip()[:300]!r}" if last else ""
                raise self._failed(f"worker {child.index} {child.ended} again and again{said}", file.name)

    def _failed(self, why: str, log: str) -> DeploymentError:
        return DeploymentError(f"endpoint {self._folder.name}: {why}", hint=f"look at {self._folder.logs / log}")


def settings_environment(settings_project: Path, profile: str, flags: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a worker finds the project's settings.

    Example:
        >>> settings_environment(Path("/p"), "laptop", {"vault": "/v.json"})
        {'STK_ML_PROJECT': '/p', 'STK_ML_PROFILE': 'laptop', 'STK_ML_VAULT': '/v.json'}
    """
    given = {f"STK_ML_{name.upper()}": value for name, value in flags.items()}
    return {"STK_ML_PROJECT": str(settings_project), "STK_ML_PROFILE": profile, **given}


def wanted(before: Launch | None, host: str | None, port: int | None, workers: int | None) -> Launch:
    """What was asked for, and else as it ran before.

    Raises:
        UsageError: a number makes no sense.

    Example:
        >>> wanted(Launch(port=8001), None, None, 4)
        Launch(host='127.0.0.1', port=8001, workers=4)
    """
    launch = before or Launch()
    if workers is not None and not 1 <= workers <= 256:
        raise UsageError(f"an endpoint cannot run with {workers} workers", hint="give 1 to 256, such as one per core")
    if port is not None and not 0 <= port <= 65535:
        raise UsageError(f"{port} is not a port", hint="give 0 to 65535; 0 takes a free one")
    host, port, workers = (
        launch.host if host is None else host,
        launch.port if port is None else port,
        launch.workers if workers is None else workers,
    )
    return replace(launch, host=host, port=port, workers=workers)


def _restarts(process: Process | None) -> dict[int, int]:
    return {child.index: child.restarts for child in process.workers} if process else {}


def _first_missing(count: int, done: Sequence[WorkerStatus]) -> int:
    present = {status.index for status in done}
    return next((index for index in range(count) if index not in present), 0)
