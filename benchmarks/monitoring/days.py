"""A day of telemetry, written by the real recorder and merged hour by hour, and the look of ``monitor run`` at it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stk_ml import contracts
from stk_ml.artifact.document import unseal
from stk_ml.artifact.model import TrainedModel
from stk_ml.cli.monitor_parts import Monitoring
from stk_ml.contracts import Column, Dataset, Snapshot
from stk_ml.model_spec import DataSpec, LearnerSpec, ModelSpec
from stk_ml.monitor_state import MonitorVerdict
from stk_ml.monitoring.labels import prediction_ids, read_labels
from stk_ml.telemetry.compaction import compact
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.protocol import Source
from stk_ml.telemetry.recorder import Recorder
from stk_ml.training.fit import fit
from stk_ml.workspace import Workspace

NAME, DAY, HOUR, WINDOW = "watched", 86_400.0, 3_600.0, 10.0
#: The day that is looked at.
START = datetime(2026, 3, 10, tzinfo=UTC).timestamp()
NUMBERS, CATEGORIES = 20, 5
#: Predictions whose outcome becomes known.
LABELS = 864
_TOML = '[project]\nname = "bench"\nprofile = "laptop"\n\n[profile.laptop]\n'
_SPEC = {
    "name": NAME,
    "problem": "binary",
    "data": {"target": "late", "table": "rows.parquet"},
    "monitor": {"window": "1d"},
}


def rows(count: int, seed: int = 0) -> pa.Table:
    """20 numbers, some of them missing at times, 5 categories and the outcome."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {}
    odds = np.zeros(count)
    for place in range(NUMBERS):
        values = np.round(rng.normal(size=count), 3)
        odds += values * np.sin(place) * 0.4
        columns[f"number_{place}"] = pa.array(values, mask=rng.random(count) < (0.1 if place % 3 == 0 else 0))
    for place in range(CATEGORIES):
        names = np.array([f"value {code:02d}" for code in range(10 * (place + 1))])
        columns[f"category_{place}"] = pa.array(names[rng.integers(0, len(names), count)])
    columns["late"] = pa.array((rng.random(count) < 1 / (1 + np.exp(1 - odds))).astype(np.int64))
    return pa.table(columns)


def train(folder: Path, count: int = 20_000) -> Path:
    """The artifact of a small model over :func:`rows`."""
    data, table = folder / "data", rows(count)
    data.mkdir(parents=True)
    pq.write_table(table, data / "data.parquet")
    features = [Column(name, "number" if name.startswith("number") else "category") for name in table.column_names[:-1]]
    digest = hashlib.sha256((data / "data.parquet").read_bytes()).hexdigest()
    contracts.write(
        Dataset((*features, Column("late", "integer", "label")), count, digest, Snapshot(())), data / "dataset.json"
    )
    spec = ModelSpec(
        name=NAME,
        problem="binary",
        data=DataSpec("late", table="rows.parquet"),
        learner=LearnerSpec(params={"n_estimators": 30, "num_leaves": 15}, early_stopping=0, refit=False, threads=1),
    )
    fit(spec, data, folder / "model")
    return folder / "model"


@dataclass(frozen=True)
class Watched:
    """A project whose endpoint scored rows on a day.

    Attributes:
        project: its folder.
        artifact: of the model.
        predictions: of the day.
    """

    project: Path
    artifact: Path
    predictions: int

    @cached_property
    def digest(self) -> str:
        """Of the model."""
        return unseal(self.artifact)[1]

    @cached_property
    def log(self) -> Path:
        """The folder of the telemetry."""
        return self.project / ".stk/telemetry"

    @property
    def _labels(self) -> Path:
        return self.project / "labels.parquet"

    def make(self) -> None:
        """Writes the project and the telemetry of its day, as workers do: a window each 10 s, merged every hour."""
        self.project.mkdir(parents=True)
        (self.project / "stk.toml").write_text(_TOML)
        (self.project / "pipelines/models").mkdir(parents=True)
        (self.project / f"pipelines/models/{NAME}.yml").write_text(json.dumps(_SPEC))
        shutil.copytree(self.artifact, self.project / f".stk/endpoints/eta/models/{self.digest}")
        self.record()

    def record(self) -> None:
        """The telemetry of the day."""
        model = TrainedModel.load(self.artifact, threads=1)
        table = rows(min(self.predictions, 20_000), seed=1).drop_columns(["late"])
        scores, matrix = model.predict(table).tolist(), list(model.schema.matrix(table))
        now = [START]
        source = Source("eta", "v1", NAME, 1, self.digest, "w1")
        recorder = Recorder(source, FeatureBins.from_artifact(self.artifact), clock=lambda: now[0])
        log = ParquetPredictionLog(self.log, worker="w1")
        windows, told = round(DAY / WINDOW), []
        due = np.bincount(np.arange(self.predictions) * windows // self.predictions, minlength=windows).tolist()
        place = 0
        for window, count in enumerate(due):
            now[0] = START + (window + 0.5) * WINDOW
            ids = uuid.UUID(int=window).hex[-8:]
            for _ in range(count):
                place = (place + 7) % len(scores)
                request = f"{uuid.uuid4().hex[:16]}{ids}"
                recorder.scored(request, "", matrix[place], scores[place], "/score", 0.001)
            told += [request] if count and window % (windows // LABELS) == 0 else []
            end = START + (window + 1) * WINDOW
            batch = recorder.drain(end)
            if count:
                log.write(batch)
            if end % HOUR == 0:
                compact(self.log, end + 60.0)
        known = pa.array([round((START + DAY / 2) * 1e6)] * len(told), pa.timestamp("us", "UTC"))
        ids, outcomes = prediction_ids(told), np.arange(len(told)) % 2.0
        pq.write_table(pa.table({"prediction_id": ids, "outcome": outcomes, "known_time": known}), self._labels)

    def look(self, *, labels: bool = False) -> tuple[float, MonitorVerdict]:
        """Seconds of one look at the day by a process that has looked at nothing else yet, and what it said.

        Args:
            labels: whether the outcomes of some predictions are known.
        """
        shutil.rmtree(self.project / ".stk/monitoring", ignore_errors=True)
        if labels:
            ledger = Monitoring(Workspace(self.project), NAME).ledger
            ledger.record(read_labels(self._labels), now=datetime.fromtimestamp(START + DAY, UTC))
        begun = time.perf_counter()
        monitoring = Monitoring(Workspace(self.project), NAME)
        found = list(monitoring.run(lambda: START + DAY + 60.0, START, START + DAY, 0.0, joint=False))
        seconds = time.perf_counter() - begun
        return seconds, found[-1].verdict


def size(folder: Path) -> tuple[int, float]:
    """Files of a log and their megabytes."""
    files: Sequence[Path] = list(folder.rglob("*.parquet"))
    return len(files), sum(file.stat().st_size for file in files) / 2**20
