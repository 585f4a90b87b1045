"""Histograms of simulated days: independent or autocorrelated day effects, counts drawn exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.telemetry.histogram import Histogram

CATEGORIES = tuple("abcdefgh")
_BASE = np.array([0.4, 0.3, 0.15, 0.08, 0.04, 0.02, 0.008, 0.002])
_DRAWN = np.random.default_rng(0).standard_normal(200_000)
EDGES = np.quantile(_DRAWN, np.linspace(0, 1, 21))


@dataclass(frozen=True)
class World:
    """``days`` of ``per_day`` rows, then a window of ``rows`` over ``span`` days; effects in standard deviations."""

    days: int = 60
    per_day: int = 1000
    rows: int = 1000
    columns: int = 3
    effect: float = 0.0
    correlation: float = 0.0
    span: int = 1
    missing: float = 0.01

    def make(self, seed: int, *, shift: float = 0.0, lost: float = 0.0) -> tuple[Profile, list[Histogram]]:
        rng = np.random.default_rng([seed, 7])
        features, windows = [], []
        for place in range(self.columns):
            kind = KINDS[place % 3]
            moved, often = (self._days(rng) * self.effect for _ in range(2))
            moved[self.days :] += shift
            missing = np.minimum(self.missing * np.exp(2 * often), 0.9)
            missing[self.days :] += lost
            shares = _shares(kind, moved, missing)
            name = f"{kind}{place}"
            features.append(column(name, kind, rng.multinomial(self.per_day, shares[: self.days])))
            cells = rng.multinomial(self.rows // self.span, shares[self.days :]).sum(axis=0)
            windows.append(histogram(name, kind, cells))
        days = tuple(np.datetime_as_string(np.datetime64("2013-01-01") + np.arange(self.days)).tolist())
        return Profile(days, {}, (), tuple(features), (), ColumnProfile("score", (), (), *((),) * 6)), windows

    def _days(self, rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal(self.days + self.span)
        for day in range(1, len(noise)):
            noise[day] = self.correlation * noise[day - 1] + np.sqrt(1 - self.correlation**2) * noise[day]
        return noise


KINDS = ("number", "category", "boolean")


def column(name: str, kind: str, cells: np.ndarray) -> ColumnProfile:
    edges = {"number": tuple(EDGES.tolist()), "boolean": (0.0, 1.0, 1.0), "category": ()}[kind]
    below, *_ = parts = cells.T.tolist()
    bins = tuple(map(tuple, cells[:, 1:-4].tolist()))
    above, missing, other, unseen = map(tuple, parts[-4:])
    categories = CATEGORIES if kind == "category" else ()
    return ColumnProfile(name, edges, categories, bins, missing, tuple(below), above, other, unseen)


def histogram(name: str, kind: str, cells: np.ndarray) -> Histogram:
    below, *bins, above, missing, other, unseen = cells.tolist()
    return Histogram(name, kind, tuple(bins), below, above, missing, other, unseen)


def _shares(kind: str, moved: np.ndarray, missing: np.ndarray) -> np.ndarray:
    none = np.zeros((len(moved), 1))
    below = above = none
    if kind == "number":
        cumulated = np.searchsorted(np.sort(_DRAWN), EDGES[None, :] - moved[:, None]) / len(_DRAWN)
        bins, below, above = np.diff(cumulated, axis=1), cumulated[:, :1], 1 - cumulated[:, -1:]
    elif kind == "category":
        weighed = _BASE * np.exp(np.linspace(-1, 1, 8) * moved[:, None])
        bins = weighed / weighed.sum(axis=1, keepdims=True)
    else:
        yes = 1 / (1 + np.exp(1.5 - moved))[:, None]
        bins = np.hstack([1 - yes, yes])
    known = np.hstack([below, bins, above]) * (1 - missing)[:, None]
    shares = np.hstack([known, missing[:, None], none, none])
    return shares / shares.sum(axis=1, keepdims=True)
