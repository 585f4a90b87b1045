"""A training set on disk: sorted rows in Parquet beside their description; the folder appears as a whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stk_ml.contracts import Column, ColumnType, refuse_foreign
from stk_ml.errors import StorageError
from stk_ml.features.columns import logical_type
from stk_ml.features.frame import Frame
from stk_ml.features.labels import Labelled
from stk_ml.features.pit import quoted
from stk_ml.features.world import World

#: Rows per row group: some ten megabytes of thirty columns.
ROW_GROUP = 122_880


def write_rows(frame: Frame, labelled: Labelled, world: World, file: Path) -> tuple[Column, ...]:
    """Joins, sorts and streams the rows of a frame into a Parquet file; equal data gives equal bytes.

    Args:
        frame: the resolved model; its rows stand in ``source.rows``.
        labelled: which rows count.
        world: where they stand.
        file: to write.

    Returns:
        The columns of the file.
    """
    columns = _columns(frame)
    rows = f"SELECT * FROM source.rows WHERE {labelled.where}"
    if not frame.spec.data.entity:
        # Nothing names a row: the order of the source breaks ties.
        rows = f"SELECT *, row_number() OVER () AS __row FROM ({rows})"
    order = ", ".join([*map(quoted, frame.keys), *([] if frame.spec.data.entity else ["__row"])])
    values = ", ".join(f"{_value(column, labelled)} AS {quoted(column.name)}" for column in columns)
    reader = world.reader(f"SELECT {values} FROM ({frame.joined_sql(rows)}) ORDER BY {order}", ROW_GROUP)
    with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
        for group in _groups(reader):
            writer.write_table(group, row_group_size=ROW_GROUP)
    return columns


def sha256(file: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def published(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into; it becomes ``out`` when the block ends well, and vanishes otherwise.

    Raises:
        StorageError: the disk refused.
    """
    out = Path(out).absolute()
    refuse_foreign(out, "dataset.json")
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        if out.exists():
            out.replace(old)
        aside.replace(out)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{out} cannot be written: {error.strerror or error}", hint="is there space, and may you write there?"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _columns(frame: Frame) -> tuple[Column, ...]:
    data, types = frame.spec.data, frame.types
    columns = [Column(name, logical_type(types[name]) or "text", "entity", nullable=False) for name in data.entity]
    if data.as_of:
        columns.append(Column(data.as_of, "timestamp", "as_of", nullable=False))
    if frame.label_time:
        columns.append(Column(frame.label_time, "timestamp", "label_time", nullable=False))
    kind: ColumnType = "integer" if frame.spec.problem == "binary" else "number"
    columns.append(Column(data.target, kind, "label", nullable=False))
    return (*columns, *frame.features, *frame.slices)


def _value(column: Column, labelled: Labelled) -> str:
    """A column of the result in the type that its contract says."""
    name = quoted(column.name)
    if column.role == "label":
        return labelled.target
    if column.type == "timestamp":
        return f"CAST({name} AS TIMESTAMPTZ)"
    if column.type in ("category", "text"):
        return f"CAST({name} AS VARCHAR)"
    return name


def _groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Batches of any size as tables of exactly ROW_GROUP rows, the last one shorter."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        while rows + batch.num_rows >= ROW_GROUP:
            head = ROW_GROUP - rows
            yield pa.Table.from_batches([*held, batch.slice(0, head)], reader.schema)
            held, rows, batch = [], 0, batch.slice(head)
        held.append(batch)
        rows += batch.num_rows
    if rows:
        yield pa.Table.from_batches(held, reader.schema)
