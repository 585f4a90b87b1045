"""What effects a window shows by chance: the null distribution, from the reference's own days.

Days differ among themselves (weekdays, weather), and neighbouring days resemble each other; a test that takes rows to
be independent calls that drift. Here a window of n rows that spans L days is drawn in two steps:

1. the shares of its cells, from how blocks of L consecutive days of the reference lie around its mean. Their
   covariance less what n-row multinomial sampling alone would give is the variation between blocks (method of
   moments, in coordinates in which multinomial noise is white). Shares are drawn from it as a logistic normal
   (Aitchison and Shen 1980), with a multivariate Student distribution in place of the normal: it predicts a new block,
   whose variance is only known from few independent ones. Their number is that of the days over the integrated
   autocorrelation time (Geyer 1992, initial positive sequence). Where days have heavier tails than normal, the
   degrees of freedom match their kurtosis.
2. its rows, multinomially from these shares; the reference's too.

Drawing whole blocks alone would end at p = 1 / number of blocks, but a false alarm a year over many columns needs
smaller ones; that is what the model is for. Blocks themselves remain a guard: p is never below the share of blocks of
the reference that are as far from the rest of it as the window is. Beyond the smallest p that the draws resolve, a
generalised Pareto tail is fitted (Knijnenburg et al. 2009, "Fewer permutations, more accurate P-values",
Bioinformatics 25), never lighter than exponential.

A reference without days has no variation between blocks: its rows are taken to be independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stk_ml.contracts import Interval
from stk_ml.monitoring.effects import Ruler

Floats = NDArray[np.float64]
#: Draws of the null distribution, and which share of them, the largest, makes its tail.
DRAWS, TAIL = 2000, 0.1
_RESOLVED = 20
#: How many times a window's rows make a reference large, and how often such a one is drawn.
_LARGE, _FEW = 20, 200
_HEAVIEST = 0.5
_FARTHEST = 50.0
#: Below, above and unseen. The rows of the reference made the bins, so it has none there by construction: the chance
#: that the next row lies there follows the rule of succession, and these counts are not drawn again.
_OUTER = np.array([0, -4, -1])


@dataclass(frozen=True)
class Variation:
    """How the shares of a column's cells differ between blocks of days.

    Attributes:
        root: (cells, rank): root of the covariance between blocks of the logarithms of the shares; rank 0 when they
            do not differ beyond sampling.
        freedom: degrees of freedom of the Student distribution.
        blocks: effective number of independent blocks; infinite without days.
        own: (B, cells): rows of each block of consecutive days.
    """

    root: Floats
    freedom: float
    blocks: float
    own: Floats

    def draw(self, shares: Floats, rng: np.random.Generator, count: int) -> Floats:
        """(count, cells) shares of blocks whose mean is (cells,) ``shares``."""
        rank = self.root.shape[1]
        if not rank:
            return np.broadcast_to(shares, (count, len(shares)))
        scale = np.sqrt(self.freedom / np.maximum(rng.chisquare(self.freedom, (count, 1)), 1e-12))
        logs = scale * (rng.standard_normal((count, rank)) @ self.root.T) - np.square(self.root).sum(axis=1) / 2
        weighed = shares * np.exp(np.clip(logs, -_FARTHEST, _FARTHEST))
        drawn: Floats = weighed / weighed.sum(axis=1, keepdims=True)
        return drawn


def variation(days: Floats, ruler: Ruler, span: int = 1, *, rows: float = 0.0, timeless: bool = False) -> Variation:
    """Estimates it from (days, cells) rows, in time order.

    Args:
        days: rows per day and cell; days without rows are left out.
        ruler: of the column.
        span: days in a window, at least 1.
        rows: in the window.
        timeless: the one "day" is all of a reference without time.
    """
    days = days[days.sum(axis=1) > 0]
    cells = days.shape[1]
    if timeless:
        return Variation(np.empty((cells, 0)), np.inf, np.inf, np.empty((0, cells)))
    span = min(span, max(len(days) // 2, 1))
    summed = np.concatenate([np.zeros((1, cells)), np.cumsum(days, axis=0)])
    own = summed[span:] - summed[:-span]
    mean = days.sum(axis=0) / max(days.sum(), 1.0)
    independent = max(len(days) / (span - 1 + _correlation_time(days, ruler)), 1.5) if len(days) else 1.5
    if len(own) < 2:
        return Variation(np.diag(np.where(mean > 0, 1.0, 0.0)), 0.5, independent, own)
    root = _between(own, mean, independent, rows)
    return Variation(root, max(min(independent - 1, _tail_freedom(own, ruler)), 0.5), independent, own)


class Null:
    """The effects that chance gives a window.

    Args:
        ruler: of the column.
        reference: (cells,) rows.
        window: (cells,) rows; under the null hypothesis both have the shares of their sum.
        between: of the reference's days.
        rng: of the draws.
        draws: how many.
    """

    def __init__(
        self,
        ruler: Ruler,
        reference: Floats,
        window: Floats,
        between: Variation,
        rng: np.random.Generator,
        draws: int = DRAWS,
    ) -> None:
        self._ruler, self._reference, self._window = ruler, reference, window
        self._between, self._rng = between, rng
        self._rows = int(window.sum())
        pooled = reference + window
        pooled[_OUTER] += 1.0
        self._sorted = np.sort(self._measured(*self._rows_of(pooled, pooled, draws)), axis=0)
        self._own = self._own_measured()

    def sample(self, window: Floats, reference: Floats, draws: int) -> Floats:
        """(draws, 4) effects of windows and references of the same sizes whose shares are those of the two given."""
        return self._ruler.effects(*self._rows_of(window, reference, draws))

    def _rows_of(self, window: Floats, reference: Floats, draws: int) -> tuple[Floats, Floats]:
        shares = self._between.draw(_cell_shares(window), self._rng, draws)
        rows = self._rng.multinomial(self._rows, shares).astype(np.float64)
        total = int(self._reference.sum())
        # A much larger reference hardly scatters: a few draws of it serve for all.
        few = min(draws, _FEW) if total >= _LARGE * self._rows else draws
        base = self._rng.multinomial(total, _cell_shares(reference), size=few).astype(np.float64)
        base = np.resize(base, (draws, base.shape[1])) if few < draws else base
        base[:, _OUTER] = self._reference[_OUTER]
        return rows, base

    def _measured(self, rows: Floats, base: Floats) -> Floats:
        """(..., 5): the effects, and the contrast of the distributions."""
        contrast = self._ruler.contrast(rows, base)
        return np.concatenate([self._ruler.effects(rows, base), contrast[..., None]], axis=-1)

    def interval(self, observed: float, aspect: int, level: float = 0.95, draws: int = 200) -> Interval:
        """An observed effect with its interval: chance adds to an effect, so the percentiles are reflected.

        Draws of a window and a reference as different as these scatter around what they drew from; what they
        exceed it by is taken off.
        """
        drawn = self.sample(self._window, self._reference, draws)[:, aspect]
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        bounds = sorted((max(2 * observed - float(high), 0.0), max(2 * observed - float(low), 0.0)))
        return Interval(observed, min(bounds[0], observed), max(bounds[1], observed), level)

    def p_values(self, observed: Floats) -> Floats:
        """(4,): the chance of effects at least as large as (4,) observed ones.

        The distribution is tested twice, by its effect and by its contrast: its p-value is twice the smaller one.
        """
        found = np.array([self._p_value(aspect, float(value)) for aspect, value in enumerate(observed)])
        contrast = self._p_value(-1, float(self._ruler.contrast(self._window, self._reference)))
        found[0] = min(2 * min(found[0], contrast), 1.0)
        return found

    def critical(self, level: float) -> Floats:
        """(4,): the effects from which on p is at most ``level``, whatever the contrast."""
        return np.array([self._critical(aspect, level if aspect else level / 2) for aspect in range(4)])

    def quantile(self, share: float) -> Floats:
        """(4,): quantiles of the null distribution."""
        found: Floats = np.quantile(self._sorted[:, :4], share, axis=0)
        return found

    def _p_value(self, aspect: int, value: float) -> float:
        ordered = self._sorted[:, aspect]
        slack = value * (1 - 1e-9)
        above = len(ordered) - int(np.searchsorted(ordered, slack))
        own = self._own[:, aspect]
        guard = float(np.mean(own >= slack)) if own.size else 0.0
        model = (above + 1) / (len(ordered) + 1)
        if above < _RESOLVED:
            threshold, scale, shape = _tail(ordered)
            if scale > 0:
                fitted = TAIL * _survival(max(value - threshold, 0.0) / scale, shape)
                model = max(fitted, model) if above else fitted
        return max(model, guard)

    def _critical(self, aspect: int, level: float) -> float:
        ordered, own = self._sorted[:, aspect], self._own[:, aspect]
        guard = float(np.quantile(own, 1 - level, method="higher")) if own.size and level < 1 else 0.0
        if level * len(ordered) >= _RESOLVED:
            return max(float(ordered[-int(level * len(ordered))]), guard)
        threshold, scale, shape = _tail(ordered)
        times = TAIL / level
        reach = np.log(times) if shape == 0 else (times**shape - 1) / shape
        drawn = ordered[-max(int(level * (len(ordered) + 1)), 1)]  # as many may lie at or beyond it
        return float(max(threshold + scale * reach, drawn, guard))

    def _own_measured(self) -> Floats:
        """The same of the reference's blocks against the rest of it; of those of at least half the window's rows."""
        own = self._between.own
        own = own[own.sum(axis=1) * 2 >= self._rows]
        rest = self._reference - own
        keep = rest.sum(axis=1) > 0
        return self._measured(own[keep], rest[keep])


def _cell_shares(rows: Floats) -> Floats:
    return np.divide(rows, max(rows.sum(), 1.0))


def _tail(ordered: Floats) -> tuple[float, float, float]:
    """Threshold, scale and shape of a generalised Pareto tail, by moments, the shape kept within 0 and 0.5."""
    kept = int(TAIL * len(ordered))
    threshold = float(ordered[-kept - 1])
    excess = ordered[-kept:] - threshold
    mean, variance = float(excess.mean()), float(excess.var())
    if mean <= 0 or variance <= 0:
        return threshold, 0.0, 0.0
    shape = min(max((1 - mean * mean / variance) / 2, 0.0), _HEAVIEST)
    return threshold, mean * (1 - shape), shape


def _survival(excess: float, shape: float) -> float:
    return float(np.exp(-excess) if shape == 0 else (1 + shape * excess) ** (-1 / shape))


def _between(own: Floats, mean: Floats, independent: float, rows: float) -> Floats:
    """Root of the covariance of the blocks' log shares beyond what sampling gives (of log-normals, by moments).

    For windows of more rows than the blocks, variances are taken up to one standard error above their estimates:
    such a window shows differences of days that are too small to be seen in the reference.
    """
    inflation = (independent + 1) / (independent - 1)
    used = mean > 0
    sizes = own.sum(axis=1)
    doubt = np.sqrt(2 / independent) * max(0.0, 1 - sizes.mean() / max(rows, 1.0))
    white = (own[:, used] / sizes[:, None] - mean[used]) / np.sqrt(mean[used])
    values, vectors = np.linalg.eigh(white.T @ white / len(own))
    excess = np.maximum(values * (1 + doubt) - np.mean(1 / sizes), 0.0)
    root = np.zeros((len(mean), int(np.count_nonzero(excess))))
    root[used] = vectors[:, excess > 0] * np.sqrt(excess[excess > 0] * inflation) / np.sqrt(mean[used])[:, None]
    relative = np.square(root).sum(axis=1, keepdims=True)  # squared coefficient of variation of each share
    ones = np.ones_like(relative)
    logs: Floats = root * np.sqrt(np.divide(np.log1p(relative), relative, out=ones, where=relative > 0))
    return logs


def _correlation_time(days: Floats, ruler: Ruler) -> float:
    """Days over which a column's shares stay alike: the longest of its mean, its rates and its cells together."""
    mean = days.sum(axis=0) / days.sum()
    used = mean > 0
    sizes = days.sum(axis=1)
    white = (days[:, used] / sizes[:, None] - mean[used]) / np.sqrt(mean[used])
    noise = float((np.count_nonzero(used) - 1) * np.mean(1 / sizes))
    times = [_integrated(white, noise)]
    times += [_integrated((series - series.mean())[:, None], 0.0) for series in _series(days, ruler)]
    return max(times)


def _integrated(series: Floats, noise: float) -> float:
    """Integrated autocorrelation time of a (days, any) series: 1 + 2 * the sum of its autocorrelations."""
    count = len(series)
    spread = float(np.square(series).sum() / count - noise)
    if count < 4 or spread <= 0:
        return 1.0
    width = 1 << (2 * count - 1).bit_length()
    spectrum = np.square(np.abs(np.fft.rfft(series, width, axis=0))).sum(axis=1)
    lags = np.fft.irfft(spectrum, width)[: count // 2] / count / spread
    lags[0] = 1.0
    found = _initial_sequence(lags)
    return _initial_sequence(lags + found / count)  # the mean of the series takes its own variance off every lag


def _initial_sequence(lags: Floats) -> float:
    """Twice the sum of positive, falling pairs of autocorrelations, less 1: at least 1."""
    pairs = lags[: len(lags) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    kept = np.minimum.accumulate(pairs[: ends[0] if ends.size else len(pairs)])
    return max(1.0, float(2 * kept.sum() - 1))


def _tail_freedom(own: Floats, ruler: Ruler) -> float:
    """Degrees of freedom of a Student distribution with the kurtosis of the blocks' mean and rates."""
    frequent = np.where(ruler.rates(own) * own.sum(axis=1, keepdims=True) >= 5, 1.0, 0.0).mean(axis=0) > 0.5
    frequent[0] = True  # the kurtosis of rare counts is that of counting
    excess = [np.mean((s - s.mean()) ** 4) / np.var(s) ** 2 - 3 for s in _series(own, ruler, frequent)]
    heaviest = max(excess, default=0.0)
    return float(4 + 6 / heaviest) if heaviest > 0 else np.inf


def _series(rows: Floats, ruler: Ruler, kept: NDArray[np.bool_] | None = None) -> Sequence[Floats]:
    """The mean, and the roots of the rates (which stabilises their variance), over blocks; those that vary."""
    rates = ruler.rates(rows)
    rates[:, 1:] = np.sqrt(rates[:, 1:])
    kept = np.ones(rates.shape[1], np.bool_) if kept is None else kept
    return [rates[:, k] for k in np.flatnonzero(kept) if len(rates) > 1 and np.var(rates[:, k]) > 1e-24]
