"""Trains a model on this machine: runs pipelines/train.yml, step by step, skipping what has not changed.

stk-ml train flight-delay               a model of pipelines/models
stk-ml train path/to/model.yml          a model file anywhere
stk-ml train --table shop.csv --target churned --time day      no file: one is written for you
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output
from stk_ml.errors import UsageError

if TYPE_CHECKING:
    from stk_ml.workspace import Training


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml train``."""
    parser.add_argument(
        "model", nargs="?", default="", metavar="MODEL", help="name of a model, or path of its YAML file"
    )
    parser.add_argument(
        "--table", default="", metavar="T", help="lake table (zone.table) or CSV/Parquet file, instead of MODEL"
    )
    parser.add_argument("--target", default="", metavar="C", help="with --table: the column to predict")
    parser.add_argument(
        "--time", default="", metavar="COL", help="with --table: column with the time of the prediction"
    )
    parser.add_argument("--now", metavar="TIME", help="time travel: labels known after it do not count (ISO 8601, UTC)")
    parser.add_argument(
        "--force", action="append", default=[], metavar="STEP", help="run this step even when cached (repeatable)"
    )
    parser.add_argument("--lake", metavar="URI", help="folder or az:// of the lake")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow store")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Trains, then shows metrics, verdict, version and where to look."""
    from stk_ml import model_spec
    from stk_ml.cli.common import open_workspace
    from stk_ml.cli.events import Watcher

    if bool(args.model) == bool(args.table):
        raise UsageError(
            "give either MODEL or --table", hint="stk-ml train flight-delay, or stk-ml train --table T --target C"
        )
    if args.table and not args.target:
        raise UsageError("--table needs --target", hint="the column to predict: --target C")
    if args.model and (args.target or args.time):
        raise UsageError("--target and --time go with --table", hint="a model file names its own target and time")
    try:
        now = model_spec.instant(args.now) if args.now else None
    except ValueError as error:
        raise UsageError(f"--now: {error}", hint="write 2013-07-01 or 2013-07-01T06:00") from error
    workspace = open_workspace(args, lake=args.lake, tracking_uri=args.tracking_uri)
    with Watcher(out) as watcher:
        training = workspace.train(
            args.model,
            table=args.table,
            target=args.target,
            time=args.time,
            now=now,
            force=args.force,
            on_event=watcher,
        )
    out.document(document(training))
    show(training, out)
    return 0


def document(training: Training) -> dict[str, Any]:
    """The result of a training for machines."""
    registration = training.registration
    return {
        "model": registration.version.name,
        "version": registration.version.version,
        "digest": registration.version.digest,
        "aliases": registration.version.aliases,
        "verdict": registration.verdict,
        "metrics": training.evaluation.metrics,
        "notes": notes(training),
        "steps": {name: {"status": step.status, "seconds": step.seconds} for name, step in training.run.steps.items()},
        "model_file": training.model_file,
        "card": training.card,
        "tracking_uri": registration.tracking_uri,
    }


def show(training: Training, out: Output) -> None:
    """The result of a training for people."""
    from stk_ml.cli.common import interval

    evaluation, registration = training.evaluation, training.registration
    names = [
        name
        for name in ("auc", "log_loss", "brier", "mae", "rmse", "r2")
        if any(name in m.values for m in evaluation.metrics)
    ]
    rows = []
    for metrics in evaluation.metrics:
        if metrics.group == "all" or metrics.group.startswith("month="):
            group = metrics.group.removeprefix("month=")
            values = [interval(metrics.values.get(name)) for name in names]
            rows.append([metrics.split, group, f"{metrics.rows:,}", f"{metrics.positives:.3f}", *values])
    share = "positive" if evaluation.problem == "binary" else "mean target"
    out.table(
        f"{evaluation.model}: metrics with 95% intervals",
        ["split", "rows of", "rows", share, *names],
        rows,
        right=(2, 3),
    )
    version, verdict = registration.version, registration.verdict
    verb = "promoted" if verdict.promote else ("kept" if verdict.outcome == "same" else "not promoted")
    out.line(f"gate      {verb} ({verdict.outcome}): {verdict.reason}")
    for check in verdict.checks:
        out.line(f"          {_MARK[check.passed]} {check.name}: {check.detail}")
    aliases = ", ".join(version.aliases) or "no alias"
    out.line(f"version   {version.name}:{version.version} [{aliases}]  digest {version.digest[:12]}")
    out.line(f"card      {training.card}")
    out.line(f"look      {_mlflow()} ui --backend-store-uri {registration.tracking_uri}")
    out.line(f"model     {training.model_file}")
    for note in notes(training):
        out.line(f"note      {note}")


def _mlflow() -> str:
    """The command ``mlflow``, with its folder when the shell would not find it."""
    beside = Path(sys.executable).with_name("mlflow")
    return str(beside) if beside.is_file() and shutil.which("mlflow") is None else "mlflow"


def notes(training: Training) -> list[str]:
    """What a reader of the metrics must know."""
    from stk_ml import model_spec

    spec = model_spec.load(training.model_file)
    found = []
    if not spec.timed:
        found.append(
            "the split is random: rows of one period stand on both sides of it, so these numbers flatter whenever the "
            "data drifts with time; name the time column (--time COL, or data.as_of) to measure on the newest rows"
        )
    if spec.learner.estimator == "lightgbm" and spec.learner.refit:
        found.append("the model was fitted again on train and validation together: only the test rows are new to it")
    return found


_MARK = {True: "ok  ", False: "FAIL", None: "?   "}
