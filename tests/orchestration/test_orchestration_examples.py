"""Pipelines in the style of Microsoft's examples, that know nothing of stk-ml, run end to end."""

from __future__ import annotations

import json

from stk_ml.orchestration.local import LocalRunner
from stk_ml.orchestration.parse import load_pipeline


def test_iris_prepares_trains_and_scores_with_scikit_learn(example, runner):
    run = runner.run(load_pipeline(example("iris")), {"test_share": "0.25"})
    assert {name: step.status for name, step in run.steps.items()} == {
        "prep_job": "ran",
        "train_job": "ran",
        "score_job": "ran",
    }
    report = json.loads((run.outputs["score_report"] / "report.json").read_text())
    assert report["rows"] == 30
    assert report["accuracy"] > 0.85
    assert (run.outputs["trained_model"] / "MLmodel").is_file()
    assert run.steps["prep_job"].log.read_text() == "120 rows\n"


def test_the_branches_of_a_diamond_run_side_by_side(example, runner):
    run = runner.run(load_pipeline(example("diamond")))
    assert run.outputs["merged"].read_text().split() == ["APPLE", "IVY", "ORANGE", "2"]
    times = {
        name: [float((run.steps[name].outputs["out"] / f"{at}.txt").read_text()) for at in ("begin", "end")]
        for name in ("upper", "count")
    }
    assert max(begin for begin, _ in times.values()) < min(end for _, end in times.values())


def test_a_shell_pipeline_with_variables_groups_defaults_and_a_datastore(example, tmp_path):
    folder = tmp_path / "blob store's" / "settings" / "shell"
    folder.mkdir(parents=True)
    (folder / "name.txt").write_text("Ada")
    runner = LocalRunner(tmp_path / "cache", datastores={"workspaceblobstore": str(tmp_path / "blob store's")})
    pipeline = load_pipeline(example("shell"))
    assert runner.run(pipeline, {"times": "2"}).outputs["letter"].read_text().splitlines() == [
        "hello_from_step hello 1 loud=True sep=-",
        "hello_from_step hello 2 loud=True sep=-",
        "signed by Ada",
    ]
    run = runner.run(pipeline, {"times": "1", "suffix": "!", "loud": "false"})
    assert run.outputs["letter"].read_text().splitlines() == [
        "hello_from_step hello 1 loud=False sep=- suffix=!",
        "signed by Ada",
    ]


def test_a_chain_with_a_table_a_custom_model_and_a_step_that_is_never_cached(example, runner):
    pipeline = load_pipeline(example("taxi"))
    first = runner.run(pipeline)
    winner = json.loads((first.outputs["verdict"] / "winner.json").read_text())
    assert winner["kind"] == "ridge"
    assert winner["alpha"] is None
    assert winner["r2"] > 0.9
    second = runner.run(pipeline)
    assert {name: step.status for name, step in second.steps.items()} == {
        "transform_job": "cached",
        "train_job": "cached",
        "stamp_job": "ran",
        "compare_job": "cached",
    }
