"""How steps are run: where, with what around them, and what becomes of their failures."""

from __future__ import annotations

import errno
import logging
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stk_ml.errors import DataError, DeclarationError, PipelineError, StepFailedError, StorageError, UnknownNameError
from stk_ml.orchestration.local import LocalRunner
from stk_ml.orchestration.parse import load_pipeline

E = "    environment: azureml:e@latest\n"


def steps(**commands: str) -> str:
    """A pipeline of independent steps, each with one folder output."""
    jobs = "".join(
        f"  {name}:\n    command: |\n      {command}\n{E}    outputs: {{out: }}\n" for name, command in commands.items()
    )
    return f"type: pipeline\njobs:\n{jobs}"


def test_a_failed_step_is_named_with_its_code_the_end_of_its_log_and_where_that_is(job, runner):
    bad = load_pipeline(job(steps(bad="for i in $(seq 30); do echo line $i; done; echo it broke >&2; exit 3")))
    with pytest.raises(StepFailedError, match="step 'bad' ended with exit code 3") as caught:
        runner.run(bad)
    assert (caught.value.step, caught.value.code) == ("bad", 3)
    assert isinstance(caught.value, PipelineError)
    assert "  line 30\n  it broke\n" in caught.value.hint
    log = Path(caught.value.hint.split("whole log: ")[1])
    assert log.read_text().splitlines()[0] == "line 1"
    assert "line 10\n" not in caught.value.hint


def test_running_siblings_end_and_nothing_new_starts_after_a_failure(job, runner, tmp_path):
    text = steps(bad="exit 1", slow="sleep 0.5; echo 1 > ${{outputs.out}}/x")
    text += f"  later:\n    command: cp ${{{{inputs.x}}}}/x ${{{{outputs.out}}}}\n{E}"
    text += "    inputs: {x: '${{parent.jobs.slow.outputs.out}}'}\n    outputs: {out: }\n"
    events = []
    runner = LocalRunner(tmp_path / "cache", on_event=events.append)
    with pytest.raises(StepFailedError):
        runner.run(load_pipeline(job(text)))
    ended = {event.step: event.kind for event in events if event.kind != "started"}
    assert ended == {"bad": "failed", "slow": "ran", "later": "skipped"}
    go_on = text.replace("jobs:\n", "settings: {continue_on_step_failure: true}\njobs:\n", 1)
    events.clear()
    with pytest.raises(StepFailedError):
        runner.run(load_pipeline(job(go_on)))
    ended = {event.step: event.kind for event in events if event.kind != "started"}
    assert ended == {"bad": "failed", "slow": "cached", "later": "ran"}


@pytest.mark.parametrize(
    ("kind", "command", "message"),
    [
        ("uri_file", "true", "did not write its output 'out' (uri_file, one file)"),
        ("uri_file", "mkdir ${{outputs.out}}", "made a folder of its output 'out'"),
        ("uri_folder", "true", "left its output 'out' (uri_folder) empty"),
        ("uri_folder", "rmdir ${{outputs.out}}", "did not leave a folder as its output 'out'"),
        ("mlflow_model", "touch ${{outputs.out}}/x", "wrote no file MLmodel into its output 'out'"),
        ("mltable", "touch ${{outputs.out}}/x", "wrote no file MLTable into its output 'out'"),
    ],
)
def test_an_output_that_is_not_there_is_named(job, runner, kind, command, message):
    text = steps(a=command).replace("{out: }", f"{{out: {{type: {kind}}}}}")
    with pytest.raises(StepFailedError) as caught:
        runner.run(load_pipeline(job(text)))
    assert message in str(caught.value)


def test_a_folder_that_should_be_a_model_and_is_none(job, runner):
    text = steps(a="touch ${{outputs.out}}/x", b="true").replace(
        "outputs: {out: }", "outputs: {out: {type: uri_folder}}"
    )
    head, tail = text.split("  b:")
    tail = tail.replace(E, E + "    inputs: {m: {type: mlflow_model, path: '${{parent.jobs.a.outputs.out}}'}}\n")
    with pytest.raises(DeclarationError, match=r"m: .* is no mlflow_model: it holds no file MLmodel"):
        runner.run(load_pipeline(job(head + "  b:" + tail)))


def test_a_step_that_takes_longer_than_its_limit_is_ended(job, runner):
    text = steps(a="sleep 30").replace(E, E + "    limits: {timeout: 1}\n")
    since = time.monotonic()
    with pytest.raises(StepFailedError, match=r"ran longer than its limits\.timeout of 1 s"):
        runner.run(load_pipeline(job(text)))
    assert time.monotonic() - since < 5


def test_a_step_that_a_signal_ended_says_which(job, runner):
    with pytest.raises(StepFailedError, match="was ended by SIGSEGV"):
        runner.run(load_pipeline(job(steps(a="kill -SEGV $$"))))


def test_a_command_that_is_not_there(job, runner):
    with pytest.raises(StepFailedError, match="ended with exit code 127") as caught:
        runner.run(load_pipeline(job(steps(a="no-such-program"))))
    assert "no-such-program" in caught.value.hint


def test_what_a_step_leaves_running_is_ended_with_it(job, runner, tmp_path):
    pid = tmp_path / "pid"
    runner.run(load_pipeline(job(steps(a=f"sleep 60 & echo $! > {pid}; echo 1 > ${{{{outputs.out}}}}/x"))))
    deadline = time.monotonic() + 5
    while _alive(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_step_finds_around_it(job, tmp_path):
    command = (
        'env | grep -E "^(AZURE|STK_ML)" | sort > ${{outputs.out}}/env; command -v python > ${{outputs.out}}/python'
    )
    runner = LocalRunner(tmp_path / "cache", project=tmp_path)
    run = runner.run(load_pipeline(job(steps(a=command))))
    text = (run.steps["a"].outputs["out"] / "env").read_text()
    lines = dict(line.split("=", 1) for line in text.splitlines())
    assert lines["STK_ML_PROJECT"] == str(tmp_path)
    assert lines["AZUREML_ROOT_RUN_ID"] == run.id
    assert lines["AZURE_ML_OUTPUT_out"].endswith("/a/entry/outputs/out")
    python = Path((run.steps["a"].outputs["out"] / "python").read_text().strip())
    assert python.parent == Path(sys.executable).parent


def test_a_step_works_on_a_copy_of_its_code(job, runner, tmp_path):
    code = tmp_path / "src"
    code.mkdir()
    for name in ("main.sh", "notes.txt"):
        (code / name).write_text("echo from code > $1/x")
    (code / ".amlignore").write_text("*.txt\n")
    text = steps(a="ls -A > ${{outputs.out}}/ls; sh main.sh ${{outputs.out}}; echo > main.sh").replace(
        E, E + "    code: src\n"
    )
    run = runner.run(load_pipeline(job(text)))
    out = run.steps["a"].outputs["out"]
    assert (out / "x").read_text() == "from code\n"
    assert (out / "ls").read_text().split() == [".amlignore", "main.sh"]
    assert (code / "main.sh").read_text() == "echo from code > $1/x"


def test_a_code_folder_may_hold_the_cache(job, tmp_path):
    text = steps(a="ls > ${{outputs.out}}/ls").replace(E, E + "    code: .\n")
    runner = LocalRunner(tmp_path / "my-cache")
    pipeline = load_pipeline(job(text))
    assert (runner.run(pipeline).steps["a"].outputs["out"] / "ls").read_text().split() == ["job.yml"]
    assert runner.run(pipeline).steps["a"].status == "cached"


class Invoke:
    """Stands for the command line: notes what it was asked, and writes every --out."""

    def __init__(self, act=lambda argv: 0, wait: float = 0.0) -> None:
        self.calls, self.act, self.wait = [], act, wait

    def __call__(self, argv, env, cwd):
        self.calls.append((list(argv), threading.current_thread(), cwd, dict(env)))
        print("said", argv[1])
        print("complained", file=sys.stderr)
        if "--out" in argv:
            Path(argv[argv.index("--out") + 1], "x").write_text("1")
        time.sleep(self.wait)
        return self.act(argv)


def test_stk_ml_commands_run_here_in_the_main_thread_with_their_log(job, tmp_path, capsys):
    invoke = Invoke()
    runner = LocalRunner(tmp_path / "my cache", invoke=invoke, project=tmp_path)
    text = steps(a="stk-ml a --out ${{outputs.out}}", b="echo 1 > ${{outputs.out}}/x")
    run = runner.run(load_pipeline(job(text)))
    ((argv, thread, cwd, env),) = invoke.calls
    assert argv[:3] == ["stk-ml", "a", "--out"]
    assert "my cache" in argv[3]
    assert len(argv) == 4
    assert thread is threading.main_thread()
    assert cwd.name == "work"
    assert env["STK_ML_PROJECT"] == str(tmp_path)
    assert run.steps["a"].log.read_text() == "said a\ncomplained\n"
    assert capsys.readouterr().out == ""


def test_a_handler_made_during_a_step_writes_to_the_real_stream_after_it(job, tmp_path, capsys):
    logger = logging.getLogger("made during a step")

    def act(argv):
        logger.addHandler(logging.StreamHandler())
        logger.warning("in the log")
        return 0

    runner = LocalRunner(tmp_path / "cache", invoke=Invoke(act))
    run = runner.run(load_pipeline(job(steps(a="stk-ml a --out ${{outputs.out}}"))))
    logger.warning("on the terminal")
    assert "in the log" in run.steps["a"].log.read_text()
    assert capsys.readouterr().err == "on the terminal\n"


def test_while_one_runs_here_another_is_a_process(job, tmp_path):
    invoke = Invoke(wait=2)
    runner = LocalRunner(tmp_path / "cache", invoke=invoke)
    text = steps(a="stk-ml --version --out ${{outputs.out}}", b="stk-ml --version --out ${{outputs.out}}")
    with pytest.raises(StepFailedError):  # the process does not write its output
        runner.run(load_pipeline(job(text)))
    assert len(invoke.calls) == 1


def test_short_commands_take_turns_here(job, tmp_path):
    invoke = Invoke(wait=0.1)
    runner = LocalRunner(tmp_path / "cache", invoke=invoke, threads=3)
    runner.run(load_pipeline(job(steps(**{name: f"stk-ml {name} --out ${{{{outputs.out}}}}" for name in "abc"}))))
    assert sorted(call[0][1] for call in invoke.calls) == ["a", "b", "c"]


@pytest.mark.parametrize("command", ["stk-ml a && true", "stk-ml a | cat", "VAR=1 stk-ml a"])
def test_a_line_that_needs_a_shell_does_not_run_here(job, tmp_path, command):
    invoke = Invoke()
    runner = LocalRunner(tmp_path / "cache", invoke=invoke)
    with pytest.raises(StepFailedError):
        runner.run(load_pipeline(job(steps(a=command))))
    assert not invoke.calls


@pytest.mark.parametrize(
    ("act", "code", "said"),
    [
        (lambda argv: 4, 4, "said a"),
        (lambda argv: sys.exit(5), 5, "said a"),
        (lambda argv: sys.exit("a message"), 1, "said a"),
        (lambda argv: (_ for _ in ()).throw(DataError("bad rows", hint="mend them")), 1, "mend them"),
        (lambda argv: 1 / 0, 1, "ZeroDivisionError"),
    ],
)
def test_how_a_command_that_ran_here_failed(job, tmp_path, act, code, said):
    runner = LocalRunner(tmp_path / "cache", invoke=Invoke(act))
    with pytest.raises(StepFailedError) as caught:
        runner.run(load_pipeline(job(steps(a="stk-ml a"))))
    assert caught.value.code == code
    assert said in caught.value.hint


@pytest.mark.parametrize("how", ["raise", "130"])
def test_ctrl_c_in_a_command_that_runs_here_ends_the_run(job, tmp_path, how):
    def act(argv):
        if how == "raise":
            raise KeyboardInterrupt
        return 130

    runner = LocalRunner(tmp_path / "cache", invoke=Invoke(act, wait=0.3))
    since = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run(load_pipeline(job(steps(a="stk-ml a", b="sleep 30"))))
    assert time.monotonic() - since < 5
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []


def test_outputs_replace_what_was_in_the_output_folder(job, runner, tmp_path):
    text = steps(a="echo ${{inputs.word}} > ${{outputs.out}}/x").replace("{out: }", "{out: '${{parent.outputs.all}}'}")
    text = text.replace("jobs:\n", "inputs: {word: one}\noutputs: {all: }\njobs:\n", 1)
    text = text.replace(E, E + "    inputs: {word: '${{parent.inputs.word}}'}\n")
    pipeline, out = load_pipeline(job(text)), tmp_path / "out"
    runner.run(pipeline, output_dir=out)
    (out / "all" / "left over").write_text("old")
    runner.run(pipeline, {"word": "two"}, output_dir=out)
    assert [file.name for file in (out / "all").iterdir()] == ["x"]
    assert (out / "all" / "x").read_text() == "two\n"
    assert [file.name for file in out.iterdir()] == ["all"]


def test_a_forced_step_that_there_is_not_is_named(job, runner):
    with pytest.raises(UnknownNameError, match="unknown step 'b'"):
        runner.run(load_pipeline(job(steps(a="true"))), force=["b"])


def test_a_full_disk_is_one_clear_error(job, tmp_path):
    """The runner may write files of 4 KB only; its own copy of the code is larger."""
    code = tmp_path / "src"
    code.mkdir()
    (code / "big.bin").write_bytes(b"0" * 100_000)
    file = job(steps(a="true").replace(E, E + "    code: src\n"))
    script = (
        "import sys; from stk_ml.orchestration.local import LocalRunner; "
        "from stk_ml.orchestration.parse import load_pipeline\n"
        "try: LocalRunner(sys.argv[2]).run(load_pipeline(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error, error.hint, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    kind, message, hint = done.stdout.strip().split("|")
    assert kind == StorageError.__name__
    assert os.strerror(errno.EFBIG).lower() in message
    assert "free some space" in hint
    assert done.stderr == ""
    assert not list((tmp_path / "cache" / "entries").rglob("entry.json"))


def test_a_step_that_fills_the_disk_is_told_as_such(job, tmp_path):
    file = job(steps(a="ulimit -f 4; head -c 100000 /dev/zero > ${{outputs.out}}/x"))
    with pytest.raises(StepFailedError, match=r"SIGXFSZ|exit code 1"):
        LocalRunner(tmp_path / "cache").run(load_pipeline(file))


def test_a_cache_that_cannot_be_made_is_a_storage_error(job, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        LocalRunner(tmp_path / "file" / "cache").run(load_pipeline(job(steps(a="true"))))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().split(") ")[1].startswith("Z"))
