"""A verdict as an event in the log, so that alert rules can fire on it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

import msgspec

from stk_ml.monitor_state import MonitorVerdict
from stk_ml.monitoring.store import Look
from stk_ml.telemetry.packing import LIMIT, clip, json
from stk_ml.telemetry.protocol import Batch, Event, PredictionLog
from stk_ml.telemetry.queries import LogReader

#: Names of columns and findings in one event.
_MOST = 20


class Announcer(Protocol):
    """Tells of a look."""

    def announce(self, look: Look, *, again: bool) -> None:
        """Tells of it; ``again`` when it may have been told already, by somebody who was killed."""


class LogAnnouncer:
    """Writes ``stk.verdict`` events.

    Args:
        log: takes them.
        reader: of the same log.
    """

    def __init__(self, log: PredictionLog, reader: LogReader) -> None:
        self._log, self._reader = log, reader

    def announce(self, look: Look, *, again: bool) -> None:
        """Writes the event of a look, once."""
        if again and self._told(look):
            return
        self._log.write(Batch(events=(event(look),)))

    def _told(self, look: Look) -> bool:
        verdict, at = look.verdict, datetime.fromtimestamp(look.at, UTC)
        found = self._reader.query(
            "verdicts",
            since=datetime.fromtimestamp(look.at - 1, UTC),
            until=at,
            model=verdict.model,
            deployment=verdict.deployment,
        )
        return verdict.window_end in found.column("window_end").to_pylist()


def event(look: Look) -> Event:
    """A look as a row of the log, at the time of the look."""
    verdict = look.verdict
    return Event(look.at, "stk.verdict", _properties(verdict), {"rows": float(verdict.rows), "spent": verdict.spent})


def _properties(verdict: MonitorVerdict) -> dict[str, str]:
    moved = [column.name for column in verdict.columns if column.answer == "drift" and column.weight > 0]
    worse = [finding.metric for finding in verdict.performance if finding.worse and not finding.muted]
    broken = [[finding.check, clip(finding.column), clip(finding.detail)] for finding in verdict.quality]
    return {
        "endpoint": verdict.endpoint,
        "deployment": verdict.deployment,
        "model": verdict.model,
        "version": str(verdict.version),
        "digest": verdict.digest,
        "worker": "",
        "shadow": "false",
        "window_start": verdict.window_start,
        "window_end": verdict.window_end,
        "answer": verdict.answer,
        "alarm": _flag(verdict.alarm),
        "broken": _flag(verdict.broken),
        "armed": _flag(verdict.armed),
        "rows": str(verdict.rows),
        "spent": f"{verdict.spent:.6g}",
        "drifted": _packed([clip(name) for name in moved]),
        "worse": _packed(worse),
        "findings": _packed(broken),
        "reason": clip(verdict.reason, 1024),
    }


def _packed(items: list[str] | list[list[str]]) -> str:
    """As much of a list as a property takes."""
    kept = items[:_MOST]
    while len(text := json(kept)) > LIMIT:
        kept = kept[:-1]
    return text


def _flag(value: bool) -> str:
    return msgspec.json.encode(value).decode()
