"""The entry script of azureml-inference-server-http: init() and run()."""

from __future__ import annotations

import json
import os

import lightgbm
import pandas as pd


def init() -> None:
    """Reads the booster."""
    global booster, features
    booster = lightgbm.Booster(model_file=os.environ["BENCH_BOOSTER"])
    features = booster.feature_name()


def run(raw_data: str) -> list[float]:
    """One score per row."""
    frame = pd.DataFrame(json.loads(raw_data)["data"], columns=features, dtype=float)
    return booster.predict(frame).tolist()
