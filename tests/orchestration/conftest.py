"""Pipelines that know nothing of stk-ml, and a runner over a cache of the test's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stk_ml.orchestration.local import LocalRunner

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
