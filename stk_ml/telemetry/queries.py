"""What monitoring asks of the log, over any reader: histograms, requests, scores, predictions, rows, losses.

Times are unix seconds. A stretch is ``since < time <= until``; rows of a window bear the time of its end, so stretches
that follow each other count every row once. Shadows, whose scores reach no caller, are left out unless asked for.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack

import msgspec

from stk_ml.errors import UsageError
from stk_ml.telemetry import latency
from stk_ml.telemetry.files import instant
from stk_ml.telemetry.histogram import Histogram
from stk_ml.telemetry.kusto import Parameter
from stk_ml.telemetry.packing import clip
from stk_ml.telemetry.rows import microseconds
from stk_ml.telemetry.sampling import smallest

if TYPE_CHECKING:
    import pyarrow as pa

DAY = 86_400.0
#: End of the year 9998, in unix seconds.
FOREVER = 253_370_764_800.0


class Scope(TypedDict, total=False):
    """What to look at.

    Attributes:
        digest: of the model; all digests when absent or empty.
        deployment: its name; all when absent or empty.
        endpoint: its name; all when absent or empty.
        shadows: whether shadows, whose scores reach no caller, count too.
    """

    digest: str
    deployment: str
    endpoint: str
    shadows: bool


class LogReader(Protocol):
    """Asks a log; :class:`stk_ml.telemetry.local_reader.LocalLogReader` on a laptop."""

    def query(self, name: str, **parameters: Parameter) -> pa.Table:
        """The result of a query of :mod:`stk_ml.telemetry.kusto`.

        Args:
            name: of the query.
            parameters: values of all that it takes; ``since`` and ``until`` are datetimes with a zone.

        Returns:
            A table with the query's columns: text, int64, double, and timestamps in UTC; rows in no order.
        """


@dataclass(frozen=True)
class Stretch:
    """A stretch of time: ``start`` < time <= ``end``, in unix seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class WindowCounts(Stretch):
    """Histograms of a stretch.

    Attributes:
        rows: scored.
        histograms: one per column, by name, and the score (kind ``score``) last.
    """

    rows: int
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True)
class WindowRequests(Stretch):
    """Requests of a stretch.

    Attributes:
        requests: answered, however.
        errors: with a status of 500 or more.
        reasons: failed requests (status of 400 or more) by reason.
        latency: counts per bin of :data:`stk_ml.telemetry.latency.EDGES`.
    """

    requests: int
    errors: int
    reasons: Mapping[str, int]
    latency: tuple[int, ...]


@dataclass(frozen=True)
class WindowScores(Stretch):
    """Scores of a stretch: number, sum, sum of squares, smallest and largest."""

    rows: int
    total: float
    squares: float
    low: float
    high: float


@dataclass(frozen=True)
class SampledRow:
    """A row that was told whole; ``values`` by column, None for missing, ``unseen`` the categories not seen before."""

    request_id: str
    row_id: str
    time: float
    score: float
    version: int
    deployment: str
    values: Mapping[str, float | int | bool | str | None]
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume(Stretch):
    """What a worker told of in a stretch: when its first window began, the ends of its first and last one."""

    deployment: str
    worker: str
    windows: int
    rows: int
    requests: int
    begun: float
    earliest: float
    latest: float


@dataclass(frozen=True)
class Dropped:
    """What a worker could not tell; ``what`` is ``buffer`` or ``queue``, see :mod:`stk_ml.telemetry`."""

    what: str
    worker: str
    events: int
    rows: int
    mistakes: int
    batches: int


@dataclass(frozen=True)
class Counted(Stretch):
    """Rows whose values the model's policy let pass."""

    what: str
    column: str
    rows: int


def histograms(
    reader: LogReader, model: str, since: float, until: float, *, every: float = DAY, **scope: Unpack[Scope]
) -> list[WindowCounts]:
    """Histograms of all workers, added up per stretch; stretches without rows are left out.

    Args:
        reader: of the log.
        model: its name.
        since: unix seconds.
        until: unix seconds.
        every: length of a stretch in seconds; the first begins at ``since``, the last ends at ``until``.
        scope: see :class:`Scope`.

    Raises:
        TelemetryError: the log cannot be read.
        UsageError: histograms of several models would have to be added up; name a digest.

    Example:
        >>> import tempfile
        >>> from stk_ml.telemetry.local_reader import LocalLogReader
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     histograms(LocalLogReader(folder), "flight-delay", 0.0, DAY, deployment="v3")
        []
    """
    found = _records(reader, "histograms", _about(model, since, until, scope), every)
    digests = sorted({row["profile"] for row in found})
    if len(digests) > 1:
        raise UsageError(
            f"histograms of {len(digests)} versions of {model} have different bins and cannot be added up",
            hint=f"name one of the digests {', '.join(digests)}",
        )
    return [_window_counts(_stretch(slot, since, until, every), rows) for slot, rows in _slots(found)]


def requests(
    reader: LogReader, model: str, since: float, until: float, *, every: float = DAY, **scope: Unpack[Scope]
) -> list[WindowRequests]:
    """Requests per stretch; arguments as of :func:`histograms`, and an empty model is all of them."""
    found = _records(reader, "requests", _about(model, since, until, scope), every)
    return [_window_requests(_stretch(slot, since, until, every), rows) for slot, rows in _slots(found)]


def scores(
    reader: LogReader, model: str, since: float, until: float, *, every: float = DAY, **scope: Unpack[Scope]
) -> list[WindowScores]:
    """Sums over the scores per stretch; arguments as of :func:`histograms`."""
    found = _records(reader, "scores", _about(model, since, until, scope), every)
    return [WindowScores(*_stretch(slot, since, until, every), **row) for slot, (row,) in _slots(found)]


def predictions(reader: LogReader, model: str, since: float, until: float, **scope: Unpack[Scope]) -> pa.Table:
    """Each prediction of the windows that ended in the stretch, in no order; arguments as of :func:`histograms`.

    Returns:
        Columns ``request_id, row_id`` (text; empty when the row had none), ``time`` (of the prediction, in UTC to the
        millisecond), ``score`` (double), ``version`` (int64), ``deployment`` (text).
    """
    found = reader.query("predictions", **_about(model, since, until, scope))
    return found.rename_columns(["request_id", "row_id", "time", "score", "version", "deployment"])


def sampled_rows(
    reader: LogReader, model: str, since: float, until: float, *, most: int = 0, **scope: Unpack[Scope]
) -> list[SampledRow]:
    """The rows told whole at times of the stretch, by time; arguments as of :func:`histograms`.

    Args:
        reader: of the log.
        model: its name.
        since: unix seconds.
        until: unix seconds.
        most: about as many are enough: of more, those of the requests with the smallest MD5. 0 for all.
        scope: see :class:`Scope`.
    """
    share = 1.0
    if most:
        [told] = _records(reader, "sampled", _times(since, until))
        share = min(1.0, most / max(told["parts"], 1))
    about = _about(model, since, until, scope)
    while True:
        found = _sampled(_records(reader, "rows", {**about, "digests": smallest(share)}))
        if share == 1.0 or len(found) >= most / 2:
            return found
        share = min(1.0, share * most / max(len(found), most / 64))  # others told most of the parts


def _sampled(found: list[dict[str, Any]]) -> list[SampledRow]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        groups[tuple(row[name] for name in ("at", "request_id", "row_id", "score", "worker"))].append(row)
    return [row for _, parts in sorted(groups.items()) for row in _whole(parts)]


def counted(
    reader: LogReader, model: str, since: float, until: float, *, every: float = DAY, **scope: Unpack[Scope]
) -> list[Counted]:
    """Values that the model's policy let pass, per stretch; arguments as of :func:`histograms`."""
    found = _records(reader, "counted", _about(model, since, until, scope), every)
    return [
        Counted(*_stretch(slot, since, until, every), row["what"], row["feature"], row["rows"])
        for slot, rows in _slots(found)
        for row in sorted(rows, key=lambda row: (row["what"], row["feature"]))
    ]


def volume(
    reader: LogReader, model: str, since: float, until: float, *, every: float = DAY, **scope: Unpack[Scope]
) -> list[Volume]:
    """What each worker told of, per stretch; arguments as of :func:`histograms`."""
    found = _records(reader, "volume", _about(model, since, until, scope), every)
    for row in found:
        row |= {name: row[name].timestamp() for name in ("begun", "earliest", "latest")}
    return [
        Volume(*_stretch(slot, since, until, every), **row)
        for slot, rows in _slots(found)
        for row in sorted(rows, key=lambda row: (row["deployment"], row["worker"]))
    ]


def dropped(
    reader: LogReader, model: str, since: float, until: float, *, deployment: str = "", endpoint: str = ""
) -> list[Dropped]:
    """What is missing in the log. Batches that a worker lost name no model: those of its endpoint count."""
    about = {"model": model, "deployment": deployment, "endpoint": endpoint}
    found = _records(reader, "dropped", {**about, **_times(since, until)})
    return [Dropped(**{**row, **_numbers(row)}) for row in sorted(found, key=lambda row: (row["what"], row["worker"]))]


def prediction(reader: LogReader, request_id: str, since: float = 0.0, until: float = FOREVER) -> list[dict[str, Any]]:
    """All that the log tells of one request, by time.

    Args:
        reader: of the log.
        request_id: as the caller got it.
        since: unix seconds; the narrower the stretch, the less is read.
        until: unix seconds.

    Returns:
        One record per kind of telling, with ``source`` (``request``: sampled or failed; ``prediction``, one per row;
        ``row``: sampled, with ``values``), ``time`` in unix seconds, ``endpoint, deployment, model, version, digest,
        worker, shadow, window_end``, and, where the source tells them, ``row_id, score, route, status,
        milliseconds, reason, values, unseen``.
    """
    request_id = clip(request_id)
    fragment = max(re.findall(r"[A-Za-z0-9_-]+", request_id), key=len, default="")
    about = {**_times(since, until), "request_id": request_id, "fragment": fragment}
    found = _records(reader, "prediction", about)
    return [_told(row) for row in sorted(found, key=lambda row: (row["at"], row["source"], row["part"] or 0))]


def _times(since: float, until: float) -> dict[str, Parameter]:
    return {"since": instant(microseconds(since)), "until": instant(microseconds(until))}


def _about(model: str, since: float, until: float, scope: Scope) -> dict[str, Parameter]:
    every = Scope(digest="", deployment="", endpoint="", shadows=False)
    return {**_times(since, until), "model": model, **every, **scope}  # type: ignore[dict-item]


def _records(reader: LogReader, name: str, about: Mapping[str, Parameter], every: float = 0.0) -> list[dict[str, Any]]:
    step = {"every": max(microseconds(every), 1)} if every else {}
    rows: list[dict[str, Any]] = reader.query(name, **about, **step).to_pylist()
    return rows


def _slots(rows: list[dict[str, Any]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """Rows by the number of their stretch."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row.pop("slot")].append(row)
    return sorted(found.items())


def _stretch(slot: int, since: float, until: float, every: float) -> tuple[float, float]:
    return since + slot * every, min(since + (slot + 1) * every, until)


def _window_counts(stretch: tuple[float, float], rows: list[dict[str, Any]]) -> WindowCounts:
    columns: dict[tuple[bool, str, str], list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        columns[row["type"] == "score", row["feature"], row["type"]].append((row["place"], row["rows"]))
    found = []
    for (_, name, kind), cells in sorted(columns.items()):
        below, above, missing, other, unseen, *counts = (count for _, count in sorted(cells))
        found.append(Histogram(name, kind, tuple(counts), below, above, missing, other, unseen))
    return WindowCounts(*stretch, found[-1].rows, tuple(found))


def _window_requests(stretch: tuple[float, float], rows: list[dict[str, Any]]) -> WindowRequests:
    total, errors, reasons, counts = 0, 0, Counter[str](), [0] * latency.BINS
    for row in rows:
        count = row["requests"]
        total += count
        counts[row["place"]] += count
        if row["status"] >= 400:
            reasons[row["reason"]] += count
            errors += count if row["status"] >= 500 else 0
    return WindowRequests(*stretch, total, errors, dict(sorted(reasons.items())), tuple(counts))


def _whole(parts: list[dict[str, Any]]) -> Iterator[SampledRow]:
    """Rows of their parts; rows of one request that are alike in all else have their parts in the same order."""
    pieces: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for part in parts:
        pieces[part["part"]].append(part)
    for row in zip(*(pieces[part] for part in sorted(pieces)), strict=False):
        first = row[0]
        values = {name: value for part in row for name, value in msgspec.json.decode(part["columns"]).items()}
        yield SampledRow(
            first["request_id"],
            first["row_id"],
            first["at"].timestamp(),
            first["score"],
            first["version"],
            first["served_by"],
            values,
            tuple(msgspec.json.decode(first["unseen"] or "[]")),
        )


def _numbers(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: row[name] or 0 for name in ("rows", "mistakes", "batches")}


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A record without what its source does not tell."""
    columns, unseen = row.pop("columns"), row.pop("unseen")
    found = {"source": row["source"], "time": row.pop("at").timestamp(), **row}
    found["window_end"] = row["window_end"].timestamp()
    found["shadow"] = row["shadow"] == "true"
    if columns:
        found["values"], found["unseen"] = msgspec.json.decode(columns), msgspec.json.decode(unseen or "[]")
    return {name: value for name, value in found.items() if value is not None and value != ""}
