"""What was replied to each alert: the same alert gets the same reply, from any process and after a restart."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stk_ml.errors import StkMlError, StorageError
from stk_ml.model_policies import RetrainSpec
from stk_ml.retraining import policy
from stk_ml.retraining.alerts import Alert
from stk_ml.retraining.ledger import RunLedger

log = logging.getLogger("stk_ml.alerts")
NAME = "alerts.db"
_SECONDS = 30.0
_TABLE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, document TEXT NOT NULL)"


@dataclass(frozen=True)
class Reply:
    """What was decided on an alert.

    Attributes:
        key: of the reply, see :attr:`stk_ml.retraining.alerts.Alert.reply_key`.
        model: that it is about.
        decision: ``start`` a retrain; ``rest``: nothing asks for one; ``wait`` until ``until``; ``blocked``.
        reason: one sentence for people.
        time: when it was decided, ISO 8601 with Z.
        until: when the governor looks again; empty when time alone changes nothing.
        run: id of the retrain that it started or that was running; empty for none.
        run_status: the step where that retrain is, or how it ended.
    """

    key: str
    model: str
    decision: str
    reason: str
    time: str
    until: str = ""
    run: str = ""
    run_status: str = ""


class Inbox:
    """Replies by key, in one SQLite file.

    Args:
        folder: created when something is written.

    Raises (all methods):
        StorageError: the disk refused, or the file is damaged.

    Example:
        >>> import tempfile
        >>> alert = Alert("k1", "eta", "drift", True, "2026-11-24T06:00:00Z")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     inbox = Inbox(Path(folder))
        ...     first = inbox.reply(alert, lambda alert: Reply(alert.key, alert.model, "start", "drift", alert.time))
        ...     again = inbox.reply(alert, lambda alert: Reply(alert.key, alert.model, "wait", "running", alert.time))
        >>> first == again, again.decision
        (True, 'start')
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME

    def reply(self, alert: Alert, decide: Callable[[Alert], Reply]) -> Reply:
        """The reply that the alert got, or gets now. Of two processes that decide at once the first one's counts."""
        known = self.find(alert.reply_key)
        if known is not None:
            return known
        reply = decide(alert)
        with self._open() as connection:
            found = connection.execute("SELECT document FROM replies WHERE key = ?", (reply.key,)).fetchone()
            if found is None:
                document = msgspec.json.encode(reply).decode()
                connection.execute("INSERT INTO replies VALUES (?, ?)", (reply.key, document))
        return msgspec.json.decode(found[0], type=Reply) if found else reply

    def find(self, key: str) -> Reply | None:
        """The reply of that key; None when there is none."""
        if not self._file.is_file():
            return None
        with self._open() as connection:
            found = connection.execute("SELECT document FROM replies WHERE key = ?", (key,)).fetchone()
        return msgspec.json.decode(found[0], type=Reply) if found else None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._file, timeout=_SECONDS, isolation_level=None)) as connection:
                connection.execute(_TABLE)
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, msgspec.DecodeError, OSError) as error:
            hint = "is there space, and may you write there?"
            raise StorageError(f"the replies to alerts in {self._file} cannot be used: {error}", hint=hint) from error


class AlertDesk:
    """Hands alerts to the governor of their model, and a retrain that it starts to whoever carries it out.

    Args:
        folder: MONITORING; holds the inbox and, by model, the ledgers.
        policy_of: the retrain policy of a model; UnknownNameError for one that is not declared.
        launch: has the retrain of a model carried out, from wherever it is; called again it may do nothing.
        clock: gives the time, with a zone.
    """

    def __init__(
        self,
        folder: Path,
        policy_of: Callable[[str], RetrainSpec],
        launch: Callable[[str], None],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder, self._policy_of, self._launch, self._clock = folder, policy_of, launch, clock
        self._inbox = Inbox(folder)

    def decide(self, alert: Alert) -> Reply:
        """The reply to an alert: decided on at its first coming.

        Raises:
            UnknownNameError: there is no such model.
            StorageError: the disk refused.
        """
        return self._inbox.reply(alert, self._govern)

    def find(self, key: str) -> Reply | None:
        """A reply, with how its retrain stands now."""
        reply = self._inbox.find(key)
        if reply is None or not reply.run:
            return reply
        runs = self._ledger(reply.model).runs()
        run = next((each for each in runs if each.id == reply.run), None)
        return replace(reply, run_status=run.outcome or run.step) if run else reply

    def resume(self, models: Sequence[str]) -> list[str]:
        """Launches the retrains that a killed process has left in flight; of which. Damaged ledgers are skipped."""
        found = []
        for model in models:
            with _told(model):
                if self._idle(self._ledger(model)):
                    self._launch(model)
                    found.append(model)
        return found

    def look(self, models: Sequence[str]) -> datetime | None:
        """Starts what waited until now, and says when to look again; None when nothing waits."""
        now, waiting = self._clock(), []
        for model in models:
            with _told(model):
                ledger, spec = self._ledger(model), self._policy_of(model)
                state = policy.expired(ledger.state(), now, alive=ledger.worked_on)
                decision = policy.decide(state, spec, now)
                if decision.action == "start" and ledger.decide(spec, now=now).decision.action == "start":
                    self._launch(model)
                elif decision.until:
                    waiting.append(datetime.fromisoformat(decision.until))
        return min(waiting, default=None)

    def _govern(self, alert: Alert) -> Reply:
        spec, ledger = self._policy_of(alert.model), self._ledger(alert.model)
        entry = ledger.decide(spec, [event(alert)], now=self._clock())
        decision, running = entry.decision, ledger.state().running
        if decision.action == "start" or self._idle(ledger):
            self._launch(alert.model)
        mine = ledger.run(alert.key) if alert.fired else None
        if mine is not None and decision.action != "start":
            # Another process has decided, or one was killed before it could reply: the alert has started that run.
            decision, running = policy.Decision("start", mine.because, mine.key), mine
        run, step = (running.id, running.outcome or running.step) if running else ("", "")
        return Reply(
            alert.reply_key, alert.model, decision.action, decision.reason, entry.time, decision.until, run, step
        )

    def _ledger(self, model: str) -> RunLedger:
        return RunLedger(self._folder / model, model)

    @staticmethod
    def _idle(ledger: RunLedger) -> bool:
        return ledger.state().running is not None and not ledger.worked_on


@contextmanager
def _told(model: str) -> Iterator[None]:
    """What goes wrong with one model is logged, and does not keep the others waiting."""
    try:
        yield
    except (StkMlError, OSError) as error:
        log.error("%s: %s", model, error)


def event(alert: Alert) -> policy.Alert:
    """The alert as the governor takes it.

    Example:
        >>> event(Alert("k1", "eta", "quality", True, "2026-11-24T06:00:00Z", "weight is frozen")).kind
        'broken'
    """
    if not alert.fired:
        return policy.Alert(alert.key, "resolved", alert.time, alert.detail)
    said = alert.detail or f"an alert of the kind {alert.kind}"
    if alert.kind == "quality":
        return policy.Alert(alert.key, "broken", alert.time, said)
    return policy.Alert(alert.key, "manual" if alert.kind == "request" else "fired", alert.time, said)
