from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stk_ml.cli.app import main

ROOT = Path(__file__).parent.parent.parent


def test_init_lays_out_a_project_whose_models_and_pipelines_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "shop"), "--quiet"]) == 0
    monkeypatch.chdir(tmp_path / "shop")
    assert Path("pipelines/train.yml").is_file()
    assert Path("pipelines/models/flight-delay.yml").is_file()
    assert Path("environments/training/conda.yml").is_file()
    assert main(["pipeline", "check", "pipelines/train.yml"]) == 0
    assert main(["features", "list"]) == 0
    assert "departures" in capsys.readouterr().out


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stk.toml").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "already holds stk.toml" in capsys.readouterr().err
    assert (tmp_path / "stk.toml").read_text() == "mine"
    assert main(["init", str(tmp_path / "stk.toml")]) == 2


@pytest.mark.slow
def test_an_installed_wheel_lays_out_a_project_and_lists_its_views(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="pip install 'stk-ml[dev]'")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    site = tmp_path / "site"
    unpack = [sys.executable, "-m", "zipfile", "-e", str(next(tmp_path.glob("*.whl"))), str(site)]
    subprocess.run(unpack, check=True)
    environ = {**os.environ, "PYTHONPATH": str(site)}

    def run(*words: str, folder: Path) -> str:
        code = f"import stk_ml, sys; assert stk_ml.__file__.startswith({str(site)!r})\n"
        code += "from stk_ml.cli.app import main; sys.exit(main())"
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout

    run("init", "shop", folder=tmp_path)
    assert (tmp_path / "shop" / "environments" / "training" / "conda.yml").is_file()
    assert (tmp_path / "shop" / "deploy").is_dir()
    assert "departures" in run("features", "list", folder=tmp_path / "shop")
