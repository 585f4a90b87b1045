"""Arrow streams: physical types, policies by value, and streams that lie."""

from __future__ import annotations

import contextlib
import resource
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from decoding_rigs import ARROW, COUNTING, RECORD, REJECTING, SCHEMA, as_arrow, decoder, expected

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import InvalidRowsError, RequestError
from stk_ml.model_policies import ServingSpec
from stk_ml.serving.decoding import arrow_messages
from stk_ml.serving.decoding.decoder import Decoder
from stk_ml.serving.decoding.rows import Rows

RECORDS = [RECORD, {**RECORD, "class": "sea", "km": None, "stops": 4}, {**RECORD, "express": False, "a b": "7"}]
TABLE = SCHEMA.from_records(RECORDS)
BODY = as_arrow(TABLE)


def changed(name: str, values: pa.Array) -> pa.Table:
    return TABLE.set_column(TABLE.column_names.index(name), name, values)


def decode(body: bytes | pa.Table, policy: ServingSpec | None = None, *, partial: bool = False) -> Rows:
    return decoder(policy).decode(body if isinstance(body, bytes) else as_arrow(body), ARROW, partial=partial)


def refused(body: bytes | pa.Table, policy: ServingSpec | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        decode(body, policy)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("km", pa.array([2.5, None, 2.5], pa.float32())),
        ("km", pa.array([2.5, float("nan"), 2.5], pa.float16())),
        ("km", pa.array([Decimal("2.5"), None, Decimal("2.5")])),
        ("stops", pa.array([3, 4, 3], pa.uint64())),
        ("stops", pa.array([3, 4, 3], pa.int8())),
        ("express", pa.array([True, True, False])),
        ("express", pa.array([1, 1, 0], pa.uint8())),
        ("class", pa.array(["air", "sea", "air"], pa.large_string())),
        ("class", pa.array(["air", "sea", "air"], pa.string_view())),
        ("class", pa.array(["air", "sea", "air"]).dictionary_encode()),
        ("weight", pa.nulls(3)),
    ],
)
def test_the_physical_type_of_a_column_does_not_matter(name: str, values: pa.Array) -> None:
    wanted = decode(BODY).matrix
    np.testing.assert_array_equal(decode(changed(name, values)).matrix, wanted)
    wanted = np.where(wanted == -1, np.nan, wanted)
    np.testing.assert_array_equal(SCHEMA.matrix(changed(name, values)), wanted)
    np.testing.assert_array_equal(expected(RECORDS), wanted)


def test_whole_numbers_are_categories_and_a_null_in_a_dictionary_is_missing() -> None:
    assert decode(changed("a b", pa.array([7, -1, 5]))).matrix[:, 4].tolist() == [0, 2, -1]
    odd = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array(["air", None]))
    np.testing.assert_array_equal(decode(changed("class", odd)).matrix[:, 3], [1, np.nan, np.nan])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("km", pa.array(["1", "2", "3"])),
        ("km", pa.array([True, False, None])),
        ("km", pa.array([1, 2, 3], pa.timestamp("s"))),
        ("km", pa.array([[1.0], [2.0], [3.0]])),
        ("km", pa.array([1.5, 2.5, 2.5]).dictionary_encode()),
        ("express", pa.array(["true", "true", "false"])),
        ("class", pa.array([1.5, 2.5, 2.5])),
        ("class", pa.array([b"air", b"sea", b"air"])),
        ("class", pa.array([{"a": 1}] * 3)),
    ],
)
def test_a_column_of_a_wrong_type_is_named_once(name: str, values: pa.Array) -> None:
    found = refused(changed(name, values))
    assert isinstance(found, InvalidRowsError)
    assert [(p.row, p.column) for p in found.problems] == [(-1, name)]
    rows = decode(changed(name, values), COUNTING)
    assert np.isnan(rows.matrix[:, SCHEMA.names.index(name)]).all()
    assert rows.counted["wrong_type", name] == 3


def test_wrong_values_are_named_by_row() -> None:
    table = changed("express", pa.array([0.0, 0.5, 1.0]))
    table = table.set_column(0, "km", pa.array([1.0, float("inf"), float("-inf")]))
    found = refused(table.set_column(1, "stops", pa.array([1, None, 3])), REJECTING)
    assert isinstance(found, InvalidRowsError)
    assert [(p.row, p.column, p.reason) for p in found.problems] == [
        (1, "km", "inf is too large a number"),
        (1, "stops", "it may not be null"),
        (1, "express", "0.5 is neither true nor false"),
        (1, "class", "'sea' was not seen in training"),
        (2, "km", "-inf is too large a number"),
    ]


def test_missing_and_unknown_columns() -> None:
    found = refused(TABLE.drop(["km"]).append_column("more", pa.nulls(3)))
    assert isinstance(found, InvalidRowsError)
    assert [(p.row, p.column) for p in found.problems] == [(-1, "km"), (-1, "more")]
    assert decode(TABLE.drop(["km"]).append_column("more", pa.nulls(3)), COUNTING).counted == {
        ("unknown_column", "more"): 3,
        ("missing_value", "km"): 3,
        ("unseen_category", "class"): 1,
    }


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "arrow"),
        (b"ARROW1\0\0", 400, "arrow"),
        (BODY[:100], 400, "arrow"),
        (BODY[:-100], 400, "arrow"),
        (BODY + b"more", 400, "arrow"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", 400, "arrow"),
        (as_arrow(TABLE.slice(0, 0)), 422, "shape"),
        (as_arrow(pa.table([[1], [2]], names=["km", "km"])), 400, "duplicate"),
        (as_arrow(pa.table({"km": pa.nulls(1001)}), chunk=1001), 413, "too_large"),
    ],
)
def test_what_is_no_sound_stream_is_refused(body: bytes, status: int, reason: str) -> None:
    found = refused(body)
    assert (found.status, found.reason) == (status, reason)


@pytest.mark.parametrize("place", range(0, len(BODY) - 8, 37))
def test_a_stream_that_is_cut_short_is_refused(place: int) -> None:
    # A stream may end without its end mark, so a cut between two messages leaves a sound, shorter stream.
    with contextlib.suppress(RequestError):
        assert len(decode(BODY[:place]).matrix) < 3


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_buffers_are_taken_up_to_the_limit(compression: str) -> None:
    schema = FeatureSchema((FeatureField("km", "number"),))
    body = as_arrow(pa.table({"km": np.zeros(100_000)}), compression, chunk=100_000)
    assert len(body) < 20_000
    assert Decoder(schema, ServingSpec(), max_rows=100_000).decode(body, ARROW).matrix.shape == (100_000, 1)
    with pytest.raises(RequestError) as caught:
        Decoder(schema, ServingSpec(), max_rows=100_000, max_bytes=700_000).decode(body, ARROW)
    assert caught.value.status == 413
    dictionary = as_arrow(pa.table({"km": pa.array(["x" * 800_000]).dictionary_encode()}), compression)
    with pytest.raises(RequestError) as caught:
        Decoder(schema, ServingSpec(), max_rows=100_000, max_bytes=700_000).decode(dictionary, ARROW)
    assert caught.value.status == 413


def test_a_buffer_that_claims_gigabytes_is_refused_before_it_is_allocated() -> None:
    body = bytearray(as_arrow(pa.table({"km": np.zeros(1000)}), "zstd", chunk=1000))
    place = body.index((8000).to_bytes(8, "little"))
    body[place : place + 8] = (2**40).to_bytes(8, "little")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(bytes(body)).status == 413
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_dictionary_of_long_text_is_not_repeated_per_row() -> None:
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int8)), pa.array(["x" * 5_000_000]))
    schema = FeatureSchema((FeatureField("kind", "category", ("air",)),))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = decoder(schema=schema).decode(as_arrow(pa.table({"kind": long}), chunk=1000), ARROW)
    assert (rows.matrix == -1).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_many_columns_of_nothing_take_no_long_time() -> None:
    table = pa.table({f"n{n}": pa.nulls(1000) for n in range(5000)})
    found = refused(as_arrow(table, chunk=1000))
    assert isinstance(found, InvalidRowsError)
    assert found.total == 5007


def test_the_sizes_of_real_streams_are_read_right() -> None:
    def total(table: pa.Table, **options: Any) -> None:
        body = as_arrow(table, **options)
        size = table.combine_chunks().nbytes
        arrow_messages.check(body, 10 * size)
        with pytest.raises(RequestError):
            arrow_messages.check(body, size // 2)

    table = pa.table({"a": np.arange(10_000.0), "b": [f"text {n}" for n in range(10_000)]})
    for compression in ("lz4", "zstd"):
        total(table, compression=compression, chunk=3000)
        total(pa.table({"c": table["b"].dictionary_encode()}), compression=compression, chunk=3000)
    arrow_messages.check(as_arrow(table), 0)  # nothing is compressed
