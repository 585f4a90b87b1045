"""What the OpenAPI document has no words for, told to schemathesis: equal lengths, and bodies that are tables.

Schemathesis loads this by itself (SCHEMATHESIS_HOOKS); pytest does not. The columns are those of the model in conftest.
"""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import pyarrow as pa
import schemathesis

FIELDS = {
    **dict.fromkeys(("km", "weight", "stops"), pa.float64()),
    "express": pa.bool_(),
    **dict.fromkeys(("mode", "depot"), pa.string()),
}


def table(seed: str) -> list[dict[str, Any]]:
    """One to five rows, nasty text among them, that depend on the seed alone."""
    chance = random.Random(seed)
    values = {
        pa.float64(): (None, 0.0, -1.5, 1e308, 5e-324, chance.gauss(0, 1e6)),
        pa.bool_(): (None, True, False),
        pa.string(): (None, "air", "007", "a,b", 'say "x"', "two\nlines", "é\U0001f4e6", "NaN", " "),
    }
    return [{name: chance.choice(values[kind]) for name, kind in FIELDS.items()} for _ in range(chance.randint(1, 5))]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(FIELDS))
    writer.writeheader()
    for row in rows:
        writer.writerow({name: str(value).lower() if isinstance(value, bool) else value for name, value in row.items()})
    return text.getvalue().encode()


def as_arrow(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.schema(FIELDS)) as writer:
        writer.write_table(pa.Table.from_pylist(rows, pa.schema(FIELDS)))
    return sink.getvalue()


MAKERS = {"text/csv": as_csv, "application/vnd.apache.arrow.stream": as_arrow}


@schemathesis.serializer(*MAKERS)
def as_table(context: Any, value: Any) -> bytes:
    """Makes a table of what is meant to be good, except of examples; the rest goes as it is."""
    if isinstance(value, bytes):
        return value
    if is_good(context.case) and context.case.meta.phase.name != "examples":
        return MAKERS[context.case.media_type](table(repr(value)))
    return str(value).encode("utf-8", "replace")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Evens out the lengths in JSON that is meant to be good; what is meant to be bad may not be taken in part."""
    if not is_good(case):
        case.query = {name: value for name, value in (case.query or {}).items() if name != "partial"}
    elif case.media_type not in MAKERS:
        case.body = even(case.body)


def is_good(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


def even(body: Any) -> Any:
    if isinstance(body, list):
        return body
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("inputs"), list) and all(isinstance(x, dict) and "datatype" in x for x in body["inputs"]):
        return {**body, "inputs": tensors(body["inputs"])}
    rows = next((name for name in body if name not in (*FIELDS, "ids", "params", "signature_name")), None)
    if rows is None or "columns" in body:
        return content(body)
    found = {**body, rows: content(body[rows])}
    if found.get("ids"):
        found["ids"] = (found["ids"] * count(found[rows]))[: count(found[rows])]
    return found


def content(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("data"), list):
        rows = len(value["data"])
        return {**value, "index": list(range(rows))} if value.get("index") else value
    if not any(isinstance(inner, (list, dict)) for inner in value.values()):
        return value
    rows = min(len(inner) for inner in value.values())
    names = [str(place) for place in range(rows)]
    return {
        name: inner[:rows] if isinstance(inner, list) else dict(zip(names, inner.values(), strict=False))
        for name, inner in value.items()
    }


def count(value: Any) -> int:
    if isinstance(value, list):
        return len(value)
    if isinstance(value.get("data"), list):
        return len(value["data"])
    first = next(iter(value.values()))
    return len(first) if isinstance(first, (list, dict)) else 1


def tensors(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = min(len(tensor["data"]) for tensor in inputs)
    return [{**t, "data": t["data"][:rows], "shape": [rows, *t["shape"][1:]]} for t in inputs]
