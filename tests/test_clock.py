"""A clock that is set by one process and read by others."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from stk_ml.clock import FileClock, clock
from stk_ml.errors import StorageError
from stk_ml.settings import Settings


def test_another_process_sees_the_time_at_once(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    ours = FileClock(file)
    code = (
        "import sys; from stk_ml.clock import FileClock; shared = FileClock(sys.argv[1])\n"
        "for _ in sys.stdin: print(shared(), flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout
        for seconds in (1.5, 1_372_636_800.25, 3.0):
            ours.set(seconds)
            other.stdin.write("now\n")
            other.stdin.flush()
            assert float(other.stdout.readline()) == seconds
        other.stdin.close()


def test_a_clock_keeps_its_time_when_it_is_opened_again(tmp_path: Path) -> None:
    FileClock(tmp_path / "clock").set(7.0)
    assert FileClock(tmp_path / "clock")() == 7.0


def test_a_file_that_is_no_clock_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("do not lose me")
    with pytest.raises(StorageError, match="is no clock: it holds 14 bytes"):
        FileClock(tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "do not lose me"
    with pytest.raises(StorageError, match="cannot be opened"):
        FileClock(tmp_path / "no" / "folder")


def test_without_a_file_it_is_the_machines_time() -> None:
    assert clock("") is time.time


def test_the_setting_is_a_file_of_the_project(tmp_path: Path) -> None:
    assert Settings.load(tmp_path).clock == ""
    assert Settings.load(tmp_path, environ={"STK_ML_CLOCK": "clock"}).clock == str(tmp_path / "clock")


def test_a_reader_never_meets_half_of_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from stk_ml.clock import FileClock; shared = FileClock(sys.argv[1])\n"
        "print('begun', flush=True)\n"
        "while True: shared.set(1.0e9); shared.set(-3.7e-9)"
    )
    ours = FileClock(tmp_path / "clock")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "clock")], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        other.stdout.readline()
        seen = {ours() for _ in range(200_000)}
        other.kill()
    assert seen - {0.0} == {1.0e9, -3.7e-9}
