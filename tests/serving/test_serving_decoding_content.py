"""Content types that are taken, and compressed bodies within a bound."""

from __future__ import annotations

import gzip
import json
import time
import zlib

import pytest
from decoding_rigs import RECORD, decoder

from stk_ml.errors import RequestError
from stk_ml.serving.decoding.content import decompress, kind

BODY = b'[{"km": 1}]' * 1000


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", "json"),
        ("application/json", "json"),
        ("Application/JSON ; charset=UTF-8", "json"),
        ('application/json; charset="utf-8"; format=pandas-records', "json"),
        ("text/csv", "csv"),
        ("text/csv;header=present", "csv"),
        ("application/vnd.apache.arrow.stream", "arrow"),
    ],
)
def test_content_types(given: str, found: str) -> None:
    assert kind(given) == found


@pytest.mark.parametrize(
    "given",
    [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/vnd.apache.arrow.file",
        "application/json; charset=utf-16",
        "text/csv; charset=latin-1",
        "text/csv; header=absent",
        ";",
        "x" * 10_000,
    ],
)
def test_others_are_refused(given: str) -> None:
    with pytest.raises(RequestError) as caught:
        decoder().decode(json.dumps(RECORD).encode(), given)
    assert (caught.value.status, caught.value.reason) == (415, "content_type")
    assert len(str(caught.value)) < 200


def test_what_is_taken_is_named() -> None:
    with pytest.raises(RequestError) as caught:
        kind("text/plain")
    assert caught.value.hint == "taken are application/json, text/csv, application/vnd.apache.arrow.stream"


def raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(body) + deflater.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        (" GZIP ", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, 0, mtime=0)),
        ("gzip", b"".join(gzip.compress(BODY[place : place + 100], mtime=0) for place in range(0, len(BODY), 100))),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
    ],
)
def test_encodings_are_undone_up_to_the_limit(encoding: str, body: bytes) -> None:
    assert decompress(body, encoding, len(BODY)) == BODY
    if encoding not in ("", "identity"):
        with pytest.raises(RequestError) as caught:
            decompress(body, encoding, len(BODY) - 1)
        assert caught.value.status == 413


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b""),
        ("gzip", gzip.compress(BODY, mtime=0)[:-1]),
        ("gzip", gzip.compress(BODY, mtime=0)[:10]),
        ("gzip", gzip.compress(BODY, mtime=0) + b"x"),
        ("gzip", gzip.compress(BODY, mtime=0) + gzip.compress(BODY, mtime=0)[:12]),
        ("gzip", gzip.compress(BODY, mtime=0)[:-8] + b"\0" * 8),
        ("gzip", BODY),
        ("gzip", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY)[:-3]),
        ("deflate", zlib.compress(BODY) + zlib.compress(BODY)),
        ("deflate", b"\xff" * 100),
    ],
)
def test_what_is_cut_short_or_broken_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        decompress(body, encoding, 10**6)
    assert (caught.value.status, caught.value.reason) == (400, "encoding")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "x" * 5000])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(RequestError) as caught:
        decompress(b"", encoding, 100)
    assert caught.value.status == 415


def test_bombs_go_off_in_no_time() -> None:
    started = time.process_time()
    bomb = gzip.compress(bytes(50_000_000))
    members = gzip.compress(b"", mtime=0) * 500_000
    for body, status in ((bomb, 413), (gzip.compress(bomb, mtime=0), 200), (members, 400)):
        if status == 200:
            assert decompress(body, "gzip", 2**20) == bomb
            continue
        with pytest.raises(RequestError) as caught:
            decompress(body, "gzip", 2**20)
        assert caught.value.status == status
    assert time.process_time() - started < 5
