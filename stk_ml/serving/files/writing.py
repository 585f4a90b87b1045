"""Writes tables of rows, batch after batch, to a CSV, Parquet or JSON lines file that appears when it is whole."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stk_ml.errors import DataError, StorageError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Write = Callable[["pa.Table"], None]
#: Where to write to standard output, as CSV.
STANDARD_OUTPUT = "-"
#: What is written, by suffix.
SUFFIXES = (".parquet", ".csv", ".jsonl")


@contextmanager
def written(out: str) -> Iterator[Write]:
    """Opens a file to write tables of the same columns to; it takes its name when the block ends well.

    The first table with rows fixes the types of the columns.

    Args:
        out: a ``.parquet``, ``.csv`` or ``.jsonl`` file, or ``-`` for CSV on standard output.

    Raises:
        UsageError: another suffix.
        DataError: a column that the file cannot hold, or whose type changes.
        StorageError: the disk refused.
    """
    if out == STANDARD_OUTPUT:
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as sink, _Tables(sink, ".csv") as tables:
            yield tables.write
        return
    path = Path(out)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{out}: cannot write {suffix or 'a file without suffix'}", hint=f"use {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"{out} is a folder", hint="give the name of a file")
    with _aside(path) as sink, _Tables(sink, suffix) as tables:
        yield tables.write


class _Tables:
    def __init__(self, sink: Any, suffix: str) -> None:
        self._sink, self._suffix = sink, suffix
        self._empty: pa.Table | None = None
        self._schema: pa.Schema
        self._put: Write | None = None
        self._open = ExitStack()

    def __enter__(self) -> _Tables:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if kind is None and self._put is None and self._empty is not None:
                self._put_first(self._empty)

    def write(self, table: pa.Table) -> None:
        """Writes one table; an empty one only tells which columns there are."""
        if not table.num_rows:
            self._empty = self._empty or table
        elif self._put is None:
            self._put_first(table)
        else:
            self._put(self._cast(table))

    def _put_first(self, table: pa.Table) -> None:
        import pyarrow as pa

        fields = [pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in table.schema]
        self._schema = pa.schema(fields)
        self._put = {".csv": self._csv, ".parquet": self._parquet, ".jsonl": self._jsonl}[self._suffix](self._schema)
        self._put(self._cast(table))

    def _cast(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        for place, field in enumerate(self._schema):
            column = table.column(place)
            if column.type != field.type:
                try:
                    table = table.set_column(place, field, column.cast(field.type))
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    raise DataError(
                        f"column {field.name!r} is {field.type} in the first rows and {column.type} further down",
                        hint="leave it out: name the others by --keep",
                    ) from error
        return table.cast(self._schema)

    def _csv(self, schema: pa.Schema) -> Write:
        import pyarrow as pa
        from pyarrow import csv

        nested = next((field for field in schema if pa.types.is_nested(field.type)), None)
        if nested is not None:
            raise DataError(
                f"column {nested.name!r} holds {nested.type}, which CSV cannot",
                hint="write .parquet or .jsonl, or leave it out: name the others by --keep",
            )
        put: Write = self._open.enter_context(csv.CSVWriter(self._sink, schema)).write
        return put

    def _parquet(self, schema: pa.Schema) -> Write:
        import pyarrow.parquet as pq

        put: Write = self._open.enter_context(pq.ParquetWriter(self._sink, schema, compression="zstd")).write_table
        return put

    def _jsonl(self, schema: pa.Schema) -> Write:
        encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
        return lambda table: self._sink.write(encoder.encode_lines(table.to_pylist()))


@contextmanager
def _aside(path: Path) -> Iterator[Any]:
    """A hidden file beside ``path`` that takes its name when the block ends well, and goes away when it does not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                yield sink
                sink.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}", hint="is there space?") from error
