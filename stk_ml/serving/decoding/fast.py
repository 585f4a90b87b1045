"""The fast path: JSON records that are right in every point, straight from bytes to numbers.

msgspec decodes into a Struct that is made from the schema, so types, ranges and nulls are checked while it parses. In
any doubt the answer is None, and the careful path finds out what is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

from stk_ml.serving.decoding.codes import codes
from stk_ml.serving.decoding.rows import MOST_ID, UNSEEN, Rows
from stk_ml.serving.decoding.shapes import RECORD_ENVELOPES

if TYPE_CHECKING:
    from stk_ml.artifact.schema import FeatureField, FeatureSchema
    from stk_ml.model_policies import ServingSpec

_NAN = float("nan")
#: Takes the place of a category that is to be rejected: no number, so that packing the row fails.
_REJECTED = "unseen"


class FastDecoder:
    """Decodes plain records of one model.

    Args:
        schema: the model's columns.
        policy: what is rejected; such a value leaves the fast path.
        max_rows: a body with more leaves the fast path.
    """

    def __init__(self, schema: FeatureSchema, policy: ServingSpec, *, max_rows: int) -> None:
        self._max_rows, self._width = max_rows, len(schema.fields)
        default: Any = UNSEEN if policy.unseen_category == "count" else _REJECTED
        self._codes = [(place, codes(schema.fields[place]).get, default) for place in schema.categorical]
        self._categories = [(place, schema.names[place]) for place in schema.categorical]
        self._bounds = [
            (
                place,
                field.name,
                -np.inf if field.minimum is None else field.minimum,
                np.inf if field.maximum is None else field.maximum,
            )
            for place, field in enumerate(schema.fields)
            if field.minimum is not None or field.maximum is not None
        ]
        self._pack = struct.Struct(f"{self._width}d").pack
        self._colons = sum(name.count(":") for name in schema.names)
        record = _record(schema, policy.out_of_range == "reject")
        self._bare = msgspec.json.Decoder(record).decode
        self._one = msgspec.json.Decoder(tuple[record]).decode  # type: ignore[valid-type]
        self._list = msgspec.json.Decoder(list[record]).decode  # type: ignore[valid-type]
        # Where a column has the name of an envelope, only the careful path tells them apart.
        names = [name for name in RECORD_ENVELOPES if not {name, "ids"} & set(schema.names)]
        self._prefixes = tuple(f'{{"{name}"'.encode() for name in names)
        self._wrapped_one = msgspec.json.Decoder(_envelope(names, tuple[record], tuple[_Id])).decode  # type: ignore[valid-type]
        self._wrapped = msgspec.json.Decoder(_envelope(names, list[record], list[_Id])).decode  # type: ignore[valid-type]

    @staticmethod
    def takes(schema: FeatureSchema) -> bool:
        """Whether msgspec can name the columns: it refuses names that JSON has to escape."""
        return not any(char in '"\\' or char < " " for name in schema.names for char in name)

    def single(self, body: bytes) -> tuple[npt.NDArray[np.float64], str] | None:
        """The one row of a body, read-only, and its id (or empty); None when it is anything but one flawless row."""
        try:
            if body[0] == 91:  # [
                (row,) = self._one(body)
                keys, id_ = self._width, ""
            elif body.startswith(self._prefixes):
                rows, ids, extra = _unwrap(self._wrapped_one(body))
                (row,), keys, id_ = rows, self._width + extra, ids[0] if ids else ""
            else:
                row, keys, id_ = self._bare(body), self._width, ""
            if body.count(b":") != keys and not self._plain(body, (row,), (id_,), keys):
                return None
            return np.frombuffer(self._numbers(row)), id_
        except Exception:  # whatever it is, the careful path names it
            return None

    def many(self, body: bytes) -> Rows | None:
        """The rows of a body; None when anything is wrong with it, or when it is no list of records."""
        try:
            start = body.lstrip(b" \t\r\n")[:64] if body[:1].isspace() else body
            rows: Sequence[Any]
            ids: Sequence[str]
            if start[:1] == b"[":
                rows, ids, extra = self._list(body), (), 0
            elif start.startswith(self._prefixes):
                rows, ids, extra = _unwrap(self._wrapped(body))
            else:
                rows, ids, extra = (self._bare(body),), (), 0
            count = len(rows)
            if not 0 < count <= self._max_rows or (ids and len(ids) != count):
                return None
            keys = count * self._width + extra
            if body.count(b":") != keys and not self._plain(body, rows, ids, keys):
                return None
            matrix = np.frombuffer(bytearray().join(map(self._numbers, rows))).reshape(count, self._width)
            return Rows(matrix, ids, counted=self._counted(matrix))
        except Exception:  # whatever it is, the careful path names it
            return None

    def _numbers(self, row: Any) -> bytes:
        values: list[Any] = list(astuple(row))
        for place, code, default in self._codes:
            values[place] = code(values[place], default)
        try:
            return self._pack(*values)
        except struct.error:
            return self._pack(*[_NAN if value is None else value for value in values])

    def _plain(self, body: bytes, rows: Sequence[Any], ids: Sequence[str], keys: int) -> bool:
        """Whether every colon of the body is accounted for, so that no key was given twice.

        Each key has one colon after it; others stand in names and values, as they are read only without escapes.
        """
        if b"\\" in body:
            return False
        inside = sum(value.count(":") for row in rows for value in astuple(row) if type(value) is str)
        return body.count(b":") == keys + inside + len(rows) * self._colons + sum(id_.count(":") for id_ in ids)

    def _counted(self, matrix: npt.NDArray[np.float64]) -> dict[tuple[str, str], int]:
        found = {}
        for place, name in self._categories:
            if unseen := int(np.count_nonzero(matrix[:, place] == UNSEEN)):
                found["unseen_category", name] = unseen
        for place, name, low, high in self._bounds:
            column = matrix[:, place]
            if outside := int(np.count_nonzero((column < low) | (column > high))):
                found["out_of_range", name] = outside
        return found


class NeverFast:
    """Stands for the fast path where there is none."""

    def single(self, body: bytes) -> None:
        """No row, whatever the body."""

    def many(self, body: bytes) -> None:
        """No rows, whatever the body."""


_Id = Annotated[str, Meta(max_length=MOST_ID)]


def _record(schema: FeatureSchema, bounded: bool) -> Any:
    fields = [(f"f{place}", _type(field, bounded)) for place, field in enumerate(schema.fields)]
    names = {f"f{place}": name for place, name in enumerate(schema.names)}
    return msgspec.defstruct("Record", fields, rename=names, gc=False, forbid_unknown_fields=True)


def _type(field: FeatureField, bounded: bool) -> Any:
    kind: Any
    if field.type == "category":
        kind = str | int
    elif field.type == "boolean":
        kind = bool | Literal[0, 1]
    elif bounded:
        kind = Annotated[float, Meta(ge=field.minimum, le=field.maximum)]
    else:
        kind = float
    return kind | None if field.nullable else kind


def _envelope(names: Sequence[str], rows: Any, ids: Any) -> Any:
    fields: list[Any] = [(name, rows | UnsetType, UNSET) for name in names]
    fields.append(("ids", ids | UnsetType, UNSET))
    return msgspec.defstruct("Envelope", fields, gc=False, forbid_unknown_fields=True)


def _unwrap(envelope: Any) -> tuple[Sequence[Any], Sequence[str], int]:
    """The rows, the ids and the number of keys of an envelope that holds rows once."""
    *wrapped, ids = astuple(envelope)
    (rows,) = (rows for rows in wrapped if rows is not UNSET)
    if ids is UNSET:
        return rows, (), 1
    if not ids:
        raise ValueError("one id per row")
    return rows, ids, 2
