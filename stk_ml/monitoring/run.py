"""Looks at the windows of a model that nobody has looked at yet, each exactly once, whatever is killed when.

A look counts from the moment at which ``monitor.json`` is replaced: that one write holds the verdict, the budget of
false alarms after it and the promise to tell it. Telling is files, which can be written twice, and an event in the log,
which is looked for before it is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from stk_ml.monitor_state import MonitorVerdict
from stk_ml.monitoring import report
from stk_ml.monitoring.budget import Budget
from stk_ml.monitoring.events import Announcer
from stk_ml.monitoring.shapes import Shape
from stk_ml.monitoring.store import Look, MonitorFolder, State
from stk_ml.monitoring.windows import LogWindows, Window


class Judge(Protocol):
    """Says what a window says; :class:`stk_ml.monitoring.judge.Judge`."""

    def __call__(
        self, window: Window, budget: Budget | None, past: Sequence[MonitorVerdict]
    ) -> tuple[MonitorVerdict, Budget, tuple[Shape, ...]]:
        """The verdict, the budget after it, and the counts to draw."""


def run(
    folder: MonitorFolder,
    windows: LogWindows,
    judge: Judge,
    announcer: Announcer,
    *,
    now: Callable[[], float],
    since: float | None = None,
    until: float | None = None,
    settle: float = 0.0,
) -> Iterator[Look]:
    """Looks at each window that has ended and was not looked at; each look is there before the next one begins.

    Args:
        folder: where verdicts, reports and state are.
        windows: of the model's telemetry.
        judge: decides.
        announcer: writes the event of each verdict.
        now: unix seconds.
        since: windows that begin before it are left out, unix seconds; default from the first scored row on. It never
            goes back behind a window that was looked at.
        until: windows that end after it are left for later; default now.
        settle: seconds after its end until a window is looked at, so that what was scored in it has reached the log.

    Raises:
        UsageError: another process looks at the same model.
        TelemetryError, StorageError: the log or the disk failed; the same call goes on from there.
        ArtifactError: the model of a window cannot be had.
    """
    with folder.alone():
        state, past = folder.state(), folder.verdicts()
        if state.pending:
            past = [verdict for verdict in past if verdict.window_end != state.pending.verdict.window_end]
            yield _tell(folder, state, past, announcer, again=True)
            past.append(state.pending.verdict)
        end = min(now() - settle, until if until is not None else now())
        begin = state.until or (since if since is not None else windows.first(end))
        if begin is None:
            return
        for window in windows(max(begin, since or begin), end):
            verdict, budget, shapes = judge(window, state.budget, past)
            state = State(window.end, budget, Look(verdict, shapes, now()))
            folder.keep(state)
            yield _tell(folder, state, past, announcer)
            past.append(verdict)


def _tell(
    folder: MonitorFolder, state: State, past: Sequence[MonitorVerdict], announcer: Announcer, *, again: bool = False
) -> Look:
    """Tells a look that counts; ``past``: the verdicts before it."""
    look = state.pending
    assert look is not None  # noqa: S101
    folder.tell(look, report.render(look.verdict, look.shapes, [*past, look.verdict]))
    announcer.announce(look, again=again)
    folder.keep(replace(state, pending=None))
    return look
