"""The rows that were told whole: values of number columns, and what a classifier tells the windows apart by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

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


class Samples:
    """Sampled rows of a model; each window is read once.

    Args:
        reader: of the log.
        model: its name.
        deployment: name of the one deployment to look at; empty for all.
    """

    def __init__(self, reader: LogReader, model: str, deployment: str = "") -> None:
        self._reader, self._model, self._deployment = reader, model, deployment
        self._read: dict[tuple[str, float], list[SampledRow]] = {}

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
        before = [self._between(digest, _time(v.window_start), _time(v.window_end)) for v in sound]
        days = np.repeat(np.arange(len(before)), [len(rows) for rows in before])
        used = [name for name in schema.names if reference.weights.get(name, 0.0) > 0]
        places = [schema.names.index(name) for name in used]
        then = _matrix(schema, [row for rows in before for row in rows])[:, places]
        return tell_apart(used, then, _matrix(schema, self._of(window))[:, places], days=days, alpha=alpha)

    def _of(self, window: Window) -> list[SampledRow]:
        if window.served is None:
            return []
        return self._between(window.served.digest, window.start, window.end)

    def _between(self, digest: str, start: float, end: float) -> list[SampledRow]:
        if (digest, end) not in self._read:
            self._read[digest, end] = sampled_rows(
                self._reader, self._model, start, end, most=ROWS, digest=digest, deployment=self._deployment
            )
        return self._read[digest, end]


def _matrix(schema: FeatureSchema, rows: Sequence[SampledRow]) -> Floats:
    """Encoded rows, -1 where a category was not seen in training."""
    whole = [row for row in rows if all(name in row.values for name in schema.names)]
    return encode(schema, [_values(row) for row in whole])


def _values(row: SampledRow) -> Mapping[str, float | int | bool | str | None]:
    return {**row.values, **dict.fromkeys(row.unseen, "")}


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
