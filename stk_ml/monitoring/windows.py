"""The windows of a model's telemetry: whole multiples of their length since 1970 (UTC), of the digest that served."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from stk_ml.telemetry.histogram import Histogram
from stk_ml.telemetry.queries import LogReader, histograms
from stk_ml.telemetry.served import Served, served

#: Windows that are asked for at once.
_AT_ONCE = 32


@dataclass(frozen=True)
class Window:
    """What one digest scored in a window.

    Attributes:
        start, end: unix seconds; start < time <= end.
        served: who scored most of it; None when nobody scored anything.
        rows: that this digest scored.
        histograms: of them.
        read_until: up to where the log was read at the same time; for those who ask it for more.
    """

    start: float
    end: float
    served: Served | None = None
    rows: int = 0
    histograms: tuple[Histogram, ...] = ()
    read_until: float = 0.0


class LogWindows:
    """Reads windows from a log.

    Args:
        reader: of the log.
        model: its name.
        length: of a window, in seconds.
        deployment: name of the one deployment to look at; empty for all.
    """

    def __init__(self, reader: LogReader, model: str, length: float, deployment: str = "") -> None:
        self._reader, self._model, self._deployment = reader, model, deployment
        self.length = length

    def first(self, until: float) -> float | None:
        """Start of the first window in which a row was scored; None when none was."""
        found = served(self._reader, self._model, 0.0, until, deployment=self._deployment, every=self.length)
        return found[0].slot * self.length if found else None

    def __call__(self, since: float, until: float) -> Iterator[Window]:
        """The windows that lie wholly between two times, oldest first, those without rows too."""
        start = math.ceil(since / self.length) * self.length
        while start + self.length <= until:
            end = min(start + _AT_ONCE * self.length, math.floor(until / self.length) * self.length)
            yield from self._read(start, end)
            start = end

    def _read(self, since: float, until: float) -> Iterator[Window]:
        found = served(self._reader, self._model, since, until, deployment=self._deployment, every=self.length)
        main: dict[int, Served] = {}
        for row in found:
            main.setdefault(row.slot, row)
        counts = {
            (digest, window.end): window
            for digest in {row.digest for row in main.values()}
            for window in histograms(
                self._reader,
                self._model,
                since,
                until,
                digest=digest,
                deployment=self._deployment,
                every=self.length,
            )
        }
        for slot in range(round((until - since) / self.length)):
            start = since + slot * self.length
            who = main.get(slot)
            seen = counts.get((who.digest, start + self.length)) if who else None
            found_rows, shown = (seen.rows, seen.histograms) if seen else (0, ())
            yield Window(start, start + self.length, who, found_rows, shown, until)
