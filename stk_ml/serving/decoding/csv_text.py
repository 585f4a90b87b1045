"""CSV bodies (RFC 4180): a line of names, then one row per line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from stk_ml.errors import RequestError
from stk_ml.serving.decoding.shapes import Table, check_names, check_rows

if TYPE_CHECKING:
    from stk_ml.artifact.schema import FeatureField, FeatureSchema

_digits = re.compile(r"[0-9+\-.eE]*").fullmatch
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def read(body: bytes, schema: FeatureSchema, max_rows: int) -> Table:
    r"""The rows of a CSV body.

    Args:
        body: UTF-8; a byte order mark, as Excel writes it, is skipped.
        schema: numbers and booleans (true, false, 1, 0) are parsed by it; a category keeps its text. An empty field is
            missing, and so is a quoted empty one. A line without any character is skipped.
        max_rows: most rows taken.

    Raises:
        RequestError: 400 when it is no CSV (``csv``, ``encoding``, ``duplicate``), 413 for too many rows, 422 for none.

    Example:
        >>> from stk_ml.artifact.schema import FeatureField, FeatureSchema
        >>> schema = FeatureSchema((FeatureField("km", "number"), FeatureField("zone", "category", ("007",))))
        >>> read(b"zone,km\n007,2.5\n,1e3\n", schema, 10).columns
        {'zone': ['007', None], 'km': [2.5, 1000.0]}
    """
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        filled = (line for line in lines if line)
        header = next(filled, None)
        rows = list(islice(filled, max_rows + 1))
    except UnicodeDecodeError as error:
        raise RequestError("the body is not UTF-8", reason="encoding") from error
    except csv.Error as error:
        raise RequestError(f"the body is not CSV: {error} at line {lines.line_num}", reason="csv") from error
    if not header or not rows:
        message = "the CSV holds no rows below its header" if header else "the CSV is empty"
        raise RequestError(message, status=422, reason="shape", hint="name the columns in the first line")
    check_rows(len(rows), max_rows)
    check_names(header)
    for place, row in enumerate(rows):
        if len(row) != len(header):
            raise RequestError(f"row {place} has {len(row)} fields, the header has {len(header)}", reason="csv")
    fields = {field.name: field for field in schema.fields}
    columns = {
        name: _values(fields[name], texts)
        for name, texts in zip(header, zip(*rows, strict=True), strict=True)
        if name in fields
    }
    return Table(len(rows), columns, [(-1, name) for name in header if name not in fields])


def _values(field: FeatureField, texts: Sequence[str]) -> list[Any]:
    if field.type == "category":
        return [text or None for text in texts]
    parse: Callable[[str], Any] = _boolean if field.type == "boolean" else _number
    if parse is _number and _digits("".join(texts)):
        try:
            return [float(text) if text else None for text in texts]
        except ValueError:
            pass
    return [parse(text) for text in texts]


def _number(text: str) -> float | str | None:
    """A number, else the text itself: what Python reads beyond plain numbers (1_0, nan, other digits) is none."""
    plain = text.strip(" ")
    if not _digits(plain):
        return text
    try:
        return float(plain) if plain else None
    except ValueError:
        return text


def _boolean(text: str) -> bool | str | None:
    plain = text.strip(" ").lower()
    return _BOOLEANS.get(plain, text) if plain else None
