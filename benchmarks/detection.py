"""False alarms and delays of drift detection on the same windows: ours, PSI > 0.1, Evidently's and NannyML's defaults.

    python benchmarks/detection.py [--windows 2000] [--worlds 40] [--out detection.json] [--no-peers]

A window of n rows follows 60 days of n rows each (at most 2,000 a day), with day effects that are absent, independent
or autocorrelated. False alarms: share of windows without drift on which a tool says drift in any of six columns.
Delay: windows until the first alarm after a change, 11 when it is not found in 10, each tool at its default.
Peers run in environments of their own, and are reported absent where they cannot be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.serving.environments import AbsentError, python
from stk_ml.monitoring.compare import compare

SIZES = (50, 200, 1000, 5000, 20_000, 100_000)
EFFECTS = {"none": (0.0, 0.0), "independent": (0.2, 0.0), "autocorrelated": (0.2, 0.7)}
CHANGES = ("mean", "scale", "missing", "category", "correlation")
DAYS, MOST, ALPHA = 60, 2000, 0.05
PEERS = ("evidently", "nannyml")


def rows(
    rng: np.random.Generator, count: int, moved: np.ndarray, change: str = "", size: float = 0.0
) -> dict[str, np.ndarray]:
    x = rng.standard_normal((count, 4)) + moved
    if change == "mean":
        x[:, 0] += size
    elif change == "scale":
        x[:, 0] *= 1 + size
    elif change == "correlation":
        x[:, 1] = size * x[:, 0] + np.sqrt(1 - size**2) * x[:, 1]
    elif change == "missing":
        x[rng.random(count) < size, 0] = np.nan
    kind = rng.choice(5, count, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    if change == "category":
        kind[rng.random(count) < size] = 4
    flag = rng.random(count) < 0.2
    return {
        "a": x[:, 0],
        "b": x[:, 1],
        "c": np.exp(x[:, 2]),
        "d": x[:, 3],
        "kind": np.array(list("vwxyz"))[kind],
        "flag": flag,
    }


def world(
    seed: int, count: int, kind: str, windows: int = 1, change: str = "", size: float = 0.0
) -> Iterator[pa.Table]:
    """The reference, then windows of a day each."""
    rng = np.random.default_rng([seed, count])
    spread, correlation = EFFECTS[kind]
    effect = rng.standard_normal((DAYS + windows, 4))
    for day in range(1, len(effect)):
        effect[day] = correlation * effect[day - 1] + np.sqrt(1 - correlation**2) * effect[day]
    per_day = min(count, MOST)
    days = [rows(rng, per_day, effect[day] * spread) for day in range(DAYS)]
    yield _table(
        {name: np.concatenate([day[name] for day in days]) for name in days[0]}, np.repeat(np.arange(DAYS), per_day)
    )
    for day in range(DAYS, DAYS + windows):
        yield _table(rows(rng, count, effect[day] * spread, change, size), np.full(count, day))


def _table(columns: dict[str, np.ndarray], day: np.ndarray) -> pa.Table:
    at = np.datetime64("2013-01-01", "us") + day.astype("timedelta64[D]")
    return pa.table({**columns, "flag": columns["flag"].astype(str), "at": at})


def ours(reference: pa.Table, window: pa.Table) -> float:
    """1 for drift."""
    return float(compare(reference, window, time="at", alpha=ALPHA, joint=False).verdict == "drift")


def ours_joint(reference: pa.Table, window: pa.Table) -> float:
    return float(compare(reference, window, time="at", alpha=ALPHA).verdict == "drift")


def psi(reference: pa.Table, window: pa.Table) -> float:
    """1 when PSI over deciles or categories exceeds 0.1 in any column."""
    worst = 0.0
    for name in window.column_names[:-1]:
        then, now = (t.column(name).to_numpy(zero_copy_only=False) for t in (reference, window))
        if then.dtype == object:
            cells = np.unique(then)
            counts = [np.array([(side == c).sum() for c in cells]) for side in (then, now)]
        else:
            edges = np.quantile(then[np.isfinite(then)], np.arange(1, 10) / 10)
            counts = [
                np.bincount(np.searchsorted(edges, side[np.isfinite(side)]), minlength=10) for side in (then, now)
            ]
        p, q = (np.maximum(c / max(c.sum(), 1), 1e-4) for c in counts)
        worst = max(worst, float(((q - p) * np.log(q / p)).sum()))
    return float(worst > 0.1)


#: Run by a peer's own interpreter: reads pairs of Parquet files, prints one line of 0 or 1 for each.
WORKERS = {
    "evidently": """
import sys, pandas as pd
from evidently import Dataset, DataDefinition, Report
from evidently.presets import DataDriftPreset
d = DataDefinition(numerical_columns=list("abcd"), categorical_columns=["kind", "flag"])
for line in sys.stdin:
    a, b = (Dataset.from_pandas(pd.read_parquet(f).drop(columns="at"), data_definition=d) for f in line.split())
    found = Report([DataDriftPreset()]).run(b, a).dict()
    names = [(m.get("metric_name") or m.get("metric_id") or "", m["value"]) for m in found["metrics"]]
    drifted = next(value for name, value in names if "DriftedColumnsCount" in name)
    print(int(drifted["count"] > 0), flush=True)
""",
    "nannyml": """
import sys, pandas as pd, nannyml as nml
for line in sys.stdin:
    a, b = (pd.read_parquet(f) for f in line.split())
    calc = nml.UnivariateDriftCalculator(
        column_names=list(a.columns[:-1]), treat_as_categorical=["kind", "flag"], chunk_size=len(a) // 60)
    calc.fit(a)
    day_result = calc.calculate(b).filter(period="analysis").to_df()
    flags = day_result[[c for c in day_result.columns if c[-1] == "alert"]]
    print(int(flags.to_numpy().any()), flush=True)
""",
}


class Peer:
    """A tool in its own environment; AbsentError when it cannot be installed."""

    def __init__(self, name: str, folder: Path) -> None:
        interpreter = python(name)
        self._folder = folder
        quiet = {
            **os.environ,
            "NML_DISABLE_USAGE_LOGGING": "1",
            "DO_NOT_TRACK": "1",
        }  # they tell their makers otherwise
        command = [str(interpreter), "-W", "ignore", "-c", WORKERS[name]]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=quiet, text=True, **pipes)

    def __call__(self, reference: pa.Table, window: pa.Table) -> float:
        """1 for drift."""
        assert self._process.stdin
        assert self._process.stdout
        files = [self._folder / "reference.parquet", self._folder / "window.parquet"]
        for table, file in zip((reference, window), files, strict=True):
            pq.write_table(table, file)
        self._process.stdin.write(" ".join(map(str, files)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AbsentError(f"its process ended with status {self._process.wait()}")
        return float(line)

    def close(self) -> None:
        """Ends its process."""
        self._process.terminate()
        self._process.wait()


Tool = Callable[[pa.Table, pa.Table], float]


def false_alarms(tools: dict[str, Tool], windows: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    cells = [(size, kind) for size in SIZES for kind in EFFECTS]
    for size, kind in cells:
        counts = dict.fromkeys(tools, 0.0)
        each = max(windows // len(cells), 1)
        for seed in range(each):
            reference, window = world(seed, size, kind)
            for name, tool in tools.items():
                counts[name] += tool(reference, window)
        rates = {name: round(count / each, 3) for name, count in counts.items()}
        found.append({"rows": size, "days": kind, "windows": each, **rates})
        print(found[-1], file=sys.stderr)
    return found


def delays(tools: dict[str, Tool], worlds: int, size: int = 1000) -> list[dict[str, object]]:
    grid = {
        "mean": (0.15, 0.3, 0.6),
        "scale": (0.2, 0.5),
        "missing": (0.03, 0.1),
        "category": (0.05, 0.1),
        "correlation": (0.4, 0.8),
    }
    found: list[dict[str, object]] = []
    for change in CHANGES:
        for amount in grid[change]:
            waited: dict[str, list[int]] = {name: [] for name in tools}
            for seed in range(worlds):
                reference, *windows = world(seed, size, "none", 10, change, amount)
                for name, tool in tools.items():
                    hits = (place for place, window in enumerate(windows, 1) if tool(reference, window))
                    waited[name].append(next(hits, 11))
            means = {name: round(float(np.mean(values)), 2) for name, values in waited.items()}
            found.append({"change": change, "size": amount, "rows": size, **means})
            print(found[-1], file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=2000)
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-delays", action="store_true")
    options = parser.parse_args()
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        tools: dict[str, Tool] = {"stk-ml": ours, "psi": psi}
        peers = []
        for name in () if options.no_peers else PEERS:
            try:
                peers.append(Peer(name, Path(folder)))
                peers[-1](*world(0, 50, "none"))
                tools[name] = peers[-1]
            except AbsentError as error:
                absent[name] = str(error)
        result: dict[str, object] = {
            "alpha": ALPHA,
            "absent": absent,
            "false_alarms": false_alarms(tools, options.windows),
        }
        if not options.no_delays:
            result["delays"] = delays({**tools, "stk-ml + joint": ours_joint}, options.worlds)
        for peer in peers:
            peer.close()
    text = json.dumps(result, indent=2)
    options.out.write_text(text + "\n") if options.out else print(text)


if __name__ == "__main__":
    main()
