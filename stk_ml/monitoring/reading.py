"""How the columns of two tables are read so that they can be compared, whatever types they come in.

Integers, other numbers and booleans are all numbers. A column that is empty on one side, or gone from the current
table, is missing there in all rows. Where one side holds numbers and the other text, the text is read as numbers, and
what is none is missing: a column of another type shows as a column of missing values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import DataError
from stk_ml.monitoring import counting
from stk_ml.monitoring.tables import Pieces, Reader, Rows, is_text, over_pieces

Kind = Literal["absent", "none", "boolean", "integer", "number", "text", "other"]
#: A text column with more different values than this names its rows rather than describes them.
MOST_TEXTS = 1000
_NUMERIC = ("boolean", "integer", "number")
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass
class Reading:
    """How to read two tables.

    Attributes:
        fields: columns that can be compared.
        score: the prediction; empty without one.
        before, after: readers of columns that are not taken as they are, of each table.
        left_out: columns that are not compared, and why.
        notes: columns that are compared in another form than they came in.
        hollow: columns that one table has no values of.
    """

    fields: list[FeatureField] = field(default_factory=list)
    score: list[FeatureField] = field(default_factory=list)
    before: dict[str, Reader] = field(default_factory=dict)
    after: dict[str, Reader] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hollow: set[str] = field(default_factory=set)

    @property
    def schema(self) -> FeatureSchema:
        """Of the columns, without the prediction."""
        return FeatureSchema(tuple(self.fields))


def plan(reference: Rows, current: Rows, special: set[str], prediction: str = "") -> Reading:
    """Looks at the types of both tables.

    Args:
        reference: gives the types.
        current: is read like it.
        special: columns that are not compared.
        prediction: column of scores.

    Raises:
        DataError: the prediction of the reference holds no numbers.

    Example:
        >>> from stk_ml.monitoring.tables import rows
        >>> then, now = pa.table({"km": [1, 2], "id": [[1], [2]]}), pa.table({"km": ["3", "far"]})
        >>> found = plan(rows(then), rows(now), set())
        >>> found.fields[0].type, found.after["km"](now["km"], 2).to_pylist()
        ('integer', [3.0, None])
    """
    found = Reading()
    names = [name for name in reference.schema.names if name not in special]
    kinds = {name: (_kind(reference, name), _kind(current, name)) for name in names}
    for name, (then, now) in kinds.items():
        if then in _NUMERIC and now == "text" and reference.column(name).null_count == reference.rows:
            kinds[name] = "none", now
    mixed = [name for name, (then, now) in kinds.items() if then == "text" and now in _NUMERIC]
    numbers = {name: numeric for name, numeric in _readable(reference, mixed).items() if numeric}
    words = [name for name, (then, now) in kinds.items() if then == "text" and name not in numbers]
    words += [name for name, (then, now) in kinds.items() if (then, now) == ("none", "text")]
    texts = counting.texts(reference, [name for name in words if kinds[name][0] == "text"], MOST_TEXTS)
    for name in names:
        then, now = kinds[name]
        if problem := _problem(reference, name, then, now, texts):
            found.left_out.append(f"{name}: {problem}")
            continue
        values = tuple(sorted(texts.get(name) or ()))
        if now == "absent" and (then == "other" or (name in words and not values)):
            _add(found, FeatureField(name, "boolean"), "boolean", now, current)
            found.before[name] = _presence
        else:
            _add(found, _field(name, then, now, name in words, values), then, now, current)
    if prediction:
        then, now = _kind(reference, prediction), _kind(current, prediction)
        if then not in (*_NUMERIC, "none"):
            kind = reference.schema.field(prediction).type
            raise DataError(f"column {prediction!r} holds {kind}; predictions are numbers")
        of = FeatureField(prediction, "boolean" if then == now == "boolean" else "number")
        _add(found, of, then, now, current)
    old = set(reference.schema.names)
    found.left_out += [f"{name}: not in the reference" for name in current.schema.names if name not in old]
    if prediction:
        found.score = [found.fields.pop()]
    return found


def _problem(reference: Rows, name: str, then: Kind, now: Kind, texts: Mapping[str, set[str] | None]) -> str:
    """Why a column cannot be compared; a column that is gone is told by its missing values alone."""
    if then == "none" and now not in (*_NUMERIC, "text"):
        return "no values in either table" if now == "none" else "no values in the reference"
    if now == "absent":
        return ""
    if then == "other":
        return f"values of type {reference.schema.field(name).type} are not compared"
    if name in texts and texts[name] is None:
        return f"text with more than {MOST_TEXTS:,} different values"
    return ""


def _field(name: str, then: Kind, now: Kind, words: bool, values: tuple[str, ...]) -> FeatureField:
    if words:
        return FeatureField(name, "category", values)
    if then == "text":
        return FeatureField(name, "number")
    either = now if then == "none" else then
    if either == "boolean" and now in ("integer", "number", "text"):
        return FeatureField(name, "number")
    if either == "boolean":
        return FeatureField(name, "boolean")
    return FeatureField(name, "integer" if either == "integer" and now != "boolean" else "number")


def _add(found: Reading, of: FeatureField, then: Kind, now: Kind, current: Rows) -> None:
    name = of.name
    found.fields.append(of)
    for readers, kind in ((found.before, then), (found.after, now)):
        if reader := _reader(of, kind):
            readers[name] = reader
    if {then, now} & {"none", "absent"} or now == "other":
        found.hollow.add(name)
    if now == "absent":
        found.notes.append(f"{name}: not in the current table; it counts as missing there")
    elif now == "other":
        kind = current.schema.field(name).type
        found.notes.append(f"{name}: {kind} in the current table; it counts as missing there")
    elif of.type != "category" and "text" in (then, now) and then != now:
        where = "current table" if now == "text" else "reference"
        found.notes.append(f"{name}: text in the {where}; it is read as numbers, and what is none counts as missing")
    elif of.type == "category" and now in _NUMERIC:
        found.notes.append(f"{name}: {now} in the current table; it is compared as text")


def _reader(of: FeatureField, kind: Kind) -> Reader | None:
    """How a column of a kind becomes what a field takes; None when it is that already."""
    if kind in ("none", "absent", "other"):
        types = {"category": pa.string(), "boolean": pa.bool_()}
        return partial(_nothing, types.get(of.type, pa.float64()))
    if of.type == "category":
        return _words if kind in _NUMERIC else None
    if kind == "text":
        return _numbers
    return _flags if kind == "boolean" and of.type != "boolean" else None


def _nothing(kind: pa.DataType, column: pa.ChunkedArray | None, rows: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(rows, kind)])


def _presence(column: pa.ChunkedArray | None, rows: int) -> pa.ChunkedArray:
    """True where there is a value."""
    return pc.if_else(pc.is_valid(column), True, None)


def _flags(column: pa.ChunkedArray | None, rows: int) -> pa.ChunkedArray:
    return pc.cast(column, pa.int8()).cast(pa.float64())


def _words(column: pa.ChunkedArray | None, rows: int) -> pa.ChunkedArray:
    return pc.cast(column, pa.string())


def _numbers(column: pa.ChunkedArray | None, rows: int) -> pa.ChunkedArray:
    return as_numbers(column)


def as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as float64, null where they are no numbers; true is 1 and false is 0.

    Example:
        >>> as_numbers(pa.chunked_array([["1", " 2.5", "N/A", "3,5", None, "true"]])).to_pylist()
        [1.0, 2.5, None, None, None, 1.0]
    """
    text = pc.utf8_lower(pc.utf8_trim_whitespace(column.cast(pa.string())))
    text = pc.if_else(pc.equal(text, "true"), "1", pc.if_else(pc.equal(text, "false"), "0", text))
    shaped = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, pa.scalar(None, pa.string()))
    return pc.utf8_ltrim(shaped, "+").cast(pa.float64())


def _readable(table: Rows, names: Iterable[str]) -> dict[str, bool]:
    """Whether at least half of the texts of each column are numbers."""
    names = list(names)

    def work(pieces: Pieces) -> list[list[int]]:
        found = [[0, 0] for _ in names]
        for _, piece in pieces:
            for count, name in zip(found, names, strict=True):
                column = piece.column(name)
                count[0] += len(column) - column.null_count
                count[1] += len(column) - as_numbers(column).null_count
        return found

    totals = [[0, 0] for _ in names]
    for part in over_pieces(table, names, work) if names else ():
        for total, count in zip(totals, part, strict=True):
            total[0], total[1] = total[0] + count[0], total[1] + count[1]
    return {name: 2 * numbers >= valid for name, (valid, numbers) in zip(names, totals, strict=True)}


def _kind(table: Rows, name: str) -> Kind:
    if name not in table.schema.names:
        return "absent"
    types, kind = pa.types, table.schema.field(name).type
    if types.is_null(kind):
        return "none"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_integer(kind):
        return "integer"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    return "text" if is_text(kind) else "other"
