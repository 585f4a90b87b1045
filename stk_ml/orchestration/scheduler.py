"""Schedules that are applied on this machine: what was applied, when each ran last, and the loop that runs them.

A run is taken under a lock that its process holds to its end, and noted before it begins. So two runners never run one
time twice; of a process that was killed the system frees the lock, and the run that it left counts as interrupted and
is tried once more. However many times were missed, one run catches up on them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from stk_ml import contracts, file_locks
from stk_ml.errors import StkMlError, UnknownNameError
from stk_ml.orchestration.schedule import Schedule, load_schedule
from stk_ml.orchestration.trigger import following, latest

_APPLIED, _LAST, _LOCK = "schedule.json", "last.json", ".lock"
#: How often a run is begun that is killed each time.
_ATTEMPTS = 2
#: Seconds to wait for the lock: longer than anyone holds it only to look.
_PATIENCE = 1.0
#: Longest seconds between two looks (a clock may jump, a schedule be applied), and before the same is launched again.
LOOK, AGAIN = 30.0, 60.0
_AHEAD = timedelta(days=1)


@dataclass(frozen=True)
class Applied:
    """A schedule as it was applied: later changes of its file count once it is applied again.

    Attributes:
        schedule: as read then.
        at: times up to then do not count, ISO 8601 with Z.
        digest: sha256 of the file.
    """

    schedule: Schedule
    at: str
    digest: str

    @property
    def changed(self) -> bool:
        """Whether the file differs from what was applied, or is gone."""
        try:
            return _digest(Path(self.schedule.file)) != self.digest
        except OSError:
            return True

    def next(self, now: datetime) -> datetime | None:
        """When it is due next."""
        return following(self.schedule.trigger, now, made=datetime.fromisoformat(self.at))


@dataclass(frozen=True)
class LastRun:
    """The last run of a schedule.

    Attributes:
        due: the time that it was for, ISO 8601 with Z; the newest, when it caught up on several.
        status: ``running`` also stands there when the process was killed.
        attempt: 1, or 2 after one that was killed.
        started, ended: ISO 8601 with Z; empty while it runs.
        run: id of the pipeline run.
        error: why it failed.
    """

    due: str
    status: Literal["running", "ok", "failed"]
    attempt: int
    started: str
    ended: str = ""
    run: str = ""
    error: str = ""


class Running(Protocol):
    """A launched run."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""


class Schedules:
    r"""The applied schedules.

    Args:
        folder: of this project; created when something is applied.

    Raises (all methods):
        StorageError: the disk refused.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = Path(folder.name, "daily.yml")
        >>> _ = Path(folder.name, "job.yml").write_text(
        ...     "type: pipeline\njobs:\n  hi:\n    command: echo hello\n    environment: azureml:any@latest\n"
        ... )
        >>> _ = file.write_text(
        ...     "name: daily\ntrigger: {type: cron, expression: '30 6 * * *'}\ncreate_job: ./job.yml\n"
        ... )
        >>> schedules = Schedules(Path(folder.name, "applied"))
        >>> _ = schedules.apply(file, now=datetime(2026, 11, 1, tzinfo=UTC))
        >>> later = datetime(2026, 11, 24, 7, tzinfo=UTC)
        >>> schedules.run_due("daily", lambda schedule: "run-1", clock=lambda: later).due
        '2026-11-24T06:30:00Z'
        >>> schedules.run_due("daily", lambda schedule: "run-2", clock=lambda: later) is None
        True
        >>> folder.cleanup()
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def apply(self, file: str | Path, *, now: datetime) -> Applied:
        """Records a schedule. Applied again with the same trigger, what was missed stays missed until it is run.

        Raises:
            DeclarationError: a mistake in it.
        """
        schedule = load_schedule(file)
        known = self._read(schedule.name)
        same = known is not None and known.schedule.trigger == schedule.trigger
        at = known.at if known and same else _iso(now)
        applied = Applied(schedule, at, _digest(Path(schedule.file)))
        contracts.write(applied, self.folder / schedule.name / _APPLIED)
        return applied

    def delete(self, name: str) -> None:
        """Forgets a schedule; a run of it that is under way goes on to its end."""
        self.get(name)
        (self.folder / name / _APPLIED).unlink(missing_ok=True)
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def names(self) -> list[str]:
        """Of all that are applied, sorted."""
        return sorted(file.parent.name for file in self.folder.glob(f"*/{_APPLIED}"))

    def get(self, name: str) -> Applied:
        """One of them.

        Raises:
            UnknownNameError: none of that name is applied.
        """
        applied = self._read(name)
        if applied is None:
            raise UnknownNameError("schedule", name, self.names(), hint="" if self.names() else "stk-ml schedule apply")
        return applied

    def last(self, name: str) -> LastRun | None:
        """Its last run; None before the first."""
        file = self.folder / name / _LAST
        return contracts.read(LastRun, file) if file.is_file() else None

    def busy(self, name: str) -> bool:
        """Whether a living process runs it."""
        return file_locks.held(self.folder / name / _LOCK)

    def due(self, name: str, now: datetime) -> datetime | None:
        """The time that a run would be for now; None when there is none, or it is being run."""
        if self.busy(name):
            return None
        found = _due(self.get(name), self.last(name), now)
        return found[0] if found else None

    def run_due(
        self, name: str, execute: Callable[[Schedule], str], *, clock: Callable[[], datetime]
    ) -> LastRun | None:
        """Runs a schedule if it is due; see the module for who runs what when.

        Args:
            name: of the schedule.
            execute: runs it to its end and returns the id of the run.
            clock: gives the time, with a zone.

        Returns:
            How it went; None when it was not due, or another process runs it.

        Raises:
            UnknownNameError: none of that name is applied.
            StkMlError: whatever ``execute`` raises, once it is noted.
        """
        applied = self.get(name)
        with self._alone(name) as alone:
            found = _due(applied, self.last(name), clock()) if alone else None
            if found is None:
                return None
            due, attempt = found
            run = LastRun(_iso(due), "running", attempt, _iso(clock()))
            contracts.write(run, self.folder / name / _LAST)
            try:
                run = replace(run, run=execute(applied.schedule), status="ok")
            except Exception as error:
                text = str(error) if isinstance(error, StkMlError) else f"{type(error).__name__}: {error}"
                run = replace(run, status="failed", error=text)
                raise
            finally:  # an interrupt leaves it running, to be tried again
                if run.status != "running":
                    contracts.write(replace(run, ended=_iso(clock())), self.folder / name / _LAST)
        return self.last(name)

    def _read(self, name: str) -> Applied | None:
        file = self.folder / name / _APPLIED
        return contracts.read(Applied, file) if "/" not in name and file.is_file() else None

    @contextmanager
    def _alone(self, name: str) -> Iterator[bool]:
        until = time.monotonic() + _PATIENCE
        while (lock := file_locks.take(self.folder / name / _LOCK)) is None and time.monotonic() < until:
            time.sleep(0.02)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)


def loop(
    schedules: Schedules,
    launch: Callable[[str], Running],
    *,
    names: Sequence[str] = (),
    clock: Callable[[], datetime],
    wait: Callable[[float], bool],
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Running]:
    """Launches what is due until it is told to end. Schedules run side by side, each at most once at a time.

    Args:
        schedules: the applied ones.
        launch: starts a process that calls :meth:`Schedules.run_due`.
        names: of those to run; default all, also those that are applied meanwhile.
        clock: gives the time, with a zone.
        wait: waits up to so many seconds; True ends the loop.
        tell: is told what happens, for people.

    Returns:
        What was still running at the end, by name.
    """
    running: dict[str, Running] = {}
    paused: dict[str, tuple[datetime, float]] = {}
    troubled: dict[str, str] = {}
    while True:
        now = clock()
        for name in [name for name, process in running.items() if process.poll() is not None]:
            tell(f"{name}: ended with {running.pop(name).poll()}")
        nexts: list[float] = [1.0] if running else []
        for name in names or schedules.names():
            try:
                due, next_ = (None if name in running else schedules.due(name, now)), schedules.get(name).next(now)
            except Exception as error:  # one that cannot be told must not stop the others
                if troubled.get(name) != str(error):
                    tell(f"{name}: {error if isinstance(error, StkMlError) else repr(error)}")
                troubled[name] = str(error)
                continue
            troubled.pop(name, None)
            if next_:
                nexts.append((next_ - now).total_seconds())
            before, until = paused.get(name, (None, 0.0))
            if due and (due != before or now.timestamp() >= until):
                # A process that ends at once without a word must not be launched again at once.
                paused[name] = due, now.timestamp() + AGAIN
                tell(f"{name}: runs for {_iso(due)}")
                try:
                    running[name] = launch(name)
                except OSError as error:
                    tell(f"{name}: could not be started: {error}")
                nexts.append(1.0)
        if wait(min(max(0.01, min(nexts, default=LOOK)), LOOK)):
            return running


def _due(applied: Applied, last: LastRun | None, now: datetime) -> tuple[datetime, int] | None:
    """The newest time that was not run, and which attempt it is.

    What was noted for a time more than a day ahead was noted under a wrong clock, and counts for nothing.
    """
    made = datetime.fromisoformat(applied.at)
    made = made if made <= now + _AHEAD else now - _AHEAD
    last = last if last and datetime.fromisoformat(last.due) <= now + _AHEAD else None
    done = max(made, datetime.fromisoformat(last.due)) if last else made
    newest = latest(applied.schedule.trigger, now, made=made)
    if newest is not None and newest > done:
        return newest, 1
    if last and last.status == "running" and last.attempt < _ATTEMPTS:
        return datetime.fromisoformat(last.due), last.attempt + 1
    return None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
