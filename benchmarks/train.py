"""The whole training step on 1,000,000 rows x 30 features, as a multiple of a bare ``pyarrow read + lightgbm.train``.

Both sides get the same file, rows, parameters and early stopping, each in a process of its own, in turn. The bare
script stops when LightGBM does; ours also calibrates, profiles, proves and seals the artifact, evaluates it with
bootstrap intervals, draws the model card, logs all of it to a fresh MLflow store, registers it and asks the gate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROWS, NUMBERS, CATEGORIES = 1_000_000, 24, 6
PARAMS = {"num_leaves": 63, "learning_rate": 0.05, "n_estimators": 300, "min_child_samples": 100}
EARLY_STOPPING = 50
RUNS = 3


def make(folder: Path, rows: int) -> None:
    """A year of rows with drift-free signal, one number in ten missing, and what both sides need to know."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    from stk_ml import contracts
    from stk_ml.contracts import Column, Dataset, Snapshot

    rng = np.random.default_rng(0)
    as_of = np.datetime64("2023-01-01", "us") + np.sort(rng.integers(0, 365 * 86_400, rows)) * np.timedelta64(1, "s")
    columns: dict[str, Any] = {"id": np.arange(rows), "as_of": as_of}
    odds = np.zeros(rows)
    for place in range(NUMBERS):
        values = rng.normal(size=rows)
        odds += values * np.sin(place) * 0.4 + (values > 1) * np.cos(place) * 0.5
        columns[f"number_{place}"] = pa.array(values, mask=rng.random(rows) < (0.1 if place % 3 == 0 else 0))
    for place in range(CATEGORIES):
        codes = rng.integers(0, 10 * (place + 1), rows)
        odds += rng.normal(0, 0.4, 10 * (place + 1))[codes]
        names = np.array([f"value {code:02d}" for code in range(10 * (place + 1))])
        columns[f"category_{place}"] = pa.array(names[codes], mask=rng.random(rows) < 0.02)
    columns["late"] = (rng.random(rows) < 1 / (1 + np.exp(1 - odds))).astype(np.int64)
    columns["late_known"] = as_of + np.timedelta64(1, "D")
    table = pa.table(columns)
    pq.write_table(table, folder / "data.parquet", compression="zstd")
    roles = {"id": "entity", "as_of": "as_of", "late": "label", "late_known": "label_time"}
    kinds = {"as_of": "timestamp", "late_known": "timestamp", "id": "integer", "late": "integer"}
    declared = [
        Column(
            name, kinds.get(name, "category" if name.startswith("category") else "number"), roles.get(name, "feature")
        )  # type: ignore[arg-type]
        for name in table.column_names
    ]
    contracts.write(Dataset(tuple(declared), rows, "0" * 64, Snapshot(())), folder / "dataset.json")
    spec = {
        "name": "bench-train",
        "problem": "binary",
        "data": {
            "target": "late",
            "table": "bench.parquet",
            "entity": ["id"],
            "as_of": "as_of",
            "label_time": "late_known",
        },
        "split": {"validation_from": "2023-09-01", "test_from": "2023-11-01"},
        "learner": {"params": PARAMS, "early_stopping": EARLY_STOPPING, "refit": False},
    }
    (folder / "model.yml").write_text(yaml.safe_dump(spec))
    first, second = (np.datetime64(f"2023-{month}-01") for month in ("09", "11"))
    rows_of = {
        "train": [0, int(np.searchsorted(as_of, first - np.timedelta64(1, "D"), "right"))],
        "validation": [
            int(np.searchsorted(as_of, first)),
            int(np.searchsorted(as_of, second - np.timedelta64(1, "D"), "right")),
        ],
    }
    (folder / "rows.json").write_text(json.dumps(rows_of))


def bare(folder: Path) -> int:
    """What a careful script without any of ours does. Returns the number of trees."""
    import lightgbm
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = json.loads((folder / "rows.json").read_text())
    names = [name for name in pq.read_schema(folder / "data.parquet").names if name.startswith(("number", "category"))]
    table = pq.read_table(folder / "data.parquet", columns=[*names, "late"], read_dictionary=names)
    columns = []
    for name in names:
        column = table.column(name).combine_chunks()
        columns.append(pc.cast(column.indices, pa.int32()) if pa.types.is_dictionary(column.type) else column)
    features, label = pa.table(columns, names), table.column("late").to_numpy()
    categorical = [place for place, name in enumerate(names) if name.startswith("category")]

    def part(name: str) -> tuple[pa.Table, Any]:
        start, end = rows[name]
        return features.slice(start, end - start), label[start:end]

    params = {
        **{"objective": "binary", "seed": 7, "deterministic": True, "force_row_wise": True, "verbosity": -1},
        **PARAMS,
    }
    rounds = params.pop("n_estimators")
    table_, label_ = part("train")
    train = lightgbm.Dataset(table_, label=label_, categorical_feature=categorical)
    table_, label_ = part("validation")
    stop = lightgbm.early_stopping(EARLY_STOPPING, verbose=False)
    valid = train.create_valid(table_, label=label_)
    booster = lightgbm.train(params, train, num_boost_round=rounds, valid_sets=[valid], callbacks=[stop])
    return booster.best_iteration or booster.current_iteration()  # type: ignore[no-any-return]


def ours(folder: Path) -> int:
    """The training step: what ``stk-ml step fit``, ``evaluate`` and ``register`` call. Returns the number of trees."""
    from stk_ml import contracts, model_spec
    from stk_ml.contracts import Dataset
    from stk_ml.registry.models import ModelRegistry
    from stk_ml.training.evaluate import evaluate
    from stk_ml.training.fit import fit
    from stk_ml.training.gate import compare

    spec, clock = model_spec.load(folder / "model.yml"), time.perf_counter()
    stages: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        stages[name], clock = round(time.perf_counter() - clock, 2), time.perf_counter()

    def tell(stage: str, done: float) -> None:
        if not done:
            lap(f"before {stage}")

    with tempfile.TemporaryDirectory(dir=folder) as name:
        out = Path(name)
        model = fit(spec, folder, out / "artifact", spec_file=folder / "model.yml", progress=tell)
        lap("save")
        evaluate(spec, folder, model, out / "evaluation")
        lap("evaluate")
        registry = ModelRegistry(f"sqlite:///{out}/mlflow.db", out / "artifacts")
        dataset = contracts.read(Dataset, folder / "dataset.json")
        registered = registry.register(spec, out / "artifact", evaluation=out / "evaluation", dataset=dataset)
        lap("register")
        verdict = compare(spec, folder, model, None, evaluation=out / "evaluation")
        registry.settle(spec.name, registered.version, verdict)
        lap("gate")
    print(json.dumps(stages), file=sys.stderr)
    return model.document.iterations


def child(side: str, folder: Path) -> dict[str, float]:
    """Runs one side in a process of its own: seconds, peak memory in MB, trees, CPU seconds, load."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"})
    assert process.stdout
    trees = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{side} ended with status {status}")
    return {
        "seconds": time.perf_counter() - start,
        "memory": usage.ru_maxrss / 1024,
        "trees": int(trees.split()[-1]),
        "cpu": usage.ru_utime + usage.ru_stime,
        "load": os.getloadavg()[0],  # far above the number of threads, the machine was busy and seconds mean little
    }


def main() -> None:
    """Prints one JSON object per number, or runs one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=("bare", "ours"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=RUNS)
    args = parser.parse_args()
    if args.side:
        print({"bare": bare, "ours": ours}[args.side](args.folder))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, args.rows)
        found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
        for _ in range(args.runs):
            for side in found:
                found[side].append(child(side, folder))
                print(side, found[side][-1], file=sys.stderr)
    trees = {run["trees"] for runs in found.values() for run in runs}
    if len(trees) != 1:
        raise SystemExit(f"the two sides did not fit the same number of trees: {sorted(trees)}")
    report(found, args.rows, trees.pop())


def report(found: dict[str, list[dict[str, float]]], rows: int, trees: float) -> None:
    """Prints one JSON object per number."""
    for what, unit, target in (("seconds", "s", 1.25), ("memory", "MB", 2.0)):
        medians = {side: statistics.median(run[what] for run in runs) for side, runs in found.items()}
        line = {
            "name": f"train: {what} of the whole step against read + lightgbm.train, {rows:,} x 30, {trees:g} trees",
            "value": round(medians["ours"] / medians["bare"], 3),
            "unit": "times",
            "target": target,
            "higher_is_better": False,
            "peers": {f"{side}, {unit}": round(value, 1) for side, value in medians.items()},
            "versions": {name: version(name) for name in ("lightgbm", "pyarrow", "mlflow", "numpy")},
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
