"""Estimators that are refused before or while they are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from stk_ml import model_spec
from stk_ml.errors import DeclarationError, UsageError
from stk_ml.model_spec import LearnerSpec
from stk_ml.training.learners.estimator import build


def test_a_plain_path_to_a_function_is_not_called(tmp_path: Path) -> None:
    spec = LearnerSpec(estimator="os.system", params={"command": f"touch {tmp_path}/called"})
    with pytest.raises(UsageError, match="is no class"):
        build(spec, "binary", None)
    assert not (tmp_path / "called").exists()


def test_what_a_users_function_raises_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken_builder.py").write_text("def build():\n    raise ValueError('oops')\n")
    with pytest.raises(UsageError, match="raised ValueError: oops"):
        build(LearnerSpec(estimator="broken_builder:build"), "binary", tmp_path)


def test_a_time_budget_below_zero_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "m.yml"
    file.write_text("name: m\nproblem: binary\ndata: {table: t.csv, target: y}\nlearner:\n  time_budget: -3\n")
    with pytest.raises(DeclarationError, match=r":5: learner\.time_budget"):
        model_spec.load(file)
