"""A shortcut below ASGI: a plain single row that arrived whole is answered as it is parsed, without a task of its own.

uvicorn makes a task, an event and two messages for each request, which takes longer than to score a row. Whatever is
not plain (another route, a large or late body, a refusal, a worker that drains) goes on to the ASGI app untouched,
which gives the same answers; so nothing but speed depends on this module. It stands on uvicorn's protocol class, whose
version is pinned.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stk_ml.serving.scoring import Scoring

_ROUTES = {b"/score": "/score", b"/invocations": "/invocations"}


def protocol(scoring: Scoring) -> type[HttpToolsProtocol]:
    """The protocol class whose connections ask ``scoring`` first."""

    class ExpressProtocol(HttpToolsProtocol):
        express: Callable[[str, Any, bytes], bytes | None] = staticmethod(scoring.express)
        limits = scoring.limits
        parts: list[bytes] | None = None
        #: Since when the head of a request is awaited; None while a request is in work.
        waiting: float | None = None

        def connection_made(self, transport: Any) -> None:
            self.waiting = time.monotonic()
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.parts is not None:
                self.hand_over()

        def on_message_begin(self) -> None:
            self.waiting = time.monotonic()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self.waiting = None
            if (
                self.url in _ROUTES
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


def close_idle_heads(connections: Any, seconds: float) -> None:
    """Closes the connections that have owed the head of a request for longer than so many seconds."""
    oldest = time.monotonic() - seconds
    for connection in list(connections):
        waiting = getattr(connection, "waiting", None)
        if waiting is not None and waiting < oldest and not connection.transport.is_closing():
            connection.transport.close()
