"""build.py hands the engine a bare context, and pip's settings of this machine as secrets only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "environments/serving/build.py"
#: Stands in for podman: writes down its words, the secrets and what the context holds.
ENGINE = """#!/bin/sh
echo "$@" >"{folder}/words"
for word; do
  case $word in id=*) id=${{word%%,*}}; cp "${{word#*src=}}" "{folder}/secret-${{id#id=}}" ;; esac
  last=$word
done
ls -A "$last" >"{folder}/context"
echo "$last" >"{folder}/where"
"""

Build = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Runs the script with only the given settings of pip."""
    engine = tmp_path / "engine"
    engine.write_text(ENGINE.format(folder=tmp_path))
    engine.chmod(0o755)
    (tmp_path / "stk_ml-1.2.3-py3-none-any.whl").touch()
    (tmp_path / "pip.conf").touch()
    clean = {name: value for name, value in os.environ.items() if not re.search("PIP_|CERT|CA_BUNDLE", name)}
    clean |= {"ENGINE": str(engine), "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}

    def run(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, SCRIPT, tmp_path / "stk_ml-1.2.3-py3-none-any.whl", *options]
        return subprocess.run(words, env={**clean, **environ}, capture_output=True, text=True)

    return run


def test_the_context_holds_the_recipe_the_lock_and_the_wheel(build: Build, tmp_path: Path) -> None:
    assert build("--tag", "mine").returncode == 0
    assert set((tmp_path / "context").read_text().split()) == {
        *("Dockerfile", ".dockerignore", "requirements.lock", "stk_ml-1.2.3-py3-none-any.whl")
    }
    words = (tmp_path / "words").read_text()
    assert "--build-arg VERSION=1.2.3" in words
    assert "--tag mine" in words
    assert not Path((tmp_path / "where").read_text().strip()).exists()


def test_settings_of_pip_go_in_as_a_secret_and_nowhere_else(build: Build, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://me:hunter2@packages.invalid/simple\nextra-index-url =\n"
        "    https://one.invalid/simple\n    https://two.invalid/simple\ntrusted-host = packages.invalid\n"
    )
    result = build(PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert result.returncode == 0
    assert set((tmp_path / "secret-pip").read_text().splitlines()) == {
        "[global]",
        "index-url = https://me:hunter2@packages.invalid/simple",
        "extra-index-url = https://one.invalid/simple https://two.invalid/simple",
        "trusted-host = packages.invalid",
    }
    assert "hunter2" not in (tmp_path / "words").read_text() + result.stdout + result.stderr


def test_the_environment_wins_over_a_file(build: Build, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://file.invalid/simple\n")
    build(PIP_CONFIG_FILE=str(tmp_path / "pip.conf"), PIP_INDEX_URL="https://environment.invalid/simple")
    assert "index-url = https://environment.invalid/simple" in (tmp_path / "secret-pip").read_text()
    assert "file.invalid" not in (tmp_path / "secret-pip").read_text()


def test_an_index_on_this_machine_s_disk_is_left_out(build: Build, tmp_path: Path) -> None:
    build(PIP_EXTRA_INDEX_URL="file:///somewhere/simple https://two.invalid/simple")
    assert "file:" not in (tmp_path / "secret-pip").read_text()
    assert "https://two.invalid/simple" in (tmp_path / "secret-pip").read_text()


def test_certificates_go_in_where_they_are_set(build: Build, tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_text("certificate")
    build()
    assert not (tmp_path / "secret-ca").exists()
    build(PIP_CERT=str(tmp_path / "own.pem"))
    assert (tmp_path / "secret-ca").read_text() == "certificate"
    assert "cert = /run/secrets/ca" in (tmp_path / "secret-pip").read_text()


def test_a_failed_build_fails(build: Build, tmp_path: Path) -> None:
    (tmp_path / "engine").write_text("#!/bin/sh\nexit 3\n")
    assert build().returncode == 3


def test_its_example_holds() -> None:
    subprocess.run([sys.executable, "-m", "doctest", SCRIPT], check=True)
