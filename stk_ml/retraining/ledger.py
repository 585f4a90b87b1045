"""What is remembered of a model's retraining, in one SQLite file: state, every decision, every run.

What came in, the decision on it and the run that it starts are one transaction: of two processes that decide at once
the second sees what the first decided, and a process that is killed has decided or has not. The key of a run is unique,
so whatever else goes wrong, no alert or verdict makes two.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from stk_ml import file_locks
from stk_ml.errors import StkMlError, StorageError, UsageError
from stk_ml.model_policies import RetrainSpec
from stk_ml.retraining import policy
from stk_ml.retraining.policy import Alert, Decision, Event, GovernorState, Outcome, Retrain, Step

NAME = "retraining.db"
_SECONDS = 30.0
#: In write-ahead mode a reader never waits for a writer. The mode stays with the file.
_WRITE_AHEAD = "PRAGMA journal_mode = WAL"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), document TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS runs (key TEXT PRIMARY KEY, document TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS alerts (key TEXT, kind TEXT, PRIMARY KEY (key, kind)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS decisions (id INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL)",
)


@dataclass(frozen=True)
class Entry:
    """A decision as it was written down: its number, when (ISO 8601 with Z), and how many events it answered."""

    id: int
    time: str
    decision: Decision
    events: int = 0


class RunLedger:
    """The ledger of one model.

    Args:
        folder: MONITORING/MODEL; created when something is written.
        model: its name.

    Raises (all methods):
        StorageError: the disk refused, or the file is not a ledger.

    Example:
        >>> import tempfile
        >>> from datetime import UTC
        >>> june = datetime(2024, 6, 1, tzinfo=UTC)
        >>> alert = policy.Alert("a1", "fired", "2024-06-01T00:00:00Z", "drift in weight")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ledger = RunLedger(Path(folder), "flight-delay")
        ...     [ledger.decide(RetrainSpec(), [alert], now=june).decision.action for _ in range(2)]
        ['start', 'wait']
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        self._lock = folder / ".retrain.lock"

    def decide(self, spec: RetrainSpec, events: Sequence[Event] = (), *, now: datetime, dry_run: bool = False) -> Entry:
        """Takes in what has happened and decides; a start is a run in flight from then on.

        Whoever gets ``start`` (or finds a run in flight that nobody works on) hands it to
        :func:`stk_ml.retraining.trigger.execute`.

        Args:
            spec: the model's policy.
            events: verdicts and alerts; what came before does no harm.
            now: when it is.
            dry_run: decide and write nothing; the entry then has the number 0.
        """
        alive = file_locks.held(self._lock)
        with self._writing(keep=not dry_run) as connection:
            before = state = self._state(connection)
            state = policy.expired(state, now, alive=alive)
            for event in events:
                if self._is_new(connection, event):
                    state = policy.observe(state, event, now)
            decision = policy.decide(state, spec, now)
            if decision.action == "start":
                state = policy.started(state, decision, now)
            self._save(connection, before, state)
            entry = Entry(0, policy.iso(now), decision, len(events))
            number = connection.execute("INSERT INTO decisions (document) VALUES (?)", (_text(entry),)).lastrowid
        return entry if dry_run else replace(entry, id=number or 0)

    def move(
        self, key: str, step: Step, *, now: datetime, champion: int | None = None, version: int = 0, reason: str = ""
    ) -> Retrain:
        """Notes that the running retrain has reached a step.

        Raises:
            UsageError: that retrain is not running any more.
        """
        return self._change(
            key,
            lambda state: policy.moved(state, key, now, step=step, champion=champion, version=version, reason=reason),
        )

    def end(self, key: str, outcome: Outcome, reason: str, *, now: datetime, version: int = 0) -> Retrain:
        """Notes how the running retrain ended.

        Raises:
            UsageError: that retrain is not running any more.
        """
        return self._change(key, lambda state: policy.ended(state, key, outcome, reason, now, version=version))

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this process is the one that works on the model's run; the proof that it lives, while it does."""
        descriptor = file_locks.take(self._lock)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    @property
    def worked_on(self) -> bool:
        """Whether a living process works on the model's run."""
        return file_locks.held(self._lock)

    def state(self) -> GovernorState:
        """What is remembered; empty before the first decision."""
        with self._open() as connection:
            return self._state(connection)

    def decisions(self, last: int = 20) -> list[Entry]:
        """The newest decisions, newest first."""
        return self._entries("ORDER BY id DESC LIMIT ?", last)

    def decision(self, number: int) -> Entry | None:
        """The decision of that number; None when there is none."""
        return next(iter(self._entries("WHERE id = ?", number)), None)

    def run(self, key: str) -> Retrain | None:
        """The run that what has this key has started, however long ago; None when it has started none."""
        with self._open() as connection:
            found = connection.execute("SELECT document FROM runs WHERE key = ?", (key,)).fetchone()
        return msgspec.json.decode(found[0], type=Retrain) if found else None

    def runs(self) -> list[Retrain]:
        """Every run there ever was, oldest first."""
        with self._open() as connection:
            found = connection.execute("SELECT document FROM runs ORDER BY rowid").fetchall()
        return [msgspec.json.decode(text, type=Retrain) for (text,) in found]

    def _change(self, key: str, change: Callable[[GovernorState], GovernorState]) -> Retrain:
        with self._writing() as connection:
            before = self._state(connection)
            if before.running is None or before.running.key != key:
                raise UsageError(f"the retrain {key} of {self.model} is not running any more")
            after = change(before)
            self._save(connection, before, after)
        return after.retrains[-1]

    def _entries(self, clause: str, value: int) -> list[Entry]:
        with self._open() as connection:
            found = connection.execute(f"SELECT id, document FROM decisions {clause}", (value,)).fetchall()  # noqa: S608
        return [replace(msgspec.json.decode(text, type=Entry), id=number) for number, text in found]

    @staticmethod
    def _is_new(connection: sqlite3.Connection, event: Event) -> bool:
        """False for an alert that came, or was resolved, before, however long ago. A window may be looked at anew."""
        if not isinstance(event, Alert):
            return True
        resolved = connection.execute("SELECT 1 FROM alerts WHERE key = ? AND kind = 'resolved'", (event.key,))
        if resolved.fetchone():
            return False
        values = (event.key, event.kind)
        return connection.execute("INSERT OR IGNORE INTO alerts VALUES (?, ?)", values).rowcount == 1

    def _state(self, connection: sqlite3.Connection) -> GovernorState:
        found = connection.execute("SELECT document FROM state").fetchone()
        return msgspec.json.decode(found[0], type=GovernorState) if found else GovernorState(self.model)

    def _save(self, connection: sqlite3.Connection, before: GovernorState, after: GovernorState) -> None:
        """Writes what has changed. A run is only ever inserted once: its key is unique."""
        if after == before:
            return
        connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (_text(after),))
        known = {run.key: run for run in before.retrains}
        for run in after.retrains:
            if run.key not in known:
                connection.execute("INSERT INTO runs VALUES (?, ?)", (run.key, _text(run)))
            elif run != known[run.key]:
                connection.execute("UPDATE runs SET document = ? WHERE key = ?", (_text(run), run.key))

    @contextmanager
    def _writing(self, *, keep: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process is in; undone when ``keep`` is False, on an error and on a kill."""
        with self._open(create=keep) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT" if keep else "ROLLBACK")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """The file; where there is none and none is to be made, an empty one in memory."""
        file = self.folder / NAME
        try:
            if create and not file.is_file():
                _create(file)
            where = file if file.is_file() else ":memory:"
            with closing(sqlite3.connect(where, timeout=_SECONDS, isolation_level=None)) as connection:
                for statement in _TABLES:
                    connection.execute(statement)
                yield connection
        except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
            if isinstance(error, StkMlError):
                raise
            raise StorageError(
                f"the retraining ledger {file} cannot be used: {error}",
                hint="is there space, may you write there, and is it of this version of stk-ml?",
            ) from error


def _create(file: Path) -> None:
    """Made aside and linked to its name: SQLite lets nobody wait while another changes a file's journal mode."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{NAME}.{os.getpid()}.{threading.get_ident()}")
    try:
        with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
            for statement in (_WRITE_AHEAD, *_TABLES):
                connection.execute(statement)
        with suppress(FileExistsError):
            os.link(aside, file)
    finally:
        aside.unlink(missing_ok=True)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
