"""An app that asks a scoring endpoint about single rows, over one connection that it keeps."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from stk_ml.errors import DeploymentError, MissingLibraryError

if TYPE_CHECKING:
    from types import TracebackType

_SECONDS = 30.0
_CHUNK = 1 << 16


class _Model(msgspec.Struct):
    version: str = "0"


class _Answer(msgspec.Struct):
    predictions: list[float]
    model: _Model


@dataclass(frozen=True)
class Answered:
    """One prediction, and the version of the model that made it."""

    score: float
    version: int


class Caller:
    """Asks ``POST /score``; a context manager.

    Several rows at once are sent behind each other without waiting for the answers between them (HTTP/1.1 pipelining,
    RFC 9112 section 9.3.2), which come in the same order.

    A connection that the server has closed while nothing was asked is opened anew.

    Args:
        url: of the endpoint, ``http://host:port``.
        key: API key.

    Raises:
        MissingLibraryError: httptools is not installed.
        DeploymentError: nobody answers.
    """

    def __init__(self, url: str, key: str) -> None:
        try:
            import httptools
        except ModuleNotFoundError as error:
            raise MissingLibraryError("httptools", extra="serving", need="asking an endpoint") from error
        where = urlsplit(url)
        self.url, self._decode = url, msgspec.json.Decoder(_Answer).decode
        self._head = (
            f"POST /score HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-type: application/json\r\nx-api-key: {key}\r\n"
        )
        self._place = where.hostname or "", where.port or 80
        self._new_parser = httptools.HttpResponseParser
        self._connect()

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, ids: Sequence[str], bodies: Sequence[bytes]) -> list[Answered]:
        """The predictions for rows, each asked for under a request id of its own.

        Args:
            ids: of the requests.
            bodies: a JSON object each.

        Raises:
            DeploymentError: a request was refused, or the connection broke.
        """
        head = self._head
        requests = [
            f"{head}x-request-id: {name}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
            for name, body in zip(ids, bodies, strict=True)
        ]
        if self._closed():
            self._socket.close()
            self._connect()
        try:
            self._socket.sendall(b"".join(requests))
            while len(self._bodies) < len(requests):
                chunk = self._socket.recv(_CHUNK)
                if not chunk:
                    raise DeploymentError(f"{self.url} closed the connection", hint="see stk-ml endpoint logs")
                self._parser.feed_data(chunk)
        except OSError as error:
            if isinstance(error, DeploymentError):
                raise
            raise DeploymentError(f"{self.url} broke off: {error}", hint="see stk-ml endpoint logs") from error
        return [self._answered(name) for name in ids]

    def _connect(self) -> None:
        self._bodies: deque[tuple[int, bytes]] = deque()
        self._body: list[bytes] = []
        self._parser = self._new_parser(self)
        try:
            self._socket = socket.create_connection(self._place, _SECONDS)
        except OSError as error:
            raise DeploymentError(f"{self.url} does not answer: {error}", hint="see stk-ml endpoint status") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _closed(self) -> bool:
        """Whether the server has hung up: nothing is awaited, so whatever can be read is the end."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def _answered(self, name: str) -> Answered:
        status, body = self._bodies.popleft()
        if status != 200:
            text = body.decode("utf-8", "replace")[:300]
            raise DeploymentError(f"request {name} was answered with status {status}: {text}")
        found: Any = self._decode(body)
        return Answered(found.predictions[0], int(found.model.version))

    # What the parser calls.
    def on_body(self, body: bytes) -> None:
        """Another piece of an answer."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """An answer is whole."""
        self._bodies.append((self._parser.get_status_code(), b"".join(self._body)))
        self._body = []
