"""The label ledger: what became of predictions, and when that was known. Parquet files that are only ever added.

A label is recorded under the id of its prediction (:func:`prediction_ids`). The same prediction may be labelled again:
the label known last counts. Files are written aside, then renamed, so that many processes may record at once and a
killed one leaves nothing half-done; the same labels recorded again are recognised and change nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stk_ml.errors import DataError, LabelError, StorageError, UsageError
from stk_ml.monitoring.instants import instants
from stk_ml.monitoring.maturity import Predictions

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
_COLUMNS = ("prediction_id", "outcome", "known_time")
_OF_REQUEST = re.compile(r".+#\d+", re.S)
_FORMAT = "%Y%m%dT%H%M%S%fZ"


def prediction_ids(request_ids: Sequence[str], row_ids: Sequence[str] | None = None) -> list[str]:
    """The id of each prediction: the caller's row id where there is one, else ``REQUEST#ROW`` (from 0).

    Args:
        request_ids: in the order in which rows were scored, one entry per row.
        row_ids: of the same length, empty where the caller gave none; None for none at all.

    Example:
        >>> prediction_ids(["a", "a", "b"], ["", "", "parcel-7"])
        ['a#0', 'a#1', 'parcel-7']
    """
    rows: dict[str, int] = {}
    found = []
    for place, request in enumerate(request_ids):
        row = rows.get(request, 0)
        rows[request] = row + 1
        found.append((row_ids[place] if row_ids else "") or f"{request}#{row}")
    return found


@dataclass(frozen=True)
class Recorded:
    """What recording did.

    Attributes:
        rows: labels that were handed in.
        file: that holds them.
        again: whether they were there already.
        matched: their predictions that the log holds (:func:`matching`); None when nobody has looked.
    """

    rows: int
    file: Path
    again: bool = False
    matched: int | None = None


class LabelLedger:
    """The labels of a model, in a folder.

    Args:
        folder: made when the first label is recorded.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> day = [datetime(2013, 7, d, tzinfo=UTC) for d in (1, 2, 3)]
        >>> labels = pa.table({"prediction_id": ["a#0", "b#0", "a#0"], "outcome": [0.0, 1.0, 1.0], "known_time": day})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ledger = LabelLedger(folder)
        ...     ledger.record(labels, now=day[2]).rows, ledger.known(day[1]).num_rows
        ...     ledger.known(day[2]).select(["prediction_id", "outcome", "records"]).to_pylist()
        (3, 2)
        [{'prediction_id': 'a#0', 'outcome': 1.0, 'records': 2}, {'prediction_id': 'b#0', 'outcome': 1.0, 'records': 1}]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._tables: dict[Path, pa.Table] = {}

    def record(self, labels: pa.Table, *, now: datetime) -> Recorded:
        """Adds labels, all or none.

        Args:
            labels: ``prediction_id`` (text), ``outcome`` (number or boolean), ``known_time`` (as
                :func:`stk_ml.monitoring.instants.instants` takes it; without a zone it is UTC).
            now: of recording; of two labels of one prediction known at the same time, the one recorded later counts.

        Raises:
            UsageError: a column is missing or of another type.
            LabelError: an id is empty, an outcome is no finite number, or a label is known only after now.
            StorageError: the disk refused; nothing was recorded.
        """
        table = _checked(labels, now)
        content = _content(table)
        digest = hashlib.sha256(content).hexdigest()[:16]
        try:
            present = next(self.folder.glob(f"*-{digest}.parquet"), None)
            if present:
                return Recorded(table.num_rows, present, again=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"{now.astimezone(UTC).strftime(_FORMAT)}-{digest}.parquet"
            _write(file, content)
        except OSError as error:
            raise StorageError(
                f"{self.folder} cannot be written: {error.strerror or error}", hint="is there space?"
            ) from error
        return Recorded(table.num_rows, file)

    def known(self, until: datetime) -> pa.Table:
        """The labels known by a time: one row per prediction, by id.

        Returns:
            ``prediction_id``, ``outcome``, ``known_time`` (of the label that counts) and ``records``: how many labels
            of that prediction were known by then; 2 and more are duplicates or corrections.

        Raises:
            StorageError: a file cannot be read.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self._read()
        table = table.filter(pc.less_equal(table.column("known_time"), pa.scalar(until, pa.timestamp("us", "UTC"))))
        ids = table.column("prediction_id").combine_chunks().dictionary_encode()
        codes = ids.indices.to_numpy(zero_copy_only=False)
        times = table.column("known_time").cast(pa.int64()).to_numpy()
        order = np.lexsort((np.arange(codes.size), times, codes))  # files are read in the order of recording
        last = np.append(np.flatnonzero(np.diff(codes[order])), codes.size - 1) if codes.size else order
        newest = table.take(pa.array(order[last]))
        counted = newest.append_column("records", pa.array(np.diff(last, prepend=-1)))
        return counted.sort_by("prediction_id")

    def _read(self) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            names = sorted(path for path in self.folder.glob("*.parquet") if not path.name.startswith("."))
            for name in names:
                if name not in self._tables:  # a file never changes
                    self._tables[name] = pq.read_table(name, schema=_schema(), partitioning=None)
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{self.folder} cannot be read: {error}") from error
        return pa.concat_tables([_schema().empty_table(), *(self._tables[name] for name in names)])


def read_labels(file: str | Path) -> pa.Table:
    r"""Labels from a CSV or Parquet file, as :meth:`LabelLedger.record` takes them.

    The prediction is named by a column ``prediction_id``, ``row_id``, or by ``request_id`` and ``row`` (0 where there
    is no such column). A ``known_time`` is a time in ISO 8601, without a zone UTC, or Unix time.

    Raises:
        StorageError: the file cannot be read.
        UsageError: a column is missing.
        LabelError: a request or the number of its row is missing or no such thing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "labels.csv")
        ...     _ = file.write_text("request_id,row,outcome,known_time\nq7,2,1,2013-07-02T08:00:00Z\n")
        ...     read_labels(file).column("prediction_id").to_pylist()
        ['q7#2']
    """
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    texts = {name: pa.string() for name in ("prediction_id", "row_id", "request_id", "row")}
    try:
        if Path(file).suffix == ".parquet":
            table = pq.read_table(file)
        else:
            # Arrow tells dates and times by itself, with a zone or without one.
            table = csv.read_csv(file, convert_options=csv.ConvertOptions(column_types=texts))
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"{file} cannot be read: {error}", hint="give CSV with a header, or Parquet") from error
    names = set(table.column_names)
    if len(names) < table.num_columns:
        twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
        raise UsageError(f"{file}: column {twice!r} is there several times", hint="rename or remove one of them")
    if "prediction_id" in names:
        return table
    if "row_id" in names:
        return table.append_column("prediction_id", table.column("row_id"))
    if "request_id" not in names:
        raise UsageError(
            f"{file} names no prediction", hint="give a column prediction_id, or row_id, or request_id and row"
        )
    requests = table.column("request_id").to_pylist()
    rows = table.column("row").to_pylist() if "row" in names else [0] * table.num_rows
    ids = [f"{request or ''}#{row}" for request, row in zip(requests, rows, strict=True)]
    first = 0 if Path(file).suffix == ".parquet" else 2  # a CSV file begins with its header, in line 1
    for place, name in enumerate(ids):
        if not _OF_REQUEST.fullmatch(name):
            where = f"{'line' if first else 'row'} {place + first}"
            raise LabelError(
                f"{file}, {where}: request {requests[place]!r}, row {rows[place]!r} name no prediction",
                hint="row is the place of the prediction in its request, from 0 on",
            )
    return table.append_column("prediction_id", pa.array(ids, pa.string()))


def matching(ids: Iterable[str], predictions: Iterable[Sequence[str]]) -> int:
    """How many predictions are among those that the log holds; reading stops when all were found.

    Args:
        ids: as labels name them.
        predictions: ids of logged predictions, in parts (:func:`prediction_ids`).

    Example:
        >>> matching(["a#0", "a#0", "b#7"], [["a#0", "a#1"], ["c#0"]])
        1
    """
    wanted = set(ids)
    count = len(wanted)
    for part in predictions if wanted else ():
        wanted.difference_update(part)
        if not wanted:
            break
    return count - len(wanted)


def attach(labels: pa.Table, ids: Sequence[str], times: Floats, scores: Floats) -> Predictions:
    """Predictions with what is known of them.

    Args:
        labels: as :meth:`LabelLedger.known` gives them.
        ids: (n,) as :func:`prediction_ids` gives them.
        times: (n,) unix seconds.
        scores: (n,).

    Example:
        >>> import pyarrow as pa
        >>> known = pa.array([datetime(1970, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC"))
        >>> labels = pa.table({"prediction_id": ["b#0"], "outcome": [1.0], "known_time": known})
        >>> attach(labels, ["a#0", "b#0"], np.zeros(2), np.ones(2)).known.tolist()
        [nan, 86400.0]
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(pa.array(ids, pa.string()), value_set=labels.column("prediction_id").combine_chunks())
    outcomes = labels.column("outcome").take(places).to_numpy()
    seconds = pc.divide(labels.column("known_time").cast(pa.int64()).cast(pa.float64()), 1e6).take(places).to_numpy()
    return Predictions(times, scores, outcomes, seconds)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [(_COLUMNS[0], pa.string()), (_COLUMNS[1], pa.float64()), (_COLUMNS[2], pa.timestamp("us", "UTC"))]
    )


def _checked(labels: pa.Table, now: datetime) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = [name for name in _COLUMNS if name not in labels.column_names]
    if missing:
        raise UsageError(f"labels lack the column {missing[0]!r}", hint=f"they need {', '.join(_COLUMNS)}")
    try:
        table = labels.select(list(_COLUMNS))
        times = instants(table.column("known_time"), "known_time").cast(pa.timestamp("us", "UTC"))
        table = table.set_column(2, "known_time", times).cast(_schema(), safe=False)
    except (DataError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f"a column of the labels is of another type: {error}",
            hint="outcome is a number or true or false, known_time a time in ISO 8601 or Unix time",
        ) from error
    limit = pa.scalar(now, pa.timestamp("us", "UTC"))
    wrong = {
        "have no prediction_id": pc.equal(pc.fill_null(table.column(0), ""), ""),
        "have an outcome that is no finite number": pc.invert(pc.is_finite(pc.fill_null(table.column(1), np.nan))),
        "have no known_time": pc.is_null(table.column(2)),
        "are known only after now": pc.fill_null(pc.greater(table.column(2), limit), False),
    }
    for what, rows in wrong.items():
        count = pc.sum(rows).as_py() or 0
        if count:
            first = rows.combine_chunks().index(True).as_py()
            raise LabelError(f"{count} of {table.num_rows} labels {what}, the first in row {first}")
    return table.combine_chunks()


def _content(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _write(file: Path, content: bytes) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with aside.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        aside.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
