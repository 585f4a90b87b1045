"""What looks at a window: stk-ml, PSI, and peers that run in environments of their own.

Every tool answers with the names of its detectors that alarm. Peers at their defaults:

- Evidently: what ``DataDriftPreset`` counts, without its drawings, alarms when any column drifts (its own verdict on
  the whole table asks for half of the columns); with labels, any failed test of those of ``ClassificationPreset``.
- NannyML: days are chunks. ``UnivariateDriftCalculator`` alarms when any column does, and so does the multivariate
  ``DataReconstructionDriftCalculator``; with labels, ``PerformanceCalculator`` on ROC AUC, F1 and accuracy.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.detecting.worlds import FEATURES
from benchmarks.serving.environments import AbsentError, python
from stk_ml.monitoring.compare import Comparison, compare

#: Detectors of each peer: on features, and on labels.
PEERS = {
    "evidently": (("evidently",), ("evidently performance",)),
    "nannyml": (("nannyml", "nannyml multivariate"), ("nannyml performance",)),
}

#: Levels at which performance is asked.
LEVELS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def ours(reference: pa.Table, window: pa.Table, alpha: float, **options: object) -> Comparison:
    """Both views, over the features."""
    columns = [*FEATURES, "at"]
    return compare(reference.select(columns), window.select(columns), time="at", alpha=alpha, **options)


def drift_level(reference: pa.Table, window: pa.Table) -> float:
    """The smallest alpha at which :func:`ours` says drift, from one comparison; infinite when it does at none.

    Half of alpha is the columns', half the joint view's; both count only where an effect reaches its floor. (A column
    whose most significant aspect is below its floor while another is not would be given the alpha of the first.)
    """
    found = ours(reference, window, 0.998)
    levels = [column.adjusted for column in found.columns if column.answer == "drift"]
    return 2 * min([*levels, *([found.joint_p_value] if found.joint == "drift" else [])], default=np.inf)


def decay_level(reference: pa.Table, window: pa.Table) -> float:
    """The smallest of :data:`LEVELS` at which any metric of the score got worse; infinite when none does."""
    columns = ["at", "score", "label"]
    then, now = reference.select(columns), window.select(columns)
    low, high = 0, len(LEVELS)
    while low < high:
        middle = (low + high) // 2
        found = compare(then, now, target="label", prediction="score", time="at", alpha=LEVELS[middle])
        low, high = (low, middle) if any(each.worse for each in found.performance) else (middle + 1, high)
    return LEVELS[low] if low < len(LEVELS) else np.inf


def psi(reference: pa.Table, window: pa.Table) -> bool:
    """PSI over deciles or categories exceeds 0.1 in any column."""
    return any(_psi(reference.column(name), window.column(name)) > 0.1 for name in FEATURES)


def _psi(then: pa.ChunkedArray, now: pa.ChunkedArray) -> float:
    sides = [side.to_numpy() for side in (then, now)]
    if pa.types.is_string(then.type):
        cells = np.unique(sides[0])
        counts = [np.array([(side == cell).sum() for cell in cells]) for side in sides]
    else:
        sides = [side[np.isfinite(side)] for side in sides]
        edges = np.quantile(sides[0], np.arange(1, 10) / 10)
        counts = [np.bincount(np.searchsorted(edges, side), minlength=10) for side in sides]
    p, q = (np.maximum(count / max(count.sum(), 1), 1e-4) for count in counts)
    return float(((q - p) * np.log(q / p)).sum())


_READ = """
import json, sys, pandas as pd
def answer(made):
    held = {}
    for line in sys.stdin:
        reference, window, labelled = json.loads(line)
        if held.get("name") != reference:
            held = {"name": reference, "table": pd.read_parquet(reference)}
        print(json.dumps(made(held, pd.read_parquet(window), labelled)), flush=True)
"""
#: Run by a peer's own interpreter, after the reading above.
_WORKERS = {
    "evidently": """
from evidently import BinaryClassification, DataDefinition, Dataset, Report, metrics
scored = BinaryClassification(target="label", prediction_labels="decision", prediction_probas="score", pos_label=1)
numbers, texts = list("abcd"), ["kind", "flag"]
watched = "Accuracy Precision Recall F1Score RocAuc LogLoss TPR TNR FPR FNR".split()
def made(held, window, labelled):
    definition = (
        DataDefinition(classification=[scored]) if labelled
        else DataDefinition(numerical_columns=numbers, categorical_columns=texts))
    columns = ["label", "decision", "score"] if labelled else numbers + texts
    if labelled not in held:
        held[labelled] = Dataset.from_pandas(held["table"][columns], data_definition=definition)
    asked = [getattr(metrics, name)() for name in watched] if labelled else [metrics.DriftedColumnsCount()]
    report = Report(asked, include_tests=labelled)
    found = report.run(Dataset.from_pandas(window[columns], data_definition=definition), held[labelled]).dict()
    if labelled:
        return ["evidently performance"] if any("FAIL" in str(t["status"]) for t in found["tests"]) else []
    named = [(m.get("metric_name") or m.get("metric_id") or "", m["value"]) for m in found["metrics"]]
    drifted = next(value for name, value in named if "DriftedColumnsCount" in name)
    return ["evidently"] if drifted["count"] > 0 else []
answer(made)
""",
    "nannyml": """
import nannyml as nml
columns, days = [*"abcd", "kind", "flag"], dict(timestamp_column_name="at", chunk_period="D")
def calculators(labelled):
    if labelled:
        return {"nannyml performance": nml.PerformanceCalculator(
            y_true="label", y_pred="decision", y_pred_proba="score", problem_type="classification_binary",
            metrics=["roc_auc", "f1", "accuracy"], **days)}
    return {
        "nannyml": nml.UnivariateDriftCalculator(columns, treat_as_categorical=["kind", "flag"], **days),
        "nannyml multivariate": nml.DataReconstructionDriftCalculator(columns, **days)}
def made(held, window, labelled):
    if labelled not in held:
        held[labelled] = calculators(labelled)
        for calculator in held[labelled].values():
            calculator.fit(held["table"])
    alarmed = []
    for name, calculator in held[labelled].items():
        found = calculator.calculate(window).filter(period="analysis").to_df()
        if found[[c for c in found.columns if c[-1] == "alert"]].to_numpy().any():
            alarmed.append(name)
    return alarmed
answer(made)
""",
}


class Peer:
    """A tool in its own environment.

    Raises:
        AbsentError: it cannot be installed, or its process ended.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        # Both tell their makers that they were used unless they are asked not to.
        quiet = {**os.environ, "NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
        command = [str(python(name)), "-W", "ignore", "-c", _READ + _WORKERS[name]]
        self._process = subprocess.Popen(
            command, env=quiet, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __call__(self, reference: Path, window: pa.Table, labelled: bool) -> Collection[str]:
        """Which of its detectors alarm; the reference is fitted once while its file stays the same."""
        assert self._process.stdin
        assert self._process.stdout
        file = self._folder / f"{self.name}.parquet"
        pq.write_table(window, file)
        self._process.stdin.write(json.dumps([str(reference), str(file), labelled]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AbsentError(f"{self.name}: its process ended with status {self._process.wait()}")
        return list(json.loads(line))

    def close(self) -> None:
        """Ends its process."""
        self._process.terminate()
        self._process.wait()
