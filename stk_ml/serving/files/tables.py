"""Readers of tables: CSV, Parquet, Arrow.

CSV has no types: the model's numbers and booleans are parsed, every other column keeps its text. An empty field is
null, and so are NA, NaN, null and their like where a number or boolean is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.errors import ColumnContractError, DataError, UsageError
from stk_ml.serving.files.source import RowFile, byte_stream, plain, sliced

if TYPE_CHECKING:
    import pyarrow as pa

    from stk_ml.artifact.schema import FeatureSchema

_CSV_BLOCK = 4 << 20


@contextmanager
def read_csv(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    """Reads CSV, or with the suffix .tsv what tabs separate; see :func:`stk_ml.serving.files.reading.opened`."""
    import pyarrow as pa
    from pyarrow import csv

    parse = csv.ParseOptions(delimiter="\t" if plain(source).suffix.lower() == ".tsv" else ",", newlines_in_values=True)
    # One thread: only so does Arrow name the row of a value that it cannot read. The trees take the time, not this.
    reading = csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK)
    types = {"integer": pa.float64(), "number": pa.float64(), "boolean": pa.bool_()}
    typed = {field.name: types[field.type] for field in schema.fields if field.type in types}
    with byte_stream(source) as (stream, _):
        columns: list[str] = csv.open_csv(stream, read_options=reading, parse_options=parse).schema.names

    with byte_stream(source) as (stream, part):

        def read(wanted: list[str]) -> Iterator[pa.Table]:
            convert = csv.ConvertOptions(
                column_types={name: typed.get(name, pa.string()) for name in columns},
                include_columns=wanted,
                strings_can_be_null=False,
                true_values=["true", "True", "TRUE", "1", "1.0"],
                false_values=["false", "False", "FALSE", "0", "0.0"],
            )
            try:
                reader = csv.open_csv(stream, read_options=reading, parse_options=parse, convert_options=convert)
                yield _without_empty_text(reader.schema.empty_table())
                for batch in reader:
                    yield from sliced(_without_empty_text(pa.Table.from_batches([batch])), batch_rows)
            except pa.ArrowInvalid as error:
                raise DataError(f"{source}: {_csv_place(str(error), columns)}") from error

        yield RowFile(columns, read, part)


def _without_empty_text(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, column in enumerate(table.columns):
        if pa.types.is_string(column.type):
            filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
            table = table.set_column(place, table.field(place).name, filled)
    return table


def _csv_place(message: str, columns: Sequence[str]) -> str:
    """Arrow's message with the column's name and the row's line.

    Example:
        >>> _csv_place("In CSV column #1: Row #4: CSV conversion error to double: invalid value 'abc'", ["id", "km"])
        "row 3, column 'km': 'abc' is no number"
    """
    message = message.partition("\n")[0]
    place = re.match(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to (\w+): (.*)", message)
    if not place:
        return message
    column, row, type_, what = int(place[1]), place[2], place[3], place[4]
    value = what.removeprefix("invalid value ")
    if type_ in ("double", "bool"):
        what = f"{value} is no {'number' if type_ == 'double' else 'boolean'}"
    where = f"row {int(row) - 1:,}, " if row else ""
    return f"{where}column {columns[column]!r}: {what}" if column < len(columns) else message


@contextmanager
def read_parquet(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    """Reads a Parquet file, or those of a folder by path; see :func:`stk_ml.serving.files.reading.opened`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = _parquet_files(source)
    total = max(sum(pq.read_metadata(file).num_rows for file in files), 1)
    seen = 0

    def read(wanted: list[str]) -> Iterator[pa.Table]:
        nonlocal seen
        for file in files:
            with pq.ParquetFile(file, pre_buffer=False) as opened_file:
                missing = [name for name in wanted if name not in opened_file.schema_arrow.names]
                if missing:
                    raise ColumnContractError(f"{file}: column {missing[0]!r} is missing; {files[0]} holds it")
                yield opened_file.schema_arrow.empty_table().select(wanted)
                for batch in opened_file.iter_batches(batch_rows, columns=wanted):
                    seen += batch.num_rows
                    yield pa.Table.from_batches([batch]).select(wanted)

    yield RowFile(pq.read_schema(files[0]).names, read, lambda: seen / total)


def _parquet_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if (source / "_delta_log").is_dir():
        raise UsageError(
            f"{source} is a Delta table, whose folder holds rows that were deleted too",
            hint="write the rows to score to a Parquet file",
        )
    files = sorted(
        file
        for file in source.rglob("*.parquet")
        if not any(part.startswith((".", "_")) for part in file.relative_to(source).parts)
    )
    if not files:
        raise UsageError(f"{source} holds no Parquet file", hint="give a file, or a folder of .parquet files")
    partitioned = next((part for part in files[0].relative_to(source).parts[:-1] if "=" in part), None)
    if partitioned:
        raise UsageError(
            f"{source} is partitioned by {partitioned.split('=')[0]!r}, a column that its files do not hold",
            hint=f"score one folder at a time, such as {files[0].parent}",
        )
    return files


@contextmanager
def read_arrow(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    """Reads an Arrow IPC file or stream; see :func:`stk_ml.serving.files.reading.opened`."""
    import pyarrow as pa

    size = max(source.stat().st_size, 1)
    with pa.OSFile(str(source)) as stream:
        in_file = stream.read(6) == b"ARROW1"
        stream.seek(0)
        with (pa.ipc.open_file if in_file else pa.ipc.open_stream)(stream) as reader:

            def read(wanted: list[str]) -> Iterator[pa.Table]:
                yield reader.schema.empty_table().select(wanted)
                batches = (reader.get_batch(n) for n in range(reader.num_record_batches)) if in_file else iter(reader)
                for batch in batches:
                    yield from sliced(pa.Table.from_batches([batch]).select(wanted), batch_rows)

            yield RowFile(reader.schema.names, read, lambda: 1.0 if stream.closed else min(1.0, stream.tell() / size))
