"""What came of a replayed year: contracts, and how well the models did with and without retraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stk_ml.contracts import CalibrationBin, Interval
from stk_ml.statistics.blocks import Blocks, make_blocks
from stk_ml.statistics.bootstrap import difference_samples, interval, metric_interval
from stk_ml.statistics.calibration import reliability

Floats = NDArray[np.float64]
Kind = Literal[
    "trained", "alarm", "broken", "worse", "started", "refused", "canary", "promoted", "rolled_back", "failed"
]
METRICS = ("auc", "log_loss", "calibration_error")
#: Days of one point over time.
STRETCH = 14


@dataclass(frozen=True)
class Event:
    """Something that was found or decided.

    Attributes:
        time: ISO 8601 with Z.
        kind: what it was; ``worse``: the labels show decay.
        text: one sentence.
        version: of the model that it is about; 0 for none.
    """

    time: str
    kind: Kind
    text: str
    version: int = 0


@dataclass(frozen=True)
class Day:
    """One look of the monitor.

    Attributes:
        start: ISO 8601 with Z.
        rows: asked for.
        version: that answered most of them, and was looked at.
        answer: of the monitor: drift, stable or insufficient, or ``broken``.
        alarm: whether it alarmed.
    """

    start: str
    rows: int
    version: int
    answer: str
    alarm: bool


@dataclass(frozen=True)
class Stretch:
    """How well both did on the flights of a stretch of time.

    Attributes:
        start, end: ISO 8601 with Z.
        rows: with a label.
        governed: by metric: what was answered. Metrics that are not defined there are left out.
        frozen: by metric: what the first model would have answered.
    """

    start: str
    end: str
    rows: int
    governed: Mapping[str, Interval]
    frozen: Mapping[str, Interval]


@dataclass(frozen=True)
class Year:
    """``year.json``: the whole replay.

    Attributes:
        model: its name.
        since, until: of the replay, ISO 8601 with Z.
        trained: sentence on the first training.
        requests: that were answered over HTTP.
        seconds: by part: how long it took.
        days: looks of the monitor.
        events: oldest first.
        stretches: of 14 days.
        total: the whole time.
        gain: by metric: how much better the governed answers were on the same rows (positive is better).
        reliability: calibration bins of ``governed`` and ``frozen``.
        retrains: runs that were started.
        promoted: of them.
    """

    model: str
    since: str
    until: str
    trained: str
    requests: int
    seconds: Mapping[str, float]
    days: tuple[Day, ...]
    events: tuple[Event, ...]
    stretches: tuple[Stretch, ...]
    total: Stretch
    gain: Mapping[str, Interval]
    reliability: Mapping[str, tuple[CalibrationBin, ...]] = field(default_factory=dict)
    retrains: int = 0
    promoted: int = 0


def measure(
    times: Floats, labels: Floats, governed: Floats, frozen: Floats
) -> tuple[tuple[Stretch, ...], Stretch, dict[str, Interval]]:
    """Both models over time, in all, and the paired difference; intervals by resampling days.

    Args:
        times: (n,) unix seconds of the predictions.
        labels: (n,) 0 and 1; NaN where it is not known.
        governed: (n,) probabilities that were answered.
        frozen: (n,) probabilities of the first model.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> times = np.arange(5000.0) * 3600
        >>> chance = rng.random(5000)
        >>> labels = (rng.random(5000) < chance).astype(float)
        >>> stretches, total, gain = measure(times, labels, chance, 0.5 * chance + 0.3)
        >>> len(stretches), total.rows, gain["log_loss"].low > 0
        (15, 5000, True)
    """
    known = np.isfinite(labels)
    times, labels, governed, frozen = times[known], labels[known], governed[known], frozen[known]
    if not times.size:
        empty = Stretch("", "", 0, {}, {})
        return (), empty, {}
    length = STRETCH * 86_400.0
    first = times.min() // 86_400.0 * 86_400.0
    slots = ((times - first) // length).astype(np.int64)
    stretches = []
    for slot in np.unique(slots):
        rows = slots == slot
        start = first + slot * length
        end = min(start + length, times.max() // 86_400.0 * 86_400.0 + 86_400.0)
        stretches.append(_stretch(start, end, times[rows], labels[rows], governed[rows], frozen[rows]))
    total = _stretch(first, times.max(), times, labels, governed, frozen)
    blocks, gain = _blocks(times), {}
    for metric in METRICS:
        value, samples = difference_samples(metric, labels, governed, frozen, blocks)
        gain[metric] = interval(value, samples, blocks.count)
    return tuple(stretches), total, gain


def calibration(labels: Floats, governed: Floats, frozen: Floats) -> dict[str, tuple[CalibrationBin, ...]]:
    """Observed against predicted share, of both."""
    known = np.isfinite(labels)
    both = {"governed": governed, "frozen": frozen}
    return {name: reliability(labels[known], scores[known]) for name, scores in both.items() if known.any()}


def iso(seconds: float) -> str:
    """Unix seconds as ISO 8601 with Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stretch(start: float, end: float, times: Floats, labels: Floats, governed: Floats, frozen: Floats) -> Stretch:
    blocks = _blocks(times)
    found = [
        {
            metric: told
            for metric in METRICS
            if (told := metric_interval(metric, labels, scores, blocks, resamples=500)) is not None
        }
        for scores in (governed, frozen)
    ]
    return Stretch(iso(start), iso(end), len(labels), *found)


def _blocks(times: Floats) -> Blocks:
    return make_blocks(times.size, (times * 1e6).astype("datetime64[us]"))
