"""The desk: the alert that started a run is told so by whoever answers it, and what waits is looked at again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stk_ml.model_policies import RetrainSpec
from stk_ml.retraining.alerts import Alert, parse
from stk_ml.retraining.inbox import AlertDesk
from stk_ml.retraining.ledger import NAME, RunLedger
from stk_ml.retraining.policy import iso

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
SPEC = RetrainSpec()


class Killed(BaseException):
    """Stands for a kill at the launch, which no code of ours catches."""


class Desk(AlertDesk):
    """A desk with a clock that the test sets, and a list of what it launched."""

    def __init__(self, folder: Path, spec: RetrainSpec = SPEC, *, killed: bool = False) -> None:
        self.now, self.launched = NOW, list[str]()

        def launch(model: str) -> None:
            if killed:
                raise Killed
            self.launched.append(model)

        super().__init__(folder, lambda model: spec, launch, clock=lambda: self.now)


def drift(id_: int, now: datetime = NOW) -> Alert:
    return parse(b'{"model": "eta", "kind": "drift", "id": %d}' % id_, now=now.timestamp())


@pytest.mark.parametrize("outcome", ["", "refused"])
def test_the_alert_that_started_a_run_is_told_so_after_a_kill_before_the_reply(tmp_path: Path, outcome: str) -> None:
    with pytest.raises(Killed):
        Desk(tmp_path, killed=True).decide(drift(1))
    ledger = RunLedger(tmp_path / "eta", "eta")
    (run,) = ledger.runs()
    if outcome == "refused":
        ledger.end(run.key, "refused", "worse", now=NOW)
    reply = Desk(tmp_path).decide(drift(1))
    assert (reply.decision, reply.run, reply.run_status) == ("start", run.id, outcome or "train")
    assert len(ledger.runs()) == 1


def test_what_waits_is_started_when_its_time_has_come(tmp_path: Path) -> None:
    desk, ledger = Desk(tmp_path, RetrainSpec(cooldown="1h")), RunLedger(tmp_path / "eta", "eta")
    desk.decide(drift(1))
    ledger.end(drift(1).key, "refused", "worse", now=NOW)
    desk.now = NOW + timedelta(minutes=1)
    waits = desk.decide(drift(2, desk.now))
    assert (waits.decision, waits.until) == ("wait", iso(NOW + timedelta(hours=1)))
    assert desk.look(["eta"]) == NOW + timedelta(hours=1)
    desk.now = NOW + timedelta(hours=1)
    desk.look(["eta"])
    assert desk.launched == ["eta", "eta"]
    assert len(ledger.runs()) == 2


def test_a_damaged_ledger_of_one_model_keeps_no_other_waiting(tmp_path: Path) -> None:
    Desk(tmp_path).decide(drift(1))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / NAME).write_text("garbage" * 100)
    desk = Desk(tmp_path)
    assert desk.resume(["bad", "eta"]) == ["eta"]
    assert desk.look(["bad", "eta"]) is not None
