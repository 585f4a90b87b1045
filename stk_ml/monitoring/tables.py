"""Tables to compare: in memory, or Parquet files of any size, which are read a piece at a time by several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stk_ml.errors import DataError, UsageError

T = TypeVar("T")
#: Pieces of a table, each with the place of its first row; a run of them is what one thread takes.
Pieces = Iterator[tuple[int, pa.Table]]
Run = Callable[[], Pieces]
#: Makes another column of one; of a column that is not there, None, and a number of rows too.
Reader = Callable[[pa.ChunkedArray | None, int], pa.ChunkedArray]
#: Rows of a piece: few enough for a column of it to stay in the processor's cache.
PIECE = 65_536
#: Rows that are enough for what a sample tells: bin edges and the joint view.
SAMPLE = 100_000
_THREADS = min(os.cpu_count() or 1, 8)
#: A file that takes no more bytes than this in memory is read at once.
_SMALL = 512 * 2**20


class Rows(Protocol):
    """A table whose rows can be had a piece at a time.

    Attributes:
        rows: number of them.
        schema: columns and types.
    """

    rows: int
    schema: pa.Schema

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""

    def runs(self, names: Sequence[str]) -> Iterator[Run]:
        """Parts of the table that threads can take: each gives its pieces and the place of their first row."""


class Memory:
    """A table in memory."""

    def __init__(self, table: pa.Table) -> None:
        self.table, self.rows, self.schema = table, table.num_rows, table.schema

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        return self.table.column(name)

    def runs(self, names: Sequence[str]) -> Iterator[Run]:
        """Slices."""
        table = self.table.select(list(names))
        for start in range(0, self.rows, PIECE):
            yield partial(_slice, table, start)


class ParquetRows:
    """A Parquet file: each thread takes a row group and reads it a piece at a time.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open([]) as file:
            self._metadata, self.schema = file.metadata, file.schema_arrow
        self.rows: int = self._metadata.num_rows

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        with self._open([]) as file:
            return file.read([name]).column(0)

    def runs(self, names: Sequence[str]) -> Iterator[Run]:
        """Row groups."""
        start = 0
        for group in range(self._metadata.num_row_groups):
            yield partial(self._pieces, group, start, list(names))
            start += self._metadata.row_group(group).num_rows

    def read(self) -> pa.Table:
        """All of it."""
        with self._open(self.schema.names) as file:
            return file.read()

    @property
    def size(self) -> int:
        """Bytes of its columns in memory, roughly."""
        groups = map(self._metadata.row_group, range(self._metadata.num_row_groups))
        stored = sum(int(group.total_byte_size) for group in groups)
        return max(stored, 8 * int(self.rows) * len(self.schema))

    def _pieces(self, group: int, start: int, names: list[str]) -> Pieces:
        with self._open(names) as file:
            for batch in file.iter_batches(PIECE, row_groups=[group], columns=names, use_threads=False):
                yield start, pa.Table.from_batches([batch])
                start += batch.num_rows

    def _open(self, names: list[str]) -> pq.ParquetFile:
        """Texts among the names come as dictionaries, which is much less to read and to count."""
        texts = [name for name in names if is_text(self.schema.field(name).type)]
        try:
            return pq.ParquetFile(self._path, memory_map=True, read_dictionary=texts)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{self._path} cannot be read: {str(error).splitlines()[0]}") from error


class Changed:
    """Another table with some columns read in another way, and some rows left out.

    Args:
        table: the other one.
        readers: by column, also of columns that it lacks.
        kept: (rows,) which rows stay; None for all.
    """

    def __init__(self, table: Rows, readers: Mapping[str, Reader], kept: NDArray[np.bool_] | None = None) -> None:
        self._table, self._readers, self._kept = table, readers, kept
        self._before = None if kept is None else np.append(0, np.cumsum(kept))
        self.rows = table.rows if kept is None else int(kept.sum())
        names = dict.fromkeys([*table.schema.names, *readers])
        types = {field.name: field.type for field in table.schema}
        none = {name: pa.chunked_array([], kind) for name, kind in types.items()}
        self.schema = pa.schema([(name, self._read(name, none.get(name), 0).type) for name in names])

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        held = self._table.column(name) if name in self._table.schema.names else None
        found = self._read(name, held, self._table.rows)
        return found if self._kept is None else found.filter(pa.array(self._kept))

    def runs(self, names: Sequence[str]) -> Iterator[Run]:
        """Those of the other table."""
        known = self._table.schema.names
        for run in self._table.runs([name for name in names if name in known] or known[:1]):
            yield partial(self._pieces, run, names)

    def _pieces(self, run: Run, names: Sequence[str]) -> Pieces:
        for start, piece in run():
            first = start
            if self._kept is not None and self._before is not None:
                first = int(self._before[start])
                piece = piece.filter(pa.array(self._kept[start : start + piece.num_rows]))
            held = {name: piece.column(name) for name in piece.column_names}
            columns = [self._read(name, held.get(name), piece.num_rows) for name in names]
            yield first, pa.table(columns, names=list(names))

    def _read(self, name: str, column: pa.ChunkedArray | None, rows: int) -> pa.ChunkedArray:
        return self._readers[name](column, rows) if name in self._readers else column


def changed(table: Rows, readers: Mapping[str, Reader], kept: NDArray[np.bool_] | None = None) -> Rows:
    """As :class:`Changed`; a table in memory is changed at once.

    Example:
        >>> found = changed(rows(pa.table({"km": [1, 2]})), {"mi": lambda _, rows: pa.chunked_array([[0.0] * rows])})
        >>> found.schema.names, found.column("mi").to_pylist()
        (['km', 'mi'], [0.0, 0.0])
    """
    if not readers and kept is None:
        return table
    found = Changed(table, readers, kept)
    if not isinstance(table, Memory):
        return found
    names = found.schema.names
    return Memory(pa.table([found.column(name) for name in names], names=names))


def rows(table: pa.Table | Path) -> Rows:
    """A table, or the path of a Parquet file, which is read piece by piece when it is large.

    Raises:
        DataError: the file cannot be read.
        UsageError: two columns have one name.

    Example:
        >>> rows(pa.table({"km": [1.0, 2.0]})).rows
        2
    """
    found: Rows = ParquetRows(table) if isinstance(table, Path) else Memory(table)
    names = found.schema.names
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        where = f"{table}: " if isinstance(table, Path) else ""
        raise UsageError(
            f"{where}column {twice[0]!r} is there {names.count(twice[0])} times", hint="rename one of them"
        )
    return Memory(found.read()) if isinstance(found, ParquetRows) and found.size <= _SMALL else found


def over_pieces(table: Rows, names: Sequence[str], work: Callable[[Pieces], T]) -> Iterator[T]:
    """What ``work`` makes of each part of a table, in any number of threads, in the table's order."""
    with ThreadPoolExecutor(_THREADS) as threads:
        waiting = []
        for run in table.runs(names):
            waiting.append(threads.submit(_taken, run, work))
            if len(waiting) > 2 * _THREADS:
                yield waiting.pop(0).result()
        for result in waiting:
            yield result.result()


def _taken(run: Run, work: Callable[[Pieces], T]) -> T:
    return work(run())


def _slice(table: pa.Table, start: int) -> Pieces:
    yield start, table.slice(start, PIECE)


def sample(table: Rows, names: Sequence[str], step: int, seed: int) -> tuple[pa.Table, NDArray[np.intp]]:
    """Every ``step``-th row from a random one on, and their places; all rows when it is 1.

    Example:
        >>> found, places = sample(rows(pa.table({"n": list(range(10))})), ["n"], 4, seed=0)
        >>> len(set(np.diff(places).tolist())), found["n"].to_pylist() == places.tolist()
        (1, True)
    """
    first = int(np.random.default_rng(seed).integers(step))

    def take(pieces: Pieces) -> list[pa.Table]:
        return [piece.take(np.arange((first - start) % step, piece.num_rows, step)) for start, piece in pieces]

    if step == 1 and isinstance(table, Memory):
        return table.table.select(list(names)), np.arange(table.rows)
    parts = [piece for run in over_pieces(table, names, take) for piece in run]
    return pa.concat_tables(parts).unify_dictionaries(), np.arange(first, table.rows, step)


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are text, dictionary-encoded or plain."""
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text))
