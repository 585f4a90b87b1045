"""Pipelines that know nothing of stk-ml, and a runner over a cache of the test's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from schedule_rigs import CRON, JOB, TAIL, at

from stk_ml.orchestration.local import LocalRunner
from stk_ml.orchestration.scheduler import Schedules

EXAMPLES = Path(__file__).parent / "pipelines"
#: Scripts of their steps, not modules with doctests.
collect_ignore = ["pipelines"]


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """Copies one of the example pipelines to where the test may change it; gives its pipeline.yml."""

    def copy(name: str) -> Path:
        shutil.copytree(EXAMPLES / name, tmp_path / name)
        return tmp_path / name / "pipeline.yml"

    return copy


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Writes a pipeline file."""

    def write(text: str, name: str = "job.yml") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write


@pytest.fixture
def runner(tmp_path: Path) -> LocalRunner:
    return LocalRunner(tmp_path / "cache")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the text of a schedule beside a pipeline that it may run."""
    (tmp_path / "pipelines" / "schedules").mkdir(parents=True)
    (tmp_path / "stk.toml").write_text('[project]\nname = "clock"\n[profile.laptop]\n')
    (tmp_path / "pipelines" / "job.yml").write_text(JOB)

    def write(text: str, name: str = "daily") -> Path:
        file = tmp_path / "pipelines" / "schedules" / f"{name}.yml"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def daily(write: Callable[[str], Path], tmp_path: Path) -> Schedules:
    """A schedule for 6:00 each day, applied on 1 November at noon."""
    schedules = Schedules(tmp_path / ".stk" / "schedules")
    schedules.apply(write(CRON + "'0 6 * * *'\n" + TAIL), now=at("2026-11-01T12:00"))
    return schedules


@pytest.fixture
def due(daily: Schedules, tmp_path: Path) -> Path:
    """The folder of a project whose schedule has been due for long."""
    return tmp_path
