"""The model that all servers serve, trained by stk-ml itself, and the rows that they are asked about.

300 trees of 31 leaves over 25 features, 5 of them categories. Peers serve the same booster: they are sent the codes of
the categories as integers, which spares them the look-up that ours does for every row.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS, CATEGORIES, TREES, LEAVES = 20, 5, 300, 31
TRAINING_ROWS, SCORED_ROWS = 60_000, 8_000
SPEC = {
    "name": "bench-serving",
    "problem": "binary",
    "data": {"target": "late", "table": "rows.parquet"},
}
LEARNER = {
    "params": {"n_estimators": TREES, "num_leaves": LEAVES, "learning_rate": 0.05, "feature_fraction": 0.8},
    "early_stopping": 0,
    "refit": False,
}


@dataclass(frozen=True)
class Model:
    """The artifact, and rows that training has not seen.

    Attributes:
        folder: the artifact as the registry hands it out.
        records: what an app knows: numbers, None for missing, categories as text.
    """

    folder: Path
    records: list[dict[str, Any]]

    @cached_property
    def coded(self) -> list[dict[str, float | None]]:
        """The records as peers get them: categories as their codes."""
        declared = json.loads((self.folder / "model.json").read_text())["schema"]["fields"]
        codes = {f["name"]: {value: code for code, value in enumerate(f.get("categories", ()))} for f in declared}
        return [{f["name"]: codes[f["name"]].get(r[f["name"]], r[f["name"]]) for f in declared} for r in self.records]

    @cached_property
    def calibrated(self) -> list[float]:
        """The answers that ours must give."""
        from stk_ml.artifact.model import TrainedModel

        return TrainedModel.load(self.folder, threads=1).predict(self.records).tolist()

    @cached_property
    def raw(self) -> list[float]:
        """The answers that peers must give: they serve the booster, not its calibration."""
        import lightgbm

        matrix = np.array([list(row.values()) for row in self.coded], dtype=np.float64)
        return lightgbm.Booster(model_file=str(self.folder / "booster.txt")).predict(matrix).tolist()


def make(folder: Path, seed: int = 7) -> Model:
    """Trains the model in a temporary project and copies its artifact into ``folder``/artifact-SEED."""
    import pyarrow.parquet as pq

    from stk_ml.workspace import Workspace

    table = _rows(TRAINING_ROWS + SCORED_ROWS)
    artifact = folder / f"artifact-{seed}"
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        pq.write_table(table.slice(SCORED_ROWS), project / "rows.parquet")
        (project / "stk.toml").write_text('[project]\nname = "bench"\nprofile = "laptop"\n\n[profile.laptop]\n')
        (project / "model.yml").write_text(json.dumps({**SPEC, "learner": {**LEARNER, "seed": seed}}))  # JSON is YAML
        workspace = Workspace(project)
        version = workspace.train(project / "model.yml").registration.version
        shutil.copytree(workspace.registry.download(f"{version.name}:{version.version}"), artifact)
    _check(artifact / "booster.txt")
    return Model(artifact, table.slice(0, SCORED_ROWS).drop_columns(["late"]).to_pylist())


def _rows(rows: int) -> Any:
    import pyarrow as pa

    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    odds = np.zeros(rows)
    for place in range(NUMBERS):
        values = np.round(rng.normal(size=rows), 4)
        odds += values * np.sin(place) * 0.4 + (values > 1) * np.cos(place) * 0.5
        columns[f"number_{place}"] = pa.array(values, mask=rng.random(rows) < (0.1 if place % 3 == 0 else 0))
    for place in range(CATEGORIES):
        codes = rng.integers(0, 10 * (place + 1), rows)
        odds += rng.normal(0, 0.4, 10 * (place + 1))[codes]
        columns[f"category_{place}"] = np.array([f"value {code:02d}" for code in range(10 * (place + 1))])[codes]
    columns["late"] = (rng.random(rows) < 1 / (1 + np.exp(1 - odds))).astype(np.int64)
    return pa.table(columns)


def _check(booster: Path) -> None:
    leaves = [
        int(line.removeprefix("num_leaves=")) for line in booster.read_text().splitlines() if "num_leaves=" in line[:11]
    ]
    if leaves != [LEAVES] * TREES:
        raise SystemExit(f"the model has {len(leaves)} trees of at most {max(leaves)} leaves, not {TREES} of {LEAVES}")
