"""A year as it goes by, day after day: requests over HTTP, labels that land, the monitor's look, the governor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stk_ml.cli.retrain_steps import WorkspaceSteps
from stk_ml.errors import TelemetryError
from stk_ml.monitoring.labels import prediction_ids
from stk_ml.retraining import trigger
from stk_ml.simulation.year import Day, Event, Kind, iso
from stk_ml.telemetry.served import served

if TYPE_CHECKING:
    from stk_ml.cli.monitor_parts import Monitoring
    from stk_ml.clock import FileClock
    from stk_ml.contracts import Registration
    from stk_ml.monitor_state import MonitorVerdict
    from stk_ml.retraining.ledger import RunLedger
    from stk_ml.retraining.policy import Retrain
    from stk_ml.retraining.trigger import Canary
    from stk_ml.retraining.window import TrainingWindow
    from stk_ml.simulation.caller import Caller
    from stk_ml.simulation.rows import Rows
    from stk_ml.telemetry.local_reader import LocalLogReader

DAY = 86_400.0
_PATIENCE = 60.0
#: What a run's end is called among the events.
_ENDS: dict[str, Kind] = {"promoted": "promoted", "refused": "refused", "rolled_back": "rolled_back"}


@dataclass
class Replay:
    """Plays days.

    Attributes:
        rows: that are asked for.
        caller: asks.
        clock: is set.
        monitoring: of the model.
        ledger: of its retraining.
        steps: of a retrain; a canary of theirs lasts as long as the replay makes days go by.
        reader: of the log.
        show: told of each day that has gone by.
        now: midnight at which the replay stands, unix seconds.
        until: where it ends.
        days, events: what came of it so far.
        seconds: by part, how long it took.
    """

    rows: Rows
    caller: Caller
    clock: FileClock
    monitoring: Monitoring
    ledger: RunLedger
    reader: LocalLogReader
    show: Callable[[str], None]
    now: float
    until: float
    steps: Steps | None = None
    days: list[Day] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"requests": 0.0, "monitor": 0.0, "retrains": 0.0})

    def run(self) -> None:
        """Plays to the end."""
        while self.now < self.until:
            self.day()

    def day(self) -> None:
        """Plays a day, or lets one pass when there is none left."""
        start, end = self.now, self.now + DAY
        self.now = end
        if start >= self.until:
            self.clock.set(end)
            return
        began = time.perf_counter()
        asked = self._ask(start, end)
        self.clock.set(end)
        self._settle(start, end, asked)
        began = self._spent("requests", began)
        self._land(start, end)
        looks = list(self.monitoring.run(self.clock, start, end, 0.0))
        self._spent("monitor", began)
        for look in looks:
            self._judge(look.verdict, asked)

    def _ask(self, start: float, end: float) -> int:
        places = self.rows.between(start, end)
        bodies = self.rows.bodies(places)
        for moment, group in self.rows.at_once(places):
            self.clock.set(moment)
            chosen = slice(group.start - places.start, group.stop - places.start)
            answered = self.caller.ask(self.rows.ids[group.start : group.stop], bodies[chosen])
            self.rows.scores[group.start : group.stop] = [each.score for each in answered]
            self.rows.versions[group.start : group.stop] = [each.version for each in answered]
        return len(places)

    def _settle(self, start: float, end: float, rows: int) -> None:
        """Waits until the workers have logged the day: the clock has told them that it is over."""
        deadline = time.monotonic() + _PATIENCE
        while (found := self._logged(start, end)) < rows:
            if time.monotonic() > deadline:
                raise TelemetryError(
                    f"of {rows:,} rows of {iso(start)[:10]} only {found:,} are in the log after {_PATIENCE:.0f} s",
                    hint="see stk-ml endpoint logs",
                )
            time.sleep(0.003)

    def _logged(self, start: float, end: float) -> int:
        return sum(each.rows for each in served(self.reader, self.monitoring.name, start, end, every=DAY))

    def _land(self, start: float, end: float) -> None:
        """Labels that became known in the day."""
        import pyarrow as pa

        places = self.rows.became_known(start, end)
        places = places[self.rows.versions[places] > 0]
        if places.size:
            known = pa.array((self.rows.known[places] * 1e6).astype("int64"), pa.timestamp("us", "UTC"))
            names = prediction_ids([self.rows.ids[place] for place in places.tolist()])
            labels = pa.table({"prediction_id": names, "outcome": self.rows.labels[places], "known_time": known})
            self.monitoring.ledger.record(labels, now=datetime.fromtimestamp(end, UTC))

    def _judge(self, verdict: MonitorVerdict, asked: int) -> None:
        answer = "broken" if verdict.broken else verdict.answer
        self.days.append(Day(verdict.window_start, asked, verdict.version, answer, verdict.alarm))
        if verdict.alarm:
            decayed = any(found.worse and not found.muted for found in verdict.performance)
            self.note("worse" if decayed else "alarm", verdict.reason, verdict.version)
        if verdict.broken and not (len(self.days) > 1 and self.days[-2].answer == "broken"):
            self.note("broken", verdict.reason, verdict.version)
        self.show(f"{verdict.window_start[:10]}  {answer}")
        spec = self.monitoring.spec
        assert spec is not None  # noqa: S101
        now = datetime.fromtimestamp(self.now, UTC)
        entry = self.ledger.decide(spec.retrain, [verdict], now=now)
        if entry.decision.action == "start":
            self.note("started", entry.decision.reason)
            self._retrain()

    def _retrain(self) -> None:
        spec, steps = self.monitoring.spec, self.steps
        assert spec is not None  # noqa: S101
        assert steps is not None  # noqa: S101
        ended = trigger.execute(self.ledger, spec, steps, clock=lambda: datetime.fromtimestamp(self.now, UTC))
        self.seconds["retrains"] += steps.seconds
        steps.seconds = 0.0
        if ended is not None:
            self.note(_ENDS.get(ended.outcome, "failed"), ended.reason, ended.version)

    def note(self, kind: Kind, text: str, version: int = 0) -> None:
        """Remembers an event of now."""
        self.events.append(Event(iso(self.now), kind, text, version))

    def _spent(self, part: str, began: float) -> float:
        now = time.perf_counter()
        self.seconds[part] += now - began
        return now


class Steps:
    """The steps of a retrain as a project takes them, but days go by while a canary is watched."""

    def __init__(self, inner: WorkspaceSteps, note: Callable[[Kind, str, int], None]) -> None:
        self._inner, self._note = inner, note
        self.seconds = 0.0

    def champion(self) -> int:
        """See :class:`stk_ml.retraining.trigger.Steps`."""
        return self._inner.champion()

    def train(self, run: Retrain, window: TrainingWindow) -> Registration:
        """See :class:`stk_ml.retraining.trigger.Steps`."""
        began = time.perf_counter()
        try:
            return self._inner.train(run, window)
        finally:
            self.seconds += time.perf_counter() - began

    def canary(self, run: Retrain) -> tuple[Canary, str]:
        """See :class:`stk_ml.retraining.trigger.Steps`."""
        self._note("canary", run.reason, run.version)
        return self._inner.canary(run)

    def restore(self, run: Retrain) -> None:
        """See :class:`stk_ml.retraining.trigger.Steps`."""
        self._inner.restore(run)
