"""Opens a file of rows by what its suffix says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.errors import DataError, StorageError, UsageError
from stk_ml.serving.files import records, tables
from stk_ml.serving.files.source import RowFile, first_line, plain

if TYPE_CHECKING:
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

_READERS = {
    "csv": tables.read_csv,
    "parquet": tables.read_parquet,
    "arrow": tables.read_arrow,
    "json": records.read_json,
    "jsonl": records.read_jsonl,
}


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
    reader = _READERS[what]
    try:
        with reader(source, schema, batch_rows) as rows:
            double = sorted({name for name in rows.columns if rows.columns.count(name) > 1})
            if double:
                raise DataError(f"{source}: two columns have the name {double[0]!r}", hint="rename one of them")
            yield rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(f"{source}: {first_line(error)}", hint=f"is it {what}?") from error
    except (StorageError, BrokenPipeError):
        raise
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or first_line(error)}") from error


def kind(source: Path) -> str:
    """What a file holds, by its suffix: ``csv``, ``parquet``, ``json``, ``jsonl`` or ``arrow``; else UsageError."""
    found = READ.get(plain(source).suffix.lower())
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
    return plain(source).stem
