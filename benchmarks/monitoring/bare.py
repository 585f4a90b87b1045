"""Histograms and comparisons of Parquet files by us and by others, each tool in a process of its own.

What is told: seconds without imports, those of all processors, and the peak memory.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.environments import AbsentError, python

_REPLY = """
import json, resource, sys, time
def clocks():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime
def reply(begun, total):
    (then, spent), (now, all_spent) = begun, clocks()
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0]) / 1024  # unlike ru_maxrss, it begins anew with the program
    told = {"seconds": now - then, "cpu": all_spent - spent, "peak": peak, "total": int(total)}
    print(json.dumps(told), flush=True)
"""
#: Count the rows of a file: read lines of JSON (``path``, ``edges`` by number, ``categories``) and reply to each.
HISTOGRAMS = {
    "polars": """
import polars as pl
for line in sys.stdin:
    job, begun, total = json.loads(line), clocks(), 0
    table = pl.scan_parquet(job["path"])
    for name, edges in job["edges"].items():
        column = table.select(name).collect().to_series()
        total += column.hist(edges, include_breakpoint=False, include_category=False).to_series().sum()
    for name in job["categories"]:
        total += table.group_by(name).len().collect()["len"].sum()
    reply(begun, total)
""",
    "duckdb": """
import duckdb
def sql(path, edges, categories):
    bins = (f'histogram("{name}", {of})' for name, of in edges.items())
    texts = (f'histogram("{name}")' for name in categories)
    return f"SELECT {', '.join([*bins, *texts])} FROM read_parquet('{path}')"
for line in sys.stdin:
    job, begun = json.loads(line), clocks()
    connection = duckdb.connect()
    connection.execute('SET enable_progress_bar = false')
    found = connection.sql(sql(**job)).fetchall()
    reply(begun, sum(sum(of.values()) for of in found[0]))
""",
    "stk-ml": """
from pathlib import Path
from stk_ml.artifact.schema import FeatureField
from stk_ml.monitoring import counting, tables
for line in sys.stdin:
    job, begun = json.loads(line), clocks()
    table = tables.rows(Path(job["path"]))
    fields = [FeatureField(name, "number") for name in job["edges"]]
    fields += [FeatureField(name, "category", tuple(of)) for name, of in job["categories"].items()]
    edges = [*job["edges"].values(), *([()] * len(job["categories"]))]
    found = counting.count(table, fields, edges, None, 1)
    reply(begun, sum(tally.counts.sum() for tally in found))
""",
}

#: Compare two files: read lines of JSON (``then``, ``now``, ``numbers``, ``categories``), tell how many columns drift.
COMPARISONS = {
    "evidently": """
import pandas as pd
from evidently import Dataset, DataDefinition, Report
from evidently.presets import DataDriftPreset
for line in sys.stdin:
    job, begun = json.loads(line), clocks()
    about = DataDefinition(numerical_columns=job["numbers"], categorical_columns=job["categories"])
    then, now = (Dataset.from_pandas(pd.read_parquet(job[of]), data_definition=about) for of in ("then", "now"))
    found = Report([DataDriftPreset()]).run(now, then).dict()
    names = [(m.get("metric_name") or m.get("metric_id") or "", m["value"]) for m in found["metrics"]]
    reply(begun, next(value for name, value in names if "DriftedColumnsCount" in name)["count"])
""",
    "nannyml": """
import pandas as pd, nannyml
for line in sys.stdin:
    job, begun = json.loads(line), clocks()
    then, now = (pd.read_parquet(job[of]) for of in ("then", "now"))
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=[*job["numbers"], *job["categories"]], treat_as_categorical=job["categories"])
    calculator.fit(then)
    found = calculator.calculate(now).filter(period="analysis").to_df()
    alerts = found[[name for name in found.columns if name[-1] == "alert"]]
    reply(begun, alerts.any().sum())
""",
    "stk-ml": """
from pathlib import Path
from stk_ml.monitoring.compare import compare
for line in sys.stdin:
    job, begun = json.loads(line), clocks()
    found = compare(Path(job["then"]), Path(job["now"]), joint=job.get("joint", False))
    reply(begun, sum(column.answer == "drift" for column in found.columns))
""",
}


@dataclass(frozen=True)
class Took:
    """Seconds of one job, those of its processors, peak of the process in MB, and what it counted."""

    seconds: float
    cpu: float
    peak: float
    total: int


class Worker:
    """A tool's process.

    Args:
        code: of the worker.
        environment: name of its pinned list; empty for this one.

    Raises:
        AbsentError: it cannot be installed, or its process ended.
    """

    def __init__(self, code: str, environment: str = "") -> None:
        quiet = {**os.environ, "NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
        quiet["PYTHONPATH"] = str(Path(__file__).parents[2]) if not environment else ""
        command = [str(python(environment)), "-W", "ignore", "-c", _REPLY + code]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=quiet, text=True, **pipes)

    def __call__(self, **job: Any) -> Took:
        """Does a job."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AbsentError(f"its process ended with status {self._process.wait()}")
        return Took(**json.loads(line))

    def close(self) -> None:
        """Ends its process."""
        self._process.terminate()
        self._process.wait()
