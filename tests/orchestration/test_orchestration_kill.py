"""Ctrl-C and kill -9 at any time: nothing half-done is seen, nothing goes on running, the next run resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stk_ml.orchestration import process
from stk_ml.orchestration.local import LocalRunner
from stk_ml.orchestration.parse import load_pipeline

E = "    environment: azureml:e@latest\n"
PIPELINE = f"""\
type: pipeline
outputs:
  end:
jobs:
  first:
    command: echo 1 > ${{{{outputs.out}}}}/x; echo ran >> FOLDER/first
{E}    outputs: {{out: }}
  slow:
    command: |
      cp ${{{{inputs.x}}}}/x ${{{{outputs.out}}}}/half
      (trap "" INT; sleep 60) &
      echo $! >> FOLDER/pids
      python -c "import os, time; open('FOLDER/pids', 'a').write(f'{{os.getpid()}}\\n'); time.sleep(60)" GATE
      echo done > ${{{{outputs.out}}}}/x
{E}    inputs: {{x: "${{{{parent.jobs.first.outputs.out}}}}"}}
    outputs: {{out: "${{{{parent.outputs.end}}}}"}}
"""
RUN = """\
import sys
from pathlib import Path
from stk_ml.orchestration import process
from stk_ml.orchestration.local import LocalRunner
from stk_ml.orchestration.parse import load_pipeline
process.GRACE = float(sys.argv[4])
run = LocalRunner(Path(sys.argv[2]), threads=2).run(load_pipeline(sys.argv[1]), output_dir=Path(sys.argv[3]))
print({name: step.status for name, step in run.steps.items()})
"""


@pytest.fixture
def file(job, tmp_path):
    return job(PIPELINE.replace("FOLDER", str(tmp_path)).replace(" GATE", ""))


def start(file: Path, tmp_path: Path, grace: float = process.GRACE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(file), str(tmp_path / "cache"), str(tmp_path / "out"), str(grace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(true, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.02)


def pids(tmp_path: Path) -> list[int]:
    file = tmp_path / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().split(") ")[1].startswith("Z"))


def assert_nothing_half_done(tmp_path: Path) -> None:
    assert not (tmp_path / "out" / "end").exists()
    assert list((tmp_path / "cache" / "entries").rglob("half")) == []


def resume(file: Path, tmp_path: Path) -> None:
    """The next run takes the first step from the cache, does the rest, and sweeps what the dead run left."""
    file.write_text(file.read_text().replace("time.sleep(60)", "1").replace("sleep 60", "true"))
    run = LocalRunner(tmp_path / "cache").run(load_pipeline(file), output_dir=tmp_path / "out")
    assert {name: step.status for name, step in run.steps.items()} == {"first": "cached", "slow": "ran"}
    assert (tmp_path / "out" / "end" / "x").read_text() == "done\n"
    assert (tmp_path / "first").read_text() == "ran\n"
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []


def test_kill_9_of_the_runner_ends_its_steps_and_the_next_run_resumes(file, tmp_path):
    runner = start(file, tmp_path)
    until(lambda: len(pids(tmp_path)) == 2)
    runner.kill()
    runner.communicate()
    until(lambda: not any(running(pid) for pid in pids(tmp_path)), 5)
    assert_nothing_half_done(tmp_path)
    assert list((tmp_path / "cache" / "scratch").iterdir()) != []
    resume(file, tmp_path)


def test_ctrl_c_ends_the_steps_and_the_next_run_resumes(file, tmp_path):
    runner = start(file, tmp_path)
    until(lambda: len(pids(tmp_path)) == 2)
    runner.send_signal(signal.SIGINT)
    _, errors = runner.communicate(timeout=2 * process.GRACE + 5)
    assert runner.returncode in (130, -signal.SIGINT)
    assert "KeyboardInterrupt" in errors
    assert not any(running(pid) for pid in pids(tmp_path))
    assert_nothing_half_done(tmp_path)
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []
    resume(file, tmp_path)


def test_terminating_the_runner_ends_its_steps(file, tmp_path):
    runner = start(file, tmp_path)
    until(lambda: len(pids(tmp_path)) == 2)
    runner.terminate()
    runner.communicate()
    until(lambda: not any(running(pid) for pid in pids(tmp_path)), 5)
    assert_nothing_half_done(tmp_path)


def test_a_step_that_ignores_ctrl_c_and_sigterm_is_killed_in_bounded_time(job, tmp_path):
    text = "type: pipeline\njobs:\n  deaf:\n    command: |\n      trap '' INT TERM\n"
    text += f"      echo $$ >> {tmp_path}/pids\n      while true; do sleep 1; done\n{E}"
    runner = start(job(text), tmp_path, 0.5)
    until(lambda: len(pids(tmp_path)) == 1)
    since = time.monotonic()
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=20)
    assert time.monotonic() - since < 4
    assert not running(pids(tmp_path)[0])


def test_a_second_ctrl_c_kills_at_once(job, tmp_path):
    text = "type: pipeline\njobs:\n  deaf:\n    command: |\n      trap '' INT TERM\n"
    text += f"      echo $$ >> {tmp_path}/pids\n      while true; do sleep 1; done\n{E}"
    runner = start(job(text), tmp_path)
    until(lambda: len(pids(tmp_path)) == 1)
    runner.send_signal(signal.SIGINT)
    time.sleep(0.5)
    since = time.monotonic()
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=15)
    assert time.monotonic() - since < 4
    assert not running(pids(tmp_path)[0])


def test_two_processes_on_one_cache_both_end_well(job, tmp_path):
    file = job(
        PIPELINE.replace("FOLDER", str(tmp_path))
        .replace("GATE", "")
        .replace("(60)", "(0.5)")
        .replace("sleep 60", "true")
    )
    one, two = start(file, tmp_path), start(file, tmp_path)
    for runner in (one, two):
        out, errors = runner.communicate(timeout=60)
        assert runner.returncode == 0, errors
        assert "first" in out
    assert (tmp_path / "out" / "end" / "x").read_text() == "done\n"
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []


@pytest.mark.slow
def test_kill_9_at_any_time_leaves_a_cache_that_the_next_run_can_use(job, tmp_path):
    chain = "".join(
        f"  s{i}:\n    command: for n in 1 2 3; do head -c 200000 /dev/zero > ${{{{outputs.o}}}}/$n; done\n{E}"
        + (f"    inputs: {{x: '${{{{parent.jobs.s{i - 1}.outputs.o}}}}'}}\n" if i else "")
        + ("    outputs: {o: '${{parent.outputs.end}}'}\n" if i == 5 else "    outputs: {o: }\n")
        for i in range(6)
    )
    file = job(f"type: pipeline\noutputs: {{end: }}\njobs:\n{chain}")
    for wait in (0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        runner = start(file, tmp_path)
        time.sleep(wait)
        runner.kill()
        runner.communicate()
    run = LocalRunner(tmp_path / "cache").run(load_pipeline(file), output_dir=tmp_path / "out")
    assert sorted(path.stat().st_size for path in (tmp_path / "out" / "end").iterdir()) == [200_000] * 3
    assert {step.status for step in run.steps.values()} <= {"ran", "cached"}
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []
