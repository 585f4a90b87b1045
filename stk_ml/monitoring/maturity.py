"""How much of the truth about recent predictions has come, and what the labels that have come would say if all had.

Outcomes take time to be known, and one kind takes longer than the other: a late delivery is labelled later than a
punctual one. Of young predictions the labels that are there are therefore not a fair sample. The time a label takes is
learned per outcome from old cohorts, whose labels have all come, where it is observed without censoring; a young label
then counts 1 / P(known by this age | its outcome) times: inverse probability of censoring weighting (Robins and
Rotnitzky 1992; the delay as in Chapelle 2014, "Modeling delayed feedback in display advertising").

What must hold: the delay depends on the outcome and on nothing else that moves, and still is what it was in the old
cohorts. The first cannot be seen from labels alone; the second is checked: the weights of the labels must add up to the
predictions that were made (:attr:`Correction.balance`). Predictions too young for any label of some outcome to be there
cannot be corrected at all, and are left out whatever their label.

Times are unix seconds. An outcome that is not known yet is NaN, and so is the time at which it became known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
#: A prediction is corrected from the age on at which this share of the labels of each kind of outcome has come. Of a
#: number, nearly all of each kind: its delay may be the outcome itself, and then the first labels of a kind are its
#: least ones.
LEAST_BINARY, LEAST_NUMBER = 0.1, 0.9
#: Most kinds of outcome of a regression.
_KINDS = 10
#: Old labels of each kind that are needed to learn its delay.
FEWEST = 50


@dataclass(frozen=True)
class Predictions:
    """Predictions and what became of them, as arrays of equal length.

    Attributes:
        times: (n,) when each was made.
        scores: (n,) probability or predicted value.
        outcomes: (n,) 0 and 1 or the target; NaN while it is not known.
        known: (n,) when the outcome became known; NaN while it is not.
    """

    times: Floats
    scores: Floats
    outcomes: Floats
    known: Floats

    def __len__(self) -> int:
        return self.times.size

    def at(self, now: float) -> Predictions:
        """What was known at a time: predictions made until then, without the labels that came later.

        Example:
            >>> made = Predictions(np.array([0.0, 5.0]), np.ones(2), np.ones(2), np.array([3.0, 9.0]))
            >>> made.at(6.0).known.tolist()
            [3.0, nan]
        """
        made = self.take(self.times <= now)
        hidden = ~(made.known <= now)
        return Predictions(
            made.times, made.scores, np.where(hidden, np.nan, made.outcomes), np.where(hidden, np.nan, made.known)
        )

    def take(self, rows: Flags | NDArray[np.intp]) -> Predictions:
        """Some of them."""
        return Predictions(self.times[rows], self.scores[rows], self.outcomes[rows], self.known[rows])

    @property
    def labelled(self) -> Flags:
        """(n,) whether the outcome is known."""
        return ~np.isnan(self.outcomes)


@dataclass(frozen=True)
class Curve:
    """The share of labels that is known by an age: a step function from 0 to its last value.

    Attributes:
        ages: (k,) seconds, rising.
        shares: (k,) known by that age.
        rows: labels and waiting predictions behind it.
    """

    ages: Floats
    shares: Floats
    rows: int

    def __call__(self, age: Floats) -> Floats:
        """The share known by each age; 0 before the first step."""
        place = np.searchsorted(self.ages, age, side="right")
        return np.append(0.0, self.shares)[place]

    def age(self, share: float) -> float:
        """The least age by which that share of all labels that ever come is known; infinite when there are none."""
        reached = np.flatnonzero(self.shares >= share * self.shares[-1]) if self.shares.size else np.empty(0, np.intp)
        return float(self.ages[reached[0]]) if reached.size else math.inf


def delay_curve(predictions: Predictions, now: float) -> Curve:
    """The delay of labels of any outcome: one less Kaplan and Meier's estimator (1958), waiting predictions censored.

    Example:
        >>> made = Predictions(np.zeros(4), np.ones(4), np.array([0.0, 1, 0, np.nan]), np.array([1.0, 4, 1, np.nan]))
        >>> curve = delay_curve(made, now=5.0)
        >>> curve.ages.tolist(), curve.shares.tolist()
        ([1.0, 4.0], [0.5, 0.75])
    """
    if not len(predictions):
        return Curve(np.empty(0), np.empty(0), 0)
    labelled = predictions.labelled
    spent = np.where(labelled, predictions.known, now) - predictions.times
    order = np.argsort(spent, kind="stable")
    ages, first = np.unique(spent[order], return_index=True)
    events = np.add.reduceat(labelled[order].astype(np.float64), first)
    waiting: Floats = np.asarray(1 - np.cumprod(1 - events / (spent.size - first)))
    kept = events > 0
    return Curve(ages[kept], waiting[kept], spent.size)


@dataclass(frozen=True)
class Delays:
    """How long labels take, by outcome.

    Attributes:
        horizon: seconds after which a prediction counts as matured.
        cuts: (k - 1,) outcomes at which the kinds are cut; of a binary outcome 0.5.
        curves: one per kind, of old cohorts; empty when there are too few old labels to tell the kinds apart.
        overall: of all outcomes, from all predictions.
        least: share of the labels of each kind that has to be known by the age from which predictions are corrected.
        missing: why there are no curves; empty when there are.
    """

    horizon: float
    cuts: Floats
    curves: tuple[Curve, ...]
    overall: Curve
    least: float
    missing: str = ""

    def known_by(self, ages: Floats, outcomes: Floats) -> Floats:
        """The chance that a label of this outcome is known at this age."""
        kinds = np.searchsorted(self.cuts, outcomes, side="right")
        shares = np.zeros(ages.shape)
        for kind, curve in enumerate(self.curves):
            shares[kinds == kind] = curve(ages[kinds == kind])
        return shares

    @property
    def correctable(self) -> float:
        """The age from which a prediction can be corrected: every kind of outcome has begun to be known."""
        return max((curve.age(self.least) for curve in self.curves), default=math.inf)


def learn_delays(
    predictions: Predictions, now: float, *, binary: bool, horizon: float | None = None, recent: float = math.inf
) -> Delays:
    """Learns the delay of labels from predictions old enough that every label that ever comes has come.

    Args:
        predictions: all that there are, young ones too.
        now: of the look.
        binary: whether outcomes are 0 and 1; else up to 10 kinds of outcome of about equal counts are made.
        horizon: seconds after which labels count as complete (the declared label delay); None takes it from the
            overall delay curve: 99.9% of the labels that ever come are there.
        recent: only old predictions younger than this many seconds count.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> times, late = np.arange(4000.0), rng.uniform(size=4000) < 0.3
        >>> known = times + rng.exponential(np.where(late, 300.0, 50.0))
        >>> made = Predictions(times, late * 1.0, late * 1.0, known).at(4000.0)
        >>> delays = learn_delays(made, 4000.0, binary=True)
        >>> [round(float(curve(np.array([100.0]))[0]), 1) for curve in delays.curves]
        [0.9, 0.3]
    """
    overall = delay_curve(predictions, now)
    horizon = overall.age(0.999) if horizon is None else horizon
    ages = now - predictions.times
    old = predictions.take((ages >= horizon) & (ages <= recent) & predictions.labelled)
    if binary:
        cuts = np.array([0.5])
    else:
        kinds = int(np.clip(len(old) // (2 * FEWEST), 1, _KINDS))
        cuts = np.unique(np.quantile(old.outcomes, np.arange(1, kinds) / kinds)) if len(old) else np.empty(0)
    kind = np.searchsorted(cuts, old.outcomes, side="right")
    rows = np.bincount(kind, minlength=len(cuts) + 1)
    least = LEAST_BINARY if binary else LEAST_NUMBER
    if rows.min() < FEWEST:
        missing = f"{rows.min()} of {len(old)} old labels are of the rarest kind of outcome, {FEWEST} are needed"
        return Delays(horizon, cuts, (), overall, least, missing)
    spent = old.known - old.times
    return Delays(horizon, cuts, tuple(_observed(spent[kind == k]) for k in range(len(rows))), overall, least)


def _observed(delays: Floats) -> Curve:
    ages, counts = np.unique(delays, return_counts=True)
    return Curve(ages, np.cumsum(counts) / delays.size, delays.size)


@dataclass(frozen=True)
class Correction:
    """What the labels of a group of predictions count, so that they stand for all of the group.

    Attributes:
        rows: places of the labelled predictions that count.
        weights: of each of them, at least 1.
        predictions: how many they stand for: those old enough to be corrected.
        matured: share of those whose label is there.
        balance: sum of the weights over the number of predictions. About 1, or at most the share of labels that ever
            come, when the delays still are what they were.
        refused: why there is no correction; empty when there is one.
    """

    rows: NDArray[np.intp]
    weights: Floats
    predictions: int
    matured: float
    balance: float
    refused: str = ""


def correct(predictions: Predictions, delays: Delays, now: float, *, tolerance: float = 0.1) -> Correction:
    """Weights for the labels that have come.

    Args:
        predictions: the group to look at.
        delays: as learned.
        now: of the look.
        tolerance: how far the balance may be from the share of labels that ever come, beyond 4 standard errors of it.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> times, late = np.arange(40000.0), rng.uniform(size=40000) < 0.3
        >>> known = times + rng.exponential(np.where(late, 300.0, 50.0))
        >>> made = Predictions(times, late * 1.0, late * 1.0, known).at(40000.0)
        >>> young = made.take(made.times > 39500)
        >>> found = correct(young, learn_delays(made, 40000.0, binary=True), 40000.0)
        >>> naive = young.outcomes[young.labelled].mean()
        >>> corrected = np.average(young.outcomes[found.rows], weights=found.weights)
        >>> round(float(naive), 2), round(float(corrected), 2)
        (0.2, 0.28)
    """
    ages = now - predictions.times
    old = ages >= delays.correctable
    rows = np.flatnonzero(old & predictions.labelled)
    count = int(old.sum())
    if delays.missing or not rows.size:
        refused = (
            delays.missing or f"none of {len(predictions)} predictions is {delays.correctable:.0f} s old and known"
        )
        return Correction(rows[:0], np.empty(0), count, 0.0, math.nan, refused)
    outcomes = predictions.outcomes[rows]
    weights = 1 / np.maximum(delays.known_by(ages[rows], outcomes), LEAST_BINARY)
    balance, expected = float(weights.sum() / count), float(delays.overall.shares[-1])
    noise = 4 * math.sqrt(float((weights * (weights - 1)).sum()) + expected * (1 - expected) * count) / count
    refused = ""
    if abs(balance - expected) > tolerance + noise:
        refused = (
            f"labels came for {balance:.0%} of the predictions where {expected:.0%} ought to be: the delay changed"
        )
    if delays.least > LEAST_BINARY:
        spent = predictions.known[rows] - predictions.times[rows]
        weights = _within_kinds(weights, np.searchsorted(delays.cuts, outcomes, side="right"), spent, ages[rows])
    return Correction(rows, weights, count, rows.size / count, balance, refused)


def _within_kinds(weights: Floats, kinds: NDArray[np.intp], spent: Floats, ages: Floats) -> Floats:
    """The weight of each kind of outcome, shared out by how few predictions are old enough to show such a delay.

    Within a kind of a number the largest outcomes may take longest (a plane three hours late is labelled three hours
    late), and of those only the oldest predictions tell: each stands for 1 / P(age is at least its delay | kind).
    """
    shared = weights.copy()
    for kind in np.unique(kinds):
        of = kinds == kind
        order = np.argsort(ages[of])
        older = np.cumsum(weights[of][order][::-1])[::-1]
        found = 1 / older[np.searchsorted(ages[of][order], spent[of])]
        shared[of] = found * weights[of].sum() / found.sum()
    return shared


@dataclass(frozen=True)
class Cohort:
    """Predictions made in one stretch of time.

    Attributes:
        start: unix seconds.
        end: unix seconds; start <= time < end.
        rows: places of its predictions.
        labelled: share of them whose label has come.
        complete: whether all of them are older than the horizon.
    """

    start: float
    end: float
    rows: NDArray[np.intp]
    labelled: float
    complete: bool


def cohorts(predictions: Predictions, delays: Delays, now: float, *, width: float = 86400.0) -> tuple[Cohort, ...]:
    """The predictions by time, oldest first; stretches without any are left out.

    Args:
        predictions: all of them.
        delays: as learned; its horizon says what is complete.
        now: of the look.
        width: seconds of a cohort; they begin at multiples of it since 1970.

    Example:
        >>> made = Predictions(np.array([1.0, 2.0, 11.0]), np.ones(3), np.ones(3), np.array([4.0, 5.0, 12.0]))
        >>> found = cohorts(made, learn_delays(made, 20.0, binary=True, horizon=10.0), 20.0, width=10.0)
        >>> [(cohort.start, cohort.rows.tolist(), cohort.complete) for cohort in found]
        [(0.0, [0, 1], True), (10.0, [2], False)]
    """
    places = np.floor(predictions.times / width).astype(np.int64)
    order = np.argsort(places, kind="stable")
    found, first = np.unique(places[order], return_index=True)
    groups = np.split(order, first[1:]) if found.size else []
    labelled = predictions.labelled
    return tuple(
        Cohort(place * width, (place + 1) * width, rows, float(labelled[rows].mean()), complete)
        for place, rows in zip(found.tolist(), groups, strict=True)
        for complete in [bool((now - predictions.times[rows] >= delays.horizon).all())]
    )
