"""What a scorer says when it starts, and settings that it refuses to start with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from scorer_process import Scorer

TOOL = [sys.executable, "-m", "stk_ml"]


def stk(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TOOL, *words, "--project", str(project)], capture_output=True, text=True, timeout=60)


def test_it_says_how_a_key_is_shown_and_that_shows_it(server: Scorer) -> None:
    line = "a key: stk-ml endpoint keys late-parcel --show primary\n"
    deadline = time.monotonic() + 20
    while line not in server.said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert line in server.said
    assert "/score; people look at" in server.said[server.said.index(line) - 1]
    shown = stk(server.project, *line.split()[3:])
    assert shown.stdout.strip() == server.headers["x-api-key"], shown.stderr


def test_a_key_of_a_model_that_is_served_in_the_foreground_can_be_replaced(server: Scorer) -> None:
    before = stk(server.project, "endpoint", "keys", "late-parcel", "--show", "secondary").stdout
    assert stk(server.project, "endpoint", "keys", "late-parcel", "--regenerate", "secondary").returncode == 0
    after = stk(server.project, "endpoint", "keys", "late-parcel", "--show", "secondary").stdout
    assert len(after) == len(before) == 44
    assert after != before
    unknown = stk(server.project, "endpoint", "keys", "late-parcels")
    assert (unknown.returncode, "unknown endpoint" in unknown.stderr) == (2, True)
