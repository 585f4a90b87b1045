"""Watches what a deployed model scores: drift, broken data, performance, each with a declared error rate.

stk-ml monitor run MODEL                 looks at every window that has ended and was not looked at
stk-ml monitor list MODEL                the looks so far
stk-ml monitor report MODEL              the report of a look, as one HTML file
stk-ml monitor labels MODEL FILE         records what became of predictions (CSV or Parquet)
stk-ml monitor calibrate MODEL           replays its stable history: false alarms per year, shifts that would be seen
stk-ml monitor compare REF CURRENT       two tables or files, no model needed

A window is as long as monitor.window in the model's file says. Exit code 0 whatever was found; with --fail-on-drift 3
when a column drifted or the model has become worse, else 4 when data is broken.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output
from stk_ml.errors import RegistryError, UsageError

if TYPE_CHECKING:
    from stk_ml.cli.monitor_parts import Monitoring
    from stk_ml.monitor_state import MonitorVerdict
    from stk_ml.monitoring.calibrate import Calibration

#: Exit codes, when asked for.
DRIFT, BROKEN = 3, 4


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``stk-ml monitor``."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    model = argparse.ArgumentParser(add_help=False, parents=[common])
    model.add_argument("model", metavar="MODEL", help="name of a model, or path of its YAML file")
    model.add_argument("--tracking-uri", metavar="URI", help="MLflow store")
    failing = argparse.ArgumentParser(add_help=False)
    failing.add_argument(
        "--fail-on-drift", action="store_true", help=f"exit code {DRIFT} on drift, {BROKEN} on broken data"
    )
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("--deployment", default="", metavar="D", help="look at this deployment alone")

    run = commands.add_parser("run", parents=[model, one, failing], help="look at every window that has ended")
    run.add_argument("--since", metavar="TIME", help="leave out windows that begin before it (ISO 8601, UTC)")
    run.add_argument(
        "--until", "--window-end", dest="until", metavar="TIME", help="leave windows that end after it for later"
    )
    run.add_argument("--now", metavar="TIME", help="time travel: look as of then")
    run.add_argument(
        "--settle", type=float, default=60.0, metavar="S", help="seconds after its end until a window is looked at"
    )
    run.add_argument("--no-mlflow", action="store_true", help="keep reports in the folder alone")
    run.add_argument("--no-joint", action="store_true", help="columns one by one, no classifier over all of them")
    run.set_defaults(run=run_run)

    listing = commands.add_parser("list", parents=[model, one], help="the looks so far, newest last")
    listing.add_argument("--last", type=int, default=20, metavar="N", help="so many (default 20)")
    listing.set_defaults(run=run_list)

    report = commands.add_parser("report", parents=[model, one], help="the report of a look, as one HTML file")
    report.add_argument("--window-end", default="", metavar="TIME", help="end of its window (default: the newest)")
    report.add_argument("--out", type=Path, metavar="HTML", help="write it there")
    report.set_defaults(run=run_report)

    labels = commands.add_parser("labels", parents=[model], help="record what became of predictions")
    labels.add_argument(
        "file", type=Path, metavar="FILE", help="prediction_id (or row_id, or request_id and row), outcome, known_time"
    )
    labels.add_argument("--now", metavar="TIME", help="time travel: record as of then")
    labels.set_defaults(run=run_labels)

    calibrate = commands.add_parser(
        "calibrate",
        parents=[model],
        help="false alarms per year on its stable history",
        description="Replays the columns and the score over the stable history of the model that serves. The "
        "classifier over all columns takes half of the declared false alarms and is not replayed; alarms of "
        "performance have levels of their own: 5%% per metric since the model went live, 2%% per block of 28 days.",
    )
    calibrate.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws")
    calibrate.add_argument("--no-joint", action="store_true", help="as monitor run --no-joint")
    calibrate.set_defaults(run=run_calibrate)

    compare = commands.add_parser("compare", parents=[common, failing], help="two tables or files, no model needed")
    compare.add_argument("reference", metavar="REFERENCE", help="lake table (zone.table), CSV or Parquet file")
    compare.add_argument("current", metavar="CURRENT", help="the same")
    compare.add_argument("--target", default="", metavar="C", help="column with the outcome")
    compare.add_argument("--prediction", default="", metavar="C", help="column with the score")
    compare.add_argument("--time", default="", metavar="C", help="column with the time of each row")
    compare.add_argument("--out", type=Path, metavar="HTML", help="write a report")
    compare.set_defaults(run=run_compare)


def run_run(args: argparse.Namespace, out: Output) -> int:
    """Looks at what has not been looked at, and shows what was seen."""
    if not math.isfinite(args.settle):
        raise UsageError(f"--settle: {args.settle} is no number of seconds", hint="write --settle 60")
    monitoring = _open(args)
    moment = _seconds(args.now, "--now")
    since, until = _seconds(args.since, "--since"), _seconds(args.until, "--until")
    settle = 0.0 if moment else max(args.settle, 0.0)
    found: list[MonitorVerdict] = []
    for look in monitoring.run(lambda: moment or time.time(), since, until, settle, joint=not args.no_joint):
        found.append(look.verdict)
        out.say(f"looked at the window up to {_minute(look.verdict)}: {_state(look.verdict)}")
        if not args.no_mlflow:
            try:
                monitoring.log(look)
            except RegistryError as error:
                out.say(f"not kept in MLflow: {error}")
    out.document(found)
    if not found:
        out.line(monitoring.why_nothing(moment or time.time(), settle))
    _table(found, out)
    if found:
        out.line(f"report  {monitoring.folder.report_file(found[-1].window_end)}")
    return _code(found) if args.fail_on_drift else 0


def run_list(args: argparse.Namespace, out: Output) -> int:
    """Lists the looks."""
    folder = _open(args).folder
    found = folder.verdicts()[-max(args.last, 1) :]
    out.document(found)
    if not found:
        out.line(f"nobody has looked at {folder.path.name} yet: stk-ml monitor run {folder.model}")
    _table(found, out)
    return 0


def run_report(args: argparse.Namespace, out: Output) -> int:
    """Writes the report of a look anew, with the looks before it."""
    from stk_ml.monitoring import report
    from stk_ml.monitoring.store import write_page

    folder = _open(args).folder
    look = folder.look(_iso(args.window_end, "--window-end"))
    end = look.verdict.window_end
    file = args.out or folder.report_file(end)
    write_page(file, report.render(look.verdict, look.shapes, folder.verdicts(end)))
    out.document({"report": str(file), "verdict": look.verdict})
    for line in report.advice(look.verdict):
        out.line(line)
    out.line(f"report  {file}")
    return 0


def run_labels(args: argparse.Namespace, out: Output) -> int:
    """Records labels."""
    if not args.file.is_file():
        raise UsageError(f"{args.file} is no file", hint="give CSV with a header, or Parquet")
    moment = _seconds(args.now, "--now")
    now = datetime.fromtimestamp(moment, UTC) if moment else datetime.now(UTC)
    recorded = _open(args).record(args.file, now)
    out.document(recorded)
    if not recorded.rows:
        out.line(f"{args.file} holds a header and no labels")
        return 0
    count = f"{recorded.rows:,} label{'' if recorded.rows == 1 else 's'}"
    out.line(f"{count} recorded" if not recorded.again else f"{count} had been recorded already")
    out.line(f"{recorded.matched or 0:,} predictions that the log holds so far are named by them")
    if not recorded.matched:
        out.line("none of them: labels name a prediction by its row_id, or by the request_id of the answer and its row")
    return 0


def run_calibrate(args: argparse.Namespace, out: Output) -> int:
    """Replays the stable history of the model that serves: false alarms, and the shifts that would be seen."""
    from stk_ml.contracts import write

    monitoring = _open(args)
    found = monitoring.calibrate(args.seed, joint=not args.no_joint)
    write(found, monitoring.folder.path / "calibration.json")
    out.document(found)
    rate, window = found.per_year, monitoring.settings.window
    measured = f"{rate.value:.2f} (95%: {rate.low:.2f} to {rate.high:.2f})"
    out.line(f"false alarms per year  {measured}, declared {found.declared:g}: {_held(found)}")
    if not args.no_joint:
        out.line(
            "of the columns         half of what is declared; the other half is the joint view's, not replayed here"
        )
    out.line(f"looks                  {found.looks} windows of {window} without drift, {found.alarms} alarms")
    sizes = sorted({power.rows for power in found.power})
    rows: dict[tuple[str, float], dict[int, float]] = {}
    for power in found.power:
        rows.setdefault((power.column, power.shift), {})[power.rows] = power.power
    shown = [
        [name, f"{shift:g}", *(f"{row.get(size, 0):.0%}" for size in sizes)] for (name, shift), row in rows.items()
    ]
    heads = ["column", "shift", *(f"{size:,} rows" for size in sizes)]
    out.table("chance to see a shift in one window", heads, shown, right=range(1, len(heads)))
    out.line("Shifts are in interquartile ranges (numbers, the score) or shares of the rows (categories, booleans).")
    return 0


def run_compare(args: argparse.Namespace, out: Output) -> int:
    """Compares two tables."""
    from stk_ml.cli import monitor_compare
    from stk_ml.cli.common import open_workspace

    workspace = open_workspace(args)
    tables = [monitor_compare.read(workspace, name) for name in (args.reference, args.current)]
    found = monitor_compare.compare(*tables, target=args.target, prediction=args.prediction, time=args.time)
    out.document(monitor_compare.document(found))
    verdict = monitor_compare.verdict(found)
    out.line(f"{found.verdict}: {verdict.reason}")
    rows = [
        [c.name, c.answer, c.aspect, f"{c.effect.value:.3g}", f"{c.floor:.3g}", f"{c.adjusted:.3g}", c.detail]
        for c in found.columns
    ]
    heads = ["column", "answer", "what moved", "effect", "floor", "adjusted p", ""]
    out.table("", heads, rows, right=(3, 4, 5))
    if shown := monitor_compare.performance(found):
        heads = ["performance", "answer", "reference", "current", "interval", "outcomes known"]
        out.table("", heads, shown, right=(2, 3, 5))
    for note in found.notes:
        out.line(f"note      {note}")
    for reason in found.left_out:
        out.line(f"left out  {reason}")
    if args.out:
        monitor_compare.report(args.out, verdict, found)
        out.line(f"report    {args.out}")
    return DRIFT if args.fail_on_drift and found.verdict == "drift" else 0


def _open(args: argparse.Namespace) -> Monitoring:
    from stk_ml.cli.common import open_workspace
    from stk_ml.cli.monitor_parts import Monitoring

    workspace = open_workspace(args, tracking_uri=args.tracking_uri)
    return Monitoring(workspace, args.model, getattr(args, "deployment", ""))


def _table(found: list[MonitorVerdict], out: Output) -> None:
    rows = [
        [
            _minute(verdict),
            _state(verdict),
            f"{verdict.rows:,}",
            verdict.version or "",
            f"{verdict.spent:.1%}",
            verdict.reason,
        ]
        for verdict in found
    ]
    if rows:
        out.table("", ["window's end", "answer", "rows", "version", "budget", "why"], rows, right=(2, 3, 4))


def _code(found: Sequence[MonitorVerdict]) -> int:
    from stk_ml.monitoring.report import state

    states = set(map(state, found))
    return DRIFT if states & {"drift", "worse"} else BROKEN if "broken" in states else 0


def _minute(verdict: MonitorVerdict) -> str:
    return verdict.window_end[:16].replace("T", " ")


def _held(found: Calibration) -> str:
    """What a measured rate says of the declared one: a short history cannot show a small rate."""
    if not found.held:
        return "NOT held"
    return "held" if found.per_year.high <= found.declared else "not refuted; a longer history would tell more"


def _state(verdict: MonitorVerdict) -> str:
    from stk_ml.monitoring.report import state

    return f"{state(verdict)}, ALARM" if verdict.alarm else state(verdict)


def _seconds(text: str | None, flag: str) -> float | None:
    from stk_ml import model_spec

    try:
        return model_spec.instant(text).timestamp() if text else None
    except ValueError as error:
        raise UsageError(f"{flag}: {error}", hint="write 2013-07-01 or 2013-07-01T06:00") from error


def _iso(text: str, flag: str) -> str:
    seconds = _seconds(text, flag)
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
