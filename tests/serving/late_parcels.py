"""A small model of late parcels, and parcels to score."""

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
    Column("km", "number", minimum=0, maximum=5000),
    Column("weight", "number"),
    Column("stops", "integer"),
    Column("express", "boolean"),
    Column("mode", "category"),
    Column("depot", "category"),
    Column("late", "integer", "label"),
    Column("late_known", "timestamp", "label_time"),
)
FEATURES = ["km", "weight", "stops", "express", "mode", "depot"]


def parcels(rows: int = 2000, seed: int = 0) -> pa.Table:
    """Parcels of 100 days in the order of their as_of; depots are numbers with leading zeros, kept as text."""
    rng = np.random.default_rng(seed)
    as_of = np.datetime64("2024-01-01", "us") + np.sort(rng.integers(0, 100 * 86_400, rows)) * np.timedelta64(1, "s")
    km, stops, mode = rng.gamma(2, 100, rows), rng.integers(0, 5, rows), rng.choice(["air", "rail", "road"], rows)
    depot = rng.choice(["001", "007", "42"], rows)
    odds = (km - 200) / 100 + (mode == "road") - 0.3 * stops + (depot == "007")
    return pa.table(
        {
            "parcel": [f"P{n:06}" for n in range(rows)],
            "as_of": pa.array(as_of, pa.timestamp("us", "UTC")),
            "km": km,
            "weight": pa.array(rng.normal(5, 2, rows), mask=rng.random(rows) < 0.2),
            "stops": stops,
            "express": pa.array(rng.random(rows) < 0.3, mask=rng.random(rows) < 0.05),
            "mode": pa.array(mode, mask=rng.random(rows) < 0.05),
            "depot": depot,
            "late": (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64),
            "late_known": pa.array(as_of + np.timedelta64(36, "h"), pa.timestamp("us", "UTC")),
        }
    )


def train(folder: Path, learner: LearnerSpec | None = None) -> Path:
    """Trains the model and returns its folder."""
    data = folder / "data"
    data.mkdir(parents=True)
    table = parcels()
    pq.write_table(table, data / "data.parquet")
    digest = hashlib.sha256((data / "data.parquet").read_bytes()).hexdigest()
    contracts.write(Dataset(COLUMNS, table.num_rows, digest, Snapshot(())), data / "dataset.json")
    spec = ModelSpec(
        name="late-parcel",
        problem="binary",
        data=DataSpec(
            "late", table="t.parquet", entity=("parcel",), as_of="as_of", label_time="late_known", label_delay="1d"
        ),
        split=SplitSpec(validation_from="2024-03-01", test_from="2024-03-20"),
        learner=learner or LearnerSpec(params={"num_leaves": 7, "n_estimators": 30}, early_stopping=10, threads=1),
    )
    fit(spec, data, folder / "model")
    return folder / "model"
