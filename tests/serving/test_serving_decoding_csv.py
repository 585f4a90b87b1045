"""CSV bodies: text keeps its zeros, an empty field is missing, and what is wrong is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from decoding_rigs import RECORD, SCHEMA, as_csv, decoder, expected

from stk_ml.errors import InvalidRowsError, RequestError
from stk_ml.serving.decoding.rows import Rows

HEADER = b"km,stops,express,class,a b,odd: name,weight\n"
LINE = b"2.5,3,true,air,007,10,\n"
WANTED = expected([RECORD])


def decode(body: bytes, *, max_rows: int = 100, partial: bool = False) -> Rows:
    return decoder(max_rows=max_rows).decode(body, "text/csv", partial=partial)


@pytest.mark.parametrize(
    "body",
    [
        HEADER + LINE,
        (HEADER + LINE).rstrip(b"\n"),
        (HEADER + LINE).replace(b"\n", b"\r\n"),
        (HEADER + LINE).replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + HEADER + LINE,
        b"\n" + HEADER + b"\r\n" + LINE + b"\n\n",
        HEADER + b'"2.5","3","true","air","007","10",""\n',
        HEADER + b" 2.5,3 ,TRUE,air,007,1e1, \n",
        HEADER + b"+2.50,3.0,1.0,air,007,.1E+2,\n",
        b"weight,odd: name,a b,class,express,stops,km\n,10,007,air,True,3,2.5\n",
    ],
)
def test_ways_to_write_one_row(body: bytes) -> None:
    np.testing.assert_array_equal(decode(body).matrix, WANTED)


def test_pandas_writes_what_is_read() -> None:
    records = [RECORD, {**RECORD, "express": None, "class": None, "km": 1e-300}]
    body = pd.DataFrame(records).to_csv(index=False).encode()
    np.testing.assert_array_equal(decode(body).matrix, expected(records))


def test_quoted_line_breaks_commas_and_quotes_belong_to_a_value() -> None:
    body = as_csv([{**RECORD, "class": 'say "so"'}, {**RECORD, "class": "a,\r\nb"}])
    assert decode(body).matrix[:, 3].tolist() == [3, -1]


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "1_0", "0x1", "1,5", "١", "1 2", "1e", "--1", "NULL", "\t"])
def test_what_is_no_plain_number_is_named(text: str) -> None:
    with pytest.raises(InvalidRowsError) as caught:
        decode(HEADER + LINE + LINE.replace(b"2.5", f'"{text}"'.encode()))
    assert [(p.row, p.column) for p in caught.value.problems] == [(1, "km")]


def test_a_number_beyond_a_float_and_a_strange_boolean_are_named() -> None:
    with pytest.raises(InvalidRowsError) as caught:
        decode(HEADER + LINE.replace(b"2.5", b"1e999").replace(b"true", b"yes"))
    assert [p.reason for p in caught.value.problems] == [
        "inf is too large a number",
        "'yes' is neither true nor false",
    ]


def test_an_empty_field_is_missing_where_it_may_not_be() -> None:
    rows = decode(HEADER + LINE + LINE.replace(b",3,", b",,"), partial=True)
    assert (rows.bad, rows.problems[0].reason) == ({1}, "it may not be null")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 422, "shape"),
        (b"\n\n", 422, "shape"),
        (HEADER, 422, "shape"),
        (HEADER + LINE[:-2], 400, "csv"),
        (HEADER + LINE + b"1,2\n", 400, "csv"),
        (HEADER + b'"2.5,3', 400, "csv"),
        (HEADER + LINE.replace(b"air", b'"air"x'), 400, "csv"),
        (HEADER + LINE.replace(b"air", b"a" * 200_000), 400, "csv"),
        (HEADER + LINE.replace(b"air", b"\xff"), 400, "encoding"),
        (HEADER.replace(b"stops", b"km") + LINE, 400, "duplicate"),
        (HEADER + LINE * 101, 413, "too_large"),
        (HEADER.replace(b"km", b"miles") + LINE, 422, "rows"),
    ],
)
def test_what_is_no_csv_of_the_model_is_refused(body: bytes, status: int, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode(body)
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert "\n" not in str(caught.value)


def test_the_columns_of_the_model_are_named_when_the_header_lacks_them() -> None:
    with pytest.raises(InvalidRowsError) as caught:
        decode(b"x\n1\n")
    assert {p.column for p in caught.value.problems} == {"x", *SCHEMA.names}
