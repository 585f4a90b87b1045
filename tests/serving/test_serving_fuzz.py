"""Whatever is sent, rows come out or a refusal: never another error, never slowly; and both paths agree."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from decoding_rigs import (
    ARROW,
    COUNTING,
    RECORD,
    REJECTING,
    SCHEMA,
    SHAPES,
    as_arrow,
    as_binary,
    as_csv,
    as_tensors,
    carefully,
    decoder,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import InvalidRowsError, RequestError
from stk_ml.model_policies import ServingSpec
from stk_ml.serving.decoding import oip
from stk_ml.serving.decoding.content import decompress
from stk_ml.serving.decoding.rows import MOST_PROBLEMS, Rows

DECODERS = [decoder(policy) for policy in (ServingSpec(), REJECTING, COUNTING)]
NUMBERS = decoder(schema=FeatureSchema((FeatureField("a", "number"), FeatureField("b", "category", ("x", "7")))))
RECORDS = [RECORD, {**RECORD, "class": "sea", "a b": 7}, {**RECORD, "express": None, "km": -1e-7}]
JSON_BODIES = [json.dumps(shape(RECORDS)).encode() for shape in SHAPES.values()] + [json.dumps(RECORD).encode()]
TABLE = SCHEMA.from_records(RECORDS)
ARROW_BODIES = [
    as_arrow(TABLE),
    as_arrow(TABLE, "zstd", 3),
    as_arrow(TABLE, "lz4"),
    as_arrow(TABLE.set_column(3, "class", TABLE["class"].dictionary_encode())),
]
BINARY = [
    as_binary({"a": np.array([1.0, np.nan]), "b": np.array(["x", "yy"], dtype=object)}, id="1"),
    as_binary({"b": np.array([[7], [8]], np.int8), "a": np.array([1, 2], np.float16)}),
]


def outcome(run: Callable[[], Any]) -> tuple[Any, RequestError | None]:
    try:
        return run(), None
    except RequestError as error:
        return None, error


def sound(run: Callable[[], Rows]) -> Rows | None:
    """The rows, or None when they are refused; anything else is a failure."""
    started = time.process_time()
    rows, refusal = outcome(run)
    assert time.process_time() - started < 2
    if refusal is not None:
        assert 400 <= refusal.status < 500
        assert refusal.reason
        message = f"{refusal}{refusal.hint}"
        assert "\n" not in message
        message.encode()
        if isinstance(refusal, InvalidRowsError):
            assert 0 < len(refusal.problems) <= min(refusal.total, MOST_PROBLEMS)
            json.dumps([[p.row, p.column, p.reason] for p in refusal.problems], ensure_ascii=False).encode()
    else:
        assert rows.matrix.dtype == np.float64
        assert rows.matrix.flags.c_contiguous
        assert not np.isinf(rows.matrix).any()
        assert not rows.ids or len(rows.ids) == len(rows.matrix)
        assert rows.bad <= set(range(len(rows.matrix)))
        assert bool(rows.bad) == bool(rows.problems) == bool(rows.total_problems)
    return rows


def all_ways(body: bytes, content_type: str) -> None:
    for by in DECODERS:
        whole = sound(lambda by=by: by.decode(body, content_type))
        part = sound(lambda by=by: by.decode(body, content_type, partial=True))
        if whole is not None:
            assert part is not None
            np.testing.assert_array_equal(whole.matrix, part.matrix)


def paths_agree(body: bytes) -> None:
    for by in DECODERS:
        fast, slow = sound(lambda by=by: by.decode(body, "")), sound(lambda by=by: carefully(by, body))
        assert (fast is None) == (slow is None)
        single = by.single(body)
        if fast is None or slow is None:
            assert single is None
            continue
        np.testing.assert_array_equal(fast.matrix, slow.matrix)
        assert (list(fast.ids), dict(fast.counted)) == (list(slow.ids), dict(slow.counted))
        if single is not None:
            np.testing.assert_array_equal(single[0], slow.matrix[0])
            assert ([single[1]] if single[1] else []) == [id_ for id_ in slow.ids if id_]


@st.composite
def mutated(draw: st.DrawFn, bodies: list[bytes], pieces: list[bytes]) -> bytes:
    """A body with a few places overwritten, cut out, doubled, or with something put in."""
    body = bytearray(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 24)))
        match draw(st.integers(0, 3)):
            case 0:
                del body[start:end]
            case 1:
                body[start:start] = body[start:end]
            case 2:
                body[start:start] = draw(st.sampled_from(pieces) | st.binary(max_size=8))
            case _:
                new = draw(st.sampled_from(pieces) | st.binary(min_size=1, max_size=8))
                body[start : start + len(new)] = new
    return bytes(body)


JSON_PIECES = [
    *(b"null true false 1e400 -0 -0.0 0.1e-400 NaN 1E2 18446744073709551616 9007199254740993 007 7 1.0 2 -7".split()),
    *(b'{ } [ ] , : " \\ \\u0041 \\ud800 \\ud83d\\ude00 \\u0000 \xff \xc3\x8e \xef\xbb\xbf \x00'.split()),
    *(b'"km":1, "data":[], "ids":["x"], "a\\u0020b":7, "10:30" "7" "more":1, "class":null,'.split()),
    b" ",
    b"\n",
    b"9" * 30,
    b"[" * 3000,
]
ARROW_PIECES = [bytes(8), b"\xff" * 4, b"\xff" * 8, b"\x7f", b"\x80", (2**40).to_bytes(8, "little"), b"\x01", b"\x00"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(SCHEMA.names),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*SCHEMA.names, "data", "columns", "index", "ids", "inputs", "dataframe_split"])
            | st.text(),
            inner,
            max_size=8,
        )
    ),
    max_leaves=20,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "c"]) | VALUES,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | VALUES,
        "datatype": st.sampled_from(["FP64", "INT8", "BYTES", "BOOL", "x"]) | VALUES,
        "data": VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20) | VALUES}) | VALUES,
    },
)


def check_json(body: bytes) -> None:
    all_ways(body, "application/json")
    paths_agree(body)


def check_value(value: Any) -> None:
    check_json(json.dumps(value).encode())


def check_csv(body: bytes) -> None:
    all_ways(body, "text/csv")


def check_arrow(body: bytes) -> None:
    all_ways(body, ARROW)


def check_tensors(body: bytes) -> None:
    header, _, data = body.partition(b"\n\n")
    for by in (NUMBERS, DECODERS[0]):
        sound(lambda by=by: oip.decode(by, header + data, str(len(header)).encode()).rows)
        sound(lambda by=by: oip.decode(by, body, partial=True).rows)


def check_compressed(body: bytes) -> None:
    for encoding in ("gzip", "deflate"):
        found, refusal = outcome(partial(decompress, body, encoding, 5000))
        assert refusal.status in (400, 413) if refusal else len(found) <= 5000


def tensor_bodies() -> list[bytes]:
    binary = [body[: int(length)] + b"\n\n" + body[int(length) :] for body, length in BINARY]
    return [*binary, json.dumps({"inputs": as_tensors(RECORDS)}).encode()]


FUZZ: dict[str, tuple[Callable[[Any], None], st.SearchStrategy[Any]]] = {
    "any bytes as JSON": (check_json, st.binary(max_size=60)),
    "any JSON value": (
        check_value,
        VALUES | st.lists(st.fixed_dictionaries(dict.fromkeys(RECORD, VALUES)), max_size=3),
    ),
    "mutated JSON": (check_json, mutated(JSON_BODIES, JSON_PIECES)),
    "any bytes as CSV": (check_csv, st.binary(max_size=60)),
    "mutated CSV": (
        check_csv,
        mutated([as_csv(RECORDS)], [b'"', b",", b"\r", b"\n", b"\x00", b"nan", b"1e999", b"\xff"]),
    ),
    "any bytes as Arrow": (check_arrow, st.binary(max_size=60)),
    "mutated Arrow": (check_arrow, mutated(ARROW_BODIES, ARROW_PIECES)),
    "mutated tensors": (check_tensors, mutated(tensor_bodies(), [*JSON_PIECES, *ARROW_PIECES])),
    "any tensors": (
        check_tensors,
        st.builds(
            lambda inputs, data: json.dumps({"inputs": inputs}).encode() + b"\n\n" + data,
            st.lists(TENSORS, max_size=3) | VALUES,
            st.binary(max_size=20),
        ),
    ),
    "compressed": (
        check_compressed,
        mutated([gzip.compress(b"[1]" * 2000), gzip.compress(b"[1]") + gzip.compress(b"[2]")], ARROW_PIECES),
    ),
}
common = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("what", FUZZ)
def test_rows_come_out_or_a_refusal(what: str) -> None:
    check, bodies = FUZZ[what]
    settings(common, max_examples=150)(given(bodies)(check))()


@pytest.mark.slow
@pytest.mark.parametrize("what", FUZZ)
def test_rows_come_out_or_a_refusal_for_long(what: str) -> None:
    check, bodies = FUZZ[what]
    settings(common, max_examples=1000)(given(bodies)(check))()
