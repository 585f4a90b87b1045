from __future__ import annotations

import csv
import math
import os
import random
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from stk_command import Run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project with its settings; models and data are the test's."""
    (tmp_path / "stk.toml").write_text('[project]\nname = "shop"\n[profile.laptop]\nlake = "lake"\n')
    return tmp_path


@pytest.fixture
def shop(project: Path) -> Path:
    """shop.csv: 3,000 orders over 300 days; ``late`` depends on distance and carrier, ``hours`` is how long it took."""
    draw = random.Random(5)
    with (project / "shop.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["day", "distance", "carrier", "weight", "late", "hours"])
        for index in range(3000):
            day = datetime(2024, 1, 1) + timedelta(hours=2.4 * index)
            distance, carrier = draw.uniform(1, 900), draw.choice(["north", "south", "west"])
            weight = "" if draw.random() < 0.1 else round(draw.uniform(0.1, 30), 2)
            signal = distance / 250 - 2 + (1.2 if carrier == "west" else 0)
            late = int(draw.random() < 1 / (1 + math.exp(-signal)))
            rows.writerow(
                [
                    day.isoformat(),
                    round(distance, 1),
                    carrier,
                    weight,
                    late,
                    round(6 + distance / 40 + draw.gauss(0, 1), 2),
                ]
            )
    return project


@pytest.fixture
def stk(project: Path) -> Run:
    """Runs ``stk-ml`` in the project as a user does, in a process of its own."""

    def run(*words: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stk_ml", *words]
        result = subprocess.run(command, cwd=project, env={**os.environ, **environ}, capture_output=True, text=True)
        assert result.returncode == code, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return run
