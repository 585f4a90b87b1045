"""What the tests of schedules share: texts, a clock, processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from stk_ml.orchestration.schedule import Schedule, load_schedule
from stk_ml.orchestration.trigger import Trigger, following

JOB = """
type: pipeline
inputs:
  word: hello
  rows: 3
jobs:
  say:
    component:
      type: command
      is_deterministic: false
      inputs: {word: {type: string}}
      environment: azureml:any@latest
      command: 'echo ${{inputs.word}} >> "$SAID" && sleep ${SECONDS_IT_TAKES:-0}'
    inputs: {word: "${{parent.inputs.word}}"}
"""
HEAD = "name: daily\ntrigger:\n"
TAIL = "create_job: ../job.yml\n"
CRON = HEAD + "  type: cron\n  expression: "


def trigger_of(write: Callable[[str], Path], lines: str) -> Trigger:
    indented = "".join(f"  {line}\n" for line in lines.strip().splitlines())
    return load_schedule(write(HEAD + indented + TAIL)).trigger


def at(text: str, where: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(where))


def times(trigger: Trigger, after: datetime, count: int, made: datetime | None = None) -> list[str]:
    """The next times, as a clock on the wall of that time zone shows them."""
    found = []
    for _ in range(count):
        moment = following(trigger, after, made=made)
        if moment is None:
            break
        after = moment
        found.append(after.astimezone(trigger.zone).strftime("%Y-%m-%d %H:%M"))
    return found


class Clock:
    """Time as the test says; waiting moves it."""

    def __init__(self, now: str) -> None:
        self.now = at(now)
        self.until = self.now

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += timedelta(seconds=seconds)
        return self.now >= self.until


def noted(ran: list[str], clock: Clock) -> Callable[[Schedule], str]:
    def execute(schedule: Schedule) -> str:
        ran.append(clock.now.strftime("%d %H:%M"))
        return f"run-{len(ran)}"

    return execute


class Process:
    """A launched run that ends after a while of the test's clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._ends = clock, clock.now + timedelta(seconds=seconds)

    def poll(self) -> int | None:
        return 0 if self._clock.now >= self._ends else None


def stk(folder: Path, *words: str, **environ: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stk_ml", "schedule", *words]
    environ = {**os.environ, "SAID": str(folder / "said"), **environ}
    return subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    return output


def said(folder: Path) -> list[str]:
    file = folder / "said"
    return file.read_text().split() if file.exists() else []


def wait_until(true: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        assert process is None or process.poll() is None
        time.sleep(0.02)
