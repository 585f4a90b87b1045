"""One LightGBM model, one thread, distinct rows: what each way of scoring it takes for 1 row and for 1,000.

The model has 300 trees, 31 leaves, 25 features, 5 of them categories of 8 to 50 values; one value in ten of five
columns is missing. The ways take turns, so that a busy machine is busy for all of them. treelite and tl2cgen are
measured when they are installed (pip install treelite tl2cgen), through the C function that they compile, not through
their Python. Every way must give the scores of ``Booster.predict``, bit by bit.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS, LEAVES, FEATURES = 300, 31, 25
LEVELS = {0: 8, 5: 12, 10: 20, 15: 33, 20: 50}
ROWS, BATCH, REPEATS = 5_000, 1_000, 5

#: tl2cgen's function takes unions, not a matrix: this fills them, in C, as a server would.
DRIVER = """
#include <math.h>
#include <stdint.h>
union Entry { int missing; double fvalue; int qvalue; };
void predict(union Entry *, int, double *);
void many(const double *x, int64_t n, double *out) {
    union Entry e[FEATURES];
    for (int64_t i = 0; i < n; i++) {
        for (int f = 0; f < FEATURES; f++) {
            if (isnan(x[i * FEATURES + f])) e[f].missing = -1; else e[f].fvalue = x[i * FEATURES + f];
        }
        out[i] = 0;
        predict(e, 0, out + i);
    }
}
"""


def data(rows: int, seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, FEATURES))
    for column, levels in LEVELS.items():
        x[:, column] = random.integers(0, levels, rows)
    x[:, 1], x[:, 3] = np.round(x[:, 1] * 10), np.exp(x[:, 3] * 3)
    odds = 0.06 * x[:, 1] + np.sin(x[:, 2] * 2) + 0.4 * x[:, 4] * x[:, 6] + (x[:, 0] % 3 == 1) + 0.5 * x[:, 9] ** 2
    odds += (x[:, 5] % 5 == 2) * x[:, 7] + 0.2 * (x[:, 20] % 7) - 1.5
    for column in (2, 3, 5, 7, 20):
        x[random.random(rows) < 0.1, column] = np.nan
    return x, (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(float)


def train() -> Any:
    import lightgbm

    x, y = data(60_000, 0)
    parameters = {"objective": "binary", "num_leaves": LEAVES, "learning_rate": 0.05, "verbose": -1, "seed": 1}
    return lightgbm.train(parameters, lightgbm.Dataset(x, y, categorical_feature=list(LEVELS)), ROUNDS)


class Way:
    """One way of scoring: ``many`` takes a matrix, ``one`` scores what ``buffer`` holds."""

    def __init__(self, ready: float, many: Callable[[Any], Any], buffer: Any, one: Callable[[], float]) -> None:
        self.ready, self.many, self.buffer, self.one = ready, many, buffer, one
        self.single: list[float] = []
        self.batch: list[float] = []

    def measure(self, x: Any) -> None:
        """Takes the times of batches, then of single rows."""
        for start in range(0, len(x), BATCH):
            begin = time.perf_counter()
            self.many(x[start : start + BATCH])
            self.batch.append(time.perf_counter() - begin)
        for row in x:
            self.buffer[:] = row
            begin = time.perf_counter()
            self.one()
            self.single.append(time.perf_counter() - begin)


def package(booster: Any, text: str) -> Way:
    buffer = np.zeros((1, FEATURES))
    return Way(
        0, lambda x: booster.predict(x, num_threads=1), buffer[0], lambda: booster.predict(buffer, num_threads=1)[0]
    )


def native(booster: Any, text: str) -> Way:
    from stk_ml.artifact.native import NativeBooster

    begin = time.perf_counter()
    scorer = NativeBooster(text)
    row = scorer.row_scorer()
    return Way(time.perf_counter() - begin, scorer.many, row.buffer, row.score)


def compiled(booster: Any, text: str) -> Way:
    from stk_ml.artifact import compiled

    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        compiled.build(Path(folder) / "cache")
        scorer = compiled.load(text, Path(folder) / "cache")
        if scorer is None:
            raise SystemExit("there is no compiled scorer: is a C compiler installed?")
        row = scorer.row_scorer()
        return Way(time.perf_counter() - begin, scorer.many, row.buffer, row.score)


def treelite(booster: Any, text: str) -> Way:
    import tl2cgen
    import treelite

    with tempfile.TemporaryDirectory() as name:
        begin, folder = time.perf_counter(), Path(name)
        (folder / "model.txt").write_text(text)
        model = treelite.frontend.load_lightgbm_model(str(folder / "model.txt"))
        tl2cgen.generate_c_code(model, str(folder / "code"), params={"parallel_comp": os.cpu_count() or 1})
        (folder / "code" / "driver.c").write_text(DRIVER.replace("FEATURES", str(FEATURES)))
        files = sorted((folder / "code").glob("*.c"))
        running = [subprocess.Popen(["gcc", "-O2", "-fPIC", "-c", file.name], cwd=file.parent) for file in files]
        if sum(process.wait() for process in running):
            raise SystemExit("gcc failed")
        objects = [str(file.with_suffix(".o")) for file in files]
        subprocess.run(["gcc", "-shared", *objects, "-o", str(folder / "m.so"), "-lm"], check=True)
        call = ctypes.CDLL(str(folder / "m.so")).many
        ready = time.perf_counter() - begin
    buffer, one = np.zeros(FEATURES), np.zeros(1)
    row, result = ctypes.c_void_p(buffer.ctypes.data), ctypes.c_void_p(one.ctypes.data)

    def many(x: Any) -> Any:
        out = np.empty(len(x))
        call(ctypes.c_void_p(x.ctypes.data), ctypes.c_int64(len(x)), ctypes.c_void_p(out.ctypes.data))
        return out

    def single() -> float:
        call(row, ctypes.c_int64(1), result)
        return float(one[0])

    return Way(ready, many, buffer, single)


def main() -> None:
    """Prints one JSON object per number."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    booster, (x, _) = train(), data(ROWS, 7)
    text, expected = booster.model_to_string(), booster.predict(x, num_threads=1)
    ways: dict[str, Way] = {}
    for make in (package, native, compiled, treelite):
        try:
            ways[make.__name__] = make(booster, text)
        except ImportError as error:
            print(f"{make.__name__} is left out: {error}", file=sys.stderr)
    for _ in range(REPEATS):
        for way in ways.values():
            way.measure(x)
    for name, way in ways.items():
        if (way.many(x) != expected).any():
            raise SystemExit(f"{name} gives other scores than Booster.predict")
    report("1 row, median", "us", 10, {name: statistics.median(way.single) * 1e6 for name, way in ways.items()})
    report("1 row, p99", "us", 20, {name: float(np.percentile(way.single, 99)) * 1e6 for name, way in ways.items()})
    report("1,000 rows, median", "ms", 9, {name: statistics.median(way.batch) * 1e3 for name, way in ways.items()})
    report("compiled and ready", "s", 1, {name: way.ready for name, way in ways.items()})


def report(what: str, unit: str, target: float, found: dict[str, float]) -> None:
    """Prints one number as JSON, beside that of the other ways."""
    line = {
        "name": f"scorers: {what}, one thread, {ROUNDS} trees, {LEAVES} leaves, {FEATURES} features",
        "value": round(found.pop("compiled"), 3),
        "unit": unit,
        "target": target,
        "higher_is_better": False,
        "peers": {name: round(value, 3) for name, value in found.items()},
        "versions": {name: version(name) for name in ("lightgbm", "numpy")},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
