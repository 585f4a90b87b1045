"""The rows that were told whole: values of number columns, and what a classifier tells the windows apart by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from stk_ml.artifact.predictor import encode
from stk_ml.artifact.schema import FeatureSchema
from stk_ml.monitor_state import MonitorVerdict
from stk_ml.monitoring.joint import ROWS, Joint, tell_apart
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.windows import Window
from stk_ml.telemetry.queries import LogReader, SampledRow, sampled_rows

Floats = NDArray[np.float64]
#: Windows, the first sound ones of a model, whose rows are what the joint view compares with.
_WINDOWS = 28
Span = tuple[float, float]
#: Windows whose rows are read at once when they are few.
_AT_ONCE = 16


class Samples:
    """Sampled rows of a model, read once while windows are looked at in their order.

    Args:
        reader: of the log.
        model: its name.
        deployment: name of the one deployment to look at; empty for all.
    """

    def __init__(self, reader: LogReader, model: str, deployment: str = "") -> None:
        self._reader, self._model, self._deployment = reader, model, deployment
        self._ahead: tuple[str, float, float, list[SampledRow]] = ("", 0.0, 0.0, [])
        self._encoded: dict[tuple[str, Span], Floats] = {}

    def numbers(self, window: Window, schema: FeatureSchema) -> dict[str, Floats]:
        """Sampled values of the number columns in a window, those that are there."""
        rows = self._of(window)
        names = [field.name for field in schema.fields if field.type in ("integer", "number")]
        return {
            name: np.array([v for row in rows if isinstance(v := row.values.get(name), int | float)]) for name in names
        }

    def joint(self, window: Window, reference: Reference, past: Sequence[MonitorVerdict], alpha: float) -> Joint:
        """Whether the columns that the model uses tell the window from its first sound windows.

        The artifact holds counts and no rows: the first 28 windows of the same digest that neither drifted nor were
        broken stand for the reference.

        Args:
            window: to look at.
            reference: of the model that served it.
            past: the looks before.
            alpha: chance of a false alarm.
        """
        assert window.served is not None  # noqa: S101
        digest, schema = window.served.digest, reference.document.schema
        sound = [v for v in past if v.digest == digest and v.answer != "drift" and not v.broken][:_WINDOWS]
        spans = [(_time(verdict.window_start), _time(verdict.window_end)) for verdict in sound]
        before = self._before(digest, schema, spans)
        now = _matrix(schema, self._of(window))
        self._encoded[digest, (window.start, window.end)] = now
        then = np.concatenate([now[:0], *before])
        days = np.repeat(np.arange(len(before)), [len(rows) for rows in before])
        used = [name for name in schema.names if reference.weights.get(name, 0.0) > 0]
        places = [schema.names.index(name) for name in used]
        return tell_apart(used, then[:, places], now[:, places], days=days, alpha=alpha)

    def _before(self, digest: str, schema: FeatureSchema, spans: Sequence[Span]) -> list[Floats]:
        """Encoded rows of some windows; they are kept, and those of other windows are not."""
        kept = {(digest, span): self._encoded[digest, span] for span in spans if (digest, span) in self._encoded}
        for run in _runs([span for span in spans if (digest, span) not in kept]):
            for part, rows in self._parts(digest, run):
                for start, end in part:
                    inside = [row for row in rows if start < row.time <= end]
                    kept[digest, (start, end)] = _matrix(schema, inside)
        self._encoded = kept
        return [kept[digest, span] for span in spans]

    def _parts(self, digest: str, run: Sequence[Span]) -> Iterator[tuple[Sequence[Span], list[SampledRow]]]:
        """Rows of windows that follow each other, of as many windows at once as have no more rows than one may have."""
        if len(run) == 1 or self._told(run[0][0], run[-1][1]) <= ROWS:
            yield run, self._read(digest, run[0][0], run[-1][1])
        else:
            half = len(run) // 2
            yield from self._parts(digest, run[:half])
            yield from self._parts(digest, run[half:])

    def _of(self, window: Window) -> list[SampledRow]:
        """Rows of a window; where rows are few, those of the windows after it are read at the same time."""
        if window.served is None:
            return []
        digest, since, until, rows = self._ahead
        if digest != window.served.digest or not since <= window.start < window.end <= until:
            digest, since, until = window.served.digest, window.start, window.end
            last = min(window.read_until, window.start + _AT_ONCE * (window.end - window.start))
            if last > until and self._told(since, last) <= ROWS:
                until = last
            rows = self._read(digest, since, until)
            self._ahead = digest, since, until, rows
        return [row for row in rows if window.start < row.time <= window.end]

    def _told(self, since: float, until: float) -> int:
        """Rows told whole in a stretch, or more: parts of wide rows and rows of other models count too."""
        found = self._reader.query(
            "sampled", since=datetime.fromtimestamp(since, UTC), until=datetime.fromtimestamp(until, UTC)
        )
        return int(found.column("parts")[0].as_py() or 0)

    def _read(self, digest: str, start: float, end: float) -> list[SampledRow]:
        return sampled_rows(
            self._reader, self._model, start, end, most=ROWS, digest=digest, deployment=self._deployment
        )


def _runs(spans: Sequence[Span]) -> list[list[Span]]:
    """Windows that follow each other without a gap, together."""
    found: list[list[Span]] = []
    for span in spans:
        if found and found[-1][-1][1] == span[0]:
            found[-1].append(span)
        else:
            found.append([span])
    return found


def _matrix(schema: FeatureSchema, rows: Sequence[SampledRow]) -> Floats:
    """Encoded rows of those that tell all columns, -1 where a category was not seen in training."""
    names = set(schema.names)
    return encode(schema, [_values(row) for row in rows if names <= row.values.keys()])


def _values(row: SampledRow) -> Mapping[str, float | int | bool | str | None]:
    return {**row.values, **dict.fromkeys(row.unseen, "")}


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
