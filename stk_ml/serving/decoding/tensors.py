"""The data of tensors: flat or nested lists of JSON, and the little-endian binary form."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from stk_ml.errors import RequestError

#: Datatypes of the Open Inference Protocol that are taken, and numpy's name of each.
DATATYPES = {
    "BOOL": "u1",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "",
}


def flat(data: Any, shape: Sequence[int]) -> list[Any] | None:
    """The values of a tensor in row-major order, which JSON may nest; None when they are no lists of that shape.

    Example:
        >>> flat([[1, 2], [3, 4]], [2, 2]), flat([1, 2, 3, 4], [2, 2]), flat([[1, 2], [3]], [2, 2])
        ([1, 2, 3, 4], [1, 2, 3, 4], None)
    """
    if not isinstance(data, list):
        return None
    for size in shape[1:]:
        if not data or not isinstance(data[0], list):
            break
        if not all(isinstance(inner, list) and len(inner) == size for inner in data):
            return None
        data = [value for inner in data for value in inner]
    return list(data)


class Reader:
    """Takes the binary data behind the JSON, tensor by tensor.

    Args:
        data: all of it.
    """

    def __init__(self, data: memoryview) -> None:
        self.data, self.place = data, 0

    def take(self, datatype: str, count: int, size: Any, shown: str) -> list[Any]:
        """The next values.

        Args:
            datatype: of the tensor.
            count: of its values.
            size: in bytes, as the caller says.
            shown: the tensor's name for messages.

        Raises:
            RequestError: 400 when the size does not fit the data or the values.
        """
        if type(size) is not int or not 0 <= size <= len(self.data) - self.place:
            raise _malformed(f"{shown}: 'binary_data_size' is no number of the bytes that follow")
        data = self.data[self.place : self.place + size]
        self.place += size
        if datatype == "BYTES":
            return _texts(data, count, shown)
        dtype = np.dtype(DATATYPES[datatype])
        if size != count * dtype.itemsize:
            raise _malformed(f"{shown}: {size} bytes are not {count} values of {datatype}")
        values = np.frombuffer(data, dtype)
        if datatype == "BOOL":
            if (values > 1).any():
                raise _malformed(f"{shown}: a BOOL is neither 0 nor 1")
            values = values.astype(np.bool_)
        return list(values.tolist())

    def finish(self) -> None:
        """Raises RequestError 400 when data is left."""
        if self.place != len(self.data):
            raise _malformed(f"{len(self.data) - self.place} bytes belong to no input")


def _texts(data: memoryview, count: int, shown: str) -> list[str]:
    """Texts, each after its length in 4 bytes."""
    found: list[str] = []
    place = 0
    while place < len(data) and len(found) < count:
        if place + 4 > len(data):
            raise _malformed(f"{shown}: its BYTES are cut short")
        (length,) = struct.unpack_from("<I", data, place)
        place += 4 + length
        if place > len(data):
            raise _malformed(f"{shown}: its BYTES are cut short")
        try:
            found.append(str(data[place - length : place], "utf-8"))
        except UnicodeDecodeError as error:
            raise RequestError(f"{shown}: its BYTES are not UTF-8", reason="encoding") from error
    if place != len(data) or len(found) != count:
        raise _malformed(f"{shown}: its BYTES are not {count} texts")
    return found


def _malformed(message: str) -> RequestError:
    return RequestError(message, reason="binary")
