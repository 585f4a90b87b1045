"""One worker process of the scoring app: uvicorn with uvloop and httptools, drained on SIGTERM.

A worker serves either one model, or the folder of an endpoint: then it follows the endpoint's state, tells how it fares
once a second, and ends when its supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from stk_ml import contracts
from stk_ml.endpoint_state import Deployment, WorkerStatus
from stk_ml.serving import express
from stk_ml.serving.app import ScoringApp, create_app
from stk_ml.serving.limits import Limits
from stk_ml.serving.models import EndpointFolder, LoadedModels
from stk_ml.serving.protocol import Hook, Verifier

log = logging.getLogger("stk_ml.serving")
_TICK = 0.2
_BACKLOG = 2048
_FEW, _TURN = 8, 0.001
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


@dataclass(frozen=True)
class Telemetry:
    """How hooks are made and let go.

    Attributes:
        unrouted: takes the requests that reach no deployment.
        open: makes the hook of a deployment.
        release: lets go of one.
        close: writes what is left, within so many seconds.
        tidy: called about once an hour, by one worker.
    """

    unrouted: Hook
    open: Callable[[Deployment], Hook]
    release: Callable[[Hook], None]
    close: Callable[[float], None]
    tidy: Callable[[], None] = lambda: None


class DrainingServer(uvicorn.Server):
    """uvicorn, with a fair share of the connections and an end that fails no request.

    Of several workers at one socket, an event loop that accepts all that wait would take every connection and leave the
    others idle. So it accepts one per turn, and once it has a few, pauses after each so that the others have theirs.

    On SIGTERM it says that it is not ready and goes on answering for a moment, in which whoever sends callers here
    takes notice; each answer closes its connection. Then it answers those that wait to be accepted, listens no more,
    and closes idle connections after a moment in which a request that was on its way has arrived.
    """

    def __init__(self, config: uvicorn.Config, app: ScoringApp, *, linger: float, grace: float, shared: bool) -> None:
        super().__init__(config)
        self._app, self._linger, self._grace, self._shared = app, linger, grace, shared
        self._accepting: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and listens on the sockets itself."""
        await super().startup(sockets=[])
        for listening in sockets or ():
            listening.setblocking(False)
            self._listen(listening)

    def _listen(self, listening: socket.socket) -> None:
        if not self._app.scoring.draining:
            asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:  # no descriptors are left: those who call wait until some are
            log.error("no connection can be accepted: %s", error)
            loop.remove_reader(listening.fileno())
            loop.call_later(0.1, self._listen, listening)
            return
        self._take(connection)
        if self._shared and len(self.server_state.connections) + len(self._accepting) >= _FEW:
            loop.remove_reader(listening.fileno())
            loop.call_later(_TURN, self._listen, listening)

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    def _protocol(self) -> asyncio.Protocol:
        config = self.config
        return config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def on_tick(self, counter: int) -> bool:
        """Also closes connections on which the rest of a request is overdue."""
        if counter % 10 == 0:
            express.close_overdue(self.server_state.connections, self._grace)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains, then ends as uvicorn does."""
        self._app.scoring.draining = True
        if signal.SIGINT not in self._captured_signals:
            await self._wait(lambda: False)
        for listening in sockets or ():
            asyncio.get_running_loop().remove_reader(listening.fileno())
            with contextlib.suppress(OSError):
                while True:
                    self._take(listening.accept()[0])
            listening.close()
        await self._wait(lambda: not self.server_state.connections and not self._accepting)
        self.config.timeout_graceful_shutdown = max(1, round(self._grace))
        await super().shutdown()

    async def _wait(self, over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._linger
        while time.monotonic() < deadline and not self.force_exit and not over():
            await asyncio.sleep(0.02)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends with exit code 0 after a signal, where uvicorn would raise it again."""
        before = {sign: signal.signal(sign, self.handle_exit) for sign in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)


def run(
    listening: socket.socket,
    telemetry: Telemetry,
    verifier: Verifier,
    *,
    deployments: Sequence[Deployment] = (),
    endpoint: Path | None = None,
    index: int = 0,
    limits: Limits | None = None,
    cache: Path | None = None,
    secured: bool = True,
    shortcut: bool = True,
    announce: Callable[[ScoringApp], None] = lambda app: None,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        listening: a bound socket that listens, shared with the other workers.
        telemetry: makes the hooks.
        verifier: knows callers.
        deployments: what to serve; or
        endpoint: the folder of the endpoint to follow.
        index: of this worker in its endpoint.
        limits: of this worker.
        cache: where compiled scorers are kept.
        secured: whether scoring needs a credential.
        shortcut: whether plain single rows are answered below ASGI.
        announce: called once it answers.

    Raises:
        StkMlError: a given deployment cannot be loaded.
    """
    limits = limits or Limits()
    return_memory()
    sys.setswitchinterval(0.001)  # a thread that decodes a large body gives way to small requests sooner
    models = LoadedModels(telemetry.open, limits, cache, telemetry.release)
    app = create_app(models, telemetry.unrouted, verifier, limits=limits, secured=secured)
    duty = _Duty(app, models, EndpointFolder(endpoint, models), index) if endpoint else None
    if duty is None:
        models.serve(deployments, 1)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=express.protocol(app.scoring, shortcut=shortcut),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=75,
    )
    server = DrainingServer(config, app, linger=limits.linger, grace=limits.seconds, shared=duty is not None)
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(server, listening, duty, lambda: announce(app), telemetry.tidy if index == 0 else None))
    finally:
        telemetry.close(5.0)


async def _serve(
    server: DrainingServer,
    listening: socket.socket,
    duty: _Duty | None,
    announce: Callable[[], None],
    tidy: Callable[[], None] | None,
) -> None:
    if duty:
        await asyncio.to_thread(duty.folder.follow)
    tasks = [asyncio.create_task(_announce(server, announce))]
    if duty:
        tasks.append(asyncio.create_task(duty.work(server)))
    if tidy:
        tasks.append(asyncio.create_task(_hourly(tidy)))
    try:
        await server.serve([listening])
    finally:
        for task in tasks:
            task.cancel()
        if duty:
            duty.tell(ready=False)


async def _announce(server: DrainingServer, announce: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.005)
    gc.collect()
    gc.freeze()  # what is loaded now stays; the collector need not walk it again and again
    announce()


async def _hourly(work: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(3600)
        work()


class _Duty:
    """What a worker of an endpoint does beside answering: follow the state, tell its status, end with its parent."""

    def __init__(self, app: ScoringApp, models: LoadedModels, folder: EndpointFolder, index: int) -> None:
        self.app, self.models, self.folder, self.index = app, models, folder, index
        self.started, self.parent = time.time(), os.getppid()
        self._told = 0.0

    async def work(self, server: DrainingServer) -> None:
        """Runs until cancelled."""
        self.tell(ready=bool(self.models.routes.live))
        while True:
            await asyncio.sleep(_TICK)
            if os.getppid() != self.parent:
                log.error("the supervisor is gone; this worker ends")
                server.should_exit = True
            changed = self.folder.changed()
            if changed:
                await asyncio.to_thread(self.folder.follow)
            if changed or time.time() - self._told >= 1.0:
                self.tell(ready=bool(self.models.routes.live) and not server.should_exit)

    def tell(self, *, ready: bool) -> None:
        """Writes the status; a disk that refuses is no reason to stop answering."""
        stats = self.app.scoring.stats
        self._told = time.time()
        status = WorkerStatus(
            index=self.index,
            pid=os.getpid(),
            revision=self.models.routes.revision,
            ready=ready,
            error=self.models.trouble,
            requests=stats.requests,
            errors=stats.errors,
            p50=stats.quantile(0.5),
            p99=stats.quantile(0.99),
            memory=resident(),
            started=self.started,
            updated=self._told,
        )
        with contextlib.suppress(OSError):
            contracts.write(status, self.folder.folder / "workers" / f"{self.index}.json")


def return_memory() -> None:
    """Lets glibc give large bodies and replaced models back to the system: by itself it keeps them, in pieces.

    See mallopt(3): one arena for all threads, and a mapping of its own for whatever is large.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(_M_ARENA_MAX, 1)


def resident() -> int:
    """Resident memory of this process in bytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
