"""What a window of requests adds up to: latencies, oddities, differences. Bounded, whatever callers send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stk_ml.telemetry import latency
from stk_ml.telemetry.packing import clip, json
from stk_ml.telemetry.protocol import Event, Metric, Request
from stk_ml.telemetry.sampling import Sampler
from stk_ml.telemetry.scored import Requests

#: Kinds that are told apart in a window; the others are counted together under this name.
KINDS = 200
OTHERS = "(others)"
#: Differences of a window that its quantiles are taken over.
_DIFFERENCES = 8192


class Latencies:
    """Requests of one route, status and reason."""

    __slots__ = ("counts", "high", "low", "total")

    def __init__(self) -> None:
        self.counts = [0] * latency.BINS
        self.total, self.low, self.high = 0.0, float("inf"), 0.0


class Tallies:
    """Light counts of one window, kept by whoever answers requests.

    Args:
        sample: share of the answered requests that are told one by one.
        most: number of them, and of failed ones, in a window.

    Attributes:
        latencies: by (route, status, reason).
        answered, failed: samples of requests, as :attr:`Entry`.
        counted: rows by (what, column).
        differences: of shadow and live scores.
    """

    def __init__(self, sample: float, most: int) -> None:
        self.latencies: dict[tuple[str, int, str], Latencies] = {}
        self.answered, self.failed = Sampler(sample, most), Sampler(1.0, most)
        self.counted: dict[tuple[str, str], int] = {}
        self.differences = Differences()

    def kind(self, route: str, status: int, reason: str) -> Latencies:
        """Where the requests of a kind are counted."""
        if len(self.latencies) >= KINDS:
            route, reason = OTHERS, OTHERS
        return self.latencies.setdefault((route, status, reason), Latencies())

    def add(self, requests: Requests) -> None:
        """Counts requests that were answered well (status 200)."""
        places = np.searchsorted(latency.EDGES, requests.seconds, side="right")
        for route in set(requests.routes):
            of_it = np.array([each == route for each in requests.routes])
            found, kind = requests.seconds[of_it], self.kind(route, 200, "")
            for place, count in zip(*np.unique(places[of_it], return_counts=True), strict=True):
                kind.counts[place] += int(count)
            kind.total += float(found.sum())
            kind.low, kind.high = min(kind.low, float(found.min())), max(kind.high, float(found.max()))
        for place, key in enumerate(requests.keys):
            if key < self.answered.limit:
                seconds = float(requests.seconds[place])
                told = (requests.times[place], requests.ids[place], requests.routes[place], 200, seconds, "")
                self.answered.offer(key, told)

    def count(self, what: str, column: str, rows: int) -> None:
        """Adds rows with an oddity."""
        key = (what, clip(column))
        if key not in self.counted and len(self.counted) >= KINDS:
            key = (what, OTHERS)
        self.counted[key] = self.counted.get(key, 0) + rows

    def metrics(self, time: float, about: dict[str, str]) -> Iterator[Metric]:
        """``stk.requests`` of each kind, in milliseconds."""
        for (route, status, reason), seen in self.latencies.items():
            sparse = {str(place): count for place, count in enumerate(seen.counts) if count}
            what = {"route": clip(route), "status": str(status), "reason": clip(reason), "latency": json(sparse)}
            times = (float(seen.total) * 1e3, float(seen.low) * 1e3, float(seen.high) * 1e3)
            yield Metric(time, "stk.requests", *times, sum(sparse.values()), {**about, **what})

    def requests(self, about: dict[str, str]) -> Iterator[Request]:
        """The sampled requests, by time."""
        entries = [*self.answered.items(), *self.failed.items()]
        for time, request_id, route, status, seconds, reason in sorted(entries, key=lambda entry: float(entry[0])):
            what = {**about, "reason": clip(reason)}
            name, milliseconds = clip(route), float(seconds) * 1e3
            yield Request(time, clip(request_id), name, status < 400, str(status), milliseconds, what)

    def events(self, time: float, about: dict[str, str]) -> Iterator[Event]:
        """``stk.counted`` of each oddity, and ``stk.shadow``."""
        for (what, column), rows in self.counted.items():
            yield Event(time, "stk.counted", {**about, "what": clip(what), "column": column, "rows": str(rows)})
        if self.differences.rows:
            yield Event(time, "stk.shadow", {**about, **self.differences.properties()})


class Differences:
    """Shadow minus live scores of a window."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = self._absolute = self._squares = self._high = 0.0
        self._kept = np.empty(0)

    def add(self, live: Sequence[float], shadow: Sequence[float]) -> None:
        """The scores of the same rows; those that are not finite are left out.

        Example:
            >>> differences = Differences()
            >>> differences.add([0.25, 0.5], [0.5, 0.25])
            >>> differences.properties()["mean"], differences.properties()["mean_absolute"]
            ('0.0', '0.25')
        """
        size = min(len(live), len(shadow))
        found = np.asarray(shadow, dtype=np.float64)[:size] - np.asarray(live, dtype=np.float64)[:size]
        found = found[np.isfinite(found)]
        if not len(found):
            return
        absolute = np.abs(found)
        self.rows += len(found)
        self._sum += float(found.sum())
        self._absolute += float(absolute.sum())
        self._squares += float(found @ found)
        self._high = max(self._high, float(absolute.max()))
        if len(self._kept) < _DIFFERENCES:
            self._kept = np.concatenate([self._kept, absolute])[:_DIFFERENCES]

    def properties(self) -> dict[str, str]:
        """Rows, mean, mean absolute difference, largest, sum of squares, and quantiles of the absolute difference."""
        marks = np.quantile(self._kept, (0.5, 0.9, 0.99)).tolist()
        return {
            "rows": str(self.rows),
            "mean": repr(self._sum / self.rows),
            "mean_absolute": repr(self._absolute / self.rows),
            "max": repr(self._high),
            "squares": repr(self._squares),
            **{name: repr(mark) for name, mark in zip(("p50", "p90", "p99"), marks, strict=True)},
        }
