"""The laptop's log: Parquet files with the columns of Azure Monitor's tables."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stk_ml.endpoint_state import Observation
from stk_ml.errors import TelemetryError
from stk_ml.telemetry import files, latency
from stk_ml.telemetry.protocol import Batch
from stk_ml.telemetry.rows import COLUMNS, Table, microseconds, rows

if TYPE_CHECKING:
    import pyarrow as pa

#: How files are written. A dictionary of long texts would only cost memory.
WRITING: Mapping[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["Name", "AppRoleName", "AppRoleInstance", "AppVersion", "Type"],
}
_HINT = "is there space, and may you write there?"
#: How often a reader looks again when files are merged under its hands.
_LOOKS = 20


class ParquetPredictionLog:
    """A :class:`stk_ml.telemetry.protocol.PredictionLog` in a folder that many processes write to and read from.

    A batch becomes one file per table (and day), written aside and then renamed, so that a reader never sees half of
    one, whoever is killed. :func:`stk_ml.telemetry.compaction.compact` merges the small files of past hours.

    Args:
        folder: of the log; made when it is first written to.
        worker: part of the files' names; a process id and a random part are added.

    Example:
        >>> import tempfile
        >>> from stk_ml.telemetry.protocol import Event
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = ParquetPredictionLog(folder)
        ...     log.write(Batch(events=(Event(1.0, "stk.row", {"endpoint": "eta"}),)))
        ...     log.read("AppEvents", since=0.0, until=1.0).column("AppRoleName").to_pylist()
        ['eta']
    """

    def __init__(self, folder: str | Path, *, worker: str = "") -> None:
        self.folder = Path(folder)
        name = re.sub(r"[^A-Za-z0-9]", "_", worker)
        self._worker = f"{name}{'_' if name else ''}{os.getpid()}_{os.urandom(4).hex()}"
        self._numbers = itertools.count()

    def write(self, batch: Batch) -> None:
        """Stores a batch: all its files are written aside before the first is renamed.

        Raises:
            TelemetryError: the disk refused; nothing of the batch is visible, and it may be written again.
        """
        names: list[tuple[Path, Path]] = []
        try:
            for table, content in rows(batch).items():
                content.sort(key=_time)
                for day, group in itertools.groupby(content, lambda row: files.day(row["TimeGenerated"])):
                    self._aside(table, day, list(group), names)
            for aside, final in names:
                aside.rename(final)
        except OSError as error:
            for path in itertools.chain(*names):
                with contextlib.suppress(OSError):
                    path.unlink()
            raise TelemetryError(f"{self.folder} cannot be written: {error.strerror or error}", hint=_HINT) from error

    def _aside(self, table: Table, day: str, content: list[dict[str, Any]], names: list[tuple[Path, Path]]) -> None:
        import pyarrow.parquet as pq

        folder = self.folder / table / day
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{files.stem(content[-1]['TimeGenerated'])}-{self._worker}-{next(self._numbers)}.parquet"
        names.append((folder / f".{name}.tmp", folder / name))
        with (
            names[-1][0].open("wb") as aside,  # closed also when the disk is full
            pq.ParquetWriter(aside, schema(table), **WRITING) as writer,
        ):
            for group in _row_groups(table, content):
                writer.write_table(arrow(table, group))

    def read(
        self, table: Table, *, since: float, until: float, names: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> pa.Table:
        """Rows of a table with ``since`` < TimeGenerated <= ``until``, in no particular order.

        Args:
            table: AppEvents, AppRequests or AppMetrics.
            since: unix seconds.
            until: unix seconds. A window's rows bear the time of its end.
            names: of the events, requests or metrics; all when none is given.
            columns: all when none is given.

        Raises:
            TelemetryError: a file cannot be read.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        first, last = microseconds(since), microseconds(until)
        time = pc.field("TimeGenerated")
        wanted = (time > _scalar(first)) & (time <= _scalar(last))
        if names:
            wanted &= pc.field("Name").isin(list(names))
        try:
            for _ in range(_LOOKS):
                with contextlib.suppress(FileNotFoundError):
                    found = self._listed(table, first, last)
                    gone = files.replaced(found)
                    paths = [str(file.path) for file in found if file.path.name not in gone]
                    content = ds.dataset(paths, schema=schema(table), format="parquet")
                    result = content.to_table(columns=list(columns) or None, filter=wanted)
                    # A file merged meanwhile may hold rows of files that went before they were listed.
                    if not any(file.merged and file not in found for file in self._listed(table, first, last)):
                        return result
        except (OSError, pa.ArrowInvalid) as error:
            raise TelemetryError(f"{self.folder / table} cannot be read: {error}") from error
        raise TelemetryError(f"the files of {self.folder / table} were merged again and again", hint="read it again")

    def observe(self, endpoint: str, deployment: str, since: float, until: float) -> Observation:
        """What the workers of a deployment told of the windows that ended in a stretch of time.

        Args:
            endpoint: its name.
            deployment: its name.
            since: unix seconds.
            until: unix seconds; since < end of the window <= until.

        Raises:
            TelemetryError: a file cannot be read.
        """
        columns = ("Name", "Properties", "Sum", "ItemCount")
        table = self.read("AppMetrics", since=since, until=until, names=("stk.requests", "stk.scores"), columns=columns)
        seen = Observation(latency=latency.merge())
        for name, text, total, count in zip(*(table.column(name).to_pylist() for name in columns), strict=True):
            about = msgspec.json.decode(text)
            if about["endpoint"] == endpoint and about["deployment"] == deployment:
                seen = _requests(seen, about, count) if name == "stk.requests" else _scores(seen, about, total, count)
        return seen

    def close(self) -> None:
        """Nothing is held."""

    def _listed(self, table: Table, first: int, last: int) -> list[files.LogFile]:
        found = [files.listed(day) for day in files.days(self.folder, table, files.day(first), files.day(last))]
        return [file for file in itertools.chain(*found) if file.newest > first]


def schema(table: Table) -> pa.Schema:
    """Arrow types of a table's columns; TimeGenerated in microseconds UTC, what is dynamic as JSON text."""
    import pyarrow as pa

    types = {"string": pa.string(), "dynamic": pa.string(), "real": pa.float64(), "int": pa.int32(), "bool": pa.bool_()}
    return pa.schema(
        [
            (name, pa.timestamp("us", "UTC") if kind == "datetime" else types[kind])
            for name, kind in COLUMNS[table].items()
        ]
    )


def arrow(table: Table, content: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of :func:`stk_ml.telemetry.rows.rows` as an Arrow table."""
    import pyarrow as pa

    fields = schema(table)
    return pa.Table.from_arrays(
        [_array(field.type, [row[field.name] for row in content]) for field in fields], schema=fields
    )


def _row_groups(table: Table, content: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Events of each name apart: whoever reads histograms passes over the predictions, which are most of the bytes."""
    if table != "AppEvents":
        yield content
        return
    for _, group in itertools.groupby(sorted(content, key=_name), _name):
        yield list(group)


def _array(kind: pa.DataType, values: list[Any]) -> pa.Array:
    """Values without nulls, by their memory: pa.array() would import pandas into the worker, where it is installed."""
    import pyarrow as pa

    if pa.types.is_string(kind):
        texts = [value.encode() for value in values]
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        buffers = [pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
    elif pa.types.is_boolean(kind):
        buffers = [pa.py_buffer(np.packbits(np.array(values, dtype=bool), bitorder="little"))]
    else:
        dtype = np.float64 if pa.types.is_floating(kind) else np.dtype(f"i{kind.bit_width // 8}")
        buffers = [pa.py_buffer(np.array(values, dtype=dtype))]
    return pa.Array.from_buffers(kind, len(values), [None, *buffers])


def _scalar(value: int) -> pa.Scalar:
    import pyarrow as pa

    return pa.scalar(value, pa.timestamp("us", "UTC"))


def _requests(seen: Observation, about: Mapping[str, str], count: int) -> Observation:
    counts = list(seen.latency)
    for place, number in msgspec.json.decode(about["latency"], type=dict[int, int]).items():
        counts[place] += number
    errors = count if int(about["status"]) >= 500 else 0
    return replace(seen, requests=seen.requests + count, errors=seen.errors + errors, latency=tuple(counts))


def _scores(seen: Observation, about: Mapping[str, str], total: float, count: int) -> Observation:
    return replace(
        seen,
        scores=seen.scores + count,
        score_sum=seen.score_sum + total,
        score_squares=seen.score_squares + float(about["squares"]),
    )


def _name(row: Mapping[str, Any]) -> str:
    return str(row["Name"])


def _time(row: Mapping[str, Any]) -> int:
    return int(row["TimeGenerated"])
