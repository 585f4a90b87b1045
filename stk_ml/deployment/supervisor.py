"""The supervisor of a local endpoint: listens, starts workers that inherit the socket, starts crashed ones again.

``python -m stk_ml.deployment.supervisor FOLDER -- COMMAND...`` listens as ``launch.json`` says, leaves the terminal
behind and returns once it listens. A worker is ``COMMAND... --fd N --worker INDEX``. All workers accept from the one
socket, so when one is killed only the requests it had are lost: the others, or the one started in its place, take the
rest. SIGTERM drains and ends the workers; SIGHUP reads ``launch.json`` again for the number of workers.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stk_ml import contracts
from stk_ml.deployment import locks
from stk_ml.deployment.folder import Child, Folder, Launch, Process
from stk_ml.errors import DeploymentError, StkMlError

log = logging.getLogger("stk_ml.deployment")
_BACKLOG = 2048
_HEALTHY = 60.0
_TICK = 1.0
_LOG_BYTES = 8 * 2**20
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def pause(crashes: int) -> float:
    """Seconds to wait before a worker that crashed so many times in a row is started again.

    Example:
        >>> [pause(crashes) for crashes in (1, 2, 3, 20)]
        [0.1, 0.2, 0.4, 30.0]
    """
    return float(min(0.1 * 2 ** (min(crashes, 20) - 1), 30.0))


class Worker:
    """One worker: its process, and when to start the next one.

    Attributes:
        restarts: how often it was started again.
        ended: how it ended last, in words.
        due: when to start it, on the monotonic clock.
        leaving: whether it was told to end.
    """

    def __init__(self, index: int, command: Sequence[str], folder: Folder) -> None:
        self.index, self.folder = index, folder
        self._command = [*command, "--worker", str(index)]
        self._process: subprocess.Popen[bytes] | None = None
        self._crashes, self._started = 0, 0.0
        self.restarts, self.ended, self.due, self.leaving = 0, "", 0.0, False

    @property
    def pid(self) -> int:
        """Of its process; 0 while there is none."""
        return self._process.pid if self._process else 0

    def start(self, listening: socket.socket) -> None:
        """Starts the process; a system that refuses is asked again after a pause."""
        self._started = time.monotonic()
        try:
            (self.folder.workers / f"{self.index}.json").unlink(missing_ok=True)
            with (self.folder.logs / f"worker-{self.index}.log").open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603
                    [*self._command, "--fd", str(listening.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[listening.fileno()],
                )
        except OSError as error:
            self._ended(f"could not be started: {error}")
        else:
            log.info("worker %d started, pid %d", self.index, self.pid)

    def reap(self) -> bool:
        """Whether it has ended since last asked; then it is due again after a pause."""
        code = self._process.poll() if self._process else None
        if self._process is None or code is None:
            return False
        self._process = None
        self._ended(_how(code))
        return True

    def _ended(self, how: str) -> None:
        now = time.monotonic()
        self._crashes = 1 if now - self._started > _HEALTHY else self._crashes + 1
        self.ended, self.restarts, self.due = how, self.restarts + 1, now + pause(self._crashes)
        if not self.leaving:
            log.warning("worker %d %s; started again in %.1f s", self.index, how, pause(self._crashes))

    def tell(self, sign: signal.Signals) -> None:
        """Sends a signal; SIGTERM means that it is not started again."""
        self.leaving = True
        if self._process:
            self._process.send_signal(sign)


class Supervisor:
    """Keeps the workers of one endpoint running until SIGTERM.

    Args:
        folder: of the endpoint.
        command: of a worker, without ``--fd`` and ``--worker``.
        listening: the socket.
        count: number of workers.
        grace: seconds that a worker has to answer what it has begun before it is killed.
    """

    def __init__(
        self, folder: Folder, command: Sequence[str], listening: socket.socket, count: int, *, grace: float = 40.0
    ) -> None:
        self._folder, self._command, self._listening, self._grace = folder, command, listening, grace
        self._workers = [Worker(index, command, folder) for index in range(count)]
        self._leaving: list[Worker] = []
        self._started = time.time()
        self._ends = self._rereads = False

    def run(self) -> None:
        """Runs until every worker has ended after a SIGTERM."""
        reading, writing = socket.socketpair()
        for end in (reading, writing):
            end.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        for sign in _SIGNALS:
            signal.signal(sign, self._signalled)
        while not self._ends:
            self._look()
            select.select([reading], [], [], self._seconds())
            with contextlib.suppress(BlockingIOError):
                reading.recv(4096)
        self._end()

    def _signalled(self, number: int, _: object) -> None:
        self._ends |= number in (signal.SIGTERM, signal.SIGINT)
        self._rereads |= number == signal.SIGHUP

    def _look(self) -> None:
        """Starts what is due, notes what has ended, keeps the logs small."""
        if self._rereads:
            self._rereads = False
            self._resize()
        changed = [worker.reap() for worker in (*self._workers, *self._leaving)]
        self._leaving = [worker for worker in self._leaving if worker.pid]
        for worker in self._workers:
            if not worker.pid and worker.due <= time.monotonic():
                worker.start(self._listening)
                changed.append(True)
        if any(changed):
            self.tell()
        for file in self._folder.logs.glob("*.log"):
            bound(file)

    def _resize(self) -> None:
        launch = self._folder.launch() or Launch()
        count = len(self._workers)
        for index in range(count, launch.workers):
            self._workers.append(Worker(index, self._command, self._folder))
        for worker in self._workers[launch.workers :]:
            worker.tell(signal.SIGTERM)
            self._leaving.append(worker)
        self._workers = self._workers[: launch.workers]
        log.info("%d workers, were %d", launch.workers, count)
        self.tell()

    def _seconds(self) -> float:
        waits = [worker.due - time.monotonic() for worker in self._workers if not worker.pid]
        return max(0.0, min([_TICK, *waits]))

    def tell(self) -> None:
        """Writes ``process.json``; a full disk must not end the endpoint."""
        host, port = self._listening.getsockname()[:2]
        children = tuple(Child(each.index, each.pid, each.restarts, each.ended) for each in self._workers)
        try:
            contracts.write(Process(os.getpid(), self._started, host, port, children), self._folder.process_file)
        except StkMlError as error:
            log.error("%s", error)

    def _end(self) -> None:
        log.info("ends: workers answer what they have begun")
        self._listening.close()
        everyone = [*self._workers, *self._leaving]
        for worker in everyone:
            worker.tell(signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        self._ends = False
        while any(worker.pid for worker in everyone):
            if self._ends or time.monotonic() > deadline:
                for worker in everyone:
                    worker.tell(signal.SIGKILL)
            time.sleep(0.02)
            for worker in everyone:
                worker.reap()
        self._folder.process_file.unlink(missing_ok=True)
        log.info("ended")


def bound(file: Path, most: int = _LOG_BYTES) -> None:
    """Moves what a log holds to ``NAME.1`` once it is larger than that; its writers append and need not know."""
    with contextlib.suppress(OSError):
        if file.stat().st_size > most:
            shutil.copyfile(file, file.with_name(f"{file.name}.1"))
            os.truncate(file, 0)


def listen(host: str, port: int, *, seconds: float = 0.0) -> socket.socket:
    """A listening socket.

    Args:
        host: address or name.
        port: number; 0 for a free one.
        seconds: how long to wait for a port that another process is about to leave.

    Raises:
        DeploymentError: the address is not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + seconds
    while True:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            listening.close()
            if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            why = getattr(error, "strerror", None) or error
            raise DeploymentError(
                f"{host}:{port} cannot be listened on: {why}", hint="give a free one with --port"
            ) from error
        return listening


def main(argv: Sequence[str] | None = None) -> int:
    """Starts a supervisor and returns once it listens; exit code 1 with the reason on standard error when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m stk_ml.deployment.supervisor", description="supervises an endpoint"
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", nargs="+", help="of a worker, after --")
    args = parser.parse_args(argv)
    folder = Folder(args.folder)
    try:
        lock = locks.take(folder.supervisor_lock)
        if lock is None:
            raise DeploymentError(f"endpoint {folder.name} has a supervisor already")
        killed = folder.process_file.exists()  # the one before; its workers are about to leave the port
        folder.process_file.unlink(missing_ok=True)
        for path in (folder.logs, folder.workers):
            path.mkdir(parents=True, exist_ok=True)
        launch = folder.launch() or Launch()
        listening = listen(launch.host, launch.port, seconds=15.0 if killed else 0.0)
        # The port that was found is kept for later starts.
        contracts.write(Launch(launch.host, listening.getsockname()[1], launch.workers), folder.launch_file)
    except (StkMlError, OSError) as error:
        print(f"{error}\n{getattr(error, 'hint', '')}", file=sys.stderr)  # noqa: T201
        return 1
    supervisor = Supervisor(folder, args.command, listening, launch.workers)
    if _leave_terminal(folder.logs / "supervisor.log"):
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    log.info("listens on %s:%d, pid %d", *listening.getsockname()[:2], os.getpid())
    try:
        supervisor.run()
    except BaseException:
        log.exception("the supervisor failed")
        return 1
    return 0


def _leave_terminal(output: Path) -> bool:
    """Goes on in a new process and session whose output is a file; whether this is the one that stays behind."""
    if os.fork():
        return True
    os.setsid()
    descriptors = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for target, source in ((0, descriptors[0]), (1, descriptors[1]), (2, descriptors[1])):
        os.dup2(source, target)
    for descriptor in descriptors:
        os.close(descriptor)
    return False


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


if __name__ == "__main__":
    sys.exit(main())
