"""What a learner gets and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stk_ml.artifact.schema import FeatureSchema
from stk_ml.artifact.scorer import Scorer
from stk_ml.contracts import Problem
from stk_ml.model_spec import LearnerSpec

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LearningData:
    """Encoded rows to learn from and rows to stop and calibrate on. Targets are 0 and 1, or numbers."""

    problem: Problem
    schema: FeatureSchema
    train: pa.Table
    train_target: Array
    validation: pa.Table
    validation_target: Array

    def both(self) -> tuple[pa.Table, Array]:
        """Training and validation rows together; the tables share their memory."""
        table = pa.concat_tables([self.train, self.validation])
        return table, np.concatenate([self.train_target, self.validation_target])


@dataclass(frozen=True)
class Learned:
    """A fitted model.

    Attributes:
        scorer: scores encoded rows.
        kind: how it is saved.
        validation_scores: raw scores of the validation rows by a model that has not seen them.
        objective: LightGBM's objective, or the class of the estimator.
        iterations: boosting rounds; 0 for an estimator.
        parameters: as they were fitted, JSON values.
    """

    scorer: Scorer
    kind: Literal["lightgbm", "estimator"]
    validation_scores: Array
    objective: str
    iterations: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Learner(Protocol):
    """Fits a model."""

    def learn(self, spec: LearnerSpec, data: LearningData, progress: Callable[[float], None]) -> Learned:
        """Fits. Equal arguments give an equal model (``auto`` excepted: its search is bounded by time).

        Args:
            spec: the learner's part of the model's file.
            data: the rows.
            progress: told the share that is done, 0 to 1.

        Raises:
            UsageError: a parameter or the estimator cannot be used.
        """
