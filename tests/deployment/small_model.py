"""A small real model of late parcels."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stk_ml import contracts
from stk_ml.contracts import Column, Dataset, Snapshot
from stk_ml.model_spec import DataSpec, LearnerSpec, ModelSpec, SplitSpec
from stk_ml.training.fit import fit

COLUMNS = (
    Column("parcel", "text", "entity"),
    Column("as_of", "timestamp", "as_of"),
    Column("km", "number"),
    Column("mode", "category"),
    Column("late", "integer", "label"),
    Column("late_known", "timestamp", "label_time"),
)
MODES = ("air", "rail", "road")


def train(folder: Path, *, later: float = 0.0, leaves: int = 7) -> Path:
    """Trains the model and returns its folder; ``later`` moves the log-odds of every parcel."""
    rng, rows = np.random.default_rng(0), 1500
    as_of = np.datetime64("2024-01-01", "us") + np.arange(rows) * np.timedelta64(90, "m")
    km, mode = rng.gamma(2, 100, rows), rng.choice(MODES, rows)
    chance = 1 / (1 + np.exp(-((km - 200) / 100 + (mode == "road") + later)))
    table = pa.table(
        {
            "parcel": [f"P{number:06}" for number in range(rows)],
            "as_of": pa.array(as_of, pa.timestamp("us", "UTC")),
            "km": km,
            "mode": mode,
            "late": (rng.random(rows) < chance).astype(np.int64),
            "late_known": pa.array(as_of + np.timedelta64(36, "h"), pa.timestamp("us", "UTC")),
        }
    )
    data = folder / "data"
    data.mkdir(parents=True)
    pq.write_table(table, data / "data.parquet")
    digest = hashlib.sha256((data / "data.parquet").read_bytes()).hexdigest()
    contracts.write(Dataset(COLUMNS, rows, digest, Snapshot(())), data / "dataset.json")
    fit(spec(leaves), data, folder / "model")
    return folder / "model"


def spec(leaves: int = 7) -> ModelSpec:
    return ModelSpec(
        name="late-parcel",
        problem="binary",
        data=DataSpec(
            "late", table="t.parquet", entity=("parcel",), as_of="as_of", label_time="late_known", label_delay="1d"
        ),
        split=SplitSpec(validation_from="2024-03-01", test_from="2024-03-20"),
        learner=LearnerSpec(params={"num_leaves": leaves, "n_estimators": 30}, early_stopping=10, threads=1),
    )
