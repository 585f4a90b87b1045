"""Schemathesis finds nothing: what fits the OpenAPI document is scored, what does not is refused, nothing is a 500."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from scorer_process import Scorer

HERE = Path(__file__).parent


@pytest.mark.slow
def test_all_checks_against_the_document(server: Scorer, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="pip install 'stk-ml[dev]'")
    key = server.headers["x-api-key"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--checks", "all"]
    options = ["--max-examples", "25", "--generation-deterministic", "--no-color", "--header", f"x-api-key:{key}"]
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
    result = subprocess.run([*command, *options], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert "No issues found" in result.stdout
    assert server.process.poll() is None
