"""A step runs again exactly when something it depends on has changed, and why() names that."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.errors import StepFailedError, UnknownNameError
from stk_ml.orchestration.cache import key_of
from stk_ml.orchestration.local import LocalRunner
from stk_ml.orchestration.parse import load_pipeline
from stk_ml.orchestration.protocol import KeyParts
from stk_ml.orchestration.why import why

PIPELINE = """\
type: pipeline
inputs:
  data:
    type: uri_folder
    path: data
  rate: 0.1
outputs:
  end:
jobs:
  first:
    command: sh run.sh ${{inputs.data}}/a.txt ${{outputs.out}}/x
    code: src
    environment: {image: base, conda_file: conda.yml}
    inputs:
      data: ${{parent.inputs.data}}
    outputs:
      out:
  second:
    command: (cat ${{inputs.x}}/x; echo ${{inputs.rate}} $WORD) > ${{outputs.out}}/y
    environment: azureml:e@latest
    environment_variables: {WORD: w}
    inputs:
      x: ${{parent.jobs.first.outputs.out}}
      rate: ${{parent.inputs.rate}}
    outputs:
      out: ${{parent.outputs.end}}
  other:
    command: echo other > ${{outputs.out}}
    environment: azureml:e@latest
    outputs:
      out: {type: uri_file}
"""


@pytest.fixture
def file(job, tmp_path):
    for name, text in {
        "data/a.txt": "a",
        "src/run.sh": "cp $1 $2",
        "src/unused.txt": "1",
        "src/.amlignore": "*.log",
        "conda.yml": "dependencies: [python=3.11]",
    }.items():
        job(text, name)
    return job(PIPELINE)


def statuses(run):
    return {name: step.status for name, step in run.steps.items()}


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_second_run_takes_everything_from_the_cache(file, runner):
    first = runner.run(load_pipeline(file))
    second = runner.run(load_pipeline(file))
    assert set(statuses(first).values()) == {"ran"}
    assert set(statuses(second).values()) == {"cached"}
    assert (second.outputs["end"] / "y").read_text() == "a0.1 w\n"
    assert second.steps["first"].log.is_file()
    assert why(runner.cache, "first").reason.startswith("cached")


CHANGES = {
    "data": (lambda at: edit(at / "data" / "a.txt", "a", "b"), {}, {"first", "second"}, "first", "input data from"),
    "a new file in the data": (
        lambda at: (at / "data" / "n").write_text("n"),
        {},
        {"first"},
        "first",
        "input data from",
    ),
    "code": (
        lambda at: edit(at / "src" / "run.sh", "cp $1 $2", "tr a z < $1 > $2"),
        {},
        {"first", "second"},
        "first",
        "code: run.sh changed",
    ),
    "code that does not matter": (
        lambda at: edit(at / "src" / "unused.txt", "1", "2"),
        {},
        {"first"},
        "first",
        "code: unused.txt changed",
    ),
    "a parameter": (lambda at: None, {"rate": "0.2"}, {"second"}, "second", "parameter rate '0.1' -> '0.2'"),
    "the command": (
        lambda at: edit(at / "job.yml", "echo other", "echo again"),
        {},
        {"other"},
        "other",
        "command 'echo other > ${{outputs.out}}' -> 'echo again > ${{outputs.out}}'",
    ),
    "an environment variable": (
        lambda at: edit(at / "job.yml", "WORD: w", "WORD: v"),
        {},
        {"second"},
        "second",
        "environment variable WORD 'w' -> 'v'",
    ),
    "the environment": (lambda at: edit(at / "conda.yml", "3.11", "3.12"), {}, {"first"}, "first", "environment"),
    "what a step made": (
        lambda at: edit(at / "data" / "a.txt", "a", "c"),
        {},
        {"first", "second"},
        "second",
        "input x from first.out",
    ),
    "an ignored file": (lambda at: (at / "src" / "run.log").write_text("x"), {}, set(), "first", "cached"),
    "a touched file": (lambda at: os.utime(at / "data" / "a.txt"), {}, set(), "first", "cached"),
}


@pytest.mark.parametrize(("change", "given_", "ran", "step", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_change_runs_again_what_depends_on_it_and_why_names_it(
    file, runner, tmp_path, change, given_, ran, step, reason
):
    runner.run(load_pipeline(file))
    change(tmp_path)
    run = runner.run(load_pipeline(file), given_)
    assert {name for name, result in run.steps.items() if result.status == "ran"} == ran
    assert reason in why(runner.cache, step).reason


def test_a_changed_lock_runs_everything_again(file, tmp_path):
    LocalRunner(tmp_path / "cache", lock="1").run(load_pipeline(file))
    run = LocalRunner(tmp_path / "cache", lock="2").run(load_pipeline(file))
    assert set(statuses(run).values()) == {"ran"}
    assert [change.kind for change in why(tmp_path / "cache", "other").changes] == ["lock"]


def test_going_back_finds_the_old_entry(file, runner):
    runner.run(load_pipeline(file), {"rate": "0.1"})
    runner.run(load_pipeline(file), {"rate": "0.2"})
    assert set(statuses(runner.run(load_pipeline(file), {"rate": "0.1"})).values()) == {"cached"}


def test_the_same_data_elsewhere_is_the_same(file, runner, tmp_path):
    runner.run(load_pipeline(file))
    (tmp_path / "data").rename(tmp_path / "moved")
    assert set(statuses(runner.run(load_pipeline(file), {"data": str(tmp_path / "moved")})).values()) == {"cached"}


def test_forcing_runs_the_step_and_what_it_changed(file, runner):
    runner.run(load_pipeline(file))
    run = runner.run(load_pipeline(file), force=["first"])
    assert statuses(run) == {"first": "ran", "second": "cached", "other": "cached"}
    assert why(runner.cache, "first").reason == "it was forced to run"
    edit(file, "type: pipeline\n", "type: pipeline\nsettings: {force_rerun: true}\n")
    assert set(statuses(runner.run(load_pipeline(file))).values()) == {"ran"}


def damage_output(entry: Path) -> None:
    (entry / "outputs" / "out" / "x").write_text("z")


def cut_manifest(entry: Path) -> None:
    manifest = entry / "entry.json"
    manifest.write_bytes(manifest.read_bytes()[:40])


def other_manifest(entry: Path) -> None:
    manifest = entry / "entry.json"
    stored = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**stored, "key": "0" * 64}))


@pytest.mark.parametrize(
    "damage",
    [
        damage_output,
        cut_manifest,
        other_manifest,
        lambda entry: (entry / "entry.json").unlink(),
        lambda entry: (entry / "outputs" / "out" / "x").unlink(),
        lambda entry: (entry / "outputs" / "out" / "extra").write_text("1"),
    ],
)
def test_a_damaged_entry_is_made_again(file, runner, damage):
    run = runner.run(load_pipeline(file))
    damage(run.steps["first"].outputs["out"].parents[1])
    again = runner.run(load_pipeline(file))
    assert statuses(again) == {"first": "ran", "second": "cached", "other": "cached"}
    assert (again.steps["first"].outputs["out"] / "x").read_text() == "a"
    assert "removed or altered" in why(runner.cache, "first").reason
    assert set(statuses(runner.run(load_pipeline(file))).values()) == {"cached"}


def test_a_touched_output_still_counts(file, runner):
    run = runner.run(load_pipeline(file))
    os.utime(run.steps["first"].outputs["out"] / "x")
    assert statuses(runner.run(load_pipeline(file)))["first"] == "cached"


def test_two_runs_at_once_on_one_cache_both_end_well(file, tmp_path):
    edit(file, "sh run.sh", "sleep 0.3; sh run.sh")
    results, errors = [], []

    def one():
        try:
            results.append(LocalRunner(tmp_path / "cache").run(load_pipeline(file)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({run.steps["first"].outputs["out"] for run in results}) == 1
    assert [(run.outputs["end"] / "y").read_text() for run in results] == ["a0.1 w\n"] * 3
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []


def test_a_failed_step_is_not_cached_and_why_says_so(file, runner):
    edit(file, "echo other >", "exit 1; echo other >")
    with pytest.raises(StepFailedError):
        runner.run(load_pipeline(file))
    assert why(runner.cache, "other").reason == "first run of this step"
    with pytest.raises(StepFailedError):
        runner.run(load_pipeline(file))
    assert "in the run before it failed" in why(runner.cache, "other").reason


def test_why_needs_a_step_that_ran(file, runner, tmp_path):
    with pytest.raises(UnknownNameError) as caught:
        why(runner.cache, "first")
    assert "no pipeline has run yet" in caught.value.hint
    runner.run(load_pipeline(file))
    with pytest.raises(UnknownNameError) as caught:
        why(runner.cache, "frist")
    assert "did you mean 'first'" in caught.value.hint
    with pytest.raises(UnknownNameError, match="pipeline run 'jop'"):
        why(runner.cache, "first", pipeline="jop")
    assert why(runner.cache, "first", pipeline="job").reason == "first run of this step"


def test_why_compares_runs_of_one_file(file, runner, job):
    runner.run(load_pipeline(file))
    runner.run(load_pipeline(job(PIPELINE.replace("0.1", "0.5"), "copy.yml")))
    runner.run(load_pipeline(file), {"rate": "0.3"})
    assert why(runner.cache, "second").reason == "changed: parameter rate '0.1' -> '0.3'"
    assert why(runner.cache, "second", pipeline="copy").reason == "first run of this step"


def test_why_reads_well(file, runner):
    first = runner.run(load_pipeline(file))
    second = runner.run(load_pipeline(file), {"rate": "0.3"})
    assert str(why(runner.cache, "second")) == (
        f"second of job (ran in run {second.id}, compared with {first.id}): changed:\n  parameter rate '0.1' -> '0.3'"
    )


def test_a_step_of_stk_ml_depends_on_its_sources_and_others_do_not(job, tmp_path):
    def invoke(argv, env, cwd):
        Path(argv[-1], "x").write_text("1")
        return 0

    text = (
        "type: pipeline\njobs:\n  ours:\n    command: stk-ml x ${{outputs.o}}\n    environment: azureml:e@latest\n"
        "    outputs: {o: }\n  theirs:\n    command: touch ${{outputs.o}}/x\n    environment: azureml:e@latest\n"
        "    outputs: {o: }\n"
    )
    run = LocalRunner(tmp_path / "cache", invoke=invoke).run(load_pipeline(job(text)))
    assert "orchestration/cache.py" in run.steps["ours"].parts.program
    assert run.steps["theirs"].parts.program == {}


texts = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
parts = st.builds(KeyParts, st.text(max_size=9), texts, texts, texts, texts, st.text(max_size=5), texts, texts, texts)


@given(parts, parts)
def test_keys_are_equal_exactly_when_the_parts_are(one, two):
    same = KeyParts(**{**vars(one), "sources": {}}) == KeyParts(**{**vars(two), "sources": {}})
    assert (key_of(one) == key_of(two)) == same
    assert key_of(one) == key_of(KeyParts(**{**vars(one), "sources": {"else": "where"}}))


def test_a_cached_run_of_seven_steps_takes_well_under_a_third_of_a_second(job, tmp_path):
    chain = "".join(
        f"  s{i}:\n    command: cp ${{{{inputs.x}}}}/* ${{{{outputs.o}}}}\n    environment: azureml:e@latest\n"
        f"    inputs: {{x: '{'${{parent.inputs.data}}' if i == 0 else f'${{{{parent.jobs.s{i - 1}.outputs.o}}}}'}'}}\n"
        "    outputs: {o: }\n"
        for i in range(7)
    )
    (tmp_path / "data").mkdir()
    for i in range(50):
        (tmp_path / "data" / f"{i}.bin").write_bytes(bytes([i]) * 10_000)
    file = job(f"type: pipeline\ninputs: {{data: {{type: uri_folder, path: data}}}}\njobs:\n{chain}")
    runner = LocalRunner(tmp_path / "cache")
    runner.run(load_pipeline(file))
    seconds = []
    for _ in range(3):
        since = time.perf_counter()
        run = runner.run(load_pipeline(file))
        seconds.append(time.perf_counter() - since)
        assert set(statuses(run).values()) == {"cached"}
    assert min(seconds) < 0.3
