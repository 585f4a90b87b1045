"""Files of rows, read in batches: CSV, Parquet, Arrow, JSON and JSON lines.

CSV has no types: the model's numbers and booleans are parsed, every other column keeps its text. An empty field is
null, and so are NA, NaN, null and their like where a number or boolean is meant.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stk_ml.errors import ColumnContractError, DataError, StorageError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from stk_ml.artifact.schema import FeatureSchema

#: What is read, by suffix; each but Parquet and Arrow also with ``.gz``, ``.bz2`` or ``.zst`` behind it.
READ = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_CSV_BLOCK = 4 << 20
_BOM = b"\xef\xbb\xbf"
#: A JSON array is one document: it is held whole, so it may have at most so many bytes.
_JSON_BYTES = 256 << 20


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
def opened(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    """Opens a file of rows, or a folder of Parquet files, for a model.

    Args:
        source: the file; its suffix says what it holds.
        schema: the model's columns, which say what the text of a CSV file or the values of JSON mean.
        batch_rows: most rows in memory at a time.

    Raises:
        UsageError: no such file, or an unknown suffix.
        DataError: it cannot be read as what it claims to be; the message names file, row and column.
    """
    import pyarrow as pa

    if not source.exists():
        raise UsageError(f"there is no file {source}", hint="give a CSV, Parquet, JSON, JSON lines or Arrow file")
    what = "parquet" if source.is_dir() else kind(source)
    reader = {"csv": _csv, "parquet": _parquet, "arrow": _arrow, "json": _json, "jsonl": _jsonl}[what]
    try:
        with reader(source, schema, batch_rows) as rows:
            double = sorted({name for name in rows.columns if rows.columns.count(name) > 1})
            if double:
                raise DataError(f"{source}: two columns have the name {double[0]!r}", hint="rename one of them")
            yield rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(f"{source}: {_line(error)}", hint=f"is it {what}?") from error
    except (StorageError, BrokenPipeError):
        raise
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or _line(error)}") from error


def kind(source: Path) -> str:
    """What a file holds, by its suffix: ``csv``, ``parquet``, ``json``, ``jsonl`` or ``arrow``; else UsageError."""
    found = READ.get(_plain(source).suffix.lower())
    if found is None:
        known = ", ".join(READ)
        raise UsageError(
            f"{source}: its suffix does not say what it holds", hint=f"use {known}, or one with .gz behind"
        )
    return found


def stem(source: Path) -> str:
    """A file's name without its suffixes.

    Example:
        >>> stem(Path("day/parcels.csv.gz")), stem(Path("2024.01.parquet"))
        ('parcels', '2024.01')
    """
    return _plain(source).stem


def _plain(source: Path) -> Path:
    """The path without the suffix of its compression."""
    return source.with_suffix("") if source.suffix.lower() in _COMPRESSED else source


@contextmanager
def _stream(source: Path) -> Iterator[tuple[Any, Callable[[], float]]]:
    """A file, decompressed, and how much of it was read."""
    import pyarrow as pa

    size = max(source.stat().st_size, 1)
    with pa.OSFile(str(source)) as raw:
        codec = _COMPRESSED.get(source.suffix.lower())
        with pa.CompressedInputStream(raw, codec) if codec else raw as stream:
            yield stream, lambda: 1.0 if raw.closed else raw.tell() / size


@contextmanager
def _csv(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    import pyarrow as pa
    from pyarrow import csv

    parse = csv.ParseOptions(
        delimiter="\t" if _plain(source).suffix.lower() == ".tsv" else ",", newlines_in_values=True
    )
    # One thread: only so does Arrow name the row of a value that it cannot read. The trees take the time, not this.
    reading = csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK)
    types = {"integer": pa.float64(), "number": pa.float64(), "boolean": pa.bool_()}
    typed = {field.name: types[field.type] for field in schema.fields if field.type in types}
    with _stream(source) as (stream, _):
        columns: list[str] = csv.open_csv(stream, read_options=reading, parse_options=parse).schema.names

    with _stream(source) as (stream, part):

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
                    yield from _sliced(_without_empty_text(pa.Table.from_batches([batch])), batch_rows)
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
def _parquet(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
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
def _arrow(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
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
                    yield from _sliced(pa.Table.from_batches([batch]).select(wanted), batch_rows)

            yield RowFile(reader.schema.names, read, lambda: 1.0 if stream.closed else min(1.0, stream.tell() / size))


@contextmanager
def _json(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    with _stream(source) as (stream, _):
        body = stream.read(_JSON_BYTES + 1)
    if len(body) > _JSON_BYTES:
        raise DataError(
            f"{source} holds more than {_JSON_BYTES >> 20} MiB in one JSON array",
            hint="write one record per line (.jsonl); that is read in batches",
        )
    try:
        records = msgspec.json.decode(body.removeprefix(_BOM), type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: {error}", hint="a JSON file is an array of records") from error
    yield _records(source, iter(records), schema, batch_rows, lambda: 1.0)


@contextmanager
def _jsonl(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    decoder = msgspec.json.Decoder(dict[str, Any])

    def records(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(lines, 1):
            text = line.removeprefix(_BOM) if number == 1 else line
            if text.strip():
                try:
                    yield decoder.decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise DataError(f"{source}, line {number:,}: {error}", hint="one record per line") from error

    with _stream(source) as (stream, part), io.BufferedReader(stream) as lines:
        yield _records(source, records(lines), schema, batch_rows, part)


def _records(
    source: Path,
    records: Iterator[dict[str, Any]],
    schema: FeatureSchema,
    batch_rows: int,
    part: Callable[[], float],
) -> RowFile:
    first = next(records, None)
    every = chain(() if first is None else (first,), records)

    def read(wanted: list[str]) -> Iterator[pa.Table]:
        others = [name for name in wanted if name not in schema.names]
        done = 0
        yield _table(source, done, [], others, schema).select(wanted)
        while batch := list(islice(every, batch_rows)):
            yield _table(source, done, batch, others, schema).select(wanted)
            done += len(batch)

    return RowFile(list(schema.names if first is None else first), read, part)


def _table(
    source: Path, before: int, records: list[dict[str, Any]], others: list[str], schema: FeatureSchema
) -> pa.Table:
    """The model's columns by the model's types, as the scoring app reads them; the types of the others are inferred."""
    import pyarrow as pa

    known = set(schema.names)
    ours = [{name: value for name, value in record.items() if name in known} for record in records]
    try:
        table = schema.from_records(ours)
    except (ColumnContractError, OverflowError) as error:
        raise _wrong_record(source, before, ours, schema, error) from error
    for name in others:
        try:
            table = table.append_column(name, pa.array([record.get(name) for record in records]))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataError(
                f"{source}: column {name!r} holds values of several types: {_line(error)}",
                hint="leave it out: name others by --keep",
            ) from error
    return table


def _wrong_record(
    source: Path, before: int, records: list[dict[str, Any]], schema: FeatureSchema, error: Exception
) -> ColumnContractError:
    """The error of the first record that is wrong by itself."""
    for place, record in enumerate(records):
        try:
            schema.from_records([record])
        except (ColumnContractError, OverflowError) as found:
            message = str(found).removeprefix("record 0 of 1: ")
            hint = getattr(found, "hint", "")
            return ColumnContractError(f"{source}, row {before + place + 1:,}: {message}", hint=hint)
    return ColumnContractError(f"{source}: {_line(error)}")


def _sliced(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
