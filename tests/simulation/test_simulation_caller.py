"""The app of a replay, against a server on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stk_ml.errors import DeploymentError
from stk_ml.simulation.caller import Caller

pytest.importorskip("httptools", reason="pip install 'stk-ml[serving]'")


class Handler(BaseHTTPRequestHandler):
    """Scores a row by its ``km``; refuses what is not asked for with the key."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, int]] = []  # noqa: RUF012
    connections: list[socket.socket] = []  # noqa: RUF012

    def setup(self) -> None:
        super().setup()
        self.connections.append(self.connection)

    def do_POST(self) -> None:
        row = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = self.headers["x-request-id"]
        self.seen.append((name, self.client_address[1]))
        if self.headers["x-api-key"] != "secret" or row["km"] is None:
            self._answer(401 if row["km"] is not None else 422, {"error": "no"})
        elif row["km"] < 0:
            self.close_connection = True
        else:
            self._answer(200, {"predictions": [row["km"] / 10], "request_id": name, "model": {"version": "3"}})

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Handler.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def body(km: float | None) -> bytes:
    return json.dumps({"km": km}).encode()


def test_rows_are_answered_in_the_order_they_were_asked_over_one_connection(url: str) -> None:
    with Caller(url, "secret") as caller:
        first = caller.ask([f"r{n}" for n in range(50)], [body(n) for n in range(50)])
        second = caller.ask(["last"], [body(7)])
    assert [answer.score for answer in first] == [n / 10 for n in range(50)]
    assert [(answer.score, answer.version) for answer in second] == [(0.7, 3)]
    assert [name for name, _ in Handler.seen] == [*(f"r{n}" for n in range(50)), "last"]
    assert len({port for _, port in Handler.seen}) == 1


def test_a_refusal_names_the_request_and_what_was_said(url: str) -> None:
    with Caller(url, "wrong") as caller, pytest.raises(DeploymentError, match=r"request a .* status 401: .*no"):
        caller.ask(["a"], [body(1)])
    with (
        Caller(url, "secret") as caller,
        pytest.raises(DeploymentError, match="request b was answered with status 422"),
    ):
        caller.ask(["a", "b"], [body(1), body(None)])


def test_a_connection_that_breaks_is_an_error(url: str) -> None:
    with Caller(url, "secret") as caller, pytest.raises(DeploymentError, match="closed the connection"):
        caller.ask(["a"], [body(-1)])


def test_a_connection_that_was_closed_while_idle_is_opened_anew(url: str) -> None:
    with Caller(url, "secret") as caller:
        caller.ask(["a"], [body(1)])
        Handler.connections[-1].shutdown(socket.SHUT_RDWR)
        assert caller.ask(["b", "c"], [body(2), body(3)])[1].score == 0.3
    assert len({port for _, port in Handler.seen}) == 2


def test_nobody_who_listens_is_an_error() -> None:
    with pytest.raises(DeploymentError, match="does not answer"):
        Caller("http://127.0.0.1:9", "key")
