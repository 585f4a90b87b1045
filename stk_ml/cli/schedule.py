"""Runs pipelines by the clock, from Azure ML schedule files (pipelines/schedules/*.yml).

stk-ml schedule apply [FILE...]          record schedules; default all of pipelines/schedules
stk-ml schedule list                     what is applied, when it ran last and is due next
stk-ml schedule run [NAME...]            run what is due, in the foreground, until Ctrl+C
stk-ml schedule run NAME --once          run it now if it is due, and end: for cron
stk-ml schedule crontab [NAME...]        lines for a crontab that do the same
stk-ml schedule delete NAME              forget a schedule

What was missed while nothing ran is caught up by one run. On Azure ML: az ml schedule create -f FILE.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output
from stk_ml.errors import StkMlError, UsageError

if TYPE_CHECKING:
    from stk_ml.orchestration.schedule import Schedule
    from stk_ml.orchestration.scheduler import Applied, LastRun, Schedules


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``stk-ml schedule``."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    apply = commands.add_parser("apply", parents=[common], help="record schedules: from now on they count")
    apply.add_argument("files", nargs="*", type=Path, metavar="FILE", help="an Azure ML schedule (YAML)")
    apply.set_defaults(run=run_apply)

    commands.add_parser("list", parents=[common], help="what is applied").set_defaults(run=run_list)

    run = commands.add_parser("run", parents=[common], help="run what is due, until Ctrl+C")
    run.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all that are applied)")
    run.add_argument("--once", action="store_true", help="run what is due now, one after the other, and end")
    run.set_defaults(run=run_run)

    crontab = commands.add_parser("crontab", parents=[common], help="print lines for a crontab")
    crontab.add_argument("names", nargs="*", metavar="NAME", help="of these (default: all that are applied)")
    crontab.set_defaults(run=run_crontab)

    delete = commands.add_parser("delete", parents=[common], help="forget a schedule")
    delete.add_argument("name", metavar="NAME")
    delete.set_defaults(run=run_delete)


def run_apply(args: argparse.Namespace, out: Output) -> int:
    """Records schedules; either all of those that are given are good, or none is recorded."""
    from stk_ml.cli.common import open_workspace
    from stk_ml.orchestration.schedule import load_schedule

    folder = open_workspace(args).settings.pipelines / "schedules"
    files = args.files or sorted(folder.glob("*.yml"))
    if not files:
        raise UsageError(f"no schedules in {folder}", hint="name the file of one: stk-ml schedule apply FILE")
    found = [load_schedule(file) for file in files]
    names = [schedule.name for schedule in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two of the files are schedules of the name {twice[0]}", hint="one of a name at a time")
    schedules, now = _schedules(args), _now()
    applied = [schedules.apply(file, now=now) for file in files]
    out.document([_row(schedules, each, now) for each in applied])
    for each in applied:
        out.line(f"{each.schedule.name}: next {_moment(each.next(now), each)}")
        for note in each.schedule.notes:
            out.line(f"note  {note}")
    return 0


def run_list(args: argparse.Namespace, out: Output) -> int:
    """Lists the applied schedules."""
    schedules, now = _schedules(args), _now()
    rows = [_safe_row(schedules, name, now) for name in schedules.names()]
    out.document(rows)
    if not rows:
        out.line("no schedule is applied: stk-ml schedule apply [FILE]")
        return 0
    shown = [
        [row["name"], row["when"], Path(row["job"]).name, row["last"], row["status"], row["next"], row["note"]]
        for row in rows
    ]
    out.table("", ["schedule", "when", "runs", "last for", "", "next", ""], shown)
    return 0


def run_run(args: argparse.Namespace, out: Output) -> int:
    """Runs what is due, once or until it is told to end."""
    schedules = _schedules(args)
    names = args.names or schedules.names()
    for name in args.names:
        schedules.get(name)
    if not names and args.once:
        raise UsageError("no schedule is applied", hint="stk-ml schedule apply [FILE]")
    return _once(args, out, schedules, names) if args.once else _loop(args, out, schedules)


def run_crontab(args: argparse.Namespace, out: Output) -> int:
    """Prints a line for each schedule."""
    from tzlocal import get_localzone

    from stk_ml.orchestration.trigger import crontab

    schedules, now, machine = _schedules(args), _now(), get_localzone()
    lines = []
    for name in args.names or schedules.names():
        try:
            applied = schedules.get(name)
            fields = crontab(applied.schedule.trigger, machine, now, made=datetime.fromisoformat(applied.at))
        except (StkMlError, ValueError, OverflowError) as error:
            if args.names:
                raise
            out.say(f"{name}: {error}")
            continue
        log = schedules.folder / name / "cron.log"
        command = shlex.join([sys.executable, "-m", "stk_ml", *_words(args), "schedule", "run", name, "--once"])
        # To cron a percent sign is the end of the line.
        lines.append(f"{fields} {command} --quiet >> {shlex.quote(str(log))} 2>&1".replace("%", "\\%"))
    out.document(lines)
    for line in lines:
        out.line(line)
    return 0


def run_delete(args: argparse.Namespace, out: Output) -> int:
    """Forgets a schedule."""
    _schedules(args).delete(args.name)
    out.document({"deleted": args.name})
    out.line(f"{args.name} is not run any more")
    return 0


def _once(args: argparse.Namespace, out: Output, schedules: Schedules, names: list[str]) -> int:
    from stk_ml.cli.common import open_workspace
    from stk_ml.cli.events import Watcher
    from stk_ml.orchestration.parse import load_pipeline

    def execute(schedule: Schedule) -> str:
        with Watcher(out) as watcher:
            return open_workspace(args).runner(watcher).run(load_pipeline(schedule.job), schedule.inputs).id

    found: dict[str, LastRun | None] = {}
    for name in names:
        try:
            found[name] = run = schedules.run_due(name, execute, clock=_now)
        except OverflowError as error:
            out.say(f"{name}: its times cannot be told: {error}")
            continue
        out.line(f"{name}: {f'ran for {run.due}' if run else 'is not due, or another process runs it'}")
    out.document(found)
    return 0


def _loop(args: argparse.Namespace, out: Output, schedules: Schedules) -> int:
    """Each run is a process of its own: what it takes in memory goes with it, and it outlives a kill of this one."""
    from stk_ml.orchestration.scheduler import loop

    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    quiet = ["--quiet"] if out.quiet else []

    def launch(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "stk_ml", *_words(args), "schedule", "run", name, "--once", *quiet]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2)  # noqa: S603

    out.say("runs what is due; Ctrl+C ends it")
    left = loop(schedules, launch, names=args.names, clock=_now, wait=told.wait, tell=out.say)
    for name, process in left.items():
        out.say(f"{name}: is still running; waiting for its end")
        process.send_signal(signal.SIGINT)  # type: ignore[attr-defined]
        process.wait()  # type: ignore[attr-defined]
    out.document({"ended": sorted(left)})
    return 0


def _schedules(args: argparse.Namespace) -> Schedules:
    from stk_ml.orchestration.scheduler import Schedules
    from stk_ml.settings import Settings

    settings = Settings.load(getattr(args, "project", None), profile=getattr(args, "profile", None))
    return Schedules(settings.schedules)


def _words(args: argparse.Namespace) -> list[str]:
    """The common flags that a process of ours gets too; a crontab runs in another folder."""
    from stk_ml.settings import Settings

    profile = getattr(args, "profile", None)
    project = Settings.load(getattr(args, "project", None), profile=profile).project
    return ["--project", str(project), *(["--profile", profile] if profile else [])]


def _row(schedules: Schedules, applied: Applied, now: datetime) -> dict[str, Any]:
    schedule, last = applied.schedule, schedules.last(applied.schedule.name)
    status: str = last.status if last else ""
    if status == "running" and not schedules.busy(schedule.name):
        status = "killed"
    return {
        "name": schedule.name,
        "when": _when(schedule),
        "job": schedule.job,
        "inputs": schedule.inputs,
        "last": last.due if last else "",
        "status": status,
        "error": last.error if last else "",
        "next": _moment(applied.next(now), applied),
        "note": "its file has changed: apply it again" if applied.changed else "",
    }


def _safe_row(schedules: Schedules, name: str, now: datetime) -> dict[str, Any]:
    """A row also of a schedule whose files cannot be read: the others are shown all the same."""
    try:
        return _row(schedules, schedules.get(name), now)
    except (StkMlError, ValueError, OverflowError) as error:
        unknown = dict.fromkeys(("when", "job", "last", "next"), "")
        return {"name": name, **unknown, "inputs": {}, "status": "unreadable", "error": str(error), "note": str(error)}


def _when(schedule: Schedule) -> str:
    trigger = schedule.trigger
    if trigger.type == "cron":
        return f"{trigger.expression} ({trigger.time_zone})"
    often = f"every {trigger.interval} {trigger.frequency}s" if trigger.interval > 1 else f"every {trigger.frequency}"
    return f"{often}{f', {trigger.expression}' if trigger.expression else ''} ({trigger.time_zone})"


def _moment(moment: datetime | None, applied: Applied) -> str:
    """A time in the schedule's own zone; a dash for never."""
    return moment.astimezone(applied.schedule.trigger.zone).isoformat(timespec="minutes") if moment else "-"


def _now() -> datetime:
    return datetime.now(UTC)
