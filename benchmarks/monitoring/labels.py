"""Simulated late labels: how far from the truth performance on young predictions is, naive and corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stk_ml.contracts import Interval, Problem
from stk_ml.monitoring import performance
from stk_ml.monitoring.maturity import Predictions, correct, learn_delays
from stk_ml.statistics import metrics

DAY = 86_400.0
#: Days since the model went live, and the newest ones, which are looked at. Of a number whose delay is its value all
#: are: what takes longer than the oldest of them is old cannot be seen.
HISTORY = 60
YOUNG: Mapping[Problem, int] = {"binary": 15, "regression": HISTORY}
Delay = Callable[[np.random.Generator, np.ndarray], np.ndarray]
#: Days until an outcome is known, given which rows have the late kind of outcome.
DELAYS: Mapping[str, Delay] = {
    "gamma": lambda rng, late: np.where(late, rng.gamma(5, 1, late.size), rng.uniform(0.1, 1, late.size)),
    "exponential": lambda rng, late: rng.exponential(np.where(late, 4.0, 0.7)),
    "lognormal": lambda rng, late: rng.lognormal(np.where(late, 1.2, -0.5), np.where(late, 0.8, 0.6)),
    "steps": lambda rng, late: np.ceil(rng.exponential(np.where(late, 3.5, 0.8))),  # told once a day
    "never early": lambda rng, late: np.where(late, 2 + rng.exponential(2.5, late.size), 0.2),
    "two ways": lambda rng, late: np.where(
        late, np.where(rng.random(late.size) < 0.3, rng.exponential(0.5, late.size), rng.gamma(6, 1, late.size)), 0.5
    ),
}
WATCHED: Mapping[Problem, tuple[str, ...]] = {"binary": ("log_loss", "brier"), "regression": ("mae", "rmse")}


@dataclass(frozen=True)
class Biases:
    """Mean distance from the truth over worlds, with the standard error of each.

    Attributes:
        naive: of the labels that have come.
        corrected: of the same, weighted.
        ratio: corrected over naive, without sign, and what 95% of resampled worlds do not exceed.
        worlds: in which there was a correction; in the others it was refused.
    """

    naive: tuple[float, float]
    corrected: tuple[float, float]
    ratio: tuple[float, float]
    worlds: int


def world(seed: int, problem: Problem, delay: Delay, rows: int) -> Predictions:
    """Predictions of 60 days and their outcomes, the model somewhat off in those that are looked at."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, HISTORY * DAY, rows))
    risk = rng.beta(2, 5, rows)
    drift = 0.1 * (times > (HISTORY - YOUNG[problem]) * DAY)
    late = rng.uniform(size=rows) < np.clip(risk + drift, 0, 1)
    days = delay(rng, late)
    if problem == "binary":
        return Predictions(times, risk, late.astype(float), times + days * DAY)
    # A plane that is hours late lands, and is labelled, hours later: the delay is the outcome.
    return Predictions(times, 0.5 + 3.5 * risk, days, times + days * DAY)


def errors(truth: Predictions, problem: Problem, now: float) -> dict[str, tuple[float, float]]:
    """Naive and corrected estimate less the truth of all young predictions, by metric; none where it is refused."""
    seen = truth.at(now)
    delays = learn_delays(seen, now, binary=problem == "binary")
    recent = truth.times > now - YOUNG[problem] * DAY
    young, whole = seen.take(recent), truth.take(recent)
    group = correct(young, delays, now)
    known = young.labelled
    if group.refused:
        return {}
    found = {}
    past = {name: Interval(0.0, 0.0, 0.0) for name in WATCHED[problem]}
    corrected = {
        finding.metric: finding.value.value
        for finding in performance.assess(problem, young, delays, past, now, resamples=20)
        if finding.source == "corrected"
    }
    for name, value in corrected.items():
        of = getattr(metrics, name)
        true = of(whole.outcomes, whole.scores)
        naive = of(young.outcomes[known], young.scores[known])
        found[name] = naive - true, value - true
    if problem == "binary":
        true = float(whole.outcomes.mean())
        share = float(np.average(young.outcomes[group.rows], weights=group.weights))
        found["share of positives"] = float(young.outcomes[known].mean()) - true, share - true
    return found


def biases(problem: Problem, delay: Delay, worlds: int, rows: int) -> dict[str, Biases]:
    """Over many worlds."""
    every: dict[str, list[tuple[float, float]]] = {}
    for seed in range(worlds):
        for name, pair in errors(world(seed, problem, delay, rows), problem, HISTORY * DAY).items():
            every.setdefault(name, []).append(pair)
    return {name: _biases(np.array(pairs)) for name, pairs in every.items() if len(pairs) > 2}


def _biases(pairs: np.ndarray) -> Biases:
    means, sizes = pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
    rng = np.random.default_rng(0)
    drawn = pairs[rng.integers(0, len(pairs), (2000, len(pairs)))].mean(axis=1)
    ratios = np.abs(drawn[:, 1]) / np.maximum(np.abs(drawn[:, 0]), 1e-12)
    (naive, corrected), (naive_error, corrected_error) = means.tolist(), sizes.tolist()
    ratio = abs(corrected) / max(abs(naive), 1e-12)
    return Biases(
        (naive, naive_error), (corrected, corrected_error), (ratio, float(np.quantile(ratios, 0.95))), len(pairs)
    )
