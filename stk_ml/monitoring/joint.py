"""A classifier that tries to tell a window's rows from the reference's: it finds what no single column shows.

Lopez-Paz and Oquab 2017, "Revisiting Classifier Two-Sample Tests": when both come from one source, no classifier does
better than chance on rows that it has not seen. Each row is scored by a model fitted on the other fold; the AUC within
folds is compared with chance by the variance of the Mann-Whitney statistic on one fold: what one fold learns by chance
helps or misleads in both, so their mean is hardly more certain than one of them. Days differ in stable data too, so
where the days of the reference are known, its own blocks of days are told from the rest of it in the same way, and the
window has to stand out among them (a Student prediction interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stk_ml.contracts import Interval
from stk_ml.monitor_state import Answer
from stk_ml.statistics.bootstrap import student_quantile
from stk_ml.statistics.metrics import auc

Floats = NDArray[np.float64]
#: Rows taken of each side, folds, and blocks of the reference that are compared with the rest of it.
ROWS, FOLDS, BLOCKS = 4000, 2, 8
_FEWEST = 50
#: More rows of the reference than this many times the window's make the AUC no more certain.
_TIMES = 4
_ROUNDS = 30
#: One thread is as fast on so few rows, and many times faster where other processes use the cores.
_MODEL = {
    "objective": "binary",
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "learning_rate": 0.15,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True)
class Joint:
    """What the classifier says.

    Attributes:
        answer: drift when the rows can be told apart beyond chance and beyond the floor.
        auc: of rows that the classifier has not seen, with interval; 0.5 is chance.
        usual: mean AUC of the reference's own blocks of days; 0.5 without days.
        columns: those that the AUC falls most without, strongest first; empty unless drift.
        detectable: the AUC that would have been found with the declared power.
        p_value: chance of an AUC as high as this without a change.
    """

    answer: Answer
    auc: Interval
    usual: float
    columns: tuple[str, ...]
    detectable: float
    p_value: float = 1.0


def tell_apart(
    names: Sequence[str],
    reference: Floats,
    current: Floats,
    *,
    days: NDArray[np.int64] | None = None,
    span: int = 1,
    alpha: float = 0.05,
    floor: float = 0.55,
    power: float = 0.8,
    seed: int = 0,
) -> Joint:
    """Fits it and judges.

    Args:
        names: of the columns.
        reference: (n, columns) encoded rows (:meth:`stk_ml.artifact.schema.FeatureSchema.matrix`).
        current: (m, columns) of the window.
        days: (n,) day of each row of the reference, as a number; None when rows are independent. Eight blocks of
            consecutive days cannot tell a false alarm rate below about 1%: with days, smaller alphas are not reached
            by chance differences but need larger ones.
        span: days that the window covers; it is compared with blocks of as many days, and shown in as many rows, since
            longer blocks are more alike, and fewer rows teach a classifier less.
        alpha: chance of a false alarm.
        floor: smallest AUC that counts; 0.55 is what a normal number gives that moved by 0.18 standard deviations.
        power: with which an AUC at the floor must have been found before the answer is stable.
        seed: of samples and folds.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> then, now = rng.normal(size=(2, 1500, 3))
        >>> now[:, 1] = now[:, 0] * 0.95 + now[:, 1] * 0.3
        >>> found = tell_apart(["a", "b", "c"], then, now)
        >>> found.answer, sorted(found.columns[:2])
        ('drift', ['a', 'b'])
    """
    rng = np.random.default_rng(seed)
    now = min(len(current), ROWS)
    own: list[NDArray[np.intp]] = []
    if days is not None:
        own = _own_blocks(days, span)
        now = min(now, int(np.median([len(block) for block in own]))) if own else 0
    sizes = min(len(reference), ROWS, _TIMES * now), now
    if min(sizes) < _FEWEST or not names or (days is not None and len(own) < 4):
        return Joint("insufficient", Interval(0.5, 0.0, 1.0), 0.5, (), 1.0)
    found, importance = _separate(_take(reference, rng, sizes[0]), _take(current, rng, now), rng)
    error = float(np.sqrt(FOLDS * (sum(sizes) + 1) / (12 * sizes[0] * sizes[1])))
    usual, spread, freedom = 0.5, error, 0
    if days is not None:
        usually = [_apart_from_rest(reference, block, now, rng) for block in own]
        usual = max(float(np.mean(usually)), 0.5)
        spread = max(float(np.std(usually, ddof=1)) * np.sqrt(1 + 1 / len(usually)), error)
        freedom = len(usually) - 1
    p_value = _student(-(found - usual) / spread, freedom)
    quantile = _quantile(1 - alpha, freedom)
    limit, reach = usual + quantile * spread, NormalDist().inv_cdf(0.975) * spread
    detectable = limit + NormalDist().inv_cdf(power) * spread
    drifted = p_value <= alpha and found >= floor
    answer: Answer = "drift" if drifted else "stable" if detectable <= floor else "insufficient"
    strongest = [names[k] for k in np.argsort(-importance, kind="stable") if importance[k] > error / 2]
    interval = Interval(found, max(found - reach, 0.0), min(found + reach, 1.0))
    return Joint(answer, interval, usual, tuple(strongest) if drifted else (), min(detectable, 1.0), p_value)


def _student(value: float, freedom: int) -> float:
    """Chance of at most this value; 0 degrees of freedom stand for a known variance."""
    from scipy.special import stdtr

    return float(stdtr(freedom, value)) if freedom else NormalDist().cdf(value)


def _quantile(share: float, freedom: int) -> float:
    return student_quantile(share, freedom) if freedom else NormalDist().inv_cdf(share)


def _take(rows: Floats, rng: np.random.Generator, most: int = ROWS) -> Floats:
    return rows[np.sort(rng.choice(len(rows), most, replace=False))] if len(rows) > most else rows


def _separate(first: Floats, second: Floats, rng: np.random.Generator, *, explain: bool = True) -> tuple[float, Floats]:
    """AUC on unseen rows, mean over folds, and what it loses when each column is shuffled."""
    import lightgbm

    rows = np.vstack([first, second])
    label = np.repeat([0.0, 1.0], [len(first), len(second)])
    fold = np.concatenate([rng.permutation(len(part)) % FOLDS for part in (first, second)])
    found, lost = [], np.zeros(rows.shape[1])
    for held in range(FOLDS):
        train, test = fold != held, fold == held
        share = label[train].mean()
        weight = np.where(label[train] > 0, 1 - share, share) * 2
        data = lightgbm.Dataset(rows[train], label[train], weight=weight, params=_MODEL)
        model = lightgbm.train(_MODEL, data, _ROUNDS)
        unseen = rows[test].copy()
        found.append(auc(label[test], np.asarray(model.predict(unseen, num_threads=1))))
        for column in range(rows.shape[1]) if explain else ():
            usual = unseen[:, column].copy()
            unseen[:, column] = rng.permutation(usual)
            lost[column] += (found[-1] - auc(label[test], np.asarray(model.predict(unseen, num_threads=1)))) / FOLDS
            unseen[:, column] = usual
    return float(np.mean(found)), lost


def _own_blocks(days: NDArray[np.int64], span: int) -> list[NDArray[np.intp]]:
    """Rows of some blocks of ``span`` consecutive days, or of an eighth of them all where that is less.

    Blocks of too few rows are left out.
    """
    order = np.argsort(days, kind="stable")
    names, starts = np.unique(days[order], return_index=True)
    ends = np.append(starts[1:], len(days))
    span = min(span, max(len(names) // BLOCKS, 1))
    firsts = np.unique(np.linspace(0, max(len(names) - span, 0), BLOCKS).astype(int))
    blocks = [order[starts[first] : ends[min(first + span, len(names)) - 1]] for first in firsts] if len(days) else []
    return [block for block in blocks if _FEWEST <= len(block) <= len(days) - _FEWEST]


def _apart_from_rest(reference: Floats, block: NDArray[np.intp], rows: int, rng: np.random.Generator) -> float:
    """The AUC of a block of the reference against the rest of it."""
    rest = np.ones(len(reference), np.bool_)
    rest[block] = False
    sample = _take(reference[block], rng, rows)
    others = _take(reference[rest], rng, min(ROWS, _TIMES * len(sample)))
    return _separate(others, sample, rng, explain=False)[0]
