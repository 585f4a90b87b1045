"""A started run comes to its end: through each step, after a kill anywhere, and after a failure."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from killed_retrain import JUNE, SPEC, World, retrain

from stk_ml import model_spec
from stk_ml.model_spec import GateSpec, SplitSpec, instant
from stk_ml.retraining import trigger, window
from stk_ml.retraining.ledger import RunLedger
from stk_ml.retraining.policy import Alert, Retrain


@pytest.mark.parametrize(
    ("world", "outcome", "champion", "calls"),
    [
        ({}, "promoted", 2, "train canary"),
        ({"gate": False}, "refused", 1, "train"),
        ({"canary_ends": "none"}, "promoted", 2, "train canary"),
        ({"canary_ends": "rolled_back"}, "rolled_back", 1, "train canary restore"),
        ({"canary_ends": "stopped"}, "stopped", 1, "train canary restore"),
        ({"breaks": "train"}, "stopped", 1, "train restore"),
        ({"breaks": "canary"}, "stopped", 1, "train canary restore"),
    ],
)
def test_a_run_ends_as_gate_and_canary_say(
    tmp_path: Path, world: dict[str, Any], outcome: str, champion: int, calls: str
) -> None:
    there = World(tmp_path, **world)
    run = retrain(tmp_path, there)
    assert run
    assert (run.outcome, run.version, there.champion()) == (outcome, 2, champion)
    assert (tmp_path / "calls").read_text().split() == calls.split()
    assert RunLedger(tmp_path / "m", "m").runs() == [run]


@pytest.mark.parametrize(
    ("ends", "outcome", "champion"), [("promoted", "promoted", 2), ("rolled_back", "rolled_back", 1)]
)
def test_killed_before_any_change_and_run_again_it_comes_to_the_same_end(
    tmp_path: Path, ends: str, outcome: str, champion: int
) -> None:
    script = str(Path(__file__).with_name("killed_retrain.py"))
    for changes in range(20):
        folder = tmp_path / str(changes)
        folder.mkdir()
        command = [sys.executable, script, str(folder), str(changes), ends]
        done = subprocess.run(command, capture_output=True, text=True)
        whole = done.stdout.strip() == outcome
        assert whole or done.returncode == -signal.SIGKILL, done.stderr
        world, ledger = World(folder, canary_ends=ends), RunLedger(folder / "m", "m")
        if not whole:
            retrain(folder, world)
        (run,) = ledger.runs()
        assert (run.outcome, run.champion, run.version) == (outcome, 1, 2)
        assert world.champion() == champion
        assert world.read("serves") == champion
        assert ledger.state().running is None
        if whole:
            break
    assert whole
    assert changes >= 5


@pytest.mark.parametrize(("step", "champion"), [("train", 1), ("trained", 1), ("canary", 1)])
def test_a_step_that_fails_ends_the_run_and_gives_the_champion_its_place_back(
    tmp_path: Path, step: str, champion: int
) -> None:
    world = World(tmp_path, fails=step)
    with pytest.raises(OSError, match="is full"):
        retrain(tmp_path, world)
    (run,) = RunLedger(tmp_path / "m", "m").runs()
    assert (run.outcome, run.reason) == (
        "failed",
        f"step {step.removesuffix('ed')}: OSError: the disk of {step} is full",
    )
    assert world.champion() == champion


def test_an_interrupted_run_stays_in_flight_and_is_gone_on_with(tmp_path: Path) -> None:
    class Interrupted(World):
        def canary(self, run: Retrain) -> tuple[trigger.Canary, str]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(tmp_path, Interrupted(tmp_path))
    ledger = RunLedger(tmp_path / "m", "m")
    assert ledger.state().running
    assert not ledger.worked_on
    run = retrain(tmp_path, World(tmp_path))
    assert run
    assert run.outcome == "promoted"
    assert (tmp_path / "calls").read_text().split() == ["train", "canary"]


def test_only_one_process_works_on_a_run(tmp_path: Path) -> None:
    ledger = RunLedger(tmp_path / "m", "m")
    ledger.decide(SPEC.retrain, [Alert("a", "fired", "2024-06-01T00:00:00Z")], now=JUNE)
    with ledger.alone():
        assert trigger.execute(RunLedger(tmp_path / "m", "m"), SPEC, World(tmp_path), clock=lambda: JUNE) is None
    assert trigger.execute(ledger, SPEC, World(tmp_path), clock=lambda: JUNE)


DATES = SplitSpec(validation_from="2013-06-01", test_from="2013-07-01", until="2014-01-01")


@pytest.mark.parametrize(
    ("split", "gate", "now", "moved"),
    [
        (DATES, "", "2013-10-01T15:00", ("", "2013-08-02", "2013-09-01", "2013-10-01")),
        (DATES, "14d", "2013-10-01T15:00", ("", "2013-08-18", "2013-09-17", "2013-10-01")),
        (SplitSpec("2013-06-01", "2013-07-01", "", "2013-01-01"), "14d", "2013-10-01",
         ("2013-03-20", "2013-08-18", "2013-09-17", "2013-10-01")),
        (DATES, "14d", "2013-07-08", ("", "2013-06-01", "2013-07-01", "2013-07-08")),
    ],
)  # fmt: skip
def test_the_newest_matured_rows_become_the_test(
    split: SplitSpec, gate: str, now: str, moved: tuple[str, str, str, str]
) -> None:
    spec = model_spec.msgspec.structs.replace(SPEC, split=split, gate=GateSpec(window=gate))
    found = window.move(spec, instant(now)).split
    assert tuple(text[:10] for text in (found.start, found.validation_from, found.test_from, found.until)) == moved


@pytest.mark.parametrize("now", ["2013-07-01", "2013-03-01"])
def test_where_nothing_newer_has_matured_the_declared_split_stands(now: str) -> None:
    spec = model_spec.msgspec.structs.replace(SPEC, split=DATES)
    assert window.move(spec, instant(now)).split == DATES


def test_windows_of_less_than_a_day_are_not_rounded() -> None:
    split = SplitSpec(validation_from="2024-01-01T00:00", test_from="2024-01-01T06:00")
    spec = model_spec.msgspec.structs.replace(SPEC, split=split)
    assert window.move(spec, instant("2024-02-01T15:30")).split.until == "2024-02-01T15:30:00Z"


def test_a_split_by_fractions_moves_by_itself() -> None:
    spec = model_spec.msgspec.structs.replace(SPEC, split=SplitSpec(test=0.3))
    assert window.move(spec, JUNE).split == SplitSpec(test=0.3)


def test_the_derived_file_differs_in_the_split_alone_and_the_users_stays(tmp_path: Path) -> None:
    file = Path(__file__).parent.parent.parent / "pipelines" / "models" / "flight-delay.yml"
    before, spec = file.read_bytes(), model_spec.load(file)
    moved = window.move(spec, instant("2013-10-01")).split
    derived = window.derive(file, moved, tmp_path / "runs" / "1" / "flight-delay.yml")
    assert model_spec.load(derived) == model_spec.msgspec.structs.replace(spec, split=moved)
    assert file.read_bytes() == before
    assert list(tmp_path.rglob(".*")) == []
    assert "split" in yaml.safe_load(derived.read_text())
