"""Golden rows: inputs stored with the model and the scores it gave; a loaded model replays them to be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stk_ml import contracts

if TYPE_CHECKING:
    from stk_ml.artifact.model import TrainedModel

NAME = "golden.json"


@dataclass(frozen=True)
class Golden:
    """``golden.json``.

    Attributes:
        records: JSON records with the model's columns; some hold missing values and unseen categories.
        raw: the learner's score of each.
        scores: the calibrated score of each.
    """

    records: tuple[Mapping[str, Any], ...]
    raw: tuple[float, ...]
    scores: tuple[float, ...]

    @classmethod
    def load(cls, folder: str | Path) -> Golden:
        """The golden rows of an artifact; StorageError when they cannot be read."""
        return contracts.read(cls, Path(folder) / NAME)


def replay(model: TrainedModel, golden: Golden) -> float:
    """Largest absolute difference between the stored scores and what the model gives now; 0.0 for the same model."""
    raw = model.raw(golden.records)
    both = np.concatenate([raw - np.array(golden.raw), model.calibrator.apply(raw) - np.array(golden.scores)])
    return float(np.abs(both).max(initial=0.0))
