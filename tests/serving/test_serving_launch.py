"""What a scorer says when it starts, and settings that it refuses to start with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from scorer_process import Scorer

from stk_ml.errors import SettingError
from stk_ml.serving import launch
from stk_ml.settings import Settings

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


@pytest.mark.parametrize("auth", ["any", "token"])
@pytest.mark.parametrize("where", ["http://login.example/keys", "ftp://127.0.0.1/keys", "https://", "https://[x/keys"])
def test_keys_from_a_place_that_is_not_taken_are_refused_at_the_start(where: str, auth: str, tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, flags={"auth": auth}, environ={"STK_ML_TOKEN_KEYS": where})
    with pytest.raises(SettingError, match=r"token_keys: .*, as STK_ML_TOKEN_KEYS says") as caught:
        launch.verifier(settings, "late-parcel", create=True)
    assert caught.value.hint
    assert not settings.vault.exists()


def test_keys_of_a_token_do_not_matter_where_none_is_taken(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, flags={"auth": "key"}, environ={"STK_ML_TOKEN_KEYS": "http://login.example/k"})
    launch.verifier(settings, "late-parcel", create=True)


def test_a_bad_setting_ends_the_start_with_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stk.toml").write_text('[profile.laptop]\ntoken_keys = "http://login.example/keys"\n')
    done = stk(tmp_path, "serve", str(folder), "--port", "0")
    assert done.returncode == 2
    assert "as stk.toml [profile.laptop] says" in done.stderr
    assert "Traceback" not in done.stderr
