"""Callers with keep-alive connections that check every answer, and count each request that was not answered rightly."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 1e-9
PATIENCE = 30.0
KEPT = 1_000  # requests over one connection; a new one may reach another worker


@dataclass(frozen=True)
class Failure:
    """A request without a right answer: what happened, when (monotonic), and on which local port."""

    what: str
    when: float
    port: int


@dataclass
class Tally:
    """What all callers have seen together.

    Attributes:
        wanted: requests at least; callers go on until ``done`` is set too.
        bodies: what is asked, cycled over, each with the places of its rows.
        scores: the right scores of all rows, by digest of the model.
        key: the API key that new requests show.
        begun, answered: requests.
        by: answers by deployment.
        failures: all of them.
        seconds: how long each answer took.
    """

    wanted: int
    bodies: Sequence[tuple[bytes, range]]
    scores: dict[str, Sequence[float]]
    key: str
    done: bool = False
    begun: int = 0
    answered: int = 0
    by: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def ends(self) -> bool:
        """Whether no more is to be asked."""
        return self.done and self.begun >= self.wanted

    def wrong(self, status: int, body: bytes, rows: range) -> str:
        """What is wrong with an answer; empty when nothing is."""
        if status != 200:
            return f"status {status}: {body[:200]!r}"
        answer = json.loads(body)
        self.by[answer["model"]["deployment"]] += 1
        right = self.scores.get(answer["model"]["digest"], ())[rows.start : rows.stop]
        found = answer["predictions"]
        if len(found) != len(right) or any(abs(a - b) > TOLERANCE for a, b in zip(found, right, strict=True)):
            return f"wrong scores from {answer['model']['deployment']}"
        return ""


class Caller(asyncio.Protocol):
    """One connection in a closed loop: ask, check, ask again. ``again`` is called when the connection is lost."""

    def __init__(self, tally: Tally, again: Callable[[], None]) -> None:
        self._tally, self._again = tally, again
        self._buffer, self._rows, self._since = b"", range(0), 0.0
        self._transport: Any = None
        self._port, self._left, self._busy = 0, KEPT, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks first."""
        self._transport, self._port = transport, transport.get_extra_info("sockname")[1]
        self._ask()

    def _ask(self) -> None:
        tally = self._tally
        if tally.ends or not self._left:
            self._transport.close()
            return
        body, self._rows = tally.bodies[tally.begun % len(tally.bodies)]
        tally.begun += 1
        self._left -= 1
        self._since, self._busy = time.monotonic(), True
        head = f"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-api-key: {tally.key}\r\n"
        self._transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def data_received(self, data: bytes) -> None:
        """Takes an answer, whole or in parts."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = self._buffer[end + 4 :]
        if len(body) < length:
            return
        self._buffer, self._busy = body[length:], False
        if b"connection: close" in head:
            self._left = 0
        self._tally.seconds.append(time.monotonic() - self._since)
        if wrong := self._tally.wrong(int(head[9:12]), body[:length], self._rows):
            self._fail(wrong)
        else:
            self._tally.answered += 1
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Counts the request that was in work, and has another connection made."""
        if self._busy:
            self._fail("no answer")
        self._again()

    def overdue(self) -> bool:
        """Whether its request is in work for too long; ends the connection then."""
        late = self._busy and time.monotonic() - self._since > PATIENCE
        if late:
            self._transport.abort()
        return late

    def _fail(self, what: str) -> None:
        self._tally.failures.append(Failure(what, time.monotonic(), self._port))


async def call(tally: Tally, port: int, connections: int) -> None:
    """Sends requests over so many connections, until all are done and each is answered or has failed."""
    await asyncio.gather(*(_keep(tally, port) for _ in range(connections)))


async def _keep(tally: Tally, port: int) -> None:
    loop = asyncio.get_running_loop()
    while not tally.ends:
        lost = asyncio.Event()
        try:
            _, caller = await loop.create_connection(lambda: Caller(tally, lost.set), "127.0.0.1", port)  # noqa: B023
        except OSError as error:
            tally.begun += 1
            tally.failures.append(Failure(f"no connection: {error}", time.monotonic(), 0))
            await asyncio.sleep(0.05)
            continue
        while not lost.is_set():
            try:
                await asyncio.wait_for(lost.wait(), 1.0)
            except TimeoutError:
                caller.overdue()
