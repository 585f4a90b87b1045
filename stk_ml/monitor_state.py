"""What monitoring hands on: the verdict of one look, as ``verdict.json``. Retraining decides on it, reports show it.

Written and read through :mod:`stk_ml.contracts`; monitoring and retraining do not import each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stk_ml.contracts import Interval

#: ``insufficient``: the data cannot tell; what shift it would have seen is in ``detectable``.
Answer = Literal["drift", "stable", "insufficient"]


@dataclass(frozen=True)
class ColumnVerdict:
    """What one column (or the score) says.

    Attributes:
        name: of the column; ``score`` with kind ``score`` for the score.
        kind: integer, number, boolean, category or score.
        answer: of this column.
        aspect: what moved most: ``distribution``, ``missing``, ``unseen`` or ``out_of_range``.
        effect: its size with interval: Wasserstein distance in interquartile ranges of the reference (numbers), total
            variation (categories and booleans), difference of rates (the other aspects).
        floor: smallest effect that counts.
        p_value: of the test against the resampled reference; 1.0 when it could not be tested.
        adjusted: the same after Benjamini and Hochberg over the columns.
        detectable: the effect that this many rows would have shown with the declared power.
        weight: share of the model's attention that the column has (0 to 1); 0 means that the model does not use it.
        rows: in the window.
        detail: for people.
    """

    name: str
    kind: str
    answer: Answer
    aspect: str
    effect: Interval
    floor: float
    p_value: float
    adjusted: float
    detectable: float
    weight: float
    rows: int
    detail: str = ""


@dataclass(frozen=True)
class QualityFinding:
    """Data that is broken rather than drifted: it alerts a person and blocks retraining.

    Attributes:
        check: ``schema``, ``unit``, ``frozen``, ``missing``, ``unseen``, ``volume``, ``late`` or ``absent``.
        column: that it is about; empty for the whole window.
        detail: what was seen and what was expected, with numbers.
    """

    check: str
    column: str
    detail: str


@dataclass(frozen=True)
class PerformanceFinding:
    """How well the model does on a cohort of predictions.

    Attributes:
        metric: auc, log_loss, brier, calibration_error, mae or rmse.
        source: ``measured`` (matured labels), ``corrected`` (weighted for labels still to come) or ``estimated``
            (without labels).
        value: with a confidence sequence, so that it may be looked at every day.
        reference: the same metric when the model was made.
        worse: True when it is shown to be worse than the reference by more than the tolerance; None: it cannot tell.
        rows: predictions in the cohort.
        matured: share of them whose label has come.
        muted: why an estimate is not to be acted on; empty when it is.
        since: when its predictions begin, ISO 8601 with Z; empty for all since the model went live.
    """

    metric: str
    source: Literal["measured", "corrected", "estimated"]
    value: Interval
    reference: float
    worse: bool | None
    rows: int
    matured: float
    muted: str = ""
    since: str = ""


@dataclass(frozen=True)
class MonitorVerdict:
    """``verdict.json``: one look at one window of one deployment.

    Attributes:
        model, version, digest, endpoint, deployment: what was looked at; empty for two tables.
        window_start, window_end: ISO 8601 with Z.
        rows: scored in the window.
        answer: over all columns that the model uses, and the score.
        columns: one per column, and the score last.
        joint: the same from the domain classifier on sampled rows; None without samples.
        joint_columns: those that it tells the windows apart by, strongest first.
        quality: what is broken; empty when nothing is.
        performance: per metric and source.
        spent: share of the yearly false-alarm budget that has been spent after this look.
        armed: False between an alarm and the first calm window after it: the same drift alarms once.
        alarm: whether this look alarms: drift, or performance shown to be worse, while armed and not broken.
        reason: one sentence for people.
    """

    model: str
    version: int
    digest: str
    endpoint: str
    deployment: str
    window_start: str
    window_end: str
    rows: int
    answer: Answer
    columns: tuple[ColumnVerdict, ...] = ()
    joint: Answer | None = None
    joint_columns: tuple[str, ...] = ()
    quality: tuple[QualityFinding, ...] = ()
    performance: tuple[PerformanceFinding, ...] = ()
    spent: float = 0.0
    armed: bool = True
    alarm: bool = False
    reason: str = ""

    @property
    def broken(self) -> bool:
        """Whether the data cannot be trusted, so that nothing may be learned from it."""
        return bool(self.quality)
