"""Retrains a model when its governor says so: enough alarming windows, or a person with --why, and nothing against it.

stk-ml retrain MODEL                     decides on the verdicts of stk-ml monitor; does nothing when all is well
stk-ml retrain MODEL --why "new tariff"  a person asks: no cooldown and no breaker, but one run, the budget, sound data
stk-ml retrain MODEL --status            how it stands, the runs, the decisions with their reasons
stk-ml retrain MODEL --dry-run           what it would decide now

A run trains with the declared split moved to now, passes the gate, and goes to the endpoints of the model as a watched
canary that rolls itself back. A run that was interrupted is gone on with. Exit code 0 for whatever went as it should
(a rest, a promotion, a refusal by the gate), 1 when a person has to look: broken data, an open breaker, a canary that
was rolled back.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output
from stk_ml.errors import UsageError

if TYPE_CHECKING:
    from stk_ml.model_spec import ModelSpec
    from stk_ml.retraining.ledger import Entry, RunLedger
    from stk_ml.retraining.policy import Decision, Event, Retrain
    from stk_ml.workspace import Workspace

_LOOKED_BACK = 64


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml retrain``."""
    from stk_ml.cli.deploy import policy_flags

    parser.add_argument("model", metavar="MODEL", help="name of a model, or path of its YAML file")
    parser.add_argument("--now", metavar="TIME", help="time travel: decide and train as of then (ISO 8601, UTC)")
    parser.add_argument("--why", default="", metavar="TEXT", help="ask for a retrain; the same text counts once a day")
    parser.add_argument("--verdict", metavar="FILE", type=Path, help="decide on this verdict too")
    parser.add_argument("--no-deploy", action="store_true", help="leave the endpoints as they are")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--status", action="store_true", help="show state, runs and decisions; change nothing")
    how.add_argument("--dry-run", action="store_true", help="say what would be decided; change nothing")
    parser.add_argument("--last", type=int, default=10, metavar="N", help="with --status: rows shown (default 10)")
    policy_flags(parser.add_argument_group("what a canary must show, at each step"))
    parser.set_defaults(run=run, canary=None, shadow=False)


@dataclass(frozen=True)
class _Model:
    spec: ModelSpec
    file: Path
    ledger: RunLedger


def run(args: argparse.Namespace, out: Output) -> int:
    """Decides, carries out a start, and shows what came of it."""
    from stk_ml.cli.common import open_workspace

    workspace = open_workspace(args)
    model, now = _open(workspace, args.model), _now(args.now)
    if args.status:
        return _status(model, now, args.last, out)
    interrupted = model.ledger.state().running
    if interrupted and not args.dry_run and not model.ledger.worked_on:
        out.say(f"goes on with the retrain of {interrupted.started}, step {interrupted.step}")
        ended = _execute(workspace, model, args, out)
        if ended and not args.why:
            return _show(model, None, ended, out)
    entry = model.ledger.decide(model.spec.retrain, list(_events(model, args, now)), now=now, dry_run=args.dry_run)
    decision, ended = entry.decision, None
    out.say(f"{decision.action}: {decision.reason}")
    if decision.action == "start" and not args.dry_run:
        ended = _execute(workspace, model, args, out)
    return _show(model, entry, ended, out)


def _open(workspace: Workspace, name: str) -> _Model:
    from stk_ml import model_spec
    from stk_ml.retraining.ledger import RunLedger

    file = workspace.model_file(name)
    spec = model_spec.load(file, shown=name if "/" in name else None)
    return _Model(spec, file, RunLedger(workspace.settings.monitoring / spec.name, spec.name))


def _now(text: str | None) -> datetime:
    from stk_ml import model_spec

    try:
        return model_spec.instant(text) if text else datetime.now(UTC)
    except ValueError as error:
        raise UsageError(f"--now: {error}", hint="write 2013-07-01 or 2013-07-01T06:00") from error


def _events(model: _Model, args: argparse.Namespace, now: datetime) -> list[Event]:
    """The newest verdicts by the end of their window, and what the person asks for."""
    from stk_ml.contracts import read
    from stk_ml.monitor_state import MonitorVerdict
    from stk_ml.retraining.policy import Alert, iso

    files = sorted((model.ledger.folder / "verdicts").glob("[!.]*.json"))[-_LOOKED_BACK:]
    verdicts = [read(MonitorVerdict, file) for file in [*files, *([args.verdict] if args.verdict else [])]]
    for verdict in verdicts:
        if verdict.model not in ("", model.spec.name):
            raise UsageError(f"the verdict on {verdict.model} says nothing about {model.spec.name}")
        if not (verdict.window_start and verdict.window_end):
            hint = "that of two tables tells no time: stk-ml monitor MODEL looks at what was scored"
            raise UsageError("a verdict without the times of its window cannot be decided on", hint=hint)
    events: list[Event] = [each for each in verdicts if each.window_end <= iso(now)]
    if args.why:
        key = f"manual-{iso(now)[:10]}-{sha256(args.why.encode()).hexdigest()[:10]}"
        events.append(Alert(key, "manual", iso(now), args.why))
    return events


def _execute(workspace: Workspace, model: _Model, args: argparse.Namespace, out: Output) -> Retrain | None:
    from stk_ml.cli.deploy import rollout_policy
    from stk_ml.cli.retrain_steps import WorkspaceSteps
    from stk_ml.retraining import trigger

    policy = None if args.no_deploy else rollout_policy(args)
    steps = WorkspaceSteps(workspace, model.spec, model.file, model.ledger.folder, policy, out)
    return trigger.execute(model.ledger, model.spec, steps, clock=_clock(args.now))


def _clock(now: str | None) -> Any:
    """The time; under --now it stands at that time."""
    moment = _now(now) if now else None
    return lambda: moment or datetime.now(UTC)


def _show(model: _Model, entry: Entry | None, ended: Retrain | None, out: Output) -> int:
    decision: Decision | None = entry.decision if entry else None
    out.document({"model": model.spec.name, "decision": decision, "number": entry.id if entry else 0, "run": ended})
    if decision:
        until = f" (until {decision.until})" if decision.until else ""
        out.line(f"decision  {decision.action}{until}: {decision.reason}")
        if decision.notify:
            out.line("look      a person has to look into it")
    if ended:
        made = f"version {ended.version}, " if ended.version else ""
        out.line(f"run       {ended.id}: {made}{ended.outcome}: {ended.reason}")
    if decision and decision.action == "start" and not ended:
        out.line("run       not carried out here: another process works on it, or this was a dry run")
    failed = ended is not None and ended.outcome in ("rolled_back", "failed", "timeout")
    return 1 if failed or (decision is not None and decision.notify) else 0


def _status(model: _Model, now: datetime, last: int, out: Output) -> int:
    from stk_ml.retraining import policy

    ledger, spec = model.ledger, model.spec.retrain
    state = policy.expired(ledger.state(), now, alive=ledger.worked_on)
    status, decision = policy.status(state, spec, now), policy.decide(state, spec, now)
    paused = policy.paused_until(state, spec, now) if status in ("open", "cooling") else ""
    runs, decisions = ledger.runs()[-last:][::-1], ledger.decisions(last)
    out.document(
        {
            "model": model.spec.name,
            "status": status,
            "step": state.running.step if state.running else "",
            "until": paused,
            "worked_on": ledger.worked_on,
            "next": decision,
            "windows": state.windows[-spec.of :],
            "alerts": state.alerts,
            "runs": [{"id": run.id, **asdict(run)} for run in runs],
            "decisions": decisions,
        }
    )
    step = f" ({state.running.step})" if state.running else f" until {paused}" if paused else ""
    idle = "" if ledger.worked_on or not state.running else "; nobody works on it: stk-ml retrain goes on with it"
    out.line(f"{model.spec.name}: {status}{step}: {decision.reason}{idle}")
    until = f", looks again {decision.until}" if decision.until else ""
    out.line(f"next      {decision.action}{until}")
    out.line(f"policy    {_policy(model.spec)}")
    if runs:
        rows = [
            [run.id, run.started, run.version or "", run.outcome or run.step, run.because, run.reason] for run in runs
        ]
        out.table("runs, newest first", ["run", "started", "version", "outcome", "because", "reason"], rows)
    if decisions:
        rows = [[each.id, each.time, each.decision.action, each.decision.reason] for each in decisions]
        out.table("decisions, newest first", ["number", "time", "decision", "reason"], rows, right=(0,))
    return 0


def _policy(spec: ModelSpec) -> str:
    retrain = spec.retrain
    return (
        f"{retrain.windows} of {retrain.of} windows and the newest; cooldown {retrain.cooldown}; "
        f"{retrain.per_month} a month; breaker after {retrain.breaker} useless ones for {retrain.breaker_pause}"
    )
