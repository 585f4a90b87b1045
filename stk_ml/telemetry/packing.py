"""Text for properties: JSON, times, and lists cut so that no value is longer than Azure Monitor takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

#: Characters that a property value of Azure Monitor has at most.
LIMIT = 8192
#: Characters kept of a text that a caller chose: an id, a column's name, a category.
CLIP = 256

_encode = msgspec.json.Encoder().encode


def json(value: Any) -> str:
    """JSON on one line. Numbers that are not finite become null.

    Example:
        >>> json({"km": [1, 2.5, None]})
        '{"km":[1,2.5,null]}'
    """
    return _encode(value).decode()


def clip(text: str, most: int = CLIP) -> str:
    """The beginning of a text; what cannot be encoded becomes a question mark.

    Example:
        >>> clip("abc", 2), clip("a" + chr(0xD800))
        ('ab', 'a?')
    """
    return text[:most].encode("utf-8", "replace").decode()


def iso(seconds: float) -> str:
    """Unix seconds as ISO 8601 with Z, to the microsecond.

    Example:
        >>> iso(1.5)
        '1970-01-01T00:00:01.500000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def lists(columns: Mapping[str, Sequence[Any]], *, most: int = 300) -> Iterator[dict[str, str]]:
    """Equally long lists as JSON, a piece at a time, so that no list of a piece is longer than :data:`LIMIT`.

    Args:
        columns: by name.
        most: rows in a piece.

    Example:
        >>> [piece["n"] for piece in lists({"n": [1, 2, 3]}, most=2)]
        ['[1,2]', '[3]']
    """
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, most):
        yield from _fitting({name: values[start : start + most] for name, values in columns.items()})


def _fitting(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, str]]:
    piece = {name: json(values) for name, values in columns.items()}
    rows = len(next(iter(columns.values())))
    if rows == 1 or max(map(len, piece.values())) <= LIMIT:
        yield piece
        return
    half = rows // 2
    yield from _fitting({name: values[:half] for name, values in columns.items()})
    yield from _fitting({name: values[half:] for name, values in columns.items()})


def objects(values: Mapping[str, Any]) -> Iterator[str]:
    """A mapping as JSON objects that together hold all its keys, none longer than :data:`LIMIT`.

    Example:
        >>> list(objects({"a": 1, "b": "x" * 8180}))[0]
        '{"a":1}'
        >>> list(objects({}))
        ['{}']
    """
    parts: list[str] = []
    size = 1
    for name, value in values.items():
        part = json({name: value})[1:-1]
        if parts and size + len(part) + 1 > LIMIT:
            yield "{" + ",".join(parts) + "}"
            parts, size = [], 1
        parts.append(part)
        size += len(part) + 1
    yield "{" + ",".join(parts) + "}"
