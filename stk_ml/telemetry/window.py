"""What was scored in one window, as rows of the log."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.telemetry.histogram import Counts, FeatureBins
from stk_ml.telemetry.packing import CLIP, clip, iso, json, lists, objects
from stk_ml.telemetry.protocol import Event, Metric, Source

Array = npt.NDArray[np.float64]


class Buffer:
    """Scored rows that wait to be counted: its length is that of each list, and the rows in use of the matrix."""

    __slots__ = ("ids", "matrix", "row_ids", "scores", "times")

    def __init__(self, rows: int, features: int) -> None:
        self.matrix = np.empty((rows, features))
        self.clear()

    def __len__(self) -> int:
        return len(self.scores)

    def clear(self) -> None:
        """Forgets its rows."""
        self.ids: list[str] = []
        self.row_ids: list[str] = []
        self.scores, self.times = array("d"), array("d")


@dataclass(frozen=True)
class Sample:
    """One scored row that is told whole."""

    time: float
    request_id: str
    row_id: str
    row: Array
    score: float


class Window:
    """Adds up the scored rows between two flushes.

    Args:
        bins: of the model; None counts scores alone.
        start: unix seconds.
        record_ids: whether each prediction is told by its id.
    """

    def __init__(self, bins: FeatureBins | None, start: float, record_ids: bool) -> None:
        self.start, self.rows = start, 0
        self._bins, self._record_ids = bins, record_ids
        self._counts: Counts | None = None
        self._scores, self._sum, self._squares = 0, 0.0, 0.0
        self._low, self._high = float("inf"), float("-inf")
        self._pieces: list[dict[str, str]] = []

    def add(self, buffer: Buffer) -> None:
        """Counts the rows of a buffer, all or none."""
        rows = len(buffer)
        scores = np.frombuffer(buffer.scores)
        counts = self._bins.count(buffer.matrix[:rows], scores) if self._bins else None
        pieces = list(self._pack(buffer, scores)) if self._record_ids else []
        self._counts = self._counts + counts if self._counts and counts else counts
        self._pieces += pieces
        self.rows += rows
        finite = scores[np.isfinite(scores)]
        if len(finite):
            self._scores += len(finite)
            self._sum += float(finite.sum())
            self._squares += float(finite @ finite)
            self._low, self._high = min(self._low, float(finite.min())), max(self._high, float(finite.max()))

    def _pack(self, buffer: Buffer, scores: Array) -> Iterator[dict[str, str]]:
        milliseconds = np.rint((np.frombuffer(buffer.times) - self.start) * 1e3).astype(np.int64)
        columns: dict[str, Sequence[Any]] = {
            "ids": buffer.ids if max(map(len, buffer.ids)) <= CLIP else list(map(clip, buffer.ids)),
            "scores": scores.tolist(),
            "times": milliseconds.tolist(),
        }
        if any(buffer.row_ids):
            columns["row_ids"] = [clip(row_id) for row_id in buffer.row_ids]
        yield from lists(columns)

    def events(self, end: float, about: dict[str, str]) -> Iterator[Event]:
        """``stk.histogram`` of each column and the score, ``stk.counted``, and the packed ``stk.predictions``."""
        if self._bins and self._counts:
            for column in self._bins.histograms(self._counts):
                cells = {name: str(getattr(column, name)) for name in ("below", "above", "missing", "other", "unseen")}
                what = {"feature": column.name, "kind": column.kind, "counts": json(column.counts), **cells}
                yield Event(end, "stk.histogram", {**about, **what, "rows": str(column.rows)})
            for oddity, name, rows in self._bins.oddities(self._counts):
                yield Event(end, "stk.counted", {**about, "what": oddity, "column": clip(name), "rows": str(rows)})
        for piece in self._pieces:
            yield Event(end, "stk.predictions", {**about, **piece})

    def metrics(self, end: float, about: dict[str, str]) -> Iterator[Metric]:
        """``stk.scores``: sum, smallest, largest and number of scores; their sum of squares among the properties."""
        if self._scores:
            what = {**about, "squares": repr(self._squares)}
            yield Metric(end, "stk.scores", self._sum, self._low, self._high, self._scores, what)


def properties(source: Source, start: float, end: float) -> dict[str, str]:
    """What every row of a window says about where it comes from."""
    return {
        "endpoint": source.endpoint,
        "deployment": source.deployment,
        "model": source.model,
        "version": str(source.version),
        "digest": source.digest,
        "worker": source.worker,
        "shadow": "true" if source.shadow else "false",
        "window_start": iso(start),
        "window_end": iso(end),
    }


def sampled(sample: Sample, schema: FeatureSchema, about: dict[str, str]) -> Iterator[Event]:
    """``stk.row`` events of one row: one, or several that each hold some of its columns."""
    pairs = list(zip(schema.fields, sample.row.tolist(), strict=True))
    values = {field.name: decoded(field, value) for field, value in pairs}
    unseen = [field.name for field, value in pairs if field.type == "category" and value < 0]
    what = {**about, "row_id": clip(sample.row_id), "score": repr(float(sample.score))}
    if unseen:
        what.update(next(lists({"unseen": unseen})))
    for part, text in enumerate(objects(values)):
        yield Event(
            sample.time, "stk.row", {**what, "part": str(part), "values": text}, operation_id=clip(sample.request_id)
        )


def decoded(field: FeatureField, value: float) -> float | int | bool | str | None:
    """An encoded value as a caller would write it; None for missing, infinite, or a category not seen in training.

    Example:
        >>> kind = FeatureField("kind", "category", ("air", "road"))
        >>> decoded(kind, 1.0), decoded(kind, -1.0), decoded(FeatureField("n", "integer"), 3.0)
        ('road', None, 3)
    """
    if not math.isfinite(value):
        return None
    if field.type == "category":
        return clip(field.categories[int(value)]) if 0 <= value < len(field.categories) else None
    if field.type == "boolean":
        return bool(value)
    return int(value) if field.type == "integer" and value.is_integer() else value
