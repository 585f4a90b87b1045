"""The Open Inference Protocol (KServe v2): tensors to rows, and scores to a tensor, in JSON or with binary data.

https://github.com/kserve/open-inference-protocol and Triton's extension for binary tensors,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec
import numpy as np

from stk_ml.errors import RequestError
from stk_ml.serving.decoding import careful, tensors
from stk_ml.serving.decoding.columns import Assembly
from stk_ml.serving.decoding.rows import MOST_ID, Rows
from stk_ml.serving.decoding.shapes import Table, check_names, check_rows, describe

if TYPE_CHECKING:
    from stk_ml.serving.decoding.decoder import Decoder

#: Name of the one output.
OUTPUT = "score"
HEADER = b"inference-header-content-length"


class Inference(NamedTuple):
    """A decoded inference request.

    Attributes:
        rows: of the model.
        id: given by the caller, or empty.
        binary: whether the scores are asked for as binary data.
    """

    rows: Rows
    id: str
    binary: bool


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: list[int]
    values: Sequence[Any]


def decode(
    decoder: Decoder, body: bytes, header_length: bytes | int | None = None, *, partial: bool = False
) -> Inference:
    """The rows of an inference request.

    Args:
        decoder: of the model.
        body: decompressed.
        header_length: of the JSON in front of the binary data, as the header Inference-Header-Content-Length says;
            None when all of it is JSON.
        partial: see :meth:`Decoder.decode`.

    Each column is a tensor of its name and the shape [rows] or [rows, 1]; or one tensor of the shape [rows, columns]
    holds all of them in the model's order.

    Raises:
        RequestError: 400 malformed, 413 too many rows, 422 when the tensors are not those of the model.
        InvalidRowsError: 422; values are rejected.
    """
    length = _length(header_length, len(body))
    request = careful.parse(body[:length], decoder.max_rows)
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list) or not request["inputs"]:
        _refuse("the body is no object with a list of 'inputs'")
    id_ = request.get("id", "")
    if not isinstance(id_, str) or len(id_) > MOST_ID:
        _refuse(f"'id' is no text of at most {MOST_ID} characters")
    reader = tensors.Reader(memoryview(body)[length:])
    inputs = [_tensor(given, reader) for given in request["inputs"]]
    reader.finish()
    table = _table(inputs, decoder.schema.names, decoder.max_rows)
    assembly = Assembly(decoder.schema, decoder.policy, table.rows)
    assembly.table(table, decoder.codec)
    return Inference(assembly.finish((), partial=partial), id_, _binary(request))


def encode(
    model: str, version: str, request: Inference, scores: Sequence[float]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The answer's body, and the headers it needs beside its length.

    Args:
        model: its name.
        version: of the model.
        request: that is answered. A row that was rejected is null, in binary data NaN.
        scores: one per row.

    Example:
        >>> import numpy as np
        >>> request = Inference(Rows(np.zeros((2, 1))), "7", binary=True)
        >>> body, headers = encode("late", "3", request, [0.25, 0.5])
        >>> headers, np.frombuffer(body[146:]).tolist()
        ([(b'inference-header-content-length', b'146')], [0.25, 0.5])
    """
    bad = request.rows.bad
    values = [None if row in bad else float(score) for row, score in enumerate(scores)]
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP64", "shape": [len(values)]}
    data = b""
    if request.binary:
        data = np.array([math.nan if value is None else value for value in values], dtype="<f8").tobytes()
        output["parameters"] = {"binary_data_size": len(data)}
    else:
        output["data"] = values
    answer: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id:
        answer["id"] = request.id
    text = msgspec.json.encode({**answer, "outputs": [output]})
    return text + data, [(HEADER, b"%d" % len(text))] if request.binary else []


def _tensor(given: Any, reader: tensors.Reader) -> _Tensor:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        _refuse("an input is no object with a 'name'")
    name, shape, datatype = given["name"], given.get("shape"), given.get("datatype")
    shown = f"input {describe(name)}"
    if not isinstance(shape, list) or not 0 < len(shape) < 3 or not all(_is_size(size) for size in shape):
        _refuse(f"{shown}: its 'shape' is no list of one or two sizes")
    if not isinstance(datatype, str) or datatype not in tensors.DATATYPES:
        _refuse(f"{shown}: datatype {describe(datatype)} is none of {', '.join(tensors.DATATYPES)}")
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict) or "shared_memory_region" in parameters:
        _refuse(f"{shown}: shared memory is not there")
    for other in given.keys() - {"name", "shape", "datatype", "parameters", "data"}:
        _refuse(f"{shown}: {describe(other)} is no part of a tensor")
    size, binary = math.prod(shape), parameters.get("binary_data_size")
    if ("data" in given) == (binary is not None):
        _refuse(f"{shown}: it has {'both' if 'data' in given else 'neither'} 'data' and binary data")
    values = tensors.flat(given["data"], shape) if binary is None else reader.take(datatype, size, binary, shown)
    if values is None or len(values) != size:
        _refuse(f"{shown}: its data are not of the shape {shape}")
    return _Tensor(name, shape, values)


def _is_size(size: Any) -> bool:
    return type(size) is int and 0 <= size < 2**32


def _table(inputs: list[_Tensor], names: list[str], max_rows: int) -> Table:
    check_names([tensor.name for tensor in inputs])
    first = inputs[0]
    rows = first.shape[0]
    if not rows:
        _refuse(f"input {describe(first.name)} holds no rows")
    check_rows(rows, max_rows)
    width = len(names)
    if (
        len(inputs) == 1
        and len(first.shape) == 2
        and first.shape[1] == width
        and (width > 1 or first.name not in names)
    ):
        return Table(rows, {name: first.values[place::width] for place, name in enumerate(names)})
    for tensor in inputs:
        if tensor.shape not in ([rows], [rows, 1]):
            _refuse(f"input {describe(tensor.name)} has the shape {tensor.shape}, not [{rows}] or [{rows}, 1]")
    columns, known = {tensor.name: tensor.values for tensor in inputs}, set(names)
    return Table(rows, columns, [(-1, name) for name in columns if name not in known])


def _binary(request: dict[str, Any]) -> bool:
    """Whether binary data is asked for: by the request for all outputs, or by the output for itself."""
    wanted = _parameters(request).get("binary_data_output", False)
    outputs = request.get("outputs") or []
    if not isinstance(outputs, list):
        _refuse("'outputs' is no list")
    for output in outputs:
        if not isinstance(output, dict) or output.get("name") != OUTPUT:
            _refuse(f"the only output is {OUTPUT!r}")
        if "classification" in _parameters(output):
            _refuse("classification is not there")
        wanted = _parameters(output).get("binary_data", wanted)
    return wanted is True


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict):
        _refuse("'parameters' is no object")
    return parameters


def _length(header: bytes | int | None, size: int) -> int:
    if header is None:
        return size
    text = str(header) if isinstance(header, int) else header.decode("latin-1")
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) <= size):
        raise RequestError(f"{HEADER.decode()} is {text[:32]!r}, and the body has {size} bytes", reason="binary")
    return int(text)


def _refuse(message: str) -> NoReturn:
    raise RequestError(message, status=422, reason="shape", hint="GET /v2/models/NAME lists the inputs")
