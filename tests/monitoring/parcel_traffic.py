"""Days of telemetry of the model of late parcels, written by the real recorder."""

import hashlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent / "serving"))

from late_parcels import COLUMNS, parcels

from stk_ml import contracts
from stk_ml.artifact.document import unseal
from stk_ml.artifact.model import TrainedModel
from stk_ml.contracts import Dataset, Snapshot
from stk_ml.model_spec import DataSpec, LearnerSpec, ModelSpec, SplitSpec
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.protocol import Source
from stk_ml.telemetry.recorder import Recorder
from stk_ml.training.fit import fit

__all__ = ["DAY", "START", "Traffic", "train"]

DAY = 86_400.0
#: The first simulated day: after the model was made.
START = datetime(2024, 5, 1, tzinfo=UTC).timestamp()


def train(folder: Path, *, seed: int = 0) -> Path:
    """Trains a model on 200 parcels a day and returns its folder."""
    data = folder / "data"
    data.mkdir(parents=True)
    table = parcels(20_000, seed)
    pq.write_table(table, data / "data.parquet")
    digest = hashlib.sha256((data / "data.parquet").read_bytes()).hexdigest()
    contracts.write(Dataset(COLUMNS, table.num_rows, digest, Snapshot(())), data / "dataset.json")
    spec = ModelSpec(
        name="late-parcel",
        problem="binary",
        data=DataSpec(
            "late", table="t.parquet", entity=("parcel",), as_of="as_of", label_time="late_known", label_delay="1d"
        ),
        split=SplitSpec(validation_from="2024-02-10", test_from="2024-03-20"),
        learner=LearnerSpec(params={"num_leaves": 7, "n_estimators": 60}, early_stopping=10, threads=1),
    )
    fit(spec, data, folder / "model")
    return folder / "model"


@dataclass
class Traffic:
    """Scores parcels and records them as a deployment does."""

    artifact: Path
    log: Path
    deployment: str = "v1"
    version: int = 1

    def day(self, number: int, rows: int = 400, add: float = 0.0, seed: int = 0) -> None:
        """A day of parcels, in two flushes; ``add`` kilometres are added to each distance."""
        model = TrainedModel.load(self.artifact)
        digest = unseal(self.artifact)[1]
        source = Source("eta", self.deployment, "late-parcel", self.version, digest, "w0")
        clock = _Clock(START + number * DAY)
        recorder = Recorder(source, FeatureBins.from_artifact(self.artifact), sample=0.05, clock=clock)
        table = parcels(rows, seed=1000 + 100 * seed + number)
        table = table.set_column(table.column_names.index("km"), "km", [np.asarray(table["km"]) + add])
        matrix, scores = model.schema.matrix(model.schema.select(table)), model.predict(table)
        ids = [f"{number}-{parcel}" for parcel in table["parcel"].to_pylist()]
        log = ParquetPredictionLog(self.log)
        for part, hour in ((slice(0, rows // 2), 11), (slice(rows // 2, rows), 23)):
            clock.now = START + number * DAY + hour * 3600
            recorder.rows(f"r{number}-{hour}", ids[part], matrix[part], scores[part])
            log.write(recorder.drain(clock.now + 1))


@dataclass
class _Clock:
    now: float

    def __call__(self) -> float:
        return self.now
