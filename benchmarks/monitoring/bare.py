"""Histograms of a Parquet file, each tool in a process of its own: seconds without imports, and its peak memory."""

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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"seconds": now - then, "cpu": all_spent - spent, "peak": peak, "total": int(total)}
    print(json.dumps(told), flush=True)
"""
#: Read one line of JSON per file (``path``, ``edges`` by number, ``categories``), and reply to each.
WORKERS = {
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
        name: of the tool in :data:`WORKERS`, or of its code in ``code``.
        environment: name of its pinned list; empty for this one.
        code: of the worker.

    Raises:
        AbsentError: it cannot be installed, or its process ended.
    """

    def __init__(self, name: str, environment: str = "", code: str = "") -> None:
        self.name = name
        quiet = {**os.environ, "NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
        quiet["PYTHONPATH"] = str(Path(__file__).parents[2]) if not environment else ""
        command = [str(python(environment)), "-W", "ignore", "-c", _REPLY + (code or WORKERS[name])]
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
