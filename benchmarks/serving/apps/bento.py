"""A BentoML service as its documentation shows one."""

from __future__ import annotations

import os
from typing import Annotated

import bentoml
import lightgbm
import numpy as np
from bentoml.validators import DType


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Scorer:
    """Scores rows."""

    def __init__(self) -> None:
        """Reads the booster."""
        self.booster = lightgbm.Booster(model_file=os.environ["BENCH_BOOSTER"])

    @bentoml.api(batchable=True, max_batch_size=16_000, max_latency_ms=10_000)
    def score(self, data: Annotated[np.ndarray, DType("float64")]) -> np.ndarray:
        """One score per row."""
        return self.booster.predict(data)
