from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stk_ml import __version__
from stk_ml.cli.app import COMMANDS, invoke, main
from stk_ml.errors import closest


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_no_command_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stk-ml {__version__}\n"


def test_unknown_command_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: unknown command 'trian'",
        f" hint: {closest('trian', COMMANDS)}",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "give either MODEL or --table"),
        (["train", "m", "--table", "t"], "give either MODEL or --table"),
        (["train", "--table", "t.csv"], "--table needs --target"),
        (["train", "m", "--time", "day"], "--target and --time go with --table"),
        (["train", "m", "--now", "soon"], "'soon' is not a date or time"),
        (["train", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["train", "nothing"], "unknown model 'nothing'"),
        (["train", "nothing.yml"], "unknown model file 'nothing.yml'"),
        (["pipeline", "run", "nothing.yml"], "no such file"),
        (["why", "nothing"], "nothing"),
        (["example", "trains"], "invalid choice"),
        (["--profile", "nope", "features", "list"], "unknown profile 'nope'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_line_a_hint_and_exit_code_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stk.toml").write_text('[profile.laptop]\nlake = "lake"\n')
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith(" hint: "))


def test_json_puts_one_document_on_standard_output_even_for_an_error(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "stk_ml", "train", "nothing", "--json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 2
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "UnknownNameError"
    assert "unknown model 'nothing'" in result.stderr


def test_json_keeps_what_libraries_print_away_from_standard_output(tmp_path: Path) -> None:
    script = (
        "import os\nfrom stk_ml.cli.output import Output\nout = Output(json=True)\n"
        "with out.standard_output():\n"
        "    print('chatter', flush=True); os.write(1, b'from C\\n'); out.document({'a': 1})\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == {"a": 1}
    assert "chatter" in result.stderr
    assert "from C" in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stk_ml", "train", "nothing", "--debug"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" in result.stderr


def test_invoke_gives_environment_and_folder_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, here = dict(os.environ), Path.cwd()
    assert invoke(["stk-ml", "--version"], {"ONLY": "this"}, tmp_path) == 0
    assert dict(os.environ) == before
    assert Path.cwd() == here


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    result = subprocess.run(
        f"{sys.executable} -m stk_ml --help | head -1", shell=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stderr == ""
