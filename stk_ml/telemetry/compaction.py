"""Merges the many small files of a laptop's log, under the hands of its writers and readers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stk_ml.errors import TelemetryError
from stk_ml.telemetry import files
from stk_ml.telemetry.local import WRITING, arrow, schema
from stk_ml.telemetry.rows import TABLES, Table, microseconds
from stk_ml.telemetry.sums import NAME, HistogramSums

#: Files of this size in bytes are merged no further.
LARGE = 128 * 2**20
#: Bytes of rows held at a time.
_GROUP = 32 * 2**20
#: Seconds after which a file left aside counts as left behind by a process that was killed.
_STALE = 3600.0
_HOUR = 3_600_000_000


def compact(folder: str | Path, now: float, *, large: int = LARGE) -> int:
    """Merges the files of past hours into one per table and day, and adds up their histograms.

    A day of histograms is 96 rows per column and model then, see :mod:`stk_ml.telemetry.sums`; all other rows stay as
    they are.

    The merged file is written aside and renamed, then the files it replaces are removed. Readers leave out what a
    merged file replaces, so a kill at any point loses nothing and counts nothing twice; the next call removes what
    was left behind. Of two calls at once, the second does nothing.

    Args:
        folder: of the log.
        now: unix seconds; files with rows of the current hour are left alone.
        large: a file of this many bytes is merged no further, so a busy day may end up as several.

    Returns:
        Number of files that were replaced.

    Raises:
        TelemetryError: a file cannot be read or written; the log is as it was.

    Example:
        >>> import tempfile
        >>> from stk_ml.telemetry.local import ParquetPredictionLog
        >>> from stk_ml.telemetry.protocol import Batch, Event
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = ParquetPredictionLog(folder)
        ...     for second in range(5):
        ...         log.write(Batch(events=(Event(second, "stk.row", {}),)))
        ...     compact(folder, 3600.0), len(log.read("AppEvents", since=-1.0, until=3600.0))
        (5, 5)
    """
    import pyarrow as pa

    folder = Path(folder)
    with _alone(folder) as alone:
        if not alone:
            return 0
        try:
            hour = microseconds(now) // _HOUR * _HOUR
            every_day = [(table, day) for table in TABLES for day in files.days(folder, table)]
            return sum(_compact_day(table, day, hour, large) for table, day in every_day)
        except (OSError, pa.ArrowInvalid) as error:
            raise TelemetryError(f"{folder} cannot be merged: {error}", hint="is there space?") from error


def _compact_day(table: Table, day: Path, hour: int, large: int) -> int:
    _remove_stale(day)
    found = files.listed(day)
    gone = files.replaced(found)
    for file in found:
        if file.path.name in gone:
            file.path.unlink(missing_ok=True)
    found = [file for file in found if file.path.name not in gone]
    past = [file for file in found if file.newest < hour and file.path.stat().st_size < large]
    if len(past) < 2:
        return 0
    _merge(table, past)
    for file in past:
        file.path.unlink(missing_ok=True)
    return len(past)


def _merge(table: Table, past: list[files.LogFile]) -> None:
    """One file of many, in bounded memory."""
    import pyarrow.parquet as pq

    sums = HistogramSums()
    final = past[-1].path.with_name(f"{files.stem(past[-1].newest)}-{os.urandom(4).hex()}{files.MERGED}")
    aside = final.with_name(f".{final.name}.tmp")
    names = msgspec.json.encode([file.path.name for file in past])
    try:
        with pq.ParquetWriter(aside, schema(table), **WRITING) as writer:
            for group in _groups(past):
                for rows in _apart(table, group, sums):
                    writer.write_table(rows)
            if summed := list(sums.rows()):
                writer.write_table(arrow(table, summed))
            writer.add_key_value_metadata({files.REPLACES: names})
        aside.rename(final)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _groups(past: list[files.LogFile]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held, size = [], 0
    for file in past:
        with pq.ParquetFile(file.path) as content:
            for batch in content.iter_batches():
                held.append(batch)
                size += batch.nbytes
                if size >= _GROUP:
                    yield pa.Table.from_batches(held).combine_chunks()
                    held, size = [], 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _apart(table: Table, content: Any, sums: HistogramSums) -> Iterator[Any]:
    """Events by name, as :mod:`stk_ml.telemetry.local` writes them; histograms are left to the sums."""
    import pyarrow.compute as pc

    if table != "AppEvents":
        yield content
        return
    for name in sorted(content.column("Name").unique().to_pylist()):
        rows = content.filter(pc.field("Name") == name)
        if name == NAME:
            rows = rows.filter([not sums.add(row) for row in _records(rows)])
        if rows.num_rows:
            yield rows


def _records(content: Any) -> Iterator[dict[str, Any]]:
    """Rows with their times in microseconds."""
    import pyarrow as pa

    place = content.schema.get_field_index("TimeGenerated")
    plain = content.set_column(place, "TimeGenerated", content.column(place).cast(pa.int64()))
    for batch in plain.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _remove_stale(day: Path) -> None:
    oldest = time.time() - _STALE
    for path in day.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody else merges; the lock goes when the process does."""
    if not folder.is_dir():
        yield False
        return
    with (folder / ".merging").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def main(folder: str) -> None:
    """``python -m stk_ml.telemetry.compaction FOLDER``: merges, giving way to whatever else the machine does."""
    with contextlib.suppress(OSError):
        os.nice(10)
    compact(folder, time.time())


if __name__ == "__main__":
    main(sys.argv[1])
