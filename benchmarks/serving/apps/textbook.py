"""A scoring app as tutorials write it."""

from __future__ import annotations

import os

import lightgbm
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
booster = lightgbm.Booster(model_file=os.environ["BENCH_BOOSTER"])
features = booster.feature_name()


class Request(BaseModel):
    """Rows to score."""

    data: list[dict[str, float | None]]


@app.get("/health")
def health() -> dict[str, str]:
    """Alive."""
    return {"status": "ok"}


@app.post("/score")
def score(request: Request) -> dict[str, list[float]]:
    """One score per row."""
    frame = pd.DataFrame(request.data, columns=features, dtype=float)
    return {"predictions": booster.predict(frame).tolist()}
