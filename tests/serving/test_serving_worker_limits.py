"""What a worker refuses or cuts off: heads, bodies, upgrades, too many at once, what would delay others."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
import time
from typing import Any

import pytest
from scorer_process import Scorer, post


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(served: Scorer) -> None:
    with served.raw() as line:
        key = served.headers["x-api-key"]
        line.sendall(
            f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 99999999\r\n\r\n".encode()
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_is_cut_off_at_the_limit(served: Scorer) -> None:
    with served.raw() as line:
        key = served.headers["x-api-key"]
        line.sendall(
            f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(8):
                line.sendall(chunk)
        except OSError:
            pass
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_given_up(served: Scorer) -> None:
    with served.raw() as line:
        key = served.headers["x-api-key"]
        line.sendall(f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 10\r\n\r\n[".encode())
        got = received(line)
        assert got.startswith(b"HTTP/1.1 408")
        assert b"slow_body" in got


def test_a_head_that_does_not_come_is_given_up(served: Scorer) -> None:
    with served.raw() as line:
        line.sendall(b"POST /score HTTP/1.1\r\nhost: x")
        assert line.recv(4096) == b""


def test_more_requests_than_allowed_are_told_to_come_again(served: Scorer) -> None:
    key = served.headers["x-api-key"]
    head = f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 10\r\n\r\n[".encode()
    waiting = [served.raw() for _ in range(8)]
    try:
        for line in waiting:
            line.sendall(head)
        answers = [received(line) for line in waiting]
    finally:
        for line in waiting:
            line.close()
    busy = [got for got in answers if got.startswith(b"HTTP/1.1 429")]
    assert len(busy) == 4
    assert all(b"retry-after: 1" in got for got in busy)
    assert all(got.startswith(b"HTTP/1.1 408") for got in answers if got not in busy)


def head(served: Scorer, *lines: str, path: str = "/score") -> bytes:
    first = (f"POST {path} HTTP/1.1", "host: x", f"x-api-key: {served.headers['x-api-key']}")
    return "\r\n".join((*first, "content-type: application/json", *lines, "", "")).encode()


def received(line: socket.socket) -> bytes:
    """One whole answer; more when more came with it."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += line.recv(65536)
    top, _, rest = seen.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", top)
    while found and len(rest) < int(found[1]):
        rest += line.recv(65536)
    return top + b"\r\n\r\n" + rest


def test_a_head_that_does_not_end_is_cut_off(served: Scorer) -> None:
    with served.raw() as line:
        line.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n")
        with contextlib.suppress(OSError):
            for _ in range(64):
                line.sendall(b"x-filler: " + b"a" * 8000 + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(4096).startswith(b"HTTP/1.1 431")
    with served.raw() as line, contextlib.suppress(OSError):
        line.sendall(b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 431")


def test_a_large_body_behind_a_short_head_is_no_long_head(served: Scorer, record: dict[str, Any]) -> None:
    body = json.dumps({"data": [record] * 900}).encode()
    with served.raw() as line:
        line.sendall(head(served, f"content-length: {len(body)}") + body)
        assert line.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_upgrade_is_ignored_and_its_body_is_a_body(served: Scorer, record: dict[str, Any], pieces: int) -> None:
    body = json.dumps({"data": [record]}).encode()
    smuggled = head(served, "content-length: 0", path="/invocations")
    for content, code in ((body, b"200"), (smuggled, b"400")):
        asked = head(
            served,
            "connection: Upgrade, HTTP2-Settings",
            "upgrade: h2c",
            "http2-settings: AAMAAABkAAQAAP__",
            f"content-length: {len(content)}",
        )
        with served.raw() as line:
            line.settimeout(3)
            if pieces == 2:
                line.sendall(asked)
                time.sleep(0.05)
                line.sendall(content)
            else:
                line.sendall(asked + content)
            got = received(line)
            assert got.startswith(b"HTTP/1.1 " + code)
            assert got.count(b"HTTP/1.1 ") == 1
            line.sendall(head(served, f"content-length: {len(body)}") + body)
            assert received(line).startswith(b"HTTP/1.1 200")


def test_a_refused_request_does_not_hold_its_connection_by_a_trickling_body(served: Scorer) -> None:
    with served.raw() as line:
        line.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 401")
        line.settimeout(8)
        for _ in range(20):
            try:
                line.sendall(b" ")
            except OSError:
                break
            time.sleep(0.3)
        else:
            raise AssertionError("still open after 6 s, with a limit of 2 s")


def test_work_that_may_be_heavy_delays_no_small_request(served: Scorer, record: dict[str, Any]) -> None:
    rows = gzip.compress(json.dumps({"data": [record] * 1000}).encode())
    heavy = {**served.headers, "content-encoding": "gzip"}
    assert len(rows) < 32_000
    done = threading.Event()

    def explain() -> None:
        for _ in range(5):
            status, answer = post(served.connection(), rows, heavy, "/score?explain=true")
            assert (status, len(answer.get("explanations", ()))) in ((200, 1000), (504, 0))
        done.set()

    asking = threading.Thread(target=explain)
    asking.start()
    connection, answered = served.connection(), 0
    while not done.is_set():
        assert post(connection, {"data": [record]}, served.headers)[0] == 200
        answered += 1
    asking.join()
    assert answered > 50
