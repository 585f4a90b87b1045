"""What an open file of rows is, and what its readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

#: Compressions by suffix.
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@dataclass(frozen=True)
class RowFile:
    """An open file of rows.

    Attributes:
        columns: their names; of JSON those of the first record.
        read: yields tables of the named columns, in the order of the file, at least one (which may be empty).
        part: how much of the file was read, 0 to 1.
    """

    columns: list[str]
    read: Callable[[list[str]], Iterator[pa.Table]]
    part: Callable[[], float]


@contextmanager
def byte_stream(source: Path) -> Iterator[tuple[Any, Callable[[], float]]]:
    """A file, decompressed, and how much of it was read."""
    import pyarrow as pa

    size = max(source.stat().st_size, 1)
    with pa.OSFile(str(source)) as raw:
        codec = COMPRESSED.get(source.suffix.lower())
        with pa.CompressedInputStream(raw, codec) if codec else raw as stream:
            yield stream, lambda: 1.0 if raw.closed else raw.tell() / size


def sliced(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """The table in parts of at most so many rows."""
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def plain(source: Path) -> Path:
    """The path without the suffix of its compression."""
    return source.with_suffix("") if source.suffix.lower() in COMPRESSED else source
