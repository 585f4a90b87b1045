"""Readers of records: a JSON array, or JSON lines."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stk_ml.errors import ColumnContractError, DataError
from stk_ml.serving.files.source import RowFile, byte_stream, first_line

if TYPE_CHECKING:
    import pyarrow as pa

    from stk_ml.artifact.schema import FeatureSchema

_BOM = b"\xef\xbb\xbf"
#: A JSON array is one document: it is held whole, so it may have at most so many bytes.
_JSON_BYTES = 256 << 20


@contextmanager
def read_json(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    """Reads one JSON array; see :func:`stk_ml.serving.files.reading.opened`."""
    with byte_stream(source) as (stream, _):
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
def read_jsonl(source: Path, schema: FeatureSchema, batch_rows: int) -> Iterator[RowFile]:
    """Reads a record per line; see :func:`stk_ml.serving.files.reading.opened`."""
    decoder = msgspec.json.Decoder(dict[str, Any])

    def records(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(lines, 1):
            text = line.removeprefix(_BOM) if number == 1 else line
            if text.strip():
                try:
                    yield decoder.decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise DataError(f"{source}, line {number:,}: {error}", hint="one record per line") from error

    with byte_stream(source) as (stream, part), io.BufferedReader(stream) as lines:
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
                f"{source}: column {name!r} holds values of several types: {first_line(error)}",
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
    return ColumnContractError(f"{source}: {first_line(error)}")
