"""Makes training sets on disk, as ``stk-ml features pull`` writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stk_ml import contracts
from stk_ml.contracts import Column, Dataset, Snapshot
from stk_ml.model_spec import DataSpec, LearnerSpec, ModelSpec, SplitSpec

COLUMNS = (
    Column("id", "integer", "entity"),
    Column("as_of", "timestamp", "as_of"),
    Column("km", "number", minimum=0),
    Column("weight", "number"),
    Column("stops", "integer"),
    Column("express", "boolean"),
    Column("mode", "category"),
    Column("late", "integer", "label"),
    Column("late_known", "timestamp", "label_time"),
)


def parcels(rows: int = 3000, days: int = 100, seed: int = 0) -> pa.Table:
    """Parcels of ``days`` days in the order of their as_of; whether they are late depends on km, mode and stops."""
    rng = np.random.default_rng(seed)
    as_of = np.datetime64("2024-01-01", "us") + np.sort(rng.integers(0, days * 86_400, rows)) * np.timedelta64(1, "s")
    km, stops = rng.gamma(2, 100, rows), rng.integers(0, 5, rows)
    mode = rng.choice(["air", "rail", "road"], rows, p=[0.2, 0.3, 0.5])
    odds = (km - 200) / 100 + (mode == "road") - 0.3 * stops
    late = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    return pa.table(
        {
            "id": np.arange(rows),
            "as_of": pa.array(as_of, pa.timestamp("us", "UTC")),
            "km": km,
            "weight": pa.array(rng.normal(5, 2, rows), mask=rng.random(rows) < 0.2),
            "stops": stops,
            "express": pa.array(rng.random(rows) < 0.3, mask=rng.random(rows) < 0.05),
            "mode": pa.array(mode, mask=rng.random(rows) < 0.05),
            "late": late,
            "late_known": pa.array(as_of + np.timedelta64(36, "h"), pa.timestamp("us", "UTC")),
        }
    )


def write(folder: Path, table: pa.Table, columns: Sequence[Column] = COLUMNS) -> Path:
    """Writes a table as a training set."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "data.parquet")
    digest = hashlib.sha256((folder / "data.parquet").read_bytes()).hexdigest()
    contracts.write(Dataset(tuple(columns), table.num_rows, digest, Snapshot(())), folder / "dataset.json")
    return folder


def spec(learner: LearnerSpec | None = None, **changes: object) -> ModelSpec:
    """A small model of lateness, with an embargo of one day."""
    fields: dict[str, object] = {
        "name": "late-parcel",
        "problem": "binary",
        "data": DataSpec(
            "late", table="t.parquet", entity=("id",), as_of="as_of", label_time="late_known", label_delay="1d"
        ),
        "split": SplitSpec(validation_from="2024-03-01", test_from="2024-03-20"),
        "learner": learner or LearnerSpec(params={"num_leaves": 7, "n_estimators": 40}, early_stopping=10, threads=1),
    }
    return ModelSpec(**{**fields, **changes})  # type: ignore[arg-type]
