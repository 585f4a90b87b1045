"""A shortcut below ASGI: a plain single row that arrived whole is answered as it is parsed, without a task of its own.

uvicorn makes a task, an event and two messages for each request, which takes longer than to score a row. Whatever is
not plain (another route, a large or late body, a refusal, a worker that drains) goes on to the ASGI app untouched,
which gives the same answers; so nothing but speed depends on this module. It stands on uvicorn's protocol class, whose
version is pinned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stk_ml.serving import answers
from stk_ml.serving.scoring import Scoring

_ROUTES = {b"/score": "/score", b"/invocations": "/invocations"}
_HOP = (b"upgrade", b"connection", b"http2-settings")


def protocol(scoring: Scoring, *, shortcut: bool = True) -> type[HttpToolsProtocol]:
    """The protocol class of a worker's connections.

    Args:
        scoring: answers plain single rows.
        shortcut: whether it is asked at all; without, only the bounds on heads and the refusal of upgrades remain.
    """

    class ExpressProtocol(HttpToolsProtocol):
        express: Callable[[str, Any, bytes], bytes | None] = staticmethod(scoring.express)
        limits = scoring.limits
        parts: list[bytes] | None = None
        #: Since when the rest of a request is awaited, as uvicorn does not bound it; None while nothing is.
        waiting: float | None = None
        #: Bytes of a head that is not complete.
        head = 0
        heading = True
        upgraded = False

        def connection_made(self, transport: Any) -> None:
            self.waiting = time.monotonic()
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            if self.heading:
                self.head += len(data)
                if self.head > self.limits.head_bytes and not self._complete(data):
                    self.transport.write(answers.HEAD_TOO_LARGE)
                    self.transport.close()
                    return
            self._unset_keepalive_if_required()
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                self._without_upgrade(data[stopped.args[0] :])
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            if self.parts is not None:
                self.hand_over()

        def _complete(self, data: bytes) -> bool:
            """Whether a head ends early enough in the data that made it too long."""
            before = self.head - len(data)
            return 0 <= data.find(b"\r\n\r\n") <= self.limits.head_bytes - before

        def _without_upgrade(self, rest: bytes) -> None:
            """Reads a request anew as if no upgrade was asked for (RFC 9110, 7.8): the parser would skip its body."""
            lines = [b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
            lines += [b"%b: %b\r\n" % header for header in self.headers if header[0] not in _HOP]
            self.upgraded = False
            self.parser = httptools.HttpRequestParser(self)
            self.data_received(b"".join(lines) + b"\r\n" + rest)

        def on_message_begin(self) -> None:
            self.waiting, self.heading = time.monotonic(), True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self.heading, self.head = False, 0
            if self.parser.should_upgrade():
                return
            if (
                shortcut
                and self.url in _ROUTES
                and (self.cycle is None or self.cycle.response_complete)
                and not self.expect_100_continue
                and not self.flow.write_paused
                and self.parser.get_method() == b"POST"
                and self.parser.should_keep_alive()
            ):
                self.parts = []
            else:
                super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if self.parts is None:
                super().on_body(body)
            else:
                self.parts.append(body)

        def on_message_complete(self) -> None:
            if self.parser.should_upgrade():
                return
            self.waiting, self.heading = None, True
            if self.parts is None:
                super().on_message_complete()
                return
            body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            small = len(body) <= self.limits.inline_bytes
            answer = self.express(_ROUTES[self.url], self.headers, body) if small else None
            if answer is None:
                self.hand_over()
                super().on_message_complete()
                return
            self.parts = None
            date = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
            self.transport.write(b"HTTP/1.1 200 OK\r\n" + date + answer)
            self.on_response_complete()

        def hand_over(self) -> None:
            """Gives what has arrived to the ASGI app."""
            parts, self.parts = self.parts or [], None
            super().on_headers_complete()
            for part in parts:
                super().on_body(part)

    return ExpressProtocol


def close_overdue(connections: Iterable[Any], seconds: float) -> None:
    """Closes connections that have owed the rest of a request for longer than so many seconds.

    While the app still waits for a body, it is the app that answers; this is for heads, and for bodies whose request
    was answered early.
    """
    oldest = time.monotonic() - seconds
    for connection in list(connections):
        waiting, cycle = getattr(connection, "waiting", None), connection.cycle
        in_work = cycle is not None and not cycle.response_complete
        if waiting is not None and waiting < oldest and not in_work and not connection.transport.is_closing():
            connection.transport.close()
