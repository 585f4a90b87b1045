"""Shows a canary rollout while it is watched: a live line on a terminal, one line per look elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output

if TYPE_CHECKING:
    from stk_ml.deployment.rollout import Decision, Rollout

_MARKS = {True: "ok", False: "FAIL", None: "?"}


class Canary:
    """Called with the rollout and each decision; a context manager, so that the display ends with the rollout."""

    def __init__(self, out: Output) -> None:
        self._out, self._progress = out, out.progress()
        self._task: Any = None

    def __enter__(self) -> Canary:
        if self._progress:
            self._progress.start()
            self._task = self._progress.add_task("canary", total=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def __call__(self, rollout: Rollout, decision: Decision) -> None:
        """Shows one look."""
        policy = rollout.policy
        if self._progress:
            done = min(1.0, decision.requests / policy.min_requests)
            if policy.min_seconds:
                done = min(done, (decision.time - rollout.since) / policy.min_seconds)
            text = f"{rollout.challenger} at {rollout.share}%: {decision.reason}"
            self._progress.update(self._task, completed=done, description=text[:100])
        if decision.action != "wait" or (decision.checks and not self._progress):
            self._out.say(f"{policy.steps[decision.step]:>3}%  {decision.action:<8}  {decision.reason}")
            if decision.action == "rollback":
                for check in decision.checks:
                    self._out.say(f"      {_MARKS[check.passed]:<4} {check.name}: {check.detail}")


def shown(rollout: Rollout) -> str:
    """How a rollout stands, in one line."""
    pair = f"{rollout.champion} -> {rollout.challenger}"
    if rollout.status == "running":
        last = f"; {rollout.history[-1].reason}" if rollout.history else ""
        return f"{pair}: running at {rollout.share}%{last}"
    return f"{pair}: {rollout.status.replace('_', ' ')}; {rollout.reason}"
