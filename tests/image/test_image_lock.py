"""What the image holds: the versions of the whole lock, verified, without what only training or Azure needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
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
#: What `stk-ml serve` is made of, below stk_ml.
SERVED = (
    "artifact",
    "identity",
    "serving",
    "telemetry",
    "vault",
    "*.py",
    "cli/app.py",
    "cli/output.py",
    "cli/serve.py",
)


def imported(file: Path) -> Iterator[str]:
    """Libraries that a module imports, at once or later."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


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


def test_all_that_the_scorer_imports_is_in_it() -> None:
    places = [place for pattern in SERVED for place in (REPOSITORY / "stk_ml").glob(pattern)]
    elsewhere = ("azure.py", "workspace.py", "local_reader.py")  # the log is read by monitoring, not by the scorer
    files = [file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])]
    names_of = packages_distributions()
    libraries = {name for file in files if file.name not in elsewhere for name in imported(file)}
    libraries -= {*sys.stdlib_module_names, "stk_ml"}
    needed = {names_of[library][0].lower().replace("_", "-") for library in libraries}
    assert needed <= names(SERVING / "requirements.lock")


def test_all_that_the_extra_asks_for_is_in_it() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extra = {re.split(r"[=\[<>~]", wanted)[0] for wanted in project["optional-dependencies"]["serving"]}
    assert extra <= names(SERVING / "requirements.in")
