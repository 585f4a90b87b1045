"""A model's columns with awkward names, valid records of it, and every body that brings the same records."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.model_policies import ServingSpec
from stk_ml.serving.decoding import oip
from stk_ml.serving.decoding.careful import parse
from stk_ml.serving.decoding.columns import Assembly
from stk_ml.serving.decoding.decoder import Decoder
from stk_ml.serving.decoding.rows import Rows
from stk_ml.serving.decoding.shapes import read

ARROW = "application/vnd.apache.arrow.stream"
SCHEMA = FeatureSchema(
    (
        FeatureField("km", "number"),
        FeatureField("stops", "integer", nullable=False),
        FeatureField("express", "boolean"),
        FeatureField("class", "category", ("road", "air", "Île-aux-Coudres", 'say "so"')),
        FeatureField("a b", "category", ("7", "007", "-1", "10:30"), nullable=False),
        FeatureField("odd: name", "number", minimum=-5, maximum=1e6),
        FeatureField("weight", "number"),
    )
)
REJECTING = ServingSpec(out_of_range="reject", unseen_category="reject")
COUNTING = ServingSpec("count", "count", "count", "count", "count")

_NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
_TEXT = st.text(min_size=1, max_size=8).filter(lambda text: text.strip(" ") != "")


def _values(field: FeatureField) -> st.SearchStrategy[Any]:
    kinds = {
        "number": _NUMBERS,
        "integer": st.integers(-(2**40), 2**40),
        "boolean": st.booleans() | st.sampled_from([0, 1]),
    }
    category = st.sampled_from(field.categories or ("",)) | _TEXT | st.integers(-20, 20)
    found = kinds.get(field.type, category)
    return found | st.none() if field.nullable else found


RECORDS = st.lists(st.fixed_dictionaries({f.name: _values(f) for f in SCHEMA.fields}), min_size=1, max_size=6)
RECORD = {
    "km": 2.5,
    "stops": 3,
    "express": True,
    "class": "air",
    "a b": "007",
    "odd: name": 10,
    "weight": None,
}


def decoder(policy: ServingSpec | None = None, schema: FeatureSchema = SCHEMA, max_rows: int = 1000) -> Decoder:
    return Decoder(schema, policy or ServingSpec(), max_rows=max_rows)


def carefully(of: Decoder, body: bytes, partial: bool = False) -> Rows:
    """What the careful path alone says of a JSON body."""
    table = read(parse(body, of.max_rows), of.schema.names, of.max_rows)
    assembly = Assembly(of.schema, of.policy, table.rows)
    assembly.table(table, of.codec)
    return assembly.finish(table.ids, partial=partial)


def expected(records: list[dict[str, Any]], schema: FeatureSchema = SCHEMA) -> np.ndarray:
    """What training makes of records."""
    return schema.matrix(schema.from_records(records))


def trained(rows: Rows, schema: FeatureSchema = SCHEMA) -> np.ndarray:
    """Decoded rows with the categories that training has not seen as training reads them: missing."""
    matrix = rows.matrix.copy()
    for place in schema.categorical:
        matrix[matrix[:, place] == -1, place] = np.nan
    return matrix


def by_column(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [record[name] for record in records] for name in SCHEMA.names}


def split(records: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(reversed(SCHEMA.names))
    return {"columns": names, "data": [[record[name] for name in names] for record in records]}


def positions(records: list[dict[str, Any]]) -> list[list[Any]]:
    return [[record[name] for name in SCHEMA.names] for record in records]


#: Each shape of JSON that brings records, by name.
SHAPES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "records": lambda records: records,
    "rows": positions,
    "columns": by_column,
    "columns by index": lambda records: {
        name: {str(place): value for place, value in enumerate(values)} for name, values in by_column(records).items()
    },
    "split": split,
    "data of records": lambda records: {"data": records},
    "data with ids": lambda records: {"data": records, "ids": [f"a:{place}" for place in range(len(records))]},
    "data of columns": lambda records: {"data": by_column(records)},
    "dataframe_records": lambda records: {"dataframe_records": records},
    "dataframe_split": lambda records: {"dataframe_split": {"index": [5] * len(records), **split(records)}},
    "instances of records": lambda records: {"instances": records, "signature_name": ""},
    "instances of rows": lambda records: {"instances": positions(records)},
    "inputs of columns": lambda records: {"inputs": by_column(records), "params": {}},
    "inputs of rows": lambda records: {"inputs": positions(records)},
    "inputs of records": lambda records: {"inputs": records},
    "input_data of split": lambda records: {"input_data": split(records)},
}


def as_csv(records: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, SCHEMA.names)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def as_arrow(table: pa.Table, compression: str | None = None, chunk: int = 2) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return sink.getvalue().to_pybytes()


def tensor(name: str, values: list[Any], datatype: str = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}


def as_tensors(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kinds = {"category": "BYTES", "boolean": "BOOL", "integer": "INT64", "number": "FP64"}
    columns = by_column(records)
    return [tensor(field.name, columns[field.name], kinds[field.type]) for field in SCHEMA.fields]


def as_binary(columns: dict[str, np.ndarray], **request: Any) -> tuple[bytes, bytes]:
    """A request of binary tensors as tritonclient writes it, and the value of its length header."""
    names = {"f": "FP", "i": "INT", "u": "UINT", "b": "BOOL", "O": "BYTES"}
    inputs, data = [], b""
    for name, values in columns.items():
        kind = values.dtype.kind
        if kind == "O":
            raw = b"".join(struct.pack("<I", len(v)) + v for v in (str(value).encode() for value in values.ravel()))
        else:
            raw = values.tobytes()
        datatype = names[kind] + (str(values.dtype.itemsize * 8) if kind in "fiu" else "")
        parameters = {"binary_data_size": len(raw)}
        inputs.append({"name": name, "shape": list(values.shape), "datatype": datatype, "parameters": parameters})
        data += raw
    header = json.dumps({**request, "inputs": inputs}).encode()
    return header + data, str(len(header)).encode()


def infer(of: Decoder, request: Any) -> oip.Inference:
    return oip.decode(of, json.dumps(request).encode())
