"""The shapes in which JSON brings rows, told apart: records, columns, rows in the model's order, and envelopes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from stk_ml.errors import RequestError
from stk_ml.serving.decoding.rows import MOST_ID

#: Keys around a list of records; ``data`` is ours, ``input_data`` Azure ML's, the others MLflow's.
RECORD_ENVELOPES = ("data", "dataframe_records", "instances", "inputs", "input_data")
ENVELOPES = (*RECORD_ENVELOPES, "dataframe_split")
#: Keys that may stand beside them as long as they ask for nothing.
_BESIDE = ("params", "signature_name")
#: Stands in a column where a record does not name it.
ABSENT = object()
_SHAPES = "send a list of records, or an object of columns; /docs shows each shape"


@dataclass
class Table:
    """Rows as columns of JSON values.

    Attributes:
        rows: number of rows.
        columns: values by name, among them those that the model does not take; ``ABSENT`` where a record has none.
        unknown: row (-1: all rows) and name of each value that the model does not take.
        ids: as given, or none.
    """

    rows: int
    columns: Mapping[str, Sequence[Any]]
    unknown: Sequence[tuple[int, str]] = ()
    ids: Sequence[str] = ()


def read(value: Any, names: Sequence[str], max_rows: int) -> Table:
    """The rows of a JSON document.

    A bare object whose keys cover the model's columns is a record or columns, even when a column has the name of an
    envelope; else an envelope is looked for.

    Args:
        value: parsed JSON.
        names: the model's columns, in its order.
        max_rows: most rows taken.

    Raises:
        RequestError: 422 for a shape that holds no rows of this model, 413 for too many rows.

    Example:
        >>> read({"instances": [[1, "air"], [2, "road"]]}, ["km", "kind"], 10).columns
        {'km': (1, 2), 'kind': ('air', 'road')}
        >>> read({"km": [1, 2], "kind": ["air", None]}, ["km", "kind"], 10).rows
        2
    """
    reader = _Reader(names, max_rows)
    if isinstance(value, dict) and not reader.covers(value) and not _is_split(value):
        present = [key for key in ENVELOPES if key in value]
        if len(present) > 1:
            _refuse(f"the body holds both {present[0]!r} and {present[1]!r}")
        if present:
            return reader.envelope(present[0], value)
    return reader.content(value)


class _Reader:
    def __init__(self, names: Sequence[str], max_rows: int) -> None:
        self.names, self.known, self.max_rows = names, set(names), max_rows

    def covers(self, value: dict[str, Any]) -> bool:
        """Whether an object holds the model's columns itself, not an envelope that has the name of one."""
        return self.known <= value.keys() and not any(
            (isinstance(inner := value[name], list) and inner and isinstance(inner[0], (dict, list)))
            or (isinstance(inner, dict) and (self.known <= inner.keys() or _is_split(inner)))
            for name in self.known.intersection(ENVELOPES)
        )

    def envelope(self, key: str, value: dict[str, Any]) -> Table:
        for beside in value.keys() - {key}:
            if beside == "ids" or (beside in _BESIDE and not value[beside]):
                continue
            _refuse(f"{_short(beside)} stands beside {key!r}, where no column may be")
        table = self.split(value[key]) if key == "dataframe_split" else self.content(value[key])
        if value.get("ids") is not None:
            table.ids = _ids(value["ids"], table.rows)
        return table

    def content(self, value: Any) -> Table:
        if isinstance(value, list):
            self.count(len(value), "the list")
            return self.positions(self.names, value) if isinstance(value[0], list) else self.records(value)
        if not isinstance(value, dict):
            _refuse(f"rows are meant, and {describe(value)} was found")
        if not self.known <= value.keys() and _is_split(value):
            return self.split(value)
        columnar = [inner for name, inner in value.items() if name in self.known and isinstance(inner, (list, dict))]
        return self.columns(value) if columnar else self.records([value])

    def records(self, records: list[Any]) -> Table:
        for row, record in enumerate(records):
            if not isinstance(record, dict):
                _refuse(f"row {row} is {describe(record)}, no object")
        unknown = [
            (row, name)
            for row, record in enumerate(records)
            if record.keys() != self.known
            for name in record
            if name not in self.known
        ]
        columns = {name: [record.get(name, ABSENT) for record in records] for name in self.names}
        return Table(len(records), columns, unknown)

    def columns(self, value: dict[str, Any]) -> Table:
        columns = {name: _values(name, inner) for name, inner in value.items()}
        first = next(name for name in self.names if name in columns)
        rows = len(columns[first])
        self.count(rows, f"column {first!r}")
        for name, values in columns.items():
            if len(values) != rows:
                _refuse(f"column {_short(name)} has {len(values)} values, column {first!r} has {rows}")
        index = next((list(inner) for inner in value.values() if isinstance(inner, dict)), None)
        if any(isinstance(inner, dict) and list(inner) != index for inner in value.values()):
            _refuse("the columns do not name the same rows")
        return self.named(columns, rows)

    def split(self, value: Any) -> Table:
        if not _is_split(value) or not all(isinstance(name, str) for name in value["columns"]):
            _refuse("a split frame is an object of 'columns' (names) and 'data' (a list of lists)")
        for beside in value.keys() - {"columns", "data", "index"}:
            _refuse(f"{_short(beside)} is no part of a split frame")
        names = value["columns"]
        check_names(names)
        self.count(len(value["data"]), "'data'")
        index = value.get("index")
        if index is not None and (not isinstance(index, list) or len(index) != len(value["data"])):
            _refuse(f"'index' does not name the {len(value['data'])} rows")
        return self.positions(names, value["data"])

    def positions(self, names: Sequence[str], rows: list[Any]) -> Table:
        for row, values in enumerate(rows):
            if not isinstance(values, list) or len(values) != len(names):
                found = f"{len(values)} values" if isinstance(values, list) else describe(values)
                _refuse(f"row {row} holds {found}, not one value for each of {len(names)} columns")
        return self.named(dict(zip(names, zip(*rows, strict=True), strict=True)), len(rows))

    def named(self, columns: Mapping[str, Sequence[Any]], rows: int) -> Table:
        return Table(rows, columns, [(-1, name) for name in columns if name not in self.known])

    def count(self, rows: int, where: str) -> None:
        if not rows:
            _refuse(f"{where} holds no rows")
        check_rows(rows, self.max_rows)


def check_rows(rows: int, max_rows: int) -> None:
    """Raises RequestError 413 when there are more rows than are taken at a time."""
    if rows > max_rows:
        raise RequestError(
            f"there are more rows than the {max_rows} that are taken at a time",
            status=413,
            reason="too_large",
            hint="send them in several requests, or score a file with stk-ml score",
        )


def check_names(names: Sequence[str]) -> None:
    """Raises RequestError 400 when a column is named twice."""
    if len(set(names)) < len(names):
        double = next(name for name, times in Counter(names).items() if times > 1)
        raise RequestError(f"column {_short(double)} is named twice", reason="duplicate")


def describe(value: Any) -> str:
    """A JSON value in a few words.

    Example:
        >>> describe("far"), describe([1, 2]), describe(None), describe(2.5), describe("x" * 99)[-8:]
        ("'far'", 'a list', 'null', '2.5', "xxxx...'")
    """
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    return str(value)


def _is_split(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("columns"), list)
        and isinstance(value.get("data"), list)
        and value.keys() <= {"columns", "data", "index"}
    )


def _values(name: str, inner: Any) -> Sequence[Any]:
    if isinstance(inner, dict):
        return list(inner.values())
    if not isinstance(inner, list):
        _refuse(f"column {_short(name)} is {describe(inner)}, where others are lists")
    return inner


def _ids(ids: Any, rows: int) -> list[str]:
    if not isinstance(ids, list) or len(ids) != rows:
        _refuse(f"'ids' is no list of one id for each of the {rows} rows")
    for id_ in ids:
        if not isinstance(id_, str) or len(id_) > MOST_ID:
            _refuse(f"an id is text of at most {MOST_ID} characters, not {describe(id_)}")
    return ids


def _short(text: str) -> str:
    return repr(text if len(text) <= 64 else text[:61] + "...")


def _refuse(message: str) -> NoReturn:
    raise RequestError(message, status=422, reason="shape", hint=_SHAPES)
