"""The sections of a model's file that say how it is judged, served, watched and retrained; see :mod:`model_spec`."""

from __future__ import annotations

from typing import Literal

import msgspec


class EvaluationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured: per split and month always, and per value of the columns in ``slices``.

    Attributes:
        slices: columns whose values are measured apart.
        min_rows: a value with fewer test rows is left out.
        max_groups: at most so many values of a column, the most frequent ones.
        resamples: of the bootstrap behind each interval.
        level: coverage of the intervals.
    """

    slices: tuple[str, ...] = ()
    min_rows: int = 200
    max_groups: int = 20
    resamples: int = 1000
    level: float = 0.95


class GateSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a challenger becomes champion.

    Attributes:
        metric: primary metric; default auc (binary) or mae (regression).
        floor: worst value allowed, better side by the metric; None for none.
        margin: how much worse still counts as not worse, in units of the metric. The default, 0, promotes only what is
            better: two models of equal skill are then promoted in at most half of 1 - level of the cases.
        level: of the interval of the difference.
        slices: columns whose slices may not get worse by more than slice_margin.
        slice_margin: in units of the metric.
        calibration_error: largest expected calibration error allowed, and None for no guard.
        min_rows: fewer matured rows than this and the gate cannot tell.
        window: newest matured rows to compare on (``90d``); default all of the test split.
        resamples: bootstrap resamples.
    """

    metric: str = ""
    floor: float | None = None
    margin: float = 0.0
    level: float = 0.95
    slices: tuple[str, ...] = ()
    slice_margin: float = 0.02
    calibration_error: float | None = 0.1
    min_rows: int = 200
    window: str = ""
    resamples: int = 2000


class MonitorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How it is watched.

    Attributes:
        window: length of one look (``1d``), in whole quarters of an hour.
        false_alarms_per_year: how many alarms without cause are accepted.
        min_rows: a window with fewer rows says that it has not enough data.
    """

    window: str = "1d"
    false_alarms_per_year: float = 1.0
    min_rows: int = 200


class RetrainSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When it is retrained.

    Attributes:
        windows: so many alarming windows
        of: among the last so many start a retrain, when the newest is one of them.
        cooldown: least time between the starts of two retrains (``7d``).
        per_month: most retrains in a calendar month (UTC).
        breaker: so many retrains in a row that bring no better model (refused by the gate, rolled back, failed) open
            the breaker: none is started
        breaker_pause: for that long (``30d``); then one is tried.
    """

    windows: int = 3
    of: int = 5
    cooldown: str = "7d"
    per_month: int = 2
    breaker: int = 2
    breaker_pause: str = "30d"


Treatment = Literal["reject", "count"]


class ServingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the scoring app does with a value that breaks the model's columns: ``reject`` the row, or ``count`` it.

    What is counted is scored as missing (out_of_range: as it is) and shows up in telemetry.

    Attributes:
        unknown_column: a column that the model does not take.
        missing_value: a column that is not named, or null where training never saw null.
        wrong_type: text where a number is meant, or the like.
        out_of_range: a number outside the column's declared range.
        unseen_category: a category that training did not see.
    """

    unknown_column: Treatment = "reject"
    missing_value: Treatment = "reject"
    wrong_type: Treatment = "reject"
    out_of_range: Treatment = "count"
    unseen_category: Treatment = "count"
