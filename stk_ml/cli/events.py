"""Shows the steps of a pipeline while they run: a live line each on a terminal, one line per ended step elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output

if TYPE_CHECKING:
    from rich.progress import Progress

    from stk_ml.orchestration.protocol import StepEvent

_MARKS = {"ran": "done", "cached": "cached", "failed": "FAILED", "skipped": "skipped"}


class Watcher:
    """Called with each :class:`StepEvent`; a context manager, so that the display ends with the run.

    While a step runs in this process, standard output and error belong to its log: what is shown goes to a copy of
    standard error made before.
    """

    def __init__(self, out: Output) -> None:
        self._quiet = out.quiet
        self._rows: dict[str, Any] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Watcher:
        self._terminal = (
            os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8") if _real(sys.stderr) else sys.stderr
        )
        if not self._quiet and self._terminal.isatty():
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.description}"), TimeElapsedColumn())
            self._progress = Progress(*columns, console=Console(file=self._terminal))
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        if self._terminal is not sys.stderr:
            self._terminal.close()

    def __call__(self, event: StepEvent) -> None:
        """Shows one event."""
        if self._quiet:
            return
        if self._progress is not None:
            self._live(self._progress, event)
        elif event.kind != "started":
            line = f"{event.done}/{event.total}  {event.step:<10} {_MARKS[event.kind]:<7} {event.seconds:6.1f} s"
            print(line, file=self._terminal, flush=True)

    def _live(self, progress: Progress, event: StepEvent) -> None:
        if event.step not in self._rows:
            self._rows[event.step] = progress.add_task(f"{event.step:<10} running", total=1)
        if event.kind != "started":
            progress.update(self._rows[event.step], description=f"{event.step:<10} {_MARKS[event.kind]}", completed=1)


def _real(stream: Any) -> bool:
    try:
        return bool(stream.fileno() >= 0)
    except (AttributeError, OSError, ValueError):
        return False
