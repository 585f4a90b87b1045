"""Schedules run once whoever runs them: real processes, killed at any time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from schedule_rigs import (
    CRON,
    TAIL,
    ended,
    said,
    stk,
    wait_until,
)

from stk_ml.orchestration.scheduler import Schedules


def test_two_processes_at_once_run_it_once(due: Path) -> None:
    both = [stk(due, "run", "daily", "--once", SECONDS_IT_TAKES="2") for _ in range(2)]
    outputs = [ended(process) for process in both]
    assert said(due) == ["hello"]
    assert sum("ran for" in output for output in outputs) == 1
    assert "not due" in ended(stk(due, "run", "daily", "--once"))


def test_a_killed_run_is_noticed_and_run_again_by_the_next(due: Path, daily: Schedules) -> None:
    first = stk(due, "run", "daily", "--once", SECONDS_IT_TAKES="60")
    wait_until(lambda: said(due), first)
    assert daily.busy("daily")
    assert "running" in ended(stk(due, "list"))
    first.kill()
    first.wait()
    wait_until(lambda: not daily.busy("daily"))
    assert "killed" in ended(stk(due, "list"))
    ended(stk(due, "run", "daily", "--once"))
    last = daily.last("daily")
    assert last is not None
    assert (last.status, last.attempt, said(due)) == ("ok", 2, ["hello", "hello"])


@pytest.mark.slow
def test_runners_that_are_killed_leave_their_run_to_its_end(due: Path, daily: Schedules) -> None:
    runners = [stk(due, "run", SECONDS_IT_TAKES="4") for _ in range(2)]
    wait_until(lambda: said(due), runners[0])
    for runner in runners:
        runner.kill()
        runner.wait()
    assert daily.busy("daily")
    third = stk(due, "run")
    wait_until(lambda: not daily.busy("daily"), third)
    last = daily.last("daily")
    assert last is not None
    assert (last.status, last.attempt, said(due)) == ("ok", 1, ["hello"])
    third.send_signal(signal.SIGTERM)
    ended(third)
    assert said(due) == ["hello"]


def test_a_line_for_cron_runs_in_any_folder(due: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    line = ended(stk(due, "crontab")).strip()
    fields, command = line.split(" ", 5)[:5], line.split(" ", 5)[5]
    assert fields[0] == "0"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environ = {"PATH": os.defpath, "HOME": str(elsewhere), "SAID": str(due / "said")}
    subprocess.run(["sh", "-c", command.replace("\\%", "%")], cwd=elsewhere, env=environ, check=True)
    assert said(due) == ["hello"]
    with contextlib.suppress(FileNotFoundError):
        assert "rror" not in (due / ".stk" / "schedules" / "daily" / "cron.log").read_text()


def test_apply_records_all_or_none(due: Path, write: Callable[[str], Path], daily: Schedules) -> None:
    write(CRON.replace("daily", "good") + "'0 7 * * *'\n" + TAIL, "a_good")
    write(CRON.replace("daily", "bad") + "'0 77 * * *'\n" + TAIL, "b_bad")
    assert "b_bad.yml:4" in ended(stk(due, "apply"), code=2)
    assert daily.names() == ["daily"]
    write(CRON.replace("daily", "bad") + "'0 17 * * *'\n" + TAIL, "b_bad")
    ended(stk(due, "apply"))
    assert daily.names() == ["bad", "daily", "good"]


def test_a_schedule_that_cannot_be_read_is_listed_beside_the_others(write: Callable[[str], Path]) -> None:
    folder = write(CRON + "'0 6 * * *'\n" + TAIL).parents[2]
    write(CRON.replace("daily", "other") + "'0 6 * * *'\n" + TAIL, "other")
    ended(stk(folder, "apply"))
    next(folder.rglob("daily/schedule.json")).with_name("last.json").write_text("{")
    shown = ended(stk(folder, "list", COLUMNS="200"))
    assert "unreadable" in shown
    assert "other" in shown
    assert "T06:00" in shown
    assert len(ended(stk(folder, "crontab")).splitlines()) == 2
