"""Which rows train, validate and test. By time wherever the data has one, with an embargo of the label delay.

A row may serve before a boundary only if, standing at the boundary, its label was known: otherwise the evaluation
would reward a model for what nobody could have learned yet (López de Prado 2018, chapter 7, calls it purging).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stk_ml.contracts import SplitName
from stk_ml.errors import SplitError
from stk_ml.model_spec import ModelSpec, SplitSpec, duration, instant

Times = npt.NDArray[np.datetime64]
Index = npt.NDArray[np.int64]
NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
_RANDOM = (
    "The rows are split at random, because the data has no time. When the data drifts with time, this flatters the "
    "model: name the time of the prediction in data.as_of (or --time) to test on the newest rows."
)


@dataclass(frozen=True)
class SplitParts:
    """The rows of each part, as rising row numbers.

    Attributes:
        train, validation, test: row numbers.
        purged: rows left out because their label was not known yet at the next boundary.
        outside: rows before ``split.start`` or not before ``split.until``.
        boundaries: ``validation_from`` and ``test_from``, ISO 8601 with Z; empty for a random split.
        note: what a reader should know about a random split; empty for one by time.
    """

    train: Index
    validation: Index
    test: Index
    purged: int = 0
    outside: int = 0
    boundaries: Mapping[str, str] | None = None
    note: str = ""

    def rows(self) -> dict[str, int]:
        """Number of rows of each part."""
        return {name: len(self.part(name)) for name in NAMES}

    def part(self, name: SplitName) -> Index:
        """The row numbers of one part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def split(spec: ModelSpec, rows: int, as_of: Times | None = None, label_time: Times | None = None) -> SplitParts:
    """Splits rows as the model's file says. Equal arguments give equal parts.

    Args:
        spec: the model; its ``split`` and ``data.label_delay``.
        rows: number of rows.
        as_of: time of each row (UTC); None for a random split.
        label_time: when each row's label became known; default as_of plus the label delay.

    Raises:
        SplitError: a part is empty, or a row has no as_of.

    Example:
        >>> from stk_ml.model_spec import DataSpec
        >>> days = np.arange("2024-01-01", "2024-01-11", dtype="datetime64[D]")
        >>> dates = SplitSpec(validation_from="2024-01-06", test_from="2024-01-09")
        >>> spec = ModelSpec("m", "binary", DataSpec("late", table="t", as_of="day", label_delay="2d"), dates)
        >>> parts = split(spec, 10, days)
        >>> parts.train.tolist(), parts.validation.tolist(), parts.test.tolist(), parts.purged
        ([0, 1, 2, 3], [5, 6], [8, 9], 2)
    """
    if as_of is None:
        return _random(spec.split, rows)
    if len(as_of) == 0:
        raise SplitError("the training set holds no rows", hint="is data.table (or the spine) empty?")
    as_of = as_of.astype("datetime64[us]")
    if np.isnat(as_of).any():
        raise SplitError(f"{spec.data.as_of!r} is missing in {int(np.isnat(as_of).sum())} of {rows} rows")
    return _by_time(spec, as_of, label_time)


def _random(spec: SplitSpec, rows: int) -> SplitParts:
    order = np.random.default_rng(spec.seed).permutation(rows)
    test, validation = round(rows * spec.test), round(rows * spec.validation)
    parts = np.split(order, [test, test + validation])
    for name, part in zip(("test", "validation", "train"), parts, strict=True):
        if not len(part):
            raise SplitError(f"the {name} part of {rows} rows is empty", hint="there are too few rows to split")
    return SplitParts(train=np.sort(parts[2]), validation=np.sort(parts[1]), test=np.sort(parts[0]), note=_RANDOM)


def _by_time(spec: ModelSpec, as_of: Times, label_time: Times | None) -> SplitParts:
    inside = np.ones(len(as_of), dtype=bool)
    if spec.split.start:
        inside &= as_of >= _moment(spec.split.start)
    if spec.split.until:
        inside &= as_of < _moment(spec.split.until)
    validation_from, test_from = _boundaries(spec.split, as_of[inside])
    waited = as_of + np.timedelta64(duration(spec.data.label_delay)).astype("timedelta64[us]")
    known = waited if label_time is None else np.maximum(waited, label_time.astype("datetime64[us]"))
    # A comparison with NaT is false: a label of unknown time is never known.
    before, between = as_of < validation_from, (as_of >= validation_from) & (as_of < test_from)
    train = inside & before & (known <= validation_from)
    validation = inside & between & (known <= test_from)
    test = inside & (as_of >= test_from)
    parts = SplitParts(
        train=np.flatnonzero(train),
        validation=np.flatnonzero(validation),
        test=np.flatnonzero(test),
        purged=int((inside & ~(train | validation | test)).sum()),
        outside=int((~inside).sum()),
        boundaries={"validation_from": iso(validation_from), "test_from": iso(test_from)},
    )
    for name, count in parts.rows().items():
        if not count:
            raise SplitError(
                f"the {name} part is empty: validation from {iso(validation_from)}, test from {iso(test_from)}, "
                f"while {spec.data.as_of or 'as_of'} runs from {iso(as_of.min())} to {iso(as_of.max())} "
                f"({parts.purged} rows left out because their label came too late, {parts.outside} out of range)",
                hint="move split.validation_from and split.test_from into that range, or shorten data.label_delay",
            )
    return parts


def _boundaries(spec: SplitSpec, as_of: Times) -> tuple[np.datetime64, np.datetime64]:
    """The declared boundaries, else the instants at which the declared fractions of the rows begin."""
    if spec.validation_from:
        return _moment(spec.validation_from), _moment(spec.test_from)
    if not len(as_of):
        raise SplitError(f"no row lies between split.start {spec.start!r} and split.until {spec.until!r}")
    places = [round(len(as_of) * share) for share in (1 - spec.validation - spec.test, 1 - spec.test)]
    places = [min(place, len(as_of) - 1) for place in places]
    ordered = np.partition(as_of, places)
    return ordered[places[0]], ordered[places[1]]


def _moment(text: str) -> np.datetime64:
    return np.datetime64(instant(text).replace(tzinfo=None), "us")


def iso(moment: np.datetime64) -> str:
    """ISO 8601 with Z, to the second.

    Example:
        >>> iso(np.datetime64("2024-01-01T06:00:00.000000"))
        '2024-01-01T06:00:00Z'
    """
    return f"{moment.astype('datetime64[s]')}Z"
