"""A project whose model is trained by ``stk-ml train``, and days of telemetry as a deployment of it writes them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stk_ml.artifact.document import unseal
from stk_ml.artifact.model import TrainedModel
from stk_ml.artifact.predictor import encode
from stk_ml.cli.app import invoke
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.protocol import Source
from stk_ml.telemetry.recorder import Recorder

DAY = 86_400.0
#: The first simulated day.
START = datetime(2024, 5, 1, tzinfo=UTC).timestamp()
MODEL = "late-parcel"
#: A column name as nobody should write it; pages must show it and not run it.
HOSTILE = "<script>alert(1)</script>"

_MODEL_FILE = f"""
name: {MODEL}
problem: binary
data: {{table: parcels.parquet, target: late, as_of: day}}
learner: {{params: {{num_leaves: 7, n_estimators: 60, min_gain_to_split: 15}}, threads: 1}}
gate: {{floor: 0.5}}
"""


def parcels(rows: int, seed: int, days: int = 100) -> pa.Table:
    """Parcels from 2024-01-20 on: two columns that matter, two with missing values and texts, two without effect."""
    rng = np.random.default_rng(seed)
    when = np.datetime64("2024-01-20", "us") + np.sort(rng.integers(0, days * 86_400, rows)) * np.timedelta64(1, "s")
    km, mode = rng.gamma(2, 100, rows), rng.choice(["air", "rail", "road"], rows)
    odds = (km - 200) / 80 + 1.5 * (mode == "road") - 0.5
    return pa.table(
        {
            "day": pa.array(when, pa.timestamp("us", "UTC")),
            "km": km,
            "weight": pa.array(rng.normal(5, 2, rows), mask=rng.random(rows) < 0.2),
            "mode": pa.array(mode, mask=rng.random(rows) < 0.05),
            "colour": rng.choice(["red", "green", "blue"], rows),
            HOSTILE: rng.normal(0, 1, rows),
            "late": (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64),
        }
    )


Change = Callable[[pa.Table], pa.Table]


def put(table: pa.Table, name: str, values: Any) -> pa.Table:
    """A table with other values in a column."""
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values))


@dataclass
class Said:
    """What a command wrote."""

    out: str = ""
    err: str = ""


@contextlib.contextmanager
def captured() -> Iterator[Said]:
    """Captures both streams, whoever writes to them and how: to the objects of Python or to the descriptors."""
    said, kept = Said(), (os.dup(1), os.dup(2))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield said
        finally:
            for descriptor, saved in enumerate(kept, 1):
                os.dup2(saved, descriptor)
                os.close(saved)
            for name, file in (("out", out), ("err", err)):
                file.flush()
                file.seek(0)
                setattr(said, name, file.read())


@dataclass
class Shop:
    """A project folder, with a telemetry and a monitoring folder of its own.

    Attributes:
        project: with ``stk.toml`` and the registry; shared.
        folder: with ``telemetry`` and ``monitoring``.
        artifact: of version 1, as an endpoint keeps it.
        first: verdicts of the days that this one began with.
    """

    project: Path
    folder: Path
    artifact: Path
    first: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> Shop:
        """Makes a project and trains its model."""
        project = folder / "project"
        (project / "pipelines" / "models").mkdir(parents=True)
        (project / "stk.toml").write_text('[project]\nname = "shop"\n[profile.laptop]\nlake = "lake"\n')
        (project / "pipelines" / "models" / f"{MODEL}.yml").write_text(_MODEL_FILE)
        pq.write_table(parcels(16_000, 0), project / "parcels.parquet")
        shop = cls(project, folder / "first", Path())
        shop.ran("--quiet", "train", MODEL)
        where = json.loads(shop.ran("--json", "models", "show", f"{MODEL}:1").out)["where"]
        stored = Path(where.removeprefix("file://"))
        shop.artifact = project / ".stk" / "endpoints" / "eta" / "models" / unseal(stored)[1]
        shutil.copytree(stored, shop.artifact)
        return shop

    def twin(self, folder: Path) -> Shop:
        """The same, from where this one stands, in another folder."""
        shutil.copytree(self.folder, folder / "shop")
        return Shop(self.project, folder / "shop", self.artifact, self.first)

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to see this one's folders."""
        folders = {f"STK_ML_{name.upper()}": str(self.folder / name) for name in ("telemetry", "monitoring")}
        return {**os.environ, **folders, "COLUMNS": "200"}

    def started(self, *words: str) -> subprocess.Popen[str]:
        """``stk-ml WORDS``, running."""
        command = [sys.executable, "-m", "stk_ml", *words]
        return subprocess.Popen(
            command, cwd=self.project, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ran(self, *words: str, code: int = 0) -> Said:
        """``stk-ml WORDS`` in this process, which has the libraries loaded; it must have returned this code."""
        with captured() as said:
            found = invoke(["stk-ml", *words], self.environ, self.project)
        assert found == code, f"{found}\n{said.out}\n{said.err}"
        return said

    def look(self, days: float, *words: str, code: int = 0) -> list[dict[str, Any]]:
        """``stk-ml monitor run`` at the end of that many days: the verdicts."""
        done = self.ran("--json", "--quiet", "monitor", "run", MODEL, "--now", iso(days), *words, code=code)
        found: list[dict[str, Any]] = json.loads(done.out)
        return found

    def days(
        self,
        first: int,
        last: int,
        change: Change = lambda table: table,
        *,
        rows: int = 400,
        until: float = 24.0,
        oddities: dict[tuple[str, str], int] | None = None,
    ) -> list[tuple[pa.Table, np.ndarray[Any, Any]]]:
        """Serves some parcels on the days first to last - 1, each in four parts that end at 6, 12, 18 and 24 o'clock.

        Args:
            first, last: numbers of days.
            change: of the parcels before they are scored.
            rows: per day.
            until: hour after which nobody calls, and nothing is told.
            oddities: values that the model's policy let pass, by (what, column), on each day.

        Returns:
            Parcels and scores of each day.
        """
        model, log = TrainedModel.load(self.artifact, threads=1), ParquetPredictionLog(self.folder / "telemetry")
        source = Source("eta", "v1", MODEL, 1, unseal(self.artifact)[1], "w0")
        bins, told, served = FeatureBins.from_artifact(self.artifact), [START + first * DAY], []
        recorder = Recorder(source, bins, sample=0.1, clock=lambda: told[0])
        for day in range(first, last):
            table = change(parcels(rows, 1000 + day))
            matrix = encode(model.schema, table.select(model.schema.names).to_pylist())
            scores = model.predict(table)
            served.append((table, scores))
            for place, part in enumerate(np.array_split(np.arange(rows), 4)):
                begin = START + day * DAY + place * DAY / 4
                if place * 6 >= until:
                    continue
                told[0] = begin + DAY / 8
                recorder.rows(f"q{day}-{place}", [f"P{day}-{row}" for row in part], matrix[part], scores[part])
                for (what, column), count in (oddities or {}).items():
                    recorder.count(what, column, count // 4)
                told[0] = begin + DAY / 4
                log.write(recorder.drain(told[0]))
        return served


def iso(days: float) -> str:
    """The time that many days after the first day began."""
    return datetime.fromtimestamp(START + days * DAY, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def label_file(path: Path, first: int, served: list[tuple[pa.Table, Any]], *, delay: float = 1.0) -> Path:
    """A CSV with what became of the parcels of some days, known so many days after the end of each."""
    lines = ["row_id,outcome,known_time"]
    for day, (table, _) in enumerate(served, first):
        known = iso(day + 1 + delay)
        lines += [f"P{day}-{row},{late},{known}" for row, late in enumerate(table["late"].to_pylist())]
    path.write_text("\n".join(lines) + "\n")
    return path
