"""The ledger between real processes: one run however many decide at once, and sound after a kill at any moment."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stk_ml.errors import StorageError, UsageError
from stk_ml.model_policies import RetrainSpec
from stk_ml.retraining.ledger import NAME, RunLedger
from stk_ml.retraining.policy import TIMEOUT, Alert, iso

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
DECIDE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from stk_ml.model_policies import RetrainSpec
from stk_ml.retraining.ledger import RunLedger
from stk_ml.retraining.policy import Alert
june = datetime(2024, 6, 1, tzinfo=UTC)
ledger = RunLedger(Path(sys.argv[1]), "m")
print("ready", flush=True)
sys.stdin.readline()
for alert in sys.argv[2:]:
    entry = ledger.decide(RetrainSpec(), [Alert(alert, "fired", "2024-06-01T00:00:00Z")], now=june)
    print(entry.decision.action, flush=True)
"""
#: Kills itself before statement number N that reaches the database.
KILLED = """
import os, signal, sqlite3, sys
from datetime import UTC, datetime
from pathlib import Path
from stk_ml.model_policies import RetrainSpec
from stk_ml.retraining.ledger import RunLedger
from stk_ml.retraining.policy import Alert
left = int(sys.argv[2])
class Killer(sqlite3.Connection):
    def execute(self, *words):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return super().execute(*words)
connect = sqlite3.connect
sqlite3.connect = lambda *words, **more: connect(*words, factory=Killer, **more)
june = datetime(2024, 6, 1, tzinfo=UTC)
ledger = RunLedger(Path(sys.argv[1]), "m")
ledger.decide(RetrainSpec(), [Alert("a", "fired", "2024-06-01T00:00:00Z")], now=june)
ledger.move("a", "canary", version=2, now=june)
ledger.end("a", "promoted", "better", now=june)
print("done")
"""


def fired(key: str, day: int = 0) -> Alert:
    return Alert(key, "fired", iso(JUNE + timedelta(days=day)))


@pytest.fixture
def ledger(tmp_path: Path) -> RunLedger:
    return RunLedger(tmp_path / "m", "m")


@pytest.mark.parametrize("alerts", [("a", "a"), ("a", "b"), ("a", "b", "c", "d")])
def test_processes_that_decide_at_once_start_one_run(ledger: RunLedger, alerts: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", DECIDE, str(ledger.folder)]
    racers = [
        subprocess.Popen([*command, *[key] * 5], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for key in alerts
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [word for racer in racers for word in racer.communicate(timeout=60)[0].split()]
    assert [racer.returncode for racer in racers] == [0] * len(alerts)
    assert said.count("start") == 1
    assert len(said) == len(ledger.decisions(100)) == 5 * len(alerts)
    assert len(ledger.runs()) == 1


def test_a_kill_before_any_write_leaves_the_ledger_sound_and_the_story_goes_on(tmp_path: Path) -> None:
    finished = False
    for writes in range(100):
        folder = tmp_path / str(writes)
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(writes)], capture_output=True, text=True)
        finished = done.stdout == "done\n"
        assert finished or done.returncode == -signal.SIGKILL, done.stderr
        ledger = RunLedger(folder, "m")
        runs, state = ledger.runs(), ledger.state()
        assert runs == list(state.retrains)
        assert (len(ledger.decisions()) == 1) is (len(runs) == 1)
        said = ledger.decide(RetrainSpec(), [fired("a")], now=JUNE).decision.action
        assert said == ("start" if not runs else "rest" if runs[0].outcome else "wait")
        assert len(ledger.runs()) == 1
        if finished:
            break
    assert finished
    assert writes > 12


def test_an_alert_is_known_again_after_any_number_of_others(ledger: RunLedger) -> None:
    spec = RetrainSpec(cooldown="0d", per_month=99)
    first = ledger.decide(spec, [fired("a")], now=JUNE).decision
    ledger.end(first.key, "promoted", "better", now=JUNE)
    others = [Alert(f"b{n}", kind, iso(JUNE)) for n in range(1000) for kind in ("fired", "resolved")]  # type: ignore[arg-type]
    assert ledger.decide(spec, others, now=JUNE).decision.action == "rest"
    assert ledger.decide(spec, [fired("a", day=2)], now=JUNE + timedelta(days=2)).decision.action == "rest"
    assert ledger.decide(spec, [fired("c", day=2)], now=JUNE + timedelta(days=2)).decision.action == "start"


def test_an_alert_that_was_resolved_before_it_fired_asks_for_nothing_after_any_number_of_others(
    ledger: RunLedger,
) -> None:
    resolved = [Alert(f"a{number}", "resolved", iso(JUNE)) for number in range(400)]
    ledger.decide(RetrainSpec(), resolved, now=JUNE)
    assert ledger.decide(RetrainSpec(), [fired("a0")], now=JUNE).decision.action == "rest"


def test_every_decision_is_kept_with_its_number_and_reason(ledger: RunLedger) -> None:
    entries = [ledger.decide(RetrainSpec(), [fired("a")], now=JUNE) for _ in range(3)]
    assert [entry.decision.action for entry in entries] == ["start", "wait", "wait"]
    assert ledger.decisions(2) == entries[:0:-1]
    assert ledger.decision(entries[0].id) == entries[0]
    assert ledger.decision(99) is None


def test_a_dry_run_writes_nothing(ledger: RunLedger) -> None:
    assert ledger.decide(RetrainSpec(), [fired("a")], now=JUNE, dry_run=True).decision.action == "start"
    assert not ledger.folder.exists()
    ledger.decide(RetrainSpec(), now=JUNE)
    assert ledger.decide(RetrainSpec(), [fired("a")], now=JUNE, dry_run=True).id == 0
    assert (len(ledger.runs()), len(ledger.decisions())) == (0, 1)
    assert ledger.decide(RetrainSpec(), [fired("a")], now=JUNE).decision.action == "start"


def test_reading_makes_no_file(ledger: RunLedger) -> None:
    assert (ledger.state().retrains, ledger.runs(), ledger.decisions()) == ((), [], [])
    assert not ledger.folder.exists()


def test_a_run_times_out_only_once_nobody_works_on_it(ledger: RunLedger) -> None:
    ledger.decide(RetrainSpec(), [fired("a")], now=JUNE)
    with ledger.alone() as alone:
        assert alone
        assert ledger.worked_on
        assert ledger.decide(RetrainSpec(), now=JUNE + 2 * TIMEOUT).decision.action == "wait"
        with RunLedger(ledger.folder, "m").alone() as second:
            assert not second
    assert ledger.decide(RetrainSpec(), now=JUNE + 2 * TIMEOUT).decision.action == "rest"
    assert ledger.runs()[0].outcome == "timeout"
    with pytest.raises(UsageError, match="not running any more"):
        ledger.end("a", "promoted", "late", now=JUNE)


def test_a_process_that_is_killed_no_longer_works_on_the_run(ledger: RunLedger) -> None:
    script = (
        "import sys; from pathlib import Path; from stk_ml.retraining.ledger import RunLedger\n"
        "with RunLedger(Path(sys.argv[1]), 'm').alone(): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(ledger.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        assert ledger.worked_on
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(30)
    assert not ledger.worked_on


def test_what_is_no_ledger_is_named(ledger: RunLedger) -> None:
    ledger.folder.mkdir()
    (ledger.folder / NAME).write_text("not a database, " * 100)
    with pytest.raises(StorageError, match=r"retraining\.db cannot be used"):
        ledger.decide(RetrainSpec(), now=JUNE)


def test_a_state_of_another_version_is_named(ledger: RunLedger) -> None:
    ledger.decide(RetrainSpec(), [fired("a")], now=JUNE)
    with sqlite3.connect(ledger.folder / NAME) as connection:
        connection.execute("UPDATE state SET document = ?", (json.dumps({"model": 3}),))
    connection.close()
    with pytest.raises(StorageError, match="Expected `str`, got `int`"):
        ledger.state()
