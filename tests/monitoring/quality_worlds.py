"""Days of a made-up world, as data quality sees them."""

from dataclasses import replace

import numpy as np

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.monitoring.quality import Window, assess
from stk_ml.telemetry.histogram import FeatureBins

DAY = 86400.0
CARRIERS = ("AA", "DL", "UA", "WN")
SCHEMA = FeatureSchema(
    (
        FeatureField("km", "number"),
        FeatureField("celsius", "number"),
        FeatureField("month", "integer"),
        FeatureField("rain", "number"),
        FeatureField("carrier", "category", CARRIERS),
        FeatureField("holiday", "boolean"),
    )
)
NAMES = SCHEMA.names
REFERENCE_DAYS, ROWS = 120, 800


class World:
    """Days whose level wanders (autocorrelated), as real ones do: 120 of reference, then as many as are asked for."""

    def __init__(self, seed=0, memory=0.9, wander=1.0):
        self.rng = np.random.default_rng(seed)
        self.memory, self.wander = memory, wander
        self.level = self.rng.normal(size=4)
        self.number = 0
        self.reference = [self.day() for _ in range(REFERENCE_DAYS)]
        self.profile = self._profile()
        self.bins = FeatureBins(SCHEMA, self.profile)

    def day(self, rows=ROWS):
        noise = self.rng.normal(size=4) * np.sqrt(1 - self.memory**2)
        self.level = self.memory * self.level + noise
        a, b, c, d = self.level * self.wander
        rng, matrix = self.rng, np.empty((rows, len(NAMES)))
        matrix[:, 0] = np.exp(rng.normal(6.5 + 0.03 * a, 0.6, rows))
        matrix[:, 1] = rng.normal(12 + 4 * b, 5, rows)
        matrix[:, 2] = 1 + self.number // 30
        matrix[:, 3] = np.where(rng.uniform(size=rows) < max(0.1 + 0.1 * c, 0), rng.exponential(1, rows), 0.0)
        matrix[:, 4] = rng.choice(4, rows, p=np.array([0.4, 0.3, 0.2, 0.1]))
        matrix[:, 5] = self.number % 40 == 0
        matrix[rng.uniform(size=rows) < np.clip(0.05 + 0.02 * d, 0, 1), 1] = np.nan
        self.number += 1
        return matrix

    def _profile(self):
        zero = (0,)
        columns = []
        for place, field in enumerate(SCHEMA.fields):
            values = np.concatenate([day[:, place] for day in self.reference])
            values = values[~np.isnan(values)]
            edges = np.unique(values)
            if edges.size > 20:
                edges = np.unique(np.quantile(values, np.arange(20) / 20, method="inverted_cdf"))
            edges = () if field.categories else (*edges.tolist(), float(values.max()))
            columns.append(ColumnProfile(field.name, edges, field.categories, (zero * 20,), *(zero,) * 5))
        scores = ColumnProfile("score", tuple(np.linspace(0, 1, 21)), (), (zero * 20,), *(zero,) * 5)
        bins = FeatureBins(SCHEMA, Profile(("all",), {}, (), tuple(columns), ("all",), scores))
        days = [list(bins.histograms(bins.count(day, self.scores(day)))) for day in self.reference]
        filled = [_filled(column, [day[place] for day in days]) for place, column in enumerate([*columns, scores])]
        names = tuple(str(np.datetime64("2013-01-01") + number) for number in range(len(days)))
        return Profile(names, {}, (), tuple(filled[:-1]), names, filled[-1])

    def scores(self, matrix):
        return 1 / (1 + np.exp(-(np.log(np.abs(matrix[:, 0]) + 1e-9) - 6.5)))

    def window(self, matrix, number=REFERENCE_DAYS, scores=None):
        found = self.bins.histograms(self.bins.count(matrix, self.scores(matrix) if scores is None else scores))
        return Window(number * DAY, (number + 1) * DAY, len(matrix), tuple(found))


def _filled(column, days):
    parts = {
        name: tuple(getattr(day, name) for day in days) for name in ("missing", "below", "above", "other", "unseen")
    }
    return replace(column, counts=tuple(day.counts for day in days), **parts)


def assessed(world, window, history=(), facts=None, now=None):
    return assess(world.profile, SCHEMA, history, window, facts, now=window.end if now is None else now)


def checks_of(found):
    return [(finding.check, finding.column) for finding in found]
