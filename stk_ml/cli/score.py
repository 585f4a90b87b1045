"""Scores a file of rows: CSV, Parquet (or a folder of it), JSON, JSON lines or Arrow.

stk-ml score flight-delay day.parquet               the champion's scores, in day-scored.parquet
stk-ml score flight-delay:3 day.csv --out -         of version 3, as CSV on standard output
stk-ml score path/to/model day.csv --explain        of a model's folder, with SHAP values
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output

if TYPE_CHECKING:
    from stk_ml.artifact.model import TrainedModel
    from stk_ml.serving.batch import BatchResult


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml score``."""
    parser.add_argument("model", metavar="MODEL", help="NAME, NAME@champion, NAME:3, or the folder of a model")
    parser.add_argument("file", type=Path, metavar="FILE", help="the rows; the suffix says what it holds")
    parser.add_argument(
        "--out", default="", metavar="OUT", help=".parquet, .csv or .jsonl; - for CSV on standard output"
    )
    parser.add_argument(
        "--unseen", choices=("missing", "error"), default="missing", help="what a category new to the model counts as"
    )
    parser.add_argument("--explain", action="store_true", help="add SHAP values (LightGBM)")
    columns = parser.add_mutually_exclusive_group()
    columns.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns to write beside the score (default: those that the model does not take)",
    )
    columns.add_argument("--all-columns", action="store_true", help="write all columns of the file")
    parser.add_argument("--score-column", default="score", metavar="NAME", help="name of the column with the score")
    parser.add_argument("--batch-rows", type=int, default=65_536, metavar="N", help="most rows in memory at a time")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow store")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Scores, then shows how many rows, how fast, where, and what the model had not seen."""
    from stk_ml.serving.batch import score_file

    model = _load(args)
    with _Bar(out, args.file.name) as bar:
        result = score_file(
            model,
            args.file,
            args.out,
            unseen=args.unseen,
            explain=args.explain,
            keep=args.keep,
            all_columns=args.all_columns,
            score_column=args.score_column,
            batch_rows=args.batch_rows,
            progress=bar.update,
        )
    out.document(
        {
            "model": model.name,
            "digest": model.digest,
            **asdict(result),
            "rows_per_second": round(result.rows_per_second, 1),
        }
    )
    _show(result, out)
    return 0


def _load(args: argparse.Namespace) -> TrainedModel:
    """The model of a folder, which needs no MLflow, or of the registry."""
    from stk_ml.artifact import manifest
    from stk_ml.artifact.model import TrainedModel
    from stk_ml.cli.common import open_workspace

    folder = Path(args.model)
    if (folder / manifest.NAME).is_file() or folder.is_absolute() or len(folder.parts) > 1:
        return TrainedModel.load(folder)
    return open_workspace(args, tracking_uri=args.tracking_uri).load_model(args.model)


def _show(result: BatchResult, out: Output) -> None:
    mean = "-" if result.mean_score is None else f"{result.mean_score:.4f}"
    unseen = ", ".join(f"{name} {count:,}" for name, count in result.unseen.items())
    where = "standard output" if result.out == "-" else result.out
    text = f"{result.rows:,} rows in {result.seconds:.1f} s ({result.rows_per_second:,.0f} rows/s), mean score {mean}"
    say = out.say if result.out == "-" else out.line
    say(f"{text}, to {where}" + (f"; unseen categories: {unseen}" if unseen else ""))


class _Bar:
    """Progress on standard error while somebody watches."""

    def __init__(self, out: Output, name: str) -> None:
        self._progress, self._name = out.progress(), name
        self._task: Any = None

    def __enter__(self) -> _Bar:
        if self._progress is not None:
            self._progress.start()
            self._task = self._progress.add_task(f"{self._name}", total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, rows: int, part: float) -> None:
        """Shows how far it is."""
        if self._progress is not None:
            speed = rows / max(self._progress.tasks[0].elapsed or 0.0, 1e-3)
            text = f"{self._name}  {rows:,} rows  {speed:,.0f} rows/s"
            self._progress.update(self._task, completed=part, description=text)
