"""What the image holds: the versions of the whole lock, verified, without what only training or Azure needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
SERVING = REPOSITORY / "environments/serving"
#: Large, or able to do what a scorer should not: not in the image.
LEFT_OUT = (
    "mlflow",
    "mlflow-skinny",
    "duckdb",
    "deltalake",
    "azure-ai-ml",
    "sqlalchemy",
    "pandas",
    "pyspark",
    "flaml",
    "pip",
)


def pins(file: Path) -> set[str]:
    """``name==version ; marker`` of each requirement."""
    return {
        line.removesuffix("\\").strip() for line in file.read_text("utf-8").splitlines() if re.match("[a-z0-9]", line)
    }


def names(file: Path) -> set[str]:
    return {
        re.split(r"[=\[ #]", line)[0] for line in file.read_text("utf-8").splitlines() if re.match("[a-z0-9]", line)
    }


def test_every_version_is_that_of_the_whole_lock() -> None:
    assert pins(SERVING / "requirements.lock") <= pins(REPOSITORY / "requirements/all.lock")


def test_the_lock_covers_what_is_asked_for() -> None:
    assert names(SERVING / "requirements.in") <= names(SERVING / "requirements.lock")


def test_every_requirement_has_hashes_and_no_address() -> None:
    text = (SERVING / "requirements.lock").read_text("utf-8")
    requirements = re.split(r"\n(?=[a-z0-9])", text)
    assert all("--hash=sha256:" in requirement for requirement in requirements)
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_scorer_does_without(name: str) -> None:
    assert name not in names(SERVING / "requirements.lock")
