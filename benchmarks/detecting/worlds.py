"""Simulated tables: 60 days of a reference, then windows of a day each, with or without a change.

Four numbers (one log-normal), a category and a flag; a score that is calibrated on the first two numbers, and a label
drawn from it. Days are alike, or differ independently or in an autocorrelated way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

FEATURES = ("a", "b", "c", "d", "kind", "flag")
#: Of the model; it does not use the last number.
WEIGHTS = {name: 0.2 for name in FEATURES if name != "d"}
#: Deviation of the daily means in standard deviations of the rows, and their autocorrelation from day to day.
EFFECTS = {"alike": (0.0, 0.0), "independent": (0.2, 0.0), "autocorrelated": (0.2, 0.7)}
#: Changes and their sizes: standard deviations, growth of the deviation, shares of the rows, correlation.
CHANGES: dict[str, tuple[float, ...]] = {
    "mean": (0.1, 0.15, 0.3, 0.6),
    "scale": (0.1, 0.2, 0.5),
    "missing": (0.03, 0.1),
    "category": (0.05, 0.1),
    "correlation": (0.4, 0.6, 0.8),
    "concept": (0.1, 0.2, 0.4),
}
DAYS = 60
#: Rows a day of the reference, at most: more would only cost time.
MOST = 2000
_KINDS = np.array(list("vwxyz"))


@dataclass(frozen=True)
class Change:
    """What happens to all windows, from the first on; none when it has no name.

    ``correlation`` ties the second number to the first, ``category`` moves rows to the rarest value, and ``concept``
    draws the labels of a share of the rows without regard to the score: features, scores and the rate of positive
    labels stay as they are. ``unused`` moves the mean of the number that the model does not use.
    """

    name: str = ""
    size: float = 0.0


class World:
    """The reference of a seed, and windows after it.

    Args:
        seed: of everything.
        size: rows in a window.
        days: a key of :data:`EFFECTS`.
        windows: how many days follow the reference.
    """

    def __init__(self, seed: int, size: int, days: str = "alike", windows: int = 1) -> None:
        self.name = f"{days}-{size}-{seed}"
        self._seed, self._size = seed, size
        spread, correlation = EFFECTS[days]
        rng = np.random.default_rng([seed, size])
        moved = rng.standard_normal((DAYS + windows, 4))
        for day in range(1, len(moved)):
            moved[day] = correlation * moved[day - 1] + np.sqrt(1 - correlation**2) * moved[day]
        self._moved = moved * spread
        per_day = min(size, MOST)
        day = np.repeat(np.arange(DAYS), per_day)
        self.reference = _table(rng, self._moved[day], day, Change())

    def windows(self, change: Change = Change()) -> Iterator[pa.Table]:
        """The days after the reference; rows of one seed are the same for every change, but for what it changes."""
        for day in range(DAYS, len(self._moved)):
            rng = np.random.default_rng([self._seed, self._size, day])
            yield _table(rng, np.tile(self._moved[day], (self._size, 1)), np.full(self._size, day), change)


def _table(rng: np.random.Generator, moved: np.ndarray, day: np.ndarray, change: Change) -> pa.Table:
    count = len(moved)
    x = rng.standard_normal((count, 4)) + moved
    kind = rng.choice(5, count, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    flag = rng.random(count) < 0.2
    luck, hit, again = rng.random((3, count))
    if change.name == "mean":
        x[:, 0] += change.size
    elif change.name == "unused":
        x[:, 3] += change.size
    elif change.name == "scale":
        x[:, 0] *= 1 + change.size
    elif change.name == "correlation":
        x[:, 1] = change.size * x[:, 0] + np.sqrt(1 - change.size**2) * x[:, 1]
    elif change.name == "category":
        kind[hit < change.size] = 4
    score = 1 / (1 + np.exp(1 - x[:, 0] - x[:, 1]))
    label = luck < score
    if change.name == "concept":
        label = np.where(hit < change.size, again < score.mean(), label)
    elif change.name == "missing":
        x[hit < change.size, 0] = np.nan
    columns = {
        "a": x[:, 0],
        "b": x[:, 1],
        "c": np.exp(x[:, 2]),
        "d": x[:, 3],
        "kind": pa.DictionaryArray.from_arrays(pa.array(kind), pa.array(_KINDS)).cast(pa.string()),
        "flag": pa.array(flag).cast(pa.string()),
        "at": np.datetime64("2013-01-01", "us") + day.astype("timedelta64[D]"),
        "score": score,
        "label": label.astype(np.int8),
        "decision": (score > 0.5).astype(np.int8),
    }
    return pa.table(columns)
