"""What retraining is worth on the real year: the governor of ``stk-ml demo``, no retraining, and one on each first.

    python benchmarks/retraining.py [--folder DIR] [--out retraining.json]

The demo replays July to December over HTTP and retrains when its governor says so. The fixed schedule trains on each
first of a month, August to December, with the same pipeline and the same moved window; what it trains answers the next
month whether or not a gate would have let it. All three answer the same rows. JSON lines, a verdict per target.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from stk_ml import model_spec
from stk_ml.artifact.predictor import Predictor
from stk_ml.retraining import window
from stk_ml.simulation.rows import Rows
from stk_ml.simulation.year import measure
from stk_ml.workspace import Workspace

MODEL = "flight-delay"
FIRSTS = [datetime(2013, month, 1, tzinfo=UTC) for month in range(8, 13)]


def replay(folder: Path) -> tuple[dict[str, Any], float]:
    """The demo's year, and how long it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "stk_ml", "demo", "--folder", str(folder), "--json", "--quiet"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout), time.perf_counter() - began


def asked(workspace: Workspace) -> Rows:
    """The rows that the demo asked for."""
    data = model_spec.load(workspace.model_file(MODEL)).data
    file = workspace.settings.cache.parent / "requests.parquet"
    return Rows.read(file, entity=data.entity[0], as_of=data.as_of, label_time=data.label_time, target=data.target)


def scores(artifact: Path, rows: Rows) -> np.ndarray:
    """What a model answers to all of them."""
    predictor = Predictor.load(artifact, threads=0)
    return predictor.many(predictor.schema.matrix(predictor.schema.select(rows.features)))


def monthly(workspace: Workspace, rows: Rows, frozen: np.ndarray) -> np.ndarray:
    """What models trained on each first answer from then on."""
    file, found = workspace.model_file(MODEL), frozen.copy()
    spec = model_spec.load(file)
    for first in FIRSTS:
        moved = window.move(spec, first)
        derived = window.derive(
            file, moved.split, workspace.settings.cache.parent / "monthly" / first.date().isoformat() / file.name
        )
        training = workspace.train(derived, now=first)
        later = rows.asked >= first.timestamp()
        found[later] = scores(training.run.outputs["artifact"], rows)[later]
        print(f"trained as of {first:%Y-%m-%d}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="of the demo; default a temporary one")
    parser.add_argument("--out", type=Path, help="also write the lines there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch) / "demo").resolve()
        year, seconds = replay(folder)
        workspace = Workspace(folder)
        rows = asked(workspace)
        frozen = scores(workspace.registry.download(f"{MODEL}:1"), rows)
        _, fixed, gained = measure(rows.asked, rows.labels, monthly(workspace, rows, frozen), frozen)
    lines = [line("whole demo", seconds, "s", target=240.0, met=seconds <= 240)]
    for metric, name in (("auc", "AUC"), ("log_loss", "log loss")):
        gain = year["gain"][metric]
        total = year["total"]
        lines.append(
            line(
                f"{name}: governor better than frozen by",
                gain["value"],
                name,
                target=0.0,
                met=gain["value"] > 0,
                low=gain["low"],
                high=gain["high"],
                governor=total["governed"][metric]["value"],
                frozen=total["frozen"][metric]["value"],
                monthly=fixed.governed[metric].value,
                monthly_better_than_frozen_by=gained[metric].value,
            )
        )
    lines.append(
        line("retrains of the governor", year["retrains"], "runs", promoted=year["promoted"], monthly=len(FIRSTS))
    )
    text = "".join(json.dumps(each) + "\n" for each in lines)
    print(text, end="")
    if options.out:
        options.out.write_text(text)


def line(name: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    """One result."""
    return {"name": name, "value": value, "unit": unit, **more}


if __name__ == "__main__":
    main()
