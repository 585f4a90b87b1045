"""The architecture as failing checks: who may import whom, and which library stands in which file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stk_ml"
#: A library, and where below stk_ml it may be imported.
HOMES = {
    "azure": lambda file: file.name == "azure.py",
    "mlflow": lambda file: file.parts[0] in ("training", "registry", "orchestration"),
    "fastapi": lambda file: file.parts[0] in ("serving", "reporting") or file.as_posix() == "retraining/webhook.py",
    "pandas": lambda file: False,
    "pickle": lambda file: False,
    "cloudpickle": lambda file: False,
    "joblib": lambda file: False,
}
#: What takes so long to import that no help text may wait for it.
HEAVY = (
    "pandas",
    "numpy",
    "mlflow",
    "azure",
    "lightgbm",
    "sklearn",
    "duckdb",
    "pyarrow",
    "deltalake",
    "sqlglot",
    "rich",
)


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_imports_run_one_way() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports_command as c; sys.exit(c())",
        "--no-cache",
    ]
    result = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_import_contract_ignores_nothing() -> None:
    contract = (PACKAGE.parent / ".importlinter").read_text()
    assert "ignore_imports" not in contract
    assert "exhaustive = true" in contract


@pytest.mark.parametrize("library", HOMES)
def test_a_library_stays_where_it_belongs(library: str) -> None:
    files = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")]
    strays = [str(file) for file in files if library in imported(PACKAGE / file) and not HOMES[library](file)]
    assert not strays


def test_modules_stay_short() -> None:
    long = {str(file): n for file in PACKAGE.rglob("*.py") if (n := len(file.read_text("utf-8").splitlines())) > 400}
    assert not long, "past 400 lines a module is split by meaning"


def test_every_key_in_yaml_dumped_models_is_documented() -> None:
    from stk_ml import model_spec

    for part in vars(model_spec).values():
        if (
            isinstance(part, type)
            and issubclass(part, model_spec.msgspec.Struct)
            and part is not model_spec.msgspec.Struct
        ):
            missing = [field for field in part.__struct_fields__ if field not in (part.__doc__ or "")]
            assert not missing, f"{part.__name__} does not tell what {missing} are"


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import stk_ml") & set(HEAVY)


def _commands() -> list[list[str]]:
    from stk_ml.cli.app import COMMANDS

    nested = {
        "alerts": ["serve", "sign"],
        "endpoint": ["status", "traffic", "promote", "rollback", "delete", "start", "stop", "logs", "keys"],
        "features": ["list", "snapshot", "build", "pull", "check"],
        "models": ["list", "show", "compare", "promote", "champion"],
        "monitor": ["run", "list", "report", "labels", "calibrate", "compare"],
        "pipeline": ["run", "check"],
        "schedule": ["apply", "list", "run", "crontab", "delete"],
        "step": ["fit", "evaluate", "register"],
    }
    return [[], *([name] for name in COMMANDS), *([name, sub] for name, subs in nested.items() for sub in subs)]


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"from stk_ml.cli.app import main\nassert main({[*words, '--help']!r}) == 0"
    assert not loaded_by(code) & set(HEAVY)
