"""A column then and now, as counts over the bins of the reference: what a report draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.telemetry.histogram import Histogram

#: Cells beside the bins, in the order of :attr:`Shape.beside`.
BESIDE = ("missing", "below", "above", "other", "unseen")


@dataclass(frozen=True)
class Shape:
    """Counts of one column in the reference and in the window.

    Attributes:
        name, kind: as in :class:`stk_ml.monitor_state.ColumnVerdict`.
        edges: of a number's bins; empty for a category.
        categories: of a category's bins; empty for a number.
        then, now: rows per bin.
        beside_then, beside_now: rows in no bin, one count for each of :data:`BESIDE`.
    """

    name: str
    kind: str
    edges: tuple[float, ...]
    categories: tuple[str, ...]
    then: tuple[int, ...]
    now: tuple[int, ...]
    beside_then: tuple[int, ...]
    beside_now: tuple[int, ...]

    @property
    def rows(self) -> tuple[int, int]:
        """Rows then and now."""
        return sum(self.then) + sum(self.beside_then), sum(self.now) + sum(self.beside_now)


def shapes(profile: Profile, histograms: Sequence[Histogram]) -> Iterator[Shape]:
    """The columns of a profile beside the histograms of a window; columns that the window lacks have no rows now.

    Example:
        >>> km = ColumnProfile("km", (0.0, 1.0, 2.0), (), ((3, 1), (2, 2)), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0))
        >>> profile = Profile(("2024-01-01", "2024-01-02"), {}, (), (km,), ("all",), km)
        >>> shape = next(shapes(profile, [Histogram("km", "number", (1, 4), 0, 0, 2, 0, 0)]))
        >>> shape.then, shape.now, shape.rows
        ((5, 3), (1, 4), (9, 7))
    """
    found = {(histogram.kind == "score", histogram.name): histogram for histogram in histograms}
    for column in profile.features:
        yield _shape(column, found.get((False, column.name)), "category" if column.categories else "number")
    yield _shape(profile.score, found.get((True, "score")), "score")


def _shape(column: ColumnProfile, histogram: Histogram | None, kind: str) -> Shape:
    bins = tuple(sum(day) for day in zip(*column.counts, strict=True))
    now = histogram.counts if histogram else (0,) * len(bins)
    return Shape(
        name=column.name,
        kind=histogram.kind if histogram else kind,
        edges=column.edges,
        categories=column.categories,
        then=bins,
        now=now,
        beside_then=tuple(sum(getattr(column, name)) for name in BESIDE),
        beside_now=tuple(getattr(histogram, name) if histogram else 0 for name in BESIDE),
    )
