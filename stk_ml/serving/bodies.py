"""Reads the bodies of requests within bounds: of size, of time, of number, and of memory for all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, TypeAlias

from stk_ml.errors import RequestError
from stk_ml.serving.limits import Limits

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Gone(Exception):  # noqa: N818
    """The client went away before its request was whole."""


class Bodies:
    """The bodies that one worker holds or waits for.

    Args:
        limits: of the worker.

    Attributes:
        active: requests in work.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.active = 0
        self._held = 0
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()

    def admit(self) -> None:
        """Refuses (429) while as many requests are in work as the limits allow."""
        if self.active >= self._limits.concurrency:
            raise RequestError(
                f"{self.active} requests are in work here already", status=429, reason="busy", hint="try again later"
            )

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The whole body.

        Raises:
            RequestError: 408 it did not come in time, 413 it is too large, 429 too much is in work.
            Gone: the client has left.
        """
        self.admit()
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > 15 or int(length) > self._limits.body_bytes):
            raise self._too_large()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._reading[task] = perf_counter()
        self.active += 1
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message["type"] == "http.disconnect" or message.get("more_body"):
                body = await self._rest(message, receive)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            self._late.discard(task)
            task.uncancel()
            raise RequestError(
                f"the body did not come within {self._limits.seconds:g} s", status=408, reason="slow_body"
            ) from None
        finally:
            self.active -= 1
            del self._reading[task]
        return body

    def expire(self) -> None:
        """Ends the requests whose body has not come in time; called about once a second."""
        oldest = perf_counter() - self._limits.seconds
        for task, since in list(self._reading.items()):
            if since < oldest and task not in self._late:
                self._late.add(task)
                task.cancel()

    async def _rest(self, message: MutableMapping[str, Any], receive: Receive) -> bytes:
        parts, size = [], 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise Gone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                self._held += len(parts[-1])
                if size > self._limits.body_bytes:
                    raise self._too_large()
                if self._held > self._limits.held_bytes:
                    raise RequestError(
                        "the bodies that arrive here at once are too large together",
                        status=429,
                        reason="busy",
                        hint="try again later",
                    )
                if not message.get("more_body"):
                    return b"".join(parts)
                message = await receive()
        finally:
            self._held -= size

    def _too_large(self) -> RequestError:
        return RequestError(
            f"the body is larger than {self._limits.body_bytes} bytes",
            status=413,
            reason="too_large",
            hint="send fewer rows at a time, or score a file with stk-ml score",
        )
