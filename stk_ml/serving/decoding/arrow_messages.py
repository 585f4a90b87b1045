"""How large the buffers of an Arrow stream become, read from its messages before anything is decompressed.

pyarrow allocates what a compressed buffer claims to hold; a stream of a few bytes can claim gigabytes. Layout:
https://github.com/apache/arrow/blob/main/format/Message.fbs, and FlatBuffers' own documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from stk_ml.errors import RequestError

_DICTIONARY, _BATCH = 2, 3  # MessageHeader
_CONTINUATION = 0xFFFFFFFF
#: Bytes of a table in memory before its values: reading the parts of a stream costs about that much each.
_MOST_MESSAGES = 10_000


def check(body: bytes, max_bytes: int) -> None:
    """Refuses a stream whose compressed buffers would become too large.

    Raises:
        RequestError: 413 past ``max_bytes`` in all, or for more messages than any writer of so few rows makes.
        struct.error, ValueError: it is no sound stream.
    """
    total = 0
    for count, (metadata, content) in enumerate(_messages(body)):
        if count > _MOST_MESSAGES:
            raise RequestError(f"the stream has more than {_MOST_MESSAGES} messages", status=413, reason="too_large")
        for size in _sizes(metadata, content):
            total += size
            if total > max_bytes:
                message = f"the stream is larger than {max_bytes} bytes once it is not compressed"
                raise RequestError(message, status=413, reason="too_large")


def _messages(body: bytes) -> Iterator[tuple[memoryview, memoryview]]:
    """Metadata and body of each message; both framings, with and without the continuation mark."""
    view, place = memoryview(body), 0
    while place < len(body):
        (length,) = struct.unpack_from("<I", body, place)
        place += 4
        if length == _CONTINUATION:
            (length,) = struct.unpack_from("<I", body, place)
            place += 4
        if not length:
            return
        metadata = view[place : place + length]
        (size,) = _Table.root(metadata).scalars(3, "<q") or (0,)
        place += length
        if size < 0 or place + size > len(body):
            raise ValueError("it is cut short")
        yield metadata, view[place : place + size]
        place += size


def _sizes(metadata: memoryview, content: memoryview) -> Iterator[int]:
    """What each compressed buffer of a message claims to hold."""
    message = _Table.root(metadata)
    (kind,) = message.scalars(1, "<B") or (0,)
    header = message.table(2)
    if kind == _DICTIONARY and header:
        header = header.table(1)
    if kind not in (_DICTIONARY, _BATCH) or not header or not header.table(3):
        return
    for offset, length in header.structs(2, "<qq"):
        if length < 0 or offset < 0 or offset + length > len(content):
            raise ValueError("a buffer lies outside its message")
        if length:
            (claimed,) = struct.unpack_from("<q", content, offset)  # -1: it is not compressed after all
            yield max(claimed, 0)


class _Table:
    """A table of a FlatBuffer: its fields by number, found through its vtable."""

    def __init__(self, data: memoryview, place: int) -> None:
        self.data, self.place = data, place
        (back,) = struct.unpack_from("<i", data, place)
        self.vtable = place - back
        if place < 0 or self.vtable < 0:
            raise ValueError("an offset is negative")
        (self.size,) = struct.unpack_from("<H", data, self.vtable)

    @classmethod
    def root(cls, data: memoryview) -> _Table:
        return cls(data, struct.unpack_from("<I", data)[0])

    def field(self, number: int) -> int:
        """Where a field stands; 0 when it is not there."""
        entry = 4 + 2 * number
        (offset,) = struct.unpack_from("<H", self.data, self.vtable + entry) if entry < self.size else (0,)
        return self.place + offset if offset else 0

    def scalars(self, number: int, layout: str) -> tuple[int, ...]:
        place = self.field(number)
        return struct.unpack_from(layout, self.data, place) if place else ()

    def table(self, number: int) -> _Table | None:
        place = self.field(number)
        return _Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) if place else None

    def structs(self, number: int, layout: str) -> Iterator[tuple[int, ...]]:
        place = self.field(number)
        if place:
            place += struct.unpack_from("<I", self.data, place)[0]
            (count,) = struct.unpack_from("<I", self.data, place)
            width = struct.calcsize(layout)
            if place + 4 + count * width > len(self.data):
                raise ValueError("a vector is cut short")
            for item in range(count):
                yield struct.unpack_from(layout, self.data, place + 4 + item * width)
