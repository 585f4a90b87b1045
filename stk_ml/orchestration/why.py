"""Why a step ran, or did not: its key parts in the last run against those in the run before."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from stk_ml.errors import UnknownNameError
from stk_ml.orchestration import record
from stk_ml.orchestration.digest import differing
from stk_ml.orchestration.protocol import KeyParts
from stk_ml.orchestration.record import RunRecord, StepRecord

#: Runs that are looked at, from the newest back.
_LOOK_BACK = 200


@dataclass(frozen=True)
class Change:
    """One key part that changed: its kind (command, parameter, input, code, ...), its name, and a text for people."""

    kind: str
    name: str
    detail: str


@dataclass(frozen=True)
class Why:
    """Why a step did what it did in the last run.

    Attributes:
        step, pipeline, run: names of the step and pipeline, id of the last run that came to the step.
        before: id of the run that it is compared with; empty when there is none.
        status: what the step did: ran, cached, failed, skipped, running.
        reason: one sentence.
        changes: what changed since the run before.
    """

    step: str
    pipeline: str
    run: str
    before: str
    status: str
    reason: str
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        reason = "changed:" if self.changes and self.reason.startswith("changed") else self.reason
        listed = "".join(f"\n  {change.detail}" for change in self.changes)
        versus = f", compared with {self.before}" if self.changes else ""
        return f"{self.step} of {self.pipeline} ({self.status} in run {self.run}{versus}): {reason}{listed}"


def why(cache: Path, step: str, *, pipeline: str | None = None) -> Why:
    """Says why a step ran or was cached in the last run.

    Args:
        cache: folder of the cache.
        step: name of the step.
        pipeline: name of its pipeline; default the one that ran the step last.

    Raises:
        UnknownNameError: no run of that pipeline, or none with that step.
    """
    runs = list(islice(record.newest(Path(cache)), _LOOK_BACK))
    if pipeline is not None:
        known = {run.pipeline for run in runs}
        if pipeline not in known:
            raise UnknownNameError("pipeline run", pipeline, known)
        runs = [run for run in runs if run.pipeline == pipeline]
    with_step = [run for run in runs if step in run.steps and run.steps[step].parts is not None]
    if not with_step:
        names = {name for run in runs for name in run.steps}
        hint = "" if names else "no pipeline has run yet: stk-ml pipeline run FILE.yml"
        raise UnknownNameError("step", step, names, hint=hint)
    last = with_step[0]
    before = next((run for run in with_step[1:] if run.file == last.file), None)
    changes = _changes(before.steps[step].parts, last.steps[step].parts) if before else ()
    return Why(
        step=step,
        pipeline=last.pipeline,
        run=last.id,
        before=before.id if before else "",
        status=last.steps[step].status,
        reason=_reason(last.steps[step], before, step, changes),
        changes=changes,
    )


def _reason(now: StepRecord, before: RunRecord | None, step: str, changes: tuple[Change, ...]) -> str:
    if now.status == "cached":
        return "cached: nothing it depends on has changed since it was made"
    if now.parts is not None and not now.parts.is_deterministic:
        return "never cached: its component says is_deterministic: false"
    if now.forced:
        return "it was forced to run"
    if before is None:
        return "first run of this step"
    if changes:
        return "changed: " + "; ".join(change.detail for change in changes)
    if before.steps[step].status not in ("ran", "cached"):
        return f"nothing changed, but in the run before it {_ENDED.get(before.steps[step].status, 'did not end')}"
    return "nothing changed, but its cached outputs were removed or altered"


_ENDED = {"failed": "failed"}


def _changes(old: KeyParts | None, new: KeyParts | None) -> tuple[Change, ...]:
    if old is None or new is None:
        return ()
    found: list[Change] = []
    if old.command != new.command:
        found.append(Change("command", "", f"command {old.command.strip()!r} -> {new.command.strip()!r}"))
    for kind, before, after in (
        ("parameter", old.parameters, new.parameters),
        ("environment variable", old.environment_variables, new.environment_variables),
        ("output", old.outputs, new.outputs),
    ):
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                was, now = (repr(side[name]) if name in side else "unset" for side in (before, after))
                found.append(Change(kind, name, f"{kind} {name} {was} -> {now}"))
    for name in sorted({*old.inputs, *new.inputs}):
        if old.inputs.get(name) != new.inputs.get(name):
            source = new.sources.get(name) or old.sources.get(name, "")
            found.append(Change("input", name, f"input {name} from {source}"))
    for kind, before, after in (("code", old.code, new.code), ("stk_ml", old.program, new.program)):
        differ = differing(before, after)
        if differ:
            more = f" and {len(differ) - 5} more" if len(differ) > 5 else ""
            found.append(Change(kind, "", f"{kind}: {', '.join(differ[:5])}{more}"))
    if old.environment != new.environment:
        found.append(Change("environment", "", "environment: its description changed"))
    if old.lock != new.lock:
        found.append(Change("lock", "", "lock: what is installed changed"))
    return tuple(found)
