"""A version of a model with all that was logged about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stk_ml.contracts import ModelVersion


@dataclass(frozen=True)
class ModelDetails:
    """One version and its run.

    Attributes:
        version: name, number, digest, aliases and tags.
        metrics: as logged: ``test.auc``, ``test.auc.low``, ``test.auc.high``; of ``test.auc.month`` the newest.
        tags: of the version, sorted.
        params: the declared model, flat: ``learner.estimator``.
        where: the artifact's folder or URI.
    """

    version: ModelVersion
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    where: str = ""


class Compared(NamedTuple):
    """One metric of two versions; None where it was not logged."""

    metric: str
    a: float | None
    b: float | None


def compared(a: Mapping[str, float], b: Mapping[str, float]) -> list[Compared]:
    """The metrics of two versions side by side: those of the test split first, then by name.

    Example:
        >>> compared({"train.auc": 0.9, "test.auc": 0.7}, {"test.auc": 0.71})
        [Compared(metric='test.auc', a=0.7, b=0.71), Compared(metric='train.auc', a=0.9, b=None)]
    """
    names = sorted({*a, *b}, key=lambda name: (not name.startswith("test."), name))
    return [Compared(name, a.get(name), b.get(name)) for name in names]
